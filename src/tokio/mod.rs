//! The async half: what `tokio::net::{UnixStream, UnixListener}` are to std's types,
//! [`WinStream`] and [`WinListener`] are to [the crate's](crate::WinStream). Feature `tokio`.
//!
//! Use this half in programs that use tokio, and the blocking one everywhere else. Each converts
//! into the other: [`WinStream::from_std`], [`WinStream::into_std`].
//!
//! # How it waits
//! A call that doesn't have to wait is one system call on the caller's buffer. To wait for data, a
//! stream reads zero bytes, which needs no buffer and takes nothing. So futures can be dropped at
//! any time: what they haven't returned hasn't happened. One thread, started at the first wait,
//! wakes the tasks of the whole process. It belongs to no runtime, so a stream can be moved between
//! runtimes, and a runtime that is blocked or ends delays nothing that was reported.
//!
//! A busy stream lets other tasks run now and then, as tokio's do ([`tokio::task::coop`]).
//!
//! # Examples
//! ```
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use winpipe::tokio::{WinListener, WinStream};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
//! # let path = format!(r"\\.\pipe\winpipe-doc-async-{}", std::process::id());
//! let listener = WinListener::bind(&path)?;
//! let server = tokio::spawn(async move {
//!     let (mut stream, _) = listener.accept().await?;
//!     let mut text = String::new();
//!     stream.read_to_string(&mut text).await?;
//!     stream.write_all(text.to_uppercase().as_bytes()).await?;
//!     stream.shutdown().await
//! });
//!
//! let mut stream = WinStream::connect(&path).await?;
//! stream.write_all(b"hello").await?;
//! stream.shutdown().await?;
//! let mut answer = String::new();
//! stream.read_to_string(&mut answer).await?;
//! assert_eq!(answer, "HELLO");
//! server.await??;
//! # Ok(()) }
//! ```

#[cfg(any(feature = "axum08", feature = "tonic014"))]
pub use frameworks::ConnectInfo;
pub use listener::WinListener;
pub use ready::{Interest, Ready};
pub use split::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, ReuniteError, WriteHalf};
pub use stream::WinStream;

pub(crate) mod accept;
mod connect;
#[cfg(any(feature = "axum08", feature = "tonic014"))]
mod frameworks;
mod listener;
pub(crate) mod port;
pub(crate) mod readiness;
mod ready;
mod split;
mod stream;
