//! Owns the tests of whole runs against the sink, faultless and faulty.

use super::options::Options;
use super::report::{Messages, Report};
use super::run::run;
use super::sink::{Faults, Sink};
use clap::Parser;

fn load(sink: &Sink, arguments: &str) -> Report {
    let server = sink.address().to_string();
    let short = ["crosstalk-load", "--server", &server, "--settle", "0", "--warmup", "0", "--duration", "1"];
    let options = Options::parse_from(short.into_iter().chain(arguments.split_whitespace()));
    run(&options).unwrap()
}

fn messages(sink: &Sink, arguments: &str) -> Messages {
    load(sink, arguments).messages.unwrap()
}

#[test]
fn a_window_runs_without_a_loss() {
    let sink = Sink::start().unwrap();
    let report = load(&sink, "--clients 10 --window 4");
    assert_eq!(report.logins.example_jid, "0@sink/load");
    let messages = report.messages.unwrap();
    assert!(messages.throughput > 1000.0, "{messages}");
    assert_eq!((messages.lost, messages.repeated, messages.reordered, messages.bounced), (0, 0, 0, 0));
    assert!(messages.latency.p50_us > 0.0 && messages.latency.count > 1000);
    assert_eq!((report.disconnected, report.first_problem), (0, None));
}

#[test]
fn a_rate_is_kept_exactly() {
    let sink = Sink::start().unwrap();
    let messages = messages(&sink, "--clients 10 --rate 2000 --to bare --fanout 3");
    assert_eq!((messages.sent + messages.withheld, messages.lost), (2000, 0));
}

#[test]
fn with_acknowledgements_everything_is_acknowledged() {
    let sink = Sink::start().unwrap();
    for pace in ["--window 1", "--window 16", "--rate 1000"] {
        let messages = messages(&sink, &format!("--clients 6 --sm --sm-every 3 {pace}"));
        assert_eq!((messages.lost, messages.unacked), (0, Some(0)), "{pace}");
        assert!(messages.ack_latency.unwrap().count > 500, "{pace}");
    }
}

/// Each sink passes on to its own clients only, and numbers them from 0: what is for the other one does not arrive.
#[test]
fn clients_of_two_servers_are_on_them_in_turn() {
    let (sink, other) = (Sink::start().unwrap(), Sink::start().unwrap());
    let other = other.address();
    let report = load(&sink, &format!("--server {other} --clients 8 --idle"));
    assert_eq!(report.server, format!("{}, {other}", sink.address()));
    assert_eq!(report.logins.sessions, 8);
    // Client 0 is the first of the first server, and client 1 of the second.
    let alone = load(&sink, "--clients 2 --idle");
    assert_eq!(alone.logins.example_jid, "4@sink/load", "four of the eight were here");
}

#[test]
fn lost_repeated_reordered_and_returned_messages_are_told_apart() {
    let run = |faults| {
        let sink = Sink::with_faults(faults).unwrap();
        messages(&sink, "--clients 2 --rate 1000 --drain 1")
    };
    let found = run(Faults { drop: 100, ..Faults::default() });
    assert_eq!((found.lost, found.repeated, found.reordered, found.bounced), (10, 0, 0, 0));
    let found = run(Faults { repeat: 50, ..Faults::default() });
    assert_eq!((found.lost, found.repeated, found.reordered, found.bounced), (0, 20, 0, 0));
    let found = run(Faults { bounce: 200, ..Faults::default() });
    assert_eq!((found.lost, found.repeated, found.reordered, found.bounced), (0, 0, 0, 5));
    let found = run(Faults { swap: 99, ..Faults::default() });
    assert_eq!((found.lost, found.repeated, found.reordered, found.bounced), (0, 0, 10, 0));
}

#[test]
fn idle_logs_in_and_measures_this_process() {
    let sink = Sink::start().unwrap();
    let report = load(&sink, &format!("--clients 20 --idle --register --pid {}", std::process::id()));
    assert!(report.messages.is_none());
    assert!(report.logins.resident_after_kib.unwrap() > 500);
    assert!(report.logins.server_cpu_ms_per_login.is_some());
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let sink = Sink::start().unwrap();
    let address = sink.address().to_string();
    drop(sink);
    let error =
        run(&Options::parse_from(["x", "--server", &address, "--clients", "2"])).unwrap_err().to_string();
    assert!(error.contains(&address) && error.contains("is the server running"), "{error}");
}
