//! A local certificate authority and the site certificate that it signs.
//!
//! Browsers trust the authority once and the site certificate is renewed under it, so nobody has to
//! click a warning away after a year.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore};

use super::folder::{PRIVATE, PUBLIC, read, write};
use super::{FirstStartError, Note};

const DAY: Duration = Duration::from_secs(86_400);
/// Ten years: the authority is trusted by hand and only on this machine.
const AUTHORITY_LIFETIME: Duration = DAY.saturating_mul(3650);
/// Browsers refuse site certificates that are good for more than 398 days.
const SITE_LIFETIME: Duration = DAY.saturating_mul(397);
/// A site certificate is renewed when it has less than this left.
const RENEW_BEFORE: Duration = DAY.saturating_mul(30);
/// Certificates begin a little in the past, for clients whose clocks run behind.
const BACKDATED: Duration = DAY;
/// What the site certificate is good for.
const NAMES: [&str; 4] = ["localhost", "*.localhost", "127.0.0.1", "::1"];
const AUTHORITY_NAME: &str = "Tidegate local CA";

/// The certificate files, by path.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) authority: PathBuf,
    authority_key: PathBuf,
    site: PathBuf,
    site_key: PathBuf,
}

impl Files {
    pub(super) fn in_folder(folder: &Path) -> Self {
        Files {
            authority: folder.join("ca.pem"),
            authority_key: folder.join("ca.key"),
            site: folder.join("site.pem"),
            site_key: folder.join("site.key"),
        }
    }
}

/// Makes what is missing or no longer good, and keeps the rest.
pub(super) fn ensure(files: &Files, now: SystemTime) -> Result<Vec<Note>, FirstStartError> {
    let mut notes = Vec::new();
    let authority = pair(&files.authority, &files.authority_key)?;
    let authority_key = match authority {
        Pair::Sound { key, .. } => key,
        Pair::Absent | Pair::Broken => {
            if matches!(authority, Pair::Broken) {
                notes.push(Note::AuthorityReplaced);
            }
            make_authority(files, now)?
        }
    };
    let fault = match pair(&files.site, &files.site_key)? {
        Pair::Absent => None,
        Pair::Broken => Some(Unfit::Broken),
        Pair::Sound { chain, .. } => match judge(&chain, files, now + RENEW_BEFORE)? {
            None => return Ok(notes),
            fault => fault,
        },
    };
    make_site(files, &authority_key, now)?;
    if let Some(fault) = fault {
        notes.push(Note::SiteRenewed(fault));
    }
    Ok(notes)
}

/// Why a site certificate was renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It ends within 30 days or has ended.
    #[error("it ends within 30 days")]
    Ending,
    /// It cannot be read, or its key is another certificate's, or one of the two is missing.
    #[error("certificate and key do not make a pair")]
    Broken,
    /// The authority in `ca.pem` did not sign it.
    #[error("ca.pem did not sign it")]
    OtherAuthority,
}

/// A certificate and its key on disk.
enum Pair {
    /// Neither is there.
    Absent,
    /// Only one is there, one cannot be read, or they do not belong together.
    Broken,
    Sound {
        chain: Vec<CertificateDer<'static>>,
        key: String,
    },
}

fn pair(certificate: &Path, key: &Path) -> Result<Pair, FirstStartError> {
    let (certificate, key) = match (read(certificate)?, read(key)?) {
        (Some(certificate), Some(key)) => (certificate, key),
        (None, None) => return Ok(Pair::Absent),
        _ => return Ok(Pair::Broken),
    };
    let chain =
        CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<Vec<_>, _>>();
    let private_key = PrivateKeyDer::from_pem_slice(key.as_bytes());
    let (Ok(chain), Ok(private_key)) = (chain, private_key) else {
        return Ok(Pair::Broken);
    };
    if CertifiedKey::from_der(chain.clone(), private_key, &default_provider()).is_err() {
        return Ok(Pair::Broken);
    }
    Ok(Pair::Sound { chain, key })
}

