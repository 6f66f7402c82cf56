//! Browser sessions: opened with their sign-in's event, found by the cookie's digest, ended one or many.

use super::{Act, Batch, Store, StoreError, people, statements::statements};
use crate::domain::{
    event::{EventName, NewEvent, Outcome},
    identity::Profile,
    ledger::storable,
    person::{Person, PersonId},
    scope::ScopeSet,
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

/// Signs somebody in: the person, the session, the state's single use and the event in one.
#[derive(Debug)]
pub struct Open {
    /// Who, with the id to use if they are new.
    pub person: Person,
    /// The session; its person is filled in from what the people table says.
    pub session: Session,
    /// The digest of what its cookie holds.
    pub digest: [u8; 32],
    /// The digest of what the cookie of other apps holds.
    pub door_digest: [u8; 32],
    /// The provider's tokens, sealed.
    pub sealed: Option<Vec<u8>>,
    /// The session that this browser had before, which ends.
    pub replaces: Option<SessionId>,
    /// The identifier of the sign-in, used up by it.
    pub once: (String, Moment),
    /// What to record; the actor's id is filled in.
    pub event: NewEvent,
}

impl Act for Open {
    /// The person's id, or `None` when this sign-in was finished before.
    type Output = Option<PersonId>;

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<Option<PersonId>, StoreError> {
        let (id, expires_at) = &self.once;
        if !people::take(batch.conn().await?, "sign-in", id, *expires_at).await? {
            return Ok(None);
        }
        let person = people::remember(batch.conn().await?, &self.person).await?;
        if let Some(old) = &self.replaces {
            let at = self.event.time.millis();
            let ended: Vec<(String, String)> = on_conn!(batch.conn().await?, conn =>
                sqlx::query_as(END_ONE).bind(at).bind(old.as_str()).fetch_all(conn).await?);
            for (id, of) in ended {
                let mut event = NewEvent::new(self.event.time, EventName::SessionEnded, self.event.actor.clone());
                event.actor.id = person.to_string();
                event.origin = self.event.origin.clone();
                event = event.because(Outcome::Success, "signed_in_anew");
                batch.record(event.on("session", id).with("person", of));
                batch.right_lost();
            }
        }
        let s = &self.session;
        on_conn!(batch.conn().await?, conn => {
            sqlx::query(OPEN)
                .bind(s.id.as_str())
                .bind(&self.digest[..])
                .bind(person.as_str())
                .bind(&s.provider)
                .bind(&self.person.issuer)
                .bind(s.provider_sid.as_deref())
                .bind(&s.role)
                .bind(s.scopes.to_string())
                .bind(&s.rule)
                .bind(s.signed_in_at.millis())
                .bind(s.proven_at.millis())
                .bind(self.sealed.as_deref())
                .bind(s.ip.as_deref())
                .bind(s.user_agent.as_deref())
                .bind(groups_text(&s.groups))
                .bind(&self.door_digest[..])
                .execute(conn)
                .await?;
        });
        let mut event = self.event.clone();
        event.actor.id = person.to_string();
        batch.record(event);
        Ok(Some(person))
    }
}

/// Which sessions to end.
#[derive(Debug, Clone)]
pub enum Which {
    /// This one.
    One(SessionId),
    /// All of a person.
    OfPerson(PersonId),
    /// Those that a provider's logout token names (OpenID Connect Back-Channel Logout 1.0 §2.4).
    OfProvider {
        /// The issuer.
        issuer: String,
        /// `sub`, if it names one.
        subject: Option<String>,
        /// `sid`, if it names one.
        sid: Option<String>,
    },
}

/// Ends sessions; one event for each.
#[derive(Debug)]
pub struct End {
    /// Which.
    pub which: Which,
    /// An identifier that may be used once (a logout token's `jti`), and until when to remember it.
    pub once: Option<(String, Moment)>,
    /// What to record for each; the resource is filled in.
    pub event: NewEvent,
}

impl Act for End {
    /// Those that were ended by this, or `None` when the identifier was used before.
    type Output = Option<Vec<SessionId>>;

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<Self::Output, StoreError> {
        if let Some((jti, expires_at)) = &self.once
            && !people::take(batch.conn().await?, "logout", jti, *expires_at).await?
        {
            return Ok(None);
        }
        let mut ended = Vec::new();
        for (id, person) in self.end(batch).await? {
            let id: SessionId = id.parse().map_err(|_| StoreError::Damaged("a session's id"))?;
            batch.right_lost();
            batch.record(self.event.clone().on("session", id.as_str()).with("person", person));
            ended.push(id);
        }
        Ok(Some(ended))
    }
}

impl End {
    async fn end(&self, batch: &mut Batch<'_>) -> Result<Vec<(String, String)>, StoreError> {
        let at = self.event.time.millis();
        Ok(on_conn!(batch.conn().await?, conn => match &self.which {
            Which::One(id) => sqlx::query_as(END_ONE).bind(at).bind(id.as_str()).fetch_all(conn).await?,
            Which::OfPerson(person) => sqlx::query_as(END_OF_PERSON).bind(at).bind(person.as_str()).fetch_all(conn).await?,
            Which::OfProvider { issuer, subject: None, sid: Some(sid) } =>
                sqlx::query_as(END_OF_SID).bind(at).bind(issuer).bind(sid).fetch_all(conn).await?,
            Which::OfProvider { issuer, subject: Some(subject), sid: None } =>
                sqlx::query_as(END_OF_SUBJECT).bind(at).bind(issuer).bind(subject).fetch_all(conn).await?,
            Which::OfProvider { issuer, subject: Some(subject), sid: Some(sid) } => sqlx::query_as(END_OF_SID_AND_SUBJECT)
                .bind(at).bind(issuer).bind(subject).bind(sid).fetch_all(conn).await?,
            Which::OfProvider { subject: None, sid: None, .. } => Vec::new(),
        }))
    }
}

/// Lets one request re-read a session's claims. Answers whether it is this one.
#[derive(Debug)]
pub struct Lease {
    /// Which session.
    pub id: SessionId,
    /// The present moment.
    pub now: Moment,
    /// Until when nobody else tries.
    pub until: Moment,
    /// The age of the claims that are to be read again: who saw older ones comes too late.
    pub claims_at: Moment,
}

impl Act for Lease {
    type Output = bool;

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<bool, StoreError> {
        let (until, now) = (self.until.millis(), self.now.millis());
        let changed = on_conn!(batch.conn().await?, conn => sqlx::query(LEASE)
            .bind(until).bind(self.id.as_str()).bind(now).bind(self.claims_at.millis()).execute(conn).await?.rows_affected());
        Ok(changed == 1)
    }
}

/// Says when a session's claims may be asked for again, after a try that failed.
#[derive(Debug)]
pub struct TryAgain {
    /// Which session.
    pub id: SessionId,
    /// Not before then.
    pub at: Moment,
}

impl Act for TryAgain {
    type Output = ();

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        on_conn!(batch.conn().await?, conn => {
            sqlx::query(TRY_AGAIN).bind(self.at.millis()).bind(self.id.as_str()).execute(conn).await?;
        });
        Ok(())
    }
}

