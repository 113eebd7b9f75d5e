
/*
 * Owns the records of TLS that OpenSSL makes of what a tunnel sends at once,
 * until they go to the system together: in nginx, each takes a send() of its
 * own.  They are collected in a buffer that all tunnels of a worker share; what
 * the system does not take belongs to the connection until it does.  And what
 * is to be known where the system itself makes the records, kTLS.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>


void proxy_connect_collect_records(ngx_connection_t *c);
ssize_t proxy_connect_send_records(ngx_connection_t *c, u_char *buf,
    size_t size);
ssize_t proxy_connect_send_together(ngx_connection_t *c, u_char *buf,
    size_t size, size_t record);
ngx_uint_t proxy_connect_has_ktls(ngx_connection_t *c);
ngx_int_t proxy_connect_send_key_update(ngx_connection_t *c);


#if (NGX_SSL && OPENSSL_VERSION_NUMBER >= 0x10100000L                         \
     && !defined LIBRESSL_VERSION_NUMBER && !defined OPENSSL_IS_BORINGSSL)

/*
 * Room for what a tunnel sends at once, 128k, in records of 16k or of 4k, and
 * for what goes around them.
 */
#define PROXY_CONNECT_COLLECTED  (144 * 1024)


typedef struct {
    ngx_connection_t  *connection;

    /* encrypted, and not taken by the system: len bytes, of which sent were */
    u_char            *rest;
    size_t             len;
    size_t             sent;

    /*
     * The sender has been told of one byte less than was encrypted, so that it
     * comes again and the rest is sent.
     */
    ngx_uint_t         owes;
} proxy_connect_records_t;


static proxy_connect_records_t *proxy_connect_records_of(ngx_connection_t *c);
static ssize_t proxy_connect_collect(proxy_connect_records_t *records,
    u_char *buf, size_t size, size_t piece, size_t *total);
static ngx_int_t proxy_connect_flush(proxy_connect_records_t *records);
static ssize_t proxy_connect_send_out(ngx_connection_t *c, u_char *buf,
    size_t size);
static ngx_int_t proxy_connect_send_collected(proxy_connect_records_t *records);
static ngx_int_t proxy_connect_keep(proxy_connect_records_t *records,
    u_char *buf, size_t len);
static int proxy_connect_bio_create(BIO *bio);
static int proxy_connect_bio_destroy(BIO *bio);
static int proxy_connect_bio_write(BIO *bio, const char *buf, int size);
static int proxy_connect_bio_write_last(BIO *bio,
    proxy_connect_records_t *records, int size);
static long proxy_connect_bio_ctrl(BIO *bio, int cmd, long num, void *ptr);


static BIO_METHOD               *proxy_connect_bio_method;
static int                       proxy_connect_bio_type;

static u_char                   *proxy_connect_collected;
static size_t                    proxy_connect_collected_len;

/* whose records are collected, and whose next one is the last of them */
static proxy_connect_records_t  *proxy_connect_collecting;
static proxy_connect_records_t  *proxy_connect_closing;


/*
 * Has the connection, whose handshake is done, send its records so.  Without
 * memory it sends them as before.
 */

void
proxy_connect_collect_records(ngx_connection_t *c)
{
    BIO                      *bio;
    BIO_METHOD               *method;
    proxy_connect_records_t  *records;

    if (c->ssl == NULL || !SSL_is_init_finished(c->ssl->connection)) {
        return;
    }

    /* the system makes the records */

    if (proxy_connect_has_ktls(c)) {
        return;
    }

    if (proxy_connect_collected == NULL) {
        proxy_connect_collected = malloc(PROXY_CONNECT_COLLECTED);
        if (proxy_connect_collected == NULL) {
            return;
        }
    }

    if (proxy_connect_bio_method == NULL) {
        proxy_connect_bio_type = BIO_get_new_index() | BIO_TYPE_SOURCE_SINK;

        method = BIO_meth_new(proxy_connect_bio_type, "proxy_connect records");
        if (method == NULL) {
            return;
        }

        BIO_meth_set_create(method, proxy_connect_bio_create);
        BIO_meth_set_destroy(method, proxy_connect_bio_destroy);
        BIO_meth_set_write(method, proxy_connect_bio_write);
        BIO_meth_set_ctrl(method, proxy_connect_bio_ctrl);

        proxy_connect_bio_method = method;
    }

    bio = BIO_new(proxy_connect_bio_method);
    if (bio == NULL) {
        ERR_clear_error();
        return;
    }

    records = calloc(1, sizeof(proxy_connect_records_t));
    if (records == NULL) {
        BIO_free(bio);
        return;
    }

    records->connection = c;

    BIO_set_data(bio, records);
    BIO_set_init(bio, 1);

    SSL_set0_wbio(c->ssl->connection, bio);
}


