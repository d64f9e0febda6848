//! What a call costs: system calls, kernel handles, allocations. Counted, not timed.

use std::io::{BufWriter, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use winpipe::{Access, ConnectOptions, ListenOptions, Server, WinListener, WinStream, ipc};

use crate::common::allocator::{allocations, bytes_held};
use crate::common::handles::handles;
use crate::common::logger::{self, records};
use crate::common::process::is_alone;
use crate::common::{A_WHILE, LIMIT, connection, connections, fresh_path, within};

/// The bytes that the kernel queues by default.
const BUFFER: usize = 1 << 20;

/// The names of the system calls that `call` makes on this thread.
fn calls<T>(call: impl FnOnce() -> T) -> (Vec<String>, T) {
    let (records, result) = records(call);
    let names = records.iter().map(|record| logger::call(record).to_owned());
    (names.collect(), result)
}

/// Lets this thread make what it keeps, which is no call's own cost: an event for calls that wait, and
/// a buffer for vectored ones.
fn warm_up() {
    let (one, _other) = WinStream::pair().unwrap();
    one.set_nonblocking(true).unwrap();
    (&one).read(&mut [0]).unwrap_err();
    let bufs = [IoSlice::new(&[1]), IoSlice::new(&[2])];
    assert_eq!((&one).write_vectored(&bufs).unwrap(), 2);
}

#[test]
fn an_immediate_read_or_write_is_one_system_call() {
    within(LIMIT, || {
        warm_up();
        for (mut one, mut other) in connections() {
            let mut buf = [0; 8];
            for _ in 0..3 {
                assert_eq!(calls(|| one.write(b"hello").unwrap()).0, ["WriteFile"]);
                assert_eq!(calls(|| other.peek(&mut buf).unwrap()).0, ["PeekNamedPipe"]);
                assert_eq!(calls(|| other.read(&mut buf).unwrap()).0, ["ReadFile"]);
            }
            one.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
            other
                .set_read_timeout(Some(Duration::from_secs(1)))
                .unwrap();
            assert_eq!(calls(|| one.write(&[0; 65_536]).unwrap()).0, ["WriteFile"]);
            assert_eq!(
                calls(|| other.read(&mut [0; 65_536]).unwrap()).0,
                ["ReadFile"]
            );
        }
    });
}

#[test]
fn a_vectored_read_or_write_is_one_system_call() {
    within(LIMIT, || {
        warm_up();
        for (mut one, mut other) in connections() {
            let bufs = [
                IoSlice::new(&[1; 3]),
                IoSlice::new(&[2; 60_000]),
                IoSlice::new(&[3; 9]),
            ];
            let (names, count) = calls(|| one.write_vectored(&bufs).unwrap());
            assert_eq!((names, count), (vec!["WriteFile".into()], 60_012));

            let (mut a, mut b) = ([0; 10_000], [0; 60_000]);
            let mut bufs = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
            let (names, count) = calls(|| other.read_vectored(&mut bufs).unwrap());
            assert_eq!((names, count), (vec!["ReadFile".into()], 60_012));
        }
    });
}

#[test]
fn a_buf_writer_gathers_its_parts_itself() {
    within(LIMIT, || {
        warm_up();
        let (one, mut other) = connection();
        let mut one = BufWriter::with_capacity(100, one);
        // It can't know that one call would do: `Write::is_write_vectored` is unstable in std.
        let bufs = [IoSlice::new(&[1; 80]), IoSlice::new(&[2; 80])];
        let (names, count) = calls(|| one.write_vectored(&bufs).unwrap());
        assert_eq!((names.len(), count), (0, 80));
        assert_eq!(calls(|| one.flush().unwrap()).0, ["WriteFile"]);
        other.read_exact(&mut [0; 80]).unwrap();
    });
}

#[test]
fn a_long_write_is_one_system_call_for_each_mib() {
    within(LIMIT, || {
        warm_up();
        let (mut one, other) = connection();
        thread::scope(|scope| {
            scope.spawn(|| std::io::copy(&mut &other, &mut std::io::sink()).unwrap());
            let (names, count) = calls(|| one.write(&[0; 2 * BUFFER]).unwrap());
            assert_eq!(count, 2 * BUFFER);
            assert_eq!(names.iter().filter(|name| *name == "WriteFile").count(), 2);
            assert!(
                names
                    .iter()
                    .all(|name| name == "WriteFile" || name.starts_with("Wait"))
            );
            drop(one);
        });
    });
}

#[test]
fn a_waiting_read_or_write_is_two_system_calls() {
    within(LIMIT, || {
        let reads_wait = (0..50).any(|_| {
            let (mut one, mut other) = connection();
            thread::scope(|scope| {
                // It reads once before, so that it has its event; then it waits.
                one.write_all(b"x").unwrap();
                let reader = scope.spawn(|| {
                    other.read_exact(&mut [0]).unwrap();
                    calls(|| other.read(&mut [0; 8]).unwrap())
                });
                thread::sleep(A_WHILE);
                one.write_all(b"hello").unwrap();
                let (names, count) = reader.join().unwrap();
                assert_eq!(count, 5);
                is_call_that_waits(&names, "ReadFile")
            })
        });
        assert!(reads_wait, "the reader was always late");

        let writes_wait = (0..50).any(|_| {
            let (mut one, mut other) = connection();
            thread::scope(|scope| {
                let writer = scope.spawn(|| {
                    one.write_all(&vec![0; BUFFER]).unwrap();
                    calls(|| one.write(&[0; 65_536]).unwrap()).0
                });
                thread::sleep(A_WHILE);
                other.read_exact(&mut vec![0; BUFFER + 65_536]).unwrap();
                is_call_that_waits(&writer.join().unwrap(), "WriteFile")
            })
        });
        assert!(writes_wait, "the writer was always late");
    });
}

/// Whether the call waited: its thread may come so late that it needn't. Asserts that it made no other
/// system calls.
fn is_call_that_waits(names: &[String], call: &str) -> bool {
    let waits = names.len() > 1;
    assert_eq!(
        names,
        &[call, "WaitForSingleObject"][..if waits { 2 } else { 1 }]
    );
    waits
}

#[test]
fn a_timed_out_read_or_write_is_at_most_four_system_calls() {
    within(LIMIT, || {
        warm_up();
        let (mut one, _other) = connection();
        one.set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        one.set_write_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        one.write_all(&vec![0; BUFFER]).unwrap();
        // Windows may end a wait a tick early, and then there's one more: not each time.
        let fewest = |call: &mut dyn FnMut() -> ErrorKind| {
            let tries = (0..5).map(|_| {
                let (names, kind) = calls(&mut *call);
                assert_eq!(kind, ErrorKind::TimedOut);
                names
            });
            tries.min_by_key(Vec::len).unwrap()
        };
        // The cancelled call's completion is waited for only where it isn't there at once.
        let read = fewest(&mut || one.read(&mut [0]).unwrap_err().kind());
        assert_eq!(read[..3], ["ReadFile", "WaitForSingleObject", "CancelIoEx"]);
        assert!(read.len() <= 4 && read[3..].iter().all(|name| name == "WaitForSingleObject"));
        let write = fewest(&mut || one.write(b"x").unwrap_err().kind());
        assert_eq!(
            write[..3],
            ["WriteFile", "WaitForSingleObject", "CancelIoEx"]
        );
        assert!(write.len() <= 4 && write[3..].iter().all(|name| name == "WaitForSingleObject"));

        one.set_nonblocking(true).unwrap();
        let (names, _) = calls(|| one.read(&mut [0]).unwrap_err());
        assert_eq!(names[..2], ["ReadFile", "CancelIoEx"]);
        assert!(names.len() <= 3, "{names:?}");
    });
}

#[test]
fn connecting_accepting_and_dropping_are_few_system_calls() {
    within(LIMIT, || {
        warm_up();
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        let (names, client) = calls(|| WinStream::connect(&path).unwrap());
        assert_eq!(
            names,
            [
                "CreateFileW",
                "NtQueryInformationFile",
                "SetNamedPipeHandleState"
            ]
        );
        let (names, (server, _)) = calls(|| listener.accept().unwrap());
        // Not `ConnectNamedPipe`: it would make Windows forget who the client is.
        assert_eq!(names, ["NtQueryInformationFile", "NtCreateNamedPipeFile"]);
        assert_eq!(
            calls(|| client.shutdown(Shutdown::Write).unwrap()).0,
            ["WriteFile"]
        );
        assert_eq!(
            calls(|| client.shutdown(Shutdown::Both).unwrap()).0,
            [""; 0]
        );
        assert_eq!(calls(|| server.try_clone().unwrap()).0, ["DuplicateHandle"]);
        for stream in [client, server] {
            assert_eq!(calls(|| drop(stream)).0, ["CloseHandle"]);
        }
    });
}

#[test]
fn an_accept_that_waits_is_four_system_calls_and_one_that_must_not_is_one() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        let waited = (0..50).any(|_| {
            let names = thread::scope(|scope| {
                let server = scope.spawn(|| {
                    warm_up();
                    calls(|| listener.accept().unwrap()).0
                });
                thread::sleep(Duration::from_millis(50));
                let _client = WinStream::connect(&path).unwrap();
                server.join().unwrap()
            });
            // Where the server's thread is late, it needn't wait.
            let waited = names.iter().any(|name| name.starts_with("Wait"));
            if waited {
                let expected = [
                    "NtQueryInformationFile",
                    "ConnectNamedPipe",
                    "WaitForSingleObject",
                    "NtCreateNamedPipeFile",
                ];
                assert_eq!(names, expected);
            }
            waited
        });
        assert!(waited, "the server's thread was always late");
        listener.set_nonblocking(true).unwrap();
        let (names, error) = calls(|| listener.accept().unwrap_err());
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert_eq!(names, ["NtQueryInformationFile"]);
    });
}

