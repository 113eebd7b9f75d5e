
/*
 * Owns keeping credentials out of nginx's log: while nginx reads a header it
 * writes each field to the log at level debug, and some at info.  The value
 * of a Proxy-Authorization is empty until the module takes it.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


#define PROXY_CONNECT_FIELD  "Proxy-Authorization"


unsigned proxy_connect_is_stream(const ngx_http_request_t *r);

ngx_int_t proxy_connect_hide_credentials(ngx_conf_t *cf);
void proxy_connect_show_credentials(ngx_http_request_t *r);

static ngx_int_t proxy_connect_hide(ngx_http_request_t *r, ngx_table_elt_t *h,
    ngx_uint_t offset);


static ngx_http_header_t  proxy_connect_header =
    { ngx_string(PROXY_CONNECT_FIELD), 0, proxy_connect_hide };

/* nginx 1.31.0 and newer have a handler of their own for the field */
static ngx_http_header_t  *proxy_connect_original;


/*
 * Makes anew what ngx_http_init_headers_in_hash() has made, with a handler for
 * the field.
 */

ngx_int_t
proxy_connect_hide_credentials(ngx_conf_t *cf)
{
    ngx_array_t                 keys;
    ngx_hash_key_t             *key;
    ngx_hash_init_t             hash;
    ngx_http_header_t          *header;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    if (ngx_array_init(&keys, cf->temp_pool, 64, sizeof(ngx_hash_key_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    proxy_connect_original = NULL;

    for (header = ngx_http_headers_in; header->name.len; header++) {

        if (header->name.len == proxy_connect_header.name.len
            && ngx_strncasecmp(header->name.data, (u_char *) PROXY_CONNECT_FIELD,
                               header->name.len)
               == 0)
        {
            proxy_connect_original = header;
            continue;
        }

        key = ngx_array_push(&keys);
        if (key == NULL) {
            return NGX_ERROR;
        }

        key->key = header->name;
        key->key_hash = ngx_hash_key_lc(header->name.data, header->name.len);
        key->value = header;
    }

    key = ngx_array_push(&keys);
    if (key == NULL) {
        return NGX_ERROR;
    }

    key->key = proxy_connect_header.name;
    key->key_hash = ngx_hash_key_lc(key->key.data, key->key.len);
    key->value = &proxy_connect_header;

    hash.hash = &cmcf->headers_in_hash;
    hash.key = ngx_hash_key_lc;
    hash.max_size = 512;
    hash.bucket_size = ngx_align(64, ngx_cacheline_size);
    hash.name = "headers_in_hash";
    hash.pool = cf->pool;
    hash.temp_pool = NULL;

    return ngx_hash_init(&hash, keys.elts, keys.nelts);
}


/*
 * The value stays where it is: nginx has put a null character behind it, in a
 * request of HTTP/1.
 */

static ngx_int_t
proxy_connect_hide(ngx_http_request_t *r, ngx_table_elt_t *h, ngx_uint_t offset)
{
    if (!proxy_connect_is_stream(r)) {
        h->value.len = 0;
    }

    if (proxy_connect_original) {
        return proxy_connect_original->handler(r, h,
                                               proxy_connect_original->offset);
    }

    return NGX_OK;
}


void
proxy_connect_show_credentials(ngx_http_request_t *r)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    if (proxy_connect_is_stream(r)) {
        return;
    }

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].value.len == 0
                && h[i].key.len == proxy_connect_header.name.len
                && ngx_strncasecmp(h[i].key.data, (u_char *) PROXY_CONNECT_FIELD,
                                   h[i].key.len)
                   == 0)
            {
                h[i].value.len = ngx_strlen(h[i].value.data);
            }
        }
    }
}
