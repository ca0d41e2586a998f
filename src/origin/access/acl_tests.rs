use proptest::prelude::*;

use super::*;
use crate::origin::access::AskedAcl;

fn grants(list: &[(Grantee, Permission)]) -> Acl {
    let grants = list.iter().map(|(grantee, permission)| Grant {
        grantee: grantee.clone(),
        permission: *permission,
    });
    Acl {
        grants: grants.collect(),
        without_owner: false,
    }
}

fn written(acl: &Acl, owner: &str) -> Vec<u8> {
    let mut document = Document::new("AccessControlPolicy", Some(crate::origin::xml::NAMESPACE));
    acl.write(owner, &mut document);
    document.finish()
}

fn list(grants: &str) -> String {
    format!(
        "<AccessControlPolicy><Owner><ID>o</ID></Owner><AccessControlList>{grants}</AccessControlList></AccessControlPolicy>"
    )
}

fn one(grantee: &str, permission: &str) -> String {
    format!("<Grant><Grantee{grantee}</Grantee><Permission>{permission}</Permission></Grant>")
}

#[test]
fn canned_lists_are_known_by_name() {
    let read = |grantee| vec![(grantee, Permission::Read)];
    for (name, expected) in [
        ("private", vec![]),
        ("bucket-owner-read", vec![]),
        ("bucket-owner-full-control", vec![]),
        ("public-read", read(Grantee::AllUsers)),
        ("authenticated-read", read(Grantee::AuthenticatedUsers)),
        (
            "public-read-write",
            vec![
                (Grantee::AllUsers, Permission::Read),
                (Grantee::AllUsers, Permission::Write),
            ],
        ),
    ] {
        assert_eq!(
            Canned::parse(name).unwrap().acl("o", "o"),
            grants(&expected),
            "{name}"
        );
    }
    for name in [
        "",
        "Private",
        "log-delivery-write",
        "aws-exec-read",
        "public",
    ] {
        let error = Canned::parse(name).unwrap_err();
        assert_eq!(
            (error.code(), error.status()),
            ("InvalidArgument", 400),
            "{name}"
        );
    }
}

#[test]
fn a_list_grants_what_it_says_to_whom_it_says() {
    use Permission::{FullControl, Read, ReadAcp, Write, WriteAcp};
    let (bucket, object) = (Scope::Bucket, Scope::Object);
    for (of, action, needed) in [
        (bucket, Action::ListBucket, Some(Read)),
        (bucket, Action::ListBucketVersions, Some(Read)),
        (bucket, Action::PutObject, Some(Write)),
        (bucket, Action::DeleteObject, Some(Write)),
        (bucket, Action::GetBucketAcl, Some(ReadAcp)),
        (bucket, Action::PutBucketAcl, Some(WriteAcp)),
        (bucket, Action::GetObject, None),
        (bucket, Action::DeleteBucket, None),
        (object, Action::GetObject, Some(Read)),
        (object, Action::GetObjectVersion, Some(Read)),
        (object, Action::GetObjectAcl, Some(ReadAcp)),
        (object, Action::PutObjectAcl, Some(WriteAcp)),
        (object, Action::PutObject, None),
        (object, Action::ListBucket, None),
    ] {
        for permission in [FullControl, Read, Write, ReadAcp, WriteAcp] {
            let acl = grants(&[(Grantee::AllUsers, permission)]);
            let is_enough =
                needed.is_some_and(|needed| [needed, FullControl].contains(&permission));
            let granted = acl.grants(of, &Principal::Anonymous, action, false);
            assert_eq!(granted, is_enough, "{of:?} {action:?} {permission:?}");
        }
    }
    let ann = Principal::Key("ann".to_owned());
    for (grantee, anonymous, key, private) in [
        (Grantee::AllUsers, true, true, false),
        (Grantee::AuthenticatedUsers, false, true, false),
        (Grantee::Key("ann".to_owned()), false, true, true),
        (Grantee::Key("bob".to_owned()), false, false, false),
    ] {
        let acl = grants(&[(grantee, Read)]);
        let asked = |principal, private_only| {
            acl.grants(object, principal, Action::GetObject, private_only)
        };
        assert_eq!(asked(&Principal::Anonymous, false), anonymous);
        assert_eq!(asked(&ann, false), key);
        assert_eq!(asked(&ann, true), private);
    }
}

