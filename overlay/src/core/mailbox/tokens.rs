//! Tokens: given to contacts with the grant and when they have few left, kept until they are used. *Pure.*
//!
//! A token spares its bearer the work for one message in the mailbox of whoever signed it. The giver remembers nothing of
//! it, a holder that it was used there.

use std::collections::{BTreeMap, VecDeque};

use rand_core::Rng as _;

use crate::core::state::{STATE_VERSION, StoredToken, TokenPlace};
use crate::core::{Outgoing, Output, Overlay, Restored, Write};
use crate::envelope::{Content, MAX_TOKENS};
use crate::id::{MessageId, NodeId, UserId};
use crate::record::{Token, Unverified, Verified};
use crate::time::{DAY, HOUR, Now};
use crate::wire::Frame;

/// Tokens that are given at once.
const GIVEN: usize = 16;
/// Who has fewer asks for more.
const FEW: usize = 4;
/// Tokens for one mailbox that a user keeps; further ones are not kept.
const MAX_EACH: usize = 32;
/// Tokens that are kept of all; further ones are not.
const MAX_KEPT: usize = 8_192;
/// A token counts for so long.
const LIFE: u64 = 90 * DAY;
/// Nobody asks, and nobody is given any, again within so long.
const AGAIN: u64 = HOUR;
/// Pairs of users of whom that is remembered; the one that asked longest ago is forgotten.
const MAX_ASKED: usize = 4_096;

/// Of which mailbox, and which user of ours may put something into it.
type Pair = (UserId, UserId);

#[derive(Clone, Debug)]
pub(super) struct Kept {
    serial: [u8; 16],
    expires: u64,
    token: Vec<u8>,
}

/// What users here may spend, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    kept: BTreeMap<Pair, VecDeque<Kept>>,
    count: usize,
    /// Who asked whom for more, there or here, and when.
    asked: BTreeMap<Pair, u64>,
}

impl Tokens {
    fn keep(&mut self, pair: Pair, token: Kept) -> bool {
        let kept = self.kept.entry(pair).or_default();
        let fits = self.count < MAX_KEPT
            && kept.len() < MAX_EACH
            && kept.iter().all(|known| known.serial != token.serial);
        if fits {
            kept.push_back(token);
            self.count += 1;
        }
        fits
    }

    /// Takes the first, with those before it that have ended.
    fn take(&mut self, pair: &Pair, time: u64) -> (Vec<Kept>, Option<Kept>) {
        let Some(kept) = self.kept.get_mut(pair) else { return (Vec::new(), None) };
        let ended = kept.iter().take_while(|token| token.expires <= time).count();
        let ended: Vec<Kept> = kept.drain(..ended).collect();
        let token = kept.pop_front();
        self.count -= ended.len() + usize::from(token.is_some());
        if kept.is_empty() {
            self.kept.remove(pair);
        }
        (ended, token)
    }

    fn left(&self, pair: &Pair) -> usize {
        self.kept.get(pair).map_or(0, VecDeque::len)
    }

    /// Whether one may ask the other now; if so, it has.
    fn may_ask(&mut self, pair: Pair, mono: u64) -> bool {
        if self.asked.get(&pair).is_some_and(|at| mono < at + AGAIN) {
            return false;
        }
        if self.asked.len() >= MAX_ASKED {
            let first = self.asked.iter().min_by_key(|(_, at)| **at).map(|(pair, _)| *pair);
            first.map(|pair| self.asked.remove(&pair));
        }
        self.asked.insert(pair, mono);
        true
    }
}

impl Overlay {
    pub(super) fn restore_tokens(&mut self, restored: &Restored) {
        for stored in &restored.tokens {
            match stored.key() {
                Some(TokenPlace { mailbox, serial, to: Some(to) }) => {
                    let token = Kept { serial, expires: stored.expires, token: stored.token.clone() };
                    self.mail.tokens.keep((mailbox, to), token);
                }
                Some(TokenPlace { mailbox, serial, to: None }) => {
                    self.mail.held.remember_used(mailbox, serial, stored.expires);
                }
                None => self.counters.drop("stored token"),
            }
        }
    }

