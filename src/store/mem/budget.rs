//! The byte budget: what the statistics may use, and what they use now.
//!
//! Every allocation of the store that lives as long as the entries do is made
//! through a [`Charge`]: pages of the slabs, the tables that find pages, hash
//! indexes. A charge remembers its bytes, so that giving it back cannot
//! disagree with taking it. What an allocator adds to a block is part of the
//! charge ([`BLOCK_OVERHEAD_BYTES`]); pages come from the kernel as they are.
//!
//! New entries stop a sixteenth short of the limit: that reserve is for
//! statistics that grow in entries which already exist, so that a full store
//! can still count.
//!
//! Frames that slabs no longer need are kept for the next slab that needs one, a few
//! of them ([`MOST_SPARE`]): when entries are freed to make others, memory would
//! otherwise go to the kernel and back with every few records. They are not in use, but
//! resident: used and spare bytes together stay within the limit, and the spare ones are
//! unmapped first.
//!
//! Must not: decide what to free.

use crate::sys::mem::page::Frame;
use std::num::NonZeroUsize;

/// What a block costs the allocator beyond its size: header and rounding in
/// glibc's and musl's malloc, at most.
pub(crate) const BLOCK_OVERHEAD_BYTES: usize = 32;

/// The share of the limit that only growth of existing entries may use.
const RESERVE_SHARE: usize = 16;

/// [`RESERVE_SHARE`] while a store is restored.
const OPEN_RESERVE_SHARE: usize = 64;

/// The share of the limit beyond which memory may be short: less is left than any record
/// needs, tables that grow included.
const AMPLE_SHARE: usize = 8;

/// The share of the limit that pages to be emptied may have while there is room.
pub(crate) const SHATTERED_SHARE: usize = 64;

/// The most frames that are kept; of the size that slabs have under the limit, these
/// are a sixty-fourth of it.
const MOST_SPARE: usize = 16;

/// What memory is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Create,
    /// More room for an entry that exists.
    Grow,
}

/// The budget has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Bytes taken from a budget, to be given back to it.
#[derive(Debug)]
#[must_use]
pub(crate) struct Charge {
    bytes: usize,
}

/// The limit and its use, in bytes.
#[derive(Debug)]
pub(crate) struct Budget {
    limit_bytes: usize,
    /// The sum of all charges.
    used_bytes: usize,
    /// What new entries leave for growth.
    reserve_bytes: usize,
    /// Bytes of the pages that compaction can empty.
    reclaimable_bytes: usize,
    /// Up to so many used bytes there is more room than any record needs.
    ample_bytes: usize,
    /// Up to so many reclaimable bytes there is no hurry to empty pages.
    shattered_bytes: usize,
    /// Frames not in use, most often the latest last.
    spare: Vec<Frame>,
    /// The sum of their sizes.
    spare_bytes: usize,
}

impl Budget {
    pub(crate) fn new(limit_bytes: usize) -> Budget {
        Budget {
            limit_bytes,
            used_bytes: 0,
            reserve_bytes: limit_bytes / RESERVE_SHARE,
            reclaimable_bytes: 0,
            ample_bytes: limit_bytes - limit_bytes / RESERVE_SHARE - limit_bytes / AMPLE_SHARE,
            shattered_bytes: limit_bytes / SHATTERED_SHARE,
            spare: Vec::new(),
            spare_bytes: 0,
        }
    }

    pub(crate) fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    pub(crate) fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// Lets new entries use most of the reserve, or not any more: those of a store that is
    /// restored have grown already.
    pub(crate) fn open_reserve(&mut self, is_open: bool) {
        let share = if is_open {
            OPEN_RESERVE_SHARE
        } else {
            RESERVE_SHARE
        };
        self.reserve_bytes = self.limit_bytes / share;
    }

    /// The bytes of the pages that vacant slots of the same kind would fill: what
    /// compaction can give back.
    pub(crate) fn reclaimable_bytes(&self) -> usize {
        self.reclaimable_bytes
    }

    /// Notes that vacant slots have come to fill one more page.
    pub(crate) fn mark_reclaimable(&mut self, page_bytes: NonZeroUsize) {
        self.reclaimable_bytes += page_bytes.get();
    }

    /// Notes that vacant slots fill one page less.
    pub(crate) fn unmark_reclaimable(&mut self, page_bytes: NonZeroUsize) {
        self.reclaimable_bytes -= page_bytes.get();
    }

    /// Whether there is more room than any record needs, and few holes.
    #[inline(always)]
    pub(crate) fn is_ample(&self) -> bool {
        self.used_bytes <= self.ample_bytes && self.reclaimable_bytes <= self.shattered_bytes
    }

    /// What a purpose may use altogether, in bytes.
    fn most_bytes(&self, purpose: Purpose) -> usize {
        match purpose {
            Purpose::Create => self.limit_bytes - self.reserve_bytes,
            Purpose::Grow => self.limit_bytes,
        }
    }

    /// What a purpose may still take, in bytes.
    pub(crate) fn room_bytes(&self, purpose: Purpose) -> usize {
        self.most_bytes(purpose).saturating_sub(self.used_bytes)
    }

    /// Takes `bytes` for blocks of the allocator, and what it adds to them.
    ///
    /// # Errors
    /// [`Full`] when they would pass what `purpose` may use.
    pub(crate) fn charge_blocks(
        &mut self,
        bytes: usize,
        blocks: usize,
        purpose: Purpose,
    ) -> Result<Charge, Full> {
        self.charge(bytes + blocks * BLOCK_OVERHEAD_BYTES, purpose)
    }

