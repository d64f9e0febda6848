//! `Listener`: std's or ours, with what a daemon needs besides.

use std::io;
use std::iter::FusedIterator;
use std::time::Duration;

use crate::ipc::system::{self, Address, Listening, Stream};

/// A listener: std's `UnixListener` on Unix and [`WinListener`](https://docs.rs/winpipe/latest/winpipe/struct.WinListener.html) on Windows, and
/// besides [`accept_timeout`](Self::accept_timeout), [`shutdown`](Self::shutdown), and the removal
/// of its file.
///
/// `From` and `Into` convert from and to these types. A listener that was converted from std's
/// leaves the file alone, and so does the one that this is converted into.
///
/// When the last clone is dropped, also by a panic, clients can't connect any more. On Unix that
/// removes the socket's file, if it's still its own and not one that another process has put there.
///
/// The descriptor of a listener on Unix (`AsFd`) is nonblocking, whatever
/// [`set_nonblocking`](Self::set_nonblocking) says: it's there to wait for clients. Leave its flags
/// as they are.
///
/// # Examples
/// A server that ends when it's told to:
/// ```
/// use std::io::Write;
/// use winpipe::ipc;
///
/// # let name = format!("winpipe-doc-listener-{}", std::process::id());
/// let path = ipc::path(&name)?;
/// let listener = ipc::bind(&path)?;
/// let stopper = listener.try_clone()?;
/// let server = std::thread::spawn(move || {
///     for stream in listener.incoming() {
///         stream?.write_all(b"hello")?;
///     }
///     std::io::Result::Ok(())
/// });
/// let client = ipc::connect(&path)?;
/// stopper.shutdown()?;
/// server.join().unwrap()?;
/// assert!(!ipc::exists(&path)?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Listener(Listening);

