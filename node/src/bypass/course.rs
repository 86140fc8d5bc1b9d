//! What becomes of what the two sides of a connection say: what is passed on of it, and what is learnt. *Pure.*
//!
//! A connection is passed on as it is, and may come to the point where TLS ends here ([`Upgrade`]); what is inside of that
//! TLS is passed on without channel binding ([`Features`]). Whose it is says its server. An account that is not listed is
//! passed on to its end all the same, since the client can't be given back to its server any more and its next try would go the
//! same way; but its user has agreed to nothing, so it is neither shown nor listened to.

use std::sync::{Arc, Mutex, PoisonError};

use jid::BareJid;

use super::accounts::Accounts;
use super::base::{Alarm, Base, Notice, Side, Verdict};
use super::features::Features;
use super::streams::Streams;
use super::upgrade::{Passed, Rest, Upgrade};

/// What is learnt of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Learnt {
    /// What it is.
    Verdict(Verdict),
    /// It is this user's.
    User(BareJid),
    /// TLS of an account ended here that is not listed.
    Unlisted,
    /// Somebody should know.
    Alarm(Alarm),
}

/// One connection.
pub(super) struct Course {
    base: Base,
    upgrade: Option<Box<Upgrade>>,
    inside: Option<Box<Inside>>,
}

/// What is known of a connection whose TLS ends here.
struct Inside {
    domain: String,
    accounts: Arc<Accounts>,
    streams: Arc<Mutex<Streams>>,
    /// Before the login.
    features: Option<Features>,
    user: Option<BareJid>,
}

impl Course {
    /// A connection as the client makes it. With `accounts` TLS of these may end here.
    pub(super) fn new(base: Base, accounts: Option<Arc<Accounts>>) -> Self {
        let upgrade = accounts.map(|accounts| Box::new(Upgrade::new(accounts)));
        Self { base, upgrade, inside: None }
    }

    /// What is inside of TLS that ends here, to the server of `domain`. `told`: that it is XMPP is known already.
    pub(super) fn inside(
        domain: String,
        told: bool,
        accounts: Arc<Accounts>,
        streams: Arc<Mutex<Streams>>,
    ) -> Self {
        let base = Base::inside(domain.clone(), told);
        let inside = Inside { domain, accounts, streams, features: Some(Features::default()), user: None };
        Self { base, upgrade: None, inside: Some(Box::new(inside)) }
    }

    /// Takes what a side said: what is passed on of it, and what is learnt.
    pub(super) fn hear(&mut self, side: Side, bytes: &[u8]) -> (Passed, Vec<Learnt>) {
        let verdict = self.base.hear(side, bytes);
        let mut learnt = self.learn(verdict);
        if let Some(upgrade) = &mut self.upgrade {
            let passed = upgrade.hear(side, bytes);
            if upgrade.is_over() {
                self.upgrade = None;
            }
            return (passed, learnt);
        }
        let Some(inside) = self.inside.as_mut().filter(|_| side == Side::Server) else {
            return (Passed::AsIs, learnt);
        };
        let Some(features) = &mut inside.features else { return (Passed::AsIs, learnt) };
        let passed = features.pass(bytes);
        learnt.extend(features.take_refused().then_some(Learnt::Alarm(Alarm::Unbound)));
        learnt.extend(features.take_unread().then_some(Learnt::Alarm(Alarm::Unread)));
        if features.is_over() {
            inside.features = None;
        }
        (Passed::Instead(passed), learnt)
    }

    /// One side says no more: what is still to be passed on to server and client, and what is learnt.
    pub(super) fn ended(&mut self, side: Side) -> (Rest, Vec<Learnt>) {
        let verdict = self.base.ended(side);
        let learnt = self.learn(verdict);
        (self.release(Some(side)), learnt)
    }

    /// It has been waited for long enough to know what is spoken.
    pub(super) fn give_up(&mut self) -> (Rest, Vec<Learnt>) {
        let verdict = self.base.give_up();
        let learnt = self.learn(verdict);
        (self.release(None), learnt)
    }

    /// Whether it is known what is spoken.
    pub(super) fn is_found(&self) -> bool {
        self.base.is_found()
    }

