//! What `sid` and `access` need from the system: accounts, the security descriptors of pipes, and
//! whether a pipe belongs to the expected server.

use std::io;

use crate::access::{Access, Maker, Origin, Server};
use crate::input::{invalid, quote};
use crate::sid::{Integrity, Sid};
use crate::sys::descriptor::Descriptor;
use crate::sys::error::Code;
use crate::sys::pipe::Pipe;
use crate::sys::token::{self, AsProcess, Token};

impl Sid {
    /// Returns the user that this thread acts as.
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
        user(&Token::current()?)
    }

    /// Looks up the SID of a user, a group or a service by name: `ada`, `OFFICE\ada`,
    /// `NT SERVICE\Spooler`. This may query other computers on the network.
    ///
    /// Case doesn't matter. A name without a domain is looked up on this computer first. The names
    /// of Windows' own groups depend on its language: use the constants for these, such as
    /// [`Sid::USERS`].
    ///
    /// This corresponds to calling `LookupAccountNameW`.
    ///
    /// # Errors
    /// - [`NotFound`](io::ErrorKind::NotFound): there is no account of this name, or it belongs to
    ///   another computer that can't be queried.
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput): the name is empty or contains a NUL
    ///   character.
    ///
    /// # Examples
    /// Access for one service and administrators:
    /// ```no_run
    /// use winpipe::{Access, Sid};
    ///
    /// let spooler = Sid::from_account_name(r"NT SERVICE\Spooler")?;
    /// let access = Access::from(spooler).or(Access::ADMINISTRATORS);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn from_account_name(name: &str) -> io::Result<Sid> {
        // For Windows, an empty name is the computer's domain, and a NUL is the end of the name.
        if name.is_empty() || name.contains('\0') {
            return Err(invalid(format!("{} isn't an account name", quote(name))));
        }
        sid(token::lookup_account_name(name))
    }

    /// Looks up the account's name, such as `OFFICE\ada`. This may query other computers on the
    /// network.
    ///
    /// This corresponds to calling `LookupAccountSidW`.
    ///
    /// # Errors
    /// [`NotFound`](io::ErrorKind::NotFound) if no account has this SID, or the account belongs to
    /// another computer that can't be queried.
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

/// Returns the security descriptor of a pipe that this thread creates with this access.
pub(crate) fn descriptor(access: &Access) -> io::Result<Descriptor> {
    let current = Token::current()?;
    let process = Token::of_this_process()?;
    let server = user(&process)?;
    let as_process = AsProcess::revert()?;
    let is_elevated = token::is_member(&Sid::ADMINISTRATORS.to_bytes())?;
    let impersonates = as_process.is_some();
    drop(as_process);
    let maker = Maker {
        user: user(&current)?,
        integrity: integrity(&current)?,
        logon: &|| sid(current.logon_session()),
        process: impersonates.then(|| sid(process.logon_session()).unwrap_or(server)),
        // The system is one of the administrators, but keeps this right to itself.
        creator: match is_elevated && server != Sid::LOCAL_SYSTEM {
            true => Sid::ADMINISTRATORS,
            false => server,
        },
    };
    let sddl = access.to_sddl(&maker)?;
    Descriptor::from_sddl(&sddl).map_err(|error| {
        invalid(format!(
            "the access rights {} aren't a valid security descriptor: {error}",
            quote(&sddl)
        ))
    })
}

/// Creates another instance of a pipe that this process has created. If this thread impersonates a
/// user that isn't allowed to do that, it creates the instance as the process.
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

/// Fails if the pipe wasn't created by the server that this client expects.
pub(crate) fn expect(pipe: &Pipe, expected: Server) -> io::Result<()> {
    let origin = Origin::from_bytes(&pipe.origin()?)?;
    expected.check(&origin, || {
        let token = Token::current()?;
        Ok((user(&token)?, integrity(&token)?))
    })
}

