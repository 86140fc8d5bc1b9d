//! Names and texts from others, made safe to show: nothing invisible, nothing that turns the line, no floods (*pure*).

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// Most characters of a nickname.
pub const MAX_NICKNAME: usize = 64;
/// Most characters of a status text.
pub const MAX_STATUS: usize = 256;
/// Words that say here how sure it is who somebody is, without blanks, and what users may take for such.
const TIERS: [&str; 8] =
    ["certified", "certificateended", "key", "link", "verified", "unverified", "thisnode", "trusted"];
/// What begins such a word.
const CLAIMS: &str = "claims";
/// Combining marks kept on one character: enough for the languages that stack them.
const MAX_MARKS: usize = 3;

/// A nickname as it may be shown, at most [`MAX_NICKNAME`] characters on one line; empty if nothing is left. What is
/// put behind names here to say how sure they are, as "Bob (certified)", does not stay at its end.
pub fn nickname(text: &str) -> String {
    // Before the name is cut, since that may take the end of such a word; and after, since that may lay one bare.
    let whole = without_tier(clean(text, 4 * MAX_NICKNAME));
    without_tier(clean(&whole, MAX_NICKNAME))
}

fn without_tier(mut name: String) -> String {
    while let Some(end) = tier_at(&name) {
        name.truncate(end);
        name.truncate(name.trim_end().len());
    }
    name
}

/// Where a word in brackets begins that would be taken for a tier: the last thing in `name` but for marks and signs. The
/// bracket need not be closed.
fn tier_at(name: &str) -> Option<usize> {
    let ends = |char: char| char.general_category() == GeneralCategory::ClosePunctuation;
    let starts = |char: char| char.general_category() == GeneralCategory::OpenPunctuation;
    let end = name.trim_end_matches(|char: char| !char.is_alphanumeric() && !ends(char));
    let inside = end.trim_end_matches(ends);
    let start = inside.rfind(starts)?;
    let is_closed = inside.len() < end.len();
    if !is_closed && inside.get(start..)?.contains(ends) {
        return None;
    }
    let word: String =
        inside.get(start..)?.chars().filter_map(plain_letter).flat_map(char::to_lowercase).collect();
    let is_tier = TIERS.contains(&word.as_str()) || word.starts_with(CLAIMS);
    is_tier.then(|| name.get(..start).unwrap_or_default().trim_end_matches(starts).len())
}

/// A letter, a full-width one as the one that it looks like.
fn plain_letter(char: char) -> Option<char> {
    let wide = matches!(char, '\u{ff01}'..='\u{ff5e}');
    let plain = if wide { char::from_u32(u32::from(char) - 0xfee0)? } else { char };
    plain.is_alphabetic().then_some(plain)
}

/// A status text as it may be shown, at most [`MAX_STATUS`] characters on one line; empty if nothing is left.
pub fn status(text: &str) -> String {
    clean(text, MAX_STATUS)
}

fn clean(text: &str, limit: usize) -> String {
    let mut out = String::new();
    let (mut length, mut marks) = (0, MAX_MARKS);
    let mut gap = false;
    for char in text.chars() {
        match kind(char) {
            Kind::Gap => gap = true,
            Kind::Nothing => {}
            Kind::Mark if marks >= MAX_MARKS => {}
            kind @ (Kind::Shown | Kind::Mark) => {
                let spaced = gap && length > 0;
                if length + 1 + usize::from(spaced) > limit {
                    break;
                }
                // A mark after a gap would sit on the blank.
                if spaced && kind == Kind::Mark {
                    continue;
                }
                if spaced {
                    out.push(' ');
                    length += 1;
                }
                gap = false;
                marks = if kind == Kind::Mark { marks + 1 } else { 0 };
                out.push(char);
                length += 1;
            }
        }
    }
    out
}

/// At most `limit` bytes of `text`, whole characters only.
pub(crate) fn cut(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Shown as it is.
    Shown,
    /// Sits on the character before.
    Mark,
    /// Any white space: one blank.
    Gap,
    /// Controls, turns of direction, zero-width and invisible characters.
    Nothing,
}

fn kind(char: char) -> Kind {
    match char {
        // Fillers: letters by category, blank by look.
        '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{2800}' => Kind::Nothing,
        // Grapheme joiner and variation selectors: marks by category, invisible.
        '\u{34f}' | '\u{180b}'..='\u{180f}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}' => {
            Kind::Nothing
        }
        _ if char.is_whitespace() => Kind::Gap,
        _ => by_category(char.general_category()),
    }
}

