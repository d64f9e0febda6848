//! The facade on Windows: this crate's own types.

#[cfg(all(feature = "tokio", not(winpipe_sim)))]
pub(crate) mod tokio;

use std::io;
use std::path::{Path, PathBuf};
#[cfg(not(winpipe_sim))]
use std::process::Stdio;
use std::time::Duration;

use crate::access::{Access, Server};
use crate::account;
use crate::addr::WinPipeSocketAddr;
use crate::ipc::binding::{self, Attempt, Wanted};
use crate::listener::WinListener;
use crate::options::{ConnectOptions, ListenOptions};
use crate::peer::PeerCred;
use crate::sid::Sid;
use crate::stream::WinStream;
use crate::sys::error::{Code, Doing};
use crate::sys::pipe;
use crate::sys::record;
use crate::sys::text::wide;

pub(crate) type Stream = WinStream;
pub(crate) type Listener = WinListener;
pub(crate) type Address = WinPipeSocketAddr;

/// Returns the current user's path for a plain name.
pub(crate) fn path(name: &str) -> io::Result<PathBuf> {
    let sid = Sid::current_user()?;
    pipe_named(&format!("{name}-{sid}"))
}

/// Returns the machine's path for a plain name.
pub(crate) fn system_path(name: &str) -> io::Result<PathBuf> {
    pipe_named(name)
}

fn pipe_named(name: &str) -> io::Result<PathBuf> {
    let path = PathBuf::from(format!(r"\\.\pipe\{name}"));
    WinPipeSocketAddr::from_pathname(&path)?;
    Ok(path)
}

/// A listener.
#[derive(Debug)]
pub(crate) struct Listening(WinListener);

impl Listening {
    pub(crate) fn bind(path: &Path, wanted: Wanted) -> io::Result<Attempt<Listening>> {
        let mut options = ListenOptions::new();
        options.backlog(wanted.backlog);
        if wanted.everyone {
            options.access(Access::AUTHENTICATED_USERS.never_remote());
        }
        match options.bind(path) {
            Ok(listener) => Ok(Attempt::Bound(Listening(listener))),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(Attempt::Taken(error)),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn accept(
        &self,
        limit: Option<Duration>,
    ) -> io::Result<(WinStream, WinPipeSocketAddr)> {
        match limit {
            None => self.0.accept(),
            Some(limit) => self.0.accept_timeout(limit),
        }
    }

    pub(crate) fn shutdown(&self) -> io::Result<()> {
        self.0.shutdown()
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.0.is_ended()
    }

    pub(crate) fn try_clone(&self) -> io::Result<Listening> {
        self.0.try_clone().map(Listening)
    }

    pub(crate) fn local_addr(&self) -> io::Result<WinPipeSocketAddr> {
        self.0.local_addr()
    }

    pub(crate) fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.0.set_nonblocking(nonblocking)
    }

    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.0.take_error()
    }

    pub(crate) fn into_inner(self) -> WinListener {
        self.0
    }
}

impl From<WinListener> for Listening {
    fn from(listener: WinListener) -> Listening {
        Listening(listener)
    }
}

/// Connects to a server of this user's, or of the system's.
pub(crate) fn connect(path: &Path) -> io::Result<WinStream> {
    let stream = ConnectOptions::new().connect(path)?;
    expect(&stream)?;
    Ok(stream)
}

/// Connects, and waits for the server to appear and to have room.
pub(crate) fn connect_timeout(path: &Path, timeout: Duration) -> io::Result<WinStream> {
    let mut options = ConnectOptions::new();
    options.timeout(timeout).wait_for_server(true);
    let stream = options.connect(path).map_err(timed_out)?;
    expect(&stream)?;
    Ok(stream)
}

/// The error of a call that waited for the server until its time had passed.
fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => io::Error::new(io::ErrorKind::TimedOut, error),
        _ => error,
    }
}

/// Refuses a pipe that another user has created. The server can only have identified this client
/// yet, as the default options say.
fn expect(stream: &WinStream) -> io::Result<()> {
    account::expect(&stream.pipe, Server::CurrentUser).or_else(|error| {
        // Like root on Unix, it's trusted in any case.
        account::expect(&stream.pipe, Server::System).map_err(|_| error)
    })
}

/// Whether an error of [`connect`] says that no server is there.
pub(crate) fn is_not_running(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// Whether a pipe of this name is there. Its server doesn't notice.
pub(crate) fn exists(path: &Path) -> io::Result<bool> {
    let _records = record::hold();
    let addr = WinPipeSocketAddr::from_pathname(path)?;
    let path = addr.win32_path()?;
    // The shortest wait that isn't another one.
    match pipe::wait_named_pipe(&wide(&path), 2) {
        // An instance waits for a client, or all have one.
        Ok(()) | Err(Code::SEM_TIMEOUT) => Ok(true),
        Err(Code::FILE_NOT_FOUND) => Ok(is_listed(&path)),
        Err(code) => Err(code.explain(Doing::Connecting)),
    }
}

/// Whether the pipe is in the list of pipes. In containers the system can't wait for one, and says
/// that there is none.
#[cfg(all(windows, not(winpipe_sim)))]
fn is_listed(path: &str) -> bool {
    let Some(name) = path.strip_prefix(r"\\.\pipe\") else {
        return false;
    };
    let name = name.to_lowercase();
    crate::pipes::pipes().is_ok_and(|mut pipes| {
        pipes.any(|pipe| pipe.is_ok_and(|pipe| pipe.to_string_lossy().to_lowercase() == name))
    })
}

#[cfg(winpipe_sim)]
fn is_listed(_path: &str) -> bool {
    false
}

/// There is nothing to remove: a pipe is gone with its last handle.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match exists(path)? {
        false => Ok(()),
        true => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "a server is listening there, or its connections are still open",
        )),
    }
}

pub(crate) type UserId = Sid;
pub(crate) type Cred = binding::Cred<UserId>;

/// The user that this process acts as.
pub(crate) fn current_user() -> io::Result<UserId> {
    Sid::current_user()
}

/// Asks who the peer is. The system vouches for the user of a client, and for the owner of a pipe.
pub(crate) fn peer_cred(stream: &WinStream) -> io::Result<Cred> {
    let mut cred = client(&stream.peer_cred()?)?;
    if !stream.is_server()? {
        cred.is_same_user = account::expect(&stream.pipe, Server::CurrentUser).is_ok();
    }
    Ok(cred)
}

/// What is known of a server's peer.
fn client(cred: &PeerCred) -> io::Result<Cred> {
    let authenticated = cred.authenticated().map(|client| client.user);
    let hint = cred.unauthenticated_hint().map(|peer| peer.user);
    Ok(Cred {
        pid: Some(cred.pid()),
        authenticated,
        user: authenticated.or(hint),
        is_same_user: authenticated == Some(current_user()?),
    })
}

/// Returns a stream, and a child's stdin and stdout.
#[cfg(all(windows, not(winpipe_sim)))]
pub(crate) fn pair_for_child() -> io::Result<(WinStream, Stdio, Stdio)> {
    let (stream, child) = WinStream::for_child()?;
    Ok((stream, Stdio::from(child.stdin), Stdio::from(child.stdout)))
}
