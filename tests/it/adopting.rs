//! Streams made of handles, and handles made of streams.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::{
    AsHandle, AsRawHandle, FromRawHandle, IntoRawHandle, OwnedHandle, RawHandle,
};
use std::path::Path;
use std::thread;
use std::time::Duration;

use windows_sys::Win32::Foundation::{DuplicateHandle, GetHandleInformation, HANDLE_FLAG_INHERIT};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_FLAG_OVERLAPPED, FILE_GENERIC_READ, FILE_WRITE_DATA, PIPE_ACCESS_INBOUND,
    PIPE_ACCESS_OUTBOUND,
};
use windows_sys::Win32::System::Pipes::{
    CreatePipe, DisconnectNamedPipe, PIPE_NOWAIT, PIPE_READMODE_BYTE,
};
use windows_sys::Win32::System::Threading::{CreateEventW, GetCurrentProcess};
use winpipe::{WinListener, WinStream};

use crate::common::raw::{
    BYTE, MESSAGE, MESSAGE_READ_BY_BYTE, foreign_client, foreign_instance, set_read_mode,
};
use crate::common::{A_WHILE, LIMIT, connection, connections, fresh_path, text, within};

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
#[cfg_attr(wine, ignore = "Wine lets any handle change how its end is read")]
fn an_adopted_end_that_cannot_be_made_to_wait_is_invalid_input() {
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
