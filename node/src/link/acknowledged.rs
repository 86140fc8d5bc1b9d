//! How much of what was written the other host's TCP has taken: bytes that are no longer in our send queue.
//!
//! Nothing in XEP-0174 acknowledges a message, so that TCP's word is the best there is. The queue's length is asked of
//! the kernel by `sock_diag(7)`, which needs no `unsafe` and no privilege. Where the kernel does not answer, the
//! connection's own time limit speaks: `TCP_USER_TIMEOUT` ends a connection on which bytes stay unacknowledged so long,
//! so what was written longer ago than that on one that still stands has arrived.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};
use tokio::sync::watch;
use tokio::time::sleep;

/// Longest time that written bytes stay unacknowledged before the connection is ended.
pub(super) const USER_TIMEOUT: Duration = Duration::from_secs(60);
/// Pauses between two looks while something is on its way: first, and longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(4), Duration::from_secs(1));

/// The ends of a connection, and whether it is encrypted (the queue then holds more than was written).
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) tls: bool,
}

/// Watches how much of what was written has arrived.
#[derive(Debug)]
pub(super) struct Follower {
    connection: Connection,
    /// All bytes given to the kernel so far.
    written: watch::Receiver<u64>,
    /// Bytes known to have arrived.
    told: u64,
    pause: Duration,
}

impl Follower {
    pub(super) fn new(connection: Connection, written: watch::Receiver<u64>) -> Self {
        Self { connection, written, told: 0, pause: PAUSE.0 }
    }

    /// Waits until more has arrived, and says how much in all; `None` when the stream is gone. It wakes only while
    /// something is on its way. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<u64> {
        loop {
            let total = *self.written.borrow_and_update();
            if total == self.told {
                self.pause = PAUSE.0;
                self.written.changed().await.ok()?;
                continue;
            }
            sleep(self.pause).await;
            self.pause = (self.pause * 2).min(PAUSE.1);
            let arrived = match unacknowledged(self.connection) {
                Ok(queue) => known(total, queue, self.connection.tls, self.told),
                Err(error) => {
                    tracing::debug!(%error, "the kernel does not tell what has arrived");
                    sleep(USER_TIMEOUT + PAUSE.1 * 5).await;
                    total
                }
            };
            if arrived > self.told {
                self.told = arrived;
                return Some(arrived);
            }
        }
    }

    /// What has arrived beyond what was told, when the stream has ended.
    pub(super) fn last(&self) -> Option<u64> {
        let queue = unacknowledged(self.connection).ok()?;
        let arrived = known(*self.written.borrow(), queue, self.connection.tls, self.told);
        (arrived > self.told).then_some(arrived)
    }
}

/// What has arrived of `total` when `queue` bytes are on their way.
fn known(total: u64, queue: u32, tls: bool, told: u64) -> u64 {
    match (tls, queue) {
        (_, 0) => total,
        // Of ciphertext only the end of the queue can be told.
        (true, _) => told,
        (false, queue) => total.saturating_sub(u64::from(queue)).max(told),
    }
}

