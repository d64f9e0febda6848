//! placeholder
pub use addr::WinPipeSocketAddr;
#[cfg(windows)]
pub use listener::{WinIncoming, WinListener};
#[cfg(windows)]
pub use stream::WinStream;

mod addr;
pub mod ipc;
#[cfg(windows)]
mod listener;
#[cfg(windows)]
mod stream;
mod sys;
