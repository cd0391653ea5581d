//! `dovestat run`: what it passes on in either direction, who it says that it is,
//! and daemons that are not as they should be.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, Output, Stdio};

use crate::client::dovestat;
use crate::harness::{
    is_root, send_signal, skipped, text, wait_until, with_usual_signals, works, Daemon, Setup,
    TempDir,
};
use crate::link::{Table, Writer};
use crate::screen::Terminal;

/// `dovestat run` that reports to a FIFO, with further options and the program.
pub fn run(fifo: &str, words: &[&str]) -> Command {
    let mut command = dovestat(&[&["run", "--fifo", fifo], words].concat());
    with_usual_signals(&mut command);
    command
}

/// Runs a shell's script to its end.
#[track_caller]
fn script(fifo: &str, script: &str) -> Output {
    let mut command = run(fifo, &["sh", "-c", script]);
    command.output().expect("run dovestat")
}

/// What the daemon has, once it has read what was written.
pub fn export(daemon: &Daemon, what: &str) -> Table {
    daemon.settle(&daemon.writer());
    daemon.client().export(what)
}

/// The state of a process as /proc has it: `R`, `S`, `T`...
pub fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat[stat.rfind(')')? + 2..].chars().next()
}

/// The children of a process.
pub fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    let pids = text.split_whitespace();
    pids.map(|pid| pid.parse().expect("a process id")).collect()
}

/// Waits for the end of a program, which must exit with 0.
#[track_caller]
pub fn end(mut child: Child) {
    drop(child.stdin.take());
    let mut status = None;
    wait_until("dovestat run ending", || {
        status = child.try_wait().expect("wait");
        status.is_some()
    });
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
}

