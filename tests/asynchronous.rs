//! What tokio's Unix sockets and `winpipe::tokio` both promise: one source, run against both. On
//! Unix it shows what is right.

mod common;

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use common::{LIMIT, Random, clean_up, fresh_path, text, within};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

#[cfg(unix)]
use tokio::io::Interest;
#[cfg(unix)]
use tokio::net::{UnixListener as Listener, UnixStream as Stream};
#[cfg(windows)]
use winpipe::tokio::{Interest, WinListener as Listener, WinStream as Stream};

/// How much less is done where each system call takes long.
const LESS: usize = if cfg!(windows) { 20 } else { 1 };

/// By how much the number of steps is divided; `WINPIPE_TEST_DEEP=1` runs all.
fn divisor() -> usize {
    let asked = std::env::var("WINPIPE_TEST_DEEP").ok();
    asked.map_or(10 * LESS, |divisor| divisor.parse().unwrap())
}

fn up_to(most: usize) -> usize {
    most / divisor()
}

/// How long a test may take that does so many steps.
fn limit() -> Duration {
    LIMIT * (2 + 1000 / u32::try_from(divisor()).unwrap())
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi_thread() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

/// Runs a test in a runtime of each kind.
fn in_runtimes<F: Future<Output = ()> + Send + 'static>(
    test: impl Fn() -> F + Send + Sync + 'static,
) {
    in_runtimes_within(LIMIT * 2, test);
}

fn in_runtimes_within<F: Future<Output = ()> + Send + 'static>(
    limit: Duration,
    test: impl Fn() -> F + Send + Sync + 'static,
) {
    within(limit, move || {
        for runtime in [current_thread(), multi_thread()] {
            // In a task, which has a budget.
            runtime
                .block_on(async { tokio::spawn(test()).await })
                .unwrap();
        }
    });
}

/// A listener, and its path.
fn listen() -> (Listener, PathBuf) {
    let path = fresh_path();
    (Listener::bind(&path).unwrap(), path)
}

/// A client and the stream that was accepted for it.
async fn connection() -> (Stream, Stream) {
    let (listener, path) = listen();
    let (client, server) = tokio::join!(Stream::connect(&path), listener.accept());
    clean_up(&path);
    (client.unwrap(), server.unwrap().0)
}

/// Both ways round, and a pair.
async fn connections() -> Vec<(Stream, Stream)> {
    let (client, server) = connection().await;
    let (other_client, other_server) = connection().await;
    vec![
        (client, server),
        (other_server, other_client),
        Stream::pair().unwrap(),
    ]
}

