//! Who may connect, who the peer is, and what goes from one process to another.
//!
//! Wine enforces no access rights and impersonates nobody: what only Windows does is tested here too,
//! and says that it's skipped.

#![cfg(windows)]

mod common;

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::net::Shutdown;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::Path;
use std::ptr;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use common::{LIMIT, connection, fresh_path, skips_under_wine, spawn_child, text, within};
use windows_sys::Win32::Foundation::{HANDLE, INVALID_HANDLE_VALUE, LocalFree, WAIT_OBJECT_0};
use windows_sys::Win32::Security::Authorization::{
    ConvertSecurityDescriptorToStringSecurityDescriptorW,
    ConvertStringSecurityDescriptorToSecurityDescriptorW, ConvertStringSidToSidW, GetSecurityInfo,
    SDDL_REVISION_1, SE_KERNEL_OBJECT,
};
use windows_sys::Win32::Security::{
    AccessCheck, CheckTokenMembership, CreateRestrictedToken, DACL_SECURITY_INFORMATION,
    DuplicateTokenEx, GENERIC_MAPPING, GROUP_SECURITY_INFORMATION, GetTokenInformation,
    ImpersonateLoggedOnUser, LABEL_SECURITY_INFORMATION, OWNER_SECURITY_INFORMATION,
    PSECURITY_DESCRIPTOR, RevertToSelf, SID_AND_ATTRIBUTES, SecurityIdentification,
    SecurityImpersonation, SetTokenInformation, TOKEN_ALL_ACCESS, TOKEN_MANDATORY_LABEL,
    TOKEN_QUERY, TOKEN_USER, TokenImpersonation, TokenImpersonationLevel, TokenIntegrityLevel,
    TokenUser,
};
use windows_sys::Win32::Storage::FileSystem::{
    DELETE, FILE_ALL_ACCESS, FILE_GENERIC_EXECUTE, FILE_GENERIC_READ, FILE_GENERIC_WRITE,
    FILE_READ_ATTRIBUTES, PIPE_ACCESS_DUPLEX, READ_CONTROL, WRITE_DAC,
};
use windows_sys::Win32::System::Pipes::{
    CreateNamedPipeW, GetNamedPipeInfo, PIPE_SERVER_END, PIPE_TYPE_MESSAGE,
    PIPE_UNLIMITED_INSTANCES,
};
use windows_sys::Win32::System::SystemServices::SE_GROUP_INTEGRITY;
use windows_sys::Win32::System::Threading::{
    CreateEventW, GetCurrentProcess, GetCurrentThread, OpenProcessToken, OpenThreadToken, SetEvent,
    WaitForSingleObject,
};
use winpipe::ipc;
use winpipe::{
    Access, ConnectOptions, Impersonation, Integrity, Learnt, ListenOptions, Server, Sid,
    WinListener, WinStream,
};

// Reading back

