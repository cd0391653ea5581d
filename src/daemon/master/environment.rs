//! What Dovecot's master says in the environment of a service's process.
//!
//! Pure: variables in, a plain struct out. Their meaning is that of
//! `service_process_setup_environment` in Dovecot's `src/master/service-process.c`.

use crate::wire::unescape;
use std::path::PathBuf;

/// The most listeners of a service: more is a mistake.
const MAX_LISTENERS: u32 = 1000;

/// A listener that the master passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenerName {
    /// The last part of its path, or the name of an inet_listener's section.
    pub name: String,
    /// `ssl` or `haproxy`, which cannot be spoken here; empty: neither.
    pub layer: String,
}

/// Whom the master asks its process to become.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Restrict {
    /// `None`: the user it has.
    pub uid: Option<u32>,
    /// `None`: the user's own.
    pub gid: Option<u32>,
    /// The supplementary groups beside.
    pub groups: Vec<u32>,
    pub chroot: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Environment {
    /// The name of the section `service`; before 2.3.5 and in 2.2 the master does not
    /// tell it.
    pub service: String,
    /// The number that goes back in each status.
    pub generation: u32,
    pub client_limit: u32,
    /// The socket of the settings.
    pub config_socket: Option<PathBuf>,
    /// In the order of their descriptors.
    pub listeners: Vec<ListenerName>,
    pub restrict: Restrict,
}

/// The number that a variable is.
#[cold]
#[inline(never)]
fn parse(name: &str, text: &str) -> Result<u32, String> {
    let number = text.parse();
    number.map_err(|_| format!("the master's {name}={text:?} is no number"))
}

