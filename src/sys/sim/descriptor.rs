//! Security descriptors, which nothing is checked against here.

use std::io;

use crate::sys::record::trace;

/// A security descriptor.
#[derive(Debug)]
pub(crate) struct Descriptor;

impl Descriptor {
    /// Takes any text for a descriptor.
    pub(crate) fn from_sddl(sddl: &str) -> io::Result<Descriptor> {
        let _ = sddl;
        trace!("ConvertStringSecurityDescriptorToSecurityDescriptorW({sddl:?}) = 1");
        Ok(Descriptor)
    }
}
