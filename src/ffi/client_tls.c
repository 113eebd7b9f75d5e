
/*
 * Owns TLS to a server, with nginx as its client, through nginx's own
 * functions: their signatures, and what stands in macros, differ from version
 * to version.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_http.h>
#include <nginx.h>


/* ngx_ssl_ciphers() came with 1.11.6, the field of TLS 1.3 with 1.13.0 */

#if (NGX_SSL && nginx_version >= 1013000)
#define PROXY_CONNECT_SSL  1
#endif

/* what a client does with sessions that come behind the handshake */

#if (PROXY_CONNECT_SSL && nginx_version >= 1015002)
#define PROXY_CONNECT_SSL_SESSIONS  1
#endif


#define PROXY_CONNECT_SSL_NAME_MAX  256


/* as src/ffi/client_tls.rs has it */

typedef struct {
    ngx_str_t     protocols;
    ngx_str_t     ciphers;
    ngx_str_t     certificate;
    ngx_str_t     certificate_key;
    ngx_str_t     trusted_certificate;
    ngx_str_t     crl;
    ngx_uint_t    verify;
    ngx_uint_t    verify_depth;
    ngx_uint_t    session_reuse;
    ngx_keyval_t *commands;
    ngx_uint_t    ncommands;
} proxy_connect_ssl_conf_t;


typedef struct {
#if (PROXY_CONNECT_SSL)
    ngx_ssl_t           ssl;
    ngx_uint_t          session_reuse;

    /* the last session of a host that is in no group, and its name */

    ngx_ssl_session_t  *session;
    size_t              len;
    u_char              name[PROXY_CONNECT_SSL_NAME_MAX];
#endif
    ngx_uint_t          unused;
} proxy_connect_ssl_t;


ngx_uint_t proxy_connect_ssl_is_supported(void);
ngx_uint_t proxy_connect_ssl_has_commands(void);
ngx_uint_t proxy_connect_ssl_protocol(u_char *name, size_t len);
proxy_connect_ssl_t *proxy_connect_ssl_create(ngx_conf_t *cf,
    proxy_connect_ssl_conf_t *conf);
ngx_int_t proxy_connect_ssl_begin(proxy_connect_ssl_t *ssl,
    ngx_connection_t *c, u_char *name, size_t len, ngx_uint_t server_name,
    ngx_connection_handler_pt handler);
ngx_uint_t proxy_connect_ssl_is_handshaked(ngx_connection_t *c);
const char *proxy_connect_ssl_verify(ngx_connection_t *c, u_char *name,
    size_t len);
void proxy_connect_close(ngx_connection_t *c);

#if (PROXY_CONNECT_SSL)
static void proxy_connect_ssl_cleanup(void *data);
#endif

#if (PROXY_CONNECT_SSL_SESSIONS)
static ngx_int_t proxy_connect_ssl_set_session(proxy_connect_ssl_t *ssl,
    ngx_connection_t *c, ngx_str_t *name);
static void proxy_connect_ssl_save_session(ngx_connection_t *c);

static int  proxy_connect_ssl_name_index = -1;
#endif


ngx_uint_t
proxy_connect_ssl_is_supported(void)
{
#if (PROXY_CONNECT_SSL)
    return 1;
#else
    return 0;
#endif
}


ngx_uint_t
proxy_connect_ssl_has_commands(void)
{
#if (PROXY_CONNECT_SSL && nginx_version >= 1019004)
    return 1;
#else
    return 0;
#endif
}


#if (PROXY_CONNECT_SSL)

static ngx_conf_bitmask_t  proxy_connect_ssl_protocols[] = {
    { ngx_string("SSLv2"), NGX_SSL_SSLv2 },
    { ngx_string("SSLv3"), NGX_SSL_SSLv3 },
    { ngx_string("TLSv1"), NGX_SSL_TLSv1 },
    { ngx_string("TLSv1.1"), NGX_SSL_TLSv1_1 },
    { ngx_string("TLSv1.2"), NGX_SSL_TLSv1_2 },
    { ngx_string("TLSv1.3"), NGX_SSL_TLSv1_3 },
    { ngx_null_string, 0 }
};

#endif


/* the bit of a protocol, 0 for what is none */

ngx_uint_t
proxy_connect_ssl_protocol(u_char *name, size_t len)
{
#if (PROXY_CONNECT_SSL)
    ngx_conf_bitmask_t  *protocol;

    for (protocol = proxy_connect_ssl_protocols;
         protocol->name.len;
         protocol++)
    {
        if (protocol->name.len == len
            && ngx_strncmp(protocol->name.data, name, len) == 0)
        {
            return protocol->mask;
        }
    }
#endif

    return 0;
}


/* as ngx_http_proxy_set_ssl(); nginx tells what is wrong */

