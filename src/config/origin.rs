//! Reads the `origin` section. Keys, defaults and ranges stand here and nowhere else in the code.

use std::path::PathBuf;
use std::time::Duration;

use super::checked::{ColdDisks, Credential, Origin, Redundancy, Scrub, StoreDisk};
use super::parsers::{
    address as parse_address, bucket_pattern, ca_file, count, credential_part, duration, host,
    one_of, or_none, path, secret_file, size, true_or_false, url_prefix,
};
use super::problem::Reason;
use super::reader::{Entries, Section};
use super::relations::{Names, Relations};
use super::rights::{Rights, RightsLevel};

/// Data disks of one store, and cold ones; their numbers stand in every row, in a byte each.
const DISKS_MAX: usize = 64;

const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;
const HOUR: Duration = Duration::from_secs(3600);
const DAY_HOURS: u32 = 24;

pub(super) fn read(origin: &Section<'_>, relations: &Relations<'_>) -> Option<Origin> {
    let address = origin.required("address", parse_address());
    if let Some(address) = address {
        relations.claim_address(origin, address);
    }
    let data = origin.required("data", path("a folder", relations.base_dir));
    let mut paths = Names::default();
    let disks = read_disks(origin, Entries::Any, relations, &mut paths);
    let redundancy = read_redundancy(origin);
    check_width(origin, "origin.disks", disks.as_deref(), redundancy);
    let cold = origin.optional_section("cold", "one storage class", |cold| {
        let disks = read_disks(cold, Entries::AtLeastOne, relations, &mut paths);
        let redundancy = read_redundancy(cold);
        check_width(cold, "origin.cold.disks", disks.as_deref(), redundancy);
        Some(ColdDisks {
            disks: disks?,
            redundancy: redundancy?,
        })
    });
    let scrub = origin.section("scrub", |scrub| {
        let rate = or_none(size(64 * KIB..=GIB));
        let bytes_per_second = scrub.or_default("bytes_per_second", "20MiB", rate);
        let pause = scrub.or_default("pause", "7d", duration(HOUR..=HOUR * (365 * DAY_HOURS)));
        Some(Scrub {
            bytes_per_second: bytes_per_second?,
            pause: pause?,
        })
    });
    let region = origin.or_default("region", "us-east-1", credential_part("a region"));
    let domain = origin.optional("domain", "path style only", host());
    let webhooks = origin.optional_scalars("webhooks", "none", url_prefix());
    let ca = ca_file(relations.base_dir);
    let webhook_ca_file = origin.optional("webhook_ca_file", "the system's authorities alone", ca);
    let purge = origin.optional_scalars("purge", "the edge of this node", parse_address());
    let mut ids = Names::default();
    let credentials = origin.list("credentials", Entries::AtLeastOne, |credential| {
        let id = credential.required("access_key_id", credential_part("an access key id"));
        if let Some(id) = &id {
            ids.claim(credential, "access_key_id", id);
        }
        let secret = credential.required("secret_file", secret_file(relations.base_dir));
        let allow_sigv2 = credential.or_default("allow_sigv2", "false", true_or_false());
        let levels = one_of(&RightsLevel::WORDS, &RightsLevel::ALL);
        let level = credential.or_default("rights", "full", levels);
        let buckets = credential.optional_scalars("buckets", "all of them", bucket_pattern());
        let own_only = credential.or_default("own_buckets_only", "false", true_or_false());
        Some(Credential {
            access_key_id: id?,
            secret: secret?,
            allow_sigv2: allow_sigv2?,
            rights: Rights {
                level: level?,
                buckets: buckets?,
                own_only: own_only?,
            },
        })
    });
    Some(Origin {
        address: address?,
        data: data?,
        disks: disks?,
        redundancy: redundancy?,
        cold: cold?,
        scrub: scrub?,
        region: region?,
        domain: domain?,
        webhooks: webhooks?.unwrap_or_default(),
        webhook_ca_file: webhook_ca_file?,
        purge: purge?.unwrap_or_default(),
        credentials: credentials?,
    })
}

