//! Streams, features and TLS before login.

use super::*;

fn error(seen: &str) -> &str {
    let Some((_, rest)) = seen.split_once("<stream:error><") else { return "" };
    assert!(seen.ends_with("</stream:error></stream:stream>"), "{seen}");
    rest.split(' ').next().unwrap()
}

#[tokio::test]
async fn a_local_client_is_offered_tls_and_login() {
    let node = TestNode::start(|_| {}).await;
    let mut client = node.connect().await;
    client.send(OPEN.replace("to=", "from='alice@id.internal' to=")).await;
    let seen = client.expect("</stream:features>").await;
    assert!(seen.starts_with("<?xml version='1.0'?><stream:stream xmlns='jabber:client' "), "{seen}");
    for part in [
        " from='id.internal' to='alice@id.internal' version='1.0' xml:lang='en'>",
        "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        "<mechanism>SCRAM-SHA-256</mechanism><mechanism>SCRAM-SHA-1</mechanism><mechanism>PLAIN</mechanism>",
    ] {
        assert!(seen.contains(part), "{part} in {seen}");
    }
    assert!(!seen.contains("register"));
    client.send("</stream:stream>").await;
    assert_eq!(client.rest().await, "</stream:stream>");
}

#[tokio::test]
async fn headers_that_cannot_be_served_get_a_header_and_an_error() {
    let node = TestNode::start(|_| {}).await;
    for (header, condition) in [
        (OPEN.replace("id.internal", "other.example"), "host-unknown"),
        (OPEN.replace("to='id.internal'", ""), "host-unknown"),
        (OPEN.replace(" version='1.0' xmlns", " xmlns"), "unsupported-version"),
        (OPEN.replace(" version='1.0' xmlns", " version='0.9' xmlns"), "unsupported-version"),
        (OPEN.replace("jabber:client", "jabber:server"), "invalid-namespace"),
        (OPEN.replace("jabber.org/streams", "jabber.org/x"), "invalid-namespace"),
        (OPEN.replace("xmlns:stream", "xmlns:other"), "bad-namespace-prefix"),
        (OPEN.replace("<stream:stream", "<!DOCTYPE x><stream:stream"), "restricted-xml"),
        ("GET / HTTP/1.1\r\n\r\n".into(), "not-well-formed"),
    ] {
        let mut client = node.connect().await;
        client.send(&header).await;
        let seen = client.rest().await;
        assert!(seen.starts_with("<?xml version='1.0'?><stream:stream "), "{seen}");
        assert_eq!(error(&seen), condition, "{header}");
    }
}

#[tokio::test]
async fn other_names_of_the_node_are_served() {
    let node = TestNode::start(|_| {}).await;
    for name in ["localhost", "office.example", "ID.internal"] {
        let mut client = node.connect().await;
        client.send(OPEN.replace("id.internal", name)).await;
        let seen = client.expect("</stream:features>").await;
        assert!(seen.contains(&format!("from='{}'", name.to_lowercase())), "{seen}");
    }
}

#[tokio::test]
async fn starttls_protects_the_login() {
    let mut node = TestNode::start(|_| {}).await;
    let mut client = node.connect().await;
    client.open().await;
    let mut client = client.starttls(&node).await;
    let seen = client.open().await;
    assert!(!seen.contains("starttls") && seen.contains("PLAIN"), "{seen}");
    client.send(format!("<starttls xmlns='{}'/>", ns::TLS)).await;
    assert_eq!(client.rest().await, "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>");

    let mut client = node.connect().await;
    client.open().await;
    let mut client = client.starttls(&node).await;
    client.open().await;
    client.plain("alice", "secret").await;
    client.expect("<success").await;
    assert!(client.open().await.contains("<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>"));
    node.authenticated().await;
    client.send("<presence/>").await;
    assert_eq!(node.elements().await, [Element::new("presence", ns::CLIENT)]);
}

#[tokio::test]
async fn what_is_slipped_in_behind_starttls_is_refused() {
    let node = TestNode::start(|_| {}).await;
    let mut client = node.connect().await;
    client.open().await;
    client.send(format!("<starttls xmlns='{}'/><auth/>", ns::TLS)).await;
    let seen = client.rest().await;
    assert_eq!(error(&seen), "policy-violation");
    assert!(!seen.contains("proceed"), "{seen}");
}