#[test]
fn lists_of_real_clients_are_read() {
    let document = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <AccessControlPolicy xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\n\
           <Owner><ID>demo</ID><DisplayName>demo</DisplayName></Owner>\n\
           <AccessControlList>\n\
             <Grant><Grantee xmlns:xsi=\"{XSI}\" xsi:type=\"CanonicalUser\"><ID>demo</ID>\
             <DisplayName>demo</DisplayName></Grantee><Permission>FULL_CONTROL</Permission></Grant>\n\
             <Grant><Grantee xmlns:xsi=\"{XSI}\" xsi:type=\"Group\"><URI>{ALL_USERS}</URI></Grantee>\
             <Permission>READ_ACP</Permission></Grant>\n\
           </AccessControlList>\n</AccessControlPolicy>"
    );
    let expected = grants(&[(Grantee::AllUsers, Permission::ReadAcp)]);
    assert_eq!(Acl::parse(document.as_bytes()), Ok(expected));
    // Full control of somebody else is a grant like any other, and so is less of the owner.
    for (from, to) in [
        ("<Owner><ID>demo", "<Owner><ID>ann"),
        ("FULL_CONTROL", "WRITE"),
    ] {
        let other = document.replace(from, to);
        assert_eq!(Acl::parse(other.as_bytes()).unwrap().grants.len(), 2);
    }
    let none = Acl {
        without_owner: true,
        ..Acl::default()
    };
    assert_eq!(Acl::parse(list("").as_bytes()), Ok(none.clone()));
    // Nothing of it comes back when it is written.
    assert_eq!(Acl::parse(&written(&none, "demo")), Ok(none));
    assert_eq!(
        Acl::owner_in(document.as_bytes()),
        Ok(Some("demo".to_owned()))
    );
    let of_ann = Acl::parse_of(document.as_bytes(), "ann").unwrap();
    assert_eq!((of_ann.grants.len(), of_ann.without_owner), (2, true));
}

#[test]
fn lists_that_cannot_be_honoured_are_refused() {
    for (grant, code) in [
        (one("><ID>a</ID>", "READS"), "MalformedACLError"),
        (one(">", "READ"), "MalformedACLError"),
        (one("><ID/>", "READ"), "InvalidArgument"),
        (one("><ID>a b</ID>", "READ"), "InvalidArgument"),
        (one("><URI>http://x/</URI>", "READ"), "InvalidArgument"),
        (
            one("><EmailAddress>a@b</EmailAddress>", "READ"),
            "UnresolvableGrantByEmailAddress",
        ),
        (
            one(&format!("><URI>{LOG_DELIVERY}</URI>"), "WRITE"),
            "InvalidArgument",
        ),
        (
            one(&format!("><ID>a</ID><URI>{ALL_USERS}</URI>"), "READ"),
            "MalformedACLError",
        ),
        (
            one(" type=\"Group\"><ID>a</ID>", "READ"),
            "MalformedACLError",
        ),
        (one("><Name>a</Name>", "READ"), "MalformedXML"),
        (
            "<Grant><Permission>READ</Permission></Grant>".to_owned(),
            "MalformedXML",
        ),
        ("<Grants/>".to_owned(), "MalformedXML"),
    ] {
        let error = Acl::parse(list(&grant).as_bytes()).unwrap_err();
        assert_eq!((error.code(), error.status()), (code, 400), "{grant}");
    }
    let grant = one("><ID>a</ID>", "READ");
    assert!(Acl::parse(list(&grant.repeat(100)).as_bytes()).is_ok());
    let error = Acl::parse(list(&grant.repeat(101)).as_bytes()).unwrap_err();
    assert_eq!(error.code(), "MalformedACLError");
    let missing = "<AccessControlPolicy><Owner><ID>o</ID></Owner></AccessControlPolicy>";
    assert!(Acl::parse(missing.as_bytes()).is_err());
}

#[test]
fn grants_in_fields_are_read() {
    let read = |pairs: &[(&str, &str)]| {
        let field = |name: &'static str| {
            assert!(Acl::FIELDS.contains(&name));
            let found = pairs.iter().find(|(known, _)| *known == name);
            Ok::<_, DocumentError>(found.map(|(_, value)| (*value).to_owned()))
        };
        AskedAcl::from_fields(field).map_err(|error| error.code())
    };
    let all = format!("uri=\"{ALL_USERS}\", id=\"ann\",id=bob");
    let expected = grants(&[
        (Grantee::AllUsers, Permission::Read),
        (Grantee::Key("ann".to_owned()), Permission::Read),
        (Grantee::Key("bob".to_owned()), Permission::Read),
        (Grantee::Key("ann".to_owned()), Permission::WriteAcp),
    ]);
    let fields = [
        ("x-amz-grant-write-acp", "ID=\"ann\""),
        ("x-amz-grant-read", all.as_str()),
    ];
    assert_eq!(read(&fields), Ok(Some(AskedAcl::Grants(expected))));
    assert_eq!(read(&[]), Ok(None));
    let canned = AskedAcl::Canned(Canned::PublicRead);
    assert_eq!(read(&[("x-amz-acl", "public-read")]), Ok(Some(canned)));
    let many = ["id=a"; 100].join(",");
    assert!(read(&[("x-amz-grant-read", &many)]).is_ok());
    for (fields, code) in [
        (
            &[("x-amz-acl", "private"), ("x-amz-grant-read", "id=a")][..],
            "InvalidRequest",
        ),
        (&[("x-amz-acl", "everybody")], "InvalidArgument"),
        (&[("x-amz-grant-read", "")], "InvalidArgument"),
        (&[("x-amz-grant-read", "id=a,")], "InvalidArgument"),
        (&[("x-amz-grant-read", "name=a")], "InvalidArgument"),
        (
            &[("x-amz-grant-read", &format!("{many},id=a"))],
            "MalformedACLError",
        ),
        (
            &[("x-amz-grant-read", "emailAddress=\"a@b\"")],
            "UnresolvableGrantByEmailAddress",
        ),
    ] {
        assert_eq!(read(fields), Err(code), "{fields:?}");
    }
}

