//! `ListenOptions`, and what binds with them.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::input::invalid;
use crate::ipc::binding::{Attempt, Wanted};
use crate::ipc::listener::Listener;
use crate::ipc::system::{self, Listening, Stream};
use crate::protocol::dialing::{Answer, Dialing, Step};

/// How long [`ListenOptions::connect_or_bind`] tries where a path is taken but no server answers.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// The users that can connect to a [`Listener`].
///
/// It's what all platforms have. [`winpipe::Access`](https://docs.rs/winpipe/latest/winpipe/struct.Access.html) has more on Windows. On Unix a
/// program can give the file a group and a mode after `bind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Access {
    /// The current user, and on Unix root. The file's mode is 0600. On Windows this is
    /// `winpipe::Access::CURRENT_USER`.
    #[default]
    CurrentUser,
    /// Every user of this computer, but nobody on another. The file's mode is 0666. On Windows this
    /// is `winpipe::Access::AUTHENTICATED_USERS.never_remote()`.
    Everyone,
}

/// Options for listening. The defaults are those of [`ipc::bind`](crate::ipc::bind).
///
/// # Examples
/// ```no_run
/// use winpipe::ipc::{self, Access, ListenOptions};
///
/// let path = ipc::system_path("my-service")?;
/// let listener = ListenOptions::new().access(Access::Everyone).backlog(512).bind(path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ListenOptions {
    access: Access,
    backlog: usize,
}

impl ListenOptions {
    /// What std asks for on Unix.
    const BACKLOG: usize = 128;
    /// The limit that Unix systems have.
    const LARGEST_BACKLOG: usize = 4096;

    /// Creates the options of [`ipc::bind`](crate::ipc::bind): the current user only, and a backlog
    /// of 128.
    ///
    /// # Examples
    /// ```
    /// let options = winpipe::ipc::ListenOptions::new();
    /// ```
    #[must_use]
    pub fn new() -> ListenOptions {
        ListenOptions {
            access: Access::CurrentUser,
            backlog: Self::BACKLOG,
        }
    }

    /// Sets which users can connect. The default is [`Access::CurrentUser`].
    ///
    /// # Examples
    /// ```
    /// use winpipe::ipc::{Access, ListenOptions};
    ///
    /// ListenOptions::new().access(Access::Everyone);
    /// ```
    pub fn access(&mut self, access: Access) -> &mut ListenOptions {
        self.access = access;
        self
    }

    /// Sets how many clients can connect before they are accepted: 1 to 4096. The default is 128.
    /// A system may set a lower limit.
    ///
    /// # Examples
    /// ```
    /// winpipe::ipc::ListenOptions::new().backlog(512);
    /// ```
    pub fn backlog(&mut self, backlog: usize) -> &mut ListenOptions {
        self.backlog = backlog;
        self
    }

    /// Listens at the given path, as [`ipc::bind`](crate::ipc::bind) does.
    ///
    /// # Errors
    /// Those of [`ipc::bind`](crate::ipc::bind), and
    /// [`InvalidInput`](io::ErrorKind::InvalidInput): the backlog is out of range.
    ///
    /// # Examples
    /// ```
    /// use winpipe::ipc::{self, ListenOptions};
    ///
    /// # let name = format!("winpipe-doc-ipc-options-{}", std::process::id());
    /// let listener = ListenOptions::new().backlog(16).bind(ipc::path(&name)?)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bind<P: AsRef<Path>>(&self, path: P) -> io::Result<Listener> {
        match self.attempt(path.as_ref())? {
            Attempt::Bound(listener) => Ok(listener),
            Attempt::Taken(error) => Err(error),
        }
    }

    /// Connects to the server at the given path or, if there is none, listens there, as
    /// [`ipc::connect_or_bind`](crate::ipc::connect_or_bind) does.
    ///
    /// # Errors
    /// Those of [`ipc::connect_or_bind`](crate::ipc::connect_or_bind), and
    /// [`InvalidInput`](io::ErrorKind::InvalidInput): the backlog is out of range.
    ///
    /// # Examples
    /// ```
    /// use winpipe::ipc::{self, ConnectOrBind, ListenOptions};
    ///
    /// # let name = format!("winpipe-doc-ipc-options-or-{}", std::process::id());
    /// let either = ListenOptions::new().backlog(16).connect_or_bind(ipc::path(&name)?)?;
    /// assert!(matches!(either, ConnectOrBind::Bound(_)));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn connect_or_bind<P: AsRef<Path>>(&self, path: P) -> io::Result<ConnectOrBind> {
        let path = path.as_ref();
        self.check()?;
        let deadline = Instant::now() + PATIENCE;
        let mut dialing = Dialing::new(true);
        loop {
            match system::connect(path) {
                Ok(stream) => return Ok(ConnectOrBind::Connected(stream)),
                Err(error) if system::is_not_running(&error) => {}
                // It may have ended while this waited for it.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    if system::exists(path)? {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
            let taken = match self.attempt(path)? {
                Attempt::Bound(listener) => return Ok(ConnectOrBind::Bound(listener)),
                Attempt::Taken(error) => error,
            };
            // Another was first, and can be connected to now. What can't is a socket that doesn't
            // listen, or a pipe that is about to go.
            let left = deadline.saturating_duration_since(Instant::now());
            match dialing.next(Answer::Missing, left) {
                Step::Pause(pause) => {
                    #[expect(
                        clippy::disallowed_methods,
                        reason = "no event is set when it's there or gone"
                    )]
                    std::thread::sleep(pause);
                }
                _ => return Err(taken),
            }
        }
    }

    /// Binds, unless the path is taken.
    pub(crate) fn attempt(&self, path: &Path) -> io::Result<Attempt<Listener>> {
        Ok(match Listening::bind(path, self.wanted()?)? {
            Attempt::Bound(listening) => Attempt::Bound(Listener::new(listening)),
            Attempt::Taken(error) => Attempt::Taken(error),
        })
    }

    /// Fails if the options can't be used.
    pub(crate) fn check(&self) -> io::Result<()> {
        self.wanted().map(|_| ())
    }

    fn wanted(&self) -> io::Result<Wanted> {
        let most = Self::LARGEST_BACKLOG;
        if !(1..=most).contains(&self.backlog) {
            return Err(invalid(format!(
                "the backlog is {}, but must be 1 to {most}",
                self.backlog
            )));
        }
        Ok(Wanted {
            everyone: self.access == Access::Everyone,
            backlog: self.backlog,
        })
    }
}

impl Listener {
    /// Listens at the given path. This is [`ipc::bind`](crate::ipc::bind).
    ///
    /// # Errors
    /// Those of [`ipc::bind`](crate::ipc::bind).
    ///
    /// # Examples
    /// ```
    /// use winpipe::ipc::{self, Listener};
    ///
    /// # let name = format!("winpipe-doc-listener-bind-{}", std::process::id());
    /// let listener = Listener::bind(ipc::path(&name)?)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<Listener> {
        ListenOptions::new().bind(path)
    }
}

impl Default for ListenOptions {
    fn default() -> ListenOptions {
        ListenOptions::new()
    }
}

/// What [`ipc::connect_or_bind`](crate::ipc::connect_or_bind) has found.
#[derive(Debug)]
pub enum ConnectOrBind {
    /// A server was there, and this is connected to it.
    Connected(Stream),
    /// No server was there, and this process is it now.
    Bound(Listener),
}
