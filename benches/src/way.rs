//! What every way to move bytes can do, and what the work on it needs.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The bytes that a pipe queues in each direction, and the size of most buffers.
pub const BUFFER: usize = 64 << 10;

/// A way to move bytes. A stream is used by one thread at a time, a listener by the thread that made it.
pub trait Way: 'static {
    /// Its name on the command line.
    const NAME: &str;
    /// Its name in tables.
    const TITLE: &str;
    /// Whether it reports each system call to [`calling`].
    const REPORTS_CALLS: bool = false;
    /// Whether a client can connect while nobody accepts.
    const HAS_BACKLOG: bool = true;
    /// Whether it follows [`Place::buffer`].
    const SETS_BUFFERS: bool = false;
    /// What [`set_timeouts`](Self::set_timeouts) does.
    const TIMEOUTS: Timeouts = Timeouts::Missing;

    /// What clients connect to.
    type Listener;
    /// One end of a connection.
    type Stream: Read + Write + Send + 'static;

    /// Makes a listener.
    fn bind(place: &Place) -> io::Result<Self::Listener>;
    /// Accepts a client.
    fn accept(listener: &Self::Listener) -> io::Result<Self::Stream>;
    /// Connects to a listener that is there, or about to be.
    fn connect(place: &Place) -> io::Result<Self::Stream>;
    /// Gives the stream a second owner.
    fn try_clone(_: &Self::Stream) -> io::Result<Self::Stream> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Sends units of `unit` bytes for `time`, and receives the peer's until its last, at once.
    /// Returns how many units it sent.
    fn both_ways(stream: &mut Self::Stream, unit: usize, time: Duration) -> io::Result<u64> {
        let mut reader = Self::try_clone(stream)?;
        let reader = thread::spawn(move || receive(&mut reader, &mut vec![0; BUFFER], || {}));
        let sent = send(stream, unit, time);
        reader.join().map_err(|_| io::Error::other("panic"))??;
        sent
    }
    /// Limits reads and writes.
    fn set_timeouts(_: &Self::Stream, _: Duration) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Prepares for [`try_read`](Self::try_read).
    fn set_nonblocking(_: &Self::Stream) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Reads without waiting.
    fn try_read(stream: &mut Self::Stream, buf: &mut [u8]) -> io::Result<usize> {
        stream.read(buf)
    }
    /// Makes two connected streams without a name that others could know.
    fn pair() -> io::Result<(Self::Stream, Self::Stream)> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Ends the reads that wait.
    fn end_reads(_: &Self::Stream) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// What a way makes of timeouts.
#[derive(PartialEq)]
pub enum Timeouts {
    /// It has none, and the cases with timeouts are left out.
    Missing,
    /// It has none, and does these cases without: others are compared to it.
    #[cfg_attr(unix, expect(dead_code, reason = "only the raw calls do so"))]
    Ignored,
    /// It keeps them.
    Kept,
}

/// Where to listen, and with what buffers.
pub struct Place {
    /// What to bind and to connect to.
    pub path: String,
    /// The bytes that a pipe queues in each direction.
    #[cfg_attr(unix, expect(dead_code, reason = "sockets have no such choice"))]
    pub buffer: usize,
}

impl Place {
    /// A place that hasn't been used.
    pub fn fresh(buffer: usize) -> Place {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("winpipe-bench-{}-{count}", std::process::id());
        let path = if cfg!(windows) {
            format!(r"\\.\pipe\{name}")
        } else {
            std::env::temp_dir().join(name).display().to_string()
        };
        Place { path, buffer }
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

/// Tells whether the time is up, asking the clock less often where the work is short.
pub struct Clock(Instant, Duration, u32);

impl Clock {
    /// Starts a clock.
    pub fn start(time: Duration) -> Clock {
        Clock(Instant::now(), time, 0)
    }

    /// Counts one piece of work on `unit` bytes.
    pub fn is_over(&mut self, unit: usize) -> bool {
        self.2 += 1;
        (self.2 % 16 == 0 || unit >= 16 << 10) && self.0.elapsed() >= self.1
    }
}

/// The units of a transfer that goes on for a while: zeros, but for the last byte of the last.
pub struct Units(Vec<u8>, Clock);

impl Units {
    const LAST: u8 = 1;

    /// Starts a transfer of units of `unit` bytes.
    pub fn start(unit: usize, time: Duration) -> Units {
        Units(vec![0; unit], Clock::start(time))
    }

    /// The next unit, and whether it's the last.
    pub fn next(&mut self) -> (&[u8], bool) {
        let last = self.1.is_over(self.0.len());
        if let (true, Some(byte)) = (last, self.0.last_mut()) {
            *byte = Self::LAST;
        }
        (&self.0, last)
    }

    /// Whether these bytes, just read, end the transfer.
    pub fn is_end(bytes: &[u8]) -> bool {
        bytes.last() == Some(&Self::LAST)
    }
}

/// Sends units for `time`; returns how many.
pub fn send(stream: &mut impl Write, unit: usize, time: Duration) -> io::Result<u64> {
    let mut units = Units::start(unit, time);
    for count in 1.. {
        let (bytes, last) = units.next();
        stream.write_all(bytes)?;
        if last {
            return Ok(count);
        }
    }
    unreachable!("the time ends first")
}

/// Receives units until the last. `Ok(false)` is the end of the stream, before the first.
pub fn receive(
    stream: &mut impl Read,
    buf: &mut [u8],
    mut after_each: impl FnMut(),
) -> io::Result<bool> {
    let mut any = false;
    loop {
        let count = read(stream, buf)?;
        after_each();
        match count {
            0 if !any => return Ok(false),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count if Units::is_end(&buf[..count]) => return Ok(true),
            _ => any = true,
        }
    }
}
