//! `crosstalk authority …`: this node as the server of a domain.

use std::fs::{self, OpenOptions};
use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use crosstalk_overlay::keys::AuthorityKey;

use super::failure::Failure;
use super::{Node, confused, import, output, show};
use crate::accounts::key_dir::KeyDir;
use crate::admin::{Request, Response};
use crate::authority::database::Database;
use crate::authority::opaque::Server;
use crate::authority::standing::Signs;
use crate::authority::{
    Answer, AuditView, DeviceView, DomainView, InvitationView, PersonView, Question, UserView,
};
use crate::event_loop::clock::wall_millis;
use crate::run::Place;
use crate::upstream::ComponentView;

const DAY: u64 = 24 * 60 * 60 * 1_000;

/// What can be done with the server of a domain.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make this node the server of a domain: it gives names under it from now on
    Init {
        /// The domain, as in NAME@DOMAIN
        domain: String,
    },
    /// What is served, and where laptops find it
    Show,
    /// Users of the domain
    #[command(subcommand)]
    User(UserCommand),
    /// Make an invitation: a link that one user can enrol with, once
    Invite {
        /// The name before the @
        name: String,
        /// How many days it counts, 90 at most
        #[arg(long, default_value_t = 7, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=90))]
        days: u64,
    },
    /// Other domains, which are introduced to the users of this one
    #[command(subcommand)]
    Domain(super::introduce::Command),
    /// The keys of the domain
    #[command(subcommand)]
    Key(KeyCommand),
    /// Write users, certificates and contact lists to one file, whether the node runs or not; the keys are not in it
    Backup {
        /// A new file
        file: PathBuf,
    },
    /// Put a back-up into an empty database, of either kind; the domain's keys must be in keys/ of the data directory
    Restore {
        /// The file
        file: PathBuf,
    },
    /// Who stands in the directory of the domain: the users who have agreed to be found by others
    Directory,
    /// What was issued and taken back, newest last
    Audit {
        /// At most so many lines
        #[arg(long, default_value_t = 100, value_name = "LINES")]
        most: usize,
    },
}

/// What can be done with users of the domain.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add a user, who can then be invited
    Add {
        /// The name before the @
        name: String,
    },
    /// Take over the users of a Prosody or ejabberd, from its export (XEP-0227): names, passwords as they were kept, contact
    /// lists, blocks, vCards. Who is there already stays as it is, so it may be done again
    Import(import::Args),
    /// All users
    List,
    /// Take a user's name back: nobody believes it any more
    Disable {
        /// The name before the @
        name: String,
    },
    /// The laptops of a user
    Devices {
        /// The name before the @
        name: String,
    },
    /// End a laptop that is lost, where its user has no other one to say so: nobody takes anything from it any more
    Revoke {
        /// The name before the @
        name: String,
        /// The beginning of its key, as `crosstalk authority user devices` shows it
        device: String,
    },
    /// Take a user's name back and allow a new start, with a new key and password: for a forgotten password or a lost laptop
    Reset {
        /// The name before the @
        name: String,
    },
}

/// What can be done with the keys of the domain.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Copy the domain's keys into a directory that is kept elsewhere, such as a memory stick in a safe
    Export {
        /// Directory, made if it is not there
        directory: PathBuf,
    },
    /// Put such a copy back, while no node runs
    Import {
        /// The directory
        directory: PathBuf,
    },
    /// Hand the domain over to a new key, which the old one signs: who believes the old one follows by itself
    Rotate,
}

impl KeyCommand {
    /// Whether it copies files, and asks no node.
    pub(super) fn is_about_files(&self) -> bool {
        !matches!(self, Self::Rotate)
    }
}

