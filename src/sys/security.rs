//! Tokens, security identifiers, descriptors, impersonation, and handles of other processes.

use std::io;
use std::os::windows::io::{AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::ptr;

use windows_sys::Win32::Foundation::{DUPLICATE_SAME_ACCESS, DuplicateHandle, HANDLE, LocalFree};
use windows_sys::Win32::Security::Authorization::{
    ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1,
};
use windows_sys::Win32::Security::Cryptography::ProcessPrng;
use windows_sys::Win32::Security::{
    CheckTokenMembership, GetKernelObjectSecurity, GetLengthSid, GetTokenInformation,
    LABEL_SECURITY_INFORMATION, LookupAccountSidW, OWNER_SECURITY_INFORMATION,
    PSECURITY_DESCRIPTOR, PSID, RevertToSelf, TOKEN_ELEVATION, TOKEN_GROUPS, TOKEN_IMPERSONATE,
    TOKEN_MANDATORY_LABEL, TOKEN_QUERY, TOKEN_USER, TokenElevation, TokenIntegrityLevel,
    TokenLogonSid, TokenUser,
};
use windows_sys::Win32::System::Pipes::ImpersonateNamedPipeClient;
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetCurrentThread, OpenProcess, OpenProcessToken, OpenThreadToken,
    PROCESS_DUP_HANDLE, PROCESS_QUERY_LIMITED_INFORMATION, SetThreadToken,
};

#[cfg(test)]
use windows_sys::Win32::Security::{
    GetSecurityDescriptorLength, ImpersonateSelf, SecurityImpersonation,
};

use super::error::Code;
use super::pipe::wide;
use super::record::trace;

/// A security descriptor, freed on drop.
#[derive(Debug)]
pub(crate) struct Descriptor(PSECURITY_DESCRIPTOR);

// SAFETY: nothing writes to a descriptor once it's made, and `LocalFree` may be called on any thread.
unsafe impl Send for Descriptor {}
// SAFETY: as above.
unsafe impl Sync for Descriptor {}

impl Descriptor {
    /// Makes the descriptor that a text describes. This corresponds to calling
    /// `ConvertStringSecurityDescriptorToSecurityDescriptorW`.
    pub(crate) fn from_sddl(sddl: &str) -> io::Result<Descriptor> {
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

    /// The descriptor in self-relative form.
    #[cfg(test)]
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // SAFETY: the descriptor is valid and in that form, as the conversion makes it.
        unsafe {
            let len = GetSecurityDescriptorLength(self.0) as usize;
            std::slice::from_raw_parts(self.0.cast::<u8>(), len).to_vec()
        }
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: the conversion allocated it with `LocalAlloc`, and it's used no more.
        unsafe { LocalFree(self.0) };
    }
}

/// A token: what a thread or a process acts with.
pub(crate) struct Token(OwnedHandle);

impl Token {
    /// The token that pipes are made with: the thread's where it impersonates somebody, or the
    /// process's.
    pub(crate) fn current() -> io::Result<Token> {
        match Token::of_thread(TOKEN_QUERY)? {
            Some(token) => Ok(token),
            None => Token::of_this_process(),
        }
    }

    /// The process's own token, whomever the thread acts as.
    pub(crate) fn of_this_process() -> io::Result<Token> {
        // SAFETY: the pseudo-handle of this process is always valid.
        unsafe { Token::of_process_handle(GetCurrentProcess()) }
    }

    /// The token of the process that has this number now.
    pub(crate) fn of_process(id: u32) -> io::Result<Token> {
        let process = open_process(id, PROCESS_QUERY_LIMITED_INFORMATION)?;
        // SAFETY: the handle is open.
        unsafe { Token::of_process_handle(process.as_raw_handle()) }
    }