/// The descriptor of the pipe that this stream is an end of, as SDDL.
fn descriptor(stream: &WinStream) -> String {
    let mut descriptor: PSECURITY_DESCRIPTOR = ptr::null_mut();
    let what = OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION | LABEL_SECURITY_INFORMATION;
    // SAFETY: the handle is borrowed, and `descriptor` is a place for a pointer.
    unsafe {
        let (handle, null) = (stream.as_raw_handle(), ptr::null_mut());
        let code = GetSecurityInfo(
            handle,
            SE_KERNEL_OBJECT,
            what,
            null,
            null,
            null.cast(),
            null.cast(),
            &mut descriptor,
        );
        assert_eq!(code, 0);
        // Where no labels are kept, there may be an empty list of them.
        let sddl = sddl(descriptor);
        sddl.strip_suffix("S:").unwrap_or(&sddl).to_owned()
    }
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
    let what = OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION | LABEL_SECURITY_INFORMATION;
    // SAFETY: as the caller says; the text is as long as is told, and freed after it's copied.
    unsafe {
        let ok = ConvertSecurityDescriptorToStringSecurityDescriptorW(
            descriptor,
            SDDL_REVISION_1,
            what,
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

/// What the kernel says of the pipe: flags, buffers (to the client, to the server), instances.
fn pipe_info(stream: &WinStream) -> (u32, u32, u32, u32) {
    let (mut flags, mut out, mut inn, mut max) = (0, 0, 0, 0);
    // SAFETY: the handle is borrowed, and the rest are places for numbers.
    let ok = unsafe {
        GetNamedPipeInfo(
            stream.as_raw_handle(),
            &mut flags,
            &mut out,
            &mut inn,
            &mut max,
        )
    };
    assert_ne!(ok, 0);
    (flags, out, inn, max)
}

/// A listener by these options, a client and the stream accepted for it.
fn connect_by(options: &ListenOptions) -> (WinListener, WinStream, WinStream) {
    let path = fresh_path();
    let listener = options.bind(&path).unwrap();
    let client = WinStream::connect(&path).unwrap();
    let (server, _) = listener.accept().unwrap();
    (listener, client, server)
}

// Who may connect

/// What keeps the owner from changing the rights.
const OWNER_RIGHTS: &str = "(A;;RC;;;S-1-3-4)";

/// What keeps those out that are trusted less; with the levels that tests run at. Wine keeps no labels.
fn label(level: &str) -> String {
    match common::wine() {
        None => format!("S:(ML;;NRNWNX;;;{level})"),
        Some(_) => String::new(),
    }
}

/// Whether this process is elevated, so that only administrators may make instances of its pipes.
fn is_administrator() -> bool {
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

/// The identifier that this process may make instances by.
fn creator() -> Sid {
    let user = Sid::current_user().unwrap();
    match is_administrator() && user != Sid::LOCAL_SYSTEM {
        true => Sid::ADMINISTRATORS,
        false => user,
    }
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
        let user = Sid::current_user().unwrap();
        let (own, label) = (own(user), label("ME"));
        let expected = canonical(&format!("O:{user}D:P{own}{OWNER_RIGHTS}{label}"));
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
            (Access::CurrentUser, own.clone()),
            (Access::Authenticated, let_in("AU")),
            (Access::Everyone, let_in("WD")),
            (Access::Sid(group), let_in(&group.to_string())),
            (
                Access::Sid(other_machine),
                let_in(&other_machine.to_string()),
            ),
            (
                Access::CurrentUser
                    .and(Access::Sid(group))
                    .and(Access::NeverRemote),
                format!("(D;;FA;;;NU){first}(A;;0x12019b;;;{group}){last}"),
            ),
        ] {
            let (_listener, client, server) = connect_by(ListenOptions::new().access(access));
            let label = label("ME");
            let expected = canonical(&format!("O:{user}D:P{expected}{OWNER_RIGHTS}{label}"));
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
        let options = ListenOptions::new()
            .access(Access::Sddl(text.clone()))
            .clone();
        let (_listener, client, _server) = connect_by(&options);
        assert_eq!(descriptor(&client), canonical(&text));
    });
}

#[test]
fn a_low_integrity_label_arrives() {
    within(LIMIT, || {
        for access in [Access::LowIntegrity, Access::AppContainers] {
            let options = ListenOptions::new().access(access).clone();
            let (_listener, client, _server) = connect_by(&options);
            let found = descriptor(&client);
            let name = "a_low_integrity_label_arrives";
            if !found.contains("ML") && skips_under_wine(name, |_| true, "keeps no labels") {
                return;
            }
            let label = canonical(&label("LW"));
            assert!(found.ends_with(&label), "{found}, {label}");
        }
    });
}

#[test]
fn a_logon_session_arrives_as_its_sid() {
    within(LIMIT, || {
        let (_listener, client, _server) =
            connect_by(ListenOptions::new().access(Access::LogonSession));
        let (user, creator) = (Sid::current_user().unwrap(), creator());
        let found = descriptor(&client);
        let dacl = found.split("D:P").nth(1).unwrap();
        let session = dacl
            .split([';', ')'])
            .find(|field| field.starts_with("S-1-5-5-"));
        let session = session.unwrap_or_else(|| panic!("{found}"));
        // The user has the right to make instances, as nobody else in the session must have it, and
        // nothing else: not even to look at the rights, as the owner can otherwise.
        let label = label("ME");
        let expected = format!(
            "O:{user}D:P(A;;0x12019b;;;{session})(A;;0x4;;;{creator})(D;;FA;;;{user})\
             {OWNER_RIGHTS}{label}"
        );
        assert_eq!(found, canonical(&expected));
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
        let error = bind(Access::Sddl(bad.into())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad}: {error}");
        let quoted = format!("{bad:?}");
        assert!(error.to_string().contains(&quoted), "{error}");
    }
    let long = Access::Sddl("nonsense".repeat(1 << 17));
    let error = bind(long).unwrap_err().to_string();
    assert!(error.chars().count() < 500, "{error}");
    let own = "D:(A;;FA;;;WD)";
    let error = bind(Access::Sddl(own.into()).and(Access::Everyone)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains(own), "{error}");
}

#[test]
fn access_that_shuts_out_the_server_itself_is_permission_denied() {
    let name = "access_that_shuts_out_the_server_itself_is_permission_denied";
    if skips_under_wine(name, |_| true, "enforces no access rights on pipes") {
        return;
    }
    let nobody = Access::Sddl("D:P(A;;FA;;;S-1-5-21-1-2-3-1001)".into());
    let error = ListenOptions::new()
        .access(nobody)
        .bind(fresh_path())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
}

// The other options

#[test]
fn every_option_arrives_in_the_kernel() {
    within(LIMIT, || {
        let (_listener, client, server) = connect_by(&ListenOptions::new());
        let message = PIPE_TYPE_MESSAGE;
        let (flags, out, inn, max) = pipe_info(&client);
        assert_eq!((flags, out, inn), (message, 65_536, 65_536));
        // Wine gives the kernel's own number, and Windows the word for it.
        assert!(max >= PIPE_UNLIMITED_INSTANCES);
        assert_eq!(pipe_info(&server).0, message | PIPE_SERVER_END);

        let (_listener, client, server) = connect_by(
            ListenOptions::new()
                .inbound_buffer(8192)
                .outbound_buffer(16_384)
                .max_instances(7)
                .half_close(false)
                .reject_remote(false),
        );
        // To whom a buffer is "in" or "out" is the server's word.
        let (flags, out, inn, max) = pipe_info(&server);
        assert_eq!((flags, out, inn, max), (PIPE_SERVER_END, 16_384, 8192, 7));
        assert_eq!(pipe_info(&client).0, 0);
    });
}

#[test]
fn reject_remote_arrives_in_the_call() {
    // The kernel doesn't tell, so this looks at the record of the call.
    static RECORDS: Mutex<Vec<String>> = Mutex::new(Vec::new());
    struct Keep;
    impl log::Log for Keep {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            RECORDS.lock().unwrap().push(record.args().to_string());
        }
        fn flush(&self) {}
    }
    if !cfg!(feature = "log") {
        return;
    }
    log::set_logger(&Keep).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    for (reject_remote, expected) in [(None, true), (Some(true), true), (Some(false), false)] {
        let path = fresh_path();
        let mut options = ListenOptions::new();
        if let Some(reject_remote) = reject_remote {
            options.reject_remote(reject_remote);
        }
        let _listener = options.bind(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let records = RECORDS.lock().unwrap();
        let made: Vec<_> = records
            .iter()
            .filter(|record| {
                record.starts_with("NtCreate") && record.contains(&format!(r"\{name},"))
            })
            .collect();
        assert_eq!(made.len(), 16);
        let said = format!("reject_remote: {expected},");
        assert!(made.iter().all(|record| record.contains(&said)), "{made:?}");
    }
    // The same for what the client lets the server do.
    let path = fresh_path();
    let _listener = WinListener::bind(&path).unwrap();
    for (options, expected) in [
        (ConnectOptions::new(), "Identification"),
        (
            ConnectOptions::new()
                .impersonation(Impersonation::Anonymous)
                .clone(),
            "Anonymous",
        ),
        (
            ConnectOptions::new()
                .impersonation(Impersonation::Impersonation)
                .clone(),
            "Impersonation",
        ),
        (
            ConnectOptions::new()
                .impersonation(Impersonation::Delegation)
                .clone(),
            "Delegation",
        ),
    ] {
        RECORDS.lock().unwrap().clear();
        options.connect(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let said = |tracking| {
            let said = format!(r"\{name}, {expected}, tracking: {tracking})");
            let records = RECORDS.lock().unwrap();
            records.iter().any(|record| record.contains(&said))
        };
        assert!(said(false) && !said(true));
        // A server that could act as the client can't do so before it's known to be the right one.
        RECORDS.lock().unwrap().clear();
        let mut options = options.clone();
        options
            .expect_server(Server::CurrentUser)
            .connect(&path)
            .unwrap();
        let acts = ["Impersonation", "Delegation"].contains(&expected);
        assert!(said(acts) && !said(!acts), "{expected}");
    }
}

#[test]
fn a_backlog_of_any_size_holds_as_many_clients() {
    within(LIMIT, || {
        for backlog in [1, 3, 100] {
            let path = fresh_path();
            let listener = ListenOptions::new().backlog(backlog).bind(&path).unwrap();
            for round in 0..2 {
                for client in 0..backlog {
                    let mut stream = WinStream::connect(&path).unwrap();
                    stream.write_all(&[client as u8, round]).unwrap();
                }
                let error = ConnectOptions::new()
                    .timeout(Duration::ZERO)
                    .connect(&path)
                    .unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
                for client in 0..backlog {
                    let mut bytes = Vec::new();
                    listener
                        .accept()
                        .unwrap()
                        .0
                        .read_to_end(&mut bytes)
                        .unwrap();
                    assert_eq!(bytes, [client as u8, round]);
                }
            }
        }
    });
}

#[test]
fn numbers_that_make_no_sense_are_invalid_input_and_make_no_pipe() {
    let path = fresh_path();
    for options in [
        ListenOptions::new().backlog(0),
        ListenOptions::new().backlog(10_000),
        ListenOptions::new().max_instances(0),
        ListenOptions::new().max_instances(1000),
        ListenOptions::new().inbound_buffer(0),
        ListenOptions::new().outbound_buffer(usize::MAX),
        ListenOptions::new().backlog(5).max_instances(4),
    ] {
        let error = options.bind(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert_eq!(
            WinStream::connect(&path).unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }
}

#[test]
fn more_streams_than_instances_are_busy_until_one_is_dropped() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = ListenOptions::new().max_instances(3).bind(&path).unwrap();
        let patience = Duration::from_millis(50);
        let connect = || ConnectOptions::new().timeout(patience).connect(&path);
        let clients = [connect().unwrap(), connect().unwrap(), connect().unwrap()];
        let (first, _) = listener.accept().unwrap();
        let (_second, _) = listener.accept().unwrap();
        // The third waits at the instance that always listens.
        for _ in 0..2 {
            let error = listener.accept().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ResourceBusy, "{error}");
            assert_eq!(connect().unwrap_err().kind(), ErrorKind::ConnectionRefused);
        }
        (&clients[2]).write_all(b"third").unwrap();
        drop(first);
        let (mut third, _) = listener.accept().unwrap();
        third.read_exact(&mut [0; 5]).unwrap();
        assert_eq!(
            listener.accept().unwrap_err().kind(),
            ErrorKind::ResourceBusy
        );
        drop(third);
        connect().unwrap();
        listener.accept().unwrap();
    });
}

#[test]
fn the_name_stays_the_listeners_when_all_streams_are_dropped() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = ListenOptions::new().max_instances(2).bind(&path).unwrap();
        for _ in 0..5 {
            let client = WinStream::connect(&path).unwrap();
            drop(listener.accept().unwrap());
            drop(client);
            // Nobody has accepted again, and still there is somebody to connect to.
            drop(WinStream::connect(&path).unwrap());
            listener.accept().unwrap();
        }
    });
}

