//! What a node does and says when it has started: the first account, certificates that run out, how to log in.

use std::fmt::Write;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::Path;

use crosstalk_overlay::id::UserId;

use crate::accounts::RENEW_BEFORE;
use crate::accounts::key_dir::write_synced;
use crate::admin::service::{Service, ServiceError, done, unexpected};
use crate::c2s::FrontDoor;
use crate::cli::failure::Failure;
use crate::cli::{output, show};
use crate::config::Config;
use crate::core::admin::{AccountView, Command, Reply};
use crate::core::settings::LinkMode;
use crate::event_loop::clock::wall_millis;
use crate::run::person;

/// Where the first login is left when there is no terminal.
const NOTE: &str = "first-login.txt";
/// Accounts that are named at the start; of more, the number.
const NAMED: usize = 5;

/// Makes the first account if there is none, renews what the node can renew by itself, and says that it is ready.
///
/// # Errors
/// When the first account cannot be made.
pub(crate) async fn say(
    service: &Service,
    config: &Config,
    data: &Path,
    door: &FrontDoor,
) -> Result<(), Failure> {
    let accounts = accounts(service).await?;
    if accounts.is_empty() {
        let added = service.add(person(), None, None).await?;
        let password = added.password.as_ref().map(|password| password.as_str());
        let welcome =
            show::welcome(&added.account.login, show::server(&door.listen), password, &added.recovery);
        output::line(match std::io::stdout().is_terminal() {
            true => welcome,
            false => leave_note(data, &welcome)?,
        });
    } else {
        output::line(known(&accounts));
        renew(service, &accounts).await;
    }
    output::line(ready(config, &door.listen));
    Ok(())
}

/// Nobody reads this on a terminal, and what is printed may end in a log: the first login is left in a file.
fn leave_note(data: &Path, welcome: &str) -> Result<String, Failure> {
    let note = data.join(NOTE);
    write_synced(&note, welcome.as_bytes())
        .map_err(Failure::system("cannot leave the first login in the data directory"))?;
    Ok(format!(
        "How to log in is written in {}, readable by you only: read it and delete it.",
        note.display()
    ))
}

async fn accounts(service: &Service) -> Result<Vec<AccountView>, ServiceError> {
    let reply = service.ask(Command::ListAccounts).await?;
    let Reply::Accounts(accounts) = reply else { return Err(unexpected(reply)) };
    Ok(accounts)
}

fn known(accounts: &[AccountView]) -> String {
    let names: Vec<&str> = accounts.iter().take(NAMED).map(|account| account.login.as_str()).collect();
    let more = accounts.len() - names.len();
    let mut text = format!("Log in as {}", names.join(", "));
    if more > 0 {
        let _ = write!(text, " and {more} more");
    }
    text
}

fn ready(config: &Config, listen: &[SocketAddr]) -> String {
    let chat: Vec<String> = listen.iter().map(ToString::to_string).collect();
    let faces: Vec<String> =
        config.irc.listen.iter().chain(&config.irc.tls).map(ToString::to_string).collect();
    let irc = match faces.is_empty() {
        true => String::new(),
        false => format!(", by IRC at {} (server password NAME:PASSWORD)", faces.join(" and ")),
    };
    let neighbours = match config.overlay.mdns {
        true => "nodes on this network are found by themselves",
        false => "mDNS is off, nodes on this network are not looked for",
    };
    let bonjour = match config.link.mode {
        LinkMode::Announce => {
            "; who logs in is announced to Bonjour chat programs (`[link]` in the settings)"
        }
        LinkMode::Listen | LinkMode::Off => "",
    };
    format!(
        "Ready: chat programs at {}{irc}, other nodes at port {}; {neighbours}{bonjour}. Ctrl-C stops.",
        chat.join(" and "),
        config.overlay.port
    )
}

/// Names are certified anew by the node's own authority; devices only with the owner's password.
async fn renew(service: &Service, accounts: &[AccountView]) {
    let soon = wall_millis().saturating_add(RENEW_BEFORE);
    for account in accounts {
        if account.name_until.is_some_and(|until| until < soon)
            && let Err(error) = renew_name(service, account).await
        {
            tracing::warn!("the name of {} could not be certified anew: {error}", account.login);
        }
        if account.device_until < soon {
            tracing::warn!(
                "the device certificate of {} ends soon: renew it with `crosstalk account password {}`, giving the earlier password or the recovery code",
                account.login,
                account.name
            );
        }
    }
}

async fn renew_name(service: &Service, account: &AccountView) -> Result<(), ServiceError> {
    let xid = account.xid.split('@').next().unwrap_or_default();
    let Some(user) = UserId::from_xid(xid) else { return Err(ServiceError::Confused) };
    let name_cert = service.accounts().certify_name(&account.name, user, wall_millis())?;
    done(service.ask(Command::Renew { user, device_cert: None, name_cert }).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_names_the_ports() {
        let listen = [SocketAddr::from(([127, 0, 0, 1], 5222))];
        let mut config = Config::default();
        assert!(
            ready(&config, &listen).contains("127.0.0.1:5222") && ready(&config, &listen).contains("14774")
        );
        assert!(ready(&config, &listen).contains("Bonjour"));
        assert!(!ready(&config, &listen).contains("IRC"));
        config.irc.listen = vec![SocketAddr::from(([127, 0, 0, 1], 6667))];
        assert!(ready(&config, &listen).contains("by IRC at 127.0.0.1:6667 (server password NAME:PASSWORD)"));
        config.overlay.mdns = false;
        config.link.mode = LinkMode::Off;
        let text = ready(&config, &listen);
        assert!(text.contains("mDNS is off") && !text.contains("Bonjour"), "{text}");
    }
}
