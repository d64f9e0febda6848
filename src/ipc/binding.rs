//! What the facade and a system tell each other: how to bind, how that can end, and who a peer is.

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

/// What the system tells of a peer.
pub(crate) struct Cred<User> {
    pub(crate) pid: Option<u32>,
    pub(crate) authenticated: Option<User>,
    pub(crate) user: Option<User>,
    pub(crate) is_same_user: bool,
}
