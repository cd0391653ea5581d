//! The whole store: records, requests in slices, time, RESET, state saved and
//! restored, limits of memory, in any order. After every step all invariants are
//! checked, and all sums are compared with those of a model.

use super::input::{at, limits, Input};
use super::model::Model;
use super::{naive, state};
use dovestat::stats::{Item, Report, FIELDS};
use dovestat::store::{
    CommandUpdate, CursorId, Filter, Level, Network, Now, Opening, Pattern, Progress, Record, Row,
    Store,
};
use std::collections::HashSet;
use std::net::IpAddr;

/// The limits of memory, least first: with the least one there is hardly any room.
const MEMORY_BYTES: [usize; 4] = [64 << 10, 128 << 10, 256 << 10, 4 << 20];

/// Most steps of an input.
const MOST_STEPS: usize = 200;

/// Most cursors that are open.
const MOST_CURSORS: usize = 6;

/// Users of few domains.
const USERS: [&[u8]; 10] = [
    b"",
    b"u1@d1",
    b"u2@d1",
    b"u3@d2",
    b"u4@d2",
    b"u5",
    b"u6@",
    b"@d1",
    b"u7@d1@d2",
    b"\xff\x00\t\n@\x01",
];

/// Services and patterns of them, by the upper bits of the terms: no further byte is
/// read for them, so that inputs that were kept mean the same.
const SERVICES: [&[u8]; 3] = [b"imap", b"?m*", b"pop3"];

/// Where sessions come from.
const IPS: [&str; 7] = [
    "",
    "10.0.0.1",
    "10.0.0.2",
    "::ffff:10.0.0.1",
    "2001:db8::1",
    "::",
    "10.0.1.1",
];

/// A walk on its way.
struct Walk {
    /// Whose.
    cursor: CursorId,
    /// Along what.
    level: Level,
    /// The users, domains or addresses listed.
    seen: HashSet<String>,
    /// Whether it ended.
    is_done: bool,
}

/// Everything.
struct World {
    /// What is tested.
    store: Store,
    /// Its limit.
    memory_bytes: usize,
    /// What it has to have.
    model: Model,
    /// The monotonic clock.
    uptime_secs: u32,
    /// How far the wall clock is off, in seconds.
    wall_offset_secs: i32,
    /// The walks.
    walks: Vec<Walk>,
}

/// Text behind a word, of one of some lengths: short ones, and such that pages hold
/// few of.
fn text(input: &mut Input, word: &str) -> Vec<u8> {
    let number = input.byte();
    let length = [0, 0, 0, 0, 20, 100, 900, 4000][usize::from(number >> 5)];
    let mut text = format!("{word}{}", number % 32).into_bytes();
    text.resize(text.len() + length, b'x');
    text
}

/// A report: of mail's first field, and of others that make it longer.
fn report(input: &mut Input) -> Report {
    let value = input.number() >> 16;
    let width = input.byte();
    let mut report = Report {
        has_mail: width % 8 > 0,
        has_auth: width % 3 > 0,
        has_net: width % 5 == 0,
        ..Report::default()
    };
    for (index, sum) in report.stats.values.iter_mut().enumerate() {
        let is_set = index == 0 || index < usize::from(width) / 8;
        let has = match FIELDS[index].item {
            Item::Mail => report.has_mail,
            Item::Auth => report.has_auth,
            Item::Net => report.has_net,
        };
        if is_set && has {
            *sum = value;
        }
    }
    report
}

/// Terms of a request.
fn filter(input: &mut Input, now: Now) -> Filter {
    let terms = input.byte();
    let pattern = |input: &mut Input| match input.below(4) {
        0 => Pattern::new(input.pick(&USERS)),
        1 => Pattern::new(b"*"),
        2 => Pattern::new(b"u?@d*"),
        _ => Pattern::new(b"*1"),
    };
    let domain = |input: &mut Input| match input.below(4) {
        0 => Pattern::new(b"d1"),
        1 => Pattern::new(b"d?"),
        2 => Pattern::new(b""),
        _ => Pattern::new(b"nowhere"),
    };
    Filter {
        user: (terms & 1 > 0).then(|| pattern(input)),
        domain: (terms & 2 > 0).then(|| domain(input)),
        session: (terms & 4 > 0).then(|| text(input, "s")),
        service: usize::from(terms >> 6)
            .checked_sub(1)
            .map(|at| Pattern::new(SERVICES[at])),
        ip: (terms & 8 > 0).then(|| network(input)).flatten(),
        cmd: None,
        since_secs: match terms & 16 {
            0 => 0,
            _ => u64::from(now.wall.secs).saturating_sub(input.below(100) as u64),
        },
        connected: terms & 32 > 0,
    }
}

