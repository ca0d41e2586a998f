//! May they: what the rights of a key, the policy and the lists of a bucket say to a caller.
//!
//! [`super::access::decide`] has the rules and `needed_actions` what a call asks them for; here is what it is asked about,
//! and where what they need comes from.

use std::net::IpAddr;
use std::sync::Arc;

use http::Method;
use http::request::Parts;

use super::access::{
    Acl, Action, Authentication, BucketRules, Context, Decision, DenyReason, Policy, Principal,
    Request, RequestFacts, decide,
};
use super::ask::Ask;
use super::authorize::Caller;
use super::call::{BucketCall, Call, ObjectCall};
use super::documents::{AclFault, DocumentError, Tags};
use super::fault::Fault;
use super::fields::RequestFields;
use super::meta::{BucketRow, VersionId, VersionKind, VersionRow};
use super::names::{BucketName, ObjectKey};
use super::needed_actions::{actions, actions_of_upload, of_version};
use super::operations::{object_acl, object_lock, object_tagging};
use super::retention::ObjectLock;
use super::store::Store;
use crate::config::Rights;

/// What was looked up for a decision, so that the answer need not look it up again.
#[derive(Debug, Default)]
pub struct Seen {
    /// The bucket, if it was looked for and is there.
    pub bucket: Option<Arc<BucketRow>>,
    /// The version that the request means, if it was looked for, is there and is no delete marker.
    pub object: Option<Arc<VersionRow>>,
}

/// What a request brings for an object, about which a policy may say something.
#[derive(Debug, Default)]
pub struct Brought {
    /// Its tags.
    pub tags: Tags,
    /// What keeps it from being deleted.
    pub lock: ObjectLock,
}

/// Lets a request through or not. Says what it has looked up.
///
/// # Errors
/// [`Fault::AccessDenied`]; trouble with the metadata.
pub async fn check(
    store: &Store,
    request: &Parts,
    fields: &RequestFields<'_>,
    caller: &Caller,
    call: &Call,
    seen: &mut Seen,
) -> Result<(), Fault> {
    let version_id = match fields.query.get("versionId")? {
        None => None,
        Some(text) => Some(VersionId::parse(text)?),
    };
    let (bucket, key) = match call {
        Call::Preflight(_) => return Ok(()),
        Call::ListBuckets => (None, None),
        Call::Bucket(bucket, _) => (Some(bucket), None),
        Call::Object(bucket, key, _) => (Some(bucket), Some(key)),
    };
    let is_upload = matches!(
        call,
        Call::Object(
            _,
            _,
            ObjectCall::Put | ObjectCall::Copy | ObjectCall::CreateMultipartUpload
        )
    );
    let mut brought = Brought::default();
    if is_upload {
        brought.tags = object_tagging::in_fields(fields)?.unwrap_or_default();
        brought.lock = object_lock::in_fields(fields, store.now_ms()?)?;
    }
    let question = Asked {
        store,
        request,
        fields,
        caller,
        brought: &brought,
        by_form: false,
    };
    let on = On {
        bucket,
        key,
        version_id,
    };
    for action in actions(call, fields, &brought.lock, version_id)? {
        question.ask_seeing(action, on, seen).await?;
    }
    if let (Some(bucket), true) = (bucket, is_upload) {
        refuse_list_of_upload(store, bucket, fields).await?;
    }
    match (bucket, call) {
        (None, _) | (_, Call::Bucket(_, BucketCall::Create)) => Ok(()),
        (Some(bucket), _) => {
            question
                .expects_owner("x-amz-expected-bucket-owner", bucket)
                .await
        }
    }
}

/// Whether a caller may read an object: the source of a copy.
///
/// # Errors
/// As [`check`].
pub async fn check_read(
    ask: &Ask<'_>,
    bucket: &BucketName,
    key: &ObjectKey,
    version_id: Option<VersionId>,
) -> Result<(), Fault> {
    check_object(ask, &Method::GET, bucket, key, version_id).await?;
    let none = Brought::default();
    let question = Asked::of(ask, &none);
    let name = "x-amz-source-expected-bucket-owner";
    question.expects_owner(name, bucket).await
}

/// Whether a caller may do to an object what this method does.
///
/// # Errors
/// As [`check`].
pub async fn check_object(
    ask: &Ask<'_>,
    method: &Method,
    bucket: &BucketName,
    key: &ObjectKey,
    version_id: Option<VersionId>,
) -> Result<(), Fault> {
    let action = match *method {
        Method::DELETE => Action::DeleteObject,
        Method::PUT => Action::PutObject,
        _ => Action::GetObject,
    };
    let none = Brought::default();
    let question = Asked::of(ask, &none);
    let on = On::object(bucket, key, version_id);
    question.ask(of_version(action, version_id), on).await
}

