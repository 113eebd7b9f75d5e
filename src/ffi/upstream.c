
/*
 * Owns the part of nginx's upstream module that chooses a server of an
 * upstream{} block for a tunnel, and what its variables tell of it: structures
 * whose fields differ from version to version.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_http.h>
#include <nginx.h>


ngx_http_upstream_srv_conf_t *proxy_connect_group_of_conf(ngx_conf_t *cf,
    u_char *name, size_t len);
ngx_http_upstream_srv_conf_t *proxy_connect_group_of_request(
    ngx_http_request_t *r, u_char *name, size_t len);
ngx_http_upstream_t *proxy_connect_group_begin(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *uscf, ngx_msec_t connect_timeout,
    u_char *schema);
ngx_int_t proxy_connect_group_get(ngx_http_request_t *r,
    ngx_http_upstream_t *u, struct sockaddr **sockaddr, socklen_t *socklen);
ngx_uint_t proxy_connect_group_tries(ngx_http_upstream_t *u);
void proxy_connect_group_free(ngx_http_upstream_t *u, ngx_uint_t state);
void proxy_connect_group_end(ngx_http_request_t *r, ngx_http_upstream_t *u);
ngx_int_t proxy_connect_group_states(ngx_http_upstream_srv_conf_t *uscf,
    ngx_uint_t *counts);

/* src/ffi/client_tls.c */
void proxy_connect_close(ngx_connection_t *c);

ngx_int_t proxy_connect_state_push(ngx_http_request_t *r);
ngx_int_t proxy_connect_state_peer(ngx_http_request_t *r, u_char *name,
    size_t len);
void proxy_connect_state_connected(ngx_http_request_t *r, ngx_msec_t time);
void proxy_connect_state_answered(ngx_http_request_t *r, ngx_msec_t time);
void proxy_connect_state_end(ngx_http_request_t *r, ngx_uint_t status,
    ngx_msec_t time, off_t sent, off_t received);

static ngx_http_upstream_srv_conf_t *proxy_connect_find_group(
    ngx_http_upstream_main_conf_t *umcf, u_char *name, size_t len);
static ngx_http_upstream_state_t *proxy_connect_state(ngx_http_request_t *r);
static ngx_http_upstream_rr_peers_t *proxy_connect_peers(
    ngx_http_upstream_srv_conf_t *uscf);
static ngx_uint_t proxy_connect_peer_state(ngx_http_upstream_rr_peers_t *peers,
    ngx_http_upstream_rr_peer_t *peer, time_t now);


/* the places of ServerStates, core/src/status/parents.rs */

#define PROXY_CONNECT_UP           0
#define PROXY_CONNECT_DOWN         1
#define PROXY_CONNECT_UNAVAILABLE  2
#define PROXY_CONNECT_BUSY         3


ngx_http_upstream_srv_conf_t *
proxy_connect_group_of_conf(ngx_conf_t *cf, u_char *name, size_t len)
{
    return proxy_connect_find_group(
               ngx_http_conf_get_module_main_conf(cf, ngx_http_upstream_module),
               name, len);
}


ngx_http_upstream_srv_conf_t *
proxy_connect_group_of_request(ngx_http_request_t *r, u_char *name, size_t len)
{
    return proxy_connect_find_group(
               ngx_http_get_module_main_conf(r, ngx_http_upstream_module),
               name, len);
}


/*
 * The upstream{} block of that name.  What nginx made for the host of another
 * module's directive is none.
 */

static ngx_http_upstream_srv_conf_t *
proxy_connect_find_group(ngx_http_upstream_main_conf_t *umcf, u_char *name,
    size_t len)
{
    ngx_uint_t                      i;
    ngx_http_upstream_srv_conf_t  **uscfp;

    if (umcf == NULL) {
        return NULL;
    }

    uscfp = umcf->upstreams.elts;

    for (i = 0; i < umcf->upstreams.nelts; i++) {

        if ((uscfp[i]->flags & NGX_HTTP_UPSTREAM_CREATE)
            && uscfp[i]->host.len == len
            && ngx_strncasecmp(uscfp[i]->host.data, name, len) == 0)
        {
            return uscfp[i];
        }
    }

    return NULL;
}


/*
 * Gives the request an upstream of which the peer is used alone, as
 * ngx_http_upstream_init_request() would.  There is a configuration, because
 * balancers of others look at it; all its flags are off, u->keepalive too, so
 * that no balancer keeps a connection.
 */

