//! `tidegate sign post-policy`: makes the fields of a form with which a browser uploads.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::{Map, Value, json};
use thiserror::Error;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use url::Url;

use crate::config::read_duration;
use crate::secret::Secret;
use crate::signing::{FormSigner, PresignError};

use super::secret;
use super::sign::parameter;

/// Print the fields of a form that uploads one file: a line of JSON, and a line that does it with curl.
#[derive(Debug, Clone, Args)]
pub struct PostPolicyArgs {
    /// The access key id that signs.
    #[arg(long)]
    pub key_id: String,
    /// The file that holds the key's secret.
    #[arg(long)]
    pub secret_file: PathBuf,
    /// The region to sign for.
    #[arg(long, default_value = "us-east-1")]
    pub region: String,
    /// How long the form is good, such as 90s, 15m, 1h or 7d.
    #[arg(long, default_value = "1h", value_parser = read_duration)]
    pub expires: Duration,
    /// The object key; ${filename} stands for the name of the file that is chosen.
    #[arg(long)]
    pub key: String,
    /// The fewest bytes that the file may have.
    #[arg(long, default_value_t = 0)]
    pub min_bytes: u64,
    /// The most bytes that the file may have: 5 GiB unless given.
    #[arg(long, default_value_t = 5 << 30)]
    pub max_bytes: u64,
    /// A further field and its value, such as Content-Type=image/png or success_action_status=201; may be repeated.
    #[arg(long = "field", value_name = "NAME=VALUE", value_parser = parameter)]
    pub fields: Vec<(String, String)>,
    /// A field that may have any value that begins so, such as Content-Type=image/; may be repeated.
    #[arg(long = "starts-with", value_name = "NAME=PREFIX", value_parser = parameter)]
    pub prefixes: Vec<(String, String)>,
    /// Where the form is posted: http://host/bucket, or http://bucket.domain with --bucket.
    pub url: Url,
    /// The bucket, when the path of the URL does not name it.
    #[arg(long)]
    pub bucket: Option<String>,
}

/// Why no form was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PostPolicyError {
    /// Neither the URL nor `--bucket` says which bucket.
    #[error("the URL names no bucket\nnext: write http://host/bucket, or give --bucket")]
    NoBucket,
    /// The form cannot be signed.
    #[error(transparent)]
    Sign(#[from] PresignError),
    /// The form would be good for longer than a calendar lasts.
    #[error("the form would expire behind the year 9999")]
    Expires,
}

impl PostPolicyArgs {
    /// Prints the form and ends with 0, or says on standard error what is wrong and ends with 2.
    pub fn run(self, now: SystemTime) -> ExitCode {
        let outcome = secret(&self.secret_file)
            .and_then(|secret| self.form(&secret, now).map_err(|error| error.to_string()));
        let printed = outcome.and_then(|text| {
            let mut out = std::io::stdout();
            writeln!(out, "{text}").map_err(|error| format!("cannot print the form: {error}"))
        });
        match printed {
            Ok(()) => ExitCode::SUCCESS,
            Err(text) => {
                eprintln!("tidegate sign post-policy: {text}");
                ExitCode::from(2)
            }
        }
    }

