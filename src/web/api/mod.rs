//! The REST API: one file a resource. Answers are JSON, errors `application/problem+json`.

pub mod audit;
pub(super) mod certificates;
pub(super) mod events;
pub(super) mod evidence;
pub(super) mod exchange;
pub mod explain;
pub(super) mod health;
pub(super) mod me;
pub(super) mod metrics;
pub(super) mod openapi;
pub mod review;
pub(super) mod run_reports;
pub(super) mod runs;
pub(super) mod status;
pub(super) mod tasks;
pub mod tokens;
pub(super) mod well_known;

use std::str::FromStr;

use super::problem::Problem;
use crate::domain::screen;

/// The parameters of a query, each at most once and each known.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query that may hold these parameters.
    pub(super) fn read(query: &str, known: &[&str]) -> Result<Self, Problem> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if !known.contains(&&*name) {
                let shown = screen::harmless(&name, 40);
                return Err(Problem::invalid(
                    &shown,
                    format!("there is no such parameter; there are: {}", known.join(", ")),
                ));
            }
            if pairs.iter().any(|(n, _)| *n == name) {
                return Err(Problem::invalid(&name, "stands in the query twice"));
            }
            if !value.is_empty() {
                pairs.push((name.into_owned(), value.into_owned()));
            }
        }
        Ok(Self(pairs))
    }

    /// The text of a parameter.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// These parameters as a query again, in this order.
    pub(super) fn again(&self, names: &[&str]) -> String {
        let mut pairs = url::form_urlencoded::Serializer::new(String::new());
        names.iter().filter_map(|name| Some((name, self.text(name)?))).for_each(|(name, value)| {
            pairs.append_pair(name, value);
        });
        pairs.finish()
    }

    /// A parameter read as `T`; `expected` says what would be right.
    pub(super) fn parsed<T: FromStr>(&self, name: &str, expected: &str) -> Result<Option<T>, Problem> {
        let wrong = |_| Problem::invalid(name, format!("expected {expected}"));
        self.text(name).map(str::parse).transpose().map_err(wrong)
    }

    /// How many to list.
    pub(super) fn limit(&self, default: i64, most: i64) -> Result<i64, Problem> {
        let expected = format!("a whole number from 1 to {most}");
        let limit = self.parsed::<i64>("limit", &expected)?.unwrap_or(default);
        if (1..=most).contains(&limit) {
            Ok(limit)
        } else {
            Err(Problem::invalid("limit", format!("expected {expected}")))
        }
    }
}
