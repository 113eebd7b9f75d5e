//! Owns one end of a connection as the driver uses it: plain TCP, or TLS as a client over it.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::crypto::{ring, CryptoProvider};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, NamedGroup,
    SignatureScheme,
};

use crate::http2::Tunnel;
use crate::sys::Socket;

/// How much one call moves at most.
pub const CHUNK: usize = 256 * 1024;

/// How much plain text is given to TLS before it must be on the socket.
const TLS_CHUNK: usize = 64 * 1024;

/// A connection.
pub enum Wire {
    /// TCP.
    Plain(Socket),
    /// TLS over TCP.
    Tls(Box<TlsWire>),
    /// A stream of a connection of HTTP/2.
    Stream(Tunnel),
}

/// A TLS client over a socket.
pub struct TlsWire {
    socket: Socket,
    session: ClientConnection,
}

/// The socket as TLS reads and writes it.
struct Through<'a>(&'a Socket);

impl Read for Through<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.recv(buffer)
    }
}

impl Write for Through<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a client of TLS sends first to the server of this name.
pub fn client_hello(name: &'static str) -> io::Result<Vec<u8>> {
    let name = ServerName::try_from(name).map_err(io::Error::other)?;
    let mut session = ClientConnection::new(client_config()?, name).map_err(io::Error::other)?;
    let mut hello = Vec::new();

    while session.wants_write() {
        session.write_tls(&mut hello)?;
    }

    Ok(hello)
}

impl TlsWire {
    /// Takes in what the socket has; false at its end.
    fn pull(&mut self) -> io::Result<bool> {
        let more = self.session.read_tls(&mut Through(&self.socket))? > 0;
        self.session.process_new_packets().map_err(io::Error::other)?;
        Ok(more)
    }

    /// Puts on the socket what it takes; true if nothing is left.
    fn push(&mut self) -> io::Result<bool> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut Through(&self.socket)) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }

        Ok(true)
    }

    fn handshake(&mut self) -> io::Result<bool> {
        while self.session.is_handshaking() {
            self.push()?;

            if !self.session.is_handshaking() {
                break;
            }

            match self.pull() {
                Ok(true) => {}
                Ok(false) => return Err(ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }

        self.push()
    }

    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => return other,
            }

            if !self.pull()? {
                return Ok(0);
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.push()? {
            return Err(ErrorKind::WouldBlock.into());
        }

        let length = bytes.len().min(TLS_CHUNK);
        let taken = self.session.writer().write(&bytes[..length])?;

        self.push()?;
        Ok(taken)
    }
}

impl TlsWire {
    fn send_pieces(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.push()? {
            return Err(ErrorKind::WouldBlock.into());
        }

        let taken = self.session.writer().write_vectored(pieces)?;

        self.push()?;
        Ok(taken)
    }
}

impl Wire {
    /// The socket as it is, or a TLS client over it.
    pub fn new(socket: Socket, tls: Option<&Arc<ClientConfig>>) -> io::Result<Self> {
        let Some(config) = tls else {
            return Ok(Wire::Plain(socket));
        };

        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let session = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;

        Ok(Wire::Tls(Box::new(TlsWire { socket, session })))
    }

    /// The socket, which a stream has none of its own of.
    pub fn socket(&self) -> Option<&Socket> {
        match self {
            Wire::Plain(socket) => Some(socket),
            Wire::Tls(tls) => Some(&tls.socket),
            Wire::Stream(_) => None,
        }
    }

    /// The descriptor to watch, if there is one.
    pub fn fd(&self) -> Option<RawFd> {
        self.socket().map(AsRawFd::as_raw_fd)
    }

    /// Goes on with the handshake; true when it is done.
    pub fn handshake(&mut self) -> io::Result<bool> {
        match self {
            Wire::Plain(_) | Wire::Stream(_) => Ok(true),
            Wire::Tls(tls) => tls.handshake(),
        }
    }

    /// Whether the handshake went on with a session of before.
    pub fn is_resumed(&self) -> bool {
        match self {
            Wire::Plain(_) | Wire::Stream(_) => false,
            Wire::Tls(tls) => tls.session.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }

    /// Sends what can be sent.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(socket) => socket.send(bytes),
            Wire::Tls(tls) => tls.send(bytes),
            Wire::Stream(tunnel) => tunnel.send(bytes),
        }
    }

    /// Sends what can be sent of two pieces.
    pub fn send_pieces(&mut self, pieces: &[IoSlice<'_>; 2]) -> io::Result<usize> {
        match self {
            Wire::Plain(socket) => socket.send_pieces(pieces),
            Wire::Tls(tls) => tls.send_pieces(pieces),
            Wire::Stream(tunnel) => tunnel.send(&pieces[0]),
        }
    }

    /// Puts on the socket what TLS still holds; true if nothing is left.
    pub fn flush(&mut self) -> io::Result<bool> {
        match self {
            // A stream's go out with those of others.
            Wire::Plain(_) | Wire::Stream(_) => Ok(true),
            Wire::Tls(tls) => tls.push(),
        }
    }

    /// Reads, 0 at the end.
    pub fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(socket) => socket.recv(buffer),
            Wire::Tls(tls) => tls.recv(buffer),
            Wire::Stream(tunnel) => tunnel.take(buffer.len()),
        }
    }

    /// Reads as many bytes as `scratch` is long, of which nobody wants to know more than how many.
    /// TCP need not copy them.
    pub fn discard(&mut self, scratch: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(socket) => socket.discard(scratch.len()),
            Wire::Tls(tls) => tls.recv(scratch),
            Wire::Stream(tunnel) => tunnel.take(usize::MAX),
        }
    }
}

/// The same for a client of HTTP/2.
pub fn http2_config() -> io::Result<Arc<ClientConfig>> {
    let mut config = ClientConfig::clone(&*client_config()?);
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// TLS as the driver's clients speak it: each handshake a full one, any certificate will do.
pub fn client_config() -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());

    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();

    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The same where each handshake takes up the session of one before, from the second on.
pub fn resuming_config() -> io::Result<Arc<ClientConfig>> {
    let mut config = ClientConfig::clone(&*client_config()?);
    config.resumption = Resumption::store(Arc::new(Tickets::default()));
    Ok(Arc::new(config))
}

/// The tickets of TLS 1.3 of one server, more than rustls' own stores keep: as many connections as there
/// are at a time want one each.
#[derive(Debug, Default)]
struct Tickets(Mutex<Vec<Tls13ClientSessionValue>>);

impl Tickets {
    const MAX: usize = 256;
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let mut tickets = self.0.lock().unwrap_or_else(PoisonError::into_inner);

        if tickets.len() < Self::MAX {
            tickets.push(ticket);
        }
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

/// The bench has made the certificate itself, a moment ago.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
