//! One API on every platform: Unix sockets on Unix, named pipes on Windows.
//!
//! A program that is written for this module needs no `cfg`. A [`Stream`] is std's `UnixStream` on
//! Unix and [`WinStream`](https://docs.rs/winpipe/latest/winpipe/struct.WinStream.html) on Windows, which has the same methods. A [`Listener`]
//! is a small type around std's listener or ours, which go in and out by `From`. Beside them there
//! is what a daemon and its command line need: a place to meet, one instance, a way to stop, the
//! peer's user. `examples/daemon.rs` uses most of it.
//!
//! | To | Use |
//! |---|---|
//! | choose a path | [`path`], [`system_path`] |
//! | listen, also where a server was killed | [`bind`], [`ListenOptions`], [`remove`] |
//! | run one instance | [`connect_or_bind`] |
//! | connect | [`connect`], [`connect_timeout`] |
//! | ask whether a server is there | [`exists`], [`is_not_running`] |
//! | wait and stop | [`Listener::accept_timeout`], [`Listener::shutdown`], [`is_timeout`] |
//! | know the peer | [`peer_cred`], [`PeerCred::is_same_user`] |
//! | talk to a child process | [`pair_for_child`] |
//! | port a program that uses std's names | [`unix`] |
//!
//! # Which process is at the other end
//! [`connect`] checks that the server belongs to the current user or to the system, and [`bind`]
//! that the clients do, on every platform. The stream type's own `Stream::connect` is what std's is
//! on Unix: a connection to any process that has created that socket or pipe. On Windows that can
//! be a process of any user of the computer. It only has to be the first to use the name, because
//! no directory protects the names in `\\.\pipe\`. It then receives what the client sends, and
//! learns the client's identity.
//!
//! # Errors
//! What happens has the same [`ErrorKind`](io::ErrorKind) everywhere, except where the table says
//! otherwise.
//!
//! | What happens | Unix | Windows |
//! |---|---|---|
//! | [`bind`]: a server is there | `AddrInUse` | `AddrInUse` |
//! | [`bind`]: something else is there | `AddrInUse` | – |
//! | [`bind`]: other users could put a socket there | `PermissionDenied` | – |
//! | [`connect`]: no server | `NotFound` | `NotFound` |
//! | [`connect`]: a server was killed | `ConnectionRefused` | `NotFound` |
//! | [`connect`]: the backlog is full | waits (Linux), `ConnectionRefused` (macOS, BSD) | waits for 1 s, then `ConnectionRefused` |
//! | [`connect`]: another user's server | `PermissionDenied` | `PermissionDenied` |
//! | [`connect_timeout`]: the time is up | `TimedOut` | `TimedOut` |
//! | [`accept`](Listener::accept) after [`shutdown`](Listener::shutdown) | `ConnectionAborted` | `ConnectionAborted` |
//! | [`accept_timeout`](Listener::accept_timeout): the time is up | `TimedOut` | `TimedOut` |
//! | a read or write: the time is up | `WouldBlock` | `TimedOut` |
//! | a nonblocking call would have to wait | `WouldBlock` | `WouldBlock` |
//! | a write to a peer that is gone | `BrokenPipe` | `BrokenPipe` |
//! | a read from a peer that left without reading everything | `ConnectionReset` (Linux), or the end | the end |
//! | a name or path that can't be one | `InvalidInput` | `InvalidInput` |
//!
//! [`is_not_running`] and [`is_timeout`] are for the rows that differ.
//!
//! # Examples
//! ```
//! use std::io::{Read, Write};
//! use winpipe::ipc;
//!
//! # let name = format!("winpipe-doc-{}", std::process::id());
//! let path = ipc::path(&name)?;
//! let listener = ipc::bind(&path)?;
//! let mut client = ipc::connect(&path)?;
//! client.write_all(b"hello")?;
//! drop(client);
//!
//! let mut text = String::new();
//! listener.accept()?.0.read_to_string(&mut text)?;
//! assert_eq!(text, "hello");
//! # Ok::<(), std::io::Error>(())
//! ```