#[test]
fn a_wake_up_is_one_system_call_and_logged() {
    within(LIMIT, || {
        let woke = (0..50).any(|_| {
            let (one, _other) = connection();
            let names = thread::scope(|scope| {
                let reader = scope.spawn(|| (&one).read(&mut [0]).unwrap());
                thread::sleep(A_WHILE);
                let names = calls(|| one.shutdown(Shutdown::Read).unwrap()).0;
                assert_eq!(reader.join().unwrap(), 0);
                names
            });
            // Where the reader is late, there's nobody to wake.
            let woke = !names.is_empty();
            if woke {
                assert_eq!(names, ["SetEvent"]);
            }
            woke
        });
        assert!(woke, "the reader was always late");
    });
}

#[test]
fn no_call_allocates() {
    if !is_alone("cost::no_call_allocates") {
        return;
    }
    within(LIMIT, || {
        warm_up();
        for (mut one, mut other) in connections() {
            let mut buf = [0; 8];
            one.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
            let (count, ()) = allocations(|| {
                one.write_all(b"hello").unwrap();
                other.peek(&mut buf).unwrap();
                other.read_exact(&mut buf[..5]).unwrap();
                let bufs = [IoSlice::new(b"hel"), IoSlice::new(b"lo")];
                assert_eq!(one.write_vectored(&bufs).unwrap(), 5);
                let (mut a, mut b) = ([0; 2], [0; 8]);
                let mut bufs = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
                assert_eq!(other.read_vectored(&mut bufs).unwrap(), 5);
                // Ones that wait and time out, and that would block.
                one.set_read_timeout(Some(Duration::from_millis(1)))
                    .unwrap();
                one.read(&mut buf).unwrap_err();
                one.peek(&mut buf).unwrap_err();
                one.set_nonblocking(true).unwrap();
                one.read(&mut buf).unwrap_err();
                while one.write(&[0; 30_000]).is_ok() {}
                one.set_nonblocking(false).unwrap();
            });
            assert_eq!(count, 0);
        }
    });
}

