//! Every setting outside sections and its kind of value, at the limits.

use super::*;
use crate::store::Level;

#[test]
fn defaults_are_those_of_the_manual() {
    let s = untouched();
    assert_eq!(s.base_dir, Path::new("/run/dovestat"));
    assert_eq!(s.log_path, LogPath::Syslog);
    assert_eq!(
        (&s.pidfile, &s.state_dir),
        (&None, &crate::config::settings::StateDir::Auto)
    );
    assert_eq!(s.stats_state_interval_secs, 300);
    assert_eq!(s.stats_memory_limit_bytes, 16 << 20);
    assert_eq!(s.stats_min_time_secs[Level::Command as usize], 60);
    assert_eq!(s.stats_min_time_secs[Level::Session as usize], 15 * 60);
    assert_eq!(s.stats_min_time_secs[Level::User as usize], 3600);
    assert_eq!(s.stats_min_time_secs[Level::Domain as usize], 12 * 3600);
    assert_eq!(s.stats_min_time_secs[Level::Ip as usize], 12 * 3600);
    assert_eq!((s.carbon_server, s.carbon_name), (None, String::new()));
    assert_eq!(s.carbon_interval_secs, 30);
    assert_eq!(s.stats_slow_command_msecs, 0);
    assert_eq!(s.service.user, "dovestat");
    assert_eq!((s.service.group, s.service.chroot), (None, None));
    assert_eq!(s.service.client_limit, 1000);
    let fifos: Vec<_> = s
        .fifo_listeners
        .iter()
        .map(|l| (&*l.name, l.mode))
        .collect();
    assert_eq!(fifos, [("stats-mail", 0o200), ("stats-user", 0o200)]);
    assert_eq!(s.unix_listeners.len(), 1);
    let unix = &s.unix_listeners[0];
    assert_eq!((&*unix.file.name, unix.file.mode), ("stats", 0o600));
    let options = ListenerOptions {
        protocol: Protocol::Stats,
        reset: true,
        close_after_reply: false,
        column_order: ColumnOrder::V2_3,
        header_always: false,
    };
    assert_eq!(unix.options, options);
    assert!(s.inet_listeners.is_empty());
    let other = Defaults {
        base_dir: "/home/me/run".into(),
    };
    assert_eq!(Settings::new(&other).base_dir, Path::new("/home/me/run"));
    assert_eq!(table::TOP[0].default, defaults().base_dir.to_str());
}

#[test]
fn state_is_kept_beside_its_daemon() {
    let path = |content: &str| good(content).state_path().map(Path::to_path_buf);
    let system = Some(PathBuf::from("/var/lib/dovestat"));
    assert_eq!(path(""), system);
    assert_eq!(path("base_dir = /run/dovestat/\n"), system);
    assert_eq!(path("base_dir = /srv/mine\n"), Some("/srv/mine".into()));
    assert_eq!(path("state_dir = /srv/state\n"), Some("/srv/state".into()));
    assert_eq!(path("state_dir =\n"), None);
    assert_eq!(
        set("state_dir=here").unwrap_err(),
        "state_dir: \"here\" is not an absolute path"
    );
    assert_eq!(
        set("pidfile=here").unwrap_err(),
        "pidfile: \"here\" is not an absolute path"
    );
    let printed = good("state_dir =\npidfile = /run/d.pid\n").print(Shown::Changed, &defaults());
    assert_eq!(printed, "pidfile = /run/d.pid\nstate_dir = \n");
    assert_eq!(good(&printed).state_path(), None);
}

#[test]
fn sizes() {
    let size =
        |text: &str| set(&format!("stats_memory_limit={text}")).map(|s| s.stats_memory_limit_bytes);
    for (text, bytes) in [
        ("16 M", 16 << 20),
        ("16M", 16 << 20),
        ("16  m", 16 << 20),
        ("1 G", 1 << 30),
        ("1T", 1 << 40),
        ("300 k", 300 << 10),
        ("300 KB", 300 << 10),
        ("300 KiB", 300 << 10),
        ("262144", 256 << 10),
        ("262144 B", 256 << 10),
        ("262144b", 256 << 10),
        ("262145", (256 << 10) + 1),
        ("16777215 T", 16_777_215 << 40),
        ("18446744073709551614", u64::MAX - 1),
    ] {
        assert_eq!(size(text), Ok(bytes), "{text}");
    }
    assert_eq!(
        size("262143"),
        Err("stats_memory_limit: \"262143\" is too small: at least 256 K".into())
    );
    for text in [
        "16777216 T",
        "18446744073709551615",
        "99999999999999999999999",
    ] {
        let message = format!("stats_memory_limit: \"{text}\" is too large: below 16777216 T");
        assert_eq!(size(text), Err(message));
    }
    for text in [
        "",
        "M",
        "-1",
        "1.5 M",
        "16 Mx",
        "16 megs",
        "0x10",
        "unlimited",
        "16 BB",
        "1 iB",
    ] {
        let message =
            format!("stats_memory_limit: {text:?} is not a size: a number with B, K, M, G or T");
        assert_eq!(size(text), Err(message));
    }
}

