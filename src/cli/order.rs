//! The one sort of the client's lists. std's sort is generic, and takes 5 to 14 KB of the
//! program for each type and comparison; numbers of places are sorted here instead.

use std::cmp::Ordering;

/// Sorts places of a list by what is at them; equal ones stay in their order.
pub(crate) fn sort_places(places: &mut [u32], compare: &dyn Fn(u32, u32) -> Ordering) {
    places.sort_by(|&a, &b| compare(a, b));
}

/// The elements of a list, sorted; equal ones stay in their order.
///
/// # Panics
///
/// If the list has 2^32 elements or more.
pub(crate) fn sorted<T>(list: Vec<T>, compare: &dyn Fn(&T, &T) -> Ordering) -> Vec<T> {
    let count = u32::try_from(list.len()).expect("fewer than 2^32 elements");
    let mut places: Vec<u32> = (0..count).collect();
    let at = |place: u32| &list[place as usize];
    sort_places(&mut places, &|a, b| compare(at(a), at(b)));
    let mut list: Vec<Option<T>> = list.into_iter().map(Some).collect();
    let take = |place: u32| list[place as usize].take();
    places.into_iter().filter_map(take).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_elements_stay_in_their_order() {
        let list: Vec<(u32, u32)> = (0..1000).map(|n| (n * 7919 % 10, n)).collect();
        let mut expected = list.clone();
        expected.sort();
        let list = sorted(list, &|a, b| a.0.cmp(&b.0));
        assert_eq!(list, expected);
        expected.sort_by_key(|&(key, n)| (10 - key, n));
        assert_eq!(sorted(list, &|a, b| b.0.cmp(&a.0)), expected);
    }
}
