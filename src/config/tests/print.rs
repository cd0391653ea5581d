//! What is printed is read back.

use super::*;

/// A configuration without a single default left.
const EVERYTHING: &str = r#"
base_dir = "/run/x # y"
log_path = '/var/log/a"b\\c'
stats_memory_limit = 262145
stats_command_min_time = 0
stats_session_min_time = 61 s
stats_user_min_time = 7 days
stats_domain_min_time = 36 hours
stats_ip_min_time = 4294967295 s
stats_carbon_server = [2001:db8::1]:2004
pidfile = /run/x/pid
state_dir = "/var/x y"
stats_state_interval = 7 mins
stats_carbon_name = "  $base_dir <x  "
stats_carbon_interval = 1 s
stats_carbon_levels = user, ip global user
stats_carbon_limit = 10000
stats_metrics_levels = domain
stats_slow_command_time = 250 msecs
stats_slow_command_args = yes
stats_metrics_limit = 1
service stats {
  user = vmail
  group = mail
  chroot = empty
  client_limit = 4294967295
  fifo_listener stats-mail {
    mode = 0
  }
  fifo_listener stats-user {
    user = vmail
    group = "a b"
    mode = 07777
  }
  fifo_listener "it's {" {
  }
  unix_listener stats {
    mode = 0660
    reset = no
    close_after_reply = yes
    column_order = 2.2
    header_always = yes
  }
  unix_listener /run/y/stats {
  }
  inet_listener {
    port = 0
  }
  inet_listener {
    port = 24242
    address = * :: 127.0.0.1 localhost
    allow_nets = 192.0.2.0/24, ::ffff:10.0.0.0/104 2001:db8::/32 127.0.0.1
    reset = yes
  }
  inet_listener "web \"1\"" {
    port = 9166
    protocol = http
    server_names = mail.example.org, stats.example.org.
    close_after_reply = yes
  }
  inet_listener {
    port = 80
    column_order = 2.2
    header_always = yes
  }
}
"#;

/// Checks that both listings of `settings` are read back.
#[track_caller]
fn round_trip(settings: &Settings) {
    for shown in [Shown::Changed, Shown::All] {
        let text = settings.print(shown, &defaults());
        assert_eq!(&good(&text), settings, "{text}");
        assert_eq!(good(&text).print(shown, &defaults()), text);
    }
}

#[test]
fn round_trips() {
    round_trip(&untouched());
    round_trip(&good(EVERYTHING));
    for line in EVERYTHING.lines().filter(|line| line.starts_with("stats")) {
        round_trip(&good(line));
    }
    round_trip(&good("service stats {\nunix_listener new {\n}\n}"));
}

#[test]
fn everything_is_in_everything() {
    let (changed, plain) = (good(EVERYTHING), untouched());
    let text = |settings: &Settings| settings.print(Shown::All, &defaults());
    let count = |text: &str, name: &str| {
        let is = |line: &&str| line.trim_start().split(" = ").next() == Some(name);
        text.lines().filter(is).count()
    };
    for row in table::TOP {
        assert_ne!((row.get)(&changed), (row.get)(&plain), "{}", row.name);
        assert_eq!(count(&text(&plain), row.name), 1, "{}", row.name);
    }
    for row in table::SERVICE {
        assert_ne!(
            (row.get)(&changed.service),
            (row.get)(&plain.service),
            "{}",
            row.name
        );
    }
    assert_eq!(count(&text(&plain), "mode"), 3);
    assert_eq!(count(&text(&plain), "reset"), 1);
    assert_eq!(count(&text(&changed), "reset"), 6);
}

