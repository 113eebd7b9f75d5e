//! Owns reading what a client of TLS says first, in the clear: the name, the protocols and the versions in its
//! ClientHello (RFC 8446, section 4.1.2; RFC 5246, section 7.4.1.2). How the message comes in records and
//! segments is [`preread`]'s affair, and whether another follows [`retry`]'s.
//!
//! It is a reader of its own because so little is read: a dozen lengths in one message. A TLS library's
//! (rustls' `Acceptor`) would bring all of TLS, and a parser such as `tls-parser` a framework, and both would
//! take what servers take. This one takes less: a message that could be read in two ways is malformed, so that
//! no server finds another name in it.

pub mod preread;
pub mod retry;

pub use preread::{Opening, Preread};
pub use retry::Retry;

use thiserror::Error;

use crate::target;

/// The longest host name, in bytes.
const NAME_MAX: usize = 253;

/// The most of ALPN that is kept, in bytes. A client may name thousands of protocols.
const ALPN_MAX: usize = 256;

/// Extensions (IANA, "TLS ExtensionType Values").
const SERVER_NAME: usize = 0;
const ALPN: usize = 16;
const EARLY_DATA: usize = 42;
const SUPPORTED_VERSIONS: usize = 43;

/// What a ClientHello says of where it wants to go, and how. With Encrypted Client Hello (RFC 9849) that is the
/// outer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientHello {
    /// The host of the server_name extension (RFC 6066, section 3).
    pub server_name: Option<ServerName>,
    /// The protocols of the ALPN extension (RFC 7301).
    pub alpn: Alpn,
    /// The highest version that the client offers. `None` where it offers none that has a name.
    pub protocol: Option<Protocol>,
    /// Whether early data may follow (RFC 8446, section 4.2.10).
    pub has_early_data: bool,
}

/// A host name in its canonical form, as that of a CONNECT: in lower case, without a dot at its end.
pub type ServerName = Text<NAME_MAX>;

/// The protocols that a client offers, in its order, with commas between them: `h2,http/1.1`. What is no plain
/// word is left out (GREASE, RFC 8701), and so is what follows the first [`ALPN_MAX`] bytes.
pub type Alpn = Text<ALPN_MAX>;

/// A text of at most `MAX` bytes, printable ASCII all of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text<const MAX: usize> {
    bytes: [u8; MAX],
    len: usize,
}

/// A version of SSL or TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// SSL 3.0.
    Ssl3,
    /// TLS 1.0.
    Tls1,
    /// TLS 1.1.
    Tls11,
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// Why what looks like TLS has no ClientHello that can be trusted. Each completes "the client sent ...".
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Malformed {
    /// An alert, say, in front of it or within it: some servers pass over that.
    #[error("a TLS record of another type in place of a ClientHello")]
    OtherRecord,
    /// A record that is empty, or longer than 2^14 bytes (RFC 8446, section 5.1).
    #[error("a TLS record of a length that is not allowed")]
    RecordLength,
    /// A message that only a server sends, or that comes later.
    #[error("another TLS message in place of a ClientHello")]
    OtherMessage,
    /// Something behind it in its last record, which a server could take for a second one.
    #[error("a ClientHello with more behind it in its record")]
    Trailing,
    /// More than [`preread`] keeps.
    #[error("a ClientHello that is too long")]
    TooLong,
    /// It has not come to its end.
    #[error("an unfinished ClientHello")]
    Unfinished,
    /// Lengths that do not fit into each other.
    #[error("a ClientHello whose lengths do not fit")]
    Lengths,
    /// An extension that is there twice (RFC 8446, section 4.2).
    #[error("a ClientHello with an extension that is there twice")]
    Repeated,
    /// No name, several, or one that is no host's.
    #[error("a ClientHello whose server_name is not one host name")]
    Name,
}

impl ClientHello {
    /// Reads the message, without the four bytes of type and length in front of it.
    ///
    /// # Errors
    ///
    /// [`Malformed`] says what is wrong with it.
    pub fn read(message: &[u8]) -> Result<Self, Malformed> {
        let mut message = Reader(message);

        let legacy_version = message.number(2)?;
        let _random = message.take(32)?;
        let _session_id = message.vector(1)?;
        let _cipher_suites = message.vector(2)?;
        let _compression_methods = message.vector(1)?;

        if message.is_empty() {
            return Ok(Self::without_extensions(legacy_version));
        }

        let extensions = message.vector(2)?;
        message.end()?;

        Extensions::read(extensions)?.hello(legacy_version)
    }

    fn without_extensions(legacy_version: usize) -> Self {
        Self {
            server_name: None,
            alpn: Text::new(),
            protocol: Protocol::of_legacy(legacy_version),
            has_early_data: false,
        }
    }
}

/// The extensions that matter.
#[derive(Default)]
struct Extensions<'a> {
    server_name: Option<Reader<'a>>,
    alpn: Option<Reader<'a>>,
    supported_versions: Option<Reader<'a>>,
    early_data: Option<Reader<'a>>,
}

