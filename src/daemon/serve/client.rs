//! A connection: requests in, replies out, in order, whatever the protocol.
//!
//! A client costs little whatever it does. Its input is read only when no
//! request of it waits and nothing of a reply is queued; a reply is made in
//! slices of about [`SLICE_BYTES`], the next when the last has been written. So a
//! client that pipelines without reading, reads slowly or is idle holds one slice and
//! part of a request. A reply that fits a slice leaves in one write,
//! its end included, even if the walk for it takes several turns.
//!
//! Its [`Conversation`] knows what the bytes mean.
//!
//! Must not: be dropped before [`Client::end`], which closes cursors of the store.

use crate::config::Protocol;
use crate::daemon::level_walk::SLICE_BYTES;
use crate::daemon::serve::context::Context;
use crate::daemon::serve::export::Export;
use crate::daemon::serve::http::Http;
use crate::daemon::serve::listener::{Listener, Stream};
use crate::daemon::serve::protocol::{Conversation, Exchange};
use crate::store::{Now, Store};
use crate::sys::fd::poll::Interest;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

/// The most that is read at once, in bytes: more than any real request has.
const READ_BYTES: usize = 4096;

/// The cost of a request before its first row, in steps: finding the beginning of a walk
/// may look at a thousand entries, each of them cheaper than a step.
const REQUEST_STEPS: usize = 32;

/// The most input that is read and thrown away when a connection is closed, in
/// bytes: unread input would make TCP take back replies under way.
const DRAIN_BYTES: usize = 65536;

/// What decides whether a client may be closed for another. Times are seconds of
/// uptime.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    /// The index of its listener.
    pub listener: usize,
    /// Since when it has asked for nothing.
    pub idle_since_secs: Option<u32>,
    /// Since when it has read nothing of a reply that waits for it.
    pub unread_since_secs: Option<u32>,
}

pub(crate) struct Client {
    stream: Stream,
    exchange: Exchange,
    conversation: Box<dyn Conversation>,
    /// Whether the input begins with a request; computed when the input changes.
    has_request: bool,
    /// Bytes of the output that are written.
    written: usize,
    /// The peer has sent its last byte.
    at_eof: bool,
    /// When it last sent something, in seconds of uptime.
    active_secs: u32,
    /// When it last took some of a reply, in seconds of uptime.
    taken_secs: u32,
    /// It is not read: it waits for memory.
    is_waiting: bool,
    /// The index of its listener.
    listener: usize,
    /// Its listener's name, for the log.
    listener_name: Rc<str>,
    /// Its slot in the poll set.
    pub(crate) slot: Option<usize>,
}

impl Client {
    /// A client just accepted by the listener with index `listener`.
    pub(crate) fn new(stream: Stream, from: &Listener, listener: usize, now: Now) -> Client {
        let (options, name) = (&from.options, &from.name);
        let conversation: Box<dyn Conversation> = match options.protocol {
            Protocol::Stats => Box::new(Export::new(options, name)),
            Protocol::Http => Box::new(Http::new(options, name, &from.server_names)),
        };
        Client {
            stream,
            exchange: Exchange::default(),
            conversation,
            has_request: false,
            written: 0,
            at_eof: false,
            active_secs: now.uptime_secs,
            taken_secs: now.uptime_secs,
            is_waiting: false,
            listener,
            listener_name: Rc::clone(name),
            slot: None,
        }
    }

    /// The index of its listener.
    pub(crate) fn listener(&self) -> usize {
        self.listener
    }

    /// Its listener's name, for the log.
    pub(crate) fn listener_name(&self) -> Rc<str> {
        Rc::clone(&self.listener_name)
    }

    /// What poll(2) waits for: room for queued output, else input; while it waits for
    /// memory, only a hangup.
    pub(crate) fn interest(&self) -> Interest {
        match (self.is_waiting, self.has_output()) {
            (true, _) => Interest::default(),
            (false, true) => Interest::WRITE,
            (false, false) => Interest::READ,
        }
    }

    /// Whether there is something to do without waiting.
    pub(crate) fn can_go_on(&self) -> bool {
        !self.is_waiting && !self.has_output() && (self.is_busy() || self.at_eof)
    }

    /// What decides whether it may be closed for another. A client that began a
    /// request and does not end it is idle.
    pub(crate) fn standing(&self) -> Standing {
        let has_output = self.has_output();
        let is_idle = !has_output && !self.is_busy() && !self.is_waiting;
        Standing {
            listener: self.listener,
            idle_since_secs: is_idle.then_some(self.active_secs),
            unread_since_secs: has_output.then_some(self.taken_secs),
        }
    }

