//! The secrets we know, by access key id, and the signing keys derived from them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;

use crate::secret::Secret;

use super::Refusal;
use super::sigv2;
use super::sigv4::derive_signing_key;

/// Derived keys kept per access key id. A URL lives for at most seven days, so eight dates are in
/// use at once; this leaves room for four regions.
const DERIVED_PER_ID_MAX: usize = 32;

/// The access keys that may sign, each with its secret.
///
/// Deriving a signing key costs four keyed hashes, so derived keys are remembered by access key
/// id, date and region (the service is always `s3`), at most 32 per id, oldest out first. Readers
/// never wait: the list is replaced as a whole.
pub struct Keyring {
    keys: HashMap<String, KeyHolder>,
    allows_sigv2: bool,
}

struct KeyHolder {
    secret: Secret,
    derived: ArcSwap<Vec<Arc<DerivedKey>>>,
    /// The key of Version 2, when it is allowed.
    sigv2: Option<hmac::Key>,
}

struct DerivedKey {
    date: [u8; 8],
    region: Box<str>,
    key: hmac::Key,
}

/// A signing key for one date and region, and whether the keyring already remembers it.
pub(super) struct SigningKey<'a> {
    holder: &'a KeyHolder,
    derived: Arc<DerivedKey>,
    remembered: bool,
}

impl SigningKey<'_> {
    /// The key for the final keyed hash.
    pub(super) fn key(&self) -> &hmac::Key {
        &self.derived.key
    }

    /// Keeps the key for the next request. To be called only once a signature made with it has
    /// matched (`verify-before-remember`).
    pub(super) fn remember(&self) {
        if self.remembered {
            return;
        }
        self.holder.derived.rcu(|known| {
            let mut next = Vec::with_capacity(DERIVED_PER_ID_MAX.min(known.len() + 1));
            next.push(Arc::clone(&self.derived));
            next.extend(
                known
                    .iter()
                    .filter(|other| !other.is_for(&self.derived.date, &self.derived.region))
                    .take(DERIVED_PER_ID_MAX - 1)
                    .cloned(),
            );
            next
        });
    }
}

impl DerivedKey {
    fn is_for(&self, date: &[u8; 8], region: &str) -> bool {
        self.date == *date && *self.region == *region
    }
}

impl Keyring {
    /// A keyring of (access key id, secret) pairs. Ids are expected to be distinct: of two pairs
    /// with one id the later one counts.
    pub fn new(keys: impl IntoIterator<Item = (String, Secret)>) -> Self {
        let keys = keys
            .into_iter()
            .map(|(access_key_id, secret)| {
                let holder = KeyHolder {
                    secret,
                    derived: ArcSwap::default(),
                    sigv2: None,
                };
                (access_key_id, holder)
            })
            .collect();
        Keyring {
            keys,
            allows_sigv2: false,
        }
    }

    /// Lets a key sign with Version 2 as well. An id that is not known changes nothing.
    #[must_use]
    pub fn allow_sigv2(mut self, access_key_id: &str) -> Self {
        if let Some(holder) = self.keys.get_mut(access_key_id) {
            holder.sigv2 = Some(sigv2::signing_key(&holder.secret));
            self.allows_sigv2 = true;
        }
        self
    }

    /// Whether any key may sign with Version 2.
    pub(super) fn allows_sigv2(&self) -> bool {
        self.allows_sigv2
    }

    /// The key of Version 2 of an id.
    ///
    /// # Errors
    /// [`Refusal::UnknownAccessKeyId`], or [`Refusal::UnsupportedScheme`] for a key that does not allow it.
    pub(super) fn sigv2_key(&self, access_key_id: &str) -> Result<&hmac::Key, Refusal> {
        let holder = self.keys.get(access_key_id);
        let holder = holder.ok_or(Refusal::UnknownAccessKeyId)?;
        holder.sigv2.as_ref().ok_or(Refusal::UnsupportedScheme)
    }

    /// Whether no key may sign at all.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many derived keys of an access key id are remembered.
    #[cfg(test)]
    pub(super) fn derived_keys(&self, access_key_id: &str) -> usize {
        self.keys[access_key_id].derived.load().len()
    }

    /// The signing key of `access_key_id` for one date (`yyyymmdd`) and region, or `None` when the
    /// id is unknown.
    pub(super) fn signing_key(
        &self,
        access_key_id: &str,
        date: &[u8; 8],
        region: &str,
    ) -> Option<SigningKey<'_>> {
        let holder = self.keys.get(access_key_id)?;
        let known = holder.derived.load();
        if let Some(derived) = known.iter().find(|key| key.is_for(date, region)) {
            return Some(SigningKey {
                holder,
                derived: Arc::clone(derived),
                remembered: true,
            });
        }
        Some(SigningKey {
            holder,
            derived: Arc::new(DerivedKey {
                date: *date,
                region: region.into(),
                key: derive_signing_key(&holder.secret, date, region),
            }),
            remembered: false,
        })
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("access_key_ids", &self.keys.len())
            .finish_non_exhaustive()
    }
}
