//! Reading `LifecycleConfiguration`, with the checks of S3 (S3 API, PutBucketLifecycleConfiguration).

use std::time::{Duration, SystemTime};

use super::{
    Expiration, LIFECYCLE_MAX_BYTES, LifecycleFilter, LifecycleRule, LifecycleRules,
    NoncurrentExpiration, NoncurrentTransition, Transition, TransitionTime,
};
use crate::origin::documents::element::{Element, Limits};
use crate::origin::documents::tagging::read_tag;
use crate::origin::documents::{DocumentError, TagOwner, Tags, times};

const RULES_MAX: usize = 1000;
const ID_MAX_CHARACTERS: usize = 255;
const PREFIX_MAX_BYTES: usize = 1024;
/// The largest object of S3: 50 TB.
const SIZE_MAX_BYTES: u64 = 50 << 40;
const NEWER_VERSIONS_MAX: u32 = 100;
const LIMITS: Limits = Limits {
    bytes: LIFECYCLE_MAX_BYTES,
    elements: 32_000,
};
/// The storage classes that a rule may name, with the fewest days before it may.
const STORAGE_CLASSES: [(&str, u32); 6] = [
    ("GLACIER", 0),
    ("DEEP_ARCHIVE", 0),
    ("GLACIER_IR", 0),
    ("INTELLIGENT_TIERING", 0),
    ("STANDARD_IA", 30),
    ("ONEZONE_IA", 30),
];

impl LifecycleRules {
    /// Reads a `LifecycleConfiguration`.
    ///
    /// # Errors
    /// [`DocumentError::OutOfRange`] for numbers, [`DocumentError::Contradiction`] for parts that do not go together,
    /// or a document that is malformed or has no or too many rules.
    pub fn parse(document: &[u8]) -> Result<Self, DocumentError> {
        let root = Element::parse(document, "LifecycleConfiguration", LIMITS)?;
        root.only(&["Rule"])?;
        let rules = root.all("Rule").map(read_rule);
        let mut rules: Vec<_> = rules.collect::<Result<_, _>>()?;
        match rules.len() {
            0 => return Err(DocumentError::Missing { element: "Rule" }),
            1..=RULES_MAX => {}
            _ => {
                return Err(DocumentError::TooMany {
                    element: "Rule",
                    max: RULES_MAX,
                });
            }
        }
        name_rules(&mut rules)?;
        Ok(LifecycleRules(rules))
    }
}

/// Gives rules without an id one, and refuses the same one twice.
fn name_rules(rules: &mut [LifecycleRule]) -> Result<(), DocumentError> {
    let mut known = std::collections::BTreeSet::new();
    for rule in rules.iter().filter(|rule| !rule.id.is_empty()) {
        if !known.insert(rule.id.clone()) {
            return Err(DocumentError::OutOfRange {
                what: "Rule ID must be unique. Found same ID for more than one rule",
            });
        }
    }
    let mut number = 0;
    for rule in rules.iter_mut().filter(|rule| rule.id.is_empty()) {
        loop {
            number += 1;
            let id = format!("rule-{number}");
            if known.insert(id.clone()) {
                rule.id = id;
                break;
            }
        }
    }
    Ok(())
}

fn read_rule(rule: &Element) -> Result<LifecycleRule, DocumentError> {
    rule.only(&[
        "ID",
        "Status",
        "Prefix",
        "Filter",
        "Expiration",
        "NoncurrentVersionExpiration",
        "AbortIncompleteMultipartUpload",
        "Transition",
        "NoncurrentVersionTransition",
    ])?;
    let id = match rule.one("ID")? {
        Some(id) => id.text()?,
        None => "",
    };
    if id.chars().count() > ID_MAX_CHARACTERS {
        return Err(DocumentError::OutOfRange {
            what: "ID length should not exceed allowed limit of 255",
        });
    }
    let status = rule.required("Status")?;
    let read = LifecycleRule {
        id: id.to_owned(),
        is_enabled: status.one_of(&[("Enabled", true), ("Disabled", false)])?,
        filter: read_filter(rule)?,
        expiration: rule.one("Expiration")?.map(read_expiration).transpose()?,
        noncurrent_expiration: (rule.one("NoncurrentVersionExpiration")?)
            .map(read_noncurrent_expiration)
            .transpose()?,
        abort_uploads_days: (rule.one("AbortIncompleteMultipartUpload")?)
            .map(|abort| {
                abort.only(&["DaysAfterInitiation"])?;
                let what = "'DaysAfterInitiation' for AbortIncompleteMultipartUpload action must be a positive integer";
                days(abort.required("DaysAfterInitiation")?, 1, what)
            })
            .transpose()?,
        transitions: (rule.all("Transition").map(read_transition)).collect::<Result<_, _>>()?,
        noncurrent_transitions: (rule.all("NoncurrentVersionTransition"))
            .map(read_noncurrent_transition)
            .collect::<Result<_, _>>()?,
    };
    check(&read)?;
    Ok(read)
}

