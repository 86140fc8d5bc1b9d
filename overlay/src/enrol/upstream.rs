//! What a laptop and its user's server exchange for addresses outside the overlay (`PROTOCOL.md` §14). *Pure.*
//!
//! One question carries both directions. Letters are numbered and durable on both sides before they are acknowledged, so
//! that a question may be put again, and nothing is lost or there twice; what is live is said once.

/// Bytes of a stanza at most, so that one fits a question beside what else there is.
pub const MAX_LETTER: usize = 48 * 1_024;
/// Bytes of letters, and of what is live, in one question or answer, about.
pub const LETTERS: usize = 24 * 1_024;

/// A stanza that is held until it is acknowledged.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Letter {
    /// Ascending from 1, by the queue that it stands in.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// When it was written, or came from outside; Unix milliseconds.
    #[prost(uint64, tag = "2")]
    pub at: u64,
    /// The stanza in `jabber:client`, with `from` and `to`.
    #[prost(bytes = "vec", tag = "3")]
    pub stanza: Vec<u8>,
    /// From the server only: another device of the user has sent it.
    #[prost(bool, tag = "4")]
    pub copy: bool,
}

/// How a user stands with an address outside: RFC 6121 §2.1.2, as the server has it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct OutsideContact {
    /// Bare address.
    #[prost(string, tag = "1")]
    pub address: String,
    /// The user sees the contact.
    #[prost(bool, tag = "2")]
    pub to: bool,
    /// The contact sees the user.
    #[prost(bool, tag = "3")]
    pub from: bool,
    /// The user has asked to see the contact.
    #[prost(bool, tag = "4")]
    pub ask: bool,
    /// The contact has asked to see the user.
    #[prost(bool, tag = "5")]
    pub pending_in: bool,
    /// Of the user's list at the server: ascending with each change.
    #[prost(uint64, tag = "6")]
    pub version: u64,
}

/// A device's side of an exchange.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Exchange {
    /// Of [`super::Begun`].
    #[prost(uint64, tag = "1")]
    pub session: u64,
    /// Letters for outside, ascending.
    #[prost(message, repeated, tag = "2")]
    pub letters: Vec<Letter>,
    /// The server's queue that `come` and `version` are about; 0: none is known.
    #[prost(uint64, tag = "3")]
    pub queue: u64,
    /// Of that queue everything up to this number is durable at the device.
    #[prost(uint64, tag = "4")]
    pub come: u64,
    /// Of the user's contacts outside everything up to this version is known.
    #[prost(uint64, tag = "5")]
    pub version: u64,
    /// Presence, requests, answers, and messages for now or never.
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub live: Vec<Vec<u8>>,
    /// The device begins: it says its presence anew, wants to know that of all contacts, and sends no letters before it knows
    /// which of them were taken.
    #[prost(bool, tag = "7")]
    pub fresh: bool,
}

/// The server's side.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Exchanged {
    /// Letters of the device up to this number are durable at the server.
    #[prost(uint64, tag = "1")]
    pub taken: u64,
    /// Which queue the numbers of the letters are of.
    #[prost(uint64, tag = "2")]
    pub queue: u64,
    /// Letters from outside, ascending.
    #[prost(message, repeated, tag = "3")]
    pub letters: Vec<Letter>,
    /// Contacts that changed, by ascending version.
    #[prost(message, repeated, tag = "4")]
    pub contacts: Vec<OutsideContact>,
    /// As in [`Exchange`].
    #[prost(bytes = "vec", repeated, tag = "5")]
    pub live: Vec<Vec<u8>>,
    /// There is more: ask again.
    #[prost(bool, tag = "6")]
    pub more: bool,
    /// Whether the server is connected to the outside now.
    #[prost(bool, tag = "7")]
    pub up: bool,
    /// The server knew nothing of the device's presence: it begins anew.
    #[prost(bool, tag = "8")]
    pub anew: bool,
}

#[cfg(test)]
mod tests {
    use super::super::{Answer, Ask, MAX_ANSWER, MAX_ASK};
    use super::*;

    #[test]
    fn the_largest_letter_fits_a_question_and_an_answer() {
        let letter = Letter { number: u64::MAX, at: u64::MAX, stanza: vec![b'x'; MAX_LETTER], copy: true };
        let live = vec![vec![b'x'; 8 * 1_024]];
        let exchange = Exchange { letters: vec![letter.clone()], live: live.clone(), ..Exchange::default() };
        let ask = Ask::Exchange(exchange).to_bytes();
        let exchanged = Exchanged { letters: vec![letter], live, ..Exchanged::default() };
        let answer = Answer::Exchanged(exchanged).to_bytes();
        assert!(ask.len() <= MAX_ASK && answer.len() <= MAX_ANSWER, "{} {}", ask.len(), answer.len());
        assert!(Ask::from_bytes(&ask).is_some() && Answer::from_bytes(&answer).is_some());
    }

    #[test]
    fn nothing_said_is_printed() {
        let letter = Letter { stanza: b"wherefore".to_vec(), ..Letter::default() };
        let contact = OutsideContact { address: "wherefore@a.b".into(), ..OutsideContact::default() };
        let asked = Ask::Exchange(Exchange { letters: vec![letter.clone()], ..Exchange::default() });
        let answered = Answer::Exchanged(Exchanged { contacts: vec![contact], ..Exchanged::default() });
        let printed = format!("{asked:?} {answered:?} {letter:?}");
        assert!(!printed.contains("wherefore"), "{printed}");
    }
}
