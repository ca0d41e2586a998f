//! Bucket policies: the part of the IAM policy language that says something about this store (IAM user guide, "JSON
//! policy elements"; S3 user guide, "Bucket policies").
//!
//! A policy that cannot be honoured to the letter is refused when it is put: members, actions, condition keys and
//! principals that nothing here knows are errors, never ignored.

use super::action::{Action, ELSEWHERE, Scope};
use super::conditions::Condition;
use super::context::Context;
use super::decide::Principal;
use super::json::Json;
use super::pattern::{Pattern, Reading};
use crate::origin::documents::DocumentError;
use crate::origin::names::BucketName;

/// The longest policy in bytes (S3 user guide, "Bucket policies": 20 KB).
pub const POLICY_MAX_BYTES: usize = 20 * 1024;

const ARN: &str = "arn:aws:s3:::";

/// A bucket's policy, read and found sound.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    statements: Vec<Statement>,
}

#[derive(Debug, Clone, PartialEq)]
struct Statement {
    sid: Option<String>,
    effect: Effect,
    principals: Listing<PrincipalPattern>,
    /// Patterns of names in lower case.
    actions: Listing<Pattern>,
    /// Patterns of what stands behind [`ARN`].
    resources: Listing<Pattern>,
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Allow,
    Deny,
}

/// `Action` and `NotAction`, and their like.
#[derive(Debug, Clone, PartialEq)]
enum Listing<T> {
    These(Vec<T>),
    AllBut(Vec<T>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum PrincipalPattern {
    Everyone,
    /// Every key of the store: the account, in AWS's terms.
    EveryKey,
    Key(String),
}

/// What a policy says about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'p> {
    /// Nothing.
    Silent,
    /// A statement allows it, and none denies it.
    Allow,
    /// A statement denies it, whatever others say.
    Deny {
        /// Which one, counted from 0.
        statement: usize,
        /// Its `Sid`.
        sid: Option<&'p str>,
    },
}

/// Where in a policy something is, for its author.
type Place<'a> = &'a str;

impl Policy {
    /// Reads the policy of `bucket`.
    ///
    /// # Errors
    /// [`DocumentError::PolicyTooLong`], [`DocumentError::PolicyNotJson`] or [`DocumentError::Policy`], which
    /// says where.
    pub fn parse(document: &[u8], bucket: &BucketName) -> Result<Self, DocumentError> {
        if document.len() > POLICY_MAX_BYTES {
            return Err(DocumentError::PolicyTooLong {
                max_bytes: POLICY_MAX_BYTES,
            });
        }
        let json: Json = serde_json::from_slice(document).map_err(|error| {
            if error.is_data() {
                let at = format!("line {}", error.line());
                malformed(&at, "a member is given twice")
            } else {
                DocumentError::PolicyNotJson {
                    line: error.line(),
                    column: error.column(),
                }
            }
        })?;
        let policy = Members::of(&json, "the policy")?;
        policy.only(&["Version", "Id", "Statement"])?;
        let has_variables = match policy.text("Version")? {
            None | Some("2008-10-17") => false,
            Some("2012-10-17") => true,
            Some(_) => return Err(malformed("Version", "it is 2012-10-17 or 2008-10-17")),
        };
        policy.text("Id")?;
        let statements = (policy.get("Statement"))
            .ok_or_else(|| malformed("Statement", "there is no statement"))?;
        let statements = match statements {
            Json::List(list) if list.is_empty() => {
                return Err(malformed("Statement", "there is no statement"));
            }
            Json::List(list) => list.as_slice(),
            one => std::slice::from_ref(one),
        };
        let statements = statements.iter().enumerate().map(|(index, statement)| {
            let place = format!("Statement[{index}]");
            Statement::parse(statement, &place, bucket, has_variables)
        });
        Ok(Policy {
            statements: statements.collect::<Result<_, _>>()?,
        })
    }

    /// Refuses what AWS does not take any more but one that is kept already may have: who is let in by not being somebody (IAM
    /// user guide, "AWS JSON policy elements: NotPrincipal") is everybody else, strangers too.
    ///
    /// # Errors
    /// [`DocumentError::Policy`].
    pub fn refuse_open_ends(&self) -> Result<(), DocumentError> {
        let has_open_end = |statement: &Statement| {
            statement.effect == Effect::Allow && matches!(statement.principals, Listing::AllBut(_))
        };
        match self.statements.iter().position(has_open_end) {
            None => Ok(()),
            Some(index) => Err(malformed(
                &format!("Statement[{index}].NotPrincipal"),
                "with Effect Allow it is not supported",
            )),
        }
    }

