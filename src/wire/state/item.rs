//! The items of a state file: each a byte that says which, the length of its fields
//! (two bytes, the less significant first), its fields.
//!
//! The fields of each kind of item are listed once, in `structs` and `items`, and
//! written and read in that order, see [`field`](super::field). So that files of other
//! versions can be read, in both directions, items of an unknown kind are passed over,
//! and so are fields behind those that are known; fields that an item does not have are
//! 0 or empty. The first item of a file has the names of its counters.
//!
//! A new field is a line of the store's [`Saved`] and the last name in the list of its
//! item. What stands in the middle of items (`structs`) cannot get one.
//!
//! Items of version 1 have no length, its counters are `VERSION_1_COUNTERS`, and
//! some lists stand behind all entries ([`StateItem::Place`]).
//!
//! What cannot be read is `None`, nothing more: the CRC of a block is checked before its
//! items are read.

use super::field::{names, push_item, push_text, Field, Fields, Format, Version};
use crate::store::{Basis, Kept, Key, Level, Listing, Origin, Saved, WallTime};
use crate::sys::fs::lookup::Inode;

/// A line of a FIFO whose LF is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialLine<'a> {
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
    Saved(Saved<'a>),
    /// The next entry of a list, in version 1.
    Place {
        listing: Listing,
        number: u32,
    },
    Partial(PartialLine<'a>),
}

// The kinds of items.
const TAG_END: u8 = 0;
const TAG_GLOBAL: u8 = 1;
const TAG_DOMAIN: u8 = 2;
const TAG_IP: u8 = 3;
const TAG_USER: u8 = 4;
const TAG_SESSION: u8 = 5;
const TAG_COMMAND: u8 = 6;
const TAG_PLACE: u8 = 7;
const TAG_PARTIAL: u8 = 8;
const TAG_COUNTERS: u8 = 9;
const TAG_SERVICE: u8 = 10;
const TAG_CMD: u8 = 11;

/// The last kind that is known.
const LAST_TAG: u8 = TAG_CMD;

/// Makes structs fields of items. The names behind `;` are not in version 1.
macro_rules! structs {
    ($($name:ident$(<$life:lifetime>)? { $($field:ident),*; $($newer:ident),* })*) => {$(
        impl<'a> Field<'a> for $name$(<$life>)? {
            #[inline(never)]
            fn push(&self, out: &mut Vec<u8>) {
                $(self.$field.push(out);)*
                $(self.$newer.push(out);)*
            }

            #[inline(never)]
            fn take(from: &mut Fields<'a, '_>) -> Option<Self> {
                Some($name {
                    $($field: Field::take(from)?,)*
                    $($newer: from.take_newer()?,)*
                })
            }
        }
    )*};
}

structs! {
    WallTime { secs, usecs; }
    Basis { age_secs, last_update, counters; place }
    Origin { created_secs, is_pinned, basis; pending }
    Kept { connected, entries, used_bytes; }
    Inode { dev, ino; }
    PartialLine<'a> { fifo, bytes, is_too_long; }
}

/// Makes the values of a store items. The names behind `;` are not in version 1; what is
/// in version 1 only stands in brackets before the field that follows it.
macro_rules! items {
    ($($tag:ident $name:ident { $($([$gone:ty])? $field:ident),*; $($newer:ident),* })*) => {
        /// Adds a value of the store.
        pub(super) fn push_saved(out: &mut Vec<u8>, saved: &Saved) {
            match saved {
                $(Saved::$name { $($field,)* $($newer,)* } => push_item(out, $tag, |out| {
                    $($field.push(out);)*
                    $($newer.push(out);)*
                }),)*
                Saved::Parent { level, key, above, origin } => push_parent(out, *level, (key, *above), origin),
            }
        }

        /// Takes the fields of a value off.
        fn take_saved<'a>(from: &mut Fields<'a, '_>, tag: u8) -> Option<Saved<'a>> {
            match tag {
                $($tag => Some(Saved::$name {
                    $($field: {
                        $(from.pass_over_older::<$gone>()?;)?
                        Field::take(from)?
                    },)*
                    $($newer: from.take_newer()?,)*
                }),)*
                _ => take_parent(from, tag),
            }
        }
    };
}

/// The items of entries of levels with totals.
const PARENTS: [(u8, Level); 3] = [
    (TAG_DOMAIN, Level::Domain),
    (TAG_IP, Level::Ip),
    (TAG_USER, Level::User),
];

/// Adds an entry of such a level: its key, a user's domain, what all have.
fn push_parent(
    out: &mut Vec<u8>,
    level: Level,
    (key, above): (&Key, Option<u32>),
    origin: &Origin,
) {
    let tag = PARENTS.iter().find(|(_, known)| *known == level);
    let (tag, _) = tag.expect("each level with totals has an item");
    push_item(out, *tag, |out| {
        match key {
            Key::Name(name) => name.push(out),
            Key::Address(ip) => ip.push(out),
        }
        if let Some(number) = above {
            number.push(out);
        }
        origin.push(out);
    });
}

/// Takes the fields of such an entry off.
fn take_parent<'a>(from: &mut Fields<'a, '_>, tag: u8) -> Option<Saved<'a>> {
    let &(_, level) = PARENTS.iter().find(|(known, _)| *known == tag)?;
    Some(Saved::Parent {
        level,
        key: match level {
            Level::Ip => Key::Address(Field::take(from)?),
            _ => Key::Name(Field::take(from)?),
        },
        above: match level {
            Level::User => Some(Field::take(from)?),
            _ => None,
        },
        origin: Field::take(from)?,
    })
}

items! {
    TAG_GLOBAL Global { now, reset_secs, last_update, counters; kept }
    // In version 1: whether there is an older session of its id, which follows from the ids.
    TAG_SESSION Session {
        id, service, user, ip, pid, connected, placeholder, indexed, [bool] basis;
        user_place, ip_place, pending, created_secs
    }
    TAG_SERVICE Service { name, reset_secs, last_update, counters; }
    TAG_CMD Cmd { service, name, reset_secs, last_update, counters, latency; }
    TAG_COMMAND Command { session, name, args, command_number, basis; is_done, cmd, is_over }
}

/// Adds the end of all items.
pub(super) fn push_end(out: &mut Vec<u8>) {
    out.push(TAG_END);
}

/// Adds the names of the counters.
pub(super) fn push_names(out: &mut Vec<u8>) {
    push_item(out, TAG_COUNTERS, |out| {
        names().for_each(|name| push_text(out, name.as_bytes()));
    });
}

/// Adds the line of a FIFO that is not complete.
pub(super) fn push_partial(out: &mut Vec<u8>, partial: &PartialLine) {
    push_item(out, TAG_PARTIAL, |out| partial.push(out));
}

impl Format {
    /// Takes off an item that is not for the reader's caller: the counters, and kinds
    /// that later versions may have. False when the next one is not such an item.
    pub(super) fn pass_over(&mut self, from: &mut &[u8]) -> Option<bool> {
        let (&tag, rest) = from.split_first()?;
        let is_handed_out = tag <= LAST_TAG && tag != TAG_COUNTERS;
        if is_handed_out || self.version == Version::One {
            return Some(false);
        }
        let (bytes, rest) = take_sized(rest)?;
        *from = rest;
        if tag == TAG_COUNTERS {
            let names = Fields::new(self, bytes).names()?;
            self.counters = names;
        }
        Some(true)
    }

    /// Takes an item off; `None` inside for the end of all.
    pub(super) fn take_item<'a>(&self, from: &mut &'a [u8]) -> Option<Option<StateItem<'a>>> {
        let (&tag, rest) = from.split_first()?;
        *from = rest;
        if tag == TAG_END {
            return Some(None);
        }
        let mut fields = Fields::new(self, rest);
        match self.version {
            Version::One => {
                let item = take_fields(&mut fields, tag)?;
                *from = fields.bytes;
                Some(Some(item))
            }
            Version::Two => {
                (fields.bytes, *from) = take_sized(rest)?;
                take_fields(&mut fields, tag).map(Some)
            }
        }
    }
}