    /// This corresponds to calling `OpenThreadToken`. `None` if this thread impersonates nobody.
    fn of_thread(access: u32) -> io::Result<Option<Token>> {
        let mut token: HANDLE = ptr::null_mut();
        // SAFETY: this thread's pseudo-handle is always valid, and `token` is a place for a handle.
        // The process itself, not whom it acts as, has to be allowed to look.
        let ok = unsafe { OpenThreadToken(GetCurrentThread(), access, 1, &mut token) };
        let code = Code::last();
        trace!("OpenThreadToken() = {ok}");
        match ok {
            0 if code == Code::NO_TOKEN => Ok(None),
            0 => Err(code.into()),
            // SAFETY: the call has just made the handle, and nobody else has it.
            _ => Ok(Some(Token(unsafe { OwnedHandle::from_raw_handle(token) }))),
        }
    }

    /// Whether this thread impersonates somebody.
    #[cfg(test)]
    pub(crate) fn is_of_thread() -> io::Result<bool> {
        Ok(Token::of_thread(TOKEN_QUERY)?.is_some())
    }

    /// This corresponds to calling `OpenProcessToken`.
    ///
    /// # Safety
    /// `process` is a process's handle or pseudo-handle.
    unsafe fn of_process_handle(process: HANDLE) -> io::Result<Token> {
        let mut token: HANDLE = ptr::null_mut();
        // SAFETY: the caller vouches for the handle, and `token` is a place for one.
        let ok = unsafe { OpenProcessToken(process, TOKEN_QUERY, &mut token) };
        let code = Code::last();
        trace!("OpenProcessToken({process:?}) = {ok}");
        if ok == 0 {
            return Err(code.into());
        }
        // SAFETY: the call has just made the handle, and nobody else has it.
        Ok(Token(unsafe { OwnedHandle::from_raw_handle(token) }))
    }

    /// The user's identifier, in its binary form.
    pub(crate) fn user(&self) -> io::Result<Vec<u8>> {
        let information = self.information(TokenUser)?;
        // SAFETY: the kernel has written a TOKEN_USER there, whose identifier lies behind it.
        unsafe {
            Ok(sid_bytes(
                (*information.as_ptr().cast::<TOKEN_USER>()).User.Sid,
            ))
        }
    }

    /// The identifier of the logon session, in its binary form. The system itself has none.
    pub(crate) fn logon_session(&self) -> io::Result<Vec<u8>> {
        let none = "this process is in no logon session, as services of the system aren't";
        let none = || io::Error::new(io::ErrorKind::Unsupported, none);
        let information = self.information(TokenLogonSid).map_err(|_| none())?;
        // SAFETY: the kernel has written a TOKEN_GROUPS there.
        let groups = unsafe { &*information.as_ptr().cast::<TOKEN_GROUPS>() };
        if groups.GroupCount == 0 {
            return Err(none());
        }
        // SAFETY: there is a first group, whose identifier lies behind it.
        Ok(unsafe { sid_bytes(groups.Groups[0].Sid) })
    }

    /// The identifier of the integrity level, in its binary form.
    pub(crate) fn integrity(&self) -> io::Result<Vec<u8>> {
        let information = self.information(TokenIntegrityLevel)?;
        // SAFETY: the kernel has written a TOKEN_MANDATORY_LABEL there, whose identifier lies behind
        // it.
        unsafe {
            Ok(sid_bytes(
                (*information.as_ptr().cast::<TOKEN_MANDATORY_LABEL>())
                    .Label
                    .Sid,
            ))
        }
    }

    /// Whether the token has an administrator's full rights.
    pub(crate) fn is_elevated(&self) -> io::Result<bool> {
        let information = self.information(TokenElevation)?;
        // SAFETY: the kernel has written a TOKEN_ELEVATION there.
        unsafe { Ok((*information.as_ptr().cast::<TOKEN_ELEVATION>()).TokenIsElevated != 0) }
    }

