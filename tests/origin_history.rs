//! Many clients write, read and list a few keys at once, and afterwards somebody looks for an order of what they saw:
//! each operation at one moment between its request and its answer, each seeing what those before it left
//! (linearizability; Wing and Gong, "Testing and verifying concurrent objects", 1993).
//!
//! `STORE_ROUNDS` says how many histories (12); `STORE_SEED` repeats a run.

mod origin_support;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Instant;

use origin_support::{Call, Client, Dice, Response, Server, element, folder};

const CLIENTS: u64 = 6;
const KEYS: u64 = 2;
const TURNS: u64 = 10;

/// What a key holds: nothing, or these bytes, which nobody else writes, under this entity tag. What grows is told apart by
/// its bytes alone.
type Object = Option<(Vec<u8>, String)>;

/// A key, and the uploads to it that are under way, each with the bytes of its one part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct State {
    object: Object,
    uploads: BTreeMap<String, Option<Vec<u8>>>,
}

/// An operation with what came of it.
#[derive(Debug, Clone)]
enum Done {
    Put(Vec<u8>),
    PutIfAbsent(Vec<u8>, bool),
    /// With the entity tag that must be there, and what came of it: 200, 404 or 412.
    PutIfMatch(String, Vec<u8>, u16),
    Delete,
    Get(Object),
    /// A listing shows the entity tag only.
    Listed(Option<String>),
    /// At an offset; `Err` has the length that it was told.
    Append(u64, Vec<u8>, Result<(), u64>),
    CreateUpload(String),
    /// What came of the following, each about one upload, is 200 or, when it is over, 404.
    PutPart(String, Vec<u8>, u16),
    /// With the entity tag of the part, or 400 when it is not that.
    Complete(String, String, u16),
    Abort(String, u16),
    /// The entity tag of the part.
    ListedParts(String, Result<Option<String>, u16>),
    ListedUploads(BTreeSet<String>),
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

/// The entity tag of an object that came in one part.
fn etag_of_upload(part: &[u8]) -> String {
    etag_of_part(&etag(part))
}

/// That of an object of one part, by the part's own.
fn etag_of_part(tag: &str) -> String {
    let of_part = hex::decode(tag).unwrap();
    let of_parts = <md5::Md5 as md5::Digest>::digest(of_part);
    format!("{}-1", hex::encode(of_parts))
}

/// What is there after the operation, or `None` when it could not have seen what was there before.
fn step(state: &State, done: &Done) -> Option<State> {
    match done {
        Done::CreateUpload(_)
        | Done::PutPart(..)
        | Done::Complete(..)
        | Done::Abort(..)
        | Done::ListedParts(..)
        | Done::ListedUploads(_) => step_of_uploads(state, done),
        _ => {
            let object = step_of_object(&state.object, done)?;
            let uploads = state.uploads.clone();
            Some(State { object, uploads })
        }
    }
}

fn step_of_object(object: &Object, done: &Done) -> Option<Object> {
    let is = |sound: bool, after: Object| sound.then_some(after);
    let of = |bytes: &Vec<u8>| Some((bytes.clone(), etag(bytes)));
    let tag_now = object.as_ref().map(|(_, tag)| tag);
    match done {
        Done::Put(bytes) => Some(of(bytes)),
        Done::PutIfAbsent(bytes, true) => is(object.is_none(), of(bytes)),
        Done::PutIfAbsent(_, false) => is(object.is_some(), object.clone()),
        Done::PutIfMatch(tag, bytes, status) => {
            let matches = tag_now.map(|now| now == tag);
            match status {
                200 => is(matches == Some(true), of(bytes)),
                412 => is(matches == Some(false), object.clone()),
                _ => is(matches.is_none(), None),
            }
        }
        Done::Delete => Some(None),
        Done::Get(seen) => is(seen == object, object.clone()),
        Done::Listed(tag) => is(tag.as_ref() == tag_now, object.clone()),
        Done::Append(offset, bytes, outcome) => {
            let length = object.as_ref().map_or(0, |(bytes, _)| bytes.len()) as u64;
            match outcome {
                Ok(()) => {
                    let (mut after, _) = object.clone().unwrap_or_default();
                    after.extend_from_slice(bytes);
                    is(*offset == length, Some((after, String::new())))
                }
                Err(told) => is(*told == length && *offset != length, object.clone()),
            }
        }
        _ => unreachable!("it is about an upload"),
    }
}

fn step_of_uploads(state: &State, done: &Done) -> Option<State> {
    let mut after = state.clone();
    let part = |id: &String| state.uploads.get(id);
    let is_sound = match done {
        Done::CreateUpload(id) => after.uploads.insert(id.clone(), None).is_none(),
        Done::PutPart(id, bytes, 200) => {
            let part = Some(bytes.clone());
            after.uploads.insert(id.clone(), part).is_some()
        }
        Done::Complete(id, tag, 200) => match after.uploads.remove(id) {
            Some(Some(part)) if etag(&part) == *tag => {
                let tag = etag_of_upload(&part);
                after.object = Some((part, tag));
                true
            }
            Some(_) => false,
            // Answered again, as long as the object is what it made.
            None => (after.object.as_ref()).is_some_and(|(_, now)| *now == etag_of_part(tag)),
        },
        Done::Complete(id, tag, 400) => {
            part(id).is_some_and(|part| part.as_ref().map(|part| etag(part)).as_ref() != Some(tag))
        }
        Done::Abort(id, 204) => after.uploads.remove(id).is_some(),
        Done::ListedParts(id, Ok(tag)) => {
            part(id).is_some_and(|part| part.as_ref().map(|part| etag(part)) == *tag)
        }
        Done::PutPart(id, ..)
        | Done::Complete(id, ..)
        | Done::Abort(id, _)
        | Done::ListedParts(id, Err(_)) => part(id).is_none(),
        Done::ListedUploads(ids) => ids.iter().eq(state.uploads.keys()),
        _ => unreachable!("it is about an object"),
    };
    is_sound.then_some(after)
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
    let mut open = vec![(0u128, State::default())];
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

/// Does one operation on one of the keys, or on an upload to it that others work on, too.
fn act(
    server: &Server,
    key: &str,
    marker: u64,
    dice: &mut Dice,
    seen: &mut Option<String>,
    uploads: &Mutex<Vec<Upload>>,
) -> Done {
    let target = format!("/films/{key}");
    // Inline ones, and ones that go into a pack.
    let size = if dice.roll(2) == 0 { 20 } else { 6000 };
    let mut bytes = vec![b'x'; size];
    bytes[..8].copy_from_slice(&marker.to_be_bytes());
    match dice.roll(14) {
        8..14 => act_on_upload(server, key, bytes, dice, uploads),
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
            let object = match got.status {
                200 => {
                    let tag = got.field("etag").trim_matches('"').to_owned();
                    Some((got.body, tag))
                }
                404 => None,
                status => panic!("{status}"),
            };
            *seen = object.as_ref().map(|(_, tag)| tag.clone());
            Done::Get(object)
        }
    }
}

/// What is known of an upload: its id, and the entity tag of a part that it had.
#[derive(Debug, Clone)]
struct Upload {
    id: String,
    tag: String,
}

fn act_on_upload(
    server: &Server,
    key: &str,
    bytes: Vec<u8>,
    dice: &mut Dice,
    uploads: &Mutex<Vec<Upload>>,
) -> Done {
    let target = format!("/films/{key}");
    let known = uploads.lock().unwrap().len() as u64;
    if known == 0 || dice.roll(6) == 0 {
        let target = format!("{target}?uploads");
        let created = ask(server, Call::new("POST", &target).empty());
        let id = element(&created.text(), "UploadId").unwrap();
        let tag = etag(b"of no part");
        uploads.lock().unwrap().push(Upload {
            id: id.clone(),
            tag,
        });
        return Done::CreateUpload(id);
    }
    let which = dice.roll(known) as usize;
    let Upload { id, tag } = uploads.lock().unwrap()[which].clone();
    let of_upload = format!("{target}?uploadId={id}");
    let status = |response: &Response, all: &[u16]| {
        assert!(all.contains(&response.status), "{}", response.text());
        response.status
    };
    match dice.roll(8) {
        0..3 => {
            let target = format!("{of_upload}&partNumber=1");
            let put = ask(server, Call::new("PUT", &target).body(&bytes));
            uploads.lock().unwrap()[which].tag = etag(&bytes);
            Done::PutPart(id, bytes, status(&put, &[200, 404]))
        }
        3..5 => {
            let list = format!(
                "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part>\
                 </CompleteMultipartUpload>"
            );
            let completed = ask(server, Call::new("POST", &of_upload).body(list.as_bytes()));
            Done::Complete(id, tag, status(&completed, &[200, 400, 404]))
        }
        5 => {
            let aborted = ask(server, Call::new("DELETE", &of_upload));
            Done::Abort(id, status(&aborted, &[204, 404]))
        }
        6 => {
            let listed = ask(server, Call::new("GET", &of_upload));
            let parts = match status(&listed, &[200, 404]) {
                200 => {
                    let tag = element(&listed.text(), "ETag");
                    Ok(tag.map(|tag| tag.replace("&quot;", "")))
                }
                status => Err(status),
            };
            Done::ListedParts(id, parts)
        }
        _ => {
            let listing = format!("/films?uploads&prefix={key}");
            let listed = ask(server, Call::new("GET", &listing));
            assert_eq!(listed.status, 200);
            let text = listed.text();
            let ids = text.split("<UploadId>").skip(1);
            let ids = ids.map(|rest| rest.split('<').next().unwrap().to_owned());
            Done::ListedUploads(ids.collect())
        }
    }
}

/// Appends, and reads.
fn append(server: &Server, key: &str, marker: u64, dice: &mut Dice, length: &mut u64) -> Done {
    let target = format!("/films/{key}");
    if dice.roll(3) == 0 {
        let got = ask(server, Call::new("GET", &target));
        let object = (got.status == 200).then_some((got.body, String::new()));
        *length = object.as_ref().map_or(0, |(bytes, _)| bytes.len()) as u64;
        return Done::Get(object);
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
        let uploads: Vec<Mutex<Vec<Upload>>> = (0..KEYS).map(|_| Mutex::default()).collect();
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (server, histories, uploads) = (&server, &histories, &uploads);
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
                            let uploads = &uploads[which as usize];
                            act(server, &key, marker, &mut dice, &mut seen, uploads)
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
    let stored = Some((a.clone(), etag(&a)));
    for seen in [None, stored.clone()] {
        let history = [at(0, 10, Done::Put(a.clone())), at(1, 2, Done::Get(seen))];
        assert!(is_linearizable(&history));
    }
    // Nobody reads the old after somebody has read the new.
    let stale = [
        at(0, 10, Done::Put(a.clone())),
        at(1, 2, Done::Get(stored)),
        at(3, 4, Done::Get(None)),
    ];
    assert!(!is_linearizable(&stale));
    // Two cannot both be the first.
    let both = [
        at(0, 10, Done::PutIfAbsent(a.clone(), true)),
        at(0, 10, Done::PutIfAbsent(b, true)),
    ];
    assert!(!is_linearizable(&both));
    // An upload ends once: completed and aborted at the same time, one of them finds none.
    for (aborted, has_order) in [(204, false), (404, true)] {
        let id = || "1".to_owned();
        let ended = [
            at(0, 1, Done::CreateUpload(id())),
            at(2, 3, Done::PutPart(id(), a.clone(), 200)),
            at(4, 10, Done::Complete(id(), etag(&a), 200)),
            at(4, 10, Done::Abort(id(), aborted)),
            at(4, 10, Done::ListedUploads([id()].into())),
            at(11, 12, Done::Get(Some((a.clone(), etag_of_upload(&a))))),
            at(11, 12, Done::ListedParts(id(), Err(404))),
        ];
        assert_eq!(is_linearizable(&ended), has_order);
    }
    // A completion is answered again as long as its object is there.
    for (deleted, has_order) in [(false, true), (true, false)] {
        let id = || "1".to_owned();
        let mut repeated = vec![
            at(0, 1, Done::CreateUpload(id())),
            at(2, 3, Done::PutPart(id(), a.clone(), 200)),
            at(4, 5, Done::Complete(id(), etag(&a), 200)),
            at(8, 9, Done::Complete(id(), etag(&a), 200)),
        ];
        if deleted {
            repeated.push(at(6, 7, Done::Delete));
        }
        assert_eq!(is_linearizable(&repeated), has_order);
    }
}
