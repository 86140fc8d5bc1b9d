//! Service instance names (`anna@laptop`), their collisions, and the addresses made from them (*pure*).

use std::fmt;

use thiserror::Error;

use crate::clean::cut;

/// The domain of people known by XEP-0174 only; never routed off the link.
pub const LINK_DOMAIN: &str = "link.internal";
/// Most bytes of an instance name: a DNS label (RFC 6763 §4.1.1).
pub const MAX_INSTANCE: usize = 63;
/// Most bytes that the machine's name takes of it.
const MAX_MACHINE: usize = 24;

/// A service instance name: 1 to 63 bytes of UTF-8 without ASCII control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instance(String);

/// Why a text is no instance name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InstanceError {
    /// Nothing, or more than a DNS label holds.
    #[error("an instance name has 1 to 63 bytes, this one has {0}")]
    Length(usize),
    /// RFC 6763 §4.1.1 forbids them.
    #[error("an instance name must not contain control characters")]
    Control,
    /// Not UTF-8.
    #[error("an instance name has to be UTF-8")]
    Encoding,
}

impl Instance {
    /// Takes a name as it is.
    pub fn new(name: impl Into<String>) -> Result<Self, InstanceError> {
        let name = name.into();
        if name.is_empty() || name.len() > MAX_INSTANCE {
            return Err(InstanceError::Length(name.len()));
        }
        if name.bytes().any(|byte| byte.is_ascii_control()) {
            return Err(InstanceError::Control);
        }
        Ok(Self(name))
    }

    /// Takes a DNS label as it came.
    pub fn from_label(label: &[u8]) -> Result<Self, InstanceError> {
        Self::new(std::str::from_utf8(label).map_err(|_| InstanceError::Encoding)?)
    }

    /// The name for a user of a machine (XEP-0174 §3: `user@machine`), shortened to fit. An `@` in the nickname
    /// becomes `\40`, as libpurple has it, so that the last one separates.
    pub fn compose(nickname: &str, machine: &str) -> Self {
        let plain = |text: &str| text.chars().filter(|char| !char.is_control()).collect::<String>();
        let nickname = plain(nickname.trim()).replace('@', r"\40");
        let machine = plain(machine.trim()).replace('@', "-");
        let nickname = if nickname.is_empty() { "user" } else { &nickname };
        let machine = cut(if machine.is_empty() { "host" } else { &machine }, MAX_MACHINE);
        Self::joined(nickname, "", machine)
    }

    /// The next name to try when this one is taken on the link: `anna@laptop`, `anna-2@laptop`, `anna-3@laptop` …
    /// Always another one: a long machine's name is shortened as in [`Self::compose`], and 65535 begins anew behind it.
    #[must_use]
    pub fn next(&self) -> Self {
        let (nickname, machine) = self.0.rsplit_once('@').unwrap_or((&self.0, ""));
        let machine = cut(machine, MAX_MACHINE);
        let numbered = nickname.rsplit_once('-').and_then(|(name, number)| {
            let canonical = !number.starts_with(['0', '+']) && !name.is_empty();
            canonical.then(|| number.parse::<u16>().ok()).flatten().map(|number| (name, number))
        });
        let (name, number) = match numbered {
            Some((name, number)) if (2..u16::MAX).contains(&number) => (name, number + 1),
            Some(_) | None => (nickname, 2),
        };
        Self::joined(name, &format!("-{number}"), machine)
    }

    /// Shortens the nickname so that the whole fits.
    fn joined(nickname: &str, suffix: &str, machine: &str) -> Self {
        let machine = if machine.is_empty() { String::new() } else { format!("@{machine}") };
        let room = MAX_INSTANCE.saturating_sub(suffix.len() + machine.len());
        Self(format!("{}{suffix}{machine}", cut(nickname, room)))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the last `@`, with `\40` read as `@`: a name for people.
    pub fn nickname(&self) -> String {
        let nickname = self.0.rsplit_once('@').map_or(self.0.as_str(), |(nickname, _)| nickname);
        nickname.replace(r"\40", "@")
    }

    /// The address `<escaped instance>@link.internal` (XEP-0106).
    pub fn to_jid(&self) -> String {
        format!("{}@{LINK_DOMAIN}", escape(&self.0))
    }

    /// Reads what [`Self::to_jid`] wrote; `None` for any other address. Servers and clients lower-case addresses, so
    /// one that has passed through them is found by [`Self::is_at`] among the names known.
    pub fn from_jid(jid: &str) -> Option<Self> {
        let (local, domain) = jid.rsplit_once('@')?;
        let instance = Self::new(unescape(local)).ok()?;
        (domain == LINK_DOMAIN && instance.to_jid() == jid).then_some(instance)
    }

    /// True if `jid` is this name's address, whatever the case of the letters.
    pub fn is_at(&self, jid: &str) -> bool {
        self.to_jid().to_lowercase() == jid.to_lowercase()
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Instance({:?})", self.0)
    }
}

/// The characters that XEP-0106 §3.2 escapes, and their codes.
const ESCAPES: [(char, &str); 10] = [
    (' ', "20"),
    ('"', "22"),
    ('&', "26"),
    ('\'', "27"),
    ('/', "2f"),
    (':', "3a"),
    ('<', "3c"),
    ('>', "3e"),
    ('@', "40"),
    ('\\', "5c"),
];

/// Makes a local part. A backslash is escaped only where it would be read as the start of an escape. (XEP-0106 also
/// forbids a blank at either end; here it is kept, since names of others have to be reversible.)
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, char) in text.char_indices() {
        let code = ESCAPES.iter().find(|(escaped, _)| *escaped == char).map(|(_, code)| *code);
        match code {
            Some("5c") if !starts_code(&text[at + 1..]) => out.push('\\'),
            Some(code) => {
                out.push('\\');
                out.push_str(code);
            }
            None => out.push(char),
        }
    }
    out
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(char) = rest.chars().next() {
        rest = &rest[char.len_utf8()..];
        let escaped = ESCAPES.iter().find(|(_, code)| char == '\\' && rest.starts_with(code));
        match escaped {
            Some((original, code)) => {
                out.push(*original);
                rest = &rest[code.len()..];
            }
            None => out.push(char),
        }
    }
    out
}

