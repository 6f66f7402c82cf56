//! What requests leave on the tokens that they carried: when and from where each was last used, and which scopes were
//! needed of it.

use super::{
    Act, Batch, StoreError,
    dialect::{Texts, pieces, tuples},
    statements::statements,
};
use crate::domain::{scope::ScopeSet, time::Moment, token::TokenId};

statements! {
    /// The scopes that a token's requests have needed.
    USED_SCOPES = "SELECT used_scopes FROM tokens WHERE id = $1";
    /// More of them.
    USE_SCOPES = "UPDATE tokens SET used_scopes = $1 WHERE id = $2";
}

/// Never goes back. Both engines call the columns of `VALUES` so.
static TOUCH: Texts = Texts::new(|rows| {
    format!(
        "UPDATE tokens SET last_used_at = v.column2, last_used_from = v.column3 FROM (VALUES {}) AS v \
         WHERE tokens.id = v.column1 AND (tokens.last_used_at IS NULL OR tokens.last_used_at < v.column2)",
        tuples(3, rows)
    )
});

/// When and from where tokens were last used.
#[derive(Debug)]
pub struct Touch {
    /// Token, moment, address.
    pub uses: Vec<(TokenId, Moment, String)>,
}

impl Act for Touch {
    type Output = ();

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        for piece in pieces(&self.uses) {
            let conn = batch.conn().await?;
            let sql = TOUCH.rows(conn.engine(), piece.len());
            on_conn!(conn, conn => {
                let mut query = sqlx::query(sql);
                for (id, at, from) in piece {
                    query = query.bind(id.as_str()).bind(at.millis()).bind(from);
                }
                query.execute(conn).await?;
            });
        }
        Ok(())
    }
}

/// Scopes that tokens' requests needed for the first time.
#[derive(Debug)]
pub struct UseScopes {
    /// Token and scopes.
    pub needed: Vec<(TokenId, ScopeSet)>,
}

impl Act for UseScopes {
    type Output = ();

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        // One by one: a token comes here at most once for each scope, in all its life.
        for (id, needed) in &self.needed {
            on_conn!(batch.conn().await?, conn => {
                let known: Option<String> =
                    sqlx::query_scalar(USED_SCOPES).bind(id.as_str()).fetch_optional(&mut *conn).await?;
                let known: ScopeSet = known.and_then(|text| text.parse().ok()).unwrap_or_default();
                let all = known.with(*needed).to_string();
                sqlx::query(USE_SCOPES).bind(all).bind(id.as_str()).execute(conn).await?;
            });
        }
        Ok(())
    }
}
