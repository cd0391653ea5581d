//! How far an entry's numbers moved lately, in few bytes.
//!
//! Most entries do nothing for most of the time, and one that does something moves
//! some of its numbers. So what moved is kept as groups, one for each time between
//! two snapshots that anything moved in, oldest first:
//!
//! `number of the snapshot before` `how many` (`which number` `how far`)...
//!
//! all of them as numbers of seven bits a byte, the lowest first.
//!
//! Invariants: groups are in the order of their snapshots, and none is empty; nothing
//! is kept that is older than the oldest snapshot asked for in [`Moves::drop_before`].

use super::VALUES;

/// What moved since some snapshots.
#[derive(Debug, Default)]
pub(crate) struct Moves(Box<[u8]>);

impl Moves {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds what moved behind the last of `snapshots`; `scratch` is overwritten.
    pub(crate) fn add(&mut self, snapshots: u64, mut moved: [u64; VALUES], scratch: &mut Vec<u8>) {
        if moved.iter().all(|&by| by == 0) {
            return;
        }
        scratch.clear();
        let mut groups = Groups(&self.0);
        loop {
            let rest = groups.0;
            match groups.next() {
                None => break,
                // In the same time: one group.
                Some((tag, group)) if tag == snapshots => {
                    for (value, by) in group {
                        moved[value] = moved[value].saturating_add(by);
                    }
                }
                Some(_) => scratch.extend_from_slice(&rest[..rest.len() - groups.0.len()]),
            }
        }
        push(scratch, snapshots);
        let all = || moved.iter().enumerate().filter(|(_, &by)| by > 0);
        push(scratch, all().count() as u64);
        for (value, &by) in all() {
            push(scratch, value as u64);
            push(scratch, by);
        }
        self.0 = scratch.as_slice().into();
    }

    /// Drops what moved before the snapshot of that number was taken.
    pub(crate) fn drop_before(&mut self, snapshot: u64) {
        let mut groups = Groups(&self.0);
        let mut kept = groups.0;
        while groups.next().is_some_and(|(tag, _)| tag <= snapshot) {
            kept = groups.0;
        }
        if kept.len() < self.0.len() {
            self.0 = kept.into();
        }
    }

    /// How far a number moved since that snapshot; `None`: since it is kept.
    pub(crate) fn since(&self, snapshot: Option<u64>, value: usize) -> u64 {
        let newer = Groups(&self.0).filter(|(tag, _)| snapshot.is_none_or(|after| *tag > after));
        let mut sum = 0u64;
        for (_, group) in newer {
            for (which, by) in group {
                if which == value {
                    sum = sum.saturating_add(by);
                }
            }
        }
        sum
    }

    /// Whether anything moved since that snapshot.
    pub(crate) fn any_since(&self, snapshot: u64) -> bool {
        Groups(&self.0).any(|(tag, _)| tag > snapshot)
    }
}

/// The groups of some bytes.
struct Groups<'a>(&'a [u8]);

impl<'a> Iterator for Groups<'a> {
    type Item = (u64, Group<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let tag = take(&mut self.0)?;
        let count = take(&mut self.0)?;
        let group = Group(self.0, count);
        // Behind its last number.
        let mut left = 2 * count;
        let end = self.0.iter().position(|byte| {
            left -= u64::from(byte & 0x80 == 0);
            left == 0
        });
        self.0 = end.map_or(&[], |end| &self.0[end + 1..]);
        Some((tag, group))
    }
}

/// What moved in a group: bytes, and how many numbers.
struct Group<'a>(&'a [u8], u64);

impl Iterator for Group<'_> {
    type Item = (usize, u64);

    fn next(&mut self) -> Option<(usize, u64)> {
        self.1 = self.1.checked_sub(1)?;
        let value = take(&mut self.0)?;
        Some((value as usize, take(&mut self.0)?))
    }
}

fn push(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Takes a number off the front.
fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            *bytes = &bytes[at + 1..];
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Random;

    #[test]
    fn moves_agree_with_all_of_them_added_up() {
        let mut random = Random::seeded("moves of top");
        let (mut moves, mut scratch) = (Moves::default(), Vec::new());
        let mut all: Vec<(u64, [u64; VALUES])> = Vec::new();
        let mut snapshots = 0;
        for _ in 0..2000 {
            let mut moved = [0; VALUES];
            for _ in 0..1 + random.below(4) {
                moved[random.below(VALUES as u64) as usize] = random.bits() >> random.below(64);
            }
            moves.add(snapshots, moved, &mut scratch);
            all.push((snapshots, moved));
            snapshots += random.below(3);
            let oldest = snapshots.saturating_sub(4);
            if random.below(4) == 0 {
                moves.drop_before(oldest);
                assert!(moves.0.len() < 4000, "what is old goes");
            }
            let value = random.below(VALUES as u64) as usize;
            let newer = all.iter().filter(|(tag, _)| *tag > oldest);
            let expected = newer.fold(0u64, |sum, (_, moved)| sum.saturating_add(moved[value]));
            assert_eq!(moves.since(Some(oldest), value), expected);
            assert_eq!(
                moves.any_since(oldest),
                all.iter()
                    .any(|(tag, moved)| *tag > oldest && moved.iter().any(|&by| by > 0))
            );
        }
        moves.drop_before(snapshots);
        assert!(moves.is_empty());
    }
}
