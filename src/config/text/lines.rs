//! What one line of configuration may look like. Pure: text in, values out.
//!
//! A file is cut into logical lines: comments gone, lines that end in a backslash
//! joined with the next by one blank. Facts taken from Dovecot 2.3, which this
//! follows: `#` begins a comment anywhere outside quotes, even without a blank
//! before it; a backslash at the end of a comment joins nothing; a quote that is
//! not closed keeps `#` to the end of the line. Unlike there, a line that breaks a
//! rule is taken for what it most likely meant, so that the braces after it still
//! pair up and every further mistake can be reported.
//!
//! Names and values are only split off here; their meaning is up to `build`.

/// A line without comment and continuation.
pub(crate) struct Logical {
    /// Its first line in the file, counted from 1.
    pub line: u32,
    pub text: String,
    /// Whether bytes outside comments were not UTF-8 and had to be replaced.
    pub replaced: bool,
}

/// The logical lines of a file's bytes.
pub(crate) fn logical(bytes: &[u8]) -> impl Iterator<Item = Logical> + '_ {
    let mut physical = bytes.split(|&b| b == b'\n').zip(1u32..);
    std::iter::from_fn(move || {
        let mut next = physical.next()?;
        let mut whole = Logical {
            line: next.1,
            text: String::new(),
            replaced: false,
        };
        let mut quote = None;
        loop {
            let text = String::from_utf8_lossy(next.0);
            let (kept, has_comment) = cut_comment(text.trim(), &mut quote);
            whole.replaced |=
                kept.contains(char::REPLACEMENT_CHARACTER) && std::str::from_utf8(next.0).is_err();
            match kept.strip_suffix('\\').filter(|_| !has_comment) {
                Some(kept) => {
                    whole.text.push_str(kept.trim_end());
                    whole.text.push(' ');
                }
                None => {
                    whole.text.push_str(kept);
                    return Some(whole);
                }
            }
            match physical.next() {
                Some(following) => next = following,
                None => return Some(whole),
            }
        }
    })
}

/// `text` up to its comment, and whether there was one; `quote` is the quote that
/// is open before and after it.
fn cut_comment<'a>(text: &'a str, quote: &mut Option<char>) -> (&'a str, bool) {
    let mut escaped = false;
    for (index, c) in text.char_indices() {
        match (c, *quote) {
            _ if escaped => escaped = false,
            ('\\', _) => escaped = true,
            ('#', None) => return (text[..index].trim_end(), true),
            ('"' | '\'', None) => *quote = Some(c),
            (c, Some(open)) if c == open => *quote = None,
            _ => {}
        }
    }
    (text, false)
}

/// The content of a logical line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Nothing, or nothing that could be made sense of.
    Nothing,
    /// `kind name {`; an empty kind is a section that could not be read.
    Open {
        kind: String,
        /// The second, unquoted.
        name: Option<String>,
    },
    /// `}`
    Close,
    /// `key = value`
    Set {
        /// What is before the `=`.
        key: String,
        /// What is after it, quotes included.
        value: String,
    },
    /// `!include pattern` or `!include_try pattern`
    Include {
        /// The file name or pattern.
        pattern: String,
        /// Whether there may be no such file.
        may_be_missing: bool,
    },
}

/// Takes a logical line apart; the second value is what is wrong with it.
pub(crate) fn split(text: &str) -> (Line, Option<&'static str>) {
    let text = text.trim();
    if text.is_empty() {
        return (Line::Nothing, None);
    }
    if let Some(rest) = text.strip_prefix('}') {
        let wrong = (!rest.is_empty()).then_some("nothing may follow } on its line");
        return (Line::Close, wrong);
    }
    if let Some(directive) = text.strip_prefix('!') {
        return include(directive);
    }
    let end = text
        .find(|c: char| c.is_whitespace() || c == '=' || c == '{')
        .unwrap_or(text.len());
    let (key, rest) = text.split_at(end);
    let rest = rest.trim_start();
    match rest.strip_prefix('=') {
        Some(_) if key.is_empty() => (Line::Nothing, Some("there is no name before =")),
        Some(value) => {
            let set = Line::Set {
                key: key.to_owned(),
                value: value.trim().to_owned(),
            };
            (set, None)
        }
        None => section(text, key, rest),
    }
}

