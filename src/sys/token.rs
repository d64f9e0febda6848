//! Access tokens of threads and processes, impersonation, and accounts.

use std::io;
use std::os::windows::io::{AsHandle, AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr;

use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::Security::{
    CheckTokenMembership, GetLengthSid, GetTokenInformation, LookupAccountNameW, LookupAccountSidW,
    PSID, RevertToSelf, TOKEN_ELEVATION, TOKEN_GROUPS, TOKEN_IMPERSONATE, TOKEN_MANDATORY_LABEL,
    TOKEN_QUERY, TOKEN_USER, TokenElevation, TokenIntegrityLevel, TokenLogonSid, TokenUser,
};
#[cfg(test)]
use windows_sys::Win32::Security::{ImpersonateSelf, SecurityImpersonation};
use windows_sys::Win32::System::Pipes::ImpersonateNamedPipeClient;
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetCurrentThread, OpenProcessToken, OpenThreadToken,
    PROCESS_QUERY_LIMITED_INFORMATION, SetThreadToken,
};
use windows_sys::core::BOOL;

use super::error::Code;
use super::pipe::Pipe;
use super::process::open_process;
use super::record::trace;
use super::text::wide;

/// An access token: the identity that a thread or a process acts with.
pub(crate) struct Token(OwnedHandle);

impl Token {
    /// Returns the token that pipes are created with: the thread's if it's impersonating, otherwise
    /// the process's.
    pub(crate) fn current() -> io::Result<Token> {
        match Token::of_thread(TOKEN_QUERY)? {
            Some(token) => Ok(token),
            None => Token::of_this_process(),
        }
    }

    /// Returns the process's own token, whatever identity the thread acts as.
    pub(crate) fn of_this_process() -> io::Result<Token> {
        // SAFETY: the pseudo-handle of this process is always valid.
        unsafe { Token::of_process_handle(GetCurrentProcess()) }
    }

    /// Returns the token of the process that has this id now.
    pub(crate) fn of_process(id: u32) -> io::Result<Token> {
        let process = open_process(id, PROCESS_QUERY_LIMITED_INFORMATION)?;
        // SAFETY: the handle is open.
        unsafe { Token::of_process_handle(process.as_raw_handle()) }
    }

    /// This corresponds to calling `OpenThreadToken`. Returns `None` if this thread isn't
    /// impersonating.
    fn of_thread(access: u32) -> io::Result<Option<Token>> {
        let mut token: HANDLE = ptr::null_mut();
        // SAFETY: this thread's pseudo-handle is always valid, and `token` can be written to. The
        // access check is made for the process itself, not for the impersonated identity.
        let ok = unsafe { OpenThreadToken(GetCurrentThread(), access, 1, &mut token) };
        let code = Code::last();
        trace!("OpenThreadToken() = {ok}");
        match ok {
            0 if code == Code::NO_TOKEN => Ok(None),
            0 => Err(code.into()),
            // SAFETY: the call has just created the handle, and nothing else owns it.
            _ => Ok(Some(Token(unsafe { OwnedHandle::from_raw_handle(token) }))),
        }
    }

    /// Whether this thread is impersonating.
    #[cfg(test)]
    pub(crate) fn is_of_thread() -> io::Result<bool> {
        Ok(Token::of_thread(TOKEN_QUERY)?.is_some())
    }

    /// This corresponds to calling `OpenProcessToken`.
    ///
    /// # Safety
    /// `process` must be the handle or pseudo-handle of a process.
    unsafe fn of_process_handle(process: HANDLE) -> io::Result<Token> {
        let mut token: HANDLE = ptr::null_mut();
        // SAFETY: the caller guarantees the handle, and `token` can be written to.
        let ok = unsafe { OpenProcessToken(process, TOKEN_QUERY, &mut token) };
        let code = Code::last();
        trace!("OpenProcessToken({process:?}) = {ok}");
        if ok == 0 {
            return Err(code.into());
        }
        // SAFETY: the call has just created the handle, and nothing else owns it.
        Ok(Token(unsafe { OwnedHandle::from_raw_handle(token) }))
    }

