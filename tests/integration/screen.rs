//! A terminal for the program under test: a real pseudo-terminal, and a small
//! emulator of what is written to it.
//!
//! The emulator knows the few sequences that the client may send and panics at
//! any other, so that a control character that came through from a name fails
//! the test that sees it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::time::Instant;

use crate::harness::{wait_until, DEADLINE};

/// What the terminal shows.
#[derive(Debug, Default)]
struct Screen {
    rows: usize,
    columns: usize,
    /// The most columns it has had: what was drawn before a change of its size may come
    /// behind it.
    most_columns: usize,
    /// A wide character's second cell is NUL.
    cells: Vec<Vec<char>>,
    cursor: (usize, usize),
    /// The other screen, which programs that fill it use.
    is_alternate: bool,
    is_cursor_hidden: bool,
    /// Whether the mouse is reported.
    has_mouse: bool,
    /// Whether any colour was set.
    has_colors: bool,
    /// Bytes of something not whole yet.
    pending: Vec<u8>,
}

impl Screen {
    fn resize(&mut self, rows: usize, columns: usize) {
        (self.rows, self.columns) = (rows, columns);
        self.most_columns = self.most_columns.max(columns);
        self.cells = vec![vec![' '; columns]; rows];
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        while let Some(length) = self.step() {
            self.pending.drain(..length);
        }
    }

    /// Does what the first of the pending bytes say; None if they are not whole.
    fn step(&mut self) -> Option<usize> {
        let bytes = self.pending.clone();
        match *bytes.first()? {
            0x1b => {
                assert!(
                    matches!(bytes.get(1), None | Some(b'[')),
                    "ESC and {:?}",
                    bytes.get(1)
                );
                let end = bytes.iter().position(|b| b.is_ascii_alphabetic())?;
                let body = std::str::from_utf8(&bytes[2..end]).expect("ASCII in a sequence");
                self.sequence(body, bytes[end]);
                Some(end + 1)
            }
            b'\r' => {
                self.cursor.1 = 0;
                Some(1)
            }
            b'\n' => {
                self.cursor.0 = (self.cursor.0 + 1).min(self.rows - 1);
                Some(1)
            }
            // What a terminal echoes of control characters.
            byte if byte < b' ' && !self.is_alternate => Some(1),
            byte => {
                let length = match byte {
                    0..=0x7f => 1,
                    0x80..=0xdf => 2,
                    0xe0..=0xef => 3,
                    _ => 4,
                };
                let text = std::str::from_utf8(bytes.get(..length)?).expect("UTF-8");
                let c = text.chars().next().expect("a character");
                assert!(!c.is_control(), "control character {c:?} on the screen");
                self.put(c);
                Some(length)
            }
        }
    }

    fn put(&mut self, c: char) {
        let (row, column) = self.cursor;
        let is_wide = ('\u{2e80}'..='\u{ffef}').contains(&c);
        if row < self.rows && column < self.columns {
            self.cells[row][column] = c;
            if is_wide && column + 1 < self.columns {
                self.cells[row][column + 1] = '\0';
            }
        }
        self.cursor.1 += if is_wide { 2 } else { 1 };
    }

    fn sequence(&mut self, body: &str, end: u8) {
        match (body, end) {
            ("?1049", b'h') => self.is_alternate = true,
            ("?1049", b'l') => {
                self.is_alternate = false;
                self.resize(self.rows, self.columns);
            }
            ("?25", b'h') => self.is_cursor_hidden = false,
            ("?25", b'l') => self.is_cursor_hidden = true,
            ("?7" | "?1006", b'h' | b'l') => {}
            ("?1000", b'h') => self.has_mouse = true,
            ("?1000", b'l') => self.has_mouse = false,
            ("2", b'J') => self.resize(self.rows, self.columns),
            (place, b'H') => {
                let (row, column) = place.split_once(';').expect("row and column");
                let number = |text: &str| text.parse::<usize>().expect("a number") - 1;
                self.cursor = (number(row), number(column));
                assert!(self.cursor.1 < self.most_columns, "{place}");
            }
            (look, b'm') => {
                let parts = look.split(';').map(|n| n.parse::<u8>().expect("SGR"));
                self.has_colors |= parts.into_iter().any(|n| n >= 30);
            }
            other => panic!("unknown sequence {other:?}"),
        }
    }

    fn text(&self) -> String {
        let line = |row: &Vec<char>| row.iter().filter(|c| **c != '\0').collect::<String>();
        let lines: Vec<String> = self.cells.iter().map(line).collect();
        lines.join("\n")
    }
}

/// A program in a terminal.
pub struct Terminal {
    near: File,
    far: File,
    child: Child,
    screen: Screen,
    before: libc::termios,
}

