//! The byte budget: what the statistics may use, and what they use now.
//!
//! Every allocation of the store that lives as long as the entries do is made
//! through a [`Charge`]: pages of the slabs, the tables that find pages, hash
//! indexes. A charge remembers its bytes, so that giving it back cannot
//! disagree with taking it. What an allocator adds to a block is part of the
//! charge ([`BLOCK_OVERHEAD_BYTES`]); pages come from the kernel as they are.
//!
//! New entries stop a sixteenth short of the limit: that reserve is for
//! statistics that grow in entries which already exist, so that a full store
//! can still count.
//!
//! Must not: decide what to free.

/// What a block costs the allocator beyond its size: header and rounding in
/// glibc's and musl's malloc, at most.
pub const BLOCK_OVERHEAD_BYTES: usize = 32;

/// The share of the limit that only growth of existing entries may use.
const RESERVE_SHARE: usize = 16;

/// What memory is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A new entry.
    Create,
    /// More room for an entry that exists.
    Grow,
}

/// The budget has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Bytes taken from a budget, to be given back to it.
#[derive(Debug)]
#[must_use]
pub struct Charge {
    /// How many.
    bytes: usize,
}

/// The limit and its use, in bytes.
#[derive(Debug)]
pub struct Budget {
    /// `stats_memory_limit`.
    limit_bytes: usize,
    /// The sum of all charges.
    used_bytes: usize,
}

impl Budget {
    /// An unused budget.
    pub fn new(limit_bytes: usize) -> Budget {
        Budget {
            limit_bytes,
            used_bytes: 0,
        }
    }

    /// The limit in bytes.
    pub fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// The sum of all charges in bytes.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// Takes `bytes` for blocks of the allocator, and what it adds to them.
    ///
    /// # Errors
    /// [`Full`] when they would pass what `purpose` may use.
    pub fn charge_blocks(
        &mut self,
        bytes: usize,
        blocks: usize,
        purpose: Purpose,
    ) -> Result<Charge, Full> {
        self.charge_pages(bytes + blocks * BLOCK_OVERHEAD_BYTES, purpose)
    }

    /// Takes `bytes` of the kernel's pages.
    ///
    /// # Errors
    /// [`Full`] when they would pass what `purpose` may use.
    pub fn charge_pages(&mut self, bytes: usize, purpose: Purpose) -> Result<Charge, Full> {
        let most = match purpose {
            Purpose::Create => self.limit_bytes - self.limit_bytes / RESERVE_SHARE,
            Purpose::Grow => self.limit_bytes,
        };
        if bytes > most.saturating_sub(self.used_bytes) {
            return Err(Full);
        }
        self.used_bytes += bytes;
        Ok(Charge { bytes })
    }

    /// Gives a charge back.
    pub fn release(&mut self, charge: Charge) {
        self.used_bytes -= charge.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_up_to_the_limit_and_not_a_byte_further() {
        let mut budget = Budget::new(1600);
        assert_eq!(budget.charge_pages(1601, Purpose::Grow).unwrap_err(), Full);
        let charge = budget.charge_pages(1600, Purpose::Grow).unwrap();
        assert_eq!(budget.used_bytes(), 1600);
        assert_eq!(budget.charge_pages(1, Purpose::Grow).unwrap_err(), Full);
        budget.release(charge);
        let charge = budget.charge_pages(1599, Purpose::Grow).unwrap();
        assert_eq!(budget.used_bytes(), 1599);
        let rest = budget.charge_pages(1, Purpose::Grow).unwrap();
        budget.release(charge);
        budget.release(rest);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn new_entries_leave_the_reserve_alone() {
        let mut budget = Budget::new(1600);
        assert_eq!(
            budget.charge_pages(1501, Purpose::Create).unwrap_err(),
            Full
        );
        let _create = budget.charge_pages(1500, Purpose::Create).unwrap();
        assert_eq!(budget.charge_pages(1, Purpose::Create).unwrap_err(), Full);
        let _grow = budget.charge_pages(100, Purpose::Grow).unwrap();
    }

    #[test]
    fn blocks_cost_what_the_allocator_adds() {
        let mut budget = Budget::new(1600);
        let _blocks = budget.charge_blocks(100, 3, Purpose::Create).unwrap();
        assert_eq!(budget.used_bytes(), 100 + 3 * BLOCK_OVERHEAD_BYTES);
    }
}
