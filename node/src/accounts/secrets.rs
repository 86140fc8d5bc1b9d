//! Passwords and recovery codes that the node makes for people: easy to read aloud, hard to guess. *Pure.*

use zeroize::Zeroizing;

/// 32 signs that nobody mistakes for each other: no `l`, `o`, `0`, `1`.
const LOWER: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// The same in capitals: no `I`, `O`, `0`, `1`.
const UPPER: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// Random bytes that a password uses.
pub const PASSWORD_RANDOM: usize = 20;
/// Random bytes that a recovery code uses.
pub const RECOVERY_RANDOM: usize = 28;

/// A password of 100 random bits: four groups of five.
pub fn password(random: &[u8; PASSWORD_RANDOM]) -> Zeroizing<String> {
    grouped(random, LOWER, 5)
}

/// A recovery code of 140 random bits: seven groups of four.
pub fn recovery_code(random: &[u8; RECOVERY_RANDOM]) -> Zeroizing<String> {
    grouped(random, UPPER, 4)
}

/// A recovery code as it was typed, in the form that is used as a secret: capitals, no spaces or hyphens.
pub fn normal_recovery_code(typed: &str) -> Zeroizing<String> {
    let kept = typed.chars().filter(char::is_ascii_alphanumeric).take(RECOVERY_RANDOM * 2);
    Zeroizing::new(kept.map(|sign| sign.to_ascii_uppercase()).collect())
}

/// Five bits of each random byte choose a sign, so that all are equally likely.
fn grouped(random: &[u8], signs: &[u8; 32], group: usize) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(random.len() + random.len() / group));
    for (place, byte) in random.iter().enumerate() {
        if place > 0 && place % group == 0 {
            text.push('-');
        }
        text.push(char::from(signs[usize::from(byte & 31)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn secrets_have_their_shape() {
        let bytes: Vec<u8> = (0..28).collect();
        assert_eq!(password(bytes[..20].try_into().expect("20")).as_str(), "abcde-fghij-kmnpq-rstuv");
        let code = recovery_code(bytes.as_slice().try_into().expect("28"));
        assert_eq!(code.as_str(), "ABCD-EFGH-JKLM-NPQR-STUV-WXYZ-2345");
        assert_eq!(
            normal_recovery_code(" abcd efgh-JKLM NPQR STUV WXYZ 2345\n"),
            normal_recovery_code(&code)
        );
    }

    #[test]
    fn no_two_signs_look_alike() {
        for signs in [LOWER, UPPER] {
            assert_eq!(signs.iter().collect::<BTreeSet<_>>().len(), 32);
            assert!(!signs.iter().any(|sign| b"lo01IO".contains(sign)));
        }
    }
}
