use super::*;

fn task(args: &[&str]) -> Result<Task, Fatal> {
    parse(args.iter().map(OsString::from))
}

fn dump(args: &[&str]) -> DumpOptions {
    match task(args) {
        Ok(Task::Dump(options)) => options,
        other => panic!("{args:?}: {other:?}"),
    }
}

fn top(args: &[&str]) -> TopOptions {
    match task(args) {
        Ok(Task::Top(options)) => options,
        other => panic!("{args:?}: {other:?}"),
    }
}

#[test]
fn times_are_decimal_seconds() {
    for (text, millis) in [
        ("2", 2000),
        ("0.5", 500),
        (".25", 250),
        ("1.", 1000),
        ("0.0010", 1),
        ("4294967295", 4_294_967_295_000),
    ] {
        assert_eq!(seconds(text), Some(Duration::from_millis(millis)), "{text}");
    }
    assert_eq!(seconds("0.0000000019"), Some(Duration::from_nanos(1)));
    for text in [
        "",
        ".",
        "0",
        "0.0",
        "-1",
        "+1",
        "1e3",
        "1.2.3",
        "1,5",
        "inf",
        "NaN",
        "4294967296",
    ] {
        assert_eq!(seconds(text), None, "{text}");
    }
}

#[test]
fn doveadms_order_and_words_mean_the_same() {
    for args in [
        &[
            "-s",
            "/x",
            "-f",
            "json",
            "dump",
            "session",
            "user=a",
            "connected",
        ][..],
        &[
            "dump",
            "session",
            "user=a",
            "connected",
            "-s",
            "/x",
            "-f",
            "json",
        ],
        &[
            "-f",
            "json",
            "stats",
            "dump",
            "-s",
            "/x",
            "session",
            "user=a",
            "connected",
        ],
        &[
            "-Dv",
            "-fjson",
            "oldstats",
            "dump",
            "-s/x",
            "session",
            "user=a\tconnected",
        ],
    ] {
        let options = dump(args);
        assert_eq!(options.servers, [Address::Unix("/x".into())]);
        assert_eq!(options.format, Format::Json);
        let Source::Servers(level, filters) = options.source else {
            panic!("{args:?}");
        };
        assert_eq!(level, Level::Session);
        assert_eq!(filters, [&b"user=a"[..], b"connected"]);
    }
}

#[test]
fn dump_has_its_options() {
    let options = dump(&[
        "dump",
        "user",
        "--fields",
        "user,cpu",
        "--sort",
        "-disk_input",
        "--limit=3",
        "--watch",
        "0.5",
        "-s",
        "a:1",
        "-s",
        "/b",
    ]);
    assert_eq!(options.fields.unwrap(), ["user", "cpu"]);
    assert_eq!(options.sort.unwrap(), "-disk_input");
    assert_eq!(options.limit, Some(3));
    assert_eq!(options.watch, Some(Duration::from_millis(500)));
    assert_eq!(options.servers.len(), 2);
    let options = dump(&[
        "-c",
        "/etc/dovecot/dovecot.conf",
        "dump",
        "Users",
        "service=imap",
    ]);
    let Source::Servers(Level::User, filters) = options.source else {
        panic!("{options:?}");
    };
    assert_eq!(filters, [b"service=imap"]);
    let options = dump(&["dump", "--diff", "a", "user"]);
    assert!(matches!(options.source, Source::Servers(Level::User, _)));
    assert_eq!(options.since, Some("a".into()));
    let options = dump(&["dump", "--diff", "a", "./user"]);
    assert!(matches!(options.source, Source::File(_)));
}

#[test]
fn top_has_its_options() {
    let options = top(&["top"]);
    assert!(!options.bytes && !options.batch && options.format.is_none());
    assert_eq!(
        (options.frames, options.delay),
        (None, Duration::from_secs(1))
    );
    assert_eq!((options.sort, options.level), (None, None));
    let options = top(&[
        "stats",
        "top",
        "-b",
        "-B",
        "-n2",
        "-d",
        ".5",
        "-l",
        "domain",
        "user=*a",
        "cpu",
        "connected",
    ]);
    assert!(options.bytes && options.batch);
    assert_eq!(
        (options.frames, options.delay),
        (Some(2), Duration::from_millis(500))
    );
    assert_eq!(options.sort.unwrap(), "cpu");
    assert_eq!(options.level, Some(Level::Domain));
    assert_eq!(options.filters, [&b"user=*a"[..], b"connected"]);
}

fn run(args: &[&str]) -> RunOptions {
    match task(args) {
        Ok(Task::Run(options)) => options,
        other => panic!("{args:?}: {other:?}"),
    }
}

