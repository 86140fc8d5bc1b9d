//! Figures for Prometheus: `GET /metrics` on this machine, if the settings say so.
//!
//! One question a connection, of a bounded size and time; anything else is refused. Nobody is named in it.

mod text;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::admin::service::Service;
use crate::authority::Authority;
use crate::core::admin::{Command, Reply};
use crate::store_thread::Flushes;

/// Questions answered at once; more wait in the system's queue.
const CONNECTIONS: usize = 4;
/// Longest head of a question, bytes.
const MAX_HEAD: usize = 8 * 1024;
/// Who takes longer is cut off.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the figures come from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The core.
    pub service: Service,
    /// The server of a domain.
    pub authority: Authority,
    /// The store.
    pub flushes: Flushes,
}

/// Takes the port.
///
/// # Errors
/// When the system refuses.
pub async fn open(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, sources: Sources) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let sources = sources.clone();
                tokio::spawn(async move {
                    // Whoever asked may have gone away.
                    let _ = timeout(PATIENCE, answer(stream, &sources)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!("the port for figures: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn answer(mut stream: TcpStream, sources: &Sources) -> io::Result<()> {
    let mut head = Vec::with_capacity(512);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() >= MAX_HEAD || stream.read_buf(&mut head).await? == 0 {
            return stream.write_all(&response("400 Bad Request", "")).await;
        }
    }
    let body = match asked(&head) {
        Ok(()) => figures(sources).await,
        Err(status) => return stream.write_all(&response(status, "")).await,
    };
    match body {
        Some(body) => stream.write_all(&response("200 OK", &body)).await?,
        None => stream.write_all(&response("503 Service Unavailable", "")).await?,
    }
    stream.shutdown().await
}

/// Whether the figures are asked for; else what is said.
fn asked(head: &[u8]) -> Result<(), &'static str> {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    match (words.next(), words.next(), words.next()) {
        (Some(b"GET"), Some(path), Some(version)) if version.starts_with(b"HTTP/1.") => {
            let path = path.split(|byte| *byte == b'?').next().unwrap_or_default();
            if path == b"/metrics" { Ok(()) } else { Err("404 Not Found") }
        }
        (Some(_), Some(_), Some(version)) if version.starts_with(b"HTTP/1.") => Err("405 Method Not Allowed"),
        _ => Err("400 Bad Request"),
    }
}

fn response(status: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Nothing when the node is stopping.
async fn figures(sources: &Sources) -> Option<String> {
    let Ok(Reply::Status(status)) = sources.service.ask(Command::Status).await else { return None };
    let standing = sources.authority.standing();
    let mut text = text::figures(&status, &standing, &sources.authority.figures(), sources.flushes.count());
    text.push_str(&sources.service.bypass().as_ref().map(text::bypass).unwrap_or_default());
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_figures_are_answered() {
        assert_eq!(asked(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(()));
        assert_eq!(asked(b"GET /metrics?x=1 HTTP/1.0\r\n\r\n"), Ok(()));
        assert_eq!(asked(b"GET / HTTP/1.1\r\n\r\n"), Err("404 Not Found"));
        assert_eq!(asked(b"POST /metrics HTTP/1.1\r\n\r\n"), Err("405 Method Not Allowed"));
        for nonsense in [
            &b"\r\n\r\n"[..],
            b"GET /metrics\r\n\r\n",
            b"\xff\x00 b c\r\n\r\n",
            b"GET  /metrics HTTP/2\r\n\r\n",
        ] {
            assert_eq!(asked(nonsense), Err("400 Bad Request"));
        }
    }
}