proxy_connect_ssl_t *
proxy_connect_ssl_create(ngx_conf_t *cf, proxy_connect_ssl_conf_t *conf)
{
#if (PROXY_CONNECT_SSL)
    u_char               *p, *last, *word;
    ngx_uint_t            protocols;
    ngx_pool_cleanup_t   *cln;
    proxy_connect_ssl_t  *ssl;
#if (nginx_version >= 1019004)
    ngx_array_t           commands;
#endif

    ssl = ngx_pcalloc(cf->pool, sizeof(proxy_connect_ssl_t));
    if (ssl == NULL) {
        return NULL;
    }

    ssl->ssl.log = cf->log;
    ssl->session_reuse = conf->session_reuse;

    protocols = 0;
    last = conf->protocols.data + conf->protocols.len;

    for (p = conf->protocols.data; p < last; p++) {
        word = p;

        while (p < last && *p != ' ') {
            p++;
        }

        protocols |= proxy_connect_ssl_protocol(word, p - word);
    }

    if (ngx_ssl_create(&ssl->ssl, protocols, ssl) != NGX_OK) {
        return NULL;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        ngx_ssl_cleanup_ctx(&ssl->ssl);
        return NULL;
    }

    cln->handler = proxy_connect_ssl_cleanup;
    cln->data = ssl;

    if (ngx_ssl_ciphers(cf, &ssl->ssl, &conf->ciphers, 0) != NGX_OK) {
        return NULL;
    }

    if (conf->certificate.len
        && ngx_ssl_certificate(cf, &ssl->ssl, &conf->certificate,
                               &conf->certificate_key, NULL)
           != NGX_OK)
    {
        return NULL;
    }

    if (conf->verify) {

        if (ngx_ssl_trusted_certificate(cf, &ssl->ssl,
                                        &conf->trusted_certificate,
                                        conf->verify_depth)
            != NGX_OK)
        {
            return NULL;
        }

        if (ngx_ssl_crl(cf, &ssl->ssl, &conf->crl) != NGX_OK) {
            return NULL;
        }
    }

#if (PROXY_CONNECT_SSL_SESSIONS)

    if (ngx_ssl_client_session_cache(cf, &ssl->ssl, conf->session_reuse)
        != NGX_OK)
    {
        return NULL;
    }

    if (proxy_connect_ssl_name_index == -1) {
        proxy_connect_ssl_name_index =
                                SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
        if (proxy_connect_ssl_name_index == -1) {
            return NULL;
        }
    }

#endif

#if (nginx_version >= 1019004)

    if (conf->ncommands) {
        ngx_memzero(&commands, sizeof(ngx_array_t));

        commands.elts = conf->commands;
        commands.nelts = conf->ncommands;

        if (ngx_ssl_conf_commands(cf, &ssl->ssl, &commands) != NGX_OK) {
            return NULL;
        }
    }

#endif

    return ssl;
#else
    return NULL;
#endif
}


#if (PROXY_CONNECT_SSL)

static void
proxy_connect_ssl_cleanup(void *data)
{
    proxy_connect_ssl_t  *ssl = data;

    if (ssl->session) {
        ngx_ssl_free_session(ssl->session);
    }

    ngx_ssl_cleanup_ctx(&ssl->ssl);
}

#endif


/*
 * Begins a handshake: NGX_OK where it is done, NGX_AGAIN where the handler will
 * be called, NGX_DECLINED where it failed, NGX_ERROR where it can't begin.
 */

ngx_int_t
proxy_connect_ssl_begin(proxy_connect_ssl_t *ssl, ngx_connection_t *c,
    u_char *name, size_t len, ngx_uint_t server_name,
    ngx_connection_handler_pt handler)
{
#if (PROXY_CONNECT_SSL)
    ngx_int_t   rc;
    ngx_str_t  *host;

    if (c->pool == NULL) {
        c->pool = ngx_create_pool(256, c->log);
        if (c->pool == NULL) {
            return NGX_ERROR;
        }
    }

    /*
     * Not NGX_SSL_BUFFER: what c->send_chain() takes would lie there until a
     * flush that nobody asks for.
     */

    if (ngx_ssl_create_connection(&ssl->ssl, c, NGX_SSL_CLIENT) != NGX_OK) {
        return NGX_ERROR;
    }

    host = ngx_pcalloc(c->pool, sizeof(ngx_str_t) + len + 1);
    if (host == NULL) {
        return NGX_ERROR;
    }

    host->len = len;
    host->data = (u_char *) host + sizeof(ngx_str_t);
    ngx_memcpy(host->data, name, len);

#ifdef SSL_CTRL_SET_TLSEXT_HOSTNAME

    if (server_name
        && SSL_set_tlsext_host_name(c->ssl->connection, (char *) host->data)
           == 0)
    {
        ngx_ssl_error(NGX_LOG_ERR, c->log, 0,
                      "SSL_set_tlsext_host_name(\"%s\") failed", host->data);
        return NGX_ERROR;
    }

#endif

#if (PROXY_CONNECT_SSL_SESSIONS)

    if (ssl->session_reuse
        && proxy_connect_ssl_set_session(ssl, c, host) != NGX_OK)
    {
        return NGX_ERROR;
    }

#endif

    rc = ngx_ssl_handshake(c);

    if (rc == NGX_AGAIN) {
        c->ssl->handler = handler;
        return NGX_AGAIN;
    }

    return (rc == NGX_OK) ? NGX_OK : NGX_DECLINED;
#else
    return NGX_ERROR;
#endif
}


