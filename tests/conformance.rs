//! What std's Unix sockets and this crate's pipes both promise.
//!
//! This source runs unchanged against `std::os::unix::net` on Unix and against named pipes on
//! Windows. There is no `cfg` in it: where Windows departs from Unix, `departs` says so.

mod common;

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::sync::{Barrier, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::{LIMIT, Random, clean_up, connection, connections, departs, fresh_path, text, within};
use winpipe::ipc::unix::{SocketAddr, UnixListener as Listener, UnixStream as Stream};

/// What a call fails with when its time is up.
fn timed_out() -> ErrorKind {
    match departs("a call that times out says so") {
        true => ErrorKind::TimedOut,
        false => ErrorKind::WouldBlock,
    }
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Reads to the end and checks that exactly the first `len` bytes of the test text came.
fn assert_text(mut stream: impl Read, len: usize) {
    let mut place = 0;
    let mut buf = vec![0; 100_000];
    loop {
        let count = stream.read(&mut buf).unwrap();
        if count == 0 {
            break;
        }
        assert_is_text(&buf[..count], place);
        place += count;
    }
    assert_eq!(place, len, "bytes in all");
}

fn assert_is_text(bytes: &[u8], place: usize) {
    let expected = text(place, bytes.len());
    // Not `assert_eq!`, which prints all of both.
    if bytes != expected {
        let at = (0..bytes.len())
            .find(|at| bytes[*at] != expected[*at])
            .unwrap();
        panic!("byte {} is {}, not {}", place + at, bytes[at], expected[at]);
    }
}

fn assert_end(mut stream: impl Read) {
    for _ in 0..3 {
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
    }
}

// Connecting and accepting

#[test]
fn clients_connect_write_and_leave_before_accept_and_all_are_accepted_in_order() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = Listener::bind(&path).unwrap();
        for client in 0..16_u8 {
            let mut stream = Stream::connect(&path).unwrap();
            stream.write_all(&[client; 1000]).unwrap();
            stream.write_all(&[client]).unwrap();
        }
        for client in 0..16_u8 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes, [client; 1001]);
        }
        clean_up(&path);
    });
}

#[test]
fn clients_that_stay_are_accepted_in_order_and_get_their_own_answers() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = Listener::bind(&path).unwrap();
        let mut clients: Vec<_> = (0..16).map(|_| Stream::connect(&path).unwrap()).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client.write_all(&[number as u8]).unwrap();
        }
        let mut streams: Vec<_> = (0..16).map(|_| listener.accept().unwrap().0).collect();
        for (number, stream) in streams.iter_mut().enumerate() {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            assert_eq!(usize::from(byte[0]), number);
            stream.write_all(&byte).unwrap();
        }
        for (number, client) in clients.iter_mut().enumerate() {
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            assert_eq!(usize::from(byte[0]), number);
        }
        clean_up(&path);
    });
}

#[test]
fn a_client_that_connects_and_vanishes_never_hurts_accept() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = Listener::bind(&path).unwrap();
        for round in 0..200 {
            if round % 2 == 0 {
                drop(Stream::connect(&path).unwrap());
                let (stream, _) = listener.accept().unwrap();
                assert_end(stream);
            } else {
                // One that vanishes while accept may be waiting for it.
                thread::scope(|scope| {
                    scope.spawn(|| drop(Stream::connect(&path).unwrap()));
                    let (stream, _) = listener.accept().unwrap();
                    assert_end(stream);
                });
            }
        }
        clean_up(&path);
    });
}

#[test]
fn a_server_that_answers_and_vanishes_is_heard_by_its_client() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = Listener::bind(&path).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..500 {
                    listener.accept().unwrap().0.write_all(b"answer").unwrap();
                }
            });
            for _ in 0..500 {
                let mut stream = Stream::connect(&path).unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                assert_eq!(answer, "answer");
            }
        });
        clean_up(&path);
    });
}

#[test]
fn thousands_of_connects_race_with_accepts() {
    within(LIMIT * 2, || {
        let path = fresh_path();
        let listener = Listener::bind(&path).unwrap();
        thread::scope(|scope| {
            for client in 0..4_u32 {
                let path = &path;
                scope.spawn(move || {
                    for round in 0..500_u32 {
                        let mut stream = Stream::connect(path).unwrap();
                        let question = (client * 1000 + round).to_le_bytes();
                        stream.write_all(&question).unwrap();
                        let mut answer = [0; 4];
                        stream.read_exact(&mut answer).unwrap();
                        assert_eq!(answer, question);
                    }
                });
            }
            for _ in 0..2000 {
                let (mut stream, _) = listener.accept().unwrap();
                let mut question = [0; 4];
                stream.read_exact(&mut question).unwrap();
                stream.write_all(&question).unwrap();
            }
        });
        clean_up(&path);
    });
}

