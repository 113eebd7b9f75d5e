
/*
 * Owns what the end of a stream of HTTP/2 asks of nginx's structures. Their
 * fields are of this very nginx, some are bit fields, and the functions that
 * put a frame into a queue are inline.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


#if (NGX_HTTP_V2)

#if (nginx_version < 1025001)
#include <ngx_http_v2_module.h>
#endif

/* Frames that are no stream's, written one buffer at a time. */

typedef struct {
    ngx_http_v2_out_frame_t    frame;
    ngx_chain_t                link;
    ngx_buf_t                  buf;
    ngx_event_t                event;
    ngx_uint_t                 busy;
} proxy_connect_writer_t;


ngx_uint_t proxy_connect_h2_is_on(ngx_http_connection_t *hc);
ngx_uint_t proxy_connect_h2_is_alone(ngx_http_connection_t *hc);
void proxy_connect_h2_keep_server(ngx_http_request_t *r);
ngx_uint_t proxy_connect_h2_id(ngx_http_request_t *r);
ngx_connection_t *proxy_connect_h2_connection(ngx_http_request_t *r);
ngx_uint_t proxy_connect_h2_queued(ngx_http_request_t *r);
size_t proxy_connect_h2_room(ngx_http_request_t *r);
ngx_int_t proxy_connect_h2_send(ngx_http_request_t *r, ngx_chain_t *link,
    ngx_buf_t *buf, u_char *bytes, size_t len, ngx_uint_t last);
void proxy_connect_h2_flush(ngx_http_request_t *r);
void proxy_connect_h2_closed(ngx_http_request_t *r);
size_t proxy_connect_h2_window(ngx_http_request_t *r);
void proxy_connect_h2_count(ngx_connection_t *c, size_t all, size_t payload);
proxy_connect_writer_t *proxy_connect_h2_writer(ngx_connection_t *c,
    ngx_event_handler_pt handler);
ngx_uint_t proxy_connect_h2_is_busy(proxy_connect_writer_t *writer);
void proxy_connect_h2_post(proxy_connect_writer_t *writer, void *data);
void proxy_connect_h2_forget(proxy_connect_writer_t *writer);
ngx_uint_t proxy_connect_h2_write(proxy_connect_writer_t *writer, void *data,
    ngx_connection_t *c, u_char *bytes, size_t len);


static ngx_int_t proxy_connect_h2_written(ngx_http_v2_connection_t *h2c,
    ngx_http_v2_out_frame_t *frame);


/* Whether a connection in cleartext may be one of HTTP/2. */

ngx_uint_t
proxy_connect_h2_is_on(ngx_http_connection_t *hc)
{
#if (nginx_version >= 1025001)
    ngx_http_v2_srv_conf_t  *h2scf;

    h2scf = ngx_http_get_module_srv_conf(hc->conf_ctx, ngx_http_v2_module);

    return h2scf->enable || hc->addr_conf->http2;
#else
    return hc->addr_conf->http2;
#endif
}


/* Whether it can't be another one. */

ngx_uint_t
proxy_connect_h2_is_alone(ngx_http_connection_t *hc)
{
#if (nginx_version >= 1025001)
    return 0;
#else
    return hc->addr_conf->http2;
#endif
}


/* Has a request have the server of its connection, whatever its authority. */

void
proxy_connect_h2_keep_server(ngx_http_request_t *r)
{
    ngx_http_connection_t     *hc;
    ngx_http_core_loc_conf_t  *clcf;

    hc = r->http_connection;

    r->srv_conf = hc->conf_ctx->srv_conf;
    r->loc_conf = hc->conf_ctx->loc_conf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    ngx_set_connection_log(r->connection, clcf->error_log);
}


ngx_uint_t
proxy_connect_h2_id(ngx_http_request_t *r)
{
    return r->stream ? r->stream->node->id : 0;
}


/* The connection that all streams share. */

ngx_connection_t *
proxy_connect_h2_connection(ngx_http_request_t *r)
{
    return r->stream->connection->connection;
}


ngx_uint_t
proxy_connect_h2_queued(ngx_http_request_t *r)
{
    return r->stream->queued;
}


/* How much the client's windows have room for. */

size_t
proxy_connect_h2_room(ngx_http_request_t *r)
{
    ngx_http_v2_stream_t  *stream;

    stream = r->stream;

    if (stream->send_window <= 0) {
        return 0;
    }

    return ngx_min((size_t) stream->send_window,
                   stream->connection->send_window);
}


