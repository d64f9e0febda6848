//! Sends every client's bytes back to it.
//!
//! ```text
//! cargo run --example echo_server              # in one terminal
//! cargo run --example echo_client              # in another
//! ```
//!
//! The same source runs on Unix and on Windows. The name of the place to meet may be given as an
//! argument.

use std::{env, io, thread};
use winpipe::ipc::{self, Stream};

fn main() -> io::Result<()> {
    let name = env::args().nth(1).unwrap_or_else(|| "winpipe-echo".into());
    let path = ipc::path(&name)?;
    let listener = ipc::bind(&path)?;
    println!("listening on {}", path.display());
    for client in listener.incoming() {
        let client = client?;
        thread::spawn(move || {
            if let Err(error) = echo(&client) {
                eprintln!("a client left early: {error}");
            }
        });
    }
    Ok(())
}

/// Copies until the client shuts its writing half down.
fn echo(client: &Stream) -> io::Result<u64> {
    io::copy(&mut &*client, &mut &*client)
}
