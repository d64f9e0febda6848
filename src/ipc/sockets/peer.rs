//! Who is at the other end, as the kernel recorded it.

use std::fmt;
use std::io;
use std::os::fd::AsFd;

use crate::sys::socket;

/// A user's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct UserId(pub(crate) u32);

impl UserId {
    /// The user that this process acts as.
    pub(crate) fn current() -> io::Result<UserId> {
        Ok(UserId(rustix::process::geteuid().as_raw()))
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the system tells of a peer.
pub(crate) struct Cred {
    pub(crate) pid: Option<u32>,
    pub(crate) authenticated: Option<UserId>,
    pub(crate) user: Option<UserId>,
    pub(crate) is_same_user: bool,
}

/// Asks who the peer is. The kernel vouches for the user, at both ends.
pub(crate) fn peer_cred(stream: &impl AsFd) -> io::Result<Cred> {
    let (user, pid) = socket::peer(stream.as_fd())?;
    known(user, pid)
}

/// A peer of which the kernel has said this much.
pub(crate) fn known(user: u32, pid: Option<u32>) -> io::Result<Cred> {
    let user = UserId(user);
    Ok(Cred {
        pid,
        authenticated: Some(user),
        user: Some(user),
        is_same_user: user == UserId::current()?,
    })
}
