//! `WinStream`: one end of a connection.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::windows::io::{
    AsHandle, AsRawHandle, BorrowedHandle, FromRawHandle, IntoRawHandle, OwnedHandle, RawHandle,
};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use crate::sys::error::{self, Code, Doing};
use crate::sys::overlapped::{Call, Control, Stop, Transferred, milliseconds};
use crate::sys::pipe::{self, Instance, LocalInformation, Pipe, Quality};
use crate::sys::security;
use crate::{ConnectOptions, Impersonation, Server, Sid, WinPipeSocketAddr};

/// The bytes that the kernel queues in each direction of a pair before a write waits.
const QUOTA: u32 = 64 << 10;

/// The most that one write hands to the kernel, which copies it, however large the quota.
const LONGEST_CHUNK: usize = 1 << 20;

/// A refused nonblocking write tries half of it, down to this.
const SHORTEST_PART: usize = 4 << 10;

/// One end of a connection over a named pipe: `UnixStream` for Windows.
///
/// Its methods are those of `std::os::unix::net::UnixStream`, and do what they do there. Bytes that
/// were written are read by the peer even after this end is dropped; dropping is closing the handle
/// and takes no time.
///
/// A stream may be read and written by several threads at once, through `&WinStream` or through
/// clones. Timeouts, the nonblocking flag and [`shutdown`](Self::shutdown) are shared by all clones.
///
/// # On Unix
/// - A read returns the bytes of one write at most, even where more are there.
/// - Timed-out calls end with [`TimedOut`](io::ErrorKind::TimedOut), not `WouldBlock`.
/// - Where a pipe is not of this crate's making and keeps no message boundaries,
///   [`shutdown(Write)`](Self::shutdown) is not possible.
///
/// # Examples
/// ```
/// use std::io::{Read, Write};
/// use winpipe::{WinListener, WinStream};
///
/// # let path = format!(r"\\.\pipe\winpipe-doc-stream-{}", std::process::id());
/// let listener = WinListener::bind(&path)?;
/// let mut client = WinStream::connect(&path)?;
/// client.write_all(b"ping")?;
/// client.shutdown(std::net::Shutdown::Write)?;
///
/// let (mut server, _) = listener.accept()?;
/// let mut text = String::new();
/// server.read_to_string(&mut text)?;
/// server.write_all(b"pong")?;
/// drop(server);
///
/// client.read_to_string(&mut text)?;
/// assert_eq!(text, "pingpong");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct WinStream {
    pub(crate) pipe: Pipe,
    shared: Arc<Shared>,
}

/// What all clones of a stream have in common.
struct Shared {
    reading: Control,
    /// Shared by reads while they are issued; a peek that is about to wait is alone.
    issuing: RwLock<()>,
    writing: Control,
    writers: Writers,
    facts: OnceLock<Facts>,
    local: WinPipeSocketAddr,
    peer: WinPipeSocketAddr,
    /// Copies of handles that the peer may be about to take.
    offers: Mutex<Vec<OwnedHandle>>,
}

/// What there is to know of a pipe before it's read or written.
#[derive(Clone, Copy)]
pub(crate) struct Facts {
    /// The most that is written at once: no more than the pipe's quota. A pending write of that
    /// size or less has delivered nothing yet, so one that is cancelled can be told as such.
    chunk: usize,
    /// Whether the pipe keeps messages apart, so that an empty one can mean the end.
    has_messages: bool,
    /// Whether reads of this end stop where messages do.
    reads_by_message: bool,
    /// Whether this is the server's end.
    is_server: bool,
}

