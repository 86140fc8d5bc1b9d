//! One deposit under way: the work for it, the nodes that are asked, and those that hold it. *Pure.*

use std::collections::{BTreeMap, BTreeSet};

use crate::core::Overlay;
use crate::core::timers::{Pair, Timer};
use crate::id::{ItemId, NodeId, UserId};
use crate::mailbox::work::{MAX_BITS, Search, price};
use crate::mailbox::{Answer, COPIES, Offer, item_id};
use crate::time::{Now, SECOND};
use crate::wire::Frame;

/// A node that cannot be reached, or does not answer, for so long is not asked any more.
const PATIENCE: u64 = 30 * SECOND;
/// Bytes of deposits to one node without answer, unless it is one alone.
const NODE_BYTES: usize = 256 * 1_024;
/// Deposits to one node without answer.
const NODE_REQUESTS: usize = 32;
/// So many nonces are tried at a time: a millisecond or two …
const TRIES: u64 = 16_384;
/// … and then other things have their turn for so long.
const PAUSE: u64 = 10;

/// What a deposit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum JobKey {
    /// A message to a device.
    Copy(Pair, u64),
    /// Receipts, by number.
    Receipts(u64),
    /// Something held here that another holder of the mailbox lacks.
    Replica(UserId, ItemId),
}

#[derive(Debug)]
pub(super) struct Job {
    id: ItemId,
    offer: Offer,
    /// Work found for the offer's nonce, bits. None: not even looked for; a replica brings its own.
    worth: Option<u32>,
    search: Option<Search>,
    /// None: wherever the mailbox is.
    only: Option<BTreeSet<NodeId>>,
    held: BTreeSet<NodeId>,
    refused: BTreeSet<NodeId>,
    /// Nodes that were asked or are to be connected, until when, with the number of the request.
    asked: BTreeMap<NodeId, (u64, Option<u64>)>,
}

impl Job {
    pub(super) fn new(offer: Offer, held: BTreeSet<NodeId>) -> Self {
        let id = item_id(&offer.item);
        let worth = (!offer.token.is_empty()).then_some(MAX_BITS);
        let (refused, asked) = (BTreeSet::new(), BTreeMap::new());
        Self { id, offer, worth, search: None, only: None, held, refused, asked }
    }

    pub(super) fn replica(id: ItemId, offer: Offer, only: BTreeSet<NodeId>) -> Self {
        let job = Self::new(offer, BTreeSet::new());
        Self { id, worth: Some(MAX_BITS), only: Some(only), ..job }
    }

    fn search(&mut self, bits: u32) {
        let Offer { mailbox, expires, .. } = &self.offer;
        self.search = Some(Search::new(mailbox, &self.id, *expires, bits));
    }
}

/// All deposits under way.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    all: BTreeMap<JobKey, Job>,
    bytes: usize,
    requests: BTreeMap<u64, (JobKey, NodeId)>,
    next_request: u64,
}

impl Jobs {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn contains(&self, key: &JobKey) -> bool {
        self.all.contains_key(key)
    }

    /// Has a replica that is under way go to these nodes as well: one that has died must not keep the others waiting. False:
    /// none is.
    pub(super) fn extend(&mut self, key: &JobKey, to: &BTreeSet<NodeId>) -> bool {
        let job = self.all.get_mut(key).and_then(|job| job.only.as_mut());
        job.map(|only| only.extend(to)).is_some()
    }

    fn remove(&mut self, key: &JobKey) -> Option<Job> {
        let job = self.all.remove(key)?;
        self.bytes -= job.offer.item.len();
        for (_, request) in job.asked.values() {
            request.map(|request| self.requests.remove(&request));
        }
        Some(job)
    }

    /// Whether a node may be asked to hold so many bytes more, before it has answered for others.
    fn has_room_at(&self, node: &NodeId, size: usize) -> bool {
        let to_node = self.requests.values().filter(|(_, to)| to == node);
        let sizes = to_node.filter_map(|(key, _)| self.all.get(key)).map(|job| job.offer.item.len());
        let (count, bytes) = sizes.fold((0, 0), |(count, bytes), size| (count + 1, bytes + size));
        count == 0 || count < NODE_REQUESTS && bytes + size <= NODE_BYTES
    }

    /// What was asked on a session that has ended may be asked again on the next.
    pub(super) fn forget_session(&mut self, node: &NodeId) {
        let lost: Vec<u64> =
            self.requests.iter().filter(|(_, (_, to))| to == node).map(|(request, _)| *request).collect();
        for request in lost {
            if let Some((key, _)) = self.requests.remove(&request) {
                self.all.get_mut(&key).map(|job| job.asked.remove(node));
            }
        }
    }
}

