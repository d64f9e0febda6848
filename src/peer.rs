//! `peer_cred` and `impersonate`: what Windows knows about the peer, and acting as the client.

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
    /// Use only [`PeerCred::authenticated`] to authorise the peer. The rest is a hint.
    ///
    /// This corresponds to calling `GetNamedPipeClientProcessId` (or `…Server…`) and
    /// `…SessionId`, `ImpersonateNamedPipeClient` or `OpenProcess`, and `GetTokenInformation`.
    ///
    /// # Errors
    /// Those of the system, if not even the id of the process is available.
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
    /// // Windows authenticates only clients.
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

    /// Makes this thread act as the client until the returned guard is dropped.
    ///
    /// Windows then checks access as if the client made the calls. So a service can open a file for
    /// its client without deciding whether the client has access. The client must permit this with
    /// [`ConnectOptions::impersonation`](crate::ConnectOptions::impersonation). By default the
    /// thread can only *identify* the client, and can't open anything.
    ///
    /// The identity is the one that [`PeerCred::authenticated`] describes. It remains that of the
    /// process that opened the connection, even if that process has since passed the connection to
    /// another process.
    ///
    /// A thread can act as only one client at a time. If it can't return to its own identity, the
    /// process is aborted.
    ///
    /// This corresponds to calling `ImpersonateNamedPipeClient`, and `RevertToSelf` at the end.
    ///
    /// # Errors
    /// - [`PermissionDenied`](io::ErrorKind::PermissionDenied): Windows doesn't know the client's
    ///   identity, or doesn't know it until something has been read.
    ///   [`PeerCred::authenticated`] lists the cases.
    /// - [`ResourceBusy`](io::ErrorKind::ResourceBusy): this thread is already acting as a client.
    /// - [`Unsupported`](io::ErrorKind::Unsupported): this stream is the client's end.
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
    /// // … open the file that the client asks for …
    /// drop(client);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn impersonate(&self) -> io::Result<Impersonated<'_>> {
        let records = record::hold();
        if !self.is_server()? {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "only the server can impersonate: use an accepted stream",
            ));
        }
        // With two guards, dropped in the wrong order, the thread would go on acting as a client.
        if ACTS.get() {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "this thread is already acting as a client: drop the guard of that first",
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
/// This is returned by [`WinStream::peer_cred`]. To decide what the peer may do, use
/// [`authenticated`](Self::authenticated) and nothing else. Everything else is a hint, for messages
/// and diagnosis: another process can get the id of a process that has ended, and a process can
/// pass its end of the connection to another process.
///
/// # Examples
/// A server that serves only its own user:
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
    /// Returns the identity of the client, **which you can use to authorise it**. `peer_cred` gets
    /// it by impersonating the client for a moment.
    ///
    /// It's the identity that the client had when it connected. For some clients it's the identity
    /// that the last message read was written with: for clients that [expect a
    /// server](crate::ConnectOptions::expect_server) and let it act as them, and for clients of
    /// other programs that request this from Windows (dynamic tracking).
    ///
    /// `None` if Windows doesn't authenticate the peer:
    /// - This stream is the client's end. A client checks its server with
    ///   [`expect_server`](crate::ConnectOptions::expect_server).
    /// - The client hides its identity
    ///   ([`Impersonation::Anonymous`](crate::Impersonation::Anonymous)).
    /// - The client is identified by its last message, and nothing has been read yet.
    /// - The client connected in the short time in which [`accept`](crate::WinListener::accept) had
    ///   found no client and wasn't waiting yet. Then Windows forgets the identity.
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

    /// Returns the identity of the process that has the peer's [`pid`](Self::pid) now, if the peer
    /// [isn't authenticated](Self::authenticated). **Don't use it to authorise the peer.**
    ///
    /// `None` if the peer is authenticated, if that process has ended, or if this process isn't
    /// allowed to query it.
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

    /// Returns the id of the process that opened (or created) the peer's end, as recorded by the
    /// kernel. It's a hint: the process may have ended, and another process may have its id.
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

    /// Returns the session of that process, as recorded by the kernel, if there is one: the number
    /// that Task Manager shows. It's a hint.
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

/// The user and the integrity level of a peer: part of [`PeerCred`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Identity {
    /// The user.
    pub user: Sid,
    /// The integrity level.
    pub integrity: Integrity,
    /// Whether it's elevated, that is, has an administrator's full rights.
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

/// A guard: the thread acts as a client until this is dropped.
///
/// This is returned by [`WinStream::impersonate`]. It can't be sent to another thread.
#[must_use = "the thread acts as the client only until this is dropped"]
pub struct Impersonated<'a> {
    _client: token::Impersonated,
    /// Dropped after the thread has reverted, so no record is written while it acts as the client.
    _records: Hold,
    _this_thread: PhantomData<(&'a WinStream, *const ())>,
}

thread_local! {
    /// Whether this thread acts as a client because of `impersonate`.
    static ACTS: Cell<bool> = const { Cell::new(false) };
}

impl Drop for Impersonated<'_> {
    fn drop(&mut self) {
        // The thread reverts when the field is dropped, right after this.
        let _ = ACTS.try_with(|acts| acts.set(false));
    }
}

impl fmt::Debug for Impersonated<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Impersonated")
    }
}
