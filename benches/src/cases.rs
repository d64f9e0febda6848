//! The work that is timed, the same for every way.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::way::{BUFFER, OWN, Place, Way, read, read_full, unsupported};

/// What a sample is to do.
#[derive(Clone, Copy, Deserialize, Serialize)]
pub struct Size {
    /// How long it works.
    pub time: Duration,
    /// How many connections are open at the same time.
    pub connections: usize,
}

/// Why there is no time: the way has no such thing, or it failed for this reason.
pub type Failure = Option<String>;

/// Does the work once; returns how many nanoseconds one piece of it took.
type Sample = Box<dyn Fn(Size) -> io::Result<f64>>;

/// All cases by name, in the order of the table.
pub fn all<W: Way>() -> Vec<(String, Sample)> {
    let mut cases: Vec<(String, Sample)> = Vec::new();
    let mut add = |name: &str, sample: Sample| cases.push((name.into(), sample));
    for (between, processes) in [("threads", false), ("processes", true)] {
        for (with, timeouts) in [("", false), (", timeouts", true)] {
            for (name, bytes) in UNITS {
                let ping_pong =
                    Box::new(move |size| ping_pong::<W>(bytes, timeouts, processes, size));
                add(&format!("ping-pong {name}, {between}{with}"), ping_pong);
            }
        }
    }
    for (name, unit, buffer, reader, slow) in TRANSFERS {
        let one_way = Box::new(move |size| one_way::<W>(unit, buffer, reader, slow, size));
        add(&format!("one way, {name}"), one_way);
    }
    add("both ways at once, 64 KiB", Box::new(both_ways::<W>));
    for (name, clients) in [("1 client", 1), ("8 clients", 8), ("64 clients", 64)] {
        let connect = Box::new(move |size| connect::<W>(clients, size));
        add(&format!("connect, 1 B, drop; {name}"), connect);
    }
    let bind = || W::bind(&Place::fresh(BUFFER)).map(drop);
    add("bind, drop", Box::new(move |size| measure(size, |count| repeat(count, bind))));
    let pair = || W::pair().map(drop);
    add("pair, drop", Box::new(move |size| measure(size, |count| repeat(count, pair))));
    add("drop with 4 KiB unread", Box::new(drop_unread::<W>));
    add("open one of 2000", Box::new(|size| open::<W>(size.connections, |_, opening| Ok(opening))));
    let each = |size: Size| open::<W>(size.connections, ping_pong_all::<W>);
    add("ping-pong 1 B, each of 2000", Box::new(each));
    add("wake a read by shutdown", Box::new(wake_up::<W>));
    add("nothing to read", Box::new(nothing_to_read::<W>));
    cases
}

/// What ping-pongs send.
const UNITS: [(&str, usize); 5] =
    [("1 B", 1), ("64 B", 64), ("4 KiB", 4 << 10), ("16 KiB", 16 << 10), ("64 KiB", 64 << 10)];

/// What is sent one way: its unit, the pipe's buffer, the reader's buffer, whether the reader pauses
/// after each read.
const TRANSFERS: [(&str, usize, usize, usize, bool); 11] = [
    ("64 B", 64, BUFFER, BUFFER, false),
    ("4 KiB", 4 << 10, BUFFER, BUFFER, false),
    ("64 KiB", 64 << 10, BUFFER, BUFFER, false),
    ("1 MiB", 1 << 20, BUFFER, BUFFER, false),
    ("16 MiB", 16 << 20, BUFFER, BUFFER, false),
    ("1 MiB, defaults, reader's buffer 64 KiB", 1 << 20, OWN, 64 << 10, false),
    ("1 MiB, defaults, reader's buffer 1 MiB", 1 << 20, OWN, 1 << 20, false),
    ("16 MiB, defaults, reader's buffer 64 KiB", 16 << 20, OWN, 64 << 10, false),
    ("16 MiB, defaults, reader's buffer 1 MiB", 16 << 20, OWN, 1 << 20, false),
    ("64 KiB, slow reader", 64 << 10, BUFFER, 4 << 10, true),
    ("1 MiB, buffers of 1 MiB", 1 << 20, 1 << 20, 1 << 20, false),
];

/// Answers with a sample's result on standard output. One that failed ends the process: threads may
/// be left that wait.
pub fn answer(result: io::Result<f64>) {
    let failed = result.is_err();
    let has_it = |error: &io::Error| error.kind() != io::ErrorKind::Unsupported;
    let result: Result<f64, Failure> =
        result.map_err(|error| has_it(&error).then(|| error.to_string()));
    println!("{}", serde_json::json!(result));
    if failed {
        std::process::exit(1);
    }
}

