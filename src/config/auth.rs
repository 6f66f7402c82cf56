//! Who may come in, and as what: providers, sessions, tokens, roles and rules.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use url::Url;

use super::{
    psk::{self, PresharedKey},
    server::{Secret, Server, is_loopback_host},
    values::Place,
    workloads::{self, Issuer},
};
use crate::domain::{
    claim::{ClaimPath, Condition, Rule},
    role::{RoleName, Roles},
    scope::{Scope, ScopeSet},
    session::SessionLimits,
    token::LifetimeRule,
};

/// Everything about who may come in.
#[derive(Debug, Clone)]
pub struct Auth {
    /// Whether credentials are asked for at all.
    pub enabled: bool,
    /// Identity providers, in the order of their buttons.
    pub providers: Vec<Provider>,
    /// How long browser sessions last.
    pub sessions: SessionLimits,
    /// How long tokens may live.
    pub lifetimes: LifetimeRule,
    /// How many usable tokens one person may hold.
    pub max_active_per_user: i64,
    /// Every role.
    pub roles: Roles,
    /// Rules in the order in which they are tried.
    pub rules: Vec<Rule>,
    /// The role of a person whom no rule matches; `None` refuses them.
    pub default_role: Option<String>,
    /// Issuers whose signed tokens are credentials.
    pub issuers: Vec<Issuer>,
    /// Callers who come with a pre-shared key.
    pub preshared_keys: Vec<PresharedKey>,
    /// Domains of e-mail addresses that may sign in; empty: all.
    pub allowed_email_domains: Vec<String>,
}

/// One identity provider.
#[derive(Debug, Clone)]
pub struct Provider {
    /// Short name in addresses and rules.
    pub id: String,
    /// What the button says.
    pub name: String,
    /// The issuer, exactly as configured.
    pub issuer: String,
    /// Our client there.
    pub client_id: String,
    /// How our client proves itself.
    pub client_auth: ClientAuth,
    /// The audience an ID token must name.
    pub audience: String,
    /// Scopes to ask for; `openid` is always among them.
    pub scopes: Vec<String>,
    /// The claim that holds the groups.
    pub groups_claim: ClaimPath,
    /// When to ask the UserInfo endpoint.
    pub userinfo: UserInfo,
    /// How often a session re-reads its claims.
    pub refresh_interval: Duration,
    /// The oldest sign-in that is accepted.
    pub max_age: Option<Duration>,
    /// More certificate authorities for its TLS.
    pub ca_file: Option<PathBuf>,
}

/// How our client proves itself (OpenID Connect Core §9).
#[derive(Debug, Clone)]
pub enum ClientAuth {
    /// Secret in the `Authorization` header.
    Basic(Secret),
    /// Secret in the form.
    Post(Secret),
    /// An assertion signed with this key.
    PrivateKey {
        /// PEM file.
        file: PathBuf,
        /// The kid that the provider knows.
        kid: Option<String>,
    },
    /// A public client; PKCE alone.
    None,
}

/// When to ask the UserInfo endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserInfo {
    /// At every sign-in and refresh.
    Always,
    /// When e-mail or the groups claim is missing from the ID token.
    WhenNeeded,
    /// Not at all.
    Never,
}

