//! The daemon as a program: options, exit codes, files it makes and removes,
//! signals.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use crate::attack::{Class, Tally};
use crate::harness::{is_root, run, run_with, text, wait_until, Daemon, Setup, TempDir};
use crate::link::Client;
use crate::records::connect;

/// Writes a configuration for `dir` with the given setup.
fn config(dir: &TempDir, setup: &Setup) -> String {
    dir.write("dovestatd.conf", &setup.config(dir))
}

#[test]
fn version_and_help_go_to_standard_output() {
    for args in [["-V"], ["--version"]] {
        let output = run(&args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        let said = text(&output.stdout);
        assert!(
            said.contains(env!("CARGO_PKG_VERSION")),
            "{args:?} says {said:?}"
        );
    }
    for args in [["-h"], ["--help"]] {
        let output = run(&args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        let said = text(&output.stdout);
        for option in ["-c", "-o", "-F", "-t", "-n", "-a", "-V"] {
            assert!(said.contains(option), "{args:?} tells of {option}: {said}");
        }
    }
}

#[test]
fn wrong_usage_exits_with_64() {
    for args in [&["-Z"][..], &["--nonsense"], &["-c"], &["-o"], &["stray"]] {
        let output = run(args);
        assert_eq!(
            output.status.code(),
            Some(64),
            "{args:?}: {}",
            text(&output.stderr)
        );
        assert!(!output.stderr.is_empty(), "{args:?} says why");
    }
}

#[test]
fn a_named_configuration_must_exist() {
    let dir = TempDir::new("noconf");
    for option in ["-t", "-F", "-n"] {
        let output = run(&[option, "-c", &dir.at("missing.conf")]);
        assert_eq!(
            output.status.code(),
            Some(78),
            "{option}: {}",
            text(&output.stderr)
        );
        assert!(
            text(&output.stderr).contains("missing.conf"),
            "{option} names the file"
        );
    }
}

#[test]
fn every_configuration_mistake_is_reported_with_file_and_line() {
    let dir = TempDir::new("badconf");
    let good = config(&dir, &Setup::new());
    let output = run(&["-t", "-c", &good]);
    assert_eq!(
        output.status.code(),
        Some(0),
        "a good one: {}",
        text(&output.stderr)
    );
    let bad = dir.write(
        "bad.conf",
        "base_dir = /nonexistent\n\
         no_such_setting = 1\n\
         stats_memory_limit = lots\n\
         stats_user_min_time = soon\n\
         service stats {\n\
         colour = red\n\
         }\n",
    );
    let output = run(&["-t", "-c", &bad]);
    assert_eq!(output.status.code(), Some(78), "a bad one");
    let said = text(&output.stderr);
    for line in [2, 3, 4, 6] {
        assert!(
            said.contains(&format!("{bad}:{line}: ")),
            "line {line} is reported in:\n{said}"
        );
    }
    let output = run(&["-F", "-c", &bad]);
    assert_eq!(output.status.code(), Some(78), "starting with it");
    let output = run(&["-t", "-c", &good, "-o", "no_such_setting=1"]);
    assert_eq!(output.status.code(), Some(78), "a wrong -o");
    let output = run(&["-t", "-c", &good, "-o", "stats_memory_limit=1K"]);
    assert_eq!(output.status.code(), Some(78), "below the minimum of 256 K");
    let output = run(&["-t", "-c", &good, "-o", "stats_memory_limit=256K"]);
    assert_eq!(
        output.status.code(),
        Some(0),
        "the minimum itself: {}",
        text(&output.stderr)
    );
}

#[test]
fn settings_are_printed_in_their_own_syntax() {
    let dir = TempDir::new("print");
    let file = dir.write(
        "a.conf",
        &format!("base_dir = {}\nstats_memory_limit = 5 M\n", dir.at("run")),
    );
    let changed = text(&run(&["-n", "-c", &file]).stdout);
    assert!(
        changed.contains("base_dir"),
        "-n prints what differs:\n{changed}"
    );
    assert!(
        changed.contains("stats_memory_limit"),
        "-n prints what differs:\n{changed}"
    );
    assert!(
        !changed.contains("stats_user_min_time"),
        "-n leaves out defaults:\n{changed}"
    );
    let all = text(&run(&["-a", "-c", &file]).stdout);
    for name in [
        "base_dir",
        "log_path",
        "pidfile",
        "state_dir",
        "stats_state_interval",
        "stats_memory_limit",
        "stats_command_min_time",
        "stats_session_min_time",
        "stats_user_min_time",
        "stats_domain_min_time",
        "stats_ip_min_time",
        "stats_carbon_server",
        "stats_carbon_name",
        "stats_carbon_interval",
        "stats_carbon_levels",
        "stats_carbon_limit",
        "stats_metrics_levels",
        "stats_metrics_limit",
        "client_limit",
        "fifo_listener",
        "unix_listener",
    ] {
        assert!(all.contains(name), "-a prints {name}:\n{all}");
    }
    for (option, printed) in [("-n", &changed), ("-a", &all)] {
        let again = dir.write("again.conf", printed);
        let output = run(&[option, "-c", &again]);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{option} reads back: {}",
            text(&output.stderr)
        );
        assert_eq!(
            &text(&output.stdout),
            printed,
            "{option} of what {option} printed"
        );
    }
    let over = text(&run(&["-n", "-c", &file, "-o", "stats_user_min_time=7 mins"]).stdout);
    assert!(
        over.contains("stats_user_min_time"),
        "-o counts for -n:\n{over}"
    );
}

#[test]
fn blocks_of_dovecot_2_2_and_2_3_work_as_they_are() {
    let dir = TempDir::new("copied");
    for prefix in ["", "old_"] {
        let section = if prefix.is_empty() {
            "service stats"
        } else {
            "service old-stats"
        };
        let base = dir.at("run");
        let file = dir.write(
            "copied.conf",
            &format!(
                "# copied\nbase_dir = {base}\n{prefix}stats_memory_limit = 20 M\n\
                 {prefix}stats_command_min_time = 2 mins\n{section} {{\n  client_limit = 77\n\
                   fifo_listener {prefix}stats-mail {{\n    mode = 0600\n  }}\n}}\n"
            ),
        );
        let output = run(&["-n", "-c", &file]);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{section}: {}",
            text(&output.stderr)
        );
        let said = text(&output.stdout);
        assert!(said.contains("client_limit = 77"), "{section}:\n{said}");
    }
}

