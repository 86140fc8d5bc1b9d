//! `crosstalk backup` and `crosstalk restore`: the whole node in one file.

use std::path::Path;

use super::failure::Failure;
use super::{Node, confused, output};
use crate::admin::{Request, Response};
use crate::backup;
use crate::run::Place;

/// Writes the file, whether the node runs or not.
///
/// # Errors
/// When it cannot be written; there is none then.
pub(super) fn back_up(file: &Path, node: &mut Node, json: bool) -> Result<(), Failure> {
    let path = std::path::absolute(file).map_err(Failure::system("find that file"))?;
    let Response::BackedUp { entries, bytes } = node.ask(Request::BackUp { path })? else {
        return Err(confused());
    };
    if json {
        output::json(&serde_json::json!({ "entries": entries, "bytes": bytes }));
        return Ok(());
    }
    output::line(format!(
        "{entries} things of {} are in the file. The private keys are among them: whoever has it is you, so keep it \
         where nobody finds it. If this node is the server of a domain, back up its database, too: crosstalk authority backup FILE",
        output::bytes(bytes),
    ));
    Ok(())
}

/// Puts the file back, where no node is.
///
/// # Errors
/// When there is one, or the file is not whole; nothing was changed then.
pub(super) fn restore(file: &Path, place: &Place, json: bool) -> Result<(), Failure> {
    let restored = backup::restore(file, &place.data)?;
    if json {
        let contents = restored.contents;
        output::json(&serde_json::json!({
            "entries": contents.entries, "bytes": contents.bytes, "accounts": restored.accounts,
        }));
        return Ok(());
    }
    output::line(format!(
        "The node is in {}, with {}. Start it with `crosstalk`. The node that the back-up was made of must never run beside it: \
         both would speak as the same laptop. What came after the back-up is not here.",
        place.data.display(),
        if restored.accounts.is_empty() { "no accounts".to_owned() } else { restored.accounts.join(", ") },
    ));
    Ok(())
}
