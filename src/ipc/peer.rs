//! `peer_cred`: who is at the other end.

use std::fmt;
use std::io;

use crate::ipc::system::{self, Stream, UserId};

/// Returns the process and the user at the other end of a connection.
///
/// **To decide what the peer may do**, use [`PeerCred::is_same_user`] or
/// [`PeerCred::authenticated`], and nothing else. The rest is for messages.
///
/// On Linux this corresponds to calling `getsockopt` with `SO_PEERCRED`, on macOS and BSD
/// `getpeereid`, and on Windows [`WinStream::peer_cred`](https://docs.rs/winpipe/latest/winpipe/struct.WinStream.html#method.peer_cred).
///
/// # Errors
/// Those of the system, if it tells nothing about the peer.
///
/// # Examples
/// ```
/// use winpipe::ipc;
///
/// # let name = format!("winpipe-doc-ipc-peer-{}", std::process::id());
/// let path = ipc::path(&name)?;
/// let listener = ipc::bind(&path)?;
/// let client = ipc::connect(&path)?;
/// let server = ipc::peer_cred(&client)?;
/// assert!(server.is_same_user());
/// println!("connected to {server}"); // connected to pid 4711, user 1000
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn peer_cred(stream: &Stream) -> io::Result<PeerCred> {
    system::peer_cred(stream).map(PeerCred::from)
}

/// The process and the user at the other end of a connection, as [`peer_cred`] returns them: those
/// that connected, or that listened. A process can pass its end on to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerCred {
    pid: Option<u32>,
    user: Option<User>,
    authenticated: Option<User>,
    is_same_user: bool,
}

impl PeerCred {
    /// Returns the process's id, if the system tells it. **Don't use it to authorise the peer**:
    /// the process may have ended, and another may have its id.
    ///
    /// macOS, Windows, Linux and FreeBSD tell it. On Linux a process in another container may have
    /// no id here.
    ///
    /// # Examples
    /// ```no_run
    /// # let stream: winpipe::ipc::Stream = unreachable!();
    /// let peer = winpipe::ipc::peer_cred(&stream)?;
    /// println!("process {:?}", peer.pid());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Returns the user, for messages. **Don't use it to authorise the peer**: on Windows, if
    /// the peer isn't [authenticated](Self::authenticated), it's the user of the process that has
    /// the peer's id now.
    ///
    /// On Unix it's always there. On Windows it's missing if the peer isn't authenticated and that
    /// process has ended, or can't be asked.
    ///
    /// # Examples
    /// ```no_run
    /// # let stream: winpipe::ipc::Stream = unreachable!();
    /// if let Some(user) = winpipe::ipc::peer_cred(&stream)?.user() {
    ///     println!("a client of user {user}");
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn user(&self) -> Option<User> {
        self.user
    }

    /// Returns the user that the system vouches for, **which you can use to authorise the peer**.
    ///
    /// On Unix it's the peer's effective user when it connected or began to listen. On Windows only
    /// clients are authenticated, and not all of them:
    /// [`winpipe::PeerCred::authenticated`](https://docs.rs/winpipe/latest/winpipe/struct.PeerCred.html#method.authenticated) lists the cases. A
    /// client checks its server with [`is_same_user`](Self::is_same_user), or by connecting with
    /// [`ipc::connect`](crate::ipc::connect).
    ///
    /// # Examples
    /// ```no_run
    /// # let stream: winpipe::ipc::Stream = unreachable!();
    /// # let operators: Vec<winpipe::ipc::User> = Vec::new();
    /// let client = winpipe::ipc::peer_cred(&stream)?;
    /// let may_stop = client.authenticated().is_some_and(|user| operators.contains(&user));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn authenticated(&self) -> Option<User> {
        self.authenticated
    }

    /// Whether the system vouches that the peer belongs to the user that this process acts as. You
    /// can use this to authorise the peer.
    ///
    /// On Windows a server is known by the owner of its pipe, as [`ipc::connect`] checks it, and a
    /// client that Windows doesn't [authenticate](Self::authenticated) is never the same user.
    ///
    /// [`ipc::connect`]: crate::ipc::connect
    ///
    /// # Examples
    /// ```no_run
    /// # let stream: winpipe::ipc::Stream = unreachable!();
    /// if !winpipe::ipc::peer_cred(&stream)?.is_same_user() {
    ///     return Err(std::io::ErrorKind::PermissionDenied.into());
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn is_same_user(&self) -> bool {
        self.is_same_user
    }
}

impl From<system::Cred> for PeerCred {
    fn from(cred: system::Cred) -> PeerCred {
        PeerCred {
            pid: cred.pid,
            user: cred.user.map(User),
            authenticated: cred.authenticated.map(User),
            is_same_user: cred.is_same_user,
        }
    }
}

/// Prints `pid 4711, user 1000`. What isn't known is printed as `unknown`.
impl fmt::Display for PeerCred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "pid {pid}, ")?,
            None => f.write_str("pid unknown, ")?,
        }
        match self.user {
            Some(user) => write!(f, "user {user}"),
            None => f.write_str("user unknown"),
        }
    }
}

/// A user: a user id on Unix, a [`Sid`](https://docs.rs/winpipe/latest/winpipe/struct.Sid.html) on Windows. It's printed as the system writes
/// it, such as `1000` or `S-1-5-21-1-2-3-1001`.
///
/// # Examples
/// ```
/// use winpipe::ipc::User;
///
/// assert_eq!(User::current()?, User::current()?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct User(UserId);

impl User {
    /// Returns the user that this process acts as: on Unix the effective one.
    ///
    /// # Errors
    /// None that are expected.
    ///
    /// # Examples
    /// ```
    /// println!("I'm {}", winpipe::ipc::User::current()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn current() -> io::Result<User> {
        system::current_user().map(User)
    }

    /// Returns the user id. On Windows there is `sid` in its place.
    ///
    /// # Examples
    /// ```
    /// # #[cfg(unix)]
    /// let is_root = winpipe::ipc::User::current()?.uid() == 0;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[cfg(all(unix, not(winpipe_sim)))]
    #[must_use]
    pub fn uid(self) -> u32 {
        self.0
    }

    /// Returns the security identifier. On Unix there is `uid` in its place.
    ///
    /// # Examples
    /// ```
    /// # #[cfg(windows)]
    /// assert_eq!(winpipe::ipc::User::current()?.sid(), winpipe::Sid::current_user()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[cfg(any(windows, winpipe_sim))]
    #[must_use]
    pub fn sid(self) -> crate::sid::Sid {
        self.0
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User({self})")
    }
}
