//! Multicast questions "which libp2p nodes are there?", asked when there is a reason to expect news.
//!
//! Everybody answers such a question by multicast, and so do we ourselves, because our own copy of it loops back: one
//! packet makes all nodes known to all. So it does not matter who asks. Before one is sent, the link is listened to
//! for a random while, and a question that comes from anybody else in that time takes the place of ours (RFC 6762
//! §7.3): a switch that starts again with 50 nodes on it hears one or two questions, not 50 with 50 answers each.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::task::{Context, Poll};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;
use tokio::time::Instant;

/// RFC 6762 §3.
const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(224, 0, 0, 251), 5353);
/// Bytes of the header of a DNS message (RFC 1035 §4.1.1).
const HEADER: usize = 12;
/// A DNS query (RFC 1035 §4.1) of one question, `PTR IN _p2p._udp.local`: the name of the libp2p mDNS specification.
const QUESTION: &[u8] =
    b"\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04_p2p\x04_udp\x05local\x00\x00\x0c\x00\x01";
/// Addresses that have questions waiting; further ones ask nothing. Ordinary machines have fewer than ten.
const MAX_PLANS: usize = 64;
/// Questions that wait for one address; further ones are not needed.
const MAX_DUE: usize = 8;
/// Datagrams looked at in one go.
const AT_ONCE: usize = 64;

/// The questions to ask, by the address that asks.
#[derive(Debug, Default)]
pub(super) struct Questions(BTreeMap<Ipv4Addr, Plan>);

#[derive(Debug)]
struct Plan {
    /// When to ask unless somebody else does, sorted.
    due: VecDeque<Instant>,
    /// `None` if it could not be opened: then we ask in any case.
    ear: Option<UdpSocket>,
    /// Somebody has asked since the last one was due.
    heard: bool,
    /// The port that our last question came from.
    own_port: Option<u16>,
}

impl Questions {
    /// Plans to ask from the address `local`, at `when` at the latest, which is sorted. Listens from now on.
    pub(super) fn plan(&mut self, local: Ipv4Addr, when: impl IntoIterator<Item = Instant>) {
        if !self.0.contains_key(&local) && self.0.len() >= MAX_PLANS {
            return;
        }
        let plan = self.0.entry(local).or_insert_with(|| Plan::new(local));
        for due in when.into_iter().take(MAX_DUE) {
            let place = plan.due.partition_point(|other| *other <= due);
            plan.due.insert(place, due);
        }
        plan.due.truncate(MAX_DUE);
    }

    /// The address has gone.
    pub(super) fn forget(&mut self, local: Ipv4Addr) {
        self.0.remove(&local);
    }

    /// When `poll` has to be called without being woken.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.0.values().filter_map(|plan| plan.due.front().copied()).min()
    }

    /// Asks what is due.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, now: Instant) {
        self.0.retain(|local, plan| {
            plan.listen(*local, cx);
            plan.ask_due(*local, now);
            !plan.due.is_empty()
        });
    }
}

impl Plan {
    fn new(local: Ipv4Addr) -> Self {
        let ear = ear(local)
            .inspect_err(|error| tracing::debug!(%local, %error, "can't listen to others' questions"))
            .ok();
        Self { due: VecDeque::new(), ear, heard: false, own_port: None }
    }

    fn listen(&mut self, local: Ipv4Addr, cx: &mut Context<'_>) {
        let Some(ear) = &self.ear else { return };
        let mut bytes = [0; 512];
        for _ in 0..AT_ONCE {
            let mut buffer = ReadBuf::new(&mut bytes);
            match ear.poll_recv_from(cx, &mut buffer) {
                Poll::Ready(Ok(from)) => {
                    let ours = self.own_port.map(|port| SocketAddr::from((local, port)));
                    self.heard |= is_question(buffer.filled()) && Some(from) != ours;
                }
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%local, %error, "others' questions are no longer heard");
                    self.ear = None;
                    return;
                }
                Poll::Pending => return,
            }
        }
        cx.waker().wake_by_ref();
    }

    fn ask_due(&mut self, local: Ipv4Addr, now: Instant) {
        while self.due.front().is_some_and(|due| *due <= now) {
            self.due.pop_front();
            if std::mem::take(&mut self.heard) {
                continue;
            }
            match ask(local) {
                Ok(port) => self.own_port = Some(port),
                Err(error) => tracing::debug!(%local, %error, "could not ask for neighbours"),
            }
        }
    }
}

