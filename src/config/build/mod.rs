//! Items become settings: every name is looked up, every value is read.
//!
//! One pass over the list, in order, with the section that is open at each item
//! known; what belongs to a section that is not known is passed over silently,
//! since the section itself was reported. Dovecot's two names of a setting
//! (`stats_...`, `old_stats_...`) and of the section (`stats`, `old-stats`) become
//! one here and nowhere else. A section given twice continues the first, except
//! that `inet_listener` without a name is a new one each time (Dovecot 2.3).
//!
//! A name is looked up before its value is looked at: of what is not known, or not
//! ours, no value is judged, no `$name` replaced and no file read.
//!
//! What only the whole configuration shows (a missing port, two listeners on one path) is
//! checked at the end, by `check`.

mod check;
mod dovecot;
mod hint;

use super::mistake::{named, quoted, Location, Mistake};
use super::origin::Origins;
use super::settings::{FileListener, InetListener, Settings, UnixListener};
use super::table::{self, Known, Scope};
use super::text::lines::unquote;
use super::text::{self, Item, Text, What};
use super::{value, Configuration, Defaults};
use dovecot::Owners;
use std::path::Path;
use std::rc::Rc;

/// Longest value: that of a path, which is the longest there is use for.
const VALUE_MAX_BYTES: usize = 4096;

/// The configuration that a text, and the items of overrides behind it, make of
/// the defaults, and all mistakes, in the order of the items. `main` stands for the
/// text as a whole.
pub(super) fn build(
    text: Text,
    overrides: Vec<Item>,
    defaults: &Defaults,
    main: Location,
) -> (Configuration, Vec<Mistake>) {
    let owners = Owners::of(&text);
    let variables = table::VARIABLES.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut builder = Builder {
        settings: Settings::new(defaults),
        origins: Origins::default(),
        owners,
        dirs: text.files.into_iter().map(|file| file.dir).collect(),
        variables: variables.into(),
        scopes: Vec::new(),
        opened: Vec::new(),
        now: 0,
        mistakes: Vec::new(),
        notices: Vec::new(),
    };
    for item in text.items.into_iter().chain(overrides) {
        builder.now += 1;
        builder.item(item);
    }
    builder.check_whole();
    builder.note_open_ports();
    let mistakes = builder.mistakes.into_iter().map(|(_, mistake)| mistake);
    let configuration = Configuration {
        settings: builder.settings,
        is_dovecots: builder.owners.is_dovecots(Some(0)),
        notices: builder.notices,
        origins: builder.origins,
        main,
    };
    (configuration, mistakes.collect())
}

/// Where a listener was opened.
#[derive(Clone)]
struct OpenedListener {
    scope: Scope,
    /// The number of the item.
    order: usize,
    place: Location,
    /// Whether it was given a port.
    has_port: bool,
    /// Whether Dovecot's own file has it: no port is a listener that is off there.
    is_dovecots: bool,
}

struct Builder {
    /// What came out so far.
    settings: Settings,
    origins: Origins,
    owners: Owners,
    dirs: Vec<Rc<Path>>,
    /// Values of the settings that exist only to be referred to; the last of a name holds.
    variables: Vec<(String, String)>,
    /// The open sections, outermost first.
    scopes: Vec<Scope>,
    /// The listeners that sections were seen of, by the first section.
    opened: Vec<OpenedListener>,
    /// The number of the current item.
    now: usize,
    /// What is wrong, by the number of the item.
    mistakes: Vec<(usize, Mistake)>,
    notices: Vec<Mistake>,
}

