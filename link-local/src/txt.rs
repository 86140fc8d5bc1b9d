//! DNS TXT record ⇄ advert of XEP-0174 §4, with the rules of RFC 6763 §6; a total, bounded parser (*pure*).

use crate::clean::cut;
use crate::show::Show;

/// Most bytes of a record that are read; the rest is ignored. RFC 6763 §6.2 recommends 1,300 at most.
pub const MAX_RECORD: usize = 8 * 1024;
/// Most keys kept that this parser does not know; more are ignored.
pub const MAX_UNKNOWN: usize = 16;
/// The key, beside those of XEP-0174, by which users of CrossTalk nodes are known to other nodes; their value is the
/// first eight bytes, in hexadecimal, of SHA-256 over `crosstalk link mark` and the public user key. It proves nothing
/// and names nobody to those who do not know the key: it says that a signed presence of that user is on the way, so
/// that one who has a node waits for it before showing the instance as mere Bonjour.
pub const NODE_MARK: &str = "crosstalk";
/// Most bytes of `key=value`: a DNS character-string.
const MAX_STRING: usize = 255;

/// What somebody says of themselves on the link, unauthenticated. Texts are as they came: clean them before showing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Advert {
    /// Version of the record, 1 unless said otherwise.
    pub txtvers: Option<u8>,
    /// Nickname.
    pub nick: Option<String>,
    /// First name (key `1st`).
    pub first: Option<String>,
    /// Last name.
    pub last: Option<String>,
    /// E-mail address.
    pub email: Option<String>,
    /// Ordinary XMPP address.
    pub jid: Option<String>,
    /// Status text.
    pub msg: Option<String>,
    /// Availability.
    pub status: Show,
    /// SHA-1 of the picture.
    pub phsh: Option<[u8; 20]>,
    /// XEP-0115 node.
    pub node: Option<String>,
    /// XEP-0115 verification string.
    pub ver: Option<String>,
    /// XEP-0115 hash function.
    pub hash: Option<String>,
    /// XEP-0115 extensions, deprecated.
    pub ext: Option<String>,
    /// Voice and video flags of iChat; libpurple says `!`.
    pub vc: Option<String>,
    /// Port, for information only: the SRV record's counts.
    pub port: Option<u16>,
    /// Keys that are none of the above, in lower case, with their values if they have one. At most [`MAX_UNKNOWN`].
    pub unknown: Vec<(String, Option<Vec<u8>>)>,
}

/// The keys in the order of writing. RFC 6763 §6.7 wants the version first.
const KEYS: [&str; 15] = [
    "txtvers",
    "nick",
    "1st",
    "last",
    "email",
    "jid",
    "msg",
    "status",
    "phsh",
    "node",
    "ver",
    "hash",
    "ext",
    "vc",
    "port.p2pj",
];

impl Advert {
    /// Reads the character-strings of a TXT record. Never fails: what can't be read is left out.
    pub fn parse(record: &[u8]) -> Self {
        let mut advert = Self::default();
        let mut seen = [false; KEYS.len()];
        for string in strings(&record[..record.len().min(MAX_RECORD)]) {
            let Some((key, value)) = split(string) else { continue };
            match KEYS.iter().position(|known| *known == key) {
                Some(index) if std::mem::replace(&mut seen[index], true) => {}
                Some(_) => advert.set(&key, value.unwrap_or_default()),
                None => advert.keep(key, value),
            }
        }
        advert
    }

    /// Writes the character-strings of a TXT record. Values that a string can't hold are shortened, empty ones left out.
    pub fn to_record(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for key in KEYS {
            if let Some(value) = self.get(key) {
                push(&mut out, key, Some(fitting(key, &value).as_bytes()));
            }
        }
        for (key, value) in self.unknown.iter().take(MAX_UNKNOWN) {
            push(&mut out, key, value.as_deref());
        }
        // RFC 6763 §6.1: an empty record is one empty string.
        if out.is_empty() { vec![0] } else { out }
    }

    /// What people should see: the nickname, else first and last name.
    pub fn name(&self) -> Option<String> {
        let full = || {
            let parts: Vec<&str> =
                [&self.first, &self.last].into_iter().flatten().map(String::as_str).collect();
            (!parts.is_empty()).then(|| parts.join(" "))
        };
        self.nick.clone().or_else(full)
    }

    fn text(&mut self, key: &str) -> Option<&mut Option<String>> {
        Some(match key {
            "nick" => &mut self.nick,
            "1st" => &mut self.first,
            "last" => &mut self.last,
            "email" => &mut self.email,
            "jid" => &mut self.jid,
            "msg" => &mut self.msg,
            "node" => &mut self.node,
            "ver" => &mut self.ver,
            "hash" => &mut self.hash,
            "ext" => &mut self.ext,
            "vc" => &mut self.vc,
            _ => return None,
        })
    }

