//! The async `WinStream`.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice, IoSliceMut, Read};
use std::net::Shutdown;
use std::ops::Range;
use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, OwnedHandle, RawHandle};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::poll_proceed;

use crate::addr::WinPipeSocketAddr;
use crate::handoff::Exchange;
use crate::lock::unpoisoned;
use crate::options::ConnectOptions;
use crate::peer::PeerCred;
use crate::protocol::facts::Found;
use crate::protocol::vectored;
use crate::stream::{Shared, Turn, WinStream as Std};
use crate::sys::error::{self, Code, Doing};
use crate::sys::operation::{Attend, Transferred};
use crate::sys::port::Request;
use crate::sys::record;
use crate::tokio::connect;
use crate::tokio::port::{self, Association, Owner, Waiter, wake};
use crate::tokio::readiness::Conclusion;
use crate::tokio::ready::{Interest, Ready};
use crate::wait::Stop;

/// One end of a connection over a named pipe: `tokio::net::UnixStream` for Windows.
///
/// It has the methods of tokio's type, and they behave as they do there. It needs no runtime of a
/// certain kind: any executor can poll it, and it can be moved between runtimes. Only
/// [`drain`](Self::drain) and connecting to another computer use tokio's blocking pool.
///
/// Dropping a stream closes its handle at once. The peer can still read everything that was
/// written.
///
/// # Writing
/// A write passes its bytes to the kernel. If the pipe is full, the stream keeps a copy of one
/// chunk (at most as many bytes as the pipe's buffer holds, 512 KiB by default), and the write is
/// complete. Until the peer has made room, further writes wait. So a write that was dropped while
/// it waited has written nothing, and [`writable`](Self::writable) means that a write takes at
/// least one byte. The chunk is with the kernel, too, and goes on to the peer even if the stream is
/// dropped or the runtime ends. Three things follow:
/// - **Before the process ends, await `flush` or `shutdown`**, which wait for the chunk. Otherwise
///   Windows discards what the peer hasn't read of it.
/// - If the peer goes before it has read the chunk, the next call that writes or flushes fails with
///   [`BrokenPipe`](io::ErrorKind::BrokenPipe). On Unix such bytes are lost without an error.
/// - If the stream is dropped while it keeps a chunk, the peer sees the end after reading it.
///
/// # On Unix
/// - The differences of [the blocking stream](crate::WinStream#on-unix), except for timeouts.
/// - There is no `try_io` and no `async_io`, as calls of the program's own couldn't be waited for.
/// - After the stream was dropped, the peer's writes fail. Here they succeed, and are thrown away,
///   while the peer hasn't read the chunk that the stream kept.
///
/// # Examples
/// ```
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// use winpipe::tokio::{WinListener, WinStream};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// # let path = format!(r"\\.\pipe\winpipe-doc-async-stream-{}", std::process::id());
/// let listener = WinListener::bind(&path)?;
/// let mut client = WinStream::connect(&path).await?;
/// client.write_all(b"ping").await?;
/// client.shutdown().await?;
///
/// let (mut server, _) = listener.accept().await?;
/// let mut text = String::new();
/// server.read_to_string(&mut text).await?;
/// assert_eq!(text, "ping");
/// # Ok(()) }
/// ```
pub struct WinStream {
    inner: Arc<Std>,
    waiter: Waiter,
    /// Whether a blocking stream takes its place.
    goes_on: bool,
}

impl WinStream {
    /// Connects to the pipe at the given path, as [the blocking `connect`](Std::connect) does, but
    /// without blocking the thread.
    ///
    /// This corresponds to calling `CreateFileW`, and `NtFsControlFile` with `FSCTL_PIPE_WAIT` if
    /// the pipe is busy. If the path names a computer, the blocking `connect` runs on tokio's
    /// blocking pool.
    ///
    /// # Errors
    /// Those of [the blocking `connect`](Std::connect).
    ///
    /// # Panics
    /// If the path names a computer, outside of a tokio runtime.
    ///
    /// # Cancel safety
    /// If the future is dropped, it hasn't connected. (If the path names a computer, it may still
    /// connect, and then closes the connection.)
    ///
    /// # Examples
    /// ```
    /// use winpipe::tokio::WinStream;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let error = WinStream::connect(r"\\.\pipe\nobody-made-this").await.unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    /// # }
    /// ```
    pub async fn connect<P: AsRef<Path>>(path: P) -> io::Result<WinStream> {
        let addr = WinPipeSocketAddr::from_pathname(path)?;
        WinStream::connect_addr(&addr).await
    }

