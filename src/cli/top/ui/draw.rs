//! A screen in memory, and the fewest bytes that make a terminal show it.
//!
//! Owns: the cells of the frame being drawn and of the one that the terminal
//! shows. Invariants: a wide character has two cells or none; what is drawn
//! past an edge is cut there; only text that went through
//! [`visible`](crate::cli::width::visible) is put. After a wide or marked
//! character the cursor is placed anew, so that a terminal that disagrees about
//! its width loses one character and not the row. Must not: write.

use crate::cli::width::char_width;
use crate::sys::terminal::Size;
use std::io::Write;

/// How a cell looks; what that is on the terminal is in [`LOOKS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Style {
    #[default]
    Plain,
    Strong,
    Dim,
    /// The program's name, the level shown.
    Title,
    /// All is well; rows that are new.
    Good,
    /// Look here: thousands, a search's match.
    Notice,
    /// Large: millions and more.
    Large,
    Bad,
    /// The line of column titles.
    Head,
    /// The title of the column that sorts.
    Active,
    Cursor,
    /// A key in the last line.
    Key,
    /// What hangs over the table.
    Popup,
    Bar,
}

/// SGR parameters of each style, with colours and without.
const LOOKS: [(&str, &str); 14] = [
    ("0", "0"),
    ("0;1", "0;1"),
    ("0;90", "0"),
    ("0;1;36", "0;1"),
    ("0;32", "0;1"),
    ("0;33", "0"),
    ("0;1;35", "0;1"),
    ("0;1;31", "0;1"),
    ("0;30;42", "0;7"),
    ("0;1;30;46", "0;1;7"),
    ("0;30;46", "0;7"),
    ("0;7", "0;7"),
    ("0;37;44", "0"),
    ("0;36", "0"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    /// Its character; NUL in the second cell of a wide one.
    base: char,
    /// A mark combined with it, or NUL.
    mark: char,
    style: Style,
}

/// A cell with nothing in it.
const BLANK: Cell = Cell {
    base: ' ',
    mark: '\0',
    style: Style::Plain,
};

#[derive(Debug)]
pub(crate) struct Frame {
    size: Size,
    /// Its cells, row by row.
    cells: Vec<Cell>,
}

impl Frame {
    pub(crate) fn new(size: Size) -> Frame {
        Frame {
            size,
            cells: vec![BLANK; size.rows * size.columns],
        }
    }

    pub(crate) fn size(&self) -> Size {
        self.size
    }

    /// Puts a text; gives the column behind it. What does not fit is cut.
    pub(crate) fn put(&mut self, row: usize, column: usize, text: &str, style: Style) -> usize {
        self.put_within(row, column, self.size.columns, text, style)
    }

    /// As [`Frame::put`], cut at the column `end`.
    pub(crate) fn put_within(
        &mut self,
        row: usize,
        mut column: usize,
        end: usize,
        text: &str,
        style: Style,
    ) -> usize {
        let end = end.min(self.size.columns);
        if row >= self.size.rows {
            return column;
        }
        let begin = column;
        for c in text.chars() {
            let width = char_width(c);
            if column + width > end {
                break;
            }
            let at = row * self.size.columns + column;
            if width == 0 {
                if column > begin {
                    let wide = self.cells[at - 1].base == '\0';
                    self.cells[at - 1 - usize::from(wide)].mark = c;
                }
                continue;
            }
            self.sever(row, column);
            self.sever(row, column + width);
            let mark = '\0';
            let base = c;
            self.cells[at] = Cell { base, mark, style };
            if width == 2 {
                let base = '\0';
                self.cells[at + 1] = Cell { base, mark, style };
            }
            column += width;
        }
        column
    }

    /// Fills the rest of a row from `column` with blanks of a style.
    pub(crate) fn fill(&mut self, row: usize, column: usize, end: usize, style: Style) {
        let blanks = " ".repeat(end.min(self.size.columns).saturating_sub(column));
        self.put(row, column, &blanks, style);
    }

    /// Gives a row one style, whatever is in it.
    pub(crate) fn restyle(&mut self, row: usize, style: Style) {
        let begin = row * self.size.columns;
        for cell in &mut self.cells[begin..begin + self.size.columns] {
            cell.style = style;
        }
    }

    /// Makes blanks of a wide character that would be cut in two at `column`.
    fn sever(&mut self, row: usize, column: usize) {
        let at = row * self.size.columns + column;
        if column < self.size.columns && self.cells[at].base == '\0' {
            self.cells[at].base = ' ';
            self.cells[at - 1].base = ' ';
            self.cells[at - 1].mark = '\0';
        }
    }
}

#[derive(Debug)]
pub(crate) struct Painter {
    /// The last frame; `None` when the terminal may show anything.
    shown: Option<Frame>,
    colors: bool,
}

impl Painter {
    /// For a terminal that may show anything.
    pub(crate) fn new(colors: bool) -> Painter {
        Painter {
            shown: None,
            colors,
        }
    }

    /// The terminal may show anything: the next frame is drawn whole.
    pub(crate) fn invalidate(&mut self) {
        self.shown = None;
    }

    /// Appends what turns the frame shown into `frame`.
    pub(crate) fn paint(&mut self, frame: Frame, out: &mut Vec<u8>) {
        let columns = frame.size.columns;
        let shown = match self.shown.take() {
            Some(shown) if shown.size == frame.size => shown,
            _ => {
                out.extend_from_slice(b"\x1b[0m\x1b[2J");
                Frame::new(frame.size)
            }
        };
        let mut style = None;
        for row in 0..frame.size.rows {
            let begin = row * columns;
            let new = &frame.cells[begin..begin + columns];
            let old = &shown.cells[begin..begin + columns];
            // Where the terminal's cursor is in this row, if it is known.
            let mut cursor = None;
            for column in 0..columns {
                let cell = new[column];
                let is_wide = new.get(column + 1).is_some_and(|next| next.base == '\0');
                let same = cell == old[column] && (!is_wide || new[column + 1] == old[column + 1]);
                if same || cell.base == '\0' {
                    continue;
                }
                if cursor != Some(column) {
                    move_to(out, row, column);
                }
                if style != Some(cell.style) {
                    style = Some(cell.style);
                    let (color, mono) = LOOKS[cell.style as usize];
                    let look = if self.colors { color } else { mono };
                    write!(out, "\x1b[{look}m").expect("a Vec takes everything");
                }
                push_char(out, cell.base);
                if cell.mark != '\0' {
                    push_char(out, cell.mark);
                }
                let certain = !is_wide && cell.mark == '\0';
                cursor = certain.then_some(column + 1);
            }
        }
        self.shown = Some(frame);
    }
}

fn move_to(out: &mut Vec<u8>, row: usize, column: usize) {
    write!(out, "\x1b[{};{}H", row + 1, column + 1).expect("a Vec takes everything");
}

fn push_char(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size {
        rows: 2,
        columns: 8,
    };

    fn painted(painter: &mut Painter, texts: &[(usize, usize, &str, Style)]) -> String {
        let mut frame = Frame::new(SIZE);
        for &(row, column, text, style) in texts {
            frame.put(row, column, text, style);
        }
        let mut out = Vec::new();
        painter.paint(frame, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn only_what_differs_is_sent() {
        let mut painter = Painter::new(true);
        let first = painted(&mut painter, &[(0, 0, "ab cd", Style::Plain)]);
        assert_eq!(first, "\x1b[0m\x1b[2J\x1b[1;1H\x1b[0mab\x1b[1;4Hcd");
        assert_eq!(painted(&mut painter, &[(0, 0, "ab cd", Style::Plain)]), "");
        assert_eq!(
            painted(&mut painter, &[(0, 0, "ab ce", Style::Plain)]),
            "\x1b[1;5H\x1b[0me"
        );
        assert_eq!(
            painted(&mut painter, &[(0, 0, "ab ce", Style::Strong)]),
            "\x1b[1;1H\x1b[0;1mab ce"
        );
        painter.invalidate();
        let all = painted(&mut painter, &[(1, 7, "x", Style::Bad)]);
        assert_eq!(all, "\x1b[0m\x1b[2J\x1b[2;8H\x1b[0;1;31mx");
    }

    #[test]
    fn no_color_means_none() {
        let mut painter = Painter::new(false);
        let out = painted(&mut painter, &[(0, 0, "x", Style::Large)]);
        assert!(out.ends_with("\x1b[0;1mx"));
        for (_, mono) in LOOKS {
            assert!(mono.split(';').all(|sgr| matches!(sgr, "0" | "1" | "7")));
        }
        assert_eq!(LOOKS.len(), Style::Bar as usize + 1);
    }

    #[test]
    fn wide_characters_are_whole_or_not_there() {
        let mut painter = Painter::new(true);
        let out = painted(&mut painter, &[(0, 0, "日x", Style::Plain)]);
        assert!(out.ends_with("\x1b[1;1H\x1b[0m日\x1b[1;3Hx"), "{out:?}");
        // Half covered: the other half is a blank.
        let out = painted(
            &mut painter,
            &[(0, 0, "日x", Style::Plain), (0, 1, "y", Style::Plain)],
        );
        assert_eq!(out, "\x1b[1;1H\x1b[0m y");
        let out = painted(
            &mut painter,
            &[(0, 1, "日", Style::Plain), (0, 0, "本", Style::Plain)],
        );
        assert!(out.contains('本') && !out.contains('日'), "{out:?}");
        // No room for both halves at the edge.
        let mut frame = Frame::new(SIZE);
        assert_eq!(frame.put(0, 7, "日", Style::Plain), 7);
        assert_eq!(frame.put(9, 0, "x", Style::Plain), 0);
        assert_eq!(frame.put(0, 100, "x", Style::Plain), 100);
    }

    #[test]
    fn marks_stay_with_their_character() {
        let mut painter = Painter::new(true);
        let out = painted(&mut painter, &[(0, 0, "e\u{301}日\u{301}x", Style::Plain)]);
        assert!(
            out.ends_with("e\u{301}\x1b[1;2H日\u{301}\x1b[1;4Hx"),
            "{out:?}"
        );
    }
}
