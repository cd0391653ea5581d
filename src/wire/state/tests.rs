//! State files written, read and damaged.

use super::*;
use crate::stats::FIELD_COUNT;
use crate::store::{
    Basis, Counters, Kept, Key, Latency, Level, Origin, Saved, WallTime,
    MAX_TEXT_BYTES as MAX_BYTES,
};
use crate::sys::fs::lookup::Inode;

const BASIS: Basis = Basis {
    age_secs: u32::MAX,
    last_update: WallTime {
        secs: 1_795_000_000,
        usecs: 999_999,
    },
    counters: Counters {
        stats: crate::stats::Stats {
            values: [u64::MAX; FIELD_COUNT],
        },
        num_logins: 0,
        num_cmds: 1 << 63,
    },
    place: u32::MAX,
};

/// At least one of every kind.
fn items() -> Vec<StateItem<'static>> {
    let mut basis = BASIS;
    basis.counters.stats.values = std::array::from_fn(|index| index as u64 % 3);
    let origin = Origin {
        created_secs: 7,
        is_pinned: true,
        basis,
        pending: BASIS.counters,
    };
    let command = |running: u32| Saved::Command {
        session: 0,
        name: b"FETCH",
        args: b"1:* (FLAGS)\n\0",
        command_number: running.try_into().ok(),
        is_done: false,
        basis,
        cmd: running.checked_sub(1),
        is_over: running > 0,
    };
    let parent = |level, key| Saved::Parent {
        level,
        key,
        above: None,
        origin,
    };
    let saved = [
        Saved::Global {
            now: BASIS.last_update,
            reset_secs: 0,
            last_update: WallTime::default(),
            counters: BASIS.counters,
            kept: Some(Kept {
                connected: 1,
                entries: [2, 3, 4, 5, u64::MAX],
                used_bytes: 6,
            }),
        },
        Saved::Service {
            name: b"imap",
            reset_secs: 1,
            last_update: BASIS.last_update,
            counters: BASIS.counters,
        },
        Saved::Cmd {
            service: b"imap",
            name: b"UID FETCH",
            reset_secs: u32::MAX,
            last_update: WallTime::default(),
            counters: basis.counters,
            latency: Latency {
                counts: std::array::from_fn(|index| [0, 1, u64::MAX][index % 3]),
                sum_usecs: 8,
                max_usecs: u64::MAX,
            },
        },
        parent(Level::Domain, Key::Name(b"")),
        parent(Level::Ip, Key::Address("192.0.2.1".parse().unwrap())),
        Saved::Parent {
            level: Level::Ip,
            key: Key::Address("2001:db8::1".parse().unwrap()),
            above: None,
            origin: Origin {
                basis: BASIS,
                ..origin
            },
        },
        Saved::Parent {
            level: Level::User,
            key: Key::Name(&[b'x'; MAX_BYTES]),
            above: Some(u32::MAX),
            origin,
        },
        Saved::Session {
            id: b"yR+mHvJgZoB/AAAB",
            service: b"imap",
            user: 0,
            ip: Some(u32::MAX),
            pid: 4711,
            connected: true,
            placeholder: false,
            indexed: true,
            basis,
            user_place: 7,
            ip_place: 300,
            pending: [true, false, true],
            created_secs: 1_795_000_000,
        },
        command(0),
        command(u32::MAX),
    ];
    let partial = PartialLine {
        fifo: Inode {
            dev: 1,
            ino: u64::MAX,
        },
        bytes: b"UPDATE-SES",
        is_too_long: false,
    };
    let mut items: Vec<_> = saved.into_iter().map(StateItem::Saved).collect();
    items.push(StateItem::Partial(partial));
    items
}

fn write(items: &[StateItem]) -> Vec<u8> {
    let mut writer = StateWriter::new(Vec::new()).unwrap();
    for item in items {
        match item {
            StateItem::Saved(saved) => writer.put(saved).unwrap(),
            StateItem::Partial(partial) => writer.put_partial(partial).unwrap(),
            StateItem::Place { .. } => unreachable!("only version 1 has it"),
        }
    }
    writer.finish().unwrap()
}

/// Reads a file to its end; compares with what is expected on the way.
fn read(bytes: &[u8], expected: &[StateItem]) -> Result<(), StateError> {
    let mut reader = StateReader::new(bytes)?;
    let mut expected = expected.iter();
    while let Some(item) = reader.take()? {
        assert_eq!(Some(&item), expected.next());
    }
    assert_eq!(expected.next(), None);
    Ok(())
}

#[test]
fn the_crc_is_that_of_xz() {
    assert_eq!(crc(&[b"12345", b"6789"]), 0x995d_c9bb_df19_39fa);
}

#[test]
fn what_was_written_is_read() {
    let items = items();
    for count in 0..=items.len() {
        read(&write(&items[..count]), &items[..count]).unwrap();
    }
    // Many blocks, with items of all lengths at their ends.
    let many: Vec<_> = items.iter().cycle().take(5000).copied().collect();
    let bytes = write(&many);
    assert!(bytes.len() > 20 * FULL_BLOCK_BYTES);
    read(&bytes, &many).unwrap();
}

#[test]
fn any_byte_that_is_wrong_or_missing_is_noticed() {
    let items: Vec<_> = items()
        .into_iter()
        .filter(|item| {
            !matches!(
                item,
                StateItem::Saved(Saved::Parent {
                    level: Level::User,
                    ..
                })
            )
        })
        .collect();
    let bytes = write(&items);
    for at in 0..bytes.len() {
        for flip in [1, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            let error = read(&damaged, &items).unwrap_err();
            let is_right = match error {
                StateError::Foreign => at < FORMAT.len(),
                StateError::Version => at < FORMAT.len() + VERSION.len(),
                StateError::Damaged => true,
                StateError::Io(_) => false,
            };
            assert!(is_right, "byte {at}: {error}");
        }
        assert!(read(&bytes[..at], &items).is_err(), "cut at {at}");
    }
    assert!(read(&[&bytes[..], b"x"].concat(), &items).is_err());
}

#[test]
fn blocks_in_another_order_are_noticed() {
    let many: Vec<_> = items().iter().cycle().take(200).copied().collect();
    let bytes = write(&many);
    let head = FORMAT.len() + VERSION.len();
    let block = |at: usize| {
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        at + HEADER_BYTES + length as usize
    };
    let (first, second) = (block(head), block(block(head)));
    let swapped = [
        &bytes[..head],
        &bytes[first..second],
        &bytes[head..first],
        &bytes[second..],
    ];
    assert!(matches!(
        read(&swapped.concat(), &[]),
        Err(StateError::Damaged)
    ));
    let left_out = [&bytes[..head], &bytes[first..]].concat();
    assert!(matches!(read(&left_out, &[]), Err(StateError::Damaged)));
}

#[test]
fn version_2_is_written_as_before() {
    let bytes = write(&items());
    assert_eq!(
        (bytes.len(), crc(&[&bytes])),
        (11_454, 0x3d20_3230_0c9a_b8c0)
    );
}
