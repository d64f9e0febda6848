//! The halves of a stream.

use std::error::Error;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::addr::WinPipeSocketAddr;
use crate::tokio::ready::{Interest, Ready};
use crate::tokio::stream::WinStream;

impl WinStream {
    /// Splits the stream into a half that reads and one that writes, which borrow it.
    ///
    /// # Examples
    /// ```
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// let (mut one, mut other) = winpipe::tokio::WinStream::pair()?;
    /// let (mut read, mut write) = one.split();
    /// write.write_all(b"hello").await?;
    /// # other.write_all(b"hello").await?;
    /// # read.read(&mut [0; 9]).await?;
    /// # Ok(()) }
    /// ```
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        (ReadHalf(self), WriteHalf(self))
    }

    /// Splits the stream into a half that reads and one that writes, which can go to different
    /// tasks. Dropping the writing half shuts it down.
    ///
    /// # Examples
    /// ```
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// let (one, mut other) = winpipe::tokio::WinStream::pair()?;
    /// let (_read, mut write) = one.into_split();
    /// tokio::spawn(async move { write.write_all(b"hello").await });
    /// let mut text = String::new();
    /// other.read_to_string(&mut text).await?;
    /// assert_eq!(text, "hello");
    /// # Ok(()) }
    /// ```
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        let stream = Arc::new(self);
        let write = OwnedWriteHalf {
            stream: Arc::clone(&stream),
            shuts_down: true,
        };
        (OwnedReadHalf(stream), write)
    }
}

/// The half of a stream that reads, borrowed from it by [`WinStream::split`].
#[derive(Debug)]
pub struct ReadHalf<'a>(&'a WinStream);

/// The half of a stream that writes, borrowed from it by [`WinStream::split`].
#[derive(Debug)]
pub struct WriteHalf<'a>(&'a WinStream);

/// The half of a stream that reads, made by [`WinStream::into_split`].
#[derive(Debug)]
pub struct OwnedReadHalf(Arc<WinStream>);

/// The half of a stream that writes, made by [`WinStream::into_split`].
///
/// When it's dropped, the writing half of the stream is shut down: the peer reads the end. Only a
/// pipe that keeps no message boundaries, as other programs may make, can't carry that.
#[derive(Debug)]
pub struct OwnedWriteHalf {
    stream: Arc<WinStream>,
    shuts_down: bool,
}

/// What both ways to read have.
macro_rules! reads {
    ($($half:ty),*) => {$(
        impl $half {
            /// Waits as [`WinStream::ready`] does.
            ///
            /// # Errors
            /// Those of [`WinStream::ready`].
            ///
            /// # Cancel safety
            /// A future that was dropped leaves everything as it was.
            pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
                self.as_ref().ready(interest).await
            }

            /// Waits as [`WinStream::readable`] does.
            ///
            /// # Errors
            /// Those of [`WinStream::readable`].
            ///
            /// # Cancel safety
            /// A future that was dropped leaves everything as it was.
            pub async fn readable(&self) -> io::Result<()> {
                self.as_ref().readable().await
            }

            /// Reads as [`WinStream::try_read`] does.
            ///
            /// # Errors
            /// Those of [`WinStream::try_read`].
            pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
                self.as_ref().try_read(buf)
            }

            /// Reads as [`WinStream::try_read_vectored`] does.
            ///
            /// # Errors
            /// Those of [`WinStream::try_read`].
            pub fn try_read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                self.as_ref().try_read_vectored(bufs)
            }

            /// Reads as [`WinStream::try_read_buf`] does.
            ///
            /// # Errors
            /// Those of [`WinStream::try_read`].
            pub fn try_read_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
                self.as_ref().try_read_buf(buf)
            }
        }

        impl AsyncRead for $half {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                let stream = AsRef::<WinStream>::as_ref(&*self.get_mut());
                stream.poll_read_into(context, buf)
            }
        }
    )*};
}

