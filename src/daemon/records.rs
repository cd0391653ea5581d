//! From lines to statistics: each line of a FIFO is read as a record and applied, or
//! told about when it is none.
//!
//! Must not: read bytes; that is for [`fifo_input`](super::fifo_input).

use super::faults::{Fault, Faults};
use super::log::{visible, Log};
use crate::store::{Hint, Now, Store, LOOK_AHEAD};
use crate::wire::{parse_record, subject_of, Line, LineReader};

/// The lines of a FIFO on their way to the store.
pub struct Records<'a> {
    /// The FIFO's name.
    name: &'a str,
    /// Where they are applied.
    store: &'a mut Store,
    /// Where what is wrong with them is told.
    log: &'a mut Log,
    /// What is wrong with them.
    faults: &'a mut Faults,
    /// When they are applied.
    now: Now,
    /// Where the sessions of the next ones are.
    hints: std::array::IntoIter<Option<Hint>, LOOK_AHEAD>,
}

impl<'a> Records<'a> {
    /// Those of the FIFO `name`.
    pub fn new(
        name: &'a str,
        store: &'a mut Store,
        (log, faults): (&'a mut Log, &'a mut Faults),
        now: Now,
    ) -> Records<'a> {
        Records {
            name,
            store,
            log,
            faults,
            now,
            hints: [None; LOOK_AHEAD].into_iter(),
        }
    }

    /// Tells what is wrong with a line.
    fn report(&mut self, fault: Fault, line: &[u8]) {
        let report = || format!("{}: {}", self.name, visible(line));
        let now_secs = self.now.uptime_secs;
        self.faults.report(self.log, fault, now_secs, report);
    }
}

impl LineReader for Records<'_> {
    fn look_ahead(&mut self, lines: &[&[u8]]) {
        let mut ids = [&[][..]; LOOK_AHEAD];
        for (id, line) in ids.iter_mut().zip(lines) {
            *id = subject_of(line);
        }
        self.hints = self.store.look_ahead(&ids[..lines.len()]).into_iter();
    }

    fn take(&mut self, line: Line) {
        let hint = self.hints.next().flatten();
        match line {
            Line::TooLong(beginning) => self.report(Fault::LineTooLong, beginning),
            Line::Whole(line) => match parse_record(line) {
                Ok(record) => {
                    if let Some(note) = self.store.apply_hinted(&record, hint, self.now) {
                        self.report(note.into(), record.subject());
                    }
                }
                Err(refusal) => self.report(refusal.into(), line),
            },
        }
    }
}
