//! Tokens that owners of mailboxes have given to users of this node, and that those give away. *Pure.*

use std::collections::{BTreeMap, VecDeque};

use rand_core::Rng as _;

use crate::core::Overlay;
use crate::id::UserId;
use crate::record::{Refusal, Token, Unverified, Verified};
use crate::time::{DAY, Now};

/// Tokens for one mailbox that are kept; further ones are not.
const MAX_TOKENS: usize = 64;
/// Mailboxes whose tokens are kept; further ones are not.
const MAX_MAILBOXES: usize = 4_096;
/// A token counts for so long.
const LIFE: u64 = 90 * DAY;

/// Tokens, by mailbox, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    known: BTreeMap<UserId, VecDeque<(u64, Vec<u8>)>>,
}

impl Overlay {
    /// Makes tokens for the mailbox of a user of this node, at most 64 at once: each spares whoever has it the work for
    /// one deposit.
    pub fn make_tokens(&mut self, user: &UserId, count: usize, now: Now) -> Vec<Vec<u8>> {
        let issued = self.time(now);
        let Some(local) = self.locals.get(user) else { return Vec::new() };
        let mut tokens = Vec::new();
        for _ in 0..count.min(MAX_TOKENS) {
            let mut serial = [0; 16];
            self.rng.fill_bytes(&mut serial);
            let (mailbox, device, expires) = (*user, local.device.id(), issued.saturating_add(LIFE));
            let token = Token { serial, mailbox, device, issued, expires };
            let token = Verified::sign(token, &local.device, Some(&local.cert));
            tokens.extend(token.map(|token| token.bytes().to_vec()));
        }
        tokens
    }

    /// Takes tokens that the owner of a mailbox has given to a user of this node.
    pub fn take_tokens(&mut self, tokens: &[Vec<u8>], now: Now) -> Result<(), Refusal> {
        for bytes in tokens.iter().take(MAX_TOKENS) {
            let context = self.users.context(self.clock.trusted(now));
            let token = Unverified::<Token>::parse(bytes)?.verify(&context)?;
            let known = &mut self.mail.tokens.known;
            if known.len() >= MAX_MAILBOXES && !known.contains_key(&token.mailbox) {
                self.counters.drop("no room for tokens of another mailbox");
                continue;
            }
            let known = known.entry(token.mailbox).or_default();
            if known.len() < MAX_TOKENS && !known.iter().any(|(_, known)| known == bytes) {
                known.push_back((token.expires, bytes.clone()));
            }
        }
        Ok(())
    }

    /// A token for a mailbox, which is used up; nothing if there is none.
    pub(super) fn next_token(&mut self, mailbox: &UserId, now: Now) -> Vec<u8> {
        let time = self.time(now);
        let Some(known) = self.mail.tokens.known.get_mut(mailbox) else { return Vec::new() };
        known.retain(|(expires, _)| *expires > time);
        let token = known.pop_front().map(|(_, token)| token).unwrap_or_default();
        if known.is_empty() {
            self.mail.tokens.known.remove(mailbox);
        }
        token
    }
}
