//! `ListenOptions` and `ConnectOptions`: plain data, converted to flags in one place, when the pipe
//! is created or opened.

use std::io;
use std::time::Duration;

use crate::access::{Access, Impersonation, Server};
use crate::addr::WinPipeSocketAddr;
use crate::input::invalid;

/// Options for creating a pipe. The defaults are those of
/// [`WinListener::bind`](crate::WinListener::bind).
///
/// # Examples
/// A service that every user of this computer can connect to:
/// ```
/// use winpipe::{Access, ListenOptions};
///
/// # let path = format!(r"\\.\pipe\winpipe-doc-options-{}", std::process::id());
/// let listener = ListenOptions::new().access(Access::AUTHENTICATED_USERS).backlog(512).bind(path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ListenOptions {
    pub(crate) access: Access,
    backlog: Option<usize>,
    max_instances: Option<u32>,
    inbound_buffer: usize,
    outbound_buffer: usize,
    pub(crate) reject_remote: bool,
    pub(crate) half_close: bool,
}

impl ListenOptions {
    /// The bytes that the kernel queues in each direction before a write waits. A long write goes
    /// out in parts of this size, each of which wakes the reader. With parts of 64 KiB, writes of
    /// 1 MiB take up to twice as long. docs/PERFORMANCE.md compares the sizes.
    pub(crate) const BUFFER: u32 = 1 << 20;
    /// The largest allowed buffer. A client can make the kernel hold that many bytes.
    const LARGEST_BUFFER: usize = 1 << 30;
    /// The backlog that std requests on Unix. Each instance is one handle, and takes almost no time
    /// to create.
    const BACKLOG: usize = 128;
    /// The limit that Unix systems have.
    const LARGEST_BACKLOG: usize = 4096;
    /// One less than Windows allows, because one instance keeps the name.
    const MOST_INSTANCES: u32 = 254;

    /// Creates the options of [`WinListener::bind`](crate::WinListener::bind): the current user
    /// only, no remote clients, a backlog of 128, any number of instances, buffers of 1 MiB
    /// in each direction, half-close.
    ///
    /// # Examples
    /// ```
    /// let options = winpipe::ListenOptions::new();
    /// ```
    #[must_use]
    pub fn new() -> ListenOptions {
        ListenOptions {
            access: Access::default(),
            backlog: None,
            max_instances: None,
            inbound_buffer: Self::BUFFER as usize,
            outbound_buffer: Self::BUFFER as usize,
            reject_remote: true,
            half_close: true,
        }
    }

    /// Sets which users can connect. The default is [`Access::CURRENT_USER`].
    ///
    /// # Examples
    /// ```
    /// use winpipe::{Access, ListenOptions, Sid};
    ///
    /// ListenOptions::new().access(Access::CURRENT_USER.or(Sid::USERS).never_remote());
    /// ```
    pub fn access(&mut self, access: impl Into<Access>) -> &mut ListenOptions {
        self.access = access.into();
        self
    }

    /// Sets how many clients can connect, write and disconnect before they are accepted: 1 to 4096.
    /// The default is 128, or [`max_instances`](Self::max_instances) if that is less.
    ///
    /// Further clients wait until one is accepted, and are refused after one second (or the time
    /// set by [`ConnectOptions::timeout`]). So the backlog should have room for all clients that
    /// connect in one burst.
    ///
    /// Each place in the backlog is an idle instance of the pipe: one kernel handle. A client can
    /// write as many bytes into it as [`inbound_buffer`](Self::inbound_buffer) allows.
    ///
    /// # Examples
    /// ```
    /// winpipe::ListenOptions::new().backlog(1);
    /// ```
    pub fn backlog(&mut self, backlog: usize) -> &mut ListenOptions {
        self.backlog = Some(backlog);
        self
    }

    /// Limits how many accepted streams can be open at once: 1 to 254. By default only memory
    /// limits them.
    ///
    /// The pipe has one more instance, which always listens or holds the next client, so that the
    /// listener keeps the name. While this many streams are open, further clients wait as they do
    /// when the backlog is full. If one of them has connected, `accept` fails with
    /// [`ResourceBusy`](io::ErrorKind::ResourceBusy) until a stream is dropped.
    ///
    /// # Examples
    /// ```
    /// winpipe::ListenOptions::new().max_instances(8);
    /// ```
    pub fn max_instances(&mut self, max_instances: u32) -> &mut ListenOptions {
        self.max_instances = Some(max_instances);
        self
    }

