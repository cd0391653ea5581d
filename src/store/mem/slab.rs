//! The slab: slots of one size in pages of one size.
//!
//! A slot is `stride` consecutive elements of `T`; a slab of entries has stride
//! one, a slab of text or packed numbers has some granules to a slot. Slots are
//! known by their number; which are vacant is in tables beside the pages
//! ([`vacancies`](crate::store::mem::vacancies)), so that a vacant slot needs no link inside. A
//! page whose last slot was freed is given back at once, and what it was charged
//! serves the next page of any slab: when the workload shifts from one kind of entry
//! to another, so does the memory.
//!
//! All bytes are charged to the [`Budget`]: pages, and the tables of pages and
//! vacant slots with their spare room.
//!
//! Invariants: a page is in the table exactly when it has a used slot. Using a vacant
//! slot's number is a bug of the caller; freeing one panics.
//!
//! Must not: know what is in a slot, or free anything by itself.

use crate::store::mem::budget::{Budget, Full, Purpose};
use crate::store::mem::vacancies::Vacancies;
pub(crate) use crate::store::mem::vacancies::{Search, SlotNumber};
use crate::sys::mem::page::{system_page_bytes, Frame, Page};
use std::num::NonZeroUsize;

/// What the pages of a slab take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlabBytes {
    /// All of them, in bytes.
    pub(crate) mapped: usize,
    /// The part that no used slot lies in, in bytes.
    pub(crate) lost: usize,
}

impl std::ops::AddAssign for SlabBytes {
    fn add_assign(&mut self, more: SlabBytes) {
        self.mapped += more.mapped;
        self.lost += more.lost;
    }
}

/// The share of a page that may lie idle behind its last slot.
const MOST_TAIL: usize = 8;

/// Slots of one size. See the module.
#[derive(Debug)]
pub(crate) struct Slab<T: Copy> {
    /// The value of fresh elements.
    blank: T,
    /// Makes a page of a frame and that value.
    make_page: fn(Frame, T) -> Page<T>,
    /// Frames had better be written.
    are_bytes: bool,
    /// Elements to a slot.
    stride: usize,
    /// The pages by number; without elements where one was given back.
    pages: Vec<Page<T>>,
    /// Which slots are vacant.
    vacancies: Vacancies,
}

/// A slot was asked for that is not in use.
#[cold]
#[inline(never)]
fn not_used() -> ! {
    panic!("no used slot of that number")
}

impl<const N: usize> Slab<[u8; N]> {
    /// A slab whose fresh slots have any bytes, so that its pages need not be filled.
    pub(crate) fn of_bytes(stride: usize, page_bytes: usize) -> Slab<[u8; N]> {
        Slab {
            make_page: |frame, _| Page::of_bytes(frame),
            are_bytes: true,
            ..Slab::new([0; N], stride, page_bytes)
        }
    }
}

impl<T: Copy> Slab<T> {
    /// A slab without pages. Its pages have at least `page_bytes`, more where slots of
    /// this size would leave more than a [`MOST_TAIL`]th of a page at its end.
    pub(crate) fn new(blank: T, stride: usize, page_bytes: usize) -> Slab<T> {
        let slot_bytes = size_of::<T>() * stride;
        let mut page_bytes = page_bytes.next_multiple_of(system_page_bytes());
        while page_bytes % slot_bytes * MOST_TAIL > page_bytes {
            page_bytes += system_page_bytes();
        }
        let page = NonZeroUsize::new(page_bytes).expect("slots have bytes");
        Slab {
            blank,
            make_page: Page::filled,
            are_bytes: false,
            stride,
            pages: Vec::new(),
            vacancies: Vacancies::new(page_bytes / slot_bytes, page),
        }
    }

    /// The number of used slots.
    pub(crate) fn len(&self) -> usize {
        self.vacancies.len()
    }

    pub(crate) fn bytes(&self) -> SlabBytes {
        let mapped = self.vacancies.mapped_bytes();
        SlabBytes {
            mapped,
            lost: mapped - self.len() * self.stride * size_of::<T>(),
        }
    }

