//! What keys do to a line that is typed, a place in a list, a text that scrolls.

use crate::cli::top::keys::Key;

/// What became of a line that is being typed.
pub(super) enum Edit {
    Going,
    Done,
    /// It is not wanted any more.
    Dropped,
}

/// A key for a line that is being typed.
pub(super) fn edit(text: &mut String, key: Key) -> Edit {
    match key {
        Key::Enter => return Edit::Done,
        Key::Esc => return Edit::Dropped,
        Key::Backspace if text.is_empty() => return Edit::Dropped,
        Key::Backspace => drop(text.pop()),
        Key::Ctrl('u') => text.clear(),
        Key::Char(c) => text.push(c),
        _ => {}
    }
    Edit::Going
}

/// A place in a list of `count` after a key; `None` when the list is closed.
pub(super) fn moved(place: usize, count: usize, key: Key) -> Option<usize> {
    let last = count.saturating_sub(1);
    match key {
        Key::Down | Key::Char('j') | Key::Wheel(true) => Some((place + 1).min(last)),
        Key::Up | Key::Char('k') | Key::Wheel(false) => Some(place.saturating_sub(1)),
        Key::PageDown => Some((place + 10).min(last)),
        Key::PageUp => Some(place.saturating_sub(10)),
        Key::Home | Key::Char('g') => Some(0),
        Key::End | Key::Char('G') => Some(last),
        _ => None,
    }
}

/// The first line of a text after a key; `None` when it is closed. The drawing
/// stops it at the end.
pub(super) fn scroll(line: usize, key: Key) -> Option<usize> {
    match key {
        Key::Char('q' | '?' | 'i') => None,
        key => moved(line, 1000, key),
    }
}