/// Whether a caller may set on an object what its document brings.
///
/// # Errors
/// As [`check`].
pub async fn check_setting(
    ask: &Ask<'_>,
    action: Action,
    bucket: &BucketName,
    key: &ObjectKey,
    brought: &Brought,
) -> Result<(), Fault> {
    let question = Asked::of(ask, brought);
    let version_id = ask.version_id()?;
    let on = On::object(bucket, key, version_id);
    question.ask(of_version(action, version_id), on).await
}

/// Whether a request may delete, or shorten the retention of, what is under governance: it says that it wants to, and
/// has the right.
///
/// # Errors
/// A field that says neither; trouble with the metadata.
pub async fn bypasses_governance(
    ask: &Ask<'_>,
    bucket: &BucketName,
    key: &ObjectKey,
    brought: &Brought,
) -> Result<bool, Fault> {
    let action = Action::BypassGovernanceRetention;
    Ok(ask.fields.amz_flag(object_lock::BYPASS)? && may(ask, action, bucket, key, brought).await?)
}

/// What a reader may see of a lock.
pub struct SeesLock {
    /// Its retention.
    pub retention: bool,
    /// Its legal hold.
    pub legal_hold: bool,
}

/// What of a version's lock the sender of a request may see.
///
/// # Errors
/// Trouble with the metadata.
pub async fn may_see_lock(
    ask: &Ask<'_>,
    bucket: &BucketName,
    key: &ObjectKey,
) -> Result<SeesLock, Fault> {
    let none = Brought::default();
    Ok(SeesLock {
        retention: may(ask, Action::GetObjectRetention, bucket, key, &none).await?,
        legal_hold: may(ask, Action::GetObjectLegalHold, bucket, key, &none).await?,
    })
}

async fn may(
    ask: &Ask<'_>,
    action: Action,
    bucket: &BucketName,
    key: &ObjectKey,
    brought: &Brought,
) -> Result<bool, Fault> {
    let question = Asked::of(ask, brought);
    let on = On::object(bucket, key, ask.version_id()?);
    match question.ask(action, on).await {
        Ok(()) => Ok(true),
        Err(Fault::AccessDenied { .. }) => Ok(false),
        Err(fault) => Err(fault),
    }
}

/// Whether the sender of a form may put an object with the list and the tags that it brings.
///
/// # Errors
/// As [`check`].
pub async fn check_write(
    asked: Asked<'_>,
    bucket: &BucketName,
    key: &ObjectKey,
) -> Result<(), Fault> {
    let on = On::object(bucket, key, None);
    let Brought { tags, lock } = asked.brought;
    for action in actions_of_upload(asked.fields, !tags.is_empty(), lock)? {
        asked.ask(action, on).await?;
    }
    refuse_list_of_upload(asked.store, bucket, asked.fields).await
}

/// Refuses an upload with a list that the bucket does not take. A bucket that is not there takes any: the operation
/// says that it is not.
async fn refuse_list_of_upload(
    store: &Store,
    bucket: &BucketName,
    fields: &RequestFields<'_>,
) -> Result<(), Fault> {
    let Some(asked) = object_acl::in_fields(fields)? else {
        return Ok(());
    };
    match store.inner.meta.bucket(bucket).await? {
        Some(row) => {
            let owner = &row.owner;
            let acl = asked.acl(owner, owner);
            refuse_list(store, &row, &acl, owner, asked.is_bucket_owners(owner))
        }
        None => Ok(()),
    }
}

/// Whether a bucket is listed to a caller: those that its key is for.
pub fn sees(store: &Store, caller: &Caller, bucket: &BucketRow) -> bool {
    let Some(id) = &caller.access_key_id else {
        return false;
    };
    let rights = store.inner.rights.get(id);
    rights.is_some_and(|rights| rights.covers(&bucket.name, bucket.owner == *id))
}

/// Refuses a list that a bucket does not take, for itself or an object of `owner`: any but the one for the bucket's
/// owner where lists are off, one for somebody who is not here, and what it keeps from the public.
///
/// # Errors
/// [`Fault::AclNotSupported`], [`AclFault::Id`], [`Fault::AccessDenied`].
pub fn refuse_list(
    store: &Store,
    bucket: &BucketRow,
    acl: &Acl,
    owner: &str,
    is_bucket_owners: bool,
) -> Result<(), Fault> {
    if !bucket.has_lists()? && !is_bucket_owners {
        return Err(Fault::AclNotSupported);
    }
    refuse_unknown_grantees(store, acl, &[owner, &bucket.owner])?;
    if bucket.public_access_block()?.refuses_acl(acl) {
        return Err(Fault::AccessDenied {
            reason: "public_access_block",
        });
    }
    Ok(())
}

