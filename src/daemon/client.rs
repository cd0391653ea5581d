//! A connection: requests in, replies out, in order.
//!
//! A client costs little whatever it does. Its input is read only when no
//! request of it waits and nothing of a reply is queued; a reply is made in
//! slices of about [`SLICE_BYTES`], the next when the last has been written. So
//! who pipelines without reading, reads slowly or just sits there holds one
//! slice and part of a request. A reply that fits a slice leaves in one write,
//! its empty line included, even if the walk for it takes several turns.
//!
//! Whoever drops a client gives its cursor back first: [`Client::end`].

use super::faults::{Fault, Faults};
use super::log::{visible, Log};
use crate::config::{ColumnOrder as Order, ListenerOptions};
use crate::store::{CursorId, Now, Opening, Progress, Store};
use crate::sys::bytes::find;
use crate::sys::poll::Interest;
use crate::wire::{parse_request, write_header, write_row, ColumnOrder, Request};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

/// The longest request, without its LF. Much longer than any real one, so that
/// names of the longest kind still fit.
pub const MAX_REQUEST_BYTES: usize = 4096;

/// The output at which a slice ends, in bytes; one row may pass it.
const SLICE_BYTES: usize = 16384;

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

/// What serving a client needs of the rest of the daemon.
pub struct Context<'a> {
    /// The statistics.
    pub store: &'a mut Store,
    /// What peers do wrong.
    pub faults: &'a mut Faults,
    /// Where it is told.
    pub log: &'a mut Log,
    /// The instant of this turn.
    pub now: Now,
}

/// A client.
#[derive(Debug)]
pub struct Client {
    /// Its connection, nonblocking.
    stream: Stream,
    /// How it is served.
    options: Rc<ListenerOptions>,
    /// The listener's name, for the log.
    listener: Rc<str>,
    /// Input that is not served yet: whole requests, then part of one.
    input: Vec<u8>,
    /// Output that is not written yet.
    output: Vec<u8>,
    /// How much of `output` is written.
    written: usize,
    /// The walk of the reply that is being made.
    export: Option<CursorId>,
    /// The peer has sent its last byte.
    at_eof: bool,
    /// To be closed when the output is written.
    closing: bool,
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
        Client {
            stream,
            options: Rc::clone(options),
            listener: Rc::clone(listener),
            input: Vec::new(),
            output: Vec::new(),
            written: 0,
            export: None,
            at_eof: false,
            closing: false,
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
        !self.has_output() && (self.export.is_some() || self.at_eof || self.request_end().is_some())
    }

    /// Whether it has asked for nothing that is not answered, and since when.
    pub fn idle_since_secs(&self) -> Option<u32> {
        let idle = !self.has_output() && self.export.is_none() && self.input.is_empty();
        idle.then_some(self.active_secs)
    }

    /// Gives back what the client holds, and closes the connection.
    pub fn end(mut self, store: &mut Store) {
        if let Some(cursor) = self.export.take() {
            store.close(cursor);
        }
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
        if self.export.is_none() && self.request_end().is_none() && !self.closing {
            if let Err(()) = self.fill(context) {
                return false;
            }
        }
        while self.output.len() < SLICE_BYTES && *steps > 0 && !self.closing {
            if self.export.is_some() {
                self.go_on(context.store, steps);
            } else if let Some(end) = self.request_end() {
                *steps = steps.saturating_sub(REQUEST_STEPS);
                self.answer(end, context);
            } else {
                self.closing = self.at_eof;
                break;
            }
        }
        self.flush() && (self.has_output() || !self.closing)
    }

    /// Whether output waits to be written: a whole slice, or the end of a reply.
    /// Less than that is held back while the walk goes on, so that a small reply
    /// is one write however many turns it takes to find its rows.
    fn has_output(&self) -> bool {
        let is_held = self.export.is_some() && self.output.len() < SLICE_BYTES;
        self.written < self.output.len() && !is_held
    }

    /// Where the first request of the input ends.
    fn request_end(&self) -> Option<usize> {
        find(b'\n', &self.input)
    }

    /// Writes queued output. False when the connection is broken.
    fn flush(&mut self) -> bool {
        while self.has_output() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        if self.written == self.output.len() {
            // An idle client costs no buffer.
            self.output = Vec::new();
            self.written = 0;
        }
        true
    }

    /// Reads input once. An error when the connection is to be ended.
    fn fill(&mut self, context: &mut Context) -> Result<(), ()> {
        let mut bytes = [0; MAX_REQUEST_BYTES];
        match self.stream.read(&mut bytes) {
            Ok(0) => self.at_eof = true,
            Ok(count) => {
                self.active_secs = context.now.uptime_secs;
                self.input.extend_from_slice(&bytes[..count]);
            }
            Err(error) => {
                let goes_on = matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                );
                return if goes_on { Ok(()) } else { Err(()) };
            }
        }
        let length = self.request_end().unwrap_or(self.input.len());
        if length > MAX_REQUEST_BYTES {
            self.refuse(Fault::RequestTooLong, &self.input.clone(), context);
            return Err(());
        }
        Ok(())
    }

    /// Answers the request that ends at `end`, or begins to.
    fn answer(&mut self, end: usize, context: &mut Context) {
        let mut line: Vec<u8> = self.input.drain(..=end).collect();
        line.pop();
        let order = self.column_order();
        match parse_request(&mut line.clone()) {
            Ok(Request::Export(zoom, filter)) => match context.store.open(zoom, filter) {
                Opening::Rows(cursor) => {
                    write_header(&mut self.output, zoom, order);
                    self.export = Some(cursor);
                }
                Opening::Nothing => {
                    if self.options.header_always {
                        write_header(&mut self.output, zoom, order);
                    }
                    self.end_reply(b"\n");
                }
            },
            Ok(Request::Reset) if self.options.reset => {
                context.store.reset(context.now);
                self.end_reply(b"OK\n");
            }
            Ok(Request::Reset) => self.refuse(Fault::ResetRefused, &line, context),
            Err(error) => {
                self.closing = true;
                if let Some(fault) = Fault::of_request(error) {
                    self.refuse(fault, &line, context);
                }
            }
        }
    }

    /// Makes more of a reply.
    fn go_on(&mut self, store: &mut Store, steps: &mut usize) {
        let Some(cursor) = self.export.take() else {
            return;
        };
        let order = self.column_order();
        let output = &mut self.output;
        let progress = store.read(&cursor, steps, |row| {
            write_row(output, row, order);
            output.len() < SLICE_BYTES
        });
        match progress {
            Progress::More => self.export = Some(cursor),
            Progress::Done => {
                store.close(cursor);
                self.end_reply(b"\n");
            }
        }
    }

    /// Appends the end of a reply.
    fn end_reply(&mut self, end: &[u8]) {
        self.output.extend_from_slice(end);
        self.closing |= self.options.close_after_reply;
    }

    /// Closes the connection for a fault, behind the replies before it.
    fn refuse(&mut self, fault: Fault, line: &[u8], context: &mut Context) {
        self.closing = true;
        let listener = &self.listener;
        let uptime_secs = context.now.uptime_secs;
        context.faults.report(context.log, fault, uptime_secs, || {
            format!("{listener}: {}", visible(line))
        });
    }

    /// The order of columns, in the protocol's terms.
    fn column_order(&self) -> ColumnOrder {
        match self.options.column_order {
            Order::V2_2 => ColumnOrder::V2_2,
            Order::V2_3 => ColumnOrder::V2_3,
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
