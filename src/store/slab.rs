//! The slab: slots of one size in pages of one size.
//!
//! A slot is `stride` consecutive elements of `T`; a slab of entries has stride
//! one, a slab of text or packed numbers has some granules to a slot. Slots are
//! known by their number. A vacant slot costs one bit in a table beside the
//! pages and needs no link inside; pages with a vacant slot form a list, taken
//! from at its head. A page whose last slot was freed is given back at once,
//! and what it was charged serves the next page of any slab: when the workload
//! shifts from one kind of entry to another, so does the memory.
//!
//! All bytes are charged to the [`Budget`]: pages, and the table of pages and
//! vacant slots with its spare room.
//!
//! The lowest vacant slot of a page is taken first, and each page remembers where
//! to begin to look for it.
//!
//! Invariants: a page in the table has at least one used slot; a page is in the
//! list exactly when it has a vacant slot; `len` is the sum of used slots.
//! Using a vacant slot's number is a bug of the caller; freeing one panics.
//!
//! Must not: know what is in a slot, or free anything by itself.

use super::budget::{Budget, Charge, Full, Purpose};
use crate::sys::page::{system_page_bytes, Page};
use std::num::NonZeroUsize;

/// Number of a slot: the page in the upper bits, the slot in the lower.
pub type SlotNumber = u32;

/// No page.
const NONE: u32 = u32::MAX;

/// Slots of one size. See the module.
#[derive(Debug)]
pub struct Slab<T: Copy> {
    /// What fresh elements hold.
    blank: T,
    /// Elements to a slot.
    stride: usize,
    /// The size of a page.
    page_bytes: NonZeroUsize,
    /// Slots to a page.
    slots_per_page: usize,
    /// Bits of a slot number that count slots within a page.
    shift: u32,
    /// The pages by number; `None` where one was given back.
    pages: Vec<Option<SlabPage<T>>>,
    /// For each page as many words as its slots need bits, set where vacant.
    vacant: Vec<u64>,
    /// Numbers of pages that are not there.
    absent: Vec<u32>,
    /// What these three tables cost.
    table_charge: Option<Charge>,
    /// Head of the list of pages with a vacant slot, or [`NONE`].
    open_head: u32,
    /// Used slots.
    len: usize,
}

/// One page.
#[derive(Debug)]
struct SlabPage<T: Copy> {
    /// The slots, one after the other.
    elements: Page<T>,
    /// Used slots.
    used: u32,
    /// No slot is vacant in the words of the table before this one.
    first_word: u32,
    /// The previous page in the list of those with a vacant slot.
    open_prev: u32,
    /// The next one.
    open_next: u32,
    /// What the page costs.
    charge: Charge,
}

/// A slot was asked for that is not in use.
#[cold]
#[inline(never)]
fn no_page() -> ! {
    panic!("a used slot has a page")
}

impl<T: Copy> Slab<T> {
    /// A slab without pages. `page_bytes` is the size of its pages, rounded up
    /// to whole pages of the system, unless one slot needs more.
    pub fn new(blank: T, stride: usize, page_bytes: usize) -> Slab<T> {
        let slot_bytes = size_of::<T>() * stride;
        let page_bytes = page_bytes
            .max(slot_bytes)
            .next_multiple_of(system_page_bytes());
        let slots_per_page = page_bytes / slot_bytes;
        Slab {
            blank,
            stride,
            page_bytes: NonZeroUsize::new(page_bytes).expect("slots have bytes"),
            slots_per_page,
            shift: slots_per_page.next_power_of_two().trailing_zeros(),
            pages: Vec::new(),
            vacant: Vec::new(),
            absent: Vec::new(),
            table_charge: None,
            open_head: NONE,
            len: 0,
        }
    }

    /// The number of used slots.
    pub fn len(&self) -> usize {
        self.len
    }

    /// What the kernel has given for pages, in bytes.
    #[cfg(test)]
    pub fn mapped_bytes(&self) -> usize {
        self.pages.iter().flatten().count() * self.page_bytes.get()
    }

    /// Takes a vacant slot. What it holds is unspecified.
    ///
    /// # Errors
    /// [`Full`] when that needs a page and the budget has no room for it, or
    /// when all slot numbers are in use.
    pub fn take(&mut self, budget: &mut Budget, purpose: Purpose) -> Result<SlotNumber, Full> {
        if self.open_head == NONE {
            self.add_page(budget, purpose)?;
        }
        let page_number = self.open_head;
        let words = self.words_of(page_number);
        let first_word = self.page_mut(page_number).first_word as usize;
        let words = &mut self.vacant[words];
        let word = words[first_word..]
            .iter()
            .position(|&bits| bits != 0)
            .expect("a page in the open list has a vacant slot")
            + first_word;
        let bit = words[word].trailing_zeros();
        words[word] &= words[word] - 1;
        let slots_per_page = self.slots_per_page;
        let page = self.page_mut(page_number);
        page.first_word = word as u32;
        page.used += 1;
        if page.used as usize == slots_per_page {
            self.close(page_number);
        }
        self.len += 1;
        Ok((page_number << self.shift) | (word as u32 * 64 + bit))
    }

    /// Makes a slot vacant, and gives its page back if it was the last one.
    pub fn free(&mut self, slot: SlotNumber, budget: &mut Budget) {
        let (page_number, slot) = self.split(slot);
        let words = self.words_of(page_number);
        let (word, bit) = (&mut self.vacant[words][slot / 64], 1 << (slot % 64));
        assert_eq!(*word & bit, 0, "a slot is freed once");
        *word |= bit;
        let slots_per_page = self.slots_per_page;
        let page = self.page_mut(page_number);
        let was_full = page.used as usize == slots_per_page;
        page.used -= 1;
        page.first_word = page.first_word.min(slot as u32 / 64);
        let is_empty = page.used == 0;
        self.len -= 1;
        match (was_full, is_empty) {
            (true, false) => self.open(page_number),
            (false, true) => self.close(page_number),
            _ => {}
        }
        if is_empty {
            self.remove_page(page_number, budget);
        }
    }

