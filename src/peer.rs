//! `peer_cred` and `impersonate`: what Windows knows about the peer, and acting in its name.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::marker::PhantomData;

use crate::account;
use crate::sid::{Integrity, Sid};
use crate::stream::WinStream;
use crate::sys::error::Doing;
use crate::sys::record::{self, Hold};
use crate::sys::token::{self, Token};

impl WinStream {
    /// Returns what Windows knows about the peer: its user, process and session.
    ///
    /// Only [`PeerCred::authenticated`] may be used to authorise; the rest is a hint.
    ///
    /// This corresponds to calling `GetNamedPipeClientProcessId` (or `…Server…`) and
    /// `…SessionId`, `ImpersonateNamedPipeClient` or `OpenProcess`, and `GetTokenInformation`.
    ///
    /// # Errors
    /// Those of the system, if not even the process's number can be had.
    ///
    /// # On Unix
    /// std's `peer_cred` is unstable, and has `uid` and `gid` for the user.
    ///
    /// # Examples
    /// ```
    /// use winpipe::{Sid, WinStream};
    ///
    /// let (_server, client) = WinStream::pair()?;
    /// let peer = client.peer_cred()?;
    /// assert_eq!(peer.pid(), std::process::id());
    /// // Windows vouches for clients only.
    /// assert_eq!(peer.authenticated(), None);
    /// assert_eq!(peer.unauthenticated_hint().unwrap().user, Sid::current_user()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn peer_cred(&self) -> io::Result<PeerCred> {
        let _records = record::hold();
        let is_server = self.is_server()?;
        let mut cred = PeerCred {
            pid: self
                .pipe
                .peer_process_id(is_server)
                .map_err(|code| code.explain(Doing::Using))?,
            session: self.pipe.peer_session_id(is_server).ok(),
            authenticated: None,
            unauthenticated_hint: None,
        };
        if is_server {
            let client = token::Impersonated::client_of(&self.pipe);
            let token = client.and_then(|client| client.token());
            cred.authenticated = token.and_then(|token| Identity::of(&token)).ok();
        }
        if cred.authenticated.is_none() {
            let token = Token::of_process(cred.pid);
            cred.unauthenticated_hint = token.and_then(|token| Identity::of(&token)).ok();
        }
        Ok(cred)
    }

    /// Lets this thread act as the client, until what this returns is dropped.
    ///
    /// Windows then checks access as if the client called it, so a service can open a file for its
    /// client without deciding itself who may. The client has to allow it, with
    /// [`ConnectOptions::impersonation`](crate::ConnectOptions::impersonation); by default the thread
    /// can only *identify* the client, and opens nothing.
    ///
    /// The identity is the one that [`PeerCred::authenticated`] describes. It stays that of the process
    /// that opened the connection, even if it has given the connection to another process since.
    ///
    /// A thread acts as one client at a time. If it can't get back to its own identity, the process
    /// ends.
    ///
    /// This corresponds to calling `ImpersonateNamedPipeClient`, and `RevertToSelf` at the end.
    ///
    /// # Errors
    /// - [`PermissionDenied`](io::ErrorKind::PermissionDenied): Windows doesn't know the client's
    ///   identity, or not yet: read something first. [`PeerCred::authenticated`] lists the cases.
    /// - [`ResourceBusy`](io::ErrorKind::ResourceBusy): this thread acts as a client already.
    /// - [`Unsupported`](io::ErrorKind::Unsupported): this is the client's end.
    ///
    /// # Examples
    /// ```no_run
    /// use std::io::Read;
    ///
    /// let listener = winpipe::WinListener::bind(r"\\.\pipe\my-service")?;
    /// let (mut stream, _) = listener.accept()?;
    /// let mut name = [0; 64];
    /// let count = stream.read(&mut name)?;
    /// let client = stream.impersonate()?;
    /// // … open what the client asks for …
    /// drop(client);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn impersonate(&self) -> io::Result<Impersonated<'_>> {
        let records = record::hold();
        if !self.is_server()? {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "only the server can impersonate, by an accepted stream",
            ));
        }
        // Two at a time, dropped in the wrong order, would leave the thread acting as one of them.
        if ACTS.get() {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "this thread acts as a client already: drop what impersonate returned first",
            ));
        }
        let client = token::Impersonated::client_of(&self.pipe)?;
        ACTS.set(true);
        Ok(Impersonated {
            _client: client,
            _records: records,
            _this_thread: PhantomData,
        })
    }
}

