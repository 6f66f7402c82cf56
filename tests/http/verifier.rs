//! Another app, as it checks assertions: it knows the address of the key set and what a caller shows it.

use std::time::Duration;

use jsonwebtoken::{DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use lokid::domain::time::Moment;
use serde_json::Value;

use crate::door::{Anonymous, Answer, Client as _, Door};

/// An app that is configured in every door of [`with_app`].
pub(crate) const APP: &str = "grafana.example.com";
/// An app that asks for a group that nobody has.
pub(crate) const CLOSED_APP: &str = "vault.example.com";
/// What every verifier allows clocks to differ by.
const LEEWAY: i64 = 59;

/// A door with both apps, and with these variables.
pub(crate) async fn with_app(env: &[(&str, &str)]) -> Door {
    let apps =
        format!("[{{host: {APP}, rules: [{{scope: read}}]}}, {{host: {CLOSED_APP}, rules: [{{groups: [keepers]}}]}}]");
    let ours = [("LOKI_FORWARD_AUTH_APPS", apps.as_str()), ("LOKI_SERVER_TRUSTED_PROXIES", "127.0.0.1")];
    let all: Vec<_> = ours.into_iter().chain(env.iter().copied()).collect();
    Door::open(&all).await
}

/// An assertion, checked in every way: the header, the signature, the issuer, the audience and the times.
pub(crate) fn verified(set: &Value, jws: &str, app: &str, issuer: &str, now: Moment) -> Result<Value, String> {
    let set: JwkSet = serde_json::from_value(set.clone()).map_err(|e| e.to_string())?;
    let header = decode_header(jws).map_err(|e| e.to_string())?;
    if header.typ.as_deref() != Some("loki-assertion+jwt") {
        return Err(format!("typ {:?}", header.typ));
    }
    let kid = header.kid.ok_or("no kid")?;
    let key = set.find(&kid).ok_or_else(|| format!("key {kid} is not in the set"))?;
    let mut rules = Validation::new(header.alg);
    rules.set_audience(&[app]);
    rules.set_issuer(&[issuer]);
    // On the tests' clock, below.
    rules.validate_exp = false;
    let key = DecodingKey::from_jwk(key).map_err(|e| e.to_string())?;
    let claims = decode::<Value>(jws, &key, &rules).map_err(|e| e.to_string())?.claims;
    let time = |name: &str| claims[name].as_i64().ok_or_else(|| format!("no {name}"));
    if time("exp")? + LEEWAY < now.seconds() || time("iat")? - LEEWAY > now.seconds() {
        return Err("it is not its time".to_owned());
    }
    Ok(claims)
}

/// Keeps the key set for as long as it may, and not longer; never asks again because of an unknown key.
pub(crate) struct Verifier<'d> {
    door: &'d Door,
    kept: Option<(Value, Moment)>,
}

impl<'d> Verifier<'d> {
    pub(crate) const fn of(door: &'d Door) -> Self {
        Self { door, kept: None }
    }

    /// Asks for the key set anew if the one at hand is too old.
    pub(crate) async fn refresh(&mut self) {
        let now = self.door.clock.now();
        if self.kept.as_ref().is_none_or(|(_, until)| *until <= now) {
            let answer = Anonymous(self.door).get("/.well-known/jwks.json").await;
            self.kept = Some((answer.json(), now.plus(max_age(&answer))));
        }
    }

    pub(crate) async fn check(&mut self, jws: &str, app: &str) -> Result<Value, String> {
        self.refresh().await;
        let (set, _) = self.kept.as_ref().unwrap();
        verified(set, jws, app, &format!("http://localhost:{}", self.door.port), self.door.clock.now())
    }
}

fn max_age(answer: &Answer) -> Duration {
    let said = answer.header("cache-control").split(',').find_map(|part| part.trim().strip_prefix("max-age="));
    Duration::from_secs(said.expect("a max-age").parse().unwrap())
}
