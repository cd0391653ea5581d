//! Random streams of records: `Stream` writes what a busy mail system could
//! write, from a seed; `mutate` breaks a record in one of the ways in which
//! records break, or are made to.

use crate::records::{
    add_user, base64, carry_on, command, connect, disconnect, update, Auth, Mail, Random,
};

const USERS: [&str; 12] = [
    "alice@example.org",
    "bob@example.org",
    "carol@example.com",
    "dave",
    "",
    "a@b@c",
    "x@",
    "@nobody",
    "J\u{f6}rg@b\u{fc}cher.example",
    "tab\there@example.org",
    "*?@wild.example",
    "with space@example.net",
];

const IPS: [&str; 11] = [
    "127.0.0.1",
    "10.0.0.1",
    "10.0.0.2",
    "192.168.255.254",
    "2001:db8::1",
    "2001:DB8:0:0:0::2",
    "::1",
    "fe80::1",
    "::ffff:10.0.0.1",
    "",
    "",
];

const SERVICES: [&str; 5] = ["imap", "imap", "pop3", "lmtp", "submission"];

const COMMANDS: [(&str, &str); 9] = [
    ("SELECT", "INBOX"),
    (
        "FETCH",
        "1:* (FLAGS UID RFC822.SIZE BODY.PEEK[HEADER.FIELDS (\"From\")])",
    ),
    ("APPEND", "INBOX (\\Seen) <1214 byte literal>"),
    ("IDLE", ""),
    ("LOGOUT", ""),
    ("SEARCH", "CHARSET UTF-8 TEXT \"gr\u{fc}n\""),
    ("NOOP", "with\ttab and \r and \n and \x01 escaped"),
    ("UID STORE", "1 +FLAGS (\\Deleted)"),
    ("LIST", "\"\" *"),
];

struct Session {
    id: String,
    mail: Mail,
    auth: Auth,
    running: Vec<(u32, Mail)>,
    next_command: u32,
}

/// An endless stream of plausible records.
pub struct Stream {
    random: Random,
    sessions: Vec<Session>,
    created: u64,
    /// How many sessions are connected at most.
    most: usize,
}

impl Stream {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Stream {
        Stream {
            random: Random::new(seed),
            sessions: Vec::new(),
            created: 0,
            most: 150,
        }
    }

    /// The next record, without its LF.
    pub fn next_record(&mut self) -> Vec<u8> {
        let kind = self.random.below(100);
        match kind {
            0..=9 if self.sessions.len() < self.most => self.connect(),
            0..=9 => self.disconnect(),
            10..=12 if self.sessions.len() > 20 => self.disconnect(),
            13..=40 if !self.sessions.is_empty() => self.update(),
            41..=90 if !self.sessions.is_empty() => self.command(),
            91..=99 => self.add_user(),
            _ => self.connect(),
        }
    }

    /// The next `n` records.
    pub fn take(&mut self, n: usize) -> Vec<Vec<u8>> {
        (0..n).map(|_| self.next_record()).collect()
    }

    fn user(&mut self) -> String {
        match self.random.below(3) {
            0 => self.random.pick(&USERS).to_string(),
            _ => format!(
                "u{}@d{}.example",
                self.random.below(200),
                self.random.below(20)
            ),
        }
    }

    fn connect(&mut self) -> Vec<u8> {
        self.created += 1;
        let sibling = match self.random.one_in(8) {
            true => self.sessions.last().map(|s| s.id.clone()),
            false => None,
        };
        let (n, random) = (self.created, self.random.next());
        let id = match sibling {
            Some(id) => format!("{}:R{n}", id.split(':').next().unwrap_or_default()),
            None if n % 3 == 0 => format!("{random:032x}"),
            None => base64(&random.to_le_bytes()) + &n.to_string(),
        };
        let user = self.user();
        let ip = match self.random.one_in(2) {
            true => self.random.pick(&IPS).to_string(),
            false => format!("10.{}.{}.7", self.random.below(4), self.random.below(30)),
        };
        let service = *self.random.pick(&SERVICES);
        let pid = self.random.below(4_000_000) as u32;
        let record = connect(&id, &user, service, pid, &ip);
        self.sessions.push(Session {
            id,
            mail: Mail::default(),
            auth: Auth::default(),
            running: Vec::new(),
            next_command: 1,
        });
        record
    }

