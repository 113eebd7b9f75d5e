//! Owns the module's handlers in nginx's phases: a CONNECT is admitted before any other handler
//! sees it, and sent on its way once it is rewritten and access is granted.

use nginx_sys::{ngx_conf_t, NGX_LOG_INFO};

use crate::admit::{self, Refusal};
use crate::auth;
use crate::ffi::phase::{add_handler, Phase, PhaseHandler, Verdict};
use crate::ffi::request::Request;
use crate::ffi::tls;
use crate::tunnel::{self, Tunnel};

/// Registers the handlers. `None` when there is no memory.
///
/// # Safety
///
/// `cf` must be the configuration that a postconfiguration hook got.
pub unsafe fn install(cf: *mut ngx_conf_t) -> Option<()> {
    // SAFETY: the caller's promise.
    unsafe {
        admit::install(cf)?;
        auth::install(cf)?;
        add_handler::<Admission>(cf, Phase::PostRead)?;
        add_handler::<Departure>(cf, Phase::PreContent)
    }
}

/// Refuses a CONNECT that can't become a tunnel, gives another its context. It is called twice for one that
/// had to wait.
struct Admission;

impl PhaseHandler for Admission {
    fn handle(request: Request) -> Verdict {
        auth::show_credentials(request);

        if !request.is_connect() {
            return take_credentials(request);
        }

        // Bytes behind a CONNECT belong to the tunnel, whatever the answer.
        if auth::may_keep_connection(request) {
            admit::restore_keepalive(request);
        } else {
            request.forbid_keepalive();
        }

        let verdict = judge(request);

        if matches!(verdict, Verdict::Refuse(_)) {
            request.forbid_keepalive();
        }

        verdict
    }
}

fn judge(request: Request) -> Verdict {
    if admit::is_anothers(request) {
        request.forbid_keepalive();
        return verdict(request, admit::leave(request), |_| Verdict::Decline);
    }

    tls::forgive_eof(request);

    #[cfg(ngx_feature = "http_ssl")]
    if let Some(verdict) = admit::early_data::wait(request) {
        return verdict;
    }

    verdict(request, admit::admit(request), give_context)
}

/// Goes on with a CONNECT that is not refused, nor its credentials.
fn verdict(
    request: Request,
    admitted: Result<(), Refusal>,
    go_on: fn(Request) -> Verdict,
) -> Verdict {
    if let Err(refusal) = admitted {
        return refuse(request, &refusal);
    }

    match take_credentials(request) {
        Verdict::Decline => go_on(request),
        verdict => verdict,
    }
}

fn take_credentials(request: Request) -> Verdict {
    match auth::begin(request) {
        Ok(()) => Verdict::Decline,
        Err(refused) => Verdict::Refuse(refused.0),
    }
}

fn give_context(request: Request) -> Verdict {
    match Tunnel::create(request) {
        Some(_) => Verdict::Decline,
        None => Verdict::Refuse(500),
    }
}

fn refuse(request: Request, refusal: &Refusal) -> Verdict {
    let log = request.connection().log();
    log.write(NGX_LOG_INFO, 0, format_args!("client sent {}", refusal.what));

    if refusal.is_malformed {
        request.note_malformed();
        return Verdict::Terminate;
    }

    Verdict::Refuse(refusal.status)
}

/// Sends an admitted CONNECT on its way; another request gets its content.
struct Departure;

impl PhaseHandler for Departure {
    fn handle(request: Request) -> Verdict {
        // After an internal redirect, by error_page say, the context is gone: what runs then is
        // the answer to a refused CONNECT.
        if request.is_connect() && request.has_context(crate::module()) {
            return tunnel::begin(request);
        }

        match auth::grant(request) {
            Some(()) => Verdict::Decline,
            None => Verdict::Refuse(500),
        }
    }
}
