//! Tokens: contacts get them with the grant and more when they meet, and pay no work with them; each counts once.

use crosstalk_overlay::mailbox::work::bits_of;
use crosstalk_overlay::mailbox::{Answer, Item, Offer, item_id};
use crosstalk_overlay::time::{DAY, HOUR, MINUTE, SECOND};
use crosstalk_overlay::wire::{Frame, decode, encode};

use crate::mailbox::{cheap, meet, scene};
use crate::pump::*;

const ANNA: usize = 0;
const BEN: usize = 1;

/// The different offers that Anna has made since then.
fn offers(net: &Net, since: usize) -> Vec<Offer> {
    let mut offers: Vec<Offer> = Vec::new();
    for (from, _, frame) in &net.tape[since..] {
        if let (ANNA, Ok(Frame::Deposit { offer, .. })) = (*from, decode(frame))
            && offers.iter().all(|known| known.item != offer.item)
        {
            offers.push(offer);
        }
    }
    offers
}

/// Anna writes to Ben, who is away. Returns how many of the offers came with a token and how many with work.
fn write(net: &mut Net, numbers: std::ops::RangeInclusive<u64>) -> (usize, usize) {
    let (ben, before) = (net.user(BEN), net.tape.len());
    numbers.for_each(|number| net.send(ANNA, ben, number));
    net.run(MINUTE);
    let offers = offers(net, before);
    assert!(offers.iter().all(|offer| offer.token.is_empty() || offer.nonce == 0), "nobody pays twice");
    let tokens = offers.iter().filter(|offer| !offer.token.is_empty()).count();
    (tokens, offers.len() - tokens)
}

fn left(net: &Net) -> usize {
    net.hosts[ANNA].store.tokens.len()
}

#[test]
fn whoever_may_see_somebody_writes_without_work() {
    let mut net = scene(cheap());
    assert_eq!(write(&mut net, 1..=3), (0, 3), "a stranger works");
    meet(&mut net);
    assert_eq!((left(&net), write(&mut net, 4..=8)), (16, (5, 0)));
    net.restart(ANNA);
    net.run(MINUTE);
    assert_eq!(
        (left(&net), write(&mut net, 9..=23)),
        (11, (11, 4)),
        "also after a restart, until they are used up"
    );
    let anna = net.user(ANNA);
    net.power_off(ANNA);
    net.power_on(BEN);
    net.run(2 * MINUTE);
    assert_eq!(net.got(BEN, anna).len(), 23);
}

#[test]
fn a_token_counts_once_at_a_holder_also_after_its_restart() {
    let mut net = scene(cheap());
    meet(&mut net);
    let before = net.tape.len();
    assert_eq!(write(&mut net, 1..=1), (1, 0));
    let spent = offers(&net, before).remove(0);
    let holder = (2..7).find(|holder| !net.hosts[*holder].store.mail.is_empty()).unwrap();
    let used = |net: &Net| net.hosts[holder].store.tokens.len();
    assert_eq!(used(&net), 1);
    // Ben has fetched it; then somebody tries the token again with something else.
    net.power_off(ANNA);
    net.power_on(BEN);
    net.run(MINUTE);
    net.power_off(BEN);
    net.restart(holder);
    net.power_on(ANNA);
    net.run(MINUTE);
    net.link(ANNA, holder);
    net.run(SECOND);
    let other = Offer { item: other_item(&spent), ..spent };
    let before = net.tape.len();
    net.inject(ANNA, holder, encode(&Frame::Deposit { request: 77, offer: other }));
    net.run(SECOND);
    let answer = net.tape[before..].iter().find_map(|(from, _, frame)| match decode(frame) {
        Ok(Frame::DepositAnswer { request: 77, answer }) if *from == holder => Some(answer),
        _ => None,
    });
    assert!(matches!(answer, Some(Answer::Work(_))), "{answer:?}");
    net.mono += 91 * DAY;
    net.run(2 * HOUR);
    assert_eq!(used(&net), 0, "what has ended need not be remembered");
}

/// Another item for the same device, for which no work happens to be done.
fn other_item(offer: &Offer) -> Vec<u8> {
    let other = |number| {
        let mut item = Item::decode(&offer.item).unwrap();
        item.envelope.id = message_id(number);
        item.encode()
    };
    let worth = |item: &Vec<u8>| bits_of(&offer.mailbox, &item_id(item), offer.expires, offer.nonce);
    (99..).map(other).find(|item| worth(item) < 6).unwrap()
}

#[test]
fn who_has_few_left_gets_more_when_they_meet_and_not_too_often() {
    let mut net = scene(cheap());
    meet(&mut net);
    assert_eq!(write(&mut net, 1..=14), (14, 0));
    meet(&mut net);
    assert_eq!(left(&net), 18);
    assert_eq!(write(&mut net, 15..=32), (18, 0));
    meet(&mut net);
    assert_eq!(left(&net), 0, "not again within the hour");
    net.run(HOUR);
    meet(&mut net);
    assert_eq!(left(&net), 16);
    net.mono += 91 * DAY;
    net.run(2 * HOUR);
    assert_eq!(write(&mut net, 40..=40), (0, 1), "an old one is worth nothing");
}

#[test]
fn nobody_else_is_given_any() {
    let mut net = scene(cheap());
    meet(&mut net);
    assert_eq!(write(&mut net, 1..=16).0, 16);
    net.run(HOUR);
    // Ben does not show himself to Anna any more; she asks all the same.
    net.power_on(BEN);
    let ben = net.user(BEN);
    net.with(BEN, |core, now| core.set_presence(&ben, vec![session("desk")], vec![], now));
    net.join(ANNA, BEN);
    net.run(10 * SECOND);
    let asks = |net: &Net| {
        let asks =
            net.tape.iter().filter(|(.., frame)| matches!(decode(frame), Ok(Frame::WantTokens { .. })));
        asks.count()
    };
    assert_eq!((asks(&net), left(&net)), (1, 0));
    let drops = &net.hosts[BEN].core.counters().dropped;
    assert_eq!(drops.get("wish for tokens that is not granted"), Some(&1));
    // In the name of somebody who is not there.
    let before = net.hosts[BEN].core.outbox().count();
    net.inject(ANNA, BEN, encode(&Frame::WantTokens { from: Account::new(9, 109).user, to: ben }));
    net.run(SECOND);
    assert_eq!((net.hosts[BEN].core.outbox().count(), left(&net)), (before, 0));
}
