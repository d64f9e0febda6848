//! The work that is timed, the same for every way.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::way::{BUFFER, Clock, Place, Timeouts, Way, read, read_full, receive, send};

/// What a sample is to do.
#[derive(Clone, Copy, Deserialize, Serialize)]
pub struct Size {
    /// How long it works.
    pub time: Duration,
    /// How many connections are open at the same time.
    pub connections: usize,
}

/// Why there is no time.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub enum Failure {
    /// The way has no such thing.
    Missing,
    /// It has, but it didn't work.
    Failed(String),
}

/// Does the work once; returns how many nanoseconds one piece of it took.
type Sample = Box<dyn Fn(Size) -> io::Result<f64>>;

/// All cases by name, in the order of the table.
pub fn all<W: Way>() -> Vec<(String, Sample)> {
    let mut cases: Vec<(String, Sample)> = Vec::new();
    let mut add = |name: &str, sample: Sample| cases.push((name.into(), sample));
    for (between, processes) in [("threads", false), ("processes", true)] {
        for (with, timeouts) in [("", false), (", timeouts", true)] {
            for (name, size) in UNITS {
                let ping_pong = Box::new(move |to_do: Size| {
                    ping_pong::<W>(size, timeouts, processes, to_do.time)
                });
                add(&format!("ping-pong {name}, {between}{with}"), ping_pong);
            }
        }
    }
    for (name, unit, slow, buffer) in TRANSFERS {
        let one_way = Box::new(move |size: Size| one_way::<W>(unit, slow, buffer, size.time));
        add(&format!("one way, {name}"), one_way);
    }
    add(
        "both ways at once, 64 KiB",
        Box::new(|size| both_ways::<W>(size.time)),
    );
    for (name, clients) in [("1 client", 1), ("8 clients", 8), ("64 clients", 64)] {
        let connect = Box::new(move |size: Size| connect::<W>(clients, size.time));
        add(&format!("connect, 1 B, drop; {name}"), connect);
    }
    let bind = || W::bind(&Place::fresh(BUFFER)).map(drop);
    add("bind, drop", Box::new(move |size| repeat(size.time, bind)));
    add(
        "pair, drop",
        Box::new(|size| repeat(size.time, || W::pair().map(drop))),
    );
    add(
        "drop with 4 KiB unread",
        Box::new(|size| drop_unread::<W>(size.time)),
    );
    add(
        "open one of 2000",
        Box::new(|size| open::<W>(size.connections, |_, opening| Ok(opening))),
    );
    let each = |size: Size| open::<W>(size.connections, ping_pong_all::<W>);
    add("ping-pong 1 B, each of 2000", Box::new(each));
    add(
        "wake a read by shutdown",
        Box::new(|size| wake_up::<W>(size.time)),
    );
    add(
        "nothing to read",
        Box::new(|size| nothing_to_read::<W>(size.time)),
    );
    cases
}

/// What ping-pongs send.
const UNITS: [(&str, usize); 5] = [
    ("1 B", 1),
    ("64 B", 64),
    ("4 KiB", 4 << 10),
    ("16 KiB", 16 << 10),
    ("64 KiB", 64 << 10),
];

/// What is sent one way: its unit, whether the reader is slow, the pipe's buffer. The reader takes as
/// much as the buffer holds; a slow one 4 KiB, and pauses after each.
const TRANSFERS: [(&str, usize, bool, usize); 7] = [
    ("64 B", 64, false, BUFFER),
    ("4 KiB", 4 << 10, false, BUFFER),
    ("64 KiB", 64 << 10, false, BUFFER),
    ("1 MiB", 1 << 20, false, BUFFER),
    ("16 MiB", 16 << 20, false, BUFFER),
    ("64 KiB, slow reader", 64 << 10, true, BUFFER),
    ("1 MiB, buffers of 1 MiB", 1 << 20, false, 1 << 20),
];

/// Answers with a sample's result on standard output. One that failed ends the process: threads may
/// be left that wait.
pub fn answer(result: io::Result<f64>) {
    let failed = result.is_err();
    let result = result.map_err(|error| match error.kind() {
        io::ErrorKind::Unsupported => Failure::Missing,
        _ => Failure::Failed(error.to_string()),
    });
    println!(
        "{}",
        serde_json::to_string(&result).expect("there are no maps in it")
    );
    if failed {
        std::process::exit(1);
    }
}