#[test]
fn its_end_is_that_of_the_program() {
    let dir = TempDir::new("run-end");
    let fifo = dir.at("nothing");
    for code in [0, 1, 7, 126, 255] {
        let output = script(&fifo, &format!("echo out; echo err >&2; exit {code}"));
        assert_eq!(output.status.code(), Some(code));
        assert_eq!(
            (text(&output.stdout), text(&output.stderr)),
            ("out\n".into(), "err\n".into())
        );
    }
    for signal in [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGKILL,
        libc::SIGSEGV,
        libc::SIGPIPE,
        libc::SIGTERM,
        libc::SIGUSR1,
        libc::SIGUSR2,
    ] {
        let output = script(&fifo, &format!("ulimit -c 0; kill -{signal} $$"));
        assert_eq!(output.status.signal(), Some(signal), "{output:?}");
    }
    let plain = dir.write("plain", "echo plain $0 $1\n");
    for (words, code, stdout) in [
        (&["/nonexistent/program"][..], 127, String::new()),
        (&["dovestat-no-such-program"], 127, String::new()),
        (&[&plain], 126, String::new()),
        (&["/"], 126, String::new()),
    ] {
        // What is missing cannot be told from what may not be looked for.
        let mut command = run(&fifo, words);
        let output = command.env("PATH", "/usr/bin:/bin").output();
        let output = output.expect("run dovestat");
        assert_eq!(
            (output.status.code(), text(&output.stdout)),
            (Some(code), stdout)
        );
        assert!(text(&output.stderr).starts_with(&format!("dovestat: {}: ", words[0])));
    }
    // Executable, but without #!: a shell's, as execvp(3) has it.
    Command::new("chmod")
        .args(["755", &plain])
        .status()
        .expect("chmod");
    let output = run(&fifo, &[&plain, "x"]).output().expect("run dovestat");
    assert_eq!(text(&output.stdout), format!("plain {plain} x\n"));
    let mut command = run(&fifo, &["cat"]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("start");
    let mut stdin = child.stdin.take().expect("its input");
    stdin.write_all(b"through\n").expect("write");
    drop(stdin);
    let output = child.wait_with_output().expect("its output");
    assert_eq!(text(&output.stdout), "through\n");
}

#[test]
fn signals_reach_the_program_alone_and_once() {
    let dir = TempDir::new("run-signals");
    let names = [
        "TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "WINCH", "CONT",
    ];
    let traps: String = names
        .map(|name| format!("trap 'echo {name}' {name}; "))
        .concat();
    let work = format!("{traps} echo ready; while :; do sleep 0.02; done");
    let log = dir.at("log");
    let mut command = run(&dir.at("nothing"), &["sh", "-c", &work]);
    command.stdout(File::create(&log).expect("create"));
    // SIGTSTP stops nobody in a group that is orphaned, as ours is where whoever
    // started the tests has ended.
    command.process_group(0);
    let mut child = command.spawn().expect("start");
    let seen = || fs::read_to_string(&log).expect("the log");
    wait_until("the program", || seen() == "ready\n");
    let mut expected = "ready\n".to_owned();
    for (name, signal) in names.into_iter().zip([
        libc::SIGTERM,
        libc::SIGINT,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGWINCH,
        libc::SIGCONT,
    ]) {
        send_signal(child.id(), signal);
        expected += &format!("{name}\n");
        wait_until(name, || seen() == expected);
    }
    let program = children(child.id())[0];
    send_signal(child.id(), libc::SIGTSTP);
    wait_until("both stopping", || {
        (state(program), state(child.id())) == (Some('T'), Some('T'))
    });
    send_signal(child.id(), libc::SIGCONT);
    expected += "CONT\n";
    wait_until("both going on", || {
        seen() == expected && state(child.id()) == Some('S')
    });
    // Who stops the program alone does not have to know of us.
    send_signal(program, libc::SIGSTOP);
    wait_until("the program stopping", || state(program) == Some('T'));
    send_signal(program, libc::SIGCONT);
    expected += "CONT\n";
    wait_until("the program going on", || seen() == expected);
    assert_eq!(state(child.id()), Some('S'));
    send_signal(program, libc::SIGKILL);
    assert_eq!(child.wait().expect("its end").signal(), Some(libc::SIGKILL));

    // What is ignored stays so.
    let work = "trap '' HUP; exec \"$0\" run sh -c 'echo ready; read x; echo end'";
    let mut command = Command::new("sh");
    command.args(["-c", work, env!("CARGO_BIN_EXE_dovestat")]);
    command.env("DOVESTAT_FIFO", dir.at("nothing"));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start");
    let mut stdout = child.stdout.take().expect("its output");
    stdout.read_exact(&mut [0; 6]).expect("its line");
    for pid in [child.id(), children(child.id())[0]] {
        send_signal(pid, libc::SIGHUP);
    }
    drop(child.stdin.take());
    assert!(child.wait().expect("its end").success());
}

#[test]
fn blocked_signals_are_the_programs_too() {
    let dir = TempDir::new("run-blocked");
    let mut command = run(
        &dir.at("nothing"),
        &["-i", "300", "grep", "SigBlk", "/proc/self/status"],
    );
    let block = || {
        let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: memory for a set of ours during the call.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: as above, filled in by the call before.
        unsafe { libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD) };
        // SAFETY: a set of ours during the call; the old one is not asked for.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut()) };
        Ok(())
    };
    // SAFETY: the closure makes three calls that may be made between fork and exec.
    unsafe { command.pre_exec(block) };
    let child = command.spawn().expect("start");
    let output = child.wait_with_output().expect("its end, which it noticed");
    let mask = format!("{:016x}", 1u64 << (libc::SIGCHLD - 1));
    assert!(text(&output.stdout).contains(&mask), "{output:?}");
}

