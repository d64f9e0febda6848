//! What only Windows has: the rest of the API, foreign pipes, bad input, peers that are killed.

#![cfg(windows)]

mod common;

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::windows::ffi::OsStringExt;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::{
    AsHandle, AsRawHandle, BorrowedHandle, FromRawHandle, IntoRawHandle, OwnedHandle, RawHandle,
};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use common::{
    LIMIT, connection, connections, fresh_path, skips_under_wine, spawn_child, text, within,
};
use windows_sys::Win32::Foundation::{
    DuplicateHandle, GetHandleInformation, HANDLE_FLAG_INHERIT, INVALID_HANDLE_VALUE,
};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_FLAG_FIRST_PIPE_INSTANCE, FILE_FLAG_OVERLAPPED, FILE_GENERIC_READ, FILE_WRITE_DATA,
    PIPE_ACCESS_DUPLEX, PIPE_ACCESS_INBOUND, PIPE_ACCESS_OUTBOUND,
};
use windows_sys::Win32::System::Pipes::{
    ConnectNamedPipe, CreateNamedPipeW, CreatePipe, DisconnectNamedPipe, PIPE_NOWAIT,
    PIPE_READMODE_BYTE, PIPE_READMODE_MESSAGE, PIPE_TYPE_BYTE, PIPE_TYPE_MESSAGE,
    SetNamedPipeHandleState, WaitNamedPipeW,
};
use windows_sys::Win32::System::Threading::{CreateEventW, GetCurrentProcess};
use winpipe::{WinListener, WinPipeSocketAddr, WinStream};

/// How long a thing that's said to happen at once may take on a busy machine.
const AT_ONCE: Duration = Duration::from_millis(700);

/// How long to let another thread get to where it waits. Where it's late the test tells less, and
/// still passes.
const A_WHILE: Duration = Duration::from_millis(50);

// Foreign pipes, made with the plain calls

fn wide(path: &Path) -> Vec<u16> {
    path.to_str().unwrap().encode_utf16().chain([0]).collect()
}

/// A pipe as another program would make it: `mode` is its type and read mode.
fn foreign_instance(path: &Path, open: u32, mode: u32, limit: u32) -> io::Result<OwnedHandle> {
    let path = wide(path);
    let open = match open & PIPE_ACCESS_DUPLEX {
        0 => PIPE_ACCESS_DUPLEX | open,
        _ => open,
    };
    // SAFETY: the path ends with a NUL; no attributes.
    unsafe {
        let handle = CreateNamedPipeW(
            path.as_ptr(),
            open,
            mode,
            limit,
            4096,
            4096,
            0,
            std::ptr::null(),
        );
        match handle {
            INVALID_HANDLE_VALUE => Err(io::Error::last_os_error()),
            handle => Ok(OwnedHandle::from_raw_handle(handle)),
        }
    }
}

/// The server's end, synchronous, of a foreign pipe that `client` connects to.
fn foreign_server<T>(mode: u32, client: impl FnOnce(&Path) -> T) -> (File, T) {
    let path = fresh_path();
    let handle = foreign_instance(&path, 0, mode, 1).unwrap();
    let client = client(&path);
    // SAFETY: the handle is open and synchronous. The client is there already, so that is all the
    // call finds out.
    unsafe { ConnectNamedPipe(handle.as_raw_handle(), std::ptr::null_mut()) };
    (File::from(handle), client)
}

/// The client's end, synchronous, as another program would open it: reading by byte.
fn foreign_client(path: &Path) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap()
}

fn set_read_mode(handle: &impl AsRawHandle, mode: u32) {
    // SAFETY: the handle is borrowed, and `mode` is read before the call returns.
    let ok = unsafe {
        SetNamedPipeHandleState(
            handle.as_raw_handle(),
            &mode,
            std::ptr::null(),
            std::ptr::null(),
        )
    };
    assert_ne!(ok, 0, "{}", io::Error::last_os_error());
}

const BYTE: u32 = PIPE_TYPE_BYTE | PIPE_READMODE_BYTE;
const MESSAGE_READ_BY_BYTE: u32 = PIPE_TYPE_MESSAGE | PIPE_READMODE_BYTE;
const MESSAGE: u32 = PIPE_TYPE_MESSAGE | PIPE_READMODE_MESSAGE;

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

#[test]
fn a_refused_write_to_a_foreign_pipe_is_exact() {
    within(LIMIT, || {
        for mode in [BYTE, MESSAGE_READ_BY_BYTE, MESSAGE] {
            let (mut server, mut client) =
                foreign_server(mode, |path| WinStream::connect(path).unwrap());
            client
                .set_write_timeout(Some(Duration::from_millis(2)))
                .unwrap();
            let (mut sent, mut received) = (0, Vec::new());
            for round in 0..50 {
                let error = loop {
                    match client.write(&text(sent, 3001)) {
                        Ok(count) => sent += count,
                        Err(error) => break error,
                    }
                };
                assert_eq!(error.kind(), ErrorKind::TimedOut);
                // Now less than one write, now more.
                let mut buf = vec![0; 2500 + round * 70];
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
            assert_eq!(received, text(0, sent));
        }
    });
}

#[test]
fn a_refused_write_to_a_foreign_client_that_reads_by_byte_is_exact() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        let mut client = foreign_client(&path);
        let (mut server, _) = listener.accept().unwrap();
        server
            .set_write_timeout(Some(Duration::from_millis(2)))
            .unwrap();
        let (mut sent, mut received) = (0, Vec::new());
        for round in 0..50 {
            let error = loop {
                match server.write(&text(sent, 40_000)) {
                    Ok(count) => sent += count,
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            let mut buf = vec![0; 30_000 + round * 1000];
            let count = client.read(&mut buf).unwrap();
            received.extend_from_slice(&buf[..count]);
        }
        drop(server);
        client.read_to_end(&mut received).unwrap();
        assert_eq!(received.len(), sent);
        assert!(received == text(0, sent));
    });
}