/// Refuses a list that grants something to an access key that this store does not know. Owners are `known` whose keys
/// have been taken out of its configuration.
///
/// # Errors
/// [`AclFault::Id`].
pub fn refuse_unknown_grantees(store: &Store, acl: &Acl, known: &[&str]) -> Result<(), Fault> {
    let rights = &store.inner.rights;
    let mut ids = acl.key_ids();
    if ids.all(|id| rights.contains_key(id) || known.contains(&id)) {
        return Ok(());
    }
    Err(Fault::Document(DocumentError::Acl(AclFault::Id)))
}

fn allowed(decision: Decision) -> Result<(), Fault> {
    match decision {
        Decision::Allow => Ok(()),
        Decision::Deny(reason) => Err(Fault::AccessDenied {
            reason: reason.reason(),
        }),
    }
}

/// A request as far as permission goes.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Of whom it is asked.
    pub store: &'a Store,
    /// Its head.
    pub request: &'a Parts,
    /// Its fields and query.
    pub fields: &'a RequestFields<'a>,
    /// Who asks.
    pub caller: &'a Caller,
    /// What it brings.
    pub brought: &'a Brought,
    /// Whether it is a form, which carries its signature inside.
    pub by_form: bool,
}

/// What an action is done to.
#[derive(Clone, Copy)]
struct On<'a> {
    bucket: Option<&'a BucketName>,
    key: Option<&'a ObjectKey>,
    version_id: Option<VersionId>,
}

impl<'a> On<'a> {
    fn object(bucket: &'a BucketName, key: &'a ObjectKey, version_id: Option<VersionId>) -> Self {
        On {
            bucket: Some(bucket),
            key: Some(key),
            version_id,
        }
    }
}

impl<'a> Asked<'a> {
    fn of(ask: &'a Ask<'_>, brought: &'a Brought) -> Self {
        Asked {
            store: ask.store,
            request: ask.request,
            fields: &ask.fields,
            caller: ask.caller,
            brought,
            by_form: false,
        }
    }
}

