//! SOCKS 4, 4a and 5 (RFC 1928, no authentication) as far as a client asks for a connection: bytes in; one request, or
//! why there is none, out. *Pure.*
//!
//! By hand, since the crates for SOCKS read from the socket themselves; here the bytes come in any pieces, none of those
//! behind the request is lost, and no more than [`MOST`] are kept.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes of a client that are kept before it is connected, what it says behind its request included. Each part of a
/// handshake is shorter: 520 bytes at most (SOCKS 4a with the longest user id and name).
pub const MOST: usize = 1024;

/// A name or an address, in the form in which they are compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// A name of the DNS in lower case, without the dot at its end.
    Name(String),
    /// IPv4 within IPv6 is IPv4.
    Address(IpAddr),
}

impl Host {
    /// Reads a name or an address; `None` if it is neither.
    pub fn read(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self::Address(address.to_canonical()));
        }
        let name = text.to_ascii_lowercase();
        let label = |label: &str| {
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            (1..=63).contains(&label.len()) && label.bytes().all(legal)
        };
        (name.len() <= 253 && name.split('.').all(label)).then_some(Self::Name(name))
    }
}

/// Where a client wants to be connected.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The host.
    pub host: Host,
    /// Its port.
    pub port: u16,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.host {
            Host::Name(name) => write!(f, "{name}:{}", self.port),
            Host::Address(address) => write!(f, "{}", SocketAddr::new(*address, self.port)),
        }
    }
}

/// Why a client is not connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refused {
    /// What it says is not SOCKS.
    NotSocks,
    /// It does not offer to go without authentication.
    Authentication,
    /// It wants to be connected to (BIND), or UDP.
    Command,
    /// A kind of address that there is not.
    AddressType,
    /// A name that is none, or port 0.
    Address,
    /// The destination is not in the list.
    NotListed,
    /// The name leads to an address of a private network or of this machine that is not in the list itself.
    Private,
    /// Nobody has the name.
    NoSuchName,
    /// There is no way to its network.
    NetworkUnreachable,
    /// It does not answer.
    HostUnreachable,
    /// Nobody listens there.
    ConnectionRefused,
    /// It took too long.
    TooLate,
    /// Too many others are connecting, or connected.
    Crowded,
}

impl Refused {
    /// In words, for status and figures.
    pub fn label(self) -> &'static str {
        match self {
            Self::NotSocks => "not SOCKS",
            Self::Authentication => "only with authentication",
            Self::Command => "BIND or UDP",
            Self::AddressType => "unknown kind of address",
            Self::Address => "no name or address",
            Self::NotListed => "destination not listed",
            Self::Private => "private address not listed",
            Self::NoSuchName => "no such name",
            Self::NetworkUnreachable => "network unreachable",
            Self::HostUnreachable => "host unreachable",
            Self::ConnectionRefused => "connection refused",
            Self::TooLate => "took too long",
            Self::Crowded => "too many at once",
        }
    }

    /// The reply of SOCKS 5 (RFC 1928 §6).
    fn code(self) -> u8 {
        match self {
            Self::NotListed | Self::Private => 0x02,
            Self::NetworkUnreachable => 0x03,
            Self::NoSuchName | Self::HostUnreachable | Self::TooLate => 0x04,
            Self::ConnectionRefused => 0x05,
            Self::Command => 0x07,
            Self::AddressType => 0x08,
            Self::NotSocks | Self::Authentication | Self::Address | Self::Crowded => 0x01,
        }
    }
}

/// What comes of the bytes heard so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// To be said to the client, which then goes on.
    Say([u8; 2]),
    /// It wants to be connected.
    Connect(Target),
    /// It cannot be.
    Refuse(Refused),
}

/// How far a client has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Nothing is known yet.
    #[default]
    First,
    /// SOCKS 5: the request follows.
    Greeted,
    /// The request of SOCKS 4 or 5 was understood, or is refused.
    Asked4,
    Asked5,
    /// No reply would be understood.
    Over,
}

/// What a client says before it is connected.
#[derive(Debug, Default)]
pub struct Handshake {
    stage: Stage,
    heard: Vec<u8>,
}

impl Handshake {
    /// Bytes that may be heard next, at most.
    pub fn room(&self) -> usize {
        MOST - self.heard.len()
    }

