//! Answers whatever a client sends with its SHA-256 and its size.
//!
//! ```text
//! cargo run --example digest_server demo                     # in one terminal
//! cargo run --example digest_client demo Cargo.toml          # in another
//! ```
//!
//! The protocol needs no framing: the client sends its bytes and shuts its writing half down; the
//! server reads to the end and then answers, on the half that is still open, with one line:
//! `DIGEST SIZE`.
//!
//! The same source runs on Unix and on Windows. The argument names the place to meet.

use sha2::{Digest, Sha256};
use std::io::{self, Write};
use std::{env, thread};
use winpipe::ipc::{self, Stream};

fn main() -> io::Result<()> {
    let name = env::args()
        .nth(1)
        .unwrap_or_else(|| "winpipe-digest".into());
    let path = ipc::path(&name)?;
    let listener = ipc::bind(&path)?;
    println!("listening on {}", path.display());
    for client in listener.incoming() {
        let client = client?;
        thread::spawn(move || {
            if let Err(error) = answer(client) {
                eprintln!("a client left early: {error}");
            }
        });
    }
    Ok(())
}

fn answer(mut client: Stream) -> io::Result<()> {
    let mut hasher = Sha256::new();
    let size = io::copy(&mut client, &mut hasher)?;
    client.write_all(format!("{:x} {size}\n", hasher.finalize()).as_bytes())
}
