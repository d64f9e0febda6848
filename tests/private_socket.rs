//! That a socket of `ipc::bind` is this user's alone from its first moment on. On Linux, where a thread
//! can act as another user.

#![cfg(all(target_os = "linux", not(winpipe_sim)))]

mod common;

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{env, fs, process, thread};

use common::{LIMIT, within};
use rustix::process::{Uid, umask};
use rustix::thread::set_thread_res_uid;
use winpipe::ipc;

#[test]
#[ignore = "needs root, who can act as another user; `cargo xtask test` runs it for root"]
fn another_user_can_never_connect_whatever_the_umask_is() {
    const ROUNDS: usize = 5000;

    within(LIMIT, || {
        // Every user can look for a socket there, and the socket's file begins with every right.
        let folder = env::temp_dir().join(format!("winpipe-private-{}", process::id()));
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        umask(rustix::fs::Mode::empty());
        let path = folder.join("x.sock");

        let is_over = AtomicBool::new(false);
        let refused = thread::scope(|scope| {
            let stranger = scope.spawn(|| {
                let nobody = Uid::from_raw(65_534);
                set_thread_res_uid(nobody, nobody, nobody).unwrap();
                let mut refused = 0;
                while !is_over.load(Ordering::Relaxed) {
                    match UnixStream::connect(&path).map_err(|error| error.kind()) {
                        Err(ErrorKind::NotFound) => {}
                        // It doesn't listen yet.
                        Err(ErrorKind::ConnectionRefused) => {}
                        Err(ErrorKind::PermissionDenied) => refused += 1,
                        connected => panic!("another user's connect: {connected:?}"),
                    }
                }
                refused
            });
            for _ in 0..ROUNDS {
                if stranger.is_finished() {
                    break;
                }
                let listener = ipc::bind(&path).unwrap();
                // And this user can.
                ipc::connect(&path).unwrap();
                drop(listener);
                let _ = fs::remove_file(&path);
            }
            is_over.store(true, Ordering::Relaxed);
            stranger.join().unwrap()
        });
        fs::remove_dir(&folder).unwrap();
        assert!(refused > 0, "the other user never came");
    });
}