pub(super) fn read(place: Place<'_>, server: &Server) -> Auth {
    let enabled = place.flag("enterprise.auth.enabled");
    // Behind a proxy, or under a public name, "only this machine" would no longer be true.
    let outside = !server.public_url.host_str().is_some_and(is_loopback_host) || !server.trusted_proxies.is_empty();
    if !enabled && (!server.is_on_loopback() || outside || !server.allowed_hosts.is_empty()) {
        let expected =
            "false is accepted only while server.host and public_url are on loopback, without proxies or other hosts";
        place.fault("enterprise.auth.enabled", expected);
    }
    let roles = read_roles(place);
    let providers = read_providers(place);
    let duration = |key: &str| place.duration(key).unwrap_or_default();
    let days = |key: &str| place.number::<u32>(key).filter(|d| *d > 0);
    if let (Some(default), Some(most)) =
        (days("enterprise.tokens.default_expiration_days"), days("enterprise.tokens.max_expiration_days"))
        && default > most
    {
        place.fault("enterprise.tokens.default_expiration_days", format!("is more than max_expiration_days ({most})"));
    }
    Auth {
        enabled,
        sessions: SessionLimits {
            idle: duration("enterprise.sessions.idle"),
            absolute: duration("enterprise.sessions.absolute"),
            fresh: duration("enterprise.sessions.fresh"),
        },
        lifetimes: LifetimeRule {
            default_days: days("enterprise.tokens.default_expiration_days"),
            max_days: days("enterprise.tokens.max_expiration_days"),
        },
        max_active_per_user: place.number("enterprise.tokens.max_active_per_user").unwrap_or(10),
        rules: read_rules(place, &roles, &providers),
        issuers: workloads::read(place, server, &roles, &providers),
        preshared_keys: psk::read(place, &roles),
        default_role: read_default_role(place, &roles),
        allowed_email_domains: place.list("enterprise.rbac.allowed_email_domains"),
        roles,
        providers,
    }
}

fn read_roles(place: Place<'_>) -> Roles {
    const KEY: &str = "enterprise.rbac.roles";
    let mut roles = Roles::default();
    for (name, node) in place.named(KEY) {
        let key = format!("{KEY}.{name}.scopes");
        // The name is the operator's own and may hold dots, so it cannot be part of a path.
        let scopes =
            place.below(node).list("scopes").iter().map(|s| s.parse::<Scope>()).collect::<Result<ScopeSet, _>>();
        match (name.parse::<RoleName>(), scopes) {
            (Err(e), _) => place.fault(KEY, format!("{name:?}: {e}")),
            (_, Err(e)) => place.fault(&key, e.to_string()),
            (_, Ok(scopes)) if scopes.is_empty() => place.fault(&key, "must name at least one scope"),
            (Ok(role), Ok(scopes)) => {
                if !roles.define(role, scopes) {
                    place.fault(KEY, format!("{name} is built in and keeps its meaning; choose another name"));
                }
            }
        }
    }
    roles
}

fn read_default_role(place: Place<'_>, roles: &Roles) -> Option<String> {
    let role = place.text("enterprise.rbac.default_role").filter(|r| r != "none")?;
    if roles.scopes_of(&role).is_none() {
        place.fault(
            "enterprise.rbac.default_role",
            format!("{role:?} is not a role; roles are {}, or none", roles.listing()),
        );
    }
    Some(role)
}

const MAPPING: &str = "enterprise.rbac.oidc_role_mapping";

fn read_rules(place: Place<'_>, known: &Roles, providers: &[Provider]) -> Vec<Rule> {
    let mut rules: Vec<Rule> = place
        .entries("enterprise.rbac.rules", "enterprise.rbac.rules[]")
        .into_iter()
        .filter_map(|entry| read_rule(entry, known, providers))
        .collect();
    for (value, role) in place.pairs(MAPPING) {
        if known.scopes_of(&role).is_none() {
            place.fault(MAPPING, format!("{role:?} is not a role; known are {}", known.listing()));
        }
        if value.contains('@') {
            rules.push(Rule { condition: Condition::Email(value), role, provider: None });
            continue;
        }
        // Each provider has its own groups claim, so each gets its own rule.
        rules.extend(providers.iter().map(|provider| Rule {
            condition: Condition::Claim(provider.groups_claim.clone(), value.clone().into()),
            role: role.clone(),
            provider: Some(provider.id.clone()),
        }));
    }
    rules
}

