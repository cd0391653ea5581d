//! The systemd units: what they promise, and that the daemon lives with what they
//! forbid. A system that is started with them is in tests/packages.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{chown, MetadataExt as _, PermissionsExt};
use std::process::{Command, Stdio};

use dovestat::config::table;

use crate::harness::{is_root, lacking, program, send_signal, text, wait_until, TempDir};
use crate::link::{Client, Writer};
use crate::packaging::{install, output, packaging};
use crate::records::connect;

/// The exposure that a service may have at most, in tenths: `systemd-analyze`'s
/// threshold.
const EXPOSURE: &str = "10";

/// The unit of the service, with the daemon in the place of /usr/sbin/dovestatd.
fn installed_units(test: &str) -> Option<TempDir> {
    if Command::new("make").arg("--version").output().is_err() {
        lacking(test, "make");
        return None;
    }
    let dir = TempDir::new("units");
    let output = install(&dir, &dir.at("usr"), "");
    assert!(output.status.success(), "{output:?}");
    Some(dir)
}

#[test]
fn units_are_valid_and_hardened() {
    let test = "units_are_valid_and_hardened";
    let Some(dir) = installed_units(test) else {
        return;
    };
    let units = [
        "dovestatd.service",
        "dovestat-bridge.service",
        "dovestatd.socket",
        "dovestatd-clients.socket",
        "dovestat-bridge.path",
    ]
    .map(|name| dir.at(&format!("usr/lib/systemd/system/{name}")));
    let mut verify = vec!["verify", "--man=no"];
    verify.extend(units.iter().map(String::as_str));
    let Some(verified) = output(test, "systemd-analyze", &verify) else {
        return;
    };
    // It tells of other units of the system as well.
    let told = text(&verified.stderr);
    assert!(!told.contains("dovestat"), "{told}");
    let threshold = format!("--threshold={EXPOSURE}");
    for service in &units[..2] {
        let args = ["security", "--no-pager", "--offline=true", &threshold];
        output(test, "systemd-analyze", &[&args[..], &[service]].concat());
    }
    for (program, name) in [
        ("systemd-sysusers", "sysusers.d"),
        ("systemd-tmpfiles", "tmpfiles.d"),
    ] {
        let file = dir.at(&format!("usr/lib/{name}/dovestat.conf"));
        let root = format!("--root={}", dir.at(name));
        fs::create_dir_all(dir.at(name)).expect("a root");
        if program == "systemd-tmpfiles" {
            // The user is one of that root.
            fs::create_dir_all(dir.at("tmpfiles.d/etc")).expect("its etc");
            dir.write(
                "tmpfiles.d/etc/passwd",
                "root:x:0:0::/:/\ndovestat:x:1:1::/:/\n",
            );
            dir.write("tmpfiles.d/etc/group", "root:x:0:\ndovestat:x:1:\n");
            if is_root() {
                check_tmpfiles(test, &dir, &[&root, &file]);
            }
        } else {
            output(test, program, &["--dry-run", &root, &file]);
        }
    }
}

/// Whose the directories and the lock become, of nothing and of what 0.1.0 had, whose
/// base_dir was its user's.
fn check_tmpfiles(test: &str, dir: &TempDir, args: &[&str]) {
    let run = dir.at("tmpfiles.d/run/dovestat");
    for is_upgrade in [false, true] {
        if is_upgrade {
            fs::remove_file(format!("{run}/.lock")).expect("remove the lock");
            chown(&run, Some(1), Some(1)).expect("chown");
        }
        output(test, "systemd-tmpfiles", &[&["--create"], args].concat());
        for (place, mode, uid) in [
            ("run/dovestat", 0o755, 0),
            ("run/dovestat/.lock", 0o600, 1),
            ("var/lib/dovestat", 0o750, 1),
        ] {
            let found = fs::metadata(dir.at(&format!("tmpfiles.d/{place}"))).expect("made");
            let found = (found.mode() & 0o7777, found.uid(), found.gid());
            assert_eq!(found, (mode, uid, uid), "{place}");
        }
    }
}

/// The values of a setting in a unit.
fn values(unit: &str, setting: &str) -> Vec<String> {
    let unit = fs::read_to_string(packaging(&format!("systemd/{unit}"))).expect("the unit");
    let lines = unit
        .lines()
        .filter_map(|line| line.strip_prefix(setting)?.strip_prefix('='));
    lines.map(str::to_owned).collect()
}

