//! What protocols begin with: the first bytes of a client and of a server. *Pure.*
//!
//! XMPP (RFC 6120 §4.2), TLS (RFC 8446 §4, §5.1), IRC (RFC 2812, IRCv3 capability negotiation), OSCAR (FLAP), MSNP, YMSG,
//! SIP (RFC 3261 §7). Each guess holds for whatever follows.

use std::ops::RangeInclusive;

use super::base::{Protocol, Side};

/// What bytes are the beginning of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guess {
    /// This.
    Is(Protocol),
    /// None of those that are known.
    Unknown,
    /// Too little was heard.
    More,
}

/// Commands with which an IRC client begins.
const IRC_CLIENT: &[&str] =
    &["PASS", "NICK", "USER", "CAP", "AUTHENTICATE", "STARTTLS", "PROTOCTL", "WEBIRC", "PING"];
/// Commands with which an IRC server begins where it does not name itself.
const IRC_SERVER: &[&str] = &["NOTICE", "PING", "ERROR", "AUTHENTICATE", "CAP"];
const MSNP_CLIENT: &[&str] = &["VER", "USR", "ANS", "CVR"];
const MSNP_SERVER: &[&str] = &["VER", "USR", "ANS", "IRO", "XFR", "CVR"];
/// Methods of SIP and its extensions.
const SIP_CLIENT: &[&str] = &[
    "REGISTER",
    "INVITE",
    "OPTIONS",
    "MESSAGE",
    "SUBSCRIBE",
    "PUBLISH",
    "NOTIFY",
    "INFO",
    "REFER",
    "UPDATE",
    "ACK",
    "BYE",
    "CANCEL",
];
/// The longest word, name of a server or of an element that is waited for.
const LONGEST_WORD: usize = 255;

/// What `bytes`, the first of that side, are the beginning of.
pub(super) fn guess(side: Side, bytes: &[u8]) -> Guess {
    match bytes.first() {
        None => Guess::More,
        Some(0x15 | 0x16) => tls(side, bytes),
        Some(b'*') => oscar(bytes),
        Some(_) => text(side, bytes),
    }
}

/// Whether each of `bytes` is within its range, as far as there are both.
fn fits(bytes: &[u8], ranges: &[RangeInclusive<u8>], protocol: Protocol) -> Guess {
    match bytes.iter().zip(ranges).all(|(byte, range)| range.contains(byte)) {
        false => Guess::Unknown,
        true if bytes.len() < ranges.len() => Guess::More,
        true => Guess::Is(protocol),
    }
}

const ANY: RangeInclusive<u8> = 0..=0xff;

/// A record with a ClientHello or a ServerHello, or an alert of the server.
fn tls(side: Side, bytes: &[u8]) -> Guess {
    let hello = |kind| fits(bytes, &[0x16..=0x16, 3..=3, 0..=4, 0..=0x48, ANY, kind..=kind], Protocol::Tls);
    match (side, bytes.first()) {
        (Side::Client, _) => hello(1),
        (Side::Server, Some(0x15)) => fits(bytes, &[ANY, 3..=3, 0..=4, 0..=0, 2..=2], Protocol::Tls),
        (Side::Server, _) => hello(2),
    }
}

/// A FLAP frame of channel 1 with version 1, from either side.
fn oscar(bytes: &[u8]) -> Guess {
    fits(bytes, &[ANY, 1..=1, ANY, ANY, ANY, ANY, 0..=0, 0..=0, 0..=0, 1..=1], Protocol::Oscar)
}

/// Lines and XML, behind what may stand before the first of them.
fn text(side: Side, bytes: &[u8]) -> Guess {
    let mark = b"\xef\xbb\xbf";
    if bytes.len() < mark.len() && mark.starts_with(bytes) {
        return Guess::More;
    }
    let bytes = bytes.strip_prefix(mark).unwrap_or(bytes).trim_ascii_start();
    match bytes.first() {
        None => Guess::More,
        Some(b'<') => xmpp(bytes),
        Some(b':' | b'@') if side == Side::Server => irc_named(bytes),
        Some(first) if first.is_ascii_alphanumeric() => line(side, bytes),
        Some(_) => Guess::Unknown,
    }
}

