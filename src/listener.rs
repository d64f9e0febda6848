//! `WinListener`: what clients connect to, and the queue of idle instances that *is* the backlog.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::iter::FusedIterator;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::account;
use crate::options::Sizes;
use crate::stream::Facts;
use crate::sys::error::{Code, Doing};
use crate::sys::overlapped::{Call, Control, Stop};
use crate::sys::pipe::{self, Instance, Pipe};
use crate::sys::security::{AsProcess, Descriptor};
use crate::{ListenOptions, WinPipeSocketAddr, WinStream};

/// A named pipe that clients connect to: `UnixListener` for Windows.
///
/// Its methods are those of `std::os::unix::net::UnixListener`, and do what they do there. Clients
/// can connect from [`bind`](Self::bind) on: 16 can have connected, written and even left before
/// somebody calls [`accept`](Self::accept), and each is then accepted, in order, with its bytes.
/// Further clients wait, as [`WinStream::connect`] says.
///
/// Only processes of this user on this computer can connect. Dropping the listener and its clones
/// refuses the clients that were not accepted yet; accepted streams live on.
///
/// # On Unix
/// - There is no file to remove: a name is free when the listener and *all streams it accepted* are
///   dropped. On Unix it's taken until the file is removed.
/// - `connect` doesn't wait for ever while the backlog is full.
///
/// # Examples
/// ```no_run
/// use std::io::Write;
/// use winpipe::WinListener;
///
/// let listener = WinListener::bind(r"\\.\pipe\my-app")?;
/// for stream in listener.incoming() {
///     stream?.write_all(b"hello")?;
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct WinListener(Arc<Shared>);

/// What all clones of a listener have in common.
struct Shared {
    addr: WinPipeSocketAddr,
    /// The path as the kernel takes it.
    path: Vec<u16>,
    /// The same for every instance.
    descriptor: Descriptor,
    sizes: Sizes,
    by_message: bool,
    control: Control,
    /// What [`WinListener::reject_remote`] asked for.
    reject_remote: AtomicBool,
    /// What the idle instances do; changed under the lock.
    rejects_remote: AtomicBool,
    /// Held by the one call that accepts, even while it waits. So it always waits at the instance
    /// that the next client gets; the others wait for the lock, and follow the settings in turn.
    idle: Mutex<Idle>,
}

/// The instances that no call has accepted a client from, the oldest first: the kernel gives a client
/// the oldest that listens.
type Idle = VecDeque<Pipe>;

