//! A Dovecot 2.4 to `dovestat bridge`: events, an anvil and processes, as far as it sees
//! them, and a real daemon behind it.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, thread};

use crate::client::dovestat;
use crate::harness::{send_signal, wait_until, Daemon, Setup, TempDir};
use crate::link::Table;
use crate::run::end;

pub fn wall_usecs() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a clock past 1970").as_micros() as u64
}

/// An anvil that lists what it is told to.
pub struct Anvil {
    path: String,
    rows: Arc<Mutex<Vec<String>>>,
}

impl Anvil {
    pub fn start(path: &str) -> Anvil {
        let _ = fs::remove_file(path);
        let listener = UnixListener::bind(path).expect("listen as anvil");
        let rows = Arc::new(Mutex::new(Vec::<String>::new()));
        let listed = Arc::clone(&rows);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a question");
                let expected = b"VERSION\tanvil-client\t2\t0\n\nCONNECT-DUMP\n";
                let mut question = vec![0; expected.len()];
                if stream.read_exact(&mut question).is_err() {
                    continue;
                }
                assert_eq!(question, expected);
                let mut reply = "VERSION\tanvil-server\t2\t0\n\n".to_owned();
                for row in listed.lock().unwrap().iter() {
                    writeln!(reply, "{row}").unwrap();
                }
                let _ = stream.write_all(format!("{reply}\n").as_bytes());
            }
        });
        Anvil {
            path: path.to_owned(),
            rows,
        }
    }

    pub fn list(&self, row: String) {
        self.rows.lock().unwrap().push(row);
    }

    pub fn unlist(&self, row: &str) {
        self.rows.lock().unwrap().retain(|known| known != row);
    }
}

/// A process that works when it is told to, as a mail process.
pub struct Worker {
    child: Child,
    stdin: ChildStdin,
    report: String,
    steps: u64,
}