ngx_http_upstream_t *
proxy_connect_group_begin(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *uscf, ngx_msec_t connect_timeout,
    u_char *schema)
{
    ngx_http_upstream_t       *u;
    ngx_http_upstream_conf_t  *conf;

    u = ngx_pcalloc(r->pool, sizeof(ngx_http_upstream_t));
    conf = ngx_pcalloc(r->pool, sizeof(ngx_http_upstream_conf_t));

    if (u == NULL || conf == NULL) {
        return NULL;
    }

    conf->upstream = uscf;
    conf->connect_timeout = connect_timeout;
    conf->send_timeout = connect_timeout;
    conf->read_timeout = connect_timeout;

    u->conf = conf;
    u->schema.data = schema;
    u->schema.len = ngx_strlen(schema);
    u->peer.log = r->connection->log;
    u->peer.log_error = NGX_ERROR_ERR;

#if (nginx_version >= 1012000)
    u->upstream = uscf;
#endif

    r->upstream = u;

    if (uscf->peer.init(r, uscf) != NGX_OK) {
        r->upstream = NULL;
        return NULL;
    }

#if (nginx_version >= 1007005)
    u->peer.start_time = ngx_current_msec;
#endif

    return u;
}


/*
 * Chooses the next server: NGX_OK, NGX_BUSY where none is left, NGX_ERROR.  The
 * attempt has its state already.  A connection that was cached for requests is
 * of no use, it may be in the middle of another protocol.
 */

ngx_int_t
proxy_connect_group_get(ngx_http_request_t *r, ngx_http_upstream_t *u,
    struct sockaddr **sockaddr, socklen_t *socklen)
{
    ngx_int_t               rc;
    ngx_peer_connection_t  *pc;

    pc = &u->peer;
    pc->connection = NULL;
    pc->cached = 0;

    u->state = proxy_connect_state(r);

    rc = pc->get(pc, pc->data);

    if (rc == NGX_DONE) {
        if (pc->connection) {
            proxy_connect_close(pc->connection);
        }

        pc->connection = NULL;
        pc->cached = 0;
        rc = NGX_OK;
    }