#[tokio::test]
async fn what_is_slipped_in_before_the_handshake_is_no_stream() {
    let node = TestNode::start(|_| {}).await;
    let mut client = node.connect().await;
    client.open().await;
    client.send(format!("<starttls xmlns='{}'/>", ns::TLS)).await;
    client.expect("xmpp-tls'/>").await;
    client.send(OPEN).await;
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, client.stream.read_to_end(&mut bytes)).await.unwrap();
    assert!(!String::from_utf8_lossy(&bytes).contains("<stream"), "at most a TLS alert");
}

#[tokio::test]
async fn direct_tls_has_an_application_protocol() {
    let node = TestNode::start(|_| {}).await;
    let connect = async |alpn: &[u8]| {
        let stream = TcpStream::connect(node.door.direct_tls[0]).await.unwrap();
        node.tls(alpn).connect(ServerName::try_from("localhost").unwrap(), stream).await
    };
    let mut client = Client::new(connect(b"xmpp-client").await.unwrap());
    assert!(client.open().await.contains("PLAIN"));
    assert!(connect(b"http/1.1").await.is_err());
}

#[tokio::test]
async fn other_machines_must_use_tls() {
    let mut node = TestNode::start(|_| {}).await;
    let far = "192.0.2.7:4000".parse().unwrap();
    let mut client = node.connect_from(far).await;
    let seen = client.open().await;
    assert!(
        seen.contains("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>"),
        "{seen}"
    );
    assert!(!seen.contains("mechanism"), "{seen}");
    client.plain("alice", "secret").await;
    assert_eq!(error(&client.rest().await), "not-authorized");

    let mut client = node.connect_from(far).await;
    client.open().await;
    let mut client = client.starttls(&node).await;
    client.open().await;
    client.plain("alice", "secret").await;
    client.expect("<success").await;
    client.open().await;
    node.authenticated().await;
}

#[tokio::test]
async fn nothing_but_login_is_served_before_it() {
    let node = TestNode::start(|_| {}).await;
    for stanza in ["<message/>", "<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>", "<response/>"] {
        let mut client = node.connect().await;
        client.open().await;
        client.send(stanza).await;
        assert_eq!(error(&client.rest().await), "not-authorized");
    }
}

#[tokio::test]
async fn a_login_has_a_time_limit() {
    let node = TestNode::start(|settings| settings.limits.login_time = Duration::from_millis(100)).await;
    let mut silent = node.connect().await;
    assert_eq!(error(&silent.rest().await), "connection-timeout");
    let mut slow = node.connect().await;
    slow.open().await;
    slow.send("<auth").await;
    assert_eq!(error(&slow.rest().await), "connection-timeout");
}

#[tokio::test]
async fn a_flood_of_strangers_keeps_nobody_out() {
    let mut node = TestNode::start(|settings| settings.limits.strangers = 4).await;
    let mut flood = Vec::new();
    for _ in 0..12 {
        let mut client = node.connect().await;
        client.open().await;
        flood.push(client);
    }
    node.log_in().await;
    for client in &mut flood[..8] {
        assert_eq!(error(&client.rest().await), "resource-constraint");
    }
    flood[11].plain("alice", "secret").await;
    flood[11].expect("<success").await;
}

#[tokio::test]
async fn a_taken_address_is_an_error() {
    let node = TestNode::start(|_| {}).await;
    let taken = node.door.listen[0];
    let mut settings = Settings {
        listen: vec![taken],
        direct_tls: Vec::new(),
        domains: vec!["id.internal".into()],
        register: None,
        plain_logins: None,
        features,
        tls: node.inside.starttls.clone(),
        limits: Limits::default(),
    };
    let (inputs, _) = mpsc::channel(1);
    let failed = open(settings, node.directory.clone(), inputs.clone()).await.err().unwrap();
    assert!(failed.to_string().contains(&taken.to_string()), "{failed}");
    settings = Settings {
        listen: Vec::new(),
        direct_tls: Vec::new(),
        domains: Vec::new(),
        register: None,
        plain_logins: None,
        features,
        tls: node.inside.starttls.clone(),
        limits: Limits::default(),
    };
    assert!(matches!(open(settings, node.directory.clone(), inputs).await, Err(StartError::NoDomain)));
}
