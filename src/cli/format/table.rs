//! Aligned columns.
//!
//! The widths come from the header and the first hundred rows, which are held
//! until then; later rows stream, however long their fields are. A column is
//! as wide as the longest of them looks; numbers stand at its right.
//!
//! As doveadm prints it, everything is at the left, characters are counted in its
//! way, and the whole is fitted to 80 columns: room
//! left goes to the last column, half of it; what is too much is taken from the
//! columns, the last first, never below their shortest field. One that cannot
//! give all that is missing gives half of what it can, one at least, and the
//! next is asked for the full amount again. (doveadm 2.3.19, measured.)

use crate::cli::column::{named, ValueKind};
use crate::cli::width;
use std::io::{self, Write};

/// How many rows decide the widths.
const HELD_ROWS: usize = 100;

/// What doveadm takes for the width of the paper.
const PAPER: usize = 80;

/// The widths of columns, and the rows held until they are known.
pub(super) struct Widths {
    /// Whether it is to be as doveadm prints it.
    like_doveadm: bool,
    /// The rows held; `None` once the widths are known.
    held: Option<Vec<Vec<Vec<u8>>>>,
    /// The width of each column.
    widths: Vec<usize>,
    /// Which columns stand at the right.
    are_right: Vec<bool>,
}

impl Widths {
    pub(super) fn new(like_doveadm: bool) -> Widths {
        Widths {
            like_doveadm,
            held: None,
            widths: Vec::new(),
            are_right: Vec::new(),
        }
    }

    /// A header came. Without columns there is nothing to print.
    pub(super) fn start(&mut self, names: &[String]) {
        self.held = (!names.is_empty()).then(Vec::new);
        let is_right =
            |name: &String| !self.like_doveadm && ValueKind::of(&named(name)) != ValueKind::Text;
        self.are_right = names.iter().map(is_right).collect();
    }

    /// Prints a row, or holds it.
    pub(super) fn row(
        &mut self,
        out: &mut impl Write,
        names: &[String],
        fields: &[&[u8]],
    ) -> io::Result<()> {
        let Some(held) = &mut self.held else {
            return self.line(out, fields);
        };
        held.push(fields.iter().map(|field| field.to_vec()).collect());
        match held.len() < HELD_ROWS {
            true => Ok(()),
            false => self.flush(out, names),
        }
    }

    /// Prints the header and the rows held, unless that was done.
    pub(super) fn flush(&mut self, out: &mut impl Write, names: &[String]) -> io::Result<()> {
        let Some(held) = self.held.take() else {
            return Ok(());
        };
        self.choose(names, &held);
        let header: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
        self.line(out, &header)?;
        for row in &held {
            let fields: Vec<&[u8]> = row.iter().map(Vec::as_slice).collect();
            self.line(out, &fields)?;
        }
        Ok(())
    }

    fn choose(&mut self, names: &[String], held: &[Vec<Vec<u8>>]) {
        let mut widths: Vec<usize> = names
            .iter()
            .map(|name| self.length(name.as_bytes()))
            .collect();
        let mut shortest = widths.clone();
        for row in held {
            for (n, field) in row.iter().enumerate() {
                let length = self.length(field);
                widths[n] = widths[n].max(length);
                shortest[n] = shortest[n].min(length);
            }
        }
        if self.like_doveadm {
            fit(&mut widths, &shortest);
        }
        self.widths = widths;
    }

    /// How much room a field asks for: its columns, or for doveadm characters as
    /// their first bytes announce them.
    fn length(&self, field: &[u8]) -> usize {
        match self.like_doveadm {
            false => columns(field),
            true => announced_chars(field),
        }
    }

    /// How much room a field fills: its columns, or for doveadm bytes that
    /// continue no character. That doveadm counts in another way here shows
    /// only with invalid UTF-8.
    fn filled(&self, field: &[u8]) -> usize {
        match self.like_doveadm {
            false => columns(field),
            true => field.iter().filter(|&&byte| byte & 0xc0 != 0x80).count(),
        }
    }

    /// Prints a line; doveadm pads its last column like the others.
    fn line(&self, out: &mut impl Write, fields: &[&[u8]]) -> io::Result<()> {
        for (n, (field, width)) in fields.iter().zip(&self.widths).enumerate() {
            if n > 0 {
                out.write_all(b" ")?;
            }
            let left = width.saturating_sub(self.filled(field));
            if self.are_right[n] {
                pad(out, left)?;
            }
            out.write_all(field)?;
            let is_last = n + 1 == fields.len();
            if !self.are_right[n] && (self.like_doveadm || !is_last) {
                pad(out, left)?;
            }
        }
        out.write_all(b"\n")
    }
}

/// Prints blanks. A width of more than 65535 makes the one of a format panic.
fn pad(out: &mut impl Write, mut columns: usize) -> io::Result<()> {
    const BLANKS: [u8; 64] = [b' '; 64];
    while columns > 0 {
        let piece = columns.min(BLANKS.len());
        out.write_all(&BLANKS[..piece])?;
        columns -= piece;
    }
    Ok(())
}

/// The columns of a field on a terminal.
fn columns(field: &[u8]) -> usize {
    width::width(&String::from_utf8_lossy(field))
}

