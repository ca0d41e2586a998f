//! Request sequences with the published shape of six classes of CDN traffic.
//!
//! Numbers, not traces: the share of objects that are asked for once, requests for each object, the
//! share of requests that the most popular hundredth and tenth of the objects take, the slope
//! between, and the quantiles of size. Popularity and size are drawn apart from one another.

/// The largest unit that is cached by itself: a larger object is a head and blocks of this length.
pub const BLOCK_BYTES: u32 = 256 * 1024;

/// The head of an object that has blocks.
const HEAD_BYTES: u32 = 512;

/// The largest object, in KiB: the models stop there, as larger files are served in parts.
const LARGEST_KIB: f64 = 10_549.0;

/// Of the objects of a churning class, this many appear during the run and are forgotten after.
const CHURNING: f64 = 0.6;

/// A new object's popularity falls to 1/e within this part of the run, from the shortest to the
/// longest, evenly by logarithm.
const LIFETIMES: (f64, f64) = (0.001, 0.3);

/// The exponent of stretched-exponential popularity, which Guo et al. (PODC 2008) found to fit media
/// better than Zipf; the value is ours.
const STRETCH: f64 = 0.35;

/// One class of traffic.
pub struct Class {
    /// Its name.
    pub name: &'static str,
    /// Share of objects with one request.
    pub one_hit: f64,
    /// Requests for each object.
    pub requests_per_object: f64,
    /// Size in KiB: median, 90th and 99th percentile, mean.
    pub size_kib: [f64; 4],
    /// Slope of popularity over rank, both by logarithm.
    pub slope: f64,
    /// Share of requests that the first hundredth and the first tenth of the objects take.
    pub top: [f64; 2],
    /// Objects of a full run.
    pub objects: usize,
}

/// The six classes, from the models of Tragen and Jedi (Sabnis and Sitaraman).
pub const CLASSES: [Class; 6] = [
    Class {
        name: "video",
        one_hit: 0.56,
        requests_per_object: 3.4,
        size_kib: [599.0, 10_549.0, 10_549.0, 2_214.0],
        slope: 0.63,
        top: [0.25, 0.55],
        objects: 40_000,
    },
    Class {
        name: "images",
        one_hit: 0.77,
        requests_per_object: 2.4,
        size_kib: [10.0, 51.0, 149.0, 22.0],
        slope: 0.70,
        top: [0.31, 0.60],
        objects: 400_000,
    },
    Class {
        name: "media",
        one_hit: 0.64,
        requests_per_object: 6.2,
        size_kib: [24.0, 1_670.0, 3_384.0, 396.0],
        slope: 0.92,
        top: [0.58, 0.80],
        objects: 100_000,
    },
    Class {
        name: "web",
        one_hit: 0.69,
        requests_per_object: 6.7,
        size_kib: [17.0, 223.0, 5_045.0, 277.0],
        slope: 0.87,
        top: [0.62, 0.82],
        objects: 100_000,
    },
    Class {
        name: "mix",
        one_hit: 0.74,
        requests_per_object: 4.7,
        size_kib: [12.0, 82.0, 3_058.0, 128.0],
        slope: 0.88,
        top: [0.59, 0.77],
        objects: 200_000,
    },
    Class {
        name: "downloads",
        one_hit: 0.77,
        requests_per_object: 43.1,
        size_kib: [11.0, 211.0, 3_851.0, 608.0],
        slope: 1.38,
        top: [0.95, 0.98],
        objects: 40_000,
    },
];

/// How popularity falls over rank, and whether it stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Popularity {
    /// Zipf between the published shares; each request is drawn from the same distribution.
    Zipf,
    /// Zipf; most objects appear during the run and age.
    AgeingZipf,
    /// Stretched exponential; most objects appear during the run and age.
    AgeingStretched,
}

