//! The contents of an entry: its texts and its counters, in one blob.
//!
//! The key comes first, then the other text, then the counters, packed (see
//! [`packed`]). So the key and the counters lie side by side, most often in
//! two cache lines, and are allocated and freed together.
//!
//! Invariants: the slot of an entry's blob is long enough for its texts and its packed
//! counters; when the counters need more, both move.
//!
//! Must not: outlive the entry; [`Table::release`](crate::store::entries::table::Table::release)
//! frees both.

use crate::store::counters::packed::{self, Values, Widths, MAX_PACKED_BYTES};
use crate::store::counters::{Counters, Difference};
use crate::store::mem::budget::{Full, Purpose};
use crate::store::mem::heap::{Blob, Heap, MAX_BLOB_BYTES};
use crate::store::mem::Memory;

/// The most bytes of both texts. The wire takes no longer line.
pub const MAX_TEXT_BYTES: usize = 8192;

const _: () = assert!(MAX_TEXT_BYTES + MAX_PACKED_BYTES <= MAX_BLOB_BYTES);

/// Where texts and counters of an entry are. See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contents {
    blob: Blob,
    /// Length of the key: command name, session id, user or domain name, or the
    /// 4 or 16 bytes of an address.
    key_len: u16,
    /// Length of the other text: a command's arguments, a session's service.
    rest_len: u16,
}

impl Contents {
    /// Placeholder in an entry that has not been created.
    pub(crate) const NONE: Contents = Contents {
        blob: Blob::EMPTY,
        key_len: 0,
        rest_len: 0,
    };

    /// Texts, and counters in widths that are wide enough for them; without, zeros.
    ///
    /// # Errors
    /// [`Full`] when there is no room.
    ///
    /// # Panics
    /// When the texts are longer than [`MAX_TEXT_BYTES`].
    pub(crate) fn new(
        memory: &mut Memory,
        (key, rest): (&[u8], &[u8]),
        (counters, widths): (Option<&impl Values>, Widths),
    ) -> Result<Contents, Full> {
        let length = key.len() + rest.len();
        assert!(length <= MAX_TEXT_BYTES, "long texts are refused earlier");
        let bytes = length + widths.packed_bytes();
        let (heap, budget) = (&mut memory.heap, &mut memory.budget);
        let blob = heap.take(bytes, budget, Purpose::Create)?;
        let (text, packed) = heap.bytes_mut(blob).split_at_mut(length);
        text[..key.len()].copy_from_slice(key);
        if !rest.is_empty() {
            text[key.len()..].copy_from_slice(rest);
        }
        match counters {
            Some(counters) => packed::pack(counters, widths, packed),
            None => packed::pack_zeros(widths, &mut packed[..bytes - length]),
        }
        Ok(Contents {
            blob,
            key_len: key.len() as u16,
            rest_len: rest.len() as u16,
        })
    }

    /// What contents of such texts and widths take from the heap, in bytes.
    pub(crate) fn blob_bytes((key, rest): (&[u8], &[u8]), widths: Widths) -> usize {
        key.len() + rest.len() + widths.packed_bytes()
    }

    /// Moves them to a fuller page if they lie in a sparse one. True if they moved.
    #[inline]
    pub(crate) fn relocate(&mut self, memory: &mut Memory) -> bool {
        memory.heap.relocate(&mut self.blob, &mut memory.budget)
    }

    pub(crate) fn free(self, memory: &mut Memory) {
        memory.heap.free(self.blob, &mut memory.budget);
    }

    #[inline]
    pub(crate) fn key(self, heap: &Heap) -> &[u8] {
        &heap.bytes(self.blob)[..self.key_len.into()]
    }

    /// Both texts, and the counters, packed, which a slot's slack may follow.
    #[inline]
    pub(crate) fn parts(self, heap: &Heap) -> (&[u8], &[u8], &[u8]) {
        let (key, behind) = heap.bytes(self.blob).split_at(self.key_len.into());
        let (rest, packed) = behind.split_at(self.rest_len.into());
        (key, rest, packed)
    }

