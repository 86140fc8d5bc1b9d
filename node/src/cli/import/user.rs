//! One user of an export (XEP-0227), made of what its server wrote. *Pure.*

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crosstalk_overlay::enrol::Scheme;
use crosstalk_storage::tree::authority::Verifier;
use jid::BareJid;

use crate::accounts::names::nickname;
use crate::authority::derived::{is_usable, verifier_of};
use crate::authority::import::{BLOCKED, CONTACTS, ImportedContact, ImportedUser, VCARD};
use crate::c2s::credentials::{SALT_BYTES, prepare_password};
use crate::xmpp::pie::SCRAM;
use crate::xmpp::{Element, ns};

/// What ejabberd makes the password of whom it has banned.
const BANNED: &str = "BANNED_ACCOUNT--";
/// Bytes of a contact's name and of a group, and groups: as in a contact list.
const NAME: usize = 1_023;
const GROUPS: usize = 50;
/// Bytes of all contacts of a user.
const BYTES: usize = 640 * 1_024;

/// Whether something of a user is of use.
pub fn is_wanted(name: &str, of: &str) -> bool {
    matches!(
        (name, of),
        ("query", ns::ROSTER)
            | ("presence", ns::CLIENT)
            | ("scram-credentials", SCRAM)
            | ("vCard", ns::VCARD)
            | ("blocklist", ns::BLOCKING)
    )
}

/// A user that is being read.
pub struct Making {
    user: ImportedUser,
    verifier: Option<Verifier>,
    /// The domain there, and here.
    domains: (String, String),
    bytes: usize,
    left_out: Vec<String>,
}

impl Making {
    /// Begins with the element of the user. With a salt a password is made into what is kept of it.
    ///
    /// # Errors
    /// When it has no name.
    pub fn new(
        element: &Element,
        domains: (&str, &str),
        salt: Option<[u8; SALT_BYTES]>,
    ) -> Result<Self, String> {
        let name = element.get_attr("name").filter(|name| !name.is_empty());
        let name = name.ok_or("a user has no name")?.to_owned();
        let domains = (domains.0.to_owned(), domains.1.to_owned());
        let user = ImportedUser { name, ..ImportedUser::default() };
        let mut making = Self { user, verifier: None, domains, bytes: 0, left_out: Vec::new() };
        making.password(element.get_attr("password").unwrap_or_default(), salt);
        Ok(making)
    }

    fn password(&mut self, password: &str, salt: Option<[u8; SALT_BYTES]>) {
        if password.starts_with(BANNED) {
            self.user.disabled = true;
        } else if !password.is_empty() {
            match (prepare_password(password), salt) {
                (Ok(prepared), Some(salt)) => self.verifier = Some(verifier_of(&prepared, &salt)),
                // Whoever only looks need not wait.
                (Ok(_), None) => self.verifier = Some(verifier_of("", &[])),
                (Err(why), _) => self.leave_out(&format!("the password ({why})")),
            }
        }
    }

    fn leave_out(&mut self, what: &str) {
        self.left_out.push(format!("{}: {what}", self.user.name));
    }

    /// Something of the user.
    ///
    /// # Errors
    /// When what there is of the password cannot be used.
    pub fn add(&mut self, child: &Element) -> Result<(), String> {
        match child.name() {
            "query" => {
                child.children().filter(|item| item.is("item", ns::ROSTER)).for_each(|item| self.item(item))
            }
            "presence" if child.get_attr("type") == Some("subscribe") => {
                let from = child.get_attr("from").unwrap_or_default();
                match self.bare(from) {
                    Some(address) => self.contact(address).pending_in = true,
                    None => self.leave_out("a request of something that is no address"),
                }
            }
            "scram-credentials" => self.scram(child)?,
            "vCard" => self.card(child),
            "blocklist" => child.children().for_each(|item| self.block(item)),
            _ => {}
        }
        Ok(())
    }

    /// An address as it is from now on: users of the same server move along.
    fn bare(&self, address: &str) -> Option<String> {
        let jid = BareJid::new(address).ok()?;
        let (there, here) = &self.domains;
        match jid.node() {
            Some(name) if jid.domain().as_str() == there => Some(format!("{name}@{here}")),
            _ => Some(jid.to_string()),
        }
    }

    fn contact(&mut self, address: String) -> &mut ImportedContact {
        let contacts = &mut self.user.contacts;
        let at = contacts.iter().position(|known| known.address == address).unwrap_or_else(|| {
            contacts.push(ImportedContact { address, ..ImportedContact::default() });
            contacts.len() - 1
        });
        &mut contacts[at]
    }

