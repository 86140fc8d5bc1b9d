//! After login: elements in, bytes out, endings.

use super::*;
use crate::xmpp::StreamError;
use crate::xmpp::error::StreamCondition;

fn numbered(n: usize) -> String {
    format!("<message id='{n}'/>")
}

#[tokio::test]
async fn what_is_read_together_arrives_together_and_in_order() {
    let mut node = TestNode::start(|_| {}).await;
    let (mut client, conn) = node.log_in().await;
    client.send((0..3).map(numbered).collect::<String>()).await;
    let input = node.next().await;
    assert!(matches!(&input, Input::Elements { conn: of, elements } if *of == conn && elements.len() == 3));
    client.send("<message id='3'").await;
    client.send("/>\n ").await;
    assert_eq!(node.elements().await[0].get_attr("id"), Some("3"));
}

#[tokio::test]
async fn a_busy_event_loop_loses_nothing() {
    let mut node = TestNode::start(|_| {}).await;
    let (mut client, _) = node.log_in().await;
    let sending = tokio::spawn(async move {
        for chunk in 0..100 {
            client.send((0..300).map(|n| numbered(chunk * 300 + n)).collect::<String>()).await;
        }
        client
    });
    let mut next = 0;
    while next < 30_000 {
        let elements = node.elements().await;
        assert!(elements.len() <= 256);
        for element in elements {
            assert_eq!(element.get_attr("id"), Some(next.to_string().as_str()));
            next += 1;
        }
    }
    drop(sending.await);
    assert_eq!(node.ended().await, Ending::Lost);
}

#[tokio::test]
async fn a_fast_client_is_slowed_down_and_loses_nothing() {
    let limits = |settings: &mut Settings| {
        settings.limits.bytes_per_second = 100_000;
        settings.limits.burst_bytes = 1000;
    };
    let mut node = TestNode::start(limits).await;
    let (mut client, _) = node.log_in().await;
    let start = tokio::time::Instant::now();
    let (sent, mut got) = (10_000, 0);
    let all: String = (0..sent).map(numbered).collect();
    let sending = tokio::spawn(async move {
        client.send(&all).await;
        client.send("<presence/>").await;
        (client, all.len())
    });
    while got < sent + 1 {
        got += node.elements().await.len();
    }
    let (_client, bytes) = sending.await.unwrap();
    // The last read may overdraw by as much as one read is large.
    let least = Duration::from_secs_f64((bytes as f64 - 1000.0 - 65_536.0) / 100_000.0);
    assert!(start.elapsed() >= least, "{:?} for {bytes} bytes", start.elapsed());
}

#[tokio::test]
async fn what_is_sent_in_one_turn_is_read_at_once() {
    let mut node = TestNode::start(|_| {}).await;
    let (mut client, conn) = node.log_in().await;
    let clients = node.door.clients.clone();
    for n in 0..50 {
        clients.send(conn, numbered(n).into_bytes());
    }
    clients.send(ConnId(999), b"to nobody".to_vec());
    let mut bytes = vec![0; 65536];
    let count = timeout(PATIENCE, client.stream.read(&mut bytes)).await.unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes[..count]), (0..50).map(numbered).collect::<String>());
}

#[tokio::test]
async fn endings_are_told_once_and_as_they_are() {
    let mut node = TestNode::start(|_| {}).await;
    let (mut client, conn) = node.log_in().await;
    assert_eq!(node.door.clients.count(), 1);
    node.door.clients.send(conn, b"<message/>".to_vec());
    client.send("<presence/></stream:stream><presence/>").await;
    assert_eq!(node.elements().await.len(), 1);
    assert_eq!(node.ended().await, Ending::Closed);
    assert_eq!(client.rest().await, "<message/></stream:stream>");
    assert_eq!(node.door.clients.count(), 0);

    let (client, _) = node.log_in().await;
    drop(client);
    assert_eq!(node.ended().await, Ending::Lost);

    let (mut client, _) = node.log_in().await;
    client.send("<presence/><iq/><!-- -->").await;
    assert_eq!(node.elements().await.len(), 2);
    assert_eq!(node.ended().await, Ending::Lost);
    assert!(client.rest().await.contains("<stream:error><restricted-xml "));
    assert!(node.inputs.try_recv().is_err());
}

#[tokio::test]
async fn the_core_ends_a_stream_after_what_it_sent() {
    let mut node = TestNode::start(|_| {}).await;
    let conflict = || Some(StreamError::new(StreamCondition::Conflict, "replaced"));
    for (error, answer, ending) in
        [(conflict(), "</stream:stream>", Ending::Closed), (None, "<presence/>", Ending::Lost)]
    {
        let (mut client, conn) = node.log_in().await;
        node.door.clients.send(conn, b"<message/>".to_vec());
        node.door.clients.close(conn, error.clone());
        node.door.clients.send(conn, b"<late/>".to_vec());
        let seen = client.rest_then(answer).await;
        let text = error.map(|error| String::from_utf8(error.to_bytes()).unwrap()).unwrap_or_default();
        assert_eq!(seen, format!("<message/>{text}</stream:stream>"));
        assert_eq!(node.ended().await, ending);
    }
    let (mut client, _) = node.log_in().await;
    node.door.clients.close_all(&StreamError::new(StreamCondition::SystemShutdown, ""));
    assert!(client.rest().await.contains("<system-shutdown "));
}

impl Client {
    /// Reads to the end of the node's stream, then sends the last words.
    async fn rest_then(&mut self, answer: &str) -> String {
        let seen = self.expect("</stream:stream>").await;
        self.send(answer).await;
        seen
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let mut node = TestNode::start(|settings| settings.limits.unread_bytes = 100_000).await;
    let (deaf, conn) = node.log_in().await;
    let (mut other, other_conn) = node.log_in().await;
    for _ in 0..1000 {
        node.door.clients.send(conn, vec![b' '; 90_000]);
        tokio::task::yield_now().await;
        if let Ok(input) = node.inputs.try_recv() {
            assert!(matches!(input, Input::Ended { conn: of, how: Ending::Lost } if of == conn), "{input:?}");
            break;
        }
    }
    node.door.clients.send(other_conn, b"<message/>".to_vec());
    other.expect("<message/>").await;
    assert_eq!(node.door.clients.count(), 1);
    drop(deaf);
}

#[tokio::test]
async fn a_full_node_turns_clients_away() {
    let mut node = TestNode::start(|settings| settings.limits.connections = 2).await;
    let first = node.log_in().await;
    let _second = node.log_in().await;
    assert_eq!(node.connect().await.rest().await, "");
    drop(first);
    assert_eq!(node.ended().await, Ending::Lost);
    loop {
        let mut client = node.connect().await;
        client.send(OPEN).await;
        if client.read_until("</stream:features>").await.is_ok() {
            break;
        }
    }
}
