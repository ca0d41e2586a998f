//! Reads the `origin` section. Keys, defaults and ranges stand here and nowhere else in the code.

use super::checked::{Credential, Origin};
use super::parsers::{
    address, bucket_pattern, credential_part, host, one_of, path, secret_file, true_or_false,
};
use super::reader::{Entries, Section};
use super::relations::{Names, Relations};
use super::rights::{Rights, RightsLevel};

pub(super) fn read(origin: &Section<'_>, relations: &Relations<'_>) -> Option<Origin> {
    let address = origin.required("address", address());
    if let Some(address) = address {
        relations.claim_address(origin, address);
    }
    let data = origin.required("data", path("a folder", relations.base_dir));
    let region = origin.or_default("region", "us-east-1", credential_part("a region"));
    let domain = origin.optional("domain", "path style only", host());
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
        Some(Credential {
            access_key_id: id?,
            secret: secret?,
            allow_sigv2: allow_sigv2?,
            rights: Rights {
                level: level?,
                buckets: buckets?,
            },
        })
    });
    Some(Origin {
        address: address?,
        data: data?,
        region: region?,
        domain: domain?,
        credentials: credentials?,
    })
}
