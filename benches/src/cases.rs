//! The work that is timed, the same for every way.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::ways::{self, Clock, Timeouts, Way, read_exact, receive, send};
use crate::worker;

/// One kind of work.
#[derive(Clone, Copy)]
pub enum Work {
    /// One end writes, the other answers with as much.
    PingPong {
        size: usize,
        timeouts: bool,
        processes: bool,
    },
    /// One end writes, the other reads into 64 KiB; a slow one into 4 KiB, and pauses after each.
    OneWay {
        unit: usize,
        slow: bool,
        buffer: usize,
    },
    /// Both ends write 64 KiB at a time and read, at once.
    BothWays,
    /// So many clients at once connect, send a byte, wait for the server to hang up, and drop.
    Connect { clients: usize },
    /// A listener is made and dropped.
    Bind,
    /// Two connected streams are made and dropped.
    Pair,
    /// A stream is dropped whose peer hasn't read what was written.
    DropUnread,
    /// Connections are opened and stay open.
    Open,
    /// One byte goes there and back over each open connection in turn.
    PingPongAll,
    /// A read that waits is ended by a shutdown.
    WakeUp,
    /// A read doesn't wait, as there is nothing.
    NothingToRead,
}

/// A kind of work with its name.
pub struct Case {
    /// What the user calls it.
    pub name: String,
    /// What is done.
    pub work: Work,
}

/// What a sample is to do.
#[derive(Clone, Copy)]
pub struct Size {
    /// How long it works.
    pub time: Duration,
    /// How many connections are open at the same time.
    pub connections: usize,
}

/// All cases, in the order of the table.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: String, work| cases.push(Case { name, work });
    let (kib, mib) = (1 << 10, 1 << 20);
    for processes in [false, true] {
        for timeouts in [false, true] {
            for size in [1, 64, 4 * kib, 16 * kib, 64 * kib] {
                let between = if processes { "processes" } else { "threads" };
                let with = if timeouts { ", timeouts" } else { "" };
                add(
                    format!("ping-pong {}, {between}{with}", bytes(size)),
                    Work::PingPong {
                        size,
                        timeouts,
                        processes,
                    },
                );
            }
        }
    }
    for unit in [64, 4 * kib, 64 * kib, mib, 16 * mib] {
        add(
            format!("one way, {}", bytes(unit)),
            Work::OneWay {
                unit,
                slow: false,
                buffer: ways::BUFFER,
            },
        );
    }
    add(
        "one way, 64 KiB, slow reader".into(),
        Work::OneWay {
            unit: 64 * kib,
            slow: true,
            buffer: ways::BUFFER,
        },
    );
    add(
        "one way, 1 MiB, buffers of 1 MiB".into(),
        Work::OneWay {
            unit: mib,
            slow: false,
            buffer: mib,
        },
    );
    add("both ways at once, 64 KiB".into(), Work::BothWays);
    for clients in [1, 8, 64] {
        let s = if clients == 1 { "" } else { "s" };
        add(
            format!("connect, 1 B, drop; {clients} client{s}"),
            Work::Connect { clients },
        );
    }
    add("bind, drop".into(), Work::Bind);
    add("pair, drop".into(), Work::Pair);
    add("drop with 4 KiB unread".into(), Work::DropUnread);
    add("open one of 2000".into(), Work::Open);
    add("ping-pong 1 B, each of 2000".into(), Work::PingPongAll);
    add("wake a read by shutdown".into(), Work::WakeUp);
    add("nothing to read".into(), Work::NothingToRead);
    cases
}

fn bytes(count: usize) -> String {
    match count {
        0..1024 => format!("{count} B"),
        1024..1_048_576 => format!("{} KiB", count >> 10),
        _ => format!("{} MiB", count >> 20),
    }
}

