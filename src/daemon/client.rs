//! A connection: requests in, replies out, in order, whatever the protocol.
//!
//! A client costs little whatever it does. Its input is read only when no
//! request of it waits and nothing of a reply is queued; a reply is made in
//! slices of about [`SLICE_BYTES`](super::conversation::SLICE_BYTES), the next when the last has been written. So
//! who pipelines without reading, reads slowly or just sits there holds one
//! slice and part of a request. A reply that fits a slice leaves in one write,
//! its end included, even if the walk for it takes several turns.
//!
//! What the bytes mean is for its [`Conversation`] to know.
//!
//! Whoever drops a client gives back what it holds first: [`Client::end`].

use super::context::Context;
use super::conversation::{Conversation, Exchange};
use super::export::Export;
use super::http::Http;
use crate::config::{ListenerOptions, Protocol};
use crate::store::{Now, Store};
use crate::sys::poll::Interest;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

/// The most that is read at once, in bytes: more than any real request has.
const READ_BYTES: usize = 4096;

/// What a request costs before its first row, in steps: where the walk begins
/// may take looks at a thousand entries, which are cheaper than those of steps.
const REQUEST_STEPS: usize = 32;

/// The most input that is read and thrown away when a connection is closed, in
/// bytes: unread input would make TCP take back replies under way.
const DRAIN_BYTES: usize = 65536;

/// A connected socket.
#[derive(Debug)]
pub enum Stream {
    /// Of a UNIX socket.
    Unix(UnixStream),
    /// Of a TCP port.
    Tcp(TcpStream),
}

impl Stream {
    /// read(2).
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.read(bytes),
            Stream::Tcp(stream) => stream.read(bytes),
        }
    }

    /// write(2).
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.write(bytes),
            Stream::Tcp(stream) => stream.write(bytes),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Unix(stream) => stream.as_fd(),
            Stream::Tcp(stream) => stream.as_fd(),
        }
    }
}

/// A client.
pub struct Client {
    /// Its connection, nonblocking.
    stream: Stream,
    /// What was read and what is to be written.
    exchange: Exchange,
    /// What that means.
    conversation: Box<dyn Conversation>,
    /// Whether the input begins with a request; found out when the input changes,
    /// not whenever it is asked for.
    has_request: bool,
    /// How much of the output is written.
    written: usize,
    /// The peer has sent its last byte.
    at_eof: bool,
    /// When it last sent something.
    active_secs: u32,
}

impl Client {
    /// A client just accepted.
    pub fn new(
        stream: Stream,
        options: &Rc<ListenerOptions>,
        listener: &Rc<str>,
        now: Now,
    ) -> Client {
        let conversation: Box<dyn Conversation> = match options.protocol {
            Protocol::Stats => Box::new(Export::new(options, listener)),
            Protocol::Http => Box::new(Http::new(options, listener)),
        };
        Client {
            stream,
            exchange: Exchange::default(),
            conversation,
            has_request: false,
            written: 0,
            at_eof: false,
            active_secs: now.uptime_secs,
        }
    }

    /// What is waited for: room for queued output, else input.
    pub fn interest(&self) -> Interest {
        match self.has_output() {
            true => Interest::WRITE,
            false => Interest::READ,
        }
    }

    /// Whether there is something to do without waiting.
    pub fn can_go_on(&self) -> bool {
        !self.has_output() && (self.is_busy() || self.at_eof)
    }

    /// Whether it has asked for nothing that is not answered, and since when. Who
    /// began a request and does not end it has asked for nothing.
    pub fn idle_since_secs(&self) -> Option<u32> {
        let idle = !self.has_output() && !self.is_busy();
        idle.then_some(self.active_secs)
    }

    /// Gives back what the client holds, and closes the connection.
    pub fn end(mut self, store: &mut Store) {
        self.conversation.end(store);
        // If it stays unread, it stays unread; no error matters any more.
        let _ = self.stream.read(&mut vec![0; DRAIN_BYTES]);
    }

    /// Writes, reads and answers as far as that goes without waiting and within
    /// `steps`, which are taken off. False when the client is to be ended.
    pub fn serve(&mut self, context: &mut Context, steps: &mut usize) -> bool {
        if !self.flush() {
            return false;
        }
        if self.has_output() {
            return true;
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
        self.flush() && (self.has_output() || !self.exchange.closing)
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
    fn flush(&mut self) -> bool {
        while self.has_output() {
            match self.stream.write(&self.exchange.output[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        if self.written == self.exchange.output.len() {
            // An idle client costs no buffer.
            self.exchange.output = Vec::new();
            self.written = 0;
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
