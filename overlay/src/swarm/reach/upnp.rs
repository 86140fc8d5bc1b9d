//! Asking the router for a way in (UPnP). Once, when others have found this node not reachable, and only where a router can help:
//! behind a default route, with a private IPv4 address. What the router promises is tried like any other address.
//!
//! Cost: one multicast packet of about 150 bytes on the network with the default route, then a few kilobytes to the router,
//! and one request each half hour.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::task::{Context, Poll};

use libp2p::Multiaddr;
use libp2p::core::transport::ListenerId;
use libp2p::swarm::behaviour::NewListenAddr;
use libp2p::swarm::{FromSwarm, NetworkBehaviour, ToSwarm};
use libp2p::upnp::{Event, tokio::Behaviour};

use super::super::address;
use super::UpnpState;

/// What has come of it.
pub(super) enum News {
    /// The router says that others come in here.
    Promised(Multiaddr),
    /// No more.
    Withdrawn(Multiaddr),
}

/// See the file's head.
pub(super) struct Upnp {
    inner: Option<Behaviour>,
    pub(super) state: UpnpState,
}

impl Upnp {
    pub(super) fn new(allowed: bool) -> Self {
        Self { inner: None, state: if allowed { UpnpState::NotNeeded } else { UpnpState::Off } }
    }

    /// Tries, if it has not been tried yet.
    pub(super) fn start(&mut self, listening: &[(ListenerId, Multiaddr)]) {
        if self.state != UpnpState::NotNeeded {
            return;
        }
        let Some(own) = default_route().filter(Ipv4Addr::is_private) else {
            self.state = UpnpState::NoRouter;
            return;
        };
        // It multicasts as soon as it is made.
        let mut inner = Behaviour::default();
        for (listener, addr) in listening.iter().filter(|(_, addr)| address::ip(addr) == Some(own.into())) {
            let event = NewListenAddr { listener_id: *listener, addr };
            inner.on_swarm_event(FromSwarm::NewListenAddr(event));
        }
        self.inner = Some(inner);
        self.state = UpnpState::Searching;
    }

    /// The network is another: what was found out about its router does not count any more.
    pub(super) fn forget(&mut self) {
        if !matches!(self.state, UpnpState::Off | UpnpState::Searching) {
            (self.inner, self.state) = (None, UpnpState::NotNeeded);
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<News> {
        while let Some(inner) = &mut self.inner {
            let event = match inner.poll(cx) {
                Poll::Ready(ToSwarm::GenerateEvent(event)) => event,
                // That it is confirmed is for others to say.
                Poll::Ready(_) => continue,
                Poll::Pending => return Poll::Pending,
            };
            match event {
                Event::NewExternalAddr { external_addr, .. } => {
                    self.state = UpnpState::Mapped;
                    return Poll::Ready(News::Promised(external_addr));
                }
                Event::ExpiredExternalAddr { external_addr, .. } => {
                    return Poll::Ready(News::Withdrawn(external_addr));
                }
                Event::GatewayNotFound => (self.inner, self.state) = (None, UpnpState::NoGateway),
                Event::NonRoutableGateway => (self.inner, self.state) = (None, UpnpState::NotPublic),
            }
        }
        Poll::Pending
    }
}

/// The address from which a packet to far away would leave, if there is a way. Nothing is sent.
fn default_route() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // TEST-NET-2 (RFC 5737): no host has it, so only a default route leads there.
    socket.connect((Ipv4Addr::new(198, 51, 100, 1), 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}