#[test]
fn buffers_are_what_can_be_written_unread() {
    within(LIMIT, || {
        for size in [1, 100, 4096, 300_000, 3 << 20] {
            let (_listener, mut client, mut server) = connect_by(
                ListenOptions::new()
                    .inbound_buffer(size)
                    .outbound_buffer(size),
            );
            for (one, other) in [(&mut client, &mut 0), (&mut server, &mut 1)] {
                let _ = other;
                one.set_nonblocking(true).unwrap();
                let mut sent = 0;
                while sent < size {
                    sent += one.write(&text(sent, size - sent)).unwrap();
                }
                assert_eq!(one.write(b"x").unwrap_err().kind(), ErrorKind::WouldBlock);
                one.shutdown(Shutdown::Write).unwrap();
                one.set_nonblocking(false).unwrap();
            }
            for one in [&mut client, &mut server] {
                let mut bytes = Vec::new();
                one.read_to_end(&mut bytes).unwrap();
                assert!(bytes == text(0, size), "{size}");
            }
        }
    });
}

#[test]
fn a_pipe_without_half_close_is_a_byte_pipe_that_works() {
    byte_pipe_works(false);
    let name = "a_pipe_without_half_close_is_a_byte_pipe_that_works";
    if !skips_under_wine(
        name,
        |_| true,
        "takes the bit that rejects remote clients for a type",
    ) {
        byte_pipe_works(true);
    }
}

