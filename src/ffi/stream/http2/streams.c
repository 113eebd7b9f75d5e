
/*
 * Owns the frames of ours in the queue of a connection of HTTP/2, which are no
 * stream's to nginx, and what the tunnels of a connection ask of its structure.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


#if (NGX_HTTP_V2)

#if (nginx_version < 1025001)
#include <ngx_http_v2_module.h>
#endif

/*
 * What is written past nginx's frames of streams: to the connection itself
 * where nothing waits there, else as a frame that is no stream's, one at a
 * time. "refill" gives the bytes that follow those of the frame.
 */

typedef size_t (*proxy_connect_refill_pt)(void *data, u_char **bytes);

typedef struct {
    ngx_http_v2_out_frame_t    frame;
    ngx_chain_t                link;
    ngx_buf_t                  buf;
    ngx_event_t                event;
    ngx_connection_t          *connection;
    proxy_connect_refill_pt    refill;
    ngx_uint_t                 busy;
} proxy_connect_writer_t;


/* src/ffi/socket/records.c */
void proxy_connect_collect_records(ngx_connection_t *c);
ssize_t proxy_connect_send_together(ngx_connection_t *c, u_char *buf,
    size_t size, size_t record);

void proxy_connect_h2_count(ngx_connection_t *c, size_t all, size_t payload);
proxy_connect_writer_t *proxy_connect_h2_writer(ngx_connection_t *c,
    ngx_event_handler_pt handler, proxy_connect_refill_pt refill);
ngx_uint_t proxy_connect_h2_is_busy(proxy_connect_writer_t *writer);
ngx_uint_t proxy_connect_h2_is_open(proxy_connect_writer_t *writer);
ngx_uint_t proxy_connect_h2_clear(proxy_connect_writer_t *writer);
ngx_uint_t proxy_connect_h2_is_idle(proxy_connect_writer_t *writer);
void proxy_connect_h2_post(proxy_connect_writer_t *writer, void *data);
void proxy_connect_h2_forget(proxy_connect_writer_t *writer);
void proxy_connect_h2_untime(proxy_connect_writer_t *writer);
void proxy_connect_h2_fail(proxy_connect_writer_t *writer, void *data);
size_t proxy_connect_h2_write(proxy_connect_writer_t *writer, u_char *bytes,
    size_t len);
void proxy_connect_h2_queue(proxy_connect_writer_t *writer, void *data,
    u_char *bytes, size_t len);


static void proxy_connect_h2_fill(proxy_connect_writer_t *writer,
    u_char *bytes, size_t len);
static ngx_int_t proxy_connect_h2_written(ngx_http_v2_connection_t *h2c,
    ngx_http_v2_out_frame_t *frame);


/* Counts bytes that nginx has not seen for its flood check. */

void
proxy_connect_h2_count(ngx_connection_t *c, size_t all, size_t payload)
{
    ngx_http_v2_connection_t  *h2c;

    h2c = c->data;

    h2c->total_bytes += all;
    h2c->payload_bytes += payload;
}


