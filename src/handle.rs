//! Conversions between streams and handles.

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

/// Takes ownership of one end of a pipe, the server's or the client's, which is connected and was
/// opened for overlapped I/O.
///
/// A pipe that keeps message boundaries is set to be read by message. An end that was set not to
/// wait (`PIPE_NOWAIT`) is set to wait. Timeouts, the nonblocking flag, shutdown and an end of data
/// that was read belong to the stream and its clones, not to the handle. So a stream that is
/// created from a handle begins without them, and streams over duplicates of one handle don't share
/// them.
///
/// If the handle doesn't allow these changes, an end that is read by byte stays that way. Then only
/// one thread should read from it, and an end of data that the peer marks right after data may be
/// missed.
///
/// # On Unix
/// Timeouts, the nonblocking flag and shutdown belong to the descriptor, and stay with it.
///
/// # Errors
/// The handle is checked when the stream is first used. If it isn't suitable, every call fails,
/// with
/// - [`InvalidInput`](std::io::ErrorKind::InvalidInput), if the handle isn't one end of a pipe or
///   is synchronous, or if the end doesn't wait and the handle doesn't allow that to be changed;
/// - [`PermissionDenied`](std::io::ErrorKind::PermissionDenied), if the handle lacks
///   `FILE_READ_ATTRIBUTES`, as does the server's handle of a pipe that was created with
///   `PIPE_ACCESS_OUTBOUND`.
///
/// If the handle is for one direction only, calls in the other direction fail with
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

/// Returns the stream's handle. It's overlapped: std's `File` and child processes, which expect a
/// synchronous handle, can't use it, and std ends the process if it's left with a pending call.
impl From<WinStream> for OwnedHandle {
    fn from(stream: WinStream) -> OwnedHandle {
        stream.pipe.into()
    }
}

impl FromRawHandle for WinStream {
    /// Takes ownership of a raw handle, as `From<OwnedHandle>` does.
    ///
    /// # Safety
    /// The handle must be open, and nothing else may close it.
    #[allow(
        unsafe_code,
        reason = "the trait's method is unsafe, and so is the function that it calls"
    )]
    unsafe fn from_raw_handle(handle: RawHandle) -> WinStream {
        // SAFETY: the caller guarantees this.
        WinStream::from(unsafe { OwnedHandle::from_raw_handle(handle) })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::{self, Read, Write};
    use std::net::Shutdown;
    use std::os::windows::fs::OpenOptionsExt;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::listener::WinListener;
    use crate::sys::error::Code;
    use crate::sys::fault;

    /// A connection whose client's end was opened by other means, and can't be changed. On Wine any
    /// handle can be changed.
    fn fixed_client(name: &str) -> (WinStream, WinStream) {
        let path = format!(r"\\.\pipe\winpipe-unit-{name}-{}", std::process::id());
        let listener = WinListener::bind(&path).unwrap();
        let mut open = OpenOptions::new();
        open.read(true).write(true).custom_flags(0x4000_0000);
        let client = WinStream::from(OwnedHandle::from(open.open(&path).unwrap()));
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn a_peek_that_waits_by_byte_sees_the_end() {
        let (client, server) = fixed_client("by-byte");
        server.shutdown(Shutdown::Write).unwrap();
        let (to, peeked) = mpsc::channel();
        std::thread::spawn(move || {
            fault::inject("SetNamedPipeHandleState", Code::ACCESS_DENIED);
            to.send(client.peek(&mut [0; 8])).unwrap();
            assert_eq!((&client).read(&mut [0; 8]).unwrap(), 0);
        });
        let count = peeked.recv_timeout(Duration::from_secs(30));
        assert_eq!(count.expect("the peek spins").unwrap(), 0);
    }

    #[test]
    fn an_end_that_is_set_not_to_wait_later_reads_no_false_end() {
        let (client, server) = fixed_client("nowait-later");
        (&server).write_all(b"x").unwrap();
        assert_eq!((&client).read(&mut [0; 8]).unwrap(), 1);
        client.pipe.set_nowait();
        for error in [
            (&client).read(&mut [0; 8]).unwrap_err(),
            client.peek(&mut [0; 8]).unwrap_err(),
        ] {
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
        }
        (&server).write_all(b"later").unwrap();
        assert_eq!((&client).read(&mut [0; 8]).unwrap(), 5);
    }

    #[test]
    fn an_end_that_cannot_be_made_to_wait_is_invalid_input() {
        let (client, _server) = fixed_client("nowait");
        client.pipe.set_nowait();
        for _ in 0..2 {
            fault::inject("SetNamedPipeHandleState", Code::ACCESS_DENIED);
            let error = (&client).read(&mut [0; 8]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
            assert!(error.to_string().contains("PIPE_NOWAIT"), "{error}");
        }
    }
}