/// Binds on a thread of its own, and runs `serve` there and `client` here.
pub fn with_server<W: Way, T>(
    buffer: usize,
    serve: impl FnOnce(&W::Listener) -> io::Result<()> + Send + 'static,
    client: impl FnOnce(&Place) -> io::Result<T>,
) -> io::Result<T> {
    let place = Place::fresh(buffer);
    let path = place.path.clone();
    let (tell, bound) = mpsc::channel();
    let server = thread::spawn(move || {
        let served = W::bind(&Place { path, buffer }).and_then(|listener| {
            let _ = tell.send(());
            serve(&listener)
        });
        // The client might wait for ever.
        if let Err(error) = served {
            answer(Err(error));
        }
    });
    let _ = bound.recv();
    // 0.1.1 makes a pipe only in `accept`, and who comes before that sleeps for 200 ms.
    thread::sleep(Duration::from_millis(2));
    let result = client(&place)?;
    let _ = server.join();
    Ok(result)
}

/// Warms up, then measures.
fn warmed_up(time: Duration, mut run: impl FnMut(Duration) -> io::Result<f64>) -> io::Result<f64> {
    run(time / 8)?;
    run(time)
}

/// Does `piece` again and again; returns the nanoseconds of one.
fn repeat(time: Duration, mut piece: impl FnMut() -> io::Result<()>) -> io::Result<f64> {
    warmed_up(time, |time| {
        let (start, mut clock, mut count) = (Instant::now(), Clock::start(time), 0);
        loop {
            piece()?;
            count += 1;
            if clock.is_over(0) {
                return Ok(per_piece(start.elapsed(), count));
            }
        }
    })
}

/// Sums up what `piece` says that it took, until the time is over; returns the nanoseconds of one.
fn sum_up(time: Duration, mut piece: impl FnMut() -> io::Result<Duration>) -> io::Result<f64> {
    let (start, mut sum, mut count) = (Instant::now(), Duration::ZERO, 0);
    while count == 0 || start.elapsed() < time {
        sum += piece()?;
        count += 1;
    }
    Ok(per_piece(sum, count))
}

fn per_piece(time: Duration, count: u64) -> f64 {
    time.as_nanos() as f64 / count.max(1) as f64
}

