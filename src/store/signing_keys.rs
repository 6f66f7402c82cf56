//! Signing keys: when each was published, signed, retired and went, and, sealed, those that lokid keeps.
//!
//! The steps are checked inside the transaction, so that two who rotate at once cannot pass each other.

use std::collections::HashSet;

use super::{Act, Batch, Store, StoreError, dialect::Conn, statements::statements};
use crate::domain::{
    event::{Actor, EventName, NewEvent, Origin, Outcome},
    rotation::{KeyRecord, KeyState, check_add, promotable, published, removable},
    time::Moment,
};

statements! {
    /// All that are published, or were.
    LIST = "SELECT kid, alg, sealed, added_at, active_at, retired_at, gone_at, gone_because FROM signing_keys ORDER BY added_at, kid";
    /// A new one; one that was gone comes back as new.
    ADD = "INSERT INTO signing_keys (kid, alg, sealed, added_at) VALUES ($1, $2, $3, $4) ON CONFLICT (kid) DO UPDATE SET \
         sealed = excluded.sealed, added_at = excluded.added_at, active_at = NULL, retired_at = NULL, gone_at = NULL, \
         gone_because = ''";
    /// It signs from now on.
    ACTIVATE = "UPDATE signing_keys SET active_at = $1, retired_at = NULL WHERE kid = $2";
    /// It signs no more.
    RETIRE = "UPDATE signing_keys SET retired_at = $1 WHERE kid <> $2 AND active_at IS NOT NULL AND retired_at IS NULL AND gone_at IS NULL";
    /// Those that leaked, as the table of keys has it or as the log does: of two witnesses one is enough.
    LEAKED = "SELECT kid FROM signing_keys WHERE gone_because = 'revoked' UNION SELECT resource_id FROM audit \
         WHERE event = 'key.remove' AND reason = 'revoked'";
    /// It is not published any more, and its private half is forgotten.
    GO = "UPDATE signing_keys SET gone_at = $1, gone_because = $3, sealed = NULL WHERE kid = $2 AND gone_at IS NULL";
}

pub use crate::domain::rotation::StepRefused;

/// Why a key is gone that must not be trusted any more.
pub const REVOKED: &str = "revoked";

row! {
    KeyRow {
        kid: String, alg: String, sealed: Option<Vec<u8>>, added_at: i64, active_at: Option<i64>, retired_at: Option<i64>,
        gone_at: Option<i64>, gone_because: String,
    }
}

/// A key as the database knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// Its way so far.
    pub record: KeyRecord,
    /// Its private half, sealed, if lokid keeps it.
    pub sealed: Option<Vec<u8>>,
}

impl From<KeyRow> for StoredKey {
    fn from(row: KeyRow) -> Self {
        let record = KeyRecord {
            kid: row.kid,
            alg: row.alg,
            added_at: Moment::from_millis(row.added_at),
            active_at: row.active_at.map(Moment::from_millis),
            retired_at: row.retired_at.map(Moment::from_millis),
            gone_at: row.gone_at.map(Moment::from_millis),
            revoked: row.gone_because == REVOKED,
        };
        Self { record, sealed: row.sealed }
    }
}

impl Store {
    /// Every signing key that was ever published, the oldest first.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn signing_keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        let rows: Vec<KeyRow> = on_db!(&self.db, pool => sqlx::query_as(LIST).fetch_all(pool).await?);
        let leaked = self.revoked_keys().await?;
        // A row that somebody put back does not bring a key back that leaked.
        let known = |mut key: StoredKey| {
            if leaked.contains(&key.record.kid) {
                (key.sealed, key.record.revoked) = (None, true);
            }
            key
        };
        Ok(rows.into_iter().map(StoredKey::from).map(known).collect())
    }

    /// As [`Self::signing_keys`], without what is sealed.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn key_records(&self) -> Result<Vec<KeyRecord>, StoreError> {
        Ok(self.signing_keys().await?.into_iter().map(|key| key.record).collect())
    }

    /// The names of keys that must not be trusted any more.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn revoked_keys(&self) -> Result<HashSet<String>, StoreError> {
        let names: Vec<(String,)> = on_db!(&self.db, pool => sqlx::query_as(LEAKED).fetch_all(pool).await?);
        Ok(names.into_iter().map(|(kid,)| kid).collect())
    }
}

