//! The fewest Win32 calls on overlapped handles, written out by hand: the limit.
//!
//! An operation is one `ReadFile` or `WriteFile` with the thread's event, and one wait if it's
//! pending. Nothing can be timed, woken or ended.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, HandleOrInvalid, OwnedHandle};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use windows_sys::Win32::Foundation::{
    ERROR_BROKEN_PIPE, ERROR_IO_PENDING, ERROR_MORE_DATA, ERROR_NO_DATA, ERROR_OPERATION_ABORTED,
    ERROR_PIPE_BUSY, ERROR_PIPE_CONNECTED, GENERIC_READ, GENERIC_WRITE, GetLastError, HANDLE,
    RtlNtStatusToDosError, STATUS_PENDING,
};
use windows_sys::Win32::Storage::FileSystem::{
    CreateFileW, FILE_FLAG_OVERLAPPED, OPEN_EXISTING, PIPE_ACCESS_DUPLEX, ReadFile, WriteFile,
};
use windows_sys::Win32::System::IO::{CancelIoEx, OVERLAPPED};
use windows_sys::Win32::System::Pipes::{
    ConnectNamedPipe, CreateNamedPipeW, NMPWAIT_WAIT_FOREVER, PIPE_READMODE_MESSAGE,
    PIPE_REJECT_REMOTE_CLIENTS, PIPE_TYPE_BYTE, PIPE_TYPE_MESSAGE, PIPE_UNLIMITED_INSTANCES,
    PeekNamedPipe, SetNamedPipeHandleState, WaitNamedPipeW,
};
use windows_sys::Win32::System::Threading::{CreateEventW, INFINITE, WaitForSingleObject};

use crate::count::{Calls as Known, Operation};

use super::{Timeouts, Way, with_two_threads};

/// As winpipe does it: message pipes, writes of at most 64 KiB, a backlog of 128.
pub type Raw = Calls<false>;

/// With none of these: byte pipes, one write whatever its size, one instance, peeking at what's there.
pub type Bare = Calls<true>;

/// The raw calls.
pub struct Calls<const BARE: bool>;

const BACKLOG: usize = 128;

/// A listening pipe.
pub struct Listener {
    path: Vec<u16>,
    idle: RefCell<VecDeque<OwnedHandle>>,
}

impl<const BARE: bool> Way for Calls<BARE> {
    type Listener = Listener;

    const SETS_BUFFERS: bool = true;
    type Stream = OwnedHandle;

    const TIMEOUTS: Timeouts = Timeouts::Ignored;
    const CALLS: Known = Known::Known(|operation| match operation {
        Operation::Bind if BARE => 1,
        Operation::Bind => BACKLOG,
        Operation::Connect if BARE => 1,
        Operation::Connect | Operation::Accept => 2,
        Operation::Write | Operation::Read | Operation::Drop => 1,
        Operation::WaitingRead | Operation::WaitingWrite => 2,
        Operation::NothingToRead if BARE => 1,
        // And a wait where the cancelled read isn't over at once.
        Operation::NothingToRead => 2,
        // It can't.
        Operation::TimedOutRead => 0,
    });

    fn bind(path: &str) -> io::Result<Listener> {
        let path = wide(path);
        let instances = if BARE { 1 } else { BACKLOG };
        let idle: io::Result<_> = (0..instances).map(|_| instance::<BARE>(&path)).collect();
        Ok(Listener {
            path,
            idle: RefCell::new(idle?),
        })
    }

    fn accept(listener: &Listener) -> io::Result<OwnedHandle> {
        let mut idle = listener.idle.borrow_mut();
        let head = idle.pop_front().ok_or(io::ErrorKind::NotConnected)?;
        match overlapped(|overlapped| {
            // SAFETY: the handle is open, and `overlapped` waits until the call is complete.
            unsafe { ConnectNamedPipe(head.as_raw_handle(), overlapped) }
        }) {
            Ok(_) | Err(ERROR_PIPE_CONNECTED | ERROR_NO_DATA) => {}
            Err(code) => return Err(error(code)),
        }
        idle.push_back(instance::<BARE>(&listener.path)?);
        Ok(head)
    }

    fn connect(path: &str) -> io::Result<OwnedHandle> {
        open::<BARE>(&wide(path))
    }

    fn read(stream: &mut OwnedHandle, buf: &mut [u8]) -> io::Result<usize> {
        read(stream, buf)
    }

