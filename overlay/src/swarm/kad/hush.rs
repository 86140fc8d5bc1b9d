//! libp2p-kad kept from looking around whenever it likes to.
//!
//! Half a second after a node has entered a table of fewer than twenty, libp2p-kad looks for itself and into each bucket that
//! lies further out; its setter against that is for its own tests. Among sixteen nodes that start at once this was most of
//! what they sent. When to look around is a matter of `upkeep`. So: a look of its kind that we begin takes back the one that is
//! due (`bootstrap::Status::on_started` of libp2p-kad 0.49), and one that is ended before it has asked anybody costs nothing.

use libp2p::kad::store::RecordStore;
use libp2p::kad::{Behaviour, Event, QueryId, QueryResult};

/// After each node that was entered.
pub(super) fn hush<S: RecordStore + Send + 'static>(kad: &mut Behaviour<S>) {
    if let Ok(look) = kad.bootstrap() {
        end(kad, &look);
    }
}

/// Whether an event is of such a look; the next part of it, which begins with this event, is ended as well.
pub(super) fn is_hushed<S: RecordStore + Send + 'static>(kad: &mut Behaviour<S>, event: &Event) -> bool {
    let Event::OutboundQueryProgressed { id, result: QueryResult::Bootstrap(_), .. } = event else {
        return false;
    };
    end(kad, id);
    true
}

fn end<S: RecordStore + Send + 'static>(kad: &mut Behaviour<S>, look: &QueryId) {
    if let Some(mut query) = kad.query_mut(look) {
        query.finish();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;
    use std::time::Duration;

    use libp2p::kad::store::MemoryStore;
    use libp2p::swarm::{NetworkBehaviour as _, ToSwarm};
    use libp2p::{Multiaddr, PeerId, kad};

    use super::*;

    /// Whether libp2p-kad dials anybody within a second after these have entered.
    async fn dials(newcomers: u8, hushed: bool) -> bool {
        let local = PeerId::random();
        let mut kad = kad::Behaviour::new(local, MemoryStore::new(local));
        for newcomer in 1..=newcomers {
            let address: Multiaddr = format!("/ip4/10.0.0.{newcomer}/tcp/9").parse().expect("an address");
            kad.add_address(&PeerId::random(), address);
            if hushed {
                hush(&mut kad);
            }
        }
        let dial = poll_fn(|cx| {
            loop {
                match kad.poll(cx) {
                    Poll::Ready(ToSwarm::Dial { .. }) => return Poll::Ready(()),
                    Poll::Ready(ToSwarm::GenerateEvent(event)) => {
                        is_hushed(&mut kad, &event);
                    }
                    Poll::Ready(_) => {}
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        tokio::time::timeout(Duration::from_secs(1), dial).await.is_ok()
    }

    #[tokio::test]
    async fn nobody_is_asked_because_somebody_enters() {
        assert!(dials(1, false).await, "libp2p-kad has been changed: this file may go");
        for newcomers in [1, 2, 9, 30] {
            assert!(!dials(newcomers, true).await, "{newcomers}");
        }
    }
}
