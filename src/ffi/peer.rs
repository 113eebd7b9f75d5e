//! Owns connecting to an upstream, and the events of its connection.

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use nginx_sys::{
    ngx_addr_t, ngx_connection_log_error_e_NGX_ERROR_INFO as NGX_ERROR_INFO, ngx_connection_t,
    ngx_err_t, ngx_event_t, ngx_msec_t, ngx_peer_connection_t, ngx_str_t,
};
use proxy_connect_core::relay::Side;

use super::addr::Addr;
use super::before_connect::{connect_prepared, Preparation, Unprepared};
use super::boundary::guard;
use super::client_tls::{self, Context, Handshake};
use super::event::{Alarm, Event, EventHandler};
use super::ngx_event::NgxEvent;
use super::request::Request;
use super::socket::{Socket, SocketOptions};
use super::variable::NoMemory;
use super::{code, str_of};

/// The connection to an upstream. Dropped, it is closed.
///
/// A connection of nginx's has room for two timers. Those of a client's are nginx's own; those of a peer's
/// are the tunnel's, one for each purpose.
pub struct Peer(Socket);

/// What the timer of the read event is for.
const READ_TIMER: Alarm = Alarm::Data;

/// What the timer of the write event is for.
const WRITE_TIMER: Alarm = Alarm::Parting;

/// How a connect began.
pub enum Begun {
    /// The connection stands.
    Connected(Peer),
    /// The handler will hear of it.
    InProgress(Peer),
}

/// A connect that failed at once. nginx logged it.
pub struct ConnectError {
    /// The system's reason, 0 when it isn't known.
    pub errno: ngx_err_t,
    /// What this host has too little of, so that no other address can be connected to either.
    pub lack: Option<Lack>,
}

/// What a host may have too little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Connections of the worker.
    Connections,
    /// Descriptors of the worker, or of the system.
    Descriptors,
    /// Memory of the system, or the number of descriptors that epoll may watch.
    Memory,
    /// The right to set this option of a socket, or the option.
    Option(&'static str),
}

/// From where a connection to an upstream goes out.
#[derive(Clone, Copy)]
pub struct Local {
    /// The address to bind to.
    pub addr: Addr,
    /// The address need not be one of this host.
    pub transparent: bool,
    /// The address need not be one of this host yet, but what is sent to it has to find the way here. Linux has it.
    pub freebind: bool,
}

/// Connects to an upstream for `request`; `H` hears of its events.
///
/// # Errors
///
/// [`ConnectError`] when there is no socket, the local address can't be bound, or the connect is
/// refused at once.
pub fn connect<H: EventHandler>(
    request: Request,
    addr: &Addr,
    local: Option<&Local>,
    options: &SocketOptions,
) -> Result<Begun, ConnectError> {
    let text = addr.text();
    let mut name = str_of(text.as_bytes());
    let mut addr = *addr;
    // An address that need not be there is bound to by itself; "transparent" says all of that, and more.
    let (local, freebind) = match local {
        Some(local) if local.freebind && !local.transparent => (None, Some(local.addr)),
        local => (local, None),
    };
    let mark = options.mark.filter(|_| !addr.is_unix());
    let mut bind = local.map(|local| (local.addr, local.addr.text()));
    let mut bind = bind.as_mut().map(|(addr, text)| ngx_addr_t {
        sockaddr: addr.as_mut_ptr(),
        socklen: addr.len(),
        name: str_of(text.as_bytes()),
    });

    let mut pc = MaybeUninit::<ngx_peer_connection_t>::zeroed();

    // SAFETY: all-zero bytes are an ngx_peer_connection_t, as nginx itself makes them.
    let pc = unsafe { pc.assume_init_mut() };

    fill(pc, request, &mut addr, &mut name);
    pc.local = bind.as_mut().map_or(std::ptr::null_mut(), std::ptr::from_mut);
    pc.set_transparent(u32::from(local.is_some_and(|local| local.transparent)));
    pc.rcvbuf = options.rcvbuf.unwrap_or_default();

    nginx_sys::ngx_set_socket_errno(0);

    // SAFETY: all that `pc` points to outlives the call, and the connection keeps none of it.
    let rc = unsafe { connect_prepared(pc, Preparation { mark, freebind }) };

    // SAFETY: null, or a connection that is open from now on, on a socket of its own.
    let socket = unsafe { Socket::from_ptr(pc.connection) };

    let Some(socket) = socket else {
        return Err(rc.err().map_or_else(ConnectError::now, ConnectError::from));
    };

    let peer = Peer(socket);
    peer.attach::<H>(request);

    if let Some(size) = options.sndbuf {
        socket.set_sndbuf(size);
    }

    match rc? {
        code::OK => Ok(Begun::Connected(peer)),
        code::AGAIN => Ok(Begun::InProgress(peer)),
        _ => Err(ConnectError::now()),
    }
}

