//! Owns the target for what another server writes of its users (XEP-0227).

use std::io::{BufRead, BufReader};

use crosstalk::authority::import::{BLOCKED, CONTACTS, ImportedUser};
use crosstalk::cli::import::user::{Making, is_wanted};
use crosstalk::xmpp::pie::{Document, Piece};

use super::bounded;

/// What an export was found to be: its users, how much else, and the error that ended it.
type Verdict = (Vec<ImportedUser>, usize, Option<String>);

/// An export: the same users and the same end however the bytes are read, and none larger than one may be.
pub fn export(data: &[u8]) {
    let data = bounded(data);
    let whole = verdict(data, data.len());
    for capacity in [1, 7, 64] {
        let pieces = verdict(BufReader::with_capacity(capacity, data), data.len());
        assert!(whole == pieces, "{capacity} bytes at a time make another export");
    }
    for user in &whole.0 {
        assert!(!user.name.is_empty() && user.contacts.len() <= CONTACTS && user.blocked.len() <= BLOCKED);
    }
}

fn verdict(input: impl BufRead, size: usize) -> Verdict {
    let mut document = Document::new(input, is_wanted);
    let (mut users, mut others, mut making) = (Vec::new(), 0, None::<Making>);
    let why = loop {
        let piece = match document.next_piece() {
            Ok(Some(piece)) => piece,
            Ok(None) => break None,
            Err(error) => {
                assert!(error.line >= 1 && error.byte <= size as u64, "{error}");
                break Some(error.why);
            }
        };
        others += 1;
        assert!(others <= size, "more pieces than bytes");
        let read = match piece {
            // No password is stretched: that takes long, and reads nothing.
            Piece::User(element) => Making::new(&element, ("stock.example", "school.example"), None)
                .map(|made| making = Some(made)),
            Piece::Child(child) => making.as_mut().map_or(Ok(()), |making| making.add(&child)),
            Piece::UserEnd => {
                users.extend(making.take().map(|made| made.done().0));
                Ok(())
            }
            Piece::Host(_) | Piece::Include(_) => Ok(()),
        };
        if let Err(why) = read {
            break Some(why);
        }
    };
    (users, others, why)
}
