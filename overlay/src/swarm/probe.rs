//! One multicast question "which libp2p nodes are there?" on one interface.
//!
//! libp2p-mdns asks by itself only at its start and then every few minutes. Everybody answers such a question by
//! multicast, and so do we ourselves, because our own copy of it loops back: one packet makes all nodes on the link
//! known to us and us to all of them. It is asked when there is a reason to expect news.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};

/// RFC 6762 §3.
const GROUP: (Ipv4Addr, u16) = (Ipv4Addr::new(224, 0, 0, 251), 5353);

/// A DNS query (RFC 1035 §4.1) of one question, `PTR IN _p2p._udp.local`: the name of the libp2p mDNS specification.
const QUESTION: &[u8] =
    b"\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04_p2p\x04_udp\x05local\x00\x00\x0c\x00\x01";

/// Sends the question from the interface that has the address `local`.
pub(super) fn ask(local: Ipv4Addr) -> io::Result<()> {
    // Binding to the interface's own address also chooses the interface, without a route being needed.
    let socket = UdpSocket::bind((local, 0))?;
    socket.set_nonblocking(true)?;
    socket.set_multicast_ttl_v4(255)?;
    socket.send_to(QUESTION, GROUP).map(drop)
}
