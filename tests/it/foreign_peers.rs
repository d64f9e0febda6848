//! Peers that don't use this crate, with pipes of every type.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::windows::io::AsRawHandle;
use std::thread;
use std::time::Duration;

use windows_sys::Win32::System::Pipes::{DisconnectNamedPipe, PIPE_READMODE_BYTE};
use winpipe::{ListenOptions, WinListener, WinStream};

use crate::common::raw::{
    BYTE, MESSAGE, MESSAGE_READ_BY_BYTE, foreign_client, foreign_server, foreign_server_of,
    set_read_mode,
};
use crate::common::{A_WHILE, LIMIT, fresh_path, text, within};

#[test]
fn foreign_servers_of_every_type_are_read_and_written() {
    within(LIMIT, || {
        for mode in [BYTE, MESSAGE_READ_BY_BYTE, MESSAGE] {
            let (mut server, mut client) =
                foreign_server(mode, |path| WinStream::connect(path).unwrap());
            client.write_all(b"question").unwrap();
            let mut buf = [0; 8];
            server.read_exact(&mut buf).unwrap();
            assert_eq!(&buf, b"question");

            server.write_all(b"answer").unwrap();
            server.write_all(b"s").unwrap();
            let mut answer = [0; 7];
            client.peek(&mut answer[..2]).unwrap();
            assert_eq!(&answer[..2], b"an");
            client.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"answers");

            // More than the 4 KiB that this pipe queues, to and fro.
            thread::scope(|scope| {
                scope.spawn(|| client.write_all(&text(0, 50_000)).unwrap());
                let mut bytes = vec![0; 50_000];
                server.read_exact(&mut bytes).unwrap();
                assert_eq!(bytes, text(0, 50_000));
            });
            thread::scope(|scope| {
                scope.spawn(|| server.write_all(&text(0, 50_000)).unwrap());
                let mut bytes = vec![0; 50_000];
                client.read_exact(&mut bytes).unwrap();
                assert_eq!(bytes, text(0, 50_000));
            });

            server.write_all(b"last").unwrap();
            drop(server);
            let mut last = String::new();
            client.read_to_string(&mut last).unwrap();
            assert_eq!(last, "last");
            assert_eq!(
                client.write(b"x").unwrap_err().kind(),
                ErrorKind::BrokenPipe
            );
        }
    });
}