/*
 * As c->send(), for as many records as it takes.
 */

ssize_t
proxy_connect_send_records(ngx_connection_t *c, u_char *buf, size_t size)
{
    size_t                    total;
    ssize_t                   n;
    ngx_int_t                 rc;
    proxy_connect_records_t  *records;

    records = proxy_connect_records_of(c);
    if (records == NULL) {
        return c->send(c, buf, size);
    }

    rc = proxy_connect_flush(records);
    if (rc != NGX_OK) {
        return rc;
    }

    total = records->owes;
    records->owes = 0;

    n = proxy_connect_collect(records, buf, size, size, &total);

    if (proxy_connect_send_collected(records) != NGX_OK) {
        return NGX_ERROR;
    }

    if (records->len && total) {
        records->owes = 1;
        total--;
    }

    if (total) {
        return total;
    }

    return (records->len) ? NGX_AGAIN : n;
}


/*
 * The same for a connection that others write to as well, who don't know what
 * is owed here: records of a size leave together.  Where the system does not
 * take all, OpenSSL keeps the last one, whose bytes the caller is to send again
 * with c->send(), or to have nginx send; in front of it goes what else is left.
 * Returns how many bytes are gone, none where the records of the connection are
 * not collected.
 */

ssize_t
proxy_connect_send_together(ngx_connection_t *c, u_char *buf, size_t size,
    size_t record)
{
    size_t                    last, total;
    ssize_t                   n;
    proxy_connect_records_t  *records;

    records = (size > record) ? proxy_connect_records_of(c) : NULL;
    if (records == NULL) {
        return 0;
    }

    switch (proxy_connect_flush(records)) {

    case NGX_OK:
        break;

    case NGX_AGAIN:
        return 0;

    default:
        return NGX_ERROR;
    }

    total = 0;
    last = (size - 1) / record * record;

    n = proxy_connect_collect(records, buf, last, record, &total);

    if (total == last && records->len == 0) {
        proxy_connect_closing = records;

        n = c->send(c, buf + total, size - total);

        proxy_connect_closing = NULL;

        if (n > 0) {
            total += n;
        }
    }

    /* those in front of one that OpenSSL did not make */

    if (proxy_connect_send_collected(records) != NGX_OK || n == NGX_ERROR) {
        return NGX_ERROR;
    }

    return total;
}


static proxy_connect_records_t *
proxy_connect_records_of(ngx_connection_t *c)
{
    BIO  *bio;

    if (c->ssl == NULL || proxy_connect_bio_method == NULL) {
        return NULL;
    }

    bio = SSL_get_wbio(c->ssl->connection);

    if (bio == NULL || BIO_method_type(bio) != proxy_connect_bio_type) {
        return NULL;
    }

    return BIO_get_data(bio);
}


/*
 * Has OpenSSL make records of what lies in buf behind the first total bytes, in
 * pieces, and collects them.  Returns what the last c->send() did.
 */

static ssize_t
proxy_connect_collect(proxy_connect_records_t *records, u_char *buf,
    size_t size, size_t piece, size_t *total)
{
    ssize_t            n;
    ngx_connection_t  *c;

    c = records->connection;
    n = NGX_AGAIN;

    proxy_connect_collected_len = 0;
    proxy_connect_collecting = records;

    while (*total < size && records->len == 0) {
        n = c->send(c, buf + *total, ngx_min(size - *total, piece));
        if (n <= 0) {
            break;
        }

        *total += n;
    }

    proxy_connect_collecting = NULL;

    return n;
}


