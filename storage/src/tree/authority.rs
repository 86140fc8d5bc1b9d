//! What the server of a domain keeps, in a store of its own: the domain, its users, invitations, the audit log. *Pure.*

use crosstalk_overlay::enrol::{Brought, Seen, Statement};

use crate::Tree;
use crate::codec::Stored;

/// The domain that is served; at [`DOMAIN_KEY`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ServedDomain {
    /// As in addresses.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// Unix milliseconds.
    #[prost(uint64, tag = "2")]
    pub created: u64,
    /// Public key of the authority: another key file beside this database is a mistake.
    #[prost(bytes = "vec", tag = "3")]
    pub authority: Vec<u8>,
    /// Digest of what passwords are registered with; empty until the server has run once. With another one nobody's
    /// password is right any more.
    #[prost(bytes = "vec", tag = "4")]
    pub enrolment: Vec<u8>,
    /// Signed Rotations that led to the present key, the oldest first.
    #[prost(bytes = "vec", repeated, tag = "5")]
    pub rotations: Vec<Vec<u8>>,
}

/// What the domain says of another one; keyed by that one.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StoredIntroduction {
    /// The signed Introduction that counts.
    #[prost(bytes = "vec", tag = "1")]
    pub signed: Vec<u8>,
}

impl Stored for StoredIntroduction {
    const TREE: Tree = Tree::Introduced;
    const VERSION: u8 = 1;
}

/// The one key in the tree of [`ServedDomain`].
pub const DOMAIN_KEY: &[u8] = b"domain";

impl Stored for ServedDomain {
    const TREE: Tree = Tree::ServedDomain;
    const VERSION: u8 = 1;
}

/// Where a user of the domain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum MemberState {
    /// Was never enrolled, or is to be enrolled anew.
    New = 0,
    /// Has a key, a name and a password.
    Enrolled = 1,
    /// The name was taken back.
    Disabled = 2,
}

/// A user of the domain; keyed by the name before the `@`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Member {
    /// Where the user stands.
    #[prost(enumeration = "MemberState", tag = "1")]
    pub state: i32,
    /// Unix milliseconds.
    #[prost(uint64, tag = "2")]
    pub created: u64,
    /// Public user key; empty without one.
    #[prost(bytes = "vec", tag = "3")]
    pub user: Vec<u8>,
    /// Highest serial ever issued for the address; survives a reset.
    #[prost(uint64, tag = "4")]
    pub serial: u64,
    /// The signed NameCert that counts; empty without one.
    #[prost(bytes = "vec", tag = "5")]
    pub name: Vec<u8>,
    /// OPAQUE's registration record.
    #[prost(bytes = "vec", tag = "6")]
    pub password: Vec<u8>,
    /// The user key sealed under OPAQUE's export key.
    #[prost(bytes = "vec", tag = "7")]
    pub sealed: Vec<u8>,
    /// The user key sealed under the recovery code.
    #[prost(bytes = "vec", tag = "8")]
    pub recovery: Vec<u8>,
    /// Signed Revocations of names, oldest first: told to the overlay at each start.
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub revocations: Vec<Vec<u8>>,
    /// When the user was enrolled last, Unix milliseconds; 0: never.
    #[prost(uint64, tag = "10")]
    pub enrolled: u64,
    /// Signed Revocations of devices by the authority, oldest first: told to the overlay at each start.
    #[prost(bytes = "vec", repeated, tag = "11")]
    pub devices: Vec<Vec<u8>>,
    /// How another server checked the password; absent once the user is enrolled here. `password` is then over a secret that
    /// is made of this, or empty.
    #[prost(message, optional, tag = "12")]
    pub verifier: Option<Verifier>,
    /// The password is registered stretched, and the user key sealed under both.
    #[prost(bool, tag = "13")]
    pub stretched: bool,
    /// When the user last changed the password, Unix milliseconds; 0: never.
    #[prost(uint64, tag = "14")]
    pub changed: u64,
}

/// What a server of SCRAM keeps of a password (RFC 5802 §3).
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Verifier {
    /// A [`crosstalk_overlay::enrol::Scheme`].
    #[prost(int32, tag = "1")]
    pub scheme: i32,
    /// Salt.
    #[prost(bytes = "vec", tag = "2")]
    pub salt: Vec<u8>,
    /// PBKDF2 rounds.
    #[prost(uint32, tag = "3")]
    pub rounds: u32,
    /// H(ClientKey).
    #[prost(bytes = "vec", tag = "4")]
    pub stored_key: Vec<u8>,
    /// ServerKey.
    #[prost(bytes = "vec", tag = "5")]
    pub server_key: Vec<u8>,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Verifier(scheme {}, {} rounds)", self.scheme, self.rounds)
    }
}

/// A page of what a user brought along from another server; keyed by [`brought_page`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct BroughtPage {
    /// As it is collected.
    #[prost(message, required, tag = "1")]
    pub page: Brought,
}