impl WinStream {
    /// Connects to the pipe of that path.
    ///
    /// Where the server is there but has more clients than it accepts, this waits up to one second,
    /// without polling. The server learns who the client is, but may not act in his name
    /// (`SECURITY_IDENTIFICATION`).
    ///
    /// This corresponds to calling `CreateFileW`, and `WaitNamedPipeW` where the pipe is busy.
    ///
    /// # Errors
    /// - [`NotFound`](io::ErrorKind::NotFound), at once: there is no such pipe.
    /// - [`ConnectionRefused`](io::ErrorKind::ConnectionRefused): the server took no client for one
    ///   second, or went away meanwhile.
    /// - [`PermissionDenied`](io::ErrorKind::PermissionDenied): the server doesn't let this user
    ///   connect, or the pipe goes one way only.
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput): the path isn't a pipe's; see
    ///   [`WinPipeSocketAddr::from_pathname`].
    ///
    /// # On Unix
    /// `connect` waits for a busy server as long as it takes.
    ///
    /// # Examples
    /// ```
    /// use winpipe::WinStream;
    ///
    /// let error = WinStream::connect(r"\\.\pipe\nobody-made-this").unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    /// ```
    pub fn connect<P: AsRef<Path>>(path: P) -> io::Result<WinStream> {
        WinStream::connect_addr(&WinPipeSocketAddr::from_pathname(path)?)
    }

    /// Connects to the pipe of that address, as [`connect`](Self::connect) does.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect), and [`InvalidInput`](io::ErrorKind::InvalidInput) for an
    /// unnamed address.
    ///
    /// # Examples
    /// ```
    /// use winpipe::{WinListener, WinStream};
    ///
    /// # let path = format!(r"\\.\pipe\winpipe-doc-connect-addr-{}", std::process::id());
    /// let listener = WinListener::bind(path)?;
    /// let stream = WinStream::connect_addr(&listener.local_addr()?)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn connect_addr(socket_addr: &WinPipeSocketAddr) -> io::Result<WinStream> {
        ConnectOptions::new().connect_addr(socket_addr)
    }

    /// Connects to the pipe of that path, and waits for it: to appear, and to take a client.
    ///
    /// At least one attempt is made, however short the timeout. While the pipe is missing it's looked
    /// for every few milliseconds; while it's busy this waits as [`connect`](Self::connect) does.
    ///
    /// # Errors
    /// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) when the time is up; otherwise those
    /// of [`connect`](Self::connect), at once.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use winpipe::WinStream;
    ///
    /// let path = r"\\.\pipe\nobody-made-this";
    /// let error = WinStream::connect_with_timeout(path, Duration::from_millis(10)).unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    /// ```
    pub fn connect_with_timeout<P: AsRef<Path>>(
        path: P,
        timeout: Duration,
    ) -> io::Result<WinStream> {
        WinStream::connect_addr_with_timeout(&WinPipeSocketAddr::from_pathname(path)?, timeout)
    }

    /// Connects to the pipe of that address, as
    /// [`connect_with_timeout`](Self::connect_with_timeout) does.
    ///
    /// # Errors
    /// Those of [`connect_with_timeout`](Self::connect_with_timeout), and
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for an unnamed address.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use winpipe::{WinListener, WinStream};
    ///
    /// # let path = format!(r"\\.\pipe\winpipe-doc-connect-addr-timeout-{}", std::process::id());
    /// let listener = WinListener::bind(path)?;
    /// let addr = listener.local_addr()?;
    /// let stream = WinStream::connect_addr_with_timeout(&addr, Duration::from_secs(5))?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn connect_addr_with_timeout(
        socket_addr: &WinPipeSocketAddr,
        timeout: Duration,
    ) -> io::Result<WinStream> {
        ConnectOptions::new()
            .timeout(timeout)
            .wait_for_server(true)
            .connect_addr(socket_addr)
    }

    /// Returns the options to connect by, where the defaults don't do.
    ///
    /// # Examples
    /// ```no_run
    /// use winpipe::{Server, WinStream};
    ///
    /// let path = r"\\.\pipe\some-service";
    /// let stream = WinStream::options().expect_server(Server::LocalSystem).connect(path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn options() -> ConnectOptions {
        ConnectOptions::new()
    }

    /// Makes two streams that are connected to each other.
    ///
    /// The pipe has no name at all, so nobody can find it, join it or take its name.
    ///
    /// This corresponds to calling `NtCreateNamedPipeFile` relative to the pipe device, then
    /// `NtOpenFile` relative to the server's end.
    ///
    /// # Errors
    /// Those of the system, such as when it has no memory left.
    ///
    /// # Examples
    /// ```
    /// use std::io::{Read, Write};
    /// use winpipe::WinStream;
    ///
    /// let (mut one, mut other) = WinStream::pair()?;
    /// one.write_all(b"hello")?;
    /// let mut buf = [0; 5];
    /// other.read_exact(&mut buf)?;
    /// assert_eq!(&buf, b"hello");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn pair() -> io::Result<(WinStream, WinStream)> {
        let device = pipe::open_device()?;
        let server = pipe::create_named_pipe(Instance {
            root: Some(device.as_handle()),
            name: &[],
            descriptor: None,
            first: true,
            reject_remote: true,
            by_message: true,
            limit: 1,
            inbound: QUOTA,
            outbound: QUOTA,
        })?;
        let client = pipe::open_peer(&server)?;
        client.set_named_pipe_handle_state(true)?;
        let stream = |pipe, is_server| {
            let (local, peer) = (WinPipeSocketAddr::UNNAMED, WinPipeSocketAddr::UNNAMED);
            WinStream::new(
                pipe,
                local,
                peer,
                Facts {
                    is_server,
                    ..Facts::of_server(QUOTA, true)
                },
            )
        };
        Ok((stream(server, true), stream(client, false)))
    }

    /// Makes a second stream over the same end of the connection.
    ///
    /// Both share everything: what one reads the other doesn't, and timeouts, the nonblocking flag
    /// and shutdown hold for both. The peer sees the end when the last clone is dropped.
    ///
    /// This corresponds to calling `DuplicateHandle`; the new handle isn't inheritable.
    ///
    /// # Errors
    /// Those of the system, such as when it has no handles left.
    ///
    /// # Examples
    /// ```
    /// let (stream, _peer) = winpipe::WinStream::pair()?;
    /// let clone = stream.try_clone()?;
    /// clone.set_nonblocking(true)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_clone(&self) -> io::Result<WinStream> {
        Ok(WinStream {
            pipe: self.pipe.duplicate_handle()?,
            shared: Arc::clone(&self.shared),
        })
    }

    /// Returns the address of this end: the listener's for an accepted stream, otherwise unnamed.
    ///
    /// # Errors
    /// None; the result is there for std's signature.
    ///
    /// # Examples
    /// ```
    /// let (stream, _peer) = winpipe::WinStream::pair()?;
    /// assert!(stream.local_addr()?.is_unnamed());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn local_addr(&self) -> io::Result<WinPipeSocketAddr> {
        Ok(self.shared.local.clone())
    }

    /// Returns the address of the other end: what a client connected to, otherwise unnamed.
    ///
    /// # Errors
    /// None; the result is there for std's signature.
    ///
    /// # Examples
    /// ```
    /// let (stream, _peer) = winpipe::WinStream::pair()?;
    /// assert!(stream.peer_addr()?.is_unnamed());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn peer_addr(&self) -> io::Result<WinPipeSocketAddr> {
        Ok(self.shared.peer.clone())
    }

    /// Limits how long a read or a peek waits; `None` is for ever, which it is to begin with.
    ///
    /// A call that waits already, on this stream or on a clone, is limited from now. The timeout is
    /// kept as it is, and rounded up to whole milliseconds for waiting. A read that times out has
    /// taken nothing.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a timeout of zero.
    ///
    /// # On Unix
    /// A call that waits already doesn't see the change.
    ///
    /// # Examples
    /// ```
    /// use std::io::{ErrorKind, Read};
    /// use std::time::Duration;
    ///
    /// let (mut stream, _peer) = winpipe::WinStream::pair()?;
    /// stream.set_read_timeout(Some(Duration::from_millis(10)))?;
    /// assert_eq!(stream.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::TimedOut);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        set_timeout(&self.shared.reading, timeout)
    }

    /// Limits how long a write waits; `None` is for ever, which it is to begin with.
    ///
    /// A call that waits already, on this stream or on a clone, is limited from now. Nothing is lost
    /// or sent twice when a write times out: `Ok(n)` means that the first `n` bytes will reach the
    /// peer and no more, an error that none will.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a timeout of zero.
    ///
    /// # On Unix
    /// A call that waits already doesn't see the change.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// let (stream, _peer) = winpipe::WinStream::pair()?;
    /// stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    /// assert_eq!(stream.write_timeout()?, Some(Duration::from_secs(5)));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        set_timeout(&self.shared.writing, timeout)
    }

    /// Returns the limit of reads, exactly as it was set.
    ///
    /// # Errors
    /// None; the result is there for std's signature.
    ///
    /// # Examples
    /// ```
    /// let (stream, _peer) = winpipe::WinStream::pair()?;
    /// assert_eq!(stream.read_timeout()?, None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.shared.reading.timeout())
    }

    /// Returns the limit of writes, exactly as it was set.
    ///
    /// # Errors
    /// None; the result is there for std's signature.
    ///
    /// # Examples
    /// ```
    /// let (stream, _peer) = winpipe::WinStream::pair()?;
    /// assert_eq!(stream.write_timeout()?, None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.shared.writing.timeout())
    }

    /// Makes calls that would have to wait fail with [`WouldBlock`](io::ErrorKind::WouldBlock).
    ///
    /// A call that waits already, on this stream or on a clone, fails so now. A write takes what
    /// finds room, to within 4 KiB, and says how much that was.
    ///
    /// # Errors
    /// None; the result is there for std's signature.
    ///
    /// # On Unix
    /// A call that waits already doesn't see the change.
    ///
    /// # Examples
    /// ```
    /// use std::io::{ErrorKind, Read};
    ///
    /// let (mut stream, _peer) = winpipe::WinStream::pair()?;
    /// stream.set_nonblocking(true)?;
    /// assert_eq!(stream.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.shared.reading.set_nonblocking(nonblocking);
        self.shared.writing.set_nonblocking(nonblocking);
        Ok(())
    }

    /// Returns the error that is stored in the stream: never any, as pipes store none.
    ///
    /// # Errors
    /// None; the result is there for std's signature.
    ///
    /// # Examples
    /// ```
    /// let (stream, _peer) = winpipe::WinStream::pair()?;
    /// assert!(stream.take_error()?.is_none());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(None)
    }

    /// Shuts down the reading half, the writing half, or both, of this end and all its clones.
    ///
    /// All calls on that half, those that wait in other threads too, end at once: reads with
    /// `Ok(0)`, writes with [`BrokenPipe`](io::ErrorKind::BrokenPipe) (or with the number of bytes
    /// they had already passed on).
    ///
    /// After `Write` the peer reads what was written, and then the end; it can still answer. The
    /// mark of the end is an empty message, which takes no room and never waits.
    ///
    /// # Errors
    /// [`Unsupported`](io::ErrorKind::Unsupported), for `Write` and `Both`, on a pipe of somebody
    /// else's making that keeps no message boundaries (`PIPE_TYPE_BYTE`): it can't carry the mark.
    /// `Write` has done nothing then; `Both` has ended the calls on this end, but the peer sees the
    /// end only when the stream and its clones are dropped.
    ///
    /// # On Unix
    /// After `Read` the peer's writes fail there; here they fill the pipe's 64 KiB and then wait. On
    /// Linux, bytes that had arrived before `Read` can still be read; here, as on BSD, they can't.
    ///
    /// # Examples
    /// ```
    /// use std::io::{Read, Write};
    /// use std::net::Shutdown;
    ///
    /// let (mut one, mut other) = winpipe::WinStream::pair()?;
    /// one.write_all(b"question")?;
    /// one.shutdown(Shutdown::Write)?;
    ///
    /// let mut text = String::new();
    /// other.read_to_string(&mut text)?;
    /// other.write_all(b"answer")?;
    /// drop(other);
    /// one.read_to_string(&mut text)?;
    /// assert_eq!(text, "questionanswer");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let facts = self.facts()?;
        if how == Shutdown::Write && !facts.has_messages {
            return Err(cannot_half_close());
        }
        if how != Shutdown::Write {
            self.shared.reading.end();
        }
        if how == Shutdown::Read {
            return Ok(());
        }
        self.shared.writing.end();
        // Where writes are under way, the last of them sends the end: no byte may come after it.
        match self.shared.writers.close() {
            _ if !facts.has_messages => Err(cannot_half_close()),
            Last::Yes => self.send_end(),
            Last::No => Ok(()),
        }
    }

    /// Waits until the peer has read everything that was written.
    ///
    /// Nothing but the peer ends this wait, neither timeouts nor shutdown: Windows has no way to take
    /// the call back. It's not needed before dropping a stream, which loses nothing.
    ///
    /// This corresponds to calling `FlushFileBuffers`.
    ///
    /// # Errors
    /// [`BrokenPipe`](io::ErrorKind::BrokenPipe): the peer is gone, so nobody can tell what it read.
    ///
    /// # On Unix
    /// There is no such call.
    ///
    /// # Examples
    /// ```
    /// use std::io::{Read, Write};
    ///
    /// let (mut stream, mut peer) = winpipe::WinStream::pair()?;
    /// stream.write_all(b"read this")?;
    /// let reader = std::thread::spawn(move || {
    ///     peer.read(&mut [0; 64]).map(|_| peer)
    /// });
    /// stream.drain()?;
    /// # let _peer = reader.join().unwrap()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn drain(&self) -> io::Result<()> {
        self.facts()?;
        // With the peer gone, the flush would find nothing left to wait for.
        let flushed = match self.pipe.local_information() {
            Ok(information) if information.is_closing => Err(Code::NO_DATA),
            Ok(_) => self.pipe.flush_file_buffers(),
            Err(code) => Err(code),
        };
        flushed.map_err(|code| code.explain(Doing::Using))
    }

    /// Copies the bytes that the next read would return, and leaves them there.
    ///
    /// Waits for bytes as a read does, under the same timeout and the same nonblocking flag.
    /// `Ok(0)` is the end, or an empty buffer. With several readers the bytes may be another's by
    /// the time of the next read.
    ///
    /// This corresponds to calling `PeekNamedPipe`, and an empty `ReadFile` to wait.
    ///
    /// # Errors
    /// Those of a read.
    ///
    /// # Examples
    /// ```
    /// use std::io::{Read, Write};
    ///
    /// let (mut stream, mut peer) = winpipe::WinStream::pair()?;
    /// peer.write_all(b"hello")?;
    /// let mut buf = [0; 8];
    /// assert_eq!(stream.peek(&mut buf)?, 5);
    /// assert_eq!(stream.read(&mut buf)?, 5);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let facts = self.facts()?;
        let mut call = Call::new(&self.shared.reading);
        while !self.shared.reading.is_ended() {
            if let Some(count) = self.peek_now(buf)? {
                return Ok(count);
            }
            // Nothing is there, or the mark of the end is: an empty message doesn't show. A read of
            // no bytes waits for data and leaves it, but takes the mark.
            let mut alone = Some(
                self.shared
                    .issuing
                    .write()
                    .unwrap_or_else(PoisonError::into_inner),
            );
            match self.pipe.read_nothing(&mut call, &mut alone) {
                // Something was there after all. If it's data it shows now, for no other read has
                // been issued since.
                Ok(read) if alone.is_some() => match self.peek_now(buf)? {
                    Some(count) => return Ok(count),
                    None if facts.reads_by_message && !read.more => return Ok(self.end_of_data()),
                    None => {}
                },
                Ok(read) if facts.reads_by_message && !read.more => return Ok(self.end_of_data()),
                Ok(_) => {}
                Err(stop) => return self.stopped_reading(stop),
            }
        }
        Ok(0)
    }
}

