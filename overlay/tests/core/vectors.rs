//! The bytes on the wire, as `overlay/vectors/protocol.json` keeps them for other implementations.
//!
//! After a deliberate change of the protocol: `UPDATE_VECTORS=1 cargo test -p crosstalk-overlay --test core vectors`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crosstalk_overlay::core::Live;
use crosstalk_overlay::core::state::*;
use crosstalk_overlay::enrol::{
    self, Admitted, Ask, Begin, Begun, Brought, BroughtContact, Change, Changed, Collect, Collected,
    Directory, Enrol, Enrolled, Exchange, Exchanged, Letter, Login, Look, Looked, OutsideContact, PasswordOf,
    People, Person, Prove, Refused, Salted, Scheme, Statement, Statements, Tell, Why,
};
use crosstalk_overlay::envelope::{Content, Envelope, Inner};
use crosstalk_overlay::id::{DeviceId, MessageId, NodeId};
use crosstalk_overlay::join::{JoinAnswer, JoinCode};
use crosstalk_overlay::keys::{AuthorityKey, DeviceKey, NodeKey, SealingKey, UserKey};
use crosstalk_overlay::mailbox::work::{Search, bits_of};
use crosstalk_overlay::mailbox::{Answer, Item, Kind, Offer, item_id};
use crosstalk_overlay::probe;
use crosstalk_overlay::record::*;
use crosstalk_overlay::time::{DAY, HOUR, Hlc, MINUTE};
use crosstalk_overlay::wire::{
    Frame, Hello, Listed, Relayed, Revocations, RevokedDigest, RevokedList, UserFrame, decode, encode,
};
use prost::Message as _;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sha2::{Digest as _, Sha256};

use crate::pump::{link_status, session};

pub(crate) const AT: u64 = 1_800_000_000_000;

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

pub(crate) struct Cast {
    pub(crate) user: UserKey,
    pub(crate) device: DeviceKey,
    pub(crate) sealing: SealingKey,
    pub(crate) cert: Verified<DeviceCert>,
}

pub(crate) fn cast(seed: u8) -> Cast {
    let (user, device) = (UserKey::from_seed([seed; 32]), DeviceKey::from_seed([seed + 1; 32]));
    let cert = DeviceCert::issue(&user, device.id(), AT).unwrap();
    Cast { user, device, sealing: SealingKey::from_seed([seed + 2; 32], AT), cert }
}

