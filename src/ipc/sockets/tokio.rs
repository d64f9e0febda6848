//! The async facade on Unix: tokio's sockets. Nothing is polled for clients, and no thread started.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use ::tokio::net::{UnixListener, UnixStream, unix::SocketAddr};

use crate::ipc::sockets::accept::{Listening as Blocking, Shared, aborted};
use crate::ipc::sockets::folder;
use crate::ipc::sockets::peer::{self, Cred};
use crate::protocol::dialing::{Answer, Dialing, Step};

pub(crate) type Stream = UnixStream;
pub(crate) type Listener = UnixListener;
pub(crate) type Address = SocketAddr;

/// A listener.
pub(crate) struct Listening {
    /// Dropped first: it removes the file, for which the socket must be open.
    shared: Arc<Shared>,
    socket: UnixListener,
}

impl Listening {
    pub(crate) fn from_blocking(listening: Blocking) -> io::Result<Listening> {
        let (shared, socket) = listening.into_parts();
        // If it fails, the socket is still open while the file is removed.
        let socket = UnixListener::from_std(socket)?;
        Ok(Listening { shared, socket })
    }

    pub(crate) fn into_blocking(self) -> io::Result<Blocking> {
        let socket = self.socket.into_std()?;
        Ok(Blocking::from_parts(self.shared, socket))
    }

    pub(crate) async fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        // From now on a shutdown wakes it, so none is missed before the look at the flag.
        let mut end = pin!(self.shared.tasks.accepting.notified());
        loop {
            let mut client = pin!(self.socket.accept());
            let accepted = poll_fn(|context| {
                if self.shared.is_ended() || end.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Err(aborted()));
                }
                client.as_mut().poll(context)
            });
            if let Some(accepted) = self.sift(accepted.await) {
                return accepted;
            }
        }
    }

    pub(crate) fn poll_accept(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<(UnixStream, SocketAddr)>> {
        // Before the look at the flag, so that no shutdown is missed.
        self.shared.tasks.poll(context);
        loop {
            if self.shared.is_ended() {
                return Poll::Ready(Err(aborted()));
            }
            let accepted = ready!(self.socket.poll_accept(context));
            if let Some(accepted) = self.sift(accepted) {
                return Poll::Ready(accepted);
            }
        }
    }

    /// What to return, if this isn't a client that left before it was accepted, on some systems.
    /// Here that kind means something else.
    fn sift<T>(&self, accepted: io::Result<T>) -> Option<io::Result<T>> {
        match accepted {
            Err(_) if self.shared.is_ended() => Some(Err(aborted())),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => None,
            accepted => Some(accepted),
        }
    }

    pub(crate) fn shutdown(&self) -> io::Result<()> {
        self.shared.shutdown(self.socket.as_fd())
    }

    #[cfg(any(feature = "axum08", feature = "tonic014"))]
    pub(crate) fn is_ended(&self) -> bool {
        self.shared.is_ended()
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.socket.take_error()
    }

    /// Gives tokio's listener back. Its file stays, as tokio's do.
    pub(crate) fn into_inner(self) -> UnixListener {
        self.shared.keep_file();
        self.socket
    }
}

impl From<UnixListener> for Listening {
    fn from(socket: UnixListener) -> Listening {
        let shared = Arc::new(Shared::new(false, None));
        Listening { shared, socket }
    }
}

impl AsFd for Listening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.fmt(f)
    }
}

/// Connects to a server that only this user or root can have started. Waits while the backlog is
/// full, for which the system has no event.
pub(crate) async fn connect(path: &Path) -> io::Result<UnixStream> {
    let mut dialing = Dialing::new(false);
    loop {
        let error = match attempt(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => error,
            done => return done,
        };
        match dialing.next(Answer::CannotWait, Duration::MAX) {
            Step::Pause(time) => pause(time).await?,
            _ => return Err(error),
        }
    }
}

/// Connects, and waits for the server to appear and to have room.
pub(crate) async fn connect_timeout(path: &Path, timeout: Duration) -> io::Result<UnixStream> {
    let deadline = Instant::now().checked_add(timeout);
    let mut dialing = Dialing::new(true);
    loop {
        let error = match attempt(path).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        match error.kind() {
            io::ErrorKind::Interrupted => continue,
            io::ErrorKind::NotFound
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::WouldBlock => {}
            _ => return Err(error),
        }
        let left = deadline.map_or(Duration::MAX, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        match dialing.next(Answer::Missing, left) {
            Step::Pause(time) => pause(time).await?,
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "no server has accepted the connection in time: check that it's running",
                ));
            }
        }
    }
}

/// Tries once. `WouldBlock`: the backlog is full.
async fn attempt(path: &Path) -> io::Result<UnixStream> {
    folder::check(path, rustix::process::geteuid().as_raw())?;
    UnixStream::connect(path).await
}

/// Does nothing for this long.
pub(crate) async fn pause(time: Duration) -> io::Result<()> {
    ::tokio::time::sleep(time).await;
    Ok(())
}

pub(crate) fn peer_cred(stream: &UnixStream) -> io::Result<Cred> {
    peer::peer_cred(stream)
}

/// What tonic stored about the client of a request, if it came through a Unix socket.
#[cfg(feature = "tonic014")]
pub(crate) fn client_of(extensions: &tonic::Extensions) -> Option<Option<Cred>> {
    use tonic::transport::server::UdsConnectInfo;

    let info = extensions.get::<UdsConnectInfo>()?;
    Some(info.peer_cred.and_then(|cred| {
        let pid = cred.pid().and_then(|pid| u32::try_from(pid).ok());
        peer::known(cred.uid(), pid).ok()
    }))
}