fn byte_pipe_works(reject_remote: bool) {
    within(LIMIT, move || {
        let mut options = ListenOptions::new();
        options.half_close(false).reject_remote(reject_remote);
        let (_listener, mut client, mut server) = connect_by(&options);
        for one in [&client, &server] {
            let error = one.shutdown(Shutdown::Write).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
        }
        client.write_all(b"one").unwrap();
        client.write_all(b"two").unwrap();
        let mut buf = [0; 16];
        assert_eq!(server.peek(&mut buf).unwrap(), 6);
        assert_eq!(server.read(&mut buf).unwrap(), 6);
        server.write_all(&text(0, 60_000)).unwrap();
        drop(server);
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, text(0, 60_000));
    });
}

#[test]
fn connect_options_wait_as_they_say() {
    within(LIMIT, || {
        let path = fresh_path();
        let start = Instant::now();
        let mut options = ConnectOptions::new();
        let error = options.timeout(LIMIT).connect(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(start.elapsed() < Duration::from_millis(700));
        options.wait_for_server(true);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| options.connect(&path).map(drop));
            thread::sleep(Duration::from_millis(50));
            let listener = WinListener::bind(&path).unwrap();
            listener.accept().unwrap();
            waiting.join().unwrap().unwrap();
        });
    });
}

// Who the server is

#[test]
fn expect_server_lets_the_expected_one_pass_and_refuses_others() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        let connect = |server| ConnectOptions::new().expect_server(server).connect(&path);
        let user = Sid::current_user().unwrap();
        connect(Server::CurrentUser)
            .unwrap()
            .write_all(b"x")
            .unwrap();
        connect(Server::Sid(user)).unwrap().write_all(b"x").unwrap();
        for _ in 0..2 {
            listener.accept().unwrap().0.read_exact(&mut [0]).unwrap();
        }
        let stranger: Sid = "S-1-5-21-1-2-3-1001".parse().unwrap();
        let mut unexpected = vec![Server::Sid(stranger)];
        // The tests may be run by any of these.
        if user != Sid::LOCAL_SYSTEM {
            unexpected.push(Server::System);
        }
        for server in unexpected {
            let error = connect(server).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
            assert!(error.to_string().contains(&user.to_string()), "{error}");
            // Not a byte was sent, and the handle is closed.
            let mut bytes = Vec::new();
            listener
                .accept()
                .unwrap()
                .0
                .read_to_end(&mut bytes)
                .unwrap();
            assert!(bytes.is_empty());
        }
    });
}

#[test]
fn a_service_of_the_system_may_belong_to_the_administrators() {
    if !is_administrator() {
        common::skipped(
            "a_service_of_the_system_may_belong_to_the_administrators",
            "only they can make a pipe that belongs to them",
        );
        return;
    }
    within(LIMIT, || {
        let user = Sid::current_user().unwrap();
        let path = fresh_path();
        let access = Access::Sddl(format!("O:BAD:P(A;;0x12019f;;;{user})(A;;RC;;;S-1-3-4)"));
        let _listener = ListenOptions::new().access(access).bind(&path).unwrap();
        let connect = |server| ConnectOptions::new().expect_server(server).connect(&path);
        connect(Server::System).unwrap();
        connect(Server::Sid(Sid::ADMINISTRATORS)).unwrap();
        for error in [
            connect(Server::CurrentUser).unwrap_err(),
            ipc::connect(&path).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
            assert!(error.to_string().contains("S-1-5-32-544"), "{error}");
        }
    });
}

