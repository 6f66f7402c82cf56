//! Who is calling, and the permit that only the check can make.
//!
//! An action takes a [`Caller<R>`]. The only way to one is [`Identity::acting_as`], so an action that
//! needs a right cannot be called unchecked: it would not compile (law 1).

use std::{marker::PhantomData, sync::Arc, time::Duration};

use super::{
    client_certificate::CertificateRule,
    dns::{DomainName, DomainPattern},
    event::{Actor, ActorKind},
    scope::{Scope, ScopeSet, ScopesInUse},
    session::{Session, SessionId},
    time::Moment,
    token::{Token, TokenId},
};

/// By what somebody proved who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// The session cookie of a signed-in browser.
    Session {
        /// The session's public id.
        id: SessionId,
        /// When the person last proved who they are.
        proven_at: Moment,
    },
    /// A `loki_` token.
    Token(TokenId),
    /// A client certificate; the SHA-256 of it in hexadecimal.
    Certificate(Arc<str>),
    /// A signed token of a configured issuer.
    Workload(Arc<Workload>),
    /// A pre-shared key, by its name.
    PresharedKey(Arc<str>),
    /// The command line on the machine that holds the database.
    Terminal,
}

/// What is known of a token of a configured issuer, beside who it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// The public name of this very token: the beginning of the SHA-256 of what is signed, in hexadecimal digits.
    pub id: String,
    /// The short name of its issuer.
    pub issuer: String,
    /// The rule that let it in.
    pub rule: String,
    /// By what it is known whether it was exchanged before: its issuer and `jti`, or what is signed.
    pub once: String,
    /// How long a `loki_` token lives for which it is exchanged.
    pub exchange_life: Duration,
    /// What is known of where it comes from: repository, run, commit.
    pub provenance: Vec<(&'static str, String)>,
}

impl Credential {
    /// One word, for `/api/me` and metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Session { .. } => "session",
            Self::Token(_) => "token",
            Self::Certificate(_) => "certificate",
            Self::Workload(_) => "workload",
            Self::PresharedKey(_) => "psk",
            Self::Terminal => "terminal",
        }
    }
}

/// What a page, a header or an assertion says of a person.
#[derive(Debug, Clone)]
pub struct Profile {
    /// What to call them.
    pub name: String,
    /// Their address.
    pub email: Option<String>,
    /// Whether the provider vouches for the address.
    pub email_verified: bool,
    /// `preferred_username`.
    pub username: Option<String>,
}

/// A checked credential turned into somebody.
#[derive(Debug, Clone)]
pub struct Identity {
    /// How the audit log names them.
    pub actor: Actor,
    /// By what they proved it.
    pub credential: Credential,
    /// Their role, if they hold one by name.
    pub role: Option<String>,
    /// What they may do.
    pub scopes: ScopeSet,
    /// When the credential ends by itself.
    pub expires_at: Option<Moment>,
    /// E-mail, when the credential is a person's.
    pub email: Option<String>,
    /// Whether the provider vouches for the address.
    pub email_verified: bool,
    /// What the provider calls the person (`preferred_username`).
    pub username: Option<String>,
    /// The groups that the provider names.
    pub groups: Vec<String>,
    /// For which domains the rule that let them in gives certificates.
    pub domains: Arc<[DomainPattern]>,
    /// What their requests have needed so far.
    pub in_use: ScopesInUse,
}

impl Identity {
    /// The holder of a token.
    pub fn of_token(token: &Token) -> Self {
        Self {
            actor: Actor::new(ActorKind::Token, token.id.as_str(), token.name.as_str()),
            credential: Credential::Token(token.id.clone()),
            role: token.role.clone(),
            scopes: token.scopes,
            expires_at: token.expires_at,
            email: None,
            email_verified: false,
            username: None,
            groups: Vec::new(),
            domains: Arc::default(),
            in_use: ScopesInUse::known(token.used_scopes),
        }
    }

    /// The holder of a client certificate that fits a rule by `name`; `fingerprint` in hexadecimal.
    pub fn of_certificate(rule: &CertificateRule, name: &str, fingerprint: &str, expires_at: Moment) -> Self {
        Self {
            actor: Actor::new(ActorKind::Certificate, name, rule.name.as_deref().unwrap_or(name)),
            credential: Credential::Certificate(fingerprint.into()),
            role: rule.role.clone(),
            scopes: rule.scopes,
            expires_at: Some(expires_at),
            email: None,
            email_verified: false,
            username: None,
            groups: Vec::new(),
            domains: Arc::clone(&rule.domains),
            in_use: ScopesInUse::default(),
        }
    }

    /// Automation that proved itself otherwise than by a token of ours: an id that is its own, and what to call it.
    pub fn of_automation(actor: Actor, credential: Credential, role: Option<String>, scopes: ScopeSet) -> Self {
        Self {
            actor,
            credential,
            role,
            scopes,
            expires_at: None,
            email: None,
            email_verified: false,
            username: None,
            groups: Vec::new(),
            domains: Arc::default(),
            in_use: ScopesInUse::default(),
        }
    }

