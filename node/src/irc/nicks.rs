//! Names of people as nicks: valid, unique, the same as long as they are shown, and never that of one for another. *Pure.*
//!
//! A nick belongs to one address for the session, also when its person is called something else by now: what is written to an old
//! nick reaches who had it.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::core::hex;

/// Characters of a nick; what the node makes is shorter.
pub const LENGTH: usize = 30;
/// Characters that a name gives.
const STEM: usize = 20;
/// Nicks that are remembered; beyond it a nick is made of the address alone, so that none ever becomes another's.
const MOST: usize = 16_384;

/// Nicks and addresses of a session.
#[derive(Debug, Default)]
pub struct Nicks {
    /// By [`fold`]; nothing is the address of what is reserved.
    addresses: BTreeMap<String, String>,
    /// The nick of each address now.
    nicks: BTreeMap<String, String>,
}

impl Nicks {
    /// Keeps a nick for something that is no contact.
    pub fn reserve(&mut self, nick: &str) {
        self.addresses.insert(fold(nick), String::new());
    }

    /// Whether nobody else has or had it.
    pub fn is_free(&self, nick: &str) -> bool {
        !self.addresses.contains_key(&fold(nick))
    }

    /// Gives it up that was reserved.
    pub fn release(&mut self, nick: &str) {
        if self.addresses.get(&fold(nick)).is_some_and(String::is_empty) {
            self.addresses.remove(&fold(nick));
        }
    }

    /// The nick of an address that is called `name`; the same as before if that gives the same.
    pub fn give(&mut self, address: &str, name: &str) -> String {
        let stem = stem(name).or_else(|| stem(local_part(address))).unwrap_or_else(|| "nameless".to_owned());
        if let Some(nick) = self.nicks.get(address) {
            // Called the same, or so but for what tells it from others.
            let digits = digest(address);
            let alike = |length: usize| fold(nick) == fold(&format!("{stem}-{}", &digits[..length]));
            if fold(nick) == fold(&stem) || [4, 8].into_iter().any(alike) {
                return nick.clone();
            }
        }
        let mut nick = self.unique(&stem, address);
        if self.addresses.len() >= MOST && !self.addresses.contains_key(&fold(&nick)) {
            match self.nicks.get(address) {
                Some(nick) => return nick.clone(),
                None => nick = of_address(address),
            }
        }
        self.addresses.insert(fold(&nick), address.to_owned());
        self.nicks.insert(address.to_owned(), nick.clone());
        nick
    }

    /// Who has or had a nick.
    pub fn address(&self, nick: &str) -> Option<&str> {
        self.addresses.get(&fold(nick)).map(String::as_str).filter(|address| !address.is_empty())
    }

    /// The nick of an address.
    pub fn nick(&self, address: &str) -> Option<&str> {
        self.nicks.get(address).map(String::as_str)
    }

    /// An address is not shown any more; its nick stays its own. One that is made of the address can be no other's anyway.
    pub fn forget(&mut self, address: &str) {
        if self.nicks.remove(address).is_some_and(|nick| nick == of_address(address)) {
            self.addresses.remove(&of_address(address));
        }
    }

    /// The stem, or the stem with the beginning of a hash of the address that nobody else has.
    fn unique(&self, stem: &str, address: &str) -> String {
        let digits = digest(address);
        let told_apart = [4, 8, 29 - STEM].into_iter().map(|length| format!("{stem}-{}", &digits[..length]));
        let mine = |nick: &String| self.addresses.get(&fold(nick)).is_none_or(|other| other == address);
        std::iter::once(stem.to_owned()).chain(told_apart).find(mine).unwrap_or_else(|| of_address(address))
    }
}

/// A nick without a name in it, that nobody finds another address for.
fn of_address(address: &str) -> String {
    format!("u{}", &digest(address)[..LENGTH - 1])
}

fn digest(address: &str) -> String {
    hex(&Sha256::digest(address.as_bytes()))
}

/// What identifies a person in an address that is no name: the beginning of the key.
fn local_part(address: &str) -> &str {
    let local = address.split('@').next().unwrap_or_default();
    match local.len() > 32 && local.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => &local[2..10],
        false => local,
    }
}

/// A name in the characters of a nick that no casemapping confuses; `None`: it has none of them.
fn stem(name: &str) -> Option<String> {
    let mut stem = String::new();
    for char in name.nfkd().filter(|char| !is_combining_mark(*char)) {
        match char {
            'a'..='z' | 'A'..='Z' | '0'..='9' => stem.push(char),
            '-' | '_' | ' ' | '.' | '\'' | '\u{2019}' if !stem.is_empty() && !stem.ends_with('_') => {
                stem.push('_')
            }
            'ß' => stem.push_str("ss"),
            'æ' => stem.push_str("ae"),
            'ø' => stem.push('o'),
            'ł' => stem.push('l'),
            _ => {}
        }
        if stem.len() >= STEM {
            break;
        }
    }
    stem.truncate(STEM);
    let stem = stem.trim_end_matches('_');
    match stem.bytes().next()? {
        byte if byte.is_ascii_digit() => Some(format!("u{}", &stem[..stem.len().min(STEM - 1)])),
        _ => Some(stem.to_owned()),
    }
}