/// Tells when there are fewer disks than the redundancy needs.
fn check_width(
    section: &Section<'_>,
    list: &'static str,
    disks: Option<&[StoreDisk]>,
    redundancy: Option<Redundancy>,
) {
    if let (Some(disks), Some(redundancy)) = (disks, redundancy) {
        let (needed, disks) = (redundancy.width(), disks.len().max(1));
        if disks < needed {
            let reason = Reason::TooFewDisks {
                needed,
                disks,
                list,
            };
            section.problem("redundancy", reason);
        }
    }
}

fn read_disks(
    section: &Section<'_>,
    entries: Entries,
    relations: &Relations<'_>,
    paths: &mut Names,
) -> Option<Vec<StoreDisk>> {
    let disks = section.list("disks", entries, |disk| {
        let path = disk.required("path", path("a folder", relations.base_dir))?;
        // However it is written: `a` and `./a` are one folder.
        let plain: PathBuf = path.components().collect();
        paths.claim(disk, "path", &plain.to_string_lossy());
        Some(StoreDisk { path })
    })?;
    if disks.len() > DISKS_MAX {
        let reason = Reason::OutOfRange {
            value: format!("{} disks", disks.len()),
            range: format!("up to {DISKS_MAX}"),
        };
        section.problem("disks", reason);
    }
    Some(disks)
}