/*
 * Has nginx send "len" bytes, which must stay until nothing is queued, and have
 * room; or wait for room, where there is none. The last ones end the stream.
 */

ngx_int_t
proxy_connect_h2_send(ngx_http_request_t *r, ngx_chain_t *link, ngx_buf_t *buf,
    u_char *bytes, size_t len, ngx_uint_t last)
{
    ngx_connection_t  *fc;

    fc = r->connection;

    ngx_memzero(buf, sizeof(ngx_buf_t));

    buf->start = bytes;
    buf->pos = bytes;
    buf->last = bytes + len;
    buf->end = buf->last;
    buf->memory = (len > 0);
    buf->last_buf = last;

    link->buf = buf;
    link->next = NULL;

    if (fc->send_chain(fc, link, 0) == NGX_CHAIN_ERROR) {
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* Sends what TLS keeps back of frames that nothing follows yet. */

void
proxy_connect_h2_flush(ngx_http_request_t *r)
{
    ngx_http_v2_connection_t  *h2c;

    h2c = r->stream->connection;

    if (h2c->last_out == NULL) {
        (void) ngx_http_v2_send_output_queue(h2c);
    }
}


/* The client was told of the end by a frame of ours. */

void
proxy_connect_h2_closed(ngx_http_request_t *r)
{
    r->stream->in_closed = 1;
    r->stream->out_closed = 1;
    r->stream->rst_sent = 1;
}


/* What the settings say of the window of each stream. */

size_t
proxy_connect_h2_window(ngx_http_request_t *r)
{
    ngx_http_v2_srv_conf_t  *h2scf;

    h2scf = ngx_http_get_module_srv_conf(
                              r->stream->connection->http_connection->conf_ctx,
                              ngx_http_v2_module);

    return h2scf->preread_size;
}


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
proxy_connect_h2_writer(ngx_connection_t *c, ngx_event_handler_pt handler)
{
    proxy_connect_writer_t  *writer;

    writer = ngx_pcalloc(c->pool, sizeof(proxy_connect_writer_t));
    if (writer == NULL) {
        return NULL;
    }

    writer->event.handler = handler;
    writer->event.log = c->log;

    return writer;
}


ngx_uint_t
proxy_connect_h2_is_busy(proxy_connect_writer_t *writer)
{
    return writer->busy;
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


/*
 * Writes frames, whose bytes must stay until the writer is not busy any more.
 * A connection that is idle has nobody whom they concern, and no pool.
 */

ngx_uint_t
proxy_connect_h2_write(proxy_connect_writer_t *writer, void *data,
    ngx_connection_t *c, u_char *bytes, size_t len)
{
    ngx_http_v2_connection_t  *h2c;

    h2c = c->data;

    if (writer->busy || h2c->pool == NULL || c->error) {
        return 0;
    }

    ngx_memzero(&writer->frame, sizeof(ngx_http_v2_out_frame_t));
    ngx_memzero(&writer->buf, sizeof(ngx_buf_t));

    writer->buf.start = bytes;
    writer->buf.pos = bytes;
    writer->buf.last = bytes + len;
    writer->buf.end = writer->buf.last;
    writer->buf.memory = 1;
    writer->buf.flush = 1;

    writer->link.buf = &writer->buf;
    writer->link.next = NULL;

    writer->frame.first = &writer->link;
    writer->frame.last = &writer->link;
    writer->frame.handler = proxy_connect_h2_written;
    writer->frame.length = len;

    writer->busy = 1;
    writer->event.data = data;

    ngx_http_v2_queue_blocked_frame(h2c, &writer->frame);

    /* nginx sends by itself at the end of what it does now */

    if (!h2c->blocked) {
        (void) ngx_http_v2_send_output_queue(h2c);
    }

    return 1;
}


static ngx_int_t
proxy_connect_h2_written(ngx_http_v2_connection_t *h2c,
    ngx_http_v2_out_frame_t *frame)
{
    proxy_connect_writer_t  *writer;

    if (frame->first->buf->pos != frame->first->buf->last) {
        return NGX_AGAIN;
    }

    writer = (proxy_connect_writer_t *) frame;
    writer->busy = 0;

    /* the queue is being walked through */

    ngx_post_event(&writer->event, &ngx_posted_events);

    return NGX_OK;
}

#else

typedef int proxy_connect_no_http2_t;

#endif
