//! Reads the Prometheus text format.

/// The samples of one scrape.
#[derive(Debug)]
pub struct Samples(Vec<(String, f64)>);

impl Samples {
    /// Parses the text format; labels are kept as they were written.
    pub fn parse(text: &str) -> Self {
        let samples = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').unwrap();
                (name.to_owned(), value.parse().unwrap())
            });
        Samples(samples.collect())
    }

    /// The sum of the samples of `name` that carry all `labels`, each `name="value"`.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        self.0
            .iter()
            .filter(|(sample, _)| {
                let rest = sample.strip_prefix(name);
                let whole = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('{'));
                whole && labels.iter().all(|label| sample.contains(label))
            })
            .map(|(_, value)| value)
            .sum()
    }
}
