//! The work that is timed, the same for every way: what the cases are, and how each is done.

use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use parse_size::parse_size;
use serde::{Deserialize, Serialize};

use crate::way::{BUFFER, Place, Way, at_once, read, unsupported};

/// Something to time.
#[derive(Clone, Deserialize, Serialize)]
pub struct Case {
    pub name: String,
    /// Whether it's one of the many that compare sizes of writes and of readers' buffers.
    pub in_matrix: bool,
    /// Whether the server is another process, and not another thread.
    pub processes: bool,
    /// The pipe's buffers; none are those that the way has by default.
    pub buffer: Option<usize>,
    /// What the client and the server do.
    work: Work,
}

#[derive(Clone, Copy, Deserialize, Serialize)]
enum Work {
    PingPong { bytes: usize, timeouts: bool },
    OneWay { unit: usize, reader: Reader },
    BothWays,
    CopyBothWays,
    Connect { clients: u64 },
    Bind,
    Pair,
    DropUnread,
    Open { then_ping_pong: bool },
    WakeUp,
    NothingToRead,
}

/// How the receiver of what goes one way reads it.
#[derive(Clone, Copy, Deserialize, Serialize)]
enum Reader {
    Buffer(usize),
    /// Reads 4 KiB, and pauses after each read.
    Slow,
    Exact,
    ToEnd,
    Lines,
    /// With `io::copy`, as the sender sends it.
    Copy,
}

/// The size of the file that is copied.
const FILE: usize = 64 << 20;

/// All cases, in the order of the table.
pub fn all() -> Vec<Case> {
    use Work::*;
    let bytes = |size| parse_size(size).expect("a size") as usize;
    const BETWEEN: [(&str, bool); 2] = [("threads", false), ("processes", true)];
    let mut cases = Vec::new();
    let mut add = |name: String, buffer, processes, work| {
        cases.push(Case { in_matrix: name.starts_with("bulk"), name, processes, buffer, work });
    };
    let one_way = |unit, reader| OneWay { unit: bytes(unit), reader };
    for (between, processes) in BETWEEN {
        for (with, timeouts) in [("", false), (", timeouts", true)] {
            for size in ["1 B", "64 B", "4 KiB", "16 KiB", "64 KiB"] {
                let work = PingPong { bytes: bytes(size), timeouts };
                add(format!("ping-pong {size}, {between}{with}"), Some(BUFFER), processes, work);
            }
        }
    }
    for size in ["64 B", "4 KiB", "64 KiB", "1 MiB", "16 MiB"] {
        let work = one_way(size, Reader::Buffer(BUFFER));
        add(format!("one way, {size}"), Some(BUFFER), false, work);
    }
    for (size, buffer) in ["1 MiB", "16 MiB"].iter().flat_map(|s| [(s, "64 KiB"), (s, "1 MiB")]) {
        let work = one_way(size, Reader::Buffer(bytes(buffer)));
        add(format!("one way, {size}, defaults, reader's buffer {buffer}"), None, false, work);
    }
    let large = one_way("1 MiB", Reader::Buffer(1 << 20));
    add("one way, 1 MiB, buffers of 1 MiB".into(), Some(1 << 20), false, large);
    for (name, work) in [
        ("one way, 64 KiB, slow reader", one_way("64 KiB", Reader::Slow)),
        ("both ways at once, 64 KiB", BothWays),
        ("connect, 1 B, drop; 1 client", Connect { clients: 1 }),
        ("connect, 1 B, drop; 8 clients", Connect { clients: 8 }),
        ("connect, 1 B, drop; 64 clients", Connect { clients: 64 }),
        ("bind, drop", Bind),
        ("pair, drop", Pair),
        ("drop with 4 KiB unread", DropUnread),
        ("open one of 2000", Open { then_ping_pong: false }),
        ("ping-pong 1 B, each of 2000", Open { then_ping_pong: true }),
        ("wake a read by shutdown", WakeUp),
        ("nothing to read", NothingToRead),
    ] {
        add(name.into(), Some(BUFFER), false, work);
    }
    for (between, processes) in BETWEEN {
        for (name, work) in [
            ("read_exact 1 MiB", one_way("1 MiB", Reader::Exact)),
            ("read_to_end 16 MiB", one_way("16 MiB", Reader::ToEnd)),
            ("BufReader, 64 KiB of lines", one_way("64 KiB", Reader::Lines)),
            ("io::copy 64 MiB", OneWay { unit: FILE, reader: Reader::Copy }),
            ("io::copy 64 MiB both ways at once", CopyBothWays),
        ] {
            add(format!("{name}, {between}"), None, processes, work);
        }
        for size in ["64 B", "4 KiB", "64 KiB", "1 MiB", "16 MiB"] {
            for buffer in ["4 KiB", "16 KiB", "64 KiB", "256 KiB", "1 MiB"] {
                let work = one_way(size, Reader::Buffer(bytes(buffer)));
                let name = format!("bulk {size}, reader's buffer {buffer}, {between}");
                add(name, None, processes, work);
            }
        }
    }
    cases
}

