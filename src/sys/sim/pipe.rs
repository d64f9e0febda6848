//! One function for each call that concerns a pipe, on the simulated file system.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::descriptor::USER;
use super::kernel::{self, End, Settings, Side, State};
use super::operation::{self, Attend};
use crate::sys::data::Transferred;
pub(crate) use crate::sys::data::{HandleState, Instance, LocalInformation, Quality};
use crate::sys::error::Code;
use crate::sys::record::trace;

/// The most bytes per read or write.
const LONGEST_TRANSFER: usize = 1 << 20;

/// Where the pipes are for the Win32 calls, and for the native ones.
const WIN32_FOLDER: [u16; 9] = wide(br"\\.\pipe\");
const NATIVE_FOLDER: [u16; 9] = wide(br"\??\pipe\");

/// A handle to one end of a pipe, closed on drop.
pub(crate) struct Pipe(Arc<End>);

/// The device that all pipes belong to.
pub(crate) struct Device;

impl Pipe {
    pub(crate) fn duplicate_handle(&self) -> io::Result<Pipe> {
        trace!("DuplicateHandle({self:?}) = 1");
        Ok(Pipe(Arc::clone(&self.0)))
    }

    pub(crate) fn read_file(
        &self,
        buf: &mut [u8],
        attend: Attend<'_>,
    ) -> Result<Transferred, Code> {
        let len = buf.len().min(LONGEST_TRANSFER);
        let issue = |request: &_| {
            let issued = self.0.read(len, request);
            trace!("ReadFile({self:?}, {len}) = {issued:?}");
            issued
        };
        let done = operation::run(attend, issue, &|request| self.0.cancel(request))?;
        buf[..done.count].copy_from_slice(&done.data);
        Ok(Transferred {
            count: done.count,
            more: done.more,
        })
    }

    pub(crate) fn write_file(
        &self,
        message: &[u8],
        attend: Attend<'_>,
    ) -> Result<Transferred, Code> {
        let message = &message[..message.len().min(LONGEST_TRANSFER)];
        let issue = |request: &_| {
            let issued = self.0.write(message, request);
            trace!("WriteFile({self:?}, {}) = {issued:?}", message.len());
            issued
        };
        let done = operation::run(attend, issue, &|request| self.0.cancel(request))?;
        Ok(Transferred {
            count: done.count,
            more: false,
        })
    }

    pub(crate) fn peek_named_pipe(&self, buf: &mut [u8]) -> Result<usize, Code> {
        let peeked = self.0.peek(buf.len());
        trace!("PeekNamedPipe({self:?}, {}) = {peeked:?}", buf.len());
        let peeked = peeked?;
        buf[..peeked.count].copy_from_slice(&peeked.data);
        Ok(peeked.count)
    }

    pub(crate) fn connect_named_pipe(&self, attend: Attend<'_>) -> Result<(), Code> {
        let issue = |request: &_| {
            let issued = self.0.connect(request);
            trace!("ConnectNamedPipe({self:?}) = {issued:?}");
            issued
        };
        match operation::run(attend, issue, &|request| self.0.cancel(request)) {
            Err(Code::PIPE_CONNECTED | Code::NO_DATA) => Ok(()),
            connected => connected.map(|_| ()),
        }
    }

    pub(crate) fn flush_file_buffers(&self) -> Result<(), Code> {
        let flushed = self.0.flush();
        trace!("FlushFileBuffers({self:?}) = {flushed:?}");
        flushed
    }

    pub(crate) fn set_named_pipe_handle_state(&self, by_message: bool) -> Result<(), Code> {
        #[cfg(test)]
        crate::sys::fault::strike("SetNamedPipeHandleState")?;
        self.0.set_reads_by_message(by_message);
        trace!("SetNamedPipeHandleState({self:?}, {by_message}) = 1");
        Ok(())
    }

    pub(crate) fn handle_state(&self) -> Result<HandleState, Code> {
        #[cfg(test)]
        crate::sys::fault::strike("NtQueryInformationFile")?;
        trace!("NtQueryInformationFile({self:?}, FilePipeInformation) = 0");
        Ok(HandleState {
            by_message: self.0.reads_by_message(),
            waits: true,
        })
    }

    pub(crate) fn local_information(&self) -> Result<LocalInformation, Code> {
        #[cfg(test)]
        crate::sys::fault::strike("NtQueryInformationFile")?;
        let state = self.0.state();
        trace!("NtQueryInformationFile({self:?}, FilePipeLocalInformation) = 0, {state:?}");
        Ok(LocalInformation {
            is_server: self.0.side() == Side::Server,
            is_message_type: self.0.is_message_type(),
            write_quota: self.0.write_quota(),
            has_client: state != State::Listening,
            is_closing: state == State::Closing,
        })
    }

    /// Returns a self-relative descriptor with only an owner [11.9]: the user owns every pipe.
    pub(crate) fn origin(&self) -> io::Result<Vec<u8>> {
        trace!("GetKernelObjectSecurity({self:?}) = 1");
        let (revision, self_relative, offset) = (1, [0, 0x80], 20);
        let mut descriptor = vec![revision, 0];
        descriptor.extend(self_relative);
        descriptor.extend([offset, 0, 0, 0]);
        descriptor.resize(offset.into(), 0);
        descriptor.extend(USER);
        Ok(descriptor)
    }

    /// [11.8] There is only one process, which has both ends.
    pub(crate) fn peer_process_id(&self, _is_server: bool) -> Result<u32, Code> {
        Ok(std::process::id())
    }

    pub(crate) fn peer_session_id(&self, _is_server: bool) -> Result<u32, Code> {
        Ok(1)
    }

    pub(crate) fn is_synchronous(&self) -> Result<bool, Code> {
        #[cfg(test)]
        crate::sys::fault::strike("NtQueryInformationFile")?;
        Ok(false)
    }

    pub(super) fn impersonate(&self) -> Result<(), Code> {
        self.0.impersonate()
    }
}

/// Prints a number in place of the handle.
impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Pointer::fmt(&Arc::as_ptr(&self.0), f)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        trace!("CloseHandle({self:?}) = 1");
    }
}

