//! What a pupil has and what becomes of it in the week that the server could not be reached.

use std::collections::BTreeSet;

use crosstalk_overlay::authority::certify;
use crosstalk_overlay::enrol::{self, Ask, Letter, Why, login_context};
use crosstalk_overlay::record::{DeviceCert, Revocation, Revoked, RevokedBy, Verified};
use crosstalk_storage::tree::authority::{Member, MemberState};

use super::laptop::Laptop;
use super::{DAY, Measured};
use crate::authority::database::Change;
use crate::authority::office::Office;
use crate::authority::opaque::{Account, LoginAttempt};
use crate::authority::tests_on_postgres::Said;

pub(super) const PASSWORD: &[u8] = b"four words are better";
/// Contacts of each; and of them those whose presence it sees, who see its own.
pub(super) const CONTACTS: usize = 30;
const FRIENDS: usize = 10;

/// What becomes of one pupil.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Plain,
    /// Has a second laptop since.
    Another,
    /// Has lost a laptop, and says so from the first one when that meets the server.
    Lost,
    /// Has lost a laptop, and whoever runs the server revoked it during the week.
    Revoked,
    /// Was disabled during the week.
    Disabled,
    /// Has blocked its next friend.
    Blocks,
    /// Has blocked it under an address that only the contact list has.
    BlocksListed,
}

pub(super) fn fate(user: usize) -> Fate {
    match user % 20 {
        0 => Fate::Another,
        3 => Fate::Lost,
        7 => Fate::Revoked,
        11 => Fate::Disabled,
        15 => Fate::Blocks,
        19 => Fate::BlocksListed,
        _ => Fate::Plain,
    }
}

pub(super) fn friends_of(user: usize, many: usize) -> BTreeSet<usize> {
    let steps = (1..=FRIENDS / 2).flat_map(|step| [(user + step) % many, (user + many - step % many) % many]);
    steps.filter(|other| *other != user).collect()
}

pub(super) fn next(user: usize, many: usize) -> usize {
    (user + 1) % many
}

/// What a pupil's laptop has before the week.
pub(super) fn before_the_week(laptop: &mut Laptop, user: usize, all: &[Verified<DeviceCert>], at: u64) {
    (0..CONTACTS).for_each(|contact| laptop.edit(contact, &format!("Contact number {contact}"), at));
    for other in friends_of(user, all.len()) {
        laptop.befriend(user, (other, &all[other]), at);
    }
    laptop.serial = 1;
}

/// What happens to it while nobody can reach the server.
pub(super) fn lives_for_a_week(laptop: &mut Laptop, user: usize, many: usize, at: u64) {
    (0..10).for_each(|contact| laptop.edit(contact, &format!("Renamed {contact}"), at));
    if fate(user) == Fate::Blocks {
        laptop.block(&format!("pupil{}@school.example", next(user, many)), at);
    }
    if fate(user) == Fate::BlocksListed {
        laptop.list("cousin@old.example", next(user, many), at);
        laptop.block("cousin@old.example", at);
    }
    let xml = format!(
        "<message from='pupil{user}@school.example/desk' to='uncle{user}@s{}.example' type='chat' id='{user}'><body>I am \
         well.</body></message>",
        user % 97
    );
    laptop.writes = Some(Letter { number: 1, at, stanza: xml.into_bytes(), copy: false });
}

/// The record of the devices of a pupil who has lost one.
pub(super) fn without(laptop: &Laptop, lost: &Laptop, now: u64) -> Vec<u8> {
    let mut record = laptop.devices(&[lost], now);
    let what = Revoked::Device(lost.user.id(), lost.device.id());
    let revocation = Revocation { what, by: RevokedBy::User, since: now };
    record.add_revocation(Verified::sign(revocation, &laptop.user, None).expect("signed"));
    record.encode()
}

/// As in the spring: its certificate is to be renewed by now.
pub(super) fn enrol(office: &Office, laptop: &Laptop, user: usize, now: u64) {
    let old = certify(&office.key, &laptop.address, laptop.user.id(), 0, now - 61 * DAY);
    let (state, key) = (MemberState::Enrolled.into(), laptop.user.id().as_bytes().to_vec());
    let name = old.expect("certified").bytes().to_vec();
    let member = Member { state, user: key, name, ..Member::default() };
    office.database.commit(Change::default().member(&format!("pupil{user}"), member)).expect("durable");
}

/// Mistypes the password, and then does not.
pub(super) fn log_in(server: &mut Measured, laptop: &Laptop) {
    for password in [&b"four worse are bitter"[..], PASSWORD] {
        let begun = LoginAttempt::start(password).expect("begun");
        let (address, request) = (laptop.address.clone(), begun.request.clone());
        let login = enrol::Login { address, request, nonce: 0, derived: false };
        let said = server.ask(laptop.node.id(), &Ask::Login(login));
        let Said::Challenged(said) = said else { panic!("refused: {said:?}") };
        let authority = server.stage.office.key.id();
        let context = login_context(&laptop.node.id(), &server.stage.office.node);
        let account = Account { address: &laptop.address, authority: &authority };
        let finished = begun.finish(password, &said.response, account, &context);
        let Ok((proof, _)) = finished else { continue };
        let prove = enrol::Prove { login: said.login, proof, client_key: Vec::new() };
        let said = server.ask(laptop.node.id(), &Ask::Prove(prove));
        assert!(matches!(said, Said::Enrolled(_)), "{said:?}");
        return;
    }
    panic!("{:?}", Why::Password);
}