#[test]
fn files_have_the_right_types_and_modes_and_are_removed() {
    let daemon = Daemon::start("files");
    let run = daemon.dir.path().join("run");
    for name in ["stats-mail", "stats-user", "stats"] {
        let meta = fs::symlink_metadata(run.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let kind = meta.file_type();
        assert_eq!(kind.is_socket(), name == "stats", "{name} is a socket");
        assert_eq!(kind.is_fifo(), name != "stats", "{name} is a FIFO");
        let mode = if name == "stats" { 0o600 } else { 0o200 };
        assert_eq!(meta.permissions().mode() & 0o7777, mode, "mode of {name}");
    }
    let mut client = daemon.client();
    client.export("global");
    let dir = daemon.stop();
    let _ = dir;
    client.assert_closed("the daemon ended");
    for name in ["stats-mail", "stats-user", "stats"] {
        assert!(!run.join(name).exists(), "{name} is removed at the end");
    }
}

#[test]
fn listeners_may_be_moved_added_and_switched_off() {
    let dir = TempDir::new("listeners");
    let extra = dir.at("extra-fifo");
    let setup = Setup::new().service(&format!(
        "fifo_listener stats-user {{\nmode = 0\n}}\n\
         fifo_listener {extra} {{\nmode = 0622\n}}\n\
         unix_listener second {{\nmode = 0666\n}}"
    ));
    let daemon = Daemon::in_dir(dir, &setup);
    assert!(
        !Path::new(&daemon.dir.at("run/stats-user")).exists(),
        "mode 0 switches one off"
    );
    let mode = fs::metadata(&extra)
        .expect("the added FIFO")
        .permissions()
        .mode()
        & 0o777;
    assert_eq!(mode, 0o622, "mode of the added FIFO");
    let mode = fs::metadata(daemon.dir.at("run/second"))
        .expect("second")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o666, "mode of the added socket");
    let mut writer = crate::link::Writer::open(&extra);
    writer.send_waiting(&connect("s1", "u", "imap", 1, ""));
    wait_until("a record on the added FIFO", || {
        Client::unix(&daemon.dir.at("run/second"))
            .export("session")
            .rows
            .len()
            == 1
    });
}

