//! A simulated kernel: a named pipe file system in safe Rust, with the names and signatures of the
//! real calls, on any platform. `--cfg winpipe_sim` puts it in their place.
//!
//! It's a model of Windows, not of Wine, and is written from the ledger of facts about Windows' named
//! pipes (`windows-facts.md`) alone: each rule has its fact's number, as in [8.3]. Where the ledger says that
//! Windows' versions differ, or that it isn't known, the rule is the one believed of Windows 10.
//!
//! There is one process, one user, and no access check, so the identities of `token` are constants.
//! Handles of other kinds than pipes don't exist, nor do other computers.

#![deny(unsafe_code)]

pub(crate) mod descriptor;
mod kernel;
pub(crate) mod operation;
pub(crate) mod pipe;
pub(crate) mod process;
pub(crate) mod token;
pub(super) mod win32;
