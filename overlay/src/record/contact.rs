//! Signed requests, grants, refusals and withdrawals; a subscription is derived from them, never stored. *Pure.*

use prost::Message as _;

use super::{
    HlcField, Record, Refusal, Signer, Span, VERSION, Verified, hlc_field, key_field, kind_name, later,
    payload,
};
use crate::id::{DeviceId, UserId};
use crate::keys::Domain;
use crate::time::Hlc;

/// In which role the signer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// As the one who wants to see the other's presence.
    Watcher,
    /// As the one whose presence is seen.
    Publisher,
}

/// What is said. A watcher requests or withdraws; a publisher grants or refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Says {
    /// Watcher: I want to see your presence (RFC 6121 `subscribe`).
    Request,
    /// Watcher: no longer (`unsubscribe`).
    Withdraw,
    /// Publisher: you may (`subscribed`).
    Grant,
    /// Publisher: you may not, or no longer (`unsubscribed`).
    Refuse,
}

/// One direction of a subscription, said by one side. Signed by a device of `from`, whose certificate is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContactRecord {
    /// Who says it.
    pub from: UserId,
    /// To whom.
    pub to: UserId,
    /// The device of `from` that signs; decides ties.
    pub device: DeviceId,
    /// In which role.
    pub side: Side,
    /// What.
    pub says: Says,
    /// When. A refresh resends the same record; a new request has a later reading and needs a new grant.
    pub at: Hlc,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Payload {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(bytes = "vec", tag = "2")]
    from: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    to: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    device: Vec<u8>,
    /// 1 request, 2 withdraw, 3 grant, 4 refuse; the side follows from it.
    #[prost(uint32, tag = "5")]
    says: u32,
    #[prost(message, optional, tag = "6")]
    at: Option<HlcField>,
}

impl Says {
    /// The role in which it can be said.
    pub fn side(self) -> Side {
        match self {
            Self::Request | Self::Withdraw => Side::Watcher,
            Self::Grant | Self::Refuse => Side::Publisher,
        }
    }
}

impl Record for ContactRecord {
    const DOMAIN: Domain = Domain::Contact;
    const MAX_SIZE: usize = 1_024;
    const MAX_LIFE: u64 = 0;

    fn from_payload(bytes: &[u8]) -> Result<Self, Refusal> {
        let kind = kind_name::<Self>();
        let fields: Payload = payload(bytes, kind, |fields: &Payload| fields.version)?;
        let says = match fields.says {
            1 => Says::Request,
            2 => Says::Withdraw,
            3 => Says::Grant,
            4 => Says::Refuse,
            _ => return Err(Refusal::Malformed { kind, what: "says" }),
        };
        let (from, to) = (key_field(&fields.from, kind, "from")?, key_field(&fields.to, kind, "to")?);
        if from == to {
            return Err(Refusal::Malformed { kind, what: "to" });
        }
        Ok(Self {
            from: UserId::from_bytes(from),
            to: UserId::from_bytes(to),
            device: DeviceId::from_bytes(key_field(&fields.device, kind, "device")?),
            side: says.side(),
            says,
            at: hlc_field(fields.at, kind, "at")?,
        })
    }

    fn to_payload(&self) -> Vec<u8> {
        let says = match self.says {
            Says::Request => 1,
            Says::Withdraw => 2,
            Says::Grant => 3,
            Says::Refuse => 4,
        };
        Payload {
            version: VERSION,
            from: self.from.as_bytes().to_vec(),
            to: self.to.as_bytes().to_vec(),
            device: self.device.as_bytes().to_vec(),
            says,
            at: Some(self.at.into()),
        }
        .encode_to_vec()
    }

    fn signer(&self) -> Signer {
        Signer::Device(self.from, self.device)
    }

    fn span(&self) -> Span {
        Span { from: self.at.millis, until: None, end_counts: false }
    }
}