impl Overlay {
    pub(super) fn has_room_for_job(&self, size: usize) -> bool {
        let jobs = &self.mail.jobs;
        jobs.all.len() < self.limits.deposits && jobs.bytes + size <= self.limits.deposit_bytes
    }

    /// Begins a deposit, if there is room for it.
    pub(super) fn add_job(&mut self, key: JobKey, job: Job, now: Now) -> bool {
        let fits = self.has_room_for_job(job.offer.item.len()) && !self.mail.jobs.contains(&key);
        if fits {
            self.mail.jobs.bytes += job.offer.item.len();
            self.mail.jobs.all.insert(key, job);
            self.mail_soon(now);
        }
        fits
    }

    pub(super) fn advance_jobs(&mut self, now: Now) {
        let keys: Vec<JobKey> = self.mail.jobs.all.keys().copied().collect();
        for key in keys {
            if self.is_wanted_still(&key) {
                self.advance(key, now);
            } else {
                self.mail.jobs.remove(&key);
            }
        }
    }

    fn is_wanted_still(&self, key: &JobKey) -> bool {
        match key {
            JobKey::Copy(pair, number) => self.is_to_be_deposited(*pair, *number),
            JobKey::Receipts(_) => true,
            JobKey::Replica(user, id) => self.mail.held.get(*id, *user).is_some(),
        }
    }

    /// Asks as many nodes as have to hold it, and ends when they do or when there are no others.
    fn advance(&mut self, key: JobKey, now: Now) {
        let Some(job) = self.mail.jobs.all.get_mut(&key) else { return };
        let late: Vec<NodeId> =
            job.asked.iter().filter(|(_, (until, _))| *until <= now.mono).map(|(node, _)| *node).collect();
        for node in late {
            job.refused.insert(node);
            let request = job.asked.remove(&node).and_then(|(_, request)| request);
            request.map(|request| self.mail.jobs.requests.remove(&request));
        }
        let Some(candidates) = self.candidates(&key, now) else { return };
        let Some(job) = self.mail.jobs.all.get_mut(&key) else { return };
        if job.search.is_some() {
            return;
        }
        let want = job.only.as_ref().map_or(COPIES, BTreeSet::len);
        let open = want.saturating_sub(job.held.len() + job.asked.len());
        let new = |node: &NodeId| {
            !job.held.contains(node) && !job.refused.contains(node) && !job.asked.contains_key(node)
        };
        let next: Vec<NodeId> = candidates.into_iter().filter(new).take(open).collect();
        if next.is_empty() && job.asked.is_empty() {
            return self.end_job(key, now);
        }
        if job.worth.is_none() {
            // Work comes when there is somebody to pay.
            job.search(price(self.limits.mailbox.bits, job.offer.item.len()));
            return self.timers.set_earlier(Timer::Work, now.mono);
        }
        for node in next {
            job.asked.insert(node, (now.mono + PATIENCE, None));
        }
        self.offer_to_asked(key, now);
    }

    /// Nodes that could hold it, the best first. None: they are being looked for.
    fn candidates(&mut self, key: &JobKey, now: Now) -> Option<Vec<NodeId>> {
        let job = self.mail.jobs.all.get(key)?;
        if let Some(only) = &job.only {
            return Some(only.iter().copied().collect());
        }
        let mailbox = job.offer.mailbox;
        self.holders_for(&mailbox, now)
    }

    /// Sends it to those that are connected, and connects the others.
    fn offer_to_asked(&mut self, key: JobKey, now: Now) {
        let Some(job) = self.mail.jobs.all.get(&key) else { return };
        let size = job.offer.item.len();
        let waiting: Vec<NodeId> =
            job.asked.iter().filter(|(_, (_, request))| request.is_none()).map(|(node, _)| *node).collect();
        for node in waiting {
            if !self.peers.is_ready(&node) {
                self.connect_holder(node, now);
            } else if self.mail.jobs.has_room_at(&node, size) {
                self.offer_to(key, node, now);
            } else if let Some(asked) =
                self.mail.jobs.all.get_mut(&key).and_then(|job| job.asked.get_mut(&node))
            {
                // It is busy with others: patience begins with the request.
                asked.0 = now.mono + PATIENCE;
            }
        }
    }

