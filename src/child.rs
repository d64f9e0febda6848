//! A stream whose peer is for a child process.

use std::io;
use std::os::windows::io::OwnedHandle;

use crate::options::ListenOptions;
use crate::protocol::facts::Facts;
use crate::stream::WinStream;
use crate::sys::pipe::{self, Instance};
use crate::sys::record;

/// What a child gets.
pub(crate) struct ChildHandles {
    pub(crate) stdin: OwnedHandle,
    pub(crate) stdout: OwnedHandle,
}

impl WinStream {
    /// Creates a stream, and the two ends that a child reads and writes.
    ///
    /// They are two pipes, because the child's handles are synchronous. Windows makes all calls on
    /// one synchronous file wait for each other, also on its duplicates. So with one pipe, a child
    /// that waits in a read couldn't write.
    ///
    /// They are of byte type, because children read by byte. The end of one direction is the end of
    /// its pipe.
    pub(crate) fn for_child() -> io::Result<(WinStream, ChildHandles)> {
        let _records = record::hold();
        let device = pipe::open_device()?;
        let instance =
            || pipe::create_named_pipe(Instance::unnamed(&device, false, ListenOptions::BUFFER));
        let (outgoing, incoming) = (instance()?, instance()?);
        let child = ChildHandles {
            stdin: pipe::open_child_end(&outgoing, true)?,
            stdout: pipe::open_child_end(&incoming, false)?,
        };
        let facts = Facts::new(ListenOptions::BUFFER as usize, false, true);
        Ok((WinStream::over_two(incoming, outgoing, facts), child))
    }
}
