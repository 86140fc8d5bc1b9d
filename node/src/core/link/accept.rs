//! Who may open a link-local stream, to whom (XEP-0174 §5 and §9). *Pure.*
//!
//! Nothing is signed on this protocol. What can be checked is that a connection comes from an address that the claimed
//! name announces; then whoever speaks is at least on that name's host, or poses as it also in DNS and IP.

use std::net::SocketAddr;

use crosstalk_link_local::instance::Instance;
use crosstalk_overlay::id::UserId;
use jid::Jid;

use super::io::{LinkCommand, StreamId};
use super::streams::Pair;
use crate::core::Core;
use crate::xmpp::StreamError;
use crate::xmpp::error::StreamCondition;

/// How long a stream of somebody who is not seen yet waits for that, milliseconds.
const PATIENCE: u64 = 5_000;
/// Streams that wait so. Of more, the newcomer is refused.
const WAITING: usize = 32;

/// An accepted stream that waits until its peer is seen.
#[derive(Debug)]
struct Door {
    stream: StreamId,
    address: SocketAddr,
    from: Option<String>,
    to: Option<String>,
    until: u64,
}

/// Accepted streams that wait.
#[derive(Debug, Default)]
pub(super) struct Doors(Vec<Door>);

impl Doors {
    /// A stream is gone.
    pub(super) fn left(&mut self, stream: StreamId) {
        self.0.retain(|door| door.stream != stream);
    }

    pub(super) fn next_due(&self) -> Option<u64> {
        self.0.iter().map(|door| door.until).min()
    }
}

enum Verdict {
    Welcome(UserId, Pair),
    /// Nobody of this name or address is seen yet.
    Unseen,
    Refused(StreamError),
}

impl Core {
    /// Somebody opened a stream and said from whom, to whom.
    pub(super) fn knocked(
        &mut self,
        stream: StreamId,
        address: SocketAddr,
        from: Option<String>,
        to: Option<String>,
    ) {
        let until = self.now.mono + PATIENCE;
        self.judge(Door { stream, address, from, to, until });
    }

    /// Somebody new is seen: whose streams wait may be known now.
    pub(super) fn open_doors(&mut self) {
        for door in std::mem::take(&mut self.link.doors.0) {
            self.judge(door);
        }
    }

    pub(super) fn doors_due(&mut self) {
        let (due, waiting) = std::mem::take(&mut self.link.doors.0)
            .into_iter()
            .partition::<Vec<_>, _>(|door| door.until <= self.now.mono);
        self.link.doors.0 = waiting;
        for door in due {
            self.count("link: streams from nobody who is announced");
            self.refuse(door.stream, refusal(StreamCondition::InvalidFrom, "nobody announces this name"));
        }
    }

    fn judge(&mut self, door: Door) {
        match self.verdict(&door) {
            Verdict::Welcome(user, pair) if self.blocks_on_link(user, &pair.peer) => {
                self.count("link: streams from blocked people");
                self.command_link(LinkCommand::Close { stream: door.stream, error: None });
            }
            Verdict::Welcome(_, pair) => {
                let host = door.address.ip();
                if self.link.streams.takes(&pair, host) {
                    self.link.streams.accepted(&pair, door.stream, door.address, self.now.mono);
                } else {
                    self.count("link: streams beyond the limit");
                    let error = refusal(StreamCondition::ResourceConstraint, "too many streams are open");
                    self.refuse(door.stream, error);
                }
            }
            Verdict::Unseen if self.link.doors.0.len() < WAITING => self.link.doors.0.push(door),
            Verdict::Unseen => {
                self.count("link: streams from nobody who is announced");
                let error = refusal(StreamCondition::InvalidFrom, "nobody announces this name");
                self.refuse(door.stream, error);
            }
            Verdict::Refused(error) => {
                self.count("link: streams refused");
                self.refuse(door.stream, error);
            }
        }
    }

    fn verdict(&self, door: &Door) -> Verdict {
        let announced = &self.link.announced;
        let own = match &door.to {
            Some(to) => announced.by_name(to),
            None => announced.only_one(),
        };
        let Some((user, own)) = own else {
            return Verdict::Refused(match door.to {
                Some(_) => refusal(StreamCondition::HostUnknown, "nobody of this name is announced here"),
                None => refusal(StreamCondition::HostUnknown, "several users are here: say which ('to')"),
            });
        };
        match self.who_knocks(door) {
            Ok(Some(peer)) => Verdict::Welcome(user, Pair { own: own.clone(), peer }),
            Ok(None) => Verdict::Unseen,
            Err(text) => Verdict::Refused(refusal(StreamCondition::InvalidFrom, text)),
        }
    }

    /// Who opened a stream; `None`: nobody who is seen yet.
    fn who_knocks(&self, door: &Door) -> Result<Option<Instance>, &'static str> {
        let people = &self.link.people;
        let Some(from) = &door.from else {
            if let Some(only) = people.only_one_at(&door.address) {
                return Ok(Some(only.clone()));
            }
            let several = people.names().any(|name| people.is_at(name, &door.address));
            return if several {
                Err("several people are at this address: say who you are ('from')")
            } else {
                Ok(None)
            };
        };
        let name = Instance::new(from.as_str()).map_err(|_| "this is no name of XEP-0174")?;
        let lower = from.to_lowercase();
        let known = people.names().find(|known| **known == name || known.as_str().to_lowercase() == lower);
        match known {
            None => Ok(None),
            Some(known) if people.is_at(known, &door.address) => Ok(Some(known.clone())),
            Some(known) if self.is_on_this_machine(known, &door.address) => Ok(Some(known.clone())),
            Some(_) => Err("this name is announced at other addresses"),
        }
    }

    /// Whether a program on this machine connects over loopback, which nobody announces: its name ends with that of the
    /// machine.
    fn is_on_this_machine(&self, name: &Instance, address: &SocketAddr) -> bool {
        let machine = name.as_str().rsplit_once('@').map(|(_, machine)| machine.to_lowercase());
        address.ip().to_canonical().is_loopback() && machine == Some(self.settings.machine.to_lowercase())
    }

    /// Whether XEP-0191 keeps an account and somebody on the link apart.
    pub(super) fn blocks_on_link(&self, user: UserId, peer: &Instance) -> bool {
        let account = self.accounts.get(&user);
        let jid = Jid::new(&peer.to_jid()).ok();
        account.zip(jid).is_none_or(|(account, jid)| account.blocks(&jid))
    }

    /// An account has changed its block list: streams with those on it end.
    pub(in crate::core) fn link_blocked(&mut self, user: UserId) {
        let Some(own) = self.announced_as(&user).cloned() else { return };
        let peers: Vec<Instance> = self.link.people.names().cloned().collect();
        for peer in peers.into_iter().filter(|peer| self.blocks_on_link(user, peer)).collect::<Vec<_>>() {
            self.link.streams.end(&Pair { own: own.clone(), peer });
        }
    }

    fn refuse(&mut self, stream: StreamId, error: StreamError) {
        self.command_link(LinkCommand::Close { stream, error: Some(error) });
    }
}

fn refusal(condition: StreamCondition, text: &str) -> StreamError {
    StreamError::new(condition, text)
}