#[test]
fn a_second_instance_is_refused_and_harmless() {
    let mut tally = Tally::of(Class::Places);
    tally.tries(1);
    let mut daemon = Daemon::start("second");
    daemon.feed(&[connect("s1", "u", "imap", 1, "")]);
    let output = run(&["-F", "-c", &daemon.dir.at("dovestatd.conf")]);
    assert_eq!(output.status.code(), Some(69), "{}", text(&output.stderr));
    assert!(!output.stderr.is_empty(), "it says why");
    daemon.assert_alive();
    daemon.feed(&[connect("s2", "u", "imap", 1, "")]);
    assert_eq!(
        daemon.client().export("session").rows.len(),
        2,
        "the first one still counts"
    );
    tally.check(&mut daemon);
}

#[test]
fn what_a_killed_daemon_left_is_replaced() {
    let mut tally = Tally::of(Class::Places);
    tally.tries(1);
    let mut daemon = Daemon::start("stale");
    daemon.signal(libc::SIGKILL);
    wait_until("its end", || daemon.exited().is_some());
    assert!(Path::new(&daemon.socket()).exists(), "a stale socket");
    let dir = std::mem::replace(&mut daemon.dir, TempDir::new("gone"));
    let again = Daemon::in_dir(dir, &Setup::new());
    again.feed(&[connect("s1", "u", "imap", 1, "")]);
    assert_eq!(again.client().export("session").rows.len(), 1, "it works");
    tally.survived();
}

#[test]
fn a_foreign_file_in_a_listeners_place_is_not_touched() {
    let mut tally = Tally::of(Class::Places);
    tally.tries(3);
    for name in ["stats", "stats-mail", "stats-user"] {
        let dir = TempDir::new("foreign");
        let file = config(&dir, &Setup::new());
        fs::create_dir_all(dir.at("run")).expect("mkdir run");
        let path = dir.write(&format!("run/{name}"), "precious\n");
        let output = run(&["-F", "-c", &file]);
        let code = output.status.code();
        assert!(
            code.is_some_and(|c| c >= 64),
            "{name}: {code:?} {}",
            text(&output.stderr)
        );
        assert!(
            text(&output.stderr).contains(&path),
            "{name} is named: {}",
            text(&output.stderr)
        );
        assert_eq!(
            fs::read_to_string(&path).expect("still there"),
            "precious\n",
            "{name}"
        );
    }
    tally.survived();
}

#[test]
fn a_foreign_services_live_socket_is_left_alone() {
    let mut tally = Tally::of(Class::Places);
    tally.tries(1);
    let dir = TempDir::new("alive");
    let file = config(&dir, &Setup::new());
    fs::create_dir_all(dir.at("run")).expect("mkdir run");
    let _other = UnixListener::bind(dir.at("run/stats")).expect("bind");
    let output = run(&["-F", "-c", &file]);
    assert_eq!(output.status.code(), Some(69), "{}", text(&output.stderr));
    assert!(
        Client::try_unix(&dir.at("run/stats")).is_some(),
        "the other one's socket lives"
    );
    tally.survived();
}