impl Environment {
    /// That of the variables that `get` finds; `None`: no master of Dovecot started this
    /// process.
    ///
    /// # Errors
    /// Why this master cannot be served, for the log.
    #[cold]
    #[inline(never)]
    pub(crate) fn of(get: &dyn Fn(&str) -> Option<String>) -> Result<Option<Environment>, String> {
        if get("DOVECOT_CHILD_PROCESS").is_none() {
            return Ok(None);
        }
        // 2.2 does not tell its version.
        if let Some(version) = get("DOVECOT_VERSION") {
            if !["2.2.", "2.3."].contains(&version.get(..4).unwrap_or_default()) {
                return Err(format!(
                    "dovestatd can be a service of the master of Dovecot 2.2 and 2.3, not of \
                     {version}: remove this service, and run dovestatd as a service of the system"
                ));
            }
        }
        let number = |name: &str| match get(name).as_deref() {
            Some("") | None => Ok(None),
            Some(text) => parse(name, text).map(Some),
        };
        let needed = |name: &str| match number(name)? {
            Some(number) => Ok(number),
            None => parse(name, ""),
        };
        let count = needed("SOCKET_COUNT")?;
        if count > MAX_LISTENERS {
            return Err(format!("the master passes {count} listeners"));
        }
        let mut listeners = Vec::new();
        for index in 0..count {
            let text = get(&format!("SOCKET{index}_SETTINGS")).unwrap_or_default();
            let (name, layer) = text.split_once('\t').unwrap_or((&text, ""));
            let mut name = name.as_bytes().to_vec();
            listeners.push(ListenerName {
                name: String::from_utf8_lossy(unescape(&mut name)).into_owned(),
                layer: layer.to_owned(),
            });
        }
        let mut groups = Vec::new();
        const GROUPS: &str = "RESTRICT_SETEXTRAGROUPS";
        let all = get(GROUPS).unwrap_or_default();
        for group in all.split(',').filter(|group| !group.is_empty()) {
            groups.push(parse(GROUPS, group)?);
        }
        let path = |name: &str| get(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        Ok(Some(Environment {
            service: get("SERVICE_NAME").unwrap_or_else(|| "stats".to_owned()),
            generation: needed("GENERATION")?,
            client_limit: needed("CLIENT_LIMIT")?.max(1),
            config_socket: path("CONFIG_FILE"),
            listeners,
            restrict: Restrict {
                uid: number("RESTRICT_SETUID")?,
                gid: number("RESTRICT_SETGID")?,
                groups,
                chroot: path("RESTRICT_CHROOT"),
            },
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That of Dovecot 2.3.19.1.
    const RECORDED: &str = include_str!("../../../tests/integration/data/master-2.3.19.env");

    /// That of the recorded variables, with those that `change` replaces; an empty one
    /// is not there.
    fn with(change: impl Fn(&str) -> Option<&'static str>) -> Result<Option<Environment>, String> {
        Environment::of(&|wanted| {
            let mut lines = RECORDED.lines().filter_map(|line| line.split_once('='));
            let recorded = lines.rfind(|(name, _)| *name == wanted);
            let recorded = recorded.map(|(_, value)| value.trim_matches('\''));
            change(wanted)
                .or(recorded)
                .filter(|value| !value.is_empty())
                .map(str::to_owned)
        })
    }

    fn listener(name: &str, layer: &str) -> ListenerName {
        let (name, layer) = (name.to_owned(), layer.to_owned());
        ListenerName { name, layer }
    }

    #[test]
    fn the_recorded_environment_is_understood() {
        let found = with(|_| None).unwrap().unwrap();
        let names = ["old-stats", "old-stats-mail", "old-stats-user"];
        let expected = Environment {
            service: "old-stats".to_owned(),
            generation: 1,
            client_limit: 1000,
            config_socket: Some("DIR/run/config".into()),
            listeners: names.map(|name| listener(name, "")).into(),
            restrict: Restrict {
                uid: Some(105),
                gid: Some(108),
                groups: Vec::new(),
                chroot: Some("DIR/run/empty".into()),
            },
        };
        assert_eq!(found, expected);
        let no_master = with(|name| (name == "DOVECOT_CHILD_PROCESS").then_some(""));
        assert_eq!(no_master, Ok(None));
    }

    #[test]
    fn dovecot_2_2_tells_neither_version_nor_service() {
        let found = with(|name| match name {
            "DOVECOT_VERSION" | "SERVICE_NAME" | "RESTRICT_CHROOT" => Some(""),
            "SOCKET0_SETTINGS" => Some("stats"),
            _ => None,
        });
        let found = found.unwrap().unwrap();
        assert_eq!(found.service, "stats");
        assert_eq!(found.listeners[0].name, "stats");
        assert_eq!(found.restrict.chroot, None);
    }

    #[test]
    fn names_are_unescaped_and_layers_known() {
        let found = with(|name| match name {
            "SOCKET0_SETTINGS" => Some("a\u{1}tb\u{1}1c"),
            "SOCKET1_SETTINGS" => Some("https\tssl"),
            "SOCKET2_SETTINGS" => Some("proxied\thaproxy"),
            "RESTRICT_SETEXTRAGROUPS" => Some("1,20"),
            "CLIENT_LIMIT" => Some("0"),
            _ => None,
        });
        let found = found.unwrap().unwrap();
        let expected = [
            listener("a\tb\u{1}c", ""),
            listener("https", "ssl"),
            listener("proxied", "haproxy"),
        ];
        assert_eq!(found.listeners, expected);
        assert_eq!(
            found.client_limit, 1,
            "a master is never told that there is no room"
        );
    }

    #[test]
    fn other_masters_are_refused() {
        for version in ["2.4.0", "2.4.1-4", "3.0.1", "2"] {
            let refused = with(|name| (name == "DOVECOT_VERSION").then_some(version));
            let why = refused.unwrap_err();
            assert!(
                why.contains("2.2 and 2.3") && why.contains(version),
                "{why}"
            );
        }
        for name in [
            "GENERATION",
            "CLIENT_LIMIT",
            "SOCKET_COUNT",
            "RESTRICT_SETUID",
        ] {
            let why = with(|other| (other == name).then_some("many")).unwrap_err();
            assert_eq!(why, format!("the master's {name}=\"many\" is no number"));
        }
        assert!(with(|name| (name == "GENERATION").then_some("")).is_err());
        assert!(with(|name| (name == "SOCKET_COUNT").then_some("1001")).is_err());
        assert!(with(|name| (name == "SOCKET_COUNT").then_some("1000")).is_ok());
    }
}
