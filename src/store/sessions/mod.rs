//! Browser sessions: found by the digest of what a cookie holds, listed, counted; changed by [`acts`].

mod acts;

pub use acts::{End, Lease, Open, Refreshed, Seen, Sweep, TryAgain, Which};

use super::{Store, StoreError, statements::statements};
use crate::domain::{
    identity::Profile,
    ledger::storable,
    person::PersonId,
    session::{Session, SessionId},
    time::Moment,
};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT s.id, s.person, s.provider, s.provider_sid, s.role, s.scopes, s.rule, s.signed_in_at, s.proven_at, s.last_seen_at, ",
            "s.ended_at, s.claims_at, s.ip, s.user_agent, s.group_names, p.name AS person_name, p.email AS person_email, ",
            "p.email_verified, p.username, p.subject AS person_subject FROM sessions s JOIN people p ON p.id = s.person ",
            $rest
        )
    };
}

statements! {
    /// By the digest of what the cookie holds.
    BY_DIGEST = select!("WHERE s.digest = $1");
    /// By the digest of what the cookie of other apps holds.
    BY_DOOR = select!("WHERE s.door_digest = $1");
    /// By public id.
    BY_ID = select!("WHERE s.id = $1");
    /// One person's that have not ended, newest first.
    OF_PERSON = select!("WHERE s.person = $1 AND s.ended_at IS NULL AND s.signed_in_at > $2 AND s.last_seen_at > $3 \
         ORDER BY s.signed_in_at DESC LIMIT 200");
    /// How many have not ended.
    COUNT_LIVE = "SELECT COUNT(*) FROM sessions WHERE ended_at IS NULL AND signed_in_at > $1 AND last_seen_at > $2";
    /// A new one.
    OPEN = "INSERT INTO sessions (id, digest, person, provider, issuer, provider_sid, role, scopes, rule, signed_in_at, \
         proven_at, last_seen_at, claims_at, refresh_until, sealed, ip, user_agent, group_names, door_digest) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $10, $10, 0, $12, $13, $14, $15, $16)";
    /// Ends one.
    END_ONE = "UPDATE sessions SET ended_at = $1, sealed = NULL WHERE id = $2 AND ended_at IS NULL RETURNING id, person";
    /// Ends all of a person.
    END_OF_PERSON = "UPDATE sessions SET ended_at = $1, sealed = NULL WHERE person = $2 AND ended_at IS NULL \
         RETURNING id, person";
    /// Ends those of a provider's session.
    END_OF_SID = "UPDATE sessions SET ended_at = $1, sealed = NULL WHERE issuer = $2 AND provider_sid = $3 AND ended_at IS NULL \
         RETURNING id, person";
    /// Ends those of a provider's subject.
    END_OF_SUBJECT = "UPDATE sessions SET ended_at = $1, sealed = NULL WHERE ended_at IS NULL AND person IN \
         (SELECT id FROM people WHERE issuer = $2 AND subject = $3) RETURNING id, person";
    /// Ends those of a provider's session and subject both.
    END_OF_SID_AND_SUBJECT = "UPDATE sessions SET ended_at = $1, sealed = NULL WHERE issuer = $2 AND provider_sid = $4 \
         AND ended_at IS NULL AND person IN (SELECT id FROM people WHERE issuer = $2 AND subject = $3) RETURNING id, person";
    /// The sealed tokens of the provider.
    SEALED = "SELECT sealed FROM sessions WHERE id = $1 AND ended_at IS NULL";
    /// Lets one request re-read the claims.
    LEASE = "UPDATE sessions SET refresh_until = $1 WHERE id = $2 AND refresh_until <= $3 AND claims_at = $4 AND ended_at IS NULL";
    /// When the next request may try, after one that failed.
    TRY_AGAIN = "UPDATE sessions SET refresh_until = $1 WHERE id = $2 AND ended_at IS NULL";
    /// What the provider said when it was asked again.
    REFRESHED = "UPDATE sessions SET role = $1, scopes = $2, rule = $3, claims_at = $4, refresh_until = 0, sealed = $5, \
         group_names = $7 WHERE id = $6 AND ended_at IS NULL";
    /// The last request; never goes back.
    TOUCH = "UPDATE sessions SET last_seen_at = $1 WHERE id = $2 AND last_seen_at < $1";
    /// Forgets sessions that have been over for long.
    FORGET = "DELETE FROM sessions WHERE signed_in_at < $1";
}

