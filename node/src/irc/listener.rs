//! Accepts clients of IRC, and follows each from its first byte to its end, in the seats of all clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::connection;
use super::line::Line;
use super::login::{Entered, Knocking, Stop};
use crate::c2s::connection::{close, linger};
use crate::c2s::listener::{Arrival, Door, STRANGERS_GRACE, Turned, admit, arrival};
use crate::c2s::transport::Transport;
use crate::core::io::{ConnId, Ending, Input};

/// Accepts until it is aborted.
pub(super) async fn accept(door: Arc<Door>, listener: TcpListener, tls: bool) {
    loop {
        if let Some(arrival) = arrival(&door, &listener).await {
            tokio::spawn(follow(door.clone(), arrival, tls));
        }
    }
}

async fn follow(door: Arc<Door>, arrival: Arrival, tls: bool) {
    let Arrival { conn, stream, peer, seat } = arrival;
    // Boxed, because it is large and over long before the session is.
    if let Some(entered) = Box::pin(enter(&door, conn, stream, peer, tls)).await {
        run_session(&door, conn, entered).await;
    }
    drop(seat);
}

async fn enter(
    door: &Arc<Door>,
    conn: ConnId,
    stream: TcpStream,
    peer: SocketAddr,
    tls: bool,
) -> Option<Entered> {
    let mut knocking = None;
    let login = async {
        let transport = match tls {
            true => encrypted(door.starttls.clone(), stream).await?,
            false => Transport::Plain(stream),
        };
        knocking.insert(Knocking::new(door.clone(), peer, transport)).run().await
    };
    let (why, grace) = match admit(door, conn, peer, login).await {
        Ok(Ok(user)) => return knocking.map(|knocking| knocking.into_entered(user)),
        Ok(Err(Stop::Gone)) => return None,
        Ok(Err(Stop::Refused(why))) => (why, door.limits.grace.min(STRANGERS_GRACE)),
        Err(Turned::Late) => ("the login took too long".to_owned(), STRANGERS_GRACE),
        Err(Turned::Crowded) => ("too many connections wait for a login".to_owned(), Duration::ZERO),
    };
    tracing::debug!(%peer, why, "a login was ended");
    let mut transport = knocking?.into_transport();
    let mut last = String::new();
    Line::new("ERROR").param(format!("Closing link: {why}")).write(&mut last);
    close(&mut transport, last.as_bytes(), grace).await;
    linger(&mut transport, grace).await;
    None
}

async fn encrypted(config: Arc<ServerConfig>, stream: TcpStream) -> Result<Transport, Stop> {
    let stream = TlsAcceptor::from(config).accept(stream).await.map_err(|_| Stop::Gone)?;
    Ok(Transport::Tls(Box::new(stream.into())))
}

async fn run_session(door: &Arc<Door>, conn: ConnId, entered: Entered) {
    let grace = door.limits.grace;
    let outbox = door.clients.add(conn, door.limits.unread_bytes);
    let user = entered.user;
    let mut connection = connection::Connection::new(door, conn, entered, outbox);
    let announced = door.inputs.send(Input::Authenticated { conn, user }).await.is_ok();
    let (how, last) = if announced { connection.run().await } else { (Ending::Lost, Vec::new()) };
    door.clients.remove(conn);
    if announced && door.inputs.send(Input::Ended { conn, how }).await.is_err() {
        tracing::debug!("the node stopped before a client did");
    }
    let mut transport = connection.into_transport();
    close(&mut transport, &last, grace).await;
    linger(&mut transport, grace).await;
}
