//! Cables and radio links that come back, addresses that go: told by the kernel (netlink), so nothing is polled.
//!
//! An address that stays while its cable is pulled gives no event by itself, neither here nor in libp2p, and a
//! connection over an address that is gone just falls silent. On systems without netlink this tells nothing: peers
//! are then missed by their heartbeats, and found again by redialling and the periodic question.

use std::time::Duration;

use tokio::sync::mpsc;

use super::address::Network;

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
    /// The interface of this name has gone or was switched off.
    InterfaceGone(String),
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
    use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
    use rtnetlink::sys::SocketAddr;
    use tokio::sync::mpsc;
    use tokio::time::Instant;

    use super::super::address::Network;
    use super::Change;

    /// By number.
    type Interfaces = BTreeMap<u32, Interface>;

    #[derive(Default)]
    struct Interface {
        name: String,
        /// Switched on.
        up: bool,
        /// Since when it has no carrier; `None` when it has.
        down: Option<Instant>,
    }

    /// What a message says about an interface beside what was known.
    enum News {
        /// Its carrier was away since then.
        Restored(Instant),
        SwitchedOff,
    }

    pub(super) async fn follow(
        handle: Handle,
        mut messages: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
        news: mpsc::Sender<Change>,
    ) {
        let mut known = Interfaces::new();
        let mut links = handle.link().get().execute();
        while let Ok(Some(link)) = links.try_next().await {
            note(&mut known, &link);
        }
        drop(links);
        loop {
            let message = tokio::select! {
                message = messages.next() => message,
                () = news.closed() => return,
            };
            let Some((message, _)) = message else { return };
            let NetlinkPayload::InnerMessage(message) = message.payload else { continue };
            let Some(change) = change(&mut known, &handle, &message).await else { continue };
            tracing::debug!(?change, "an interface has changed");
            if news.send(change).await.is_err() {
                return;
            }
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "routes, rules, neighbours and what the kernel adds")]
    async fn change(
        known: &mut Interfaces,
        handle: &Handle,
        message: &RouteNetlinkMessage,
    ) -> Option<Change> {
        match message {
            RouteNetlinkMessage::NewLink(link) => match note(known, link)? {
                News::Restored(lost) => {
                    let networks = networks(known, handle, link.header.index).await;
                    Some(Change::Restored { networks, away: lost.elapsed() })
                }
                News::SwitchedOff => Some(Change::InterfaceGone(name(known, link.header.index))),
            },
            RouteNetlinkMessage::DelLink(link) => {
                known.remove(&link.header.index).map(|interface| Change::InterfaceGone(interface.name))
            }
            RouteNetlinkMessage::DelAddress(address) => network(known, address).map(Change::AddressGone),
            _ => None,
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "some seventy attributes")]
    fn note(known: &mut Interfaces, link: &LinkMessage) -> Option<News> {
        let flags = link.header.flags;
        let up = flags.contains(LinkFlags::Up);
        let there = flags.contains(LinkFlags::Up | LinkFlags::LowerUp);
        let interface = known.entry(link.header.index).or_default();
        if let Some(name) = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name),
            _ => None,
        }) {
            interface.name.clone_from(name);
        }
        let was_up = std::mem::replace(&mut interface.up, up);
        match (interface.down, there) {
            (None, false) => interface.down = Some(Instant::now()),
            (Some(_), true) => return interface.down.take().map(News::Restored),
            (None, true) | (Some(_), false) => {}
        }
        (was_up && !up).then_some(News::SwitchedOff)
    }

    fn name(known: &Interfaces, index: u32) -> String {
        known.get(&index).map(|interface| interface.name.clone()).unwrap_or_default()
    }

    async fn networks(known: &Interfaces, handle: &Handle, index: u32) -> Vec<Network> {
        let mut networks = Vec::new();
        let mut addresses = handle.address().get().set_link_index_filter(index).execute();
        while let Ok(Some(message)) = addresses.try_next().await {
            networks.extend(network(known, &message));
        }
        networks
    }

    fn network(known: &Interfaces, message: &AddressMessage) -> Option<Network> {
        message.attributes.iter().find_map(|attribute| {
            let AddressAttribute::Address(ip) = attribute else { return None };
            let interface = name(known, message.header.index);
            Some(Network { ip: *ip, prefix: message.header.prefix_len, interface })
        })
    }
}
