//! Issuers whose signed tokens are credentials here, and the rules for each.

use std::{path::PathBuf, time::Duration};

use super::{
    auth::Provider,
    certificates::domains,
    raw::{Node, Value as Raw},
    server::Server,
    values::Place,
};
use crate::domain::{
    claim::ClaimPath,
    role::Roles,
    scope::{Scope, ScopeSet},
    workload::{Condition, Domains, Policy, Preset, Rule, Test},
};

/// An issuer of workload tokens.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// Short name in the audit log and in the ids of its bearers.
    pub id: String,
    /// The issuer as configured.
    pub issuer: String,
    /// More issuers of the same keys.
    pub aliases: Vec<String>,
    /// Where its keys are, when discovery does not say.
    pub jwks_url: Option<String>,
    /// A token must name one of these.
    pub audiences: Vec<String>,
    /// More certificate authorities for its TLS.
    pub ca_file: Option<PathBuf>,
    /// What its tokens may do.
    pub policy: Policy,
}

impl Issuer {
    /// Every name under which it signs.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        [&self.issuer].into_iter().chain(&self.aliases)
    }
}

const KEY: &str = "enterprise.auth.jwt";
const RULES: &str = "enterprise.auth.jwt[].rules[]";
/// The longest life of a token for which a workload's is exchanged.
const LONGEST_EXCHANGE: Duration = Duration::from_hours(24);

/// What a rule gives.
struct Grant {
    role: Option<String>,
    scopes: ScopeSet,
}

pub(super) fn read(place: Place<'_>, server: &Server, roles: &Roles, providers: &[Provider]) -> Vec<Issuer> {
    let mut issuers: Vec<Issuer> = Vec::new();
    for entry in place.entries(KEY, "enterprise.auth.jwt[]") {
        let issuer = read_issuer(entry, roles);
        let clash = |known: &&Issuer| known.names().any(|a| issuer.names().any(|b| is_same(a, b)));
        if let Some(known) = issuers.iter().find(clash) {
            let message = format!(
                "{} is already the issuer of {:?}; list all audiences and rules there",
                issuer.issuer, known.id
            );
            entry.fault("issuer", message);
        }
        if issuers.iter().any(|known| known.id == issuer.id) {
            entry.fault("id", format!("{:?} is used by another issuer; give each its own id", issuer.id));
        }
        check_own(entry, &issuer, server, providers);
        issuers.push(issuer);
    }
    issuers
}

/// Tokens that lokid or its own sign-in client got are for people, and no credential of automation.
fn check_own(entry: Place<'_>, issuer: &Issuer, server: &Server, providers: &[Provider]) {
    if is_same(&issuer.issuer, server.public_url.as_str()) {
        entry.fault("issuer", "is lokid itself (server.public_url): its assertions are for other apps");
    }
    let own =
        |p: &&Provider| issuer.names().any(|name| is_same(&p.issuer, name)) && issuer.audiences.contains(&p.client_id);
    if let Some(provider) = providers.iter().find(own) {
        let message = format!(
            "{:?} is the client with which people sign in (enterprise.auth.oidc, {}): whoever sees an ID token could use it \
             here; register an audience of its own",
            provider.client_id, provider.id
        );
        entry.fault("audience", message);
    }
}

fn is_same(a: &str, b: &str) -> bool {
    a.trim_end_matches('/') == b.trim_end_matches('/')
}

fn read_issuer(entry: Place<'_>, roles: &Roles) -> Issuer {
    let configured = entry.text("preset").and_then(|name| Preset::named(&name));
    let url = entry.text("issuer").or_else(|| configured?.traits().issuer.map(str::to_owned));
    let issuer = url.unwrap_or_else(|| entry.required("issuer"));
    if issuer.contains(['?', '#']) {
        entry.fault("issuer", "an issuer has no query and no fragment (OpenID Connect Discovery §2)");
    }
    let preset = configured.or_else(|| Preset::implied_by(&issuer));
    let audiences = entry.list("audience");
    if audiences.is_empty() {
        entry.fault(
            "audience",
            "must be set: without it, a token that somebody got for another server would be good here",
        );
    }
    if let Some(open) = audiences.iter().find(|audience| audience.contains('*')) {
        entry.fault("audience", format!("{open:?}: an audience is compared as it stands; list each that is meant"));
    }
    Issuer {
        id: read_id(entry, preset, &issuer),
        aliases: preset.and_then(|preset| preset.other_issuer(&issuer)).into_iter().collect(),
        jwks_url: entry.text("jwks_url"),
        audiences,
        ca_file: entry.text("ca_file").map(PathBuf::from),
        policy: read_policy(entry, preset, roles),
        issuer,
    }
}

