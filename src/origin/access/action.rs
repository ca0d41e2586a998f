//! The actions that policies allow or deny, under S3's names (service authorization reference, "Actions defined by
//! Amazon S3").

use crate::config::RightsLevel;

/// What an action is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The store: `*` in AWS's reference.
    Service,
    /// A bucket.
    Bucket,
    /// An object, or an upload that may become one.
    Object,
}

macro_rules! actions {
    ($($variant:ident, $scope:ident, $level:ident, $text:literal;)*) => {
        /// What a request does. An operation may need more than one, such as a copy.
        ///
        /// The deletion of a setting is the action that puts it, as in S3, except for policies.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Action {
            $(#[doc = concat!("`", $text, "`")] $variant,)*
        }

        impl Action {
            /// Every action.
            pub const ALL: &'static [Action] = &[$(Action::$variant,)*];

            /// S3's name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Action::$variant => $text,)*
                }
            }

            /// What it is done to.
            pub fn scope(self) -> Scope {
                match self {
                    $(Action::$variant => Scope::$scope,)*
                }
            }

            /// The least that a credential must have been given to do it by itself.
            pub fn needs(self) -> RightsLevel {
                match self {
                    $(Action::$variant => RightsLevel::$level,)*
                }
            }
        }
    };
}

actions! {
    ListAllMyBuckets, Service, ReadOnly, "s3:ListAllMyBuckets";
    CreateBucket, Bucket, Full, "s3:CreateBucket";
    DeleteBucket, Bucket, Full, "s3:DeleteBucket";
    DeleteBucketPolicy, Bucket, Full, "s3:DeleteBucketPolicy";
    DeleteBucketWebsite, Bucket, Full, "s3:DeleteBucketWebsite";
    GetAccelerateConfiguration, Bucket, ReadOnly, "s3:GetAccelerateConfiguration";
    GetBucketAcl, Bucket, ReadOnly, "s3:GetBucketAcl";
    GetBucketCors, Bucket, ReadOnly, "s3:GetBucketCORS";
    GetBucketLocation, Bucket, ReadOnly, "s3:GetBucketLocation";
    GetBucketLogging, Bucket, ReadOnly, "s3:GetBucketLogging";
    GetBucketNotification, Bucket, ReadOnly, "s3:GetBucketNotification";
    GetBucketObjectLockConfiguration, Bucket, ReadOnly, "s3:GetBucketObjectLockConfiguration";
    GetBucketOwnershipControls, Bucket, ReadOnly, "s3:GetBucketOwnershipControls";
    GetBucketPolicy, Bucket, ReadOnly, "s3:GetBucketPolicy";
    GetBucketPolicyStatus, Bucket, ReadOnly, "s3:GetBucketPolicyStatus";
    GetBucketPublicAccessBlock, Bucket, ReadOnly, "s3:GetBucketPublicAccessBlock";
    GetBucketRequestPayment, Bucket, ReadOnly, "s3:GetBucketRequestPayment";
    GetBucketTagging, Bucket, ReadOnly, "s3:GetBucketTagging";
    GetBucketVersioning, Bucket, ReadOnly, "s3:GetBucketVersioning";
    GetBucketWebsite, Bucket, ReadOnly, "s3:GetBucketWebsite";
    GetEncryptionConfiguration, Bucket, ReadOnly, "s3:GetEncryptionConfiguration";
    GetLifecycleConfiguration, Bucket, ReadOnly, "s3:GetLifecycleConfiguration";
    GetReplicationConfiguration, Bucket, ReadOnly, "s3:GetReplicationConfiguration";
    ListBucket, Bucket, ReadOnly, "s3:ListBucket";
    ListBucketMultipartUploads, Bucket, ReadOnly, "s3:ListBucketMultipartUploads";
    ListBucketVersions, Bucket, ReadOnly, "s3:ListBucketVersions";
    PutBucketAcl, Bucket, Full, "s3:PutBucketAcl";
    PutBucketCors, Bucket, Full, "s3:PutBucketCORS";
    PutBucketNotification, Bucket, Full, "s3:PutBucketNotification";
    PutBucketObjectLockConfiguration, Bucket, Full, "s3:PutBucketObjectLockConfiguration";
    PutBucketOwnershipControls, Bucket, Full, "s3:PutBucketOwnershipControls";
    PutBucketPolicy, Bucket, Full, "s3:PutBucketPolicy";
    PutBucketPublicAccessBlock, Bucket, Full, "s3:PutBucketPublicAccessBlock";
    PutBucketTagging, Bucket, Full, "s3:PutBucketTagging";
    PutBucketVersioning, Bucket, Full, "s3:PutBucketVersioning";
    PutEncryptionConfiguration, Bucket, Full, "s3:PutEncryptionConfiguration";
    PutLifecycleConfiguration, Bucket, Full, "s3:PutLifecycleConfiguration";
    AbortMultipartUpload, Object, ReadWrite, "s3:AbortMultipartUpload";
    BypassGovernanceRetention, Object, Full, "s3:BypassGovernanceRetention";
    DeleteObject, Object, ReadWrite, "s3:DeleteObject";
    DeleteObjectTagging, Object, ReadWrite, "s3:DeleteObjectTagging";
    DeleteObjectVersion, Object, ReadWrite, "s3:DeleteObjectVersion";
    DeleteObjectVersionTagging, Object, ReadWrite, "s3:DeleteObjectVersionTagging";
    GetObject, Object, ReadOnly, "s3:GetObject";
    GetObjectAcl, Object, ReadOnly, "s3:GetObjectAcl";
    GetObjectAttributes, Object, ReadOnly, "s3:GetObjectAttributes";
    GetObjectLegalHold, Object, ReadOnly, "s3:GetObjectLegalHold";
    GetObjectRetention, Object, ReadOnly, "s3:GetObjectRetention";
    GetObjectTagging, Object, ReadOnly, "s3:GetObjectTagging";
    GetObjectVersion, Object, ReadOnly, "s3:GetObjectVersion";
    GetObjectVersionAcl, Object, ReadOnly, "s3:GetObjectVersionAcl";
    GetObjectVersionAttributes, Object, ReadOnly, "s3:GetObjectVersionAttributes";
    GetObjectVersionTagging, Object, ReadOnly, "s3:GetObjectVersionTagging";
    ListMultipartUploadParts, Object, ReadOnly, "s3:ListMultipartUploadParts";
    PutObject, Object, ReadWrite, "s3:PutObject";
    PutObjectAcl, Object, Full, "s3:PutObjectAcl";
    PutObjectLegalHold, Object, ReadWrite, "s3:PutObjectLegalHold";
    PutObjectRetention, Object, ReadWrite, "s3:PutObjectRetention";
    PutObjectTagging, Object, ReadWrite, "s3:PutObjectTagging";
    PutObjectVersionAcl, Object, Full, "s3:PutObjectVersionAcl";
    PutObjectVersionTagging, Object, ReadWrite, "s3:PutObjectVersionTagging";
}