#[test]
fn several_threads_accept_on_clones() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = Listener::bind(&path).unwrap();
        thread::scope(|scope| {
            let servers: Vec<_> = (0..4)
                .map(|_| {
                    let listener = listener.try_clone().unwrap();
                    scope.spawn(move || {
                        let mut sum = 0;
                        for _ in 0..50 {
                            let (mut stream, _) = listener.accept().unwrap();
                            let mut byte = [0];
                            stream.read_exact(&mut byte).unwrap();
                            sum += u32::from(byte[0]);
                        }
                        sum
                    })
                })
                .collect();
            for number in 0..200 {
                Stream::connect(&path)
                    .unwrap()
                    .write_all(&[number])
                    .unwrap();
            }
            let sum: u32 = servers
                .into_iter()
                .map(|server| server.join().unwrap())
                .sum();
            assert_eq!(sum, (0..200).sum::<u32>(), "each client was accepted once");
        });
        clean_up(&path);
    });
}

#[test]
fn sixty_four_clients_come_at_once() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = Listener::bind(&path).unwrap();
        let start = Barrier::new(64);
        thread::scope(|scope| {
            for number in 0..64_u8 {
                let (path, start) = (&path, &start);
                scope.spawn(move || {
                    start.wait();
                    let mut stream = Stream::connect(path).unwrap();
                    stream.write_all(&[number]).unwrap();
                    let mut answer = [0];
                    stream.read_exact(&mut answer).unwrap();
                    assert_eq!(answer, [number]);
                });
            }
            for _ in 0..64 {
                let (mut stream, _) = listener.accept().unwrap();
                scope.spawn(move || {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    stream.write_all(&byte).unwrap();
                });
            }
        });
        clean_up(&path);
    });
}

#[test]
fn a_burst_of_a_hundred_clients_is_served_by_a_slow_server() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = Listener::bind(&path).unwrap();
        let connected = Barrier::new(101);
        thread::scope(|scope| {
            for number in 0..100_u8 {
                let (path, connected) = (&path, &connected);
                scope.spawn(move || {
                    let stream = Stream::connect(path);
                    connected.wait();
                    let mut stream = stream.unwrap();
                    stream.write_all(&[number]).unwrap();
                    let mut answer = [0];
                    stream.read_exact(&mut answer).unwrap();
                    assert_eq!(answer, [number]);
                });
            }
            // So slow that it accepts none before all are there.
            connected.wait();
            for _ in 0..100 {
                let (mut stream, _) = listener.accept().unwrap();
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                stream.write_all(&byte).unwrap();
            }
        });
        clean_up(&path);
    });
}

#[test]
fn incoming_yields_streams_and_never_ends() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = Listener::bind(&path).unwrap();
        assert_eq!(listener.incoming().size_hint(), (usize::MAX, None));
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..3 {
                    Stream::connect(&path).unwrap().write_all(b"x").unwrap();
                }
            });
            let mut count = 0;
            for stream in &listener {
                let mut bytes = Vec::new();
                stream.unwrap().read_to_end(&mut bytes).unwrap();
                assert_eq!(bytes, b"x");
                count += 1;
                if count == 3 {
                    break;
                }
            }
        });
        clean_up(&path);
    });
}

#[test]
fn a_nonblocking_accept_takes_a_client_that_is_there_and_waits_for_none() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = Listener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        for _ in 0..3 {
            for _ in 0..3 {
                assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
            }
            let _client = Stream::connect(&path).unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            // The stream is a blocking one.
            stream
                .set_read_timeout(Some(Duration::from_millis(30)))
                .unwrap();
            let start = Instant::now();
            assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), timed_out());
            assert!(start.elapsed() >= Duration::from_millis(15));
        }
        listener.set_nonblocking(false).unwrap();
        thread::scope(|scope| {
            let server = scope.spawn(|| listener.accept().map(drop));
            Stream::connect(&path).unwrap();
            server.join().unwrap().unwrap();
        });
        clean_up(&path);
    });
}

#[test]
fn connect_to_nothing_is_not_found_at_once() {
    within(LIMIT, || {
        let start = Instant::now();
        let error = Stream::connect(fresh_path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.raw_os_error(), Some(2));
        assert!(start.elapsed() < Duration::from_millis(500));
    });
}

#[test]
fn connect_fails_at_once_when_the_server_has_gone() {
    within(LIMIT, || {
        let path = fresh_path();
        drop(Listener::bind(&path).unwrap());
        // As after a crash: nothing removes the file.
        let expected = match departs("a name goes with its last handle") {
            true => ErrorKind::NotFound,
            false => ErrorKind::ConnectionRefused,
        };
        for _ in 0..3 {
            assert_eq!(Stream::connect(&path).unwrap_err().kind(), expected);
        }
        clean_up(&path);
    });
}

#[test]
fn accepted_streams_outlive_the_listener() {
    within(LIMIT, || {
        let (mut client, mut server) = connection();
        client.write_all(b"still").unwrap();
        let mut buf = [0; 5];
        server.read_exact(&mut buf).unwrap();
        server.write_all(b"there").unwrap();
        client.read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"there");
    });
}

