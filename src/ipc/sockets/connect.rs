//! Connecting, also to a server that isn't there yet.

use std::io;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::SocketAddrUnix;
use rustix::net::SocketType;
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use crate::ipc::sockets::bind::socket;
use crate::ipc::sockets::folder;
use crate::protocol::dialing::{Answer, Dialing, Step};

/// The shortest time that limits a wait: none at all would be no limit.
const SHORTEST: Duration = Duration::from_millis(1);

/// Connects to a server that only this user or root can have started.
pub(crate) fn connect(path: &Path) -> io::Result<UnixStream> {
    folder::check(path, rustix::process::geteuid().as_raw())?;
    UnixStream::connect(path)
}

/// Connects, and waits for the server to appear and to have room.
pub(crate) fn connect_timeout(path: &Path, timeout: Duration) -> io::Result<UnixStream> {
    SocketAddr::from_pathname(path)?;
    let deadline = Instant::now().checked_add(timeout);
    let left = || match deadline {
        None => Duration::MAX,
        Some(deadline) => deadline.saturating_duration_since(Instant::now()),
    };
    let mut dialing = Dialing::new(true);
    loop {
        let error = match attempt(path, left()) {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let answer = match error.kind() {
            io::ErrorKind::Interrupted => continue,
            // A full backlog, on Linux. The attempt has waited, which makes this the last one.
            io::ErrorKind::WouldBlock => return Err(timed_out()),
            // No file, or a killed server's. On some systems also a full backlog.
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Answer::Missing,
            _ => return Err(error),
        };
        match dialing.next(answer, left()) {
            Step::Pause(pause) => {
                #[expect(clippy::disallowed_methods, reason = "no event is set when it's there")]
                std::thread::sleep(pause);
            }
            _ => return Err(timed_out()),
        }
    }
}

/// Tries once, and waits for at most this long while the backlog is full, where the system can.
fn attempt(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    folder::check(path, rustix::process::geteuid().as_raw())?;
    let socket = socket(SocketType::STREAM)?;
    // A time that the system can't represent is an error, and longer than anybody waits.
    let limit = limit.clamp(SHORTEST, Duration::from_secs(1 << 20));
    set_socket_timeout(&socket, Timeout::Send, Some(limit))?;
    match rustix::net::connect(&socket, &SocketAddrUnix::new(path)?) {
        // It says so itself in this case.
        Err(Errno::AGAIN) => return Err(io::ErrorKind::WouldBlock.into()),
        connected => connected?,
    }
    set_socket_timeout(&socket, Timeout::Send, None)?;
    Ok(UnixStream::from(socket))
}

fn timed_out() -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        "no server has accepted the connection in time: check that it's running",
    )
}
