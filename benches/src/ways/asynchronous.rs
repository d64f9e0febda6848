//! The async half on Windows, and tokio's Unix sockets on Unix: one source, as their API is the same.
//! Each thread has a runtime of its own.

use std::io::{self, Read, Write};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

#[cfg(unix)]
use tokio::net::{UnixListener as Listener, UnixStream};
#[cfg(windows)]
use winpipe::tokio::{WinListener as Listener, WinStream as UnixStream};

use crate::way::{Place, Way};

/// Ours or, on Unix, tokio's.
#[derive(Clone, Copy)]
pub struct Asynchronous;

/// An async stream whose calls block, and what is to be dropped after it.
pub struct Blocking<S, D = ()>(pub S, pub D);

pub type Stream = Blocking<UnixStream>;

thread_local! {
    pub static RUNTIME: Runtime =
        Builder::new_current_thread().enable_io().build().expect("a runtime");
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.with(|runtime| runtime.block_on(future))
}

impl<S: AsyncRead + Unpin, D> Read for Blocking<S, D> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        block_on(self.0.read(buf))
    }
}

impl<S: AsyncWrite + Unpin, D> Write for Blocking<S, D> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        block_on(self.0.write(bytes))
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        block_on(self.0.write_all(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Way for Asynchronous {
    const SETS_BUFFERS: bool = cfg!(windows);

    type Listener = Listener;
    type Stream = Stream;

    fn bind(self, place: &Place) -> io::Result<Listener> {
        #[cfg(windows)]
        if let Some(buffer) = place.buffer {
            let mut options = winpipe::ListenOptions::new();
            options.inbound_buffer(buffer).outbound_buffer(buffer);
            return Listener::bind_with(&place.path, &options);
        }
        block_on(async { Listener::bind(&place.path) })
    }

    fn accept(self, listener: &Listener) -> io::Result<Stream> {
        block_on(listener.accept()).map(|(stream, _)| Blocking(stream, ()))
    }

    fn connect(self, place: &Place) -> io::Result<Stream> {
        block_on(UnixStream::connect(&place.path)).map(|stream| Blocking(stream, ()))
    }

    /// On one thread, as is tokio's way.
    fn both_ways(self, stream: &mut Stream, unit: usize, count: u64) -> io::Result<()> {
        let (mut reader, mut writer) = stream.0.split();
        let (bytes, mut buf) = (vec![0; unit], vec![0; unit]);
        let receive = async {
            for _ in 0..count {
                reader.read_exact(&mut buf).await?;
            }
            Ok(())
        };
        let send = async {
            for _ in 0..count {
                writer.write_all(&bytes).await?;
            }
            io::Result::Ok(())
        };
        block_on(async { tokio::try_join!(receive, send) }).map(drop)
    }

    fn pair(self) -> io::Result<(Stream, Stream)> {
        block_on(async { UnixStream::pair() })
            .map(|(one, other)| (Blocking(one, ()), Blocking(other, ())))
    }

    fn set_nonblocking(self, _: &Stream) -> io::Result<()> {
        Ok(())
    }

    fn try_read(self, stream: &mut Stream, buf: &mut [u8]) -> io::Result<usize> {
        stream.0.try_read(buf)
    }
}
