//! Input that no honest client sends: answered with the standard error, at bounded cost, disturbing nobody.

use super::*;
use crate::xmpp::framer;

/// Sends `text` after login in pieces; the condition of the stream error that follows.
async fn error_after_login(node: &mut TestNode, bytes: &[u8], piece: usize) -> String {
    let (mut client, _) = node.log_in().await;
    for piece in bytes.chunks(piece) {
        client.send(piece).await;
        tokio::task::yield_now().await;
    }
    let seen = client.rest().await;
    assert_eq!(node.ended().await, Ending::Lost);
    let (_, rest) = seen.split_once("<stream:error><").unwrap_or_else(|| panic!("{seen}"));
    rest.split(' ').next().unwrap().to_owned()
}

#[tokio::test]
async fn illegal_xml_ends_the_stream_whole_or_in_drips() {
    let mut node = TestNode::start(|_| {}).await;
    let (mut bystander, _) = node.log_in().await;
    let deep = "<a>".repeat(40);
    for (bytes, condition) in [
        (&b"<message><!-- x -->"[..], "restricted-xml"),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]>", "restricted-xml"),
        (b"<message><?php ?>", "restricted-xml"),
        (b"<message>&custom;</message>", "restricted-xml"),
        (b"<message>\xff</message>", "unsupported-encoding"),
        (b"<message>\x00</message>", "not-well-formed"),
        (b"<message></presence>", "not-well-formed"),
        (b"<x:message/>", "bad-namespace-prefix"),
        (b"hello", "bad-format"),
        (deep.as_bytes(), "policy-violation"),
    ] {
        assert_eq!(error_after_login(&mut node, bytes, bytes.len()).await, condition);
        assert_eq!(error_after_login(&mut node, bytes, 1).await, condition);
    }
    bystander.send("<presence/>").await;
    assert_eq!(node.elements().await.len(), 1);
}

#[tokio::test]
async fn huge_stanzas_end_the_stream() {
    let mut node = TestNode::start(|_| {}).await;
    let limit = framer::Limits::AFTER_LOGIN;
    let huge = format!("<message>{}", "x".repeat(limit.stanza_bytes));
    assert_eq!(error_after_login(&mut node, huge.as_bytes(), 5000).await, "policy-violation");
    let many = format!("<message>{}</message>", "<a/>".repeat(limit.elements));
    assert_eq!(error_after_login(&mut node, many.as_bytes(), many.len()).await, "policy-violation");
    let wide: String = (0..=limit.attributes).map(|n| format!(" a{n}=''")).collect();
    assert_eq!(
        error_after_login(&mut node, format!("<message{wide}/>").as_bytes(), 100).await,
        "policy-violation"
    );
}

#[tokio::test]
async fn a_stranger_has_less_room() {
    let node = TestNode::start(|settings| settings.limits.login_bytes_per_second = 10 << 20).await;
    let mut client = node.connect().await;
    client.open().await;
    client.send(format!("<auth>{}", "x".repeat(framer::Limits::BEFORE_LOGIN.stanza_bytes))).await;
    assert!(client.rest().await.contains("<policy-violation "));
}

#[tokio::test]
async fn a_truncated_stream_is_a_lost_connection() {
    let mut node = TestNode::start(|_| {}).await;
    for text in ["", "<message", "<message>", "<message to='", "<message><![CDATA["] {
        let (mut client, _) = node.log_in().await;
        client.send(text).await;
        drop(client);
        assert_eq!(node.ended().await, Ending::Lost, "{text}");
    }
}
