//! Envelopes that wait at the server's node for who is away: deposited during the week by who cannot reach them, each fetched once.

use std::collections::BTreeSet;

use crosstalk_overlay::envelope::{Content, Envelope, Inner};
use crosstalk_overlay::id::MessageId;
use crosstalk_overlay::mailbox::{Access, Answer, Bounds, Item, Kind, Mailboxes, Offer, TokenUse};
use crosstalk_overlay::record::{Context, NoCertificates, RevocationSet};
use crosstalk_overlay::time::{Now, TrustedTime};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

use super::DAY;
use super::laptop::Laptop;

/// What the server's node holds, as it stands on its disk.
#[derive(Default)]
pub(super) struct Mail {
    held: Mailboxes,
    deposited: u64,
}

impl Mail {
    /// Somebody writes to a laptop that is away. A contact has a token for its mailbox.
    pub(super) fn deposit(&mut self, from: &Laptop, to: &Laptop, now: Now) {
        self.deposited += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.deposited.to_be_bytes());
        let message = MessageId::from_bytes(id);
        let xml =
            format!("<message type='chat' id='{}'><body>Where are you?</body></message>", self.deposited);
        let content = Content::Stanza {
            from_resource: String::new(),
            to_resource: String::new(),
            xml: xml.into_bytes(),
        };
        let inner = Inner {
            user: from.user.id(),
            sender: from.device.id(),
            recipient: to.device.id(),
            key: to.sealing.public(),
            message,
            epoch: 1,
            seq: self.deposited,
            first: 1,
            sent: now.wall,
            content,
            card: Vec::new(),
        };
        let mut rng = ChaCha20Rng::seed_from_u64(self.deposited);
        let envelope =
            Envelope::seal(message, inner, &from.device, &from.certificate, &mut rng).expect("sealed");
        let (item, mailbox) = (Item { kind: Kind::Envelope, envelope }.encode(), to.user.id());
        let expires = now.wall + 30 * DAY;
        let offer = Offer { mailbox, item, expires, nonce: 0, token: Vec::new(), replica: false };
        let token = TokenUse { serial: id, expires };
        let time = TrustedTime::certain(now.wall);
        let (answer, stored) = self.held.offer(from.node.id(), &offer, Some(token), time, now.mono);
        assert!(answer == Answer::Held && stored.is_some(), "{answer:?}");
    }

    /// A laptop takes what waits for it: the ids of the messages.
    pub(super) fn take(&mut self, laptop: &Laptop, now: Now) -> Vec<MessageId> {
        let owner = (laptop.user.id(), laptop.device.id());
        let access = Access::from([owner]);
        let listed: Vec<_> = self.held.list(owner.0, owner.1).collect();
        let opened = listed.into_iter().map(|(id, _)| {
            let item = Item::decode(self.held.fetch(id, &access).expect("held")).expect("an item");
            let none = RevocationSet::default();
            let time = TrustedTime::certain(now.wall);
            let context =
                Context { time, certificates: &NoCertificates, revocations: &none, enforce_end: true };
            let inner = item.envelope.open(&laptop.sealing, &context).expect("sealed for it");
            self.held.discard(id, &access).expect("held");
            inner.message
        });
        opened.collect()
    }

    /// What nobody has fetched.
    pub(super) fn left(&self) -> BTreeSet<crosstalk_overlay::id::UserId> {
        self.held.owners().collect()
    }

    /// Bytes that it may hold, and holds.
    pub(super) fn bytes(&self) -> (usize, usize) {
        (Bounds::default().bytes, self.held.load().bytes)
    }
}
