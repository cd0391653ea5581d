//! What a protocol makes of a connection.
//!
//! A [`Client`](crate::daemon::serve::client::Client) moves bytes and knows nothing about what
//! they mean; a [`Conversation`] knows that and moves none. Between them lies
//! an [`Exchange`]. A conversation is asked one thing at a time: whether the
//! input begins with a request, to answer it, to go on with a reply it began.
//! It must leave nothing behind in the store when it ends.

use crate::daemon::serve::context::Context;
use crate::store::Store;

/// The output at which a slice ends, in bytes; one row may pass it.
pub const SLICE_BYTES: usize = 16384;

/// The bytes of a connection between its two ends.
#[derive(Debug, Default)]
pub struct Exchange {
    /// Input that is not served yet: whole requests, then part of one.
    pub input: Vec<u8>,
    /// Output that is not written yet.
    pub output: Vec<u8>,
    /// The connection is to be closed when the output is written.
    pub closing: bool,
}

impl Exchange {
    /// Whether no more of a reply is to be made before output is written.
    pub fn is_slice_full(&self) -> bool {
        self.output.len() >= SLICE_BYTES
    }
}

/// A protocol on one connection.
pub trait Conversation {
    /// Whether something is to be answered without more input: a whole request,
    /// or so much of one that it is refused. What is not that is bounded by it.
    fn has_request(&self, input: &[u8]) -> bool;

    /// Takes the first request off the input, and answers it or begins to. Only
    /// called when there is one and nothing of a reply is to be made.
    fn answer(&mut self, exchange: &mut Exchange, context: &mut Context);

    /// Whether more of a reply is to be made.
    fn is_replying(&self) -> bool;

    /// Makes more of a reply, until a slice is full or `steps` are used up, which
    /// are taken off.
    fn go_on(&mut self, exchange: &mut Exchange, context: &mut Context, steps: &mut usize);

    /// The most bytes that the store may keep for a reply on its way.
    fn held_bytes(&self) -> usize;

    /// Gives back what it holds of the store.
    fn end(&mut self, store: &mut Store);
}
