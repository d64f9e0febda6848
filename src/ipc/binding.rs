//! What the facade asks of a system that binds, and how that can end.

use std::io;

/// Who may connect, and how many before they are accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Whether every user of this computer may connect, or only the current one.
    pub(crate) everyone: bool,
    /// The backlog, which has been checked.
    pub(crate) backlog: usize,
}

/// How an attempt to bind ended, unless it failed.
pub(crate) enum Attempt<T> {
    /// It listens.
    Bound(T),
    /// A server is there already, or was a moment ago.
    Taken(io::Error),
}
