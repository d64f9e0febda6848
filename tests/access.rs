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
use std::os::windows::io::{AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
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
    DELETE, FILE_ALL_ACCESS, FILE_FLAG_DELETE_ON_CLOSE, FILE_GENERIC_EXECUTE, FILE_GENERIC_READ,
    FILE_GENERIC_WRITE, FILE_READ_ATTRIBUTES, PIPE_ACCESS_DUPLEX, READ_CONTROL, WRITE_DAC,
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
    Access, ConnectOptions, Impersonation, Integrity, ListenOptions, Server, Sid, WinListener,
    WinStream,
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
            .access(Access::sddl(text.clone()))
            .clone();
        let (_listener, client, _server) = connect_by(&options);
        assert_eq!(descriptor(&client), canonical(&text));
    });
}

#[test]
fn a_low_integrity_label_arrives() {
    within(LIMIT, || {
        for access in [
            Access::CURRENT_USER.low_integrity(),
            Access::CURRENT_USER.app_packages(),
        ] {
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
        let error = bind(Access::sddl(bad)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad}: {error}");
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
fn access_that_shuts_out_the_server_itself_is_permission_denied() {
    let name = "access_that_shuts_out_the_server_itself_is_permission_denied";
    if skips_under_wine(name, |_| true, "enforces no access rights on pipes") {
        return;
    }
    let nobody = Access::sddl("D:P(A;;FA;;;S-1-5-21-1-2-3-1001)");
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
        // One instance more, which keeps the name.
        assert_eq!((flags, out, inn, max), (PIPE_SERVER_END, 16_384, 8192, 8));
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
        assert_eq!(made.len(), 128);
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
        for limit in [1, 2, 5] {
            let path = fresh_path();
            let listener = ListenOptions::new()
                .max_instances(limit)
                .bind(&path)
                .unwrap();
            let patience = Duration::from_millis(50);
            let connect = || ConnectOptions::new().timeout(patience).connect(&path);
            let clients: Vec<_> = (0..limit).map(|_| connect().unwrap()).collect();
            let mut streams: Vec<_> = clients
                .iter()
                .map(|_| listener.accept().unwrap().0)
                .collect();
            // One more waits at the instance that keeps the name, and is refused nothing but `accept`.
            listener.set_nonblocking(true).unwrap();
            let accept = || listener.accept().map_err(|error| error.kind());
            assert_eq!(accept().unwrap_err(), ErrorKind::WouldBlock);
            let mut further = connect().unwrap();
            further.write_all(b"more").unwrap();
            for _ in 0..2 {
                assert_eq!(accept().unwrap_err(), ErrorKind::ResourceBusy);
                assert_eq!(connect().unwrap_err().kind(), ErrorKind::ConnectionRefused);
            }
            drop(streams.remove(0));
            let (mut stream, _) = accept().unwrap();
            stream.read_exact(&mut [0; 4]).unwrap();
            assert_eq!(accept().unwrap_err(), ErrorKind::WouldBlock);
            drop((stream, streams));
            connect().unwrap();
            accept().unwrap();
        }
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
        let access = Access::sddl(format!("O:BAD:P(A;;0x12019f;;;{user})(A;;RC;;;S-1-3-4)"));
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
            assert_eq!(peer.pid(), std::process::id());
            assert!(peer.session().is_some());
            // One of them, and never both.
            let (authenticated, hint) = (peer.authenticated(), peer.unauthenticated_hint());
            assert_ne!(authenticated.is_some(), hint.is_some());
            let identity = authenticated.or(hint).unwrap();
            assert_eq!(identity.user, user);
            assert!(identity.integrity >= Integrity::LOW);
        }
        assert!(server.peer_cred().unwrap().authenticated().is_some());
        assert_eq!(client.peer_cred().unwrap().authenticated(), None);
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
    let peer = server.peer_cred().unwrap();
    assert_eq!(peer.authenticated(), None);
    assert!(peer.unauthenticated_hint().is_some());
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
        assert_eq!(server.peer_cred().unwrap().pid(), child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(server.read(&mut [0]).unwrap(), 0);
        // The kernel's record outlives the process.
        assert_eq!(server.peer_cred().unwrap().pid(), child.id());
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
        assert!(server.peer_cred().unwrap().authenticated().is_some());
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
            .access(Access::EVERYONE)
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
            Access::CURRENT_USER,
            Access::EVERYONE,
            Access::CURRENT_USER.never_remote(),
            Access::CURRENT_USER.low_integrity(),
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
        (Access::CURRENT_USER, false),
        (
            Access::from("S-1-5-21-11-22-33-1001".parse::<Sid>().unwrap()),
            false,
        ),
        (Access::AUTHENTICATED_USERS, true),
        (Access::EVERYONE, true),
        (Access::CURRENT_USER.never_remote(), false),
        (Access::CURRENT_USER.low_integrity(), false),
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
        let access = Access::CURRENT_USER.low_integrity();
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
        let _listener = options
            .access(Access::CURRENT_USER.low_integrity())
            .bind(&shared)
            .unwrap();
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

/// What the two sides say to each other: a mark, a step, an identifier, a process and a number.
const MESSAGE: usize = 36;
const OFFERED: u8 = 1;
const TAKEN: u8 = 2;
const REFUSED: u8 = 3;
const GIVEN: u8 = 4;
const WITHDRAWN: u8 = 5;

fn message(step: u8, id: u128, process: u32, number: u64) -> [u8; MESSAGE] {
    let mut message = *b"handoff\0................____........";
    message[7] = step;
    message[8..24].copy_from_slice(&id.to_le_bytes());
    message[24..28].copy_from_slice(&process.to_le_bytes());
    message[28..].copy_from_slice(&number.to_le_bytes());
    message
}

/// Reads a message, and returns its step and its identifier.
fn read_message(mut stream: &WinStream) -> (u8, u128) {
    let mut message = [0; MESSAGE];
    stream.read_exact(&mut message).unwrap();
    let id = u128::from_le_bytes(message[8..24].try_into().unwrap());
    (message[7], id)
}

fn number(handle: &impl AsRawHandle) -> u64 {
    handle.as_raw_handle().addr() as u64
}

/// Asserts that `one` is the other end of `other`, and that nobody else has it open.
fn assert_is_the_only_end(one: impl Into<WinStream>, other: &WinStream) {
    let (mut one, mut other) = (one.into(), other);
    one.write_all(b"the one").unwrap();
    other.read_exact(&mut [0; 7]).unwrap();
    drop(one);
    assert_is_closed(other);
}

/// Asserts that nobody has the other end open.
fn assert_is_closed(mut end: &WinStream) {
    end.set_read_timeout(Some(LIMIT / 2)).unwrap();
    assert_eq!(end.read(&mut [0]).unwrap(), 0);
}

/// A file that contains `text`, read from its start. It's gone when all its handles are closed.
fn temporary_file(name: &str, text: &str) -> File {
    let name = format!("winpipe-{name}-{}", std::process::id());
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(FILE_FLAG_DELETE_ON_CLOSE)
        .open(std::env::temp_dir().join(name))
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    file
}

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
        // Reads the offer, says so by connecting once more, and never takes it.
        "stall" => {
            stream.read_exact(&mut [0; MESSAGE]).unwrap();
            let _connection = WinStream::connect(path).unwrap();
            thread::park();
        }
        // Sends a file, stops waiting, and turns the stream into a handle. Other objects get the
        // number that was offered.
        "stop-waiting" => {
            let short = Some(Duration::from_millis(20));
            stream.set_read_timeout(short).unwrap();
            let file = temporary_file("late", "of the child");
            stream.send_handle(&file).unwrap_err();
            let _handle = OwnedHandle::from(stream);
            let _others: Vec<_> = (0..50).map(|_| WinStream::pair().unwrap()).collect();
            let _connection = WinStream::connect(path).unwrap();
            thread::park();
        }
        // Sends a file, and doesn't live to see it taken.
        "offer" => {
            let file = temporary_file("offer", "of the child");
            stream.send_handle(&file).unwrap();
        }
        // Gets an end of a pipe, and sends a file by it as one should. Meanwhile many of its numbers
        // mean something else to the other process.
        "pass-on" => {
            let end = WinStream::from(stream.recv_handle().unwrap());
            let file = temporary_file("pass-on", "of the child");
            for _ in 0..10 {
                let error = end.send_handle(&file).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
            }
            stream.write_all(b"x").unwrap();
        }
        // Gets an end of a pipe, and offers by it what isn't its own.
        "cheat" => {
            let mut end = WinStream::from(stream.recv_handle().unwrap());
            let mut theirs = [0; 12];
            stream.read_exact(&mut theirs).unwrap();
            let process = u32::from_le_bytes(theirs[..4].try_into().unwrap());
            let number = u64::from_le_bytes(theirs[4..].try_into().unwrap());
            let mut offer = |id, process, number| {
                end.write_all(&message(OFFERED, id, process, number))
                    .unwrap();
                assert_eq!(read_message(&end), (REFUSED, id));
                end.write_all(&message(REFUSED, id, 0, 0)).unwrap();
            };
            offer(1, process, number);
            offer(2, std::process::id(), number);
            offer(3, std::process::id() + 4, number);
            // The identifier of an offer that was made, but isn't any more.
            let (step, id) = read_message(&stream);
            assert_eq!(step, OFFERED);
            stream.write_all(&message(TAKEN, id, 0, 0)).unwrap();
            assert_eq!(read_message(&stream), (GIVEN, id));
            offer(id, process, number);
        }
        // Offers what is no handle of its own.
        "dead" => {
            for number in [0, u64::MAX, u64::MAX - 1, 1 << 40, 0x7FFF_FFF0] {
                let id = u128::from(number);
                let offer = message(OFFERED, id, std::process::id(), number);
                stream.write_all(&offer).unwrap();
                assert_eq!(read_message(&stream), (REFUSED, id));
                stream.write_all(&message(REFUSED, id, 0, 0)).unwrap();
            }
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

        let file = temporary_file("handle", "from another process");
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
    });
}

#[test]
fn handles_go_between_all_kinds_of_ends_of_one_process() {
    within(LIMIT, || {
        for (sender, receiver) in common::connections() {
            for (sender, receiver) in [(&sender, &receiver), (&receiver, &sender)] {
                let (one, other) = WinStream::pair().unwrap();
                let taken = thread::scope(|scope| {
                    let receiving = scope.spawn(|| receiver.recv_handle().unwrap());
                    sender.send_handle(&one).unwrap();
                    receiving.join().unwrap()
                });
                drop(one);
                assert_is_the_only_end(taken, &other);
            }
            // The streams go on with data.
            (&sender).write_all(b"data").unwrap();
            (&receiver).read_exact(&mut [0; 4]).unwrap();
        }
    });
}

/// Windows records that this process opened the end which the child has. So the child's numbers must not
/// be looked up here.
#[test]
fn a_handle_that_is_sent_on_an_end_of_ours_is_refused_and_not_taken_from_us() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        let mut child = spawn_child("pass-on", &path);
        let (mut stream, _) = listener.accept().unwrap();
        // These take the numbers that the child's handles have.
        let _ours: Vec<_> = (0..200).map(|_| WinStream::pair().unwrap()).collect();
        let (ours, theirs) = WinStream::pair().unwrap();
        stream.send_handle(&theirs).unwrap();
        drop(theirs);
        for _ in 0..10 {
            let error = ours.recv_handle().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        }
        stream.read_exact(&mut [0]).unwrap();
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn a_peer_that_lies_about_its_process_gets_nobody_elses_handle_taken() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        let mut child = spawn_child("cheat", &path);
        let (mut stream, _) = listener.accept().unwrap();
        let secret = temporary_file("secret", "of the parent");
        let (ours, theirs) = WinStream::pair().unwrap();
        stream.send_handle(&theirs).unwrap();
        drop(theirs);
        stream.write_all(&std::process::id().to_le_bytes()).unwrap();
        stream.write_all(&number(&secret).to_le_bytes()).unwrap();
        for kind in [
            // The child names this process,
            ErrorKind::InvalidData,
            // itself, which didn't open the end,
            ErrorKind::PermissionDenied,
            // and a third.
            ErrorKind::PermissionDenied,
        ] {
            let error = ours.recv_handle().unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
        }
        stream.send_handle(&secret).unwrap();
        let error = ours.recv_handle().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn an_offer_of_this_process_is_known_by_its_identifier_and_not_by_a_number() {
    within(LIMIT, || {
        let (sender, mut stranger) = connection();
        let (one, other) = WinStream::pair().unwrap();
        let (receiver, mut cheat) = connection();
        let secret = temporary_file("identifier", "secret");
        let this = std::process::id();
        let id = thread::scope(|scope| {
            let sending = scope.spawn(|| sender.send_handle(&one));
            let (step, id) = read_message(&stranger);
            assert_eq!(step, OFFERED);
            // The process that gets the offer repeats it on another stream, with another number. The
            // number doesn't count: the handle is the one that was offered.
            cheat
                .write_all(&message(OFFERED, id, this, number(&secret)))
                .unwrap();
            cheat.write_all(&message(GIVEN, id, 0, 0)).unwrap();
            let taken = receiver.recv_handle().unwrap();
            WinStream::from(taken).write_all(b"one").unwrap();
            (&other).read_exact(&mut [0; 3]).unwrap();
            assert_eq!(read_message(&cheat), (TAKEN, id));
            stranger.write_all(&message(REFUSED, id, 0, 0)).unwrap();
            assert_eq!(read_message(&stranger), (REFUSED, id));
            let error = sending.join().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
            id
        });
        // Now there is no such offer any more.
        cheat
            .write_all(&message(OFFERED, id, this, number(&secret)))
            .unwrap();
        cheat.write_all(&message(REFUSED, id, 0, 0)).unwrap();
        let error = receiver.recv_handle().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
        drop(one);
        assert_is_closed(&other);
    });
}

#[test]
fn a_receiver_that_dies_between_the_two_steps_leaves_the_handle_with_its_owner() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        let child = Mutex::new(spawn_child("stall", &path));
        let (stream, _) = listener.accept().unwrap();
        let (one, other) = WinStream::pair().unwrap();
        thread::scope(|scope| {
            let sending = scope.spawn(|| stream.send_handle(&one));
            listener.accept().unwrap();
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
        // No copy of the handle is left: the peer sees the end.
        drop(one);
        assert_is_closed(&other);
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
        let offer = message(OFFERED, 1, std::process::id(), number(&client));
        client.write_all(&offer).unwrap();
        drop(client);
        assert_eq!(
            server.recv_handle().unwrap_err().kind(),
            ErrorKind::BrokenPipe
        );
        // A process that has ended is none to take a handle from.
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        let mut child = spawn_child("offer", &path);
        let (stream, _) = listener.accept().unwrap();
        stream.peek(&mut [0]).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let error = stream.recv_handle().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{error}");
    });
}

#[test]
fn what_is_no_handle_of_the_senders_is_invalid_data() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        let mut child = spawn_child("dead", &path);
        let (stream, _) = listener.accept().unwrap();
        for _ in 0..5 {
            let error = stream.recv_handle().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
            // The operating system's code is there, too.
            assert!(error.to_string().contains("(os error 6)"), "{error}");
        }
        assert!(child.wait().unwrap().success());
        // Null isn't even offered.
        let (client, _server) = connection();
        // SAFETY: null is no handle, and isn't used as one.
        let null = unsafe { BorrowedHandle::borrow_raw(ptr::null_mut()) };
        let error = client.send_handle(&null).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn what_is_no_offer_and_no_answer_is_invalid_data_and_shuts_the_stream_down() {
    within(LIMIT, || {
        let cut_off = &message(OFFERED, 1, 1, 4)[..20];
        for (what, kind) in [
            (b"?".as_slice(), ErrorKind::InvalidData),
            (
                b"something else altogether, and long enough",
                ErrorKind::InvalidData,
            ),
            (&message(0, 1, 1, 4), ErrorKind::InvalidData),
            (&message(9, 1, 1, 4)[..8], ErrorKind::InvalidData),
            // Steps that have no place here.
            (&message(TAKEN, 1, 0, 0), ErrorKind::InvalidData),
            (&message(GIVEN, 1, 0, 0), ErrorKind::InvalidData),
            (cut_off, ErrorKind::InvalidData),
        ] {
            for receives in [true, false] {
                let (mut client, server) = connection();
                server
                    .set_read_timeout(Some(Duration::from_millis(20)))
                    .unwrap();
                client.write_all(what).unwrap();
                let error = match receives {
                    true => server.recv_handle().unwrap_err(),
                    false => server.send_handle(&client).unwrap_err(),
                };
                assert_eq!(error.kind(), kind, "{what:?}: {error}");
                assert_eq!((&server).read(&mut [0]).unwrap(), 0);
                let error = (&server).write(b"x").unwrap_err();
                assert_eq!(error.kind(), ErrorKind::BrokenPipe);
                // The peer sees the end, after what was sent before.
                client.read_to_end(&mut Vec::new()).unwrap();
            }
        }
        // Both send.
        let (client, server) = connection();
        thread::scope(|scope| {
            let sending = scope.spawn(|| client.send_handle(&server).unwrap_err());
            let error = server.send_handle(&client).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
            let error = sending.join().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
        });
    });
}

#[test]
fn an_offer_that_timed_out_is_withdrawn_and_a_later_one_arrives() {
    within(LIMIT, || {
        let (client, server) = connection();
        let short = Some(Duration::from_millis(20));
        client.set_read_timeout(short).unwrap();
        for _ in 0..3 {
            let (one, other) = WinStream::pair().unwrap();
            let error = client.send_handle(&one).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            // Nothing keeps it open.
            drop(one);
            assert_is_closed(&other);
        }
        // The late answers would be taken for data.
        let error = (&client).read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceBusy, "{error}");
        let error = client.peek(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceBusy, "{error}");
        // The receiver is late: there's nothing for it any more.
        server.set_read_timeout(short).unwrap();
        let error = server.recv_handle().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");

        client.set_read_timeout(None).unwrap();
        server.set_read_timeout(None).unwrap();
        let (one, other) = WinStream::pair().unwrap();
        let taken = thread::scope(|scope| {
            let receiving = scope.spawn(|| server.recv_handle().unwrap());
            client.send_handle(&one).unwrap();
            receiving.join().unwrap()
        });
        drop(one);
        assert_is_the_only_end(taken, &other);
        // And data.
        (&server).write_all(b"data").unwrap();
        (&client).read_exact(&mut [0; 4]).unwrap();
        (&client).write_all(b"data").unwrap();
        (&server).read_exact(&mut [0; 4]).unwrap();
    });
}

/// The number of a handle that is closed is soon another's.
#[test]
fn a_stream_that_becomes_a_handle_after_a_time_out_leaves_no_offer_to_mistake() {
    within(LIMIT, || {
        for is_closed in [true, false] {
            let (client, server) = connection();
            let short = Some(Duration::from_millis(20));
            client.set_read_timeout(short).unwrap();
            let (one, other) = WinStream::pair().unwrap();
            client.send_handle(&one).unwrap_err();
            let handle = OwnedHandle::from(client);
            let _strangers: Vec<_> = (0..50).map(|_| WinStream::pair().unwrap()).collect();
            let kind = match is_closed {
                true => {
                    drop(handle);
                    ErrorKind::BrokenPipe
                }
                false => {
                    server.set_read_timeout(short).unwrap();
                    ErrorKind::TimedOut
                }
            };
            let error = server.recv_handle().unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            drop(one);
            assert_is_closed(&other);
        }
        // And between two processes.
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        let mut child = spawn_child("stop-waiting", &path);
        let (stream, _) = listener.accept().unwrap();
        listener.accept().unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let error = stream.recv_handle().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        child.kill().unwrap();
        child.wait().unwrap();
    });
}

#[test]
fn a_refused_offer_leaves_no_handle_behind_and_the_stream_usable() {
    within(LIMIT, || {
        let (sender, mut receiver) = connection();
        for _ in 0..50 {
            let (one, other) = WinStream::pair().unwrap();
            thread::scope(|scope| {
                let sending = scope.spawn(|| sender.send_handle(&one).unwrap_err());
                let (step, id) = read_message(&receiver);
                assert_eq!(step, OFFERED);
                receiver.write_all(&message(REFUSED, id, 0, 0)).unwrap();
                assert_eq!(read_message(&receiver), (REFUSED, id));
                let error = sending.join().unwrap();
                assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
            });
            drop(one);
            assert_is_closed(&other);
            receiver.write_all(b"data").unwrap();
            (&sender).read_exact(&mut [0; 4]).unwrap();
        }
    });
}

#[test]
fn an_offer_that_cant_be_sent_leaves_no_handle_behind_and_the_stream_usable() {
    within(LIMIT, || {
        let (sender, mut receiver) = connection();
        sender.set_nonblocking(true).unwrap();
        let mut sent = 0;
        for len in [4096, 1] {
            while let Ok(count) = (&sender).write(&[0; 4096][..len]) {
                sent += count;
            }
        }
        let (one, other) = WinStream::pair().unwrap();
        for _ in 0..50 {
            let error = sender.send_handle(&one).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
        }
        drop(one);
        assert_is_closed(&other);
        receiver.read_exact(&mut vec![0; sent]).unwrap();
        receiver.write_all(b"data").unwrap();
        (&sender).read_exact(&mut [0; 4]).unwrap();
        (&sender).write_all(b"data").unwrap();
        receiver.read_exact(&mut [0; 4]).unwrap();
    });
}

#[test]
fn answers_to_offers_that_were_never_made_end_the_wait_for_ones_own() {
    within(LIMIT, || {
        let (sender, mut receiver) = connection();
        let (one, other) = WinStream::pair().unwrap();
        thread::scope(|scope| {
            let sending = scope.spawn(|| sender.send_handle(&one).unwrap_err());
            let (_, id) = read_message(&receiver);
            receiver.write_all(&message(TAKEN, id + 1, 0, 0)).unwrap();
            let error = sending.join().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
        });
        drop(one);
        assert_is_closed(&other);
    });
}

#[test]
fn late_answers_dont_make_a_sender_wait_longer() {
    within(LIMIT, || {
        let (sender, mut receiver) = connection();
        let timeout = Duration::from_millis(300);
        sender
            .set_read_timeout(Some(Duration::from_millis(1)))
            .unwrap();
        let mut late = Vec::new();
        for _ in 0..4 {
            let error = sender.send_handle(&sender).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            let (step, id) = read_message(&receiver);
            assert_eq!(step, OFFERED);
            assert_eq!(read_message(&receiver), (WITHDRAWN, id));
            late.push(id);
        }
        sender.set_read_timeout(Some(timeout)).unwrap();
        thread::scope(|scope| {
            let sending = scope.spawn(|| sender.send_handle(&sender).unwrap_err());
            let (_, id) = read_message(&receiver);
            // One at a time, each within the time-out, all together not.
            for id in late.into_iter().chain([id]) {
                thread::sleep(timeout * 2 / 3);
                receiver.write_all(&message(TAKEN, id, 0, 0)).unwrap();
            }
            let error = sending.join().unwrap();
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        });
    });
}

#[test]
fn a_receiver_that_times_out_in_the_middle_goes_on_when_called_again() {
    within(LIMIT, || {
        let (mut sender, receiver) = connection();
        let (offerer, mut offered) = connection();
        let (one, other) = WinStream::pair().unwrap();
        receiver.set_nonblocking(true).unwrap();
        let again = || {
            let error = receiver.recv_handle().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
        };
        again();
        thread::scope(|scope| {
            let sending = scope.spawn(|| offerer.send_handle(&one).unwrap());
            let (_, id) = read_message(&offered);
            let offer = message(OFFERED, id, std::process::id(), 0);
            sender.write_all(&offer).unwrap();
            again();
            // What comes now would be taken for data.
            let error = (&receiver).read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ResourceBusy, "{error}");
            again();
            assert_eq!(read_message(&sender), (TAKEN, id));
            offered.write_all(&message(TAKEN, id, 0, 0)).unwrap();
            assert_eq!(read_message(&offered), (GIVEN, id));
            sender.write_all(&message(GIVEN, id, 0, 0)).unwrap();
            sending.join().unwrap();
        });
        let taken = receiver.recv_handle().unwrap();
        drop(one);
        assert_is_the_only_end(taken, &other);
        sender.write_all(b"data").unwrap();
        (&receiver).read_exact(&mut [0; 4]).unwrap();
    });
}

#[test]
fn a_handle_goes_through_a_pipe_smaller_than_its_messages_or_the_stream_ends() {
    within(LIMIT, || {
        let path = fresh_path();
        let mut options = ListenOptions::new();
        options.inbound_buffer(8).outbound_buffer(8);
        let listener = options.bind(&path).unwrap();
        let connection = || {
            let client = WinStream::connect(&path).unwrap();
            (client, listener.accept().unwrap().0)
        };
        let (client, server) = connection();
        let (one, other) = WinStream::pair().unwrap();
        let taken = thread::scope(|scope| {
            let receiving = scope.spawn(|| server.recv_handle().unwrap());
            client.send_handle(&one).unwrap();
            receiving.join().unwrap()
        });
        drop(one);
        assert_is_the_only_end(taken, &other);

        // Nobody reads, so only a part of the offer goes out.
        let (client, server) = connection();
        client
            .set_write_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let error = client.send_handle(&other).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{error}");
        let error = (&client).write(b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{error}");
        let error = server.recv_handle().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{error}");
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
