//! Three origin servers behind one ring, and what a server's fault means to clients.

mod harness;

use std::collections::HashMap;

use harness::{AnsweringOrigin, Client, Edge, Origin, Setup, own_address};

const KEYS: usize = 1_500;

/// A server that answers everything, uncacheably, with its own name.
async fn server(name: usize, address: std::net::SocketAddr) -> AnsweringOrigin {
    Origin::start_at(address).await.answering(move |_| {
        let head = "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 1\r\n\r\n";
        format!("{head}{name}").into_bytes()
    })
}

/// Which server answers each key. Every request must be answered.
async fn owners(client: &mut Client) -> HashMap<String, usize> {
    let mut owners = HashMap::new();
    for number in 0..KEYS {
        let path = format!("/videos/{number}/index.m3u8");
        let response = client.get(&path).await;
        assert_eq!(response.status, 200, "{path}: {response:?}");
        owners.insert(path, response.text().parse().unwrap());
    }
    owners
}

fn counts(owners: &HashMap<String, usize>) -> [usize; 3] {
    let mut counts = [0; 3];
    for owner in owners.values() {
        counts[*owner] += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_spread_and_only_those_of_a_stopped_server_move_and_return() {
    let addresses = [own_address(), own_address(), own_address()];
    let mut servers = Vec::new();
    for (name, address) in addresses.into_iter().enumerate() {
        servers.push(server(name, address).await);
    }
    let setup = Setup {
        pool: "health: { interval: 20ms }",
        ..Setup::of(addresses)
    };
    let edge = setup.start().await;
    let mut client = edge.client().await;

    let before = owners(&mut client).await;
    let fair = KEYS / 3;
    for count in counts(&before) {
        assert!(
            (fair * 3 / 4..=fair * 5 / 4).contains(&count),
            "{:?}",
            counts(&before)
        );
    }

    servers.remove(1).stop().await;
    let during = owners(&mut client).await;
    for (path, owner) in &before {
        match owner {
            1 => assert_ne!(during[path], 1, "{path}"),
            kept => assert_eq!(during[path], *kept, "{path}"),
        }
    }
    let moved = counts(&during);
    assert!(
        moved[0] > counts(&before)[0] && moved[2] > counts(&before)[2],
        "{moved:?}"
    );
    let metrics = edge.metrics().await;
    let label = format!("server=\"{}\"", addresses[1]);
    assert_eq!(metrics.sum("tidegate_origin_healthy", &[&label]), 0.0);

    // A check begins only when the one before it was taken in.
    let mut back = server(1, addresses[1]).await;
    back.accepted(3).await;
    assert_eq!(owners(&mut client).await, before);
}

async fn edge_with(pool: &'static str, servers: &[std::net::SocketAddr]) -> Edge {
    let setup = Setup {
        pool,
        ..Setup::of(servers.iter().copied())
    };
    setup.start().await
}

#[tokio::test]
async fn refused_connection_is_a_502_that_says_so() {
    let address = own_address();
    let edge = edge_with("health: { interval: 1h }", &[address]).await;
    for method in ["GET", "POST"] {
        let mut client = edge.client().await;
        let response = client.request(method, "/a", "Content-Length: 0\r\n").await;
        assert_eq!(response.status, 502, "{method}: {response:?}");
        assert!(
            response.text().contains("reached"),
            "{method}: {response:?}"
        );
    }
    let result = edge.metrics().await.sum(
        "tidegate_origin_requests_total",
        &["result=\"connect_error\""],
    );
    assert!(result >= 2.0, "{result}");
}

#[tokio::test]
async fn silent_server_is_a_504_that_says_so() {
    let mut origin = Origin::start().await;
    let pool = "read_timeout: 50ms\n      health: { interval: 1h }";
    let edge = edge_with(pool, &[origin.address]).await;
    for method in ["GET", "POST"] {
        let mut client = edge.client().await;
        let request = client.request(method, "/a", "Content-Length: 0\r\n");
        let (response, _silent) = tokio::join!(request, origin.next());
        assert_eq!(response.status, 504, "{method}: {response:?}");
        assert!(response.text().contains("tim"), "{method}: {response:?}");
    }
}

#[tokio::test]
async fn answer_that_is_not_http_is_a_502() {
    for nonsense in [
        "SSH-2.0-x\r\n\r\n",
        "HTTP/1.1 abc\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    ] {
        let origin = Origin::start()
            .await
            .answering(|_| nonsense.as_bytes().to_vec());
        let edge = edge_with("health: { interval: 1h }", &[origin.address]).await;
        let response = edge.get("/a").await;
        assert_eq!(response.status, 502, "{nonsense:?}: {response:?}");
    }
}

#[tokio::test]
async fn connection_closed_without_an_answer_is_a_502() {
    let mut origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    let mut client = edge.client().await;
    let response = tokio::select! {
        response = client.get("/a") => response,
        // However often the edge tries.
        () = async { loop { drop(origin.next().await) } } => unreachable!(),
    };
    assert_eq!(response.status, 502, "{response:?}");
}

#[tokio::test]
async fn origin_connections_are_used_again() {
    let mut servers = vec![server(0, own_address()).await];
    let edge = edge_with("health: { interval: 1h }", &[servers[0].address]).await;
    let mut client = edge.client().await;
    let mut origin = servers.remove(0);
    // One for the health check, one for the requests.
    for number in 0..20 {
        assert_eq!(client.get(&format!("/{number}")).await.status, 200);
    }
    origin.accepted(2).await;
    assert_eq!(origin.connections(), 2);
}
