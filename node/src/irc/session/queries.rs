//! What clients ask a server at login and in daily use (RFC 2812 §3, §4): the control channel, who is there, the own nick. *Pure.*

use super::people::{Person, user_and_host};
use super::{Session, presence};
use crate::irc::caps::numeric;
use crate::irc::line::Line;
use crate::irc::nicks::{LENGTH, is_valid};
use crate::irc::registration::USER;
use crate::irc::{BOT, CHANNEL, NETWORK, SERVER};
use crate::xmpp::{Element, Type, ns};

const TOPIC: &str = "Your contacts: who is here has joined, who is not away has +v. Say `help`.";
/// Bytes of a line's list of nicks.
const NAMES: usize = 400;
/// Addresses of one question.
const MOST: usize = 32;

impl Session {
    pub(super) fn query(&mut self, line: &Line) {
        let first = line.get(0);
        match line.command.as_str() {
            "PING" => self.write(&Line::new("PONG").from(SERVER).param(SERVER).param(first)),
            "NICK" => self.renick(first),
            "JOIN" => first.split(',').take(MOST).for_each(|channel| self.join(channel)),
            "PART" => first.split(',').take(MOST).for_each(|channel| self.part(channel)),
            "NAMES" => self.names(if first.is_empty() { CHANNEL } else { first }),
            "WHO" => self.who(if first.is_empty() { CHANNEL } else { first }),
            "WHOIS" => self.ask_whois(if line.params.len() > 1 { line.get(1) } else { first }),
            "WHOWAS" => self.reply("406", &[first], "There was no such nickname"),
            "MODE" => self.mode(line),
            "TOPIC" => self.topic(line),
            "LIST" => {
                let here = self.people.here().count().to_string();
                self.reply("322", &[CHANNEL, &here], TOPIC);
                self.reply("323", &[], "End of LIST");
            }
            "ISON" => self.is_on(line),
            "USERHOST" => self.user_hosts(line),
            "AWAY" => self.set_away(first),
            "MOTD" => self.motd(),
            "VERSION" => self.reply(
                "351",
                &[concat!("crosstalk-", env!("CARGO_PKG_VERSION")), SERVER],
                "IRC face of a CrossTalk node",
            ),
            "CAP" => {
                let mut caps = std::mem::take(&mut self.caps);
                caps.answer(line, &self.nick, None, &mut self.irc);
                self.caps = caps;
            }
            "INVITE" | "KICK" => {
                self.reply(
                    "482",
                    &[CHANNEL],
                    "Contacts are added and removed with `add` and `remove` in the channel",
                );
            }
            "PASS" | "USER" => self.reply("462", &[], "You are logged in already"),
            "AUTHENTICATE" => self.reply("907", &[], "You are logged in already"),
            other => self.reply("421", &[other], "Unknown command"),
        }
    }

    /// What a server says first, and the control channel.
    pub(super) fn welcome(&mut self) {
        let mask = self.mask();
        self.reply("001", &[], &format!("Welcome to {NETWORK}, {mask}"));
        self.reply("002", &[], &format!("Your host is {SERVER}, version {}", env!("CARGO_PKG_VERSION")));
        self.reply("003", &[], "It is your own node");
        let nick = self.nick.clone();
        self.write(
            &numeric("004", &nick)
                .param(SERVER)
                .param(concat!("crosstalk-", env!("CARGO_PKG_VERSION")))
                .param("i")
                .param("ntov"),
        );
        // By these clients split what is too long for a line.
        let lengths = [("NICKLEN", LENGTH), ("USERLEN", USER), ("HOSTLEN", SERVER.len())]
            .map(|(name, length)| format!("{name}={length}"));
        let supported = [
            "NETWORK=CrossTalk",
            "CASEMAPPING=rfc1459",
            "CHANTYPES=&",
            "CHANLIMIT=&:1",
            &lengths[0],
            &lengths[1],
            &lengths[2],
            "PREFIX=(ov)@+",
            "CHANMODES=,,,nt",
            "MODES=1",
            "MAXTARGETS=4",
            "UTF8ONLY",
        ];
        self.reply("005", &supported, "are supported by this server");
        self.motd();
        self.shows_channel();
    }

    fn motd(&mut self) {
        self.reply("375", &[], &format!("- {SERVER} -"));
        let who = format!("- You are {}.", self.address);
        for text in [
            who.as_str(),
            "- Your contacts are in &crosstalk: they join and part as they come and go. /msg writes to them.",
            "- To a contact, or anybody else: /msg ADDRESS. Say `help` in &crosstalk for the contact list.",
        ] {
            self.reply("372", &[], text);
        }
        self.reply("376", &[], "End of MOTD");
    }

    fn shows_channel(&mut self) {
        let mask = self.mask();
        self.write(&Line::new("JOIN").from(&mask).param(CHANNEL));
        self.reply("332", &[CHANNEL], TOPIC);
        self.names(CHANNEL);
    }

