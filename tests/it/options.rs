//! What the options of a listener and of a client say arrives in the kernel.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::windows::io::AsRawHandle;

use windows_sys::Win32::System::Pipes::{
    GetNamedPipeInfo, PIPE_SERVER_END, PIPE_TYPE_MESSAGE, PIPE_UNLIMITED_INSTANCES,
};
use winpipe::{ListenOptions, WinStream};

use crate::common::{LIMIT, connect_by, fresh_path, text, within};

/// What the kernel says of the pipe: flags, buffers (to the client, to the server), instances.
fn pipe_info(stream: &WinStream) -> (u32, u32, u32, u32) {
    let (mut flags, mut out, mut inn, mut max) = (0, 0, 0, 0);
    // SAFETY: the handle is borrowed, and the rest are places for numbers.
    let ok = unsafe {
        GetNamedPipeInfo(
            stream.as_raw_handle(),
            &mut flags,
            &mut out,
            &mut inn,
            &mut max,
        )
    };
    assert_ne!(ok, 0);
    (flags, out, inn, max)
}

#[test]
fn every_option_arrives_in_the_kernel() {
    within(LIMIT, || {
        let (_listener, client, server) = connect_by(&ListenOptions::new());
        let message = PIPE_TYPE_MESSAGE;
        let (flags, out, inn, max) = pipe_info(&client);
        assert_eq!((flags, out, inn), (message, 1 << 20, 1 << 20));
        // Wine gives the kernel's own number, and Windows the word for it.
        assert!(max >= PIPE_UNLIMITED_INSTANCES);
        assert_eq!(pipe_info(&server).0, message | PIPE_SERVER_END);

        let (_listener, client, server) = connect_by(
            ListenOptions::new()
                .inbound_buffer(8192)
                .outbound_buffer(16_384)
                .max_instances(7)
                .half_close(false)
                .reject_remote(false),
        );
        // To whom a buffer is "in" or "out" is the server's word.
        let (flags, out, inn, max) = pipe_info(&server);
        // One instance more, which keeps the name.
        assert_eq!((flags, out, inn, max), (PIPE_SERVER_END, 16_384, 8192, 8));
        assert_eq!(pipe_info(&client).0, 0);
    });
}

#[test]
#[cfg(feature = "log")]
fn reject_remote_arrives_in_the_call() {
    use winpipe::{ConnectOptions, Impersonation, Server, WinListener};

    use crate::common::logger::records;

    // The kernel doesn't tell, so this looks at the record of the call.
    for (reject_remote, expected) in [(None, true), (Some(true), true), (Some(false), false)] {
        let path = fresh_path();
        let mut options = ListenOptions::new();
        if let Some(reject_remote) = reject_remote {
            options.reject_remote(reject_remote);
        }
        let (records, _listener) = records(|| options.bind(&path).unwrap());
        let name = path.file_name().unwrap().to_str().unwrap();
        let made: Vec<_> = records
            .iter()
            .filter(|record| {
                record.starts_with("NtCreate") && record.contains(&format!(r"\{name},"))
            })
            .collect();
        assert_eq!(made.len(), 128);
        let said = format!("reject_remote: {expected},");
        assert!(made.iter().all(|record| record.contains(&said)), "{made:?}");
    }
    // The same for what the client lets the server do.
    let path = fresh_path();
    let _listener = WinListener::bind(&path).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    for (impersonation, expected) in [
        (None, "Identification"),
        (Some(Impersonation::Anonymous), "Anonymous"),
        (Some(Impersonation::Impersonation), "Impersonation"),
        (Some(Impersonation::Delegation), "Delegation"),
    ] {
        let mut options = ConnectOptions::new();
        if let Some(impersonation) = impersonation {
            options.impersonation(impersonation);
        }
        let says = |records: &[String], tracking| {
            let said = format!(r"\{name}, {expected}, tracking: {tracking})");
            records.iter().any(|record| record.contains(&said))
        };
        let (record, _) = records(|| options.connect(&path).unwrap());
        assert!(says(&record, false) && !says(&record, true));
        // A server that could act as the client can't do so before it's known to be the right one.
        options.expect_server(Server::CurrentUser);
        let (record, _) = records(|| options.connect(&path).unwrap());
        let acts = ["Impersonation", "Delegation"].contains(&expected);
        assert!(says(&record, acts) && !says(&record, !acts), "{expected}");
    }
}

