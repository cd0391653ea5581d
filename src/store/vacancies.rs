//! Which slots of a slab's pages are vacant, whatever is in them.
//!
//! Slots are known by their number: the page in the upper bits, the slot within it in
//! the lower. A vacant slot costs one bit in a table beside the pages; pages with a
//! vacant slot form a list, taken from at its head. The lowest vacant slot of a page is
//! taken first, and each page remembers where to begin to look for it.
//!
//! Invariants: a page that is there has at least one used slot, but while it is being
//! added; a page is in the list exactly when it has a vacant slot; `len` is the sum of
//! used slots.
//!
//! Must not: know what a slot holds; so there is one of this for slabs of every kind.

use super::budget::{Budget, Charge, Full, Purpose};
use crate::sys::page::Frame;
use std::num::NonZeroUsize;

/// Number of a slot.
pub type SlotNumber = u32;

/// No page.
const NONE: u32 = u32::MAX;

/// The vacant slots of one slab. See the module.
#[derive(Debug)]
pub struct Vacancies {
    /// Slots to a page.
    slots_per_page: usize,
    /// Words of the table of vacant slots for a page.
    words_per_page: usize,
    /// Bits of a slot number that count slots within a page.
    shift: u32,
    /// Those bits.
    mask: u32,
    /// The pages by number, those that are not there included.
    pages: Vec<PageUse>,
    /// For each page as many words as its slots need bits, set where vacant.
    vacant: Vec<u64>,
    /// Numbers of pages that are not there.
    absent: Vec<u32>,
    /// What these three tables, and that of the slab, cost.
    table_charge: Option<Charge>,
    /// Head of the list of pages with a vacant slot, or [`NONE`].
    open_head: u32,
    /// Used slots.
    len: usize,
}

/// How a page is used.
#[derive(Debug)]
struct PageUse {
    /// Used slots.
    used: u32,
    /// No slot is vacant in the words of the table before this one.
    first_word: u32,
    /// The previous page in the list of those with a vacant slot.
    open_prev: u32,
    /// The next one.
    open_next: u32,
    /// What the page costs, while it is there.
    charge: Option<Charge>,
}

impl PageUse {
    /// Of a page without used slots that is in no list.
    const NONE: PageUse = PageUse {
        used: 0,
        first_word: 0,
        open_prev: NONE,
        open_next: NONE,
        charge: None,
    };
}

