//! How often where people are is told and asked: this is most of what an idle node says. *Pure.*

use crate::record::{PresenceRecord, Record as _};
use crate::time::{HOUR, MINUTE};

/// Where somebody is and what they show is told again after so long, milliseconds: at half of the life of a presence, so
/// one that is lost does not make anybody look away.
pub const PRESENCE_AGAIN: u64 = PresenceRecord::MAX_LIFE / 2;
/// How often a contact who is away is looked for. Whoever comes looks for us, so this only helps who cannot.
pub const CONTACT: Pace = Pace { first: 10 * MINUTE, last: 6 * HOUR };
/// How often somebody is looked for for whom a message waits.
pub const RECIPIENT: Pace = Pace { first: 2 * MINUTE, last: HOUR };

/// A pause that doubles with each look in vain, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// After the first look in vain.
    pub first: u64,
    /// The longest.
    pub last: u64,
}

impl Pace {
    /// How long after the last of so many looks in vain the next one is due.
    pub const fn after(self, looks: u32) -> u64 {
        let doublings = looks.saturating_sub(1);
        let pause = if doublings < 16 { self.first << doublings } else { self.last };
        if pause < self.last { pause } else { self.last }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let minutes = |looks: u32| CONTACT.after(looks) / MINUTE;
        assert_eq!([0, 1, 2, 3, 6, 7, 100].map(minutes), [10, 10, 20, 40, 320, 360, 360]);
        assert_eq!(RECIPIENT.after(u32::MAX), HOUR);
    }
}
