//! Owns the bytes of a connection on their way to the core: frames pass as they are, but for the field blocks,
//! which are said again, and for what belongs to the stream of a CONNECT, which the core does not see.
//!
//! A CONNECT is shown as the last frame of its stream. So the core expects nothing more of the client there,
//! has no window for it and no body.

mod block;
mod closed;
mod fatal;
mod payload;

use std::collections::TryReserveError;

use super::fields::{say_again, Connection, Said, SectionError};
use super::frame::{self, flag, kind, Frame, HEADER, PREFACE};
use super::hpack::Decoder;
use crate::target::AuthorityText;
use block::{fields_of, frame_block, Block, LENGTH};
use closed::Closed;
use fatal::Fatal;
use payload::Payload;

/// The bytes of a connection, from its preface on.
#[derive(Debug)]
pub struct Incoming {
    state: State,
    decoder: Decoder,
    connection: Connection,
    /// A field block that is not whole yet.
    block: Option<Block>,
    /// The stream of the last one that was.
    last: u32,
    /// The core was shown the first byte of its frame, so that it waits for the block no longer than it would.
    is_announced: bool,
    /// The request that was shown last, until somebody takes it.
    request: Option<Shown>,
    /// The streams of CONNECTs, in their order.
    streams: Vec<u32>,
    /// Those that were closed, but not by the client.
    closed: Closed,
    /// What the core is shown next, and how much of it was shown.
    output: Vec<u8>,
    shown: usize,
}

/// A request that the core is shown.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Its stream.
    pub stream: u32,
    /// The length of its field block as it was sent, in bytes.
    pub len: usize,
    /// The length of the block that is shown.
    pub said: usize,
    /// The values of `Proxy-Authorization`, which are shown as empty.
    pub hidden: Vec<Vec<u8>>,
    /// Where it is a CONNECT, which is shown as another request.
    pub connect: Option<Connect>,
}

/// A CONNECT.
#[derive(Clone, Debug)]
pub struct Connect {
    /// What it names.
    pub named: Result<AuthorityText, SectionError>,
    /// The `:authority` as it was sent, empty where there is none.
    pub authority: Vec<u8>,
    /// Whether it announces a body.
    pub has_body: bool,
    /// Whether nothing follows it.
    pub has_ended: bool,
}

/// What the first bytes of some are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// How many bytes.
    pub len: usize,
    /// What they are.
    pub what: What,
}

/// What bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The core is to have them as they are.
    Passed,
    /// Nobody is to have them. What the core is to have in their place is in the [output](Incoming::output).
    Taken,
    /// Bytes of a tunnel, for the stream of this number.
    Data(u32),
    /// What counts for a window but is no byte of its tunnel.
    Padding(u32),
    /// The client has ended this stream. There may be no bytes to it.
    Ended(u32),
    /// The client broke the protocol on this stream.
    Broken(u32),
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// So many bytes of the preface have passed.
    Preface(usize),
    /// So many bytes of a frame's header are there.
    Header([u8; HEADER], usize),
    /// So many bytes of a frame pass.
    Passing(usize),
    /// So many bytes of a HEADERS or CONTINUATION are to come.
    Block(usize),
    /// DATA of a tunnel.
    Data(Payload),
    /// The core closes the connection.
    Dead,
}

const NO_HEADER: State = State::Header([0; HEADER], 0);

impl Incoming {
    /// A connection that begins with the preface.
    pub fn new(connection: Connection) -> Self {
        Self {
            state: State::Preface(0),
            decoder: Decoder::default(),
            connection,
            block: None,
            last: 0,
            is_announced: false,
            request: None,
            streams: Vec::new(),
            closed: Closed::default(),
            output: Vec::new(),
            shown: 0,
        }
    }

    /// The same, behind its preface.
    pub fn behind_preface(connection: Connection) -> Self {
        Self { state: NO_HEADER, ..Self::new(connection) }
    }