/// A network.
fn network(input: &mut Input) -> Option<Network> {
    let ip: IpAddr = input.pick(&IPS).parse().ok()?;
    let bits = input.byte();
    Network::new(ip, (bits < 130).then_some(bits))
}

impl World {
    /// Nothing.
    fn new(memory_bytes: usize) -> World {
        World {
            store: Store::new(&limits(memory_bytes), at(0)).expect("the indexes have room"),
            memory_bytes,
            model: Model::default(),
            uptime_secs: 0,
            wall_offset_secs: 0,
            walks: Vec::new(),
        }
    }

    /// The instant it is.
    fn now(&self) -> Now {
        let mut now = at(self.uptime_secs);
        now.wall.secs = now.wall.secs.wrapping_add_signed(self.wall_offset_secs);
        now
    }

    /// Applies a record, maybe prefetched.
    fn apply(&mut self, record: &Record, prefetches: bool) {
        let now = self.now();
        let note = match prefetches {
            true => {
                let hint = self
                    .store
                    .prefetch_records(std::slice::from_ref(record), now)[0];
                self.store.apply_hinted(record, hint, now)
            }
            false => self.store.apply(record, now),
        };
        self.model.apply(record, note, &mut self.store);
    }

    /// A record.
    fn record(&mut self, kind: u8, input: &mut Input) {
        let id = text(input, "s");
        let prefetches = id.len() % 2 == 0;
        match kind {
            0..=2 => {
                let record = Record::Connect {
                    session: &id,
                    user: input.pick(&USERS),
                    service: b"imap",
                    pid: 1,
                    ip: input.pick(&IPS).parse().ok(),
                };
                self.apply(&record, prefetches);
            }
            3..=5 => {
                let record = Record::UpdateSession {
                    session: &id,
                    report: &report(input),
                };
                self.apply(&record, prefetches);
            }
            6..=8 => {
                let args = text(input, "");
                let flags = input.byte();
                let update = CommandUpdate {
                    number: u32::from(1 + flags % 4).try_into().expect("it is not zero"),
                    begins: (flags & 4 > 0).then_some((b"FETCH", &args)),
                    done: flags & 8 > 0,
                    report: &report(input),
                };
                let record = Record::UpdateCommand {
                    session: &id,
                    update,
                };
                self.apply(&record, prefetches);
            }
            9 => {
                let record = Record::AddUser {
                    user: input.pick(&USERS),
                    service: b"imap",
                    ip: (id.len() % 3 == 0)
                        .then(|| input.pick(&IPS).parse().ok())
                        .flatten(),
                    report: &report(input),
                };
                self.apply(&record, false);
            }
            _ => self.apply(&Record::Disconnect { session: &id }, prefetches),
        }
    }

    /// Many sessions that come, and may go, at once.
    fn flood(&mut self, input: &mut Input) {
        let (count, first) = (input.byte(), u32::from(input.byte()));
        let stays = count % 2 == 0;
        for number in first..first + u32::from(count) / 8 {
            let id = format!("flood{number}");
            let user = format!("f{number}@d{}", number % 50);
            let record = Record::Connect {
                session: id.as_bytes(),
                user: user.as_bytes(),
                service: b"lmtp",
                pid: 2,
                ip: Some(IpAddr::from([10, 9, 0, number as u8])),
            };
            self.apply(&record, false);
            if !stays {
                self.apply(
                    &Record::Disconnect {
                        session: id.as_bytes(),
                    },
                    false,
                );
            }
        }
    }

    /// Begins a walk.
    fn open(&mut self, input: &mut Input) {
        if self.walks.len() == MOST_CURSORS {
            return;
        }
        let level = input.pick(&Level::ALL);
        let now = self.now();
        let opening = match input.below(4) {
            0 => self.store.open_biggest(level, input.below(5)),
            _ => {
                let filter = filter(input, now);
                self.store.open(level, filter)
            }
        };
        if let Opening::Rows(cursor) = opening {
            self.walks.push(Walk {
                cursor,
                level,
                seen: HashSet::new(),
                is_done: false,
            });
        }
    }

