
/*
 * Owns what of OpenSSL, and of nginx's part of it, bindgen can't reach: options
 * that are macros, fields that not every version has.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <nginx.h>


void proxy_connect_forgive_eof(ngx_connection_t *c);
ngx_uint_t proxy_connect_in_early_data(ngx_connection_t *c);


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
 * Whether nginx reads early data, which came with 1.15.3: until it has found
 * the end of them itself, OpenSSL must not be asked by another function.
 */

ngx_uint_t
proxy_connect_in_early_data(ngx_connection_t *c)
{
#if (NGX_SSL && nginx_version >= 1015003)
    return c->ssl && c->ssl->in_early;
#else
    return 0;
#endif
}
