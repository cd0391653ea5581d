//! State files: the first byte says how the others become one. As they are; with
//! the sums of their blocks made right; or as the content of blocks, so that what is
//! behind the sums is reached.
//!
//! What is restored is sound, works on, and can be saved and restored again.

use super::input::{at, limits, Input};
use super::naive;
use dovestat::stats::Report;
use dovestat::store::{CommandUpdate, Filter, Level, Now, Record, Restoring, Store};
use dovestat::wire::{StateError, StateItem, StateReader, StateWriter};
use std::num::NonZeroU32;

/// What files of each version begin with.
const BEGINNINGS: [&[u8]; 2] = [b"dovestat state 1\n", b"dovestat state 2\n"];

/// CRC-64 of pieces, as its definition has it.
fn crc(pieces: &[&[u8]]) -> u64 {
    let mut crc = !0;
    for &byte in pieces.iter().flat_map(|piece| piece.iter()) {
        crc ^= u64::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xc96c_5795_d787_0f42 * (crc & 1));
        }
    }
    !crc
}

/// Appends a block.
fn push_block(file: &mut Vec<u8>, number: u32, content: &[u8]) {
    file.extend_from_slice(&(content.len() as u32).to_le_bytes());
    file.extend_from_slice(&crc(&[&number.to_le_bytes(), content]).to_le_bytes());
    file.extend_from_slice(content);
}

/// A file of a version whose blocks have these contents, each behind two bytes of
/// length.
fn of_contents(beginning: &[u8], mut bytes: &[u8]) -> Vec<u8> {
    let mut file = beginning.to_vec();
    for number in 0.. {
        let Some((length, rest)) = bytes.split_first_chunk() else {
            break;
        };
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        let (content, rest) = rest.split_at(length);
        push_block(&mut file, number, content);
        bytes = rest;
    }
    file
}

/// A file whose blocks have the sums that they should have.
fn with_sums(bytes: &[u8]) -> Vec<u8> {
    let mut file = bytes[..bytes.len().min(BEGINNINGS[0].len())].to_vec();
    let mut rest = &bytes[file.len()..];
    for number in 0.. {
        let Some((header, behind)) = rest.split_first_chunk::<12>() else {
            break;
        };
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let (content, behind) = behind.split_at(length.min(behind.len()));
        push_block(&mut file, number, content);
        rest = behind;
    }
    file.extend_from_slice(rest);
    file
}

/// The store in a file.
pub fn read(file: &[u8], memory_bytes: usize, now: Now) -> Result<Store, StateError> {
    let mut reader = StateReader::new(file)?;
    let mut restoring =
        Restoring::new(&limits(memory_bytes), now).map_err(|_| StateError::Damaged)?;
    while !restoring.is_full() {
        let taken = match reader.take()? {
            Some(StateItem::Saved(saved)) => restoring.take(&saved),
            Some(StateItem::Place { listing, number }) => restoring.take_place(listing, number),
            Some(StateItem::Partial(_)) => Ok(()),
            None => break,
        };
        taken.map_err(|_| StateError::Damaged)?;
    }
    let (store, _) = restoring.finish().map_err(|_| StateError::Damaged)?;
    Ok(store)
}

/// The file of a store.
pub fn write(store: &Store, now: Now) -> Vec<u8> {
    let mut writer = StateWriter::new(Vec::new()).expect("a Vec takes everything");
    let done = store.export(now, |saved| writer.put(saved));
    done.expect("a Vec takes everything");
    writer.finish().expect("a Vec takes everything")
}

/// Does what a daemon does with a store that it has read.
fn work_on(store: &mut Store) {
    for level in Level::ALL {
        naive::listed(store, level, Filter::default(), 3);
    }
    for (number, id) in (1u32..).zip([&b"s1"[..], b"s2", b"new"]) {
        let report = &Report {
            has_mail: true,
            ..Report::default()
        };
        let update = CommandUpdate {
            number: NonZeroU32::MIN,
            begins: (number != 2).then_some((b"FETCH", b"1")),
            done: number == 3,
            report,
        };
        for record in [
            Record::UpdateSession {
                session: id,
                report,
            },
            Record::UpdateCommand {
                session: id,
                update,
            },
            Record::Connect {
                session: id,
                user: b"u1@d1",
                service: b"imap",
                pid: 1,
                ip: Some([10, 0, 0, 1].into()),
            },
            Record::Disconnect { session: id },
        ] {
            store.apply(&record, at(100 + number));
            store.check();
        }
    }
    while store.disconnect_silent(at(1_000_000), |_, _| {}) {}
    store.check();
}

/// A file.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let how = input.byte();
    let file = match how % 3 {
        0 => input.0.to_vec(),
        1 => with_sums(input.0),
        _ => of_contents(BEGINNINGS[usize::from(how / 9 % 2)], input.0),
    };
    let memory_bytes = [256 << 10, 1 << 20, 96 << 10][usize::from(how / 3 % 3)];
    let Ok(mut store) = read(&file, memory_bytes, at(50)) else {
        return;
    };
    store.check();
    let saved = write(&store, at(60));
    let mut again = read(&saved, memory_bytes, at(60)).expect("what was written is sound");
    again.check();
    if again.usage().entries == store.usage().entries {
        for level in Level::ALL {
            let all = |store| naive::listed(store, level, Filter::default(), 100);
            assert_eq!(all(&mut again), all(&mut store), "{level:?}");
        }
        assert_eq!(again.totals_of_everything(), store.totals_of_everything());
    }
    work_on(&mut store);
    work_on(&mut again);
}
