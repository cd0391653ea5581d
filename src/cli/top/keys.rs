//! Bytes of a terminal to keys.
//!
//! Owns: the bytes of a key that has not come whole. Invariants: any bytes make
//! keys or nothing, never a panic; an unknown sequence is swallowed as a whole,
//! so that its letters are not taken for commands. Must not: read, or wait: an
//! ESC that nothing follows is a key only after [`Keys::flush`].

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// A character, blanks included.
    Char(char),
    /// A letter with Ctrl, in lower case.
    Ctrl(char),
    /// Enter or ^J.
    Enter,
    Tab,
    /// Shift and Tab.
    BackTab,
    Backspace,
    /// ESC alone.
    Esc,
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
    Delete,
    /// A function key, from 1.
    F(u8),
    /// The mouse's wheel: up or, with true, down.
    Wheel(bool),
    /// The mouse's first button, at that row and column.
    Click(usize, usize),
}

/// The longest sequence that is waited for; a longer one is dropped.
const LONGEST: usize = 32;

/// What was typed and is not a whole key yet.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pending: Vec<u8>,
}

impl Keys {
    /// Takes bytes as they came.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// Whether a key is incomplete.
    pub(super) fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// No byte followed in time: the pending ones are keys by themselves.
    pub(super) fn flush(&mut self) -> Option<Key> {
        let first = self.pending.first().copied();
        self.pending.clear();
        (first == Some(0x1b)).then_some(Key::Esc)
    }

    #[allow(clippy::should_implement_trait, reason = "it goes on after None")]
    pub(super) fn next(&mut self) -> Option<Key> {
        loop {
            let (length, key) = decode(&self.pending)?;
            self.pending.drain(..length);
            if key.is_some() {
                return key;
            }
        }
    }
}

/// The first key and its bytes; no key for what means nothing. `None`: more
/// bytes are needed.
fn decode(bytes: &[u8]) -> Option<(usize, Option<Key>)> {
    let key = match *bytes.first()? {
        0x1b => return decode_escape(bytes),
        b'\r' | b'\n' => Key::Enter,
        b'\t' => Key::Tab,
        0x7f | 0x08 => Key::Backspace,
        0 => return Some((1, None)),
        byte @ 1..=0x1a => Key::Ctrl(char::from(byte - 1 + b'a')),
        0x1c..=0x1f => return Some((1, None)),
        _ => return decode_char(bytes),
    };
    Some((1, Some(key)))
}

/// A character of one to four bytes.
fn decode_char(bytes: &[u8]) -> Option<(usize, Option<Key>)> {
    let head = &bytes[..bytes.len().min(4)];
    let chunk = head.utf8_chunks().next()?;
    match chunk.valid().chars().next() {
        Some(c) => Some((c.len_utf8(), Some(Key::Char(c)).filter(|_| !c.is_control()))),
        // Cut short, unless enough is there to see that it is wrong.
        None if std::str::from_utf8(head).is_err_and(|e| e.error_len().is_none()) => None,
        None => Some((chunk.invalid().len(), None)),
    }
}

/// What ESC begins.
fn decode_escape(bytes: &[u8]) -> Option<(usize, Option<Key>)> {
    match *bytes.get(1)? {
        b'[' => {}
        b'O' => {
            let key = letter(*bytes.get(2)?);
            return Some((3, key));
        }
        // ESC twice, or a key pressed together with Alt: ESC by itself.
        _ => return Some((1, Some(Key::Esc))),
    }
    // The Linux console's function keys.
    if bytes.get(2) == Some(&b'[') {
        let key = match *bytes.get(3)? {
            byte @ b'A'..=b'E' => Some(Key::F(byte - b'A' + 1)),
            _ => None,
        };
        return Some((4, key));
    }
    let body = &bytes[2..];
    let Some(end) = body.iter().position(|byte| (0x40..=0x7e).contains(byte)) else {
        return (bytes.len() > LONGEST).then_some((bytes.len(), None));
    };
    if body.first() == Some(&b'<') {
        return Some((2 + end + 1, mouse(&body[1..end], body[end])));
    }
    let digits = body[..end].split(|&byte| byte == b';').next();
    let number = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u8>().ok());
    let key = match (body[end], number) {
        (b'Z', _) => Some(Key::BackTab),
        (b'~', Some(number)) => tilde(number),
        (byte, _) => letter(byte),
    };
    Some((2 + end + 1, key))
}