impl WinStream {
    /// Connects as the options say.
    fn with(addr: &WinPipeSocketAddr, options: &ConnectOptions) -> io::Result<WinStream> {
        let path = pipe::wide(&addr.win32_path()?);
        let quality = match options.impersonation {
            Impersonation::Anonymous => Quality::Anonymous,
            Impersonation::Identification => Quality::Identification,
            Impersonation::Impersonation => Quality::Impersonation,
            Impersonation::Delegation => Quality::Delegation,
        };
        let deadline = Instant::now().checked_add(options.timeout);
        let left = || match deadline {
            None => Duration::MAX,
            Some(deadline) => deadline.saturating_duration_since(Instant::now()),
        };
        let mut pause = Duration::from_millis(1);
        let mut was_busy = false;
        loop {
            let code = match pipe::create_file(&path, quality) {
                Ok(pipe) => return client(pipe, addr, options.expected),
                Err(code) => code,
            };
            match code {
                Code::PIPE_BUSY => was_busy = true,
                Code::FILE_NOT_FOUND if options.wait_for_server => {}
                // The server that was busy has gone.
                Code::FILE_NOT_FOUND if was_busy => return Err(code.refused()),
                code => return Err(code.explain(Doing::Connecting)),
            }
            let left = left();
            if left.is_zero() {
                return Err(code.refused());
            }
            if code == Code::PIPE_BUSY {
                // 0 and 1 would mean something else than so many milliseconds.
                match pipe::wait_named_pipe(&path, milliseconds(left).max(2)) {
                    Ok(()) | Err(Code::SEM_TIMEOUT) => continue,
                    // Gone since: the next attempt says so.
                    Err(Code::FILE_NOT_FOUND) if !options.wait_for_server => continue,
                    // Waiting isn't possible everywhere; not in Windows containers, for one.
                    Err(_) => {}
                }
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(Duration::from_millis(16));
        }
    }

    /// Makes a stream of a pipe's end that is connected and, where it has messages, reads by message.
    pub(crate) fn new(
        pipe: Pipe,
        local: WinPipeSocketAddr,
        peer: WinPipeSocketAddr,
        facts: Facts,
    ) -> WinStream {
        let stream = WinStream::adopt(pipe, local, peer);
        // A new lock is empty.
        let _ = stream.shared.facts.set(facts);
        stream
    }

    /// Makes a stream of a handle that nothing is known of yet.
    fn adopt(pipe: Pipe, local: WinPipeSocketAddr, peer: WinPipeSocketAddr) -> WinStream {
        let shared = Shared {
            reading: Control::new(),
            issuing: RwLock::new(()),
            writing: Control::new(),
            writers: Writers::new(),
            facts: OnceLock::new(),
            local,
            peer,
            offers: Mutex::new(Vec::new()),
        };
        WinStream {
            pipe,
            shared: Arc::new(shared),
        }
    }

    /// What is known of the pipe; asked for at the first use where the handle came from outside.
    fn facts(&self) -> io::Result<Facts> {
        if let Some(&facts) = self.shared.facts.get() {
            return Ok(facts);
        }
        match self.pipe.is_synchronous() {
            Ok(false) => {}
            Ok(true) => return Err(error::synchronous_handle()),
            Err(code) => return Err(code.explain_handle()),
        }
        let information = self
            .pipe
            .local_information()
            .map_err(Code::explain_handle)?;
        let mut facts = Facts::of(&information);
        // Its former owner may have let it read by byte, or not wait. Where the handle doesn't allow
        // the change, it's used as it is.
        facts.reads_by_message &= self
            .pipe
            .set_named_pipe_handle_state(facts.has_messages)
            .is_ok();
        Ok(*self.shared.facts.get_or_init(|| facts))
    }

    /// Whether this is the end of the process that made the pipe.
    pub(crate) fn is_server(&self) -> io::Result<bool> {
        Ok(self.facts()?.is_server)
    }

    /// The copies of handles that the peer may be about to take.
    pub(crate) fn offers(&self) -> MutexGuard<'_, Vec<OwnedHandle>> {
        // A list that a panic left behind is still a list.
        self.shared
            .offers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn read_with(
        &self,
        read: impl FnOnce(&mut Call<'_>) -> Result<Transferred, Stop>,
    ) -> io::Result<usize> {
        self.facts()?;
        if self.shared.reading.is_ended() {
            return Ok(0);
        }
        match read(&mut Call::new(&self.shared.reading)) {
            // The peer's mark of the end.
            Ok(Transferred { count: 0, .. }) => Ok(self.end_of_data()),
            Ok(read) => Ok(read.count),
            Err(stop) => self.stopped_reading(stop),
        }
    }

    fn stopped_reading(&self, stop: Stop) -> io::Result<usize> {
        match stop {
            Stop::Ended => Ok(0),
            Stop::Failed(code) if code.is_peer_gone() => Ok(self.end_of_data()),
            stop => Err(stopped(stop)),
        }
    }

    /// Copies the bytes that show; `None` if none do.
    fn peek_now(&self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        match self.pipe.peek_named_pipe(buf) {
            Ok(0) => Ok(None),
            Ok(count) => Ok(Some(count)),
            Err(code) if code.is_peer_gone() => Ok(Some(self.end_of_data())),
            // Not connected, one way or another: a read says which.
            Err(Code::BAD_PIPE) => Ok(None),
            Err(code) => Err(code.explain(Doing::Using)),
        }
    }

    /// Keeps a waiting peek from mistaking what a read takes for the end, until the read is issued.
    fn issuing(&self) -> RwLockReadGuard<'_, ()> {
        self.shared
            .issuing
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers that there's nothing more to read, and tells the others who wait for something: the
    /// mark of the end is one message, and reached only one of them.
    fn end_of_data(&self) -> usize {
        self.shared.reading.end();
        0
    }

    /// Writes with `write`, which is given how many bytes it may send at most, until that sent
    /// `total` bytes or can't go on.
    fn write_with(
        &self,
        total: usize,
        mut write: impl FnMut(usize, usize, &mut Call<'_>) -> Result<Transferred, Stop>,
    ) -> io::Result<usize> {
        let facts = self.facts()?;
        let Some(_turn) = self.shared.writers.enter(self) else {
            return Err(stopped(Stop::Ended));
        };
        let mut call = Call::new(&self.shared.writing);
        let mut longest = facts.chunk;
        let mut done = 0;
        while done < total {
            let written = match self.shared.writing.is_ended() {
                true => Err(Stop::Ended),
                false => write(done, longest, &mut call),
            };
            match written {
                // A pipe that somebody has set not to wait takes nothing of what doesn't fit.
                Ok(Transferred { count: 0, .. }) if done == 0 => {
                    return Err(stopped(Stop::WouldBlock));
                }
                Ok(Transferred { count: 0, .. }) => break,
                Ok(written) => done += written.count,
                // Some of it may fit.
                Err(Stop::WouldBlock) if longest.min(total - done) > SHORTEST_PART => {
                    longest = longest.min(total - done) / 2;
                }
                // What has been passed on counts. The next call meets the same obstacle.
                Err(_) if done > 0 => break,
                Err(stop) => return Err(stopped(stop)),
            }
        }
        Ok(done)
    }

    /// Sends the mark of the end. It's queued even where the pipe is full.
    fn send_end(&self) -> io::Result<()> {
        // Not under the control of the writing half, which is shut down: that doesn't hold for its end.
        let open = Control::new();
        match self.pipe.write_file(&[], &mut Call::new(&open)) {
            Err(Stop::Failed(code)) if !code.is_peer_gone() => Err(code.explain(Doing::Using)),
            _ => Ok(()),
        }
    }
}

impl ConnectOptions {
    /// Connects to the pipe of that path.
    ///
    /// # Errors
    /// Those of [`WinStream::connect`] and, with [`expect_server`](Self::expect_server),
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied) if the pipe is somebody else's.
    ///
    /// # Examples
    /// ```
    /// use winpipe::{ConnectOptions, Server, WinListener};
    ///
    /// # let path = format!(r"\\.\pipe\winpipe-doc-options-connect-{}", std::process::id());
    /// let listener = WinListener::bind(&path)?;
    /// let stream = ConnectOptions::new().expect_server(Server::CurrentUser).connect(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn connect<P: AsRef<Path>>(&self, path: P) -> io::Result<WinStream> {
        self.connect_addr(&WinPipeSocketAddr::from_pathname(path)?)
    }

    /// Connects to the pipe of that address, as [`connect`](Self::connect) does.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect), and [`InvalidInput`](io::ErrorKind::InvalidInput) for an
    /// unnamed address.
    ///
    /// # Examples
    /// ```
    /// use winpipe::{ConnectOptions, WinListener};
    ///
    /// # let path = format!(r"\\.\pipe\winpipe-doc-options-connect-addr-{}", std::process::id());
    /// let listener = WinListener::bind(&path)?;
    /// let stream = ConnectOptions::new().connect_addr(&listener.local_addr()?)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn connect_addr(&self, addr: &WinPipeSocketAddr) -> io::Result<WinStream> {
        WinStream::with(addr, self)
    }
}