impl Case {
    /// Does the work once, for about that `time`; returns how many nanoseconds one piece of it took.
    /// `run` does so many pieces.
    pub fn sample<W: Way>(
        &self,
        mut time: Duration,
        connections: u64,
        mut run: impl FnMut(u64) -> io::Result<Duration>,
    ) -> io::Result<f64> {
        let timeouts = matches!(self.work, Work::PingPong { timeouts: true, .. });
        let own_buffers = !matches!(self.buffer, None | Some(BUFFER));
        if own_buffers && !W::SETS_BUFFERS || timeouts && W::TIMEOUTS.is_none() {
            return unsupported();
        }
        if let Work::Open { .. } = self.work {
            return Ok(run(connections)?.as_nanos() as f64 / connections as f64);
        }
        if let Work::DropUnread | Work::WakeUp = self.work {
            // The piece that is timed is a small part of the work.
            time /= 20;
        }
        let mut count = 1;
        loop {
            let took = run(count)?;
            let part = time.as_secs_f64() / took.as_secs_f64().max(1e-9);
            // So few pieces may have met something else that the machine did, if they aren't slow.
            let enough = count >= 4 || took > Duration::from_millis(250);
            if enough && part <= 1.5 {
                return Ok(took.as_nanos() as f64 / count as f64);
            }
            count = 4.max((count as f64 * part.clamp(2.0, 16.0)) as u64);
        }
    }

