//! Packed counters against counters as they are.

use super::*;
use crate::store::counters::{Difference, Event};
use crate::store::testing::{some_counters, widest, Random};

/// Counters packed as narrow as can be, behind them `slack` bytes more.
fn packed(counters: &Counters, slack: usize) -> Vec<u8> {
    let widths = Widths::narrowest(counters);
    let mut bytes = vec![0x55; widths.packed_bytes() + slack];
    pack(counters, widths, &mut bytes);
    assert!(bytes[widths.packed_bytes()..]
        .iter()
        .all(|&byte| byte == 0x55));
    bytes
}

#[test]
fn every_counter_is_in_one_group() {
    let groups = (0..5).map(|group| &MEMBERS[group][..GROUPS[group]]);
    let mut indexes = groups.collect::<Vec<_>>().concat();
    indexes.sort();
    assert_eq!(indexes, (0..COUNTERS).collect::<Vec<_>>());
    assert_eq!(MEMBERS[EVENTS][..2], [NUM_CMDS, NUM_LOGINS]);
}

#[test]
fn zero_and_the_widest_take_the_bytes_the_module_says() {
    assert_eq!(packed(&Counters::default(), 0).len(), 2);
    let widest = widest();
    let bytes = packed(&widest, 0);
    assert_eq!((bytes.len(), MAX_PACKED_BYTES), (234, 234));
    assert_eq!(unpack(&bytes), widest);
    assert_eq!(unpack(&[]), Counters::default());
    for widths in [Widths::NONE, Widths::EVENTS, Widths::SESSION] {
        let mut bytes = [0x55; MAX_PACKED_BYTES];
        pack_zeros(widths, &mut bytes[..widths.packed_bytes()]);
        let mut expected = [0x55; MAX_PACKED_BYTES];
        pack(&Counters::default(), widths, &mut expected);
        assert_eq!(bytes, expected);
    }
}

#[test]
fn unpacks_what_was_packed() {
    let mut random = Random::seeded("packed counters");
    for _ in 0..20_000 {
        let bits = random.below(63) + 1;
        let counters = some_counters(&mut random, bits);
        let slack = random.below(9) as usize;
        let bytes = packed(&counters, slack);
        assert_eq!(unpack(&bytes), counters);
        assert_eq!(
            clock_usecs(&bytes),
            counters.stats.values[place::clock_time]
        );
    }
}

#[test]
fn replacing_keeps_the_widths_or_the_whole() {
    let mut random = Random::seeded("replacing packed counters");
    let (mut replaced, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let (wide, narrow) = (random.below(63) + 1, random.below(63) + 1);
        let before = some_counters(&mut random, wide);
        let after = some_counters(&mut random, narrow);
        let mut bytes = packed(&before, 3);
        let fits = replace(&mut bytes, &after).is_ok();
        let expected = if fits { after } else { before };
        assert_eq!(unpack(&bytes), expected);
        assert!(bytes.ends_with(&[0x55; 3]), "a slot's slack is left alone");
        *(if fits { &mut replaced } else { &mut refused }) += 1;
    }
    assert!(replaced > 1000 && refused > 1000, "{replaced} {refused}");
}

#[test]
fn counting_in_place_is_counting_what_is_unpacked() {
    let mut random = Random::seeded("counting in packed counters");
    let (mut counted, mut refused) = (0, 0);
    let slack = [0x55; 3];
    for _ in 0..40_000 {
        let (bits, more) = (random.below(63) + 1, random.below(63) + 1);
        let before = some_counters(&mut random, bits);
        let more = some_counters(&mut random, more);
        let difference = match random.below(4) {
            0 => Difference::Nothing,
            1 => Difference::One(Event::Login),
            2 => Difference::One(Event::Command),
            _ => Difference::Of(&more),
        };
        let mut bytes = packed(&before, 3);
        let mut expected = before;
        expected.count(difference);
        let fits = count(&mut bytes, difference);
        if !fits {
            expected = before;
        }
        assert_eq!(unpack(&bytes), expected, "{difference:?} to {before:?}");
        assert!(bytes.ends_with(&slack), "a slot's slack is left alone");
        *(if fits { &mut counted } else { &mut refused }) += 1;
    }
    assert!(counted > 1000 && refused > 1000, "{counted} {refused}");
}

#[test]
fn an_event_that_needs_another_byte_is_refused() {
    for (value, fits) in [(254, true), (255, false), (65_534, true), (65_535, false)] {
        let counters = Counters {
            num_cmds: value,
            ..Counters::default()
        };
        let mut bytes = packed(&counters, 0);
        assert_eq!(
            count(&mut bytes, Difference::One(Event::Command)),
            fits,
            "{value}"
        );
        let after = unpack(&bytes);
        assert_eq!(after.num_cmds, value + u64::from(fits));
        assert_eq!(after.num_logins, 0);
    }
}
