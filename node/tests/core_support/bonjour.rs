//! The link of a play: people who speak XEP-0174, by what multicast DNS and streams would report of them. *Pure.*

use std::net::SocketAddr;

use crosstalk::core::Input;
use crosstalk::core::io::Output;
use crosstalk::core::link::io::{LinkCommand, LinkEnding, LinkEvent, StreamId};
use crosstalk_link_local::instance::Instance;
use crosstalk_link_local::mdns::{Event, Peer};
use crosstalk_link_local::txt::Advert;

use super::Play;
use super::stage::elements;

/// Name of the machine of a play with a link.
pub const MACHINE: &str = "h1";

impl Play {
    /// A node without domain on a link; whoever is available is announced.
    pub fn on_link() -> Self {
        Self::with(|settings| {
            settings.domain = None;
            settings.local_nearby = Some(false);
            settings.link_port = Some(5298);
            settings.machine = MACHINE.to_owned();
        })
    }

    /// What was asked for on the link since it was last looked at.
    pub fn link_commands(&self) -> Vec<LinkCommand> {
        let mut stage = self.0.borrow_mut();
        let (link, others) = std::mem::take(&mut stage.others)
            .into_iter()
            .partition(|output| matches!(output, Output::Link(_)));
        stage.others = others;
        let link: Vec<Output> = link;
        link.into_iter()
            .filter_map(|output| match output {
                Output::Link(command) => Some(command),
                _ => None,
            })
            .collect()
    }

    /// The same in words; announcements get the names that they want.
    pub fn link_says(&self) -> Vec<String> {
        let commands = self.link_commands();
        let said: Vec<String> = commands.iter().map(words).collect();
        for command in commands {
            if let LinkCommand::Announce { id, presence } = command {
                self.on_mdns(Event::Named { id, instance: presence.wanted });
            }
        }
        said
    }

    /// The next and only thing asked for on the link.
    #[track_caller]
    pub fn link_says_only(&self, expected: &str) {
        assert_eq!(self.link_says(), [expected]);
    }

    #[track_caller]
    pub fn link_is_silent(&self) {
        assert_eq!(self.link_says(), [""; 0]);
    }

    pub fn on_mdns(&self, event: Event) {
        self.on_link_event(LinkEvent::Mdns(event));
    }

    pub fn on_link_event(&self, event: LinkEvent) {
        self.input(Input::Link(event));
    }

    /// Somebody announces themselves, or something else of themselves.
    pub fn link_sees(&self, name: &str, address: &str, advert: Advert) {
        let addresses: Vec<SocketAddr> = vec![address.parse().unwrap()];
        let instance = Instance::new(name).unwrap();
        self.on_mdns(Event::Seen(Box::new(Peer { instance, advert, addresses })));
    }

    pub fn link_loses(&self, name: &str) {
        self.on_mdns(Event::Gone(Instance::new(name).unwrap()));
    }

    /// Somebody opens a stream.
    pub fn link_opens(&self, stream: u64, address: &str, from: Option<&str>, to: Option<&str>) {
        let (from, to) = (from.map(str::to_owned), to.map(str::to_owned));
        let address = address.parse().unwrap();
        self.on_link_event(LinkEvent::Accepted { stream: StreamId(stream), address, from, to });
    }

    /// A stream of ours is open.
    pub fn link_connects(&self, stream: u64) {
        let address = "10.0.0.2:5298".parse().unwrap();
        self.on_link_event(LinkEvent::Connected { stream: StreamId(stream), address });
    }

    /// Somebody writes to a stream.
    pub fn link_writes(&self, stream: u64, xml: &str) {
        let elements = elements(xml);
        self.on_link_event(LinkEvent::Elements { stream: StreamId(stream), elements });
    }

    pub fn link_has(&self, stream: u64, bytes: u64) {
        self.on_link_event(LinkEvent::Written { stream: StreamId(stream), bytes });
    }

    pub fn link_ends(&self, stream: u64, how: LinkEnding) {
        self.on_link_event(LinkEvent::Ended { stream: StreamId(stream), how });
    }
}

/// What libpurple announces.
pub fn libpurple(nick: &str, status: &str) -> Advert {
    let record = [
        format!("nick={nick}"),
        format!("status={status}"),
        "node=libpurple".to_owned(),
        "txtvers=1".to_owned(),
    ];
    let strings = record.iter().flat_map(|text| [&[text.len() as u8][..], text.as_bytes()].concat());
    Advert::parse(&strings.collect::<Vec<u8>>())
}

fn words(command: &LinkCommand) -> String {
    match command {
        LinkCommand::Announce { presence, .. } => {
            let advert = &presence.advert;
            let text = advert.msg.as_deref().unwrap_or_default();
            format!("announce {} {} {text}", presence.wanted, advert.status.to_txt()).trim_end().to_owned()
        }
        LinkCommand::Withdraw { .. } => "withdraw".to_owned(),
        LinkCommand::Browse(on) => format!("browse {on}"),
        LinkCommand::AskPicture(of) => format!("picture of {of}"),
        LinkCommand::Vouched(all) => {
            let names: Vec<&str> = all.iter().map(Instance::as_str).collect();
            format!("vouched {}", names.join(" ")).trim_end().to_owned()
        }
        LinkCommand::Suspect(of) => format!("suspect {of}"),
        LinkCommand::Connect { stream, from, to, .. } => format!("connect {} {from} {to}", stream.0),
        LinkCommand::Accept { stream, from, to } => {
            format!("accept {} {from} {}", stream.0, to.as_deref().unwrap_or("?"))
        }
        LinkCommand::Write { stream, data } => {
            format!("write {} {}", stream.0, String::from_utf8_lossy(data))
        }
        LinkCommand::Close { stream, error } => {
            let why = error.as_ref().map_or("", |error| error.condition.as_str());
            format!("close {} {why}", stream.0).trim_end().to_owned()
        }
    }
}
