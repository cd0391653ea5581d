//! Items become settings: every name is looked up, every value is read.
//!
//! One pass over the list, in order, with the section that is open at each item
//! known; what belongs to a section that is not known is passed over silently,
//! since the section itself was reported. Dovecot's two names of a setting
//! (`stats_...`, `old_stats_...`) and of the section (`stats`, `old-stats`) become
//! one here and nowhere else. A section given twice continues the first, except
//! that `inet_listener` without a name is a new one each time (Dovecot 2.3).
//!
//! What can only be said of the whole (a port that is missing, two listeners on
//! one path) is checked at the end and reported where the listener was opened.

use super::hint;
use super::mistake::{quoted, Mistake, Mistakes, Place};
use super::own_files::own_files;
use super::parse::{Item, What};
use super::settings::{
    FileListener, InetListener, ListenerOptions, Protocol, Settings, UnixListener,
};
use super::{table, value, Defaults};
use std::path::{Path, PathBuf};

/// Longest value: that of a path, which is the longest there is use for.
const VALUE_MAX_BYTES: usize = 4096;

/// The settings that `items` make of the defaults.
///
/// # Errors
/// All mistakes, in the order of the items.
pub fn build(items: Vec<Item>, defaults: &Defaults) -> Result<Settings, Mistakes> {
    let mut builder = Builder {
        settings: Settings::new(defaults),
        variables: table::VARIABLES.map(|(name, value)| (name, value.to_owned())),
        scopes: Vec::new(),
        opened: Vec::new(),
        now: 0,
        mistakes: Vec::new(),
    };
    for item in items {
        builder.now += 1;
        builder.item(item);
    }
    builder.check_whole();
    if builder.mistakes.is_empty() {
        return Ok(builder.settings);
    }
    let mistakes = builder.mistakes.into_iter().map(|(_, mistake)| mistake);
    Err(Mistakes(mistakes.collect()))
}

/// The section an item is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// None.
    Top,
    /// `service stats`
    Service,
    /// The FIFO with this index.
    Fifo(usize),
    /// The UNIX socket with this index.
    Unix(usize),
    /// The TCP port with this index.
    Inet(usize),
    /// One that is unknown.
    Unknown,
}

/// Where a listener was opened.
#[derive(Clone)]
struct Opened {
    /// Its section.
    scope: Scope,
    /// The number of the item.
    order: usize,
    /// Its place.
    place: Place,
    /// Whether it was given a port.
    has_port: bool,
}