    /// The two lines.
    ///
    /// # Errors
    /// [`PostPolicyError`].
    pub fn form(&self, secret: &Secret, now: SystemTime) -> Result<String, PostPolicyError> {
        let in_path = self.url.path().trim_matches('/');
        let bucket = self.bucket.as_deref().unwrap_or(in_path);
        if bucket.is_empty() || bucket.contains('/') {
            return Err(PostPolicyError::NoBucket);
        }
        let signer = FormSigner {
            access_key_id: &self.key_id,
            region: &self.region,
            now,
        };
        let mut fields = vec![("key".to_owned(), self.key.clone())];
        fields.extend(self.fields.iter().cloned());
        let who = signer.fields()?;
        fields.extend(who.map(|(name, value)| (name.to_owned(), value)));

        let mut conditions = vec![json!({ "bucket": bucket })];
        for (name, value) in &fields {
            // The variable is put in before the policy is checked.
            conditions.push(match value.split_once("${filename}") {
                Some((prefix, _)) => json!(["starts-with", format!("${name}"), prefix]),
                None => json!(["eq", format!("${name}"), value]),
            });
        }
        for (name, prefix) in &self.prefixes {
            conditions.push(json!(["starts-with", format!("${name}"), prefix]));
        }
        conditions.push(json!([
            "content-length-range",
            self.min_bytes,
            self.max_bytes
        ]));
        let policy = json!({ "expiration": self.expiration(now)?, "conditions": conditions });
        let policy = STANDARD.encode(policy.to_string());
        let (name, signature) = signer.sign(&policy, secret)?;
        fields.push(("policy".to_owned(), policy));
        fields.push((name.to_owned(), signature));

        let curl: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("--form-string {}", quoted(&format!("{name}={value}"))))
            .collect();
        let url = self.url.as_str();
        let document: Map<String, Value> = fields
            .into_iter()
            .map(|(name, value)| (name, Value::from(value)))
            .collect();
        Ok(format!(
            "{}\ncurl {} -F file=@FILE {}",
            json!({ "url": url, "fields": document }),
            curl.join(" "),
            quoted(url)
        ))
    }

    fn expiration(&self, now: SystemTime) -> Result<String, PostPolicyError> {
        let whole_seconds = |moment: OffsetDateTime| moment.replace_nanosecond(0).ok();
        (OffsetDateTime::from(now).checked_add(
            self.expires
                .try_into()
                .map_err(|_| PostPolicyError::Expires)?,
        ))
        .and_then(whole_seconds)
        .and_then(|moment| moment.format(&Rfc3339).ok())
        .ok_or(PostPolicyError::Expires)
    }
}

/// As one word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::post_policy::PostPolicy;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: PostPolicyArgs,
    }

    fn form(arguments: &[&str]) -> Result<String, PostPolicyError> {
        let fixed = ["post-policy", "--key-id", "demo", "--secret-file", "f"];
        let args = Command::try_parse_from(fixed.iter().chain(arguments))
            .unwrap()
            .args;
        args.form(&Secret::new("secret"), now())
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_369_353_600)
    }

    #[test]
    fn the_form_keeps_its_own_policy() {
        let text = form(&[
            "--key",
            "user/${filename}",
            "--field",
            "success_action_status=201",
            "--starts-with",
            "Content-Type=image/",
            "--max-bytes",
            "9",
            "--expires",
            "90s",
            "http://127.0.0.1:8080/films",
        ])
        .unwrap();
        let (json, curl) = text.split_once('\n').unwrap();
        let document: Value = serde_json::from_str(json).unwrap();
        assert_eq!(document["url"], "http://127.0.0.1:8080/films");
        let fields = document["fields"].as_object().unwrap();
        let policy = fields["policy"].as_str().unwrap();
        let policy = PostPolicy::parse(policy).unwrap();
        assert_eq!(policy.length_bytes(), 0..=9);
        let mut sent: Vec<(String, String)> = fields
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
            .collect();
        sent.push(("content-type".to_owned(), "image/png".to_owned()));
        let at = |seconds| policy.check(&sent, "films", now() + Duration::from_secs(seconds));
        assert_eq!(at(89), Ok(()));
        assert!(at(90).is_err());
        assert!(policy.check(&sent, "other", now()).is_err());
        assert!(
            curl.starts_with("curl --form-string 'key=user/${filename}' --form-string "),
            "{curl}"
        );
        assert!(
            curl.ends_with(" -F file=@FILE 'http://127.0.0.1:8080/films'"),
            "{curl}"
        );
    }

    #[test]
    fn a_form_without_a_bucket_is_not_made() {
        assert_eq!(
            form(&["--key", "k", "http://h/"]),
            Err(PostPolicyError::NoBucket)
        );
        assert_eq!(
            form(&["--key", "k", "http://h/a/b"]),
            Err(PostPolicyError::NoBucket)
        );
        assert!(form(&["--key", "k", "--bucket", "films", "http://films.h/"]).is_ok());
    }

    #[test]
    fn a_word_for_a_shell_holds_any_text() {
        assert_eq!(quoted("a'b"), r"'a'\''b'");
    }
}
