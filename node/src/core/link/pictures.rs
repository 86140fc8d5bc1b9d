//! XEP-0054: a vCard for people of the link, made of what they announce; the picture is fetched when somebody asks.
//! *Pure.*

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crosstalk_link_local::clean;
use crosstalk_link_local::instance::Instance;

use super::io::LinkCommand;
use super::people::Known;
use crate::core::session::SessionId;
use crate::core::{Core, Origin};
use crate::xmpp::{Element, Stanza, ns};

/// How long a picture may take until the vCard is given without, milliseconds.
const PATIENCE: u64 = 3_000;
/// Requests that wait for a picture. Of more, the answer comes without.
const WAITING: usize = 64;

/// A request for a vCard that waits for its picture.
#[derive(Debug)]
struct Waiting {
    session: SessionId,
    iq: Stanza,
    peer: Instance,
    until: u64,
}

/// Requests that wait for pictures.
#[derive(Debug, Default)]
pub(super) struct Asked(Vec<Waiting>);

impl Asked {
    pub(super) fn next_due(&self) -> Option<u64> {
        self.0.iter().map(|waiting| waiting.until).min()
    }
}

impl Core {
    /// A client asks for the vCard of somebody on the link.
    pub(super) fn vcard_of_link(&mut self, session: SessionId, peer: &Instance, iq: &Stanza) {
        let Some(known) = self.link.people.get(peer) else { return };
        let to_come = known.advert.phsh.is_some() && known.picture.is_none();
        if !to_come || self.link.pictures.0.len() >= WAITING {
            return self.answer_vcard(session, peer, iq);
        }
        if !self.link.pictures.0.iter().any(|waiting| waiting.peer == *peer) {
            self.command_link(LinkCommand::AskPicture(peer.clone()));
        }
        let until = self.now.mono + PATIENCE;
        let waiting = Waiting { session, iq: iq.error_base(), peer: peer.clone(), until };
        self.link.pictures.0.push(waiting);
    }

    /// A picture is here.
    pub(super) fn picture_came(&mut self, instance: &Instance, bytes: Vec<u8>) {
        self.link.people.picture(instance, bytes);
        self.answer_vcards(|waiting| waiting.peer == *instance);
    }

    /// Pictures that did not come.
    pub(super) fn pictures_due(&mut self) {
        let now = self.now.mono;
        self.answer_vcards(|waiting| waiting.until <= now);
    }

    fn answer_vcards(&mut self, which: impl Fn(&Waiting) -> bool) {
        let all = std::mem::take(&mut self.link.pictures.0);
        let (ready, left) = all.into_iter().partition::<Vec<_>, _>(which);
        self.link.pictures.0 = left;
        for Waiting { session, iq, peer, .. } in ready {
            self.answer_vcard(session, &peer, &iq);
        }
    }

    fn answer_vcard(&mut self, session: SessionId, peer: &Instance, iq: &Stanza) {
        let card = match self.link.people.get(peer) {
            Some(known) => vcard(peer, known),
            None => Element::new("vCard", ns::VCARD),
        };
        self.answer(Origin::Session(session), iq.result(Some(card)), false);
    }
}

fn vcard(peer: &Instance, known: &Known) -> Element {
    let advert = &known.advert;
    let field = |name: &str, text: &str| Element::new(name, ns::VCARD).text(text);
    let shown = |text: &str| Some(clean::nickname(text)).filter(|text| !text.is_empty());
    let name = advert.name().as_deref().and_then(shown).or_else(|| shown(&peer.nickname()));
    let part = |name, text: &Option<String>| text.as_deref().and_then(shown).map(|text| field(name, &text));
    let n = Element::new("N", ns::VCARD)
        .children_from(part("FAMILY", &advert.last))
        .children_from(part("GIVEN", &advert.first));
    let email = part("USERID", &advert.email).map(|user| Element::new("EMAIL", ns::VCARD).child(user));
    let mut card = Element::new("vCard", ns::VCARD);
    if let Some(name) = name {
        card = card.child(field("FN", &name)).child(field("NICKNAME", &name));
    }
    if n.children().next().is_some() {
        card.push(n);
    }
    let picture = known.picture.as_deref().map(|bytes| {
        Element::new("PHOTO", ns::VCARD)
            .child(field("TYPE", media_type(bytes)))
            .child(field("BINVAL", &STANDARD.encode(bytes)))
    });
    card.children_from(email).children_from(part("JABBERID", &advert.jid)).children_from(picture)
}

/// By the first bytes; XEP-0174 pictures are JPEG or PNG.
fn media_type(bytes: &[u8]) -> &'static str {
    if bytes.starts_with(b"\x89PNG") { "image/png" } else { "image/jpeg" }
}