    /// Sets how many bytes from a client the kernel queues before the client's writes wait: 1 to
    /// 2^30. The default is 1,048,576 (1 MiB). This is also the size of the parts in which clients
    /// send longer writes, up to 1 MiB.
    ///
    /// The kernel holds only what is queued, so an idle connection takes no memory for this. But
    /// each client can make it hold that many bytes, by writing what the server doesn't read. Set
    /// less, such as 65,536 (as 0.1 did), if many clients that you don't trust can connect.
    ///
    /// # Examples
    /// ```
    /// winpipe::ListenOptions::new().inbound_buffer(64 << 10);
    /// ```
    pub fn inbound_buffer(&mut self, bytes: usize) -> &mut ListenOptions {
        self.inbound_buffer = bytes;
        self
    }

    /// Sets how many bytes to a client the kernel queues before the server's writes wait: 1 to
    /// 2^30. The default is 1,048,576 (1 MiB). A client that doesn't read makes the kernel hold
    /// that many bytes of what the server writes, and not more.
    ///
    /// # Examples
    /// ```
    /// winpipe::ListenOptions::new().outbound_buffer(64 << 10);
    /// ```
    pub fn outbound_buffer(&mut self, bytes: usize) -> &mut ListenOptions {
        self.outbound_buffer = bytes;
        self
    }

    /// Rejects clients on other computers (`true`, the default), or lets them try to connect.
    ///
    /// # Examples
    /// ```
    /// winpipe::ListenOptions::new().reject_remote(false);
    /// ```
    pub fn reject_remote(&mut self, reject_remote: bool) -> &mut ListenOptions {
        self.reject_remote = reject_remote;
        self
    }

    /// Creates a pipe that supports `shutdown(Write)` (`true`, the default), or a pipe of byte
    /// type, for clients that insist on one. On a pipe of byte type, `shutdown(Write)` is
    /// [`Unsupported`](io::ErrorKind::Unsupported).
    ///
    /// Pipes of byte type are read by byte. There, a write that times out or would block isn't
    /// always exact: if the peer reads the rest of an earlier write and the beginning of this one
    /// at once, the bytes of this one have arrived although the write fails. The same applies to
    /// clients of other programs that read a pipe of message type by byte. If that matters, let
    /// writes wait.
    ///
    /// # Examples
    /// ```
    /// winpipe::ListenOptions::new().half_close(false);
    /// ```
    pub fn half_close(&mut self, half_close: bool) -> &mut ListenOptions {
        self.half_close = half_close;
        self
    }

    /// Returns the numbers, if they are valid.
    pub(crate) fn sizes(&self) -> io::Result<Sizes> {
        let buffer = |bytes: usize, name: &str| match bytes {
            1..=Self::LARGEST_BUFFER => Ok(bytes as u32),
            _ => Err(invalid(format!(
                "{name} is {bytes} bytes, but must be 1 to {}",
                Self::LARGEST_BUFFER
            ))),
        };
        let limit = match self.max_instances {
            None => u32::MAX,
            Some(limit @ 1..=Self::MOST_INSTANCES) => limit,
            Some(limit) => {
                let most = Self::MOST_INSTANCES;
                return Err(invalid(format!(
                    "max_instances is {limit}, but must be 1 to {most}; leave it unset for no limit"
                )));
            }
        };
        let backlog = match self.backlog {
            None => Self::BACKLOG.min(limit as usize),
            Some(backlog @ 1..=Self::LARGEST_BACKLOG) => backlog,
            Some(backlog) => {
                let most = Self::LARGEST_BACKLOG;
                return Err(invalid(format!(
                    "the backlog is {backlog}, but must be 1 to {most}"
                )));
            }
        };
        if backlog > limit as usize {
            return Err(invalid(format!(
                "a backlog of {backlog} is too large for max_instances of {limit}: \
                 each client in the backlog needs an instance"
            )));
        }
        Ok(Sizes {
            backlog,
            limit: limit.saturating_add(1),
            inbound: buffer(self.inbound_buffer, "inbound_buffer")?,
            outbound: buffer(self.outbound_buffer, "outbound_buffer")?,
        })
    }
}

