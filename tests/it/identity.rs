//! Who the server is, who the peer is, and acting as the client.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::thread;

use windows_sys::Win32::Security::{SecurityIdentification, SecurityImpersonation};
use winpipe::{
    Access, ConnectOptions, Impersonation, Integrity, ListenOptions, Server, Sid, WinListener,
    WinStream, ipc,
};

use crate::common::process::{be_child, ready, spawn_child};
use crate::common::token::{acting_with, impersonation_level, is_administrator, low_token};
use crate::common::{LIMIT, connection, fresh_path, skipped, within};

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
        skipped(
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
        let error = connect(Server::CurrentUser).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert!(error.to_string().contains("S-1-5-32-544"), "{error}");
        // As root's sockets on Unix.
        ipc::connect(&path).unwrap();
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

#[test]
#[cfg_attr(wine, ignore = "Wine keeps no labels")]
fn this_users_server_is_not_what_a_process_of_low_integrity_may_have_made() {
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
#[cfg_attr(wine, ignore = "Wine always gives the server's own token")]
fn a_server_that_is_expected_knows_nothing_of_its_client_before_it_has_read() {
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
#[cfg_attr(wine, ignore = "Wine impersonates before a read")]
fn peer_cred_is_a_hint_before_anything_was_read() {
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
fn child_process() {
    be_child(|task, path| {
        assert_eq!(task, "connect");
        let mut stream = WinStream::connect(path).unwrap();
        ready();
        stream.write_all(b"x").unwrap();
        thread::park();
    });
}

#[test]
fn peer_cred_knows_another_process() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        let mut child = spawn_child("identity::connect", &path);
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
#[cfg_attr(wine, ignore = "Wine always gives the server's own token")]
fn a_server_gets_the_level_that_the_client_allows() {
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
