//! Who may connect and who may make instances: what the descriptors say, and what Windows makes of them.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::path::Path;
use std::ptr;
use std::time::Duration;

use windows_sys::Win32::Foundation::LocalFree;
use windows_sys::Win32::Security::Authorization::{
    ConvertSecurityDescriptorToStringSecurityDescriptorW,
    ConvertStringSecurityDescriptorToSecurityDescriptorW, GetSecurityInfo, SDDL_REVISION_1,
    SE_KERNEL_OBJECT,
};
use windows_sys::Win32::Security::{
    AccessCheck, DACL_SECURITY_INFORMATION, GENERIC_MAPPING, GROUP_SECURITY_INFORMATION,
    LABEL_SECURITY_INFORMATION, OWNER_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR,
};
use windows_sys::Win32::Storage::FileSystem::{
    DELETE, FILE_ALL_ACCESS, FILE_GENERIC_EXECUTE, FILE_GENERIC_READ, FILE_GENERIC_WRITE,
    FILE_READ_ATTRIBUTES, READ_CONTROL, WRITE_DAC,
};
use winpipe::{Access, ConnectOptions, ListenOptions, Sid, WinListener, WinStream};

use crate::common::raw::{MESSAGE_READ_BY_BYTE, foreign_instance};
use crate::common::token::{
    acting_with, impersonation_level, is_administrator, low_token, own_token, strangers_token,
};
use crate::common::{LIMIT, assert_fails, connect_by, fresh_path, within};

/// What of a descriptor is compared.
const SHOWN: u32 =
    OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION | LABEL_SECURITY_INFORMATION;

/// The descriptor of the pipe that this stream is an end of, to be freed with `LocalFree`.
fn security_info(stream: &WinStream, what: u32) -> PSECURITY_DESCRIPTOR {
    let mut descriptor: PSECURITY_DESCRIPTOR = ptr::null_mut();
    // SAFETY: the handle is borrowed, and `descriptor` is a place for a pointer.
    let code = unsafe {
        let (handle, kind) = (stream.as_raw_handle(), SE_KERNEL_OBJECT);
        let (sid, list) = (ptr::null_mut(), ptr::null_mut());
        GetSecurityInfo(handle, kind, what, sid, sid, list, list, &mut descriptor)
    };
    assert_eq!(code, 0);
    descriptor
}

/// The descriptor of the pipe that this stream is an end of, as SDDL.
fn descriptor(stream: &WinStream) -> String {
    // SAFETY: it's the caller's to free.
    let sddl = unsafe { sddl(security_info(stream, SHOWN)) };
    // Where no labels are kept, there may be an empty list of them.
    sddl.strip_suffix("S:").unwrap_or(&sddl).to_owned()
}

/// The same SDDL as the system prints it.
fn canonical(text: &str) -> String {
    let wide: Vec<u16> = text.encode_utf16().chain([0]).collect();
    let mut descriptor: PSECURITY_DESCRIPTOR = ptr::null_mut();
    // SAFETY: the text ends with a NUL, and `descriptor` is a place for a pointer.
    unsafe {
        let ok = ConvertStringSecurityDescriptorToSecurityDescriptorW(
            wide.as_ptr(),
            SDDL_REVISION_1,
            &mut descriptor,
            ptr::null_mut(),
        );
        assert_ne!(ok, 0, "{text}: {}", io::Error::last_os_error());
        sddl(descriptor)
    }
}

/// # Safety
/// The descriptor is valid and allocated with `LocalAlloc`; this frees it.
unsafe fn sddl(descriptor: PSECURITY_DESCRIPTOR) -> String {
    let mut text = ptr::null_mut();
    let mut len = 0;
    // SAFETY: as the caller says; the text is as long as is told, and freed after it's copied.
    unsafe {
        let ok = ConvertSecurityDescriptorToStringSecurityDescriptorW(
            descriptor,
            SDDL_REVISION_1,
            SHOWN,
            &mut text,
            &mut len,
        );
        assert_ne!(ok, 0, "{}", io::Error::last_os_error());
        let units = std::slice::from_raw_parts(text, len as usize);
        let sddl = String::from_utf16_lossy(units)
            .trim_end_matches('\0')
            .to_owned();
        LocalFree(text.cast());
        LocalFree(descriptor);
        sddl
    }
}

/// What keeps the owner from changing the rights.
const OWNER_RIGHTS: &str = "(A;;RC;;;S-1-3-4)";

/// What keeps those out that are trusted less; with the levels that tests run at. Wine keeps no labels.
fn label(level: &str) -> String {
    match cfg!(wine) {
        true => String::new(),
        false => format!("S:(ML;;NRNWNX;;;{level})"),
    }
}

