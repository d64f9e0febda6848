//! `Listener`: tokio's or ours, with what a daemon needs besides.

use std::io;
use std::task::{Context, Poll};

use crate::ipc::listener::Listener as Blocking;
use crate::ipc::system::tokio::{self as system, Address, Listening, Stream};

/// A socket or pipe that listens for clients: tokio's `UnixListener` on Unix,
/// `winpipe::tokio::WinListener` on Windows.
///
/// They go in by [`From`] and come out by [`Into`]. Beyond them this has [`shutdown`](Self::shutdown),
/// and on Unix it removes its file when it's dropped, as [`ipc::Listener`](Blocking) does.
///
/// # Examples
/// ```
/// use tokio::io::AsyncReadExt;
/// use winpipe::ipc;
/// use winpipe::ipc::tokio::{bind, connect};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// # let name = format!("winpipe-doc-async-listener-{}", std::process::id());
/// let path = ipc::path(&name)?;
/// let listener = bind(&path)?;
/// drop(connect(&path).await?);
/// let (mut stream, _) = listener.accept().await?;
/// assert_eq!(stream.read(&mut [0; 8]).await?, 0);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Listener(Listening);

impl Listener {
    /// Creates an async listener from a blocking one. Its clones stay usable, but on Windows they
    /// become nonblocking.
    ///
    /// # Errors
    /// Those of tokio, which adds a socket to its event queue. The socket's file is removed then.
    ///
    /// # Panics
    /// On Unix, outside a runtime of tokio with I/O.
    ///
    /// # Examples
    /// ```
    /// use winpipe::ipc::{self, tokio::Listener};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// # let name = format!("winpipe-doc-async-from-{}", std::process::id());
    /// let blocking = ipc::ListenOptions::new().backlog(16).bind(ipc::path(&name)?)?;
    /// let listener = Listener::from_std(blocking)?;
    /// # Ok(()) }
    /// ```
    pub fn from_std(listener: Blocking) -> io::Result<Listener> {
        Listening::from_blocking(listener.into_listening()).map(Listener)
    }

    /// Turns the listener into a blocking one. Clients that have connected stay connected.
    ///
    /// # Errors
    /// Those of tokio, which removes a socket from its event queue.
    ///
    /// # Examples
    /// ```
    /// use winpipe::ipc::{self, tokio::bind};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// # let name = format!("winpipe-doc-async-into-{}", std::process::id());
    /// let path = ipc::path(&name)?;
    /// let listener = bind(&path)?.into_std()?;
    /// let client = ipc::connect(&path)?;
    /// let (stream, _) = listener.accept()?;
    /// # Ok(()) }
    /// ```
    pub fn into_std(self) -> io::Result<Blocking> {
        self.0.into_blocking().map(Blocking::new)
    }

    /// Accepts the next client, or waits for one. Any number of tasks can wait.
    ///
    /// # Errors
    /// - [`ConnectionAborted`](io::ErrorKind::ConnectionAborted): the listener was
    ///   [shut down](Self::shutdown). A client that left before it was accepted isn't an error.
    /// - Any other error of the system, such as too many open files. The next call may succeed.
    ///
    /// # Cancel safety
    /// If the future is dropped, no client was accepted, and none is lost.
    pub async fn accept(&self) -> io::Result<(Stream, Address)> {
        self.0.accept().await
    }

    /// Polls for [`accept`](Self::accept). Only the task that calls this last is woken.
    ///
    /// # Errors
    /// Those of [`accept`](Self::accept).
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, Address)>> {
        self.0.poll_accept(cx)
    }

    /// Ends every call of [`accept`](Self::accept), now and later, and refuses the clients that wait.
    /// Accepted streams go on. This is [`ipc::Listener::shutdown`](Blocking::shutdown), which also works on a blocking
    /// clone.
    ///
    /// # Errors
    /// None that is known.
    ///
    /// # Examples
    /// ```
    /// use std::sync::Arc;
    /// use winpipe::ipc::{self, tokio::bind};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// # let name = format!("winpipe-doc-async-shutdown-{}", std::process::id());
    /// let listener = Arc::new(bind(ipc::path(&name)?)?);
    /// let accepting = Arc::clone(&listener);
    /// let task = tokio::spawn(async move { accepting.accept().await });
    /// listener.shutdown()?;
    /// let error = task.await?.unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
    /// # Ok(()) }
    /// ```
    pub fn shutdown(&self) -> io::Result<()> {
        self.0.shutdown()
    }

    /// Returns the address that the listener was bound to.
    ///
    /// # Errors
    /// Any error of the system.
    pub fn local_addr(&self) -> io::Result<Address> {
        self.0.local_addr()
    }

    /// Returns the value of the `SO_ERROR` option on Unix, and `None` on Windows.
    ///
    /// # Errors
    /// Any error of the system.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.0.take_error()
    }

    /// Whether it was shut down.
    #[cfg(any(feature = "axum08", feature = "tonic014"))]
    pub(crate) fn is_ended(&self) -> bool {
        self.0.is_ended()
    }
}

/// Converts as [`from_std`](Listener::from_std) does.
impl TryFrom<Blocking> for Listener {
    type Error = io::Error;

    fn try_from(listener: Blocking) -> io::Result<Listener> {
        Listener::from_std(listener)
    }
}

/// A listener of tokio's or ours. On Unix its file isn't removed.
impl From<system::Listener> for Listener {
    fn from(listener: system::Listener) -> Listener {
        Listener(Listening::from(listener))
    }
}

/// Gives tokio's listener or ours back. On Unix its file stays, as tokio's do.
impl From<Listener> for system::Listener {
    fn from(listener: Listener) -> system::Listener {
        listener.0.into_inner()
    }
}

#[cfg(unix)]
impl std::os::fd::AsFd for Listener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(unix)]
impl std::os::fd::AsRawFd for Listener {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsFd::as_fd(self).as_raw_fd()
    }
}
