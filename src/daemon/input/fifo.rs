//! A FIFO, and its bytes cut into lines.
//!
//! One call reads once, at most what a [`LineBuffer`] has room for.

use crate::store::PREFETCH_BATCH;
use crate::sys::fs::fifo::Fifo;
use crate::sys::fs::lookup::Inode;
use crate::wire::{LineBuffer, LineReader, PartialLine};
use std::cell::Cell;
use std::io;
use std::rc::Rc;

/// The most bytes read in a turn: as much as an ordinary pipe holds, some 200
/// records.
const READ_BYTES: usize = 65536;

/// A FIFO and the line that is not complete yet.
#[derive(Debug)]
pub struct FifoInput {
    /// What is read.
    pub fifo: Fifo,
    /// The listener's name, for the log and metrics.
    name: Rc<str>,
    /// Its identity, when somebody else keeps it over our restarts.
    held: Option<Inode>,
    /// What came from it.
    counts: Rc<Counts>,
    /// The lines read.
    lines: LineBuffer,
    /// Another FIFO has taken its path; it is read for those who have it open.
    is_retired: bool,
    /// All of those have closed it.
    has_ended: bool,
}

/// What came from the FIFOs at a path, one after the other.
#[derive(Debug, Default)]
struct Counts {
    /// Lines.
    lines: Cell<u64>,
    /// Bytes.
    bytes: Cell<u64>,
    /// When a line last came, in seconds since 1970; 0: never.
    last_secs: Cell<u32>,
}

impl FifoInput {
    /// Of a FIFO just made, or held by somebody else.
    pub fn new(fifo: Fifo, name: &str, held: Option<Inode>) -> FifoInput {
        FifoInput {
            fifo,
            name: name.into(),
            held,
            counts: Rc::default(),
            lines: LineBuffer::new(READ_BYTES),
            is_retired: false,
            has_ended: false,
        }
    }

    /// Puts `fifo` in the place of the one that was read, which is given back to be
    /// read until its last writer has closed it.
    pub fn replace(&mut self, fifo: Fifo) -> FifoInput {
        let new = FifoInput {
            counts: Rc::clone(&self.counts),
            ..FifoInput::new(fifo, &self.name, None)
        };
        let mut old = std::mem::replace(self, new);
        old.fifo.close_writer();
        old.is_retired = true;
        old
    }

    /// Whether it is the one at its path, not an earlier one.
    pub fn is_current(&self) -> bool {
        !self.is_retired
    }

    /// Whether nothing can come from it any more.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether somebody else keeps it, and what is in it, over our restarts.
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// The listener's name.
    pub fn name(&self) -> &Rc<str> {
        &self.name
    }

    /// The lines that came from it and those before it.
    pub fn line_count(&self) -> u64 {
        self.counts.lines.get()
    }

    /// When a line last came from it or those before it, in seconds since 1970; 0:
    /// never.
    pub fn last_secs(&self) -> u32 {
        self.counts.last_secs.get()
    }

    /// The bytes that came from it and those before it.
    pub fn read_bytes(&self) -> u64 {
        self.counts.bytes.get()
    }

    /// Reads once, hands out the lines that are complete, and tells how many bytes
    /// there were; `now_secs` is the time since 1970.
    ///
    /// # Errors
    /// Those of read(2); nothing to read is none.
    pub fn read(
        &mut self,
        reader: &mut impl LineReader<PREFETCH_BATCH>,
        now_secs: u32,
    ) -> io::Result<usize> {
        match self.fifo.read(self.lines.room()) {
            Ok(count) => {
                let counts = &self.counts;
                counts.bytes.set(counts.bytes.get() + count as u64);
                let lines = self.lines.filled(count, reader);
                counts.lines.set(counts.lines.get() + lines);
                if lines > 0 {
                    counts.last_secs.set(now_secs);
                }
                self.has_ended = self.is_retired && count == 0;
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