/// systemd gives what it makes away by the path: the directory has to be root's, and
/// nothing may give that to the service's user.
#[test]
fn socket_units_make_all_files_in_a_directory_of_roots() {
    let service = "dovestatd.service";
    assert_eq!(values(service, "User"), ["dovestat"]);
    for setting in ["RuntimeDirectory", "ExecStartPre", "PermissionsStartOnly"] {
        assert_eq!(values(service, setting), [""; 0], "{setting}");
    }
    let at = |name: &&str| format!("/run/dovestat/{name}");
    let (fifos, clients) = ("dovestatd.socket", "dovestatd-clients.socket");
    let names: Vec<String> = table::FIFO_NAMES.iter().map(at).collect();
    assert_eq!(values(fifos, "ListenFIFO"), names);
    let names: Vec<String> = table::UNIX_NAMES.iter().map(at).collect();
    assert_eq!(values(clients, "ListenStream"), names);
    for (unit, mode) in [(fifos, "0220"), (clients, "0660")] {
        assert_eq!(values(unit, "SocketMode"), [mode]);
        // Without, systemd finds "File exists" at a restart: a FIFO of another owner.
        assert_eq!(values(unit, "RemoveOnStop"), ["yes"]);
        for setting in ["Requires", "After", "Also"] {
            let all = values(service, setting).concat();
            assert!(all.split(' ').any(|word| word == unit), "{setting} {unit}");
        }
    }
}

/// What the bridge may do as root: own /run/dovestat, open anvil's socket, and read what
/// processes use. Its socket and the FIFO it may use by its groups.
#[test]
fn the_bridge_is_root_by_its_number_alone() {
    let service = "dovestat-bridge.service";
    for (setting, value) in [
        ("User", "root"),
        ("Group", "dovecot"),
        ("CapabilityBoundingSet", "CAP_SYS_PTRACE"),
        ("PrivateNetwork", "yes"),
        ("RestrictAddressFamilies", "AF_UNIX"),
        ("RuntimeDirectory", ""),
    ] {
        assert_eq!(values(service, setting).concat(), value, "{setting}");
    }
    assert_eq!(values("dovestatd-clients.socket", "SocketUser"), ["root"]);
    let fifo_group = values("dovestatd.socket", "SocketGroup");
    assert_eq!(values(service, "SupplementaryGroups"), fifo_group);
    let config = ["/etc/dovecot/conf.d/99-dovestat.conf"];
    assert_eq!(values(service, "ConditionPathExists"), config);
    assert_eq!(values("dovestat-bridge.path", "PathChanged"), config);
}

/// 169.254.169.254 gives a cloud's credentials away.
#[test]
fn the_service_reaches_no_link_local_address() {
    let allowed = values("dovestatd.service", "IPAddressAllow").join(" ");
    assert_eq!(values("dovestatd.service", "IPAddressDeny"), ["any"]);
    assert_eq!(
        allowed,
        "localhost 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7"
    );
}

/// The system calls of the sets, sets inside sets included, as
/// `systemd-analyze syscall-filter` prints them.
fn calls_of(sets: &str, analyzed: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut waiting: Vec<String> = sets.split(' ').map(str::to_owned).collect();
    while let Some(set) = waiting.pop() {
        let lines = analyzed.lines().skip_while(|line| *line != set).skip(1);
        let before = found.len();
        for line in lines
            .take_while(|line| line.starts_with(' '))
            .map(str::trim)
        {
            match line.chars().next() {
                Some('@') => waiting.push(line.to_owned()),
                Some('#') | None => {}
                Some(_) => drop(found.insert(line.to_owned())),
            }
        }
        assert!(found.len() > before || !waiting.is_empty(), "no set {set}");
    }
    found
}

