//! The rules once more, simply: an independent, obviously right service in
//! memory, made of HashMaps and vectors that only grow. It shares nothing with
//! the product. `compare` measures both the product and, where they should
//! agree, the original against it.
//!
//! It frees nothing unless it is asked to, and knows no time: instead of last_update
//! it keeps the number of the last record that touched an entry.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;

use crate::reading::{parse, Record, Report};

/// Values of the 24 statistics columns in their order; times in microseconds.
pub type Stats = [u64; 24];

/// Columns whose writers' fields have 32 bits.
pub const NARROW: [usize; 15] = [3, 4, 5, 6, 9, 11, 13, 14, 15, 18, 19, 20, 21, 22, 23];

/// A 32-bit total that fell may have wrapped if it went on by less than this.
const WRAP: u64 = 1 << 30;

/// Counts of an entry of a level.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// What it is called; text of the key column.
    pub key: Vec<u8>,
    logins: u64,
    cmds: u64,
    connected: u64,
    stats: Stats,
    /// The number of the last record that moved last_update; 0 for none.
    touched: u64,
}

/// A level of named entries, in order of creation.
#[derive(Debug, Default)]
struct Level {
    entries: Vec<Entry>,
    by_key: HashMap<Vec<u8>, usize>,
}

impl Level {
    fn get(&mut self, key: &[u8]) -> usize {
        if let Some(&at) = self.by_key.get(key) {
            return at;
        }
        self.by_key.insert(key.to_vec(), self.entries.len());
        self.entries.push(Entry {
            key: key.to_vec(),
            ..Entry::default()
        });
        self.entries.len() - 1
    }
}

#[derive(Debug)]
struct Session {
    id: Vec<u8>,
    user: Vec<u8>,
    service: Vec<u8>,
    pid: u32,
    ip: Option<IpAddr>,
    connected: bool,
    placeholder: bool,
    entry: Entry,
    /// The newest command of each number; places among all commands there ever were.
    numbers: HashMap<u32, usize>,
    /// The number of the last command, unless it is over.
    last: Option<u32>,
    /// The number of the last command, 0 before the first.
    last_number: u32,
    /// Numbers of commands whose writer did not say that they are done.
    not_done: HashSet<u32>,
}

#[derive(Debug)]
struct Command {
    name: Vec<u8>,
    args: Vec<u8>,
    session: usize,
    stats: Stats,
    touched: u64,
}

/// The service.
#[derive(Debug, Default)]
pub struct Model {
    records: u64,
    sessions: Vec<Session>,
    /// The newest session of an id, connected or not.
    by_id: HashMap<Vec<u8>, usize>,
    commands: VecDeque<Command>,
    /// Commands that were forgotten; all older than those in `commands`.
    forgotten: usize,
    users: Level,
    domains: Level,
    ips: Level,
    global: Entry,
}

fn domain(user: &[u8]) -> &[u8] {
    user.iter()
        .position(|&b| b == b'@')
        .map_or(b"", |at| &user[at + 1..])
}

fn add(sum: &mut Stats, difference: &Stats) {
    for (s, d) in sum.iter_mut().zip(difference) {
        *s += d;
    }
}

/// Moves `total` to what was reported: the difference to count upwards, and
/// whether something fell, and whether something wrapped.
fn advance(total: &mut Stats, report: &Report) -> (Stats, bool, bool) {
    let mut difference = [0; 24];
    let (mut fell, mut wrapped) = (false, false);
    let mail = report
        .mail
        .iter()
        .flatten()
        .enumerate()
        .map(|(i, v)| (i, *v));
    let auth = report
        .auth
        .iter()
        .flatten()
        .enumerate()
        .map(|(i, v)| (18 + i, *v));
    for (i, new) in mail.chain(auth) {
        let narrow = NARROW.contains(&i);
        let old = if narrow {
            total[i] % (1 << 32)
        } else {
            total[i]
        };
        if new >= old {
            difference[i] = new - old;
            total[i] += new - old;
        } else if narrow && new + (1 << 32) - old < WRAP {
            difference[i] = new + (1 << 32) - old;
            total[i] += difference[i];
            wrapped = true;
        } else {
            total[i] = new;
            fell = true;
        }
    }
    (difference, fell, wrapped)
}