#[test]
fn a_server_that_may_act_as_its_client_is_not_expected_on_another_computer() {
    let mut options = ConnectOptions::new();
    options.impersonation(Impersonation::Delegation);
    let error = options
        .expect_server(Server::System)
        .connect(r"\\there\pipe\x")
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

// Who makes the instances

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
fn a_thread_that_acts_as_somebody_who_may_not_makes_instances_as_the_process() {
    let name = "a_thread_that_acts_as_somebody_who_may_not_makes_instances_as_the_process";
    if skips_under_wine(name, |_| true, "enforces no access rights on pipes") {
        return;
    }
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

// Who the peer is

#[test]
fn peer_cred_tells_who_is_at_the_other_end() {
    within(LIMIT, || {
        let (mut client, mut server) = connection();
        let user = Sid::current_user().unwrap();
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
        for stream in [&client, &server] {
            let peer = stream.peer_cred().unwrap();
            assert_eq!(peer.pid, std::process::id());
            assert_eq!(peer.user, Some(user));
            assert!(peer.session.is_some());
            assert!(peer.elevated.is_some());
            assert!(peer.integrity.unwrap() >= Integrity::LOW);
        }
        assert_eq!(server.peer_cred().unwrap().learnt, Learnt::Impersonation);
        assert_eq!(client.peer_cred().unwrap().learnt, Learnt::Process);
    });
}

#[test]
fn peer_cred_is_a_hint_before_anything_was_read() {
    let name = "peer_cred_is_a_hint_before_anything_was_read";
    if skips_under_wine(name, |_| true, "impersonates before a read") {
        return;
    }
    // A client of this crate is known from when it connects. One that doesn't say what the server may
    // learn is known from its messages.
    let path = fresh_path();
    let listener = WinListener::bind(&path).unwrap();
    let _client = File::options().read(true).write(true).open(&path).unwrap();
    let (server, _) = listener.accept().unwrap();
    assert_eq!(server.peer_cred().unwrap().learnt, Learnt::Process);
    let error = server.impersonate().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(
        error.to_string().contains("read something first"),
        "{error}"
    );
}

#[test]
fn peer_cred_knows_another_process() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        let mut child = spawn_child("connect", &path);
        let (mut server, _) = listener.accept().unwrap();
        server.read_exact(&mut [0]).unwrap();
        assert_eq!(server.peer_cred().unwrap().pid, child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(server.read(&mut [0]).unwrap(), 0);
        // The kernel's record outlives the process.
        assert_eq!(server.peer_cred().unwrap().pid, child.id());
    });
}

#[test]
fn a_sid_is_looked_up_on_request() {
    let user = Sid::current_user().unwrap();
    assert!(!user.account_name().unwrap().is_empty());
    let stranger: Sid = "S-1-5-21-1-2-3-1001".parse().unwrap();
    let error = stranger.account_name().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

// Acting as the client

/// How this thread acts as somebody else, if it does: the level.
fn impersonation_level() -> Option<i32> {
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

#[test]
fn impersonation_ends_with_its_guard() {
    within(LIMIT, || {
        let (mut client, mut server) = connection();
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
        assert_eq!(impersonation_level(), None);
        let guard = server.impersonate().unwrap();
        assert!(impersonation_level().is_some());
        // Asking who the peer is leaves the thread as it was.
        assert_eq!(server.peer_cred().unwrap().learnt, Learnt::Impersonation);
        assert!(impersonation_level().is_some());
        let error = server.impersonate().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceBusy, "{error}");
        assert!(impersonation_level().is_some());
        drop(guard);
        assert_eq!(impersonation_level(), None);
        drop(server.impersonate().unwrap());
        assert_eq!(impersonation_level(), None);
        let error = client.impersonate().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    });
}

#[test]
fn a_server_gets_the_level_that_the_client_allows() {
    let name = "a_server_gets_the_level_that_the_client_allows";
    if skips_under_wine(name, |_| true, "always gives the server's own token") {
        return;
    }
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        for (impersonation, expected) in [
            (Impersonation::Identification, SecurityIdentification),
            (Impersonation::Impersonation, SecurityImpersonation),
        ] {
            let mut client = ConnectOptions::new()
                .impersonation(impersonation)
                .connect(&path)
                .unwrap();
            let (mut server, _) = listener.accept().unwrap();
            client.write_all(b"x").unwrap();
            server.read_exact(&mut [0]).unwrap();
            let _guard = server.impersonate().unwrap();
            assert_eq!(impersonation_level(), Some(expected));
        }
    });
}

// What only Windows refuses

