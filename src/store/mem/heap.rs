//! Bytes of variable length: the texts and packed counters of entries.
//!
//! A blob lies in one slot of a slab of its size class; classes are multiples
//! of eight bytes up to 128, then four to each doubling, so that at most a fifth
//! of a blob is slack. A [`Blob`] is a handle of four bytes, class and slot
//! number; only its owner knows how many bytes of the slot are in use.
//!
//! Must not: outlive or share blobs; each has one owner, which frees it.

use crate::store::mem::budget::{Budget, Full, Purpose};
use crate::store::mem::slab::{Slab, SlabBytes};

/// The unit of slots in bytes.
const GRANULE_BYTES: usize = 8;

/// The largest blob in bytes.
pub(crate) const MAX_BLOB_BYTES: usize = 10240;

/// The sizes of the classes in granules.
const CLASSES: [u16; 41] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96,
    112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024, 1280,
];

/// The classes that are one granule apart.
const FINE_CLASSES: usize = 16;

/// Bits of a handle that number the slot.
const SLOT_BITS: u32 = 26;

/// Handle of bytes in the heap; the empty blob is a handle to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blob(u32);

impl Blob {
    /// No bytes, of no class; costs none.
    pub(crate) const EMPTY: Blob = Blob(u32::MAX);

    /// Class and slot number.
    fn split(self) -> (usize, u32) {
        (
            (self.0 >> SLOT_BITS) as usize,
            self.0 & ((1 << SLOT_BITS) - 1),
        )
    }
}

#[derive(Debug)]
pub(crate) struct Heap {
    /// The slabs by class.
    classes: [Slab<[u8; GRANULE_BYTES]>; CLASSES.len()],
}

impl Heap {
    /// A heap without blobs.
    pub(crate) fn new(page_bytes: usize) -> Heap {
        Heap {
            classes: CLASSES.map(|granules| Slab::of_bytes(granules.into(), page_bytes)),
        }
    }

    /// The smallest class for so many bytes; they are not zero.
    #[inline(always)]
    fn class(bytes: usize) -> usize {
        // One less, every class begins where its upper bits change.
        let below = bytes.div_ceil(GRANULE_BYTES) - 1;
        if below < FINE_CLASSES {
            return below;
        }
        let doublings = (below / FINE_CLASSES).ilog2() as usize;
        FINE_CLASSES + 4 * doublings + (below >> (doublings + 2)) - 4
    }

    /// What a blob of so many bytes occupies, in bytes.
    #[cfg(test)]
    pub(crate) fn slot_bytes(bytes: usize) -> usize {
        match bytes {
            0 => 0,
            bytes => usize::from(CLASSES[Self::class(bytes)]) * GRANULE_BYTES,
        }
    }

    pub(crate) fn slab_bytes(&self) -> SlabBytes {
        let mut sum = SlabBytes::default();
        self.classes.iter().for_each(|class| sum += class.bytes());
        sum
    }