    /// The pages that compaction can empty, in bytes.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn reclaimable_bytes(&self) -> usize {
        self.vacancies.reclaimable_bytes()
    }

    /// What taking a few slots now may take from the budget, in bytes.
    pub(crate) fn wanted_bytes(&self, slots: usize) -> usize {
        self.vacancies.wanted_bytes(slots, size_of::<Page<T>>())
    }

    /// Takes a vacant slot. Its content is unspecified.
    ///
    /// # Errors
    /// [`Full`] when that needs a page and the budget has no room for it, or
    /// when all slot numbers are in use.
    #[inline(always)]
    pub(crate) fn take(
        &mut self,
        budget: &mut Budget,
        purpose: Purpose,
    ) -> Result<SlotNumber, Full> {
        match self.vacancies.take(budget) {
            Some(slot) => Ok(slot),
            None => self.take_from_new_page(budget, purpose),
        }
    }

    /// [`Slab::take`] when no page has a vacant slot.
    #[cold]
    #[inline(never)]
    fn take_from_new_page(
        &mut self,
        budget: &mut Budget,
        purpose: Purpose,
    ) -> Result<SlotNumber, Full> {
        let entry_bytes = size_of::<Page<T>>();
        let (number, frame) =
            self.vacancies
                .add_page(entry_bytes, self.are_bytes, budget, purpose)?;
        let count = self.vacancies.page_count();
        if count > self.pages.len() {
            self.pages.reserve_exact(count - self.pages.len());
            self.pages.resize_with(count, || Page::NONE);
        }
        self.pages[number as usize] = (self.make_page)(frame, self.blank);
        let slot = self.vacancies.take(budget);
        Ok(slot.expect("a new page has vacant slots"))
    }

    /// Makes a slot vacant, and gives its page back if it was the last one.
    #[inline(always)]
    pub(crate) fn free(&mut self, slot: SlotNumber, budget: &mut Budget) {
        if let Some(number) = self.vacancies.free(slot, budget) {
            let page = std::mem::replace(&mut self.pages[number as usize], Page::NONE);
            let frame = page.into_frame();
            self.vacancies.remove_page(number, frame, budget);
        }
    }

    /// Whether a used slot lies in a sparse page.
    #[inline]
    pub(crate) fn is_sparse(&self, slot: SlotNumber) -> bool {
        self.vacancies.is_sparse(slot)
    }

    /// Moves a used slot that lies in a sparse page to a fuller one; its new number.
    #[inline]
    pub(crate) fn relocate(&mut self, old: SlotNumber, budget: &mut Budget) -> Option<SlotNumber> {
        if !self.vacancies.is_sparse(old) {
            return None;
        }
        let new = self.vacancies.take(budget)?;
        let ((old_page, old_slot), (new_page, new_slot)) =
            (self.vacancies.split(old), self.vacancies.split(new));
        let middle = old_page.max(new_page);
        let (front, back) = self.pages.split_at_mut(middle);
        let (from, to) = match old_page < new_page {
            true => (&front[old_page], &mut back[0]),
            false => (&back[0], &mut front[new_page]),
        };
        let range = |slot: usize| slot * self.stride..(slot + 1) * self.stride;
        to[range(new_slot)].copy_from_slice(&from[range(old_slot)]);
        self.free(old, budget);
        Some(new)
    }

    /// Searches `pages` pages for the first used slot at or behind a number, if wanted in
    /// sparse pages only.
    pub(crate) fn search(&self, slot: SlotNumber, only_sparse: bool, pages: usize) -> Search {
        self.vacancies.search(slot, only_sparse, pages)
    }

    /// The elements of a used slot.
    #[inline]
    pub(crate) fn slot(&self, slot: SlotNumber) -> &[T] {
        let (page, slot) = self.vacancies.split(slot);
        let begin = slot * self.stride;
        let page = self.pages.get(page);
        match page.and_then(|page| page.get(begin..begin + self.stride)) {
            Some(elements) => elements,
            None => not_used(),
        }
    }

    /// The elements of a used slot, to be changed.
    #[inline]
    pub(crate) fn slot_mut(&mut self, slot: SlotNumber) -> &mut [T] {
        let (page, slot) = self.vacancies.split(slot);
        let begin = slot * self.stride;
        let page = self.pages.get_mut(page);
        match page.and_then(|page| page.get_mut(begin..begin + self.stride)) {
            Some(elements) => elements,
            None => not_used(),
        }
    }

    /// The element of a used slot, in a slab whose stride is one.
    #[inline]
    pub(crate) fn element(&self, slot: SlotNumber) -> &T {
        let (page, slot) = self.vacancies.split(slot);
        let page = self.pages.get(page);
        match page.and_then(|page| page.get(slot)) {
            Some(element) => element,
            None => not_used(),
        }
    }

    #[inline]
    pub(crate) fn element_mut(&mut self, slot: SlotNumber) -> &mut T {
        let (page, slot) = self.vacancies.split(slot);
        let page = self.pages.get_mut(page);
        match page.and_then(|page| page.get_mut(slot)) {
            Some(element) => element,
            None => not_used(),
        }
    }

    /// The element of a used slot, made blank, in a slab whose stride is one.
    #[inline]
    pub(crate) fn blank_element(&mut self, slot: SlotNumber) -> &mut T {
        let (page, begin) = self.vacancies.split(slot);
        let page = self.pages.get_mut(page);
        match page.and_then(|page| page.get_mut(begin..begin + self.stride)) {
            // By the stride, which the compiler does not know: else it copies large elements
            // by an instruction that takes longer than a call.
            Some(elements) => {
                elements.copy_from_slice(&std::slice::from_ref(&self.blank)[..self.stride]);
                &mut elements[0]
            }
            None => not_used(),
        }
    }

    /// True when the number names a used slot.
    pub(crate) fn is_used(&self, slot: SlotNumber) -> bool {
        self.vacancies.is_used(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Random;
    use std::collections::HashMap;

    #[test]
    fn pages_are_taken_when_needed_and_given_back_when_empty() {
        let mut budget = Budget::new(1 << 20);
        let mut slab = Slab::new(0u64, 1, 4096);
        let first = slab.take(&mut budget, Purpose::Create).unwrap();
        let one_page = budget.used_bytes();
        // The table has room for some pages more.
        assert!(one_page > 4096 && one_page < 4096 + 1024, "{one_page}");
        let rest: Vec<_> = (1..512)
            .map(|_| slab.take(&mut budget, Purpose::Create).unwrap())
            .collect();
        assert_eq!(budget.used_bytes(), one_page);
        let next = slab.take(&mut budget, Purpose::Create).unwrap();
        assert_eq!(budget.used_bytes(), one_page + 4096);
        slab.free(next, &mut budget);
        assert_eq!(budget.used_bytes(), one_page);
        for slot in rest.into_iter().chain([first]) {
            slab.free(slot, &mut budget);
        }
        assert_eq!(slab.len(), 0);
        assert!(
            budget.used_bytes() < 1024,
            "only the table of pages is left"
        );
    }

    #[test]
    fn a_slot_larger_than_a_page_has_a_page_of_its_own() {
        let mut budget = Budget::new(1 << 20);
        let mut slab = Slab::new([0u8; 8], 1024, 4096);
        let a = slab.take(&mut budget, Purpose::Create).unwrap();
        let b = slab.take(&mut budget, Purpose::Create).unwrap();
        slab.slot_mut(a).fill([1; 8]);
        slab.slot_mut(b).fill([2; 8]);
        assert_eq!(slab.slot(a).len(), 1024);
        assert!(slab.slot(a).iter().all(|granule| *granule == [1; 8]));
    }

    #[test]
    fn a_full_budget_takes_nothing_and_changes_nothing() {
        let mut budget = Budget::new(6000);
        let mut slab = Slab::new(0u64, 1, 4096);
        let slots: Vec<_> =
            std::iter::from_fn(|| slab.take(&mut budget, Purpose::Create).ok()).collect();
        assert_eq!(slots.len(), 512);
        let used = budget.used_bytes();
        assert_eq!(slab.take(&mut budget, Purpose::Grow), Err(Full));
        assert_eq!((budget.used_bytes(), slab.len()), (used, 512));
        slab.free(slots[7], &mut budget);
        assert_eq!(slab.take(&mut budget, Purpose::Create), Ok(slots[7]));
    }

    #[test]
    #[should_panic(expected = "freed once")]
    fn freeing_twice_is_found_out() {
        let mut budget = Budget::new(1 << 20);
        let mut slab = Slab::new(0u8, 1, 4096);
        let slot = slab.take(&mut budget, Purpose::Create).unwrap();
        slab.take(&mut budget, Purpose::Create).unwrap();
        slab.free(slot, &mut budget);
        slab.free(slot, &mut budget);
    }

    #[test]
    fn agrees_with_a_hash_map_under_random_operations() {
        let mut random = Random::seeded("slab against HashMap");
        for stride in [1, 3, 8] {
            let mut budget = Budget::new(16_000 * stride);
            let mut slab = Slab::new(0u64, stride, 512);
            let mut model: HashMap<SlotNumber, u64> = HashMap::new();
            let mut taken = Vec::new();
            let mut refused = 0;
            for step in 0..40_000u64 {
                let growing = (step / 8000) % 2 == 0;
                if random.below(10) < if growing { 7 } else { 3 } {
                    match slab.take(&mut budget, Purpose::Create) {
                        Ok(slot) => {
                            slab.slot_mut(slot).fill(step);
                            assert_eq!(model.insert(slot, step), None, "slot {slot} was in use");
                            taken.push(slot);
                        }
                        Err(Full) => refused += 1,
                    }
                } else if !taken.is_empty() {
                    let slot = taken.swap_remove(random.below(taken.len() as u64) as usize);
                    slab.free(slot, &mut budget);
                    model.remove(&slot);
                    assert!(!slab.is_used(slot));
                }
                assert_eq!(slab.len(), model.len());
            }
            for (&slot, &value) in &model {
                assert!(slab.is_used(slot));
                assert_eq!(slab.slot(slot), vec![value; stride]);
            }
            assert!(
                stride == 1 || refused > 0,
                "stride {stride} never met the limit"
            );
            for &slot in model.keys() {
                slab.free(slot, &mut budget);
            }
            assert!(slab.pages.iter().all(|page| page.is_empty()));
        }
    }
}