    /// Takes what the client said; beyond [`Handshake::room`] it is ignored.
    pub fn hear(&mut self, bytes: &[u8]) {
        self.heard.extend_from_slice(&bytes[..bytes.len().min(self.room())]);
    }

    /// The next step; `None` until more is heard, and after a request or a refusal.
    pub fn step(&mut self) -> Option<Step> {
        let (step, stage, taken) = match (self.stage, self.heard.first()?) {
            (Stage::First, 4) => request4(&self.heard)?,
            (Stage::First, 5) => greeting5(&self.heard)?,
            (Stage::First, _) => (Step::Refuse(Refused::NotSocks), Stage::Over, 0),
            (Stage::Greeted, _) => request5(&self.heard)?,
            (Stage::Asked4 | Stage::Asked5 | Stage::Over, _) => return None,
        };
        self.heard.drain(..taken);
        self.stage = stage;
        Some(step)
    }

    /// What is said to a client that is connected from our address `from`. Nothing but the server's bytes may follow.
    pub fn granted(&self, from: SocketAddr) -> Vec<u8> {
        match self.stage {
            Stage::Asked4 => reply4(0x5a),
            _ => reply5(0x00, from),
        }
    }

    /// What is said to a client that is not connected; nothing where it would not be understood.
    pub fn refused(&self, why: Refused) -> Vec<u8> {
        match (self.stage, why) {
            (Stage::Asked4, _) => reply4(0x5b),
            (Stage::Asked5, _) => reply5(why.code(), SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
            (Stage::Over, Refused::Authentication) => vec![5, 0xff],
            _ => Vec::new(),
        }
    }

    /// What the client has said behind its request: for the server.
    pub fn into_rest(self) -> Vec<u8> {
        self.heard
    }
}

type Parsed = (Step, Stage, usize);

fn reply4(code: u8) -> Vec<u8> {
    vec![0, code, 0, 0, 0, 0, 0, 0]
}

fn reply5(code: u8, bound: SocketAddr) -> Vec<u8> {
    let mut reply = vec![5, code, 0];
    match bound.ip() {
        IpAddr::V4(ip) => {
            reply.push(1);
            reply.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            reply.push(4);
            reply.extend(ip.octets());
        }
    }
    reply.extend(bound.port().to_be_bytes());
    reply
}

/// `04 command port address user-id 00`, and of 4a `name 00`, where the address is 0.0.0.x.
fn request4(heard: &[u8]) -> Option<Parsed> {
    let fixed: &[u8; 8] = heard.first_chunk()?;
    let [_, command, high, low, ip @ ..] = *fixed;
    let refuse = |why, taken| Some((Step::Refuse(why), Stage::Asked4, taken));
    let user = match text(&heard[8..]) {
        Text::More => return None,
        Text::TooLong => return refuse(Refused::Address, 0),
        Text::Is(text) => text,
    };
    let mut taken = 8 + user.len() + 1;
    let named = ip[..3] == [0, 0, 0] && ip[3] != 0;
    let host = match named {
        false => Some(Host::Address(Ipv4Addr::from(ip).into())),
        true => match text(&heard[taken..]) {
            Text::More => return None,
            Text::TooLong => return refuse(Refused::Address, 0),
            Text::Is(name) => {
                taken += name.len() + 1;
                std::str::from_utf8(name).ok().and_then(Host::read)
            }
        },
    };
    let port = u16::from_be_bytes([high, low]);
    Some((asked(command, host, port), Stage::Asked4, taken))
}

enum Text<'a> {
    More,
    TooLong,
    Is(&'a [u8]),
}

/// Up to the 00 behind it, 255 bytes at most.
fn text(bytes: &[u8]) -> Text<'_> {
    match bytes.iter().take(256).position(|byte| *byte == 0) {
        Some(end) => Text::Is(&bytes[..end]),
        None if bytes.len() > 255 => Text::TooLong,
        None => Text::More,
    }
}

/// `05 count methods`.
fn greeting5(heard: &[u8]) -> Option<Parsed> {
    let count = usize::from(*heard.get(1)?);
    let methods = heard.get(2..2 + count)?;
    Some(match methods.contains(&0) {
        true => (Step::Say([5, 0]), Stage::Greeted, 2 + count),
        false => (Step::Refuse(Refused::Authentication), Stage::Over, 2 + count),
    })
}