    fn item(&mut self, item: &Element) {
        let attribute = |name| item.get_attr(name).unwrap_or_default();
        let subscription = attribute("subscription");
        let Some(address) = self.bare(attribute("jid")) else {
            return self.leave_out("a contact that is no address");
        };
        if subscription == "remove" {
            return;
        }
        let groups = item.children().filter(|group| group.is("group", ns::ROSTER));
        let groups = groups.map(|group| group.own_text().trim().to_owned());
        let groups: Vec<String> =
            groups.filter(|group| !group.is_empty() && group.len() <= NAME).take(GROUPS).collect();
        let name = Some(attribute("name")).filter(|name| name.len() <= NAME).unwrap_or_default().to_owned();
        let size = address.len() + name.len() + groups.iter().map(String::len).sum::<usize>() + 64;
        if self.user.contacts.len() >= CONTACTS || self.bytes + size > BYTES {
            return self.leave_out(&format!("{address}, as there are more contacts than fit"));
        }
        self.bytes += size;
        let contact = self.contact(address);
        (contact.name, contact.groups, contact.listed) = (name, groups, true);
        (contact.to, contact.from) =
            (matches!(subscription, "to" | "both"), matches!(subscription, "from" | "both"));
        contact.ask = attribute("ask") == "subscribe" && !contact.to;
    }

    fn block(&mut self, item: &Element) {
        let address = item.get_attr("jid").unwrap_or_default();
        match jid::Jid::new(address) {
            Ok(jid) if self.user.blocked.len() < BLOCKED => {
                let whole = self.bare(address).filter(|_| jid.resource().is_none());
                self.user.blocked.push(whole.unwrap_or_else(|| jid.to_string()));
            }
            _ => self.leave_out("a blocked address"),
        }
    }

    fn card(&mut self, card: &Element) {
        let text = |name: &str| card.get(name, ns::VCARD).map(|field| field.own_text().trim().to_owned());
        let shown = text("NICKNAME").filter(|name| !name.is_empty()).or_else(|| text("FN"));
        self.user.nickname = shown.and_then(|name| nickname(&name).ok()).unwrap_or_default();
        let xml = card.to_bytes(ns::CLIENT);
        let xml = if xml.len() > VCARD {
            self.leave_out("the picture of the vCard, as it is too large");
            let kept = card.children().filter(|field| !field.is("PHOTO", ns::VCARD)).cloned();
            Element::new("vCard", ns::VCARD).children_from(kept).to_bytes(ns::CLIENT)
        } else {
            xml
        };
        match String::from_utf8(xml) {
            Ok(xml) if xml.len() <= VCARD => self.user.vcard = xml,
            _ => self.leave_out("the vCard, as it is too large"),
        }
    }

    /// Of several the strongest.
    fn scram(&mut self, credentials: &Element) -> Result<(), String> {
        let scheme = match credentials.get_attr("mechanism") {
            Some("SCRAM-SHA-1") => Scheme::ScramSha1,
            Some("SCRAM-SHA-256") => Scheme::ScramSha256,
            Some("SCRAM-SHA-512") => Scheme::ScramSha512,
            other => {
                let what = format!("the password by {}, which is not known here", other.unwrap_or("nothing"));
                self.leave_out(&what);
                return Ok(());
            }
        };
        let text = |name: &str| credentials.get(name, SCRAM).map(Element::own_text).unwrap_or_default();
        let bytes = |name: &str| {
            STANDARD
                .decode(text(name).trim())
                .map_err(|_| format!("<{name}/> of a password is not in Base64"))
        };
        let rounds =
            text("iter-count").trim().parse().map_err(|_| "<iter-count/> of a password is no number")?;
        let mut kept = Verifier {
            scheme: scheme.into(),
            salt: bytes("salt")?,
            rounds,
            stored_key: bytes("stored-key")?,
            server_key: bytes("server-key")?,
        };
        if !is_usable(&kept) {
            twice_decoded(&mut kept);
        }
        if !is_usable(&kept) {
            return Err("a password is kept in a way that is not SCRAM's: wrong length".to_owned());
        }
        if self.verifier.as_ref().is_none_or(|known| known.scheme < kept.scheme) {
            self.verifier = Some(kept);
        }
        Ok(())
    }

    /// What is known of the user, and what was left out.
    pub fn done(self) -> (ImportedUser, Vec<String>) {
        let verifier = self.verifier.map(Into::into);
        (ImportedUser { verifier, ..self.user }, self.left_out)
    }
}

