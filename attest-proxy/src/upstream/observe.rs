//! Someone who watches an answer pass: what counts tokens, or watches for anything else in it, implements [`Observe`].

use std::fmt;

use bytes::Bytes;
use protocol::Refusal;

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It came whole.
    Whole,
    /// The upstream broke off or fell silent, or the device may be used no longer.
    Broken,
    /// The client left.
    Left,
}

/// Sees every chunk of an answer before the client does, and its end. It is on the way of every chunk: it must not wait,
/// and what it does is added to each gap.
pub trait Observe: fmt::Debug + Send {
    /// A chunk is about to pass, as the upstream cut it.
    ///
    /// # Errors
    /// The answer is to end here, with this reason; the chunk does not pass.
    fn chunk(&mut self, data: &Bytes) -> Result<(), Refusal>;

    /// The answer is over; called once.
    fn end(&mut self, end: End);
}
