//! Owns the client's end of a tunnel, for each version of HTTP: how it is opened, what it gives and takes,
//! and how it is finished.

use std::collections::TryReserveError;

use nginx_sys::ngx_err_t;
use proxy_connect_core::relay::{
    Drain, Fill, Frames, Layout, Lend, Received, Sent, Shut, Sink, Source,
};
#[cfg(not(http2))]
use proxy_connect_core::relay::{NoFrames, NoLoan};
use std::io::IoSlice;

use super::end::{End, EventError};
use super::list_of;
use super::pipe::Pipe;
use super::request::Request;
use super::socket::{Peeked, Socket};
#[cfg(http2)]
use super::stream::http2::Stream;

/// The client's end of a tunnel. What is done to a socket can be done in one of the arms only.
#[derive(Clone, Copy, Debug)]
pub enum Client {
    /// HTTP/1: the request has the connection, and its socket, for itself.
    Socket(Socket),
    /// HTTP/2: the request has a stream of it.
    #[cfg(http2)]
    Stream(Stream),
}

/// What a client is to learn of the end of its tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// Both sides came to their end of file.
    Complete,
    /// The upstream reset its connection.
    Reset,
    /// The tunnel was cut: by a timeout, a limit, a rule or an operator.
    Cut,
    /// The worker can't go on with it.
    Failed,
}

impl Client {
    /// The client's end of `request`. `None` for a request over a stream that is no CONNECT.
    pub fn of(request: Request) -> Option<Self> {
        if request.is_stream() {
            #[cfg(http2)]
            return Stream::of(request).map(Self::Stream);
            #[cfg(not(http2))]
            return None;
        }

        // SAFETY: a live request has an open connection, and one that is not over a stream is the
        // only one that uses it.
        unsafe { Socket::from_ptr(request.raw().connection) }.map(Self::Socket)
    }

    /// Whether it shares its connection with others.
    pub fn is_stream(self) -> bool {
        match self {
            Self::Socket(_) => false,
            #[cfg(http2)]
            Self::Stream(_) => true,
        }
    }

    /// Opens the tunnel of `request` with the answer `text`, whose status the access log tells. What is
    /// returned are the bytes that the client gets before all that the upstream sends.
    ///
    /// # Errors
    ///
    /// No memory; nothing was sent.
    pub fn open(
        self,
        request: Request,
        text: &[u8],
        status: u16,
    ) -> Result<Vec<u8>, TryReserveError> {
        match self {
            Self::Socket(socket) => {
                let text = list_of(text)?;

                socket.allow_partial_writes();
                socket.collect_records();
                request.note_response(status);
                Ok(text)
            }
            #[cfg(http2)]
            Self::Stream(stream) => {
                stream.open(request, text, status)?;
                Ok(Vec::new())
            }
        }
    }

    /// Lets pipes be drained into it, too, where it is one over TLS whose records the system makes (kTLS).
    pub fn splice_into_ktls(&mut self) {
        match self {
            Self::Socket(socket) => socket.splice_into_ktls(),
            // Its frames are the connection's.
            #[cfg(http2)]
            Self::Stream(_) => {}
        }
    }

    /// Finishes `request`, whose tunnel is over: the access log is written. The request is gone soon
    /// afterwards.
    pub fn finish(self, request: Request, finish: Finish) {
        match self {
            Self::Socket(socket) => {
                match finish {
                    Finish::Complete => request.note_complete(),
                    Finish::Reset => socket.abort(),
                    Finish::Cut | Finish::Failed => (),
                }

                request.terminate();
            }
            #[cfg(http2)]
            Self::Stream(stream) => {
                match finish {
                    Finish::Complete => request.note_complete(),
                    Finish::Reset | Finish::Cut => stream.reset(),
                    Finish::Failed => (),
                }

                stream.flush();
                request.terminate();
            }
        }
    }

    /// Why the client of `request` is gone, if it is, while its tunnel does not stand yet; 0 for an end
    /// of file.
    ///
    /// A client that sent bytes behind its CONNECT and then its end of file has only finished its
    /// part; one that sent nothing and closed is gone.
    pub fn departed(self, request: Request) -> Option<ngx_err_t> {
        let socket = match self {
            Self::Socket(socket) => socket,
            #[cfg(http2)]
            Self::Stream(stream) => return stream.is_reset().then_some(0),
        };

        if !socket.read().is_ready() {
            return None;
        }

        match socket.peek() {
            Peeked::Nothing => None,
            // The system keeps unread bytes in front of a reset.
            Peeked::Bytes => Some(socket.take_socket_error()).filter(|&errno| errno != 0),
            Peeked::Eof if request.has_early_bytes() => None,
            Peeked::Eof => Some(0),
            Peeked::Broken(errno) => Some(errno),
        }
    }

    /// Whether nothing has come from the client that nobody has read, and it has not left.
    pub fn is_quiet(self) -> bool {
        match self {
            Self::Socket(socket) => matches!(socket.peek(), Peeked::Nothing),
            #[cfg(http2)]
            Self::Stream(stream) => stream.is_quiet(),
        }
    }
}