    pub(crate) fn rest(self, heap: &Heap) -> &[u8] {
        &heap.bytes(self.blob)[self.key_len.into()..][..self.rest_len.into()]
    }

    /// Texts and packed counters, slack included.
    #[inline(always)]
    pub(crate) fn bytes(self, heap: &Heap) -> &[u8] {
        heap.bytes(self.blob)
    }

    #[inline(always)]
    fn text_bytes(self) -> usize {
        usize::from(self.key_len) + usize::from(self.rest_len)
    }

    /// The packed counters, slack included.
    #[inline(always)]
    pub(crate) fn packed(self, heap: &Heap) -> &[u8] {
        &heap.bytes(self.blob)[self.text_bytes()..]
    }

    /// The packed counters, slack included, to be changed within the widths they have.
    #[inline(always)]
    pub(crate) fn packed_mut(self, heap: &mut Heap) -> &mut [u8] {
        &mut heap.bytes_mut(self.blob)[self.text_bytes()..]
    }

    #[inline(always)]
    pub(crate) fn counters(self, heap: &Heap) -> Counters {
        packed::unpack(self.packed(heap))
    }

    /// Unpacks to counters that are zero.
    #[inline(always)]
    pub(crate) fn unpack_to(self, heap: &Heap, counters: &mut Counters) {
        packed::unpack_to(self.packed(heap), counters);
    }

    /// # Errors
    /// [`Full`] when they need more room and there is none; then nothing has changed.
    pub(crate) fn set(&mut self, memory: &mut Memory, counters: &Counters) -> Result<(), Full> {
        packed::replace(self.packed_mut(&mut memory.heap), counters)
            .or_else(|widths| self.widen(memory, counters, widths))
    }

    /// # Errors
    /// [`Full`] when they need more room and there is none; then nothing has changed.
    #[inline]
    pub(crate) fn count(
        &mut self,
        memory: &mut Memory,
        difference: Difference,
    ) -> Result<(), Full> {
        match packed::count(self.packed_mut(&mut memory.heap), difference) {
            true => Ok(()),
            false => self.count_wider(memory, difference),
        }
    }

    /// [`Contents::count`] where a counter outgrows the width it has.
    ///
    /// # Errors
    /// [`Full`] when there is no room; then nothing has changed.
    #[inline(never)]
    fn count_wider(&mut self, memory: &mut Memory, difference: Difference) -> Result<(), Full> {
        let mut sums = Counters::default();
        packed::unpack_to(self.packed(&memory.heap), &mut sums);
        sums.count(difference);
        self.widen(memory, &sums, Widths::narrowest(&sums))
    }

    /// Sets counters that have outgrown the widths they had: in place, or with the texts in
    /// another slot if this one is too short.
    ///
    /// # Errors
    /// [`Full`] when there is no room; then nothing has changed.
    #[inline(never)]
    fn widen(
        &mut self,
        memory: &mut Memory,
        counters: &Counters,
        widths: Widths,
    ) -> Result<(), Full> {
        let (heap, budget) = (&mut memory.heap, &mut memory.budget);
        let text_bytes = self.text_bytes();
        let bytes = text_bytes + widths.packed_bytes();
        if bytes > heap.bytes(self.blob).len() {
            heap.grow(&mut self.blob, text_bytes, bytes, budget, Purpose::Grow)?;
        }
        packed::pack(counters, widths, self.packed_mut(heap));
        Ok(())
    }