fn sid(bytes: io::Result<Vec<u8>>) -> io::Result<Sid> {
    Ok(Sid::from_bytes(&bytes?)?)
}

/// Returns the user of a token.
pub(crate) fn user(token: &Token) -> io::Result<Sid> {
    sid(token.user())
}

/// Returns the integrity level of a token.
pub(crate) fn integrity(token: &Token) -> io::Result<Integrity> {
    let level = sid(token.integrity())?.integrity();
    level.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

// These tests use the system's own descriptors.
#[cfg(all(test, not(winpipe_sim)))]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn an_account_is_found_by_its_name() {
        let user = Sid::current_user().unwrap();
        let name = user.account_name().unwrap();
        assert_eq!(Sid::from_account_name(&name).unwrap(), user, "{name}");
        let system = Sid::LOCAL_SYSTEM.account_name().unwrap();
        for name in [system.to_lowercase(), system] {
            let found = Sid::from_account_name(&name).unwrap();
            assert_eq!(found, Sid::LOCAL_SYSTEM, "{name}");
        }
    }

    #[test]
    fn a_name_of_no_account_is_not_found_or_invalid_input() {
        for (name, kind) in [
            (r"no-such-domain\nobody", io::ErrorKind::NotFound),
            ("", io::ErrorKind::InvalidInput),
            ("SYSTEM\0", io::ErrorKind::InvalidInput),
        ] {
            let error = Sid::from_account_name(name).unwrap_err();
            assert_eq!(error.kind(), kind, "{name:?}: {error}");
        }
    }

    #[test]
    fn every_access_is_a_descriptor_to_the_system_or_invalid_input() {
        let package: Sid = "S-1-15-2-1-2-3-4-5-6-7".parse().unwrap();
        let service: Sid = "S-1-5-80-1-2-3-4-5".parse().unwrap();
        for access in [
            Access::CURRENT_USER,
            Access::LOGON_SESSION,
            Access::AUTHENTICATED_USERS,
            Access::EVERYONE,
            Access::ADMINISTRATORS.or(service).never_remote(),
            Access::EVERYONE.local_logon().low_integrity(),
            Access::CURRENT_USER.app_packages().app_package(package),
            Access::sddl("D:P(A;;FA;;;WD)"),
        ] {
            descriptor(&access).unwrap_or_else(|error| panic!("{access:?}: {error}"));
        }
        for access in [
            Access::from(package),
            Access::CURRENT_USER.never_remote().or(service),
            Access::sddl("nonsense"),
        ] {
            let error = descriptor(&access).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{access:?}");
        }
    }

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
        // Afterwards the thread acts as before, even after an error or a panic.
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
        // Other errors aren't retried.
        let gone = make_as_server(|| {
            tries.set(tries.get() + 1);
            Err::<(), _>(Code::FILE_NOT_FOUND)
        });
        assert_eq!((gone, tries.take()), (Err(Code::FILE_NOT_FOUND), 1));
        token::revert_to_self();
        // Nor is a refusal, if the thread isn't impersonating.
        let alone = make_as_server(|| {
            tries.set(tries.get() + 1);
            Err::<(), _>(Code::ACCESS_DENIED)
        });
        assert_eq!((alone, tries.take()), (Err(Code::ACCESS_DENIED), 1));
    }

    #[test]
    fn a_pipe_of_an_impersonating_thread_lets_the_process_make_instances() {
        // As the same user, because no other is available here. access.rs tests this with others.
        let plain = descriptor(&Access::CURRENT_USER).unwrap().to_bytes();
        token::impersonate_self();
        let impersonated = descriptor(&Access::CURRENT_USER);
        assert!(Token::is_of_thread().unwrap());
        token::revert_to_self();
        let impersonated = impersonated.unwrap().to_bytes();
        assert_eq!(
            Origin::from_bytes(&impersonated).unwrap(),
            Origin::from_bytes(&plain).unwrap()
        );
        // There is one more entry, for the logon session or the user.
        assert!(impersonated.len() >= plain.len());
    }
}
