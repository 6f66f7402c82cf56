//! People who have signed in, and identifiers that may be used once.

use super::{Store, StoreError, dialect::Conn, statements::statements};
use crate::domain::{
    ledger::storable,
    person::{Person, PersonId},
    time::Moment,
};

statements! {
    /// Writes down what a provider says of somebody; who is known keeps their id.
    REMEMBER = "INSERT INTO people (id, issuer, subject, email, email_verified, name, first_seen_at, last_seen_at, username) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8) ON CONFLICT (issuer, subject) DO UPDATE SET email = excluded.email, \
         email_verified = excluded.email_verified, name = excluded.name, username = excluded.username, last_seen_at = excluded.last_seen_at RETURNING id";
    /// One person.
    BY_ID = "SELECT id, issuer, subject, email, email_verified, name, first_seen_at, last_seen_at, username FROM people WHERE id = $1";
    /// By address or public id, latest sign-in first.
    NAMED = "SELECT id, issuer, subject, email, email_verified, name, first_seen_at, last_seen_at, username FROM people \
         WHERE id = $1 OR lower(email) = lower($1) ORDER BY last_seen_at DESC LIMIT 2";
    /// A page of people, latest sign-in first.
    PAGE = "SELECT id, issuer, subject, email, email_verified, name, first_seen_at, last_seen_at, username FROM people \
         WHERE last_seen_at < $1 OR (last_seen_at = $1 AND id < $2) ORDER BY last_seen_at DESC, id DESC LIMIT $3";
    /// Takes an identifier that may be used once.
    TAKE = "INSERT INTO once (kind, id, expires_at) VALUES ($1, $2, $3) ON CONFLICT (kind, id) DO NOTHING";
    /// Whether an identifier was taken.
    TAKEN = "SELECT COUNT(*) FROM once WHERE kind = $1 AND id = $2";
    /// Forgets those that could not be used any more anyway.
    FORGET = "DELETE FROM once WHERE expires_at < $1";
}

row! {
    PersonRow {
        id: String, issuer: String, subject: String, email: Option<String>, email_verified: i64, name: Option<String>,
        first_seen_at: i64, last_seen_at: i64, username: Option<String>,
    }
}

impl PersonRow {
    fn read(self) -> Result<Person, StoreError> {
        Ok(Person {
            id: self.id.parse().map_err(|_| StoreError::Damaged("a person's id"))?,
            issuer: self.issuer,
            subject: self.subject,
            email: self.email,
            email_verified: self.email_verified == 1,
            name: self.name,
            username: self.username,
            first_seen_at: Moment::from_millis(self.first_seen_at),
            last_seen_at: Moment::from_millis(self.last_seen_at),
        })
    }
}

/// Writes `person` down and answers the id under which they are known.
pub(super) async fn remember(conn: &mut Conn, person: &Person) -> Result<PersonId, StoreError> {
    let id: String = on_conn!(conn, conn => sqlx::query_scalar(REMEMBER)
        .bind(person.id.as_str())
        .bind(&person.issuer)
        .bind(&person.subject)
        .bind(person.email.clone().map(storable))
        .bind(i64::from(person.email_verified))
        .bind(person.name.clone().map(storable))
        .bind(person.last_seen_at.millis())
        .bind(person.username.clone().map(storable))
        .fetch_one(conn)
        .await?);
    id.parse().map_err(|_| StoreError::Damaged("a person's id"))
}

/// Takes an identifier that may be used once; `false` when it was taken before.
pub(super) async fn take(conn: &mut Conn, kind: &str, id: &str, expires_at: Moment) -> Result<bool, StoreError> {
    let taken = on_conn!(conn, conn => sqlx::query(TAKE)
        .bind(kind).bind(id).bind(expires_at.millis()).execute(conn).await?.rows_affected());
    Ok(taken == 1)
}

/// Forgets identifiers that expired.
pub(super) async fn forget(conn: &mut Conn, now: Moment) -> Result<(), StoreError> {
    on_conn!(conn, conn => { sqlx::query(FORGET).bind(now.millis()).execute(conn).await?; });
    Ok(())
}

impl Store {
    /// One person.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn person(&self, id: &PersonId) -> Result<Option<Person>, StoreError> {
        let row: Option<PersonRow> =
            on_db!(&self.db, pool => sqlx::query_as(BY_ID).bind(id.as_str()).fetch_optional(pool).await?);
        row.map(PersonRow::read).transpose()
    }

    /// The people of this address or public id, at most two.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn people_named(&self, name: &str) -> Result<Vec<Person>, StoreError> {
        let rows: Vec<PersonRow> = on_db!(&self.db, pool => sqlx::query_as(NAMED).bind(name).fetch_all(pool).await?);
        rows.into_iter().map(PersonRow::read).collect()
    }

    /// Whether a sign-in was finished before.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn is_finished(&self, sign_in: &str) -> Result<bool, StoreError> {
        let taken: i64 =
            on_db!(&self.db, pool => sqlx::query_scalar(TAKEN).bind("sign-in").bind(sign_in).fetch_one(pool).await?);
        Ok(taken > 0)
    }

    /// A page of people, latest sign-in first.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn people(&self, before: Option<&(Moment, PersonId)>, limit: i64) -> Result<Vec<Person>, StoreError> {
        let (at, id) = before.map_or((i64::MAX, ""), |(at, id)| (at.millis(), id.as_str()));
        let rows: Vec<PersonRow> =
            on_db!(&self.db, pool => sqlx::query_as(PAGE).bind(at).bind(id).bind(limit).fetch_all(pool).await?);
        rows.into_iter().map(PersonRow::read).collect()
    }
}