/// The keys of the section stand in the comment of the sample: it can show one of the forms only.
fn read_redundancy(section: &Section<'_>) -> Option<Redundancy> {
    const NONE: &[&str] = &["none"];
    let words = one_of(NONE, &[Redundancy::None]);
    let redundancy = section.word_or_section("redundancy", "default none", words, |section| {
        let copies = section.optional("copies", "shards", count(2..=8));
        let data = section.optional("data", "copies", count(2..=16));
        let parity = section.optional("parity", "copies", count(1..=4));
        let byte = |number: usize| u8::try_from(number).expect("the ranges end below 256");
        match (copies?, data?, parity?) {
            (Some(copies), None, None) => return Some(Redundancy::Copies(byte(copies))),
            (None, Some(data), Some(parity)) => {
                return Some(Redundancy::Shards {
                    data: byte(data),
                    parity: byte(parity),
                });
            }
            (None, Some(_), None) => section.problem("parity", Reason::Missing),
            (None, None, Some(_)) => section.problem("data", Reason::Missing),
            (None, None, None) | (Some(_), _, _) => {
                section.problem_here(Reason::NotExactlyOne(&["copies", "data with parity"]));
            }
        }
        None
    })?;
    Some(redundancy.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::super::{Checked, Problems, parse};
    use super::*;

    fn read(keys: &str) -> Result<(Vec<StoreDisk>, Redundancy), Problems> {
        read_origin(keys).map(|origin| (origin.disks, origin.redundancy))
    }

    fn read_origin(keys: &str) -> Result<Origin, Problems> {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("demo.key");
        std::fs::write(&secret, "s3cret").unwrap();
        std::fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
        let text = format!(
            "origin:\n  address: 127.0.0.1:9000\n  data: data\n  {keys}\n  \
             credentials: [{{ access_key_id: demo, secret_file: {} }}]\n",
            secret.display()
        );
        let Checked { config, .. } = parse(&text, Path::new("/base"))?;
        Ok(config.origin.unwrap())
    }

    fn disks(count: usize) -> String {
        let paths = (0..count).map(|number| format!("{{ path: d{number} }}"));
        format!("disks: [{}]", paths.collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn disks_and_redundancy_are_read_when_they_fit_each_other() {
        let shards = Redundancy::Shards { data: 4, parity: 2 };
        for (count, redundancy, expected) in [
            (0, "", Redundancy::None),
            (1, "redundancy: none", Redundancy::None),
            (2, "redundancy: { copies: 2 }", Redundancy::Copies(2)),
            (6, "redundancy: { data: 4, parity: 2 }", shards),
            (64, "redundancy: { data: 4, parity: 2 }", shards),
        ] {
            let (found, redundancy) = read(&format!("{}\n  {redundancy}", disks(count))).unwrap();
            assert_eq!(found.len(), count);
            assert!(found.iter().all(|disk| disk.path.starts_with("/base")));
            assert_eq!(redundancy, expected);
        }
    }

    #[test]
    fn cold_disks_have_a_redundancy_of_their_own() {
        assert_eq!(read_origin("").unwrap().cold, None);
        let keys = "disks: [{ path: a }]\n  \
                    cold: { disks: [{ path: b }, { path: c }], redundancy: { copies: 2 } }";
        let origin = read_origin(keys).unwrap();
        let disk = |path: &str| StoreDisk { path: path.into() };
        let cold = ColdDisks {
            disks: vec![disk("/base/b"), disk("/base/c")],
            redundancy: Redundancy::Copies(2),
        };
        assert_eq!(
            (origin.redundancy, origin.cold),
            (Redundancy::None, Some(cold))
        );
        for (keys, expected) in [
            (
                "cold: { disks: [] }",
                "origin.cold.disks: needs at least one entry",
            ),
            (
                "cold: { redundancy: none }",
                "origin.cold.disks: missing, and it has no default",
            ),
            (
                "cold: { disks: [{ path: c }], redundancy: { copies: 2 } }",
                "origin.cold.redundancy: needs 2 disks, but origin.cold.disks has 1",
            ),
            (
                "disks: [{ path: a }]\n  cold: { disks: [{ path: ./a }] }",
                "origin.cold.disks[0].path: \"/base/a\" is already used by origin.disks[0].path",
            ),
        ] {
            let problems = read_origin(keys).unwrap_err();
            assert_eq!(problems.to_string(), expected, "{keys}");
        }
    }

    #[test]
    fn what_is_wrong_with_disks_or_redundancy_is_told() {
        for (count, keys, expected) in [
            (
                0,
                "redundancy: { copies: 2 }",
                "origin.redundancy: needs 2 disks, but origin.disks has 1",
            ),
            (
                5,
                "redundancy: { data: 4, parity: 2 }",
                "origin.redundancy: needs 6 disks, but origin.disks has 5",
            ),
            (
                6,
                "redundancy: { data: 4 }",
                "origin.redundancy.parity: missing, and it has no default",
            ),
            (
                6,
                "redundancy: { parity: 2 }",
                "origin.redundancy.data: missing, and it has no default",
            ),
            (
                6,
                "redundancy: { copies: 2, parity: 1 }",
                "origin.redundancy: give exactly one of: copies, data with parity",
            ),
            (
                6,
                "redundancy: {}",
                "origin.redundancy: give exactly one of: copies, data with parity",
            ),
            (
                6,
                "redundancy: { copies: 1 }",
                "origin.redundancy.copies: 1 is out of range: 2 to 8",
            ),
            (
                6,
                "redundancy: { data: 17, parity: 5 }",
                "origin.redundancy.data: 17 is out of range: 2 to 16\n\
                 origin.redundancy.parity: 5 is out of range: 1 to 4",
            ),
            (
                6,
                "redundancy: raid",
                "origin.redundancy: \"raid\" is not one of: none",
            ),
            (65, "", "origin.disks: 65 disks is out of range: up to 64"),
        ] {
            let problems = read(&format!("{}\n  {keys}", disks(count))).unwrap_err();
            assert_eq!(problems.to_string(), expected, "{keys}");
        }
        let problems = read("disks: [{ path: a }, { path: ./a/ }]").unwrap_err();
        assert_eq!(
            problems.to_string(),
            "origin.disks[1].path: \"/base/a\" is already used by origin.disks[0].path"
        );
    }
}