/// Carries out a command; `outside` is where the settings say that an XMPP server is, HOST:PORT, or nothing.
///
/// # Errors
/// When the node refuses, or cannot be asked.
pub(crate) fn execute(command: Command, outside: &str, node: &mut Node, json: bool) -> Result<(), Failure> {
    let runs = node.runs();
    match command {
        Command::Init { domain } => {
            crate::admin::domains::check(&domain)?;
            let text = format!(
                "This node gives names under {domain} now. Next:\n\
                 \n  crosstalk authority user add NAME\n  crosstalk authority invite NAME\n\
                 \nKeep a copy of its keys elsewhere: crosstalk authority key export DIRECTORY"
            );
            change(node, Question::Init { domain }, &text, json)
        }
        Command::Show => match ask(node, Question::Show)? {
            Answer::Domain(view) => shown(&view, json, |view| domain(view, runs, outside)),
            _ => Err(confused()),
        },
        Command::User(command) => user(command, node, json),
        Command::Invite { name, days } => {
            let question = Question::Invite { name, life: days * DAY, places: Vec::new() };
            match ask(node, question)? {
                Answer::Invited(view) => shown(&view, json, |view| invitation(view, runs)),
                _ => Err(confused()),
            }
        }
        Command::Backup { file } => {
            let path = std::path::absolute(&file).map_err(Failure::system("find that file"))?;
            archived(
                node,
                Question::BackUp { path },
                "are in the file. Whoever has it can try passwords",
                json,
            )
        }
        Command::Restore { file } => {
            let path = std::path::absolute(&file).map_err(Failure::system("find that file"))?;
            archived(node, Question::Restore { path }, "are in place, and this node gives names again", json)
        }
        Command::Audit { most } => match ask(node, Question::Audit { most })? {
            Answer::Audit(lines) if json => {
                output::json(&lines);
                Ok(())
            }
            Answer::Audit(lines) => {
                let rows: Vec<Vec<String>> = lines.into_iter().map(audit_row).collect();
                output::table(
                    &["NO", "WHEN", "WHAT", "NAME", "KEY", "SERIAL", "NODE"],
                    &rows,
                    "Nothing yet.",
                );
                Ok(())
            }
            _ => Err(confused()),
        },
        Command::Directory => match ask(node, Question::Directory)? {
            Answer::Directory { on, people } => directory(on, people, json),
            _ => Err(confused()),
        },
        Command::Domain(command) => super::introduce::execute(command, node, json),
        Command::Key(_) => rotate(node, json),
    }
}

fn user(command: UserCommand, node: &mut Node, json: bool) -> Result<(), Failure> {
    match command {
        UserCommand::Add { name } => {
            let text = format!("{name} is added. `crosstalk authority invite {name}` makes the invitation.");
            change(node, Question::AddUser { name }, &text, json)
        }
        UserCommand::Import(args) => import::execute(&args, node, json),
        UserCommand::List => match ask(node, Question::ListUsers)? {
            Answer::Users(users) if json => {
                output::json(&users);
                Ok(())
            }
            Answer::Users(users) => {
                let now = wall_millis();
                let rows: Vec<Vec<String>> = users.into_iter().map(|user| user_row(user, now)).collect();
                output::table(&["NAME", "STATE", "KEY", "CERTIFICATE"], &rows, "No users.");
                Ok(())
            }
            _ => Err(confused()),
        },
        UserCommand::Disable { name } => {
            let text = format!("{name} is disabled. Whoever learns that believes the name no longer.");
            change(node, Question::DisableUser { name }, &text, json)
        }
        UserCommand::Devices { name } => match ask(node, Question::Devices { name })? {
            Answer::Devices(devices) if json => {
                output::json(&devices);
                Ok(())
            }
            Answer::Devices(devices) => {
                let now = wall_millis();
                let rows: Vec<Vec<String>> =
                    devices.into_iter().map(|device| device_row(device, now)).collect();
                output::table(&["KEY", "STATE", "CERTIFICATE"], &rows, "No devices.");
                Ok(())
            }
            _ => Err(confused()),
        },
        UserCommand::Revoke { name, device } => {
            let text = format!(
                "A laptop of {name} is revoked. Whoever learns that takes nothing from it any more. If its password may be \
                 known to others, run `crosstalk authority user reset {name}`, too."
            );
            change(node, Question::RevokeDevice { name, device }, &text, json)
        }
        UserCommand::Reset { name } => {
            let text = format!(
                "{name} can be enrolled anew, with a new key: `crosstalk authority invite {name}`. The old key has the name \
                 no longer."
            );
            change(node, Question::ResetUser { name }, &text, json)
        }
    }
}

fn directory(on: bool, people: Vec<PersonView>, json: bool) -> Result<(), Failure> {
    if json {
        output::json(&serde_json::json!({ "on": on, "people": people }));
        return Ok(());
    }
    if !on {
        output::line(
            "Nobody can search it: `directory = \"members\"` below [authority] in the settings lets users.",
        );
    }
    let row =
        |person: PersonView| vec![person.address, person.nickname, person.full_name.unwrap_or_default()];
    let rows: Vec<Vec<String>> = people.into_iter().map(row).collect();
    output::table(&["ADDRESS", "NICKNAME", "NAME"], &rows, "Nobody has agreed to be found yet.");
    Ok(())
}

