//! The fewest Win32 calls on overlapped handles, written out by hand: the limit.
//! An operation is one `ReadFile` or `WriteFile` with the thread's event, and one wait if it's
//! pending. Nothing can be timed, woken or ended.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::windows::io::{AsRawHandle, HandleOrInvalid, HandleOrNull, OwnedHandle};
use std::ptr::{null, null_mut};
use std::time::Duration;

use windows_sys::Win32::Foundation::*;
use windows_sys::Win32::Storage::FileSystem::*;
use windows_sys::Win32::System::IO::{CancelIoEx, GetOverlappedResult, OVERLAPPED};
use windows_sys::Win32::System::Pipes::*;
use windows_sys::Win32::System::Threading::{CreateEventW, INFINITE, WaitForSingleObject};

use crate::way::{BUFFER, Place, Way, calling};

/// The raw calls.
#[derive(Clone, Copy, PartialEq)]
pub enum Raw {
    /// As winpipe does it: message pipes, writes of at most a buffer, a backlog of 128.
    Chunks,
    /// With none of these: byte pipes, one write whatever its size, one instance, peeking at what's
    /// there.
    Bare,
}

/// A listening pipe: its path, the buffers of its instances, those that are idle.
pub struct Listener(Vec<u16>, usize, RefCell<VecDeque<OwnedHandle>>);

/// One end of a pipe, and the longest write that it makes.
pub struct Pipe(OwnedHandle, usize);

impl Way for Raw {
    const SETS_BUFFERS: bool = true;
    const TIMEOUTS: Option<bool> = Some(false);
    type Listener = Listener;
    type Stream = Pipe;

    fn bind(self, place: &Place) -> io::Result<Listener> {
        let (path, buffer) = (wide(&place.path), place.buffer.unwrap_or(BUFFER));
        let instances = if self == Raw::Bare { 1 } else { 128 };
        let idle =
            (0..instances).map(|_| self.instance(&path, buffer)).collect::<io::Result<_>>()?;
        Ok(Listener(path, buffer, RefCell::new(idle)))
    }

    fn accept(self, Listener(path, buffer, idle): &Listener) -> io::Result<Pipe> {
        let mut idle = idle.borrow_mut();
        let head = idle.pop_front().ok_or(io::ErrorKind::NotConnected)?;
        // SAFETY: the handle is open, and `overlapped` waits until the call is complete.
        match overlapped(&head, true, |pipe, at| unsafe { ConnectNamedPipe(pipe, at) }) {
            Ok(_) | Err(ERROR_PIPE_CONNECTED | ERROR_NO_DATA) => {}
            Err(code) => return Err(error(code)),
        }
        idle.push_back(self.instance(path, *buffer)?);
        Ok(self.pipe(head, *buffer))
    }

    fn connect(self, place: &Place) -> io::Result<Pipe> {
        let (path, none) = (wide(&place.path), null_mut());
        let (access, flags) = (GENERIC_READ | GENERIC_WRITE, FILE_FLAG_OVERLAPPED);
        let handle = loop {
            calling();
            // SAFETY: the path ends with a NUL; neither attributes nor a template.
            match owned(unsafe {
                CreateFileW(path.as_ptr(), access, 0, null(), OPEN_EXISTING, flags, none)
            }) {
                Err(error) if error.raw_os_error() == Some(ERROR_PIPE_BUSY as i32) => {
                    calling();
                    // SAFETY: the path ends with a NUL.
                    unsafe { WaitNamedPipeW(path.as_ptr(), NMPWAIT_WAIT_FOREVER) };
                }
                result => break result?,
            }
        };
        if self == Raw::Chunks {
            let (at, mode) = (handle.as_raw_handle(), &PIPE_READMODE_MESSAGE);
            calling();
            // SAFETY: the handle is open, and the mode is a constant.
            succeeded(unsafe { SetNamedPipeHandleState(at, mode, null(), null()) })?;
        }
        Ok(self.pipe(handle, place.buffer.unwrap_or(BUFFER)))
    }

    fn try_clone(self, stream: &Pipe) -> io::Result<Pipe> {
        Ok(Pipe(stream.0.try_clone()?, stream.1))
    }

    fn set_timeouts(self, _: &Pipe, _: Duration) -> io::Result<()> {
        Ok(())
    }

    fn set_nonblocking(self, _: &Pipe) -> io::Result<()> {
        Ok(())
    }

    fn try_read(self, stream: &mut Pipe, buf: &mut [u8]) -> io::Result<usize> {
        if self == Raw::Chunks {
            return stream.receive(buf, false);
        }
        let (pipe, none, mut available) = (stream.0.as_raw_handle(), null_mut(), 0);
        calling();
        // SAFETY: the handle is open; only `available` is written.
        succeeded(unsafe { PeekNamedPipe(pipe, null_mut(), 0, none, &mut available, none) })?;
        match available {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count as usize),
        }
    }

    fn pair(self) -> io::Result<(Pipe, Pipe)> {
        let place = Place::fresh(None);
        let server = self.instance(&wide(&place.path), BUFFER)?;
        Ok((self.pipe(server, BUFFER), self.connect(&place)?))
    }

    fn end_reads(self, stream: &Pipe) -> io::Result<()> {
        // SAFETY: the handle is open; its reader waits for the completion.
        match succeeded(unsafe { CancelIoEx(stream.0.as_raw_handle(), null()) }) {
            Err(error) if error.raw_os_error() == Some(ERROR_NOT_FOUND as i32) => Ok(()),
            result => result,
        }
    }
}

