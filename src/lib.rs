//! UnixStream for Windows: named pipes with the API *and the behaviour* of `std::os::unix::net`.
//!
//! A server that answers in capitals, and a client, in one program. It uses a named pipe on
//! Windows, and a Unix socket on Unix:
//!
//! ```
//! use std::io::{self, Read, Write};
//! use std::net::Shutdown;
//! use std::thread;
//! use winpipe::ipc;
//!
//! fn main() -> io::Result<()> {
//!     // A path for this user alone: `\\.\pipe\…`, or a socket in `$XDG_RUNTIME_DIR`.
//!     let path = ipc::path("shout")?;
//! #   let path = ipc::path(&format!("winpipe-doc-crate-{}", std::process::id()))?;
//!
//!     // From now on clients can connect, but only this user's.
//!     let listener = ipc::bind(&path)?;
//!     let server = thread::spawn(move || -> io::Result<()> {
//!         let (mut client, _) = listener.accept()?;
//!         let mut text = String::new();
//!         client.read_to_string(&mut text)?;
//!         client.write_all(text.to_uppercase().as_bytes())
//!     });
//!
//!     // Fails if the server isn't this user's.
//!     let mut stream = ipc::connect(&path)?;
//!     stream.write_all(b"hello")?;
//!     // The server reads the end, and can still answer.
//!     stream.shutdown(Shutdown::Write)?;
//!     let mut answer = String::new();
//!     stream.read_to_string(&mut answer)?;
//!     assert_eq!(answer, "HELLO");
//!
//!     server.join().expect("the server panicked")
//! }
//! ```
//!
//! [`ipc`] is one API for every platform: on Unix over std's types, on Windows over those of this
//! crate. The types of this crate correspond to those of std:
//!
//! | `std::os::unix::net` | here |
//! |---|---|
//! | `UnixStream` | [`WinStream`] |
//! | `UnixListener` | [`WinListener`] |
//! | `SocketAddr` | [`WinPipeSocketAddr`] |
//! | `Incoming` | [`WinIncoming`] |
//!
//! Beyond std, [`ListenOptions`] set which users can connect (an [`Access`]), [`ConnectOptions`]
//! set which server a client expects, and [`PeerCred`] has what Windows knows about the peer.
//!
//! # Guarantees
//! - A stream carries bytes in both directions at once, from any number of threads. No byte is lost
//!   or sent twice, even with timeouts, nonblocking mode and shutdown, as long as the peer reads by
//!   message, as the streams of this crate do.
//! - Bytes that were written arrive, even if the stream is dropped immediately afterwards.
//! - After `shutdown(Write)` the peer reads the end, and can still answer.
//! - Clients can connect as soon as `bind` has returned, and are accepted in order.
//! - Only the current user's processes on this computer can connect, unless the program chooses
//!   otherwise.
//! - There are no threads, except one if the feature `tokio` is used. Reads and writes allocate no
//!   memory, after the first of a thread.
//!
//! Differences from Unix are described in the "On Unix" section of each item. In the repository
//! there are also [what people fall into][traps], [porting] from other crates, a [comparison] with
//! them, and the [threats][security] that are defended against, with recipes.
//!
//! [traps]: https://docs.rs/crate/winpipe/latest/source/docs/TRAPS.md
//! [porting]: https://docs.rs/crate/winpipe/latest/source/docs/PORTING.md
//! [comparison]: https://docs.rs/crate/winpipe/latest/source/docs/COMPARE.md
//! [security]: https://docs.rs/crate/winpipe/latest/source/SECURITY.md
//!
//! # Features
//! `log` (on by default; `logging` is the same): every system call writes one `log::trace!` record
//! with its name, arguments and result, under the target `winpipe`. The records of a call are
//! written when it returns, and the records of calls under `Impersonated` when that is dropped. So
//! a logger never runs under a lock of this crate or as a client, and can itself use the crate,
//! even the same streams and listeners. Its own calls write no records. If the logger panics, the
//! panic hook reports that, and the call returns its result.
//!
//! `tokio`: on Windows, the module [`tokio`], with async streams and listeners that have the API and
//! the behaviour of `tokio::net::UnixStream` and `UnixListener`. It needs tokio's feature `rt` and
//! nothing of its `net`. Use it in programs that run on tokio, and the types of this page elsewhere.
//! On every platform, `ipc::tokio`, which is one source for both: tokio's own sockets on Unix.
//!
//! `axum08` and `tonic014`, named after these frameworks' versions, let their servers listen on what
//! `ipc::tokio` binds. Both turn `tokio` on.
//!
// On other platforms these link to the docs for Windows.
#![cfg_attr(
    not(windows),
    doc = "
