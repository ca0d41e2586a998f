//! `NotificationConfiguration`: where to tell what happens in a bucket (S3 API, PutBucketNotificationConfiguration).
//!
//! S3 names topics and queues of AWS. Here both are webhooks: what stands in `Topic` or `Queue` is the URL that is
//! posted to, bare or behind `arn:tidegate:webhook:::` for clients that ask for an ARN.

use std::collections::BTreeSet;

use super::DocumentError;
use super::element::{Element, Limits};
use crate::origin::xml::Document;

/// The longest document that is read, in bytes.
pub const NOTIFICATION_MAX_BYTES: usize = 256 * 1024;

/// S3's bound for configurations of one bucket.
const TARGETS_MAX: usize = 100;
const ID_MAX_CHARACTERS: usize = 255;
const URL_MAX_BYTES: usize = 2048;
const LIMITS: Limits = Limits {
    bytes: NOTIFICATION_MAX_BYTES,
    elements: 4000,
};
const ARN: &str = "arn:tidegate:webhook:::";

/// Every event that a bucket can tell (S3 user guide, "Supported event types for SQS, SNS, and Lambda").
const EVENTS: [&str; 16] = [
    "s3:ObjectCreated:*",
    "s3:ObjectCreated:Put",
    "s3:ObjectCreated:Post",
    "s3:ObjectCreated:Copy",
    "s3:ObjectCreated:CompleteMultipartUpload",
    "s3:ObjectRemoved:*",
    "s3:ObjectRemoved:Delete",
    "s3:ObjectRemoved:DeleteMarkerCreated",
    "s3:ObjectTagging:*",
    "s3:ObjectTagging:Put",
    "s3:ObjectTagging:Delete",
    "s3:ObjectAcl:Put",
    "s3:LifecycleExpiration:*",
    "s3:LifecycleExpiration:Delete",
    "s3:LifecycleExpiration:DeleteMarkerCreated",
    "s3:LifecycleTransition",
];

/// The targets of a bucket; none by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notifications {
    /// At most 100, with distinct ids.
    pub targets: Vec<NotificationTarget>,
}

/// One webhook and what it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotificationTarget {
    /// `Id`, at most 255 characters; made up when the client gives none.
    pub id: String,
    /// `QueueConfiguration` rather than `TopicConfiguration`: it comes back as it was put.
    pub is_queue: bool,
    /// `Topic` or `Queue` as it was put.
    pub arn: String,
    /// `Event`: at least one, such as `s3:ObjectCreated:*`.
    pub events: Vec<String>,
    /// What keys begin with.
    pub prefix: Option<String>,
    /// What keys end with.
    pub suffix: Option<String>,
}

impl Notifications {
    /// Reads a `NotificationConfiguration`. One without targets turns notifications off.
    ///
    /// # Errors
    /// [`DocumentError::OutOfRange`] for events, targets and filters that S3 refuses,
    /// [`DocumentError::NotImplemented`] for functions and EventBridge, or a malformed document.
    pub fn parse(document: &[u8]) -> Result<Self, DocumentError> {
        let root = Element::parse(document, "NotificationConfiguration", LIMITS)?;
        root.only(&[
            "TopicConfiguration",
            "QueueConfiguration",
            "CloudFunctionConfiguration",
            "LambdaFunctionConfiguration",
            "EventBridgeConfiguration",
        ])?;
        let mut targets: Vec<NotificationTarget> = Vec::new();
        for child in root.children() {
            let target = match child.name() {
                "TopicConfiguration" => read_target(child, "Topic")?,
                "QueueConfiguration" => read_target(child, "Queue")?,
                _ => {
                    return Err(DocumentError::NotImplemented {
                        what: "only topics and queues, which are webhooks, are told of events",
                    });
                }
            };
            let is_taken = targets.iter().any(|other| other.id == target.id);
            if is_taken && !target.id.is_empty() {
                return Err(DocumentError::OutOfRange {
                    what: "Same ID used for multiple configurations. IDs must be unique",
                });
            }
            targets.push(target);
        }
        if targets.len() > TARGETS_MAX {
            return Err(DocumentError::OutOfRange {
                what: "A bucket tells at most 100 topics and queues",
            });
        }
        name_targets(&mut targets);
        Ok(Notifications { targets })
    }

