//! The traits of frameworks, which only the crate of a type can implement.

use std::time::Duration;

use crate::ipc::peer::PeerCred;

/// How long to wait when `accept` has failed, as when too many files are open.
const PAUSE: Duration = Duration::from_secs(1);

/// What a handler of a framework can know about its client. Features `axum08` and `tonic014`.
///
/// In axum it's what the extractor `ConnectInfo<PeerInfo>` has, for a service that was made with
/// `into_make_service_with_connect_info::<PeerInfo>()`. In tonic [`PeerInfo::of`] finds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PeerInfo {
    /// What the system knew about the client when it was accepted: `None` if it knew nothing, as it
    /// had left already.
    pub peer_cred: Option<PeerCred>,
}

#[cfg(feature = "axum08")]
mod axum08 {
    use std::future::pending;
    use std::io;

    use axum::extract::connect_info::Connected;
    use axum::serve::IncomingStream;

    use super::{PAUSE, PeerInfo};
    use crate::ipc::peer::PeerCred;
    use crate::ipc::system::tokio::{Address, Stream, pause, peer_cred};
    use crate::ipc::tokio::listener::Listener;

    /// `axum::serve(listener, app)`. Feature `axum08`.
    ///
    /// If `accept` fails, as when too many files are open, it tries again after a second, as with
    /// axum's own listeners. After a [`shutdown`](Listener::shutdown) it accepts no more, but only
    /// `with_graceful_shutdown` ends the server.
    impl axum::serve::Listener for Listener {
        type Io = Stream;
        type Addr = Address;

        async fn accept(&mut self) -> (Stream, Address) {
            loop {
                match Listener::accept(self).await {
                    Ok(accepted) => return accepted,
                    Err(_) if self.is_ended() => pending().await,
                    Err(_) => drop(pause(PAUSE).await),
                }
            }
        }

        fn local_addr(&self) -> io::Result<Address> {
            Listener::local_addr(self)
        }
    }

    impl Connected<IncomingStream<'_, Listener>> for PeerInfo {
        fn connect_info(stream: IncomingStream<'_, Listener>) -> PeerInfo {
            PeerInfo {
                peer_cred: peer_cred(stream.io()).map(PeerCred::from).ok(),
            }
        }
    }
}

#[cfg(feature = "tonic014")]
pub use tonic014::Incoming;

#[cfg(feature = "tonic014")]
mod tonic014 {
    use std::fmt;
    use std::future::Future;
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll, ready};

    use super::{PAUSE, PeerInfo};
    use crate::ipc::peer::PeerCred;
    use crate::ipc::system::tokio::{Stream, client_of, pause};
    use crate::ipc::tokio::listener::Listener;

    impl PeerInfo {
        /// Returns what is known about the client of a request: `None` if the request came by
        /// another transport. Feature `tonic014`.
        ///
        /// A stream of tokio or of this crate brings it, as tonic's `Connected`.
        #[must_use]
        pub fn of<T>(request: &tonic::Request<T>) -> Option<PeerInfo> {
            let peer_cred = client_of(request.extensions())?.map(PeerCred::from);
            Some(PeerInfo { peer_cred })
        }
    }

    impl Listener {
        /// Returns the clients as a stream, for tonic's `serve_with_incoming`. Feature `tonic014`.
        ///
        /// It ends after a [`shutdown`](Listener::shutdown), and never has an error, as that would
        /// end the server: if `accept` fails, as when too many files are open, this tries again
        /// after a second.
        pub fn into_stream(self) -> Incoming {
            Incoming {
                listener: self,
                pause: None,
            }
        }
    }

    /// The clients of a listener, as a stream: see [`Listener::into_stream`]. Feature `tonic014`.
    #[must_use = "streams do nothing unless polled"]
    pub struct Incoming {
        listener: Listener,
        pause: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send>>>,
    }

    impl futures_core::Stream for Incoming {
        type Item = io::Result<Stream>;

        fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            let Incoming {
                listener,
                pause: pausing,
            } = self.get_mut();
            loop {
                // Also during a pause, so that a shutdown isn't missed.
                if listener.is_ended() {
                    return Poll::Ready(None);
                }
                if let Some(pausing) = pausing {
                    // A pause that fails is over.
                    let _ = ready!(pausing.as_mut().poll(cx));
                }
                *pausing = None;
                match ready!(listener.poll_accept(cx)) {
                    Ok((stream, _)) => return Poll::Ready(Some(Ok(stream))),
                    Err(_) => *pausing = Some(Box::pin(pause(PAUSE))),
                }
            }
        }
    }

    impl fmt::Debug for Incoming {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.listener.fmt(f)
        }
    }
}