#[test]
fn what_needs_a_restart_stays_and_all_else_follows() {
    let (old, new) = (untouched(), good(EVERYTHING));
    let mut settings = old.clone();
    let kept = settings.follow(&new);
    let expected = [
        "base_dir",
        "log_path",
        "pidfile",
        "state_dir",
        "stats_memory_limit",
        "user",
        "group",
        "chroot",
    ];
    assert_eq!(kept, expected);
    for row in table::TOP {
        let right = if kept.contains(&row.name) { &old } else { &new };
        assert_eq!((row.get)(&settings), (row.get)(right), "{}", row.name);
    }
    for row in table::SERVICE {
        let right = if kept.contains(&row.name) { &old } else { &new };
        let value = (row.get)(&settings.service);
        assert_eq!(value, (row.get)(&right.service), "{}", row.name);
    }
    assert_eq!(settings.unix_listeners, old.unix_listeners);
}

#[test]
fn sections_differ_only_in_what_needs_a_restart() {
    let section = |lines: &str| {
        good(format!(
            "service stats {{\ninet_listener {{\nport = 80\n{lines}\n}}\n}}"
        ))
        .fixed_listeners()
    };
    let plain = section("");
    for line in [
        "allow_nets = 127.0.0.1",
        "server_names = a",
        "protocol = http",
        "reset = yes",
        "close_after_reply = yes",
        "column_order = 2.2",
        "header_always = yes",
    ] {
        assert_eq!(section(line), plain, "{line}");
    }
    for line in ["address = 127.0.0.1", "port = 81"] {
        assert_ne!(section(line), plain, "{line}");
    }
}

#[test]
fn only_the_changes() {
    let print = |settings: &Settings| settings.print(Shown::Changed, &defaults());
    assert_eq!(print(&untouched()), "");
    let settings = good(
        "stats_memory_limit = 1024k\nstats_user_min_time = 60 min\nservice old-stats {\n\
         fifo_listener stats-mail {\nmode = 666\n}\ninet_listener {\nport = 0\n}\n}\n",
    );
    let expected = "\
stats_memory_limit = 1 M
service stats {
  fifo_listener stats-mail {
    mode = 0666
  }
  inet_listener {
    port = 0
  }
}
";
    assert_eq!(print(&settings), expected);
    let own = Defaults {
        base_dir: "/home/me".into(),
    };
    assert_eq!(Settings::new(&own).print(Shown::Changed, &own), "");
    let moved = "base_dir = /home/me\n";
    assert_eq!(
        Settings::new(&own).print(Shown::Changed, &defaults()),
        moved
    );
}

#[test]
fn everything_looks_like_this() {
    let expected = "\
base_dir = /run/dovestat
log_path = syslog
pidfile = 
state_dir = auto
stats_state_interval = 5 mins
stats_memory_limit = 16 M
stats_command_min_time = 1 mins
stats_session_min_time = 15 mins
stats_user_min_time = 1 hours
stats_domain_min_time = 12 hours
stats_ip_min_time = 12 hours
stats_slow_command_time = 0 secs
stats_slow_command_args = no
stats_carbon_server = 
stats_carbon_name = 
stats_carbon_interval = 30 secs
stats_carbon_levels = global
stats_carbon_limit = 100
stats_metrics_levels = global
stats_metrics_limit = 100
service stats {
  user = dovestat
  group = 
  chroot = 
  client_limit = 1000
  fifo_listener stats-mail {
    user = 
    group = 
    mode = 0200
  }
  fifo_listener stats-user {
    user = 
    group = 
    mode = 0200
  }
  unix_listener stats {
    user = 
    group = 
    mode = 0600
    protocol = stats
    reset = yes
    close_after_reply = no
    column_order = 2.3
    header_always = no
  }
}
";
    assert_eq!(untouched().print(Shown::All, &defaults()), expected);
}

#[test]
fn the_table_is_tidy() {
    fn check<T>(rows: &[table::Setting<T>]) {
        for row in rows {
            assert!(row
                .name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b == b'_'));
            assert!(
                !row.about.is_empty() && !row.about.ends_with('.'),
                "{}",
                row.name
            );
        }
        let mut names: Vec<_> = rows.iter().map(|row| row.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), rows.len());
    }
    check(table::TOP);
    check(table::SERVICE);
    check(table::FILE);
    check(table::INET);
    check(table::OPTIONS);
}
