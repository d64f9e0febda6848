//! What an operation costs, counted and not timed: it's the same on every machine.
//!
//! System calls: of winpipe its own records of them (`log`), of the raw calls what they report;
//! nobody knows those of the others. Kernel handles: of the whole process, after minus before.
//! Allocations: of the thread that does it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::way::{BUFFER, CALLS, Place, Way};

/// What operations cost, each by the name that the user calls it; none where a way has no such thing.
pub type Costs = Vec<(String, Option<Cost>)>;

/// What an operation costs.
#[derive(Deserialize, Serialize)]
pub struct Cost {
    /// System calls, if they are known.
    pub calls: Option<usize>,
    /// Kernel handles; not known while two threads work.
    pub handles: Option<f64>,
    /// Allocations; bytes of an open stream.
    pub heap: usize,
}

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is passed on to the system's allocator as it comes.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[cfg(windows)]
struct Records;

#[cfg(windows)]
impl log::Log for Records {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.target() == "winpipe" {
            crate::way::calling();
        }
    }

    fn flush(&self) {}
}

/// How many kernel handles this process has. (Under Wine 8 `GetProcessHandleCount` is constant.)
#[cfg(windows)]
fn handles() -> usize {
    use windows_sys::Wdk::System::SystemInformation::NtQuerySystemInformation;
    use windows_sys::Win32::Foundation::STATUS_INFO_LENGTH_MISMATCH;
    /// `SystemExtendedHandleInformation`: the number of entries, a reserved word, then the entries:
    /// an object, a process, a handle, and 16 bytes more.
    const EVERY_HANDLE: i32 = 64;
    const WORDS: usize = 3 + 16 / size_of::<usize>();
    let mut list = vec![0_usize; 1 << 16];
    loop {
        let (at, room, mut len) = (list.as_mut_ptr().cast(), size_of_val(&list[..]), 0);
        // SAFETY: `list` has room for as many bytes as is said, and is aligned as the entries are.
        match unsafe { NtQuerySystemInformation(EVERY_HANDLE, at, room as u32, &mut len) } {
            0 => break,
            STATUS_INFO_LENGTH_MISMATCH => list.resize(list.len() * 2, 0),
            status => panic!("NtQuerySystemInformation: {status:#x}"),
        }
    }
    let this = std::process::id() as usize;
    let entries = list[2..].chunks(WORDS).take(list[0]);
    entries.filter(|entry| entry[1] == this).count()
}

/// How many file descriptors this process has, where that can be seen.
#[cfg(unix)]
fn handles() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

fn cost<T>(operation: impl FnOnce() -> io::Result<T>) -> io::Result<(Cost, T)> {
    let before = (handles(), CALLS.get(), ALLOCATIONS.get());
    let result = operation()?;
    let heap = ALLOCATIONS.get() - before.2;
    // A way that makes none doesn't report them.
    let calls = Some(CALLS.get() - before.1).filter(|calls| *calls > 0);
    let handles = Some(handles() as f64 - before.0 as f64);
    Ok((Cost { calls, handles, heap }, result))
}

const A_WHILE: Duration = Duration::from_millis(50);

/// Counts what each operation costs.
pub fn run<W: Way>(way: W) -> io::Result<Costs> {
    #[cfg(windows)]
    log::set_logger(&Records).expect("no other logger");
    let place = Place::fresh(Some(BUFFER));
    let listener = way.bind(&place)?;
    let connected = || match W::HAS_BACKLOG {
        true => Ok((way.connect(&place)?, way.accept(&listener)?)),
        false => with_peer(way, &place, &listener, Ok, Ok),
    };
    // What a thread makes once is made before. The records allocate, so calls are counted apart.
    operations(way, &place, &listener, connected)?;
    #[cfg(windows)]
    log::set_max_level(log::LevelFilter::Trace);
    let calls = operations(way, &place, &listener, connected)?;
    #[cfg(windows)]
    log::set_max_level(log::LevelFilter::Off);
    let mut costs = operations(way, &place, &listener, connected)?;
    for ((_, cost), (_, counted)) in costs.iter_mut().zip(calls) {
        if let (Some(cost), Some(counted)) = (cost, counted) {
            cost.calls = counted.calls;
        }
    }

    const PAIRS: usize = 100;
    let before = (handles(), BYTES.load(Ordering::Relaxed));
    // The list of streams is on the heap, so this includes the streams themselves.
    let streams = (0..PAIRS).map(|_| connected()).collect::<io::Result<Vec<_>>>()?;
    let heap = (BYTES.load(Ordering::Relaxed) - before.1) / 2 / PAIRS;
    let handles = Some((handles() - before.0) as f64 / 2.0 / PAIRS as f64);
    drop(streams);
    costs.push(("open stream".into(), Some(Cost { calls: None, handles, heap })));
    Ok(costs)
}

