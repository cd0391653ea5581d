//! What every test stands on: a directory of its own, a daemon of its own,
//! waiting for conditions with a deadline, and what /proc says of a process.
//!
//! A `Daemon` is killed when dropped; when its test is failing, its log is
//! printed first. Nothing here sleeps where a condition can be waited for.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::link::{Client, Writer};

/// The longest any condition is waited for.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until `cond` holds; panics with `what` after [`DEADLINE`].
#[track_caller]
pub fn wait_until(what: &str, mut cond: impl FnMut() -> bool) {
    assert!(
        holds_within(DEADLINE, &mut cond),
        "waited {DEADLINE:?} for: {what}"
    );
}

/// Whether `cond` comes to hold within `time`.
pub fn holds_within(time: Duration, mut cond: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + time;
    loop {
        if cond() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    // SAFETY: geteuid takes nothing, touches no memory and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// A directory of the test's own, removed when dropped.
pub struct TempDir {
    path: PathBuf,
}

impl TempDir {
    /// Makes `/tmp/dovestat-<pid>-<n>-<name>` (or below `TMPDIR`), mode 0755.
    pub fn new(name: &str) -> TempDir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let base = std::env::temp_dir();
        // A UNIX socket's path has room for about a hundred bytes.
        let base = if base.as_os_str().len() > 40 {
            PathBuf::from("/tmp")
        } else {
            base
        };
        let path = base.join(format!("dovestat-{}-{n}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap_or_else(|e| panic!("create {}: {e}", path.display()));
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&path, mode)
            .unwrap_or_else(|e| panic!("chmod {}: {e}", path.display()));
        TempDir { path }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path below the directory, as text.
    pub fn at(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    /// Writes a file below the directory.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.at(name);
        fs::write(&path, text).unwrap_or_else(|e| panic!("write {path}: {e}"));
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if std::env::var_os("DOVESTAT_KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// A TCP port of 127.0.0.1 that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind 127.0.0.1:0");
    listener.local_addr().expect("local_addr").port()
}

/// How a daemon is to be started.
#[derive(Default)]
pub struct Setup {
    /// Options after `-F -c FILE`.
    pub options: Vec<String>,
    /// Lines of the configuration outside `service stats`.
    pub lines: Vec<String>,
    /// Lines inside `service stats { }`.
    pub service: Vec<String>,
    /// A command in front of the daemon's program, which it becomes.
    pub wrapper: Vec<String>,
    /// What its environment has differently.
    pub environment: Vec<(String, String)>,
}

impl Setup {
    /// The default configuration.
    pub fn new() -> Setup {
        Setup::default()
    }

    /// Adds one `-o NAME=VALUE`.
    pub fn option(mut self, assignment: &str) -> Setup {
        self.options.push("-o".to_string());
        self.options.push(assignment.to_string());
        self
    }

    /// Adds one or more lines inside `service stats { }`.
    pub fn service(mut self, lines: &str) -> Setup {
        self.service.extend(lines.lines().map(str::to_string));
        self
    }

    /// Puts a command in front of the daemon's program.
    pub fn wrapped(mut self, wrapper: &[&str]) -> Setup {
        self.wrapper = wrapper.iter().map(ToString::to_string).collect();
        self
    }

    /// Adds an inet listener on 127.0.0.1 with further lines of settings.
    pub fn inet(self, port: u16, lines: &str) -> Setup {
        self.service(&format!(
            "inet_listener {{\naddress = 127.0.0.1\nport = {port}\n{lines}\n}}"
        ))
    }

    /// Adds further settings to the default UNIX listener.
    pub fn unix(self, lines: &str) -> Setup {
        self.service(&format!("unix_listener stats {{\nmode = 0600\n{lines}\n}}"))
    }

    /// The whole configuration for a daemon living in `dir`.
    pub fn config(&self, dir: &TempDir) -> String {
        let mut text = format!("base_dir = {}\nlog_path = stderr\n", dir.at("run"));
        for line in &self.lines {
            text += &format!("{line}\n");
        }
        text += "service stats {\n";
        if is_root() {
            text += "user = root\n";
        }
        for line in &self.service {
            text += &format!("{line}\n");
        }
        text + "}\n"
    }
}

/// A running daemon in a directory of its own.
pub struct Daemon {
    /// Where its configuration, log and `run` are.
    pub dir: TempDir,
    child: Option<Child>,
}

impl Daemon {
    /// Starts one with the default configuration.
    pub fn start(name: &str) -> Daemon {
        Daemon::with(name, &Setup::new())
    }

    /// Starts one and waits until it answers.
    #[track_caller]
    pub fn with(name: &str, setup: &Setup) -> Daemon {
        Daemon::in_dir(TempDir::new(name), setup)
    }

    /// As [`Daemon::with`], in a directory that exists already.
    #[track_caller]
    pub fn in_dir(dir: TempDir, setup: &Setup) -> Daemon {
        let mut daemon = Daemon::spawn(dir, setup, |_| ());
        daemon.wait_ready();
        daemon
    }

    /// Starts one whose command is prepared further, and does not wait.
    pub fn spawn(dir: TempDir, setup: &Setup, prepare: impl FnOnce(&mut Command)) -> Daemon {
        let config = dir.write("dovestatd.conf", &setup.config(&dir));
        let log = File::create(dir.path().join("log")).expect("create the log");
        let mut words = setup.wrapper.iter().map(String::as_str).chain([program()]);
        let mut command = Command::new(words.next().expect("a program"));
        command
            .args(words)
            .args(["-F", "-c", &config])
            .args(&setup.options)
            .envs(setup.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("dup the log"))
            .stderr(log);
        prepare(&mut command);
        Daemon {
            dir,
            child: Some(command.spawn().expect("start dovestatd")),
        }
    }

    /// Waits until it answers.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        let socket = self.socket();
        wait_until("dovestatd answering on its socket", || {
            if let Some(status) = self.exited() {
                panic!("dovestatd ended at its start: {status}\n{}", self.log());
            }
            Client::try_unix(&socket).is_some_and(|mut c| c.try_export("global").is_some())
        });
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running daemon").id()
    }

    /// The default UNIX socket.
    pub fn socket(&self) -> String {
        self.dir.at("run/stats")
    }

    /// The default FIFO.
    pub fn fifo(&self) -> String {
        self.dir.at("run/stats-mail")
    }

    /// A client of the UNIX socket.
    pub fn client(&self) -> Client {
        Client::unix(&self.socket())
    }

    /// A writer of `stats-mail`.
    pub fn writer(&self) -> Writer {
        Writer::open(&self.fifo())
    }

    /// Writes the records (LF is added) and waits until the daemon took them:
    /// the pipe is empty and a request sent afterwards was answered.
    pub fn feed<R: AsRef<[u8]>>(&self, records: &[R]) {
        let mut writer = self.writer();
        for record in records {
            writer.send_waiting(record.as_ref());
        }
        self.settle(&writer);
    }

    /// Waits until everything in the FIFO was taken.
    pub fn settle(&self, writer: &Writer) {
        wait_until("the FIFO being read empty", || writer.unread() == 0);
        let mut client = self.client();
        for _ in 0..3 {
            client.export("global");
        }
    }

    /// Standard output and error so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.at("log")).unwrap_or_default()).into_owned()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        send_signal(self.pid(), signal);
    }

    /// The exit status if it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child
            .as_mut()
            .and_then(|c| c.try_wait().expect("wait for dovestatd"))
    }

    /// Ends it by SIGTERM; it must exit with 0. Gives its directory back.
    #[track_caller]
    pub fn stop(mut self) -> TempDir {
        self.signal(libc::SIGTERM);
        self.wait_stopped();
        std::mem::replace(&mut self.dir, TempDir::new("gone"))
    }

    /// Waits for its end, which must be with exit code 0.
    #[track_caller]
    pub fn wait_stopped(&mut self) {
        let mut status = None;
        wait_until("dovestatd ending after SIGTERM", || {
            status = self.exited();
            status.is_some()
        });
        let status = status.expect("its status");
        let log = self.log();
        assert_eq!(
            status.code(),
            Some(0),
            "{status}, signal {:?}; log:\n{log}",
            status.signal()
        );
        self.child = None;
    }

    /// Its resident memory, in bytes.
    pub fn rss_bytes(&self) -> u64 {
        rss_bytes(self.pid())
    }

    /// The processor time it used so far.
    pub fn cpu(&self) -> Duration {
        cpu(self.pid())
    }

    /// Asserts that it still runs and answers.
    #[track_caller]
    pub fn assert_alive(&mut self) {
        if let Some(status) = self.exited() {
            panic!("dovestatd ended: {status}\n{}", self.log());
        }
        let table = self.client().export("global");
        assert_eq!(table.rows.len(), 1, "global has its one row");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log of dovestatd:\n{}---", self.log());
        }
    }
}

