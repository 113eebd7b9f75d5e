//! Owns which addresses are this host's own. They change while nginx runs: the system is asked each time.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nginx_sys::ngx_listening_t;

use super::addr::Addr;

/// Whether a connect to `addr` would come to this host, or to what this nginx listens on.
///
/// # Errors
///
/// The system can't tell: it has no descriptor or memory left.
pub fn has(addr: IpAddr) -> io::Result<bool> {
    if listeners().any(|listener| listener.ip() == Some(addr)) {
        return Ok(true);
    }

    is_local(addr)
}

/// Whether a connect to `addr`, with its port, would come to this nginx itself.
///
/// # Errors
///
/// As for [`has`].
pub fn listens_at(addr: &Addr) -> io::Result<bool> {
    if let Some(path) = addr.unix_path() {
        return Ok(listens_on(&path));
    }

    let Some(ip) = addr.ip().map(|ip| ip.to_canonical()) else {
        return Ok(false);
    };

    let mut everywhere = false;

    for listener in listeners().filter(|listener| listener.port() == addr.port()) {
        match listener.ip().map(|ip| ip.to_canonical()) {
            Some(own) if own == ip => return Ok(true),
            Some(own) => everywhere |= own.is_unspecified(),
            None => {}
        }
    }

    Ok(everywhere && is_local(ip)?)
}

/// Whether this nginx listens on the unix socket of that path, under whatever name.
pub fn listens_on(path: &[u8]) -> bool {
    let identity = |path: &[u8]| {
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
    };

    let wanted = identity(path);

    listeners().any(|listener| match listener.unix_path() {
        Some(own) => own == path || (wanted.is_some() && identity(&own) == wanted),
        None => false,
    })
}

/// The addresses that this nginx listens on.
fn listeners() -> impl Iterator<Item = Addr> {
    // SAFETY: a worker has a cycle, whose array of listening sockets does not change while it runs.
    let listening: &[ngx_listening_t] = unsafe { (*nginx_sys::ngx_cycle).listening.as_slice() };

    // SAFETY: each has an address of that length.
    listening
        .iter()
        .filter_map(|listener| unsafe { Addr::copy(listener.sockaddr, listener.socklen) })
}

/// Whether the system would keep what is sent to `addr` for itself. A system whose routes can't be asked for, or
/// may not, tells by letting a socket have the address or not.
fn is_local(addr: IpAddr) -> io::Result<bool> {
    #[cfg(target_os = "linux")]
    if let Some(is_local) = route::is_local(addr) {
        return Ok(is_local);
    }

    match UdpSocket::bind((addr, 0)) {
        Ok(_) => Ok(true),
        Err(error) => match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS) => Err(error),
            _ => Ok(false),
        },
    }
}

/// The question to Linux which way it would send, in the messages of rtnetlink(7): what `ip route get` asks.
#[cfg(target_os = "linux")]
mod route {
    use std::cell::RefCell;
    use std::io;
    use std::net::IpAddr;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

    /// The length of a `struct nlmsghdr`.
    const HEADER: usize = 16;
    /// The length of a `struct rtmsg`.
    const ROUTE: usize = 12;
    /// The length of a `struct rtattr`.
    const ATTRIBUTE: usize = 4;
    /// Where a message of a route has its `rtm_type`.
    const TYPE: usize = HEADER + 7;

    /// A socket to ask with, and the number of the last question.
    struct Asking {
        socket: OwnedFd,
        number: u32,
    }

    thread_local! {
        /// The worker's, which opens it for the first question: to open one costs more than to ask.
        static ASKING: RefCell<Option<Asking>> = const { RefCell::new(None) };
    }

    /// Whether the route to `addr` ends here. `None` where there is no asking.
    pub fn is_local(addr: IpAddr) -> Option<bool> {
        let mut answer = [0; 512];
        let asked = ASKING.with_borrow_mut(|asking| {
            let asked = ask(asking, addr, &mut answer);

            // What is left to read there would be taken for the next answer.
            if asked.is_err() {
                *asking = None;
            }

            asked
        });

        let answer = &answer[..asked.ok()?];

        match (kind(answer)?, answer.get(TYPE)) {
            (libc::RTM_NEWROUTE, Some(kind)) => {
                Some(matches!(*kind, libc::RTN_LOCAL | libc::RTN_ANYCAST))
            }
            // There is no route, and no way to connect.
            (kind, _) => (i32::from(kind) == libc::NLMSG_ERROR).then_some(false),
        }
    }

    fn kind(message: &[u8]) -> Option<u16> {
        let [_, _, _, _, a, b, ..] = message else {
            return None;
        };

        Some(u16::from_ne_bytes([*a, *b]))
    }

    fn number(message: &[u8]) -> Option<u32> {
        let [_, _, _, _, _, _, _, _, a, b, c, d, ..] = message else {
            return None;
        };

        Some(u32::from_ne_bytes([*a, *b, *c, *d]))
    }

    fn question(addr: IpAddr, number: u32) -> Vec<u8> {
        let (family, octets) = match addr {
            IpAddr::V4(addr) => (libc::AF_INET, addr.octets().to_vec()),
            IpAddr::V6(addr) => (libc::AF_INET6, addr.octets().to_vec()),
        };

        let len = HEADER + ROUTE + ATTRIBUTE + octets.len();
        let mut message = Vec::with_capacity(len);

        message.extend((len as u32).to_ne_bytes());
        message.extend(libc::RTM_GETROUTE.to_ne_bytes());
        message.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
        message.extend(number.to_ne_bytes());
        // The port, which is the system's to fill.
        message.extend([0; 4]);

        message.extend([family as u8, octets.len() as u8 * 8]);
        message.extend([0; ROUTE - 2]);

        message.extend(((ATTRIBUTE + octets.len()) as u16).to_ne_bytes());
        message.extend(libc::RTA_DST.to_ne_bytes());
        message.extend(octets);

        message
    }

    /// Asks the system, which has answered when the call is over. How long the answer is.
    fn ask(asking: &mut Option<Asking>, addr: IpAddr, answer: &mut [u8]) -> io::Result<usize> {
        let asking = match asking {
            Some(asking) => asking,
            None => asking.insert(Asking { socket: open()?, number: 0 }),
        };

        asking.number = asking.number.wrapping_add(1);

        let question = question(addr, asking.number);
        let fd = asking.socket.as_raw_fd();

        // SAFETY: both buffers have the lengths that are passed with them.
        let len = unsafe {
            let sent = libc::send(fd, question.as_ptr().cast(), question.len(), libc::MSG_DONTWAIT);
            if sent == -1 {
                return Err(io::Error::last_os_error());
            }
            libc::recv(fd, answer.as_mut_ptr().cast(), answer.len(), libc::MSG_DONTWAIT)
        };

        match usize::try_from(len) {
            Ok(len) if number(&answer[..len]) == Some(asking.number) => Ok(len),
            Ok(_) => Err(io::ErrorKind::InvalidData.into()),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }

    fn open() -> io::Result<OwnedFd> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;

        // SAFETY: a call without pointers; the descriptor is nobody else's.
        unsafe {
            match libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) {
                -1 => Err(io::Error::last_os_error()),
                fd => Ok(OwnedFd::from_raw_fd(fd)),
            }
        }
    }
}
