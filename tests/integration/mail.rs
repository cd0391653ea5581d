//! The least of an IMAP, a POP3 and an LMTP client: lines over a socket, each
//! answer awaited and checked.

use std::io::{BufRead as _, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use crate::harness::{local, DEADLINE};

/// A connection that speaks in lines.
pub struct Lines {
    reader: BufReader<Box<dyn Read>>,
    writer: Box<dyn Write>,
}

impl Lines {
    fn tcp(port: u16) -> Lines {
        let stream = TcpStream::connect(local(port)).expect("connect to a mail server");
        stream.set_read_timeout(Some(DEADLINE)).expect("timeout");
        let writer = stream.try_clone().expect("dup");
        Lines {
            reader: BufReader::new(Box::new(stream)),
            writer: Box::new(writer),
        }
    }

    fn unix(path: &str) -> Lines {
        let stream = UnixStream::connect(path).unwrap_or_else(|e| panic!("connect {path}: {e}"));
        stream.set_read_timeout(Some(DEADLINE)).expect("timeout");
        let writer = stream.try_clone().expect("dup");
        Lines {
            reader: BufReader::new(Box::new(stream)),
            writer: Box::new(writer),
        }
    }

    /// The next line, without its end; none when the server has closed.
    fn try_line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        match self.reader.read_until(b'\n', &mut line) {
            Err(e) if e.kind() == ErrorKind::ConnectionReset => return None,
            read => read.expect("a line of the mail server"),
        };
        let line = line.strip_suffix(b"\n")?;
        Some(String::from_utf8_lossy(line).trim_end().to_string())
    }

    fn line(&mut self) -> String {
        self.try_line().expect("the mail server closed")
    }

    fn say(&mut self, text: &str) {
        match self.writer.write_all(text.as_bytes()) {
            // The next line shows it.
            Err(e) if [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset].contains(&e.kind()) => {}
            written => written.expect("write to the mail server"),
        }
    }
}

/// An IMAP session.
pub struct Imap {
    lines: Lines,
    tag: u32,
}

impl Imap {
    /// Connects and reads the greeting.
    pub fn connect(port: u16) -> Imap {
        let mut lines = Lines::tcp(port);
        let greeting = lines.line();
        assert!(greeting.starts_with("* OK"), "IMAP greeting: {greeting}");
        Imap { lines, tag: 0 }
    }

    /// Connects and logs in.
    pub fn login(port: u16, user: &str) -> Imap {
        let mut imap = Imap::connect(port);
        imap.authenticate(user);
        imap
    }

    /// As [`Imap::connect`], for a client at another address, as a proxy that the server
    /// trusts does.
    pub fn connect_for(port: u16, ip: &str) -> Imap {
        let mut imap = Imap::connect(port);
        imap.ok(&format!("ID (\"x-originating-ip\" \"{ip}\")"));
        imap
    }

    /// Logs in with the right password.
    pub fn authenticate(&mut self, user: &str) {
        let answer = self.command(&format!("LOGIN \"{user}\" pass"));
        assert!(answer.starts_with("OK"), "LOGIN {user}: {answer}");
    }

    /// Sends a command without awaiting its answer; gives its tag.
    pub fn begin(&mut self, command: &str) -> String {
        self.tag += 1;
        let tag = format!("t{}", self.tag);
        self.lines.say(&format!("{tag} {command}\r\n"));
        tag
    }

    /// Reads up to the tagged answer, which it gives without the tag.
    pub fn finish(&mut self, tag: &str) -> String {
        self.try_finish(tag).expect("the mail server closed")
    }

    /// As [`Imap::finish`]; none when the server ends the session instead.
    pub fn try_finish(&mut self, tag: &str) -> Option<String> {
        loop {
            let line = self.lines.try_line()?;
            if let Some(answer) = line.strip_prefix(tag) {
                return Some(answer.trim_start().to_string());
            }
        }
    }

    /// Sends a line that is no command.
    pub fn say(&mut self, line: &str) {
        self.lines.say(&format!("{line}\r\n"));
    }

