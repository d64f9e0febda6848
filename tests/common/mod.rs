//! What all tests share, and the only `cfg` of the portable ones.

#![allow(dead_code, reason = "each test program uses its part")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, mpsc};
use std::time::Duration;
use std::{panic, process, thread};

use winpipe::ipc::unix::{UnixListener as Listener, UnixStream as Stream};

/// How long anything may take before it counts as hung: much longer than it takes. Miri is slow.
pub const LIMIT: Duration = Duration::from_secs(if cfg!(miri) { 600 } else { 60 });

/// A number of rounds, bytes or clients; a part of it under Miri, which is a thousand times slower.
pub const fn scaled(count: usize) -> usize {
    if cfg!(miri) {
        count.div_ceil(50)
    } else {
        count
    }
}

/// A path that nobody else uses.
pub fn fresh_path() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let unique = format!(
        "winpipe-{}-{}",
        process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    #[cfg(any(windows, winpipe_sim))]
    return PathBuf::from(format!(r"\\.\pipe\{unique}"));
    #[cfg(all(unix, not(winpipe_sim)))]
    return std::env::temp_dir().join(unique);
}

/// Does away with what a listener leaves behind: on Unix, a file.
pub fn clean_up(path: &PathBuf) {
    #[cfg(all(unix, not(winpipe_sim)))]
    let _ = std::fs::remove_file(path);
    #[cfg(any(windows, winpipe_sim))]
    let _ = path;
}

/// Runs `test`, and fails if it isn't over in time.
pub fn within<T: Send + 'static>(limit: Duration, test: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, over) = mpsc::channel::<()>();
    let runner = thread::spawn(move || {
        // Dropped at the end, by a panic too.
        let _done = done;
        test()
    });
    if over.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("still running after {limit:?}");
    }
    runner
        .join()
        .unwrap_or_else(|cause| panic::resume_unwind(cause))
}

/// Whether this is where Windows departs from Unix, for the reason given, which
/// ARCHITECTURE.md lists.
pub fn departs(_reason: &str) -> bool {
    cfg!(any(windows, winpipe_sim))
}

/// A client and the stream that was accepted for it.
pub fn connection() -> (Stream, Stream) {
    let [connection] = connections_of_one_listener();
    connection
}

fn connections_of_one_listener<const COUNT: usize>() -> [(Stream, Stream); COUNT] {
    let path = fresh_path();
    let listener = Listener::bind(&path).unwrap();
    let connections = [(); COUNT].map(|()| {
        let client = Stream::connect(&path).unwrap();
        (client, listener.accept().unwrap().0)
    });
    clean_up(&path);
    connections
}

/// Every way in which two ends can be connected: both ways round, and a pair.
pub fn connections() -> Vec<(Stream, Stream)> {
    let [one, (client, server)] = connections_of_one_listener();
    vec![one, (server, client), Stream::pair().unwrap()]
}

/// Part of a long test text, in which no byte is the same as those near it.
pub fn text(place: usize, len: usize) -> Vec<u8> {
    /// After so many bytes it begins again.
    const PERIOD: usize = if cfg!(miri) { 1 << 12 } else { 1 << 21 };
    static TEXT: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let byte_at = |place: usize| (place.wrapping_mul(0x9E37_79B9) >> 13) as u8;
        (0..PERIOD).map(byte_at).collect()
    });

    let mut part = Vec::with_capacity(len);
    while part.len() < len {
        let rest = &TEXT[(place + part.len()) % PERIOD..];
        part.extend_from_slice(&rest[..rest.len().min(len - part.len())]);
    }
    part
}

/// Random numbers, the same ones each time.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    /// Small and large numbers alike, from 1 to 2 to the power of `bits`.
    pub fn size(&mut self, bits: u64) -> usize {
        let bits = self.below(bits + 1);
        1 + self.below(1 << bits) as usize
    }
}

/// The program of an example. Cargo puts it beside the folder of this program; if only one test is
/// built, it doesn't build the examples.
pub fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let folder = tests.parent().unwrap().with_file_name("examples");
    let program = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(
        program.exists(),
        "run `cargo build --examples` first: there is no {program:?}"
    );
    program
}
