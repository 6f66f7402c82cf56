//! Tokens: found by digest, made, rotated, revoked, listed. A secret never comes in here, only its digest.

use super::{
    Act, Batch, Store, StoreError,
    dialect::{Conn, Texts, insert_many, pieces, tuples},
    statements::statements,
};
use crate::domain::{
    event::{Actor, EventName, NewEvent},
    time::Moment,
    token::{Token, TokenDigest, TokenId},
};

const COLUMNS: &[&str] = &[
    "id",
    "digest",
    "name",
    "owner",
    "owner_name",
    "scopes",
    "role",
    "created_at",
    "expires_at",
    "revoked_at",
    "replaced_by",
    "last_used_at",
    "last_used_from",
    "used_scopes",
    "watched_since",
];

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, digest, name, owner, owner_name, scopes, role, created_at, expires_at, revoked_at, ",
            "replaced_by, last_used_at, last_used_from, used_scopes, watched_since FROM tokens ",
            $rest
        )
    };
}

statements! {
    /// By what its holder presents.
    BY_DIGEST = select!("WHERE digest = $1");
    /// By its public id.
    BY_ID = select!("WHERE id = $1");
    /// By name, for one owner or (NULL) for all; the newest first.
    BY_NAME = select!("WHERE name = $1 AND (owner = $2 OR CAST($2 AS TEXT) IS NULL) AND revoked_at IS NULL AND replaced_by IS NULL \
         AND (expires_at IS NULL OR expires_at > $3) ORDER BY created_at DESC LIMIT 10");
    /// Page of one owner's or (NULL) everybody's, newest first.
    PAGE = select!("WHERE (owner = $1 OR CAST($1 AS TEXT) IS NULL) AND ($2 = 1 OR (revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $3))) \
         AND (created_at < $4 OR (created_at = $4 AND id < $5)) ORDER BY created_at DESC, id DESC LIMIT $6");
    /// How many usable tokens an owner has, without those that were replaced.
    COUNT_LIVE = "SELECT COUNT(*) FROM tokens WHERE owner = $1 AND revoked_at IS NULL AND replaced_by IS NULL \
         AND (expires_at IS NULL OR expires_at > $2)";
    /// Revokes once; a second call changes nothing.
    REVOKE = "UPDATE tokens SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL";
    /// Lets a token end earlier because another took its place.
    REPLACE = "UPDATE tokens SET replaced_by = $1, expires_at = CASE WHEN expires_at < $2 THEN expires_at ELSE $2 END \
         WHERE id = $3 AND revoked_at IS NULL AND replaced_by IS NULL AND (expires_at IS NULL OR expires_at > $4)";
    /// Tokens whose time ended and of which no event says so yet.
    TO_EXPIRE = select!("WHERE expires_at <= $1 AND revoked_at IS NULL AND expiry_noted_at IS NULL ORDER BY expires_at LIMIT 100");
    /// Notes that an event says so.
    NOTE_EXPIRY = "UPDATE tokens SET expiry_noted_at = $1 WHERE id = $2 AND expiry_noted_at IS NULL AND revoked_at IS NULL";
    /// Usable tokens of everybody.
    COUNT_ACTIVE = "SELECT COUNT(*) FROM tokens WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $1)";
    /// Usable tokens that end soon.
    COUNT_EXPIRING = "SELECT COUNT(*) FROM tokens WHERE revoked_at IS NULL AND expires_at > $1 AND expires_at <= $2";
}

row! {
    TokenRow {
        id: String, digest: Vec<u8>, name: String, owner: String, owner_name: String, scopes: String,
        role: Option<String>, created_at: i64, expires_at: Option<i64>, revoked_at: Option<i64>,
        replaced_by: Option<String>, last_used_at: Option<i64>, last_used_from: Option<String>, used_scopes: String,
        watched_since: i64,
    }
}

impl TokenRow {
    fn read(self) -> Result<Token, StoreError> {
        let parse_id = |id: String| id.parse::<TokenId>().map_err(|_| StoreError::Damaged("a token's id"));
        Ok(Token {
            id: parse_id(self.id)?,
            name: self.name.parse().map_err(|_| StoreError::Damaged("a token's name"))?,
            owner: self.owner,
            owner_name: self.owner_name,
            scopes: self.scopes.parse().map_err(|_| StoreError::Damaged("a token's scopes"))?,
            role: self.role,
            created_at: Moment::from_millis(self.created_at),
            expires_at: self.expires_at.map(Moment::from_millis),
            revoked_at: self.revoked_at.map(Moment::from_millis),
            replaced_by: self.replaced_by.map(parse_id).transpose()?,
            last_used_at: self.last_used_at.map(Moment::from_millis),
            last_used_from: self.last_used_from,
            used_scopes: self.used_scopes.parse().map_err(|_| StoreError::Damaged("a token's scopes in use"))?,
            watched_since: Moment::from_millis(self.watched_since),
        })
    }
}