fn read_id(entry: Place<'_>, preset: Option<Preset>, issuer: &str) -> String {
    let host = || url::Url::parse(issuer).ok().and_then(|url| url.host_str().map(str::to_owned));
    let default = || preset.map(|preset| preset.traits().name.to_owned()).or_else(host).unwrap_or_default();
    let id = entry.text("id").unwrap_or_else(default);
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    if entry.text("id").is_some() && (id.len() > 64 || id == "psk" || !id.bytes().all(fits)) {
        entry.fault("id", "expected up to 64 of a-z, 0-9, - and ., and not psk");
    }
    id
}

fn read_policy(entry: Place<'_>, preset: Option<Preset>, roles: &Roles) -> Policy {
    let most = read_scopes(entry, "at_most").unwrap_or(ScopeSet::of(&[Scope::Control]));
    let own =
        read_grant(entry, roles).unwrap_or(Grant { role: Some("viewer".into()), scopes: ScopeSet::of(&[Scope::Read]) });
    let life = read_life(entry).unwrap_or(Duration::from_mins(15));
    check_most(entry, own.scopes, most);
    let mut rules: Vec<Rule> = Vec::new();
    for (at, place) in entry.entries("rules", RULES).into_iter().enumerate() {
        let grant = read_grant(place, roles);
        let (role, scopes) = grant.map_or_else(|| (own.role.clone(), own.scopes), |grant| (grant.role, grant.scopes));
        check_most(place, scopes, most);
        rules.push(Rule {
            name: place.text("name").unwrap_or_else(|| format!("rule {}", at + 1)),
            conditions: read_conditions(place),
            required_scopes: place.list("required_scopes"),
            role,
            scopes,
            exchange_life: read_life(place).unwrap_or(life),
            domains: Domains {
                patterns: domains(place),
                claim: place.text("domains_claim").map(|claim| ClaimPath::new(&claim)),
            },
        });
    }
    if rules.is_empty() {
        let (role, scopes) = (own.role, own.scopes);
        let (name, conditions, required_scopes) = ("any token".to_owned(), Vec::new(), Vec::new());
        let domains = Domains::default();
        rules.push(Rule { name, conditions, required_scopes, role, scopes, exchange_life: life, domains });
    }
    let claim = entry.text("scopes_claim");
    let usual = preset.map_or("scope", |preset| preset.traits().scopes_claim);
    Policy {
        preset,
        scopes_claim: ClaimPath::new(claim.as_deref().unwrap_or(usual)),
        required_scopes: entry.list("required_scopes"),
        rules,
        allow_pull_request_target: entry.flag("allow_pull_request_target"),
    }
}

fn read_life(place: Place<'_>) -> Option<Duration> {
    let life = place.duration("exchange_lifetime")?;
    if !(Duration::from_mins(1)..=LONGEST_EXCHANGE).contains(&life) {
        place.fault("exchange_lifetime", "expected 1m to 24h");
    }
    Some(life)
}

fn read_scopes(place: Place<'_>, key: &str) -> Option<ScopeSet> {
    let listed = place.list(key);
    let read = listed.iter().map(|s| s.parse::<Scope>()).collect::<Result<ScopeSet, _>>();
    let scopes = read.map_err(|e| place.fault(key, e.to_string())).ok()?;
    (!listed.is_empty()).then_some(scopes)
}

fn read_grant(place: Place<'_>, roles: &Roles) -> Option<Grant> {
    match (place.text("role"), read_scopes(place, "scopes")) {
        (Some(role), None) => {
            let scopes = roles.scopes_of(&role);
            if scopes.is_none() {
                place.fault("role", format!("{role:?} is not a role; roles are {}", roles.listing()));
            }
            Some(Grant { role: Some(role), scopes: scopes.unwrap_or_default() })
        }
        (None, Some(scopes)) => Some(Grant { role: None, scopes }),
        (None, None) => None,
        (Some(_), Some(_)) => {
            place.fault("role", "give either role or scopes");
            None
        }
    }
}

fn check_most(place: Place<'_>, scopes: ScopeSet, most: ScopeSet) {
    if !most.covers(scopes) {
        let message = format!("gives {scopes}, but the issuer's at_most is {most}; widen at_most if that is meant");
        place.fault(if place.text("role").is_some() { "role" } else { "scopes" }, message);
    }
}

fn read_conditions(place: Place<'_>) -> Vec<Condition> {
    let read = |(name, node): (String, &Node)| match read_test(node) {
        Ok(test) => Some(Condition { claim: ClaimPath::new(&name), test }),
        Err(message) => {
            place.fault("claims", format!("{name}: {message}"));
            None
        }
    };
    place.named("claims").into_iter().filter_map(read).collect()
}

const FORMS: &str = "expected a value, a list of values, or one of {not: …}, {prefix: …}, {glob: …}";