    /// Takes `bytes`.
    ///
    /// # Errors
    /// [`Full`] when they would pass what `purpose` may use.
    fn charge(&mut self, bytes: usize, purpose: Purpose) -> Result<Charge, Full> {
        if bytes > self.room_bytes(purpose) {
            return Err(Full);
        }
        self.used_bytes += bytes;
        while self.used_bytes + self.spare_bytes > self.limit_bytes {
            self.drop_spare();
        }
        Ok(Charge { bytes })
    }

    /// Takes a frame of `bytes`, a spare one or one of the kernel's; if it can be chosen, one
    /// that is written or one that is not.
    ///
    /// # Errors
    /// [`Full`] when it would pass what `purpose` may use, or the kernel has no
    /// memory.
    pub(crate) fn take_frame(
        &mut self,
        bytes: NonZeroUsize,
        is_written: bool,
        purpose: Purpose,
    ) -> Result<(Frame, Charge), Full> {
        let fits = |frame: &Frame| frame.bytes() == bytes.get();
        let is_best = |frame: &Frame| fits(frame) && frame.is_written() == is_written;
        let best = self.spare.iter().rposition(is_best);
        let spare = best.or_else(|| self.spare.iter().rposition(fits));
        let spare = spare.map(|at| self.spare.swap_remove(at));
        self.spare_bytes -= spare.as_ref().map_or(0, Frame::bytes);
        let charge = self.charge(bytes.get(), purpose)?;
        match spare.map_or_else(|| Frame::map(bytes), Ok) {
            Ok(frame) => Ok((frame, charge)),
            // The kernel has less than the limit promises.
            Err(_) => {
                self.release(charge);
                Err(Full)
            }
        }
    }

    /// Gives a frame back with its charge.
    pub(crate) fn give_frame(&mut self, frame: Frame, charge: Charge) {
        self.release(charge);
        if self.spare.len() == MOST_SPARE {
            self.drop_spare();
        }
        self.spare_bytes += frame.bytes();
        self.spare.push(frame);
    }

    /// Gives the spare frame that was there first to the kernel.
    #[cold]
    fn drop_spare(&mut self) {
        self.spare_bytes -= self.spare.remove(0).bytes();
    }

    pub(crate) fn spare_bytes(&self) -> usize {
        self.spare_bytes
    }

    /// Adds `bytes` to a charge.
    ///
    /// # Errors
    /// [`Full`] when they would pass what `purpose` may use.
    pub(crate) fn extend(
        &mut self,
        charge: &mut Charge,
        bytes: usize,
        purpose: Purpose,
    ) -> Result<(), Full> {
        charge.bytes += self.charge(bytes, purpose)?.bytes;
        Ok(())
    }

    /// Gives a charge back.
    pub(crate) fn release(&mut self, charge: Charge) {
        self.used_bytes -= charge.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_up_to_the_limit_and_not_a_byte_further() {
        let mut budget = Budget::new(1600);
        assert_eq!(budget.charge(1601, Purpose::Grow).unwrap_err(), Full);
        let charge = budget.charge(1600, Purpose::Grow).unwrap();
        assert_eq!(budget.used_bytes(), 1600);
        assert_eq!(budget.charge(1, Purpose::Grow).unwrap_err(), Full);
        budget.release(charge);
        let charge = budget.charge(1599, Purpose::Grow).unwrap();
        assert_eq!(budget.used_bytes(), 1599);
        let rest = budget.charge(1, Purpose::Grow).unwrap();
        budget.release(charge);
        budget.release(rest);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn new_entries_leave_the_reserve_alone() {
        let mut budget = Budget::new(1600);
        assert_eq!(budget.charge(1501, Purpose::Create).unwrap_err(), Full);
        let _create = budget.charge(1500, Purpose::Create).unwrap();
        assert_eq!(budget.charge(1, Purpose::Create).unwrap_err(), Full);
        let _grow = budget.charge(100, Purpose::Grow).unwrap();
    }

    #[test]
    fn frames_are_used_again_and_give_way() {
        const BYTES: usize = 65536;
        let size = NonZeroUsize::new(BYTES).unwrap();
        let mut budget = Budget::new(20 * BYTES);
        let mut taken: Vec<_> =
            std::iter::from_fn(|| budget.take_frame(size, true, Purpose::Grow).ok()).collect();
        assert_eq!((taken.len(), budget.used_bytes()), (20, 20 * BYTES));
        for (frame, charge) in taken.drain(..) {
            budget.give_frame(frame, charge);
        }
        assert_eq!((budget.used_bytes(), budget.spare.len()), (0, MOST_SPARE));
        let (frame, charge) = budget.take_frame(size, true, Purpose::Create).unwrap();
        assert_eq!(budget.spare.len(), MOST_SPARE - 1);
        // Spare frames and what is used never pass the limit together.
        let rest = budget.charge(18 * BYTES + 1, Purpose::Grow).unwrap();
        assert_eq!(budget.spare.len(), 0);
        budget.give_frame(frame, charge);
        assert_eq!(budget.spare.len(), 1);
        budget.release(rest);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn blocks_cost_what_the_allocator_adds() {
        let mut budget = Budget::new(1600);
        let _blocks = budget.charge_blocks(100, 3, Purpose::Create).unwrap();
        assert_eq!(budget.used_bytes(), 100 + 3 * BLOCK_OVERHEAD_BYTES);
    }
}