impl Builder {
    fn item(&mut self, Item { place, file, what }: Item) {
        let is_dovecots = self.owners.is_dovecots(file);
        let done = match what {
            What::Open { kind, name, closed } => {
                if !closed {
                    self.wrong(&place, "this section has no closing }".to_owned());
                }
                let scope = match is_dovecots && self.is_left_aside(&kind, name.as_deref()) {
                    true => Ok(Scope::Unknown),
                    false => self.open(&place, file, &kind, name),
                };
                self.scopes.push(*scope.as_ref().unwrap_or(&Scope::Unknown));
                scope.map(|_| ())
            }
            What::Close => {
                self.scopes.pop();
                Ok(())
            }
            What::Set { key, value } => self.set(&place, file, &key, &value),
            What::Broken(_)
                if is_dovecots && matches!(self.scope(), Scope::Top | Scope::Unknown) =>
            {
                Ok(())
            }
            What::Broken(message) | What::Wrong(message) => Err(message),
        };
        if let Err(message) = done {
            self.wrong(&place, message);
        }
    }

    /// Notes what is wrong with the current item.
    fn wrong(&mut self, place: &Location, message: String) {
        self.wrong_at(self.now, place, message);
    }

    /// Notes what is wrong with an item.
    fn wrong_at(&mut self, order: usize, place: &Location, message: String) {
        let place = place.clone();
        let at = self.mistakes.partition_point(|(other, _)| *other <= order);
        self.mistakes
            .insert(at, (order, Mistake { place, message }));
    }

    /// Where a listener was opened; `None` for a default one without a section.
    fn opened(&mut self, scope: Scope) -> Option<&mut OpenedListener> {
        self.opened.iter_mut().find(|opened| opened.scope == scope)
    }

    fn scope(&self) -> Scope {
        *self.scopes.last().unwrap_or(&Scope::Top)
    }

    /// Whether a section of Dovecot's own file is not about the old statistics.
    fn is_left_aside(&self, kind: &str, name: Option<&str>) -> bool {
        match (self.scope(), kind) {
            (Scope::Top, "service") => match name {
                Some("old-stats") => false,
                Some("stats") => self.owners.has_new_statistics,
                _ => true,
            },
            (Scope::Service, "fifo_listener" | "unix_listener" | "inet_listener") => false,
            _ => true,
        }
    }

    /// Finds or makes the section that opens at `place`.
    fn open(
        &mut self,
        place: &Location,
        file: Option<usize>,
        kind: &str,
        name: Option<String>,
    ) -> Result<Scope, String> {
        let scope = match (self.scope(), kind, name) {
            (Scope::Unknown, ..) | (_, "", _) => return Ok(Scope::Unknown),
            (Scope::Top, "service", Some(name)) if matches!(&*name, "stats" | "old-stats") => {
                return Ok(Scope::Service)
            }
            (Scope::Top, "service", name) => {
                let hint = hint::for_service(name.as_deref().unwrap_or_default());
                let name = name.map_or(String::new(), |name| format!(" {}", named(&name)));
                return Err(format!("unknown section service{name}{hint}"));
            }
            (Scope::Service, "fifo_listener", name) => {
                let fifos = &mut self.settings.fifo_listeners;
                let name = file_name(kind, name)?;
                let index = find_or_add(fifos, |l| l.name == name, || FileListener::fifo(&name));
                Scope::Fifo(index)
            }
            (Scope::Service, "unix_listener", name) => {
                let sockets = &mut self.settings.unix_listeners;
                let name = file_name(kind, name)?;
                if dovecot::is_new_listener(&name) {
                    let place = place.clone();
                    let message = format!(
                        "unix_listener {name} is left to Dovecot: \
                         it belongs to the new statistics of Dovecot 2.3"
                    );
                    self.notices.push(Mistake { place, message });
                    return Ok(Scope::Unknown);
                }
                let index = find_or_add(
                    sockets,
                    |l| l.file.name == name,
                    || UnixListener::new(&name),
                );
                Scope::Unix(index)
            }
            (Scope::Service, "inet_listener", name) => {
                let name = name.filter(|name| !name.is_empty());
                plain(name.as_deref().unwrap_or_default())
                    .map_err(|message| format!("{kind}: {message}"))?;
                // Several overrides of the nameless listener mean the same one.
                let same =
                    |l: &InetListener| l.name == name && (name.is_some() || place.line.is_none());
                let ports = &mut self.settings.inet_listeners;
                Scope::Inet(find_or_add(ports, same, || InetListener::new(name.clone())))
            }
            (scope, kind, _) => {
                let hint = hint::for_section(scope, kind);
                return Err(format!("unknown section {}{hint}", named(kind)));
            }
        };
        self.origins.note(scope, "", place);
        if self.opened(scope).is_none() {
            self.opened.push(OpenedListener {
                scope,
                order: self.now,
                place: place.clone(),
                has_port: false,
                is_dovecots: self.owners.is_dovecots(file),
            });
        }
        Ok(scope)
    }