/// Binds on a thread of its own, and runs `serve` there and `client` here.
fn with_server<W: Way, T>(
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
    let result = client(&place)?;
    let _ = server.join();
    Ok(result)
}

/// Has `run` do a number of pieces, which is larger each time until it takes its time, and tell how
/// long that took; returns the nanoseconds of one.
fn measure(size: Size, mut run: impl FnMut(u64) -> io::Result<Duration>) -> io::Result<f64> {
    let mut count = 1;
    loop {
        let took = run(count)?;
        let part = size.time.as_secs_f64() / took.as_secs_f64().max(1e-9);
        // So few pieces may have met something else that the machine did, if they aren't that slow.
        let enough = count >= 4 || took > Duration::from_millis(250);
        if enough && part <= 1.5 {
            return Ok(took.as_nanos() as f64 / count as f64);
        }
        count = 4.max((count as f64 * part.clamp(2.0, 16.0)) as u64);
    }
}

/// Measures what takes a server, which does as many pieces on its thread.
fn measure_with<W: Way>(
    buffer: usize,
    size: Size,
    serve: impl Fn(&W::Listener, u64) -> io::Result<()> + Send + 'static,
    mut client: impl FnMut(&Place, u64) -> io::Result<Duration>,
) -> io::Result<f64> {
    let (go, counts) = mpsc::channel();
    let serve_all =
        move |listener: &W::Listener| counts.iter().try_for_each(|count| serve(listener, count));
    with_server::<W, _>(buffer, serve_all, move |place| {
        measure(size, |count| {
            let _ = go.send(count);
            // 0.1.1 makes a pipe only in `accept`, and who comes before that sleeps for 200 ms.
            thread::sleep(Duration::from_millis(2));
            client(place, count)
        })
    })
}

fn repeat(count: u64, mut piece: impl FnMut() -> io::Result<()>) -> io::Result<Duration> {
    let start = Instant::now();
    (0..count).try_for_each(|_| piece())?;
    Ok(start.elapsed())
}

fn ping_pong<W: Way>(bytes: usize, timeouts: bool, processes: bool, size: Size) -> io::Result<f64> {
    if timeouts && W::TIMEOUTS.is_none() {
        return unsupported();
    }
    let ping = move |mut stream: W::Stream, count| {
        set_timeouts::<W>(&stream, timeouts)?;
        let (out, mut back) = (vec![0; bytes], vec![0; bytes]);
        repeat(count, || exchange(&mut stream, &out, &mut back))
    };
    if processes {
        return measure(size, |count| {
            let place = Place::fresh(BUFFER);
            let listener = W::bind(&place)?;
            tell_the_peer::<W>((place.path.clone(), bytes, timeouts))?;
            ping(W::accept(&listener)?, count)
        });
    }
    let serve = move |listener: &_, _| echo::<W>(W::accept(listener)?, bytes, timeouts);
    measure_with::<W>(BUFFER, size, serve, |place, count| ping(W::connect(place)?, count))
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
    let mut peer = PEER.lock().expect("no panic");
    if peer.is_none() {
        let mut process = Command::new(std::env::current_exe()?);
        process.args(["peer", W::NAME]).stdin(Stdio::piped()).stdout(Stdio::null());
        *peer = process.spawn()?.stdin;
    }
    let peer = peer.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
    writeln!(peer, "{}", serde_json::json!(task))?;
    peer.flush()
}

/// The other process: echoes what standard input says, until that ends.
pub fn be_the_peer<W: Way>() -> io::Result<()> {
    for line in BufReader::new(io::stdin()).lines() {
        let (path, size, timeouts): Task = serde_json::from_str(&line?)?;
        echo::<W>(W::connect(&Place { path, buffer: BUFFER })?, size, timeouts)?;
    }
    Ok(())
}

fn one_way<W: Way>(
    unit: usize,
    buffer: usize,
    reader: usize,
    slow: bool,
    size: Size,
) -> io::Result<f64> {
    if !matches!(buffer, OWN | BUFFER) && !W::SETS_BUFFERS {
        return unsupported();
    }
    let serve = move |listener: &_, count| {
        let (mut stream, mut left) = (W::accept(listener)?, unit * count as usize);
        let mut buf = vec![0; reader];
        while left > 0 {
            left -= match read(&mut stream, &mut buf)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => count,
            };
            let start = Instant::now();
            while slow && start.elapsed() < Duration::from_micros(20) {
                std::hint::spin_loop();
            }
        }
        stream.write_all(&[0])
    };
    measure_with::<W>(buffer, size, serve, |place, count| {
        let (mut stream, bytes) = (W::connect(place)?, vec![0; unit]);
        let start = Instant::now();
        (0..count).try_for_each(|_| stream.write_all(&bytes))?;
        // It says that all has arrived.
        read_full(&mut stream, &mut [0])?;
        Ok(start.elapsed())
    })
}