impl Vacancies {
    /// Of a slab without pages.
    pub fn new(slots_per_page: usize) -> Vacancies {
        let shift = slots_per_page.next_power_of_two().trailing_zeros();
        Vacancies {
            slots_per_page,
            words_per_page: slots_per_page.div_ceil(64),
            shift,
            mask: (1 << shift) - 1,
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

    /// The pages that there may be before tables have to grow.
    pub fn page_count(&self) -> usize {
        self.pages.len()
    }

    /// Page and slot within it.
    #[inline(always)]
    pub fn split(&self, slot: SlotNumber) -> (usize, usize) {
        ((slot >> self.shift) as usize, (slot & self.mask) as usize)
    }

    /// Takes a vacant slot, if any page has one.
    pub fn take(&mut self) -> Option<SlotNumber> {
        let number = self.open_head;
        let page = self.pages.get_mut(number as usize)?;
        let words = number as usize * self.words_per_page;
        // A page in the open list has a vacant slot.
        let mut word = page.first_word;
        let bits = loop {
            match &mut self.vacant[words + word as usize] {
                0 => word += 1,
                bits => break bits,
            }
        };
        let bit = bits.trailing_zeros();
        *bits &= *bits - 1;
        page.first_word = word;
        page.used += 1;
        if page.used as usize == self.slots_per_page {
            self.close(number);
        }
        self.len += 1;
        Some((number << self.shift) | (word * 64 + bit))
    }

    /// Makes a slot vacant; the number of its page if that was the last used one.
    pub fn free(&mut self, slot: SlotNumber) -> Option<u32> {
        let (number, slot) = self.split(slot);
        let words = self.words_of(number);
        let (word, bit) = (&mut self.vacant[words][slot / 64], 1 << (slot % 64));
        assert_eq!(*word & bit, 0, "a slot is freed once");
        *word |= bit;
        let page = &mut self.pages[number];
        let was_full = page.used as usize == self.slots_per_page;
        page.used -= 1;
        page.first_word = page.first_word.min(slot as u32 / 64);
        let is_empty = page.used == 0;
        self.len -= 1;
        let number = number as u32;
        match (was_full, is_empty) {
            (true, false) => self.open(number),
            (false, true) => self.close(number),
            _ => {}
        }
        is_empty.then_some(number)
    }

    /// True when the number names a used slot.
    pub fn is_used(&self, slot: SlotNumber) -> bool {
        let (number, slot) = self.split(slot);
        let is_there = self
            .pages
            .get(number)
            .is_some_and(|page| page.charge.is_some());
        slot < self.slots_per_page
            && is_there
            && self.vacant[self.words_of(number)][slot / 64] & (1 << (slot % 64)) == 0
    }

    /// Where the bits of a page are in the table.
    fn words_of(&self, page: usize) -> std::ops::Range<usize> {
        page * self.words_per_page..(page + 1) * self.words_per_page
    }

    /// Adds a page of vacant slots at the head of the list: its number, and memory for
    /// it. An entry of the slab's own table of pages takes `entry_bytes`.
    ///
    /// # Errors
    /// [`Full`] when the budget has no room for it, or when all slot numbers are in
    /// use.
    pub fn add_page(
        &mut self,
        page_bytes: NonZeroUsize,
        entry_bytes: usize,
        budget: &mut Budget,
        purpose: Purpose,
    ) -> Result<(u32, Frame), Full> {
        if self.absent.is_empty() {
            self.grow_tables(entry_bytes, budget, purpose)?;
        }
        let (frame, charge) = budget.take_frame(page_bytes, purpose)?;
        let number = self
            .absent
            .pop()
            .expect("the table has a page number to spare");
        let words = self.words_of(number as usize);
        let words = &mut self.vacant[words];
        words.fill(u64::MAX);
        let beyond = words.len() * 64 - self.slots_per_page;
        if let Some(last) = words.last_mut() {
            *last >>= beyond;
        }
        self.pages[number as usize] = PageUse {
            charge: Some(charge),
            ..PageUse::NONE
        };
        self.open(number);
        Ok((number, frame))
    }

    /// Gives an empty page and its memory back.
    pub fn remove_page(&mut self, number: u32, frame: Frame, budget: &mut Budget) {
        let charge = self.pages[number as usize].charge.take();
        budget.give_frame(frame, charge.expect("an empty page is there"));
        self.absent.push(number);
    }

    /// Makes room in the tables for half as many pages again.
    fn grow_tables(
        &mut self,
        entry_bytes: usize,
        budget: &mut Budget,
        purpose: Purpose,
    ) -> Result<(), Full> {
        let old = self.pages.len();
        let new = (old + old / 2 + 4).min((NONE >> self.shift) as usize);
        if new == old {
            return Err(Full);
        }
        let words = self.words_per_page;
        let bytes =
            entry_bytes + size_of::<PageUse>() + size_of::<u32>() + words * size_of::<u64>();
        let charge = budget.charge_blocks(new * bytes, 4, purpose)?;
        if let Some(charge) = self.table_charge.replace(charge) {
            budget.release(charge);
        }
        self.pages.reserve_exact(new - old);
        self.pages.resize_with(new, || PageUse::NONE);
        self.vacant.reserve_exact((new - old) * words);
        self.vacant.resize(new * words, 0);
        self.absent.reserve_exact(new);
        self.absent.extend((old as u32..new as u32).rev());
        Ok(())
    }

    /// Puts a page into the list of those with a vacant slot.
    fn open(&mut self, number: u32) {
        let next = std::mem::replace(&mut self.open_head, number);
        let page = &mut self.pages[number as usize];
        (page.open_prev, page.open_next) = (NONE, next);
        if next != NONE {
            self.pages[next as usize].open_prev = number;
        }
    }

    /// Takes a page out of that list.
    fn close(&mut self, number: u32) {
        let page = &self.pages[number as usize];
        let (prev, next) = (page.open_prev, page.open_next);
        match prev {
            NONE => self.open_head = next,
            prev => self.pages[prev as usize].open_next = next,
        }
        if next != NONE {
            self.pages[next as usize].open_prev = prev;
        }
    }
}