impl Default for ListenOptions {
    fn default() -> ListenOptions {
        ListenOptions::new()
    }
}

/// The validated numbers of a listener.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sizes {
    pub(crate) backlog: usize,
    /// The limit for all instances together.
    pub(crate) limit: u32,
    pub(crate) inbound: u32,
    pub(crate) outbound: u32,
}

/// Options for connecting to a pipe. The defaults are those of
/// [`WinStream::connect`](crate::WinStream::connect).
///
/// # Examples
/// A client that connects to a service of the system, and not to a program that has taken its name:
/// ```no_run
/// use winpipe::{ConnectOptions, Server};
///
/// let stream = ConnectOptions::new()
///     .expect_server(Server::System)
///     .connect(r"\\.\pipe\some-service")?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    pub(crate) timeout: Duration,
    pub(crate) wait_for_server: bool,
    pub(crate) impersonation: Impersonation,
    pub(crate) expected: Option<Server>,
}

impl ConnectOptions {
    /// Creates the options of [`WinStream::connect`](crate::WinStream::connect): wait one second
    /// for a busy server, don't wait for a missing one, [`Impersonation::Identification`], any
    /// server.
    ///
    /// # Examples
    /// ```
    /// let options = winpipe::ConnectOptions::new();
    /// ```
    #[must_use]
    pub fn new() -> ConnectOptions {
        ConnectOptions {
            timeout: Duration::from_secs(1),
            wait_for_server: false,
            impersonation: Impersonation::default(),
            expected: None,
        }
    }

    /// Sets how long to wait for a busy server and, with
    /// [`wait_for_server`](Self::wait_for_server), for a missing one. At least one attempt is made.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// winpipe::ConnectOptions::new().timeout(Duration::from_secs(10));
    /// ```
    pub fn timeout(&mut self, timeout: Duration) -> &mut ConnectOptions {
        self.timeout = timeout;
        self
    }

    /// Waits for a pipe that doesn't exist (`true`), or fails at once (`false`, the default).
    ///
    /// # Examples
    /// ```
    /// winpipe::ConnectOptions::new().wait_for_server(true);
    /// ```
    pub fn wait_for_server(&mut self, wait_for_server: bool) -> &mut ConnectOptions {
        self.wait_for_server = wait_for_server;
        self
    }

    /// Sets what the server may do with this client's identity. The default is
    /// [`Impersonation::Identification`].
    ///
    /// This permission goes to any process that has created the pipe. So a client that lets the
    /// server act in its name should also set which server it expects, with
    /// [`expect_server`](Self::expect_server).
    ///
    /// # Examples
    /// ```
    /// use winpipe::{ConnectOptions, Impersonation};
    ///
    /// ConnectOptions::new().impersonation(Impersonation::Anonymous);
    /// ```
    pub fn impersonation(&mut self, impersonation: Impersonation) -> &mut ConnectOptions {
        self.impersonation = impersonation;
        self
    }

    /// Checks, before any byte is sent, that the pipe was created by the expected server.
    ///
    /// Otherwise a program that was first to create a pipe of that name receives what is meant for
    /// the server. This checks the pipe's own record of its owner, and doesn't guess by process id.
    ///
    /// A server that may act as the client, by [`impersonation`](Self::impersonation), can't do so
    /// before this check. To ensure that, the server gets the identity of the thread that writes,
    /// with each write, and not of the thread that connects. Before the first write it gets none.
    /// (Windows calls this dynamic tracking.)
    ///
    /// For a pipe on another computer (`\\HOST\pipe\NAME`), it is that computer that reports the
    /// owner. So the check is only as trustworthy as that computer's administrators and the network
    /// in between. [`Server::System`] then means that computer's system. Dynamic tracking doesn't
    /// work over the network, so such a path can only be combined with
    /// [`Impersonation::Identification`] or less.
    ///
    /// This corresponds to calling `GetKernelObjectSecurity`, and to `SECURITY_CONTEXT_TRACKING`.
    ///
    /// # Examples
    /// ```
    /// use winpipe::{ConnectOptions, Server};
    ///
    /// ConnectOptions::new().expect_server(Server::CurrentUser);
    /// ```
    pub fn expect_server(&mut self, server: Server) -> &mut ConnectOptions {
        self.expected = Some(server);
        self
    }