/// A token of this process that this thread can act with.
fn own_token() -> OwnedHandle {
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

/// Makes an instance of a pipe that is there, with the plain call, and asks for some rights more.
fn another_instance(path: &Path, more: u32) -> io::Result<OwnedHandle> {
    let path: Vec<u16> = path.to_str().unwrap().encode_utf16().chain([0]).collect();
    // SAFETY: the path ends with a NUL; no attributes.
    unsafe {
        let mode = PIPE_TYPE_MESSAGE;
        match CreateNamedPipeW(
            path.as_ptr(),
            PIPE_ACCESS_DUPLEX | more,
            mode,
            255,
            0,
            0,
            0,
            ptr::null(),
        ) {
            INVALID_HANDLE_VALUE => Err(io::Error::last_os_error()),
            handle => Ok(OwnedHandle::from_raw_handle(handle)),
        }
    }
}

/// Runs `test` as the owner of this token.
fn acting_with<T>(token: &OwnedHandle, test: impl FnOnce() -> T) -> T {
    // SAFETY: the token is open.
    assert_ne!(unsafe { ImpersonateLoggedOnUser(token.as_raw_handle()) }, 0);
    let result = test();
    // SAFETY: concerns this thread only.
    assert_ne!(unsafe { RevertToSelf() }, 0);
    result
}

/// A token in which this user's identifier, and the administrators', only deny: everybody else's
/// position.
fn strangers_token() -> OwnedHandle {
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
fn low_token() -> OwnedHandle {
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

#[test]
fn who_is_not_this_user_is_refused() {
    let name = "who_is_not_this_user_is_refused";
    if skips_under_wine(name, |_| true, "enforces no access rights on pipes") {
        return;
    }
    within(LIMIT, || {
        let stranger = strangers_token();
        let path = fresh_path();
        let _listener = WinListener::bind(&path).unwrap();
        let error = acting_with(&stranger, || WinStream::connect(&path)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");

        let path = fresh_path();
        let _listener = ListenOptions::new()
            .access(Access::Everyone)
            .bind(&path)
            .unwrap();
        acting_with(&stranger, || WinStream::connect(&path)).unwrap();
        // It may connect, but not make an instance, which this user may.
        let error = acting_with(&stranger, || another_instance(&path, 0)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(5), "{error}");
        another_instance(&path, 0).unwrap();
    });
}

#[test]
fn nobody_may_change_a_pipes_rights_not_even_its_owner() {
    let name = "nobody_may_change_a_pipes_rights_not_even_its_owner";
    if skips_under_wine(name, |_| true, "enforces no access rights on pipes") {
        return;
    }
    within(LIMIT, || {
        for access in [
            Access::CurrentUser,
            Access::Everyone,
            Access::CurrentUser.and(Access::NeverRemote),
            Access::LowIntegrity,
        ] {
            let path = fresh_path();
            let _listener = ListenOptions::new().access(access).bind(&path).unwrap();
            another_instance(&path, 0).unwrap();
            for more in [WRITE_DAC, DELETE] {
                let error = another_instance(&path, more).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(5), "{more:#x}: {error}");
                let mut client = File::options();
                let error = client.access_mode(more).open(&path).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(5), "{more:#x}: {error}");
            }
        }
    });
}

#[test]
fn the_systems_access_check_says_who_may_do_what() {
    let (own, stranger) = (own_token(), strangers_token());
    let (connect, create) = (0x12_019b, 0x12_019f);
    let name = "the_systems_access_check_says_who_may_do_what";
    let reason = "gives an owner every standard right, and takes no user out of a token";
    let is_wine = skips_under_wine(name, |_| true, reason);
    for (access, lets_strangers_in) in [
        (Access::CurrentUser, false),
        (
            Access::Sid("S-1-5-21-11-22-33-1001".parse().unwrap()),
            false,
        ),
        (Access::Authenticated, true),
        (Access::Everyone, true),
        (Access::CurrentUser.and(Access::NeverRemote), false),
        (Access::CurrentUser.and(Access::LowIntegrity), false),
    ] {
        let (_listener, client, _server) = connect_by(ListenOptions::new().access(access.clone()));
        for (token, rights, expected) in [
            (&own, connect, true),
            (&own, create, true),
            (&stranger, create, false),
            (&stranger, 0x4, false),
            (&stranger, connect, lets_strangers_in),
            (&own, WRITE_DAC, false),
            (&own, DELETE, false),
            (&stranger, WRITE_DAC, false),
        ]
        .into_iter()
        .take(if is_wine { 4 } else { usize::MAX })
        {
            let is_own = ptr::eq(token, &own);
            let found = access_check(&client, token, rights);
            assert_eq!(found, expected, "{access:?}, own: {is_own}, {rights:#x}");
        }
    }
}

/// Whether the pipe's descriptor gives these rights, by the system's own check, to the token.
fn access_check(stream: &WinStream, token: &OwnedHandle, rights: u32) -> bool {
    let mut descriptor: PSECURITY_DESCRIPTOR = ptr::null_mut();
    // The group isn't looked at, but has to be there.
    let what = OWNER_SECURITY_INFORMATION
        | GROUP_SECURITY_INFORMATION
        | DACL_SECURITY_INFORMATION
        | LABEL_SECURITY_INFORMATION;
    let mapping = GENERIC_MAPPING {
        GenericRead: FILE_GENERIC_READ,
        GenericWrite: FILE_GENERIC_WRITE,
        GenericExecute: FILE_GENERIC_EXECUTE,
        GenericAll: FILE_ALL_ACCESS,
    };
    let mut privileges = [0_u32; 64];
    let mut len = size_of_val(&privileges) as u32;
    let (mut granted, mut status) = (0, 0);
    // SAFETY: the handles are open, and all else are places for what is asked for.
    unsafe {
        let (handle, null) = (stream.as_raw_handle(), ptr::null_mut());
        let code = GetSecurityInfo(
            handle,
            SE_KERNEL_OBJECT,
            what,
            null,
            null,
            null.cast(),
            null.cast(),
            &mut descriptor,
        );
        assert_eq!(code, 0);
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
fn low_integrity_is_refused_unless_it_is_let_in() {
    let name = "low_integrity_is_refused_unless_it_is_let_in";
    if skips_under_wine(name, |_| true, "enforces no integrity labels on pipes") {
        return;
    }
    within(LIMIT, || {
        let token = low_token();
        let path = fresh_path();
        let _listener = WinListener::bind(&path).unwrap();
        let error = acting_with(&token, || WinStream::connect(&path)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        let error = acting_with(&token, || another_instance(&path, 0)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(5), "{error}");
        // Nor may it only read, or look.
        for rights in [FILE_GENERIC_READ, READ_CONTROL, FILE_READ_ATTRIBUTES] {
            let open = || File::options().access_mode(rights).open(&path);
            let error = acting_with(&token, open).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(5), "{rights:#x}: {error}");
        }

        let path = fresh_path();
        let access = Access::CurrentUser.and(Access::LowIntegrity);
        let _listener = ListenOptions::new().access(access).bind(&path).unwrap();
        acting_with(&token, || WinStream::connect(&path)).unwrap();
    });
}

#[test]
fn this_users_server_is_not_what_a_process_of_low_integrity_may_have_made() {
    let name = "this_users_server_is_not_what_a_process_of_low_integrity_may_have_made";
    if skips_under_wine(name, |_| true, "keeps no labels") {
        return;
    }
    within(LIMIT, || {
        let user = Sid::current_user().unwrap();
        let token = low_token();
        // It took the name of a server that wasn't there.
        let taken = fresh_path();
        let _squatter =
            acting_with(&token, || ListenOptions::new().backlog(1).bind(&taken)).unwrap();
        // And here it may make instances.
        let shared = fresh_path();
        let mut options = ListenOptions::new();
        let _listener = options.access(Access::LowIntegrity).bind(&shared).unwrap();
        for path in [&taken, &shared] {
            let expect = |server| ConnectOptions::new().expect_server(server).connect(path);
            let error = expect(Server::CurrentUser).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
            assert!(error.to_string().contains("0x1000"), "{error}");
            let error = ipc::connect(path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
            expect(Server::Sid(user)).unwrap();
        }
    });
}

#[test]
fn a_server_that_is_expected_knows_nothing_of_its_client_before_it_has_read() {
    let name = "a_server_that_is_expected_knows_nothing_of_its_client_before_it_has_read";
    if skips_under_wine(name, |_| true, "always gives the server's own token") {
        return;
    }
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        let mut options = ConnectOptions::new();
        options.impersonation(Impersonation::Impersonation);
        let mut client = options
            .expect_server(Server::CurrentUser)
            .connect(&path)
            .unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let error = server.impersonate().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
        let _guard = server.impersonate().unwrap();
        assert_eq!(impersonation_level(), Some(SecurityImpersonation));
    });
}

#[test]
fn remote_clients_are_refused_unless_they_are_let_in() {
    let name = "remote_clients_are_refused_unless_they_are_let_in";
    if skips_under_wine(name, |_| true, "knows no remote pipes") {
        return;
    }
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
        if let Err(error) = remote(&path) {
            common::skipped(name, &format!("this computer shares no pipes: {error}"));
            return;
        }
        let path = fresh_path();
        let _closed = WinListener::bind(&path).unwrap();
        remote(&path).unwrap_err();
    });
}

// Handles that go from one process to another

/// What a process of its own does.
#[test]
fn child_process() {
    let Ok(task) = std::env::var("WINPIPE_TEST_CHILD") else {
        return;
    };
    let (task, path) = task.split_once(' ').unwrap();
    let mut stream = WinStream::connect(path).unwrap();
    println!("ready");
    io::stdout().flush().unwrap();
    match task {
        "connect" => {
            stream.write_all(b"x").unwrap();
            thread::park();
        }
        // Takes a file, a pipe and an event, and uses them.
        "take" => {
            let mut file = File::from(stream.recv_handle().unwrap());
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            let mut pipe = WinStream::from(stream.recv_handle().unwrap());
            pipe.write_all(text.to_uppercase().as_bytes()).unwrap();
            drop(pipe);
            let event = stream.recv_handle().unwrap();
            // SAFETY: the handle is open, and an event's.
            assert_ne!(unsafe { SetEvent(event.as_raw_handle()) }, 0);
            stream.read_exact(&mut [0]).unwrap();
        }
        // Reads the offer, and never takes it.
        "stall" => {
            stream.read_exact(&mut [0; 16]).unwrap();
            stream.write_all(b"!").unwrap();
            thread::park();
        }
        _ => panic!("no such task: {task}"),
    }
}

#[test]
fn a_file_a_pipe_and_an_event_go_to_another_process() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        let mut child = spawn_child("take", &path);
        let (mut stream, _) = listener.accept().unwrap();

        let name = std::env::temp_dir().join(format!("winpipe-handle-{}", std::process::id()));
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&name)
            .unwrap();
        file.write_all(b"from another process").unwrap();
        file.rewind().unwrap();
        stream.send_handle(&file).unwrap();

        let (ours, theirs) = WinStream::pair().unwrap();
        stream.send_handle(&theirs).unwrap();
        // Ours stays ours: the end comes when both are closed.
        drop(theirs);
        let mut text = String::new();
        (&ours).read_to_string(&mut text).unwrap();
        assert_eq!(text, "FROM ANOTHER PROCESS");

        // SAFETY: no attributes, no name; the handle is new.
        let event = unsafe {
            let event = CreateEventW(ptr::null(), 1, 0, ptr::null());
            OwnedHandle::from_raw_handle(event)
        };
        stream.send_handle(&event).unwrap();
        // SAFETY: the handle is open.
        let waited = unsafe { WaitForSingleObject(event.as_raw_handle(), 30_000) };
        assert_eq!(waited, WAIT_OBJECT_0);

        stream.write_all(b"x").unwrap();
        assert!(child.wait().unwrap().success());
        drop(file);
        std::fs::remove_file(name).unwrap();
    });
}

