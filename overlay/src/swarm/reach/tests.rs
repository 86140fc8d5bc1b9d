//! A node and one that tries its address, with all that a swarm consists of, on loopback, which counts as public.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use libp2p::Swarm;
use libp2p::identity::Keypair;
use libp2p::swarm::SwarmEvent;

use super::super::task::{Behaviour as Whole, BehaviourEvent};
use super::super::{Event, gossip, kad, swarm_config, transport};
use super::*;
use crate::core::PeerEvent;

const PATIENCE: Duration = Duration::from_secs(30);

fn swarm(seed: u8, mode: DhtMode) -> Swarm<Whole> {
    let keypair = Keypair::ed25519_from_bytes([seed; 32]).expect("a key");
    let local = keypair.public().to_peer_id();
    let networks = Networks { public: vec![(Ipv4Addr::LOCALHOST.into(), 8)], ..Networks::default() };
    let config = DhtConfig { networks, mode, ..DhtConfig::default() };
    let (circuits, reach, _) = Behaviour::new(local, &config);
    let direct = transport::build(&keypair, false).expect("a transport");
    let transport = transport::with_circuits(direct, circuits, &keypair).expect("a transport");
    let dht = kad::Behaviour::new(keypair.public(), config, &Arc::default());
    let whole =
        Whole::new(local, 64, None, Some(dht), Some(reach), gossip::Behaviour::new().expect("gossipsub"));
    Swarm::new(transport, whole, local, swarm_config())
}

/// What the program does with what the table says.
fn pass(swarm: &mut Swarm<Whole>, event: SwarmEvent<BehaviourEvent>) -> Option<Event> {
    match event {
        SwarmEvent::Behaviour(BehaviourEvent::Dht(Some(kad::Told::Identified(
            connection,
            peer,
            answers,
        )))) => {
            let reach = swarm.behaviour_mut().reach.as_mut().expect("it is on");
            reach.identified(connection, peer, &answers);
            None
        }
        SwarmEvent::Behaviour(BehaviourEvent::Dht(Some(kad::Told::Event(event)))) => Some(event),
        _ => None,
    }
}

/// Until the table of the second has so many nodes.
async fn until_known(one: &mut Swarm<Whole>, two: &mut Swarm<Whole>, nodes: usize) {
    let waiting = async {
        loop {
            tokio::select! {
                event = one.select_next_some() => drop(pass(one, event)),
                event = two.select_next_some() => {
                    let told = pass(two, event);
                    if matches!(told, Some(Event::Peer(PeerEvent::Table { nodes: known })) if known == nodes) {
                        return;
                    }
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap_or_else(|_| panic!("waited in vain for {nodes} nodes"));
}

#[tokio::test]
async fn a_node_serves_in_the_public_table_from_the_confirmation_of_its_address_to_its_loss() {
    let (mut node, mut judge) = (swarm(1, DhtMode::Auto), swarm(2, DhtMode::Server));
    let any: Multiaddr = "/ip4/127.0.0.1/tcp/0".parse().expect("an address");
    let own = node.listen_on(any.clone()).expect("listens");
    judge.listen_on(any).expect("listens");
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = judge.select_next_some().await {
            break address;
        }
    };
    let dht = node.behaviour_mut().dht.as_mut().expect("it is on");
    dht.bootstrap(&[address.to_string()]);
    until_known(&mut node, &mut judge, 1).await;
    assert_eq!(node.external_addresses().count(), 1);
    assert!(node.remove_listener(own));
    until_known(&mut node, &mut judge, 0).await;
    assert_eq!(node.external_addresses().count(), 0);
}