/// Carries out a command about keys: they are files, whether a node runs or not.
///
/// # Errors
/// When there are none, or they cannot be copied.
pub(crate) fn key(command: &KeyCommand, place: &Place, json: bool) -> Result<(), Failure> {
    let directory = match command {
        KeyCommand::Export { directory } => directory,
        KeyCommand::Import { directory } => return import(directory, place, json),
        KeyCommand::Rotate => return Err(confused()),
    };
    if !place.config.database(&place.data)?.may_be() {
        let text = "this node gives names under no domain: there are no keys to copy";
        return Err(Failure::Refused(text.to_owned()));
    }
    fs::create_dir_all(directory).map_err(Failure::system("make that directory"))?;
    let copied = KeyDir::open(&place.data)?.authority_files().map(|from| copy(&from, directory));
    let copied: Vec<PathBuf> = copied.into_iter().collect::<Result<_, Failure>>()?;
    if json {
        output::json(&copied);
        return Ok(());
    }
    output::line(format!(
        "Copied to {place}. Whoever has these files can give names under the domain: keep them where nobody finds them. To put \
         them back: crosstalk authority key import {place}",
        place = directory.display(),
    ));
    Ok(())
}

/// Only what belongs to the database is put back, if there is one; the database's lock keeps a running node from losing
/// its key under itself.
fn import(directory: &Path, place: &Place, json: bool) -> Result<(), Failure> {
    let [authority, enrolment] = KeyDir::read_authority(directory)?;
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
    KeyDir::open(&place.data)?.put_authority(&authority, &enrolment)?;
    match (json, served) {
        (true, _) => output::json(&serde_json::json!({ "authority": key.to_hex() })),
        (false, Some(served)) => output::line(format!("The keys of {} are back.", served.domain)),
        (false, None) => output::line(
            "The keys are there. There is no database here: put back its copy, too (`authority/` in the data directory), or \
             begin anew with `crosstalk authority init DOMAIN`, and enrol everybody again.",
        ),
    }
    Ok(())
}

