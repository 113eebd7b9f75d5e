
/*
 * Owns writing the fields of ngx_event_t that are bit fields in some versions
 * of nginx and integers in others.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>


void proxy_connect_set_available_unknown(ngx_event_t *ev);


/*
 * How much stands in the socket's buffer is not known, but something may: in a
 * bit field it is the 1 that says so, in an integer the -1.
 */

void
proxy_connect_set_available_unknown(ngx_event_t *ev)
{
    ev->available = -1;
}