impl Worker {
    pub fn start(stage: &Stage, name: &str) -> Worker {
        let report = stage.daemon.dir.at(name);
        let script = "while read n; do i=0; while [ $i -lt $n ]; do i=$((i+1)); done; \
                      head -c $n /dev/zero >/dev/null; read line </proc/$$/stat; \
                      echo \"$n\" >>\"$0\"; done";
        let mut child = Command::new("sh")
            .args(["-c", script, &report])
            .stdin(Stdio::piped())
            .spawn()
            .expect("start a worker");
        let stdin = child.stdin.take().expect("a pipe");
        Worker {
            child,
            stdin,
            report,
            steps: 0,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Works for a while.
    pub fn work(&mut self, rounds: u64) {
        writeln!(self.stdin, "{rounds}").expect("a worker that reads");
        self.steps += 1;
        let done = || {
            fs::read_to_string(&self.report)
                .unwrap_or_default()
                .lines()
                .count() as u64
        };
        wait_until("the worker's step", || done() == self.steps);
        // It is back in read(2), and uses nothing.
        wait_until("the worker waiting", || {
            crate::run::state(self.child.id()) == Some('S')
        });
    }

    /// What it has used: nanoseconds of processor, page faults, bytes read, bytes
    /// written.
    pub fn used(&self) -> [u64; 4] {
        let read = |name: &str| {
            fs::read_to_string(format!("/proc/{}/{name}", self.pid())).expect("a worker's files")
        };
        let number = |text: &str| text.parse().expect("a number");
        let stat = read("stat");
        let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
        let io = read("io");
        let of_io = |name: &str| {
            let line = io.lines().find(|line| line.starts_with(name));
            number(line.expect("a line of io").split(": ").nth(1).unwrap())
        };
        let nanos = number(read("schedstat").split(' ').next().unwrap());
        [nanos, number(fields[7]), of_io("rchar"), of_io("wchar")]
    }

    pub fn end(mut self) {
        drop(self.stdin);
        self.child.wait().expect("a worker's end");
    }
}

/// A daemon, a bridge and an anvil.
pub struct Stage {
    pub daemon: Daemon,
    pub bridge: Option<Child>,
    pub anvil: Anvil,
    events: Option<UnixStream>,
    options: Vec<String>,
    next_guid: u32,
    /// No Dovecot connects.
    is_silent: bool,
}

impl Stage {
    pub fn new(name: &str, options: &[&str]) -> Stage {
        Stage::with(name, &Setup::new(), options)
    }

    pub fn with(name: &str, setup: &Setup, options: &[&str]) -> Stage {
        let daemon = Daemon::with(name, setup);
        let anvil = Anvil::start(&daemon.dir.at("anvil"));
        let mut stage = Stage {
            daemon,
            bridge: None,
            anvil,
            events: None,
            options: options.iter().map(|&option| option.to_owned()).collect(),
            next_guid: 0,
            is_silent: false,
        };
        stage.start_bridge();
        stage
    }

    pub fn events_path(&self) -> String {
        self.daemon.dir.at("events")
    }

    pub fn start_bridge(&mut self) {
        let (events, log) = (self.events_path(), self.daemon.dir.at("bridge.log"));
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(log)
            .unwrap();
        let mut words = vec!["bridge", "-e", &events, "-a", &self.anvil.path];
        let (fifo, socket) = (self.daemon.fifo(), self.daemon.socket());
        words.extend(["--fifo", &fifo, "-s", &socket, "-i", "0.1"]);
        words.extend(self.options.iter().map(String::as_str));
        let child = dovestat(&words)
            .stderr(log)
            .spawn()
            .expect("start the bridge");
        self.bridge = Some(child);
        let is_silent = self.is_silent;
        wait_until("the events socket", || {
            // A bridge makes its socket when it listens.
            let is_there = fs::exists(&events).unwrap_or(false);
            if is_silent {
                return is_there;
            }
            self.events = UnixStream::connect(&events).ok();
            self.events.is_some()
        });
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.daemon.dir.at("bridge.log")).unwrap_or_default()
    }

    pub fn stop_bridge(&mut self) {
        let bridge = self.bridge.take().expect("a bridge");
        send_signal(bridge.id(), libc::SIGTERM);
        end(bridge);
        self.events = None;
    }

    pub fn kill_bridge(&mut self) {
        let mut bridge = self.bridge.take().expect("a bridge");
        bridge.kill().expect("kill the bridge");
        bridge.wait().expect("the bridge's end");
        self.events = None;
    }

    /// Ends the connection of Dovecot, and begins again as if there had been none.
    pub fn hang_up(&mut self) {
        self.stop_bridge();
        self.is_silent = true;
        self.start_bridge();
    }

    /// Ends the daemon, does something, and starts it again when the bridge knows.
    pub fn restart_daemon(&mut self, setup: &Setup, meanwhile: impl FnOnce(&mut Stage)) {
        send_signal(self.daemon.pid(), libc::SIGTERM);
        self.daemon.wait_stopped();
        meanwhile(self);
        let fifo = self.daemon.fifo();
        let bridge = self.bridge.as_ref().expect("a bridge").id();
        wait_until("a bridge without the FIFO", || {
            let open = fs::read_dir(format!("/proc/{bridge}/fd")).expect("a bridge that runs");
            let mut targets = open.filter_map(|end| fs::read_link(end.ok()?.path()).ok());
            !targets.any(|target| target == std::path::Path::new(&fifo))
        });
        let dir = std::mem::replace(&mut self.daemon.dir, TempDir::new("gone"));
        self.daemon = Daemon::in_dir(dir, setup);
    }

    /// Sends a line of events as it is.
    pub fn send_line(&mut self, line: &str) {
        let events = self.events.as_mut().expect("an events socket");
        events.write_all(line.as_bytes()).expect("write an event");
    }

    /// Sends an event; fields are `name=value`, with blanks in between.
    pub fn send(&mut self, name: &str, fields: &str) {
        let usecs = wall_usecs();
        let time = format!("{}.{:06}", usecs / 1_000_000, usecs % 1_000_000);
        let mut line = format!("event:{name}\tstart_time:{time}\tend_time:{time}");
        for field in fields.split_whitespace() {
            write!(line, "\tfield:{field}").unwrap();
        }
        self.send_line(&format!("{line}\n"));
    }

    /// A row of anvil for a connection that a process gets now.
    pub fn row(&mut self, pid: u32, user: &str, service: &str, ip: &str) -> String {
        let usecs = wall_usecs();
        self.next_guid += 1;
        let parts = [
            (usecs % 1_000_000 * 1000) as u32,
            (usecs / 1_000_000) as u32,
            pid,
            self.next_guid,
        ];
        let guid = parts.iter().fold(String::new(), |mut guid, part| {
            for byte in part.to_le_bytes() {
                write!(guid, "{byte:02x}").unwrap();
            }
            guid
        });
        format!("{pid}\t{user}\t{service}\t{ip}\t{guid}\t")
    }

    /// Logs a user in, whom a process serves; gives anvil's row.
    pub fn login(&mut self, id: &str, user: &str, service: &str, ip: &str, pid: u32) -> String {
        let protocol = if service == "managesieve" {
            "sieve"
        } else {
            service
        };
        let fields = format!(
            "protocol={protocol} user={user} session={id} remote_ip={ip} remote_port={}",
            port(id)
        );
        self.send(
            "auth_passdb_request_finished",
            &format!("{fields} result=ok"),
        );
        self.send(
            "auth_request_finished",
            &format!("{fields} success=yes duration=321"),
        );
        self.send(
            "auth_userdb_request_finished",
            &format!("{fields} result=ok"),
        );
        let row = self.row(pid, user, service, ip);
        self.anvil.list(row.clone());
        row
    }

    /// Waits until a table of the daemon is as wanted.
    #[track_caller]
    pub fn wait(&self, what: &str, mut is_there: impl FnMut(&Table) -> bool) -> Table {
        let mut last = None;
        let mut client = self.daemon.client();
        let found = crate::harness::holds_within(crate::harness::DEADLINE, || {
            let table = client.export(&what.replace(' ', "\t"));
            let is_it = is_there(&table);
            last = Some(table);
            is_it
        });
        assert!(
            found,
            "{what}: {last:?}\nlog: {}\n{}",
            self.daemon.log(),
            self.log()
        );
        last.expect("a table")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(mut bridge) = self.bridge.take() {
            let _ = bridge.kill();
            let _ = bridge.wait();
        }
    }
}

/// A client's port, made of its session's id.
pub fn port(id: &str) -> u32 {
    20_000
        + id.bytes()
            .fold(0, |sum, byte| (sum * 31 + u32::from(byte)) % 40_000)
}