// Each type is there on every platform, although each definition is for one.
#![cfg_attr(docsrs, doc(auto_cfg = false))]

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::input::{invalid, quote};

// What the platforms have.
mod binding;
#[cfg(any(windows, winpipe_sim))]
mod pipes;
#[cfg(all(unix, not(winpipe_sim)))]
mod sockets;
mod system;

// What users see.
#[cfg(not(winpipe_sim))]
mod child;
// The docs list `bind` first.
mod options;

mod listener;
mod peer;
#[cfg(all(feature = "tokio", not(winpipe_sim)))]
pub mod tokio;
pub mod unix;

#[cfg(not(winpipe_sim))]
pub use child::{ChildEnd, pair_for_child};
pub use listener::{Incoming, Listener};
pub use options::{Access, ConnectOrBind, ListenOptions};
pub use peer::{PeerCred, User, peer_cred};

/// A connection: `std::os::unix::net::UnixStream`.
#[cfg(all(unix, not(winpipe_sim)))]
pub type Stream = std::os::unix::net::UnixStream;
/// The address of one end: `std::os::unix::net::SocketAddr`.
#[cfg(all(unix, not(winpipe_sim)))]
pub type SocketAddr = std::os::unix::net::SocketAddr;

/// A connection: [`WinStream`](https://docs.rs/winpipe/latest/winpipe/struct.WinStream.html).
#[cfg(any(windows, winpipe_sim))]
pub type Stream = crate::stream::WinStream;
/// The address of one end: [`WinPipeSocketAddr`](https://docs.rs/winpipe/latest/winpipe/struct.WinPipeSocketAddr.html).
#[cfg(any(windows, winpipe_sim))]
pub type SocketAddr = crate::addr::WinPipeSocketAddr;

/// Returns the current user's path for a plain name, such as `"my-app"`.
///
/// Two programs of the same user get the same path for the same name; another user gets another
/// path. On Windows it's the pipe `\\.\pipe\my-app-SID`, where SID is the user's security
/// identifier. On Unix it's the socket `my-app.sock` in `$XDG_RUNTIME_DIR`. If that isn't set, the
/// socket is in the subdirectory `winpipe-UID` of the temporary directory, which is created if
/// necessary and belongs to this user alone.
///
/// On Windows the path is only a name: another user can create a pipe of that name first. Then
/// [`bind`] fails with [`AddrInUse`](io::ErrorKind::AddrInUse), and [`connect`] with
/// [`PermissionDenied`](io::ErrorKind::PermissionDenied).
///
/// On Windows 11 with Administrator Protection, "this user" isn't the person: an elevated program
/// runs as another account, which the system manages, with its own SID. So the elevated and the
/// other programs of a person get different paths, and [`bind`] doesn't let them connect to each
/// other. Where they must meet, use a name that both know, such as that of [`system_path`], a
/// [`winpipe::Access`](https://docs.rs/winpipe/latest/winpipe/struct.Access.html) with both accounts for the server, and
/// [`ConnectOptions::expect_server`](https://docs.rs/winpipe/latest/winpipe/struct.ConnectOptions.html#method.expect_server) for the client.
/// Similarly, on Unix, a program that `sudo` starts is root, and has root's path.
///
/// This function doesn't bind anything.
///
/// # Errors
/// - [`InvalidInput`](io::ErrorKind::InvalidInput): the name is empty, is `.` or `..`, or contains
///   a `/`, a `\` or a NUL; or the path would be longer than the system allows (256 UTF-16 units on
///   Windows, 107 bytes on Unix).
/// - [`PermissionDenied`](io::ErrorKind::PermissionDenied), on Unix: the subdirectory of the
///   temporary directory belongs to another user, or other users have access to it.
/// - Any error from creating that subdirectory, or from asking Windows for the current user.
///
/// # Examples
/// ```
/// let place = winpipe::ipc::path("my-app")?;
/// assert!(place.to_string_lossy().contains("my-app"));
/// assert!(winpipe::ipc::path("my/app").is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn path(name: &str) -> io::Result<PathBuf> {
    check_name(name)?;
    system::path(name)
}