/// The identifier that this process may make instances by.
fn creator() -> Sid {
    let user = Sid::current_user().unwrap();
    match is_administrator() && user != Sid::LOCAL_SYSTEM {
        true => Sid::ADMINISTRATORS,
        false => user,
    }
}

/// The whole descriptor with these entries, and the label that tests run at.
fn with_entries(entries: &str) -> String {
    let (user, label) = (Sid::current_user().unwrap(), label("ME"));
    canonical(&format!("O:{user}D:P{entries}{OWNER_RIGHTS}{label}"))
}

/// The entries of the server's own user.
fn own(user: Sid) -> String {
    match creator() {
        creator if creator == user => format!("(A;;0x12019f;;;{user})"),
        creator => format!("(A;;0x12019b;;;{user})(A;;0x4;;;{creator})"),
    }
}

#[test]
fn the_default_access_is_the_current_user_alone_on_every_instance() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        let expected = with_entries(&own(Sid::current_user().unwrap()));
        for _ in 0..20 {
            let client = WinStream::connect(&path).unwrap();
            let (server, _) = listener.accept().unwrap();
            assert_eq!(descriptor(&client), expected);
            assert_eq!(descriptor(&server), expected);
        }
    });
}

#[test]
fn every_access_arrives_as_it_was_said() {
    within(LIMIT, || {
        let user = Sid::current_user().unwrap();
        let group: Sid = "S-1-5-32-578".parse().unwrap();
        let other_machine: Sid = "S-1-5-21-11-22-33-1001".parse().unwrap();
        let own = own(user);
        let let_in = |who: &str| format!("(A;;0x12019b;;;{who}){own}");
        // Where administrators make the instances, their entry is the last.
        let (first, last) = match own.split_once(")(") {
            None => (own.clone(), String::new()),
            Some((first, last)) => (format!("{first})"), format!("({last}")),
        };
        for (access, expected) in [
            (Access::CURRENT_USER, own.clone()),
            (Access::AUTHENTICATED_USERS, let_in("AU")),
            (Access::EVERYONE, let_in("WD")),
            (Access::from(group), let_in(&group.to_string())),
            (
                Access::from(other_machine),
                let_in(&other_machine.to_string()),
            ),
            (
                Access::CURRENT_USER.or(Access::from(group)).never_remote(),
                format!("(D;;FA;;;NU){first}(A;;0x12019b;;;{group}){last}"),
            ),
        ] {
            let (_listener, client, server) = connect_by(ListenOptions::new().access(access));
            let expected = with_entries(&expected);
            assert_eq!(descriptor(&client), expected);
            assert_eq!(descriptor(&server), expected);
        }
    });
}

#[test]
fn sddl_arrives_to_the_letter() {
    within(LIMIT, || {
        let user = Sid::current_user().unwrap();
        let text = format!("O:{user}D:P(A;;FA;;;{user})(A;;0x12019b;;;BG)(A;;FR;;;WD)");
        let access = Access::sddl(text.clone());
        let (_listener, client, _server) = connect_by(ListenOptions::new().access(access));
        assert_eq!(descriptor(&client), canonical(&text));
    });
}

#[test]
#[cfg_attr(wine, ignore = "Wine keeps no labels")]
fn a_low_integrity_label_arrives() {
    within(LIMIT, || {
        for access in [
            Access::CURRENT_USER.low_integrity(),
            Access::CURRENT_USER.app_packages(),
        ] {
            let (_listener, client, _server) = connect_by(ListenOptions::new().access(access));
            let found = descriptor(&client);
            let label = canonical(&label("LW"));
            assert!(found.ends_with(&label), "{found}, {label}");
        }
    });
}

#[test]
fn a_logon_session_arrives_as_its_sid() {
    within(LIMIT, || {
        let (_listener, client, _server) =
            connect_by(ListenOptions::new().access(Access::LOGON_SESSION));
        let (user, creator) = (Sid::current_user().unwrap(), creator());
        let found = descriptor(&client);
        let dacl = found.split("D:P").nth(1).unwrap();
        let session = dacl
            .split([';', ')'])
            .find(|field| field.starts_with("S-1-5-5-"));
        let session = session.unwrap_or_else(|| panic!("{found}"));
        // The user has the right to make instances, as nobody else in the session must have it, and
        // nothing else: not even to look at the rights, as the owner can otherwise.
        let expected = format!("(A;;0x12019b;;;{session})(A;;0x4;;;{creator})(D;;FA;;;{user})");
        assert_eq!(found, with_entries(&expected));
    });
}