impl Facts {
    /// Those of the server's end of a pipe that this crate made.
    pub(crate) fn of_server(outbound: u32, has_messages: bool) -> Facts {
        let chunk = (outbound as usize).min(LONGEST_CHUNK);
        Facts {
            chunk,
            has_messages,
            reads_by_message: has_messages,
            is_server: true,
        }
    }

    fn of(information: &LocalInformation) -> Facts {
        Facts {
            // One byte is never partly delivered, so it does where there is no quota at all.
            chunk: information.write_quota.clamp(1, LONGEST_CHUNK),
            has_messages: information.is_message_type,
            reads_by_message: information.is_message_type,
            is_server: information.is_server,
        }
    }
}

impl Read for WinStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(bufs)
    }
}

/// Reads are calls of `ReadFile`.
///
/// One returns as soon as something is there, and `Ok(0)` at the end: when the peer has dropped its
/// stream or shut down its writing half, and everything before that was read. The end is final. A
/// read into an empty buffer returns `Ok(0)` and does nothing. A vectored read fills several buffers
/// with one call, with at most 64 KiB.
///
/// # Errors
/// [`TimedOut`](io::ErrorKind::TimedOut) and [`WouldBlock`](io::ErrorKind::WouldBlock), after which
/// nothing is lost; [`InvalidInput`](io::ErrorKind::InvalidInput) if the stream was made from a
/// handle that isn't one end of an overlapped pipe.
impl Read for &WinStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.read_with(|call| self.pipe.read_file(buf, call, self.issuing()))
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let mut filled = bufs.iter_mut().filter(|buf| !buf.is_empty());
        match (filled.next(), filled.next()) {
            (None, _) => Ok(0),
            (Some(only), None) => self.read(only),
            _ => self.read_with(|call| self.pipe.read_scattered(bufs, call, self.issuing())),
        }
    }
}