    fn join(&mut self, channel: &str) {
        match channel {
            "0" => self.part(CHANNEL),
            _ if !channel.eq_ignore_ascii_case(CHANNEL) => {
                self.reply(
                    "403",
                    &[channel],
                    &format!("There is {CHANNEL} only: rooms are not shown to IRC yet"),
                );
            }
            _ if self.joined => {}
            _ => {
                self.joined = true;
                self.shows_channel();
            }
        }
    }

    fn part(&mut self, channel: &str) {
        if !channel.eq_ignore_ascii_case(CHANNEL) || !self.joined {
            return self.reply("442", &[channel], "You are not in that channel");
        }
        let mask = self.mask();
        self.write(&Line::new("PART").from(&mask).param(CHANNEL));
        self.joined = false;
    }

    fn names(&mut self, channel: &str) {
        if self.joined && channel.eq_ignore_ascii_case(CHANNEL) {
            let mut all = vec![self.nick.clone(), format!("@{BOT}")];
            for (address, person) in self.people.here() {
                let sign = if person.away().is_none() { "+" } else { "" };
                all.push(format!("{sign}{}", self.people.nicks.nick(address).unwrap_or_default()));
            }
            let mut lines: Vec<String> = vec![String::new()];
            for name in all {
                if lines.last().is_some_and(|line| line.len() + name.len() > NAMES) {
                    lines.push(String::new());
                }
                if let Some(line) = lines.last_mut() {
                    line.push_str(&name);
                    line.push(' ');
                }
            }
            for line in lines {
                self.reply("353", &["=", CHANNEL], line.trim_end());
            }
        }
        self.reply("366", &[channel], "End of NAMES");
    }

    fn who(&mut self, mask: &str) {
        let of_channel = mask.eq_ignore_ascii_case(CHANNEL);
        if of_channel {
            let (nick, user, away) =
                (self.nick.clone(), self.user.clone(), if self.away { "G" } else { "H" });
            self.reply("352", &[CHANNEL, &user, SERVER, SERVER, &nick, away], &format!("0 {}", self.address));
            self.reply("352", &[CHANNEL, BOT, SERVER, SERVER, BOT, "H@"], "0 This node");
        }
        let meant = self.meant(mask).map(|address| address.to_string());
        let shown = |address: &str, person: &Person| match of_channel {
            true => person.is_here(),
            false => meant.as_deref() == Some(address),
        };
        let lines: Vec<[String; 5]> = self
            .people
            .known
            .iter()
            .filter(|(address, person)| shown(address, person))
            .map(|(address, person)| {
                let (user, host) = user_and_host(address);
                let nick = self.people.nicks.nick(address).unwrap_or_default().to_owned();
                let state = match (person.is_here(), person.away()) {
                    (true, None) => "H+",
                    _ => "G",
                };
                [user, host, nick, state.to_owned(), format!("0 {}", real_name(address, person))]
            })
            .collect();
        for [user, host, nick, state, name] in lines {
            self.reply("352", &[CHANNEL, &user, &host, SERVER, &nick, &state], &name);
        }
        self.reply("315", &[mask], "End of WHO");
    }

    /// Who somebody is, the core knows best.
    fn ask_whois(&mut self, nick: &str) {
        let own = nick.eq_ignore_ascii_case(&self.nick);
        if own || nick.eq_ignore_ascii_case(BOT) {
            let (name, user) =
                if own { (self.nick.clone(), self.user.clone()) } else { (BOT.to_owned(), BOT.to_owned()) };
            let real = if own { self.address.clone() } else { "This node".to_owned() };
            self.reply("311", &[&name, &user, SERVER, "*"], &real);
            self.reply("312", &[&name, SERVER], NETWORK);
            return self.reply("318", &[&name], "End of WHOIS");
        }
        match self.meant(nick) {
            Some(address) => {
                let address = address.to_string();
                self.ask_identity(&address, super::iq::Purpose::Whois(address.clone()));
            }
            None => {
                self.reply("401", &[nick], "There is no such nick");
                self.reply("318", &[nick], "End of WHOIS");
            }
        }
    }

    pub(super) fn whois(&mut self, address: &str, identity: Option<&Element>) {
        let nick = self.nick_of(address);
        let (user, host) = user_and_host(address);
        let person = self.person_at(address);
        let (real, here, away) =
            (real_name(address, person), person.is_here(), person.away().map(|shown| shown.text.clone()));
        self.reply("311", &[&nick, &user, &host, "*"], &real);
        if here {
            let sign = if away.is_none() { "+" } else { "" };
            self.reply("319", &[&nick], &format!("{sign}{CHANNEL}"));
        }
        self.reply("312", &[&nick, SERVER], NETWORK);
        if let Some(text) = away.or_else(|| (!here).then(|| "not here".to_owned())) {
            self.reply("301", &[&nick], &text);
        }
        self.reply("330", &[&nick, address], "is known as");
        for (what, text) in identity.into_iter().flat_map(super::commands::fields) {
            if matches!(&what[..], "tier" | "key") {
                self.reply("320", &[&nick], &format!("{what}: {text}"));
            }
        }
        self.reply("318", &[&nick], "End of WHOIS");
    }