#[test]
fn a_read_of_nothing_takes_no_data_whether_it_waits_or_not() {
    // What `peek` waits by. That it tells data from the mark of the end is known of reads that wait;
    // of others only that it takes no data.
    within(LIMIT, || {
        let path = fresh_path();
        let server = foreign_instance(&path, 0, MESSAGE, 1).unwrap();
        let client = foreign_client(&path);
        set_read_mode(&client, PIPE_READMODE_MESSAGE);
        let mut server = File::from(server);
        server.write_all(b"hello").unwrap();
        let _ = (&client).read(&mut []);
        thread::scope(|scope| {
            let mut buf = [0; 8];
            assert_eq!((&client).read(&mut buf).unwrap(), 5);
            let waiting = scope.spawn(|| {
                (&client)
                    .read(&mut [])
                    .map_err(|error| error.raw_os_error())
            });
            thread::sleep(A_WHILE);
            server.write_all(b"world").unwrap();
            assert_eq!(
                waiting.join().unwrap(),
                Err(Some(234)),
                "data is more than fits"
            );
            assert_eq!((&client).read(&mut buf).unwrap(), 5);
            let waiting = scope.spawn(|| {
                (&client)
                    .read(&mut [])
                    .map_err(|error| error.raw_os_error())
            });
            thread::sleep(A_WHILE);
            assert_eq!(server.write(&[]).unwrap(), 0);
            assert_eq!(waiting.join().unwrap(), Ok(0), "the mark of the end isn't");
        });
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

// Handles

#[test]
fn a_stream_goes_through_its_handle_and_back() {
    within(LIMIT, || {
        for (one, mut other) in connections() {
            let raw: RawHandle = one.as_raw_handle();
            assert_eq!(one.as_handle().as_raw_handle(), raw);
            let owned = OwnedHandle::from(one);
            assert_eq!(owned.as_raw_handle(), raw);
            let one = WinStream::from(owned);
            let raw = one.into_raw_handle();
            // SAFETY: the handle was just given away, by a stream.
            let mut one = unsafe { WinStream::from_raw_handle(raw) };

            one.write_all(&text(0, 60_000)).unwrap();
            one.shutdown(Shutdown::Write).unwrap();
            let mut bytes = Vec::new();
            other.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes, text(0, 60_000));
            other.write_all(b"answer").unwrap();
            other.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            one.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "answer");
            assert!(one.peer_addr().unwrap().is_unnamed());
        }
    });
}

#[test]
fn adopted_foreign_ends_work_whatever_mode_they_were_left_in() {
    within(LIMIT, || {
        for mode in [BYTE, MESSAGE_READ_BY_BYTE, MESSAGE] {
            let path = fresh_path();
            let server = foreign_instance(&path, FILE_FLAG_OVERLAPPED, mode, 1).unwrap();
            let mut client = WinStream::connect(&path).unwrap();
            let mut server = WinStream::from(server);
            client.write_all(b"hello").unwrap();
            let mut buf = [0; 5];
            server.read_exact(&mut buf).unwrap();
            assert_eq!(&buf, b"hello");
            server.write_all(&text(0, 3000)).unwrap();
            if mode != BYTE {
                server.shutdown(Shutdown::Write).unwrap();
            }
            client.read_exact(&mut [0; 3000]).unwrap();
            drop(server);
            assert_eq!(client.read(&mut buf).unwrap(), 0);
        }
    });
}

#[test]
fn an_adopted_end_that_nobody_has_connected_to_says_so() {
    within(LIMIT, || {
        let path = fresh_path();
        let server = foreign_instance(&path, FILE_FLAG_OVERLAPPED, MESSAGE, 1).unwrap();
        let mut server = WinStream::from(server);
        let mut buf = [0];
        assert_eq!(
            server.read(&mut buf).unwrap_err().kind(),
            ErrorKind::NotConnected
        );
        assert_eq!(
            server.peek(&mut buf).unwrap_err().kind(),
            ErrorKind::NotConnected
        );
        assert_eq!(
            server.write(&buf).unwrap_err().kind(),
            ErrorKind::NotConnected
        );
    });
}

/// A client's end that may read and write, but not change how it reads, as another program may have
/// opened it. It reads by byte.
fn fixed_client(path: &Path) -> OwnedHandle {
    OpenOptions::new()
        .access_mode(FILE_GENERIC_READ | FILE_WRITE_DATA)
        .custom_flags(FILE_FLAG_OVERLAPPED)
        .open(path)
        .unwrap()
        .into()
}

#[test]
fn a_peek_of_an_end_that_can_only_be_read_by_byte_sees_data_and_the_end() {
    within(LIMIT, || {
        // Whether the peek waits before something comes, or comes after it.
        for wait in [Duration::ZERO, A_WHILE] {
            let path = fresh_path();
            let listener = WinListener::bind(&path).unwrap();
            let mut client = WinStream::from(fixed_client(&path));
            let mut server = listener.accept().unwrap().0;
            let peek = |client: &WinStream, come: &mut dyn FnMut()| {
                thread::scope(|scope| {
                    if wait.is_zero() {
                        come();
                    }
                    let peek = scope.spawn(|| client.peek(&mut [0; 8]).unwrap());
                    if !wait.is_zero() {
                        thread::sleep(wait);
                        come();
                    }
                    peek.join().unwrap()
                })
            };
            let count = peek(&client, &mut || server.write_all(b"hello").unwrap());
            assert_eq!(count, 5);
            client.read_exact(&mut [0; 5]).unwrap();
            let count = peek(&client, &mut || server.shutdown(Shutdown::Write).unwrap());
            assert_eq!(count, 0);
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
            client.write_all(b"answer").unwrap();
            server.read_exact(&mut [0; 6]).unwrap();
        }
    });
}

/// A client's end that was set not to wait.
fn impatient_client(path: &Path) -> OwnedHandle {
    let mut client = OpenOptions::new();
    client.read(true).write(true);
    let client = client.custom_flags(FILE_FLAG_OVERLAPPED).open(path);
    let client = client.unwrap();
    set_read_mode(&client, PIPE_READMODE_BYTE | PIPE_NOWAIT);
    client.into()
}

#[test]
fn an_adopted_end_that_does_not_wait_is_made_to() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        let mut client = WinStream::from(impatient_client(&path));
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"hello").unwrap();
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 5);
        client
            .set_read_timeout(Some(Duration::from_millis(1)))
            .unwrap();
        let error = client.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn an_adopted_end_that_cannot_be_made_to_wait_is_invalid_input() {
    if skips_under_wine(
        "an_adopted_end_that_cannot_be_made_to_wait_is_invalid_input",
        |_| true,
        "lets any handle change how its end is read",
    ) {
        return;
    }
    within(LIMIT, || {
        let path = fresh_path();
        let _listener = WinListener::bind(&path).unwrap();
        let client = impatient_client(&path);
        let mut fixed = std::ptr::null_mut();
        // SAFETY: the handles of this process and of the client are open, and `fixed` is a place for
        // the new one.
        let fixed = unsafe {
            let (this, rights) = (GetCurrentProcess(), FILE_GENERIC_READ | FILE_WRITE_DATA);
            let client = client.as_raw_handle();
            let ok = DuplicateHandle(this, client, this, &mut fixed, rights, 0, 0);
            assert_ne!(ok, 0, "{}", io::Error::last_os_error());
            OwnedHandle::from_raw_handle(fixed)
        };
        let mut client = WinStream::from(fixed);
        for _ in 0..2 {
            for error in [
                client.read(&mut [0; 8]).unwrap_err(),
                client.peek(&mut [0; 8]).unwrap_err(),
                client.write(b"x").unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
                assert!(error.to_string().contains("PIPE_NOWAIT"), "{error}");
            }
        }
    });
}

