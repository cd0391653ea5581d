//! A FIFO, and its bytes cut into lines.
//!
//! One call reads once, at most what a [`LineBuffer`] has room for.

use crate::sys::fifo::Fifo;
use crate::sys::place::Inode;
use crate::wire::{LineBuffer, LineReader, PartialLine};
use std::io;
use std::rc::Rc;

/// A FIFO and the line that is not complete yet.
#[derive(Debug)]
pub struct FifoInput {
    /// What is read.
    pub fifo: Fifo,
    /// The listener's name, for the log and metrics.
    name: Rc<str>,
    /// Its identity, when somebody else keeps it over our restarts.
    held: Option<Inode>,
    /// The lines that came from it.
    line_count: u64,
    /// The bytes that came from it.
    read_bytes: u64,
    /// When a line last came, in seconds since 1970; 0: never.
    last_secs: u32,
    /// The lines read.
    lines: LineBuffer,
}

impl FifoInput {
    /// Of a FIFO just made, or held by somebody else.
    pub fn new(fifo: Fifo, name: &str, held: Option<Inode>) -> FifoInput {
        FifoInput {
            fifo,
            name: name.into(),
            held,
            line_count: 0,
            read_bytes: 0,
            last_secs: 0,
            lines: LineBuffer::default(),
        }
    }

    /// Whether somebody else keeps it, and what is in it, over our restarts.
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// The listener's name.
    pub fn name(&self) -> &Rc<str> {
        &self.name
    }

    /// The lines that came from it.
    pub fn line_count(&self) -> u64 {
        self.line_count
    }

    /// When a line last came from it, in seconds since 1970; 0: never.
    pub fn last_secs(&self) -> u32 {
        self.last_secs
    }

    /// The bytes that came from it.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// Reads once, hands out the lines that are complete, and tells how many bytes
    /// there were; `now_secs` is the time since 1970.
    ///
    /// # Errors
    /// Those of read(2); nothing to read is none.
    pub fn read(&mut self, reader: &mut impl LineReader, now_secs: u32) -> io::Result<usize> {
        match self.fifo.read(self.lines.room()) {
            Ok(count) => {
                self.read_bytes += count as u64;
                let lines = self.lines.filled(count, reader);
                self.line_count += lines;
                if lines > 0 {
                    self.last_secs = now_secs;
                }
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// The line that is not complete yet, if its end will be there after a
    /// restart.
    pub fn partial(&self) -> Option<PartialLine<'_>> {
        let (bytes, is_too_long) = self.lines.partial();
        let partial = PartialLine {
            fifo: self.held?,
            bytes,
            is_too_long,
        };
        (!partial.bytes.is_empty() || partial.is_too_long).then_some(partial)
    }

    /// Goes on with what [`FifoInput::partial`] gave, if it is of this FIFO.
    pub fn resume(&mut self, partial: &PartialLine) {
        if self.held == Some(partial.fifo) {
            self.lines.resume(partial.bytes, partial.is_too_long);
        }
    }
}
