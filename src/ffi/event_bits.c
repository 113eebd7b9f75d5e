
/*
 * Owns writing the fields of ngx_event_t that are bit fields in some versions
 * of nginx and integers in others, or that some don't have.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>


void proxy_connect_set_available_unknown(ngx_event_t *ev);
ngx_uint_t proxy_connect_set_cancelable(ngx_event_t *ev);


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
