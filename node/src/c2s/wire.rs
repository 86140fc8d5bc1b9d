//! A connection before login: frames in, elements out, slowly enough.

use std::sync::Arc;

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::xmpp::error::StreamCondition;
use crate::xmpp::framer::{Frame, Framer, Limits};
use crate::xmpp::{Element, StreamError, ns};

use super::rate::Bucket;
use super::transport::Transport;

/// Bytes of one read.
const READ: usize = 4096;

/// How a connection ends that does not get to a login.
pub(super) enum Stop {
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

pub(super) fn stop(condition: StreamCondition, text: &str) -> Stop {
    Stop::Error(StreamError::new(condition, text))
}

/// The connection of a stranger.
pub(super) struct Wire {
    /// `None` while TLS is being set up.
    pub(super) transport: Option<Transport>,
    pub(super) framer: Framer,
    pending: Vec<u8>,
    consumed: usize,
    bucket: Bucket,
    start: Instant,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, bytes_per_second: u32, burst: u32) -> Self {
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

    pub(super) fn is_tls(&self) -> bool {
        self.transport.as_ref().is_some_and(Transport::is_tls)
    }

    /// Bytes that were read and belong to no frame yet taken.
    pub(super) fn unread(&self) -> &[u8] {
        self.pending.get(self.consumed..).unwrap_or_default()
    }

    pub(super) fn forget(&mut self) {
        self.pending = Vec::new();
        self.consumed = 0;
    }

    pub(super) async fn start_tls(&mut self, config: Arc<ServerConfig>) -> Result<(), Stop> {
        let Some(Transport::Plain(stream)) = self.transport.take() else { return Err(Stop::Gone) };
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        self.transport = Some(Transport::Tls(Box::new(stream)));
        Ok(())
    }

    pub(super) async fn element(&mut self) -> Result<Element, Stop> {
        match self.frame().await? {
            Frame::Element(element) => Ok(element),
            Frame::Open(_) | Frame::Close => Err(Stop::Closed),
        }
    }

    pub(super) async fn frame(&mut self) -> Result<Frame, Stop> {
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

    pub(super) async fn send(&mut self, element: &Element) -> Result<(), Stop> {
        self.write(&element.to_bytes(ns::CLIENT)).await
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let Some(transport) = &mut self.transport else { return Err(Stop::Gone) };
        transport.write_all(bytes).await?;
        transport.flush().await?;
        Ok(())
    }
}