impl Write for WinStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes are calls of `WriteFile`, each of at most as many bytes as the pipe queues (64 KiB).
///
/// One returns when all bytes are on their way to the peer; dropping the stream then doesn't lose
/// them. `Ok(n)` with fewer means that exactly the first `n` will arrive, and an error that none
/// will, whatever ended the call. Writes of several threads don't mix within 64 KiB. A vectored
/// write is one write of all its buffers, for up to 64 KiB. `flush` does nothing, as there is nothing
/// to flush; to wait until the peer has read, see [`drain`](WinStream::drain).
///
/// # Errors
/// [`TimedOut`](io::ErrorKind::TimedOut) and [`WouldBlock`](io::ErrorKind::WouldBlock), if nothing at
/// all found room; [`BrokenPipe`](io::ErrorKind::BrokenPipe) if the peer is gone or this end's
/// writing half is shut down; [`InvalidInput`](io::ErrorKind::InvalidInput) if the stream was made
/// from a handle that isn't one end of an overlapped pipe.
impl Write for &WinStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_with(buf.len(), |done, longest, call| {
            let rest = &buf[done..];
            self.pipe.write_file(&rest[..rest.len().min(longest)], call)
        })
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut filled = bufs.iter().filter(|buf| !buf.is_empty());
        match (filled.next(), filled.next()) {
            (None, _) => self.write(&[]),
            (Some(only), None) => self.write(only),
            _ => {
                let total = bufs
                    .iter()
                    .map(|buf| buf.len())
                    .fold(0, usize::saturating_add);
                self.write_with(total, |done, longest, call| {
                    self.pipe.write_gathered(bufs, done, longest, call)
                })
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The calls that write, counted, so that the mark of the end comes after the bytes of them all.
struct Writers(AtomicU32);

/// Whether the one who asks was the last, and has to send the end.
enum Last {
    Yes,
    No,
}

impl Writers {
    const CLOSED: u32 = 1 << 31;

    fn new() -> Writers {
        Writers(AtomicU32::new(0))
    }

    /// Lets a call write, unless the writing half is shut down.
    fn enter<'a>(&'a self, stream: &'a WinStream) -> Option<Turn<'a>> {
        let one_more = |count| (count & Self::CLOSED == 0).then_some(count + 1);
        let entered = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more);
        entered.is_ok().then(|| Turn {
            writers: self,
            stream,
        })
    }

    /// Lets no further call write.
    fn close(&self) -> Last {
        match self.0.fetch_or(Self::CLOSED, Ordering::AcqRel) {
            0 => Last::Yes,
            _ => Last::No,
        }
    }
}

/// One call that writes.
struct Turn<'a> {
    writers: &'a Writers,
    stream: &'a WinStream,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let before = self.writers.0.fetch_sub(1, Ordering::AcqRel);
        if before == Writers::CLOSED + 1
            && self.stream.facts().is_ok_and(|facts| facts.has_messages)
        {
            // `shutdown` has returned, and with the peer gone there's nobody to tell.
            let _ = self.stream.send_end();
        }
    }
}