    /// Does the client's part of so many pieces; returns how long they took.
    pub fn client<W: Way>(&self, way: W, place: &Place, count: u64) -> io::Result<Duration> {
        let connect = || way.connect(place);
        match self.work {
            Work::PingPong { bytes, timeouts } => {
                let mut stream = connect()?;
                if timeouts {
                    way.set_timeouts(&stream, MINUTE)?;
                }
                let (out, mut back) = (vec![0; bytes], vec![0; bytes]);
                repeat(count, || exchange(&mut stream, &out, &mut back))
            }
            Work::OneWay { reader: Reader::Copy, .. } => {
                let mut stream = connect()?;
                repeat(1, || {
                    send_file(&mut stream, count)?;
                    // The receiver says that all has arrived.
                    stream.read_exact(&mut [0])
                })
            }
            Work::OneWay { unit, .. } => {
                let line = [[b'.'; 63].as_slice(), b"\n"].concat();
                let (mut stream, bytes) = (connect()?, line.repeat(unit / 64));
                repeat(1, || {
                    (0..count).try_for_each(|_| stream.write_all(&bytes))?;
                    stream.read_exact(&mut [0])
                })
            }
            Work::BothWays => {
                let mut stream = connect()?;
                repeat(1, || way.both_ways(&mut stream, BUFFER, count))
            }
            Work::CopyBothWays => {
                let mut stream = connect()?;
                repeat(1, || copy_both_ways(way, &mut stream, count))
            }
            Work::Connect { clients } => {
                let one = || {
                    let mut stream = connect()?;
                    stream.write_all(&[0])?;
                    match read(&mut stream, &mut [0])? {
                        0 => Ok(()),
                        _ => Err(io::Error::other("the server sent something")),
                    }
                };
                let took = repeat(1, || {
                    thread::scope(|scope| {
                        let other = |_| scope.spawn(|| repeat(count, one));
                        let others: Vec<_> = (1..clients).map(other).collect();
                        repeat(count, one)?;
                        let mut results = others.into_iter().map(|other| other.join());
                        results.try_for_each(|result| result.expect("no panic").map(drop))
                    })
                })?;
                Ok(took / clients as u32)
            }
            Work::Bind => repeat(count, || way.bind(&Place::fresh(self.buffer)).map(drop)),
            Work::Pair => repeat(count, || way.pair().map(drop)),
            Work::DropUnread => (0..count)
                .map(|_| {
                    let mut stream = connect()?;
                    stream.write_all(&UNREAD)?;
                    STEP.wait();
                    let start = Instant::now();
                    drop(stream);
                    let took = start.elapsed();
                    STEP.wait();
                    Ok(took)
                })
                .sum(),
            Work::Open { then_ping_pong } => open(way, place, count, then_ping_pong),
            Work::WakeUp => (0..count).map(|_| wake_up(way, connect()?)).sum(),
            Work::NothingToRead => {
                let mut stream = connect()?;
                way.set_nonblocking(&stream)?;
                repeat(count, || match way.try_read(&mut stream, &mut [0; 64]) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
                    Err(error) if error.raw_os_error() == Some(ERROR_NO_DATA) => Ok(()),
                    Err(error) => Err(error),
                    Ok(count) => Err(io::Error::other(format!("read {count} bytes"))),
                })
            }
        }
    }

    /// Does the server's part of so many pieces.
    pub fn server<W: Way>(&self, way: W, listener: &W::Listener, count: u64) -> io::Result<()> {
        let accept = || way.accept(listener);
        // Waits for a byte, or until the client has dropped its end: nothing else ends its reads.
        let serve = |_| read(&mut accept()?, &mut [0]).map(drop);
        match self.work {
            Work::PingPong { bytes, timeouts } => {
                let (mut stream, mut buf) = (accept()?, vec![0; bytes]);
                if timeouts {
                    way.set_timeouts(&stream, MINUTE)?;
                }
                while stream.read_exact(&mut buf).is_ok() {
                    stream.write_all(&buf)?;
                }
                Ok(())
            }
            Work::OneWay { unit, reader } => {
                let mut stream = accept()?;
                receive(&mut stream, unit, reader, count)?;
                stream.write_all(&[0])
            }
            Work::BothWays => way.both_ways(&mut accept()?, BUFFER, count),
            Work::CopyBothWays => copy_both_ways(way, &mut accept()?, count),
            Work::DropUnread => (0..count).try_for_each(|_| {
                let mut stream = accept()?;
                STEP.wait();
                STEP.wait();
                stream.read_exact(&mut UNREAD.clone())
            }),
            Work::Open { .. } => {
                let streams = (0..count).map(|_| accept());
                let mut streams = streams.collect::<io::Result<Vec<_>>>()?;
                STEP.wait();
                streams.iter_mut().try_for_each(|stream| {
                    stream.read_exact(&mut [0])?;
                    stream.write_all(&[0])
                })
            }
            Work::Connect { clients } => (0..count * clients).try_for_each(serve),
            Work::WakeUp => (0..count).try_for_each(serve),
            Work::NothingToRead => serve(0),
            Work::Bind | Work::Pair => Ok(()),
        }
    }
}

/// How Windows' own nonblocking mode says that there is nothing; not an error of Unix.
const ERROR_NO_DATA: i32 = 232;
const MINUTE: Duration = Duration::from_secs(60);
const UNREAD: [u8; 4 << 10] = [0; 4 << 10];

