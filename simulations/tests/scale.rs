//! The model of the hash table keeps what it claims and fits real swarms; its programs and the report say what is wrong, and
//! keep what was computed.

#![allow(clippy::panic, clippy::expect_used, clippy::disallowed_methods, reason = "tests")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crosstalk_simulations::scale::{CROWDS, Figures, Sessions, Setting, calibrated, compare, run};
use rustix::process::{Pid, Signal, kill_process};

const HOUR: u64 = 3_600_000;
const SCALE: &str = env!("CARGO_BIN_EXE_crosstalk-scale");
const REPORT: &str = env!("CARGO_BIN_EXE_crosstalk-report");

fn whole(setting: Setting) -> Figures {
    run(setting, |_| ControlFlow::Continue(())).expect("nobody stops it")
}

/// A folder of this test alone.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn output(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().expect("it runs")
}

/// It ends with code 2 and says this.
fn refuses(program: &str, arguments: &[&str], says: &[&str]) {
    let output = output(program, arguments);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
    for word in says {
        assert!(text.contains(word), "{word} is not in: {text}");
    }
}

fn press_ctrl_c(child: &Child) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process");
    kill_process(pid, Signal::INT).expect("a signal");
}

#[test]
fn hops_follow_the_logarithm_that_is_computed_and_nearly_all_is_found_while_nodes_come_and_go() {
    for nodes in [300, 3_000] {
        let setting = Setting {
            records: 100,
            lookups: 3_000,
            letters: 200,
            ..Setting::new(nodes, HOUR, Sessions::PUBLISHED)
        };
        let figures = whole(setting);
        let off = figures.hops.mean / figures.predicted_hops - 1.0;
        assert!(off.abs() < 0.1, "{nodes}: {} hops, {} predicted", figures.hops.mean, figures.predicted_hops);
        assert!(figures.success >= 0.999, "{nodes}: {}", figures.success);
        assert!(figures.found_in_an_hour > 0.97, "{nodes}: {}", figures.found_in_an_hour);
        // Nobody is asked, or holds, many times as much as others.
        assert!(figures.load.p99 < 5.0 * figures.load.median, "{nodes}: {:?}", figures.load);
        assert!(figures.held.p99 < 5.0 * figures.held.mean, "{nodes}: {:?}", figures.held);
    }
}

#[test]
fn the_model_fits_real_swarms_of_the_same_size() {
    for crowd in CROWDS {
        let compared = compare(*crowd, &whole(Setting { lookups: 1_000, ..calibrated(crowd) }));
        let near = |model: f64, real: f64, part: f64| (model / real - 1.0).abs() < part;
        assert!(near(compared.asked, crowd.asked, 0.2), "{compared:?}");
        assert!(near(compared.success, crowd.success, 0.01), "{compared:?}");
        assert!(crowd.hops.is_none_or(|hops| near(compared.hops, hops, 0.1)), "{compared:?}");
        assert!((1.0..=3.0).contains(&compared.hops), "{compared:?}");
    }
}

#[test]
fn wrong_arguments_and_full_disks_are_told() {
    refuses(SCALE, &["--nodes", "5"], &["5 is not in 20..=4000000"]);
    refuses(SCALE, &["--hours", "many"], &["\"many\" is no number of hours"]);
    refuses(SCALE, &["--calibrate", "--copies", "3"], &["cannot be used with"]);
    refuses(
        SCALE,
        &["--nodes", "20", "--csv", "/nowhere/at/all.csv"],
        &["/nowhere/at/all.csv", "No such file"],
    );
    refuses(SCALE, &["--nodes", "20", "--csv", "/dev/full"], &["/dev/full", "No space left"]);
    refuses(REPORT, &["--minutes", "0"], &["no number of minutes"]);
    refuses(REPORT, &["--chapters", "scale,weather"], &["no chapter weather", "--list"]);
    let folder = folder("full");
    let file = folder.join("file");
    fs::write(&file, "").expect("a file");
    let short = ["--minutes", "0.05", "--chapters", "churn", "--into"];
    refuses(REPORT, &[&short[..], &[&*file.to_string_lossy()]].concat(), &["file", "exists"]);
    // The disk is full when the table is written: what it has replaced is told, and where the rest stands.
    symlink("/dev/full", folder.join("churn-copies.csv")).expect("a link");
    let path = folder.to_string_lossy().into_owned();
    refuses(REPORT, &[&short[..], &[&path]].concat(), &["churn-copies.csv: No space left", "stands in"]);
    assert!(!folder.join("index.html").exists());
}