#[test]
fn bad_access_is_invalid_input_that_quotes_it() {
    let bind = |access: Access| ListenOptions::new().access(access).bind(fresh_path());
    for bad in [
        "nonsense",
        "D:(A;;XX;;;WD)",
        "D:(A;;FA;;;nobody)",
        "D:(A;;FA;;;S-1-5-)",
        "D:(A",
        "D:P(A;;FA;;;WD)\0(D;;FA;;;NU)",
    ] {
        let error = assert_fails(bind(Access::sddl(bad)), ErrorKind::InvalidInput);
        let quoted = format!("{bad:?}");
        assert!(error.to_string().contains(&quoted), "{error}");
    }
    let long = Access::sddl("nonsense".repeat(1 << 17));
    let error = bind(long).unwrap_err().to_string();
    assert!(error.chars().count() < 500, "{error}");
    let own = "D:(A;;FA;;;WD)";
    let error = bind(Access::sddl(own).or(Access::EVERYONE)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains(own), "{error}");
}

#[test]
#[cfg_attr(wine, ignore = "Wine enforces no access rights on pipes")]
fn access_that_shuts_out_the_server_itself_is_permission_denied() {
    let nobody = Access::sddl("D:P(A;;FA;;;S-1-5-21-1-2-3-1001)");
    assert_fails(
        ListenOptions::new().access(nobody).bind(fresh_path()),
        ErrorKind::PermissionDenied,
    );
}

#[test]
#[cfg_attr(wine, ignore = "Wine enforces no access rights on pipes")]
fn other_users_are_refused() {
    within(LIMIT, || {
        let stranger = strangers_token();
        let path = fresh_path();
        let _listener = WinListener::bind(&path).unwrap();
        assert_fails(
            acting_with(&stranger, || WinStream::connect(&path)),
            ErrorKind::PermissionDenied,
        );

        let path = fresh_path();
        let _listener = ListenOptions::new()
            .access(Access::EVERYONE)
            .bind(&path)
            .unwrap();
        acting_with(&stranger, || WinStream::connect(&path)).unwrap();
        // It may connect, but not make an instance, which this user may.
        let instance = || foreign_instance(&path, 0, MESSAGE_READ_BY_BYTE, 255);
        assert_denied(acting_with(&stranger, instance));
        instance().unwrap();
    });
}

#[test]
#[cfg_attr(wine, ignore = "Wine enforces no access rights on pipes")]
fn nobody_may_change_a_pipes_rights_not_even_its_owner() {
    within(LIMIT, || {
        for access in [
            Access::CURRENT_USER,
            Access::EVERYONE,
            Access::CURRENT_USER.never_remote(),
            Access::CURRENT_USER.low_integrity(),
        ] {
            let path = fresh_path();
            let _listener = ListenOptions::new().access(access).bind(&path).unwrap();
            let instance = |more| foreign_instance(&path, more, MESSAGE_READ_BY_BYTE, 255);
            instance(0).unwrap();
            for more in [WRITE_DAC, DELETE] {
                assert_denied(instance(more));
                assert_denied(File::options().access_mode(more).open(&path));
            }
        }
    });
}

#[test]
fn the_systems_access_check_lets_this_user_in_and_makes_no_stranger_an_instance() {
    let (connect, create) = (0x12_019b, 0x12_019f);
    let (own, stranger) = (own_token(), strangers_token());
    for (access, _) in accesses() {
        let (_listener, client, _server) = connect_by(ListenOptions::new().access(access.clone()));
        let checked = |token, rights| access_check(&client, token, rights);
        assert!(checked(&own, connect), "{access:?}");
        assert!(checked(&own, create), "{access:?}");
        assert!(!checked(&stranger, create), "{access:?}");
        assert!(!checked(&stranger, 0x4), "{access:?}");
    }
}

#[test]
#[cfg_attr(
    wine,
    ignore = "Wine gives an owner every standard right, and takes no user out of a token"
)]
fn the_systems_access_check_says_who_may_do_what() {
    let (own, stranger) = (own_token(), strangers_token());
    for (access, lets_strangers_in) in accesses() {
        let (_listener, client, _server) = connect_by(ListenOptions::new().access(access.clone()));
        let checked = |token, rights| access_check(&client, token, rights);
        assert_eq!(
            checked(&stranger, 0x12_019b),
            lets_strangers_in,
            "{access:?}"
        );
        for token in [&own, &stranger] {
            assert!(!checked(token, WRITE_DAC), "{access:?}");
        }
        assert!(!checked(&own, DELETE), "{access:?}");
    }
}

/// Asserts that the system has refused the call.
#[track_caller]
fn assert_denied<T>(result: io::Result<T>) {
    assert_eq!(result.err().and_then(|error| error.raw_os_error()), Some(5));
}

/// What a listener may say, and whether it lets strangers connect.
fn accesses() -> [(Access, bool); 6] {
    let other_machine: Sid = "S-1-5-21-11-22-33-1001".parse().unwrap();
    [
        (Access::CURRENT_USER, false),
        (Access::from(other_machine), false),
        (Access::AUTHENTICATED_USERS, true),
        (Access::EVERYONE, true),
        (Access::CURRENT_USER.never_remote(), false),
        (Access::CURRENT_USER.low_integrity(), false),
    ]
}

