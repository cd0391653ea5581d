//! A master that the test plays, as Dovecot 2.2's and 2.3's, with the recorded environment.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;

use crate::harness::{holds_within, program, send_signal, wait_until, TempDir, DEADLINE};
use crate::link::{Client, Writer};
use crate::records::{connect, disconnect};

/// The environment of a service of Dovecot 2.3.19.1.
const RECORDED: &str = include_str!("../data/master-2.3.19.env");

/// A pipe of descriptors that no child inherits by chance: reader, writer.
fn pipe() -> (File, File) {
    let mut fds = [0; 2];
    // SAFETY: pipe2 stores two descriptors in an array that is alive during the call.
    let rc = unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) };
    assert_eq!(rc, 0, "pipe: {}", std::io::Error::last_os_error());
    // SAFETY: the descriptors are new and owned by nothing else.
    fds.map(|fd| unsafe { File::from_raw_fd(fd) }).into()
}

/// A copy of a descriptor with a number that is not one of those the master passes.
fn high(file: &impl std::os::fd::AsRawFd) -> OwnedFd {
    // SAFETY: no pointers.
    let fd = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 100) };
    assert!(fd >= 100, "{}", std::io::Error::last_os_error());
    // SAFETY: the descriptor is new and owned by nothing else.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A master's directory, with a configuration socket that answers.
struct Master {
    dir: TempDir,
    requests: Option<JoinHandle<Vec<String>>>,
}

/// The process of a service, with what the master keeps of it.
struct Service {
    child: Child,
    /// Dropped: the request to end.
    dead: Option<File>,
    status: File,
    log: File,
    /// As the master makes it, for this generation.
    fifo: Option<File>,
}

impl Master {
    /// One that answers so many requests for settings with `lines`.
    fn new(name: &str, processes: usize, lines: &str) -> Master {
        let dir = TempDir::new(name);
        fs::create_dir(dir.at("run")).expect("mkdir run");
        fs::create_dir(dir.at("state")).expect("mkdir state");
        let socket = UnixListener::bind(dir.at("run/config")).expect("bind config");
        let reply = format!(
            "\nbase_dir={}\nstate_dir={}\n{lines}service/stats/user=nobody\n\n",
            dir.at("run"),
            dir.at("state")
        );
        let answer = move || {
            let take = |_| {
                let (mut stream, _) = socket.accept().expect("accept");
                let mut request = Vec::new();
                while request.iter().filter(|byte| **byte == b'\n').count() < 2 {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).expect("a request");
                    request.push(byte[0]);
                }
                // In pieces, as a large one comes.
                for piece in reply.as_bytes().chunks(7) {
                    stream.write_all(piece).expect("reply");
                }
                String::from_utf8(request).expect("text")
            };
            (0..processes).map(take).collect()
        };
        let requests = Some(std::thread::spawn(answer));
        Master { dir, requests }
    }

    fn fifo(&self) -> String {
        self.dir.at("run/stats-mail")
    }

    fn socket(&self) -> String {
        self.dir.at("run/stats")
    }

    /// Makes FIFO and socket anew, and starts a process of the next generation. `change`
    /// replaces variables; an empty one is not there.
    fn start(&self, generation: u32, change: &[(&str, &str)]) -> Service {
        for path in [self.fifo(), self.socket()] {
            let _ = fs::remove_file(path);
        }
        let made = Command::new("mkfifo")
            .args(["-m", "600", &self.fifo()])
            .status();
        assert!(made.expect("mkfifo").success());
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK);
        let fifo = options.open(self.fifo()).expect("open the FIFO");
        let socket = UnixListener::bind(self.socket()).expect("bind stats");
        let (dead, dead_writer) = pipe();
        let (status, status_writer) = pipe();
        let (log, log_writer) = pipe();
        let passed = [
            (high(&log_writer), 2),
            (high(&status_writer), 5),
            (high(&dead_writer), 6),
            (high(&socket), 7),
            (high(&fifo), 8),
        ];
        let numbers: Vec<(RawFd, RawFd)> = passed
            .iter()
            .map(|(fd, to)| (fd.as_raw_fd(), *to))
            .collect();
        let mut command = Command::new(program());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        for (name, value) in RECORDED.lines().filter_map(|line| line.split_once('=')) {
            command.env(name, value.trim_matches('\''));
        }
        let generation = generation.to_string();
        let config = self.dir.at("run/config");
        for (name, value) in [
            ("CONFIG_FILE", &*config),
            ("GENERATION", &*generation),
            ("SOCKET_COUNT", "2"),
            ("SOCKET0_SETTINGS", "stats"),
            ("SOCKET1_SETTINGS", "stats-mail"),
            ("RESTRICT_CHROOT", ""),
            ("RESTRICT_SETUID", ""),
            ("RESTRICT_SETGID", ""),
        ]
        .iter()
        .chain(change)
        {
            match value.is_empty() {
                true => command.env_remove(name),
                false => command.env(name, value),
            };
        }
        let pass = move || {
            for &(from, to) in &numbers {
                // SAFETY: no pointers.
                if unsafe { libc::dup2(from, to) } == -1 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        };
        // SAFETY: the closure makes calls that may be made between fork and exec.
        unsafe { command.pre_exec(pass) };
        let child = command.spawn().expect("start dovestatd");
        Service {
            child,
            dead: Some(dead),
            status,
            log,
            fifo: Some(fifo),
        }
    }

    /// The number of logins that the process tells who has the newest socket.
    #[track_caller]
    fn wait_logins(&self, value: u64) {
        let mut last = None;
        let came = holds_within(DEADLINE, || {
            let table =
                Client::try_unix(&self.socket()).and_then(|mut client| client.try_export("global"));
            last = table.map(|table| table.only().num("num_logins"));
            last == Some(value)
        });
        assert!(came, "{last:?} logins instead of {value}");
    }
}

