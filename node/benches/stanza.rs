//! The way of a stanza: bytes to element, core, bytes. `cargo bench -p crosstalk`.

#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up has nothing to say")]

use std::collections::BTreeMap;

use crosstalk::core::admin::{Command, NewAccount};
use crosstalk::core::io::{Credentials, ScramKeys};
use crosstalk::core::{ConnId, Core, Input, Output, Settings, Setup};
use crosstalk::xmpp::Element;
use crosstalk::xmpp::framer::Framer;
use crosstalk::xmpp::parse::Limits;
use crosstalk_overlay::id::{UserId, XID_DOMAIN};
use crosstalk_overlay::keys::{DeviceKey, NodeKey, SealingKey, UserKey};
use crosstalk_overlay::record::DeviceCert;
use crosstalk_overlay::time::Now;
use crosstalk_storage::Contents;
use divan::Bencher;

const NOW: Now = Now { mono: 1_000, wall: 1_800_000_000_000 };
const OPEN: &[u8] = b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
    to='id.internal' version='1.0'>";

fn main() {
    divan::main();
}

/// A message of 150 characters.
fn message(to: &str) -> String {
    format!("<message to='{to}' type='chat' id='m1'><body>{}</body></message>", "x".repeat(150))
}

fn framer() -> Framer {
    let mut framer = Framer::new(Limits::AFTER_LOGIN);
    framer.next(&mut &*OPEN).expect("a header");
    framer
}

#[divan::bench]
fn bytes_to_element(bencher: Bencher<'_, '_>) {
    let (mut framer, text) = (framer(), message("bob@id.internal/desk"));
    bencher.bench_local(|| framer.next(&mut text.as_bytes()).expect("an element"));
}

#[divan::bench]
fn message_between_two_local_sessions(bencher: Bencher<'_, '_>) {
    let mut node = Node::new();
    let (anna, bob) = (node.login(1, "anna"), node.login(2, "bob"));
    assert_ne!(anna, bob);
    let element = Element::read(message(&bob).as_bytes()).expect("an element");
    bencher.with_inputs(|| vec![element.clone()]).bench_local_values(|elements| {
        node.core.handle(Input::Elements { conn: ConnId(1), elements }, NOW);
        let mut written = 0;
        while let Some(output) = node.core.poll_output() {
            written += usize::from(matches!(output, Output::Client { conn: ConnId(2), .. }));
        }
        assert_eq!(written, 1);
    });
}

struct Node {
    core: Core,
}

impl Node {
    fn new() -> Self {
        let setup = Setup {
            node: NodeKey::from_seed([1; 32]),
            seed: [2; 32],
            settings: Settings::default(),
            contents: Contents::default(),
            keys: BTreeMap::new(),
            built: NOW.wall,
        };
        Self { core: Core::new(setup, NOW).expect("a core") }
    }

    /// Makes an account, binds a session and makes it available. Returns its full address.
    fn login(&mut self, number: u8, name: &str) -> String {
        let user = self.account(number, name);
        let conn = ConnId(number.into());
        self.core.handle(Input::Authenticated { conn, user }, NOW);
        let bind = "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
            <resource>desk</resource></bind></iq>";
        let elements = [bind, "<presence/>"].map(|text| Element::read(text.as_bytes()).expect("an element"));
        self.core.handle(Input::Elements { conn, elements: elements.into() }, NOW);
        self.settle();
        format!("{}@{XID_DOMAIN}/desk", user.xid())
    }

    fn account(&mut self, number: u8, name: &str) -> UserId {
        let (key, device) = (UserKey::from_seed([number; 32]), DeviceKey::from_seed([number + 100; 32]));
        let cert = DeviceCert::issue(&key, device.id(), NOW.wall).expect("a certificate");
        let keys =
            || ScramKeys { salt: vec![0; 16], iterations: 4_096, stored_key: vec![], server_key: vec![] };
        let account = NewAccount {
            name: name.to_owned(),
            domain: XID_DOMAIN.to_owned(),
            user: key.id(),
            device,
            sealing: SealingKey::from_seed([number; 32], NOW.wall),
            device_cert: cert.bytes().to_vec(),
            name_cert: None,
            credentials: Credentials { user: key.id(), sha1: keys(), sha256: keys() },
            sealed_by_password: Vec::new(),
            sealed_by_recovery: Vec::new(),
            nickname: name.to_owned(),
        };
        let command = Box::new(Command::AddAccount(Box::new(account)));
        self.core.handle(Input::Admin { request: 1, command }, NOW);
        self.settle();
        key.id()
    }

    fn settle(&mut self) {
        while let Some(output) = self.core.poll_output() {
            if let Output::Commit { batch, .. } = output {
                self.core.handle(Input::Committed { batch }, NOW);
            }
        }
    }
}