[`Access`]: https://docs.rs/winpipe/latest/winpipe/struct.Access.html
[`ConnectOptions`]: https://docs.rs/winpipe/latest/winpipe/struct.ConnectOptions.html
[`Impersonated`]: https://docs.rs/winpipe/latest/winpipe/struct.Impersonated.html
[`ListenOptions`]: https://docs.rs/winpipe/latest/winpipe/struct.ListenOptions.html
[`PeerCred`]: https://docs.rs/winpipe/latest/winpipe/struct.PeerCred.html
[`WinIncoming`]: https://docs.rs/winpipe/latest/winpipe/struct.WinIncoming.html
[`WinListener`]: https://docs.rs/winpipe/latest/winpipe/struct.WinListener.html
[`WinStream`]: https://docs.rs/winpipe/latest/winpipe/struct.WinStream.html
[`tokio`]: https://docs.rs/winpipe/latest/x86_64-pc-windows-msvc/winpipe/tokio/index.html
"
)]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(docsrs, doc(auto_cfg(hide(winpipe_sim))))]
#![deny(unsafe_code)]
// clippy.toml lists them. Tests may use them.
#![cfg_attr(not(test), deny(clippy::disallowed_types, clippy::disallowed_methods))]
#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::panic,
        clippy::print_stderr,
        clippy::print_stdout,
        clippy::unwrap_used
    )
)]

#[cfg(any(windows, winpipe_sim))]
pub use access::{Access, Impersonation, Server};
pub use addr::WinPipeSocketAddr;
#[cfg(any(windows, winpipe_sim))]
pub use listener::{WinIncoming, WinListener};
#[cfg(any(windows, winpipe_sim))]
pub use options::{ConnectOptions, ListenOptions};
#[cfg(any(windows, winpipe_sim))]
pub use peer::{Identity, Impersonated, PeerCred};
#[cfg(windows)]
pub use pipes::{Pipes, pipes};
#[cfg(any(windows, winpipe_sim))]
pub use sid::{Integrity, ParseSidError, Sid};
#[cfg(any(windows, winpipe_sim))]
pub use stream::WinStream;

// The docs list a type's methods in the order of these modules: constructors come first.

// Plain data: tested on every platform, used on Windows.
#[cfg(any(windows, winpipe_sim, test))]
#[cfg_attr(
    not(windows),
    allow(dead_code, reason = "only the Windows half connects and binds")
)]
mod access;
mod addr;
mod input;
#[cfg_attr(
    not(any(windows, winpipe_sim)),
    allow(dead_code, reason = "only listeners on Windows wait for a lock")
)]
mod lock;
#[cfg(any(windows, winpipe_sim))]
mod options;
#[cfg(any(windows, winpipe_sim, test))]
#[cfg_attr(
    not(windows),
    allow(dead_code, reason = "only the Windows half connects and binds")
)]
mod sid;

#[cfg(any(windows, winpipe_sim))]
mod listener;
#[cfg(any(windows, winpipe_sim))]
#[cfg_attr(
    winpipe_sim,
    allow(dead_code, reason = "only Windows hands handles over")
)]
mod stream;

// Further methods of streams, options and SIDs, and the list of pipes.
#[cfg(any(windows, winpipe_sim))]
mod account;
#[cfg(all(windows, not(winpipe_sim)))]
mod child;
#[cfg(any(windows, winpipe_sim))]
mod connect;
#[cfg(all(windows, not(winpipe_sim)))]
mod handle;
#[cfg(all(windows, not(winpipe_sim)))]
mod handoff;
#[cfg(any(windows, winpipe_sim))]
mod peer;
#[cfg(windows)]
mod pipes;

pub mod ipc;

#[cfg(all(windows, not(winpipe_sim), feature = "tokio"))]
pub mod tokio;

mod protocol;
#[allow(unsafe_code, clippy::disallowed_types, reason = "the system's calls")]
mod sys;
#[cfg(any(windows, winpipe_sim))]
mod wait;

/// Runs the examples of these documents as tests; the package `benches` runs those of PORTING.md.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../SECURITY.md")]
    struct Security;
}
