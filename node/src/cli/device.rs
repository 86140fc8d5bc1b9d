//! `crosstalk device …`: the laptops of one account.

use std::io::IsTerminal;
use std::net::SocketAddr;

use clap::{Args, Subcommand};

use super::contact::{Of, whose};
use super::failure::Failure;
use super::{Node, account, confused, output, prompt, show};
use crate::admin::{Request, Secret};
use crate::core::admin::Reply;
use crate::core::devices::DeviceView;
use crate::event_loop::clock::wall_millis;

/// Signs of a device's key that are shown.
const SHOWN: usize = 8;

/// What can be done with the laptops of an account.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a code by which another laptop becomes a device of an account, for ten minutes
    Add {
        /// Of which account.
        #[command(flatten)]
        of: Of,
        /// How the password comes.
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Make this laptop a device of the account behind a code
    Join {
        /// The code that `crosstalk device add` shows on the other laptop [default: it is asked for]
        code: Option<String>,
        /// Login name here [default: as on the other laptop]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// How the password comes.
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// The laptops of an account
    List {
        /// Of which account.
        #[command(flatten)]
        of: Of,
    },
    /// End a laptop that is lost: nobody sends to it or takes anything from it any more
    Revoke {
        /// Its name, or the beginning of its key, as `crosstalk device list` shows them
        device: String,
        /// Of which account.
        #[command(flatten)]
        of: Of,
        /// How the password comes.
        #[command(flatten)]
        password: PasswordArgs,
    },
}

/// How a password comes.
#[derive(Debug, Args)]
pub struct PasswordArgs {
    /// Take the account's password from the first line of stdin
    #[arg(long)]
    pub(super) password_stdin: bool,
}

impl PasswordArgs {
    pub(super) fn ask(&self, question: &str) -> Result<Secret, Failure> {
        match self.password_stdin {
            true => prompt::stdin_line(),
            false if prompt::is_terminal() => prompt::secret(question)?.ok_or(Failure::Usage(
                "nothing can be done without the password: type it, nothing was changed",
            )),
            false => {
                Err(Failure::Usage("there is no terminal to ask for the password: say --password-stdin"))
            }
        }
    }
}

/// Carries out a command.
///
/// # Errors
/// When the node refuses, or cannot be asked.
pub(crate) fn execute(
    command: Command,
    node: &mut Node,
    server: SocketAddr,
    json: bool,
) -> Result<(), Failure> {
    match command {
        Command::Add { of, password } => add(node, of, &password, json),
        Command::Join { code, name, password } => join(node, code, name, &password, server, json),
        Command::List { of } => list(node, of, json),
        Command::Revoke { device, of, password } => {
            let account = whose(node, of)?;
            let password = password.ask(&format!("Password of {account}: "))?;
            let text = format!("{device} is revoked. Whoever learns that takes nothing from it any more.");
            account::done(node, Request::RevokeDevice { account, device, password }, &text, json)
        }
    }
}

/// Refuses without a running node, saying what it is needed for.
pub(super) fn must_run(node: &Node, why: &str) -> Result<(), Failure> {
    match node.runs() {
        true => Ok(()),
        false => Err(Failure::Refused(format!("no node runs here, {why}: start it with `crosstalk`"))),
    }
}

const REACHED: &str = "and the other laptop has to reach it";

fn add(node: &mut Node, of: Of, password: &PasswordArgs, json: bool) -> Result<(), Failure> {
    must_run(node, REACHED)?;
    let account = whose(node, of)?;
    let password = password.ask(&format!("Password of {account}: "))?;
    let Reply::Offered(offer) = node.reply(Request::AddDevice { account, password })? else {
        return Err(confused());
    };
    if json {
        output::json(&offer);
        return Ok(());
    }
    output::line(format!(
        "On the other laptop, in the same network, while its node runs:\n\n  crosstalk device join {code}\n\n\
         In another network, or scanned:\n\n  crosstalk device join {long}\n",
        code = offer.code.reveal(),
        long = offer.long_code.reveal(),
    ));
    if let Some(code) = show::qr(offer.long_code.reveal(), std::io::stdout().is_terminal()) {
        output::line(code);
    }
    output::line(format!(
        "The code is for one laptop and ends {}. Show it to nobody else: with the password it is the account.",
        output::until(offer.expires, wall_millis())
    ));
    Ok(())
}

fn join(
    node: &mut Node,
    code: Option<String>,
    name: Option<String>,
    password: &PasswordArgs,
    server: SocketAddr,
    json: bool,
) -> Result<(), Failure> {
    must_run(node, REACHED)?;
    let code = match code {
        Some(code) => Secret::from(code),
        None if password.password_stdin => prompt::stdin_line()?,
        None => prompt::secret("Code that the other laptop shows: ")?.ok_or(Failure::Usage(
            "no code was typed: `crosstalk device add` on the other laptop makes one",
        ))?,
    };
    let password = password.ask("Password of the account, as on the other laptop: ")?;
    if !json && prompt::is_terminal() {
        output::complain("Looking for the other laptop …");
    }
    let Reply::Account(made) = node.reply(Request::JoinDevice { code, password, name })? else {
        return Err(confused());
    };
    if json {
        output::json(&made);
        return Ok(());
    }
    output::line(format!(
        "This laptop is a device of {jid} now. Contacts and requests follow by themselves.\n         To log in here: {login}, server {host}, port {port}, with the same password.",
        jid = made.jid,
        login = made.login,
        host = server.ip(),
        port = server.port(),
    ));
    Ok(())
}

fn list(node: &mut Node, of: Of, json: bool) -> Result<(), Failure> {
    let account = whose(node, of)?;
    let Reply::Devices(devices) = node.reply(Request::Devices { account })? else { return Err(confused()) };
    if json {
        output::json(&devices);
        return Ok(());
    }
    let now = wall_millis();
    let rows: Vec<Vec<String>> = devices.into_iter().map(|device| row(device, now)).collect();
    output::table(&["NAME", "KEY", "SEEN", "CERTIFICATE"], &rows, "No devices.");
    Ok(())
}

fn row(device: DeviceView, now: u64) -> Vec<String> {
    let seen = match (device.here, device.live) {
        (true, _) => "this laptop".to_owned(),
        (false, true) => "connected".to_owned(),
        (false, false) => output::ago(device.said, now),
    };
    let mut key = device.device;
    key.truncate(SHOWN);
    vec![
        output::plain(&device.name).to_string(),
        key,
        seen,
        format!("ends {}", output::until(device.until, now)),
    ]
}
