//! The files of the daemon's FIFOs and sockets: made anew when they vanish.
//!
//! Where a file was removed or replaced, no writer and no client finds the daemon. So each
//! file, and base_dir, is looked at every [`INTERVAL`] and at HUP. What is gone is made anew,
//! with the rights that the daemon has by then. Where they do not suffice, the remedy is
//! logged once, and each look tries again. Files that the service manager made are only
//! looked at.
//!
//! A FIFO that vanished is read on until its last writer closes it.
//!
//! In a chroot the files are out of reach and not looked at.
//!
//! Invariants: nothing is made anew in a base_dir that another daemon holds; what
//! lies in the way of a file stays. What the daemon made is removed when its
//! [`ListenerFile`] is dropped, if it still lies there.

use super::log::Log;
use crate::config::own_files::LOCK;
use crate::daemon::input::fifo::FifoInput;
use crate::daemon::serve::listener::{Listener, Socket};
use crate::sys::fs::created::{Access, CreateError, CreatedFile};
use crate::sys::fs::dir::{Dir, Owner};
use crate::sys::fs::fifo::{is_read, Fifo};
use crate::sys::fs::lock::{is_held, lock_directory, DirLock};
use crate::sys::fs::lookup::{look, FileKind, Found};
use crate::sys::fs::socket::bind_unix;
use crate::sys::reason;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(30);

/// What listens at a file, by its index in the daemon.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Fifo(usize),
    Listener(usize),
}

/// The file of a FIFO or socket, removed when dropped if the daemon made it.
#[derive(Debug)]
pub(super) struct ListenerFile {
    /// Its section of the settings and its path, for the log.
    name: String,
    end: End,
    place: CreatedFile,
    /// Its access; `None`: the service manager made it.
    access: Option<Access>,
    /// It was gone when it was looked at last, and could not be made anew.
    is_missing: bool,
}

impl ListenerFile {
    /// `access` is `None` if the service manager made it.
    pub(super) fn new(
        kind: &str,
        end: End,
        place: CreatedFile,
        access: Option<Access>,
    ) -> ListenerFile {
        ListenerFile {
            name: format!("{kind} {}", place.path.display()),
            end,
            place,
            access,
            is_missing: false,
        }
    }

    /// Where it is, if the daemon made it.
    pub(super) fn made(&self) -> Option<&CreatedFile> {
        self.access.and(Some(&self.place))
    }

    /// How it changed; `None`: it did not.
    fn change(&self) -> Option<String> {
        match look(&self.place.path) {
            Ok(Some(found)) if found.inode == self.place.inode => None,
            Ok(Some(Found { kind, .. })) => {
                let article = match (self.end, kind) {
                    (End::Fifo(_), FileKind::Fifo) | (End::Listener(_), FileKind::Socket) => {
                        "another"
                    }
                    _ => "a",
                };
                Some(format!("was replaced by {article} {kind}"))
            }
            Ok(None) => Some("is gone".to_owned()),
            Err(error) => Some(format!("is out of reach ({})", reason(&error))),
        }
    }

    /// Makes it anew, and what listens there.
    fn make(
        &mut self,
        access: Access,
        (base_dir, log): (&Path, &mut Log),
        fifos: &mut Vec<FifoInput>,
        listeners: &mut [Listener],
    ) -> Result<(), CreateError> {
        match self.end {
            End::Fifo(index) => {
                let path = (&*self.place.path, None);
                let fifo = make_fifo(&self.name, path, access, (base_dir, log))?;
                if let Some(place) = fifo.file() {
                    self.place = place.clone();
                }
                let retired = fifos[index].replace(fifo);
                fifos.push(retired);
            }
            End::Listener(index) => {
                let socket;
                (socket, self.place) = bind_unix(&self.place.path, None, access)?;
                listeners[index].socket = Socket::Unix(socket);
            }
        }
        Ok(())
    }
}