/// Whether a client may be called so (RFC 2812 §2.3.1).
pub fn is_valid(nick: &str) -> bool {
    let special = |byte: u8| b"[]\\`_^{|}".contains(&byte);
    let first = nick.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || special(byte));
    let rest = nick.bytes().all(|byte| byte.is_ascii_alphanumeric() || special(byte) || byte == b'-');
    first && rest && nick.len() <= LENGTH
}

/// A nick as it is compared: by `CASEMAPPING=rfc1459`.
pub fn fold(nick: &str) -> String {
    nick.chars()
        .map(|char| match char {
            '[' => '{',
            ']' => '}',
            '\\' => '|',
            '~' => '^',
            _ => char.to_ascii_lowercase(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_give_nicks() {
        let nick = |name: &str, address: &str| Nicks::default().give(address, name);
        assert_eq!(nick("Jürgen O\u{2019}Neill", "a@b"), "Jurgen_O_Neill");
        assert_eq!(nick("", "bob.smith@school.example"), "bob_smith");
        assert_eq!(nick("Алиса", "alisa@school.example"), "alisa");
        assert_eq!(nick("3po", "a@b"), "u3po");
        let key = format!("00{}@id.internal", "a1".repeat(32));
        assert_eq!(nick("", &key), "a1a1a1a1");
        assert_eq!(nick("дом", "дом@b.example"), "nameless");
    }

    #[test]
    fn one_nick_is_one_person_for_the_session() {
        let mut nicks = Nicks::default();
        nicks.reserve("me");
        assert_eq!(nicks.give("bob@one", "Bob"), "Bob");
        let other = nicks.give("bob@two", "bob");
        assert!(other.starts_with("bob-") && other.len() == 8, "{other}");
        assert_ne!(nicks.give("me@one", "Me"), "Me");
        // Who is called something else keeps the old nick for itself, and may have it again.
        assert_eq!(nicks.give("bob@one", "Robert"), "Robert");
        assert_eq!((nicks.address("BOB"), nicks.address("robert")), (Some("bob@one"), Some("bob@one")));
        assert_ne!(nicks.give("eve@evil", "Bob"), "Bob");
        assert_eq!(nicks.give("bob@one", "Bob"), "Bob");
        assert_eq!(nicks.give("bob@two", "bob"), other);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_no_nick_changes_its_owner() {
        let mut nicks = Nicks::default();
        nicks.reserve("me");
        assert_eq!(nicks.give("bob@one", "Bob"), "Bob");
        assert_eq!(nicks.give("bob@one", "Robert"), "Robert");
        for n in 0..2 * MOST {
            let address = format!("eve{n}@evil");
            let nick = nicks.give(&address, &format!("Eve{n}x"));
            assert_eq!(nicks.address(&nick), Some(&address[..]));
            nicks.forget(&address);
        }
        assert!(nicks.addresses.len() <= MOST);
        assert_eq!((nicks.address("bob"), nicks.is_free("me")), (Some("bob@one"), false));
        assert_ne!(nicks.give("mallory@evil", "Bob"), "Bob");
        assert_eq!(nicks.address("Eve0x"), Some("eve0@evil"));
        // Who is renamed keeps a nick; who comes back has the old one.
        assert_eq!(nicks.give("bob@one", "Rob"), "Robert");
        assert_eq!(nicks.give("eve0@evil", "Eve0x"), "Eve0x");
    }

    proptest! {
        #[test]
        fn every_nick_leads_back(people in proptest::collection::vec(("[ab]{1,2}@[xy]", "\\PC{0,30}|[Bb]ob( [0-9a-f]{1,8})?|me"), 1..40)) {
            let mut nicks = Nicks::default();
            nicks.reserve("me");
            let mut first: BTreeMap<String, String> = BTreeMap::new();
            for (address, name) in people {
                let nick = nicks.give(&address, &name);
                prop_assert!(is_valid(&nick) && nick.len() <= LENGTH, "{nick}");
                prop_assert_eq!(nicks.address(&nick), Some(&address[..]));
                prop_assert_eq!(nicks.nick(&address), Some(&nick[..]));
                prop_assert_eq!(nicks.give(&address, &name), nick.clone());
                let owner = first.entry(fold(&nick)).or_insert_with(|| address.clone());
                prop_assert_eq!(&*owner, &address, "{} was another's", nick);
            }
            prop_assert!(!nicks.is_free("ME"));
        }
    }
}
