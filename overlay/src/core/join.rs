//! Further devices of our users: offers that are made here, and a join that is under way here. *Pure.*
//!
//! An offer lives in memory for ten minutes and is for one node: the first that proves to have its code, which may ask
//! again. What is given is opaque here, but for the user's record.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use zeroize::Zeroizing;

use super::timers::Timer;
use super::{Output, Overlay};
use crate::id::{NodeId, UserId};
use crate::join::{JoinAnswer, JoinCode, MAX_JOINED, NoCode, OfferId, SECRET, Where};
use crate::record::UserRecord;
use crate::time::{MINUTE, Now, SECOND};
use crate::wire::Frame;
use rand_core::Rng as _;

/// How long an offer counts.
const LIFE: u64 = 10 * MINUTE;
/// Offers at once; a further one takes the place of the oldest, and a user has one.
const MAX_OFFERS: usize = 16;
/// How long the other node is looked for.
const PATIENCE: u64 = 40 * SECOND;
/// The other node is known to be the home of the user for so long.
const HOME: u64 = 10 * MINUTE;

/// A code that was made for a further device.
#[derive(Debug)]
pub struct Offered {
    /// To be typed on the same link.
    pub typed: Zeroizing<String>,
    /// To be scanned, or carried to another network: with this node's addresses.
    pub scanned: Zeroizing<String>,
    /// When it ends, Unix milliseconds.
    pub expires: u64,
}

/// What a joining node was given.
#[derive(Clone, PartialEq, Eq)]
pub struct Joined {
    /// The user.
    pub user: UserId,
    /// As [`Overlay::offer_device`] was told it.
    pub account: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Joined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Joined({})", self.user)
    }
}

/// Why joining did not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinFailure {
    /// Another one is under way.
    #[error("another device is just joining on this node: wait until that has ended")]
    Busy,
    /// Nothing was heard of the node that made the code.
    #[error(
        "the node that made this code is not seen on this link: connect both laptops to the same network, or use the long code"
    )]
    NotFound,
    /// It is known where it is, but it does not answer.
    #[error(
        "the node that made this code cannot be reached: is it running, does a firewall block port 14774?"
    )]
    Unreachable,
    /// It does not know the code (any more).
    #[error(
        "this code does not count any more: it has expired, was used by another node, or the node was restarted. Make a new one with `crosstalk device add`"
    )]
    Denied,
    /// What it gave is not what it should be.
    #[error("the other node gave something that this one does not understand: use the same version on both")]
    Broken,
}

/// An offer.
#[derive(Debug)]
struct Offer {
    user: UserId,
    code: JoinCode,
    account: Zeroizing<Vec<u8>>,
    /// Monotonic milliseconds.
    until: u64,
    /// The one node that it is for.
    taken: Option<NodeId>,
}

/// A join under way.
#[derive(Debug)]
struct Joining {
    ticket: u64,
    code: JoinCode,
    until: u64,
    /// Who was asked on the present session.
    asked: BTreeSet<NodeId>,
}

/// Offers, and one join.
#[derive(Debug, Default)]
pub(super) struct Joins {
    offers: BTreeMap<OfferId, Offer>,
    joining: Option<Joining>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Plain {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(bytes = "vec", tag = "2")]
    user: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    record: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    account: Vec<u8>,
}

impl Overlay {
    /// Makes a code by which one more node gets `account`, at most 8 KiB, for ten minutes.
    pub fn offer_device(&mut self, user: &UserId, account: Vec<u8>, now: Now) -> Offered {
        let mut secret = Zeroizing::new([0; SECRET]);
        self.rng.fill_bytes(secret.as_mut_slice());
        let code = JoinCode::for_link(*secret, &self.node);
        let offers = &mut self.joins.offers;
        offers.retain(|_, offer| offer.user != *user && now.mono < offer.until);
        if offers.len() >= MAX_OFFERS {
            let oldest = offers.iter().min_by_key(|(_, offer)| offer.until).map(|(id, _)| *id);
            oldest.map(|id| offers.remove(&id));
        }
        let (until, account) = (now.mono + LIFE, Zeroizing::new(account));
        let offer = Offer { user: *user, code: code.clone(), account, until, taken: None };
        offers.insert(code.offer(), offer);
        let scanned = code.at(self.node, &self.addresses).scanned();
        Offered { typed: code.typed(), scanned, expires: now.wall.saturating_add(LIFE) }
    }

    /// Withdraws the offers of a user.
    pub(super) fn withdraw_offers(&mut self, user: &UserId) {
        self.joins.offers.retain(|_, offer| offer.user != *user);
    }

    /// Asks the node that made a code for its account; [`Output::Joined`] follows within 40 s.
    ///
    /// # Errors
    /// When the text is no code.
    pub fn join(&mut self, ticket: u64, code: &str, now: Now) -> Result<(), NoCode> {
        let code = JoinCode::parse(code)?;
        if self.joins.joining.is_some() {
            self.outputs.push_back(Output::Joined { ticket, joined: Err(JoinFailure::Busy) });
            return Ok(());
        }
        if let Where::At(node, addresses) = &code.place {
            self.learn(*node, addresses.clone(), now);
        }
        let until = now.mono + PATIENCE;
        self.timers.set(Timer::Join, until);
        let nodes = self.peers.candidates.keys().chain(self.peers.connected.keys());
        let fitting: BTreeSet<NodeId> = nodes.filter(|node| code.fits(node)).copied().collect();
        self.joins.joining = Some(Joining { ticket, code, until, asked: BTreeSet::new() });
        fitting.into_iter().for_each(|node| self.join_goes_on(node, now));
        Ok(())
    }

