//! Why a token was or would be accepted or not: every check in its order, with what was expected and what is there.
//! For administrators only. The rows are those that decide about requests ([`super::checks`]).

use serde_json::Value;

use super::{
    Refusal, Trusted, UnverifiedJws, WorkloadRefused, Workloads,
    checks::{self, Check, Context},
};
use crate::{
    config::workloads::Issuer,
    domain::{
        claim::Claims,
        workload::{Preset, near_miss},
    },
    issuers::{Known, Unavailable, jwk::Algorithm},
};

/// How one check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It passes.
    Pass,
    /// It does not.
    Fail,
    /// It could not be made.
    Unknown,
}

impl Outcome {
    /// One word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Unknown => "unknown",
        }
    }
}

/// One check of a token.
#[derive(Debug, Clone)]
pub struct Line {
    /// What it is about.
    pub check: String,
    /// How it went.
    pub outcome: Outcome,
    /// What would be right.
    pub expected: String,
    /// What is there.
    pub actual: String,
    /// What is nearly right, or what to do.
    pub hint: Option<String>,
    /// Whether the token is refused when it fails. A condition of one rule is not: another rule may hold.
    decides: bool,
}

/// What there is to say about a token.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// Whether it lets its bearer in.
    pub accepted: bool,
    /// One sentence: what it gives, or which check fails first.
    pub verdict: String,
    /// The short name of its issuer, if that is configured.
    pub issuer: Option<String>,
    /// Every check in its order.
    pub lines: Vec<Line>,
    /// By how much the issuer's clock and ours differ, if it is known.
    pub clock: Option<String>,
    /// A rule that would let this bearer in, as YAML.
    pub suggestion: Option<String>,
}

/// What is known of the signature.
enum Signature<'a> {
    /// It can be checked.
    Here(&'a UnverifiedJws<'a>),
    /// It was checked when the token came.
    Remembered(bool),
}

fn line(check: &str, passes: bool, expected: impl Into<String>, actual: impl Into<String>) -> Line {
    let outcome = if passes { Outcome::Pass } else { Outcome::Fail };
    Line {
        check: check.to_owned(),
        outcome,
        expected: expected.into(),
        actual: actual.into(),
        hint: None,
        decides: true,
    }
}

impl Line {
    fn hint(mut self, hint: Option<impl Into<String>>) -> Self {
        self.hint = hint.map(Into::into);
        self
    }

    fn of_one_rule(mut self) -> Self {
        self.decides = false;
        self
    }
}

impl Workloads {
    /// Explains a token. Reads the issuer's keys if they are not known.
    pub async fn explain(&self, text: &str) -> Explanation {
        let jws = match UnverifiedJws::read(text.trim()) {
            Ok(jws) => jws,
            Err(e) => {
                let expected = "header.payload.signature, each base64url without padding, JSON with each member once";
                let hint = not_a_jwt(text.trim());
                let actual = match e {
                    WorkloadRefused::Malformed(what) => what.to_owned(),
                    e => e.to_string(),
                };
                return finished(None, vec![line("form", false, expected, actual).hint(hint)], None, None);
            }
        };
        self.explain_parts(&jws.header, &jws.claims, &Signature::Here(&jws)).await
    }

    /// Explains a token that was refused, as things are now. Its signature was not kept.
    pub async fn explain_refusal(&self, refusal: &Refusal) -> Explanation {
        self.explain_parts(&refusal.header, &refusal.claims, &Signature::Remembered(refusal.is_signed)).await
    }

    async fn explain_parts(&self, header: &Claims, claims: &Claims, signature: &Signature<'_>) -> Explanation {
        let Some(at) = self.issuer_of(claims) else {
            return finished(None, vec![self.unknown_issuer(claims)], None, None);
        };
        let trusted = &self.issuers[at];
        let context = self.context(trusted, header, claims);
        let mut lines = vec![line("iss", true, trusted.settings.issuer.clone(), text(claims, "iss"))];
        lines.extend(checks::HEADER.iter().map(|check| of_check(check, &context)));
        let known = trusted.keys.keys().await;
        lines.extend(of_keys(header, &known));
        lines.push(of_signature(trusted, header, signature, &known).await);
        let concerns = |check: &&Check| check.reason != "own_id_token" || !trusted.own_clients.is_empty();
        lines.extend(checks::CLAIMS.iter().filter(concerns).map(|check| of_check(check, &context)));
        lines.extend(of_rules(&trusted.settings, claims));
        let clock = known.as_ref().ok().and_then(|known| known.clock_ahead).map(clock);
        finished(Some(&trusted.settings), lines, clock, Some(claims))
    }

