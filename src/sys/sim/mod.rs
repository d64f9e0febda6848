//! A simulated kernel: a named pipe file system in safe Rust, with the names and signatures of the
//! real calls, on any platform. `--cfg winpipe_sim` puts it in their place.
//!
//! It's a model of Windows, not of Wine. It's based only on the ledger of facts about Windows named
//! pipes (`windows-facts.md`): each rule has the number of its fact, as in [8.3]. Where the ledger
//! says that versions of Windows differ, or that a fact isn't known, the rule is the one assumed
//! for Windows 10.
//!
//! There is one process, one user and no access check, so the identities in `token` are constants.
//! There are no handles except those of pipes, and no other computers.

#![deny(unsafe_code)]

pub(crate) mod descriptor;
mod kernel;
pub(crate) mod operation;
pub(crate) mod pipe;
pub(crate) mod process;
pub(crate) mod token;
pub(super) mod win32;

/// Takes what is under a lock even if a panic has poisoned it, as `crate::lock` does. This layer
/// imports nothing from the rest of the crate.
fn unpoisoned<T>(locked: std::sync::LockResult<T>) -> T {
    locked.unwrap_or_else(|poisoned| poisoned.into_inner())
}