    fn release(&mut self, ended: Option<Side>) -> Rest {
        let mut rest = self.upgrade.as_mut().map(|upgrade| upgrade.give_up(ended)).unwrap_or_default();
        if self.upgrade.as_ref().is_some_and(|upgrade| upgrade.is_over()) {
            self.upgrade = None;
        }
        let features = self.inside.as_mut().and_then(|inside| inside.features.take());
        rest.back.extend(features.into_iter().flat_map(|mut features| features.give_up()));
        rest
    }

    fn learn(&mut self, verdict: Option<Verdict>) -> Vec<Learnt> {
        let mut learnt: Vec<Learnt> = verdict.map(Learnt::Verdict).into_iter().collect();
        while let Some(notice) = self.base.take_notice() {
            let more = match (notice, &mut self.inside) {
                (Notice::Alarm(alarm), _) => Some(Learnt::Alarm(alarm)),
                (Notice::User(user), None) => Some(Learnt::User(user)),
                (Notice::User(user), Some(inside)) => Some(inside.bound(user)),
                (Notice::Stream(id), Some(inside)) => {
                    inside.remember(id);
                    None
                }
                (Notice::Resumed(id), Some(inside)) => inside.resumed(&id),
                (Notice::Stream(_) | Notice::Resumed(_), None) => None,
            };
            if more == Some(Learnt::Unlisted) {
                self.base.stop_listening();
            }
            learnt.extend(more);
        }
        learnt
    }
}

impl Inside {
    fn bound(&mut self, user: BareJid) -> Learnt {
        if !self.accounts.has(&user) {
            return Learnt::Unlisted;
        }
        self.user = Some(user.clone());
        Learnt::User(user)
    }

    fn remember(&mut self, id: String) {
        let Some(user) = self.user.clone() else { return };
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).bound(id, user);
    }

    fn resumed(&mut self, id: &str) -> Option<Learnt> {
        let user = self.streams.lock().unwrap_or_else(PoisonError::into_inner).resumed(&self.domain, id);
        user.map(|user| self.bound(user))
    }
}

#[cfg(test)]
mod tests {
    use super::super::base::Protocol;
    use super::super::upgrade::Turn;
    use super::*;
    use proptest::prelude::*;

    const CLIENT: &str = "<?xml version='1.0'?><stream:stream to='a.example' xmlns='jabber:client' version='1.0' \
        xmlns:stream='http://etherx.jabber.org/streams'>";
    const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
    const SERVER: &str = "<?xml version='1.0'?><stream:stream from='a.example' id='1' xmlns='jabber:client' version='1.0' \
        xmlns:stream='http://etherx.jabber.org/streams'>";
    const OFFER: &str =
        "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>";
    const PROCEED: &str = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
    const FAILURE: &str = "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>";
    const SUCCESS: &str = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";

    fn accounts() -> Arc<Accounts> {
        Arc::new(Accounts::new(["romeo@a.example".parse().expect("a JID")]))
    }

    fn course() -> Course {
        Course::new(Base::new(Some(Protocol::Xmpp)), Some(accounts()))
    }

    /// What is passed on to server and client, and for which domain TLS begins with what is withheld; then nothing more is said.
    type Ran = (Vec<u8>, Vec<u8>, Option<(String, Vec<u8>)>);

    fn run(course: &mut Course, said: &[(Side, &[u8])]) -> Ran {
        let (mut out, mut back) = (Vec::new(), Vec::new());
        for (side, bytes) in said {
            let to = if *side == Side::Client { &mut out } else { &mut back };
            match course.hear(*side, bytes).0 {
                Passed::AsIs => to.extend_from_slice(bytes),
                Passed::Instead(bytes) => to.extend(bytes),
                Passed::Turn(bytes, turn) => {
                    to.extend(bytes);
                    let (domain, proceed) = match turn {
                        Turn::Starttls { domain, proceed } => (domain, proceed),
                        Turn::Direct { domain, .. } => (domain, Vec::new()),
                        Turn::Refused { domain, .. } => (domain, b"refused".to_vec()),
                    };
                    return (out, back, Some((domain, proceed)));
                }
            }
        }
        let rest = course.give_up().0;
        out.extend(rest.out);
        back.extend(rest.back);
        let refused = rest.turn.map(|turn| (format!("{turn:?}"), Vec::new()));
        (out, back, refused)
    }

