//! Tokens of the only user.

use std::cell::Cell;
use std::io;

use super::descriptor::USER;
use super::pipe::Pipe;
use crate::sys::error::Code;
use crate::sys::record::trace;

/// `S-1-5-5-0-1`, the logon session.
const LOGON: [u8; 20] = [1, 3, 0, 0, 0, 0, 0, 5, 5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];

/// `S-1-16-8192`, medium integrity.
const MEDIUM: [u8; 12] = [1, 1, 0, 0, 0, 0, 0, 16, 0, 0x20, 0, 0];

/// `S-1-1-0`, everyone.
const EVERYONE: [u8; 12] = [1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];

thread_local! {
    /// Whether this thread has a token of its own: a client's.
    static IMPERSONATES: Cell<bool> = const { Cell::new(false) };
}

/// A token. All of them are the user's.
pub(crate) struct Token;

impl Token {
    pub(crate) fn current() -> io::Result<Token> {
        Ok(Token)
    }

    pub(crate) fn of_this_process() -> io::Result<Token> {
        Ok(Token)
    }

    pub(crate) fn of_process(id: u32) -> io::Result<Token> {
        match id == std::process::id() {
            true => Ok(Token),
            false => Err(Code::INVALID_PARAMETER.into()),
        }
    }

    pub(crate) fn user(&self) -> io::Result<Vec<u8>> {
        Ok(USER.into())
    }

    pub(crate) fn logon_session(&self) -> io::Result<Vec<u8>> {
        Ok(LOGON.into())
    }

    pub(crate) fn integrity(&self) -> io::Result<Vec<u8>> {
        Ok(MEDIUM.into())
    }

    pub(crate) fn is_elevated(&self) -> io::Result<bool> {
        Ok(false)
    }
}

pub(crate) fn is_member(sid: &[u8]) -> io::Result<bool> {
    Ok([&USER[..], &LOGON, &EVERYONE].contains(&sid))
}

/// Fails: there are no accounts to look up by name.
pub(crate) fn lookup_account_name(_name: &str) -> io::Result<Vec<u8>> {
    Err(Code::NONE_MAPPED.explain_account())
}

pub(crate) fn lookup_account_sid(sid: &[u8]) -> io::Result<String> {
    match sid == USER {
        true => Ok(r"SIMULATED\user".into()),
        false => Err(Code::NONE_MAPPED.explain_account()),
    }
}

/// While this exists, this thread impersonates a client.
pub(crate) struct Impersonated {
    before: bool,
}

impl Impersonated {
    /// [11.7] Succeeds if the client's identity is known.
    pub(crate) fn client_of(pipe: &Pipe) -> io::Result<Impersonated> {
        let known = pipe.impersonate();
        trace!("ImpersonateNamedPipeClient({pipe:?}) = {known:?}");
        known.map_err(Code::explain_impersonation)?;
        let before = IMPERSONATES.replace(true);
        Ok(Impersonated { before })
    }

    pub(crate) fn token(&self) -> io::Result<Token> {
        Ok(Token)
    }
}

impl Drop for Impersonated {
    fn drop(&mut self) {
        IMPERSONATES.set(self.before);
        trace!("RevertToSelf() = 1");
    }
}

/// While this exists, this thread acts as its process.
pub(crate) struct AsProcess;

impl AsProcess {
    pub(crate) fn revert() -> io::Result<Option<AsProcess>> {
        Ok(IMPERSONATES.replace(false).then_some(AsProcess))
    }
}

impl Drop for AsProcess {
    fn drop(&mut self) {
        IMPERSONATES.set(true);
        trace!("SetThreadToken() = 1");
    }
}