    /// What it says about a request of `principal` for `action` on the bucket, or on the object `key` in it.
    pub fn verdict(
        &self,
        principal: &Principal,
        action: Action,
        bucket: &BucketName,
        key: Option<&str>,
        context: &Context,
    ) -> Verdict<'_> {
        let resource = match (action.scope(), key) {
            (Scope::Object, Some(key)) => format!("{bucket}/{key}"),
            // Without a key, an action on objects is asked about the bucket as a whole.
            (Scope::Object, None) => format!("{bucket}/"),
            (Scope::Bucket, _) => bucket.as_str().to_owned(),
            (Scope::Service, _) => return Verdict::Silent,
        };
        let mut verdict = Verdict::Silent;
        for (index, statement) in self.statements.iter().enumerate() {
            if !statement.applies(principal, action, &resource, context) {
                continue;
            }
            match statement.effect {
                Effect::Allow => verdict = Verdict::Allow,
                Effect::Deny => {
                    return Verdict::Deny {
                        statement: index,
                        sid: statement.sid.as_deref(),
                    };
                }
            }
        }
        verdict
    }

    /// Whether it allows everybody something (`GetBucketPolicyStatus`; S3 user guide, "The meaning of public"). A
    /// statement that is limited to fixed and narrow addresses or callers is not public.
    pub fn is_public(&self) -> bool {
        self.statements.iter().any(|statement| {
            let for_everybody = match &statement.principals {
                Listing::These(these) => these.contains(&PrincipalPattern::Everyone),
                Listing::AllBut(these) => !these.contains(&PrincipalPattern::Everyone),
            };
            statement.effect == Effect::Allow
                && for_everybody
                && !statement.conditions.iter().any(Condition::narrows)
        })
    }

    /// Whether a verdict can depend on the context at all.
    pub fn asks_for_context(&self) -> bool {
        self.statements.iter().any(|statement| {
            let resources = match &statement.resources {
                Listing::These(these) | Listing::AllBut(these) => these,
            };
            !statement.conditions.is_empty() || resources.iter().any(Pattern::has_variables)
        })
    }

    /// Whether a verdict can depend on the tags of the object as it is stored: only then the context needs them.
    pub fn asks_for_existing_tags(&self) -> bool {
        self.statements.iter().any(|statement| {
            let resources = match &statement.resources {
                Listing::These(these) | Listing::AllBut(these) => these,
            };
            resources.iter().any(Pattern::asks_for_existing_tags)
                || (statement.conditions.iter()).any(Condition::asks_for_existing_tags)
        })
    }
}

impl Statement {
    fn parse(
        json: &Json,
        place: Place<'_>,
        bucket: &BucketName,
        has_variables: bool,
    ) -> Result<Self, DocumentError> {
        let members = Members::of(json, place)?;
        members.only(&[
            "Sid",
            "Effect",
            "Principal",
            "NotPrincipal",
            "Action",
            "NotAction",
            "Resource",
            "NotResource",
            "Condition",
        ])?;
        let effect = match members.text("Effect")? {
            Some("Allow") => Effect::Allow,
            Some("Deny") => Effect::Deny,
            Some(_) => return Err(malformed(&members.place("Effect"), "it is Allow or Deny")),
            None => return Err(malformed(place, "there is no Effect")),
        };
        let principals = members.listing("Principal", "NotPrincipal", read_principals)?;
        let actions = members.listing("Action", "NotAction", read_actions)?;
        let resources = members.listing("Resource", "NotResource", |json, place| {
            read_resources(json, place, has_variables)
        })?;
        let statement = Statement {
            sid: members.text("Sid")?.map(str::to_owned),
            effect,
            principals,
            actions,
            resources,
            conditions: read_conditions(&members, has_variables)?,
        };
        statement.check_resources(place, bucket)?;
        Ok(statement)
    }

    fn applies(
        &self,
        principal: &Principal,
        action: Action,
        resource: &str,
        context: &Context,
    ) -> bool {
        let name = action.name().to_ascii_lowercase();
        let none = Context::default();
        self.principals.holds(|pattern| pattern.names(principal))
            && self.actions.holds(|pattern| pattern.matches(&name, &none))
            && (self.resources).holds(|pattern| pattern.matches(resource, context))
            && (self.conditions.iter()).all(|condition| condition.holds(context))
    }