    fn offer_to(&mut self, key: JobKey, node: NodeId, now: Now) {
        let jobs = &mut self.mail.jobs;
        let Some(job) = jobs.all.get_mut(&key) else { return };
        jobs.next_request += 1;
        let request = jobs.next_request;
        job.asked.insert(node, (now.mono + PATIENCE, Some(request)));
        jobs.requests.insert(request, (key, node));
        let frame = Frame::Deposit { request, offer: job.offer.clone() };
        self.send_frame(node, &frame, true, now);
    }

    pub(in crate::core) fn on_deposit_answer(
        &mut self,
        node: NodeId,
        request: u64,
        answer: Answer,
        now: Now,
    ) {
        let asked = self.mail.jobs.requests.get(&request).copied().filter(|(_, to)| *to == node);
        let Some((key, _)) = asked else { return self.counters.drop("answer to no deposit") };
        self.mail.jobs.requests.remove(&request);
        let Some(job) = self.mail.jobs.all.get_mut(&key) else { return };
        job.asked.remove(&node);
        match answer {
            Answer::Held => {
                job.held.insert(node);
                self.is_held(key, node, now);
            }
            // What a holder asks must be more than it had, and no more than anybody does; a token was not taken.
            Answer::Work(bits)
                if bits <= MAX_BITS
                    && job.only.is_none()
                    && job.worth.is_none_or(|worth| worth < bits || !job.offer.token.is_empty()) =>
            {
                job.offer.token.clear();
                job.search(bits);
                self.timers.set_earlier(Timer::Work, now.mono);
            }
            Answer::Work(_) | Answer::Full | Answer::TooLarge | Answer::Policy => {
                job.refused.insert(node);
            }
        }
        self.advance(key, now);
    }

    fn is_held(&mut self, key: JobKey, node: NodeId, now: Now) {
        match key {
            JobKey::Copy(pair, number) => self.copy_is_held(pair, number, node),
            JobKey::Receipts(number) => self.receipts_are_held(number, now),
            JobKey::Replica(user, id) => self.note_replica(user, id, node),
        }
    }

    /// As many hold it as can be had.
    fn end_job(&mut self, key: JobKey, now: Now) {
        let Some(job) = self.mail.jobs.remove(&key) else { return };
        if let JobKey::Copy((device, _), _) = key
            && job.held.is_empty()
            && let Some(user) = self.local_devices.get(&device).copied()
        {
            self.return_token(user, job.offer.token, now);
        }
        match key {
            JobKey::Copy(pair, number) if job.held.len() < COPIES => {
                self.deposit_later(pair, number, now.mono + self.limits.repair);
            }
            JobKey::Receipts(number) => self.receipts_have_ended(number),
            JobKey::Copy(..) | JobKey::Replica(..) => {}
        }
    }

    /// Tries some nonces for the first deposit that needs one.
    pub(in crate::core) fn on_work_timer(&mut self, now: Now) {
        let mut searching = self
            .mail
            .jobs
            .all
            .iter_mut()
            .filter(|(_, job)| job.search.is_some())
            .map(|(key, job)| (*key, job));
        let Some((key, job)) = searching.next() else { return };
        let others = searching.next().is_some();
        let found = job.search.as_mut().and_then(|search| Some((search.step(TRIES)?, search.bits())));
        if let Some((nonce, bits)) = found {
            (job.offer.nonce, job.worth, job.search) = (nonce, Some(bits), None);
            self.advance(key, now);
        }
        if others || found.is_none() {
            self.timers.set_earlier(Timer::Work, now.mono + PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_under_way_goes_to_further_nodes_as_well() {
        let (user, nodes) = (UserId::from_bytes([1; 32]), [2, 3].map(|seed| NodeId::from_bytes([seed; 32])));
        let offer =
            Offer { mailbox: user, item: vec![4], expires: 5, nonce: 0, token: Vec::new(), replica: true };
        let id = item_id(&offer.item);
        let (replica, receipts) = (JobKey::Replica(user, id), JobKey::Receipts(1));
        let mut jobs = Jobs::default();
        jobs.all.insert(replica, Job::replica(id, offer.clone(), BTreeSet::from([nodes[0]])));
        jobs.all.insert(receipts, Job::new(offer, BTreeSet::new()));
        let further = BTreeSet::from([nodes[1]]);
        assert!(jobs.extend(&replica, &further));
        assert_eq!(jobs.all[&replica].only, Some(BTreeSet::from(nodes)));
        assert!(!jobs.extend(&receipts, &further), "that goes wherever the mailbox is");
    }
}
