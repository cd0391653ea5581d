//! The items of a state file: each a byte that says which, then its fields.
//!
//! Numbers have seven bits a byte, the last one without its highest bit; texts
//! stand behind their length. What cannot be read is `None`, nothing more: a
//! block was whole before its items are looked at.

use crate::stats::FIELD_COUNT;
use crate::store::{
    Basis, Counters, Listing, Origin, Saved, WallTime, MAX_TEXT_BYTES as MAX_BYTES,
};
use crate::sys::place::Inode;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Statistics fields, num_logins and num_cmds: version 1 knows these.
const COUNTERS: usize = 26;
const _: () = assert!(FIELD_COUNT + 2 == COUNTERS);

/// What was read of a FIFO without its LF, which is still in there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialLine<'a> {
    /// The FIFO.
    pub fifo: Inode,
    /// The beginning of the line; empty when it was too long.
    pub bytes: &'a [u8],
    /// Whether it was too long and its end is to be passed over.
    pub is_too_long: bool,
}

/// One item of the file.
// There is one at a time, on the stack.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateItem<'a> {
    /// Of the store.
    Saved(Saved<'a>),
    /// Of a FIFO.
    Partial(PartialLine<'a>),
}

/// The kinds of items.
const TAG_END: u8 = 0;
const TAG_GLOBAL: u8 = 1;
const TAG_DOMAIN: u8 = 2;
const TAG_IP: u8 = 3;
const TAG_USER: u8 = 4;
const TAG_SESSION: u8 = 5;
const TAG_COMMAND: u8 = 6;
const TAG_PLACE: u8 = 7;
const TAG_PARTIAL: u8 = 8;

/// Adds a number.
fn push_number(out: &mut Vec<u8>, number: impl Into<u64>) {
    let mut number = number.into();
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Adds a text.
fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    push_number(out, text.len() as u64);
    out.extend_from_slice(text);
}

/// Adds a moment.
fn push_wall(out: &mut Vec<u8>, wall: WallTime) {
    push_number(out, wall.secs);
    push_number(out, wall.usecs);
}

/// Adds counters: which are not zero, then those.
fn push_counters(out: &mut Vec<u8>, counters: &Counters) {
    let mut values = [counters.num_logins; COUNTERS];
    values[1] = counters.num_cmds;
    values[2..].copy_from_slice(&counters.stats.values);
    let mut changed = 0u32;
    for (index, &value) in values.iter().enumerate() {
        changed |= u32::from(value != 0) << index;
    }
    push_number(out, changed);
    for value in values.into_iter().filter(|&value| value != 0) {
        push_number(out, value);
    }
}

/// Adds what all entries have.
fn push_basis(out: &mut Vec<u8>, basis: &Basis) {
    push_number(out, basis.age_secs);
    push_wall(out, basis.last_update);
    push_counters(out, &basis.counters);
}

/// Adds what entries above sessions have.
fn push_origin(out: &mut Vec<u8>, origin: Origin) {
    push_number(out, origin.created_secs);
    push_number(out, origin.is_held);
}

/// Adds the word that nothing follows.
pub fn push_end(out: &mut Vec<u8>) {
    out.push(TAG_END);
}

/// Adds an item.
pub fn push_item(out: &mut Vec<u8>, item: &StateItem) {
    match *item {
        StateItem::Saved(Saved::Global {
            now,
            reset_secs,
            last_update,
            counters,
        }) => {
            out.push(TAG_GLOBAL);
            push_wall(out, now);
            push_number(out, reset_secs);
            push_wall(out, last_update);
            push_counters(out, &counters);
        }
        StateItem::Saved(Saved::Domain {
            name,
            origin,
            basis,
        }) => {
            out.push(TAG_DOMAIN);
            push_text(out, name);
            push_origin(out, origin);
            push_basis(out, &basis);
        }
        StateItem::Saved(Saved::Ip {
            address,
            origin,
            basis,
        }) => {
            out.push(TAG_IP);
            match address {
                IpAddr::V4(ip) => push_text(out, &ip.octets()),
                IpAddr::V6(ip) => push_text(out, &ip.octets()),
            }
            push_origin(out, origin);
            push_basis(out, &basis);
        }
        StateItem::Saved(Saved::User {
            name,
            domain,
            origin,
            basis,
        }) => {
            out.push(TAG_USER);
            push_text(out, name);
            push_number(out, domain);
            push_origin(out, origin);
            push_basis(out, &basis);
        }
        StateItem::Saved(Saved::Session {
            id,
            service,
            user,
            ip,
            pid,
            connected,
            placeholder,
            indexed,
            reuses_id,
            basis,
        }) => {
            out.push(TAG_SESSION);
            push_text(out, id);
            push_text(out, service);
            push_number(out, user);
            push_number(out, ip.map_or(0, |ip| u64::from(ip) + 1));
            push_number(out, pid);
            for flag in [connected, placeholder, indexed, reuses_id] {
                push_number(out, flag);
            }
            push_basis(out, &basis);
        }
        StateItem::Saved(Saved::Command {
            session,
            name,
            args,
            running,
            basis,
        }) => {
            out.push(TAG_COMMAND);
            push_number(out, session);
            push_text(out, name);
            push_text(out, args);
            push_number(out, running.map_or(0, |number| number.get()));
            push_basis(out, &basis);
        }
        StateItem::Saved(Saved::Place { listing, number }) => {
            out.push(TAG_PLACE);
            let at = Listing::ALL.iter().position(|&other| other == listing);
            push_number(out, at.expect("a listing is one of all") as u64);
            push_number(out, number);
        }
        StateItem::Partial(PartialLine {
            fifo,
            bytes,
            is_too_long,
        }) => {
            out.push(TAG_PARTIAL);
            push_number(out, fifo.dev);
            push_number(out, fifo.ino);
            push_text(out, bytes);
            push_number(out, is_too_long);
        }
    }
}

/// Takes a byte off.
fn take_byte(from: &mut &[u8]) -> Option<u8> {
    let (&byte, rest) = from.split_first()?;
    *from = rest;
    Some(byte)
}

/// Takes a number off.
fn take_u64(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take_byte(from)?;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        number |= bits << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// Takes a number of 32 bits off.
fn take_u32(from: &mut &[u8]) -> Option<u32> {
    take_u64(from)?.try_into().ok()
}

/// Takes a yes or no off.
fn take_bool(from: &mut &[u8]) -> Option<bool> {
    match take_u64(from)? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

/// Takes a text off.
fn take_text<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_u64(from)?).ok()?;
    let (text, rest) = from
        .split_at_checked(length)
        .filter(|_| length <= MAX_BYTES)?;
    *from = rest;
    Some(text)
}

/// Takes a moment off.
fn take_wall(from: &mut &[u8]) -> Option<WallTime> {
    Some(WallTime {
        secs: take_u32(from)?,
        usecs: take_u32(from)?,
    })
}

/// Takes counters off.
fn take_counters(from: &mut &[u8]) -> Option<Counters> {
    let changed = take_u32(from).filter(|changed| changed >> COUNTERS == 0)?;
    let mut values = [0; COUNTERS];
    for (index, value) in values.iter_mut().enumerate() {
        if changed & (1 << index) != 0 {
            *value = take_u64(from)?;
        }
    }
    let mut counters = Counters {
        num_logins: values[0],
        num_cmds: values[1],
        ..Counters::default()
    };
    counters.stats.values.copy_from_slice(&values[2..]);
    Some(counters)
}

/// Takes off what all entries have.
fn take_basis(from: &mut &[u8]) -> Option<Basis> {
    Some(Basis {
        age_secs: take_u32(from)?,
        last_update: take_wall(from)?,
        counters: take_counters(from)?,
    })
}

/// Takes off what entries above sessions have.
fn take_origin(from: &mut &[u8]) -> Option<Origin> {
    Some(Origin {
        created_secs: take_u32(from)?,
        is_held: take_bool(from)?,
    })
}

/// Takes an address off.
fn take_address(from: &mut &[u8]) -> Option<IpAddr> {
    let octets = take_text(from)?;
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Some(Ipv4Addr::from(octets).into());
    }
    let octets = <[u8; 16]>::try_from(octets).ok()?;
    Some(Ipv6Addr::from(octets).into())
}

