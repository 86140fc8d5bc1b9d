//! The words by which somebody is found: without case, marks on letters and what stands between words. *Pure.*

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

/// Words of one person in the index, the first ones.
const PER_PERSON: usize = 16;
/// Characters of a word in the index; a longer one counts by its beginning.
const LONGEST: usize = 32;
/// Characters that a question has to have in one of its words.
const SHORTEST: usize = 2;
/// Words of a question.
const ASKED: usize = 8;

/// The words of a text, in their order, each once.
fn words(text: &str) -> Vec<String> {
    // As in addresses (RFC 3491): "Straße" and "STRASSE" are the same; what cannot stand in an address is merely made small.
    let folded = stringprep::nameprep(text).map_or_else(|_| text.to_lowercase(), Into::into);
    let plain: String = folded.nfkd().filter(|sign| !is_combining_mark(*sign)).collect();
    let mut words: Vec<String> = Vec::new();
    for word in plain.split(|sign: char| !sign.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let word: String = word.chars().take(LONGEST).collect();
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words
}

/// By what somebody is found.
pub(super) fn of_person(name: &str, nickname: &str, full_name: &str) -> Vec<String> {
    let mut words = words(&[name, nickname, full_name].join(" "));
    words.truncate(PER_PERSON);
    words
}

/// What is searched for: beginnings of words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The longest, by which the index is read.
    pub(super) first: String,
    rest: Vec<String>,
}

impl Wanted {
    /// Of a question to the server of `domain`; nothing if it is too short. An address counts as its name.
    pub(super) fn read(text: &str, domain: &str) -> Option<Self> {
        let of_domain = format!("@{domain}");
        let names = text.split_whitespace().map(|token| token.strip_suffix(&of_domain).unwrap_or(token));
        let mut words = words(&names.collect::<Vec<_>>().join(" "));
        words.truncate(ASKED);
        let longest = (0..words.len()).max_by_key(|at| words[*at].chars().count())?;
        let first = words.remove(longest);
        (first.chars().count() >= SHORTEST).then_some(Self { first, rest: words })
    }

    /// Whether somebody with these words, one of which begins with the first one, is meant.
    pub(super) fn means(&self, words: &[String]) -> bool {
        self.rest.iter().all(|wanted| words.iter().any(|word| word.starts_with(wanted)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_marks_and_signs_do_not_matter() {
        assert_eq!(words("Zoë O'Brien-Müller"), ["zoe", "o", "brien", "muller"]);
        assert_eq!(words("STRASSE Straße"), ["strasse"]);
        assert_eq!(words("李小龙"), ["李小龙"]);
        assert_eq!(words("Ａｎｎａ"), ["anna"]);
        assert!(words("… – !").is_empty());
    }

    #[test]
    fn who_has_all_beginnings_is_meant() {
        let anna = of_person("anna.m", "Änni", "Anna Maria Müller");
        assert_eq!(anna, ["anna", "m", "anni", "maria", "muller"]);
        let meant = |text: &str| {
            let wanted = Wanted::read(text, "school.example").expect("long enough");
            anna.iter().any(|word| word.starts_with(&wanted.first)) && wanted.means(&anna)
        };
        assert!(meant("mül an") && meant("MARIA m") && meant("anna.m@school.example"));
        assert!(!meant("anna bob") && !meant("school") && !meant("nna"));
    }

    #[test]
    fn too_short_is_said() {
        for text in ["", "a", "a b c", "!!", "@school.example"] {
            assert_eq!(Wanted::read(text, "school.example"), None, "{text}");
        }
        assert!(Wanted::read("李小", "school.example").is_some());
    }

    #[test]
    fn long_names_are_bounded() {
        let name = (0..40).map(|n| format!("w{n}")).collect::<Vec<_>>().join(" ");
        assert_eq!(of_person("a", "", &name).len(), PER_PERSON);
        assert_eq!(words(&"x".repeat(100)), ["x".repeat(LONGEST)]);
        let wanted = Wanted::read(&"x".repeat(100), "b").expect("long enough");
        assert_eq!(wanted.first.len(), LONGEST);
    }
}
