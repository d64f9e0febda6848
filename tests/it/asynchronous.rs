//! What the async half has on Windows alone. What tokio's types promise as well is in
//! `tests/asynchronous.rs`.

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;
use windows_sys::Win32::Storage::FileSystem::{ReadFile, WriteFile};
use windows_sys::Win32::System::IO::{CancelIoEx, OVERLAPPED};
use winpipe::tokio::{Interest, WinListener, WinStream};
use winpipe::{ConnectOptions, ListenOptions};

use crate::common::handles::handles;
use crate::common::process::{be_child, is_alone, ready, spawn_child};
use crate::common::{AT_ONCE, LIMIT, fresh_path, text, within};

/// The bytes that the kernel queues by default.
const BUFFER: usize = 1 << 20;

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi_thread() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

/// Runs a test in a runtime with one thread.
fn run<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    within(LIMIT, || current_thread().block_on(test()));
}

/// Whether a future is pending when it's polled once.
async fn is_pending(future: impl Future) -> bool {
    let mut future = pin!(future);
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

fn is<T>(result: io::Result<T>, kind: ErrorKind) -> bool {
    matches!(result, Err(error) if error.kind() == kind)
}

/// Writes until no more is taken; returns how much was.
fn fill(stream: &WinStream) -> usize {
    let mut filled = 0;
    while let Ok(count) = stream.try_write(&text(filled, 100_000)) {
        filled += count;
    }
    filled
}

/// Reads so much, and checks that it's the text from that place.
async fn read_text(stream: &mut WinStream, place: usize, len: usize) {
    let mut buf = vec![0; len];
    stream.read_exact(&mut buf).await.unwrap();
    assert!(buf == text(place, len), "wrong bytes after {place}");
}

#[cfg(feature = "log")]
mod counted {
    use super::*;
    use crate::common::allocator::bytes_held;
    use crate::common::logger::{self, records};

    /// The names of the system calls that `call` makes on this thread.
    fn calls<T>(call: impl FnOnce() -> T) -> (Vec<String>, T) {
        let (records, result) = records(call);
        let names = records.iter().map(|record| logger::call(record).to_owned());
        (names.collect(), result)
    }

    #[test]
    fn a_read_of_what_is_there_is_one_system_call_and_one_that_waits_two() {
        run(|| async {
            let (mut one, mut other) = WinStream::pair().unwrap();
            let mut buf = [0; 64];
            // The thread makes what it keeps, and the handles are associated.
            assert!(is_pending(one.read(&mut buf)).await);
            assert!(is_pending(other.readable()).await);
            other.write_all(b"x").await.unwrap();
            one.read_exact(&mut buf[..1]).await.unwrap();
            let no_waker = &mut Context::from_waker(Waker::noop());
            for _ in 0..3 {
                // The one that waits: a read of nothing, and when it's over, the read. (The thread
                // of the port makes one call more.)
                let mut read = Box::pin(one.read(&mut buf));
                let (names, poll) = calls(|| read.as_mut().poll(no_waker));
                assert!(names == ["ReadFile"] && poll.is_pending(), "{names:?}");
                let write = pin!(other.write(b"hello"));
                let (names, poll) = calls(|| write.poll(no_waker));
                assert!(names == ["WriteFile"] && poll.is_ready(), "{names:?}");
                // Until the packet has come.
                let start = Instant::now();
                loop {
                    let (names, poll) = calls(|| read.as_mut().poll(no_waker));
                    if poll.is_ready() {
                        assert_eq!(names, ["ReadFile"]);
                        break;
                    }
                    assert_eq!(names, [""; 0]);
                    assert!(start.elapsed() < LIMIT);
                    thread::yield_now();
                }
            }
            // What is there.
            for part in [&[1; 100][..], &[2; 65_536]] {
                other.write_all(part).await.unwrap();
                one.readable().await.unwrap();
                let mut buf = vec![0; part.len()];
                let (names, count) = calls(|| one.try_read(&mut buf).unwrap());
                assert_eq!((names, count), (vec!["ReadFile".into()], part.len()));
            }
            let (names, count) = calls(|| other.try_write(&[0; BUFFER]).unwrap());
            assert_eq!((names, count), (vec!["WriteFile".into()], BUFFER));
            // One that doesn't fit is taken back, and given once more with a copy.
            let (names, count) = calls(|| other.try_write(&[0; 100]).unwrap());
            assert_eq!(
                (&*names.join(" "), count),
                ("WriteFile CancelIoEx WriteFile", 100)
            );
            let (names, result) = calls(|| other.try_write(&[0; 100]));
            assert!(
                is(result, ErrorKind::WouldBlock) && names.is_empty(),
                "{names:?}"
            );
        });
    }

    #[test]
    fn an_idle_connection_takes_at_most_a_kibibyte_of_memory() {
        /// So many that the table of the port is as full as it may be, or almost.
        const CONNECTIONS: usize = 400;

        let this = "asynchronous::counted::an_idle_connection_takes_at_most_a_kibibyte_of_memory";
        if !is_alone(this) {
            return;
        }
        run(|| async {
            drop(idle(1).await);
            let before = bytes_held(|| ()).0;
            let (bytes, connections) = {
                let mut future = Box::pin(idle(CONNECTIONS));
                let mut connections = None;
                let (bytes, ()) = bytes_held(|| {
                    let context = &mut Context::from_waker(Waker::noop());
                    match future.as_mut().poll(context) {
                        Poll::Ready(made) => connections = Some(made),
                        Poll::Pending => panic!("nothing waits"),
                    }
                });
                (bytes, connections.unwrap())
            };
            let each = (bytes - before) as usize / connections.len();
            assert!(each <= 1024, "{each} bytes");
            println!("{each} bytes for both ends of an idle connection");
        });
    }

    /// Connections of which both ends wait in a read.
    async fn idle(count: usize) -> Vec<(WinStream, WinStream)> {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            let (mut one, mut other) = WinStream::pair().unwrap();
            for end in [&mut one, &mut other] {
                let mut buf = [0; 9];
                let read = pin!(end.read(&mut buf));
                assert!(
                    read.poll(&mut Context::from_waker(Waker::noop()))
                        .is_pending()
                );
            }
            connections.push((one, other));
        }
        connections
    }
}