/// The daemon's program.
pub fn program() -> &'static str {
    env!("CARGO_BIN_EXE_dovestatd")
}

/// Runs the daemon's program to its end with `args`; for what ends by itself.
/// One that does not end within [`DEADLINE`] is killed and fails the test.
#[track_caller]
pub fn run(args: &[&str]) -> Output {
    run_with(args, |_| ())
}

/// As [`run`], with the command prepared further by `prepare`.
#[track_caller]
pub fn run_with(args: &[&str], prepare: impl FnOnce(&mut Command)) -> Output {
    let mut command = Command::new(program());
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    prepare(&mut command);
    let mut child = command.spawn().expect("start dovestatd");
    let ended = holds_within(DEADLINE, || child.try_wait().expect("wait").is_some());
    if !ended {
        let _ = child.kill();
    }
    let output = child.wait_with_output().expect("its output");
    assert!(
        ended,
        "dovestatd {args:?} did not end; stderr:\n{}",
        text(&output.stderr)
    );
    output
}

/// Bytes of a program's output as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Sends `signal` to the process.
pub fn send_signal(pid: u32, signal: i32) {
    let pid = i32::try_from(pid).expect("a process id");
    // SAFETY: kill takes two integers and touches no memory of ours.
    let rc = unsafe { libc::kill(pid, signal) };
    assert_eq!(
        rc,
        0,
        "kill {pid} {signal}: {}",
        std::io::Error::last_os_error()
    );
}