    /// Connects to the pipe at the given address, as [`connect`](Self::connect) does.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect), and [`InvalidInput`](io::ErrorKind::InvalidInput) for
    /// an unnamed address.
    ///
    /// # Cancel safety
    /// If the future is dropped, it hasn't connected.
    ///
    /// # Examples
    /// ```
    /// use winpipe::tokio::{WinListener, WinStream};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// # let path = format!(r"\\.\pipe\winpipe-doc-async-addr-{}", std::process::id());
    /// let listener = WinListener::bind(path)?;
    /// let stream = WinStream::connect_addr(&listener.local_addr()?).await?;
    /// # Ok(()) }
    /// ```
    pub async fn connect_addr(socket_addr: &WinPipeSocketAddr) -> io::Result<WinStream> {
        WinStream::connect_addr_with(socket_addr, &ConnectOptions::new()).await
    }

    /// Connects to the pipe at the given path, and waits for it to appear and to have room, as [the
    /// blocking `connect_with_timeout`](Std::connect_with_timeout) does.
    ///
    /// # Errors
    /// Those of [the blocking call](Std::connect_with_timeout).
    ///
    /// # Cancel safety
    /// If the future is dropped, it hasn't connected.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use winpipe::tokio::WinStream;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let path = r"\\.\pipe\nobody-made-this";
    /// let timeout = Duration::from_millis(10);
    /// let error = WinStream::connect_with_timeout(path, timeout).await.unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    /// # }
    /// ```
    pub async fn connect_with_timeout<P: AsRef<Path>>(
        path: P,
        timeout: Duration,
    ) -> io::Result<WinStream> {
        let addr = WinPipeSocketAddr::from_pathname(path)?;
        WinStream::connect_addr_with_timeout(&addr, timeout).await
    }

    /// Connects to the pipe at the given address, as
    /// [`connect_with_timeout`](Self::connect_with_timeout) does.
    ///
    /// # Errors
    /// Those of [`connect_with_timeout`](Self::connect_with_timeout), and
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for an unnamed address.
    ///
    /// # Cancel safety
    /// If the future is dropped, it hasn't connected.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use winpipe::tokio::{WinListener, WinStream};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// # let path = format!(r"\\.\pipe\winpipe-doc-async-addr-timeout-{}", std::process::id());
    /// let listener = WinListener::bind(path)?;
    /// let addr = listener.local_addr()?;
    /// let stream = WinStream::connect_addr_with_timeout(&addr, Duration::from_secs(5)).await?;
    /// # Ok(()) }
    /// ```
    pub async fn connect_addr_with_timeout(
        socket_addr: &WinPipeSocketAddr,
        timeout: Duration,
    ) -> io::Result<WinStream> {
        let mut options = ConnectOptions::new();
        options.timeout(timeout).wait_for_server(true);
        WinStream::connect_addr_with(socket_addr, &options).await
    }

    /// Connects to the pipe at the given path according to the options, as
    /// [`ConnectOptions::connect`] does.
    ///
    /// # Errors
    /// Those of [`ConnectOptions::connect`].
    ///
    /// # Cancel safety
    /// If the future is dropped, it hasn't connected.
    ///
    /// # Examples
    /// ```
    /// use winpipe::tokio::{WinListener, WinStream};
    /// use winpipe::{ConnectOptions, Server};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// # let path = format!(r"\\.\pipe\winpipe-doc-async-with-{}", std::process::id());
    /// let listener = WinListener::bind(&path)?;
    /// let mut options = ConnectOptions::new();
    /// options.expect_server(Server::CurrentUser);
    /// let stream = WinStream::connect_with(&path, &options).await?;
    /// # Ok(()) }
    /// ```
    pub async fn connect_with<P: AsRef<Path>>(
        path: P,
        options: &ConnectOptions,
    ) -> io::Result<WinStream> {
        let addr = WinPipeSocketAddr::from_pathname(path)?;
        WinStream::connect_addr_with(&addr, options).await
    }

    /// Connects to the pipe at the given address according to the options, as
    /// [`connect_with`](Self::connect_with) does.
    ///
    /// # Errors
    /// Those of [`ConnectOptions::connect_addr`].
    ///
    /// # Cancel safety
    /// If the future is dropped, it hasn't connected.
    ///
    /// # Examples
    /// See [`connect_with`](Self::connect_with).
    pub async fn connect_addr_with(
        socket_addr: &WinPipeSocketAddr,
        options: &ConnectOptions,
    ) -> io::Result<WinStream> {
        WinStream::from_std(connect::connect(socket_addr, options).await?)
    }

    /// The blocking stream that it's made of.
    pub(crate) fn as_std(&self) -> &Std {
        &self.inner
    }

    /// Creates two streams that are connected to each other, as [the blocking
    /// `pair`](Std::pair) does.
    ///
    /// # Errors
    /// Errors of the system, such as when it's out of memory.
    ///
    /// # Examples
    /// ```
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    /// use winpipe::tokio::WinStream;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// let (mut one, mut other) = WinStream::pair()?;
    /// one.write_all(b"hello").await?;
    /// let mut buf = [0; 5];
    /// other.read_exact(&mut buf).await?;
    /// assert_eq!(&buf, b"hello");
    /// # Ok(()) }
    /// ```
    pub fn pair() -> io::Result<(WinStream, WinStream)> {
        let (one, other) = Std::pair()?;
        Ok((WinStream::from_std(one)?, WinStream::from_std(other)?))
    }

