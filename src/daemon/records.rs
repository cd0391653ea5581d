//! From lines to statistics: each line of a FIFO is read as a record and applied, or
//! told about when it is none.
//!
//! Must not: read bytes; that is for [`fifo_input`](super::fifo_input).

use super::faults::{Fault, Faults};
use super::log::{visible, Log};
use crate::store::{Now, Store, Subject, LOOK_AHEAD};
use crate::wire::{parse_record, Head, LineReader, StatsRoom};

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
    fn take(&mut self, lines: &mut [&mut [u8]]) {
        let mut heads = [Head::NONE; LOOK_AHEAD];
        let mut subjects = [Subject::default(); LOOK_AHEAD];
        for ((head, subject), line) in heads.iter_mut().zip(&mut subjects).zip(&*lines) {
            *head = Head::of(line);
            *subject = head.subject(line);
        }
        let hints = self.store.look_ahead(&subjects[..lines.len()], self.now);
        let mut room = StatsRoom::default();
        for ((line, head), hint) in lines.iter_mut().zip(&heads).zip(&hints) {
            match parse_record(line, *head, &mut room) {
                Ok(record) => {
                    let note = self.store.apply_hinted(&record, *hint, self.now);
                    let again = |note| self.store.apply_again(&record, note, self.now);
                    if let Some(note) = note.and_then(again) {
                        self.report(note.into(), record.subject());
                    }
                }
                Err(refusal) => self.report(refusal.into(), line),
            }
        }
    }

    fn too_long(&mut self, beginning: &[u8]) {
        self.report(Fault::LineTooLong, beginning);
    }
}
