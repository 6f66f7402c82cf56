//! How many requests were answered, how, and how fast. Counted at every request, so counting neither locks nor
//! allocates: all cells of a thread's group are there from its first request on.

use std::{
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, NoLabelSet},
    metrics::{MetricType, counter::ConstCounter},
};

/// Where a request is counted that went to none of the routes, or whose handler gave up.
pub const NO_ROUTE: &str = "(none)";

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// As [`crate::domain::identity::Credential::kind`] says them; the last is any other.
const CREDENTIALS: [&str; 8] = ["none", "token", "session", "terminal", "workload", "psk", "certificate", "other"];
/// Upper bounds of the time that an answer took, in microseconds. Beyond the last there is one more.
const BOUNDS: [u64; 14] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 2_500_000, 10_000_000];

/// Where in a route's cells the answers, the times and the sum of the times begin, and how many cells there are.
const TIMES: usize = METHODS.len() * CLASSES.len() * CREDENTIALS.len();
const SUM: usize = TIMES + BOUNDS.len() + 1;
const CELLS: usize = SUM + 1;

/// Groups of threads; each counts in cells of its own, so that workers do not wait for each other's cache lines.
const GROUPS: usize = 8;

/// One answered request.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// The route's number; one too high is [`NO_ROUTE`].
    pub route: usize,
    /// `GET`, …
    pub method: &'a str,
    /// The answer's status.
    pub status: u16,
    /// The kind of the credential that was accepted; `none` without one.
    pub credential: &'a str,
    /// From the head of the request to the head of the answer.
    pub took: Duration,
}

/// Counts of answered requests.
pub struct Requests {
    /// The patterns of the routes, and [`NO_ROUTE`].
    routes: Vec<&'static str>,
    groups: [OnceLock<Box<[AtomicU64]>>; GROUPS],
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Requests({} routes)", self.routes.len())
    }
}

/// The group of the present thread.
fn group() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static GROUP: usize = NEXT.fetch_add(1, Relaxed) % GROUPS;
    }
    GROUP.with(|group| *group)
}

/// The place of a word; the last place for one that is not among them.
fn place(words: &[&str], word: &str) -> usize {
    words.iter().position(|known| *known == word).unwrap_or(words.len() - 1)
}

impl Requests {
    /// For routes with these patterns.
    pub fn new(patterns: &[&'static str]) -> Self {
        let routes = patterns.iter().copied().chain([NO_ROUTE]).collect();
        Self { routes, groups: Default::default() }
    }

    /// Counts one.
    pub fn count(&self, answered: &Answered<'_>) {
        let fresh = || (0..self.routes.len() * CELLS).map(|_| AtomicU64::new(0)).collect();
        let cells = self.groups[group()].get_or_init(fresh);
        let route = answered.route.min(self.routes.len() - 1);
        let cells = &cells[route * CELLS..][..CELLS];
        let class = usize::from(answered.status / 100).clamp(1, CLASSES.len()) - 1;
        let method = place(&METHODS, answered.method) * CLASSES.len();
        cells[(method + class) * CREDENTIALS.len() + place(&CREDENTIALS, answered.credential)].fetch_add(1, Relaxed);
        let micros = u64::try_from(answered.took.as_micros()).unwrap_or(u64::MAX);
        cells[TIMES + BOUNDS.partition_point(|bound| *bound < micros)].fetch_add(1, Relaxed);
        cells[SUM].fetch_add(micros, Relaxed);
    }

    /// All groups together.
    fn totals(&self) -> Vec<u64> {
        let mut totals = vec![0_u64; self.routes.len() * CELLS];
        for cells in self.groups.iter().filter_map(OnceLock::get) {
            totals.iter_mut().zip(cells).for_each(|(total, cell)| *total += cell.load(Relaxed));
        }
        totals
    }
}

impl Collector for Requests {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let totals = self.totals();
        let rows = || self.routes.iter().copied().zip(totals.chunks_exact(CELLS));
        let help = "Answered requests by route pattern, method, status class and kind of the accepted credential";
        let mut family = encoder.encode_descriptor("lokid_http_requests", help, None, MetricType::Counter)?;
        for (route, cells) in rows() {
            for (at, count) in cells[..TIMES].iter().enumerate().filter(|(_, count)| **count > 0) {
                let labels = [
                    ("route", route),
                    ("method", METHODS[at / CREDENTIALS.len() / CLASSES.len()]),
                    ("status", CLASSES[at / CREDENTIALS.len() % CLASSES.len()]),
                    ("credential", CREDENTIALS[at % CREDENTIALS.len()]),
                ];
                ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Seconds from a request's head to its answer's head, by route pattern";
        let mut family =
            encoder.encode_descriptor("lokid_http_request_duration_seconds", help, None, MetricType::Histogram)?;
        for (route, cells) in rows() {
            let bounds = BOUNDS.iter().map(|micros| seconds(*micros)).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(cells[TIMES..SUM].iter().copied()).collect();
            let count = cells[TIMES..SUM].iter().sum();
            if count > 0 {
                let labels = [("route", route)];
                let mut one = family.encode_family(&labels)?;
                one.encode_histogram::<NoLabelSet>(seconds(cells[SUM]), count, &buckets, None)?;
            }
        }
        Ok(())
    }
}

fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(requests: Requests) -> String {
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register_collector(Box::new(requests));
        let mut text = String::new();
        prometheus_client::encoding::prometheus_text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn every_answer_is_counted_once_under_words_of_ours() {
        let requests = Requests::new(&["/a", "/b/{id}"]);
        let answered =
            Answered { route: 1, method: "GET", status: 204, credential: "token", took: Duration::from_micros(250) };
        requests.count(&answered);
        requests.count(&Answered { took: Duration::from_micros(251), ..answered });
        requests.count(&Answered { route: 99, method: "BREW", status: 999, credential: "tea", took: Duration::MAX });
        let text = shown(requests);
        let has = |line: &str| assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        has(r#"lokid_http_requests_total{route="/b/{id}",method="GET",status="2xx",credential="token"} 2"#);
        has(r#"lokid_http_requests_total{route="(none)",method="other",status="5xx",credential="other"} 1"#);
        has(r#"lokid_http_request_duration_seconds_bucket{route="/b/{id}",le="0.00025"} 1"#);
        has(r#"lokid_http_request_duration_seconds_bucket{route="/b/{id}",le="0.0005"} 2"#);
        has(r#"lokid_http_request_duration_seconds_bucket{route="/b/{id}",le="+Inf"} 2"#);
        has(r#"lokid_http_request_duration_seconds_count{route="/b/{id}"} 2"#);
        has(r#"lokid_http_request_duration_seconds_bucket{route="(none)",le="10"} 0"#);
        assert!(!text.contains(r#"route="/a""#) && !text.contains("BREW") && !text.contains("tea"), "{text}");
    }

    #[test]
    fn counts_of_all_threads_add_up() {
        let requests = Requests::new(&["/a"]);
        let one = || {
            let answered = Answered { route: 0, method: "GET", status: 200, credential: "none", took: Duration::ZERO };
            (0..1000).for_each(|_| requests.count(&answered));
        };
        std::thread::scope(|scope| (0..2 * GROUPS).for_each(|_| drop(scope.spawn(one))));
        let line = format!(r#"credential="none"}} {}"#, 2000 * GROUPS);
        assert!(shown(requests).contains(&line));
    }
}