/// `05 command 00 kind address port`.
fn request5(heard: &[u8]) -> Option<Parsed> {
    let head: &[u8; 4] = heard.first_chunk()?;
    let [version, command, _, kind] = *head;
    if version != 5 {
        return Some((Step::Refuse(Refused::NotSocks), Stage::Over, 0));
    }
    let (host, end) = match kind {
        1 => (address(heard.get(4..8)?), 8),
        3 => {
            let end = 5 + usize::from(*heard.get(4)?);
            (std::str::from_utf8(heard.get(5..end)?).ok().and_then(Host::read), end)
        }
        4 => (address(heard.get(4..20)?), 20),
        _ => return Some((Step::Refuse(Refused::AddressType), Stage::Asked5, head.len())),
    };
    let port = heard.get(end..end + 2)?;
    let port = port.iter().fold(0, |port, byte| port << 8 | u16::from(*byte));
    Some((asked(command, host, port), Stage::Asked5, end + 2))
}

fn address(bytes: &[u8]) -> Option<Host> {
    let four = <[u8; 4]>::try_from(bytes).ok().map(|ip| IpAddr::from(Ipv4Addr::from(ip)));
    let six = <[u8; 16]>::try_from(bytes).ok().map(|ip| IpAddr::from(Ipv6Addr::from(ip)));
    four.or(six).map(|ip| Host::Address(ip.to_canonical()))
}

