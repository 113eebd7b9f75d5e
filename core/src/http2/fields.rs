//! Owns what becomes of a field block on its way to the core that it may not have as it is: that of a CONNECT is said
//! again as one for a path, others without credentials.
//!
//! The core's own decoder gets the entries for its table that it may have, and no others: what refers to those is told in
//! full, all else stays as the client said it, Huffman code included. So the core's limits on fields work as they would.

use thiserror::Error;

use super::hpack::{
    write_bytes, write_number, write_string, Decoder, Field, Form, HpackError, Name, Told, HIDDEN,
};
use crate::target::{AuthorityError, AuthorityText};

/// The method that a CONNECT is shown to the core with. No method of a client's is taken for it: a CONNECT
/// is known by its stream.
pub const METHOD: &[u8] = b"CONNEC";

/// The bits of a literal field that is never indexed.
const NEVER_INDEXED: u8 = 0x10;

/// Those of one that becomes an entry of the table.
const INDEXED: u8 = 0x40;

/// What a connection is to the core.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Whether it is over TLS.
    pub is_secure: bool,
    /// A name that has the core stay with the server that the connection has. It is shown in place of an authority
    /// that is none.
    pub server: Vec<u8>,
    /// Whether that is the server of each CONNECT, whatever its authority.
    pub keeps_server: bool,
}

/// What became of a field block.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// What a CONNECT names. `None` for any other block, and for one with too many fields, or too large ones:
    /// the core is shown one that it refuses with 400.
    pub named: Option<Result<AuthorityText, SectionError>>,
    /// The `:authority` of a CONNECT as it was sent, empty where there is none.
    pub authority: Vec<u8>,
    /// Whether a CONNECT announces a body, of which the core is shown nothing.
    pub has_body: bool,
    /// The values of `Proxy-Authorization`, which the core is shown as empty: its log has what it is shown.
    pub hidden: Vec<Vec<u8>>,
}

/// Why a CONNECT over HTTP/2 names nothing (RFC 9113, section 8.5). Each sentence completes "client sent ...".
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SectionError {
    /// Its authority is none.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A pseudo-header field that a CONNECT never has.
    #[error("CONNECT with \":scheme\" or \":path\"")]
    Superfluous,
    /// A pseudo-header field twice.
    #[error("CONNECT with a pseudo-header field twice")]
    Repeated,
    /// A pseudo-header field behind another field.
    #[error("CONNECT with a pseudo-header field behind other fields")]
    Late,
    /// A pseudo-header field that nobody knows.
    #[error("CONNECT with an unknown pseudo-header field")]
    Unknown,
    /// No pseudo-header field for what it wants to be connected to.
    #[error("CONNECT without \":authority\"")]
    Missing,
    /// A name that is none, with an upper-case letter say (RFC 9113, section 8.2.1).
    #[error("CONNECT with an invalid field name")]
    InvalidName,
    /// A value with a line break or a null character.
    #[error("CONNECT with an invalid field value")]
    InvalidValue,
    /// A field that is about a connection of HTTP/1 (RFC 9113, section 8.2.2).
    #[error("CONNECT with a connection-specific field")]
    ConnectionSpecific,
    /// A `Host` that says something else (RFC 9113, section 8.3.1).
    #[error("CONNECT with a \"Host\" other than its \":authority\"")]
    OtherHost,
    /// Extended CONNECT (RFC 8441): nobody offered it.
    #[error("CONNECT with \":protocol\", which is not supported")]
    Protocol,
}

impl SectionError {
    /// Whether the request is malformed, an error of its stream (RFC 9113, section 8.1.1). Others are answered.
    pub fn is_malformed(self) -> bool {
        !matches!(self, Self::Authority(_) | Self::Protocol)
    }
}

/// The pseudo-header fields that a request can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pseudo {
    Method,
    Authority,
    Scheme,
    Path,
    Protocol,
    Unknown,
}

/// What was seen of a block.
#[derive(Default)]
struct Seen {
    is_connect: bool,
    /// How often each pseudo-header field came, [`Pseudo`] being the place.
    counts: [u8; 6],
    is_late: bool,
    has_others: bool,
    /// The value of `:authority`.
    authority: Vec<u8>,
    /// What is no part of a CONNECT's block: from, to.
    cuts: Vec<(usize, usize)>,
    has_body: bool,
    /// The values of `Host`.
    hosts: Vec<Vec<u8>>,
    /// What is wrong with the fields that are no pseudo-header fields.
    complaint: Option<SectionError>,
    hidden: Vec<Vec<u8>>,
}

