//! The libraries that block: winpipe, its predecessor, and interprocess.

use std::io::{self, Read, Write};
use std::time::Duration;

use interprocess::os::windows::named_pipe::pipe_mode::Bytes;
use interprocess::os::windows::named_pipe::{DuplexPipeStream, PipeListener, PipeListenerOptions};
use winpipe::{WinListener, WinStream};

use crate::count::Calls;

use super::{Timeouts, Way, with_two_threads};

/// This crate.
pub struct Winpipe;

impl Way for Winpipe {
    type Listener = WinListener;
    type Stream = WinStream;

    const CALLS: Calls = Calls::Recorded;
    const TIMEOUTS: Timeouts = Timeouts::Kept;

    const SETS_BUFFERS: bool = true;

    fn bind(path: &str) -> io::Result<WinListener> {
        let bytes = super::buffer();
        WinListener::options()
            .inbound_buffer(bytes)
            .outbound_buffer(bytes)
            .bind(path)
    }

    fn accept(listener: &WinListener) -> io::Result<WinStream> {
        listener.accept().map(|(stream, _)| stream)
    }

    fn connect(path: &str) -> io::Result<WinStream> {
        WinStream::connect(path)
    }

    fn read(stream: &mut WinStream, buf: &mut [u8]) -> io::Result<usize> {
        stream.read(buf)
    }

    fn write_all(stream: &mut WinStream, bytes: &[u8]) -> io::Result<()> {
        stream.write_all(bytes)
    }

    fn both_ways(stream: &mut WinStream, unit: usize, time: Duration) -> io::Result<u64> {
        let (mut writer, mut reader) = (&*stream, &*stream);
        with_two_threads(
            unit,
            time,
            |bytes| writer.write_all(bytes),
            |buf| reader.read(buf),
        )
    }

    fn set_timeouts(stream: &WinStream, timeout: Duration) -> io::Result<()> {
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))
    }

    fn set_nonblocking(stream: &WinStream) -> io::Result<()> {
        stream.set_nonblocking(true)
    }

    fn pair() -> io::Result<(WinStream, WinStream)> {
        WinStream::pair()
    }

    fn wake_up(stream: WinStream) -> io::Result<Duration> {
        super::wake(
            stream,
            |mut stream| stream.read(&mut [0]),
            |stream| stream.shutdown(std::net::Shutdown::Read),
        )
    }
}

/// What this crate was before it was written anew.
pub struct Old;

impl Way for Old {
    type Listener = winpipe_old::WinListener;
    type Stream = winpipe_old::WinStream;

    const HAS_BACKLOG: bool = false;
    const TIMEOUTS: Timeouts = Timeouts::Kept;

    fn bind(path: &str) -> io::Result<Self::Listener> {
        winpipe_old::WinListener::bind(path)
    }

    fn accept(listener: &Self::Listener) -> io::Result<Self::Stream> {
        listener.accept().map(|(stream, _)| stream)
    }

    /// Tries for longer than `connect` does, which gives up when it met no `accept` five times, and
    /// again where it fails at once because another client came first.
    fn connect(path: &str) -> io::Result<Self::Stream> {
        loop {
            match winpipe_old::WinStream::connect_with_timeout(path, Duration::from_secs(60)) {
                Err(error) if error.to_string().contains("0x800700e7") => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                result => return result,
            }
        }
    }

    fn read(stream: &mut Self::Stream, buf: &mut [u8]) -> io::Result<usize> {
        match stream.read(buf) {
            // It says so where others say that it's the end.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
            result => result,
        }
    }

    fn write_all(stream: &mut Self::Stream, bytes: &[u8]) -> io::Result<()> {
        stream.write_all(bytes)
    }

    fn both_ways(stream: &mut Self::Stream, unit: usize, time: Duration) -> io::Result<u64> {
        let mut reader = stream.try_clone()?;
        with_two_threads(
            unit,
            time,
            |bytes| stream.write_all(bytes),
            |buf| reader.read(buf),
        )
    }

    fn set_timeouts(stream: &Self::Stream, timeout: Duration) -> io::Result<()> {
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))
    }

    fn set_nonblocking(stream: &Self::Stream) -> io::Result<()> {
        stream.set_nonblocking(true)
    }

    fn pair() -> io::Result<(Self::Stream, Self::Stream)> {
        winpipe_old::WinStream::pair()
    }
}

/// interprocess: the pipe that its local sockets are made of, with the same buffers as the others
/// (512 bytes if nobody says so).
pub struct Interprocess;

impl Way for Interprocess {
    type Listener = PipeListener<Bytes, Bytes>;
    type Stream = DuplexPipeStream<Bytes>;

    fn bind(path: &str) -> io::Result<Self::Listener> {
        PipeListenerOptions::new()
            .path(path)
            .input_buffer_size_hint(64 << 10)
            .output_buffer_size_hint(64 << 10)
            .create_duplex()
    }

    fn accept(listener: &Self::Listener) -> io::Result<Self::Stream> {
        listener.accept()
    }

    fn connect(path: &str) -> io::Result<Self::Stream> {
        DuplexPipeStream::connect_by_path(path)
    }

    fn read(stream: &mut Self::Stream, buf: &mut [u8]) -> io::Result<usize> {
        stream.read(buf)
    }

    fn write_all(stream: &mut Self::Stream, bytes: &[u8]) -> io::Result<()> {
        stream.write_all(bytes)
    }

    fn both_ways(stream: &mut Self::Stream, unit: usize, time: Duration) -> io::Result<u64> {
        let (mut writer, mut reader) = (&*stream, &*stream);
        with_two_threads(
            unit,
            time,
            |bytes| writer.write_all(bytes),
            |buf| reader.read(buf),
        )
    }

    fn set_nonblocking(stream: &Self::Stream) -> io::Result<()> {
        stream.set_nonblocking(true)
    }
}
