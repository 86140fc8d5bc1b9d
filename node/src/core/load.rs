//! From the store to the working set, at the start. *Pure.*

use std::collections::{BTreeMap, BTreeSet};

use crosstalk_link_local::instance::Instance;
use crosstalk_link_local::neighbours::{Neighbours, Who};
use crosstalk_overlay::core::state::OutboxEntry;
use crosstalk_overlay::core::state::Provenance;
use crosstalk_overlay::core::{Limits, LocalUser, Overlay, Restored, Setup as OverlaySetup};
use crosstalk_overlay::id::UserId;
use crosstalk_overlay::record::PresenceRecord;
use crosstalk_overlay::time::{Hlc, Now};
use crosstalk_storage::tree::account::Account as StoredAccount;
use crosstalk_storage::tree::block::Blocked;
use crosstalk_storage::tree::contact_record::StoredContactRecord;
use crosstalk_storage::tree::inbox::InboxEntry;
use crosstalk_storage::tree::presence::StoredPresence;
use crosstalk_storage::tree::roster::RosterItem;
use crosstalk_storage::tree::session::{AskedRequest, StoredSession, UnackedStanza};
use crosstalk_storage::tree::unaddressed::Unaddressed;
use crosstalk_storage::tree::upstream::{HeldStanza, OutsideState, read_queued};
use crosstalk_storage::tree::vcard::StoredVCard;
use crosstalk_storage::{Contents, Tree, WriteSet};
use crosstalk_storage::{Stored, decode};
use jid::{FullJid, Jid};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::xmpp::{Condition, Stanza, StanzaError};

use super::account::{Account, Accounts, Held, Inbox, address};
use super::barrier::Barrier;
use super::io::Output;
use super::link::Link;
use super::presence::RemotePresence;
use super::roster::user_of;
use super::save::TIME_FLOOR;
use super::session::{Management, SessionId, Unacked, priority_of};
use super::settings::{DeviceKeys, LoadError, Settings, Setup};
use super::{Core, Timer};

/// More stanzas than a session is sent between two commits. After a restart it is known only from below how many were
/// sent; what is queued until the client resumes is numbered from far above, so that the client's count, which may be
/// higher than ours, covers nothing that it never got.
const UNCOUNTED: u32 = 1 << 20;

impl Core {
    /// A core with what the store held. Accounts may log in at once; sessions that can be resumed wait.
    ///
    /// # Errors
    /// [`LoadError`] when something stored cannot be read, or the keys of an account are missing: nothing is dropped
    /// silently.
    pub fn new(setup: Setup, now: Now) -> Result<Self, LoadError> {
        let Setup { node, seed, settings, contents, mut keys, built } = setup;
        let id = node.id();
        let overlay = Overlay::new(overlay_setup(node, seed, &settings, &contents, built)?, now);
        let mut rng = ChaCha20Rng::from_seed(seed);
        rng.set_stream(1);
        let mut core = Self {
            settings,
            now,
            started: now.mono,
            node: id,
            rng,
            overlay,
            neighbours: Neighbours::default(),
            nearby: BTreeMap::new(),
            link: Link::default(),
            accounts: Accounts::default(),
            sessions: BTreeMap::new(),
            conns: BTreeMap::new(),
            remote_presence: RemotePresence::default(),
            visits: BTreeSet::new(),
            touched: BTreeSet::new(),
            dirty: BTreeSet::new(),
            watchers_changed: BTreeSet::new(),
            passwords: BTreeMap::new(),
            password_asked: None,
            password_tried: BTreeMap::new(),
            recoveries: BTreeMap::new(),
            timers: BTreeSet::new(),
            next_session: 1,
            next_held: 1,
            held_bytes: 0,
            next_ticket: 1,
            batch_open: true,
            writes: WriteSet::new(),
            lazy: WriteSet::new(),
            nodes: BTreeMap::new(),
            sync: super::sync::Sync::default(),
            names: super::names::Names::default(),
            upstream: super::upstream::Upstream::default(),
            searches: super::directory::Searches::default(),
            barrier: Barrier::default(),
            store_trouble: None,
            counters: BTreeMap::new(),
        };
        if let Some((domain, authority)) = core.settings.domain.clone() {
            core.overlay.pin_authority(&domain, authority, Provenance::Own, now);
        }
        if let Some((domain, authority)) = core.settings.serves.clone() {
            core.serve(&domain, authority);
        }
        core.load_accounts(&contents, &mut keys)?;
        let introductions = std::mem::take(&mut core.settings.introductions);
        core.take_introductions(&introductions);
        let revoked = std::mem::take(&mut core.settings.revoked);
        if let Err(why) = core.add_revocations(&revoked) {
            core.notice(format!("names that were taken back may not be known: {why}"));
        }
        core.load_rosters(&contents)?;
        core.load_sessions(&contents)?;
        core.load_presences(&contents)?;
        core.load_nodes(&contents);
        core.load_names(unaddressed(&contents)?);
        core.load_upstream(letters(&contents)?, entries::<OutsideState>(&contents)?);
        core.overlay.set_mailboxes(core.settings.mailboxes.clone(), now);
        core.drain_overlay();
        core.start_link();
        Ok(core)
    }