    /// The targets that are told of an event, such as `s3:ObjectCreated:Put`, of the object under `key`.
    pub fn told<'n>(
        &'n self,
        event: &'n str,
        key: &'n str,
    ) -> impl Iterator<Item = &'n NotificationTarget> {
        (self.targets.iter()).filter(move |target| target.is_told(event, key))
    }

    /// Writes them into a `NotificationConfiguration`.
    pub fn write(&self, document: &mut Document) {
        for target in &self.targets {
            let (name, place) = match target.is_queue {
                true => ("QueueConfiguration", "Queue"),
                false => ("TopicConfiguration", "Topic"),
            };
            document.element(name, |document| target.write(place, document));
        }
    }
}

impl NotificationTarget {
    /// The URL that is posted to.
    pub fn url(&self) -> &str {
        self.arn.strip_prefix(ARN).unwrap_or(&self.arn)
    }

    fn is_told(&self, event: &str, key: &str) -> bool {
        let names = |own: &String| match own.strip_suffix('*') {
            Some(kind) => event.starts_with(kind),
            None => own == event,
        };
        let fits = |part: &Option<String>, fits: fn(&str, &str) -> bool| {
            part.as_ref().is_none_or(|part| fits(key, part))
        };
        self.events.iter().any(names)
            && fits(&self.prefix, |key, prefix| key.starts_with(prefix))
            && fits(&self.suffix, |key, suffix| key.ends_with(suffix))
    }

    fn write(&self, place: &'static str, document: &mut Document) {
        document.text("Id", &self.id);
        document.text(place, &self.arn);
        for event in &self.events {
            document.text("Event", event);
        }
        let rules = [("prefix", &self.prefix), ("suffix", &self.suffix)];
        if rules.iter().all(|(_, value)| value.is_none()) {
            return;
        }
        document.element("Filter", |document| {
            document.element("S3Key", |document| {
                for (name, value) in rules {
                    let Some(value) = value else { continue };
                    document.element("FilterRule", |document| {
                        document.text("Name", name);
                        document.text("Value", value);
                    });
                }
            });
        });
    }
}

/// Gives targets without an id one.
fn name_targets(targets: &mut [NotificationTarget]) {
    let mut known: BTreeSet<String> = targets.iter().map(|target| target.id.clone()).collect();
    let mut number = 0;
    for target in targets.iter_mut().filter(|target| target.id.is_empty()) {
        while target.id.is_empty() || !known.insert(target.id.clone()) {
            number += 1;
            target.id = format!("target-{number}");
        }
    }
}

fn read_target(
    element: &Element,
    place: &'static str,
) -> Result<NotificationTarget, DocumentError> {
    element.only(&["Id", place, "Event", "Filter"])?;
    let id = match element.one("Id")? {
        Some(id) if id.text()?.chars().count() > ID_MAX_CHARACTERS => {
            return Err(DocumentError::OutOfRange {
                what: "An Id has at most 255 characters",
            });
        }
        Some(id) => id.text()?.to_owned(),
        None => String::new(),
    };
    let arn = element.required(place)?.word()?;
    check_url(arn.strip_prefix(ARN).unwrap_or(arn))?;
    let mut events = Vec::new();
    for event in element.all("Event") {
        let word = event.word()?;
        if !EVENTS.contains(&word) {
            return Err(DocumentError::OutOfRange {
                what: "The event is not supported for notifications",
            });
        }
        events.push(word.to_owned());
    }
    if events.is_empty() {
        return Err(DocumentError::Missing { element: "Event" });
    }
    let mut target = NotificationTarget {
        id,
        is_queue: place == "Queue",
        arn: arn.to_owned(),
        events,
        prefix: None,
        suffix: None,
    };
    if let Some(filter) = element.one("Filter")? {
        filter.only(&["S3Key"])?;
        if let Some(rules) = filter.one("S3Key")? {
            rules.only(&["FilterRule"])?;
            for rule in rules.all("FilterRule") {
                read_filter_rule(rule, &mut target)?;
            }
        }
    }
    Ok(target)
}

fn read_filter_rule(rule: &Element, target: &mut NotificationTarget) -> Result<(), DocumentError> {
    rule.only(&["Name", "Value"])?;
    let name = rule.required("Name")?.word()?;
    let value = rule.required("Value")?.text()?;
    // S3 takes both `Prefix` and `prefix`.
    let part = match name {
        _ if name.eq_ignore_ascii_case("prefix") => &mut target.prefix,
        _ if name.eq_ignore_ascii_case("suffix") => &mut target.suffix,
        _ => {
            return Err(DocumentError::OutOfRange {
                what: "filter rule name must be either prefix or suffix",
            });
        }
    };
    if value.len() > 1024 {
        return Err(DocumentError::OutOfRange {
            what: "Size of filter rule value cannot exceed 1024 bytes in UTF-8 representation",
        });
    }
    if part.replace(value.to_owned()).is_some() {
        return Err(DocumentError::OutOfRange {
            what: "Cannot specify more than one prefix or suffix rule in a filter",
        });
    }
    Ok(())
}

