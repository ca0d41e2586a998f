//! Clients that write all the time, each to names of its own, and know at any moment what each of them may hold: what was
//! acknowledged last, or else one of the changes after it whose answer never came.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use super::machine::Running;
use super::{Call, Client, Dice, Response, element};

/// A bucket without versions.
const FILMS: &str = "/films";
/// A bucket with versions.
const TAPES: &str = "/tapes";
/// Names of each client in a bucket, and as many that grow.
const KEYS: u64 = 4;
/// Versions of one name, before the oldest goes.
const VERSIONS_MAX: usize = 3;
/// A name that grows is deleted at this length.
const GROWN_MAX_BYTES: usize = 200_000;
/// Nothing, inline, packed, packed in several blocks, a file of its own.
const SIZES: [usize; 6] = [0, 100, 100, 20_000, 200_000, 1_300_000];
/// In two parts, the first of which is as small as S3 lets it be.
const TWO_PARTS_BYTES: usize = PART_BYTES + 3000;
const PART_BYTES: usize = 5 << 20;
/// So long that the file is synced twice on its way in, after each 16 MiB, and goes on.
const LONG_BYTES: usize = (33 << 20) + 3000;
/// Of so many turns, one is about a long object: each holds up the others, and all of its bytes are read at every look.
const LONG_ONE_IN: u64 = 400;
const LONG_ONE_IN_OFTEN: u64 = 4;

/// So often a rule may be in the way of one change.
const REPEATED_MAX: usize = 100;

/// Bytes under a name, or that there is none.
type Content = Option<Arc<Vec<u8>>>;

/// Why a change was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// No answer: it may have been made.
    Gone,
    /// 500 InternalError: it may have been made.
    Failed,
    /// 503 ServiceUnavailable: it was not made.
    Refused,
}

type Answer = Result<Response, Trouble>;

/// What a name may hold.
#[derive(Default)]
struct Expected {
    acknowledged: Content,
    maybe: Vec<Content>,
}

/// What versions a name may have, a delete marker being one without bytes.
#[derive(Default)]
struct ExpectedVersions {
    acknowledged: BTreeMap<String, Content>,
    maybe_added: Vec<Content>,
    maybe_removed: BTreeSet<String>,
}

/// One client.
pub struct Writer {
    number: u64,
    dice: Dice,
    films: HashMap<String, Expected>,
    tapes: HashMap<String, ExpectedVersions>,
    marker: u64,
    long_one_in: u64,
    /// Whether there is a cold disk, and a rule that moves what is written to it.
    has_cold: bool,
}

/// Makes the buckets.
pub fn prepare(address: SocketAddr) {
    for bucket in [FILMS, TAPES] {
        let made = ask(address, &Call::new("PUT", bucket));
        assert_eq!(made.unwrap().status, 200);
    }
    let document = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    let target = format!("{TAPES}?versioning");
    let set = ask(address, &Call::new("PUT", &target).body(document));
    assert_eq!(set.unwrap().status, 200);
}

/// Has rules move all that is current to the cold disk.
pub fn move_to_cold(address: SocketAddr) {
    let rules = b"<LifecycleConfiguration><Rule><Filter/><Status>Enabled</Status><Transition>\
        <Date>2020-01-01T00:00:00Z</Date><StorageClass>STANDARD_IA</StorageClass></Transition></Rule>\
        </LifecycleConfiguration>";
    for bucket in [FILMS, TAPES] {
        let target = format!("{bucket}?lifecycle");
        let set = ask(address, &Call::new("PUT", &target).body(rules));
        assert_eq!(set.unwrap().status, 200);
    }
}

/// Ends every object, version and upload.
pub fn empty(address: SocketAddr) {
    let get = |target: &str| ask(address, &Call::new("GET", target)).unwrap().text();
    let delete = |target: &str| {
        let deleted = ask(address, &Call::new("DELETE", target));
        assert_eq!(deleted.unwrap().status, 204, "{target}");
    };
    for bucket in [FILMS, TAPES] {
        for version in versions_in(&get(&format!("{bucket}?versions"))) {
            let Version { key, id, .. } = version;
            delete(&format!("{bucket}/{key}?versionId={id}"));
        }
        let uploads = get(&format!("{bucket}?uploads"));
        for upload in uploads.split("<Upload>").skip(1) {
            let field = |name| element(upload, name).unwrap();
            let (key, id) = (field("Key"), field("UploadId"));
            delete(&format!("{bucket}/{key}?uploadId={id}"));
        }
    }
}

