//! The only system call that std doesn't offer on Unix.

/// Returns the user id that this process acts as. This corresponds to calling `geteuid`.
pub(crate) fn effective_user_id() -> u32 {
    // SAFETY: POSIX declares `uid_t geteuid(void)`, which has no preconditions and can't fail;
    // every Unix that std supports has a 32-bit unsigned `uid_t` and links std to the C library.
    unsafe extern "C" {
        safe fn geteuid() -> u32;
    }
    geteuid()
}
