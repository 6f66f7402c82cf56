//! What a client certificate says of its holder, and the rules that say what such a holder may do.

use std::sync::Arc;

use super::{
    dns::{DomainName, DomainPattern},
    scope::ScopeSet,
};

/// The names in a certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// URIs among the subject alternative names.
    pub uris: Vec<String>,
    /// Host names among them, as written.
    pub dns: Vec<String>,
    /// The one common name of the subject.
    pub common_name: Option<String>,
}

impl Names {
    /// The common name, where it counts: only in a certificate that names nobody in a better place (RFC 6125 §6.4.4).
    fn lone_common_name(&self) -> Option<&str> {
        self.common_name.as_deref().filter(|_| self.uris.is_empty() && self.dns.is_empty())
    }

    /// `URI:spiffe://a/b, DNS:c`, or `CN=d`; empty without any.
    pub fn listing(&self) -> String {
        let named = |kind: &str, name: &String| format!("{kind}{name}");
        let uris = self.uris.iter().map(|uri| named("URI:", uri));
        let dns = self.dns.iter().map(|name| named("DNS:", name));
        let all: Vec<String> = uris.chain(dns).collect();
        match self.lone_common_name() {
            Some(name) => format!("CN={name}"),
            None => all.join(", "),
        }
    }
}

/// A name that a rule asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamePattern {
    /// A URI, exactly.
    Uri(String),
    /// A URI below this one, which ends in `/`.
    UriBelow(String),
    /// A host's name.
    Dns(DomainPattern),
    /// The common name, exactly.
    CommonName(String),
}

impl NamePattern {
    /// A URI, or one that ends in `/*` for all below it.
    pub fn uri(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(parent) if parent.ends_with('/') => Self::UriBelow(parent.to_owned()),
            _ => Self::Uri(text.to_owned()),
        }
    }

    /// The name that fits, as the audit log shows it.
    fn found(&self, names: &Names) -> Option<String> {
        let uri = |fits: &dyn Fn(&str) -> bool| names.uris.iter().find(|uri| fits(uri)).map(|uri| format!("URI:{uri}"));
        match self {
            Self::Uri(own) => uri(&|uri| uri == own),
            Self::UriBelow(parent) => uri(&|uri| uri.strip_prefix(parent).is_some_and(is_plain)),
            Self::Dns(pattern) => {
                let domains = names.dns.iter().filter_map(|name| name.parse::<DomainName>().ok());
                domains.into_iter().find(|name| pattern.allows(name)).map(|name| format!("DNS:{name}"))
            }
            Self::CommonName(own) => {
                names.lone_common_name().filter(|name| name == own).map(|name| format!("CN={name}"))
            }
        }
    }
}

/// As the configuration would say it.
impl std::fmt::Display for NamePattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Uri(uri) => write!(f, "URI:{uri}"),
            Self::UriBelow(parent) => write!(f, "URI:{parent}*"),
            Self::Dns(pattern) => write!(f, "DNS:{pattern}"),
            Self::CommonName(name) => write!(f, "CN={name}"),
        }
    }
}

/// Whether a path below a URI leads nowhere else: no empty segments, no dots to walk, nothing encoded.
fn is_plain(path: &str) -> bool {
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '/');
    path.chars().all(sound) && path.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
}

/// What the holder of a certificate may do.
#[derive(Debug, Clone)]
pub struct CertificateRule {
    /// The name that it asks for.
    pub pattern: NamePattern,
    /// What to call the holder; else the name that fits.
    pub name: Option<String>,
    /// The role, if it was given by name.
    pub role: Option<String>,
    /// What the holder may do.
    pub scopes: ScopeSet,
    /// For which domains the holder may have certificates.
    pub domains: Arc<[DomainPattern]>,
}

/// The first rule that a certificate fits, and the name that does.
pub fn first_match<'r>(rules: &'r [CertificateRule], names: &Names) -> Option<(&'r CertificateRule, String)> {
    rules.iter().find_map(|rule| Some((rule, rule.pattern.found(names)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(uris: &[&str], dns: &[&str], cn: Option<&str>) -> Names {
        let own = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
        Names { uris: own(uris), dns: own(dns), common_name: cn.map(str::to_owned) }
    }

    #[test]
    fn a_common_name_counts_whole_and_only_where_nothing_better_is_named() {
        let rule = NamePattern::CommonName("loki-backoffice".into());
        assert_eq!(rule.found(&names(&[], &[], Some("loki-backoffice"))).unwrap(), "CN=loki-backoffice");
        for other in ["loki-backoffice2", "xloki-backoffice", "Loki-Backoffice", "loki-backoffice ", ""] {
            assert_eq!(rule.found(&names(&[], &[], Some(other))), None, "{other:?}");
        }
        assert_eq!(rule.found(&names(&[], &["a.example"], Some("loki-backoffice"))), None);
        assert_eq!(rule.found(&names(&["spiffe://a/b"], &[], Some("loki-backoffice"))), None);
    }

    #[test]
    fn a_uri_below_another_leads_nowhere_else() {
        let rule = NamePattern::uri("spiffe://example/ci/*");
        for good in ["spiffe://example/ci/a", "spiffe://example/ci/a/b-1.x"] {
            assert_eq!(rule.found(&names(&[good], &[], None)).unwrap(), format!("URI:{good}"));
        }
        for wrong in [
            "spiffe://example/ci/",
            "spiffe://example/ci",
            "spiffe://example/cix/a",
            "spiffe://example/ci/../admin",
            "spiffe://example/ci/a/./b",
            "spiffe://example/ci//a",
            "spiffe://example/ci/%2e%2e/admin",
            "spiffe://example/ci/a?b",
            "spiffe://EXAMPLE/ci/a",
        ] {
            assert_eq!(rule.found(&names(&[wrong], &[], None)), None, "{wrong}");
        }
        assert_eq!(NamePattern::uri("spiffe://a/*b"), NamePattern::Uri("spiffe://a/*b".into()));
    }

    #[test]
    fn a_wildcard_in_a_certificate_is_no_name_of_a_client() {
        let rule = NamePattern::Dns("*.ci.example".parse().unwrap());
        assert_eq!(rule.found(&names(&[], &["Build.CI.example"], None)).unwrap(), "DNS:build.ci.example");
        assert_eq!(rule.found(&names(&[], &["*.ci.example"], None)), None);
        assert_eq!(rule.found(&names(&[], &["ci.example", "ci.example.evil"], None)), None);
    }
}
