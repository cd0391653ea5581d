//! Stats fields decoded and encoded, and totals that step.

use super::*;

/// Decodes a stats field into a report that had other values.
fn decoded(bytes: &[u8]) -> Result<Report, StatsError> {
    let mut report = Report {
        stats: Stats {
            values: [7; FIELD_COUNT],
        },
        has_mail: true,
        has_auth: true,
        has_net: true,
    };
    report.decode(bytes).map(|()| report)
}

fn index(name: &str) -> usize {
    FIELDS.iter().position(|field| field.name == name).unwrap()
}

#[test]
fn the_structs_have_the_sizes_seen_on_the_wire() {
    if cfg!(all(target_pointer_width = "64", target_os = "linux")) {
        assert_eq!(MAIL_BYTES, 136);
    }
    assert_eq!((AUTH_BYTES, NET_BYTES), (24, 24));
}

#[test]
fn decodes_all_items_in_any_order_and_none() {
    let mut mail = vec![0; MAIL_BYTES];
    wire_struct::write(&mut mail, wire_struct::Mail::read_count, 7);
    wire_struct::write(&mut mail, wire_struct::Mail::write_bytes, 9_000_000_000);
    wire_struct::write(&mut mail, wire_struct::Mail::sys_cpu, 12_345_678);
    let mut auth = vec![0; AUTH_BYTES];
    wire_struct::write(&mut auth, wire_struct::Auth::auth_failures, 3);
    let mut net = vec![0; NET_BYTES];
    wire_struct::write(&mut net, wire_struct::Net::net_out_bytes, 7_000_000_000);
    wire_struct::write(&mut net, wire_struct::Net::lock_wait, 1_500_000);
    let items = [
        [b"auth\0", &auth[..]].concat(),
        [b"net\0", &net[..]].concat(),
        [b"mail\0", &mail[..]].concat(),
    ];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1]] {
        let bytes = order.map(|item| &items[item][..]).concat();
        assert_eq!(decoded(&bytes), decoded(&items.concat()), "{order:?}");
    }
    let report = decoded(&items.concat()).unwrap();
    assert!(report.has_mail && report.has_auth && report.has_net);
    assert_eq!(report.stats.values[index("net_in_bytes")], 0);
    assert_eq!(report.stats.values[index("net_out_bytes")], 7_000_000_000);
    assert_eq!(report.stats.values[index("lock_wait")], 1_500_000);
    assert_eq!(report.stats.values[index("read_count")], 7);
    assert_eq!(report.stats.values[index("write_bytes")], 9_000_000_000);
    assert_eq!(report.stats.values[index("sys_cpu")], 12_345_678);
    assert_eq!(report.stats.values[index("auth_failures")], 3);
    assert_eq!(decoded(b""), Ok(Report::default()));
}

#[test]
fn refuses_what_is_not_whole_known_and_sane() {
    let mail = vec![0; MAIL_BYTES];
    let whole = [b"mail\0", &mail[..]].concat();
    assert!(decoded(&whole).is_ok());
    assert_eq!(
        decoded(&whole[..whole.len() - 1]),
        Err(StatsError::Truncated)
    );
    assert_eq!(
        decoded(&[&whole[..], b"x"].concat()),
        Err(StatsError::Truncated)
    );
    assert_eq!(decoded(b"male\0"), Err(StatsError::UnknownItem));
    assert_eq!(decoded(b"nets\0"), Err(StatsError::UnknownItem));
    let mut net = [b"net\0", &[0; NET_BYTES][..]].concat();
    assert!(decoded(&net).unwrap().has_net);
    for cut in 1..net.len() {
        let expected = match cut {
            4 => Err(StatsError::UnknownItem),
            _ => Err(StatsError::Truncated),
        };
        assert_eq!(decoded(&net[..cut]), expected, "{cut}");
    }
    net[4..12].copy_from_slice(&(MAX_VALUE + 1).to_ne_bytes());
    assert_eq!(decoded(&net), Err(StatsError::Insane("net_in_bytes")));
    for (place, name, bad) in [
        (wire_struct::Mail::disk_input, "disk_input", MAX_VALUE + 1),
        (wire_struct::Mail::disk_input, "disk_input", u64::MAX),
        (wire_struct::Mail::user_cpu, "user_cpu", u64::MAX),
    ] {
        let mut mail = mail.clone();
        wire_struct::write(&mut mail, place, bad);
        let bytes = [b"mail\0", &mail[..]].concat();
        let insane = Err(StatsError::Insane(name));
        assert_eq!(decoded(&bytes), insane, "{place:?} {bad}");
    }
    let mut limit = mail.clone();
    wire_struct::write(&mut limit, wire_struct::Mail::disk_input, MAX_VALUE);
    assert!(decoded(&[b"mail\0", &limit[..]].concat()).is_ok());
}

