//! Owns the calls to the system that std does not have: epoll, sockets that never block, splice, the
//! CPU clock of a process, limits, a network namespace. All `unsafe` of the bench stands here.

use std::io::{self, Error, ErrorKind, IoSlice};
use std::mem;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::time::Duration;

/// Ready to be read.
pub const READ: u32 = libc::EPOLLIN as u32;
/// Ready to be written to.
pub const WRITE: u32 = libc::EPOLLOUT as u32;

/// How many events one wait reports at most.
const EVENTS: usize = 512;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn check_size(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| Error::last_os_error())
}

/// Whether this is only "not now".
pub fn would_block(error: &Error) -> bool {
    error.kind() == ErrorKind::WouldBlock
}

/// An epoll instance with the events of its last wait.
pub struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    /// A new one, with no descriptor in it.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointer is passed; the descriptor is new and owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };

        Ok(Epoll { fd, events: Vec::with_capacity(EVENTS) })
    }

    fn control(
        &self,
        operation: libc::c_int,
        fd: RawFd,
        token: u64,
        events: u32,
    ) -> io::Result<()> {
        let mut event = libc::epoll_event { events, u64: token };

        // SAFETY: `event` is a valid epoll_event during the call.
        check(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd, &mut event) })?;
        Ok(())
    }

    /// Watches a descriptor, level-triggered unless `events` says otherwise.
    pub fn add(&self, fd: RawFd, token: u64, events: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, events)
    }

    /// Changes what is watched for.
    pub fn modify(&self, fd: RawFd, token: u64, events: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, events)
    }

    /// Waits; the number of events that there are.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let millis = timeout.map_or(-1, |time| time.as_millis().min(60_000) as libc::c_int);

        // SAFETY: the vector has room for EVENTS events, and the kernel writes at most that many.
        let count = unsafe {
            libc::epoll_wait(
                self.fd.as_raw_fd(),
                self.events.as_mut_ptr(),
                EVENTS as libc::c_int,
                millis,
            )
        };

        let count = match check(count) {
            Ok(count) => count as usize,
            Err(error) if error.kind() == ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };

        // SAFETY: the kernel has written `count` events, which is at most the capacity.
        unsafe { self.events.set_len(count) };
        Ok(count)
    }

    /// Token and events of one of the last wait.
    pub fn event(&self, index: usize) -> (u64, u32) {
        let event = self.events[index];
        (event.u64, event.events)
    }
}

/// A TCP socket that never blocks.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn loopback(port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
        sin_zero: [0; 8],
    }
}

const SOCKADDR_LEN: libc::socklen_t = mem::size_of::<libc::sockaddr_in>() as libc::socklen_t;

impl Socket {
    fn new() -> io::Result<Self> {
        let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;

        // SAFETY: no pointer is passed; the descriptor is new and owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(check(libc::socket(libc::AF_INET, kind, 0))?) };
        Ok(Socket(fd))
    }

