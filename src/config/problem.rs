//! What can be wrong with a configuration, said with the key's path.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use http::StatusCode;

use super::policies::FieldOwner;
use super::units::UnitFault;
use crate::signing::{ExpressionFault, JwksFault, PublicKeyFault, Scheme};

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key's path, such as `edge.routes[1].origin`; the file's name when it is about the whole file.
    pub key: String,
    /// What is wrong there.
    pub reason: Reason,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.reason)
    }
}

/// Everything that is wrong with a configuration, never empty; shown one problem a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// `None` when nothing is wrong.
    pub(super) fn some(problems: Vec<Problem>) -> Option<Self> {
        (!problems.is_empty()).then_some(Problems(problems))
    }

    /// A single problem.
    pub(super) fn one(key: impl Into<String>, reason: Reason) -> Self {
        Problems(vec![Problem {
            key: key.into(),
            reason,
        }])
    }

    /// The problems in the order in which the file was read.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// What is wrong. Offending values are repeated, secrets and the rest of the file never are.
///
/// A list of reasons: it may run long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The text is not YAML.
    #[error("this is not YAML: {0}")]
    NotYaml(String),
    /// The file holds nothing.
    #[error("the file holds no settings; give it at least one of: edge, origin")]
    Empty,
    /// Neither `edge` nor `origin` is there.
    #[error("there is nothing to run; give it at least one of: edge, origin")]
    NothingToRun,
    /// A key that no part reads.
    #[error("unknown key{}", suggest(.suggestion, .known))]
    UnknownKey {
        /// The known key that looks most like it.
        suggestion: Option<&'static str>,
        /// What could stand here.
        known: Vec<&'static str>,
    },
    /// A mapping's key that is not text.
    #[error("keys must be text, found {0} as a key")]
    KeyNotText(&'static str),
    /// A required key is absent.
    #[error("missing, and it has no default")]
    Missing,
    /// The key is there, its value is not.
    #[error("no value is given; write one or remove the key")]
    NoValue,
    /// A value of another type.
    #[error("expected {expected}, found {found}")]
    WrongType {
        /// What should stand here.
        expected: &'static str,
        /// What does.
        found: &'static str,
    },
    /// A bare number where a size or a duration belongs.
    #[error("{value} has no unit; write {example}, for instance")]
    BareNumber {
        /// The number.
        value: String,
        /// How a value with a unit looks.
        example: &'static str,
    },
    /// Not a size or a duration.
    #[error(transparent)]
    Unit(#[from] UnitFault),
    /// Outside its range.
    #[error("{value} is out of range: {range}")]
    OutOfRange {
        /// As it was written.
        value: String,
        /// Lowest and highest value.
        range: String,
    },
    /// Not one of a fixed set of words.
    #[error("{value:?} is not one of: {}", .known.join(", "))]
    NotOneOf {
        /// As it was written.
        value: String,
        /// The words.
        known: &'static [&'static str],
    },
    /// A list or a mapping that needs an entry and has none.
    #[error("needs at least one entry")]
    NoEntries,
    /// An empty text.
    #[error("must not be empty")]
    EmptyText,
    /// Not a block of addresses.
    #[error("{0:?} is not an address or a CIDR block, such as 192.0.2.0/24 or 2001:db8::/32")]
    NotANetwork(String),
    /// An address inside a block where its first one belongs.
    #[error("{value:?} does not begin its block; write {meant}")]
    NetworkHostBits {
        /// As it was written.
        value: String,
        /// The block that it lies in.
        meant: String,
    },
    /// Headers of the PROXY protocol are taken from trusted proxies only.
    #[error("proxy_protocol is required, but edge.trusted_proxies names nobody to take it from")]
    ProxyProtocolFromNobody,
    /// Not a socket address.
    #[error("{0:?} is not IP:port, such as 127.0.0.1:8080 or [::1]:8080")]
    NotAnAddress(String),
    /// Not a server.
    #[error("{0:?} is not host:port, such as 127.0.0.1:9000, [::1]:9000 or store.example:9000")]
    NotAServer(String),
    /// A name with a character that metrics, logs or credentials cannot carry.
    #[error("{0:?} holds a character other than letters, digits and . _ - / : *")]
    NotAName(String),
    /// Not a host name.
    #[error("{0:?} is not a host name in lower case without a port")]
    NotAHost(String),
    /// Not a host with or without a port.
    #[error("{0:?} is not a host or host:port, such as s3.eu-west-1.amazonaws.com or minio:9000")]
    NotAnAuthority(String),
    /// Not a path prefix.
    #[error("{0:?} is not a path: it must begin with / and hold no ?, #, space or dot segment")]
    NotAPath(String),
    /// No beginning of a webhook's URL.
    #[error(
        "{0:?} is not what a webhook's URL can begin with: give http:// or https://, a server and a /"
    )]
    NotAUrlPrefix(String),
    /// An access key id or region that could not stand in a credential scope.
    #[error("{0:?} cannot stand in a credential: use letters, digits and . _ - only")]
    NotACredentialPart(String),
    /// No pattern of a bucket's name.
    #[error("{0:?} could name no bucket: use a-z, 0-9, . and -, and * and ? as wildcards")]
    NotABucketPattern(String),
    /// A key of `status_ttl` that stands for no status.
    #[error("{0:?} is not a status from 200 to 599, 4xx or 5xx")]
    NotAStatus(String),
    /// A lifetime for a status that is never stored.
    #[error("a {} is never stored, so it has no lifetime", .0.as_u16())]
    NeverStored(StatusCode),
    /// Not the name of a query parameter.
    #[error(
        "{0:?} is not a parameter's name: visible ASCII without &, = and #, whole, no pattern with *"
    )]
    NotAParameter(String),
    /// Not a field name.
    #[error("{0:?} is not the name of a field")]
    NotAField(String),
    /// Not a field value.
    #[error("{0:?} is not a value: visible ASCII, with no white space around it")]
    NotAFieldValue(String),
    /// Not a method that requests here can have.
    #[error("{0:?} is not a method that is served: in upper case, neither CONNECT nor TRACE")]
    NotAMethod(String),
    /// Not what a browser sends as `Origin`.
    #[error(
        "{0:?} is no origin as browsers send it: http or https, host in lower case, a port unless it is \
         the default, such as https://a.example, https://*.a.example or http://localhost:8080"
    )]
    NotAnOrigin(String),
    /// Every site could act as every user.
    #[error("credentials cannot go along with origins '*': list them")]
    CredentialsForAll,
    /// A field that is not the operator's to change.
    #[error("{name} cannot be changed here: {owner}")]
    ForeignField {
        /// The field.
        name: String,
        /// Whose it is.
        owner: FieldOwner,
    },
    /// `normalise` for a field whose values have no normal form here.
    #[error("normalise is for accept-encoding and accept-language; write passthrough or bypass")]
    NoNormalForm,
    /// Keys of which one and only one must be there.
    #[error("give exactly one of: {}", .0.join(", "))]
    NotExactlyOne(&'static [&'static str]),
    /// Lifetimes that exclude each other.
    #[error("min_ttl ({min}) is longer than max_ttl ({max})")]
    MinAboveMax {
        /// As it applies here.
        min: String,
        /// As it applies here.
        max: String,
    },
    /// The same value twice.
    #[error("{value:?} is already used by {first}")]
    Duplicate {
        /// The value.
        value: String,
        /// The key that has it too.
        first: String,
    },
    /// Two listeners on one address.
    #[error("{address} is taken by {first} ({first_address})")]
    AddressTaken {
        /// The later one.
        address: SocketAddr,
        /// The earlier key.
        first: String,
        /// The earlier address.
        first_address: SocketAddr,
    },
    /// A route that names an origin that is not there.
    #[error("no origin is named {name:?} (known: {})", .known.join(", "))]
    UnknownOrigin {
        /// The name.
        name: String,
        /// Those that are there.
        known: Vec<String>,
    },
    /// A signed route and nothing to verify a signature with.
    #[error("access is signed, but edge.signing.keys has no key to verify a signature with")]
    SignedWithoutKeys,
    /// A route that chooses among keys it does not need.
    #[error("access is public, so no key is asked for")]
    SigningOnPublicRoute,
    /// A route that names a key that is not there.
    #[error("no key of edge.signing.keys has the id {0:?}")]
    UnknownSigningKey(String),
    /// A route that takes keys of a scheme of which there are none.
    #[error("no key of edge.signing.keys is of the scheme {0}")]
    SchemeWithoutKeys(Scheme),
    /// A key for renewals that is not in the set, or with which nobody can sign.
    #[error("jwks_file holds no secret (kty oct) with the kid {0:?}")]
    NoSecretOfSet(String),
    /// A setting of a key that its scheme does not have.
    #[error("a key of the scheme {0} has no such setting")]
    NotOfScheme(Scheme),
    /// An environment variable that is not set, or holds no secret.
    #[error("the environment variable {0} does not hold one line of visible ASCII text")]
    NotInEnvironment(String),
    /// Not the name of an environment variable.
    #[error("{0:?} is not the name of an environment variable")]
    NotAVariable(String),
    /// A secret that is not written in the way that is said.
    #[error("the secret is not {0}")]
    NotEncoded(&'static str),
    /// A file that holds no public key.
    #[error("{file:?}: {fault}")]
    NoPublicKey {
        /// The absolute path.
        file: PathBuf,
        /// What is wrong with it.
        fault: PublicKeyFault,
    },
    /// A file that holds no set of keys.
    #[error("{file:?}: {fault}")]
    NoKeySet {
        /// The absolute path.
        file: PathBuf,
        /// What is wrong with it.
        fault: JwksFault,
    },
    /// Not an expression of a secure link.
    #[error(transparent)]
    Expression(#[from] ExpressionFault),
    /// Forms that nobody has verified would get the signature of the origin.
    #[error("forms are verified by the origin, but this one is asked with edge.origins.*.signing")]
    FormsToSigningOrigin,
    /// An earlier route matches everything that this one does.
    #[error("never reached: {first} comes first and matches all of it")]
    Unreachable {
        /// The earlier route.
        first: String,
    },
    /// Two parts want one folder.
    #[error("{folder:?} must be a folder of its own, but {other} is {other_folder:?}")]
    FolderShared {
        /// This one's folder.
        folder: PathBuf,
        /// The other key.
        other: &'static str,
        /// The other's folder.
        other_folder: PathBuf,
    },
    /// The redundancy wants more disks than there are.
    #[error("needs {needed} disks, but {list} has {disks}")]
    TooFewDisks {
        /// How many it wants.
        needed: usize,
        /// How many there are.
        disks: usize,
        /// The key that lists them.
        list: &'static str,
    },
    /// The disk tier would have too few or too many segments.
    #[error("size holds {segments} segments of this size: {least} to {most} are possible")]
    SegmentCount {
        /// How many there would be.
        segments: u64,
        /// How many there must be.
        least: u64,
        /// How many there may be.
        most: u64,
    },
    /// A file that cannot be read.
    #[error("cannot read {file:?}: {}", why(.kind))]
    Unreadable {
        /// The absolute path.
        file: PathBuf,
        /// Why.
        kind: io::ErrorKind,
    },
    /// Not a regular file.
    #[error("{0:?} is not a regular file")]
    NotAFile(PathBuf),
    /// A secret that everybody on the machine can read or change.
    #[error("{file:?} is open to every user (mode {mode:04o}); run: chmod 600 {}", .file.display())]
    WorldAccessible {
        /// The absolute path.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A secret file with nothing in it.
    #[error("{0:?} holds no secret: it is empty")]
    EmptySecret(PathBuf),
    /// A secret that is not one line of visible text.
    #[error("{0:?} does not hold one line of visible ASCII text")]
    NotASecret(PathBuf),
    /// A secret file that is far too long to be one.
    #[error("{file:?} is {bytes} bytes long; a secret has at most {limit}")]
    SecretTooLong {
        /// The absolute path.
        file: PathBuf,
        /// Its length.
        bytes: u64,
        /// The most that is accepted.
        limit: u64,
    },
    /// A certificate chain without a certificate.
    #[error("{0:?} holds no PEM certificate")]
    NoCertificate(PathBuf),
    /// A key file without a key.
    #[error("{0:?} holds no PEM private key (PKCS#8, PKCS#1 or SEC1)")]
    NoPrivateKey(PathBuf),
    /// PEM that is cut or garbled.
    #[error("{0:?} is not well-formed PEM")]
    BrokenPem(PathBuf),
}

/// Something that is allowed and yet deserves a line in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// A private key that everybody on the machine can read.
    #[error("{key}: {file:?} is open to every user (mode {mode:04o}); run: chmod 600 {}", .file.display())]
    PrivateKeyOpen {
        /// The key's path in the configuration.
        key: String,
        /// The absolute path.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

fn suggest(suggestion: &Option<&'static str>, known: &[&'static str]) -> String {
    match suggestion {
        Some(key) => format!("; did you mean {key}?"),
        None => format!(" (known: {})", known.join(", ")),
    }
}

/// The usual causes in an operator's words; the rest as the standard library puts them.
fn why(kind: &io::ErrorKind) -> String {
    match kind {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        other => other.to_string(),
    }
}