    /// Whether a setting of Dovecot's own file is about the statistics.
    fn is_of_statistics(&self, scope: Scope, name: &str, raw: &str) -> bool {
        let listeners = &self.settings;
        // With mode = 0 Dovecot's own service makes room for ours.
        let is_default = match scope {
            Scope::Fifo(i) => table::FIFO_NAMES.contains(&&*listeners.fifo_listeners[i].name),
            Scope::Unix(i) => table::UNIX_NAMES.contains(&&*listeners.unix_listeners[i].file.name),
            _ => false,
        };
        let makes_room = is_default && name == "mode" && value::mode(raw) == Ok(0);
        (scope != Scope::Top || name.starts_with("stats_"))
            && !makes_room
            && table::find(scope, name).is_some()
    }

    /// Gives `key` the value that stands as `raw` in `file`, in the current section.
    fn set(
        &mut self,
        place: &Location,
        file: Option<usize>,
        key: &str,
        raw: &str,
    ) -> Result<(), String> {
        let (scope, name) = (self.scope(), canonical(key));
        if self.owners.is_dovecots(file) && !self.is_of_statistics(scope, name, raw) {
            // The others can be referred to.
            if let (Scope::Top, Ok((value, _))) = (scope, unquote(raw)) {
                self.variables.push((name.to_owned(), value));
            }
            return Ok(());
        }
        if scope == Scope::Unknown {
            return Ok(());
        }
        let Some(known) = table::find(scope, name) else {
            let hint = hint::for_setting(scope, name);
            return Err(format!("unknown setting {}{hint}", named(key)));
        };
        if let Some(opened) = self.opened(scope) {
            opened.has_port |= name == "port";
        }
        let wrong = |message| format!("{key}: {message}");
        match known {
            Known::Setting(about) => {
                let (text, content_of) = self.value(name, file, raw).map_err(wrong)?;
                let done = plain(&text).and_then(|()| self.apply(scope, name, &text));
                // What a file contains is not shown.
                let hidden = |message| match &content_of {
                    Some(path) => format!("what {path} contains is wrong: {about}"),
                    None => message,
                };
                done.map_err(hidden).map_err(wrong)?;
                self.origins.note(scope, name, place);
            }
            Known::Variable => {
                let (text, _) = self.value(name, file, raw).map_err(wrong)?;
                plain(&text).map_err(wrong)?;
                self.variables.push((name.to_owned(), text));
            }
            Known::OnlyNo => {
                let (text, _) = self.value(name, file, raw).map_err(wrong)?;
                if value::boolean(&text).map_err(wrong)? {
                    return Err(wrong("is not supported, only no is".to_owned()));
                }
            }
            Known::Ignored => {}
        }
        Ok(())
    }

    /// The value that stands as `raw` in `file`, and the file that it is the content
    /// of, if it is one's.
    fn value(
        &self,
        name: &str,
        file: Option<usize>,
        raw: &str,
    ) -> Result<(String, Option<String>), String> {
        let (text, is_quoted) = unquote(raw)?;
        match text.strip_prefix('<') {
            _ if is_quoted => Ok((text, None)),
            Some(path) if table::FROM_FILE.contains(&name) => {
                let dir = file.map_or(Path::new(""), |file| &self.dirs[file]);
                let path = dir.join(path.trim());
                let content = text::content(&path, VALUE_MAX_BYTES)?;
                Ok((content, Some(quoted(&path.to_string_lossy()))))
            }
            Some(_) => Err("is not read from a file (quotes keep the <)".to_owned()),
            None => Ok((self.expand(&text, file)?, None)),
        }
    }