/// Decodes `block` and says it again at the end of `said`, for a core to which its connection is what `connection` says.
///
/// # Errors
///
/// [`HpackError`]: the connection can't go on.
pub fn say_again(
    decoder: &mut Decoder,
    block: &[u8],
    connection: &Connection,
    said: &mut Vec<u8>,
) -> Result<Said, HpackError> {
    let begin = said.len();
    let mut seen = Seen::default();

    let told = decoder.decode_for_core(block, |field| {
        let is_shown = field.becomes_entry && may_be_shown(field.name);
        let start = said.len();

        if field.name == HIDDEN {
            say_literal(said, field.name, b"")?;
        } else {
            say(&field, is_shown, said)?;
        }

        seen.take(&field, (start, said.len()))?;
        Ok(is_shown)
    })?;

    if told == Told::Some {
        decoder.part();
        said.truncate(begin);
        say_literal(said, b":", b"")?;
        return Ok(Said::default());
    }

    if !seen.is_connect {
        return Ok(Said { hidden: seen.hidden, ..Said::default() });
    }

    let named = seen.named();

    if named.as_ref().is_err_and(|error| error.is_malformed()) {
        decoder.part();
    }

    seen.disguise(begin, said, connection, named.as_ref())?;
    let Seen { authority, has_body, hidden, .. } = seen;
    Ok(Said { named: Some(named), authority, has_body, hidden })
}

impl Seen {
    fn take(&mut self, field: &Field<'_>, place: (usize, usize)) -> Result<(), HpackError> {
        let Some(pseudo) = Pseudo::of(field.name) else {
            self.has_others = true;
            return self.take_other(field, place);
        };

        let count = &mut self.counts[pseudo as usize];
        *count = count.saturating_add(1);
        self.is_late |= self.has_others;
        self.cut(place)?;

        match pseudo {
            Pseudo::Method => self.is_connect |= field.value == b"CONNECT",
            Pseudo::Authority => self.authority = copy(field.value)?,
            _ => (),
        }

        Ok(())
    }

    fn take_other(&mut self, field: &Field<'_>, place: (usize, usize)) -> Result<(), HpackError> {
        if field.name == HIDDEN {
            push(&mut self.hidden, field.value)?;
        }

        // A CONNECT that is found to be one behind its fields is malformed.
        if !self.is_connect {
            return Ok(());
        }

        match field.name {
            // The core makes one of :authority.
            b"host" => {
                push(&mut self.hosts, field.value)?;
                self.cut(place)?;
            }
            b"content-length" => {
                self.has_body |= field.value.iter().any(|&byte| byte != b'0');
                self.cut(place)?;
            }
            _ => (),
        }

        self.complaint = self.complaint.or_else(|| complaint(field));
        Ok(())
    }

    fn cut(&mut self, place: (usize, usize)) -> Result<(), HpackError> {
        self.cuts.try_reserve(1)?;
        self.cuts.push(place);
        Ok(())
    }

    fn has(&self, pseudo: Pseudo) -> bool {
        self.counts[pseudo as usize] > 0
    }

    fn named(&self) -> Result<AuthorityText, SectionError> {
        if self.is_late {
            return Err(SectionError::Late);
        }

        if self.has(Pseudo::Protocol) {
            return Err(SectionError::Protocol);
        }

        if self.has(Pseudo::Scheme) || self.has(Pseudo::Path) {
            return Err(SectionError::Superfluous);
        }

        if self.has(Pseudo::Unknown) {
            return Err(SectionError::Unknown);
        }

        if self.counts.iter().any(|&count| count > 1) {
            return Err(SectionError::Repeated);
        }

        if !self.has(Pseudo::Authority) {
            return Err(SectionError::Missing);
        }

        if let Some(complaint) = self.complaint {
            return Err(complaint);
        }

        let named = AuthorityText::read(&self.authority)?;

        if self.hosts.iter().any(|host| !self.is_named_by(host, &named)) {
            return Err(SectionError::OtherHost);
        }

        Ok(named)
    }

    fn is_named_by(&self, host: &[u8], named: &AuthorityText) -> bool {
        let is_same = |host: AuthorityText| host.as_bytes() == named.as_bytes();
        host == self.authority || AuthorityText::read(host).is_ok_and(is_same)
    }

