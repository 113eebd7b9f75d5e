//! Owns what is said to a SOCKS server, and the reading of what it says (RFC 1928, and RFC 1929 for a user and
//! a password).

use std::net::IpAddr;

use thiserror::Error;

use super::{append, has_control, Answer, Heard, Meaning, TalkError};

/// RFC 1928, section 6: the REP fields that say what is wrong.
const NOT_ALLOWED: u16 = 2;
/// There is no way to the network.
pub const NETWORK_UNREACHABLE: u16 = 3;
/// There is no way to the host.
pub const HOST_UNREACHABLE: u16 = 4;
/// The destination refused the connection.
pub const CONNECTION_REFUSED: u16 = 5;
/// The way is too long.
pub const TTL_EXPIRED: u16 = 6;

const VERSION: u8 = 5;
const CONNECT: u8 = 1;
const RESERVED: u8 = 0;

const NO_CREDENTIALS: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
const NO_METHOD: u8 = 0xff;

/// RFC 1929, section 2.
const AUTH_VERSION: u8 = 1;
const AUTH_SUCCESS: u8 = 0;

const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// VER, REP, RSV, ATYP, and the first byte of the address: with these the length of a reply is known.
const REPLY_HEAD: usize = 5;

/// Where a tunnel is to lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host<'a> {
    /// A name, which the server resolves.
    Name(&'a [u8]),
    /// An address.
    Addr(IpAddr),
}

/// A conversation with a server, behind the greeting.
#[derive(Debug)]
pub struct Talk {
    state: State,
    /// What came of the message that is being read.
    bytes: Vec<u8>,
    /// User and password, if there are any.
    credentials: Option<Vec<u8>>,
    /// What is asked for.
    request: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Method,
    Credentials,
    Reply,
}

/// Why something can't be said. Each sentence follows it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum WriteError {
    /// It has a length of one byte on the wire.
    #[error("is empty, or has more than 255 bytes, which SOCKS can't tell")]
    Length,
    /// No server expects one.
    #[error("has a control character")]
    Control,
    /// There is no memory.
    #[error("is too much for the memory")]
    NoMemory,
}

impl From<std::collections::TryReserveError> for WriteError {
    fn from(_: std::collections::TryReserveError) -> Self {
        Self::NoMemory
    }
}

impl Talk {
    /// A conversation that asks for a tunnel to `host` and `port`, as a user with a password if there is one; and the
    /// greeting that begins it.
    ///
    /// # Errors
    ///
    /// [`WriteError`]
    pub fn begin(
        host: Host<'_>,
        port: u16,
        credentials: Option<(&[u8], &[u8])>,
    ) -> Result<(Self, Vec<u8>), WriteError> {
        let credentials = match credentials {
            Some((user, password)) => Some(write_credentials(user, password)?),
            None => None,
        };

        let greeting: &[u8] = match credentials {
            Some(_) => &[VERSION, 2, NO_CREDENTIALS, USER_AND_PASSWORD],
            None => &[VERSION, 1, NO_CREDENTIALS],
        };

        let mut bytes = Vec::new();
        append(&mut bytes, greeting)?;

        let request = write_request(host, port)?;
        Ok((Self { state: State::Method, bytes: Vec::new(), credentials, request }, bytes))
    }

    /// How many bytes the message that is being read lacks, as far as that is known.
    pub fn wants(&self) -> usize {
        self.length() - self.bytes.len()
    }

    fn length(&self) -> usize {
        match self.state {
            State::Method | State::Credentials => 2,
            State::Reply => reply_length(&self.bytes),
        }
    }

    /// Takes the next bytes, no more than are wanted.
    ///
    /// # Errors
    ///
    /// [`TalkError`] for what no server would say.
    pub fn take(&mut self, piece: &[u8]) -> Result<Heard, TalkError> {
        append(&mut self.bytes, piece)?;

        let version = match self.state {
            State::Credentials => AUTH_VERSION,
            State::Method | State::Reply => VERSION,
        };

        if self.bytes.first().is_some_and(|first| *first != version) {
            return Err(TalkError::Garbage("not version 5 of SOCKS"));
        }

        if self.wants() > 0 {
            return Ok(Heard::More);
        }

        let message = std::mem::take(&mut self.bytes);
        let second = message.get(1).copied().unwrap_or_default();

        match self.state {
            State::Method => self.take_method(second),
            State::Credentials if second == AUTH_SUCCESS => Ok(self.ask()),
            State::Credentials => Ok(Heard::Answer(UNAUTHORISED)),
            State::Reply => take_reply(&message),
        }
    }

