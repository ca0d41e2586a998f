//! Many clients write, read and list a few keys at once, and afterwards somebody looks for an order of what they saw:
//! each operation at one moment between its request and its answer, each seeing what those before it left
//! (linearizability; Wing and Gong, "Testing and verifying concurrent objects", 1993).
//!
//! `STORE_ROUNDS` says how many histories (12); `STORE_SEED` repeats a run.

mod origin_support;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Instant;

use origin_support::{Call, Client, Dice, Response, Server, element, folder};

const CLIENTS: u64 = 6;
const KEYS: u64 = 2;
const TURNS: u64 = 8;

/// What a key holds: nothing, or these bytes, which nobody else writes.
type State = Option<Vec<u8>>;

/// An operation with what came of it.
#[derive(Debug, Clone)]
enum Done {
    Put(Vec<u8>),
    PutIfAbsent(Vec<u8>, bool),
    /// With the entity tag that must be there, and what came of it: 200, 404 or 412.
    PutIfMatch(String, Vec<u8>, u16),
    Delete,
    Get(State),
    /// A listing shows the entity tag only.
    Listed(Option<String>),
    /// At an offset; `Err` has the length that it was told.
    Append(u64, Vec<u8>, Result<(), u64>),
}

#[derive(Debug, Clone)]
struct Operation {
    begun: Instant,
    ended: Instant,
    done: Done,
}

fn etag(bytes: &[u8]) -> String {
    hex::encode(<md5::Md5 as md5::Digest>::digest(bytes))
}

/// What is there after the operation, or `None` when it could not have seen what was there before.
fn step(state: &State, done: &Done) -> Option<State> {
    let is = |sound: bool, after: State| sound.then_some(after);
    match done {
        Done::Put(bytes) => Some(Some(bytes.clone())),
        Done::PutIfAbsent(bytes, true) => is(state.is_none(), Some(bytes.clone())),
        Done::PutIfAbsent(_, false) => is(state.is_some(), state.clone()),
        Done::PutIfMatch(tag, bytes, status) => {
            let matches = state.as_ref().map(|bytes| etag(bytes) == *tag);
            match status {
                200 => is(matches == Some(true), Some(bytes.clone())),
                412 => is(matches == Some(false), state.clone()),
                _ => is(matches.is_none(), None),
            }
        }
        Done::Delete => Some(None),
        Done::Get(seen) => is(seen == state, state.clone()),
        Done::Listed(tag) => is(
            *tag == state.as_ref().map(|bytes| etag(bytes)),
            state.clone(),
        ),
        Done::Append(offset, bytes, outcome) => {
            let length = state.as_ref().map_or(0, Vec::len) as u64;
            match outcome {
                Ok(()) => {
                    let mut after = state.clone().unwrap_or_default();
                    after.extend_from_slice(bytes);
                    is(*offset == length, Some(after))
                }
                Err(told) => is(*told == length && *offset != length, state.clone()),
            }
        }
    }
}

/// Whether there is an order. What was tried without success from a set of operations and a state is not tried again.
fn is_linearizable(history: &[Operation]) -> bool {
    assert!(history.len() <= 128);
    let mut tried: HashSet<(u128, State)> = HashSet::new();
    let all = if history.len() == 128 {
        u128::MAX
    } else {
        (1 << history.len()) - 1
    };
    let mut open = vec![(0u128, None)];
    while let Some((placed, state)) = open.pop() {
        if placed == all {
            return true;
        }
        if !tried.insert((placed, state.clone())) {
            continue;
        }
        let left = || (0..history.len()).filter(|index| placed & (1 << index) == 0);
        // Nobody may come before an operation that had ended when it began.
        let first_end = left().map(|index| history[index].ended).min().unwrap();
        for index in left().filter(|index| history[*index].begun <= first_end) {
            if let Some(after) = step(&state, &history[index].done) {
                open.push((placed | (1 << index), after));
            }
        }
    }
    false
}

fn ask(server: &Server, call: Call<'_>) -> Response {
    let mut client: Client = server.client();
    let address: SocketAddr = server.address;
    client.send(&call.head(address), call.body);
    client.response(call.method)
}

