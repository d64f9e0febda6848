//! Tests of access, servers and their descriptors.

use super::*;
use proptest::prelude::*;

/// The entries that keep the owner from changing the access rights, and also from reading them.
const OWNER_RIGHTS: &str = "(A;;0x20000;;;S-1-3-4)";
const STRANGERS: &str = "(D;;0x1f01ff;;;S-1-5-21-1-2-3-1001)(A;;0x20000;;;S-1-3-4)";

fn sid(text: &str) -> Sid {
    text.parse().unwrap()
}

fn user() -> Sid {
    sid("S-1-5-21-1-2-3-1001")
}

/// An unelevated process of that user.
fn maker() -> Maker<'static> {
    Maker {
        user: user(),
        integrity: Integrity::MEDIUM,
        logon: &|| Ok("S-1-5-5-0-77".parse()?),
        process: None,
        creator: user(),
    }
}

fn sddl(access: Access) -> String {
    access.to_sddl(&maker()).unwrap()
}

fn by(maker: Maker<'_>, access: Access) -> String {
    access.to_sddl(&maker).unwrap()
}

/// Returns a descriptor's entries between its owner and its label. The label must have this
/// level.
fn labelled(sddl: &str, level: u32) -> &str {
    let label = format!("S:(ML;;NRNWNX;;;S-1-16-{level})");
    let sddl = sddl.strip_prefix("O:S-1-5-21-1-2-3-1001D:P").unwrap();
    sddl.strip_suffix(&label)
        .unwrap_or_else(|| panic!("{sddl}"))
}

fn dacl(sddl: &str) -> &str {
    labelled(sddl, 0x2000)
}

fn low_dacl(sddl: &str) -> &str {
    labelled(sddl, 0x1000)
}

#[test]
fn the_default_is_the_current_user_alone() {
    let expected = format!("(A;;0x12019f;;;S-1-5-21-1-2-3-1001){OWNER_RIGHTS}");
    assert_eq!(dacl(&sddl(Access::default())), expected);
}

#[test]
fn access_is_combined_in_one_expression() {
    let group = sid("S-1-5-32-578");
    assert_eq!(
        dacl(&sddl(Access::CURRENT_USER.or(group).never_remote())),
        format!(
            "(D;;0x1f01ff;;;S-1-5-2)(A;;0x12019f;;;S-1-5-21-1-2-3-1001)\
             (A;;0x12019b;;;S-1-5-32-578){OWNER_RIGHTS}"
        )
    );
    assert_eq!(
        dacl(&sddl(Access::CURRENT_USER.local_logon())),
        format!(
            "(D;;0x1f01ff;;;S-1-5-2)(D;;0x1f01ff;;;S-1-5-14)\
             (A;;0x12019f;;;S-1-5-21-1-2-3-1001){OWNER_RIGHTS}"
        )
    );
    assert_eq!(
        low_dacl(&sddl(Access::EVERYONE.low_integrity())),
        format!(
            "(A;;0x12019b;;;S-1-1-0)(A;;0x12019f;;;S-1-5-21-1-2-3-1001)\
             {OWNER_RIGHTS}"
        )
    );
    assert_eq!(
        low_dacl(&sddl(Access::CURRENT_USER.app_packages())),
        format!(
            "(A;;0x12019f;;;S-1-5-21-1-2-3-1001)(A;;0x12019b;;;S-1-15-2-1)\
             {OWNER_RIGHTS}"
        )
    );
    let package = sid("S-1-15-2-1-2-3-4-5-6-7");
    assert_eq!(
        low_dacl(&sddl(Access::CURRENT_USER.app_package(package))),
        format!(
            "(A;;0x12019f;;;S-1-5-21-1-2-3-1001)\
             (A;;0x12019b;;;S-1-15-2-1-2-3-4-5-6-7){OWNER_RIGHTS}"
        )
    );
}

#[test]
fn the_stricter_restriction_holds_in_whatever_order() {
    let both = Access::EVERYONE.local_logon().never_remote();
    assert_eq!(both, Access::EVERYONE.never_remote().local_logon());
    assert_eq!(both, Access::EVERYONE.local_logon());
}