#[test]
fn an_adopted_client_whose_server_has_disconnected_is_at_its_end() {
    within(LIMIT, || {
        for mode in [BYTE, MESSAGE] {
            let path = fresh_path();
            let server = foreign_instance(&path, 0, mode, 1).unwrap();
            let mut client = WinStream::from(fixed_client(&path));
            // SAFETY: the handle is open.
            assert_ne!(unsafe { DisconnectNamedPipe(server.as_raw_handle()) }, 0);
            assert_eq!(client.peek(&mut [0; 8]).unwrap(), 0);
            assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
            let error = client.write(b"x").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            client.shutdown(Shutdown::Write).unwrap();
        }
    });
}

#[test]
fn an_end_that_goes_one_way_is_permission_denied_the_other_way() {
    within(LIMIT, || {
        let denied = |result: io::Result<()>| {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
            error.to_string()
        };
        let path = fresh_path();
        let open = FILE_FLAG_OVERLAPPED | PIPE_ACCESS_INBOUND;
        let server = foreign_instance(&path, open, MESSAGE, 1).unwrap();
        let mut client = OpenOptions::new().write(true).open(&path).unwrap();
        let mut server = WinStream::from(server);
        client.write_all(b"hello").unwrap();
        server.read_exact(&mut [0; 5]).unwrap();
        denied(server.write(b"x").map(drop));
        // The error stays: the peer has seen no end.
        for _ in 0..2 {
            denied(server.shutdown(Shutdown::Write));
        }
        drop(client);
        assert_eq!(server.read(&mut [0]).unwrap(), 0);

        // Such a handle doesn't let the pipe's type and quota be asked for.
        let path = fresh_path();
        let open = FILE_FLAG_OVERLAPPED | PIPE_ACCESS_OUTBOUND;
        let server = foreign_instance(&path, open, MESSAGE, 1).unwrap();
        let _client = OpenOptions::new().read(true).open(&path).unwrap();
        let mut server = WinStream::from(server);
        for error in [
            denied(server.write(b"x").map(drop)),
            denied(server.read(&mut [0]).map(drop)),
            denied(server.shutdown(Shutdown::Write)),
        ] {
            assert!(error.contains("FILE_READ_ATTRIBUTES"), "{error}");
        }
    });
}