    fn write_all(stream: &mut OwnedHandle, bytes: &[u8]) -> io::Result<()> {
        write_all::<BARE>(stream, bytes)
    }

    fn both_ways(stream: &mut OwnedHandle, unit: usize, time: Duration) -> io::Result<u64> {
        let stream = &*stream;
        with_two_threads(
            unit,
            time,
            |bytes| write_all::<BARE>(stream, bytes),
            |buf| read(stream, buf),
        )
    }

    fn set_timeouts(_: &OwnedHandle, _: Duration) -> io::Result<()> {
        Ok(())
    }

    fn set_nonblocking(_: &OwnedHandle) -> io::Result<()> {
        Ok(())
    }

    fn try_read(stream: &mut OwnedHandle, buf: &mut [u8]) -> io::Result<usize> {
        if BARE {
            peek(stream)
        } else {
            read_or_cancel(stream, buf)
        }
    }

    fn pair() -> io::Result<(OwnedHandle, OwnedHandle)> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = wide(&format!(
            r"\\.\pipe\winpipe-bench-pair-{}-{count}",
            std::process::id()
        ));
        Ok((instance::<BARE>(&path)?, open::<BARE>(&path)?))
    }

    fn wake_up(stream: OwnedHandle) -> io::Result<Duration> {
        super::wake(
            stream,
            |stream| match read(stream, &mut [0]) {
                Err(error) if error.raw_os_error() == Some(ERROR_OPERATION_ABORTED as i32) => Ok(0),
                result => result,
            },
            |stream| {
                // SAFETY: the handle is open; its reader waits for the completion.
                match unsafe { CancelIoEx(stream.as_raw_handle(), ptr::null()) } {
                    0 => Err(io::Error::last_os_error()),
                    _ => Ok(()),
                }
            },
        )
    }
}

thread_local! {
    static EVENT: OwnedHandle = {
        // SAFETY: no attributes, manual reset, not set, no name.
        let event = unsafe { CreateEventW(ptr::null(), 1, 0, ptr::null()) };
        assert!(!event.is_null(), "CreateEventW: {}", io::Error::last_os_error());
        // SAFETY: the call has just made the handle, and nobody else has it.
        unsafe { OwnedHandle::from_raw_handle(event) }
    };
}

/// The event with the bit that says that no completion port wants to know: it's less work.
fn without_packet(event: HANDLE) -> HANDLE {
    event.map_addr(|event| event | 1)
}