    /// Asks for a structure. The room does for each of those above with an identifier of the longest
    /// kind, and is aligned for them. This corresponds to calling `GetTokenInformation`.
    fn information(&self, class: i32) -> io::Result<Box<[usize; 64]>> {
        let mut information = Box::new([0; 64]);
        let mut len = 0;
        // SAFETY: there is room for as many bytes as is said.
        let ok = unsafe {
            let (at, room) = (
                information.as_mut_ptr().cast(),
                size_of::<[usize; 64]>() as u32,
            );
            GetTokenInformation(self.0.as_raw_handle(), class, at, room, &mut len)
        };
        let code = Code::last();
        trace!("GetTokenInformation({class}) = {ok}");
        if ok == 0 {
            Err(code.into())
        } else {
            Ok(information)
        }
    }
}

/// # Safety
/// `sid` is a valid security identifier.
unsafe fn sid_bytes(sid: PSID) -> Vec<u8> {
    // SAFETY: the caller says so, and it's as long as the call tells.
    unsafe {
        let len = GetLengthSid(sid) as usize;
        std::slice::from_raw_parts(sid.cast::<u8>(), len).to_vec()
    }
}

/// A pipe's owner and integrity label, as a descriptor in self-relative form. This corresponds to
/// calling `GetKernelObjectSecurity`.
pub(crate) fn origin(pipe: BorrowedHandle<'_>) -> io::Result<Vec<u8>> {
    let handle = pipe.as_raw_handle();
    let what = OWNER_SECURITY_INFORMATION | LABEL_SECURITY_INFORMATION;
    // An identifier and a list of one entry: less than 200 bytes. Numbers, as it has to be aligned.
    let mut descriptor = [0_u32; 256];
    let mut len = 0;
    // SAFETY: the handle is borrowed, and there is room for as many bytes as is said.
    let ok = unsafe {
        let (at, room) = (
            descriptor.as_mut_ptr().cast(),
            size_of_val(&descriptor) as u32,
        );
        GetKernelObjectSecurity(handle, what, at, room, &mut len)
    };
    let code = Code::last();
    trace!("GetKernelObjectSecurity({handle:?}) = {ok}, {len} bytes");
    if ok == 0 {
        return Err(code.into());
    }
    Ok(descriptor
        .iter()
        .flat_map(|part| part.to_ne_bytes())
        .collect())
}

/// Whether what this thread acts with has this identifier, and not only to be denied something. This
/// corresponds to calling `CheckTokenMembership`.
pub(crate) fn is_member(sid: &[u8]) -> io::Result<bool> {
    let mut is_member = 0;
    // SAFETY: no token means the thread's or the process's; the identifier is a valid one, which the
    // call only reads.
    let ok = unsafe {
        let sid = sid.as_ptr().cast_mut().cast();
        CheckTokenMembership(ptr::null_mut(), sid, &mut is_member)
    };
    let code = Code::last();
    trace!("CheckTokenMembership() = {ok}, {is_member}");
    if ok == 0 {
        Err(code.into())
    } else {
        Ok(is_member != 0)
    }
}

/// The name of an account, `DOMAIN\NAME`. This corresponds to calling `LookupAccountSidW`.
pub(crate) fn lookup_account_sid(sid: &[u8]) -> io::Result<String> {
    let mut name = [0_u16; 512];
    let mut domain = [0_u16; 512];
    let (mut name_len, mut domain_len) = (name.len() as u32, domain.len() as u32);
    let mut kind = 0;
    // SAFETY: the identifier is a valid one, which the call only reads; there is room for as many
    // units as is said.
    let ok = unsafe {
        LookupAccountSidW(
            ptr::null(),
            sid.as_ptr().cast_mut().cast(),
            name.as_mut_ptr(),
            &mut name_len,
            domain.as_mut_ptr(),
            &mut domain_len,
            &mut kind,
        )
    };
    let code = Code::last();
    trace!("LookupAccountSidW() = {ok}");
    if ok == 0 {
        return Err(code.explain_account());
    }
    let text = |units: &[u16], len: u32| String::from_utf16_lossy(&units[..len as usize]);
    let name = text(&name, name_len);
    Ok(match text(&domain, domain_len) {
        domain if domain.is_empty() => name,
        domain => format!(r"{domain}\{name}"),
    })
}

