//! Doubly linked lists through the entries of an arena.
//!
//! An entry has one [`Hook`] for every list it may be in; a function that returns that hook
//! of an entry selects the list. Everything is O(1).
//!
//! Invariants: an entry is in a list at most once by the same hook; the caller
//! knows whether it is in (a hook does not).

use crate::store::mem::arena::{Arena, Link};

/// An entry's place in one list.
#[derive(Debug)]
pub(crate) struct Hook<T> {
    pub(crate) prev: Option<Link<T>>,
    pub(crate) next: Option<Link<T>>,
}

/// The ends of a list.
#[derive(Debug)]
pub(crate) struct List<T> {
    pub(crate) head: Option<Link<T>>,
    pub(crate) tail: Option<Link<T>>,
}

impl<T> Clone for Hook<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Hook<T> {}

impl<T> Hook<T> {
    /// The hook of an entry that is in no such list.
    pub(crate) const NONE: Hook<T> = Hook {
        prev: None,
        next: None,
    };
}

impl<T> Clone for List<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for List<T> {}

impl<T> List<T> {
    /// A list without entries.
    pub(crate) const EMPTY: List<T> = List {
        head: None,
        tail: None,
    };
}

/// Finds the hook of one kind of list in an entry.
pub(crate) type HookOf<T> = fn(&mut T) -> &mut Hook<T>;

impl<T: Copy> List<T> {
    /// Puts an entry before all others.
    #[inline(always)]
    pub(crate) fn push_front(&mut self, arena: &mut Arena<T>, link: Link<T>, hook: HookOf<T>) {
        let next = self.head.replace(link);
        *hook(&mut arena[link]) = Hook { prev: None, next };
        match next {
            Some(next) => hook(&mut arena[next]).prev = Some(link),
            None => self.tail = Some(link),
        }
    }

    /// Puts an entry behind all others.
    #[inline(always)]
    pub(crate) fn push_back(&mut self, arena: &mut Arena<T>, link: Link<T>, hook: HookOf<T>) {
        let place = self.last_place(link);
        *hook(&mut arena[link]) = place;
        self.tie_last(arena, link, place, hook);
    }

    /// The place behind all others, for an entry that is written to anyway;
    /// [`List::tie_last`] goes with it.
    #[inline(always)]
    pub(crate) fn last_place(&mut self, link: Link<T>) -> Hook<T> {
        let prev = self.tail.replace(link);
        Hook { prev, next: None }
    }

    /// Lets the list lead to an entry that has its last place.
    #[inline(always)]
    pub(crate) fn tie_last(
        &mut self,
        arena: &mut Arena<T>,
        link: Link<T>,
        place: Hook<T>,
        hook: HookOf<T>,
    ) {
        match place.prev {
            Some(prev) => hook(&mut arena[prev]).next = Some(link),
            None => self.head = Some(link),
        }
    }

    /// Puts an entry behind another one.
    pub(crate) fn insert_behind(
        &mut self,
        arena: &mut Arena<T>,
        prev: Link<T>,
        link: Link<T>,
        hook: HookOf<T>,
    ) {
        let next = hook(&mut arena[prev]).next;
        *hook(&mut arena[link]) = Hook {
            prev: Some(prev),
            next,
        };
        self.follow(arena, link, hook);
    }

    pub(crate) fn remove(&mut self, arena: &mut Arena<T>, link: Link<T>, hook: HookOf<T>) {
        let Hook { prev, next } = std::mem::replace(hook(&mut arena[link]), Hook::NONE);
        match prev {
            Some(prev) => hook(&mut arena[prev]).next = next,
            None => self.head = next,
        }
        match next {
            Some(next) => hook(&mut arena[next]).prev = prev,
            None => self.tail = prev,
        }
    }

    /// Lets neighbours and ends point to an entry that moved; its hook moved with it.
    pub(crate) fn follow(&mut self, arena: &mut Arena<T>, link: Link<T>, hook: HookOf<T>) {
        let Hook { prev, next } = *hook(&mut arena[link]);
        match prev {
            Some(prev) => hook(&mut arena[prev]).next = Some(link),
            None => self.head = Some(link),
        }
        match next {
            Some(next) => hook(&mut arena[next]).prev = Some(link),
            None => self.tail = Some(link),
        }
    }

    /// Moves an entry behind all others.
    pub(crate) fn move_to_back(&mut self, arena: &mut Arena<T>, link: Link<T>, hook: HookOf<T>) {
        if self.tail != Some(link) {
            self.remove(arena, link, hook);
            self.push_back(arena, link, hook);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::mem::budget::Budget;
    use crate::store::testing::Random;
    use std::collections::VecDeque;

    #[derive(Clone, Copy)]
    struct Entry {
        number: u64,
        hook: Hook<Entry>,
    }

    fn walk(arena: &Arena<Entry>, list: &List<Entry>) -> Vec<u64> {
        let mut found = Vec::new();
        let (mut at, mut before) = (list.head, None);
        while let Some(link) = at {
            assert_eq!(arena[link].hook.prev, before);
            found.push(arena[link].number);
            (before, at) = (at, arena[link].hook.next);
        }
        assert_eq!(list.tail, before);
        found
    }

    #[test]
    fn agrees_with_a_deque_under_random_operations() {
        let mut random = Random::seeded("list against VecDeque");
        let mut budget = Budget::new(1 << 20);
        let mut arena = Arena::new(
            Entry {
                number: 0,
                hook: Hook::NONE,
            },
            4096,
        );
        let mut list = List::EMPTY;
        let mut model: VecDeque<(u64, Link<Entry>)> = VecDeque::new();
        let hook: HookOf<Entry> = |entry| &mut entry.hook;
        for number in 0..5000 {
            let index = random.below(model.len().max(1) as u64) as usize;
            match random.below(4) {
                operation @ (0 | 1) => {
                    let entry = Entry {
                        number,
                        hook: Hook::NONE,
                    };
                    let (link, made) = arena.insert(&mut budget).unwrap();
                    *made = entry;
                    if operation == 0 {
                        list.push_front(&mut arena, link, hook);
                        model.push_front((number, link));
                    } else {
                        list.push_back(&mut arena, link, hook);
                        model.push_back((number, link));
                    }
                }
                operation => {
                    let Some((number, link)) = model.remove(index) else {
                        continue;
                    };
                    if operation == 2 {
                        list.remove(&mut arena, link, hook);
                        arena.remove(link, &mut budget);
                    } else {
                        list.move_to_back(&mut arena, link, hook);
                        model.push_back((number, link));
                    }
                }
            }
        }
        let expected: Vec<_> = model.iter().map(|&(number, _)| number).collect();
        assert_eq!(walk(&arena, &list), expected);
    }
}
