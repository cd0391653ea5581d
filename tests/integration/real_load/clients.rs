//! The clients of the mail servers under load: each a thread that does what one kind of
//! client does, over and over, until the load ends.
//!
//! Every answer is awaited and checked. A client's choices follow from the seed and its
//! number; what they meet in the mailboxes depends on the timing of all.

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::dovecot::Dovecot;
use crate::harness::{send_signal, wait_until};
use crate::mail::{deliver, Imap, Pop3};
use crate::records::Random;

/// Users that share their mailboxes among several clients.
const USERS: u64 = 24;

/// Domains of these users.
const DOMAINS: u64 = 6;

/// IMAP processes that are killed: their sessions stay connected to the end, and the
/// smallest daemon has to hold all that are.
const KILLS: u64 = 40;

/// The last part of the load, in which processes are killed: shorter than the silence
/// after which a daemon takes a session for dead.
const KILL_TIME: Duration = Duration::from_secs(480);

/// Where sessions are not hibernated.
pub const AWAKE: &str = "203.0.113.1";

/// What a kind of clients is called, how many there are, and what each does.
type Kind = (&'static str, u64, fn(&mut Client));

/// All clients. Together they keep 50 to 60 sessions open.
const KINDS: [Kind; 12] = [
    ("desktop", 20, desktop),
    ("phone", 8, phone),
    ("awake", 4, awake),
    ("quiet", 16, quiet),
    ("webmail", 10, webmail),
    ("pop3", 3, pop3),
    ("sender", 3, sender),
    ("guesser", 2, guesser),
    ("crasher", 2, crasher),
    ("flooder", 1, flooder),
    ("stranger", 1, stranger),
    ("doveadm", 1, doveadm),
];

/// What the clients did.
#[derive(Default)]
pub struct Done {
    /// IMAP commands answered that the plugin reports: all after the login but IDLE.
    pub commands: AtomicU64,
    /// IMAP and POP3 logins and LMTP recipients.
    pub logins: AtomicU64,
    /// Wrong passwords.
    pub failures: AtomicU64,
    /// Processes killed.
    pub kills: AtomicU64,
    /// Sessions that Dovecot ended during a command: it does when a mailbox has changed
    /// too much under them.
    pub lost: AtomicU64,
}

impl Done {
    /// The value of one of the counters.
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

/// What all clients share.
pub struct Site {
    imap: u16,
    pop3: u16,
    lmtp: String,
    conf: String,
    begun: Instant,
    length: Duration,
    over: AtomicBool,
    pub done: Done,
    /// The process of each user's newest session, from the records.
    pub processes: Mutex<HashMap<String, u32>>,
}

/// All clients; ended when dropped.
pub struct Clients {
    pub site: Arc<Site>,
    threads: Vec<(String, JoinHandle<()>)>,
}

impl Clients {
    pub fn start(dovecot: &Dovecot, seed: u64, length: Duration) -> Clients {
        let site = Arc::new(Site {
            imap: dovecot.imap,
            pop3: dovecot.pop3,
            lmtp: dovecot.lmtp_socket(),
            conf: dovecot.dir.at("dovecot.conf"),
            begun: Instant::now(),
            length,
            over: AtomicBool::new(false),
            done: Done::default(),
            processes: Mutex::new(HashMap::new()),
        });
        let mut threads = Vec::new();
        for (kind, count, live) in KINDS {
            for n in 0..count {
                let number = threads.len() as u64;
                let mut client = Client {
                    site: Arc::clone(&site),
                    number,
                    random: Random::new(seed ^ number << 32),
                    lost: false,
                };
                let name = format!("{kind} {n}");
                let thread = thread::Builder::new().name(name.clone());
                let thread = thread.spawn(move || live(&mut client));
                threads.push((name, thread.expect("start a thread")));
            }
        }
        Clients { site, threads }
    }

    pub fn count(&self) -> usize {
        self.threads.len()
    }

    /// Whether a client has panicked; its thread has printed why.
    pub fn failed(&self) -> Option<&str> {
        let early = |thread: &JoinHandle<()>| thread.is_finished() && self.site.goes_on();
        let failed = self.threads.iter().find(|(_, thread)| early(thread));
        failed.map(|(name, _)| name.as_str())
    }

    /// Has them all log out and end.
    pub fn end(&self) {
        self.site.over.store(true, Ordering::Relaxed);
    }

    /// Whether all have ended.
    pub fn ended(&self) -> bool {
        self.threads.iter().all(|(_, thread)| thread.is_finished())
    }

    /// Waits for all; panics if one has.
    #[track_caller]
    pub fn join(mut self) {
        self.end();
        for (name, thread) in self.threads.drain(..) {
            assert!(thread.join().is_ok(), "the client {name} failed");
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.end();
        for (_, thread) in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Site {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }
}

struct Client {
    site: Arc<Site>,
    number: u64,
    random: Random,
    /// Whether the server has ended the session.
    lost: bool,
}

impl Client {
    fn goes_on(&self) -> bool {
        self.site.goes_on()
    }

    /// The time that the person at the client takes, up to `most` milliseconds.
    fn think(&mut self, most: u64) {
        thread::sleep(Duration::from_millis(self.random.below(most)));
    }

    /// One of the users with shared mailboxes.
    fn user(&mut self) -> String {
        let n = self.random.below(USERS);
        format!("user{n}@d{}.example", n % DOMAINS)
    }

    /// Where the client is.
    fn ip(&mut self) -> String {
        match self.random.below(4) {
            0 => format!("2001:db8::{:x}", 1 + self.random.below(6)),
            _ => format!("192.0.2.{}", 1 + self.random.below(12)),
        }
    }

    fn message(&mut self) -> String {
        let number = self.random.below(1000);
        let body = "Words and more words.\r\n".repeat(1 + self.random.index(60));
        format!(
            "From: a@d0.example\r\nTo: b@d1.example\r\nSubject: test {number}\r\n\
             Message-ID: <{number}@d0.example>\r\n\r\n{body}"
        )
    }

    fn login(&mut self, user: &str, ip: &str) -> Imap {
        let mut imap = Imap::connect_for(self.site.imap, ip);
        imap.authenticate(user);
        count(&self.site.done.logins);
        self.lost = false;
        imap
    }

    fn logout(&mut self, mut imap: Imap) {
        self.command(&mut imap, "LOGOUT");
    }

    /// A command that is answered by OK, or by NO where another client was quicker.
    fn command(&mut self, imap: &mut Imap, command: &str) {
        let tag = imap.begin(command);
        self.finish(imap, &tag, command);
    }

    fn finish(&mut self, imap: &mut Imap, tag: &str, command: &str) {
        let Some(answer) = imap.try_finish(tag) else {
            if !std::mem::replace(&mut self.lost, true) {
                count(&self.site.done.lost);
            }
            return;
        };
        // What Dovecot answers where a mailbox is empty or has shrunk.
        let fine = answer.starts_with("OK")
            || answer.starts_with("NO")
            || answer.contains("Invalid messageset");
        assert!(fine, "{command}: {answer}");
        if command != "IDLE" {
            count(&self.site.done.commands);
        }
    }

    /// Opens INBOX, beside which there is Archive.
    fn open(&mut self, imap: &mut Imap) {
        self.command(imap, "CREATE Archive");
        self.command(imap, "SELECT INBOX");
    }

    /// One thing that a person does in the mailbox that is open.
    fn work(&mut self, imap: &mut Imap) {
        let headers = "UID FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (FROM TO CC SUBJECT DATE \
             MESSAGE-ID PRIORITY X-PRIORITY REFERENCES NEWSGROUPS IN-REPLY-TO CONTENT-TYPE)])";
        match self.random.below(16) {
            0 => self.command(imap, "SELECT Archive"),
            1 => self.command(imap, "SELECT INBOX"),
            2 => self.command(imap, "FETCH 1:* (FLAGS)"),
            3 => self.command(imap, headers),
            4 => self.command(imap, "UID FETCH * BODY[]"),
            5 => self.command(imap, "SEARCH TEXT \"words\""),
            6 => self.command(imap, "UID SORT (DATE) UTF-8 ALL"),
            7 => self.command(imap, "UID COPY * Archive"),
            8 => self.command(imap, "STORE 1:3 +FLAGS (\\Seen)"),
            9 => {
                self.command(imap, "STORE 1:20 +FLAGS (\\Deleted)");
                self.command(imap, "EXPUNGE");
            }
            10 => self.command(imap, "STATUS Archive (MESSAGES UNSEEN UIDNEXT)"),
            11 => self.command(imap, "LIST \"\" *"),
            12 | 13 => {
                let message = self.message();
                let command = format!("APPEND INBOX {{{}+}}\r\n{message}", message.len());
                self.command(imap, &command);
            }
            _ => self.noops(imap, 8),
        }
    }

    /// Up to `most` NOOPs at once.
    fn noops(&mut self, imap: &mut Imap, most: u64) {
        let tags: Vec<String> = (0..=self.random.below(most))
            .map(|_| imap.begin("NOOP"))
            .collect();
        for tag in tags {
            self.finish(imap, &tag, "NOOP");
        }
    }

    /// IDLE for up to so many milliseconds.
    fn idle(&mut self, imap: &mut Imap, most: u64) {
        let tag = imap.begin("IDLE");
        self.think(most);
        imap.say("DONE");
        self.finish(imap, &tag, "IDLE");
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// One session after the other, each until the server or the load ends it.
fn stay(client: &mut Client, user: &str, ip: &str, step: impl Fn(&mut Client, &mut Imap)) {
    while client.goes_on() {
        let mut imap = client.login(user, ip);
        client.open(&mut imap);
        while client.goes_on() && !client.lost {
            step(client, &mut imap);
        }
        client.logout(imap);
    }
}

/// One session from beginning to end, of hundreds to thousands of commands.
fn desktop(client: &mut Client) {
    let (user, ip) = (client.user(), client.ip());
    stay(client, &user, &ip, |client, imap| {
        client.work(imap);
        client.think(160);
        if client.random.one_in(100) {
            client.idle(imap, 3000);
        }
    });
}

/// IDLE for the most part: its session is hibernated and woken again and again.
fn phone(client: &mut Client) {
    let ip = client.ip();
    idler(client, &ip);
}

/// As a phone, but where the server does not hibernate.
fn awake(client: &mut Client) {
    idler(client, AWAKE);
}

fn idler(client: &mut Client, ip: &str) {
    let user = client.user();
    stay(client, &user, ip, |client, imap| {
        client.idle(imap, 5000);
        client.command(imap, "UID FETCH * (FLAGS)");
    });
}

/// A session of which nothing is heard for seconds.
fn quiet(client: &mut Client) {
    let (user, ip) = (client.user(), client.ip());
    stay(client, &user, &ip, |client, imap| {
        client.command(imap, "NOOP");
        client.think(4000);
    });
}

/// A session for each click.
fn webmail(client: &mut Client) {
    while client.goes_on() {
        let user = client.user();
        let mut imap = client.login(&user, "198.51.100.1");
        client.open(&mut imap);
        for _ in 0..=client.random.below(6) {
            client.work(&mut imap);
        }
        client.logout(imap);
        client.think(1500);
    }
}

/// Mail comes in and is fetched and deleted over POP3.
fn pop3(client: &mut Client) {
    let user = format!("pop{}@d0.example", client.number);
    while client.goes_on() {
        let message = client.message();
        deliver(&client.site.lmtp, &[&user], &message, || ());
        count(&client.site.done.logins);
        let ip = client.ip();
        let mut pop3 = Pop3::login_for(client.site.pop3, &user, &ip);
        count(&client.site.done.logins);
        pop3.ok("STAT");
        pop3.retr(1);
        pop3.ok("DELE 1");
        pop3.ok("QUIT");
        client.think(1500);
    }
}

/// Delivers to several recipients at once.
fn sender(client: &mut Client) {
    while client.goes_on() {
        let mut users: Vec<String> = (0..=client.random.below(4))
            .map(|_| client.user())
            .collect();
        users.sort();
        users.dedup();
        let recipients: Vec<&str> = users.iter().map(String::as_str).collect();
        let message = client.message();
        deliver(&client.site.lmtp, &recipients, &message, || ());
        recipients
            .iter()
            .for_each(|_| count(&client.site.done.logins));
        client.think(1500);
    }
}

/// Tries wrong passwords, and at times the right one.
fn guesser(client: &mut Client) {
    while client.goes_on() {
        let (user, ip) = (client.user(), client.ip());
        let mut imap = Imap::connect_for(client.site.imap, &ip);
        for _ in 0..=client.random.below(2) {
            let answer = imap.command(&format!("LOGIN {user} wrong"));
            assert!(answer.starts_with("NO"), "a wrong password: {answer}");
            count(&client.site.done.failures);
        }
        if client.random.one_in(3) {
            imap.authenticate(&user);
            count(&client.site.done.logins);
            client.logout(imap);
        }
        client.think(2000);
    }
}

/// Its IMAP process is killed, at rest or at work, each time with a mailbox of its own:
/// a lock that is left behind keeps no other client waiting.
fn crasher(client: &mut Client) {
    let mut round = 0;
    while client.goes_on() {
        client.think(5000);
        let site = Arc::clone(&client.site);
        let left = site.length.saturating_sub(site.begun.elapsed());
        if left > KILL_TIME || Done::get(&site.done.kills) >= KILLS {
            continue;
        }
        round += 1;
        let user = format!("crash{}-{round}@crash.example", client.number);
        let ip = client.ip();
        let mut imap = client.login(&user, &ip);
        client.open(&mut imap);
        for _ in 0..4 {
            client.work(&mut imap);
        }
        let known = || {
            let processes = site.processes.lock().expect("unpoisoned");
            processes.get(&user).copied()
        };
        wait_until("the process of a session to kill", || {
            known().is_some() || !client.goes_on()
        });
        let Some(process) = known() else {
            return client.logout(imap);
        };
        if client.random.one_in(2) {
            imap.begin("UID FETCH 1:* BODY[]");
        }
        let name = std::fs::read_to_string(format!("/proc/{process}/comm"));
        assert_eq!(name.expect("its name").trim(), "imap", "process {process}");
        send_signal(process, libc::SIGKILL);
        count(&site.done.kills);
    }
}

/// Nothing but NOOP, hundreds in a second.
fn flooder(client: &mut Client) {
    stay(client, "flood@flood.example", AWAKE, |client, imap| {
        client.noops(imap, 40);
        client.think(100);
    });
}

/// Searches for texts that the plugin does not escape: a TAB makes a field too many, and a
/// line break makes two lines of one record, of which neither is one.
fn stranger(client: &mut Client) {
    // A mailbox of its own: nothing ends the session.
    stay(client, "strange@d0.example", AWAKE, |client, imap| {
        client.command(imap, "SEARCH TEXT \"a\tb\"");
        // Not counted, as it cannot be by any service.
        imap.ok("SEARCH TEXT {3+}\r\na\nb");
        client.think(2000);
    });
}

/// What an administrator's scripts do; each run is a session.
fn doveadm(client: &mut Client) {
    while client.goes_on() {
        let user = client.user();
        let mut command = Command::new("doveadm");
        command.args(["-c", &client.site.conf, "fetch", "-u", &user]);
        command.args(["uid flags", "mailbox", "INBOX", "all"]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        assert!(
            command.status().expect("run doveadm").success(),
            "{command:?}"
        );
        count(&client.site.done.logins);
        client.think(4000);
    }
}
