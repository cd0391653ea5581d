//! The client `dovestat` from outside: its options, its exit codes, and what it
//! does when servers, files and pipes are not as one would like.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::harness::{
    free_port, holds_within, rss_bytes, text, wait_until, Daemon, Setup, TempDir, DEADLINE,
};
use crate::records::{add_user, connect, update, Mail};

/// The client, ready to be started.
pub fn dovestat(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dovestat"));
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs the client to its end.
#[track_caller]
pub fn run(args: &[&str]) -> Output {
    dovestat(args).output().expect("run dovestat")
}

/// Runs the client, which must end with 0; gives what it printed.
#[track_caller]
pub fn printed(args: &[&str]) -> String {
    let output = run(args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
    text(&output.stdout)
}

/// Runs the client, which must end with `code`; gives its standard error.
#[track_caller]
fn failed(args: &[&str], code: i32) -> String {
    let output = run(args);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
    let told = text(&output.stderr);
    assert!(told.starts_with("dovestat: "), "{args:?}: {told:?}");
    told
}

/// Waits for a client's end; gives its exit code.
#[track_caller]
fn code(mut child: Child) -> Option<i32> {
    let mut status = None;
    let ended = holds_within(DEADLINE, || {
        status = child.try_wait().expect("wait");
        status.is_some()
    });
    if !ended {
        let _ = child.kill();
        panic!("dovestat did not end");
    }
    status.and_then(|status| status.code())
}

/// A server that answers every request of every client with the same bytes and
/// closes behind them.
pub fn serve(path: &str, reply: Vec<u8>) {
    let listener = UnixListener::bind(path).expect("bind");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("accept");
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(&reply);
            // Closing with unread input would take the reply back.
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read(&mut [0; 4096]);
        }
    });
}

#[test]
fn several_servers_are_listed_with_their_host() {
    let port = free_port();
    let first = Daemon::with("hosts-a", &Setup::new().inet(port, ""));
    let second = Daemon::with("hosts-b", &Setup::new().unix("column_order = 2.2"));
    first.feed(&[connect("a", "bob@x", "imap", 1, "")]);
    second.feed(&[
        connect("b", "eve@y", "imap", 2, ""),
        update("b", &Mail::sample().field()),
    ]);
    let (one, other) = (format!("127.0.0.1:{port}"), second.socket());
    let dead = first.dir.at("dead");
    let rows = printed(&[
        "-s",
        &one,
        "-s",
        &other,
        "dump",
        "user",
        "--fields",
        "host,user,read_bytes",
    ]);
    assert_eq!(
        rows,
        format!("host\tuser\tread_bytes\n{one}\tbob@x\t0\n{other}\teve@y\t12\n"),
        "columns are found by name"
    );
    let output = run(&[
        "-s", &one, "-s", &dead, "-s", &other, "dump", "user", "--fields", "user",
    ]);
    assert_eq!(output.status.code(), Some(75));
    assert_eq!(text(&output.stdout), "user\nbob@x\neve@y\n");
    let told = text(&output.stderr);
    assert!(told.starts_with(&format!("dovestat: {dead}: ")), "{told}");
    // Not even an empty list of one that could not be asked.
    let output = run(&["-s", &dead, "-f", "json", "dump", "user"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(75), 0));
    assert_eq!(
        run(&["-s", &one, "-s", &dead, "reset", "-s", &other])
            .status
            .code(),
        Some(75)
    );
    let sums = printed(&[
        "-s",
        &one,
        "-s",
        &other,
        "dump",
        "global",
        "--fields",
        "num_logins",
    ]);
    assert_eq!(sums, "num_logins\n1\n0\n", "only UNIX clients may reset");
}