/*
 * Sends what is left: NGX_AGAIN while something is.
 */

static ngx_int_t
proxy_connect_flush(proxy_connect_records_t *records)
{
    ssize_t  n;

    if (records->len == 0) {
        return NGX_OK;
    }

    n = proxy_connect_send_out(records->connection,
                               records->rest + records->sent,
                               records->len - records->sent);
    if (n < 0) {
        return NGX_ERROR;
    }

    records->sent += n;

    if (records->sent < records->len) {
        return NGX_AGAIN;
    }

    free(records->rest);

    records->rest = NULL;
    records->len = 0;
    records->sent = 0;

    return NGX_OK;
}


/*
 * How much the system takes.  Where that is not all, it will say when it takes
 * more.
 */

static ssize_t
proxy_connect_send_out(ngx_connection_t *c, u_char *buf, size_t size)
{
    size_t     sent;
    ssize_t    n;
    ngx_err_t  err;

    sent = 0;

    while (sent < size) {
        n = send(c->fd, buf + sent, size - sent, 0);

        if (n > 0) {
            sent += n;
            continue;
        }

        err = (n == 0) ? NGX_EAGAIN : ngx_socket_errno;

        if (err == NGX_EINTR) {
            continue;
        }

        c->write->ready = 0;

        if (err == NGX_EAGAIN) {
            break;
        }

        c->write->error = 1;
        (void) ngx_connection_error(c, err, "send() failed");

        return NGX_ERROR;
    }

    return sent;
}


/*
 * Sends what was collected, and keeps what the system does not take.
 */

static ngx_int_t
proxy_connect_send_collected(proxy_connect_records_t *records)
{
    size_t   len;
    ssize_t  n;

    len = proxy_connect_collected_len;
    proxy_connect_collected_len = 0;

    n = proxy_connect_send_out(records->connection, proxy_connect_collected,
                               len);
    if (n < 0) {
        return NGX_ERROR;
    }

    return proxy_connect_keep(records, proxy_connect_collected + n, len - n);
}


static ngx_int_t
proxy_connect_keep(proxy_connect_records_t *records, u_char *buf, size_t len)
{
    u_char  *rest;

    if (len == 0) {
        return NGX_OK;
    }

    rest = malloc(len);

    if (rest == NULL) {
        ngx_log_error(NGX_LOG_ERR, records->connection->log, ngx_errno,
                      "proxy_connect: no memory for %uz bytes in flight", len);
        return NGX_ERROR;
    }

    ngx_memcpy(rest, buf, len);

    records->rest = rest;
    records->len = len;
    records->sent = 0;

    return NGX_OK;
}


static int
proxy_connect_bio_create(BIO *bio)
{
    BIO_set_shutdown(bio, 1);

    return 1;
}


static int
proxy_connect_bio_destroy(BIO *bio)
{
    proxy_connect_records_t  *records;

    records = BIO_get_data(bio);

    if (records) {
        free(records->rest);
        free(records);
        BIO_set_data(bio, NULL);
    }

    return 1;
}


/*
 * What OpenSSL sends: a record of the tunnel, which is collected, or something
 * of its own, which goes out at once, behind what is left.
 */