impl Asked<'_> {
    /// Refuses when the bucket has another owner than the client expects (S3, "Verifying bucket ownership with bucket
    /// owner condition").
    async fn expects_owner(&self, name: &'static str, bucket: &BucketName) -> Result<(), Fault> {
        let Some(expected) = self.fields.amz(name)? else {
            return Ok(());
        };
        let owner = match self.store.inner.meta.bucket(bucket).await? {
            // The operation says that it is not there.
            None => return Ok(()),
            Some(row) if row.owner.is_empty() => self.caller.owner().to_owned(),
            Some(row) => row.owner.clone(),
        };
        if owner == expected {
            return Ok(());
        }
        Err(Fault::AccessDenied {
            reason: "expected_owner",
        })
    }

    async fn ask(&self, action: Action, on: On<'_>) -> Result<(), Fault> {
        self.ask_seeing(action, on, &mut Seen::default()).await
    }

    async fn ask_seeing(&self, action: Action, on: On<'_>, seen: &mut Seen) -> Result<(), Fault> {
        let principal = match &self.caller.access_key_id {
            Some(id) => Principal::Key(id.clone()),
            None => Principal::Anonymous,
        };
        let row = match on.bucket {
            Some(name) => self.store.inner.meta.bucket(name).await?,
            None => None,
        };
        let Some(row) = row else {
            // Names of buckets are no secret: S3 tells strangers as well that there is none.
            return match on.bucket {
                Some(_) if action != Action::CreateBucket => Err(Fault::NoSuchBucket),
                _ => self.decide(&principal, action, on, &BucketRules::default(), None),
            };
        };
        seen.bucket = Some(Arc::clone(&row));
        let policy = row.policy()?;
        // Who may do it anyway needs no grant of the object's list.
        let is_own = self.caller.access_key_id.as_deref() == Some(&row.owner);
        let may_anyway = self.rights().is_some_and(|rights| {
            rights.level >= action.needs() && rights.covers(&row.name, is_own)
        });
        let with_object = !may_anyway || policy.is_some_and(Policy::asks_for_existing_tags);
        let object = match on.key {
            Some(key) if with_object => self.object(&row, key, on.version_id).await?,
            _ => None,
        };
        seen.object.clone_from(&object);
        let lists = row.has_lists()?;
        let object_acl = match &object {
            Some(object) if lists => Some(object_acl::of_row(&object.acl)?),
            _ => None,
        };
        let rules = BucketRules {
            // Who makes a bucket that is there is told so by the operation.
            owner: Some(&*row.owner).filter(|_| action != Action::CreateBucket),
            policy,
            bucket_acl: row.acl()?.filter(|_| lists),
            object_acl: object_acl.as_ref(),
            object_owner: object.as_deref().map(|object| &*object.owner),
            public_access_block: row.public_access_block()?,
        };
        let decision = self.decision(&principal, action, on, &rules, object.as_deref())?;
        let reads = matches!(
            action,
            Action::GetObject | Action::GetObjectVersion | Action::GetObjectAttributes
        );
        if !(reads && with_object && object.is_none()) {
            return allowed(decision);
        }
        // What is not there has no list that could grant anything. Who may list the bucket is told that it is not there;
        // nobody else is, unless a key may read everything here.
        match (&decision, &principal) {
            (Decision::Allow, Principal::Key(_))
            // A denial stands whatever else is allowed.
            | (Decision::Deny(DenyReason::Policy { .. }), _) => return allowed(decision),
            _ => {}
        }
        let listing = On { key: None, ..on };
        self.decide(&principal, Action::ListBucket, listing, &rules, None)?;
        // It may have come to be meanwhile: who may not read it is told here.
        match (decision, on.version_id) {
            (Decision::Allow, _) => Ok(()),
            (Decision::Deny(_), None) => Err(Fault::NoSuchKey),
            (Decision::Deny(_), Some(_)) => Err(Fault::NoSuchVersion),
        }
    }

    async fn object(
        &self,
        bucket: &BucketRow,
        key: &ObjectKey,
        version_id: Option<VersionId>,
    ) -> Result<Option<Arc<VersionRow>>, Fault> {
        let meta = &self.store.inner.meta;
        let row = match version_id {
            None => meta.latest(bucket.id, key).await?,
            Some(id) => meta.version(bucket.id, key, id).await?,
        };
        Ok(row.filter(|row| row.kind != VersionKind::DeleteMarker))
    }

    fn decide(
        &self,
        principal: &Principal,
        action: Action,
        on: On<'_>,
        rules: &BucketRules<'_>,
        object: Option<&VersionRow>,
    ) -> Result<(), Fault> {
        allowed(self.decision(principal, action, on, rules, object)?)
    }

    fn decision(
        &self,
        principal: &Principal,
        action: Action,
        on: On<'_>,
        rules: &BucketRules<'_>,
        object: Option<&VersionRow>,
    ) -> Result<Decision, Fault> {
        let asks_for_context = rules.policy.is_some_and(Policy::asks_for_context);
        let context = if asks_for_context {
            self.context(principal, object)?
        } else {
            Context::default()
        };
        let request = Request {
            principal,
            action,
            bucket: on.bucket,
            key: on.key,
            context: &context,
        };
        Ok(decide(&request, self.rights(), rules))
    }

    /// What the request says about itself, and the object about itself.
    fn context(
        &self,
        principal: &Principal,
        object: Option<&VersionRow>,
    ) -> Result<Context, Fault> {
        let facts = RequestFacts {
            now: self.store.inner.clock.wall(),
            source_ip: Some(self.client()),
            is_secure: self.is_secure(),
            authentication: match (&self.caller.access_key_id, self.caller.presigned) {
                (None, _) => Authentication::None,
                (Some(_), _) if self.by_form => Authentication::Form,
                (Some(_), true) => Authentication::Query,
                (Some(_), false) => Authentication::Header,
            },
            signed_at: self.caller.signed_at,
            headers: self.fields.headers,
            query: self.fields.query,
        };
        let Brought { tags, lock } = self.brought;
        let mut context = Context::of_request(&facts, principal).with_request_tags(tags.pairs());
        if *lock != ObjectLock::default() {
            context = context.with_request_lock(lock, self.store.now_ms()?);
        }
        if let Some(object) = object {
            let tags = object_tagging::of_row(object)?;
            context = context.with_existing_tags(tags.pairs());
        }
        Ok(context)
    }

    fn rights(&self) -> Option<&Rights> {
        let id = self.caller.access_key_id.as_ref()?;
        self.store.inner.rights.get(id)
    }

    /// Whether the client came over TLS: an edge on this machine says so.
    fn is_secure(&self) -> bool {
        self.caller.peer.is_loopback()
            && self
                .request
                .headers
                .get("x-forwarded-proto")
                .is_some_and(|proto| proto.as_bytes() == b"https")
    }

    /// Where the client is: an edge on this machine names it last.
    fn client(&self) -> IpAddr {
        let peer = self.caller.peer;
        if !peer.is_loopback() {
            return peer;
        }
        let named = self.request.headers.get_all("x-forwarded-for");
        let last = named
            .iter()
            .next_back()
            .and_then(|value| value.to_str().ok());
        last.and_then(|list| list.rsplit(',').next())
            .and_then(|last| last.trim().parse().ok())
            .unwrap_or(peer)
    }
}