impl WinListener {
    /// Makes the pipe of that path. Clients can connect from now on.
    ///
    /// Only processes of the current user on this computer may connect, and nobody else can make
    /// instances of this pipe; where this process is elevated, only administrators can.
    ///
    /// On a thread that impersonates somebody the pipe is made as that user, who owns it and may connect.
    /// The process may, too: it makes the further instances, so any thread can call
    /// [`accept`](Self::accept).
    ///
    /// This corresponds to calling `NtCreateNamedPipeFile` (`CreateNamedPipeW` with
    /// `FILE_FLAG_FIRST_PIPE_INSTANCE` and `PIPE_REJECT_REMOTE_CLIENTS`) 16 times.
    ///
    /// # Errors
    /// - [`AddrInUse`](io::ErrorKind::AddrInUse): there is a pipe of that name; or this process may
    ///   not make one. (Servers in AppContainers aren't supported yet.)
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput): the path isn't a pipe's, see
    ///   [`WinPipeSocketAddr::from_pathname`], or names another computer.
    ///
    /// # Examples
    /// ```
    /// use winpipe::{WinListener, WinStream};
    ///
    /// # let path = format!(r"\\.\pipe\winpipe-doc-bind-{}", std::process::id());
    /// let listener = WinListener::bind(&path)?;
    /// let client = WinStream::connect(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<WinListener> {
        WinListener::bind_addr(&WinPipeSocketAddr::from_pathname(path)?)
    }

    /// Makes the pipe of that address, as [`bind`](Self::bind) does.
    ///
    /// # Errors
    /// Those of [`bind`](Self::bind), and [`InvalidInput`](io::ErrorKind::InvalidInput) for an
    /// unnamed address.
    ///
    /// # Examples
    /// ```
    /// use winpipe::{WinListener, WinPipeSocketAddr};
    ///
    /// # let path = format!(r"\\.\pipe\winpipe-doc-bind-addr-{}", std::process::id());
    /// let addr = WinPipeSocketAddr::from_pathname(path)?;
    /// let listener = WinListener::bind_addr(&addr)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bind_addr(socket_addr: &WinPipeSocketAddr) -> io::Result<WinListener> {
        WinListener::options().bind_addr(socket_addr)
    }

    /// Returns the options to make a listener by, where the defaults don't do.
    ///
    /// # Examples
    /// ```
    /// use winpipe::{Access, WinListener};
    ///
    /// # let path = format!(r"\\.\pipe\winpipe-doc-listener-options-{}", std::process::id());
    /// let listener = WinListener::options().access(Access::Authenticated).bind(path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn options() -> ListenOptions {
        ListenOptions::new()
    }

    /// Makes the pipe that the options say.
    fn with(
        addr: &WinPipeSocketAddr,
        options: &ListenOptions,
        sizes: Sizes,
    ) -> io::Result<WinListener> {
        let binding = |code: Code| code.explain(Doing::Binding);
        let shared = Shared {
            path: pipe::nt_path(&pipe::wide(&addr.local_path()?)).map_err(binding)?,
            addr: addr.clone(),
            descriptor: account::descriptor(&options.access)?,
            sizes,
            by_message: options.half_close,
            control: Control::new(),
            reject_remote: AtomicBool::new(options.reject_remote),
            rejects_remote: AtomicBool::new(options.reject_remote),
            idle: Mutex::new(Idle::new()),
        };
        let mut idle = shared.idle();
        idle.push_back(
            shared
                .instance(true, options.reject_remote)
                .map_err(binding)?,
        );
        // As `accept` will make them, on whatever thread: if the process may not, it shows now.
        let as_process = AsProcess::revert()?;
        while idle.len() < sizes.backlog {
            idle.push_back(shared.another().map_err(Code::explain_limit)?);
        }
        drop((as_process, idle));
        Ok(WinListener(Arc::new(shared)))
    }

    /// Accepts the next client, or waits for one.
    ///
    /// Several threads may call this, on clones or through a reference; each client is accepted
    /// once. A client that has already left is accepted, too: its bytes are read, then the end. The
    /// address is the client's, which is unnamed.
    ///
    /// This corresponds to calling `ConnectNamedPipe`, and `NtCreateNamedPipeFile` to make room for
    /// another client before this returns.
    ///
    /// # Errors
    /// - [`WouldBlock`](io::ErrorKind::WouldBlock): nobody has connected, and the listener is
    ///   nonblocking.
    /// - [`ConnectionAborted`](io::ErrorKind::ConnectionAborted): [`shutdown`](Self::shutdown) was
    ///   called.
    /// - [`ResourceBusy`](io::ErrorKind::ResourceBusy): all instances that
    ///   [`max_instances`](ListenOptions::max_instances) allows are in use.
    /// - Those of the system, such as when it has no memory left. A later call may succeed.
    ///
    /// # Examples
    /// ```
    /// use winpipe::{WinListener, WinStream};
    ///
    /// # let path = format!(r"\\.\pipe\winpipe-doc-accept-{}", std::process::id());
    /// let listener = WinListener::bind(&path)?;
    /// let client = WinStream::connect(&path)?;
    /// let (stream, addr) = listener.accept()?;
    /// assert!(addr.is_unnamed());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn accept(&self) -> io::Result<(WinStream, WinPipeSocketAddr)> {
        let shared = &*self.0;
        let pipe = loop {
            let mut call = Call::new(&shared.control);
            call.heed_recalls();
            let mut idle = shared.idle();
            if shared.control.is_ended() {
                return Err(aborted());
            }
            shared.follow_reject_remote(&mut idle);
            // One always listens, so that the name stays this listener's.
            while idle.len() < 2 {
                idle.push_back(shared.another().map_err(Code::explain_limit)?);
            }
            let Some(head) = idle.pop_front() else {
                continue;
            };
            let stop = match head.connect_named_pipe(&mut call) {
                Ok(()) => {
                    shared.refill(&mut idle);
                    break head;
                }
                Err(stop) => stop,
            };
            match stop {
                Stop::Ended => return Err(aborted()),
                // An instance that can't be used: the next call has a new one.
                Stop::Failed(code) => {
                    shared.refill(&mut idle);
                    return Err(code.explain(Doing::Using));
                }
                Stop::WouldBlock | Stop::TimedOut => {
                    idle.push_front(head);
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Stop::Recalled => idle.push_front(head),
            }
        };
        let facts = Facts::of_server(shared.sizes.outbound, shared.by_message);
        let peer = WinPipeSocketAddr::UNNAMED;
        Ok((
            WinStream::new(pipe, shared.addr.clone(), peer.clone(), facts),
            peer,
        ))
    }

    /// Makes a second listener over the same pipe. Both share everything; the pipe is gone when the
    /// last is dropped.
    ///
    /// # Errors
    /// None; the result is there for std's signature.
    ///
    /// # Examples
    /// ```
    /// # let path = format!(r"\\.\pipe\winpipe-doc-listener-clone-{}", std::process::id());
    /// let listener = winpipe::WinListener::bind(path)?;
    /// let clone = listener.try_clone()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_clone(&self) -> io::Result<WinListener> {
        Ok(WinListener(Arc::clone(&self.0)))
    }

    /// Returns the address that the listener was bound to.
    ///
    /// # Errors
    /// None; the result is there for std's signature.
    ///
    /// # Examples
    /// ```
    /// # let path = format!(r"\\.\pipe\winpipe-doc-listener-addr-{}", std::process::id());
    /// let listener = winpipe::WinListener::bind(&path)?;
    /// assert_eq!(listener.local_addr()?.as_pathname(), Some(path.as_ref()));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn local_addr(&self) -> io::Result<WinPipeSocketAddr> {
        Ok(self.0.addr.clone())
    }

    /// Makes `accept` fail with [`WouldBlock`](io::ErrorKind::WouldBlock) instead of waiting.
    ///
    /// A call that waits already, on this listener or on a clone, fails so now. Accepted streams
    /// wait, whatever the listener does.
    ///
    /// # Errors
    /// None; the result is there for std's signature.
    ///
    /// # On Unix
    /// A call that waits already doesn't see the change.
    ///
    /// # Examples
    /// ```
    /// # let path = format!(r"\\.\pipe\winpipe-doc-listener-nonblocking-{}", std::process::id());
    /// let listener = winpipe::WinListener::bind(path)?;
    /// listener.set_nonblocking(true)?;
    /// let error = listener.accept().unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.0.control.set_nonblocking(nonblocking);
        Ok(())
    }

    /// Returns the error that is stored in the listener: never any, as pipes store none.
    ///
    /// # Errors
    /// None; the result is there for std's signature.
    ///
    /// # Examples
    /// ```
    /// # let path = format!(r"\\.\pipe\winpipe-doc-listener-error-{}", std::process::id());
    /// let listener = winpipe::WinListener::bind(path)?;
    /// assert!(listener.take_error()?.is_none());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(None)
    }

    /// Returns an iterator that accepts clients for ever.
    ///
    /// # Examples
    /// ```
    /// use winpipe::{WinListener, WinStream};
    ///
    /// # let path = format!(r"\\.\pipe\winpipe-doc-incoming-{}", std::process::id());
    /// let listener = WinListener::bind(&path)?;
    /// let client = WinStream::connect(&path)?;
    /// let stream = listener.incoming().next().unwrap()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn incoming(&self) -> WinIncoming<'_> {
        WinIncoming { listener: self }
    }

    /// Refuses clients on other computers (`true`, as it is to begin with) or lets them try.
    ///
    /// Who may connect from there is still up to the pipe's access rights. Call it right after
    /// [`bind`](Self::bind): the instances that wait for clients are made anew, and a client that
    /// connects at that very moment may see its connection closed.
    ///
    /// This corresponds to `PIPE_REJECT_REMOTE_CLIENTS`.
    ///
    /// # Examples
    /// ```
    /// # let path = format!(r"\\.\pipe\winpipe-doc-remote-{}", std::process::id());
    /// let listener = winpipe::WinListener::bind(path)?;
    /// listener.reject_remote(false);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn reject_remote(&self, reject_remote: bool) {
        let shared = &*self.0;
        shared.reject_remote.store(reject_remote, Ordering::SeqCst);
        // Whoever waits in `accept` holds the lock: once recalled, that call does it or lets go.
        while !shared.follows_reject_remote() {
            shared.control.recall();
            match shared.idle.try_lock() {
                Ok(mut idle) => shared.follow_reject_remote(&mut idle),
                Err(_) => std::thread::yield_now(),
            }
        }
    }

    /// Ends the listener: `accept` fails from now on, and so do the calls that wait in it, on every
    /// clone, with [`ConnectionAborted`](io::ErrorKind::ConnectionAborted).
    ///
    /// Clients that were not accepted yet are refused. Accepted streams live on.
    ///
    /// # Errors
    /// None; the result leaves room for them.
    ///
    /// # On Unix
    /// std has no such method.
    ///
    /// # Examples
    /// ```
    /// # let path = format!(r"\\.\pipe\winpipe-doc-shutdown-{}", std::process::id());
    /// let listener = winpipe::WinListener::bind(path)?;
    /// let clone = listener.try_clone()?;
    /// let server = std::thread::spawn(move || clone.accept());
    /// listener.shutdown()?;
    /// let error = server.join().unwrap().unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn shutdown(&self) -> io::Result<()> {
        self.0.control.end();
        self.0.idle().clear();
        Ok(())
    }
}

