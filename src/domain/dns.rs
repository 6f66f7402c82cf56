//! Names of hosts, and patterns that say which of them somebody may have a certificate for.

use std::{fmt, str::FromStr};

/// A host's name in lower case: labels of letters, digits and hyphens (RFC 1123 §2.1). Never an address, never
/// with a wildcard.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DomainName(String);

/// The text is no host's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotADomainName {
    /// Too long, or nothing at all.
    #[error("a domain has 1 to 253 characters")]
    Length,
    /// A label is empty, too long, or begins or ends with a hyphen.
    #[error("each label of a domain has 1 to 63 characters and neither begins nor ends with a hyphen")]
    Label,
    /// Something else than letters, digits, hyphens and dots.
    #[error("a domain holds letters, digits, hyphens and dots; write an international one with xn--")]
    Character,
    /// A wildcard.
    #[error("a certificate is made for one name; wildcards are not issued")]
    Wildcard,
    /// An address.
    #[error("expected a domain such as app.example.com, not an IP address")]
    Address,
}

impl DomainName {
    /// The name in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it lies below `parent`, at any depth.
    pub fn is_below(&self, parent: &Self) -> bool {
        self.0.strip_suffix(parent.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
    }
}

impl FromStr for DomainName {
    type Err = NotADomainName;

    fn from_str(text: &str) -> Result<Self, NotADomainName> {
        if text.is_empty() || text.len() > 253 {
            return Err(NotADomainName::Length);
        }
        if text.contains('*') {
            return Err(NotADomainName::Wildcard);
        }
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
        if text.parse::<std::net::IpAddr>().is_ok() {
            return Err(NotADomainName::Address);
        }
        if !text.bytes().all(fits) {
            return Err(NotADomainName::Character);
        }
        let sound = |label: &str| (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-');
        if !text.split('.').all(sound) {
            return Err(NotADomainName::Label);
        }
        // No top-level domain is a number; `1.2.3` and `0x7f` are read as addresses by some.
        let last = text.rsplit('.').next().unwrap_or_default();
        if last.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(NotADomainName::Address);
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which names: one, all below another at any depth (`*.example.com`, not `example.com` itself), or every one (`*`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DomainPattern {
    /// This name.
    Exactly(DomainName),
    /// Every name below this one.
    Below(DomainName),
    /// Every name.
    Any,
}

impl DomainPattern {
    /// Whether it takes in a name.
    pub fn allows(&self, name: &DomainName) -> bool {
        match self {
            Self::Exactly(own) => own == name,
            Self::Below(parent) => name.is_below(parent),
            Self::Any => true,
        }
    }

    /// Whether it takes in every name that another one does.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Any) => false,
            (_, Self::Exactly(name)) => self.allows(name),
            (Self::Below(own), Self::Below(parent)) => own == parent || parent.is_below(own),
            (Self::Exactly(_), Self::Below(_)) => false,
        }
    }
}

impl FromStr for DomainPattern {
    type Err = NotADomainName;

    fn from_str(text: &str) -> Result<Self, NotADomainName> {
        match text.strip_prefix("*.") {
            _ if text == "*" => Ok(Self::Any),
            Some(parent) => parent.parse().map(Self::Below),
            None => text.parse().map(Self::Exactly),
        }
    }
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(name) => name.fmt(f),
            Self::Below(parent) => write!(f, "*.{parent}"),
            Self::Any => f.write_str("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_letters_digits_and_hyphens_in_labels() {
        for good in
            ["example.com", "a.b.c.example", "backend", "xn--bcher-kva.example", "1password.example", "A.Example"]
        {
            assert_eq!(good.parse::<DomainName>().unwrap().as_str(), good.to_ascii_lowercase());
        }
        for (wrong, why) in [
            ("", NotADomainName::Length),
            (&"a.".repeat(127), NotADomainName::Length),
            ("*.example.com", NotADomainName::Wildcard),
            ("bücher.example", NotADomainName::Character),
            ("a_b.example", NotADomainName::Character),
            ("https://example.com", NotADomainName::Character),
            ("example.com:443", NotADomainName::Character),
            ("a b", NotADomainName::Character),
            ("a\0.example", NotADomainName::Character),
            ("example.com.", NotADomainName::Label),
            (".example.com", NotADomainName::Label),
            ("a..b", NotADomainName::Label),
            ("-a.example", NotADomainName::Label),
            ("a-.example", NotADomainName::Label),
            (&format!("{}.example", "a".repeat(64)), NotADomainName::Label),
            ("127.0.0.1", NotADomainName::Address),
            ("::1", NotADomainName::Address),
            ("127.1", NotADomainName::Address),
            ("0x7f000001", NotADomainName::Address),
        ] {
            assert_eq!(wrong.parse::<DomainName>(), Err(why), "{wrong:?}");
        }
    }

    #[test]
    fn a_pattern_takes_in_any_depth_below_but_not_the_parent_nor_a_neighbour() {
        let allows =
            |pattern: &str, name: &str| pattern.parse::<DomainPattern>().unwrap().allows(&name.parse().unwrap());
        assert!(allows("*.example.com", "a.example.com") && allows("*.example.com", "a.b.example.com"));
        for other in ["example.com", "aexample.com", "example.com.evil.example", "xexample.com"] {
            assert!(!allows("*.example.com", other), "{other}");
        }
        assert!(allows("Example.com", "example.COM") && !allows("example.com", "a.example.com"));
        assert!(allows("*", "anything.example"));
        for wrong in ["*.", "**.a", "a.*", "*a.example", "a.*.example", ""] {
            assert!(wrong.parse::<DomainPattern>().is_err(), "{wrong}");
        }
    }
}
