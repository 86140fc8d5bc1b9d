//! The command line: what can be typed, and where each command goes.
//!
//! Exit codes stand in [`failure`]. Every command works with the node that runs in the data directory, over its
//! socket, and without one, on the store itself.

pub mod account;
pub mod authority;
mod backup;
mod compromised;
pub mod contact;
pub mod device;
pub mod doctor;
pub mod domain;
pub mod enrol;
pub mod failure;
pub mod import;
pub mod introduce;
mod keys;
pub mod lookup;
pub mod output;
pub mod prompt;
pub mod requests;
pub mod show;
pub mod status;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::admin::client::Client;
use crate::admin::{Request, Response};
use crate::authority::Answer;
use crate::config::{self, Config};
use crate::core::admin::Reply;
use crate::run::{self, Offline, Place};
use failure::Failure;

/// Chat with everybody on the same network, with the chat program you have, with or without the Internet.
#[derive(Debug, Parser)]
#[command(name = "crosstalk", version, about, propagate_version = true)]
struct Line {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Where the node is.
#[derive(Debug, Args)]
struct PlaceArgs {
    /// Directory of the node's data [default: $XDG_DATA_HOME/crosstalk or ~/.local/share/crosstalk]
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Settings file [default: crosstalk.toml in the data directory]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON for programs instead of text for people
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the node (what `crosstalk` alone does)
    Run {
        /// Give names under this domain: accounts are NAME@DOMAIN, certified by a key that is made
        #[arg(long, value_name = "DOMAIN")]
        domain: Option<String>,
    },
    /// Accounts of this node
    #[command(subcommand)]
    Account(account::Command),
    /// Contact lists
    #[command(subcommand)]
    Contact(contact::Command),
    /// Laptops of one account: add a further one, list them, revoke one that is lost
    #[command(subcommand)]
    Device(device::Command),
    /// Become a laptop of a user of a domain: with an invitation, or with address and password
    Enrol(enrol::Args),
    /// Domains of others: which key speaks for each, and how it was learnt
    #[command(subcommand)]
    Domain(domain::Command),
    /// The server of a domain: users, invitations, audit log
    #[command(subcommand)]
    Authority(authority::Command),
    /// What the node is doing
    Status,
    /// Other nodes
    Peers,
    /// Messages that are not delivered yet
    Outbox,
    /// Requests that are not answered yet
    Requests(requests::Args),
    /// How somebody is found in the hash table: nodes asked, records, signatures
    Lookup {
        /// Address (NAME@DOMAIN) or XID
        address: String,
    },
    /// Write the whole node to one new file: accounts and their keys, contact lists, messages that wait, settings
    Backup {
        /// The file; it must not be there yet
        file: PathBuf,
    },
    /// Put such a file into an empty data directory
    Restore {
        /// The file
        file: PathBuf,
    },
    /// What is wrong, and what to do about it
    Doctor,
    /// Settings
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print a settings file with every setting, its default and its cost
    Example,
    /// Check the settings without starting anything
    Check,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let line = Line::parse();
    let json = line.place.json;
    match execute(line) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if json {
                output::complain(
                    serde_json::json!({ "error": failure.to_string(), "exit": failure.code() }).to_string(),
                );
            } else {
                output::complain(format!("crosstalk: {failure}"));
            }
            ExitCode::from(&failure)
        }
    }
}

fn execute(line: Line) -> Result<(), Failure> {
    let PlaceArgs { data, config, json } = line.place;
    let command = line.command.unwrap_or(Command::Run { domain: None });
    if let Command::Config(ConfigCommand::Example) = command {
        output::line(config::settings::example().trim_end());
        return Ok(());
    }
    let place = place(data, config)?;
    let server = show::server(&place.config.xmpp.listen);
    crate::telemetry::start(&place.config.log.filter);
    match command {
        Command::Run { domain } => run::node(with_domain(place, domain)?),
        Command::Account(command @ account::Command::Add { .. }) => {
            account::execute(&command, &mut Node::open_or_make(place)?, server, json)
        }
        Command::Account(command) => account::execute(&command, &mut Node::open(place)?, server, json),
        Command::Contact(command) => contact::execute(command, &mut Node::open(place)?, json),
        Command::Device(command) => device::execute(command, &mut Node::open(place)?, server, json),
        Command::Enrol(args) => enrol::execute(args, &mut Node::open_or_make(place)?, server, json),
        Command::Authority(authority::Command::Key(command)) if command.is_about_files() => {
            keys::execute(&command, &place, json)
        }
        Command::Authority(
            command @ (authority::Command::Init { .. } | authority::Command::Restore { .. }),
        ) => authority::execute(command, "", &mut Node::open_or_make(place)?, json),
        Command::Authority(command) => {
            let component = place.config.authority.component.clone();
            authority::execute(command, &component, &mut Node::open(place)?, json)
        }
        Command::Domain(command) => domain::execute(command, &mut Node::open(place)?, json),
        Command::Status => status::status(&mut Node::open(place)?, json),
        Command::Peers => status::peers(&mut Node::open(place)?, json),
        Command::Outbox => status::outbox(&mut Node::open(place)?, json),
        Command::Requests(args) => requests::execute(args, &mut Node::open(place)?, json),
        Command::Lookup { address } => lookup::execute(address, &mut Node::open(place)?, json),
        Command::Backup { file } => backup::back_up(&file, &mut Node::open(place)?, json),
        Command::Restore { file } => backup::restore(&file, &place, json),
        Command::Doctor => doctor::execute(place, json),
        Command::Config(_) => {
            output::line(if json { "{\"ok\":true}" } else { "The settings are in order." });
            Ok(())
        }
    }
}

