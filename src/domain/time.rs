//! Moments as integer UTC milliseconds, and the one clock.
//!
//! Below the top floors a moment is an argument. `clippy.toml` bans the wall clock everywhere else.

use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

/// A moment in UTC milliseconds since 1970, the form in which the database stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Moment(i64);

/// The text is neither an RFC 3339 date-time nor a date.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected a date (2026-01-31) or a date and time with zone (2026-01-31T09:00:00Z)")]
pub struct NotAMoment;

impl Moment {
    /// From milliseconds since 1970.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// From whole seconds since 1970, as JWTs carry them (RFC 7519 §2, NumericDate).
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Milliseconds since 1970.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This moment and a while later; saturates.
    #[must_use]
    pub fn plus(self, while_: Duration) -> Self {
        Self(self.0.saturating_add(millis_of(while_)))
    }

    /// This moment and a while earlier; saturates.
    #[must_use]
    pub fn minus(self, while_: Duration) -> Self {
        Self(self.0.saturating_sub(millis_of(while_)))
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// `2026-11-22T19:05:00Z` (RFC 3339), milliseconds only when they are not zero.
    pub fn rfc3339(self) -> String {
        jiff::Timestamp::from_millisecond(self.0).map_or_else(|_| self.0.to_string(), |t| t.to_string())
    }

    /// `2026-11-22`.
    pub fn date(self) -> String {
        self.rfc3339().chars().take(10).collect()
    }

    /// `2026-11-22 19:05:00`, for people; always UTC.
    pub fn for_people(self) -> String {
        self.rfc3339().chars().take(19).map(|c| if c == 'T' { ' ' } else { c }).collect()
    }
}

fn millis_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

impl FromStr for Moment {
    type Err = NotAMoment;

    fn from_str(text: &str) -> Result<Self, NotAMoment> {
        if text.len() > 40 {
            return Err(NotAMoment);
        }
        if let Ok(date) = text.parse::<jiff::civil::Date>()
            && text.len() == 10
        {
            let midnight = date.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| NotAMoment)?;
            return Ok(Self(midnight.timestamp().as_millisecond()));
        }
        text.parse::<jiff::Timestamp>().map(|t| Self(t.as_millisecond())).map_err(|_| NotAMoment)
    }
}

/// Where "now" comes from. Cheap to clone; every clone of a moved clock moves together.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    moved: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// The machine's clock.
    pub const fn system() -> Self {
        Self { moved: None }
    }

    /// A clock that stands still until [`Clock::advance`] moves it. For tests and the bench.
    pub fn standing_at(moment: Moment) -> Self {
        Self { moved: Some(Arc::new(AtomicI64::new(moment.0))) }
    }

    /// The present moment.
    pub fn now(&self) -> Moment {
        self.moved.as_ref().map_or_else(wall, |at| Moment(at.load(Ordering::SeqCst)))
    }

    /// Moves a standing clock; does nothing to the machine's.
    pub fn advance(&self, while_: Duration) {
        if let Some(at) = &self.moved {
            at.fetch_add(millis_of(while_), Ordering::SeqCst);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
fn wall() -> Moment {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Moment(millis_of(since))
}

/// `15m`, `12h`, `90d`: a positive whole number with its unit (`ms`, `s`, `m`, `h`, `d`).
///
/// # Errors
/// The sentence to show when the text is anything else.
pub fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    const EXPECTED: &str = "expected a number with a unit, such as 30s, 15m, 12h or 90d";
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or(EXPECTED)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| EXPECTED)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(EXPECTED),
    };
    if number == 0 {
        return Err("must be longer than nothing");
    }
    number.checked_mul(millis).filter(|m| *m <= 3_650 * 86_400_000).map(Duration::from_millis).ok_or("at most 3650d")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_reads_back_what_it_prints() {
        let moment = Moment::from_millis(1_795_374_300_123);
        assert_eq!(moment.rfc3339().parse(), Ok(moment));
        assert_eq!(Moment::from_seconds(1_795_374_300).date().len(), 10);
    }

    #[test]
    fn a_bare_date_is_its_midnight_and_nonsense_is_refused() {
        assert_eq!("1970-01-02".parse(), Ok(Moment::from_millis(86_400_000)));
        assert_eq!("yesterday".parse::<Moment>(), Err(NotAMoment));
        assert_eq!("2026-13-01".parse::<Moment>(), Err(NotAMoment));
    }

    #[test]
    fn durations_need_their_unit() {
        assert_eq!(parse_duration("15m"), Ok(Duration::from_mins(15)));
        for wrong in ["15", "0s", "m", "-1s", "1w", "", "99999999999999999999s", "4000d"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
