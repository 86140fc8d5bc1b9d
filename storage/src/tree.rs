//! The table of trees: names, numbers on disk and limits; one module below for the shape of each. *Pure.*

pub mod account;
pub mod authority;
pub mod block;
pub mod contact_record;
pub mod directory;
pub mod inbox;
pub mod overlay;
pub mod passed;
pub mod presence;
pub mod roster;
pub mod session;
pub mod table;
pub mod unaddressed;
pub mod upstream;
pub mod vcard;

/// One of the named trees of the store.
///
/// The number of a tree is part of every file format: never reuse or renumber one, and raise
/// [`FORMAT_VERSION`](crate::FORMAT_VERSION) when one is added, so that an older program refuses the
/// newer store and leaves it alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Tree {
    /// Facts about the store and the node: format of the trees, lowest believable time.
    Meta = 1,
    /// Local accounts.
    Account = 2,
    /// Contact lists.
    Roster = 3,
    /// Contact records and pending requests.
    ContactRecord = 4,
    /// Verified records of other users.
    UserRecord = 5,
    /// Last signed presence of each contact, and our own.
    Presence = 6,
    /// Messages on their way to other nodes.
    Outbox = 7,
    /// Messages held for local clients.
    Inbox = 8,
    /// Resumable client sessions (XEP-0198).
    Session = 9,
    /// Sequence of envelopes to each device.
    Outbound = 10,
    /// Sequence of envelopes from each device.
    Inbound = 11,
    /// Message ids seen lately, to drop repeats.
    Seen = 12,
    /// Blocked addresses (XEP-0191).
    Block = 13,
    /// vCards of local users (XEP-0054).
    VCard = 14,
    /// Authorities of domains, and how each was learnt.
    Authority = 15,
    /// Signed revocations.
    Revocation = 16,
    /// Keys that each device here gives its user's contacts.
    OwnAudience = 17,
    /// Keys that devices of contacts have given users here.
    Audience = 18,
    /// What the hash table has this node hold.
    Table = 19,
    /// Envelopes that this node holds for others.
    Mail = 20,
    /// Nodes that were connected, to find the overlay again.
    Node = 21,
    /// Tokens for mailboxes: to be used, and used here.
    Token = 24,
    /// The domain that this node gives names under.
    ServedDomain = 29,
    /// Users of that domain.
    Member = 30,
    /// Invitations that were made.
    Invitation = 31,
    /// What was issued and taken back.
    Audit = 32,
    /// Of each user of the domain: the user record, and which devices have said what is kept.
    Owner = 33,
    /// What devices of users have said of their accounts.
    Statement = 34,
    /// Stanzas to and from addresses outside the overlay, held until the other side has them.
    Upstream = 38,
    /// How far those have come, and how users stand with such addresses.
    Outside = 39,
    /// Messages for names of which nobody here knows yet who has them.
    Unaddressed = 40,
    /// Other domains that the domain which this node serves introduces to its users.
    Introduced = 41,
    /// What users brought along from another server and no laptop has collected yet.
    Brought = 42,
    /// What server processes that share a database pass to each other.
    Passed = 44,
    /// Users of the domain who stand in its directory.
    Person = 45,
    /// The words by which they are found there.
    FoundBy = 46,
    /// What the devices of each user of the domain showed last.
    LastShown = 49,
    /// The server processes of the domain, and when each was here.
    ServerProcess = 52,
}

impl Tree {
    /// Every tree, by number.
    pub const ALL: &[Tree] = &[
        Tree::Meta,
        Tree::Account,
        Tree::Roster,
        Tree::ContactRecord,
        Tree::UserRecord,
        Tree::Presence,
        Tree::Outbox,
        Tree::Inbox,
        Tree::Session,
        Tree::Outbound,
        Tree::Inbound,
        Tree::Seen,
        Tree::Block,
        Tree::VCard,
        Tree::Authority,
        Tree::Revocation,
        Tree::OwnAudience,
        Tree::Audience,
        Tree::Table,
        Tree::Mail,
        Tree::Node,
        Tree::Token,
        Tree::ServedDomain,
        Tree::Member,
        Tree::Invitation,
        Tree::Audit,
        Tree::Owner,
        Tree::Statement,
        Tree::Upstream,
        Tree::Outside,
        Tree::Unaddressed,
        Tree::Introduced,
        Tree::Brought,
        Tree::Passed,
        Tree::Person,
        Tree::FoundBy,
        Tree::LastShown,
        Tree::ServerProcess,
    ];

