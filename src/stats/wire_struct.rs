//! The C structs that mail processes send, as this machine lays them out.
//!
//! A writer dumps its own struct, and it runs on the same machine, so offsets
//! and widths are asked of the compiler for the same declarations; nothing is
//! cast. Must not: decide whether a value makes sense beyond its sign.

use super::MAX_VALUE;
use std::mem::{offset_of, size_of};

/// The type of a field in its struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    Timeval,
    /// A counter that its writer lets wrap.
    U32,
    U64,
}

/// A field's offset in bytes, and what lies there.
pub(crate) type Place = (usize, Width);

macro_rules! wire_struct {
    ($(#[$doc:meta])* $module:ident, $bytes:ident: $($name:ident $type:ty => $width:ident,)*) => {
        $(#[$doc])*
        #[allow(non_snake_case, non_upper_case_globals)]
        pub(crate) mod $module {
            use super::*;

            /// The declaration whose layout counts; never instantiated.
            #[repr(C)]
            pub(crate) struct Layout {
                $(/// A member of this name and width; `mail` and `auth` as in Dovecot 2.3.
                pub(crate) $name: $type,)*
            }

            $(pub(crate) const $name: Place = (offset_of!(Layout, $name), Width::$width);)*
        }

        /// The size of the struct in bytes.
        pub(crate) const $bytes: usize = size_of::<$module::Layout>();
    };
}

wire_struct! {
    /// The `mail` item.
    Mail, MAIL_BYTES:
    user_cpu libc::timeval => Timeval,
    sys_cpu libc::timeval => Timeval,
    clock_time libc::timeval => Timeval,
    min_faults u32 => U32,
    maj_faults u32 => U32,
    vol_cs u32 => U32,
    invol_cs u32 => U32,
    disk_input u64 => U64,
    disk_output u64 => U64,
    read_count u32 => U32,
    write_count u32 => U32,
    read_bytes u64 => U64,
    write_bytes u64 => U64,
    mail_lookup_path u32 => U32,
    mail_lookup_attr u32 => U32,
    mail_read_count u32 => U32,
    mail_read_bytes u64 => U64,
    mail_cache_hits u64 => U64,
}

/// The sizes of the `mail` item on other architectures: with a `struct timeval` of 8
/// or 16 bytes, and 64-bit counters at multiples of 4 (i386) or 8 bytes (ARM and all
/// of 64 bits).
pub(crate) const MAIL_BYTES_ELSEWHERE: [usize; 4] = [
    mail_bytes(8, 4),
    mail_bytes(8, 8),
    mail_bytes(16, 4),
    mail_bytes(16, 8),
];

/// The size of the `mail` item with a `struct timeval` of so many bytes and 64-bit
/// counters at multiples of `align`.
const fn mail_bytes(timeval_bytes: usize, align: usize) -> usize {
    let disk_input = (3 * timeval_bytes + 4 * 4).next_multiple_of(align);
    let read_count = disk_input + 2 * 8;
    let read_bytes = (read_count + 2 * 4).next_multiple_of(align);
    let mail_lookup_path = read_bytes + 2 * 8;
    let mail_read_bytes = (mail_lookup_path + 3 * 4).next_multiple_of(align);
    mail_read_bytes + 2 * 8
}

wire_struct! {
    /// The `auth` item.
    Auth, AUTH_BYTES:
    auth_successes u32 => U32,
    auth_master_successes u32 => U32,
    auth_failures u32 => U32,
    auth_db_tempfails u32 => U32,
    auth_cache_hits u32 => U32,
    auth_cache_misses u32 => U32,
}

wire_struct! {
    /// The `net` item, which Dovecot does not send.
    Net, NET_BYTES:
    net_in_bytes u64 => U64,
    net_out_bytes u64 => U64,
    lock_wait u64 => U64,
}

/// Bytes of a member of a `struct timeval`. Its type has no name to rely on: musl's
/// are about to change.
const fn width_of<T>(_member: fn(&libc::timeval) -> &T) -> usize {
    size_of::<T>()
}

/// Where the members of a `struct timeval` lie in it, and how wide they are.
const TIMEVAL: [(usize, usize); 2] = [
    (
        offset_of!(libc::timeval, tv_sec),
        width_of(|time| &time.tv_sec),
    ),
    (
        offset_of!(libc::timeval, tv_usec),
        width_of(|time| &time.tv_usec),
    ),
];

/// A time that is negative or longer than anything sane.
const INSANE: u64 = u64::MAX;

/// Reads the value at a place of a whole struct: a counter, or a time in
/// microseconds, in which a full million of microseconds carries. `u64::MAX` for a
/// time with a part that is negative or larger than [`MAX_VALUE`].
#[inline(always)]
pub(crate) fn read<const BYTES: usize>(body: &[u8; BYTES], (offset, width): Place) -> u64 {
    match width {
        Width::U32 => u64::from(u32::from_ne_bytes(array(body, offset))),
        Width::U64 => u64::from_ne_bytes(array(body, offset)),
        Width::Timeval => {
            let part = |(inner, bytes)| match bytes {
                4 => i64::from(i32::from_ne_bytes(array(body, offset + inner))) as u64,
                _ => u64::from_ne_bytes(array(body, offset + inner)),
            };
            let (secs, usecs) = (part(TIMEVAL[0]), part(TIMEVAL[1]));
            match secs <= MAX_VALUE / 1_000_000 && usecs <= MAX_VALUE {
                true => secs * 1_000_000 + usecs,
                false => INSANE,
            }
        }
    }
}

/// The `N` bytes at `offset`.
#[inline(always)]
fn array<const N: usize, const BYTES: usize>(body: &[u8; BYTES], offset: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&body[offset..offset + N]);
    bytes
}

/// Writes a value as a mail process would: a counter, which wraps where it has
/// 32 bits, or microseconds.
pub(crate) fn write(body: &mut [u8], (offset, width): Place, value: u64) {
    match width {
        Width::U32 => body[offset..offset + 4].copy_from_slice(&(value as u32).to_ne_bytes()),
        Width::U64 => body[offset..offset + 8].copy_from_slice(&value.to_ne_bytes()),
        Width::Timeval => put_timeval(
            body,
            (offset, width),
            (value / 1_000_000) as i64,
            (value % 1_000_000) as i64,
        ),
    }
}

/// Writes a `struct timeval` as it is, sane or not.
pub(crate) fn put_timeval(body: &mut [u8], (offset, _): Place, secs: i64, usecs: i64) {
    for ((inner, bytes), value) in TIMEVAL.into_iter().zip([secs, usecs]) {
        let at = offset + inner;
        match bytes {
            4 => body[at..at + 4].copy_from_slice(&(value as i32).to_ne_bytes()),
            _ => body[at..at + 8].copy_from_slice(&value.to_ne_bytes()),
        }
    }
}