fn by_category(category: GeneralCategory) -> Kind {
    use GeneralCategory as C;
    match category {
        C::Control | C::Format | C::Surrogate | C::PrivateUse | C::Unassigned => Kind::Nothing,
        C::SpaceSeparator | C::LineSeparator | C::ParagraphSeparator => Kind::Gap,
        C::NonspacingMark | C::EnclosingMark => Kind::Mark,
        C::UppercaseLetter
        | C::LowercaseLetter
        | C::TitlecaseLetter
        | C::ModifierLetter
        | C::OtherLetter
        | C::SpacingMark
        | C::DecimalNumber
        | C::LetterNumber
        | C::OtherNumber
        | C::ConnectorPunctuation
        | C::DashPunctuation
        | C::OpenPunctuation
        | C::ClosePunctuation
        | C::InitialPunctuation
        | C::FinalPunctuation
        | C::OtherPunctuation
        | C::MathSymbol
        | C::CurrencySymbol
        | C::ModifierSymbol
        | C::OtherSymbol => Kind::Shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_names_stay() {
        for name in [
            "Anna",
            "Jörg Müller-Lüdenscheidt",
            "Ὀδυσσεύς",
            "علي",
            "निर्मला",
            "李小龍",
            "Ngô Đình",
            "R2-D2 🤖",
            "e\u{301}",
        ] {
            assert_eq!(nickname(name), name);
        }
    }

    #[test]
    fn invisible_and_turning_characters_go() {
        assert_eq!(nickname("An\u{200b}na\u{202e}\u{2066}\u{200f}\u{feff}\u{ad}"), "Anna");
        assert_eq!(nickname("A\u{0}n\u{1b}[2Jn\u{7f}a"), "An[2Jna");
        assert_eq!(nickname("\u{3164}\u{115f}\u{e0041}\u{fe0f}"), "");
    }

    #[test]
    fn white_space_is_one_blank_inside_only() {
        assert_eq!(nickname("  Anna \t\r\n\u{2003} B.\u{2028} "), "Anna B.");
    }

    #[test]
    fn floods_of_marks_are_cut() {
        let zalgo: String =
            std::iter::once('Z').chain(std::iter::repeat_n('\u{336}', 500)).chain(['a']).collect();
        assert_eq!(nickname(&zalgo), "Z\u{336}\u{336}\u{336}a");
        assert_eq!(nickname("\u{301}\u{301}Anna"), "Anna");
    }

    #[test]
    fn nobody_names_their_own_tier() {
        for tier in [
            "(certified)",
            "(link)",
            " ( K\u{200b}ey )",
            "[verified]",
            "(this\u{a0}node)",
            "(certi\u{301}fied)",
            "\u{ff08}\u{ff4b}ey\u{ff09}",
            "(key) (link)",
            "((key))",
            "(certified)\u{301} .",
            "(certified) ✓",
            "(claims bob@office.example)",
            "(certificate ended)",
        ] {
            assert_eq!(nickname(&format!("Bob{tier}")), "Bob", "{tier}");
            assert_eq!(nickname(&format!("Bob\u{200b} {tier}")), "Bob", "{tier}");
        }
        assert_eq!(nickname("(certified)"), "");
        assert_eq!(nickname("Bob (certified"), "Bob");
        assert_eq!(nickname(&format!("{} (certified)", "x".repeat(60))), "x".repeat(60));
        for name in [
            "Bob (work)",
            "Bob (key) Smith",
            "Bob (claims desk) Smith",
            "Keyla (linked)",
            "certified",
            "Bob)",
            "(Bob",
        ] {
            assert_eq!(nickname(name), name);
        }
    }

    #[test]
    fn length_is_capped() {
        assert_eq!(nickname(&"x".repeat(1000)).len(), MAX_NICKNAME);
        assert_eq!(status(&"x ".repeat(1000)).len(), MAX_STATUS - 1, "no blank at the end");
    }

    proptest! {
        #[test]
        fn is_bounded_one_line_and_idempotent(text in any::<String>()) {
            let cleaned = nickname(&text);
            prop_assert!(cleaned.chars().count() <= MAX_NICKNAME);
            prop_assert!(!cleaned.chars().any(|char| char.is_control() || kind(char) == Kind::Nothing));
            prop_assert_eq!(cleaned.trim(), cleaned.as_str());
            prop_assert_eq!(nickname(&cleaned), cleaned);
        }

        /// Whatever stands before it, around it and between its letters.
        #[test]
        fn no_tier_stays_at_the_end(
            name in "\\PC{0,20}",
            tier in 0..TIERS.len(),
            between in "[ \u{301}\u{200b}\u{2060}]{0,2}",
            after in "[ .!\u{301}\u{200b}]{0,3}",
        ) {
            let word: String = TIERS[tier].chars().map(|char| format!("{char}{between}")).collect();
            let cleaned = nickname(&format!("{name} ({word}){after}"));
            prop_assert!(tier_at(&cleaned).is_none());
            let suffix = format!("({})", TIERS[tier]);
            prop_assert!(!cleaned.ends_with(&suffix), "{}", cleaned);
            prop_assert_eq!(&cleaned, &nickname(&name));
        }
    }
}
