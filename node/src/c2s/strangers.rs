//! Who is connected and has not logged in: a bounded number of connections, shared fairly among addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::core::io::ConnId;

type Present = BTreeMap<ConnId, (IpAddr, Arc<Notify>)>;

/// Connections before login: a bounded number, whatever a flood does.
pub(crate) struct Strangers {
    limit: usize,
    present: Arc<Mutex<Present>>,
}

/// The place of a connection among the [`Strangers`].
pub(crate) struct Stranger {
    conn: ConnId,
    pub(crate) evicted: Arc<Notify>,
    present: Arc<Mutex<Present>>,
}

impl Strangers {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, present: Arc::default() }
    }

    /// Gives a place to a new connection. When all are taken, the address that has most of them loses its oldest:
    /// a flood from one address harms no login from another.
    pub(crate) fn enter(&self, conn: ConnId, from: IpAddr) -> Stranger {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if present.len() >= self.limit {
            let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
            present.values().for_each(|(address, _)| *counts.entry(*address).or_default() += 1);
            let crowd = counts.into_iter().max_by_key(|(_, count)| *count).map(|(address, _)| address);
            let oldest =
                present.iter().find(|(_, (address, _))| Some(*address) == crowd).map(|(conn, _)| *conn);
            if let Some((_, evicted)) = oldest.and_then(|oldest| present.remove(&oldest)) {
                evicted.notify_one();
            }
        }
        let evicted = Arc::new(Notify::new());
        present.insert(conn, (from, evicted.clone()));
        Stranger { conn, evicted, present: self.present.clone() }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.present.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.conn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_with_most_strangers_loses_its_oldest() {
        let strangers = Strangers::new(4);
        let address = |last| IpAddr::from([192, 0, 2, last]);
        let lone = strangers.enter(ConnId(0), address(1));
        let flood: Vec<_> = (1..4).map(|n| strangers.enter(ConnId(n), address(2))).collect();
        let _late = strangers.enter(ConnId(4), address(3));
        let present: Vec<u64> = strangers.present.lock().unwrap().keys().map(|conn| conn.0).collect();
        assert_eq!(present, [0, 2, 3, 4]);
        drop((lone, flood));
        assert_eq!(strangers.present.lock().unwrap().len(), 1);
    }
}
