//! Tokens: who a thread acts as.

use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr;

use windows_sys::Wdk::Foundation::OBJECT_ATTRIBUTES;
use windows_sys::Win32::Foundation::{
    HANDLE, LocalFree, NTSTATUS, OBJ_CASE_INSENSITIVE, UNICODE_STRING,
};
use windows_sys::Win32::Security::Authorization::ConvertStringSidToSidW;
use windows_sys::Win32::Security::{
    CheckTokenMembership, CreateRestrictedToken, DuplicateTokenEx, GetTokenInformation,
    ImpersonateLoggedOnUser, LOGON32_LOGON_NEW_CREDENTIALS, LOGON32_PROVIDER_WINNT50, LogonUserW,
    RevertToSelf, SID_AND_ATTRIBUTES, SecurityImpersonation, SetTokenInformation, TOKEN_ALL_ACCESS,
    TOKEN_MANDATORY_LABEL, TOKEN_QUERY, TOKEN_USER, TokenImpersonation, TokenImpersonationLevel,
    TokenIntegrityLevel, TokenUser,
};
use windows_sys::Win32::System::SystemServices::SE_GROUP_INTEGRITY;
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetCurrentThread, OpenProcessToken, OpenThreadToken,
};

/// Whether this process is elevated, so that only administrators may make instances of its pipes.
pub fn is_administrator() -> bool {
    let sid = *b"\x01\x02\0\0\0\0\0\x05\x20\0\0\0\x20\x02\0\0";
    let mut is_member = 0;
    // SAFETY: the identifier is well formed, and only read.
    let ok = unsafe {
        CheckTokenMembership(
            ptr::null_mut(),
            sid.as_ptr().cast_mut().cast(),
            &mut is_member,
        )
    };
    assert_ne!(ok, 0);
    is_member != 0
}

/// How this thread acts as somebody else, if it does: the level.
pub fn impersonation_level() -> Option<i32> {
    // SAFETY: this thread's pseudo-handle is always valid; the handle is new; the level is a number.
    unsafe {
        let mut token: HANDLE = ptr::null_mut();
        if OpenThreadToken(GetCurrentThread(), TOKEN_QUERY, 1, &mut token) == 0 {
            return None;
        }
        let token = OwnedHandle::from_raw_handle(token);
        let (mut level, mut len) = (0_i32, 0);
        let at = (&raw mut level).cast();
        let ok = GetTokenInformation(
            token.as_raw_handle(),
            TokenImpersonationLevel,
            at,
            4,
            &mut len,
        );
        assert_ne!(ok, 0);
        Some(level)
    }
}

/// A token of this process that this thread can act with.
pub fn own_token() -> OwnedHandle {
    // SAFETY: this process's pseudo-handle is always valid; each handle is new.
    unsafe {
        let (mut token, mut copy): (HANDLE, HANDLE) = (ptr::null_mut(), ptr::null_mut());
        assert_ne!(
            OpenProcessToken(GetCurrentProcess(), TOKEN_ALL_ACCESS, &mut token),
            0
        );
        let token = OwnedHandle::from_raw_handle(token);
        let ok = DuplicateTokenEx(
            token.as_raw_handle(),
            TOKEN_ALL_ACCESS,
            ptr::null(),
            SecurityImpersonation,
            TokenImpersonation,
            &mut copy,
        );
        assert_ne!(ok, 0);
        OwnedHandle::from_raw_handle(copy)
    }
}

/// A token of this user's in a logon session of its own, with device names of its own.
pub fn token_of_another_logon() -> OwnedHandle {
    let text: Vec<u16> = "nobody\0".encode_utf16().collect();
    let mut token: HANDLE = ptr::null_mut();
    // SAFETY: the texts end with a NUL; the handle is new. With this kind of logon the name and the
    // password are for other computers, and aren't looked at here.
    unsafe {
        let (kind, provider) = (LOGON32_LOGON_NEW_CREDENTIALS, LOGON32_PROVIDER_WINNT50);
        let at = text.as_ptr();
        let ok = LogonUserW(at, at, at, kind, provider, &mut token);
        assert_ne!(ok, 0, "{}", io::Error::last_os_error());
        OwnedHandle::from_raw_handle(token)
    }
}

