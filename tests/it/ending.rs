//! Peers that shut down, leave or are killed.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::process::Child;
use std::thread;

use winpipe::{WinListener, WinStream};

use crate::common::process::{be_child, connected_child, kill, ready, spawn_child};
use crate::common::{A_WHILE, LIMIT, connection, fresh_path, within};

#[test]
fn a_write_that_waits_goes_on_after_the_peers_shutdown_and_ends_with_its_drop() {
    within(LIMIT, || {
        let (one, other) = connection();
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut one = &one;
                one.write_all(&vec![0; 2 << 20]).unwrap_err().kind()
            });
            thread::sleep(A_WHILE);
            other.shutdown(Shutdown::Both).unwrap();
            thread::sleep(A_WHILE);
            assert!(!writer.is_finished());
            drop(other);
            assert_eq!(writer.join().unwrap(), ErrorKind::BrokenPipe);
        });
    });
}

/// What a process of its own does, so that it can be killed.
#[test]
#[ignore = "the process that other tests start"]
fn child_process() {
    be_child(|task, path| match task {
        "accept" => {
            let listener = WinListener::bind(path).unwrap();
            ready();
            listener.accept().unwrap();
            // What it's accepted stays in the backlog's place: it isn't reached by the test.
            thread::park();
        }
        "read" => {
            let mut stream = WinStream::connect(path).unwrap();
            stream.write_all(b"here").unwrap();
            ready();
            stream.read_exact(&mut [0; 100]).unwrap();
        }
        "write" => {
            let mut stream = WinStream::connect(path).unwrap();
            stream.write_all(b"here").unwrap();
            ready();
            loop {
                stream.write_all(&[1; 100_000]).unwrap();
            }
        }
        _ => panic!("no such task: {task}"),
    });
}

/// Kills the child once it's where it waits.
fn kill_in_the_middle(mut child: Child) {
    thread::sleep(A_WHILE);
    kill(&mut child);
}

#[test]
fn a_peer_killed_in_the_middle_of_a_read_is_a_broken_pipe() {
    within(LIMIT, || {
        let (child, listener, mut server) = connected_child("ending::read");
        server.read_exact(&mut [0; 4]).unwrap();
        kill_in_the_middle(child);
        assert_eq!(server.read(&mut [0]).unwrap(), 0);
        assert_eq!(
            server.write(b"x").unwrap_err().kind(),
            ErrorKind::BrokenPipe
        );
        // The listener goes on.
        WinStream::connect_addr(&listener.local_addr().unwrap()).unwrap();
        listener.accept().unwrap();
    });
}

#[test]
fn a_peer_killed_in_the_middle_of_a_write_is_the_end() {
    within(LIMIT, || {
        let (child, _listener, mut server) = connected_child("ending::write");
        server.read_exact(&mut [0; 4]).unwrap();
        kill_in_the_middle(child);
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).unwrap();
        assert!(rest.iter().all(|byte| *byte == 1));
        assert_eq!(server.read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn a_server_killed_in_the_middle_of_an_accept_leaves_nothing_behind() {
    within(LIMIT, || {
        let path = fresh_path();
        let child = spawn_child("ending::accept", &path);
        kill_in_the_middle(child);
        let error = WinStream::connect(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        let listener = WinListener::bind(&path).unwrap();
        WinStream::connect(&path).unwrap();
        listener.accept().unwrap();
    });
}

#[test]
fn a_server_killed_with_clients_in_its_backlog_is_the_end_for_them() {
    within(LIMIT, || {
        let path = fresh_path();
        let child = spawn_child("ending::accept", &path);
        let mut clients: Vec<_> = (0..5).map(|_| WinStream::connect(&path).unwrap()).collect();
        kill_in_the_middle(child);
        for client in &mut clients {
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
        }
    });
}
