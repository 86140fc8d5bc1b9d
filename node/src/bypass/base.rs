//! One connection between a client and its base network: what each side says goes in, and what the connection is found
//! to be comes out: what is spoken, and of XMPP that can be read, whose it is. *Pure.*
//!
//! Whatever is found changes nothing of what is passed on.

use std::fmt;

use jid::BareJid;

use super::identity::{Identity, Said, Unknown};
use super::openings::{Guess, guess};

/// Bytes of each side that are looked at.
pub const LOOKED_AT: usize = 1024;

/// Protocols of chat networks, and TLS, in which one of them may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// RFC 6120.
    Xmpp,
    /// RFC 8446 and its predecessors.
    Tls,
    /// RFC 2812.
    Irc,
    /// AIM and ICQ.
    Oscar,
    /// MSN.
    Msnp,
    /// Yahoo.
    Ymsg,
    /// RFC 3261.
    Sip,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Xmpp, Self::Tls, Self::Irc, Self::Oscar, Self::Msnp, Self::Ymsg, Self::Sip];

    /// Its name in settings, status and figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Xmpp => "xmpp",
            Self::Tls => "tls",
            Self::Irc => "irc",
            Self::Oscar => "oscar",
            Self::Msnp => "msnp",
            Self::Ymsg => "ymsg",
            Self::Sip => "sip",
        }
    }
}

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The chat program.
    Client,
    /// The server of its network.
    Server,
}

/// Why a connection is passed through without being understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alarm {
    /// The client begins as no protocol that is known.
    Client,
    /// The server begins as none that is known, or as another than the client.
    Server,
    /// One of them ended, or was silent for too long, before it could be told.
    Silent,
    /// Both speak another protocol than that of the base network in the list.
    Other(Protocol),
    /// Both speak XMPP, and the server then says what is none, or names a user of another domain.
    Broken,
    /// The server has not proved its domain, where TLS of the client ends here.
    Distrusted(Distrust),
    /// The client does not take the certificate of this node.
    Distrusting,
    /// The server refused a login after channel binding was withdrawn.
    Unbound,
    /// What the server offers could not be read, and went by with channel binding.
    Unread,
}

/// Why a server has not proved to be that of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Distrust {
    /// Nobody who is trusted has signed its certificate.
    Issuer,
    /// Its certificate has ended.
    Expired,
    /// Its certificate has not begun.
    TooEarly,
    /// Its certificate is for other names.
    Name,
    /// Its certificate is wrong in another way.
    Certificate,
    /// It has no TLS that is understood here.
    NoTls,
    /// It ended the connection.
    Gone,
    /// It took too long.
    Slow,
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Issuer => {
                "its certificate is signed by nobody who is trusted here; name the file of your own authority as `ca_file` in [bypass]"
            }
            Self::Expired => "its certificate has expired, or this machine's clock is wrong",
            Self::TooEarly => "its certificate is not valid yet, or this machine's clock is wrong",
            Self::Name => "its certificate is for another name than the account's domain",
            Self::Certificate => "its certificate is not valid",
            Self::NoTls => "it speaks no TLS that is understood here",
            Self::Gone => "it broke off the TLS handshake",
            Self::Slow => "its TLS handshake took too long",
        })
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => write!(f, "the client begins as no protocol that is known"),
            Self::Server => write!(f, "the server does not answer in the client's protocol"),
            Self::Silent => write!(f, "silent, or ended, before it could be told what it is"),
            Self::Distrusted(why) => {
                write!(f, "refused, as the server has not proved the account's domain: {why}")
            }
            Self::Distrusting => {
                write!(
                    f,
                    "the client does not take this node's certificate: give it the file that `crosstalk status` names"
                )
            }
            Self::Unbound => write!(
                f,
                "the server refused a login from which channel binding had been withdrawn: a wrong password, or a program that \
                 insists on channel binding"
            ),
            Self::Unread => write!(
                f,
                "what the server offers before the login cannot be read, so channel binding was not left out: a login may fail"
            ),
            Self::Broken => write!(f, "the server's XMPP cannot be read, or names a user of another domain"),
            Self::Other(protocol) => {
                write!(f, "speaks {}, which is not what the settings say", protocol.name())
            }
        }
    }
}