    /// The name shown to people and used inside the engine.
    pub fn name(self) -> &'static str {
        match self {
            Tree::Meta => "meta",
            Tree::Account => "account",
            Tree::Roster => "roster",
            Tree::ContactRecord => "contact-record",
            Tree::UserRecord => "user-record",
            Tree::Presence => "presence",
            Tree::Outbox => "outbox",
            Tree::Inbox => "inbox",
            Tree::Session => "session",
            Tree::Outbound => "outbound",
            Tree::Inbound => "inbound",
            Tree::Seen => "seen",
            Tree::Block => "block",
            Tree::VCard => "vcard",
            Tree::Authority => "authority",
            Tree::Revocation => "revocation",
            Tree::OwnAudience => "own-audience",
            Tree::Audience => "audience",
            Tree::Table => "table",
            Tree::Mail => "mail",
            Tree::Node => "node",
            Tree::Token => "token",
            Tree::ServedDomain => "served-domain",
            Tree::Member => "member",
            Tree::Invitation => "invitation",
            Tree::Audit => "audit",
            Tree::Owner => "owner",
            Tree::Statement => "statement",
            Tree::Upstream => "upstream",
            Tree::Outside => "outside",
            Tree::Unaddressed => "unaddressed",
            Tree::Introduced => "introduced",
            Tree::Brought => "brought",
            Tree::Passed => "passed",
            Tree::Person => "person",
            Tree::FoundBy => "found-by",
            Tree::LastShown => "last-shown",
            Tree::ServerProcess => "server-process",
        }
    }

    /// The number on disk.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// The tree with this number on disk.
    pub fn from_id(id: u8) -> Option<Tree> {
        Tree::ALL.iter().copied().find(|tree| tree.id() == id)
    }

    /// The largest number of entries. Whoever writes keeps to it and answers "full" before: the store itself takes
    /// what it is given, so that one full tree never keeps the changes of all others from the disk.
    pub fn limit(self) -> usize {
        match self {
            Tree::Meta | Tree::ServedDomain | Tree::ServerProcess => 64,
            Tree::Introduced => 128,
            Tree::Member | Tree::Invitation | Tree::Owner | Tree::Person | Tree::LastShown => 20_000,
            Tree::Statement => 8_000_000,
            Tree::Audit => 200_000,
            Tree::Upstream | Tree::Brought => 100_000,
            Tree::Outside => 400_000,
            // Sixteen words of each.
            Tree::FoundBy => 320_000,
            Tree::Account | Tree::Session | Tree::OwnAudience => 4_096,
            Tree::Roster => 65_536,
            Tree::ContactRecord => 262_144,
            Tree::UserRecord | Tree::Presence | Tree::VCard | Tree::Revocation => 10_000,
            Tree::Outbox
            | Tree::Outbound
            | Tree::Inbound
            | Tree::Block
            | Tree::Audience
            | Tree::Mail
            | Tree::Unaddressed
            | Tree::Passed => 20_000,
            Tree::Table => 8_192,
            Tree::Token => 32_768,
            // 64 MiB of messages that count 512 bytes more than they have, and news.
            Tree::Inbox => 140_000,
            // 128 message ids of 8,192 pairs of devices.
            Tree::Seen => 1_100_000,
            Tree::Authority | Tree::Node => 1_024,
        }
    }

    /// Whether the compact snapshot holds the tree. The others can be fetched or set again.
    pub fn in_snapshot(self) -> bool {
        !matches!(self, Tree::Seen | Tree::VCard | Tree::Presence | Tree::Table | Tree::Node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique_and_stable() {
        let ids: Vec<u8> = Tree::ALL.iter().map(|tree| tree.id()).collect();
        assert_eq!(
            ids,
            (1..=21)
                .chain([24])
                .chain(29..=34)
                .chain(38..=42)
                .chain(44..=46)
                .chain([49, 52])
                .collect::<Vec<u8>>()
        );
        let names: std::collections::BTreeSet<&str> = Tree::ALL.iter().map(|tree| tree.name()).collect();
        assert_eq!(names.len(), Tree::ALL.len());
        for tree in Tree::ALL {
            assert_eq!(Tree::from_id(tree.id()), Some(*tree));
        }
        assert_eq!(Tree::from_id(0), None);
        assert_eq!(Tree::from_id(22), None);
    }
}
