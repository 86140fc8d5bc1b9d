//! What a node holds for others: bounds, work, tokens, access. *Pure.*

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::work::Search;
use super::*;
use crate::envelope::Envelope;
use crate::id::MessageId;
use crate::keys::SealingKey;
use crate::seal::{Sealed, TAG_SIZE};
use crate::time::{HOUR, SECOND};

const NOW: u64 = 20_000 * DAY;

fn user(byte: u8) -> UserId {
    UserId::from_bytes([byte; 32])
}

fn device(byte: u8) -> DeviceId {
    DeviceId::from_bytes([byte; 32])
}

fn node(byte: u8) -> NodeId {
    NodeId::from_bytes([byte; 32])
}

fn at(millis: u64) -> TrustedTime {
    TrustedTime::certain(millis)
}

/// An item for a device, different for each number.
fn item(to: u8, number: u32, size: usize) -> Vec<u8> {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    let sealed = Sealed { enc: [1; 32], ciphertext: vec![2; size + TAG_SIZE] };
    let envelope = Envelope { id: MessageId::from_bytes(id), recipient: device(to), key: [3; 32], sealed };
    Item { kind: Kind::Envelope, envelope }.encode()
}

fn offer(mailbox: u8, number: u32) -> Offer {
    let item = item(mailbox, number, 256);
    Offer { mailbox: user(mailbox), item, expires: NOW + DAY, nonce: 0, token: Vec::new(), replica: false }
}

fn paid(mut offer: Offer, bits: u32) -> Offer {
    let mut search = Search::new(&offer.mailbox, &item_id(&offer.item), offer.expires, bits);
    offer.nonce = std::iter::repeat_with(|| search.step(1_024)).flatten().next().expect("found");
    offer
}

fn free(bounds: Bounds) -> Mailboxes {
    Mailboxes::restored(Bounds { bits: 0, ..bounds }, &[]).0
}

fn access(byte: u8) -> Access {
    Access::from([(user(byte), device(byte))])
}

#[test]
fn a_stranger_pays_and_a_token_counts_once() {
    let (mut held, _) = Mailboxes::restored(Bounds { bits: 8, ..Bounds::default() }, &[]);
    let unpaid = (1..).map(|number| offer(1, number));
    let unpaid = unpaid
        .filter(|offer| work::bits_of(&offer.mailbox, &item_id(&offer.item), offer.expires, offer.nonce) < 8);
    let mut unpaid = unpaid.take(3).collect::<Vec<_>>().into_iter();
    let mut next = || unpaid.next().expect("many");
    let first = next();
    assert_eq!(held.offer(node(1), &first, None, at(NOW), 0), (Answer::Work(8), None));
    let (answer, stored) = held.offer(node(1), &paid(first.clone(), 8), None, at(NOW), 0);
    assert!(answer == Answer::Held && stored.is_some());
    assert_eq!(held.offer(node(2), &first, None, at(NOW), 0), (Answer::Held, None), "it is there already");
    let token = Some(TokenUse { serial: [1; 16], expires: NOW + DAY });
    assert_eq!(held.offer(node(1), &next(), token, at(NOW), 0).0, Answer::Held);
    assert_eq!(held.offer(node(1), &next(), token, at(NOW), 0).0, Answer::Work(8));
}

#[test]
fn more_work_is_wanted_as_it_fills_and_the_last_quarter_takes_tokens_only() {
    let mut held = free(Bounds { mailbox_items: 40, ..Bounds::default() });
    let (mut bits, mut taken) = (BTreeSet::new(), 0);
    for number in 0..60 {
        let wanted = held.bits_wanted(&user(1), 0);
        bits.insert(wanted);
        if held.offer(node(1), &paid(offer(1, number), wanted), None, at(NOW), 0).0 == Answer::Held {
            taken += 1;
        }
    }
    assert_eq!((taken, bits), (30, BTreeSet::from([0, 2, 4, 6])));
    for serial in 0..20 {
        let token = Some(TokenUse { serial: [serial; 16], expires: NOW + DAY });
        let (answer, _) = held.offer(node(1), &offer(1, 100 + u32::from(serial)), token, at(NOW), 0);
        assert_eq!(answer, if serial < 10 { Answer::Held } else { Answer::Full });
    }
    assert_eq!(held.bits_wanted(&user(2), 0), 0, "other mailboxes are not affected");
}