proxy_connect_writer_t *
proxy_connect_h2_writer(ngx_connection_t *c, ngx_event_handler_pt handler,
    proxy_connect_refill_pt refill)
{
    proxy_connect_writer_t  *writer;

    writer = ngx_pcalloc(c->pool, sizeof(proxy_connect_writer_t));
    if (writer == NULL) {
        return NULL;
    }

    writer->event.handler = handler;
    writer->event.log = c->log;
    writer->connection = c;
    writer->refill = refill;

#if (NGX_HTTP_SSL)

    /* what a write leaves is written again from another place */

    if (c->ssl) {
        SSL_set_mode(c->ssl->connection, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        proxy_connect_collect_records(c);
    }

#endif

    return writer;
}


/* Whether a frame of ours waits to be sent. */

ngx_uint_t
proxy_connect_h2_is_busy(proxy_connect_writer_t *writer)
{
    return writer->busy;
}


/* Whether bytes can be written to the connection, as nothing waits there. */

ngx_uint_t
proxy_connect_h2_is_open(proxy_connect_writer_t *writer)
{
    ngx_connection_t          *c;
    ngx_http_v2_connection_t  *h2c;

    c = writer->connection;
    h2c = c->data;

    return !writer->busy && h2c->last_out == NULL && !c->buffered
           && c->write->ready && !c->error && h2c->pool;
}


/*
 * The same, once nginx has sent what it can. A frame that was filled again
 * while the socket took all is sent by nobody else.
 */

ngx_uint_t
proxy_connect_h2_clear(proxy_connect_writer_t *writer)
{
    ngx_connection_t          *c;
    ngx_http_v2_connection_t  *h2c;

    c = writer->connection;
    h2c = c->data;

    if ((h2c->last_out || c->buffered) && c->write->ready && !c->error
        && h2c->pool)
    {
        (void) ngx_http_v2_send_output_queue(h2c);
    }

    return proxy_connect_h2_is_open(writer);
}


/* Whether nginx has put the connection aside until the client says more. */

ngx_uint_t
proxy_connect_h2_is_idle(proxy_connect_writer_t *writer)
{
    ngx_http_v2_connection_t  *h2c;

    h2c = writer->connection->data;

    return h2c->pool == NULL;
}


/* Has the handler called with an event of these data. */

void
proxy_connect_h2_post(proxy_connect_writer_t *writer, void *data)
{
    writer->event.data = data;

    ngx_post_event(&writer->event, &ngx_posted_events);
}


void
proxy_connect_h2_forget(proxy_connect_writer_t *writer)
{
    if (writer->event.posted) {
        ngx_delete_posted_event(&writer->event);
    }
}


/* A client that takes nothing is the tunnels' affair, if all is theirs. */

void
proxy_connect_h2_untime(proxy_connect_writer_t *writer)
{
    ngx_event_t               *wev;
    ngx_http_v2_connection_t  *h2c;

    wev = writer->connection->write;
    h2c = writer->connection->data;

    if (writer->busy && h2c->last_out == &writer->frame
        && writer->frame.next == NULL && wev->timer_set)
    {
        ngx_del_timer(wev);
    }
}


/*
 * Writes bytes to a connection that is open, and returns how many it has taken.
 * The others have to be queued.
 */

size_t
proxy_connect_h2_write(proxy_connect_writer_t *writer, u_char *bytes,
    size_t len)
{
    size_t             limit, sent;
    ssize_t            n;
    ngx_uint_t         cork;
    ngx_connection_t  *c;

    c = writer->connection;
    limit = len;
    sent = 0;

#if (NGX_HTTP_SSL)

    /*
     * What OpenSSL has begun to write must be given to it again, at the least
     * as many bytes, and nginx gives a buffer of this size.
     */

    if (c->ssl) {
        limit = ngx_min(c->ssl->buffer_size, 16384);

        n = proxy_connect_send_together(c, bytes, len, limit);

        if (n == NGX_ERROR) {
            c->error = 1;

        } else {
            sent = n;
        }
    }

#endif

    /* records that are written together are sent so */

    cork = c->write->ready && limit < len - sent
           && ngx_tcp_nopush(c->fd) == 0;

    while (sent < len && c->write->ready && !c->error) {

        n = c->send(c, bytes + sent, ngx_min(limit, len - sent));

        if (n == NGX_ERROR) {
            c->error = 1;
            break;
        }

        if (n <= 0) {
            break;
        }

        sent += n;
    }

    if (cork) {
        (void) ngx_tcp_push(c->fd);
    }

    if (!c->write->ready && ngx_handle_write_event(c->write, 0) != NGX_OK) {
        c->error = 1;
    }

    return sent;
}


/*
 * Puts a frame into nginx's queue, behind all that is there. The bytes must
 * stay until the writer is not busy any more. Without bytes it is told when
 * all is sent that is there now.
 */

void
proxy_connect_h2_queue(proxy_connect_writer_t *writer, void *data,
    u_char *bytes, size_t len)
{
    ngx_connection_t          *c;
    ngx_http_v2_connection_t  *h2c;

    c = writer->connection;
    h2c = c->data;

    ngx_memzero(&writer->frame, sizeof(ngx_http_v2_out_frame_t));

    proxy_connect_h2_fill(writer, bytes, len);

    writer->frame.first = &writer->link;
    writer->frame.last = &writer->link;
    writer->frame.handler = proxy_connect_h2_written;

    /* it may be what is left of one that was written in part */

    writer->frame.blocked = 1;

    writer->busy = 1;
    writer->event.data = data;

    ngx_http_v2_queue_ordered_frame(h2c, &writer->frame);

    /* nginx sends by itself at the end of what it does now */

    if (c->error) {
        if (!h2c->blocked) {
            ngx_post_event(c->write, &ngx_posted_events);
        }

    } else if (!h2c->blocked && c->write->ready) {
        (void) ngx_http_v2_send_output_queue(h2c);
    }
}


/* Has nginx close the connection: bytes of it are lost. */

void
proxy_connect_h2_fail(proxy_connect_writer_t *writer, void *data)
{
    writer->connection->error = 1;

    if (writer->busy) {
        ngx_post_event(writer->connection->write, &ngx_posted_events);
        return;
    }

    proxy_connect_h2_queue(writer, data, NULL, 0);
}


static void
proxy_connect_h2_fill(proxy_connect_writer_t *writer, u_char *bytes, size_t len)
{
    ngx_memzero(&writer->buf, sizeof(ngx_buf_t));

    writer->buf.start = bytes;
    writer->buf.pos = bytes;
    writer->buf.last = bytes + len;
    writer->buf.end = writer->buf.last;
    writer->buf.memory = (len > 0);
    writer->buf.flush = 1;

    writer->link.buf = &writer->buf;
    writer->link.next = NULL;

    writer->frame.length = len;
}


static ngx_int_t
proxy_connect_h2_written(ngx_http_v2_connection_t *h2c,
    ngx_http_v2_out_frame_t *frame)
{
    size_t                   len;
    u_char                  *bytes;
    proxy_connect_writer_t  *writer;

    writer = (proxy_connect_writer_t *) frame;

    /* the queue is being walked through */

    ngx_post_event(&writer->event, &ngx_posted_events);

    if (frame->first->buf->pos != frame->first->buf->last) {
        return NGX_AGAIN;
    }

    /*
     * Of frames behind this one some bytes may be sent already, so that nothing
     * may come before them; and nginx would go on writing an empty one for ever.
     */

    if (frame->next == NULL) {
        len = writer->refill(writer->event.data, &bytes);

        if (len) {
            proxy_connect_h2_fill(writer, bytes, len);
            return NGX_AGAIN;
        }
    }

    writer->busy = 0;

    return NGX_OK;
}

#else

typedef int proxy_connect_no_http2_streams_t;

#endif