impl Stored for BroughtPage {
    const TREE: Tree = Tree::Brought;
    const VERSION: u8 = 1;
}

/// What the keys of one user's pages begin with; no name has a zero byte.
pub fn brought_by(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

/// Key of a page; the first is 1.
pub fn brought_page(name: &str, number: u64) -> Vec<u8> {
    [&brought_by(name)[..], &number.to_be_bytes()].concat()
}

/// Number of such a key.
pub fn read_brought_page(name: &str, key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.strip_prefix(&brought_by(name)[..])?.try_into().ok()?))
}

/// Nothing that helps to guess a password.
impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Member(state {}, serial {})", self.state, self.serial)
    }
}

impl Stored for Member {
    const TREE: Tree = Tree::Member;
    const VERSION: u8 = 1;
}

/// An invitation; keyed by the hash of its token.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StoredInvitation {
    /// The name before the `@`.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Unix milliseconds.
    #[prost(uint64, tag = "2")]
    pub expires: u64,
    /// The user who has used it; empty: nobody yet.
    #[prost(bytes = "vec", tag = "3")]
    pub used: Vec<u8>,
}

impl Stored for StoredInvitation {
    const TREE: Tree = Tree::Invitation;
    const VERSION: u8 = 1;
}

/// A line of the audit log; keyed by its number (8 bytes, big-endian). Never changed; of too many the oldest go.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AuditLine {
    /// Unix milliseconds.
    #[prost(uint64, tag = "1")]
    pub at: u64,
    /// What was done, one word or two.
    #[prost(string, tag = "2")]
    pub what: String,
    /// To whom: the name before the `@`; empty for the domain itself.
    #[prost(string, tag = "3")]
    pub name: String,
    /// The user key that it was about; empty: none.
    #[prost(bytes = "vec", tag = "4")]
    pub user: Vec<u8>,
    /// The serial of what was issued; 0: nothing.
    #[prost(uint64, tag = "5")]
    pub serial: u64,
    /// The node that asked; empty: somebody at the server.
    #[prost(bytes = "vec", tag = "6")]
    pub node: Vec<u8>,
}

impl Stored for AuditLine {
    const TREE: Tree = Tree::Audit;
    const VERSION: u8 = 1;
}

impl Member {
    /// All that the authority has signed as void of this user.
    pub fn voids(self) -> Vec<Vec<u8>> {
        [self.revocations, self.devices].concat()
    }
}

/// What is kept of a user beside what its devices have said; keyed by the user key.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Owner {
    /// The encoded user record.
    #[prost(bytes = "vec", tag = "1")]
    pub record: Vec<u8>,
    /// Signed DeviceCerts of those who have said something, the newest last.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub certificates: Vec<Vec<u8>>,
    /// How often what the devices have said was changed: whoever has read all of it sees whether that still counts.
    #[prost(uint64, tag = "15")]
    pub changes: u64,
}

impl Stored for Owner {
    const TREE: Tree = Tree::Owner;
    const VERSION: u8 = 1;
}

/// What devices of a user have said of one thing; keyed by the user key and 16 bytes. More than one where each has said
/// something that the other does not know.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Said {
    /// As they were told.
    #[prost(message, repeated, tag = "1")]
    pub statements: Vec<Statement>,
}

impl Stored for Said {
    const TREE: Tree = Tree::Statement;
    const VERSION: u8 = 1;
}

/// A server process of the domain; keyed by its node id.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ServerProcess {
    /// Where laptops reach it, multiaddresses.
    #[prost(string, repeated, tag = "1")]
    pub places: Vec<String>,
    /// When it said last that it is here, Unix milliseconds.
    #[prost(uint64, tag = "2")]
    pub here: u64,
}

impl Stored for ServerProcess {
    const TREE: Tree = Tree::ServerProcess;
    const VERSION: u8 = 1;
}

/// What each device of a user showed last; keyed by the user key.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct LastShown {
    /// As it was told, the newest last.
    #[prost(message, repeated, tag = "1")]
    pub seen: Vec<Seen>,
    /// Users, by key, whom this one has blocked under the address that its contact list has for them; ascending.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub hidden_from: Vec<Vec<u8>>,
    /// It is known who they are: what was stored before that was looked at is shown to nobody.
    #[prost(bool, tag = "3")]
    pub judged: bool,
}

impl Stored for LastShown {
    const TREE: Tree = Tree::LastShown;
    const VERSION: u8 = 1;
}

#[cfg(test)]
mod tests {
    use crosstalk_overlay::enrol::BroughtContact;

    use super::*;
    use crate::codec::{decode, encode};