fn with_domain(mut place: Place, domain: Option<String>) -> Result<Place, Failure> {
    if domain.is_some() {
        place.config.domain = domain;
        place.config.check()?;
    }
    Ok(place)
}

/// Where the data is and what the settings say: `--data` overrules a settings file named with `--config`, which
/// overrules the default.
fn place(data: Option<PathBuf>, file: Option<PathBuf>) -> Result<Place, Failure> {
    match (data, file) {
        (Some(data), file) => Ok(Place { config: Config::load(file.as_deref(), &data)?, data }),
        (None, None) => {
            let data = config::default_data_dir()?;
            Ok(Place { config: Config::load(None, &data)?, data })
        }
        (None, Some(file)) => {
            let config = Config::load(Some(&file), &PathBuf::new())?;
            let data = config.data.clone().map_or_else(config::default_data_dir, Ok)?;
            Ok(Place { config, data })
        }
    }
}

/// The node that a command is about: the one that runs, or else its store.
pub(crate) enum Node {
    /// A running node, over its socket.
    Running(Client),
    /// No node runs: this program holds the store for a moment.
    Offline(Box<Offline>),
}

impl Node {
    fn open(place: Place) -> Result<Self, Failure> {
        if !place.data.join(run::STORE).exists() {
            return Err(Failure::NoNode(place.data));
        }
        Self::open_or_make(place)
    }

    fn open_or_make(place: Place) -> Result<Self, Failure> {
        match Client::connect(&place.data) {
            Some(client) => Ok(Self::Running(client)),
            None => Ok(Self::Offline(Box::new(Offline::open(place)?))),
        }
    }

    /// Asks; an answer that says "no" is a failure.
    pub(crate) fn ask(&mut self, request: Request) -> Result<Response, Failure> {
        let response = match self {
            Self::Running(client) => client.ask(&request)?,
            Self::Offline(offline) => offline.ask(request)?,
        };
        match response {
            Response::Reply(Reply::Refused(refused)) => Err(refused.into()),
            Response::Failed(text) | Response::Authority(Answer::Refused(text)) => {
                Err(Failure::Refused(text))
            }
            response @ (Response::Reply(_)
            | Response::Added { .. }
            | Response::PasswordSet { .. }
            | Response::Enrolled { .. }
            | Response::BackedUp { .. }
            | Response::Authority(_)
            | Response::Link(_)
            | Response::Reach(_)
            | Response::Carried(_)
            | Response::Bypass(_)) => Ok(response),
        }
    }

    /// Asks for something that the core answers directly.
    pub(crate) fn reply(&mut self, request: Request) -> Result<Reply, Failure> {
        match self.ask(request)? {
            Response::Reply(reply) => Ok(reply),
            Response::Added { .. }
            | Response::PasswordSet { .. }
            | Response::Enrolled { .. }
            | Response::BackedUp { .. }
            | Response::Authority(_)
            | Response::Link(_)
            | Response::Reach(_)
            | Response::Carried(_)
            | Response::Bypass(_)
            | Response::Failed(_) => Err(confused()),
        }
    }

    /// Whether a node runs.
    pub(crate) fn runs(&self) -> bool {
        matches!(self, Self::Running(_))
    }
}

/// An answer to another question.
pub(crate) fn confused() -> Failure {
    crate::admin::service::ServiceError::Confused.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Line::command().debug_assert();
    }

    #[test]
    fn common_lines_are_understood() {
        for line in [
            "crosstalk",
            "crosstalk --data d",
            "crosstalk run --domain office.example --data d",
            "crosstalk account add juliet --password-stdin --data d --json",
            "crosstalk contact add --account juliet romeo@id.internal",
            "crosstalk requests",
            "crosstalk device add --account juliet --password-stdin",
            "crosstalk device join ABCD-EFGH --name juliet",
            "crosstalk device revoke couch",
            "crosstalk requests accept --account juliet romeo@id.internal",
            "crosstalk lookup romeo@office.example",
            "crosstalk doctor --json",
            "crosstalk backup /tmp/stick/node --json",
            "crosstalk restore /tmp/stick/node --data d",
            "crosstalk authority init school.example",
            "crosstalk authority user add alice",
            "crosstalk authority user import exports one.xml --host chat.school.example --dry-run --json",
            "crosstalk authority invite alice --days 3",
            "crosstalk authority key export /tmp/stick",
            "crosstalk authority backup /tmp/stick/school",
            "crosstalk authority restore /tmp/stick/school --json",
            "crosstalk authority audit --most 5 --json",
            "crosstalk authority directory",
            "crosstalk account directory alice full-name",
            "crosstalk authority domain introduce office.example --well-known",
            "crosstalk authority domain withdraw office.example",
            "crosstalk authority domain document",
            "crosstalk domain list --json",
            "crosstalk domain trust office.example 00ff",
            "crosstalk domain fetch office.example",
            "crosstalk enrol alice@school.example --password-stdin",
        ] {
            assert!(Line::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        assert!(Line::try_parse_from(["crosstalk", "frobnicate"]).is_err());
    }
}
