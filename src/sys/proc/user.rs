//! Users, groups, giving up root.
//!
//! Owns: the lookups in the user and group databases, and the change from root
//! to a user.
//!
//! Invariants: an id of `u32::MAX`, which means "unchanged" to chown(2) and
//! setuid(2), is never given out. [`drop_privileges`] succeeds only when root
//! cannot be regained.
//!
//! Must not: choose whom to become. Lookups read files and may ask a directory
//! service, so they belong before the loop, and before a chroot.

use std::ffi::{CStr, CString};
use std::fs::Metadata;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::ptr;
use std::time::SystemTime;

use crate::sys::cerr;
use crate::sys::local_time::LocalTime;
use crate::sys::proc::process::wait;

/// A user, as far as running as one goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// The login name; `None` for a numeric id the database does not know.
    pub name: Option<String>,
    pub uid: u32,
    /// The primary group; `None` for a numeric id the database does not know.
    pub gid: Option<u32>,
}

impl User {
    /// Finds a user by name, or else by number. `None` when the name is
    /// unknown; a number need not be known.
    pub(crate) fn find(name_or_uid: &str) -> io::Result<Option<User>> {
        let name = CString::new(name_or_uid)?;
        let by_name = lookup(
            |record, text, len_bytes, found| {
                // SAFETY: `name` is a NUL-terminated string, the rest as
                // `lookup` promises; all outlive the call.
                unsafe { libc::getpwnam_r(name.as_ptr(), record, text, len_bytes, found) }
            },
            user_of,
        )?;
        if by_name.is_some() {
            return Ok(by_name);
        }
        let Some(uid) = numeric_id(name_or_uid) else {
            return Ok(None);
        };
        let by_uid = lookup(
            |record, text, len_bytes, found| {
                // SAFETY: as `lookup` promises; all outlive the call.
                unsafe { libc::getpwuid_r(uid, record, text, len_bytes, found) }
            },
            user_of,
        )?;
        Ok(Some(by_uid.unwrap_or(User {
            name: None,
            uid,
            gid: None,
        })))
    }
}

/// Finds the id of a group by name, or else takes it as a number. `None` when
/// the name is unknown.
pub(crate) fn find_group(name_or_gid: &str) -> io::Result<Option<u32>> {
    let name = CString::new(name_or_gid)?;
    let find = || {
        let by_name = lookup(
            |record, text, len_bytes, found| {
                // SAFETY: `name` is a NUL-terminated string, the rest as `lookup`
                // promises; all outlive the call.
                unsafe { libc::getgrnam_r(name.as_ptr(), record, text, len_bytes, found) }
            },
            |record: &libc::group| record.gr_gid.to_ne_bytes(),
        );
        Ok(by_name?.into_iter().flatten().collect())
    };
    let by_name = ids_of(&find_apart(&find)?).pop();
    Ok(by_name.or_else(|| numeric_id(name_or_gid)))
}

/// The ids of their bytes.
fn ids_of(bytes: &[u8]) -> Vec<u32> {
    let ids = bytes.chunks_exact(4).filter_map(|id| id.try_into().ok());
    ids.map(u32::from_ne_bytes).collect()
}

/// The most groups of a process: NGROUPS_MAX of Linux.
const MAX_GROUPS: usize = 1 << 16;

/// The groups of a user in the database, the primary one included; only that one of a
/// user without a name.
pub(crate) fn groups(user: &User) -> io::Result<Vec<u32>> {
    let (Some(name), Some(gid)) = (&user.name, user.gid) else {
        return Ok(user.gid.into_iter().collect());
    };
    let name = CString::new(name.as_str())?;
    let mut groups = vec![0; 64];
    loop {
        let mut count = libc::c_int::try_from(groups.len()).unwrap_or(libc::c_int::MAX);
        // SAFETY: the name is a NUL-terminated string, the group ids are `count` in
        // number; both outlive the call.
        let found =
            unsafe { libc::getgrouplist(name.as_ptr(), gid as _, groups.as_mut_ptr(), &mut count) };
        let wanted = usize::try_from(count).unwrap_or_default();
        if found >= 0 {
            groups.truncate(wanted);
            return Ok(groups);
        }
        // musl fails so, too, where it cannot read them.
        if groups.len() >= MAX_GROUPS {
            return Err(io::Error::other("its groups cannot be read"));
        }
        // Some systems do not return how many there are.
        groups.resize(wanted.max(groups.len() * 2).min(MAX_GROUPS), 0);
    }
}