#[test]
fn times() {
    let time = |text: &str| {
        set(&format!("stats_user_min_time={text}"))
            .map(|s| s.stats_min_time_secs[Level::User as usize])
    };
    for (text, secs) in [
        ("0", 0),
        ("0 s", 0),
        ("30s", 30),
        ("30 secs", 30),
        ("1 second", 1),
        ("1 m", 60),
        ("1 mi", 60),
        ("1 mins", 60),
        ("2 minutes", 120),
        ("1  H", 3600),
        ("12 hours", 43_200),
        ("2 days", 172_800),
        ("1 w", 604_800),
        ("1 wee", 604_800),
        ("4294967294 s", u32::MAX - 1),
        ("4294967295 s", u32::MAX),
    ] {
        assert_eq!(time(text), Ok(secs), "{text}");
    }
    for text in ["4294967296 s", "7102 weeks", "99999999999999999999 weeks"] {
        let message =
            format!("stats_user_min_time: \"{text}\" is too long: at most 4294967295 secs");
        assert_eq!(time(text), Err(message));
    }
    for text in ["500 ms", "500 msecs", "1 msec", "5000 milliseconds"] {
        let message = format!("stats_user_min_time: \"{text}\" is too fine: whole seconds only");
        assert_eq!(time(text), Err(message));
    }
    for text in [
        "",
        "5",
        "5 x",
        "1 month",
        "-5 s",
        "1.5 hours",
        "12 hoursx",
        "secs",
    ] {
        let message = format!(
            "stats_user_min_time: {text:?} is not a time: \
             a number with secs, mins, hours, days or weeks"
        );
        assert_eq!(time(text), Err(message));
    }
}

#[test]
fn the_time_of_slow_commands_may_be_finer() {
    let time = |text: &str| {
        let read = set(&format!("stats_slow_command_time={text}"))?;
        let other = set(&format!("old_stats_slow_command_time={text}"))?;
        assert_eq!(read, other);
        Ok(read.stats_slow_command_msecs)
    };
    for (text, msecs) in [
        ("0", 0),
        ("0 ms", 0),
        ("1 ms", 1),
        ("500 msecs", 500),
        ("1 MSEC", 1),
        ("5000 milliseconds", 5000),
        ("5 secs", 5000),
        ("1 m", 60_000),
        ("1 mi", 60_000),
        ("4294967295 msecs", u64::from(u32::MAX)),
        ("4294967295 secs", u64::from(u32::MAX) * 1000),
    ] {
        assert_eq!(time(text), Ok(msecs), "{text}");
    }
    let refused = |text: &str, why: &str| {
        let message = format!("stats_slow_command_time: {text:?} {why}");
        assert_eq!(time(text), Err(message));
    };
    for text in ["", "5", "-1 secs", "-1 ms", "1.5 secs", "5 usecs", "ms"] {
        let units = "a number with secs, mins, hours, days or weeks";
        refused(text, &format!("is not a time: {units}"));
    }
    refused("4294967296 ms", "is too long: at most 4294967295 msecs");
    refused("7102 weeks", "is too long: at most 4294967295 secs");
    for (text, printed) in [("1500 ms", "1500 msecs"), ("120000 ms", "2 mins")] {
        let settings = set(&format!("stats_slow_command_time={text}")).unwrap();
        let printed = format!("stats_slow_command_time = {printed}\n");
        assert_eq!(settings.print(Shown::Changed, &defaults()), printed);
    }
    assert!(!untouched().stats_slow_command_args);
    let with = |text: &str| set(&format!("stats_slow_command_args={text}"));
    assert!(with("yes").unwrap().stats_slow_command_args);
    assert!(with("maybe").is_err());
}

#[test]
fn every_time_is_its_own() {
    type Get = fn(&Settings) -> u32;
    let all: [(&str, Get); 6] = [
        ("stats_command_min_time", |s| {
            s.stats_min_time_secs[Level::Command as usize]
        }),
        ("stats_session_min_time", |s| {
            s.stats_min_time_secs[Level::Session as usize]
        }),
        ("stats_user_min_time", |s| {
            s.stats_min_time_secs[Level::User as usize]
        }),
        ("stats_domain_min_time", |s| {
            s.stats_min_time_secs[Level::Domain as usize]
        }),
        ("stats_ip_min_time", |s| {
            s.stats_min_time_secs[Level::Ip as usize]
        }),
        ("stats_carbon_interval", |s| s.carbon_interval_secs),
    ];
    for (name, get) in all {
        for name in [name.to_owned(), format!("old_{name}")] {
            assert_eq!(get(&set(&format!("{name}=77 secs")).unwrap()), 77);
        }
        let unchanged = set(&format!("{name}=77 secs")).unwrap();
        for (_, other) in all.iter().filter(|(other, _)| *other != name) {
            assert_eq!(other(&unchanged), other(&untouched()));
        }
    }
    assert_eq!(
        set("stats_carbon_interval=1s")
            .unwrap()
            .carbon_interval_secs,
        1
    );
    assert_eq!(
        set("stats_carbon_interval=0"),
        Err("stats_carbon_interval: \"0\" is too short: at least 1 secs".into())
    );
}