    /// Whether the server can act only as the thread that has written something, so that it can't
    /// act before it's known to be the expected one.
    pub(crate) fn tracks(&self, addr: &WinPipeSocketAddr) -> io::Result<bool> {
        let tracks = self.expected.is_some() && self.impersonation.lets_act();
        if tracks && addr.has_host() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a server on another computer could act as this client before it's known to be the \
                 expected one: leave out expect_server or impersonation",
            ));
        }
        Ok(tracks)
    }
}

impl Default for ConnectOptions {
    fn default() -> ConnectOptions {
        ConnectOptions::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(change: impl FnOnce(&mut ListenOptions) -> &mut ListenOptions) -> io::Result<Sizes> {
        change(&mut ListenOptions::new()).sizes()
    }

    #[test]
    fn the_defaults_are_what_the_docs_say() {
        let options = ListenOptions::new();
        assert_eq!(options.access, Access::CURRENT_USER);
        assert!(options.reject_remote && options.half_close);
        let expected = Sizes {
            backlog: 128,
            limit: u32::MAX,
            inbound: 1 << 20,
            outbound: 1 << 20,
        };
        assert_eq!(options.sizes().unwrap(), expected);

        let options = ConnectOptions::new();
        assert_eq!(options.timeout, Duration::from_secs(1));
        assert!(!options.wait_for_server);
        assert_eq!(options.impersonation, Impersonation::Identification);
        assert_eq!(options.expected, None);
    }

    #[test]
    fn a_server_that_may_act_as_the_client_has_to_wait_where_one_is_expected() {
        let tracks = |path: &str, impersonation, expected: Option<Server>| {
            let mut options = ConnectOptions::new();
            options.impersonation(impersonation).expected = expected;
            let addr = WinPipeSocketAddr::from_pathname(path).unwrap();
            options.tracks(&addr).map_err(|error| error.kind())
        };
        let (here, there) = (r"\\.\pipe\x", r"\\there\pipe\x");
        for impersonation in [Impersonation::Impersonation, Impersonation::Delegation] {
            assert_eq!(tracks(here, impersonation, Some(Server::System)), Ok(true));
            let refused = Err(io::ErrorKind::Unsupported);
            assert_eq!(tracks(there, impersonation, Some(Server::System)), refused);
            assert_eq!(tracks(here, impersonation, None), Ok(false));
            assert_eq!(tracks(there, impersonation, None), Ok(false));
        }
        for impersonation in [Impersonation::Anonymous, Impersonation::Identification] {
            for path in [here, there] {
                assert_eq!(tracks(path, impersonation, Some(Server::System)), Ok(false));
            }
        }
    }

    #[test]
    fn numbers_out_of_bounds_are_invalid_input_that_says_the_bounds() {
        let refused = |change: fn(&mut ListenOptions) -> &mut ListenOptions, says: &str| {
            let error = sizes(change).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(says), "{error}");
        };
        refused(|options| options.backlog(0), "1 to 4096");
        refused(|options| options.backlog(10_000), "1 to 4096");
        refused(|options| options.max_instances(0), "1 to 254");
        refused(|options| options.max_instances(255), "1 to 254");
        refused(|options| options.inbound_buffer(0), "inbound_buffer");
        refused(
            |options| options.inbound_buffer(usize::MAX),
            "inbound_buffer",
        );
        refused(|options| options.outbound_buffer(0), "outbound_buffer");
        refused(
            |options| options.outbound_buffer((1 << 30) + 1),
            "outbound_buffer",
        );
        refused(
            |options| options.backlog(17).max_instances(16),
            "max_instances of 16",
        );
    }

    #[test]
    fn the_backlog_fits_the_instances_unless_it_is_set() {
        let sizes = sizes(|options| options.max_instances(4)).unwrap();
        assert_eq!((sizes.backlog, sizes.limit), (4, 5));
        super::tests::sizes(|options| options.backlog(254).max_instances(254)).unwrap();
    }
}