    /// What the first of `bytes`, which are not empty, are. There must be no output left. A CONNECT that nobody
    /// has taken by now was refused by the core. Indices in a field block that passes are made the core's.
    pub fn next(&mut self, bytes: &mut [u8]) -> Part {
        debug_assert!(self.output.is_empty());

        if let Some(refused) = self.request.take().filter(|shown| shown.connect.is_some()) {
            self.close(refused.stream);
        }

        let part = match self.state {
            State::Preface(seen) => self.preface(bytes, seen),
            State::Header(header, len) => self.header(bytes, header, len),
            State::Passing(left) => {
                let len = left.min(bytes.len());
                self.state = if len < left { State::Passing(left - len) } else { NO_HEADER };
                Part { len, what: What::Passed }
            }
            State::Block(left) => self.collect(bytes, left),
            State::Data(payload) => self.data(bytes, payload),
            State::Dead => Part { len: bytes.len(), what: What::Taken },
        };

        if part.len == bytes.len() {
            if let Err(fatal) = self.look_at_part() {
                return self.die(part.len, fatal);
            }
        }

        part
    }

    /// Looks at a block of which no more is there, and has the core know that it has begun.
    fn look_at_part(&mut self) -> Result<(), Fatal> {
        let Some(stream) = self.block.as_ref().map(Block::stream) else {
            return Ok(());
        };

        self.skim()?;

        // Without memory it waits as if none had begun.
        if !self.is_announced && !self.is_kept_back(stream) {
            self.is_announced = self.write(LENGTH).is_ok();
        }

        Ok(())
    }

    /// Finds out whether what there is of a block can become one.
    fn skim(&mut self) -> Result<(), Fatal> {
        match &mut self.block {
            Some(block) => block.skim().map_err(|error| Fatal::of(error, block.stream())),
            None => Ok(()),
        }
    }

    /// The stream of a request whose block has begun, and of which not all has come.
    pub fn awaited(&self) -> Option<u32> {
        self.block.as_ref().filter(|_| self.is_announced).map(Block::stream)
    }

    /// A block that has not come as a whole has taken too long: its stream, which is closed now, whatever still comes. The
    /// core never sees it. `None` where that is no new one; the core is to close the connection then.
    pub fn expire(&mut self) -> Option<u32> {
        let stream = self.awaited()?;

        // What was announced becomes a frame that does nothing.
        if self.is_new(stream) && self.write(&frame::pong()[LENGTH.len()..]).is_ok() {
            self.is_announced = false;
            self.closed.add(stream);
            return Some(stream);
        }

        self.give_up();
        None
    }

    /// Whether a client may open a stream of this number (RFC 9113, section 5.1.1).
    fn is_new(&self, stream: u32) -> bool {
        stream % 2 == 1 && stream > self.last
    }

    /// What the core is shown before anything else.
    pub fn output(&self) -> &[u8] {
        &self.output[self.shown..]
    }

    /// Notes that the core was shown so much of the output.
    pub fn show(&mut self, len: usize) {
        self.shown += len;

        if self.shown >= self.output.len() {
            self.output = Vec::new();
            self.shown = 0;
        }
    }

    /// Takes the request that came over `stream`, if that is the one that the core was shown last.
    pub fn take_request(&mut self, stream: u32) -> Option<Shown> {
        self.request.take_if(|shown| shown.stream == stream)
    }

    /// Notes that a CONNECT's stream is closed: what still comes for it is the core's, which skips it, but for
    /// trailers.
    pub fn close(&mut self, stream: u32) {
        if let Ok(place) = self.streams.binary_search(&stream) {
            self.streams.remove(place);
            self.closed.add(stream);
        }

        if self.streams.is_empty() {
            self.streams = Vec::new();
        }
    }

    /// Has the core close the connection: bytes of it are lost.
    pub fn give_up(&mut self) {
        self.die(0, Fatal::Protocol);
    }

    fn is_connect(&self, stream: u32) -> bool {
        self.streams.binary_search(&stream).is_ok()
    }

    /// Whether a block of this stream is not the core's: it has a tunnel, or is closed while its client may not know of it.
    fn is_kept_back(&self, stream: u32) -> bool {
        self.is_connect(stream) || self.closed.has(stream)
    }

    fn preface(&mut self, bytes: &[u8], seen: usize) -> Part {
        let rest = &PREFACE[seen..];
        let len = rest.len().min(bytes.len());

        // The core refuses what is none.
        self.state = if bytes[..len] != rest[..len] {
            State::Passing(usize::MAX)
        } else if len == rest.len() {
            NO_HEADER
        } else {
            State::Preface(seen + len)
        };

        Part { len, what: What::Passed }
    }