    /// The pages that compaction can empty, in bytes.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn reclaimable_bytes(&self) -> usize {
        self.classes.iter().map(Slab::reclaimable_bytes).sum()
    }

    /// What taking a few blobs of a size now may take from the budget, in bytes.
    pub(crate) fn wanted_bytes(&self, bytes: usize, blobs: usize) -> usize {
        self.classes[Self::class(bytes)].wanted_bytes(blobs)
    }

    /// Moves a blob that lies in a sparse page to a fuller one. True if it moved.
    #[inline]
    pub(crate) fn relocate(&mut self, blob: &mut Blob, budget: &mut Budget) -> bool {
        let (class, slot) = blob.split();
        let slab = self.classes.get_mut(class);
        let moved = slab.and_then(|slab| slab.relocate(slot, budget));
        if let Some(slot) = moved {
            *blob = Blob(((class as u32) << SLOT_BITS) | slot);
        }
        moved.is_some()
    }

    /// Takes room for `bytes`, at most [`MAX_BLOB_BYTES`].
    ///
    /// # Errors
    /// [`Full`] when the budget has no room.
    #[inline(always)]
    pub(crate) fn take(
        &mut self,
        bytes: usize,
        budget: &mut Budget,
        purpose: Purpose,
    ) -> Result<Blob, Full> {
        if bytes == 0 {
            return Ok(Blob::EMPTY);
        }
        let class = Self::class(bytes);
        let slot = self.classes[class].take(budget, purpose)?;
        if slot >> SLOT_BITS != 0 {
            self.classes[class].free(slot, budget);
            return Err(Full);
        }
        Ok(Blob(((class as u32) << SLOT_BITS) | slot))
    }

    /// Moves a blob to a slot for `bytes`, more than its own has, with the first `kept`
    /// of its bytes.
    ///
    /// # Errors
    /// [`Full`] when the budget has no room; then it stays where it is.
    pub(crate) fn grow(
        &mut self,
        blob: &mut Blob,
        kept: usize,
        bytes: usize,
        budget: &mut Budget,
        purpose: Purpose,
    ) -> Result<(), Full> {
        let new = self.take(bytes, budget, purpose)?;
        let ((old_class, old_slot), (class, slot)) = (blob.split(), new.split());
        let (smaller, larger) = self.classes.split_at_mut(class);
        let old = smaller[old_class].slot(old_slot).as_flattened();
        let new_bytes = larger[0].slot_mut(slot).as_flattened_mut();
        new_bytes[..kept].copy_from_slice(&old[..kept]);
        self.free(std::mem::replace(blob, new), budget);
        Ok(())
    }

    #[inline(never)]
    pub(crate) fn free(&mut self, blob: Blob, budget: &mut Budget) {
        let (class, slot) = blob.split();
        if let Some(class) = self.classes.get_mut(class) {
            class.free(slot, budget);
        }
    }

    /// A blob's slot, slack included.
    #[inline]
    pub(crate) fn bytes(&self, blob: Blob) -> &[u8] {
        let (class, slot) = blob.split();
        match self.classes.get(class) {
            Some(class) => class.slot(slot).as_flattened(),
            None => &[],
        }
    }

    /// A blob's slot, slack included, to be changed.
    #[inline]
    pub(crate) fn bytes_mut(&mut self, blob: Blob) -> &mut [u8] {
        let (class, slot) = blob.split();
        match self.classes.get_mut(class) {
            Some(class) => class.slot_mut(slot).as_flattened_mut(),
            None => &mut [],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_waste_at_most_a_fifth() {
        for bytes in 1..=MAX_BLOB_BYTES {
            let slot = Heap::slot_bytes(bytes);
            assert!(slot >= bytes);
            assert!(
                slot - bytes < 8 || (slot - bytes) * 5 <= slot,
                "{bytes} in {slot}"
            );
        }
        assert_eq!(Heap::slot_bytes(MAX_BLOB_BYTES), MAX_BLOB_BYTES);
    }

    #[test]
    fn blobs_of_all_sizes_keep_their_bytes() {
        let mut budget = Budget::new(64 << 20);
        let mut heap = Heap::new(4096);
        let sizes = || {
            (0..=MAX_BLOB_BYTES)
                .step_by(61)
                .chain([1, 8, 9, MAX_BLOB_BYTES])
        };
        let blobs: Vec<_> = sizes()
            .map(|bytes| {
                let blob = heap.take(bytes, &mut budget, Purpose::Create).unwrap();
                heap.bytes_mut(blob)[..bytes].fill(bytes as u8);
                blob
            })
            .collect();
        for (bytes, blob) in sizes().zip(blobs) {
            assert!(heap.bytes(blob)[..bytes]
                .iter()
                .all(|&byte| byte == bytes as u8));
            heap.free(blob, &mut budget);
        }
        assert!(heap.classes.iter().all(|class| class.len() == 0));
    }
}