static int
proxy_connect_bio_write(BIO *bio, const char *buf, int size)
{
    ssize_t                   n;
    proxy_connect_records_t  *records;

    BIO_clear_retry_flags(bio);

    records = BIO_get_data(bio);

    if (records == NULL || size <= 0) {
        return 0;
    }

    if (records->len == 0
        && (records == proxy_connect_collecting
            || records == proxy_connect_closing))
    {
        if ((size_t) size
            > PROXY_CONNECT_COLLECTED - proxy_connect_collected_len
            && proxy_connect_send_collected(records) != NGX_OK)
        {
            return -1;
        }

        if (records->len == 0 && size <= PROXY_CONNECT_COLLECTED) {
            ngx_memcpy(proxy_connect_collected + proxy_connect_collected_len,
                       buf, size);

            if (records == proxy_connect_closing) {
                return proxy_connect_bio_write_last(bio, records, size);
            }

            proxy_connect_collected_len += size;

            return size;
        }
    }

    switch (proxy_connect_flush(records)) {

    case NGX_OK:
        break;

    case NGX_AGAIN:
        BIO_set_retry_write(bio);
        return -1;

    default:
        return -1;
    }

    n = proxy_connect_send_out(records->connection, (u_char *) buf, size);

    if (n == 0) {
        BIO_set_retry_write(bio);
        return -1;
    }

    return n;
}


/*
 * The last record lies behind those that were collected: OpenSSL is told how
 * much of it the system has taken, and gives the rest again.
 */

static int
proxy_connect_bio_write_last(BIO *bio, proxy_connect_records_t *records,
    int size)
{
    size_t   len;
    ssize_t  n;

    len = proxy_connect_collected_len;
    proxy_connect_collected_len = 0;

    n = proxy_connect_send_out(records->connection, proxy_connect_collected,
                               len + size);
    if (n < 0) {
        return -1;
    }

    if ((size_t) n > len) {
        return n - len;
    }

    if (proxy_connect_keep(records, proxy_connect_collected + n, len - n)
        != NGX_OK)
    {
        return -1;
    }

    BIO_set_retry_write(bio);

    return -1;
}


static long
proxy_connect_bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    switch (cmd) {

    case BIO_CTRL_FLUSH:
    case BIO_CTRL_DUP:
        return 1;

    case BIO_CTRL_GET_CLOSE:
        return BIO_get_shutdown(bio);

    case BIO_CTRL_SET_CLOSE:
        BIO_set_shutdown(bio, (int) num);
        return 1;

    default:
        return 0;
    }
}

#else

void
proxy_connect_collect_records(ngx_connection_t *c)
{
}


ssize_t
proxy_connect_send_records(ngx_connection_t *c, u_char *buf, size_t size)
{
    return c->send(c, buf, size);
}


ssize_t
proxy_connect_send_together(ngx_connection_t *c, u_char *buf, size_t size,
    size_t record)
{
    return 0;
}

#endif


/*
 * Whether the system encrypts what is written to the socket.
 */

ngx_uint_t
proxy_connect_has_ktls(ngx_connection_t *c)
{
#if (NGX_SSL && defined BIO_get_ktls_send)
    return c->ssl
           && SSL_is_init_finished(c->ssl->connection)
           && BIO_get_ktls_send(SSL_get_wbio(c->ssl->connection));
#else
    return 0;
#endif
}


/*
 * A peer that has changed its key may ask for the same, before any data that
 * follow.  OpenSSL sends that with the next SSL_write(), or here.
 */

ngx_int_t
proxy_connect_send_key_update(ngx_connection_t *c)
{
#if (NGX_SSL && defined BIO_get_ktls_send)
    int   n, type, sslerr;
    SSL  *ssl;

    ssl = c->ssl->connection;
    type = SSL_get_key_update_type(ssl);

    if (type == SSL_KEY_UPDATE_NONE) {
        return NGX_OK;
    }

    ERR_clear_error();

    /* a handshake that only the peer has asked for is not under way */

    n = SSL_key_update(ssl, type) ? SSL_do_handshake(ssl) : 0;
    sslerr = SSL_get_error(ssl, n);

    if (sslerr == SSL_ERROR_WANT_WRITE) {
        c->write->ready = 0;
        return NGX_AGAIN;
    }

    if (sslerr != SSL_ERROR_NONE && sslerr != SSL_ERROR_WANT_READ) {
        c->write->error = 1;
        ngx_ssl_error(NGX_LOG_INFO, c->log, 0, "SSL_key_update() failed");
        return NGX_ERROR;
    }
#endif

    return NGX_OK;
}