/// Names that policies for S3 may hold although nothing here does them.
pub(super) const ELSEWHERE: [(&str, Scope); 24] = [
    ("s3:GetAnalyticsConfiguration", Scope::Bucket),
    ("s3:GetIntelligentTieringConfiguration", Scope::Bucket),
    ("s3:GetInventoryConfiguration", Scope::Bucket),
    ("s3:GetMetricsConfiguration", Scope::Bucket),
    ("s3:GetObjectTorrent", Scope::Object),
    ("s3:GetObjectVersionForReplication", Scope::Object),
    ("s3:GetObjectVersionTorrent", Scope::Object),
    ("s3:InitiateReplication", Scope::Object),
    ("s3:ObjectOwnerOverrideToBucketOwner", Scope::Object),
    ("s3:PutAccelerateConfiguration", Scope::Bucket),
    ("s3:PutAnalyticsConfiguration", Scope::Bucket),
    ("s3:PutBucketLogging", Scope::Bucket),
    ("s3:PutBucketRequestPayment", Scope::Bucket),
    ("s3:PutBucketWebsite", Scope::Bucket),
    ("s3:PutIntelligentTieringConfiguration", Scope::Bucket),
    ("s3:PutInventoryConfiguration", Scope::Bucket),
    ("s3:PutMetricsConfiguration", Scope::Bucket),
    ("s3:PutReplicationConfiguration", Scope::Bucket),
    ("s3:ReplicateDelete", Scope::Object),
    ("s3:ReplicateObject", Scope::Object),
    ("s3:ReplicateTags", Scope::Object),
    ("s3:RestoreObject", Scope::Object),
    ("s3:CreateBucketMetadataTableConfiguration", Scope::Bucket),
    ("s3:GetBucketMetadataTableConfiguration", Scope::Bucket),
];

impl Action {
    /// The action it becomes when the request names a version, where S3 tells the two apart.
    pub fn of_version(self) -> Option<Action> {
        match self {
            Action::DeleteObject => Some(Action::DeleteObjectVersion),
            Action::DeleteObjectTagging => Some(Action::DeleteObjectVersionTagging),
            Action::GetObject => Some(Action::GetObjectVersion),
            Action::GetObjectAcl => Some(Action::GetObjectVersionAcl),
            Action::GetObjectAttributes => Some(Action::GetObjectVersionAttributes),
            Action::GetObjectTagging => Some(Action::GetObjectVersionTagging),
            Action::PutObjectAcl => Some(Action::PutObjectVersionAcl),
            Action::PutObjectTagging => Some(Action::PutObjectVersionTagging),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_there_once() {
        let ours = Action::ALL.iter().map(|action| action.name());
        let mut names: Vec<_> = ours.chain(ELSEWHERE.map(|(name, _)| name)).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(names.iter().all(|name| name.starts_with("s3:")));
    }

    #[test]
    fn who_may_only_read_changes_nothing() {
        for action in Action::ALL {
            let verb = action.name().trim_start_matches("s3:");
            let reads = verb.starts_with("Get") || verb.starts_with("List");
            let is_enough = RightsLevel::ReadOnly >= action.needs();
            assert_eq!(is_enough, reads, "{action:?}");
        }
    }

    #[test]
    fn an_action_on_a_version_has_the_name_of_one() {
        for action in Action::ALL {
            if let Some(version) = action.of_version() {
                assert!(version.name().contains("Version"));
                assert_eq!(version.needs(), action.needs());
            }
        }
    }
}