    /// Refuses what could never apply: other buckets' resources, and actions on objects beside resources that are
    /// the bucket, or the other way round.
    fn check_resources(&self, place: Place<'_>, bucket: &BucketName) -> Result<(), DocumentError> {
        let Listing::These(resources) = &self.resources else {
            return Ok(());
        };
        let objects = format!("{bucket}/");
        let reaches = |pattern: &Pattern, scope| match scope {
            Scope::Service => false,
            Scope::Bucket => pattern.may_be(bucket.as_str()),
            Scope::Object => pattern.may_begin_with(&objects),
        };
        for (index, pattern) in resources.iter().enumerate() {
            if !reaches(pattern, Scope::Bucket) && !reaches(pattern, Scope::Object) {
                let place = format!("{place}.Resource[{index}]");
                return Err(malformed(&place, "the resource is not of this bucket"));
            }
        }
        let Listing::These(actions) = &self.actions else {
            return Ok(());
        };
        for (index, action) in actions.iter().enumerate() {
            let has_resource = known_actions()
                .filter(|(name, _)| action.may_be(&name.to_ascii_lowercase()))
                .any(|(_, scope)| resources.iter().any(|pattern| reaches(pattern, scope)));
            if !has_resource {
                let place = format!("{place}.Action[{index}]");
                let what = "the action applies to none of the statement's resources";
                return Err(malformed(&place, what));
            }
        }
        Ok(())
    }
}

impl<T> Listing<T> {
    fn holds(&self, matches: impl Fn(&T) -> bool) -> bool {
        match self {
            Listing::These(these) => these.iter().any(matches),
            Listing::AllBut(these) => !these.iter().any(matches),
        }
    }
}

impl PrincipalPattern {
    fn names(&self, principal: &Principal) -> bool {
        match (self, principal) {
            (PrincipalPattern::Everyone, _) => true,
            (PrincipalPattern::EveryKey, Principal::Key(_)) => true,
            (PrincipalPattern::Key(id), Principal::Key(asking)) => id == asking,
            (PrincipalPattern::EveryKey | PrincipalPattern::Key(_), Principal::Anonymous) => false,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(PrincipalPattern::Everyone);
        }
        let is_account = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some(PrincipalPattern::EveryKey);
        }
        let Some(rest) = text.strip_prefix("arn:aws:iam::") else {
            return is_key_id(text).then(|| PrincipalPattern::Key(text.to_owned()));
        };
        let (account, name) = rest.split_once(':')?;
        if !is_account(account) {
            return None;
        }
        if name == "root" {
            return Some(PrincipalPattern::EveryKey);
        }
        // A user's path means nothing here.
        let (_, id) = name
            .strip_prefix("user")
            .and_then(|path| path.rsplit_once('/'))?;
        (name.starts_with("user/") && is_key_id(id)).then(|| PrincipalPattern::Key(id.to_owned()))
    }
}

/// What an access key id may hold, as in the configuration.
fn is_key_id(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !text.is_empty() && text.bytes().all(fits)
}

/// Every name that a policy may hold, with what it is done to.
fn known_actions() -> impl Iterator<Item = (&'static str, Scope)> {
    let ours = Action::ALL.iter();
    (ours.map(|action| (action.name(), action.scope()))).chain(ELSEWHERE)
}

fn read_principals(json: &Json, place: Place<'_>) -> Result<Vec<PrincipalPattern>, DocumentError> {
    if let Json::Text(text) = json {
        return match text.as_str() {
            "*" => Ok(vec![PrincipalPattern::Everyone]),
            _ => Err(malformed(place, "a principal is \"*\" or {\"AWS\": …}")),
        };
    }
    let members = Members::of(json, place)?;
    // `Service`, `Federated` and `CanonicalUser` could name nobody here.
    members.only(&["AWS"])?;
    let listed = (members.get("AWS")).ok_or_else(|| malformed(place, "it names nobody"))?;
    texts(listed, &members.place("AWS"), |text| {
        PrincipalPattern::parse(text).ok_or(
            "a principal is \"*\", an access key id, or an ARN that ends in :root or :user/<access key id>",
        )
    })
}

fn read_actions(json: &Json, place: Place<'_>) -> Result<Vec<Pattern>, DocumentError> {
    texts(json, place, |text| {
        let reading = Reading {
            wildcards: true,
            variables: false,
        };
        let pattern = Pattern::parse(&text.to_ascii_lowercase(), reading)?;
        let is_known = known_actions().any(|(name, _)| pattern.may_be(&name.to_ascii_lowercase()));
        is_known
            .then_some(pattern)
            .ok_or("no action of S3 has this name")
    })
}