/// What Windows knows about the peer of a stream.
///
/// [`WinStream::peer_cred`] returns it. To decide what the peer may do, use
/// [`authenticated`](Self::authenticated) and nothing else. Everything else is a hint, for messages and
/// diagnosis: another process can get the number of one that has ended, and a process can give its end
/// of the connection to another.
///
/// # Examples
/// A server that obeys its own user only:
/// ```no_run
/// use std::io;
/// use winpipe::{Sid, WinStream};
///
/// fn authorise(stream: &WinStream) -> io::Result<()> {
///     match stream.peer_cred()?.authenticated() {
///         Some(client) if client.user == Sid::current_user()? => Ok(()),
///         _ => Err(io::ErrorKind::PermissionDenied.into()),
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerCred {
    pid: u32,
    session: Option<u32>,
    authenticated: Option<Identity>,
    unauthenticated_hint: Option<Identity>,
}

impl PeerCred {
    /// Returns the identity of the client, **which may be used to authorise**. It's learnt by
    /// impersonating the client for a moment.
    ///
    /// It's the identity that the client had when it connected. Some clients are known by the last
    /// message read instead: those that [expect a server](crate::ConnectOptions::expect_server) and let
    /// it act in their name, and other programs' clients that ask Windows for it.
    ///
    /// `None` if Windows doesn't vouch for the peer:
    /// - This is the client's end. A client makes sure of its server with
    ///   [`expect_server`](crate::ConnectOptions::expect_server).
    /// - The client hides its identity ([`Impersonation::Anonymous`](crate::Impersonation::Anonymous)).
    /// - The client is known by its last message, and nothing has been read yet.
    /// - The client connected in the short time between [`accept`](crate::WinListener::accept)'s look
    ///   for one and its wait for one, where Windows forgets the identity.
    ///
    /// # Examples
    /// ```no_run
    /// use winpipe::WinListener;
    ///
    /// let (stream, _) = WinListener::bind(r"\\.\pipe\my-service")?.accept()?;
    /// let Some(client) = stream.peer_cred()?.authenticated() else {
    ///     return Err(std::io::ErrorKind::PermissionDenied.into());
    /// };
    /// println!("user {}, may change settings: {}", client.user, client.elevated);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn authenticated(&self) -> Option<Identity> {
        self.authenticated
    }

    /// Returns the identity of the process that has the peer's [`pid`](Self::pid) now, where the peer
    /// [isn't authenticated](Self::authenticated). **It must not be used to authorise.**
    ///
    /// `None` if the peer is authenticated, if that process has ended, or if this process may not look
    /// at it.
    ///
    /// # Examples
    /// ```
    /// let (_server, client) = winpipe::WinStream::pair()?;
    /// let peer = client.peer_cred()?;
    /// let user = peer.unauthenticated_hint().map(|peer| peer.user);
    /// println!("connected to process {}, probably of user {user:?}", peer.pid());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn unauthenticated_hint(&self) -> Option<Identity> {
        self.unauthenticated_hint
    }

    /// Returns the number of the process that opened (or made) the peer's end, by the kernel's record.
    /// It's a hint: the process may have ended, and another may have its number.
    ///
    /// # Examples
    /// ```
    /// let (_server, client) = winpipe::WinStream::pair()?;
    /// assert_eq!(client.peer_cred()?.pid(), std::process::id());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns the session of that process, by the kernel's record, if there is one: the number that
    /// Task Manager shows. It's a hint.
    ///
    /// # Examples
    /// ```
    /// let (_server, client) = winpipe::WinStream::pair()?;
    /// println!("the server is in session {:?}", client.peer_cred()?.session());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn session(&self) -> Option<u32> {
        self.session
    }
}

/// The user that a peer runs as, and how far Windows trusts it: part of [`PeerCred`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Identity {
    /// The user.
    pub user: Sid,
    /// The integrity level.
    pub integrity: Integrity,
    /// Whether it's elevated: whether it has an administrator's full rights.
    pub elevated: bool,
}

impl Identity {
    fn of(token: &Token) -> io::Result<Identity> {
        Ok(Identity {
            user: account::user(token)?,
            integrity: account::integrity(token)?,
            elevated: token.is_elevated()?,
        })
    }
}

/// A guard: the thread acts as a client until it's dropped. [`WinStream::impersonate`] returns it.
///
/// It belongs to its thread and can't be sent to another.
#[must_use = "the thread acts as the client only until this is dropped"]
pub struct Impersonated<'a> {
    _client: token::Impersonated,
    /// Dropped after the thread has got back: no record is written in the client's name.
    _records: Hold,
    _this_thread: PhantomData<(&'a WinStream, *const ())>,
}

thread_local! {
    /// Whether this thread acts as a client, by `impersonate`.
    static ACTS: Cell<bool> = const { Cell::new(false) };
}

impl Drop for Impersonated<'_> {
    fn drop(&mut self) {
        // The thread gets back when the field is dropped, which is next.
        let _ = ACTS.try_with(|acts| acts.set(false));
    }
}

impl fmt::Debug for Impersonated<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Impersonated")
    }
}
