//! Settings back to text, in the syntax they are read from.
//!
//! It walks the rows of [`super::table`] and knows the shape of the sections,
//! nothing about any single setting. Invariant: reading the text with the same
//! [`Defaults`] gives equal [`Settings`].

use super::settings::{FileListener, InetListener, Service, Settings, UnixListener};
use super::table::{self, Setting};
use super::text::lines::{quote_name, quote_value};
use super::Defaults;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// What differs from the defaults (`-n`).
    Changed,
    /// Everything (`-a`).
    All,
}

impl Settings {
    /// The settings in configuration syntax.
    pub fn print(&self, shown: Shown, defaults: &Defaults) -> String {
        let default = Settings::new(defaults);
        let mut out = Printer {
            text: String::new(),
            shown,
            depth: 0,
        };
        out.rows(table::TOP, self, &default);
        out.section("service", Some("stats"), shown == Shown::All, |out| {
            out.rows(table::SERVICE, &self.service, &Service::new());
            for fifo in &self.fifo_listeners {
                let show = out.shows(fifo, &default.fifo_listeners);
                out.section("fifo_listener", Some(&fifo.name), show, |out| {
                    out.rows(table::FILE, fifo, &FileListener::fifo(&fifo.name));
                });
            }
            for unix in &self.unix_listeners {
                let plain = UnixListener::new(&unix.file.name);
                let show = out.shows(unix, &default.unix_listeners);
                out.section("unix_listener", Some(&unix.file.name), show, |out| {
                    out.rows(table::FILE, &unix.file, &plain.file);
                    out.rows(table::OPTIONS, &unix.options, &plain.options);
                });
            }
            for inet in &self.inet_listeners {
                let plain = InetListener::new(inet.name.clone());
                out.section("inet_listener", inet.name.as_deref(), true, |out| {
                    out.rows(table::INET, inet, &plain);
                    out.rows(table::OPTIONS, &inet.options, &plain.options);
                });
            }
        });
        out.text
    }
}

struct Printer {
    text: String,
    shown: Shown,
    /// Sections that are open.
    depth: usize,
}

impl Printer {
    /// Whether a listener that `defaults` are made of needs a section.
    fn shows<T: PartialEq>(&self, listener: &T, defaults: &[T]) -> bool {
        self.shown == Shown::All || !defaults.contains(listener)
    }

    /// Appends the lines of `rows`.
    fn rows<T>(&mut self, rows: &[Setting<T>], section: &T, default: &T) {
        for row in rows {
            let value = (row.get)(section);
            let must = self.shown == Shown::All || row.default.is_none();
            if must || value != (row.get)(default) {
                self.line(&format!("{} = {}", row.name, quote_value(&value)));
            }
        }
    }

    /// Appends a section, unless it turns out empty and is not `always` shown.
    fn section(
        &mut self,
        kind: &str,
        name: Option<&str>,
        always: bool,
        content: impl FnOnce(&mut Printer),
    ) {
        let before = self.text.len();
        match name {
            Some(name) => self.line(&format!("{kind} {} {{", quote_name(name))),
            None => self.line(&format!("{kind} {{")),
        }
        let opened = self.text.len();
        self.depth += 1;
        content(self);
        self.depth -= 1;
        if always || self.text.len() > opened {
            self.line("}");
        } else {
            self.text.truncate(before);
        }
    }

    fn line(&mut self, text: &str) {
        self.text.push_str(&"  ".repeat(self.depth));
        self.text.push_str(text);
        self.text.push('\n');
    }
}