/// Bytes in the send queue of a connection: not sent, or sent and not acknowledged.
///
/// # Errors
/// What the kernel says; `NotFound` if there is no such connection.
fn unacknowledged(connection: Connection) -> io::Result<u32> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(SOCK_DIAG))?;
    sendto(&socket, &request(connection), SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0; 512];
    // The kernel has answered when sending is done.
    let (_, length) = recv(&socket, &mut answer[..], RecvFlags::DONTWAIT)?;
    read(answer.get(..length).unwrap_or_default())
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2` (linux/netlink.h, linux/inet_diag.h).
fn request(connection: Connection) -> Vec<u8> {
    const LENGTH: u32 = 16 + 56;
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const NLM_F_REQUEST: u16 = 1;
    const TCP: u8 = 6;
    let (local, remote) = (canonical(connection.local), canonical(connection.remote));
    let family: u8 = if local.is_ipv4() { 2 } else { 10 };
    let mut out = Vec::with_capacity(72);
    out.extend(LENGTH.to_ne_bytes());
    out.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    out.extend(NLM_F_REQUEST.to_ne_bytes());
    out.extend([0; 8]);
    out.extend([family, TCP, 0, 0]);
    // All states.
    out.extend(u32::MAX.to_ne_bytes());
    out.extend(local.port().to_be_bytes());
    out.extend(remote.port().to_be_bytes());
    out.extend(octets(local.ip()));
    out.extend(octets(remote.ip()));
    let scope = match connection.remote {
        SocketAddr::V6(remote) => remote.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    out.extend(scope.to_ne_bytes());
    // No cookie: whichever connection has these ends.
    out.extend([0xff; 8]);
    out
}

/// IPv4 peers of a socket for both families are looked up as what they are.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V6(ip) => ip.octets(),
        IpAddr::V4(ip) => {
            let mut all = [0; 16];
            all[..4].copy_from_slice(&ip.octets());
            all
        }
    }
}

/// `idiag_wqueue` of a `struct inet_diag_msg`, or the error that came instead.
fn read(answer: &[u8]) -> io::Result<u32> {
    const NLMSG_ERROR: u16 = 2;
    let word =
        |at: usize| answer.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let short = || io::Error::from(io::ErrorKind::UnexpectedEof);
    match kind {
        Some(NLMSG_ERROR) => {
            let code = word(16).ok_or_else(short)?.cast_signed();
            Err(io::Error::from_raw_os_error(code.saturating_neg()))
        }
        Some(_) => word(16 + 60).ok_or_else(short),
        None => Err(short()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    fn pair(listen: &str, to: &str) -> (TcpStream, TcpStream, Connection) {
        let listener = TcpListener::bind(listen).unwrap();
        let to = format!("{to}:{}", listener.local_addr().unwrap().port());
        let ours = TcpStream::connect(to).unwrap();
        let (theirs, _) = listener.accept().unwrap();
        let (local, remote) = (ours.local_addr().unwrap(), ours.peer_addr().unwrap());
        (ours, theirs, Connection { local, remote, tls: false })
    }

    #[test]
    fn the_queue_is_what_the_other_side_has_no_room_for() {
        for (listen, to) in [("127.0.0.1:0", "127.0.0.1"), ("[::]:0", "127.0.0.1"), ("[::1]:0", "[::1]")] {
            let (mut ours, mut theirs, connection) = pair(listen, to);
            let reverse = Connection {
                local: theirs.local_addr().unwrap(),
                remote: theirs.peer_addr().unwrap(),
                tls: false,
            };
            assert_eq!(unacknowledged(connection).unwrap(), 0, "{listen}");
            assert_eq!(unacknowledged(reverse).unwrap(), 0, "{listen} accepted");
            ours.set_nonblocking(true).unwrap();
            let mut written = 0;
            while let Ok(count) = ours.write(&[0; 65536]) {
                written += count;
            }
            let queue = usize::try_from(unacknowledged(connection).unwrap()).unwrap();
            assert!(queue > 0 && queue < written, "{queue} of {written}");
            let mut all = vec![0; written];
            theirs.read_exact(&mut all).unwrap();
            while unacknowledged(connection).unwrap() > 0 {
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn a_connection_that_is_not_there_is_an_error() {
        let nowhere: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let none = Connection { local: nowhere, remote: nowhere, tls: false };
        assert_eq!(unacknowledged(none).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(read(&[1, 2, 3]).is_err());
    }

    #[test]
    fn of_ciphertext_only_an_empty_queue_tells() {
        assert_eq!(known(100, 30, false, 0), 70);
        assert_eq!(known(100, 30, true, 20), 20);
        assert_eq!(known(100, 0, true, 20), 100);
        assert_eq!(known(100, 200, false, 20), 20, "a header may still be in the queue");
    }
}
