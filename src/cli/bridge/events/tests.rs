use super::*;

macro_rules! samples {
    ($($name:literal)*) => {
        [$(($name, include_str!(concat!("../../../../tests/integration/data/", $name)))),*]
    };
}

/// Recorded lines: of all kinds, of 2.3's http-post, with a torn line, with escapes.
const SAMPLES: [(&str, &str); 11] = samples! {
    "dovecot-2.4.1/events-one-metric.txt"
    "dovecot-2.4.1/events-all-services-all-fields.txt"
    "dovecot-2.4.1/hibernate-events.txt"
    "dovecot-2.4.1/lua-event.txt"
    "dovecot-2.4.1/torn.txt"
    "dovecot-2.4.1/hib.txt"
    "dovecot-2.4.1/esc.txt"
    "dovecot-2.4.1/cache.txt"
    "dovecot-2.4.1/unix.txt"
    "dovecot-2.4.1/dropprivs.txt"
    "dovecot-2.3.19-http-post.txt"
};

fn parse(line: &str) -> Result<(Kind, String), &'static str> {
    let mut bytes = line.as_bytes().to_vec();
    let event = Event::parse(&mut bytes).map_err(|refused| refused.0)?;
    let user = String::from_utf8_lossy(event.text("user")).into_owned();
    Ok((event.kind, user))
}

const GOOD: &str = "event:imap_command_finished\tstart_time:1795770993.642127\t\
                    end_time:1795770993.668031\tfield:user=u1\tfield:cmd_name=FETCH";

#[test]
fn every_recorded_line_is_taken_but_torn_ones() {
    for (name, text) in SAMPLES {
        // The recording of all fields was cut in the middle of a line.
        let lines = text.lines().filter(|line| !line.is_empty());
        let refused: Vec<&str> = lines.filter(|line| parse(line).is_err()).collect();
        let expected = match name {
            "dovecot-2.4.1/torn.txt" | "dovecot-2.4.1/events-all-services-all-fields.txt" => 1,
            _ => 0,
        };
        assert!(refused.len() <= expected, "{name}: {refused:#?}");
    }
}

#[test]
fn fields_are_texts_numbers_and_addresses() {
    let mut line = format!(
        "{}\tcategory:a\tcategory:b\tfield:cmd_human_args=a\x01tb=c\x01n\t\
         field:remote_ip=2001:db8::1\tfield:running_usecs=17\tfield:bad=x\tfield:empty=",
        GOOD.replace("\tstart_time", "\thostname:h\tstart_time")
    )
    .into_bytes();
    let event = Event::parse(&mut line).unwrap();
    assert_eq!(event.kind, Kind::Command);
    assert_eq!(event.start_usecs, 1_795_770_993_642_127);
    assert_eq!(event.text("cmd_human_args"), b"a\tb=c\n");
    assert_eq!(event.ip(), "2001:db8::1".parse().ok());
    assert_eq!(
        (event.number("running_usecs"), event.number("bad")),
        (17, 0)
    );
    assert_eq!(
        (event.get(b"empty"), event.get(b"none")),
        (Some(&b""[..]), None)
    );
    assert_eq!(event.service(), b"imap", "by the event's name");
}

#[test]
fn services_have_one_name() {
    let service = |fields: &str| {
        let mut line =
            format!("event:auth_request_finished\tstart_time:1.000000\tend_time:1.000000{fields}")
                .into_bytes();
        Event::parse(&mut line).unwrap().service().to_vec()
    };
    assert_eq!(service("\tfield:protocol=pop3"), b"pop3");
    assert_eq!(
        service("\tfield:service=lmtp\tfield:protocol=smtp"),
        b"lmtp"
    );
    assert_eq!(service("\tfield:service=managesieve"), b"sieve");
    assert_eq!(service(""), b"");
}

#[test]
fn torn_and_hostile_lines_are_refused() {
    let (head, time) = (
        "event:imap_command_finished",
        "start_time:1.000000\tend_time:2.000000",
    );
    for line in [
        "",
        "event:",
        "xevent:mail_user_session_finished\tstart_time:1.000000\tend_time:1.000000",
        " event:mail_opened",
        &format!("event:imap_commandevent:imap_command_finished\t{time}"),
        &format!("{head}\t{time}\tstart_time:3.000000"),
        &format!("{head}\t{time}\tend_time:3.000000"),
        &format!("{head}\t{time}\tfield:a=1\tfield:a=2"),
        &format!("{head}\t{time}\tfield:a"),
        &format!("{head}\t{time}\tevent:mail_opened"),
        &format!("{head}\t{time}\tfields:a=1"),
        &format!("{head}\t{time}\thostname:h"),
        &format!("{head}\thostname:hevent:x\t{time}"),
        &format!("{head}\tcategory:aevent:x\t{time}"),
        &format!("{head}\tfield:a=event:x\t{time}"),
        &format!("{head}\t{time}\t"),
        &format!("{head}\t{time}\tx"),
        &format!("{head}\tstart_time:1.000000"),
        &format!("{head}\tstart_time:1\tend_time:1.000000"),
        &format!("{head}\tstart_time:1.0\tend_time:1.000000"),
        &format!("{head}\tstart_time:-1.000000\tend_time:1.000000"),
        &format!("{head}\tstart_time:99999999999.000000\tend_time:1.000000"),
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
    let many = |count: usize| {
        let fields = (0..count).map(|number| format!("\tfield:f{number}=x"));
        format!("{head}\t{time}{}", fields.collect::<String>())
    };
    assert!(parse(&many(MAX_FIELDS)).is_ok());
    assert_eq!(parse(&many(MAX_FIELDS + 1)), Err("too many fields"));
    // A user who writes events into a value writes a value.
    let spoof = "\tfield:reason=event:mail_user_session_finished start_time:1.000000";
    assert_eq!(
        parse(&format!("{GOOD}{spoof}")),
        Ok((Kind::Command, "u1".to_owned()))
    );
}

#[test]
fn wherever_a_line_is_torn_its_successor_does_not_become_part_of_it() {
    let other = GOOD.replace("user=u1", "user=u2");
    for cut in 1..GOOD.len() {
        let torn = format!("{}{other}", &GOOD[..cut]);
        assert!(parse(&torn).is_err(), "{torn}");
    }
    assert_eq!(parse(GOOD), Ok((Kind::Command, "u1".to_owned())));
}

#[test]
fn events_of_others_are_none_of_ours() {
    let line = GOOD.replace("imap_command_finished", "http_request_finished");
    assert_eq!(parse(&line).unwrap().0, Kind::Other);
}

#[test]
fn the_socket_of_an_event_is_the_proxys() {
    let peer = |fields: &str| {
        let mut line = format!("{GOOD}\tfield:remote_ip=192.0.2.1{fields}").into_bytes();
        Event::parse(&mut line).unwrap().peer()
    };
    let fields = "\tfield:remote_port=7\tfield:real_remote_ip=2001:db8::1";
    let own = "192.0.2.1:7".parse().ok();
    assert_eq!(peer("\tfield:remote_port=7"), own);
    assert_eq!(peer(fields), own, "half of it is nothing");
    let proxy = format!("{fields}\tfield:real_remote_port=65535");
    assert_eq!(peer(&proxy), "[2001:db8::1]:65535".parse().ok());
    assert_eq!(peer("\tfield:remote_port=65536"), None);
    assert_eq!(peer(""), None);
}
