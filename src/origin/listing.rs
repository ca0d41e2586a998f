//! ListObjectsV2 without a database: where to seek, what a key becomes, when the page is full.
//!
//! The caller fetches keys in byte order from [`Page::seek`] and offers them one by one. When a common prefix
//! has been listed, the rest of its keys are skipped by seeking behind the prefix, not by reading them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The most entries that one page holds (S3, ListObjectsV2 `max-keys`).
pub const PAGE_MAX_ENTRIES: usize = 1000;

/// Where the next key is to be looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seek {
    /// The smallest key that is not below this one.
    From(Vec<u8>),
    /// The smallest key above this one.
    After(Vec<u8>),
    /// No key can follow: the page is complete.
    End,
}

/// What became of an offered key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer {
    /// It is an entry of the page.
    Listed,
    /// It stands for a common prefix; go on at [`Page::seek`].
    Grouped,
    /// It does not begin with the prefix, and neither will any that follow.
    BehindPrefix,
    /// The page is full and this key is the proof that there is more.
    Full,
}

/// What a client asked to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Only keys that begin with this.
    pub prefix: String,
    /// Group keys that share everything up to the first delimiter behind the prefix. Empty = no grouping.
    pub delimiter: String,
    /// Only keys above this one; ignored when `resume` is set, as S3 does.
    pub start_after: String,
    /// Where the previous page ended.
    pub resume: Option<Token>,
    /// At most this many entries, keys and common prefixes together.
    pub max_entries: usize,
}

/// Where a page ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// The last entry was this key.
    Key(String),
    /// The last entry was this common prefix.
    Prefix(String),
}

/// A token that we did not issue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a continuation token of ours")]
pub struct ForeignToken;

/// A page being filled.
#[derive(Debug)]
pub struct Page {
    request: Request,
    seek: Seek,
    common_prefixes: Vec<String>,
    keys: usize,
    last: Option<Token>,
    truncated: bool,
}

impl Token {
    /// The opaque form that clients hand back.
    pub fn encode(&self) -> String {
        let (kind, text) = match self {
            Token::Key(key) => ('k', key),
            Token::Prefix(prefix) => ('p', prefix),
        };
        URL_SAFE_NO_PAD.encode(format!("{kind}{text}"))
    }

    /// Reads the opaque form.
    ///
    /// # Errors
    /// [`ForeignToken`] when [`Token::encode`] could not have made it.
    pub fn decode(opaque: &str) -> Result<Self, ForeignToken> {
        let bytes = URL_SAFE_NO_PAD.decode(opaque).map_err(|_| ForeignToken)?;
        let text = String::from_utf8(bytes).map_err(|_| ForeignToken)?;
        match text.split_at_checked(1) {
            Some(("k", key)) if !key.is_empty() => Ok(Token::Key(key.to_owned())),
            Some(("p", prefix)) if !prefix.is_empty() => Ok(Token::Prefix(prefix.to_owned())),
            Some(_) | None => Err(ForeignToken),
        }
    }
}

impl Page {
    /// Starts a page.
    pub fn new(request: Request) -> Self {
        let after_resume = match &request.resume {
            Some(Token::Key(key)) => Seek::After(key.clone().into_bytes()),
            Some(Token::Prefix(prefix)) => behind(prefix.as_bytes()),
            None if request.start_after.is_empty() => Seek::From(Vec::new()),
            None => Seek::After(request.start_after.clone().into_bytes()),
        };
        let floor = Seek::From(request.prefix.clone().into_bytes());
        let seek = if request.max_entries == 0 {
            Seek::End
        } else {
            later(after_resume, floor)
        };
        Page {
            request,
            seek,
            common_prefixes: Vec::new(),
            keys: 0,
            last: None,
            truncated: false,
        }
    }

    /// Where to look for the next key.
    pub fn seek(&self) -> &Seek {
        &self.seek
    }

    /// How many keys in a row are worth fetching: with a delimiter the next key may end a run.
    pub fn batch(&self) -> usize {
        let missing = self.request.max_entries.saturating_sub(self.entries()) + 1;
        if self.request.delimiter.is_empty() {
            missing
        } else {
            missing.min(32)
        }
    }

    /// Offers the next key in byte order.
    pub fn offer(&mut self, key: &str) -> Offer {
        let Some(tail) = key.strip_prefix(self.request.prefix.as_str()) else {
            self.seek = Seek::End;
            return Offer::BehindPrefix;
        };
        if self.entries() == self.request.max_entries {
            self.truncated = true;
            self.seek = Seek::End;
            return Offer::Full;
        }
        let delimiter = self.request.delimiter.as_str();
        let group_end = if delimiter.is_empty() {
            None
        } else {
            tail.find(delimiter).map(|at| at + delimiter.len())
        };
        match group_end {
            Some(end) => {
                let common = &key[..self.request.prefix.len() + end];
                self.seek = behind(common.as_bytes());
                self.common_prefixes.push(common.to_owned());
                self.last = Some(Token::Prefix(common.to_owned()));
                Offer::Grouped
            }
            None => {
                self.keys += 1;
                self.seek = Seek::After(key.as_bytes().to_vec());
                self.last = Some(Token::Key(key.to_owned()));
                Offer::Listed
            }
        }
    }

    /// The caller found no further key.
    pub fn exhausted(&mut self) {
        self.seek = Seek::End;
    }