#[test]
fn addresses_are_as_std_has_them() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = Listener::bind(&path).unwrap();
        let client = Stream::connect(&path).unwrap();
        let (server, addr) = listener.accept().unwrap();

        assert_eq!(listener.local_addr().unwrap().as_pathname(), Some(&*path));
        assert_eq!(client.peer_addr().unwrap().as_pathname(), Some(&*path));
        assert_eq!(server.local_addr().unwrap().as_pathname(), Some(&*path));
        for unnamed in [
            addr,
            client.local_addr().unwrap(),
            server.peer_addr().unwrap(),
        ] {
            assert!(unnamed.is_unnamed());
            assert_eq!(unnamed.as_pathname(), None);
            assert_eq!(format!("{unnamed:?}"), "(unnamed)");
        }
        let named = client.peer_addr().unwrap().clone();
        assert!(!named.is_unnamed());
        assert_eq!(format!("{named:?}"), format!("{path:?} (pathname)"));

        let (one, other) = Stream::pair().unwrap();
        for end in [&one, &other] {
            assert!(end.local_addr().unwrap().is_unnamed());
            assert!(end.peer_addr().unwrap().is_unnamed());
        }
        clean_up(&path);
    });
}

#[test]
fn an_address_binds_and_connects_as_its_path_does() {
    within(LIMIT, || {
        let path = fresh_path();
        let addr = SocketAddr::from_pathname(&path).unwrap();
        let listener = Listener::bind_addr(&addr).unwrap();
        let mut client = Stream::connect_addr(&addr).unwrap();
        client.write_all(b"x").unwrap();
        listener.accept().unwrap().0.read_exact(&mut [0]).unwrap();
        clean_up(&path);
    });
}

#[test]
fn the_empty_path_names_nothing() {
    within(LIMIT, || {
        let addr = SocketAddr::from_pathname("");
        if departs("an address that exists has a name, or is a stream's own") {
            assert_eq!(addr.unwrap_err().kind(), ErrorKind::InvalidInput);
        } else {
            assert!(addr.unwrap().is_unnamed());
        }
        let error = Stream::connect("").unwrap_err();
        assert!(
            matches!(
                error.kind(),
                ErrorKind::InvalidInput | ErrorKind::ConnectionRefused
            ),
            "{error}"
        );
    });
}

#[test]
fn a_path_with_a_nul_or_too_long_is_invalid_input() {
    within(LIMIT, || {
        let path = fresh_path();
        let with = |more: &str| format!("{}{more}", path.to_str().unwrap());
        for bad in [with("\0"), with("\0x"), with(&"x".repeat(300))] {
            for error in [
                SocketAddr::from_pathname(&bad).unwrap_err(),
                Stream::connect(&bad).unwrap_err(),
                Listener::bind(&bad).unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
            }
        }
    });
}

#[test]
fn no_error_is_stored() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = Listener::bind(&path).unwrap();
        let client = Stream::connect(&path).unwrap();
        assert!(listener.take_error().unwrap().is_none());
        assert!(client.take_error().unwrap().is_none());
        clean_up(&path);
    });
}

// Closing

#[test]
fn bytes_written_before_a_drop_are_read_and_then_the_end() {
    within(LIMIT, || {
        for (mut writer, reader) in connections() {
            writer.write_all(&text(0, 40_000)).unwrap();
            let start = Instant::now();
            drop(writer);
            assert!(
                start.elapsed() < Duration::from_millis(500),
                "a drop takes no time"
            );
            assert_text(&reader, 40_000);
            assert_end(&reader);
        }
    });
}

#[test]
fn a_drop_with_unread_bytes_takes_no_time_and_breaks_the_peers_writes() {
    within(LIMIT, || {
        for (mut writer, reader) in connections() {
            writer.write_all(&text(0, 40_000)).unwrap();
            let start = Instant::now();
            drop(reader);
            assert!(start.elapsed() < Duration::from_millis(500));
            assert_eq!(
                writer.write(b"x").unwrap_err().kind(),
                ErrorKind::BrokenPipe
            );
            assert_eq!(
                writer.write(b"x").unwrap_err().kind(),
                ErrorKind::BrokenPipe
            );
        }
    });
}

#[test]
fn a_waiting_read_ends_when_the_peer_is_dropped() {
    within(LIMIT, || {
        for (reader, writer) in connections() {
            thread::scope(|scope| {
                let waiting = scope.spawn(|| assert_end(&reader));
                drop(writer);
                waiting.join().unwrap();
            });
        }
    });
}

#[test]
fn a_waiting_write_breaks_when_the_peer_is_dropped() {
    within(LIMIT, || {
        for (mut writer, reader) in connections() {
            thread::scope(|scope| {
                let waiting = scope.spawn(move || {
                    let text = vec![0; 1 << 20];
                    // A write that had passed something on may return how much that was.
                    while writer.write(&text).map_err(|error| error.kind())
                        != Err(ErrorKind::BrokenPipe)
                    {}
                });
                (&reader).read_exact(&mut [0; 1000]).unwrap();
                drop(reader);
                waiting.join().unwrap();
            });
        }
    });
}

#[test]
fn the_peer_sees_the_end_when_the_last_clone_is_dropped() {
    within(LIMIT, || {
        for (one, mut other) in connections() {
            let mut clone = one.try_clone().unwrap();
            drop(one);
            clone.write_all(b"x").unwrap();
            other.read_exact(&mut [0]).unwrap();
            other.set_nonblocking(true).unwrap();
            assert_eq!(
                other.read(&mut [0]).unwrap_err().kind(),
                ErrorKind::WouldBlock
            );
            other.set_nonblocking(false).unwrap();
            drop(clone);
            assert_end(other);
        }
    });
}

