//! `crosstalk account …`

use std::net::SocketAddr;

use clap::Subcommand;
use crosstalk_overlay::id::UserId;
use serde::Serialize;

use super::compromised::Opened;
use super::failure::Failure;
use super::{Node, compromised, confused, output, prompt, show};
use crate::admin::{Opener, Request, Response, Secret, service};
use crate::core::admin::{AccountView, Reply};
use crate::core::directory::{ListingView, Show};
use crate::core::settings::LinkMode;
use crate::event_loop::clock::wall_millis;

/// What can be done with accounts.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make an account; prints how to log in and the recovery code, once
    Add {
        /// Login name
        name: String,
        /// Take the password from the first line of stdin
        #[arg(long)]
        password_stdin: bool,
        /// Name shown to others [default: the login name]
        #[arg(long, value_name = "TEXT")]
        nickname: Option<String>,
    },
    /// All accounts
    List,
    /// How to log in to an account, for the common chat programs, with a QR code
    Show {
        /// Login name or address
        name: String,
    },
    /// Change a password
    Password {
        /// Login name or address
        name: String,
        /// Take the new password from a line of stdin
        #[arg(long)]
        password_stdin: bool,
        /// Take the recovery code from the next line of stdin, to seal the user key under the new password
        #[arg(long)]
        recovery_stdin: bool,
    },
    /// Remove an account with its keys, contacts and messages
    Remove {
        /// Login name or address
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// End the address of an account whose user key was stolen (the file with the password, or an opened key): it signs
    /// that nobody is to believe it any more, all contacts are warned, and you get a new address
    Compromised {
        /// Login name or address
        name: String,
        /// Take the password from the first line of stdin
        #[arg(long, conflicts_with = "recovery_stdin")]
        password_stdin: bool,
        /// Take the recovery code from the first line of stdin instead
        #[arg(long)]
        recovery_stdin: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Do not show an account to neighbours
    Hide {
        /// Login name or address
        name: String,
    },
    /// Show an account to neighbours again
    Unhide {
        /// Login name or address
        name: String,
    },
    /// Choose what people with Bonjour chat programs (XEP-0174) on the link see of an account
    Link {
        /// Login name or address
        name: String,
        /// announce: it is announced; listen: it sees them and is not announced; off: neither
        #[arg(value_parser = ["announce", "listen", "off"])]
        mode: String,
    },
    /// Choose whether the users of your domain find an account in the directory of its server, and what they see; without a choice:
    /// how it is, and what would be seen
    Directory {
        /// Login name or address
        name: String,
        /// off: nothing, it does not stand there; nickname: address and nickname; full-name: the full name of the vCard, too
        #[arg(value_parser = ["off", "nickname", "full-name"])]
        show: Option<String>,
    },
    /// Change the name that is shown to others
    Nickname {
        /// Login name or address
        name: String,
        /// The new name
        text: String,
    },
}

/// Carries out a command.
///
/// # Errors
/// When the node refuses, or cannot be asked.
pub(crate) fn execute(
    command: &Command,
    node: &mut Node,
    server: SocketAddr,
    json: bool,
) -> Result<(), Failure> {
    match command {
        Command::Add { name, password_stdin, nickname } => {
            add(node, name, *password_stdin, nickname.clone(), server, json)
        }
        Command::List => list(node, json),
        Command::Show { name } => show::execute(node, name, server, json),
        Command::Password { name, password_stdin, recovery_stdin } => {
            password(node, name, *password_stdin, *recovery_stdin, json)
        }
        Command::Remove { name, yes } => remove(node, name, *yes, json),
        Command::Compromised { name, password_stdin, recovery_stdin, yes } => {
            let opener =
                Opened { password_stdin: *password_stdin, recovery_stdin: *recovery_stdin, yes: *yes };
            compromised::execute(node, name, opener, server, json)
        }
        Command::Hide { name } => profile(node, name, None, Some(false), json),
        Command::Unhide { name } => profile(node, name, None, Some(true), json),
        Command::Link { name, mode } => link(node, name, mode, json),
        Command::Directory { name, show } => directory(node, name, show.as_deref(), json),
        Command::Nickname { name, text } => profile(node, name, Some(text.clone()), None, json),
    }
}

/// A new account, for programs.
#[derive(Serialize)]
struct Made<'a> {
    #[serde(flatten)]
    account: &'a AccountView,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
    recovery_code: &'a str,
}

fn add(
    node: &mut Node,
    name: &str,
    password_stdin: bool,
    nickname: Option<String>,
    server: SocketAddr,
    json: bool,
) -> Result<(), Failure> {
    let password = match password_stdin {
        true => Some(prompt::stdin_line()?),
        false if prompt::is_terminal() => prompt::new_password()?,
        false => None,
    };
    let request = Request::AddAccount { name: name.to_owned(), password, nickname };
    show_made(node.ask(request)?, server, json)
}

/// Shows what was made, secrets and all: this once.
pub(super) fn show_made(response: Response, server: SocketAddr, json: bool) -> Result<(), Failure> {
    let Response::Added { account, password, recovery } = response else { return Err(confused()) };
    let password = password.as_ref().map(Secret::reveal);
    if json {
        output::json(&Made { account: &account, password, recovery_code: recovery.reveal() });
    } else {
        output::line(show::welcome(&account.login, server, password, recovery.reveal()));
    }
    Ok(())
}

fn list(node: &mut Node, json: bool) -> Result<(), Failure> {
    let Reply::Accounts(accounts) = node.reply(Request::ListAccounts)? else { return Err(confused()) };
    if json {
        output::json(&accounts);
        return Ok(());
    }
    let now = wall_millis();
    let rows: Vec<Vec<String>> = accounts.into_iter().map(|account| row(account, now)).collect();
    let headings = ["LOGIN", "ADDRESS", "NICKNAME", "NEARBY", "ONLINE", "WAITING", "MADE"];
    output::table(&headings, &rows, "No accounts yet: `crosstalk account add NAME` makes one.");
    Ok(())
}