fn read_filter(rule: &Element) -> Result<LifecycleFilter, DocumentError> {
    let (filter, old) = (rule.one("Filter")?, rule.one("Prefix")?);
    let filter = match (filter, old) {
        (Some(filter), None) => read_filter_parts(filter)?,
        (None, Some(prefix)) => LifecycleFilter {
            is_legacy: true,
            prefix: Some(read_prefix(prefix)?),
            ..LifecycleFilter::default()
        },
        (None, None) => return Err(DocumentError::Missing { element: "Filter" }),
        (Some(filter), Some(_)) => return Err(filter.bad_value()),
    };
    let bounds = (filter.greater_than_bytes, filter.less_than_bytes);
    if let (Some(greater), Some(less)) = bounds
        && less <= greater.saturating_add(1)
    {
        // No length lies between them.
        return Err(DocumentError::Contradiction {
            what: "'ObjectSizeLessThan' has to be a value greater than 'ObjectSizeGreaterThan'.",
        });
    }
    Ok(filter)
}

fn read_filter_parts(filter: &Element) -> Result<LifecycleFilter, DocumentError> {
    const PARTS: [&str; 4] = [
        "Prefix",
        "Tag",
        "ObjectSizeGreaterThan",
        "ObjectSizeLessThan",
    ];
    let and = filter.one("And")?;
    filter.only(&["And", PARTS[0], PARTS[1], PARTS[2], PARTS[3]])?;
    // One part, or several within `And`.
    if filter.children().len() > 1 {
        return Err(filter.bad_value());
    }
    let parts = and.unwrap_or(filter);
    parts.only(&PARTS)?;
    let tags = parts.all("Tag").map(read_tag);
    let tags = Tags::new(tags.collect::<Result<_, _>>()?, TagOwner::Object)?;
    let size = |name| {
        let Some(element) = parts.one(name)? else {
            return Ok(None);
        };
        let bytes = u64::try_from(element.number()?).ok();
        let bytes = bytes.filter(|bytes| *bytes <= SIZE_MAX_BYTES);
        bytes.map(Some).ok_or(DocumentError::OutOfRange {
            what: "An object's size in a filter is from 0 to 50 TB",
        })
    };
    Ok(LifecycleFilter {
        is_legacy: false,
        prefix: parts.one("Prefix")?.map(read_prefix).transpose()?,
        tags: tags.iter().cloned().collect(),
        greater_than_bytes: size("ObjectSizeGreaterThan")?,
        less_than_bytes: size("ObjectSizeLessThan")?,
    })
}

fn read_prefix(prefix: &Element) -> Result<String, DocumentError> {
    let text = prefix.text()?;
    if text.len() > PREFIX_MAX_BYTES {
        return Err(DocumentError::Contradiction {
            what: "The maximum size of a prefix is 1024.",
        });
    }
    Ok(text.to_owned())
}

fn read_expiration(expiration: &Element) -> Result<Expiration, DocumentError> {
    expiration.only(&["Days", "Date", "ExpiredObjectDeleteMarker"])?;
    let [only] = expiration.children() else {
        return Err(expiration.bad_value());
    };
    match only.name() {
        "Days" => {
            let what = "'Days' for Expiration action must be a positive integer";
            days(only, 1, what).map(Expiration::Days)
        }
        "Date" => midnight(only).map(Expiration::Date),
        _ => only.flag().map(Expiration::DeleteMarkers),
    }
}

fn read_noncurrent_expiration(expiration: &Element) -> Result<NoncurrentExpiration, DocumentError> {
    expiration.only(&["NoncurrentDays", "NewerNoncurrentVersions"])?;
    let what = "'NoncurrentDays' for NoncurrentVersionExpiration action must be a positive integer";
    Ok(NoncurrentExpiration {
        days: days(expiration.required("NoncurrentDays")?, 1, what)?,
        newer_versions: newer_versions(expiration)?,
    })
}

fn read_transition(transition: &Element) -> Result<Transition, DocumentError> {
    transition.only(&["Days", "Date", "StorageClass"])?;
    let (storage_class, least) = storage_class(transition)?;
    let when = match (transition.one("Days")?, transition.one("Date")?) {
        (Some(element), None) => {
            let what = "'Days' in the Transition action must be zero or more, and 30 or more for STANDARD_IA and ONEZONE_IA";
            TransitionTime::Days(days(element, least, what)?)
        }
        (None, Some(date)) => TransitionTime::Date(midnight(date)?),
        _ => return Err(transition.bad_value()),
    };
    Ok(Transition {
        when,
        storage_class,
    })
}

