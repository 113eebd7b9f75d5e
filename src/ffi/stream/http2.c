
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


ngx_uint_t proxy_connect_h2_is_offered(ngx_http_conf_addr_t *addr);
ngx_uint_t proxy_connect_h2_is_on(ngx_http_connection_t *hc);
ngx_uint_t proxy_connect_h2_is_alone(ngx_http_connection_t *hc);
void proxy_connect_h2_keep_server(ngx_http_request_t *r);
ngx_uint_t proxy_connect_h2_id(ngx_http_request_t *r);
ngx_connection_t *proxy_connect_h2_connection(ngx_http_request_t *r);
ngx_uint_t proxy_connect_h2_queued(ngx_http_request_t *r);
size_t proxy_connect_h2_room(ngx_http_request_t *r);
void proxy_connect_h2_leave(ngx_http_request_t *r);
ngx_uint_t proxy_connect_h2_is_hasty(ngx_http_request_t *r);
ngx_uint_t proxy_connect_h2_resizes(ngx_http_request_t *r);
void proxy_connect_h2_answered(ngx_http_request_t *r, size_t len);
void proxy_connect_h2_sent(ngx_http_request_t *r, size_t len, size_t frames);
void proxy_connect_h2_ended(ngx_http_request_t *r);
void proxy_connect_h2_note_end(ngx_http_request_t *r, ngx_uint_t has_ended);
void proxy_connect_h2_closed(ngx_http_request_t *r);
size_t proxy_connect_h2_window(ngx_http_request_t *r);
ngx_msec_t proxy_connect_h2_begin_wait(ngx_connection_t *c);
void proxy_connect_h2_end_wait(ngx_connection_t *c);


/* Whether any connection to an address may be one of HTTP/2. */

ngx_uint_t
proxy_connect_h2_is_offered(ngx_http_conf_addr_t *addr)
{
#if (nginx_version >= 1025001)
    ngx_uint_t                   i;
    ngx_http_v2_srv_conf_t      *h2scf;
    ngx_http_core_srv_conf_t   **cscfp;

    cscfp = addr->servers.elts;

    for (i = 0; i < addr->servers.nelts; i++) {
        h2scf = cscfp[i]->ctx->srv_conf[ngx_http_v2_module.ctx_index];

        if (h2scf->enable) {
            return 1;
        }
    }
#endif

    return addr->opt.http2;
}


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


/* Whether frames of nginx's wait, which those of ours must not overtake. */

ngx_uint_t
proxy_connect_h2_queued(ngx_http_request_t *r)
{
    return r->stream->queued;
}


/*
 * How much the client's windows have room for. Where that is nothing, nginx
 * calls the stream writable once it is something.
 */

size_t
proxy_connect_h2_room(ngx_http_request_t *r)
{
    ngx_http_v2_stream_t      *stream;
    ngx_http_v2_connection_t  *h2c;

    stream = r->stream;
    h2c = stream->connection;

    if (stream->send_window <= 0) {
        stream->exhausted = 1;
        return 0;
    }

    if (h2c->send_window == 0) {

        if (!stream->waiting) {
            stream->waiting = 1;
            ngx_queue_insert_tail(&h2c->waiting, &stream->queue);
        }

        return 0;
    }

    return ngx_min((size_t) stream->send_window, h2c->send_window);
}


/* Has the stream wait no more; nginx does so for answers of its own only. */

void
proxy_connect_h2_leave(ngx_http_request_t *r)
{
    ngx_http_v2_stream_t  *stream;

    stream = r->stream;

    if (stream->waiting) {
        stream->waiting = 0;
        ngx_queue_remove(&stream->queue);
    }
}


/*
 * Whether what gathers has to go out before the stream is closed: nginx sends
 * a frame to end it, or puts the connection aside behind the last stream.
 */

ngx_uint_t
proxy_connect_h2_is_hasty(ngx_http_request_t *r)
{
    ngx_http_v2_stream_t  *stream;

    stream = r->stream;

    if (stream->connection->processing <= 1) {
        return 1;
    }

    return !stream->rst_sent && !(stream->in_closed && stream->out_closed);
}


/*
 * Whether the client is still to be told that no table is used. It may be
 * told twice: nginx's next block may go out before ours.
 */

ngx_uint_t
proxy_connect_h2_resizes(ngx_http_request_t *r)
{
    return r->stream->connection->table_update;
}


/* Counts the bytes of an answer that goes out in frames of ours. */

void
proxy_connect_h2_answered(ngx_http_request_t *r, size_t len)
{
    r->connection->sent += len;
    r->header_size = len;

    r->stream->connection->total_bytes += len;
}


/* Counts bytes of DATA that go out in frames of ours. */

void
proxy_connect_h2_sent(ngx_http_request_t *r, size_t len, size_t frames)
{
    size_t                     headers;
    ngx_http_v2_stream_t      *stream;
    ngx_http_v2_connection_t  *h2c;

    stream = r->stream;
    h2c = stream->connection;
    headers = frames * NGX_HTTP_V2_FRAME_HEADER_SIZE;

    stream->send_window -= len;
    h2c->send_window -= len;

    r->connection->sent += headers + len;
    r->header_size += headers;

    h2c->total_bytes += headers + len;
    h2c->payload_bytes += len;
}


/* The last frame of the stream is one of ours. */

void
proxy_connect_h2_ended(ngx_http_request_t *r)
{
    proxy_connect_h2_sent(r, 0, 1);

    r->stream->out_closed = 1;
}


/*
 * Whether the client has ended the stream, which nginx was shown as ended.  A
 * client that has not is told by nginx that it need not go on, when the stream
 * is closed.
 */

void
proxy_connect_h2_note_end(ngx_http_request_t *r, ngx_uint_t has_ended)
{
    r->stream->in_closed = has_ended;
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


/*
 * How long a field block may take to come, in milliseconds, while nobody else
 * waits for it: nginx stops the connection's timer when a stream begins.
 */

ngx_msec_t
proxy_connect_h2_begin_wait(ngx_connection_t *c)
{
    ngx_http_v2_connection_t  *h2c;
    ngx_http_core_srv_conf_t  *cscf;

    h2c = c->data;

    cscf = ngx_http_get_module_srv_conf(h2c->http_connection->conf_ctx,
                                        ngx_http_core_module);

    /* where it is not set, it sets one that may be shorter */

    if (c->read->timer_set && !h2c->goaway) {
        ngx_add_timer(c->read, cscf->client_header_timeout + 1000);
    }

    return cscf->client_header_timeout;
}


/* The block has not come; it is as if none had begun. */

void
proxy_connect_h2_end_wait(ngx_connection_t *c)
{
    ngx_http_v2_connection_t  *h2c;

    h2c = c->data;

    if (c->read->timer_set && !h2c->goaway) {
        ngx_del_timer(c->read);
    }

    ngx_post_event(c->read, &ngx_posted_events);
}


#else

typedef int proxy_connect_no_http2_t;

#endif
