//! The fuzzer's bytes as choices, and what stores of several targets are made with.

use dovestat::store::{Limits, Now, WallTime};

/// Bytes on their way to choices; zeros once they are used up.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&byte, rest)) => {
                self.0 = rest;
                byte
            }
            None => 0,
        }
    }

    /// A number below `limit`, which is at most 256.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    /// A number of at most 64 bits: so many bytes as the first one says.
    pub fn number(&mut self) -> u64 {
        let bytes = self.below(9);
        (0..bytes).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    /// One of some things.
    pub fn pick<T: Copy>(&mut self, things: &[T]) -> T {
        things[self.below(things.len())]
    }
}

/// The limits of a store, with the default min_times.
pub fn limits(memory_bytes: usize) -> Limits {
    Limits {
        memory_bytes,
        min_time_secs: [60, 900, 3600, 43_200, 43_200],
    }
}

/// The instant so many seconds after the start.
pub fn at(secs: u32) -> Now {
    Now {
        uptime_secs: 1000 + secs,
        wall: WallTime {
            secs: 1_700_000_000 + secs,
            usecs: secs % 1_000_000,
        },
    }
}
