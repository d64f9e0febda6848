//! One function for each thing that rustix can't ask of a Unix socket.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Returns the user at the other end of a socket, and the process, as they were when it connected
/// or began to listen. The process is missing where the system doesn't tell, or where it has no id
/// here because it's in another container. This corresponds to calling `getsockopt` with
/// `SO_PEERCRED`.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn peer(socket: BorrowedFd<'_>) -> io::Result<(u32, Option<u32>)> {
    let mut peer = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    // SAFETY: this is the structure of that option, and it holds only numbers.
    unsafe { getsockopt(socket, libc::SOL_SOCKET, libc::SO_PEERCRED, &mut peer)? };
    Ok((peer.uid, process(peer.pid)))
}

/// Returns the user at the other end of a socket, and the process. This corresponds to calling
/// `getpeereid`, and `getsockopt` for the process.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn peer(socket: BorrowedFd<'_>) -> io::Result<(u32, Option<u32>)> {
    let (mut user, mut group) = (0, 0);
    // SAFETY: the descriptor is borrowed, and both numbers can be written to.
    if unsafe { libc::getpeereid(socket.as_raw_fd(), &mut user, &mut group) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((user, peer_process(socket)))
}

#[cfg(target_vendor = "apple")]
fn peer_process(socket: BorrowedFd<'_>) -> Option<u32> {
    let mut id: libc::pid_t = 0;
    // SAFETY: this is the type of that option: a number.
    unsafe { getsockopt(socket, libc::SOL_LOCAL, libc::LOCAL_PEERPID, &mut id) }.ok()?;
    process(id)
}

#[cfg(target_os = "freebsd")]
fn peer_process(socket: BorrowedFd<'_>) -> Option<u32> {
    // SAFETY: the structure holds only numbers, and a pointer that nobody uses.
    let mut peer: libc::xucred = unsafe { std::mem::zeroed() };
    // The level of options of Unix sockets.
    const SOL_LOCAL: libc::c_int = 0;
    // SAFETY: this is the structure of that option.
    unsafe { getsockopt(socket, SOL_LOCAL, libc::LOCAL_PEERCRED, &mut peer) }.ok()?;
    // SAFETY: the kernel has filled the structure with the id, or left it zero.
    process(unsafe { peer.cr_pid__c_anonymous_union.cr_pid })
}

#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    target_os = "freebsd"
)))]
fn peer_process(_socket: BorrowedFd<'_>) -> Option<u32> {
    None
}

fn process(id: libc::pid_t) -> Option<u32> {
    u32::try_from(id).ok().filter(|id| *id != 0)
}

/// # Safety
/// `T` must be what the kernel fills for the option, and must be valid for any bytes.
#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    target_os = "freebsd"
))]
unsafe fn getsockopt<T>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: &mut T,
) -> io::Result<()> {
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the descriptor is borrowed, and there is room for `len` bytes.
    let failed = unsafe {
        let at = std::ptr::from_mut(value).cast();
        libc::getsockopt(socket.as_raw_fd(), level, option, at, &mut len)
    };
    match failed {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
