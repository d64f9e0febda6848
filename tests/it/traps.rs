//! What docs/TRAPS.md warns of, as far as no other module shows it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::windows::io::AsRawHandle;
use std::path::Path;
use std::thread;

use windows_sys::Win32::System::Pipes::{PIPE_READMODE_MESSAGE, PeekNamedPipe};
use winpipe::{WinListener, WinStream};

use crate::common::raw::{BYTE, busy_server, foreign_client, foreign_server, set_read_mode};
use crate::common::{A_WHILE, LIMIT, fresh_path, within};

/// Whether a client is there at once.
fn next_client(listener: &WinListener) -> Option<WinStream> {
    listener.set_nonblocking(true).unwrap();
    let client = match listener.accept() {
        Ok((client, _)) => Some(client),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    };
    listener.set_nonblocking(false).unwrap();
    client
}

#[test]
#[cfg_attr(wine, ignore = "Wine doesn't open a pipe to ask for its attributes")]
fn to_ask_for_a_pipes_metadata_is_to_be_a_client_that_leaves_at_once() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        assert!(next_client(&listener).is_none());
        let _ = fs::metadata(&path);
        let mut phantom = next_client(&listener).unwrap();
        assert_eq!(phantom.read(&mut [0]).unwrap(), 0);
        assert!(path.exists());
        next_client(&listener).unwrap();
        assert!(next_client(&listener).is_none());
    });
}

#[test]
fn what_removes_or_renames_a_file_leaves_a_pipe_where_it_is() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        // Under Wine the first of them says that it has removed it.
        let _ = fs::remove_file(&path);
        let _ = fs::rename(&path, path.with_extension("new"));
        let mut client = WinStream::connect(&path).unwrap();
        client.write_all(b"x").unwrap();
        drop(client);
        let came = listener.incoming().map(|client| {
            let mut text = String::new();
            client.unwrap().read_to_string(&mut text).unwrap();
            text
        });
        // What went before may have been a client, too.
        assert!(came.take(4).any(|text| text == "x"));
    });
}

#[test]
fn a_file_that_is_opened_by_a_pipes_path_has_neither_half_close_nor_addresses() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        // Reading is all that `File::open` asks for.
        let mut file = File::open(&path).unwrap();
        file.write_all(b"x").unwrap_err();
        drop(file);
        listener.accept().unwrap();

        let mut file = foreign_client(&path);
        let (mut server, _) = listener.accept().unwrap();
        file.write_all(b"question").unwrap();
        // An empty write is the end to us, although `flush` isn't anything.
        file.flush().unwrap();
        assert_eq!(file.write(&[]).unwrap(), 0);
        let mut question = String::new();
        server.read_to_string(&mut question).unwrap();
        assert_eq!(question, "question");
        server.write_all(b"answer").unwrap();
        drop(server);
        let mut answer = String::new();
        file.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "answer");
    });
}

#[test]
#[cfg_attr(wine, ignore = "Wine lets a synchronous handle read and write at once")]
fn a_file_on_a_pipe_does_not_write_while_it_reads() {
    within(LIMIT, || {
        let (mut server, file) = foreign_server(BYTE, foreign_client);
        thread::scope(|scope| {
            let reader = scope.spawn(|| (&file).read(&mut [0]).unwrap());
            thread::sleep(A_WHILE);
            let writer = scope.spawn(|| (&file).write_all(b"x").unwrap());
            thread::sleep(A_WHILE);
            assert!(!writer.is_finished(), "the write waits for the read");
            server.write_all(b"y").unwrap();
            assert_eq!(reader.join().unwrap(), 1);
            writer.join().unwrap();
        });
    });
}

#[test]
#[cfg_attr(wine, ignore = "Wine keeps an empty message that comes after data")]
fn a_peer_that_reads_by_byte_misses_the_end_and_sees_it_when_the_stream_is_dropped() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        let mut client = foreign_client(&path);
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"all").unwrap();
        server.shutdown(Shutdown::Write).unwrap();
        let mut buf = [0; 64];
        assert_eq!(client.read(&mut buf).unwrap(), 3);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| client.read(&mut buf).unwrap());
            thread::sleep(A_WHILE);
            assert!(!waiting.is_finished(), "the end went with the data");
            drop(server);
            assert_eq!(waiting.join().unwrap(), 0);
        });
    });
}

/// The code of the plain call's error.
fn code<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// What is there to be read, or the call's error.
fn peek(file: &File) -> io::Result<u32> {
    let mut count = 0;
    let null = std::ptr::null_mut();
    // SAFETY: the handle is open, and there is a place for the count.
    let ok = unsafe {
        PeekNamedPipe(
            file.as_raw_handle(),
            null,
            0,
            null.cast(),
            &mut count,
            null.cast(),
        )
    };
    match ok {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(count),
    }
}

#[test]
fn a_program_that_makes_the_plain_calls_sees_these_errors() {
    within(LIMIT, || {
        let path = fresh_path();
        assert_eq!(code(open(&path)), 2, "no server");
        let (busy, _instance, _client) = busy_server();
        assert_eq!(code(open(&busy)), 231, "all instances are taken");

        // The peer has left. std's `read` makes 0 bytes of 109, so this asks by a peek.
        let listener = WinListener::bind(&path).unwrap();
        let mut file = open(&path).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"last").unwrap();
        drop(server);
        assert_eq!(
            code(file.write(b"x")),
            232,
            "a write to a peer that has left"
        );
        assert_eq!(peek(&file).unwrap(), 4, "its last bytes are there");
        file.read_exact(&mut [0; 4]).unwrap();
        assert_eq!(code(peek(&file)), 109, "then it's at the end");

        // A message that is longer than the buffer.
        let mut file = open(&path).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        set_read_mode(&file, PIPE_READMODE_MESSAGE);
        server.write_all(b"long").unwrap();
        assert_eq!(code(file.read(&mut [0; 2])), 234, "more of the message");
        file.read_exact(&mut [0; 2]).unwrap();
        // `shutdown(Write)`: a read of no bytes, and no error.
        server.shutdown(Shutdown::Write).unwrap();
        assert_eq!(file.read(&mut [0; 2]).unwrap(), 0);
        // `shutdown(Both)` doesn't keep the other end from writing: the bytes go nowhere.
        server.shutdown(Shutdown::Both).unwrap();
        assert_eq!(file.write(b"x").unwrap(), 1);
    });
}

#[test]
fn of_a_path_that_looks_like_a_file_nothing_is_taken_for_a_pipe() {
    let in_a_folder = std::env::temp_dir().join("my-app.sock");
    for path in [
        "my-app.sock",
        r"C:\Temp\my-app.sock",
        in_a_folder.to_str().unwrap(),
    ] {
        let error = WinListener::bind(path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{path}");
        assert!(error.to_string().contains(r"\\.\pipe\"), "{error}");
    }
    // A pipe that is named like a file isn't one.
    let path = fresh_path().with_extension("sock");
    let _listener = WinListener::bind(&path).unwrap();
    assert!(
        !std::env::temp_dir()
            .join(path.file_name().unwrap())
            .exists()
    );
    WinStream::connect(path).unwrap();
}