/// Returns the machine's path for a plain name, such as `"my-service"`: for a service that all users
/// know.
///
/// On Windows it's the pipe `\\.\pipe\my-service`. Any user can create a pipe of that name, so start
/// the service before anybody else can, and let its clients use [`connect`], which accepts only a
/// server of the system (or of this user). On Unix it's the socket `my-service.sock` in `/run`, or
/// in `/var/run` where there is no `/run`. Only root can create a file there.
///
/// Which users can connect is up to [`ListenOptions::access`]. Without it only root can, or on
/// Windows the account of the service. With Administrator Protection on Windows 11, an elevated
/// program is another user than the person who started it: see [`path`].
///
/// # Errors
/// [`InvalidInput`](io::ErrorKind::InvalidInput): as for [`path`].
///
/// # Examples
/// ```
/// let place = winpipe::ipc::system_path("my-service")?;
/// assert!(place.to_string_lossy().contains("my-service"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn system_path(name: &str) -> io::Result<PathBuf> {
    check_name(name)?;
    system::system_path(name)
}

/// Connects to the current user's server at the given path, or to the system's, and to no other
/// user's.
///
/// On Unix only this user and root may be able to create a socket there: other users must not have
/// write access to the path's directory, nor to any directory above it, unless it's sticky, as
/// `/tmp` is. A directory that belongs to another user isn't accepted either. On Windows this
/// checks which user created the pipe, before any byte is sent, as `ConnectOptions::expect_server`
/// does for `Server::CurrentUser` and for `Server::System`.
///
/// # Errors
/// - [`NotFound`](io::ErrorKind::NotFound): there is no server. After a server was killed, on Unix,
///   [`ConnectionRefused`](io::ErrorKind::ConnectionRefused). [`is_not_running`] tells.
/// - [`PermissionDenied`](io::ErrorKind::PermissionDenied): another user created the pipe, or could
///   have created the socket.
/// - Those of `Stream::connect`.
///
/// # Examples
/// ```
/// use winpipe::ipc;
///
/// # let name = format!("winpipe-doc-connect-{}", std::process::id());
/// let path = ipc::path(&name)?;
/// let listener = ipc::bind(&path)?;
/// let stream = ipc::connect(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn connect<P: AsRef<Path>>(path: P) -> io::Result<Stream> {
    system::connect(path.as_ref())
}

/// Connects as [`connect`] does, and waits for the server to appear, and to have room in its
/// backlog, for at most this long. At least one attempt is made.
///
/// While there is no server, this tries again every few milliseconds. A full backlog is waited for
/// without polling, where the system can: on Linux and Windows.
///
/// # Errors
/// - [`TimedOut`](io::ErrorKind::TimedOut): the time has passed.
/// - The other errors of [`connect`], at once.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use winpipe::ipc;
///
/// # let name = format!("winpipe-doc-connect-timeout-{}", std::process::id());
/// let path = ipc::path(&name)?;
/// let error = ipc::connect_timeout(&path, Duration::from_millis(20)).unwrap_err();
/// assert!(ipc::is_timeout(&error));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn connect_timeout<P: AsRef<Path>>(path: P, timeout: Duration) -> io::Result<Stream> {
    system::connect_timeout(path.as_ref(), timeout)
}