impl ContactRecord {
    /// Merge law: of two by the same user about the same direction, the later clock reading, then the greater device,
    /// then the greater bytes.
    pub fn merge(a: Verified<Self>, b: Verified<Self>) -> Verified<Self> {
        later(a, b, |record| (record.at, record.device))
    }
}

/// The four newest things that two people said to each other, seen by one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    /// I request or withdraw.
    pub my_watch: Option<Verified<ContactRecord>>,
    /// They grant or refuse.
    pub their_publish: Option<Verified<ContactRecord>>,
    /// They request or withdraw.
    pub their_watch: Option<Verified<ContactRecord>>,
    /// I grant or refuse.
    pub my_publish: Option<Verified<ContactRecord>>,
}

impl Slots {
    /// Takes in a record between `me` and the contact; tells whether a slot changed. A record between other people
    /// changes nothing.
    pub fn insert(&mut self, me: &UserId, record: Verified<ContactRecord>) -> bool {
        let slot = match (record.from == *me, record.to == *me, record.side) {
            (true, false, Side::Watcher) => &mut self.my_watch,
            (true, false, Side::Publisher) => &mut self.my_publish,
            (false, true, Side::Watcher) => &mut self.their_watch,
            (false, true, Side::Publisher) => &mut self.their_publish,
            (true, true, _) | (false, false, _) => return false,
        };
        merge_slot(slot, Some(record))
    }

    /// Everything that is known to be said.
    pub fn all(&self) -> impl Iterator<Item = &Verified<ContactRecord>> {
        [&self.my_watch, &self.their_publish, &self.their_watch, &self.my_publish].into_iter().flatten()
    }

    /// Takes in another view of the same two people; tells whether anything changed. Slot by slot, last writer wins.
    pub fn merge(&mut self, other: &Self) -> bool {
        let changed = [
            merge_slot(&mut self.my_watch, other.my_watch.clone()),
            merge_slot(&mut self.their_publish, other.their_publish.clone()),
            merge_slot(&mut self.their_watch, other.their_watch.clone()),
            merge_slot(&mut self.my_publish, other.my_publish.clone()),
        ];
        changed.contains(&true)
    }
}

fn merge_slot(slot: &mut Option<Verified<ContactRecord>>, other: Option<Verified<ContactRecord>>) -> bool {
    let Some(other) = other else { return false };
    let merged = match slot.clone() {
        Some(mine) => ContactRecord::merge(mine, other),
        None => other,
    };
    let changed = slot.as_ref() != Some(&merged);
    *slot = Some(merged);
    changed
}

/// What the slots say about the two directions, in the terms of RFC 6121 §2.1.2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// I see their presence.
    pub to: bool,
    /// They see mine.
    pub from: bool,
    /// I asked and have no answer.
    pub ask: bool,
    /// They asked and have no answer.
    pub pending_in: bool,
}

/// Derives the subscription: an answer counts if it is later than the newest request.
pub fn subscription(slots: &Slots) -> Subscription {
    let (to, ask) = direction(slots.my_watch.as_ref(), slots.their_publish.as_ref());
    let (from, pending_in) = direction(slots.their_watch.as_ref(), slots.my_publish.as_ref());
    Subscription { to, from, ask, pending_in }
}