/// Which tokens to list.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Only this owner's.
    pub owner: Option<String>,
    /// Also those that cannot be used any more.
    pub with_ended: bool,
    /// Older than this one.
    pub before: Option<(Moment, TokenId)>,
    /// How many at most.
    pub limit: i64,
}

impl Store {
    /// The token of this digest, usable or not.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn token_by_digest(&self, digest: &TokenDigest) -> Result<Option<Token>, StoreError> {
        let row: Option<TokenRow> = on_db!(&self.db, pool => sqlx::query_as(BY_DIGEST).bind(&digest.as_bytes()[..]).fetch_optional(pool).await?);
        let Some(row) = row else { return Ok(None) };
        let stored = row.digest.as_slice().try_into().map_err(|_| StoreError::Damaged("a token's digest"))?;
        // The index has found it; the comparison that decides takes the same time wherever they differ.
        if TokenDigest::from_stored(stored) != *digest {
            return Ok(None);
        }
        row.read().map(Some)
    }

    /// The token of this id.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn token(&self, id: &TokenId) -> Result<Option<Token>, StoreError> {
        let row: Option<TokenRow> =
            on_db!(&self.db, pool => sqlx::query_as(BY_ID).bind(id.as_str()).fetch_optional(pool).await?);
        row.map(TokenRow::read).transpose()
    }

    /// Usable tokens of this name, of one owner or of all.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn tokens_named(&self, name: &str, owner: Option<&str>, now: Moment) -> Result<Vec<Token>, StoreError> {
        let rows: Vec<TokenRow> = on_db!(&self.db, pool =>
            sqlx::query_as(BY_NAME).bind(name).bind(owner).bind(now.millis()).fetch_all(pool).await?);
        rows.into_iter().map(TokenRow::read).collect()
    }

    /// A page of tokens, newest first.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn tokens(&self, page: &Page, now: Moment) -> Result<Vec<Token>, StoreError> {
        let (at, id) = page.before.as_ref().map_or((i64::MAX, ""), |(at, id)| (at.millis(), id.as_str()));
        let owner = page.owner.as_deref();
        let rows: Vec<TokenRow> = on_db!(&self.db, pool => sqlx::query_as(PAGE)
            .bind(owner).bind(i64::from(page.with_ended)).bind(now.millis()).bind(at).bind(id).bind(page.limit)
            .fetch_all(pool).await?);
        rows.into_iter().map(TokenRow::read).collect()
    }

    /// How many tokens can be used.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn active_tokens(&self, now: Moment) -> Result<i64, StoreError> {
        Ok(on_db!(&self.db, pool => sqlx::query_scalar(COUNT_ACTIVE).bind(now.millis()).fetch_one(pool).await?))
    }

    /// How many tokens can be used now and end until then.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn tokens_that_expire(&self, now: Moment, until: Moment) -> Result<i64, StoreError> {
        let (now, until) = (now.millis(), until.millis());
        Ok(on_db!(&self.db, pool => sqlx::query_scalar(COUNT_EXPIRING).bind(now).bind(until).fetch_one(pool).await?))
    }
}

/// A token to be written, with what is known of its secret.
#[derive(Debug, Clone)]
pub(super) struct NewToken {
    pub(super) token: Token,
    pub(super) digest: TokenDigest,
}

static INSERT: Texts = Texts::new(|rows| insert_many("tokens", COLUMNS, rows));

/// Writes new tokens with few statements.
pub(super) async fn insert(conn: &mut Conn, new: &[NewToken]) -> Result<(), StoreError> {
    for piece in pieces(new) {
        let sql = INSERT.rows(conn.engine(), piece.len());
        on_conn!(conn, conn => {
            let mut query = sqlx::query(sql);
            for NewToken { token, digest } in piece {
                query = query
                    .bind(token.id.as_str())
                    .bind(&digest.as_bytes()[..])
                    .bind(token.name.as_str())
                    .bind(&token.owner)
                    .bind(&token.owner_name)
                    .bind(token.scopes.to_string())
                    .bind(token.role.as_deref())
                    .bind(token.created_at.millis())
                    .bind(token.expires_at.map(Moment::millis))
                    .bind(token.revoked_at.map(Moment::millis))
                    .bind(token.replaced_by.as_ref().map(TokenId::as_str))
                    .bind(token.last_used_at.map(Moment::millis))
                    .bind(token.last_used_from.as_deref())
                    .bind(token.used_scopes.to_string())
                    .bind(token.watched_since.millis());
            }
            query.execute(conn).await?;
        });
    }
    Ok(())
}

/// `CROSS JOIN` keeps SQLite from scanning every token for each of the names.
static NAMES_TAKEN: Texts = Texts::new(|rows| {
    format!(
        "SELECT DISTINCT t.owner, t.name FROM (VALUES {}) AS v CROSS JOIN tokens AS t \
         WHERE t.owner = v.column1 AND t.name = v.column2 AND t.revoked_at IS NULL \
         AND t.replaced_by IS NULL AND (t.expires_at IS NULL OR t.expires_at > ${})",
        tuples(2, rows),
        rows * 2 + 1
    )
});