/// Asks what a client would ask of the site certificate at a given time.
fn judge(
    chain: &[CertificateDer<'static>],
    files: &Files,
    at: SystemTime,
) -> Result<Option<Unfit>, FirstStartError> {
    let Some(authority) = read(&files.authority)? else {
        return Ok(Some(Unfit::OtherAuthority));
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()).flatten() {
        if roots.add(certificate).is_err() {
            return Ok(Some(Unfit::OtherAuthority));
        }
    }
    let provider = Arc::new(default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let (Ok(verifier), Some((leaf, intermediates))) = (verifier, chain.split_first()) else {
        return Ok(Some(Unfit::OtherAuthority));
    };
    let since_epoch = (at.duration_since(SystemTime::UNIX_EPOCH)).unwrap_or_default();
    let name = ServerName::try_from("localhost").expect("localhost is a DNS name");
    let at = UnixTime::since_unix_epoch(since_epoch);
    let verdict = verifier.verify_server_cert(leaf, intermediates, &name, &[], at);
    Ok(match verdict {
        Ok(_) => None,
        Err(rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => Some(Unfit::Ending),
        Err(_) => Some(Unfit::OtherAuthority),
    })
}

/// The authority's fixed parts: renewing under it needs its name and key, not its old certificate.
fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, AUTHORITY_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn make_authority(files: &Files, now: SystemTime) -> Result<String, FirstStartError> {
    let key = KeyPair::generate()?;
    let mut params = authority_params();
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + AUTHORITY_LIFETIME).into();
    let certificate = params.self_signed(&key)?;
    // The key goes first: a crash between the two leaves a pair that is seen to be broken.
    let key = key.serialize_pem();
    write(&files.authority_key, key.as_bytes(), PRIVATE)?;
    write(&files.authority, certificate.pem().as_bytes(), PUBLIC)?;
    Ok(key)
}

fn make_site(files: &Files, authority_key: &str, now: SystemTime) -> Result<(), FirstStartError> {
    let issuer = Issuer::new(authority_params(), KeyPair::from_pem(authority_key)?);
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(NAMES.map(str::to_owned))?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "localhost");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now - BACKDATED + SITE_LIFETIME).into();
    let certificate = params.signed_by(&key, &issuer)?;
    write(&files.site_key, key.serialize_pem().as_bytes(), PRIVATE)?;
    write(&files.site, certificate.pem().as_bytes(), PUBLIC)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn contents(files: &Files) -> [String; 4] {
        [
            &files.authority,
            &files.authority_key,
            &files.site,
            &files.site_key,
        ]
        .map(|file| fs::read_to_string(file).unwrap())
    }

    #[test]
    fn certificates_are_kept_until_thirty_days_before_their_end() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::in_folder(folder.path());
        let now = SystemTime::UNIX_EPOCH + DAY * 20_000;
        assert_eq!(ensure(&files, now).unwrap(), []);
        let first = contents(&files);
        let last_good_day = now - BACKDATED + SITE_LIFETIME - RENEW_BEFORE;
        assert_eq!(ensure(&files, last_good_day).unwrap(), []);
        assert_eq!(contents(&files), first);
        let notes = ensure(&files, last_good_day + Duration::from_secs(2)).unwrap();
        assert_eq!(notes, [Note::SiteRenewed(Unfit::Ending)]);
        let renewed = contents(&files);
        assert_eq!(renewed[..2], first[..2], "the authority is kept");
        assert_ne!(renewed[2..], first[2..]);
    }

    #[test]
    fn a_pair_that_a_crash_tore_apart_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::in_folder(folder.path());
        let now = SystemTime::UNIX_EPOCH + DAY * 20_000;
        ensure(&files, now).unwrap();
        let first = contents(&files);

        let other_key = KeyPair::generate().unwrap().serialize_pem();
        fs::write(&files.site_key, other_key).unwrap();
        let notes = ensure(&files, now).unwrap();
        assert_eq!(notes, [Note::SiteRenewed(Unfit::Broken)]);
        assert_eq!(contents(&files)[..2], first[..2]);

        fs::remove_file(&files.site).unwrap();
        let notes = ensure(&files, now).unwrap();
        assert_eq!(notes, [Note::SiteRenewed(Unfit::Broken)]);

        fs::remove_file(&files.authority_key).unwrap();
        let notes = ensure(&files, now).unwrap();
        assert_eq!(
            notes,
            [
                Note::AuthorityReplaced,
                Note::SiteRenewed(Unfit::OtherAuthority)
            ]
        );
        assert_eq!(ensure(&files, now).unwrap(), []);
    }
}
