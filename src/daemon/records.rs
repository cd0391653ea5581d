//! From lines to statistics: each line of a FIFO is read as a record and applied, or
//! told about when it is none.
//!
//! Must not: read bytes; that is for [`fifo_input`](super::fifo_input).

use super::faults::{Fault, Faults};
use super::log::{visible, Log};
use crate::stats::Report;
use crate::store::{Now, Record, Store, LOOK_AHEAD};
use crate::wire::{parse_record, LineReader, StatsRoom};

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
    /// Where their stats fields are decoded.
    room: StatsRoom,
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
            room: StatsRoom::default(),
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
        let mut reports = [Report::default(); LOOK_AHEAD];
        let mut records = [Record::Disconnect { session: b"" }; LOOK_AHEAD];
        let mut refusals = [None; LOOK_AHEAD];
        let mut count = 0;
        for (index, (line, report)) in lines.iter_mut().zip(&mut reports).enumerate() {
            match parse_record(line, &mut self.room, report) {
                Ok(record) => {
                    records[count] = record;
                    count += 1;
                }
                Err(refusal) => refusals[index] = Some(refusal),
            }
        }
        let records = &records[..count];
        let hints = self.store.look_ahead(records, self.now);
        for (record, hint) in records.iter().zip(hints) {
            let note = self.store.apply_hinted(record, hint, self.now);
            let again = |note| self.store.apply_again(record, note, self.now);
            if let Some(note) = note.and_then(again) {
                self.report(note.into(), record.subject());
            }
        }
        for (line, refusal) in lines.iter().zip(refusals) {
            if let Some(refusal) = refusal {
                self.report(refusal.into(), line);
            }
        }
    }

    fn too_long(&mut self, beginning: &[u8]) {
        self.report(Fault::LineTooLong, beginning);
    }
}