#[test]
fn a_shell_stops_and_continues_it() {
    let dir = TempDir::new("run-job");
    let script = format!(
        "{} run --fifo {} cat; echo code=$?; fg >/dev/null; echo lived on",
        env!("CARGO_BIN_EXE_dovestat"),
        dir.at("nothing"),
    );
    let mut shell = Command::new("sh");
    shell.args(["-m", "-c", &script]);
    let mut shell = Terminal::start(with_usual_signals(&mut shell), 24, 80);
    // Here somebody sits who wants to know.
    shell.wait_text("dovestat: not reported: ");
    shell.keys("one\n");
    shell.wait("cat's line behind the typed one", |s| {
        s.matches("one").count() == 2
    });
    shell.keys("\x1a");
    shell.wait_text(&format!("code={}", 128 + libc::SIGTSTP));
    shell.keys("two\n");
    shell.wait("cat going on", |s| s.matches("two").count() == 2);
    shell.keys("\x03");
    // A shell ends with the job that it sees die of the same key.
    assert_eq!(shell.wait_end().signal(), Some(libc::SIGINT));
    shell.assert_restored();
}

#[test]
fn who_and_where_come_from_options_or_the_environment() {
    let daemon = Daemon::start("run-who");
    let variables = ["USER", "LOGNAME", "TCPREMOTEIP", "IP"];
    let seen = |options: &[&str], env: &[(&str, &str)]| {
        let mut command = dovestat(&[&["run"], options, &["/bin/true"]].concat());
        for variable in variables {
            command.env_remove(variable);
        }
        command
            .env("DOVESTAT_FIFO", daemon.fifo())
            .envs(env.iter().copied());
        assert!(command.status().expect("run").success());
        let table = export(&daemon, "session");
        let row = &table.rows[0];
        row[1..4].join(" ")
    };
    assert_eq!(
        seen(&["-u", "a@x", "-S", "mda", "-r", "::1"], &[("USER", "b")]),
        "a@x ::1 mda"
    );
    assert_eq!(seen(&[], &[("USER", "b"), ("LOGNAME", "c")]), "b  true");
    let env = [
        ("USER", ""),
        ("LOGNAME", "c"),
        ("TCPREMOTEIP", "192.0.2.1"),
        ("IP", "192.0.2.2"),
    ];
    assert_eq!(seen(&[], &env), "c 192.0.2.1 true");
    assert_eq!(seen(&["-r", "192.0.2.3"], &env), "c 192.0.2.3 true");
    assert_eq!(
        seen(&[], &[("USER", "b"), ("IP", "192.0.2.2")]),
        "b 192.0.2.2 true"
    );
    assert_eq!(seen(&[], &[("USER", "b"), ("IP", "localhost")]), "b  true");
    let me = Command::new("id").arg("-un").output().expect("run id");
    assert_eq!(seen(&[], &[]), format!("{}  true", text(&me.stdout).trim()));
}

#[test]
fn a_full_fifo_does_not_hold_the_program_up() {
    let dir = TempDir::new("run-full");
    let fifo = dir.at("fifo");
    Command::new("mkfifo").arg(&fifo).status().expect("mkfifo");
    let reading = File::options()
        .read(true)
        .write(true)
        .open(&fifo)
        .expect("open");
    let mut writer = Writer::open(&fifo);
    while writer.send(&[b'x'; 4095]) {}
    let before = writer.unread();
    // A report is due a tenth of a second, and each time there is no room.
    let mut command = run(
        &fifo,
        &["-i", "0.1", "sh", "-c", "while read x; do echo $x; done"],
    );
    let mut child = command.stdin(Stdio::piped()).spawn().expect("start");
    let mut stdin = child.stdin.take().expect("its input");
    let mut stdout = child.stdout.take().expect("its output");
    for _ in 0..2000 {
        stdin.write_all(b"ping\n").expect("write");
        let mut line = [0; 5];
        stdout.read_exact(&mut line).expect("read");
        assert_eq!(&line, b"ping\n");
    }
    drop(stdin);
    end(child);
    assert_eq!(writer.unread(), before, "nothing was written in part");
    drop(reading);
}