    #[test]
    fn golden_bytes() {
        let domain = ServedDomain {
            domain: "a.b".into(),
            created: 1,
            authority: vec![2; 2],
            enrolment: vec![3],
            rotations: vec![vec![4]],
        };
        let member = Member {
            state: MemberState::Enrolled.into(),
            created: 1,
            user: vec![2],
            serial: 3,
            name: vec![4],
            password: vec![5],
            sealed: vec![6],
            recovery: vec![7],
            revocations: vec![vec![8]],
            enrolled: 9,
            devices: vec![vec![10]],
            ..Member::default()
        };
        // As it was before the authority revoked devices.
        let before = Member { devices: Vec::new(), ..member.clone() };
        assert_eq!(
            encode(&before),
            b"\x01\x08\x01\x10\x01\x1a\x01\x02\x20\x03\x2a\x01\x04\x32\x01\x05\x3a\x01\x06\x42\x01\x07\x4a\x01\x08\x50\x09"
        );
        // As it was before it was known from whom it is hidden.
        let seen = vec![Seen { presence: vec![1], certificate: vec![2] }];
        let shown = LastShown { seen, ..LastShown::default() };
        assert_eq!(encode(&shown), b"\x01\x0a\x06\x0a\x01\x01\x12\x01\x02");
        let shown = LastShown { hidden_from: vec![vec![3]], judged: true, ..shown };
        assert_eq!(encode(&shown), b"\x01\x0a\x06\x0a\x01\x01\x12\x01\x02\x12\x01\x03\x18\x01");
        assert_eq!(encode(&StoredIntroduction { signed: vec![7] }), b"\x01\x0a\x01\x07");
        let process = ServerProcess { places: vec!["/a".into()], here: 3 };
        assert_eq!(encode(&process), b"\x01\x0a\x02/a\x10\x03");
        assert_eq!(decode(&encode(&process)), Ok(process));
        let invitation = StoredInvitation { name: "a".into(), expires: 1, used: vec![2] };
        let line =
            AuditLine { at: 1, what: "b".into(), name: "a".into(), user: vec![2], serial: 3, node: vec![4] };
        assert_eq!(encode(&domain), b"\x01\x0a\x03a.b\x10\x01\x1a\x02\x02\x02\x22\x01\x03\x2a\x01\x04");
        // As it was before the keys for passwords were compared, and keys were handed over.
        let before = ServedDomain { enrolment: Vec::new(), rotations: Vec::new(), ..domain };
        assert_eq!(decode(b"\x01\x0a\x03a.b\x10\x01\x1a\x02\x02\x02"), Ok(before));
        assert_eq!(
            encode(&member),
            b"\x01\x08\x01\x10\x01\x1a\x01\x02\x20\x03\x2a\x01\x04\x32\x01\x05\x3a\x01\x06\x42\x01\x07\x4a\x01\x08\x50\x09\x5a\x01\x0a"
        );
        assert_eq!(encode(&invitation), b"\x01\x0a\x01a\x10\x01\x1a\x01\x02");
        assert_eq!(encode(&line), b"\x01\x08\x01\x12\x01b\x1a\x01a\x22\x01\x02\x28\x03\x32\x01\x04");
        assert_eq!(decode::<Member>(&encode(&member)), Ok(member));
        let verifier =
            Verifier { scheme: 1, salt: vec![2], rounds: 3, stored_key: vec![4], server_key: vec![5] };
        // As it is where passwords came from another server, or were changed.
        let moved =
            Member { created: 1, verifier: Some(verifier), stretched: true, changed: 2, ..Member::default() };
        assert_eq!(
            encode(&moved),
            b"\x01\x10\x01\x62\x0d\x08\x01\x12\x01\x02\x18\x03\x22\x01\x04\x2a\x01\x05\x68\x01\x70\x02"
        );
        assert_eq!(decode::<Member>(&encode(&moved)), Ok(moved));
        let owner = Owner { record: vec![1], certificates: vec![vec![2]], changes: 3 };
        let statement = Statement { said: vec![1], device: vec![2], signature: vec![3] };
        assert_eq!(encode(&owner), b"\x01\x0a\x01\x01\x12\x01\x02\x78\x03");
        assert_eq!(
            encode(&Said { statements: vec![statement] }),
            b"\x01\x0a\x09\x0a\x01\x01\x12\x01\x02\x1a\x01\x03"
        );
    }
    #[test]
    fn pages_have_golden_bytes_and_keys_in_order() {
        let contact = BroughtContact { address: "a@b".into(), to: true, listed: true, ..Default::default() };
        let page = Brought {
            contacts: vec![contact],
            blocked: vec!["c@d".into()],
            nickname: "A".into(),
            vcard: vec![60],
        };
        let page = BroughtPage { page };
        assert_eq!(
            encode(&page),
            b"\x01\x0a\x16\x0a\x09\x0a\x03a@b\x20\x01\x40\x01\x12\x03c@d\x1a\x01A\x22\x01\x3c"
        );
        assert_eq!(decode(&encode(&page)), Ok(page));
        assert!(brought_page("a", 255) < brought_page("a", 256));
        assert_eq!(read_brought_page("a", &brought_page("a", 300)), Some(300));
        assert_eq!(read_brought_page("a", &brought_page("ab", 300)), None);
    }
}