    /// When it last sent something, in seconds of uptime.
    pub(crate) fn active_secs(&self) -> u32 {
        self.active_secs
    }

    /// Whether it waits for memory.
    pub(crate) fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// Makes it wait if memory is short and it needs some: for input or a reply that it
    /// has not begun. Returns whether it waits.
    pub(crate) fn wait_for_memory(&mut self, is_short: bool) -> bool {
        let is_between = !self.has_output() && !self.conversation.is_replying();
        self.is_waiting = is_short && is_between && (self.has_request || !self.at_eof);
        self.is_waiting
    }

    /// The bytes of its buffers, and of what the store keeps for its reply.
    pub(crate) fn held_bytes(&self) -> usize {
        // A slice that is to be made next counts already.
        let slice_bytes = match self.conversation.is_replying() {
            true => SLICE_BYTES,
            false => 0,
        };
        let Exchange { input, output, .. } = &self.exchange;
        let buffers = input.capacity() + output.capacity().max(slice_bytes);
        buffers + self.conversation.held_bytes()
    }

    /// Releases what the client keeps of the store, and closes the connection.
    pub(crate) fn end(mut self, store: &mut Store) {
        self.conversation.end(store);
        let mut bytes = [0; READ_BYTES];
        for _ in 0..DRAIN_BYTES / READ_BYTES {
            // Less than that is all there is; an error changes nothing any more.
            if !matches!(self.stream.read(&mut bytes), Ok(READ_BYTES)) {
                break;
            }
        }
    }

    /// Writes, reads and answers as far as that goes without waiting and within
    /// `steps`, which are taken off. False when the client is to be ended.
    pub(crate) fn serve(&mut self, context: &mut Context, steps: &mut usize) -> bool {
        if !self.flush(context.now) {
            return false;
        }
        if self.has_output() {
            return true;
        }
        if self.exchange.output.is_empty() {
            // What is made from now on waits for the peer.
            self.taken_secs = context.now.uptime_secs;
        }
        if !self.is_busy() && !self.exchange.closing && !self.fill(context.now) {
            return false;
        }
        let exchange = &mut self.exchange;
        while !exchange.is_slice_full() && *steps > 0 && !exchange.closing {
            if self.conversation.is_replying() {
                self.conversation.go_on(exchange, context, steps);
            } else if self.has_request {
                *steps = steps.saturating_sub(REQUEST_STEPS);
                self.conversation.answer(exchange, context);
                self.has_request = self.conversation.has_request(&exchange.input);
            } else {
                exchange.closing = self.at_eof;
                break;
            }
        }
        if exchange.input.is_empty() {
            // An idle client costs no buffer.
            exchange.input = Vec::new();
        }
        self.flush(context.now) && (self.has_output() || !self.exchange.closing)
    }

    /// Whether a reply is to be made or begun.
    fn is_busy(&self) -> bool {
        self.conversation.is_replying() || self.has_request
    }

    /// Whether output waits to be written: a whole slice, or the end of a reply.
    /// Less than that is held back while the reply goes on, so that a small one is
    /// one write however many turns it takes to find its rows.
    fn has_output(&self) -> bool {
        let is_held = self.conversation.is_replying() && !self.exchange.is_slice_full();
        self.written < self.exchange.output.len() && !is_held
    }

    /// Writes queued output. False when the connection is broken.
    fn flush(&mut self, now: Now) -> bool {
        while self.has_output() {
            match self.stream.write(&self.exchange.output[self.written..]) {
                Ok(count) => {
                    self.written += count;
                    self.taken_secs = now.uptime_secs;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        if self.written == self.exchange.output.len() {
            self.written = 0;
            // The next slice is made where this one was.
            match self.conversation.is_replying() {
                true => self.exchange.output.clear(),
                false => self.exchange.output = Vec::new(),
            }
        }
        true
    }

    /// Reads input once. False when the connection is broken.
    fn fill(&mut self, now: Now) -> bool {
        let mut bytes = [0; READ_BYTES];
        match self.stream.read(&mut bytes) {
            Ok(0) => self.at_eof = true,
            Ok(count) => {
                self.active_secs = now.uptime_secs;
                self.exchange.input.extend_from_slice(&bytes[..count]);
                self.has_request = self.conversation.has_request(&self.exchange.input);
            }
            Err(error) => {
                return matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                );
            }
        }
        true
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