/// Makes the name of a device, for those whose device names this thread sees, mean another one. The
/// name is gone with the handle.
pub fn name_device(name: &str, target: &str) -> OwnedHandle {
    const SYMBOLIC_LINK_ALL_ACCESS: u32 = 0xF_0001;

    #[link(name = "ntdll")]
    unsafe extern "system" {
        fn NtCreateSymbolicLinkObject(
            handle: *mut HANDLE,
            desired_access: u32,
            attributes: *const OBJECT_ATTRIBUTES,
            target: *const UNICODE_STRING,
        ) -> NTSTATUS;
    }

    let [name, target] = [format!(r"\??\{name}"), target.into()]
        .map(|text: String| text.encode_utf16().collect::<Vec<u16>>());
    let [name, target] = [&name, &target].map(|text| UNICODE_STRING {
        Length: size_of_val(&text[..]) as u16,
        MaximumLength: size_of_val(&text[..]) as u16,
        Buffer: text.as_ptr().cast_mut(),
    });
    let attributes = OBJECT_ATTRIBUTES {
        Length: size_of::<OBJECT_ATTRIBUTES>() as u32,
        ObjectName: &name,
        Attributes: OBJ_CASE_INSENSITIVE,
        ..Default::default()
    };
    let mut handle: HANDLE = ptr::null_mut();
    // SAFETY: all that's pointed to is on this stack; the handle is new.
    unsafe {
        let access = SYMBOLIC_LINK_ALL_ACCESS;
        let status = NtCreateSymbolicLinkObject(&mut handle, access, &attributes, &target);
        assert_eq!(status, 0, "{status:#x}");
        OwnedHandle::from_raw_handle(handle)
    }
}

/// Runs `test` as the owner of this token.
pub fn acting_with<T>(token: &OwnedHandle, test: impl FnOnce() -> T) -> T {
    // SAFETY: the token is open.
    assert_ne!(unsafe { ImpersonateLoggedOnUser(token.as_raw_handle()) }, 0);
    let result = test();
    // SAFETY: concerns this thread only.
    assert_ne!(unsafe { RevertToSelf() }, 0);
    result
}

/// A token in which this user's identifier, and the administrators', only deny: everybody else's
/// position.
pub fn strangers_token() -> OwnedHandle {
    let token = own_token();
    let mut user = [0_usize; 32];
    let mut administrators = *b"\x01\x02\0\0\0\0\0\x05\x20\0\0\0\x20\x02\0\0";
    let mut stranger: HANDLE = ptr::null_mut();
    // SAFETY: the token is open, and there is as much room as is said; the user's identifier lies in
    // `user`, and the other is well formed; the handle is new.
    unsafe {
        let (at, room) = (user.as_mut_ptr().cast(), size_of_val(&user) as u32);
        let handle = token.as_raw_handle();
        assert_ne!(GetTokenInformation(handle, TokenUser, at, room, &mut 0), 0);
        let sid = (*user.as_ptr().cast::<TOKEN_USER>()).User.Sid;
        let disabled = [sid, administrators.as_mut_ptr().cast()].map(|sid| SID_AND_ATTRIBUTES {
            Sid: sid,
            Attributes: 0,
        });
        let (null, none) = (ptr::null(), ptr::null());
        let at = disabled.as_ptr();
        let ok = CreateRestrictedToken(handle, 0, 2, at, 0, null, 0, none, &mut stranger);
        assert_ne!(ok, 0, "{}", io::Error::last_os_error());
        OwnedHandle::from_raw_handle(stranger)
    }
}

/// A token of this user's with low integrity.
pub fn low_token() -> OwnedHandle {
    let token = own_token();
    let sid: Vec<u16> = "S-1-16-4096\0".encode_utf16().collect();
    // SAFETY: the text ends with a NUL; the identifier is freed after its use.
    unsafe {
        let mut low = ptr::null_mut();
        assert_ne!(ConvertStringSidToSidW(sid.as_ptr(), &mut low), 0);
        let label = TOKEN_MANDATORY_LABEL {
            Label: SID_AND_ATTRIBUTES {
                Sid: low,
                Attributes: SE_GROUP_INTEGRITY as u32,
            },
        };
        let at = (&raw const label).cast();
        let len = size_of_val(&label) as u32;
        let ok = SetTokenInformation(token.as_raw_handle(), TokenIntegrityLevel, at, len);
        assert_ne!(ok, 0, "{}", io::Error::last_os_error());
        LocalFree(low);
    }
    token
}
