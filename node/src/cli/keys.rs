//! `crosstalk authority key export`, `import`: the keys of a server as files, whether a node runs or not.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crosstalk_overlay::keys::{AuthorityKey, NodeKey};

use super::authority::KeyCommand;
use super::failure::Failure;
use super::{confused, output};
use crate::accounts::key_dir::KeyDir;
use crate::admin::client::Client;
use crate::authority::database::Database;
use crate::authority::opaque::Server;
use crate::authority::standing::Signs;
use crate::run::Place;

/// Carries out a command about keys: they are files, whether a node runs or not.
///
/// # Errors
/// When there are none, or they cannot be copied.
pub(crate) fn execute(command: &KeyCommand, place: &Place, json: bool) -> Result<(), Failure> {
    let directory = match command {
        KeyCommand::Export { directory } => directory,
        KeyCommand::Import { directory, node } => return import(directory, *node, place, json),
        KeyCommand::Rotate => return Err(confused()),
    };
    if !place.config.database(&place.data)?.may_be() {
        let text = "this node gives names under no domain: there are no keys to copy";
        return Err(Failure::Refused(text.to_owned()));
    }
    fs::create_dir_all(directory).map_err(Failure::system("make that directory"))?;
    let keys = KeyDir::open(&place.data)?;
    let mut copied: Vec<PathBuf> =
        keys.authority_files().iter().map(|from| copy(from, directory)).collect::<Result<_, Failure>>()?;
    // Before its first start a machine has none yet.
    keys.node_key()?;
    copied.push(copy(&keys.node_file(), directory)?);
    if json {
        output::json(&copied);
        return Ok(());
    }
    output::line(format!(
        "Copied to {place}. Whoever has these files can give names under the domain: keep them where nobody finds them. With a file of \
         `crosstalk authority backup` they are the back-up of this server. To put them back: crosstalk authority key import {place}; \
         with --node on a machine that takes the place of this one, so that laptops know it",
        place = directory.display(),
    ));
    Ok(())
}

/// Only what belongs to the database is put back, if there is one; the database's lock keeps a running node from losing
/// its key under itself.
fn import(directory: &Path, with_node: bool, place: &Place, json: bool) -> Result<(), Failure> {
    let [authority, enrolment] = KeyDir::read_authority(directory)?;
    let node = KeyDir::read_node(directory)?;
    if with_node && node.is_none() {
        let text = format!(
            "there is no node.key in {}: leave --node away, or take another copy",
            directory.display()
        );
        return Err(Failure::Refused(text));
    }
    if Client::connect(&place.data).is_some() {
        return Err(Failure::Refused("a node runs in this data directory: stop it first".to_owned()));
    }
    let home = place.config.database(&place.data)?;
    let served = match home.may_be() {
        true => Database::open(&home, &Signs::default())
            .and_then(|database| database.domain())
            .map_err(|why| Failure::Refused(why.to_string()))?,
        false => None,
    };
    let key = AuthorityKey::from_seed(*authority).id();
    if let Some(served) = &served {
        if served.authority != key.as_bytes() {
            let text = format!(
                "the copy in {} is of another key than names under {} are signed with: take the copy that was made after \
                 the key was handed over last",
                directory.display(),
                served.domain
            );
            return Err(Failure::Refused(text));
        }
        if !served.enrolment.is_empty() && served.enrolment != Server::from_seed(&enrolment).digest() {
            let text = "enrolment.key in that copy is not what the passwords were registered with: take another copy";
            return Err(Failure::Refused(text.to_owned()));
        }
    }
    let keys = KeyDir::open(&place.data)?;
    keys.put_authority(&authority, &enrolment)?;
    let taken = node.as_ref().filter(|_| with_node);
    if let Some(seed) = taken {
        keys.put_node(seed)?;
    }
    match (json, served) {
        (true, _) => output::json(&serde_json::json!({ "authority": key.to_hex(), "node": taken.is_some() })),
        (false, Some(served)) => output::line(format!("The keys of {} are back.", served.domain)),
        (false, None) => output::line(
            "The keys are there. There is no database here: put back its copy, too (`crosstalk authority restore FILE`), or \
             begin anew with `crosstalk authority init DOMAIN`, and enrol everybody again.",
        ),
    }
    if !json && let Some(seed) = &node {
        let id = NodeKey::from_seed(**seed).id().to_hex();
        output::line(match with_node {
            true => format!(
                "This machine is node {id} from now on, by which laptops know the server: the former one must not run any more."
            ),
            false => format!(
                "The key of node {id} was left in the copy: this machine is a server of its own. If it takes the place of that one, which \
                 is gone, do it again with --node, so that laptops know it."
            ),
        });
    }
    Ok(())
}

/// An earlier copy is never overwritten: it may be of another domain.
fn copy(from: &Path, directory: &Path) -> Result<PathBuf, Failure> {
    let to = directory.join(from.file_name().unwrap_or_default());
    let bytes = zeroize::Zeroizing::new(fs::read(from).map_err(Failure::system("read the key"))?);
    if fs::read(&to).is_ok_and(|there| there == *bytes) {
        return Ok(to);
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&to)
        .map_err(Failure::system("write the copy, which must not be there yet"))?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(Failure::system("write the copy"))?;
    Ok(to)
}