/// What stands behind its length, and what follows.
fn take_sized(from: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = from.split_first_chunk()?;
    rest.split_at_checked(u16::from_le_bytes(*length).into())
}

/// Takes the fields of an item off.
fn take_fields<'a>(from: &mut Fields<'a, '_>, tag: u8) -> Option<StateItem<'a>> {
    match tag {
        TAG_PARTIAL => Field::take(from).map(StateItem::Partial),
        TAG_PLACE if from.format.version == Version::One => Some(StateItem::Place {
            listing: *Listing::ALL.get(u32::take(from)? as usize)?,
            number: Field::take(from)?,
        }),
        _ => take_saved(from, tag).map(StateItem::Saved),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Counters, MAX_TEXT_BYTES};

    /// The item of these bytes in a version, if there is one.
    fn taken(version: Version, bytes: &[u8]) -> Option<Option<StateItem<'_>>> {
        Format::new(version).take_item(&mut &*bytes)
    }

    #[test]
    fn content_that_no_version_writes_is_refused() {
        let long = [&[TAG_DOMAIN, 0x81, 0x40][..], &[b'x'; MAX_TEXT_BYTES + 1]].concat();
        for content in [
            &[12][..],
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
            assert_eq!(taken(Version::One, content), None, "{:?}", content.get(..9));
            let length = (content.len() as u16 - 1).to_le_bytes();
            let sized = [&content[..1], &length, &content[1..]].concat();
            assert_eq!(taken(Version::Two, &sized), None, "{:?}", content.get(..9));
        }
        // In version 1 items have no length.
        assert_eq!(taken(Version::One, &[TAG_DOMAIN]), None);
        assert_eq!(taken(Version::Two, &[TAG_DOMAIN, 1, 0]), None);
    }

    /// An item of version 2.
    fn sized(tag: u8, fields: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        push_item(&mut out, tag, |out| out.extend_from_slice(fields));
        out
    }

    #[test]
    fn fields_that_an_item_does_not_have_are_zero() {
        let domain = sized(TAG_DOMAIN, &[1, b'd', 9]);
        let Some(Some(StateItem::Saved(saved))) = taken(Version::Two, &domain) else {
            panic!("a domain without the fields behind the first two");
        };
        let basis = Basis {
            age_secs: 0,
            last_update: WallTime::default(),
            counters: Counters::default(),
            place: 0,
        };
        let origin = Origin {
            created_secs: 9,
            is_pinned: false,
            basis,
            pending: Counters::default(),
        };
        let domain = Saved::Parent {
            level: Level::Domain,
            key: Key::Name(b"d"),
            above: None,
            origin,
        };
        assert_eq!(saved, domain);
    }

    #[test]
    fn unknown_items_fields_and_counters_are_passed_over() {
        let mut bytes = sized(200, b"an item of an unknown kind");
        // Counters that are unknown, in another order, and fewer.
        let names = [&b"new_count"[..], b"num_cmds", b"user_cpu", b"num_logins"];
        push_item(&mut bytes, TAG_COUNTERS, |out| {
            names.iter().for_each(|name| push_text(out, name))
        });
        let fields = [1, b'd', 9, 1, 5, 6, 7, 0b1111, 10, 11, 12, 13, 3, 0];
        bytes.extend(sized(TAG_DOMAIN, &[&fields[..], b"more fields"].concat()));
        bytes.extend(sized(201, b""));
        bytes.push(TAG_END);
        let mut format = Format::new(Version::Two);
        let mut rest = &bytes[..];
        assert_eq!(format.pass_over(&mut rest), Some(true));
        assert_eq!(format.pass_over(&mut rest), Some(true));
        assert_eq!(format.pass_over(&mut rest), Some(false));
        let taken = format.take_item(&mut rest);
        let Some(Some(StateItem::Saved(Saved::Parent { origin, .. }))) = taken else {
            panic!("a domain, but {taken:?}");
        };
        let basis = origin.basis;
        assert_eq!(basis.counters.num_cmds, 11);
        assert_eq!(basis.counters.stats.values[0], 12, "user_cpu");
        assert_eq!(basis.counters.num_logins, 13);
        assert_eq!((basis.age_secs, basis.place), (5, 3));
        assert_eq!(format.pass_over(&mut rest), Some(true));
        assert_eq!(format.pass_over(&mut rest), Some(false));
        assert_eq!(format.take_item(&mut rest), Some(None));
        assert_eq!(rest, b"");
    }
}
