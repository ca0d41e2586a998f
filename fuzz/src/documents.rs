//! The XML documents that clients send to the store.

use tidegate::origin::access::{Acl, Grant, Grantee, Permission};
use tidegate::origin::documents::{
    CompleteMultipart, CreateBucket, DeleteRequest, Notifications, Ownership, PublicAccessBlock,
    Versioning,
};
use tidegate::origin::xml::Document;

use super::take_text;

/// A line with the root's name, then the document.
///
/// What is read can be written and is then read as the same; what is only read keeps its bounds.
pub fn check(data: &[u8]) {
    let mut rest = data;
    match take_text(&mut rest) {
        Some("AccessControlPolicy") => {
            // A hundred grants and the owner's are one too many.
            if let Ok(acl) = Acl::parse(rest)
                && acl.grants.len() < 100
            {
                let written = write("AccessControlPolicy", |document| {
                    acl.write("demo", document)
                });
                let again = Acl::parse(&written).expect("we have written it");
                let is_owners = |grant: &Grant| {
                    grant.grantee == Grantee::Key("demo".to_owned())
                        && grant.permission == Permission::FullControl
                };
                let owner_has = !acl.without_owner || acl.grants.iter().any(is_owners);
                assert_eq!(again.without_owner, !owner_has);
                let mut others = acl.grants;
                others.retain(|grant| !is_owners(grant));
                assert_eq!(again.grants, others);
            }
        }
        Some("CompleteMultipartUpload") => {
            if let Ok(complete) = CompleteMultipart::parse(rest) {
                let numbers: Vec<_> = complete.parts.iter().map(|part| part.number).collect();
                assert!(numbers.is_sorted_by(|one, next| one < next));
                assert!(numbers.first().is_some_and(|first| *first >= 1));
                assert!(numbers.last().is_some_and(|last| *last <= 10_000));
            }
        }
        Some("CreateBucketConfiguration") => {
            if let Ok(create) = CreateBucket::parse(rest) {
                assert_ne!(create.location.as_deref(), Some(""));
            }
        }
        Some("Delete") => {
            if let Ok(request) = DeleteRequest::parse(rest) {
                assert!((1..=1000).contains(&request.objects.len()));
            }
        }
        Some("NotificationConfiguration") => {
            if let Ok(notifications) = Notifications::parse(rest) {
                let document = write("NotificationConfiguration", |d| notifications.write(d));
                assert_eq!(Notifications::parse(&document), Ok(notifications));
            }
        }
        Some("OwnershipControls") => {
            if let Ok(ownership) = Ownership::parse(rest) {
                let document = write("OwnershipControls", |d| ownership.write(d));
                assert_eq!(Ownership::parse(&document), Ok(ownership));
            }
        }
        Some("PublicAccessBlockConfiguration") => {
            if let Ok(block) = PublicAccessBlock::parse(rest) {
                let document = write("PublicAccessBlockConfiguration", |d| block.write(d));
                assert_eq!(PublicAccessBlock::parse(&document), Ok(block));
            }
        }
        Some("VersioningConfiguration") => {
            if let Ok(versioning) = Versioning::parse(rest) {
                let document = write("VersioningConfiguration", |d| versioning.write(d));
                assert_eq!(Versioning::parse(&document), Ok(versioning));
            }
        }
        _ => {}
    }
}

fn write(root: &'static str, content: impl FnOnce(&mut Document)) -> Vec<u8> {
    let mut document = Document::new(root, None);
    content(&mut document);
    document.finish()
}
