//! What a name may be, and whose it is.

use std::ffi::OsString;
use std::io::{ErrorKind, Read, Write};
use std::os::windows::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::thread;

use windows_sys::Win32::Storage::FileSystem::FILE_FLAG_FIRST_PIPE_INSTANCE;
use winpipe::{ListenOptions, WinListener, WinPipeSocketAddr, WinStream};

use crate::common::raw::{BYTE, MESSAGE, foreign_client, foreign_instance};
use crate::common::token::{acting_with, name_device, token_of_another_logon};
use crate::common::{A_WHILE, LIMIT, fresh_path, within};

#[test]
fn every_spelling_of_a_path_leads_to_the_same_pipe() {
    within(LIMIT, || {
        let path = fresh_path();
        let name = path
            .to_str()
            .unwrap()
            .strip_prefix(r"\\.\pipe\")
            .unwrap()
            .to_owned();
        for bound in [format!(r"\\.\pipe\{name}"), format!("//./pipe/{name}")] {
            let listener = WinListener::bind(&bound).unwrap();
            assert_eq!(
                listener.local_addr().unwrap().as_pathname(),
                Some(Path::new(&bound))
            );
            for spelling in [
                format!(r"\\.\pipe\{name}"),
                format!("//./pipe/{name}"),
                format!(r"\\?\pipe\{name}"),
                format!(r"\\.\PIPE\{}", name.to_uppercase()),
            ] {
                let client = WinStream::connect(&spelling).unwrap();
                let peer = client.peer_addr().unwrap();
                assert_eq!(peer.as_pathname(), Some(Path::new(&spelling)));
                listener.accept().unwrap();
            }
        }
    });
}

#[test]
fn a_busy_pipe_is_waited_for_by_every_spelling_of_its_name() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::options().backlog(1).bind(&path).unwrap();
        for more in [".", " ", ". ..", ""] {
            let spelling = PathBuf::from(format!("{}{more}", path.to_str().unwrap()));
            let _only = WinStream::connect(&spelling).unwrap();
            thread::scope(|scope| {
                let waiting = scope.spawn(|| WinStream::connect_with_timeout(&spelling, LIMIT));
                thread::sleep(A_WHILE);
                assert!(!waiting.is_finished());
                listener.accept().unwrap();
                waiting.join().unwrap().unwrap();
            });
            listener.accept().unwrap();
        }
    });
}

#[test]
fn names_of_any_characters_work_with_foreign_programs_too() {
    within(LIMIT, || {
        let path = fresh_path();
        for more in [
            r"\inner\x",
            "-zürich-管道-🦀",
            "-<>*?|\"",
            " with spaces",
            "-a.b..c",
            "-dot.",
        ] {
            let path = PathBuf::from(format!("{}{more}", path.to_str().unwrap()));
            let listener = WinListener::bind(&path).unwrap();
            WinStream::connect(&path).unwrap().write_all(b"x").unwrap();
            listener.accept().unwrap().0.read_exact(&mut [0]).unwrap();
            drop(foreign_client(&path));
            listener.accept().unwrap();
        }
        let longest = PathBuf::from(format!("{:x<256}", path.to_str().unwrap()));
        let _listener = WinListener::bind(&longest).unwrap();
        WinStream::connect(&longest).unwrap();
    });
}

