//! What the disk tier's index costs at ten million records: memory, time, and time to come back.
//!
//! `cargo bench --bench disk_index` runs it in full, `cargo bench --bench disk_index -- --quick` with a
//! hundredth of the records, and `cargo test` with a thousandth, so that it keeps working. `benches/README.md`
//! has results.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::time::{Duration, Instant};

use tidegate::cache::disk::index::{Index, Location};

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FULL: u64 = 10_000_000;

/// Look-ups that are timed one by one.
const TIMED: u64 = 200_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |argument: &str| arguments.iter().any(|given| given == argument);
    // Cargo says `--bench` unless the tests are run.
    let records = match (has("--bench"), has("--quick")) {
        (true, false) => FULL,
        (true, true) => FULL / 100,
        (false, _) => FULL / 1_000,
    };
    println!("{records} records");
    let before = resident_bytes();
    let index = Index::new();
    let peak = fill(&index, records, before);
    let per_record = |bytes: u64| bytes as f64 / records as f64;
    println!(
        "memory           {:.2} B/record by its own count, {:.2} resident, {:.2} at the peak of resident",
        per_record(index.memory_bytes() as u64),
        per_record(resident_bytes().saturating_sub(before)),
        per_record(peak),
    );
    time_lookups("present", &index, records, |number| hash(number % records));
    time_lookups("absent", &index, records, |number| hash(records + number));
    time_snapshot(&index);
    time_removal(&index, records);
}

/// Inserts all records, and tells the most memory that was resident beyond `before`.
fn fill(index: &Index, records: u64, before: u64) -> u64 {
    let mut inserting = Duration::ZERO;
    let (mut peak, mut worst) = (0, 0.0_f64);
    let step = (records / 1_000).max(1);
    for first in (0..records).step_by(usize::try_from(step).expect("a step is small")) {
        let began = Instant::now();
        for number in first..(first + step).min(records) {
            index.insert(hash(number), location(number));
        }
        inserting += began.elapsed();
        peak = peak.max(resident_bytes().saturating_sub(before));
        // The fixed part outweighs the first records.
        if first > records / 2 {
            worst = worst.max(index.memory_bytes() as f64 / (first + step).min(records) as f64);
        }
    }
    assert_eq!(index.len() as u64, records);
    println!(
        "insert           {:.2} million/s; {worst:.2} B/record at the worst moment of the second half",
        records as f64 / inserting.as_secs_f64() / 1e6,
    );
    peak
}

fn time_lookups(what: &str, index: &Index, records: u64, hash_of: impl Fn(u64) -> u64) {
    let present = what == "present";
    // Hashes are in no order, so neither are the look-ups; each is likely to miss the processor's caches.
    let numbers = (0..TIMED).map(|number| number * (records / TIMED).max(1));
    let hashes: Vec<u64> = numbers.map(hash_of).collect();
    let mut found = 0;
    let mut times: Vec<Duration> = Vec::with_capacity(hashes.len());
    for hash in &hashes {
        let began = Instant::now();
        let candidates = index.find(*hash);
        times.push(began.elapsed());
        found += u64::from(!candidates.is_empty());
    }
    // With 54 bits kept, an absent hash looks like a present one once in two billion look-ups.
    assert!(if present { found == TIMED } else { found < 2 });
    let mut clock: Vec<Duration> = (0..TIMED).map(|_| Instant::now().elapsed()).collect();
    times.sort_unstable();
    clock.sort_unstable();
    let at = |times: &[Duration], percent: usize| times[times.len() * percent / 100].as_nanos();
    println!(
        "look-up {what:8} p50 {} ns, p99 {} ns (an empty measurement: {} and {} ns)",
        at(&times, 50),
        at(&times, 99),
        at(&clock, 50),
        at(&clock, 99),
    );
    let began = Instant::now();
    let found = hashes.iter().filter(|hash| index.contains(**hash)).count();
    let each = began.elapsed() / u32::try_from(TIMED).expect("the count is a small constant");
    println!(
        "                 {} ns each without measuring ({found} found)",
        each.as_nanos()
    );
}

fn time_snapshot(index: &Index) {
    let path = std::env::temp_dir().join(format!("tidegate-disk-index-{}", std::process::id()));
    let written = write_file(index, &path);
    let read = File::open(&path).and_then(|mut file| {
        let began = Instant::now();
        let index = Index::read_from(&mut file).map_err(io::Error::other)?;
        Ok((began.elapsed(), index.len()))
    });
    let size = fs::metadata(&path).map(|file| file.len());
    fs::remove_file(&path).expect("a file that was just written can be removed");
    let ((read, len), size) = (read.expect("it is read back"), size.expect("it is there"));
    assert_eq!(len, index.len());
    println!(
        "snapshot         {} MB, written and synced in {:.2} s, read back in {:.2} s",
        size / 1_000_000,
        written.expect("it can be written").as_secs_f64(),
        read.as_secs_f64(),
    );
}

fn write_file(index: &Index, path: &std::path::Path) -> io::Result<Duration> {
    let began = Instant::now();
    let mut file = File::create(path)?;
    index.write_to(&mut file)?;
    file.flush()?;
    file.sync_all()?;
    Ok(began.elapsed())
}

fn time_removal(index: &Index, records: u64) {
    let began = Instant::now();
    let removed = index.remove_segment(0);
    println!(
        "remove_segment   {:.3} s for {removed} records",
        began.elapsed().as_secs_f64()
    );
    let left = index.len() as u64;
    let began = Instant::now();
    let gone = (0..records).filter(|number| index.remove(hash(*number), location(*number)));
    assert_eq!(gone.count() as u64, left);
    println!(
        "remove           {:.2} million/s",
        left as f64 / began.elapsed().as_secs_f64() / 1e6
    );
}

/// Stands for a keyed hash (SplitMix64's mixing, which is a permutation, so all are different).
fn hash(number: u64) -> u64 {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Records of 10 KiB, spread over a hundred segments.
fn location(number: u64) -> Location {
    let length = 160;
    Location {
        segment: u16::try_from(number % 100).expect("it is below 100"),
        offset: u32::try_from(number / 100 * length).expect("a segment has room for its share"),
        length: u16::try_from(length).expect("it is a small constant"),
    }
}

/// What this process has in memory, in bytes, as Linux counts it.
fn resident_bytes() -> u64 {
    let mut status = String::new();
    let file = File::open("/proc/self/status").expect("Linux has /proc");
    BufReader::new(file)
        .read_to_string(&mut status)
        .expect("it is text");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kibibytes.expect("it has VmRSS in kB") * 1024
}