    /// Sends a command and gives its tagged answer.
    pub fn command(&mut self, command: &str) -> String {
        let tag = self.begin(command);
        self.finish(&tag)
    }

    /// A command that must succeed.
    #[track_caller]
    pub fn ok(&mut self, command: &str) {
        let answer = self.command(command);
        assert!(answer.starts_with("OK"), "{command}: {answer}");
    }

    /// APPENDs a message as a literal.
    #[track_caller]
    pub fn append(&mut self, message: &str) {
        let tag = self.begin(&format!("APPEND INBOX {{{}}}", message.len()));
        self.continued();
        self.lines.say(&format!("{message}\r\n"));
        let answer = self.finish(&tag);
        assert!(answer.starts_with("OK"), "APPEND: {answer}");
    }

    /// Begins IDLE and awaits the continuation.
    pub fn idle(&mut self) -> String {
        let tag = self.begin("IDLE");
        self.continued();
        tag
    }

    /// Ends IDLE.
    pub fn done(&mut self, tag: &str) {
        self.lines.say("DONE\r\n");
        self.finish(tag);
    }

    fn continued(&mut self) {
        loop {
            let line = self.lines.line();
            if line.starts_with('+') {
                return;
            }
            assert!(line.starts_with('*'), "expected a continuation, got {line}");
        }
    }

    /// Logs out.
    pub fn logout(mut self) {
        self.ok("LOGOUT");
    }
}

/// A POP3 session.
pub struct Pop3 {
    lines: Lines,
}

impl Pop3 {
    /// Connects and logs in.
    pub fn login(port: u16, user: &str) -> Pop3 {
        let mut pop3 = Pop3::connect(port);
        pop3.authenticate(user);
        pop3
    }

    /// As [`Pop3::login`], for a client at another address, as a proxy that the server
    /// trusts does.
    pub fn login_for(port: u16, user: &str, ip: &str) -> Pop3 {
        let mut pop3 = Pop3::connect(port);
        pop3.lines.say(&format!("XCLIENT ADDR={ip}\r\n"));
        pop3.expect_ok("XCLIENT");
        pop3.authenticate(user);
        pop3
    }

    fn connect(port: u16) -> Pop3 {
        let mut pop3 = Pop3 {
            lines: Lines::tcp(port),
        };
        pop3.expect_ok("greeting");
        pop3
    }

    fn authenticate(&mut self, user: &str) {
        self.ok(&format!("USER {user}"));
        self.ok("PASS pass");
    }

    #[track_caller]
    fn expect_ok(&mut self, what: &str) {
        let line = self.lines.line();
        assert!(line.starts_with("+OK"), "POP3 {what}: {line}");
    }

    /// A command that must succeed with one line.
    #[track_caller]
    pub fn ok(&mut self, command: &str) {
        self.lines.say(&format!("{command}\r\n"));
        self.expect_ok(command);
    }

    /// RETR of a message, up to its lone dot.
    #[track_caller]
    pub fn retr(&mut self, number: u32) {
        self.ok(&format!("RETR {number}"));
        while self.lines.line() != "." {}
    }
}

/// Delivers a message over LMTP to several recipients; `hold` is called while
/// the transaction has its recipients and no message yet.
pub fn deliver(socket: &str, recipients: &[&str], message: &str, hold: impl FnOnce()) {
    let mut lines = Lines::unix(socket);
    let mut expect = |say: &str, code: &str| {
        if !say.is_empty() {
            lines.say(&format!("{say}\r\n"));
        }
        loop {
            let line = lines.line();
            assert!(line.starts_with(code), "LMTP {say:?}: {line}");
            if line.as_bytes().get(3) != Some(&b'-') {
                break;
            }
        }
    };
    expect("", "220");
    expect("LHLO localhost", "250");
    expect("MAIL FROM:<sender@example.org>", "250");
    for recipient in recipients {
        expect(&format!("RCPT TO:<{recipient}>"), "250");
    }
    hold();
    expect("DATA", "354");
    expect(&format!("{message}\r\n."), "250");
    for _ in &recipients[1..] {
        expect("", "250");
    }
    expect("QUIT", "221");
}