impl Popularity {
    /// All of them.
    pub const ALL: [Popularity; 3] = [
        Popularity::Zipf,
        Popularity::AgeingZipf,
        Popularity::AgeingStretched,
    ];

    /// A name for tables.
    pub fn name(self) -> &'static str {
        match self {
            Popularity::Zipf => "zipf",
            Popularity::AgeingZipf => "zipf, ageing",
            Popularity::AgeingStretched => "stretched, ageing",
        }
    }
}

/// Numbers that look random and are the same for each seed (splitmix64).
pub struct Dice(u64);

impl Dice {
    /// A sequence of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Dice(seed)
    }

    /// The next number between 0 and 1, never either.
    pub fn part(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        ((spread(self.0) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }
}

/// Spreads the bits of a number over all 64, as a hash does.
pub fn spread(number: u64) -> u64 {
    let mut bits = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

/// A sequence of requests for objects that are cached in units: the whole object, or head and blocks.
pub struct Workload {
    /// Objects in the order they are asked for.
    pub requests: Vec<u32>,
    /// The first unit of each object, and the end.
    first_units: Vec<u32>,
    /// Whether a unit is a block of a large body.
    is_block: Vec<bool>,
    /// Bytes of each unit.
    pub unit_bytes: Vec<u32>,
    /// Bytes of all objects together.
    pub catalogue_bytes: u64,
}

impl Workload {
    /// A run of `class` with `scale` of its objects.
    pub fn of(class: &Class, popularity: Popularity, scale: f64, seed: u64) -> Self {
        let objects = ((class.objects as f64 * scale) as usize).max(1_000);
        let mut dice = Dice::new(seed);
        let counts = match popularity {
            Popularity::Zipf | Popularity::AgeingZipf => zipf_counts(class, objects),
            Popularity::AgeingStretched => stretched_counts(class, objects),
        };
        let mut timed = Vec::new();
        for (object, mean) in counts.into_iter().enumerate() {
            let count = mean.floor() as usize + usize::from(dice.part() < mean.fract());
            let ages = popularity != Popularity::Zipf && dice.part() < CHURNING;
            let birth = dice.part();
            let lifetime = LIFETIMES.0 * (LIFETIMES.1 / LIFETIMES.0).powf(dice.part());
            for _ in 0..count {
                let at = if ages {
                    // Exponential, cut off at the end of the run so that no request is lost.
                    let share = 1.0 - (-(1.0 - birth) / lifetime).exp();
                    birth - lifetime * (1.0 - dice.part() * share).ln()
                } else {
                    dice.part()
                };
                timed.push((at, object as u32));
            }
        }
        timed.sort_by(|a, b| a.0.total_cmp(&b.0));
        let requests = timed.into_iter().map(|(_, object)| object).collect();
        let sizes = sizes(class, objects, &mut dice);
        Workload::new(requests, &sizes)
    }

    /// `requests` for objects of `sizes` bytes.
    pub fn new(requests: Vec<u32>, sizes: &[u32]) -> Self {
        let (mut first_units, mut unit_bytes, mut is_block) = (vec![0], Vec::new(), Vec::new());
        for size in sizes {
            let mut left = *size;
            let is_large = left > BLOCK_BYTES;
            if is_large {
                unit_bytes.push(HEAD_BYTES);
                is_block.push(false);
            }
            while left > 0 {
                let unit = left.min(BLOCK_BYTES);
                unit_bytes.push(unit);
                is_block.push(is_large);
                left -= unit;
            }
            first_units.push(unit_bytes.len() as u32);
        }
        Workload {
            requests,
            first_units,
            is_block,
            unit_bytes,
            catalogue_bytes: sizes.iter().map(|size| u64::from(*size)).sum(),
        }
    }

    /// Whether a unit is a block of a large body; else it is a head, or a small object.
    pub fn is_block(&self, unit: u32) -> bool {
        self.is_block[unit as usize]
    }

    /// The units of an object, in the order they are asked for.
    pub fn units(&self, object: u32) -> std::ops::Range<u32> {
        self.first_units[object as usize]..self.first_units[object as usize + 1]
    }
}

/// Requests of each rank: power laws whose masses are the published shares, then the objects that
/// are asked for once.
fn zipf_counts(class: &Class, objects: usize) -> Vec<f64> {
    let rank_at = |share: f64| (objects as f64 * share).round() as usize;
    let requests = class.requests_per_object * objects as f64;
    let ends = [rank_at(0.01), rank_at(0.1), rank_at(1.0 - class.one_hit)];
    let mut masses = [
        class.top[0] * requests,
        (class.top[1] - class.top[0]) * requests,
        (1.0 - class.top[1]) * requests - (objects - ends[2]) as f64,
    ];
    // The published shares are rounded; where they leave less than two requests for each object in
    // the middle, the most popular ones give some of theirs.
    let missing = (2.2 * (ends[2] - ends[1]) as f64 - masses[2]).max(0.0);
    masses[0] -= missing;
    masses[2] += missing;
    let mut counts = vec![1.0; objects];
    let mut from = 0;
    for (end, mass) in ends.into_iter().zip(masses) {
        let weight = |rank: usize| (rank as f64 + 1.0).powf(-class.slope);
        let sum: f64 = (from..end).map(weight).sum();
        for (rank, count) in (from..end).zip(&mut counts[from..end]) {
            *count = (weight(rank) * mass / sum).max(2.0);
        }
        from = end;
    }
    counts
}

/// Requests of each rank: a stretched exponential over the objects that are asked for more than
/// once, with the published mean.
fn stretched_counts(class: &Class, objects: usize) -> Vec<f64> {
    let repeated = (objects as f64 * (1.0 - class.one_hit)).round() as usize;
    let once = (objects - repeated) as f64;
    let mean = (class.requests_per_object * objects as f64 - once) / repeated as f64;
    let count = |rank: usize, steepness: f64| {
        let place = (rank as f64 + 0.5) / repeated as f64;
        2.0 * (1.0 - steepness * place.ln()).powf(1.0 / STRETCH)
    };
    let steepness = solve(1e-6, 1e3, |steepness| {
        (0..repeated)
            .map(|rank| count(rank, steepness))
            .sum::<f64>()
            / repeated as f64
            > mean
    });
    let mut counts = vec![1.0; objects];
    for (rank, slot) in counts.iter_mut().enumerate().take(repeated) {
        *slot = count(rank, steepness);
    }
    counts
}

/// Sizes with the published quantiles, bent between them so that the mean is right too.
fn sizes(class: &Class, objects: usize, dice: &mut Dice) -> Vec<u32> {
    let [median, p90, p99, mean] = class.size_kib;
    let corners = [
        (0.0, median / 40.0),
        (0.5, median),
        (0.9, p90),
        (0.99, p99),
        (1.0, LARGEST_KIB.max(p99)),
    ];
    let quantile = |part: f64, bend: f64| {
        let pair = corners.windows(2).find(|pair| part <= pair[1].0);
        let [(from, low), (to, high)] = pair.map_or([corners[3], corners[4]], |p| [p[0], p[1]]);
        let along = ((part - from) / (to - from)).powf(bend);
        low * (high / low).powf(along)
    };
    let bend = solve(0.02, 8.0, |bend| {
        let steps = 4_000;
        let sum: f64 = (0..steps)
            .map(|step| quantile((f64::from(step) + 0.5) / f64::from(steps), bend))
            .sum();
        sum / f64::from(steps) < mean
    });
    (0..objects)
        .map(|_| ((quantile(dice.part(), bend) * 1024.0) as u32).max(64))
        .collect()
}

/// Where `is_above` turns true between `low` and `high`, to within rounding.
fn solve(mut low: f64, mut high: f64, is_above: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..50 {
        let middle = (low * high).sqrt();
        if is_above(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    low
}
