//! Mistakes: all of them, in order, at the right lines, and never a panic.

use super::*;

#[test]
fn all_at_once_in_order() {
    let text = "\
stats_memory_limit = 100 K
stats_memory_limits = 1 M
service stats {
  inet_listener web {
    address = ::1
  }
  user = a # fine
  usr = b
  mode = 0600
  metric x {
    inner = ignored
  }
  fifo_listener stats {
    mode = 0622
    port = 5
    reset = yes
  }
  unix_listener {
    mode = bad
  }
  log_path = syslog
}
client_limit = 5
protocol imap {
  mail_plugins = $mail_plugins imap_stats
}
service statz {
}
plugin {
  stats_refresh = 30 secs
}
}
services stats {
}
service stats {
  user = x
  inet_listner {
  }
  unix_listener stats {
    ssl = no
    inner {
      deep {
      }
    }
  }
  inet_listener tls {
    port = 1
    ssl = yes
    haproxy = maybe
";
    let expected = "\
1: stats_memory_limit: \"100 K\" is too small: at least 256 K
2: unknown setting \"stats_memory_limits\" (did you mean stats_memory_limit?)
4: inet_listener: a port is missing
8: unknown setting \"usr\" (did you mean user?)
9: unknown setting \"mode\" (it belongs in a listener's section)
10: unknown section \"metric\"
15: unknown setting \"port\" (it belongs in a listener's section)
16: unknown setting \"reset\" (it belongs in a listener's section)
18: unix_listener: its path is missing before {
21: unknown setting \"log_path\" (it belongs outside sections)
23: unknown setting \"client_limit\" (it belongs in service stats)
24: unknown section \"protocol\" (it belongs in dovecot.conf)
27: unknown section service \"statz\" (did you mean stats?)
29: unknown section \"plugin\" (it belongs in dovecot.conf)
32: this } closes no section
33: unknown section \"services\" (did you mean service?)
35: this section has no closing }
37: unknown section \"inet_listner\" (did you mean inet_listener?)
39: two listeners have the path \"/run/dovestat/stats\"
40: unknown setting \"ssl\"
41: unknown section \"inner\"
46: this section has no closing }
48: ssl: is not supported, only no is
49: haproxy: \"maybe\" is neither yes nor no";
    let found = wrong(text).replace("main.conf:", "");
    assert_eq!(found, expected);
}

/// No message says that what it is about does not belong and does.
#[test]
fn a_service_inside_another_is_a_brace_that_is_missing() {
    let text = "service stats {\nuser = x\nservice stats {\nuser = y\n}\nservice Stats {\n}\n";
    let expected = "\
1: this section has no closing }
3: unknown section \"service\" (inside service stats: does a section before it have no closing }?)
6: unknown section \"service\" (inside service stats: does a section before it have no closing }?)";
    assert_eq!(wrong(text).replace("main.conf:", ""), expected);
    assert_eq!(
        wrong("service Stats {\n}\n"),
        "main.conf:1: unknown section service whose name has other characters than a-z, 0-9, - \
         and _ (did you mean stats?)"
    );
}

