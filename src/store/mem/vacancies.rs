//! Which slots of a slab's pages are vacant, whatever is in them.
//!
//! Slots are known by their number: the page in the upper bits, the slot within it in
//! the lower. A vacant slot costs one bit in a table beside the pages. Pages with a
//! vacant slot are in lists by how full they are; slots are taken from the fullest, so
//! that sparse pages become empty. The lowest vacant slot of a page is taken first, and
//! each page remembers where to begin to look for it.
//!
//! Compaction ([`compact`](crate::store::update::compact)) asks here which pages are sparse:
//! those among the emptiest, at most as full as the average, while another page has room.
//!
//! Invariants: a page that is there has at least one used slot, but while it is being
//! added; a page is in a list exactly when it has a vacant slot, and in that of its
//! fill; `len` is the sum of used slots; the budget's reclaimable bytes contain as many
//! pages of this slab as its vacant slots would fill.
//!
//! Must not: know the content of a slot; so the code exists once for slabs of every type.

use crate::store::mem::budget::{Budget, Charge, Full, Purpose};
use crate::sys::mem::page::Frame;
use std::num::NonZeroUsize;

/// Number of a slot.
pub(crate) type SlotNumber = u32;

/// No page.
const NONE: u32 = u32::MAX;

/// Lists of pages with a vacant slot.
const FILLS: usize = 16;

/// How many fills above the emptiest page's a page can have and be sparse.
const SPARSE_FILLS: u32 = 2;

/// Result of a search for a used slot.
pub(crate) enum Search {
    Found(SlotNumber),
    /// None yet; the search goes on from here.
    Later(SlotNumber),
    End,
}

/// The vacant slots of one slab. See the module.
#[derive(Debug)]
pub(crate) struct Vacancies {
    /// Slots to a page.
    slots_per_page: usize,
    /// Words of the table of vacant slots for a page.
    words_per_page: usize,
    /// Bits of a slot number that count slots within a page, and their mask.
    shift: u32,
    mask: u32,
    /// The pages by number, those that are not there included.
    pages: Vec<PageUse>,
    /// For each page as many words as its slots need bits, set where vacant; all of them of
    /// a page that is not there.
    vacant: Vec<u64>,
    /// Numbers of pages that are not there.
    absent: Vec<u32>,
    /// Of these three tables and that of the slab.
    table_charge: Option<Charge>,
    /// Heads of the lists of pages with a vacant slot by fill, or [`NONE`].
    open_heads: [u32; FILLS],
    /// Which of the lists have a page, a bit each.
    open_fills: u32,
    /// The first page of the fullest of them, which slots are taken from, or [`NONE`].
    fullest: u32,
    /// Used slots of a page, shifted by this, are its fill.
    fill_shift: u32,
    /// The bits that this shifts out: where they become zero, the fill changes.
    fill_mask: u32,
    /// The size of a page.
    page_bytes: NonZeroUsize,
    /// The number of used slots.
    len: usize,
    /// Vacant slots beyond those that fill whole pages.
    odd_vacant: usize,
}

/// How a page is used.
#[derive(Debug)]
struct PageUse {
    /// The number of used slots.
    used: u32,
    /// No slot is vacant in the words of the table before this one.
    first_word: u32,
    /// Neighbours in the list of its fill, or [`NONE`].
    open_prev: u32,
    open_next: u32,
    /// Of the page, while it is there.
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
    pub(crate) fn new(slots_per_page: usize, page_bytes: NonZeroUsize) -> Vacancies {
        let most_used_bits = usize::BITS - (slots_per_page - 1).leading_zeros();
        let fill_shift = most_used_bits.saturating_sub(FILLS.ilog2());
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
            open_heads: [NONE; FILLS],
            open_fills: 0,
            fullest: NONE,
            fill_shift,
            fill_mask: (1 << fill_shift) - 1,
            page_bytes,
            len: 0,
            odd_vacant: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The pages that there may be before tables have to grow.
    pub(crate) fn page_count(&self) -> usize {
        self.pages.len()
    }

    /// Page and slot within it.
    #[inline(always)]
    pub(crate) fn split(&self, slot: SlotNumber) -> (usize, usize) {
        ((slot >> self.shift) as usize, (slot & self.mask) as usize)
    }

    fn present(&self) -> usize {
        self.pages.len() - self.absent.len()
    }

    pub(crate) fn vacant(&self) -> usize {
        self.present() * self.slots_per_page - self.len
    }

    /// The bytes of the pages that the vacant slots would fill.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn reclaimable_bytes(&self) -> usize {
        self.vacant() / self.slots_per_page * self.page_bytes.get()
    }

