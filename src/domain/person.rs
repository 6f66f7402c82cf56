//! People: who an identity provider says somebody is. A person is (`iss`, `sub`); the rest is attributes.

use super::{id::public_id, time::Moment};

public_id!(
    /// The public name of a person: `usr-` and 12 characters.
    PersonId,
    "usr-"
);

/// The issuer of people who sign in without a provider (the one-time administrator link).
pub const LOCAL_ISSUER: &str = "urn:lokid:local";

/// What is known of a person since the last sign-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Our own id of them.
    pub id: PersonId,
    /// Who vouches for them.
    pub issuer: String,
    /// What the issuer calls them, for ever (OpenID Connect Core §2).
    pub subject: String,
    /// Their e-mail address, if one was given.
    pub email: Option<String>,
    /// Whether the issuer says that the address is theirs.
    pub email_verified: bool,
    /// What to call them, if the issuer says so.
    pub name: Option<String>,
    /// What they call themselves at the issuer (`preferred_username`); may change and be taken by another.
    pub username: Option<String>,
    /// When they first signed in.
    pub first_seen_at: Moment,
    /// When they last signed in.
    pub last_seen_at: Moment,
}

impl Person {
    /// What to call them: name, else e-mail, else subject.
    pub fn display_name(&self) -> &str {
        self.name.as_deref().or(self.email.as_deref()).unwrap_or(&self.subject)
    }
}