/// (granted, waiting for an answer)
fn direction(
    watch: Option<&Verified<ContactRecord>>,
    publish: Option<&Verified<ContactRecord>>,
) -> (bool, bool) {
    let Some(watch) = watch.filter(|watch| watch.says == Says::Request) else { return (false, false) };
    match publish.filter(|publish| publish.at > watch.at) {
        Some(answer) => (answer.says == Says::Grant, false),
        None => (false, true),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::NoCertificates;
    use super::super::testing::*;
    use super::*;

    fn says(from: &Person, to: &Person, says: Says, millis: u64) -> Verified<ContactRecord> {
        let record = ContactRecord {
            from: from.id(),
            to: to.id(),
            device: from.device.id(),
            side: says.side(),
            says,
            at: Hlc { millis: NOW + millis, counter: 0 },
        };
        Verified::sign(record, &from.device, Some(&from.cert)).expect("signs")
    }

    fn derive(me: &Person, records: &[Verified<ContactRecord>]) -> Subscription {
        let mut slots = Slots::default();
        for record in records {
            slots.insert(&me.id(), record.clone());
        }
        subscription(&slots)
    }

    #[test]
    fn verifies_by_its_attached_certificate_unaltered_only() {
        let (anna, ben) = (Person::new(1), Person::new(2));
        survives_only_unaltered(&says(&anna, &ben, Says::Request, 0), &NoCertificates);
    }

    #[test]
    fn the_life_of_a_subscription() {
        let (anna, ben) = (Person::new(1), Person::new(2));
        let request = says(&anna, &ben, Says::Request, 1);
        let grant = says(&ben, &anna, Says::Grant, 2);
        let asked = Subscription { ask: true, ..Subscription::default() };
        let to = Subscription { to: true, ..Subscription::default() };
        assert_eq!(derive(&anna, std::slice::from_ref(&request)), asked);
        assert_eq!(derive(&anna, &[request.clone(), grant.clone()]), to);
        let refused = [request.clone(), grant.clone(), says(&ben, &anna, Says::Refuse, 3)];
        assert_eq!(derive(&anna, &refused), Subscription::default());
        let again = [request, grant, says(&anna, &ben, Says::Request, 4)];
        assert_eq!(derive(&anna, &again), asked, "a new request needs a new grant");
    }

    #[test]
    fn records_of_other_people_change_nothing() {
        let (anna, ben, carl) = (Person::new(1), Person::new(2), Person::new(3));
        assert_eq!(derive(&anna, &[says(&ben, &carl, Says::Request, 1)]), Subscription::default());
    }

    fn exchange() -> impl Strategy<Value = Vec<(bool, u8, u64)>> {
        prop::collection::vec((any::<bool>(), 0..4u8, 0..6u64), 0..8)
    }

    fn records(steps: &[(bool, u8, u64)]) -> Vec<Verified<ContactRecord>> {
        let (anna, ben) = (Person::new(1), Person::new(2));
        let what = [Says::Request, Says::Withdraw, Says::Grant, Says::Refuse];
        let record = |(by_anna, index, millis): &(bool, u8, u64)| {
            let (from, to) = if *by_anna { (&anna, &ben) } else { (&ben, &anna) };
            says(from, to, what[usize::from(*index)], *millis)
        };
        steps.iter().map(record).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn both_sides_derive_mirrored_states_in_any_order(steps in exchange(), turn in 0..8usize) {
            let (anna, ben) = (Person::new(1), Person::new(2));
            let records = records(&steps);
            let mut turned = records.clone();
            turned.rotate_left(turn.min(records.len()));
            turned.reverse();
            let (mine, theirs) = (derive(&anna, &records), derive(&ben, &turned));
            let mirrored =
                Subscription { to: theirs.from, from: theirs.to, ask: theirs.pending_in, pending_in: theirs.ask };
            prop_assert_eq!(mine, mirrored);
        }

        #[test]
        fn merge_is_commutative_associative_idempotent(parts in prop::array::uniform3(exchange())) {
            let me = Person::new(1).id();
            let [a, b, c] = parts.map(|steps| {
                let mut slots = Slots::default();
                for record in records(&steps) {
                    slots.insert(&me, record);
                }
                slots
            });
            let merge = |a: &Slots, b: &Slots| {
                let mut both = a.clone();
                both.merge(b);
                both
            };
            prop_assert_eq!(merge(&a, &b), merge(&b, &a));
            prop_assert_eq!(merge(&merge(&a, &b), &c), merge(&a, &merge(&b, &c)));
            prop_assert_eq!(merge(&a, &a), a);
        }
    }
}