impl Listener {
    /// Accepts the next client, or waits for one. Several threads can call this at once.
    ///
    /// On Unix this corresponds to calling `accept`, and `poll` if there is no client yet.
    ///
    /// # Errors
    /// - [`ConnectionAborted`](io::ErrorKind::ConnectionAborted): [`shutdown`](Self::shutdown) was
    ///   called. No other error has this kind.
    /// - [`WouldBlock`](io::ErrorKind::WouldBlock): no client has connected, and the listener is
    ///   nonblocking.
    /// - Errors of the system, such as when the process has too many files open. A later call may
    ///   succeed.
    ///
    /// # Examples
    /// ```
    /// use winpipe::ipc;
    ///
    /// # let name = format!("winpipe-doc-listener-accept-{}", std::process::id());
    /// let path = ipc::path(&name)?;
    /// let listener = ipc::bind(&path)?;
    /// let client = ipc::connect(&path)?;
    /// let (stream, _addr) = listener.accept()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn accept(&self) -> io::Result<(Stream, Address)> {
        self.0.accept(None)
    }

    /// Accepts the next client, or waits for one, but at most this long. With a timeout of zero it
    /// doesn't wait.
    ///
    /// # Errors
    /// Those of [`accept`](Self::accept), and [`TimedOut`](io::ErrorKind::TimedOut): no client has
    /// connected in this time.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use winpipe::ipc;
    ///
    /// # let name = format!("winpipe-doc-listener-timeout-{}", std::process::id());
    /// let listener = ipc::bind(ipc::path(&name)?)?;
    /// let error = listener.accept_timeout(Duration::from_millis(10)).unwrap_err();
    /// assert!(ipc::is_timeout(&error));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn accept_timeout(&self, timeout: Duration) -> io::Result<(Stream, Address)> {
        self.0.accept(Some(timeout))
    }

    /// Returns an iterator that accepts clients, and ends after [`shutdown`](Self::shutdown).
    ///
    /// # Examples
    /// ```
    /// use winpipe::ipc;
    ///
    /// # let name = format!("winpipe-doc-listener-incoming-{}", std::process::id());
    /// let listener = ipc::bind(ipc::path(&name)?)?;
    /// listener.shutdown()?;
    /// assert!(listener.incoming().next().is_none());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// Ends the listener and all its clones. Any thread can call this, such as the one on which a
    /// library for signals runs its handler.
    ///
    /// Calls of [`accept`](Self::accept), those that wait and later ones, fail with
    /// [`ConnectionAborted`](io::ErrorKind::ConnectionAborted). Clients that haven't been accepted
    /// yet are refused, and new ones get [`NotFound`](io::ErrorKind::NotFound). Accepted streams
    /// stay open. On Unix the socket's file is removed, if it's still its own, and the path is free
    /// from now on. On Windows the name is free when the accepted streams are dropped, too.
    ///
    /// A listener that was converted from std's wakes its own calls, and does nothing else: other
    /// processes may have that socket, too.
    ///
    /// # Errors
    /// None that are expected.
    ///
    /// # Examples
    /// ```
    /// use std::io::ErrorKind;
    /// use winpipe::ipc;
    ///
    /// # let name = format!("winpipe-doc-listener-shutdown-{}", std::process::id());
    /// let listener = ipc::bind(ipc::path(&name)?)?;
    /// std::thread::scope(|scope| {
    ///     let server = scope.spawn(|| listener.accept());
    ///     listener.shutdown()?;
    ///     let error = server.join().unwrap().unwrap_err();
    ///     assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    ///     Ok::<(), std::io::Error>(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn shutdown(&self) -> io::Result<()> {
        self.0.shutdown()
    }

    /// Creates another listener over the same socket or pipe. Both share everything.
    ///
    /// # Errors
    /// Errors of the system, such as when the process has too many files open.
    ///
    /// # Examples
    /// ```
    /// use winpipe::ipc;
    ///
    /// # let name = format!("winpipe-doc-listener-clone-{}", std::process::id());
    /// let listener = ipc::bind(ipc::path(&name)?)?;
    /// let clone = listener.try_clone()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_clone(&self) -> io::Result<Listener> {
        self.0.try_clone().map(Listener)
    }

    /// Returns the address that the listener was bound to.
    ///
    /// # Errors
    /// None that are expected.
    ///
    /// # Examples
    /// ```
    /// use winpipe::ipc;
    ///
    /// # let name = format!("winpipe-doc-listener-addr-{}", std::process::id());
    /// let path = ipc::path(&name)?;
    /// let listener = ipc::bind(&path)?;
    /// assert_eq!(listener.local_addr()?.as_pathname(), Some(path.as_ref()));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn local_addr(&self) -> io::Result<Address> {
        self.0.local_addr()
    }

    /// Makes `accept` fail with [`WouldBlock`](io::ErrorKind::WouldBlock) instead of waiting.
    /// Accepted streams wait, whatever is set here. Whether a call that is already waiting notices
    /// depends on the system.
    ///
    /// # Errors
    /// None that are expected.
    ///
    /// # Examples
    /// ```
    /// use std::io::ErrorKind;
    /// use winpipe::ipc;
    ///
    /// # let name = format!("winpipe-doc-listener-nonblocking-{}", std::process::id());
    /// let listener = ipc::bind(ipc::path(&name)?)?;
    /// listener.set_nonblocking(true)?;
    /// assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.0.set_nonblocking(nonblocking)
    }

    /// Returns the error that the socket has stored, and clears it. Pipes store none.
    ///
    /// # Errors
    /// None that are expected.
    ///
    /// # Examples
    /// ```
    /// use winpipe::ipc;
    ///
    /// # let name = format!("winpipe-doc-listener-error-{}", std::process::id());
    /// let listener = ipc::bind(ipc::path(&name)?)?;
    /// assert!(listener.take_error()?.is_none());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.0.take_error()
    }

    pub(crate) fn new(listening: Listening) -> Listener {
        Listener(listening)
    }

    #[cfg(all(feature = "tokio", not(winpipe_sim)))]
    pub(crate) fn into_listening(self) -> Listening {
        self.0
    }
}

/// The file, if there is one, stays when the listener is dropped. Std's own doesn't remove it
/// either.
impl From<system::Listener> for Listener {
    fn from(listener: system::Listener) -> Listener {
        Listener(Listening::from(listener))
    }
}

/// On Unix the socket's file stays from now on, as it does with std's listener, also when a clone
/// of this one is dropped.
impl From<Listener> for system::Listener {
    fn from(listener: Listener) -> system::Listener {
        listener.0.into_inner()
    }
}

#[cfg(all(unix, not(winpipe_sim)))]
impl std::os::fd::AsFd for Listener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(all(unix, not(winpipe_sim)))]
impl std::os::fd::AsRawFd for Listener {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsFd::as_fd(self).as_raw_fd()
    }
}

impl<'a> IntoIterator for &'a Listener {
    type Item = io::Result<Stream>;
    type IntoIter = Incoming<'a>;

    fn into_iter(self) -> Incoming<'a> {
        self.incoming()
    }
}

/// An iterator that accepts the clients of a [`Listener`], and ends after [`Listener::shutdown`].
///
/// This is returned by [`Listener::incoming`]. An error doesn't end it: a later client may be
/// accepted.
#[derive(Debug)]
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct Incoming<'a> {
    listener: &'a Listener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<Stream>;

    fn next(&mut self) -> Option<io::Result<Stream>> {
        match self.listener.accept() {
            Ok((stream, _)) => Some(Ok(stream)),
            Err(_) if self.listener.0.is_ended() => None,
            Err(error) => Some(Err(error)),
        }
    }
}

impl FusedIterator for Incoming<'_> {}
