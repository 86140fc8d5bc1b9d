//! Whoever is between node and server, before TLS: what it says or holds back switches nothing off.

use super::*;

#[tokio::test]
async fn nobody_on_the_way_to_the_server_switches_it_off() {
    let behind = [PROCEED, " "].concat();
    let before = ["<x xmlns='urn:x'/>", PROCEED].concat();
    let early = [SERVER, OFFER, PROCEED].concat();
    let header = [SERVER, OFFER].concat();
    let broken = [SERVER, "</x>"].concat();
    for (first, answer) in [
        (&header[..], &behind[..]),
        (&header[..], &before[..]),
        (&header[..], "<proceed xmlns='urn:x'/>"),
        (&header[..], "\x16\x03\x03"),
        (&header[..], "<proceed "),
        (&early[..], PROCEED),
        (&broken[..], PROCEED),
    ] {
        let ground = Ground::new().await;
        let (mut client, mut server) = ground.place.pair().await;
        say(&mut client, CLIENT).await;
        heard(&mut server, CLIENT).await;
        say(&mut server, first).await;
        heard(&mut client, first).await;
        say(&mut client, STARTTLS).await;
        if first == header {
            heard(&mut server, STARTTLS).await;
            say(&mut server, answer).await;
            server.shutdown().await.expect("ended");
        }
        refused(&ground, &mut client, "<stream:error>").await;
    }
    // A server that ends without an answer, one that says nothing for too long, and one that does so until TLS is asked for.
    let limits = Limits { telling: Duration::from_millis(100), ..Limits::default() };
    let ground = Ground::with("xmpp", limits).await;
    let (mut client, _server) = ground.place.pair().await;
    say(&mut client, &[CLIENT, STARTTLS].concat()).await;
    refused(&ground, &mut client, "<?xml").await;
    let ground = Ground::with("xmpp", limits).await;
    let (mut client, mut server) = ground.place.pair().await;
    say(&mut client, CLIENT).await;
    ground.place.until("the end of patience", |view| view.unknown == 1).await;
    say(&mut server, &[SERVER, OFFER].concat()).await;
    heard(&mut client, &[SERVER, OFFER].concat()).await;
    say(&mut client, STARTTLS).await;
    heard(&mut server, &[CLIENT, STARTTLS].concat()).await;
    say(&mut server, PROCEED).await;
    ground.shake(client, server, ground.good(), true).await;
}

/// The client is told why, and what the server said is kept from it.
async fn refused(ground: &Ground, client: &mut TcpStream, begins: &str) {
    let told = String::from_utf8_lossy(&rest(client).await).into_owned();
    assert!(told.starts_with(begins) && told.contains("speaks no TLS"), "{told}");
    assert!(told.ends_with("</stream:error></stream:stream>") && !told.contains("proceed"), "{told}");
    assert!(ground.alarms().iter().any(|one| one.contains("speaks no TLS")), "{:?}", ground.alarms());
}

#[tokio::test]
async fn a_server_that_refuses_tls_is_heard() {
    let ground = Ground::new().await;
    let (mut client, mut server) = ground.place.pair().await;
    say(&mut client, &[CLIENT, STARTTLS].concat()).await;
    heard(&mut server, &[CLIENT, STARTTLS].concat()).await;
    let answer =
        [SERVER, OFFER, "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>"].concat();
    say(&mut server, &answer).await;
    heard(&mut client, &answer).await;
    assert!(ground.alarms().is_empty());
}

#[tokio::test]
async fn a_server_that_speaks_before_a_client_hello_does_not_switch_it_off() {
    let ground = Ground::new().await;
    let (mut client, mut server) = ground.place.pair().await;
    say(&mut server, "\x15\x03\x03\0\x02\x01\0").await;
    heard(&mut client, "\x15\x03\x03\0\x02\x01\0").await;
    let pair = ground.shake(client, server, ground.good(), false).await;
    assert_eq!(pair.1.get_ref().1.server_name(), Some("a.example"));
    ground.place.until("TLS that ends here", |view| view.secured == 1).await;
}