/// Does one operation on one of the keys.
fn act(
    server: &Server,
    key: &str,
    marker: u64,
    dice: &mut Dice,
    seen: &mut Option<String>,
) -> Done {
    let target = format!("/films/{key}");
    // Inline ones, and ones that go into a pack.
    let size = if dice.roll(2) == 0 { 20 } else { 6000 };
    let mut bytes = vec![b'x'; size];
    bytes[..8].copy_from_slice(&marker.to_be_bytes());
    match dice.roll(8) {
        0 | 1 => {
            let put = ask(server, Call::new("PUT", &target).body(&bytes));
            assert_eq!(put.status, 200);
            Done::Put(bytes)
        }
        2 => {
            let call = Call::new("PUT", &target).body(&bytes);
            let put = ask(server, call.field("if-none-match", "*"));
            assert!(matches!(put.status, 200 | 412), "{}", put.text());
            Done::PutIfAbsent(bytes, put.status == 200)
        }
        3 if seen.is_some() => {
            let tag = seen.clone().unwrap();
            let call = Call::new("PUT", &target).body(&bytes);
            let put = ask(server, call.field("if-match", &format!("\"{tag}\"")));
            assert!(matches!(put.status, 200 | 404 | 412), "{}", put.text());
            Done::PutIfMatch(tag, bytes, put.status)
        }
        4 => {
            assert_eq!(ask(server, Call::new("DELETE", &target)).status, 204);
            Done::Delete
        }
        5 => {
            let listing = format!("/films?list-type=2&prefix={key}");
            let listed = ask(server, Call::new("GET", &listing));
            assert_eq!(listed.status, 200);
            let tag = element(&listed.text(), "ETag");
            Done::Listed(tag.map(|tag| tag.replace("&quot;", "")))
        }
        _ => {
            let got = ask(server, Call::new("GET", &target));
            let state = match got.status {
                200 => Some(got.body),
                404 => None,
                status => panic!("{status}"),
            };
            *seen = state.as_ref().map(|bytes| etag(bytes));
            Done::Get(state)
        }
    }
}

/// Appends, and reads.
fn append(server: &Server, key: &str, marker: u64, dice: &mut Dice, length: &mut u64) -> Done {
    let target = format!("/films/{key}");
    if dice.roll(3) == 0 {
        let got = ask(server, Call::new("GET", &target));
        let state = (got.status == 200).then_some(got.body);
        *length = state.as_ref().map_or(0, Vec::len) as u64;
        return Done::Get(state);
    }
    let bytes = marker.to_be_bytes().to_vec();
    let call = Call::new("PUT", &target).body(&bytes);
    let put = ask(
        server,
        call.field("x-amz-write-offset-bytes", &length.to_string()),
    );
    let offset = *length;
    let outcome = match put.status {
        200 => {
            *length += bytes.len() as u64;
            Ok(())
        }
        400 => {
            assert_eq!(put.code(), "InvalidWriteOffset");
            *length = put.field("x-amz-object-size").parse().unwrap();
            Err(*length)
        }
        status => panic!("{status} {}", put.text()),
    };
    Done::Append(offset, bytes, outcome)
}

#[test]
fn concurrent_operations_have_an_order_that_explains_what_everybody_saw() {
    let number = |name, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let rounds = number("STORE_ROUNDS", 12);
    let seed = number("STORE_SEED", u64::from(std::process::id()));
    println!("STORE_SEED={seed}");
    let data = folder();
    let server = Server::start(data.path());
    assert_eq!(server.put("/films", b"").status, 200);
    for round in 0..rounds {
        let histories: Vec<Mutex<Vec<Operation>>> = (0..=KEYS).map(|_| Mutex::default()).collect();
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (server, histories) = (&server, &histories);
                scope.spawn(move || {
                    let mut dice = Dice(seed ^ (round << 20) ^ (client << 8));
                    let mut seen = None;
                    let mut length = 0;
                    for turn in 0..TURNS {
                        let marker = (round << 32) | (client << 16) | turn;
                        let which = dice.roll(KEYS + 1);
                        let key = format!("{round}-{which}");
                        let begun = Instant::now();
                        let done = if which == KEYS {
                            append(server, &key, marker, &mut dice, &mut length)
                        } else {
                            act(server, &key, marker, &mut dice, &mut seen)
                        };
                        let ended = Instant::now();
                        let operation = Operation { begun, ended, done };
                        histories[which as usize].lock().unwrap().push(operation);
                    }
                });
            }
        });
        for (which, history) in histories.into_iter().enumerate() {
            let history = history.into_inner().unwrap();
            assert!(
                is_linearizable(&history),
                "round {round}, key {which}: no order explains {history:#?}"
            );
        }
    }
    server.stop();
}

#[test]
fn the_search_finds_an_order_where_there_is_one_and_none_where_there_is_none() {
    let zero = Instant::now();
    let at = |from: u64, to: u64, done: Done| Operation {
        begun: zero + std::time::Duration::from_secs(from),
        ended: zero + std::time::Duration::from_secs(to),
        done,
    };
    let (a, b) = (b"a".to_vec(), b"b".to_vec());
    // A read during a write may see either.
    for seen in [None, Some(a.clone())] {
        let history = [at(0, 10, Done::Put(a.clone())), at(1, 2, Done::Get(seen))];
        assert!(is_linearizable(&history));
    }
    // Nobody reads the old after somebody has read the new.
    let stale = [
        at(0, 10, Done::Put(a.clone())),
        at(1, 2, Done::Get(Some(a.clone()))),
        at(3, 4, Done::Get(None)),
    ];
    assert!(!is_linearizable(&stale));
    // Two cannot both be the first.
    let both = [
        at(0, 10, Done::PutIfAbsent(a, true)),
        at(0, 10, Done::PutIfAbsent(b, true)),
    ];
    assert!(!is_linearizable(&both));
}