/// Writes `len` bytes of the text at a time until a write times out, and returns how many bytes of
/// the text have been sent in all.
fn write_until_refused(stream: &mut WinStream, mut sent: usize, len: usize) -> usize {
    let error = loop {
        match stream.write(&text(sent, len)) {
            Ok(count) => sent += count,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    sent
}

/// Writes that are refused again and again to a pipe that queues `scale` times 4 KiB.
fn refused_writes_to_a_foreign_pipe(scale: usize) {
    for mode in [BYTE, MESSAGE_READ_BY_BYTE, MESSAGE] {
        let (mut server, mut client) = foreign_server_of(4096 * scale as u32, mode, |path| {
            WinStream::connect(path).unwrap()
        });
        client
            .set_write_timeout(Some(Duration::from_millis(2)))
            .unwrap();
        let (mut sent, mut received) = (0, Vec::new());
        for round in 0..50 {
            sent = write_until_refused(&mut client, sent, 3001 * scale);
            // Now less than one write, now more.
            let mut buf = vec![0; (2500 + round * 70) * scale];
            let count = match server.read(&mut buf) {
                Ok(count) => count,
                // The buffer is full, which std takes for an error.
                Err(error) if error.raw_os_error() == Some(234) => buf.len(),
                Err(error) => panic!("{error}"),
            };
            received.extend_from_slice(&buf[..count]);
        }
        drop(client);
        set_read_mode(&server, PIPE_READMODE_BYTE);
        server.read_to_end(&mut received).unwrap();
        assert_eq!(received.len(), sent);
        assert!(received == text(0, sent));
    }
}

#[test]
fn a_refused_write_to_a_foreign_pipe_is_exact() {
    within(LIMIT, || refused_writes_to_a_foreign_pipe(1));
}

#[test]
fn a_refused_write_to_a_foreign_pipe_with_buffers_of_1_mib_is_exact() {
    within(LIMIT, || refused_writes_to_a_foreign_pipe(256));
}

#[test]
fn a_refused_write_to_a_foreign_client_that_reads_by_byte_is_exact() {
    within(LIMIT, || {
        for scale in [1, 16] {
            let path = fresh_path();
            let listener = ListenOptions::new()
                .outbound_buffer(65_536 * scale)
                .bind(&path)
                .unwrap();
            let mut client = foreign_client(&path);
            let (mut server, _) = listener.accept().unwrap();
            server
                .set_write_timeout(Some(Duration::from_millis(2)))
                .unwrap();
            let (mut sent, mut received) = (0, Vec::new());
            for round in 0..50 {
                sent = write_until_refused(&mut server, sent, 40_000 * scale);
                let mut buf = vec![0; (30_000 + round * 1000) * scale];
                let count = client.read(&mut buf).unwrap();
                received.extend_from_slice(&buf[..count]);
            }
            drop(server);
            client.read_to_end(&mut received).unwrap();
            assert_eq!(received.len(), sent);
            assert!(received == text(0, sent));
        }
    });
}

#[test]
fn shutdown_write_is_unsupported_where_the_pipe_cannot_carry_it() {
    within(LIMIT, || {
        let (mut server, mut client) =
            foreign_server(BYTE, |path| WinStream::connect(path).unwrap());
        let error = client.shutdown(Shutdown::Write).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        // Nothing has changed.
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
        server.write_all(b"y").unwrap();
        client.read_exact(&mut [0]).unwrap();
        // `Both` ends what this end does, and says that the peer won't see it yet.
        thread::scope(|scope| {
            let reader = scope.spawn(|| (&client).read(&mut [0]));
            thread::sleep(A_WHILE);
            let error = client.shutdown(Shutdown::Both).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert_eq!(reader.join().unwrap().unwrap(), 0);
        });
        assert_eq!(
            client.write(b"x").unwrap_err().kind(),
            ErrorKind::BrokenPipe
        );
        let (_server, client) = foreign_server(BYTE, |path| WinStream::connect(path).unwrap());
        client.shutdown(Shutdown::Read).unwrap();
        assert_eq!((&client).read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn shutdown_write_reaches_foreign_peers_that_keep_messages() {
    within(LIMIT, || {
        // An empty read is what such peers know as the end, if they know any.
        let (mut server, client) =
            foreign_server(MESSAGE, |path| WinStream::connect(path).unwrap());
        (&client).write_all(b"x").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut buf = [0; 8];
        assert_eq!(server.read(&mut buf).unwrap(), 1);
        assert_eq!(server.read(&mut buf).unwrap(), 0);
        server.write_all(b"late").unwrap();
        (&client).read_exact(&mut buf[..4]).unwrap();
        assert_eq!(&buf[..4], b"late");
    });
}

#[test]
fn a_foreign_client_that_reads_by_byte_is_served() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        let mut client = foreign_client(&path);
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"one").unwrap();
        client.write_all(b"two").unwrap();
        let mut buf = [0; 6];
        server.read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"onetwo");
        server.write_all(b"three").unwrap();
        server.write_all(b"four").unwrap();
        let mut answer = [0; 9];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"threefour");
        drop(client);
        assert_eq!(server.read(&mut buf).unwrap(), 0);
    });
}

#[test]
fn an_empty_message_of_a_foreign_peer_is_the_end_and_the_end_is_final() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        let mut client = foreign_client(&path);
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"x").unwrap();
        assert_eq!(client.write(&[]).unwrap(), 0);
        client.write_all(b"after the end").unwrap();
        let mut buf = [0; 64];
        assert_eq!(server.read(&mut buf).unwrap(), 1);
        for _ in 0..3 {
            assert_eq!(server.read(&mut buf).unwrap(), 0);
            assert_eq!(server.peek(&mut buf).unwrap(), 0);
        }
    });
}

#[test]
fn a_server_that_disconnects_is_the_end_for_reads_and_a_broken_pipe_for_writes() {
    within(LIMIT, || {
        let (server, mut client) =
            foreign_server(MESSAGE, |path| WinStream::connect(path).unwrap());
        thread::scope(|scope| {
            let reader = scope.spawn(|| (&client).read(&mut [0]));
            thread::sleep(A_WHILE);
            // SAFETY: the handle is open.
            unsafe { DisconnectNamedPipe(server.as_raw_handle()) };
            assert_eq!(reader.join().unwrap().unwrap(), 0);
        });
        assert_eq!(
            client.write(b"x").unwrap_err().kind(),
            ErrorKind::BrokenPipe
        );
        assert_eq!(client.peek(&mut [0]).unwrap(), 0);
        assert_eq!(client.drain().unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}
