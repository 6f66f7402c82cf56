//! What a review of rights asks: who may do what at present.

use super::{Store, StoreError, statements::statements};
use crate::domain::{person::PersonId, scope::ScopeSet, time::Moment};

statements! {
    /// People with their latest session, one that has not ended before one that has.
    PEOPLE = "SELECT p.id, p.name, p.email, p.subject, s.role, s.scopes, s.rule, s.provider, s.signed_in_at, \
         s.last_seen_at, s.ended_at FROM people p LEFT JOIN sessions s ON s.id = (SELECT l.id FROM sessions l \
         WHERE l.person = p.id ORDER BY CASE WHEN l.ended_at IS NULL THEN 0 ELSE 1 END, l.signed_in_at DESC, l.id DESC LIMIT 1) \
         WHERE p.id > $1 ORDER BY p.id LIMIT $2";
}

row! {
    PersonRow {
        id: String, name: Option<String>, email: Option<String>, subject: String, role: Option<String>,
        scopes: Option<String>, rule: Option<String>, provider: Option<String>, signed_in_at: Option<i64>,
        last_seen_at: Option<i64>, ended_at: Option<i64>,
    }
}

/// Somebody, and what their latest session says of them.
#[derive(Debug, Clone)]
pub struct PersonWithRights {
    /// Who.
    pub id: PersonId,
    /// What to call them.
    pub name: String,
    /// Their address.
    pub email: Option<String>,
    /// As of their latest session; `None` when that is forgotten.
    pub latest: Option<LatestSession>,
}

/// A session as far as it says what somebody may do.
#[derive(Debug, Clone)]
pub struct LatestSession {
    /// The role.
    pub role: String,
    /// What it gave.
    pub scopes: ScopeSet,
    /// Why.
    pub rule: String,
    /// The provider that vouched.
    pub provider: String,
    /// When it began.
    pub signed_in_at: Moment,
    /// When it was last used.
    pub last_seen_at: Moment,
    /// When it was ended.
    pub ended_at: Option<Moment>,
}

impl PersonRow {
    fn read(self) -> Result<PersonWithRights, StoreError> {
        let latest = match (self.role, self.scopes, self.signed_in_at, self.last_seen_at) {
            (Some(role), Some(scopes), Some(began), Some(seen)) => Some(LatestSession {
                role,
                scopes: scopes.parse().map_err(|_| StoreError::Damaged("a session's scopes"))?,
                rule: self.rule.unwrap_or_default(),
                provider: self.provider.unwrap_or_default(),
                signed_in_at: Moment::from_millis(began),
                last_seen_at: Moment::from_millis(seen),
                ended_at: self.ended_at.map(Moment::from_millis),
            }),
            _ => None,
        };
        let name = self.name.or_else(|| self.email.clone()).unwrap_or(self.subject);
        let id = self.id.parse().map_err(|_| StoreError::Damaged("a person's id"))?;
        Ok(PersonWithRights { id, name, email: self.email, latest })
    }
}

impl Store {
    /// People behind an id, in the order of their ids, each with their latest session.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn people_with_rights(&self, after: &str, limit: i64) -> Result<Vec<PersonWithRights>, StoreError> {
        let rows: Vec<PersonRow> =
            on_db!(&self.db, pool => sqlx::query_as(PEOPLE).bind(after).bind(limit).fetch_all(pool).await?);
        rows.into_iter().map(PersonRow::read).collect()
    }
}