/// Listens at the given path for the current user's clients, and no other user's. Clients can
/// connect from now on.
///
/// On Unix the file of a server that was killed is no obstacle: it's replaced if no process has
/// that socket open. An advisory lock beside it (`PATH.winpipe-lock`, there only while somebody
/// binds or ends) sees to it that of several servers that start at once one gets the path, and that
/// none removes the file of another. What isn't a socket is never removed. The directory is checked
/// as [`connect`] does, and created if it's missing, for this user alone. Only this user and root
/// can use the socket's file, whatever the umask is. (On systems other than Linux, a client of another
/// user that connects at the very moment of this call can get in if the umask lets others write.) The
/// file is removed when the [`Listener`] is dropped.
///
/// On Windows a pipe leaves nothing behind. This is `WinListener::bind`, whose pipe is for the
/// current user.
///
/// # Errors
/// - [`AddrInUse`](io::ErrorKind::AddrInUse): a server is there, or on Unix something that isn't a
///   socket.
/// - [`PermissionDenied`](io::ErrorKind::PermissionDenied), on Unix: other users could create a
///   socket there, or this one can't.
/// - Those of std's `UnixListener::bind` or of `WinListener::bind`.
///
/// # Examples
/// ```
/// use std::io::ErrorKind;
/// use winpipe::ipc;
///
/// # let name = format!("winpipe-doc-bind-{}", std::process::id());
/// let path = ipc::path(&name)?;
/// let listener = ipc::bind(&path)?;
/// # if cfg!(not(windows)) { // Wine 8 doesn't refuse.
/// assert_eq!(ipc::bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
/// # }
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<Listener> {
    ListenOptions::new().bind(path)
}

/// Connects to the server at the given path or, if there is none, becomes the server.
///
/// Of many processes that call this at once, exactly one gets
/// [`Bound`](ConnectOrBind::Bound), and the others get [`Connected`](ConnectOrBind::Connected) to
/// it. (The backlog must have room for them until they are accepted: see [`ListenOptions`].)
///
/// # Errors
/// Those of [`connect`] and [`bind`]. [`AddrInUse`](io::ErrorKind::AddrInUse): the path is taken,
/// but no server has answered for one second.
///
/// # Examples
/// ```
/// use winpipe::ipc::{self, ConnectOrBind};
///
/// # let name = format!("winpipe-doc-connect-or-bind-{}", std::process::id());
/// match ipc::connect_or_bind(ipc::path(&name)?)? {
///     ConnectOrBind::Connected(stream) => println!("{:?} does it", ipc::peer_cred(&stream)?.pid()),
///     ConnectOrBind::Bound(listener) => println!("I do it, at {:?}", listener.local_addr()?),
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn connect_or_bind<P: AsRef<Path>>(path: P) -> io::Result<ConnectOrBind> {
    ListenOptions::new().connect_or_bind(path)
}

/// Returns whether a server is at the given path. The server doesn't notice.
///
/// It may be gone, or be there, a moment later. A program that connects anyway asks
/// [`is_not_running`] about the error instead, and one that would start the server uses
/// [`connect_or_bind`].
///
/// Don't use `std::fs::exists` or `metadata` for this: on Unix the file of a killed server exists,
/// and on Windows they connect to the pipe, and leave.
///
/// On Unix this corresponds to calling `connect` with a datagram socket, which the system refuses
/// differently if there is a server. On Windows it corresponds to calling `WaitNamedPipeW`; there
/// the name counts as long as it's in use, also by accepted streams of a server that has ended.
///
/// # Errors
/// - [`InvalidInput`](io::ErrorKind::InvalidInput): the path can't be that of a socket or pipe.
/// - [`PermissionDenied`](io::ErrorKind::PermissionDenied), on Unix: this user can't connect there.
///
/// # Examples
/// ```
/// use winpipe::ipc;
///
/// # let name = format!("winpipe-doc-exists-{}", std::process::id());
/// let path = ipc::path(&name)?;
/// assert!(!ipc::exists(&path)?);
/// let listener = ipc::bind(&path)?;
/// assert!(ipc::exists(&path)?);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn exists<P: AsRef<Path>>(path: P) -> io::Result<bool> {
    system::exists(path.as_ref())
}

