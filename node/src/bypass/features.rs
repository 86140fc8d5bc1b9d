//! What a server offers before the login, without channel binding (RFC 5929, RFC 9266): it would bind the login to the TLS of this
//! node, which is not the client's. *Pure.*
//!
//! Of its stream features (RFC 6120 §6, XEP-0388) the mechanisms that end in `-PLUS`, those of XEP-0484 that bind (`-ENDP`, `-EXPR`,
//! `-UNIQ`) and the list of XEP-0440 are left out;
//! every other byte is passed on as it came, and after the login all of them are, unread.

use crate::xmpp::framer::Frame;
use crate::xmpp::parse::Scope;
use crate::xmpp::without::without;
use crate::xmpp::{Element, ns};

use super::cutter::{Cutter, LIMITS, Piece};

const FAST: &str = "urn:xmpp:fast:0";

/// What a server says before the login.
#[derive(Debug)]
pub struct Features {
    cutter: Cutter,
    withdrawn: bool,
    refused: bool,
    unread: bool,
    over: bool,
}

impl Default for Features {
    fn default() -> Self {
        Self { cutter: Cutter::new(), withdrawn: false, refused: false, unread: false, over: false }
    }
}

impl Features {
    /// What is passed on of what the server said. Before the login an element is as soon as it is complete.
    pub fn pass(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut passed = Vec::with_capacity(bytes.len());
        while !self.over {
            match self.cutter.next(&mut bytes) {
                None => return passed,
                Some(Piece::Between(raw)) => passed.extend(raw),
                Some(Piece::Whole(frame, raw)) => passed.extend(self.whole(&frame, raw)),
                Some(Piece::Broken(raw)) => {
                    (self.over, self.unread) = (true, true);
                    passed.extend(raw);
                }
            }
        }
        passed.extend_from_slice(bytes);
        passed
    }

    /// Whether all that follows is passed on as it is.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Whether the server refused a login since this was asked for, after something had been withdrawn: the password may be wrong, or the
    /// client says that it would have bound the channel (RFC 5802 §6), which such a server takes for an attack.
    pub fn take_refused(&mut self) -> bool {
        std::mem::take(&mut self.refused)
    }

    /// Whether since this was asked for something went by that can't be read, and may offer channel binding.
    pub fn take_unread(&mut self) -> bool {
        std::mem::take(&mut self.unread)
    }

    /// What has not been passed on as an element is not complete.
    pub fn give_up(&mut self) -> Vec<u8> {
        self.over = true;
        self.cutter.take_held()
    }

    fn whole(&mut self, frame: &Frame, raw: Vec<u8>) -> Vec<u8> {
        let element = match frame {
            Frame::Open(_) => return raw,
            Frame::Element(element) => element,
            Frame::Close => {
                self.over = true;
                return raw;
            }
        };
        match (element.name(), element.ns()) {
            ("features", ns::STREAMS) => {
                let changed = self.cutter.scope().and_then(|scope| unbound(&raw, scope));
                self.unread |= changed.is_none();
                self.withdrawn |= changed.as_ref().is_some_and(|changed| *changed != raw);
                return changed.unwrap_or(raw);
            }
            ("failure", ns::SASL | ns::SASL2) => self.refused |= self.withdrawn,
            ("success", ns::SASL | ns::SASL2) | ("message" | "presence", _) => self.over = true,
            _ => {}
        }
        raw
    }
}

/// Features without channel binding; nothing if they can't be read.
fn unbound(raw: &[u8], scope: &Scope) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(raw).ok()?;
    let element = text.trim_start();
    let changed = without(element, scope, &LIMITS, binds).ok()?;
    Some([&text[..text.len() - element.len()], &changed].concat().into_bytes())
}

