//! [`ipc`](crate::ipc) for programs that use tokio: its own Unix sockets on Unix, the crate's
//! `winpipe::tokio` on Windows. Feature `tokio`.
//!
//! A [`Stream`] is tokio's `UnixStream` on Unix and `WinStream` on Windows, which has the same
//! methods. So everything that takes a stream of tokio takes it: codecs, hyper's `TokioIo`,
//! [`tokio::io::copy_bidirectional`]. What the functions check and promise is what those of
//! [`ipc`](crate::ipc) do: only this user's processes connect, a killed server's file is no
//! obstacle, errors have the same kinds.
//!
//! On Unix all this runs in the runtime of the caller, which needs I/O, and time where a call waits
//! for a server to appear or to have room. `winpipe::tokio` needs no runtime.
//!
//! # Frameworks
//! axum, tonic and others have traits of their own for listeners and streams. Features named after
//! their versions implement them:
//!
//! | feature | what it brings |
//! |---|---|
//! | `axum08` | `axum::serve(listener, app)`, and [`PeerInfo`] as the `ConnectInfo` of its handlers |
//! | `tonic014` | `serve_with_incoming(listener.into_stream())`, and [`PeerInfo::of`] a request |
//!
//! hyper needs none.
//!
//! [`PeerInfo`]: https://docs.rs/winpipe/latest/winpipe/ipc/tokio/struct.PeerInfo.html
//! [`PeerInfo::of`]: https://docs.rs/winpipe/latest/winpipe/ipc/tokio/struct.PeerInfo.html#method.of
//!
//! # Examples
//! ```
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use winpipe::ipc;
//! use winpipe::ipc::tokio::{bind, connect};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
//! # let name = format!("winpipe-doc-async-ipc-{}", std::process::id());
//! let path = ipc::path(&name)?;
//! let listener = bind(&path)?;
//! let server = tokio::spawn(async move {
//!     let (mut stream, _) = listener.accept().await?;
//!     let mut text = String::new();
//!     stream.read_to_string(&mut text).await?;
//!     stream.write_all(text.to_uppercase().as_bytes()).await?;
//!     stream.shutdown().await
//! });
//!
//! let mut stream = connect(&path).await?;
//! stream.write_all(b"hello").await?;
//! stream.shutdown().await?;
//! let mut answer = String::new();
//! stream.read_to_string(&mut answer).await?;
//! assert_eq!(answer, "HELLO");
//! server.await??;
//! # Ok(()) }
//! ```

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::ipc::binding::Attempt;
use crate::ipc::options::{ListenOptions, PATIENCE};
use crate::ipc::peer::PeerCred;
use crate::ipc::system;
use crate::ipc::system::tokio as asynchronous;
use crate::protocol::dialing::{Answer, Dialing, Step};

#[cfg(any(feature = "axum08", feature = "tonic014"))]
mod frameworks;
mod listener;

#[cfg(feature = "tonic014")]
pub use frameworks::Incoming;
#[cfg(any(feature = "axum08", feature = "tonic014"))]
pub use frameworks::PeerInfo;
pub use listener::Listener;

/// A connection: `tokio::net::UnixStream`.
#[cfg(unix)]
pub type Stream = ::tokio::net::UnixStream;
/// The address of one end: `tokio::net::unix::SocketAddr`.
#[cfg(unix)]
pub type SocketAddr = ::tokio::net::unix::SocketAddr;

/// A connection: [`winpipe::tokio::WinStream`](crate::tokio::WinStream).
#[cfg(windows)]
pub type Stream = crate::tokio::WinStream;
/// The address of one end: [`WinPipeSocketAddr`](crate::WinPipeSocketAddr).
#[cfg(windows)]
pub type SocketAddr = crate::addr::WinPipeSocketAddr;

impl Listener {
    /// Listens at the given path, as [`bind`] does.
    ///
    /// # Errors
    /// Those of [`bind`].
    ///
    /// # Panics
    /// On Unix, outside a runtime of tokio with I/O, as tokio's `bind` does.
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<Listener> {
        bind(path)
    }
}

