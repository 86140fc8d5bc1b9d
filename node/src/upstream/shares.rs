//! Who has how much of the room for letters that wait: no sender outside, no domain, and not all strangers together, take what
//! others need. *Pure.*

use std::collections::BTreeMap;

use crosstalk_storage::tree::upstream::HeldStanza;
use jid::Jid;

use crate::xmpp::Stanza;

/// Letters and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) letters: usize,
    pub(super) bytes: usize,
}

impl Held {
    fn add(&mut self, bytes: usize) {
        self.letters += 1;
        self.bytes += bytes;
    }

    fn remove(&mut self, bytes: usize) {
        self.letters = self.letters.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Whether so many bytes more are too much.
    fn is_full(&self, bytes: usize, limit: Self) -> bool {
        self.letters >= limit.letters || self.bytes + bytes > limit.bytes
    }
}

/// Who has written a letter from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Writer {
    /// Bare address.
    sender: String,
    /// No contact of the user.
    pub(super) stranger: bool,
}

impl Writer {
    pub(super) fn new(from: &Jid, stranger: bool) -> Self {
        Self { sender: from.to_bare().as_str().to_owned(), stranger }
    }

    /// Of a letter that is held; nothing if a laptop has sent it.
    pub(super) fn of(letter: &HeldStanza) -> Option<Self> {
        let from = Stanza::read(&letter.stanza).ok().filter(|_| letter.by.is_empty())?.from?;
        Some(Self::new(&from, letter.stranger))
    }

    fn domain(&self) -> &str {
        self.sender.rsplit_once('@').map_or(&self.sender, |(_, domain)| domain)
    }
}

/// What may be taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) all: Held,
    pub(super) strangers: Held,
    pub(super) domain: Held,
    pub(super) sender: Held,
}

/// Whose share is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    All,
    Strangers,
    Domain,
    Sender,
}

impl Full {
    /// What is counted as refused.
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::All => "letters from outside beyond what may wait",
            Self::Strangers => "letters from outside beyond the share of strangers",
            Self::Domain => "letters from outside beyond the share of one domain",
            Self::Sender => "letters from outside beyond the share of one sender",
        }
    }

    /// Whether it helps `writer` that a letter of `other` goes.
    pub(super) fn is_eased_by(self, writer: Option<&Writer>, other: Option<&Writer>) -> bool {
        match (self, writer, other) {
            (Self::All, ..) => true,
            (Self::Strangers, _, Some(other)) => other.stranger,
            (Self::Domain, Some(writer), Some(other)) => writer.domain() == other.domain(),
            (Self::Sender, Some(writer), Some(other)) => writer.sender == other.sender,
            _ => false,
        }
    }
}

/// What is taken, as one writer finds it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
    all: Held,
    strangers: Held,
    domain: Held,
    sender: Held,
}

impl Taken {
    /// A letter of `other` comes or goes.
    pub(super) fn changes(
        &mut self,
        writer: Option<&Writer>,
        (other, bytes, comes): (Option<&Writer>, usize, bool),
    ) {
        let each = [
            (Full::All, &mut self.all),
            (Full::Strangers, &mut self.strangers),
            (Full::Domain, &mut self.domain),
            (Full::Sender, &mut self.sender),
        ];
        for (_, held) in each.into_iter().filter(|(which, _)| which.is_eased_by(writer, other)) {
            if comes { held.add(bytes) } else { held.remove(bytes) }
        }
    }

    /// What is in the way of so many bytes more.
    pub(super) fn full(&self, writer: Option<&Writer>, bytes: usize, limits: &Limits) -> Option<Full> {
        let shares = [
            (Full::Sender, self.sender, limits.sender, writer.is_some()),
            (Full::Domain, self.domain, limits.domain, writer.is_some()),
            (Full::Strangers, self.strangers, limits.strangers, writer.is_some_and(|writer| writer.stranger)),
            (Full::All, self.all, limits.all, true),
        ];
        let full = shares.into_iter().find(|(_, held, limit, counts)| *counts && held.is_full(bytes, *limit));
        full.map(|(which, ..)| which)
    }
}