    /// Goes on with a walk.
    fn read(&mut self, index: usize, mut steps: usize, most_rows: usize) {
        let walk = &mut self.walks[index];
        let mut rows = 0;
        let progress = self.store.read(&walk.cursor, &mut steps, |row| {
            let listed = match (walk.level, row) {
                (Level::Command, Row::Command { .. }) | (Level::Session, Row::Session { .. }) => {
                    None
                }
                (wanted, Row::Parent(level, key, _)) if wanted == *level => {
                    Some(key.text().escape_ascii().to_string())
                }
                (Level::Global, Row::Global(..)) => Some(String::new()),
                (Level::Service, Row::Service(name, ..)) => Some(name.escape_ascii().to_string()),
                (Level::Cmd, Row::Cmd { service, name, .. }) => Some(format!(
                    "{}\t{}",
                    service.escape_ascii(),
                    name.escape_ascii()
                )),
                _ => panic!("a row of another level: {row:?}"),
            };
            if let Some(key) = listed {
                assert!(walk.seen.insert(key), "listed twice: {row:?}");
            }
            rows += 1;
            rows < most_rows
        });
        walk.is_done = progress == Progress::Done;
    }

    /// Does something with a walk.
    fn walk(&mut self, input: &mut Input) {
        if self.walks.is_empty() {
            return self.open(input);
        }
        let index = input.below(self.walks.len());
        match input.below(8) {
            0 => {
                let walk = self.walks.swap_remove(index);
                self.store.close(walk.cursor);
            }
            1 if self.walks[index].is_done => {
                let walk = &mut self.walks[index];
                walk.seen.clear();
                walk.is_done = false;
                self.store.again(&walk.cursor);
            }
            _ => self.read(index, 1 + input.below(8), 1 + input.below(4)),
        }
    }

    /// Asks, and looks for the answer by hand.
    fn ask(&mut self, input: &mut Input) {
        let level = input.pick(&[Level::Session, Level::User, Level::Domain, Level::Ip]);
        let filter = filter(input, self.now());
        let expected = naive::expected(&mut self.store, level, &filter);
        let found = naive::listed(&mut self.store, level, filter.clone(), 5);
        assert_eq!(found, expected, "{level:?} {filter:?}");
    }

    /// Lets time pass, or sets the clock on the wall.
    fn pass(&mut self, input: &mut Input) {
        let length = u32::from(input.byte());
        match input.below(8) {
            0 => self.uptime_secs += length * 1000,
            1 => self.uptime_secs += length * 10,
            2 => self.wall_offset_secs = length as i32 * 100_000 - 10_000_000,
            _ => self.uptime_secs += length % 16,
        }
        let now = self.now();
        let model = &mut self.model;
        while self.store.disconnect_silent(now, |id, _| model.silent(id)) {}
        assert!(self
            .store
            .next_silence_secs()
            .is_none_or(|secs| secs > now.uptime_secs));
    }

    /// Saves, ends everything and restores it, maybe under another limit.
    fn restart(&mut self, input: &mut Input) {
        for walk in self.walks.drain(..) {
            self.store.close(walk.cursor);
        }
        let now = self.now();
        let file = state::write(&self.store, now);
        if input.below(4) == 0 {
            self.memory_bytes = input.pick(&MEMORY_BYTES);
        }
        let had_all = self.memory_bytes == MEMORY_BYTES[3];
        let kept = self.store.usage().entries;
        self.uptime_secs += input.below(4) as u32;
        self.store = state::read(&file, self.memory_bytes, self.now()).expect("it was written");
        match had_all && self.store.usage().entries == kept {
            true => self.model.restored(&self.store),
            false => self.model.learn(&mut self.store),
        }
    }

    /// Reads all walks to their end, which has to come.
    fn end(mut self) {
        for index in 0..self.walks.len() {
            let mut left = 10_000;
            while !self.walks[index].is_done {
                self.read(index, 10, 100);
                left -= 1;
                assert!(left > 0, "a walk ends");
            }
        }
        for walk in self.walks.drain(..) {
            self.store.close(walk.cursor);
        }
        self.store.check();
    }
}

/// A limit of memory, then steps.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut world = World::new(input.pick(&MEMORY_BYTES));
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        match input.below(24) {
            kind @ 0..=11 => world.record(kind as u8, &mut input),
            12 => world.flood(&mut input),
            13 | 14 => world.open(&mut input),
            15..=18 => world.walk(&mut input),
            19 => world.ask(&mut input),
            20 | 21 => world.pass(&mut input),
            22 => {
                let now = world.now();
                world.store.reset(now);
                world.model.reset();
            }
            _ => world.restart(&mut input),
        }
        world.store.check();
        world.model.check(&mut world.store);
    }
    world.end();
}