#[test]
fn a_port_in_use_is_unavailable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("address").port();
    let dir = TempDir::new("port");
    let file = config(&dir, &Setup::new().inet(port, ""));
    let output = run(&["-F", "-c", &file]);
    assert_eq!(output.status.code(), Some(69), "{}", text(&output.stderr));
    let said = text(&output.stderr);
    assert!(
        said.contains(&port.to_string()),
        "it names the port: {said}"
    );
}

#[test]
fn missing_permission_exits_with_77() {
    let dir = TempDir::new("permission");
    let base = dir.at("closed/run");
    fs::create_dir_all(dir.at("closed")).expect("mkdir");
    let file = dir.write("a.conf", &format!("base_dir = {base}\nlog_path = stderr\n"));
    fs::set_permissions(dir.at("closed"), fs::Permissions::from_mode(0o555)).expect("chmod");
    let output = run_with(&["-F", "-c", &file], |command| {
        if is_root() {
            command.uid(65534).gid(65534);
        }
    });
    assert_eq!(output.status.code(), Some(77), "{}", text(&output.stderr));
}

#[test]
fn an_ordinary_user_needs_no_configuration() {
    let dir = TempDir::new("ordinary");
    let runtime = dir.at("runtime");
    fs::create_dir_all(&runtime).expect("mkdir");
    if is_root() {
        std::os::unix::fs::chown(&runtime, Some(65534), Some(65534)).expect("chown");
    }
    let mut command = std::process::Command::new(crate::harness::program());
    command
        .arg("-F")
        .env("XDG_RUNTIME_DIR", &runtime)
        .stdin(std::process::Stdio::null());
    let log = fs::File::create(dir.at("log")).expect("log");
    command.stdout(log.try_clone().expect("dup")).stderr(log);
    if is_root() {
        command.uid(65534).gid(65534);
    }
    let mut child = command.spawn().expect("start dovestatd");
    let socket = format!("{runtime}/dovestat/stats");
    let answers = crate::harness::holds_within(crate::harness::DEADLINE, || {
        Client::try_unix(&socket).is_some_and(|mut c| c.try_export("global").is_some())
    });
    let mode = fs::metadata(format!("{runtime}/dovestat")).map(|m| m.permissions().mode() & 0o777);
    child.kill().expect("kill");
    child.wait().expect("wait");
    assert!(
        answers,
        "it answers on {socket}; log: {:?}",
        fs::read_to_string(dir.at("log"))
    );
    assert_eq!(mode.expect("its directory"), 0o700, "mode of its directory");
}

#[test]
fn signals_do_what_the_manual_says() {
    let mut daemon = Daemon::start("signals");
    daemon.feed(&[connect("s1", "u", "imap", 1, "")]);
    let before = daemon.log().lines().count();
    daemon.signal(libc::SIGUSR1);
    wait_until("a status line", || daemon.log().lines().count() > before);
    let log = daemon.log();
    let status: Vec<&str> = log.lines().skip(before).collect();
    assert!(!status.is_empty(), "a status line");
    assert!(
        status[0].contains("session"),
        "the status line tells of sessions: {status:?}"
    );
    daemon.signal(libc::SIGHUP);
    daemon.signal(libc::SIGPIPE);
    daemon.assert_alive();
    assert_eq!(
        daemon.client().export("session").rows.len(),
        1,
        "HUP keeps the statistics"
    );
    daemon.signal(libc::SIGINT);
    daemon.wait_stopped();
}

#[test]
fn hup_reads_the_settings_again() {
    let dir = TempDir::new("hup");
    let mut daemon = Daemon::in_dir(dir, &Setup::new());
    daemon.feed(&[connect("s1", "u", "imap", 1, "")]);
    // A wrong configuration is reported and changes nothing.
    let good = Setup::new().config(&daemon.dir);
    daemon
        .dir
        .write("dovestatd.conf", &format!("{good}no_such_setting = 1\n"));
    let before = daemon.log().len();
    daemon.signal(libc::SIGHUP);
    wait_until("the mistake in the log", || {
        daemon.log()[before..].contains("no_such_setting")
    });
    daemon.assert_alive();
    daemon.dir.write(
        "dovestatd.conf",
        &format!("stats_memory_limit = 8 M\n{good}"),
    );
    daemon.signal(libc::SIGHUP);
    daemon.assert_alive();
    assert_eq!(
        daemon.client().export("session").rows.len(),
        1,
        "the statistics stay"
    );
}

