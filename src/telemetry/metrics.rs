//! What is counted beside requests, and how all of it is written: the Prometheus text format 0.0.4.
//!
//! Labels hold words of this program only, and of those a bounded number: what a caller wrote never becomes one.

use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, prometheus_text},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::ConstGauge,
        histogram::Histogram,
    },
    registry::Registry,
};

use crate::domain::event::{EventName, NewEvent};

/// What the text is served as.
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// More reasons than this of one series are counted together, under [`OTHER`].
const MOST_REASONS: usize = 64;
const OTHER: &str = "other";

/// A count by kind and reason.
#[derive(Debug, Default)]
struct ByReason {
    family: Family<[(&'static str, String); 2], Counter>,
    /// How many reasons were met so far.
    met: AtomicUsize,
}

impl ByReason {
    fn add(&self, kind: (&'static str, &'static str), reason: &str) {
        let labels = |reason: &str| [(kind.0, kind.1.to_owned()), ("reason", reason.to_owned())];
        let known = labels(reason);
        if let Some(counter) = self.family.get(&known) {
            counter.inc();
            return;
        }
        let is_one_more = self.met.fetch_add(1, Ordering::Relaxed) >= MOST_REASONS;
        self.family.get_or_create(&if is_one_more { labels(OTHER) } else { known }).inc();
    }
}

/// How long something took, each time.
#[derive(Debug, Clone)]
pub struct Durations(Histogram);

impl Default for Durations {
    fn default() -> Self {
        Self(Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5]))
    }
}

impl Durations {
    /// Once more.
    pub fn add(&self, took: Duration) {
        self.0.observe(took.as_secs_f64());
    }
}

/// Counts of what happened.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    sign_ins: ByReason,
    refusals: ByReason,
    limited: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let (sign_ins, refusals, limited) = (ByReason::default(), ByReason::default(), Family::default());
        registry.register("lokid_sign_ins", "Finished sign-ins by outcome and reason", sign_ins.family.clone());
        registry.register("lokid_refusals", "Recorded refusals by what was refused and why", refusals.family.clone());
        registry.register("lokid_rate_limited", "Requests that were one too many, by limit", limited.clone());
        Self { registry, sign_ins, refusals, limited }
    }
}

impl Metrics {
    /// Also how long it takes until losses of rights are heard of.
    #[must_use]
    pub fn with_propagation(mut self, heard: &Durations) -> Self {
        let help = "From a loss of rights on any node to this node's hearing of it, by the database's clock";
        self.registry.register("lokid_revocation_propagation_seconds", help, heard.0.clone());
        self
    }

    /// Counts a sign-in that succeeded.
    pub fn signed_in(&self) {
        self.sign_ins.add(("outcome", "success"), "");
    }

    /// Counts what an event says, if it is one of those that are counted.
    pub fn count(&self, event: &NewEvent) {
        match event.name {
            EventName::SignInFailed => self.sign_ins.add(("outcome", "failure"), &event.reason),
            EventName::CredentialRefused => self.refusals.add(("kind", "credential"), &event.reason),
            EventName::PermissionDenied => self.refusals.add(("kind", "permission"), &event.reason),
            _ => {}
        }
    }

    /// Counts a request that this limit refused.
    pub fn limited(&self, limit: &'static str) {
        self.limited.get_or_create(&[("limit", limit)]).inc();
    }

    /// The counts as text.
    pub fn text(&self) -> String {
        written(&self.registry)
    }
}

