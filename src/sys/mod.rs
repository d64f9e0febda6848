//! The system's calls, and nothing else.
//!
//! The rules of this layer:
//! - It holds the crate's only `unsafe` code and its only use of `windows_sys`. It imports nothing
//!   from the rest of the crate.
//! - One function, one system call, named as the call is in snake case; its doc says which.
//! - Each `unsafe` block has a SAFETY comment with the *fact* relied on.
//! - The operating system's error is taken on the next line and translated by `error`, once.
//! - Every call leaves one `log::trace!` record with its arguments and result. `record` says when it's
//!   written.
//! - No operation outlives its call: `operation` returns only when the kernel is done with the
//!   memory it was given.

#[cfg(windows)]
pub(crate) mod error;
#[cfg(all(windows, test))]
pub(crate) mod fault;
#[cfg(windows)]
pub(crate) mod operation;
#[cfg(windows)]
pub(crate) mod pipe;
#[cfg(windows)]
pub(crate) mod record;
#[cfg(windows)]
pub(crate) mod security;
#[cfg(unix)]
pub(crate) mod unix;

/// Prints a text as the wide calls take it, without memory of its own.
#[cfg(all(windows, feature = "log"))]
struct Wide<'a>(&'a [u16]);

#[cfg(all(windows, feature = "log"))]
impl std::fmt::Display for Wide<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use std::fmt::Write;
        let units = self.0.iter().copied().take_while(|&unit| unit != 0);
        char::decode_utf16(units)
            .try_for_each(|char| f.write_char(char.unwrap_or(char::REPLACEMENT_CHARACTER)))
    }
}
