//! `WinStream`: one end of a connection.

use std::borrow::Borrow;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::path::Path;
#[cfg(all(windows, not(winpipe_sim), feature = "tokio"))]
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, RwLock};
use std::time::Duration;

use crate::addr::WinPipeSocketAddr;
use crate::lock::unpoisoned;
use crate::options::{ConnectOptions, ListenOptions};
use crate::protocol::end::{Then, WritingHalf};
use crate::protocol::exchange::Handoff;
use crate::protocol::facts::{Facts, Found};
use crate::protocol::vectored;
use crate::sys::error::{self, Code, Doing};
use crate::sys::operation::{Attend, Transferred};
use crate::sys::pipe::{self, Instance, Pipe};
use crate::sys::process::Handle;
use crate::sys::record;
#[cfg(all(windows, not(winpipe_sim), feature = "tokio"))]
use crate::tokio::port::{Association, wake};
#[cfg(all(windows, not(winpipe_sim), feature = "tokio"))]
use crate::tokio::readiness::Readiness;
use crate::wait::{Call, Control};

mod transfer;

/// One end of a connection over a named pipe: `UnixStream` for Windows.
///
/// It has the methods of `std::os::unix::net::UnixStream`, and they behave as they do there.
/// Dropping a stream closes its handle and never blocks. The peer can still read everything that
/// was written.
///
/// Several threads can read and write a stream at once, through `&WinStream` or through clones.
/// Timeouts, the nonblocking flag and [`shutdown`](Self::shutdown) apply to all clones.
///
/// # On Unix
/// - Here a read returns the bytes of at most one write, even if more are available.
/// - Here a call that times out fails with [`TimedOut`](io::ErrorKind::TimedOut), not `WouldBlock`.
/// - [`shutdown(Write)`](Self::shutdown) isn't supported on pipes of other programs that keep no
///   message boundaries.
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
    pub(crate) shared: Arc<Shared>,
}

/// What all clones of a stream have in common.
pub(crate) struct Shared {
    pub(crate) reading: Control,
    /// Held shared by reads while they issue their operation, and exclusively by a peek that is
    /// about to wait.
    pub(crate) issuing: RwLock<()>,
    pub(crate) writing: Control,
    writing_half: WritingHalf,
    /// The pipe that is written to, if that isn't the one that is read. It's closed where the other
    /// marks the end.
    outgoing: Option<Box<RwLock<Option<Pipe>>>>,
    pub(crate) facts: OnceLock<Facts>,
    local: WinPipeSocketAddr,
    peer: WinPipeSocketAddr,
    handoff: Handoff<Handle>,
    /// Once the stream has been one of the async half.
    #[cfg(all(windows, not(winpipe_sim), feature = "tokio"))]
    pub(crate) readiness: OnceLock<Box<Readiness<Turn<Arc<WinStream>>>>>,
    /// Whether there may be several streams over this end.
    #[cfg(all(windows, not(winpipe_sim), feature = "tokio"))]
    pub(crate) is_cloned: AtomicBool,
}

