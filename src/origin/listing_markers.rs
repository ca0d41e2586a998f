//! Pages of listings in which a key may have several entries, each with a number: versions, uploads. They go on by
//! markers, a key and the entry of it, where [`super::listing`] goes on by a token.

use super::listing::{Offer, Page, Request, Seek};
use super::names::ObjectKey;

/// An entry of such a listing.
pub trait Entry {
    /// Its key.
    fn key(&self) -> &ObjectKey;
    /// What tells it from others of its key.
    fn number(&self) -> i64;
}

/// Where a page ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With its last entry.
    Entry,
    /// With a common prefix.
    Prefix(String),
}

/// A page being filled: the caller fetches entries in the order of keys from [`MarkerPage::seek`] on, behind
/// [`MarkerPage::behind`] first, and hands them over.
#[derive(Debug)]
pub struct MarkerPage<T> {
    page: Page,
    max_entries: usize,
    behind: Option<(ObjectKey, i64)>,
    entries: Vec<T>,
    prefixes: Vec<String>,
    last: Option<End>,
    next: Option<End>,
    is_done: bool,
}

impl<T: Entry> MarkerPage<T> {
    /// Starts a page behind the entry that the markers name.
    pub fn new(request: Request, behind: Option<(ObjectKey, i64)>) -> Self {
        let max_entries = request.max_entries;
        MarkerPage {
            // Its own count is of no use: a key with many entries is one to it.
            page: Page::new(Request {
                max_entries: if max_entries == 0 { 0 } else { usize::MAX },
                ..request
            }),
            max_entries,
            behind,
            entries: Vec::new(),
            prefixes: Vec::new(),
            last: None,
            next: None,
            is_done: max_entries == 0,
        }
    }

    /// Whether nothing more is to be fetched.
    pub fn is_done(&self) -> bool {
        self.is_done || *self.page.seek() == Seek::End
    }

    /// Where to look for the next key.
    pub fn seek(&self) -> &Seek {
        self.page.seek()
    }

    /// The entry whose key may have more behind it.
    pub fn behind(&self) -> Option<(ObjectKey, i64)> {
        self.behind.clone()
    }

    /// Takes in what was fetched; `is_last` when there is nothing behind it.
    pub fn take_in(&mut self, fetched: Vec<T>, is_last: bool) {
        for entry in fetched {
            let is_full = self.entries.len() + self.prefixes.len() == self.max_entries;
            match self.page.offer(entry.key().as_str()) {
                // Proof that there is more.
                Offer::Listed | Offer::Grouped if is_full => {
                    self.next = self.last.take();
                    self.is_done = true;
                    return;
                }
                Offer::Listed => {
                    self.last = Some(End::Entry);
                    self.behind = Some((entry.key().clone(), entry.number()));
                    self.entries.push(entry);
                }
                Offer::Grouped => {
                    let prefix = self.page.common_prefixes().last();
                    let prefix = prefix.cloned().unwrap_or_default();
                    self.last = Some(End::Prefix(prefix.clone()));
                    self.prefixes.push(prefix);
                    self.behind = None;
                    // The rest of the group is skipped by seeking behind it.
                    return;
                }
                Offer::BehindPrefix | Offer::Full => {
                    self.is_done = true;
                    return;
                }
            }
        }
        self.is_done |= is_last;
    }

    /// The entries, in order.
    pub fn entries(&self) -> &[T] {
        &self.entries
    }

    /// The common prefixes, in byte order.
    pub fn common_prefixes(&self) -> &[String] {
        &self.prefixes
    }

    /// Where this page ended; `None` when it is the last one.
    pub fn next(&self) -> Option<&End> {
        self.next.as_ref()
    }
}
