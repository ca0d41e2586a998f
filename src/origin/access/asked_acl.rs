//! The list that a request asks for in its fields: a canned one, or grants.

use super::acl::{Acl, Canned, Grant, Grantee, PERMISSIONS, Permission, group, key};
use crate::origin::documents::{AclFault, DocumentError};

/// What a request says in [`Acl::FIELDS`]. Which list that is, depends on whose the object and the bucket are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AskedAcl {
    /// `x-amz-acl`
    Canned(Canned),
    /// `x-amz-grant-*`
    Grants(Acl),
}

impl AskedAcl {
    /// Reads the fields, each of which `field` looks up. `None` when they say nothing.
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
        let acl = Acl {
            grants,
            without_owner: false,
        };
        match canned {
            Some(_) if is_given => Err(DocumentError::Acl(AclFault::CannedAndGrants).into()),
            Some(name) => Ok(Some(AskedAcl::Canned(Canned::parse(&name)?))),
            None if is_given => Ok(Some(AskedAcl::Grants(acl.checked()?))),
            None => Ok(None),
        }
    }

    /// The list, for what belongs to `owner` in a bucket of `bucket_owner`, or is that bucket.
    pub fn acl(&self, owner: &str, bucket_owner: &str) -> Acl {
        match self {
            AskedAcl::Canned(canned) => canned.acl(owner, bucket_owner),
            AskedAcl::Grants(acl) => acl.clone(),
        }
    }

    /// Whether it grants something to others than owner and bucket owner, which needs the right to set lists.
    pub fn grants_to_others(&self) -> bool {
        !self.acl("", "").grants.is_empty()
    }

    /// Whether it is the list that may be given where lists are off: full control for the bucket's owner and nothing
    /// else.
    pub fn is_bucket_owners(&self, bucket_owner: &str) -> bool {
        match self {
            AskedAcl::Canned(canned) => *canned == Canned::BucketOwnerFullControl,
            AskedAcl::Grants(acl) => matches!(
                acl.grants.as_slice(),
                [Grant { grantee: Grantee::Key(id), permission: Permission::FullControl }] if id == bucket_owner
            ),
        }
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