/// Takes an item off; `None` inside for the end of all.
pub fn take_item<'a>(from: &mut &'a [u8]) -> Option<Option<StateItem<'a>>> {
    let saved = match take_byte(from)? {
        TAG_END => return Some(None),
        TAG_GLOBAL => Saved::Global {
            now: take_wall(from)?,
            reset_secs: take_u32(from)?,
            last_update: take_wall(from)?,
            counters: take_counters(from)?,
        },
        TAG_DOMAIN => Saved::Domain {
            name: take_text(from)?,
            origin: take_origin(from)?,
            basis: take_basis(from)?,
        },
        TAG_IP => Saved::Ip {
            address: take_address(from)?,
            origin: take_origin(from)?,
            basis: take_basis(from)?,
        },
        TAG_USER => Saved::User {
            name: take_text(from)?,
            domain: take_u32(from)?,
            origin: take_origin(from)?,
            basis: take_basis(from)?,
        },
        TAG_SESSION => Saved::Session {
            id: take_text(from)?,
            service: take_text(from)?,
            user: take_u32(from)?,
            ip: match take_u64(from)? {
                0 => None,
                number => Some((number - 1).try_into().ok()?),
            },
            pid: take_u32(from)?,
            connected: take_bool(from)?,
            placeholder: take_bool(from)?,
            indexed: take_bool(from)?,
            reuses_id: take_bool(from)?,
            basis: take_basis(from)?,
        },
        TAG_COMMAND => Saved::Command {
            session: take_u32(from)?,
            name: take_text(from)?,
            args: take_text(from)?,
            running: take_u32(from)?.try_into().ok(),
            basis: take_basis(from)?,
        },
        TAG_PLACE => Saved::Place {
            listing: *Listing::ALL.get(take_u32(from)? as usize)?,
            number: take_u32(from)?,
        },
        TAG_PARTIAL => {
            return Some(Some(StateItem::Partial(PartialLine {
                fifo: Inode {
                    dev: take_u64(from)?,
                    ino: take_u64(from)?,
                },
                bytes: take_text(from)?,
                is_too_long: take_bool(from)?,
            })))
        }
        _ => return None,
    };
    Some(Some(StateItem::Saved(saved)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_that_nobody_writes_is_refused() {
        let long = [&[TAG_DOMAIN, 0x81, 0x40][..], &[b'x'; MAX_BYTES + 1]].concat();
        for content in [
            &[9][..],
            &[TAG_DOMAIN, 5, b'x'],
            &[TAG_PLACE, 7, 0],
            &[TAG_PLACE, 0, 0xff, 0xff, 0xff, 0xff, 0x7f],
            &[TAG_IP, 3, 1, 2, 3],
            &[TAG_DOMAIN, 0, 0, 2],
            &[TAG_GLOBAL, 0, 0, 0, 0, 0, 0x80, 0x80, 0x80, 0x20],
            &[
                TAG_PARTIAL,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                2,
            ],
            &long,
        ] {
            assert_eq!(take_item(&mut &*content), None, "{:?}", content.get(..9));
        }
        assert_eq!(take_u64(&mut &[0xff; 20][..]), None);
        let largest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(take_u64(&mut &largest[..]), Some(u64::MAX));
    }
}
