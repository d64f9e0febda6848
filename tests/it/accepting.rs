//! Listening and accepting: the backlog, the limit of instances, and how a listener ends.

use std::io::{ErrorKind, Read, Write};
use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, OwnedHandle, RawHandle};
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use winpipe::{ConnectOptions, ListenOptions, WinListener, WinStream};

use crate::common::{A_WHILE, AT_ONCE, LIMIT, assert_fails, fresh_path, within};

/// A client that has sent this byte.
fn connect_and_write(path: &Path, byte: u8) -> WinStream {
    let mut client = WinStream::connect(path).unwrap();
    client.write_all(&[byte]).unwrap();
    client
}

/// Asserts that the next client is the one that has sent this byte.
fn assert_accepts(listener: &WinListener, byte: u8) {
    let mut found = [0];
    listener.accept().unwrap().0.read_exact(&mut found).unwrap();
    assert_eq!(found, [byte]);
}

/// Asserts that `end` ends all calls that wait in `accept`, at once and with an error of this kind.
fn assert_ends_waiting_accepts(listener: &WinListener, end: impl FnOnce(), kind: ErrorKind) {
    thread::scope(|scope| {
        let waiting = [(); 3].map(|()| {
            let clone = listener.try_clone().unwrap();
            scope.spawn(move || clone.accept().map(drop))
        });
        thread::sleep(A_WHILE);
        let start = Instant::now();
        end();
        for call in waiting {
            assert_fails(call.join().unwrap(), kind);
        }
        assert!(start.elapsed() < AT_ONCE);
    });
}

#[test]
fn a_backlog_of_any_size_holds_as_many_clients() {
    within(LIMIT, || {
        for backlog in [1, 3, 100] {
            let path = fresh_path();
            let listener = ListenOptions::new().backlog(backlog).bind(&path).unwrap();
            for round in 0..2 {
                for client in 0..backlog {
                    let mut stream = WinStream::connect(&path).unwrap();
                    stream.write_all(&[client as u8, round]).unwrap();
                }
                assert_fails(
                    ConnectOptions::new().timeout(Duration::ZERO).connect(&path),
                    ErrorKind::ConnectionRefused,
                );
                for client in 0..backlog {
                    let mut bytes = Vec::new();
                    listener
                        .accept()
                        .unwrap()
                        .0
                        .read_to_end(&mut bytes)
                        .unwrap();
                    assert_eq!(bytes, [client as u8, round]);
                }
            }
        }
    });
}

#[test]
fn more_streams_than_instances_are_busy_until_one_is_dropped() {
    within(LIMIT, || {
        for limit in [1, 2, 5] {
            let path = fresh_path();
            let listener = ListenOptions::new()
                .max_instances(limit)
                .bind(&path)
                .unwrap();
            let patience = Duration::from_millis(50);
            let connect = || ConnectOptions::new().timeout(patience).connect(&path);
            let clients: Vec<_> = (0..limit).map(|_| connect().unwrap()).collect();
            let mut streams: Vec<_> = clients
                .iter()
                .map(|_| listener.accept().unwrap().0)
                .collect();
            // One more waits at the instance that keeps the name, and is refused nothing but `accept`.
            listener.set_nonblocking(true).unwrap();
            assert_fails(listener.accept(), ErrorKind::WouldBlock);
            let mut further = connect().unwrap();
            further.write_all(b"more").unwrap();
            for _ in 0..2 {
                assert_fails(listener.accept(), ErrorKind::ResourceBusy);
                assert_fails(connect(), ErrorKind::ConnectionRefused);
            }
            drop(streams.remove(0));
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 4]).unwrap();
            assert_fails(listener.accept(), ErrorKind::WouldBlock);
            drop((stream, streams));
            connect().unwrap();
            listener.accept().unwrap();
        }
    });
}

#[test]
fn nonblocking_ends_every_waiting_accept() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        let nonblocking = || listener.set_nonblocking(true).unwrap();
        assert_ends_waiting_accepts(&listener, nonblocking, ErrorKind::WouldBlock);
        // Nobody was lost, and the order is kept.
        listener.set_nonblocking(false).unwrap();
        for number in 0..20 {
            let _client = connect_and_write(&path, number);
            assert_accepts(&listener, number);
        }
    });
}