    /// Begins a connect to a port of 127.0.0.1; writable when it is done.
    pub fn connect(port: u16) -> io::Result<Self> {
        let socket = Self::new()?;
        let address = loopback(port);

        socket.set(libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;

        // SAFETY: `address` is a sockaddr_in of the length passed.
        let result = check(unsafe {
            libc::connect(socket.as_raw_fd(), ptr::from_ref(&address).cast(), SOCKADDR_LEN)
        });

        match result {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(socket),
        }
    }

    /// Listens on a free port of 127.0.0.1.
    pub fn listen(port: u16) -> io::Result<Self> {
        let socket = Self::new()?;
        let address = loopback(port);

        socket.set(libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;

        // SAFETY: `address` is a sockaddr_in of the length passed.
        check(unsafe {
            libc::bind(socket.as_raw_fd(), ptr::from_ref(&address).cast(), SOCKADDR_LEN)
        })?;
        // SAFETY: no pointer is passed.
        check(unsafe { libc::listen(socket.as_raw_fd(), 4096) })?;

        Ok(socket)
    }

    /// The port it is bound to.
    pub fn port(&self) -> io::Result<u16> {
        let mut address = loopback(0);
        let mut length = SOCKADDR_LEN;

        // SAFETY: both pointers are valid, and `length` is the size of the address.
        check(unsafe {
            libc::getsockname(self.as_raw_fd(), ptr::from_mut(&mut address).cast(), &mut length)
        })?;

        Ok(u16::from_be(address.sin_port))
    }

    /// The next connection.
    pub fn accept(&self) -> io::Result<Socket> {
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;

        // SAFETY: null pointers mean that the address is not asked for.
        let fd = check(unsafe {
            libc::accept4(self.as_raw_fd(), ptr::null_mut(), ptr::null_mut(), flags)
        })?;
        // SAFETY: the descriptor is new and owned by nobody else.
        let socket = Socket(unsafe { OwnedFd::from_raw_fd(fd) });

        socket.set(libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
        Ok(socket)
    }

    fn set(&self, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
        // SAFETY: `value` is an int, as the length says.
        check(unsafe {
            libc::setsockopt(
                self.as_raw_fd(),
                level,
                option,
                ptr::from_ref(&value).cast(),
                mem::size_of::<libc::c_int>() as libc::socklen_t,
            )
        })?;
        Ok(())
    }

    /// What became of a connect.
    pub fn take_error(&self) -> io::Result<()> {
        let mut value: libc::c_int = 0;
        let mut length = mem::size_of::<libc::c_int>() as libc::socklen_t;

        // SAFETY: both pointers are valid, and `length` is the size of the value.
        check(unsafe {
            libc::getsockopt(
                self.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ERROR,
                ptr::from_mut(&mut value).cast(),
                &mut length,
            )
        })?;

        match value {
            0 => Ok(()),
            code => Err(Error::from_raw_os_error(code)),
        }
    }

    /// Sends what the socket takes.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        // SAFETY: pointer and length are those of the slice.
        check_size(unsafe {
            libc::send(
                self.as_raw_fd(),
                bytes.as_ptr().cast(),
                bytes.len(),
                libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT,
            )
        })
    }

    /// The same of two pieces.
    pub fn send_pieces(&self, pieces: &[IoSlice<'_>; 2]) -> io::Result<usize> {
        // SAFETY: an IoSlice is an iovec, and the bytes are only read.
        check_size(unsafe { libc::writev(self.as_raw_fd(), pieces.as_ptr().cast(), 2) })
    }

    /// Reads what there is, 0 at the end.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // SAFETY: pointer and length are those of the slice.
        check_size(unsafe {
            libc::recv(self.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0)
        })
    }

    /// Takes up to `length` bytes off the socket without copying them anywhere, 0 at the end.
    pub fn discard(&self, length: usize) -> io::Result<usize> {
        // SAFETY: a TCP socket with MSG_TRUNC drops the bytes and writes nothing (tcp(7)).
        check_size(unsafe {
            libc::recv(self.as_raw_fd(), ptr::null_mut(), length, libc::MSG_TRUNC)
        })
    }

    /// Lets the close of this socket be a reset.
    pub fn reset_at_close(&self) -> io::Result<()> {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };

        // SAFETY: `linger` is of the length passed.
        check(unsafe {
            libc::setsockopt(
                self.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                ptr::from_ref(&linger).cast(),
                mem::size_of::<libc::linger>() as libc::socklen_t,
            )
        })?;
        Ok(())
    }

    /// The half-close.
    pub fn shutdown_write(&self) -> io::Result<()> {
        // SAFETY: no pointer is passed.
        check(unsafe { libc::shutdown(self.as_raw_fd(), libc::SHUT_WR) })?;
        Ok(())
    }
}

/// A pipe for splice.
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    /// A pipe that holds `size` bytes.
    pub fn new(size: usize) -> io::Result<Self> {
        let mut fds = [0; 2];

        // SAFETY: the kernel writes two descriptors into the array, owned by nobody else.
        let (read, write) = unsafe {
            check(libc::pipe2(fds.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC))?;
            (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1]))
        };

        // SAFETY: no pointer is passed.
        check(unsafe { libc::fcntl(write.as_raw_fd(), libc::F_SETPIPE_SZ, size as libc::c_int) })?;
        Ok(Pipe { read, write })
    }

    /// From the socket into the pipe, 0 at the end.
    pub fn fill(&self, from: &Socket, length: usize) -> io::Result<usize> {
        splice(from.as_raw_fd(), self.write.as_raw_fd(), length)
    }

    /// From the pipe to the socket.
    pub fn drain(&self, to: &Socket, length: usize) -> io::Result<usize> {
        splice(self.read.as_raw_fd(), to.as_raw_fd(), length)
    }
}