/// The daemon does all it can do, with every system call that its unit forbids
/// failing as it would there, and uses no other call that is not allowed.
#[test]
fn the_daemon_lives_with_the_units_filter() {
    let test = "the_daemon_lives_with_the_units_filter";
    let Some(analyzed) = output(test, "systemd-analyze", &["syscall-filter", "--no-pager"]) else {
        return;
    };
    if Command::new("strace").arg("-V").output().is_err() {
        return lacking(test, "strace");
    }
    let (denied, allowed): (Vec<String>, Vec<String>) =
        values("dovestatd.service", "SystemCallFilter")
            .into_iter()
            .partition(|filter| filter.starts_with('~'));
    let analyzed = text(&analyzed.stdout);
    let denied = calls_of(&denied.join(" ").replace('~', ""), &analyzed);
    let allowed = &calls_of(&allowed.join(" "), &analyzed) - &denied;
    assert!(allowed.len() > 100 && denied.len() > 30);

    let dir = TempDir::new("filter");
    // Who the unit's user is does not matter, as long as it is not root.
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).expect("chmod");
    let config = dir.write(
        "dovestatd.conf",
        &format!(
            "base_dir = {0}/run\nstate_dir = {0}/run\nstats_carbon_server = localhost:1\nstats_carbon_interval = 1 s\n\
             service stats {{\n inet_listener {{\n address = 127.0.0.1\n port = {1}\n }}\n}}\n",
            dir.path().display(),
            crate::harness::free_port(),
        ),
    );
    let trace = dir.at("trace");
    let names: Vec<String> = denied.iter().map(|name| format!("?{name}")).collect();
    let inject = format!("inject={}:error=EPERM", names.join(","));
    let mut args = vec![
        "-f",
        "-o",
        &trace,
        "-e",
        &inject,
        "-e",
        "trace=all",
        program(),
        "-F",
        "-c",
        &config,
    ];
    let mut command = match is_root() {
        true => {
            let command = Command::new("setpriv");
            args.splice(
                0..0,
                ["--reuid=65534", "--regid=65534", "--clear-groups", "strace"],
            );
            command
        }
        false => Command::new("strace"),
    };
    let log = fs::File::create(dir.at("log")).expect("create the log");
    let mut strace = command
        .args(&args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("start strace");
    let log = || fs::read_to_string(dir.at("log")).unwrap_or_default();
    wait_until("the daemon serving", || {
        assert!(strace.try_wait().expect("its end").is_none(), "{}", log());
        Client::try_unix(&dir.at("run/stats")).is_some_and(|mut c| c.try_export("global").is_some())
    });
    Writer::open(&dir.at("run/stats-mail")).send_waiting(&connect("id1", "a@b", "imap", 1, "::1"));
    let mut client = Client::unix(&dir.at("run/stats"));
    wait_until("the session being counted", || {
        client.export("session").rows.len() == 1
    });
    wait_until("a report to carbon failing", || log().contains("carbon"));
    let traced = || fs::read_to_string(&trace).expect("the trace");
    let pid: u32 = traced()
        .split(' ')
        .next()
        .and_then(|pid| pid.parse().ok())
        .expect("its pid");
    for signal in [libc::SIGHUP, libc::SIGUSR1] {
        let lines = log().lines().count();
        send_signal(pid, signal);
        wait_until("the signal being answered", || {
            log().lines().count() > lines
        });
    }
    client.reset();
    send_signal(pid, libc::SIGTERM);
    let status = strace.wait().expect("its end");
    assert_eq!(status.code(), Some(0), "{}", log());
    // It missed nothing that is forbidden.
    for line in log().lines().filter(|line| line.contains("warning:")) {
        assert!(line.contains("carbon"), "{line}");
    }

    let traced = traced();
    let mut used = BTreeSet::new();
    for line in traced.lines() {
        // PID name(arguments) = result
        let call = line
            .split_once(' ')
            .map_or(line, |(_, call)| call.trim_start());
        if let Some((name, arguments)) = call.split_once('(') {
            if name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            {
                used.insert(name.to_owned());
                // MemoryDenyWriteExecute=
                let executable = arguments.contains("PROT_EXEC");
                assert!(
                    !executable || name != "mprotect" && !arguments.contains("PROT_WRITE"),
                    "{line}"
                );
            }
        }
    }
    assert!(used.len() > 20, "{used:?}");
    assert!(traced.contains("getent"), "no lookup was seen");
    let others: Vec<&String> = used
        .iter()
        .filter(|name| !allowed.contains(*name) && !denied.contains(*name))
        .collect();
    assert!(
        others.is_empty(),
        "neither allowed nor tried as forbidden: {others:?}"
    );
}
