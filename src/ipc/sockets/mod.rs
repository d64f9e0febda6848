//! The facade on Unix: std's sockets, and what std leaves to the program.
//!
//! No thread is started. What waits for clients or for another process's lock waits in one system
//! call. Only what no call can wait for is tried again, with pauses: a server that isn't there yet.

mod accept;
mod bind;
mod connect;
mod folder;
mod lock;
mod peer;
mod place;
#[cfg(feature = "tokio")]
mod tasks;
#[cfg(test)]
mod tests;
#[cfg(feature = "tokio")]
pub(crate) mod tokio;

use std::io;
use std::process::Stdio;

use std::os::fd::OwnedFd;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

pub(crate) use self::accept::Listening;
pub(crate) use self::bind::{exists, remove};
pub(crate) use self::connect::{connect, connect_timeout};
pub(crate) use self::folder::{path, system_path};
pub(crate) use self::peer::{Cred, UserId, current_user, peer_cred};

pub(crate) type Stream = UnixStream;
pub(crate) type Listener = UnixListener;
pub(crate) type Address = SocketAddr;

/// Whether an error of [`connect`] says that no server is there. A socket's file outlives a server
/// that was killed, and then refuses.
pub(crate) fn is_not_running(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

/// Returns a stream, and its peer as a child's stdin and stdout.
pub(crate) fn pair_for_child() -> io::Result<(UnixStream, Stdio, Stdio)> {
    let (ours, stdin) = UnixStream::pair()?;
    let stdout = stdin.try_clone()?;
    let [stdin, stdout] = [stdin, stdout].map(|end| Stdio::from(OwnedFd::from(end)));
    Ok((ours, stdin, stdout))
}
