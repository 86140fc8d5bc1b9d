//! How others reach this node from beyond the link, for people and programs.

use crosstalk_overlay::swarm::{Carried, ReachReport, UpnpState, peer_id};
use serde::{Deserialize, Serialize};

/// Times are Unix milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReachView {
    /// Where others come in, and since when.
    pub direct: Vec<(String, u64)>,
    /// Where others have tried in vain.
    pub failed: Vec<String>,
    /// Others have tried, or had time to, and no address is confirmed.
    pub unreachable: bool,
    /// Relays that have a place for this node.
    pub relays: Vec<PlaceView>,
    /// Relays that are known and not used.
    pub known_relays: usize,
    /// Connections with nodes beyond the link.
    pub beyond: usize,
    /// This node relays for others.
    pub relays_others: bool,
    /// Circuits that it carries now.
    pub circuits: usize,
    /// What has come of asking the router.
    pub upnp: UpnpView,
}

/// What went to other nodes and came from them since the start; see [`Carried`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedView {
    /// Bytes out, on streams of all kinds.
    pub sent: u64,
    /// Bytes in.
    pub received: u64,
    /// Questions put to others in the hash table.
    pub asked: u64,
    /// Questions of others in the hash table.
    pub answered: u64,
}

impl From<Carried> for CarriedView {
    fn from(carried: Carried) -> Self {
        let Carried { sent, received, asked, answered } = carried;
        Self { sent, received, asked, answered }
    }
}

/// A place at a relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceView {
    /// The relay's peer id.
    pub relay: String,
    /// Where it is.
    pub address: String,
    /// Since when; nothing as long as it has not answered.
    pub since: Option<u64>,
}

/// How far UPnP has come; see [`UpnpState`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpnpView {
    /// Switched off.
    Off,
    /// Not tried, for there is no reason to.
    #[default]
    NotNeeded,
    /// Not tried, for there is no router.
    NoRouter,
    /// The router has not answered yet.
    Searching,
    /// No router answers.
    NoGateway,
    /// The router is behind another.
    NotPublic,
    /// The router lets others in, as it says.
    Mapped,
}

impl From<&ReachReport> for ReachView {
    fn from(report: &ReachReport) -> Self {
        let place = |place: &crosstalk_overlay::swarm::RelayPlace| PlaceView {
            relay: peer_id(&place.relay).unwrap_or_default(),
            address: place.address.clone(),
            since: place.since,
        };
        Self {
            direct: report.direct.iter().map(|(address, since)| (address.clone(), *since)).collect(),
            failed: report.failed.clone(),
            unreachable: report.unreachable,
            relays: report.relays.iter().map(place).collect(),
            known_relays: report.known_relays,
            beyond: report.beyond,
            relays_others: report.relays_others,
            circuits: report.circuits,
            upnp: match report.upnp {
                UpnpState::Off => UpnpView::Off,
                UpnpState::NotNeeded => UpnpView::NotNeeded,
                UpnpState::NoRouter => UpnpView::NoRouter,
                UpnpState::Searching => UpnpView::Searching,
                UpnpState::NoGateway => UpnpView::NoGateway,
                UpnpState::NotPublic => UpnpView::NotPublic,
                UpnpState::Mapped => UpnpView::Mapped,
            },
        }
    }
}