    /// Creates an async stream from a blocking one. Bytes that are on their way stay there.
    ///
    /// This sets the stream and its clones to nonblocking. Their timeouts have no effect. Another
    /// async stream may be created from a clone. Both then share everything.
    ///
    /// # Errors
    /// - Those of [`From<OwnedHandle>`](Std#impl-From<OwnedHandle>-for-WinStream), if the stream
    ///   was created from a handle.
    /// - [`Unsupported`](io::ErrorKind::Unsupported): this end is read by byte although the pipe
    ///   keeps message boundaries, and the handle doesn't allow that to be changed. Or it's a stream
    ///   of [`pair_for_child`](crate::ipc::pair_for_child), which consists of two pipes.
    ///
    /// The first call that has to wait associates the handle with a completion port. Windows allows
    /// that once. So a stream that is created from a handle which has been associated before, here
    /// or in another process, then fails with [`InvalidInput`](io::ErrorKind::InvalidInput). This
    /// concerns a stream that was async and went to another process, or that became an
    /// [`OwnedHandle`] and then a stream again. [`into_std`](Self::into_std) remembers it.
    ///
    /// # On Unix
    /// tokio's call doesn't set the stream to nonblocking, and needs a runtime.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// let (stream, _peer) = winpipe::WinStream::pair()?;
    /// let stream = winpipe::tokio::WinStream::from_std(stream)?;
    /// # Ok(()) }
    /// ```
    pub fn from_std(stream: Std) -> io::Result<WinStream> {
        let _records = record::hold();
        if stream.is_over_two() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the stream consists of two pipes, one for each direction: use it in the blocking \
                 half",
            ));
        }
        if !stream.facts()?.waits_beside_others() {
            return Err(error::read_by_byte());
        }
        stream.set_nonblocking(true)?;
        stream.readiness();
        Ok(WinStream {
            inner: Arc::new(stream),
            waiter: Waiter::new(),
            goes_on: false,
        })
    }

    /// Turns the stream into a blocking one, which is set to nonblocking. Bytes that are on their
    /// way stay there, and what this stream has written comes before what the new one writes.
    ///
    /// # Errors
    /// Errors of the system, if the stream keeps a chunk and its handle can't be duplicated.
    ///
    /// # Examples
    /// ```
    /// use std::io::Read;
    /// use tokio::io::AsyncWriteExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// let (mut one, other) = winpipe::tokio::WinStream::pair()?;
    /// one.write_all(b"hello").await?;
    /// let mut other = other.into_std()?;
    /// other.set_nonblocking(false)?;
    /// let mut buf = [0; 5];
    /// other.read_exact(&mut buf)?;
    /// # Ok(()) }
    /// ```
    pub fn into_std(mut self) -> io::Result<Std> {
        let _records = record::hold();
        let inner = Arc::clone(&self.inner);
        self.goes_on = true;
        drop(self);
        // A full slot holds the stream, too.
        Arc::try_unwrap(inner).or_else(|shared| shared.duplicate())
    }

    /// Waits until the stream is ready for one of the things in `interest`.
    ///
    /// It stays ready until a `try_` method fails with [`WouldBlock`](io::ErrorKind::WouldBlock).
    /// Use this to read and write a stream in one task, and otherwise
    /// [`readable`](Self::readable) or [`writable`](Self::writable).
    ///
    /// # Errors
    /// Those of the system, if the process can't wait for packets, and that of a handle that is
    /// [associated already](Self::from_std).
    ///
    /// # Cancel safety
    /// A future that was dropped leaves everything as it was.
    ///
    /// # Examples
    /// ```
    /// use winpipe::tokio::{Interest, WinStream};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// let (stream, _peer) = WinStream::pair()?;
    /// let ready = stream.ready(Interest::READABLE | Interest::WRITABLE).await?;
    /// assert!(ready.is_writable() && !ready.is_readable());
    /// # Ok(()) }
    /// ```
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        let ready = Waiting::new(self, interest).await?;
        let _records = record::hold();
        let shared = &self.inner.shared;
        let information = self.inner.pipe.local_information();
        let is_closed = information.is_ok_and(|information| information.is_closing);
        let mut closed = Ready::EMPTY;
        if interest.is_readable() && (is_closed || shared.reading.is_ended()) {
            closed |= Ready::READ_CLOSED;
        }
        if interest.is_writable() && (is_closed || shared.writing.is_ended()) {
            closed |= Ready::WRITE_CLOSED;
        }
        Ok(ready | closed)
    }

    /// Waits until there is something to read, or the end. Any number of tasks can wait.
    ///
    /// This corresponds to calling `ReadFile` for zero bytes, which takes none.
    ///
    /// # Errors
    /// Those of [`ready`](Self::ready).
    ///
    /// # Cancel safety
    /// A future that was dropped leaves everything as it was.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// let (one, other) = winpipe::tokio::WinStream::pair()?;
    /// one.try_write(b"hello")?;
    /// other.readable().await?;
    /// assert_eq!(other.try_read(&mut [0; 9])?, 5);
    /// # Ok(()) }
    /// ```
    pub async fn readable(&self) -> io::Result<()> {
        Waiting::new(self, Interest::READABLE).await.map(drop)
    }

    /// Waits until a write would take at least one byte, or fail. Any number of tasks can wait.
    ///
    /// # Errors
    /// Those of [`ready`](Self::ready).
    ///
    /// # Cancel safety
    /// A future that was dropped leaves everything as it was.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// let (stream, _peer) = winpipe::tokio::WinStream::pair()?;
    /// stream.writable().await?;
    /// assert_eq!(stream.try_write(b"hello")?, 5);
    /// # Ok(()) }
    /// ```
    pub async fn writable(&self) -> io::Result<()> {
        Waiting::new(self, Interest::WRITABLE).await.map(drop)
    }

    /// Polls for [`readable`](Self::readable). Only the task that calls this last, or polls a read,
    /// is woken.
    ///
    /// # Errors
    /// Those of [`ready`](Self::ready).
    pub fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let coop = ready!(poll_proceed(context));
        let ready = ready!(self.poll_readable(context, self.waiter));
        coop.made_progress();
        Poll::Ready(ready)
    }

    /// Polls for [`writable`](Self::writable). Only the task that calls this last, or polls a
    /// write, is woken.
    ///
    /// # Errors
    /// Those of [`ready`](Self::ready).
    pub fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let coop = ready!(poll_proceed(context));
        ready!(self.poll_writable(context, self.waiter));
        coop.made_progress();
        Poll::Ready(Ok(()))
    }

    /// Reads what is there. Returns `Ok(0)` at the end, or if `buf` is empty.
    ///
    /// This corresponds to calling `ReadFile`, which is cancelled if it would wait.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is nothing, and those of [the blocking
    /// read](Std#impl-Read-for-%26WinStream).
    ///
    /// # Examples
    /// See [`readable`](Self::readable).
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_now(buf).map(|read| read.count)
    }

    /// Reads what is there into several buffers, as [`try_read`](Self::try_read) does: 64 KiB at
    /// most.
    ///
    /// # Errors
    /// Those of [`try_read`](Self::try_read).
    ///
    /// # Examples
    /// ```
    /// use std::io::IoSliceMut;
    ///
    /// let (one, other) = winpipe::tokio::WinStream::pair()?;
    /// one.try_write(b"hello")?;
    /// let (mut a, mut b) = ([0; 2], [0; 9]);
    /// let count = other.try_read_vectored(&mut [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)])?;
    /// assert_eq!((count, &a, &b[..3]), (5, b"he", b"llo".as_slice()));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.tried((&*self.inner).read_vectored(bufs))
    }

    /// Reads what is there, 64 KiB at most, and appends it to a buffer, as
    /// [`try_read`](Self::try_read) does.
    ///
    /// # Errors
    /// Those of [`try_read`](Self::try_read).
    ///
    /// # Examples
    /// ```
    /// let (one, other) = winpipe::tokio::WinStream::pair()?;
    /// one.try_write(b"hello")?;
    /// let mut buf = Vec::with_capacity(64);
    /// other.try_read_buf(&mut buf)?;
    /// assert_eq!(buf, b"hello");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_read_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
        let room = buf.remaining_mut().min(buf.chunk_mut().len());
        vectored::with_scratch(|scratch| {
            let room = room.min(scratch.len());
            let count = self.try_read(&mut scratch[..room])?;
            buf.put_slice(&scratch[..count]);
            Ok(count)
        })
    }

    fn read_now(&self, buf: &mut [u8]) -> io::Result<Transferred> {
        let mut read = Transferred::default();
        if !buf.is_empty() {
            let pipe = &self.inner.pipe;
            read.count = self.tried(self.inner.read_with(|attend| {
                let result = pipe.read_file(buf, attend)?;
                read.more = result.more;
                Ok(result)
            }))?;
        }
        Ok(read)
    }

    /// Records whether there was nothing to read.
    fn tried<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if would_block(&result) {
            self.inner.readiness().nothing_to_read();
        }
        result
    }

    /// Writes bytes, and returns how many: those for which the pipe has room, and one chunk more,
    /// which the stream [keeps](Self#writing). No other call's bytes come between, unless that
    /// isn't all of them.
    ///
    /// This corresponds to calling `WriteFile`. If it would wait, it's cancelled and called again
    /// with a copy of the bytes.
    ///
    /// # Errors
    /// - [`WouldBlock`](io::ErrorKind::WouldBlock): the stream still keeps a chunk. Nothing was
    ///   written.
    /// - [`BrokenPipe`](io::ErrorKind::BrokenPipe): the peer is gone, now or before it had read
    ///   what the stream kept; or the writing half is shut down.
    /// - Those of [`ready`](Self::ready).
    ///
    /// # Examples
    /// See [`writable`](Self::writable).
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        let write = |range, attend: Attend<'_>| self.inner.pipe.write_file(&buf[range], attend);
        self.tried_write(buf.len(), write, |range| buf[range].into())
    }

    /// Writes bytes from several buffers, as [`try_write`](Self::try_write) does. They go out
    /// together, 64 KiB at a time.
    ///
    /// # Errors
    /// Those of [`try_write`](Self::try_write).
    ///
    /// # Examples
    /// ```
    /// use std::io::IoSlice;
    ///
    /// let (one, _other) = winpipe::tokio::WinStream::pair()?;
    /// assert_eq!(one.try_write_vectored(&[IoSlice::new(b"he"), IoSlice::new(b"llo")])?, 5);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let pipe = &self.inner.pipe;
        let write = |range, attend: Attend<'_>| {
            vectored::gather(bufs, range, |part| pipe.write_file(part, attend))
        };
        let copy = |range| vectored::gather(bufs, range, |part| part.into());
        self.tried_write(vectored::total(bufs), write, copy)
    }

    fn tried_write(
        &self,
        total: usize,
        write: impl FnMut(Range<usize>, Attend<'_>) -> Result<Transferred, Code>,
        copy: impl Fn(Range<usize>) -> Box<[u8]>,
    ) -> io::Result<usize> {
        let _records = record::hold();
        let stream = &self.inner;
        // A write of nothing never waits, and after a shutdown the write itself fails.
        let may_wait = total > 0 && !stream.shared.writing.is_ended();
        if may_wait && !stream.readiness().may_write().map_err(using)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut cannot_wait = None;
        let written = stream.write_with(total, write, |range| {
            let bytes = copy(range);
            let count = bytes.len();
            let Some(turn) = Turn::take(Arc::clone(stream)) else {
                return Err(Stop::Ended);
            };
            let fill =
                |association: &Association, request: &mut Request, _turn: &Turn<Arc<Std>>| {
                    let owner = Arc::clone(&stream.shared) as Arc<dyn Owner>;
                    let write = |request: &mut Request| request.write(&stream.pipe, bytes);
                    port::issue(association, &stream.pipe, owner, request, write)
                };
            let (filled, turn) = stream.readiness().fill(turn, fill);
            drop(turn);
            match filled {
                Ok(Ok(true)) => Ok(Some(count)),
                Ok(Ok(false)) => Err(Stop::WouldBlock),
                Ok(Err(code)) => Err(Stop::Failed(code)),
                Err(error) => {
                    cannot_wait = Some(error);
                    Err(Stop::WouldBlock)
                }
            }
        });
        match cannot_wait {
            Some(error) if would_block(&written) => Err(error),
            _ => written,
        }
    }

    /// Returns the address of this end: the listener's for an accepted stream, otherwise unnamed.
    ///
    /// # Errors
    /// None. The result is there because tokio's method returns one.
    ///
    /// # Examples
    /// ```
    /// let (stream, _peer) = winpipe::tokio::WinStream::pair()?;
    /// assert!(stream.local_addr()?.is_unnamed());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn local_addr(&self) -> io::Result<WinPipeSocketAddr> {
        self.inner.local_addr()
    }

    /// Returns the address of the other end: what a client connected to, otherwise unnamed.
    ///
    /// # Errors
    /// None. The result is there because tokio's method returns one.
    ///
    /// # Examples
    /// ```
    /// let (stream, _peer) = winpipe::tokio::WinStream::pair()?;
    /// assert!(stream.peer_addr()?.is_unnamed());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn peer_addr(&self) -> io::Result<WinPipeSocketAddr> {
        self.inner.peer_addr()
    }

    /// Returns what Windows knows about the peer, as [the blocking `peer_cred`](Std::peer_cred)
    /// does. It doesn't wait.
    ///
    /// # Errors
    /// Those of [the blocking `peer_cred`](Std::peer_cred).
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// let (_server, client) = winpipe::tokio::WinStream::pair()?;
    /// assert_eq!(client.peer_cred()?.pid(), std::process::id());
    /// # Ok(()) }
    /// ```
    pub fn peer_cred(&self) -> io::Result<PeerCred> {
        self.inner.peer_cred()
    }

    /// Returns `None`: pipes don't store errors.
    ///
    /// # Errors
    /// None. The result is there because tokio's method returns one.
    ///
    /// # Examples
    /// ```
    /// let (stream, _peer) = winpipe::tokio::WinStream::pair()?;
    /// assert!(stream.take_error()?.is_none());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.inner.take_error()
    }

    /// Calls `act` while this thread acts as the client, as [the blocking
    /// `impersonate`](Std::impersonate) lets it. `act` can't await, because the task might then go
    /// on in another thread, and other tasks in this one.
    ///
    /// # Errors
    /// Those of [the blocking `impersonate`](Std::impersonate). `act` isn't called then.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn serve(stream: winpipe::tokio::WinStream) -> std::io::Result<()> {
    /// let file = stream.impersonate(|| std::fs::File::open(r"C:\what\the\client\asks\for"))??;
    /// # Ok(()) }
    /// ```
    pub fn impersonate<T>(&self, act: impl FnOnce() -> T) -> io::Result<T> {
        let client = self.inner.impersonate()?;
        let result = act();
        drop(client);
        Ok(result)
    }

    /// Shuts down the reading half, the writing half, or both, at once, as [the blocking
    /// `shutdown`](Std::shutdown) does. The peer sees the end of what was written after the chunk
    /// that the stream [keeps](Self#writing). To wait for that, use
    /// `AsyncWriteExt::shutdown`.
    ///
    /// Tasks that wait for the stream are woken.
    ///
    /// # Errors
    /// Those of [the blocking `shutdown`](Std::shutdown).
    ///
    /// # On Unix
    /// tokio's streams have no such method. It isn't called `shutdown`, as it would then be found
    /// before that of `AsyncWriteExt`.
    ///
    /// # Examples
    /// ```
    /// use std::net::Shutdown;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// let (one, other) = winpipe::tokio::WinStream::pair()?;
    /// one.shutdown_std(Shutdown::Write)?;
    /// other.readable().await?;
    /// assert_eq!(other.try_read(&mut [0; 9])?, 0);
    /// # Ok(()) }
    /// ```
    pub fn shutdown_std(&self, how: Shutdown) -> io::Result<()> {
        self.inner.shutdown(how)
    }

    /// Copies the bytes that the next read would return, and leaves them there. Waits for bytes.
    /// Returns `Ok(0)` at the end, or if `buf` is empty.
    ///
    /// This corresponds to calling `PeekNamedPipe`.
    ///
    /// # Errors
    /// Those of [`try_read`](Self::try_read) and [`ready`](Self::ready).
    ///
    /// # Cancel safety
    /// A future that was dropped leaves everything as it was.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// let (one, other) = winpipe::tokio::WinStream::pair()?;
    /// one.try_write(b"hello")?;
    /// let mut buf = [0; 9];
    /// assert_eq!(other.peek(&mut buf).await?, 5);
    /// assert_eq!(other.try_read(&mut buf)?, 5);
    /// # Ok(()) }
    /// ```
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        while !buf.is_empty() {
            self.readable().await?;
            if self.inner.shared.reading.is_ended() {
                break;
            }
            let _records = record::hold();
            if let Some(count) = self.inner.peek_now(buf)? {
                return Ok(count);
            }
            // There is nothing, or the mark of the end, which an empty read takes.
            self.inner.readiness().nothing_to_read();
        }
        Ok(0)
    }

    /// Waits until the peer has read everything that was written.
    ///
    /// The wait takes a thread of tokio's blocking pool, and only the peer can end it, as Windows
    /// has no other way. To wait only for the stream's own chunk, use
    /// `AsyncWriteExt::flush`.
    ///
    /// This corresponds to calling `FlushFileBuffers`.
    ///
    /// # Errors
    /// [`BrokenPipe`](io::ErrorKind::BrokenPipe): the peer is gone, so it's unknown what it has
    /// read.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    ///
    /// # Cancel safety
    /// If the future is dropped, no bytes are lost, but the thread goes on waiting, and keeps the
    /// stream's handle open.
    ///
    /// # Examples
    /// ```
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// let (mut stream, mut peer) = winpipe::tokio::WinStream::pair()?;
    /// stream.write_all(b"read this").await?;
    /// let mut buf = [0; 64];
    /// let (drained, read) = tokio::join!(stream.drain(), peer.read(&mut buf));
    /// # drained?; read?;
    /// # Ok(()) }
    /// ```
    pub async fn drain(&self) -> io::Result<()> {
        self.flushed().await?;
        let stream = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || stream.drain()).await?
    }

    /// Waits until the slot is empty.
    async fn flushed(&self) -> io::Result<()> {
        let mut waiting = Waiting::new(self, Interest::WRITABLE);
        poll_fn(|context| {
            let flushed = self.inner.readiness().poll_flush(context, waiting.waiter);
            waiting.is_entered = flushed.is_pending();
            flushed.map_err(using)
        })
        .await
    }

    /// Gives the peer a handle, as [the blocking `send_handle`](Std::send_handle) does.
    ///
    /// # Errors
    /// Those of [the blocking `send_handle`](Std::send_handle), except those of timeouts.
    ///
    /// # Cancel safety
    /// If the future is dropped, the offer is withdrawn, and the peer waits for the next. If that
    /// can't be told to the peer, the stream is shut down.
    ///
    /// # Examples
    /// ```
    /// use winpipe::tokio::WinStream;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// let (sender, receiver) = WinStream::pair()?;
    /// let file = std::fs::File::open(std::env::current_exe()?)?;
    /// let (sent, received) = tokio::join!(sender.send_handle(&file), receiver.recv_handle());
    /// sent?;
    /// let file = std::fs::File::from(received?);
    /// # Ok(()) }
    /// ```
    pub async fn send_handle(&self, handle: &impl AsHandle) -> io::Result<()> {
        self.flushed().await?;
        let write = |bytes: &[u8]| self.try_write(bytes);
        let mut offer = Exchange::new(&self.inner, &write).offer(handle)?;
        with_records(|| offer.make())?;
        let answer = self
            .when_readable(|| offer.answer(&mut self.inner.reading()))
            .await?;
        self.flushed().await?;
        with_records(|| offer.conclude(answer))
    }

    /// Takes the handle that the peer gives, as [the blocking `recv_handle`](Std::recv_handle)
    /// does.
    ///
    /// # Errors
    /// Those of [the blocking `recv_handle`](Std::recv_handle), except those of timeouts.
    ///
    /// # Cancel safety
    /// If the future is dropped, call this again to go on. If an offer has arrived already, reads
    /// fail with [`ResourceBusy`](io::ErrorKind::ResourceBusy) until then.
    ///
    /// # Examples
    /// See [`send_handle`](Self::send_handle).
    pub async fn recv_handle(&self) -> io::Result<OwnedHandle> {
        let write = |bytes: &[u8]| self.try_write(bytes);
        let exchange = Exchange::new(&self.inner, &write);
        loop {
            // An answer needs the slot.
            self.flushed().await?;
            let received = with_records(|| exchange.receive(&mut self.inner.reading()));
            if !would_block(&received) {
                return received;
            }
            self.inner.readiness().nothing_to_read();
            self.readable().await?;
        }
    }

    /// Calls `read` until it no longer lacks something to read.
    async fn when_readable<T>(&self, mut read: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            let result = with_records(&mut read);
            if !would_block(&result) {
                return result;
            }
            self.inner.readiness().nothing_to_read();
            self.readable().await?;
        }
    }

    fn poll_readable(&self, context: &mut Context<'_>, waiter: Waiter) -> Poll<io::Result<()>> {
        let _records = record::hold();
        let (stream, shared) = (&self.inner, &self.inner.shared);
        let is_ended = || shared.reading.is_ended();
        let arm =
            |association: &Association, request: &mut Request| arm(stream, association, request);
        let found = ready!(
            stream
                .readiness()
                .poll_read(context, waiter, is_ended, arm)?
        );
        if found == Found::End {
            shared.end_of_data();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_writable(&self, context: &mut Context<'_>, waiter: Waiter) -> Poll<()> {
        let is_ended = || self.inner.shared.writing.is_ended();
        self.inner.readiness().poll_write(context, waiter, is_ended)
    }

    pub(super) fn poll_read_into(
        &self,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let coop = ready!(poll_proceed(context));
        loop {
            ready!(self.poll_readable(context, self.waiter))?;
            let room = buf.initialize_unfilled();
            let result = self.read_now(room);
            if would_block(&result) {
                continue;
            }
            coop.made_progress();
            let read = result?;
            // Where there are no messages, a full buffer says nothing.
            let has_messages = self.inner.facts()?.has_messages;
            if !read.more && (has_messages || read.count < room.len()) {
                self.inner.readiness().read_all();
            }
            buf.advance(read.count);
            return Poll::Ready(Ok(()));
        }
    }

    pub(super) fn poll_write_from(
        &self,
        context: &mut Context<'_>,
        write: impl Fn() -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let coop = ready!(poll_proceed(context));
        loop {
            ready!(self.poll_writable(context, self.waiter));
            let result = write();
            if !would_block(&result) {
                coop.made_progress();
                return Poll::Ready(result);
            }
        }
    }

    pub(super) fn poll_flushed(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.inner.readiness().poll_flush(context, self.waiter);
        flushed.map_err(using)
    }

    pub(super) fn poll_shut_down(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.shutdown(Shutdown::Write)?;
        self.poll_flushed(context)
    }
}

/// Issues an empty read. If it's complete at once, says what it has found.
fn arm(
    stream: &Std,
    association: &Association,
    request: &mut Request,
) -> io::Result<Option<Found>> {
    let facts = stream.facts()?;
    // If it says that it has found no data, only a peek shows whether that is so, and only if no
    // other read takes the data first.
    let _alone = unpoisoned(stream.shared.issuing.write());
    let owner = Arc::clone(&stream.shared) as Arc<dyn Owner>;
    let read = |request: &mut Request| request.read_nothing(&stream.pipe);
    let found = match port::issue(association, &stream.pipe, owner, request, read)? {
        Ok(None) => return Ok(None),
        Ok(Some(read)) if read.more => Found::Perhaps,
        Ok(Some(_)) => match stream.pipe.peek_named_pipe(&mut [0]) {
            Ok(1..) => Found::Perhaps,
            _ => facts.found(false),
        },
        Err(code) if code.is_end() => Found::End,
        // A read reports why.
        Err(_) => Found::Perhaps,
    };
    Ok(Some(found))
}

/// Makes a call, and then writes the records of its system calls.
fn with_records<T>(call: impl FnOnce() -> T) -> T {
    let _records = record::hold();
    call()
}

fn would_block<T>(result: &io::Result<T>) -> bool {
    matches!(result, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

fn using(code: Code) -> io::Error {
    code.explain(Doing::Using)
}

impl Owner for Shared {
    fn packet(self: Arc<Shared>, address: usize) {
        let Some(readiness) = self.readiness.get() else {
            return;
        };
        let facts = self.facts.get();
        let Conclusion {
            issued,
            is_end,
            turn,
            wakers,
        } = readiness.packet(
            address,
            |more| facts.map_or(Found::Perhaps, |facts| facts.found(more)),
            |request, turn| request.discard(&turn.stream().pipe),
            |request, turn| request.write_again(&turn.stream().pipe),
        );
        if is_end {
            self.end_of_data();
        }
        // The last writer's turn marks the end, and the last stream closes the handle.
        drop(turn);
        drop(issued);
        wake(wakers);
    }
}

/// A future that waits for readiness.
struct Waiting<'a> {
    stream: &'a WinStream,
    interest: Interest,
    waiter: Waiter,
    is_entered: bool,
}

impl<'a> Waiting<'a> {
    fn new(stream: &'a WinStream, interest: Interest) -> Waiting<'a> {
        Waiting {
            stream,
            interest,
            waiter: Waiter::new(),
            is_entered: false,
        }
    }
}

impl Future for Waiting<'_> {
    type Output = io::Result<Ready>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        let coop = ready!(poll_proceed(context));
        self.is_entered = true;
        let mut ready = Ready::EMPTY;
        if self.interest.is_readable() {
            if let Poll::Ready(result) = self.stream.poll_readable(context, self.waiter) {
                result?;
                ready |= Ready::READABLE;
            }
        }
        if self.interest.is_writable() && self.stream.poll_writable(context, self.waiter).is_ready()
        {
            ready |= Ready::WRITABLE;
        }
        if ready.is_empty() {
            return Poll::Pending;
        }
        coop.made_progress();
        Poll::Ready(Ok(ready))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.is_entered {
            self.stream.inner.readiness().remove(self.waiter);
        }
    }
}

/// Reads as [`try_read`](WinStream::try_read) does, and waits if there is nothing. A read that was
/// dropped while it waited has taken nothing.
impl AsyncRead for WinStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_read_into(context, buf)
    }
}

