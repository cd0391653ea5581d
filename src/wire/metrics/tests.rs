//! Samples and comments of both formats, labels of any bytes.

use super::*;
use crate::store::testing::Random;
use crate::store::{Counters, Key, Totals};
use std::collections::HashMap;

fn label(value: &[u8]) -> String {
    let mut out = Vec::new();
    push_label(&mut out, value);
    String::from_utf8(out).unwrap()
}

#[test]
fn labels_show_any_bytes() {
    for (name, expected) in [
        (&b"alice@example.org"[..], "alice@example.org"),
        (
            "j\u{f6}rg@\u{65e5}\u{672c}".as_bytes(),
            "j\u{f6}rg@\u{65e5}\u{672c}",
        ),
        (b"", ""),
        (b"a\"b\nc", r#"a\"b\nc"#),
        (b"DOMAIN\\user\\", r"DOMAIN\\user\\"),
        (b"\\x4 \\xAB \\xab", r"\\x4 \\xAB \\x5cxab"),
        (b"\xff\xfea\xc3", r"\\xff\\xfea\\xc3"),
        (b"\0\t\r\x1b\x7f", r"\\x00\\x09\\x0d\\x1b\\x7f"),
        ("\u{85}\u{202e}".as_bytes(), "\\\\xc2\\\\x85\u{202e}"),
    ] {
        assert_eq!(label(name), expected, "{name:?}");
    }
}

#[test]
fn different_names_have_different_labels() {
    let mut random = Random::seeded("labels");
    let alphabet = b"\\\\\\xxx05cab\"\n\r\xc3\xa9\xff n";
    let mut seen = HashMap::new();
    for _ in 0..200_000 {
        let length = random.below(9);
        let name: Vec<u8> = (0..length)
            .map(|_| alphabet[random.below(alphabet.len() as u64) as usize])
            .collect();
        let label = label(&name);
        assert!(!label.contains(|c: char| c.is_control()), "{label:?}");
        let other = seen.entry(label).or_insert_with(|| name.clone());
        assert_eq!(*other, name);
    }
    // All pairs of bytes, too.
    for pair in 0..=u16::MAX {
        let name = pair.to_be_bytes().to_vec();
        let other = seen.entry(label(&name)).or_insert_with(|| name.clone());
        assert_eq!(*other, name);
    }
}

#[test]
fn samples_and_comments_are_those_of_the_formats() {
    let mut counters = Counters {
        num_logins: 7,
        ..Counters::default()
    };
    counters.stats.values[0] = 1_007_442;
    counters.stats.values[7] = 1 << 60;
    let totals = Totals {
        reset_secs: 1000,
        last_update: WallTime { secs: 5, usecs: 42 },
        counters,
        connected: 2,
    };
    let written = |format, index: usize, level, row: &Row| {
        let mut out = Vec::new();
        let family = LevelFamily::new(level, index);
        family.write(&mut out, format);
        family.write_row(&mut out, row);
        String::from_utf8(out).unwrap()
    };
    let global = |format, index| {
        written(
            format,
            index,
            Level::Global,
            &Row::Global(&totals, &Latency::NONE),
        )
    };
    assert_eq!(
        global(Format::Text, 0),
        "# HELP dovestat_global_logins_total Sessions that began\n\
         # TYPE dovestat_global_logins_total counter\n\
         dovestat_global_logins_total 7\n"
    );
    assert_eq!(
        global(Format::OpenMetrics, KEYS.len()),
        "# HELP dovestat_global_user_cpu_seconds Processor time spent in programs\n\
         # TYPE dovestat_global_user_cpu_seconds counter\n\
         # UNIT dovestat_global_user_cpu_seconds seconds\n\
         dovestat_global_user_cpu_seconds_total 1.007442\n"
    );
    let text = global(Format::Text, KEYS.len() + 7);
    assert!(
        text.ends_with("\ndovestat_global_disk_input_bytes_total 1152921504606846976\n"),
        "{text}"
    );
    let text = global(Format::Text, 4);
    assert!(
        text.ends_with(" gauge\ndovestat_global_last_update_timestamp_seconds 5.000042\n"),
        "{text}"
    );
    let row = Row::Parent(Level::User, Key::Name(b"a\"b"), &totals);
    let text = written(Format::Text, 2, Level::User, &row);
    let sample = "dovestat_user_connected_sessions{user=\"a\\\"b\"} 2\n";
    assert!(text.ends_with(sample), "{text}");
    let address = Key::Address("2001:db8::1".parse().unwrap());
    let row = Row::Parent(Level::Ip, address, &totals);
    let text = written(Format::Text, 3, Level::Ip, &row);
    let sample = "dovestat_ip_reset_timestamp_seconds{ip=\"2001:db8::1\"} 1000\n";
    assert!(text.ends_with(sample), "{text}");
    let row = Row::Service(b"im\"ap", &totals, &Latency::NONE);
    let text = written(Format::Text, 2, Level::Service, &row);
    let sample = "dovestat_service_connected_sessions{service=\"im\\\"ap\"} 2\n";
    assert!(text.ends_with(sample), "{text}");
    let info = Family {
        name: "x_build".into(),
        about: "About.",
        kind: Kind::Info,
        unit: None,
    };
    for (format, expected) in [
        (
            Format::Text,
            "# HELP x_build_info About.\n# TYPE x_build_info gauge\n",
        ),
        (
            Format::OpenMetrics,
            "# HELP x_build About.\n# TYPE x_build info\n# EOF\n",
        ),
    ] {
        let mut out = Vec::new();
        info.write(&mut out, format);
        write_end(&mut out, format);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

#[test]
fn latencies_are_histograms_with_exact_bounds() {
    let totals = Totals {
        reset_secs: 1000,
        last_update: WallTime::default(),
        counters: Counters {
            num_cmds: 7,
            ..Counters::default()
        },
        connected: 0,
    };
    let mut latency = Latency::NONE;
    for usecs in [1, 100, 101, 250, 3_000_003, 100_000_000, 100_000_001] {
        latency.add(usecs);
    }
    let row = Row::Cmd {
        service: b"imap",
        name: b"UID \xff",
        totals: &totals,
        latency: &latency,
    };
    let labels = "service=\"imap\",cmd=\"UID \\\\xff\"";
    for (format, unit) in [
        (Format::Text, ""),
        (
            Format::OpenMetrics,
            "# UNIT dovestat_cmd_duration_seconds seconds\n",
        ),
    ] {
        let mut out = Vec::new();
        let family = LevelFamily::new(Level::Cmd, 1);
        family.write(&mut out, format);
        family.write_row(&mut out, &row);
        let mut expected = format!(
            "# HELP dovestat_cmd_duration_seconds How long commands took that are over, by \
             clock_time\n# TYPE dovestat_cmd_duration_seconds histogram\n{unit}"
        );
        let bounds = "0.0001 0.00025 0.0005 0.001 0.0025 0.005 0.01 0.025 0.05 0.1 0.25 0.5 \
                      1.0 2.5 5.0 10.0 25.0 50.0 100.0 +Inf";
        for (place, bound) in bounds.split(' ').enumerate() {
            let count = match place {
                0 => 2,
                1..14 => 4,
                14..18 => 5,
                18 => 6,
                _ => 7,
            };
            expected += &format!(
                "dovestat_cmd_duration_seconds_bucket{{{labels},le=\"{bound}\"}} {count}\n"
            );
        }
        expected += &format!(
            "dovestat_cmd_duration_seconds_sum{{{labels}}} 203.000456\n\
             dovestat_cmd_duration_seconds_count{{{labels}}} 7\n"
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
    let mut out = Vec::new();
    LevelFamily::new(Level::Cmd, 0).write_row(&mut out, &row);
    let expected = format!("dovestat_cmd_cmds_total{{{labels}}} 7\n");
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn families_are_all_different_and_named_by_convention() {
    let mut names = HashMap::new();
    for level in Level::WITH_TOTALS {
        for index in 0..family_count(level) {
            let family = LevelFamily::new(level, index).family;
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
            assert!(family.name.bytes().all(plain), "{}", family.name);
            if let Some(unit) = family.unit {
                assert!(family.name.ends_with(unit), "{}", family.name);
            }
            assert!(!family.about.contains(['\\', '"', '\n']));
            assert_eq!(names.insert(family.name.clone(), index), None);
        }
    }
}
