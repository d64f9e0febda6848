//! `WinListener`: the pipe that clients connect to. The queue of its idle instances *is* the
//! backlog.

use std::fmt;
use std::io;
use std::iter::FusedIterator;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::account;
use crate::addr::WinPipeSocketAddr;
use crate::lock::{TimedLock, unpoisoned};
use crate::options::{ListenOptions, Sizes};
use crate::protocol::backlog::Backlog;
use crate::protocol::facts::Facts;
use crate::stream::WinStream;
use crate::sys::descriptor::Descriptor;
use crate::sys::error::{Code, Doing};
use crate::sys::pipe::{self, Instance, Pipe};
use crate::sys::record;
use crate::sys::text::wide;
use crate::sys::token::AsProcess;
#[cfg(all(windows, not(winpipe_sim), feature = "tokio"))]
use crate::tokio::accept::Accepting;
#[cfg(all(windows, not(winpipe_sim), feature = "tokio"))]
use crate::tokio::port::Association;
use crate::wait::{Call, Control, Stop};

/// A named pipe that listens for clients: `UnixListener` for Windows.
///
/// It has the methods of `std::os::unix::net::UnixListener`, and they behave as they do there.
/// Clients can connect as soon as [`bind`](Self::bind) has returned. Up to 128 clients can connect,
/// write and even disconnect before [`accept`](Self::accept) is called, and each is then accepted,
/// in order, with its bytes. Further clients wait, as described for [`WinStream::connect`].
///
/// Only processes of the current user on this computer can connect. Dropping the listener and its
/// clones refuses the clients that haven't been accepted yet. Accepted streams stay open.
///
/// # On Unix
/// - There is no file to remove: a name becomes free when the listener and *all streams it
///   accepted* are dropped. On Unix it stays in use until the file is removed.
/// - A client that connects after the server has ended gets [`NotFound`](io::ErrorKind::NotFound).
///   On Unix the file still exists, so the client gets `ConnectionRefused`.
/// - `connect` doesn't wait without limit while the backlog is full.
/// - There are no conversions from and to a handle, because a listener has many of
///   them: one for each instance in its backlog, and others after each `accept`.
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
    making: Making,
    control: Control,
    /// Each call of `accept` passes through this lock on its way to the queue. A call that is about
    /// to change the queue holds it meanwhile, so that recalled `accept` calls can't get to the
    /// queue first.
    door: Mutex<()>,
    /// Locked by the one call that is accepting, even while it waits. So that call always waits on
    /// the instance that the next client gets. The others wait for the lock, until their time is
    /// up, and follow the settings in turn.
    queue: TimedLock<Queue>,
    /// The tasks that wait for a client.
    #[cfg(all(windows, not(winpipe_sim), feature = "tokio"))]
    accepting: Arc<Accepting>,
}

/// What all instances are created with.
struct Making {
    /// The path in the form that the kernel takes.
    path: Vec<u16>,
    descriptor: Descriptor,
    sizes: Sizes,
    by_message: bool,
}

/// The instances that wait for clients.
struct Queue {
    backlog: Backlog<Idle>,
    /// How further instances are created.
    reject_remote: bool,
}

/// An instance that waits for a client.
struct Idle {
    pipe: Pipe,
    rejects_remote: bool,
    #[cfg(all(windows, not(winpipe_sim), feature = "tokio"))]
    association: Association,
}