#[test]
fn no_thread_starts_before_the_first_wait_and_then_one_for_all() {
    if !is_alone("asynchronous::no_thread_starts_before_the_first_wait_and_then_one_for_all") {
        return;
    }
    within(LIMIT, || {
        let runtime = current_thread();
        runtime.block_on(async {
            let before = threads();
            let path = fresh_path();
            let listener = WinListener::bind(&path).unwrap();
            let mut connections = Vec::new();
            for _ in 0..20 {
                let client = WinStream::connect(&path).await.unwrap();
                let (server, _) = listener.accept().await.unwrap();
                assert_eq!(client.try_write(b"x").unwrap(), 1);
                assert_eq!(server.try_read(&mut [0; 9]).unwrap(), 1);
                connections.push((client, server));
            }
            assert_eq!(threads(), before, "none before the first wait");
            for (client, server) in &mut connections {
                assert!(is_pending(client.read(&mut [0; 9])).await);
                assert!(is_pending(server.read(&mut [0; 9])).await);
            }
            assert!(is_pending(listener.accept()).await);
            assert_eq!(threads(), before + 1);
        });
    });
}

/// How many threads this process has.
fn threads() -> usize {
    use std::os::windows::io::FromRawHandle;
    use windows_sys::Win32::System::Diagnostics::ToolHelp::{
        CreateToolhelp32Snapshot, TH32CS_SNAPTHREAD, THREADENTRY32, Thread32First, Thread32Next,
    };

    let mut entry = THREADENTRY32 {
        dwSize: size_of::<THREADENTRY32>() as u32,
        ..Default::default()
    };
    let mut count = 0;
    // SAFETY: the handle that the first call makes is owned; the entry has the size that it says.
    unsafe {
        let snapshot = CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0);
        let _closed = OwnedHandle::from_raw_handle(snapshot);
        let mut is_there = Thread32First(snapshot, &mut entry);
        while is_there != 0 {
            count += usize::from(entry.th32OwnerProcessID == std::process::id());
            is_there = Thread32Next(snapshot, &mut entry);
        }
    }
    count
}