impl WinStream {
    /// Connects to the pipe at the given path.
    ///
    /// If the pipe exists but its backlog is full, this waits for up to one second. It doesn't
    /// poll, except in Windows containers, where it tries every 16 ms because Windows can't wait
    /// for a pipe there. The server can find out which user the client is, but can't act as that
    /// user (`SECURITY_IDENTIFICATION`).
    ///
    /// Any user of the computer can create a pipe of any name that is free. To check which user
    /// created the pipe, use [`ConnectOptions::expect_server`], or
    /// [`ipc::connect`](crate::ipc::connect) for a pipe of the current user.
    ///
    /// This corresponds to calling `CreateFileW`, and `WaitNamedPipeW` if the pipe is busy.
    ///
    /// # Errors
    /// - [`NotFound`](io::ErrorKind::NotFound), at once: there is no such pipe.
    /// - [`ConnectionRefused`](io::ErrorKind::ConnectionRefused): the backlog was full for one
    ///   second, or the server was dropped in the meantime.
    /// - [`PermissionDenied`](io::ErrorKind::PermissionDenied): the pipe's access rights don't let
    ///   this user connect, or the pipe is for one direction only.
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput): the path isn't that of a pipe; see
    ///   [`WinPipeSocketAddr::from_pathname`].
    ///
    /// # On Unix
    /// `connect` waits until the backlog has room, however long that takes.
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

    /// Connects to the pipe at the given address, as [`connect`](Self::connect) does.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect), and [`InvalidInput`](io::ErrorKind::InvalidInput) for
    /// an unnamed address.
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

    /// Connects to the pipe at the given path, and waits for it to appear and to have room.
    ///
    /// At least one attempt is made, however short the timeout is. While there is no such pipe,
    /// this tries again every few milliseconds. While its backlog is full, this waits as
    /// [`connect`](Self::connect) does.
    ///
    /// # Errors
    /// - [`ConnectionRefused`](io::ErrorKind::ConnectionRefused): the timeout has passed.
    /// - The other errors of [`connect`](Self::connect), at once.
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

    /// Connects to the pipe at the given address, as
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

    /// Returns options for connecting, to change the defaults.
    ///
    /// # Examples
    /// ```no_run
    /// use winpipe::{Server, WinStream};
    ///
    /// let path = r"\\.\pipe\some-service";
    /// let stream = WinStream::options().expect_server(Server::System).connect(path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn options() -> ConnectOptions {
        ConnectOptions::new()
    }

    /// Creates two streams that are connected to each other.
    ///
    /// The pipe has no name, so no other process can open it.
    ///
    /// This corresponds to calling `NtCreateNamedPipeFile` relative to the pipe device, then
    /// `NtOpenFile` relative to the server's end.
    ///
    /// # Errors
    /// Errors of the system, such as when it's out of memory.
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
        let _records = record::hold();
        let device = pipe::open_device()?;
        let server =
            pipe::create_named_pipe(Instance::unnamed(&device, true, ListenOptions::BUFFER))?;
        let client = pipe::open_peer(&server)?;
        client.set_named_pipe_handle_state(true)?;
        let stream = |pipe, is_server| {
            let (local, peer) = (WinPipeSocketAddr::UNNAMED, WinPipeSocketAddr::UNNAMED);
            WinStream::new(
                pipe,
                local,
                peer,
                Facts::new(ListenOptions::BUFFER as usize, true, is_server),
            )
        };
        Ok((stream(server, true), stream(client, false)))
    }

    /// Creates another stream over the same end of the connection.
    ///
    /// Both read from and write to the same connection. Timeouts, the nonblocking flag and shutdown
    /// apply to both. The peer sees the end when the last clone is dropped.
    ///
    /// This corresponds to calling `DuplicateHandle`; the new handle isn't inheritable.
    ///
    /// # Errors
    /// Errors of the system, such as when the process has too many handles.
    ///
    /// # Examples
    /// ```
    /// let (stream, _peer) = winpipe::WinStream::pair()?;
    /// let clone = stream.try_clone()?;
    /// clone.set_nonblocking(true)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_clone(&self) -> io::Result<WinStream> {
        let _records = record::hold();
        #[cfg(all(windows, not(winpipe_sim), feature = "tokio"))]
        self.shared.is_cloned.store(true, Ordering::Relaxed);
        self.duplicate()
    }

    /// Creates another stream, which takes the place of this one, or is a clone.
    pub(crate) fn duplicate(&self) -> io::Result<WinStream> {
        Ok(WinStream {
            pipe: self.pipe.duplicate_handle()?,
            shared: Arc::clone(&self.shared),
        })
    }

    /// Returns the address of this end: the listener's for an accepted stream, otherwise unnamed.
    ///
    /// # Errors
    /// None. The result is there because std's method returns one.
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
    /// None. The result is there because std's method returns one.
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

    /// Sets how long a read or a peek waits. `None`, the default, is without limit.
    ///
    /// The timeout also applies to calls that are already waiting, on this stream or a clone,
    /// counted from now. It's stored as given, and rounded up to whole milliseconds when waiting. A
    /// read that times out has taken no bytes.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a timeout of zero.
    ///
    /// # On Unix
    /// The change doesn't affect calls that are already waiting.
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

    /// Sets how long a write waits. `None`, the default, is without limit.
    ///
    /// The timeout also applies to calls that are already waiting, on this stream or a clone,
    /// counted from now. A write that times out sends as many bytes as there is room for, as a
    /// [nonblocking](Self::set_nonblocking) one does, and fails only if there is none. No byte is
    /// lost or sent twice: after `Ok(n)` the peer gets exactly the first `n` bytes, and after an
    /// error none. That holds for peers that read by message, as this crate's streams do. A peer
    /// that reads by byte may have read the beginning of a write that then times out; see
    /// [`half_close`](crate::ListenOptions::half_close).
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a timeout of zero.
    ///
    /// # On Unix
    /// The change doesn't affect calls that are already waiting.
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

    /// Returns the read timeout, exactly as it was set.
    ///
    /// # Errors
    /// None. The result is there because std's method returns one.
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

    /// Returns the write timeout, exactly as it was set.
    ///
    /// # Errors
    /// None. The result is there because std's method returns one.
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

    /// Makes calls that would have to wait fail with [`WouldBlock`](io::ErrorKind::WouldBlock)
    /// instead.
    ///
    /// That includes calls that are already waiting, on this stream or a clone. A write for which
    /// there isn't enough room tries half of the bytes, and so on down to 4 KiB, and returns how
    /// many it sent. The flag changes for reads and writes at the same moment.
    ///
    /// # Errors
    /// None. The result is there because std's method returns one.
    ///
    /// # On Unix
    /// The change doesn't affect calls that are already waiting.
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
        let _records = record::hold();
        Control::set_nonblocking([&self.shared.reading, &self.shared.writing], nonblocking);
        Ok(())
    }

    /// Returns `None`: pipes don't store errors.
    ///
    /// # Errors
    /// None. The result is there because std's method returns one.
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
    /// All calls on that half end at once, including those that wait in other threads. Reads return
    /// `Ok(0)`. Writes fail with [`BrokenPipe`](io::ErrorKind::BrokenPipe), or return the number of
    /// bytes that they have already sent.
    ///
    /// After `Write` the peer can read everything that was written and then reads the end. It can
    /// still answer. An empty message marks the end. It takes no room in the pipe, so sending it
    /// never waits.
    ///
    /// # Errors
    /// - [`Unsupported`](io::ErrorKind::Unsupported), for `Write` and `Both`: the pipe keeps no
    ///   message boundaries (`PIPE_TYPE_BYTE`), so it can't carry the mark. Pipes of other programs
    ///   may be of that type. `Write` has done nothing then. `Both` has ended the calls on this
    ///   end, but the peer sees the end only when the stream and its clones are dropped.
    /// - [`PermissionDenied`](io::ErrorKind::PermissionDenied), for `Write` and `Both`: the stream
    ///   was created from a handle without the right to write.
    ///
    /// If the mark couldn't be sent, calling this again tries again.
    ///
    /// # On Unix
    /// After `Read` the peer's writes fail. Here they fill the pipe's buffer (1 MiB) and then
    /// wait, and writes that are already waiting go on waiting, until this end is dropped. On
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
        let _records = record::hold();
        let facts = self.facts()?;
        let can_end = facts.has_messages || self.shared.outgoing.is_some();
        if how == Shutdown::Write && !can_end {
            return Err(cannot_half_close());
        }
        if how != Shutdown::Write {
            self.shared.reading.end();
        }
        if how != Shutdown::Read {
            self.shared.writing.end();
        }
        self.shared.wake_tasks();
        if how == Shutdown::Read {
            return Ok(());
        }
        // If writes are in progress, the last of them marks the end: no byte may come after the
        // mark.
        match self.shared.writing_half.close() {
            _ if !can_end => Err(cannot_half_close()),
            Then::Mark => self.mark_end(),
            Then::Nothing => Ok(()),
        }
    }

    /// Waits until the peer has read everything that was written.
    ///
    /// Only the peer can end this wait. Timeouts and `shutdown` don't, as Windows has no way to
    /// cancel the call. There is no need to call this before dropping a stream: that loses nothing.
    ///
    /// This corresponds to calling `FlushFileBuffers`.
    ///
    /// # Errors
    /// [`BrokenPipe`](io::ErrorKind::BrokenPipe): the peer is gone, so it's unknown what it has
    /// read.
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
        let _records = record::hold();
        self.facts()?;
        // With the peer gone, the flush would find nothing left to wait for.
        let flushed = self.outgoing(|pipe| match pipe.local_information() {
            Ok(information) if information.is_closing => Err(Code::NO_DATA),
            Ok(_) => pipe.flush_file_buffers(),
            Err(code) => Err(code),
        });
        flushed.map_err(|code| code.explain(Doing::Using))
    }

    /// Copies the bytes that the next read would return, and leaves them there.
    ///
    /// Waits for bytes as a read does, subject to the read timeout and the nonblocking flag.
    /// Returns `Ok(0)` at the end, or if `buf` is empty. If other threads read too, one of them may
    /// get the bytes.
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
        self.shared.handoff.check_read()?;
        let _records = record::hold();
        let facts = self.facts()?;
        let mut call = Call::new(&self.shared.reading);
        while !self.shared.reading.is_ended() {
            if let Some(count) = self.peek_now(buf)? {
                return Ok(count);
            }
            // There is nothing, or only the mark of the end, which a peek doesn't show. A read of
            // no bytes waits for data and leaves it, but takes the mark.
            let mut alone = Some(unpoisoned(self.shared.issuing.write()));
            let waited = call.run(|attend| {
                self.pipe.read_file(&mut [], &mut |operation| {
                    if operation.is_pending() && facts.waits_beside_others() {
                        alone = None;
                    }
                    attend(operation);
                })
            });
            let read = match waited {
                Ok(read) => read,
                Err(stop) => return self.stopped_reading(stop),
            };
            if alone.is_some() {
                // Data would show now, as no other read has been issued since.
                if let Some(count) = self.peek_now(buf)? {
                    return Ok(count);
                }
            }
            drop(alone);
            if facts.found(read.more) == Found::End {
                return Ok(self.end_of_data());
            }
        }
        Ok(0)
    }
}