impl WinListener {
    /// Creates a listener on the pipe at the given path. Clients can connect from now on.
    ///
    /// Only processes of the current user on this computer can connect, and no other user can
    /// create instances of this pipe. If this process is elevated, only administrators can create
    /// them.
    ///
    /// On a thread that impersonates another user, the pipe is created as that user, who owns it
    /// and can connect. This process can connect, too. The process creates the further instances,
    /// so [`accept`](Self::accept) can be called on any thread.
    ///
    /// This corresponds to calling `NtCreateNamedPipeFile` (`CreateNamedPipeW` with
    /// `FILE_FLAG_FIRST_PIPE_INSTANCE` and `PIPE_REJECT_REMOTE_CLIENTS`), 128 times.
    ///
    /// # Errors
    /// - [`AddrInUse`](io::ErrorKind::AddrInUse): a pipe of that name exists, or this process isn't
    ///   allowed to create one. (Servers in AppContainers aren't supported yet.)
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput): the path isn't that of a pipe (see
    ///   [`WinPipeSocketAddr::from_pathname`]), or it names another computer.
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

    /// Creates a listener on the pipe at the given address, as [`bind`](Self::bind) does.
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

    /// Returns options for listening, to change the defaults.
    ///
    /// # Examples
    /// ```
    /// use winpipe::{Access, WinListener};
    ///
    /// # let path = format!(r"\\.\pipe\winpipe-doc-listener-options-{}", std::process::id());
    /// let listener = WinListener::options().access(Access::AUTHENTICATED_USERS).bind(path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn options() -> ListenOptions {
        ListenOptions::new()
    }

    /// Creates a listener according to the options.
    fn with(
        addr: &WinPipeSocketAddr,
        options: &ListenOptions,
        sizes: Sizes,
    ) -> io::Result<WinListener> {
        let _records = record::hold();
        let making = Making {
            path: wide(&addr.nt_path()?),
            descriptor: account::descriptor(&options.access)?,
            sizes,
            by_message: options.half_close,
        };
        let first = making
            .instance(true, options.reject_remote)
            .map_err(|code| code.explain(Doing::Binding))?;
        // These are created as `accept` does it, on any thread. If the process isn't allowed to, it
        // shows now.
        let as_process = AsProcess::revert()?;
        let mut backlog = Backlog::new(first, sizes.backlog);
        backlog
            .fill(|| making.instance(false, options.reject_remote))
            .map_err(Code::explain_limit)?;
        if sizes.backlog == 1 {
            let another = making.instance(false, options.reject_remote);
            drop(another.map_err(Code::explain_limit)?);
        }
        drop(as_process);
        Ok(WinListener(Arc::new(Shared {
            addr: addr.clone(),
            making,
            control: Control::new(),
            door: Mutex::new(()),
            queue: TimedLock::new(Queue {
                backlog,
                reject_remote: options.reject_remote,
            }),
            #[cfg(all(windows, not(winpipe_sim), feature = "tokio"))]
            accepting: Arc::default(),
        })))
    }

    /// Accepts the next client, or waits for one.
    ///
    /// Several threads can call this, on clones or through a reference. Each client is accepted
    /// once. A client that has already disconnected is accepted, too: the stream reads its bytes,
    /// then the end. The returned address is the client's, which is unnamed.
    ///
    /// This corresponds to calling `NtQueryInformationFile`; then `ConnectNamedPipe`, if no client
    /// has connected yet; and `NtCreateNamedPipeFile`, to make room for another client before this
    /// returns.
    ///
    /// # Errors
    /// After any error except `ConnectionAborted`, a later call may succeed, and a client that has
    /// connected keeps its place.
    /// - [`WouldBlock`](io::ErrorKind::WouldBlock): no client has connected, and the listener is
    ///   nonblocking.
    /// - [`ConnectionAborted`](io::ErrorKind::ConnectionAborted): [`shutdown`](Self::shutdown) was
    ///   called.
    /// - [`ResourceBusy`](io::ErrorKind::ResourceBusy): a client has connected, but there are as
    ///   many accepted streams as [`max_instances`](ListenOptions::max_instances) allows.
    /// - Errors of the system, such as when it's out of memory.
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
        self.accept_until(None)
    }

    /// Accepts the next client, or waits for one as [`accept`](Self::accept) does, but at most this
    /// long. With a timeout of zero it doesn't wait.
    ///
    /// The time also counts while another thread is waiting in `accept`, and gets the next client.
    ///
    /// # Errors
    /// Those of [`accept`](Self::accept), and [`TimedOut`](io::ErrorKind::TimedOut): no client has
    /// connected in this time.
    ///
    /// # On Unix
    /// There is no such call.
    ///
    /// # Examples
    /// ```
    /// use std::io::ErrorKind;
    /// use std::time::Duration;
    ///
    /// # let path = format!(r"\\.\pipe\winpipe-doc-accept-timeout-{}", std::process::id());
    /// let listener = winpipe::WinListener::bind(path)?;
    /// let error = listener.accept_timeout(Duration::from_millis(10)).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::TimedOut);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn accept_timeout(&self, timeout: Duration) -> io::Result<(WinStream, WinPipeSocketAddr)> {
        // A deadline that the clock can't represent means no deadline.
        self.accept_until(Instant::now().checked_add(timeout))
    }

    fn accept_until(
        &self,
        deadline: Option<Instant>,
    ) -> io::Result<(WinStream, WinPipeSocketAddr)> {
        let records = record::hold();
        let shared = &*self.0;
        let accepted = loop {
            records.write();
            let mut call = Call::new(&shared.control).until(deadline);
            // Before passing the door, so that no recall is missed on the way to the queue.
            call.heed_recalls();
            drop(unpoisoned(shared.door.lock()));
            let locked = match deadline {
                None => Some(shared.queue.lock()),
                Some(deadline) => shared.queue.lock_until(deadline),
            };
            let Some(mut queue) = locked else {
                return Err(io::ErrorKind::TimedOut.into());
            };
            if shared.control.is_ended() {
                return Err(aborted());
            }
            let Some(head) = queue.backlog.head() else {
                return Err(aborted());
            };
            match wait_for_client(&head.pipe, &mut call) {
                Ok(()) => {}
                Err(Stop::Recalled) => continue,
                Err(Stop::Ended) => return Err(aborted()),
                Err(Stop::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
                Err(Stop::TimedOut) => return Err(io::ErrorKind::TimedOut.into()),
                Err(Stop::Failed(code)) => return Err(code.explain(Doing::Using)),
            }
            let reject_remote = queue.reject_remote;
            let accepted = queue
                .backlog
                .accept(|| shared.making.instance(false, reject_remote))
                .map_err(Code::explain_limit)?;
            break accepted.ok_or_else(aborted)?;
        };
        let facts = Facts::new(
            shared.making.sizes.outbound as usize,
            shared.making.by_message,
            true,
        );
        let peer = WinPipeSocketAddr::UNNAMED;
        let stream = WinStream::new(accepted.pipe, shared.addr.clone(), peer.clone(), facts);
        #[cfg(all(windows, not(winpipe_sim), feature = "tokio"))]
        stream.keep(accepted.association);
        Ok((stream, peer))
    }

    /// The tasks that wait for a client.
    #[cfg(all(windows, not(winpipe_sim), feature = "tokio"))]
    pub(crate) fn accepting(&self) -> &Arc<Accepting> {
        &self.0.accepting
    }

    /// Passes on the instance that the next client gets. It stays where it is meanwhile. `None`
    /// after a shutdown.
    #[cfg(all(windows, not(winpipe_sim), feature = "tokio"))]
    pub(crate) fn with_head<T>(&self, call: impl FnOnce(&Pipe, &Association) -> T) -> Option<T> {
        let queue = self.0.queue.lock();
        queue
            .backlog
            .head()
            .map(|idle| call(&idle.pipe, &idle.association))
    }

    /// Creates another listener over the same pipe. Both share everything. The pipe is gone when
    /// the last of them is dropped.
    ///
    /// # Errors
    /// None. The result is there because std's method returns one.
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
    /// None. The result is there because std's method returns one.
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
    /// This includes calls that are already waiting, on this listener or a clone. Accepted streams
    /// wait, whatever is set here.
    ///
    /// # Errors
    /// None. The result is there because std's method returns one.
    ///
    /// # On Unix
    /// The change doesn't affect calls that are already waiting.
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
        let _records = record::hold();
        Control::set_nonblocking([&self.0.control], nonblocking);
        Ok(())
    }

    /// Returns `None`: pipes don't store errors.
    ///
    /// # Errors
    /// None. The result is there because std's method returns one.
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

    /// Returns an iterator that accepts clients and never ends.
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

    /// Rejects clients on other computers (`true`, the default), or lets them try to connect.
    ///
    /// The pipe's access rights still decide which users can connect from there. The idle instances
    /// are replaced by new ones. Clients that have already connected stay connected and will be
    /// accepted, including those on other computers. A client that connects at this very moment may
    /// find its connection closed. To apply the setting from the first client on, use
    /// [`ListenOptions::reject_remote`].
    ///
    /// This corresponds to calling `NtCreateNamedPipeFile` with or without
    /// `PIPE_REJECT_REMOTE_CLIENTS` for each idle instance.
    ///
    /// # Errors
    /// An error means that not all instances could be replaced. The others stay as they were,
    /// because without them another process could take the name. Call this again to replace the
    /// rest.
    /// - [`ResourceBusy`](io::ErrorKind::ResourceBusy): there are as many accepted streams as
    ///   [`max_instances`](ListenOptions::max_instances) allows, so the last instance can't be
    ///   replaced.
    /// - [`ConnectionAborted`](io::ErrorKind::ConnectionAborted): [`shutdown`](Self::shutdown) was
    ///   called.
    /// - Errors of the system, such as when it's out of memory.
    ///
    /// # Examples
    /// ```
    /// # let path = format!(r"\\.\pipe\winpipe-doc-remote-{}", std::process::id());
    /// let listener = winpipe::WinListener::bind(path)?;
    /// listener.reject_remote(false)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn reject_remote(&self, reject_remote: bool) -> io::Result<()> {
        let _records = record::hold();
        let shared = &*self.0;
        let _door = unpoisoned(shared.door.lock());
        shared.control.recall();
        let mut queue = shared.queue.lock();
        if shared.control.is_ended() {
            return Err(aborted());
        }
        queue.reject_remote = reject_remote;
        let outdated = |idle: &Idle| {
            Ok(idle.rejects_remote != reject_remote && !idle.pipe.local_information()?.has_client)
        };
        let make = || shared.making.instance(false, reject_remote);
        let at_limit = |code: &Code| *code == Code::PIPE_BUSY;
        queue
            .backlog
            .renew(outdated, make, at_limit)
            .map_err(Code::explain_limit)
    }

    /// Shuts down the listener and all its clones.
    ///
    /// `accept` fails with [`ConnectionAborted`](io::ErrorKind::ConnectionAborted) from now on, and
    /// so do the calls that are already waiting in it.
    ///
    /// Clients that haven't been accepted yet are refused. Accepted streams stay open.
    ///
    /// # Errors
    /// None. The result leaves room for future errors.
    ///
    /// # On Unix
    /// There is no such call.
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
        let _records = record::hold();
        self.0.control.end();
        // The lock is released before the instances are closed.
        let closed = self.0.queue.lock().backlog.close();
        drop(closed);
        #[cfg(all(windows, not(winpipe_sim), feature = "tokio"))]
        self.0.accepting.wake();
        Ok(())
    }
}

