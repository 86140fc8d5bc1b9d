//! Power cuts: a file system on a loop device, its image copied while the writer is stopped, the copy
//! mounted and checked. Needs root and a loop device; otherwise it says loudly that it was skipped.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "helpers of tests stop at the first error, and talk to their parent or to people"
)]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::put;
use crosstalk_storage::{CommitError, Contents, Opened, Options, Store, Tree};
use rustix::process::{Pid, Signal, kill_process};

const ROUNDS: u32 = 30;
const CHILD: &str = "CROSSTALK_POWER_TEST_DIR";

fn options() -> Options {
    Options { journal_limit: 3000, ..Options::default() }
}

/// The writer; does nothing unless the test below started it.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let (mut store, contents, _) = Store::open(Path::new(&dir), options()).unwrap();
    let mut out = std::io::stdout();
    for number in next(&contents).. {
        let mut set = put(Tree::Outbox, number.to_be_bytes(), vec![9; 120]);
        set.put(Tree::Meta, "next", (number + 1).to_be_bytes());
        set.put(Tree::Seen, (number % 300).to_be_bytes(), number.to_be_bytes());
        if let Some(old) = number.checked_sub(200) {
            set.delete(Tree::Outbox, old.to_be_bytes());
        }
        store.commit(&[set]).unwrap();
        writeln!(out, "ack {number}").unwrap();
        out.flush().unwrap();
        store.maintain().unwrap();
    }
}

fn next(contents: &Contents) -> u64 {
    contents.get(Tree::Meta, b"next").map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()))
}

/// A mounted image or tmpfs; unmounted whatever happens.
struct Mount(PathBuf);

impl Mount {
    fn new(args: &[&str], at: PathBuf) -> Option<Mount> {
        std::fs::create_dir_all(&at).unwrap();
        run("mount", &[args, &[at.to_str()?]].concat()).then_some(Mount(at))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let path = self.0.to_str().unwrap();
        if !run("umount", &[path]) {
            run("umount", &["-l", path]);
        }
    }
}

/// The writer; killed whatever happens.
struct Writer(Child);

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(program: &str, args: &[&str]) -> bool {
    Command::new(program)
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// Says that a test was skipped, or fails if nothing may be skipped.
fn skip(what: &str) {
    assert!(std::env::var_os("CROSSTALK_REQUIRE_ALL").is_none(), "{what} is not possible here: {NEEDS}");
    eprintln!("\n*** SKIPPED: {what}. {NEEDS} ***\n");
}
const NEEDS: &str = "It needs root, mount, mkfs.ext4 and a free loop device";

/// Starts the writer, stops it at some moment after `enough` acknowledgements, and copies the image.
fn cut(store: &Path, image: &Path, copy: &Path, enough: u64, spin: u64) -> u64 {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(CHILD, store)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut writer = Writer(child);
    let lines = BufReader::new(writer.0.stdout.take().unwrap()).lines();
    let mut acks =
        lines.map_while(Result::ok).filter_map(|line| line.rsplit_once("ack ")?.1.parse::<u64>().ok());
    let mut acked = 0;
    for _ in 0..enough {
        acked = acks.next().unwrap();
    }
    (0..spin).for_each(|turn| _ = std::hint::black_box(turn));
    let pid = Pid::from_child(&writer.0);
    kill_process(pid, Signal::STOP).unwrap();
    let stat = format!("/proc/{}/stat", writer.0.id());
    while !std::fs::read_to_string(&stat).unwrap().contains(") T ") {
        std::thread::yield_now();
    }
    // A file of its own each time: a loop device that has not let go of the last one would show that.
    let _ = std::fs::remove_file(copy);
    std::fs::copy(image, copy).unwrap();
    writer.0.kill().unwrap();
    acks.last().unwrap_or(acked)
}

#[test]
fn thirty_power_cuts_lose_nothing_acknowledged() {
    let home = tempfile::Builder::new().prefix("crosstalk-power-").tempdir().unwrap();
    let (image, copy) = (home.path().join("image"), home.path().join("copy"));
    std::fs::File::create(&image).unwrap().set_len(48 << 20).unwrap();
    if !run("mkfs.ext4", &["-q", "-F", image.to_str().unwrap()]) {
        return skip("the power cut test");
    }
    let Some(live) = Mount::new(&["-o", "loop", image.to_str().unwrap()], home.path().join("live")) else {
        return skip("the power cut test");
    };
    let mut random = 0x9E37_79B9_7F4A_7C15u64;
    let mut replayed = 0;
    for round in 0..ROUNDS {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let acked = cut(&live.0.join("store"), &image, &copy, 1 + random % 120, random % 3_000_000);
        let after = Mount::new(&["-o", "loop", copy.to_str().unwrap()], home.path().join("after")).unwrap();
        let (store, contents, opened) = Store::open(&after.0.join("store"), options()).unwrap();
        assert!(!matches!(opened, Opened::Rebuilt(_) | Opened::Fresh), "round {round}: {opened}");
        replayed += u32::from(opened != Opened::Clean);
        let next = next(&contents);
        assert!(next == acked + 1 || next == acked + 2, "round {round}: {acked} acked, next is {next}");
        let kept = contents.tree(Tree::Outbox).map(|(key, _)| u64::from_be_bytes(key.try_into().unwrap()));
        assert!(kept.eq(next.saturating_sub(200)..next), "round {round}");
        for number in next.saturating_sub(300)..next {
            let seen = contents.get(Tree::Seen, &(number % 300).to_be_bytes());
            assert_eq!(seen, Some(number.to_be_bytes().as_slice()), "round {round}");
        }
        drop(store);
    }
    eprintln!("{ROUNDS} power cuts, {replayed} with a journal to replay");
}

#[test]
fn a_full_disk_refuses_a_commit_and_the_store_goes_on() {
    let home = tempfile::Builder::new().prefix("crosstalk-full-").tempdir().unwrap();
    let Some(mount) = Mount::new(&["-t", "tmpfs", "-o", "size=16m", "tmpfs"], home.path().join("small"))
    else {
        return skip("the test of a full disk");
    };
    let dir = mount.0.join("store");
    let (mut store, mut model, _) = Store::open(&dir, options()).unwrap();
    let ballast = mount.0.join("ballast");
    let mut refusals = 0;
    for number in 0..400u64 {
        if number % 100 == 50 {
            // Fill what is left to the last byte.
            let mut file = std::fs::File::create(&ballast).unwrap();
            while file.write_all(&[0; 512]).is_ok() {}
        }
        let set = put(Tree::Outbox, (number % 60).to_be_bytes(), vec![5; 200]);
        match store.commit(std::slice::from_ref(&set)) {
            Ok(()) => model.apply(&set),
            Err(CommitError::Full { path }) => {
                refusals += 1;
                assert!(path.ends_with("journal"));
            }
            Err(other) => panic!("{other}"),
        }
        if let Err(error) = store.maintain() {
            assert!(error.to_string().contains("disk is full"), "{error}");
        }
        if number % 100 == 99 {
            std::fs::remove_file(&ballast).unwrap();
        }
    }
    assert!(refusals > 50, "the disk was never full: {refusals}");
    store.commit(&[put(Tree::Meta, "space", "again")]).unwrap();
    store.checkpoint().unwrap();
    model.apply(&put(Tree::Meta, "space", "again"));
    let (store, contents, opened) = store.crash().unwrap();
    assert_eq!((&contents, opened), (&model, Opened::Clean));
    drop(store);
}