/// Polls a future at most `most` times, and then drops it.
async fn polled<F: Future>(future: F, most: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut polls = 0;
    poll_fn(|context| {
        if polls == most {
            return Poll::Ready(None);
        }
        polls += 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if polls == most => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Whether a future is pending when it's polled once.
async fn is_pending(future: impl Future) -> bool {
    polled(future, 1).await.is_none()
}

fn would_block<T>(result: io::Result<T>) -> bool {
    matches!(result, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// Writes until no more is taken; returns how much was.
fn fill(stream: &Stream) -> usize {
    let mut filled = 0;
    loop {
        match stream.try_write(&text(filled, 100_000)) {
            Ok(count) => filled += count,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                return filled;
            }
        }
    }
}

/// Reads to the end, and checks that it's the text from that place; returns where it ends.
async fn read_text(stream: &mut (impl AsyncRead + Unpin), mut place: usize) -> usize {
    let mut buf = vec![0; 70_000];
    loop {
        let count = stream.read(&mut buf).await.unwrap();
        if count == 0 {
            return place;
        }
        assert!(buf[..count] == text(place, count), "wrong bytes at {place}");
        place += count;
    }
}

/// Writes the text up to that place.
async fn write_text(stream: &mut (impl AsyncWrite + Unpin), end: usize) {
    for place in (0..end).step_by(50_000) {
        let part = text(place, 50_000.min(end - place));
        stream.write_all(&part).await.unwrap();
    }
}

#[test]
fn bytes_go_both_ways_at_once_and_then_comes_the_end() {
    in_runtimes(|| async {
        for (one, other) in connections().await {
            let ends = [one, other].map(|stream| {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.into_split();
                    let writer = tokio::spawn(async move {
                        write_text(&mut write, 3_000_000).await;
                        write.shutdown().await.unwrap();
                        write
                    });
                    assert_eq!(read_text(&mut read, 0).await, 3_000_000);
                    assert_eq!(read.read(&mut [0; 9]).await.unwrap(), 0, "the end is final");
                    let mut write = writer.await.unwrap();
                    let error = write.write(b"x").await.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
                    read.reunite(write).unwrap()
                })
            });
            for end in ends {
                end.await.unwrap();
            }
        }
    });
}

#[test]
fn a_fresh_stream_is_writable_and_becomes_readable_with_data() {
    in_runtimes(|| async {
        for (one, other) in connections().await {
            one.writable().await.unwrap();
            other.writable().await.unwrap();
            // On Unix a new socket is taken for readable until this is refused.
            assert!(would_block(one.try_read(&mut [0; 9])));
            assert!(is_pending(one.readable()).await);
            assert_eq!(other.try_write(b"abc").unwrap(), 3);
            one.readable().await.unwrap();
            let ready = one.ready(Interest::READABLE | Interest::WRITABLE).await;
            let ready = ready.unwrap();
            assert!(ready.is_readable() && ready.is_writable());
            assert!(!ready.is_read_closed() && !ready.is_write_closed());
            let mut buf = [0; 2];
            assert_eq!(one.try_read(&mut buf).unwrap(), 2);
            // It stays ready until a try is refused.
            one.readable().await.unwrap();
            assert_eq!(one.try_read(&mut buf).unwrap(), 1);
            assert!(would_block(one.try_read(&mut buf)));
            assert!(is_pending(one.readable()).await);
        }
    });
}

#[test]
fn a_full_stream_is_writable_again_when_the_peer_has_read() {
    in_runtimes(|| async {
        for (one, mut other) in connections().await {
            let filled = fill(&one);
            assert!(filled > 0);
            assert!(is_pending(one.writable()).await);
            assert!(would_block(one.try_write(b"x")));
            let writer = async {
                one.writable().await.unwrap();
                let place = filled + one.try_write(&text(filled, 9)).unwrap();
                drop(one);
                place
            };
            let (written, read) = tokio::join!(writer, read_text(&mut other, 0));
            assert_eq!(read, written);
        }
    });
}

#[test]
fn the_peers_close_makes_both_directions_ready() {
    in_runtimes(|| async {
        for (one, other) in connections().await {
            other.try_write(b"last").unwrap();
            one.readable().await.unwrap();
            fill(&one);
            assert!(is_pending(one.writable()).await);
            drop(other);
            one.writable().await.unwrap();
            // The close shows while there's data.
            loop {
                let ready = one.ready(Interest::READABLE).await.unwrap();
                assert!(ready.is_readable());
                if ready.is_read_closed() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            let mut buf = [0; 9];
            // On Unix an error comes first, as the peer has left bytes unread.
            while !matches!(one.try_read(&mut buf), Ok(4)) {}
            assert_eq!(&buf[..4], b"last");
            while !matches!(one.try_read(&mut buf), Ok(0)) {}
            loop {
                one.writable().await.unwrap();
                if let Err(error) = one.try_write(b"x") {
                    assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{error}");
                    break;
                }
            }
        }
    });
}

#[test]
fn a_waiting_read_gets_what_comes_and_the_end() {
    in_runtimes(|| async {
        for (mut one, mut other) in connections().await {
            let reader = tokio::spawn(async move {
                let mut buf = [0; 9];
                assert_eq!(one.read(&mut buf).await.unwrap(), 3);
                assert_eq!(one.read(&mut buf).await.unwrap(), 0);
                one
            });
            sleep(Duration::from_millis(2)).await;
            other.write_all(b"abc").await.unwrap();
            sleep(Duration::from_millis(2)).await;
            other.shutdown().await.unwrap();
            let mut one = reader.await.unwrap();
            // The other way is still open.
            one.write_all(b"answer").await.unwrap();
            drop(one);
            let mut answer = String::new();
            other.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer, "answer");
        }
    });
}

#[test]
fn a_pending_write_that_is_dropped_has_written_nothing() {
    in_runtimes(|| async {
        for (mut one, mut other) in connections().await {
            let mut written = fill(&one);
            for _ in 0..10 {
                assert!(is_pending(one.write(&[0; 100_000])).await);
                assert!(is_pending(one.write_vectored(&[IoSlice::new(&[0; 9])])).await);
            }
            // The same where it's given up after having waited.
            let writer = async {
                for _ in 0..50 {
                    let part = text(written, 60_000);
                    tokio::select! {
                        biased;
                        count = one.write(&part) => written += count.unwrap(),
                        () = tokio::task::yield_now() => {}
                    }
                }
                drop(one);
                written
            };
            let (written, read) = tokio::join!(writer, read_text(&mut other, 0));
            assert_eq!(read, written);
        }
    });
}

/// One end of a connection, all in one task: reads, writes and gives up, `steps` times. Returns how
/// much it has written, and how much it has read.
async fn select(stream: &mut Stream, seed: u64, steps: usize) -> (usize, usize) {
    let mut random = Random::new(seed);
    let (mut written, mut read) = (0, 0);
    let mut buf = vec![0; 1 << 17];
    let (mut reader, mut writer) = stream.split();
    for _ in 0..steps {
        let room = random.size(17);
        let part = text(written, random.size(17));
        let patience = random.below(4);
        tokio::select! {
            count = reader.read(&mut buf[..room]) => {
                let count = count.unwrap();
                assert!(count > 0, "an early end");
                assert!(buf[..count] == text(read, count), "wrong bytes at {read}");
                read += count;
            }
            count = writer.write(&part) => written += count.unwrap(),
            () = async {
                match patience {
                    0 => sleep(Duration::from_micros(100)).await,
                    _ => for _ in 0..patience {
                        tokio::task::yield_now().await;
                    }
                }
            } => {}
        }
    }
    (written, read)
}

#[test]
fn select_between_read_write_and_timer_loses_and_repeats_nothing() {
    in_runtimes_within(limit(), || async {
        let steps = up_to(1_000_000);
        for (number, (one, other)) in connections().await.into_iter().enumerate() {
            // Both go on until the other has made its steps, too, so that neither ends early.
            let barrier = Arc::new(tokio::sync::Barrier::new(2));
            let ends = [one, other].map(|mut stream| {
                let barrier = Arc::clone(&barrier);
                let seed = 77 + number as u64;
                tokio::spawn(async move {
                    let (written, read) = select(&mut stream, seed, steps).await;
                    barrier.wait().await;
                    let (mut reader, mut writer) = stream.split();
                    let (shut, read) =
                        tokio::join!(writer.shutdown(), read_text(&mut reader, read));
                    shut.unwrap();
                    (written, read)
                })
            });
            let [one, other] = ends;
            let (one, other) = (one.await.unwrap(), other.await.unwrap());
            assert_eq!((one.0, other.0), (other.1, one.1));
            assert!(one.0 > 0 && other.0 > 0);
        }
    });
}

#[test]
fn a_future_that_is_dropped_after_any_number_of_polls_loses_nothing() {
    in_runtimes(|| async {
        for most in 0..5 {
            for (mut one, mut other) in connections().await {
                let len = 2_000_000 / LESS;
                // Every future is dropped after `most` polls, and one that goes on comes now and then.
                let writer = tokio::spawn(async move {
                    let (mut written, mut random) = (0, Random::new(5));
                    while written < len {
                        let part = text(written, random.size(16).min(len - written));
                        let most = if random.below(3) == 0 {
                            usize::MAX
                        } else {
                            most
                        };
                        if let Some(count) = polled(one.write(&part), most).await {
                            written += count.unwrap();
                        }
                        polled(one.writable(), most).await;
                        polled(one.flush(), most).await;
                        let both = Interest::READABLE | Interest::WRITABLE;
                        polled(one.ready(both), most).await;
                    }
                    while polled(one.shutdown(), most.max(1)).await.is_none() {}
                    one
                });
                let (mut read, mut random) = (0, Random::new(7));
                let mut buf = vec![0; 1 << 16];
                loop {
                    polled(other.readable(), most).await;
                    let room = random.size(16);
                    let most = if random.below(3) == 0 {
                        usize::MAX
                    } else {
                        most
                    };
                    if let Some(count) = polled(other.read(&mut buf[..room]), most).await {
                        let count = count.unwrap();
                        assert!(buf[..count] == text(read, count), "wrong bytes at {read}");
                        read += count;
                        if count == 0 {
                            break;
                        }
                    }
                    tokio::task::yield_now().await;
                }
                assert_eq!(read, len);
                writer.await.unwrap();
            }
        }
    });
}

#[test]
fn many_tasks_read_and_write_one_stream() {
    const TASKS: usize = 8;
    in_runtimes(|| async {
        let each = 30_000 / LESS;
        for (one, other) in connections().await {
            let (one, other) = (Arc::new(one), Arc::new(other));
            let counts: Arc<[AtomicUsize; TASKS]> = Arc::default();
            let readers: Vec<_> = (0..TASKS)
                .map(|_| {
                    let (other, counts) = (Arc::clone(&other), Arc::clone(&counts));
                    tokio::spawn(async move {
                        let mut buf = [0; 100];
                        loop {
                            other.readable().await.unwrap();
                            match other.try_read(&mut buf) {
                                Ok(0) => return,
                                Ok(count) => {
                                    for &byte in &buf[..count] {
                                        counts[usize::from(byte)].fetch_add(1, Ordering::Relaxed);
                                    }
                                }
                                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                            }
                        }
                    })
                })
                .collect();
            let writers: Vec<_> = (0..TASKS)
                .map(|number| {
                    let one = Arc::clone(&one);
                    tokio::spawn(async move {
                        let mut left = each;
                        while left > 0 {
                            one.writable().await.unwrap();
                            match one.try_write(&[number as u8; 70][..left.min(70)]) {
                                Ok(count) => left -= count,
                                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                            }
                        }
                    })
                })
                .collect();
            for writer in writers {
                writer.await.unwrap();
            }
            drop(one);
            for reader in readers {
                reader.await.unwrap();
            }
            let read = counts.each_ref().map(|count| count.load(Ordering::Relaxed));
            assert_eq!(read, [each; TASKS]);
        }
    });
}

#[test]
fn vectored_and_growing_buffers_are_read_and_written() {
    in_runtimes(|| async {
        for (mut one, other) in connections().await {
            let bufs = [b"ab".as_slice(), b"", b"cde"].map(IoSlice::new);
            assert!(one.is_write_vectored());
            assert_eq!(one.write_vectored(&bufs).await.unwrap(), 5);
            assert_eq!(one.try_write_vectored(&bufs).unwrap(), 5);
            other.readable().await.unwrap();
            let (mut a, mut b) = ([0; 1], [0; 4]);
            let mut bufs = [&mut a[..], &mut b[..]].map(IoSliceMut::new);
            assert_eq!(other.try_read_vectored(&mut bufs).unwrap(), 5);
            assert_eq!((&a, &b), (b"a", b"bcde"));
            let mut grown = Vec::with_capacity(100);
            assert_eq!(other.try_read_buf(&mut grown).unwrap(), 5);
            assert_eq!(grown, b"abcde");
        }
    });
}

#[test]
fn halves_are_reunited_and_the_end_comes_with_the_writing_half() {
    in_runtimes(|| async {
        for (one, mut other) in connections().await {
            let (stranger, _) = Stream::pair().unwrap().0.into_split();
            let (read, write) = one.into_split();
            let error = stranger.reunite(write).unwrap_err();
            let (read, write) = read.reunite(error.1).unwrap().into_split();
            write.try_write(b"last").unwrap();
            drop(write);
            let mut last = String::new();
            other.read_to_string(&mut last).await.unwrap();
            assert_eq!(last, "last");
            other.write_all(b"answer").await.unwrap();
            let mut buf = [0; 9];
            read.readable().await.unwrap();
            assert_eq!(read.try_read(&mut buf).unwrap(), 6);
        }
    });
}

#[test]
fn a_stream_goes_from_runtime_to_runtime_with_its_bytes() {
    within(LIMIT, || {
        let (one, other) = current_thread().block_on(connection());
        let (mut one, mut other) = (one.into_std().unwrap(), other.into_std().unwrap());
        let (mut written, mut read) = (0, 0);
        for turn in 0..6 {
            let runtime = if turn % 2 == 0 {
                current_thread()
            } else {
                multi_thread()
            };
            (one, other, written, read) = runtime.block_on(async move {
                let mut one = Stream::from_std(one).unwrap();
                let mut other = Stream::from_std(other).unwrap();
                let mut buf = vec![0; 50_000];
                // Reads until there's room.
                while tokio::select! {
                    biased;
                    writable = one.writable() => writable.map(|()| false).unwrap(),
                    count = other.read(&mut buf) => {
                        let count = count.unwrap();
                        assert!(buf[..count] == text(read, count));
                        read += count;
                        true
                    }
                } {}
                // What waits when the runtime ends: a full pipe, and a read.
                while let Some(count) = polled(one.write(&text(written, 60_000)), 1).await {
                    written += count.unwrap();
                }
                assert!(is_pending(one.read(&mut buf)).await);
                (
                    one.into_std().unwrap(),
                    other.into_std().unwrap(),
                    written,
                    read,
                )
            });
        }
        current_thread().block_on(async move {
            let mut other = Stream::from_std(other).unwrap();
            drop(one);
            assert_eq!(read_text(&mut other, read).await, written);
        });
    });
}

#[test]
fn a_runtime_that_ends_with_everything_in_flight_loses_nothing_that_was_reported() {
    within(LIMIT, || {
        for runtime in [current_thread(), multi_thread()] {
            let (listener, path) = listen_in(&runtime);
            let written: Arc<[AtomicUsize; 8]> = Arc::default();
            let mut peers = Vec::new();
            for number in 0..8 {
                let written = Arc::clone(&written);
                let (client, server) = runtime
                    .block_on(async { tokio::join!(Stream::connect(&path), listener.accept()) });
                peers.push(server.unwrap().0.into_std().unwrap());
                let client = client.unwrap();
                runtime.spawn(async move {
                    let (mut reader, mut writer) = client.into_split();
                    let reading = tokio::spawn(async move { reader.read(&mut [0; 9]).await });
                    loop {
                        let place = written[number].load(Ordering::SeqCst);
                        let count = writer.write(&text(place, 10_000)).await.unwrap();
                        written[number].fetch_add(count, Ordering::SeqCst);
                        if place > 5_000_000 {
                            return reading.await;
                        }
                    }
                });
            }
            runtime.block_on(async { sleep(Duration::from_millis(20)).await });
            drop(listener);
            clean_up(&path);
            drop(runtime);
            current_thread().block_on(async {
                for (number, peer) in peers.into_iter().enumerate() {
                    let mut peer = Stream::from_std(peer).unwrap();
                    let read = read_text(&mut peer, 0).await;
                    assert_eq!(read, written[number].load(Ordering::SeqCst));
                }
            });
        }
    });
}

fn listen_in(runtime: &Runtime) -> (Listener, PathBuf) {
    let _runtime = runtime.enter();
    listen()
}

#[test]
fn the_peer_sees_the_end_while_the_runtime_is_blocked() {
    within(LIMIT, || {
        let runtime = current_thread();
        let (one, other) = runtime.block_on(connection());
        let other = other.into_std().unwrap();
        let blocked = thread::spawn(move || {
            runtime.block_on(async move {
                let mut one = one;
                assert!(is_pending(one.read(&mut [0; 9])).await);
                drop(one);
                thread::sleep(Duration::from_secs(1));
            });
        });
        let start = Instant::now();
        current_thread().block_on(async move {
            let mut other = Stream::from_std(other).unwrap();
            assert_eq!(other.read(&mut [0; 9]).await.unwrap(), 0);
        });
        let took = start.elapsed();
        assert!(took < Duration::from_millis(500), "{took:?}");
        blocked.join().unwrap();
    });
}

#[test]
fn an_accept_that_is_dropped_loses_no_client() {
    in_runtimes_within(limit(), || async {
        let (listener, path) = listen();
        let count = up_to(10_000);
        let clients = tokio::spawn({
            let path = path.clone();
            async move {
                let mut random = Random::new(3);
                for number in 0..count {
                    let mut client = Stream::connect(&path).await.unwrap();
                    client.write_all(&number.to_le_bytes()).await.unwrap();
                    for _ in 0..random.below(3) {
                        tokio::task::yield_now().await;
                    }
                }
            }
        });
        let mut dropped = 0;
        for expected in 0..count {
            let (mut server, _) = loop {
                // After one poll, or after having waited.
                match polled(listener.accept(), 1 + dropped % 2).await {
                    Some(accepted) => break accepted.unwrap(),
                    None => dropped += 1,
                }
                tokio::task::yield_now().await;
            };
            let mut number = [0; 8];
            server.read_exact(&mut number).await.unwrap();
            assert_eq!(u64::from_le_bytes(number), expected as u64);
        }
        clients.await.unwrap();
        clean_up(&path);
        assert!(is_pending(listener.accept()).await, "nobody came twice");
    });
}

#[test]
fn many_tasks_accept_and_each_client_is_accepted_once() {
    in_runtimes(|| async {
        let (listener, path) = listen();
        let listener = Arc::new(listener);
        let servers: Vec<_> = (0..5)
            .map(|_| {
                let listener = Arc::clone(&listener);
                tokio::spawn(async move {
                    let mut numbers = Vec::new();
                    loop {
                        let (mut server, _) = listener.accept().await.unwrap();
                        match server.read_u8().await.unwrap() {
                            255 => return numbers,
                            number => numbers.push(number),
                        }
                    }
                })
            })
            .collect();
        for number in (0..60).chain([255; 5]) {
            let mut client = Stream::connect(&path).await.unwrap();
            client.write_u8(number).await.unwrap();
        }
        let mut all = Vec::new();
        for server in servers {
            all.append(&mut server.await.unwrap());
        }
        all.sort_unstable();
        assert_eq!(all, (0..60).collect::<Vec<_>>());
        clean_up(&path);
    });
}

#[test]
fn a_busy_stream_lets_other_tasks_run() {
    within(LIMIT, || {
        current_thread().block_on(async {
            let (mut one, mut other) = connection().await;
            // These always find something to do.
            let busy = tokio::spawn(async move {
                loop {
                    one.write_all(&[1; 64]).await.unwrap();
                    other.read_exact(&mut [0; 64]).await.unwrap();
                }
            });
            timeout(LIMIT, sleep(Duration::from_millis(20)))
                .await
                .unwrap();
            assert!(!busy.is_finished());
            busy.abort();
        });
    });
}

#[test]
fn thousands_of_connections_are_idle_while_others_work() {
    within(LIMIT * 2, || {
        multi_thread().block_on(async {
            let (idle, active) = (idle_limit(), 1000);
            let mut waiting = tokio::task::JoinSet::new();
            let mut clients = Vec::new();
            for _ in 0..idle {
                let (client, mut server) = Stream::pair().unwrap();
                clients.push(client);
                waiting.spawn(async move { server.read(&mut [0; 9]).await.unwrap() });
            }
            let mut working = tokio::task::JoinSet::new();
            for _ in 0..active {
                let (mut client, mut server) = Stream::pair().unwrap();
                working.spawn(async move {
                    let server = tokio::spawn(async move {
                        let (mut reader, mut writer) = server.split();
                        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
                    });
                    let mut buf = [0; 100];
                    for turn in 0..10 {
                        client.write_all(&[turn; 100]).await.unwrap();
                        client.read_exact(&mut buf).await.unwrap();
                        assert_eq!(buf, [turn; 100]);
                    }
                    drop(client);
                    server.await.unwrap();
                });
            }
            while let Some(worked) = working.join_next().await {
                worked.unwrap();
            }
            assert_eq!(waiting.len(), idle);
            drop(clients);
            while let Some(count) = waiting.join_next().await {
                assert_eq!(count.unwrap(), 0);
            }
        });
    });
}

/// How many idle connections there may be: on Unix the process may have only so many descriptors.
fn idle_limit() -> usize {
    #[cfg(unix)]
    return usize::try_from(rustix_limit() / 2 - 2100)
        .unwrap_or(0)
        .min(10_000);
    #[cfg(windows)]
    10_000
}

#[cfg(unix)]
fn rustix_limit() -> u64 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3)?.parse().ok());
    soft.unwrap_or(4200)
}
