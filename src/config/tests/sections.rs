//! Every setting of the sections and its kind of value, at the limits.

use super::*;

/// The UNIX socket `stats` after `setting` was given there.
#[track_caller]
fn unix(setting: &str) -> UnixListener {
    let settings = set(&format!("service/stats/unix_listener/stats/{setting}")).unwrap();
    assert_eq!(settings.unix_listeners.len(), 1);
    settings.unix_listeners[0].clone()
}

#[test]
fn service() {
    let service = |text: &str| set(&format!("service/stats/{text}")).map(|s| s.service);
    let user = service("user=vmail").unwrap();
    assert_eq!(user.user, "vmail");
    assert_eq!(service("user="), Ok(untouched().service));
    assert_eq!(service("group=mail").unwrap().group, Some("mail".into()));
    assert_eq!(service("group=").unwrap().group, None);
    let base = Path::new("/run/dovestat");
    let chroot = service("chroot=empty").unwrap().chroot_in(base);
    assert_eq!(chroot, Some("/run/dovestat/empty".into()));
    let chroot = service("chroot=/jail").unwrap().chroot_in(base);
    assert_eq!(chroot, Some("/jail".into()));
    assert_eq!(service("chroot=").unwrap().chroot_in(base), None);
    for (text, limit) in [
        ("0", 1000),
        ("1", 1),
        ("4294967294", u32::MAX - 1),
        ("4294967295", u32::MAX),
    ] {
        assert_eq!(
            service(&format!("client_limit={text}"))
                .unwrap()
                .client_limit,
            limit
        );
    }
    for text in ["4294967296", "-1", "", "1k", "unlimited"] {
        let message = format!("client_limit: {text:?} is not a number from 0 to 4294967295");
        assert_eq!(service(&format!("client_limit={text}")), Err(message));
    }
    assert_eq!(
        set("service/old-stats/client_limit=7")
            .unwrap()
            .service
            .client_limit,
        7
    );
}

#[test]
fn file_listeners() {
    let fifo = |text: &str| {
        set(&format!("service/stats/fifo_listener/stats-user/{text}"))
            .map(|s| s.fifo_listeners[1].clone())
    };
    assert_eq!(fifo("user=vmail").unwrap().user, Some("vmail".into()));
    assert_eq!(fifo("user=").unwrap().user, None);
    assert_eq!(fifo("group=mail").unwrap().group, Some("mail".into()));
    for (text, mode) in [
        ("0", 0),
        ("00", 0),
        ("0600", 0o600),
        ("666", 0o666),
        ("07776", 0o7776),
        ("07777", 0o7777),
    ] {
        assert_eq!(fifo(&format!("mode={text}")).unwrap().mode, mode);
    }
    for text in ["010000", "0888", "0x1ff", "", "-1", "+600", "99999999999"] {
        let message = format!("mode: {text:?} is not an octal mode from 0 to 07777");
        assert_eq!(fifo(&format!("mode={text}")), Err(message));
    }
    assert_eq!(unix("user=u").file.user, Some("u".into()));
    assert_eq!(unix("mode=0666").file.mode, 0o666);
    let base = Path::new("/b");
    assert_eq!(unix("mode=0").file.path_in(base), Path::new("/b/stats"));
    let settings = set("service/stats/unix_listener//run/x/stats/mode=0666").unwrap();
    assert_eq!(
        settings.unix_listeners[1].file.path_in(base),
        Path::new("/run/x/stats")
    );
    let settings = set("service/stats/fifo_listener/stats-mail/mode=0").unwrap();
    let enabled: Vec<_> = settings.enabled_fifos().map(|fifo| &*fifo.name).collect();
    assert_eq!(enabled, ["stats-user"]);
    let settings = set("service/stats/unix_listener/stats/mode=0").unwrap();
    assert_eq!(
        settings
            .unix_listeners
            .iter()
            .filter(|l| l.file.is_enabled())
            .count(),
        0
    );
}

