//! The checks of a token, as a table: what decides, what is told whoever sent it, and what an administrator is told.
//! The same rows decide about a request and explain it.

use serde_json::Value;

use crate::{
    config::workloads::Issuer,
    domain::{claim::Claims, screen},
    issuers::jwk::Algorithm,
};

/// How far the issuer's clock and ours may differ, in seconds.
pub const SKEW: i64 = 60;
/// Later than this (the year 5138) no moment lies that somebody wrote in seconds.
const LATEST: i64 = 100_000_000_000;
/// Entries of `aud`.
const MOST_AUDIENCES: usize = 64;

/// What a check looks at.
pub struct Context<'a> {
    /// The token's header.
    pub header: &'a Claims,
    /// The token's claims.
    pub claims: &'a Claims,
    /// The issuer that it names.
    pub issuer: &'a Issuer,
    /// Clients of ours at that issuer: their ID tokens are for people.
    pub own_clients: &'a [String],
    /// The present second.
    pub now: i64,
}

/// One row.
pub struct Check {
    /// What it is about, as the token writes it.
    pub name: &'static str,
    /// A stable word for the audit log.
    pub reason: &'static str,
    /// What the caller is told: nothing about what would have been right.
    pub says: &'static str,
    /// Whether the token passes.
    pub holds: fn(&Context<'_>) -> bool,
    /// What would be right.
    pub expected: fn(&Context<'_>) -> String,
    /// What the token says.
    pub actual: fn(&Context<'_>) -> String,
}

fn member(of: &Claims, name: &str) -> String {
    of.get(name).map_or_else(|| "not there".to_owned(), Value::to_string)
}

/// RFC 7519 §4.1.3: a text, or an array of texts.
fn audiences(claims: &Claims) -> Option<Vec<&str>> {
    match claims.get("aud")? {
        Value::String(one) => Some(vec![one]),
        Value::Array(list) if list.len() <= MOST_AUDIENCES => list.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// RFC 7519 §2, NumericDate: seconds, which may have a fraction.
pub(super) fn seconds(claims: &Claims, name: &str) -> Option<i64> {
    let number = claims.get(name)?.as_number()?;
    #[expect(clippy::cast_possible_truncation, reason = "casts of floats saturate, and what is too late is refused")]
    let whole = number.as_i64().or_else(|| number.as_f64().map(|seconds| seconds.floor() as i64))?;
    (0..LATEST).contains(&whole).then_some(whole)
}

/// A moment that may be left out, but not be something else.
fn holds_if_there(context: &Context<'_>, name: &str, holds: impl Fn(i64) -> bool) -> bool {
    !context.claims.contains_key(name) || seconds(context.claims, name).is_some_and(holds)
}

fn distance(context: &Context<'_>, name: &str) -> String {
    let Some(at) = seconds(context.claims, name) else { return member(context.claims, name) };
    match at - context.now {
        0 => format!("{at}, which is now"),
        ahead @ 1.. => format!("{at}, which is in {}", span(ahead)),
        past => format!("{at}, which was {} ago", span(-past)),
    }
}

/// Seconds in the largest unit of which there are a few.
fn span(seconds: i64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// The types of an access token or of a plain JWT (RFC 9068 §2.1, RFC 7519 §5.1).
fn is_credential_type(typ: &str) -> bool {
    let typ = typ.get(..12).filter(|start| start.eq_ignore_ascii_case("application/")).map_or(typ, |_| &typ[12..]);
    typ.eq_ignore_ascii_case("jwt") || typ.eq_ignore_ascii_case("at+jwt")
}

const OWN_KEYS: [&str; 4] = ["jwk", "jku", "x5c", "x5u"];

/// What is looked at before a key is.
pub static HEADER: [Check; 5] = [
    Check {
        name: "alg",
        reason: "algorithm",
        says: "alg is not an algorithm that is accepted here",
        holds: |c| c.header.get("alg").and_then(Value::as_str).and_then(Algorithm::named).is_some(),
        expected: |_| Algorithm::EVERY.map(Algorithm::as_str).join(", "),
        actual: |c| member(c.header, "alg"),
    },
    Check {
        name: "crit",
        reason: "critical_extension",
        says: "crit asks for an extension that is not understood here",
        holds: |c| !c.header.contains_key("crit"),
        expected: |_| "not there (RFC 7515 §4.1.11)".into(),
        actual: |c| member(c.header, "crit"),
    },
    Check {
        name: "jwk, jku, x5c, x5u",
        reason: "key_in_header",
        says: "the header brings or names a key of its own",
        holds: |c| !OWN_KEYS.iter().any(|name| c.header.contains_key(*name)),
        expected: |_| "none of them: the keys are those of the issuer's key set".into(),
        actual: |c| {
            let there: Vec<&str> = OWN_KEYS.into_iter().filter(|name| c.header.contains_key(*name)).collect();
            if there.is_empty() { "none of them".into() } else { there.join(", ") }
        },
    },
    Check {
        name: "typ",
        reason: "token_type",
        says: "typ is not that of a credential",
        holds: |c| match c.header.get("typ") {
            None => true,
            Some(typ) => typ.as_str().is_some_and(is_credential_type),
        },
        expected: |_| "JWT or at+jwt, or not there".into(),
        actual: |c| member(c.header, "typ"),
    },
    Check {
        name: "kid",
        reason: "key_name",
        says: "kid is not a text",
        holds: |c| match c.header.get("kid") {
            None => true,
            Some(kid) => kid.as_str().is_some_and(|kid| (1..=256).contains(&kid.len())),
        },
        expected: |_| "a text of up to 256 characters, or not there".into(),
        actual: |c| member(c.header, "kid"),
    },
];

/// What is looked at once the signature is known to be right.
pub static CLAIMS: [Check; 8] = [
    Check {
        name: "aud",
        reason: "audience",
        says: "aud does not name this server",
        holds: |c| {
            audiences(c.claims).is_some_and(|given| given.iter().any(|a| c.issuer.audiences.iter().any(|b| a == b)))
        },
        expected: |c| c.issuer.audiences.join(" or "),
        actual: |c| member(c.claims, "aud"),
    },
    Check {
        name: "aud (sign-in)",
        reason: "own_id_token",
        says: "this is a token of the client with which people sign in here, and no credential",
        holds: |c| {
            audiences(c.claims).is_some_and(|given| !given.iter().any(|a| c.own_clients.iter().any(|own| a == own)))
        },
        expected: |c| format!("not {}", c.own_clients.join(" or ")),
        actual: |c| member(c.claims, "aud"),
    },
    Check {
        name: "exp",
        reason: "expired",
        says: "exp is over, or not a time in seconds",
        holds: |c| seconds(c.claims, "exp").is_some_and(|exp| exp > c.now - SKEW),
        expected: |c| format!("seconds, later than {} (now, less {SKEW} s)", c.now - SKEW),
        actual: |c| distance(c, "exp"),
    },
    Check {
        name: "nbf",
        reason: "not_yet_valid",
        says: "nbf lies ahead, or is not a time in seconds; is the clock right?",
        holds: |c| holds_if_there(c, "nbf", |nbf| nbf <= c.now + SKEW),
        expected: |c| format!("not there, or at most {} (now and {SKEW} s)", c.now + SKEW),
        actual: |c| distance(c, "nbf"),
    },
    Check {
        name: "iat",
        reason: "issued_ahead",
        says: "iat lies ahead, or is not a time in seconds; is the clock right?",
        holds: |c| holds_if_there(c, "iat", |iat| iat <= c.now + SKEW),
        expected: |c| format!("not there, or at most {} (now and {SKEW} s)", c.now + SKEW),
        actual: |c| distance(c, "iat"),
    },
    Check {
        name: "sub",
        reason: "subject",
        says: "sub is not a text of 1 to 255 characters",
        holds: |c| {
            let sound = |sub: &str| (1..=255).contains(&sub.len()) && !sub.contains(screen::acts);
            c.claims.get("sub").and_then(Value::as_str).is_some_and(sound)
        },
        expected: |_| "a text of 1 to 255 characters".into(),
        actual: |c| member(c.claims, "sub"),
    },
    Check {
        name: "cnf",
        reason: "bound_to_a_key",
        says: "cnf binds the token to a key, which a bearer does not prove to have",
        holds: |c| !c.claims.contains_key("cnf"),
        expected: |_| "not there (RFC 7800 §3)".into(),
        actual: |c| member(c.claims, "cnf"),
    },
    Check {
        name: "events",
        reason: "security_event",
        says: "events makes it a message about somebody, and no credential",
        holds: |c| !c.claims.contains_key("events"),
        expected: |_| "not there (RFC 8417 §2.2)".into(),
        actual: |c| member(c.claims, "events"),
    },
];

/// The first check that the token does not pass.
pub(super) fn first_failed(checks: &'static [Check], context: &Context<'_>) -> Option<&'static Check> {
    checks.iter().find(|check| !(check.holds)(context))
}
