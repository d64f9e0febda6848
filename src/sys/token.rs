//! Tokens: what a thread or a process acts with, acting as somebody else, and accounts.

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

use super::error::Code;
use super::pipe::Pipe;
use super::process::open_process;
use super::record::trace;
use super::text::wide;

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

/// The identifier of an account, in its binary form, by its name, which holds no NUL. This corresponds to
/// calling `LookupAccountNameW`.
pub(crate) fn lookup_account_name(name: &str) -> io::Result<Vec<u8>> {
    let text = wide(name);
    // Room for the longest, and aligned for it.
    let mut sid = [0_u32; 17];
    let mut domain = [0_u16; 512];
    let (mut sid_len, mut domain_len) = (size_of_val(&sid) as u32, domain.len() as u32);
    let mut kind = 0;
    // SAFETY: the name ends with a NUL; there is room for as many bytes and units as is said.
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
    // SAFETY: the call has written a valid identifier there.
    Ok(unsafe { sid_bytes(sid.as_mut_ptr().cast()) })
}

/// This thread's acting as somebody else, until it's dropped.
pub(crate) struct Impersonated {
    /// Whom it acted as before.
    before: Option<Token>,
}

impl Impersonated {
    /// Lets this thread act as the client that sent the last message read. This corresponds to
    /// calling `ImpersonateNamedPipeClient`.
    pub(crate) fn client_of(pipe: &Pipe) -> io::Result<Impersonated> {
        let before = Token::of_thread(TOKEN_IMPERSONATE)?;
        let handle = pipe.as_handle().as_raw_handle();
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
}
