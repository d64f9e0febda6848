//! The libraries whose calls block: winpipe (on Unix std), its predecessor, and interprocess.

use std::io;
use std::time::Duration;

use winpipe::ipc::unix::{UnixListener, UnixStream};

use crate::way::{Place, Way};

/// What all but interprocess do as std does.
macro_rules! as_std {
    ($listener:path, $stream:path) => {
        const TIMEOUTS: Option<bool> = Some(true);
        type Listener = $listener;
        type Stream = $stream;

        fn accept(self, listener: &Self::Listener) -> io::Result<Self::Stream> {
            listener.accept().map(|(stream, _)| stream)
        }

        fn try_clone(self, stream: &Self::Stream) -> io::Result<Self::Stream> {
            stream.try_clone()
        }

        fn set_timeouts(self, stream: &Self::Stream, timeout: Duration) -> io::Result<()> {
            stream.set_read_timeout(Some(timeout))?;
            stream.set_write_timeout(Some(timeout))
        }

        fn set_nonblocking(self, stream: &Self::Stream) -> io::Result<()> {
            stream.set_nonblocking(true)
        }

        fn pair(self) -> io::Result<(Self::Stream, Self::Stream)> {
            Self::Stream::pair()
        }
    };
}

/// This crate, with buffers of so many bytes whatever the case asks for; on Unix std's names for its
/// types, which are std's own there.
#[derive(Clone, Copy)]
pub struct Winpipe(#[cfg_attr(unix, expect(dead_code))] pub Option<usize>);

impl Way for Winpipe {
    const SETS_BUFFERS: bool = cfg!(windows);
    as_std!(UnixListener, UnixStream);

    fn bind(self, place: &Place) -> io::Result<UnixListener> {
        #[cfg(windows)]
        if let Some(bytes) = self.0.or(place.buffer) {
            let mut options = winpipe::ListenOptions::new();
            return options.inbound_buffer(bytes).outbound_buffer(bytes).bind(&place.path);
        }
        UnixListener::bind(&place.path)
    }

    fn connect(self, place: &Place) -> io::Result<UnixStream> {
        UnixStream::connect(&place.path)
    }

    fn end_reads(self, stream: &UnixStream) -> io::Result<()> {
        stream.shutdown(std::net::Shutdown::Read)
    }
}

#[cfg(windows)]
pub use windows::{Interprocess, Old};

#[cfg(windows)]
mod windows {
    use super::*;
    use crate::way::BUFFER;
    use interprocess::TryClone;
    use interprocess::os::windows::named_pipe::pipe_mode::Bytes;
    use interprocess::os::windows::named_pipe::*;
    use winpipe_old::{WinListener, WinStream};

    /// What this crate was before it was written anew.
    #[derive(Clone, Copy)]
    pub struct Old;

    impl Way for Old {
        const HAS_BACKLOG: bool = false;
        as_std!(WinListener, WinStream);

        fn bind(self, place: &Place) -> io::Result<WinListener> {
            WinListener::bind(&place.path)
        }

        /// Tries for longer than `connect`, which gives up when it met no `accept` five times; and
        /// again where it fails at once because another client came first.
        fn connect(self, place: &Place) -> io::Result<WinStream> {
            let timeout = Duration::from_secs(60);
            loop {
                match WinStream::connect_with_timeout(&place.path, timeout) {
                    Err(error) if error.to_string().contains("0x800700e7") => {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    result => return result,
                }
            }
        }
    }

    /// interprocess: the pipe that its local sockets are made of, with buffers of 64 KiB (its own
    /// default is 512 bytes).
    #[derive(Clone, Copy)]
    pub struct Interprocess;

    impl Way for Interprocess {
        type Listener = PipeListener<Bytes, Bytes>;
        type Stream = DuplexPipeStream<Bytes>;

        fn bind(self, place: &Place) -> io::Result<Self::Listener> {
            let options = PipeListenerOptions::new().path(&*place.path);
            let options = options.input_buffer_size_hint(BUFFER as u32);
            options.output_buffer_size_hint(BUFFER as u32).create_duplex()
        }

        fn accept(self, listener: &Self::Listener) -> io::Result<Self::Stream> {
            listener.accept()
        }

        fn connect(self, place: &Place) -> io::Result<Self::Stream> {
            DuplexPipeStream::connect_by_path(&*place.path)
        }

        fn try_clone(self, stream: &Self::Stream) -> io::Result<Self::Stream> {
            stream.try_clone()
        }

        fn set_nonblocking(self, stream: &Self::Stream) -> io::Result<()> {
            stream.set_nonblocking(true)
        }
    }
}
