//! `lokid psk`

use clap::Subcommand;
use data_encoding::BASE64;
use serde_json::json;

use super::{Common, Done, print};
use crate::domain::entropy::Entropy;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Print a new pre-shared key: base64 of 32 random bytes
    Generate,
}

impl Verb {
    #[expect(clippy::unnecessary_wraps, reason = "every verb ends so")]
    pub(super) fn run(self, common: &Common) -> Done {
        let Self::Generate = self;
        let key = BASE64.encode(&Entropy.bytes::<32>());
        if common.json {
            print::json(&json!({"key": key}));
            return Ok(());
        }
        print::out(&key);
        // What a program takes stands on standard output alone.
        eprintln!("Give it to lokid as LOKI_PSK_KEY_FILE (or enterprise.auth.psk.key), and to its holder, who sends:");
        eprintln!("  Authorization: APIKey …");
        Ok(())
    }
}
