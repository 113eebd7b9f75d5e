//! Owns going on with a TLS handshake that a request came before the end of, in early data (RFC 8446, section
//! 2.3): they are read to their end, and stand behind the request header then.

use nginx_sys::ngx_buf_t;

use super::request::Request;
use super::socket::Socket;
use super::{code, tls};

/// How many bytes of early data a client may send, as nginx tells OpenSSL.
const MAX_EARLY_DATA: usize = nginx_sys::NGX_SSL_BUFSIZE as usize;

/// How far a handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// It is finished.
    Finished,
    /// An event will tell.
    Pending,
    /// It will never be: the client has ended its side, or broken the rules.
    Failed,
}

/// There is no memory for what was read, or it is more than TLS lets through.
pub struct NoRoom;

/// Goes on with the handshake of `client`, the client of `request`, by reading what has come: nginx's own
/// receive function does both. [`Request::take_early_bytes`] hands over the bytes.
///
/// # Errors
///
/// [`NoRoom`]. The handshake can't go on.
pub fn go_on(request: Request, client: Socket) -> Result<Handshake, NoRoom> {
    while client.read().is_ready() {
        let n = read(request, client)?;

        // Who reads next shall see an end of the connection, too.
        if n == 0 || n == code::ERROR {
            client.read().set_ready();
        }

        if !tls::awaits_finished(client) {
            return Ok(Handshake::Finished);
        }

        match n {
            1.. => (),
            code::AGAIN => break,
            _ => return Ok(Handshake::Failed),
        }
    }

    Ok(Handshake::Pending)
}

/// Reads into the header buffer, behind what stands there. Answers as `c->recv` does.
fn read(request: Request, client: Socket) -> Result<isize, NoRoom> {
    make_room(request)?;

    // SAFETY: a live request has a header buffer, now with room behind its bytes. There is at least the one
    // that the header ends with.
    unsafe {
        let header_in = request.raw().header_in;
        let n = tls::receive_early(client, (*header_in).last, room(&*header_in));
        (*header_in).last = (*header_in).last.add(usize::try_from(n).unwrap_or_default());

        Ok(n)
    }
}

/// Sees to it that there is room in the header buffer, if need be in a larger one: nginx itself gives a
/// request another when one is full.
fn make_room(mut request: Request) -> Result<(), NoRoom> {
    let pool = request.pool().as_ptr();

    // SAFETY: a live request has a header buffer, and a pool, which the new buffer lives in. What stands in
    // front of pos stays where it is, for the header's values point there; the last byte of it goes along,
    // as one has to stand in front of the place to read into.
    unsafe {
        let header_in = request.raw().header_in.as_ref().ok_or(NoRoom)?;

        if room(header_in) > 0 {
            return Ok(());
        }

        let len = header_in.last as usize - header_in.pos as usize;

        if len >= MAX_EARLY_DATA {
            return Err(NoRoom);
        }

        let larger = nginx_sys::ngx_create_temp_buf(pool, 1 + len + MAX_EARLY_DATA)
            .as_mut()
            .ok_or(NoRoom)?;

        larger.last.copy_from_nonoverlapping(header_in.pos.sub(1), 1 + len);
        larger.pos = larger.pos.add(1);
        larger.last = larger.pos.add(len);
        request.raw_mut().header_in = larger;
    }

    Ok(())
}

fn room(buffer: &ngx_buf_t) -> usize {
    buffer.end as usize - buffer.last as usize
}