/// An address that is a key, cut to what people compare at a glance; `account show` has all of it.
fn short(jid: String) -> String {
    match jid.split_once('@') {
        Some((key, domain)) if UserId::from_xid(key).is_some() => format!("{}…@{domain}", &key[..10]),
        Some(_) | None => jid,
    }
}

fn row(account: AccountView, now: u64) -> Vec<String> {
    vec![
        account.login,
        short(account.jid),
        account.nickname,
        if account.visible { "shown" } else { "hidden" }.to_owned(),
        account.sessions.to_string(),
        account.waiting.to_string(),
        output::ago(account.created, now),
    ]
}

fn password(
    node: &mut Node,
    name: &str,
    password_stdin: bool,
    recovery_stdin: bool,
    json: bool,
) -> Result<(), Failure> {
    let ask = prompt::is_terminal() && !password_stdin && !recovery_stdin;
    let password = match password_stdin {
        true => Some(prompt::stdin_line()?),
        false if ask => prompt::new_password()?,
        false => None,
    };
    let opener = match recovery_stdin {
        true => Some(Opener::Recovery(prompt::stdin_line()?)),
        false if ask => prompt::secret("Earlier password (empty: not known): ")?.map(Opener::Password),
        false => None,
    };
    let request = Request::SetPassword { account: name.to_owned(), password, opener };
    let Response::PasswordSet { password, resealed, server } = node.ask(request)? else {
        return Err(confused());
    };
    let password = password.as_ref().map(Secret::reveal);
    if json {
        output::json(
            &serde_json::json!({ "account": name, "password": password, "resealed": resealed, "server": server && resealed }),
        );
        return Ok(());
    }
    output::line(format!("The password of {name} is changed."));
    if let Some(password) = password {
        output::line(format!("  password  {password}"));
    }
    if server && resealed {
        output::line(
            "The server of your domain learns of it when it is met next (`crosstalk status`): further laptops are enrolled with \
             it from then on. On the other laptops that you have, change it, too.",
        );
    }
    if server && !resealed {
        output::line(
            "At the server of your domain the earlier password goes on to count, for further laptops: to change it there, too, \
             run this again and type the earlier password, or the recovery code, when asked.",
        );
    }
    if !resealed {
        output::line(
            "The user key stays sealed under the earlier password: keep that, or the recovery code, for renewals.",
        );
    }
    Ok(())
}

fn remove(node: &mut Node, name: &str, yes: bool, json: bool) -> Result<(), Failure> {
    if !yes {
        if !prompt::is_terminal() {
            return Err(Failure::Usage(
                "removing an account cannot be undone: say --yes if it shall be removed",
            ));
        }
        if !prompt::confirm(&format!("Remove {name} with its keys, contacts and messages, for ever? [y/N] "))?
        {
            output::line("Nothing was removed.");
            return Ok(());
        }
    }
    done(node, Request::RemoveAccount { account: name.to_owned() }, &format!("{name} is removed."), json)
}

fn profile(
    node: &mut Node,
    name: &str,
    nickname: Option<String>,
    visible: Option<bool>,
    json: bool,
) -> Result<(), Failure> {
    let text = match (&nickname, visible) {
        (Some(nickname), _) => format!("{name} is shown as {} from now on.", output::plain(nickname)),
        (None, Some(true)) => format!("Neighbours see {name} again."),
        (None, _) => format!("Neighbours no longer see {name}."),
    };
    done(node, Request::SetProfile { account: name.to_owned(), nickname, visible }, &text, json)
}

fn link(node: &mut Node, name: &str, mode: &str, json: bool) -> Result<(), Failure> {
    let (mode, text) = match mode {
        "announce" => (LinkMode::Announce, "is announced on the link when available"),
        "listen" => (LinkMode::Listen, "sees Bonjour people on the link and is not announced to them"),
        _ => (LinkMode::Off, "neither sees Bonjour people nor is announced to them"),
    };
    done(node, Request::SetLink { account: name.to_owned(), mode }, &format!("{name} {text}."), json)
}

fn directory(node: &mut Node, name: &str, show: Option<&str>, json: bool) -> Result<(), Failure> {
    let show = show.and_then(Show::from_name);
    let request = Request::Listing { account: name.to_owned(), show };
    let Reply::Listing(view) = node.reply(request)? else { return Err(confused()) };
    if json {
        output::json(&view);
        return Ok(());
    }
    let seen = |show| output::plain(&view.seen(show));
    let ListingView { address, directory, shown, held, .. } = &*view;
    match directory {
        Some(domain) => {
            output::line(format!("The directory of {domain} shows of {address}: {}", seen(*shown)))
        }
        None => output::line(format!("There is no directory for {address}, as far as is known here.")),
    }
    if *held {
        output::line("The server has not heard of that yet: it will when it is met (`crosstalk status`).");
    }
    if directory.is_some() && *shown == Show::Off {
        output::line(format!(
            "With `nickname` users of the domain would find: {}\nWith `full-name`: {}",
            seen(Show::Nickname),
            seen(Show::FullName)
        ));
    }
    Ok(())
}

/// Asks for a change and says that it is made.
pub(super) fn done(node: &mut Node, request: Request, text: &str, json: bool) -> Result<(), Failure> {
    service::done(Ok(node.reply(request)?))?;
    output::line(if json { "{\"ok\":true}" } else { text });
    Ok(())
}
