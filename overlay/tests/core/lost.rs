//! A lost laptop among fifty nodes that meet two by two: revoked at the server of the domain, it is refused by all after a
//! stated number of meetings, also by those that never meet the server, and by those that its user has never met.

use std::collections::BTreeMap;

use crosstalk_overlay::authority::{certify, revoke_device};
use crosstalk_overlay::core::*;
use crosstalk_overlay::keys::AuthorityKey;
use crosstalk_overlay::time::SECOND;

use crate::pump::*;

/// Nodes: the server, 48 members of the domain, the lost laptop.
const NODES: usize = 50;
const SERVER: usize = 0;
const OTHER: usize = 1;
const LOST: usize = NODES - 1;
/// Those from here on never meet the server.
const AWAY: usize = 25;
/// Meetings after which everybody refuses the lost laptop, each counting its own. ARCHITECTURE.md states it.
const MEETINGS: usize = 12;
const DOMAIN: &str = "school.example";

fn authority() -> AuthorityKey {
    AuthorityKey::from_seed([9; 32])
}

/// Alice has two laptops; everybody has a name under the domain and believes its authority.
fn school() -> Net {
    let seed = |node: usize| u8::try_from(node).unwrap();
    let account = |node: usize| {
        let user = if node == LOST { seed(OTHER) } else { seed(node) };
        let account = Account::new(user + 10, seed(node) + 100);
        let address = format!("pupil{user}@{DOMAIN}");
        let cert = certify(&authority(), &address, account.user, 0, START).unwrap();
        account.named(&cert)
    };
    let mut net = Net::new((0..NODES).map(|node| vec![account(node)]).collect());
    for host in 0..NODES {
        let how = if host == SERVER { Provenance::Own } else { Provenance::Enrolled };
        net.with(host, |core, now| core.pin_authority(DOMAIN, authority().id(), how, now));
    }
    net
}

fn meet(net: &mut Net, one: usize, other: usize) {
    net.join(one, other);
    net.run(400);
    net.cut(one, other);
}

fn refuses(net: &Net, host: usize) -> bool {
    let lost = &net.hosts[LOST].accounts[0];
    net.hosts[host].core.revocations().is_device_revoked(&lost.user, &lost.device.id())
}

/// Everybody but the lost laptop, in pairs; the server with those only that it meets at all.
fn pairs(net: &mut Net) -> Vec<(usize, usize)> {
    let mut nodes: Vec<usize> = (0..LOST).collect();
    for last in (1..nodes.len()).rev() {
        let other = net.roll(u32::try_from(last + 1).unwrap()) as usize;
        nodes.swap(last, other);
    }
    let pairs = nodes.chunks_exact(2).map(|pair| (pair[0].min(pair[1]), pair[0].max(pair[1])));
    pairs.filter(|(one, other)| *one != SERVER || *other < AWAY).collect()
}

/// The most meetings that anybody had before it refused the lost laptop.
fn meetings(seed: u64) -> usize {
    let mut net = school();
    net.shuffle_dice(seed);
    // Some have met the laptop before it was lost, most have not.
    for host in [2, 3, AWAY, AWAY + 1] {
        meet(&mut net, host, LOST);
    }
    let (user, device) = (net.hosts[LOST].accounts[0].user, net.hosts[LOST].accounts[0].device.id());
    let void = revoke_device(&authority(), user, device, net.now(SERVER).wall).unwrap();
    net.with(SERVER, |core, now| assert_eq!(core.add_revocation(void.bytes(), now), Ok(true)));
    let mut had: BTreeMap<usize, usize> = BTreeMap::new();
    let mut most = 0;
    while !(0..LOST).all(|host| refuses(&net, host)) {
        for (one, other) in pairs(&mut net) {
            for host in [one, other] {
                if !refuses(&net, host) {
                    let had = had.entry(host).or_default();
                    *had += 1;
                    most = most.max(*had);
                }
            }
            meet(&mut net, one, other);
        }
        assert!(most <= 4 * MEETINGS, "seed {seed}: no end of it");
    }
    // The finder goes to everybody: to some who knew that user, and to some who did not.
    for host in [2, 5, 23, AWAY, AWAY + 1, 40, LOST - 1] {
        net.join(host, LOST);
        net.run(2 * SECOND);
        assert_ne!(net.hosts[host].core.reach(&user), Reach::Live, "seed {seed}: {host}");
        net.cut(host, LOST);
    }
    assert!(refuses(&net, LOST), "it learns so itself, and ends");
    most
}

#[test]
fn a_lost_laptop_is_refused_by_all_within_twelve_meetings() {
    let seeds: u64 = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(6);
    let most = (0..seeds).map(meetings).max().unwrap();
    println!("refused by all after {most} meetings of each at most, {seeds} histories");
    assert!(most <= MEETINGS, "{most} meetings");
}
