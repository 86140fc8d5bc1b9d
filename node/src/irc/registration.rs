//! What a client says before it is logged in (RFC 2812 §3.1, IRCv3 SASL 3.1): who it is, and how it shows that. *Pure.*

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::caps::{Caps, Negotiating, numeric};
use super::line::Line;
use super::nicks::is_valid;
use super::{BOT, SERVER};

/// Characters of one AUTHENTICATE.
const CHUNK: usize = 400;
/// Characters of a whole message of an exchange.
const MESSAGE: usize = 4_096;
/// Characters of a user name, as an address shows it.
pub const USER: usize = 10;
/// Bytes of a password, as PASS has it.
const SECRET: usize = 1_024;

/// How a client shows who it is.
pub enum Want {
    /// An exchange of SASL begins with this mechanism.
    Mechanism(String),
    /// A message of it.
    Message(Zeroizing<Vec<u8>>),
    /// It ends without a result.
    Abort,
    /// All is said that has to be.
    Complete,
    /// The client goes.
    Quit,
}

/// What has been said so far.
#[derive(Default)]
pub struct Registration {
    nick: Option<String>,
    user: Option<String>,
    secret: Option<Zeroizing<String>>,
    caps: Caps,
    negotiating: bool,
    message: Zeroizing<String>,
    exchanging: bool,
}

/// Who has been let in.
#[derive(Clone, Debug)]
pub struct Login {
    /// What the client calls itself.
    pub nick: String,
    /// The user name of USER.
    pub user: String,
    /// What it can do.
    pub caps: Caps,
}

impl Registration {
    /// Takes a line; `mechanisms` of SASL, with commas between. Replies go to `out`.
    pub fn hear(&mut self, line: &Line, mechanisms: &str, out: &mut String) -> Option<Want> {
        match line.command.as_str() {
            "CAP" => match self.caps.answer(line, self.nick.as_deref().unwrap_or("*"), Some(mechanisms), out)
            {
                Negotiating::Begun => self.negotiating = true,
                Negotiating::Ended => self.negotiating = false,
                Negotiating::Unchanged => {}
            },
            "PASS" if line.get(0).len() <= SECRET => {
                self.secret = Some(Zeroizing::new(line.get(0).to_owned()))
            }
            "NICK" => self.nick(line.get(0), out),
            "USER" if line.params.len() >= 4 => self.user = Some(user_name(line.get(0))),
            "PASS" | "USER" => self.reply("461", out, line, "Not enough parameters, or too long"),
            "AUTHENTICATE" => return self.authenticate(line, out),
            "PING" => Line::new("PONG").from(SERVER).param(SERVER).param(line.get(0)).write(out),
            "PONG" => {}
            "QUIT" => return Some(Want::Quit),
            _ => self.reply("451", out, line, "Log in first"),
        }
        let complete = !self.negotiating && self.nick.is_some() && self.user.is_some();
        complete.then_some(Want::Complete)
    }

    fn reply(&self, number: &str, out: &mut String, line: &Line, text: &str) {
        numeric(number, self.called()).param(&line.command[..]).param(text).write(out);
    }

    fn nick(&mut self, wanted: &str, out: &mut String) {
        match wanted {
            "" => numeric("431", self.called()).param("No nickname given").write(out),
            _ if wanted.eq_ignore_ascii_case(BOT) => {
                numeric("433", self.called()).param(wanted).param("This is the node's own name").write(out);
            }
            _ if !is_valid(wanted) => {
                let text =
                    "A nickname has letters, digits and []\\`_^{|}-, at most 30, and begins with no digit";
                numeric("432", self.called()).param(wanted).param(text).write(out);
            }
            _ => self.nick = Some(wanted.to_owned()),
        }
    }

    /// How a reply calls the client.
    pub fn called(&self) -> &str {
        self.nick.as_deref().unwrap_or("*")
    }

    fn authenticate(&mut self, line: &Line, out: &mut String) -> Option<Want> {
        let said = line.get(0);
        if !self.caps.has("sasl") {
            self.reply("451", out, line, "Ask for the capability sasl first");
            return None;
        }
        if said == "*" {
            self.forget();
            return Some(Want::Abort);
        }
        if !self.exchanging {
            self.exchanging = true;
            return Some(Want::Mechanism(said.to_ascii_uppercase()));
        }
        if said.len() > CHUNK || self.message.len() + said.len() > MESSAGE {
            numeric("905", self.called()).param("SASL message too long").write(out);
            self.forget();
            return Some(Want::Abort);
        }
        if said != "+" {
            self.message.push_str(said);
        }
        if said.len() == CHUNK {
            return None;
        }
        let message = std::mem::take(&mut self.message);
        // What is no Base64 proves nothing.
        Some(Want::Message(Zeroizing::new(STANDARD.decode(message.as_bytes()).unwrap_or_default())))
    }

    /// The exchange is over.
    pub fn forget(&mut self) {
        self.exchanging = false;
        self.message = Zeroizing::default();
    }