/// The header of a stream, behind an XML declaration if there is one.
fn xmpp(bytes: &[u8]) -> Guess {
    let declaration = b"<?xml";
    if bytes.len() < declaration.len() && declaration.starts_with(bytes) {
        return Guess::More;
    }
    let rest = match bytes.strip_prefix(declaration) {
        None => bytes,
        Some(rest) => match rest.windows(2).position(|end| end == b"?>") {
            None if rest.len() > LONGEST_WORD + 1 || rest.contains(&b'<') => return Guess::Unknown,
            None => return Guess::More,
            Some(end) if end > LONGEST_WORD || rest[..end].contains(&b'<') => return Guess::Unknown,
            Some(end) => rest[end + 2..].trim_ascii_start(),
        },
    };
    let Some(name) = rest.strip_prefix(b"<") else {
        return if rest.is_empty() { Guess::More } else { Guess::Unknown };
    };
    let ends =
        |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'>' | b'/' | b'<' | b'!' | b'?' | b'=');
    let Some(end) = name.iter().take(LONGEST_WORD).position(ends) else {
        return if name.len() < LONGEST_WORD { Guess::More } else { Guess::Unknown };
    };
    let (name, behind) = (&name[..end], name[end]);
    let local = name.rsplit(|byte| *byte == b':').next().unwrap_or_default();
    match local == b"stream" && (behind.is_ascii_whitespace() || behind == b'>') {
        true => Guess::Is(Protocol::Xmpp),
        false => Guess::Unknown,
    }
}

/// The first word of `bytes`, and what is behind the byte after it.
fn word(bytes: &[u8]) -> Result<(&[u8], &[u8]), Guess> {
    match bytes.iter().take(LONGEST_WORD).position(u8::is_ascii_whitespace) {
        Some(end) => Ok((&bytes[..end], &bytes[end + 1..])),
        None if bytes.len() < LONGEST_WORD => Err(Guess::More),
        None => Err(Guess::Unknown),
    }
}

fn is_one_of(word: &[u8], words: &[&str]) -> bool {
    words.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(word))
}

/// `[@tags] [:server] COMMAND` of an IRC server.
fn irc_named(bytes: &[u8]) -> Guess {
    let mut rest = bytes;
    for _ in 0..3 {
        let (first, behind) = match word(rest) {
            Ok(both) => both,
            Err(guess) => return guess,
        };
        if !matches!(first.first(), Some(b':' | b'@')) {
            let digits = first.len() == 3 && first.iter().all(u8::is_ascii_digit);
            let letters = !first.is_empty() && first.iter().all(u8::is_ascii_alphabetic);
            return if digits || letters { Guess::Is(Protocol::Irc) } else { Guess::Unknown };
        }
        rest = behind;
    }
    Guess::Unknown
}

/// A line that begins with a word.
fn line(side: Side, bytes: &[u8]) -> Guess {
    if bytes.starts_with(b"YMSG") {
        return Guess::Is(Protocol::Ymsg);
    }
    let (first, rest) = match word(bytes) {
        Ok(both) => both,
        Err(guess) => return guess,
    };
    let (irc, msnp) = match side {
        Side::Client => (IRC_CLIENT, MSNP_CLIENT),
        Side::Server => (IRC_SERVER, MSNP_SERVER),
    };
    if is_one_of(first, irc) {
        return Guess::Is(Protocol::Irc);
    }
    if is_one_of(first, msnp) {
        return number(rest);
    }
    match side {
        Side::Client if is_one_of(first, SIP_CLIENT) => address_of_sip(rest),
        Side::Server if first.eq_ignore_ascii_case(b"SIP/2.0") => Guess::Is(Protocol::Sip),
        Side::Client | Side::Server => Guess::Unknown,
    }
}

/// The transaction id of MSNP.
fn number(rest: &[u8]) -> Guess {
    let number = match word(rest) {
        Ok((number, _)) => number,
        Err(_) if rest.iter().all(u8::is_ascii_digit) && rest.len() <= 10 => return Guess::More,
        Err(_) => return Guess::Unknown,
    };
    match (1..=10).contains(&number.len()) && number.iter().all(u8::is_ascii_digit) {
        true => Guess::Is(Protocol::Msnp),
        false => Guess::Unknown,
    }
}

/// What a request of SIP is for.
fn address_of_sip(rest: &[u8]) -> Guess {
    let scheme = |scheme: &str| {
        let begins = rest.iter().zip(scheme.as_bytes()).all(|(a, b)| a.eq_ignore_ascii_case(b));
        match begins {
            false => Guess::Unknown,
            true if rest.len() < scheme.len() => Guess::More,
            true => Guess::Is(Protocol::Sip),
        }
    };
    let guesses = ["sip:", "sips:", "tel:"].map(scheme);
    let is = |guess: &Guess| matches!(guess, Guess::Is(_));
    let more = guesses.contains(&Guess::More);
    guesses.into_iter().find(is).unwrap_or(if more { Guess::More } else { Guess::Unknown })
}
