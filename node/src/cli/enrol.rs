//! `crosstalk enrol`: this laptop becomes one of a user of a domain.

use std::net::SocketAddr;
use std::time::Duration;

use crosstalk_overlay::enrol::Invitation;

use super::device::PasswordArgs;
use super::failure::Failure;
use super::{Node, confused, output, prompt};
use crate::admin::{Request, Response, Secret};
use crate::core::admin::Reply;
use crate::core::sync::server::ServerView;

/// Shortest password that may be chosen for an account whose sealed key lies at a server, signs.
const SHORTEST: usize = 8;
/// From one look at how far the contact list is to the next.
const LOOK: Duration = Duration::from_millis(250);
/// How long a person is kept waiting while nothing of it comes.
const PATIENCE: Duration = Duration::from_secs(20);

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
    // Whoever is new has no contacts that could come from there, or go.
    let is_alone = is_new && args.account.is_none();
    let request = Request::Enrol { to, server: args.server, password, account: args.account };
    let Response::Enrolled { account, recovery, again } = node.ask(request)? else { return Err(confused()) };
    if json {
        output::json(&serde_json::json!({ "account": account, "recovery": recovery, "again": again }));
        return Ok(());
    }
    if again {
        output::line(format!(
            "{} has that server from now on. Account, contacts, history and the password on this laptop stay as they are, and what the \
             server lacks it is told.",
            account.login
        ));
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
    if !is_alone {
        follow(node, &account.jid, &output::Progress::new(json))?;
    }
    Ok(())
}

/// Shows a person how far the contact list is, until laptop and server have the same. It comes also where nobody looks on.
fn follow(node: &mut Node, address: &str, progress: &output::Progress) -> Result<(), Failure> {
    let mut looks = Looks { progress: None, idle: Duration::ZERO };
    while progress.is_shown() {
        let Reply::Status(status) = node.reply(Request::Status)? else { return Err(confused()) };
        let server = status.servers.iter().find(|server| server.address == address);
        let (text, is_last) = looks.next(server);
        progress.say(&text);
        if is_last {
            progress.end();
            break;
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// What was seen of a contact list on its way.
struct Looks {
    progress: Option<(usize, usize)>,
    /// How long it has been that, about.
    idle: Duration,
}

impl Looks {
    /// What to say now, and whether it is the last word.
    fn next(&mut self, server: Option<&ServerView>) -> (String, bool) {
        let Some(server) = server else { return (LATER.to_owned(), true) };
        if server.synced > 0 {
            return ("Contact list: all of it, as the server has it.".to_owned(), true);
        }
        self.idle += LOOK;
        if server.progress.is_some() && server.progress != self.progress {
            (self.progress, self.idle) = (server.progress, Duration::ZERO);
        }
        if server.state == "refused" || self.idle > PATIENCE {
            return (LATER.to_owned(), true);
        }
        let far = self.progress.map_or_else(|| "…".to_owned(), output::done_of);
        (format!("Contact list: {far}"), false)
    }
}

const LATER: &str =
    "Contact list: not all of it yet. It comes by itself; `crosstalk status` says how the server stands.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_told_how_far_it_is_and_not_kept_waiting_for_a_server_that_is_gone() {
        let view = |progress| ServerView { progress, ..ServerView::default() };
        let going_on = |text: &str| (format!("Contact list: {text}"), false);
        let patience = PATIENCE.as_millis() / LOOK.as_millis();
        let mut looks = Looks { progress: None, idle: Duration::ZERO };
        for _ in 0..patience {
            assert_eq!(looks.next(Some(&view(None))), going_on("…"));
        }
        assert_eq!(looks.next(Some(&view(Some((1_200, 5_003))))), going_on("1,200 of 5,003"));
        // Between two passes nothing is under way; a slow line is not one that is cut.
        for _ in 0..patience {
            assert_eq!(looks.next(Some(&view(None))), going_on("1,200 of 5,003"));
        }
        for _ in 0..=patience {
            assert_eq!(looks.next(Some(&view(Some((2_000, 5_003))))), going_on("2,000 of 5,003"));
        }
        assert_eq!(looks.next(Some(&view(Some((2_000, 5_003))))), (LATER.to_owned(), true));
        let refused = ServerView { state: "refused".to_owned(), ..view(None) };
        let mut looks = Looks { progress: None, idle: Duration::ZERO };
        assert_eq!(looks.next(Some(&refused)), (LATER.to_owned(), true));
        let whole = ServerView { synced: 1, ..view(None) };
        assert!(looks.next(Some(&whole)).1);
    }
}