#[test]
fn an_open_stream_takes_half_a_kib_of_heap_at_most() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        let addr = listener.local_addr().unwrap();
        let held = |open: &dyn Fn() -> WinStream| {
            let (bytes, stream) = bytes_held(open);
            assert!(bytes <= 512, "{bytes} bytes");
            stream
        };
        let _client = held(&|| WinStream::connect_addr(&addr).unwrap());
        let _server = held(&|| listener.accept().unwrap().0);
        assert!(size_of::<WinStream>() <= 16);
    });
}

#[test]
fn a_stream_is_one_kernel_handle_and_a_listener_its_backlog() {
    if !is_alone("cost::a_stream_is_one_kernel_handle_and_a_listener_its_backlog") {
        return;
    }
    warm_up();
    let before = handles();
    let path = fresh_path();
    let listener = WinListener::bind(&path).unwrap();
    assert!(
        handles() - before <= 129,
        "{} for a listener",
        handles() - before
    );

    let before = handles();
    let mut streams = Vec::new();
    for _ in 0..50 {
        streams.push(WinStream::connect(&path).unwrap());
        streams.push(listener.accept().unwrap().0);
    }
    assert_eq!(handles() - before, 100);
    for stream in &streams {
        stream
            .set_read_timeout(Some(Duration::from_millis(1)))
            .unwrap();
        let error = (&*stream).read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
    assert_eq!(handles() - before, 100, "no call leaves a handle behind");
    drop(streams);
    assert_eq!(handles(), before);
    drop(listener);
}

/// How much stack a call uses, its system calls included. What it leaves in the stack shows it.
fn stack_used(call: impl FnOnce()) -> usize {
    const DEPTH: usize = 40 << 10;
    const UNTOUCHED: u8 = 0xa5;

    #[inline(never)]
    fn call_it(call: impl FnOnce()) {
        call();
    }

    let mut here = 0_u8;
    let top = &raw mut here;
    // What is below the frames of this function and of those that it calls here.
    let below = (1024..DEPTH).map(|depth| (depth, top.wrapping_sub(depth)));
    // From the top, as the system extends a stack page by page.
    for (_, byte) in below.clone() {
        // SAFETY: the byte is of this thread's stack, which is larger, and no frame holds it.
        unsafe { byte.write_volatile(UNTOUCHED) };
    }
    call_it(call);
    let mut used = 0;
    for (depth, byte) in below {
        // SAFETY: as above.
        if unsafe { byte.read_volatile() } != UNTOUCHED {
            used = depth;
        }
    }
    used
}

/// Calls what the crate offers, but for handing handles over, which needs a second thread, each
/// by `call`, with a name.
fn whole_api(mut call: impl FnMut(&str, &mut dyn FnMut())) {
    let path = fresh_path();
    let mut options = ListenOptions::new();
    options.access(Access::CURRENT_USER.or(Access::ADMINISTRATORS));
    let mut listener = None;
    call("bind", &mut || {
        listener = Some(options.bind(&path).unwrap())
    });
    let listener = listener.unwrap();
    let mut expecting = ConnectOptions::new();
    expecting.expect_server(Server::CurrentUser);
    let mut client = None;
    call("connect", &mut || {
        client = Some(expecting.connect(&path).unwrap())
    });
    let mut client = client.unwrap();
    let mut server = None;
    call("accept", &mut || {
        server = Some(listener.accept().unwrap().0)
    });
    let mut server = server.unwrap();

    // Several parts that don't fit a message, in both directions.
    let data = vec![7; 300_000];
    let parts = [&data[..10], &data[10..200_000], &data[200_000..]].map(IoSlice::new);
    call("write_vectored", &mut || {
        assert_eq!(client.write_vectored(&parts).unwrap(), data.len());
    });
    let (mut a, mut b) = (vec![0; 10], vec![0; data.len()]);
    let mut read = 0;
    while read < data.len() {
        let mut bufs = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
        call("read_vectored", &mut || {
            read += server.read_vectored(&mut bufs).unwrap()
        });
    }
    call("write_all", &mut || server.write_all(&data).unwrap());
    call("peek", &mut || {
        assert!(client.peek(&mut [0; 64]).unwrap() > 0)
    });
    call("read_exact", &mut || client.read_exact(&mut b).unwrap());
    call("peer_cred", &mut || assert!(client.peer_cred().is_ok()));
    call("impersonate", &mut || drop(server.impersonate()));
    call("Debug", &mut || {
        assert!(format!("{client:?} {listener:?}").len() > 10)
    });

    let limit = Some(Duration::from_millis(1));
    client.set_read_timeout(limit).unwrap();
    client.set_write_timeout(limit).unwrap();
    call("read, timed out", &mut || {
        drop(client.read(&mut [0]).unwrap_err())
    });
    call("write, timed out", &mut || {
        while client.write(&data).is_ok() {}
    });
    client.set_nonblocking(true).unwrap();
    call("write, nonblocking", &mut || {
        drop(client.write(&data).unwrap_err())
    });
    call("try_clone", &mut || drop(client.try_clone().unwrap()));
    call("shutdown", &mut || client.shutdown(Shutdown::Both).unwrap());
    let mut client = Some(client);
    call("drop", &mut || drop(client.take()));
    call("read_to_end", &mut || {
        assert!(server.read_to_end(&mut Vec::new()).is_ok())
    });
    call("drain", &mut || drop(server.drain().unwrap_err()));
    call("listener.shutdown", &mut || listener.shutdown().unwrap());
    call("accept, ended", &mut || {
        drop(listener.accept().unwrap_err())
    });
    call("connect_with_timeout", &mut || {
        WinStream::connect_with_timeout(&path, Duration::from_millis(5)).unwrap_err();
    });
    call("pair", &mut || drop(WinStream::pair().unwrap()));
    let name = fresh_path();
    let name = name.file_name().unwrap().to_str().unwrap();
    call("ipc", &mut || {
        let place = ipc::path(name).unwrap();
        let _listener = ipc::bind(&place).unwrap();
        ipc::connect(&place).unwrap();
    });
}

#[test]
fn no_call_takes_more_than_8_kib_of_stack() {
    within(LIMIT, || {
        let small = thread::Builder::new().stack_size(64 << 10);
        let test = || {
            whole_api(|_, call| call());
            let mut all = Vec::new();
            whole_api(|name, call| all.push((stack_used(call), name.to_owned())));
            all.retain(|(used, _)| *used > 8 << 10);
            assert!(all.is_empty(), "{all:?}");
        };
        small.spawn(test).unwrap().join().unwrap();
    });
}
