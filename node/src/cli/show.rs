//! What to type into a chat program: for `account show`, for a new account, for the first run.

use std::io::IsTerminal;

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

use super::failure::Failure;
use super::{Node, confused, output};
use crate::admin::Request;
use crate::core::admin::{AccountView, Reply};
use crate::event_loop::clock::wall_millis;

/// Where chat programs of this machine find the node.
const SERVER: &str = "127.0.0.1";
/// The port that they know anyway.
const PORT: u16 = 5222;

/// `crosstalk account show NAME`
///
/// # Errors
/// When there is no such account, or the node cannot be asked.
pub(crate) fn execute(node: &mut Node, name: &str, json: bool) -> Result<(), Failure> {
    let request = Request::ShowAccount { account: name.to_owned() };
    let Reply::Account(account) = node.reply(request)? else { return Err(confused()) };
    if json {
        output::json(&account);
        return Ok(());
    }
    output::line(describe(&account, wall_millis()));
    let link = link(&account.jid);
    output::line(format!("\nOthers add this account with {link}"));
    if let Some(code) = qr(&link, std::io::stdout().is_terminal()) {
        output::line(code);
    }
    Ok(())
}

fn describe(account: &AccountView, now: u64) -> String {
    let names = match account.name_until {
        Some(until) => format!("\nname certificate ends {}", output::until(until, now)),
        None => String::new(),
    };
    format!(
        "{nickname}\n\
         address   {jid}\n\
         key       {xid}\n\
         nearby    {nearby}\n\
         device certificate ends {device}{names}\n\n{logins}",
        nickname = output::plain(&account.nickname),
        jid = account.jid,
        xid = account.xid,
        nearby = if account.visible { "shown to neighbours" } else { "hidden from neighbours" },
        device = output::until(account.device_until, now),
        logins = logins(&account.login),
    )
}

/// What to type, program by program.
fn logins(login: &str) -> String {
    let (name, domain) = login.split_once('@').unwrap_or((login, ""));
    format!(
        "To log in on this machine, with the account's password:\n\
         Gajim      Add account, {login}; Advanced: hostname {SERVER}, port {PORT}\n\
         Dino       Add account, {login}; then, in its settings: server {SERVER}, port {PORT}\n\
         Pidgin     XMPP, username {name}, domain {domain}; Advanced: connect server {SERVER}, port {PORT}\n\
         Psi+       {login}; Connection: manually specify {SERVER}, port {PORT}\n\
         Profanity  /connect {login} server {SERVER} port {PORT} tls trust\n\
         mcabber    in ~/.mcabberrc: set jid = {login}, set server = {SERVER}, set port = {PORT}, set tls = 1, set ssl_ignore_checks = 1\n\
         The certificate was made by this node: accept it when you are asked."
    )
}

/// What a new account's owner has to know, once.
pub(crate) fn welcome(login: &str, password: Option<&str>, recovery: &str) -> String {
    let password = password.map_or_else(|| "the one you chose".to_owned(), str::to_owned);
    format!(
        "To log in with a chat program (XMPP) on this machine:\n\
         \x20 address        {login}\n\
         \x20 server         {SERVER}, port {PORT}\n\
         \x20 password       {password}\n\
         \x20 recovery code  {recovery}\n\
         Write password and recovery code down now: they are not shown again.\n\
         `crosstalk account show {name}` tells what to type into which program.",
        name = login.split('@').next().unwrap_or(login),
    )
}

/// An `xmpp:` link (RFC 5122) that adds a contact.
fn link(jid: &str) -> String {
    let escaped: String = jid.bytes().map(escape).collect();
    format!("xmpp:{escaped}?subscribe")
}

fn escape(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    }
}

/// The link as a QR code of half blocks; on a terminal black on white, whatever its colours are.
fn qr(link: &str, terminal: bool) -> Option<String> {
    let code = QrCode::new(link).ok()?;
    // Dark modules are blocks in the text colour, so that is made black.
    let drawn = code.render::<Dense1x2>().quiet_zone(true).build();
    if !terminal {
        return Some(drawn);
    }
    let coloured = drawn.lines().map(|line| format!("\u{1b}[30;107m{line}\u{1b}[0m"));
    Some(coloured.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_escaped() {
        assert_eq!(link("juliet@id.internal"), "xmpp:juliet@id.internal?subscribe");
        assert_eq!(link("zoë@id.internal"), "xmpp:zo%C3%AB@id.internal?subscribe");
    }

    #[test]
    fn a_code_is_drawn_for_the_longest_address_of_a_key() {
        let xid = format!("00{}@id.internal", "a".repeat(64));
        let code = qr(&link(&xid), false).expect("drawn");
        assert!(code.lines().count() > 10 && code.lines().count() < 40);
        assert!(qr(&link(&xid), true).expect("drawn").contains("\u{1b}[30;107m"));
    }

    #[test]
    fn every_program_is_told_server_and_port() {
        let text = logins("juliet@id.internal");
        assert!(
            text.lines().filter(|line| line.contains(SERVER) && line.contains("5222")).count() >= 6,
            "{text}"
        );
        assert!(welcome("juliet@id.internal", Some("secret"), "CODE").contains("secret"));
    }
}