#[test]
fn a_daemon_that_was_away_is_told_everything_again() {
    let daemon = Daemon::start("run-restart");
    let work = "head -c 700000 /dev/zero >/dev/null; read x; exit 0";
    let mut command = run(
        &daemon.fifo(),
        &["-i", "0.1", "-u", "bob@x", "sh", "-c", work],
    );
    let child = command.stdin(Stdio::piped()).spawn().expect("start");
    let figures = |daemon: &Daemon| {
        let table = export(daemon, "session");
        let row = table.find("user", "bob@x")?;
        let bytes = row.num("read_bytes");
        let is_whole = row.get("connected") == "1" && bytes >= 700_000;
        is_whole.then_some((row.get("session").to_owned(), bytes))
    };
    let mut before = None;
    wait_until("its session", || {
        before = figures(&daemon);
        before.is_some()
    });
    let dir = daemon.stop();
    let daemon = Daemon::in_dir(dir, &Setup::new());
    wait_until("the same session again", || figures(&daemon) == before);
    let table = export(&daemon, "user");
    assert_eq!(
        Some(table.row("user", "bob@x").num("read_bytes")),
        before.map(|b| b.1)
    );
    let log = daemon.log();
    assert!(!log.contains("warning"), "{log}");
    // Killed, it leaves its FIFO behind, which the next one takes over.
    send_signal(daemon.pid(), libc::SIGKILL);
    wait_until("nobody reading", || {
        Writer::try_open(&daemon.fifo()).is_err()
    });
    end(child);
}

#[test]
fn delivery_agents_run_under_it() {
    let test = "run::delivery_agents_run_under_it";
    let daemon = Daemon::start("run-agents");
    let mail = "From: a@example.org\nTo: b@example.org\nSubject: test\n\nText.\n";
    let procmail = daemon.dir.write(
        "procmailrc",
        &format!(
            "MAILDIR={0}\nDEFAULT={0}/procmail/\nLOGFILE=/dev/null\n:0fw\n| cat\n",
            daemon.dir.path().display()
        ),
    );
    let maildrop = daemon.dir.write(
        "mailfilter",
        &format!(
            "xfilter \"/bin/cat\"\nto \"{}/maildrop\"\n",
            daemon.dir.path().display()
        ),
    );
    Command::new("chmod")
        .args(["600", &maildrop])
        .status()
        .expect("chmod");
    Command::new("maildirmake.maildrop")
        .arg(daemon.dir.at("maildrop"))
        .status()
        .ok();
    for (program, rules) in [("procmail", &procmail), ("maildrop", &maildrop)] {
        if program == "maildrop" && !is_root() {
            skipped(test, "maildrop needs the home directory of its user");
            continue;
        }
        if !works(test, &[program, "-v"]) {
            continue;
        }
        let mut command = run(&daemon.fifo(), &["-u", "bob@example.org", program, rules]);
        let mut child = command.stdin(Stdio::piped()).spawn().expect("start");
        let mut stdin = child.stdin.take().expect("its input");
        stdin.write_all(mail.as_bytes()).expect("write");
        drop(stdin);
        let output = child.wait_with_output().expect("its end");
        assert!(output.status.success(), "{program}: {output:?}");
        let new = fs::read_dir(daemon.dir.at(&format!("{program}/new"))).expect("its maildir");
        assert_eq!(new.count(), 1, "{program}: one mail");
        let table = export(&daemon, "session");
        let row = table.row("service", program);
        assert_eq!(
            (row.get("user"), row.get("connected")),
            ("bob@example.org", "0")
        );
        assert!(row.num("read_bytes") >= mail.len() as u64);
    }
}