impl Model {
    /// Whether a session with this id is connected.
    pub fn live(&self, id: &[u8]) -> bool {
        self.by_id
            .get(id)
            .is_some_and(|&at| self.sessions[at].connected)
    }

    /// Whether a command of that number was not reported as done, in a connected
    /// session: for the original it runs.
    pub fn runs(&self, id: &[u8], number: u32) -> bool {
        self.live(id) && self.sessions[self.by_id[id]].not_done.contains(&number)
    }

    /// Whether the last command of a connected session has that number and is not over.
    fn goes_on(&self, id: &[u8], number: u32) -> bool {
        self.live(id) && self.sessions[self.by_id[id]].last == Some(number)
    }

    /// The place in `commands` of the command that has that number in a connected session.
    fn command(&self, id: &[u8], number: u32) -> Option<usize> {
        let session = &self.sessions[*self.by_id.get(id)?];
        let command = *session.numbers.get(&number).filter(|_| session.connected)?;
        command.checked_sub(self.forgotten)
    }

    /// Whether that command is not done and began just so. A number larger than the last
    /// one is that of a new command.
    pub fn begun(&self, id: &[u8], number: u32, name: &[u8], args: &[u8]) -> bool {
        let command = self.command(id, number);
        let command = command.filter(|_| {
            self.runs(id, number) && number <= self.sessions[self.by_id[id]].last_number
        });
        command.is_some_and(|at| {
            let command = &self.commands[at];
            (&command.name[..], &command.args[..]) == (name, args)
        })
    }

    /// Whether a beginning has the number of a command that is over here and runs for the
    /// original.
    pub fn is_over(&self, id: &[u8], number: u32) -> bool {
        self.runs(id, number) && !self.goes_on(id, number)
    }

    /// Whether the record's totals (fell, wrapped) against those known.
    pub fn steps_back(&self, record: &Record) -> (bool, bool) {
        let (mut total, report) = match record {
            Record::Update { id, report } if self.live(id) => {
                (self.sessions[self.by_id[id]].entry.stats, report)
            }
            Record::Continue {
                id, number, report, ..
            } => match self.command(id, *number) {
                Some(at) => (self.commands[at].stats, report),
                None => return (false, false),
            },
            _ => return (false, false),
        };
        let (_, fell, wrapped) = advance(&mut total, report);
        (fell, wrapped)
    }

    /// Clears the global totals; what is connected stays counted.
    pub fn reset(&mut self) {
        let connected = self.global.connected;
        self.global = Entry {
            connected,
            ..Entry::default()
        };
    }

    /// Takes one line.
    pub fn line(&mut self, line: &[u8]) {
        if let Ok(record) = parse(line) {
            self.apply(&record);
        }
    }

