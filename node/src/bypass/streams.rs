//! Whose streams can be resumed (XEP-0198 §5), by what their servers said when they bound them. *Pure.*

use std::collections::BTreeMap;

use jid::BareJid;

/// Streams that are remembered; a further one takes the place of the one that was bound, or resumed, longest ago.
const MOST: usize = 256;

/// Streams by domain and id.
#[derive(Debug, Default)]
pub(super) struct Streams {
    known: BTreeMap<(String, String), (u64, BareJid)>,
    /// Number of the next one.
    next: u64,
}

impl Streams {
    /// A stream of that user, whose domain's server gave it this id.
    pub(super) fn bound(&mut self, id: String, user: BareJid) {
        let place = (user.domain().to_string(), id);
        self.known.insert(place, (self.next, user));
        self.next += 1;
        if self.known.len() > MOST {
            let oldest =
                self.known.iter().min_by_key(|(_, (number, _))| *number).map(|(place, _)| place.clone());
            oldest.iter().for_each(|place| drop(self.known.remove(place)));
        }
    }

    /// Whose stream the server of that domain goes on with.
    pub(super) fn resumed(&mut self, domain: &str, id: &str) -> Option<BareJid> {
        let (number, user) = self.known.get_mut(&(domain.to_owned(), id.to_owned()))?;
        *number = self.next;
        self.next += 1;
        Some(user.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_of_whom_it_was_bound_to_at_its_own_domain() {
        let (romeo, nurse) = (
            BareJid::new("romeo@a.example").expect("a JID"),
            BareJid::new("nurse@b.example").expect("a JID"),
        );
        let mut streams = Streams::default();
        streams.bound("1".into(), romeo.clone());
        streams.bound("2".into(), nurse.clone());
        assert_eq!(streams.resumed("a.example", "1"), Some(romeo.clone()));
        assert_eq!((streams.resumed("b.example", "1"), streams.resumed("a.example", "2")), (None, None));
        for number in 0..MOST - 1 {
            streams.bound(format!("x{number}"), romeo.clone());
        }
        assert_eq!(
            (streams.known.len(), streams.resumed("b.example", "2")),
            (MOST, None),
            "the oldest is forgotten"
        );
        assert_eq!(streams.resumed("a.example", "1"), Some(romeo));
    }
}