fn ping_pong<W: Way>(
    size: usize,
    timeouts: bool,
    processes: bool,
    time: Duration,
) -> io::Result<f64> {
    if timeouts && W::TIMEOUTS == Timeouts::Missing {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let ping = move |mut stream: W::Stream| {
        set_timeouts::<W>(&stream, timeouts)?;
        let (bytes, mut buf) = (vec![0; size], vec![0; size]);
        repeat(time, || exchange(&mut stream, &bytes, &mut buf))
    };
    if processes {
        let place = Place::fresh(BUFFER);
        let listener = W::bind(&place)?;
        tell_the_peer::<W>((place.path.clone(), size, timeouts))?;
        ping(W::accept(&listener)?)
    } else {
        let serve = move |listener: &W::Listener| echo::<W>(W::accept(listener)?, size, timeouts);
        with_server::<W, _>(BUFFER, serve, |place| ping(W::connect(place)?))
    }
}

fn set_timeouts<W: Way>(stream: &W::Stream, timeouts: bool) -> io::Result<()> {
    match timeouts {
        true => W::set_timeouts(stream, Duration::from_secs(60)),
        false => Ok(()),
    }
}

fn exchange(stream: &mut (impl Read + Write), bytes: &[u8], buf: &mut [u8]) -> io::Result<()> {
    stream.write_all(bytes)?;
    match read_full(stream, buf)? {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Answers each `size` bytes with as many, until the end.
fn echo<W: Way>(mut stream: W::Stream, size: usize, timeouts: bool) -> io::Result<()> {
    set_timeouts::<W>(&stream, timeouts)?;
    let mut buf = vec![0; size];
    while read_full(&mut stream, &mut buf)? {
        stream.write_all(&buf)?;
    }
    Ok(())
}

/// What the other process is to echo: the path, the size, whether with timeouts.
type Task = (String, usize, bool);

/// Tells the other process, which is started when it's first needed, what to echo.
fn tell_the_peer<W: Way>(task: Task) -> io::Result<()> {
    static PEER: Mutex<Option<ChildStdin>> = Mutex::new(None);
    let mut peer = PEER.lock().map_err(|_| io::Error::other("panic"))?;
    if peer.is_none() {
        let mut process = Command::new(std::env::current_exe()?);
        process
            .args(["peer", W::NAME])
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        *peer = process.spawn()?.stdin;
    }
    let peer = peer.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
    writeln!(peer, "{}", serde_json::to_string(&task)?)?;
    peer.flush()
}

/// The other process: echoes what standard input says, until that ends.
pub fn be_the_peer<W: Way>() -> io::Result<()> {
    for line in BufReader::new(io::stdin()).lines() {
        let (path, size, timeouts): Task = serde_json::from_str(&line?)?;
        echo::<W>(
            W::connect(&Place {
                path,
                buffer: BUFFER,
            })?,
            size,
            timeouts,
        )?;
    }
    Ok(())
}

fn one_way<W: Way>(unit: usize, slow: bool, buffer: usize, time: Duration) -> io::Result<f64> {
    if buffer != BUFFER && !W::SETS_BUFFERS {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let pause = move || {
        let start = Instant::now();
        while slow && start.elapsed() < Duration::from_micros(20) {
            std::hint::spin_loop();
        }
    };
    let serve = move |listener: &W::Listener| {
        let mut stream = W::accept(listener)?;
        let mut buf = vec![0; if slow { 4 << 10 } else { buffer }];
        while receive(&mut stream, &mut buf, pause)? {
            stream.write_all(&[0])?;
        }
        Ok(())
    };
    with_server::<W, _>(buffer, serve, |place| {
        let mut stream = W::connect(place)?;
        warmed_up(time, |time| {
            let start = Instant::now();
            let count = send(&mut stream, unit, time)?;
            // It says that all has arrived.
            read_full(&mut stream, &mut [0])?;
            Ok(per_piece(start.elapsed(), count))
        })
    })
}

fn both_ways<W: Way>(time: Duration) -> io::Result<f64> {
    let barrier = Arc::new(Barrier::new(2));
    let both_ways = move |mut stream: W::Stream, barrier: &Barrier| {
        warmed_up(time, |time| {
            barrier.wait();
            let start = Instant::now();
            let count = W::both_ways(&mut stream, 64 << 10, time)?;
            barrier.wait();
            Ok(per_piece(start.elapsed(), count))
        })
    };
    let with_server = barrier.clone();
    let serve =
        move |listener: &W::Listener| both_ways(W::accept(listener)?, &with_server).map(drop);
    self::with_server::<W, _>(BUFFER, serve, |place| {
        both_ways(W::connect(place)?, &barrier)
    })
}

/// So many clients at once connect, send a byte, wait for the server to hang up, and drop.
fn connect<W: Way>(clients: usize, time: Duration) -> io::Result<f64> {
    const STOP: u8 = 1;
    fn one<W: Way>(place: &Place, byte: u8) -> io::Result<()> {
        let mut stream = W::connect(place)?;
        stream.write_all(&[byte])?;
        match read(&mut stream, &mut [0])? {
            0 => Ok(()),
            _ => Err(io::Error::other("the server sent something")),
        }
    }
    let serve = |listener: &W::Listener| {
        let mut byte = [0];
        while byte[0] != STOP {
            read_full(&mut W::accept(listener)?, &mut byte)?;
        }
        Ok(())
    };
    with_server::<W, _>(BUFFER, serve, |place| {
        let result = warmed_up(time, |time| {
            let start = Instant::now();
            let work = || {
                let mut count = 0;
                while count == 0 || start.elapsed() < time {
                    one::<W>(place, 0)?;
                    count += 1;
                }
                io::Result::Ok(count)
            };
            let count = thread::scope(|scope| {
                let others: Vec<_> = (1..clients).map(|_| scope.spawn(work)).collect();
                others.into_iter().try_fold(work()?, |sum, other| {
                    let count = other.join().map_err(|_| io::Error::other("panic"))?;
                    io::Result::Ok(sum + count?)
                })
            })?;
            Ok(per_piece(start.elapsed(), count))
        })?;
        one::<W>(place, STOP)?;
        Ok(result)
    })
}

/// A stream is dropped whose peer hasn't read what was written.
fn drop_unread<W: Way>(time: Duration) -> io::Result<f64> {
    const UNREAD: usize = 4 << 10;
    let (go, again) = mpsc::channel::<()>();
    let (tell, accepted) = mpsc::channel();
    let (dropped, wait) = mpsc::channel();
    let serve = move |listener: &W::Listener| {
        for () in again {
            let mut stream = W::accept(listener)?;
            let _ = tell.send(());
            let _ = wait.recv();
            if !read_full(&mut stream, &mut [0; UNREAD])? {
                return Err(io::Error::other("what was unread is lost"));
            }
        }
        Ok(())
    };
    with_server::<W, _>(BUFFER, serve, move |place| {
        sum_up(time, || {
            let _ = go.send(());
            let mut stream = W::connect(place)?;
            stream.write_all(&[0; UNREAD])?;
            let _ = accepted.recv();
            let before = Instant::now();
            drop(stream);
            let took = before.elapsed();
            let _ = dropped.send(());
            Ok(took)
        })
    })
}

/// Opens many connections and passes them on, with the nanoseconds that one took.
pub fn open<W: Way>(
    connections: usize,
    then: impl FnOnce(&mut [W::Stream], f64) -> io::Result<f64>,
) -> io::Result<f64> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let (tell, accepted) = mpsc::channel();
    let serve = move |listener: &W::Listener| {
        let mut streams = Vec::with_capacity(connections);
        while streams.len() < connections {
            streams.push(W::accept(listener)?);
        }
        let _ = tell.send(());
        let mut byte = [0];
        loop {
            for stream in &mut streams {
                if !read_full(stream, &mut byte)? {
                    return Ok(());
                }
                stream.write_all(&byte)?;
            }
        }
    };
    with_server::<W, _>(BUFFER, serve, |place| {
        let start = Instant::now();
        let mut streams = Vec::with_capacity(connections);
        while streams.len() < connections {
            if start.elapsed() > PATIENCE {
                let count = streams.len();
                return Err(io::Error::other(format!("{count} in {PATIENCE:?}")));
            }
            streams.push(W::connect(place)?);
        }
        let _ = accepted.recv();
        then(&mut streams, per_piece(start.elapsed(), connections as u64))
    })
}

/// One byte goes there and back over each open connection in turn.
fn ping_pong_all<W: Way>(streams: &mut [W::Stream], _: f64) -> io::Result<f64> {
    let start = Instant::now();
    for stream in streams.iter_mut() {
        exchange(stream, &[0], &mut [0])?;
    }
    Ok(per_piece(start.elapsed(), streams.len() as u64))
}

/// A read that waits is ended by a shutdown.
fn wake_up<W: Way>(time: Duration) -> io::Result<f64> {
    let (go, again) = mpsc::channel::<()>();
    let serve = move |listener: &W::Listener| {
        let accepted = again.iter().map(|()| W::accept(listener));
        accepted.collect::<io::Result<Vec<_>>>().map(drop)
    };
    with_server::<W, _>(BUFFER, serve, move |place| {
        sum_up(time, || {
            let _ = go.send(());
            let stream = W::connect(place)?;
            let mut reader = W::try_clone(&stream)?;
            let (tell, ready) = mpsc::channel();
            let reader = thread::spawn(move || {
                let _ = tell.send(());
                (read(&mut reader, &mut [0]), Instant::now())
            });
            let _ = ready.recv();
            // It can't tell that it waits.
            thread::sleep(Duration::from_millis(2));
            let start = Instant::now();
            W::end_reads(&stream)?;
            let (read, woken) = reader.join().map_err(|_| io::Error::other("panic"))?;
            read.map(|_| woken.saturating_duration_since(start))
        })
    })
}

/// A read doesn't wait, as there is nothing.
fn nothing_to_read<W: Way>(time: Duration) -> io::Result<f64> {
    let serve = |listener: &W::Listener| read(&mut W::accept(listener)?, &mut [0]).map(drop);
    with_server::<W, _>(BUFFER, serve, |place| {
        let mut stream = W::connect(place)?;
        W::set_nonblocking(&stream)?;
        let mut buf = [0; 64];
        repeat(time, || match W::try_read(&mut stream, &mut buf) {
            Err(error) if found_nothing(&error) => Ok(()),
            Err(error) => Err(error),
            Ok(count) => Err(io::Error::other(format!("read {count} bytes"))),
        })
    })
}

/// `ERROR_NO_DATA` is how Windows' own nonblocking mode says it.
fn found_nothing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || (cfg!(windows) && error.raw_os_error() == Some(232))
}