/// What both ways to write have.
macro_rules! writes {
    ($($half:ty),*) => {$(
        impl $half {
            /// Waits as [`WinStream::ready`] does.
            ///
            /// # Errors
            /// Those of [`WinStream::ready`].
            ///
            /// # Cancel safety
            /// A future that was dropped leaves everything as it was.
            pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
                self.as_ref().ready(interest).await
            }

            /// Waits as [`WinStream::writable`] does.
            ///
            /// # Errors
            /// Those of [`WinStream::writable`].
            ///
            /// # Cancel safety
            /// A future that was dropped leaves everything as it was.
            pub async fn writable(&self) -> io::Result<()> {
                self.as_ref().writable().await
            }

            /// Writes as [`WinStream::try_write`] does.
            ///
            /// # Errors
            /// Those of [`WinStream::try_write`].
            pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
                self.as_ref().try_write(buf)
            }

            /// Writes as [`WinStream::try_write_vectored`] does.
            ///
            /// # Errors
            /// Those of [`WinStream::try_write`].
            pub fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                self.as_ref().try_write_vectored(bufs)
            }
        }

        impl AsyncWrite for $half {
            fn poll_write(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                let stream = AsRef::<WinStream>::as_ref(&*self.get_mut());
                stream.poll_write_from(context, || stream.try_write(buf))
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                bufs: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                let stream = AsRef::<WinStream>::as_ref(&*self.get_mut());
                stream.poll_write_from(context, || stream.try_write_vectored(bufs))
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_flush(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<io::Result<()>> {
                let stream = AsRef::<WinStream>::as_ref(&*self.get_mut());
                stream.poll_flushed(context)
            }

            fn poll_shutdown(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<io::Result<()>> {
                let stream = AsRef::<WinStream>::as_ref(&*self.get_mut());
                stream.poll_shut_down(context)
            }
        }
    )*};
}

/// What all halves have.
macro_rules! halves {
    ($($half:ty: $stream:ident => $of:expr),*) => {$(
        impl $half {
            /// Returns the address of this end, as [`WinStream::local_addr`] does.
            ///
            /// # Errors
            /// None. The result is there because tokio's method returns one.
            pub fn local_addr(&self) -> io::Result<WinPipeSocketAddr> {
                self.as_ref().local_addr()
            }

            /// Returns the address of the other end, as [`WinStream::peer_addr`] does.
            ///
            /// # Errors
            /// None. The result is there because tokio's method returns one.
            pub fn peer_addr(&self) -> io::Result<WinPipeSocketAddr> {
                self.as_ref().peer_addr()
            }
        }

        impl AsRef<WinStream> for $half {
            fn as_ref(&self) -> &WinStream {
                let $stream = self;
                $of
            }
        }
    )*};
}

reads!(ReadHalf<'_>, OwnedReadHalf);
writes!(WriteHalf<'_>, OwnedWriteHalf);
halves!(
    ReadHalf<'_>: half => half.0,
    OwnedReadHalf: half => &half.0,
    WriteHalf<'_>: half => half.0,
    OwnedWriteHalf: half => &half.stream
);

impl OwnedReadHalf {
    /// Puts the two halves of a stream together again.
    ///
    /// # Errors
    /// They aren't halves of one stream. The error gives them back.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// let (stream, _peer) = winpipe::tokio::WinStream::pair()?;
    /// let (read, write) = stream.into_split();
    /// let stream = read.reunite(write).unwrap();
    /// # Ok(()) }
    /// ```
    pub fn reunite(self, other: OwnedWriteHalf) -> Result<WinStream, ReuniteError> {
        if !Arc::ptr_eq(&self.0, &other.stream) {
            return Err(ReuniteError(self, other));
        }
        let OwnedReadHalf(stream) = self;
        other.forget();
        match Arc::into_inner(stream) {
            Some(stream) => Ok(stream),
            None => unreachable!("only the two halves own the stream"),
        }
    }
}

impl OwnedWriteHalf {
    /// Puts the two halves of a stream together again, as [`OwnedReadHalf::reunite`] does.
    ///
    /// # Errors
    /// They aren't halves of one stream. The error gives them back.
    pub fn reunite(self, other: OwnedReadHalf) -> Result<WinStream, ReuniteError> {
        other.reunite(self)
    }

    /// Drops the half without shutting it down. The stream is closed with the other half.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// let (stream, peer) = winpipe::tokio::WinStream::pair()?;
    /// let (_read, write) = stream.into_split();
    /// write.forget();
    /// let error = peer.try_read(&mut [0; 9]).unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    /// # Ok(()) }
    /// ```
    pub fn forget(mut self) {
        self.shuts_down = false;
    }
}

impl Drop for OwnedWriteHalf {
    fn drop(&mut self) {
        if self.shuts_down {
            let _ = self.stream.shutdown_std(Shutdown::Write);
        }
    }
}

/// The error of halves that don't belong to one stream: `tokio::net::unix::ReuniteError`.
#[derive(Debug)]
pub struct ReuniteError(pub OwnedReadHalf, pub OwnedWriteHalf);

impl fmt::Display for ReuniteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("these are halves of different streams")
    }
}

impl Error for ReuniteError {}