#[test]
fn the_owner_has_full_control_in_every_list_that_is_written() {
    let text = String::from_utf8(written(&Acl::default(), "demo")).unwrap();
    let grantee = format!(
        "<Grant><Grantee xmlns:xsi=\"{XSI}\" xsi:type=\"CanonicalUser\"><ID>demo</ID>\
         <DisplayName>demo</DisplayName></Grantee><Permission>FULL_CONTROL</Permission></Grant>"
    );
    assert!(text.contains(&grantee), "{text}");
}

#[test]
fn lists_of_the_bucket_owner_grant_to_another_owner_only() {
    for (name, permission) in [
        ("bucket-owner-read", Permission::Read),
        ("bucket-owner-full-control", Permission::FullControl),
    ] {
        let canned = Canned::parse(name).unwrap();
        let to_bucket_owner = grants(&[(Grantee::Key("ann".to_owned()), permission)]);
        assert_eq!(canned.acl("guest", "ann"), to_bucket_owner);
        assert_eq!(canned.acl("ann", "ann"), Acl::default());
        assert_eq!(canned.acl("guest", ""), Acl::default());
        assert!(!AskedAcl::Canned(canned).grants_to_others());
    }
    assert!(AskedAcl::Canned(Canned::PublicRead).grants_to_others());
}

#[test]
fn where_lists_are_off_one_list_may_be_given() {
    let full = (Grantee::Key("ann".to_owned()), Permission::FullControl);
    let less = (Grantee::Key("ann".to_owned()), Permission::Read);
    let guests = (Grantee::Key("guest".to_owned()), Permission::FullControl);
    for (asked, expected) in [
        (AskedAcl::Canned(Canned::BucketOwnerFullControl), true),
        (AskedAcl::Canned(Canned::BucketOwnerRead), false),
        (AskedAcl::Canned(Canned::Private), false),
        (AskedAcl::Grants(grants(std::slice::from_ref(&full))), true),
        (AskedAcl::Grants(grants(&[less])), false),
        (
            AskedAcl::Grants(grants(std::slice::from_ref(&guests))),
            false,
        ),
        (AskedAcl::Grants(grants(&[full, guests])), false),
        (AskedAcl::Grants(grants(&[])), false),
    ] {
        assert_eq!(asked.is_bucket_owners("ann"), expected, "{asked:?}");
    }
}

#[test]
fn an_owner_without_a_grant_keeps_the_list_itself() {
    let none = Acl {
        without_owner: true,
        ..Acl::default()
    };
    for (action, by_default, without) in [
        (Action::GetObject, true, false),
        (Action::GetObjectVersion, true, false),
        (Action::GetObjectAcl, true, true),
        (Action::PutObjectAcl, true, true),
        (Action::DeleteObject, false, false),
        (Action::PutObject, false, false),
        (Action::GetObjectTagging, false, false),
    ] {
        assert_eq!(Acl::default().leaves_to_owner(action), by_default);
        assert_eq!(none.leaves_to_owner(action), without, "{action:?}");
    }
}

fn grantee() -> impl Strategy<Value = Grantee> {
    prop_oneof![
        "[a-zA-Z0-9._-]{1,20}".prop_map(Grantee::Key),
        Just(Grantee::AllUsers),
        Just(Grantee::AuthenticatedUsers),
    ]
}

#[test]
fn grants_keep_their_order_whoever_they_are_for() {
    let to_key = (Grantee::Key("A".to_owned()), Permission::FullControl);
    let to_all = (Grantee::AllUsers, Permission::FullControl);
    for list in [[to_key.clone(), to_all.clone()], [to_all, to_key]] {
        let acl = grants(&list);
        assert_eq!(Acl::parse(&written(&acl, "demo")), Ok(acl));
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        list in proptest::collection::vec((grantee(), 0..5_usize), 0..8),
    ) {
        let list: Vec<_> = list
            .into_iter()
            .map(|(grantee, index)| (grantee, PERMISSIONS[index].2))
            .collect();
        let acl = grants(&list);
        let owner = Grant {
            grantee: Grantee::Key("demo".to_owned()),
            permission: Permission::FullControl,
        };
        let read = Acl::parse(&written(&acl, "demo")).unwrap();
        let others = acl.grants.into_iter().filter(|grant| *grant != owner);
        let others: Vec<_> = others.collect();
        prop_assert_eq!(read.grants, others);
    }
}
