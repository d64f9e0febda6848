//! The system calls, and nothing else.
//!
//! The rules of this layer:
//! - It holds the crate's only `unsafe` code and its only use of `windows_sys`. It imports nothing
//!   from the rest of the crate.
//! - One function makes one system call, and has its name in snake case. Its doc says which call it
//!   is.
//! - Each `unsafe` block has a SAFETY comment that states the *fact* relied on.
//! - The operating system's error is read on the next line, and translated once, by `error`.
//! - Every call leaves one `log::trace!` record with its arguments and result. `record` decides
//!   when it's written.
//! - No operation outlives its call: `operation` returns only when the kernel is done with the
//!   memory it was given.

#[cfg(windows)]
pub(crate) mod descriptor;
#[cfg(windows)]
pub(crate) mod error;
#[cfg(all(windows, test))]
pub(crate) mod fault;
#[cfg(windows)]
pub(crate) mod operation;
#[cfg(windows)]
pub(crate) mod pipe;
#[cfg(windows)]
pub(crate) mod process;
#[cfg(windows)]
pub(crate) mod record;
#[cfg(windows)]
pub(crate) mod text;
#[cfg(windows)]
pub(crate) mod token;
#[cfg(unix)]
pub(crate) mod unix;
