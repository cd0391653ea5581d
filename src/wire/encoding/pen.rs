//! Writing a line into room that was taken for all of it at once.
//!
//! A row has some thirty fields of a few bytes. To ask for each of them whether the
//! output has room costs more than to write it, so [`Pen::append`] makes room for the
//! longest line that there can be and cuts off what was not needed. A field may write
//! behind its end, where the next one goes.
//!
//! Must not: know what the fields mean.

use crate::stats::Unit;
use crate::wire::encoding::escape::{max_escaped_bytes, write_escaped};
use crate::wire::encoding::number::{write_digits, write_secs, write_value, NUMBER_ROOM_BYTES};

/// Where a line is written, field by field, each ended by a TAB.
pub(crate) struct Pen<'a> {
    room: &'a mut [u8],
    at: usize,
}

impl Pen<'_> {
    /// Appends to `out` what `write` writes: texts of `text_bytes` in all, and at most
    /// `numbers` other fields.
    pub(crate) fn append(
        out: &mut Vec<u8>,
        text_bytes: usize,
        numbers: usize,
        write: impl FnOnce(&mut Pen),
    ) {
        let begin = out.len();
        let room = max_escaped_bytes(text_bytes) + (numbers + 1) * NUMBER_ROOM_BYTES;
        out.resize(begin + room, 0);
        let mut pen = Pen {
            room: &mut out[begin..],
            at: 0,
        };
        write(&mut pen);
        let end = begin + pen.at;
        out.truncate(end);
    }

    pub(crate) fn text(&mut self, text: &[u8]) {
        self.at += write_escaped(&mut self.room[self.at..], text);
        self.end_field();
    }

    pub(crate) fn number(&mut self, number: u64) {
        self.digits(number);
        self.end_field();
    }

    /// Writes seconds, of at most 14 digits, a dot and six digits of microseconds.
    pub(crate) fn secs(&mut self, secs: u64, usecs: u32) {
        let written = write_secs(self.number_room(), secs, usecs);
        self.at += written;
        self.end_field();
    }

    /// Writes the value of a statistics field.
    #[inline(always)]
    pub(crate) fn value(&mut self, unit: Unit, value: u64) {
        let written = write_value(self.number_room(), unit, value);
        self.at += written;
        self.end_field();
    }

    /// Writes a number that does not end the field.
    pub(crate) fn digits(&mut self, number: u64) {
        let written = write_digits(self.number_room(), number);
        self.at += written;
    }

    #[inline(always)]
    pub(crate) fn byte(&mut self, byte: u8) {
        self.room[self.at] = byte;
        self.at += 1;
    }

    /// Writes bytes that are whole fields with their TABs.
    #[inline(always)]
    pub(crate) fn bytes<const N: usize>(&mut self, bytes: &[u8; N]) {
        self.room[self.at..][..N].copy_from_slice(bytes);
        self.at += N;
    }

    /// Writes the TAB that ends a field.
    #[inline(always)]
    pub(crate) fn end_field(&mut self) {
        self.byte(b'\t');
    }

    /// Replaces the last TAB by the end of the line.
    pub(crate) fn end_line(&mut self) {
        self.room[self.at - 1] = b'\n';
    }

    /// Room for a number, in front of the room that is left.
    #[inline(always)]
    fn number_room(&mut self) -> &mut [u8; NUMBER_ROOM_BYTES] {
        let room = self.room[self.at..].first_chunk_mut();
        room.expect("there is room for all numbers")
    }
}
