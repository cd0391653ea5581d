//! What the tests of this room and those above it share: a random number generator whose seed is
//! printed and can be set again by `DOVESTAT_SEED`.

use crate::stats::{Stats, FIELD_COUNT};
use crate::store::counters::{Counters, MAX_SUM};
use std::time::{SystemTime, UNIX_EPOCH};

/// SplitMix64 (Steele, Lea and Flood, 2014).
pub(crate) struct Random(u64);

impl Random {
    /// Seeded by `DOVESTAT_SEED`, else by the clock; prints the seed.
    pub(crate) fn seeded(what: &str) -> Random {
        let seed = match std::env::var("DOVESTAT_SEED") {
            Ok(seed) => seed.parse().expect("DOVESTAT_SEED is a number"),
            Err(_) => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .expect("the clock is past 1970")
                .as_nanos() as u64,
        };
        println!("{what}: DOVESTAT_SEED={seed}");
        Random(seed)
    }

    /// The next 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.bits() % limit
    }
}

/// Counters whose values have about so many bits, now and then zero.
pub(crate) fn some_counters(random: &mut Random, bits: u64) -> Counters {
    let mut value = || match random.below(4) {
        0 => 0,
        _ => random.bits() >> (64 - bits + random.below(bits.min(4))),
    };
    Counters {
        stats: Stats {
            values: std::array::from_fn(|_| value()),
        },
        num_logins: value(),
        num_cmds: value(),
    }
}

pub(crate) fn widest() -> Counters {
    Counters {
        stats: Stats {
            values: [MAX_SUM; FIELD_COUNT],
        },
        num_logins: MAX_SUM,
        num_cmds: MAX_SUM,
    }
}
