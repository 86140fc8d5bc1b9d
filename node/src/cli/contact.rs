//! `crosstalk contact …`

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::{Node, account, confused, output};
use crate::admin::Request;
use crate::core::admin::{ContactView, Reply};
use crate::event_loop::clock::wall_millis;

/// What can be done with a contact list.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The contact list
    List {
        /// Whose list.
        #[command(flatten)]
        of: Of,
    },
    /// Add a contact and ask to see its presence
    Add {
        /// Whose list.
        #[command(flatten)]
        of: Of,
        /// The contact's address
        jid: String,
        /// Name in the list
        #[arg(long, value_name = "TEXT")]
        name: Option<String>,
    },
    /// Keep a contact that another of your laptops has removed: ends that conflict
    Keep {
        /// Whose list.
        #[command(flatten)]
        of: Of,
        /// The contact's address
        jid: String,
    },
    /// Remove a contact; neither sees the other's presence any more
    Remove {
        /// Whose list.
        #[command(flatten)]
        of: Of,
        /// The contact's address
        jid: String,
    },
}

/// Whose list.
#[derive(Debug, Args)]
pub struct Of {
    /// Login name or address of the account [default: the only one]
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
}

/// Carries out a command.
///
/// # Errors
/// When the node refuses, or cannot be asked.
pub(crate) fn execute(command: Command, node: &mut Node, json: bool) -> Result<(), Failure> {
    match command {
        Command::List { of } => {
            let account = whose(node, of)?;
            list(node, account, json)
        }
        Command::Add { of, jid, name } => {
            let text = format!("{jid} is added; its answer may take until it is seen.");
            let account = whose(node, of)?;
            account::done(node, Request::AddContact { account, jid, name }, &text, json)
        }
        Command::Keep { of, jid } => {
            let text = format!("{jid} stays in the list.");
            let account = whose(node, of)?;
            account::done(node, Request::KeepContact { account, jid }, &text, json)
        }
        Command::Remove { of, jid } => {
            let text = format!("{jid} is removed.");
            let account = whose(node, of)?;
            account::done(node, Request::RemoveContact { account, jid }, &text, json)
        }
    }
}

pub(super) fn whose(node: &mut Node, of: Of) -> Result<String, Failure> {
    if let Some(account) = of.account {
        return Ok(account);
    }
    let Reply::Accounts(accounts) = node.reply(Request::ListAccounts)? else { return Err(confused()) };
    match <[_; 1]>::try_from(accounts) {
        Ok([only]) => Ok(only.login),
        Err(_) => Err(Failure::Usage("this node has not exactly one account: say which with --account NAME")),
    }
}

fn list(node: &mut Node, account: String, json: bool) -> Result<(), Failure> {
    let Reply::Contacts(contacts) = node.reply(Request::Contacts { account })? else {
        return Err(confused());
    };
    if json {
        output::json(&contacts);
        return Ok(());
    }
    let now = wall_millis();
    let conflicts: Vec<String> = contacts.iter().filter_map(|contact| contact.conflict.clone()).collect();
    let rows: Vec<Vec<String>> = contacts.into_iter().map(|contact| row(contact, now)).collect();
    let headings = ["ADDRESS", "NAME", "GROUPS", "SUBSCRIPTION", "TIER", "SEEN"];
    output::table(&headings, &rows, "No contacts yet: `crosstalk contact add ADDRESS` adds one.");
    conflicts.iter().for_each(|conflict| output::line(format!("CONFLICT: {}", output::plain(conflict))));
    Ok(())
}

fn row(contact: ContactView, now: u64) -> Vec<String> {
    let asked = match (contact.ask, contact.pending_in) {
        (true, _) => ", asked",
        (false, true) => ", asks",
        (false, false) => "",
    };
    let seen = match (contact.online, contact.last_seen) {
        (true, _) => "online".to_owned(),
        (false, Some(then)) => output::ago(then, now),
        (false, None) => "never".to_owned(),
    };
    vec![
        contact.jid,
        contact.name.unwrap_or_default(),
        contact.groups.join(", "),
        contact.subscription + asked,
        contact.tier,
        seen,
    ]
}
