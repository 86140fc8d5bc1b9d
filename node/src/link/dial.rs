//! Connecting to one of several addresses, staggered in the manner of RFC 8305 §5: the first that answers is taken.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

/// Addresses that are tried at most.
const MOST: usize = 16;
/// How long an address is waited for before the next is tried too.
const STAGGER: Duration = Duration::from_millis(250);
/// How long all may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects; `None` if no address answers in time.
pub(super) async fn connect(addresses: &[SocketAddr]) -> Option<TcpStream> {
    let mut left = addresses.iter().take(MOST).copied();
    let mut trying: JoinSet<Option<TcpStream>> = JoinSet::new();
    let race = async {
        loop {
            let next = left.next();
            if let Some(address) = next {
                trying.spawn(attempt(address));
            } else if trying.is_empty() {
                return None;
            }
            let turn = Instant::now() + STAGGER;
            tokio::select! {
                Some(done) = trying.join_next() => {
                    if let Ok(Some(stream)) = done {
                        return Some(stream);
                    }
                }
                () = sleep_until(turn), if next.is_some() => {}
            }
        }
    };
    timeout(PATIENCE, race).await.ok().flatten()
}

async fn attempt(address: SocketAddr) -> Option<TcpStream> {
    match TcpStream::connect(address).await {
        Ok(stream) => Some(stream),
        Err(error) => {
            tracing::debug!(%address, %error, "a neighbour cannot be connected to");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn closed() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn the_address_that_answers_is_taken_whatever_stands_before_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let good = listener.local_addr().unwrap();
        let stream = connect(&[closed(), closed(), good]).await.expect("connected");
        assert_eq!(stream.peer_addr().unwrap(), good);
    }

    #[tokio::test]
    async fn none_that_answers_is_none() {
        assert!(connect(&[closed(), closed()]).await.is_none());
        assert!(connect(&[]).await.is_none());
    }
}