    /// The name and the password of PASS: `NAME:PASSWORD`, or a password alone, and the nick is the name.
    pub fn password(&mut self) -> Option<(String, Zeroizing<String>)> {
        let secret = self.secret.take()?;
        Some(match secret.split_once(':') {
            Some((name, password)) => (name.to_owned(), Zeroizing::new(password.to_owned())),
            None => (self.called().to_owned(), secret),
        })
    }

    /// What is left of it once somebody has been let in.
    pub fn into_login(self) -> Login {
        let nick = self.nick.unwrap_or_default();
        Login { user: self.user.unwrap_or_else(|| nick.clone()), nick, caps: self.caps }
    }
}

/// A message of the node in an exchange of SASL.
pub fn challenge(data: &[u8], out: &mut String) {
    let text = STANDARD.encode(data);
    let mut rest = text.as_str();
    loop {
        let (chunk, behind) = rest.split_at(rest.len().min(CHUNK));
        Line::new("AUTHENTICATE").param(if chunk.is_empty() { "+" } else { chunk }).write(out);
        if chunk.len() < CHUNK {
            return;
        }
        rest = behind;
    }
}

/// A message of PLAIN (RFC 4616) as the accounts here understand it: clients of IRC say the name twice, where XMPP means whose rights
/// are asked for beside the own ones.
pub fn plain(message: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut parts = message.splitn(3, |byte| *byte == 0);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(wanted), Some(name), Some(password)) if wanted == name => {
            Zeroizing::new([&[0], name, &[0], password].concat())
        }
        _ => Zeroizing::new(message.to_vec()),
    }
}

/// Of a user name, what an address may show of it.
fn user_name(said: &str) -> String {
    let name: String = said.chars().filter(char::is_ascii_alphanumeric).take(USER).collect();
    if name.is_empty() { "user".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(registration: &mut Registration, line: &str) -> (Option<Want>, String) {
        let mut out = String::new();
        let want = registration.hear(&Line::read(line).unwrap(), "PLAIN", &mut out);
        (want, out)
    }

    #[test]
    fn a_login_by_pass_waits_for_the_end_of_the_negotiation() {
        let mut registration = Registration::default();
        for line in ["CAP LS 302", "PASS alice:se:cret", "NICK al", "USER a.b 0 * :Alice", "JOIN #x"] {
            assert!(hear(&mut registration, line).0.is_none(), "{line}");
        }
        assert!(matches!(hear(&mut registration, "CAP END").0, Some(Want::Complete)));
        let (name, password) = registration.password().unwrap();
        assert_eq!((&name[..], &password[..]), ("alice", "se:cret"));
        let login = registration.into_login();
        assert_eq!((&login.nick[..], &login.user[..]), ("al", "ab"));
    }

    #[test]
    fn a_password_alone_is_that_of_the_nick() {
        let mut registration = Registration::default();
        hear(&mut registration, "PASS secret");
        hear(&mut registration, "NICK alice");
        assert_eq!(registration.password().unwrap().0, "alice");
    }

    #[test]
    fn nicks_that_are_none_are_refused() {
        let mut registration = Registration::default();
        for (nick, number) in [("9x", "432"), ("a b", ""), ("crosstalk", "433"), ("ä", "432"), ("a@b", "432")]
        {
            let said = hear(&mut registration, &format!("NICK {nick}")).1;
            assert!(said.contains(number), "{nick}: {said}");
        }
        assert!(hear(&mut registration, "NICK").1.contains(" 431 "));
        assert!(hear(&mut registration, "JOIN &x").1.contains(" 451 "));
    }

    #[test]
    fn a_name_said_twice_is_said_once() {
        assert_eq!(*plain(b"alice\0alice\0se\0cret"), b"\0alice\0se\0cret");
        for other in [&b"\0alice\0secret"[..], b"bob\0alice\0secret", b"", b"alice\0alice"] {
            assert_eq!(*plain(other), other);
        }
    }

    #[test]
    fn messages_of_sasl_come_in_chunks() {
        let mut registration = Registration::default();
        assert!(hear(&mut registration, "AUTHENTICATE PLAIN").1.contains(" 451 "));
        hear(&mut registration, "CAP REQ sasl");
        assert!(
            matches!(hear(&mut registration, "AUTHENTICATE plain").0, Some(Want::Mechanism(name)) if name == "PLAIN")
        );
        let data = vec![7_u8; 300];
        let text = STANDARD.encode(&data);
        assert_eq!(text.len(), CHUNK);
        assert!(hear(&mut registration, &format!("AUTHENTICATE {text}")).0.is_none());
        assert!(
            matches!(hear(&mut registration, "AUTHENTICATE +").0, Some(Want::Message(said)) if *said == data)
        );
        let mut out = String::new();
        challenge(&data, &mut out);
        assert_eq!(out, format!("AUTHENTICATE {text}\r\nAUTHENTICATE +\r\n"));
        for _ in 0..20 {
            hear(&mut registration, &format!("AUTHENTICATE {text}"));
        }
        assert!(registration.message.len() <= MESSAGE);
    }
}