#[test]
fn hup_in_the_foreground_does_not_mind_where_the_background_logs() {
    let setup = Setup {
        lines: vec!["log_path = syslog".to_owned()],
        ..Setup::new()
    };
    let daemon = Daemon::with("hup-foreground", &setup);
    daemon.signal(libc::SIGHUP);
    wait_until("the settings read again", || {
        daemon.log().contains("settings read again")
    });
    assert!(!daemon.log().contains("restart"), "{}", daemon.log());
}

#[test]
fn hup_reopens_the_log() {
    let dir = TempDir::new("reopen");
    let path = dir.at("own.log");
    let setup = Setup {
        lines: vec![format!("log_path = {path}")],
        ..Setup::new()
    };
    let file = config(&dir, &setup);
    let mut child = std::process::Command::new(crate::harness::program())
        .args(["-c", &file])
        .stdin(std::process::Stdio::null())
        .spawn()
        .expect("start dovestatd");
    let socket = dir.at("run/stats");
    let answers =
        || Client::try_unix(&socket).is_some_and(|mut c| c.try_export("global").is_some());
    wait_until("the daemon in the background", answers);
    // Without -F it goes to the background.
    wait_until("the parent's end", || {
        child.try_wait().expect("wait").is_some()
    });
    let pid = pid_of(&file);
    fs::rename(&path, format!("{path}.1")).expect("rotate the log");
    crate::harness::send_signal(pid, libc::SIGHUP);
    wait_until("a new log", || Path::new(&path).exists());
    crate::harness::send_signal(pid, libc::SIGTERM);
    wait_until("its end", || !Path::new(&socket).exists());
}

#[test]
fn a_log_that_nobody_reads_blocks_nothing() {
    let mut tally = Tally::of(Class::Logs);
    tally.tries(1);
    let dir = TempDir::new("unread-log");
    let path = dir.at("log.fifo");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.expect("mkfifo").success());
    let setup = Setup {
        lines: vec![format!("log_path = {path}")],
        ..Setup::new()
    };
    let file = config(&dir, &setup);
    let start = || {
        std::process::Command::new(crate::harness::program())
            .args(["-c", &file])
            .stdin(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("start dovestatd")
    };
    let mut refused = start();
    let mut status = None;
    wait_until("an answer without a reader", || {
        status = refused.try_wait().expect("wait");
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(74));
    // Opened for both, so that it does not wait for the daemon.
    let reader = fs::File::options().read(true).write(true).open(&path);
    let mut starter = start();
    wait_until("the parent's end", || {
        starter.try_wait().expect("wait").is_some()
    });
    let (pid, socket) = (pid_of(&file), dir.at("run/stats"));
    drop(reader.expect("open the log"));
    crate::harness::send_signal(pid, libc::SIGHUP);
    let mut client = Client::unix(&socket);
    for _ in 0..3 {
        client.export("global");
    }
    crate::harness::send_signal(pid, libc::SIGTERM);
    wait_until("its end", || !Path::new(&socket).exists());
    tally.survived();
}

/// The process whose command line names `file`.
#[track_caller]
fn pid_of(file: &str) -> u32 {
    let pids = fs::read_dir("/proc").expect("/proc").filter_map(|entry| {
        let pid = entry.ok()?.file_name().to_str()?.parse::<u32>().ok()?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        line.split(|&b| b == 0)
            .any(|arg| arg == file.as_bytes())
            .then_some(pid)
    });
    let pids: Vec<u32> = pids.collect();
    assert_eq!(pids.len(), 1, "processes of {file}: {pids:?}");
    pids[0]
}
