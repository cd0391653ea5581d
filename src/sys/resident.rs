//! Memory that was needed to start and is not any more.
//!
//! Owns: the way to give the kernel back what it mapped of programs and
//! libraries while the process started: reading settings, looking up users,
//! linking. What is needed again is mapped again, from the system's cache, when
//! it is run.
//!
//! Must not: touch what can be written: that may differ from its file.

/// Gives up the code of the program and its libraries, as far as the process
/// has it mapped now.
#[cfg(target_os = "linux")]
pub fn forget_code() {
    // SAFETY: the callback fits, keeps nothing and does not unwind; it needs no
    // data.
    unsafe { libc::dl_iterate_phdr(Some(forget_object), std::ptr::null_mut()) };
}

/// Other systems show it otherwise.
#[cfg(not(target_os = "linux"))]
pub fn forget_code() {}

/// Gives up the code of one object.
#[cfg(target_os = "linux")]
unsafe extern "C" fn forget_object(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    _data: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the caller gives a pointer that is valid for this call.
    let info = unsafe { &*info };
    let count = usize::from(info.dlpi_phnum);
    for index in 0..count {
        // SAFETY: the array has so many elements.
        let header = unsafe { info.dlpi_phdr.add(index) };
        // SAFETY: as above; nobody writes to it.
        let header = unsafe { &*header };
        let is_code = header.p_flags & (libc::PF_X | libc::PF_W) == libc::PF_X;
        if header.p_type == libc::PT_LOAD && is_code {
            let page_bytes = super::page::system_page_bytes();
            let start = info.dlpi_addr as usize + header.p_vaddr as usize;
            let end = (start + header.p_memsz as usize).next_multiple_of(page_bytes);
            let start = start / page_bytes * page_bytes;
            let pointer = start as *mut libc::c_void;
            // SAFETY: the range is a mapping of a file that is not written to,
            // so what is given up comes back the same. An error changes nothing.
            unsafe { libc::madvise(pointer, end - start, libc::MADV_DONTNEED) };
        }
    }
    0
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::sys::scratch::alone;

    /// Resident pages of files, in KiB.
    fn file_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssFile:"));
        line.unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap()
    }

    #[test]
    fn what_is_forgotten_comes_back() {
        alone(module_path!(), "what_is_forgotten_comes_back", || {
            // Something that brings much code in.
            let text = format!("{:?}", std::process::Command::new("id").output().unwrap());
            let before = file_kib();
            forget_code();
            assert!(file_kib() < before, "{before}");
            let again = format!("{:?}", std::process::Command::new("id").output().unwrap());
            assert_eq!(text, again);
        });
    }
}