    fn disconnect(&mut self) -> Vec<u8> {
        if self.sessions.is_empty() {
            return self.connect();
        }
        let at = self.random.index(self.sessions.len());
        disconnect(&self.sessions.swap_remove(at).id)
    }

    fn update(&mut self) -> Vec<u8> {
        let at = self.random.index(self.sessions.len());
        let session = &mut self.sessions[at];
        grow(&mut self.random, &mut session.mail);
        if self.random.one_in(4) {
            let field = self.random.index(6);
            session.auth.0[field] =
                session.auth.0[field].saturating_add(self.random.below(9) as u32);
        }
        let stats = match self.random.below(12) {
            0 => String::new(),
            1 => session.auth.field(),
            2 => base64(&[session.mail.item(), session.auth.item()].concat()),
            3 => base64(&[session.auth.item(), session.mail.item()].concat()),
            _ => session.mail.field(),
        };
        update(&session.id, &stats)
    }

    fn command(&mut self) -> Vec<u8> {
        let at = self.random.index(self.sessions.len());
        let session = &mut self.sessions[at];
        if session.running.is_empty() || self.random.one_in(3) {
            let mut mail = Mail::default();
            grow(&mut self.random, &mut mail);
            let done = self.random.one_in(2);
            let number = session.next_command;
            session.next_command += 1;
            if !done {
                session.running.push((number, mail));
            }
            let (name, args) = *self.random.pick(&COMMANDS);
            let stats = if self.random.one_in(15) {
                String::new()
            } else {
                mail.field()
            };
            let flags = if done { "d" } else { "" };
            if self.random.one_in(200) {
                // As the IMAP plugin does it.
                let args = "TEXT \"a\tb\"";
                return format!(
                    "UPDATE-CMD\t{}\t{number}\t{flags}\tSEARCH\t{args}\t{stats}",
                    session.id
                )
                .into_bytes();
            }
            return command(&session.id, number, flags, name, args, &stats);
        }
        let which = self.random.index(session.running.len());
        grow(&mut self.random, &mut session.running[which].1);
        let (number, mail) = session.running[which];
        let flags = *self.random.pick(&["c", "c", "cd", "dc"]);
        if flags != "c" {
            session.running.swap_remove(which);
        }
        let stats = if self.random.one_in(15) {
            String::new()
        } else {
            mail.field()
        };
        carry_on(&session.id, number, flags, &stats)
    }

    fn add_user(&mut self) -> Vec<u8> {
        let user = self.user();
        let mut mail = Mail::default();
        grow(&mut self.random, &mut mail);
        let mut auth = Auth::default();
        auth.0[self.random.index(6)] = self.random.below(5) as u32;
        let stats = match self.random.below(4) {
            0 => mail.field(),
            1 => base64(&[auth.item(), mail.item()].concat()),
            2 => auth.field(),
            _ if self.random.one_in(3) => String::new(),
            _ => auth.field(),
        };
        add_user(&user, "imap", &stats)
    }
}

/// Adds something to some fields; never wraps a 32-bit one.
fn grow(random: &mut Random, mail: &mut Mail) {
    for _ in 0..1 + random.below(5) {
        let small = random.below(5000);
        let large = if random.one_in(50) {
            random.below(1 << 40)
        } else {
            small
        };
        let count = if random.one_in(100) {
            random.below(1 << 29)
        } else {
            random.below(300)
        } as u32;
        let at = random.index(4);
        let two = at % 2;
        match random.below(7) {
            0 | 1 => {
                let (secs, usecs) = &mut mail.times[at % 3];
                *usecs += (random.below(700_000)) as i64;
                *secs += (random.below(3)) as i64 + *usecs / 1_000_000;
                *usecs %= 1_000_000;
            }
            2 => mail.faults[at] = mail.faults[at].saturating_add(count),
            3 => mail.disk[two] += large,
            4 => {
                mail.counts[two] = mail.counts[two].saturating_add(count);
                mail.bytes[two] += large;
            }
            5 => mail.lookups[at % 3] = mail.lookups[at % 3].saturating_add(count),
            _ => mail.read[two] += large,
        }
    }
}