    /// Gives a setting its value.
    fn apply(&mut self, scope: Scope, name: &str, text: &str) -> Result<(), String> {
        let settings = &mut self.settings;
        let done = match scope {
            Scope::Top => table::set(table::TOP, settings, name, text),
            Scope::Service => table::set(table::SERVICE, &mut settings.service, name, text),
            Scope::Fifo(i) => table::set(table::FILE, &mut settings.fifo_listeners[i], name, text),
            Scope::Unix(i) => {
                let unix = &mut settings.unix_listeners[i];
                table::set(table::FILE, &mut unix.file, name, text)
                    .or_else(|| table::set(table::OPTIONS, &mut unix.options, name, text))
            }
            Scope::Inet(i) => {
                let inet = &mut settings.inet_listeners[i];
                table::set(table::INET, inet, name, text)
                    .or_else(|| table::set(table::OPTIONS, &mut inet.options, name, text))
            }
            Scope::Unknown => None,
        };
        done.unwrap_or(Ok(()))
    }

    /// `text` with each word `$name` replaced by the value that the setting has now.
    fn expand(&self, text: &str, file: Option<usize>) -> Result<String, String> {
        let mut out = String::new();
        for piece in text.split_inclusive(char::is_whitespace) {
            let word = piece.trim_end();
            match word.strip_prefix('$') {
                Some(name) => {
                    let value = self.value_of(canonical(name), file).ok_or_else(|| {
                        let word = quoted(word);
                        format!("{word} is no setting outside sections (quotes keep the $)")
                    })?;
                    out.push_str(&value);
                }
                None => out.push_str(word),
            }
            out.push_str(&piece[word.len()..]);
            if out.len() > VALUE_MAX_BYTES {
                // Too long already: many words may stand for long values.
                break;
            }
        }
        Ok(out)
    }

    /// The value of a setting outside sections, as `file` means it.
    fn value_of(&self, name: &str, file: Option<usize>) -> Option<String> {
        let row = table::TOP.iter().find(|row| row.name == name);
        let ours = || row.map(|row| (row.get)(&self.settings));
        let variable = || {
            let mut variables = self.variables.iter().rev();
            let (_, value) = variables.find(|variable| variable.0 == name)?;
            Some(value.clone())
        };
        match self.owners.is_dovecots(file) {
            true => variable().or_else(ours),
            false => ours().or_else(variable),
        }
    }
}

/// The index of the listener that is `same`, a new one if there is none.
fn find_or_add<T>(list: &mut Vec<T>, same: impl Fn(&T) -> bool, new: impl Fn() -> T) -> usize {
    list.iter().position(same).unwrap_or_else(|| {
        list.push(new());
        list.len() - 1
    })
}

/// The one name of a setting that has two.
pub(super) fn canonical(key: &str) -> &str {
    match key.strip_prefix("old_") {
        Some(name) if name.starts_with("stats_") => name,
        _ => key,
    }
}

/// The name of a FIFO or a UNIX socket.
fn file_name(kind: &str, name: Option<String>) -> Result<String, String> {
    let name = name.filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| format!("{kind}: its path is missing before {{"))?;
    plain(&name).map_err(|message| format!("{kind}: {message}"))?;
    Ok(name)
}

/// Refuses text that no setting can mean.
fn plain(text: &str) -> Result<(), String> {
    if text.len() > VALUE_MAX_BYTES {
        return Err(format!("longer than {VALUE_MAX_BYTES} bytes"));
    }
    match text.chars().find(|c| c.is_control() && *c != '\t') {
        Some(c) => Err(format!("control character {c:?} in {}", quoted(text))),
        None => Ok(()),
    }
}