    #[test]
    fn tls_of_a_listed_domain_ends_here_once_its_server_is_ready() {
        let client = [CLIENT, STARTTLS, "\n"].concat();
        let (header, offer) = (SERVER.as_bytes(), OFFER.as_bytes());
        let said = [
            (Side::Client, CLIENT.as_bytes()),
            (Side::Server, header),
            (Side::Server, offer),
            (Side::Client, &client.as_bytes()[CLIENT.len()..]),
            (Side::Server, b"\n"),
            (Side::Server, PROCEED.as_bytes()),
        ];
        let turn = Some(("a.example".to_owned(), PROCEED.as_bytes().to_vec()));
        let passed = [header, offer, b"\n"].concat();
        assert_eq!(run(&mut course(), &said), (client.into_bytes(), passed, turn));
        // A client may ask before it has heard what is offered.
        let early = [CLIENT, STARTTLS].concat();
        let answer = [SERVER, OFFER, PROCEED].concat();
        let said = [(Side::Client, early.as_bytes()), (Side::Server, answer.as_bytes())];
        assert_eq!(run(&mut course(), &said).2.expect("a turn").0, "a.example");
    }

    #[test]
    fn whatever_is_not_that_is_passed_through_as_it_is() {
        let other = CLIENT.replace("a.example", "b.example");
        let nobody = CLIENT.replace("to='a.example'", "");
        let auth = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";
        for (client, server) in [
            ([&other, STARTTLS].concat(), [SERVER, OFFER, PROCEED].concat()),
            ([&nobody, STARTTLS].concat(), [SERVER, OFFER, PROCEED].concat()),
            ([CLIENT, auth].concat(), [SERVER, OFFER, SUCCESS].concat()),
            ([CLIENT, STARTTLS].concat(), [SERVER, OFFER, FAILURE].concat()),
            ([CLIENT, STARTTLS, auth].concat(), [SERVER, OFFER, PROCEED].concat()),
            (["nonsense", CLIENT, STARTTLS].concat(), [SERVER, OFFER, PROCEED].concat()),
            ("\x16\x03\x01\x02\x00\x01\x00\x01\u{7f}nonsense".into(), "\x16\x03\x01".into()),
        ] {
            let said = [(Side::Client, client.as_bytes()), (Side::Server, server.as_bytes())];
            let (out, back, turn) = run(&mut course(), &said);
            assert_eq!(
                (&out[..], &back[..], turn),
                (client.as_bytes(), server.as_bytes(), None),
                "{client} {server}"
            );
        }
        let mut unlisted = Course::new(Base::new(Some(Protocol::Xmpp)), None);
        let said = [(Side::Client, [CLIENT, STARTTLS].concat()), (Side::Server, [SERVER, PROCEED].concat())];
        assert!(
            run(&mut unlisted, &said.each_ref().map(|(side, text)| (*side, text.as_bytes()))).2.is_none()
        );
    }