/// Writes as [`try_write`](WinStream::try_write) does, and waits while the stream keeps a chunk. A
/// write that was dropped while it waited has written nothing.
///
/// `flush` waits until the stream keeps nothing any more, and fails if the peer went before. So does
/// `shutdown`, after which the peer reads the end, and can still answer.
impl AsyncWrite for WinStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_from(context, || self.try_write(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_from(context, || self.try_write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flushed(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_shut_down(context)
    }
}

/// Cancels the empty read that may be in flight, so that the handle closes at once.
impl Drop for WinStream {
    fn drop(&mut self) {
        let _records = record::hold();
        let (stream, shared) = (&self.inner, &self.inner.shared);
        let is_last = !self.goes_on && !shared.is_cloned.load(Ordering::Relaxed);
        let discard = |association: &Association, request: &mut Request| {
            let owner = Arc::clone(shared) as Arc<dyn Owner>;
            let read = |request: &mut Request| request.discard(&stream.pipe);
            port::issue(association, &stream.pipe, owner, request, read)
        };
        stream.readiness().close(&stream.pipe, is_last, discard);
    }
}

impl AsHandle for WinStream {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.inner.as_handle()
    }
}

impl AsRawHandle for WinStream {
    fn as_raw_handle(&self) -> RawHandle {
        self.inner.as_raw_handle()
    }
}

impl AsRef<WinStream> for WinStream {
    fn as_ref(&self) -> &WinStream {
        self
    }
}

/// Converts as [`from_std`](WinStream::from_std) does.
impl TryFrom<Std> for WinStream {
    type Error = io::Error;

    fn try_from(stream: Std) -> io::Result<WinStream> {
        WinStream::from_std(stream)
    }
}

impl fmt::Debug for WinStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
