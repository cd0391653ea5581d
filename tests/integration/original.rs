//! Where the original service (Dovecot 2.3.19 `old-stats`) and this one are
//! allowed to differ: the only such list. Everything else must be equal.
//!
//! `RECORDS` names records that the original treats differently; `compare` keeps
//! those from both services when it compares them (this service meets them in
//! the comparison with the model). `OPEN` names records on which neither the
//! protocol nor a ruling says anything; they are kept from everybody. `COLUMNS`
//! names differences of printed values. Each counts how often it was needed.

use crate::link::{micros, Table};
use crate::model::{Model, NARROW};
use crate::reading::{parse, unbase64, unescape, Record, Wrong};

/// A record about to be sent, and what both services know by then.
pub struct Case<'a> {
    /// The state before the record.
    pub model: &'a Model,
    /// The line without its LF.
    pub line: &'a [u8],
    /// Its fields as they are.
    pub raw: Vec<&'a [u8]>,
    /// What the rulings make of it.
    pub record: Result<Record, Wrong>,
}

impl<'a> Case<'a> {
    /// Takes a line apart.
    pub fn new(model: &'a Model, line: &'a [u8]) -> Case<'a> {
        Case {
            model,
            line,
            raw: line.split(|&b| b == b'\t').collect(),
            record: parse(line),
        }
    }

    fn word(&self) -> &[u8] {
        self.raw[0]
    }

    fn field(&self, at: usize) -> Vec<u8> {
        self.raw.get(at).map(|f| unescape(f)).unwrap_or_default()
    }

    fn is_update(&self) -> bool {
        self.word() == b"UPDATE-SESSION" || self.word() == b"UPDATE-CMD"
    }

    /// The `rip=` values.
    fn addresses(&self) -> Vec<Vec<u8>> {
        let keys = self.raw.iter().skip(5).map(|f| unescape(f));
        let values = keys.filter_map(|f| f.strip_prefix(b"rip=").map(<[u8]>::to_vec));
        if self.word() == b"CONNECT" {
            values.collect()
        } else {
            Vec::new()
        }
    }

    /// Where a record must hold its stats if it has no field too many.
    fn stats_at(&self) -> usize {
        match self.word() {
            b"UPDATE-SESSION" => 2,
            b"UPDATE-CMD" if self.field(3).contains(&b'c') => 4,
            b"UPDATE-CMD" => 6,
            b"ADD-USER" => 3,
            _ => usize::MAX,
        }
    }
}

/// A record that the original treats differently.
pub struct Exception {
    /// What it is called in the test's output.
    pub name: &'static str,
    /// The ruling, by its number in the list of rulings, and what the original
    /// does.
    pub why: &'static str,
    /// Whether it is this case.
    pub applies: fn(&Case) -> bool,
}