#[test]
fn a_path_that_names_no_pipe_is_invalid_input() {
    let surrogate: Vec<u16> = r"\\.\pipe\".encode_utf16().chain([0xd800]).collect();
    for path in [
        OsString::from(""),
        OsString::from("name"),
        OsString::from(r"..\pipe\name"),
        OsString::from(r"C:\pipe\name"),
        OsString::from(r"\\.\pipe\"),
        OsString::from("\\\\.\\pipe\\nul\0"),
        OsString::from(r"\\.\pipe\..\C:\Windows\win.ini"),
        OsString::from(format!(r"\\.\pipe\{:x<248}", "")),
        OsString::from_wide(&surrogate),
    ] {
        for error in [
            WinPipeSocketAddr::from_pathname(&path).unwrap_err(),
            WinStream::connect(&path).unwrap_err(),
            WinStream::connect_with_timeout(&path, LIMIT).unwrap_err(),
            WinListener::bind(&path).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{path:?}: {error}");
        }
    }
}

#[test]
fn a_host_is_connected_to_or_an_error_and_never_bound() {
    // Asking the network for a host that isn't there takes Windows a while.
    within(LIMIT * 2, || {
        for host in ["winpipe-no-such-host.invalid", "kein-wirt-größe"] {
            let path = format!(r"\\{host}\pipe\winpipe-test");
            let error = WinStream::connect(&path).unwrap_err();
            assert_ne!(error.kind(), ErrorKind::InvalidInput, "{error}");
            let error = WinListener::bind(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            assert!(error.to_string().contains(host), "{error}");
        }
    });
}

#[test]
fn an_unnamed_address_leads_nowhere() {
    let (one, _other) = WinStream::pair().unwrap();
    let unnamed = one.local_addr().unwrap();
    for error in [
        WinStream::connect_addr(&unnamed).unwrap_err(),
        WinListener::bind_addr(&unnamed).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
}

#[test]
#[cfg_attr(wine = "8", ignore = "Wine 8 ignores FILE_CREATE for pipes")]
fn a_second_bind_is_addr_in_use() {
    within(LIMIT, || {
        let path = fresh_path();
        let listener = WinListener::bind(&path).unwrap();
        let error = WinListener::bind(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}");
        // Nor may a foreign pipe be there, with one instance or several.
        for limit in [1, 255] {
            let path = fresh_path();
            let _foreign = foreign_instance(&path, 0, BYTE, limit).unwrap();
            let error = WinListener::bind(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}");
        }
        // The name is in use while an accepted stream lives.
        let client = WinStream::connect(&path).unwrap();
        let server = listener.accept().unwrap();
        drop(listener);
        assert_eq!(
            WinListener::bind(&path).unwrap_err().kind(),
            ErrorKind::AddrInUse
        );
        drop(server);
        WinListener::bind(&path).unwrap();
        drop(client);
    });
}

#[test]
#[cfg_attr(wine, ignore = "Wine ignores FILE_FLAG_FIRST_PIPE_INSTANCE")]
fn no_other_process_can_be_the_first_instance_of_our_pipe() {
    let path = fresh_path();
    let _listener = WinListener::bind(&path).unwrap();
    let error = foreign_instance(&path, FILE_FLAG_FIRST_PIPE_INSTANCE, BYTE, 255).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(5));
}

#[test]
#[cfg_attr(wine, ignore = "Wine has the same device names for everybody")]
fn a_client_that_the_thread_impersonates_cannot_redirect_a_name() {
    within(LIMIT, || {
        let client = token_of_another_logon();
        let path = fresh_path();
        let (listener, mut one, mut other) = acting_with(&client, || {
            // For this client there are no pipes where the process has them.
            let _named = name_device("pipe", r"\Device\winpipe-nothing");
            foreign_instance(&path, 0, MESSAGE, 255).unwrap_err();
            let listener = ListenOptions::new().backlog(2).bind(&path).unwrap();
            let (one, other) = WinStream::pair().unwrap();
            (listener, one, other)
        });
        WinStream::connect(&path).unwrap();
        listener.accept().unwrap();
        one.write_all(b"x").unwrap();
        other.read_exact(&mut [0]).unwrap();
    });
}

#[test]
fn a_dropped_listener_frees_its_name() {
    within(LIMIT, || {
        let path = fresh_path();
        for _ in 0..20 {
            let listener = WinListener::bind(&path).unwrap();
            let clone = listener.try_clone().unwrap();
            drop(listener);
            WinStream::connect(&path).unwrap();
            clone.accept().unwrap();
            drop(clone);
            assert_eq!(
                WinStream::connect(&path).unwrap_err().kind(),
                ErrorKind::NotFound
            );
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
#[cfg_attr(wine, ignore = "Wine lists no pipes")]
fn a_pair_has_no_name() {
    within(LIMIT, || {
        let before = winpipe::pipes().unwrap();
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
#[cfg_attr(wine, ignore = "Wine lists no pipes")]
fn pipes_lists_ours() {
    let path = fresh_path();
    let _listener = WinListener::bind(&path).unwrap();
    let ours = path.file_name().unwrap();
    assert!(winpipe::pipes().unwrap().any(|name| name.unwrap() == ours));
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
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}"),
    }
}
