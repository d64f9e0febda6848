//! tokio's named pipes, each thread with a runtime of its own.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::windows::named_pipe::{
    ClientOptions, NamedPipeClient, NamedPipeServer, ServerOptions,
};
use tokio::runtime::{Builder, Runtime};
use windows_sys::Win32::Foundation::ERROR_PIPE_BUSY;

use super::{Units, Way};

/// tokio.
pub struct Tokio;

/// What tokio's manual keeps in the accept loop: the instance that the next client gets.
pub struct Listener {
    path: String,
    idle: std::cell::RefCell<NamedPipeServer>,
}

/// One end of a pipe.
pub struct Stream(Option<End>);

/// tokio has a type for each end.
enum End {
    Server(NamedPipeServer),
    Client(NamedPipeClient),
}

/// tokio closes a pipe only when it has seen that the read it keeps pending was cancelled, so the
/// runtime must go on running. In a program of its own it does.
impl Drop for Stream {
    fn drop(&mut self) {
        self.0 = None;
        let _ = RUNTIME.try_with(|runtime| runtime.block_on(tokio::task::yield_now()));
    }
}

impl Stream {
    fn end(&mut self) -> &mut End {
        self.0.as_mut().expect("it's there until it's dropped")
    }
}

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_io().build().expect("a runtime");
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.with(|runtime| runtime.block_on(future))
}

impl Way for Tokio {
    type Listener = Listener;
    type Stream = Stream;

    fn bind(path: &str) -> io::Result<Listener> {
        let first =
            block_on(async { ServerOptions::new().first_pipe_instance(true).create(path) })?;
        Ok(Listener {
            path: path.into(),
            idle: first.into(),
        })
    }

    fn accept(listener: &Listener) -> io::Result<Stream> {
        block_on(listener.idle.borrow().connect())?;
        let next = block_on(async { ServerOptions::new().create(&listener.path) })?;
        Ok(Stream(Some(End::Server(listener.idle.replace(next)))))
    }

    /// As tokio's manual does: tries again after 50 ms while the pipe is busy.
    fn connect(path: &str) -> io::Result<Stream> {
        loop {
            match block_on(async { ClientOptions::new().open(path) }) {
                Err(error) if error.raw_os_error() == Some(ERROR_PIPE_BUSY as i32) => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                result => return result.map(|client| Stream(Some(End::Client(client)))),
            }
        }
    }

    fn read(stream: &mut Stream, buf: &mut [u8]) -> io::Result<usize> {
        match block_on(stream.read(buf)) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
            result => result,
        }
    }

    fn write_all(stream: &mut Stream, bytes: &[u8]) -> io::Result<()> {
        block_on(stream.write_all(bytes))
    }

    /// On one thread, as is tokio's way.
    fn both_ways(stream: &mut Stream, unit: usize, time: Duration) -> io::Result<u64> {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let receive = async {
            let mut buf = vec![0; 64 << 10];
            loop {
                match reader.read(&mut buf).await? {
                    0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                    count if Units::is_end(&buf[..count]) => return Ok(()),
                    _ => {}
                }
            }
        };
        let send = async {
            let mut units = Units::new(unit, time);
            let mut count = 0;
            loop {
                let (bytes, last) = units.next();
                writer.write_all(bytes).await?;
                count += 1;
                if last {
                    return Ok(count);
                }
            }
        };
        let ((), sent) = block_on(async { tokio::try_join!(receive, send) })?;
        Ok(sent)
    }

    fn set_nonblocking(_: &Stream) -> io::Result<()> {
        Ok(())
    }

    fn try_read(stream: &mut Stream, buf: &mut [u8]) -> io::Result<usize> {
        match stream.end() {
            End::Server(server) => server.try_read(buf),
            End::Client(client) => client.try_read(buf),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut().end() {
            End::Server(server) => Pin::new(server).poll_read(context, buf),
            End::Client(client) => Pin::new(client).poll_read(context, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut().end() {
            End::Server(server) => Pin::new(server).poll_write(context, bytes),
            End::Client(client) => Pin::new(client).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
