//! The tables in SECURITY.md of what each `Access` allows. They are generated and checked with
//! another implementation's access check, which gets nothing of this crate but its descriptors.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

use super::*;

const BEGIN: &str = "<!-- made by a test in src/access/table.rs: WINPIPE_BLESS=1 cargo test who_may -- --ignored -->\n";
const END: &str = "<!-- end -->\n";

/// The server's user, and another user.
const USER: &str = "S-1-5-21-1-2-3-1001";
const OTHER: &str = "S-1-5-21-1-2-3-1002";

/// The rights that one access gives to one principal: a cell of the table.
struct Cell {
    access: String,
    principal: String,
    letters: String,
}

impl Cell {
    fn may(&self, what: char) -> bool {
        self.letters.contains(what)
    }

    fn text(&self) -> String {
        let words = [
            ('c', "connect"),
            ('p', "open"),
            ('i', "instances"),
            ('x', "deaf instances"),
            ('d', "rights"),
            ('o', "own"),
        ];
        let said = words.iter().filter(|(letter, _)| self.may(*letter));
        let said: Vec<&str> = said.map(|(_, word)| *word).collect();
        if said.is_empty() {
            "–".into()
        } else {
            said.join(", ")
        }
    }
}

#[test]
#[ignore = "needs Samba's Python module; `cargo xtask test` runs it where that is"]
fn who_may_do_what_is_as_security_md_says() {
    let python = python_with_samba().expect("Samba's Python module, the package python3-samba");
    let mut tables = String::from(BEGIN);
    for (server, is_elevated) in [("an ordinary server", false), ("an elevated server", true)] {
        let rows = check(python, is_elevated);
        judge(&rows, is_elevated);
        tables += &format!("\n| the pipe of {server} |");
        rows[0]
            .iter()
            .for_each(|cell| tables += &format!(" {} |", cell.principal));
        tables += &format!("\n|{}\n", "---|".repeat(rows[0].len() + 1));
        for row in &rows {
            tables += &format!("| `{}` |", row[0].access);
            row.iter()
                .for_each(|cell| tables += &format!(" {} |", cell.text()));
            tables += "\n";
        }
    }
    tables += "\n";

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("SECURITY.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text
        .split_once(BEGIN)
        .expect("SECURITY.md has the marker where the tables begin");
    let (_, after) = rest.split_once(END).expect("and the one where they end");
    let expected = format!("{before}{tables}{END}{after}");
    if env::var_os("WINPIPE_BLESS").is_some() {
        fs::write(&path, expected).unwrap();
    } else {
        assert!(
            text == expected,
            "SECURITY.md is out of date: run this with WINPIPE_BLESS=1, then check it\n{tables}"
        );
    }
}

/// Checks what must be true of any access.
fn judge(rows: &[Vec<Cell>], is_elevated: bool) {
    for cell in rows.iter().flatten() {
        let Cell {
            access, principal, ..
        } = cell;
        let place = format!("{access} and {principal}: {}", cell.text());
        let is_self = principal.starts_with("self");
        let is_administrator =
            ["self, elevated", "administrator", "system"].contains(&&**principal);
        // A principal that can't connect can't take an instance by opening the pipe with fewer
        // rights, either.
        assert!(!cell.may('p'), "{place}");
        // No principal can change the access rights, except by using a privilege.
        assert!(!cell.may('d'), "{place}");
        assert_eq!(cell.may('o'), is_administrator, "{place}");
        // Only the server's user, or administrators, can pose as the server.
        let poses = cell.may('i') || cell.may('x');
        assert!(
            !poses
                || if is_elevated {
                    is_administrator
                } else {
                    is_self
                },
            "{place}"
        );
        if principal == "self, low integrity" {
            let is_let_in = access.contains("low_integrity") || access.contains("app_packages");
            assert_eq!(cell.may('c'), is_let_in, "{place}");
        }
        // The server itself needs both rights.
        if *principal
            == if is_elevated {
                "self, elevated"
            } else {
                "self"
            }
        {
            assert!(cell.may('c') && cell.may('i'), "{place}");
        }
        let is_local = access.contains("local_logon");
        if (access.contains("never_remote") || is_local) && principal == "self, over the network" {
            assert!(cell.letters.is_empty(), "{place}");
        }
        if is_local && principal == "self, remote desktop" {
            assert!(cell.letters.is_empty(), "{place}");
        }
        if access == "LOGON_SESSION" && principal == "self, other session" {
            assert!(!cell.may('c') && !cell.may('i'), "{place}");
        }
    }
}

/// Runs the access check for every access and every principal.
fn check(python: &str, is_elevated: bool) -> Vec<Vec<Cell>> {
    let user: Sid = USER.parse().unwrap();
    let maker = Maker {
        user,
        integrity: if is_elevated {
            Integrity::HIGH
        } else {
            Integrity::MEDIUM
        },
        logon: &|| Ok("S-1-5-5-0-77".parse()?),
        process: None,
        creator: if is_elevated {
            Sid::ADMINISTRATORS
        } else {
            user
        },
    };
    let accesses = every_access();
    let mut input = String::new();
    for (_, access) in &accesses {
        input += &access.to_sddl(&maker).unwrap();
        input += "\n";
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/access_check.py");
    let mut child = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the script failed");
    let output = String::from_utf8(output.stdout).unwrap();
    let mut lines = output.lines().map(|line| line.split('\t'));
    let principals = lines.next().unwrap();
    let rows: Vec<Vec<Cell>> = lines
        .zip(&accesses)
        .map(|(cells, (name, _))| {
            let cells = principals.clone().zip(cells);
            cells
                .map(|(principal, letters)| Cell {
                    access: name.clone(),
                    principal: principal.into(),
                    letters: letters.into(),
                })
                .collect()
        })
        .collect();
    assert_eq!(rows.len(), accesses.len());
    assert!(
        rows.iter()
            .all(|row| row.len() == principals.clone().count())
    );
    rows
}

/// Each kind of access, and some combinations, with their names in the table.
fn every_access() -> Vec<(String, Access)> {
    // This doesn't compile with a new kind of access or restriction. Add it to the list below.
    let Policy::Rules(Rules {
        first: Who::CurrentUser | Who::LogonSession | Who::Sid(_),
        others: _,
        terms:
            Terms {
                logons: Logons::Any | Logons::NotNetwork | Logons::Local,
                low_integrity: _,
                app_packages: _,
            },
    }) = Access::default().0
    else {
        unreachable!("the default is a set of rules");
    };
    let another_user: Sid = OTHER.parse().unwrap();
    macro_rules! named {
        ($($access:expr,)*) => {
            vec![$((stringify!($access).replace("Access::", ""), $access)),*]
        };
    }
    named![
        Access::CURRENT_USER,
        Access::LOGON_SESSION,
        Access::AUTHENTICATED_USERS,
        Access::EVERYONE,
        Access::ADMINISTRATORS,
        Access::from(another_user),
        Access::CURRENT_USER.or(another_user),
        Access::CURRENT_USER.never_remote(),
        Access::CURRENT_USER.local_logon(),
        Access::CURRENT_USER.low_integrity(),
        Access::CURRENT_USER.app_packages(),
        Access::LOGON_SESSION.never_remote(),
        Access::LOGON_SESSION.low_integrity(),
        Access::EVERYONE.low_integrity(),
        Access::EVERYONE.never_remote(),
    ]
}

/// Finds a Python that has Samba's modules, which are packages of the operating system.
fn python_with_samba() -> Option<&'static str> {
    ["/usr/bin/python3", "python3"].into_iter().find(|python| {
        let mut command = Command::new(python);
        command.args(["-c", "import samba.security"]);
        command.stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    })
}
