//! What a review of rights looks at: who may do what and why, tokens that are not used or grant more than they need,
//! and who lost or gained a right. From the present state and the audit log; nothing is changed here.

mod changes;
mod holders;
mod tokens;

pub use changes::{Change, changes};
pub use holders::{Chosen, Holder, KINDS, holders};
pub use tokens::{Finding, TokenReview, tokens};

use super::{ActError, App};
use crate::{
    domain::token::Token,
    store::{StoreError, tokens::Page},
};

/// More people, tokens or changes than this are not gone through at once; the answer then says so.
pub const MOST: usize = 20_000;
/// How many are read at a time.
const PIECE: i64 = 1000;

/// Rows of a review, and whether these are all.
#[derive(Debug)]
pub struct Review<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// `false`: there are more than a review goes through.
    pub complete: bool,
}

/// Rows of which `next` reads the [`PIECE`] behind the last that there is.
async fn all<T>(next: impl AsyncFn(Option<&T>) -> Result<Vec<T>, StoreError>) -> Result<Review<T>, ActError> {
    let mut rows = Vec::new();
    loop {
        let found = next(rows.last()).await?;
        let is_last = i64::try_from(found.len()).is_ok_and(|n| n < PIECE);
        rows.extend(found);
        if is_last || rows.len() >= MOST {
            return Ok(Review { rows, complete: is_last });
        }
    }
}

/// Everybody's usable tokens, newest first.
async fn usable_tokens(app: &App) -> Result<Review<Token>, ActError> {
    all(async |last: Option<&Token>| {
        let before = last.map(|last| (last.created_at, last.id.clone()));
        app.store.tokens(&Page { owner: None, with_ended: false, before, limit: PIECE }, app.now()).await
    })
    .await
}