    /// Takes one sound record.
    pub fn apply(&mut self, record: &Record) {
        self.records += 1;
        match record {
            Record::Connect {
                id,
                user,
                service,
                pid,
                ip,
            } => {
                self.connect(id, user, service, *pid, *ip);
            }
            Record::Update { id, report } => {
                let Some(at) = self.session_of(id) else {
                    return;
                };
                let (difference, _, _) = advance(&mut self.sessions[at].entry.stats, report);
                self.above(at, true, |e| add(&mut e.stats, &difference));
                self.sessions[at].entry.touched = self.records;
            }
            Record::Begin {
                id,
                number,
                done,
                name,
                args,
                report,
            } => {
                if self.begun(id, *number, name, args) {
                    self.carry_on(id, *number, *done, report);
                    return;
                }
                if self.goes_on(id, *number) {
                    return;
                }
                let Some(session) = self.session_of(id) else {
                    return;
                };
                let mut stats = [0; 24];
                advance(&mut stats, report);
                let touched = self.records;
                let (name, args) = (name.clone(), args.clone());
                self.commands.push_back(Command {
                    name,
                    args,
                    session,
                    stats,
                    touched,
                });
                let command = self.forgotten + self.commands.len() - 1;
                let session_entry = &mut self.sessions[session];
                session_entry.numbers.insert(*number, command);
                session_entry.last = (!done).then_some(*number);
                session_entry.last_number = *number;
                match done {
                    true => session_entry.not_done.remove(number),
                    false => session_entry.not_done.insert(*number),
                };
                session_entry.entry.cmds += 1;
                session_entry.entry.touched = self.records;
                self.above(session, true, |e| e.cmds += 1);
            }
            Record::Continue {
                id,
                number,
                done,
                report,
            } => self.carry_on(id, *number, *done, report),
            Record::AddUser { user, ip, report } => {
                let mut difference = [0; 24];
                advance(&mut difference, report);
                let records = self.records;
                let user_at = self.users.get(user);
                let domain_at = self.domains.get(domain(user));
                let user = &mut self.users.entries[user_at];
                let domain = &mut self.domains.entries[domain_at];
                let ip = ip.map(|ip| self.ips.get(ip.to_string().as_bytes()));
                let ip = ip.map(|ip| &mut self.ips.entries[ip]);
                for entry in [user, domain, &mut self.global].into_iter().chain(ip) {
                    add(&mut entry.stats, &difference);
                    entry.touched = records;
                }
            }
            Record::Disconnect { id } => {
                if self.live(id) {
                    let at = self.by_id[id];
                    self.above(at, false, |e| e.connected -= 1);
                    self.sessions[at].connected = false;
                    self.sessions[at].numbers.clear();
                    self.sessions[at].not_done.clear();
                    self.sessions[at].last = None;
                }
            }
        }
    }

    /// A command goes on.
    fn carry_on(&mut self, id: &[u8], number: u32, done: bool, report: &Report) {
        let Some(session) = self.session_of(id) else {
            return;
        };
        if let Some(at) = self.command(id, number) {
            let command = &mut self.commands[at];
            advance(&mut command.stats, report);
            command.touched = self.records;
        }
        if done {
            let session = &mut self.sessions[session];
            session.not_done.remove(&number);
            session.last.take_if(|last| *last == number);
        }
        self.sessions[session].entry.touched = self.records;
        self.above(session, true, |_| ());
    }

    fn connect(&mut self, id: &[u8], user: &[u8], service: &[u8], pid: u32, ip: Option<IpAddr>) {
        let known = self
            .by_id
            .get(id)
            .copied()
            .filter(|&at| self.sessions[at].connected);
        let at = match known {
            Some(at) if !self.sessions[at].placeholder => return,
            Some(at) => {
                self.above(at, false, |e| e.connected -= 1);
                at
            }
            None => self.make(id),
        };
        let session = &mut self.sessions[at];
        session.user = user.to_vec();
        session.service = service.to_vec();
        (session.pid, session.ip, session.placeholder) = (pid, ip, false);
        session.entry.touched = self.records;
        self.above(at, true, |e| {
            e.logins += 1;
            e.connected += 1;
        });
    }

    /// A new session that counts nowhere yet.
    fn make(&mut self, id: &[u8]) -> usize {
        self.by_id.insert(id.to_vec(), self.sessions.len());
        self.sessions.push(Session {
            id: id.to_vec(),
            user: Vec::new(),
            service: Vec::new(),
            pid: 0,
            ip: None,
            connected: true,
            placeholder: true,
            entry: Entry {
                touched: self.records,
                ..Entry::default()
            },
            numbers: HashMap::new(),
            last: None,
            last_number: 0,
            not_done: HashSet::new(),
        });
        self.sessions.len() - 1
    }

    /// The connected session an UPDATE is about: a placeholder when nobody knows
    /// the id, none when it was disconnected.
    fn session_of(&mut self, id: &[u8]) -> Option<usize> {
        match self.by_id.get(id) {
            Some(&at) if self.sessions[at].connected => Some(at),
            Some(_) => None,
            None => {
                let at = self.make(id);
                self.above(at, true, |e| e.connected += 1);
                Some(at)
            }
        }
    }

