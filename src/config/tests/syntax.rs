//! Lines, quotes, comments, sections, references and overrides.

use super::*;

/// What `stats_carbon_name = ` followed by `text` means.
#[track_caller]
fn value(text: &str) -> String {
    good(format!("stats_carbon_name = {text}\n")).carbon_name
}

#[test]
fn blanks_and_comments() {
    assert_eq!(good("").carbon_name, "");
    assert_eq!(good("\n  # only this\n\t\n"), untouched());
    assert_eq!(
        good("stats_carbon_name=x"),
        good("  stats_carbon_name   =\tx  \r\n")
    );
    assert_eq!(value("a # b"), "a");
    assert_eq!(value("a#b"), "a");
    assert_eq!(value("# a"), "");
    assert_eq!(value("a\\# b"), "a\\# b");
    assert_eq!(value("a = b { c }"), "a = b { c }");
}

#[test]
fn quotes() {
    assert_eq!(value("\"a # b\" # c"), "a # b");
    assert_eq!(value("'a \"b'"), "a \"b");
    assert_eq!(value(r#""a\"b\\c""#), r#"a"b\c"#);
    assert_eq!(value(r"'x\'y'"), "x'y");
    assert_eq!(value("\"  a  \""), "  a  ");
    assert_eq!(value("\"\""), "");
    assert_eq!(value("a \"x # y\" b"), "a \"x # y\" b");
    assert_eq!(value("Bob's # place"), "Bob's # place");
    for text in ["\"a", "\"a'", "\"a\" b", r#""a\""#, "\""] {
        let mistake =
            "main.conf:1: stats_carbon_name: a value that begins with a quote must end with it";
        assert_eq!(
            wrong(format!("stats_carbon_name = {text}")),
            mistake,
            "{text}"
        );
    }
}

#[test]
fn continuation() {
    assert_eq!(value("abc \\\n    def"), "abc def");
    assert_eq!(value("abc\\\ndef\\\r\n ghi"), "abc def ghi");
    assert_eq!(value("abc \\\n\nlog_path = stderr"), "abc");
    assert_eq!(value("abc # def \\\nlog_path = stderr"), "abc");
    assert_eq!(value("\"abc \\\n  # def\""), "abc # def");
    assert_eq!(value("abc \\"), "abc");
    assert_eq!(
        wrong("log_path = \\\n syslog\nx = 1\n"),
        "main.conf:3: unknown setting \"x\""
    );
}

#[test]
fn references() {
    let settings = good(
        "base_dir = /run/x\n\
         stats_memory_limit = 2048k\n\
         stats_carbon_name = a $base_dir\t$old_stats_memory_limit b$base_dir\n\
         stats_carbon_name = $stats_carbon_name $log_path\n",
    );
    assert_eq!(settings.carbon_name, "a /run/x\t2 M b$base_dir syslog");
    assert_eq!(value("\"$base_dir\""), "$base_dir");
    assert_eq!(
        wrong("log_path = $base_dir/x\n"),
        "main.conf:1: log_path: \"$base_dir/x\" is no setting outside sections \
         (quotes keep the $)"
    );
    let service = good("service stats {\n user = $default_internal_user\n}").service;
    assert_eq!(service.user, "dovecot");
    let service =
        good("default_internal_user = vmail\nservice stats {\n user = $default_internal_user\n}")
            .service;
    assert_eq!(service.user, "vmail");
    let doubling = "stats_carbon_name = $stats_carbon_name $stats_carbon_name\n".repeat(60);
    let mistakes = wrong(format!("stats_carbon_name = x\n{doubling}"));
    assert!(mistakes.starts_with("main.conf:13: stats_carbon_name: longer than 4096 bytes\n"));
}

#[test]
fn value_lengths() {
    for (length, fits) in [(4095, true), (4096, true), (4097, false)] {
        let text = format!("stats_carbon_name = {}", "x".repeat(length));
        assert_eq!(read(text).is_ok(), fits, "{length}");
    }
}

#[test]
fn sections() {
    let settings = good(
        "service stats {\n\
         client_limit = 5\n\
         fifo_listener stats-mail {\n mode = 0666\n }\n\
         }\n\
         service \"old-stats\" { # again\n\
         user = vmail\n\
         fifo_listener 'stats-mail'{\n user = vmail\n }\n\
         unix_listener \"a b\" {\n}\n\
         unix_listener /run/x{\n}\n\
         }",
    );
    assert_eq!(settings.service.client_limit, 5);
    assert_eq!(settings.service.user, "vmail");
    assert_eq!(settings.fifo_listeners.len(), 2);
    let mail = &settings.fifo_listeners[0];
    assert_eq!((mail.mode, mail.user.as_deref()), (0o666, Some("vmail")));
    let names: Vec<_> = settings
        .unix_listeners
        .iter()
        .map(|l| &*l.file.name)
        .collect();
    assert_eq!(names, ["stats", "a b", "/run/x"]);
    assert_eq!(settings.unix_listeners[1].file.mode, 0o600);
}

#[test]
fn inet_sections_without_name_are_several() {
    let settings = good(
        "service stats {\n\
         inet_listener {\nport = 1\n}\n\
         inet_listener \"\" {\nport = 2\n}\n\
         inet_listener x {\nport = 3\n}\n\
         inet_listener x {\nport = 4\naddress = ::1\n}\n\
         }",
    );
    let all: Vec<_> = settings
        .inet_listeners
        .iter()
        .map(|l| (l.name.as_deref(), l.port))
        .collect();
    assert_eq!(all, [(None, 1), (None, 2), (Some("x"), 4)]);
}

#[test]
fn the_last_value_wins() {
    assert_eq!(
        value("a\nstats_carbon_name = b\nold_stats_carbon_name = c"),
        "c"
    );
}

#[test]
fn overrides() {
    let dir = TempDir::new();
    dir.write("main.conf", "log_path = stderr\nstats_carbon_name = x\n");
    let settings = dir
        .load(&[
            "stats_carbon_name = \"a # b\"",
            "base_dir=/x",
            "stats_carbon_name=a # $base_dir",
            "service/stats/inet_listener/port=7",
            "service/stats/inet_listener/address=::1",
            "service/old-stats/inet_listener/web/port=8",
        ])
        .unwrap();
    assert_eq!(settings.log_path, LogPath::Stderr);
    assert_eq!(settings.carbon_name, "a # /x");
    assert_eq!(settings.inet_listeners.len(), 2);
    let inet = &settings.inet_listeners[0];
    assert_eq!((inet.port, inet.addresses.len()), (7, 1));
    let mistakes = dir.load(&[
        "log_path",
        "log=x",
        "service/imap/user=x",
        "service/stats=x",
        "plugin/x=y",
        "service/stats/fifo_listener/mode=0600",
        "=x",
        "service/stats/inet_listener/web/address=*",
        "log_path=\nx",
        "log_path=\"\nx\"",
    ]);
    let expected = "\
-o log_path: expected NAME=VALUE
-o log=x: unknown setting \"log\"
-o service/imap/user=x: unknown section service \"imap\" (of Dovecot's sections only service stats belongs here)
-o service/stats=x: unknown section service (of Dovecot's sections only service stats belongs here)
-o plugin/x=y: unknown section \"plugin\" (it belongs in dovecot.conf)
-o service/stats/fifo_listener/mode=0600: fifo_listener: its path is missing before {
-o =x: unknown setting \"\"
-o service/stats/inet_listener/web/address=*: inet_listener: a port is missing
-o log_path=\\nx: log_path: \"x\" is neither syslog nor stderr nor an absolute path
-o log_path=\"\\nx\": log_path: control character '\\n' in \"\\nx\"";
    assert_eq!(mistakes.unwrap_err(), expected);
}
