//! The async `WinListener`.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::task::coop::poll_proceed;

use crate::addr::WinPipeSocketAddr;
use crate::listener::WinListener as Std;
use crate::options::ListenOptions;
use crate::sys::record;
use crate::tokio::accept::{Accepting, Next};
use crate::tokio::port::Waiter;
use crate::tokio::stream::WinStream;

/// A named pipe that listens for clients: `tokio::net::UnixListener` for Windows.
///
/// It has the methods of tokio's type, and they behave as they do there. The backlog, the access
/// and the end of a listener are those of [the blocking one](crate::WinListener).
///
/// # On Unix
/// The differences of [the blocking listener](crate::WinListener#on-unix).
///
/// # Examples
/// ```no_run
/// use tokio::io::AsyncWriteExt;
/// use winpipe::tokio::WinListener;
///
/// # async fn serve() -> std::io::Result<()> {
/// let listener = WinListener::bind(r"\\.\pipe\my-app")?;
/// loop {
///     let (mut stream, _) = listener.accept().await?;
///     tokio::spawn(async move { stream.write_all(b"hello").await });
/// }
/// # }
/// ```
pub struct WinListener {
    inner: Std,
    waiter: Waiter,
}

impl WinListener {
    /// Creates a listener on the pipe at the given path, as [the blocking `bind`](Std::bind) does.
    ///
    /// # Errors
    /// Those of [the blocking `bind`](Std::bind).
    ///
    /// # Examples
    /// ```
    /// use winpipe::tokio::WinListener;
    ///
    /// # let path = format!(r"\\.\pipe\winpipe-doc-async-bind-{}", std::process::id());
    /// let listener = WinListener::bind(path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<WinListener> {
        WinListener::from_std(Std::bind(path)?)
    }

    /// Creates a listener on the pipe at the given address, as [`bind`](Self::bind) does.
    ///
    /// # Errors
    /// Those of [the blocking `bind_addr`](Std::bind_addr).
    ///
    /// # Examples
    /// ```
    /// use winpipe::WinPipeSocketAddr;
    /// use winpipe::tokio::WinListener;
    ///
    /// # let path = format!(r"\\.\pipe\winpipe-doc-async-bind-addr-{}", std::process::id());
    /// let addr = WinPipeSocketAddr::from_pathname(&path)?;
    /// let listener = WinListener::bind_addr(&addr)?;
    /// assert_eq!(listener.local_addr()?.as_pathname(), addr.as_pathname());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bind_addr(socket_addr: &WinPipeSocketAddr) -> io::Result<WinListener> {
        WinListener::from_std(Std::bind_addr(socket_addr)?)
    }

    /// Creates a listener on the pipe at the given path according to the options, as
    /// [`ListenOptions::bind`] does.
    ///
    /// # Errors
    /// Those of [`ListenOptions::bind`].
    ///
    /// # Examples
    /// ```
    /// use winpipe::tokio::WinListener;
    /// use winpipe::{Access, ListenOptions};
    ///
    /// # let path = format!(r"\\.\pipe\winpipe-doc-async-bind-with-{}", std::process::id());
    /// let mut options = ListenOptions::new();
    /// options.access(Access::AUTHENTICATED_USERS);
    /// let listener = WinListener::bind_with(path, &options)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bind_with<P: AsRef<Path>>(path: P, options: &ListenOptions) -> io::Result<WinListener> {
        WinListener::from_std(options.bind(path)?)
    }

    /// Creates a listener on the pipe at the given address according to the options, as
    /// [`bind_with`](Self::bind_with) does.
    ///
    /// # Errors
    /// Those of [`ListenOptions::bind_addr`].
    ///
    /// # Examples
    /// See [`bind_with`](Self::bind_with).
    pub fn bind_addr_with(
        socket_addr: &WinPipeSocketAddr,
        options: &ListenOptions,
    ) -> io::Result<WinListener> {
        WinListener::from_std(options.bind_addr(socket_addr)?)
    }

    /// Creates an async listener from a blocking one. This sets the listener and its clones to
    /// nonblocking.
    ///
    /// # Errors
    /// None. The result is there because tokio's method returns one.
    ///
    /// # On Unix
    /// tokio's call doesn't set the listener to nonblocking, and needs a runtime.
    ///
    /// # Examples
    /// ```
    /// # let path = format!(r"\\.\pipe\winpipe-doc-async-from-{}", std::process::id());
    /// let listener = winpipe::WinListener::bind(path)?;
    /// let listener = winpipe::tokio::WinListener::from_std(listener)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn from_std(listener: Std) -> io::Result<WinListener> {
        listener.set_nonblocking(true)?;
        Ok(WinListener {
            inner: listener,
            waiter: Waiter::new(),
        })
    }

    /// Turns the listener into a blocking one, which is set to nonblocking. Clients that have
    /// connected stay connected.
    ///
    /// # Errors
    /// None. The result is there because tokio's method returns one.
    ///
    /// # Examples
    /// ```
    /// # let path = format!(r"\\.\pipe\winpipe-doc-async-into-{}", std::process::id());
    /// let listener = winpipe::tokio::WinListener::bind(path)?.into_std()?;
    /// listener.set_nonblocking(false)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn into_std(self) -> io::Result<Std> {
        // Dropping `self` cancels the request.
        self.inner.try_clone()
    }

    /// Accepts the next client, or waits for one, as [the blocking `accept`](Std::accept) does. Any
    /// number of tasks can wait.
    ///
    /// This corresponds to calling `NtQueryInformationFile`; then `ConnectNamedPipe`, if no client
    /// has connected yet; and `NtCreateNamedPipeFile`, to make room for another client before this
    /// returns.
    ///
    /// # Errors
    /// Those of [the blocking `accept`](Std::accept), except `WouldBlock`.
    ///
    /// # Cancel safety
    /// If the future is dropped, no client was accepted, and none is lost.
    ///
    /// # Examples
    /// ```
    /// use winpipe::tokio::{WinListener, WinStream};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// # let path = format!(r"\\.\pipe\winpipe-doc-async-accept-{}", std::process::id());
    /// let listener = WinListener::bind(&path)?;
    /// let client = WinStream::connect(&path).await?;
    /// let (stream, addr) = listener.accept().await?;
    /// assert!(addr.is_unnamed());
    /// # Ok(()) }
    /// ```
    pub async fn accept(&self) -> io::Result<(WinStream, WinPipeSocketAddr)> {
        let waiter = Waiter::new();
        let _waiting = Waiting(self.accepting(), waiter);
        poll_fn(|context| self.poll_accept_as(context, waiter)).await
    }

    /// Polls for [`accept`](Self::accept). Only the task that calls this last is woken.
    ///
    /// # Errors
    /// Those of [`accept`](Self::accept).
    pub fn poll_accept(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<(WinStream, WinPipeSocketAddr)>> {
        self.poll_accept_as(context, self.waiter)
    }

    fn poll_accept_as(
        &self,
        context: &mut Context<'_>,
        waiter: Waiter,
    ) -> Poll<io::Result<(WinStream, WinPipeSocketAddr)>> {
        let coop = ready!(poll_proceed(context));
        let _records = record::hold();
        loop {
            match self.inner.accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                accepted => {
                    coop.made_progress();
                    let (stream, addr) = accepted?;
                    return Poll::Ready(WinStream::from_std(stream).map(|stream| (stream, addr)));
                }
            }
            let waker = context.waker().clone();
            let next = self.inner.with_head(|instance, association| {
                self.accepting().wait(waiter, waker, instance, association)
            });
            // Without a head it was shut down, which `accept` reports.
            if next.transpose()? == Some(Next::Wait) {
                return Poll::Pending;
            }
        }
    }

    fn accepting(&self) -> &Arc<Accepting> {
        self.inner.accepting()
    }

    /// Returns the address that the listener was bound to.
    ///
    /// # Errors
    /// None. The result is there because tokio's method returns one.
    ///
    /// # Examples
    /// ```
    /// use winpipe::WinPipeSocketAddr;
    /// use winpipe::tokio::WinListener;
    ///
    /// # let path = format!(r"\\.\pipe\winpipe-doc-async-local-{}", std::process::id());
    /// let addr = WinPipeSocketAddr::from_pathname(&path)?;
    /// let listener = WinListener::bind_addr(&addr)?;
    /// assert_eq!(listener.local_addr()?.as_pathname(), Some(path.as_ref()));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn local_addr(&self) -> io::Result<WinPipeSocketAddr> {
        self.inner.local_addr()
    }

    /// Returns `None`: pipes don't store errors.
    ///
    /// # Errors
    /// None. The result is there because tokio's method returns one.
    ///
    /// # Examples
    /// ```
    /// use winpipe::WinPipeSocketAddr;
    /// use winpipe::tokio::WinListener;
    ///
    /// # let path = format!(r"\\.\pipe\winpipe-doc-async-error-{}", std::process::id());
    /// let addr = WinPipeSocketAddr::from_pathname(&path)?;
    /// let listener = WinListener::bind_addr(&addr)?;
    /// assert!(listener.take_error()?.is_none());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.inner.take_error()
    }

    /// Rejects clients on other computers, or lets them try to connect, as [the blocking
    /// `reject_remote`](Std::reject_remote) does.
    ///
    /// # Errors
    /// Those of [the blocking `reject_remote`](Std::reject_remote).
    ///
    /// # Examples
    /// ```
    /// use winpipe::WinPipeSocketAddr;
    /// use winpipe::tokio::WinListener;
    ///
    /// # let path = format!(r"\\.\pipe\winpipe-doc-async-remote-{}", std::process::id());
    /// let addr = WinPipeSocketAddr::from_pathname(&path)?;
    /// let listener = WinListener::bind_addr(&addr)?;
    /// listener.reject_remote(false)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn reject_remote(&self, reject_remote: bool) -> io::Result<()> {
        self.inner.reject_remote(reject_remote)
    }

    /// Shuts down the listener and its clones, as [the blocking `shutdown`](Std::shutdown) does.
    /// The tasks that wait in [`accept`](Self::accept) get
    /// [`ConnectionAborted`](io::ErrorKind::ConnectionAborted).
    ///
    /// # Errors
    /// None. The result leaves room for future errors.
    ///
    /// # On Unix
    /// There is no such call.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// # let path = format!(r"\\.\pipe\winpipe-doc-async-shutdown-{}", std::process::id());
    /// let listener = winpipe::tokio::WinListener::bind(path)?;
    /// listener.shutdown()?;
    /// let error = listener.accept().await.unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
    /// # Ok(()) }
    /// ```
    pub fn shutdown(&self) -> io::Result<()> {
        self.inner.shutdown()
    }

    /// Whether it was shut down.
    #[cfg(any(feature = "axum08", feature = "tonic014"))]
    pub(crate) fn is_ended(&self) -> bool {
        self.inner.is_ended()
    }
}

/// A call of `accept`, which waits no more when this is dropped.
struct Waiting<'a>(&'a Accepting, Waiter);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.remove(self.1);
    }
}

/// Cancels the request that may be in flight, as clones of the listener may go on.
impl Drop for WinListener {
    fn drop(&mut self) {
        let _records = record::hold();
        self.inner
            .with_head(|instance, _| self.accepting().cancel(instance));
    }
}

impl AsRef<WinListener> for WinListener {
    fn as_ref(&self) -> &WinListener {
        self
    }
}

/// Converts as [`from_std`](WinListener::from_std) does.
impl TryFrom<Std> for WinListener {
    type Error = io::Error;

    fn try_from(listener: Std) -> io::Result<WinListener> {
        WinListener::from_std(listener)
    }
}

impl fmt::Debug for WinListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
