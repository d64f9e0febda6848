//! What every way to move bytes can do, and what the work on it needs.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// The bytes that a pipe queues in each direction, and the size of most buffers.
pub const BUFFER: usize = 64 << 10;

/// A way to move bytes. One thread at a time uses a stream; the thread that made a listener uses it.
pub trait Way: Copy + Send + Sync + 'static {
    /// Whether a client can connect while nobody accepts.
    const HAS_BACKLOG: bool = true;
    /// Whether it follows [`Place::buffer`].
    const SETS_BUFFERS: bool = false;
    /// Whether it keeps timeouts; none where it has no such thing. The raw calls ignore them.
    const TIMEOUTS: Option<bool> = None;

    type Listener;
    type Stream: Read + Write + Send + 'static;

    fn bind(self, place: &Place) -> io::Result<Self::Listener>;
    fn accept(self, listener: &Self::Listener) -> io::Result<Self::Stream>;
    fn connect(self, place: &Place) -> io::Result<Self::Stream>;
    /// Gives the stream a second owner.
    fn try_clone(self, _: &Self::Stream) -> io::Result<Self::Stream> {
        unsupported()
    }
    /// Sends `count` units of `unit` bytes, and receives as much, at once.
    fn both_ways(self, stream: &mut Self::Stream, unit: usize, count: u64) -> io::Result<()> {
        let (mut reader, mut buf) = (self.try_clone(stream)?, vec![0; unit]);
        let bytes = buf.clone();
        at_once(
            move || (0..count).try_for_each(|_| reader.read_exact(&mut buf)),
            || (0..count).try_for_each(|_| stream.write_all(&bytes)),
        )
    }
    /// Limits reads and writes.
    fn set_timeouts(self, _: &Self::Stream, _: Duration) -> io::Result<()> {
        unsupported()
    }
    /// Prepares for [`try_read`](Self::try_read).
    fn set_nonblocking(self, _: &Self::Stream) -> io::Result<()> {
        unsupported()
    }
    /// Reads without waiting.
    fn try_read(self, stream: &mut Self::Stream, buf: &mut [u8]) -> io::Result<usize> {
        stream.read(buf)
    }
    /// Makes two connected streams without a name that others could know.
    fn pair(self) -> io::Result<(Self::Stream, Self::Stream)> {
        unsupported()
    }
    /// Ends the reads that wait, if there are any.
    fn end_reads(self, _: &Self::Stream) -> io::Result<()> {
        unsupported()
    }
}

/// What a way has no such thing of.
pub fn unsupported<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Receives on a thread of its own, and sends here.
pub fn at_once(
    receive: impl FnOnce() -> io::Result<()> + Send + 'static,
    send: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let receiver = thread::spawn(receive);
    send()?;
    receiver.join().expect("no panic")
}

/// Where to listen, and with what buffers; none are those that the way has by default.
pub struct Place {
    pub path: String,
    #[cfg_attr(unix, expect(dead_code, reason = "sockets have no such choice"))]
    pub buffer: Option<usize>,
}

impl Place {
    /// A place that hasn't been used.
    pub fn fresh(buffer: Option<usize>) -> Place {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("winpipe-bench-{}-{count}", std::process::id());
        let folder = if cfg!(windows) { r"\\.\pipe".into() } else { std::env::temp_dir() };
        Place { path: folder.join(name).display().to_string(), buffer }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A socket's file outlives its listener.
        #[cfg(unix)]
        let _ = std::fs::remove_file(&self.path);
    }
}

thread_local! {
    /// How many system calls this thread has made in ways that report them.
    pub static CALLS: Cell<usize> = const { Cell::new(0) };
}

/// Counts the system call that follows. (After it, this might overwrite `GetLastError`.)
#[cfg_attr(unix, expect(dead_code, reason = "std doesn't report its calls"))]
pub fn calling() {
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
}

/// Reads; `Ok(0)` is the end, which some ways report as an error.
pub fn read(stream: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    match stream.read(buf) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        result => result,
    }
}
