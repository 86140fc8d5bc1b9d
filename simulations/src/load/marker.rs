//! Owns the marker that a message body carries: who sent it, its number and its time; *pure*.

use memchr::memmem::Finder;

/// What opens a marker; chosen so that no server-made text holds it.
const OPEN: &[u8; 6] = b"~CTLD~";
/// Length of an encoded marker in bytes: opening, 8 + 8 + 16 hexadecimal digits, closing `~`.
pub const MARKER_BYTES: usize = OPEN.len() + 8 + 8 + 16 + 1;

/// Identity and time of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Index of the sending client.
    pub sender: u32,
    /// Number within the flow from that sender to this recipient, from 0.
    pub sequence: u32,
    /// When it was sent, or due to be sent, in nanoseconds of the generator's clock.
    pub time: u64,
}

impl Marker {
    /// Writes the marker at the end of `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(OPEN);
        push_hex(out, u64::from(self.sender), 8);
        push_hex(out, u64::from(self.sequence), 8);
        push_hex(out, self.time, 16);
        out.push(b'~');
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let digits = bytes.strip_prefix(OPEN)?;
        let (sender, digits) = digits.split_at_checked(8)?;
        let (sequence, digits) = digits.split_at_checked(8)?;
        let (time, end) = digits.split_at_checked(16)?;
        if end.first() != Some(&b'~') {
            return None;
        }
        let sender = u32::try_from(parse_hex(sender)?).ok()?;
        let sequence = u32::try_from(parse_hex(sequence)?).ok()?;
        Some(Self { sender, sequence, time: parse_hex(time)? })
    }
}

/// Finds markers in stanzas.
#[derive(Debug)]
pub struct MarkerFinder(Finder<'static>);

impl Default for MarkerFinder {
    fn default() -> Self {
        Self(Finder::new(OPEN))
    }
}

impl MarkerFinder {
    /// The first whole marker in `stanza`.
    #[must_use]
    pub fn find(&self, stanza: &[u8]) -> Option<Marker> {
        let start = self.0.find(stanza)?;
        Marker::decode(stanza.get(start..)?)
    }
}

/// Appends the lowest `digits` hexadecimal digits of `value`.
pub fn push_hex(out: &mut Vec<u8>, value: u64, digits: u32) {
    for place in (0..digits).rev() {
        let digit = ((value >> (place * 4)) & 0xf) as u8;
        out.push(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
    }
}

fn parse_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |value, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(marker: Marker) -> Vec<u8> {
        let mut out = Vec::new();
        marker.encode(&mut out);
        out
    }

    #[test]
    fn a_cut_or_damaged_marker_is_none() {
        let whole = encoded(Marker { sender: 7, sequence: 9, time: 11 });
        let finder = MarkerFinder::default();
        for cut in 0..whole.len() {
            assert_eq!(finder.find(&whole[..cut]), None);
        }
        let mut damaged = whole;
        damaged[OPEN.len() + 3] = b'G';
        assert_eq!(finder.find(&damaged), None);
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_found(sender: u32, sequence: u32, time: u64, before in "[a-z<>~]{0,40}", after in "[a-z<>~]{0,40}") {
            let marker = Marker { sender, sequence, time };
            let mut stanza = before.into_bytes();
            let bytes = encoded(marker);
            prop_assert_eq!(bytes.len(), MARKER_BYTES);
            stanza.extend(bytes);
            stanza.extend(after.into_bytes());
            prop_assert_eq!(MarkerFinder::default().find(&stanza), Some(marker));
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes: Vec<u8>) {
            let _ = MarkerFinder::default().find(&bytes);
        }
    }
}
