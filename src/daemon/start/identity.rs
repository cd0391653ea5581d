//! The user and group that root becomes, and the privileges that are given up.
//!
//! Must not: be asked for names after the chroot, which has no database of users.

use crate::config::{Fatal, Service, Settings, CHROOT_MADE, DEFAULT_USER};
use crate::daemon::log::{self, Log};
use crate::daemon::start::pidfile::PidFile;
use crate::sys::fs::dir::{Dir, Owner};
use crate::sys::proc::privileges::{drop_capabilities, empty_bounding_set, forbid_new};
use crate::sys::proc::user::{
    drop_privileges, drop_privileges_to, effective_uid, find_group, User,
};
use crate::sys::reason;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

/// The user and group that root becomes.
pub(crate) struct Identity {
    user: User,
    gid: u32,
    /// The supplementary groups; `None`: those of the user in the database.
    groups: Option<Vec<u32>>,
}

impl Identity {
    /// The identity of the settings; `None`: root did not start the daemon, whose user
    /// stays.
    ///
    /// # Errors
    /// A user or group that does not exist.
    pub(crate) fn of(service: &Service) -> Result<Option<Identity>, Fatal> {
        if effective_uid() != 0 {
            return Ok(None);
        }
        let user = find_user("service stats: user", &service.user)?;
        let gid = match (&service.group, user.gid) {
            (Some(group), _) => find_gid("service stats: group", group)?,
            (None, Some(gid)) => gid,
            (None, None) => {
                let user = &service.user;
                let text = format!("service stats: user {user} has no group; set group");
                return Err(Fatal::Setting(text));
            }
        };
        Ok(Some(Identity {
            user,
            gid,
            groups: None,
        }))
    }

    /// With these supplementary groups beside its own group alone.
    pub(crate) fn with_groups(mut self, mut groups: Vec<u32>) -> Identity {
        groups.push(self.gid);
        self.groups = Some(groups);
        self
    }

    /// The user's name, or number where there is none.
    fn user_name(&self) -> String {
        let name = self.user.name.clone();
        name.unwrap_or_else(|| self.user.uid.to_string())
    }

    /// For the log: ` as user NAME, group NUMBER,`.
    pub(crate) fn shown(&self) -> String {
        format!(" as user {}, group {},", self.user_name(), self.gid)
    }

    /// The owner of files that are made.
    pub(crate) fn ids(&self) -> (u32, u32) {
        (self.user.uid, self.gid)
    }

    /// Gives up root: into the chroot if there is one, then to the user and group.
    pub(crate) fn assume(&self, settings: &Settings) -> Result<(), Fatal> {
        let root = match settings.service.chroot_in(&settings.base_dir) {
            Some(root) => {
                let dir = Dir::open(&root, Some(self.ids()));
                Some(dir.map_err(Fatal::io(chroot_name(&root)))?)
            }
            None => None,
        };
        if self.user.uid != 0 {
            empty_bounding_set();
        }
        let root = root.as_ref().map(AsFd::as_fd);
        match &self.groups {
            Some(groups) => drop_privileges_to(&self.user, self.gid, groups, root),
            None => drop_privileges(&self.user, self.gid, root),
        }
        .map_err(Fatal::io("give up root"))
    }

    /// Logs what the user may not do, but the settings ask for. To be called when root is
    /// given up.
    pub(crate) fn log_lost_rights(
        &self,
        settings: &Settings,
        pidfile: Option<&PidFile>,
        log: &mut Log,
    ) {
        let user = self.user_name();
        let name = log::shown(&settings.log_path);
        if !log.can_be_rotated() {
            log.warning(&format!(
            "log_path {name}: user {user} may not make files in its directory; have the rotation \
             of the log make the new file for that user (logrotate: create 0640 {user}), or put \
             the log in a directory of that user"
        ));
        } else if let Err((_, error)) = log.reopen() {
            let why = reason(&error);
            log.warning(&format!(
                "log_path {name}: user {user} may not open it anew ({why}); chown it to that user"
            ));
        }
        if let (Some(path), false) = (&settings.pidfile, pidfile.is_none_or(PidFile::is_removable))
        {
            let path = path.display();
            log.info(&format!(
                "pidfile {path}: user {user} may not remove it; it stays at the end"
            ));
        }
    }
}

/// A user by name. The error names the setting of a user that does not exist.
#[cold]
pub(crate) fn find_user(setting: &str, name: &str) -> Result<User, Fatal> {
    User::find(name)
        .map_err(Fatal::io(format!("{setting}: look up user {name}")))?
        .ok_or_else(|| {
            let mut text = format!("{setting}: no user {name} on this system");
            if name == DEFAULT_USER {
                text += &[
                    "; make it: ",
                    making_user(),
                    "; or set user, a number will do",
                ]
                .concat();
            }
            Fatal::Setting(text)
        })
}

/// The command that makes the default user on this system.
#[cold]
pub(crate) fn making_user() -> &'static str {
    const WAYS: [(&str, &str); 3] = [
        ("/usr/lib/sysusers.d/dovestat.conf", "systemd-sysusers"),
        (
            "/usr/local/lib/sysusers.d/dovestat.conf",
            "systemd-sysusers",
        ),
        (
            "/usr/sbin/useradd",
            "useradd --system --user-group --shell /usr/sbin/nologin dovestat",
        ),
    ];
    let way = WAYS.iter().find(|(path, _)| Path::new(path).exists());
    // busybox
    way.map_or(
        "addgroup -S dovestat; adduser -S -D -H -s /sbin/nologin -G dovestat dovestat",
        |(_, command)| command,
    )
}

/// A group by name, likewise.
#[cold]
pub(crate) fn find_gid(setting: &str, name: &str) -> Result<u32, Fatal> {
    find_group(name)
        .map_err(Fatal::io(format!("{setting}: look up group {name}")))?
        .ok_or_else(|| Fatal::Setting(format!("{setting}: no group {name} on this system")))
}

/// Makes the empty directory that is a chroot, if it is not there. It belongs to root.
pub(crate) fn make_empty(base_dir: &Path, owner: Owner) -> Result<(), Fatal> {
    let made = Dir::open(base_dir, owner).and_then(|dir| dir.make(CHROOT_MADE, 0o755, None));
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            let dir = base_dir.join(CHROOT_MADE);
            Err(Fatal::Io(chroot_name(&dir), error))
        }
        _ => Ok(()),
    }
}

/// The chroot, for messages.
fn chroot_name(dir: &Path) -> String {
    format!("service stats: chroot {}", dir.display())
}

/// Gives up what a service manager or root may have left to the process beside the user's
/// own rights. A daemon that stays root keeps them: without, it could not open files of
/// other users, such as its own log after a rotation.
pub(crate) fn give_up_privileges(log: &mut Log) {
    let capabilities = match effective_uid() {
        0 => Ok(()),
        _ => drop_capabilities(),
    };
    // An old kernel, or a filter of system calls: less safe, but no reason to end.
    if let Err(error) = capabilities.and_then(|()| forbid_new()) {
        log.warning(&format!("give up privileges: {}", reason(&error)));
    }
}