    /// A signed-in person.
    pub fn of_session(session: &Session, person: Profile, expires_at: Moment) -> Self {
        Self {
            actor: Actor::new(ActorKind::Person, session.person.as_str(), &person.name),
            credential: Credential::Session { id: session.id.clone(), proven_at: session.proven_at },
            role: Some(session.role.clone()),
            scopes: session.scopes,
            expires_at: Some(expires_at),
            email: person.email,
            email_verified: person.email_verified,
            username: person.username,
            groups: session.groups.clone(),
            domains: Arc::default(),
            in_use: ScopesInUse::default(),
        }
    }

    /// Whoever can open the database on its own machine: all scopes, as they could write to it anyway.
    pub fn at_the_terminal(user: &str) -> Self {
        Self {
            actor: Actor::new(ActorKind::Terminal, "local", user),
            credential: Credential::Terminal,
            role: None,
            scopes: ScopeSet::of(&[Scope::All]),
            expires_at: None,
            email: None,
            email_verified: false,
            username: None,
            groups: Vec::new(),
            domains: Arc::default(),
            in_use: ScopesInUse::default(),
        }
    }

    /// Whether the rule that let them in gives certificates for this domain.
    pub fn may_have(&self, domain: &DomainName) -> bool {
        self.domains.iter().any(|pattern| pattern.allows(domain))
    }

    /// The address, if the provider vouches for it.
    pub fn verified_email(&self) -> Option<&str> {
        self.email.as_deref().filter(|_| self.email_verified)
    }

    /// The permit for `R`, if this identity may have it.
    ///
    /// # Errors
    /// [`Refusal`] names what is missing.
    pub fn acting_as<R: Right>(self: Arc<Self>) -> Result<Caller<R>, Refusal> {
        let enough = match R::NEEDS {
            Access::Open | Access::Credential => true,
            Access::Person => matches!(self.credential, Credential::Session { .. }),
            Access::Scope(scope) => self.scopes.allows(scope),
        };
        if enough { Ok(Caller { identity: self, right: PhantomData }) } else { Err(Refusal { needs: R::NEEDS }) }
    }
}

/// What a door asks of whoever comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing: open to all.
    Open,
    /// Any valid credential.
    Credential,
    /// A signed-in browser.
    Person,
    /// A credential that holds this scope or one that implies it.
    Scope(Scope),
}

/// Something that can be permitted. Implemented by the empty types below only.
pub trait Right: 'static {
    /// What it asks for.
    const NEEDS: Access;
}

macro_rules! rights {
    ($($(#[$doc:meta])* $name:ident = $needs:expr;)+) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy)]
            pub enum $name {}

            impl Right for $name {
                const NEEDS: Access = $needs;
            }
        )+
    };
}

rights! {
    /// To learn who one is.
    Known = Access::Credential;
    /// To act on one's own account and tokens in the browser.
    SignedIn = Access::Person;
    /// To see what runs.
    ReadState = Access::Scope(Scope::Read);
    /// To make and change tasks.
    WriteState = Access::Scope(Scope::Write);
    /// To start, stop, pause and resume runs.
    ControlRuns = Access::Scope(Scope::Control);
    /// To read and verify the audit log.
    ReadAudit = Access::Scope(Scope::Audit);
    /// To take entries that are too old out of the audit log.
    ManageAudit = Access::Scope(Scope::All);
    /// To make, list, rotate and revoke anybody's tokens.
    ManageTokens = Access::Scope(Scope::All);
    /// To have somebody else's token explained.
    ExplainTokens = Access::Scope(Scope::All);
    /// To see people and end their sessions.
    ManagePeople = Access::Scope(Scope::All);
    /// To have certificates issued for domains that a rule gives them.
    TakeCertificates = Access::Scope(Scope::Write);
    /// To see and revoke issued certificates.
    ManageCertificates = Access::Scope(Scope::All);
    /// To see and rotate our signing keys.
    ManageKeys = Access::Scope(Scope::All);
}

/// Somebody who may do `R`. Only [`Identity::acting_as`] makes one.
#[derive(Debug)]
pub struct Caller<R> {
    identity: Arc<Identity>,
    right: PhantomData<R>,
}

impl<R> Caller<R> {
    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Who it is, to keep.
    pub fn shared(&self) -> Arc<Identity> {
        Arc::clone(&self.identity)
    }
}

/// The identity is known but may not do this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// What would have been enough.
    pub needs: Access,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(scopes: &[Scope]) -> Arc<Identity> {
        let mut identity = Identity::at_the_terminal("ann");
        identity.scopes = ScopeSet::of(scopes);
        Arc::new(identity)
    }

    #[test]
    fn a_permit_is_given_for_a_held_or_implied_scope_only() {
        assert!(holding(&[Scope::Control]).acting_as::<ReadState>().is_ok());
        assert!(holding(&[Scope::Audit]).acting_as::<ReadState>().is_err());
        assert!(holding(&[Scope::Control]).acting_as::<ReadAudit>().is_err());
        assert!(holding(&[Scope::All]).acting_as::<ReadAudit>().is_ok());
        assert!(holding(&[]).acting_as::<Known>().is_ok());
    }

    #[test]
    fn only_a_browser_session_is_a_person() {
        let refused = holding(&[Scope::All]).acting_as::<SignedIn>().unwrap_err();
        assert_eq!(refused.needs, Access::Person);
    }
}
