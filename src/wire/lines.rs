//! The bytes of a FIFO, cut into lines.
//!
//! Writers send a record by one write(2) of at most PIPE_BUF bytes, so lines of
//! different writers do not mix, and one buffer serves them all. A line of more
//! than [`MAX_LINE_BYTES`] is dropped up to its LF, whatever comes in it. A
//! writer that died in the middle of a line spoils that line and the one it runs
//! into, no other.

use crate::store::LOOK_AHEAD;
use crate::sys::bytes::find;

/// The longest line taken, without its LF; Dovecot 2.3's service takes as much.
/// Real writers stay below PIPE_BUF.
pub const MAX_LINE_BYTES: usize = 8192;

/// The most bytes taken at once: as much as an ordinary pipe holds, some 200
/// records.
pub const READ_BYTES: usize = 65536;

/// A line, without its LF.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// All of it.
    Whole(&'a mut [u8]),
    /// The beginning of one that is too long.
    TooLong(&'a [u8]),
}

/// Who lines are handed to.
pub trait LineReader {
    /// Tells which lines come next, at most [`LOOK_AHEAD`] of them.
    fn look_ahead(&mut self, lines: &[&[u8]]);
    /// Hands out a line.
    fn take(&mut self, line: Line);
}

/// Bytes on their way to lines.
#[derive(Debug)]
pub struct LineBuffer {
    /// An incomplete line of at most [`MAX_LINE_BYTES`], then room.
    bytes: Box<[u8]>,
    /// The bytes of the incomplete line.
    partial: usize,
    /// A line that is too long has been handed out; its end is still to come.
    skipping: bool,
}

impl Default for LineBuffer {
    /// An empty buffer.
    fn default() -> LineBuffer {
        LineBuffer {
            bytes: vec![0; MAX_LINE_BYTES + READ_BYTES].into(),
            partial: 0,
            skipping: false,
        }
    }
}

impl LineBuffer {
    /// Where to read to: [`READ_BYTES`].
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.partial..][..READ_BYTES]
    }

    /// Hands out the lines that `count` more bytes complete and tells how many that
    /// were.
    pub fn filled(&mut self, count: usize, reader: &mut impl LineReader) -> u64 {
        let mut handed_out = 0;
        let end = self.partial + count;
        let mut begin = 0;
        let mut searched = self.partial;
        loop {
            // Where the next lines end.
            let mut ends = [0; LOOK_AHEAD];
            let mut lines: [&[u8]; LOOK_AHEAD] = [&[]; LOOK_AHEAD];
            let mut found = 0;
            let mut line_begin = begin;
            while found < LOOK_AHEAD {
                let Some(at) = find(b'\n', &self.bytes[searched..end]) else {
                    break;
                };
                ends[found] = searched + at;
                lines[found] = &self.bytes[line_begin..ends[found]];
                searched = ends[found] + 1;
                line_begin = searched;
                found += 1;
            }
            if found == 0 {
                break;
            }
            reader.look_ahead(&lines[..found]);
            for line_end in &ends[..found] {
                let line = &mut self.bytes[begin..*line_end];
                begin = line_end + 1;
                if std::mem::take(&mut self.skipping) {
                    continue;
                }
                handed_out += 1;
                match line.len() {
                    0..=MAX_LINE_BYTES => reader.take(Line::Whole(line)),
                    _ => reader.take(Line::TooLong(line)),
                }
            }
        }
        if !self.skipping && end - begin > MAX_LINE_BYTES {
            handed_out += 1;
            reader.take(Line::TooLong(&self.bytes[begin..end]));
            self.skipping = true;
        }
        self.partial = 0;
        if !self.skipping {
            self.bytes.copy_within(begin..end, 0);
            self.partial = end - begin;
        }
        handed_out
    }

    /// The line that is not complete yet, and whether it was too long, its
    /// beginning handed out.
    pub fn partial(&self) -> (&[u8], bool) {
        (&self.bytes[..self.partial], self.skipping)
    }

    /// Goes on with what [`LineBuffer::partial`] gave. What it could not have given
    /// changes nothing.
    pub fn resume(&mut self, bytes: &[u8], is_too_long: bool) {
        let is_line = bytes.len() <= MAX_LINE_BYTES && !bytes.contains(&b'\n');
        if is_line && (bytes.is_empty() || !is_too_long) {
            self.bytes[..bytes.len()].copy_from_slice(bytes);
            self.partial = bytes.len();
            self.skipping = is_too_long;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// Keeps the lines, too long ones as errors, and what was to come.
    #[derive(Default)]
    struct Kept {
        lines: Vec<Result<Vec<u8>, ()>>,
        announced: VecDeque<Vec<u8>>,
    }

    impl LineReader for Kept {
        fn look_ahead(&mut self, lines: &[&[u8]]) {
            self.announced = lines.iter().map(|line| line.to_vec()).collect();
        }

        fn take(&mut self, line: Line) {
            self.lines.push(match line {
                Line::Whole(line) => {
                    // The rest of a line that was too long may be before it.
                    while let Some(announced) = self.announced.pop_front() {
                        if announced == line {
                            break;
                        }
                    }
                    Ok(line.to_vec())
                }
                Line::TooLong(_) => Err(()),
            });
        }
    }

    /// The lines of a stream read in pieces of `size`.
    fn lines(stream: &[u8], size: usize) -> Vec<Result<Vec<u8>, ()>> {
        let mut buffer = LineBuffer::default();
        let mut kept = Kept::default();
        for piece in stream.chunks(size) {
            buffer.room()[..piece.len()].copy_from_slice(piece);
            buffer.filled(piece.len(), &mut kept);
            // But for the end of a line that was too long.
            assert!(kept.announced.len() < 2, "what was announced came");
        }
        kept.lines
    }

    #[test]
    fn lines_are_the_same_however_they_are_read() {
        let stream = b"one\n\ntwo\nand the third\nnot complete";
        let expected: Vec<Result<Vec<u8>, ()>> = [&b"one"[..], b"", b"two", b"and the third"]
            .into_iter()
            .map(|line| Ok(line.to_vec()))
            .collect();
        for size in 1..=stream.len() {
            assert_eq!(lines(stream, size), expected, "in pieces of {size}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_costs_that_line_only() {
        for (length, fits) in [
            (MAX_LINE_BYTES - 1, true),
            (MAX_LINE_BYTES, true),
            (MAX_LINE_BYTES + 1, false),
            (3 * READ_BYTES, false),
        ] {
            let long = vec![b'x'; length];
            let stream = [b"before\n", &long[..], b"\nafter\n", &long, b"\nlast\n"].concat();
            let middle = if fits { Ok(long) } else { Err(()) };
            let expected = [
                Ok(b"before".to_vec()),
                middle.clone(),
                Ok(b"after".to_vec()),
                middle,
                Ok(b"last".to_vec()),
            ];
            for size in [1, 1000, MAX_LINE_BYTES, READ_BYTES] {
                assert_eq!(
                    lines(&stream, size),
                    expected,
                    "{length} in pieces of {size}"
                );
            }
        }
    }

    #[test]
    fn only_what_a_buffer_gave_is_gone_on_with() {
        let line = vec![b'x'; MAX_LINE_BYTES + 1];
        for (bytes, is_too_long, is_taken) in [
            (&b"be"[..], false, true),
            (b"", true, true),
            (b"be", true, false),
            (b"a\nb", false, false),
            (&line[1..], false, true),
            (&line, false, false),
        ] {
            let mut buffer = LineBuffer::default();
            buffer.resume(bytes, is_too_long);
            let expected = if is_taken {
                (bytes, is_too_long)
            } else {
                (&[][..], false)
            };
            assert_eq!(buffer.partial(), expected, "{}", bytes.escape_ascii());
        }
    }
}