/// Has a program started with the signals of job control and keyboards as they
/// are for a user, whatever the tests were started by: a shell's background
/// ignores some.
pub fn with_usual_signals(command: &mut Command) -> &mut Command {
    let reset = || {
        for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP, libc::SIGTSTP] {
            // SAFETY: no pointers.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        Ok(())
    };
    // SAFETY: the closure makes calls that may be made between fork and exec.
    unsafe { command.pre_exec(reset) }
}

/// The number behind `name` in a file of a process.
fn proc_number(pid: u32, file: &str, name: &str) -> u64 {
    let path = format!("/proc/{pid}/{file}");
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    let number = number.and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("no {name} in {path}"))
}

/// Resident memory of a process, in bytes.
pub fn rss_bytes(pid: u32) -> u64 {
    proc_number(pid, "status", "VmRSS:") * 1024
}

/// Resident memory of a process that is no file's, in bytes: without the pages of its
/// program, which an idle daemon gives back and one at work has again.
pub fn anonymous_bytes(pid: u32) -> u64 {
    proc_number(pid, "status", "RssAnon:") * 1024
}

/// Memory that no other process has in common with this one, in bytes.
pub fn private_bytes(pid: u32) -> u64 {
    let of = |name| proc_number(pid, "smaps_rollup", name) * 1024;
    of("Private_Clean:") + of("Private_Dirty:")
}

/// How often a process has slept so far.
pub fn wakeups(pid: u32) -> u64 {
    proc_number(pid, "status", "voluntary_ctxt_switches:")
}

/// Processor time of a process, user and system, in the kernel's ticks of 10 ms.
pub fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("/proc/PID/stat");
    let rest = &stat[stat.rfind(')').expect("a command name") + 2..];
    let fields: Vec<&str> = rest.split(' ').collect();
    let ticks = |n: usize| fields[n].parse::<u64>().expect("ticks");
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// How long a process was ready to run and had no processor, so far: the time that the
/// machine is late by, whatever the process does. `self` is this process; its threads
/// count apart. Nothing where the kernel does not count it.
pub fn waited_for_cpu(pid: impl std::fmt::Display) -> Duration {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    let nanos = text.split_whitespace().nth(1);
    Duration::from_nanos(nanos.and_then(|text| text.parse().ok()).unwrap_or_default())
}

/// Whether a process sleeps, rather than being ready to run.
pub fn sleeps(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("/proc/PID/stat");
    stat[stat.rfind(')').expect("a command name") + 2..].starts_with('S')
}

/// The daemon that was started with a configuration.
pub fn running(config: &str) -> Option<u32> {
    let pids = fs::read_dir("/proc").expect("/proc").flatten();
    pids.filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok())
        .find(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|&b| b == 0)
                .any(|word| word == config.as_bytes())
        })
}

/// Says that a test was not run, in one plain line; libtest captures what is
/// printed by macros, not this.
pub fn skipped(test: &str, why: &str) {
    let line = format!("skipped: {test}: {why}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Says that a test was not run because a peer is not there, or not as it should
/// be; panics when the environment has DOVESTAT_PEERS=required.
#[track_caller]
pub fn unavailable(test: &str, why: &str) {
    let required = std::env::var("DOVESTAT_PEERS").is_ok_and(|v| v == "required");
    assert!(!required, "{test}: {why}, but DOVESTAT_PEERS=required");
    skipped(test, why);
}

/// The same of a program that is not installed.
#[track_caller]
pub fn lacking(test: &str, program: &str) {
    unavailable(test, &format!("{program} is not installed"));
}

/// Whether a command, of a program that a test needs, works here; says so if not.
#[track_caller]
pub fn works(test: &str, command: &[&str]) -> bool {
    let probe = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .output();
    match probe {
        Ok(output) if output.status.success() => return true,
        Ok(output) => {
            let told = text(&output.stderr);
            unavailable(test, &format!("{command:?} fails: {}", told.trim()));
        }
        Err(_) => lacking(test, command[0]),
    }
    false
}

/// The loopback address with a port.
pub fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
