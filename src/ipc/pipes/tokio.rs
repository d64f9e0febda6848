//! The async facade on Windows: this crate's own async half.

use std::io;
use std::path::Path;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::addr::WinPipeSocketAddr;
use crate::ipc::pipes::{self, Cred, Listening as Blocking};
use crate::options::ConnectOptions;
use crate::tokio::port::Pause;
use crate::tokio::{WinListener, WinStream};

pub(crate) type Stream = WinStream;
pub(crate) type Listener = WinListener;
pub(crate) type Address = WinPipeSocketAddr;

/// A listener.
#[derive(Debug)]
pub(crate) struct Listening(WinListener);

impl Listening {
    pub(crate) fn from_blocking(listening: Blocking) -> io::Result<Listening> {
        WinListener::from_std(listening.into_inner()).map(Listening)
    }

    pub(crate) fn into_blocking(self) -> io::Result<Blocking> {
        let listener = self.0.into_std()?;
        listener.set_nonblocking(false)?;
        Ok(Blocking::from(listener))
    }

    pub(crate) async fn accept(&self) -> io::Result<(WinStream, WinPipeSocketAddr)> {
        self.0.accept().await
    }

    pub(crate) fn poll_accept(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<(WinStream, WinPipeSocketAddr)>> {
        self.0.poll_accept(context)
    }

    pub(crate) fn shutdown(&self) -> io::Result<()> {
        self.0.shutdown()
    }

    #[cfg(any(feature = "axum08", feature = "tonic014"))]
    pub(crate) fn is_ended(&self) -> bool {
        self.0.is_ended()
    }

    pub(crate) fn local_addr(&self) -> io::Result<WinPipeSocketAddr> {
        self.0.local_addr()
    }

    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.0.take_error()
    }

    pub(crate) fn into_inner(self) -> WinListener {
        self.0
    }
}

impl From<WinListener> for Listening {
    fn from(listener: WinListener) -> Listening {
        Listening(listener)
    }
}

/// Connects to a server of this user's, or of the system's.
pub(crate) async fn connect(path: &Path) -> io::Result<WinStream> {
    dial(path, &ConnectOptions::new()).await
}

/// Connects, and waits for the server to appear and to have room.
pub(crate) async fn connect_timeout(path: &Path, timeout: Duration) -> io::Result<WinStream> {
    let mut options = ConnectOptions::new();
    options.timeout(timeout).wait_for_server(true);
    dial(path, &options).await.map_err(pipes::timed_out)
}

async fn dial(path: &Path, options: &ConnectOptions) -> io::Result<WinStream> {
    let stream = WinStream::connect_with(path, options).await?;
    pipes::expect(stream.as_std())?;
    Ok(stream)
}

/// Does nothing for this long.
pub(crate) async fn pause(time: Duration) -> io::Result<()> {
    Pause::new(time).await
}

pub(crate) fn peer_cred(stream: &WinStream) -> io::Result<Cred> {
    pipes::peer_cred(stream.as_std())
}

/// What tonic stored about the client of a request, if it came through a pipe.
#[cfg(feature = "tonic014")]
pub(crate) fn client_of(extensions: &tonic::Extensions) -> Option<Option<Cred>> {
    let info = extensions.get::<crate::tokio::ConnectInfo>()?;
    let cred = info.peer_cred.as_ref();
    Some(cred.and_then(|cred| pipes::client(cred).ok()))
}