    fn mode(&mut self, line: &Line) {
        let target = line.get(0);
        match () {
            () if target.eq_ignore_ascii_case(CHANNEL) && line.params.len() < 2 => {
                let nick = self.nick.clone();
                self.write(&numeric("324", &nick).param(CHANNEL).param("+nt"));
            }
            () if target.eq_ignore_ascii_case(CHANNEL) && line.get(1).trim_start_matches('+') == "b" => {
                self.reply("368", &[CHANNEL], "Who is blocked says `blocked` in the channel");
            }
            () if target.eq_ignore_ascii_case(CHANNEL) => {
                self.reply("482", &[CHANNEL], "The modes of this channel show who is here");
            }
            () if target.eq_ignore_ascii_case(&self.nick) => self.reply("221", &["+i"], ""),
            () => self.reply("502", &[], "That is not your own mode"),
        }
    }

    fn topic(&mut self, line: &Line) {
        match line.params.len() {
            0 => self.reply("461", &["TOPIC"], "Not enough parameters"),
            _ if !line.get(0).eq_ignore_ascii_case(CHANNEL) => {
                self.reply("403", &[line.get(0)], "There is no such channel")
            }
            1 => self.reply("332", &[CHANNEL], TOPIC),
            _ => self.reply("482", &[CHANNEL], "The topic is the node's; `/away TEXT` is what contacts see"),
        }
    }

    fn is_on(&mut self, line: &Line) {
        let words = line.params.iter().flat_map(|param| param.split(' ')).take(MOST);
        let here: Vec<String> = words.filter(|nick| self.is_here(nick)).map(str::to_owned).collect();
        self.reply("303", &[], &here.join(" "));
    }

    fn is_here(&self, nick: &str) -> bool {
        let special = nick.eq_ignore_ascii_case(&self.nick) || nick.eq_ignore_ascii_case(BOT);
        special
            || self
                .people
                .nicks
                .address(nick)
                .and_then(|address| self.people.get(address))
                .is_some_and(Person::is_here)
    }

    fn user_hosts(&mut self, line: &Line) {
        let mut found = Vec::new();
        for nick in line.params.iter().take(5) {
            if nick.eq_ignore_ascii_case(&self.nick) {
                let sign = if self.away { '-' } else { '+' };
                found.push(format!("{}={sign}{}@{SERVER}", self.nick, self.user));
            } else if let Some(address) = self.people.nicks.address(nick) {
                let (user, host) = user_and_host(address);
                let away = self
                    .people
                    .get(address)
                    .is_none_or(|person| !person.is_here() || person.away().is_some());
                found.push(format!("{nick}={}{user}@{host}", if away { '-' } else { '+' }));
            }
        }
        self.reply("302", &[], &found.join(" "));
    }

    /// The own state, as contacts see it.
    fn set_away(&mut self, text: &str) {
        self.away = !text.is_empty();
        let mut presence = presence(Type::Available);
        if self.away {
            presence.payload.push(Element::new("show", ns::CLIENT).text("away"));
            presence.payload.push(Element::new("status", ns::CLIENT).text(text));
        }
        self.send(&presence);
        match self.away {
            true => self.reply("306", &[], "You are shown as away"),
            false => self.reply("305", &[], "You are shown as here"),
        }
    }

    fn renick(&mut self, wanted: &str) {
        let same = wanted.eq_ignore_ascii_case(&self.nick);
        match () {
            () if wanted.is_empty() => self.reply("431", &[], "No nickname given"),
            () if !is_valid(wanted) => self.reply("432", &[wanted], "That is no nickname"),
            () if !same && !self.people.nicks.is_free(wanted) => {
                self.reply("433", &[wanted], "That is, or was, somebody else in this session");
            }
            () => {
                let mask = self.mask();
                self.write(&Line::new("NICK").from(&mask).param(wanted));
                self.people.nicks.release(&self.nick);
                self.people.nicks.reserve(wanted);
                self.nick = wanted.to_owned();
            }
        }
    }
}

/// Name and address of somebody, for where IRC shows a real name.
fn real_name(address: &str, person: &Person) -> String {
    let name =
        if person.name.is_empty() { address.to_owned() } else { format!("{} <{address}>", person.name) };
    match (person.listed, person.nearby) {
        (true, false) => name,
        (true, true) => format!("{name}, nearby"),
        (false, _) => format!("{name}, no contact"),
    }
}
