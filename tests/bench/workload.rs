//! The records that are fed: as many as asked, the same for both services.

use crate::records::{add_user, command, connect, disconnect, update, Auth, Mail, Random};

/// What is fed.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Three UPDATE-SESSION to one UPDATE-CMD that begins and ends a command.
    Mixed,
    /// UPDATE-SESSION.
    Updates,
    /// UPDATE-CMD, each a command of its own.
    Commands,
    /// Sessions that begin, report and end: CONNECT, UPDATE-SESSION, DISCONNECT.
    Churn,
    /// ADD-USER of logins that failed, each of another user.
    Failures,
    /// Sessions of webmail with one command: CONNECT, UPDATE-CMD, UPDATE-SESSION,
    /// DISCONNECT, by 5,000 users at the addresses of 50 servers. `d` is whether the
    /// command says that it is done, which real Dovecot seldom does.
    Webmail { d: bool },
}

/// A workload.
pub struct Workload {
    /// Its name in the table.
    pub name: &'static str,
    /// What is fed.
    pub kind: Kind,
    /// How many sessions are connected beforehand; those of webmail have ended by then.
    pub sessions: usize,
    /// How many records are measured.
    pub records: usize,
    /// The memory limit.
    pub limit: &'static str,
}

/// The id of a session, of the length that Dovecot's have.
fn id(n: usize) -> String {
    format!("yR+mHvJgZoB{n:011}")
}

/// The CONNECT of a session of its own user and address; a thousand domains.
fn connect_of(n: usize) -> Vec<u8> {
    let user = format!("user{n}@domain{}.org", n % 1000);
    let ip = format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255);
    connect(&id(n), &user, "imap", 1000 + n as u32 % 30_000, &ip)
}

/// The `n`th record of webmail, with totals of a session that is over.
fn webmail(n: usize, d: bool, stats: &str) -> Vec<u8> {
    let (n, step) = (n / 4, n % 4);
    match step {
        0 => {
            let user = Random::new(n as u64).index(5000);
            let name = format!("user{user}@domain{}.org", user % 1000);
            let ip = format!("10.0.0.{}", n % 50);
            connect(&id(n), &name, "imap", 1000 + n as u32 % 30_000, &ip)
        }
        1 => {
            let args = format!("1:{} (FLAGS)", n % 1000);
            command(&id(n), 1, if d { "d" } else { "" }, "FETCH", &args, stats)
        }
        2 => update(&id(n), stats),
        _ => disconnect(&id(n)),
    }
}

/// Totals that every step raises.
fn totals(step: u32) -> String {
    let (wide, time) = (u64::from(step), i64::from(step));
    Mail {
        times: [
            (0, 20_000 + time),
            (0, 9000 + time),
            (time / 1000, 40_000 + time),
        ],
        faults: [300 + step, 2, 30 + step, 5 + step],
        disk: [wide * 4096, wide * 8192],
        counts: [40 + step, 12 + step],
        bytes: [30_000 + wide * 99, 4000 + wide * 7],
        lookups: [12, 20, 8],
        read: [5000 + wide, 30 + wide],
    }
    .field()
}

/// Appends a record.
fn push(bytes: &mut Vec<u8>, record: Vec<u8>) {
    bytes.extend(record);
    bytes.push(b'\n');
}

impl Workload {
    /// The records before those that are measured: the sessions.
    pub fn prepare(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let first = totals(1);
        match self.kind {
            Kind::Webmail { d } => {
                for n in 0..self.sessions * 4 {
                    push(&mut bytes, webmail(n, d, &first));
                }
            }
            _ => {
                for n in 0..self.sessions {
                    push(&mut bytes, connect_of(n));
                    push(&mut bytes, update(&id(n), &first));
                }
            }
        }
        bytes
    }

    /// The records that are measured. Each round passes over all sessions in an
    /// order of its own, and raises their totals; without sessions there are no rounds.
    pub fn measured(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut order: Vec<usize> = (0..self.sessions).collect();
        let mut random = Random::new(7);
        let (mut step, mut at) = (1, order.len());
        let mut stats = totals(step);
        for n in 0..self.records {
            if at >= order.len() && !order.is_empty() {
                for i in (1..order.len()).rev() {
                    order.swap(i, random.index(i + 1));
                }
                (step, at) = (step + 1, 0);
                stats = totals(step);
            }
            let session = order.get(at).copied().unwrap_or_default();
            at += 1;
            let begin = |bytes: &mut Vec<u8>| {
                let args = format!("1:{} (FLAGS)", session % 1000);
                push(
                    bytes,
                    command(&id(session), step, "d", "FETCH", &args, &stats),
                );
            };
            match self.kind {
                Kind::Mixed if n % 4 == 3 => begin(&mut bytes),
                Kind::Commands => begin(&mut bytes),
                Kind::Mixed | Kind::Updates => push(&mut bytes, update(&id(session), &stats)),
                Kind::Churn => match n % 3 {
                    0 => push(&mut bytes, connect_of(n / 3)),
                    1 => push(&mut bytes, update(&id(n / 3), &stats)),
                    _ => push(&mut bytes, disconnect(&id(n / 3))),
                },
                Kind::Failures => {
                    let user = format!("guess{}@domain{}.org", n, n % 1000);
                    let failed = Auth([0, 0, 1, 0, 0, 1]).field();
                    push(&mut bytes, add_user(&user, "imap", &failed));
                }
                Kind::Webmail { d } => {
                    push(&mut bytes, webmail(self.sessions * 4 + n, d, &stats));
                }
            }
        }
        bytes
    }
}