async fn list(conn: &mut Conn) -> Result<Vec<StoredKey>, StoreError> {
    let rows: Vec<KeyRow> = on_conn!(conn, conn => sqlx::query_as(LIST).fetch_all(conn).await?);
    Ok(rows.into_iter().map(StoredKey::from).collect())
}

/// A key of a ring that somebody else keeps (a file, the environment).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenKey {
    /// Its name.
    pub kid: String,
    /// Its algorithm.
    pub alg: String,
}

/// Who takes a step with the keys, and when.
#[derive(Debug, Clone)]
pub struct By {
    /// Who.
    pub actor: Actor,
    /// From where.
    pub origin: Origin,
    /// When.
    pub at: Moment,
}

impl By {
    fn event(&self, name: EventName, kid: &str, alg: &str) -> NewEvent {
        NewEvent::new(self.at, name, self.actor.clone()).from(&self.origin).on("key", kid).with("alg", alg)
    }
}

/// Writes down what a ring of somebody else's holds now. What is written already makes no event.
#[derive(Debug)]
pub struct Observe {
    /// Its keys; the first signs.
    pub ring: Vec<GivenKey>,
    /// Who looked.
    pub by: By,
    /// Why keys are gone from it, where that is known.
    pub why: &'static str,
}

impl Act for Observe {
    /// Whether something was new.
    type Output = bool;

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<bool, StoreError> {
        let known = list(batch.conn().await?).await?;
        let state = |kid: &str| known.iter().find(|k| k.record.kid == kid).map(|k| k.record.state());
        let mut changed = false;
        for key in &self.ring {
            if state(&key.kid).is_none_or(|state| state == KeyState::Gone) {
                add(batch, &key.kid, &key.alg, None, &self.by).await?;
                changed = true;
            }
        }
        if let Some(first) = self.ring.first()
            && state(&first.kid) != Some(KeyState::Active)
        {
            promote(batch, &first.kid, &first.alg, &self.by).await?;
            changed = true;
        }
        for key in known.iter().map(|k| &k.record).filter(|k| k.state() != KeyState::Gone) {
            if !self.ring.iter().any(|given| given.kid == key.kid) {
                remove(batch, key, self.why, &self.by).await?;
                changed = true;
            }
        }
        Ok(changed)
    }
}

async fn add(batch: &mut Batch<'_>, kid: &str, alg: &str, sealed: Option<&[u8]>, by: &By) -> Result<(), StoreError> {
    on_conn!(batch.conn().await?, conn => {
        sqlx::query(ADD).bind(kid).bind(alg).bind(sealed).bind(by.at.millis()).execute(conn).await?;
    });
    batch.record(by.event(EventName::KeyAdded, kid, alg));
    Ok(())
}

async fn promote(batch: &mut Batch<'_>, kid: &str, alg: &str, by: &By) -> Result<(), StoreError> {
    on_conn!(batch.conn().await?, conn => {
        sqlx::query(RETIRE).bind(by.at.millis()).bind(kid).execute(conn).await?;
    });
    on_conn!(batch.conn().await?, conn => {
        sqlx::query(ACTIVATE).bind(by.at.millis()).bind(kid).execute(conn).await?;
    });
    batch.record(by.event(EventName::KeyPromoted, kid, alg));
    Ok(())
}

async fn remove(batch: &mut Batch<'_>, key: &KeyRecord, why: &str, by: &By) -> Result<(), StoreError> {
    on_conn!(batch.conn().await?, conn => {
        sqlx::query(GO).bind(by.at.millis()).bind(&key.kid).bind(why).execute(conn).await?;
    });
    batch.record(by.event(EventName::KeyRemoved, &key.kid, &key.alg).because(Outcome::Success, why));
    Ok(())
}

