//! Hello, the first frame: versions, clocks, a new session. *Pure.*

use super::Overlay;
use crate::id::NodeId;
use crate::time::Now;
use crate::wire::{Frame, Hello, MIN_WIRE_VERSION, WIRE_VERSION};

/// What this program calls itself.
const AGENT: &str = concat!("crosstalk/", env!("CARGO_PKG_VERSION"));

impl Overlay {
    /// The first frame of a session; sent again where the clock was set.
    pub(super) fn say_hello(&mut self, node: NodeId, now: Now) {
        let Some(peer) = self.peers.connected.get(&node) else { return };
        let (session, near, secret) = (peer.session, peer.far.near, peer.secret);
        let time = self.clock.trusted(now);
        let hello = Hello {
            version: WIRE_VERSION,
            min_version: MIN_WIRE_VERSION,
            agent: AGENT.to_owned(),
            // What its records are signed by; two nodes without a clock then agree on what time it is at least.
            wall: time.millis,
            unsure: !time.credible,
            session,
            probe: self.probes.offer(secret).filter(|_| near),
        };
        self.send_frame(node, &Frame::Hello(hello), false, now);
    }

    pub(super) fn on_hello(&mut self, node: NodeId, hello: Hello, now: Now) {
        if hello.min_version > WIRE_VERSION || hello.version < MIN_WIRE_VERSION {
            self.peers.ban(node, now);
            return self.close_peer(node, "no common version", now);
        }
        let Some(peer) = self.peers.connected.get_mut(&node) else { return };
        let before = peer.hello.replace(hello.clone()).map(|before| before.session);
        peer.clock_at = now.mono;
        self.clock.observe_peer(node, hello.wall, !hello.unsure, now);
        self.check_clock(now);
        if before == Some(hello.session) {
            // Its clock was set.
            return self.renew_stale_records(now);
        }
        let Some(peer) = self.peers.connected.get_mut(&node) else { return };
        peer.hello_at = now.mono;
        if let Some(candidate) = self.peers.candidates.get_mut(&node) {
            (candidate.backoff, candidate.failures, candidate.lost) = (0, 0, None);
        }
        if before.is_some() {
            // The peer has started again without our seeing the old connection end: it knows nothing of us.
            self.forget_session(node);
            self.say_hello(node, now);
        }
        self.agree_on_probes(node, now);
        self.renew_stale_records(now);
        self.on_mail_session(node, now);
        self.join_on_session(node, now);
        self.enrolment_on_session(node, now);
        if !self.peers.is_near(&node) {
            return self.introduce(node, now);
        }
        self.offer_rotations(node, now);
        self.push_records(node, now);
        self.push_links(node, now);
        self.push_link_presences(node, now);
        self.offer_all(node, now);
        self.offer_revocations(node, now);
        self.survey_soon(now);
    }
}