    fn load_accounts(
        &mut self,
        contents: &Contents,
        keys: &mut BTreeMap<UserId, DeviceKeys>,
    ) -> Result<(), LoadError> {
        for (key, stored) in entries::<StoredAccount>(contents)? {
            let user = user_key(&key, Tree::Account)?;
            let vcard = match contents.get(Tree::VCard, &key) {
                Some(value) => Some(read::<StoredVCard>(value)?.xml),
                None => None,
            };
            let Some(own) = keys.remove(&user) else {
                return Err(LoadError::KeysMissing { account: stored.name, xid: user.xid() });
            };
            let name = stored.name.clone();
            if let Err(why) = self.open_account(user, stored, own, vcard) {
                self.notice(format!("the account {name} cannot be used here: {why}"));
            }
            self.look_for_server(user);
        }
        for (key, blocked) in entries::<Blocked>(contents)? {
            let user = user_key(&key, Tree::Block)?;
            if let Some(edit) = &blocked.edit {
                self.overlay.observe_edit(Hlc { millis: edit.millis, counter: edit.counter }, self.now);
            }
            if let (Some(account), Ok(jid)) = (self.accounts.get_mut(&user), std::str::from_utf8(&key[32..]))
            {
                account.set_block(jid, blocked);
            }
        }
        Ok(())
    }

    /// Takes an account into the working set.
    pub(super) fn open_account(
        &mut self,
        user: UserId,
        stored: StoredAccount,
        keys: DeviceKeys,
        vcard: Option<Vec<u8>>,
    ) -> Result<(), LoadError> {
        let why = || format!("{} is no address", stored.name);
        let jid = address(&user, &stored).ok_or_else(|| unreadable(Tree::Account, why()))?;
        let account = Account {
            user,
            device: keys.device.id(),
            jid,
            stored,
            roster: super::roster::Roster::default(),
            blocked: BTreeSet::new(),
            blocks: BTreeMap::new(),
            sessions: BTreeSet::new(),
            inbox: Inbox::default(),
            vcard,
            dismissed: BTreeSet::new(),
        };
        let name = Some(account.stored.name_cert.clone()).filter(|cert| !cert.is_empty());
        let cert = account.stored.device_cert.clone();
        let local = LocalUser {
            user,
            device: keys.device,
            cert,
            sealing: keys.sealing,
            name,
            epoch: account.stored.epoch,
        };
        self.overlay.add_local(local, self.now).map_err(|why| unreadable(Tree::Account, why.to_string()))?;
        self.output(Output::Login(account.login_change()), false);
        self.accounts.insert(account);
        Ok(())
    }

    fn load_rosters(&mut self, contents: &Contents) -> Result<(), LoadError> {
        for (key, item) in entries::<RosterItem>(contents)? {
            let user = user_key(&key, Tree::Roster)?;
            if let Some(other) = user_of(&item) {
                self.overlay.keep(&other);
            }
            // The next edit has to be later, also by a clock that was put back meanwhile.
            let last = Hlc { millis: item.edited_millis, counter: item.edited_counter };
            self.overlay.observe_edit(last, self.now);
            if let Some(account) = self.accounts.get_mut(&user) {
                account.roster.put(item);
            }
        }
        let users: Vec<UserId> = self.accounts.iter().map(|account| account.user).collect();
        for user in users {
            if let Some(account) = self.accounts.get_mut(&user) {
                account.roster.restored(account.stored.roster_from);
            }
        }
        for (key, stored) in entries::<StoredContactRecord>(contents)? {
            let user = user_key(&key, Tree::ContactRecord)?;
            let other = user_key(&key[32..], Tree::ContactRecord)?;
            // Verified, not merely read: what is signed next has to be later than all that was ever agreed.
            let Ok(record) = self.overlay.reread_contact(&stored.record, self.now) else {
                self.count("stored contact records that do not verify any longer");
                continue;
            };
            if let Some(account) = self.accounts.get_mut(&user) {
                let relation = account.roster.relations.entry(other).or_default();
                relation.address = stored.address;
                relation.slots.insert(&user, record);
            }
        }
        Ok(())
    }

