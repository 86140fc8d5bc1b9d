//! The TXT records of others as they change: not more often than somebody can read (*pure*).

use super::peers::{Key, Peers};

/// From one change of an instance to the next, milliseconds. A host may announce a record once a second (RFC 6762 §6).
const PAUSE: u64 = 900;

/// A change that came too soon; the latest counts.
#[derive(Debug)]
pub(super) struct Late {
    text: Vec<u8>,
    at: u64,
}

impl Peers {
    /// A TXT record of an instance that is known.
    pub(super) fn heard_text(&mut self, key: &Key, text: &[u8], mono: u64) {
        let Some(found) = self.all.get_mut(key) else { return };
        if found.text.as_deref() == Some(text) {
            self.late.remove(key);
            return;
        }
        if let Some(changed) = found.changed.filter(|changed| changed + PAUSE > mono) {
            self.late.insert(key.clone(), Late { text: text.to_vec(), at: changed + PAUSE });
            return;
        }
        self.late.remove(key);
        if found.text.replace(text.to_vec()).is_some() {
            found.changed = Some(mono);
        }
        self.mark(&key.1);
    }

    /// When the next change that waits is due.
    pub(super) fn text_due(&self) -> Option<u64> {
        self.late.values().map(|late| late.at).min()
    }

    /// Takes in the changes that waited long enough.
    pub(super) fn take_late_texts(&mut self, mono: u64) {
        let due = |(_, late): &(&Key, &Late)| late.at <= mono;
        let due: Vec<Key> = self.late.iter().filter(due).map(|(key, _)| key.clone()).collect();
        for key in due {
            if let Some(late) = self.late.remove(&key) {
                self.heard_text(&key, &late.text, mono);
            }
        }
    }
}