/// Records on which the original differs by a ruling.
pub const RECORDS: &[Exception] = &[
    Exception {
        name: "line too long",
        why: "2: a line of more than 8192 bytes, its LF included, closes the original's FIFO for ever",
        applies: |c| c.line.len() + 1 > 8192,
    },
    Exception {
        name: "NUL",
        why: "16: the original cuts texts at a NUL, and a line with a raw one",
        applies: |c| c.line.contains(&0) || c.raw.iter().any(|f| unescape(f).contains(&0)),
    },
    Exception {
        name: "TAB in args",
        why: "quirk of writers: the original takes the second piece of the args for the stats",
        applies: |c| c.word() == b"UPDATE-CMD" && c.raw.len() > 7 && !c.field(3).contains(&b'c'),
    },
    Exception {
        name: "half-made command",
        why: "3: the original keeps a command whose stats were wrong or missing",
        applies: |c| {
            c.word() == b"UPDATE-CMD"
                && c.raw.len() >= 6
                && c.model.live(&c.field(1))
                && !c.field(3).contains(&b'c')
                && c.record.is_err()
                && !matches!(parse(&without_stats(c)), Err(Wrong::Form))
        },
    },
    Exception {
        name: "half-continued command",
        why: "3: the original moves last_update of a command whose next stats are wrong or missing",
        applies: |c| {
            let number = std::str::from_utf8(&c.field(2))
                .ok()
                .and_then(|n| n.parse().ok());
            c.word() == b"UPDATE-CMD"
                && c.record.is_err()
                && c.field(3).contains(&b'c')
                && number.is_some_and(|n| c.model.runs(&c.field(1), n))
        },
    },
    Exception {
        name: "half-made user",
        why:
            "3: the original keeps user and domain of an ADD-USER with wrong stats, and moves the \
              user's last_update",
        applies: |c| c.word() == b"ADD-USER" && matches!(c.record, Err(Wrong::Stats)),
    },
    Exception {
        name: "unknown session",
        why: "14: the original makes a session and counts a login for any UPDATE of an id that is \
              not connected, also for a wrong one and after DISCONNECT",
        applies: |c| {
            let fields = if c.word() == b"UPDATE-SESSION" { 2 } else { 4 };
            c.is_update() && c.raw.len() >= fields && !c.model.live(&c.field(1))
        },
    },
    Exception {
        name: "32 bits wrapped",
        why: "12: the original takes a wrapped counter for a shrunk one",
        applies: |c| {
            c.record
                .as_ref()
                .is_ok_and(|r| c.model.steps_back(r) == (false, true))
        },
    },
    Exception {
        name: "shrunk totals",
        why: "13: the original refuses every record until the totals have grown again",
        applies: |c| c.record.as_ref().is_ok_and(|r| c.model.steps_back(r).0),
    },
    Exception {
        name: "insane numbers",
        why: "12: the original takes values beyond 2^53 and negative times",
        applies: |c| c.record == Err(Wrong::Insane),
    },
    Exception {
        name: "a million microseconds or more",
        why: "12: the original neither carries nor refuses them, and cuts them to 32 bits",
        applies: |c| {
            let report = c.record.as_ref().ok().and_then(Record::report);
            report.is_some_and(|r| r.unnormal)
        },
    },
    Exception {
        name: "id with control characters",
        why: "16: the original does not escape session ids",
        applies: |c| {
            let id = c.field(1);
            c.word() == b"CONNECT" && id.iter().any(|b| b"\t\r\n\x01".contains(b))
        },
    },
    Exception {
        name: "IPv4-mapped address",
        why: "17: the original keeps it apart from its IPv4 address",
        applies: |c| {
            let addresses = c.addresses();
            let mut texts = addresses.iter().filter_map(|a| std::str::from_utf8(a).ok());
            texts.any(|a| {
                a.parse::<std::net::Ipv6Addr>()
                    .is_ok_and(|a| a.to_ipv4_mapped().is_some())
            })
        },
    },
    Exception {
        name: "loosely written address",
        why: "16: the original takes what inet_aton takes (1.2.3, 0x7f.1, 010.1.1.1, [::1])",
        applies: |c| {
            c.addresses().iter().any(|a| {
                let loose = |b: &u8| {
                    b.is_ascii_hexdigit() || b".xX[]:".contains(b) || b.is_ascii_whitespace()
                };
                let strict =
                    std::str::from_utf8(a).is_ok_and(|a| a.parse::<std::net::IpAddr>().is_ok());
                let head = a
                    .split(|b| b.is_ascii_whitespace())
                    .next()
                    .unwrap_or_default();
                !strict && !a.is_empty() && head.iter().all(loose)
            })
        },
    },
    Exception {
        name: "command begun again",
        why: "the original refuses a beginning that is said again word for word",
        applies: |c| match &c.record {
            Ok(Record::Begin {
                id,
                number,
                name,
                args,
                ..
            }) => c.model.begun(id, *number, name, args),
            _ => false,
        },
    },
    Exception {
        name: "address of ADD-USER",
        why: "the original ignores it; here it counts what is added",
        applies: |c| matches!(&c.record, Ok(Record::AddUser { ip: Some(_), .. })),
    },
    Exception {
        name: "number of a command that is over",
        why: "a command is over when the next one of its session begins; the original \
              refuses its number until it is done",
        applies: |c| match &c.record {
            Ok(Record::Begin { id, number, .. }) => c.model.is_over(id, *number),
            _ => false,
        },
    },
    Exception {
        name: "command that does not run",
        why: "15: the original warns \"Already expired\" and does not refresh the session; what \
              comes late counts to its command here",
        applies: |c| match &c.record {
            Ok(Record::Continue { id, number, .. }) => !c.model.runs(id, *number),
            _ => false,
        },
    },
];