#[test]
fn columns_order_and_number_of_rows_can_be_chosen() {
    let daemon = Daemon::start("choose");
    let mut mail = Mail::sample();
    for (id, disk) in [("a", 5), ("b", 100), ("c", 20)] {
        mail.disk = [disk, 1];
        daemon.feed(&[
            connect(id, &format!("{id},\"@x"), "imap", 1, ""),
            update(id, &mail.field()),
        ]);
    }
    let socket = daemon.socket();
    let dump = |args: &[&str]| {
        printed(
            &[
                &[
                    "-s",
                    &socket,
                    "dump",
                    "session",
                    "--fields",
                    "session,disk_input",
                ],
                args,
            ]
            .concat(),
        )
    };
    let head = "session\tdisk_input\n";
    for (args, rows) in [
        (&["--sort", "disk_input"][..], "b\t100\nc\t20\na\t5\n"),
        (&["--sort", "-disk", "--limit", "2"], "a\t5\nc\t20\n"),
        (&["--sort", "session"], "a\t5\nb\t100\nc\t20\n"),
        (&["--limit", "1"], "c\t20\n"),
        (&["--limit", "0"], ""),
        (&["--sort", "user-", "--limit", "1"], "c\t20\n"),
        (&["session=b"], "b\t100\n"),
    ] {
        assert_eq!(dump(args), format!("{head}{rows}"), "{args:?}");
    }
    let fields = [
        "-s",
        &socket,
        "dump",
        "session",
        "--fields",
        "user,pid",
        "--sort",
        "user",
        "--limit=1",
    ];
    assert_eq!(
        printed(&[&fields[..], &["-f", "csv"]].concat()),
        "user,pid\r\n\"a,\"\"@x\",1\r\n"
    );
    assert_eq!(
        printed(&[&fields[..], &["-f", "ndjson"]].concat()),
        "{\"user\":\"a,\\\"@x\",\"pid\":1}\n"
    );
}

#[test]
fn exit_codes_are_doveadms() {
    let daemon = Daemon::with("codes", &Setup::new().unix("reset = no"));
    let socket = daemon.socket();
    for args in [
        &["dump"][..],
        &["dump", "everything"],
        &["-s", &socket, "dump", "user", "--fields", "user,nothing"],
        &["-s", &socket, "dump", "user", "--sort", "nothing"],
        &["who"],
        &["-x"],
    ] {
        daemon.feed(&[add_user("bob@x", "imap", "")]);
        failed(args, 64);
    }
    failed(&["-s", &socket, "dump", "user", "ip=nonsense"], 64);
    failed(&["-s", &socket, "reset"], 75);
    failed(&["-s", &daemon.dir.at("nothing"), "dump", "user"], 75);
    let cut = daemon.dir.at("cut");
    serve(&cut, b"user\tnum_cmds\nbob\t1\nali".to_vec());
    let output = run(&["-s", &cut, "dump", "user"]);
    assert_eq!(output.status.code(), Some(75), "a reply without its end");
    assert_eq!(text(&output.stdout), "user\tnum_cmds\nbob\t1\n");
    let odd = daemon.dir.at("odd");
    serve(&odd, b"user\tnum_cmds\nshort\nlong\t1\t2\n\n".to_vec());
    assert_eq!(
        printed(&["-s", &odd, "dump", "user"]),
        "user\tnum_cmds\nshort\t\nlong\t1\n"
    );
    let none = run(&["-s", &socket, "dump", "ip"]);
    assert_eq!(
        (none.status.code(), text(&none.stdout)),
        (Some(0), "\n".to_owned())
    );
    assert_eq!(text(&none.stderr), "dovestat: no statistics available\n");
    assert!(printed(&["--help"]).contains("--watch SECS"));
    assert!(printed(&["-V"]).starts_with("dovestat "));
}

#[test]
fn reset_clears_the_global_totals() {
    let daemon = Daemon::start("reset");
    daemon.feed(&[connect("a", "bob@x", "imap", 1, "")]);
    let socket = daemon.socket();
    let logins = || printed(&["-s", &socket, "dump", "global", "--fields", "num_logins"]);
    assert_eq!(logins(), "num_logins\n1\n");
    assert_eq!(
        run(&["stats", "reset", "-s", &socket]).status.code(),
        Some(0)
    );
    assert_eq!(logins(), "num_logins\n0\n");
}

#[test]
fn a_closed_pipe_is_no_error() {
    let dir = TempDir::new("pipe");
    let row = format!("{}\t1\n", "u".repeat(100)).repeat(20_000);
    let socket = dir.at("socket");
    serve(&socket, format!("user\tnum_cmds\n{row}\n").into_bytes());
    for format in ["tab", "table", "flow", "pager", "json", "csv", "ndjson"] {
        let mut child = dovestat(&["-s", &socket, "-f", format, "dump", "user"])
            .spawn()
            .expect("start dovestat");
        let mut begin = [0; 10];
        let mut stdout = child.stdout.take().expect("its output");
        stdout.read_exact(&mut begin).expect("its beginning");
        drop(stdout);
        let mut told = String::new();
        let mut stderr = child.stderr.take().expect("its errors");
        stderr.read_to_string(&mut told).expect("its errors");
        assert_eq!((code(child), told.as_str()), (Some(0), ""), "{format}");
    }
    for args in [&["--help"][..], &["--completion", "bash"]] {
        let mut child = dovestat(args).spawn().expect("start dovestat");
        drop(child.stdout.take());
        assert_eq!(code(child), Some(0));
    }
}