    fn set(&mut self, key: &str, value: &[u8]) {
        // Old clients send Latin-1 here and there: better a replacement character than no name.
        let text = String::from_utf8_lossy(value);
        let text = fitting(key, &text);
        match key {
            "txtvers" => self.txtvers = text.parse().ok(),
            "status" => self.status = Show::from_txt(text),
            "phsh" => self.phsh = unhex(text),
            "port.p2pj" => self.port = text.parse().ok(),
            _ => {
                if let Some(field) = self.text(key) {
                    *field = (!text.is_empty()).then(|| text.to_owned());
                }
            }
        }
    }

    fn get(&self, key: &str) -> Option<String> {
        match key {
            "txtvers" => self.txtvers.map(|version| version.to_string()),
            "status" => Some(self.status.to_txt().to_owned()),
            "phsh" => self.phsh.map(|hash| hash.iter().map(|byte| format!("{byte:02x}")).collect()),
            "port.p2pj" => self.port.map(|port| port.to_string()),
            _ => self.clone().text(key)?.take().filter(|text| !text.is_empty()),
        }
    }

    fn keep(&mut self, key: String, value: Option<&[u8]>) {
        let is_new = self.unknown.iter().all(|(known, _)| *known != key);
        if is_new && self.unknown.len() < MAX_UNKNOWN {
            self.unknown.push((key, value.map(<[u8]>::to_vec)));
        }
    }
}

/// The character-strings of a record (RFC 1035 §3.3); one that is cut short is left out.
fn strings(mut record: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = record.split_first()?;
        let (string, rest) = rest.split_at_checked(usize::from(*length))?;
        record = rest;
        Some(string)
    })
}

/// Key in lower case and value (RFC 6763 §6.4): the key is printable ASCII without `=`, and not empty.
fn split(string: &[u8]) -> Option<(String, Option<&[u8]>)> {
    let at = string.iter().position(|byte| *byte == b'=');
    let (key, value) = match at {
        Some(at) => (&string[..at], Some(&string[at + 1..])),
        None => (string, None),
    };
    let is_key = !key.is_empty() && key.iter().all(|byte| (0x20..0x7f).contains(byte));
    let key = std::str::from_utf8(key).ok().filter(|_| is_key)?;
    Some((key.to_ascii_lowercase(), value))
}

/// As much of `value` as fits into a string with its key.
fn fitting<'a>(key: &str, value: &'a str) -> &'a str {
    cut(value, MAX_STRING - 1 - key.len())
}

fn push(out: &mut Vec<u8>, key: &str, value: Option<&[u8]>) {
    let length = key.len() + value.map_or(0, |value| value.len() + 1);
    let Some(length) = u8::try_from(length).ok().filter(|_| !key.is_empty()) else { return };
    out.push(length);
    out.extend_from_slice(key.as_bytes());
    if let Some(value) = value {
        out.push(b'=');
        out.extend_from_slice(value);
    }
}

