//! Accepting: a wait that ends with a client, with the time, or with `shutdown`.
//!
//! The socket never blocks; what blocks is `poll`, which waits for the socket and for the wake-up
//! at once. So a client that vanishes between `poll` and `accept`, or that another thread accepts,
//! doesn't leave this thread in a call that `shutdown` can't end.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::Errno;

use crate::ipc::sockets::place::Place;
#[cfg(feature = "tokio")]
use crate::ipc::sockets::tasks::Tasks;
use crate::lock::unpoisoned;

/// A listener, and what its clones share.
#[derive(Debug)]
pub(crate) struct Listening {
    /// Dropped first: it removes the file, for which the socket must be open.
    shared: Arc<Shared>,
    socket: UnixListener,
}

pub(super) struct Shared {
    ended: AtomicBool,
    /// The tasks that wait for a client.
    #[cfg(feature = "tokio")]
    pub(super) tasks: Tasks,
    /// Whether `accept` may wait. The socket itself never does.
    nonblocking: AtomicBool,
    /// Whether this process has bound the socket, so that it may end it for everybody.
    is_own: bool,
    place: Mutex<Option<Place>>,
    /// Once somebody has waited: shutting down the first wakes those who wait for the second.
    wake: Mutex<Option<Arc<[UnixStream; 2]>>>,
}

impl Listening {
    /// A listener that removes its file in the end.
    pub(super) fn new(socket: UnixListener, place: Place) -> Listening {
        Listening::with(socket, Some(place))
    }

    fn with(socket: UnixListener, place: Option<Place>) -> Listening {
        let flags = fcntl_getfl(&socket).unwrap_or(OFlags::empty());
        // Fails only on what isn't open.
        let _ = socket.set_nonblocking(true);
        let shared = Shared::new(flags.contains(OFlags::NONBLOCK), place);
        Listening {
            shared: Arc::new(shared),
            socket,
        }
    }

    /// Gives the parts, for the async half.
    #[cfg(feature = "tokio")]
    pub(super) fn into_parts(self) -> (Arc<Shared>, UnixListener) {
        (self.shared, self.socket)
    }

    /// The reverse of [`into_parts`](Self::into_parts). The socket doesn't block.
    #[cfg(feature = "tokio")]
    pub(super) fn from_parts(shared: Arc<Shared>, socket: UnixListener) -> Listening {
        Listening { shared, socket }
    }

    /// Accepts a client, or waits for one; with a limit, at most that long.
    pub(crate) fn accept(&self, limit: Option<Duration>) -> io::Result<(UnixStream, SocketAddr)> {
        // A deadline that the clock can't represent means no deadline.
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        loop {
            if self.is_ended() {
                return Err(aborted());
            }
            match self.socket.accept() {
                Ok((stream, addr)) => {
                    // It has the listener's flag on some systems.
                    #[cfg(not(any(target_os = "linux", target_os = "android")))]
                    stream.set_nonblocking(false)?;
                    return Ok((stream, addr));
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {}
                    // A client that left before it was accepted, on some systems. Here this kind
                    // means something else.
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => continue,
                    _ if self.is_ended() => return Err(aborted()),
                    _ => return Err(error),
                },
            }
            if self.shared.nonblocking.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.wait(left)?;
        }
    }

    /// Waits for a client, for the end of the listener or for a signal, at most this long.
    fn wait(&self, limit: Option<Duration>) -> io::Result<()> {
        let wake = {
            let mut wake = unpoisoned(self.shared.wake.lock());
            match &*wake {
                Some(wake) => Arc::clone(wake),
                None => {
                    let (setter, waited_for) = UnixStream::pair()?;
                    Arc::clone(wake.insert(Arc::new([setter, waited_for])))
                }
            }
        };
        // `shutdown` sets the flag before it looks for the wake-up, which is there now.
        if self.is_ended() {
            return Ok(());
        }
        let mut events = [
            PollFd::new(&self.socket, PollFlags::IN),
            PollFd::new(&wake[1], PollFlags::IN),
        ];
        // A time that the system can't represent means no limit.
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        match poll(&mut events, limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Ends all calls of `accept`, and refuses the clients that wait.
    pub(crate) fn shutdown(&self) -> io::Result<()> {
        self.shared.shutdown(self.socket.as_fd())
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.shared.is_ended()
    }

    pub(crate) fn try_clone(&self) -> io::Result<Listening> {
        Ok(Listening {
            shared: Arc::clone(&self.shared),
            socket: self.socket.try_clone()?,
        })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(crate) fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        let shared = &self.shared;
        shared.nonblocking.store(nonblocking, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.socket.take_error()
    }

    /// Gives std's listener back. Its file stays, as std's do.
    pub(crate) fn into_inner(self) -> UnixListener {
        self.shared.keep_file();
        let nonblocking = self.shared.nonblocking.load(Ordering::Relaxed);
        let _ = self.socket.set_nonblocking(nonblocking);
        self.socket
    }
}

impl From<UnixListener> for Listening {
    fn from(socket: UnixListener) -> Listening {
        Listening::with(socket, None)
    }
}

impl AsFd for Listening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Shared {
    pub(super) fn new(nonblocking: bool, place: Option<Place>) -> Shared {
        Shared {
            ended: AtomicBool::new(false),
            #[cfg(feature = "tokio")]
            tasks: Tasks::default(),
            nonblocking: AtomicBool::new(nonblocking),
            is_own: place.is_some(),
            place: Mutex::new(place),
            wake: Mutex::new(None),
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Ends all calls of `accept` on this socket, and refuses the clients that wait.
    pub(super) fn shutdown(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        // Before any call of `accept` returns: what follows it may be the end of the process.
        self.clear();
        self.ended.store(true, Ordering::SeqCst);
        #[cfg(feature = "tokio")]
        self.tasks.wake();
        if let Some(wake) = &*unpoisoned(self.wake.lock()) {
            wake[0].shutdown(Shutdown::Both)?;
        }
        if self.is_own {
            // Linux refuses further clients, if there still are any without the file. Others can't.
            let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
            while rustix::net::accept(socket).is_ok() {}
        }
        Ok(())
    }

    /// Forgets the file: it stays.
    pub(super) fn keep_file(&self) {
        unpoisoned(self.place.lock()).take();
    }

    /// Removes the file, once. Another thread that calls this meanwhile waits until it's gone.
    fn clear(&self) {
        let mut place = unpoisoned(self.place.lock());
        if let Some(place) = place.take() {
            place.clear();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.clear();
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

pub(super) fn aborted() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "the listener has been shut down",
    )
}