    fn take_method(&mut self, method: u8) -> Result<Heard, TalkError> {
        match (method, self.credentials.take()) {
            (NO_CREDENTIALS, _) => Ok(self.ask()),
            (USER_AND_PASSWORD, Some(credentials)) => {
                self.state = State::Credentials;
                Ok(Heard::Say(credentials))
            }
            (NO_METHOD, _) => Ok(Heard::Answer(UNAUTHORISED)),
            _ => Err(TalkError::Garbage("a method that was not offered")),
        }
    }

    fn ask(&mut self) -> Heard {
        self.state = State::Reply;
        Heard::Say(std::mem::take(&mut self.request))
    }
}

const UNAUTHORISED: Answer =
    Answer { meaning: Meaning::Unauthorised, code: None, header: Vec::new(), rest: Vec::new() };

/// How long a reply is that begins so, as far as that is known.
fn reply_length(bytes: &[u8]) -> usize {
    let address = match bytes {
        [_, _, _, IPV4, _, ..] => 4,
        [_, _, _, IPV6, _, ..] => 16,
        [_, _, _, NAME, length, ..] => 1 + usize::from(*length),
        _ => return REPLY_HEAD,
    };

    REPLY_HEAD - 1 + address + 2
}

fn take_reply(message: &[u8]) -> Result<Heard, TalkError> {
    let [_, code, _, kind, ..] = *message else {
        return Ok(Heard::More);
    };

    if ![IPV4, NAME, IPV6].contains(&kind) {
        return Err(TalkError::Garbage("an address of an unknown type"));
    }

    let code = u16::from(code);

    let meaning = match code {
        0 => Meaning::Opened,
        NOT_ALLOWED => Meaning::Denied,
        _ => Meaning::BadGateway,
    };

    Ok(Heard::Answer(Answer { meaning, code: Some(code), ..Answer::default() }))
}

fn write_request(host: Host<'_>, port: u16) -> Result<Vec<u8>, WriteError> {
    let mut bytes = Vec::new();
    append(&mut bytes, &[VERSION, CONNECT, RESERVED])?;

    match host {
        Host::Addr(IpAddr::V4(addr)) => {
            append(&mut bytes, &[IPV4])?;
            append(&mut bytes, &addr.octets())?;
        }
        Host::Addr(IpAddr::V6(addr)) => {
            append(&mut bytes, &[IPV6])?;
            append(&mut bytes, &addr.octets())?;
        }
        Host::Name(name) => {
            append(&mut bytes, &[NAME])?;
            write_text(&mut bytes, name)?;
        }
    }

    append(&mut bytes, &port.to_be_bytes())?;
    Ok(bytes)
}

fn write_credentials(user: &[u8], password: &[u8]) -> Result<Vec<u8>, WriteError> {
    let mut bytes = Vec::new();
    append(&mut bytes, &[AUTH_VERSION])?;
    write_text(&mut bytes, user)?;
    write_text(&mut bytes, password)?;
    Ok(bytes)
}