impl WinListener {
    /// Whether it has been shut down.
    pub(crate) fn is_ended(&self) -> bool {
        self.0.control.is_ended()
    }
}

impl ListenOptions {
    /// Creates a listener on the pipe at the given path. Clients can connect from now on.
    ///
    /// # Errors
    /// Those of [`WinListener::bind`], and
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput): a number is out of range, the backlog is
    ///   larger than the number of instances, or the access is invalid (the message quotes a bad
    ///   SDDL string);
    /// - [`PermissionDenied`](io::ErrorKind::PermissionDenied): the access doesn't let this process
    ///   itself create another instance, or this thread impersonates a client that only allows
    ///   itself to be identified.
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

    /// Creates a listener on the pipe at the given address, as [`bind`](Self::bind) does.
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

impl Making {
    /// Creates an instance, which listens from now on. The first is created as the user that this
    /// thread acts as; the others, if necessary, as the process.
    fn instance(&self, first: bool, rejects_remote: bool) -> Result<Idle, Code> {
        let make = || {
            pipe::create_named_pipe(Instance {
                root: None,
                name: &self.path,
                descriptor: Some(&self.descriptor),
                first,
                reject_remote: rejects_remote,
                by_message: self.by_message,
                limit: self.sizes.limit,
                inbound: self.sizes.inbound,
                outbound: self.sizes.outbound,
            })
        };
        let pipe = match first {
            true => make(),
            false => account::make_as_server(make),
        }?;
        Ok(Idle {
            pipe,
            rejects_remote,
            #[cfg(all(windows, not(winpipe_sim), feature = "tokio"))]
            association: Association::default(),
        })
    }
}

