//! The traits of frameworks, which only the crate of a type can implement.

use std::sync::Arc;

use crate::addr::WinPipeSocketAddr;
use crate::peer::PeerCred;
use crate::tokio::stream::WinStream;

/// What a handler of a framework can know about its client. Features `axum08` and `tonic014`.
///
/// In axum it's what the extractor `ConnectInfo<winpipe::tokio::ConnectInfo>` has, for a service
/// that was made with `into_make_service_with_connect_info`. In tonic it's among the extensions of a
/// request, as `UdsConnectInfo` is on Unix.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectInfo {
    /// The client's address, which is unnamed.
    pub peer_addr: Option<Arc<WinPipeSocketAddr>>,
    /// What Windows knew about the client when it was accepted: `None` if it couldn't tell.
    pub peer_cred: Option<PeerCred>,
}

impl ConnectInfo {
    fn of(stream: &WinStream) -> ConnectInfo {
        ConnectInfo {
            peer_addr: stream.peer_addr().ok().map(Arc::new),
            peer_cred: stream.peer_cred().ok(),
        }
    }
}

#[cfg(feature = "axum08")]
mod axum08 {
    use std::future::pending;
    use std::io;
    use std::time::Duration;

    use axum::extract::connect_info::Connected;
    use axum::serve::{IncomingStream, Listener};

    use super::ConnectInfo;
    use crate::addr::WinPipeSocketAddr;
    use crate::tokio::listener::WinListener;
    use crate::tokio::port::Pause;
    use crate::tokio::stream::WinStream;

    /// `axum::serve(listener, app)`. Feature `axum08`.
    ///
    /// If `accept` fails, as when there are too many instances, it tries again after a second, as
    /// with axum's own listeners. After a [`shutdown`](WinListener::shutdown) it accepts no more,
    /// but only `with_graceful_shutdown` ends the server.
    impl Listener for WinListener {
        type Io = WinStream;
        type Addr = WinPipeSocketAddr;

        async fn accept(&mut self) -> (WinStream, WinPipeSocketAddr) {
            loop {
                match WinListener::accept(self).await {
                    Ok(accepted) => return accepted,
                    Err(_) if self.is_ended() => pending().await,
                    Err(_) => drop(Pause::new(Duration::from_secs(1)).await),
                }
            }
        }

        fn local_addr(&self) -> io::Result<WinPipeSocketAddr> {
            WinListener::local_addr(self)
        }
    }

    impl Connected<IncomingStream<'_, WinListener>> for ConnectInfo {
        fn connect_info(stream: IncomingStream<'_, WinListener>) -> ConnectInfo {
            ConnectInfo::of(stream.io())
        }
    }
}

/// For `serve_with_incoming`. [`ipc::tokio::Listener`](crate::ipc::tokio::Listener), which a
/// `WinListener` converts into, has the stream that it needs: `into_stream`. Feature `tonic014`.
#[cfg(feature = "tonic014")]
impl tonic::transport::server::Connected for WinStream {
    type ConnectInfo = ConnectInfo;

    fn connect_info(&self) -> ConnectInfo {
        ConnectInfo::of(self)
    }
}
