
/*
 * Owns what of OpenSSL, and of nginx's part of it, bindgen can't reach: options
 * that are macros, and what is one in some versions.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_http.h>
#include <nginx.h>


void proxy_connect_forgive_eof(ngx_connection_t *c);
ngx_int_t proxy_connect_refusal_of_client(ngx_http_request_t *r);
ngx_uint_t proxy_connect_awaits_finished(ngx_connection_t *c);
ssize_t proxy_connect_recv_early(ngx_connection_t *c, u_char *buf, size_t size);

#if (NGX_SSL && nginx_version >= 1015004)
static void proxy_connect_log_handshake(ngx_connection_t *c);
#endif


/*
 * OpenSSL 3 takes an end of file without a close_notify for an error.  nginx
 * asks it not to since 1.21.2; older ones take such an end for a reset.
 */

void
proxy_connect_forgive_eof(ngx_connection_t *c)
{
#if (NGX_SSL)
#ifdef SSL_OP_IGNORE_UNEXPECTED_EOF

    if (c->ssl) {
        SSL_set_options(c->ssl->connection, SSL_OP_IGNORE_UNEXPECTED_EOF);
    }

#endif
#endif
}


/*
 * Whether the client's Finished is still due.  nginx takes a request for one
 * of a connection that stands, when it came in early data (since 1.15.3).
 * Their end proves nothing, it can be sent again as they can.
 */

ngx_uint_t
proxy_connect_awaits_finished(ngx_connection_t *c)
{
#if (NGX_SSL && nginx_version >= 1015003)
    return c->ssl && !SSL_is_init_finished(c->ssl->connection);
#else
    return 0;
#endif
}


/*
 * c->recv() while the client's Finished is due; a byte must stand before buf.
 *
 * OpenSSL says that early data have ended even if it has found a wrong Finished
 * behind them, and leaves the error in its queue.  nginx writes an alert about
 * what it finds there when it reads on, which it does at once where it has read
 * nothing: so it gets back the last byte that it has read.
 */

ssize_t
proxy_connect_recv_early(ngx_connection_t *c, u_char *buf, size_t size)
{
#if (NGX_SSL && nginx_version >= 1015004)
    ssize_t  n;

    proxy_connect_log_handshake(c);

    while (c->ssl && c->ssl->in_early) {

        c->ssl->early_buf = buf[-1];
        c->ssl->early_preread = 1;

        n = c->recv(c, buf - 1, size + 1);

        proxy_connect_log_handshake(c);

        if (n != 1) {
            return (n > 1) ? n - 1 : n;
        }

        if (!c->read->ready) {
            return NGX_AGAIN;
        }
    }
#endif

    return c->recv(c, buf, size);
}


#if (NGX_SSL && nginx_version >= 1015004)

static void
proxy_connect_log_handshake(ngx_connection_t *c)
{
    if (ERR_peek_error()) {
        ngx_ssl_error(NGX_LOG_INFO, c->log, 0, "SSL_do_handshake() failed");
    }
}

#endif


/*
 * A core that asks for a client's certificate where it looks for a location
 * does not ask for one where it looks for none: the status of a refusal, as
 * ngx_http_process_request() has it, or 0.
 */

ngx_int_t
proxy_connect_refusal_of_client(ngx_http_request_t *r)
{
#if (NGX_HTTP_SSL)
    long                      rc;
    SSL_SESSION              *session;
    ngx_connection_t         *c;
    ngx_http_ssl_srv_conf_t  *sscf;

    c = r->connection;

    if (!r->http_connection->ssl) {
        return 0;
    }

    if (c->ssl == NULL) {
        ngx_log_error(NGX_LOG_INFO, c->log, 0,
                      "client sent plain HTTP request to HTTPS port");
        return NGX_HTTP_TO_HTTPS;
    }

    sscf = ngx_http_get_module_srv_conf(r, ngx_http_ssl_module);

    if (!sscf->verify) {
        return 0;
    }

    rc = SSL_get_verify_result(c->ssl->connection);

    if (rc != X509_V_OK
        && (sscf->verify != 3 || !ngx_ssl_verify_error_optional(rc)))
    {
        ngx_log_error(NGX_LOG_INFO, c->log, 0,
                      "client SSL certificate verify error: (%l:%s)",
                      rc, X509_verify_cert_error_string(rc));
        return NGX_HTTPS_CERT_ERROR;
    }

    if (sscf->verify == 1) {

        /*
         * SSL_get_peer_certificate() has another name since OpenSSL 3; this
         * looks at the same, so that one file is for both.
         */

        session = SSL_get_session(c->ssl->connection);

        if (session == NULL || SSL_SESSION_get0_peer(session) == NULL) {
            ngx_log_error(NGX_LOG_INFO, c->log, 0,
                          "client sent no required SSL certificate");
            return NGX_HTTPS_NO_CERT;
        }
    }
#endif

    return 0;
}