/// A user for a person: by name, by number where the database has none.
pub(crate) fn shown_user(uid: u32) -> String {
    shown(uid, &|| {
        let user = User::find(&uid.to_string())?;
        Ok(user.and_then(|user| user.name))
    })
}

/// A group for a person: by name, by number where the database has none.
pub(crate) fn shown_group(gid: u32) -> String {
    shown(gid, &|| group_name(gid))
}

/// An id for a person.
fn shown(id: u32, name: &dyn Fn() -> io::Result<Option<String>>) -> String {
    let find = || Ok(name()?.unwrap_or_default().into_bytes());
    match find_apart(&find).map(String::from_utf8) {
        Ok(Ok(name)) if !name.is_empty() => name,
        _ => id.to_string(),
    }
}

/// Owner, group and mode of a file for a person.
pub(crate) fn access(file: &Metadata) -> String {
    format!(
        "owner {}, group {}, mode {:04o}",
        shown_user(file.uid()),
        shown_group(file.gid()),
        file.mode() & 0o7777
    )
}

/// The name of a group; `None` for one the database does not know.
fn group_name(gid: u32) -> io::Result<Option<String>> {
    lookup(
        |record, text, len_bytes, found| {
            // SAFETY: as `lookup` promises; all outlive the call.
            unsafe { libc::getgrgid_r(gid, record, text, len_bytes, found) }
        },
        |record: &libc::group| {
            // SAFETY: the name of a record that was found is a NUL-terminated string
            // in the text buffer, which `lookup` keeps while we look.
            let name = unsafe { CStr::from_ptr(record.gr_name) };
            name.to_string_lossy().into_owned()
        },
    )
}

/// The user we act as.
pub(crate) fn effective_uid() -> u32 {
    // SAFETY: no pointers; never fails.
    unsafe { libc::geteuid() }
}

/// The user that started us.
pub(crate) fn real_uid() -> u32 {
    // SAFETY: no pointers; never fails.
    unsafe { libc::getuid() }
}

/// Makes `dir` the root directory, and the current one. Reads the time zone
/// first, whose files are out of reach afterwards.
fn chroot(dir: BorrowedFd<'_>) -> io::Result<()> {
    LocalTime::at(SystemTime::now());
    // SAFETY: no pointers; the descriptor is borrowed for the call.
    cerr(unsafe { libc::fchdir(dir.as_raw_fd()) })?;
    std::os::unix::fs::chroot(".")
}

/// Becomes `user` with the group `gid` for good: real, effective and saved
/// ids, on the way into the directory `root` if there is one. Supplementary
/// groups are those of the user in the group database, none but `gid` for a user
/// without a name. To be called as root.
///
/// After an error the process may be anything in between and should end.
pub(crate) fn drop_privileges(
    user: &User,
    gid: u32,
    root: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    // Before the database is out of reach.
    set_groups(user.name.as_deref(), gid)?;
    drop_ids(user, gid, root)
}

/// As [`drop_privileges`], with these supplementary groups, whatever the database has.
pub(crate) fn drop_privileges_to(
    user: &User,
    gid: u32,
    groups: &[u32],
    root: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    // SAFETY: pointer and count are those of a slice borrowed for the call.
    cerr(unsafe { libc::setgroups(groups.len() as _, groups.as_ptr()) })?;
    drop_ids(user, gid, root)
}

/// Gives up root, but for the supplementary groups.
fn drop_ids(user: &User, gid: u32, root: Option<BorrowedFd<'_>>) -> io::Result<()> {
    if let Some(root) = root {
        chroot(root)?;
    }
    set_ids(user.uid, gid)?;
    // SAFETY: no pointers.
    if user.uid != 0 && cerr(unsafe { libc::setuid(0) }).is_ok() {
        return Err(io::Error::other(
            "root could be regained after giving it up",
        ));
    }
    // SAFETY: no pointers.
    if user.uid != 0 && gid != 0 && cerr(unsafe { libc::setgid(0) }).is_ok() {
        return Err(io::Error::other(
            "group root could be regained after giving it up",
        ));
    }
    Ok(())
}

/// What a child finds in a database: libraries that a lookup may load, for others than
/// files, are not for a daemon to keep.
fn find_apart(find: &dyn Fn() -> io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
    let (mut found, mut finder) = UnixStream::pair()?;
    // SAFETY: no pointers. The child looks something up and ends, whatever threads there
    // are: fork(3) of the C library leaves its allocator usable.
    let child = cerr(unsafe { libc::fork() })?;
    if child == 0 {
        let is_found = find().and_then(|bytes| finder.write_all(&bytes)).is_ok();
        // SAFETY: no pointers; ends the child without running what belongs to its parent.
        unsafe { libc::_exit((!is_found).into()) };
    }
    drop(finder);
    let mut bytes = Vec::new();
    let is_read = found.read_to_end(&mut bytes);
    let status = wait(child);
    is_read?;
    match status {
        Some(0) => Ok(bytes),
        _ => Err(io::Error::other("it cannot be read")),
    }
}

