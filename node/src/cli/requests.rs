//! `crosstalk requests`: who asks to see whom, and has no answer yet.

use clap::Subcommand;

use super::contact::{Of, whose};
use super::failure::Failure;
use super::{Node, account, confused, output};
use crate::admin::Request;
use crate::core::admin::Reply;
use crate::core::requests::RequestView;
use crate::event_loop::clock::wall_millis;

/// What can be done with requests.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Let somebody who asks see the account's presence
    Accept {
        #[command(flatten)]
        of: Of,
        /// Who asks
        jid: String,
    },
    /// Do not; the other is told
    Refuse {
        #[command(flatten)]
        of: Of,
        /// Who asks
        jid: String,
    },
}

/// Shows or answers requests. One of ours is taken back by `crosstalk contact remove`.
///
/// # Errors
/// When nobody of that name asks, or the node cannot be asked.
pub(crate) fn execute(args: Args, node: &mut Node, json: bool) -> Result<(), Failure> {
    match args.command {
        None => list(node, json),
        Some(Command::Accept { of, jid }) => answer(node, of, jid, true, json),
        Some(Command::Refuse { of, jid }) => answer(node, of, jid, false, json),
    }
}

fn answer(node: &mut Node, of: Of, jid: String, accept: bool, json: bool) -> Result<(), Failure> {
    let text = match accept {
        true => format!("{jid} may see you now; that is told when it is met."),
        false => format!("{jid} is refused; that is told when it is met."),
    };
    let account = whose(node, of)?;
    account::done(node, Request::AnswerRequest { account, jid, accept }, &text, json)
}

fn list(node: &mut Node, json: bool) -> Result<(), Failure> {
    let Reply::Requests(requests) = node.reply(Request::Requests)? else { return Err(confused()) };
    if json {
        output::json(&requests);
        return Ok(());
    }
    let now = wall_millis();
    let rows: Vec<Vec<String>> = requests.into_iter().map(|request| row(request, now)).collect();
    let headings = ["ACCOUNT", "", "ADDRESS", "SINCE", "STATE"];
    output::table(&headings, &rows, "No request waits for an answer.");
    Ok(())
}

fn row(request: RequestView, now: u64) -> Vec<String> {
    let incoming = request.direction == "in";
    let state = match (incoming, request.expires) {
        (true, _) => "answer it: crosstalk requests accept or refuse".to_owned(),
        (false, Some(expires)) => {
            format!("waits for the other, given up {}", output::until(expires, now))
        }
        (false, None) if request.state == "sought" => {
            "waits until somebody with this name is found".to_owned()
        }
        (false, None) => "delivered, not answered".to_owned(),
    };
    vec![
        request.account,
        if incoming { "is asked by" } else { "asks" }.to_owned(),
        request.jid,
        output::ago(request.since, now),
        state,
    ]
}