    /// Returns the user's SID, in binary form.
    pub(crate) fn user(&self) -> io::Result<Vec<u8>> {
        let information = self.information(TokenUser)?;
        // SAFETY: the kernel has written a TOKEN_USER there, with the SID behind it.
        unsafe {
            Ok(sid_bytes(
                (*information.as_ptr().cast::<TOKEN_USER>()).User.Sid,
            ))
        }
    }

    /// Returns the SID of the logon session, in binary form. The system itself has none.
    pub(crate) fn logon_session(&self) -> io::Result<Vec<u8>> {
        let none = "this process has no logon session, like all services of the system: \
                    choose access other than LOGON_SESSION";
        let none = || io::Error::new(io::ErrorKind::Unsupported, none);
        let information = self.information(TokenLogonSid).map_err(|_| none())?;
        // SAFETY: the kernel has written a TOKEN_GROUPS there.
        let groups = unsafe { &*information.as_ptr().cast::<TOKEN_GROUPS>() };
        if groups.GroupCount == 0 {
            return Err(none());
        }
        // SAFETY: there is a first group, with its SID behind it.
        Ok(unsafe { sid_bytes(groups.Groups[0].Sid) })
    }

    /// Returns the SID of the integrity level, in binary form.
    pub(crate) fn integrity(&self) -> io::Result<Vec<u8>> {
        let information = self.information(TokenIntegrityLevel)?;
        // SAFETY: the kernel has written a TOKEN_MANDATORY_LABEL there, with the SID behind it.
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

    /// Queries a structure. The buffer has room for each of those above with the longest possible
    /// SID, and is aligned for them. This corresponds to calling `GetTokenInformation`.
    fn information(&self, class: i32) -> io::Result<Box<[usize; 64]>> {
        let mut information = Box::new([0; 64]);
        let mut len = 0;
        // SAFETY: the buffer has room for the given number of bytes.
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
/// `sid` must be a valid SID.
unsafe fn sid_bytes(sid: PSID) -> Vec<u8> {
    // SAFETY: the caller guarantees this, and the call returns its length.
    unsafe {
        let len = GetLengthSid(sid) as usize;
        std::slice::from_raw_parts(sid.cast::<u8>(), len).to_vec()
    }
}

/// Whether the token that this thread acts with has this SID, and not only as a deny-only SID. This
/// corresponds to calling `CheckTokenMembership`.
pub(crate) fn is_member(sid: &[u8]) -> io::Result<bool> {
    let mut is_member = 0;
    // SAFETY: a null token means the thread's or the process's; the SID is valid, and the call only
    // reads it.
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

/// Returns the name of an account, `DOMAIN\NAME`. This corresponds to calling `LookupAccountSidW`.
pub(crate) fn lookup_account_sid(sid: &[u8]) -> io::Result<String> {
    let mut name = [0_u16; 512];
    let mut domain = [0_u16; 512];
    let (mut name_len, mut domain_len) = (name.len() as u32, domain.len() as u32);
    let mut kind = 0;
    // SAFETY: the SID is valid, and the call only reads it; the buffers have room for the given
    // numbers of units.
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

/// Returns the SID of the account with this name, in binary form. The name mustn't contain a NUL.
/// This corresponds to calling `LookupAccountNameW`.
pub(crate) fn lookup_account_name(name: &str) -> io::Result<Vec<u8>> {
    let text = wide(name);
    // Room for the longest SID, and aligned for it.
    let mut sid = [0_u32; 17];
    let mut domain = [0_u16; 512];
    let (mut sid_len, mut domain_len) = (size_of_val(&sid) as u32, domain.len() as u32);
    let mut kind = 0;
    // SAFETY: the name ends with a NUL, and the buffers have room for the given numbers of bytes
    // and units.
    let ok = unsafe {
        LookupAccountNameW(
            ptr::null(),
            text.as_ptr(),
            sid.as_mut_ptr().cast(),
            &mut sid_len,
            domain.as_mut_ptr(),
            &mut domain_len,
            &mut kind,
        )
    };
    let code = Code::last();
    trace!("LookupAccountNameW({name:?}) = {ok}");
    if ok == 0 {
        return Err(code.explain_account());
    }
    // SAFETY: the call has written a valid SID there.
    Ok(unsafe { sid_bytes(sid.as_mut_ptr().cast()) })
}

/// While this exists, this thread impersonates a client.
pub(crate) struct Impersonated {
    /// The token that the thread acted with before.
    before: Option<Token>,
}

impl Impersonated {
    /// Makes this thread act as the client that sent the last message read. This corresponds to
    /// calling `ImpersonateNamedPipeClient`.
    pub(crate) fn client_of(pipe: &Pipe) -> io::Result<Impersonated> {
        let before = Token::of_thread(TOKEN_IMPERSONATE)?;
        let handle = pipe.as_handle().as_raw_handle();
        // SAFETY: takes a handle, which is borrowed.
        let ok = unsafe { ImpersonateNamedPipeClient(handle) };
        let code = Code::last();
        // From here on there is something to revert, even if the logger unwinds.
        let impersonated = (ok != 0).then(|| Impersonated { before });
        trace!("ImpersonateNamedPipeClient({handle:?}) = {ok}");
        impersonated.ok_or_else(|| code.explain_impersonation())
    }

    /// Returns the client's token.
    pub(crate) fn token(&self) -> io::Result<Token> {
        Token::of_thread(TOKEN_QUERY)?.ok_or_else(|| Code::NO_TOKEN.into())
    }
}

/// Aborts the process if a thread couldn't return to its previous identity: it would go on with rights
/// that it mustn't have.
#[expect(clippy::disallowed_methods, reason = "no caller could do anything")]
fn abort_unless(returned: BOOL) {
    if returned == 0 {
        std::process::abort();
    }
}

/// This corresponds to calling `RevertToSelf`. If that fails, the process is aborted.
impl Drop for Impersonated {
    fn drop(&mut self) {
        // SAFETY: concerns this thread only, which is the one that impersonates.
        let mut ok = unsafe { RevertToSelf() };
        if let (1.., Some(before)) = (ok, &self.before) {
            // SAFETY: null is this thread, and the token is open.
            ok = unsafe { SetThreadToken(ptr::null(), before.0.as_raw_handle()) };
        }
        abort_unless(ok);
        trace!("RevertToSelf() = {ok}");
    }
}

/// While this exists, this thread acts as its process.
pub(crate) struct AsProcess {
    /// The token that the thread acted with before.
    before: Token,
}

impl AsProcess {
    /// Returns `None` if this thread isn't impersonating. This corresponds to calling
    /// `RevertToSelf`.
    pub(crate) fn revert() -> io::Result<Option<AsProcess>> {
        let Some(before) = Token::of_thread(TOKEN_IMPERSONATE)? else {
            return Ok(None);
        };
        // SAFETY: concerns this thread only.
        let ok = unsafe { RevertToSelf() };
        let code = Code::last();
        // From here on there is something to restore, even if the logger unwinds.
        let as_process = (ok != 0).then(|| AsProcess { before });
        trace!("RevertToSelf() = {ok}");
        as_process.map(Some).ok_or_else(|| code.into())
    }
}

/// This corresponds to calling `SetThreadToken`. If that fails, the process is aborted.
impl Drop for AsProcess {
    fn drop(&mut self) {
        // SAFETY: null is this thread, and the token is open.
        let ok = unsafe { SetThreadToken(ptr::null(), self.before.0.as_raw_handle()) };
        abort_unless(ok);
        trace!("SetThreadToken() = {ok}");
    }
}

/// Makes this thread impersonate its own process, so that it has its own token.
#[cfg(test)]
pub(crate) fn impersonate_self() {
    // SAFETY: takes a number.
    let ok = unsafe { ImpersonateSelf(SecurityImpersonation) };
    assert_ne!(ok, 0, "{}", io::Error::last_os_error());
}

/// Ends that impersonation.
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
}
