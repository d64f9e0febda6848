//! tokio's named pipes, each thread with a runtime of its own.

use std::cell::RefCell;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::windows::named_pipe::{
    ClientOptions, NamedPipeClient, NamedPipeServer, ServerOptions,
};
use tokio_util::either::Either;
use windows_sys::Win32::Foundation::ERROR_PIPE_BUSY;

use crate::way::{Place, Way};
use crate::ways::asynchronous::{Blocking, RUNTIME, block_on};

/// tokio.
#[derive(Clone, Copy)]
pub struct Tokio;

/// What tokio's manual keeps in the accept loop: the instance that the next client gets.
pub struct Listener(String, RefCell<NamedPipeServer>);

/// One end of a pipe; tokio has a type for each end.
pub type Stream = Blocking<Either<NamedPipeServer, NamedPipeClient>, Yield>;

/// tokio closes a pipe only when it has seen that the read it keeps pending was cancelled, so the
/// runtime must go on running after the drop. In a program of its own it does.
pub struct Yield;

impl Drop for Yield {
    fn drop(&mut self) {
        let _ = RUNTIME.try_with(|runtime| runtime.block_on(tokio::task::yield_now()));
    }
}

impl Way for Tokio {
    type Listener = Listener;
    type Stream = Stream;

    fn bind(self, place: &Place) -> io::Result<Listener> {
        let first = async { ServerOptions::new().first_pipe_instance(true).create(&place.path) };
        let first = block_on(first)?;
        Ok(Listener(place.path.clone(), first.into()))
    }

    fn accept(self, Listener(path, idle): &Listener) -> io::Result<Stream> {
        block_on(idle.borrow().connect())?;
        let next = block_on(async { ServerOptions::new().create(path) })?;
        Ok(Blocking(Either::Left(idle.replace(next)), Yield))
    }

    /// As tokio's manual does: tries again after 50 ms while the pipe is busy.
    fn connect(self, place: &Place) -> io::Result<Stream> {
        loop {
            match block_on(async { ClientOptions::new().open(&place.path) }) {
                Err(error) if error.raw_os_error() == Some(ERROR_PIPE_BUSY as i32) => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                result => return result.map(|client| Blocking(Either::Right(client), Yield)),
            }
        }
    }

    /// On one thread, as is tokio's way.
    fn both_ways(self, stream: &mut Stream, unit: usize, count: u64) -> io::Result<()> {
        let (mut reader, mut writer) = tokio::io::split(&mut stream.0);
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

    fn set_nonblocking(self, _: &Stream) -> io::Result<()> {
        Ok(())
    }

    fn try_read(self, stream: &mut Stream, buf: &mut [u8]) -> io::Result<usize> {
        match &stream.0 {
            Either::Left(server) => server.try_read(buf),
            Either::Right(client) => client.try_read(buf),
        }
    }
}