    /// Keys and common prefixes so far: S3's `KeyCount`.
    pub fn entries(&self) -> usize {
        self.keys + self.common_prefixes.len()
    }

    /// The common prefixes in byte order.
    pub fn common_prefixes(&self) -> &[String] {
        &self.common_prefixes
    }

    /// Where the next page begins; `None` when this is the last one.
    pub fn next_token(&self) -> Option<&Token> {
        self.last.as_ref().filter(|_| self.truncated)
    }
}

/// The place behind every key that begins with `prefix`.
fn behind(prefix: &[u8]) -> Seek {
    let mut successor = prefix.to_vec();
    while let Some(last) = successor.pop() {
        if let Some(next) = last.checked_add(1) {
            successor.push(next);
            return Seek::From(successor);
        }
    }
    Seek::End
}

/// The later of two places.
fn later(a: Seek, b: Seek) -> Seek {
    // `After(x)` lies between `From(x)` and `From(x + [0])`.
    let rank = |seek: &Seek| match seek {
        Seek::From(key) => (0, key.clone(), 0),
        Seek::After(key) => (0, key.clone(), 1),
        Seek::End => (1, Vec::new(), 0),
    };
    if rank(&a) >= rank(&b) { a } else { b }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::ops::Bound;

    use proptest::prelude::*;

    use super::*;

    /// Drives pages over a map the way the operation drives them over the database.
    fn list_pages(map: &BTreeMap<String, ()>, first: Request) -> Vec<(Vec<String>, Vec<String>)> {
        let mut pages = Vec::new();
        let mut request = first;
        loop {
            let mut page = Page::new(request.clone());
            let mut keys = Vec::new();
            'fill: loop {
                let lower = match page.seek() {
                    Seek::From(key) => Bound::Included(String::from_utf8(key.clone()).unwrap()),
                    Seek::After(key) => Bound::Excluded(String::from_utf8(key.clone()).unwrap()),
                    Seek::End => break,
                };
                let limit = page.batch();
                let batch: Vec<_> = map.range((lower, Bound::Unbounded)).take(limit).collect();
                let short = batch.len() < limit;
                for (key, ()) in batch {
                    match page.offer(key) {
                        Offer::Listed => keys.push(key.clone()),
                        Offer::Grouped => continue 'fill,
                        Offer::BehindPrefix | Offer::Full => break 'fill,
                    }
                }
                if short {
                    page.exhausted();
                }
            }
            pages.push((keys, page.common_prefixes().to_vec()));
            match page.next_token() {
                Some(token) => request.resume = Some(Token::decode(&token.encode()).unwrap()),
                None => return pages,
            }
        }
    }

    /// The definition, written without cleverness.
    fn model(map: &BTreeMap<String, ()>, request: &Request) -> BTreeSet<(String, bool)> {
        map.keys()
            .filter(|key| key.starts_with(&request.prefix))
            .filter(|key| request.start_after.is_empty() || **key > request.start_after)
            .map(|key| {
                let tail = &key[request.prefix.len()..];
                match tail.find(&request.delimiter) {
                    Some(at) if !request.delimiter.is_empty() => {
                        let end = request.prefix.len() + at + request.delimiter.len();
                        (key[..end].to_owned(), true)
                    }
                    _ => (key.clone(), false),
                }
            })
            .collect()
    }

    proptest! {
        #[test]
        fn every_page_size_lists_what_the_model_lists(
            keys in prop::collection::btree_set("[ab/]{1,6}", 0..40),
            prefix in "[ab/]{0,2}",
            delimiter in prop::sample::select(vec!["", "/", "b", "ab"]),
            start_after in "[ab/]{0,3}",
            max_entries in 1usize..7,
        ) {
            let map: BTreeMap<String, ()> = keys.into_iter().map(|k| (k, ())).collect();
            let request = Request {
                prefix, delimiter: delimiter.to_owned(), start_after, resume: None, max_entries,
            };
            let pages = list_pages(&map, request.clone());
            let expected = model(&map, &request);
            let mut listed = Vec::new();
            for (index, (keys, prefixes)) in pages.iter().enumerate() {
                let size = keys.len() + prefixes.len();
                prop_assert!(size <= max_entries);
                prop_assert!(size == max_entries || index + 1 == pages.len());
                listed.extend(keys.iter().map(|k| (k.clone(), false)));
                listed.extend(prefixes.iter().map(|p| (p.clone(), true)));
            }
            prop_assert_eq!(listed.len(), expected.len(), "an entry was listed twice or not at all");
            prop_assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), expected);
        }
    }

    #[test]
    fn a_page_of_no_entries_seeks_nothing_and_is_not_truncated() {
        let page = Page::new(Request::default());
        assert_eq!(page.seek(), &Seek::End);
        assert_eq!(page.next_token(), None);
    }

    #[test]
    fn the_place_behind_a_prefix_steps_over_ff() {
        assert_eq!(behind(b"a/"), Seek::From(b"a0".to_vec()));
        assert_eq!(behind(b"a\xff"), Seek::From(b"b".to_vec()));
        assert_eq!(behind(b"\xff\xff"), Seek::End);
    }

    #[test]
    fn foreign_tokens_are_refused() {
        for token in ["", "k", "!!", "eA", "aw", "_w"] {
            assert_eq!(Token::decode(token), Err(ForeignToken), "{token}");
        }
    }
}