impl Drop for ListenerFile {
    fn drop(&mut self) {
        if let Some(place) = self.made() {
            // It stays in a directory that the daemon may no longer change; the next
            // start replaces it.
            let _ = place.remove();
        }
    }
}

/// Looks for another reader of the FIFO at `path`, which is logged.
///
/// # Errors
/// [`CreateError::InUse`] when another daemon holds the directory that the FIFO is in.
/// Any other reader is no error: otherwise each user whom the FIFO's mode lets read
/// could keep the daemon from serving.
#[cold]
fn look_for_reader(
    name: &str,
    (path, owner): (&Path, Owner),
    base_dir: &Path,
    log: &mut Log,
) -> Result<(), CreateError> {
    if !Dir::of(path, owner).is_ok_and(|(dir, name)| is_read(&dir, &name)) {
        return Ok(());
    }
    let dir = path.parent().and_then(|dir| Dir::open(dir, None).ok());
    if dir.is_some_and(|dir| matches!(dir.is_at(base_dir), Ok(false)) && is_held(&dir, LOCK)) {
        return Err(CreateError::InUse);
    }
    const READ: &str = " is read by another process, which takes records away: by Dovecot's own \
                        service, unless its FIFO has mode = 0, or by a user whom the mode lets \
                        read";
    log.warning(&[name, READ].concat());
    Ok(())
}

/// Makes the FIFO `name` at a path, unless another daemon reads one there.
pub(super) fn make_fifo(
    name: &str,
    (path, owner): (&Path, Owner),
    access: Access,
    (base_dir, log): (&Path, &mut Log),
) -> Result<Fifo, CreateError> {
    look_for_reader(name, (path, owner), base_dir, log)?;
    Fifo::create(path, owner, access)
}

/// The directory of the daemon, held against other daemons.
#[derive(Debug)]
pub(super) struct BaseDir {
    path: PathBuf,
    /// It must be for the daemon's user alone.
    is_private: bool,
    /// What was locked. Open, so that no other directory gets its inode; `None` in a
    /// chroot.
    dir: Option<Dir>,
    /// Keeps other daemons out.
    _lock: DirLock,
    /// It was gone when it was looked at last, and could not be made anew.
    is_missing: bool,
}

impl BaseDir {
    /// Makes it for the user and group `owner` if it is not there, and locks it; `None`:
    /// another daemon holds it. A private one lies where others may write too.
    pub(super) fn open(path: &Path, is_private: bool, owner: Owner) -> io::Result<Option<BaseDir>> {
        let mode = if is_private { 0o700 } else { 0o755 };
        let dir = Dir::open_or_make(path, mode, owner)?;
        if is_private {
            dir.check_private(path)?;
        }
        let lock = lock_directory(&dir, LOCK, owner)?;
        Ok(lock.map(|lock| BaseDir {
            path: path.to_owned(),
            is_private,
            dir: Some(dir),
            _lock: lock,
            is_missing: false,
        }))
    }

    /// Makes and locks it anew if it is gone, locks it if it was replaced.
    ///
    /// # Errors
    /// What keeps the daemon from it.
    fn restore(&mut self) -> Result<(), String> {
        let is_there = self.dir.as_ref().map(|dir| dir.is_at(&self.path));
        let change = match is_there {
            None | Some(Ok(true)) => return Ok(()),
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                "is gone and cannot be made anew"
            }
            _ => "was replaced and cannot be used",
        };
        match BaseDir::open(&self.path, self.is_private, None) {
            Ok(Some(dir)) => {
                *self = dir;
                Ok(())
            }
            Ok(None) => Err("was replaced, and another dovestatd is serving there".into()),
            Err(error) => Err(format!("{change}: {}", reason(&error))),
        }
    }
}

#[derive(Debug)]
pub(super) struct Files {
    /// `None`: it is Dovecot's.
    base_dir: Option<BaseDir>,
    /// The files of FIFOs and sockets.
    all: Vec<ListenerFile>,
    /// When they are looked at next; `None` in a chroot.
    due: Option<Instant>,
}

