//! Counts that every request adds to, without a cache line that two workers write.
//!
//! - `own-shard`: each thread adds to a shard of its own, and who scrapes sums them up. More threads
//!   than processors share shards, and lose nothing but speed.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto;

/// One `T` for each worker that can run at a time.
#[derive(Debug)]
pub(super) struct Sharded<T>(Box<[Apart<T>]>);

/// Two cache lines apart from its neighbours, which other workers write: processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart<T>(T);

impl<T: Default> Sharded<T> {
    pub(super) fn new() -> Self {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        Sharded((0..workers).map(|_| Apart::default()).collect())
    }

    /// The shard of this thread.
    pub(super) fn own(&self) -> &T {
        &self.0[thread_number() % self.0.len()].0
    }

    /// All shards.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|shard| &shard.0)
    }
}

/// A number for each thread that counts or logs, from 0 on.
pub(super) fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
    }
    NUMBER.get().unwrap_or_else(|| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        NUMBER.set(Some(number));
        number
    })
}

/// A sum.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds in nanoseconds. A hit takes tens of microseconds, a film an hour; the bounds follow
/// the part in which an operator can still act.
const BOUNDS: [u64; 16] = [
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
];

/// [`BOUNDS`] in seconds, for histograms that are not sharded.
pub(super) fn bounds_seconds() -> Vec<f64> {
    BOUNDS.iter().map(|bound| seconds(*bound)).collect()
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// How often something took how long.
#[derive(Debug)]
pub(super) struct DurationHistogram(Sharded<Durations>);

#[derive(Debug, Default)]
struct Durations {
    /// By the smallest bound that is not exceeded; the last exceeds them all.
    counts: [Count; BOUNDS.len() + 1],
    nanoseconds: Count,
}

impl DurationHistogram {
    fn new() -> Self {
        DurationHistogram(Sharded::new())
    }

    /// Adds one that took `duration`.
    pub(super) fn observe(&self, duration: Duration) {
        // 2^64 nanoseconds are more than five hundred years.
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bound = BOUNDS.iter().position(|bound| nanoseconds <= *bound);
        let shard = self.0.own();
        shard.counts[bound.unwrap_or(BOUNDS.len())].add(1);
        shard.nanoseconds.add(nanoseconds);
    }

    fn collect(&self) -> proto::Histogram {
        let mut cumulative = 0;
        let mut count_at = |place: usize| -> u64 {
            let shards = self.0.iter();
            cumulative += shards.map(|shard| shard.counts[place].get()).sum::<u64>();
            cumulative
        };
        let buckets = BOUNDS.iter().enumerate().map(|(place, bound)| {
            let mut bucket = proto::Bucket::default();
            bucket.set_cumulative_count(count_at(place));
            bucket.set_upper_bound(seconds(*bound));
            bucket
        });
        let buckets = buckets.collect();
        let nanoseconds = self.0.iter().map(|shard| shard.nanoseconds.get()).sum();
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(count_at(BOUNDS.len()));
        histogram.set_sample_sum(seconds(nanoseconds));
        histogram
    }
}

/// The histograms of all routes under one name.
#[derive(Clone)]
pub(super) struct RouteHistograms {
    desc: Desc,
    routes: Arc<Mutex<Vec<OfRoute>>>,
}

impl RouteHistograms {
    pub(super) fn new(name: &str, help: &str) -> prometheus::Result<Self> {
        let labels = vec![ROUTE.to_owned()];
        let desc = Desc::new(name.to_owned(), help.to_owned(), labels, Default::default())?;
        let routes = Arc::default();
        Ok(RouteHistograms { desc, routes })
    }

    /// A histogram for `route`, which has none yet.
    pub(super) fn add(&self, route: &str) -> Arc<DurationHistogram> {
        let histogram = Arc::new(DurationHistogram::new());
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.push((route.to_owned(), Arc::clone(&histogram)));
        histogram
    }
}

/// A route's name and its histogram.
type OfRoute = (String, Arc<DurationHistogram>);

/// The one label.
const ROUTE: &str = "route";

impl Collector for RouteHistograms {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let metrics = routes.iter().map(|(route, histogram)| {
            let mut label = proto::LabelPair::default();
            label.set_name(ROUTE.to_owned());
            label.set_value(route.clone());
            let mut metric = proto::Metric::from_label(vec![label]);
            metric.set_histogram(histogram.collect());
            metric
        });
        let mut family = proto::MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(proto::MetricType::HISTOGRAM);
        family.set_metric(metrics.collect());
        vec![family]
    }
}

impl fmt::Debug for RouteHistograms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RouteHistograms")
            .field(&self.desc.fq_name)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_at_its_bound_and_not_below_it() {
        for (place, bound) in BOUNDS.into_iter().enumerate() {
            for (nanoseconds, expected) in [(bound, place), (bound + 1, place + 1)] {
                let histogram = DurationHistogram::new();
                histogram.observe(Duration::from_nanos(nanoseconds));
                let collected = histogram.collect();
                let buckets = collected.get_bucket().iter();
                let below = buckets.filter(|bucket| bucket.cumulative_count() == 0);
                assert_eq!(below.count(), expected, "{nanoseconds}");
                assert_eq!(collected.get_sample_count(), 1);
                assert_eq!(collected.get_sample_sum(), seconds(nanoseconds));
            }
        }
        let histogram = DurationHistogram::new();
        histogram.observe(Duration::MAX);
        assert_eq!(histogram.collect().get_sample_count(), 1);
    }

    #[test]
    fn what_all_threads_count_is_summed_up() {
        let histogram = Arc::new(DurationHistogram::new());
        let count = Arc::new(Sharded::<Count>::new());
        let threads: Vec<_> = (0..9)
            .map(|_| {
                let (histogram, count) = (Arc::clone(&histogram), Arc::clone(&count));
                std::thread::spawn(move || {
                    for _ in 0..1000 {
                        histogram.observe(Duration::from_millis(2));
                        count.own().add(3);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        let collected = histogram.collect();
        assert_eq!(collected.get_sample_count(), 9_000);
        assert_eq!(collected.get_sample_sum(), 18.0);
        assert_eq!(collected.get_bucket()[1].cumulative_count(), 0);
        assert_eq!(collected.get_bucket()[2].cumulative_count(), 9_000);
        assert_eq!(count.iter().map(Count::get).sum::<u64>(), 27_000);
    }

    #[test]
    fn shards_lie_on_cache_lines_of_their_own() {
        assert_eq!(align_of::<Apart<Count>>(), 128);
        assert_eq!(size_of::<Apart<Count>>(), 128);
    }
}