#[test]
fn shutdown_aborts_waiting_and_later_accepts_on_every_clone() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        let clone = listener.try_clone().unwrap();
        let shutdown = || listener.shutdown().unwrap();
        assert_ends_waiting_accepts(&listener, shutdown, ErrorKind::ConnectionAborted);
        for listener in [&listener, &clone] {
            for _ in 0..2 {
                assert_fails(listener.accept(), ErrorKind::ConnectionAborted);
            }
            assert_fails(
                listener.incoming().next().unwrap(),
                ErrorKind::ConnectionAborted,
            );
        }
        listener.shutdown().unwrap();
        assert_fails(WinStream::connect(&path), ErrorKind::NotFound);
    });
}

#[test]
fn shutdown_races_with_accept_and_never_hangs() {
    within(LIMIT, || {
        for round in 0..200 {
            let path = fresh_path();
            let listener = WinListener::bind(&path).unwrap();
            let start = Barrier::new(2);
            thread::scope(|scope| {
                let server = scope.spawn(|| {
                    start.wait();
                    listener.accept().map(drop)
                });
                start.wait();
                (0..round * 20).for_each(|_| std::hint::spin_loop());
                listener.shutdown().unwrap();
                assert_fails(server.join().unwrap(), ErrorKind::ConnectionAborted);
            });
        }
    });
}

#[test]
fn reject_remote_keeps_the_clients_that_have_come_and_those_that_come() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        let connect = |number| connect_and_write(&path, number);
        let accept = |number| assert_accepts(&listener, number);
        let _first = (connect(1), connect(2));
        listener.reject_remote(false).unwrap();
        let _third = connect(3);
        listener.reject_remote(false).unwrap();
        (1..=3).for_each(accept);
        // With a call that waits in accept.
        thread::scope(|scope| {
            let server = scope.spawn(|| accept(4));
            thread::sleep(A_WHILE);
            listener.reject_remote(true).unwrap();
            listener.reject_remote(false).unwrap();
            listener.reject_remote(true).unwrap();
            let _client = connect(4);
            server.join().unwrap();
        });
        for number in 5..40 {
            let _client = connect(number);
            accept(number);
        }
    });
}

#[test]
fn reject_remote_works_at_the_limit_of_instances() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::options().max_instances(2).bind(&path).unwrap();
        for round in 0..6 {
            listener.reject_remote(round % 2 == 0).unwrap();
            let client = WinStream::connect(&path).unwrap();
            let accepted = listener.accept().unwrap();
            listener.reject_remote(round % 2 == 1).unwrap();
            drop((client, accepted));
        }
    });
}

#[test]
fn reject_remote_keeps_the_last_instance_and_says_so() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::options().max_instances(2).bind(&path).unwrap();
        let connect = || {
            let client = WinStream::connect(&path).unwrap();
            (client, listener.accept().unwrap().0)
        };
        let streams = [connect(), connect()];
        for _ in 0..3 {
            assert_fails(listener.reject_remote(false), ErrorKind::ResourceBusy);
        }
        // It listens as before.
        let _client = connect_and_write(&path, 1);
        drop(streams);
        // Now it has a client, and isn't made anew.
        listener.reject_remote(false).unwrap();
        assert_accepts(&listener, 1);
        listener.shutdown().unwrap();
        assert_fails(listener.reject_remote(true), ErrorKind::ConnectionAborted);
    });
}

#[test]
fn reject_remote_gets_through_to_waiting_accepts_and_never_hangs() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::options().backlog(4).bind(&path).unwrap();
        thread::scope(|scope| {
            let waiting: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| listener.accept().map(drop)))
                .collect();
            for round in 0..500 {
                listener.reject_remote(round % 2 == 0).unwrap();
            }
            for call in waiting {
                let _client = WinStream::connect(&path).unwrap();
                // Some call has it; each has one in the end.
                drop(call);
            }
        });
    });
}

/// A listener is many handles, so it has none to show. This compiles only if that is so: each trait
/// that it had would make the call ambiguous.
#[test]
fn a_listener_has_no_handle_of_its_own() {
    struct Has;
    trait Unless<Trait> {
        fn holds() {}
    }
    impl<T> Unless<()> for T {}
    impl<T: AsHandle> Unless<(Has, BorrowedHandle<'static>)> for T {}
    impl<T: AsRawHandle> Unless<(Has, RawHandle)> for T {}
    impl<T: From<OwnedHandle>> Unless<(Has, OwnedHandle)> for T {}
    impl<T: Into<OwnedHandle>> Unless<(OwnedHandle, Has)> for T {}
    <WinListener as Unless<_>>::holds();
}
