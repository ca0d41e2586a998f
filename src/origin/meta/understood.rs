//! What the documents of a bucket say: each is read when somebody first asks, and kept beside the row that it came with.
//!
//! A bucket that is changed gets a new row, of which nothing has been read.

use std::sync::OnceLock;

use super::{BucketRow, DocumentKind, MetaError};
use crate::origin::access::{Acl, Policy};
use crate::origin::documents::{
    CorsRules, LifecycleRules, ObjectLockConfiguration, Ownership, PublicAccessBlock,
};
use crate::origin::names::BucketName;

/// What has been read of the documents of one row. It is no part of what the row says, so all are equal, and a copy of
/// a row begins anew.
#[derive(Debug, Default)]
pub struct Understood {
    acl: OnceLock<Acl>,
    cors: OnceLock<CorsRules>,
    lifecycle: OnceLock<LifecycleRules>,
    object_lock: OnceLock<ObjectLockConfiguration>,
    ownership: OnceLock<Ownership>,
    policy: OnceLock<Policy>,
    public_access_block: OnceLock<PublicAccessBlock>,
}

impl Clone for Understood {
    fn clone(&self) -> Self {
        Understood::default()
    }
}

impl PartialEq for Understood {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Understood {}

/// `None` where nothing is configured.
///
/// # Errors
/// Each says [`MetaError::ImpossibleRow`] of a document that could not have been put.
impl BucketRow {
    /// The list of who may do what with the bucket.
    pub fn acl(&self) -> Result<Option<&Acl>, MetaError> {
        self.read(DocumentKind::Acl, &self.understood.acl, Acl::parse)
    }

    /// What pages of other sites may do.
    pub fn cors(&self) -> Result<Option<&CorsRules>, MetaError> {
        let known = &self.understood.cors;
        self.read(DocumentKind::Cors, known, CorsRules::parse)
    }

    /// When objects end.
    pub fn lifecycle(&self) -> Result<Option<&LifecycleRules>, MetaError> {
        let known = &self.understood.lifecycle;
        self.read(DocumentKind::Lifecycle, known, LifecycleRules::parse)
    }

    /// How it locks its versions.
    pub fn object_lock(&self) -> Result<Option<&ObjectLockConfiguration>, MetaError> {
        let known = &self.understood.object_lock;
        let parse = ObjectLockConfiguration::parse;
        self.read(DocumentKind::ObjectLock, known, parse)
    }

    /// Whose objects are: the writer's where nothing is configured.
    pub fn ownership(&self) -> Result<Ownership, MetaError> {
        let known = &self.understood.ownership;
        let ownership = self.read(DocumentKind::OwnershipControls, known, Ownership::parse)?;
        Ok(ownership.copied().unwrap_or(Ownership::ObjectWriter))
    }

    /// Whether lists count; they do where nothing is configured.
    pub fn has_lists(&self) -> Result<bool, MetaError> {
        Ok(self.ownership()?.has_lists())
    }

    /// To whom what was `written` under this id belongs now: where lists are off, everything is the bucket owner's. A
    /// bucket of the first stores has no owner, and there is nothing to tell then.
    pub fn owner_of<'o>(&'o self, written: &'o str) -> Result<&'o str, MetaError> {
        if self.has_lists()? || self.owner.is_empty() {
            return Ok(written);
        }
        Ok(&self.owner)
    }

    /// Its policy.
    pub fn policy(&self) -> Result<Option<&Policy>, MetaError> {
        let name = &self.name;
        self.read(DocumentKind::Policy, &self.understood.policy, |document| {
            let bucket = BucketName::new(name.as_str()).map_err(drop)?;
            Policy::parse(document, &bucket).map_err(drop)
        })
    }

    /// What it keeps from the public: nothing where nothing is configured.
    pub fn public_access_block(&self) -> Result<PublicAccessBlock, MetaError> {
        let kind = DocumentKind::PublicAccessBlock;
        let known = &self.understood.public_access_block;
        let block = self.read(kind, known, PublicAccessBlock::parse)?;
        Ok(block.copied().unwrap_or_default())
    }

    fn read<'r, T, E>(
        &'r self,
        kind: DocumentKind,
        known: &'r OnceLock<T>,
        parse: impl FnOnce(&[u8]) -> Result<T, E>,
    ) -> Result<Option<&'r T>, MetaError> {
        let Some(document) = self.document(kind) else {
            return Ok(None);
        };
        if let Some(read) = known.get() {
            return Ok(Some(read));
        }
        let read = parse(document).map_err(|_| MetaError::ImpossibleRow { column: "document" })?;
        // Another request may have come first; both read the same.
        Ok(Some(known.get_or_init(|| read)))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::Versioning;
    use super::*;

    const OPEN: &str = r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::films/*"}}"#;

    fn row(policy: &str) -> BucketRow {
        BucketRow {
            id: 1,
            name: "films".to_owned(),
            owner: "ann".to_owned(),
            created_ms: 0,
            versioning: Versioning::Off,
            documents: vec![(DocumentKind::Policy, Bytes::from(policy.to_owned()))],
            understood: Understood::default(),
        }
    }

    #[test]
    fn a_document_is_read_once_and_a_copy_of_the_row_reads_its_own() {
        let open = row(OPEN);
        let first: *const Policy = open.policy().unwrap().unwrap();
        assert!(std::ptr::eq(first, open.policy().unwrap().unwrap()));
        assert!(open.policy().unwrap().unwrap().is_public());
        assert_eq!(open.acl().unwrap(), None);
        assert!(open.has_lists().unwrap());
        assert_eq!(open.ownership().unwrap(), Ownership::ObjectWriter);
        assert_eq!(open.owner_of("bob").unwrap(), "bob");

        let mut shut = open.clone();
        assert_eq!(shut, open);
        let denial = OPEN.replace("Allow", "Deny");
        shut.documents = vec![(DocumentKind::Policy, Bytes::from(denial))];
        assert!(!shut.policy().unwrap().unwrap().is_public());
    }

    #[test]
    fn where_lists_are_off_everything_is_the_bucket_owners() {
        let mut row = row(OPEN);
        let controls = "<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>";
        row.documents = vec![(DocumentKind::OwnershipControls, Bytes::from(controls))];
        assert!(!row.has_lists().unwrap());
        assert_eq!(row.owner_of("bob").unwrap(), "ann");
        row.owner.clear();
        assert_eq!(row.owner_of("bob").unwrap(), "bob");
    }

    #[test]
    fn what_could_not_have_been_put_is_told_every_time() {
        let broken = row("{");
        for _ in 0..2 {
            let error = broken.policy().unwrap_err();
            assert!(matches!(
                error,
                MetaError::ImpossibleRow { column: "document" }
            ));
        }
    }
}
