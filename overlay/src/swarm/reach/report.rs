//! How others reach this node from beyond the link: settings, and what `crosstalk doctor` tells a person.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::id::NodeId;

/// Whether this node relays for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RelayMode {
    /// As soon as an external address is confirmed.
    #[default]
    Auto,
    /// Always: for nodes that others can reach for certain, wherever they are.
    On,
    /// Never.
    Off,
}

/// How others reach this node from beyond the link.
#[derive(Debug, Clone)]
pub struct ReachConfig {
    /// Whether this node relays for others.
    pub relay: RelayMode,
    /// Relays that are asked first, `/ip…/tcp/…/p2p/PEER-ID` or over QUIC; at most 8 count.
    pub relays: Vec<String>,
    /// Whether the router of a node that is not reachable is asked for a way in (UPnP): once after the start.
    pub upnp: bool,
    /// With wide peers for so long and no confirmed address, a node counts as not reachable. Default 1 minute.
    pub patience: Duration,
    /// A confirmed address is tried again after so long, unless somebody has come by it; one that failed after six times that.
    /// Default 1 hour.
    pub retest: Duration,
}

impl Default for ReachConfig {
    fn default() -> Self {
        Self {
            relay: RelayMode::Auto,
            relays: Vec::new(),
            upnp: false,
            patience: Duration::from_secs(60),
            retest: Duration::from_secs(60 * 60),
        }
    }
}

/// How far UPnP has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UpnpState {
    /// Switched off.
    Off,
    /// Not tried: the node is reachable, or it is not known whether.
    #[default]
    NotNeeded,
    /// Not tried: no private IPv4 address with a default route.
    NoRouter,
    /// Asking.
    Searching,
    /// No router on the link answers.
    NoGateway,
    /// The router has no public address itself.
    NotPublic,
    /// The router lets others in, as it says.
    Mapped,
}

/// A place at a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayPlace {
    /// The relay.
    pub relay: NodeId,
    /// Its multiaddress.
    pub address: String,
    /// Since when, Unix milliseconds; `None`: it was asked and has not answered yet.
    pub since: Option<u64>,
}

/// What is known about it now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReachReport {
    /// Multiaddresses at which others reach this node, and since when that is so, Unix milliseconds. As they have tried, or as the
    /// settings say.
    pub direct: BTreeMap<String, u64>,
    /// Multiaddresses at which others have tried in vain.
    pub failed: Vec<String>,
    /// No address is confirmed after others have tried, or had time to.
    pub unreachable: bool,
    /// Relays that have a place for this node, or were asked for one.
    pub relays: Vec<RelayPlace>,
    /// Relays that are known and not used.
    pub known_relays: usize,
    /// Connections with peers beyond the link.
    pub beyond: usize,
    /// This node relays for others.
    pub relays_others: bool,
    /// Circuits that it carries now.
    pub circuits: usize,
    /// The router.
    pub upnp: UpnpState,
}