    /// Changes the entries above a session, global included.
    fn above(&mut self, session: usize, touch: bool, change: impl Fn(&mut Entry)) {
        let session = &self.sessions[session];
        let user = self.users.get(&session.user);
        let domain = self.domains.get(domain(&session.user));
        let ip = session.ip.map(|ip| self.ips.get(ip.to_string().as_bytes()));
        let mut entries = vec![
            &mut self.users.entries[user],
            &mut self.domains.entries[domain],
        ];
        entries.extend(ip.map(|ip| &mut self.ips.entries[ip]));
        entries.push(&mut self.global);
        for entry in entries {
            change(entry);
            if touch {
                entry.touched = self.records;
            }
        }
    }
}

/// One line of a level as it should be: the fields in order, last_update and
/// reset_timestamp empty, and the number of the record that touched it last.
pub struct Expected {
    /// The fields.
    pub fields: Vec<String>,
    /// Orders last_update.
    pub touched: u64,
}

impl Model {
    /// Forgets all but the newest commands, which stay counted: for runs so long that
    /// all would not fit into memory.
    pub fn keep_commands(&mut self, count: usize) {
        let old = self.commands.len().saturating_sub(count);
        self.commands.drain(..old);
        self.forgotten += old;
    }

    /// The newest commands, oldest first.
    pub fn newest_commands(&self, count: usize) -> Vec<Expected> {
        let old = self.commands.len().saturating_sub(count);
        let newest = self.commands.range(old..);
        newest.map(|c| self.command_row(c)).collect()
    }

    /// The newest sessions, newest first.
    pub fn newest_sessions(&self, count: usize) -> Vec<Expected> {
        let newest = self.sessions.iter().rev().take(count);
        newest.map(session_row).collect()
    }

    /// The connected sessions, newest first.
    pub fn connected(&self) -> Vec<Expected> {
        let connected = self.sessions.iter().rev().filter(|s| s.connected);
        connected.map(session_row).collect()
    }

    /// A whole level in the reply's order.
    pub fn export(&self, level: &str) -> Vec<Expected> {
        match level {
            "command" => self.commands.iter().map(|c| self.command_row(c)).collect(),
            "session" => self.sessions.iter().rev().map(session_row).collect(),
            "user" => self
                .users
                .entries
                .iter()
                .rev()
                .map(|e| entry_row(e, true, false))
                .collect(),
            "domain" => self
                .domains
                .entries
                .iter()
                .rev()
                .map(|e| entry_row(e, true, true))
                .collect(),
            "ip" => self
                .ips
                .entries
                .iter()
                .rev()
                .map(|e| entry_row(e, true, true))
                .collect(),
            _ => vec![entry_row(&self.global, false, true)],
        }
    }

    fn command_row(&self, command: &Command) -> Expected {
        let session = &self.sessions[command.session];
        let keys = [&command.name, &command.args, &session.id, &session.user];
        let mut fields: Vec<String> = keys.iter().map(|k| shown(k)).collect();
        fields.push(String::new());
        fields.extend(numbers(&command.stats));
        Expected {
            fields,
            touched: command.touched,
        }
    }
}

fn session_row(session: &Session) -> Expected {
    let mut fields = vec![
        shown(&session.id),
        shown(&session.user),
        session.ip.map(|ip| ip.to_string()).unwrap_or_default(),
        shown(&session.service),
        session.pid.to_string(),
        u8::from(session.connected).to_string(),
        String::new(),
        session.entry.cmds.to_string(),
    ];
    fields.extend(numbers(&session.entry.stats));
    Expected {
        fields,
        touched: session.entry.touched,
    }
}

fn entry_row(entry: &Entry, named: bool, connected: bool) -> Expected {
    let mut fields = Vec::new();
    if named {
        fields.push(shown(&entry.key));
    }
    fields.extend([String::new(), String::new()]);
    fields.extend([entry.logins.to_string(), entry.cmds.to_string()]);
    if connected {
        fields.push(entry.connected.to_string());
    }
    fields.extend(numbers(&entry.stats));
    Expected {
        fields,
        touched: entry.touched,
    }
}

fn shown(key: &[u8]) -> String {
    crate::link::latin1(&crate::records::escape(key))
}

fn numbers(stats: &Stats) -> impl Iterator<Item = String> + '_ {
    stats.iter().enumerate().map(|(i, &v)| match i {
        0..=2 => format!("{}.{:06}", v / 1_000_000, v % 1_000_000),
        _ => v.to_string(),
    })
}
