//! What the programs in `src/bin` share: their command line, and when their servers end. Each of these
//! programs is one source for Unix and Windows, without a `cfg`.

use anyhow::{Result, bail};
use std::path::PathBuf;
use tokio::io::AsyncReadExt;
use winpipe::ipc;

/// Which half of the program runs, and at which path.
pub enum Side {
    Server(PathBuf),
    Client(PathBuf),
}

/// Reads the command line, `server NAME` or `client NAME`. Each user has paths of its own for the same
/// names.
pub fn side() -> Result<Side> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["server", name] => Ok(Side::Server(ipc::path(name)?)),
        ["client", name] => Ok(Side::Client(ipc::path(name)?)),
        _ => bail!("this program's arguments are `server NAME` or `client NAME`"),
    }
}

/// Says that clients can connect, then waits until the input of this process ends.
pub async fn until_input_ends() {
    println!("listening; this ends with its input");
    let mut input = tokio::io::stdin();
    while matches!(input.read(&mut [0; 1024]).await, Ok(1..)) {}
}