fn fill(pc: &mut ngx_peer_connection_t, request: Request, addr: &mut Addr, name: &mut ngx_str_t) {
    pc.socklen = addr.len();
    pc.sockaddr = addr.as_mut_ptr();
    pc.name = name;
    pc.get = Some(nginx_sys::ngx_event_get_peer);
    pc.log = request.connection().log().as_ptr();
    // What breaks a connection in a tunnel is the ends' affair, not the operator's.
    pc.set_log_error(NGX_ERROR_INFO);
}

impl ConnectError {
    /// The error of the connect that has just failed.
    fn now() -> Self {
        let errno = nginx_sys::ngx_socket_errno();

        let lack = match errno {
            libc::EMFILE | libc::ENFILE => Some(Lack::Descriptors),
            libc::ENOMEM | libc::ENOBUFS | libc::ENOSPC => Some(Lack::Memory),
            _ if !has_free_connection() => Some(Lack::Connections),
            _ => None,
        };

        match lack {
            // What the system said last is about something else.
            Some(Lack::Connections) => Self { errno: 0, lack },
            _ => Self { errno, lack },
        }
    }
}

impl From<Unprepared> for ConnectError {
    fn from(Unprepared { errno, option }: Unprepared) -> Self {
        Self { errno, lack: option.map(Lack::Option) }
    }
}

fn has_free_connection() -> bool {
    // SAFETY: a worker has a cycle, whose list of connections only this thread changes.
    unsafe { !(*nginx_sys::ngx_cycle).free_connections.is_null() }
}

impl Peer {
    /// The connection's socket.
    pub fn socket(&self) -> Socket {
        self.0
    }

    /// Begins a handshake with the upstream, which is to be of that name, and is told it if `tells_name`; `H` hears when
    /// the handshake is over.
    ///
    /// # Errors
    ///
    /// It can't begin, for want of memory say.
    pub fn begin_tls<H: EventHandler>(
        &self,
        context: Context,
        name: &[u8],
        tells_name: bool,
    ) -> Result<Handshake, NoMemory> {
        // SAFETY: an open connection that has no TLS yet; its data is a request that lives.
        unsafe {
            let handler = on_handshaken::<H>;
            client_tls::begin(context, self.0.as_ptr(), name, tells_name, handler)
        }
    }

    /// How far the handshake is that was begun, once its end was told.
    pub fn handshake(&self) -> Handshake {
        // SAFETY: an open connection.
        unsafe { client_tls::handshake(self.0.as_ptr()) }
    }

