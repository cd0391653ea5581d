//! Where settings were given, for checks that come after parsing.

use super::mistake::Location;
use super::table::Scope;

#[derive(Debug, Default)]
pub(super) struct Origins(Vec<(Scope, Box<str>, Location)>);

impl Origins {
    /// Notes that a setting was given, or, without a name, its section opened. The
    /// last place of a setting holds, the first of a section.
    pub(super) fn note(&mut self, scope: Scope, name: &str, place: &Location) {
        let known = self
            .0
            .iter_mut()
            .find(|(s, n, _)| *s == scope && **n == *name);
        match known {
            Some((_, _, known)) if !name.is_empty() => *known = place.clone(),
            Some(_) => {}
            None => self.0.push((scope, name.into(), place.clone())),
        }
    }

    /// Where a setting was given, else where its section was opened; none for a
    /// default.
    pub(super) fn of(&self, scope: Scope, name: &str) -> Option<&Location> {
        let find = |name: &str| self.0.iter().find(|(s, n, _)| *s == scope && **n == *name);
        find(name).or_else(|| find("")).map(|(_, _, place)| place)
    }
}
