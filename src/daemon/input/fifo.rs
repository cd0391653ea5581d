//! A FIFO, and its bytes cut into lines.
//!
//! One read(2) takes at most [`READ_BYTES`].

use crate::store::PREFETCH_BATCH;
use crate::sys::fs::fifo::Fifo;
use crate::sys::fs::lookup::Inode;
use crate::wire::{LineBuffer, LineReader, PartialLine};
use std::cell::Cell;
use std::io;
use std::rc::Rc;

/// The most bytes of a read(2): some 500 records. With half as many a record takes up to 6%
/// more time in a flood.
const READ_BYTES: usize = 131_072;

/// A FIFO and the line that is not complete yet.
#[derive(Debug)]
pub(crate) struct FifoInput {
    pub fifo: Fifo,
    /// Its slot in the poll set.
    pub slot: Option<usize>,
    /// The listener's name, for the log and metrics.
    name: Rc<str>,
    /// Its identity, when the service manager keeps it over restarts of the daemon.
    kept: Option<Inode>,
    counts: Rc<Counts>,
    lines: LineBuffer,
    /// Another FIFO has its path now; it is read for writers that have it open.
    is_retired: bool,
    /// It comes to its end when its last writer closes it.
    can_end: bool,
    /// All writers have closed it.
    has_ended: bool,
}

/// Counts of the FIFOs at a path, one after the other.
#[derive(Debug, Default)]
struct Counts {
    lines: Cell<u64>,
    bytes: Cell<u64>,
    /// When a line last came, in seconds since 1970; 0: never.
    last_secs: Cell<u32>,
}

impl FifoInput {
    /// `kept` is the identity of a FIFO that the service manager passed.
    pub(crate) fn new(fifo: Fifo, name: &str, kept: Option<Inode>) -> FifoInput {
        FifoInput {
            fifo,
            slot: None,
            name: name.into(),
            kept,
            counts: Rc::default(),
            lines: LineBuffer::new(READ_BYTES),
            is_retired: false,
            can_end: false,
            has_ended: false,
        }
    }

    /// One of an earlier process, to be read until its last writer closes it, with the
    /// counts of the one that took its path, if there is one.
    pub(crate) fn retired(mut self, follower: Option<&FifoInput>) -> FifoInput {
        if let Some(follower) = follower {
            self.counts = Rc::clone(&follower.counts);
        }
        self.is_retired = true;
        self.can_end = true;
        self
    }

    /// Has it end when its last writer closes it. Returns whether that can be found out.
    pub(crate) fn let_end(&mut self) -> bool {
        self.can_end |= self.fifo.close_writer();
        self.can_end
    }

    /// Whether [`FifoInput::has_ended`] will be true.
    pub(crate) fn can_end(&self) -> bool {
        self.can_end
    }

    /// The identity of the FIFO that another process made.
    pub(crate) fn inode(&self) -> Option<Inode> {
        self.kept
    }

    /// Replaces the FIFO by `fifo`. Returns the old one, to be read until its last writer
    /// closes it.
    pub(crate) fn replace(&mut self, fifo: Fifo) -> FifoInput {
        let new = FifoInput {
            counts: Rc::clone(&self.counts),
            ..FifoInput::new(fifo, &self.name, None)
        };
        let mut old = std::mem::replace(self, new);
        old.let_end();
        old.is_retired = true;
        old
    }

    /// Whether it is the one at its path, not an earlier one.
    pub(crate) fn is_current(&self) -> bool {
        !self.is_retired
    }

    /// Whether nothing can come from it any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether the service manager keeps it, with its bytes, over restarts of the daemon.
    pub(crate) fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    pub(crate) fn name(&self) -> &Rc<str> {
        &self.name
    }

    /// The lines that came from it and those before it.
    pub(crate) fn line_count(&self) -> u64 {
        self.counts.lines.get()
    }

    /// When a line last came from it or those before it, in seconds since 1970; 0:
    /// never.
    pub(crate) fn last_secs(&self) -> u32 {
        self.counts.last_secs.get()
    }

    /// The bytes that came from it and those before it.
    pub(crate) fn read_bytes(&self) -> u64 {
        self.counts.bytes.get()
    }

    /// Reads to the end of what there is, but not on once it has `least_bytes`, and hands
    /// out the lines that are complete. `now_secs` is the time since 1970. Returns the
    /// number of bytes, and whether there may be more.
    ///
    /// # Errors
    /// Those of read(2); nothing to read is none.
    pub(crate) fn read(
        &mut self,
        reader: &mut impl LineReader<PREFETCH_BATCH>,
        least_bytes: usize,
        now_secs: u32,
    ) -> io::Result<(usize, bool)> {
        let mut bytes = 0;
        loop {
            let count = self.read_once(reader, now_secs)?;
            bytes += count;
            if count < READ_BYTES || bytes >= least_bytes {
                return Ok((bytes, count == READ_BYTES));
            }
        }
    }

    fn read_once(
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
                self.has_ended = self.can_end && count == 0;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Frees the buffer, which is not needed before something comes.
    pub(crate) fn give_up_buffer(&mut self) {
        self.lines.give_up();
    }

    /// The line that is not complete yet, if a restart does not lose its end.
    pub(crate) fn partial(&self) -> Option<PartialLine<'_>> {
        let (bytes, is_too_long) = self.lines.partial();
        let partial = PartialLine {
            fifo: self.kept?,
            bytes,
            is_too_long,
        };
        (!partial.bytes.is_empty() || partial.is_too_long).then_some(partial)
    }

    /// Goes on with a line of [`FifoInput::partial`], if it is of this FIFO.
    pub(crate) fn resume(&mut self, partial: &PartialLine) {
        if self.kept == Some(partial.fifo) {
            self.lines.resume(partial.bytes, partial.is_too_long);
        }
    }
}