// Shutting down

#[test]
fn shutdown_write_is_the_end_after_the_last_byte_while_answers_flow_back() {
    within(LIMIT, || {
        for (mut one, mut other) in connections() {
            one.write_all(&text(0, 60_000)).unwrap();
            one.shutdown(Shutdown::Write).unwrap();
            assert_text(&other, 60_000);
            assert_end(&other);
            for _ in 0..3 {
                other.write_all(b"answer").unwrap();
                let mut answer = [0; 6];
                one.read_exact(&mut answer).unwrap();
                assert_eq!(&answer, b"answer");
            }
            other.shutdown(Shutdown::Write).unwrap();
            assert_end(&one);
            assert_end(&other);
        }
    });
}

#[test]
fn shutdown_write_reaches_a_reader_that_is_already_waiting() {
    within(LIMIT, || {
        for round in 0..50 {
            for (one, other) in connections() {
                let started = Barrier::new(2);
                thread::scope(|scope| {
                    let reader = scope.spawn(|| {
                        started.wait();
                        assert_end(&other);
                    });
                    started.wait();
                    // Now and then the reader comes first for certain, and waits.
                    if round == 0 {
                        thread::sleep(Duration::from_millis(20));
                    }
                    one.shutdown(Shutdown::Write).unwrap();
                    reader.join().unwrap();
                });
            }
        }
    });
}

#[test]
fn shutdown_write_reaches_every_reader() {
    within(LIMIT, || {
        for (one, other) in connections() {
            thread::scope(|scope| {
                let readers: Vec<_> = (0..4).map(|_| scope.spawn(|| assert_end(&other))).collect();
                one.shutdown(Shutdown::Write).unwrap();
                readers
                    .into_iter()
                    .for_each(|reader| reader.join().unwrap());
            });
        }
    });
}

#[test]
fn shutdown_write_comes_after_many_small_writes() {
    within(LIMIT, || {
        for (mut one, other) in connections() {
            thread::scope(|scope| {
                scope.spawn(|| assert_text(&other, 5_000));
                for place in 0..5_000 {
                    one.write_all(&text(place, 1)).unwrap();
                }
                one.shutdown(Shutdown::Write).unwrap();
            });
        }
    });
}

#[test]
fn shutdown_write_does_not_wait_for_a_reader() {
    within(LIMIT, || {
        for (one, other) in connections() {
            // Fill it first: the end finds room all the same.
            one.set_nonblocking(true).unwrap();
            let mut sent = 0;
            while let Ok(count) = (&one).write(&text(sent, 5000)) {
                sent += count;
            }
            assert!(sent > 0);
            one.shutdown(Shutdown::Write).unwrap();
            assert_text(&other, sent);
        }
    });
}