    /// Gives somebody who may see a user of ours tokens for that user's mailbox.
    pub(in crate::core) fn give_tokens(&mut self, user: &UserId, to: &UserId, now: Now) {
        let tokens = self.make_tokens(user, now);
        if !tokens.is_empty() {
            let mut id = [0; 16];
            self.rng.fill_bytes(&mut id);
            let (id, content) = (MessageId::from_bytes(id), Content::Tokens(tokens));
            // If there is no room, they will ask.
            let _ = self.accept(Outgoing { id, from: *user, to: *to, content, expires: None }, now);
        }
    }

    fn make_tokens(&mut self, user: &UserId, now: Now) -> Vec<Vec<u8>> {
        let issued = self.time(now);
        let Some(local) = self.locals.get(user) else { return Vec::new() };
        let mut tokens = Vec::new();
        for _ in 0..GIVEN {
            let mut serial = [0; 16];
            self.rng.fill_bytes(&mut serial);
            let (mailbox, device, expires) = (*user, local.device.id(), issued.saturating_add(LIFE));
            let token = Token { serial, mailbox, device, issued, expires };
            let token = Verified::sign(token, &local.device, Some(&local.cert));
            tokens.extend(token.map(|token| token.bytes().to_vec()));
        }
        tokens
    }

    /// The owner of a mailbox gives tokens for it to a user of this node.
    pub(in crate::core) fn take_tokens(&mut self, from: UserId, to: UserId, tokens: &[Vec<u8>], now: Now) {
        if !self.users.is_kept(&from) {
            return self.counters.drop("tokens of somebody who is no contact");
        }
        for bytes in tokens.iter().take(MAX_TOKENS) {
            let context = self.users.context(self.clock.trusted(now));
            let token = Unverified::<Token>::parse(bytes).and_then(|token| token.verify(&context));
            match token {
                Ok(token) if token.mailbox == from => {
                    let (serial, expires) = (token.serial, token.expires);
                    self.keep_token((from, to), Kept { serial, expires, token: bytes.clone() });
                }
                Ok(_) | Err(_) => self.counters.drop("token that does not count"),
            }
        }
    }

    fn keep_token(&mut self, pair: Pair, token: Kept) {
        let stored = StoredToken {
            version: STATE_VERSION,
            mailbox: pair.0.as_bytes().to_vec(),
            serial: token.serial.to_vec(),
            to: pair.1.as_bytes().to_vec(),
            expires: token.expires,
            token: token.token.clone(),
        };
        match self.mail.tokens.keep(pair, token) {
            true => self.outputs.push_back(Output::Write(Write::PutToken(stored))),
            false => self.counters.drop("token that finds no room"),
        }
    }

    /// A token for a mailbox, which the user of ours has used up with that; nothing if there is none.
    pub(super) fn next_token(&mut self, mailbox: &UserId, user: &UserId, now: Now) -> Vec<u8> {
        let (ended, token) = self.mail.tokens.take(&(*mailbox, *user), self.time(now));
        for gone in ended.iter().chain(&token) {
            let place = TokenPlace { mailbox: *mailbox, serial: gone.serial, to: Some(*user) };
            self.outputs.push_back(Output::Write(Write::DeleteToken(place)));
        }
        if self.mail.tokens.left(&(*mailbox, *user)) < FEW {
            self.want_tokens(mailbox, now);
        }
        token.map(|token| token.token).unwrap_or_default()
    }

    /// A token was not used after all: nobody took what it was for.
    pub(super) fn return_token(&mut self, user: UserId, bytes: Vec<u8>, now: Now) {
        let context = self.users.context(self.clock.trusted(now));
        let token = Unverified::<Token>::parse(&bytes).and_then(|token| token.verify(&context));
        if let Ok(token) = token {
            let kept = Kept { serial: token.serial, expires: token.expires, token: bytes };
            self.keep_token((token.mailbox, user), kept);
        }
    }