#[test]
fn nothing_is_left_of_streams_that_were_dropped_with_all_in_flight() {
    if !is_alone("asynchronous::nothing_is_left_of_streams_that_were_dropped_with_all_in_flight") {
        return;
    }
    within(LIMIT, || {
        current_thread().block_on(async {
            let mut before = 0;
            for turn in 0..21 {
                // In the first, the process makes what it keeps.
                if turn == 1 {
                    before = handles();
                }
                let path = fresh_path();
                let listener = WinListener::bind(&path).unwrap();
                assert!(is_pending(listener.accept()).await);
                let (mut one, mut other) = WinStream::pair().unwrap();
                fill(&one);
                assert!(is_pending(one.write(b"x")).await);
                assert!(is_pending(one.read(&mut [0; 9])).await);
                fill(&other);
                let clone = other.into_std().unwrap();
                other = WinStream::from_std(clone).unwrap();
                drop((one, other, listener));
                let gone = WinStream::connect(&path).await;
                assert!(is(gone, ErrorKind::NotFound), "the name is free at once");
            }
            // A full slot is closed by its packet.
            let start = Instant::now();
            while handles() > before {
                assert!(start.elapsed() < AT_ONCE, "{} handles", handles() - before);
                sleep(Duration::from_millis(1)).await;
            }
        });
    });
}

#[test]
fn a_stream_is_blocking_then_async_then_blocking_with_bytes_in_flight() {
    within(LIMIT, || {
        let (mut one, mut other) = winpipe::WinStream::pair().unwrap();
        let (mut written, mut read) = (0, 0);
        for turn in 0..4 {
            one.set_nonblocking(false).unwrap();
            other.set_nonblocking(false).unwrap();
            one.write_all(&text(written, 1000)).unwrap();
            written += 1000;
            (one, other, written, read) = current_thread().block_on(async move {
                let one = WinStream::from_std(one).unwrap();
                let mut other = WinStream::from_std(other).unwrap();
                assert!(is_pending(one.readable()).await);
                // Once with a full slot, once without.
                if turn % 2 == 0 {
                    while let Ok(count) = one.try_write(&text(written, 100_000)) {
                        written += count;
                    }
                }
                read_text(&mut other, read, 700).await;
                assert!(is_pending(one.readable()).await);
                (
                    one.into_std().unwrap(),
                    other.into_std().unwrap(),
                    written,
                    read + 700,
                )
            });
            other.set_nonblocking(false).unwrap();
            let mut buf = vec![0; written - read - 100];
            other.read_exact(&mut buf).unwrap();
            assert!(buf == text(read, buf.len()));
            read += buf.len();
        }
        // The empty read that was left is no harm to a blocking one, which sees the end.
        drop(one);
        let mut rest = Vec::new();
        other.read_to_end(&mut rest).unwrap();
        assert!(rest == text(read, written - read));
    });
}

#[test]
fn a_handle_that_has_been_associated_cannot_be_waited_for_as_another_stream() {
    run(|| async {
        let (one, other) = WinStream::pair().unwrap();
        assert!(is_pending(one.readable()).await);
        let handle = OwnedHandle::from(one.into_std().unwrap());
        let one = WinStream::from_std(handle.into()).unwrap();
        // What needn't wait works.
        assert_eq!(one.try_write(b"x").unwrap(), 1);
        assert_eq!(other.try_read(&mut [0; 9]).unwrap(), 1);
        let error = one.readable().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains("completion port"), "{error}");
    });
}

