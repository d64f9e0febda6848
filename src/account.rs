//! Who this process is, who made a pipe and who a peer is, by the system's word.

use std::io;

use crate::access::{Access, Maker, Origin, Server};
use crate::input::{invalid, quote};
use crate::sid::{Integrity, Sid};
use crate::sys::descriptor::Descriptor;
use crate::sys::error::Code;
use crate::sys::pipe::Pipe;
use crate::sys::token::{self, AsProcess, Token};

impl Sid {
    /// The user that this thread acts as.
    ///
    /// This corresponds to calling `GetTokenInformation` for `TokenUser`.
    ///
    /// # Errors
    /// Those of the system.
    ///
    /// # Examples
    /// ```
    /// println!("I am {}", winpipe::Sid::current_user()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn current_user() -> io::Result<Sid> {
        sid(Token::current()?.user())
    }

    /// Looks up the account's name, such as `OFFICE\ada`. It may ask the network.
    ///
    /// This corresponds to calling `LookupAccountSidW`.
    ///
    /// # Errors
    /// [`NotFound`](io::ErrorKind::NotFound) if no account has this identifier, or it's one of
    /// another computer that can't be asked.
    ///
    /// # Examples
    /// ```
    /// let name = winpipe::Sid::LOCAL_SYSTEM.account_name()?;
    /// assert!(name.contains('\\'));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn account_name(&self) -> io::Result<String> {
        token::lookup_account_sid(&self.to_bytes())
    }
}

/// The descriptor of a pipe that this thread makes for those who have this access.
pub(crate) fn descriptor(access: &Access) -> io::Result<Descriptor> {
    let current = Token::current()?;
    let process = Token::of_this_process()?;
    let server = sid(process.user())?;
    let as_process = AsProcess::revert()?;
    let is_elevated = token::is_member(&Sid::ADMINISTRATORS.to_bytes())?;
    let impersonates = as_process.is_some();
    drop(as_process);
    let maker = Maker {
        user: sid(current.user())?,
        integrity: integrity(&current)?,
        logon: &|| sid(current.logon_session()),
        process: impersonates.then(|| sid(process.logon_session()).unwrap_or(server)),
        // The system is one of the administrators, but needs nobody else.
        creator: match is_elevated && server != Sid::LOCAL_SYSTEM {
            true => Sid::ADMINISTRATORS,
            false => server,
        },
    };
    let sddl = access.sddl(&maker)?;
    Descriptor::from_sddl(&sddl).map_err(|error| {
        invalid(format!(
            "the access rights {} are no security descriptor: {error}",
            quote(&sddl)
        ))
    })
}

/// Makes another instance of a pipe that this process has made. A thread that impersonates somebody
/// who may not do that makes it as the process, whose pipe it is.
pub(crate) fn make_as_server<T>(make: impl Fn() -> Result<T, Code>) -> Result<T, Code> {
    let refused = match make() {
        Err(code) if code.is_refusal() => code,
        made => return made,
    };
    match AsProcess::revert() {
        Ok(Some(_as_process)) => make(),
        _ => Err(refused),
    }
}

/// Fails if the pipe isn't made by whom this client expects.
pub(crate) fn expect(pipe: &Pipe, expected: Server) -> io::Result<()> {
    let origin = Origin::from_bytes(&pipe.origin()?)?;
    expected.check(&origin, || {
        let token = Token::current()?;
        Ok((sid(token.user())?, integrity(&token)?))
    })
}

fn sid(bytes: io::Result<Vec<u8>>) -> io::Result<Sid> {
    Sid::from_bytes(&bytes?)
}

fn integrity(token: &Token) -> io::Result<Integrity> {
    let level = sid(token.integrity())?.integrity();
    level.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Who the peer of a stream is, as far as Windows can tell.
///
/// It's what `WinStream::peer_cred` returns. **Only [`user`](Self::user),
/// [`integrity`](Self::integrity) and [`elevated`](Self::elevated) that were learnt
/// [by impersonation](Learnt::Impersonation) may be used to authorise.** All else is a hint: the
/// number of a process can be another's by the time it's used, and a handle can be given to another
/// process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PeerCred {
    /// The process that opened (or made) the peer's end, from the kernel's record. A hint.
    pub pid: u32,
    /// The session that this process is in, from the kernel's record. A hint.
    pub session: Option<u32>,
    /// The user, from where `learnt` says.
    pub user: Option<Sid>,
    /// The integrity level, from where `learnt` says.
    pub integrity: Option<Integrity>,
    /// Whether it has an administrator's full rights, from where `learnt` says.
    pub elevated: Option<bool>,
    /// Where the user, the integrity level and the elevation come from.
    pub learnt: Learnt,
}