    fn header(&mut self, bytes: &mut [u8], mut header: [u8; HEADER], had: usize) -> Part {
        let len = (HEADER - had).min(bytes.len());
        header[had..had + len].copy_from_slice(&bytes[..len]);

        if had + len < HEADER {
            self.state = State::Header(header, had + len);
            return Part { len, what: What::Taken };
        }

        let frame = Frame::read(header);

        // Without the bit that means nothing.
        if had == 0 && frame.write() == header {
            match self.passes(frame, &mut bytes[HEADER..]) {
                Ok(true) => return Part { len: HEADER + frame.len, what: What::Passed },
                Ok(false) => (),
                Err(fatal) => return self.die(len, fatal),
            }
        }

        match self.begin(frame) {
            Ok(What::Passed) if had > 0 => match self.write(&header) {
                Ok(()) => Part { len, what: What::Taken },
                Err(_) => self.die(len, Fatal::Protocol),
            },
            Ok(what) => Part { len, what },
            Err(fatal) => self.die(len, fatal),
        }
    }

    /// Whether a frame, behind whose header there are these bytes, is there as a whole and is the core's as it is.
    fn passes(&mut self, frame: Frame, bytes: &mut [u8]) -> Result<bool, Fatal> {
        if frame.len > bytes.len() || self.block.is_some() {
            return Ok(false);
        }

        match frame.kind {
            kind::HEADERS => match fields_of(frame) {
                Some(fields) => self.passes_block(frame.stream, &mut bytes[fields]),
                None => Ok(false),
            },
            kind::CONTINUATION => Ok(false),
            kind::DATA => Ok(!self.is_connect(frame.stream)),
            _ => Ok(true),
        }
    }

    /// Whether the core is to have a block as it is.
    fn passes_block(&mut self, stream: u32, fields: &mut [u8]) -> Result<bool, Fatal> {
        self.last = self.last.max(stream);

        if self.is_kept_back(stream) {
            return Ok(false);
        }

        self.decoder.pass(fields).map_err(|error| Fatal::of(error, stream))
    }

    /// Begins with the payload of a frame.
    fn begin(&mut self, frame: Frame) -> Result<What, Fatal> {
        let continues = self.block.as_ref().map(|block| block.stream());

        if continues.is_some() != (frame.kind == kind::CONTINUATION)
            || continues.is_some_and(|stream| stream != frame.stream)
        {
            return Err(Fatal::Protocol);
        }

        match frame.kind {
            kind::HEADERS => {
                self.block = Some(Block::new(frame));
                self.begin_block(frame.len)
            }
            kind::CONTINUATION => {
                self.block.iter_mut().for_each(|block| block.go_on(frame));
                self.begin_block(frame.len)
            }
            kind::DATA if self.is_connect(frame.stream) => self.begin_data(frame),
            _ => {
                self.state = if frame.len > 0 { State::Passing(frame.len) } else { NO_HEADER };
                Ok(What::Passed)
            }
        }
    }

    fn begin_block(&mut self, len: usize) -> Result<What, Fatal> {
        if len > 0 {
            self.state = State::Block(len);
            return Ok(What::Taken);
        }

        self.end_frame_of_block()
    }

    fn begin_data(&mut self, frame: Frame) -> Result<What, Fatal> {
        let payload = Payload::new(frame)?;

        if frame.len > 0 {
            self.state = State::Data(payload);
            return Ok(What::Taken);
        }

        self.state = NO_HEADER;
        Ok(if payload.is_over() { What::Taken } else { What::Ended(frame.stream) })
    }

    fn data(&mut self, bytes: &[u8], mut payload: Payload) -> Part {
        let Ok(part) = payload.next(bytes) else {
            return self.die(1, Fatal::Protocol);
        };

        self.state = if payload.is_over() { NO_HEADER } else { State::Data(payload) };
        part
    }

    /// Whether there is something to tell without a byte more.
    pub fn has_more(&self) -> bool {
        matches!(self.state, State::Data(payload) if payload.is_seen())
    }

    fn collect(&mut self, bytes: &[u8], left: usize) -> Part {
        let len = bytes.len().min(left);
        let block = self.block.as_mut().map(|block| block.push(&bytes[..len]));

        let collected = match block {
            Some(Ok(())) if len < left => {
                self.state = State::Block(left - len);
                Ok(What::Taken)
            }
            Some(Ok(())) => self.end_frame_of_block(),
            _ => self.skim().and(Err(Fatal::Protocol)),
        };

        match collected {
            Ok(what) => Part { len, what },
            Err(fatal) => self.die(len, fatal),
        }
    }

