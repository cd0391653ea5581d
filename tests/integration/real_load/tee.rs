//! The FIFO that Dovecot's processes write to, read whole and at once, so that they never
//! find it full and drop a record; and the services that get the records from there.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::harness::{anonymous_bytes, Daemon, Setup, TempDir};
use crate::link::Writer;
use crate::requests::ALL_LEVELS;

/// Bytes of the pipe, so that the reader may be late.
const PIPE_BYTES: libc::c_int = 1 << 20;

/// A line that no mail process writes: the reader ends there.
const END: &[u8] = b"END";

/// The FIFO that Dovecot writes to. Its reader is a thread.
pub struct Tap {
    dir: TempDir,
    lines: Receiver<Vec<u8>>,
    reader: Option<JoinHandle<()>>,
}

impl Tap {
    /// Makes the FIFO, with mode 0666, and starts its reader.
    pub fn make() -> Tap {
        let dir = TempDir::new("load-tap");
        let path = dir.at("fifo");
        let made = Command::new("mkfifo").args(["-m", "0666", &path]).status();
        assert!(made.expect("mkfifo").success());
        // Open for writing as well, so that it never comes to its end.
        let mut fifo = OpenOptions::new();
        let fifo = fifo.read(true).write(true).open(path);
        let fifo = fifo.expect("open the FIFO");
        // SAFETY: no pointers.
        let size = unsafe { libc::fcntl(fifo.as_raw_fd(), libc::F_SETPIPE_SZ, PIPE_BYTES) };
        assert!(size >= PIPE_BYTES, "F_SETPIPE_SZ gives {size}");
        let (sender, lines) = channel();
        let reader = thread::spawn(move || read_lines(fifo, &sender));
        Tap {
            dir,
            lines,
            reader: Some(reader),
        }
    }

    pub fn path(&self) -> String {
        self.dir.at("fifo")
    }

    /// The next lines: what is there, or what comes until `until`; none if nothing does.
    pub fn lines(&self, until: Instant) -> Vec<Vec<u8>> {
        let left = until.saturating_duration_since(Instant::now());
        let first = match self.lines.recv_timeout(left) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => return Vec::new(),
            Err(RecvTimeoutError::Disconnected) => panic!("the FIFO's reader has ended"),
        };
        let further = self.lines.try_iter().take(1000);
        std::iter::once(first).chain(further).collect()
    }

    /// All lines that are left; nothing writes any more.
    pub fn rest(mut self) -> Vec<Vec<u8>> {
        self.end();
        self.lines.iter().collect()
    }

    fn end(&mut self) {
        if let Some(reader) = self.reader.take() {
            Writer::open(&self.path()).send_waiting(END);
            reader.join().expect("the FIFO's reader");
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.end();
    }
}

fn read_lines(mut fifo: File, sender: &Sender<Vec<u8>>) {
    let mut bytes = vec![0; 1 << 16];
    let mut line = Vec::new();
    loop {
        let n = fifo.read(&mut bytes).expect("read the FIFO");
        for &byte in &bytes[..n] {
            if byte != b'\n' {
                line.push(byte);
            } else if line == END || sender.send(std::mem::take(&mut line)).is_err() {
                return;
            }
        }
    }
}

/// A daemon of ours under a memory limit.
pub struct Ours {
    /// The limit as it is set.
    pub limit: &'static str,
    /// The limit in bytes.
    pub limit_bytes: u64,
    /// The most resident memory of its own, beyond what it has when idle, in bytes.
    pub most_bytes: u64,
    idle_bytes: u64,
    setup: Setup,
    /// None only while it restarts.
    running: Option<(Daemon, Writer)>,
}

impl Ours {
    pub fn start(limit: &'static str, limit_bytes: u64) -> Ours {
        let mut setup = Setup::new().option(&format!("stats_memory_limit={limit}"));
        // However long one is idle in the test, commands are freed before it.
        for level in ["user", "domain", "ip"] {
            setup = setup.option(&format!("stats_{level}_min_time=1 week"));
        }
        let daemon = Daemon::with(&format!("load-{limit_bytes}"), &setup);
        let (idle_bytes, writer) = (anonymous_bytes(daemon.pid()), daemon.writer());
        Ours {
            limit,
            limit_bytes,
            most_bytes: 0,
            idle_bytes,
            setup,
            running: Some((daemon, writer)),
        }
    }

    fn daemon(&self) -> &Daemon {
        &self.running.as_ref().expect("a running daemon").0
    }

    /// Writes whole lines to its FIFO, waiting for room.
    pub fn write(&mut self, lines: &[u8]) {
        let (daemon, writer) = self.running.as_mut().expect("a running daemon");
        assert!(daemon.exited().is_none(), "{} ended", self.limit);
        writer.send_raw(lines);
    }

    /// Waits until it has taken all that was written; then measures it.
    pub fn settle(&mut self) {
        let (daemon, writer) = self.running.as_mut().expect("a running daemon");
        daemon.settle(writer);
        let bytes = anonymous_bytes(daemon.pid()).saturating_sub(self.idle_bytes);
        self.most_bytes = self.most_bytes.max(bytes);
    }

    pub fn socket(&self) -> String {
        self.daemon().socket()
    }

    /// Its log since it was started.
    pub fn log(&self) -> String {
        self.daemon().log()
    }

    /// Stops it and starts it again; its state file brings back all that it listed.
    pub fn restart(&mut self) {
        let (daemon, _) = self.running.take().expect("a running daemon");
        let before = ALL_LEVELS.map(|level| daemon.client().export_raw(level));
        let daemon = Daemon::in_dir(daemon.stop(), &self.setup);
        for (level, before) in ALL_LEVELS.iter().zip(&before) {
            let after = daemon.client().export_raw(level);
            let lengths = (before.len(), after.len());
            assert!(
                *before == after,
                "{}, {level}: {lengths:?} bytes before and after a restart",
                self.limit
            );
        }
        let writer = daemon.writer();
        self.running = Some((daemon, writer));
    }

    pub fn stop(mut self) {
        let (daemon, _) = self.running.take().expect("a running daemon");
        daemon.stop();
    }
}