    if (pc->name
        && proxy_connect_state_peer(r, pc->name->data, pc->name->len) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (rc == NGX_OK && pc->sockaddr == NULL) {
        return NGX_ERROR;
    }

    *sockaddr = pc->sockaddr;
    *socklen = pc->socklen;

    return rc;
}


ngx_uint_t
proxy_connect_group_tries(ngx_http_upstream_t *u)
{
    return u->peer.tries;
}


/* tells the balancer what became of the server that it has chosen, once */

void
proxy_connect_group_free(ngx_http_upstream_t *u, ngx_uint_t state)
{
    if (u->peer.free && u->peer.sockaddr) {
        u->peer.free(&u->peer, u->peer.data, state);
        u->peer.sockaddr = NULL;
    }
}


void
proxy_connect_group_end(ngx_http_request_t *r, ngx_http_upstream_t *u)
{
    proxy_connect_group_free(u, 0);

    if (r->upstream == u) {
        r->upstream = NULL;
    }
}


/*
 * Counts the servers of a group by what a round robin balancer would make of
 * them now.  NGX_DECLINED where the balancer is one of another kind.
 */

ngx_int_t
proxy_connect_group_states(ngx_http_upstream_srv_conf_t *uscf,
    ngx_uint_t *counts)
{
    time_t                         now;
    ngx_http_upstream_rr_peer_t   *peer;
    ngx_http_upstream_rr_peers_t  *peers;

#if (nginx_version < 1009000)
    ngx_uint_t                     i;
#endif

    peers = proxy_connect_peers(uscf);

    if (peers == NULL) {
        return NGX_DECLINED;
    }

    now = ngx_time();

    for ( /* void */ ; peers; peers = peers->next) {

#if (nginx_version >= 1009000)

        ngx_http_upstream_rr_peers_rlock(peers);

        for (peer = peers->peer; peer; peer = peer->next) {
            counts[proxy_connect_peer_state(peers, peer, now)]++;
        }

        ngx_http_upstream_rr_peers_unlock(peers);

#else

        for (i = 0; i < peers->number; i++) {
            peer = &peers->peer[i];
            counts[proxy_connect_peer_state(peers, peer, now)]++;
        }

#endif
    }

    return NGX_OK;
}


/*
 * The peers of a group, if they are those of nginx's own balancers, all of
 * which build upon round robin.  Others may keep there what they like: its
 * peers are known by the name, which is that of the group, and those in shared
 * memory by the zone, which takes no others.
 */

static ngx_http_upstream_rr_peers_t *
proxy_connect_peers(ngx_http_upstream_srv_conf_t *uscf)
{
    ngx_http_upstream_rr_peers_t  *peers;

    peers = uscf->peer.data;

    if (peers == NULL) {
        return NULL;
    }

#if (NGX_HTTP_UPSTREAM_ZONE)

    if (uscf->shm_zone) {
        return ((u_char *) peers >= uscf->shm_zone->shm.addr
                && (u_char *) peers < uscf->shm_zone->shm.addr
                                      + uscf->shm_zone->shm.size)
               ? peers : NULL;
    }

#endif

    return peers->name == &uscf->host ? peers : NULL;
}


static ngx_uint_t
proxy_connect_peer_state(ngx_http_upstream_rr_peers_t *peers,
    ngx_http_upstream_rr_peer_t *peer, time_t now)
{
    if (peer->down) {
        return PROXY_CONNECT_DOWN;
    }

    /* a server that has no other beside it is tried whatever it has done */

    if (!peers->single
        && peer->max_fails
        && peer->fails >= peer->max_fails
        && now - peer->checked <= peer->fail_timeout)
    {
        return PROXY_CONNECT_UNAVAILABLE;
    }

#if (nginx_version >= 1011005)

    if (peer->max_conns && peer->conns >= peer->max_conns) {
        return PROXY_CONNECT_BUSY;
    }

#endif

    return PROXY_CONNECT_UP;
}


/*
 * What $upstream_addr and the other variables tell of an attempt.  The last of
 * the states is the one that is under way.
 */

static ngx_http_upstream_state_t *
proxy_connect_state(ngx_http_request_t *r)
{
    ngx_http_upstream_state_t  *states;

    if (r->upstream_states == NULL || r->upstream_states->nelts == 0) {
        return NULL;
    }

    states = r->upstream_states->elts;

    return &states[r->upstream_states->nelts - 1];
}


ngx_int_t
proxy_connect_state_push(ngx_http_request_t *r)
{
    ngx_http_upstream_state_t  *state;

    if (r->upstream_states == NULL) {
        r->upstream_states = ngx_array_create(r->pool, 1,
                                            sizeof(ngx_http_upstream_state_t));
        if (r->upstream_states == NULL) {
            return NGX_ERROR;
        }
    }

    state = ngx_array_push(r->upstream_states);
    if (state == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(state, sizeof(ngx_http_upstream_state_t));

#if (nginx_version >= 1009001)
    state->response_time = (ngx_msec_t) -1;
    state->connect_time = (ngx_msec_t) -1;
    state->header_time = (ngx_msec_t) -1;
#endif

    return NGX_OK;
}


/* a copy: a server may leave its group before the request is logged */

ngx_int_t
proxy_connect_state_peer(ngx_http_request_t *r, u_char *name, size_t len)
{
    ngx_str_t                  *peer;
    ngx_http_upstream_state_t  *state;

    state = proxy_connect_state(r);
    if (state == NULL) {
        return NGX_OK;
    }

    peer = ngx_palloc(r->pool, sizeof(ngx_str_t));
    if (peer == NULL) {
        return NGX_ERROR;
    }

    peer->data = ngx_pnalloc(r->pool, len);
    if (peer->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(peer->data, name, len);
    peer->len = len;

    state->peer = peer;

    return NGX_OK;
}


void
proxy_connect_state_connected(ngx_http_request_t *r, ngx_msec_t time)
{
#if (nginx_version >= 1009001)
    ngx_http_upstream_state_t  *state;

    state = proxy_connect_state(r);

    if (state && state->connect_time == (ngx_msec_t) -1) {
        state->connect_time = time;
    }
#endif
}


void
proxy_connect_state_answered(ngx_http_request_t *r, ngx_msec_t time)
{
#if (nginx_version >= 1009001)
    ngx_http_upstream_state_t  *state;

    state = proxy_connect_state(r);

    if (state) {
        state->header_time = time;
    }
#endif

#ifdef NGX_HTTP_UPSTREAM_NOTIFY_HEADER
    ngx_http_upstream_t  *u;

    u = r->upstream;

    if (u && u->peer.notify) {
        u->peer.notify(&u->peer, u->peer.data, NGX_HTTP_UPSTREAM_NOTIFY_HEADER);
    }
#endif
}


/* the status is 0 where there is none */

void
proxy_connect_state_end(ngx_http_request_t *r, ngx_uint_t status,
    ngx_msec_t time, off_t sent, off_t received)
{
    ngx_http_upstream_state_t  *state;

    state = proxy_connect_state(r);

    if (state == NULL) {
        return;
    }

    state->status = status;
    state->response_length = received;

#if (nginx_version >= 1009001)
    state->response_time = time;
#else
    state->response_sec = time / 1000;
    state->response_msec = time % 1000;
#endif

#if (nginx_version >= 1011004)
    state->bytes_received = received;
#endif

#if (nginx_version >= 1015008)
    state->bytes_sent = sent;
#endif
}
