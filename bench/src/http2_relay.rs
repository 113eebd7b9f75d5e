//! Owns a relay of CONNECT over HTTP/2 as one writes it in Rust: the h2 crate, tokio with one thread, and rustls.

use std::io::{self, Error};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request, Response};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// The windows of a stream and of a connection, in bytes.
const WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// How much is read of an origin server at once, in bytes.
const READ: usize = 64 * 1024;

/// Relays until it is killed.
pub fn run(port: u16, certificate: &Path, key: &Path) -> io::Result<()> {
    let acceptor = TlsAcceptor::from(Arc::new(config(certificate, key)?));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;

    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;

        loop {
            let (socket, _) = listener.accept().await?;
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                socket.set_nodelay(true)?;
                serve(acceptor.accept(socket).await?).await
            });
        }
    })
}

fn config(certificate: &Path, key: &Path) -> io::Result<ServerConfig> {
    let certificate = CertificateDer::from_pem_file(certificate).map_err(Error::other)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());

    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(vec![certificate], key))
        .map_err(Error::other)?;

    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

async fn serve(socket: tokio_rustls::server::TlsStream<TcpStream>) -> io::Result<()> {
    let mut connection = Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake::<_, Bytes>(socket)
        .await
        .map_err(Error::other)?;

    while let Some(stream) = connection.accept().await {
        let (request, respond) = stream.map_err(Error::other)?;
        tokio::spawn(tunnel(request, respond));
    }

    Ok(())
}

async fn tunnel(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let authority = request.uri().authority().map(ToString::to_string).unwrap_or_default();

    if request.method() != Method::CONNECT {
        return respond.send_reset(Reason::REFUSED_STREAM);
    }

    let Ok(origin) = TcpStream::connect(authority).await else {
        return respond.send_reset(Reason::CONNECT_ERROR);
    };

    let _ = origin.set_nodelay(true);
    let (read, write) = origin.into_split();

    if let Ok(send) = respond.send_response(Response::new(()), false) {
        tokio::spawn(up(request.into_body(), write));
        let _ = down(read, send).await;
    }
}

async fn up(mut body: RecvStream, mut origin: OwnedWriteHalf) -> io::Result<()> {
    while let Some(bytes) = body.data().await {
        let bytes = bytes.map_err(Error::other)?;
        origin.write_all(&bytes).await?;
        body.flow_control().release_capacity(bytes.len()).map_err(Error::other)?;
    }

    origin.shutdown().await
}

async fn down(mut origin: OwnedReadHalf, mut send: SendStream<Bytes>) -> io::Result<()> {
    let mut buffer = vec![0; READ];

    loop {
        let len = origin.read(&mut buffer).await?;

        if len == 0 {
            return send.send_data(Bytes::new(), true).map_err(Error::other);
        }

        let mut bytes = Bytes::copy_from_slice(&buffer[..len]);

        while !bytes.is_empty() {
            send.reserve_capacity(bytes.len());

            let room = std::future::poll_fn(|context| send.poll_capacity(context)).await;
            let room = room.ok_or_else(|| Error::other("reset"))?.map_err(Error::other)?;
            let piece = bytes.split_to(room.min(bytes.len()));
            send.send_data(piece, false).map_err(Error::other)?;
        }
    }
}
