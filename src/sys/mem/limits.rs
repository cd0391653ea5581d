//! How much memory this process may have, as the kernel has it.
//!
//! Must not: judge what that means.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::sys::cerr;
use crate::sys::mem::page::system_page_bytes;

/// Where Linux shows control groups.
pub(crate) const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// A resource limit of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResourceLimit {
    /// RLIMIT_AS: all that is mapped.
    AddressSpace,
    /// RLIMIT_DATA: what is mapped and private to the process.
    Data,
}

impl ResourceLimit {
    /// The limit in bytes; `None`: there is none.
    pub(crate) fn bytes(self) -> io::Result<Option<u64>> {
        let resource = match self {
            ResourceLimit::AddressSpace => libc::RLIMIT_AS,
            ResourceLimit::Data => libc::RLIMIT_DATA,
        };
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: the pointer is to `limit`, borrowed for the call.
        cerr(unsafe { libc::getrlimit(resource, &mut limit) })?;
        #[allow(clippy::unnecessary_cast)] // Not of 64 bits everywhere.
        let bytes = limit.rlim_cur as u64;
        Ok((limit.rlim_cur != libc::RLIM_INFINITY).then_some(bytes))
    }
}

/// What this process has of memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InUse {
    /// What counts for RLIMIT_AS.
    pub address_space: u64,
    /// What counts for RLIMIT_DATA.
    pub data: u64,
    pub resident: u64,
}

/// What this process has now; 0 where the system does not report it.
pub(crate) fn in_use() -> InUse {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: Vec<u64> = text
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    let bytes = |index: usize| {
        let pages = pages.get(index).copied().unwrap_or_default();
        pages.saturating_mul(system_page_bytes() as u64)
    };
    InUse {
        address_space: bytes(0),
        data: bytes(5),
        resident: bytes(1),
    }
}

/// The memory of the machine in bytes; `None` where the system does not report it.
pub(crate) fn machine_bytes() -> Option<u64> {
    // SAFETY: no pointers.
    let pages = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
    let pages = u64::try_from(pages).ok().filter(|&pages| pages > 0)?;
    Some(pages.saturating_mul(system_page_bytes() as u64))
}

/// The smallest limit of the control groups that this process is in, and the file
/// that sets it; `None`: there is none.
pub(crate) fn cgroup_limit() -> Option<(u64, PathBuf)> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    smallest_limit(&groups, Path::new(CGROUP_ROOT))
}

/// The smallest limit of `groups`, as /proc/PID/cgroup lists them, below `root`.
fn smallest_limit(groups: &str, root: &Path) -> Option<(u64, PathBuf)> {
    let mut smallest: Option<(u64, PathBuf)> = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        // Version 2 has no names there, version 1 a tree for each.
        let (tree, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            names if names.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let group = Path::new(path.trim_start_matches('/'));
        for group in group.ancestors() {
            let file = tree.join(group).join(file);
            let limit = fs::read_to_string(&file).ok();
            // Without a limit it is the word `max`, or one beyond all memory.
            let limit = limit.and_then(|text| text.trim().parse().ok());
            if let Some(limit) =
                limit.filter(|limit| smallest.as_ref().is_none_or(|s| *limit < s.0))
            {
                smallest = Some((limit, file));
            }
        }
    }
    smallest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::scratch::{alone, Scratch};

    #[cfg(target_os = "linux")]
    #[test]
    fn a_limit_and_what_counts_for_it_are_known() {
        alone(
            module_path!(),
            "a_limit_and_what_counts_for_it_are_known",
            || {
                let before = in_use();
                let bytes = 64 << 20;
                let block = std::hint::black_box(vec![0u8; bytes]);
                let after = in_use();
                assert!(after.address_space >= before.address_space + bytes as u64);
                assert!(after.data >= before.data + bytes as u64);
                assert!(after.resident < before.resident + bytes as u64, "untouched");
                drop(block);
                let limit = libc::rlimit {
                    rlim_cur: 300 << 20,
                    rlim_max: libc::RLIM_INFINITY,
                };
                for (resource, number) in [
                    (ResourceLimit::AddressSpace, libc::RLIMIT_AS),
                    (ResourceLimit::Data, libc::RLIMIT_DATA),
                ] {
                    // SAFETY: the pointer is to `limit`, which outlives the call.
                    cerr(unsafe { libc::setrlimit(number, &limit) }).unwrap();
                    assert_eq!(resource.bytes().unwrap(), Some(300 << 20));
                }
            },
        );
    }

    #[test]
    fn the_smallest_limit_of_all_groups_holds() {
        let root = Scratch::new("memory-cgroup");
        let put = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("memory.max", "max\n");
        put("a/memory.max", "5000000\n");
        put("a/b/memory.max", "6000000\n");
        put("memory/memory.limit_in_bytes", "9223372036854771712\n");
        put("memory/c/memory.limit_in_bytes", "4000000\n");
        let limit = |groups| smallest_limit(groups, root.path());
        let found = |bytes, path| Some((bytes, root.join(path)));
        assert_eq!(limit("0::/\n"), None);
        assert_eq!(limit("0::/a/b/gone\n"), found(5_000_000, "a/memory.max"));
        assert_eq!(
            limit("5:cpu,memory:/c\n1:name=systemd:/a\n0::/a\n"),
            found(4_000_000, "memory/c/memory.limit_in_bytes")
        );
        assert_eq!(limit("nonsense\n"), None);
    }

    #[test]
    fn the_machine_has_memory() {
        assert!(machine_bytes().unwrap() > 1 << 24);
    }
}
