
/*
 * Owns the reference to what a patched core asks for a CONNECT.  It is weak:
 * with a strong one an nginx without the patch refuses to load the module and
 * names a symbol, before the module can say what it was built for.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


extern ngx_int_t  (*ngx_http_connect_handler)(ngx_http_request_t *r)
                      __attribute__((weak));

ngx_uint_t proxy_connect_core_asks(void);
void proxy_connect_set_handler(ngx_int_t (*handler)(ngx_http_request_t *r));


ngx_uint_t
proxy_connect_core_asks(void)
{
    return &ngx_http_connect_handler != NULL;
}


/* Only where the core asks. */

void
proxy_connect_set_handler(ngx_int_t (*handler)(ngx_http_request_t *r))
{
    ngx_http_connect_handler = handler;
}
