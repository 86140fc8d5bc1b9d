//! A contact list as long as it may be, half of it online: a client that reads slowly gets all of it through its socket, and all of
//! it again when it resumes its stream (XEP-0198).

use std::collections::BTreeMap;

use crosstalk_overlay::id::XID_DOMAIN;
use crosstalk_overlay::keys::{DeviceKey, NodeKey, SealingKey, UserKey};
use crosstalk_overlay::record::DeviceCert;
use crosstalk_overlay::time::Now;
use tokio::net::TcpSocket;

use super::*;
use crate::core::admin::{Command, NewAccount};
use crate::core::io::ScramKeys;
use crate::core::{Core, Output, Settings as CoreSettings, Setup};

const BEGIN: u64 = 1_800_000_000_000;
/// Contacts of anna, of whom every second is here.
const CONTACTS: u32 = 5_000;
/// Connections of people who are here: those of the door have smaller numbers.
const HERE: u64 = 1 << 32;
/// What a commit takes.
const COMMIT: Duration = Duration::from_millis(20);
/// How long the client looks elsewhere.
const SLOW: Duration = Duration::from_millis(500);

/// A core whose commits are durable at once.
struct World {
    core: Core,
    now: Now,
}

fn seed(number: u32, kind: u8) -> [u8; 32] {
    let mut seed = [kind; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    seed
}

impl World {
    fn new() -> Self {
        let settings = CoreSettings { visible: false, account_limit: 10_000, ..CoreSettings::default() };
        let (node, contents) = (NodeKey::from_seed([7; 32]), crosstalk_storage::Contents::default());
        let setup = Setup { node, seed: [1; 32], settings, contents, keys: BTreeMap::new(), built: BEGIN };
        let now = Now { mono: 0, wall: BEGIN };
        Self { core: Core::new(setup, now).unwrap(), now }
    }

    fn handle(&mut self, input: Input) {
        self.now = Now { mono: self.now.mono + 1, wall: self.now.wall + 1 };
        self.core.handle(input, self.now);
        while let Some(output) = self.core.poll_output() {
            if let Output::Commit { batch, .. } = output {
                self.core.handle(Input::Committed { batch }, self.now);
            }
        }
    }

    fn account(&mut self, number: u32) -> UserId {
        let seed = seed(number, 1);
        let (key, device) = (UserKey::from_seed(seed), DeviceKey::from_seed(seed));
        let keys = || ScramKeys {
            salt: vec![0; 16],
            iterations: 4_096,
            stored_key: vec![0; 20],
            server_key: vec![0; 20],
        };
        let user = key.id();
        let account = NewAccount {
            name: format!("u{number}"),
            domain: XID_DOMAIN.to_owned(),
            user,
            device_cert: DeviceCert::issue(&key, device.id(), BEGIN).unwrap().bytes().to_vec(),
            device,
            sealing: SealingKey::from_seed(seed, BEGIN),
            name_cert: None,
            credentials: Credentials { user, sha1: keys(), sha256: keys() },
            sealed_by_password: Vec::new(),
            sealed_by_recovery: Vec::new(),
            nickname: format!("User number {number}"),
        };
        self.admin(Command::AddAccount(Box::new(account)));
        user
    }

    fn admin(&mut self, command: Command) {
        self.handle(Input::Admin { request: self.now.mono, command: Box::new(command) });
    }

    fn says(&mut self, conn: u64, xml: &str) {
        let all = format!("<all xmlns='jabber:client'>{xml}</all>");
        let elements = Element::read(all.as_bytes()).unwrap().into_children().collect();
        self.handle(Input::Elements { conn: ConnId(conn), elements });
    }

    fn enters(&mut self, conn: u64, user: UserId) {
        self.handle(Input::Authenticated { conn: ConnId(conn), user });
        self.says(conn, &BIND.replace("here", "desk"));
        self.says(conn, "<presence><show>away</show><status>in the middle of something</status></presence>");
    }
}

/// The core's event loop: what came is one batch, and is durable a moment later.
async fn runs(mut world: World, mut inputs: mpsc::Receiver<Input>, clients: Clients) {
    while let Some(first) = inputs.recv().await {
        world.now.mono += 1;
        world.core.handle(first, world.now);
        while let Ok(input) = inputs.try_recv() {
            world.core.handle(input, world.now);
        }
        loop {
            let mut batches = Vec::new();
            while let Some(output) = world.core.poll_output() {
                match output {
                    Output::Commit { batch, .. } => batches.push(batch),
                    Output::Client { conn, data } => clients.send(conn, data),
                    Output::CloseClient { conn, error } => clients.close(conn, error),
                    _ => {}
                }
            }
            if batches.is_empty() {
                break;
            }
            tokio::time::sleep(COMMIT).await;
            for batch in batches {
                world.core.handle(Input::Committed { batch }, world.now);
            }
        }
    }
}

/// Anna, with all her contacts.
fn world() -> (World, UserId) {
    let mut world = World::new();
    let anna = world.account(0);
    world.enters(HERE, anna);
    let address = |user: &UserId| format!("{}@{XID_DOMAIN}", user.xid());
    for number in 1..=CONTACTS {
        let conn = HERE + u64::from(number);
        let here = (number % 2 == 0).then(|| world.account(number));
        let jid = address(&here.unwrap_or_else(|| UserId::from_bytes(seed(number, 2))));
        let item =
            format!("<item jid='{jid}' name='Contact number {number}'><group>Everybody</group></item>");
        world.says(
            HERE,
            &format!("<iq type='set' id='r'><query xmlns='jabber:iq:roster'>{item}</query></iq>"),
        );
        if let Some(user) = here {
            world.enters(conn, user);
            world.says(HERE, &format!("<presence type='subscribe' to='{jid}'/>"));
            world.says(conn, &format!("<presence type='subscribed' to='{}'/>", address(&anna)));
        }
    }
    world.handle(Input::Ended { conn: ConnId(HERE), how: Ending::Closed });
    (world, anna)
}

/// A client that holds little unread, and has logged in.
async fn anna(node: &TestNode) -> Client {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(32 << 10).unwrap();
    let mut client = Client::new(socket.connect(node.door.listen[0]).await.unwrap());
    client.open().await;
    client.plain("anna", "secret").await;
    client.expect("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
    client.open().await;
    client
}

const BIND: &str = "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>here</resource></bind></iq>";
const ENABLE: &str = "<enable xmlns='urn:xmpp:sm:3' resume='true'/>";
const ENTER: &str = "<iq type='get' id='list'><query xmlns='jabber:iq:roster'/></iq><presence/>";
const LAST: &str = "<iq type='get' id='last' to='id.internal'><ping xmlns='urn:xmpp:ping'/></iq>";

fn has_everybody(seen: &str) {
    let count = |what: &str| seen.matches(what).count();
    let here = CONTACTS as usize / 2;
    assert_eq!(count("<item "), CONTACTS as usize);
    assert_eq!((count("/desk'"), count("<status>in the middle")), (here, here));
    // And the client itself.
    assert_eq!(count("<presence "), here + 1);
}

#[tokio::test]
async fn a_client_gets_the_longest_list_and_all_who_are_online() {
    let (world, user) = world();
    let mut node = TestNode::start(|_| {}).await;
    account(&node.directory, "anna", "secret", user);
    let inputs = std::mem::replace(&mut node.inputs, mpsc::channel(1).1);
    let running = tokio::spawn(runs(world, inputs, node.door.clients.clone()));

    let mut plain = anna(&node).await;
    plain.send([BIND, ENTER, LAST].concat()).await;
    tokio::time::sleep(SLOW).await;
    has_everybody(&plain.expect("id='last'").await);
    drop(plain);

    let mut managed = anna(&node).await;
    managed.send([BIND, ENABLE, ENTER, LAST].concat()).await;
    let enabled = managed.expect("<enabled ").await + &managed.expect("/>").await;
    let id = enabled.rsplit("id='").next().and_then(|id| id.split('\'').next()).unwrap().to_owned();
    tokio::time::sleep(SLOW).await;
    has_everybody(&managed.expect("id='last'").await);
    // It has acknowledged nothing, and gets all of it again.
    drop(managed);
    let mut resumed = anna(&node).await;
    resumed.send(format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>")).await;
    resumed.expect("<resumed ").await;
    tokio::time::sleep(SLOW).await;
    has_everybody(&resumed.expect("id='last'").await);
    running.abort();
}
