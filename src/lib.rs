//! UnixStream for Windows: named pipes with the API *and the behaviour* of `std::os::unix::net`.
//!
//! A program that speaks over a Unix socket speaks over a named pipe by changing a type name:
//!
//! | `std::os::unix::net` | here |
//! |---|---|
//! | `UnixStream` | `WinStream` |
//! | `UnixListener` | `WinListener` |
//! | `SocketAddr` | [`WinPipeSocketAddr`] |
//! | `Incoming` | `WinIncoming` |
//!
//! Or without any `cfg` of its own, by the types of [`ipc`], which are std's on Unix and these on
//! Windows.
//!
//! # What to rely on
//! - A stream is bytes, both ways at once, from any number of threads. Nothing is lost or sent twice,
//!   whatever timeouts, nonblocking mode and shutdown do.
//! - Bytes that were written arrive, even if the stream is dropped the moment after.
//! - `shutdown(Write)` is the end for the peer, who can still answer.
//! - Clients can connect as soon as `bind` has returned, and are accepted in order.
//! - Only the current user's processes on this computer can connect, unless the program says
//!   otherwise.
//! - A blocking call starts no thread and allocates nothing.
//!
//! Where Windows can't do what Unix does, the item says so under "On Unix".
//!
//! # Features
//! `log` (on by default; `logging` is the same): every system call leaves one `log::trace!` record
//! with its name, arguments and result, under the target `winpipe`.

#![deny(unsafe_code)]

pub use addr::WinPipeSocketAddr;
#[cfg(windows)]
pub use listener::{WinIncoming, WinListener};
#[cfg(windows)]
pub use options::{ConnectOptions, ListenOptions};
#[cfg(windows)]
pub use peer::Impersonated;
#[cfg(windows)]
pub use pipes::{Pipes, pipes};
#[cfg(windows)]
pub use security::{Access, Impersonation, Integrity, Learnt, PeerCred, Server, Sid};
#[cfg(windows)]
pub use stream::WinStream;

mod addr;
#[cfg(windows)]
mod handoff;
pub mod ipc;
#[cfg(windows)]
mod listener;
#[cfg(windows)]
mod options;
#[cfg(windows)]
mod peer;
#[cfg(windows)]
mod pipes;
#[cfg(windows)]
mod security;
#[cfg(windows)]
mod stream;
#[allow(unsafe_code)]
mod sys;

/// The examples of the README run as tests.
#[cfg(all(doctest, windows))]
#[doc = include_str!("../README.md")]
struct Readme;