impl<P: AsMut<Pipe>> Source<P> for Client {
    fn is_readable(&self) -> bool {
        match self {
            Self::Socket(socket) => Source::<P>::is_readable(socket),
            #[cfg(http2)]
            Self::Stream(stream) => Source::<P>::is_readable(stream),
        }
    }

    fn look(&mut self) -> Received {
        match self {
            Self::Socket(socket) => Source::<P>::look(socket),
            #[cfg(http2)]
            Self::Stream(stream) => Source::<P>::look(stream),
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Received {
        match self {
            Self::Socket(socket) => Source::<P>::receive(socket, buffer),
            #[cfg(http2)]
            Self::Stream(stream) => Source::<P>::receive(stream, buffer),
        }
    }

    fn receive_frames(&mut self, buffer: &mut [u8], layout: Layout, max: usize) -> Received {
        match self {
            Self::Socket(socket) => Source::<P>::receive_frames(socket, buffer, layout, max),
            #[cfg(http2)]
            Self::Stream(stream) => Source::<P>::receive_frames(stream, buffer, layout, max),
        }
    }

    fn lends(&mut self) -> Option<impl Lend> {
        match self {
            #[cfg(not(http2))]
            Self::Socket(_) => None::<NoLoan>,
            #[cfg(http2)]
            Self::Socket(_) => None,
            #[cfg(http2)]
            Self::Stream(stream) => Source::<P>::lends(stream),
        }
    }

    fn fills(&mut self) -> Option<impl Fill<P>> {
        match self {
            Self::Socket(socket) => socket.plain(),
            #[cfg(http2)]
            Self::Stream(_) => None,
        }
    }
}

impl<P: AsMut<Pipe>> Sink<P> for Client {
    fn send(&mut self, bytes: &[u8]) -> Sent {
        match self {
            Self::Socket(socket) => Sink::<P>::send(socket, bytes),
            #[cfg(http2)]
            Self::Stream(stream) => Sink::<P>::send(stream, bytes),
        }
    }

    fn send_pieces(&mut self, pieces: &[IoSlice<'_>]) -> Sent {
        match self {
            Self::Socket(socket) => Sink::<P>::send_pieces(socket, pieces),
            #[cfg(http2)]
            Self::Stream(stream) => Sink::<P>::send_pieces(stream, pieces),
        }
    }

    fn takes_loans(&self) -> bool {
        match self {
            Self::Socket(socket) => Sink::<P>::takes_loans(socket),
            #[cfg(http2)]
            Self::Stream(stream) => Sink::<P>::takes_loans(stream),
        }
    }

    fn frames(&mut self) -> Option<impl Frames> {
        match self {
            #[cfg(not(http2))]
            Self::Socket(_) => None::<NoFrames>,
            #[cfg(http2)]
            Self::Socket(_) => None,
            #[cfg(http2)]
            Self::Stream(stream) => Sink::<P>::frames(stream),
        }
    }

    fn shutdown(&mut self) -> Shut {
        match self {
            Self::Socket(socket) => Sink::<P>::shutdown(socket),
            #[cfg(http2)]
            Self::Stream(stream) => Sink::<P>::shutdown(stream),
        }
    }

    fn ends_by_closing(&self) -> bool {
        match self {
            Self::Socket(socket) => Sink::<P>::ends_by_closing(socket),
            #[cfg(http2)]
            Self::Stream(stream) => Sink::<P>::ends_by_closing(stream),
        }
    }

    fn drains(&mut self) -> Option<impl Drain<P>> {
        match self {
            Self::Socket(socket) => socket.taker(),
            #[cfg(http2)]
            Self::Stream(_) => None,
        }
    }
}

impl End for Client {
    fn watch(&self, room: usize) -> Result<(), EventError> {
        match self {
            Self::Socket(socket) => socket.watch(room),
            #[cfg(http2)]
            Self::Stream(stream) => stream.watch(room),
        }
    }

    fn post(&self) {
        match self {
            Self::Socket(socket) => socket.post(),
            #[cfg(http2)]
            Self::Stream(stream) => stream.post(),
        }
    }

    fn disregard(&self) -> Result<(), EventError> {
        match self {
            Self::Socket(socket) => socket.disregard(),
            #[cfg(http2)]
            Self::Stream(stream) => stream.disregard(),
        }
    }

    fn set_nodelay(&self) -> Result<(), EventError> {
        match self {
            Self::Socket(socket) => socket.set_nodelay(),
            #[cfg(http2)]
            Self::Stream(stream) => stream.set_nodelay(),
        }
    }

    fn is_settled(&self) -> bool {
        match self {
            Self::Socket(socket) => socket.is_settled(),
            #[cfg(http2)]
            Self::Stream(stream) => stream.is_settled(),
        }
    }

    fn abort(&self) {
        match self {
            Self::Socket(socket) => socket.abort(),
            #[cfg(http2)]
            Self::Stream(stream) => stream.abort(),
        }
    }
}