pub(crate) fn records() -> BTreeMap<&'static str, Vec<u8>> {
    let (alice, bob) = (cast(0x10), cast(0x20));
    let (user, device, at) = (alice.user.id(), alice.device.id(), Hlc { millis: AT, counter: 7 });
    let authority = AuthorityKey::from_seed([0x40; 32]);
    let node_key = NodeKey::from_seed([0x50; 32]);
    let name = NameCert::issue(&authority, "alice@school.example", user, 3, AT).unwrap();
    let sealing = vec![SealingPublic { public: alice.sealing.public(), created: AT }];
    let info = DeviceInfo { user, device, sealing, epoch: 1, at, expires: AT + 7 * DAY, mailboxes: vec![] };
    let info = Verified::sign(info, &alice.device, None).unwrap();
    let binding = NodeBinding::agreed(user, device, &node_key, AT, AT + 7 * DAY);
    let mut hears = [1, 2].map(|seed| NodePrefix::of(&NodeKey::from_seed([seed; 32]).id())).to_vec();
    hears.sort();
    let links = NodeLinks { node: node_key.id(), at, expires: AT + HOUR, hears };
    let hidden = LinkPresence { user, device, status: LinkStatus::default(), at, expires: AT };
    let shown = LinkPresence { user, device, status: link_status("Alice"), at, expires: AT + 2 * MINUTE };
    let presence =
        PresenceRecord { user, device, at, expires: AT + 10 * MINUTE, sessions: vec![session("desk")] };
    let contact =
        ContactRecord { from: user, to: bob.user.id(), device, side: Side::Watcher, says: Says::Request, at };
    let receipt = Receipt {
        envelope: MessageId::from_bytes([1; 16]),
        message: MessageId::from_bytes([2; 16]),
        sender: bob.device.id(),
        user,
        recipient: device,
        outcome: ReceiptOutcome::Refused(RefusalCode::Full),
    };
    let access =
        MailboxAccess { user, device, holder: NodeKey::from_seed([0x50; 32]).id(), session: 0x0102, at: AT };
    let (mailbox, owner) = (bob.user.id(), bob.device.id());
    let token = Token { serial: [7; 16], mailbox, device: owner, issued: AT, expires: AT + 90 * DAY };
    let device_void = Revocation { what: Revoked::Device(user, device), by: RevokedBy::User, since: AT };
    let by = RevokedBy::Authority(authority.id());
    let name_void = Revocation { what: Revoked::Name("alice@school.example".into(), user), by, since: AT };
    let stolen = Revocation { what: Revoked::User(user), by: RevokedBy::User, since: AT };
    let record = UserRecord::new(alice.cert.clone(), info.clone(), Some(name.clone())).unwrap();
    let what = Revoked::Device(user, DeviceKey::from_seed([0x70; 32]).id());
    let other = Revocation { what, by: RevokedBy::User, since: AT };
    let mut revoking = record.clone();
    assert!(revoking.add_revocation(Verified::sign(other, &alice.user, None).unwrap()));
    let signed = |bytes: &[u8]| bytes.to_vec();
    BTreeMap::from([
        ("device-cert", signed(alice.cert.bytes())),
        ("name-cert", signed(name.bytes())),
        ("device-info", signed(info.bytes())),
        ("node-binding", signed(Verified::sign(binding, &alice.device, None).unwrap().bytes())),
        ("link-presence", signed(Verified::sign(shown, &alice.device, None).unwrap().bytes())),
        ("link-presence-hidden", signed(Verified::sign(hidden, &alice.device, None).unwrap().bytes())),
        ("node-links", signed(Verified::sign(links, &node_key, None).unwrap().bytes())),
        ("presence", signed(Verified::sign(presence, &alice.device, None).unwrap().bytes())),
        ("contact", signed(Verified::sign(contact, &alice.device, Some(&alice.cert)).unwrap().bytes())),
        ("mailbox-access", signed(Verified::sign(access, &alice.device, Some(&alice.cert)).unwrap().bytes())),
        ("token", signed(Verified::sign(token, &bob.device, Some(&bob.cert)).unwrap().bytes())),
        ("receipt", signed(Verified::sign(receipt, &alice.device, None).unwrap().bytes())),
        ("revocation-device", signed(Verified::sign(device_void, &alice.user, None).unwrap().bytes())),
        ("revocation-name", signed(Verified::sign(name_void, &authority, None).unwrap().bytes())),
        ("rotation", signed(rotation().bytes())),
        ("introduction", signed(introduction(Some(0x44), 7).bytes())),
        ("introduction-withdrawn", signed(introduction(None, 8).bytes())),
        ("revocation-key", signed(Verified::sign(stolen, &alice.user, None).unwrap().bytes())),
        ("user-record", record.encode()),
        ("user-record-revoking", revoking.encode()),
    ])
}

/// The domain's key is handed over.
/// By the school, of an office.
fn introduction(key: Option<u8>, serial: u64) -> Verified<Introduction> {
    let key = key.map(|seed| AuthorityKey::from_seed([seed; 32]).id());
    let school = AuthorityKey::from_seed([0x40; 32]);
    Introduction::issue(&school, "school.example", ("office.example", key), serial, AT).unwrap()
}

fn rotation() -> Verified<Rotation> {
    let key = |seed| AuthorityKey::from_seed([seed; 32]);
    Rotation::issue(&key(0x40), &key(0x42), "school.example", AT).unwrap()
}

pub(crate) fn envelope() -> Envelope {
    let (alice, bob) = (cast(0x10), cast(0x20));
    let inner = Inner {
        user: alice.user.id(),
        sender: alice.device.id(),
        recipient: bob.device.id(),
        key: bob.sealing.public(),
        message: MessageId::from_bytes([4; 16]),
        epoch: 1,
        seq: 2,
        first: 1,
        sent: AT,
        content: content(),
        card: Vec::new(),
    };
    let mut rng = ChaCha20Rng::from_seed([0x60; 32]);
    Envelope::seal(MessageId::from_bytes([5; 16]), inner, &alice.device, &alice.cert, &mut rng).unwrap()
}

/// The envelope as it stands in a mailbox.
pub(crate) fn item() -> Vec<u8> {
    Item { kind: Kind::Envelope, envelope: envelope() }.encode()
}

pub(crate) fn sealed_receipts() -> Vec<u8> {
    let bob = cast(0x20);
    let mut rng = ChaCha20Rng::from_seed([0x61; 32]);
    let receipts = vec![records()["receipt"].clone()];
    let (id, key) = (MessageId::from_bytes([6; 16]), bob.sealing.public());
    Item::seal_receipts(id, bob.device.id(), key, receipts, &mut rng).unwrap().encode()
}

