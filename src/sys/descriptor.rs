//! Security descriptors.

use std::io;
use std::ptr;

use windows_sys::Win32::Foundation::LocalFree;
use windows_sys::Win32::Security::Authorization::{
    ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1,
};
#[cfg(test)]
use windows_sys::Win32::Security::GetSecurityDescriptorLength;
use windows_sys::Win32::Security::PSECURITY_DESCRIPTOR;

use super::error::Code;
use super::record::trace;
use super::text::wide;

/// A security descriptor, freed on drop.
#[derive(Debug)]
pub(crate) struct Descriptor(PSECURITY_DESCRIPTOR);

// SAFETY: nothing writes to a descriptor once it's created, and `LocalFree` may be called on any
// thread.
unsafe impl Send for Descriptor {}
// SAFETY: as above.
unsafe impl Sync for Descriptor {}

impl Descriptor {
    /// Creates the descriptor that an SDDL string describes. This corresponds to calling
    /// `ConvertStringSecurityDescriptorToSecurityDescriptorW`.
    pub(crate) fn from_sddl(sddl: &str) -> io::Result<Descriptor> {
        let text = wide(sddl);
        let mut descriptor = ptr::null_mut();
        // SAFETY: the text ends with a NUL, and `descriptor` can be written to.
        let ok = unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                text.as_ptr(),
                SDDL_REVISION_1,
                &mut descriptor,
                ptr::null_mut(),
            )
        };
        let code = Code::last();
        trace!("ConvertStringSecurityDescriptorToSecurityDescriptorW({sddl:?}) = {ok}");
        if ok == 0 {
            Err(code.into())
        } else {
            Ok(Descriptor(descriptor))
        }
    }

    pub(super) fn as_ptr(&self) -> *const core::ffi::c_void {
        self.0
    }

    /// The descriptor in self-relative form.
    #[cfg(test)]
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // SAFETY: the descriptor is valid and in that form, as the conversion creates it.
        unsafe {
            let len = GetSecurityDescriptorLength(self.0) as usize;
            std::slice::from_raw_parts(self.0.cast::<u8>(), len).to_vec()
        }
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: the conversion allocated it with `LocalAlloc`, and it isn't used any more.
        unsafe { LocalFree(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_descriptor_is_an_error() {
        Descriptor::from_sddl("D:(A;;nonsense;;;S-1-1-0)").unwrap_err();
    }
}