#[test]
fn odd_arguments_are_left_out_and_the_program_runs() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let daemon = Daemon::start("run-odd");
    let raw = OsStr::from_bytes(b"j\xf6e@example.org");
    for (option, value, told) in [
        (
            "-r",
            OsStr::new("unknown"),
            "-r \"unknown\" is not an address",
        ),
        ("-r", OsStr::new(""), "-r \"\" is not an address"),
        (
            "-r",
            OsStr::new("fe80::1%lo"),
            "-r \"fe80::1%lo\" is not an address",
        ),
        ("-r", raw, "-r \"j\\xf6e@example.org\" is not an address"),
        ("-u", OsStr::new(""), "-u \"\" is empty"),
        ("-S", OsStr::new(""), "-S \"\" is empty"),
        ("-i", OsStr::new("often"), "-i \"often\" is not an interval"),
    ] {
        let mut command = run(&daemon.fifo(), &[]);
        command.arg(option).arg(value).args(["--", "echo", "ran"]);
        let output = command.output().expect("run dovestat");
        assert_eq!(
            text(&output.stdout),
            "ran\n",
            "{option} {value:?}: {output:?}"
        );
        assert!(output.status.success(), "{output:?}");
        let lines = text(&output.stderr);
        assert!(
            lines.contains(told) && lines.lines().count() == 1,
            "{lines}"
        );
    }
    // Names may be any bytes.
    let mut command = run(&daemon.fifo(), &[]);
    command.arg("-u").arg(raw).arg("-S").arg(raw).arg("true");
    let output = command.output().expect("run dovestat");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    let request = b"EXPORT\tsession\tuser=j\xf6e@*\tservice=j\xf6e@*\n";
    daemon.settle(&daemon.writer());
    let mut client = daemon.client();
    client.send(request);
    let reply = client.reply();
    let has = |name: &[u8]| reply.windows(name.len()).any(|bytes| bytes == name);
    assert!(has(b"\tj\xf6e@example.org\t"), "{}", reply.escape_ascii());
    // The client's own filter may be, too.
    let mut command = dovestat(&["-s", &daemon.socket(), "dump", "user"]);
    let filter = OsStr::from_bytes(b"user=j\xf6e@example.org");
    let output = command.arg(filter).args(["--fields", "user"]).output();
    assert_eq!(
        output.expect("run dovestat").stdout,
        b"user\nj\xf6e@example.org\n"
    );
}

#[test]
fn a_raw_recipient_is_delivered_through_a_pipe() {
    use std::os::unix::ffi::OsStringExt as _;
    let test = "run::a_raw_recipient_is_delivered_through_a_pipe";
    if !works(test, &["procmail", "-v"]) {
        return;
    }
    let daemon = Daemon::start("run-pipe");
    // procmail is the mail system: it pipes the mail and bounces what exits with 64.
    let rules = format!(
        "LOGFILE={0}/log\nEXITCODE=75\n:0w\n| {1} run --fifo {2} -u \"$RECIPIENT\" -r unknown -- \
         tee {0}/delivered\n",
        daemon.dir.path().display(),
        env!("CARGO_BIN_EXE_dovestat"),
        daemon.fifo()
    );
    let rules = daemon.dir.write("procmailrc", &rules);
    let recipient = std::ffi::OsString::from_vec(b"RECIPIENT=j\xf6e@example.org".to_vec());
    let mut command = Command::new("procmail");
    with_usual_signals(&mut command);
    command.arg(recipient).arg(&rules);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("start");
    let mut stdin = child.stdin.take().expect("its input");
    stdin
        .write_all(b"From: a@example.org\nSubject: test\n\nText.\n")
        .expect("write");
    drop(stdin);
    let status = child.wait().expect("its end");
    let log = fs::read(daemon.dir.at("log")).unwrap_or_default();
    assert!(
        status.success() || status.code() == Some(75),
        "{status:?} {}",
        text(&log)
    );
    let mail = fs::read_to_string(daemon.dir.at("delivered")).expect("the mail delivered");
    assert!(mail.contains("\nText.\n"), "{mail}");
    daemon.settle(&daemon.writer());
    let sessions = daemon.client().export_raw("session\tservice=tee");
    let has = |name: &[u8]| sessions.windows(name.len()).any(|bytes| bytes == name);
    assert!(
        has(b"\tj\xf6e@example.org\t"),
        "{}",
        sessions.escape_ascii()
    );
}