fn read_noncurrent_transition(transition: &Element) -> Result<NoncurrentTransition, DocumentError> {
    transition.only(&["NoncurrentDays", "NewerNoncurrentVersions", "StorageClass"])?;
    let (storage_class, least) = storage_class(transition)?;
    let what = "'NoncurrentDays' in the NoncurrentVersionTransition action must be zero or more, and 30 or more for STANDARD_IA and ONEZONE_IA";
    Ok(NoncurrentTransition {
        days: days(transition.required("NoncurrentDays")?, least, what)?,
        newer_versions: newer_versions(transition)?,
        storage_class,
    })
}

fn storage_class(transition: &Element) -> Result<(&'static str, u32), DocumentError> {
    let element = transition.required("StorageClass")?;
    let word = element.word()?;
    let found = STORAGE_CLASSES.iter().find(|(name, _)| *name == word);
    found.copied().ok_or(element.bad_value())
}

fn newer_versions(element: &Element) -> Result<Option<u32>, DocumentError> {
    let Some(versions) = element.one("NewerNoncurrentVersions")? else {
        return Ok(None);
    };
    let number = u32::try_from(versions.number()?).ok();
    let number = number.filter(|number| (1..=NEWER_VERSIONS_MAX).contains(number));
    number.map(Some).ok_or(DocumentError::OutOfRange {
        what: "'NewerNoncurrentVersions' must be from 1 to 100",
    })
}

fn days(element: &Element, least: u32, what: &'static str) -> Result<u32, DocumentError> {
    let number = element.number()?;
    // S3 counts days in 32 bits with a sign.
    let number = i32::try_from(number)
        .ok()
        .and_then(|days| u32::try_from(days).ok());
    number
        .filter(|days| *days >= least)
        .ok_or(DocumentError::OutOfRange { what })
}

fn midnight(element: &Element) -> Result<SystemTime, DocumentError> {
    let time = times::parse(element.word()?).ok_or(element.bad_value())?;
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH);
    let is_midnight =
        |time: &Duration| time.as_secs().is_multiple_of(86_400) && time.subsec_nanos() == 0;
    match since_epoch {
        Ok(since_epoch) if is_midnight(&since_epoch) => Ok(time),
        _ => Err(DocumentError::OutOfRange {
            what: "'Date' must be at midnight GMT",
        }),
    }
}

/// What no part of a rule can see by itself.
fn check(rule: &LifecycleRule) -> Result<(), DocumentError> {
    let refused = |what| Err(DocumentError::Contradiction { what });
    let has_action = rule.expiration.is_some()
        || rule.noncurrent_expiration.is_some()
        || rule.abort_uploads_days.is_some()
        || !rule.transitions.is_empty()
        || !rule.noncurrent_transitions.is_empty();
    if !has_action {
        return refused("At least one action needs to be specified in a rule");
    }
    let filter = &rule.filter;
    let by_size = filter.greater_than_bytes.is_some() || filter.less_than_bytes.is_some();
    if matches!(rule.expiration, Some(Expiration::DeleteMarkers(_))) {
        if !filter.tags.is_empty() {
            return refused("ExpiredObjectDeleteMarker cannot be specified with tags.");
        }
        if by_size {
            return refused("ExpiredObjectDeleteMarker cannot be specified with object size.");
        }
    }
    if rule.abort_uploads_days.is_some() {
        if !filter.tags.is_empty() {
            return refused("AbortIncompleteMultipartUpload cannot be specified with tags.");
        }
        if by_size {
            return refused("AbortIncompleteMultipartUpload cannot be specified with object size.");
        }
    }
    let classes: Vec<_> = rule.transitions.iter().map(|t| t.storage_class).collect();
    if has_twice(&classes) {
        return refused("'StorageClass' must be different for 'Transition' actions in same 'Rule'");
    }
    let later: Vec<_> = (rule.noncurrent_transitions.iter())
        .map(|t| t.storage_class)
        .collect();
    if has_twice(&later) {
        return refused(
            "'StorageClass' must be different for 'NoncurrentVersionTransition' actions in same 'Rule'",
        );
    }
    for transition in &rule.transitions {
        let is_before = match (transition.when, rule.expiration) {
            (TransitionTime::Days(days), Some(Expiration::Days(end))) => days < end,
            (TransitionTime::Date(date), Some(Expiration::Date(end))) => date < end,
            (TransitionTime::Days(_), Some(Expiration::Date(_)))
            | (TransitionTime::Date(_), Some(Expiration::Days(_))) => {
                return refused(
                    "Found mixed 'Date' and 'Days' based Expiration and Transition actions in lifecycle rule",
                );
            }
            (_, Some(Expiration::DeleteMarkers(_)) | None) => true,
        };
        if !is_before {
            return Err(DocumentError::OutOfRange {
                what: "The Expiration action must be later than every Transition action of the rule",
            });
        }
    }
    Ok(())
}

fn has_twice(names: &[&str]) -> bool {
    (names.iter().enumerate()).any(|(index, name)| names[..index].contains(name))
}
