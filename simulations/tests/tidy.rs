//! What the compiler does not check: purity, who may name what, first lines, file sizes.

#![expect(clippy::expect_used, reason = "a test says what it needs")]

use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file without its inline tests: beyond this it is split.
const LONGEST: usize = 500;

/// What a pure file must not contain, and why.
const IMPURE: &[(&str, &str)] = &[
    ("Instant::now", "reads a clock"),
    ("SystemTime::now", "reads a clock"),
    ("tokio::", "is asynchronous"),
    ("async fn", "is asynchronous"),
    (".await", "is asynchronous"),
    ("libp2p", "names the swarm"),
    ("std::net::Tcp", "opens sockets"),
    ("std::net::Udp", "opens sockets"),
    ("std::fs", "touches the disk"),
    ("std::thread", "starts threads"),
    ("getrandom", "draws ambient randomness"),
    ("OsRng", "draws ambient randomness"),
    ("thread_rng", "draws ambient randomness"),
    ("HashMap", "has no order"),
    ("HashSet", "has no order"),
];

/// Folders and files in which everything is pure.
const PURE: &[&str] =
    &["overlay/src", "link-local/src", "node/src/core", "node/src/features", "node/src/xmpp"];
/// But for the shells below them.
const NOT_PURE: &[&str] = &["overlay/src/swarm", "overlay/src/lib.rs", "link-local/src/net"];

/// Words that only some files may contain in code.
const NAMED_BY: &[(&str, &[&str])] = &[
    ("libp2p", &["overlay/src/swarm", "overlay/src/lib.rs"]),
    ("sled::Config", &["storage/src/engine/sled"]),
    ("tokio_postgres", &["node/src/authority/database/postgres", "node/src/authority/private.rs"]),
    ("quick_xml", &["node/src/xmpp/parse.rs", "node/src/xmpp/pie.rs", "node/src/xmpp/without.rs"]),
    ("rsasl", &["node/src/c2s", "simulations/src/load"]),
];

struct Source {
    /// From the top of the repository, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// Code without comments and inline tests.
    fn code(&self) -> String {
        let body = self.text.split("\n#[cfg(test)]").next().unwrap_or_default();
        body.lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .map(|line| format!("{line}\n"))
            .collect()
    }

    fn is_below(&self, places: &[&str]) -> bool {
        places.iter().any(|place| {
            let rest = self.path.strip_prefix(place);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || rest == ".rs")
        })
    }
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn sources() -> Vec<Source> {
    let top = top();
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = ["node", "overlay", "link-local", "storage", "simulations"]
        .iter()
        .map(|name| top.join(name))
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("text");
                let path = path.strip_prefix(&top).expect("below").to_string_lossy().replace('\\', "/");
                found.push(Source { path, text });
            }
        }
    }
    assert!(found.len() > 50, "the sources were not found");
    found
}

fn report(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn every_file_says_first_what_it_owns() {
    let missing = sources().into_iter().filter(|source| !source.text.starts_with("//!"));
    report(missing.map(|source| format!("{}: no //! line at the top", source.path)).collect());
}

#[test]
fn what_decides_is_pure() {
    let mut problems = Vec::new();
    for source in sources().into_iter().filter(|source| source.path.contains("/src/")) {
        let first_paragraph = source.text.split("\n\n").next().unwrap_or_default();
        let says = first_paragraph
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .any(|line| line.to_lowercase().split(|c: char| !c.is_alphabetic()).any(|word| word == "pure"));
        let must = source.is_below(PURE) && !source.is_below(NOT_PURE);
        if must && !says {
            problems.push(format!("{}: has to be pure, and to say so in its first lines", source.path));
        }
        if !says && !must {
            continue;
        }
        let code = source.code();
        for (word, why) in IMPURE.iter().filter(|(word, _)| code.contains(word)) {
            problems.push(format!("{}: contains `{word}`, which {why}", source.path));
        }
    }
    report(problems);
}

#[test]
fn each_foreign_thing_is_named_in_its_room_only() {
    let mut problems = Vec::new();
    for source in sources().iter().filter(|source| source.path.contains("/src/")) {
        let code = source.code();
        for (word, places) in NAMED_BY {
            if code.contains(word) && !source.is_below(places) {
                problems.push(format!("{}: names {word}; only {places:?} may", source.path));
            }
        }
    }
    report(problems);
}

#[test]
fn no_file_is_too_long_to_be_read() {
    let length =
        |source: &Source| source.text.split("\n#[cfg(test)]").next().unwrap_or_default().lines().count();
    let long =
        sources().into_iter().filter(|source| source.path.contains("/src/") && length(source) > LONGEST);
    report(long.map(|source| format!("{}: {} lines without tests", source.path, length(&source))).collect());
}