#[test]
fn run_leaves_the_program_its_own_options() {
    for args in [
        &["run", "-u", "bob", "cat", "-u", "eve", "--", "-h", "run"][..],
        &[
            "run", "-u", "bob", "--", "cat", "-u", "eve", "--", "-h", "run",
        ],
        &[
            "-u", "bob", "stats", "run", "cat", "-u", "eve", "--", "-h", "run",
        ],
    ] {
        let options = run(args);
        assert_eq!(options.user.as_deref(), Some(&b"bob"[..]));
        assert_eq!(options.program, "cat");
        assert_eq!(options.args, ["-u", "eve", "--", "-h", "run"]);
        assert_eq!(options.every, Duration::from_secs(30));
    }
    let options = run(&[
        "run",
        "-S",
        "mda",
        "-r",
        "::1",
        "-i",
        "2.5",
        "--fifo=/f",
        "--",
        "-x",
    ]);
    assert_eq!(options.service.as_deref(), Some(&b"mda"[..]));
    assert_eq!(options.ip, "::1".parse().ok());
    assert_eq!(options.every, Duration::from_millis(2500));
    assert_eq!(options.fifo, Some("/f".into()));
    assert_eq!((options.program, options.args.len()), ("-x".into(), 0));
    for (given, every) in [("0.01", 100), ("1000", 300_000)] {
        let every = Duration::from_millis(every);
        assert_eq!(run(&["run", "-i", given, "x"]).every, every);
    }
    use std::os::unix::ffi::OsStringExt;
    let odd = OsString::from_vec(b"\xff\xfe".to_vec());
    let args = ["run".into(), "cat".into(), odd.clone()];
    match parse(args.into_iter()) {
        Ok(Task::Run(options)) => assert_eq!(options.args, [odd]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn run_leaves_out_what_it_cannot_use() {
    for (args, what) in [
        (
            ["run", "-r", "unknown", "true"],
            "-r \"unknown\" is not an address",
        ),
        (["run", "-r", "", "true"], "-r \"\" is not an address"),
        (
            ["run", "-r", "fe80::1%lo", "true"],
            "-r \"fe80::1%lo\" is not",
        ),
        (["run", "-u", "", "true"], "-u \"\" is empty"),
        (["run", "-S", "", "true"], "-S \"\" is empty"),
        (["run", "-i", "0", "true"], "-i \"0\" is not an interval"),
    ] {
        let options = run(&args);
        assert_eq!(options.left_out.len(), 1, "{args:?}");
        assert!(options.left_out[0].contains(what), "{:?}", options.left_out);
        assert_eq!(
            (options.user, options.service, options.ip),
            (None, None, None)
        );
        assert_eq!(options.every, RUN_EVERY);
        assert_eq!(options.program, "true");
    }
}

#[test]
fn help_is_of_a_command_or_of_all() {
    let printed = |args: &[&str]| match task(args) {
        Ok(Task::Print(text)) => text,
        other => panic!("{args:?}: {other:?}"),
    };
    assert_eq!(printed(&["help"]), printed(&["--help"]));
    assert_eq!(printed(&["version"]), printed(&["-V"]));
    for command in ["dump", "top", "reset", "run", "check", "demo"] {
        let own = printed(&[command, "--help"]);
        assert_eq!(printed(&["help", command]), own);
        assert_eq!(printed(&["-h", "stats", command]), own);
        assert!(own.starts_with("usage: dovestat ") && own != printed(&["help"]));
    }
    assert!(matches!(task(&[]), Err(Fatal::Bare)));
    assert_eq!(run(&["run", "--", "x", "--help"]).args, ["--help"]);
}

#[test]
fn what_is_wrong_is_64() {
    for args in [
        &[][..],
        &["stats"],
        &["who"],
        &["stats", "stats", "dump", "user"],
        &["dump"],
        &["dump", "people"],
        &["dump", "user", "servic=pop3"],
        &["dump", "user", "ip=10.0.0.0/33"],
        &["dump", "user", "since=someday"],
        &["dump", "user", "conected"],
        &["top", "servic=pop3"],
        &["dump", "user", "-n", "3"],
        &["dump", "user", "--watch", "0"],
        &["dump", "user", "--watch", "-1"],
        &["dump", "user", "--watch", "inf"],
        &["dump", "user", "--limit", "-1"],
        &["dump", "user", "-f", "xml"],
        &["dump", "--diff", "a", "b", "c"],
        &["top", "cpu", "disk"],
        &["top", "-l", "all"],
        &["top", "--fields", "user"],
        &["reset", "now"],
        &["run"],
        &["run", "--"],
        &["run", "-u"],
        &["run", "-n", "3", "true"],
        &["run", "-s", "/x", "true"],
        &["-f", "csv", "run", "true"],
        &["demo", "cpu", "disk"],
        &["demo", "-u", "bob"],
        &["demo", "-s", "/x"],
        &["--completion", "tcsh"],
        &["--nothing"],
        &["-s"],
    ] {
        assert_eq!(task(args).map(|_| ()).unwrap_err().code(), 64, "{args:?}");
    }
}
