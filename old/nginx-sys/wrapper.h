/* Owns what the bindings are made from. */

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_http.h>
#include <nginx.h>

const size_t proxy_connect_alignment = NGX_ALIGNMENT;

#ifdef NGX_MODULE_SIGNATURE
const char *proxy_connect_signature = NGX_MODULE_SIGNATURE;
#endif