fn write_text(bytes: &mut Vec<u8>, text: &[u8]) -> Result<(), WriteError> {
    let length = u8::try_from(text.len()).map_err(|_| WriteError::Length)?;

    if length == 0 {
        return Err(WriteError::Length);
    }

    if has_control(text) {
        return Err(WriteError::Control);
    }

    append(bytes, &[length])?;
    append(bytes, text)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMED: Host<'_> = Host::Name(b"a.example");
    const USER: Option<(&[u8], &[u8])> = Some((b"user", b"pass"));

    fn begin(credentials: Option<(&[u8], &[u8])>) -> Talk {
        Talk::begin(NAMED, 443, credentials).unwrap().0
    }

    /// Gives the talk a message byte by byte, and says what comes of it.
    fn hear(talk: &mut Talk, message: &[u8]) -> Result<Heard, TalkError> {
        let (last, first) = message.split_last().unwrap();

        for byte in first {
            assert!(talk.wants() > 0);
            assert_eq!(talk.take(&[*byte])?, Heard::More);
        }

        talk.take(&[*last])
    }

    fn answer(meaning: Meaning, code: Option<u16>) -> Result<Heard, TalkError> {
        Ok(Heard::Answer(Answer { meaning, code, ..Answer::default() }))
    }

    #[test]
    fn a_tunnel_without_credentials() {
        let (mut talk, greeting) = Talk::begin(NAMED, 443, None).unwrap();
        assert_eq!(greeting, [5, 1, 0]);
        let request = b"\x05\x01\x00\x03\x09a.example\x01\xbb".to_vec();
        assert_eq!(hear(&mut talk, &[5, 0]), Ok(Heard::Say(request)));
        assert_eq!(
            hear(&mut talk, &[5, 0, 0, 1, 127, 0, 0, 1, 1, 2]),
            answer(Meaning::Opened, Some(0))
        );
    }

    #[test]
    fn a_tunnel_with_credentials() {
        let (mut talk, greeting) = Talk::begin(NAMED, 443, USER).unwrap();
        assert_eq!(greeting, [5, 2, 0, 2]);
        assert_eq!(hear(&mut talk, &[5, 2]), Ok(Heard::Say(b"\x01\x04user\x04pass".to_vec())));
        assert!(matches!(hear(&mut talk, &[1, 0]), Ok(Heard::Say(_))));

        // A server may do without them.
        assert!(matches!(hear(&mut begin(USER), &[5, 0]), Ok(Heard::Say(bytes)) if bytes[0] == 5));
    }

    #[test]
    fn credentials_may_be_refused() {
        assert_eq!(hear(&mut begin(None), &[5, 0xff]), answer(Meaning::Unauthorised, None));

        let mut talk = begin(USER);
        hear(&mut talk, &[5, 2]).unwrap();
        assert_eq!(hear(&mut talk, &[1, 1]), answer(Meaning::Unauthorised, None));
    }

    #[test]
    fn addresses_are_of_two_families() {
        let (mut talk, _) = Talk::begin(Host::Addr([127, 0, 0, 1].into()), 80, None).unwrap();
        let request = vec![5, 1, 0, 1, 127, 0, 0, 1, 0, 80];
        assert_eq!(talk.take(&[5, 0]), Ok(Heard::Say(request)));

        let (mut talk, _) = Talk::begin(Host::Addr("::1".parse().unwrap()), 80, None).unwrap();
        let request = [&[5, 1, 0, 4][..], &[0; 15], &[1, 0, 80]].concat();
        assert_eq!(talk.take(&[5, 0]), Ok(Heard::Say(request)));
    }

    #[test]
    fn replies_have_their_lengths() {
        for (tail, length) in [
            (vec![1, 9, 9, 9, 9, 9, 9], 10),
            (vec![3, 0, 1, 1], 7),
            (vec![3, 2, b'a', b'b', 1, 1], 9),
        ] {
            let mut talk = begin(None);
            hear(&mut talk, &[5, 0]).unwrap();
            let reply = [&[5, 0, 0][..], &tail].concat();
            assert_eq!(reply.len(), length);
            assert_eq!(hear(&mut talk, &reply), answer(Meaning::Opened, Some(0)));
        }

        let mut talk = begin(None);
        hear(&mut talk, &[5, 0]).unwrap();
        let reply = [&[5, 0, 0, 4][..], &[0; 18]].concat();
        assert_eq!(hear(&mut talk, &reply), answer(Meaning::Opened, Some(0)));
    }

    #[test]
    fn a_refusal_tells_why() {
        for (code, meaning) in [
            (1, Meaning::BadGateway),
            (2, Meaning::Denied),
            (3, Meaning::BadGateway),
            (5, Meaning::BadGateway),
            (8, Meaning::BadGateway),
            (255, Meaning::BadGateway),
        ] {
            let mut talk = begin(None);
            hear(&mut talk, &[5, 0]).unwrap();
            let reply = [5, code, 0, 1, 0, 0, 0, 0, 0, 0];
            assert_eq!(hear(&mut talk, &reply), answer(meaning, Some(code.into())));
        }
    }

    #[test]
    fn garbage_is_known_by_its_first_byte() {
        assert!(begin(None).take(b"H").is_err());
        assert!(begin(None).take(&[4]).is_err());
        assert!(begin(None).take(&[5, 2]).is_err());
        assert!(begin(None).take(&[5, 1]).is_err());

        let mut talk = begin(USER);
        hear(&mut talk, &[5, 2]).unwrap();
        assert!(talk.take(&[5]).is_err());

        let mut talk = begin(None);
        hear(&mut talk, &[5, 0]).unwrap();
        assert!(talk.take(&[5, 0, 0, 2, 0]).is_err());
    }

    #[test]
    fn texts_have_their_lengths() {
        let long = [b'a'; 256];
        assert_eq!(Talk::begin(Host::Name(&long), 1, None).unwrap_err(), WriteError::Length);
        assert_eq!(Talk::begin(NAMED, 1, Some((b"", b"x"))).unwrap_err(), WriteError::Length);
        assert_eq!(Talk::begin(NAMED, 1, Some((b"a", b"\n"))).unwrap_err(), WriteError::Control);
        assert!(Talk::begin(Host::Name(&long[..255]), 1, None).is_ok());
    }

    proptest! {
        #[test]
        fn no_byte_too_much_is_wanted(bytes in prop::collection::vec(any::<u8>(), 0..600), with_user: bool) {
            let mut talk = begin(if with_user { USER } else { None });
            let mut rest = &bytes[..];

            loop {
                let wanted = talk.wants();
                prop_assert!(wanted > 0 && wanted <= 262);

                if rest.len() < wanted {
                    break;
                }

                let (piece, after) = rest.split_at(wanted);
                rest = after;

                if !matches!(talk.take(piece), Ok(Heard::More | Heard::Say(_))) {
                    break;
                }
            }
        }
    }
}
