//! Std's names, on every platform: for programs that have them all over.
//!
//! On Unix these types *are* std's, and on Windows those of this crate with the same methods. So a
//! program is ported by one line:
//!
//! ```
//! // Before: use std::os::unix::net::{UnixListener, UnixStream};
//! use winpipe::ipc::unix::{UnixListener, UnixStream};
//!
//! let (one, other) = UnixStream::pair()?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! With these types a program must still do for itself what [`ipc`](crate::ipc) does: choose a path,
//! remove the file of a killed server, check the server's user, and end `accept`.

/// A connection: `std::os::unix::net::UnixStream`.
#[cfg(all(unix, not(winpipe_sim)))]
pub type UnixStream = std::os::unix::net::UnixStream;
/// A listener: `std::os::unix::net::UnixListener`.
#[cfg(all(unix, not(winpipe_sim)))]
pub type UnixListener = std::os::unix::net::UnixListener;
/// The address of one end: `std::os::unix::net::SocketAddr`.
#[cfg(all(unix, not(winpipe_sim)))]
pub type SocketAddr = std::os::unix::net::SocketAddr;
/// An endless iterator over the clients of a listener: `std::os::unix::net::Incoming`.
#[cfg(all(unix, not(winpipe_sim)))]
pub type Incoming<'a> = std::os::unix::net::Incoming<'a>;

/// A connection: [`WinStream`](https://docs.rs/winpipe/latest/winpipe/struct.WinStream.html).
#[cfg(any(windows, winpipe_sim))]
pub type UnixStream = crate::stream::WinStream;
/// A listener: [`WinListener`](https://docs.rs/winpipe/latest/winpipe/struct.WinListener.html).
#[cfg(any(windows, winpipe_sim))]
pub type UnixListener = crate::listener::WinListener;
/// The address of one end: [`WinPipeSocketAddr`](https://docs.rs/winpipe/latest/winpipe/struct.WinPipeSocketAddr.html).
#[cfg(any(windows, winpipe_sim))]
pub type SocketAddr = crate::addr::WinPipeSocketAddr;
/// An endless iterator over the clients of a listener: [`WinIncoming`](https://docs.rs/winpipe/latest/winpipe/struct.WinIncoming.html).
#[cfg(any(windows, winpipe_sim))]
pub type Incoming<'a> = crate::listener::WinIncoming<'a>;