#[test]
fn one_peer_fills_its_hour_and_no_more() {
    let mut held = free(Bounds { peer_items: 2, ..Bounds::default() });
    let mut answers = |peer: u8, number: u32, mono: u64, replica: bool| {
        let offer = Offer { replica, ..offer(1, number) };
        held.offer(node(peer), &offer, None, at(NOW), mono).0
    };
    let all = [
        answers(1, 1, 0, false),
        answers(1, 2, 0, false),
        answers(1, 3, HOUR - 1, false),
        answers(2, 3, HOUR - 1, false),
        answers(1, 4, HOUR - 1, true),
        answers(1, 5, HOUR, false),
    ];
    use Answer::{Full, Held};
    assert_eq!(all, [Held, Held, Full, Held, Held, Held]);
}

#[test]
fn only_the_very_device_sees_takes_and_discards() {
    let mut held = free(Bounds::default());
    let offer = offer(1, 1);
    let id = item_id(&offer.item);
    held.offer(node(1), &offer, None, at(NOW), 0);
    let others = [access(2), Access::new(), Access::from([(user(2), device(1)), (user(1), device(2))])];
    for other in &others {
        assert_eq!(held.fetch(id, other), None);
        assert_eq!(held.discard(id, other), None);
    }
    assert_eq!(held.list(user(1), device(2)).count() + held.list(user(2), device(1)).count(), 0);
    assert_eq!(held.list(user(1), device(1)).collect::<Vec<_>>(), vec![(id, offer.item.len())]);
    assert_eq!(held.fetch(id, &access(1)), Some(&offer.item[..]));
    assert_eq!((held.discard(id, &access(1)), held.load()), (Some(1), Load::default()));
}

#[test]
fn what_is_too_old_too_late_too_large_or_nothing_is_refused() {
    let mut held = free(Bounds::default());
    let mut answer = |offer: Offer| held.offer(node(1), &offer, None, at(NOW), 0).0;
    assert_eq!(answer(Offer { expires: NOW, ..offer(1, 1) }), Answer::Policy);
    assert_eq!(answer(Offer { expires: NOW + 33 * DAY, ..offer(1, 1) }), Answer::Policy);
    assert_eq!(answer(Offer { item: vec![1, 2, 3], ..offer(1, 1) }), Answer::Policy);
    let mut small = free(Bounds { mailbox_bytes: 4_096, ..Bounds::default() });
    let large = Offer { item: item(1, 1, 4_096), ..offer(1, 1) };
    assert_eq!(small.offer(node(1), &large, None, at(NOW), 0).0, Answer::TooLarge);
    let mut none = free(Bounds { bytes: 0, ..Bounds::default() });
    assert_eq!(none.offer(node(1), &offer(1, 1), None, at(NOW), 0).0, Answer::Policy);
}

#[test]
fn a_clock_that_is_not_believed_expires_nothing() {
    let mut held = free(Bounds::default());
    held.offer(node(1), &offer(1, 1), None, at(NOW), 0);
    assert_eq!(held.expire(TrustedTime { credible: false, ..at(NOW + 9 * DAY) }), Vec::<u64>::new());
    assert_eq!(held.expire(at(NOW + DAY - 1)), Vec::<u64>::new());
    assert_eq!(held.expire(at(NOW + DAY)), vec![1]);
}

#[test]
fn receipts_travel_sealed() {
    let key = SealingKey::from_seed([9; 32], NOW);
    let mut rng = ChaCha20Rng::from_seed([3; 32]);
    let mut seal = |receipts: Vec<Vec<u8>>| {
        Item::seal_receipts(MessageId::from_bytes([1; 16]), device(1), key.public(), receipts, &mut rng)
    };
    let receipts = vec![vec![1; 300], vec![2; 200]];
    let item = seal(receipts.clone()).expect("seals");
    let arrived = Item::decode(&item.encode()).expect("reads back");
    assert_eq!((arrived.kind, arrived.open_receipts(&key)), (Kind::Receipts, Ok(receipts)));
    let altered = Item { envelope: Envelope { recipient: device(2), ..item.envelope }, ..item };
    assert!(altered.open_receipts(&key).is_err(), "the outer part is bound");
    assert!(seal(vec![vec![0; 9]; MAX_RECEIPTS + 1]).is_err());
}