/// Settings under construction.
struct Builder {
    /// What came out so far.
    settings: Settings,
    /// Values of the settings that exist only to be referred to.
    variables: [(&'static str, String); 3],
    /// The open sections, outermost first.
    scopes: Vec<Scope>,
    /// The listeners that sections were seen of, by the first section.
    opened: Vec<Opened>,
    /// The number of the current item.
    now: usize,
    /// What is wrong, by the number of the item it is told about.
    mistakes: Vec<(usize, Mistake)>,
}

impl Builder {
    /// Takes the next item.
    fn item(&mut self, Item { place, what }: Item) {
        let done = match what {
            What::Open { kind, name, closed } => {
                if !closed {
                    self.wrong(&place, "this section has no closing }".to_owned());
                }
                let scope = self.open(&place, &kind, name);
                self.scopes.push(*scope.as_ref().unwrap_or(&Scope::Unknown));
                scope.map(|_| ())
            }
            What::Close => {
                self.scopes.pop();
                Ok(())
            }
            What::Set {
                key,
                value,
                literal,
            } => self.set(&key, value, literal),
            What::Wrong(message) => Err(message),
        };
        if let Err(message) = done {
            self.wrong(&place, message);
        }
    }

    /// Notes what is wrong with the current item.
    fn wrong(&mut self, place: &Place, message: String) {
        self.wrong_at(self.now, place, message);
    }

    /// Notes what is wrong with an item.
    fn wrong_at(&mut self, order: usize, place: &Place, message: String) {
        let place = place.clone();
        let at = self.mistakes.partition_point(|(other, _)| *other <= order);
        self.mistakes
            .insert(at, (order, Mistake { place, message }));
    }

    /// Where a listener was opened; nobody opens default ones.
    fn opened(&mut self, scope: Scope) -> Option<&mut Opened> {
        self.opened.iter_mut().find(|opened| opened.scope == scope)
    }

    /// The innermost open section.
    fn scope(&self) -> Scope {
        *self.scopes.last().unwrap_or(&Scope::Top)
    }

    /// Finds or makes the section that opens at `place`.
    fn open(&mut self, place: &Place, kind: &str, name: Option<String>) -> Result<Scope, String> {
        let scope = match (self.scope(), kind, name) {
            (Scope::Unknown, ..) | (_, "", _) => return Ok(Scope::Unknown),
            (Scope::Top, "service", Some(name)) if matches!(&*name, "stats" | "old-stats") => {
                return Ok(Scope::Service)
            }
            (Scope::Top, "service", name) => {
                let name = name.map_or(String::new(), |name| format!(" {}", quoted(&name)));
                return Err(format!("unknown section service{name}{}", hint::NOT_OURS));
            }
            (Scope::Service, "fifo_listener", name) => {
                let fifos = &mut self.settings.fifo_listeners;
                let name = file_name(kind, name)?;
                let index = find_or_add(fifos, |l| l.name == name, || FileListener::new(&name));
                Scope::Fifo(index)
            }
            (Scope::Service, "unix_listener", name) => {
                let sockets = &mut self.settings.unix_listeners;
                let name = file_name(kind, name)?;
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
                return Err(format!("unknown section {}{hint}", quoted(kind)));
            }
        };
        if self.opened(scope).is_none() {
            self.opened.push(Opened {
                scope,
                order: self.now,
                place: place.clone(),
                has_port: false,
            });
        }
        Ok(scope)
    }

    /// Gives `key` the value `text` in the current section.
    fn set(&mut self, key: &str, text: String, literal: bool) -> Result<(), String> {
        let name = canonical(key);
        let scope = self.scope();
        if scope == Scope::Unknown {
            return Ok(());
        }
        if let Some(opened) = self.opened(scope) {
            opened.has_port |= name == "port";
        }
        let wrong = |message| format!("{key}: {message}");
        let text = if literal {
            text
        } else {
            self.expand(&text).map_err(wrong)?
        };
        plain(&text).map_err(wrong)?;
        let settings = &mut self.settings;
        let done = match scope {
            Scope::Top => table::set(table::TOP, settings, name, &text),
            Scope::Service => table::set(table::SERVICE, &mut settings.service, name, &text),
            Scope::Fifo(i) => table::set(table::FILE, &mut settings.fifo_listeners[i], name, &text),
            Scope::Unix(i) => {
                let unix = &mut settings.unix_listeners[i];
                table::set(table::FILE, &mut unix.file, name, &text)
                    .or_else(|| table::set(table::OPTIONS, &mut unix.options, name, &text))
            }
            Scope::Inet(i) => {
                let inet = &mut settings.inet_listeners[i];
                table::set(table::INET, inet, name, &text)
                    .or_else(|| table::set(table::OPTIONS, &mut inet.options, name, &text))
            }
            Scope::Unknown => Some(Ok(())),
        };
        match done.or_else(|| self.set_foreign(scope, name, &text)) {
            Some(done) => done.map_err(wrong),
            None => Err(format!(
                "unknown setting {}{}",
                quoted(key),
                hint::for_setting(scope, name)
            )),
        }
    }

    /// Sets what only copied configurations have.
    fn set_foreign(&mut self, scope: Scope, name: &str, text: &str) -> Option<Result<(), String>> {
        match scope {
            Scope::Top => {
                let (_, value) = self
                    .variables
                    .iter_mut()
                    .find(|(known, _)| *known == name)?;
                *value = text.to_owned();
                Some(Ok(()))
            }
            Scope::Service => table::SERVICE_IGNORED.contains(&name).then_some(Ok(())),
            Scope::Inet(_) if table::INET_ONLY_NO.contains(&name) => {
                Some(value::boolean(text).and_then(|yes| match yes {
                    true => Err("is not supported, only no is".to_owned()),
                    false => Ok(()),
                }))
            }
            Scope::Inet(_) => table::INET_IGNORED.contains(&name).then_some(Ok(())),
            _ => None,
        }
    }

    /// `text` with each word `$name` replaced by the value that the setting has now.
    fn expand(&self, text: &str) -> Result<String, String> {
        let mut out = String::new();
        for piece in text.split_inclusive(char::is_whitespace) {
            let word = piece.trim_end();
            match word.strip_prefix('$') {
                Some(name) => {
                    let value = self.value_of(canonical(name)).ok_or_else(|| {
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

    /// The value of a setting outside sections.
    fn value_of(&self, name: &str) -> Option<String> {
        let variable = self.variables.iter().find(|(known, _)| *known == name);
        match table::TOP.iter().find(|row| row.name == name) {
            Some(row) => Some((row.get)(&self.settings)),
            None => variable.map(|(_, value)| value.clone()),
        }
    }

    /// Reports what is wrong between settings.
    fn check_whole(&mut self) {
        for opened in self.opened.clone() {
            if matches!(opened.scope, Scope::Inet(_)) && !opened.has_port {
                let message = "inet_listener: a port is missing".to_owned();
                self.wrong_at(opened.order, &opened.place, message);
            }
        }
        self.check_protocols();
        let files = self.settings.fifo_listeners.iter().enumerate();
        let fifos = files.map(|(i, fifo)| (Scope::Fifo(i), fifo));
        let files = self.settings.unix_listeners.iter().enumerate();
        let sockets = files.map(|(i, unix)| (Scope::Unix(i), &unix.file));
        let mut taken: Vec<(Scope, PathBuf)> = Vec::new();
        for (scope, file) in fifos.chain(sockets).filter(|(_, file)| file.is_enabled()) {
            // Without what means nothing, so that comparing bytes will do.
            let path = file.path_in(&self.settings.base_dir).components().collect();
            taken.push((scope, path));
        }
        self.check_own_files(&taken);
        for (index, (scope, path)) in taken.iter().enumerate() {
            let mut before = taken[..index].iter().rev();
            let same = |other: &Path| other.as_os_str() == path.as_os_str();
            let Some((other, _)) = before.find(|(_, other)| same(other)) else {
                continue;
            };
            // One of the two may be a default one, which nobody opened.
            let both = [*scope, *other].map(|scope| self.opened(scope).cloned());
            let both = both.into_iter().flatten();
            if let Some(opened) = both.max_by_key(|opened| opened.order) {
                let path = quoted(&path.to_string_lossy());
                let message = format!("two listeners have the path {path}");
                self.wrong_at(opened.order, &opened.place, message);
            }
        }
    }

    /// Reports paths of listeners, and settings, that are those of the daemon's own
    /// files.
    fn check_own_files(&mut self, listeners: &[(Scope, PathBuf)]) {
        let files = own_files(&self.settings);
        let same = |a: &Path, b: &Path| a.components().eq(b.components());
        for (index, (setting, path)) in files.iter().enumerate() {
            let shown = quoted(&path.to_string_lossy());
            let whole = Place::whole(setting);
            if let Some((scope, _)) = listeners.iter().find(|(_, other)| same(path, other)) {
                let opened = self.opened(*scope);
                let found = opened.map(|opened| (opened.order, opened.place.clone()));
                let (order, place) = found.unwrap_or((self.now, whole));
                let message = format!(
                    "a listener has the path {shown}, where the daemon keeps a file of its own \
                     ({setting}): give one of them another path"
                );
                self.wrong_at(order, &place, message);
            } else if let Some((other, _)) = files[..index].iter().find(|(_, o)| same(path, o)) {
                let message =
                    format!("{shown} is needed for {other} as well: give one of them another path");
                self.wrong_at(self.now, &whole, message);
            }
        }
    }

    /// Reports settings of listeners that mean nothing to their protocol.
    fn check_protocols(&mut self) {
        for opened in self.opened.clone() {
            let (kind, options, default) = match opened.scope {
                Scope::Unix(i) => {
                    let unix = &self.settings.unix_listeners[i];
                    let default = UnixListener::new(&unix.file.name);
                    ("unix_listener", &unix.options, default.options)
                }
                Scope::Inet(i) => {
                    let inet = &self.settings.inet_listeners[i];
                    (
                        "inet_listener",
                        &inet.options,
                        InetListener::new(None).options,
                    )
                }
                _ => continue,
            };
            let meaningful = ListenerOptions {
                protocol: options.protocol,
                close_after_reply: options.close_after_reply,
                // That nobody may do what nobody can is true.
                reset: options.reset && default.reset,
                ..default
            };
            if options.protocol == Protocol::Http && *options != meaningful {
                let text =
                    "reset, column_order and header_always mean nothing with protocol = http";
                self.wrong_at(opened.order, &opened.place, format!("{kind}: {text}"));
            }
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
fn canonical(key: &str) -> &str {
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