/// With 18 bits of work.
pub(crate) fn offer() -> Offer {
    let (mailbox, item, expires) = (cast(0x20).user.id(), item(), AT + 30 * DAY);
    let nonce = Search::new(&mailbox, &item_id(&item), expires, 18).step(u64::from(u32::MAX)).unwrap();
    Offer { mailbox, item, expires, nonce, token: Vec::new(), replica: false }
}

pub(crate) fn content() -> Content {
    Content::Stanza { from_resource: "desk".into(), to_resource: String::new(), xml: b"<message/>".to_vec() }
}

fn maker() -> NodeId {
    NodeKey::from_seed([0x50; 32]).id()
}

fn joiner() -> NodeId {
    NodeKey::from_seed([0x51; 32]).id()
}

fn code() -> JoinCode {
    JoinCode::for_link([0x77; 16], &maker())
}

fn given() -> Vec<u8> {
    let mut rng = ChaCha20Rng::from_seed([0x62; 32]);
    code().seal(&joiner(), &maker(), b"given", &mut rng).unwrap()
}

pub(crate) fn frames() -> BTreeMap<&'static str, Frame> {
    let records = records();
    let (alice, bob) = (cast(0x10), cast(0x20));
    let hello = Hello {
        version: 1,
        min_version: 1,
        agent: "crosstalk/0.1.0".into(),
        wall: AT,
        unsure: false,
        session: 0x0102,
        probe: None,
    };
    let probe = Some(probe::Offer { port: 14_775, secret: [0x51; 16] });
    let probed = Hello { probe, ..hello.clone() };
    let unsure = Hello { unsure: true, ..hello.clone() };
    let user = UserFrame { record: records["user-record"].clone(), binding: records["node-binding"].clone() };
    let relayed = Relayed {
        users: vec![user.clone()],
        links: vec![records["node-links"].clone()],
        presences: vec![records["link-presence-hidden"].clone()],
    };
    let token = records["token"].clone();
    let with_token = Offer { item: sealed_receipts(), nonce: 0, token, replica: true, ..offer() };
    let id = item_id(&item());
    let live = Live {
        from: alice.user.id(),
        from_resource: "desk".into(),
        to: bob.user.id(),
        to_resource: "phone".into(),
        xml: b"<iq/>".to_vec(),
    };
    // Alice has revoked one device: the mark of her as a scope, and the digest of that one.
    let void = mark(&[&records["revocation-device"]]);
    let scope = mark(&[b"crosstalk/1/revoked\0", &[0], alice.user.id().as_bytes()]);
    let revocations = Revocations {
        lists: vec![RevokedList { scope, have: vec![void] }],
        answer: true,
        records: vec![records["revocation-device"].clone(), records["revocation-name"].clone()],
    };
    BTreeMap::from([
        ("revoked", Frame::Revoked(vec![RevokedDigest { scope, digest: mark(&[&void]) }])),
        ("revocations", Frame::Revocations(revocations)),
        ("rotations", Frame::Rotations(vec![rotation().bytes().to_vec()])),
        ("hello", Frame::Hello(hello)),
        ("hello-probe", Frame::Hello(probed)),
        ("hello-unsure", Frame::Hello(unsure)),
        ("records", Frame::Records(vec![user])),
        ("link-presences", Frame::LinkPresences(vec![records["link-presence"].clone()])),
        ("link-absence", Frame::LinkAbsence { user: alice.user.id(), device: alice.device.id(), gone: true }),
        ("presence", Frame::Presence { to: vec![bob.user.id()], record: records["presence"].clone() }),
        ("envelope", Frame::Envelope(envelope())),
        ("receipt", Frame::Receipt(records["receipt"].clone())),
        ("live", Frame::Live(live)),
        ("heartbeat", Frame::Heartbeat),
        ("have", Frame::Have(vec![[1; 8], [2; 8]])),
        ("want", Frame::Want(vec![[2; 8]])),
        ("relayed", Frame::Relayed(relayed)),
        ("deposit", Frame::Deposit { request: 7, offer: offer() }),
        ("deposit-token", Frame::Deposit { request: 8, offer: with_token }),
        ("deposit-answer", Frame::DepositAnswer { request: 7, answer: Answer::Work(20) }),
        ("list", Frame::List(records["mailbox-access"].clone())),
        ("listing", Frame::Listing { entries: vec![Listed { id, size: 1_234 }], more: true }),
        ("fetch", Frame::Fetch(vec![id])),
        ("mail", Frame::Mail(vec![item(), sealed_receipts()])),
        ("discard", Frame::Discard(vec![id])),
        ("want-tokens", Frame::WantTokens { from: alice.user.id(), to: bob.user.id() }),
        ("join", Frame::Join { offer: code().offer(), proof: code().proof(&joiner(), &maker()) }),
        ("join-answer", Frame::JoinAnswer { offer: code().offer(), answer: JoinAnswer::Given(given()) }),
        ("join-denied", Frame::JoinAnswer { offer: code().offer(), answer: JoinAnswer::Denied }),
        ("enrol", Frame::Enrol { request: 7, ask: question().to_bytes() }),
        ("enrol-answer", Frame::EnrolAnswer { request: 7, answer: enrolled().to_bytes() }),
        ("enrol-answer-work", Frame::EnrolAnswer { request: 8, answer: wants_work().to_bytes() }),
        ("enrol-answer-elsewhere", Frame::EnrolAnswer { request: 9, answer: Vec::new() }),
        ("enrol-begin", Frame::Enrol { request: 10, ask: begin().to_bytes() }),
        ("enrol-begin-introduced", Frame::Enrol { request: 13, ask: begins_with(8).to_bytes() }),
        ("enrol-answer-begun", Frame::EnrolAnswer { request: 13, answer: begun().to_bytes() }),
        ("enrol-tell", Frame::Enrol { request: 11, ask: tell().to_bytes() }),
        ("enrol-answer-statements", Frame::EnrolAnswer { request: 11, answer: statements().to_bytes() }),
        ("enrol-exchange", Frame::Enrol { request: 12, ask: exchange().to_bytes() }),
        ("enrol-answer-exchanged", Frame::EnrolAnswer { request: 12, answer: exchanged().to_bytes() }),
        ("enrol-login-derived", Frame::Enrol { request: 13, ask: login().to_bytes() }),
        ("enrol-answer-salted", Frame::EnrolAnswer { request: 13, answer: salted().to_bytes() }),
        ("enrol-prove-scram", Frame::Enrol { request: 14, ask: prove().to_bytes() }),
        ("enrol-answer-admitted", Frame::EnrolAnswer { request: 14, answer: admitted().to_bytes() }),
        ("enrol-collect", Frame::Enrol { request: 15, ask: collect().to_bytes() }),
        ("enrol-answer-collected", Frame::EnrolAnswer { request: 15, answer: collected().to_bytes() }),
        ("enrol-change", Frame::Enrol { request: 16, ask: change().to_bytes() }),
        ("enrol-changed", Frame::Enrol { request: 17, ask: changed(Vec::new()).to_bytes() }),
        ("enrol-changed-after", Frame::Enrol { request: 18, ask: changed(vec![0, AT - 1]).to_bytes() }),
        (
            "enrol-answer-begun-password",
            Frame::EnrolAnswer { request: 18, answer: begun_password().to_bytes() },
        ),
        ("enrol-begin-looked", Frame::Enrol { request: 19, ask: begins_looking().to_bytes() }),
        ("enrol-answer-begun-looked", Frame::EnrolAnswer { request: 19, answer: begun_looking().to_bytes() }),
        ("enrol-begin-servers", Frame::Enrol { request: 19, ask: begins_knowing().to_bytes() }),
        (
            "enrol-answer-begun-servers",
            Frame::EnrolAnswer { request: 19, answer: begun_servers().to_bytes() },
        ),
        ("enrol-look", Frame::Enrol { request: 20, ask: look().to_bytes() }),
        ("enrol-answer-looked", Frame::EnrolAnswer { request: 20, answer: looked().to_bytes() }),
        ("enrol-answer-password", Frame::EnrolAnswer { request: 17, answer: password_of().to_bytes() }),
        (
            "enrol-answer-begun-directory",
            Frame::EnrolAnswer { request: 18, answer: has_directory().to_bytes() },
        ),
        ("enrol-tell-listing", Frame::Enrol { request: 18, ask: tells(LISTING).to_bytes() }),
        ("enrol-tell-profile", Frame::Enrol { request: 18, ask: tells(PROFILE).to_bytes() }),
        ("enrol-search", Frame::Enrol { request: 19, ask: search().to_bytes() }),
        ("enrol-answer-people", Frame::EnrolAnswer { request: 19, answer: people().to_bytes() }),
        ("upstream", Frame::Upstream),
        ("goodbye", Frame::Goodbye { reason: "shutting down".into() }),
    ])
}