/// The characters of a field, going by how many bytes the first of each
/// announces, whatever follows it; one that is cut off is none.
fn announced_chars(mut field: &[u8]) -> usize {
    let mut count = 0;
    while let Some(first) = field.first() {
        let bytes = match first {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf7 => 4,
            0xf8..=0xfb => 5,
            0xfc..=0xfd => 6,
            _ => 1,
        };
        match field.get(bytes..) {
            Some(rest) => field = rest,
            None => break,
        }
        count += 1;
    }
    count
}

/// Fits widths to the paper.
fn fit(widths: &mut [usize], shortest: &[usize]) {
    let total = widths.iter().sum::<usize>() + widths.len().saturating_sub(1);
    if let Some(room) = PAPER.checked_sub(total) {
        if let Some(last) = widths.last_mut() {
            *last += room / 2;
        }
        return;
    }
    let excess = total - PAPER;
    for (width, shortest) in widths.iter_mut().zip(shortest).rev() {
        let spare = *width - shortest;
        if spare >= excess {
            *width -= excess;
            return;
        }
        *width -= (spare / 2).max(1).min(spare);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(widths: &[usize], shortest: &[usize]) -> Vec<usize> {
        let mut widths = widths.to_vec();
        fit(&mut widths, shortest);
        widths
    }

    #[test]
    fn widths_are_those_measured_of_doveadm() {
        for (longest, shortest, expected) in [
            (&[1][..], &[1][..], &[40][..]),
            (&[1, 5], &[1, 1], &[1, 41]),
            (&[4, 11, 1], &[1, 1, 1], &[4, 11, 32]),
            (&[10; 7], &[1; 7], &[10, 10, 10, 10, 10, 10, 12]),
            (&[10; 8], &[1; 8], &[10, 10, 10, 10, 10, 10, 10, 3]),
            (&[10; 9], &[1; 9], &[6; 9]),
            (&[100, 5, 50], &[1, 1, 1], &[23, 3, 26]),
            (&[100, 100, 100], &[1, 1, 1], &[51, 51, 51]),
            (&[78, 5], &[1, 1], &[78, 1]),
            (&[79, 5], &[1, 1], &[74, 3]),
            (&[20; 4], &[20; 4], &[20; 4]),
            (&[30, 20, 20, 25], &[20; 4], &[25, 20, 20, 23]),
            (&[78, 1], &[1, 1], &[78, 1]),
            (&[6, 5, 90], &[6, 4, 89], &[6, 4, 89]),
        ] {
            assert_eq!(fitted(longest, shortest), expected, "{longest:?}");
        }
    }

    #[test]
    fn invalid_characters_are_counted_as_doveadm_does() {
        for (field, expected) in [
            (&b"abc"[..], 3),
            ("中é😀".as_bytes(), 3),
            (b"\xff\xfe\x80\xc0\xc1", 5),
            (b"ab\xe2\x80", 2),
            (b"a\xe2\xffbcdef", 6),
            (b"a\xf8bcdefghijk", 8),
            (b"a\xfdbcdefghijk", 7),
            (b"\xe2\x80\xe2\x80\xa8abc", 6),
            (b"", 0),
        ] {
            assert_eq!(announced_chars(field), expected, "{}", field.escape_ascii());
        }
    }

    #[test]
    fn the_first_hundred_rows_decide() {
        for (at, wide) in [(98, true), (99, true), (100, false)] {
            let names = ["a".to_owned(), "b".to_owned()];
            let mut table = Widths::new(true);
            let mut out = Vec::new();
            table.start(&names);
            for n in 0..150 {
                let field: &[u8] = if n == at { b"wide" } else { b"n" };
                table.row(&mut out, &names, &[field, b"x"]).unwrap();
            }
            table.flush(&mut out, &names).unwrap();
            assert_eq!(out.starts_with(b"a    b"), wide, "{at}");
            assert_eq!(out.iter().filter(|&&byte| byte == b'\n').count(), 151);
        }
    }

    #[test]
    fn no_field_is_too_wide() {
        let names = ["user", "num_cmds"].map(str::to_owned);
        for like_doveadm in [false, true] {
            let mut table = Widths::new(like_doveadm);
            let mut out = Vec::new();
            table.start(&names);
            let wide = [b'9'; 70_000];
            for fields in [[&wide[..], &wide], [b"joe", b"1"]] {
                table.row(&mut out, &names, &fields).unwrap();
            }
            table.flush(&mut out, &names).unwrap();
            assert!(out.len() > 3 * 70_000, "{}", out.len());
        }
    }

    #[test]
    fn numbers_are_at_the_right_of_columns_as_wide_as_they_look() {
        let names = ["user", "num_cmds", "service"].map(str::to_owned);
        let mut table = Widths::new(false);
        let mut out = Vec::new();
        table.start(&names);
        for (user, commands) in [("日本語", "1"), ("müller", "1234567890")] {
            let fields = [user.as_bytes(), commands.as_bytes(), b"imap"];
            table.row(&mut out, &names, &fields).unwrap();
        }
        table.flush(&mut out, &names).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "user     num_cmds service\n日本語          1 imap\nmüller 1234567890 imap\n"
        );
    }
}
