
/*
 * Owns what of OpenSSL bindgen can't reach: options that are macros, and that
 * not every version has.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>


void proxy_connect_forgive_eof(ngx_connection_t *c);


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
