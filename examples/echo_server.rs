//! Sends every client's bytes back to it.
//!
//! ```text
//! cargo run --example echo_server              # in one terminal
//! cargo run --example echo_client              # in another
//! ```
//!
//! The same source runs on Unix and on Windows. The name of the place to meet may be given as an
//! argument.

use std::path::Path;
use std::{env, fs, io, thread};
use winpipe::ipc::{self, Listener, Stream};

fn main() -> io::Result<()> {
    let name = env::args().nth(1).unwrap_or_else(|| "winpipe-echo".into());
    let path = ipc::path(&name)?;
    let listener = bind(&path)?;
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

/// Binds, also where a server that was killed left its socket file behind: on Unix, for a pipe
/// leaves nothing.
fn bind(path: &Path) -> io::Result<Listener> {
    match ipc::bind(path) {
        Err(error)
            if error.kind() == io::ErrorKind::AddrInUse
                && ipc::connect(path)
                    .is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
                && fs::remove_file(path).is_ok() =>
        {
            ipc::bind(path)
        }
        outcome => outcome,
    }
}
