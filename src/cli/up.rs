//! `tidegate up`: everything on one machine, ready to be tried.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use rustix::fs::Mode;
use tracing::warn;

use super::{Failure, load, run_node};
use crate::clock::SystemClock;
use crate::config::{Config, Origin};
use crate::first_start::{self, Prepared, SAMPLE_BUCKET, SAMPLES};
use crate::node::{Addresses, Ended, Node};
use crate::origin::{Fault, Store};
use crate::signing::{Key, KeyKind, PresignError, PresignSpec, presign};

/// How long the printed URLs are good.
const SAMPLE_URL_LIFETIME: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, clap::Args)]
pub(super) struct UpArgs {
    /// Run this configuration instead of the one in the data folder
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    config: Option<PathBuf>,
    /// The folder that holds everything; made on the first start, kept from then on
    #[arg(long, value_name = "DIR", default_value = "data")]
    data: PathBuf,
}

pub(super) fn run(args: &UpArgs) -> Result<Ended, Failure> {
    // Whatever is written from here on, by the store as well, is for the owner only.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    match &args.config {
        Some(file) => {
            let config = load(file)?;
            run_node(&config, |addresses| {
                print(&greeting(
                    &config,
                    addresses,
                    None,
                    SystemClock::shared().wall(),
                ));
            })
        }
        None => run_from(&args.data),
    }
}

fn run_from(folder: &Path) -> Result<Ended, Failure> {
    let clock = SystemClock::shared();
    let prepared = first_start::prepare(folder, clock.wall())?;
    let config = load(&prepared.config_file)?;
    for note in &prepared.notes {
        warn!("{note}");
    }
    let node = Node::start(&config, SystemClock::shared())?;
    if let Some(store) = node.store() {
        node.block_on(put_samples(store))
            .map_err(Failure::Samples)?;
    }
    Ok(node.run(|addresses| {
        print(&greeting(
            &config,
            addresses,
            Some((folder, &prepared)),
            clock.wall(),
        ));
    })?)
}

/// Puts the samples that are not there yet; an operator's own object under such a key is kept.
async fn put_samples(store: &Store) -> Result<(), Fault> {
    store.create_bucket(SAMPLE_BUCKET).await?;
    for sample in &SAMPLES {
        if !store
            .object_exists(SAMPLE_BUCKET, sample.object_key)
            .await?
        {
            let bytes = bytes::Bytes::from_static(sample.bytes);
            store
                .put_object(
                    SAMPLE_BUCKET,
                    sample.object_key,
                    HeaderValue::from_static(sample.content_type),
                    bytes,
                )
                .await?;
        }
    }
    Ok(())
}

fn print(text: &str) {
    let mut stdout = std::io::stdout();
    if let Err(error) = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        warn!(%error, "cannot print the greeting");
    }
}

/// What an operator needs to try the node; the samples are in the store when `first_start` is given.
fn greeting(
    config: &Config,
    addresses: &Addresses,
    first_start: Option<(&Path, &Prepared)>,
    now: SystemTime,
) -> String {
    let mut lines = Lines::default();
    for address in &addresses.http {
        lines.add("edge", &format!("http://{}", reachable(*address)));
    }
    for address in &addresses.https {
        lines.add("edge", &format!("https://{}", reachable(*address)));
    }
    if let Some(address) = addresses.origin {
        lines.add("store (S3)", &format!("http://{}", reachable(address)));
    }
    let admin = reachable(addresses.admin);
    lines.add("metrics", &format!("http://{admin}/metrics"));
    if let Some((folder, prepared)) = first_start {
        lines.add("data", &folder.display().to_string());
        lines.add("settings", &prepared.config_file.display().to_string());
        lines.add("local CA", &prepared.authority_file.display().to_string());
        if let Some(origin) = &config.origin {
            lines.credentials(origin, prepared, addresses);
            if let Err(error) = lines.samples(config, addresses, prepared, now) {
                warn!(%error, "no sample URL could be signed");
            }
        }
    }
    lines.add("", "");
    lines.add("stop", "Ctrl-C");
    format!("\nTidegate is up.\n\n{}\n", lines.text)
}

/// Names and values in two columns.
#[derive(Default)]
struct Lines {
    text: String,
}

impl Lines {
    fn add(&mut self, name: &str, value: &str) {
        let line = format!("  {name:<14}{value}");
        writeln!(self.text, "{}", line.trim_end()).expect("writing to a String cannot fail");
    }

    /// The secret itself is shown, because S3 clients on this machine need it; the log never sees it.
    fn credentials(&mut self, origin: &Origin, prepared: &Prepared, addresses: &Addresses) {
        let Some(credential) = origin.credentials.first() else {
            return;
        };
        self.add("", "");
        self.add("access key id", &credential.access_key_id);
        self.add("secret", credential.secret.reveal());
        self.add("", &format!("(kept in {})", prepared.secret_file.display()));
        if let Some(address) = addresses.origin {
            let client = format!(
                "boto3.client(\"s3\", endpoint_url=\"http://{}\", region_name=\"{}\", …)",
                reachable(address),
                origin.region
            );
            self.add("boto3", &client);
        }
    }

    fn samples(
        &mut self,
        config: &Config,
        addresses: &Addresses,
        prepared: &Prepared,
        now: SystemTime,
    ) -> Result<(), PresignError> {
        let (Some(edge), Some(origin)) = (&config.edge, &config.origin) else {
            return Ok(());
        };
        let access_key = |key: &Key| match &key.kind {
            KeyKind::SigV4 { secret, .. } => Some((key.id.clone(), secret.clone())),
            _ => None,
        };
        let Some((access_key_id, secret)) = edge.signing.keys.iter().find_map(access_key) else {
            return Ok(());
        };
        let region = edge.signing.region.as_deref().unwrap_or(&origin.region);
        let sign = |scheme: &str, address: SocketAddr| {
            let host = reachable(address).to_string();
            let spec = PresignSpec {
                method: "GET",
                host: &host,
                path: &format!("/{SAMPLE_BUCKET}/{}", SAMPLES[0].object_key),
                query: &[],
                access_key_id: &access_key_id,
                region,
                expires: SAMPLE_URL_LIFETIME,
            };
            let target = presign(&spec, &secret, now)?;
            Ok(format!("{scheme}://{host}{target}"))
        };
        let http = addresses.http.first().map(|address| sign("http", *address));
        let https = addresses
            .https
            .first()
            .map(|address| sign("https", *address));
        let (http, https) = (http.transpose()?, https.transpose()?);
        let ca = prepared.authority_file.display();
        self.add("", "");
        self.add("sample video", "presigned, good for 24 hours");
        for url in http.iter().chain(&https) {
            self.add("", url);
        }
        self.add("", "");
        self.add(
            "byte range",
            "its first KiB; ask twice, and the second answer is a hit",
        );
        if let Some(url) = &http {
            self.add("", &format!("curl -r 0-1023 -o /dev/null -v '{url}'"));
        }
        if let Some(url) = &https {
            self.add(
                "",
                &format!("curl --cacert {ca} -r 0-1023 -o /dev/null -v '{url}'"),
            );
        }
        Ok(())
    }
}

/// The address as a client on this machine can write it: nobody connects to `0.0.0.0`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
