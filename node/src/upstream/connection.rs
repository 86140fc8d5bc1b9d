//! The connection to the stock server, as an external component (XEP-0114): made, proved, kept, and made again.
//!
//! The link is not encrypted: the secret itself is never sent, but whoever can listen reads what goes over it. It belongs on
//! one machine, or on a network that only the two share.

use std::time::Duration;

use sha1::{Digest as _, Sha1};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval, sleep, timeout};

use super::Component;
use crate::accounts::random;
use crate::c2s::transport;
use crate::c2s::wire::{Stop, Wire};
use crate::core::hex;
use crate::secret::Secret;
use crate::xmpp::element::write_attribute;
use crate::xmpp::framer::{Frame, Framer, Limits};
use crate::xmpp::{Element, ns};

/// From the begin of a connection to the end of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(20);
/// Bytes that are not taken for so long: the connection is of no use.
const WRITE: Duration = Duration::from_secs(30);
/// White space after so long without a stanza, so that a connection that is lost is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Pauses between tries: the first, and the longest; and after the secret was refused.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Bytes a second that are read of the stock server, and bytes that it may send at once.
const RATE: (u32, u32) = (4 << 20, 16 << 20);
/// How often the gate looks at the time.
const TICK: Duration = Duration::from_secs(5);
/// Writes that wait for the socket: what the gate wants is written in pieces of one step each.
pub const ORDERS: usize = 1_024;

/// What happens to the connection.
#[derive(Debug)]
pub enum Event {
    /// It is proved. What is written goes here; when that is dropped, the connection ends.
    Up(mpsc::Sender<Vec<u8>>),
    /// It is lost, or was not to be had: why, for a person.
    Down(String),
    /// An element came.
    Element(Element),
    /// Some time has gone by.
    Tick,
}

/// Where events go. False: nobody wants them any more.
pub trait Listener: Clone + Send + 'static {
    /// Tells, and waits while there is no room.
    fn tell(&self, event: Event) -> impl Future<Output = bool> + Send;

    /// Ends when nobody wants them any more.
    fn gone(&self) -> impl Future<Output = ()> + Send;
}

/// Keeps the connection for as long as somebody listens, while this process leads. Who does not any more drops what it was
/// given to write to.
pub async fn keep(
    component: Component,
    domain: String,
    mut leading: watch::Receiver<bool>,
    listener: impl Listener,
) {
    tokio::spawn(tick(listener.clone()));
    let mut failures = 0;
    loop {
        tokio::select! {
            () = listener.gone() => return,
            leads = leading.wait_for(|leads| *leads) => if leads.is_err() { return },
        }
        let (why, was_up) = run(&component, &domain, &listener).await;
        if was_up {
            failures = 0;
        }
        tracing::warn!("XMPP server at {}: {why}", component.address);
        if !listener.tell(Event::Down(why)).await {
            return;
        }
        tokio::select! {
            () = listener.gone() => return,
            () = sleep(pause(failures)) => {}
        }
        failures = failures.saturating_add(1);
    }
}

async fn tick(listener: impl Listener) {
    let mut ticks = interval(TICK);
    loop {
        ticks.tick().await;
        if !listener.tell(Event::Tick).await {
            return;
        }
    }
}

/// Twice as long each time, by a third more or less, so that several do not come together.
fn pause(failures: u32) -> Duration {
    let pause = FIRST.saturating_mul(1 << failures.min(10)).min(LONGEST);
    let [lot] = random::bytes::<1>().unwrap_or([128]);
    pause.mul_f64(0.67 + f64::from(lot) / 384.0)
}

/// One connection, until it ends: why, and whether it was ever proved.
async fn run(component: &Component, domain: &str, listener: &impl Listener) -> (String, bool) {
    let opened = timeout(HANDSHAKE, open(component, domain)).await;
    let mut wire = match opened {
        Ok(Ok(wire)) => wire,
        Ok(Err(why)) => return (why, false),
        Err(_) => return ("it does not answer".to_owned(), false),
    };
    let (orders, wanted) = mpsc::channel(ORDERS);
    if !listener.tell(Event::Up(orders)).await {
        return ("the node is stopping".to_owned(), true);
    }
    tracing::info!("connected to the XMPP server at {} as {domain}", component.address);
    (converse(&mut wire, wanted, listener).await, true)
}

async fn open(component: &Component, domain: &str) -> Result<Wire, String> {
    let stream = TcpStream::connect(&component.address).await;
    let stream = stream.map_err(|error| format!("no connection: {error}"))?;
    let prepared = transport::prepare(&stream).and_then(|()| {
        let limit = u32::try_from(WRITE.as_millis()).unwrap_or(u32::MAX);
        Ok(rustix::net::sockopt::set_tcp_user_timeout(&stream, limit)?)
    });
    prepared.map_err(|error| format!("no connection: {error}"))?;
    let mut wire = Wire::new(stream, RATE.0, RATE.1);
    wire.framer = Framer::of_component(Limits::FROM_PEER);
    prove(&mut wire, &component.secret, domain).await.map_err(|stop| said(&stop))?;
    Ok(wire)
}

