//! The ways to move bytes that are compared. Each does the same work through the same few functions.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::count::Calls;

#[cfg(windows)]
pub mod libraries;
#[cfg(windows)]
pub mod raw;
#[cfg(windows)]
pub mod tokio;
#[cfg(unix)]
pub mod unix;

/// The bytes that a pipe queues in each direction, but in the case that is about them.
pub const BUFFER: usize = 64 << 10;

static CHOSEN_BUFFER: AtomicUsize = AtomicUsize::new(BUFFER);

/// Chooses the buffers of the pipes that are bound from now on.
pub fn set_buffer(bytes: usize) {
    CHOSEN_BUFFER.store(bytes, Ordering::Relaxed);
}

/// The buffers chosen.
#[cfg_attr(not(windows), expect(dead_code, reason = "only pipes have a choice"))]
pub fn buffer() -> usize {
    CHOSEN_BUFFER.load(Ordering::Relaxed)
}

/// What a way can be asked to do. A stream is used on one thread at a time, a listener on the thread
/// that made it.
pub trait Way: 'static {
    /// What clients connect to.
    type Listener;
    /// One end of a connection.
    type Stream: Send + 'static;

    /// How its system calls are known.
    const CALLS: Calls = Calls::Unknown;
    /// Whether a client can connect while nobody accepts.
    const HAS_BACKLOG: bool = true;
    /// Whether [`bind`](Self::bind) follows [`set_buffer`].
    const SETS_BUFFERS: bool = false;
    /// What [`set_timeouts`](Self::set_timeouts) does.
    const TIMEOUTS: Timeouts = Timeouts::Missing;

    /// Makes a listener.
    fn bind(path: &str) -> io::Result<Self::Listener>;
    /// Accepts a client.
    fn accept(listener: &Self::Listener) -> io::Result<Self::Stream>;
    /// Connects to a listener that is there, or about to be.
    fn connect(path: &str) -> io::Result<Self::Stream>;
    /// Reads what is there or waits for it; 0 is the end.
    fn read(stream: &mut Self::Stream, buf: &mut [u8]) -> io::Result<usize>;
    /// Writes all of it.
    fn write_all(stream: &mut Self::Stream, bytes: &[u8]) -> io::Result<()>;
    /// Sends units of `unit` bytes for `time`, and receives the peer's until its last, at once.
    /// Returns how many units it sent.
    fn both_ways(stream: &mut Self::Stream, unit: usize, time: Duration) -> io::Result<u64>;

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
        Self::read(stream, buf)
    }
    /// Makes two connected streams without a name that others could know.
    fn pair() -> io::Result<(Self::Stream, Self::Stream)> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Lets a thread wait in a read and ends that read from here. Returns how long it took to return.
    fn wake_up(_: Self::Stream) -> io::Result<Duration> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// What a way makes of timeouts.
#[derive(PartialEq)]
pub enum Timeouts {
    /// It has none, and the cases with timeouts are left out.
    Missing,
    /// It has none, and does these cases without: others are compared to it.
    #[cfg_attr(unix, expect(dead_code, reason = "the raw calls are Windows'"))]
    Ignored,
    /// It keeps them.
    Kept,
}

/// Reads until the buffer is full. `Ok(false)` is the end, before the first byte.
pub fn read_exact<W: Way>(stream: &mut W::Stream, buf: &mut [u8]) -> io::Result<bool> {
    let mut done = 0;
    while done < buf.len() {
        match W::read(stream, &mut buf[done..])? {
            0 if done == 0 => return Ok(false),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => done += count,
        }
    }
    Ok(true)
}

/// Tells whether the time is up, asking the clock less often where the work is short.
pub struct Clock {
    start: std::time::Instant,
    time: Duration,
    every: u32,
    tick: u32,
}

impl Clock {
    /// Starts a clock for work on `unit` bytes at a time.
    pub fn start(unit: usize, time: Duration) -> Clock {
        let every = if unit < 16 << 10 { 16 } else { 1 };
        Clock {
            start: std::time::Instant::now(),
            time,
            every,
            tick: 0,
        }
    }

    /// Counts one piece of work.
    pub fn is_over(&mut self) -> bool {
        self.tick += 1;
        self.tick % self.every == 0 && self.start.elapsed() >= self.time
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

/// The units of a transfer: zeros, but for the last byte of the last.
pub struct Units {
    unit: Vec<u8>,
    clock: Clock,
}

impl Units {
    const LAST: u8 = 1;

    /// Starts a transfer that goes on for `time`.
    pub fn new(unit: usize, time: Duration) -> Units {
        Units {
            unit: vec![0; unit],
            clock: Clock::start(unit, time),
        }
    }

    /// The next unit, and whether it's the last.
    pub fn next(&mut self) -> (&[u8], bool) {
        let last = self.clock.is_over();
        if let (true, Some(byte)) = (last, self.unit.last_mut()) {
            *byte = Self::LAST;
        }
        (&self.unit, last)
    }

    /// Whether these bytes, just read, end the transfer.
    pub fn is_end(bytes: &[u8]) -> bool {
        bytes.last() == Some(&Self::LAST)
    }
}

/// Sends units with `write`; returns how many.
pub fn send(
    unit: usize,
    time: Duration,
    mut write: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    let mut units = Units::new(unit, time);
    let mut count = 0;
    loop {
        let (bytes, last) = units.next();
        write(bytes)?;
        count += 1;
        if last {
            return Ok(count);
        }
    }
}

/// Receives units with `read`. `Ok(false)` is the end of the stream, before the first.
pub fn receive(
    buf: &mut [u8],
    mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
) -> io::Result<bool> {
    let mut any = false;
    loop {
        match read(buf)? {
            0 if !any => return Ok(false),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count if Units::is_end(&buf[..count]) => return Ok(true),
            _ => any = true,
        }
    }
}

/// [`Way::both_ways`] with a thread for each direction.
pub fn with_two_threads(
    unit: usize,
    time: Duration,
    write: impl FnMut(&[u8]) -> io::Result<()>,
    read: impl FnMut(&mut [u8]) -> io::Result<usize> + Send,
) -> io::Result<u64> {
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| receive(&mut vec![0; 64 << 10], read));
        let sent = send(unit, time, write);
        reader.join().map_err(|_| io::Error::other("panic"))??;
        sent
    })
}

/// [`Way::wake_up`] for a stream that can be shared.
pub fn wake<S: Sync>(
    stream: S,
    read: impl FnOnce(&S) -> io::Result<usize> + Send,
    end: impl FnOnce(&S) -> io::Result<()>,
) -> io::Result<Duration> {
    use std::time::Instant;

    std::thread::scope(|scope| {
        let (tell, ready) = std::sync::mpsc::channel();
        let stream = &stream;
        let reader = scope.spawn(move || {
            let _ = tell.send(());
            (read(stream), Instant::now())
        });
        let _ = ready.recv();
        // It can't tell that it waits.
        std::thread::sleep(Duration::from_millis(2));
        let start = Instant::now();
        end(stream)?;
        let (read, woken) = reader.join().map_err(|_| io::Error::other("panic"))?;
        read?;
        Ok(woken.saturating_duration_since(start))
    })
}
