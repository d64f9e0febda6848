//! The fewest Win32 calls on overlapped handles, written out by hand: the limit.
//! An operation is one `ReadFile` or `WriteFile` with the thread's event, and one wait if it's
//! pending. Nothing can be timed, woken or ended.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::windows::io::{AsRawHandle, FromRawHandle, HandleOrInvalid, OwnedHandle};
use std::ptr::{self, null, null_mut};
use std::time::Duration;

use windows_sys::Win32::Foundation::*;
use windows_sys::Win32::Storage::FileSystem::*;
use windows_sys::Win32::System::IO::{CancelIoEx, OVERLAPPED};
use windows_sys::Win32::System::Pipes::*;
use windows_sys::Win32::System::Threading::{CreateEventW, INFINITE, WaitForSingleObject};

use crate::way::{BUFFER, OWN, Place, Way, calling};

/// As winpipe does it: message pipes, writes of at most a buffer, a backlog of 128.
pub type Raw = Calls<false>;

/// With none of these: byte pipes, one write whatever its size, one instance, peeking at what's there.
pub type Bare = Calls<true>;

/// The raw calls.
pub struct Calls<const BARE: bool>;

/// A listening pipe: its path, the buffers of its instances, those that are idle.
pub struct Listener(Vec<u16>, usize, RefCell<VecDeque<OwnedHandle>>);

/// One end of a pipe, and the longest write that it makes.
pub struct Pipe(OwnedHandle, usize);

impl<const BARE: bool> Way for Calls<BARE> {
    const NAME: &str = if BARE { "bare" } else { "raw" };
    const TITLE: &str = if BARE { "raw, bare" } else { "raw" };
    const SETS_BUFFERS: bool = true;
    const TIMEOUTS: Option<bool> = Some(false);
    type Listener = Listener;
    type Stream = Pipe;

    fn bind(place: &Place) -> io::Result<Listener> {
        let (path, instances) = (wide(&place.path), if BARE { 1 } else { 128 });
        let idle = (0..instances).map(|_| instance::<BARE>(&path, place.buffer));
        let idle = idle.collect::<io::Result<_>>()?;
        Ok(Listener(path, place.buffer, RefCell::new(idle)))
    }

    fn accept(Listener(path, buffer, idle): &Listener) -> io::Result<Pipe> {
        let mut idle = idle.borrow_mut();
        let head = idle.pop_front().ok_or(io::ErrorKind::NotConnected)?;
        match overlapped(head.as_raw_handle(), true, |handle, overlapped| {
            // SAFETY: the handle is open, and `overlapped` waits until the call is complete.
            unsafe { ConnectNamedPipe(handle, overlapped) }
        }) {
            Ok(_) | Err(ERROR_PIPE_CONNECTED | ERROR_NO_DATA) => {}
            Err(code) => return Err(error(code)),
        }
        idle.push_back(instance::<BARE>(path, *buffer)?);
        Ok(Pipe(head, longest_write::<BARE>(*buffer)))
    }

    fn connect(place: &Place) -> io::Result<Pipe> {
        let handle = open::<BARE>(&wide(&place.path))?;
        Ok(Pipe(handle, longest_write::<BARE>(place.buffer)))
    }

    fn try_clone(stream: &Pipe) -> io::Result<Pipe> {
        Ok(Pipe(stream.0.try_clone()?, stream.1))
    }

    fn set_timeouts(_: &Pipe, _: Duration) -> io::Result<()> {
        Ok(())
    }

    fn set_nonblocking(_: &Pipe) -> io::Result<()> {
        Ok(())
    }

    fn try_read(stream: &mut Pipe, buf: &mut [u8]) -> io::Result<usize> {
        match BARE {
            true => stream.peek(),
            false => stream.receive(buf, false),
        }
    }

    fn pair() -> io::Result<(Pipe, Pipe)> {
        let place = Place::fresh(BUFFER);
        let server = instance::<BARE>(&wide(&place.path), BUFFER)?;
        let server = Pipe(server, longest_write::<BARE>(BUFFER));
        Ok((server, Self::connect(&place)?))
    }

    fn end_reads(stream: &Pipe) -> io::Result<()> {
        // SAFETY: the handle is open; its reader waits for the completion.
        succeeded(unsafe { CancelIoEx(stream.handle(), null()) })
    }
}

impl Pipe {
    fn handle(&self) -> HANDLE {
        self.0.as_raw_handle()
    }

    fn receive(&self, buf: &mut [u8], waits: bool) -> io::Result<usize> {
        let (at, len, none) = (buf.as_mut_ptr(), buf.len() as u32, null_mut());
        let read = overlapped(self.handle(), waits, |handle, overlapped| {
            // SAFETY: `buf` is borrowed until `overlapped` has waited for the completion.
            unsafe { ReadFile(handle, at, len, none, overlapped) }
        });
        match read {
            // By `end_reads`.
            Err(ERROR_OPERATION_ABORTED) if waits => Ok(0),
            Err(ERROR_OPERATION_ABORTED) => Err(io::ErrorKind::WouldBlock.into()),
            result => result.map_err(error),
        }
    }

