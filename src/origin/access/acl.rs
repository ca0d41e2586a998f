//! Access control lists (S3 user guide, "Access control list (ACL) overview").
//!
//! Documents show S3's grant to the owner; lists do not hold it among the others, but whether it was taken out. What a
//! bucket's owner may do is settled by rights alone, what an object's owner may do as well ([`super::decide`]).

use super::action::{Action, Scope};
use super::decide::Principal;
use crate::origin::documents::element::{Element, Limits};
use crate::origin::documents::{AclFault, DocumentError};
use crate::origin::xml::Document;

/// The longest list that is read, in bytes: a hundred grants with room for what clients write around them.
pub const ACL_MAX_BYTES: usize = 128 * 1024;
/// The most grants of a list (S3 user guide).
const GRANTS_MAX: usize = 100;

const LIMITS: Limits = Limits {
    bytes: ACL_MAX_BYTES,
    elements: 1000,
};
const ALL_USERS: &str = "http://acs.amazonaws.com/groups/global/AllUsers";
const AUTHENTICATED_USERS: &str = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers";
const LOG_DELIVERY: &str = "http://acs.amazonaws.com/groups/s3/LogDelivery";
const XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";

/// An access control list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acl {
    /// Its grants, in order, but for the full control of its owner.
    pub grants: Vec<Grant>,
    /// Whether the owner's full control was taken out. The list itself an owner can always read and replace.
    pub without_owner: bool,
}

/// One permission for one grantee.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// To whom.
    pub grantee: Grantee,
    /// For what.
    pub permission: Permission,
}

/// To whom something is granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grantee {
    /// The owner or an access key, by its id.
    Key(String),
    /// Everybody.
    AllUsers,
    /// Everybody with a key of this store.
    AuthenticatedUsers,
}

/// What is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// All of the following.
    FullControl,
    /// To list a bucket, to read an object.
    Read,
    /// To put and delete objects; nothing on an object.
    Write,
    /// To read the list itself.
    ReadAcp,
    /// To replace the list itself.
    WriteAcp,
}

/// A list that has a name (`x-amz-acl`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canned {
    /// `private`
    Private,
    /// `public-read`
    PublicRead,
    /// `public-read-write`
    PublicReadWrite,
    /// `authenticated-read`
    AuthenticatedRead,
    /// `bucket-owner-read`: of an object that is not the bucket owner's; else it is `private`.
    BucketOwnerRead,
    /// `bucket-owner-full-control`, likewise.
    BucketOwnerFullControl,
}

/// The permissions and S3's names for them.
pub(super) const PERMISSIONS: [(&str, &str, Permission); 5] = [
    (
        "FULL_CONTROL",
        "x-amz-grant-full-control",
        Permission::FullControl,
    ),
    ("READ", "x-amz-grant-read", Permission::Read),
    ("WRITE", "x-amz-grant-write", Permission::Write),
    ("READ_ACP", "x-amz-grant-read-acp", Permission::ReadAcp),
    ("WRITE_ACP", "x-amz-grant-write-acp", Permission::WriteAcp),
];

impl Canned {
    /// Reads the value of `x-amz-acl`.
    ///
    /// # Errors
    /// [`DocumentError::Acl`] with [`AclFault::Canned`]; `log-delivery-write` and `aws-exec-read` are for services
    /// that are not here.
    pub fn parse(name: &str) -> Result<Self, DocumentError> {
        match name {
            "private" => Ok(Canned::Private),
            "public-read" => Ok(Canned::PublicRead),
            "public-read-write" => Ok(Canned::PublicReadWrite),
            "authenticated-read" => Ok(Canned::AuthenticatedRead),
            "bucket-owner-read" => Ok(Canned::BucketOwnerRead),
            "bucket-owner-full-control" => Ok(Canned::BucketOwnerFullControl),
            _ => Err(DocumentError::Acl(AclFault::Canned)),
        }
    }

    /// The list that it names for what belongs to `owner` in a bucket of `bucket_owner`, or is that bucket. The owner's
    /// own grant is left to [`Acl::write`].
    pub fn acl(self, owner: &str, bucket_owner: &str) -> Acl {
        let (everybody, keys) = (Grantee::AllUsers, Grantee::AuthenticatedUsers);
        let of_bucket_owner = |permission| match bucket_owner {
            // Buckets of the first stores have no owner.
            "" => vec![],
            id if id == owner => vec![],
            id => vec![(Grantee::Key(id.to_owned()), permission)],
        };
        let grants = match self {
            Canned::Private => vec![],
            Canned::BucketOwnerRead => of_bucket_owner(Permission::Read),
            Canned::BucketOwnerFullControl => of_bucket_owner(Permission::FullControl),
            Canned::PublicRead => vec![(everybody, Permission::Read)],
            Canned::PublicReadWrite => vec![
                (everybody.clone(), Permission::Read),
                (everybody, Permission::Write),
            ],
            Canned::AuthenticatedRead => vec![(keys, Permission::Read)],
        };
        let grants = grants.into_iter().map(|(grantee, permission)| Grant {
            grantee,
            permission,
        });
        Acl {
            grants: grants.collect(),
            without_owner: false,
        }
    }
}

