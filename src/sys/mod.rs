//! The system calls, and nothing else.
//!
//! # The rules of this layer
//! - It holds the crate's only `unsafe` code and its only use of `windows_sys` and `libc`. It imports
//!   nothing from the rest of the crate.
//! - One function makes one system call. It has the call's name in snake case, or the name of what is
//!   asked for, and its doc says which call it is.
//! - Each `unsafe` block has a SAFETY comment that states the *fact* relied on.
//! - The operating system's error is read on the next line, and translated once, by `error`.
//! - Every call leaves one `log::trace!` record with its arguments and result. `record` decides
//!   when it's written.
//! - No operation outlives its call: `operation` returns only when the kernel is done with the
//!   memory it was given. What does outlive its call owns all that it touches: `port`.
//!
//! # What it offers
//! The layer is a seam: what it offers names nothing of `windows_sys`, so another kernel can answer.
//! With `--cfg winpipe_sim` the one in `sim` does, on any platform.
//!
//! | Module | Types | Calls |
//! |---|---|---|
//! | `descriptor` | `Descriptor` | `Descriptor::from_sddl` |
//! | `error` | `Code`, `Doing` | the error that the caller sees: `explain`, `refused`, … |
//! | `operation` | `Operation`, `Event`, `Attend`, `Transferred`, `Waited` | `is_pending`, `is_complete`; `set`, `reset`, `wait` |
//! | `pipe` | `Pipe`, `Device`, `Instance`, `LocalInformation`, `HandleState`, `Quality` | make, open, duplicate, connect, read, write, peek, flush, query, set, `origin`, the peer's process and session; `open_child_end`, `wait_named_pipe` |
//! | `port` | `CompletionPort`, `Packet`, `Request`, `Arrival` | `associate`, `wait`, `post`; `Request`'s empty read, write, connect and `FSCTL_PIPE_WAIT`, `cancel`; `pin_module` |
//! | `process` | `Handle`, `Process` | `process_prng`, `Process::open`, `duplicate_handle` |
//! | `record` | `Hold` | `hold`, `write` |
//! | `socket` | | `peer`, of a Unix socket |
//! | `text` | | `wide` |
//! | `token` | `Token`, `Impersonated`, `AsProcess` | of this thread or a process and whose it is; `Impersonated::client_of`, `AsProcess::revert`; `is_member`, `lookup_account_sid`, `lookup_account_name` |
//!
//! `error`, `record`, `text` and `fault` are the same for both kernels, and so is the plain data,
//! which is in `data` and offered by `operation` and `pipe`. Handles of other programs exist on
//! Windows alone: there `Pipe` converts from and to std's handle types, and `process` can take a
//! handle out of another process.

#[cfg(any(windows, winpipe_sim))]
mod data;
#[cfg(all(windows, not(winpipe_sim)))]
pub(crate) mod descriptor;
#[cfg(any(windows, winpipe_sim))]
#[cfg_attr(
    winpipe_sim,
    allow(dead_code, reason = "it takes no handle out of a process")
)]
pub(crate) mod error;
#[cfg(all(any(windows, winpipe_sim), test))]
pub(crate) mod fault;
#[cfg(all(windows, not(winpipe_sim)))]
pub(crate) mod operation;
#[cfg(all(windows, not(winpipe_sim)))]
pub(crate) mod pipe;
#[cfg(all(windows, not(winpipe_sim), feature = "tokio"))]
pub(crate) mod port;
#[cfg(all(windows, not(winpipe_sim)))]
pub(crate) mod process;
#[cfg(any(windows, winpipe_sim))]
pub(crate) mod record;
#[cfg(winpipe_sim)]
mod sim;
#[cfg(all(unix, not(winpipe_sim)))]
pub(crate) mod socket;
#[cfg(any(windows, winpipe_sim))]
pub(crate) mod text;
#[cfg(all(windows, not(winpipe_sim)))]
pub(crate) mod token;

#[cfg(winpipe_sim)]
pub(crate) use sim::{descriptor, operation, pipe, process, token};
