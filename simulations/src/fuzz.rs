//! Owns the fuzz targets: what has to hold for every sequence of bytes that a parser of CrossTalk may meet.
//!
//! A target is a plain function that panics when a promise is broken. Two things run it: `tests/fuzz.rs`, which replays
//! the corpus in `simulations/fuzz/corpus` and [`mutated`] pieces of it in every `cargo test`, and libFuzzer by way
//! of `simulations/fuzz/run`, which also finds new inputs. All promise to be total; beside that:
//!
//! | target | parser | promise |
//! | --- | --- | --- |
//! | [`stream`] | `xmpp::framer`, `xmpp::parse` | one verdict for every way to cut the bytes; limits; what is written reads back |
//! | [`stanza`] | `Element::read`, `Stanza` | what is written reads back; errors can be answered |
//! | [`export()`] | `xmpp::pie`, `cli::import::user` (XEP-0227) | one verdict for every way to read the bytes; limits |
//! | [`txt`] | XEP-0174 TXT record | what is written reads back; limits |
//! | [`address`] | instance names, JIDs, XIDs, names | normal forms stay as they are; limits |
//! | [`record`] | every kind of signed record | what is written reads back; nothing is verified but with a signature |
//! | [`envelope`] | outer part, inner part, content | what is written reads back |
//! | [`frame`] | `overlay::wire` | what is written reads back, in no more bytes |
//! | [`framing`] | length prefixes between nodes | one verdict for every way to cut the bytes; limits |
//! | [`socks`] | SOCKS 4, 4a and 5 | one verdict for every way to cut the bytes; limits; replies of the protocol |
//! | [`opening`] | what client and server of a chat network say first | one verdict and one user for every split and order; given once |
//! | [`irc()`] | lines of IRC, registration and session of that face | one verdict for every way to cut the bytes; limits; what is written reads back; the core reads what a session says |
//! | [`features`] | what a server offers before the login, without channel binding | the same for every split; nothing but what was said, in order |
//! | [`settings`] | `crosstalk.toml` | what is accepted keeps its limits; errors name a line that exists |
//! | [`admin`] | requests and answers on the admin socket | what is written reads back; no secret in `Debug` |
//! | [`stored`] | every shape in the store | what is written reads back |
//! | [`store`] | journal and snapshot files | opening mends: what was read is there after the next crash |
//! | [`key_file`] | key files | what is read is written byte for byte the same |

mod bypass;
mod bytes;
mod export;
mod files;
mod irc;
mod link;
mod mutate;
mod overlay;
mod text;
mod xml;

pub use bypass::{features, opening, socks};
pub use bytes::{admin, key_file, stored};
pub use export::export;
pub use files::store;
pub use irc::irc;
pub use link::{address, txt};
pub use mutate::mutated;
pub use overlay::{envelope, frame, framing, record};
pub use text::settings;
pub use xml::{stanza, stream};

/// Bytes of an input that are looked at; the rest is ignored. libFuzzer's `-max_len` is the same.
pub const MAX_INPUT: usize = 4096;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: of its folder in the corpus and of its program for libFuzzer.
    pub name: &'static str,
    /// Panics when the bytes break a promise.
    pub run: fn(&[u8]),
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        /// Every target.
        pub const TARGETS: &[Target] = &[$(Target { name: stringify!($name), run: $name }),*];
    };
}

targets! {
    stream, stanza, txt, address, record, envelope, frame, framing, settings, admin, stored, store, key_file,
    export, socks, opening, irc, features,
}

/// As much of an input as is looked at.
fn bounded(data: &[u8]) -> &[u8] {
    &data[..data.len().min(MAX_INPUT)]
}