impl Files {
    /// Looked at from now on, unless they are Dovecot's, or out of reach in a chroot.
    pub(super) fn new(
        mut base_dir: Option<BaseDir>,
        all: Vec<ListenerFile>,
        in_chroot: bool,
    ) -> Files {
        if let (Some(base_dir), true) = (&mut base_dir, in_chroot) {
            // An open directory outside of it is a way out of a chroot.
            base_dir.dir = None;
        }
        let is_looked_at = base_dir.is_some() && !in_chroot;
        Files {
            base_dir,
            all,
            due: is_looked_at.then(|| Instant::now() + INTERVAL),
        }
    }

    /// When they are to be looked at.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        self.due
    }

    /// Has them looked at in this turn.
    pub(super) fn look_soon(&mut self, instant: Instant) {
        self.due = self.due.map(|_| instant);
    }

    /// Looks at them if it is time, and makes anew what is gone.
    pub(super) fn serve(
        &mut self,
        instant: Instant,
        fifos: &mut Vec<FifoInput>,
        listeners: &mut [Listener],
        log: &mut Log,
    ) {
        let Some(base_dir) = &mut self.base_dir else {
            return;
        };
        if self.due.is_none_or(|due| due > instant) {
            return;
        }
        self.due = Some(instant + INTERVAL);
        let restored = base_dir.restore();
        if let (Err(why), false) = (&restored, base_dir.is_missing) {
            let path = base_dir.path.display();
            log.error(&format!(
                "base_dir {path} {why}; nothing can be sent or asked there: restart dovestatd"
            ));
        }
        base_dir.is_missing = restored.is_err();
        if restored.is_err() {
            return;
        }
        for file in &mut self.all {
            let Some(change) = file.change() else {
                if std::mem::take(&mut file.is_missing) {
                    log.info(&format!("{} is there again", file.name));
                }
                continue;
            };
            let made = match file.access {
                Some(access) => file
                    .make(access, (&base_dir.path, log), fifos, listeners)
                    .map_err(|error| format!("cannot be made anew: {error}; restart dovestatd")),
                None => Err("is the service manager's: restart its socket unit".to_owned()),
            };
            match &made {
                Ok(()) => log.warning(&format!("{} {change}: made anew", file.name)),
                Err(why) if !file.is_missing => {
                    log.error(&format!("{} {change} and {why}", file.name));
                }
                Err(_) => {}
            }
            file.is_missing = made.is_err();
        }
    }

    /// Removes the files that the daemon made.
    pub(super) fn remove(&mut self) {
        self.all.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::scratch::Scratch;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{symlink, PermissionsExt};

    #[test]
    fn a_private_base_dir_is_made_anew_as_one_and_no_other_is_taken() {
        let scratch = Scratch::new("files-private");
        let path = scratch.join("run");
        let set_mode = |mode| fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let mut dir = BaseDir::open(&path, true, None).unwrap().unwrap();
        for _ in 0..2 {
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o700);
            fs::remove_dir_all(&path).unwrap();
            dir.restore().unwrap();
        }
        fs::rename(&path, scratch.join("old")).unwrap();
        let refused = |why: &str| {
            let path = path.display();
            let text = format!("was replaced and cannot be used: {path} {why} or set another path");
            Err(text)
        };
        symlink("old", &path).unwrap();
        assert_eq!(dir.restore(), Ok(()), "the same directory");
        fs::remove_file(&path).unwrap();
        fs::create_dir(scratch.join("other")).unwrap();
        symlink("other", &path).unwrap();
        assert_eq!(dir.restore(), refused("is a symlink; remove it"));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        set_mode(0o777);
        let why = "can be changed by others (mode 0777); chmod go-w it";
        assert_eq!(dir.restore(), refused(why));
        set_mode(0o755);
        assert_eq!(dir.restore(), Ok(()));
        assert!(BaseDir::open(&path, true, None).unwrap().is_none(), "held");
    }
}
