//! `PublicAccessBlockConfiguration` (S3 API, PutPublicAccessBlock).

use super::DocumentError;
use super::element::{Element, Limits};
use crate::origin::access::{Acl, Policy};
use crate::origin::xml::Document;

/// The longest document that is read, in bytes.
pub const PUBLIC_ACCESS_BLOCK_MAX_BYTES: usize = 16 * 1024;

const LIMITS: Limits = Limits {
    bytes: PUBLIC_ACCESS_BLOCK_MAX_BYTES,
    elements: 8,
};

/// What a bucket keeps from the public. Nothing by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PublicAccessBlock {
    /// `BlockPublicAcls`: no public list can be put.
    pub block_public_acls: bool,
    /// `IgnorePublicAcls`: what lists grant to groups does not count.
    pub ignore_public_acls: bool,
    /// `BlockPublicPolicy`: no public policy can be put.
    pub block_public_policy: bool,
    /// `RestrictPublicBuckets`: while the policy is public, it allows nothing without a key.
    pub restrict_public_buckets: bool,
}

impl PublicAccessBlock {
    /// Reads a `PublicAccessBlockConfiguration`. What it does not name is off.
    ///
    /// # Errors
    /// A malformed document.
    pub fn parse(document: &[u8]) -> Result<Self, DocumentError> {
        let root = Element::parse(document, "PublicAccessBlockConfiguration", LIMITS)?;
        root.only(&[
            "BlockPublicAcls",
            "IgnorePublicAcls",
            "BlockPublicPolicy",
            "RestrictPublicBuckets",
        ])?;
        let flag = |name| match root.one(name)? {
            Some(flag) => flag.flag(),
            None => Ok(false),
        };
        Ok(PublicAccessBlock {
            block_public_acls: flag("BlockPublicAcls")?,
            ignore_public_acls: flag("IgnorePublicAcls")?,
            block_public_policy: flag("BlockPublicPolicy")?,
            restrict_public_buckets: flag("RestrictPublicBuckets")?,
        })
    }

    /// Writes it into a `PublicAccessBlockConfiguration`.
    pub fn write(&self, document: &mut Document) {
        for (name, flag) in [
            ("BlockPublicAcls", self.block_public_acls),
            ("IgnorePublicAcls", self.ignore_public_acls),
            ("BlockPublicPolicy", self.block_public_policy),
            ("RestrictPublicBuckets", self.restrict_public_buckets),
        ] {
            document.text(name, if flag { "true" } else { "false" });
        }
    }

    /// Whether this list may not be put: 403 `AccessDenied`.
    pub fn refuses_acl(&self, acl: &Acl) -> bool {
        self.block_public_acls && acl.is_public()
    }

    /// Whether this policy may not be put: 403 `AccessDenied`.
    pub fn refuses_policy(&self, policy: &Policy) -> bool {
        self.block_public_policy && policy.is_public()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::access::Canned;
    use crate::origin::names::BucketName;
    use crate::origin::xml::NAMESPACE;

    #[test]
    fn what_is_written_is_read_again() {
        for bits in 0..16_u8 {
            let block = PublicAccessBlock {
                block_public_acls: bits & 1 != 0,
                ignore_public_acls: bits & 2 != 0,
                block_public_policy: bits & 4 != 0,
                restrict_public_buckets: bits & 8 != 0,
            };
            let root = "PublicAccessBlockConfiguration";
            let mut document = Document::new(root, Some(NAMESPACE));
            block.write(&mut document);
            assert_eq!(PublicAccessBlock::parse(&document.finish()), Ok(block));
        }
    }

    #[test]
    fn flags_are_off_unless_they_are_named_and_nothing_else_is_known() {
        let parse = |inner: &str| {
            let root = "PublicAccessBlockConfiguration";
            PublicAccessBlock::parse(format!("<{root}>{inner}</{root}>").as_bytes())
        };
        assert_eq!(parse(""), Ok(PublicAccessBlock::default()));
        let one = PublicAccessBlock {
            block_public_policy: true,
            ..PublicAccessBlock::default()
        };
        assert_eq!(
            parse("<BlockPublicPolicy>TRUE</BlockPublicPolicy>"),
            Ok(one)
        );
        for inner in [
            "<BlockPublicPolicy/>",
            "<BlockPublicPolicy>yes</BlockPublicPolicy>",
            "<BlockEverything>true</BlockEverything>",
        ] {
            assert_eq!(parse(inner).unwrap_err().code(), "MalformedXML", "{inner}");
        }
    }

    #[test]
    fn public_lists_and_policies_are_refused_while_they_are_blocked() {
        let bucket = BucketName::new("films").unwrap();
        let policy = |principal: &str| {
            let json = format!(
                r#"{{"Statement":{{"Effect":"Allow","Principal":{principal},"Action":"s3:GetObject","Resource":"arn:aws:s3:::films/*"}}}}"#
            );
            Policy::parse(json.as_bytes(), &bucket).unwrap()
        };
        let (public, private) = (policy(r#""*""#), policy(r#"{"AWS":"ann"}"#));
        for (lists, policies) in [(false, false), (true, false), (false, true)] {
            let block = PublicAccessBlock {
                block_public_acls: lists,
                block_public_policy: policies,
                ..PublicAccessBlock::default()
            };
            assert_eq!(block.refuses_acl(&Canned::PublicRead.acl("", "")), lists);
            assert_eq!(
                block.refuses_acl(&Canned::AuthenticatedRead.acl("", "")),
                lists
            );
            assert!(!block.refuses_acl(&Canned::Private.acl("", "")));
            assert_eq!(block.refuses_policy(&public), policies);
            assert!(!block.refuses_policy(&private));
        }
    }
}
