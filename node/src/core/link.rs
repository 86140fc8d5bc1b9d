//! The gateway to people known by XEP-0174 (link-local messaging) only. *Pure.*
//!
//! | file | owns |
//! | --- | --- |
//! | [`io`] | what happens on the link, and what is asked for there |
//! | `announce` | which users are announced, and what is made public of them |
//! | `people` | who announces themselves, under which address |
//! | `sight` | who of them is shown in "Nearby", and who is not because a signed presence shows them |
//! | `streams` | one stream for each pair, queues, retries |
//! | `addresses` | which of somebody's addresses is tried first |
//! | `accept` | who may open a stream to whom |
//! | `messages`, `iq` | stanzas both ways |
//! | `translate` | their shape as stock programs write and read it |
//! | `pictures` | vCards made from what is announced |
//!
//! Laws: nothing that comes from the link goes anywhere but to the local user whom the stream is to, under the address
//! `<instance>@link.internal` of the stream, whatever its stanzas say; nothing but what local users send goes to the
//! link; and of every message of a client that was taken for the link its sender learns, within 90 s and also after a
//! crash, if it may not have arrived.

pub mod io;

mod accept;
mod addresses;
mod announce;
mod iq;
mod messages;
mod people;
mod pictures;
mod sight;
mod streams;
mod translate;

use std::collections::BTreeSet;

use crosstalk_link_local::instance::Instance;
use crosstalk_link_local::mdns;
use jid::{BareJid, Jid};

use super::Core;
use super::admin::LinkView;
use super::io::Output;
use super::session::SessionId;
use super::settings::LinkMode;
use announce::Announcements;
use io::{LinkCommand, LinkEvent};
use people::People;
use streams::{Act, Streams};

/// The state of the gateway.
#[derive(Debug, Default)]
pub(super) struct Link {
    people: People,
    announced: Announcements,
    streams: Streams,
    doors: accept::Doors,
    messages: messages::UnderWay,
    requests: iq::Requests,
    pictures: pictures::Asked,
    /// Those of `people` whom a signed presence names, and whether that was told: at most as many as `people`.
    vouched: BTreeSet<Instance>,
    vouched_changed: bool,
    /// Up to when it was looked who may be shown by now, monotonic milliseconds.
    looked: u64,
}

impl Link {
    /// Whose address this is, of those who are seen.
    pub(super) fn instance_at(&self, bare: &BareJid) -> Option<&Instance> {
        self.people.at(bare)
    }

    /// Id and address of the requests of a session that nobody has answered.
    pub(super) fn asked_by(&self, session: SessionId) -> impl Iterator<Item = (&str, &Jid)> {
        self.requests.of(session)
    }
}

impl Core {
    /// At the start: others are looked for, if the settings say so.
    pub(super) fn start_link(&mut self) {
        let mode = self.link_mode();
        if mode != LinkMode::Off {
            self.command_link(LinkCommand::Browse(true));
        }
    }

    pub(super) fn link_event(&mut self, event: LinkEvent) {
        if self.link_mode() == LinkMode::Off {
            return self.count("link: events while it is off");
        }
        let now = self.now.mono;
        match event {
            LinkEvent::Mdns(mdns::Event::Named { id, instance }) => self.named_on_link(id, instance),
            LinkEvent::Mdns(mdns::Event::Seen(peer)) => self.seen_on_link(*peer),
            LinkEvent::Mdns(mdns::Event::Gone(instance)) => self.gone_from_link(&instance),
            LinkEvent::Mdns(mdns::Event::Picture { instance, bytes }) => self.picture_came(&instance, bytes),
            // Hints of nodes are for the swarm.
            LinkEvent::Mdns(mdns::Event::P2p { .. }) => {}
            LinkEvent::Accepted { stream, address, from, to } => self.knocked(stream, address, from, to),
            LinkEvent::Connected { stream, address } => self.link.streams.connected(stream, address, now),
            LinkEvent::Elements { stream, elements } => self.link_elements(stream, elements),
            LinkEvent::Written { stream, bytes } => self.link.streams.written(stream, bytes, now),
            LinkEvent::Ended { stream, how } => {
                self.link.doors.left(stream);
                if let Some(peer) = self.link.streams.ended(stream, how, now) {
                    self.command_link(LinkCommand::Suspect(peer));
                }
            }
        }
    }

    /// Does what the streams ask for and tell.
    pub(super) fn drain_link(&mut self) {
        while let Some(act) = self.link.streams.poll() {
            match act {
                Act::Command(command) => self.command_link(command),
                Act::Delivered(number) => self.link_message_delivered(number),
                Act::Unsent(number) => self.link_message_failed(number, false),
                Act::Uncertain(number) => self.link_message_failed(number, true),
            }
        }
        if std::mem::take(&mut self.link.vouched_changed) {
            self.command_link(LinkCommand::Vouched(self.link.vouched.clone()));
        }
    }

    /// When [`Self::link_due`] has to be called.
    pub(super) fn link_timeout(&self) -> Option<(u64, &'static str)> {
        let link = &self.link;
        let all = [
            (link.streams.next_due(), "a link-local stream has to be opened, or waited long enough"),
            (link.people.next_due(link.looked), "somebody on the link may be shown"),
            (link.doors.next_due(), "an accepted stream waited long enough"),
            (link.requests.next_due(), "a request to the link was not answered"),
            (link.pictures.next_due(), "a picture did not come"),
        ];
        all.into_iter().filter_map(|(when, why)| Some((when?, why))).min()
    }

    pub(super) fn link_due(&mut self) {
        let now = self.now.mono;
        // Who is no longer shown by a signed presence is hidden for a while before it is looked who may be shown.
        self.drain_neighbours();
        let people = &self.link.people;
        let addresses =
            |peer: &Instance| people.get(peer).map(|known| known.addresses.clone()).unwrap_or_default();
        for suspect in self.link.streams.timeout(now, addresses) {
            self.command_link(LinkCommand::Suspect(suspect));
        }
        self.look_again();
        self.doors_due();
        self.requests_due();
        self.pictures_due();
    }

    fn command_link(&mut self, command: LinkCommand) {
        self.output(Output::Link(command), false);
    }

    /// What the gateway is doing, for people and programs.
    pub(super) fn link_view(&self) -> LinkView {
        LinkView {
            mode: self.link_mode(),
            people: self.link.people.len(),
            shown: self.link_people_shown(),
            announced: self.link.announced.names().map(ToString::to_string).collect(),
            beyond: self.link.announced.beyond(),
            streams: self.link.streams.open(),
            waiting: self.link.messages.len(),
        }
    }
}