#[test]
fn a_receiver_that_dies_between_the_two_steps_leaves_the_handle_with_its_owner() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        let child = Mutex::new(spawn_child("stall", &path));
        let (stream, _) = listener.accept().unwrap();
        let (one, mut other) = WinStream::pair().unwrap();
        thread::scope(|scope| {
            let sending = scope.spawn(|| stream.send_handle(&one));
            thread::sleep(Duration::from_millis(100));
            let mut child = child.lock().unwrap();
            child.kill().unwrap();
            child.wait().unwrap();
            let error = sending.join().unwrap().unwrap_err();
            assert!(
                matches!(
                    error.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe
                ),
                "{error}"
            );
        });
        drop(stream);
        // No copy of the handle is left: the peer sees the end.
        drop(one);
        assert_eq!(other.read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn a_sender_that_is_gone_gives_nothing() {
    within(LIMIT, || {
        let (client, server) = connection();
        drop(client);
        assert_eq!(
            server.recv_handle().unwrap_err().kind(),
            ErrorKind::UnexpectedEof
        );
        // It has made its offer, and is gone when it's taken.
        let (mut client, server) = connection();
        let mut offer = *b"winpipe\x01\0\0\0\0\0\0\0\0";
        offer[8..].copy_from_slice(&(client.as_raw_handle().addr() as u64).to_le_bytes());
        client.write_all(&offer).unwrap();
        drop(client);
        server.recv_handle().unwrap_err();
    });
}

#[test]
fn what_is_no_offer_is_invalid_data_and_no_handle() {
    within(LIMIT, || {
        for (number, kind) in [
            (0_u64, 1_u8),
            (u64::MAX, 1),
            (u64::MAX - 1, 1),
            (4, 9),
            (1 << 40, 1),
        ] {
            let (mut client, server) = connection();
            let mut offer = *b"winpipe\0\0\0\0\0\0\0\0\0";
            offer[7] = kind;
            offer[8..].copy_from_slice(&number.to_le_bytes());
            client.write_all(&offer).unwrap();
            server.recv_handle().unwrap_err();
        }
        let (mut client, server) = connection();
        client.write_all(b"something else altogether").unwrap();
        assert_eq!(
            server.recv_handle().unwrap_err().kind(),
            ErrorKind::InvalidData
        );
        // And the other way round: an answer that is none.
        let (mut client, server) = connection();
        client.write_all(b"something else altogether").unwrap();
        let error = server.send_handle(&client).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
    });
}

#[test]
fn a_handle_that_is_taken_after_a_time_out_is_the_one_that_was_offered() {
    within(LIMIT, || {
        let (client, server) = connection();
        let (one, mut other) = WinStream::pair().unwrap();
        client
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let error = client.send_handle(&one).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        drop(one);
        // The receiver is late. The offered copy is still there for it, whatever else was opened.
        let _others: Vec<_> = (0..10).map(|_| WinStream::pair().unwrap()).collect();
        let mut late = WinStream::from(server.recv_handle().unwrap());
        late.write_all(b"late").unwrap();
        let mut buf = [0; 4];
        other.read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"late");
        // The late answer doesn't disturb the next offer.
        client.set_read_timeout(None).unwrap();
        thread::scope(|scope| {
            let receiving = scope.spawn(|| server.recv_handle().unwrap());
            client.send_handle(&other).unwrap();
            receiving.join().unwrap();
        });
        drop(late);
        assert_eq!(other.read(&mut [0]).unwrap(), 0);
    });
}