/// Makes a stream of the client's end of a pipe.
fn client(pipe: Pipe, addr: &WinPipeSocketAddr, expected: Option<Server>) -> io::Result<WinStream> {
    if let Some(expected) = expected {
        let owner = Sid::from_bytes(&security::owner(pipe.as_handle())?)?;
        if !expected.is_owner(&owner)? {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("the pipe belongs to {owner}, and not to {expected:?} as expected"),
            ));
        }
    }
    // A server that has answered and gone already is no error: its answer is there to be read.
    let facts = match pipe.local_information() {
        Ok(information) => Facts::of(&information),
        Err(code) if code.is_peer_gone() => Facts {
            chunk: 1,
            has_messages: true,
            reads_by_message: true,
            is_server: false,
        },
        Err(code) => return Err(code.explain(Doing::Using)),
    };
    if facts.has_messages {
        match pipe.set_named_pipe_handle_state(true) {
            Err(code) if !code.is_peer_gone() => return Err(code.explain(Doing::Using)),
            _ => {}
        }
    }
    Ok(WinStream::new(
        pipe,
        WinPipeSocketAddr::UNNAMED,
        addr.clone(),
        facts,
    ))
}

fn set_timeout(control: &Control, timeout: Option<Duration>) -> io::Result<()> {
    if timeout == Some(Duration::ZERO) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a timeout can't be zero: for calls that never wait there is set_nonblocking",
        ));
    }
    control.set_timeout(timeout);
    Ok(())
}

