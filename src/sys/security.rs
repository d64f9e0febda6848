//! Who this user is, and the descriptor that says who may connect to a pipe.

use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr;

use windows_sys::Win32::Foundation::{HANDLE, LocalFree};
use windows_sys::Win32::Security::Authorization::{
    ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1,
};
use windows_sys::Win32::Security::{
    GetTokenInformation, PSECURITY_DESCRIPTOR, TOKEN_QUERY, TOKEN_USER, TokenUser,
};
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetCurrentThread, OpenProcessToken, OpenThreadToken,
};

use super::error::Code;
use super::pipe::wide;
use super::trace;

/// A security descriptor, freed on drop.
#[derive(Debug)]
pub(crate) struct Descriptor(PSECURITY_DESCRIPTOR);

// SAFETY: nothing writes to a descriptor once it's made, and `LocalFree` may be called on any thread.
unsafe impl Send for Descriptor {}
// SAFETY: as above.
unsafe impl Sync for Descriptor {}

impl Descriptor {
    /// Full access for the user that this thread acts as, who owns the pipe, and for nobody else.
    pub(crate) fn current_user_only() -> io::Result<Descriptor> {
        let user = current_user_sid()?;
        Descriptor::from_sddl(&format!("O:{user}D:P(A;;FA;;;{user})"))
    }

    /// Makes the descriptor that a text describes. This corresponds to calling
    /// `ConvertStringSecurityDescriptorToSecurityDescriptorW`.
    fn from_sddl(sddl: &str) -> io::Result<Descriptor> {
        let text = wide(sddl);
        let mut descriptor = ptr::null_mut();
        // SAFETY: the text ends with a NUL, and `descriptor` is a place for a pointer.
        let ok = unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                text.as_ptr(),
                SDDL_REVISION_1,
                &mut descriptor,
                ptr::null_mut(),
            )
        };
        let code = Code::last();
        trace!("ConvertStringSecurityDescriptorToSecurityDescriptorW({sddl:?}) = {ok}");
        if ok == 0 {
            Err(code.into())
        } else {
            Ok(Descriptor(descriptor))
        }
    }

    pub(crate) fn as_ptr(&self) -> *const core::ffi::c_void {
        self.0
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: the conversion allocated it with `LocalAlloc`, and it's used no more.
        unsafe { LocalFree(self.0) };
    }
}

/// The security identifier of the user that this thread acts as, such as `S-1-5-21-…-1001`.
pub(crate) fn current_user_sid() -> io::Result<String> {
    let token = current_token()?;
    // A TOKEN_USER and the longest SID behind it (68 bytes), aligned as the first must be.
    let mut user = [0_usize; 32];
    let mut len = 0;
    // SAFETY: `user` has room for as many bytes as is said.
    let ok = unsafe {
        let (at, room) = (user.as_mut_ptr().cast(), size_of_val(&user) as u32);
        GetTokenInformation(token.as_raw_handle(), TokenUser, at, room, &mut len)
    };
    let code = Code::last();
    trace!("GetTokenInformation(TokenUser) = {ok}");
    if ok == 0 {
        return Err(code.into());
    }
    // SAFETY: the kernel has just written a TOKEN_USER there, whose SID lies behind it.
    let sid = unsafe { (*user.as_ptr().cast::<TOKEN_USER>()).User.Sid };

    let mut text = ptr::null_mut();
    // SAFETY: the SID is in `user`, and `text` is a place for a pointer.
    let ok = unsafe { ConvertSidToStringSidW(sid, &mut text) };
    let code = Code::last();
    trace!("ConvertSidToStringSidW() = {ok}");
    if ok == 0 {
        return Err(code.into());
    }
    // SAFETY: the text ends with a NUL, and was allocated with `LocalAlloc` for us to free.
    unsafe {
        let len = (0..).take_while(|&at| *text.add(at) != 0).count();
        let sid = String::from_utf16_lossy(std::slice::from_raw_parts(text, len));
        LocalFree(text.cast());
        Ok(sid)
    }
}

/// The token that pipes are made with: the thread's where it impersonates somebody, or the process's.
fn current_token() -> io::Result<OwnedHandle> {
    let mut token: HANDLE = ptr::null_mut();
    // SAFETY: the pseudo-handle of this thread is always valid, and `token` is a place for a handle.
    let ok = unsafe { OpenThreadToken(GetCurrentThread(), TOKEN_QUERY, 1, &mut token) };
    let mut opened = (ok != 0).then_some(()).ok_or_else(Code::last);
    trace!("OpenThreadToken() = {ok}");
    if opened == Err(Code::NO_TOKEN) {
        // SAFETY: as above, of this process.
        let ok = unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &mut token) };
        opened = (ok != 0).then_some(()).ok_or_else(Code::last);
        trace!("OpenProcessToken() = {ok}");
    }
    opened?;
    // SAFETY: the call has just made the handle, and nobody else has it.
    Ok(unsafe { OwnedHandle::from_raw_handle(token) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_user_has_a_sid_and_a_descriptor() {
        let sid = current_user_sid().unwrap();
        assert!(sid.starts_with("S-1-"), "{sid}");
        Descriptor::current_user_only().unwrap();
    }

    #[test]
    fn a_bad_descriptor_is_an_error() {
        Descriptor::from_sddl("D:(A;;nonsense;;;S-1-1-0)").unwrap_err();
    }
}