/// Records on which nothing was ruled.
pub const OPEN: &[Exception] = &[
    Exception {
        name: "fields too many",
        why: "the original ignores them; here the last of several addresses holds",
        applies: |c| match c.word() {
            b"DISCONNECT" => c.raw.len() > 2,
            b"CONNECT" => c.addresses().len() > 1,
            _ => false,
        },
    },
    Exception {
        name: "base64 written oddly",
        why: "the original skips blanks and line ends within and takes stray low bits at the end",
        applies: |c| {
            let last = unescape(c.raw[c.raw.len() - 1]);
            let packed: Vec<u8> = last
                .iter()
                .copied()
                .filter(|b| !b.is_ascii_whitespace())
                .collect();
            let odd = match unbase64(&packed) {
                Some(bytes) => crate::records::base64(&bytes).as_bytes() != last,
                None => packed.len() != last.len(),
            };
            c.stats_at() != usize::MAX && odd
        },
    },
    Exception {
        name: "escaped record word",
        why: "the original undoes escapes in the first field too",
        applies: |c| c.word().contains(&1),
    },
    Exception {
        name: "lone escape character",
        why: "a field that ends in \\x01: the original drops the character",
        applies: |c| {
            c.raw
                .iter()
                .any(|f| f.iter().rev().take_while(|&&b| b == 1).count() % 2 == 1)
        },
    },
    Exception {
        name: "empty session id",
        why: "the original takes it as an id like any other",
        applies: |c| c.raw.len() > 1 && c.raw[1].is_empty() && c.word() != b"ADD-USER",
    },
];

/// The record with an empty stats field in place of its own.
fn without_stats(case: &Case) -> Vec<u8> {
    let mut fields = case.raw.clone();
    fields.truncate(6);
    fields.push(b"");
    fields.join(&b'\t')
}

/// A difference of printed values that is allowed between original and ours.
pub struct Column {
    /// What it is called in the test's output.
    pub name: &'static str,
    /// The ruling and what the original prints.
    pub why: &'static str,
    /// Whether `original` may stand for `ours` in the column of that name, at that
    /// place among the statistics columns (None: not one of them).
    pub equal: fn(column: &str, place: Option<usize>, original: &str, ours: &str) -> bool,
}

/// Values that may be printed differently.
pub const COLUMNS: &[Column] = &[
    Column {
        name: "time of arrival",
        why: "the services get the same record at different times; their order is compared apart",
        equal: |column, _, original, ours| {
            (column == "last_update" || column == "reset_timestamp")
                && (original == "0.000000") == (ours == "0.000000")
        },
    },
    Column {
        name: "unpadded microseconds",
        why: "protocol 2: 7442 us are 0.7442 in the original; 1000000 us are not carried (12)",
        equal: |_, place, original, ours| {
            let digits = ours.split_once('.').map_or(0, |(_, usecs)| usecs.len());
            place.is_some_and(|p| p < 3) && digits == 6 && micros(original) == micros(ours)
        },
    },
    Column {
        name: "sums of 32 bits",
        why: "12: sums wrap at 2^32 in the original",
        equal: |_, place, original, ours| {
            let narrow = place.is_some_and(|p| NARROW.contains(&p));
            let (original, ours) = (original.parse::<u64>(), ours.parse::<u64>());
            narrow
                && ours.as_ref().is_ok_and(|n| *n > u64::from(u32::MAX))
                && ours.map(|n| n % (1 << 32)) == original
        },
    },
];

/// Compares a level of the original with ours, header, rows and order; gives
/// the differences, counting for each rule of [`COLUMNS`] how often it helped.
pub fn differences(original: &Table, ours: &Table, counts: &mut [u64]) -> Vec<String> {
    let mut found = Vec::new();
    if original.names != ours.names {
        found.push(format!(
            "header {:?}, ours {:?}",
            original.names, ours.names
        ));
        return found;
    }
    if original.rows.len() != ours.rows.len() {
        found.push(format!(
            "{} rows, ours {}",
            original.rows.len(),
            ours.rows.len()
        ));
    }
    let first = original
        .names
        .iter()
        .position(|n| n == "user_cpu")
        .unwrap_or(usize::MAX);
    for (n, (theirs, mine)) in original.rows.iter().zip(&ours.rows).enumerate() {
        for (at, (a, b)) in theirs.iter().zip(mine).enumerate() {
            if a == b {
                continue;
            }
            let (name, place) = (original.names[at].as_str(), at.checked_sub(first));
            match COLUMNS
                .iter()
                .position(|rule| (rule.equal)(name, place, a, b))
            {
                Some(rule) => counts[rule] += 1,
                None => found.push(format!(
                    "row {n} ({:?}), {name}: original {a:?}, ours {b:?}",
                    &theirs[..theirs.len().min(3)]
                )),
            }
        }
    }
    found
}
