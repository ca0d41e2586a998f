//! Access control lists (S3 user guide, "Access control list (ACL) overview").
//!
//! Everything here belongs to one owner, the store's, who needs no grant: what the owner may do is settled by rights
//! (see [`super::decide`]). Documents show S3's grant to the owner; lists do not hold it.

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
    /// Its grants, in order.
    pub grants: Vec<Grant>,
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
    /// `bucket-owner-read`: there is one owner, so it is `private`.
    BucketOwnerRead,
    /// `bucket-owner-full-control`: there is one owner, so it is `private`.
    BucketOwnerFullControl,
}

/// The permissions and S3's names for them.
const PERMISSIONS: [(&str, &str, Permission); 5] = [
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

    /// The list that it names. The owner's own grant is left to [`Acl::write`].
    pub fn acl(self) -> Acl {
        let (everybody, keys) = (Grantee::AllUsers, Grantee::AuthenticatedUsers);
        let grants = match self {
            Canned::Private | Canned::BucketOwnerRead | Canned::BucketOwnerFullControl => vec![],
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
        }
    }
}

impl Acl {
    /// Reads an `AccessControlPolicy`. The full control of whom it names as owner is left out: rights decide what an
    /// owner may do, and a grant must not outlive them.
    ///
    /// # Errors
    /// [`DocumentError`] for a document that is none; [`DocumentError::Acl`] for grants that cannot be honoured.
    pub fn parse(document: &[u8]) -> Result<Self, DocumentError> {
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
        let acl = Acl { grants }.checked()?;
        let is_owners = |grant: &Grant| {
            grant.permission == Permission::FullControl
                && matches!(&grant.grantee, Grantee::Key(id) if Some(id.as_str()) == owner)
        };
        Ok(Acl {
            grants: (acl.grants.into_iter())
                .filter(|grant| !is_owners(grant))
                .collect(),
        })
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

    /// Reads what a request says in [`Acl::FIELDS`], each of which `field` looks up: a canned list, or grants. `None`
    /// when it says nothing.
    ///
    /// # Errors
    /// [`DocumentError::Acl`], or what `field` fails with.
    pub fn from_fields<E: From<DocumentError>>(
        mut field: impl FnMut(&'static str) -> Result<Option<String>, E>,
    ) -> Result<Option<Self>, E> {
        let canned = field("x-amz-acl")?;
        let mut grants = Vec::new();
        let mut is_given = false;
        for (_, name, permission) in PERMISSIONS {
            let Some(value) = field(name)? else { continue };
            is_given = true;
            grants.extend(read_grantees(&value)?.into_iter().map(|grantee| Grant {
                grantee,
                permission,
            }));
        }
        match canned {
            Some(_) if is_given => Err(DocumentError::Acl(AclFault::CannedAndGrants).into()),
            Some(name) => Ok(Some(Canned::parse(&name)?.acl())),
            None if is_given => Ok(Some(Acl { grants }.checked()?)),
            None => Ok(None),
        }
    }

    /// Writes the `AccessControlPolicy` whose owner is `owner_id`, with the full control that [`Acl::parse`] leaves out.
    pub fn write(&self, owner_id: &str, document: &mut Document) {
        document.element("Owner", |document| {
            document.text("ID", owner_id);
            document.text("DisplayName", owner_id);
        });
        let owner = Grant {
            grantee: Grantee::Key(owner_id.to_owned()),
            permission: Permission::FullControl,
        };
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
            for grant in std::iter::once(&owner).chain(others) {
                document.element("Grant", |document| grant.write(document));
            }
        });
    }

    /// Whether it grants something to everybody, or to everybody with a key, in S3's meaning of public.
    pub fn is_public(&self) -> bool {
        self.grants.iter().any(Grant::is_public)
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

    fn checked(self) -> Result<Self, DocumentError> {
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

fn group(uri: &str) -> Result<Grantee, DocumentError> {
    match uri {
        ALL_USERS => Ok(Grantee::AllUsers),
        AUTHENTICATED_USERS => Ok(Grantee::AuthenticatedUsers),
        LOG_DELIVERY => Err(DocumentError::Acl(AclFault::LogDelivery)),
        _ => Err(DocumentError::Acl(AclFault::Group)),
    }
}

fn key(id: &str) -> Result<Grantee, DocumentError> {
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

/// Reads `id="a", uri="http://…"`.
fn read_grantees(value: &str) -> Result<Vec<Grantee>, DocumentError> {
    let grantees = value.split(',').map(|part| {
        let (kind, name) =
            (part.trim().split_once('=')).ok_or(DocumentError::Acl(AclFault::GrantField))?;
        let name = name.trim();
        let name = name
            .strip_prefix('"')
            .and_then(|name| name.strip_suffix('"'))
            .unwrap_or(name);
        match kind.trim() {
            kind if kind.eq_ignore_ascii_case("id") => key(name),
            kind if kind.eq_ignore_ascii_case("uri") => group(name),
            kind if kind.eq_ignore_ascii_case("emailAddress") => {
                Err(DocumentError::Acl(AclFault::Email))
            }
            _ => Err(DocumentError::Acl(AclFault::GrantField)),
        }
    });
    grantees.collect()
}

#[cfg(test)]
#[path = "acl_tests.rs"]
mod tests;