fn binds(around: &Element, element: &Element) -> bool {
    let offers = around.is("mechanisms", ns::SASL) || around.is("authentication", ns::SASL2);
    let ends: &[&str] = match (offers, around.is("fast", FAST)) {
        (true, _) => &["-PLUS"],
        (false, true) => &["-ENDP", "-EXPR", "-UNIQ"],
        (false, false) => &[],
    };
    let name = element.own_text();
    let plus = element.name() == "mechanism"
        && element.ns() == around.ns()
        && ends.iter().any(|end| name.trim().ends_with(end));
    plus || element.is("sasl-channel-binding", ns::CHANNEL_BINDING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: &str = "<?xml version='1.0'?>\n<stream:stream xmlns='jabber:client' id='1' from='a.example' version='1.0' \
        xmlns:stream='http://etherx.jabber.org/streams'>";
    const OFFER: &str = "<stream:features>\n <mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>SCRAM-SHA-1-PLUS</mechanism>\
        <mechanism>SCRAM-SHA-1</mechanism> <mechanism>SCRAM-SHA-&#50;56-PLUS</mechanism></mechanisms>\
        <sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'><channel-binding type='tls-exporter'/></sasl-channel-binding>\
        <s:authentication xmlns:s='urn:xmpp:sasl:2'><s:mechanism>\nSCRAM-SHA-1-PLUS </s:mechanism><s:mechanism>PLAIN</s:mechanism>\
        <s:inline><x xmlns='urn:x' a=\"'\"/></s:inline></s:authentication><c xmlns='urn:c'><mechanism>X-PLUS</mechanism></c></stream:features>";
    const LEFT: &str = "<stream:features>\n <mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
        <mechanism>SCRAM-SHA-1</mechanism> </mechanisms>\
        <s:authentication xmlns:s='urn:xmpp:sasl:2'><s:mechanism>PLAIN</s:mechanism>\
        <s:inline><x xmlns='urn:x' a=\"'\"/></s:inline></s:authentication><c xmlns='urn:c'><mechanism>X-PLUS</mechanism></c></stream:features>";
    const SUCCESS: &str = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";
    const FAILURE: &str = "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>";

    /// What is passed on in the end, in one piece and byte for byte.
    fn passed(said: &[u8]) -> Vec<u8> {
        let (mut whole, mut single) = (Features::default(), Features::default());
        let mut in_one = whole.pass(said);
        let mut in_pieces: Vec<u8> = said.chunks(1).flat_map(|byte| single.pass(byte)).collect();
        assert_eq!((whole.is_over(), whole.take_refused()), (single.is_over(), single.take_refused()));
        in_one.extend(whole.give_up());
        in_pieces.extend(single.give_up());
        assert_eq!(in_one, in_pieces, "{}", said.escape_ascii());
        in_one
    }

    #[test]
    fn channel_binding_is_withdrawn_and_nothing_else() {
        let challenge = "<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>aa==</challenge>\n ";
        let said = [HEADER, " \n", OFFER, challenge, SUCCESS, HEADER, OFFER, "\0\0"].concat();
        let left = [HEADER, " \n", LEFT, challenge, SUCCESS, HEADER, OFFER, "\0\0"].concat();
        assert_eq!(String::from_utf8_lossy(&passed(said.as_bytes())), left);
        let again = [HEADER, OFFER, FAILURE, LEFT].concat();
        assert_eq!(passed(again.as_bytes()), [HEADER, LEFT, FAILURE, LEFT].concat().as_bytes());
        for plain in
            [LEFT, "<a/>", "<stream:error/></stream:stream>zz", "<features xmlns='urn:x'/>", "</x>", "<a><b"]
        {
            let said = [HEADER, plain].concat();
            assert_eq!(passed(said.as_bytes()), said.as_bytes());
        }
    }

    #[test]
    fn a_login_that_fails_without_what_was_withdrawn_is_told() {
        for (offer, told) in [(OFFER, true), (LEFT, false)] {
            let mut features = Features::default();
            features.pass([HEADER, offer].concat().as_bytes());
            assert!(!features.take_refused());
            features.pass(FAILURE.as_bytes());
            assert_eq!(
                (features.take_refused(), features.take_refused(), features.is_over()),
                (told, false, false)
            );
            features.pass(SUCCESS.as_bytes());
            assert!(features.is_over());
        }
    }

    #[test]
    fn tokens_that_bind_the_channel_are_withdrawn() {
        let offer = |tokens: &str| {
            format!(
                "<stream:features><authentication xmlns='urn:xmpp:sasl:2'><inline><fast xmlns='urn:xmpp:fast:0'>{tokens}</fast>\
                 </inline></authentication></stream:features>"
            )
        };
        let one = |name: &str| format!("<mechanism>{name}</mechanism>");
        let none = one("HT-SHA-256-NONE");
        let all = ["ENDP", "EXPR", "UNIQ"].map(|kind| one(&format!("HT-SHA-256-{kind}"))).concat();
        let said = [HEADER, &offer(&[&all[..], &none].concat())].concat();
        assert_eq!(passed(said.as_bytes()), [HEADER, &offer(&none)].concat().as_bytes());
        let elsewhere = offer(&all).replace("urn:xmpp:fast:0", "urn:x");
        assert_eq!(
            passed([HEADER, &elsewhere].concat().as_bytes()),
            [HEADER, &elsewhere].concat().as_bytes()
        );
    }

    #[test]
    fn a_large_offer_is_cut_too() {
        let many = "<z xmlns='urn:z'/>".repeat(900);
        let long = format!("<c a='{}' ", "x".repeat(32 << 10));
        let deep = ["<a xmlns='urn:z'>".repeat(12), "</a>".repeat(12)].concat();
        let larger = |offer: &str| offer.replace("<c ", &[&many[..], &deep, &long].concat());
        assert!(
            passed([HEADER, &larger(OFFER)].concat().as_bytes())
                == [HEADER, &larger(LEFT)].concat().as_bytes()
        );
    }

    #[test]
    fn what_is_longer_than_is_taken_is_passed_on_as_it_is() {
        let long = OFFER.replace("<c ", &format!("<c a='{}' ", "x".repeat(64 << 10)));
        let said = [HEADER, &long, SUCCESS].concat();
        assert_eq!(passed(said.as_bytes()), said.as_bytes());
        for (offer, unread) in [(&long[..], true), (OFFER, false)] {
            let mut features = Features::default();
            features.pass([HEADER, offer].concat().as_bytes());
            assert_eq!((features.take_unread(), features.take_unread()), (unread, false));
        }
    }

    proptest! {
        #[test]
        fn every_split_passes_on_the_same(
            parts in proptest::collection::vec(prop::sample::select(&[HEADER, OFFER, LEFT, SUCCESS, FAILURE, " ", "<a/>", "<a"][..]), 0..6),
            at in any::<prop::sample::Index>(), byte in prop::option::of(any::<u8>()), sizes in proptest::collection::vec(1usize..300, 1..40)
        ) {
            let mut said = [HEADER, &parts.concat()].concat().into_bytes();
            if let Some(byte) = byte {
                let at = at.index(said.len());
                said[at] = byte;
            }
            let whole = passed(&said);
            let (mut features, mut rest, mut pieces) = (Features::default(), &said[..], Vec::new());
            for size in sizes.into_iter().chain(std::iter::once(usize::MAX)) {
                let (piece, behind) = rest.split_at(size.min(rest.len()));
                pieces.extend(features.pass(piece));
                rest = behind;
            }
            pieces.extend(features.give_up());
            prop_assert_eq!(pieces, whole);
        }
    }
}
