//! What is behind the facade: sockets on Unix; pipes on Windows, and on the simulated kernel. Both
//! have the same items.

#[cfg(any(windows, winpipe_sim))]
pub(crate) use crate::ipc::pipes::*;
#[cfg(all(unix, not(winpipe_sim)))]
pub(crate) use crate::ipc::sockets::*;
