
/*
 * Owns putting a code of ours among those of the rewrite module, so that a
 * directive in an "if" of a server does something when the condition holds:
 * nginx gives the request no configuration of such an "if".
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include <nginx.h>


typedef void (*proxy_connect_code_handler_pt)(ngx_http_request_t *r,
    void *data);


typedef struct {
    ngx_http_script_code_pt        code;
    proxy_connect_code_handler_pt  handler;
    void                          *data;
} proxy_connect_code_t;


ngx_uint_t proxy_connect_is_in_if(ngx_conf_t *cf);
ngx_int_t proxy_connect_add_code(ngx_conf_t *cf,
    proxy_connect_code_handler_pt handler, void *data);

static ngx_module_t *proxy_connect_rewrite_module(ngx_conf_t *cf);
static void proxy_connect_run_code(ngx_http_script_engine_t *e);


ngx_uint_t
proxy_connect_is_in_if(ngx_conf_t *cf)
{
    return cf->cmd_type == NGX_HTTP_SIF_CONF;
}


/* the configuration of the rewrite module begins with its codes */

ngx_int_t
proxy_connect_add_code(ngx_conf_t *cf, proxy_connect_code_handler_pt handler,
    void *data)
{
    ngx_array_t           **codes;
    ngx_module_t           *module;
    ngx_http_conf_ctx_t    *ctx;
    proxy_connect_code_t   *code;

    module = proxy_connect_rewrite_module(cf);
    if (module == NULL) {
        return NGX_ERROR;
    }

    ctx = cf->ctx;
    codes = ctx->loc_conf[module->ctx_index];

    code = ngx_http_script_start_code(cf->pool, codes,
                                      sizeof(proxy_connect_code_t));
    if (code == NULL) {
        return NGX_ERROR;
    }

    code->code = proxy_connect_run_code;
    code->handler = handler;
    code->data = data;

    return NGX_OK;
}


/* the module that has "rewrite", which nginx may be built without */

static ngx_module_t *
proxy_connect_rewrite_module(ngx_conf_t *cf)
{
    ngx_uint_t      i;
    ngx_module_t  **modules;
    ngx_command_t  *cmd;

#if (nginx_version >= 1009011)
    modules = cf->cycle->modules;
#else
    modules = ngx_modules;
#endif

    for (i = 0; modules[i]; i++) {

        if (modules[i]->type != NGX_HTTP_MODULE) {
            continue;
        }

        for (cmd = modules[i]->commands; cmd && cmd->name.len; cmd++) {

            if (cmd->name.len == sizeof("rewrite") - 1
                && ngx_strncmp(cmd->name.data, "rewrite", cmd->name.len) == 0)
            {
                return modules[i];
            }
        }
    }

    return NULL;
}


static void
proxy_connect_run_code(ngx_http_script_engine_t *e)
{
    proxy_connect_code_t  *code;

    code = (proxy_connect_code_t *) e->ip;

    e->ip += sizeof(proxy_connect_code_t);

    code->handler(e->request, code->data);
}