/// Something that is looked up when somebody asks for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The series, with its unit; without `_total`.
    name: &'static str,
    /// What it says, for the operator.
    help: &'static str,
    /// Whether it only ever grows.
    is_count: bool,
    /// Values by their labels.
    values: Vec<(Vec<(&'static str, String)>, f64)>,
}

impl Reading {
    /// One value without a label.
    pub fn one(name: &'static str, help: &'static str, value: f64) -> Self {
        Self { name, help, is_count: false, values: vec![(Vec::new(), value)] }
    }

    /// Values by one label, whose words are ours or the operator's.
    pub fn by(
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: impl IntoIterator<Item = (String, f64)>,
    ) -> Self {
        let values = values.into_iter().map(|(word, value)| (vec![(label, word)], value)).collect();
        Self { name, help, is_count: false, values }
    }

    /// That it only ever grows while this process lives.
    #[must_use]
    pub fn counted(mut self) -> Self {
        self.is_count = true;
        self
    }
}

#[derive(Debug)]
struct Readings(Vec<Reading>);

impl Collector for Readings {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Reading { name, help, is_count, values } in &self.0 {
            let kind = if *is_count { MetricType::Counter } else { MetricType::Gauge };
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (labels, value) in values {
                let one = family.encode_family(labels)?;
                if *is_count { ConstCounter::new(*value).encode(one)? } else { ConstGauge::new(*value).encode(one)? }
            }
        }
        Ok(())
    }
}

/// What was looked up, as text.
pub fn text_of(readings: Vec<Reading>) -> String {
    collected(Readings(readings))
}

/// What a collector says, as text.
pub fn collected(from: impl Collector) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(from));
    written(&registry)
}

fn written(registry: &Registry) -> String {
    let mut text = String::new();
    prometheus_text::encode(&mut text, registry).expect("writing to a text does not fail");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        event::{Actor, Outcome},
        time::Moment,
    };

    fn denied(name: EventName, reason: &str) -> NewEvent {
        NewEvent::new(Moment::from_millis(0), name, Actor::anonymous()).because(Outcome::Denied, reason)
    }

    #[test]
    fn what_happens_is_counted_by_kind_and_reason() {
        let metrics = Metrics::default();
        metrics.signed_in();
        metrics.count(&denied(EventName::SignInFailed, "not_admitted"));
        metrics.count(&denied(EventName::PermissionDenied, "no_rule"));
        metrics.count(&denied(EventName::TokenRevoked, "counted nowhere"));
        metrics.limited("peer");
        metrics.limited("peer");
        let text = metrics.text();
        for line in [
            r#"lokid_sign_ins_total{outcome="success",reason=""} 1"#,
            r#"lokid_sign_ins_total{outcome="failure",reason="not_admitted"} 1"#,
            r#"lokid_refusals_total{kind="permission",reason="no_rule"} 1"#,
            r#"lokid_rate_limited_total{limit="peer"} 2"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        assert!(!text.contains("counted nowhere"));
    }

    #[test]
    fn reasons_without_end_are_counted_together() {
        let metrics = Metrics::default();
        for n in 0..1000 {
            metrics.count(&denied(EventName::CredentialRefused, &format!("reason {n}")));
        }
        metrics.count(&denied(EventName::CredentialRefused, "reason 0"));
        let text = metrics.text();
        assert_eq!(text.matches("lokid_refusals_total{").count(), MOST_REASONS + 1);
        assert!(text.contains(r#"reason="other"} 936"#) && text.contains(r#"reason="reason 0"} 2"#), "{text}");
    }

    #[test]
    fn a_reading_says_whether_it_only_grows() {
        let text = text_of(vec![
            Reading::one("a_seconds", "An a", 1.5),
            Reading::one("b", "A b", 2.0).counted(),
            Reading::by("c", "A c", "state", [("x\"y".to_owned(), 3.0)]),
        ]);
        let expected = "# HELP a_seconds An a.\n# TYPE a_seconds gauge\na_seconds 1.5\n\
             # HELP b_total A b.\n# TYPE b_total counter\nb_total 2\n\
             # HELP c A c.\n# TYPE c gauge\nc{state=\"x\\\"y\"} 3\n";
        assert_eq!(text.replace(".0\n", "\n").replace(".\n", "\n"), expected.replace(".\n", "\n"));
    }
}