    /// The bytes of a ClientHello of a real client.
    fn hello(name: &str, protocol: &[u8]) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().expect("versions");
        let mut config = config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).expect("a name");
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("written");
        bytes
    }

    #[test]
    fn direct_tls_ends_here_for_a_listed_domain_and_xmpp() {
        for size in [1, 7, 4096] {
            let mut course = course();
            let hello = hello("a.example", b"xmpp-client");
            let mut pieces = hello.chunks(size).peekable();
            while let Some(piece) = pieces.next() {
                match course.hear(Side::Client, piece).0 {
                    Passed::Instead(bytes) => assert!(bytes.is_empty() && pieces.peek().is_some()),
                    Passed::Turn(bytes, turn) => {
                        assert!(bytes.is_empty() && pieces.peek().is_none());
                        assert_eq!(format!("{turn:?}"), "Direct(a.example)");
                    }
                    Passed::AsIs => unreachable!("it waits"),
                }
            }
            for (name, protocol) in [("b.example", &b"xmpp-client"[..]), ("a.example", b"http/1.1")] {
                let hello = self::hello(name, protocol);
                let said: Vec<(Side, &[u8])> =
                    hello.chunks(size).map(|piece| (Side::Client, piece)).collect();
                let (out, _, turn) = run(&mut self::course(), &said);
                assert!(out == hello && turn.is_none());
            }
        }
        // A half one is passed on when it is waited for no longer.
        let hello = hello("a.example", b"xmpp-client");
        let mut course = course();
        assert!(
            matches!(course.hear(Side::Client, &hello[..20]).0, Passed::Instead(bytes) if bytes.is_empty())
        );
        assert_eq!(course.ended(Side::Client).0.out, &hello[..20]);
        assert!(matches!(course.hear(Side::Client, &hello[20..]).0, Passed::AsIs));
    }

    fn login(streams: &Arc<Mutex<Streams>>, behind: &str) -> Vec<Learnt> {
        let mut course = Course::inside("a.example".into(), true, accounts(), Arc::clone(streams));
        let text = [SERVER, SUCCESS, SERVER, behind].concat();
        text.as_bytes().chunks(9).flat_map(|piece| course.hear(Side::Server, piece).1).collect()
    }

    #[test]
    fn who_is_listed_is_known_and_keeps_a_resumed_stream_and_nobody_else() {
        let streams = Arc::default();
        let bound = |user: &str, id: &str| {
            format!(
                "<iq type='result'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>{user}@a.example/x</jid></bind></iq>\
                 <enabled xmlns='urn:xmpp:sm:3' id='{id}' resume='true'/>"
            )
        };
        let resumed = |id: &str| format!("<resumed xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>");
        let romeo = Learnt::User("romeo@a.example".parse().expect("a JID"));
        assert_eq!(login(&streams, &bound("romeo", "1")), std::slice::from_ref(&romeo));
        assert_eq!(login(&streams, &bound("nurse", "2")), [Learnt::Unlisted]);
        assert_eq!(login(&streams, &resumed("1")), [romeo]);
        assert!(login(&streams, &resumed("2")).is_empty(), "nothing is remembered of who is not listed");
        let other = Learnt::Alarm(Alarm::Broken);
        assert_eq!(login(&streams, &bound("romeo", "1").replace("a.example", "b.example")), [other]);
    }

    proptest! {
        #[test]
        fn every_split_comes_to_the_same_turn(sizes in proptest::collection::vec((1usize..50, 1usize..50), 1..60), ask in 0usize..3) {
            let client = [CLIENT, STARTTLS].concat();
            let server = [SERVER, OFFER, " ", PROCEED].concat();
            let mut course = course();
            let (mut out, mut back) = (Vec::new(), Vec::new());
            let (mut rest_out, mut rest_back) = (client.as_bytes(), server.as_bytes());
            // The server answers once it is asked; its header and features may come before.
            let mut order = sizes.into_iter().chain(std::iter::repeat((50, 50)));
            let mut turned = false;
            while !rest_out.is_empty() || !rest_back.is_empty() {
                let (more_out, more_back) = order.next().expect("endless");
                let asked = rest_out.is_empty();
                let limit = rest_back.len() - if asked { 0 } else { rest_back.len().min(PROCEED.len() + ask) };
                for (side, rest, count) in [(Side::Client, &mut rest_out, more_out), (Side::Server, &mut rest_back, more_back.min(limit))] {
                    let (piece, behind) = rest.split_at(count.min(rest.len()));
                    *rest = behind;
                    let to = if side == Side::Client { &mut out } else { &mut back };
                    prop_assert!(!turned || piece.is_empty(), "said behind the turn");
                    match course.hear(side, piece).0 {
                        Passed::AsIs => to.extend_from_slice(piece),
                        Passed::Instead(bytes) => to.extend(bytes),
                        Passed::Turn(bytes, turn) => {
                            to.extend(bytes);
                            turned = true;
                            let Turn::Starttls { domain, proceed } = turn else {
                                panic!("the client has not begun with TLS");
                            };
                            prop_assert_eq!(domain, "a.example");
                            prop_assert!(String::from_utf8_lossy(&proceed).trim_start() == PROCEED);
                            to.extend(proceed);
                        }
                    }
                }
            }
            prop_assert!(turned);
            prop_assert_eq!(out, client.into_bytes());
            prop_assert_eq!(String::from_utf8(back).expect("text"), [SERVER, OFFER, " ", PROCEED].concat());
        }
    }
}