/// A request whose answer may never come. As clients do, it is repeated where the store asks for that: a rule moved the
/// bytes between a look and a change, which was not made.
pub fn ask(address: SocketAddr, call: &Call<'_>) -> Answer {
    let answer = || {
        let mut stream = TcpStream::connect(address).ok()?;
        // Who refuses early may close before all has been sent; the answer is what counts.
        let _ = super::send(&mut stream, &call.head(address), call.body);
        Client::over(stream).try_response(call.method)
    };
    let is_in_the_way =
        |response: &Response| response.status == 503 && response.code() == "SlowDown";
    let mut response = answer().ok_or(Trouble::Gone)?;
    for _ in 0..REPEATED_MAX {
        if !is_in_the_way(&response) {
            break;
        }
        response = answer().ok_or(Trouble::Gone)?;
    }
    match response.status {
        503 => {
            assert_eq!(response.code(), "ServiceUnavailable");
            Err(Trouble::Refused)
        }
        500 => {
            assert_eq!(response.code(), "InternalError");
            Err(Trouble::Failed)
        }
        _ => Ok(response),
    }
}

fn sound(call: &Call<'_>, answer: Answer) -> Answer {
    let response = answer?;
    let (status, method, target) = (response.status, call.method, call.target);
    assert!(
        matches!(status, 200 | 204),
        "{method} {target}: {status} {}",
        response.text()
    );
    Ok(response)
}

struct Version {
    key: String,
    id: String,
    is_marker: bool,
}

/// The versions in a listing, in its order.
fn versions_in(listing: &str) -> Vec<Version> {
    assert_eq!(element(listing, "IsTruncated").as_deref(), Some("false"));
    let starts = listing.split("<VersionId>").skip(1);
    let before = listing.split("<VersionId>");
    (starts.zip(before))
        .map(|(rest, before)| {
            let opened = |name: &str| before.rfind(name).map_or(0, |at| at + 1);
            Version {
                key: before
                    .rsplit("<Key>")
                    .next()
                    .unwrap()
                    .split('<')
                    .next()
                    .unwrap()
                    .to_owned(),
                id: rest.split('<').next().unwrap().to_owned(),
                is_marker: opened("<DeleteMarker>") > opened("<Version>"),
            }
        })
        .collect()
}

fn content(marker: u64, size: usize) -> Vec<u8> {
    let mut dice = Dice(marker);
    let mut bytes = Vec::with_capacity(size + 4);
    while bytes.len() < size {
        bytes.extend_from_slice(&(dice.roll(1 << 31) as u32).to_be_bytes());
    }
    bytes.truncate(size);
    bytes
}

fn length(content: &Content) -> Option<usize> {
    content.as_ref().map(|bytes| bytes.len())
}

/// The bytes behind a target, or that there are none.
fn get(address: SocketAddr, target: &str) -> Result<Content, Trouble> {
    let response = ask(address, &Call::new("GET", target))?;
    match response.status {
        200 => Ok(Some(Arc::new(response.body))),
        // 405: the version is a delete marker.
        404 | 405 => Ok(None),
        status => panic!("{target}: {status} {}", response.text()),
    }
}

impl Writer {
    pub fn new(number: u64, seed: u64) -> Self {
        Writer {
            number,
            dice: Dice(seed ^ (number << 32)),
            films: HashMap::new(),
            tapes: HashMap::new(),
            marker: seed ^ (number << 48),
            long_one_in: LONG_ONE_IN,
            has_cold: false,
        }
    }

    /// From now on it writes to the cold disk, too, and has rules move what lies elsewhere.
    pub fn moves_to_cold(&mut self) {
        self.has_cold = true;
    }