    /// Sessions that wait to be resumed, with what their clients have not acknowledged.
    fn load_sessions(&mut self, contents: &Contents) -> Result<(), LoadError> {
        let mut unacked: BTreeMap<SessionId, Vec<Unacked>> = BTreeMap::new();
        let mut asked: Vec<(SessionId, AskedRequest)> = Vec::new();
        for (key, stored) in entries::<StoredSession>(contents)? {
            let bad = |what: &str| unreadable(Tree::Session, what.to_owned());
            let stream: [u8; 16] = key.as_slice().try_into().map_err(|_| bad("a key of another length"))?;
            let user = user_key(&stored.user, Tree::Session)?;
            let Some(account) = self.accounts.get(&user) else {
                self.writes.delete(Tree::Session, key);
                continue;
            };
            let jid: FullJid =
                account.jid.with_resource_str(&stored.resource).map_err(|_| bad("resource"))?;
            let id = self.open_session(user, jid);
            let presence = match stored.presence.as_slice() {
                [] => None,
                bytes => Stanza::read(bytes).ok(),
            };
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            session.stream = stream;
            session.inbound = stored.inbound;
            session.presence = presence.filter(|presence| priority_of(presence) > i8::MIN);
            session.interested = stored.interested;
            session.carbons = stored.carbons;
            session.blocklist = stored.blocklist;
            let users = stored.neighbours.iter().filter_map(|user| UserId::from_slice(user)).map(Who::User);
            let instances =
                stored.link_neighbours.iter().filter_map(|name| Instance::new(name.as_str()).ok());
            session.neighbours = users.chain(instances.map(Who::Bonjour)).map(|who| (who, None)).collect();
            session.roster_known = stored.roster_known;
            session.restored = true;
            session.management =
                Some(Management { outbound: stored.outbound, resumable: true, ..Management::default() });
            let readable = read_unacked(&stored);
            if readable.len() < stored.unacked.len() {
                self.count("stored stanzas for clients that could not be read");
            }
            unacked.insert(id, readable);
            asked.extend(stored.asked.into_iter().map(|request| (id, request)));
            self.watchers_changed.insert(user);
            self.set_timer(self.settings.resume_timeout, Timer::Resume(id));
        }
        self.load_inboxes(contents, unacked)?;
        self.fail_requests_under_way(asked);
        Ok(())
    }

    /// Nobody will answer what was asked before the restart.
    fn fail_requests_under_way(&mut self, asked: Vec<(SessionId, AskedRequest)>) {
        let text = "the node was restarted before an answer came: ask again";
        let error = StanzaError::new(Condition::RecipientUnavailable, text);
        for (id, request) in asked {
            if let Ok(to) = Jid::new(&request.to) {
                self.fail_request(id, request.id.into(), to, &error, true);
            }
        }
    }

    /// Messages that are held; those that a resumable session was sent stand in its queue again, with their numbers.
    fn load_inboxes(
        &mut self,
        contents: &Contents,
        mut unacked: BTreeMap<SessionId, Vec<Unacked>>,
    ) -> Result<(), LoadError> {
        let by_stream: BTreeMap<Vec<u8>, SessionId> =
            self.sessions.iter().map(|(id, session)| (session.stream.to_vec(), *id)).collect();
        for (key, entry) in entries::<InboxEntry>(contents)? {
            let (user, number) = numbered_key(&key, Tree::Inbox)?;
            let bad = |_| unreadable(Tree::Inbox, "message id".to_owned());
            let message = entry.message.as_slice().try_into().map_err(bad)?;
            let session = by_stream.get(&entry.session).copied();
            let stanza = session.and_then(|_| Stanza::read(&entry.stanza).ok());
            let session = session.filter(|_| stanza.is_some());
            if let (Some(id), Some(stanza)) = (session, stanza) {
                let (sequence, bytes) = (entry.sequence, entry.stanza.len());
                let waiting = Unacked { sequence, stanza, bytes, held: Some(number), copy: false };
                unacked.entry(id).or_default().push(waiting);
            }
            let held = Held { stanza: entry.stanza, message, arrived: entry.arrived, session };
            if let Some(account) = self.accounts.get_mut(&user) {
                self.held_bytes += account.inbox.insert(number, held);
            }
            self.next_held = self.next_held.max(number + 1);
        }
        for (id, mut waiting) in unacked {
            let Some(management) = self.sessions.get_mut(&id).and_then(|session| session.management.as_mut())
            else {
                continue;
            };
            let from = management.outbound;
            waiting.sort_by_key(|unacked| unacked.sequence.wrapping_sub(from).cast_signed());
            if let Some(last) = waiting.last() {
                management.outbound = last.sequence;
            }
            management.replace(waiting.into());
        }
        for session in self.sessions.values_mut() {
            if let Some(management) = &mut session.management {
                management.outbound = management.outbound.wrapping_add(UNCOUNTED);
            }
        }
        Ok(())
    }