/// This thread's acting as somebody else, until it's dropped.
pub(crate) struct Impersonated {
    /// Whom it acted as before.
    before: Option<Token>,
}

impl Impersonated {
    /// Lets this thread act as the client that sent the last message read. This corresponds to
    /// calling `ImpersonateNamedPipeClient`.
    pub(crate) fn client_of(pipe: BorrowedHandle<'_>) -> io::Result<Impersonated> {
        let before = Token::of_thread(TOKEN_IMPERSONATE)?;
        let handle = pipe.as_raw_handle();
        // SAFETY: takes a handle, which is borrowed.
        let ok = unsafe { ImpersonateNamedPipeClient(handle) };
        let code = Code::last();
        // From here on there is something to revert, also when the logger unwinds.
        let impersonated = (ok != 0).then(|| Impersonated { before });
        trace!("ImpersonateNamedPipeClient({handle:?}) = {ok}");
        impersonated.ok_or_else(|| code.explain_impersonation())
    }

    /// The client's token.
    pub(crate) fn token(&self) -> io::Result<Token> {
        Token::of_thread(TOKEN_QUERY)?.ok_or_else(|| Code::NO_TOKEN.into())
    }
}

/// This corresponds to calling `RevertToSelf`. A thread that can't get back to what it was would go
/// on with rights it mustn't have, so then the process ends.
impl Drop for Impersonated {
    fn drop(&mut self) {
        // SAFETY: concerns this thread only, which is the one that impersonates.
        let mut ok = unsafe { RevertToSelf() };
        if let (1.., Some(before)) = (ok, &self.before) {
            // SAFETY: null is this thread, and the token is open.
            ok = unsafe { SetThreadToken(ptr::null(), before.0.as_raw_handle()) };
        }
        if ok == 0 {
            std::process::abort();
        }
        trace!("RevertToSelf() = {ok}");
    }
}

/// This thread's acting as its process, and nobody else, until it's dropped.
pub(crate) struct AsProcess {
    /// Whom it acted as before.
    before: Token,
}

impl AsProcess {
    /// `None` if this thread impersonates nobody. This corresponds to calling `RevertToSelf`.
    pub(crate) fn revert() -> io::Result<Option<AsProcess>> {
        let Some(before) = Token::of_thread(TOKEN_IMPERSONATE)? else {
            return Ok(None);
        };
        // SAFETY: concerns this thread only.
        let ok = unsafe { RevertToSelf() };
        let code = Code::last();
        // From here on there is something to restore, also when the logger unwinds.
        let as_process = (ok != 0).then(|| AsProcess { before });
        trace!("RevertToSelf() = {ok}");
        as_process.map(Some).ok_or_else(|| code.into())
    }
}

/// This corresponds to calling `SetThreadToken`. A thread that can't get back to whom it acted as
/// would go on with rights it mustn't have, so then the process ends.
impl Drop for AsProcess {
    fn drop(&mut self) {
        // SAFETY: null is this thread, and the token is open.
        let ok = unsafe { SetThreadToken(ptr::null(), self.before.0.as_raw_handle()) };
        if ok == 0 {
            std::process::abort();
        }
        trace!("SetThreadToken() = {ok}");
    }
}

/// Opens the process that has this number now. This corresponds to calling `OpenProcess`.
fn open_process(id: u32, access: u32) -> Result<OwnedHandle, Code> {
    // SAFETY: takes numbers; the handle isn't inheritable.
    let process = unsafe { OpenProcess(access, 0, id) };
    let code = Code::last();
    trace!("OpenProcess({id}, {access:#x}) = {process:?}");
    if process.is_null() {
        return Err(code);
    }
    // SAFETY: the call has just made the handle, and nobody else has it.
    Ok(unsafe { OwnedHandle::from_raw_handle(process) })
}