#[test]
fn options() {
    assert!(unix("reset=yes").options.reset && !unix("reset=no").options.reset);
    assert!(unix("close_after_reply=Yes").options.close_after_reply);
    assert!(!unix("close_after_reply=NO").options.close_after_reply);
    assert!(unix("header_always=y").options.header_always);
    assert!(unix("header_always=1").options.header_always);
    assert_eq!(
        unix("column_order=2.2").options.column_order,
        ColumnOrder::V2_2
    );
    assert_eq!(
        unix("column_order=2.3").options.column_order,
        ColumnOrder::V2_3
    );
    assert_eq!(unix("protocol=http").options.protocol, Protocol::Http);
    assert_eq!(unix("protocol=stats").options.protocol, Protocol::Stats);
    assert_eq!(
        set("service/stats/unix_listener/stats/protocol=https"),
        Err("protocol: \"https\" is neither stats nor http".into())
    );
    let section =
        |kind: &str, lines: &str| read(format!("service stats {{\n{kind} {{\n{lines}\n}}\n}}"));
    let port = "port = 1\nprotocol = http\n";
    let good = [
        "close_after_reply = yes",
        "reset = no",
        "column_order = 2.3",
    ];
    for line in good {
        assert!(section("inet_listener", &format!("{port}{line}")).is_ok());
    }
    for word in ["yes", "no"] {
        let lines = format!("protocol = http\nreset = {word}");
        assert!(section("unix_listener x", &lines).is_ok());
    }
    for (kind, lines) in [
        ("inet_listener", "port = 1\nreset = yes\nprotocol = http"),
        (
            "inet_listener",
            "port = 1\nprotocol = http\ncolumn_order = 2.2",
        ),
        ("unix_listener", "protocol = http\nheader_always = yes"),
    ] {
        let name = if kind == "unix_listener" { " x" } else { "" };
        let message = format!(
            "main.conf:2: {kind}: reset, column_order and header_always mean nothing \
             with protocol = http"
        );
        assert_eq!(
            section(&format!("{kind}{name}"), lines),
            Err(message),
            "{lines}"
        );
    }
    for text in ["true", "", "0", "n", "maybe"] {
        let message = format!("reset: {text:?} is neither yes nor no");
        assert_eq!(
            set(&format!("service/stats/unix_listener/stats/reset={text}")),
            Err(message)
        );
    }
    assert_eq!(
        set("service/stats/unix_listener/stats/column_order=2.1"),
        Err("column_order: \"2.1\" is neither 2.2 nor 2.3".into())
    );
}

#[test]
fn networks_that_may_connect() {
    let nets = |text: &str| set(&format!("service/stats/inet_listener/x/allow_nets={text}"));
    for text in [
        "10.0.0.0/33",
        "host",
        "10.0.0.0/",
        "::/129",
        "10.0.0.0/8/8",
        "local",
    ] {
        let message = format!("allow_nets: {text:?} is not a network: ADDRESS/BITS");
        assert!(nets(text).unwrap_err().contains(&message), "{text}");
    }
    let read = |text: &str| {
        good(format!(
            "service stats {{\ninet_listener x {{\nport = 1\nallow_nets = {text}\n}}\n}}\n"
        ))
    };
    let settings = read("192.0.2.0/24,[2001:db8::]/32 ::ffff:10.0.0.0/104");
    let nets = &settings.inet_listeners[0].allow_nets;
    assert_eq!(
        value::show_list(nets),
        "192.0.2.0/24 2001:db8::/32 10.0.0.0/8"
    );
    let is_in = |ip: &str| nets.iter().any(|net| net.contains_ip(ip.parse().unwrap()));
    for ip in [
        "192.0.2.0",
        "192.0.2.255",
        "10.255.255.255",
        "2001:db8:ffff::1",
        "::ffff:192.0.2.9",
    ] {
        assert!(is_in(ip), "{ip}");
    }
    for ip in ["192.0.1.255", "192.0.3.0", "11.0.0.0", "2001:db9::", "::1"] {
        assert!(!is_in(ip), "{ip}");
    }
    assert_eq!(read("").inet_listeners[0].allow_nets, []);
}

#[test]
fn inet_listeners() {
    let inet = |line: &str| {
        let text = format!("service stats {{\ninet_listener x {{\nport = 1\n{line}\n}}\n}}\n");
        read(text).map(|s| s.inet_listeners[0].clone())
    };
    let plain = inet("").unwrap();
    assert_eq!((plain.name.as_deref(), plain.port), (Some("x"), 1));
    assert_eq!(plain.addresses, []);
    assert!(!plain.options.reset);
    assert!(inet("reset = yes").unwrap().options.reset);
    assert!(
        inet("close_after_reply = yes")
            .unwrap()
            .options
            .close_after_reply
    );
    for (text, port) in [("0", 0), ("65534", 65534), ("65535", 65535)] {
        assert_eq!(inet(&format!("port = {text}")).unwrap().port, port);
    }
    for text in ["65536", "-1", "", "http"] {
        let message = format!("main.conf:4: port: {text:?} is not a port from 0 to 65535");
        assert_eq!(inet(&format!("port = {text}")), Err(message));
    }
    let addresses =
        |text: &str| inet(&format!("address = {text}")).map(|l| value_texts(&l.addresses));
    assert_eq!(addresses("").unwrap(), [""; 0]);
    assert_eq!(addresses("*, ::").unwrap(), ["*", "::"]);
    assert_eq!(
        addresses("127.0.0.1 ::1,localhost").unwrap(),
        ["127.0.0.1", "::1", "localhost"]
    );
    assert_eq!(addresses("[::1]").unwrap(), ["::1"]);
    assert_eq!(
        addresses("127.0.0.1 1.2.3").unwrap_err(),
        "main.conf:4: address: \"1.2.3\" is neither an IP address nor a host name"
    );
    let off = good("service stats {\ninet_listener {\nport = 0\n}\n}");
    assert_eq!(
        (
            off.inet_listeners.len(),
            off.inet_listeners.iter().filter(|l| l.port != 0).count()
        ),
        (1, 0)
    );
}

fn value_texts(addresses: &[Address]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}
