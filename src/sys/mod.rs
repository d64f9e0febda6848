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