    /// The storage class of something new.
    fn class(&mut self) -> &'static str {
        match self.has_cold && self.roll(4) == 0 {
            true => "STANDARD_IA",
            false => "STANDARD",
        }
    }

    /// Several of them.
    pub fn all(count: u64, seed: u64) -> Vec<Self> {
        (0..count).map(|number| Writer::new(number, seed)).collect()
    }

    /// Whether long objects are the rule from here on.
    pub fn set_long(&mut self, is_often: bool) {
        self.long_one_in = match is_often {
            true => LONG_ONE_IN_OFTEN,
            false => LONG_ONE_IN,
        };
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.dice.roll(sides)
    }

    fn new_content(&mut self) -> Vec<u8> {
        let size = match self.roll(40) {
            0 => TWO_PARTS_BYTES,
            _ => SIZES[self.roll(SIZES.len() as u64) as usize],
        };
        self.content_of(size)
    }

    fn content_of(&mut self, size: usize) -> Vec<u8> {
        self.marker += 1;
        content(self.marker, size)
    }

    fn key(&mut self, kind: &str) -> String {
        let (number, which) = (self.number, self.dice.roll(KEYS));
        format!("{kind}-{number}-{which}")
    }

    /// One change to one name, or now and then a job that moves what is stored. Tells whether it was a change.
    ///
    /// # Errors
    /// The change was not acknowledged, or the job not done.
    pub fn turn(&mut self, address: SocketAddr, admin: SocketAddr) -> Result<bool, Trouble> {
        if self.roll(if self.has_cold { 12 } else { 20 }) == 0 {
            let job = match self.has_cold && self.roll(2) == 0 {
                true => "lifecycle",
                false => ["compact", "garbage"][self.roll(2) as usize],
            };
            let told = Running::run_job(admin, job).ok_or(Trouble::Gone)?;
            return match told.starts_with("HTTP/1.1 200") {
                true => Ok(false),
                // What it needs may fail or be refused as for a client; nobody sees what it does.
                false => Err(Trouble::Refused),
            };
        }
        let changed = match self.roll(self.long_one_in) {
            0 => self.change_long(address),
            _ => self.change_something(address),
        };
        changed.map(|()| true)
    }

    /// A long object comes, or the one that is there goes.
    fn change_long(&mut self, address: SocketAddr) -> Result<(), Trouble> {
        let key = format!("long-{}", self.number);
        let is_there = (self.films.get(&key))
            .is_some_and(|expected| expected.acknowledged.is_some() || !expected.maybe.is_empty());
        if is_there {
            return self.change(address, &key, None, &Call::new("DELETE", &film(&key)));
        }
        let bytes = self.content_of(LONG_BYTES);
        self.put(address, &key, bytes)
    }

    fn change_something(&mut self, address: SocketAddr) -> Result<(), Trouble> {
        let key = self.key("a");
        match self.roll(19) {
            0..7 => {
                let bytes = self.new_content();
                match bytes.len() {
                    TWO_PARTS_BYTES => self.upload(address, &key, bytes, PART_BYTES),
                    _ => self.put(address, &key, bytes),
                }
            }
            7 | 8 => self.change(address, &key, None, &Call::new("DELETE", &film(&key))),
            9 | 10 => {
                let bytes = self.new_content();
                self.upload(address, &key, bytes, usize::MAX)
            }
            11 => self.abandon(address, &key),
            12 | 13 => self.copy(address, &key),
            14..17 => self.append(address),
            _ => self.tape(address),
        }
    }

    /// Sends what makes a change, whose outcome is open until it is answered.
    fn change(
        &mut self,
        address: SocketAddr,
        key: &str,
        wanted: Content,
        call: &Call<'_>,
    ) -> Result<(), Trouble> {
        let expected = self.films.entry(key.to_owned()).or_default();
        expected.maybe.push(wanted.clone());
        match sound(call, ask(address, call)) {
            Ok(_) => {
                *expected = Expected {
                    acknowledged: wanted,
                    maybe: Vec::new(),
                };
                Ok(())
            }
            Err(trouble) => {
                if trouble == Trouble::Refused {
                    expected.maybe.pop();
                }
                Err(trouble)
            }
        }
    }

    /// One object of each size, each after the other.
    ///
    /// # Errors
    /// For each that was not acknowledged.
    pub fn put_all_sizes(&mut self, address: SocketAddr) -> Vec<Result<(), Trouble>> {
        let sizes = SIZES.iter().copied();
        sizes
            .map(|size| {
                let (key, bytes) = (self.key("a"), self.content_of(size));
                self.put(address, &key, bytes)
            })
            .collect()
    }

    fn put(&mut self, address: SocketAddr, key: &str, bytes: Vec<u8>) -> Result<(), Trouble> {
        let (bytes, target) = (Arc::new(bytes), film(key));
        let call = Call::new("PUT", &target).body(&bytes);
        let call = call.field("x-amz-storage-class", self.class());
        self.change(address, key, Some(Arc::clone(&bytes)), &call)
    }

    /// Begins an upload and puts parts of at most so many bytes. Gives back its target and the list of its parts.
    fn parts(
        &mut self,
        address: SocketAddr,
        key: &str,
        bytes: &[u8],
        part_bytes: usize,
    ) -> Result<(String, String), Trouble> {
        let target = format!("{}?uploads", film(key));
        let call = Call::new("POST", &target).empty();
        let call = call.field("x-amz-storage-class", self.class());
        let document = sound(&call, ask(address, &call))?.text();
        let id = element(&document, "UploadId").unwrap();
        let mut list = String::new();
        for (index, part) in bytes.chunks(part_bytes).enumerate() {
            let number = index + 1;
            let target = format!("{}?partNumber={number}&uploadId={id}", film(key));
            let call = Call::new("PUT", &target).body(part);
            let response = sound(&call, ask(address, &call))?;
            let etag = response.field("etag");
            list.push_str(&format!(
                "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
            ));
        }
        Ok((format!("{}?uploadId={id}", film(key)), list))
    }

    fn upload(
        &mut self,
        address: SocketAddr,
        key: &str,
        bytes: Vec<u8>,
        part_bytes: usize,
    ) -> Result<(), Trouble> {
        if bytes.is_empty() {
            return self.put(address, key, bytes);
        }
        let (target, list) = self.parts(address, key, &bytes, part_bytes)?;
        let list = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
        let call = Call::new("POST", &target).body(list.as_bytes());
        self.change(address, key, Some(Arc::new(bytes)), &call)
    }

    fn abandon(&mut self, address: SocketAddr, key: &str) -> Result<(), Trouble> {
        let bytes = self.new_content();
        let (target, _) = self.parts(address, key, &bytes, usize::MAX)?;
        let call = Call::new("DELETE", &target);
        sound(&call, ask(address, &call)).map(|_| ())
    }

    fn copy(&mut self, address: SocketAddr, key: &str) -> Result<(), Trouble> {
        let from = self.key("a");
        let source = self.films.get(&from).filter(|from| from.maybe.is_empty());
        let source = source.and_then(|from| from.acknowledged.clone());
        // S3 refuses to copy an object to itself, which would change nothing.
        let Some(bytes) = source.filter(|_| from != key) else {
            let bytes = self.content_of(100);
            return self.put(address, key, bytes);
        };
        let (from, target) = (film(&from), film(key));
        let call = Call::new("PUT", &target).field("x-amz-copy-source", &from);
        let call = call.field("x-amz-storage-class", self.class());
        self.change(address, key, Some(bytes), &call)
    }

    fn append(&mut self, address: SocketAddr) -> Result<(), Trouble> {
        let key = self.key("stream");
        let target = film(&key);
        let expected = self.films.entry(key.clone()).or_default();
        if !expected.maybe.is_empty() || length(&expected.acknowledged) >= Some(GROWN_MAX_BYTES) {
            return self.change(address, &key, None, &Call::new("DELETE", &target));
        }
        let mut grown = expected.acknowledged.as_deref().cloned();
        let grown = grown.get_or_insert_default();
        let offset = grown.len();
        let size = [50, 9000, 60_000][self.roll(3) as usize];
        let bytes = self.content_of(size);
        grown.extend_from_slice(&bytes);
        let call = Call::new("PUT", &target).body(&bytes);
        let call = call.field("x-amz-write-offset-bytes", &offset.to_string());
        self.change(address, &key, Some(Arc::new(std::mem::take(grown))), &call)
    }

    /// A change to a name with versions.
    fn tape(&mut self, address: SocketAddr) -> Result<(), Trouble> {
        let key = self.key("b");
        let target = format!("{TAPES}/{key}");
        let expected = self.tapes.entry(key.clone()).or_default();
        let oldest = expected.acknowledged.first_key_value();
        if expected.acknowledged.len() >= VERSIONS_MAX
            && let Some(oldest) = oldest.map(|(id, _)| id.clone())
        {
            let target = format!("{target}?versionId={oldest}");
            let call = Call::new("DELETE", &target);
            let answer = sound(&call, ask(address, &call));
            match &answer {
                Ok(_) => drop(expected.acknowledged.remove(&oldest)),
                Err(Trouble::Refused) => {}
                Err(_) => drop(expected.maybe_removed.insert(oldest)),
            }
            return answer.map(|_| ());
        }
        let wanted: Content = match self.roll(4) {
            0 => None,
            _ => Some(Arc::new(self.new_content())),
        };
        let call = match &wanted {
            None => Call::new("DELETE", &target),
            Some(bytes) => Call::new("PUT", &target).body(bytes),
        };
        let answer = sound(&call, ask(address, &call));
        let expected = self.tapes.entry(key).or_default();
        match answer {
            Ok(response) => {
                let id = response.field("x-amz-version-id").to_owned();
                assert!(!id.is_empty());
                expected.acknowledged.insert(id, wanted);
                Ok(())
            }
            Err(trouble) => {
                if trouble != Trouble::Refused {
                    expected.maybe_added.push(wanted);
                }
                Err(trouble)
            }
        }
    }

    /// Compares all that its names hold.
    ///
    /// # Errors
    /// The process is gone.
    pub fn check(&self, address: SocketAddr) -> Result<(), Trouble> {
        for (key, expected) in &self.films {
            expected.check(key, &get(address, &film(key))?);
        }
        for (key, expected) in &self.tapes {
            expected.check(address, key)?;
        }
        Ok(())
    }

    /// As [`Writer::check`], and takes what was found for acknowledged. To be called when the process was started again:
    /// before that, a change that failed may come yet.
    pub fn settle(&mut self, address: SocketAddr) -> Result<(), Trouble> {
        for (key, expected) in &mut self.films {
            let found = get(address, &film(key))?;
            expected.check(key, &found);
            *expected = Expected {
                acknowledged: found,
                maybe: Vec::new(),
            };
        }
        for (key, expected) in &mut self.tapes {
            let acknowledged = expected.check(address, key)?;
            *expected = ExpectedVersions {
                acknowledged,
                ..ExpectedVersions::default()
            };
        }
        Ok(())
    }

    /// Everything was deleted.
    pub fn forget(&mut self) {
        self.films.clear();
        self.tapes.clear();
    }
}