/// What a connection was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Both sides speak this.
    Speaks(Protocol),
    /// It is passed through, and somebody should know.
    Passed(Alarm),
}

/// What is learnt of a connection behind its verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The server says that it is this user.
    User(BareJid),
    /// That user's stream can be resumed by this id.
    Stream(String),
    /// The server goes on with the stream of this id.
    Resumed(String),
    /// It is passed on without being understood any more.
    Alarm(Alarm),
}

/// One connection.
#[derive(Debug)]
pub struct Base {
    listed: Option<Protocol>,
    client: Ear,
    server: Ear,
    found: bool,
    /// Listens to a server that begins as XMPP, until it is known whose connection it is, or never will be.
    identity: Option<Box<Identity>>,
    /// That server has proved its domain, by TLS that ends here.
    proved: bool,
    /// Held until the verdict, then until they are taken; at most three.
    notices: Vec<Notice>,
}

/// The first bytes of one side, until it is known what they are.
#[derive(Debug)]
struct Ear {
    side: Side,
    heard: Vec<u8>,
    guess: Guess,
}

impl Ear {
    fn new(side: Side) -> Self {
        Self { side, heard: Vec::new(), guess: Guess::More }
    }

    /// Returns all that was heard, at the moment when it is known what it begins as.
    fn hear(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        if self.guess != Guess::More {
            return None;
        }
        let taken = bytes.len().min(LOOKED_AT - self.heard.len());
        self.heard.extend_from_slice(&bytes[..taken]);
        self.guess = guess(self.side, &self.heard);
        if self.guess == Guess::More && self.heard.len() == LOOKED_AT {
            self.guess = Guess::Unknown;
        }
        (self.guess != Guess::More).then(|| {
            let mut all = std::mem::take(&mut self.heard);
            all.extend_from_slice(&bytes[taken..]);
            all
        })
    }
}

impl Base {
    /// A connection to a destination of this protocol, if the list says which.
    pub fn new(listed: Option<Protocol>) -> Self {
        let (client, server) = (Ear::new(Side::Client), Ear::new(Side::Server));
        Self { listed, client, server, found: false, identity: None, proved: false, notices: Vec::new() }
    }

    /// What is inside of TLS that ends here, of a server that has proved to be that of `domain`. `told`: that it is XMPP is told
    /// already.
    pub fn inside(domain: String, told: bool) -> Self {
        let identity = Some(Box::new(Identity::of(domain)));
        Self { found: told, identity, proved: true, ..Self::new(Some(Protocol::Xmpp)) }
    }

    /// Takes what one side said. Comes to a verdict once, the same for every split of the bytes and whichever side is
    /// heard first.
    pub fn hear(&mut self, side: Side, bytes: &[u8]) -> Option<Verdict> {
        if side == Side::Server {
            self.listen(bytes);
        }
        if self.found {
            return None;
        }
        match side {
            Side::Client => drop(self.client.hear(bytes)),
            Side::Server => {
                let begun = self.server.hear(bytes);
                if let Some(begun) =
                    begun.filter(|_| !self.proved && self.server.guess == Guess::Is(Protocol::Xmpp))
                {
                    self.identity = Some(Box::new(Identity::new()));
                    self.listen(&begun);
                }
            }
        }
        let verdict = match (self.client.guess, self.server.guess) {
            (Guess::More, _) => return None,
            (Guess::Unknown, _) => Verdict::Passed(Alarm::Client),
            (Guess::Is(_), Guess::More) => return None,
            (Guess::Is(client), Guess::Is(server)) if client == server => self.judge(client),
            (Guess::Is(_), _) => Verdict::Passed(Alarm::Server),
        };
        Some(self.conclude(verdict))
    }