fn check_url(text: &str) -> Result<(), DocumentError> {
    let refused = DocumentError::OutOfRange {
        what: "A topic or queue is the URL of a webhook, such as https://hooks.example/films or arn:tidegate:webhook:::https://hooks.example/films",
    };
    let is_sound = |url: &url::Url| {
        ["http", "https"].contains(&url.scheme())
            && url.has_host()
            // Credentials would be shown to everyone who may read the configuration.
            && url.username().is_empty()
            && url.password().is_none()
            && url.fragment().is_none()
    };
    let url = url::Url::parse(text).ok().filter(is_sound);
    match url {
        Some(_) if text.len() <= URL_MAX_BYTES => Ok(()),
        _ => Err(refused),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::origin::xml::NAMESPACE;

    fn parse(inner: &str) -> Result<Vec<NotificationTarget>, &'static str> {
        let root = "NotificationConfiguration";
        let document = format!("<{root} xmlns=\"{NAMESPACE}\">{inner}</{root}>");
        let read = Notifications::parse(document.as_bytes());
        read.map(|read| read.targets).map_err(|error| error.code())
    }

    fn topic(inner: &str) -> String {
        format!("<TopicConfiguration>{inner}</TopicConfiguration>")
    }

    const HOOK: &str = "<Topic>https://hooks.example/a</Topic><Event>s3:ObjectCreated:*</Event>";

    #[test]
    fn targets_are_read_in_order() {
        let filter = "<Filter><S3Key><FilterRule><Name>Prefix</Name><Value>a/</Value></FilterRule>\
             <FilterRule><Name>suffix</Name><Value>.mp4</Value></FilterRule></S3Key></Filter>";
        let queue = "<QueueConfiguration><Id>q</Id><Queue>arn:tidegate:webhook:::http://127.0.0.1:81/</Queue>\
             <Event>s3:ObjectRemoved:Delete</Event><Event>s3:ObjectAcl:Put</Event></QueueConfiguration>";
        let read = parse(&(queue.to_owned() + &topic(&format!("{HOOK}{filter}")))).unwrap();
        let expected = [
            NotificationTarget {
                id: "q".to_owned(),
                is_queue: true,
                arn: "arn:tidegate:webhook:::http://127.0.0.1:81/".to_owned(),
                events: vec![
                    "s3:ObjectRemoved:Delete".to_owned(),
                    "s3:ObjectAcl:Put".to_owned(),
                ],
                prefix: None,
                suffix: None,
            },
            NotificationTarget {
                id: "target-1".to_owned(),
                is_queue: false,
                arn: "https://hooks.example/a".to_owned(),
                events: vec!["s3:ObjectCreated:*".to_owned()],
                prefix: Some("a/".to_owned()),
                suffix: Some(".mp4".to_owned()),
            },
        ];
        assert_eq!(read, expected);
        let urls: Vec<_> = read.iter().map(NotificationTarget::url).collect();
        assert_eq!(urls, ["http://127.0.0.1:81/", "https://hooks.example/a"]);
        assert_eq!(parse(""), Ok(vec![]));
    }

    #[test]
    fn a_target_is_told_of_what_it_asked_for() {
        let filter = "<Filter><S3Key><FilterRule><Name>prefix</Name><Value>a/</Value></FilterRule>\
             <FilterRule><Name>suffix</Name><Value>.mp4</Value></FilterRule></S3Key></Filter>";
        let notifications = Notifications {
            targets: parse(&topic(&format!(
                "{HOOK}<Event>s3:ObjectRemoved:Delete</Event>{filter}"
            )))
            .unwrap(),
        };
        for (event, key, expected) in [
            ("s3:ObjectCreated:Put", "a/1.mp4", 1),
            ("s3:ObjectCreated:CompleteMultipartUpload", "a/.mp4", 1),
            ("s3:ObjectRemoved:Delete", "a/1.mp4", 1),
            ("s3:ObjectRemoved:DeleteMarkerCreated", "a/1.mp4", 0),
            ("s3:ObjectTagging:Put", "a/1.mp4", 0),
            ("s3:ObjectCreated:Put", "b/1.mp4", 0),
            ("s3:ObjectCreated:Put", "a/1.mp3", 0),
            ("s3:ObjectCreated:Put", "a/1.mp4.txt", 0),
            ("s3:ObjectCreated:Put", "b/a/1.mp4", 0),
        ] {
            assert_eq!(
                notifications.told(event, key).count(),
                expected,
                "{event} {key}"
            );
        }
    }

    #[test]
    fn configurations_that_cannot_be_honoured_are_refused() {
        let event = "<Event>s3:ObjectCreated:*</Event>";
        let rule = |name: &str, value: &str| {
            format!("<FilterRule><Name>{name}</Name><Value>{value}</Value></FilterRule>")
        };
        let filtered =
            |rules: &str| topic(&format!("{HOOK}<Filter><S3Key>{rules}</S3Key></Filter>"));
        let with_id = |length: usize| topic(&format!("<Id>{}</Id>{HOOK}", "i".repeat(length)));
        let with_url = |url: &str| topic(&format!("<Topic>{url}</Topic>{event}"));
        for (inner, expected) in [
            (topic(HOOK), None),
            (topic(HOOK).repeat(100), None),
            (topic(HOOK).repeat(101), Some("InvalidArgument")),
            (with_id(255), None),
            (with_id(256), Some("InvalidArgument")),
            (with_id(1).repeat(2), Some("InvalidArgument")),
            (
                topic(&format!("<Id>target-1</Id>{HOOK}")) + &topic(HOOK),
                None,
            ),
            (topic(event), Some("MalformedXML")),
            (topic("<Topic>https://h/</Topic>"), Some("MalformedXML")),
            (
                topic(&format!("{HOOK}<Event>s3:TestEvent</Event>")),
                Some("InvalidArgument"),
            ),
            (
                topic(&format!("{HOOK}<Queue>https://h/</Queue>")),
                Some("MalformedXML"),
            ),
            (
                with_url("arn:aws:sns:us-east-1:1:t"),
                Some("InvalidArgument"),
            ),
            (with_url("ftp://h/"), Some("InvalidArgument")),
            (with_url("https://"), Some("InvalidArgument")),
            (with_url("https://u:p@h/"), Some("InvalidArgument")),
            (with_url("https://h/#f"), Some("InvalidArgument")),
            (with_url(&format!("https://h/{}", "p".repeat(2038))), None),
            (
                with_url(&format!("https://h/{}", "p".repeat(2039))),
                Some("InvalidArgument"),
            ),
            (filtered(&rule("prefix", &"p".repeat(1024))), None),
            (
                filtered(&rule("prefix", &"p".repeat(1025))),
                Some("InvalidArgument"),
            ),
            (filtered(&rule("infix", "p")), Some("InvalidArgument")),
            (
                filtered(&rule("prefix", "p").repeat(2)),
                Some("InvalidArgument"),
            ),
            (
                "<EventBridgeConfiguration/>".to_owned(),
                Some("NotImplemented"),
            ),
            (
                "<CloudFunctionConfiguration/>".to_owned(),
                Some("NotImplemented"),
            ),
            ("<Other/>".to_owned(), Some("MalformedXML")),
        ] {
            assert_eq!(parse(&inner).err(), expected, "{inner:.200}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            targets in proptest::collection::vec(
                (
                    any::<bool>(),
                    any::<bool>(),
                    proptest::collection::vec(0..EVENTS.len(), 1..4),
                    proptest::option::of("[a-z/& ]{0,10}"),
                    proptest::option::of("[a-z.<]{0,10}"),
                ),
                0..5,
            ),
        ) {
            let targets = targets.into_iter().enumerate().map(
                |(index, (is_queue, is_arn, events, prefix, suffix))| NotificationTarget {
                    id: format!("id {index}"),
                    is_queue,
                    arn: format!("{}https://h/{index}?a=1&b=2", if is_arn { ARN } else { "" }),
                    events: events.into_iter().map(|event| EVENTS[event].to_owned()).collect(),
                    prefix,
                    suffix,
                },
            );
            let notifications = Notifications { targets: targets.collect() };
            let mut document = Document::new("NotificationConfiguration", Some(NAMESPACE));
            notifications.write(&mut document);
            prop_assert_eq!(Notifications::parse(&document.finish()), Ok(notifications));
        }
    }
}