row! {
    SessionRow {
        id: String, person: String, provider: String, provider_sid: Option<String>, role: String, scopes: String,
        rule: String, signed_in_at: i64, proven_at: i64, last_seen_at: i64, ended_at: Option<i64>, claims_at: i64, ip: Option<String>,
        user_agent: Option<String>, group_names: String, person_name: Option<String>, person_email: Option<String>,
        email_verified: i64, username: Option<String>, person_subject: String,
    }
}

/// A session with what is needed to greet its person.
#[derive(Debug, Clone)]
pub struct SessionOfPerson {
    /// The session.
    pub session: Session,
    /// Its person.
    pub profile: Profile,
}

impl SessionRow {
    fn read(self) -> Result<SessionOfPerson, StoreError> {
        let session = Session {
            id: self.id.parse().map_err(|_| StoreError::Damaged("a session's id"))?,
            person: self.person.parse().map_err(|_| StoreError::Damaged("a session's person"))?,
            provider: self.provider,
            provider_sid: self.provider_sid,
            role: self.role,
            scopes: self.scopes.parse().map_err(|_| StoreError::Damaged("a session's scopes"))?,
            rule: self.rule,
            groups: serde_json::from_str(&self.group_names).map_err(|_| StoreError::Damaged("a session's groups"))?,
            signed_in_at: Moment::from_millis(self.signed_in_at),
            proven_at: Moment::from_millis(self.proven_at),
            last_seen_at: Moment::from_millis(self.last_seen_at),
            ended_at: self.ended_at.map(Moment::from_millis),
            claims_at: Moment::from_millis(self.claims_at),
            ip: self.ip,
            user_agent: self.user_agent,
        };
        let name = self.person_name.or_else(|| self.person_email.clone()).unwrap_or(self.person_subject);
        let email_verified = self.email_verified == 1;
        let profile = Profile { name, email: self.person_email, email_verified, username: self.username };
        Ok(SessionOfPerson { session, profile })
    }
}

fn groups_text(groups: &[String]) -> String {
    storable(serde_json::Value::from(groups).to_string())
}

impl Store {
    /// The session of this cookie, over or not.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn session_by_digest(&self, digest: &[u8; 32]) -> Result<Option<SessionOfPerson>, StoreError> {
        let row: Option<SessionRow> =
            on_db!(&self.db, pool => sqlx::query_as(BY_DIGEST).bind(&digest[..]).fetch_optional(pool).await?);
        row.map(SessionRow::read).transpose()
    }

    /// The session of this cookie of other apps, over or not.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn session_by_door(&self, digest: &[u8; 32]) -> Result<Option<SessionOfPerson>, StoreError> {
        let row: Option<SessionRow> =
            on_db!(&self.db, pool => sqlx::query_as(BY_DOOR).bind(&digest[..]).fetch_optional(pool).await?);
        row.map(SessionRow::read).transpose()
    }

    /// The session of this public id.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn session(&self, id: &SessionId) -> Result<Option<SessionOfPerson>, StoreError> {
        let row: Option<SessionRow> =
            on_db!(&self.db, pool => sqlx::query_as(BY_ID).bind(id.as_str()).fetch_optional(pool).await?);
        row.map(SessionRow::read).transpose()
    }

    /// A person's sessions that began after `oldest` and were seen after `idle_since`.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn sessions_of(
        &self,
        person: &PersonId,
        oldest: Moment,
        idle_since: Moment,
    ) -> Result<Vec<SessionOfPerson>, StoreError> {
        let (oldest, idle) = (oldest.millis(), idle_since.millis());
        let rows: Vec<SessionRow> = on_db!(&self.db, pool =>
            sqlx::query_as(OF_PERSON).bind(person.as_str()).bind(oldest).bind(idle).fetch_all(pool).await?);
        rows.into_iter().map(SessionRow::read).collect()
    }

    /// How many sessions are live.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn live_sessions(&self, oldest: Moment, idle_since: Moment) -> Result<i64, StoreError> {
        let (oldest, idle) = (oldest.millis(), idle_since.millis());
        Ok(on_db!(&self.db, pool => sqlx::query_scalar(COUNT_LIVE).bind(oldest).bind(idle).fetch_one(pool).await?))
    }

    /// The provider's tokens of a session, sealed as they were stored.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn sealed_of(&self, id: &SessionId) -> Result<Option<Vec<u8>>, StoreError> {
        let row: Option<Option<Vec<u8>>> =
            on_db!(&self.db, pool => sqlx::query_scalar(SEALED).bind(id.as_str()).fetch_optional(pool).await?);
        Ok(row.flatten())
    }
}