/// Listens at the given path for the current user's clients, and no other user's, as
/// [`ipc::bind`](crate::ipc::bind()) does. It isn't `async`, as tokio's isn't.
///
/// # Errors
/// Those of [`ipc::bind`](crate::ipc::bind()).
///
/// # Panics
/// On Unix, outside a runtime of tokio with I/O.
///
/// # Examples
/// ```
/// use winpipe::ipc::{self, tokio::{bind, connect}};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// # let name = format!("winpipe-doc-async-bind-{}", std::process::id());
/// let path = ipc::path(&name)?;
/// let listener = bind(&path)?;
/// let (client, server) = tokio::join!(connect(&path), listener.accept());
/// # client?; server?;
/// # Ok(()) }
/// ```
pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<Listener> {
    bind_with(path, &ListenOptions::new())
}

/// Listens at the given path according to the options, as
/// [`ListenOptions::bind`](crate::ipc::ListenOptions::bind) does.
///
/// # Errors
/// Those of [`ListenOptions::bind`](crate::ipc::ListenOptions::bind).
///
/// # Panics
/// On Unix, outside a runtime of tokio with I/O.
///
/// # Examples
/// ```
/// use winpipe::ipc::{self, Access, ListenOptions, tokio::bind_with};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// # let name = format!("winpipe-doc-async-bind-with-{}", std::process::id());
/// let path = ipc::path(&name)?;
/// let listener = bind_with(path, ListenOptions::new().access(Access::Everyone))?;
/// # Ok(()) }
/// ```
pub fn bind_with<P: AsRef<Path>>(path: P, options: &ListenOptions) -> io::Result<Listener> {
    Listener::from_std(options.bind(path)?)
}

/// Connects to the current user's server at the given path, or to the system's, and to no other
/// user's, as [`ipc::connect`](crate::ipc::connect()) does.
///
/// # Errors
/// Those of [`ipc::connect`](crate::ipc::connect()).
///
/// # On Unix
/// tokio's `UnixStream::connect` fails if the backlog is full. This waits, as std's does: it tries
/// again every few milliseconds, as no event says that there is room.
///
/// # Panics
/// On Unix, outside a runtime of tokio with I/O, and if it has to wait, without time.
///
/// # Cancel safety
/// If the future is dropped, it hasn't connected.
///
/// # Examples
/// ```
/// use winpipe::ipc::{self, tokio::{bind, connect}};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// # let name = format!("winpipe-doc-async-connect-{}", std::process::id());
/// let path = ipc::path(&name)?;
/// assert!(ipc::is_not_running(&connect(&path).await.unwrap_err()));
/// let listener = bind(&path)?;
/// let stream = connect(&path).await?;
/// # Ok(()) }
/// ```
pub async fn connect<P: AsRef<Path>>(path: P) -> io::Result<Stream> {
    asynchronous::connect(path.as_ref()).await
}

/// Connects as [`connect`] does, and waits for the server to appear, and to have room in its
/// backlog, for at most this long. At least one attempt is made.
///
/// While there is no server, this tries again every few milliseconds.
///
/// # Errors
/// - [`TimedOut`](io::ErrorKind::TimedOut): the time has passed.
/// - The other errors of [`connect`], at once.
///
/// # Panics
/// On Unix, outside a runtime of tokio with I/O, and if it has to wait, without time.
///
/// # Cancel safety
/// If the future is dropped, it hasn't connected.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use winpipe::ipc::{self, tokio::connect_timeout};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// # let name = format!("winpipe-doc-async-timeout-{}", std::process::id());
/// let path = ipc::path(&name)?;
/// let error = connect_timeout(&path, Duration::from_millis(20)).await.unwrap_err();
/// assert!(ipc::is_timeout(&error));
/// # Ok(()) }
/// ```
pub async fn connect_timeout<P: AsRef<Path>>(path: P, timeout: Duration) -> io::Result<Stream> {
    asynchronous::connect_timeout(path.as_ref(), timeout).await
}

