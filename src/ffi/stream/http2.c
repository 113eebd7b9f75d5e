
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

ngx_uint_t proxy_connect_h2_id(ngx_http_request_t *r);
ngx_connection_t *proxy_connect_h2_connection(ngx_http_request_t *r);
ngx_uint_t proxy_connect_h2_queued(ngx_http_request_t *r);
size_t proxy_connect_h2_room(ngx_http_request_t *r);
ngx_int_t proxy_connect_h2_send(ngx_http_request_t *r, ngx_chain_t *link,
    ngx_buf_t *buf, u_char *bytes, size_t len, ngx_uint_t last);
void proxy_connect_h2_flush(ngx_http_request_t *r);
void proxy_connect_h2_closed(ngx_http_request_t *r);
size_t proxy_connect_h2_window(ngx_http_request_t *r);


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


#else

typedef int proxy_connect_no_http2_t;

#endif