#[test]
fn settings_shutdown_and_the_end_do_not_go_through_a_handle() {
    within(LIMIT, || {
        let (one, mut other) = connection();
        one.set_read_timeout(Some(Duration::from_secs(7))).unwrap();
        one.set_nonblocking(true).unwrap();
        one.shutdown(Shutdown::Read).unwrap();
        let one = WinStream::from(OwnedHandle::from(one));
        assert_eq!(one.read_timeout().unwrap(), None);
        other.write_all(b"x").unwrap();
        assert_eq!((&one).read(&mut [0; 8]).unwrap(), 1);
        other.shutdown(Shutdown::Write).unwrap();
        assert_eq!((&one).read(&mut [0; 8]).unwrap(), 0);
        // The mark of the end has been read, and is known to the stream that read it alone.
        let one = WinStream::from(OwnedHandle::from(one));
        one.set_nonblocking(true).unwrap();
        let error = (&one).read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn a_write_that_waits_goes_on_after_the_peers_shutdown_and_ends_with_its_drop() {
    within(LIMIT, || {
        let (one, other) = connection();
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut one = &one;
                one.write_all(&[0; 1 << 20]).unwrap_err().kind()
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

#[test]
fn what_one_call_writes_is_not_interrupted_by_other_calls() {
    within(LIMIT, || {
        const QUOTA: usize = 32 << 10;
        let path = fresh_path();
        let mut options = WinListener::options();
        let listener = options.inbound_buffer(QUOTA).bind(&path).unwrap();
        let client = WinStream::connect(&path).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        // Refused writes are halved, which is where others could come between.
        client.set_nonblocking(true).unwrap();
        let written = thread::scope(|scope| {
            let writers: Vec<_> = (0..3_u32)
                .map(|writer| {
                    let client = &client;
                    scope.spawn(move || {
                        let mut written = Vec::new();
                        while written.len() < 300 {
                            // What a call writes is its number, again and again.
                            let call = writer * 1000 + written.len() as u32;
                            let bytes: Vec<u8> =
                                call.to_le_bytes().into_iter().cycle().take(QUOTA).collect();
                            let (one, two) = bytes.split_at((QUOTA / 3) & !3);
                            let count = match call % 2 {
                                0 => (&*client).write(&bytes),
                                _ => (&*client)
                                    .write_vectored(&[IoSlice::new(one), IoSlice::new(two)]),
                            };
                            match count {
                                Ok(count) => written.push((call, count)),
                                Err(error) => {
                                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                                    thread::yield_now();
                                }
                            }
                        }
                        written
                    })
                })
                .collect();
            let reader = scope.spawn(move || {
                let mut bytes = Vec::new();
                let mut buf = vec![0; 24_000];
                loop {
                    match server.read(&mut buf).unwrap() {
                        0 => break bytes,
                        count => bytes.extend_from_slice(&buf[..count]),
                    }
                }
            });
            let written: Vec<_> = writers
                .into_iter()
                .flat_map(|writer| writer.join().unwrap())
                .collect();
            client.shutdown(Shutdown::Write).unwrap();
            let bytes = reader.join().unwrap();
            // One run for each call, of all that it wrote.
            let mut rest = &bytes[..];
            let mut left: std::collections::HashMap<_, _> = written.into_iter().collect();
            while let Some(call) = rest.first_chunk() {
                let call = u32::from_le_bytes(*call);
                let count = left.remove(&call).expect("a call that is interrupted");
                let run = rest[..count].chunks(4);
                assert!({ run }.all(|chunk| chunk == call.to_le_bytes()));
                rest = &rest[count..];
            }
            left.len()
        });
        assert_eq!(written, 0);
    });
}

/// Every call on a stream made of this handle fails, and says what is wrong.
fn assert_unusable(handle: OwnedHandle, what: &str) {
    let mut stream = WinStream::from(handle);
    let mut buf = [0; 8];
    for _ in 0..2 {
        for error in [
            stream.read(&mut buf).unwrap_err(),
            stream.peek(&mut buf).unwrap_err(),
            stream.write(b"x").unwrap_err(),
            stream
                .write_vectored(&[IoSlice::new(b"x"), IoSlice::new(b"y")])
                .unwrap_err(),
            stream.shutdown(Shutdown::Both).unwrap_err(),
            stream.drain().unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{what}: {error}");
            assert!(
                error.to_string().contains("FILE_FLAG_OVERLAPPED"),
                "{what}: {error}"
            );
        }
    }
}

#[test]
fn a_handle_that_is_not_a_pipe_is_a_clear_error() {
    within(LIMIT, || {
        let exe = std::env::current_exe().unwrap();
        assert_unusable(File::open(&exe).unwrap().into(), "a file");

        let mut overlapped = OpenOptions::new();
        overlapped.read(true).custom_flags(FILE_FLAG_OVERLAPPED);
        assert_unusable(overlapped.open(&exe).unwrap().into(), "an overlapped file");

        // SAFETY: no attributes, no name; the handle is new.
        let event = unsafe {
            let event = CreateEventW(std::ptr::null(), 1, 0, std::ptr::null());
            OwnedHandle::from_raw_handle(event)
        };
        assert_unusable(event, "an event");
    });
}

#[test]
fn a_synchronous_pipe_is_a_clear_error_and_not_a_hang() {
    within(LIMIT, || {
        let (mut read, mut write) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: two places for handles; both are new.
        let (read, write) = unsafe {
            assert_ne!(CreatePipe(&mut read, &mut write, std::ptr::null(), 0), 0);
            (
                OwnedHandle::from_raw_handle(read),
                OwnedHandle::from_raw_handle(write),
            )
        };
        assert_unusable(read, "an anonymous pipe's reading end");
        assert_unusable(write, "an anonymous pipe's writing end");

        let path = fresh_path();
        let _listener = WinListener::bind(&path).unwrap();
        assert_unusable(foreign_client(&path).into(), "a synchronous client");
    });
}

#[test]
fn no_handle_is_inheritable() {
    within(LIMIT, || {
        let (client, server) = connection();
        let (one, other) = WinStream::pair().unwrap();
        let clone = one.try_clone().unwrap();
        for stream in [&client, &server, &one, &other, &clone] {
            let mut flags = 0;
            // SAFETY: the handle is open, and `flags` is a place for a number.
            let ok = unsafe { GetHandleInformation(stream.as_raw_handle(), &mut flags) };
            assert_ne!(ok, 0);
            assert_eq!(flags & HANDLE_FLAG_INHERIT, 0);
        }
    });
}

// Settings that change while a call waits

#[test]
fn a_changed_timeout_wakes_a_waiting_read_which_follows_it() {
    within(LIMIT, || {
        for (one, _other) in connections() {
            for before in [None, Some(Duration::from_secs(3600)), Some(Duration::MAX)] {
                one.set_read_timeout(before).unwrap();
                let clone = one.try_clone().unwrap();
                thread::scope(|scope| {
                    let reader = scope.spawn(move || (&clone).read(&mut [0]));
                    thread::sleep(A_WHILE);
                    let start = Instant::now();
                    one.set_read_timeout(Some(Duration::from_millis(100)))
                        .unwrap();
                    let error = reader.join().unwrap().unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::TimedOut);
                    assert!(start.elapsed() >= Duration::from_millis(40));
                    assert!(start.elapsed() < AT_ONCE);
                });
            }
        }
    });
}

#[test]
fn a_longer_timeout_keeps_a_waiting_read_waiting() {
    within(LIMIT, || {
        for (one, mut other) in connections() {
            one.set_read_timeout(Some(Duration::from_millis(200)))
                .unwrap();
            let clone = one.try_clone().unwrap();
            thread::scope(|scope| {
                let reader = scope.spawn(move || (&clone).read(&mut [0]));
                thread::sleep(A_WHILE);
                one.set_read_timeout(None).unwrap();
                // Settings of the other direction, and the same again, are no reason to stop.
                one.set_write_timeout(Some(Duration::from_millis(1)))
                    .unwrap();
                one.set_read_timeout(None).unwrap();
                one.set_nonblocking(false).unwrap();
                thread::sleep(Duration::from_millis(300));
                assert!(!reader.is_finished());
                other.write_all(b"x").unwrap();
                assert_eq!(reader.join().unwrap().unwrap(), 1);
            });
        }
    });
}

#[test]
fn a_changed_timeout_wakes_a_waiting_write_which_follows_it() {
    within(LIMIT, || {
        for (one, mut other) in connections() {
            let clone = one.try_clone().unwrap();
            let sent = thread::scope(|scope| {
                let writer = scope.spawn(move || {
                    let mut sent = 0;
                    loop {
                        match (&clone).write(&text(sent, 50_000)) {
                            Ok(count) => sent += count,
                            Err(error) => return (sent, error.kind()),
                        }
                    }
                });
                thread::sleep(A_WHILE);
                one.set_write_timeout(Some(Duration::from_millis(10)))
                    .unwrap();
                let (sent, kind) = writer.join().unwrap();
                assert_eq!(kind, ErrorKind::TimedOut);
                sent
            });
            drop(one);
            let mut bytes = Vec::new();
            other.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes, text(0, sent));
        }
    });
}

#[test]
fn nonblocking_on_one_clone_ends_what_waits_on_another() {
    within(LIMIT, || {
        for (one, _other) in connections() {
            let (reader, peeker, writer) = (
                one.try_clone().unwrap(),
                one.try_clone().unwrap(),
                one.try_clone().unwrap(),
            );
            thread::scope(|scope| {
                let waiting = [
                    scope.spawn(move || (&reader).read(&mut [0]).map(|_| ())),
                    scope.spawn(move || peeker.peek(&mut [0]).map(|_| ())),
                    scope.spawn(move || {
                        loop {
                            (&writer).write_all(&[0; 50_000])?;
                        }
                    }),
                ];
                thread::sleep(A_WHILE);
                let start = Instant::now();
                one.set_nonblocking(true).unwrap();
                for call in waiting {
                    let error = call.join().unwrap().unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                }
                assert!(start.elapsed() < AT_ONCE);
            });
        }
    });
}

#[test]
fn settings_change_thousands_of_times_under_a_waiting_read() {
    within(LIMIT, || {
        for (one, mut other) in connections() {
            thread::scope(|scope| {
                let reader = scope.spawn(|| {
                    let mut bytes = [0; 2000];
                    (&one).read_exact(&mut bytes).unwrap();
                    assert_eq!(bytes[..], text(0, 2000));
                });
                for place in 0..2000 {
                    let timeout = Duration::from_secs(1000 + place as u64);
                    one.set_read_timeout(Some(timeout)).unwrap();
                    other.write_all(&text(place, 1)).unwrap();
                }
                reader.join().unwrap();
            });
        }
    });
}

#[test]
fn timeouts_are_read_back_to_the_nanosecond() {
    let (one, _other) = connection();
    for timeout in [
        Duration::from_nanos(1),
        Duration::new(1, 234_567_891),
        Duration::MAX,
    ] {
        one.set_read_timeout(Some(timeout)).unwrap();
        one.set_write_timeout(Some(timeout)).unwrap();
        assert_eq!(one.read_timeout().unwrap(), Some(timeout));
        assert_eq!(one.write_timeout().unwrap(), Some(timeout));
    }
}

#[test]
fn nonblocking_ends_every_waiting_accept() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        thread::scope(|scope| {
            let waiting: Vec<_> = (0..3)
                .map(|_| {
                    let clone = listener.try_clone().unwrap();
                    scope.spawn(move || clone.accept().map(drop))
                })
                .collect();
            thread::sleep(A_WHILE);
            let start = Instant::now();
            listener.set_nonblocking(true).unwrap();
            for call in waiting {
                assert_eq!(
                    call.join().unwrap().unwrap_err().kind(),
                    ErrorKind::WouldBlock
                );
            }
            assert!(start.elapsed() < AT_ONCE);
        });
        // Nobody was lost, and the order is kept.
        listener.set_nonblocking(false).unwrap();
        for number in 0..20 {
            let mut client = WinStream::connect(&path).unwrap();
            client.write_all(&[number]).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            let mut byte = [0];
            server.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [number]);
        }
    });
}