impl ListenOptions {
    /// Makes the pipe of that path. Clients can connect from now on.
    ///
    /// # Errors
    /// Those of [`WinListener::bind`], and:
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput): a number is out of its bounds, the backlog is
    ///   larger than the number of instances, or the access isn't sound (the message quotes a bad
    ///   SDDL string);
    /// - [`PermissionDenied`](io::ErrorKind::PermissionDenied): the access doesn't let this very
    ///   process make another instance; or this thread acts as a client that only lets itself be
    ///   identified.
    ///
    /// # Examples
    /// ```
    /// # let path = format!(r"\\.\pipe\winpipe-doc-options-bind-{}", std::process::id());
    /// let listener = winpipe::ListenOptions::new().bind(path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bind<P: AsRef<Path>>(&self, path: P) -> io::Result<WinListener> {
        self.bind_addr(&WinPipeSocketAddr::from_pathname(path)?)
    }

    /// Makes the pipe of that address, as [`bind`](Self::bind) does.
    ///
    /// # Errors
    /// Those of [`bind`](Self::bind), and [`InvalidInput`](io::ErrorKind::InvalidInput) for an
    /// unnamed address.
    ///
    /// # Examples
    /// ```
    /// use winpipe::{ListenOptions, WinPipeSocketAddr};
    ///
    /// # let path = format!(r"\\.\pipe\winpipe-doc-options-bind-addr-{}", std::process::id());
    /// let addr = WinPipeSocketAddr::from_pathname(path)?;
    /// let listener = ListenOptions::new().bind_addr(&addr)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bind_addr(&self, addr: &WinPipeSocketAddr) -> io::Result<WinListener> {
        WinListener::with(addr, self, self.sizes()?)
    }
}