/// Does the work once; returns how many nanoseconds one piece of it took.
pub fn sample<W: Way>(work: Work, size: Size) -> io::Result<f64> {
    match work {
        Work::PingPong {
            size: bytes,
            timeouts,
            processes,
        } => ping_pong::<W>(bytes, timeouts, processes, size.time),
        Work::OneWay { unit, slow, buffer } => one_way::<W>(unit, slow, buffer, size.time),
        Work::BothWays => both_ways::<W>(size.time),
        Work::Connect { clients } => connect::<W>(clients, size.time),
        Work::Bind => repeat(size.time, || W::bind(&fresh_path()).map(drop)),
        Work::Pair => repeat(size.time, || W::pair().map(drop)),
        Work::DropUnread => drop_unread::<W>(size.time),
        Work::Open => open::<W>(size, |_, opening| Ok(opening)),
        Work::PingPongAll => open::<W>(size, ping_pong_all::<W>),
        Work::WakeUp => wake_up::<W>(size.time),
        Work::NothingToRead => nothing_to_read::<W>(size.time),
    }
}

/// A path that nobody has used.
pub fn fresh_path() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("winpipe-bench-{}-{count}", std::process::id());
    if cfg!(windows) {
        format!(r"\\.\pipe\{name}")
    } else {
        let path = std::env::temp_dir().join(name);
        path.to_string_lossy().into_owned()
    }
}

/// Binds on a thread of its own, and runs `serve` there and `client` here.
pub fn with_server<W: Way, T>(
    serve: impl FnOnce(&W::Listener) -> io::Result<()> + Send + 'static,
    client: impl FnOnce(&str) -> io::Result<T>,
) -> io::Result<T> {
    let path = fresh_path();
    let (tell, bound) = mpsc::channel();
    let name = path.clone();
    let server = thread::spawn(move || {
        let served = W::bind(&name).and_then(|listener| {
            let _ = tell.send(());
            serve(&listener)
        });
        // The client might wait for ever.
        if let Err(error) = served {
            worker::fail(&error);
        }
    });
    let _ = bound.recv();
    // 0.1.1 makes a pipe only in `accept`, and who comes before that sleeps for 200 ms.
    thread::sleep(Duration::from_millis(2));
    let result = client(&path)?;
    let _ = server.join();
    Ok(result)
}

/// Does `piece` for a while, then for the whole time; returns the nanoseconds of one.
fn repeat(time: Duration, mut piece: impl FnMut() -> io::Result<()>) -> io::Result<f64> {
    let mut run = |time| {
        let mut clock = Clock::start(usize::MAX, time);
        let mut count = 0;
        loop {
            piece()?;
            count += 1;
            if clock.is_over() {
                return io::Result::Ok(per_piece(clock.elapsed(), count));
            }
        }
    };
    run(time / 8)?;
    run(time)
}

fn per_piece(time: Duration, count: u64) -> f64 {
    time.as_nanos() as f64 / count.max(1) as f64
}

const TIMEOUT: Duration = Duration::from_secs(60);

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
        if timeouts {
            W::set_timeouts(&stream, TIMEOUT)?;
        }
        let (bytes, mut buf) = (vec![0; size], vec![0; size]);
        repeat(time, || exchange::<W>(&mut stream, &bytes, &mut buf))
    };
    if processes {
        let path = fresh_path();
        let listener = W::bind(&path)?;
        with_peer(&format!("{path} {size} {}", u8::from(timeouts)))?;
        ping(W::accept(&listener)?)
    } else {
        with_server::<W, _>(
            move |listener| echo::<W>(W::accept(listener)?, size, timeouts),
            |path| ping(W::connect(path)?),
        )
    }
}