/// With a consent that counts; what OPAQUE and the sealing made is only length here.
fn question() -> Ask {
    let (alice, authority) = (cast(0x10), AuthorityKey::from_seed([0x40; 32]));
    Ask::Enrol(Enrol {
        token: vec![0x77; 16],
        upload: vec![1; 192],
        user: alice.user.id().as_bytes().to_vec(),
        sealed: vec![2; 98],
        recovery: vec![3; 98],
        consent: enrol::consent(&alice.user, &authority.id(), "alice@school.example").to_vec(),
    })
}

fn enrolled() -> enrol::Answer {
    let (user, name) = (cast(0x10).user.id().as_bytes().to_vec(), records()["name-cert"].clone());
    enrol::Answer::Enrolled(Enrolled { user, name, sealed: vec![2; 98], recovery: vec![3; 98] })
}

fn begin() -> Ask {
    let records = records();
    Ask::Begin(Begin {
        address: "alice@school.example".into(),
        user: cast(0x10).user.id().as_bytes().to_vec(),
        certificate: records["device-cert"].clone(),
        binding: records["node-binding"].clone(),
        record: vec![4; 8],
        root: vec![5; 8],
        serial: 3,
        places: vec![6; 8],
        authority: AuthorityKey::from_seed([0x40; 32]).id().as_bytes().to_vec(),
        introduced: 0,
        looked: Vec::new(),
        servers: Vec::new(),
    })
}

