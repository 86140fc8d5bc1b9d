//! Subscriptions of users of the domain with addresses outside (RFC 6121 §3 and appendix A): what a stanza makes of a state,
//! whichever side it comes from. *Pure.*

use crosstalk_storage::tree::upstream::Contact;

use crate::xmpp::Type;

/// What the user's stanza makes of a state; nothing if it says nothing new, and the contact need not hear it.
pub fn outbound(before: Contact, type_: Type) -> Option<Contact> {
    match type_ {
        Type::Subscribe => Some(Contact { ask: !before.to, ..before }),
        Type::Unsubscribe if before.to || before.ask => Some(Contact { to: false, ask: false, ..before }),
        Type::Subscribed if before.pending_in => Some(Contact { pending_in: false, from: true, ..before }),
        Type::Unsubscribed if before.from || before.pending_in => {
            Some(Contact { from: false, pending_in: false, ..before })
        }
        _ => None,
    }
}

/// What the contact's stanza makes of a state; nothing if the user need not hear it.
pub fn inbound(before: Contact, type_: Type) -> Option<Contact> {
    match type_ {
        Type::Subscribe if !before.from && !before.pending_in => Some(Contact { pending_in: true, ..before }),
        Type::Unsubscribe if before.from || before.pending_in => {
            Some(Contact { from: false, pending_in: false, ..before })
        }
        Type::Subscribed if before.ask => Some(Contact { ask: false, to: true, ..before }),
        Type::Unsubscribed if before.to || before.ask => Some(Contact { to: false, ask: false, ..before }),
        _ => None,
    }
}

/// Whether there is nothing between the two.
pub fn is_none(contact: &Contact) -> bool {
    !(contact.to || contact.from || contact.ask || contact.pending_in)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPES: [Type; 4] = [Type::Subscribe, Type::Subscribed, Type::Unsubscribe, Type::Unsubscribed];

    fn state(bits: u8) -> Contact {
        let bit = |at: u8| bits & 1 << at != 0;
        Contact { to: bit(0), from: bit(1), ask: bit(2), pending_in: bit(3), version: 0 }
    }

    /// Those of RFC 6121 appendix A.1: who sees has not asked.
    fn states() -> impl Iterator<Item = Contact> {
        let legal = |contact: &Contact| !(contact.to && contact.ask || contact.from && contact.pending_in);
        (0..16).map(state).filter(legal)
    }

    #[test]
    fn every_state_stays_one_of_the_nine() {
        let all: Vec<Contact> = states().collect();
        assert_eq!(all.len(), 9);
        for before in states() {
            for type_ in TYPES {
                for after in [outbound(before, type_), inbound(before, type_)].into_iter().flatten() {
                    assert!(all.contains(&after), "{before:?} {type_:?} {after:?}");
                }
            }
        }
    }

    /// Both servers come to mirror images, whatever is said, if each hears what the other says.
    #[test]
    fn the_two_sides_mirror_each_other() {
        let mirror = |one: Contact, two: Contact| {
            one.to == two.from && one.from == two.to && (!one.ask || two.pending_in || two.from)
        };
        let mut seen = std::collections::BTreeSet::new();
        let mut todo = vec![(Contact::default(), Contact::default())];
        while let Some((one, two)) = todo.pop() {
            assert!(mirror(one, two) && mirror(two, one), "{one:?} {two:?}");
            if !seen.insert(format!("{one:?}{two:?}")) {
                continue;
            }
            for type_ in TYPES {
                if let Some(said) = outbound(one, type_) {
                    todo.push((said, inbound(two, type_).unwrap_or(two)));
                }
                if let Some(said) = outbound(two, type_) {
                    todo.push((inbound(one, type_).unwrap_or(one), said));
                }
            }
        }
        assert_eq!(seen.len(), 9, "each state, with its image");
    }

    #[test]
    fn nobody_sees_whom_nobody_granted() {
        assert_eq!(inbound(Contact::default(), Type::Subscribed), None);
        assert_eq!(outbound(Contact::default(), Type::Subscribed), None);
    }
}
