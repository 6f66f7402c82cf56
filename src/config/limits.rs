//! How fast callers may be and how much they may send.

use std::{num::NonZeroU32, time::Duration};

use super::values::Place;

/// So many in a while. The whole number may come at once; then they trickle back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: NonZeroU32,
    /// In how long.
    pub per: Duration,
}

impl Rate {
    /// `30/m`, `5/s`, `1000/h`; `Some(None)` for `off`, `None` for anything else.
    pub fn parse(text: &str) -> Option<Option<Self>> {
        if text == "off" {
            return Some(None);
        }
        let (count, unit) = text.split_once('/')?;
        let per = match unit {
            "s" => Duration::from_secs(1),
            "m" => Duration::from_mins(1),
            "h" => Duration::from_hours(1),
            _ => return None,
        };
        let count = count.parse().ok().filter(|n: &NonZeroU32| n.get() <= 10_000_000)?;
        Some(Some(Self { count, per }))
    }
}

/// All limits; a missing rate means no limit.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Requests of one address without a valid credential.
    pub peer: Option<Rate>,
    /// Sign-ins one address may begin.
    pub sign_in: Option<Rate>,
    /// Sign-ins one address may finish.
    pub callback: Option<Rate>,
    /// Refused credentials of one address.
    pub bad_credentials: Option<Rate>,
    /// Tokens one caller may make.
    pub token_creation: Option<Rate>,
    /// Certificates one caller may ask for.
    pub certificates: Option<Rate>,
    /// Requests of one caller.
    pub api: Option<Rate>,
    /// Requests of one caller to other apps.
    pub forward_auth: Option<Rate>,
    /// Whether what other nodes let in counts.
    pub shared: bool,
    /// Streams of events that may be open at once.
    pub event_streams: usize,
    /// How long a client may leave what it is sent.
    pub unread_timeout: Duration,
    /// Longest body, in bytes.
    pub body_bytes: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
}

pub(super) fn read(place: Place<'_>) -> Limits {
    let rate = |name: &str| place.text(&format!("limits.{name}")).and_then(|t| Rate::parse(&t)).flatten();
    Limits {
        peer: rate("peer"),
        sign_in: rate("sign_in"),
        callback: rate("callback"),
        bad_credentials: rate("bad_credentials"),
        token_creation: rate("token_creation"),
        certificates: rate("certificates"),
        api: rate("api"),
        forward_auth: rate("forward_auth"),
        shared: place.flag("limits.shared"),
        event_streams: place.number("limits.event_streams").unwrap_or(1000),
        unread_timeout: place.duration("limits.unread_timeout").unwrap_or(Duration::from_secs(30)),
        body_bytes: place.number("limits.body_bytes").unwrap_or(65_536),
        body_timeout: place.duration("limits.body_timeout").unwrap_or(Duration::from_secs(10)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_strictly() {
        assert_eq!(Rate::parse("off"), Some(None));
        assert_eq!(Rate::parse("30/m").flatten().unwrap().per, Duration::from_mins(1));
        for wrong in ["30", "0/m", "-1/s", "5/d", "x/s", "99999999999/s", ""] {
            assert_eq!(Rate::parse(wrong), None, "{wrong}");
        }
    }
}
