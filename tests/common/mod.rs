//! What all tests share, and the only `cfg` of the portable ones.

#![allow(dead_code, reason = "each test program uses its part")]

use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;
use std::{panic, process, thread};

use winpipe::ipc::{Listener, Stream};

/// How long anything may take before it counts as hung: much longer than it takes.
pub const LIMIT: Duration = Duration::from_secs(60);

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
    let path = fresh_path();
    let listener = Listener::bind(&path).unwrap();
    let client = Stream::connect(&path).unwrap();
    let (server, _) = listener.accept().unwrap();
    clean_up(&path);
    (client, server)
}

/// Every way in which two ends can be connected: both ways round, and a pair.
pub fn connections() -> Vec<(Stream, Stream)> {
    let (client, server) = connection();
    let (other_client, other_server) = connection();
    vec![
        (client, server),
        (other_server, other_client),
        Stream::pair().unwrap(),
    ]
}

/// The byte at a place of a long test text: one that isn't the same anywhere near.
pub fn byte_at(place: usize) -> u8 {
    (place.wrapping_mul(0x9E37_79B9) >> 13) as u8
}

/// Part of the long test text.
pub fn text(place: usize, len: usize) -> Vec<u8> {
    (place..place + len).map(byte_at).collect()
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

/// Says, past the capture of output, that a test can't tell anything here.
pub fn skipped(test: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
}

/// The Wine that this runs under, if any: its version, such as `8.0`.
#[cfg(windows)]
pub fn wine() -> Option<String> {
    use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleA, GetProcAddress};

    // SAFETY: both names end with a NUL, and ntdll is in every process for as long as it runs.
    let found = unsafe {
        GetProcAddress(
            GetModuleHandleA(c"ntdll.dll".as_ptr().cast()),
            c"wine_get_version".as_ptr().cast(),
        )
    }?;
    // SAFETY: Wine exports it as a function without arguments that returns a constant string.
    unsafe {
        let version: unsafe extern "C" fn() -> *const std::ffi::c_char = std::mem::transmute(found);
        Some(
            std::ffi::CStr::from_ptr(version())
                .to_string_lossy()
                .into_owned(),
        )
    }
}

/// Whether a test can't tell anything here because Wine hides what it's about. Says so, visibly.
#[cfg(windows)]
pub fn skips_under_wine(test: &str, hides: impl Fn(&str) -> bool, reason: &str) -> bool {
    let Some(version) = wine().filter(|version| hides(version)) else {
        return false;
    };
    skipped(test, &format!("Wine {version}: {reason}"));
    true
}

/// Starts the test `child_process` of this program as a process of its own, and returns when it has said that it's ready.
#[cfg(windows)]
pub fn spawn_child(task: &str, path: &std::path::Path) -> process::Child {
    use std::io::{BufRead, BufReader};

    let mut child = process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_process", "--nocapture"])
        .env(
            "WINPIPE_TEST_CHILD",
            format!("{task} {}", path.to_str().unwrap()),
        )
        .stdout(process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let ready = lines
        .map_while(Result::ok)
        .any(|line| line.contains("ready"));
    assert!(ready, "the child ended early");
    child
}

/// How many handles this process has.
#[cfg(windows)]
pub fn handles() -> usize {
    use windows_sys::Wdk::System::SystemInformation::NtQuerySystemInformation;
    use windows_sys::Win32::Foundation::STATUS_INFO_LENGTH_MISMATCH;

    /// `SystemExtendedHandleInformation`: `GetProcessHandleCount` would do, but Wine 8 lacks it.
    const SYSTEM_EXTENDED_HANDLES: i32 = 64;

    let mut list = vec![0_usize; 1 << 16];
    loop {
        let mut len = 0;
        // SAFETY: `list` has room for as many bytes as is said, and is aligned as the entries are.
        let status = unsafe {
            let room = size_of_val(&list[..]) as u32;
            NtQuerySystemInformation(
                SYSTEM_EXTENDED_HANDLES,
                list.as_mut_ptr().cast(),
                room,
                &mut len,
            )
        };
        match status {
            0 => break,
            STATUS_INFO_LENGTH_MISMATCH => list.resize(list.len() * 2, 0),
            status => panic!("{status:#x}"),
        }
    }
    // The number of entries, a reserved word, then entries: an object, a process, a handle, …
    const WORDS: usize = (3 * size_of::<usize>() + 16) / size_of::<usize>();
    let this = std::process::id() as usize;
    list[2..]
        .chunks(WORDS)
        .take(list[0])
        .filter(|entry| entry[1] == this)
        .count()
}