#[test]
fn who_presses_ctrl_c_keeps_the_sizes_that_were_modelled() {
    let csv = folder("scale").join("sizes.csv");
    let sizes = vec!["20"; 500].join(",");
    let mut child = Command::new(SCALE)
        .args(["--nodes", &sizes, "--hours", "0.1", "--csv", &csv.to_string_lossy()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut lines = BufReader::new(child.stdout.take().expect("its output"));
    let mut text = String::new();
    lines.read_line(&mut text).expect("the first size");
    press_ctrl_c(&child);
    lines.read_to_string(&mut text).expect("the rest");
    assert_eq!(child.wait().expect("its end").code(), Some(130), "{text}");
    let modelled = text.matches("of them here").count();
    assert!((1..500).contains(&modelled) && text.contains("stopped:"), "{modelled}");
    assert_eq!(fs::read_to_string(csv).expect("the file").lines().count(), 1 + modelled);
}

#[test]
fn who_presses_ctrl_c_keeps_the_chapters_that_were_computed() {
    let folder = folder("stopped");
    let page = folder.join("index.html");
    let mut child = Command::new(REPORT)
        .args(["--minutes", "60", "--chapters", "calibration,scale", "--into", &folder.to_string_lossy()])
        .stdout(Stdio::null())
        .spawn()
        .expect("it runs");
    let patience = Instant::now() + Duration::from_secs(120);
    while !page.exists() {
        assert!(Instant::now() < patience && child.try_wait().expect("its state").is_none(), "no page");
        std::thread::sleep(Duration::from_millis(20));
    }
    press_ctrl_c(&child);
    assert_eq!(child.wait().expect("its end").code(), Some(130));
    let text = fs::read_to_string(page).expect("the page");
    assert!(text.contains("The model beside real swarms") && text.contains("Stopped before it was complete"));
    let rows = fs::read_to_string(folder.join("calibration-crowds.csv")).expect("the table");
    assert_eq!(rows.lines().count(), 1 + CROWDS.len());
}

/// Two rows of the benchmark as it writes them, flat; one more failed.
const SIDE_BY_SIDE: &str = r#"{"machine": "2 x a processor", "clients": 520, "message_bytes": 150, "seconds": 10, "rows": [
    {"server": "crosstalk", "version": "0.1.0", "setup": "two", "mode": "plain", "run": "one a second to 1", "cpu": "0",
     "confined": "CPU 0, 1024 MiB by control group v1 each", "messages.latency.p50_us": 900.5, "messages.latency.p95_us": 1300,
     "messages.latency.p99_us": 1750.2, "messages.latency.max_us": 6000, "messages.delivered_per_second": 520.1, "messages.lost": 0,
     "messages.server_cpu_us": 390.4, "highest_mib": 61.2, "messages.unknown": [1]},
    {"server": "prosody", "setup": "one", "mode": "sm", "run": "one a second to 20", "error": "it fell over"}]}"#;

#[test]
fn what_was_measured_before_is_shown_and_what_cannot_be_read_is_said() {
    let folder = folder("measured");
    let path = folder.to_string_lossy().into_owned();
    fs::write(folder.join("side-by-side.json"), SIDE_BY_SIDE).expect("a file");
    fs::write(folder.join("crowd.json"), "{\"nodes\": 50").expect("a file");
    let chapters =
        ["--minutes", "1", "--chapters", "side-by-side,calibration", "--into", &path, "--measured", &path];
    assert!(output(REPORT, &chapters).status.success());
    let page = fs::read_to_string(folder.join("index.html")).expect("the page");
    for has in [
        "2 x a processor",
        "1024 MiB by control group v1 each",
        "1.75",
        "it fell over",
        "crosstalk, two",
        "15 ms",
    ] {
        assert!(page.contains(has), "{has}");
    }
    assert!(page.contains("crowd.json: EOF while parsing"), "half a file is no file");
    let rows = fs::read_to_string(folder.join("side-by-side-loads.csv")).expect("the table");
    assert_eq!(
        rows.lines().nth(1),
        Some("crosstalk 0.1.0,two,plain,one a second to 1,0.90,1.30,1.75,6.00,520,0,–,–,390.4,61.2,–")
    );
    // Nothing measured: it is said how.
    let chapters =
        ["--minutes", "0.05", "--chapters", "side-by-side", "--into", &path, "--measured", "/nowhere"];
    assert!(output(REPORT, &chapters).status.success());
    let page = fs::read_to_string(folder.join("index.html")).expect("the page");
    assert!(page.contains("side-by-side --paper"), "{page}");
}

#[test]
fn a_report_is_one_page_with_its_tables_and_plots_beside_it_and_ends_in_time() {
    let folder = folder("report");
    let begin = Instant::now();
    let path = folder.to_string_lossy().into_owned();
    let output =
        output(REPORT, &["--minutes", "0.05", "--chapters", "scenarios,delay,churn", "--into", &path]);
    assert!(output.status.success(), "{output:?}");
    assert!(begin.elapsed() < Duration::from_secs(120), "{:?}", begin.elapsed());
    let page = fs::read_to_string(folder.join("index.html")).expect("the page");
    assert!(!page.contains("src=") && !page.contains("href=\"http"), "it needs nothing from elsewhere");
    for name in [
        "scenarios-runs.csv",
        "scenarios-speed.svg",
        "delay-delays.csv",
        "delay-delays.svg",
        "churn-copies.csv",
        "churn-copies.svg",
    ] {
        let text = fs::read_to_string(folder.join(name)).unwrap_or_else(|why| panic!("{name}: {why}"));
        let begins = if name.ends_with("svg") { text.starts_with("<svg") } else { text.contains(",") };
        assert!(begins, "{name}: {text}");
    }
    assert!(page.contains("ended before it was complete"), "three seconds are not enough for all of it");
    assert!(page.contains("two_laptops") && page.contains(" 0 broken promises"), "{page}");
}