fn unhex(text: &str) -> Option<[u8; 20]> {
    let digits = text.as_bytes();
    let valid = digits.len() == 40 && digits.iter().all(u8::is_ascii_hexdigit);
    let mut bytes = [0; 20];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)).filter(|_| valid) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    valid.then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(strings: &[&[u8]]) -> Vec<u8> {
        strings.iter().flat_map(|string| [&[string.len() as u8], *string].concat()).collect()
    }

    #[test]
    fn reads_libpurple() {
        let advert = Advert::parse(&record(&[
            b"msg=out to lunch",
            b"vc=!",
            b"ver=2.14.12",
            b"node=libpurple",
            b"status=dnd",
            b"port.p2pj=5298",
            b"last=",
            b"1st=anna",
            b"txtvers=1",
        ]));
        assert_eq!(advert.status, Show::DoNotDisturb);
        assert_eq!(advert.msg.as_deref(), Some("out to lunch"));
        assert_eq!((advert.txtvers, advert.port), (Some(1), Some(5298)));
        assert_eq!(advert.last, None);
        assert_eq!(advert.name().as_deref(), Some("anna"));
        assert!(advert.unknown.is_empty());
    }

    #[test]
    fn rules_of_rfc_6763() {
        let advert = Advert::parse(&record(&[
            b"",
            b"=x",
            b"NICK=one",
            b"nick=two",
            b"flag",
            b"Empty=",
            b"b\xffd=1",
            b"a=b=c",
        ]));
        assert_eq!(advert.nick.as_deref(), Some("one"), "the first of its key counts, in any case");
        let unknown =
            [("flag".to_owned(), None), ("empty".into(), Some(vec![])), ("a".into(), Some(b"b=c".to_vec()))];
        assert_eq!(advert.unknown, unknown);
    }

    #[test]
    fn a_first_key_without_use_still_counts() {
        let advert = Advert::parse(&record(&[b"port.p2pj=99999", b"port.p2pj=5298", b"nick", b"nick=late"]));
        assert_eq!((advert.port, advert.nick), (None, None));
    }

    #[test]
    fn other_encodings_and_cut_records_are_survived() {
        let mut bytes = record(&[b"nick=J\xf6rg"]);
        bytes.extend_from_slice(b"\x20msg=cut");
        let advert = Advert::parse(&bytes);
        assert_eq!(advert.nick.as_deref(), Some("J\u{fffd}rg"));
        assert_eq!(advert.msg, None);
    }

    #[test]
    fn pictures_are_named_by_their_hash() {
        let text = "a94a8fe5ccb19ba61c4c0873d391e987982fbbd3";
        let advert = Advert::parse(&record(&[format!("phsh={text}").as_bytes()]));
        assert_eq!(advert.phsh.unwrap()[..3], [0xa9, 0x4a, 0x8f]);
        assert!(String::from_utf8_lossy(&advert.to_record()).contains(text));
        for bad in [
            "phsh=a94a",
            "phsh=zz4a8fe5ccb19ba61c4c0873d391e987982fbbd3",
            "phsh=+94a8fe5ccb19ba61c4c0873d391e987982fbbd3",
        ] {
            assert_eq!(Advert::parse(&record(&[bad.as_bytes()])).phsh, None, "{bad}");
        }
    }

    #[test]
    fn writes_the_version_first_and_shortens_by_characters() {
        let advert = Advert { txtvers: Some(1), msg: Some("ä".repeat(200)), ..Advert::default() };
        let bytes = advert.to_record();
        assert!(bytes.starts_with(b"\x09txtvers=1"));
        let read = Advert::parse(&bytes);
        assert_eq!(read.msg, Some("ä".repeat(125)), "251 bytes hold 125 of two bytes each");
    }

    #[test]
    fn unknown_keys_are_bounded() {
        let strings: Vec<Vec<u8>> = (0..100).map(|number| format!("k{number}=v").into_bytes()).collect();
        let strings: Vec<&[u8]> = strings.iter().map(Vec::as_slice).collect();
        assert_eq!(Advert::parse(&record(&strings)).unknown.len(), MAX_UNKNOWN);
    }

    fn a_text() -> impl Strategy<Value = Option<String>> {
        proptest::option::of("[a-zä🤖= ]{1,40}")
    }

    prop_compose! {
        fn an_advert()(
            texts in proptest::collection::vec(a_text(), 11),
            status in prop_oneof![Just(Show::Available), Just(Show::Away), Just(Show::DoNotDisturb)],
            txtvers in any::<Option<u8>>(),
            phsh in any::<Option<[u8; 20]>>(),
            port in any::<Option<u16>>(),
            unknown in proptest::collection::btree_map("x[a-z.]{1,8}", any::<Option<Vec<u8>>>(), 0..5),
        ) -> Advert {
            let mut texts = texts.into_iter();
            let mut text = || texts.next().flatten();
            Advert {
                nick: text(), first: text(), last: text(), email: text(), jid: text(), msg: text(),
                node: text(), ver: text(), hash: text(), ext: text(), vc: text(),
                status, txtvers, phsh, port,
                unknown: unknown.into_iter().map(|(key, value)| (key, value.map(|v| v.into_iter().take(99).collect()))).collect(),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(advert in an_advert()) {
            prop_assert_eq!(Advert::parse(&advert.to_record()), advert);
        }

        #[test]
        fn any_bytes_are_read_and_stay_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let advert = Advert::parse(&bytes);
            prop_assert_eq!(Advert::parse(&advert.to_record()), advert);
        }

        #[test]
        fn any_values_of_known_keys_are_read_and_stay_the_same(
            strings in proptest::collection::vec(
                (proptest::sample::select(&KEYS[..]), proptest::collection::vec(any::<u8>(), 0..240)), 0..30
            )
        ) {
            let strings: Vec<Vec<u8>> =
                strings.into_iter().map(|(key, value)| [key.as_bytes(), b"=", &value].concat()).collect();
            let strings: Vec<&[u8]> = strings.iter().map(Vec::as_slice).collect();
            let advert = Advert::parse(&record(&strings));
            prop_assert_eq!(Advert::parse(&advert.to_record()), advert);
        }
    }
}
