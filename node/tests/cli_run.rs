//! A node from the outside: first run, commands over its socket, end and start again.

mod cli_common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use cli_common::Home;

#[test]
fn a_first_run_tells_how_to_log_in_once() {
    let home = Home::new();
    let node = home.start("run");
    let note = home.path("first-login.txt");
    assert!(node.said.contains("first-login.txt") && !node.said.contains("password"), "{}", node.said);
    let note_text = std::fs::read_to_string(&note).expect("a note");
    for word in ["romeo@id.internal", "127.0.0.1", "password", "recovery code"] {
        assert!(note_text.contains(word), "{word}: {note_text}");
    }
    assert_eq!(cli_common::mode(&note), 0o600);
    assert!(node.stop().success());
    let node = home.start("run");
    assert!(node.said.contains("Log in as romeo@id.internal"), "{}", node.said);
    assert!(!node.said.contains("recovery"), "{}", node.said);
}

#[test]
fn chat_programs_are_answered_when_it_says_so() {
    let home = Home::new();
    let node = home.start("run");
    let address =
        node.said.split("chat programs at ").nth(1).and_then(|rest| rest.split(',').next()).expect("address");
    let mut stream = TcpStream::connect(address).expect("connected");
    let header = "<stream:stream to='id.internal' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
    stream.write_all(header.as_bytes()).expect("written");
    let mut answer = String::new();
    let mut bytes = [0; 4_096];
    while !answer.contains("</stream:features>") {
        let count = stream.read(&mut bytes).expect("answered");
        assert_ne!(count, 0, "{answer}");
        answer.push_str(&cli_common::text(&bytes[..count]));
    }
    assert!(answer.contains("SCRAM-SHA-256"), "{answer}");
}

#[test]
fn commands_go_to_the_running_node() {
    let home = Home::new();
    let node = home.start("run");
    assert_eq!(
        home.json("account add juliet --password-stdin", "wherefore\n")["login"],
        "juliet@id.internal"
    );
    assert_eq!(home.json("account list", "").as_array().map(Vec::len), Some(2));
    let status = home.json("status", "");
    assert_eq!((&status["running"], &status["accounts"]), (&true.into(), &2.into()));
    assert_eq!(home.json("peers", ""), serde_json::json!([]));
    assert_eq!(home.json("outbox", ""), serde_json::json!([]));
    home.good("doctor", "");
    home.good("account remove juliet --yes", "");
    assert_eq!(cli_common::mode(&home.path("crosstalk.sock")), 0o600);
    node.kill();
    // After a kill the socket is still there, and nobody behind it.
    assert_eq!(home.json("account list", "").as_array().map(Vec::len), Some(1));
    assert_eq!(home.json("status", "")["running"], false);
}

#[test]
fn a_second_node_in_the_same_directory_is_refused() {
    let home = Home::new();
    let node = home.start("run");
    let said = home.bad("run", "", 6);
    assert!(said.contains(&node.id().to_string()), "{said}");
}

#[test]
fn a_port_in_use_is_named_with_its_setting() {
    let home = Home::new();
    let used = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = used.local_addr().expect("address");
    home.settings(&format!("[xmpp]\nlisten = [\"{address}\"]\n[overlay]\nport = 0\nmdns = false\n"));
    let said = home.bad("run", "", 7);
    assert!(said.contains(&address.to_string()) && said.contains("[xmpp]"), "{said}");
    let quiet = "[xmpp]\nlisten = [\"127.0.0.1:0\"]\n[overlay]\nlisten = [\"127.0.0.1\"]\nmdns = false\n";
    home.settings(&format!("{quiet}port = {}\n", address.port()));
    let said = home.bad("run", "", 7);
    assert!(said.contains("[overlay]"), "{said}");
}

#[test]
fn a_domain_is_said_once() {
    let home = Home::new();
    let node = home.start("run --domain office.example");
    let note = std::fs::read_to_string(home.path("first-login.txt")).expect("a note");
    assert!(note.contains("romeo@office.example"), "{note}");
    assert!(node.stop().success());
    let node = home.start("run");
    assert!(node.said.contains("romeo@office.example"), "{}", node.said);
    assert!(node.stop().success());
    home.bad("run --domain other.example", "", 3);
}