#[derive(Clone, Debug)]
enum Act {
    Offer { mailbox: u8, number: u32, class: u32, life: u64, token: Option<u8>, peer: u8 },
    Discard { mailbox: u8, number: u32, class: u32 },
    Wait(u64),
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    let token = prop::option::of(0..6u8);
    prop_oneof![
        6 => (1..4u8, 0..9u32, 0..4u32, 0..HOUR, token, 1..4u8).prop_map(
            |(mailbox, number, class, life, token, peer)| Act::Offer { mailbox, number, class, life, token, peer }
        ),
        2 => (1..4u8, 0..9u32, 0..4u32).prop_map(|(mailbox, number, class)| Act::Discard { mailbox, number, class }),
        2 => (0..HOUR).prop_map(Act::Wait),
        1 => Just(Act::Restart),
    ]
}

proptest! {
    #[test]
    fn never_over_a_bound_and_what_was_acknowledged_stays(acts in prop::collection::vec(act(), 1..120)) {
        let bounds = Bounds {
            bytes: 16_384, items: 12, mailbox_bytes: 8_192, mailbox_items: 6, peer_bytes: 8_192, peer_items: 8, bits: 0,
        };
        let (mut held, mut mono) = (free(bounds), 0);
        let (mut expected, mut store) = (BTreeMap::new(), BTreeMap::new());
        for act in acts {
            match act {
                Act::Offer { mailbox, number, class, life, token, peer } => {
                    let offer = Offer {
                        item: item(mailbox, number, 256 << class), expires: NOW + mono + life, ..offer(mailbox, number)
                    };
                    let wanted = held.bits_wanted(&user(mailbox), offer.item.len());
                    let offer = paid(offer, wanted);
                    let token = token.map(|serial| TokenUse { serial: [serial; 16], expires: NOW + DAY });
                    let (answer, stored) = held.offer(node(peer), &offer, token, at(NOW + mono), mono);
                    if answer == Answer::Held {
                        expected.entry((mailbox, item_id(&offer.item))).or_insert(offer.expires);
                    }
                    prop_assert!(stored.is_none() || answer == Answer::Held);
                    store.extend(stored.map(|mail| (mail.number, mail)));
                }
                Act::Discard { mailbox, number, class } => {
                    let id = item_id(&item(mailbox, number, 256 << class));
                    let there = expected.remove(&(mailbox, id)).is_some();
                    let number = held.discard(id, &access(mailbox));
                    prop_assert_eq!(number.is_some(), there);
                    number.map(|number| store.remove(&number));
                }
                Act::Wait(millis) => {
                    mono += millis + SECOND;
                    held.expire(at(NOW + mono)).iter().for_each(|number| drop(store.remove(number)));
                    expected.retain(|_, expires| *expires > NOW + mono);
                }
                Act::Restart => {
                    let stored: Vec<StoredMail> = store.values().cloned().collect();
                    let (again, damaged) = Mailboxes::restored(Bounds { bits: 0, ..bounds }, &stored);
                    prop_assert_eq!((damaged, again.load()), (0, held.load()));
                    held = again;
                }
            }
            let load = held.load();
            prop_assert!(load.items <= bounds.items && load.bytes <= bounds.bytes, "{load:?}");
            let all: Vec<_> = (1..4)
                .flat_map(|byte| held.list(user(byte), device(byte)).map(move |(id, _)| (byte, id)))
                .collect();
            prop_assert_eq!(all.len(), load.items);
            for byte in 1..4 {
                let sizes: Vec<usize> = held.list(user(byte), device(byte)).map(|(_, size)| size).collect();
                prop_assert!(sizes.len() <= 6 && sizes.iter().sum::<usize>() <= 8_192);
            }
            prop_assert_eq!(BTreeSet::from_iter(all), expected.keys().copied().collect::<BTreeSet<_>>());
        }
    }

    #[test]
    fn any_bytes_are_an_item_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Item::decode(&bytes).is_err());
    }
}