#if (PROXY_CONNECT_SSL_SESSIONS)

/*
 * A balancer keeps the sessions of its servers.  Those of a host are kept here,
 * and given to a host of the same name alone.
 */

static ngx_int_t
proxy_connect_ssl_set_session(proxy_connect_ssl_t *ssl, ngx_connection_t *c,
    ngx_str_t *name)
{
    ngx_int_t             rc;
    ngx_http_request_t   *r;
    ngx_http_upstream_t  *u;

    if (SSL_set_ex_data(c->ssl->connection, proxy_connect_ssl_name_index, name)
        == 0)
    {
        return NGX_ERROR;
    }

    c->ssl->save_session = proxy_connect_ssl_save_session;

    r = c->data;
    u = r->upstream;

    if (u) {

#if (NGX_HTTP_SSL)
        if (u->peer.set_session) {
            u->peer.connection = c;
            rc = u->peer.set_session(&u->peer, u->peer.data);
            u->peer.connection = NULL;

            return rc;
        }
#endif

        return NGX_OK;
    }

    if (ssl->session == NULL
        || ssl->len != name->len
        || ngx_strncmp(ssl->name, name->data, name->len) != 0)
    {
        return NGX_OK;
    }

    rc = ngx_ssl_set_session(c, ssl->session);

    return rc;
}


static void
proxy_connect_ssl_save_session(ngx_connection_t *c)
{
    ngx_str_t            *name;
    ngx_ssl_session_t    *session;
    ngx_http_request_t   *r;
    ngx_http_upstream_t  *u;
    proxy_connect_ssl_t  *ssl;

    r = c->data;
    u = r->upstream;

    if (u) {

#if (NGX_HTTP_SSL)
        if (u->peer.save_session && u->peer.sockaddr) {
            u->peer.connection = c;
            u->peer.save_session(&u->peer, u->peer.data);
            u->peer.connection = NULL;
        }
#endif

        return;
    }

    ssl = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(c->ssl->connection),
                              ngx_ssl_server_conf_index);
    name = SSL_get_ex_data(c->ssl->connection, proxy_connect_ssl_name_index);

    if (ssl == NULL || name == NULL || name->len > sizeof(ssl->name)) {
        return;
    }

    session = ngx_ssl_get_session(c);
    if (session == NULL) {
        return;
    }

    if (ssl->session) {
        ngx_ssl_free_session(ssl->session);
    }

    ssl->session = session;
    ssl->len = name->len;
    ngx_memcpy(ssl->name, name->data, name->len);
}

#endif


ngx_uint_t
proxy_connect_ssl_is_handshaked(ngx_connection_t *c)
{
#if (PROXY_CONNECT_SSL)
    return c->ssl && c->ssl->handshaked;
#else
    return 0;
#endif
}


/* what is wrong with the server's certificate, NULL if nothing is */

const char *
proxy_connect_ssl_verify(ngx_connection_t *c, u_char *name, size_t len)
{
#if (PROXY_CONNECT_SSL)
    long       rc;
    ngx_str_t  host;

    rc = SSL_get_verify_result(c->ssl->connection);

    if (rc != X509_V_OK) {
        return X509_verify_cert_error_string(rc);
    }

    host.data = name;
    host.len = len;

    if (ngx_ssl_check_host(c, &host) != NGX_OK) {
        return "it is for another name";
    }
#endif

    return NULL;
}


/*
 * Closes a connection that may be one over TLS.  nginx may want to wait until a
 * close_notify can be sent; there is nobody who would.
 */

void
proxy_connect_close(ngx_connection_t *c)
{
    ngx_pool_t  *pool;

#if (NGX_SSL)

    if (c->ssl) {
        c->ssl->no_wait_shutdown = 1;

        if (!c->ssl->handshaked) {
            c->ssl->no_send_shutdown = 1;
        }

        (void) ngx_ssl_shutdown(c);

        if (c->ssl) {
            SSL_free(c->ssl->connection);
            c->ssl = NULL;
        }
    }

#endif

    pool = c->pool;

    ngx_close_connection(c);

    if (pool) {
        ngx_destroy_pool(pool);
    }
}