    /// The elements of a used slot.
    #[inline]
    pub fn slot(&self, slot: SlotNumber) -> &[T] {
        let (page, slot) = self.split(slot);
        let begin = slot * self.stride;
        match self.pages.get(page as usize) {
            Some(Some(page)) => &page.elements[begin..begin + self.stride],
            _ => no_page(),
        }
    }

    /// The elements of a used slot, to be changed.
    #[inline]
    pub fn slot_mut(&mut self, slot: SlotNumber) -> &mut [T] {
        let (page, slot) = self.split(slot);
        let begin = slot * self.stride;
        match self.pages.get_mut(page as usize) {
            Some(Some(page)) => &mut page.elements[begin..begin + self.stride],
            _ => no_page(),
        }
    }

    /// The element of a used slot, in a slab whose stride is one.
    #[inline]
    pub fn element(&self, slot: SlotNumber) -> &T {
        let (page, slot) = self.split(slot);
        match self.pages.get(page as usize) {
            Some(Some(page)) => &page.elements[slot],
            _ => no_page(),
        }
    }

    /// The same, to be changed.
    #[inline]
    pub fn element_mut(&mut self, slot: SlotNumber) -> &mut T {
        let (page, slot) = self.split(slot);
        match self.pages.get_mut(page as usize) {
            Some(Some(page)) => &mut page.elements[slot],
            _ => no_page(),
        }
    }

    /// True when the number names a used slot.
    pub fn is_used(&self, slot: SlotNumber) -> bool {
        let (page, slot) = self.split(slot);
        slot < self.slots_per_page
            && matches!(self.pages.get(page as usize), Some(Some(_)))
            && self.vacant[self.words_of(page)][slot / 64] & (1 << (slot % 64)) == 0
    }

    /// Where the bits of a page are in the table.
    fn words_of(&self, page: u32) -> std::ops::Range<usize> {
        let count = self.slots_per_page.div_ceil(64);
        let begin = page as usize * count;
        begin..begin + count
    }

    /// Page and slot within it.
    #[inline(always)]
    fn split(&self, slot: SlotNumber) -> (u32, usize) {
        (
            slot >> self.shift,
            (slot & ((1 << self.shift) - 1)) as usize,
        )
    }

    /// A page that is there.
    fn page_mut(&mut self, number: u32) -> &mut SlabPage<T> {
        self.pages[number as usize]
            .as_mut()
            .expect("a listed page is there")
    }

    /// Adds a page of vacant slots at the head of the open list.
    fn add_page(&mut self, budget: &mut Budget, purpose: Purpose) -> Result<(), Full> {
        if self.absent.is_empty() {
            self.grow_table(budget, purpose)?;
        }
        let (frame, charge) = budget.take_frame(self.page_bytes, purpose)?;
        let elements = Page::new(frame, self.blank);
        let number = self
            .absent
            .pop()
            .expect("the table has a page number to spare");
        let words = self.words_of(number);
        let words = &mut self.vacant[words];
        words.fill(u64::MAX);
        let beyond = words.len() * 64 - self.slots_per_page;
        if let Some(last) = words.last_mut() {
            *last >>= beyond;
        }
        self.pages[number as usize] = Some(SlabPage {
            elements,
            used: 0,
            first_word: 0,
            open_prev: NONE,
            open_next: NONE,
            charge,
        });
        self.open(number);
        Ok(())
    }

    /// Gives an empty page back.
    fn remove_page(&mut self, number: u32, budget: &mut Budget) {
        let page = self.pages[number as usize]
            .take()
            .expect("an empty page is there");
        budget.give_frame(page.elements.into_frame(), page.charge);
        self.absent.push(number);
    }

    /// Makes room in the tables for half as many pages again.
    fn grow_table(&mut self, budget: &mut Budget, purpose: Purpose) -> Result<(), Full> {
        let old = self.pages.len();
        let new = (old + old / 2 + 4).min((NONE >> self.shift) as usize);
        if new == old {
            return Err(Full);
        }
        let words = self.slots_per_page.div_ceil(64);
        let bytes = size_of::<Option<SlabPage<T>>>() + size_of::<u32>() + words * size_of::<u64>();
        let charge = budget.charge_blocks(new * bytes, 3, purpose)?;
        if let Some(charge) = self.table_charge.replace(charge) {
            budget.release(charge);
        }
        self.pages.reserve_exact(new - old);
        self.pages.resize_with(new, || None);
        self.vacant.reserve_exact((new - old) * words);
        self.vacant.resize(new * words, 0);
        self.absent.reserve_exact(new);
        self.absent.extend((old as u32..new as u32).rev());
        Ok(())
    }

    /// Puts a page into the list of those with a vacant slot.
    fn open(&mut self, number: u32) {
        let next = std::mem::replace(&mut self.open_head, number);
        let page = self.page_mut(number);
        (page.open_prev, page.open_next) = (NONE, next);
        if next != NONE {
            self.page_mut(next).open_prev = number;
        }
    }

    /// Takes a page out of that list.
    fn close(&mut self, number: u32) {
        let page = self.page_mut(number);
        let (prev, next) = (page.open_prev, page.open_next);
        match prev {
            NONE => self.open_head = next,
            prev => self.page_mut(prev).open_next = next,
        }
        if next != NONE {
            self.page_mut(next).open_prev = prev;
        }
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
            assert!(slab.pages.iter().all(Option::is_none));
        }
    }
}
