//! `crosstalk-simulate` says what is wrong with what it is asked, and keeps what it has computed.

#![allow(clippy::panic, clippy::expect_used, clippy::disallowed_methods, reason = "tests")]

use std::fs::{self, File};
use std::io::Read;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

const SIMULATE: &str = env!("CARGO_BIN_EXE_crosstalk-simulate");

fn output(arguments: &str) -> Output {
    Command::new(SIMULATE).args(arguments.split_whitespace()).output().expect("it runs")
}

/// It ends with code 2 and says this.
fn refuses(arguments: &str, says: &[&str]) {
    let output = output(arguments);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments}: {text}");
    for word in says {
        assert!(text.contains(word), "{word} is not in: {text}");
    }
}

#[test]
fn wrong_arguments_are_told() {
    refuses("--scenario nowhere", &["there is no scenario nowhere", "--list"]);
    refuses("--seeds 5..3", &["\"5..3\" is no range of seeds", "0..1000"]);
    refuses("--threads 0", &["0 is not in 1..=64"]);
    refuses("--mutants Nothing", &["no deliberate bug Nothing", "--mutants alone"]);
    refuses("--seed 3 --seeds 0..4", &["cannot be used with"]);
    refuses("--seed 3 --only 3", &["--story"]);
}

#[test]
fn a_list_of_incidents_that_cannot_be_read_or_names_none_is_told() {
    refuses("--seed 3 --story --only 3,x", &["\"x\" is no number of an incident", "3,17"]);
    refuses(
        "--scenario two_laptops --seed 3 --story --only 1,99999",
        &["seed 3 of two_laptops plans", "99999 is none of them"],
    );
    let told = output("--scenario request_refused --seed 3 --story --only -");
    assert!(told.status.success(), "{told:?}");
}

#[test]
fn a_full_disk_is_told_and_a_reader_who_has_seen_enough_is_no_error() {
    let full = File::options().write(true).open("/dev/full").expect("/dev/full");
    let told = Command::new(SIMULATE)
        .args(["--scenario", "request_refused", "--seed", "3"])
        .stdout(full)
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&told.stderr);
    assert_eq!(told.status.code(), Some(2), "{text}");
    assert!(text.contains("standard output: No space left"), "{text}");
    let mut child = Command::new(SIMULATE)
        .args(["--scenario", "request_refused", "--seed", "3", "--story"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().expect("its errors").read_to_string(&mut said).expect("its words");
    assert_eq!((child.wait().expect("its end").code(), said.as_str()), (Some(0), ""));
}

/// Whether a process catches SIGINT, by the kernel's word.
fn hears_ctrl_c(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("its signals");
    u64::from_str_radix(caught.trim(), 16).expect("a mask") >> (Signal::INT.as_raw() - 1) & 1 == 1
}

/// In the middle of a run that takes minutes, too.
#[test]
fn who_presses_ctrl_c_has_what_was_computed_at_once() {
    for story in [&[][..], &["--story"]] {
        let child = Command::new(SIMULATE)
            .args(["--scenario", "school_day_of_fifty", "--seed", "1"])
            .args(story)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        while !hears_ctrl_c(child.id()) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process");
        kill_process(pid, Signal::INT).expect("a signal");
        let ended = child.wait_with_output().expect("its end");
        let text = String::from_utf8_lossy(&ended.stdout);
        assert_eq!(ended.status.code(), Some(130), "{text}");
        let words = if story.is_empty() { "interrupted after 0 runs" } else { "ada starts" };
        assert!(text.contains(words) && text.contains("interrupted"), "{text}");
    }
}
