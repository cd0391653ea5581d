//! Memory that was needed to start and is not any more.
//!
//! Owns: the way to give the kernel back what it mapped of programs and
//! libraries while the process started: reading settings, looking up users,
//! linking. What is needed again is mapped again, from the system's cache, when
//! it is run.
//!
//! What it is worth: an idle daemon has 1,912 KB resident with it, 3,920 KB without; the
//! stats process of Dovecot 2.3 has 3,236 KB.
//!
//! Must not: touch what differs from its file: what can be written, and code with
//! text relocations, which the dynamic linker wrote to before it was code.

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
use libc::Elf64_Phdr as ProgramHeader;

#[cfg(all(target_os = "linux", target_pointer_width = "32"))]
use libc::Elf32_Phdr as ProgramHeader;

/// Gives up the code of the program and its libraries, as far as the process
/// has it mapped now.
#[cfg(target_os = "linux")]
pub(crate) fn forget_code() {
    // SAFETY: the callback fits, keeps nothing and does not unwind; it needs no
    // data.
    unsafe { libc::dl_iterate_phdr(Some(forget_object), std::ptr::null_mut()) };
}

/// Other systems show it otherwise.
#[cfg(not(target_os = "linux"))]
pub(crate) fn forget_code() {}

/// Gives up the code of one object.
#[cfg(target_os = "linux")]
unsafe extern "C" fn forget_object(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    _data: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the caller gives a pointer that is valid for this call.
    let info = unsafe { &*info };
    if info.dlpi_phdr.is_null() {
        return 0;
    }
    // SAFETY: the array has so many elements, and nothing writes to it.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    let base = info.dlpi_addr as usize;
    // SAFETY: the headers are those of an object that was loaded there.
    if unsafe { has_text_relocations(headers, base) } {
        return 0;
    }
    for header in headers {
        let is_code = header.p_flags & (libc::PF_X | libc::PF_W) == libc::PF_X;
        if header.p_type == libc::PT_LOAD && is_code {
            let page_bytes = crate::sys::mem::page::system_page_bytes();
            let start = base + header.p_vaddr as usize;
            let end = (start + header.p_memsz as usize).next_multiple_of(page_bytes);
            let start = start / page_bytes * page_bytes;
            let pointer = start as *mut libc::c_void;
            // SAFETY: the range is a mapping of a file that was not written to,
            // so what is given up comes back the same. An error changes nothing.
            unsafe { libc::madvise(pointer, end - start, libc::MADV_DONTNEED) };
        }
    }
    0
}

/// An entry of an object's dynamic section: elf(5), of either size.
#[cfg(target_os = "linux")]
#[repr(C)]
struct Dynamic {
    tag: isize,
    value: usize,
}

/// Whether the dynamic linker had to write to the object's code.
///
/// # Safety
/// The headers are those of an object that is loaded at `base`.
#[cfg(target_os = "linux")]
unsafe fn has_text_relocations(headers: &[ProgramHeader], base: usize) -> bool {
    // elf.h
    const DT_NULL: isize = 0;
    const DT_TEXTREL: isize = 22;
    const DT_FLAGS: isize = 30;
    const DF_TEXTREL: usize = 4;
    let Some(header) = headers.iter().find(|h| h.p_type == libc::PT_DYNAMIC) else {
        return false;
    };
    let mut entry = (base + header.p_vaddr as usize) as *const Dynamic;
    loop {
        // SAFETY: the section is mapped as long as the object, and DT_NULL ends it.
        let Dynamic { tag, value } = unsafe { entry.read() };
        match tag {
            DT_NULL => return false,
            DT_TEXTREL => return true,
            DT_FLAGS if value & DF_TEXTREL != 0 => return true,
            // SAFETY: not the last entry.
            _ => entry = unsafe { entry.add(1) },
        }
    }
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