    /// Asks how much there is to read.
    fn peek(&self) -> io::Result<usize> {
        let (none, mut available) = (null_mut(), 0);
        calling();
        // SAFETY: the handle is open; only `available` is written.
        let peeked =
            unsafe { PeekNamedPipe(self.handle(), null_mut(), 0, none, &mut available, none) };
        match (succeeded(peeked)?, available) {
            ((), 0) => Err(io::ErrorKind::WouldBlock.into()),
            ((), count) => Ok(count as usize),
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
        let (at, len, none) = (bytes.as_ptr(), bytes.len().min(self.1) as u32, null_mut());
        let written = overlapped(self.handle(), true, |handle, overlapped| {
            // SAFETY: `bytes` is borrowed until `overlapped` has waited for the completion.
            unsafe { WriteFile(handle, at, len, none, overlapped) }
        });
        written.map_err(error)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

thread_local! {
    static EVENT: OwnedHandle = {
        // SAFETY: no attributes, manual reset, not set, no name.
        let event = unsafe { CreateEventW(null(), 1, 0, null()) };
        assert!(!event.is_null(), "CreateEventW: {}", io::Error::last_os_error());
        // SAFETY: the call has just made the handle, and nobody else has it.
        unsafe { OwnedHandle::from_raw_handle(event) }
    };
}

/// Issues an operation with the thread's event, and waits until it's complete; one that would have to
/// wait, and may not, is cancelled.
fn overlapped(
    handle: HANDLE,
    waits: bool,
    issue: impl FnOnce(HANDLE, *mut OVERLAPPED) -> i32,
) -> Result<usize, u32> {
    let event = EVENT.with(AsRawHandle::as_raw_handle);
    let mut overlapped = OVERLAPPED {
        // The lowest bit says that no completion port wants to know, which is less work.
        hEvent: event.map_addr(|event| event | 1),
        ..OVERLAPPED::default()
    };
    let at = &raw mut overlapped;
    calling();
    if issue(handle, at) == 0 {
        // SAFETY: the event is this thread's own, and the OVERLAPPED is here until all is over.
        match unsafe { GetLastError() } {
            ERROR_IO_PENDING if waits => unsafe {
                calling();
                WaitForSingleObject(event, INFINITE);
            },
            ERROR_IO_PENDING => unsafe {
                calling();
                CancelIoEx(handle, at);
                while ptr::read_volatile(&raw const (*at).Internal) as i32 == STATUS_PENDING {
                    calling();
                    WaitForSingleObject(event, INFINITE);
                }
            },
            ERROR_MORE_DATA => {}
            code => return Err(code),
        }
    }
    // SAFETY: the operation is complete, so the kernel has written both and writes no more.
    let (status, count) = unsafe { ((*at).Internal, (*at).InternalHigh) };
    match status as i32 {
        0.. => Ok(count),
        // SAFETY: takes and returns a number.
        status => match unsafe { RtlNtStatusToDosError(status) } {
            ERROR_MORE_DATA => Ok(count),
            code => Err(code),
        },
    }
}

fn instance<const BARE: bool>(path: &[u16], buffer: usize) -> io::Result<OwnedHandle> {
    let (access, all) = (PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED, PIPE_UNLIMITED_INSTANCES);
    let mode = PIPE_REJECT_REMOTE_CLIENTS
        | match BARE {
            true => PIPE_TYPE_BYTE,
            false => PIPE_TYPE_MESSAGE | PIPE_READMODE_MESSAGE,
        };
    let (path, buffer) = (path.as_ptr(), queued(buffer) as u32);
    calling();
    // SAFETY: the path ends with a NUL; no attributes.
    owned(unsafe { CreateNamedPipeW(path, access, mode, all, buffer, buffer, 0, null()) })
}

fn open<const BARE: bool>(path: &[u16]) -> io::Result<OwnedHandle> {
    let (path, access, none) = (path.as_ptr(), GENERIC_READ | GENERIC_WRITE, null_mut());
    let (how, flags) = (OPEN_EXISTING, FILE_FLAG_OVERLAPPED);
    let handle = loop {
        calling();
        // SAFETY: the path ends with a NUL; neither attributes nor a template.
        match owned(unsafe { CreateFileW(path, access, 0, null(), how, flags, none) }) {
            Err(error) if error.raw_os_error() == Some(ERROR_PIPE_BUSY as i32) => {
                calling();
                // SAFETY: the path ends with a NUL.
                unsafe { WaitNamedPipeW(path, NMPWAIT_WAIT_FOREVER) };
            }
            result => break result?,
        }
    };
    if !BARE {
        let (at, mode) = (handle.as_raw_handle(), &PIPE_READMODE_MESSAGE);
        calling();
        // SAFETY: the handle is open, and the mode is a constant.
        succeeded(unsafe { SetNamedPipeHandleState(at, mode, null(), null()) })?;
    }
    Ok(handle)
}

fn queued(buffer: usize) -> usize {
    if buffer == OWN { BUFFER } else { buffer }
}

fn longest_write<const BARE: bool>(buffer: usize) -> usize {
    if BARE { u32::MAX as usize } else { queued(buffer) }
}

fn owned(handle: HANDLE) -> io::Result<OwnedHandle> {
    let error = io::Error::last_os_error();
    // SAFETY: the call returned a handle that nobody else has, or INVALID_HANDLE_VALUE.
    OwnedHandle::try_from(unsafe { HandleOrInvalid::from_raw_handle(handle) }).map_err(|_| error)
}

fn succeeded(result: i32) -> io::Result<()> {
    match result {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn error(code: u32) -> io::Error {
    io::Error::from_raw_os_error(code as i32)
}

fn wide(path: &str) -> Vec<u16> {
    path.encode_utf16().chain([0]).collect()
}