/// A step of the rotation of keys that lokid keeps.
#[derive(Debug, Clone)]
pub enum Step {
    /// Publishes a new key; where none signs, it signs at once.
    Add {
        /// Its name.
        kid: String,
        /// Its algorithm.
        alg: String,
        /// Its private half, sealed.
        sealed: Vec<u8>,
        /// Only when no key that lokid keeps signs yet: two nodes that start at once make one ring. Keys of
        /// another source, which was configured before, go: nobody here can sign with them.
        only_first: bool,
    },
    /// Lets a published key sign.
    Promote {
        /// Which.
        kid: String,
    },
    /// Takes a key out of the key set.
    Remove {
        /// Which.
        kid: String,
    },
    /// Takes a key out at once because it must not be trusted any more, also the one that signs.
    Revoke {
        /// Which.
        kid: String,
        /// The one that signs instead, if the revoked one signed and no other can: name, algorithm, sealed.
        instead: (String, String, Vec<u8>),
    },
}

/// Takes a [`Step`].
#[derive(Debug)]
pub struct Rotate {
    /// Which.
    pub step: Step,
    /// Also when it is too early.
    pub force: bool,
    /// Who and when.
    pub by: By,
}

impl Act for Rotate {
    type Output = Result<(), StepRefused>;

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<Self::Output, StoreError> {
        let stored = list(batch.conn().await?).await?;
        if let Step::Add { kid, alg, sealed, only_first: true } = &self.step {
            return self.begin(batch, &stored, (kid, alg, sealed)).await;
        }
        let known: Vec<KeyRecord> = stored.into_iter().map(|k| k.record).collect();
        let at = |state: KeyState| known.iter().find(|k| k.state() == state);
        match &self.step {
            Step::Add { kid, alg, sealed, .. } => {
                let signs = at(KeyState::Active).is_some();
                if let Err(refused) = check_add(&known) {
                    return Ok(Err(refused));
                }
                add(batch, kid, alg, Some(sealed), &self.by).await?;
                if !signs {
                    promote(batch, kid, alg, &self.by).await?;
                }
            }
            Step::Promote { kid } => match promotable(&known, kid, self.force, self.by.at) {
                Ok(key) => promote(batch, &key.kid, &key.alg, &self.by).await?,
                Err(refused) => return Ok(Err(refused)),
            },
            Step::Remove { kid } => match removable(&known, kid, self.force, self.by.at) {
                Ok(key) => remove(batch, key, "", &self.by).await?,
                Err(refused) => return Ok(Err(refused)),
            },
            Step::Revoke { kid, instead } => {
                let key = match published(&known, kid) {
                    Ok(key) => key,
                    Err(refused) => return Ok(Err(refused)),
                };
                if key.state() == KeyState::Active {
                    self.replace(batch, at(KeyState::Next), instead).await?;
                }
                remove(batch, key, REVOKED, &self.by).await?;
            }
        }
        Ok(Ok(()))
    }
}

impl Rotate {
    /// The first key of a ring that lokid keeps.
    async fn begin(
        &self,
        batch: &mut Batch<'_>,
        stored: &[StoredKey],
        (kid, alg, sealed): (&str, &str, &[u8]),
    ) -> Result<Result<(), StepRefused>, StoreError> {
        if stored.iter().any(|k| k.sealed.is_some() && k.record.state() == KeyState::Active) {
            return Ok(Err(StepRefused::SignsAlready));
        }
        for given in stored.iter().filter(|k| k.sealed.is_none() && k.record.state() != KeyState::Gone) {
            remove(batch, &given.record, "another source", &self.by).await?;
        }
        add(batch, kid, alg, Some(sealed), &self.by).await?;
        promote(batch, kid, alg, &self.by).await?;
        Ok(Ok(()))
    }

    /// Lets the next key sign, or a new one where there is none.
    async fn replace(
        &self,
        batch: &mut Batch<'_>,
        next: Option<&KeyRecord>,
        (kid, alg, sealed): &(String, String, Vec<u8>),
    ) -> Result<(), StoreError> {
        match next {
            Some(next) => promote(batch, &next.kid, &next.alg, &self.by).await,
            None => {
                add(batch, kid, alg, Some(sealed), &self.by).await?;
                promote(batch, kid, alg, &self.by).await
            }
        }
    }
}