impl WinStream {
    /// Creates a stream from a connected end of a pipe. One that has messages must read by message.
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

    /// Whether it reads from one pipe and writes to another.
    #[cfg(all(windows, not(winpipe_sim), feature = "tokio"))]
    pub(crate) fn is_over_two(&self) -> bool {
        self.shared.outgoing.is_some()
    }

    /// Creates a stream that reads from one pipe and writes to another, both of byte type and made
    /// by this process.
    #[cfg(all(windows, not(winpipe_sim)))]
    pub(crate) fn over_two(incoming: Pipe, outgoing: Pipe, facts: Facts) -> WinStream {
        let mut stream = WinStream::new(
            incoming,
            WinPipeSocketAddr::UNNAMED,
            WinPipeSocketAddr::UNNAMED,
            facts,
        );
        // Nobody else has a new stream.
        if let Some(shared) = Arc::get_mut(&mut stream.shared) {
            shared.outgoing = Some(Box::new(RwLock::new(Some(outgoing))));
        }
        stream
    }

    /// Creates a stream from a handle whose facts aren't known yet.
    pub(crate) fn adopt(
        pipe: Pipe,
        local: WinPipeSocketAddr,
        peer: WinPipeSocketAddr,
    ) -> WinStream {
        let shared = Shared {
            reading: Control::new(),
            issuing: RwLock::new(()),
            writing: Control::new(),
            writing_half: WritingHalf::new(),
            outgoing: None,
            facts: OnceLock::new(),
            local,
            peer,
            handoff: Handoff::new(),
            #[cfg(all(windows, not(winpipe_sim), feature = "tokio"))]
            readiness: OnceLock::new(),
            #[cfg(all(windows, not(winpipe_sim), feature = "tokio"))]
            is_cloned: AtomicBool::new(false),
        };
        WinStream {
            pipe,
            shared: Arc::new(shared),
        }
    }