#[test]
fn numbers_that_make_no_sense_are_invalid_input_and_make_no_pipe() {
    let path = fresh_path();
    for options in [
        ListenOptions::new().backlog(0),
        ListenOptions::new().backlog(10_000),
        ListenOptions::new().max_instances(0),
        ListenOptions::new().max_instances(1000),
        ListenOptions::new().inbound_buffer(0),
        ListenOptions::new().outbound_buffer(usize::MAX),
        ListenOptions::new().backlog(5).max_instances(4),
    ] {
        let error = options.bind(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert_eq!(
            WinStream::connect(&path).unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }
}

#[test]
fn buffers_are_what_can_be_written_unread() {
    within(LIMIT, || {
        for size in [1, 100, 4096, 300_000, 3 << 20] {
            let (_listener, mut client, mut server) = connect_by(
                ListenOptions::new()
                    .inbound_buffer(size)
                    .outbound_buffer(size),
            );
            for (one, other) in [(&mut client, &mut 0), (&mut server, &mut 1)] {
                let _ = other;
                one.set_nonblocking(true).unwrap();
                let mut sent = 0;
                while sent < size {
                    sent += one.write(&text(sent, size - sent)).unwrap();
                }
                assert_eq!(one.write(b"x").unwrap_err().kind(), ErrorKind::WouldBlock);
                one.shutdown(Shutdown::Write).unwrap();
                one.set_nonblocking(false).unwrap();
            }
            for one in [&mut client, &mut server] {
                let mut bytes = Vec::new();
                one.read_to_end(&mut bytes).unwrap();
                assert!(bytes == text(0, size), "{size}");
            }
        }
    });
}

#[test]
fn a_pipe_without_half_close_is_a_byte_pipe_that_works() {
    byte_pipe_works(false);
}

#[test]
#[cfg_attr(
    wine,
    ignore = "Wine takes the bit that rejects remote clients for a type"
)]
fn a_pipe_without_half_close_that_rejects_remote_clients_is_a_byte_pipe_that_works() {
    byte_pipe_works(true);
}

fn byte_pipe_works(reject_remote: bool) {
    within(LIMIT, move || {
        let mut options = ListenOptions::new();
        options.half_close(false).reject_remote(reject_remote);
        let (_listener, mut client, mut server) = connect_by(&options);
        for one in [&client, &server] {
            let error = one.shutdown(Shutdown::Write).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
        }
        client.write_all(b"one").unwrap();
        client.write_all(b"two").unwrap();
        let mut buf = [0; 16];
        assert_eq!(server.peek(&mut buf).unwrap(), 6);
        assert_eq!(server.read(&mut buf).unwrap(), 6);
        server.write_all(&text(0, 60_000)).unwrap();
        drop(server);
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, text(0, 60_000));
    });
}

#[test]
fn a_peer_that_is_not_read_queues_as_much_as_the_buffer_and_not_more() {
    within(LIMIT, || {
        let mut smaller = ListenOptions::new();
        smaller.inbound_buffer(64 << 10).outbound_buffer(8 << 10);
        for (options, inbound, outbound) in [
            (ListenOptions::new(), 1 << 20, 1 << 20),
            (smaller, 64 << 10, 8 << 10),
        ] {
            let (_listener, client, server) = connect_by(&options);
            for (mut stream, buffer) in [(&client, inbound), (&server, outbound)] {
                stream.set_nonblocking(true).unwrap();
                let mut queued = 0;
                while let Ok(count) = stream.write(&[0; 5000]) {
                    queued += count;
                }
                assert!((buffer - 5000..=buffer).contains(&queued), "{queued}");
            }
        }
    });
}
