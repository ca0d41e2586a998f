//! Why a document was refused: each cause with S3's code and status.

/// A document that cannot be honoured. All of these are the client's to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Not well-formed, not UTF-8, another root, or something in it that has no business there.
    #[error("The XML you provided was not well-formed: it is malformed at byte {offset}")]
    Malformed {
        /// Where reading stopped.
        offset: u64,
    },
    /// More bytes than any such document needs.
    #[error("Your request was too big: the document exceeds {max_bytes} bytes")]
    TooLong {
        /// The bound.
        max_bytes: usize,
    },
    /// More elements than any such document needs, or elements deeper in each other.
    #[error("The document has too many elements or is too deep at byte {offset}")]
    TooMuch {
        /// Where reading stopped.
        offset: u64,
    },
    /// An element that nothing here knows.
    #[error("The element {element:?} at byte {offset} is not known here")]
    Unknown {
        /// Its name.
        element: String,
        /// Where it ends.
        offset: u64,
    },
    /// An element is missing.
    #[error("The element {element} is missing")]
    Missing {
        /// Its name.
        element: &'static str,
    },
    /// An element is there more than once.
    #[error("The element {element} is given more than once")]
    Repeated {
        /// Its name.
        element: &'static str,
    },
    /// An element holds what it may not hold.
    #[error("The element {element} at byte {offset} has no valid value")]
    Value {
        /// Its name.
        element: String,
        /// Where it ends.
        offset: u64,
    },
    /// More than there may be.
    #[error("There are more than {max} of the element {element}")]
    TooMany {
        /// What there is too much of.
        element: &'static str,
        /// The bound.
        max: usize,
    },
    /// Two elements that exclude each other, or one that asks for another; in words.
    #[error("{what}")]
    Contradiction {
        /// What is wrong.
        what: &'static str,
    },
    /// A value is outside its range; in words.
    #[error("{what}")]
    OutOfRange {
        /// What is wrong.
        what: &'static str,
    },
    /// S3 has it, we do not; in words.
    #[error("{what}")]
    NotImplemented {
        /// What is not there.
        what: &'static str,
    },
    /// A policy exceeds its bound.
    #[error("Policy exceeds the maximum allowed document size of {max_bytes} bytes")]
    PolicyTooLong {
        /// The bound.
        max_bytes: usize,
    },
    /// A policy is no JSON.
    #[error("Policies must be valid JSON: line {line}, column {column}")]
    PolicyNotJson {
        /// Where, counted from 1.
        line: usize,
        /// Where, counted from 1.
        column: usize,
    },
    /// A policy cannot be honoured.
    #[error("{at}: {what}")]
    Policy {
        /// Where in the document, such as `Statement[0].Action[1]`.
        at: String,
        /// What is wrong there.
        what: &'static str,
    },
    /// An access control list cannot be honoured.
    #[error(transparent)]
    Acl(AclFault),
    /// `VersioningConfiguration` says neither `Enabled` nor `Suspended`.
    #[error("The versioning configuration must have a Status, Enabled or Suspended")]
    VersioningStatus,
    /// A tag's key has no or too many characters.
    #[error("The TagKey you have provided is invalid")]
    TagKey,
    /// A tag's value has too many characters.
    #[error("The TagValue you have provided is invalid")]
    TagValue,
    /// Two tags with one key.
    #[error("Cannot provide multiple Tags with the same key")]
    TagRepeated,
    /// More tags than there may be.
    #[error("Tags cannot be more than {max} here")]
    TooManyTags {
        /// The bound.
        max: usize,
    },
    /// `x-amz-tagging` is no query.
    #[error(
        "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates."
    )]
    TaggingHeader,
    /// A method that CORS rules cannot name.
    #[error("Found unsupported HTTP method in CORS config. Unsupported method is {method:?}")]
    CorsMethod {
        /// What was given.
        method: String,
    },
    /// More than one `*` in an origin or a header.
    #[error("{element} {value:?} can not have more than one wildcard.")]
    CorsWildcards {
        /// `AllowedOrigin` or `AllowedHeader`.
        element: &'static str,
        /// What was given.
        value: String,
    },
    /// Parts are not named in ascending order.
    #[error("The list of parts was not in ascending order. Parts must be ordered by part number.")]
    PartOrder,
    /// A part number outside 1 to 10,000.
    #[error("Part number must be an integer between 1 and 10000, inclusive")]
    PartNumber,
    /// A part's checksum is none.
    #[error("Value for {field} header is invalid.")]
    PartChecksum {
        /// The header of its algorithm.
        field: &'static str,
    },
    /// An object's key has no or too many bytes.
    #[error("An object key has 1 to 1024 bytes, this one has {bytes}")]
    Key {
        /// What came.
        bytes: usize,
    },
    /// `x-amz-object-attributes` is missing or names something else than attributes.
    #[error("Invalid attribute name specified.")]
    Attributes,
}

