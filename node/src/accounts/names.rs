//! What may be an account name, a password, a nickname. *Pure.*

use crosstalk_overlay::id::UserId;

/// Longest password in bytes.
pub const MAX_PASSWORD: usize = 1_023;
/// Longest nickname in bytes.
pub const MAX_NICKNAME: usize = 256;

/// Length of an XID: `00` and 64 hexadecimal digits.
const XID: usize = 66;

/// Why a name, password or nickname cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a localpart.
    #[error(
        "`{0}` cannot be an account name: use letters, digits, dots or hyphens, without spaces or any of \" & ' / : < > @"
    )]
    NotALocalpart(String),
    /// It would look like somebody's key.
    #[error("an account name must not start like a key (00 and 64 hexadecimal digits): choose another")]
    LooksLikeAKey,
    /// A password that is empty.
    #[error("the password is empty: type at least one sign")]
    EmptyPassword,
    /// A password that is too long.
    #[error("the password has more than {MAX_PASSWORD} bytes: choose a shorter one")]
    LongPassword,
    /// A password with control characters, which clients cannot type or SCRAM forbids.
    #[error("the password holds a control character: leave it out")]
    ControlInPassword,
    /// A nickname that cannot be shown.
    #[error("the nickname must have 1 to {MAX_NICKNAME} bytes and no control characters")]
    Nickname,
}

/// The account name in its normal form (RFC 7622 §3.3 by way of Nodeprep: lower case, at most 1,023 bytes).
///
/// # Errors
/// When it is no localpart or could be mistaken for a key.
pub fn account_name(typed: &str) -> Result<String, NameError> {
    let wrong = || NameError::NotALocalpart(typed.chars().take(64).collect());
    let name = jid::NodePart::new(typed).map_err(|_| wrong())?.as_str().to_owned();
    if name.chars().any(char::is_whitespace) {
        return Err(wrong());
    }
    if name.get(..XID).is_some_and(|start| UserId::from_xid(start).is_some()) {
        return Err(NameError::LooksLikeAKey);
    }
    Ok(name)
}

/// The account name for the person who starts the node: the system's user name as far as it can be one, else `me`.
pub fn name_of_person(system_user: Option<&str>) -> String {
    let kept: String = system_user
        .unwrap_or_default()
        .chars()
        .filter(|sign| sign.is_ascii_alphanumeric() || matches!(sign, '.' | '-' | '_'))
        .take(64)
        .collect();
    account_name(&kept).unwrap_or_else(|_| "me".to_owned())
}

/// Checks a password.
///
/// # Errors
/// When it is empty, too long or cannot be typed.
pub fn password(typed: &str) -> Result<(), NameError> {
    match typed.len() {
        0 => Err(NameError::EmptyPassword),
        length if length > MAX_PASSWORD => Err(NameError::LongPassword),
        _ if typed.chars().any(char::is_control) => Err(NameError::ControlInPassword),
        _ => Ok(()),
    }
}

/// Checks a nickname and strips the space around it.
///
/// # Errors
/// When it cannot be shown.
pub fn nickname(typed: &str) -> Result<String, NameError> {
    let nickname = typed.trim();
    let fits = (1..=MAX_NICKNAME).contains(&nickname.len()) && !nickname.chars().any(char::is_control);
    if fits { Ok(nickname.to_owned()) } else { Err(NameError::Nickname) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_localparts_in_normal_form() {
        assert_eq!(account_name("Juliet").as_deref(), Ok("juliet"));
        assert_eq!(account_name("zoë.k-1").as_deref(), Ok("zoë.k-1"));
        for bad in ["", "a@b", "a b", "a/b", "a\u{7}", "<me>", &"x".repeat(1_024)] {
            assert!(matches!(account_name(bad), Err(NameError::NotALocalpart(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_name_that_starts_like_a_key_is_refused() {
        let xid = UserId::from_bytes([0xab; 32]).xid();
        assert_eq!(account_name(&xid), Err(NameError::LooksLikeAKey));
        assert_eq!(account_name(&(xid.to_uppercase() + "x")), Err(NameError::LooksLikeAKey));
        assert!(account_name("00ab").is_ok());
    }

    #[test]
    fn every_system_user_gets_a_name() {
        assert_eq!(name_of_person(Some("Romeo M.")), "romeom.");
        for odd in [None, Some(""), Some("@@"), Some("\u{202e}")] {
            assert_eq!(name_of_person(odd), "me");
        }
    }

    #[test]
    fn passwords_have_bounds() {
        assert_eq!(password(""), Err(NameError::EmptyPassword));
        assert_eq!(password(&"x".repeat(1_024)), Err(NameError::LongPassword));
        assert_eq!(password("a\nb"), Err(NameError::ControlInPassword));
        assert!(password(&"x".repeat(1_023)).is_ok());
    }
}
