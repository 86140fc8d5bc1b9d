//! Every fuzz target over its committed corpus and over mutations of it, on any compiler, in some seconds.

#![expect(clippy::expect_used, clippy::panic, reason = "a test says what it needs")]

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use crosstalk_simulations::fuzz::{MAX_INPUT, TARGETS, Target, mutated};

/// Mutations of each target's corpus; `CROSSTALK_FUZZ_RUNS` sets another number.
const MUTATIONS: u64 = 3_000;
/// Most files of one target, so that a replay stays short.
const MOST_FILES: usize = 200;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

/// The corpus of a target, in the order of file names.
fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = folder().join("corpus").join(target.name);
    names(&folder)
        .into_iter()
        .map(|name| {
            let bytes = fs::read(folder.join(&name)).expect("a corpus file");
            (name, bytes)
        })
        .collect()
}

fn replay(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    let corpus = corpus(target);
    let run = |bytes: &[u8], what: String| {
        if catch_unwind(|| (target.run)(bytes)).is_err() {
            panic!("target {name} breaks a promise on {what}: {}", bytes.escape_ascii());
        }
    };
    for (file, bytes) in &corpus {
        run(bytes, format!("corpus file {file}"));
    }
    let corpus: Vec<Vec<u8>> = corpus.into_iter().map(|(_, bytes)| bytes).collect();
    let runs = std::env::var("CROSSTALK_FUZZ_RUNS").ok().and_then(|runs| runs.parse().ok());
    for number in 0..runs.unwrap_or(MUTATIONS) {
        run(&mutated(&corpus, number), format!("mutation {number}"));
    }
}

macro_rules! replayed {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })*

        #[test]
        fn every_target_is_replayed() {
            let replayed = BTreeSet::from([$(stringify!($name).to_owned()),*]);
            assert_eq!(replayed, TARGETS.iter().map(|target| target.name.to_owned()).collect());
        }
    };
}

replayed! {
    stream, stanza, txt, address, record, envelope, frame, framing, settings, admin, stored, store, key_file,
    export, socks, opening, irc, features,
}

#[test]
fn every_target_has_a_program_and_a_small_corpus() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(names(&folder().join("corpus")), targets);
    let programs = names(&folder().join("targets"));
    assert_eq!(programs, targets.iter().map(|name| format!("{name}.rs")).collect());
    for target in TARGETS {
        let corpus = corpus(target);
        assert!((1..=MOST_FILES).contains(&corpus.len()), "{}: {} files", target.name, corpus.len());
        for (name, bytes) in corpus {
            assert!(bytes.len() <= MAX_INPUT, "{}/{name}: {} bytes", target.name, bytes.len());
        }
    }
}

#[test]
fn mutations_follow_from_their_number() {
    let corpus = [b"<presence/>".to_vec(), b"<message><body>x</body></message>".to_vec()];
    let made = |numbers: std::ops::Range<u64>| -> Vec<Vec<u8>> {
        numbers.map(|number| mutated(&corpus, number)).collect()
    };
    assert_eq!(made(0..200), made(0..200));
    assert!(made(0..200).into_iter().collect::<BTreeSet<_>>().len() > 150, "hardly anything changes");
    assert!(mutated(&[], 7).is_empty());
}