impl Raw {
    fn instance(self, path: &[u16], buffer: usize) -> io::Result<OwnedHandle> {
        let (access, all) = (PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED, PIPE_UNLIMITED_INSTANCES);
        let mode = match self {
            Raw::Chunks => PIPE_TYPE_MESSAGE | PIPE_READMODE_MESSAGE,
            Raw::Bare => PIPE_TYPE_BYTE,
        };
        let (at, mode, size) = (path.as_ptr(), mode | PIPE_REJECT_REMOTE_CLIENTS, buffer as u32);
        calling();
        // SAFETY: the path ends with a NUL; no attributes.
        owned(unsafe { CreateNamedPipeW(at, access, mode, all, size, size, 0, null()) })
    }

    fn pipe(self, handle: OwnedHandle, buffer: usize) -> Pipe {
        Pipe(handle, if self == Raw::Bare { u32::MAX as usize } else { buffer })
    }
}

impl Pipe {
    fn receive(&self, buf: &mut [u8], waits: bool) -> io::Result<usize> {
        let (start, len) = (buf.as_mut_ptr(), buf.len() as u32);
        // SAFETY: `buf` is borrowed until `overlapped` has waited for the completion.
        let read = |pipe, at| unsafe { ReadFile(pipe, start, len, null_mut(), at) };
        match overlapped(&self.0, waits, read) {
            // By `end_reads`.
            Err(ERROR_OPERATION_ABORTED) if waits => Ok(0),
            Err(ERROR_OPERATION_ABORTED) => Err(io::ErrorKind::WouldBlock.into()),
            result => result.map_err(error),
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // The handle is closed next.
        calling();
    }
}

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.receive(buf, true)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (start, len) = (bytes.as_ptr(), bytes.len().min(self.1) as u32);
        // SAFETY: `bytes` is borrowed until `overlapped` has waited for the completion.
        let write = |pipe, at| unsafe { WriteFile(pipe, start, len, null_mut(), at) };
        overlapped(&self.0, true, write).map_err(error)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

thread_local! {
    static EVENT: OwnedHandle = {
        // SAFETY: no attributes, manual reset, not set, no name; the new handle is nobody else's.
        let event = unsafe { HandleOrNull::from_raw_handle(CreateEventW(null(), 1, 0, null())) };
        event.try_into().expect("CreateEventW")
    };
}

/// Issues an operation with the thread's event, and waits until it's complete; one that would have to
/// wait, and may not, is cancelled.
fn overlapped(
    pipe: &OwnedHandle,
    waits: bool,
    issue: impl FnOnce(HANDLE, *mut OVERLAPPED) -> i32,
) -> Result<usize, u32> {
    let (pipe, event) = (pipe.as_raw_handle(), EVENT.with(AsRawHandle::as_raw_handle));
    // The lowest bit says that no completion port wants to know, which is less work.
    let hidden = event.map_addr(|event| event | 1);
    let mut overlapped = OVERLAPPED { hEvent: hidden, ..OVERLAPPED::default() };
    let (at, mut count) = (&raw mut overlapped, 0);
    calling();
    // SAFETY: the handles are open, the event is this thread's own, and `overlapped` stays until the
    // operation is complete: the last call waits for one that isn't yet.
    let result = unsafe {
        if issue(pipe, at) == 0 {
            match GetLastError() {
                ERROR_IO_PENDING if waits => {
                    calling();
                    WaitForSingleObject(event, INFINITE);
                }
                ERROR_IO_PENDING => {
                    calling();
                    CancelIoEx(pipe, at);
                }
                ERROR_MORE_DATA => {}
                code => return Err(code),
            }
        }
        match GetOverlappedResult(pipe, at, &mut count, 1) {
            0 => GetLastError(),
            _ => ERROR_SUCCESS,
        }
    };
    match result {
        ERROR_SUCCESS | ERROR_MORE_DATA => Ok(count as usize),
        code => Err(code),
    }
}

fn owned(handle: HANDLE) -> io::Result<OwnedHandle> {
    let error = io::Error::last_os_error();
    // SAFETY: the call returned a handle that nobody else has, or INVALID_HANDLE_VALUE.
    OwnedHandle::try_from(unsafe { HandleOrInvalid::from_raw_handle(handle) }).map_err(|_| error)
}

fn succeeded(result: i32) -> io::Result<()> {
    if result == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn error(code: u32) -> io::Error {
    io::Error::from_raw_os_error(code as i32)
}

fn wide(path: &str) -> Vec<u16> {
    path.encode_utf16().chain([0]).collect()
}