impl<'a> Extensions<'a> {
    fn read(mut list: Reader<'a>) -> Result<Self, Malformed> {
        let mut found = Self::default();

        while !list.is_empty() {
            let number = list.number(2)?;
            let data = list.vector(2)?;

            let place = match number {
                SERVER_NAME => &mut found.server_name,
                ALPN => &mut found.alpn,
                SUPPORTED_VERSIONS => &mut found.supported_versions,
                EARLY_DATA => &mut found.early_data,
                _ => continue,
            };

            if place.replace(data).is_some() {
                return Err(Malformed::Repeated);
            }
        }

        Ok(found)
    }

    fn hello(self, legacy_version: usize) -> Result<ClientHello, Malformed> {
        Ok(ClientHello {
            server_name: self.server_name.map(server_name).transpose()?,
            alpn: self.alpn.map_or(Ok(Text::new()), alpn)?,
            protocol: match self.supported_versions {
                Some(data) => supported_version(data)?,
                None => Protocol::of_legacy(legacy_version),
            },
            has_early_data: self.early_data.is_some(),
        })
    }
}

/// The one host name (RFC 6066, section 3): what else a list may hold, servers read in ways of their own.
fn server_name(mut data: Reader<'_>) -> Result<ServerName, Malformed> {
    let mut list = data.vector(2)?;
    data.end()?;

    let name_type = list.number(1)?;
    let name = list.vector(2)?.0;

    if name_type != 0 || !list.is_empty() {
        return Err(Malformed::Name);
    }

    canonical(name).ok_or(Malformed::Name)
}

/// The canonical form of a name, `None` for what is none.
fn canonical(name: &[u8]) -> Option<ServerName> {
    target::check_name(name).ok()?;

    let mut text = ServerName::new();
    let name = name.strip_suffix(b".").unwrap_or(name);
    text.push(name).then_some(())?;
    text.bytes.make_ascii_lowercase();
    Some(text)
}

fn alpn(mut data: Reader<'_>) -> Result<Alpn, Malformed> {
    let mut list = data.vector(2)?;
    data.end()?;

    let mut text = Alpn::new();
    let mut is_full = false;

    while !list.is_empty() {
        let protocol = list.vector(1)?.0;

        if !is_full && is_word(protocol) {
            let separator: &[u8] = if text.as_bytes().is_empty() { b"" } else { b"," };
            let has_room = text.len + separator.len() + protocol.len() <= ALPN_MAX;
            is_full = !(has_room && text.push(separator) && text.push(protocol));
        }
    }

    Ok(text)
}

/// Whether a protocol's name can stand in a list with commas, and in a log with quotes.
fn is_word(protocol: &[u8]) -> bool {
    let is_plain = |&byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b',' | b'"' | b'\\');
    !protocol.is_empty() && protocol.iter().all(is_plain)
}

fn supported_version(mut data: Reader<'_>) -> Result<Option<Protocol>, Malformed> {
    let mut list = data.vector(1)?;
    data.end()?;

    let mut highest = None;

    while !list.is_empty() {
        highest = highest.max(Protocol::of_number(list.number(2)?));
    }

    Ok(highest)
}

impl Protocol {
    fn of_number(number: usize) -> Option<Self> {
        match number {
            0x0300 => Some(Self::Ssl3),
            0x0301 => Some(Self::Tls1),
            0x0302 => Some(Self::Tls11),
            0x0303 => Some(Self::Tls12),
            0x0304 => Some(Self::Tls13),
            _ => None,
        }
    }

    /// What a client offers that has no supported_versions: TLS 1.2 at most (RFC 8446, section 4.2.1).
    fn of_legacy(number: usize) -> Option<Self> {
        match number {
            0x0304..=0x03ff => Some(Self::Tls12),
            number => Self::of_number(number),
        }
    }

    /// Its name, as nginx has it in `$ssl_protocol`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ssl3 => "SSLv3",
            Self::Tls1 => "TLSv1",
            Self::Tls11 => "TLSv1.1",
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        }
    }
}

impl<const MAX: usize> Text<MAX> {
    fn new() -> Self {
        Self { bytes: [0; MAX], len: 0 }
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// False when there is no room.
    fn push(&mut self, text: &[u8]) -> bool {
        match self.bytes.get_mut(self.len..self.len + text.len()) {
            Some(place) => place.copy_from_slice(text),
            None => return false,
        }

        self.len += text.len();
        true
    }
}

impl<const MAX: usize> std::fmt::Debug for Text<MAX> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl<const MAX: usize> std::fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_bytes().escape_ascii().fmt(f)
    }
}

/// What is left to read of a structure.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed::Lengths)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number of `width` bytes, three at most.
    fn number(&mut self, width: usize) -> Result<usize, Malformed> {
        let bytes = self.take(width)?;
        Ok(bytes.iter().fold(0, |number, &byte| number << 8 | usize::from(byte)))
    }

    /// What stands behind a length of `width` bytes.
    fn vector(&mut self, width: usize) -> Result<Reader<'a>, Malformed> {
        let len = self.number(width)?;
        self.take(len).map(Reader)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sees that nothing is left.
    fn end(&self) -> Result<(), Malformed> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(Malformed::Lengths)
        }
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use tests::sample;
