use bytes::Bytes;
use http::HeaderMap;

use super::*;
use crate::origin::meta::{DocumentKind, StorageClass, Understood, Versioning};
use crate::origin::query::Query;
use crate::origin::retention::ObjectLock;

fn bucket(owner: &str, ownership: Option<Ownership>) -> BucketRow {
    let documents = ownership.map(|ownership| {
        let mut controls = Document::new("OwnershipControls", Some(NAMESPACE));
        ownership.write(&mut controls);
        (
            DocumentKind::OwnershipControls,
            Bytes::from(controls.finish()),
        )
    });
    BucketRow {
        id: 1,
        name: "films".to_owned(),
        owner: owner.to_owned(),
        created_ms: 0,
        versioning: Versioning::Off,
        documents: documents.into_iter().collect(),
        understood: Understood::default(),
    }
}

/// What `guest` puts into a bucket with this canned list.
fn put(bucket: &BucketRow, canned: Option<&'static str>, in_parts: bool) -> Owned {
    let mut headers = HeaderMap::new();
    if let Some(name) = canned {
        headers.insert("x-amz-acl", name.parse().unwrap());
    }
    let fields = RequestFields {
        headers: &headers,
        query: &Query::default(),
        presigned: false,
    };
    let owned = if in_parts {
        Owned::of_parts(&fields, bucket, "guest")
    } else {
        Owned::of_upload(&fields, bucket, "guest")
    };
    owned.unwrap()
}

#[test]
fn a_new_object_belongs_to_whom_ownership_says() {
    use Ownership::{BucketOwnerEnforced, BucketOwnerPreferred, ObjectWriter};
    let full = Some("bucket-owner-full-control");
    for (ownership, canned, owner, has_list) in [
        (None, None, "guest", false),
        (None, full, "guest", true),
        (Some(ObjectWriter), full, "guest", true),
        (Some(ObjectWriter), Some("private"), "guest", true),
        (Some(BucketOwnerPreferred), None, "guest", false),
        (Some(BucketOwnerPreferred), Some("private"), "guest", true),
        (Some(BucketOwnerPreferred), full, "ann", true),
        (Some(BucketOwnerEnforced), None, "ann", false),
        (Some(BucketOwnerEnforced), full, "ann", false),
    ] {
        let row = bucket("ann", ownership);
        let owned = put(&row, canned, false);
        let what = format!("{ownership:?} {canned:?}");
        assert_eq!(
            (&*owned.owner, !owned.acl.is_empty()),
            (owner, has_list),
            "{what}"
        );
        if has_list {
            assert_eq!(Acl::owner_in(&owned.acl).unwrap().unwrap(), owner, "{what}");
        }
        // In parts, the owner is known from the list that was kept.
        let Owned { acl, .. } = put(&row, canned, true);
        let upload = upload(acl);
        assert_eq!(owner_of_parts(&row, &upload).unwrap(), owner, "{what}");
        let later = bucket("ann", Some(BucketOwnerEnforced));
        assert_eq!(owner_of_parts(&later, &upload).unwrap(), "ann", "{what}");
    }
    // A bucket of the first stores has no owner that anything could belong to.
    let first = bucket("", Some(BucketOwnerEnforced));
    assert_eq!(put(&first, None, false).owner, "guest");
}

fn upload(acl: Vec<u8>) -> UploadRow {
    UploadRow {
        number: 1,
        bucket: 1,
        key: ObjectKey::new("a").unwrap(),
        started_ms: 0,
        owner: "guest".to_owned(),
        fields: Vec::new(),
        tags: String::new(),
        acl,
        checksum: None,
        storage_class: StorageClass::Standard,
        lock: ObjectLock::default(),
    }
}

#[test]
fn a_list_for_the_bucket_owner_grants_to_it_what_a_guest_owns() {
    let row = bucket("ann", None);
    let owned = put(&row, Some("bucket-owner-read"), false);
    let acl = of_row(&owned.acl).unwrap();
    assert_eq!(acl.key_ids().collect::<Vec<_>>(), ["ann"]);
    assert!(!acl.without_owner);
}
