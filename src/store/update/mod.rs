//! Records applied, and the memory for them.
//!
//! | module | what it does |
//! |---|---|
//! | [`apply`] | applies a record to entries that are found or created |
//! | [`over`] | commands among those of their name; what counts when one is over |
//! | [`room`] | makes room for a record before it is applied |
//! | [`evict`], [`compact`] | frees entries; moves entries together to empty pages |
//! | [`prefetch`], [`deferral`] | optimisations behind a narrow door, each with its gain |
//!
//! Must not: list anything; that is for [`query`](crate::store::query).

pub(crate) mod apply;
pub(crate) mod compact;
pub(crate) mod deferral;
pub(crate) mod evict;
pub(crate) mod over;
pub(crate) mod prefetch;
pub(crate) mod room;
