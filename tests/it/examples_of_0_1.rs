//! The predecessor's examples.

use std::io::{Read, Write};
use std::thread;

use winpipe::WinStream;

use crate::common::{LIMIT, within};

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
