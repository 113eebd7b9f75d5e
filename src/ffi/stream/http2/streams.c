
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

/* Frames that are no stream's, written one buffer at a time. */

typedef struct {
    ngx_http_v2_out_frame_t    frame;
    ngx_chain_t                link;
    ngx_buf_t                  buf;
    ngx_event_t                event;
    ngx_uint_t                 busy;
} proxy_connect_writer_t;


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

typedef int proxy_connect_no_http2_streams_t;

#endif
