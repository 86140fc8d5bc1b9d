//! A network within this process: hosts with IP addresses, streams between them that are counted, machines that lose their
//! power. What libp2p sees are `/ip4/…/tcp/…` addresses, so that scopes and networks count as they do outside. With a gateway
//! (`Air::open`) programs outside of the process reach the hosts at these addresses too, and are reached by them.

use std::collections::BTreeMap;
use std::future::{Ready, pending, ready};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::{AsyncRead, AsyncWrite, FutureExt as _};
use libp2p::Multiaddr;
use libp2p::core::Transport;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;
use tokio::io::{AsyncRead as _, AsyncWrite as _, DuplexStream, ReadBuf};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;

/// What a stream holds that nobody has read.
const PIPE: usize = 64 * 1024;

/// Traffic of a host, and whether it has power.
#[derive(Debug, Default)]
pub struct Meter {
    pub sent: AtomicU64,
    pub heard: AtomicU64,
    pub streams: AtomicU64,
    dark: AtomicBool,
}

struct Listening {
    meter: Arc<Meter>,
    arrivals: mpsc::UnboundedSender<(Pipe, SocketAddr)>,
}

/// Who listens where.
#[derive(Default)]
pub struct Air {
    hosts: Mutex<BTreeMap<SocketAddr, Listening>>,
    /// The machine takes all addresses of hosts for its own (`ip route add local 20.0.0.0/8 dev lo`).
    open: AtomicBool,
}

impl Air {
    /// Lets hosts that start from now on talk to programs outside.
    pub fn open(&self) {
        self.open.store(true, Relaxed);
    }

    /// Cuts a machine's power: nobody is told, and its streams and dials just hang.
    pub fn darken(&self, meter: &Meter) {
        meter.dark.store(true, Relaxed);
    }

    /// A network card for a host.
    pub fn carrier(self: &Arc<Self>, ip: IpAddr) -> (Carrier, Arc<Meter>) {
        let meter = Arc::<Meter>::default();
        let carrier = Carrier {
            air: Arc::clone(self),
            ip,
            meter: Arc::clone(&meter),
            ports: AtomicU16::new(40_000),
            listening: None,
        };
        (carrier, meter)
    }

    fn connect(&self, from: SocketAddr, near: &Arc<Meter>, to: SocketAddr) -> Option<io::Result<Pipe>> {
        let hosts = self.hosts.lock().unwrap();
        let Some(there) = hosts.get(&to) else { return Some(Err(io::ErrorKind::ConnectionRefused.into())) };
        if there.meter.dark.load(Relaxed) || near.dark.load(Relaxed) {
            return None;
        }
        let (ours, theirs) = tokio::io::duplex(PIPE);
        let pipe = |io: DuplexStream, own: &Arc<Meter>, far: &Arc<Meter>| {
            own.streams.fetch_add(1, Relaxed);
            Pipe { io: Box::new(io), own: Arc::clone(own), far: Arc::clone(far) }
        };
        let theirs = pipe(theirs, &there.meter, near);
        let refused = there.arrivals.send((theirs, from)).is_err();
        Some(if refused {
            Err(io::ErrorKind::ConnectionRefused.into())
        } else {
            Ok(pipe(ours, near, &there.meter))
        })
    }
}

/// One end of a stream.
trait End: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}

impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> End for T {}

pub struct Pipe {
    io: Box<dyn End>,
    own: Arc<Meter>,
    far: Arc<Meter>,
}