    fn end_frame_of_block(&mut self) -> Result<What, Fatal> {
        self.state = NO_HEADER;

        let block = self.block.as_mut().ok_or(Fatal::Protocol)?;
        block.end_frame()?;

        match self.block.take_if(|block| block.is_whole()) {
            Some(block) => self.end_block(&block),
            None => self.skim().map(|()| What::Taken),
        }
    }

    /// Says a block again that is whole.
    fn end_block(&mut self, block: &Block) -> Result<What, Fatal> {
        let stream = block.stream();
        let fields = block.fields().ok_or(Fatal::Protocol)?;

        if self.is_connect(stream) {
            return self.end_trailers(block, fields);
        }

        // They were on their way when the stream was closed.
        if self.closed.has(stream) {
            return self.decode(stream, fields);
        }

        let mut output = Vec::new();
        output.try_reserve(HEADER + fields.len() + 64).map_err(|_| Fatal::Protocol)?;
        output.extend_from_slice(&[0; HEADER]);
        output.extend_from_slice(block.priority());

        let begin = output.len();
        let mut flags = flag::END_HEADERS | (block.flags() & (flag::END_STREAM | flag::PRIORITY));
        output.extend_from_slice(fields);

        if self.passes_block(stream, &mut output[begin..])? {
            return self.show_block(output, flags, stream);
        }

        output.truncate(begin);
        let said = say_again(&mut self.decoder, fields, &self.connection, &mut output)
            .map_err(|error| Fatal::of(error, stream))?;

        let has_ended = flags & flag::END_STREAM != 0;
        let Said { named, authority, has_body, hidden } = said;
        let connect = named.map(|named| Connect { named, authority, has_body, has_ended });

        if connect.is_some() {
            self.streams.try_reserve(1).map_err(|_| Fatal::Protocol)?;

            // The core closes a connection whose streams go back.
            if self.streams.last().is_none_or(|&last| last < stream) {
                self.streams.push(stream);
            }

            flags |= flag::END_STREAM;
        }

        let (len, said) = (fields.len(), output.len() - begin);
        self.request = Some(Shown { stream, len, said, hidden, connect });

        self.show_block(output, flags, stream)
    }

    /// Has the core see a block that lies behind room for the header of its frame.
    fn show_block(&mut self, mut output: Vec<u8>, flags: u8, stream: u32) -> Result<What, Fatal> {
        frame_block(&mut output, flags, stream).map_err(|_| Fatal::Protocol)?;
        self.output = output;
        self.shown = usize::from(std::mem::take(&mut self.is_announced));
        Ok(What::Taken)
    }

    /// Trailers of a tunnel say nothing, but that it ends.
    fn end_trailers(&mut self, block: &Block, fields: &[u8]) -> Result<What, Fatal> {
        let stream = block.stream();
        self.decode(stream, fields)?;

        Ok(match block.flags() & flag::END_STREAM {
            0 => What::Broken(stream),
            _ => What::Ended(stream),
        })
    }

    /// Has the table of the connection know fields that nobody else is to have.
    fn decode(&mut self, stream: u32, fields: &[u8]) -> Result<What, Fatal> {
        let decoded = self.decoder.decode(fields, |_| Ok(()));
        decoded.map(|_| What::Taken).map_err(|error| Fatal::of(error, stream))
    }

    /// Has the core see bytes behind those that it is to see already.
    fn write(&mut self, bytes: &[u8]) -> Result<(), TryReserveError> {
        self.output.try_reserve_exact(bytes.len())?;
        self.output.extend_from_slice(bytes);
        Ok(())
    }

    /// Has the core close the connection, with the right code.
    fn die(&mut self, len: usize, fatal: Fatal) -> Part {
        let was_shown = std::mem::take(&mut self.is_announced) && self.output().is_empty();

        self.state = State::Dead;
        self.block = None;
        self.output.clear();
        self.shown = usize::from(was_shown);

        // Without memory for it the connection hangs until it times out.
        let _ = fatal.write(&mut self.output);
        Part { len, what: What::Taken }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
