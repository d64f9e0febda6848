//! The rules that make pipes behave as Unix sockets do: data and small state machines.
//!
//! They only decide. Their callers make the system calls and wait, each in its own way, and pass
//! the system's answers in. So this layer needs no clock, no kernel and no crate but std, and is
//! built and tested on every platform.

#![cfg_attr(
    not(windows),
    allow(dead_code, reason = "only the Windows part connects and listens")
)]

pub(crate) mod backlog;
pub(crate) mod dialing;
pub(crate) mod end;
pub(crate) mod exchange;
pub(crate) mod facts;
pub(crate) mod sending;
pub(crate) mod vectored;