/// From a laptop that has heard of introductions up to there.
fn begins_with(introduced: u64) -> Ask {
    let Ask::Begin(begin) = begin() else { unreachable!() };
    Ask::Begin(Begin { introduced, ..begin })
}

/// From a laptop that takes part in what the server keeps of presence.
fn begins_looking() -> Ask {
    let Ask::Begin(begin) = begin() else { unreachable!() };
    Ask::Begin(Begin { looked: vec![7; 8], ..begin })
}

fn begun_looking() -> enrol::Answer {
    enrol::Answer::Begun(Begun { session: 3, looks: true, looked: vec![8; 16], ..Begun::default() })
}

/// Two servers beside the one that answers, one of which says no address.
fn servers() -> enrol::Servers {
    let at = |byte: u8, places: Vec<String>| enrol::ServerAt::new(NodeId::from_bytes([byte; 32]), places);
    let list = vec![at(0x52, vec!["/ip4/192.0.2.2/tcp/14774".to_owned()]), at(0x51, Vec::new())];
    enrol::Servers::beside(&NodeId::from_bytes([0x50; 32]), list).0
}

/// From a laptop that knows them.
fn begins_knowing() -> Ask {
    let Ask::Begin(begin) = begin() else { unreachable!() };
    Ask::Begin(Begin { servers: servers().digest(), ..begin })
}

fn begun_servers() -> enrol::Answer {
    enrol::Answer::Begun(Begun { session: 3, servers: Some(servers()), ..Begun::default() })
}

/// What alice shows, and that she wants to know what two devices show.
fn look() -> Ask {
    Ask::Look(Look { session: 9, presence: records()["presence"].clone(), marks: vec![8; 16] })
}

fn looked() -> enrol::Answer {
    let seen = enrol::Seen {
        presence: records()["presence"].clone(),
        certificate: records()["device-cert"].clone(),
    };
    enrol::Answer::Looked(Looked { marks: 2, seen: vec![seen] })
}

fn begun_password() -> enrol::Answer {
    enrol::Answer::Begun(Begun { session: 3, password: Some(0), ..Begun::default() })
}

fn begun() -> enrol::Answer {
    let introductions = [introduction(Some(0x44), 9), introduction(None, 10)];
    let introductions = introductions.iter().map(|said| said.bytes().to_vec()).collect();
    enrol::Answer::Begun(Begun { session: 3, introductions, ..Begun::default() })
}

/// That alice has blocked `eve@far.example`.
fn statement() -> Statement {
    let alice = cast(0x10);
    let said = b"\x08\x01\x1a\x15\x0a\x0feve@far.example\x12\x02\x08\x09".to_vec();
    Statement::sign(&alice.user.id(), said, &alice.device)
}

fn tell() -> Ask {
    Ask::Tell(Tell { session: 9, statements: vec![statement()], record: Vec::new() })
}

fn statements() -> enrol::Answer {
    let certificates = vec![records()["device-cert"].clone()];
    enrol::Answer::Statements(Statements {
        marks: 1,
        statements: vec![statement()],
        certificates,
        full: 0,
        ahead: 0,
        unread: 0,
    })
}

fn letter(number: u64, from: &str, to: &str) -> Letter {
    let stanza = format!("<message from='{from}' to='{to}' type='chat'><body>swear not</body></message>");
    Letter { number, at: AT, stanza: stanza.into_bytes(), copy: false }
}