fn splice(from: RawFd, to: RawFd, length: usize) -> io::Result<usize> {
    let flags = libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MOVE;

    // SAFETY: null offsets mean that neither descriptor has a position.
    check_size(unsafe { libc::splice(from, ptr::null_mut(), to, ptr::null_mut(), length, flags) })
}

/// The CPU time of a process, all of its threads, those that ended included.
pub fn process_cpu(pid: u32) -> io::Result<Duration> {
    let mut clock: libc::clockid_t = 0;

    // SAFETY: `clock` is valid; this function returns the error itself.
    match unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) } {
        0 => read_clock(clock),
        code => Err(Error::from_raw_os_error(code)),
    }
}

/// The CPU time of the calling thread.
pub fn own_cpu() -> io::Result<Duration> {
    read_clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn read_clock(clock: libc::clockid_t) -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };

    // SAFETY: `time` is a valid timespec.
    check(unsafe { libc::clock_gettime(clock, &mut time) })?;
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// Moves the calling thread, and the children that it starts from now on, into a new network namespace
/// with nothing but a loopback, which is up.
pub fn own_network() -> io::Result<()> {
    // SAFETY: no pointer is passed.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;

    let socket = Socket::new()?;

    // SAFETY: an ifreq is integers, addresses and one pointer, for which zero is a value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };

    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }

    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;

    // SAFETY: the request is an ifreq with a name that ends, and with flags, as netdevice(7) says.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) })?;
    Ok(())
}

/// Raises the limit of open files as far as may be; what it is then.
pub fn raise_file_limit(wanted: u64) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };

    // SAFETY: `limit` is valid.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;

    if limit.rlim_cur >= wanted {
        return Ok(limit.rlim_cur);
    }

    // Only root may raise the hard limit.
    for hard in [limit.rlim_max.max(wanted), limit.rlim_max] {
        let raised = libc::rlimit { rlim_cur: wanted.min(hard), rlim_max: hard };

        // SAFETY: `raised` is valid.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) } == 0 {
            return Ok(raised.rlim_cur);
        }
    }

    Ok(limit.rlim_cur)
}

/// The CPUs that a process may run on.
#[derive(Clone, Copy)]
pub struct Cpus(libc::cpu_set_t);

impl Cpus {
    /// Those of the calling thread.
    pub fn own() -> io::Result<Self> {
        // SAFETY: a cpu_set_t is an array of integers, for which zero is a value.
        let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };

        // SAFETY: `set` is of the length passed; 0 means the calling thread.
        check(unsafe { libc::sched_getaffinity(0, mem::size_of_val(&set), &mut set) })?;
        Ok(Cpus(set))
    }

    /// The first of them, and the others; None where there is only one.
    pub fn split_first(mut self) -> Option<(Self, Self)> {
        // SAFETY: a cpu_set_t is an array of integers, for which zero is a value.
        let mut first: libc::cpu_set_t = unsafe { mem::zeroed() };
        let all = 0..libc::CPU_SETSIZE as usize;

        // SAFETY: `cpu` is below CPU_SETSIZE.
        let cpu = all.clone().find(|cpu| unsafe { libc::CPU_ISSET(*cpu, &self.0) })?;

        // SAFETY: `cpu` is below CPU_SETSIZE, in all three.
        let others = unsafe {
            libc::CPU_SET(cpu, &mut first);
            libc::CPU_CLR(cpu, &mut self.0);
            libc::CPU_COUNT(&self.0)
        };

        (others > 0).then_some((Cpus(first), self))
    }

    /// Keeps the calling thread there.
    pub fn pin(&self) -> io::Result<()> {
        // SAFETY: the set is of the length passed; 0 means the calling thread.
        check(unsafe { libc::sched_setaffinity(0, mem::size_of_val(&self.0), &self.0) })?;
        Ok(())
    }
}

/// The child runs on these CPUs, and gets SIGTERM when the bench ends, in whatever way.
pub fn prepare_child(command: &mut Command, cpus: Option<Cpus>) {
    // SAFETY: between fork and exec only prctl and sched_setaffinity are called, which are plain
    // system calls.
    unsafe {
        command.pre_exec(move || {
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM))?;
            cpus.map_or(Ok(()), |cpus| cpus.pin())
        });
    }
}

/// Sends a signal to one process.
pub fn signal(pid: u32, signal: libc::c_int) {
    // SAFETY: no pointer is passed. A process that has ended already is no error here.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}

/// Whether something accepts connections there.
pub fn accepts(port: u16) -> bool {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
}