#[test]
fn writes_after_shutdown_write_are_broken_pipes() {
    within(LIMIT, || {
        for (mut one, mut other) in connections() {
            one.shutdown(Shutdown::Write).unwrap();
            one.shutdown(Shutdown::Write).unwrap();
            for _ in 0..3 {
                assert_eq!(one.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
            }
            let mut clone = one.try_clone().unwrap();
            assert_eq!(clone.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
            assert_end(&other);
            other.write_all(b"x").unwrap();
            one.read_exact(&mut [0]).unwrap();
        }
    });
}

#[test]
fn shutdown_works_after_the_peer_is_gone() {
    within(LIMIT, || {
        for how in [Shutdown::Read, Shutdown::Write, Shutdown::Both] {
            for (one, other) in connections() {
                drop(other);
                one.shutdown(how).unwrap();
                assert_end(&one);
            }
        }
    });
}

#[test]
fn shutdown_ends_waiting_reads_at_once_however_the_race_falls() {
    within(LIMIT, || {
        for how in [Shutdown::Read, Shutdown::Both] {
            for round in 0..200 {
                let (one, _other) = Stream::pair().unwrap();
                let start = Barrier::new(3);
                thread::scope(|scope| {
                    for _ in 0..2 {
                        let clone = one.try_clone().unwrap();
                        let start = &start;
                        scope.spawn(move || {
                            start.wait();
                            assert_end(&clone);
                        });
                    }
                    start.wait();
                    (0..round).for_each(|_| std::hint::spin_loop());
                    one.shutdown(how).unwrap();
                });
                assert_end(&one);
            }
        }
    });
}

#[test]
fn shutdown_ends_waiting_writes_at_once_however_the_race_falls() {
    within(LIMIT, || {
        for how in [Shutdown::Write, Shutdown::Both] {
            for round in 0..100 {
                let (one, other) = Stream::pair().unwrap();
                let start = Barrier::new(2);
                let sent = thread::scope(|scope| {
                    let clone = one.try_clone().unwrap();
                    let writer = scope.spawn(|| {
                        let mut clone = clone;
                        start.wait();
                        let mut sent = 0;
                        loop {
                            match clone.write(&text(sent, 50_000)) {
                                Ok(count) => sent += count,
                                Err(error) => {
                                    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
                                    return sent;
                                }
                            }
                        }
                    });
                    start.wait();
                    (0..round * 50).for_each(|_| std::hint::spin_loop());
                    one.shutdown(how).unwrap();
                    writer.join().unwrap()
                });
                // Exactly what the writer was told arrives, and then the end.
                assert_text(&other, sent);
            }
        }
    });
}

// Timeouts and nonblocking

#[test]
fn a_zero_timeout_is_invalid_input() {
    within(LIMIT, || {
        let (one, _other) = connection();
        let error = one.set_read_timeout(Some(Duration::ZERO)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let error = one.set_write_timeout(Some(Duration::ZERO)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(one.read_timeout().unwrap(), None);
        assert_eq!(one.write_timeout().unwrap(), None);
    });
}

#[test]
fn timeouts_are_shared_by_clones_and_read_back() {
    within(LIMIT, || {
        let (one, _other) = connection();
        let clone = one.try_clone().unwrap();
        one.set_read_timeout(Some(Duration::from_secs(7))).unwrap();
        one.set_write_timeout(Some(Duration::from_secs(9))).unwrap();
        assert_eq!(clone.read_timeout().unwrap(), Some(Duration::from_secs(7)));
        assert_eq!(clone.write_timeout().unwrap(), Some(Duration::from_secs(9)));
        clone.set_read_timeout(None).unwrap();
        assert_eq!(one.read_timeout().unwrap(), None);
    });
}

#[test]
fn a_timeout_takes_about_as_long_as_it_says() {
    within(LIMIT, || {
        for (mut one, _other) in connections() {
            let timeout = Duration::from_millis(150);
            one.set_read_timeout(Some(timeout)).unwrap();
            one.set_write_timeout(Some(timeout)).unwrap();

            let start = Instant::now();
            assert_eq!(one.read(&mut [0; 8]).unwrap_err().kind(), timed_out());
            assert!(start.elapsed() >= timeout - Duration::from_millis(16));
            assert!(start.elapsed() < timeout * 10);

            while one.write(&[0; 20_000]).is_ok_and(|count| count == 20_000) {}
            let start = Instant::now();
            while one.write(&[0; 20_000]).is_ok() {}
            assert!(start.elapsed() >= timeout - Duration::from_millis(16));
            assert!(start.elapsed() < timeout * 10);
        }
    });
}

#[test]
fn the_shortest_and_the_longest_timeouts_work() {
    within(LIMIT, || {
        for (mut one, mut other) in connections() {
            one.set_read_timeout(Some(Duration::from_nanos(1))).unwrap();
            let start = Instant::now();
            assert_eq!(one.read(&mut [0]).unwrap_err().kind(), timed_out());
            assert!(start.elapsed() < Duration::from_secs(1));
            one.set_write_timeout(Some(Duration::from_nanos(1)))
                .unwrap();
            one.write_all(b"x").unwrap();
            other.write_all(b"x").unwrap();
            one.read_exact(&mut [0]).unwrap();

            one.set_read_timeout(Some(Duration::MAX)).unwrap();
            one.set_write_timeout(Some(Duration::MAX)).unwrap();
            one.write_all(b"x").unwrap();
            thread::scope(|scope| {
                let waiting = scope.spawn(|| one.read_exact(&mut [0]));
                thread::sleep(Duration::from_millis(20));
                other.write_all(b"x").unwrap();
                waiting.join().unwrap().unwrap();
            });
        }
    });
}

#[test]
fn a_timed_out_read_takes_nothing() {
    within(LIMIT, || {
        for (mut one, mut other) in connections() {
            one.set_read_timeout(Some(Duration::from_millis(5)))
                .unwrap();
            for _ in 0..3 {
                assert_eq!(one.read(&mut [0; 8]).unwrap_err().kind(), timed_out());
            }
            other.write_all(b"hello").unwrap();
            let mut buf = [0; 8];
            assert_eq!(one.read(&mut buf).unwrap(), 5);
            assert_eq!(&buf[..5], b"hello");
        }
    });
}

#[test]
fn nonblocking_reads_and_writes_do_not_wait() {
    within(LIMIT, || {
        for (mut one, mut other) in connections() {
            one.set_nonblocking(true).unwrap();
            for _ in 0..3 {
                assert_eq!(
                    one.read(&mut [0]).unwrap_err().kind(),
                    ErrorKind::WouldBlock
                );
            }
            other.write_all(b"x").unwrap();
            assert_eq!(one.read(&mut [0; 8]).unwrap(), 1);
            let mut sent = 0;
            let error = loop {
                match one.write(&text(sent, 3000)) {
                    Ok(count) => sent += count,
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            assert!(sent >= 3000);
            drop(one);
            assert_text(&other, sent);
        }
    });
}

#[test]
fn a_nonblocking_write_takes_what_finds_room() {
    within(LIMIT, || {
        for (mut one, other) in connections() {
            one.set_nonblocking(true).unwrap();
            one.write_all(&text(0, 10)).unwrap();
            // More than fits, with something there already.
            let count = one.write(&text(10, 1 << 20)).unwrap();
            assert!(count >= 4096, "{count}");
            drop(one);
            assert_text(&other, 10 + count);
        }
    });
}

/// How often a call was refused, for the other side to wait for: refusals are certain that way, and
/// take no longer than they must.
#[derive(Default)]
struct Refusals {
    count: Mutex<usize>,
    more: Condvar,
}

impl Refusals {
    /// How many of them make a test, on each connection.
    const ENOUGH: usize = 175;

    fn add(&self) {
        *self.count.lock().unwrap() += 1;
        self.more.notify_all();
        thread::yield_now();
    }

    fn are_enough(&self) -> bool {
        *self.count.lock().unwrap() >= Self::ENOUGH
    }

    /// Waits until there is one more.
    fn wait(&self) {
        let count = self.count.lock().unwrap();
        let before = *count;
        let no_more = |count: &mut usize| *count == before && before < Self::ENOUGH;
        drop(self.more.wait_while(count, no_more).unwrap());
    }
}

/// Runs a test on a dozen connections at once: most of what it does is to wait for time-outs, each
/// of which takes some milliseconds.
fn at_once(test: impl Fn(u64, Stream, Stream) + Sync) {
    let connections = (0..4).flat_map(|_| connections());
    thread::scope(|scope| {
        for (seed, (one, other)) in (0..).zip(connections) {
            let test = &test;
            scope.spawn(move || test(seed, one, other));
        }
    });
}

/// Writes random amounts that are refused as often as not, against a reader that stalls, and checks
/// every byte.
fn refused_writes_are_exact(
    before_each: impl Fn(&Stream, &mut Random) + Send + Sync + Copy + 'static,
) {
    within(LIMIT * 2, move || {
        at_once(|seed, mut writer, reader| {
            let seed = seed * 7919 + 11;
            let refusals = &Refusals::default();
            thread::scope(|scope| {
                let writer = scope.spawn(move || {
                    let mut random = Random::new(seed);
                    let mut sent = 0;
                    while !refusals.are_enough() || sent < 1 << 20 {
                        before_each(&writer, &mut random);
                        // Every other one is about what a pipe of ours queues, or more.
                        let size = match random.below(2) {
                            0 => random.size(18),
                            _ => 400_000 + random.below(400_000) as usize,
                        };
                        let part = text(sent, size);
                        match writer.write(&part) {
                            Ok(count) => {
                                assert!(0 < count && count <= part.len());
                                sent += count;
                            }
                            Err(error) => {
                                assert!(is_refusal(&error), "{error}");
                                refusals.add();
                            }
                        }
                    }
                    sent
                });
                let mut random = Random::new(seed + 1);
                let mut place = 0;
                let mut buf = vec![0; 1 << 17];
                loop {
                    if random.below(8) == 0 {
                        refusals.wait();
                    }
                    let room = random.size(17);
                    let count = (&reader).read(&mut buf[..room]).unwrap();
                    if count == 0 {
                        break;
                    }
                    assert_is_text(&buf[..count], place);
                    place += count;
                    // In the middle of what one write sent: the rest of it is refused, or isn't.
                    if count == room && random.below(4) == 0 {
                        refusals.wait();
                    }
                }
                assert_eq!(place, writer.join().unwrap(), "sent and received");
            });
        });
    });
}

#[test]
fn timed_writes_lose_nothing_and_repeat_nothing() {
    refused_writes_are_exact(|writer, random| {
        let timeout = Duration::from_nanos(1 + random.below(2_000_000));
        writer.set_write_timeout(Some(timeout)).unwrap();
    });
}

#[test]
fn nonblocking_writes_lose_nothing_and_repeat_nothing() {
    refused_writes_are_exact(|writer, _| writer.set_nonblocking(true).unwrap());
}

#[test]
fn writes_that_change_their_mind_lose_nothing_and_repeat_nothing() {
    refused_writes_are_exact(|writer, random| {
        writer.set_nonblocking(random.below(2) == 0).unwrap();
        let timeout = Duration::from_nanos(1 + random.below(1_000_000));
        writer.set_write_timeout(Some(timeout)).unwrap();
    });
}

/// The same for reads, against a writer that stalls.
fn refused_reads_are_exact(
    before_each: impl Fn(&Stream, &mut Random) + Send + Sync + Copy + 'static,
) {
    within(LIMIT * 2, move || {
        at_once(|seed, mut writer, mut reader| {
            let seed = seed * 104_729 + 3;
            let refusals = &Refusals::default();
            thread::scope(|scope| {
                let reader = scope.spawn(move || {
                    let mut random = Random::new(seed);
                    let mut place = 0;
                    let mut buf = vec![0; 1 << 17];
                    loop {
                        before_each(&reader, &mut random);
                        let room = random.size(17);
                        match reader.read(&mut buf[..room]) {
                            Ok(0) => return place,
                            Ok(count) => {
                                assert_is_text(&buf[..count], place);
                                place += count;
                            }
                            Err(error) => {
                                assert!(is_refusal(&error), "{error}");
                                refusals.add();
                            }
                        }
                    }
                });
                let mut random = Random::new(seed + 1);
                let mut sent = 0;
                while !refusals.are_enough() {
                    if random.below(2) == 0 {
                        refusals.wait();
                    }
                    let count = random.size(16);
                    writer.write_all(&text(sent, count)).unwrap();
                    sent += count;
                }
                drop(writer);
                assert_eq!(sent, reader.join().unwrap(), "sent and received");
            });
        });
    });
}

#[test]
fn timed_reads_lose_nothing_and_repeat_nothing() {
    refused_reads_are_exact(|reader, random| {
        let timeout = Duration::from_nanos(1 + random.below(1_000_000));
        reader.set_read_timeout(Some(timeout)).unwrap();
    });
}

#[test]
fn nonblocking_reads_lose_nothing_and_repeat_nothing() {
    refused_reads_are_exact(|reader, _| reader.set_nonblocking(true).unwrap());
}

// Reading and writing

#[test]
fn large_writes_arrive_whole() {
    within(LIMIT, || {
        for (mut writer, reader) in connections() {
            thread::scope(|scope| {
                scope.spawn(move || writer.write_all(&text(0, 5 << 20)).unwrap());
                assert_text(&reader, 5 << 20);
            });
        }
    });
}

#[test]
fn a_blocking_write_returns_only_when_all_is_on_its_way() {
    within(LIMIT, || {
        for (mut writer, reader) in connections() {
            thread::scope(|scope| {
                scope.spawn(move || assert_eq!(writer.write(&text(0, 1 << 20)).unwrap(), 1 << 20));
                assert_text(&reader, 1 << 20);
            });
        }
    });
}

#[test]
fn short_reads_of_long_writes_get_every_byte() {
    within(LIMIT, || {
        for (mut writer, mut reader) in connections() {
            writer.write_all(&text(0, 30_000)).unwrap();
            drop(writer);
            let mut place = 0;
            for len in (1..).cycle() {
                let mut buf = vec![0; len % 700 + 1];
                let count = reader.read(&mut buf).unwrap();
                if count == 0 {
                    break;
                }
                assert_is_text(&buf[..count], place);
                place += count;
            }
            assert_eq!(place, 30_000);
        }
    });
}

#[test]
fn both_ends_read_and_write_at_once_from_several_threads() {
    within(LIMIT * 2, || {
        const PART: usize = 48 << 10;
        const PARTS: usize = 128;
        for (one, other) in connections() {
            thread::scope(|scope| {
                for end in [&one, &other] {
                    // Two threads write through a reference, and two read through clones.
                    let writers: Vec<_> = (0..2_u8)
                        .map(|writer| {
                            scope.spawn(move || {
                                for part in 0..PARTS {
                                    let bytes = vec![writer * 100 + (part % 100) as u8; PART];
                                    let mut end = end;
                                    end.write_all(&bytes).unwrap();
                                }
                            })
                        })
                        .collect();
                    scope.spawn(move || {
                        writers
                            .into_iter()
                            .for_each(|writer| writer.join().unwrap());
                        end.shutdown(Shutdown::Write).unwrap();
                    });
                }
                for end in [&one, &other] {
                    let readers: Vec<_> = (0..2)
                        .map(|_| {
                            let mut clone = end.try_clone().unwrap();
                            scope.spawn(move || {
                                let mut counts = [0_usize; 256];
                                let mut buf = vec![0; 64 << 10];
                                loop {
                                    let count = clone.read(&mut buf).unwrap();
                                    if count == 0 {
                                        return counts;
                                    }
                                    buf[..count]
                                        .iter()
                                        .for_each(|b| counts[usize::from(*b)] += 1);
                                }
                            })
                        })
                        .collect();
                    scope.spawn(move || {
                        let mut counts = [0; 256];
                        for reader in readers {
                            let part = reader.join().unwrap();
                            counts
                                .iter_mut()
                                .zip(part)
                                .for_each(|(sum, count)| *sum += count);
                        }
                        let mut expected = [0; 256];
                        for writer in 0..2 {
                            for part in 0..PARTS {
                                expected[writer * 100 + part % 100] += PART;
                            }
                        }
                        assert_eq!(counts, expected);
                    });
                }
            });
        }
    });
}

#[test]
fn a_read_does_not_hold_up_a_write() {
    within(LIMIT, || {
        for (one, other) in connections() {
            thread::scope(|scope| {
                let reader = scope.spawn(|| (&one).read_exact(&mut [0; 3]));
                (&one).write_all(b"question").unwrap();
                (&other).read_exact(&mut [0; 8]).unwrap();
                (&other).write_all(b"yes").unwrap();
                reader.join().unwrap().unwrap();
            });
        }
    });
}

#[test]
fn a_write_of_nothing_does_not_ask_for_the_peer() {
    within(LIMIT, || {
        for (mut one, other) in connections() {
            drop(other);
            match departs("a write of nothing makes no system call") {
                true => assert_eq!(one.write(&[]).unwrap(), 0),
                false => assert_eq!(one.write(&[]).unwrap_err().kind(), ErrorKind::BrokenPipe),
            }
            one.shutdown(Shutdown::Write).unwrap();
            assert_eq!(one.write(&[]).unwrap_err().kind(), ErrorKind::BrokenPipe);
        }
    });
}

#[test]
fn a_peer_that_leaves_with_unread_bytes_is_the_end() {
    within(LIMIT, || {
        for (mut one, other) in connections() {
            one.write_all(b"never read").unwrap();
            drop(other);
            if !departs("Linux says once that the peer has left bytes unread") {
                let error = one.read(&mut [0; 8]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            }
            assert_eq!(one.read(&mut [0; 8]).unwrap(), 0);
            assert_eq!(one.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
        }
    });
}

#[test]
fn zero_length_reads_and_writes_do_nothing() {
    within(LIMIT, || {
        for (mut one, mut other) in connections() {
            if departs("on Linux an empty read waits until something is there") {
                assert_eq!(one.read(&mut []).unwrap(), 0);
            }
            assert_eq!(other.write(&[]).unwrap(), 0);
            assert_eq!(other.write_vectored(&[]).unwrap(), 0);
            assert_eq!(
                other
                    .write_vectored(&[IoSlice::new(&[]), IoSlice::new(&[])])
                    .unwrap(),
                0
            );
            other.write_all(b"x").unwrap();
            assert_eq!(other.write(&[]).unwrap(), 0);
            assert_eq!(one.read(&mut []).unwrap(), 0);
            assert_eq!(one.read_vectored(&mut []).unwrap(), 0);
            assert_eq!(one.read(&mut [0; 8]).unwrap(), 1);
            one.set_nonblocking(true).unwrap();
            assert_eq!(
                one.read(&mut [0]).unwrap_err().kind(),
                ErrorKind::WouldBlock
            );
            other.shutdown(Shutdown::Write).unwrap();
            assert_eq!(other.write(&[]).unwrap_err().kind(), ErrorKind::BrokenPipe);
            assert_end(&one);
        }
    });
}

#[test]
fn a_gathered_write_arrives_as_one_and_a_scattered_read_fills_several_buffers() {
    within(LIMIT, || {
        for (mut writer, mut reader) in connections() {
            let bufs = [&text(0, 3)[..], &[], &text(3, 5000), &text(5003, 7)];
            let count = writer.write_vectored(&bufs.map(IoSlice::new)).unwrap();
            assert_eq!(count, 5010);

            let (mut a, mut b, mut c, mut d) = ([0; 10], [0; 0], [0; 4000], [0; 2000]);
            let mut bufs = [&mut a[..], &mut b, &mut c, &mut d].map(IoSliceMut::new);
            assert_eq!(reader.read_vectored(&mut bufs).unwrap(), 5010);
            assert_is_text(&a, 0);
            assert_is_text(&c, 10);
            assert_is_text(&d[..1000], 4010);
            assert_eq!(d[1000..], [0; 1000]);
        }
    });
}

#[test]
fn vectored_reads_and_writes_of_any_size_are_exact() {
    within(LIMIT, || {
        for (mut writer, mut reader) in connections() {
            thread::scope(|scope| {
                scope.spawn(move || {
                    let mut random = Random::new(5);
                    let mut sent = 0;
                    while sent < 8 << 20 {
                        let mut end = sent;
                        let bufs: Vec<Vec<u8>> = (0..random.below(6))
                            .map(|_| {
                                let part = text(end, random.size(17) - 1);
                                end += part.len();
                                part
                            })
                            .collect();
                        let bufs: Vec<_> = bufs.iter().map(|buf| IoSlice::new(buf)).collect();
                        let count = writer.write_vectored(&bufs).unwrap();
                        assert_eq!(count, end - sent, "a blocking write writes all");
                        sent = end;
                    }
                });
                let mut random = Random::new(6);
                let mut place = 0;
                loop {
                    let mut bufs: Vec<Vec<u8>> = (0..1 + random.below(6))
                        .map(|_| vec![0; random.size(16)])
                        .collect();
                    let mut slices: Vec<_> =
                        bufs.iter_mut().map(|buf| IoSliceMut::new(buf)).collect();
                    let count = reader.read_vectored(&mut slices).unwrap();
                    if count == 0 {
                        break;
                    }
                    assert_is_text(&bufs.concat()[..count], place);
                    place += count;
                }
                assert!(place >= 8 << 20);
            });
        }
    });
}

#[test]
fn flush_does_nothing() {
    within(LIMIT, || {
        for (mut one, _other) in connections() {
            one.write_all(b"nobody reads this").unwrap();
            one.flush().unwrap();
        }
    });
}

#[test]
fn a_stream_and_its_reference_both_read_and_write() {
    fn echo(mut stream: impl Read + Write) {
        let mut buf = [0; 4];
        stream.read_exact(&mut buf).unwrap();
        stream.write_all(&buf).unwrap();
    }
    within(LIMIT, || {
        let (mut one, other) = Stream::pair().unwrap();
        for _ in 0..2 {
            one.write_all(b"ping").unwrap();
            echo(&other);
            one.read_exact(&mut [0; 4]).unwrap();
        }
        one.write_all(b"ping").unwrap();
        echo(other);
        one.read_exact(&mut [0; 4]).unwrap();
    });
}

#[test]
fn streams_and_listeners_go_to_other_threads_and_past_panics() {
    fn is<T: Send + Sync + std::panic::UnwindSafe + std::panic::RefUnwindSafe + Unpin>() {}
    is::<Stream>();
    is::<Listener>();
    is::<SocketAddr>();
}
