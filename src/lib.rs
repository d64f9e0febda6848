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
//! with its name, arguments and result, under the target `winpipe`. The records of a call are written
//! when it returns, and those of calls under `Impersonated` when that is dropped: a logger never
//! runs under a lock of this crate or as a client, so it may use the crate, with the same streams
//! and listeners too. What it does there leaves no records. If it panics, the panic hook reports that
//! and the call returns its result.

#![deny(unsafe_code)]

#[cfg(any(windows, winpipe_sim))]
pub use access::{Access, Combined, Impersonation, Server};
#[cfg(any(windows, winpipe_sim))]
pub use account::{Learnt, PeerCred};
pub use addr::WinPipeSocketAddr;
#[cfg(any(windows, winpipe_sim))]
pub use listener::{WinIncoming, WinListener};
#[cfg(any(windows, winpipe_sim))]
pub use options::{ConnectOptions, ListenOptions};
#[cfg(any(windows, winpipe_sim))]
pub use peer::Impersonated;
#[cfg(windows)]
pub use pipes::{Pipes, pipes};
#[cfg(any(windows, winpipe_sim))]
pub use sid::{Integrity, Sid};
#[cfg(any(windows, winpipe_sim))]
pub use stream::WinStream;

// Plain data: tested everywhere, used on Windows.
#[cfg(any(windows, winpipe_sim, test))]
#[cfg_attr(
    not(windows),
    allow(dead_code, reason = "only the Windows half connects and binds")
)]
mod access;
#[cfg(any(windows, winpipe_sim))]
mod account;
mod addr;
#[cfg(any(windows, winpipe_sim))]
mod connect;
#[cfg(all(windows, not(winpipe_sim)))]
mod handle;
#[cfg(all(windows, not(winpipe_sim)))]
mod handoff;
mod input;
pub mod ipc;
#[cfg(any(windows, winpipe_sim))]
mod listener;
#[cfg(any(windows, winpipe_sim))]
mod options;
#[cfg(any(windows, winpipe_sim))]
mod peer;
#[cfg(windows)]
mod pipes;
mod protocol;
#[cfg(any(windows, winpipe_sim, test))]
#[cfg_attr(
    not(windows),
    allow(dead_code, reason = "only the Windows half connects and binds")
)]
mod sid;
#[cfg(any(windows, winpipe_sim))]
#[cfg_attr(
    winpipe_sim,
    allow(dead_code, reason = "only Windows hands handles over")
)]
mod stream;
#[allow(unsafe_code, reason = "the system's calls")]
mod sys;
#[cfg(any(windows, winpipe_sim))]
mod wait;

/// The examples of the README run as tests.
#[cfg(all(doctest, windows))]
#[doc = include_str!("../README.md")]
struct Readme;
