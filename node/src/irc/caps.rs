//! Capabilities that a client asks for (IRCv3 capability negotiation, version 302). *Pure.*

use super::SERVER;
use super::line::Line;

/// What can be asked for, beside `sasl`.
const OFFERED: [&str; 6] =
    ["away-notify", "cap-notify", "message-tags", "multi-prefix", "server-time", "znc.in/self-message"];

/// What a client has asked for.
#[derive(Clone, Debug, Default)]
pub struct Caps {
    enabled: Vec<&'static str>,
}

/// What a CAP says beside what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Negotiating {
    /// Registration waits for the end.
    Begun,
    /// It waits no longer.
    Ended,
    /// Nothing.
    Unchanged,
}

impl Caps {
    /// Whether it was asked for.
    pub fn has(&self, name: &str) -> bool {
        self.enabled.contains(&name)
    }

    /// Answers a CAP line. `mechanisms`: of SASL, while it is offered.
    pub fn answer(
        &mut self,
        line: &Line,
        nick: &str,
        mechanisms: Option<&str>,
        out: &mut String,
    ) -> Negotiating {
        let mut say = |subcommand: &str, names: String| {
            Line::new("CAP").from(SERVER).param(nick).param(subcommand).param(names).write(out);
        };
        match line.get(0).to_ascii_uppercase().as_str() {
            "LS" => {
                let mut names: Vec<String> = OFFERED.iter().map(|name| (*name).to_owned()).collect();
                let values = line.get(1).parse::<u32>().is_ok_and(|version| version >= 302);
                names.extend(
                    mechanisms.map(|all| if values { format!("sasl={all}") } else { "sasl".to_owned() }),
                );
                say("LS", names.join(" "));
                Negotiating::Begun
            }
            "LIST" => {
                say("LIST", self.enabled.join(" "));
                Negotiating::Unchanged
            }
            "REQ" => {
                let asked: Vec<&str> = line.get(1).split(' ').filter(|name| !name.is_empty()).collect();
                let known = |name: &&str| self.known(name.trim_start_matches('-'), mechanisms.is_some());
                let all: Option<Vec<&'static str>> = asked.iter().map(known).collect();
                match all {
                    Some(all) => {
                        for (name, asked) in all.iter().zip(&asked) {
                            self.enabled.retain(|enabled| enabled != name);
                            if !asked.starts_with('-') {
                                self.enabled.push(name);
                            }
                        }
                        say("ACK", asked.join(" "));
                    }
                    None => say("NAK", asked.join(" ")),
                }
                Negotiating::Begun
            }
            "END" => Negotiating::Ended,
            _ => {
                numeric("410", nick).param(line.get(0)).param("There is no such CAP command").write(out);
                Negotiating::Unchanged
            }
        }
    }

    fn known(&self, name: &str, sasl: bool) -> Option<&'static str> {
        let sasl = sasl.then_some("sasl").filter(|sasl| *sasl == name);
        sasl.or_else(|| OFFERED.into_iter().find(|offered| *offered == name))
    }
}

/// A numeric reply to somebody.
pub(super) fn numeric(number: &str, nick: &str) -> Line {
    Line::new(number).from(SERVER).param(nick)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(caps: &mut Caps, line: &str, sasl: Option<&str>) -> String {
        let mut out = String::new();
        caps.answer(&Line::read(line).unwrap(), "*", sasl, &mut out);
        out
    }

    #[test]
    fn all_or_nothing_of_a_request_is_taken() {
        let mut caps = Caps::default();
        assert!(said(&mut caps, "CAP LS 302", Some("PLAIN")).contains(" sasl=PLAIN\r\n"));
        assert!(said(&mut caps, "CAP LS", Some("PLAIN")).contains(" sasl\r\n"));
        assert!(said(&mut caps, "CAP REQ :server-time batch", None).contains("NAK :server-time batch"));
        assert!(!caps.has("server-time"));
        assert!(
            said(&mut caps, "CAP REQ :server-time sasl", Some("PLAIN")).contains("ACK :server-time sasl")
        );
        assert!(said(&mut caps, "CAP REQ -sasl", Some("PLAIN")).contains("ACK -sasl"));
        assert!(said(&mut caps, "CAP LIST", None).ends_with("LIST server-time\r\n"));
        assert!(said(&mut caps, "CAP NEW", None).contains(" 410 "));
    }
}