    /// Makes the block that of a request for a path, with the authority that was judged. Of a malformed one
    /// nothing else is shown: the core would refuse it in its own way.
    fn disguise(
        &mut self,
        begin: usize,
        said: &mut Vec<u8>,
        connection: &Connection,
        named: Result<&AuthorityText, &SectionError>,
    ) -> Result<(), HpackError> {
        let others = copy(&said[begin..])?;
        said.truncate(begin);

        let authority = match named {
            Ok(named) if !connection.keeps_server => named.as_bytes(),
            _ => &connection.server,
        };

        say_value(said, 2, METHOD)?;
        // The static table has them.
        write_bytes(said, &[if connection.is_secure { 0x87 } else { 0x86 }, 0x84])?;
        say_value(said, 1, authority)?;

        if named.is_err_and(|error| error.is_malformed()) {
            self.hidden.clear();
            return Ok(());
        }

        let mut from = 0;

        for (start, end) in &self.cuts {
            write_bytes(said, &others[from..start - begin])?;
            from = end - begin;
        }

        Ok(write_bytes(said, &others[from..])?)
    }
}

/// What is wrong with a field of a CONNECT that is no pseudo-header field.
fn complaint(field: &Field<'_>) -> Option<SectionError> {
    let is_none =
        |&byte: &u8| !(0x21..0x7f).contains(&byte) || byte == b':' || byte.is_ascii_uppercase();

    if field.name.is_empty() || field.name.iter().any(is_none) {
        return Some(SectionError::InvalidName);
    }

    if field.value.iter().any(|byte| b"\0\r\n".contains(byte)) {
        return Some(SectionError::InvalidValue);
    }

    match field.name {
        b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding" | b"upgrade" => {
            Some(SectionError::ConnectionSpecific)
        }
        b"te" if !field.value.eq_ignore_ascii_case(b"trailers") => {
            Some(SectionError::ConnectionSpecific)
        }
        _ => None,
    }
}

impl Pseudo {
    fn of(name: &[u8]) -> Option<Self> {
        match name {
            b":method" => Some(Self::Method),
            b":authority" => Some(Self::Authority),
            b":scheme" => Some(Self::Scheme),
            b":path" => Some(Self::Path),
            b":protocol" => Some(Self::Protocol),
            [b':', ..] => Some(Self::Unknown),
            _ => None,
        }
    }
}

/// Whether the core may have an entry of this name: it is that of no field that is cut out of a CONNECT, or hidden.
fn may_be_shown(name: &[u8]) -> bool {
    !matches!(name, [b':', ..] | b"host" | b"content-length" | HIDDEN)
}

/// Says a field again, as an entry of the core's table if it is one, and so that it becomes one if it is to.
fn say(field: &Field<'_>, becomes_entry: bool, said: &mut Vec<u8>) -> Result<(), HpackError> {
    let (name, name_string, value_string) = match field.form {
        Form::Static(index) => return Ok(write_number(said, 0x80, 7, index.into())?),
        Form::Dynamic(Some(index)) => return Ok(write_number(said, 0x80, 7, index)?),
        Form::Dynamic(None) => return say_literal(said, field.name, field.value),
        Form::Literal(name, name_string, value_string) => (name, name_string, value_string),
    };

    let (first, prefix) = if becomes_entry { (INDEXED, 6) } else { (NEVER_INDEXED, 4) };

    match name {
        Name::Static(index) => write_number(said, first, prefix, index.into())?,
        Name::Dynamic => {
            write_number(said, first, prefix, 0)?;
            write_string(said, field.name)?;
        }
        Name::Literal => {
            write_number(said, first, prefix, 0)?;
            write_bytes(said, name_string)?;
        }
    }

    Ok(write_bytes(said, value_string)?)
}

fn say_literal(said: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Result<(), HpackError> {
    write_number(said, NEVER_INDEXED, 4, 0)?;
    write_string(said, name)?;
    Ok(write_string(said, value)?)
}

/// Says a field whose name is that of an entry of the static table.
fn say_value(said: &mut Vec<u8>, index: usize, value: &[u8]) -> Result<(), HpackError> {
    write_number(said, NEVER_INDEXED, 4, index)?;
    Ok(write_string(said, value)?)
}

fn push(list: &mut Vec<Vec<u8>>, bytes: &[u8]) -> Result<(), HpackError> {
    list.try_reserve(1)?;
    list.push(copy(bytes)?);
    Ok(())
}

fn copy(bytes: &[u8]) -> Result<Vec<u8>, HpackError> {
    let mut copy = Vec::new();
    write_bytes(&mut copy, bytes)?;
    Ok(copy)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