    fn unknown_issuer(&self, claims: &Claims) -> Line {
        let all: Vec<&str> = self.issuers.iter().map(|trusted| trusted.settings.issuer.as_str()).collect();
        let expected =
            if all.is_empty() { "no issuer is configured (enterprise.auth.jwt)".into() } else { all.join(" or ") };
        let given = claims.get("iss").unwrap_or(&Value::Null);
        let near = all.iter().find_map(|known| near_miss(&(*known).into(), given)).map(str::to_owned);
        let is_own = given.as_str() == Some(&self.own);
        let hint = near.or_else(|| is_own.then(|| WorkloadRefused::OwnAssertion.to_string()));
        line("iss", false, expected, text(claims, "iss")).hint(hint)
    }
}

fn text(claims: &Claims, name: &str) -> String {
    claims.get(name).map_or_else(|| "not there".to_owned(), Value::to_string)
}

fn not_a_jwt(text: &str) -> Option<String> {
    let says = match text {
        _ if text.starts_with("loki_") => "this is a token of lokid itself, which needs no issuer",
        _ if text.split('.').count() == 5 => "five parts: it is encrypted (JWE); ask the issuer for a signed one",
        _ if text.len() > 200 && !text.contains('.') => {
            "an AWS session token and an opaque access token are not JWTs; with EKS, take the projected service-account token"
        }
        _ if text.contains("Bearer") => "leave out the scheme: only the token itself",
        _ => return None,
    };
    Some(says.to_owned())
}

fn of_check(check: &Check, context: &Context<'_>) -> Line {
    let near = |name: &str| {
        let wanted = context.issuer.audiences.iter();
        let given = context.claims.get(name)?;
        wanted.into_iter().find_map(|wanted| near_miss(&wanted.as_str().into(), given))
    };
    let passes = (check.holds)(context);
    let hint = if passes || check.name != "aud" { None } else { near("aud") };
    line(check.name, passes, (check.expected)(context), (check.actual)(context)).hint(hint)
}

const KEY_SET: &str = "key set";

fn of_keys(header: &Claims, known: &Result<std::sync::Arc<Known>, Unavailable>) -> Vec<Line> {
    let known = match known {
        Ok(known) => known,
        Err(e) => {
            let hint = Some("lokid must reach the issuer; try again, or set jwks_url");
            return vec![line(KEY_SET, false, "it can be read", e.why.clone()).hint(hint)];
        }
    };
    let read = format!("read at {}, {} keys, {} left out", known.read_at, known.keys.len(), known.keys.left_out());
    let kids: Vec<&str> = known.keys.kids().collect();
    let kid = header.get("kid").and_then(Value::as_str);
    let found = kid.is_none_or(|kid| known.keys.names(kid) || kids.len() < known.keys.len());
    let actual = kid.map_or_else(|| "the token names none".to_owned(), |kid| format!("{kid:?}"));
    let hint =
        (!found).then_some("a new key is found within the cool-down of 10 s; else the token is another issuer's");
    vec![
        line(KEY_SET, true, "it can be read", read),
        line("key", found, format!("one of {}", kids.join(", ")), actual).hint(hint),
    ]
}

async fn of_signature(
    trusted: &Trusted,
    header: &Claims,
    signature: &Signature<'_>,
    known: &Result<std::sync::Arc<Known>, Unavailable>,
) -> Line {
    let expected = "by the issuer's key";
    let jws = match signature {
        Signature::Remembered(was_good) => {
            let actual = if *was_good { "was right when the token came" } else { "was not right, or not looked at" };
            return line("signature", *was_good, expected, format!("{actual} (it was not kept)"));
        }
        Signature::Here(jws) => jws,
    };
    let member = |name: &str| header.get(name).and_then(Value::as_str);
    let (Some(algorithm), Ok(known)) = (member("alg").and_then(Algorithm::named), known) else {
        let outcome = Outcome::Unknown;
        return Line { outcome, ..line("signature", false, expected, "cannot be checked") };
    };
    let verify = |known: &Known| known.keys.verify(algorithm, member("kid"), jws.signed, &jws.signature);
    let mut verified = verify(known);
    if verified.is_err()
        && let Some(newer) = trusted.keys.newer_than(known).await
    {
        verified = verify(&newer);
    }
    match verified {
        Ok(()) => line("signature", true, expected, "right"),
        Err(e) => line("signature", false, expected, WorkloadRefused::from(e).to_string()),
    }
}