/// Issues an operation and waits until it's complete.
fn overlapped(issue: impl FnOnce(*mut OVERLAPPED) -> i32) -> Result<usize, u32> {
    let event = EVENT.with(AsRawHandle::as_raw_handle);
    let mut overlapped = OVERLAPPED {
        hEvent: without_packet(event),
        ..OVERLAPPED::default()
    };
    let at = &raw mut overlapped;
    if issue(at) == 0 {
        // SAFETY: reads a number of this thread's.
        match unsafe { GetLastError() } {
            ERROR_IO_PENDING => {
                // SAFETY: the event is this thread's own, and open until it ends.
                unsafe { WaitForSingleObject(event, INFINITE) };
            }
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

fn read(stream: &OwnedHandle, buf: &mut [u8]) -> io::Result<usize> {
    let (at, len) = (buf.as_mut_ptr(), buf.len() as u32);
    let result = overlapped(|overlapped| {
        // SAFETY: `buf` is borrowed until `overlapped` has waited for the completion.
        unsafe { ReadFile(stream.as_raw_handle(), at, len, ptr::null_mut(), overlapped) }
    });
    match result {
        Err(ERROR_BROKEN_PIPE) => Ok(0),
        result => result.map_err(error),
    }
}

fn write_all<const BARE: bool>(stream: &OwnedHandle, bytes: &[u8]) -> io::Result<()> {
    let longest = if BARE {
        u32::MAX as usize
    } else {
        super::buffer()
    };
    for chunk in bytes.chunks(longest) {
        let (at, len) = (chunk.as_ptr(), chunk.len() as u32);
        overlapped(|overlapped| {
            // SAFETY: `chunk` is borrowed until `overlapped` has waited for the completion.
            unsafe { WriteFile(stream.as_raw_handle(), at, len, ptr::null_mut(), overlapped) }
        })
        .map_err(error)?;
    }
    Ok(())
}

/// Reads, and takes it back where it would have to wait.
fn read_or_cancel(stream: &OwnedHandle, buf: &mut [u8]) -> io::Result<usize> {
    let event = EVENT.with(AsRawHandle::as_raw_handle);
    let mut overlapped = OVERLAPPED {
        hEvent: without_packet(event),
        ..OVERLAPPED::default()
    };
    let (at, len, overlapped) = (buf.as_mut_ptr(), buf.len() as u32, &raw mut overlapped);
    let handle = stream.as_raw_handle();
    // SAFETY: `buf` and the OVERLAPPED are here until the cancelled operation is complete, below.
    unsafe {
        if ReadFile(handle, at, len, ptr::null_mut(), overlapped) == 0 {
            match GetLastError() {
                ERROR_IO_PENDING => {
                    CancelIoEx(handle, overlapped);
                    while ptr::read_volatile(&raw const (*overlapped).Internal) as i32
                        == STATUS_PENDING
                    {
                        WaitForSingleObject(event, INFINITE);
                    }
                    if (*overlapped).Internal as i32 != 0 {
                        return Err(io::ErrorKind::WouldBlock.into());
                    }
                }
                code => return Err(error(code)),
            }
        }
        Ok((*overlapped).InternalHigh)
    }
}

/// Asks how much there is to read.
fn peek(stream: &OwnedHandle) -> io::Result<usize> {
    let mut available = 0;
    let none = ptr::null_mut();
    // SAFETY: the handle is open; only `available` is written.
    let ok = unsafe {
        PeekNamedPipe(
            stream.as_raw_handle(),
            ptr::null_mut(),
            0,
            none,
            &mut available,
            none,
        )
    };
    match (ok, available) {
        (0, _) => Err(io::Error::last_os_error()),
        (_, 0) => Err(io::ErrorKind::WouldBlock.into()),
        (_, count) => Ok(count as usize),
    }
}

fn instance<const BARE: bool>(path: &[u16]) -> io::Result<OwnedHandle> {
    let mode = if BARE {
        PIPE_TYPE_BYTE
    } else {
        PIPE_TYPE_MESSAGE | PIPE_READMODE_MESSAGE
    };
    // SAFETY: the path ends with a NUL; no attributes.
    let handle = unsafe {
        CreateNamedPipeW(
            path.as_ptr(),
            PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED,
            mode | PIPE_REJECT_REMOTE_CLIENTS,
            PIPE_UNLIMITED_INSTANCES,
            super::buffer() as u32,
            super::buffer() as u32,
            0,
            ptr::null(),
        )
    };
    owned(handle)
}

fn open<const BARE: bool>(path: &[u16]) -> io::Result<OwnedHandle> {
    let handle = loop {
        // SAFETY: the path ends with a NUL; neither attributes nor a template.
        let handle = unsafe {
            CreateFileW(
                path.as_ptr(),
                GENERIC_READ | GENERIC_WRITE,
                0,
                ptr::null(),
                OPEN_EXISTING,
                FILE_FLAG_OVERLAPPED,
                ptr::null_mut(),
            )
        };
        match owned(handle) {
            Err(error) if error.raw_os_error() == Some(ERROR_PIPE_BUSY as i32) => {
                // SAFETY: the path ends with a NUL.
                unsafe { WaitNamedPipeW(path.as_ptr(), NMPWAIT_WAIT_FOREVER) };
            }
            result => break result?,
        }
    };
    if !BARE {
        let none = ptr::null();
        // SAFETY: the handle is open, and the mode is a number on this stack.
        let ok = unsafe {
            SetNamedPipeHandleState(handle.as_raw_handle(), &PIPE_READMODE_MESSAGE, none, none)
        };
        if ok == 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(handle)
}

fn owned(handle: HANDLE) -> io::Result<OwnedHandle> {
    let error = io::Error::last_os_error();
    // SAFETY: the call returned a handle that nobody else has, or INVALID_HANDLE_VALUE.
    OwnedHandle::try_from(unsafe { HandleOrInvalid::from_raw_handle(handle) }).map_err(|_| error)
}

fn error(code: u32) -> io::Error {
    io::Error::from_raw_os_error(code as i32)
}

fn wide(path: &str) -> Vec<u16> {
    path.encode_utf16().chain([0]).collect()
}