/// XEP-0114 §3.
async fn prove(wire: &mut Wire, secret: &Secret, domain: &str) -> Result<(), Stop> {
    let mut header = b"<?xml version='1.0'?><stream:stream".to_vec();
    write_attribute(&mut header, "xmlns", ns::COMPONENT);
    write_attribute(&mut header, "xmlns:stream", ns::STREAMS);
    write_attribute(&mut header, "to", domain);
    header.push(b'>');
    wire.write(&header).await?;
    let Frame::Open(opened) = wire.frame().await? else { return Err(Stop::Closed) };
    let proof = proof(opened.get_attr("id").unwrap_or_default(), secret);
    wire.write(format!("<handshake>{proof}</handshake>").as_bytes()).await?;
    let answer = wire.element().await?;
    match answer.is("handshake", ns::CLIENT) {
        true => Ok(()),
        false => Err(refusal(&answer)),
    }
}

fn proof(id: &str, secret: &Secret) -> String {
    hex(&Sha1::new().chain_update(id).chain_update(secret.reveal()).finalize())
}

/// A stream error of the stock server, as ours.
fn refusal(answer: &Element) -> Stop {
    use crate::xmpp::error::StreamCondition as C;
    if !answer.is("error", ns::STREAMS) {
        return Stop::Closed;
    }
    let condition = answer.children().find(|child| child.ns() == ns::STREAM_ERROR && child.name() != "text");
    let text = answer.get("text", ns::STREAM_ERROR).map(|text| text.own_text().to_string());
    let condition = condition.map_or("undefined-condition", Element::name);
    let text = format!("{condition} ({})", text.unwrap_or_default());
    crate::c2s::wire::stop(
        if condition == "not-authorized" { C::NotAuthorized } else { C::UndefinedCondition },
        &text,
    )
}

/// For a person.
fn said(stop: &Stop) -> String {
    use crate::xmpp::error::StreamCondition as C;
    match stop {
        Stop::Error(error) if error.condition == C::NotAuthorized => {
            "it does not accept the secret: compare the file named by `component_secret` with the component's in its settings"
                .to_owned()
        }
        Stop::Error(error) => format!("it refuses the stream: {}", error.text),
        Stop::Closed => "it has ended the stream".to_owned(),
        Stop::Gone => "the connection is lost".to_owned(),
    }
}

/// The proved stream, until it ends: why.
async fn converse(wire: &mut Wire, mut wanted: mpsc::Receiver<Vec<u8>>, listener: &impl Listener) -> String {
    let mut silent = Instant::now();
    loop {
        tokio::select! {
            frame = wire.frame() => match frame {
                Ok(Frame::Element(element)) if element.ns() == ns::STREAMS => return said(&refusal(&element)),
                Ok(Frame::Element(element)) => {
                    if !listener.tell(Event::Element(element)).await {
                        return "the node is stopping".to_owned();
                    }
                }
                Ok(Frame::Open(_) | Frame::Close) => return said(&Stop::Closed),
                Err(stop) => return said(&stop),
            },
            bytes = wanted.recv() => {
                let Some(bytes) = bytes else {
                    let _ = timeout(WRITE, wire.write(b"</stream:stream>")).await;
                    return "the connection was of no use".to_owned();
                };
                silent = Instant::now();
                match timeout(WRITE, wire.write(&bytes)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(stop)) => return said(&stop),
                    Err(_) => return "it does not read what it is sent".to_owned(),
                }
            }
            () = tokio::time::sleep_until(silent + KEEP_ALIVE) => {
                silent = Instant::now();
                if wire.write(b" ").await.is_err() {
                    return said(&Stop::Gone);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of XEP-0114 §3.
    #[test]
    fn the_proof_is_that_of_the_xep() {
        let secret = Secret::from("test".to_owned());
        assert_eq!(proof("3BF96D32", &secret), "aaee83c26aeeafcbabeabfcbcd50df997e0a2a1e");
        assert_eq!(format!("{:?}", Component { address: "a:1".into(), secret }).matches("test").count(), 0);
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        assert!(pause(0) < Duration::from_secs(2) && pause(4) > Duration::from_secs(10));
        assert!(pause(u32::MAX) < Duration::from_secs(90));
    }

    #[test]
    fn a_refused_secret_is_told_plainly() {
        let error = Element::new("error", ns::STREAMS)
            .child(Element::new("not-authorized", ns::STREAM_ERROR))
            .child(Element::new("text", ns::STREAM_ERROR).text("no"));
        assert!(said(&refusal(&error)).contains("does not accept the secret"));
        let other = Element::new("error", ns::STREAMS).child(Element::new("conflict", ns::STREAM_ERROR));
        assert!(said(&refusal(&other)).contains("conflict"));
    }
}