#[test]
fn memory_does_not_grow_with_the_rows() {
    let dir = TempDir::new("stream");
    for (n, args) in [
        &["-f", "tab"][..],
        &["-f", "table"],
        &["-f", "flow"],
        &["-f", "pager"],
        &["-f", "json"],
        &["-f", "csv"],
        &["-f", "ndjson"],
        &["--sort", "num_cmds", "--limit", "10"],
    ]
    .iter()
    .enumerate()
    {
        let socket = dir.at(&format!("socket{n}"));
        let listener = UnixListener::bind(&socket).expect("bind");
        let (sent, all_sent) = mpsc::channel();
        let (go_on, may_end) = mpsc::channel::<()>();
        let server = thread::spawn(move || {
            let (mut stream, _): (UnixStream, _) = listener.accept().expect("accept");
            let _ = stream.read(&mut [0; 4096]);
            stream.write_all(b"user\tnum_cmds\n").expect("send");
            for n in 0..100_000 {
                let row = format!("{}{n}\t{n}\n", "u".repeat(300));
                stream.write_all(row.as_bytes()).expect("send");
            }
            sent.send(()).expect("tell");
            // The reply is not over yet, so the client is there to be looked at.
            let _ = may_end.recv();
            stream.write_all(b"\n").expect("send");
        });
        let mut child = dovestat(&[&["-s", &socket, "dump", "user"], *args].concat())
            .spawn()
            .expect("start dovestat");
        let mut stdout = child.stdout.take().expect("its output");
        let reader = thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        all_sent.recv_timeout(DEADLINE * 3).expect("all rows taken");
        let rss = rss_bytes(child.id());
        assert!(rss < 12 << 20, "{args:?}: {rss} bytes after 30 MB of rows");
        go_on.send(()).expect("tell");
        assert_eq!(code(child), Some(0));
        reader.join().expect("reader").expect("read");
        server.join().expect("server");
    }
}

#[test]
fn differences_respect_a_reset() {
    let daemon = Daemon::start("diff");
    let socket = daemon.socket();
    let dump = |level: &str| printed(&["-s", &socket, "dump", level]);
    let mut mail = Mail::sample();
    daemon.feed(&[
        connect("a", "bob@x", "imap", 1, "10.0.0.1"),
        update("a", &mail.field()),
    ]);
    let (user, global) = (dump("user"), dump("global"));
    let user = daemon.dir.write("user.old", &user);
    let global = daemon.dir.write("global.old", &global);
    mail.times[0] = (1, 58);
    mail.bytes[0] += 100;
    daemon.feed(&[update("a", &mail.field()), add_user("new@x", "imap", "")]);
    let fields = ["--fields", "change,user,num_logins,user_cpu,read_bytes"];
    let expected = "change\tuser\tnum_logins\tuser_cpu\tread_bytes\n\
                    new\tnew@x\t0\t0.000000\t0\n\
                    kept\tbob@x\t0\t0.000057\t100\n";
    let now = ["-s", &socket, "dump", "user", "--diff", &user];
    assert_eq!(printed(&[&now[..], &fields].concat()), expected);
    let later = daemon.dir.write("user.new", &dump("user"));
    let files = printed(&[&["dump", "--diff", &user, &later][..], &fields].concat());
    assert_eq!(files, expected);
    let back = printed(&[&["dump", "--diff", &later, &user][..], &fields].concat());
    assert!(back.ends_with("gone\tnew@x\t0\t0.000000\t0\n"), "{back}");
    assert!(
        back.contains("\nreset\tbob@x\t1\t"),
        "a counter that shrank: {back}"
    );

    // The timestamp has whole seconds: the next one must be another.
    let old = printed(&[
        "-s",
        &socket,
        "dump",
        "global",
        "--fields",
        "reset_timestamp",
    ]);
    wait_until("a reset in another second", || {
        run(&["-s", &socket, "reset"]);
        printed(&[
            "-s",
            &socket,
            "dump",
            "global",
            "--fields",
            "reset_timestamp",
        ]) != old
    });
    mail.bytes[0] += 50_000;
    daemon.feed(&[update("a", &mail.field())]);
    let fields = ["--fields", "change,num_connected_sessions,read_bytes"];
    let now = ["-s", &socket, "dump", "global", "--diff", &global];
    assert_eq!(
        printed(&[&now[..], &fields].concat()),
        "change\tnum_connected_sessions\tread_bytes\nreset\t1\t50000\n"
    );
    failed(&["-s", &socket, "dump", "user", "--diff", &global], 65);
    failed(
        &[
            "-s",
            &socket,
            "dump",
            "user",
            "--diff",
            &daemon.dir.at("dovestatd.conf"),
        ],
        65,
    );
    failed(
        &[
            "-s",
            &socket,
            "dump",
            "user",
            "--diff",
            &daemon.dir.at("missing"),
        ],
        74,
    );
}