/// Takes apart what follows a `!`.
fn include(directive: &str) -> (Line, Option<&'static str>) {
    let (word, pattern) = directive
        .split_once(char::is_whitespace)
        .unwrap_or((directive, ""));
    let may_be_missing = match word {
        "include" => false,
        "include_try" => true,
        _ => return (Line::Nothing, Some("expected !include or !include_try")),
    };
    match unquote(pattern.trim()) {
        Ok((pattern, _)) if !pattern.is_empty() => {
            let include = Line::Include {
                pattern,
                may_be_missing,
            };
            (include, None)
        }
        Ok(_) => (Line::Nothing, Some("!include needs a file name")),
        Err(wrong) => (Line::Nothing, Some(wrong)),
    }
}

/// Takes apart the line `text` that begins a section: `key`, then `rest`.
fn section(text: &str, key: &str, rest: &str) -> (Line, Option<&'static str>) {
    let unread = if text.ends_with('{') {
        Line::Open {
            kind: String::new(),
            name: None,
        }
    } else {
        Line::Nothing
    };
    let Some(end) = name_end(rest) else {
        return (unread, Some("the closing quote is missing"));
    };
    let (name, rest) = rest.split_at(end);
    let Some(after) = rest.trim_start().strip_prefix('{') else {
        return match (name, rest.trim_start()) {
            ("", _) | (_, "") => (unread, Some("expected NAME = VALUE or SECTION {")),
            _ => (
                unread,
                Some("expected { after the section's name (a name with blanks needs quotes)"),
            ),
        };
    };
    if key.is_empty() {
        return (
            unread,
            Some("{ must be on the line of its section, after the name"),
        );
    }
    let Ok((unquoted, _)) = unquote(name) else {
        return (unread, Some("the closing quote is missing"));
    };
    let open = Line::Open {
        kind: key.to_owned(),
        name: (!name.is_empty()).then_some(unquoted),
    };
    match after.is_empty() {
        true => (open, None),
        false if after.ends_with('}') => (
            Line::Nothing,
            Some("nothing may follow { on its line: each setting and } has its own"),
        ),
        false => (open, Some("nothing may follow { on its line")),
    }
}

/// Where the section name that opens `text` ends; none if its quote is not closed.
fn name_end(text: &str) -> Option<usize> {
    let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
        let end = text.find(|c: char| c.is_whitespace() || c == '{');
        return Some(end.unwrap_or(text.len()));
    };
    let mut escaped = false;
    for (index, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(index + 1),
            _ => {}
        }
    }
    None
}

/// `text` without the quotes around it, and whether it had any. Within quotes a
/// backslash keeps the character after it.
///
/// # Errors
/// A quote opens the text and does not enclose it.
pub(crate) fn unquote(text: &str) -> Result<(String, bool), &'static str> {
    let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
        return Ok((text.to_owned(), false));
    };
    let mut out = String::new();
    let mut rest = text[1..].chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => out.extend(rest.next()),
            c if c == quote && rest.as_str().is_empty() => return Ok((out, true)),
            c => out.push(c),
        }
    }
    Err("a value that begins with a quote must end with it")
}

/// The reverse of [`unquote`]: quotes for a value that would not be read back as
/// it is.
pub(crate) fn quote_value(text: &str) -> String {
    if text.contains(['#', '"', '\'', '$', '\\', '<']) || text.trim() != text {
        quote(text)
    } else {
        text.to_owned()
    }
}

/// Quotes for a section name that needs them.
pub(crate) fn quote_name(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@+".contains(c);
    if text.chars().all(plain) {
        text.to_owned()
    } else {
        quote(text)
    }
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
