//! Records as writers make them: the two C structs, and one builder for each
//! record, right or wrong; and a seeded random number generator. Structs and
//! records are not those of the library, so that both are held against another.

use std::mem::size_of;

use dovestat::wire;

/// The writer's `mail` struct.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mail {
    /// user_cpu, sys_cpu, clock_time as (seconds, microseconds).
    pub times: [(i64, i64); 3],
    /// min_faults, maj_faults, vol_cs, invol_cs.
    pub faults: [u32; 4],
    /// disk_input, disk_output.
    pub disk: [u64; 2],
    /// read_count, write_count.
    pub counts: [u32; 2],
    /// read_bytes, write_bytes.
    pub bytes: [u64; 2],
    /// mail_lookup_path, mail_lookup_attr, mail_read_count.
    pub lookups: [u32; 3],
    /// mail_read_bytes, mail_cache_hits.
    pub read: [u64; 2],
}

/// The struct as C lays it out on this machine.
#[repr(C)]
struct RawMail {
    times: [libc::timeval; 3],
    faults: [u32; 4],
    disk: [u64; 2],
    counts: [u32; 2],
    bytes: [u64; 2],
    lookups: [u32; 3],
    read: [u64; 2],
}

/// Bytes of the `mail` struct on this machine; 136 on x86-64.
pub const MAIL_BYTES: usize = size_of::<RawMail>();

impl Mail {
    /// Every field another small number: 1.000001, 2.000002, 3.000003, 4, 5 ...
    pub fn sample() -> Mail {
        Mail {
            times: [(1, 1), (2, 2), (3, 3)],
            faults: [4, 5, 6, 7],
            disk: [8, 9],
            counts: [10, 11],
            bytes: [12, 13],
            lookups: [14, 15, 16],
            read: [17, 18],
        }
    }

    /// The bytes of the struct.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = vec![0; MAIL_BYTES];
        // The offsets come from the compiler's layout of the same struct.
        macro_rules! put {
            ($field:ident, $index:expr, $value:expr, $step:expr) => {{
                let at = std::mem::offset_of!(RawMail, $field) + $index * $step;
                let value = $value.to_ne_bytes();
                out[at..at + value.len()].copy_from_slice(&value);
            }};
        }
        let timeval = size_of::<libc::timeval>();
        for (i, &(secs, usecs)) in self.times.iter().enumerate() {
            let sub = std::mem::offset_of!(libc::timeval, tv_usec);
            put!(times, i, secs as libc::time_t, timeval);
            let at = std::mem::offset_of!(RawMail, times) + i * timeval + sub;
            let value = (usecs as libc::suseconds_t).to_ne_bytes();
            out[at..at + value.len()].copy_from_slice(&value);
        }
        for i in 0..4 {
            put!(faults, i, self.faults[i], 4);
        }
        for i in 0..2 {
            put!(disk, i, self.disk[i], 8);
            put!(counts, i, self.counts[i], 4);
            put!(bytes, i, self.bytes[i], 8);
            put!(read, i, self.read[i], 8);
        }
        for i in 0..3 {
            put!(lookups, i, self.lookups[i], 4);
        }
        out
    }

    /// The struct of given bytes.
    pub fn from_bytes(bytes: &[u8]) -> Mail {
        let u32_at = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let u64_at = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        // time_t and suseconds_t have the word's size wherever Dovecot 2.x runs with
        // this struct; half the timeval each.
        let timeval = size_of::<libc::timeval>();
        let long_at = |at: usize| match timeval {
            16 => i64::from_ne_bytes(bytes[at..at + 8].try_into().expect("8 bytes")),
            _ => i64::from(i32::from_ne_bytes(
                bytes[at..at + 4].try_into().expect("4 bytes"),
            )),
        };
        let mut mail = Mail::default();
        for (i, time) in mail.times.iter_mut().enumerate() {
            let at = std::mem::offset_of!(RawMail, times) + i * timeval;
            *time = (long_at(at), long_at(at + timeval / 2));
        }
        for i in 0..4 {
            mail.faults[i] = u32_at(std::mem::offset_of!(RawMail, faults) + 4 * i);
        }
        for i in 0..2 {
            mail.disk[i] = u64_at(std::mem::offset_of!(RawMail, disk) + 8 * i);
            mail.counts[i] = u32_at(std::mem::offset_of!(RawMail, counts) + 4 * i);
            mail.bytes[i] = u64_at(std::mem::offset_of!(RawMail, bytes) + 8 * i);
            mail.read[i] = u64_at(std::mem::offset_of!(RawMail, read) + 8 * i);
        }
        for i in 0..3 {
            mail.lookups[i] = u32_at(std::mem::offset_of!(RawMail, lookups) + 4 * i);
        }
        mail
    }

    /// One item of a stats field.
    pub fn item(&self) -> Vec<u8> {
        [b"mail\0", self.bytes().as_slice()].concat()
    }

    /// A whole stats field.
    pub fn field(&self) -> String {
        base64(&self.item())
    }
}