fn rotate(node: &mut Node, json: bool) -> Result<(), Failure> {
    match ask(node, Question::RotateKey)? {
        Answer::Rotated { authority, .. } if json => {
            output::json(&serde_json::json!({ "authority": authority }));
            Ok(())
        }
        Answer::Rotated { authority, .. } => {
            output::line(format!(
                "The key of the domain is {authority} now. Names by the old one count until they end; laptops get new ones at \
                 their next sync. Make a new copy: crosstalk authority key export DIRECTORY"
            ));
            Ok(())
        }
        _ => Err(confused()),
    }
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

pub(super) fn ask(node: &mut Node, question: Question) -> Result<Answer, Failure> {
    match node.ask(Request::Authority(question))? {
        Response::Authority(answer) => Ok(answer),
        _ => Err(confused()),
    }
}

pub(super) fn change(node: &mut Node, question: Question, text: &str, json: bool) -> Result<(), Failure> {
    match ask(node, question)? {
        Answer::Done { .. } => {
            output::line(if json { "{\"ok\":true}" } else { text });
            Ok(())
        }
        _ => Err(confused()),
    }
}

fn archived(node: &mut Node, question: Question, text: &str, json: bool) -> Result<(), Failure> {
    match ask(node, question)? {
        Answer::Archived(entries, bytes) if json => {
            output::json(&serde_json::json!({ "entries": entries, "bytes": bytes }));
            Ok(())
        }
        Answer::Archived(entries, bytes) => {
            output::line(format!("{entries} things of {} {text}.", output::bytes(bytes)));
            Ok(())
        }
        _ => Err(confused()),
    }
}

fn shown<T: serde::Serialize>(view: &T, json: bool, text: impl Fn(&T) -> String) -> Result<(), Failure> {
    match json {
        true => output::json(view),
        false => output::line(text(view)),
    }
    Ok(())
}

fn domain(view: &DomainView, runs: bool, outside: &str) -> String {
    let places = match view.places.is_empty() {
        _ if !runs => "nowhere: the node does not run, start it with `crosstalk`".to_owned(),
        true => "on its own network, by itself; no address for other networks is known".to_owned(),
        false => view
            .places
            .iter()
            .map(|place| format!("{}@{place}", view.node))
            .collect::<Vec<_>>()
            .join("\n              "),
    };
    format!(
        "domain        {}\nauthority     {}\nnode          {}\nfound at      {places}\nusers         {}, {} of them enrolled\n\
         invitations   {} can be used{}",
        view.domain,
        view.authority,
        view.node,
        view.users,
        view.enrolled,
        view.invitations,
        match &view.component {
            Some(view) => format!("\n{}", component(view)),
            None if runs || outside.is_empty() => String::new(),
            None => format!("\nother XMPP    down at {outside}: the node does not run"),
        }
    )
}

/// The link to other servers.
pub(super) fn component(view: &ComponentView) -> String {
    let why = view.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let since = output::since(view.since, wall_millis());
    format!(
        "other XMPP    {} at {}{since}{why}\n              {} stanzas wait to go out, {} for laptops to fetch them",
        view.state, view.address, view.held, view.waiting
    )
}

fn invitation(view: &InvitationView, runs: bool) -> String {
    let code = show::qr(view.link.reveal(), std::io::stdout().is_terminal()).unwrap_or_default();
    let stopped = match runs {
        true => "",
        false => {
            "\n\nThe node does not run. The link works once it does (`crosstalk`), and in its own network only, as it says no \
             address for others: for a laptop elsewhere make another one while the node runs."
        }
    };
    format!(
        "For {address}, on their laptop, while its node runs:\n\n  crosstalk enrol {link}\n\n{code}\n\
         The link works once and ends {until}. Give it to nobody else: whoever uses it first is {address}.{stopped}",
        address = view.address,
        link = view.link.reveal(),
        until = output::until(view.expires, wall_millis()),
    )
}

fn user_row(user: UserView, now: u64) -> Vec<String> {
    let until = user.until.map(|until| format!("ends {}", output::until(until, now)));
    vec![
        output::plain(&user.name),
        user.state,
        user.xid.map(|xid| xid.chars().skip(2).take(8).collect()).unwrap_or_default(),
        until.unwrap_or_default(),
    ]
}

fn device_row(device: DeviceView, now: u64) -> Vec<String> {
    let state = if device.revoked { "revoked" } else { "counts" };
    let until = device.until.map(|until| format!("ends {}", output::until(until, now)));
    vec![device.device.chars().take(8).collect(), state.to_owned(), until.unwrap_or_default()]
}

fn audit_row(line: AuditView) -> Vec<String> {
    let short = |key: String| key.chars().take(8).collect::<String>();
    let serial = if line.serial == 0 { String::new() } else { line.serial.to_string() };
    let when = output::ago(line.at, wall_millis());
    vec![line.number.to_string(), when, line.what, line.name, short(line.user), serial, short(line.node)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    /// Whoever makes an invitation while the node does not run is told what the link is worth.
    #[test]
    fn a_node_that_does_not_run_is_said() {
        let view = InvitationView {
            address: "anna@school.example".into(),
            link: Secret::from("crosstalk:enrol".to_owned()),
            expires: wall_millis() + 7 * DAY,
        };
        let text = invitation(&view, false);
        assert!(text.contains("does not run") && text.contains("own network only"), "{text}");
        let text = invitation(&view, true);
        assert!(!text.contains("does not run"), "{text}");
        let domain = |runs, outside, component: Option<ComponentView>| {
            let view = DomainView {
                domain: "school.example".into(),
                authority: String::new(),
                node: String::new(),
                users: 0,
                enrolled: 0,
                invitations: 0,
                places: Vec::new(),
                component,
            };
            super::domain(&view, runs, outside)
        };
        let text = domain(false, "127.0.0.1:5347", None);
        assert!(text.contains("nowhere: the node does not run"), "{text}");
        assert!(text.contains("other XMPP    down at 127.0.0.1:5347: the node does not run"), "{text}");
        assert!(!domain(false, "", None).contains("other XMPP"));
        let elsewhere = ComponentView::without("127.0.0.1:5347", true);
        let text = domain(true, "127.0.0.1:5347", Some(elsewhere));
        assert!(text.contains("other XMPP    elsewhere at 127.0.0.1:5347: another process"), "{text}");
        assert!(!text.contains("does not run"), "{text}");
    }
}