impl Acl {
    /// Reads an `AccessControlPolicy` as it is stored: it names its owner.
    ///
    /// # Errors
    /// [`DocumentError`] for a document that is none; [`DocumentError::Acl`] for grants that cannot be honoured.
    pub fn parse(document: &[u8]) -> Result<Self, DocumentError> {
        let (owner, acl) = read_document(document)?;
        Ok(acl.of_owner(owner.as_deref()))
    }

    /// Reads an `AccessControlPolicy` that a client sends for what belongs to `owner`, whomever it names as that.
    ///
    /// # Errors
    /// As [`Acl::parse`].
    pub fn parse_of(document: &[u8], owner: &str) -> Result<Self, DocumentError> {
        let (_, acl) = read_document(document)?;
        Ok(acl.of_owner(Some(owner)))
    }

    /// Whom an `AccessControlPolicy` names as owner.
    ///
    /// # Errors
    /// As [`Acl::parse`].
    pub fn owner_in(document: &[u8]) -> Result<Option<String>, DocumentError> {
        Ok(read_document(document)?.0)
    }

    /// Takes out the full control of the owner.
    fn of_owner(self, owner: Option<&str>) -> Self {
        let before = self.grants.len();
        let is_owners = |grant: &Grant| {
            grant.permission == Permission::FullControl
                && matches!(&grant.grantee, Grantee::Key(id) if Some(id.as_str()) == owner)
        };
        let mut grants = self.grants;
        grants.retain(|grant| !is_owners(grant));
        Acl {
            without_owner: grants.len() == before,
            grants,
        }
    }

    /// The fields by which a request says what a list is to be.
    pub const FIELDS: [&'static str; 6] = [
        "x-amz-acl",
        "x-amz-grant-full-control",
        "x-amz-grant-read",
        "x-amz-grant-write",
        "x-amz-grant-read-acp",
        "x-amz-grant-write-acp",
    ];

    /// Writes the `AccessControlPolicy` whose owner is `owner_id`, with the full control that [`Acl::parse`] takes out.
    pub fn write(&self, owner_id: &str, document: &mut Document) {
        document.element("Owner", |document| {
            document.text("ID", owner_id);
            document.text("DisplayName", owner_id);
        });
        let owner = Grant {
            grantee: Grantee::Key(owner_id.to_owned()),
            permission: Permission::FullControl,
        };
        let owner_has = !self.without_owner || self.grants.contains(&owner);
        let mut others = self
            .grants
            .iter()
            .filter(|grant| **grant != owner)
            .peekable();
        document.element("AccessControlList", |document| {
            // S3 says nothing of an order. There are clients that look for groups before the owner.
            let is_to_group = |grant: &&Grant| !matches!(grant.grantee, Grantee::Key(_));
            while let Some(grant) = others.next_if(is_to_group) {
                document.element("Grant", |document| grant.write(document));
            }
            let owner = owner_has.then_some(&owner);
            for grant in owner.into_iter().chain(others) {
                document.element("Grant", |document| grant.write(document));
            }
        });
    }

    /// Whether it grants something to everybody, or to everybody with a key, in S3's meaning of public.
    pub fn is_public(&self) -> bool {
        self.grants.iter().any(Grant::is_public)
    }

    /// The access key ids that it grants something to.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.grants.iter().filter_map(|grant| match &grant.grantee {
            Grantee::Key(id) => Some(id.as_str()),
            Grantee::AllUsers | Grantee::AuthenticatedUsers => None,
        })
    }

    /// Whether the owner of an object with this list has, by that, what `action` needs.
    pub(super) fn leaves_to_owner(&self, action: Action) -> bool {
        match permission_for(Scope::Object, action) {
            Some(Permission::ReadAcp | Permission::WriteAcp) => true,
            Some(_) => !self.without_owner,
            None => false,
        }
    }

    /// Whether this list of a bucket or an object lets `principal` do `action`. `private_only` leaves grants to
    /// groups out of account.
    pub(super) fn grants(
        &self,
        of: Scope,
        principal: &Principal,
        action: Action,
        private_only: bool,
    ) -> bool {
        let Some(needed) = permission_for(of, action) else {
            return false;
        };
        self.grants.iter().any(|grant| {
            let reaches = match (&grant.grantee, principal) {
                (Grantee::AllUsers, _) => true,
                (Grantee::AuthenticatedUsers, Principal::Key(_)) => true,
                (Grantee::Key(id), Principal::Key(asking)) => id == asking,
                (Grantee::AuthenticatedUsers | Grantee::Key(_), Principal::Anonymous) => false,
            };
            let is_enough = [needed, Permission::FullControl].contains(&grant.permission);
            reaches && is_enough && !(private_only && grant.is_public())
        })
    }

    pub(super) fn checked(self) -> Result<Self, DocumentError> {
        if self.grants.len() > GRANTS_MAX {
            return Err(DocumentError::Acl(AclFault::TooManyGrants {
                max: GRANTS_MAX,
            }));
        }
        Ok(self)
    }
}