/// How something about a peer was learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Learnt {
    /// The server impersonated its client for a moment. That is who opened the connection (or, of
    /// clients that ask for it, who sent the last message that was read), and may be used to
    /// authorise.
    Impersonation,
    /// The token of the process that has the peer's number now. A hint.
    Process,
    /// It wasn't: that process is gone, or this one may not look at it.
    Nothing,
}

impl PeerCred {
    /// Takes what a token says.
    pub(crate) fn with(mut self, token: &Token, learnt: Learnt) -> PeerCred {
        self.user = sid(token.user()).ok();
        self.integrity = integrity(token).ok();
        self.elevated = token.is_elevated().ok();
        self.learnt = learnt;
        self
    }
}

// With the system's own descriptors.
#[cfg(all(test, not(winpipe_sim)))]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn the_systems_descriptors_say_who_made_a_pipe() {
        for (sddl, owner, label) in [
            (
                "O:SYG:SYD:(A;;FA;;;WD)",
                Sid::LOCAL_SYSTEM,
                Integrity::MEDIUM,
            ),
            ("O:BAD:S:(ML;;NW;;;LW)", Sid::ADMINISTRATORS, Integrity::LOW),
            ("O:WDS:(ML;;NWNR;;;HI)", Sid::EVERYONE, Integrity::HIGH),
        ] {
            let bytes = Descriptor::from_sddl(sddl).unwrap().to_bytes();
            let origin = Origin::from_bytes(&bytes).unwrap();
            for (mine, expected) in [
                (Integrity::LOW, true),
                (Integrity::HIGH, label >= Integrity::MEDIUM),
            ] {
                let checked = Server::CurrentUser.check(&origin, || Ok((owner, mine)));
                assert_eq!(checked.is_ok(), expected, "{sddl}");
            }
            Server::Sid(owner)
                .check(&origin, || unreachable!())
                .unwrap();
        }
    }

    #[test]
    fn instances_are_made_as_the_process_where_this_thread_may_not() {
        let tries = Cell::new(0);
        let impersonates = || Token::is_of_thread().unwrap();
        let refused = || {
            tries.set(tries.get() + 1);
            match impersonates() {
                true => Err(Code::ACCESS_DENIED),
                false => Ok(()),
            }
        };
        make_as_server(refused).unwrap();
        assert_eq!(tries.take(), 1);
        token::impersonate_self();
        make_as_server(refused).unwrap();
        assert_eq!(tries.take(), 2);
        // It acts as before, and so it does after an error and after a panic.
        assert!(impersonates());
        let busy = make_as_server(|| match impersonates() {
            true => Err::<(), _>(Code::ACCESS_DENIED),
            false => Err(Code::PIPE_BUSY),
        });
        assert_eq!(busy, Err(Code::PIPE_BUSY));
        assert!(impersonates());
        let panicked = std::panic::catch_unwind(|| {
            make_as_server(|| match impersonates() {
                true => Err::<(), _>(Code::ACCESS_DENIED),
                false => panic!("as the process"),
            })
        });
        panicked.unwrap_err();
        assert!(impersonates());
        // What isn't a refusal isn't tried again.
        let gone = make_as_server(|| {
            tries.set(tries.get() + 1);
            Err::<(), _>(Code::FILE_NOT_FOUND)
        });
        assert_eq!((gone, tries.take()), (Err(Code::FILE_NOT_FOUND), 1));
        token::revert_to_self();
        // Nor is a refusal, if there's nobody else to be.
        let alone = make_as_server(|| {
            tries.set(tries.get() + 1);
            Err::<(), _>(Code::ACCESS_DENIED)
        });
        assert_eq!((alone, tries.take()), (Err(Code::ACCESS_DENIED), 1));
    }

    #[test]
    fn a_pipe_of_an_impersonating_thread_lets_the_process_make_instances() {
        // The same user, as nobody else can be had here; access.rs tests it with others.
        let plain = descriptor(&Access::CurrentUser).unwrap().to_bytes();
        token::impersonate_self();
        let impersonated = descriptor(&Access::CurrentUser);
        assert!(Token::is_of_thread().unwrap());
        token::revert_to_self();
        let impersonated = impersonated.unwrap().to_bytes();
        assert_eq!(
            Origin::from_bytes(&impersonated).unwrap(),
            Origin::from_bytes(&plain).unwrap()
        );
        // There is an entry more, for the logon session or the user.
        assert!(impersonated.len() >= plain.len());
    }
}
