//! From lines to statistics: each line of a FIFO is read as a record and applied, or
//! logged when it is none.
//!
//! Must not: read bytes; that is for [`fifo`](crate::daemon::input::fifo).

use crate::config::show_size;
use crate::daemon::faults::{Fault, Faults};
use crate::daemon::input::slow::SlowCommands;
use crate::daemon::log::{grouped, visible, Log};
use crate::stats::{Report, StatsError};
use crate::store::{Filter, Level, Note, Now, Opening, Record, Row, Store, PREFETCH_BATCH};
use crate::wire::{read_record, LineReader, Refusal, StatsRoom};

/// The lines of a FIFO on their way to the store.
pub(crate) struct Records<'a> {
    store: &'a mut Store,
    slow: &'a mut SlowCommands,
    now: Now,
    complaints: Complaints<'a>,
    decoded: &'a mut Decoded,
}

/// Where stats fields are decoded; not kept while the daemon sleeps.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    room: StatsRoom,
    reports: [Report; PREFETCH_BATCH],
}

/// What is wrong with the lines of a FIFO.
struct Complaints<'a> {
    name: &'a str,
    log: &'a mut Log,
    faults: &'a mut Faults,
    /// [`Now::uptime_secs`] of the lines.
    now_secs: u32,
}

impl<'a> Records<'a> {
    /// Those of the FIFO `name`. `decoded` may have been used before: to make it takes as
    /// long as some records.
    pub(crate) fn new(
        name: &'a str,
        decoded: &'a mut Decoded,
        (store, slow): (&'a mut Store, &'a mut SlowCommands),
        (log, faults): (&'a mut Log, &'a mut Faults),
        now: Now,
    ) -> Records<'a> {
        Records {
            store,
            slow,
            now,
            complaints: Complaints {
                name,
                log,
                faults,
                now_secs: now.uptime_secs,
            },
            decoded,
        }
    }
}

impl Complaints<'_> {
    /// Logs what is wrong with a line.
    fn report(&mut self, fault: Fault, line: &[u8]) {
        self.report_detail(fault, || visible(line));
    }

    /// Logs a fault with its detail.
    fn report_detail(&mut self, fault: Fault, detail: impl FnOnce() -> String) {
        let report = || format!("{}: {}", self.name, detail());
        self.faults.report(self.log, fault, self.now_secs, report);
    }

    /// Logs that a record's session has no room, and what limit would have.
    #[cold]
    fn report_full(&mut self, fault: Fault, subject: &[u8], store: &Store) {
        self.report_detail(fault, || {
            let limit_bytes = store.usage().limit_bytes as u64;
            format!(
                "{}: {} connected sessions fill stats_memory_limit = {}; {} would pin them",
                visible(subject),
                grouped(store.totals_of_everything().connected),
                show_size(limit_bytes),
                show_size(limit_bytes.saturating_mul(2)),
            )
        });
    }
}

/// The session of a line and its user, as far as it is known, or the user of an ADD-USER;
/// and why its stats field is refused.
fn refused_stats(store: &mut Store, line: &[u8], why: &StatsError) -> String {
    let mut fields = line.split(|&byte| byte == b'\t');
    let (kind, subject) = (fields.next(), fields.next().unwrap_or_default());
    if kind == Some(b"ADD-USER") {
        return format!("user {}: {why}", visible(subject));
    }
    let mut user = "not known".to_owned();
    let filter = Filter {
        session: Some(subject.to_vec()),
        ..Filter::default()
    };
    if let Opening::Rows(walk) = store.open(Level::Session, filter) {
        store.read(&walk, &mut 1, |row| {
            if let Row::Session { user: name, .. } = row {
                user = visible(name);
            }
            false
        });
        store.close(walk);
    }
    format!("session {}, user {user}: {why}", visible(subject))
}

impl LineReader<PREFETCH_BATCH> for Records<'_> {
    fn take(&mut self, lines: &mut [&mut [u8]]) {
        let mut records = [Record::Disconnect { session: b"" }; PREFETCH_BATCH];
        let mut refusals = [None; PREFETCH_BATCH];
        let mut count = 0;
        let Decoded { room, reports } = &mut *self.decoded;
        for (index, (line, report)) in lines.iter_mut().zip(reports).enumerate() {
            // No more records than lines.
            match read_record(line, room, report, &mut records[count]) {
                Ok(()) => count += 1,
                Err(refusal) => refusals[index] = Some(refusal),
            }
        }
        let records = &records[..count];
        let hints = self.store.prefetch_records(records, self.now);
        for (record, hint) in records.iter().zip(hints) {
            match self.store.apply_hinted(record, hint, self.now) {
                None => {}
                Some(note @ (Note::NoRoom | Note::Untracked)) => {
                    let subject = record.subject();
                    self.complaints
                        .report_full(note.into(), subject, self.store);
                }
                Some(note) => self.complaints.report(note.into(), record.subject()),
            }
        }
        let Complaints { log, now_secs, .. } = &mut self.complaints;
        self.slow.serve(self.store, *now_secs, log);
        for (line, refusal) in lines.iter().zip(refusals) {
            match refusal {
                Some(Refusal::BadStats(error)) => {
                    let detail = || refused_stats(self.store, line, &error);
                    self.complaints
                        .report_detail(Refusal::BadStats(error).into(), detail);
                }
                Some(refusal) => self.complaints.report(refusal.into(), line),
                None => {}
            }
        }
    }

    fn too_long(&mut self, beginning: &[u8]) {
        self.complaints.report(Fault::LineTooLong, beginning);
    }
}