impl Grant {
    fn is_public(&self) -> bool {
        matches!(
            self.grantee,
            Grantee::AllUsers | Grantee::AuthenticatedUsers
        )
    }

    fn write(&self, document: &mut Document) {
        let kind = match self.grantee {
            Grantee::Key(_) => "CanonicalUser",
            Grantee::AllUsers | Grantee::AuthenticatedUsers => "Group",
        };
        let attributes = [("xmlns:xsi", XSI), ("xsi:type", kind)];
        document.element_with("Grantee", &attributes, |document| match &self.grantee {
            Grantee::Key(id) => {
                document.text("ID", id);
                document.text("DisplayName", id);
            }
            Grantee::AllUsers => document.text("URI", ALL_USERS),
            Grantee::AuthenticatedUsers => document.text("URI", AUTHENTICATED_USERS),
        });
        let name = PERMISSIONS
            .iter()
            .find(|(_, _, permission)| *permission == self.permission)
            .map_or("FULL_CONTROL", |(name, _, _)| *name);
        document.text("Permission", name);
    }
}

/// What a list must grant for an action; `None` when no list can (S3 user guide, "Mapping of ACL permissions").
fn permission_for(of: Scope, action: Action) -> Option<Permission> {
    match (of, action) {
        (
            Scope::Bucket,
            Action::ListBucket | Action::ListBucketVersions | Action::ListBucketMultipartUploads,
        ) => Some(Permission::Read),
        (
            Scope::Bucket,
            Action::PutObject | Action::DeleteObject | Action::AbortMultipartUpload,
        ) => Some(Permission::Write),
        (Scope::Bucket, Action::GetBucketAcl) => Some(Permission::ReadAcp),
        (Scope::Bucket, Action::PutBucketAcl) => Some(Permission::WriteAcp),
        (Scope::Object, Action::GetObject | Action::GetObjectVersion) => Some(Permission::Read),
        (Scope::Object, Action::GetObjectAcl | Action::GetObjectVersionAcl) => {
            Some(Permission::ReadAcp)
        }
        (Scope::Object, Action::PutObjectAcl | Action::PutObjectVersionAcl) => {
            Some(Permission::WriteAcp)
        }
        _ => None,
    }
}

/// Owner and grants, the owner's among them.
fn read_document(document: &[u8]) -> Result<(Option<String>, Acl), DocumentError> {
    let malformed = |fault| DocumentError::Acl(fault);
    let root = Element::parse(document, "AccessControlPolicy", LIMITS)?;
    root.only(&["Owner", "AccessControlList"])?;
    let mut owner = None;
    if let Some(element) = root.one("Owner")? {
        element.only(&["ID", "DisplayName"])?;
        owner = element.one("ID")?.map(Element::word).transpose()?;
    }
    let list = root.required("AccessControlList")?;
    list.only(&["Grant"])?;
    let mut grants = Vec::new();
    for grant in list.all("Grant") {
        grant.only(&["Grantee", "Permission"])?;
        let permission = grant.required("Permission")?.word()?;
        let found = PERMISSIONS.iter().find(|(name, _, _)| *name == permission);
        let (_, _, permission) = found.ok_or(malformed(AclFault::Permission))?;
        grants.push(Grant {
            grantee: read_grantee(grant.required("Grantee")?)?,
            permission: *permission,
        });
    }
    let acl = Acl {
        grants,
        without_owner: false,
    };
    Ok((owner.map(str::to_owned), acl.checked()?))
}

pub(super) fn group(uri: &str) -> Result<Grantee, DocumentError> {
    match uri {
        ALL_USERS => Ok(Grantee::AllUsers),
        AUTHENTICATED_USERS => Ok(Grantee::AuthenticatedUsers),
        LOG_DELIVERY => Err(DocumentError::Acl(AclFault::LogDelivery)),
        _ => Err(DocumentError::Acl(AclFault::Group)),
    }
}

pub(super) fn key(id: &str) -> Result<Grantee, DocumentError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if id.is_empty() || !id.bytes().all(fits) {
        return Err(DocumentError::Acl(AclFault::Id));
    }
    Ok(Grantee::Key(id.to_owned()))
}

fn read_grantee(grantee: &Element) -> Result<Grantee, DocumentError> {
    grantee.only(&["ID", "DisplayName", "URI", "EmailAddress"])?;
    let id = grantee.one("ID")?;
    let uri = grantee.one("URI")?;
    if grantee.one("EmailAddress")?.is_some() {
        return Err(DocumentError::Acl(AclFault::Email));
    }
    match (grantee.xsi_type(), id, uri) {
        (None | Some("CanonicalUser"), Some(id), None) => key(id.word()?),
        (None | Some("Group"), None, Some(uri)) => group(uri.word()?),
        _ => Err(DocumentError::Acl(AclFault::Grantee)),
    }
}

#[cfg(test)]
#[path = "acl_tests.rs"]
mod tests;