    /// Returns the facts of the pipe. If the handle came from outside, the first use queries them.
    pub(crate) fn facts(&self) -> io::Result<Facts> {
        if let Some(&facts) = self.shared.facts.get() {
            return Ok(facts);
        }
        match self.pipe.is_synchronous() {
            Ok(false) => {}
            Ok(true) => return Err(error::synchronous_handle()),
            Err(code) => return Err(code.explain_handle()),
        }
        let mut facts = facts_of(&self.pipe).map_err(Code::explain_handle)?;
        // Its former owner may have set it to read by byte, or not to wait.
        match self.pipe.set_named_pipe_handle_state(facts.has_messages) {
            Ok(()) => {}
            Err(code) if code.is_peer_gone() => {}
            // The handle doesn't allow the change, so the end is used as it is. But if its calls
            // don't wait, an empty pipe looks like the end.
            Err(_) => {
                let state = self.pipe.handle_state().map_err(Code::explain_handle)?;
                if !state.waits {
                    return Err(error::nonblocking_handle());
                }
                facts.reads_by_message = state.by_message;
            }
        }
        Ok(*self.shared.facts.get_or_init(|| facts))
    }

    /// The readiness of the stream, for the async half.
    #[cfg(all(windows, not(winpipe_sim), feature = "tokio"))]
    pub(crate) fn readiness(&self) -> &Readiness<Turn<Arc<WinStream>>> {
        let new = || Box::new(Readiness::new(Association::default()));
        self.shared.readiness.get_or_init(new)
    }