fn stopped(stop: Stop) -> io::Error {
    match stop {
        Stop::WouldBlock | Stop::Recalled => io::ErrorKind::WouldBlock.into(),
        Stop::TimedOut => io::ErrorKind::TimedOut.into(),
        Stop::Ended => io::ErrorKind::BrokenPipe.into(),
        Stop::Failed(code) => code.explain(Doing::Using),
    }
}

fn cannot_half_close() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "this pipe keeps no message boundaries, so it can't carry the end of one direction: \
         drop the stream to let the peer see the end",
    )
}

impl fmt::Debug for WinStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WinStream")
            .field("handle", &self.as_raw_handle())
            .field("local", &self.shared.local)
            .field("peer", &self.shared.peer)
            .finish()
    }
}

impl AsHandle for WinStream {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.pipe.as_handle()
    }
}

impl AsRawHandle for WinStream {
    fn as_raw_handle(&self) -> RawHandle {
        self.pipe.as_handle().as_raw_handle()
    }
}

impl IntoRawHandle for WinStream {
    fn into_raw_handle(self) -> RawHandle {
        OwnedHandle::from(self).into_raw_handle()
    }
}

/// Takes over an end of a pipe, the server's or the client's, that is connected and was opened for
/// overlapped I/O.
///
/// The handle is looked at when the stream is first used: where it's something else, every call
/// fails with [`InvalidInput`](io::ErrorKind::InvalidInput). A pipe that keeps message boundaries is
/// set to be read by message. Other streams over duplicates of the handle share none of this one's
/// settings.
impl From<OwnedHandle> for WinStream {
    fn from(handle: OwnedHandle) -> WinStream {
        WinStream::adopt(
            handle.into(),
            WinPipeSocketAddr::UNNAMED,
            WinPipeSocketAddr::UNNAMED,
        )
    }
}

/// Gives the handle away. It's an overlapped one: std's `File` and child processes, which expect a
/// synchronous handle, can't use it, and std ends the process when it's left with a call pending.
impl From<WinStream> for OwnedHandle {
    fn from(stream: WinStream) -> OwnedHandle {
        stream.pipe.into()
    }
}

#[allow(unsafe_code)]
impl FromRawHandle for WinStream {
    /// Takes over a raw handle, as `From<OwnedHandle>` does.
    ///
    /// # Safety
    /// The handle is open, and nobody else closes it.
    unsafe fn from_raw_handle(handle: RawHandle) -> WinStream {
        // SAFETY: the caller says so.
        WinStream::from(unsafe { OwnedHandle::from_raw_handle(handle) })
    }
}