fn of_rules(issuer: &Issuer, claims: &Claims) -> Vec<Line> {
    let policy = &issuer.policy;
    let held = policy.scopes_of(claims).join(" ");
    let held = if held.is_empty() { "none".to_owned() } else { held };
    let scopes = |check: &str, required: &[String]| {
        let missing = policy.missing(required, claims);
        let elsewhere = || {
            let others = ["scope", "scp", "roles", "permissions", "scopes"];
            let there =
                others.into_iter().find(|name| *name != policy.scopes_claim.as_str() && claims.contains_key(*name))?;
            Some(format!("the token has {there}: {}; scopes_claim says which claim counts", claims[there]))
        };
        let hint = if missing.is_empty() { None } else { elsewhere() };
        let expected = format!("{} in {}", required.join(" "), policy.scopes_claim.as_str());
        (!required.is_empty()).then(|| line(check, missing.is_empty(), expected, held.clone()).hint(hint))
    };
    let mut lines = Vec::new();
    if let Some(preset) = policy.preset {
        let forbidden = policy.forbidden(claims);
        let actual = forbidden.unwrap_or("nothing against it");
        lines.push(line("preset", forbidden.is_none(), format!("what {} lets in", preset.traits().name), actual));
    }
    lines.extend(scopes("required_scopes", &policy.required_scopes));
    let chosen = policy.decide(claims).ok().map(|rule| rule.name.clone());
    for rule in &policy.rules {
        for condition in &rule.conditions {
            let passes = condition.holds(policy.preset, claims);
            let hint = if passes { None } else { condition.near_miss(claims) };
            let name = format!("{}: {}", rule.name, condition.claim.as_str());
            lines.push(line(&name, passes, condition.to_string(), condition.actual(claims)).hint(hint).of_one_rule());
        }
        lines.extend(scopes(&format!("{}: required_scopes", rule.name), &rule.required_scopes).map(Line::of_one_rule));
    }
    let actual = chosen.as_ref().map_or_else(|| "none holds".to_owned(), |name| format!("{name:?} holds"));
    lines.push(line("rule", chosen.is_some(), "the first rule that holds", actual));
    lines
}

fn clock(ahead: i64) -> String {
    let seconds = ahead / 1000;
    match seconds {
        // The Date header has whole seconds.
        -1..=1 => "the issuer's clock and ours agree".to_owned(),
        2.. => format!("the issuer's clock is {seconds} s ahead of ours"),
        _ => format!("the issuer's clock is {} s behind ours", -seconds),
    }
}

fn finished(issuer: Option<&Issuer>, lines: Vec<Line>, clock: Option<String>, claims: Option<&Claims>) -> Explanation {
    let failed = lines.iter().find(|line| line.decides && line.outcome != Outcome::Pass);
    let rule = issuer.zip(claims).and_then(|(issuer, claims)| issuer.policy.decide(claims).ok());
    let verdict = match (failed, rule) {
        (Some(line), _) if line.check == KEY_SET => format!("the issuer's keys cannot be read: {}", line.actual),
        (Some(line), _) => format!("{}: expected {}; in the token: {}", line.check, line.expected, line.actual),
        (None, Some(rule)) => format!("rule {:?} lets it in with {}", rule.name, rule.scopes),
        (None, None) => "no rule lets it in".to_owned(),
    };
    let accepted = failed.is_none() && rule.is_some();
    let suggestion = issuer.zip(claims).filter(|_| rule.is_none()).and_then(|(issuer, claims)| suggest(issuer, claims));
    Explanation { accepted, verdict, issuer: issuer.map(|i| i.id.clone()), lines, clock, suggestion }
}

/// A rule for this very bearer, by the claims that name it for ever.
fn suggest(issuer: &Issuer, claims: &Claims) -> Option<String> {
    let ids = issuer.policy.preset.map_or(&["sub"][..], |preset| preset.traits().ids);
    let more: &[&str] = match issuer.policy.preset {
        Some(Preset::GithubActions) => &["environment", "ref"],
        Some(Preset::Gitlab) => &["environment", "ref", "ref_protected"],
        _ => &[],
    };
    let pair = |claim: &&str| {
        let value =
            crate::domain::claim::ClaimPath::new(claim).find(claims).filter(|v| !v.is_array() && !v.is_object())?;
        let is_plain = claim.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let name = if is_plain { (*claim).to_owned() } else { Value::from(*claim).to_string() };
        Some(format!("      {name}: {value}\n"))
    };
    let pinned: String = ids.iter().filter_map(pair).collect();
    if pinned.is_empty() {
        return None;
    }
    // Either the environment or the branch: the environment's own protection says which branches may use it.
    let place: String = more.iter().find_map(pair).into_iter().collect();
    let name = Value::from(issuer.policy.name_of(claims));
    Some(format!("rules:\n  - name: {name}\n    claims:\n{pinned}{place}    role: viewer\n"))
}
