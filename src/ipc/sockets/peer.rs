//! Who is at the other end, as the kernel recorded it.

use std::io;
use std::os::fd::AsFd;

use crate::ipc::binding;
use crate::sys::socket;

/// A user's number.
pub(crate) type UserId = u32;

pub(crate) type Cred = binding::Cred<UserId>;

/// The user that this process acts as.
pub(crate) fn current_user() -> io::Result<UserId> {
    Ok(rustix::process::geteuid().as_raw())
}

/// Asks who the peer is. The kernel vouches for the user, at both ends.
pub(crate) fn peer_cred(stream: &impl AsFd) -> io::Result<Cred> {
    let (user, pid) = socket::peer(stream.as_fd())?;
    known(user, pid)
}

/// A peer of which the kernel has said this much.
pub(crate) fn known(user: UserId, pid: Option<u32>) -> io::Result<Cred> {
    Ok(Cred {
        pid,
        authenticated: Some(user),
        user: Some(user),
        is_same_user: user == current_user()?,
    })
}