/// Breaks a record: gives another one, still a single line.
pub fn mutate(random: &mut Random, record: &[u8]) -> Vec<u8> {
    let mut fields: Vec<Vec<u8>> = record.split(|&b| b == b'\t').map(<[u8]>::to_vec).collect();
    let at = random.index(fields.len());
    match random.below(17) {
        0 => {
            let mut out = record.to_vec();
            for _ in 0..1 + random.below(3) {
                let at = random.index(out.len());
                out[at] ^= 1 << random.below(8);
            }
            return one_line(out);
        }
        1 => return record[..random.index(record.len())].to_vec(),
        2 => return record[random.index(record.len())..].to_vec(),
        3 => fields.insert(at, fields[at].clone()),
        4 => drop(fields.remove(at)),
        5 => {
            let other = random.index(fields.len());
            fields.swap(at, other);
        }
        6 => return [record, record].concat(),
        7 => fields[at].clear(),
        8 => {
            let field = &mut fields[at];
            let place = random.index(field.len() + 1);
            let byte = *random.pick(b"=!\xff\x7f-_. ");
            field.insert(place, byte);
        }
        9 => {
            let length = *random.pick(&[100, 1000, 4000, 7000]);
            fields[at] = vec![b'y'; length];
        }
        10 => {
            const ESCAPES: [&[u8]; 7] = [
                b"\x01t", b"\x010", b"\x011", b"\x01n", b"\x01r", b"\x01x", b"\x01",
            ];
            let escape = random.pick(&ESCAPES);
            let place = random.index(fields[at].len() + 1);
            fields[at].splice(place..place, escape.iter().copied());
        }
        11 => {
            let number = random.pick(&[
                "0",
                "-1",
                "4294967295",
                "4294967296",
                "2147483648",
                "18446744073709551616",
                "99999999999999999999999",
                "1e3",
                "0x10",
                " 7",
                "+7",
                "007",
                "",
            ]);
            fields[at] = number.as_bytes().to_vec();
        }
        12 => {
            fields[0] = random
                .pick(&[
                    "CONNECT",
                    "DISCONNECT",
                    "UPDATE-SESSION",
                    "UPDATE-CMD",
                    "ADD-USER",
                    "X",
                ])
                .as_bytes()
                .to_vec()
        }
        13 => fields.push(
            random
                .pick(&["", "rip=1.2.3.4", "rip=1.2.3", "rip=", "foo=bar", "\x010"])
                .as_bytes()
                .to_vec(),
        ),
        14 => {
            let stats = wrong_stats(random);
            *fields.last_mut().expect("a field") = stats.into_bytes();
        }
        15 => {
            let place = random.index(fields[at].len() + 1);
            fields[at].insert(place, 0);
        }
        _ => {
            if fields.len() > 3 {
                fields[3] = random
                    .pick(&["d", "c", "dc", "cd", "", "x", "dd", "D"])
                    .as_bytes()
                    .to_vec();
            }
        }
    }
    one_line(fields.join(&b'\t'))
}

/// A stats field that decodes and is odd: other sizes, names, huge numbers,
/// totals that shrink back to small ones.
fn wrong_stats(random: &mut Random) -> String {
    let mut mail = Mail::sample();
    let bytes = match random.below(12) {
        0 => mail.item()[..random.index(mail.item().len())].to_vec(),
        1 => [mail.item(), b"x".to_vec()].concat(),
        2 => b"unknown\0abcdef".to_vec(),
        3 => b"mail".to_vec(),
        4 => [mail.item(), mail.item()].concat(),
        5 => {
            mail.times[random.index(3)] = (-1, 5);
            mail.item()
        }
        6 => {
            mail.times[random.index(3)] = (5, -1);
            mail.item()
        }
        7 => {
            mail.bytes = [u64::MAX, u64::MAX];
            mail.item()
        }
        8 => {
            mail.times[random.index(3)] = (i64::MAX, 999_999);
            mail.item()
        }
        9 => {
            mail.times[random.index(3)] = (1, 1_500_000);
            mail.item()
        }
        10 => {
            mail.counts = [u32::MAX, u32::MAX - 3];
            mail.item()
        }
        _ => mail.item(),
    };
    base64(&bytes)
}

fn one_line(mut line: Vec<u8>) -> Vec<u8> {
    line.iter_mut()
        .filter(|b| **b == b'\n')
        .for_each(|b| *b = b' ');
    line
}