/// What alice wrote, and who she is online as.
fn exchange() -> Ask {
    Ask::Exchange(Exchange {
        session: 9,
        letters: vec![letter(4, "alice@school.example/desk", "romeo@stock.example")],
        queue: 5,
        come: 6,
        version: 7,
        live: vec![b"<presence from='alice@school.example/desk'/>".to_vec()],
        fresh: false,
    })
}

fn exchanged() -> enrol::Answer {
    let address = "romeo@stock.example".to_owned();
    let contact = OutsideContact { address, to: true, from: true, version: 8, ..OutsideContact::default() };
    let copied = letter(8, "alice@school.example/other", "romeo@stock.example");
    enrol::Answer::Exchanged(Exchanged {
        taken: 4,
        queue: 5,
        letters: vec![
            letter(7, "romeo@stock.example/orchard", "alice@school.example"),
            Letter { copy: true, ..copied },
        ],
        contacts: vec![contact],
        live: vec![b"<presence from='romeo@stock.example/orchard' to='alice@school.example'/>".to_vec()],
        more: true,
        up: true,
        anew: true,
    })
}

/// Of a user whom another server had: how, and then with the secret that is made so.
fn login() -> Ask {
    Ask::Login(Login {
        address: "alice@school.example".into(),
        request: vec![1; 96],
        nonce: 0,
        derived: true,
    })
}

fn salted() -> enrol::Answer {
    let scheme = Scheme::ScramSha1.into();
    enrol::Answer::Salted(Salted { scheme, salt: b"a salt of theirs".to_vec(), rounds: 10_000 })
}

fn prove() -> Ask {
    Ask::Prove(Prove { login: 1, proof: vec![2; 64], client_key: vec![3; 20] })
}

fn admitted() -> enrol::Answer {
    enrol::Answer::Admitted(Admitted { token: vec![0x77; 16] })
}

fn collect() -> Ask {
    Ask::Collect(Collect { session: 9, taken: 1 })
}

fn collected() -> enrol::Answer {
    let contact = BroughtContact {
        address: "bob@school.example".into(),
        name: "Bob".into(),
        groups: vec!["Work".into()],
        to: true,
        from: true,
        listed: true,
        ..BroughtContact::default()
    };
    let asks = BroughtContact {
        address: "eve@far.example".into(),
        ask: true,
        pending_in: true,
        ..BroughtContact::default()
    };
    let page = Brought {
        contacts: vec![contact, asks],
        blocked: vec!["spam@far.example".into()],
        nickname: "Alice".into(),
        vcard: b"<vCard xmlns='vcard-temp'/>".to_vec(),
    };
    enrol::Answer::Collected(Collected { number: 2, page: Some(page) })
}

fn change() -> Ask {
    Ask::Change(Change { session: 9, request: vec![1; 32] })
}

/// With the word of the user key.
fn changed(follows: Vec<u64>) -> Ask {
    let (alice, authority) = (cast(0x10), AuthorityKey::from_seed([0x40; 32]));
    let permit = enrol::permit(
        &alice.user,
        &authority.id(),
        "alice@school.example",
        &alice.device.id(),
        (AT, &follows),
    )
    .to_vec();
    Ask::Changed(Changed { session: 9, upload: vec![1; 192], sealed: vec![2; 139], at: AT, permit, follows })
}

fn password_of() -> enrol::Answer {
    enrol::Answer::PasswordOf(PasswordOf { at: AT })
}

/// That the directory may show alice as "Anni" and "A M", said at 9.
const LISTING: &[u8] = b"\x08\x01\xea\x03\x11\x08\x02\x12\x04Anni\x1a\x03A M\x22\x02\x08\x09";
/// That alice is called "Anni", chosen at 9, and has a vCard, made at 10.
const PROFILE: &[u8] =
    b"\x08\x01\xf2\x03\x2b\x0a\x04Anni\x12\x02\x08\x09\x1a\x1b<vCard xmlns='vcard-temp'/>\x22\x02\x08\x0a";

/// That alice says something of herself.
fn tells(said: &[u8]) -> Ask {
    let alice = cast(0x10);
    let statement = Statement::sign(&alice.user.id(), said.to_vec(), &alice.device);
    Ask::Tell(Tell { session: 9, statements: vec![statement], record: Vec::new() })
}

fn has_directory() -> enrol::Answer {
    let directory = Directory::Yes.into();
    enrol::Answer::Begun(Begun { session: 3, directory, ..Begun::default() })
}

