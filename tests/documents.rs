//! What the documents say of the tests: each that they name is there.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

/// The tests in a file, or in all files of a folder.
fn tests(path: &Path, found: &mut HashSet<String>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            tests(&entry.unwrap().path(), found);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        let source = fs::read_to_string(path).unwrap();
        // A test's function comes after the mark, and after other attributes.
        for test in source.split("#[test]").skip(1) {
            let (_, name) = test.split_once("fn ").unwrap();
            found.insert(name.split('(').next().unwrap().to_owned());
        }
    }
}

/// What stands between backticks in the last column of the tables whose last column is `test`, and in
/// the paragraphs that begin with `Test:` or `Example:`.
fn named(document: &str) -> Vec<&str> {
    let mut named = Vec::new();
    let mut is_ledger = false;
    let mut is_list = false;
    for line in document.lines() {
        is_list = line.starts_with("Test: ")
            || line.starts_with("Example: ")
            || (is_list && !line.is_empty());
        if is_list {
            named.extend(line.split('`').skip(1).step_by(2));
        }
        let Some(row) = line.strip_prefix('|') else {
            is_ledger = false;
            continue;
        };
        let last = row.trim_end_matches('|').rsplit('|').next().unwrap();
        match is_ledger {
            true => named.extend(last.split('`').skip(1).step_by(2)),
            false => is_ledger = last.trim() == "test",
        }
    }
    named
}

#[test]
fn every_test_that_a_document_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = HashSet::new();
    for folder in ["src", "tests"] {
        tests(&root.join(folder), &mut found);
    }
    for document in ["ARCHITECTURE.md", "SECURITY.md", "docs/TRAPS.md"] {
        let text = fs::read_to_string(root.join(document)).unwrap();
        let named = named(&text);
        assert!(named.len() > 10, "{document} names tests: {named:?}");
        for name in named {
            // A file stands for all the tests in it.
            let is_there = match name.contains('/') {
                true => root.join(name).exists(),
                false => found.contains(name),
            };
            assert!(is_there, "{document} names `{name}`, which is no test");
        }
    }
}