/// Sets the supplementary groups.
fn set_groups(name: Option<&str>, gid: u32) -> io::Result<()> {
    match name {
        Some(name) => {
            let user = User {
                name: Some(name.to_owned()),
                uid: u32::MAX,
                gid: Some(gid),
            };
            let find = || {
                Ok(groups(&user)?
                    .into_iter()
                    .flat_map(u32::to_ne_bytes)
                    .collect())
            };
            let groups = ids_of(&find_apart(&find)?);
            let count = groups.len() as _;
            // SAFETY: pointer and count are those of `groups`, which outlives the call.
            cerr(unsafe { libc::setgroups(count, groups.as_ptr()) })?;
        }
        // SAFETY: the pointer is to one group id, which outlives the call.
        None => drop(cerr(unsafe { libc::setgroups(1, &gid) })?),
    }
    Ok(())
}

/// Sets the three group and user ids, the group while we may.
#[cfg(any(
    target_os = "linux",
    target_os = "freebsd",
    target_os = "openbsd",
    target_os = "dragonfly"
))]
fn set_ids(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: no pointers.
    cerr(unsafe { libc::setresgid(gid, gid, gid) })?;
    // SAFETY: no pointers.
    cerr(unsafe { libc::setresuid(uid, uid, uid) })?;
    Ok(())
}

/// Sets the three group and user ids, which these calls do for root.
#[cfg(not(any(
    target_os = "linux",
    target_os = "freebsd",
    target_os = "openbsd",
    target_os = "dragonfly"
)))]
fn set_ids(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: no pointers.
    cerr(unsafe { libc::setgid(gid) })?;
    // SAFETY: no pointers.
    cerr(unsafe { libc::setuid(uid) })?;
    Ok(())
}

/// A user or group id in decimal.
fn numeric_id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|id| digits && *id != u32::MAX)
}

/// What is wanted of a user record.
fn user_of(record: &libc::passwd) -> User {
    // SAFETY: the name of a record that was found is a NUL-terminated string
    // in the text buffer, which `lookup` keeps while we look.
    let name = unsafe { CStr::from_ptr(record.pw_name) };
    User {
        name: Some(name.to_string_lossy().into_owned()),
        uid: record.pw_uid,
        gid: Some(record.pw_gid),
    }
}