// The listener's end

#[test]
fn shutdown_aborts_waiting_and_later_accepts_on_every_clone() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        let clone = listener.try_clone().unwrap();
        thread::scope(|scope| {
            let waiting: Vec<_> = (0..3)
                .map(|_| {
                    let clone = listener.try_clone().unwrap();
                    scope.spawn(move || clone.accept().map(drop))
                })
                .collect();
            thread::sleep(A_WHILE);
            let start = Instant::now();
            listener.shutdown().unwrap();
            for call in waiting {
                assert_eq!(
                    call.join().unwrap().unwrap_err().kind(),
                    ErrorKind::ConnectionAborted
                );
            }
            assert!(start.elapsed() < AT_ONCE);
        });
        for listener in [&listener, &clone] {
            for _ in 0..2 {
                let error = listener.accept().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
            }
            let error = listener.incoming().next().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
        }
        listener.shutdown().unwrap();
        assert_eq!(
            WinStream::connect(&path).unwrap_err().kind(),
            ErrorKind::NotFound
        );
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
                let error = server.join().unwrap().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
            });
        }
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
fn a_second_bind_is_addr_in_use() {
    let name = "a_second_bind_is_addr_in_use";
    let ignored = |version: &str| version.starts_with("8.") || version.starts_with("9.");
    if skips_under_wine(name, ignored, "ignores FILE_CREATE for pipes") {
        return;
    }
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        let error = WinListener::bind(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}");
        // Nor may a foreign pipe be there, with one instance or several.
        for limit in [1, 255] {
            let path = fresh_path();
            let _foreign = foreign_instance(&path, 0, BYTE, limit).unwrap();
            let error = WinListener::bind(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}");
        }
        // The name is in use while an accepted stream lives.
        let client = WinStream::connect(&path).unwrap();
        let server = listener.accept().unwrap();
        drop(listener);
        assert_eq!(
            WinListener::bind(&path).unwrap_err().kind(),
            ErrorKind::AddrInUse
        );
        drop(server);
        WinListener::bind(&path).unwrap();
        drop(client);
    });
}

#[test]
fn nobody_can_make_himself_the_first_instance_of_our_pipe() {
    let name = "nobody_can_make_himself_the_first_instance_of_our_pipe";
    if skips_under_wine(name, |_| true, "ignores FILE_FLAG_FIRST_PIPE_INSTANCE") {
        return;
    }
    let path = fresh_path();
    let _listener = WinListener::bind(&path).unwrap();
    let error = foreign_instance(&path, FILE_FLAG_FIRST_PIPE_INSTANCE, BYTE, 255).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(5));
}

#[test]
fn a_dropped_listener_frees_its_name() {
    within(LIMIT, || {
        let path = fresh_path();
        for _ in 0..20 {
            let listener = WinListener::bind(&path).unwrap();
            let clone = listener.try_clone().unwrap();
            drop(listener);
            WinStream::connect(&path).unwrap();
            clone.accept().unwrap();
            drop(clone);
            assert_eq!(
                WinStream::connect(&path).unwrap_err().kind(),
                ErrorKind::NotFound
            );
        }
    });
}

#[test]
fn reject_remote_keeps_the_clients_that_have_come_and_those_that_come() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        let connect = |number: u8| {
            let mut client = WinStream::connect(&path).unwrap();
            client.write_all(&[number]).unwrap();
            client
        };
        let accept = |expected: u8| {
            let mut byte = [0];
            listener.accept().unwrap().0.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [expected]);
        };
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
            let error = listener.reject_remote(false).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ResourceBusy, "{error}");
        }
        // It listens as before.
        let mut client = WinStream::connect(&path).unwrap();
        client.write_all(b"x").unwrap();
        drop(streams);
        // Now it has a client, and isn't made anew.
        listener.reject_remote(false).unwrap();
        listener.accept().unwrap().0.read_exact(&mut [0]).unwrap();
        listener.shutdown().unwrap();
        let error = listener.reject_remote(true).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "{error}");
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