#[test]
fn two_streams_over_one_end_share_its_readiness_and_its_end() {
    run(|| async {
        let (one, mut other) = WinStream::pair().unwrap();
        let blocking = one.into_std().unwrap();
        let clone = blocking.try_clone().unwrap();
        let (mut one, mut two) = (
            WinStream::from_std(blocking).unwrap(),
            WinStream::from_std(clone).unwrap(),
        );
        assert!(is_pending(one.readable()).await && is_pending(two.readable()).await);
        let both = async { tokio::join!(one.readable(), two.readable()) };
        let (both, written) = tokio::join!(both, other.write(b"x"));
        both.0.unwrap();
        both.1.unwrap();
        written.unwrap();
        assert_eq!(two.read(&mut [0; 9]).await.unwrap(), 1);
        // One that goes cancels what the other waits for.
        let waiting = tokio::spawn(async move { two.read(&mut [0; 9]).await });
        tokio::task::yield_now().await;
        assert!(is_pending(one.read(&mut [0; 9])).await);
        drop(one);
        tokio::task::yield_now().await;
        other.shutdown().await.unwrap();
        assert_eq!(waiting.await.unwrap().unwrap(), 0);
    });
}

#[test]
fn shutdown_wakes_the_tasks_that_wait_and_the_mark_comes_after_the_slot() {
    run(|| async {
        let (one, mut other) = WinStream::pair().unwrap();
        let filled = fill(&one);
        let one = Arc::new(one);
        let reader = tokio::spawn({
            let one = Arc::clone(&one);
            async move {
                one.readable().await.unwrap();
                one.try_read(&mut [0; 9])
            }
        });
        let writer = tokio::spawn({
            let one = Arc::clone(&one);
            async move {
                one.writable().await.unwrap();
                one.try_write(b"x")
            }
        });
        tokio::task::yield_now().await;
        one.shutdown_std(Shutdown::Both).unwrap();
        assert_eq!(reader.await.unwrap().unwrap(), 0);
        assert!(is(writer.await.unwrap(), ErrorKind::BrokenPipe));
        let ready = one.ready(Interest::READABLE | Interest::WRITABLE).await;
        let ready = ready.unwrap();
        assert!(ready.is_read_closed() && ready.is_write_closed());
        // The stream is still there, but nobody uses it.
        read_text(&mut other, 0, filled).await;
        assert_eq!(other.read(&mut [0; 9]).await.unwrap(), 0);
        drop(one);
    });
}

#[test]
fn flush_and_shutdown_wait_for_the_slot_and_drop_does_not_need_to() {
    run(|| async {
        for drops in [false, true] {
            let (mut one, mut other) = WinStream::pair().unwrap();
            let filled = fill(&one);
            assert!(is_pending(one.flush()).await);
            assert!(is_pending(one.shutdown()).await);
            let kept = match drops {
                true => {
                    drop(one);
                    None
                }
                false => Some(one),
            };
            read_text(&mut other, 0, filled).await;
            assert_eq!(other.read(&mut [0; 9]).await.unwrap(), 0);
            if let Some(mut one) = kept {
                one.flush().await.unwrap();
                one.shutdown().await.unwrap();
            }
        }
    });
}

#[test]
fn a_chunk_that_the_peer_never_reads_is_an_error_of_the_next_call() {
    run(|| async {
        for number in 0..3 {
            let (mut one, other) = WinStream::pair().unwrap();
            fill(&one);
            drop(other);
            let error = match number {
                0 => one.flush().await.unwrap_err(),
                1 => one.shutdown().await.unwrap_err(),
                _ => one.write(b"x").await.unwrap_err(),
            };
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        }
    });
}

#[test]
fn what_others_cancel_is_waited_for_and_sent_again() {
    run(|| async {
        let (mut one, mut other) = WinStream::pair().unwrap();
        let filled = fill(&one);
        let reader = tokio::spawn(async move {
            read_text(&mut other, 0, filled).await;
            other
        });
        for _ in 0..20 {
            // SAFETY: the handle is borrowed; everything on it is cancelled.
            unsafe { CancelIoEx(one.as_raw_handle(), std::ptr::null()) };
            tokio::task::yield_now().await;
        }
        let mut other = reader.await.unwrap();
        one.flush().await.unwrap();
        let waiting = tokio::spawn(async move { one.read(&mut [0; 9]).await });
        tokio::task::yield_now().await;
        other.write_all(b"abc").await.unwrap();
        assert_eq!(waiting.await.unwrap().unwrap(), 3);
    });
}