/// What is taken by whom.
#[derive(Debug, Default)]
pub(super) struct Shares {
    all: Held,
    strangers: Held,
    domains: BTreeMap<String, Held>,
    senders: BTreeMap<String, Held>,
}

impl Shares {
    /// All letters.
    pub(super) fn letters(&self) -> usize {
        self.all.letters
    }

    pub(super) fn add(&mut self, writer: Option<&Writer>, bytes: usize) {
        self.all.add(bytes);
        let Some(writer) = writer else { return };
        if writer.stranger {
            self.strangers.add(bytes);
        }
        self.domains.entry(writer.domain().to_owned()).or_default().add(bytes);
        self.senders.entry(writer.sender.clone()).or_default().add(bytes);
    }

    pub(super) fn remove(&mut self, writer: Option<&Writer>, bytes: usize) {
        self.all.remove(bytes);
        let Some(writer) = writer else { return };
        if writer.stranger {
            self.strangers.remove(bytes);
        }
        take_off(&mut self.domains, writer.domain(), bytes);
        take_off(&mut self.senders, &writer.sender, bytes);
    }

    /// As a writer finds it.
    pub(super) fn taken(&self, writer: Option<&Writer>) -> Taken {
        let of = |map: &BTreeMap<String, Held>, key: Option<&str>| {
            key.and_then(|key| map.get(key)).copied().unwrap_or_default()
        };
        Taken {
            all: self.all,
            strangers: self.strangers,
            domain: of(&self.domains, writer.map(Writer::domain)),
            sender: of(&self.senders, writer.map(|writer| &*writer.sender)),
        }
    }
}

fn take_off(map: &mut BTreeMap<String, Held>, key: &str, bytes: usize) {
    if let Some(held) = map.get_mut(key) {
        held.remove(bytes);
        if held.letters == 0 {
            map.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn held(letters: usize) -> Held {
        Held { letters, bytes: 100 * letters }
    }

    const LIMITS: Limits = Limits { all: held(12), strangers: held(8), domain: held(6), sender: held(3) };

    fn writer(sender: &str, stranger: bool) -> Writer {
        Writer::new(&Jid::new(sender).expect("an address"), stranger)
    }

    /// Fills the room as far as it goes for one sender after the other; how many letters each got in.
    fn fill(shares: &mut Shares, writers: &[Writer]) -> Vec<usize> {
        let fill_one = |writer: &Writer| {
            let fits = |shares: &Shares| shares.taken(Some(writer)).full(Some(writer), 10, &LIMITS).is_none();
            let mut count = 0;
            while fits(shares) {
                shares.add(Some(writer), 10);
                count += 1;
            }
            count
        };
        writers.iter().map(fill_one).collect()
    }

    #[test]
    fn nobody_takes_what_others_need() {
        let mut shares = Shares::default();
        let strangers: Vec<Writer> =
            ["a@x.example/1", "a@x.example/2", "b@x.example", "c@x.example", "d@y.example", "e@z.example"]
                .map(|sender| writer(sender, true))
                .into();
        assert_eq!(fill(&mut shares, &strangers), [3, 0, 3, 0, 2, 0], "sender, domain, all strangers");
        assert_eq!(fill(&mut shares, &[writer("f@z.example", false), writer("g@z.example", false)]), [3, 1]);
        assert_eq!(shares.taken(None).full(None, 1, &LIMITS), Some(Full::All));
        for stranger in &strangers[..1] {
            shares.remove(Some(stranger), 10);
        }
        assert_eq!(fill(&mut shares, &strangers[1..2]), [1], "what has gone makes room");
        assert_eq!(shares.letters(), 12);
    }

    #[test]
    fn bytes_count_as_letters_do() {
        let (mut shares, one) = (Shares::default(), writer("a@x.example", false));
        shares.add(Some(&one), 290);
        assert_eq!(shares.taken(Some(&one)).full(Some(&one), 11, &LIMITS), Some(Full::Sender));
        assert_eq!(shares.taken(Some(&one)).full(Some(&one), 10, &LIMITS), None);
        shares.remove(Some(&one), 290);
        assert!(shares.senders.is_empty() && shares.domains.is_empty(), "nothing is left behind");
    }
}