    /// # Errors
    /// [`Full`] when there is no room; then nothing has changed.
    pub(crate) fn rename(
        &mut self,
        memory: &mut Memory,
        texts: (&[u8], &[u8]),
    ) -> Result<(), Full> {
        let packed = self.packed(&memory.heap);
        let (counters, widths) = (packed::unpack(packed), Widths::of_packed(packed));
        let new = Contents::new(memory, texts, (Some(&counters), widths))?;
        std::mem::replace(self, new).free(memory);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{some_counters, widest, Random};

    /// Texts of some length, most often short.
    fn some_texts(random: &mut Random) -> [Vec<u8>; 2] {
        [(); 2].map(|()| {
            let most = if random.below(50) == 0 { 4096 } else { 40 };
            let length = random.below(most + 1) as usize;
            vec![random.bits() as u8; length]
        })
    }

    /// Contents, and what they must contain.
    struct Both {
        contents: Contents,
        texts: [Vec<u8>; 2],
        counters: Counters,
    }

    impl Both {
        fn check(&self, heap: &Heap) {
            assert_eq!(self.contents.key(heap), self.texts[0]);
            assert_eq!(self.contents.rest(heap), self.texts[1]);
            assert_eq!(self.contents.counters(heap), self.counters);
        }
    }

    #[test]
    fn what_is_changed_changes_and_the_rest_stays() {
        let mut random = Random::seeded("contents of entries");
        let mut memory = Memory::new(200_000, 4096);
        let mut all: Vec<Both> = Vec::new();
        let (mut changed, mut refused) = ([0; 4], [0; 4]);
        for step in 0..40_000 {
            let bits = random.below(63) + 1;
            let counters = some_counters(&mut random, bits);
            // Half of the time nothing is freed, until nothing can grow.
            let what = match step / 500 % 2 {
                0 => random.below(6) as usize,
                _ => 1 + random.below(2) as usize,
            };
            if what == 5 && !all.is_empty() {
                let gone = all.swap_remove(random.below(all.len() as u64) as usize);
                gone.contents.free(&mut memory);
                continue;
            }
            let at = random.below(all.len().max(1) as u64) as usize;
            let texts = some_texts(&mut random);
            let both = (&texts[0][..], &texts[1][..]);
            let done = match (what, all.get_mut(at)) {
                (1, Some(one)) => {
                    let done = one.contents.set(&mut memory, &counters);
                    if done.is_ok() {
                        one.counters = counters;
                    }
                    done
                }
                (2, Some(one)) => {
                    let more = Difference::Of(&counters);
                    let done = one.contents.count(&mut memory, more);
                    if done.is_ok() {
                        one.counters.count(more);
                    }
                    done
                }
                (3, Some(one)) => {
                    let done = one.contents.rename(&mut memory, both);
                    if done.is_ok() {
                        one.texts = texts;
                    }
                    done
                }
                _ => {
                    let widths = Widths::narrowest(&counters);
                    Contents::new(&mut memory, both, (Some(&counters), widths)).map(|contents| {
                        all.push(Both {
                            contents,
                            texts,
                            counters,
                        })
                    })
                }
            };
            let tally = if done.is_ok() {
                &mut changed
            } else {
                &mut refused
            };
            tally[what % 4] += 1;
            if step % 16 == 0 {
                all.iter().for_each(|one| one.check(&memory.heap));
            }
        }
        assert!(changed.iter().all(|&count| count > 500), "{changed:?}");
        assert!(refused.iter().all(|&count| count > 5), "{refused:?}");
        for one in all {
            one.check(&memory.heap);
            one.contents.free(&mut memory);
        }
        assert_eq!(memory.heap.slab_bytes().mapped, 0);
    }

    #[test]
    fn the_longest_texts_fit_with_the_widest_counters() {
        let mut memory = Memory::new(1 << 20, 4096);
        let text = [b'x'; MAX_TEXT_BYTES + 1];
        let zero = (None::<&Counters>, Widths::NONE);
        let mut contents = Contents::new(&mut memory, (b"x", &text[2..]), zero).unwrap();
        let widest = widest();
        contents.set(&mut memory, &widest).unwrap();
        assert_eq!(contents.counters(&memory.heap), widest);
        assert_eq!(contents.rest(&memory.heap), &text[2..]);
    }
}