    /// Asks a user who is there for more tokens, in the name of those of ours who may see that user and have few.
    pub(in crate::core) fn want_tokens(&mut self, mailbox: &UserId, now: Now) {
        let Some((_, node)) = self.users.live_devices(mailbox).first().copied() else { return };
        for user in self.audiences.readers_of(mailbox) {
            let pair = (*mailbox, user);
            if self.mail.tokens.left(&pair) < FEW && self.mail.tokens.may_ask(pair, now.mono) {
                self.send_frame(node, &Frame::WantTokens { from: user, to: *mailbox }, false, now);
            }
        }
    }

    /// Somebody asks for tokens for the mailbox of a user of ours.
    pub(in crate::core) fn on_want_tokens(&mut self, node: NodeId, from: UserId, to: UserId, now: Now) {
        if !self.is_proven(&from, &node) {
            return self.unproven(node, now);
        }
        let contact = self.locals.get(&to).is_some_and(|local| local.shown.watchers.contains(&from));
        if contact && self.mail.tokens.may_ask((to, from), now.mono) {
            self.give_tokens(&to, &from, now);
        } else {
            self.counters.drop("wish for tokens that is not granted");
        }
    }

    /// A user is not of this node any more.
    pub(in crate::core) fn forget_tokens(&mut self, user: &UserId) {
        let pairs = self.mail.tokens.kept.keys().filter(|(_, to)| to == user);
        for pair in pairs.copied().collect::<Vec<_>>() {
            for gone in self.mail.tokens.kept.remove(&pair).into_iter().flatten() {
                self.mail.tokens.count -= 1;
                let place = TokenPlace { mailbox: pair.0, serial: gone.serial, to: Some(pair.1) };
                self.outputs.push_back(Output::Write(Write::DeleteToken(place)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(number: usize) -> UserId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
        UserId::from_bytes(bytes)
    }

    fn token(number: usize, expires: u64) -> Kept {
        Kept { serial: (number as u128).to_be_bytes(), expires, token: vec![1] }
    }

    #[test]
    fn tokens_are_bounded_for_each_mailbox_and_of_all() {
        let mut tokens = Tokens::default();
        let pair = (user(1), user(2));
        (0..MAX_EACH).for_each(|number| assert!(tokens.keep(pair, token(number, 10))));
        assert!(!tokens.keep(pair, token(MAX_EACH, 10)), "one mailbox");
        for number in MAX_EACH..MAX_KEPT {
            assert!(tokens.keep((user(number), user(2)), token(0, 10)));
        }
        assert!(!tokens.keep((user(1), user(3)), token(0, 10)), "all");
        assert!(tokens.take(&pair, 5).1.is_some());
        assert!(tokens.keep((user(1), user(3)), token(0, 10)), "there is room again");
    }

    #[test]
    fn each_is_used_once_and_not_when_it_has_ended() {
        let mut tokens = Tokens::default();
        let pair = (user(1), user(2));
        assert!(tokens.keep(pair, token(1, 5)) && tokens.keep(pair, token(2, 20)));
        assert!(!tokens.keep(pair, token(2, 20)), "it is there");
        let (ended, next) = tokens.take(&pair, 10);
        assert_eq!((ended.len(), next.map(|token| token.expires)), (1, Some(20)));
        assert!(tokens.take(&pair, 10).1.is_none());
        assert_eq!((tokens.count, tokens.kept.len()), (0, 0));
    }

    #[test]
    fn nobody_asks_again_at_once_and_those_who_asked_are_bounded() {
        let mut tokens = Tokens::default();
        assert!(tokens.may_ask((user(1), user(2)), 0) && !tokens.may_ask((user(1), user(2)), AGAIN - 1));
        assert!(tokens.may_ask((user(1), user(2)), AGAIN));
        for number in 0..2 * MAX_ASKED {
            tokens.may_ask((user(number), user(3)), AGAIN);
        }
        assert_eq!(tokens.asked.len(), MAX_ASKED);
    }
}