/// Connects to the server at the given path or, if there is none, becomes the server, as
/// [`ipc::connect_or_bind`](crate::ipc::connect_or_bind()) does.
///
/// # Errors
/// Those of [`ipc::connect_or_bind`](crate::ipc::connect_or_bind()).
///
/// # Panics
/// On Unix, outside a runtime of tokio with I/O, and if it has to wait, without time.
///
/// # Cancel safety
/// If the future is dropped, it has neither connected nor bound.
///
/// # Examples
/// ```
/// use winpipe::ipc::{self, tokio::{ConnectOrBind, connect_or_bind}};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// # let name = format!("winpipe-doc-async-connect-or-bind-{}", std::process::id());
/// match connect_or_bind(ipc::path(&name)?).await? {
///     ConnectOrBind::Connected(stream) => println!("somebody does it: {stream:?}"),
///     ConnectOrBind::Bound(listener) => println!("I do it, at {:?}", listener.local_addr()?),
/// }
/// # Ok(()) }
/// ```
pub async fn connect_or_bind<P: AsRef<Path>>(path: P) -> io::Result<ConnectOrBind> {
    connect_or_bind_with(path, &ListenOptions::new()).await
}

/// Connects, or binds according to the options, as [`connect_or_bind`] does.
///
/// # Errors
/// Those of [`ListenOptions::connect_or_bind`](crate::ipc::ListenOptions::connect_or_bind).
///
/// # Panics
/// As [`connect_or_bind`].
///
/// # Cancel safety
/// If the future is dropped, it has neither connected nor bound.
pub async fn connect_or_bind_with<P: AsRef<Path>>(
    path: P,
    options: &ListenOptions,
) -> io::Result<ConnectOrBind> {
    let path = path.as_ref();
    options.check()?;
    let deadline = Instant::now() + PATIENCE;
    let mut dialing = Dialing::new(true);
    loop {
        match connect(path).await {
            Ok(stream) => return Ok(ConnectOrBind::Connected(stream)),
            Err(error) if system::is_not_running(&error) => {}
            // It may have ended while this waited for it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                if exists(path)? {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
        let taken = match options.attempt(path)? {
            Attempt::Bound(listener) => {
                return Listener::from_std(listener).map(ConnectOrBind::Bound);
            }
            Attempt::Taken(error) => error,
        };
        // Another was first, and can be connected to now.
        let left = deadline.saturating_duration_since(Instant::now());
        match dialing.next(Answer::Missing, left) {
            Step::Pause(time) => asynchronous::pause(time).await?,
            _ => return Err(taken),
        }
    }
}

/// What [`connect_or_bind`] became.
#[derive(Debug)]
pub enum ConnectOrBind {
    /// A client of the server that is there.
    Connected(Stream),
    /// The server.
    Bound(Listener),
}

/// Returns whether a server is at the given path. The server doesn't notice. This is
/// [`ipc::exists`](crate::ipc::exists()), which doesn't wait.
///
/// # Errors
/// Those of [`ipc::exists`](crate::ipc::exists()).
///
/// # Examples
/// ```
/// use winpipe::ipc;
///
/// # let name = format!("winpipe-doc-async-exists-{}", std::process::id());
/// assert!(!ipc::tokio::exists(ipc::path(&name)?)?);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn exists<P: AsRef<Path>>(path: P) -> io::Result<bool> {
    system::exists(path.as_ref())
}

/// Returns what the system knows about the process at the other end, as
/// [`ipc::peer_cred`](crate::ipc::peer_cred()) does. It doesn't wait.
///
/// # Errors
/// Those of [`ipc::peer_cred`](crate::ipc::peer_cred()).
///
/// # Examples
/// ```
/// use winpipe::ipc::tokio::{Stream, peer_cred};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let (_server, client) = Stream::pair()?;
/// assert_eq!(peer_cred(&client)?.pid(), Some(std::process::id()));
/// # Ok(()) }
/// ```
pub fn peer_cred(stream: &Stream) -> io::Result<PeerCred> {
    asynchronous::peer_cred(stream).map(PeerCred::from)
}