// Connecting

/// A server that has its only instance taken.
fn busy_server() -> (PathBuf, OwnedHandle, File) {
    let path = fresh_path();
    let instance = foreign_instance(&path, 0, BYTE, 1).unwrap();
    let client = foreign_client(&path);
    (path, instance, client)
}

#[test]
fn connect_to_a_busy_pipe_waits_and_is_then_refused() {
    within(LIMIT, || {
        let (path, _instance, _client) = busy_server();
        let start = Instant::now();
        let error = WinStream::connect(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
        let took = start.elapsed();
        assert!(
            Duration::from_millis(950) <= took && took < Duration::from_secs(3),
            "{took:?}"
        );

        let start = Instant::now();
        let error = WinStream::connect_with_timeout(&path, Duration::from_millis(100)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
        let took = start.elapsed();
        assert!(
            Duration::from_millis(80) <= took && took < Duration::from_secs(2),
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
            assert!(connected - freed < Duration::from_millis(300));
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
fn a_wait_for_a_busy_pipe_ends_when_the_pipe_is_gone() {
    let name = "a_wait_for_a_busy_pipe_ends_when_the_pipe_is_gone";
    if skips_under_wine(
        name,
        |_| true,
        "lets WaitNamedPipe wait for a name that is gone",
    ) {
        return;
    }
    within(LIMIT, || {
        let (path, instance, client) = busy_server();
        let path = wide(&path);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                // SAFETY: the path ends with a NUL.
                let ok = unsafe { WaitNamedPipeW(path.as_ptr(), 20_000) };
                (ok, io::Error::last_os_error().raw_os_error())
            });
            thread::sleep(A_WHILE);
            let start = Instant::now();
            drop((instance, client));
            assert_eq!(waiting.join().unwrap(), (0, Some(2)));
            assert!(start.elapsed() < AT_ONCE);
        });
    });
}

// Names

#[test]
fn a_busy_pipe_is_waited_for_by_every_spelling_of_its_name() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::options().backlog(1).bind(&path).unwrap();
        for more in [".", " ", ". ..", ""] {
            let spelling = PathBuf::from(format!("{}{more}", path.to_str().unwrap()));
            let _only = WinStream::connect(&spelling).unwrap();
            thread::scope(|scope| {
                let waiting = scope.spawn(|| WinStream::connect_with_timeout(&spelling, LIMIT));
                thread::sleep(A_WHILE);
                assert!(!waiting.is_finished());
                listener.accept().unwrap();
                waiting.join().unwrap().unwrap();
            });
            listener.accept().unwrap();
        }
    });
}