fn read_test(node: &Node) -> Result<Test, String> {
    match &node.value {
        Raw::Scalar { .. } | Raw::List(_) => Ok(Test::OneOf(read_values(node)?)),
        Raw::Map(entries) => match entries.as_slice() {
            [(form, node)] if form == "not" => Ok(Test::NoneOf(read_values(node)?)),
            [(form, node)] if form == "equals" || form == "one_of" => Ok(Test::OneOf(read_values(node)?)),
            [(form, node)] if form == "prefix" => Ok(Test::Prefix(read_text(node)?)),
            [(form, node)] if form == "glob" => Ok(Test::Glob(read_text(node)?)),
            _ => Err(FORMS.into()),
        },
    }
}

fn read_text(node: &Node) -> Result<String, String> {
    match &node.value {
        Raw::Scalar { text, .. } => Ok(text.clone()),
        _ => Err(FORMS.into()),
    }
}

/// A number or truth value without quotes also stands for the text of it: GitHub writes ids as texts, others do not.
fn read_values(node: &Node) -> Result<Vec<serde_json::Value>, String> {
    match &node.value {
        Raw::List(items) if !items.is_empty() && items.iter().all(|i| matches!(i.value, Raw::Scalar { .. })) => {
            items.iter().map(read_values).collect::<Result<Vec<_>, _>>().map(|values| values.concat())
        }
        Raw::Scalar { text, plain } => {
            let typed = match (text.as_str(), text.parse::<i64>()) {
                ("true", _) => Some(true.into()),
                ("false", _) => Some(false.into()),
                (_, Ok(number)) if number.to_string() == *text => Some(number.into()),
                _ => None,
            };
            Ok(typed.filter(|_| *plain).into_iter().chain([text.clone().into()]).collect())
        }
        _ => Err(FORMS.into()),
    }
}

/// Rules that let in somebody who is not meant, as far as that can be seen.
pub(super) fn warnings(issuers: &[Issuer]) -> impl Iterator<Item = String> {
    issuers.iter().enumerate().flat_map(|(at, issuer)| {
        let rules = issuer.policy.rules.iter();
        let one = move |rule: &Rule| warning(issuer, rule).map(|says| format!("{KEY}[{at}], {:?}: {says}", rule.name));
        rules.filter_map(one).collect::<Vec<_>>()
    })
}

fn warning(issuer: &Issuer, rule: &Rule) -> Option<String> {
    let scopes = issuer.policy.required_scopes.len() + rule.required_scopes.len();
    let Some(preset) = issuer.policy.preset.map(Preset::traits) else {
        let known =
            Preset::EVERY.into_iter().find(|p| p.traits().issuer.is_some_and(|known| is_same(known, &issuer.issuer)));
        if let Some(known) = known {
            let name = known.traits().name;
            return Some(format!(
                "anybody in the world can get a token of {}; set preset: {name} and pin somebody",
                issuer.issuer
            ));
        }
        // Every token of the issuer has these.
        let says_nothing = |c: &Condition| ["iss", "aud", "exp", "iat", "nbf", "jti"].contains(&c.claim.as_str());
        let open = scopes == 0 && rule.conditions.iter().all(|c| c.test.is_open() || says_nothing(c));
        return open.then(|| {
            format!(
                "lets in whoever {} gives a token for {}; add claims or required_scopes",
                issuer.issuer,
                issuer.audiences.join(" or ")
            )
        });
    };
    let telling = |claims: &[&str]| -> Vec<&Condition> {
        rule.conditions.iter().filter(|c| !c.test.is_open() && claims.contains(&c.claim.as_str())).collect()
    };
    let (ids, names) = (telling(preset.ids), telling(preset.names));
    // GitHub's subject names the ids itself in its newer form.
    let pins = |c: &&Condition| c.claim.as_str() == "sub" && c.test.names_ids() && preset.name == "github-actions";
    if !ids.is_empty() || names.iter().any(pins) {
        let open = ids.iter().find(|c| c.test.has_open_name());
        return open.map(|c| format!("{c} also fits what others may be called; end it before the star with / or :"));
    }
    if names.is_empty() && (preset.is_public || scopes == 0) {
        let who = if preset.is_public { "any stranger" } else { "everybody" };
        return Some(format!(
            "lets in {who} who can get a token of {}; add one of {} under claims",
            issuer.issuer,
            preset.ids.join(", ")
        ));
    }
    if let Some(open) = names.iter().find(|c| c.test.has_open_name()) {
        return Some(format!("{open} also fits what a stranger may be called; end it before the star with / or :"));
    }
    let first = names.first()?;
    Some(format!(
        "{} is a name, which somebody else may take later; pin it with {}",
        first.claim.as_str(),
        preset.ids.join(" or ")
    ))
}
