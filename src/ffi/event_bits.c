
/*
 * Owns writing the fields of ngx_event_t that are bit fields in some versions
 * of nginx and integers in others, or that some don't have, and what only a
 * macro of nginx's does to an event.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>


void proxy_connect_set_available_unknown(ngx_event_t *ev);
ngx_uint_t proxy_connect_set_cancelable(ngx_event_t *ev);
ngx_int_t proxy_connect_rest(ngx_event_t *rev);


/*
 * How much stands in the socket's buffer is not known, but something may: in a
 * bit field it is the 1 that says so, in an integer the -1.
 */

void
proxy_connect_set_available_unknown(ngx_event_t *ev)
{
    ev->available = -1;
}


/*
 * Has a worker that shuts down not wait for the timer of the event.  Not so
 * before nginx 1.11.11.
 */

ngx_uint_t
proxy_connect_set_cancelable(ngx_event_t *ev)
{
#if (nginx_version >= 1011011)
    ev->cancelable = 1;
    return 1;
#else
    return 0;
#endif
}


/*
 * Has epoll tell no more of what comes in.  The event is ready, and stays so
 * until a read says otherwise; then ngx_handle_read_event() adds it again, and
 * epoll tells at once of what came meanwhile.  Level-triggered methods are told
 * so by ngx_handle_read_event() itself.
 */

ngx_int_t
proxy_connect_rest(ngx_event_t *rev)
{
    if (!(ngx_event_flags & NGX_USE_EPOLL_EVENT) || !rev->active) {
        return NGX_OK;
    }

    return ngx_del_event(rev, NGX_READ_EVENT, 0);
}
