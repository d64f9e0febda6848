//! Who the peer of a stream is, and what can be done in his name.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::marker::PhantomData;

use crate::account::{Learnt, PeerCred};
use crate::stream::WinStream;
use crate::sys::error::Doing;
use crate::sys::record::{self, Hold};
use crate::sys::token::{self, Token};

impl WinStream {
    /// Tells who the peer is, as far as Windows lets it be known.
    ///
    /// Look at [`PeerCred::learnt`] before you trust it: only what was learnt by impersonation may
    /// be used to authorise. That is possible on an accepted stream, at the latest when something has
    /// been read from it; but for a client that connected in the short time between
    /// [`accept`](crate::WinListener::accept)'s look for one and its wait for one, where Windows forgets
    /// who it is. Otherwise user, integrity level and elevation are those of the process that has the
    /// peer's number now, which is a hint.
    ///
    /// This corresponds to calling `GetNamedPipeClientProcessId` (or `…Server…`) and
    /// `…SessionId`, `ImpersonateNamedPipeClient` or `OpenProcess`, and `GetTokenInformation`.
    ///
    /// # Errors
    /// Those of the system, if not even the process's number can be had.
    ///
    /// # On Unix
    /// std's `peer_cred` is unstable, and has `uid` and `gid` for `user`.
    ///
    /// # Examples
    /// ```
    /// use winpipe::{Learnt, Sid, WinStream};
    ///
    /// let (_server, client) = WinStream::pair()?;
    /// let peer = client.peer_cred()?;
    /// assert_eq!(peer.pid, std::process::id());
    /// assert_eq!(peer.user, Some(Sid::current_user()?));
    /// assert_eq!(peer.learnt, Learnt::Process);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn peer_cred(&self) -> io::Result<PeerCred> {
        let _records = record::hold();
        let is_server = self.is_server()?;
        let cred = PeerCred {
            pid: self
                .pipe
                .peer_process_id(is_server)
                .map_err(|code| code.explain(Doing::Using))?,
            session: self.pipe.peer_session_id(is_server).ok(),
            user: None,
            integrity: None,
            elevated: None,
            learnt: Learnt::Nothing,
        };
        if is_server {
            let client = token::Impersonated::client_of(&self.pipe);
            if let Ok(token) = client.and_then(|client| client.token()) {
                return Ok(cred.with(&token, Learnt::Impersonation));
            }
        }
        Ok(match Token::of_process(cred.pid) {
            Ok(token) => cred.with(&token, Learnt::Process),
            Err(_) => cred,
        })
    }

    /// Lets this thread act as the client, until what this returns is dropped.
    ///
    /// Windows checks access then as if the client did it, so a service can open a file for whom
    /// it serves without deciding itself who may. The client has to allow it, with
    /// [`ConnectOptions::impersonation`](crate::ConnectOptions::impersonation); by default the thread can only *identify* it, and opens
    /// nothing. A client of this crate is who it was when it connected; where it
    /// [expects a server](crate::ConnectOptions::expect_server) and lets that act in its name, and with
    /// other clients, who it was when it sent the last message that was read. That is whoever opened the
    /// connection, even if it has given that to another process since.
    ///
    /// A thread acts as one client at a time. If it can't get back to what it was, the process ends.
    ///
    /// This corresponds to calling `ImpersonateNamedPipeClient`, and `RevertToSelf` at the end.
    ///
    /// # Errors
    /// - [`PermissionDenied`](io::ErrorKind::PermissionDenied): nothing has been read yet, from a
    ///   client that must have sent something to be known. Or Windows has forgotten who the client is:
    ///   that happens if it connected in the short time between [`accept`](crate::WinListener::accept)'s
    ///   look for one and its wait for one.
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

/// This thread's acting as a client, until it's dropped: what [`WinStream::impersonate`] returns.
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