    /// Something is known of a node: if it may be the one that made the code, it is asked, or dialled.
    pub(super) fn join_goes_on(&mut self, node: NodeId, now: Now) {
        let greeted = self.is_greeted(&node);
        let Some(joining) = self.joins.joining.as_mut().filter(|joining| joining.code.fits(&node)) else {
            return;
        };
        if !greeted {
            return self.need(node, now);
        }
        if joining.asked.insert(node) {
            let (offer, proof) = (joining.code.offer(), joining.code.proof(&self.node, &node));
            self.need(node, now);
            self.send_frame(node, &Frame::Join { offer, proof }, false, now);
        }
    }

    /// A session begins: what was asked on an earlier one is asked again.
    pub(super) fn join_on_session(&mut self, node: NodeId, now: Now) {
        if let Some(joining) = &mut self.joins.joining {
            joining.asked.remove(&node);
        }
        self.join_goes_on(node, now);
    }

    /// Another node wants what was offered.
    pub(super) fn on_join(&mut self, node: NodeId, id: OfferId, proof: &[u8; 32], now: Now) {
        let offer = self.joins.offers.get_mut(&id).filter(|offer| now.mono < offer.until);
        let answer = match offer {
            None => None,
            Some(offer) if offer.code.proof(&node, &self.node) != *proof => {
                return self.offence(node, "proof of a code that it does not have", now);
            }
            Some(offer) if offer.taken.is_some_and(|taken| taken != node) => None,
            Some(offer) => {
                offer.taken = Some(node);
                let record = self.users.known.get(&offer.user).map(|known| known.record.encode());
                let plain = Plain {
                    version: 1,
                    user: offer.user.as_bytes().to_vec(),
                    record: record.unwrap_or_default(),
                    account: offer.account.to_vec(),
                };
                let plain = Zeroizing::new(plain.encode_to_vec());
                offer.code.seal(&node, &self.node, &plain, &mut self.rng).ok()
            }
        };
        if answer.is_none() {
            self.counters.drop("join without an offer that counts");
        }
        let answer = answer.map_or(JoinAnswer::Denied, JoinAnswer::Given);
        self.send_frame(node, &Frame::JoinAnswer { offer: id, answer }, false, now);
    }

    /// The node that made the code answers.
    pub(super) fn on_join_answer(&mut self, node: NodeId, id: OfferId, answer: &JoinAnswer, now: Now) {
        let mine = |joining: &&Joining| joining.asked.contains(&node) && joining.code.offer() == id;
        let Some(joining) = self.joins.joining.as_ref().filter(mine) else {
            return self.counters.drop("answer to a join that nobody asked for");
        };
        match answer {
            JoinAnswer::Denied => {
                // On a link another node may begin with the same bytes.
                let others = self.peers.candidates.keys().chain(self.peers.connected.keys());
                let code = &joining.code;
                if !others.into_iter().any(|other| *other != node && code.fits(other)) {
                    self.end_join(Err(JoinFailure::Denied));
                }
            }
            JoinAnswer::Given(sealed) => {
                let given = joining.code.open(&self.node, &node, sealed);
                let joined = given.ok().and_then(|plain| self.read_joined(&plain, now));
                if let Some(joined) = &joined {
                    let until = self.time(now).saturating_add(HOME);
                    self.is_said_to_be_at(node, joined.user, until, now);
                }
                self.end_join(joined.ok_or(JoinFailure::Broken));
            }
        }
    }

    fn read_joined(&mut self, plain: &[u8], now: Now) -> Option<Joined> {
        let plain = Plain::decode(plain).ok().filter(|plain| plain.version == 1)?;
        let user = UserId::from_slice(&plain.user)?;
        let context = self.users.context(self.clock.trusted(now));
        let record =
            UserRecord::verify(&plain.record, &context).ok().filter(|record| record.user() == user)?;
        self.take_in(&record, now);
        Some(Joined { user, account: Zeroizing::new(plain.account) })
    }

    pub(super) fn on_join_timer(&mut self, now: Now) {
        let Some(joining) = self.joins.joining.as_ref().filter(|joining| now.mono >= joining.until) else {
            return;
        };
        let known = self.peers.candidates.keys().any(|node| joining.code.fits(node));
        let failure = match () {
            () if joining.asked.iter().any(|node| self.is_greeted(node)) => JoinFailure::Denied,
            () if known => JoinFailure::Unreachable,
            () => JoinFailure::NotFound,
        };
        self.end_join(Err(failure));
    }

    fn end_join(&mut self, joined: Result<Joined, JoinFailure>) {
        if let Some(Joining { ticket, .. }) = self.joins.joining.take() {
            self.timers.cancel(Timer::Join);
            self.outputs.push_back(Output::Joined { ticket, joined });
        }
    }
}

/// What an account may have, so that it fits with a record into what is sealed.
pub const MAX_ACCOUNT: usize = MAX_JOINED - crate::record::MAX_USER_RECORD - 64;
