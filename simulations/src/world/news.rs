//! What is told to everybody on the link, as gossipsub does it: each host tells its neighbours what its core has accepted,
//! once. Here all of them, there a few. *Pure.*

use std::collections::btree_map::Entry;

use crosstalk_overlay::core::{PeerEvent, Verdict};
use crosstalk_overlay::id::{NewsId, NodeId};

use super::World;
use super::events::{HostId, Parcel};

impl World {
    pub(crate) fn publish(&mut self, host: HostId, news: Vec<u8>) {
        if self.hosts[host.0].heard.insert(NewsId::of(&news), None).is_none() {
            self.tell_news(host, None, &news);
        }
    }

    pub(crate) fn news_arrived(&mut self, host: HostId, node: NodeId, news: Vec<u8>) {
        let id = NewsId::of(&news);
        if let Entry::Vacant(new) = self.hosts[host.0].heard.entry(id) {
            new.insert(Some(news.clone()));
            self.peer_event(host, PeerEvent::News { node, id, news });
        }
    }

    /// The core has looked at what a neighbour told.
    pub(crate) fn judged(&mut self, host: HostId, node: NodeId, id: NewsId, verdict: Verdict) {
        let news = self.hosts[host.0].heard.get_mut(&id).and_then(Option::take);
        if let Some(news) = news.filter(|_| verdict == Verdict::Accept) {
            self.tell_news(host, Some(node), &news);
        }
    }

    fn tell_news(&mut self, host: HostId, from: Option<NodeId>, news: &[u8]) {
        let others = self.hosts[host.0].links.iter().filter(|(node, _)| Some(**node) != from);
        for end in others.map(|(_, end)| *end).collect::<Vec<_>>() {
            self.ship(end.pipe, 1 - end.end, Parcel::News(news.to_vec()));
        }
    }
}
