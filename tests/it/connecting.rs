//! Connecting: what there is to wait for, how long, and when it's given up.

use std::io::{ErrorKind, Read, Write};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use winpipe::{ConnectOptions, WinListener, WinStream};

use crate::common::raw::busy_server;
use crate::common::{A_WHILE, AT_ONCE, LIMIT, fresh_path, within};

#[test]
fn connect_to_a_busy_pipe_waits_and_is_then_refused() {
    within(LIMIT, || {
        let (path, _instance, _client) = busy_server();
        let start = Instant::now();
        let error = WinStream::connect(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
        let took = start.elapsed();
        assert!(
            Duration::from_millis(950) <= took && took < Duration::from_secs(1) + AT_ONCE,
            "{took:?}"
        );

        let start = Instant::now();
        let error = WinStream::connect_with_timeout(&path, Duration::from_millis(100)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
        let took = start.elapsed();
        assert!(
            Duration::from_millis(80) <= took && took < AT_ONCE,
            "{took:?}"
        );
    });
}

#[test]
fn connect_to_a_busy_pipe_is_woken_by_the_first_free_instance() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::options().backlog(4).bind(&path).unwrap();
        let _backlog: Vec<_> = (0..4).map(|_| WinStream::connect(&path).unwrap()).collect();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| WinStream::connect(&path).map(|_| Instant::now()));
            thread::sleep(A_WHILE);
            assert!(!waiting.is_finished());
            let freed = Instant::now();
            let _accepted = listener.accept().unwrap();
            let connected = waiting.join().unwrap().unwrap();
            // Otherwise it looks again after a second.
            assert!(connected - freed < Duration::from_millis(900));
        });
    });
}

#[test]
fn connect_with_timeout_sees_a_pipe_that_appears_late() {
    within(LIMIT, || {
        let path = fresh_path();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let mut client = WinStream::connect_with_timeout(&path, LIMIT).unwrap();
                client.write_all(b"x").unwrap();
            });
            thread::sleep(A_WHILE);
            let listener = WinListener::bind(&path).unwrap();
            listener.accept().unwrap().0.read_exact(&mut [0]).unwrap();
            waiting.join().unwrap();
        });
        // One attempt is made however short the time, and a long one is not waited out.
        let listener = WinListener::bind(fresh_path()).unwrap();
        let addr = listener.local_addr().unwrap();
        WinStream::connect_addr_with_timeout(&addr, Duration::ZERO).unwrap();
        WinStream::connect_addr_with_timeout(&addr, Duration::MAX).unwrap();
    });
}

#[test]
fn connect_with_timeout_is_refused_when_the_time_is_up() {
    within(LIMIT, || {
        for timeout in [
            Duration::ZERO,
            Duration::from_nanos(1),
            Duration::from_millis(60),
        ] {
            let start = Instant::now();
            let error = WinStream::connect_with_timeout(fresh_path(), timeout).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
            assert!(start.elapsed() >= timeout && start.elapsed() < timeout + AT_ONCE);
        }
    });
}

#[test]
fn a_client_of_a_busy_pipe_is_refused_when_the_pipe_is_gone() {
    within(LIMIT, || {
        let (path, instance, client) = busy_server();
        thread::scope(|scope| {
            // Wine lets the wait go on, and then it's the next look that finds out.
            let connect = || WinStream::options().timeout(LIMIT).connect(&path).map(drop);
            let waiting = scope.spawn(connect);
            thread::sleep(A_WHILE);
            drop((instance, client));
            let start = Instant::now();
            let error = waiting.join().unwrap().unwrap_err();
            assert!(
                matches!(
                    error.kind(),
                    ErrorKind::ConnectionRefused | ErrorKind::NotFound
                ),
                "{error}"
            );
            assert!(start.elapsed() < Duration::from_secs(1) + AT_ONCE);
        });
    });
}

#[test]
fn connect_options_wait_as_they_say() {
    within(LIMIT, || {
        let path = fresh_path();
        let start = Instant::now();
        let mut options = ConnectOptions::new();
        let error = options.timeout(LIMIT).connect(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(start.elapsed() < Duration::from_millis(700));
        options.wait_for_server(true);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| options.connect(&path).map(drop));
            thread::sleep(Duration::from_millis(50));
            let listener = WinListener::bind(&path).unwrap();
            listener.accept().unwrap();
            waiting.join().unwrap().unwrap();
        });
    });
}

#[test]
fn shutdown_and_drop_refuse_the_clients_that_wait() {
    within(LIMIT, || {
        for drop_it in [false, true] {
            let path = fresh_path();
            let listener = WinListener::options().backlog(4).bind(&path).unwrap();
            // As many as the backlog holds, and one that waits for its turn.
            let mut backlog: Vec<_> = (0..4).map(|_| WinStream::connect(&path).unwrap()).collect();
            thread::scope(|scope| {
                let waiting = scope.spawn(|| WinStream::connect(&path).map(drop));
                thread::sleep(A_WHILE);
                match drop_it {
                    true => drop(listener),
                    false => listener.shutdown().unwrap(),
                }
                let error = waiting.join().unwrap().unwrap_err();
                // NotFound if it was so late that there was nothing to wait for.
                assert!(
                    matches!(
                        error.kind(),
                        ErrorKind::ConnectionRefused | ErrorKind::NotFound
                    ),
                    "{error}"
                );
            });
            for client in &mut backlog {
                assert_eq!(client.read(&mut [0]).unwrap(), 0);
                assert_eq!(
                    client.write(b"x").unwrap_err().kind(),
                    ErrorKind::BrokenPipe
                );
            }
        }
    });
}

#[test]
fn a_listener_that_goes_while_clients_connect_never_makes_them_hang() {
    within(LIMIT, || {
        for round in 0..40 {
            let path = fresh_path();
            let listener = WinListener::options().backlog(2).bind(&path).unwrap();
            let start = Barrier::new(4);
            thread::scope(|scope| {
                let clients: Vec<_> = (0..3)
                    .map(|_| {
                        scope.spawn(|| {
                            start.wait();
                            WinStream::connect(&path)?.read(&mut [0])
                        })
                    })
                    .collect();
                start.wait();
                (0..round * 100).for_each(|_| std::hint::spin_loop());
                match round % 2 {
                    0 => drop(listener),
                    _ => listener.shutdown().unwrap(),
                }
                for client in clients {
                    match client.join().unwrap() {
                        Ok(count) => assert_eq!(count, 0),
                        Err(error) => assert!(
                            matches!(
                                error.kind(),
                                ErrorKind::NotFound | ErrorKind::ConnectionRefused
                            ),
                            "{error}"
                        ),
                    }
                }
            });
        }
    });
}
