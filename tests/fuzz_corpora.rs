//! Every committed fuzz corpus file, through the function that its target fuzzes.
//!
//! `fuzz/corpus/` holds inputs that reach different corners of each parser, and every input that once broke one.
//! `make fuzz` looks for more; this needs neither libFuzzer nor much time.

#[path = "../fuzz/src/lib.rs"]
mod checks;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Every target of `fuzz/Cargo.toml`.
const TARGETS: [&str; 32] = [
    "aws_chunked",
    "bucket_policy",
    "cache_control",
    "cache_tags",
    "chunked",
    "cloudfront",
    "conditional",
    "config",
    "cors",
    "disk_format",
    "documents",
    "form_data",
    "forwarded",
    "h2_frames",
    "http_date",
    "invalidation",
    "jwt",
    "lifecycle",
    "post_policy",
    "presigned",
    "proxy_protocol",
    "range",
    "request_h2",
    "request_head",
    "s3_target",
    "signed_header",
    "sigv2",
    "stored_form",
    "tagging",
    "targeted",
    "token",
    "vary",
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz")
        .join(name)
}

/// The names in a folder of `fuzz/`, without `.rs`.
fn names_in(name: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder(name)).expect("the folder is committed");
    let name = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().expect("names are text");
        name.strip_suffix(".rs").unwrap_or(&name).to_owned()
    };
    entries
        .map(|entry| name(entry.expect("the folder can be read")))
        .collect()
}

fn replay(target: &str, check: fn(&[u8])) {
    let corpus = names_in(&format!("corpus/{target}"));
    assert!(!corpus.is_empty());
    for name in corpus {
        let file = folder("corpus").join(target).join(name);
        // Shown when the check panics.
        println!("{}", file.display());
        check(&fs::read(file).expect("a corpus file can be read"));
    }
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    let targets = BTreeSet::from(TARGETS.map(str::to_owned));
    assert_eq!(names_in("corpus"), targets);
    assert_eq!(names_in("fuzz_targets"), targets);
    let manifest = fs::read_to_string(folder("Cargo.toml")).expect("the manifest is committed");
    for target in TARGETS {
        let path = format!("path = \"fuzz_targets/{target}.rs\"");
        assert!(manifest.contains(&path), "{target} is not in the manifest");
    }
}

#[test]
fn a_request_head_has_one_reading_however_it_arrives() {
    replay("request_head", checks::request_head::check);
}

#[test]
fn a_request_of_http2_has_one_target_one_host_and_one_length() {
    replay("request_h2", checks::request_h2::check);
}

#[test]
fn a_proxy_header_has_one_reading_however_it_arrives() {
    replay("proxy_protocol", checks::proxy_protocol::check);
}

#[test]
fn no_client_can_say_who_it_is() {
    replay("forwarded", checks::forwarded::check);
}

#[test]
fn a_range_selects_bytes_that_are_there() {
    replay("range", checks::range::check);
}

#[test]
fn caching_fields_never_loosen_each_other() {
    replay("cache_control", checks::cache_control::check);
}

#[test]
fn a_presigned_url_is_genuine_only_as_it_was_signed() {
    replay("presigned", checks::presigned::check);
}

#[test]
fn a_signed_request_is_genuine_only_as_it_was_signed() {
    replay("signed_header", checks::signed_header::check);
}

#[test]
fn an_upload_decodes_to_the_same_bytes_however_it_arrives() {
    replay("aws_chunked", checks::aws_chunked::check);
}

#[test]
fn a_target_of_the_store_is_decoded_once() {
    replay("s3_target", checks::s3_target::check);
}

#[test]
fn a_configuration_is_refused_with_reasons_that_hold_no_secret() {
    replay("config", checks::config::check);
}

#[test]
fn a_targeted_field_means_what_cache_control_would_or_nothing() {
    replay("targeted", checks::targeted::check);
}

#[test]
fn a_date_is_one_instant_however_it_is_spelled() {
    replay("http_date", checks::http_date::check);
}

#[test]
fn a_condition_holds_for_the_validators_that_it_names() {
    replay("conditional", checks::conditional::check);
}

#[test]
fn a_selecting_field_selects_and_no_other() {
    replay("vary", checks::vary::check);
}

#[test]
fn a_stored_head_is_written_in_one_way_and_never_comes_back_fresher() {
    replay("stored_form", checks::stored_form::check);
}

#[test]
fn what_is_read_from_the_disk_tier_lies_where_it_may_lie() {
    replay("disk_format", checks::disk_format::check);
}

#[test]
fn every_tag_that_is_kept_can_be_purged() {
    replay("cache_tags", checks::cache_tags::check);
}

#[test]
fn what_a_response_names_as_changed_is_a_path_of_its_origin() {
    replay("invalidation", checks::invalidation::check);
}

#[test]
fn a_cloudfront_url_is_granted_only_as_it_was_signed() {
    replay("cloudfront", checks::cloudfront::check);
}

#[test]
fn a_token_opens_only_the_path_that_it_was_made_for() {
    replay("token", checks::token::check);
}

#[test]
fn a_jwt_opens_only_what_its_issuer_has_signed() {
    replay("jwt", checks::jwt::check);
}

#[test]
fn a_chunked_body_has_one_end_however_it_arrives() {
    replay("chunked", checks::chunked::check);
}

#[test]
fn a_flood_of_frames_is_seen_however_it_arrives() {
    replay("h2_frames", checks::h2_frames::check);
}

#[test]
fn a_form_says_the_same_however_it_arrives() {
    replay("form_data", checks::form_data::check);
}

#[test]
fn a_policy_lets_no_field_through_that_it_does_not_name() {
    replay("post_policy", checks::post_policy::check);
}

#[test]
fn a_url_of_version_2_is_genuine_only_as_it_was_signed() {
    replay("sigv2", checks::sigv2::check);
}

#[test]
fn a_policy_opens_a_bucket_to_strangers_only_when_it_is_public() {
    replay("bucket_policy", checks::bucket_policy::check);
}

#[test]
fn a_page_is_told_its_own_origin_or_that_all_are_welcome() {
    replay("cors", checks::cors::check);
}

#[test]
fn a_document_of_s3_is_written_as_it_was_read() {
    replay("documents", checks::documents::check);
}

#[test]
fn what_has_expired_stays_so() {
    replay("lifecycle", checks::lifecycle::check);
}

#[test]
fn tags_say_the_same_in_a_field_and_in_a_document() {
    replay("tagging", checks::tagging::check);
}
