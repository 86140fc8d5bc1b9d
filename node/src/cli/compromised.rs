//! `crosstalk account compromised`: the end of an address whose key was stolen.

use std::net::SocketAddr;

use super::device::must_run;
use super::failure::Failure;
use super::{Node, account, output, prompt};
use crate::admin::{Opener, Request};

/// How the key is opened, and whether it was said that it is meant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opened {
    pub(super) password_stdin: bool,
    pub(super) recovery_stdin: bool,
    pub(super) yes: bool,
}

/// Ends the address and shows the new account.
pub(super) fn execute(
    node: &mut Node,
    name: &str,
    how: Opened,
    server: SocketAddr,
    json: bool,
) -> Result<(), Failure> {
    must_run(node, "and others have to hear of it")?;
    if !how.yes && !is_meant(name)? {
        output::line("Nothing was changed.");
        return Ok(());
    }
    let opener = opener(name, how)?;
    let made = node.ask(Request::Compromised { account: name.to_owned(), opener })?;
    if !json {
        output::line(
            "The old address is void: whoever has it in a contact list is warned, nothing from it is believed, and its \
             messages are removed here. Leave this node running for some minutes, so that others learn of it. Your contacts are \
             asked anew from your new address; tell them face to face that it is yours.",
        );
    }
    account::show_made(made, server, json)
}

fn is_meant(name: &str) -> Result<bool, Failure> {
    if !prompt::is_terminal() {
        return Err(Failure::Usage("ending an address cannot be undone: say --yes if it shall be ended"));
    }
    prompt::confirm(&format!(
        "End the address of {name} for ever, on all its laptops, and warn all contacts? You get a new one. [y/N] "
    ))
}

fn opener(name: &str, how: Opened) -> Result<Opener, Failure> {
    if how.recovery_stdin {
        return prompt::stdin_line().map(Opener::Recovery);
    }
    if how.password_stdin {
        return prompt::stdin_line().map(Opener::Password);
    }
    if !prompt::is_terminal() {
        return Err(Failure::Usage(
            "there is no terminal to ask for the password: say --password-stdin or --recovery-stdin",
        ));
    }
    if let Some(password) = prompt::secret(&format!("Password of {name} (empty: by the recovery code): "))? {
        return Ok(Opener::Password(password));
    }
    prompt::secret("Recovery code: ")?.map(Opener::Recovery).ok_or(Failure::Usage(
        "the key signs its own end, so it has to be opened: type the password or the recovery code",
    ))
}