impl Terminal {
    /// Starts `command` as the leader of a session in a new terminal.
    pub fn start(command: &mut Command, rows: usize, columns: usize) -> Terminal {
        let (mut near, mut far) = (-1, -1);
        let size = winsize(rows, columns);
        let null = std::ptr::null_mut();
        // SAFETY: two integers and a winsize of ours; the others may be null.
        let rc = unsafe { libc::openpty(&mut near, &mut far, null, null.cast(), &size) };
        assert_eq!(rc, 0, "openpty: {}", std::io::Error::last_os_error());
        // SAFETY: a new descriptor, owned by nobody else.
        let near = unsafe { File::from_raw_fd(near) };
        // SAFETY: as above.
        let far = unsafe { File::from_raw_fd(far) };
        // SAFETY: fcntl with integers only; other children must not keep it.
        unsafe { libc::fcntl(near.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
        // SAFETY: as above.
        unsafe { libc::fcntl(far.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
        // SAFETY: fcntl with integers only.
        unsafe { libc::fcntl(near.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
        let before = settings(&far);
        let dup = || far.try_clone().expect("dup the terminal");
        command.stdin(dup()).stdout(dup()).stderr(dup());
        let lead = || {
            // SAFETY: no arguments; allowed between fork and exec.
            unsafe { libc::setsid() };
            // SAFETY: integers only; allowed between fork and exec.
            unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) };
            Ok(())
        };
        // SAFETY: the closure makes two system calls and touches no memory.
        unsafe { command.pre_exec(lead) };
        let child = command.spawn().expect("start the program");
        let mut screen = Screen::default();
        screen.resize(rows, columns);
        Terminal {
            near,
            far,
            child,
            screen,
            before,
        }
    }

    /// The program's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Types.
    pub fn keys(&mut self, text: &str) {
        self.near.write_all(text.as_bytes()).expect("type");
    }

    /// Clicks on the first place where a text is seen.
    #[track_caller]
    pub fn click(&mut self, text: &str) {
        assert!(self.screen.has_mouse, "the mouse is reported");
        let screen = self.text();
        let find = |line: &str| Some(line[..line.find(text)?].chars().count());
        let found = screen
            .lines()
            .enumerate()
            .find_map(|(row, line)| Some((row, find(line)?)));
        let (row, column) = found.unwrap_or_else(|| panic!("{text:?} on the screen:\n{screen}"));
        self.keys(&format!("\x1b[<0;{};{}M\x1b[<0;1;1m", column + 1, row + 1));
    }

    /// Gives the terminal another size.
    pub fn resize(&mut self, rows: usize, columns: usize) {
        self.pump();
        self.screen.resize(rows, columns);
        let size = winsize(rows, columns);
        // SAFETY: TIOCSWINSZ reads a winsize, ours during the call.
        let rc = unsafe { libc::ioctl(self.near.as_raw_fd(), libc::TIOCSWINSZ, &size) };
        assert_eq!(rc, 0, "TIOCSWINSZ");
    }

    /// Takes what was written so far.
    fn pump(&mut self) {
        let mut buffer = [0; 65536];
        while let Ok(count @ 1..) = self.near.read(&mut buffer) {
            self.screen.feed(&buffer[..count]);
        }
    }

    /// What is seen.
    pub fn text(&mut self) -> String {
        self.pump();
        self.screen.text()
    }

    /// One row of what is seen.
    pub fn row(&mut self, row: usize) -> String {
        self.text().lines().nth(row).unwrap_or_default().to_owned()
    }

    /// Whether the program fills the screen.
    pub fn is_full(&mut self) -> bool {
        self.pump();
        self.screen.is_alternate
    }

    /// Whether any colour was seen.
    pub fn has_colors(&self) -> bool {
        self.screen.has_colors
    }

    /// Waits until what is seen fits; panics with the screen otherwise.
    #[track_caller]
    pub fn wait(&mut self, what: &str, fits: impl Fn(&str) -> bool) {
        let end = Instant::now() + DEADLINE;
        loop {
            let text = self.text();
            if fits(&text) {
                return;
            }
            let exited = self.child.try_wait().expect("wait");
            assert!(
                Instant::now() < end && exited.is_none(),
                "waited for: {what}; exit {exited:?}; the screen:\n{text}"
            );
            // Until there is output: poll(2) with a limit.
            let fd = self.near.as_raw_fd();
            let mut fd = libc::pollfd {
                fd,
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one pollfd of ours during the call.
            unsafe { libc::poll(&mut fd, 1, 50) };
        }
    }

    /// Waits until a text is seen.
    #[track_caller]
    pub fn wait_text(&mut self, text: &str) {
        self.wait(text, |screen| screen.contains(text));
    }

    /// Waits for the program's end.
    #[track_caller]
    pub fn wait_end(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the program's end", || {
            self.pump();
            status = self.child.try_wait().expect("wait");
            status.is_some()
        });
        self.pump();
        status.expect("a status")
    }

    /// Asserts that the terminal is as it was before the program.
    #[track_caller]
    pub fn assert_restored(&mut self) {
        self.pump();
        let now = settings(&self.far);
        let flags = |t: &libc::termios| (t.c_iflag, t.c_oflag, t.c_cflag, t.c_lflag);
        assert_eq!(flags(&now), flags(&self.before), "flags");
        assert_eq!(now.c_cc, self.before.c_cc, "control characters");
        assert!(!self.screen.is_alternate, "the other screen is left");
        assert!(!self.screen.is_cursor_hidden, "the cursor is shown");
        assert!(!self.screen.has_mouse, "the mouse is the terminal's");
    }

    /// Whether keys come unprocessed.
    pub fn is_raw(&self) -> bool {
        settings(&self.far).c_lflag & libc::ICANON == 0
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A size as the system wants it.
fn winsize(rows: usize, columns: usize) -> libc::winsize {
    libc::winsize {
        ws_row: rows as libc::c_ushort,
        ws_col: columns as libc::c_ushort,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

/// A terminal's settings.
fn settings(terminal: &File) -> libc::termios {
    let mut settings = std::mem::MaybeUninit::zeroed();
    // SAFETY: memory for a termios of ours during the call.
    let rc = unsafe { libc::tcgetattr(terminal.as_raw_fd(), settings.as_mut_ptr()) };
    assert_eq!(rc, 0, "tcgetattr");
    // SAFETY: filled in by the call.
    unsafe { settings.assume_init() }
}