fn read_rule(entry: Place<'_>, roles: &Roles, providers: &[Provider]) -> Option<Rule> {
    let claim = entry.text("claim").map(|c| ClaimPath::new(&c));
    let condition = match (claim, entry.typed("value"), entry.text("email"), entry.text("email_domain")) {
        (Some(path), Some(value), None, None) => Condition::Claim(path, value),
        (None, None, Some(email), None) => Condition::Email(email),
        (None, None, None, Some(domain)) => Condition::EmailDomain(domain),
        _ => {
            entry.fault("role", "a rule has claim and value, or email, or email_domain");
            return None;
        }
    };
    let role = entry.required("role");
    if roles.scopes_of(&role).is_none() {
        entry.fault("role", format!("{role:?} is not a role; roles are {}", roles.listing()));
    }
    let provider = entry.text("provider");
    if provider.as_ref().is_some_and(|id| !providers.iter().any(|p| p.id == *id)) {
        entry.fault("provider", "is not the id of a provider under enterprise.auth.oidc");
    }
    Some(Rule { condition, role, provider })
}

fn read_providers(place: Place<'_>) -> Vec<Provider> {
    let mut seen = BTreeSet::new();
    let entries = place.entries("enterprise.auth.oidc", "enterprise.auth.oidc[]");
    let mut read = |entry: Place<'_>| {
        let provider = read_provider(entry);
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if provider.id.len() > 32 || provider.id == "local" || !provider.id.bytes().all(fits) {
            entry.fault("id", "expected up to 32 of a-z, 0-9 and -, and not local");
        }
        if !seen.insert(provider.id.clone()) {
            entry.fault("id", format!("{:?} is used by another provider; give each its own id", provider.id));
        }
        provider
    };
    entries.into_iter().map(&mut read).collect()
}

fn read_provider(entry: Place<'_>) -> Provider {
    let issuer = entry.required("issuer");
    let client_id = entry.required("client_id");
    let host = Url::parse(&issuer).ok().and_then(|u| u.host_str().map(str::to_owned)).unwrap_or_default();
    let mut scopes = entry.list("scopes");
    if !scopes.iter().any(|s| s == "openid") {
        scopes.insert(0, "openid".into());
    }
    Provider {
        id: entry.required("id"),
        name: entry.text("name").unwrap_or(host),
        client_auth: read_client_auth(entry),
        audience: entry.text("audience").unwrap_or_else(|| client_id.clone()),
        issuer,
        client_id,
        scopes,
        groups_claim: ClaimPath::new(&entry.required("groups_claim")),
        userinfo: match entry.text("userinfo").as_deref() {
            Some("always") => UserInfo::Always,
            Some("never") => UserInfo::Never,
            _ => UserInfo::WhenNeeded,
        },
        refresh_interval: entry.duration("refresh_interval").unwrap_or(Duration::from_mins(15)),
        max_age: entry.duration("max_age"),
        ca_file: entry.text("ca_file").map(PathBuf::from),
    }
}

fn read_client_auth(entry: Place<'_>) -> ClientAuth {
    let secret = entry.text("client_secret").map(Secret::new);
    let key = entry.text("private_key_file").map(PathBuf::from);
    let kid = entry.text("private_key_id");
    let asked = entry.text("client_auth");
    match (asked.as_deref(), secret, key) {
        (Some("client_secret_post"), Some(secret), _) => ClientAuth::Post(secret),
        (Some("client_secret_basic") | None, Some(secret), None) => ClientAuth::Basic(secret),
        (Some("private_key_jwt") | None, None, Some(file)) => ClientAuth::PrivateKey { file, kid },
        (Some("none") | None, None, None) => ClientAuth::None,
        (Some("client_secret_post" | "client_secret_basic"), None, _) => {
            entry.fault("client_secret", "must be set for this client_auth");
            ClientAuth::None
        }
        (Some("private_key_jwt"), _, None) => {
            entry.fault("private_key_file", "must be set for private_key_jwt");
            ClientAuth::None
        }
        _ => {
            entry.fault("client_auth", "set either client_secret or private_key_file, as client_auth says");
            ClientAuth::None
        }
    }
}