/// Stores what the provider said when it was asked again.
#[derive(Debug)]
pub struct Refreshed {
    /// Which session.
    pub id: SessionId,
    /// The person with their present attributes.
    pub person: Person,
    /// The role that the rules give now.
    pub role: String,
    /// What it grants.
    pub scopes: ScopeSet,
    /// Which rule gave it.
    pub rule: String,
    /// The groups that the provider names now.
    pub groups: Vec<String>,
    /// The provider's new tokens, sealed.
    pub sealed: Option<Vec<u8>>,
    /// When.
    pub at: Moment,
    /// What to record if the role changed.
    pub changed: Option<NewEvent>,
}

impl Act for Refreshed {
    /// Whether the session still lived; otherwise nothing was changed.
    type Output = bool;

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<bool, StoreError> {
        let changed = on_conn!(batch.conn().await?, conn => sqlx::query(REFRESHED)
            .bind(&self.role)
            .bind(self.scopes.to_string())
            .bind(&self.rule)
            .bind(self.at.millis())
            .bind(self.sealed.as_deref())
            .bind(self.id.as_str())
            .bind(groups_text(&self.groups))
            .execute(conn)
            .await?
            .rows_affected());
        if changed == 0 {
            return Ok(false);
        }
        people::remember(batch.conn().await?, &self.person).await?;
        // Whoever holds the session in a cache must read it again, also when only its claims' age changed.
        batch.right_lost();
        if let Some(event) = &self.changed {
            batch.record(event.clone());
        }
        Ok(true)
    }
}

/// When sessions were last seen.
#[derive(Debug)]
pub struct Seen {
    /// Session and moment.
    pub seen: Vec<(SessionId, Moment)>,
}

impl Act for Seen {
    type Output = ();

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        for (id, at) in &self.seen {
            on_conn!(batch.conn().await?, conn => {
                sqlx::query(TOUCH).bind(at.millis()).bind(id.as_str()).execute(conn).await?;
            });
        }
        Ok(())
    }
}

/// Forgets sessions and used-up identifiers that have been over for long.
#[derive(Debug)]
pub struct Sweep {
    /// The present moment.
    pub now: Moment,
    /// Sessions that began before this can only be over.
    pub sessions_before: Moment,
}

impl Act for Sweep {
    type Output = ();

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        people::forget(batch.conn().await?, self.now).await?;
        on_conn!(batch.conn().await?, conn => {
            sqlx::query(FORGET).bind(self.sessions_before.millis()).execute(conn).await?;
        });
        Ok(())
    }
}
