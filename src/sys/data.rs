//! The plain data that the calls take and return, the same for both kernels.

use super::descriptor::Descriptor;

/// How to create an instance of a pipe.
pub(crate) struct Instance<'a, Device> {
    /// What the name is relative to: none for a path, the pipe device for a pipe without a name.
    pub(crate) root: Option<&'a Device>,
    /// The path, `\??\pipe\NAME` with a terminating NUL, or nothing.
    pub(crate) name: &'a [u16],
    /// Which users can connect.
    pub(crate) descriptor: Option<&'a Descriptor>,
    /// Whether it must be the first instance of its name. If it isn't, creating it fails.
    pub(crate) first: bool,
    /// Whether clients on other computers are refused.
    pub(crate) reject_remote: bool,
    /// Whether the pipe keeps message boundaries, and is read by message.
    pub(crate) by_message: bool,
    /// How many instances the name may have.
    pub(crate) limit: u32,
    /// The bytes that the kernel queues for the server before a client's write waits.
    pub(crate) inbound: u32,
    /// The bytes that the kernel queues for the client before a server's write waits.
    pub(crate) outbound: u32,
}

impl<'a, Device> Instance<'a, Device> {
    /// The one instance of a pipe without a name, which only its own process can open.
    pub(crate) fn unnamed(device: &'a Device, by_message: bool, buffer: u32) -> Self {
        Instance {
            root: Some(device),
            name: &[],
            descriptor: None,
            first: true,
            reject_remote: true,
            by_message,
            limit: 1,
            inbound: buffer,
            outbound: buffer,
        }
    }
}

/// What the kernel reports about one end of a pipe.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalInformation {
    /// Whether this is the end of the process that created the pipe.
    pub(crate) is_server: bool,
    /// Whether the pipe keeps message boundaries.
    pub(crate) is_message_type: bool,
    /// The bytes that the kernel queues for the peer before a write waits.
    pub(crate) write_quota: usize,
    /// Whether a client has connected, even if it has disconnected since.
    pub(crate) has_client: bool,
    /// Whether the other end is closed.
    pub(crate) is_closing: bool,
}

/// The mode of one end of a pipe.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HandleState {
    /// Whether its reads stop at message boundaries.
    pub(crate) by_message: bool,
    /// Whether its calls wait. If not, it's set to `PIPE_NOWAIT`.
    pub(crate) waits: bool,
}

/// What a server may do with the identity of a client that opens a pipe.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Quality {
    Anonymous,
    Identification,
    Impersonation,
    Delegation,
}

/// The result of an operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Transferred {
    /// The bytes read or written.
    pub(crate) count: usize,
    /// Whether the buffer was too short for the message. The rest stays for the next read.
    pub(crate) more: bool,
}

/// Whether an event was set in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Waited {
    Set,
    TimedOut,
}