fn exchange<W: Way>(stream: &mut W::Stream, bytes: &[u8], buf: &mut [u8]) -> io::Result<()> {
    W::write_all(stream, bytes)?;
    match read_exact::<W>(stream, buf)? {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Answers each `size` bytes with as many, until the end.
fn echo<W: Way>(mut stream: W::Stream, size: usize, timeouts: bool) -> io::Result<()> {
    if timeouts {
        W::set_timeouts(&stream, TIMEOUT)?;
    }
    let mut buf = vec![0; size];
    while read_exact::<W>(&mut stream, &mut buf)? {
        W::write_all(&mut stream, &buf)?;
    }
    Ok(())
}

/// Tells the other process, which is started when it's first needed, what to echo.
fn with_peer(task: &str) -> io::Result<()> {
    use std::cell::RefCell;
    thread_local! {
        static PEER: RefCell<Option<Child>> = const { RefCell::new(None) };
    }
    PEER.with_borrow_mut(|peer| {
        let peer = match peer {
            Some(peer) => peer,
            None => peer.insert(
                Command::new(std::env::current_exe()?)
                    .args(["--peer", &worker::name_of_this_way()])
                    .stdin(Stdio::piped())
                    .stdout(Stdio::null())
                    .spawn()?,
            ),
        };
        let mut tasks = peer.stdin.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        writeln!(tasks, "{task}")?;
        tasks.flush()
    })
}

/// The other process: echoes what standard input says, until that ends.
pub fn be_the_peer<W: Way>() -> io::Result<()> {
    for task in BufReader::new(io::stdin()).lines() {
        let task = task?;
        let mut words = task.split(' ');
        let (Some(path), Some(Ok(size)), Some(timeouts)) =
            (words.next(), words.next().map(str::parse), words.next())
        else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        echo::<W>(W::connect(path)?, size, timeouts == "1")?;
    }
    Ok(())
}

fn one_way<W: Way>(unit: usize, slow: bool, buffer: usize, time: Duration) -> io::Result<f64> {
    if buffer != ways::BUFFER && !W::SETS_BUFFERS {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // The peer's buffer is as large, so that one read can take what one write sent.
    let room = if slow { 4 << 10 } else { buffer };
    ways::set_buffer(buffer);
    let result = with_server::<W, _>(
        move |listener| {
            let mut stream = W::accept(listener)?;
            let mut buf = vec![0; room];
            while receive(&mut buf, |buf| {
                let count = W::read(&mut stream, buf);
                if slow {
                    let start = Instant::now();
                    while start.elapsed() < Duration::from_micros(20) {
                        std::hint::spin_loop();
                    }
                }
                count
            })? {
                W::write_all(&mut stream, &[0])?;
            }
            Ok(())
        },
        |path| {
            let mut stream = W::connect(path)?;
            let mut run = |time| {
                let start = Instant::now();
                let count = send(unit, time, |bytes| W::write_all(&mut stream, bytes))?;
                // It says that all has arrived.
                read_exact::<W>(&mut stream, &mut [0])?;
                io::Result::Ok(per_piece(start.elapsed(), count))
            };
            run(time / 8)?;
            run(time)
        },
    );
    ways::set_buffer(ways::BUFFER);
    result
}

fn both_ways<W: Way>(time: Duration) -> io::Result<f64> {
    const UNIT: usize = 64 << 10;
    let (go, begin) = mpsc::channel();
    let (tell, done) = mpsc::channel();
    with_server::<W, _>(
        move |listener| {
            let mut stream = W::accept(listener)?;
            for time in begin {
                W::both_ways(&mut stream, UNIT, time)?;
                let _ = tell.send(());
            }
            Ok(())
        },
        move |path| {
            let mut stream = W::connect(path)?;
            let mut run = |time| {
                let start = Instant::now();
                let _ = go.send(time);
                let count = W::both_ways(&mut stream, UNIT, time)?;
                let _ = done.recv();
                io::Result::Ok(per_piece(start.elapsed(), count))
            };
            run(time / 8)?;
            run(time)
        },
    )
}

fn connect<W: Way>(clients: usize, time: Duration) -> io::Result<f64> {
    const STOP: u8 = 1;
    fn one<W: Way>(path: &str, byte: u8) -> io::Result<()> {
        let mut stream = W::connect(path)?;
        W::write_all(&mut stream, &[byte])?;
        match W::read(&mut stream, &mut [0])? {
            0 => Ok(()),
            _ => Err(io::Error::other("the server sent something")),
        }
    }
    with_server::<W, _>(
        |listener| {
            let mut byte = [0];
            while byte[0] != STOP {
                read_exact::<W>(&mut W::accept(listener)?, &mut byte)?;
            }
            Ok(())
        },
        |path| {
            let run = |time| {
                let start = Instant::now();
                let work = || {
                    let mut count = 0;
                    while count == 0 || start.elapsed() < time {
                        one::<W>(path, 0)?;
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
                io::Result::Ok(per_piece(start.elapsed(), count))
            };
            run(time / 8)?;
            let result = run(time)?;
            one::<W>(path, STOP)?;
            Ok(result)
        },
    )
}

fn drop_unread<W: Way>(time: Duration) -> io::Result<f64> {
    const UNREAD: usize = 4 << 10;
    let (go, again) = mpsc::channel::<()>();
    let (tell, accepted) = mpsc::channel();
    let (dropped, wait) = mpsc::channel();
    with_server::<W, _>(
        move |listener| {
            for () in again {
                let mut stream = W::accept(listener)?;
                let _ = tell.send(());
                let _ = wait.recv();
                if !read_exact::<W>(&mut stream, &mut [0; UNREAD])? {
                    return Err(io::Error::other("what was unread is lost"));
                }
            }
            Ok(())
        },
        move |path| {
            let start = Instant::now();
            let (mut sum, mut count) = (Duration::ZERO, 0);
            while count == 0 || start.elapsed() < time {
                let _ = go.send(());
                let mut stream = W::connect(path)?;
                W::write_all(&mut stream, &[0; UNREAD])?;
                let _ = accepted.recv();
                let before = Instant::now();
                drop(stream);
                sum += before.elapsed();
                count += 1;
                let _ = dropped.send(());
            }
            Ok(per_piece(sum, count))
        },
    )
}

/// Opens many connections and passes them on, with the nanoseconds that one took.
pub fn open<W: Way>(
    size: Size,
    then: impl FnOnce(&mut [W::Stream], f64) -> io::Result<f64>,
) -> io::Result<f64> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let connections = size.connections;
    let (tell, accepted) = mpsc::channel();
    with_server::<W, _>(
        move |listener| {
            let mut streams = Vec::with_capacity(connections);
            while streams.len() < connections {
                streams.push(W::accept(listener)?);
            }
            let _ = tell.send(());
            let mut byte = [0];
            loop {
                for stream in &mut streams {
                    if !read_exact::<W>(stream, &mut byte)? {
                        return Ok(());
                    }
                    W::write_all(stream, &byte)?;
                }
            }
        },
        |path| {
            let start = Instant::now();
            let mut streams = Vec::with_capacity(connections);
            while streams.len() < connections {
                if start.elapsed() > PATIENCE {
                    let count = streams.len();
                    return Err(io::Error::other(format!("{count} in {PATIENCE:?}")));
                }
                streams.push(W::connect(path)?);
            }
            let _ = accepted.recv();
            then(&mut streams, per_piece(start.elapsed(), connections as u64))
        },
    )
}

fn ping_pong_all<W: Way>(streams: &mut [W::Stream], _: f64) -> io::Result<f64> {
    let mut byte = [0];
    let start = Instant::now();
    for stream in streams.iter_mut() {
        exchange::<W>(stream, &[0], &mut byte)?;
    }
    Ok(per_piece(start.elapsed(), streams.len() as u64))
}

fn wake_up<W: Way>(time: Duration) -> io::Result<f64> {
    let (go, again) = mpsc::channel::<()>();
    with_server::<W, _>(
        move |listener| {
            let mut peers = Vec::new();
            for () in again {
                peers.push(W::accept(listener)?);
            }
            Ok(())
        },
        move |path| {
            let start = Instant::now();
            let (mut sum, mut count) = (Duration::ZERO, 0);
            while count == 0 || start.elapsed() < time {
                let _ = go.send(());
                sum += W::wake_up(W::connect(path)?)?;
                count += 1;
            }
            Ok(per_piece(sum, count))
        },
    )
}

fn nothing_to_read<W: Way>(time: Duration) -> io::Result<f64> {
    with_server::<W, _>(
        |listener| {
            let mut stream = W::accept(listener)?;
            W::read(&mut stream, &mut [0]).map(drop)
        },
        |path| {
            let mut stream = W::connect(path)?;
            W::set_nonblocking(&stream)?;
            let mut buf = [0; 64];
            repeat(time, || match W::try_read(&mut stream, &mut buf) {
                Err(error) if found_nothing(&error) => Ok(()),
                Err(error) => Err(error),
                Ok(count) => Err(io::Error::other(format!("read {count} bytes"))),
            })
        },
    )
}

/// `ERROR_NO_DATA` is how Windows' own nonblocking mode says it.
fn found_nothing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || (cfg!(windows) && error.raw_os_error() == Some(232))
}
