//! `crosstalk authority …`: this node as the server of a domain.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Subcommand;

use super::failure::Failure;
use super::{Node, confused, import, output, show};
use crate::admin::{Request, Response};
use crate::authority::{
    Answer, AuditView, DeviceView, DomainView, InvitationView, PersonView, Question, ServerProcessView,
    UserView,
};
use crate::event_loop::clock::wall_millis;
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
    /// The servers of the domain, where several share a PostgreSQL; `crosstalk authority show` lists them
    #[command(subcommand)]
    Server(ServerCommand),
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
    /// Copy the domain's keys, and the key of this node, into a directory that is kept elsewhere, such as a memory stick in a safe
    Export {
        /// Directory, made if it is not there
        directory: PathBuf,
    },
    /// Put such a copy back, while no node runs
    Import {
        /// The directory
        directory: PathBuf,
        /// The key of the node, too: this machine takes the place of the one that the copy is of, which is gone. Never on a further
        /// server beside it
        #[arg(long)]
        node: bool,
    },
    /// Hand the domain over to a new key, which the old one signs: who believes the old one follows by itself
    Rotate,
}

/// What can be done with the servers of the domain.
#[derive(Debug, Subcommand)]
pub enum ServerCommand {
    /// Tell laptops of a server no more that was taken out of service
    Forget {
        /// The beginning of its node id, as `crosstalk authority show` prints it
        node: String,
    },
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
        Command::Server(ServerCommand::Forget { node: server }) => {
            let text = "Laptops are told of it no more. If it still runs, it says within a day that it is there: stop it.";
            change(node, Question::ForgetServer { node: server }, text, json)
        }
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
         invitations   {} can be used{}{}",
        view.domain,
        view.authority,
        view.node,
        view.users,
        view.enrolled,
        view.invitations,
        servers(&view.servers, wall_millis()),
        match &view.component {
            Some(view) => format!("\n{}", component(view)),
            None if runs || outside.is_empty() => String::new(),
            None => format!("\nother XMPP    down at {outside}: the node does not run"),
        }
    )
}

/// The servers of the domain, where there are several.
fn servers(all: &[ServerProcessView], now: u64) -> String {
    let line = |server: &ServerProcessView| {
        let here = match (server.this, server.counts) {
            (true, _) => "this one".to_owned(),
            (false, true) => format!("here {}", output::ago(server.here, now)),
            (false, false) => {
                format!("here {}: laptops are told of it no more", output::ago(server.here, now))
            }
        };
        format!("{}, {here}", server.node)
    };
    match all.iter().all(|server| server.this) {
        true => String::new(),
        false => {
            format!("\nservers       {}", all.iter().map(line).collect::<Vec<_>>().join("\n              "))
        }
    }
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
                servers: Vec::new(),
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