#[test]
fn watching_repeats_and_survives_the_server() {
    let daemon = Daemon::start("watch");
    let socket = daemon.socket();
    let mut child = dovestat(&[
        "-s", &socket, "-f", "ndjson", "dump", "global", "--watch", "0.05",
    ])
    .spawn()
    .expect("start dovestat");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let mut next = || lines.next().expect("a line").expect("text");
    assert!(next().starts_with('{') && next().starts_with('{'));
    let dir = daemon.stop();
    thread::sleep(Duration::from_millis(200));
    let _daemon = Daemon::in_dir(dir, &Setup::new());
    // What was printed before is in the pipe still.
    for _ in 0..20 {
        assert!(next().starts_with('{'));
    }
    drop(lines);
    assert_eq!(code(child), Some(0), "a closed pipe ends it");
}

#[test]
fn completions_are_scripts_that_complete() {
    let dir = TempDir::new("completion");
    for shell in ["bash", "zsh", "fish"] {
        let script = dir.write(shell, &printed(&["--completion", shell]));
        let Ok(output) = Command::new(shell).args(["-n", &script]).output() else {
            println!("{shell} is not installed");
            continue;
        };
        assert!(output.status.success(), "{shell}: {output:?}");
    }
    if Command::new("bash").arg("--version").output().is_err() {
        return;
    }
    let complete = |words: &str| {
        let body = format!(
            "source {}; COMP_WORDS=(dovestat {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             compopt() {{ :; }}; _dovestat; echo \"${{COMPREPLY[*]}}\"",
            dir.at("bash")
        );
        let output = Command::new("bash")
            .args(["-c", &body])
            .output()
            .expect("bash");
        assert!(output.stderr.is_empty(), "{output:?}");
        text(&output.stdout)
    };
    for (words, expected) in [
        ("''", "dump top slow reset run check bridge demo\n"),
        ("run --fi", "--fifo\n"),
        ("demo --ba", "--batch\n"),
        ("demo cp", "cpu\n"),
        ("-f ''", "tab table flow pager json csv ndjson\n"),
        (
            "dump ''",
            "command session user domain ip global service cmd\n",
        ),
        ("-s x stats dump -f json s", "session service\n"),
        ("dump user c", "connected cmd=\n"),
        ("dump --wat", "--watch\n"),
        ("top --wat", "\n"),
        ("top c", "cpu connected clock_time cmd=\n"),
        ("top -l command c", "cpu cmd connected clock_time cmd=\n"),
        ("slow --sort clock", "clock_time\n"),
        ("slow user= cm", "cmd=\n"),
        ("dump cmd --sort time_p", "time_p50 time_p90 time_p99\n"),
        ("dump session --sort num", "num_cmds\n"),
        ("dump ips --fields num_l", "num_logins\n"),
        ("dump user s", "session= service= since=\n"),
        ("dump user m", "more\n"),
        ("dump session --fields net_i", "net_in_bytes\n"),
        ("dump user --sort disk_o", "disk_output\n"),
        ("dump user --fields user,disk_i", "user,disk_input\n"),
    ] {
        let sorted = |text: &str| {
            let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            words.sort();
            words
        };
        let got = complete(words);
        assert_eq!(sorted(&got), sorted(expected), "{words}");
    }
}