#[test]
fn broken_lines_leave_the_braces_paired() {
    let text = "\
nonsense
nonsense here
= 5
service stats
{
  user = unseen
}
service stats { user = x }
service stats { user = y
  usr = z
} trailing
{
}
service a b {
}
service \"a {
}
!incl x
!include
!include \"x
stats_carbon_name = \u{1}
base_dir\u{1b} = /x
service stats {
  fifo_listener \"a\u{1}\" {
  }
  inet_listener \"a\u{1}\" {
  }
}
";
    let expected = "\
1: expected NAME = VALUE or SECTION {
2: expected NAME = VALUE or SECTION {
3: there is no name before =
4: expected NAME = VALUE or SECTION {
5: { must be on the line of its section, after the name
8: nothing may follow { on its line: each setting and } has its own
9: nothing may follow { on its line
10: unknown setting \"usr\" (did you mean user?)
11: nothing may follow } on its line
12: { must be on the line of its section, after the name
14: expected { after the section's name (a name with blanks needs quotes)
16: the closing quote is missing
18: expected !include or !include_try
19: !include needs a file name
20: a value that begins with a quote must end with it
21: stats_carbon_name: control character '\\u{1}' in \"\\u{1}\"
22: unknown setting whose name has other characters than a-z, 0-9, - and _ (did you mean base_dir?)
24: fifo_listener: control character '\\u{1}' in \"a\\u{1}\"
26: inet_listener: control character '\\u{1}' in \"a\\u{1}\"";
    let found = wrong(text).replace("main.conf:", "");
    assert_eq!(found, expected);
}

#[test]
fn bytes_that_are_not_utf8() {
    assert!(read(b"# J\xfcrgen\nlog_path = stderr # \xe4\n").is_ok());
    assert!(read("stats_carbon_name = \u{fffd}\n").is_ok());
    assert_eq!(
        wrong(b"log_path = stderr\nstats_carbon_name = \xfc\n"),
        "main.conf:2: not UTF-8 text"
    );
    assert_eq!(
        wrong(b"log_path \xff\xfe\n\x00 = 1\n"),
        "main.conf:1: not UTF-8 text\n\
         main.conf:1: expected NAME = VALUE or SECTION {\n\
         main.conf:2: unknown setting whose name has other characters than a-z, 0-9, - and _"
    );
}

#[test]
fn listeners_on_one_path() {
    let both = |fifo: &str, unix: &str| {
        read(format!(
            "service stats {{\nfifo_listener {fifo} {{\n}}\nunix_listener {unix} {{\n}}\n}}"
        ))
    };
    let message = |line, path| {
        Err(format!(
            "main.conf:{line}: two listeners have the path \"/run/dovestat/{path}\""
        ))
    };
    assert!(both("x", "y").is_ok());
    assert_eq!(both("x", "x"), message(4, "x"));
    assert_eq!(both("x", "/run/dovestat/x"), message(4, "x"));
    assert!(both("x", "/run//dovestat/./x").is_err());
    assert_eq!(both("stats", "y"), message(2, "stats"));
    assert_eq!(both("y", "stats-mail"), message(4, "stats-mail"));
    let off = "service stats {\nfifo_listener stats {\n}\nunix_listener stats {\nmode = 0\n}\n}";
    assert!(read(off).is_ok());
}

#[test]
fn paths_of_the_daemons_own_files() {
    let fifo = |top: &str, fifo: &str| {
        read(format!(
            "{top}\nservice stats {{\nfifo_listener {fifo} {{\n}}\n}}"
        ))
    };
    let own = "base_dir = /b\nlog_path = /b/log\npidfile = /p\n";
    for (path, setting) in [
        (".lock", "base_dir"),
        ("state", "state_dir"),
        ("/b//state", "state_dir"),
        ("./state.new", "state_dir"),
        ("state.bad", "state_dir"),
        ("state.probe", "state_dir"),
        (".state.lock", "state_dir"),
        ("/p", "pidfile"),
        ("log", "log_path"),
    ] {
        let name = path.rsplit('/').next().unwrap();
        let shown = if path == "/p" {
            path.to_owned()
        } else {
            format!("/b/{name}")
        };
        assert_eq!(
            fifo(own, path),
            Err(format!(
                "main.conf:6: a listener has the path \"{shown}\", where the daemon keeps a \
                 file of its own ({setting}): give one of them another path"
            ))
        );
    }
    let elsewhere = format!("{own}state_dir = /s");
    assert!(fifo(&elsewhere, "state").is_ok());
    assert!(fifo(&elsewhere, "/s/state").is_err());
    assert!(fifo(&format!("{own}state_dir ="), "state").is_ok());
    let off = "service stats {\nfifo_listener state {\nmode = 0\n}\n}";
    assert!(read(format!("{own}{off}")).is_ok());
    // A default listener, and two settings.
    assert_eq!(
        read("base_dir = /b\npidfile = /b/stats").unwrap_err(),
        "main.conf:2: a listener has the path \"/b/stats\", where the daemon keeps a file of its \
         own (pidfile): give one of them another path"
    );
    assert_eq!(
        read("pidfile = /x\nlog_path = //x").unwrap_err(),
        "main.conf:2: \"//x\" is needed for pidfile as well: give one of them another path"
    );
}

/// The next number of the sequence that `state` began (SplitMix64).
fn random(state: &mut u64) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as usize
}

#[test]
fn garbage_never_panics() {
    const PIECES: [&[u8]; 40] = [
        b"\n",
        b"\n",
        b"\n",
        b"}\n",
        b" {\n",
        b"{",
        b"}",
        b" = ",
        b"=",
        b"#",
        b"\\\n",
        b"\\",
        b"\"",
        b"'",
        b"$",
        b"<",
        b"!include ",
        b"!include_try ",
        b"*",
        b"[a-",
        b"main.conf",
        b"service ",
        b"stats",
        b"service stats {\n",
        b"fifo_listener x {\n",
        b"unix_listener ",
        b"inet_listener {\n",
        b"port = 5\n",
        b"mode = 0666\n",
        b"reset = yes\n",
        b"old_stats_memory_limit = ",
        b"16 M",
        b"stats_carbon_server = ",
        b"[::1]:2003",
        b"$base_dir ",
        b"log_path = ",
        b"\xff",
        b"\0",
        "ü".as_bytes(),
        b"0",
    ];
    let dir = TempDir::new();
    for seed in 0..1500 {
        println!("seed {seed}");
        let mut state = seed;
        let mut text = Vec::new();
        for _ in 0..random(&mut state) % 40 {
            match random(&mut state) % 12 {
                0 => text.push(random(&mut state) as u8),
                _ => text.extend_from_slice(PIECES[random(&mut state) % PIECES.len()]),
            }
        }
        dir.write("main.conf", &text);
        let overriding = String::from_utf8_lossy(&text);
        let _ = dir.load(&[&overriding]).map_err(|mistakes| {
            assert!(!mistakes.is_empty());
        });
        if let Ok(settings) = dir.load(&[]) {
            let printed = settings.print(Shown::Changed, &defaults());
            assert_eq!(good(printed), settings);
        }
    }
}
