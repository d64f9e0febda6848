//! Starts itself as a child, and talks to it over a stream that is the child's stdin and stdout: with
//! timeouts, which std's pipes to a child don't have.
//!
//! ```text
//! cargo run --example child
//! ```

use std::io::{self, BufRead, BufReader, Write};
use std::net::Shutdown;
use std::process::Command;
use std::time::Duration;
use std::{env, thread};
use winpipe::ipc;

fn main() -> io::Result<()> {
    match env::args().nth(1).as_deref() {
        Some("child") => child(),
        _ => parent(),
    }
}

fn parent() -> io::Result<()> {
    let (stream, end) = ipc::pair_for_child()?;
    // The `Command` is dropped at once, and with it our copy of the child's end.
    let mut child = Command::new(env::current_exe()?)
        .arg("child")
        .stdin(end.stdin)
        .stdout(end.stdout)
        .spawn()?;
    let mut answers = BufReader::new(&stream).lines();

    (&stream).write_all(b"hello\n")?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    println!(
        "the child says: {}",
        answers.next().transpose()?.unwrap_or_default()
    );

    // This time it thinks for longer than we wait. Its answer still comes.
    (&stream).write_all(b"think\n")?;
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    match answers.next() {
        Some(Err(error)) if ipc::is_timeout(&error) => println!("the child is thinking"),
        other => println!("the child was quick: {other:?}"),
    }

    // It reads the end, answers what it has read, and ends.
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    for answer in answers {
        println!("the child says: {}", answer?);
    }
    println!("the child ended with {}", child.wait()?);
    Ok(())
}

/// A plain program: it knows nothing of winpipe.
fn child() -> io::Result<()> {
    for line in io::stdin().lines() {
        let line = line?;
        if line == "think" {
            thread::sleep(Duration::from_secs(1));
        }
        println!("{}", line.to_uppercase());
    }
    Ok(())
}