    fn load_presences(&mut self, contents: &Contents) -> Result<(), LoadError> {
        for (_, stored) in entries::<StoredPresence>(contents)? {
            match self.overlay.reread::<PresenceRecord>(&stored.record, self.now) {
                Ok(record) => self.remote_presence.restore(record, stored.seen),
                Err(_) => self.count("stored presence of people no longer known"),
            }
        }
        if self.sessions.values().any(|session| session.restored) {
            self.remote_presence.keep_former();
        }
        Ok(())
    }
}

fn overlay_setup(
    node: crosstalk_overlay::keys::NodeKey,
    seed: [u8; 32],
    settings: &Settings,
    contents: &Contents,
    built: u64,
) -> Result<OverlaySetup, LoadError> {
    let floor = contents.get(Tree::Meta, TIME_FLOOR).and_then(|value| value.try_into().ok());
    let restored = Restored {
        outbox: values::<OutboxEntry>(contents)?,
        outbound: values(contents)?,
        inbound: values(contents)?,
        seen: values(contents)?,
        records: values(contents)?,
        authorities: values(contents)?,
        own_audiences: values(contents)?,
        audiences: values(contents)?,
        revocations: contents.tree(Tree::Revocation).map(|(_, value)| value.to_vec()).collect(),
        time_floor: floor.map(u64::from_be_bytes).unwrap_or_default(),
        mail: values(contents)?,
        tokens: values(contents)?,
    };
    let mut limits = Limits { connections: settings.max_peers, ..Limits::default() };
    (limits.mailbox.bytes, limits.mailbox.bits) = (settings.mail_bytes, settings.mail_bits);
    limits.repair = settings.repair;
    Ok(OverlaySetup { node, seed, limits, restored, built, publishes: settings.publish })
}

/// What a session's client had not acknowledged, but for held messages.
fn read_unacked(stored: &StoredSession) -> Vec<Unacked> {
    let read = |unacked: &UnackedStanza| {
        let stanza = Stanza::read(&unacked.stanza).ok()?;
        let bytes = unacked.stanza.len();
        Some(Unacked { sequence: unacked.sequence, stanza, bytes, held: None, copy: false })
    };
    stored.unacked.iter().filter_map(read).collect()
}

pub(super) fn unreadable(tree: Tree, why: String) -> LoadError {
    LoadError::Unreadable { tree: tree.name(), why }
}

fn user_key(key: &[u8], tree: Tree) -> Result<UserId, LoadError> {
    let user = key.get(..32).and_then(UserId::from_slice);
    user.ok_or_else(|| unreadable(tree, "a key that names no user".to_owned()))
}

/// A user, and a number of the user's.
fn numbered_key(key: &[u8], tree: Tree) -> Result<(UserId, u64), LoadError> {
    let number = key.get(32..).and_then(|number| number.try_into().ok()).map(u64::from_be_bytes);
    let bad = || unreadable(tree, "a key of another length".to_owned());
    Ok((user_key(key, tree)?, number.ok_or_else(bad)?))
}

/// What waits for servers, to go outside.
fn letters(contents: &Contents) -> Result<Vec<(UserId, u64, HeldStanza)>, LoadError> {
    let read = |(key, letter): (Vec<u8>, HeldStanza)| {
        let (user, number) =
            read_queued(&key).ok_or_else(|| unreadable(Tree::Upstream, "a key is none".to_owned()))?;
        Ok((UserId::from_bytes(user), number, letter))
    };
    entries::<HeldStanza>(contents)?.into_iter().map(read).collect()
}

fn unaddressed(contents: &Contents) -> Result<Vec<(UserId, u64, Unaddressed)>, LoadError> {
    let read = |(key, waiting): (Vec<u8>, Unaddressed)| {
        let (user, number) = numbered_key(&key, Tree::Unaddressed)?;
        Ok((user, number, waiting))
    };
    entries(contents)?.into_iter().map(read).collect()
}

fn read<T: Stored>(value: &[u8]) -> Result<T, LoadError> {
    decode(value).map_err(|why| unreadable(T::TREE, why.to_string()))
}

fn entries<T: Stored>(contents: &Contents) -> Result<Vec<(Vec<u8>, T)>, LoadError> {
    contents.tree(T::TREE).map(|(key, value)| Ok((key.to_vec(), read(value)?))).collect()
}

fn values<T: Stored>(contents: &Contents) -> Result<Vec<T>, LoadError> {
    contents.tree(T::TREE).map(|(_, value)| read(value)).collect()
}
