//! What an operation costs, counted and not timed: it's the same on every machine.
//!
//! System calls: of winpipe its own records of them (`log`), of the raw calls what they report;
//! nobody knows those of the others. Kernel handles: of the whole process, after minus before.
//! Allocations: of the thread that does it.

use std::io::{self, Read, Write};
use std::thread;
use std::time::Duration;

use allocator::{allocations, bytes_of_all};
use handles::handles;
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

#[path = "../../tests/it/common/allocator.rs"]
mod allocator;
#[cfg(windows)]
#[path = "../../tests/it/common/handles.rs"]
mod handles;

/// How many file descriptors this process has, where that can be seen.
#[cfg(unix)]
mod handles {
    pub fn handles() -> usize {
        std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
    }
}

fn cost<T>(operation: impl FnOnce() -> io::Result<T>) -> io::Result<(Cost, T)> {
    let before = (handles(), CALLS.get());
    let (heap, result) = allocations(operation);
    // A way that makes none doesn't report them.
    let calls = Some(CALLS.get() - before.1).filter(|calls| *calls > 0);
    let handles = Some(handles() as f64 - before.0 as f64);
    Ok((Cost { calls, handles, heap }, result?))
}

const A_WHILE: Duration = Duration::from_millis(50);

/// Counts what each operation costs.
pub fn run<W: Way>(way: W) -> io::Result<Costs> {
    let place = Place::fresh(Some(BUFFER));
    let counted = Counted { way, listener: way.bind(&place)?, place };
    // What a thread makes once is made before. The records allocate, so calls are counted apart.
    counted.operations()?;
    #[cfg(windows)]
    let records = fern::Dispatch::new().filter(|record| record.target() == "winpipe");
    #[cfg(windows)]
    let _ = records.chain(fern::Output::call(|_| crate::way::calling())).apply();
    let calls = counted.operations()?;
    #[cfg(windows)]
    log::set_max_level(log::LevelFilter::Off);
    let mut costs = counted.operations()?;
    for ((_, cost), (_, counted)) in costs.iter_mut().zip(calls) {
        if let (Some(cost), Some(counted)) = (cost, counted) {
            cost.calls = counted.calls;
        }
    }

    const PAIRS: usize = 100;
    let before = (handles(), bytes_of_all());
    // The list of streams is on the heap, so this includes the streams themselves.
    let streams = (0..PAIRS).map(|_| counted.connected()).collect::<io::Result<Vec<_>>>()?;
    let heap = (bytes_of_all() - before.1) as usize / 2 / PAIRS;
    let handles = Some((handles() - before.0) as f64 / 2.0 / PAIRS as f64);
    drop(streams);
    costs.push(("open stream".into(), Some(Cost { calls: None, handles, heap })));
    Ok(costs)
}

/// A way that listens at a place.
struct Counted<W: Way> {
    way: W,
    place: Place,
    listener: W::Listener,
}

impl<W: Way> Counted<W> {
    /// Does each operation once.
    fn operations(&self) -> io::Result<Costs> {
        let (way, mut costs) = (self.way, Costs::new());
        let mut report = |operation: &str, cost| costs.push((operation.into(), cost));
        let elsewhere = Place::fresh(Some(BUFFER));
        let (bind, other) = cost(|| way.bind(&elsewhere))?;
        drop(other);
        report("bind", Some(bind));

        let (connect, accept, (mut client, mut server)) = if W::HAS_BACKLOG {
            let (connect, client) = cost(|| way.connect(&self.place))?;
            let (accept, server) = cost(|| way.accept(&self.listener))?;
            (Some(connect), Some(accept), (client, server))
        } else {
            (None, None, self.connected()?)
        };
        report("connect", connect);
        report("accept", accept);
        report("write 64 B", Some(cost(|| client.write_all(&[0; 64]))?.0));
        report("read 64 B", Some(cost(|| server.read_exact(&mut [0; 64]))?.0));

        let write = |stream: &mut W::Stream| stream.write_all(&[0; 64]);
        let read = |stream: &mut W::Stream| stream.read_exact(&mut [0; 64]);
        report("read, waiting", Some(self.waiting(0, write, read)?));
        let write = |stream: &mut W::Stream| stream.write_all(&[0; BUFFER]);
        let read = |stream: &mut W::Stream| stream.read_exact(&mut vec![0; 2 * BUFFER]);
        report("write 64 KiB, waiting", Some(self.waiting(BUFFER, read, write)?));

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

    /// What `work` costs the server, whose buffer has so many bytes in it, while it waits for `peer`.
    fn waiting(
        &self,
        full: usize,
        peer: fn(&mut W::Stream) -> io::Result<()>,
        work: fn(&mut W::Stream) -> io::Result<()>,
    ) -> io::Result<Cost> {
        let peer = |mut client| {
            thread::sleep(A_WHILE);
            peer(&mut client)
        };
        let (_, (cost, server)) = self.with_peer(peer, |mut server| {
            server.write_all(&vec![0; full])?;
            Ok((cost(|| work(&mut server))?.0, server))
        })?;
        drop(server);
        // Some close their handles on a thread of their own.
        thread::sleep(A_WHILE);
        // The handles are those of both threads.
        Ok(Cost { handles: None, ..cost })
    }

    fn connected(&self) -> io::Result<(W::Stream, W::Stream)> {
        match W::HAS_BACKLOG {
            true => Ok((self.way.connect(&self.place)?, self.way.accept(&self.listener)?)),
            false => self.with_peer(Ok, Ok),
        }
    }

    /// Does `peer` with a client on a thread of its own, and `work` with the server's end here.
    fn with_peer<P: Send, T>(
        &self,
        peer: impl FnOnce(W::Stream) -> io::Result<P> + Send,
        work: impl FnOnce(W::Stream) -> io::Result<T>,
    ) -> io::Result<(P, T)> {
        let (way, place) = (self.way, &self.place);
        thread::scope(|scope| {
            let peer = scope.spawn(move || way.connect(place).and_then(peer));
            let result = way.accept(&self.listener).and_then(work)?;
            Ok((peer.join().expect("no panic")?, result))
        })
    }
}