fn search() -> Ask {
    Ask::Search(enrol::Search { session: 9, text: "anni m".into() })
}

fn people() -> enrol::Answer {
    let alice =
        Person { address: "alice@school.example".into(), nickname: "Anni".into(), full_name: "A M".into() };
    let bob = Person { address: "bob@school.example".into(), nickname: "Bob".into(), ..Person::default() };
    enrol::Answer::People(People { people: vec![alice, bob] })
}

fn wants_work() -> enrol::Answer {
    let refused = Refused { why: Why::Work.into(), wait: 0, bits: 8, challenge: vec![9; 16] };
    enrol::Answer::Refused(refused)
}

fn mark(parts: &[&[u8]]) -> [u8; 8] {
    Sha256::digest(parts.concat()).first_chunk().copied().unwrap()
}

fn stored() -> BTreeMap<&'static str, Vec<u8>> {
    let (sender, recipient) = (vec![1; 32], vec![2; 32]);
    let copy = OutboxCopy {
        device: recipient.clone(),
        epoch: 1,
        seq: 9,
        state: CopyState::Refused.into(),
        code: RefusalCode::Full.to_wire(),
        holders: Vec::new(),
    };
    let entry = OutboxEntry {
        version: STATE_VERSION,
        number: 5,
        message: vec![3; 16],
        from: vec![4; 32],
        to: vec![5; 32],
        content: content().encode(),
        created: AT,
        expires: AT + 30 * DAY,
        settled: true,
        copies: vec![copy],
    };
    let held = OutboxCopy {
        state: CopyState::Sent.into(),
        code: 0,
        holders: vec![vec![7; 32], vec![8; 32]],
        ..entry.copies[0].clone()
    };
    let deposited = OutboxEntry { settled: false, copies: vec![held], ..entry.clone() };
    let mail = StoredMail {
        version: STATE_VERSION,
        number: 6,
        mailbox: cast(0x20).user.id().as_bytes().to_vec(),
        item: item(),
        expires: AT + 30 * DAY,
        nonce: offer().nonce,
        token: records()["token"].clone(),
    };
    let token = StoredToken {
        version: STATE_VERSION,
        mailbox: cast(0x20).user.id().as_bytes().to_vec(),
        serial: vec![7; 16],
        to: cast(0x10).user.id().as_bytes().to_vec(),
        expires: AT + 90 * DAY,
        token: records()["token"].clone(),
    };
    let outbound = OutboundSequence {
        version: STATE_VERSION,
        sender: sender.clone(),
        recipient: recipient.clone(),
        epoch: 1,
        seq: 9,
    };
    let inbound = InboundSequence {
        version: STATE_VERSION,
        sender: sender.clone(),
        recipient: recipient.clone(),
        epoch: 1,
        cumulative: 9,
        holes: vec![4, 6],
        refused: vec![RefusedPlace { seq: 5, code: 2 }],
        next_slot: 8,
    };
    let seen = Seen { sender, recipient, slot: 7, message: vec![3; 16] };
    let cached = CachedUserRecord {
        version: STATE_VERSION,
        user: vec![4; 32],
        record: records()["user-record"].clone(),
        seen: AT,
    };
    let known = KnownAuthority {
        version: STATE_VERSION,
        domain: "school.example".into(),
        authority: vec![6; 32],
        how: Provenance::Enrolled.into(),
        since: AT,
        rotations: Vec::new(),
        introductions: Vec::new(),
        introduced_until: 0,
    };
    let rotated = KnownAuthority {
        authority: AuthorityKey::from_seed([0x40; 32]).id().as_bytes().to_vec(),
        rotations: vec![rotation().bytes().to_vec()],
        ..known.clone()
    };
    let introduced = KnownAuthority {
        domain: "office.example".into(),
        authority: AuthorityKey::from_seed([0x44; 32]).id().as_bytes().to_vec(),
        how: Provenance::Introduced.into(),
        introductions: vec![introduction(Some(0x44), 7).bytes().to_vec()],
        ..known.clone()
    };
    let introducing = KnownAuthority { introduced_until: 8, ..known.clone() };
    let by_hand = KnownAuthority { how: Provenance::ByHand.into(), ..known.clone() };
    let well_known = KnownAuthority { how: Provenance::WellKnown.into(), ..known.clone() };
    BTreeMap::from([
        ("known-authority-introduced", introduced.encode_to_vec()),
        ("known-authority-introducing", introducing.encode_to_vec()),
        ("known-authority-by-hand", by_hand.encode_to_vec()),
        ("known-authority-well-known", well_known.encode_to_vec()),
        ("outbox-entry", entry.encode_to_vec()),
        ("outbound-sequence", outbound.encode_to_vec()),
        ("inbound-sequence", inbound.encode_to_vec()),
        ("seen", seen.encode_to_vec()),
        ("cached-user-record", cached.encode_to_vec()),
        ("known-authority", known.encode_to_vec()),
        ("known-authority-rotated", rotated.encode_to_vec()),
        ("outbox-entry-deposited", deposited.encode_to_vec()),
        ("stored-mail", mail.encode_to_vec()),
        ("stored-token", token.encode_to_vec()),
        ("content-tokens", Content::Tokens(vec![records()["token"].clone()]).encode()),
    ])
}