fn read_resources(
    json: &Json,
    place: Place<'_>,
    has_variables: bool,
) -> Result<Vec<Pattern>, DocumentError> {
    texts(json, place, |text| {
        let resource = match text {
            "*" => text,
            _ => (text.strip_prefix(ARN)).ok_or("a resource begins with arn:aws:s3:::")?,
        };
        if resource.is_empty() {
            return Err("a resource names a bucket");
        }
        let reading = Reading {
            wildcards: true,
            variables: has_variables,
        };
        Pattern::parse(resource, reading)
    })
}

fn read_conditions(
    statement: &Members<'_>,
    has_variables: bool,
) -> Result<Vec<Condition>, DocumentError> {
    let Some(json) = statement.get("Condition") else {
        return Ok(Vec::new());
    };
    let mut conditions = Vec::new();
    let operators = Members::of(json, &statement.place("Condition"))?;
    for (operator, json) in operators.members {
        let keys = Members::of(json, &operators.place(operator))?;
        for (key, values) in keys.members {
            let condition = Condition::parse(operator, key, values, has_variables)
                .map_err(|what| malformed(&keys.place(key), what))?;
            conditions.push(condition);
        }
    }
    Ok(conditions)
}

/// One text or a list of them, each read by `read`.
fn texts<T>(
    json: &Json,
    place: Place<'_>,
    read: impl Fn(&str) -> Result<T, &'static str>,
) -> Result<Vec<T>, DocumentError> {
    let list = match json {
        Json::List(list) if list.is_empty() => return Err(malformed(place, "it is empty")),
        Json::List(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    let read = list.iter().enumerate().map(|(index, item)| match item {
        Json::Text(text) => {
            read(text).map_err(|what| malformed(&format!("{place}[{index}]"), what))
        }
        _ => Err(malformed(&format!("{place}[{index}]"), "it is no text")),
    });
    read.collect()
}

/// An object of the document and where it is.
struct Members<'j> {
    members: &'j [(String, Json)],
    at: String,
}

impl<'j> Members<'j> {
    fn of(json: &'j Json, place: Place<'_>) -> Result<Self, DocumentError> {
        match json {
            Json::Object(members) => Ok(Members {
                members,
                at: place.to_owned(),
            }),
            _ => Err(malformed(place, "it is no object")),
        }
    }

    fn place(&self, name: &str) -> String {
        format!("{}.{name}", self.at)
    }

    fn only(&self, known: &[&str]) -> Result<(), DocumentError> {
        let mut names = self.members.iter().map(|(name, _)| name);
        match names.find(|name| !known.contains(&name.as_str())) {
            Some(unknown) => Err(malformed(&self.place(unknown), "nothing has this name")),
            None => Ok(()),
        }
    }

    fn get(&self, name: &str) -> Option<&'j Json> {
        let found = self.members.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value)
    }

    fn text(&self, name: &str) -> Result<Option<&'j str>, DocumentError> {
        match self.get(name) {
            None => Ok(None),
            Some(Json::Text(text)) => Ok(Some(text)),
            Some(_) => Err(malformed(&self.place(name), "it is no text")),
        }
    }

    /// Exactly one of `these` and `all_but`.
    fn listing<T>(
        &self,
        these: &str,
        all_but: &str,
        read: impl Fn(&Json, Place<'_>) -> Result<Vec<T>, DocumentError>,
    ) -> Result<Listing<T>, DocumentError> {
        match (self.get(these), self.get(all_but)) {
            (Some(json), None) => Ok(Listing::These(read(json, &self.place(these))?)),
            (None, Some(json)) => Ok(Listing::AllBut(read(json, &self.place(all_but))?)),
            (None, None) => Err(malformed(&self.place(these), "it is missing")),
            (Some(_), Some(_)) => Err(malformed(
                &self.place(all_but),
                "it stands beside its opposite",
            )),
        }
    }
}

/// The longest part of a place that is repeated: members' names are the client's.
const PLACE_MAX_CHARACTERS: usize = 200;

fn malformed(place: Place<'_>, what: &'static str) -> DocumentError {
    DocumentError::Policy {
        at: place.chars().take(PLACE_MAX_CHARACTERS).collect(),
        what,
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
