//! Cables and radio links that come back, addresses that go: told by the kernel (netlink), so nothing is polled.
//!
//! An address that stays while its cable is pulled gives no event by itself, neither here nor in libp2p, and a
//! connection over an address that is gone just falls silent. On systems without netlink this tells nothing: peers
//! are then missed by their heartbeats, and found again by redialling and the periodic question.

use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::mpsc;

/// An address and the prefix length of its network.
pub(super) type Network = (IpAddr, u8);

/// What changed.
#[derive(Debug)]
pub(super) enum Change {
    /// An interface has its carrier again.
    Restored {
        /// The networks on it.
        networks: Vec<Network>,
        /// How long the carrier was away.
        away: Duration,
    },
    /// An interface has lost an address.
    AddressGone(Network),
}

/// Starts watching; the task ends when the receiver is dropped.
#[cfg(not(target_os = "linux"))]
pub(super) fn watch() -> mpsc::Receiver<Change> {
    mpsc::channel(1).1
}

/// Starts watching; the task ends when the receiver is dropped.
#[cfg(target_os = "linux")]
pub(super) fn watch() -> mpsc::Receiver<Change> {
    use rtnetlink::MulticastGroup::{Ipv4Ifaddr, Ipv6Ifaddr, Link};
    let (sender, receiver) = mpsc::channel(8);
    match rtnetlink::new_multicast_connection(&[Link, Ipv4Ifaddr, Ipv6Ifaddr]) {
        Ok((connection, handle, messages)) => {
            let reader = tokio::spawn(connection);
            tokio::spawn(async move {
                linux::follow(handle, messages, sender).await;
                reader.abort();
            });
        }
        Err(error) => {
            tracing::warn!(%error, "no news of cables from the kernel: neighbours are found again later");
        }
    }
    receiver
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeMap;

    use futures::channel::mpsc::UnboundedReceiver;
    use futures::{StreamExt, TryStreamExt};
    use rtnetlink::Handle;
    use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
    use rtnetlink::packet_route::RouteNetlinkMessage;
    use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
    use rtnetlink::packet_route::link::{LinkFlags, LinkMessage};
    use rtnetlink::sys::SocketAddr;
    use tokio::sync::mpsc;
    use tokio::time::Instant;

    use super::{Change, Network};

    /// Per interface: `None` when the carrier is there; else since when it is not.
    type Carriers = BTreeMap<u32, Option<Instant>>;

    pub(super) async fn follow(
        handle: Handle,
        mut messages: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
        news: mpsc::Sender<Change>,
    ) {
        let mut carriers = Carriers::new();
        let mut links = handle.link().get().execute();
        while let Ok(Some(link)) = links.try_next().await {
            note(&mut carriers, &link);
        }
        drop(links);
        loop {
            let message = tokio::select! {
                message = messages.next() => message,
                () = news.closed() => return,
            };
            let Some((message, _)) = message else { return };
            let NetlinkPayload::InnerMessage(message) = message.payload else { continue };
            let Some(change) = change(&mut carriers, &handle, &message).await else { continue };
            tracing::debug!(?change, "an interface has changed");
            if news.send(change).await.is_err() {
                return;
            }
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "routes, rules, neighbours and what the kernel adds")]
    async fn change(
        carriers: &mut Carriers,
        handle: &Handle,
        message: &RouteNetlinkMessage,
    ) -> Option<Change> {
        match message {
            RouteNetlinkMessage::NewLink(link) => {
                let lost = note(carriers, link)?;
                let networks = networks(handle, link.header.index).await;
                Some(Change::Restored { networks, away: lost.elapsed() })
            }
            RouteNetlinkMessage::DelLink(link) => {
                carriers.remove(&link.header.index);
                None
            }
            RouteNetlinkMessage::DelAddress(address) => network(address).map(Change::AddressGone),
            _ => None,
        }
    }

    /// Notes the state of an interface; answers since when the carrier was away if it has just come back.
    fn note(carriers: &mut Carriers, link: &LinkMessage) -> Option<Instant> {
        let there = link.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp);
        let known = carriers.entry(link.header.index).or_insert(None);
        match (*known, there) {
            (None, false) => *known = Some(Instant::now()),
            (Some(_), true) => return known.take(),
            (None, true) | (Some(_), false) => {}
        }
        None
    }

    async fn networks(handle: &Handle, index: u32) -> Vec<Network> {
        let mut networks = Vec::new();
        let mut addresses = handle.address().get().set_link_index_filter(index).execute();
        while let Ok(Some(message)) = addresses.try_next().await {
            networks.extend(network(&message));
        }
        networks
    }

    fn network(message: &AddressMessage) -> Option<Network> {
        message.attributes.iter().find_map(|attribute| {
            let AddressAttribute::Address(ip) = attribute else { return None };
            Some((*ip, message.header.prefix_len))
        })
    }
}