    /// Keeps the association of a new stream's handle.
    #[cfg(all(windows, not(winpipe_sim), feature = "tokio"))]
    pub(crate) fn keep(&self, association: Association) {
        if association.is_made() {
            // A new lock is empty.
            let _ = self
                .shared
                .readiness
                .set(Box::new(Readiness::new(association)));
        }
    }

    /// Whether this is the end of the process that created the pipe.
    pub(crate) fn is_server(&self) -> io::Result<bool> {
        Ok(self.facts()?.is_server)
    }

    /// The stream's progress in handing over handles.
    pub(crate) fn handoff(&self) -> &Handoff<Handle> {
        &self.shared.handoff
    }
}

impl Shared {
    /// Records that there's nothing more to read, and wakes the other reads: the mark of the end is
    /// one message, and only one read got it.
    pub(crate) fn end_of_data(&self) {
        self.reading.end();
        self.wake_tasks();
    }

    /// Makes the tasks that wait for the stream check again what they wait for.
    fn wake_tasks(&self) {
        #[cfg(all(windows, not(winpipe_sim), feature = "tokio"))]
        if let Some(readiness) = self.readiness.get() {
            wake(readiness.take_wakers());
        }
    }
}

/// One call that writes.
pub(crate) struct Turn<S: Borrow<WinStream>>(S);

impl<S: Borrow<WinStream>> Turn<S> {
    /// Lets a call write, unless the writing half is shut down.
    pub(crate) fn take(stream: S) -> Option<Turn<S>> {
        let may_write = stream.borrow().shared.writing_half.enter();
        may_write.then(|| Turn(stream))
    }

    /// The stream that it's the turn of.
    pub(crate) fn stream(&self) -> &WinStream {
        self.0.borrow()
    }
}