/// What the mouse did: button, column and row, and `M` when it was pressed.
fn mouse(body: &[u8], end: u8) -> Option<Key> {
    let text = std::str::from_utf8(body).ok()?;
    let numbers = text.split(';').map(|part| part.parse::<usize>().ok());
    let [button, column, row] = numbers.collect::<Option<Vec<_>>>()?.try_into().ok()?;
    match (button, end) {
        (0, b'M') => Some(Key::Click(row.checked_sub(1)?, column.checked_sub(1)?)),
        (64 | 65, b'M') => Some(Key::Wheel(button == 65)),
        _ => None,
    }
}

/// The key of a sequence that ends in a letter.
fn letter(byte: u8) -> Option<Key> {
    Some(match byte {
        b'A' => Key::Up,
        b'B' => Key::Down,
        b'C' => Key::Right,
        b'D' => Key::Left,
        b'F' => Key::End,
        b'H' => Key::Home,
        b'M' => Key::Enter,
        b'P'..=b'S' => Key::F(byte - b'P' + 1),
        _ => return None,
    })
}

/// The key of a sequence that ends in a number and `~`.
fn tilde(number: u8) -> Option<Key> {
    Some(match number {
        1 | 7 => Key::Home,
        4 | 8 => Key::End,
        3 => Key::Delete,
        5 => Key::PageUp,
        6 => Key::PageDown,
        11..=15 => Key::F(number - 10),
        17..=21 => Key::F(number - 11),
        23..=24 => Key::F(number - 12),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8], step: usize) -> Vec<Key> {
        let mut keys = Keys::default();
        let mut out = Vec::new();
        for piece in bytes.chunks(step) {
            keys.feed(piece);
            out.extend(std::iter::from_fn(|| keys.next()));
        }
        out.extend(keys.flush());
        out
    }

    #[test]
    fn keys_may_come_in_pieces() {
        let bytes =
            "jü\x1b[A\x1bOB\x1b[1;5C\x1b[Z\x1b[15~\x1bOP\x1b[[B\r\t\x7f\x04日\x1b[99~\x1b[5~\x1b";
        let expected = [
            Key::Char('j'),
            Key::Char('ü'),
            Key::Up,
            Key::Down,
            Key::Right,
            Key::BackTab,
            Key::F(5),
            Key::F(1),
            Key::F(2),
            Key::Enter,
            Key::Tab,
            Key::Backspace,
            Key::Ctrl('d'),
            Key::Char('日'),
            Key::PageUp,
            Key::Esc,
        ];
        for step in 1..=bytes.len() {
            assert_eq!(keys(bytes.as_bytes(), step), expected, "{step}");
        }
    }

    #[test]
    fn the_mouse_clicks_and_turns() {
        for step in 1..4 {
            assert_eq!(
                keys(b"\x1b[<0;7;3M\x1b[<0;7;3m\x1b[<64;1;1M\x1b[<65;1;1M", step),
                [Key::Click(2, 6), Key::Wheel(false), Key::Wheel(true)]
            );
        }
        assert_eq!(
            keys(b"\x1b[<2;7;3M\x1b[<0;0;0M\x1b[<0;7M\x1b[<;;Mq", 64),
            [Key::Char('q')]
        );
    }

    #[test]
    fn esc_waits_for_what_may_follow() {
        let mut keys = Keys::default();
        keys.feed(b"\x1b");
        assert_eq!(keys.next(), None);
        assert!(keys.is_waiting());
        assert_eq!(keys.flush(), Some(Key::Esc));
        assert!(!keys.is_waiting());
        keys.feed(b"\x1bq");
        assert_eq!(keys.next(), Some(Key::Esc));
        assert_eq!(keys.next(), Some(Key::Char('q')));
    }

    #[test]
    fn no_bytes_panic_or_wait_for_ever() {
        let mut seed = 1u32;
        let mut bytes = Vec::new();
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            bytes.push((seed >> 24) as u8 & if seed & 64 == 0 { 0xff } else { 0x1f });
        }
        keys(&bytes, 7);
        assert_eq!(keys(&[b"\x1b[", &[b'1'; 40][..], b"q"].concat(), 64), []);
        assert_eq!(keys(b"\xff\xc3q", 1), [Key::Char('q')]);
    }
}