/// One of the get..._r(3) functions, with a text buffer that grows as needed.
/// `call` gets valid pointers to the record, to the text and its length in
/// bytes, and to the result; `convert` what was found.
fn lookup<T, R>(
    call: impl Fn(*mut T, *mut libc::c_char, libc::size_t, *mut *mut T) -> libc::c_int,
    convert: impl FnOnce(&T) -> R,
) -> io::Result<Option<R>> {
    /// A group with this much text has some hundred thousand members.
    const MAX_TEXT_BYTES: usize = 1 << 22;
    let mut text: Vec<libc::c_char> = vec![0; 1024];
    loop {
        let mut record = MaybeUninit::uninit();
        let mut found = ptr::null_mut();
        match call(
            record.as_mut_ptr(),
            text.as_mut_ptr(),
            text.len(),
            &mut found,
        ) {
            0 if found.is_null() => return Ok(None),
            0 => {
                // SAFETY: a result that is not null means that the record was
                // filled in.
                let record = unsafe { record.assume_init_ref() };
                return Ok(Some(convert(record)));
            }
            // How some systems report that there is no such entry, or no
            // database.
            libc::ENOENT | libc::ESRCH => return Ok(None),
            libc::EINTR => {}
            libc::ERANGE if text.len() < MAX_TEXT_BYTES => text.resize(text.len() * 2, 0),
            code => return Err(io::Error::from_raw_os_error(code)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::scratch::{alone, is_root};
    use std::os::fd::AsFd;
    use std::path::Path;

    #[test]
    fn users_are_found_by_name_and_number() {
        let root = User {
            name: Some("root".into()),
            uid: 0,
            gid: Some(0),
        };
        assert_eq!(User::find("root").unwrap(), Some(root.clone()));
        assert_eq!(User::find("0").unwrap(), Some(root));
        let unknown = User {
            name: None,
            uid: 4_000_000_001,
            gid: None,
        };
        assert_eq!(User::find("4000000001").unwrap(), Some(unknown));
        for name in [
            "no-such-user",
            "",
            "-1",
            "+5",
            "4294967295",
            "4294967296",
            "0x10",
        ] {
            assert_eq!(User::find(name).unwrap(), None, "{name}");
        }
        assert_eq!(
            User::find("a\0b").unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }

    #[test]
    fn groups_are_found_by_name_and_number() {
        assert!(find_group("daemon").unwrap().is_some_and(|gid| gid != 0));
        assert_eq!(find_group("0").unwrap(), Some(0));
        assert_eq!(find_group("4294967294").unwrap(), Some(4_294_967_294));
        assert_eq!(find_group("4294967295").unwrap(), None);
        assert_eq!(find_group("no-such-group").unwrap(), None);
        let daemon = find_group("daemon").unwrap().unwrap();
        assert_eq!(group_name(daemon).unwrap().as_deref(), Some("daemon"));
        assert_eq!(group_name(4_294_967_294).unwrap(), None);
    }

    #[test]
    fn the_text_buffer_grows_up_to_an_end() {
        let sizes = std::cell::RefCell::new(Vec::new());
        let call =
            |_: *mut libc::passwd, _: *mut libc::c_char, len_bytes, _: *mut *mut libc::passwd| {
                sizes.borrow_mut().push(len_bytes);
                libc::ERANGE
            };
        let error = lookup(call, |_| ()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ERANGE));
        assert_eq!(sizes.borrow().first(), Some(&1024));
        assert_eq!(sizes.borrow().last(), Some(&(1 << 22)));
    }

    #[test]
    fn root_is_given_up_for_good() {
        if !is_root() {
            return;
        }
        alone(module_path!(), "root_is_given_up_for_good", || {
            let user = User {
                name: None,
                uid: 12345,
                gid: None,
            };
            drop_privileges(&user, 12346, None).unwrap();
            assert_eq!(effective_uid(), 12345);
            let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            let ids = |key: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(key));
                line.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            };
            if let (Some(uids), Some(gids), Some(groups)) =
                (ids("Uid:"), ids("Gid:"), ids("Groups:"))
            {
                assert_eq!(uids, "12345 12345 12345 12345");
                assert_eq!(gids, "12346 12346 12346 12346");
                assert_eq!(groups, "12346");
            }
            assert!(drop_privileges(
                &User {
                    name: None,
                    uid: 0,
                    gid: None
                },
                0,
                None
            )
            .is_err());
        });
    }

    #[test]
    fn ids_are_shown_by_name_or_number() {
        assert_eq!(
            (shown_user(0), shown_group(0)),
            ("root".into(), "root".into())
        );
        let unknown = 4_000_000_001;
        assert_eq!(shown_user(unknown), "4000000001");
        assert_eq!(shown_group(unknown), "4000000001");
        assert_eq!(find_group("root").unwrap(), Some(0));
        assert_eq!(find_group("4000000001").unwrap(), Some(unknown));
        assert_eq!(find_group("no-such-group").unwrap(), None);
    }

    #[test]
    fn a_child_that_finds_nothing_is_an_error() {
        assert_eq!(find_apart(&|| Ok(b"found".to_vec())).unwrap(), b"found");
        assert_eq!(find_apart(&|| Ok(Vec::new())).unwrap(), b"");
        assert!(find_apart(&|| Err(io::ErrorKind::NotFound.into())).is_err());
    }

    #[test]
    fn a_named_user_gets_its_groups() {
        if !is_root() {
            return;
        }
        alone(module_path!(), "a_named_user_gets_its_groups", || {
            let user = User::find("nobody").unwrap().unwrap();
            let gid = user.gid.unwrap();
            let mut expected = groups(&user).unwrap();
            drop_privileges(&user, gid, None).unwrap();
            assert_eq!(effective_uid(), user.uid);
            let mut found = vec![0; MAX_GROUPS];
            // SAFETY: pointer and count are those of `found`, borrowed for the call.
            let count = cerr(unsafe { libc::getgroups(MAX_GROUPS as _, found.as_mut_ptr()) });
            found.truncate(count.unwrap() as usize);
            found.sort_unstable();
            expected.sort_unstable();
            assert_eq!(found, expected);
        });
    }

    #[test]
    fn the_root_directory_changes() {
        if !is_root() {
            return;
        }
        alone(module_path!(), "the_root_directory_changes", || {
            chroot(std::fs::File::open("/dev").unwrap().as_fd()).unwrap();
            assert!(Path::new("/null").exists());
            assert!(Path::new("null").exists());
            assert!(!Path::new("/dev").exists());
        });
    }
}
