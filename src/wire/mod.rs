//! Bytes to values and back: the protocols, without a byte of input or output.
//!
//! | module | what it is |
//! |---|---|
//! | `encoding` | fields as bytes: escapes, base64, numbers, a line with room for its fields |
//! | `lines` | bytes of a FIFO to lines |
//! | `record` | a line of a FIFO to a [`Record`](crate::store::Record) |
//! | `compose` | a [`Record`](crate::store::Record) to a line of a FIFO |
//! | `request` | a line of a client to a [`Request`] |
//! | `carbon` | a [`Row`](crate::store::Row) to lines for a carbon receiver |
//! | `getent` | the output of getent(1) to addresses |
//! | `state` | a saved store to bytes and back: a file of blocks, of items, of fields |
//! | `reply` | a header or a [`Row`](crate::store::Row) to a line |
//! | `http` | heads of HTTP |
//! | `metrics` | a [`Row`](crate::store::Row) and other numbers to samples for Prometheus |
//!
//! Fields are separated by TAB and lines ended by LF, but for the formats of others. Everything
//! here is a function of its arguments; nothing panics whatever the bytes.

#![forbid(unsafe_code)]

mod carbon;
mod compose;
mod encoding;
mod getent;
pub mod http;
mod lines;
pub mod metrics;
mod record;
mod reply;
mod request;
mod state;

pub use carbon::{safe_part, write_lines, CarbonPaths};
pub use compose::write_record;
#[cfg(feature = "internals")]
pub use encoding::base64::push_encoded as push_base64;
pub use encoding::escape::push_escaped;
pub(crate) use encoding::escape::unescape;
pub(crate) use encoding::number::push_stat;
pub use getent::parse_addresses;
#[cfg(feature = "internals")]
pub use lines::MAX_LINE_BYTES;
pub use lines::{LineBuffer, LineReader};
#[cfg(any(test, feature = "internals"))]
pub use record::parse_record;
pub(crate) use record::read_record;
pub(crate) use record::Refusal;
pub use record::StatsRoom;
pub use reply::{write_header, write_row, ColumnOrder, Columns};
pub(crate) use request::RequestError;
pub use request::{parse_request, Request};
pub(crate) use state::PartialLine;
pub use state::{StateError, StateItem, StateReader, StateWriter};

use crate::sys::mem::bytes::find;

/// Takes the field up to the first TAB off the front of `rest`, which becomes `None` when
/// there is no TAB. `None` when there is no field left.
fn take_field<'a>(rest: &mut Option<&'a mut [u8]>) -> Option<&'a mut [u8]> {
    let bytes = rest.take()?;
    match find(b'\t', bytes) {
        Some(at) => {
            let (field, behind) = bytes.split_at_mut(at);
            *rest = Some(&mut behind[1..]);
            Some(field)
        }
        None => Some(bytes),
    }
}

/// A decimal number without sign or blanks.
pub(crate) fn parse_number<T: TryFrom<u64>>(digits: &[u8]) -> Option<T> {
    let mut number = 0u64;
    for byte in digits {
        let digit = byte.checked_sub(b'0').filter(|&digit| digit < 10)?;
        number = number.checked_mul(10)?.checked_add(digit.into())?;
    }
    T::try_from(number).ok().filter(|_| !digits.is_empty())
}
