//! Sends what it reads to `echo_server` and prints what comes back.
//!
//! ```text
//! cargo run --example echo_server              # in one terminal
//! cargo run --example echo_client              # in another; type, and end with Ctrl-D
//!                                              # (on Windows with Ctrl-Z and Enter)
//! ```
//!
//! The same source runs on Unix and on Windows. The name of the place to meet may be given as an
//! argument.

use std::net::Shutdown;
use std::{env, io, thread};
use winpipe::ipc;

fn main() -> io::Result<()> {
    let name = env::args().nth(1).unwrap_or_else(|| "winpipe-echo".into());
    let server = ipc::connect(ipc::path(&name)?)?;
    thread::scope(|scope| {
        let answers = scope.spawn(|| io::copy(&mut &server, &mut io::stdout()));
        io::copy(&mut io::stdin(), &mut &server)?;
        // The server sees the end of our lines, and its last answers still come.
        server.shutdown(Shutdown::Write)?;
        answers.join().expect("the printing thread panicked")?;
        Ok(())
    })
}
