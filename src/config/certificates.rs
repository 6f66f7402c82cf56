//! What holders of client certificates may do, and who may have certificates from our own authority.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{server::Server, values::Place};
use crate::domain::{
    client_certificate::{CertificateRule, NamePattern},
    dns::DomainPattern,
    role::Roles,
    scope::{Scope, ScopeSet},
    token::TokenId,
};

/// Everything about certificates that is not the listener's own.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// Rules for client certificates, in the order in which they are tried.
    pub rules: Vec<CertificateRule>,
    /// The directory with the files of `lokid certs`, if one is set.
    pub dir: Option<PathBuf>,
    /// Who may have certificates for which domains.
    pub allow: Vec<Allowance>,
    /// How long an issued certificate is valid.
    pub lifetime: Duration,
    /// While more than this is left, the same one is handed out again.
    pub renew_before: Duration,
    /// At most one renewal of a domain in this while.
    pub renew_interval: Duration,
}

/// Domains for some callers.
#[derive(Debug, Clone)]
pub struct Allowance {
    /// For these roles, where a rule gave the role.
    pub roles: Vec<String>,
    /// For the holders of these tokens.
    pub tokens: Vec<TokenId>,
    /// Which domains.
    pub domains: Arc<[DomainPattern]>,
}

pub(super) fn read(place: Place<'_>, server: &Server, roles: &Roles) -> Certificates {
    const MTLS: &str = "enterprise.auth.mtls";
    let rules: Vec<CertificateRule> =
        place.entries(MTLS, "enterprise.auth.mtls[]").into_iter().filter_map(|entry| rule(entry, roles)).collect();
    if !rules.is_empty() && server.tls.as_ref().is_none_or(|tls| tls.clients.is_none()) {
        place.fault(MTLS, "no client is asked for a certificate; set server.tls.enabled and server.tls.client_ca");
    }
    let allow = place.entries("certificates.allow", "certificates.allow[]");
    let allow: Vec<Allowance> = allow.into_iter().map(|entry| allowance(entry, roles)).collect();
    let dir = place.text("certs_dir").map(PathBuf::from);
    if !allow.is_empty() && dir.is_none() {
        place.fault("certificates.allow", "there is no authority that could issue any; set certs_dir");
    }
    let duration = |key: &str| place.duration(key).unwrap_or_default();
    let (lifetime, renew_before) = (duration("certificates.lifetime"), duration("certificates.renew_before"));
    if renew_before >= lifetime {
        place.fault("certificates.renew_before", "must be shorter than certificates.lifetime");
    }
    Certificates { rules, dir, allow, lifetime, renew_before, renew_interval: duration("certificates.renew_interval") }
}

fn rule(entry: Place<'_>, roles: &Roles) -> Option<CertificateRule> {
    let named = (entry.text("uri"), entry.text("dns"), entry.text("cn"));
    let pattern = match named {
        (Some(uri), None, None) => NamePattern::uri(&uri),
        (None, Some(dns), None) => NamePattern::Dns(pattern(entry, "dns", &dns)?),
        (None, None, Some(cn)) => NamePattern::CommonName(cn),
        _ => {
            entry.fault("uri", "a rule has one of uri, dns and cn");
            return None;
        }
    };
    if pattern == NamePattern::Dns(DomainPattern::Any) {
        entry.fault("dns", "\"*\" would take every certificate with a host name; name one, or *.example.org");
    }
    let (role, scopes) = granted(entry, roles)?;
    Some(CertificateRule { pattern, name: entry.text("name"), role, scopes, domains: domains(entry) })
}

/// The role, or the scopes; exactly one of them.
fn granted(entry: Place<'_>, roles: &Roles) -> Option<(Option<String>, ScopeSet)> {
    let scopes = entry.list("scopes").iter().map(|scope| scope.parse::<Scope>()).collect::<Result<ScopeSet, _>>();
    match (entry.text("role"), scopes) {
        (_, Err(e)) => entry.fault("scopes", e.to_string()),
        (Some(role), Ok(scopes)) if scopes.is_empty() => match roles.scopes_of(&role) {
            Some(scopes) => return Some((Some(role), scopes)),
            None => entry.fault("role", format!("{role:?} is not a role; roles are {}", roles.listing())),
        },
        (None, Ok(scopes)) if !scopes.is_empty() => return Some((None, scopes)),
        _ => entry.fault("role", "a rule gives a role or scopes"),
    }
    None
}

fn pattern(entry: Place<'_>, key: &str, text: &str) -> Option<DomainPattern> {
    text.parse().map_err(|e| entry.fault(key, format!("{text:?}: {e}"))).ok()
}

pub(super) fn domains(entry: Place<'_>) -> Arc<[DomainPattern]> {
    entry.list("domains").iter().filter_map(|text| pattern(entry, "domains", text)).collect()
}

fn allowance(entry: Place<'_>, known: &Roles) -> Allowance {
    let roles = entry.list("roles");
    if let Some(unknown) = roles.iter().find(|role| known.scopes_of(role).is_none()) {
        entry.fault("roles", format!("there is no role {unknown:?}; there are {}", known.listing()));
    }
    let token = |text: &String| text.parse().map_err(|e| entry.fault("tokens", format!("{text:?}: {e}"))).ok();
    let tokens: Vec<TokenId> = entry.list("tokens").iter().filter_map(token).collect();
    if roles.is_empty() && tokens.is_empty() {
        entry.fault("roles", "it does not say for whom; add roles or tokens");
    }
    let domains = domains(entry);
    if domains.is_empty() {
        entry.fault("domains", "must name at least one domain");
    }
    Allowance { roles, tokens, domains }
}
