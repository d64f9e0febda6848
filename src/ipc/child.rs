//! `pair_for_child`: a connection to a child process, by its stdin and stdout.

use std::io;
use std::process::Stdio;

use crate::ipc::system::{self, Stream};

/// Creates a stream, and its other end for a child process: the child's stdin and stdout.
///
/// The stream has timeouts, `shutdown` and everything else. `shutdown(Write)` is the end of the
/// child's input, whatever program the child is. The stream reads the end when the child has ended
/// or closed its stdout.
///
/// The child's end isn't inheritable: only the process that std's `Command` spawns with it gets it.
/// A `Command` keeps what it was given until it's dropped. While one is kept, the stream doesn't
/// notice that the child has ended.
///
/// On Unix this corresponds to calling `socketpair`. On Windows it's two pipes without names, with
/// this process's ends for overlapped I/O and the child's for synchronous I/O. So the child can read
/// and write at once, as its threads don't wait for each other's calls. The handle of such a stream
/// (`AsHandle`, `OwnedHandle`) is that of the pipe that is read, and the stream can't hand over
/// handles. If the child reads by byte in parts, as most do, a write that times out may have been
/// read in part: see [`half_close`](https://docs.rs/winpipe/latest/winpipe/struct.ListenOptions.html#method.half_close).
///
/// # Errors
/// Errors of the system, such as when the process has too many files open.
///
/// # Examples
/// ```
/// use std::io::{Read, Write};
/// use std::net::Shutdown;
/// use std::process::Command;
/// use std::time::Duration;
/// use winpipe::ipc;
///
/// # if cfg!(windows) { return Ok::<(), std::io::Error>(()); } // Wine has no `sort`.
/// let (mut stream, end) = ipc::pair_for_child()?;
/// stream.set_read_timeout(Some(Duration::from_secs(60)))?;
/// let mut child = Command::new("sort").stdin(end.stdin).stdout(end.stdout).spawn()?;
/// stream.write_all(b"pears\napples\n")?;
/// stream.shutdown(Shutdown::Write)?;
///
/// let mut sorted = String::new();
/// stream.read_to_string(&mut sorted)?;
/// assert!(sorted.starts_with("apples"));
/// child.wait()?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn pair_for_child() -> io::Result<(Stream, ChildEnd)> {
    let (stream, stdin, stdout) = system::pair_for_child()?;
    Ok((stream, ChildEnd { stdin, stdout }))
}

/// The child's end of what [`pair_for_child`] creates.
///
/// A child that needs only one direction gets only one of the fields. Drop the other: as long as
/// it's open, the stream waits for it.
#[derive(Debug)]
#[non_exhaustive]
pub struct ChildEnd {
    /// What the child reads.
    pub stdin: Stdio,
    /// What the child writes.
    pub stdout: Stdio,
}