/// A number that nobody can guess. This corresponds to calling `ProcessPrng`.
pub(crate) fn process_prng() -> io::Result<u128> {
    let mut bytes = [0; 16];
    // SAFETY: there is room for as many bytes as is said.
    let ok = unsafe { ProcessPrng(bytes.as_mut_ptr(), bytes.len()) };
    let code = Code::last();
    trace!("ProcessPrng() = {ok}");
    match ok {
        0 => Err(code.into()),
        _ => Ok(u128::from_le_bytes(bytes)),
    }
}

/// Another process, whose handles can be duplicated.
pub(crate) struct Process(OwnedHandle);

impl Process {
    /// Opens the process that has this number now.
    pub(crate) fn open(id: u32) -> io::Result<Process> {
        match open_process(id, PROCESS_DUP_HANDLE) {
            Ok(process) => Ok(Process(process)),
            Err(code) => Err(code.explain_taking()),
        }
    }

    /// Makes a handle of this process's own to what `theirs` is in the other. This corresponds to
    /// calling `DuplicateHandle`; the new handle isn't inheritable.
    pub(crate) fn duplicate_handle(&self, theirs: u64) -> io::Result<OwnedHandle> {
        // Pseudo-handles (-1 is the process, -2 its thread) are no handles of a table.
        let theirs = match isize::try_from(theirs) {
            Ok(theirs @ 1..) => theirs as usize,
            _ => return Err(Code::INVALID_HANDLE.explain_taking()),
        };
        let mut ours: HANDLE = ptr::null_mut();
        // SAFETY: the process is open and this process's pseudo-handle is always valid; `theirs` is
        // looked up in the other process's table, whatever its value; `ours` is a place for a handle.
        let ok = unsafe {
            DuplicateHandle(
                self.0.as_raw_handle(),
                ptr::without_provenance_mut(theirs),
                GetCurrentProcess(),
                &mut ours,
                0,
                0,
                DUPLICATE_SAME_ACCESS,
            )
        };
        let code = Code::last();
        trace!("DuplicateHandle({theirs:#x} of a peer) = {ok}, {ours:?}");
        if ok == 0 {
            return Err(code.explain_taking());
        }
        // SAFETY: the call has just made the handle, and nobody else has it.
        Ok(unsafe { OwnedHandle::from_raw_handle(ours) })
    }
}

/// Lets this thread act as its own process does, but by a token of its own.
#[cfg(test)]
pub(crate) fn impersonate_self() {
    // SAFETY: takes a number.
    let ok = unsafe { ImpersonateSelf(SecurityImpersonation) };
    assert_ne!(ok, 0, "{}", io::Error::last_os_error());
}

/// Ends that.
#[cfg(test)]
pub(crate) fn revert_to_self() {
    // SAFETY: concerns this thread only.
    assert_ne!(unsafe { RevertToSelf() }, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_thread_has_a_token() {
        let token = Token::current().unwrap();
        assert_eq!(token.user().unwrap()[0], 1);
        assert_eq!(token.integrity().unwrap()[..2], [1, 1]);
        token.is_elevated().unwrap();
        assert!(Token::of_thread(TOKEN_QUERY).unwrap().is_none());
        let process = Token::of_process(std::process::id()).unwrap();
        assert_eq!(process.user().unwrap(), token.user().unwrap());
    }

    #[test]
    fn a_thread_acts_as_its_process_for_a_while() {
        assert!(AsProcess::revert().unwrap().is_none());
        impersonate_self();
        assert!(Token::is_of_thread().unwrap());
        let as_process = AsProcess::revert().unwrap().unwrap();
        assert!(!Token::is_of_thread().unwrap());
        drop(as_process);
        assert!(Token::is_of_thread().unwrap());
        revert_to_self();
    }

    #[test]
    fn everybody_is_a_member_of_everyone_and_nobody_of_a_stranger() {
        assert!(is_member(&[1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]).unwrap());
        assert!(!is_member(&[1, 1, 0, 0, 0, 0, 0, 5, 77, 0, 0, 0]).unwrap());
    }

    #[test]
    fn a_bad_descriptor_is_an_error() {
        Descriptor::from_sddl("D:(A;;nonsense;;;S-1-1-0)").unwrap_err();
    }
}