impl Pipe {
    fn is_dark(&self) -> bool {
        self.own.dark.load(Relaxed) || self.far.dark.load(Relaxed)
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_dark() {
            return Poll::Pending;
        }
        let mut buffer = ReadBuf::new(bytes);
        let read = Pin::new(&mut self.io).poll_read(cx, &mut buffer);
        if self.is_dark() {
            // Its end has only come because the machine is dark: nothing comes any more.
            return Poll::Pending;
        }
        read.map_ok(|()| {
            self.own.heard.fetch_add(buffer.filled().len() as u64, Relaxed);
            buffer.filled().len()
        })
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_dark() {
            return Poll::Ready(Ok(bytes.len()));
        }
        let wrote = Pin::new(&mut self.io).poll_write(cx, bytes);
        wrote.map_ok(|count| {
            self.own.sent.fetch_add(count as u64, Relaxed);
            count
        })
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// A host's way into the [`Air`].
pub struct Carrier {
    air: Arc<Air>,
    ip: IpAddr,
    meter: Arc<Meter>,
    ports: AtomicU16,
    listening: Option<Listener>,
}

struct Listener {
    id: ListenerId,
    at: SocketAddr,
    told: bool,
    arrivals: mpsc::UnboundedReceiver<(Pipe, SocketAddr)>,
}

/// Where hosts are.
fn is_inside(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.octets()[0] == 20)
}

async fn accept(listener: TcpListener, arrivals: mpsc::UnboundedSender<(Pipe, SocketAddr)>, own: Arc<Meter>) {
    while let Ok((stream, from)) = listener.accept().await {
        let pipe = Pipe { io: Box::new(stream), own: Arc::clone(&own), far: Arc::default() };
        if arrivals.send((pipe, from)).is_err() {
            return;
        }
    }
}

async fn outside(from: IpAddr, to: SocketAddr, own: Arc<Meter>) -> io::Result<Pipe> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    Ok(Pipe { io: Box::new(socket.connect(to).await?), own, far: Arc::default() })
}

fn socket(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    let Protocol::Tcp(port) = parts.next()? else { return None };
    Some(SocketAddr::new(ip, port))
}

fn multiaddr(socket: SocketAddr) -> Multiaddr {
    Multiaddr::from(socket.ip()).with(Protocol::Tcp(socket.port()))
}

impl Drop for Carrier {
    fn drop(&mut self) {
        // What is dark stays where it was, and answers nobody.
        if let Some(listener) = &self.listening
            && !self.meter.dark.load(Relaxed)
        {
            self.air.hosts.lock().unwrap().remove(&listener.at);
        }
    }
}

impl Transport for Carrier {
    type Output = Pipe;
    type Error = io::Error;
    type ListenerUpgrade = Ready<io::Result<Pipe>>;
    type Dial = BoxFuture<'static, io::Result<Pipe>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        let at = socket(&address).filter(|at| at.ip() == self.ip);
        let at = at.ok_or(TransportError::MultiaddrNotSupported(address))?;
        let (sender, arrivals) = mpsc::unbounded_channel();
        let listening = Listening { meter: Arc::clone(&self.meter), arrivals: sender };
        if self.air.open.load(Relaxed) {
            let listener = std::net::TcpListener::bind(at).and_then(|listener| {
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener)
            });
            let listener = listener.map_err(TransportError::Other)?;
            tokio::spawn(accept(listener, listening.arrivals.clone(), Arc::clone(&self.meter)));
        }
        self.air.hosts.lock().unwrap().insert(at, listening);
        self.listening = Some(Listener { id, at, told: false, arrivals });
        Ok(())
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(&mut self, address: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        let to = socket(&address).ok_or(TransportError::MultiaddrNotSupported(address))?;
        let from = SocketAddr::new(self.ip, self.ports.fetch_add(1, Relaxed));
        let (air, meter) = (Arc::clone(&self.air), Arc::clone(&self.meter));
        let dial = async move {
            tokio::task::yield_now().await;
            if air.open.load(Relaxed) && to.ip() != from.ip() && !is_inside(to.ip()) {
                return outside(from.ip(), to, meter).await;
            }
            match air.connect(from, &meter, to) {
                Some(connected) => connected,
                None => pending().await,
            }
        };
        Ok(dial.boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        let Some(listener) = &mut self.listening else { return Poll::Pending };
        if !std::mem::replace(&mut listener.told, true) {
            let (listener_id, listen_addr) = (listener.id, multiaddr(listener.at));
            return Poll::Ready(TransportEvent::NewAddress { listener_id, listen_addr });
        }
        let Poll::Ready(Some((pipe, from))) = listener.arrivals.poll_recv(cx) else { return Poll::Pending };
        Poll::Ready(TransportEvent::Incoming {
            listener_id: listener.id,
            upgrade: ready(Ok(pipe)),
            local_addr: multiaddr(listener.at),
            send_back_addr: multiaddr(from),
        })
    }
}