fn starts_code(text: &str) -> bool {
    ESCAPES.iter().any(|(_, code)| text.starts_with(code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn instance(name: &str) -> Instance {
        Instance::new(name).unwrap()
    }

    #[test]
    fn composes_what_libpurple_composes() {
        assert_eq!(Instance::compose("anna", "h1").as_str(), "anna@h1");
        assert_eq!(Instance::compose("anna@work", "h1").as_str(), r"anna\40work@h1");
        assert_eq!(instance(r"anna\40work@h1").nickname(), "anna@work");
        assert_eq!(Instance::compose("", "").as_str(), "user@host");
    }

    #[test]
    fn collisions_count_up() {
        let mut name = instance("anna@laptop");
        for expected in ["anna-2@laptop", "anna-3@laptop"] {
            name = name.next();
            assert_eq!(name.as_str(), expected);
        }
        assert_eq!(instance("anna-1@laptop").next().as_str(), "anna-1-2@laptop");
        assert_eq!(instance("R2-D2").next().as_str(), "R2-D2-2");
        assert_eq!(instance("-7@x").next().as_str(), "-7-2@x");
        assert_eq!(instance("anna-65534@x").next().as_str(), "anna-65535@x");
        assert_eq!(instance("anna-65535@x").next().as_str(), "anna-65535-2@x");
    }

    #[test]
    fn a_long_machine_leaves_room_to_count() {
        let long = instance(&format!("-2@{}", "m".repeat(60)));
        assert_eq!(long.next().as_str(), format!("-2-2@{}", "m".repeat(MAX_MACHINE)));
    }

    #[test]
    fn bad_names_are_refused() {
        assert_eq!(Instance::new(""), Err(InstanceError::Length(0)));
        assert_eq!(Instance::new("x".repeat(64)), Err(InstanceError::Length(64)));
        assert_eq!(Instance::new("a\nb"), Err(InstanceError::Control));
        assert_eq!(Instance::from_label(&[0xff]), Err(InstanceError::Encoding));
    }

    #[test]
    fn addresses_follow_the_specification() {
        // From the examples of XEP-0106: what is no code stays as it is.
        assert_eq!(instance("anna@h1").to_jid(), r"anna\40h1@link.internal");
        assert_eq!(instance("d'artagnan & co/x").to_jid(), r"d\27artagnan\20\26\20co\2fx@link.internal");
        assert_eq!(instance(r"c:\net").to_jid(), r"c\3a\net@link.internal");
        assert_eq!(instance(r"c:\5commas").to_jid(), r"c\3a\5c5commas@link.internal");
        assert_eq!(Instance::from_jid(r"anna\40h1@link.internal"), Some(instance("anna@h1")));
    }

    #[test]
    fn other_addresses_are_not_read() {
        for jid in
            ["anna@h1", "anna@link.internal.example", "link.internal", "@link.internal", r"a b@link.internal"]
        {
            assert_eq!(Instance::from_jid(jid), None, "{jid}");
        }
        assert!(instance("Änna@H1").is_at(r"änna\40h1@link.internal"));
        assert!(!instance("anna@h1").is_at(r"anna\40h2@link.internal"));
    }

    proptest! {
        #[test]
        fn addresses_are_reversible(name in r#"[ "&'/:<>@\\0-9a-fA-Zäß🤖]{1,15}"#) {
            let instance = instance(&name);
            prop_assert_eq!(Instance::from_jid(&instance.to_jid()), Some(instance));
        }

        #[test]
        fn reading_is_total_and_unique(local in any::<String>()) {
            let jid = format!("{local}@{LINK_DOMAIN}");
            if let Some(instance) = Instance::from_jid(&jid) {
                prop_assert_eq!(instance.to_jid(), jid);
            }
        }

        #[test]
        fn the_next_of_any_name_is_valid_and_another(name in "[a-z@ß-]{0,20}(-(2|9|65535))?@?[a-z@ß-]{0,63}") {
            if let Ok(instance) = Instance::new(name) {
                let next = instance.next();
                prop_assert_eq!(Instance::new(next.as_str()), Ok(next.clone()));
                prop_assert_ne!(next.next(), next.clone());
                prop_assert_ne!(next, instance);
            }
        }

        #[test]
        fn composed_names_are_valid_and_differ_when_counted(nickname in any::<String>(), machine in any::<String>()) {
            let mut name = Instance::compose(&nickname, &machine);
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..20 {
                prop_assert_eq!(Instance::new(name.as_str()), Ok(name.clone()));
                prop_assert!(seen.insert(name.clone()), "{} again", name);
                name = name.next();
            }
        }
    }
}
