//! What every way to move bytes can do, and what the work on it needs.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// The bytes that a pipe queues in each direction, and the size of most buffers.
pub const BUFFER: usize = 64 << 10;
/// In place of a pipe's buffer: what the way has by default. The raw calls have [`BUFFER`].
pub const OWN: usize = 0;

/// A way to move bytes. A stream is used by one thread at a time, a listener by the thread that made it.
pub trait Way: 'static {
    /// Its names on the command line and in tables.
    const NAME: &str;
    const TITLE: &str;
    /// Whether a client can connect while nobody accepts.
    const HAS_BACKLOG: bool = true;
    /// Whether it follows [`Place::buffer`].
    const SETS_BUFFERS: bool = false;
    /// Whether it keeps timeouts; none where it has no such thing. The raw calls ignore them.
    const TIMEOUTS: Option<bool> = None;

    type Listener;
    type Stream: Read + Write + Send + 'static;

    fn bind(place: &Place) -> io::Result<Self::Listener>;
    fn accept(listener: &Self::Listener) -> io::Result<Self::Stream>;
    fn connect(place: &Place) -> io::Result<Self::Stream>;
    /// Gives the stream a second owner.
    fn try_clone(_: &Self::Stream) -> io::Result<Self::Stream> {
        unsupported()
    }
    /// Sends `count` units of `unit` bytes, and receives as much, at once.
    fn both_ways(stream: &mut Self::Stream, unit: usize, count: u64) -> io::Result<()> {
        let mut reader = Self::try_clone(stream)?;
        let reader = thread::spawn(move || {
            let mut buf = vec![0; unit];
            (0..count).try_for_each(|_| reader.read_exact(&mut buf))
        });
        let bytes = vec![0; unit];
        (0..count).try_for_each(|_| stream.write_all(&bytes))?;
        reader.join().expect("no panic")
    }
    /// Limits reads and writes.
    fn set_timeouts(_: &Self::Stream, _: Duration) -> io::Result<()> {
        unsupported()
    }
    /// Prepares for [`try_read`](Self::try_read).
    fn set_nonblocking(_: &Self::Stream) -> io::Result<()> {
        unsupported()
    }
    /// Reads without waiting.
    fn try_read(stream: &mut Self::Stream, buf: &mut [u8]) -> io::Result<usize> {
        stream.read(buf)
    }
    /// Makes two connected streams without a name that others could know.
    fn pair() -> io::Result<(Self::Stream, Self::Stream)> {
        unsupported()
    }
    /// Ends the reads that wait.
    fn end_reads(_: &Self::Stream) -> io::Result<()> {
        unsupported()
    }
}

/// What a way has no such thing of.
pub fn unsupported<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Where to listen, and with what buffers.
pub struct Place {
    pub path: String,
    #[cfg_attr(unix, expect(dead_code, reason = "sockets have no such choice"))]
    pub buffer: usize,
}

impl Place {
    /// A place that hasn't been used.
    pub fn fresh(buffer: usize) -> Place {
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

/// Reads; 0 is the end, which some ways say by an error.
pub fn read(stream: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    match stream.read(buf) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        result => result,
    }
}

/// Reads until the buffer is full. `Ok(false)` is the end, before the first byte.
pub fn read_full(stream: &mut impl Read, buf: &mut [u8]) -> io::Result<bool> {
    let mut done = 0;
    while done < buf.len() {
        match read(stream, &mut buf[done..])? {
            0 if done == 0 => return Ok(false),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => done += count,
        }
    }
    Ok(true)
}