    /// One side will say no more.
    pub fn ended(&mut self, side: Side) -> Option<Verdict> {
        let ear = match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        };
        if ear.guess == Guess::More { self.give_up() } else { None }
    }

    /// It has been waited for long enough.
    pub fn give_up(&mut self) -> Option<Verdict> {
        (!self.found).then(|| self.conclude(Verdict::Passed(Alarm::Silent)))
    }

    /// What was learnt since, once the verdict is given.
    pub fn take_notice(&mut self) -> Option<Notice> {
        (self.found && !self.notices.is_empty()).then(|| self.notices.remove(0))
    }

    /// Whose connection it is, and what becomes of it, is not to be known.
    pub fn stop_listening(&mut self) {
        (self.identity, self.notices) = (None, Vec::new());
    }

    /// Whether it has come to its verdict.
    pub fn is_found(&self) -> bool {
        self.found
    }

    fn listen(&mut self, mut bytes: &[u8]) {
        while let Some(identity) = &mut self.identity {
            let said = identity.hear(&mut bytes);
            let goes_on = matches!(said, Said::More) || self.proved && matches!(said, Said::User(_));
            match said {
                Said::More => return,
                Said::User(user) => self.notices.push(Notice::User(user)),
                Said::Stream(id) => self.notices.push(Notice::Stream(id)),
                Said::Resumed(id) => self.notices.push(Notice::Resumed(id)),
                Said::Nothing(Unknown::Broken) => self.notices.push(Notice::Alarm(Alarm::Broken)),
                Said::Nothing(Unknown::Hidden) => {}
            }
            if !goes_on {
                self.identity = None;
            }
        }
    }

    fn judge(&self, protocol: Protocol) -> Verdict {
        match self.listed {
            Some(listed) if protocol != listed && protocol != Protocol::Tls => {
                Verdict::Passed(Alarm::Other(protocol))
            }
            _ => Verdict::Speaks(protocol),
        }
    }

    fn conclude(&mut self, verdict: Verdict) -> Verdict {
        self.found = true;
        (self.client.heard, self.server.heard) = (Vec::new(), Vec::new());
        if verdict != Verdict::Speaks(Protocol::Xmpp) {
            self.stop_listening();
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What client and server say first, as recorded from real programs or written in the specification.
    const OPENINGS: &[(&[u8], &[u8], Protocol)] = &[
        (
            b"<?xml version='1.0'?><stream:stream to='a.example' xmlns='jabber:client'>",
            b"<?xml version='1.0'?><stream:stream from='a.example'>",
            Protocol::Xmpp,
        ),
        (b" \r\n<stream to='x'>", b"<s:stream xmlns:s='http://etherx.jabber.org/streams'>", Protocol::Xmpp),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x16\x03\x03\x00\x7a\x02\x00", Protocol::Tls),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x15\x03\x03\x00\x02\x02\x28", Protocol::Tls),
        (b"CAP LS 302\r\nNICK juliet\r\n", b":irc.example NOTICE * :*** hello\r\n", Protocol::Irc),
        (b"nick juliet\r\n", b":irc.example 001 juliet :Welcome\r\n", Protocol::Irc),
        (b"PASS x\r\n", b"@time=2026-01-01T00:00:00Z :irc.example CAP * LS :sasl\r\n", Protocol::Irc),
        (b"USER a 0 * :a\r\n", b"ERROR :Closing link\r\n", Protocol::Irc),
        (b"*\x01\x00\x01\x00\x04\x00\x00\x00\x01", b"*\x01\x12\x34\x00\x04\x00\x00\x00\x01", Protocol::Oscar),
        (b"VER 0 MSNP8 CVR0\r\n", b"VER 0 MSNP8\r\n", Protocol::Msnp),
        (b"USR 1 a@b.example 189.2\r\n", b"USR 1 OK a@b.example\r\n", Protocol::Msnp),
        (b"YMSG\x00\x0b\0\0\0\0", b"YMSG\x00\x0b\0\0\0\0", Protocol::Ymsg),
        (b"REGISTER sip:a.example SIP/2.0\r\n", b"SIP/2.0 401 Unauthorized\r\n", Protocol::Sip),
        (b"\r\nMESSAGE SIPS:b@a.example SIP/2.0\r\n", b"SIP/2.0 200 OK\r\n", Protocol::Sip),
    ];

    fn verdict(listed: Option<Protocol>, said: &[(Side, &[u8])]) -> Option<Verdict> {
        let mut base = Base::new(listed);
        said.iter().find_map(|(side, bytes)| base.hear(*side, bytes))
    }

    fn both(client: &[u8], server: &[u8]) -> Option<Verdict> {
        verdict(None, &[(Side::Client, client), (Side::Server, server)])
    }

    #[test]
    fn each_protocol_is_known_by_what_both_sides_say_first() {
        for (client, server, protocol) in OPENINGS {
            let name = client.escape_ascii();
            assert_eq!(both(client, server), Some(Verdict::Speaks(*protocol)), "{name}");
            for (other, _, kind) in OPENINGS.iter().filter(|(_, _, kind)| kind != protocol) {
                assert_eq!(both(other, server), Some(Verdict::Passed(Alarm::Server)), "{kind:?}, {name}");
            }
        }
    }

    #[test]
    fn what_is_not_a_chat_network_is_an_alarm() {
        let unknown = [
            (&b"GET / HTTP/1.1\r\n"[..], Alarm::Client),
            (b"<html><body>", Alarm::Client),
            (b"<!DOCTYPE html>", Alarm::Client),
            (b"<?xml version='1.0'?><svg>", Alarm::Client),
            (b"<streams>", Alarm::Client),
            (b"<stream:stream/>", Alarm::Client),
            (b"SSH-2.0-OpenSSH\r\n", Alarm::Client),
            (b"\x16\x03\x01\x02\x00\x0b", Alarm::Client),
            (b"*\x02\x00\x01\x00\x04\x00\x00\x00\x01", Alarm::Client),
            (b"VER x MSNP8\r\n", Alarm::Client),
            (b"OPTIONS http://a/ HTTP/1.1\r\n", Alarm::Client),
            (b"\x00", Alarm::Client),
            // The beginnings of POP3 and FTP are those of IRC; their servers' are not.
            (b"USER me\r\n", Alarm::Server),
        ];
        for (client, alarm) in unknown {
            let found = both(client, b"+OK ready\r\n");
            assert_eq!(found, Some(Verdict::Passed(alarm)), "{}", client.escape_ascii());
        }
        assert_eq!(both(&[b'a'; LOOKED_AT], b""), Some(Verdict::Passed(Alarm::Client)));
        assert_eq!(both(&[b' '; LOOKED_AT], b""), Some(Verdict::Passed(Alarm::Client)), "blanks for ever");
        assert_eq!(both(b"NICK a\r\n", &[b':'; LOOKED_AT]), Some(Verdict::Passed(Alarm::Server)));
    }

    #[test]
    fn the_list_says_what_is_expected_and_tls_may_be_around_it() {
        let irc = [(Side::Server, &b":a 001 b\r\n"[..]), (Side::Client, b"NICK b\r\n")];
        assert_eq!(verdict(Some(Protocol::Irc), &irc), Some(Verdict::Speaks(Protocol::Irc)));
        let other = Some(Verdict::Passed(Alarm::Other(Protocol::Irc)));
        assert_eq!(verdict(Some(Protocol::Xmpp), &irc), other);
        let tls = [(Side::Client, OPENINGS[2].0), (Side::Server, OPENINGS[2].1)];
        assert_eq!(verdict(Some(Protocol::Xmpp), &tls), Some(Verdict::Speaks(Protocol::Tls)));
    }

    #[test]
    fn who_is_silent_is_given_up_once() {
        let mut base = Base::new(None);
        assert_eq!(base.hear(Side::Server, b"220 hello\r\n"), None, "the client has not spoken");
        assert_eq!(base.give_up(), Some(Verdict::Passed(Alarm::Silent)));
        assert_eq!(base.give_up(), None);
        assert_eq!(base.hear(Side::Client, b"NICK a\r\n"), None);
        let mut base = Base::new(None);
        assert_eq!(base.hear(Side::Client, b"NICK a\r\n"), None);
        assert_eq!(base.ended(Side::Client), None, "the server may still answer");
        assert_eq!(base.ended(Side::Server), Some(Verdict::Passed(Alarm::Silent)));
    }

    #[test]
    fn a_user_is_who_the_server_says_and_nobody_before_the_verdict() {
        let (client, header, _) = OPENINGS[0];
        let success = b"<stream:features xmlns:stream='http://etherx.jabber.org/streams'/><success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";
        let header = [
            &header[..header.len() - 1],
            b" xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
        ]
        .concat();
        let bound = b"<iq type='result'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>romeo@a.example/x</jid></bind></iq>";
        // More than is looked at, in one piece.
        let said = [&header[..], &[b' '; LOOKED_AT], success, &header, bound].concat();
        let user = Notice::User(BareJid::new("romeo@a.example").expect("an address"));
        for (listed, notice) in [(None, Some(user)), (Some(Protocol::Irc), None)] {
            let mut base = Base::new(listed);
            assert_eq!(
                (base.hear(Side::Server, &said), base.take_notice()),
                (None, None),
                "the client has not spoken"
            );
            assert!(base.hear(Side::Client, client).is_some());
            assert_eq!((base.take_notice(), base.take_notice()), (notice, None));
        }
        let mut base = Base::new(None);
        base.hear(Side::Client, client);
        base.hear(Side::Server, &header);
        base.hear(Side::Client, bound);
        assert_eq!(base.take_notice(), None, "what the client says counts for nothing");
        base.hear(Side::Server, b"nonsense");
        assert_eq!(base.take_notice(), Some(Notice::Alarm(Alarm::Broken)));
    }

    fn opening() -> impl Strategy<Value = Vec<u8>> {
        let known = prop::sample::select(OPENINGS)
            .prop_flat_map(|(client, server, _)| prop_oneof![Just(client.to_vec()), Just(server.to_vec())]);
        let changed =
            (known.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut bytes, at, byte)| {
                let at = at.index(bytes.len());
                bytes[at] = byte;
                bytes
            });
        let long = (known.clone(), any::<u8>(), 900usize..1100)
            .prop_map(|(bytes, byte, count)| [bytes, vec![byte; count]].concat());
        let blank =
            (known.clone(), 0usize..1100).prop_map(|(bytes, count)| [vec![b'\n'; count], bytes].concat());
        prop_oneof![known, changed, long, blank, proptest::collection::vec(any::<u8>(), 0..64)]
    }

    proptest! {
        #[test]
        fn every_split_and_every_order_comes_to_the_same_verdict(
            client in opening(), server in opening(), order in proptest::collection::vec((any::<bool>(), 1usize..40), 0..80)
        ) {
            let whole = both(&client, &server);
            prop_assert_eq!(verdict(None, &[(Side::Server, &server), (Side::Client, &client)]), whole);
            let (mut base, mut found) = (Base::new(None), None);
            let (mut client, mut server) = (&client[..], &server[..]);
            for (of_client, count) in order.into_iter().chain((0..2200).map(|count| (count % 2 == 0, 1))) {
                let (side, rest) = if of_client { (Side::Client, &mut client) } else { (Side::Server, &mut server) };
                let (piece, behind) = rest.split_at(count.min(rest.len()));
                *rest = behind;
                found = found.or(base.hear(side, piece));
                prop_assert!(base.client.heard.len() <= LOOKED_AT && base.server.heard.len() <= LOOKED_AT);
            }
            prop_assert_eq!(found, whole);
        }
    }
}
