//! The bytes of a FIFO, cut at arbitrary places, on their way into a store.
//!
//! The first byte says where they are cut. However that is, the lines are the same;
//! a record written again is the same record; and it makes no difference whether the
//! store looked ahead.

use super::input::{at, limits};
use dovestat::stats::Report;
use dovestat::store::{Now, Record, Store, PREFETCH_BATCH};
use dovestat::wire::{
    parse_record, write_record, LineBuffer, LineReader, StatsRoom, MAX_LINE_BYTES,
};

/// The most bytes read at once.
const READ_BYTES: usize = 131_072;

/// Takes the lines of a stream.
struct Taken {
    /// Where records are applied.
    store: Store,
    /// The same without looking ahead.
    plain: Store,
    /// The lines so far; `None` for one that was too long.
    lines: Vec<Option<Vec<u8>>>,
}

impl Taken {
    /// None yet.
    fn new() -> Taken {
        let store = || Store::new(&limits(256 << 10), at(0)).expect("the limit is large enough");
        Taken {
            store: store(),
            plain: store(),
            lines: Vec::new(),
        }
    }

    /// The instant of the next line.
    fn now(&self) -> Now {
        at(self.lines.len() as u32 * 10)
    }
}

impl LineReader<PREFETCH_BATCH> for Taken {
    fn take(&mut self, lines: &mut [&mut [u8]]) {
        // Used again, as by the daemon.
        let mut room = StatsRoom::default();
        let mut reports = vec![Report::default(); lines.len()];
        let mut instants = Vec::new();
        let mut records = Vec::new();
        for (line, report) in lines.iter_mut().zip(&mut reports) {
            assert!(line.len() <= MAX_LINE_BYTES && !line.contains(&b'\n'));
            let now = self.now();
            self.lines.push(Some(line.to_vec()));
            if let Ok(record) = parse_record(line, &mut room, report) {
                instants.push(now);
                records.push(record);
            }
        }
        let hints = self.store.prefetch_records(&records, self.now());
        for ((record, now), hint) in records.iter().zip(instants).zip(hints) {
            check_written(record);
            let note = self.store.apply_hinted(record, hint, now);
            assert_eq!(note, self.plain.apply(record, now));
        }
    }

    fn too_long(&mut self, beginning: &[u8]) {
        assert!(beginning.len() > MAX_LINE_BYTES);
        self.lines.push(None);
    }
}

/// Writes a record and reads it again.
fn check_written(record: &Record) {
    let mut line = Vec::new();
    if write_record(&mut line, record).is_err() {
        return;
    }
    assert_eq!(line.pop(), Some(b'\n'));
    assert!(!line.contains(&b'\n'));
    let (room, report) = (&mut StatsRoom::default(), &mut Report::default());
    let again = parse_record(&mut line, room, report).expect("what was written is a record");
    let mut shown = *record;
    if let (
        Record::UpdateCommand { update, .. },
        Record::UpdateCommand {
            update: shown_update,
            ..
        },
    ) = (&again, &mut shown)
    {
        // Long arguments are cut.
        if let (Some((_, cut)), Some((_, args))) = (update.begins, &mut shown_update.begins) {
            assert!(args.starts_with(cut));
            *args = cut;
        }
    }
    assert_eq!(again, shown);
}

/// The lines of a stream that is read in pieces.
fn read(stream: &[u8], mut piece: impl FnMut() -> usize) -> Taken {
    let mut buffer = LineBuffer::new(READ_BYTES);
    let mut taken = Taken::new();
    let mut rest = stream;
    while !rest.is_empty() {
        let count = piece().clamp(1, READ_BYTES).min(rest.len());
        buffer.room()[..count].copy_from_slice(&rest[..count]);
        let before = taken.lines.len() as u64;
        let handed_out = buffer.filled(count, &mut taken);
        assert_eq!(before + handed_out, taken.lines.len() as u64);
        rest = &rest[count..];
    }
    taken
}

/// The first byte says how the others are cut.
pub fn run(bytes: &[u8]) {
    let Some((&seed, stream)) = bytes.split_first() else {
        return;
    };
    let whole = read(stream, || READ_BYTES);
    let mut random = u32::from(seed);
    let pieces = read(stream, || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        1 + (random >> 24) as usize
    });
    assert_eq!(whole.lines, pieces.lines, "cut or whole");
    for store in [&whole.store, &whole.plain, &pieces.store] {
        store.check();
        assert_eq!(
            store.totals_of_everything(),
            whole.store.totals_of_everything()
        );
    }
}
