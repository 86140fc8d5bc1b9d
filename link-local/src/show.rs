//! Availability: RFC 6121 §4.7.2.1 has five states, an XEP-0174 TXT record three (*pure*).

/// How available somebody is, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Show {
    /// Interested in chatting.
    Chat,
    /// Plainly available.
    #[default]
    Available,
    /// Away.
    Away,
    /// Away for longer.
    ExtendedAway,
    /// Busy.
    DoNotDisturb,
}

impl Show {
    /// Reads the text of a `<show/>` element; empty or unknown is available.
    pub fn from_xmpp(text: &str) -> Self {
        match text.trim() {
            "chat" => Self::Chat,
            "away" => Self::Away,
            "xa" => Self::ExtendedAway,
            "dnd" => Self::DoNotDisturb,
            _ => Self::Available,
        }
    }

    /// The text of a `<show/>` element; empty: there is none.
    pub fn to_xmpp(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Available => "",
            Self::Away => "away",
            Self::ExtendedAway => "xa",
            Self::DoNotDisturb => "dnd",
        }
    }

    /// Reads the key `status` of a TXT record; unknown is available (XEP-0174 §4).
    pub fn from_txt(text: &str) -> Self {
        if text.eq_ignore_ascii_case("away") {
            Self::Away
        } else if text.eq_ignore_ascii_case("dnd") {
            Self::DoNotDisturb
        } else {
            Self::Available
        }
    }

    /// The key `status` of a TXT record: the specification's word, which libpurple shows as available when it is
    /// `away`.
    pub fn to_txt(self) -> &'static str {
        match self {
            Self::Chat | Self::Available => "avail",
            Self::Away | Self::ExtendedAway => "away",
            Self::DoNotDisturb => "dnd",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Show; 5] = [Show::Chat, Show::Available, Show::Away, Show::ExtendedAway, Show::DoNotDisturb];

    #[test]
    fn translates_both_ways() {
        for show in ALL {
            assert_eq!(Show::from_xmpp(show.to_xmpp()), show);
            let once = Show::from_txt(show.to_txt());
            assert_eq!(Show::from_txt(once.to_txt()), once);
        }
        assert_eq!(Show::from_xmpp("sleeping"), Show::Available);
        assert_eq!(Show::from_txt("DND"), Show::DoNotDisturb);
    }

    #[test]
    fn the_best_comes_first() {
        assert!(ALL.is_sorted());
        assert_eq!(Show::default(), Show::Available);
    }
}
