//! Memory that a process need not have while it sleeps.
//!
//! Owns: where the kernel mapped the code and constants of the program and its
//! libraries, and the ways to give back that, the stack below the caller, and what the
//! allocator keeps. Code comes back from the system's cache when it is run; stack and
//! heap come back zeroed.
//!
//! What it is worth: an idle daemon has 340 KB resident, 210 KB of them private, and
//! 2,270 KB and 1,140 KB without it; the stats process of Dovecot 2.3 has 3,184 KB and
//! 328 KB, an empty Rust program 1,864 KB and 268 KB.
//!
//! Must not: touch what differs from its file: what can be written, and code with
//! text relocations, which the dynamic linker wrote to before it was code.

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
use libc::Elf64_Phdr as ProgramHeader;

#[cfg(all(target_os = "linux", target_pointer_width = "32"))]
use libc::Elf32_Phdr as ProgramHeader;

#[cfg(target_os = "linux")]
use crate::sys::mem::page::system_page_bytes;

/// The stack that is given back below the caller, in bytes: more than is ever used.
#[cfg(target_os = "linux")]
const STACK_BYTES: usize = 1 << 19;

/// The end of the stack that is left alone, in bytes: the frames of calls from here.
#[cfg(target_os = "linux")]
const FRAMES_BYTES: usize = 4096;

/// Has the allocator map large blocks on their own, whatever came before: they are
/// resident only where they are written to, and freed are the kernel's again at once.
pub(crate) fn map_large_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const LARGE_BYTES: libc::c_int = 1 << 16;
        // SAFETY: no pointers. A failure changes nothing.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES) };
    }
}

/// The memory that a process which sleeps does not need.
#[derive(Debug)]
pub(crate) struct Unneeded {
    /// Beginning and size of the code and constants of the program and its libraries.
    #[cfg(target_os = "linux")]
    mappings: Vec<(usize, usize)>,
    /// The page with the code that sleeps. One that stays brings no others of its
    /// neighbourhood in, as one that is missed does.
    #[cfg(target_os = "linux")]
    kept: usize,
}

#[cfg(target_os = "linux")]
impl Unneeded {
    /// All but the code at `sleeper`: a function that calls [`Unneeded::give_back`] and
    /// then sleeps.
    pub(crate) fn but_for(sleeper: *const ()) -> Unneeded {
        let mut unneeded = Unneeded {
            mappings: Vec::new(),
            kept: page_of(sleeper as usize),
        };
        let data = std::ptr::from_mut(&mut unneeded).cast();
        // SAFETY: the callback fits, keeps nothing and does not unwind; `data` is what it
        // expects, and outlives the call.
        unsafe { libc::dl_iterate_phdr(Some(add_object), data) };
        unneeded
    }

    /// Gives it back, as far as the process has it now.
    #[inline(always)]
    pub(crate) fn give_back(&self) {
        give_heap_back();
        give_stack_back();
        for &(start, bytes) in &self.mappings {
            let start = start as *mut libc::c_void;
            // SAFETY: the range is a mapping of a file that was not written to, so what is
            // given up comes back the same. An error changes nothing.
            unsafe { libc::madvise(start, bytes, libc::MADV_DONTNEED) };
        }
    }
}

/// Other systems show it otherwise.
#[cfg(not(target_os = "linux"))]
impl Unneeded {
    pub(crate) fn but_for(_sleeper: *const ()) -> Unneeded {
        Unneeded {}
    }

    pub(crate) fn give_back(&self) {}
}

/// Where the page of an address begins.
#[cfg(target_os = "linux")]
fn page_of(address: usize) -> usize {
    let page_bytes = system_page_bytes();
    address / page_bytes * page_bytes
}

/// Gives back what the allocator keeps for later.
#[cfg(target_os = "linux")]
fn give_heap_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no pointers.
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Gives back the stack below the caller.
#[cfg(target_os = "linux")]
#[inline(never)]
fn give_stack_back() {
    let here = 0u8;
    let end = page_of(std::ptr::from_ref(&here) as usize - FRAMES_BYTES);
    let start = (end - STACK_BYTES) as *mut libc::c_void;
    // SAFETY: the range ends below this frame and the next, so no value is in it. The
    // kernel keeps other mappings much farther away from a growing stack; what is not
    // mapped changes nothing.
    unsafe { libc::madvise(start, STACK_BYTES, libc::MADV_DONTNEED) };
}

/// Adds one object to the [`Unneeded`] that `data` points to.
#[cfg(target_os = "linux")]
unsafe extern "C" fn add_object(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    data: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the caller gives a pointer that is valid for this call.
    let info = unsafe { &*info };
    // SAFETY: it is that of `Unneeded::but_for`, which nothing else uses meanwhile.
    let unneeded = unsafe { &mut *data.cast::<Unneeded>() };
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
    let read_only = headers
        .iter()
        .filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0);
    // The code may reach into the next page.
    let (kept, kept_end) = (unneeded.kept, unneeded.kept + 2 * system_page_bytes());
    for header in read_only {
        let start = base + header.p_vaddr as usize;
        let end = page_of(start + header.p_memsz as usize + system_page_bytes() - 1);
        for (start, end) in [(page_of(start), end.min(kept)), (kept_end.max(start), end)] {
            if start < end {
                unneeded.mappings.push((start, end - start));
            }
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
        resident_kib("RssFile:")
    }

    fn resident_kib(name: &str) -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
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
            let unneeded = Unneeded::but_for(file_kib as *const ());
            let before = file_kib();
            unneeded.give_back();
            assert!(file_kib() < before, "{before}");
            let again = format!("{:?}", std::process::Command::new("id").output().unwrap());
            assert_eq!(text, again);
        });
    }

    /// Uses so much stack, all of it.
    #[inline(never)]
    fn dig() -> u64 {
        let stack = std::hint::black_box([1u8; STACK_BYTES / 2]);
        stack.iter().map(|byte| u64::from(*byte)).sum()
    }

    #[test]
    fn the_stack_below_is_given_back() {
        alone(module_path!(), "the_stack_below_is_given_back", || {
            let unneeded = Unneeded::but_for(file_kib as *const ());
            let above = std::hint::black_box([7u8; 64]);
            dig();
            let before = resident_kib("RssAnon:");
            unneeded.give_back();
            let given_kib = STACK_BYTES as u64 / 2048;
            let after = resident_kib("RssAnon:");
            assert!(after + given_kib / 2 < before, "{before}, then {after}");
            assert_eq!(std::hint::black_box(above), [7; 64]);
            assert_eq!(dig(), STACK_BYTES as u64 / 2);
        });
    }
}