fn asked(command: u8, host: Option<Host>, port: u16) -> Step {
    match (command, host) {
        (1, Some(host)) if port > 0 => Step::Connect(Target { host, port }),
        (1, _) => Step::Refuse(Refused::Address),
        _ => Step::Refuse(Refused::Command),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All steps of the bytes in these pieces, and what is left over.
    fn steps(pieces: &[&[u8]]) -> (Vec<Step>, Vec<u8>) {
        let mut handshake = Handshake::default();
        let mut steps = Vec::new();
        for piece in pieces {
            handshake.hear(piece);
            while let Some(step) = handshake.step() {
                steps.push(step);
            }
        }
        (steps, handshake.into_rest())
    }

    fn target(host: &str, port: u16) -> Step {
        Step::Connect(Target { host: Host::read(host).expect("a host"), port })
    }

    #[test]
    fn each_version_asks_for_a_connection_and_nothing_behind_it_is_lost() {
        let four = b"\x04\x01\x14\x66\xc0\x00\x02\x01me\0<?xml";
        assert_eq!(steps(&[four]), (vec![target("192.0.2.1", 5222)], b"<?xml".to_vec()));
        let four_a = b"\x04\x01\x1a\x0b\0\0\0\x07\0IRC.Example.\0NICK";
        assert_eq!(steps(&[four_a]), (vec![target("irc.example", 6667)], b"NICK".to_vec()));
        let five = b"\x05\x02\x02\x00\x05\x01\x00\x03\x0birc.example\x1a\x0bNICK";
        let greeted = Step::Say([5, 0]);
        assert_eq!(steps(&[five]), (vec![greeted.clone(), target("irc.example", 6667)], b"NICK".to_vec()));
        let literal = b"\x05\x01\x00\x05\x01\x00\x03\x09127.0.0.1\x14\x66";
        assert_eq!(steps(&[literal]).0, [greeted.clone(), target("127.0.0.1", 5222)]);
        let mut six = b"\x05\x01\x00\x05\x01\x00\x04".to_vec();
        six.extend(Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().octets());
        six.extend([0x14, 0x66]);
        assert_eq!(steps(&[&six]).0, [greeted, target("10.0.0.1", 5222)], "IPv4 within IPv6 is IPv4");
    }

    #[test]
    fn what_is_refused_gets_the_reply_of_its_protocol() {
        let reply = |bytes: &[u8]| {
            let mut handshake = Handshake::default();
            handshake.hear(bytes);
            let mut last = None;
            while let Some(step) = handshake.step() {
                last = Some(step);
            }
            let Some(Step::Refuse(why)) = last else { panic!("{last:?}") };
            handshake.refused(why)
        };
        let (general, command, kind) = (0x01, 0x07, 0x08);
        let five = |code| vec![5, code, 0, 1, 0, 0, 0, 0, 0, 0];
        let after = |request: &[u8]| reply(&[b"\x05\x01\x00", request].concat());
        assert_eq!(after(b"\x05\x02\x00\x01\x01\x02\x03\x04\x00\x50"), five(command), "BIND");
        assert_eq!(after(b"\x05\x03\x00\x01\x01\x02\x03\x04\x00\x50"), five(command), "UDP ASSOCIATE");
        assert_eq!(after(b"\x05\x01\x00\x09"), five(kind), "no kind of address");
        assert_eq!(after(b"\x05\x01\x00\x03\x03a b\x00\x50"), five(general), "no name");
        assert_eq!(after(b"\x05\x01\x00\x01\x01\x02\x03\x04\x00\x00"), five(general), "port 0");
        assert_eq!(reply(b"\x05\x01\x02"), [5, 0xff], "a password is wanted");
        assert_eq!(reply(b"\x04\x02\x00\x50\x01\x02\x03\x04\0")[..2], [0, 0x5b], "BIND of SOCKS 4");
        assert_eq!(reply(&[b"\x04\x01\x00\x50\x01\x02\x03\x04", &[b'u'; 256][..]].concat())[..2], [0, 0x5b]);
        assert_eq!(reply(b"CONNECT a:1 HTTP/1.1"), b"", "whoever speaks HTTP is told nothing");
        assert_eq!(after(b"\x04\x01\x00\x50"), b"");
    }

    #[test]
    fn a_grant_says_the_address_and_ends_there() {
        let (mut four, mut five) = (Handshake::default(), Handshake::default());
        four.hear(b"\x04\x01\x14\x66\xc0\x00\x02\x01\0");
        five.hear(b"\x05\x01\x00\x05\x01\x00\x01\xc0\x00\x02\x01\x14\x66");
        while four.step().or(five.step()).is_some() {}
        let from: SocketAddr = "192.0.2.9:4660".parse().expect("an address");
        assert_eq!(four.granted(from), [0, 0x5a, 0, 0, 0, 0, 0, 0]);
        assert_eq!(five.granted(from), [5, 0, 0, 1, 192, 0, 2, 9, 0x12, 0x34]);
        assert_eq!(five.granted("[2001:db8::1]:1".parse().expect("an address")).len(), 22);
    }

    /// Requests of all versions, whole, cut short and with a byte changed.
    fn said() -> impl Strategy<Value = Vec<u8>> {
        let text = proptest::collection::vec(any::<u8>(), 0..300);
        let request = (0usize..5, 0u8..5, text.clone(), proptest::collection::vec(any::<u8>(), 0..40));
        let whole = request.prop_map(|(kind, command, text, rest)| {
            let start: &[&[u8]] = match kind {
                0 => &[b"\x04", &[command], b"\x14\x66\xc0\x00\x02\x01", &text, b"\0"],
                1 => &[b"\x04", &[command], b"\x14\x66\0\0\0\x01\0", &text, b"\0"],
                2 => &[b"\x05\x01\0\x05", &[command], b"\0\x01\xc0\0\x02\x01\x14\x66"],
                3 => &[b"\x05\x01\0\x05", &[command], b"\0\x03", &[text.len() as u8], &text, b"\x14\x66"],
                _ => &[b"\x05", &[text.len() as u8], &text],
            };
            [start.concat(), rest].concat()
        });
        prop_oneof![whole, text]
    }

    proptest! {
        #[test]
        fn every_split_takes_the_same_steps(bytes in said(), mut cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6)) {
            let bytes = &bytes[..bytes.len().min(MOST)];
            let whole = steps(&[bytes]);
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(&steps(&single), &whole);
            cuts.sort_by_key(|cut| cut.index(bytes.len() + 1));
            let (mut pieces, mut from) = (Vec::new(), 0);
            for cut in cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([bytes.len()]) {
                pieces.push(&bytes[from..cut]);
                from = cut;
            }
            prop_assert_eq!(&steps(&pieces), &whole);
            let consumed = bytes.len() - whole.1.len();
            prop_assert!(consumed + whole.1.len() == bytes.len() && bytes.ends_with(&whole.1));
        }
    }
}
