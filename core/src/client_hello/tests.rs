//! Owns the tests of the reader: what real clients send, what rustls makes of it, and what an attacker would send.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::preread::{KEPT_MAX, MESSAGE_MAX};
use super::retry::{Found, PASSED_MAX};
use super::{ClientHello, Malformed, Opening, Preread, Protocol, Retry, ALPN_MAX};

mod extensions;
mod properties;
mod real;
mod records;
mod retry;

/// A ClientHello as it stands behind the header of its message, with these extensions.
fn body(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let list: Vec<u8> = extensions
        .iter()
        .flat_map(|(number, data)| [number.to_be_bytes().to_vec(), vector(2, data)].concat())
        .collect();

    [
        &[3, 3][..],
        &[7; 32],
        &vector(1, &[9; 32]),
        &vector(2, &[0x13, 0x01, 0x13, 0x02]),
        &vector(1, &[0]),
        &vector(2, &list),
    ]
    .concat()
}

/// A ClientHello with this name, or none.
pub fn sample(name: Option<&str>) -> Vec<u8> {
    let extensions: Vec<_> = name.iter().map(|name| server_name(name.as_bytes())).collect();
    body(&extensions)
}

fn vector(width: usize, data: &[u8]) -> Vec<u8> {
    let len = data.len().to_be_bytes();
    [&len[len.len() - width..], data].concat()
}

fn server_name(name: &[u8]) -> (u16, Vec<u8>) {
    (0, vector(2, &[&[0][..], &vector(2, name)].concat()))
}

fn alpn(protocols: &[&[u8]]) -> (u16, Vec<u8>) {
    let list: Vec<u8> = protocols.iter().flat_map(|protocol| vector(1, protocol)).collect();
    (16, vector(2, &list))
}

fn versions(versions: &[u16]) -> (u16, Vec<u8>) {
    let list: Vec<u8> = versions.iter().flat_map(|version| version.to_be_bytes()).collect();
    (43, vector(1, &list))
}

fn message(body: &[u8]) -> Vec<u8> {
    [&[1][..], &vector(3, body)].concat()
}

/// A message in records of `size` bytes each.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(|fragment| record(22, fragment)).collect()
}

fn record(content_type: u8, fragment: &[u8]) -> Vec<u8> {
    [&[content_type, 3, 1][..], &vector(2, fragment)].concat()
}

fn read(extensions: &[(u16, Vec<u8>)]) -> Result<ClientHello, Malformed> {
    ClientHello::read(&body(extensions))
}

fn name_of(hello: &ClientHello) -> Option<&[u8]> {
    hello.server_name.as_ref().map(|name| name.as_bytes())
}

/// What some bytes are that come at once.
fn opening(bytes: &[u8]) -> Opening {
    let mut preread = Preread::default();
    assert!(preread.push(bytes).is_ok());
    preread.opening()
}

fn hello(bytes: &[u8]) -> ClientHello {
    match opening(bytes) {
        Opening::Tls(hello) => hello,
        other => panic!("no ClientHello, but {other:?}"),
    }
}

fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hellos");
    let files = fs::read_dir(folder).map(|files| {
        files.flatten().map(|file| {
            let name = file.file_name().to_string_lossy().into_owned();
            let bytes = fs::read(file.path());
            (name, bytes.unwrap_or_default())
        })
    });

    let mut hellos: Vec<_> = files.map(Iterator::collect).unwrap_or_default();
    hellos.sort();
    hellos
}

/// What rustls finds in a ClientHello: the name, in lower case, and the protocols.
fn of_rustls(mut bytes: &[u8]) -> Option<(Option<String>, Vec<Vec<u8>>)> {
    let mut acceptor = rustls::server::Acceptor::default();

    while !bytes.is_empty() {
        acceptor.read_tls(&mut bytes).ok()?;

        if let Some(accepted) = acceptor.accept().ok()? {
            let hello = accepted.client_hello();
            let name = hello.server_name().map(str::to_ascii_lowercase);
            let alpn = hello.alpn().map(|alpn| alpn.map(<[u8]>::to_vec).collect());
            return Some((name, alpn.unwrap_or_default()));
        }
    }

    None
}

fn agrees_with_rustls(bytes: &[u8]) -> bool {
    let Some((name, alpn)) = of_rustls(bytes) else {
        return false;
    };

    let hello = hello(bytes);
    let words = alpn.into_iter().map(|word| String::from_utf8(word).unwrap_or_default());
    let words: Vec<_> = words.collect();

    name_of(&hello) == name.as_ref().map(|name| name.trim_end_matches('.').as_bytes())
        && (hello.alpn.to_string() == words.join(",") || words.len() > 10)
}

/// A ClientHello that rustls makes.
fn by_rustls(name: &str, alpn: &[&str]) -> Option<Vec<u8>> {
    let mut config = rustls::ClientConfig::builder()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();

    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).ok()?;
    let mut client = rustls::ClientConnection::new(config.into(), name).ok()?;
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).ok()?;
    Some(bytes)
}

/// A ClientHello with a name, whose message has that length.
fn padded(len: usize) -> Vec<u8> {
    let name = server_name(b"a.example");
    let short = message(&body(&[(21, vec![]), name.clone()])).len();
    message(&body(&[(21, vec![0; len - short]), name]))
}