// Names

#[test]
fn a_pair_has_no_name() {
    within(LIMIT, || {
        let Ok(before) = winpipe::pipes() else {
            let name = "a_pair_has_no_name";
            assert!(skips_under_wine(name, |_| true, "lists no pipes"));
            return;
        };
        // Other tests make pipes meanwhile, but all of theirs have names of this process's.
        let strangers = |names: Vec<std::ffi::OsString>| {
            let own = format!("winpipe-{}-", std::process::id());
            names
                .into_iter()
                .filter(|name| !name.to_string_lossy().starts_with(&own))
                .count()
        };
        let before = strangers(before.map_while(Result::ok).collect());
        let pairs: Vec<_> = (0..500).map(|_| WinStream::pair().unwrap()).collect();
        let after = strangers(winpipe::pipes().unwrap().map_while(Result::ok).collect());
        assert!(after < before + 500, "{before} pipes, then {after}");
        drop(pairs);
    });
}

#[test]
fn pipes_lists_ours_or_is_unsupported() {
    let path = fresh_path();
    let _listener = WinListener::bind(&path).unwrap();
    match winpipe::pipes() {
        Ok(mut pipes) => {
            let ours = path.file_name().unwrap();
            assert!(pipes.any(|name| name.unwrap() == ours));
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(
                skips_under_wine("pipes_lists_ours", |_| true, "lists no pipes"),
                "{error}"
            );
        }
    }
}
