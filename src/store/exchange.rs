//! A token for which somebody else's signed token is exchanged, once.

use super::{Act, Batch, StoreError, people, tokens::NewToken};
use crate::domain::{
    event::NewEvent,
    time::Moment,
    token::{Token, TokenDigest},
};

/// Makes a token unless the one that it is exchanged for was exchanged before. Answers whether it was made.
#[derive(Debug)]
pub struct Exchange {
    /// The token. Its name is its own by what made it, so no other can have it.
    pub token: Token,
    /// Its secret's digest.
    pub digest: TokenDigest,
    /// What names the other token, and until when to remember it.
    pub once: (String, Moment),
    /// What to record.
    pub event: NewEvent,
}

impl Act for Exchange {
    type Output = bool;

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<bool, StoreError> {
        let (id, expires_at) = &self.once;
        let is_first = people::take(batch.conn().await?, "workload", id, *expires_at).await?;
        if is_first {
            batch.add_token(NewToken { token: self.token.clone(), digest: self.digest });
            batch.record(self.event.clone());
        }
        Ok(is_first)
    }
}
