//! Streams made of handles, and handles of streams.

use std::os::windows::io::{
    AsHandle, AsRawHandle, BorrowedHandle, FromRawHandle, IntoRawHandle, OwnedHandle, RawHandle,
};

use crate::addr::WinPipeSocketAddr;
use crate::stream::WinStream;

impl AsHandle for WinStream {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.pipe.as_handle()
    }
}

impl AsRawHandle for WinStream {
    fn as_raw_handle(&self) -> RawHandle {
        self.pipe.as_handle().as_raw_handle()
    }
}

impl IntoRawHandle for WinStream {
    fn into_raw_handle(self) -> RawHandle {
        OwnedHandle::from(self).into_raw_handle()
    }
}

/// Takes over an end of a pipe, the server's or the client's, that is connected and was opened for
/// overlapped I/O.
///
/// A pipe that keeps message boundaries is set to be read by message, and one that was set not to wait
/// (`PIPE_NOWAIT`) to wait. Timeouts, the nonblocking flag, shutdown and the end that was read belong
/// to the stream and its clones, not to the handle: a stream that is made from a handle begins
/// without them, and streams over duplicates of one handle share none. Where the handle doesn't allow
/// it to be set, an end that is read by byte stays so. Then only one thread should read it, and an
/// end that the peer marks right after data may be missed.
///
/// # Errors
/// The handle is looked at when the stream is first used. Then every call fails, with
/// - [`InvalidInput`](std::io::ErrorKind::InvalidInput), if the handle isn't one end of a pipe or is
///   synchronous, or if the end doesn't wait and the handle doesn't allow that to be changed;
/// - [`PermissionDenied`](std::io::ErrorKind::PermissionDenied), if the handle lacks
///   `FILE_READ_ATTRIBUTES`, as that of the server of a pipe made with `PIPE_ACCESS_OUTBOUND` does.
///
/// Where the handle goes one way only, calls that would go the other way fail with
/// [`PermissionDenied`](std::io::ErrorKind::PermissionDenied).
impl From<OwnedHandle> for WinStream {
    fn from(handle: OwnedHandle) -> WinStream {
        WinStream::adopt(
            handle.into(),
            WinPipeSocketAddr::UNNAMED,
            WinPipeSocketAddr::UNNAMED,
        )
    }
}

/// Gives the handle away. It's an overlapped one: std's `File` and child processes, which expect a
/// synchronous handle, can't use it, and std ends the process when it's left with a call pending.
impl From<WinStream> for OwnedHandle {
    fn from(stream: WinStream) -> OwnedHandle {
        stream.pipe.into()
    }
}

impl FromRawHandle for WinStream {
    /// Takes over a raw handle, as `From<OwnedHandle>` does.
    ///
    /// # Safety
    /// The handle is open, and nobody else closes it.
    unsafe fn from_raw_handle(handle: RawHandle) -> WinStream {
        // SAFETY: the caller says so.
        WinStream::from(unsafe { OwnedHandle::from_raw_handle(handle) })
    }
}