fn keys() -> BTreeMap<&'static str, String> {
    let (alice, bob) = (cast(0x10), cast(0x20));
    BTreeMap::from([
        ("alice user", alice.user.id().to_hex()),
        ("alice device", alice.device.id().to_hex()),
        ("alice sealing", hex(&alice.sealing.public())),
        ("bob user", bob.user.id().to_hex()),
        ("bob device", bob.device.id().to_hex()),
        ("bob sealing", hex(&bob.sealing.public())),
        ("bob sealing secret", hex(&bob.sealing.seed()[..])),
        ("authority", AuthorityKey::from_seed([0x40; 32]).id().to_hex()),
        ("node", NodeKey::from_seed([0x50; 32]).id().to_hex()),
        ("joining node", joiner().to_hex()),
        ("join secret", hex(&[0x77; 16])),
        ("join code typed", code().typed().to_string()),
        ("join code scanned", code().at(maker(), &["/ip4/192.0.2.1/tcp/14774".into()]).scanned().to_string()),
        ("join sealed opens to", hex(b"given")),
        ("enrol work nonce", enrol::work(&[9; 16], 8).unwrap().to_string()),
    ])
}

/// Datagrams between the node of the seed 0x50 and that of 0x51, whose secrets are so too.
fn probes() -> BTreeMap<&'static str, Vec<u8>> {
    let [one, other] = [0x50, 0x51].map(|seed| NodeKey::from_seed([seed; 32]).id());
    let key = probe::Key::agree((&one, &[0x50; 16]), (&other, &[0x51; 16]));
    let seal = |sender, kind| key.seal(sender, probe::Probe { kind, number: 7 }).to_vec();
    BTreeMap::from([
        ("ask", seal(&one, probe::Kind::Ask)),
        ("answer", seal(&other, probe::Kind::Answer)),
        ("tag", key.tag().to_vec()),
    ])
}

#[test]
fn the_bytes_are_what_they_always_were() {
    let hexed = |all: BTreeMap<&'static str, Vec<u8>>| {
        all.into_iter().map(|(name, bytes)| (name, hex(&bytes))).collect::<BTreeMap<_, _>>()
    };
    let frames = frames().into_iter().map(|(name, frame)| (name, encode(&frame))).collect();
    let all = BTreeMap::from([
        ("keys", keys()),
        ("records", hexed(records())),
        ("frames", hexed(frames)),
        ("probes", hexed(probes())),
        ("stored", hexed(stored())),
    ]);
    let text = serde_json::to_string_pretty(&all).unwrap() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/protocol.json");
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert!(golden == text, "the bytes have changed: old stores and peers would not understand them");
}

#[test]
fn frames_read_back() {
    for (name, frame) in frames() {
        assert_eq!(decode(&encode(&frame)), Ok(frame), "{name}");
    }
}

#[test]
fn the_envelope_opens() {
    let bob = cast(0x20);
    let time = crosstalk_overlay::time::TrustedTime::certain(AT);
    let revocations = RevocationSet::default();
    let context =
        Context { time, certificates: &NoCertificates, revocations: &revocations, enforce_end: true };
    let inner = envelope().open(&bob.sealing, &context).unwrap();
    assert_eq!(inner.content, content());
    assert_eq!(inner.recipient, DeviceId::from_bytes(*bob.device.id().as_bytes()));
    assert_ne!(NodeId::from_bytes([0; 32]).as_bytes(), inner.sender.as_bytes());
}

#[test]
fn the_receipts_open_and_the_work_is_worth_its_bits() {
    let sealed = Item::decode(&sealed_receipts()).unwrap();
    assert_eq!(sealed.open_receipts(&cast(0x20).sealing), Ok(vec![records()["receipt"].clone()]));
    let Offer { mailbox, item, expires, nonce, .. } = offer();
    assert!(bits_of(&mailbox, &item_id(&item), expires, nonce) >= 18);
}