/// What is wrong with an access control list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AclFault {
    /// `x-amz-acl` names no list that can be had.
    #[error("The canned access control list is not known or not available here")]
    Canned,
    /// A canned list and grants in one request.
    #[error("Specifying both Canned ACLs and Header Grants is not allowed")]
    CannedAndGrants,
    /// An `x-amz-grant-*` field is no list of grantees.
    #[error("An x-amz-grant field is a list such as id=\"key\", uri=\"group\"")]
    GrantField,
    /// No such permission.
    #[error("A permission is FULL_CONTROL, READ, WRITE, READ_ACP or WRITE_ACP")]
    Permission,
    /// A grantee without or with more than one name, or of another type than its name.
    #[error("A grantee has either the ID of a CanonicalUser or the URI of a Group")]
    Grantee,
    /// An id that no key has.
    #[error("Invalid id")]
    Id,
    /// A group that there is not.
    #[error("Invalid group uri")]
    Group,
    /// The group of S3's log delivery, which does not exist here.
    #[error("Server access logs are not delivered here")]
    LogDelivery,
    /// Nobody has an address here.
    #[error("No account has an e-mail address here")]
    Email,
    /// More grants than a list has.
    #[error("An access control list has at most {max} grants")]
    TooManyGrants {
        /// The bound.
        max: usize,
    },
}

impl DocumentError {
    /// S3's error code (S3 API reference, "Error responses").
    pub fn code(&self) -> &'static str {
        match self {
            DocumentError::Malformed { .. }
            | DocumentError::TooMuch { .. }
            | DocumentError::Unknown { .. }
            | DocumentError::Missing { .. }
            | DocumentError::Repeated { .. }
            | DocumentError::Value { .. }
            | DocumentError::TooMany { .. } => "MalformedXML",
            DocumentError::TooLong { .. } => "MaxMessageLengthExceeded",
            DocumentError::Contradiction { .. }
            | DocumentError::CorsMethod { .. }
            | DocumentError::CorsWildcards { .. }
            | DocumentError::PartChecksum { .. } => "InvalidRequest",
            DocumentError::OutOfRange { .. }
            | DocumentError::TaggingHeader
            | DocumentError::PartNumber
            | DocumentError::Attributes => "InvalidArgument",
            DocumentError::NotImplemented { .. } => "NotImplemented",
            DocumentError::PolicyTooLong { .. }
            | DocumentError::PolicyNotJson { .. }
            | DocumentError::Policy { .. } => "MalformedPolicy",
            DocumentError::Acl(fault) => fault.code(),
            DocumentError::VersioningStatus => "IllegalVersioningConfigurationException",
            DocumentError::TagKey | DocumentError::TagValue | DocumentError::TagRepeated => {
                "InvalidTag"
            }
            DocumentError::TooManyTags { .. } => "BadRequest",
            DocumentError::PartOrder => "InvalidPartOrder",
            DocumentError::Key { bytes: 0 } => "UserKeyMustBeSpecified",
            DocumentError::Key { .. } => "KeyTooLongError",
        }
    }

    /// The HTTP status that goes with [`DocumentError::code`].
    pub fn status(&self) -> u16 {
        match self {
            DocumentError::NotImplemented { .. } => 501,
            _ => 400,
        }
    }
}

impl AclFault {
    fn code(self) -> &'static str {
        match self {
            AclFault::Canned
            | AclFault::GrantField
            | AclFault::Id
            | AclFault::Group
            | AclFault::LogDelivery => "InvalidArgument",
            AclFault::CannedAndGrants => "InvalidRequest",
            AclFault::Permission | AclFault::Grantee | AclFault::TooManyGrants { .. } => {
                "MalformedACLError"
            }
            AclFault::Email => "UnresolvableGrantByEmailAddress",
        }
    }
}
