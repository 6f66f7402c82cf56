//! What changes sessions: opened with their sign-in's event, ended one or many, refreshed, seen, forgotten.

use super::{
    END_OF_PERSON, END_OF_SID, END_OF_SID_AND_SUBJECT, END_OF_SUBJECT, END_ONE, FORGET, LEASE, OPEN, REFRESHED, TOUCH,
    TRY_AGAIN, groups_text,
};
use crate::{
    domain::{
        event::{EventName, NewEvent, Outcome},
        person::{Person, PersonId},
        scope::ScopeSet,
        session::{Session, SessionId},
        time::Moment,
    },
    store::{Act, Batch, StoreError, people},
};

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
