//! A mail process of the demonstration: one user after the other logs in, has
//! commands done, and logs out.
//!
//! What is seen of it is real: it writes mails to files, reads and searches them,
//! and [reports](crate::report) what that took. It never ends by itself.

use super::failed;
use crate::config::Fatal;
use crate::report::{FifoWriter, Login, Meter, Session};
use crate::stats::{place, Stats};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Who uses the demonstration, from where, and how busy each is, from 1.
const USERS: [(&str, &str, u64); 10] = [
    ("alice@example.org", "192.0.2.10", 8),
    ("bob@example.org", "192.0.2.23", 3),
    ("carol@example.com", "198.51.100.7", 5),
    ("dave@example.com", "2001:db8::7", 1),
    ("erin@example.net", "203.0.113.5", 2),
    ("frank@example.net", "203.0.113.5", 1),
    ("grace@example.org", "2001:db8:1::23", 4),
    ("heidi@example.com", "198.51.100.40", 2),
    ("ivan@example.net", "192.0.2.77", 1),
    ("judy@mail.example", "2001:db8:2::9", 3),
];

/// What a command has done.
#[derive(Clone, Copy)]
enum Deed {
    /// Looks which mails there are.
    List,
    ReadOne,
    ReadAll,
    Search,
    Write,
}

/// A kind of command: its name, its arguments, what it does.
type Kind = (&'static [u8], &'static [u8], Deed);

/// The services, each of which a part of the workers is, and what is done there; what
/// stands there twice is done twice as often.
const SERVICES: [(&str, &[Kind]); 4] = [
    ("imap", IMAP),
    ("imap", IMAP),
    (
        "pop3",
        &[
            (b"LIST", b"", Deed::List),
            (b"RETR", b"1", Deed::ReadOne),
            (b"RETR", b"2", Deed::ReadOne),
        ],
    ),
    (
        "lmtp",
        &[
            (b"RCPT", b"TO:<user>", Deed::List),
            (b"DATA", b"", Deed::Write),
        ],
    ),
];

const IMAP: &[Kind] = &[
    (b"SELECT", b"INBOX", Deed::List),
    (b"SELECT", b"INBOX", Deed::List),
    (b"FETCH", b"1 (BODY.PEEK[])", Deed::ReadOne),
    (b"FETCH", b"1:* (BODY.PEEK[])", Deed::ReadAll),
    (b"APPEND", b"INBOX (\\Seen)", Deed::Write),
    (b"APPEND", b"INBOX (\\Seen)", Deed::Write),
    (b"SEARCH", b"BODY \"statistics\"", Deed::Search),
];

/// How many commands a session has, at least; at most twice as many.
const COMMANDS: u64 = 10;

/// How many mails a user keeps.
const MAILS: usize = 12;

/// How large a mail is for each step of how busy its user is.
const MAIL_STEP_BYTES: u64 = 24 << 10;

/// The pause between two commands of the least busy user.
const PAUSE: Duration = Duration::from_millis(400);

/// One user's process at work.
struct Work {
    /// Where the user's mails are.
    mailbox: PathBuf,
    /// What is counted about mails.
    mails: Stats,
    /// How large a mail is.
    mail_bytes: u64,
    /// What the service does.
    kinds: &'static [Kind],
}

/// Works until it is killed. Arguments: its number, where mails go, the FIFO.
pub(super) fn run(mut args: impl Iterator<Item = OsString>) -> Result<(), Fatal> {
    let mut next = || args.next().unwrap_or_default();
    let number: u64 = next().to_string_lossy().parse().unwrap_or(0);
    let mail = PathBuf::from(next());
    let fifo = Arc::new(FifoWriter::new(next()));
    for round in 0.. {
        let chance = mix(number << 32 | round);
        let (user, ip, busy) = USERS[chance as usize % USERS.len()];
        // One worker of each place in the table has these files: what LMTP delivers POP3
        // fetches.
        let place = number as usize % SERVICES.len();
        let (service, kinds) = SERVICES[place];
        let mailbox = mail.join(format!("{user}.{}", number as usize - place));
        fs::create_dir_all(&mailbox).map_err(failed("create", &mailbox))?;
        let login = Login {
            user: user.as_bytes(),
            service: service.as_bytes(),
            pid: std::process::id(),
            ip: ip.parse().ok(),
        };
        let work = Work {
            mailbox,
            mails: Stats::default(),
            mail_bytes: MAIL_STEP_BYTES * busy,
            kinds,
        };
        serve(Session::connect(&fifo, login), work, chance, busy)?;
    }
    Ok(())
}

/// One session, from its first command to its last.
fn serve(mut session: Session, mut work: Work, mut chance: u64, busy: u64) -> Result<(), Fatal> {
    let mut meter = Meter::start();
    for _ in 0..COMMANDS + chance % COMMANDS {
        chance = mix(chance);
        let (name, args, deed) = work.kinds[chance as usize % work.kinds.len()];
        let before = meter.read();
        let mails_before = work.mails;
        let command = session.begin_command(name, args);
        let done = match deed {
            Deed::List => work.list(),
            Deed::ReadOne => work.read(1).map(drop),
            Deed::ReadAll => work.read(MAILS).map(drop),
            Deed::Search => work.search(),
            Deed::Write => work.append(chance),
        };
        done.map_err(failed("use", &work.mailbox))?;
        let mut total = meter.read();
        let mut own = total.since(&before);
        own.add(&work.mails.since(&mails_before));
        total.add(&work.mails);
        session.end_command(command, &own);
        session.update(&total);
        let pause = PAUSE / busy as u32;
        std::thread::sleep(pause);
        meter.waited(pause);
    }
    session.disconnect();
    Ok(())
}

impl Work {
    /// Writes a mail in the place of the one with its number.
    fn append(&mut self, chance: u64) -> io::Result<()> {
        let text = b"The quick brown fox keeps no statistics of lazy dogs.\n";
        let size = self.mail_bytes as usize + chance as usize % 4096;
        let mail: Vec<u8> = text.iter().copied().cycle().take(size).collect();
        let path = self.mailbox.join((chance as usize / 5 % MAILS).to_string());
        let mut file = File::create(path)?;
        file.write_all(&mail)?;
        // To the disk, where there is one.
        file.sync_data()
    }

    fn list(&self) -> io::Result<()> {
        for entry in self.mailbox.read_dir()? {
            entry?.metadata()?;
        }
        Ok(())
    }

    fn read(&mut self, most: usize) -> io::Result<Vec<Vec<u8>>> {
        let mut mails = Vec::new();
        for entry in fs::read_dir(&self.mailbox)?.take(most) {
            let mail = fs::read(entry?.path())?;
            self.mails.values[place::mail_lookup_path] += 1;
            self.mails.values[place::mail_read_count] += 1;
            self.mails.values[place::mail_read_bytes] += mail.len() as u64;
            mails.push(mail);
        }
        Ok(mails)
    }

    /// Reads all mails and looks for words in them, upper or lower case.
    fn search(&mut self) -> io::Result<()> {
        let mails = self.read(MAILS)?;
        for word in [&b"lazy cats"[..], b"statistics", b"zebra", b"dogs of"] {
            let places = mails.iter().flat_map(|mail| mail.windows(word.len()));
            let hits = places
                .filter(|place| place.eq_ignore_ascii_case(word))
                .count();
            self.mails.values[place::mail_cache_hits] += u64::from(hits > 0);
        }
        Ok(())
    }
}

/// A number that looks like chance, and is the same each time (SplitMix64).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
