//! One transaction of the writer: statements run at once, new tokens and events are gathered and written
//! with few statements before the commit.

use std::collections::{HashMap, HashSet};

use super::{
    StoreError,
    dialect::{Conn, Engine},
    ledger,
    tokens::{self, NewToken},
};
use crate::domain::{
    event::NewEvent,
    ledger::{Entry, Hash, Head},
};

/// The writer's open transaction.
pub struct Batch<'c> {
    conn: &'c mut Conn,
    node: &'c str,
    head: Head,
    entries: Vec<Entry>,
    new_tokens: Vec<NewToken>,
    /// Names that were looked up: whether a usable token of that owner has it.
    names: HashMap<(String, String), bool>,
    rights_lost: bool,
}

impl<'c> Batch<'c> {
    pub(super) async fn begin(conn: &'c mut Conn, node: &'c str) -> Result<Self, StoreError> {
        match conn {
            Conn::Sqlite(_) => conn.run("BEGIN IMMEDIATE").await?,
            Conn::Postgres(_) => {
                // Each statement has to see what others committed while we waited, whatever the server's default is.
                conn.run("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
                // One chain over all nodes: whoever appends waits for whoever appends.
                conn.run(ledger::LOCK_CHAIN).await?;
            }
        }
        let head = ledger::head(conn).await?;
        let (entries, new_tokens, names) = (Vec::new(), Vec::new(), HashMap::new());
        Ok(Self { conn, node, head, entries, new_tokens, names, rights_lost: false })
    }

    /// The connection, for a statement that must see everything this batch did before.
    pub(super) async fn conn(&mut self) -> Result<&mut Conn, StoreError> {
        if !self.new_tokens.is_empty() {
            let new = std::mem::take(&mut self.new_tokens);
            tokens::insert(self.conn, &new).await?;
        }
        Ok(self.conn)
    }

    /// Adds an event; it commits with this batch or not at all.
    pub fn record(&mut self, event: NewEvent) {
        self.entries.push(self.head.append(event, self.node));
    }

    /// The end of the chain, with what this batch has added to it so far.
    pub const fn head(&self) -> Head {
        self.head
    }

    /// What this process is called.
    pub const fn node(&self) -> &str {
        self.node
    }

    /// The hash of the log's first entry, if this batch adds it.
    pub(super) fn new_log(&self) -> Option<Hash> {
        self.entries.first().filter(|entry| entry.seq == 1).map(|entry| entry.hash)
    }

    /// Says that somebody can do less after this batch than before.
    pub fn right_lost(&mut self) {
        self.rights_lost = true;
    }

    /// Adds a token to those that are written with the batch.
    pub(super) fn add_token(&mut self, token: NewToken) {
        let key = (token.token.owner.clone(), token.token.name.as_str().to_owned());
        self.names.insert(key, true);
        self.new_tokens.push(token);
    }

    /// Whether a usable token of this owner already has this name.
    pub(super) async fn has_name(&mut self, owner: &str, name: &str, now: i64) -> Result<bool, StoreError> {
        let key = (owner.to_owned(), name.to_owned());
        if let Some(known) = self.names.get(&key) {
            return Ok(*known);
        }
        let taken = tokens::names_taken(self.conn().await?, &[(owner, name)], now).await?;
        let found = !taken.is_empty();
        self.names.insert(key, found);
        Ok(found)
    }

    /// Forgets what was looked up about names: something was renamed, revoked or replaced.
    pub(super) fn forget_names(&mut self) {
        self.names.clear();
    }

    /// Looks for many names with one statement. Names are compared at the present moment's usability
    /// only loosely (an expired one still counts here), so that only a hit is asked again.
    pub(super) async fn look_up_names(&mut self, names: &[(&str, &str)]) -> Result<(), StoreError> {
        let taken: HashSet<_> = tokens::names_taken(self.conn, names, i64::MIN).await?.into_iter().collect();
        for (owner, name) in names {
            let key = ((*owner).to_owned(), (*name).to_owned());
            if !taken.contains(&key) {
                self.names.insert(key, false);
            }
        }
        Ok(())
    }

    pub(super) const fn engine(&self) -> Engine {
        self.conn.engine()
    }

    /// Writes what was gathered. Answers whether a right was lost.
    pub(super) async fn finish(mut self) -> Result<bool, StoreError> {
        self.conn().await?;
        if let Some(first) = self.entries.first() {
            ledger::insert(self.conn, &self.entries).await?;
            // Whatever a trigger or a rule of somebody else does: what was recorded stands there, and nothing behind it, or
            // nothing is done.
            let one_more = i64::try_from(self.entries.len()).map_or(i64::MAX, |entries| entries.saturating_add(1));
            if ledger::behind(self.conn, first.seq.saturating_sub(1), one_more).await? != self.entries {
                return Err(StoreError::Damaged("the audit log, which did not keep an entry as it was written"));
            }
        }
        if self.rights_lost && self.engine() == Engine::Postgres {
            self.conn.run(ledger::TELL_OTHERS).await?;
        }
        Ok(self.rights_lost)
    }
}