/// Which of these (owner, name) pairs a usable token has.
pub(super) async fn names_taken(
    conn: &mut Conn,
    names: &[(&str, &str)],
    now: i64,
) -> Result<Vec<(String, String)>, StoreError> {
    let mut taken = Vec::new();
    for piece in pieces(names) {
        let sql = NAMES_TAKEN.rows(conn.engine(), piece.len());
        on_conn!(conn, conn => {
            let mut query = sqlx::query_as::<_, (String, String)>(sql);
            for (owner, name) in piece {
                query = query.bind(*owner).bind(*name);
            }
            taken.extend(query.bind(now).fetch_all(conn).await?);
        });
    }
    Ok(taken)
}

/// Why a token was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MintRefused {
    /// The owner has a usable token of that name.
    #[error("there is a usable token named {0:?} already; choose another name, or rotate or revoke that one")]
    NameTaken(String),
    /// The owner has as many as one may have.
    #[error("{0} usable tokens is the limit for one person; revoke one first")]
    TooMany(i64),
}

/// Makes a token.
#[derive(Debug)]
pub struct Mint {
    /// The token.
    pub token: Token,
    /// Its secret's digest.
    pub digest: TokenDigest,
    /// How many usable ones its owner may have, if that is limited.
    pub limit: Option<i64>,
    /// What to record.
    pub event: NewEvent,
}

impl Act for Mint {
    type Output = Result<(), MintRefused>;

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<Self::Output, StoreError> {
        let (owner, name) = (self.token.owner.as_str(), self.token.name.as_str());
        let now = self.token.created_at.millis();
        if batch.has_name(owner, name, now).await? {
            return Ok(Err(MintRefused::NameTaken(name.to_owned())));
        }
        if let Some(limit) = self.limit {
            let live: i64 = on_conn!(batch.conn().await?, conn =>
                sqlx::query_scalar(COUNT_LIVE).bind(owner).bind(now).fetch_one(conn).await?);
            if live >= limit {
                return Ok(Err(MintRefused::TooMany(limit)));
            }
        }
        batch.add_token(NewToken { token: self.token.clone(), digest: self.digest });
        batch.record(self.event.clone());
        Ok(Ok(()))
    }

    fn names(&self) -> Option<(&str, &str)> {
        Some((&self.token.owner, self.token.name.as_str()))
    }
}

/// Revokes a token. Answers whether it was this call that did.
#[derive(Debug)]
pub struct Revoke {
    /// Which.
    pub id: TokenId,
    /// What to record, with the moment of the revocation.
    pub event: NewEvent,
}

impl Act for Revoke {
    type Output = bool;

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<bool, StoreError> {
        let at = self.event.time.millis();
        let changed = on_conn!(batch.conn().await?, conn =>
            sqlx::query(REVOKE).bind(at).bind(self.id.as_str()).execute(conn).await?.rows_affected());
        if changed == 1 {
            batch.forget_names();
            batch.right_lost();
            batch.record(self.event.clone());
        }
        Ok(changed == 1)
    }
}

/// Puts a new token in the place of an old one, which works until the grace ends.
#[derive(Debug)]
pub struct Rotate {
    /// The old one.
    pub old: TokenId,
    /// Until when the old one works, unless it ends earlier anyway.
    pub old_ends_at: Moment,
    /// The new one.
    pub token: Token,
    /// Its secret's digest.
    pub digest: TokenDigest,
    /// What to record.
    pub event: NewEvent,
}

impl Act for Rotate {
    /// Whether the old one could still be replaced.
    type Output = bool;

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<bool, StoreError> {
        let (new, ends, now) = (self.token.id.as_str(), self.old_ends_at.millis(), self.event.time.millis());
        let changed = on_conn!(batch.conn().await?, conn => sqlx::query(REPLACE)
            .bind(new).bind(ends).bind(self.old.as_str()).bind(now).execute(conn).await?.rows_affected());
        if changed == 1 {
            batch.add_token(NewToken { token: self.token.clone(), digest: self.digest });
            batch.right_lost();
            batch.record(self.event.clone());
        }
        Ok(changed == 1)
    }
}

/// Records the tokens whose time has ended since the last call, at most 100 of them.
#[derive(Debug)]
pub struct NoteExpiries {
    /// The present moment.
    pub now: Moment,
}

impl Act for NoteExpiries {
    /// How many there were.
    type Output = usize;

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<usize, StoreError> {
        let now = self.now.millis();
        let ended: Vec<TokenRow> =
            on_conn!(batch.conn().await?, conn => sqlx::query_as(TO_EXPIRE).bind(now).fetch_all(conn).await?);
        for row in &ended {
            on_conn!(batch.conn().await?, conn => {
                sqlx::query(NOTE_EXPIRY).bind(now).bind(&row.id).execute(conn).await?;
            });
            let event = NewEvent::new(self.now, EventName::TokenExpired, Actor::system()).on("token", row.id.clone());
            batch.record(event.with("name", row.name.clone()));
        }
        Ok(ended.len())
    }
}
