//! How many handles a process has: for the tests and for `benches/`.

use windows_sys::Wdk::System::SystemInformation::NtQuerySystemInformation;
use windows_sys::Win32::Foundation::STATUS_INFO_LENGTH_MISMATCH;

/// How many handles this process has.
pub fn handles() -> usize {
    /// `SystemExtendedHandleInformation`: `GetProcessHandleCount` would do, but Wine 8 lacks it.
    const EVERY_HANDLE: i32 = 64;

    let mut list = vec![0_usize; 1 << 16];
    loop {
        let (at, room, mut len) = (list.as_mut_ptr().cast(), size_of_val(&list[..]), 0);
        // SAFETY: `list` has room for as many bytes as is said, and is aligned as the entries are.
        match unsafe { NtQuerySystemInformation(EVERY_HANDLE, at, room as u32, &mut len) } {
            0 => break,
            STATUS_INFO_LENGTH_MISMATCH => list.resize(list.len() * 2, 0),
            status => panic!("{status:#x}"),
        }
    }
    // The number of entries, a reserved word, then entries: an object, a process, a handle, …
    const WORDS: usize = (3 * size_of::<usize>() + 16) / size_of::<usize>();
    let this = std::process::id() as usize;
    let entries = list[2..].chunks(WORDS).take(list[0]);
    entries.filter(|entry| entry[1] == this).count()
}