/// The writer's `auth` struct: successes, master successes, failures, db
/// tempfails, cache hits, cache misses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Auth(pub [u32; 6]);

impl Auth {
    /// The bytes of the struct.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|n| n.to_ne_bytes()).collect()
    }

    /// One item of a stats field.
    pub fn item(&self) -> Vec<u8> {
        [b"auth\0", self.bytes().as_slice()].concat()
    }

    /// A whole stats field.
    pub fn field(&self) -> String {
        base64(&self.item())
    }
}

/// Our `net` struct: bytes in, bytes out, microseconds of waiting for locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Net(pub [u64; 3]);

impl Net {
    /// One item of a stats field.
    pub fn item(&self) -> Vec<u8> {
        let values = self.0.iter().flat_map(|n| n.to_ne_bytes());
        b"net\0".iter().copied().chain(values).collect()
    }

    /// A whole stats field.
    pub fn field(&self) -> String {
        base64(&self.item())
    }
}

/// Base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    wire::push_base64(&mut out, bytes);
    String::from_utf8(out).expect("ASCII")
}

/// A field escaped for the wire.
pub fn escape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    wire::push_escaped(&mut out, field);
    out
}

/// `CONNECT` of a session with a remote address (none if empty).
pub fn connect(id: &str, user: &str, service: &str, pid: u32, ip: &str) -> Vec<u8> {
    let mut out = fields(&["CONNECT", id, user, service, &pid.to_string()]);
    if !ip.is_empty() {
        out.extend(format!("\tlip=127.0.0.1\trip={ip}").bytes());
    }
    out
}

/// `UPDATE-SESSION` with a stats field.
pub fn update(id: &str, stats: &str) -> Vec<u8> {
    fields(&["UPDATE-SESSION", id, stats])
}

/// `UPDATE-CMD` of a new command.
pub fn command(id: &str, number: u32, flags: &str, name: &str, args: &str, stats: &str) -> Vec<u8> {
    fields(&[
        "UPDATE-CMD",
        id,
        &number.to_string(),
        flags,
        name,
        args,
        stats,
    ])
}

/// `UPDATE-CMD` that continues a command; `flags` is `c`, `cd` or `dc`.
pub fn carry_on(id: &str, number: u32, flags: &str, stats: &str) -> Vec<u8> {
    fields(&["UPDATE-CMD", id, &number.to_string(), flags, stats])
}

/// `ADD-USER`.
pub fn add_user(user: &str, service: &str, stats: &str) -> Vec<u8> {
    fields(&["ADD-USER", user, service, stats])
}

/// `DISCONNECT`.
pub fn disconnect(id: &str) -> Vec<u8> {
    fields(&["DISCONNECT", id])
}

/// Fields, escaped and joined by TAB.
pub fn fields(fields: &[&str]) -> Vec<u8> {
    let escaped: Vec<Vec<u8>> = fields.iter().map(|f| escape(f.as_bytes())).collect();
    escaped.join(&b'\t')
}

/// splitmix64: small, seeded, good enough.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// One for a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// An index below `n`.
    pub fn index(&mut self, n: usize) -> usize {
        self.below(n as u64) as usize
    }

    /// True once in `n`.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of the things.
    pub fn pick<'a, T>(&mut self, things: &'a [T]) -> &'a T {
        &things[self.index(things.len())]
    }
}

/// The seed of a test: `DOVESTAT_SEED` or the given one; printed either way.
pub fn seed(test: &str, default: u64) -> u64 {
    let seed = std::env::var("DOVESTAT_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(default);
    println!("{test}: DOVESTAT_SEED={seed}");
    seed
}

#[test]
fn structs_have_the_size_that_writers_send() {
    if cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        assert_eq!(MAIL_BYTES, 136, "mail");
    }
    assert_eq!(Auth::default().bytes().len(), 24, "auth");
    let mail = Mail::sample();
    assert_eq!(Mail::from_bytes(&mail.bytes()), mail, "there and back");
    assert_eq!(base64(b"mail\0"), "bWFpbAA=", "base64");
    assert_eq!(base64(b""), "", "base64 of nothing");
}