#[test]
fn debug_says_an_access_in_words() {
    let package = sid("S-1-15-2-1-2-3-4-5-6-7");
    let service = sid("S-1-5-80-1-2-3-4-5");
    for (access, words) in [
        (Access::default(), "the current user"),
        (
            Access::CURRENT_USER.or(sid("S-1-5-32-578")).never_remote(),
            "the current user or the members of S-1-5-32-578, never over the network",
        ),
        (
            Access::LOGON_SESSION
                .or(Access::ADMINISTRATORS)
                .or(service)
                .local_logon(),
            "this logon session or administrators or S-1-5-80-1-2-3-4-5, \
             logged on at this computer only",
        ),
        (
            Access::AUTHENTICATED_USERS
                .or(Access::EVERYONE)
                .low_integrity()
                .app_packages()
                .app_package(package),
            "authenticated users or everyone, also at low integrity, also in any app package, \
             also in the app package S-1-15-2-1-2-3-4-5-6-7",
        ),
        (
            Access::sddl("D:P(A;;FA;;;WD)"),
            "by the SDDL string \"D:P(A;;FA;;;WD)\"",
        ),
    ] {
        assert_eq!(format!("{access:?}"), words);
    }
}

#[test]
fn restrictions_and_labels_hold_for_the_whole_or_the_access_is_invalid() {
    for access in [
        Access::CURRENT_USER.never_remote().or(Access::EVERYONE),
        Access::CURRENT_USER.or(Access::EVERYONE.never_remote()),
        Access::CURRENT_USER
            .local_logon()
            .or(Access::EVERYONE.never_remote()),
        Access::CURRENT_USER.low_integrity().or(Access::EVERYONE),
        Access::CURRENT_USER.app_packages().or(Access::EVERYONE),
        // An invalid access stays invalid.
        (Access::CURRENT_USER.low_integrity().or(Access::EVERYONE))
            .low_integrity()
            .or(Access::CURRENT_USER),
    ] {
        let error = access.to_sddl(&maker()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("call them last"), "{error}");
    }
    // If both sides are the same, there is no ambiguity.
    assert_eq!(
        Access::CURRENT_USER
            .never_remote()
            .or(Access::EVERYONE.never_remote()),
        Access::CURRENT_USER.or(Access::EVERYONE).never_remote()
    );
}