/// Where a client and a server on another thread wait for each other.
static STEP: Barrier = Barrier::new(2);

fn repeat(count: u64, mut piece: impl FnMut() -> io::Result<()>) -> io::Result<Duration> {
    let start = Instant::now();
    (0..count).try_for_each(|_| piece())?;
    Ok(start.elapsed())
}

fn exchange(stream: &mut (impl Read + Write), bytes: &[u8], buf: &mut [u8]) -> io::Result<()> {
    stream.write_all(bytes)?;
    stream.read_exact(buf)
}

/// Receives `count` times `unit` bytes.
fn receive(stream: &mut impl Read, unit: usize, how: Reader, count: u64) -> io::Result<()> {
    let mut all = stream.take(unit as u64 * count);
    match how {
        Reader::Buffer(len) => {
            let mut buf = vec![0; len];
            while all.read(&mut buf)? > 0 {}
        }
        Reader::Slow => {
            while all.read(&mut [0; 4 << 10])? > 0 {
                let start = Instant::now();
                while start.elapsed() < Duration::from_micros(20) {
                    std::hint::spin_loop();
                }
            }
        }
        Reader::Exact => {
            let mut buf = vec![0; unit];
            (0..count).try_for_each(|_| all.read_exact(&mut buf))?;
        }
        // The end is that of the unit: to end the stream would take a connection for each.
        Reader::ToEnd => (0..count).try_for_each(|_| {
            all.by_ref().take(unit as u64).read_to_end(&mut Vec::new()).map(drop)
        })?,
        Reader::Lines => {
            let (mut lines, mut line) = (BufReader::new(&mut all), String::new());
            while lines.read_line(&mut line)? > 0 {
                line.clear();
            }
        }
        Reader::Copy => drop(io::copy(&mut all, &mut io::sink())?),
    }
    if all.limit() == 0 { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn send_file(stream: &mut impl Write, count: u64) -> io::Result<()> {
    let mut file = tempfile::tempfile()?;
    file.set_len(FILE as u64)?;
    (0..count).try_for_each(|_| {
        file.rewind()?;
        io::copy(&mut file, stream).map(drop)
    })
}

fn copy_both_ways<W: Way>(way: W, stream: &mut W::Stream, count: u64) -> io::Result<()> {
    let mut reader = way.try_clone(stream)?;
    let receive = move || receive(&mut reader, FILE, Reader::Copy, count);
    at_once(receive, || send_file(stream, count))
}

/// Opens many connections; returns how long that took, or one byte there and back over each in turn.
fn open<W: Way>(way: W, place: &Place, count: u64, then_ping_pong: bool) -> io::Result<Duration> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let (start, mut streams) = (Instant::now(), Vec::new());
    for opened in 0..count {
        if start.elapsed() > PATIENCE {
            return Err(io::Error::other(format!("{opened} in {PATIENCE:?}")));
        }
        streams.push(way.connect(place)?);
    }
    STEP.wait();
    let opening = start.elapsed();
    let ping_pong = || streams.iter_mut().try_for_each(|end| exchange(end, &[0], &mut [0]));
    let took = repeat(1, ping_pong)?;
    Ok(if then_ping_pong { took } else { opening })
}

/// Ends a read that waits; returns how long that took.
fn wake_up<W: Way>(way: W, stream: W::Stream) -> io::Result<Duration> {
    let mut reader = way.try_clone(&stream)?;
    let (tell, woken) = mpsc::channel();
    thread::spawn(move || tell.send((read(&mut reader, &mut [0]), Instant::now())));
    // Nothing tells that it waits.
    thread::sleep(Duration::from_millis(2));
    loop {
        let start = Instant::now();
        way.end_reads(&stream)?;
        // A read that began after the raw calls had cancelled all there were isn't ended by them.
        if let Ok((read, at)) = woken.recv_timeout(Duration::from_millis(100)) {
            return read.map(|_| at.saturating_duration_since(start));
        }
    }
}