#[test]
fn paths_and_texts() {
    assert_eq!(set("base_dir=/x").unwrap().base_dir, Path::new("/x"));
    for text in ["", "x/y"] {
        let message = format!("base_dir: {text:?} is not an absolute path");
        assert_eq!(set(&format!("base_dir={text}")), Err(message));
    }
    let log = |text: &str| set(&format!("log_path={text}")).map(|s| s.log_path);
    assert_eq!(log("syslog"), Ok(LogPath::Syslog));
    assert_eq!(log("stderr"), Ok(LogPath::Stderr));
    assert_eq!(log("/dev/stderr"), Ok(LogPath::Stderr));
    assert_eq!(
        log("/var/log/x y"),
        Ok(LogPath::File("/var/log/x y".into()))
    );
    assert_eq!(
        log("x.log"),
        Err("log_path: \"x.log\" is neither syslog nor stderr nor an absolute path".into())
    );
    assert_eq!(set("stats_carbon_name=mx 1").unwrap().carbon_name, "mx 1");
}

#[test]
fn carbon_server() {
    let server = |text: &str| {
        set(&format!("stats_carbon_server={text}")).map(|s| {
            let server = s.carbon_server?;
            Some((server.host.clone(), server.port, server.to_string()))
        })
    };
    assert_eq!(server(""), Ok(None));
    for (text, host, port, printed) in [
        ("10.0.0.1", "10.0.0.1", 2003, "10.0.0.1:2003"),
        (
            "mx-1.example.org",
            "mx-1.example.org",
            2003,
            "mx-1.example.org:2003",
        ),
        ("carbon.:1", "carbon.", 1, "carbon.:1"),
        ("localhost:65535", "localhost", 65535, "localhost:65535"),
        ("::1", "::1", 2003, "[::1]:2003"),
        ("[::1]", "::1", 2003, "[::1]:2003"),
        (
            "[2001:db8::2]:2004",
            "2001:db8::2",
            2004,
            "[2001:db8::2]:2004",
        ),
        ("fe80::1%eth0", "fe80::1%eth0", 2003, "[fe80::1%eth0]:2003"),
    ] {
        assert_eq!(
            server(text),
            Ok(Some((host.into(), port, printed.into()))),
            "{text}"
        );
    }
    for text in [
        "host:0",
        "host:65536",
        "host:",
        "host:x",
        "[::1]2003",
        "[::1]:0",
        "host:1:2",
    ] {
        let message =
            format!("stats_carbon_server: \"{text}\" does not end in a port from 1 to 65535");
        assert_eq!(server(text), Err(message));
    }
    for text in ["[::1", "[10.0.0.1]", "[]:2003", "[fe80::1%]"] {
        let message = format!("stats_carbon_server: \"{text}\" is not an IPv6 address in []");
        assert_eq!(server(text), Err(message));
    }
    let label = "a".repeat(64);
    for text in [
        "300.1.1.1",
        "1.2.3",
        "-a.b",
        "a-.b",
        "a..b",
        "a b",
        "ä",
        ".",
        &label,
    ] {
        let message =
            format!("stats_carbon_server: {text:?} is neither an IP address nor a host name");
        assert!(
            server(text).unwrap_err().starts_with(&message[..30]),
            "{text}"
        );
    }
    assert!(server(&label[1..]).is_ok());
}

#[test]
fn carbon_levels_and_limit() {
    let levels =
        |text: &str| set(&format!("old_stats_carbon_levels={text}")).map(|s| s.carbon_levels);
    assert_eq!(levels("global"), Ok(vec![crate::store::Level::Global]));
    assert_eq!(
        levels("user,domain  user"),
        Ok(vec![crate::store::Level::User, crate::store::Level::Domain])
    );
    assert_eq!(
        levels("cmd, service"),
        Ok(vec![crate::store::Level::Cmd, crate::store::Level::Service])
    );
    assert_eq!(levels(""), Ok(vec![]));
    assert_eq!(
        levels("global session"),
        Err(
            "old_stats_carbon_levels: \"session\" is not one of global, domain, user, ip, service \
             and cmd"
                .into()
        )
    );
    for (text, limit) in [
        ("1", Some(1)),
        ("10000", Some(10_000)),
        ("0", None),
        ("10001", None),
    ] {
        let read = set(&format!("stats_carbon_limit={text}")).map(|s| s.carbon_limit);
        assert_eq!(read.ok(), limit, "{text}");
        let read = set(&format!("old_stats_metrics_limit={text}")).map(|s| s.metrics_limit);
        assert_eq!(read.ok(), limit, "{text}");
    }
    let metrics = set("stats_metrics_levels=ip global").map(|s| s.metrics_levels);
    assert_eq!(
        metrics,
        Ok(vec![crate::store::Level::Ip, crate::store::Level::Global])
    );
}
