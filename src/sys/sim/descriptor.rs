//! Security descriptors. There are no access checks here.

use std::io;

use crate::sys::record::trace;

/// A security descriptor.
#[derive(Debug)]
pub(crate) struct Descriptor;

impl Descriptor {
    /// Accepts any text as a descriptor.
    pub(crate) fn from_sddl(sddl: &str) -> io::Result<Descriptor> {
        let _ = sddl;
        trace!("ConvertStringSecurityDescriptorToSecurityDescriptorW({sddl:?}) = 1");
        Ok(Descriptor)
    }
}
