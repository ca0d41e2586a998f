//! Rules by which objects go by themselves.

use std::time::{Duration, SystemTime};

use tidegate::origin::documents::{
    LIFECYCLE_MAX_BYTES, LifecycleRules, Tags, UploadFacts, VersionFacts, VersionKind,
};
use tidegate::origin::xml::Document;

use super::{take_number, take_text};

/// Six lines (a key, its tags, its length, when it was written, how many versions are newer, how much later it is now),
/// then the document.
///
/// Rules are written as they were read, nothing goes before its time, and what is to go stays so.
pub fn check(data: &[u8]) {
    let mut rest = data;
    let (Some(key), Some(tags)) = (take_text(&mut rest), take_text(&mut rest)) else {
        return;
    };
    let Ok(tags) = Tags::from_header(tags) else {
        return;
    };
    let size_bytes = take_number(&mut rest);
    // Well behind the year 9999.
    let mut seconds = || Duration::from_secs(take_number(&mut rest) % (1 << 40));
    let modified = SystemTime::UNIX_EPOCH + seconds();
    let newer = u32::try_from(seconds().as_secs() % 200).expect("small");
    let later = modified + seconds();
    let Ok(rules) = LifecycleRules::parse(rest) else {
        return;
    };
    let mut document = Document::new("LifecycleConfiguration", None);
    rules.write(&mut document);
    let written = document.finish();
    if written.len() <= LIFECYCLE_MAX_BYTES {
        assert_eq!(LifecycleRules::parse(&written).as_ref(), Ok(&rules));
    }
    for kind in [
        VersionKind::Current,
        VersionKind::CurrentMarker { is_alone: true },
        VersionKind::CurrentMarker { is_alone: false },
        VersionKind::Noncurrent {
            is_marker: false,
            since: modified,
            newer,
        },
    ] {
        let version = VersionFacts {
            key,
            size_bytes,
            tags: &tags,
            modified,
            kind,
        };
        let is_over = rules.verdict(&version, later).is_some();
        let day = Duration::from_secs(86_400);
        assert!(!is_over || rules.is_any_enabled());
        assert!(!is_over || rules.verdict(&version, later + day).is_some());
        let end = rules.expiry(&version);
        if kind == VersionKind::Current {
            assert_eq!(is_over, end.is_some_and(|(end, _)| later >= end));
        } else {
            assert_eq!(end, None);
        }
        if let Some(field) = rules.expiration_header(&version) {
            assert!(field.starts_with("expiry-date=\"") && field.is_ascii());
        }
    }
    let upload = UploadFacts {
        key,
        initiated: modified,
    };
    if let Some((end, _)) = rules.abort_at(&upload) {
        assert!(
            end > modified || end == SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_800)
        );
    }
}