#[test]
fn every_spelling_of_a_path_leads_to_the_same_pipe() {
    within(LIMIT, || {
        let path = fresh_path();
        let name = path
            .to_str()
            .unwrap()
            .strip_prefix(r"\\.\pipe\")
            .unwrap()
            .to_owned();
        for bound in [format!(r"\\.\pipe\{name}"), format!("//./pipe/{name}")] {
            let listener = WinListener::bind(&bound).unwrap();
            assert_eq!(
                listener.local_addr().unwrap().as_pathname(),
                Some(Path::new(&bound))
            );
            for spelling in [
                format!(r"\\.\pipe\{name}"),
                format!("//./pipe/{name}"),
                format!(r"\\?\pipe\{name}"),
                format!(r"\\.\PIPE\{}", name.to_uppercase()),
            ] {
                let client = WinStream::connect(&spelling).unwrap();
                let peer = client.peer_addr().unwrap();
                assert_eq!(peer.as_pathname(), Some(Path::new(&spelling)));
                listener.accept().unwrap();
            }
        }
    });
}

#[test]
fn names_of_any_characters_work_with_foreign_programs_too() {
    within(LIMIT, || {
        let path = fresh_path();
        for more in [
            r"\inner\x",
            "-zürich-管道-🦀",
            "-<>*?|\"",
            " with spaces",
            "-a.b..c",
            "-dot.",
        ] {
            let path = PathBuf::from(format!("{}{more}", path.to_str().unwrap()));
            let listener = WinListener::bind(&path).unwrap();
            WinStream::connect(&path).unwrap().write_all(b"x").unwrap();
            listener.accept().unwrap().0.read_exact(&mut [0]).unwrap();
            drop(foreign_client(&path));
            listener.accept().unwrap();
        }
        let longest = PathBuf::from(format!("{:x<256}", path.to_str().unwrap()));
        let _listener = WinListener::bind(&longest).unwrap();
        WinStream::connect(&longest).unwrap();
    });
}

#[test]
fn a_path_that_names_no_pipe_is_invalid_input() {
    let surrogate: Vec<u16> = r"\\.\pipe\".encode_utf16().chain([0xd800]).collect();
    for path in [
        OsString::from(""),
        OsString::from("name"),
        OsString::from(r"..\pipe\name"),
        OsString::from(r"C:\pipe\name"),
        OsString::from(r"\\.\pipe\"),
        OsString::from("\\\\.\\pipe\\nul\0"),
        OsString::from(r"\\.\pipe\..\C:\Windows\win.ini"),
        OsString::from(format!(r"\\.\pipe\{:x<248}", "")),
        OsString::from_wide(&surrogate),
    ] {
        for error in [
            WinPipeSocketAddr::from_pathname(&path).unwrap_err(),
            WinStream::connect(&path).unwrap_err(),
            WinStream::connect_with_timeout(&path, LIMIT).unwrap_err(),
            WinListener::bind(&path).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{path:?}: {error}");
        }
    }
}

#[test]
fn a_host_is_connected_to_or_an_error_and_never_bound() {
    // Asking the network for a host that isn't there takes Windows a while.
    within(LIMIT * 2, || {
        for host in ["winpipe-no-such-host.invalid", "kein-wirt-größe"] {
            let path = format!(r"\\{host}\pipe\winpipe-test");
            let error = WinStream::connect(&path).unwrap_err();
            assert_ne!(error.kind(), ErrorKind::InvalidInput, "{error}");
            let error = WinListener::bind(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            assert!(error.to_string().contains(host), "{error}");
        }
    });
}

#[test]
fn an_unnamed_address_leads_nowhere() {
    let (one, _other) = WinStream::pair().unwrap();
    let unnamed = one.local_addr().unwrap();
    for error in [
        WinStream::connect_addr(&unnamed).unwrap_err(),
        WinListener::bind_addr(&unnamed).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
}

// Peek, drain, buffers

#[test]
fn peek_shows_bytes_without_taking_them() {
    within(LIMIT, || {
        for (mut one, mut other) in connections() {
            other.write_all(b"hello").unwrap();
            for _ in 0..2 {
                let mut buf = [0; 8];
                assert_eq!(one.peek(&mut buf[..2]).unwrap(), 2);
                assert_eq!(&buf[..2], b"he");
                assert_eq!(one.peek(&mut buf).unwrap(), 5);
                assert_eq!(&buf[..5], b"hello");
                assert_eq!(one.peek(&mut []).unwrap(), 0);
            }
            let mut buf = [0; 8];
            assert_eq!(one.read(&mut buf[..3]).unwrap(), 3);
            assert_eq!(one.peek(&mut buf).unwrap(), 2);
            assert_eq!(&buf[..2], b"lo");
            one.read_exact(&mut buf[..2]).unwrap();

            one.set_nonblocking(true).unwrap();
            assert_eq!(
                one.peek(&mut buf).unwrap_err().kind(),
                ErrorKind::WouldBlock
            );
            one.set_nonblocking(false).unwrap();
            one.set_read_timeout(Some(Duration::from_millis(10)))
                .unwrap();
            assert_eq!(one.peek(&mut buf).unwrap_err().kind(), ErrorKind::TimedOut);
            one.set_read_timeout(None).unwrap();

            other.write_all(b"last").unwrap();
            other.shutdown(Shutdown::Write).unwrap();
            assert_eq!(one.peek(&mut buf).unwrap(), 4);
            one.read_exact(&mut buf[..4]).unwrap();
            for _ in 0..2 {
                assert_eq!(one.peek(&mut buf).unwrap(), 0);
                assert_eq!(one.read(&mut buf).unwrap(), 0);
            }
        }
    });
}

#[test]
fn a_waiting_peek_ends_with_bytes_with_the_end_and_with_shutdown() {
    within(LIMIT, || {
        for (one, mut other) in connections() {
            let peek_during = |action: &mut dyn FnMut()| {
                thread::scope(|scope| {
                    let waiting = scope.spawn(|| one.peek(&mut [0; 8]).unwrap());
                    thread::sleep(A_WHILE);
                    action();
                    waiting.join().unwrap()
                })
            };
            assert_eq!(peek_during(&mut || other.write_all(b"hello").unwrap()), 5);
            (&one).read_exact(&mut [0; 5]).unwrap();
            assert_eq!(
                peek_during(&mut || other.shutdown(Shutdown::Write).unwrap()),
                0
            );
            assert_eq!((&one).read(&mut [0]).unwrap(), 0);
        }
        for (one, other) in connections() {
            thread::scope(|scope| {
                let waiting = scope.spawn(|| one.peek(&mut [0; 8]).unwrap());
                thread::sleep(A_WHILE);
                one.shutdown(Shutdown::Read).unwrap();
                assert_eq!(waiting.join().unwrap(), 0);
            });
            drop(other);
        }
    });
}

#[test]
fn peeks_and_reads_of_several_threads_lose_nothing() {
    within(LIMIT, || {
        for (one, mut other) in connections() {
            thread::scope(|scope| {
                let peeker = scope.spawn(|| while one.peek(&mut [0; 100]).unwrap() > 0 {});
                let reader = scope.spawn(|| {
                    let mut bytes = Vec::new();
                    (&one).read_to_end(&mut bytes).unwrap();
                    bytes
                });
                for place in (0..100_000).step_by(50) {
                    other.write_all(&text(place, 50)).unwrap();
                }
                other.shutdown(Shutdown::Write).unwrap();
                assert_eq!(reader.join().unwrap(), text(0, 100_000));
                peeker.join().unwrap();
            });
        }
    });
}

#[test]
fn drain_waits_until_the_peer_has_read_everything() {
    within(LIMIT, || {
        for (mut one, mut other) in connections() {
            one.drain().unwrap();
            one.write_all(&text(0, 1000)).unwrap();
            one.write_all(&text(1000, 1000)).unwrap();
            thread::scope(|scope| {
                let draining = scope.spawn(|| one.drain());
                other.read_exact(&mut [0; 1999]).unwrap();
                thread::sleep(A_WHILE);
                assert!(!draining.is_finished());
                other.read_exact(&mut [0]).unwrap();
                draining.join().unwrap().unwrap();
            });
        }
    });
}

#[test]
fn drain_is_a_broken_pipe_when_the_peer_is_gone() {
    within(LIMIT, || {
        for (mut one, other) in connections() {
            one.write_all(b"unread").unwrap();
            drop(other);
            assert_eq!(one.drain().unwrap_err().kind(), ErrorKind::BrokenPipe);
        }
        for (mut one, other) in connections() {
            one.write_all(b"unread").unwrap();
            thread::scope(|scope| {
                let draining = scope.spawn(|| one.drain());
                thread::sleep(A_WHILE);
                drop(other);
                let error = draining.join().unwrap().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            });
        }
    });
}

#[test]
fn buffers_over_4_gib_are_read_into_and_written_from() {
    within(LIMIT, || {
        const HUGE: usize = (4 << 30) + 10;
        if Vec::<u8>::new().try_reserve_exact(HUGE).is_err() {
            common::skipped("buffers_over_4_gib", "there is not that much memory");
            return;
        }
        // Promised by the system, but not used until touched.
        let mut huge = vec![0_u8; HUGE];
        for (mut one, mut other) in connections() {
            other.write_all(b"hello").unwrap();
            assert_eq!(one.peek(&mut huge).unwrap(), 5);
            assert_eq!(one.read(&mut huge).unwrap(), 5);
            assert_eq!(&huge[..5], b"hello");

            one.set_nonblocking(true).unwrap();
            let count = one.write(&huge).unwrap();
            assert!(0 < count && count < huge.len());
            // A slice of that size is beyond std's IoSlice, but several of them aren't.
            let slices = [IoSlice::new(&huge[..u32::MAX as usize]); 3];
            let again = one.write_vectored(&slices);
            assert_eq!(again.unwrap_err().kind(), ErrorKind::WouldBlock);
            drop(one);
            let mut bytes = Vec::new();
            other.read_to_end(&mut bytes).unwrap();
            assert!(bytes == huge[..count]);
        }
    });
}

// Peers that are killed

/// What a process of its own does, so that it can be killed.
#[test]
fn child_process() {
    let Ok(task) = std::env::var("WINPIPE_TEST_CHILD") else {
        return;
    };
    let (task, path) = task.split_once(' ').unwrap();
    let ready = || {
        println!("ready");
        io::stdout().flush().unwrap();
    };
    match task {
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
    }
}

fn kill(mut child: Child) {
    thread::sleep(A_WHILE);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_peer_killed_in_the_middle_of_a_read_is_a_broken_pipe() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        let child = spawn_child("read", &path);
        let (mut server, _) = listener.accept().unwrap();
        server.read_exact(&mut [0; 4]).unwrap();
        kill(child);
        assert_eq!(server.read(&mut [0]).unwrap(), 0);
        assert_eq!(
            server.write(b"x").unwrap_err().kind(),
            ErrorKind::BrokenPipe
        );
        // The listener goes on.
        WinStream::connect(&path).unwrap();
        listener.accept().unwrap();
    });
}

#[test]
fn a_peer_killed_in_the_middle_of_a_write_is_the_end() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        let child = spawn_child("write", &path);
        let (mut server, _) = listener.accept().unwrap();
        server.read_exact(&mut [0; 4]).unwrap();
        kill(child);
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
        let child = spawn_child("accept", &path);
        kill(child);
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
        let child = spawn_child("accept", &path);
        let mut clients: Vec<_> = (0..5).map(|_| WinStream::connect(&path).unwrap()).collect();
        kill(child);
        for client in &mut clients {
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
        }
    });
}

