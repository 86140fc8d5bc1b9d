//! A connection before login, or before the headers of a link-local stream: frames in, elements out, slowly enough.

use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::xmpp::error::StreamCondition;
use crate::xmpp::framer::{Frame, Framer, Limits};
use crate::xmpp::{Element, StreamError, ns};

use super::rate::Bucket;
use super::transport::Transport;

/// Bytes of one read.
const READ: usize = 4096;

/// How a connection ends that does not get to a login.
pub(crate) enum Stop {
    /// With this stream error.
    Error(StreamError),
    /// The client ended its stream.
    Closed,
    /// The connection is lost.
    Gone,
}

impl From<StreamError> for Stop {
    fn from(error: StreamError) -> Self {
        Self::Error(error)
    }
}

impl From<std::io::Error> for Stop {
    fn from(_: std::io::Error) -> Self {
        Self::Gone
    }
}

pub(crate) fn stop(condition: StreamCondition, text: &str) -> Stop {
    Stop::Error(StreamError::new(condition, text))
}

/// The connection of a stranger.
pub(crate) struct Wire {
    /// `None` while TLS is being set up.
    pub(crate) transport: Option<Transport>,
    pub(crate) framer: Framer,
    pending: Vec<u8>,
    consumed: usize,
    bucket: Bucket,
    start: Instant,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream, bytes_per_second: u32, burst: u32) -> Self {
        let start = Instant::now();
        Self {
            transport: Some(Transport::Plain(stream)),
            framer: Framer::new(Limits::BEFORE_LOGIN),
            pending: Vec::new(),
            consumed: 0,
            bucket: Bucket::new(bytes_per_second, burst, start.elapsed()),
            start,
        }
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.transport.as_ref().is_some_and(Transport::is_tls)
    }

    /// Bytes that were read and belong to no frame yet taken.
    pub(crate) fn unread(&self) -> &[u8] {
        self.pending.get(self.consumed..).unwrap_or_default()
    }

    pub(crate) fn forget(&mut self) {
        self.pending = Vec::new();
        self.consumed = 0;
    }

    pub(crate) async fn start_tls(&mut self, config: Arc<ServerConfig>) -> Result<(), Stop> {
        let Some(Transport::Plain(stream)) = self.transport.take() else { return Err(Stop::Gone) };
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        self.transport = Some(Transport::Tls(Box::new(stream.into())));
        Ok(())
    }

    /// The client's side of [`Self::start_tls`].
    pub(crate) async fn connect_tls(
        &mut self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<(), Stop> {
        let Some(Transport::Plain(stream)) = self.transport.take() else { return Err(Stop::Gone) };
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        self.transport = Some(Transport::Tls(Box::new(stream.into())));
        Ok(())
    }

    pub(crate) async fn element(&mut self) -> Result<Element, Stop> {
        match self.frame().await? {
            Frame::Element(element) => Ok(element),
            Frame::Open(_) | Frame::Close => Err(Stop::Closed),
        }
    }

    pub(crate) async fn frame(&mut self) -> Result<Frame, Stop> {
        loop {
            let mut input = self.pending.get(self.consumed..).unwrap_or_default();
            let before = input.len();
            let frame = self.framer.next(&mut input);
            self.consumed += before - input.len();
            if let Some(frame) = frame? {
                return Ok(frame);
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result<(), Stop> {
        let Some(transport) = &mut self.transport else { return Err(Stop::Gone) };
        self.pending.resize(READ, 0);
        self.consumed = READ;
        let count = transport.read(&mut self.pending).await?;
        self.pending.truncate(count);
        self.consumed = 0;
        if count == 0 {
            return Err(Stop::Gone);
        }
        if let Some(pause) = self.bucket.take(count, self.start.elapsed()) {
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    pub(crate) async fn send(&mut self, element: &Element) -> Result<(), Stop> {
        self.write(&element.to_bytes(ns::CLIENT)).await
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let Some(transport) = &mut self.transport else { return Err(Stop::Gone) };
        transport.write_all(bytes).await?;
        transport.flush().await?;
        Ok(())
    }
}