    /// What the kernel has given for pages, in bytes.
    pub(crate) fn mapped_bytes(&self) -> usize {
        self.present() * self.page_bytes.get()
    }

    /// Takes a vacant slot of the fullest page that has one.
    #[inline(always)]
    pub(crate) fn take(&mut self, budget: &mut Budget) -> Option<SlotNumber> {
        let number = self.fullest;
        let page = self.pages.get_mut(number as usize)?;
        let words = number as usize * self.words_per_page;
        // A page in an open list has a vacant slot.
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
        let used = page.used;
        if used & self.fill_mask == 0 || used as usize == self.slots_per_page {
            self.refile(number, Some((used - 1) >> self.fill_shift), used);
        }
        self.len += 1;
        match self.odd_vacant.checked_sub(1) {
            Some(odd) => self.odd_vacant = odd,
            None => {
                self.odd_vacant = self.slots_per_page - 1;
                budget.unmark_reclaimable(self.page_bytes);
            }
        }
        Some((number << self.shift) | (word * 64 + bit))
    }

    /// Makes a slot vacant; the number of its page if that was the last used one.
    #[inline(always)]
    pub(crate) fn free(&mut self, slot: SlotNumber, budget: &mut Budget) -> Option<u32> {
        let (number, slot) = self.split(slot);
        let words = self.words_of(number);
        let (word, bit) = (&mut self.vacant[words][slot / 64], 1 << (slot % 64));
        assert_eq!(*word & bit, 0, "a slot is freed once");
        *word |= bit;
        let page = &mut self.pages[number];
        let was_used = page.used;
        page.used -= 1;
        page.first_word = page.first_word.min(slot as u32 / 64);
        let used = page.used;
        self.len -= 1;
        self.odd_vacant += 1;
        if self.odd_vacant == self.slots_per_page {
            self.odd_vacant = 0;
            budget.mark_reclaimable(self.page_bytes);
        }
        let number = number as u32;
        let was_full = was_used as usize == self.slots_per_page;
        if was_full || was_used & self.fill_mask == 0 || used == 0 {
            let fill = (!was_full).then_some(was_used >> self.fill_shift);
            self.refile(number, fill, used);
        }
        (used == 0).then_some(number)
    }

    /// Moves a page from the list of one fill to that of another; it is in no list while
    /// it is full or empty.
    fn refile(&mut self, number: u32, old_fill: Option<u32>, used: u32) {
        if let Some(old_fill) = old_fill {
            self.close(number, old_fill);
        }
        if used > 0 && used as usize != self.slots_per_page {
            self.open(number, used >> self.fill_shift);
        }
        self.find_fullest();
    }

    /// Notes which page slots are taken from, after a list changed.
    fn find_fullest(&mut self) {
        self.fullest = match self.open_fills.checked_ilog2() {
            Some(fill) => self.open_heads[fill as usize],
            None => NONE,
        };
    }

    /// Whether compaction should move a used slot, because its page is sparse: there are
    /// vacant slots for a whole page, the page is among the emptiest and at most as full
    /// as the average, and [`Vacancies::take`] takes from another one.
    #[inline]
    pub(crate) fn is_sparse(&self, slot: SlotNumber) -> bool {
        let number = slot >> self.shift;
        self.vacant() >= self.slots_per_page
            && number != self.fullest
            && self.pages[number as usize].used <= self.most_used_of_sparse()
    }

    /// The most used slots of a page among the emptiest that is at most as full as the
    /// average.
    fn most_used_of_sparse(&self) -> u32 {
        let fills = self.open_fills.trailing_zeros() + SPARSE_FILLS + 1;
        ((fills << self.fill_shift) - 1).min((self.len / self.present()) as u32)
    }

    /// Searches `pages` pages for the first used slot at or behind a number, if wanted in
    /// sparse pages only.
    pub(crate) fn search(&self, slot: SlotNumber, only_sparse: bool, pages: usize) -> Search {
        let (passed_over, most_used) = match only_sparse {
            true if self.vacant() < self.slots_per_page => return Search::End,
            true => (self.fullest, self.most_used_of_sparse()),
            false => (NONE, u32::MAX),
        };
        let (first, mut within) = self.split(slot);
        let end = self.pages.len().min(first + pages);
        for number in first..end {
            let used = self.pages[number].used;
            if used > 0 && used <= most_used && number as u32 != passed_over {
                let words = &self.vacant[self.words_of(number)];
                while within < self.slots_per_page {
                    let used = !words[within / 64] >> (within % 64);
                    if used != 0 {
                        within += used.trailing_zeros() as usize;
                        break;
                    }
                    within = (within / 64 + 1) * 64;
                }
                if within < self.slots_per_page {
                    return Search::Found(((number as u32) << self.shift) | within as u32);
                }
            }
            within = 0;
        }
        match end < self.pages.len() {
            true => Search::Later((end as u32) << self.shift),
            false => Search::End,
        }
    }