/// ejabberd up to 23.01 writes Base64 of Base64.
fn twice_decoded(kept: &mut Verifier) {
    for field in [&mut kept.salt, &mut kept.stored_key, &mut kept.server_key] {
        if let Ok(decoded) = STANDARD.decode(&field) {
            *field = decoded;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xmpp::pie::{Document, Piece};

    /// The one user of a document of host `there.example`.
    fn read(inside: &str) -> Result<(ImportedUser, Vec<String>), String> {
        let text = format!("<user xmlns='urn:xmpp:pie:0' {inside}</user>");
        let mut document = Document::new(text.as_bytes(), is_wanted);
        let mut making = None;
        while let Some(piece) = document.next_piece().expect("read") {
            match piece {
                Piece::User(element) => {
                    let salt = Some([7; SALT_BYTES]);
                    making = Some(Making::new(&element, ("there.example", "here.example"), salt)?);
                }
                Piece::Child(child) => making.as_mut().expect("a user").add(&child)?,
                _ => {}
            }
        }
        Ok(making.expect("a user").done())
    }

    /// As Prosody 0.12 wrote it.
    #[test]
    fn a_user_of_prosody() {
        let (user, left_out) = read(
            "name='romeo'><scram-credentials mechanism='SCRAM-SHA-1' xmlns='urn:xmpp:pie:0#scram'>\
             <server-key>VN/j34l1SR8E0/qIe6J8hE2G4T4=</server-key><stored-key>LJBXi5KM4+3T/T6magws2jdvU+4=</stored-key>\
             <iter-count>10000</iter-count><salt>MjIyMTU4MDEtNzVkYi00MWZiLTgxM2UtOWU4OTNjYWY3YmMz</salt></scram-credentials>\
             <query xmlns='jabber:iq:roster' version='3'><item jid='a@outside.example' ask='subscribe' subscription='none'/>\
             <item jid='juliet@there.example' name='Juliet' subscription='both'><group>Capulets &amp; co</group></item></query>\
             <presence xmlns='jabber:client' from='b@outside.example' type='subscribe'/>\
             <vCard xmlns='vcard-temp'><NICKNAME>Rom</NICKNAME></vCard>",
        )
        .expect("read");
        assert!(left_out.is_empty(), "{left_out:?}");
        let verifier = user.verifier.clone().expect("kept");
        assert_eq!((verifier.scheme, verifier.rounds, verifier.stored_key.len()), (1, 10_000, 20));
        let [outside, juliet, asks] = &user.contacts[..] else { panic!("{:?}", user.contacts.len()) };
        assert!(outside.ask && outside.listed && !outside.to);
        assert_eq!((juliet.address.as_str(), juliet.name.as_str()), ("juliet@here.example", "Juliet"));
        assert!(juliet.to && juliet.from && juliet.groups == ["Capulets & co"]);
        assert!(asks.pending_in && !asks.listed);
        assert_eq!(user.nickname, "Rom");
    }

    /// As ejabberd 23.01 wrote it, which decodes to the same kind of keys only after a second time.
    #[test]
    fn a_user_of_ejabberd() {
        let (user, _) = read(
            "name='romeo'><scram-credentials xmlns='urn:xmpp:pie:0#scram' mechanism='SCRAM-SHA-1'>\
             <iter-count>4096</iter-count><salt>b1BGNFBGcFlsWlRQTUdWeFB4a1RoUT09</salt>\
             <server-key>WnhVNC9icmFveCtPeXowZUNLY1p1TUlGam1rPQ==</server-key>\
             <stored-key>dDN2U0YyY1FjV2ZiNFZINzJlT2czd0JYVVdFPQ==</stored-key></scram-credentials>",
        )
        .expect("read");
        let verifier = user.verifier.expect("kept");
        assert_eq!((verifier.salt.len(), verifier.stored_key.len(), verifier.server_key.len()), (16, 20, 20));
        let (plain, _) = read("name='x' password='secret'>").expect("read");
        assert_eq!(plain.verifier.expect("made").scheme, i32::from(Scheme::ScramSha256));
        let (banned, _) = read("name='x' password='BANNED_ACCOUNT--2026--1--bad'>").expect("read");
        assert!(banned.disabled && banned.verifier.is_none());
    }

    #[test]
    fn what_cannot_be_is_said() {
        let (user, left_out) = read(
            "name='x'><scram-credentials xmlns='urn:xmpp:pie:0#scram' mechanism='SCRAM-MD5'/>\
             <query xmlns='jabber:iq:roster'><item jid='@@'/><item jid='a@b.c' subscription='remove'/></query>\
             <blocklist xmlns='urn:xmpp:blocking'><item jid='spam@evil.example'/></blocklist>",
        )
        .expect("read");
        assert!(user.verifier.is_none() && user.contacts.is_empty());
        assert_eq!(user.blocked, ["spam@evil.example"]);
        assert_eq!(left_out.len(), 2, "{left_out:?}");
        let short = "name='x'><scram-credentials xmlns='urn:xmpp:pie:0#scram' mechanism='SCRAM-SHA-1'>\
                     <iter-count>1</iter-count><salt>AAAA</salt><server-key>AAAA</server-key>\
                     <stored-key>AAAA</stored-key></scram-credentials>";
        assert!(read(short).expect_err("refused").contains("wrong length"));
        assert!(read(">").expect_err("refused").contains("no name"));
    }
}
