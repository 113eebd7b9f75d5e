//! Owns phase handlers.

use nginx_sys::{
    ngx_conf_t, ngx_http_handler_pt, ngx_http_phases_NGX_HTTP_CONTENT_PHASE as CONTENT,
    ngx_http_phases_NGX_HTTP_LOG_PHASE as LOG,
    ngx_http_phases_NGX_HTTP_POST_READ_PHASE as POST_READ,
    ngx_http_phases_NGX_HTTP_PREACCESS_PHASE as PREACCESS,
    ngx_http_phases_NGX_HTTP_PRECONTENT_PHASE as PRECONTENT, ngx_http_request_t, ngx_int_t,
};
use ngx::http::{HttpModuleMainConf, NgxHttpCoreModule};

use super::boundary::guard;
use super::code;
use super::request::Request;

/// Before nginx 1.13.4 no phase stands between access and content: the handler is one of content, and
/// the first of them.
pub const IN_CONTENT: bool = PRECONTENT == CONTENT;

/// The phases of request processing that the module takes part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Right after the header was read, before any rewriting.
    PostRead,
    /// Before the access phase.
    PreAccess,
    /// After the access phase, before the content.
    PreContent,
    /// When the request is logged; the handler stands before the access log's.
    Log,
}

/// A handler of a phase.
pub trait PhaseHandler {
    /// Looks at `request` and decides.
    fn handle(request: Request) -> Verdict;
}

/// What a phase handler decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The next handler's turn.
    Decline,
    /// The handler took the request over and will finalise it.
    Take,
    /// The phases stop until [`Request::resume_phases`]. In the content phase there is no such thing.
    #[cfg_attr(not(ngx_feature = "http_ssl"), allow(dead_code))]
    Wait,
    /// The request ends with this status.
    Refuse(u16),
    /// The request ends without an answer.
    Terminate,
}

/// Adds `H` to a phase. `None` when there is no memory.
///
/// # Safety
///
/// `cf` must be the configuration that a postconfiguration hook got.
pub unsafe fn add_handler<H: PhaseHandler>(cf: *mut ngx_conf_t, phase: Phase) -> Option<()> {
    let index = match phase {
        Phase::PostRead => POST_READ,
        Phase::PreAccess => PREACCESS,
        Phase::PreContent => PRECONTENT,
        Phase::Log => LOG,
    };

    // SAFETY: the caller's promise; the handlers are an array of ngx_http_handler_pt.
    unsafe {
        let cmcf = NgxHttpCoreModule::main_conf_mut(cf.as_ref()?)?;
        let handlers = &mut cmcf.phases[index as usize].handlers;
        let place = nginx_sys::ngx_array_push(handlers).cast::<ngx_http_handler_pt>();

        if place.is_null() {
            return None;
        }

        place.write(Some(run::<H>));

        if phase == Phase::Log {
            handlers.as_slice_mut::<ngx_http_handler_pt>().rotate_right(1);
        }
    }

    Some(())
}

unsafe extern "C" fn run<H: PhaseHandler>(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: nginx calls a phase handler with a request that lives.
    let Some(request) = (unsafe { Request::from_ptr(r) }) else {
        return code::ERROR;
    };

    // The content phase finalises a request that was taken. The one that took it does that itself.
    if IN_CONTENT {
        request.hold();
    }

    let verdict = guard(request.connection().log(), || H::handle(request), || Verdict::Refuse(500));

    if IN_CONTENT && verdict != Verdict::Take {
        request.release();
    }

    match verdict {
        Verdict::Decline => code::DECLINED,
        Verdict::Take => code::DONE,
        Verdict::Wait => code::AGAIN,
        Verdict::Terminate => code::ERROR,
        Verdict::Refuse(status) => ngx_int_t::try_from(status).unwrap_or(code::ERROR),
    }
}