#[test]
fn peek_waits_and_leaves_the_bytes() {
    run(|| async {
        let (mut one, mut other) = WinStream::pair().unwrap();
        let mut buf = [0; 9];
        assert_eq!(one.peek(&mut []).await.unwrap(), 0);
        assert!(is_pending(one.peek(&mut buf)).await);
        let (peeked, written) = tokio::join!(one.peek(&mut buf), other.write(b"abc"));
        assert_eq!((peeked.unwrap(), written.unwrap()), (3, 3));
        assert_eq!(one.peek(&mut buf).await.unwrap(), 3);
        assert_eq!(one.read(&mut buf).await.unwrap(), 3);
        let (peeked, shut) = tokio::join!(one.peek(&mut buf), other.shutdown());
        shut.unwrap();
        assert_eq!(peeked.unwrap(), 0);
        assert_eq!(one.read(&mut buf).await.unwrap(), 0);
    });
}

#[test]
fn drain_waits_until_all_was_read() {
    run(|| async {
        let (one, mut other) = WinStream::pair().unwrap();
        let filled = fill(&one);
        let draining = tokio::spawn(async move { one.drain().await });
        read_text(&mut other, 0, filled - 1).await;
        tokio::task::yield_now().await;
        assert!(!draining.is_finished());
        read_text(&mut other, filled - 1, 1).await;
        draining.await.unwrap().unwrap();
    });
}

#[test]
fn a_client_waits_for_a_busy_pipe_without_a_thread() {
    within(LIMIT, || {
        multi_thread().block_on(async {
            let path = fresh_path();
            let options = ListenOptions::new().backlog(1).clone();
            let listener = WinListener::bind_with(&path, &options).unwrap();
            let mut patient = ConnectOptions::new();
            patient.timeout(LIMIT);
            let patient = Arc::new(patient);
            // One takes the only instance, and another gives up, which is no obstacle to the others,
            // of which there are more than workers.
            drop(WinStream::connect(&path).await.unwrap());
            assert!(is_pending(WinStream::connect(&path)).await);
            let clients: Vec<_> = (0..20_u8)
                .map(|number| {
                    let (path, patient) = (path.clone(), Arc::clone(&patient));
                    tokio::spawn(async move {
                        let mut client = WinStream::connect_with(&path, &patient).await.unwrap();
                        client.write_u8(number).await.unwrap();
                        client.read_u8().await.unwrap();
                    })
                })
                .collect();
            let mut numbers = Vec::new();
            for _ in 0..20 {
                let (mut server, _) = loop {
                    let (mut server, addr) = listener.accept().await.unwrap();
                    match server.read_u8().await {
                        Ok(number) => {
                            numbers.push(number);
                            break (server, addr);
                        }
                        // One that didn't stay.
                        Err(error) => assert_eq!(error.kind(), ErrorKind::UnexpectedEof),
                    }
                };
                server.write_u8(1).await.unwrap();
            }
            for client in clients {
                client.await.unwrap();
            }
            numbers.sort_unstable();
            assert_eq!(numbers, (0..20).collect::<Vec<_>>());
        });
    });
}

#[test]
fn a_busy_pipe_refuses_after_a_second_and_a_missing_one_at_once_or_when_time_is_up() {
    run(|| async {
        let path = fresh_path();
        let missing = WinStream::connect(&path).await;
        assert!(is(missing, ErrorKind::NotFound));
        let start = Instant::now();
        let limit = Duration::from_millis(100);
        let late = WinStream::connect_with_timeout(&path, limit).await;
        assert!(is(late, ErrorKind::ConnectionRefused) && start.elapsed() >= limit);

        let options = ListenOptions::new().backlog(1).clone();
        let listener = WinListener::bind_with(&path, &options).unwrap();
        let _first = WinStream::connect(&path).await.unwrap();
        let start = Instant::now();
        let busy = WinStream::connect(&path).await;
        assert!(is(busy, ErrorKind::ConnectionRefused));
        let took = start.elapsed();
        assert!(
            took >= Duration::from_millis(990) && took < AT_ONCE,
            "{took:?}"
        );
        drop(listener);
    });
}

