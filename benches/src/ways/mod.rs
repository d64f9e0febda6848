//! The ways that are compared.

pub mod blocking;
#[cfg(windows)]
pub mod raw;
#[cfg(windows)]
pub mod tokio;