/// Removes the socket file that a killed server has left at the given path. When this returns
/// `Ok(())`, nothing is there.
///
/// [`bind`] doesn't need this, and a [`Listener`] removes its file. It's for programs that clean up
/// without listening. On Windows there is never anything to remove.
///
/// Don't use `std::fs::remove_file` for this: it removes the file of a live server, too, and on
/// Windows it connects to the pipe, and leaves.
///
/// # Errors
/// [`AddrInUse`](io::ErrorKind::AddrInUse): a server is there, or something that isn't a socket.
///
/// # Examples
/// ```
/// use winpipe::ipc;
///
/// # let name = format!("winpipe-doc-remove-{}", std::process::id());
/// let path = ipc::path(&name)?;
/// ipc::remove(&path)?;
/// let listener = ipc::bind(&path)?;
/// assert!(ipc::remove(&path).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn remove<P: AsRef<Path>>(path: P) -> io::Result<()> {
    system::remove(path.as_ref())
}

/// Returns whether an error says that the time was up: [`TimedOut`](io::ErrorKind::TimedOut), or
/// [`WouldBlock`](io::ErrorKind::WouldBlock), which std's streams have in its place on Unix.
///
/// It's also true for what a nonblocking stream or listener says.
///
/// # Examples
/// ```
/// use std::io::Read;
/// use std::time::Duration;
/// use winpipe::ipc::{self, Stream};
///
/// let (mut stream, _peer) = Stream::pair()?;
/// stream.set_read_timeout(Some(Duration::from_millis(10)))?;
/// let error = stream.read(&mut [0; 8]).unwrap_err();
/// assert!(ipc::is_timeout(&error));
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use]
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
    )
}

/// Returns whether an error of [`connect`] says that no server is running there:
/// [`NotFound`](io::ErrorKind::NotFound), or on Unix
/// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused), after a server was killed.
///
/// On macOS and BSD a server whose backlog is full refuses, too.
///
/// # Examples
/// ```
/// use winpipe::ipc;
///
/// # let name = format!("winpipe-doc-not-running-{}", std::process::id());
/// let error = ipc::connect(ipc::path(&name)?).unwrap_err();
/// assert!(ipc::is_not_running(&error));
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use]
pub fn is_not_running(error: &io::Error) -> bool {
    system::is_not_running(error)
}

fn check_name(name: &str) -> io::Result<()> {
    if matches!(name, "" | "." | "..") || name.contains(['/', '\\', '\0']) {
        return Err(invalid(format!(
            "{} isn't a plain name: use one without `/`, `\\` or NUL, such as \"my-app\"",
            quote(name)
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_name_is_a_place_that_can_be_bound() {
        let name = format!("winpipe-place-{}", std::process::id());
        let place = path(&name).unwrap();
        assert_eq!(place, path(&name).unwrap());
        assert_ne!(place, path(&format!("{name}x")).unwrap());
        let listener = Listener::bind(&place).unwrap();
        Stream::connect(&place).unwrap();
        drop(listener);
    }

    #[test]
    fn what_is_not_a_plain_name_is_refused() {
        let long = "x".repeat(300);
        for name in ["", ".", "..", "a/b", r"a\b", "a\0b", "../x", &long] {
            let error = path(name).unwrap_err();
            assert_eq!(
                error.kind(),
                io::ErrorKind::InvalidInput,
                "{name:?}: {error}"
            );
        }
        let error = path(&"/".repeat(1 << 20)).unwrap_err().to_string();
        assert!(error.chars().count() < 400, "{error}");
    }

    #[test]
    fn what_this_user_binds_this_user_can_connect_to() {
        let place = path(&format!("winpipe-own-{}", std::process::id())).unwrap();
        assert_eq!(connect(&place).unwrap_err().kind(), io::ErrorKind::NotFound);
        let listener = bind(&place).unwrap();
        let _client = connect(&place).unwrap();
        listener.accept().unwrap();
    }

    #[cfg(all(unix, not(winpipe_sim)))]
    #[test]
    fn a_socket_is_this_users_alone() {
        use std::os::unix::fs::MetadataExt;

        let place = path(&format!("winpipe-mode-{}", std::process::id())).unwrap();
        let _listener = bind(&place).unwrap();
        assert_eq!(std::fs::metadata(&place).unwrap().mode() & 0o777, 0o600);
    }
}
