//! What users of winpipe come from: std's own.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use super::{Timeouts, Way, with_two_threads};

/// std's `UnixStream`.
pub struct Std;

/// A listener and its file, which is removed with it.
pub struct Listener {
    listener: UnixListener,
    path: String,
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Way for Std {
    type Listener = Listener;
    type Stream = UnixStream;

    const TIMEOUTS: Timeouts = Timeouts::Kept;

    fn bind(path: &str) -> io::Result<Listener> {
        Ok(Listener {
            listener: UnixListener::bind(path)?,
            path: path.into(),
        })
    }

    fn accept(listener: &Listener) -> io::Result<UnixStream> {
        listener.listener.accept().map(|(stream, _)| stream)
    }

    fn connect(path: &str) -> io::Result<UnixStream> {
        UnixStream::connect(path)
    }

    fn read(stream: &mut UnixStream, buf: &mut [u8]) -> io::Result<usize> {
        stream.read(buf)
    }

    fn write_all(stream: &mut UnixStream, bytes: &[u8]) -> io::Result<()> {
        stream.write_all(bytes)
    }

    fn both_ways(stream: &mut UnixStream, unit: usize, time: Duration) -> io::Result<u64> {
        let (mut writer, mut reader) = (&*stream, &*stream);
        with_two_threads(
            unit,
            time,
            |bytes| writer.write_all(bytes),
            |buf| reader.read(buf),
        )
    }

    fn set_timeouts(stream: &UnixStream, timeout: Duration) -> io::Result<()> {
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))
    }

    fn set_nonblocking(stream: &UnixStream) -> io::Result<()> {
        stream.set_nonblocking(true)
    }

    fn pair() -> io::Result<(UnixStream, UnixStream)> {
        UnixStream::pair()
    }

    fn wake_up(stream: UnixStream) -> io::Result<Duration> {
        super::wake(
            stream,
            |mut stream| stream.read(&mut [0]),
            |stream| stream.shutdown(Shutdown::Read),
        )
    }
}
