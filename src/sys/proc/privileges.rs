//! What a process may do beyond what its user may.
//!
//! Owns: giving up capabilities, and the way to new ones by executing programs.
//!
//! Invariants: what is given up here cannot be had again by this process or a
//! child of it. Where a system knows no capabilities there is nothing to do.
//!
//! Must not: be used before everything that needs privileges was opened.

use std::io;

#[cfg(target_os = "linux")]
use crate::sys::cerr;

/// The format of capset(2)'s arguments: two words of each set.
#[cfg(target_os = "linux")]
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Arguments of prctl(2) as wide as it takes them.
#[cfg(target_os = "linux")]
const ZERO: libc::c_ulong = 0;
#[cfg(target_os = "linux")]
const ONE: libc::c_ulong = 1;

/// Forbids this process and its children to gain privileges by executing a
/// program, even a set-user-ID one.
#[cfg(target_os = "linux")]
pub(crate) fn forbid_new() -> io::Result<()> {
    // SAFETY: no pointers.
    cerr(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, ONE, ZERO, ZERO, ZERO) })?;
    Ok(())
}

/// Empties the set of capabilities that can ever be had, as far as this process
/// may: root in a container may have lost the right to, and then less is left.
#[cfg(target_os = "linux")]
pub(crate) fn empty_bounding_set() {
    // An unknown capability ends the list.
    for capability in ZERO.. {
        // SAFETY: no pointers.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, ZERO, ZERO, ZERO) } == -1 {
            break;
        }
    }
}

/// Gives up all capabilities: effective, permitted, inheritable, and with them
/// the ambient ones. Where there are none, nothing is asked of the kernel that a
/// filter of system calls could forbid.
#[cfg(target_os = "linux")]
pub(crate) fn drop_capabilities() -> io::Result<()> {
    // Version, and our own process.
    let header = [CAPABILITY_VERSION_3, 0];
    let none = [0u32; 6];
    let mut held = none;
    // SAFETY: the pointers are to a header and to two times three words as this
    // version has them, the latter written; both outlive the call.
    let got = unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), held.as_mut_ptr()) };
    if cerr(got).is_ok() && held == none {
        return Ok(());
    }
    let (header, data) = (header.as_ptr(), none.as_ptr());
    // SAFETY: the pointers are to a header and to two times three words as this
    // version has them; both outlive the call, which only reads them.
    cerr(unsafe { libc::syscall(libc::SYS_capset, header, data) })?;
    Ok(())
}

/// Nothing to do here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn forbid_new() -> io::Result<()> {
    Ok(())
}

/// Nothing to do here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn empty_bounding_set() {}

/// Nothing to do here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn drop_capabilities() -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::sys::scratch::{alone, is_root};

    /// A line of /proc/thread-self/status.
    fn status(key: &str) -> String {
        let text = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap().trim().to_owned()
    }

    #[test]
    fn nothing_is_left() {
        if !is_root() {
            return;
        }
        alone(module_path!(), "nothing_is_left", || {
            assert_ne!(status("CapEff:"), "0000000000000000");
            forbid_new().unwrap();
            empty_bounding_set();
            drop_capabilities().unwrap();
            for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
                assert_eq!(status(set), "0000000000000000", "{set}");
            }
            assert_eq!(status("NoNewPrivs:"), "1");
        });
    }
}