pub(crate) fn create_file(path: &[u16], quality: Quality, tracking: bool) -> Result<Pipe, Code> {
    // What a server may do with the client's identity makes no difference here.
    let _ = quality;
    let opened = kernel::open(name(path, &WIN32_FOLDER)?, tracking).map(Arc::new);
    let opened = opened.map(Pipe);
    trace!(
        "CreateFileW({}, {quality:?}, tracking: {tracking}) = {opened:?}",
        crate::sys::text::Wide(path)
    );
    opened
}

pub(crate) fn wait_named_pipe(path: &[u16], milliseconds: u32) -> Result<(), Code> {
    #[cfg(test)]
    crate::sys::fault::strike("WaitNamedPipeW")?;
    let limit = Duration::from_millis(milliseconds.into());
    let waited = kernel::wait(name(path, &WIN32_FOLDER)?, limit);
    trace!("WaitNamedPipeW({milliseconds} ms) = {waited:?}");
    waited
}

pub(crate) fn create_named_pipe(instance: Instance<'_, Device>) -> Result<Pipe, Code> {
    #[cfg(test)]
    crate::sys::fault::strike("NtCreateNamedPipeFile")?;
    let named = match instance.root {
        Some(_device) => None,
        None => Some(name(instance.name, &NATIVE_FOLDER)?),
    };
    let settings = Settings {
        is_message_type: instance.by_message,
        quotas: [instance.inbound as usize, instance.outbound as usize],
        limit: instance.limit as usize,
    };
    let created = kernel::create(named, instance.first, settings).map(Arc::new);
    let created = created.map(Pipe);
    trace!(
        "NtCreateNamedPipeFile({}, first: {}, reject_remote: {}, {:?}) = {created:?}",
        crate::sys::text::Wide(instance.name),
        instance.first,
        instance.reject_remote,
        instance.descriptor,
    );
    created
}

pub(crate) fn open_device() -> Result<Device, Code> {
    Ok(Device)
}

pub(crate) fn open_peer(server: &Pipe) -> Result<Pipe, Code> {
    let opened = server.0.open_peer().map(Arc::new).map(Pipe);
    trace!("NtOpenFile() = {opened:?}");
    opened
}

/// Returns the pipe's name from a path with a terminating NUL. Only `folder` has anything in it.
fn name<'a>(path: &'a [u16], folder: &[u16]) -> Result<&'a [u16], Code> {
    let path = path.strip_suffix(&[0]).unwrap_or(path);
    path.strip_prefix(folder).ok_or(Code::FILE_NOT_FOUND)
}

const fn wide<const LEN: usize>(text: &[u8; LEN]) -> [u16; LEN] {
    let mut wide = [0; LEN];
    let mut at = 0;
    while at < LEN {
        wide[at] = text[at] as u16;
        at += 1;
    }
    wide
}