fn both_ways<W: Way>(size: Size) -> io::Result<f64> {
    const UNIT: usize = 64 << 10;
    let serve = |listener: &_, count| W::both_ways(&mut W::accept(listener)?, UNIT, count);
    measure_with::<W>(BUFFER, size, serve, |place, count| {
        let mut stream = W::connect(place)?;
        let start = Instant::now();
        W::both_ways(&mut stream, UNIT, count)?;
        Ok(start.elapsed())
    })
}

/// So many clients at once connect, send a byte, wait for the server to hang up, and drop.
fn connect<W: Way>(clients: u64, size: Size) -> io::Result<f64> {
    let serve = move |listener: &_, count| {
        (0..count * clients)
            .try_for_each(|_| read_full(&mut W::accept(listener)?, &mut [0]).map(drop))
    };
    let each = measure_with::<W>(BUFFER, size, serve, |place, count| {
        let one = || {
            let mut stream = W::connect(place)?;
            stream.write_all(&[0])?;
            match read(&mut stream, &mut [0])? {
                0 => Ok(()),
                _ => Err(io::Error::other("the server sent something")),
            }
        };
        let start = Instant::now();
        thread::scope(|scope| {
            let others = (1..clients).map(|_| scope.spawn(move || repeat(count, one)));
            let others: Vec<_> = others.collect();
            repeat(count, one)?;
            others.into_iter().try_for_each(|other| other.join().expect("no panic").map(drop))
        })?;
        Ok(start.elapsed())
    })?;
    Ok(each / clients as f64)
}

/// Where the piece that is timed is so small a part of the work.
const MOSTLY_OTHER_WORK: u32 = 20;

/// A stream is dropped whose peer hasn't read what was written.
fn drop_unread<W: Way>(size: Size) -> io::Result<f64> {
    let size = Size { time: size.time / MOSTLY_OTHER_WORK, ..size };
    const UNREAD: usize = 4 << 10;
    let (tell, accepted) = mpsc::channel();
    let (dropped, wait) = mpsc::channel();
    let serve = move |listener: &_, count| {
        (0..count).try_for_each(|_| {
            let mut stream = W::accept(listener)?;
            let _ = tell.send(());
            let _ = wait.recv();
            match read_full(&mut stream, &mut [0; UNREAD])? {
                true => Ok(()),
                false => Err(io::Error::other("what was unread is lost")),
            }
        })
    };
    measure_with::<W>(BUFFER, size, serve, |place, count| {
        (0..count).try_fold(Duration::ZERO, |sum, _| {
            let mut stream = W::connect(place)?;
            stream.write_all(&[0; UNREAD])?;
            let _ = accepted.recv();
            let start = Instant::now();
            drop(stream);
            let took = start.elapsed();
            let _ = dropped.send(());
            Ok(sum + took)
        })
    })
}

/// Opens many connections and passes them on, with the nanoseconds that one took.
fn open<W: Way>(
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
        then(&mut streams, start.elapsed().as_nanos() as f64 / connections as f64)
    })
}

/// One byte goes there and back over each open connection in turn.
fn ping_pong_all<W: Way>(streams: &mut [W::Stream], _: f64) -> io::Result<f64> {
    let start = Instant::now();
    streams.iter_mut().try_for_each(|stream| exchange(stream, &[0], &mut [0]))?;
    Ok(start.elapsed().as_nanos() as f64 / streams.len() as f64)
}

/// A read that waits is ended by a shutdown.
fn wake_up<W: Way>(size: Size) -> io::Result<f64> {
    let size = Size { time: size.time / MOSTLY_OTHER_WORK, ..size };
    let serve = |listener: &_, count| {
        let accepted = (0..count).map(|_| W::accept(listener));
        accepted.collect::<io::Result<Vec<_>>>().map(drop)
    };
    measure_with::<W>(BUFFER, size, serve, |place, count| {
        (0..count).try_fold(Duration::ZERO, |sum, _| {
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
            let (read, woken) = reader.join().expect("no panic");
            read.map(|_| sum + woken.saturating_duration_since(start))
        })
    })
}

/// A read doesn't wait, as there is nothing.
fn nothing_to_read<W: Way>(size: Size) -> io::Result<f64> {
    let serve = |listener: &_, _| read(&mut W::accept(listener)?, &mut [0]).map(drop);
    measure_with::<W>(BUFFER, size, serve, |place, count| {
        let (mut stream, mut buf) = (W::connect(place)?, [0; 64]);
        W::set_nonblocking(&stream)?;
        repeat(count, || match W::try_read(&mut stream, &mut buf) {
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