// The kernel's own behaviour that this crate builds on

#[test]
fn instances_are_given_to_clients_in_the_order_they_were_made() {
    within(LIMIT, || {
        let path = fresh_path();
        let instances: Vec<_> = (0..5)
            .map(|_| foreign_instance(&path, FILE_FLAG_OVERLAPPED, MESSAGE, 255).unwrap())
            .collect();
        for number in 0..5 {
            WinStream::connect(&path)
                .unwrap()
                .write_all(&[number])
                .unwrap();
        }
        for (number, instance) in instances.into_iter().enumerate() {
            let mut byte = [0];
            WinStream::from(instance).read_exact(&mut byte).unwrap();
            assert_eq!(usize::from(byte[0]), number);
        }
    });
}

#[test]
fn an_empty_message_between_others_is_kept_by_a_reader_by_message() {
    within(LIMIT, || {
        let path = fresh_path();
        let server = foreign_instance(&path, 0, MESSAGE, 1).unwrap();
        let mut client = foreign_client(&path);
        set_read_mode(&client, PIPE_READMODE_MESSAGE);
        let mut server = File::from(server);
        for message in [&b"before"[..], b"", b"after"] {
            assert_eq!(server.write(message).unwrap(), message.len());
        }
        let mut buf = [0; 64];
        assert_eq!(client.read(&mut buf).unwrap(), 6);
        assert_eq!(client.read(&mut buf).unwrap(), 0);
        assert_eq!(client.read(&mut buf).unwrap(), 5);
    });
}

#[test]
fn an_empty_message_between_others_is_swallowed_by_a_reader_by_byte() {
    let name = "an_empty_message_between_others_is_swallowed_by_a_reader_by_byte";
    if skips_under_wine(
        name,
        |_| true,
        "keeps it, which hides why we read by message",
    ) {
        return;
    }
    within(LIMIT, || {
        let path = fresh_path();
        let server = foreign_instance(&path, 0, MESSAGE, 1).unwrap();
        let mut client = foreign_client(&path);
        let mut server = File::from(server);
        for message in [&b"before"[..], b"", b"after"] {
            assert_eq!(server.write(message).unwrap(), message.len());
        }
        let mut buf = [0; 64];
        assert_eq!(client.read(&mut buf).unwrap(), 11);
    });
}

// The predecessor

/// The examples of winpipe 0.1.1's README, to the letter, but that they are `pub`.
#[allow(
    clippy::unused_io_amount,
    clippy::unused_unit,
    reason = "they are as they are"
)]
#[rustfmt::skip]
mod as_in_0_1 {
    pub mod server {
use winpipe::WinListener;
use std::io;

use std::io::{Read, Write};

use std::time::Duration;

pub fn listen_for_pipes() -> io::Result<()>{
    let listener = WinListener::bind("\\\\.\\pipe\\my_pipe_is_cool")?;

    loop {
        let (mut stream, _addr) = listener.accept()?;
        stream.set_write_timeout(Some(Duration::from_millis(5000)))?;
        stream.set_read_timeout(Some(Duration::from_millis(5000)))?;

        stream.write("Hello World".as_bytes())?;
        let mut buffer = vec![0u8; 64];
        let received = stream.read(buffer.as_mut_slice())?;
        println!("Received {:?}", &buffer[..received])
        //DROPPING Closes the pipe
    }
}
    }
    pub mod client {
use winpipe::WinStream;
use std::io;

use std::io::{Read, Write};

use std::time::Duration;

pub fn connect_pipe() -> io::Result<()>{
    let mut stream = WinStream::connect("\\\\.\\pipe\\my_pipe_is_cool")?;

    stream.set_write_timeout(Some(Duration::from_millis(5000)))?;
    stream.set_read_timeout(Some(Duration::from_millis(5000)))?;

    stream.write("Hello World".as_bytes())?;
    let mut buffer = vec![0u8; 64];
    let received = stream.read(buffer.as_mut_slice())?;
    println!("Received {:?}", &buffer[..received]);
    //DROPPING Closes the pipe
    Ok(())
}
    }
}

#[test]
fn the_examples_of_0_1_run_unchanged() {
    within(LIMIT, || {
        // The server serves for ever: it ends with the process.
        thread::spawn(as_in_0_1::server::listen_for_pipes);
        let patience = WinStream::connect_with_timeout(r"\\.\pipe\my_pipe_is_cool", LIMIT).unwrap();
        let mut greeting = [0; 11];
        (&patience).read_exact(&mut greeting).unwrap();
        assert_eq!(&greeting, b"Hello World");
        (&patience).write_all(b"x").unwrap();
        drop(patience);
        for _ in 0..3 {
            as_in_0_1::client::connect_pipe().unwrap();
        }
    });
}
