//! The interface between a connection and its protocol.
//!
//! A [`Client`](crate::daemon::serve::client::Client) moves bytes
//! and knows nothing about their meaning; a [`Conversation`] knows that and moves none.
//! Between them is an [`Exchange`]. A conversation does one thing at a time: it finds
//! whether the input begins with a request, answers it, or goes on with a reply.
//!
//! Must not: leave a cursor in the store when it ends.

use crate::daemon::level_walk::SLICE_BYTES;
use crate::daemon::serve::context::Context;
use crate::store::Store;

/// The bytes of a connection between its two ends.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    /// Input that is not served yet: whole requests, then part of one.
    pub input: Vec<u8>,
    /// Output that is not written yet.
    pub output: Vec<u8>,
    /// The connection is to be closed when the output is written.
    pub closing: bool,
}

impl Exchange {
    /// Whether no more of a reply is to be made before output is written.
    pub(crate) fn is_slice_full(&self) -> bool {
        self.output.len() >= SLICE_BYTES
    }
}

/// A protocol on one connection.
pub(crate) trait Conversation {
    /// Whether `input` begins with a whole request, or with so much of one that it is
    /// refused. It bounds what is neither. Called with what came since, too, until it is
    /// true.
    fn has_request(&mut self, input: &[u8]) -> bool;

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

    /// Closes its cursors of the store.
    fn end(&mut self, store: &mut Store);
}