impl<S: Borrow<WinStream>> Drop for Turn<S> {
    fn drop(&mut self) {
        let stream = self.stream();
        let shared = &stream.shared;
        if shared.writing_half.leave() == Then::Mark
            && (shared.outgoing.is_some() || stream.facts().is_ok_and(|facts| facts.has_messages))
        {
            // `shutdown` has returned. Called again, it tries again.
            let _ = stream.mark_end();
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

/// Each read is one call of `ReadFile`.
///
/// A read returns as soon as bytes are available. It returns `Ok(0)` at the end: once the peer has
/// dropped its stream or shut down its writing half, and everything before that has been read. The
/// end is final. A read into an empty buffer returns `Ok(0)` and does nothing. A vectored read
/// fills several buffers with one call, with 64 KiB at most.
///
/// # Errors
/// - [`TimedOut`](io::ErrorKind::TimedOut) and [`WouldBlock`](io::ErrorKind::WouldBlock). No bytes
///   are lost.
/// - If the stream was created from a handle: those of
///   [`From<OwnedHandle>`](WinStream#impl-From<OwnedHandle>-for-WinStream).
///
/// # On Unix
/// - If the peer was dropped before it had read everything, a read on Linux fails once with
///   `ConnectionReset`. Here that is an ordinary end.
/// - A read into an empty buffer waits on Linux. Here it returns at once.
/// - Streams know no messages there. Here an empty message of a foreign peer is the end.
impl Read for &WinStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.read_with(|attend| self.pipe.read_file(buf, attend))
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let mut filled = bufs.iter_mut().filter(|buf| !buf.is_empty());
        match (filled.next(), filled.next()) {
            (None, _) => Ok(0),
            (Some(only), None) => self.read(only),
            _ => self.read_with(|attend| {
                let mut read = Transferred::default();
                vectored::scatter(bufs, |buf| {
                    read = self.pipe.read_file(buf, attend)?;
                    Ok(read.count)
                })?;
                Ok(read)
            }),
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

/// Each write is one or more calls of `WriteFile`, of at most as many bytes as the pipe's buffer
/// holds (1 MiB by default).
///
/// A write returns when all bytes are on their way to the peer. Dropping the stream doesn't lose
/// them. If it returns `Ok(n)` for fewer bytes, the peer gets exactly the first `n`; if it fails,
/// the peer gets none, whatever ended the call. That holds for peers that read by message; see
/// [`half_close`](crate::ListenOptions::half_close).
///
/// The bytes of a write that fits the pipe's buffer, and is of at most 1 MiB, aren't interrupted by
/// those of other threads, unless it returns fewer. A longer write goes out in parts of that size.
/// A vectored write sends its buffers together, 64 KiB at a time. A buffer that fills such a part
/// is sent without being copied.
///
/// `flush` does nothing, as nothing is buffered here. To wait until the peer has read everything,
/// use [`drain`](WinStream::drain).
///
/// # Errors
/// - [`TimedOut`](io::ErrorKind::TimedOut) and [`WouldBlock`](io::ErrorKind::WouldBlock): no byte
///   was sent.
/// - [`BrokenPipe`](io::ErrorKind::BrokenPipe): the peer is gone, or the writing half of this end
///   is shut down.
/// - If the stream was created from a handle: those of
///   [`From<OwnedHandle>`](WinStream#impl-From<OwnedHandle>-for-WinStream).
///
/// # On Unix
/// - A write of no bytes to a peer that is gone fails with `BrokenPipe`. Here it makes no system
///   call and returns `Ok(0)`.
/// - A [`BufWriter`](std::io::BufWriter) passes vectored writes on to std's type. To this one it
///   writes a copy, because std has no stable way for a type to say that it doesn't need that.
impl Write for &WinStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let write =
            |range, attend: Attend<'_>| self.outgoing(|pipe| pipe.write_file(&buf[range], attend));
        self.write_with(buf.len(), write, |_| Ok(None))
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut filled = bufs.iter().filter(|buf| !buf.is_empty());
        match (filled.next(), filled.next()) {
            (None, _) => self.write(&[]),
            (Some(only), None) => self.write(only),
            _ => {
                let write = |range, attend: Attend<'_>| {
                    vectored::gather(bufs, range, |part| {
                        self.outgoing(|pipe| pipe.write_file(part, attend))
                    })
                };
                self.write_with(vectored::total(bufs), write, |_| Ok(None))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Asks the kernel for the facts of a connected end. If the server has disconnected it, little is
/// known, but what it has sent may still be read.
pub(crate) fn facts_of(pipe: &Pipe) -> Result<Facts, Code> {
    match pipe.local_information() {
        Ok(information) => Ok(Facts::new(
            information.write_quota,
            information.is_message_type,
            information.is_server,
        )),
        Err(code) if code.is_peer_gone() => Ok(Facts::DISCONNECTED),
        Err(code) => Err(code),
    }
}

fn set_timeout(control: &Control, timeout: Option<Duration>) -> io::Result<()> {
    let _records = record::hold();
    if timeout == Some(Duration::ZERO) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a timeout can't be zero: for calls that never wait, use set_nonblocking",
        ));
    }
    control.set_timeout(timeout);
    Ok(())
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
            .field("handle", &self.pipe)
            .field("local", &self.shared.local)
            .field("peer", &self.shared.peer)
            .finish()
    }
}

// Streams that are made of handles.
