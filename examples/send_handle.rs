//! Hands an open file to another process, which reads it without having opened it.
//!
//! ```text
//! cargo run --example send_handle
//! ```
//!
//! Only on Windows: on Unix, std can't pass files yet (`SCM_RIGHTS` is unstable there), and the
//! crate adds nothing to std's types. So this is the one example with a `cfg`.

use std::io;

#[cfg(windows)]
fn main() -> io::Result<()> {
    use std::fs::File;
    use std::io::Read;
    use std::process::{Command, id};
    use std::{env, thread};
    use winpipe::{WinListener, WinStream, ipc};

    // The child has nothing but the name of a pipe.
    if let Some(path) = env::args_os().nth(1) {
        let stream = WinStream::connect(path)?;
        let mut file = File::from(stream.recv_handle()?);
        let mut start = [0; 2];
        file.read_exact(&mut start)?;
        println!("the file begins with {:?}", String::from_utf8_lossy(&start));
        return Ok(());
    }

    let path = ipc::path(&format!("winpipe-send-handle-{}", id()))?;
    let listener = WinListener::bind(&path)?;
    let program = env::current_exe()?;
    let mut child = Command::new(&program).arg(&path).spawn()?;
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let (stream, _) = listener.accept()?;
            // This program itself. It returns when the child has the file.
            stream.send_handle(&File::open(&program)?)
        });
        let status = child.wait();
        // A child that never came must not keep us.
        listener.shutdown()?;
        sender.join().expect("the sender panicked")?;
        println!("the child ended with {}", status?);
        Ok(())
    })
}

#[cfg(not(windows))]
fn main() -> io::Result<()> {
    println!("send_handle is there on Windows only");
    Ok(())
}