impl Shared {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        // A queue that a panic left behind is still a queue.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an instance, which listens from now on. The first is made by whom this thread acts as,
    /// and the others by the process, if need be.
    fn instance(&self, first: bool, reject_remote: bool) -> Result<Pipe, Code> {
        let make = || {
            pipe::create_named_pipe(Instance {
                root: None,
                name: &self.path,
                descriptor: Some(&self.descriptor),
                first,
                reject_remote,
                by_message: self.by_message,
                limit: self.sizes.limit,
                inbound: self.sizes.inbound,
                outbound: self.sizes.outbound,
            })
        };
        match first {
            true => make(),
            false => account::make_as_server(make),
        }
    }

    /// Makes another instance, like the others.
    fn another(&self) -> Result<Pipe, Code> {
        self.instance(false, self.rejects_remote.load(Ordering::SeqCst))
    }

    /// Makes the backlog whole again. Where that fails, a later `accept` tries again.
    fn refill(&self, idle: &mut Idle) {
        while idle.len() < self.sizes.backlog {
            match self.another() {
                Ok(instance) => idle.push_back(instance),
                Err(_) => break,
            }
        }
    }

    fn follows_reject_remote(&self) -> bool {
        self.rejects_remote.load(Ordering::SeqCst) == self.reject_remote.load(Ordering::SeqCst)
    }

    /// Makes the instances anew if they are to treat remote clients otherwise, but for those that a
    /// client has connected to already.
    fn follow_reject_remote(&self, idle: &mut Idle) {
        let reject_remote = self.reject_remote.load(Ordering::SeqCst);
        if self.rejects_remote.load(Ordering::SeqCst) == reject_remote {
            return;
        }
        let mut fresh = Idle::new();
        for old in std::mem::take(idle) {
            match old.local_information() {
                Ok(information) if !information.is_listening => idle.push_back(old),
                _ => {
                    // The new one comes first, so that the name is never free; but at the limit of
                    // instances, others hold it.
                    let new = || self.instance(false, reject_remote);
                    let first_try = new();
                    drop(old);
                    fresh.extend(first_try.or_else(|_| new()).ok());
                }
            }
        }
        idle.append(&mut fresh);
        // Only now: whoever called `reject_remote` takes it for done, and lets clients come.
        self.rejects_remote.store(reject_remote, Ordering::SeqCst);
        if !self.control.is_ended() {
            self.refill(idle);
        }
    }
}

fn aborted() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "the listener has been shut down",
    )
}

impl fmt::Debug for WinListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WinListener")
            .field("local", &self.0.addr)
            .finish()
    }
}

impl<'a> IntoIterator for &'a WinListener {
    type Item = io::Result<WinStream>;
    type IntoIter = WinIncoming<'a>;

    fn into_iter(self) -> WinIncoming<'a> {
        self.incoming()
    }
}

/// An iterator that accepts the clients of a [`WinListener`]; it never ends.
///
/// It's what [`WinListener::incoming`] returns. After [`WinListener::shutdown`] it gives errors only.
#[derive(Debug)]
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct WinIncoming<'a> {
    listener: &'a WinListener,
}

impl Iterator for WinIncoming<'_> {
    type Item = io::Result<WinStream>;

    fn next(&mut self) -> Option<io::Result<WinStream>> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::MAX, None)
    }
}

impl FusedIterator for WinIncoming<'_> {}
