//! The bytes of a FIFO, cut into lines.
//!
//! Writers send a record by one write(2) of at most PIPE_BUF bytes, so lines of
//! different writers do not mix, and one buffer serves them all. A line of more
//! than [`MAX_LINE_BYTES`] is dropped up to its LF, whatever is in it. A
//! writer that died in the middle of a line spoils that line and the one it runs
//! into, no other.
//!
//! How many bytes are read at once and how many lines are handed out together is up
//! to the caller.

use crate::sys::mem::bytes::find;

/// The longest line taken, without its LF; Dovecot 2.3's service takes as much.
/// Real writers stay below PIPE_BUF.
pub const MAX_LINE_BYTES: usize = 8192;

/// Takes lines, without their LFs, at most `BATCH` together.
pub trait LineReader<const BATCH: usize> {
    fn take(&mut self, lines: &mut [&mut [u8]]);
    /// Takes the beginning of a line that is too long.
    fn too_long(&mut self, beginning: &[u8]);
}

/// The line that is not complete yet, and room for the bytes behind it.
#[derive(Debug)]
pub struct LineBuffer {
    /// An incomplete line of at most [`MAX_LINE_BYTES`], then room; empty when not in use.
    bytes: Box<[u8]>,
    /// How many bytes are read at once.
    read_bytes: usize,
    /// Length of the incomplete line.
    partial: usize,
    /// A line that is too long has been handed out; its end is still to come.
    skipping: bool,
}

impl LineBuffer {
    /// A buffer into which `read_bytes` are read at once.
    pub fn new(read_bytes: usize) -> LineBuffer {
        LineBuffer {
            bytes: Box::default(),
            read_bytes,
            partial: 0,
            skipping: false,
        }
    }

    /// Where the next bytes are read to; its length is that given to [`LineBuffer::new`].
    pub fn room(&mut self) -> &mut [u8] {
        self.take_up();
        &mut self.bytes[self.partial..][..self.read_bytes]
    }

    /// Allocates the memory if it is not there.
    fn take_up(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = vec![0; MAX_LINE_BYTES + self.read_bytes].into();
        }
    }

    /// Frees the memory, unless there is an incomplete line in it.
    pub fn give_up(&mut self) {
        if self.partial == 0 {
            self.bytes = Box::default();
        }
    }

    /// Hands out the lines that `count` bytes in the room complete; returns their number.
    pub fn filled<const BATCH: usize>(
        &mut self,
        count: usize,
        reader: &mut impl LineReader<BATCH>,
    ) -> u64 {
        let mut handed_out = 0;
        let end = self.partial + count;
        let mut bytes = &mut self.bytes[..end];
        // So many of them have no LF.
        let mut searched = std::mem::take(&mut self.partial);
        if self.skipping {
            let Some(at) = find(b'\n', bytes) else {
                return 0;
            };
            bytes = &mut bytes[at + 1..];
            self.skipping = false;
        }
        let mut has_more = true;
        while has_more {
            let mut lines = [(); BATCH].map(|()| <&mut [u8]>::default());
            let mut found = 0;
            let mut too_long = None;
            while found < BATCH && too_long.is_none() {
                let Some(at) = find(b'\n', &bytes[searched..]) else {
                    has_more = false;
                    break;
                };
                let (line, rest) = bytes.split_at_mut(searched + at);
                (bytes, searched) = (&mut rest[1..], 0);
                if line.len() > MAX_LINE_BYTES {
                    too_long = Some(line);
                } else {
                    lines[found] = line;
                    found += 1;
                }
            }
            handed_out += found as u64;
            reader.take(&mut lines[..found]);
            if let Some(line) = too_long {
                handed_out += 1;
                reader.too_long(line);
            }
        }
        if bytes.len() > MAX_LINE_BYTES {
            handed_out += 1;
            reader.too_long(bytes);
            self.skipping = true;
        } else {
            self.partial = bytes.len();
            self.bytes.copy_within(end - self.partial..end, 0);
        }
        handed_out
    }

    /// The line that is not complete yet, and whether it was too long and its
    /// beginning was handed out.
    pub fn partial(&self) -> (&[u8], bool) {
        (&self.bytes[..self.partial], self.skipping)
    }

    /// Goes on with what [`LineBuffer::partial`] returned. What it cannot have returned
    /// changes nothing.
    pub fn resume(&mut self, bytes: &[u8], is_too_long: bool) {
        let is_line = bytes.len() <= MAX_LINE_BYTES && !bytes.contains(&b'\n');
        if is_line && (bytes.is_empty() || !is_too_long) {
            self.take_up();
            self.bytes[..bytes.len()].copy_from_slice(bytes);
            self.partial = bytes.len();
            self.skipping = is_too_long;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ_BYTES: usize = 65536;

    /// Keeps the lines, too long ones as errors.
    #[derive(Default)]
    struct Kept {
        lines: Vec<Result<Vec<u8>, ()>>,
    }

    impl LineReader<32> for Kept {
        fn take(&mut self, lines: &mut [&mut [u8]]) {
            assert!(lines.len() <= 32);
            self.lines
                .extend(lines.iter().map(|line| Ok(line.to_vec())));
        }

        fn too_long(&mut self, beginning: &[u8]) {
            assert!(beginning.len() > MAX_LINE_BYTES);
            self.lines.push(Err(()));
        }
    }

    /// The lines of a stream read in pieces of `size`.
    fn lines(stream: &[u8], size: usize) -> Vec<Result<Vec<u8>, ()>> {
        let mut buffer = LineBuffer::new(READ_BYTES);
        let mut kept = Kept::default();
        for piece in stream.chunks(size) {
            buffer.room()[..piece.len()].copy_from_slice(piece);
            let before = kept.lines.len() as u64;
            let handed_out = buffer.filled(piece.len(), &mut kept);
            assert_eq!(handed_out, kept.lines.len() as u64 - before);
            buffer.give_up();
            assert_eq!(buffer.bytes.is_empty(), buffer.partial().0.is_empty());
        }
        kept.lines
    }

    #[test]
    fn the_size_of_reads_does_not_change_lines() {
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
}