#[test]
fn a_client_waits_for_the_server_to_appear() {
    run(|| async {
        let path = fresh_path();
        let waiting = tokio::spawn({
            let path = path.clone();
            async move { WinStream::connect_with_timeout(&path, LIMIT).await }
        });
        tokio::task::yield_now().await;
        let listener = WinListener::bind(&path).unwrap();
        listener.accept().await.unwrap();
        waiting.await.unwrap().unwrap();
    });
}

#[test]
fn shutdown_of_the_listener_ends_every_accept() {
    run(|| async {
        let listener = Arc::new(WinListener::bind(fresh_path()).unwrap());
        let waiting = [(); 3].map(|()| {
            let listener = Arc::clone(&listener);
            tokio::spawn(async move { listener.accept().await })
        });
        tokio::task::yield_now().await;
        listener.reject_remote(false).unwrap();
        tokio::task::yield_now().await;
        listener.shutdown().unwrap();
        for waiting in waiting {
            assert!(is(waiting.await.unwrap(), ErrorKind::ConnectionAborted));
        }
        let later = listener.accept().await;
        assert!(is(later, ErrorKind::ConnectionAborted));
    });
}

#[test]
fn a_blocking_clone_of_a_listener_takes_turns_with_the_async_one() {
    within(LIMIT, || {
        let path = fresh_path();
        let blocking = winpipe::WinListener::bind(&path).unwrap();
        let clone = blocking.try_clone().unwrap();
        let runtime = current_thread();
        let listener = WinListener::from_std(clone).unwrap();
        for turn in 0..10 {
            // A request is in flight at the instance that the client gets.
            assert!(runtime.block_on(is_pending(listener.accept())));
            let client = winpipe::WinStream::connect(&path).unwrap();
            let server = match turn % 2 {
                0 => blocking.accept().unwrap().0,
                _ => {
                    let (server, _) = runtime.block_on(listener.accept()).unwrap();
                    server.into_std().unwrap()
                }
            };
            // Its handle is associated already; as a stream it's waited for nevertheless.
            let mut server = WinStream::from_std(server).unwrap();
            runtime.block_on(async {
                assert!(is_pending(server.read(&mut [0; 9])).await);
                (&client).write_all(b"abc").unwrap();
                assert_eq!(server.read(&mut [0; 9]).await.unwrap(), 3);
            });
        }
    });
}

