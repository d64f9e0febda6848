//! The libraries whose calls block: winpipe (on Unix std), its predecessor, and interprocess.

use std::io;
use std::time::Duration;

use winpipe::ipc::unix::{UnixListener, UnixStream};

#[cfg(windows)]
use crate::way::OWN;
use crate::way::{Place, Way};

/// What all but interprocess do as std does.
macro_rules! as_std {
    ($listener:path, $stream:path) => {
        const TIMEOUTS: Option<bool> = Some(true);
        type Listener = $listener;
        type Stream = $stream;

        fn accept(listener: &Self::Listener) -> io::Result<Self::Stream> {
            listener.accept().map(|(stream, _)| stream)
        }

        fn try_clone(stream: &Self::Stream) -> io::Result<Self::Stream> {
            stream.try_clone()
        }

        fn set_timeouts(stream: &Self::Stream, timeout: Duration) -> io::Result<()> {
            stream.set_read_timeout(Some(timeout))?;
            stream.set_write_timeout(Some(timeout))
        }

        fn set_nonblocking(stream: &Self::Stream) -> io::Result<()> {
            stream.set_nonblocking(true)
        }

        fn pair() -> io::Result<(Self::Stream, Self::Stream)> {
            Self::Stream::pair()
        }
    };
}

/// This crate; on Unix std's names for its types, which are std's own there.
pub struct Winpipe;

impl Way for Winpipe {
    const NAME: &str = if cfg!(windows) { "winpipe" } else { "std" };
    const TITLE: &str = if cfg!(windows) { "winpipe" } else { "std UnixStream" };
    const SETS_BUFFERS: bool = cfg!(windows);
    as_std!(UnixListener, UnixStream);

    #[cfg(windows)]
    fn bind(place: &Place) -> io::Result<UnixListener> {
        let mut options = winpipe::ListenOptions::new();
        if place.buffer != OWN {
            options.inbound_buffer(place.buffer).outbound_buffer(place.buffer);
        }
        options.bind(&place.path)
    }

    #[cfg(unix)]
    fn bind(place: &Place) -> io::Result<UnixListener> {
        UnixListener::bind(&place.path)
    }

    fn connect(place: &Place) -> io::Result<UnixStream> {
        UnixStream::connect(&place.path)
    }

    fn end_reads(stream: &UnixStream) -> io::Result<()> {
        stream.shutdown(std::net::Shutdown::Read)
    }
}

#[cfg(windows)]
pub use windows::{Interprocess, Old};

#[cfg(windows)]
mod windows {
    use super::*;
    use interprocess::TryClone;
    use interprocess::os::windows::named_pipe::pipe_mode::Bytes;
    use interprocess::os::windows::named_pipe::*;
    use winpipe_old::{WinListener, WinStream};

    /// What this crate was before it was written anew.
    pub struct Old;

    impl Way for Old {
        const NAME: &str = "old";
        const TITLE: &str = "winpipe 0.1.1";
        const HAS_BACKLOG: bool = false;
        as_std!(WinListener, WinStream);

        fn bind(place: &Place) -> io::Result<Self::Listener> {
            WinListener::bind(&place.path)
        }

        /// Tries for longer than `connect`, which gives up when it met no `accept` five times; and
        /// again where it fails at once because another client came first.
        fn connect(place: &Place) -> io::Result<Self::Stream> {
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

    /// interprocess: the pipe that its local sockets are made of, with the same buffers as the others
    /// (its own default is 512 bytes).
    pub struct Interprocess;

    impl Way for Interprocess {
        const NAME: &str = "interprocess";
        const TITLE: &str = "interprocess 2.4";
        type Listener = PipeListener<Bytes, Bytes>;
        type Stream = DuplexPipeStream<Bytes>;

        fn bind(place: &Place) -> io::Result<Self::Listener> {
            let options = PipeListenerOptions::new().path(&*place.path);
            let options = options.input_buffer_size_hint(64 << 10);
            options.output_buffer_size_hint(64 << 10).create_duplex()
        }

        fn accept(listener: &Self::Listener) -> io::Result<Self::Stream> {
            listener.accept()
        }

        fn connect(place: &Place) -> io::Result<Self::Stream> {
            DuplexPipeStream::connect_by_path(&*place.path)
        }

        fn try_clone(stream: &Self::Stream) -> io::Result<Self::Stream> {
            stream.try_clone()
        }

        fn set_nonblocking(stream: &Self::Stream) -> io::Result<()> {
            stream.set_nonblocking(true)
        }
    }
}
