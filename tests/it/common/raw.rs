//! Pipes made and opened with the plain calls, as another program would.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::{Path, PathBuf};

use windows_sys::Win32::Foundation::INVALID_HANDLE_VALUE;
use windows_sys::Win32::Storage::FileSystem::PIPE_ACCESS_DUPLEX;
use windows_sys::Win32::System::Pipes::{
    ConnectNamedPipe, CreateNamedPipeW, PIPE_READMODE_BYTE, PIPE_READMODE_MESSAGE, PIPE_TYPE_BYTE,
    PIPE_TYPE_MESSAGE, SetNamedPipeHandleState,
};

use super::fresh_path;

pub const BYTE: u32 = PIPE_TYPE_BYTE | PIPE_READMODE_BYTE;

pub const MESSAGE_READ_BY_BYTE: u32 = PIPE_TYPE_MESSAGE | PIPE_READMODE_BYTE;

pub const MESSAGE: u32 = PIPE_TYPE_MESSAGE | PIPE_READMODE_MESSAGE;

pub fn wide(path: &Path) -> Vec<u16> {
    path.to_str().unwrap().encode_utf16().chain([0]).collect()
}

/// A pipe as another program would make it: `mode` is its type and read mode. It queues 4 KiB.
pub fn foreign_instance(path: &Path, open: u32, mode: u32, limit: u32) -> io::Result<OwnedHandle> {
    foreign_instance_of(4096, path, open, mode, limit)
}

fn foreign_instance_of(
    quota: u32,
    path: &Path,
    open: u32,
    mode: u32,
    limit: u32,
) -> io::Result<OwnedHandle> {
    let path = wide(path);
    let open = match open & PIPE_ACCESS_DUPLEX {
        0 => PIPE_ACCESS_DUPLEX | open,
        _ => open,
    };
    // SAFETY: the path ends with a NUL; no attributes.
    unsafe {
        let handle = CreateNamedPipeW(
            path.as_ptr(),
            open,
            mode,
            limit,
            quota,
            quota,
            0,
            std::ptr::null(),
        );
        match handle {
            INVALID_HANDLE_VALUE => Err(io::Error::last_os_error()),
            handle => Ok(OwnedHandle::from_raw_handle(handle)),
        }
    }
}

/// The server's end, synchronous, of a foreign pipe that `client` connects to. It queues 4 KiB.
pub fn foreign_server<T>(mode: u32, client: impl FnOnce(&Path) -> T) -> (File, T) {
    foreign_server_of(4096, mode, client)
}

/// As [`foreign_server`], of a pipe that queues `quota` bytes.
pub fn foreign_server_of<T>(quota: u32, mode: u32, client: impl FnOnce(&Path) -> T) -> (File, T) {
    let path = fresh_path();
    let handle = foreign_instance_of(quota, &path, 0, mode, 1).unwrap();
    let client = client(&path);
    // SAFETY: the handle is open and synchronous. The client is there already, so that is all the
    // call finds out.
    unsafe { ConnectNamedPipe(handle.as_raw_handle(), std::ptr::null_mut()) };
    (File::from(handle), client)
}

/// The client's end, synchronous, as another program would open it: reading by byte.
pub fn foreign_client(path: &Path) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap()
}

pub fn set_read_mode(handle: &impl AsRawHandle, mode: u32) {
    // SAFETY: the handle is borrowed, and `mode` is read before the call returns.
    let ok = unsafe {
        SetNamedPipeHandleState(
            handle.as_raw_handle(),
            &mode,
            std::ptr::null(),
            std::ptr::null(),
        )
    };
    assert_ne!(ok, 0, "{}", io::Error::last_os_error());
}

/// A server that has its only instance taken.
pub fn busy_server() -> (PathBuf, OwnedHandle, File) {
    let path = fresh_path();
    let instance = foreign_instance(&path, 0, BYTE, 1).unwrap();
    let client = foreign_client(&path);
    (path, instance, client)
}