    /// What is wrong with the certificate of the upstream, which is to be one of that name; `None` if nothing is. The
    /// handshake must be done.
    pub fn complaint_about_certificate(&self, name: &[u8]) -> Option<&'static str> {
        // SAFETY: an open connection over TLS.
        unsafe { client_tls::verify(self.0.as_ptr(), name) }
    }

    /// How many bytes the upstream was sent.
    pub fn sent(&self) -> u64 {
        u64::try_from(self.0.sent()).unwrap_or_default()
    }

    /// Has [`Alarm::Data`] expire `msec` milliseconds from now. nginx does not move a timer that runs by
    /// less than 300 ms.
    pub fn set_data_timer(&self, msec: ngx_msec_t) {
        self.0.read().set_timer(msec);
    }

    /// Has it not expire.
    pub fn stop_data_timer(&self) {
        self.0.read().stop_timer();
    }

    /// The same as [`Peer::set_data_timer`] for [`Alarm::Parting`].
    pub fn set_parting_timer(&self, msec: ngx_msec_t) {
        self.0.write().set_timer(msec);
    }

    fn attach<H: EventHandler>(&self, request: Request) {
        let connection = self.0.as_ptr();

        // SAFETY: an open connection that nobody else knows yet. The request closes it before
        // it ends itself, so `data` stays good.
        unsafe {
            (*connection).data = request.as_ptr().cast();
            (*connection).log = request.connection().log().as_ptr();
            handle::<H>(connection);
        }
    }
}

/// # Safety
///
/// `connection` must be open.
unsafe fn handle<H: EventHandler>(connection: *mut ngx_connection_t) {
    // SAFETY: the caller's promise.
    unsafe {
        (*(*connection).read).handler = Some(on_readable::<H>);
        (*(*connection).write).handler = Some(on_writable::<H>);
    }
}

/// nginx calls this when a handshake is over, whose events had its own handlers.
unsafe extern "C" fn on_handshaken<H: EventHandler>(connection: *mut ngx_connection_t) {
    // SAFETY: nginx calls it with the open connection that begin_tls() began with.
    unsafe {
        handle::<H>(connection);
        let event = Event::Readable(Side::Upstream);
        on_event((*connection).read, H::handle, event, READ_TIMER);
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // SAFETY: an open connection that only this value owns. nginx removes its timers and
        // posted events.
        unsafe { client_tls::close(self.0.as_ptr()) };
    }
}

unsafe extern "C" fn on_readable<H: EventHandler>(event: *mut ngx_event_t) {
    // SAFETY: nginx calls a handler with the event of an open connection, whose data attach()
    // set to a request that lives.
    unsafe { on_event(event, H::handle, Event::Readable(Side::Upstream), READ_TIMER) };
}

unsafe extern "C" fn on_writable<H: EventHandler>(event: *mut ngx_event_t) {
    // SAFETY: as above.
    unsafe { on_event(event, H::handle, Event::Writable(Side::Upstream), WRITE_TIMER) };
}

/// # Safety
///
/// `event` must be one of an open connection whose data is a request that lives.
unsafe fn on_event(
    event: *mut ngx_event_t,
    handle: fn(Request, Event),
    readiness: Event,
    timer: Alarm,
) {
    // SAFETY: the caller's promise.
    let (request, is_closing, has_expired) = unsafe {
        let connection = (*event).data.cast::<nginx_sys::ngx_connection_t>();

        (
            NonNull::new((*connection).data.cast()).map(|request| Request::from_non_null(request)),
            (*connection).close() != 0,
            NgxEvent::from_ptr(event).is_some_and(NgxEvent::take_timedout),
        )
    };

    let event = match (is_closing, has_expired) {
        (true, _) => Event::Closing(Side::Upstream),
        (false, true) => Event::Expired(timer),
        (false, false) => readiness,
    };

    if let Some(request) = request {
        request.run(handle, event);
    }
}

impl Request {
    /// Has `handle` take an event that did not come through the client's connection: with the log's
    /// context set, and with what was posted to the request run after it.
    pub fn run(self, handle: fn(Self, Event), event: Event) {
        let client = self.connection();
        self.set_log_context();

        guard(client.log(), || handle(self, event), || self.fail());

        // SAFETY: nginx keeps the memory of a connection that the callback closed, and checks
        // that it is not.
        unsafe { nginx_sys::ngx_http_run_posted_requests(client.as_ptr()) };
    }
}