impl Service {
    /// The next status: pid, generation and clients.
    #[track_caller]
    fn status(&mut self) -> (u32, u32, u32) {
        let mut message = [0; 12];
        self.status.read_exact(&mut message).expect("a status");
        let number = |at: usize| u32::from_ne_bytes(message[at..at + 4].try_into().expect("4"));
        (number(0), number(4), number(8))
    }

    /// Asks for the end, as a reload does: the FIFO is closed, too.
    fn ask_to_end(&mut self) {
        self.fifo = None;
        self.dead = None;
    }

    /// Waits for the end, and returns the lines of the log by their types.
    fn wait_end(mut self) -> (ExitStatus, Vec<(u8, String)>) {
        let mut status = None;
        wait_until("the end of the process", || {
            status = self.child.try_wait().expect("wait");
            status.is_some()
        });
        let mut bytes = Vec::new();
        self.log.read_to_end(&mut bytes).expect("the log");
        let pid = format!("{} ", self.child.id());
        let lines = bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        let lines = lines.map(|line| {
            assert_eq!(line[0], 1, "{line:?}");
            let text = String::from_utf8(line[2..].to_vec()).expect("text");
            let text = text.strip_prefix(&pid).unwrap_or_else(|| panic!("{text}"));
            (line[1], text.to_owned())
        });
        let lines = lines.collect();
        (status.expect("a status"), lines)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const INFO: u8 = 2;
const FATAL: u8 = 5;

/// What Dovecot 2.2's master does not have in the environment.
const V2_2: [(&str, &str); 3] = [
    ("DOVECOT_VERSION", ""),
    ("SERVICE_NAME", ""),
    ("NOTIFY_SOCKET", "/nonexistent"),
];

#[test]
fn a_master_of_2_2_is_served() {
    let mut master = Master::new("fake-2.2", 1, "stats_memory_limit=3 M\n");
    let mut service = master.start(7, &V2_2);
    let expected = (service.child.id(), 7, 1000);
    assert_eq!(service.status(), expected);
    master.wait_logins(0);
    let mut writer = Writer::open(&master.fifo());
    writer.send_waiting(&connect("one", "a@example.org", "imap", 1, ""));
    master.wait_logins(1);
    // An idle kill: the same again.
    send_signal(service.child.id(), libc::SIGINT);
    assert_eq!(service.status(), expected);
    // Its settings are the master's: no reason to read them again.
    send_signal(service.child.id(), libc::SIGHUP);
    master.wait_logins(1);
    // A stop: the master keeps the FIFO open.
    service.dead = None;
    let (status, lines) = service.wait_end();
    assert_eq!(status.code(), Some(0));
    assert!(lines.iter().all(|(kind, _)| *kind == INFO), "{lines:?}");
    let serving = |line: &&(u8, String)| line.1.contains("memory limit 3 M");
    assert_eq!(lines.iter().filter(serving).count(), 1, "{lines:?}");
    assert!(fs::metadata(master.dir.at("state/dovestat/state")).is_ok());
    let requests = master.requests.take().expect("the socket").join();
    let expected = "VERSION\tconfig\t2\t0\nREQ\tservice=stats\n";
    assert_eq!(requests.expect("requests"), [expected]);
}

#[test]
fn quit_and_term_end_it_with_everything_saved() {
    let master = Master::new("fake-signals", 2, "");
    for (generation, signal) in [(1, libc::SIGQUIT), (2, libc::SIGTERM)] {
        let service = master.start(generation, &[]);
        master.wait_logins(u64::from(generation) - 1);
        let mut writer = Writer::open(&master.fifo());
        let id = format!("s{generation}");
        writer.send_waiting(&connect(&id, "a@example.org", "imap", 1, ""));
        send_signal(service.child.id(), signal);
        assert_eq!(service.wait_end().0.code(), Some(0));
    }
}

#[test]
fn processes_follow_one_another_and_read_what_old_writers_send() {
    let master = Master::new("fake-queue", 3, "");
    let mut first = master.start(1, &[]);
    first.status();
    master.wait_logins(0);
    let mut old = Writer::open(&master.fifo());
    old.send_waiting(&connect("one", "a@example.org", "imap", 1, ""));
    // Two reloads while the first process still serves.
    let mut second = master.start(2, &[]);
    second.status();
    let mut middle = Writer::open(&master.fifo());
    middle.send_waiting(&connect("two", "a@example.org", "imap", 1, ""));
    let mut third = master.start(3, &[]);
    third.status();
    let mut new = Writer::open(&master.fifo());
    new.send_waiting(&connect("three", "a@example.org", "imap", 1, ""));
    second.ask_to_end();
    first.ask_to_end();
    for service in [first, second] {
        let (status, lines) = service.wait_end();
        assert_eq!(status.code(), Some(0), "{lines:?}");
        assert!(lines.iter().all(|(kind, _)| *kind == INFO), "{lines:?}");
    }
    master.wait_logins(3);
    for (writer, id) in [(&mut old, "one"), (&mut middle, "two"), (&mut new, "three")] {
        writer.send_waiting(&disconnect(id));
    }
    wait_until("all sessions disconnected", || {
        let table = Client::unix(&master.socket()).export("session");
        table.values("connected") == ["0"; 3]
    });
    drop((old, middle));
    third.ask_to_end();
    drop(new);
    let (status, lines) = third.wait_end();
    assert_eq!(status.code(), Some(0), "{lines:?}");
}

#[test]
fn a_client_gets_its_reply_before_the_end() {
    let master = Master::new("fake-client", 1, "");
    let mut service = master.start(1, &[]);
    service.status();
    master.wait_logins(0);
    let mut client = Client::unix(&master.socket());
    let mut waiting = Client::unix(&master.socket());
    client.export("global");
    service.ask_to_end();
    client.send("EXPORT\tglobal\n");
    waiting.send("EXPORT\tglobal\n");
    for client in [&mut client, &mut waiting] {
        assert!(client.try_reply().is_some(), "a reply");
    }
    assert_eq!(service.wait_end().0.code(), Some(0));
}

#[test]
fn a_process_that_was_killed_leaves_its_place() {
    let master = Master::new("fake-killed", 2, "");
    let mut first = master.start(1, &[]);
    first.status();
    master.wait_logins(0);
    let mut second = master.start(2, &[]);
    second.status();
    first.child.kill().expect("kill");
    master.wait_logins(0);
    second.ask_to_end();
    assert_eq!(second.wait_end().0.code(), Some(0));
}

#[test]
fn a_master_of_2_4_is_refused_with_one_line() {
    let master = Master::new("fake-2.4", 0, "");
    let service = master.start(1, &[("DOVECOT_VERSION", "2.4.1-4")]);
    let (status, lines) = service.wait_end();
    assert_eq!(status.code(), Some(69));
    let [(FATAL, line)] = &lines[..] else {
        panic!("{lines:?}");
    };
    assert!(line.contains("2.2 and 2.3, not of 2.4.1-4"), "{line}");
}
