//! A saved store as bytes, and back.
//!
//! The file begins with a line that names format and version. Blocks follow,
//! each at most 64 KiB long: its length (four bytes), a CRC-64 of
//! its number and its content (eight bytes), its content, all numbers with their
//! least significant byte first. So a damaged block is known before anything in
//! it is looked at, and one that is missing, doubled or in another's place as
//! well. The content is items, see [`item`]. An item is in one block; the last one
//! is the end.
//!
//! Files of version 1 are read, those of version 2 read and written.
//!
//! Must not: believe a length, or know files.

mod field;
mod item;
#[cfg(test)]
mod tests;

pub(crate) use item::PartialLine;
pub use item::StateItem;

use crate::store::Saved;
use crate::sys::reason;
use field::{Format, Version};
use item::{push_end, push_names, push_partial, push_saved};
use std::fmt;
use std::io::{self, Read, Write};

/// The beginning of a file of any version.
const FORMAT: &[u8] = b"dovestat state ";

/// The version that is written. Readers of a version pass over new items, fields and
/// counters; any other change needs a new version.
const VERSION: &[u8; 2] = b"2\n";

/// The version of 0.1.0.
const FIRST_VERSION: &[u8; 2] = b"1\n";

/// The longest content of a block.
const MAX_BLOCK_BYTES: usize = 1 << 16;

/// A block is written out once it is this long: the longest item fits behind.
const FULL_BLOCK_BYTES: usize = 1 << 15;

/// Length and CRC of a block.
const HEADER_BYTES: usize = 12;

/// Why a file cannot be used.
#[derive(Debug)]
pub enum StateError {
    Io(io::Error),
    /// It does not begin with [`FORMAT`].
    Foreign,
    Version,
    /// A CRC or a value is wrong, or bytes are missing.
    Damaged,
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StateError::Io(error) => f.write_str(&reason(error)),
            StateError::Foreign => f.write_str("not a state of dovestat"),
            StateError::Version => f.write_str("written by another version"),
            StateError::Damaged => f.write_str("damaged"),
        }
    }
}

impl From<io::Error> for StateError {
    fn from(error: io::Error) -> StateError {
        match error.kind() {
            // It ends too early.
            io::ErrorKind::UnexpectedEof => StateError::Damaged,
            _ => StateError::Io(error),
        }
    }
}

/// CRC-64 of every byte (ECMA-182, reflected, as xz has it).
const CRC_TABLE: [u64; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (0xc96c_5795_d787_0f42 * (crc & 1));
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// The CRC of pieces, one behind the other.
fn crc(pieces: &[&[u8]]) -> u64 {
    let bytes = pieces.iter().flat_map(|piece| piece.iter());
    !bytes.fold(!0, |crc: u64, &byte| {
        CRC_TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8)
    })
}

/// Writes a file. See the module.
#[derive(Debug)]
pub struct StateWriter<W> {
    out: W,
    /// The block under construction, with room for its header.
    block: Vec<u8>,
    number: u32,
}

impl<W: Write> StateWriter<W> {
    /// Writes the head of a file.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(mut out: W) -> io::Result<StateWriter<W>> {
        out.write_all(FORMAT)?;
        out.write_all(VERSION)?;
        let mut block = vec![0; HEADER_BYTES];
        push_names(&mut block);
        Ok(StateWriter {
            out,
            block,
            number: 0,
        })
    }

    /// Adds a value of the store.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn put(&mut self, saved: &Saved) -> io::Result<()> {
        push_saved(&mut self.block, saved);
        self.write_full_block()
    }

    /// Adds the line of a FIFO that is not complete.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn put_partial(&mut self, partial: &PartialLine) -> io::Result<()> {
        push_partial(&mut self.block, partial);
        self.write_full_block()
    }

    /// Writes the block out if it is long enough.
    fn write_full_block(&mut self) -> io::Result<()> {
        if self.block.len() >= FULL_BLOCK_BYTES {
            self.write_block()?;
        }
        Ok(())
    }

    /// Writes the end of the file.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn finish(mut self) -> io::Result<W> {
        push_end(&mut self.block);
        self.write_block()?;
        Ok(self.out)
    }

    /// Writes the block out and begins the next.
    fn write_block(&mut self) -> io::Result<()> {
        let (header, content) = self.block.split_at_mut(HEADER_BYTES);
        let length = content.len() as u32;
        let crc = crc(&[&self.number.to_le_bytes(), content]);
        header[..4].copy_from_slice(&length.to_le_bytes());
        header[4..].copy_from_slice(&crc.to_le_bytes());
        self.out.write_all(&self.block)?;
        self.block.truncate(HEADER_BYTES);
        self.number += 1;
        Ok(())
    }
}

/// Reads a file. See the module.
#[derive(Debug)]
pub struct StateReader<R> {
    input: R,
    format: Format,
    block: Vec<u8>,
    /// How much of it was read.
    read_bytes: usize,
    /// The number of the next block.
    number: u32,
}

impl<R: Read> StateReader<R> {
    /// Reads the head of a file.
    ///
    /// # Errors
    /// When it is not one of a known version.
    pub fn new(mut input: R) -> Result<StateReader<R>, StateError> {
        let mut format = [0; FORMAT.len()];
        let mut version = [0; VERSION.len()];
        match input.read_exact(&mut format) {
            Ok(()) if format == FORMAT => {}
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error.into()),
            _ => return Err(StateError::Foreign),
        }
        input.read_exact(&mut version)?;
        let version = match &version {
            VERSION => Version::Two,
            FIRST_VERSION => Version::One,
            _ => return Err(StateError::Version),
        };
        Ok(StateReader {
            input,
            format: Format::new(version),
            block: Vec::new(),
            read_bytes: 0,
            number: 0,
        })
    }

    /// The next item; `None` at the end.
    ///
    /// # Errors
    /// When the file cannot be read on.
    pub fn take(&mut self) -> Result<Option<StateItem<'_>>, StateError> {
        self.pass_over()?;
        let mut rest = &self.block[self.read_bytes..];
        let item = self
            .format
            .take_item(&mut rest)
            .ok_or(StateError::Damaged)?;
        self.read_bytes = self.block.len() - rest.len();
        if item.is_none() {
            let ends_here = rest.is_empty() && self.input.read(&mut [0])? == 0;
            return ends_here.then_some(None).ok_or(StateError::Damaged);
        }
        Ok(item)
    }

    /// Passes over items that are not handed out.
    fn pass_over(&mut self) -> Result<(), StateError> {
        loop {
            if self.read_bytes == self.block.len() {
                self.read_block()?;
            }
            let mut rest = &self.block[self.read_bytes..];
            let passed = self.format.pass_over(&mut rest);
            self.read_bytes = self.block.len() - rest.len();
            if !passed.ok_or(StateError::Damaged)? {
                return Ok(());
            }
        }
    }

    /// Reads a block and checks it.
    fn read_block(&mut self) -> Result<(), StateError> {
        let (mut length, mut expected) = ([0; 4], [0; 8]);
        self.input.read_exact(&mut length)?;
        self.input.read_exact(&mut expected)?;
        let length = u32::from_le_bytes(length) as usize;
        if !(1..=MAX_BLOCK_BYTES).contains(&length) {
            return Err(StateError::Damaged);
        }
        self.block.resize(length, 0);
        self.input.read_exact(&mut self.block)?;
        if crc(&[&self.number.to_le_bytes(), &self.block]) != u64::from_le_bytes(expected) {
            return Err(StateError::Damaged);
        }
        self.number = self.number.wrapping_add(1);
        self.read_bytes = 0;
        Ok(())
    }
}