#[test]
fn an_app_package_is_no_user_and_a_user_no_app_package() {
    for (access, what) in [
        (Access::from(Sid::ALL_APP_PACKAGES), "is an app package"),
        (
            Access::CURRENT_USER.or(sid("S-1-15-2-1-2-3-4-5-6-7")),
            "is an app package",
        ),
        (Access::EVERYONE.app_package(user()), "isn't an app package"),
        (
            Access::EVERYONE.app_package(sid("S-1-15-3-1")),
            "isn't an app package",
        ),
    ] {
        let error = access.to_sddl(&maker()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[test]
fn a_logon_session_is_not_the_users_other_sessions() {
    assert_eq!(
        dacl(&sddl(Access::LOGON_SESSION)),
        format!("(A;;0x12019b;;;S-1-5-5-0-77)(A;;0x4;;;S-1-5-21-1-2-3-1001){STRANGERS}")
    );
    // Unless the access includes them, too.
    assert_eq!(
        dacl(&sddl(Access::LOGON_SESSION.or(Access::CURRENT_USER))),
        format!("(A;;0x12019b;;;S-1-5-5-0-77)(A;;0x12019f;;;S-1-5-21-1-2-3-1001){OWNER_RIGHTS}")
    );
}

#[test]
fn only_the_servers_own_user_may_make_instances() {
    for access in [
        Access::AUTHENTICATED_USERS,
        Access::EVERYONE,
        Access::ADMINISTRATORS,
        Access::CURRENT_USER.app_packages(),
    ] {
        let sddl = sddl(access);
        assert_eq!(sddl.matches("(A;;0x12019f;").count(), 1, "{sddl}");
        assert!(
            sddl.contains("(A;;0x12019f;;;S-1-5-21-1-2-3-1001)"),
            "{sddl}"
        );
    }
}

#[test]
fn only_administrators_may_make_instances_where_the_server_is_elevated() {
    let elevated = || Maker {
        creator: Sid::ADMINISTRATORS,
        ..maker()
    };
    assert_eq!(
        dacl(&by(elevated(), Access::CURRENT_USER)),
        format!("(A;;0x12019b;;;S-1-5-21-1-2-3-1001)(A;;0x4;;;S-1-5-32-544){OWNER_RIGHTS}")
    );
    assert_eq!(
        dacl(&by(elevated(), Access::LOGON_SESSION)),
        format!("(A;;0x12019b;;;S-1-5-5-0-77)(A;;0x4;;;S-1-5-32-544){STRANGERS}")
    );
}

#[test]
fn a_thread_that_impersonates_lets_the_process_itself_in_too() {
    let service = sid("S-1-5-20");
    let impersonating = || Maker {
        process: Some(sid("S-1-5-5-0-33")),
        creator: service,
        ..maker()
    };
    // The user owns the pipe and can connect. The process has the rights that `accept` needs.
    for (access, who) in [
        (Access::CURRENT_USER, "S-1-5-21-1-2-3-1001"),
        (Access::LOGON_SESSION, "S-1-5-5-0-77"),
        (Access::AUTHENTICATED_USERS, "S-1-5-11"),
    ] {
        let found = by(impersonating(), access.clone());
        let rest = match access == Access::CURRENT_USER {
            true => OWNER_RIGHTS,
            false => STRANGERS,
        };
        let expected =
            format!("(A;;0x12019b;;;{who})(A;;0x12019b;;;S-1-5-5-0-33)(A;;0x4;;;S-1-5-20){rest}");
        assert_eq!(dacl(&found), expected, "{access:?}");
    }
}

#[test]
fn a_label_is_at_most_what_its_maker_has() {
    for (mine, level, low_level) in [
        (Integrity::SYSTEM, 0x2000, 0x1000),
        (Integrity::HIGH, 0x2000, 0x1000),
        (Integrity::LOW, 0x1000, 0x1000),
        (Integrity::UNTRUSTED, 0, 0),
    ] {
        let by_me = || Maker {
            integrity: mine,
            ..maker()
        };
        labelled(&by(by_me(), Access::CURRENT_USER), level);
        labelled(
            &by(by_me(), Access::CURRENT_USER.low_integrity()),
            low_level,
        );
    }
}

#[test]
fn sddl_is_taken_to_the_letter_and_not_combined() {
    let own = Access::sddl("D:P(A;;FA;;;WD)");
    assert_eq!(sddl(own.clone()), "D:P(A;;FA;;;WD)");
    for combined in [
        own.clone().or(Access::EVERYONE),
        Access::EVERYONE.or(own.clone()),
        own.clone().never_remote(),
        own.clone().local_logon(),
        own.clone().low_integrity(),
        own.app_packages(),
    ] {
        let error = combined.to_sddl(&maker()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("D:P(A;;FA;;;WD)"), "{error}");
    }
}

#[test]
fn sddl_with_a_nul_is_refused_and_not_cut_off() {
    let cut = "D:P(A;;FA;;;WD)\0(D;;FA;;;NU)";
    let error = Access::sddl(cut).to_sddl(&maker()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("NUL"), "{error}");
}

#[test]
fn bad_sddl_is_quoted_by_its_beginning() {
    let long = format!("D:P{}", "(A;;FA;;;WD)".repeat(100_000));
    for access in [
        Access::sddl(long.clone() + "\0"),
        Access::sddl(long).or(Access::EVERYONE),
    ] {
        let error = access.to_sddl(&maker()).unwrap_err().to_string();
        assert!(error.contains("D:P(A;;FA;;;WD)("), "{error}");
        assert!(error.chars().count() < 400, "{error}");
    }
}

#[test]
fn access_that_is_combined_without_end_has_each_once() {
    // On a stack that is too small for 100,000 nested calls.
    let small = std::thread::Builder::new().stack_size(64 << 10);
    let test = || {
        let mut left = Access::EVERYONE;
        let mut right = Access::EVERYONE;
        for part in 0..100_000 {
            let part = match part % 2 {
                0 => Access::CURRENT_USER,
                _ => Access::ADMINISTRATORS,
            };
            left = left.or(part.clone());
            right = right.clone().or(right).or(part);
        }
        assert_eq!(left, right);
        let access = left.low_integrity().never_remote();
        assert_eq!(
            format!("{access:?}"),
            "everyone or the current user or administrators, \
             never over the network, also at low integrity"
        );
        assert_eq!(
            low_dacl(&sddl(access)),
            format!(
                "(D;;0x1f01ff;;;S-1-5-2)(A;;0x12019b;;;S-1-1-0)\
                 (A;;0x12019f;;;S-1-5-21-1-2-3-1001)(A;;0x12019b;;;S-1-5-32-544)\
                 {OWNER_RIGHTS}"
            )
        );
    };
    small.spawn(test).unwrap().join().unwrap();
}

/// A descriptor in self-relative form, with these entries in its SACL.
fn descriptor(owner: Sid, entries: &[Vec<u8>]) -> Vec<u8> {
    let owner = owner.to_bytes();
    let sacl = if entries.is_empty() {
        0
    } else {
        20 + owner.len() as u32
    };
    let control: u16 = if entries.is_empty() { 0x8000 } else { 0x8010 };
    let mut bytes = vec![1, 0];
    bytes.extend(control.to_le_bytes());
    for offset in [20, 0, sacl, 0] {
        bytes.extend(offset.to_le_bytes());
    }
    bytes.extend(owner);
    if sacl != 0 {
        let size = 8 + entries.iter().map(Vec::len).sum::<usize>() as u16;
        bytes.extend([2, 0]);
        bytes.extend(size.to_le_bytes());
        bytes.extend((entries.len() as u16).to_le_bytes());
        bytes.extend([0, 0]);
        entries.iter().for_each(|entry| bytes.extend(entry));
    }
    bytes
}

fn entry(kind: u8, flags: u8, of: &str) -> Vec<u8> {
    let of = sid(of).to_bytes();
    let mut bytes = vec![kind, flags];
    bytes.extend((8 + of.len() as u16).to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(of);
    bytes
}

#[test]
fn a_descriptor_says_who_made_the_pipe() {
    let (low, high) = ("S-1-16-4096", "S-1-16-12288");
    for (entries, label) in [
        (vec![], Integrity::MEDIUM),
        (vec![entry(0x11, 0, low)], Integrity::LOW),
        (vec![entry(0x11, 0, high)], Integrity::HIGH),
        (vec![entry(0x2, 0, "S-1-1-0")], Integrity::MEDIUM),
        (
            vec![entry(0x2, 0, "S-1-1-0"), entry(0x11, 0, low)],
            Integrity::LOW,
        ),
        (
            vec![entry(0x11, 0, high), entry(0x11, 8, low)],
            Integrity::LOW,
        ),
    ] {
        let bytes = descriptor(user(), &entries);
        let expected = Origin {
            owner: user(),
            label,
        };
        assert_eq!(Origin::from_bytes(&bytes).unwrap(), expected);
        // Truncated anywhere, it's malformed: its last byte is part of what it describes.
        for len in 0..bytes.len() {
            let error = Origin::from_bytes(&bytes[..len]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }
    let mut ownerless = descriptor(user(), &[]);
    ownerless[4..8].fill(0);
    Origin::from_bytes(&ownerless).unwrap_err();
    let odd = descriptor(user(), &[entry(0x11, 0, "S-1-1-0")]);
    Origin::from_bytes(&odd).unwrap_err();
}

#[test]
fn a_server_is_expected_by_its_owner_and_the_own_user_by_its_label_too() {
    let stranger = sid("S-1-5-21-1-2-3-1002");
    let check = |server: Server, owner: Sid, label: Integrity, mine: Integrity| {
        let error = match server.check(&Origin { owner, label }, || Ok((user(), mine))) {
            Ok(()) => return true,
            Err(error) => error,
        };
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains(&owner.to_string()), "{error}");
        false
    };
    let (low, medium, high) = (Integrity::LOW, Integrity::MEDIUM, Integrity::HIGH);
    for (label, mine, expected) in [
        (medium, medium, true),
        // The pipe of a high-integrity process has no label, just like an ordinary process's.
        (medium, high, true),
        (medium, Integrity::SYSTEM, true),
        (high, medium, true),
        (medium, low, true),
        (low, low, true),
        (low, medium, false),
        (low, high, false),
        (Integrity::UNTRUSTED, low, false),
    ] {
        let found = check(Server::CurrentUser, user(), label, mine);
        assert_eq!(found, expected, "{label:?} to {mine:?}");
        assert!(!check(Server::CurrentUser, stranger, label, mine));
        assert!(check(Server::Sid(user()), user(), label, mine));
        assert!(!check(Server::Sid(user()), stranger, label, mine));
    }
    for (owner, expected) in [
        (Sid::LOCAL_SYSTEM, true),
        (Sid::ADMINISTRATORS, true),
        (user(), false),
        (Sid::EVERYONE, false),
    ] {
        assert_eq!(check(Server::System, owner, medium, medium), expected);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_descriptor_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        label in any::<u32>(),
        cut in 0_usize..80,
        byte in any::<u8>(),
    ) {
        let _ = Origin::from_bytes(&bytes);
        // And a descriptor with one byte changed.
        let mut nearly = descriptor(user(), &[entry(0x11, 0, &format!("S-1-16-{label}"))]);
        if let Some(one) = nearly.get_mut(cut) {
            *one = byte;
        }
        let _ = Origin::from_bytes(&nearly);
    }
}
