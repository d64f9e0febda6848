//! What the tests for Windows share. What they share with the portable ones is in `tests/common`.

#[cfg(feature = "log")]
pub mod allocator;
#[cfg_attr(not(feature = "log"), allow(dead_code))]
pub mod handles;
#[cfg(feature = "log")]
pub mod logger;
#[path = "../../common/mod.rs"]
mod portable;
#[cfg_attr(not(feature = "log"), allow(dead_code))]
pub mod process;
pub mod raw;
pub mod token;

use std::io::{self, ErrorKind};
use std::time::Duration;

use winpipe::{ListenOptions, WinListener, WinStream};

pub use portable::*;

/// How long a thing that's said to happen at once may take on a busy machine.
pub const AT_ONCE: Duration = Duration::from_secs(5);

/// How long to let another thread get to where it waits. Where it's late the test tells less, and
/// still passes.
pub const A_WHILE: Duration = Duration::from_millis(50);

/// A listener by these options, a client and the stream accepted for it.
pub fn connect_by(options: &ListenOptions) -> (WinListener, WinStream, WinStream) {
    let path = fresh_path();
    let listener = options.bind(&path).unwrap();
    let client = WinStream::connect(&path).unwrap();
    let (server, _) = listener.accept().unwrap();
    (listener, client, server)
}

/// Asserts that a call has failed with an error of this kind, and returns the error.
#[track_caller]
pub fn assert_fails<T>(result: io::Result<T>, kind: ErrorKind) -> io::Error {
    let error = result.err().expect("it hasn't failed");
    assert_eq!(error.kind(), kind, "{error}");
    error
}