/// Whether the pipe's descriptor gives these rights, by the system's own check, to the token.
fn access_check(stream: &WinStream, token: &OwnedHandle, rights: u32) -> bool {
    // The group isn't looked at, but has to be there.
    let descriptor = security_info(stream, SHOWN | GROUP_SECURITY_INFORMATION);
    let mapping = GENERIC_MAPPING {
        GenericRead: FILE_GENERIC_READ,
        GenericWrite: FILE_GENERIC_WRITE,
        GenericExecute: FILE_GENERIC_EXECUTE,
        GenericAll: FILE_ALL_ACCESS,
    };
    let mut privileges = [0_u32; 64];
    let mut len = size_of_val(&privileges) as u32;
    let (mut granted, mut status) = (0, 0);
    // SAFETY: the token is open, the descriptor is ours to free, and all else are places for what is
    // asked for.
    unsafe {
        let ok = AccessCheck(
            descriptor,
            token.as_raw_handle(),
            rights,
            &mapping,
            privileges.as_mut_ptr().cast(),
            &mut len,
            &mut granted,
            &mut status,
        );
        assert_ne!(ok, 0, "{}", io::Error::last_os_error());
        LocalFree(descriptor);
    }
    status != 0 && granted & rights == rights
}

#[test]
#[cfg_attr(wine, ignore = "Wine enforces no integrity labels on pipes")]
fn low_integrity_is_refused_unless_it_is_let_in() {
    within(LIMIT, || {
        let token = low_token();
        let path = fresh_path();
        let _listener = WinListener::bind(&path).unwrap();
        let connect = || WinStream::connect(&path);
        assert_fails(acting_with(&token, connect), ErrorKind::PermissionDenied);
        let instance = || foreign_instance(&path, 0, MESSAGE_READ_BY_BYTE, 255);
        assert_denied(acting_with(&token, instance));
        // Nor may it only read, or look.
        for rights in [FILE_GENERIC_READ, READ_CONTROL, FILE_READ_ATTRIBUTES] {
            let open = || File::options().access_mode(rights).open(&path);
            assert_denied(acting_with(&token, open));
        }

        let path = fresh_path();
        let access = Access::CURRENT_USER.low_integrity();
        let _listener = ListenOptions::new().access(access).bind(&path).unwrap();
        acting_with(&token, || WinStream::connect(&path)).unwrap();
    });
}

#[test]
#[cfg_attr(wine, ignore = "Wine knows no remote pipes")]
fn remote_clients_are_refused_unless_they_are_let_in() {
    // It takes the network's file service some time to say no. 127.0.0.1 goes over it, too.
    within(LIMIT * 2, || {
        let remote = |path: &Path| {
            let path = path.to_str().unwrap().replacen(r"\\.\", r"\\127.0.0.1\", 1);
            ConnectOptions::new()
                .timeout(Duration::from_secs(5))
                .connect(path)
        };
        let path = fresh_path();
        let _open = ListenOptions::new()
            .reject_remote(false)
            .bind(&path)
            .unwrap();
        remote(&path)
            .expect("this test needs the service \"Server\" (LanmanServer), which shares pipes");
        let path = fresh_path();
        let _closed = WinListener::bind(&path).unwrap();
        remote(&path).unwrap_err();
    });
}

#[test]
fn a_listener_that_was_bound_while_impersonating_accepts_on_every_thread() {
    within(LIMIT, || {
        let token = own_token();
        let path = fresh_path();
        let mut options = ListenOptions::new();
        let listener = acting_with(&token, || {
            let listener = options.backlog(2).bind(&path).unwrap();
            assert!(impersonation_level().is_some());
            listener
        });
        for acts in [false, true, false] {
            for _ in 0..5 {
                let _client = WinStream::connect(&path).unwrap();
                if acts {
                    acting_with(&token, || {
                        listener.accept().unwrap();
                        assert!(impersonation_level().is_some());
                    });
                } else {
                    listener.accept().unwrap();
                }
            }
        }
    });
}

#[test]
#[cfg_attr(wine, ignore = "Wine enforces no access rights on pipes")]
fn a_thread_that_acts_as_somebody_who_may_not_makes_instances_as_the_process() {
    within(LIMIT, || {
        let stranger = strangers_token();
        let path = fresh_path();
        let listener = ListenOptions::new().backlog(1).bind(&path).unwrap();
        for _ in 0..5 {
            let _client = WinStream::connect(&path).unwrap();
            acting_with(&stranger, || listener.accept().unwrap());
        }
    });
}
