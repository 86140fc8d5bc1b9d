//! What a client split because a line of IRC has 512 bytes is one message again. *Pure.*
//!
//! Nothing in IRC says that a line goes on in the next one. A line after which the first word of the next one had no room was
//! most likely split there: it waits a moment for what follows.

use std::time::Duration;

/// How long a line waits for the next one: irssi holds one behind a long one back for six seconds.
const WAIT: Duration = Duration::from_secs(7);
/// Bytes by which the client may count less than its room: irssi does not know how it is called by others.
const SLACK: usize = 40;
/// Before words longer than this a line is not waited for.
const WORD: usize = 24;
/// Bytes of a joined message; what follows is another.
const MOST: usize = 32 << 10;

/// To whom, and in what manner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speech {
    /// Address.
    pub to: String,
    /// Whether it is an action.
    pub action: bool,
    /// Text.
    pub text: String,
}

/// A message of which more may come.
#[derive(Debug)]
struct Held {
    speech: Speech,
    /// Bytes of the last line, and those that it could have had.
    last: (usize, usize),
    until: Duration,
}

/// Joins lines to messages.
#[derive(Debug, Default)]
pub struct Joiner {
    held: Option<Held>,
}

impl Joiner {
    /// Takes a line that could have had `room` bytes of text. Returns the messages that are whole now, in their order.
    pub fn push(&mut self, speech: Speech, room: usize, now: Duration) -> Vec<Speech> {
        let last = (speech.text.len(), room);
        let (mut whole, mut speech) = (Vec::new(), speech);
        if let Some(held) = self.held.take() {
            match held.goes_on_with(&speech) {
                Some(between) => {
                    let action = held.speech.action;
                    speech = Speech { action, text: held.speech.text + between + &speech.text, ..speech };
                }
                None => whole.push(held.speech),
            }
        }
        if last.0 + WORD + SLACK >= room && speech.text.len() < MOST {
            self.held = Some(Held { speech, last, until: now + WAIT });
        } else {
            whole.push(speech);
        }
        whole
    }

    /// When what waits is a whole message.
    pub fn due(&self) -> Option<Duration> {
        self.held.as_ref().map(|held| held.until)
    }

    /// What waits, as a whole message.
    pub fn take(&mut self) -> Option<Speech> {
        self.held.take().map(|held| held.speech)
    }
}

impl Held {
    /// What stood between the last line and this one, if they were one.
    fn goes_on_with(&self, next: &Speech) -> Option<&'static str> {
        let (last, room) = self.last;
        let first = next.text.find(' ').unwrap_or(next.text.len());
        // Clients repeat neither `/me` nor the blank at which they split.
        let same = next.to == self.speech.to && next.action == self.speech.action && !next.text.is_empty();
        if !same || last + 1 + first + SLACK <= room {
            return None;
        }
        let blank = self.speech.text.ends_with(' ') || next.text.starts_with(' ');
        // A word is split only if it has no room in a line of its own.
        let within = first + 1 + SLACK > room || last + SLACK > room && !self.speech.text.contains(' ');
        Some(if blank || within { "" } else { " " })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ROOM: usize = 100;
    const NOW: Duration = Duration::ZERO;

    fn to(address: &str, text: &str) -> Speech {
        Speech { to: address.into(), action: false, text: text.into() }
    }

    /// As WeeChat and irssi split: at the last blank that fits, which is left out.
    fn split(text: &str, room: usize) -> Vec<String> {
        let (mut lines, mut rest) = (Vec::new(), text);
        while rest.len() > room {
            let most = crate::irc::line::boundary(rest, room);
            let at = if rest[most..].starts_with(' ') { Some(most) } else { rest[..most].rfind(' ') };
            let at = at.filter(|at| *at > 0).unwrap_or(most);
            lines.push(rest[..at].to_owned());
            rest = rest[at..].strip_prefix(' ').unwrap_or(&rest[at..]);
        }
        lines.push(rest.to_owned());
        lines
    }

    fn joined(lines: &[String]) -> Vec<String> {
        let mut joiner = Joiner::default();
        let mut whole: Vec<Speech> =
            lines.iter().flat_map(|line| joiner.push(to("bob", line), ROOM, NOW)).collect();
        whole.extend(joiner.take());
        whole.into_iter().map(|speech| speech.text).collect()
    }

    #[test]
    fn short_lines_are_messages_at_once() {
        let mut joiner = Joiner::default();
        assert_eq!(joiner.push(to("bob", "hello"), ROOM, NOW), [to("bob", "hello")]);
        assert_eq!(joiner.due(), None);
    }

    #[test]
    fn a_full_line_to_somebody_else_is_another_message() {
        let mut joiner = Joiner::default();
        let full = "x".repeat(ROOM);
        assert!(joiner.push(to("bob", &full), ROOM, NOW).is_empty());
        assert_eq!(joiner.due(), Some(WAIT));
        assert_eq!(joiner.push(to("eve", "y"), ROOM, NOW), [to("bob", &full), to("eve", "y")]);
    }

    #[test]
    fn a_line_behind_one_with_room_is_another_message() {
        let line = "w".repeat(ROOM - 60);
        assert_eq!(joined(&[line.clone(), "short words".into()]), [line.clone(), "short words".into()]);
        assert_eq!(joined(&[line.clone(), "a_word_that_had_no_room_there".into()]).len(), 1);
    }

    proptest! {
        #[test]
        fn what_was_split_is_whole_again(words in proptest::collection::vec("[a-z\u{e4}]{1,14}", 1..80)) {
            let text = words.join(" ");
            prop_assert_eq!(joined(&split(&text, ROOM)), [text]);
        }

        #[test]
        fn nothing_is_lost(lines in proptest::collection::vec("[a-z]{0,120}", 0..8)) {
            let lines: Vec<String> = lines.into_iter().filter(|line| !line.is_empty()).collect();
            let all = |texts: Vec<String>| texts.concat().replace(' ', "");
            prop_assert_eq!(all(joined(&lines)), all(lines));
        }
    }
}
