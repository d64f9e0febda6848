//! The kernel's own behaviour that this crate builds on.

use std::fs::File;
use std::io::{self, Read, Write};
use std::thread;
use std::time::Instant;

use windows_sys::Win32::Storage::FileSystem::FILE_FLAG_OVERLAPPED;
use windows_sys::Win32::System::Pipes::{PIPE_READMODE_MESSAGE, WaitNamedPipeW};
use winpipe::WinStream;

use crate::common::raw::{
    MESSAGE, busy_server, foreign_client, foreign_instance, set_read_mode, wide,
};
use crate::common::{A_WHILE, AT_ONCE, LIMIT, fresh_path, within};

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

#[test]
#[cfg_attr(wine, ignore = "Wine lets WaitNamedPipe wait for a name that is gone")]
fn a_wait_for_a_busy_pipe_ends_when_the_pipe_is_gone() {
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
