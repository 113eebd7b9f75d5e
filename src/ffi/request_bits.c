
/*
 * Owns reading and writing the bit fields of ngx_http_request_t, which bindgen
 * lays out wrongly since nginx 1.29.3: there they follow a field of two bytes,
 * and bindgen takes the boundaries that no bit field crosses from there on.
 * And reading what is there only where nginx is built with a version of HTTP.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


#define proxy_connect_bits(name)                                              \
                                                                              \
    unsigned proxy_connect_get_##name(const ngx_http_request_t *r);           \
    void proxy_connect_set_##name(ngx_http_request_t *r, unsigned value);     \
                                                                              \
    unsigned                                                                  \
    proxy_connect_get_##name(const ngx_http_request_t *r)                     \
    {                                                                         \
        return r->name;                                                       \
    }                                                                         \
                                                                              \
    void                                                                      \
    proxy_connect_set_##name(ngx_http_request_t *r, unsigned value)           \
    {                                                                         \
        r->name = value;                                                      \
    }


proxy_connect_bits(complex_uri)
proxy_connect_bits(count)
proxy_connect_bits(error_page)
proxy_connect_bits(header_only)
proxy_connect_bits(header_sent)
proxy_connect_bits(keepalive)
proxy_connect_bits(plus_in_uri)
proxy_connect_bits(post_action)
proxy_connect_bits(quoted_uri)
proxy_connect_bits(request_complete)
proxy_connect_bits(uri_changed)
proxy_connect_bits(uri_changes)
proxy_connect_bits(valid_unparsed_uri)


unsigned proxy_connect_is_stream(const ngx_http_request_t *r);
unsigned proxy_connect_is_limited(const ngx_http_request_t *r);


/*
 * The version alone does not tell: nginx 1.12 and older take any in a
 * request line, "HTTP/7.1" too.
 */

unsigned
proxy_connect_is_stream(const ngx_http_request_t *r)
{
#if (NGX_HTTP_V3)
    if (r->connection->quic) {
        return 1;
    }
#endif

#if (NGX_HTTP_V2)
    return r->stream != NULL;
#elif (NGX_HTTP_SPDY)
    return r->spdy_stream != NULL;
#else
    return 0;
#endif
}


/*
 * Whether ngx_http_limit_conn_module or ngx_http_limit_req_module refused the
 * request; their numbers are those behind $limit_conn_status and
 * $limit_req_status.  Before nginx 1.17.6 they don't tell.
 */

unsigned
proxy_connect_is_limited(const ngx_http_request_t *r)
{
#if (nginx_version >= 1017006)
    return r->main->limit_conn_status == 2 || r->main->limit_req_status == 3;
#else
    return 0;
#endif
}