#[test]
fn writers_of_other_architectures_are_recognised() {
    assert_eq!(MAIL_BYTES_ELSEWHERE, [108, 112, 132, 136]);
    assert!(MAIL_BYTES_ELSEWHERE.contains(&MAIL_BYTES));
    let auth = [b"auth\0", &[3; AUTH_BYTES][..]].concat();
    for size in MAIL_BYTES_ELSEWHERE {
        for byte in [0, 1, 0xff] {
            let mail = [b"mail\0", &vec![byte; size][..]].concat();
            for bytes in [
                mail.clone(),
                [&mail[..], &auth].concat(),
                [&auth[..], &mail].concat(),
            ] {
                let foreign = Err(StatsError::Foreign(size));
                match size == MAIL_BYTES {
                    true => assert_ne!(decoded(&bytes), foreign),
                    false => assert_eq!(decoded(&bytes), foreign, "{size} {byte}"),
                }
            }
        }
        let cut = [b"mail\0", &vec![0; size - 1][..]].concat();
        let is_foreign = matches!(decoded(&cut), Err(StatsError::Foreign(_)));
        assert!(!is_foreign, "{size}");
    }
    let message = StatsError::Foreign(108).to_string();
    let expected =
        format!("mail item of 108 bytes, not {MAIL_BYTES}: writer of another architecture?");
    assert_eq!(message, expected);
}

#[test]
fn microseconds_carry_on_input_and_negative_ones_are_refused() {
    let mut mail = vec![0; MAIL_BYTES];
    wire_struct::put_timeval(&mut mail, wire_struct::Mail::user_cpu, 4, 1_000_000);
    let bytes = [b"mail\0", &mail[..]].concat();
    let report = decoded(&bytes).unwrap();
    assert_eq!(report.stats.values[index("user_cpu")], 5_000_000);
    wire_struct::put_timeval(&mut mail, wire_struct::Mail::user_cpu, 4, -1);
    let bytes = [b"mail\0", &mail[..]].concat();
    assert_eq!(decoded(&bytes), Err(StatsError::Insane("user_cpu")));
}

#[test]
fn what_is_encoded_is_decoded() {
    let mut stats = Stats::default();
    for (index, value) in stats.values.iter_mut().enumerate() {
        *value = 1_999_999 + index as u64;
    }
    for items in 0..8 {
        let report = Report {
            stats,
            has_mail: items & 1 != 0,
            has_auth: items & 2 != 0,
            has_net: items & 4 != 0,
        };
        let mut bytes = Vec::new();
        report.encode(&mut bytes);
        let decoded = decoded(&bytes).unwrap();
        for (index, field) in FIELDS.iter().enumerate() {
            let has = report.has(field.item);
            assert_eq!(decoded.has(field.item), has);
            let expected = if has { stats.values[index] } else { 0 };
            assert_eq!(decoded.stats.values[index], expected, "{}", field.name);
        }
    }
    stats.values[place::read_count] = (1 << 32) + 5;
    stats.values[place::read_bytes] = (1 << 32) + 5;
    let mut bytes = Vec::new();
    Report {
        stats,
        has_mail: true,
        ..Report::default()
    }
    .encode(&mut bytes);
    let decoded = decoded(&bytes).unwrap().stats;
    assert_eq!(decoded.values[place::read_count], 5);
    assert_eq!(decoded.values[place::read_bytes], (1 << 32) + 5);
}

#[test]
fn totals_step_wrap_and_shrink() {
    const SPAN: u64 = 1 << 32;
    assert_eq!(step(5, 9, Width::U64), Some(4));
    assert_eq!(step(9, 5, Width::U64), None);
    assert_eq!(step(3, 2, Width::U32), None);
    assert_eq!(step(SPAN - 1, 0, Width::U32), Some(1));
    assert_eq!(step(3 * SPAN - 10, 20, Width::U32), Some(30));
    assert_eq!(
        step(SPAN - WRAP_STEPS + 1, 0, Width::U32),
        Some(WRAP_STEPS - 1)
    );
    assert_eq!(step(SPAN - WRAP_STEPS, 0, Width::U32), None);
}

#[test]
fn an_absent_item_keeps_its_totals() {
    let mut total = Stats::default();
    total.values[index("read_count")] = 10;
    total.values[index("auth_failures")] = 10;
    let report = Report {
        has_auth: true,
        ..Report::default()
    };
    let mut difference = Stats::default();
    let shrank = report.advance(&mut total, &mut difference);
    assert!(shrank && difference.is_zero());
    assert_eq!(total.values[index("read_count")], 10);
    assert_eq!(total.values[index("auth_failures")], 0);
}

#[test]
fn a_report_that_is_used_again_has_nothing_of_the_last_field() {
    let whole = |item: Item| {
        let mut report = Report {
            stats: Stats {
                values: [9; FIELD_COUNT],
            },
            ..Report::default()
        };
        match item {
            Item::Mail => report.has_mail = true,
            Item::Auth => report.has_auth = true,
            Item::Net => report.has_net = true,
        }
        let mut bytes = Vec::new();
        report.encode(&mut bytes);
        bytes
    };
    let mut report = Report::default();
    for item in Item::ALL {
        let cut = [whole(item), b"x".to_vec()].concat();
        assert!(report.decode(&cut).is_err(), "an item and a piece of one");
        for next in Item::ALL {
            report.decode(&whole(next)).unwrap();
            let mut fresh = Report::default();
            fresh.decode(&whole(next)).unwrap();
            assert_eq!(report, fresh, "{item:?} before {next:?}");
        }
        report.decode(b"").unwrap();
        assert_eq!(report, Report::default());
    }
}