/// Does each operation once.
fn operations<W: Way>(
    way: W,
    place: &Place,
    listener: &W::Listener,
    connected: impl FnOnce() -> io::Result<(W::Stream, W::Stream)>,
) -> io::Result<Costs> {
    let mut costs = Costs::new();
    let mut report = |operation: &str, cost| costs.push((operation.into(), cost));
    let elsewhere = Place::fresh(Some(BUFFER));
    let (bind, other) = cost(|| way.bind(&elsewhere))?;
    drop(other);
    report("bind", Some(bind));

    let (mut client, mut server) = if W::HAS_BACKLOG {
        let (connect, client) = cost(|| way.connect(place))?;
        let (accept, server) = cost(|| way.accept(listener))?;
        report("connect", Some(connect));
        report("accept", Some(accept));
        (client, server)
    } else {
        report("connect", None);
        report("accept", None);
        connected()?
    };
    report("write 64 B", Some(cost(|| client.write_all(&[0; 64]))?.0));
    report("read 64 B", Some(cost(|| server.read_exact(&mut [0; 64]))?.0));

    // While one thread waits the other works, and the handles are those of both.
    let mut wait = |operation: &str, full: usize, peer: Work<W>, work: Work<W>| {
        let peer = |mut client| {
            thread::sleep(A_WHILE);
            peer(&mut client)
        };
        let (_, (cost, server)) = with_peer(way, place, listener, peer, |mut server| {
            server.write_all(&vec![0; full])?;
            Ok((cost(|| work(&mut server))?.0, server))
        })?;
        report(operation, Some(Cost { handles: None, ..cost }));
        drop(server);
        // Some close their handles on a thread of their own.
        thread::sleep(A_WHILE);
        io::Result::Ok(())
    };
    let read: Work<W> = |stream| stream.read_exact(&mut [0; 64]);
    wait("read, waiting", 0, |stream| stream.write_all(&[0; 64]), read)?;
    let read_all: Work<W> = |stream| stream.read_exact(&mut vec![0; 2 * BUFFER]);
    wait("write 64 KiB, waiting", BUFFER, read_all, |stream| stream.write_all(&[0; BUFFER]))?;

    let limited = W::TIMEOUTS == Some(true) && way.set_timeouts(&client, A_WHILE / 2).is_ok();
    let timed_out = limited.then(|| cost(|| Ok(client.read(&mut [0; 64])))).transpose()?;
    report("read, timed out", timed_out.map(|(cost, _)| cost));
    let nonblocking = way.set_nonblocking(&server).is_ok();
    let nothing = nonblocking.then(|| cost(|| Ok(way.try_read(&mut server, &mut [0; 64]))));
    report("read, nonblocking, nothing there", nothing.transpose()?.map(|(cost, _)| cost));
    let dropped = cost(|| {
        drop(client);
        thread::sleep(A_WHILE);
        Ok(())
    })?;
    report("drop a stream", Some(dropped.0));
    Ok(costs)
}

type Work<W> = fn(&mut <W as Way>::Stream) -> io::Result<()>;

/// Does `peer` with a client on a thread of its own, and `work` with the server's end here.
fn with_peer<W: Way, P: Send, T>(
    way: W,
    place: &Place,
    listener: &W::Listener,
    peer: impl FnOnce(W::Stream) -> io::Result<P> + Send,
    work: impl FnOnce(W::Stream) -> io::Result<T>,
) -> io::Result<(P, T)> {
    thread::scope(|scope| {
        let peer = scope.spawn(|| way.connect(place).and_then(peer));
        let result = way.accept(listener).and_then(work)?;
        Ok((peer.join().expect("no panic")?, result))
    })
}
