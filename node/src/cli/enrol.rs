//! `crosstalk enrol`: this laptop becomes one of a user of a domain.

use std::net::SocketAddr;

use crosstalk_overlay::enrol::Invitation;

use super::device::PasswordArgs;
use super::failure::Failure;
use super::{Node, confused, output, prompt};
use crate::admin::{Request, Response, Secret};

/// Shortest password that may be chosen for an account whose sealed key lies at a server, signs.
const SHORTEST: usize = 8;

/// What to enrol with.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The link of an invitation; or, on a further laptop, your address NAME@DOMAIN [default: it is asked for]
    to: Option<String>,
    /// Give the name to this account of this laptop, which keeps its user key, contacts and history; its password is the
    /// one that is asked for [default: a further account]
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Where the server is, if it is in another network: NODE-ID@/ip4/ADDRESS/tcp/PORT
    #[arg(long, value_name = "PLACE")]
    server: Option<String>,
    /// How the password comes.
    #[command(flatten)]
    password: PasswordArgs,
}

/// Enrols.
///
/// # Errors
/// When the server refuses, or cannot be reached.
pub(crate) fn execute(args: Args, node: &mut Node, server: SocketAddr, json: bool) -> Result<(), Failure> {
    if !node.runs() {
        let text = "no node runs here, and the server has to be reached: start it with `crosstalk`";
        return Err(Failure::Refused(text.to_owned()));
    }
    let to = match args.to {
        Some(to) => Secret::from(to),
        None if args.password.password_stdin => prompt::stdin_line()?,
        None => prompt::secret("Invitation, or your address: ")?
            .ok_or(Failure::Usage("nothing was typed: whoever runs the server makes an invitation"))?,
    };
    let is_new = Invitation::is_meant(to.reveal());
    let password = args.password.ask(match is_new {
        _ if args.account.is_some() => "Password of that account: ",
        true => "Choose a password (8 signs at least; it will be asked for on every laptop of yours): ",
        false => "Your password at that server: ",
    })?;
    if is_new && password.reveal().chars().count() < SHORTEST {
        return Err(Failure::Usage(
            "that password is too short: take 8 signs at least, four words are better; nothing was changed",
        ));
    }
    if !json && prompt::is_terminal() {
        output::complain("Asking the server …");
    }
    let request = Request::Enrol { to, server: args.server, password, account: args.account };
    let Response::Enrolled { account, recovery } = node.ask(request)? else { return Err(confused()) };
    if json {
        output::json(&serde_json::json!({ "account": account, "recovery": recovery }));
        return Ok(());
    }
    output::line(format!(
        "You are {jid} on this laptop now. To log in here: {login}, server {host}, port {port}, with that password, also \
         while the server is away.",
        jid = account.jid,
        login = account.login,
        host = server.ip(),
        port = server.port(),
    ));
    if let Some(code) = recovery {
        output::line(format!(
            "\nRecovery code, for a forgotten password: {}\nWrite it down: it is shown only now.",
            code.reveal()
        ));
    }
    Ok(())
}
