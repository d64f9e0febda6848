//! Who the peer of a stream is, and what can be done in his name.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::windows::io::AsHandle;

use crate::sys::error::Doing;
use crate::sys::security::{self as sys, Token};
use crate::{Learnt, PeerCred, WinStream};

impl WinStream {
    /// Tells who the peer is, as far as Windows lets it be known.
    ///
    /// Look at [`PeerCred::learnt`] before you trust it: only what was learnt by impersonation may
    /// be used to authorise. That is possible on an accepted stream from which something has been
    /// read. Otherwise user, integrity level and elevation are those of the process that has the
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
            let client = sys::Impersonated::client_of(self.as_handle());
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
    /// [`ConnectOptions::impersonation`](crate::ConnectOptions::impersonation); by default the thread can only *identify* him, and opens
    /// nothing. It's the client as he was when he sent the last message that was read.
    ///
    /// If the thread can't get back to what it was, the process ends.
    ///
    /// This corresponds to calling `ImpersonateNamedPipeClient`, and `RevertToSelf` at the end.
    ///
    /// # Errors
    /// - [`PermissionDenied`](io::ErrorKind::PermissionDenied): nothing has been read yet.
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
        if !self.is_server()? {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "only the server can impersonate, by an accepted stream",
            ));
        }
        let client = sys::Impersonated::client_of(self.as_handle())?;
        Ok(Impersonated {
            _client: client,
            _this_thread: PhantomData,
        })
    }
}

/// This thread's acting as a client, until it's dropped: what [`WinStream::impersonate`] returns.
///
/// It belongs to its thread and can't be sent to another.
#[must_use = "the thread acts as the client only until this is dropped"]
pub struct Impersonated<'a> {
    _client: sys::Impersonated,
    _this_thread: PhantomData<(&'a WinStream, *const ())>,
}

impl fmt::Debug for Impersonated<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Impersonated")
    }
}