fn film(key: &str) -> String {
    format!("{FILMS}/{key}")
}

impl Expected {
    fn check(&self, key: &str, found: &Content) {
        assert!(
            *found == self.acknowledged || self.maybe.contains(found),
            "{key} holds {:?} bytes, acknowledged were {:?}, possible {:?}",
            length(found),
            length(&self.acknowledged),
            self.maybe.iter().map(length).collect::<Vec<_>>(),
        );
    }
}

impl ExpectedVersions {
    /// Gives back what there is.
    fn check(&self, address: SocketAddr, key: &str) -> Result<BTreeMap<String, Content>, Trouble> {
        let listing = format!("{TAPES}?versions&prefix={key}");
        let call = Call::new("GET", &listing);
        let listed = versions_in(&sound(&call, ask(address, &call))?.text());
        let mut found = BTreeMap::new();
        let mut maybe_added = self.maybe_added.clone();
        let mut newest = None;
        for Version { id, is_marker, .. } in listed {
            let content = get(address, &format!("{TAPES}/{key}?versionId={id}"))?;
            assert_eq!(content.is_none(), is_marker, "{key} {id}");
            match self.acknowledged.get(&id) {
                Some(acknowledged) => assert!(content == *acknowledged, "{key} {id}"),
                None => {
                    let which = maybe_added.iter().position(|maybe| *maybe == content);
                    let which = which.unwrap_or_else(|| {
                        panic!("{key} {id}: {:?} bytes of nobody", length(&content))
                    });
                    maybe_added.remove(which);
                }
            }
            newest.get_or_insert_with(|| content.clone());
            found.insert(id, content);
        }
        for id in self.acknowledged.keys() {
            let is_there = found.contains_key(id) || self.maybe_removed.contains(id);
            assert!(is_there, "{key} has lost {id}");
        }
        let latest = get(address, &format!("{TAPES}/{key}"))?;
        assert!(
            latest == newest.flatten(),
            "{key} is not its newest version"
        );
        Ok(found)
    }
}