#[test]
fn a_waker_that_panics_hurts_nobody() {
    /// A task that panics when it's woken.
    struct Panics(AtomicUsize);

    impl Wake for Panics {
        fn wake(self: Arc<Panics>) {
            self.0.fetch_add(1, Ordering::SeqCst);
            // Without the hook, which would take long to report it.
            std::panic::resume_unwind(Box::new("on purpose"));
        }
    }

    run(|| async {
        let panics = Arc::new(Panics(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&panics));
        let (mut one, mut other) = WinStream::pair().unwrap();
        let polled = one.poll_read_ready(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        let (both, written) = tokio::join!(one.readable(), other.write(b"x"));
        both.unwrap();
        written.unwrap();
        assert_eq!(panics.0.load(Ordering::SeqCst), 1);
        assert_eq!(one.read(&mut [0; 9]).await.unwrap(), 1);
        // The thread goes on.
        let (read, written) = tokio::join!(one.read_u8(), other.write_u8(7));
        assert_eq!(read.unwrap(), 7);
        written.unwrap();
    });
}

#[test]
fn handles_are_handed_over_and_a_sender_that_gives_up_withdraws() {
    run(|| async {
        let (sender, receiver) = WinStream::pair().unwrap();
        let file = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
        assert!(is_pending(receiver.recv_handle()).await);
        for _ in 0..3 {
            assert!(is_pending(sender.send_handle(&file)).await);
        }
        let (sent, received) = tokio::join!(sender.send_handle(&file), receiver.recv_handle());
        sent.unwrap();
        let mut start = [0; 2];
        std::fs::File::from(received.unwrap())
            .read_exact(&mut start)
            .unwrap();
        assert_eq!(&start, b"MZ");
        // Later bytes are bytes.
        assert_eq!(sender.try_write(b"abc").unwrap(), 3);
        receiver.readable().await.unwrap();
        assert_eq!(receiver.try_read(&mut [0; 9]).unwrap(), 3);
    });
}

#[test]
fn a_handle_is_handed_over_behind_a_full_pipe() {
    run(|| async {
        let (sender, mut receiver) = WinStream::pair().unwrap();
        let filled = fill(&sender);
        let file = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
        let sending = async {
            sender.send_handle(&file).await.unwrap();
            sender
        };
        let receiving = async {
            read_text(&mut receiver, 0, filled).await;
            receiver.recv_handle().await.unwrap()
        };
        tokio::join!(sending, receiving);
    });
}

#[test]
fn the_peer_is_known_and_acted_for_within_a_closure() {
    run(|| async {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        let (client, server) = tokio::join!(WinStream::connect(&path), listener.accept());
        let (mut client, (mut server, _)) = (client.unwrap(), server.unwrap());
        client.write_all(b"x").await.unwrap();
        server.read_u8().await.unwrap();
        assert_eq!(server.peer_cred().unwrap().pid(), std::process::id());
        assert_eq!(server.impersonate(|| 7).unwrap(), 7);
        assert!(is(client.impersonate(|| ()), ErrorKind::Unsupported));
        assert_eq!(client.peer_addr().unwrap().as_pathname(), Some(&*path));
        assert_eq!(server.local_addr().unwrap().as_pathname(), Some(&*path));
        assert!(server.take_error().unwrap().is_none());
    });
}

/// A child has a duplicate of a handle that belongs to this process's port, and causes packets with
/// pointers of its own.
#[test]
fn packets_of_a_process_that_has_the_handle_harm_nobody() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = winpipe::WinListener::bind(&path).unwrap();
        let mut child = spawn_child("asynchronous::packets", &path);
        let (control, _) = listener.accept().unwrap();
        current_thread().block_on(async {
            let (mut one, mut other) = WinStream::pair().unwrap();
            assert!(is_pending(one.readable()).await);
            control.send_handle(&one).unwrap();
            // The child writes through it, and then each side goes on as before.
            let mut buf = vec![0; 1000];
            other.read_exact(&mut buf).await.unwrap();
            assert!(buf.iter().all(|&byte| byte == 9));
            for number in 0..100 {
                let (read, written) = tokio::join!(one.read_u8(), other.write_u8(number));
                assert_eq!(read.unwrap(), number);
                written.unwrap();
            }
            // Reads of the child that were pending are cancelled, which is a packet each.
            (&control).write_all(b"x").unwrap();
            assert!(child.wait().unwrap().success());
            fill(&one);
            drop(one);
            let mut rest = Vec::new();
            other.read_to_end(&mut rest).await.unwrap();
            assert!(rest.len() > BUFFER);
        });
    });
}

#[test]
#[ignore = "the process that other tests start"]
fn child_process() {
    be_child(|task, path: &Path| {
        assert_eq!(task, "packets");
        let mut control = winpipe::WinStream::connect(path).unwrap();
        ready();
        let handle = control.recv_handle().unwrap();
        // On the heap, as the parent's are, so that the addresses may even be the same.
        let mut requests = Vec::new();
        for _ in 0..1000 {
            let overlapped: &'static mut OVERLAPPED = Box::leak(Box::default());
            requests.push(std::ptr::from_mut(overlapped));
        }
        for &overlapped in &requests {
            // SAFETY: the byte is static, and the OVERLAPPED lives until the process ends. It has no
            // event, so the port of the other process gets the packet.
            unsafe {
                WriteFile(
                    handle.as_raw_handle(),
                    &9,
                    1,
                    std::ptr::null_mut(),
                    overlapped,
                );
            }
        }
        for _ in 0..100 {
            let overlapped: &'static mut OVERLAPPED = Box::leak(Box::default());
            // SAFETY: as above; a read of nothing.
            unsafe {
                let nothing = std::ptr::NonNull::<u8>::dangling().as_ptr();
                let count = std::ptr::null_mut();
                ReadFile(handle.as_raw_handle(), nothing, 0, count, overlapped);
                CancelIoEx(handle.as_raw_handle(), overlapped);
            }
        }
        control.read_exact(&mut [0]).unwrap();
    });
}