/// A socket that hears what comes to the group on the interface that has the address `local`, and nothing else.
fn ear(local: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    // Without this, Linux gives it what was joined on other interfaces too.
    #[cfg(target_os = "linux")]
    socket.set_multicast_all_v4(false)?;
    // Bound to the group it takes no unicast from the machine's other responders.
    socket.bind(&GROUP.into())?;
    socket.join_multicast_v4(GROUP.ip(), &local)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket.into())
}

/// Sends the question from the interface that has the address `local`; answers the port it left from.
fn ask(local: Ipv4Addr) -> io::Result<u16> {
    // Binding to the interface's own address also chooses the interface, without a route being needed.
    let socket = std::net::UdpSocket::bind((local, 0))?;
    socket.set_nonblocking(true)?;
    socket.set_multicast_ttl_v4(255)?;
    let port = socket.local_addr()?.port();
    socket.send_to(QUESTION, GROUP).map(|_| port)
}

/// Whether these bytes are a query whose first question is ours.
fn is_question(bytes: &[u8]) -> bool {
    let is_query = bytes.get(2).is_some_and(|flags| flags & 0x80 == 0);
    is_query && bytes.get(HEADER..).is_some_and(|rest| rest.starts_with(&QUESTION[HEADER..]))
}

#[cfg(test)]
mod tests {
    use std::task::Waker;
    use std::time::Duration;

    use super::*;

    const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

    fn poll(questions: &mut Questions, now: Instant) {
        questions.poll(&mut Context::from_waker(Waker::noop()), now);
    }

    #[test]
    fn knows_its_own_question() {
        assert!(is_question(QUESTION));
        let mut answer = QUESTION.to_vec();
        answer[2] = 0x84;
        assert!(!is_question(&answer));
        assert!(!is_question(&QUESTION[..QUESTION.len() - 1]));
        let mut other = QUESTION.to_vec();
        other[14] = b'q';
        assert!(!is_question(&other));
        assert!(!is_question(&[]));
    }

    #[tokio::test]
    async fn what_is_due_is_done_with() {
        let mut questions = Questions::default();
        let now = Instant::now();
        let second = now + Duration::from_secs(1);
        questions.plan(LOOPBACK, [now, second]);
        assert_eq!(questions.next_due(), Some(now));
        poll(&mut questions, now);
        assert_eq!(questions.next_due(), Some(second));
        poll(&mut questions, second);
        assert_eq!(questions.next_due(), None);
        assert!(questions.0.is_empty(), "nothing due, no socket");
    }

    #[test]
    fn another_ones_question_takes_the_place_of_one() {
        let now = Instant::now();
        let due = VecDeque::from([now, now]);
        let mut plan = Plan { due, ear: None, heard: true, own_port: None };
        plan.ask_due(LOOPBACK, now - Duration::from_millis(1));
        assert!(plan.heard && plan.due.len() == 2);
        plan.due.pop_back();
        plan.ask_due(LOOPBACK, now);
        assert!(!plan.heard && plan.own_port.is_none(), "not asked");
        plan.due.push_back(now);
        plan.ask_due(LOOPBACK, now);
        assert!(plan.own_port.is_some(), "asked");
    }

    #[tokio::test]
    async fn is_bounded() {
        let mut questions = Questions::default();
        let now = Instant::now();
        for number in 1..=100 {
            questions.plan(Ipv4Addr::new(127, 0, 1, number), (0..100).map(|_| now));
        }
        assert_eq!(questions.0.len(), MAX_PLANS);
        assert!(questions.0.values().all(|plan| plan.due.len() == MAX_DUE));
    }
}
