//! What to type into a chat program: for `account show`, for a new account, for the first run.

use std::io::IsTerminal;
use std::net::SocketAddr;

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

use super::failure::Failure;
use super::{Node, confused, output};
use crate::admin::Request;
use crate::core::admin::{AccountView, Reply};
use crate::event_loop::clock::wall_millis;
use crate::features::delay::date;

/// Where a chat program on this machine finds the node, of the addresses that it listens at.
pub(crate) fn server(listen: &[SocketAddr]) -> SocketAddr {
    let usual = SocketAddr::from(([127, 0, 0, 1], 5222));
    match listen.iter().find(|address| address.is_ipv4()).or(listen.first()) {
        Some(address) if address.ip().is_unspecified() => SocketAddr::new(usual.ip(), address.port()),
        Some(address) => *address,
        None => usual,
    }
}

/// `crosstalk account show NAME`
///
/// # Errors
/// When there is no such account, or the node cannot be asked.
pub(crate) fn execute(node: &mut Node, name: &str, server: SocketAddr, json: bool) -> Result<(), Failure> {
    let request = Request::ShowAccount { account: name.to_owned() };
    let Reply::Account(account) = node.reply(request)? else { return Err(confused()) };
    if json {
        output::json(&account);
        return Ok(());
    }
    output::line(describe(&account, server, wall_millis()));
    let link = link(&account.jid);
    output::line(format!("\nOthers add this account with {link}"));
    if let Some(code) = qr(&link, std::io::stdout().is_terminal()) {
        output::line(code);
    }
    Ok(())
}

fn describe(account: &AccountView, server: SocketAddr, now: u64) -> String {
    let names = match account.name_until {
        Some(until) => format!("\ncertified until {}, {}", date(until), output::until(until, now)),
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
        logins = logins(&account.login, server),
    )
}

/// What to type, program by program.
fn logins(login: &str, server: SocketAddr) -> String {
    let (host, port) = (server.ip(), server.port());
    let (name, domain) = login.split_once('@').unwrap_or((login, ""));
    format!(
        "To log in on this machine, with the account's password:\n\
         Gajim      Add account, {login}; Advanced: hostname {host}, port {port}\n\
         Dino       Add account, {login}; then, in its settings: server {host}, port {port}\n\
         Pidgin     XMPP, username {name}, domain {domain}; Advanced: connect server {host}, port {port}\n\
         Psi+       {login}; Connection: manually specify {host}, port {port}\n\
         Profanity  /connect {login} server {host} port {port} tls trust\n\
         mcabber    in ~/.mcabberrc: set jid = {login}, set server = {host}, set port = {port}, set tls = 1, set ssl_ignore_checks = 1\n\
         The certificate was made by this node: accept it when you are asked."
    )
}

/// What a new account's owner has to know, once.
pub(crate) fn welcome(login: &str, server: SocketAddr, password: Option<&str>, recovery: &str) -> String {
    let (host, port) = (server.ip(), server.port());
    let password = password.map_or_else(|| "the one you chose".to_owned(), str::to_owned);
    format!(
        "To log in with a chat program (XMPP) on this machine:\n\
         \x20 address        {login}\n\
         \x20 server         {host}, port {port}\n\
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
pub(super) fn qr(link: &str, terminal: bool) -> Option<String> {
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
        let server = server(&[SocketAddr::from(([0, 0, 0, 0], 5333))]);
        let text = logins("juliet@id.internal", server);
        let told = text.lines().filter(|line| line.contains("127.0.0.1") && line.contains("5333"));
        assert!(told.count() >= 6, "{text}");
        assert!(welcome("juliet@id.internal", server, Some("secret"), "CODE").contains("secret"));
    }
}