    /// What taking a few slots now may take from the budget, in bytes: nothing if so many
    /// are vacant.
    pub(crate) fn wanted_bytes(&self, slots: usize, entry_bytes: usize) -> usize {
        if self.vacant() >= slots {
            return 0;
        }
        let tables = match self.absent.is_empty() {
            true => self.table_bytes(self.more_pages() - self.pages.len(), entry_bytes),
            false => 0,
        };
        self.page_bytes.get() + tables
    }

    /// True when the number names a used slot.
    pub(crate) fn is_used(&self, slot: SlotNumber) -> bool {
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
    pub(crate) fn add_page(
        &mut self,
        entry_bytes: usize,
        is_written: bool,
        budget: &mut Budget,
        purpose: Purpose,
    ) -> Result<(u32, Frame), Full> {
        if self.absent.is_empty() {
            self.grow_tables(entry_bytes, budget, purpose)?;
        }
        let (frame, charge) = budget.take_frame(self.page_bytes, is_written, purpose)?;
        let number = self
            .absent
            .pop()
            .expect("the table has a page number to spare");
        self.pages[number as usize] = PageUse {
            charge: Some(charge),
            ..PageUse::NONE
        };
        self.open(number, 0);
        self.find_fullest();
        budget.mark_reclaimable(self.page_bytes);
        Ok((number, frame))
    }

    /// Gives an empty page and its memory back.
    pub(crate) fn remove_page(&mut self, number: u32, frame: Frame, budget: &mut Budget) {
        let charge = self.pages[number as usize].charge.take();
        budget.give_frame(frame, charge.expect("an empty page is there"));
        budget.unmark_reclaimable(self.page_bytes);
        self.absent.push(number);
    }

    /// The number of pages that the tables have room for once they have grown: an eighth
    /// more, so that no record needs much room for them, as far as there are numbers.
    fn more_pages(&self) -> usize {
        let old = self.pages.len();
        (old + old / 8 + 4).min((NONE >> self.shift) as usize)
    }

    /// What the tables, and that of the slab, take for so many pages, in bytes.
    fn table_bytes(&self, pages: usize, entry_bytes: usize) -> usize {
        let words = self.words_per_page * size_of::<u64>();
        pages * (entry_bytes + size_of::<PageUse>() + size_of::<u32>() + words)
    }

    /// Makes room in the tables for more pages.
    fn grow_tables(
        &mut self,
        entry_bytes: usize,
        budget: &mut Budget,
        purpose: Purpose,
    ) -> Result<(), Full> {
        let (old, new) = (self.pages.len(), self.more_pages());
        if new == old {
            return Err(Full);
        }
        let bytes = self.table_bytes(new - old, entry_bytes);
        match &mut self.table_charge {
            Some(charge) => budget.extend(charge, bytes, purpose)?,
            none => *none = Some(budget.charge_blocks(bytes, 4, purpose)?),
        }
        let words = self.words_per_page;
        self.pages.reserve_exact(new - old);
        self.pages.resize_with(new, || PageUse::NONE);
        self.vacant.reserve_exact((new - old) * words);
        self.vacant.resize(new * words, u64::MAX);
        let beyond = words * 64 - self.slots_per_page;
        for page in self.vacant[old * words..].chunks_exact_mut(words) {
            page[words - 1] >>= beyond;
        }
        self.absent.reserve_exact(new);
        self.absent.extend((old as u32..new as u32).rev());
        Ok(())
    }

    /// Puts a page into the list of a fill.
    fn open(&mut self, number: u32, fill: u32) {
        let next = std::mem::replace(&mut self.open_heads[fill as usize], number);
        self.open_fills |= 1 << fill;
        let page = &mut self.pages[number as usize];
        (page.open_prev, page.open_next) = (NONE, next);
        if next != NONE {
            self.pages[next as usize].open_prev = number;
        }
    }

    /// Takes a page out of that list.
    fn close(&mut self, number: u32, fill: u32) {
        let page = &self.pages[number as usize];
        let (prev, next) = (page.open_prev, page.open_next);
        match prev {
            NONE => {
                self.open_heads[fill as usize] = next;
                if next == NONE {
                    self.open_fills &= !(1 << fill);
                }
            }
            prev => self.pages[prev as usize].open_next = next,
        }
        if next != NONE {
            self.pages[next as usize].open_prev = prev;
        }
    }
}
