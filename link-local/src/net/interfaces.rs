//! The interfaces that multicast DNS runs on, told by the kernel (rtnetlink), so that nothing is polled.
//!
//! Each piece of news makes the whole be asked for anew: lost news (the kernel drops them when they come too fast)
//! then cost nothing but time. Wanted are those that are up and can do multicast, without loopback and point-to-point
//! links, with the addresses that are ready for use.

use std::collections::BTreeMap;

use tokio::sync::mpsc;

use crate::mdns::Interface;

/// Interfaces in use at most; those with the lowest numbers.
pub(super) const MAX_INTERFACES: usize = 16;
/// Addresses of one family in use on one interface at most.
pub(super) const MAX_ADDRESSES: usize = 8;

/// An interface as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) interface: Interface,
    /// Whether there is a carrier: a cable, a radio network.
    pub(super) running: bool,
    /// How often the carrier has come, if the kernel counts it.
    ups: Option<u32>,
}

/// All interfaces in use.
pub(super) type Links = BTreeMap<u32, Link>;

/// Those whose carrier has come back since `before`.
pub(super) fn restored(before: &Links, now: &Links) -> Vec<u32> {
    let back = |index: &u32, link: &Link| {
        let earlier = before.get(index)?;
        (link.running && (!earlier.running || earlier.ups != link.ups)).then_some(*index)
    };
    now.iter().filter_map(|(index, link)| back(index, link)).collect()
}

/// Starts watching: the whole now, and again after each change. The task ends when the receiver is dropped.
#[cfg(not(target_os = "linux"))]
pub(super) fn watch() -> mpsc::Receiver<Links> {
    tracing::warn!("interfaces are found on Linux only: nobody is seen on the link");
    mpsc::channel(1).1
}

/// Starts watching: the whole now, and again after each change. The task ends when the receiver is dropped.
#[cfg(target_os = "linux")]
pub(super) fn watch() -> mpsc::Receiver<Links> {
    use rtnetlink::MulticastGroup::{Ipv4Ifaddr, Ipv6Ifaddr, Link};
    let (sender, receiver) = mpsc::channel(1);
    match rtnetlink::new_multicast_connection(&[Link, Ipv4Ifaddr, Ipv6Ifaddr]) {
        Ok((connection, handle, news)) => {
            let reader = tokio::spawn(connection);
            tokio::spawn(async move {
                linux::follow(handle, news, sender).await;
                reader.abort();
            });
        }
        Err(error) => {
            tracing::warn!(%error, "no news of interfaces from the kernel: nobody is seen on the link");
        }
    }
    receiver
}

#[cfg(target_os = "linux")]
mod linux {
    use std::net::IpAddr;
    use std::time::Duration;

    use futures::channel::mpsc::UnboundedReceiver;
    use futures::{FutureExt, StreamExt, TryStreamExt};
    use rtnetlink::packet_core::NetlinkMessage;
    use rtnetlink::packet_route::RouteNetlinkMessage;
    use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
    use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
    use rtnetlink::sys::SocketAddr;
    use rtnetlink::{Error, Handle};
    use tokio::sync::mpsc;

    use super::{Interface, Link, Links, MAX_ADDRESSES, MAX_INTERFACES};

    /// A change comes as several messages: this long they are collected.
    const COLLECT: Duration = Duration::from_millis(20);

    pub(super) async fn follow(
        handle: Handle,
        mut news: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
        told: mpsc::Sender<Links>,
    ) {
        let mut last = None;
        loop {
            match links(&handle).await {
                Ok(links) if last.as_ref() != Some(&links) => {
                    tracing::debug!(?links, "interfaces");
                    last = Some(links.clone());
                    if told.send(links).await.is_err() {
                        return;
                    }
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "the kernel does not tell its interfaces"),
            }
            tokio::select! {
                message = news.next() => if message.is_none() { return },
                () = told.closed() => return,
            }
            tokio::time::sleep(COLLECT).await;
            while let Some(Some(_)) = news.next().now_or_never() {}
        }
    }

    async fn links(handle: &Handle) -> Result<Links, Error> {
        let mut links = Links::new();
        let mut all = handle.link().get().execute();
        while let Some(message) = all.try_next().await? {
            if let Some(link) = link(&message) {
                links.insert(link.interface.index, link);
            }
        }
        let mut all = handle.address().get().execute();
        while let Some(message) = all.try_next().await? {
            if let Some(link) = links.get_mut(&message.header.index) {
                add(&mut link.interface, &message);
            }
        }
        links.retain(|_, link| !(link.interface.v4.is_empty() && link.interface.v6.is_empty()));
        while links.len() > MAX_INTERFACES {
            links.pop_last();
        }
        Ok(links)
    }

    fn link(message: &LinkMessage) -> Option<Link> {
        let flags = message.header.flags;
        let usable = flags.contains(LinkFlags::Up | LinkFlags::Multicast)
            && !flags.intersects(LinkFlags::Loopback | LinkFlags::Pointopoint);
        if !usable {
            return None;
        }
        let (mut name, mut ups) = (None, None);
        for attribute in &message.attributes {
            if let LinkAttribute::IfName(text) = attribute {
                name = Some(text.clone());
            } else if let LinkAttribute::CarrierUpCount(count) = attribute {
                ups = Some(*count);
            }
        }
        let interface =
            Interface { index: message.header.index, name: name?, v4: Vec::new(), v6: Vec::new() };
        Some(Link { interface, running: flags.contains(LinkFlags::LowerUp), ups })
    }

    fn add(interface: &mut Interface, message: &AddressMessage) {
        let prefix = message.header.prefix_len;
        let flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
        let (mut local, mut address, mut flags) = (None, None, flags);
        for attribute in &message.attributes {
            if let AddressAttribute::Local(ip) = attribute {
                local = Some(*ip);
            } else if let AddressAttribute::Address(ip) = attribute {
                address = Some(*ip);
            } else if let AddressAttribute::Flags(all) = attribute {
                flags = *all;
            }
        }
        // Not yet ours (RFC 4862 §5.4), never ours, or on its way out (§5.5.4).
        let tentative = flags.contains(AddressFlags::Tentative) && !flags.contains(AddressFlags::Optimistic);
        if tentative || flags.intersects(AddressFlags::Dadfailed | AddressFlags::Deprecated) {
            return;
        }
        match local.or(address) {
            Some(IpAddr::V4(ip)) if interface.v4.len() < MAX_ADDRESSES => interface.v4.push((ip, prefix)),
            Some(IpAddr::V6(ip)) if interface.v6.len() < MAX_ADDRESSES => interface.v6.push((ip, prefix)),
            Some(_) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(running: bool, ups: Option<u32>) -> Links {
        let interface = Interface { index: 2, name: "eth0".into(), v4: Vec::new(), v6: Vec::new() };
        Links::from([(2, Link { interface, running, ups })])
    }

    #[test]
    fn a_carrier_that_came_back_is_noticed_even_if_its_loss_was_not() {
        assert_eq!(restored(&one(false, None), &one(true, None)), [2]);
        assert_eq!(restored(&one(true, Some(1)), &one(true, Some(2))), [2]);
        assert!(restored(&one(true, Some(1)), &one(true, Some(1))).is_empty());
        assert!(restored(&one(true, Some(1)), &one(false, Some(1))).is_empty());
        assert!(restored(&Links::new(), &one(true, Some(1))).is_empty(), "it is new, not back");
    }
}