/// Waits until the instance has a client.
fn wait_for_client(instance: &Pipe, call: &mut Call<'_>) -> Result<(), Stop> {
    // `ConnectNamedPipe` would make Windows forget the identity of the client.
    if instance
        .local_information()
        .map_err(Stop::Failed)?
        .has_client
    {
        return Ok(());
    }
    call.may_wait()?;
    call.run(|attend| instance.connect_named_pipe(attend))
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

/// An iterator that accepts the clients of a [`WinListener`] and never ends.
///
/// This is returned by [`WinListener::incoming`]. After [`WinListener::shutdown`] it yields only
/// errors.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fault;
    use std::io::{ErrorKind, Read, Write};

    fn path(name: &str) -> String {
        format!(r"\\.\pipe\winpipe-listener-{name}-{}", std::process::id())
    }

    #[test]
    fn a_client_that_has_come_is_accepted_even_if_no_event_can_be_made() {
        let path = path("event");
        let listener = WinListener::bind(&path).unwrap();
        // Each on a thread that has no event yet.
        let accept = || {
            let without_events = || {
                fault::inject_times("CreateEventW", Code::NO_MEMORY, u32::MAX);
                listener.accept()
            };
            std::thread::scope(|scope| scope.spawn(without_events).join().unwrap())
        };
        for number in 0..3 {
            // It would have to wait.
            assert_eq!(accept().unwrap_err().kind(), ErrorKind::OutOfMemory);
            let mut client = WinStream::connect(&path).unwrap();
            client.write_all(&[number]).unwrap();
            let (mut server, _) = accept().unwrap();
            let mut byte = [0];
            server.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [number]);
        }
    }

    #[test]
    fn a_client_keeps_its_place_when_accept_fails() {
        for (call, backlog) in [("NtQueryInformationFile", 3), ("NtCreateNamedPipeFile", 1)] {
            let path = path(call);
            let listener = WinListener::options().backlog(backlog).bind(&path).unwrap();
            let mut client = WinStream::connect(&path).unwrap();
            client.write_all(b"x").unwrap();
            for _ in 0..3 {
                fault::inject(call, Code::NO_MEMORY);
                let error = listener.accept().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
                assert_eq!(fault::call_off(), 0);
            }
            listener.accept().unwrap().0.read_exact(&mut [0]).unwrap();
        }
    }

    #[test]
    fn reject_remote_keeps_what_it_cannot_make_anew_and_says_so() {
        let path = path("anew");
        let listener = WinListener::options().backlog(3).bind(&path).unwrap();
        fault::inject_times("NtCreateNamedPipeFile", Code::NO_MEMORY, u32::MAX);
        let error = listener.reject_remote(false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
        fault::call_off();
        // As many clients as before find an instance.
        let clients = [(); 3].map(|()| WinStream::connect(&path).unwrap());
        for _ in &clients {
            listener.accept().unwrap();
        }
        listener.reject_remote(false).unwrap();
        drop(WinStream::connect(&path).unwrap());
    }

    #[test]
    fn where_waiting_is_not_possible_connect_pauses_between_its_attempts() {
        let path = path("container");
        let _listener = WinListener::options().backlog(1).bind(&path).unwrap();
        let _client = WinStream::connect(&path).unwrap();
        for wait_for_server in [false, true] {
            // The answer in Windows containers.
            fault::inject_times("WaitNamedPipeW", Code::FILE_NOT_FOUND, u32::MAX);
            let error = WinStream::options()
                .timeout(Duration::from_millis(200))
                .wait_for_server(wait_for_server)
                .connect(&path)
                .unwrap_err();
            let attempts = u32::MAX - fault::call_off();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
            assert!((1..=20).contains(&attempts), "{attempts} attempts");
        }
    }
}
