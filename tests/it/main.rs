//! The tests for Windows: one program, and one module for each subject. What std promises as well is
//! in `tests/conformance.rs`.

#![cfg(windows)]

mod common;

mod accepting;
mod access;
mod adopting;
#[cfg(feature = "tokio")]
mod asynchronous;
mod connecting;
#[cfg(feature = "log")]
mod cost;
mod ending;
mod examples_of_0_1;
mod foreign_peers;
mod handing_over;
mod identity;
mod kernel;
#[cfg(feature = "log")]
mod logging;
mod names;
mod options;
mod reading_and_writing;
mod timeouts;
mod traps;
