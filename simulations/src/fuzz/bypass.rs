//! Owns the targets for what strangers say to the bypass gateway: SOCKS, what protocols begin with, and what a server offers.

use crosstalk::bypass::base::{Base, Notice, Side, Verdict};
use crosstalk::bypass::features::Features;
use crosstalk::bypass::socks::{Handshake, Host, MOST, Refused, Step};

use super::bounded;
use crate::world::dice::Dice;

/// What a client says before it is connected: the same steps and the same rest however the bytes are cut into pieces.
pub fn socks(data: &[u8]) {
    let data = &data[..data.len().min(MOST)];
    let whole = steps(data, [data.len()]);
    assert_eq!(whole, steps(data, 1..=data.len()), "single bytes make other steps");
    let mut dice = Dice::new(u64::from(crc32fast::hash(data)));
    let mut cuts = vec![place(&mut dice, data.len()), place(&mut dice, data.len()), data.len()];
    cuts.sort_unstable();
    assert_eq!(whole, steps(data, cuts), "pieces make other steps");
    assert!(data.ends_with(&whole.1), "what is left over was not said");
    for step in &whole.0 {
        if let Step::Connect(target) = step {
            let text = match &target.host {
                Host::Name(name) => name.clone(),
                Host::Address(address) => address.to_string(),
            };
            assert_eq!(Host::read(&text).as_ref(), Some(&target.host), "no normal form");
            assert!(target.port > 0 && text.len() <= 253);
        }
    }
}

/// The steps, and what was said behind the last one that ends the handshake.
fn steps(data: &[u8], ends: impl IntoIterator<Item = usize>) -> (Vec<Step>, Vec<u8>) {
    let mut handshake = Handshake::default();
    let (mut steps, mut start) = (Vec::new(), 0);
    for end in ends {
        handshake.hear(&data[start..end]);
        start = end;
        while let Some(step) = handshake.step() {
            check_reply(&handshake, &step);
            steps.push(step);
        }
        let over = !matches!(steps.last(), None | Some(Step::Say(_)));
        assert!(over || handshake.room() > 0, "it waits for more than it takes");
    }
    let ended = |step: &&Step| !matches!(step, Step::Say(_));
    assert!(steps.iter().filter(ended).count() <= 1, "two ends");
    (steps, handshake.into_rest())
}

/// Only who asked in a way that is known hears an answer, and it is that of its protocol.
fn check_reply(handshake: &Handshake, step: &Step) {
    let Step::Refuse(why) = step else { return };
    let reply = handshake.refused(*why);
    let fits = match (&reply[..], why) {
        ([], Refused::NotSocks) | ([5, 0xff], Refused::Authentication) => true,
        ([0, 0x5b, rest @ ..], _) => rest.len() == 6,
        ([5, code, 0, 1, rest @ ..], _) => (1..=8).contains(code) && rest.len() == 6,
        _ => false,
    };
    assert!(fits, "{why:?} is answered by {reply:?}");
}

/// What both sides of a connection say first: the same verdict, and the same user, for every split and every order.
pub fn opening(data: &[u8]) {
    let data = bounded(data);
    // The first two bytes say where the client's part ends.
    let Some((cut, said)) = data.split_first_chunk::<2>() else { return };
    let (client, server) = said.split_at(usize::from(u16::from_be_bytes(*cut)).min(said.len()));
    let whole = verdict([(Side::Client, client), (Side::Server, server)]);
    assert_eq!(whole, verdict([(Side::Server, server), (Side::Client, client)]), "the order counts");
    let (mut rest, mut pieces) = ([client, server], Vec::new());
    let mut dice = Dice::new(u64::from(crc32fast::hash(data)));
    while rest.iter().any(|rest| !rest.is_empty()) {
        let side = usize::from(dice.chance(50));
        let most = if dice.chance(50) { 1 } else { rest[side].len() };
        let (piece, behind) = rest[side].split_at(place(&mut dice, most).min(rest[side].len()));
        rest[side] = behind;
        pieces.push(([Side::Client, Side::Server][side], piece));
    }
    assert_eq!(whole, verdict(pieces), "pieces make another verdict");
}

/// The verdict and what is learnt behind it, each given once.
fn verdict<'a>(said: impl IntoIterator<Item = (Side, &'a [u8])>) -> (Option<Verdict>, Option<Notice>) {
    let mut base = Base::new(None);
    let (mut found, mut learnt) = (None, None);
    for (side, bytes) in said {
        let verdict = base.hear(side, bytes);
        assert!(found.is_none() || verdict.is_none(), "two verdicts");
        found = found.or(verdict);
        assert_eq!(base.is_found(), found.is_some());
        let notice = base.take_notice();
        assert!(
            notice.is_none() || found.is_some() && learnt.is_none(),
            "learnt twice, or before the verdict"
        );
        learnt = learnt.or(notice);
    }
    assert_eq!(base.give_up().is_some(), found.is_none());
    (found, learnt)
}

/// What a server says before the login, without channel binding: the same is passed on for every split, nothing that was not said,
/// in its order, and all of it behind the login.
pub fn features(data: &[u8]) {
    let data = bounded(data);
    let whole = passed(data, [data.len()]);
    assert_eq!(whole, passed(data, 1..=data.len()), "single bytes are passed on otherwise");
    let mut dice = Dice::new(u64::from(crc32fast::hash(data)));
    let mut cuts = vec![place(&mut dice, data.len()), place(&mut dice, data.len()), data.len()];
    cuts.sort_unstable();
    assert_eq!(whole, passed(data, cuts), "pieces are passed on otherwise");
    let mut said = data.iter();
    assert!(
        whole.0.iter().all(|byte| said.any(|one| one == byte)),
        "something was added, or its order changed"
    );
}

/// All that is passed on, whether that is the end of looking, and whether a login failed.
fn passed(data: &[u8], ends: impl IntoIterator<Item = usize>) -> (Vec<u8>, bool, bool) {
    let mut features = Features::default();
    let (mut passed, mut start) = (Vec::new(), 0);
    for end in ends {
        let was_over = features.is_over();
        let piece = features.pass(&data[start..end]);
        assert!(!was_over || piece == data[start..end], "changed behind the login");
        passed.extend(piece);
        start = end;
    }
    let (over, refused) = (features.is_over(), features.take_refused());
    passed.extend(features.give_up());
    (passed, over, refused)
}

/// Somewhere in so many bytes, ends included.
fn place(dice: &mut Dice, count: usize) -> usize {
    usize::try_from(dice.below(count as u64 + 1)).unwrap_or(0)
}
