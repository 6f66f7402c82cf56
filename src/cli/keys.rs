//! `lokid keys`

use std::{fs::OpenOptions, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};

use super::{Common, Done, Failure, print, sources};
use crate::{actions::keys::read, keys::sign::SigningKey};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Make a P-256 key (ES256)
    Generate {
        /// Write it to this file, readable by its owner only, instead of printing it
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// List the configured keys; the first signs
    List,
    /// Print the key set that verifiers see
    Jwks,
}

impl Verb {
    pub(super) fn run(self, common: &Common) -> Done {
        match self {
            Self::Generate { out } => generate(common, out),
            Self::List => {
                let ring = read(&sources(common).load()?.signing)?;
                let role = |at: usize| if at == 0 { "signs" } else { "published" };
                let rows: Vec<_> =
                    ring.keys().iter().enumerate().map(|(at, key)| (key.kid(), key.alg(), role(at))).collect();
                if ring.is_ephemeral() {
                    return Err(Failure::new(
                        "no signing key is configured: each process makes one for itself, which is not published",
                    )
                    .hint("lokid keys generate --out signing.pem, then set signing_key_file"));
                }
                if common.json {
                    print::json(
                        &rows.iter().map(|(kid, alg, role)| json!({"kid": kid, "alg": alg, "role": role})).collect(),
                    );
                } else {
                    let rows: Vec<_> =
                        rows.iter().map(|(k, a, r)| vec![(*k).to_owned(), (*a).to_owned(), (*r).to_owned()]).collect();
                    print::table(&["KID", "ALG", ""], &rows);
                }
                Ok(())
            }
            Self::Jwks => {
                let ring = read(&sources(common).load()?.signing)?;
                let set: Value = serde_json::from_str(ring.jwks())?;
                print::json(&set);
                Ok(())
            }
        }
    }
}

fn generate(common: &Common, out: Option<PathBuf>) -> Done {
    let key = SigningKey::generate();
    let Some(path) = out else {
        print::out(key.to_pem().trim_end());
        return Ok(());
    };
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let mut file = made.map_err(|e| {
        Failure::new(format!("cannot make {}: {e}", path.display()))
            .hint("an existing file is not overwritten; choose another name")
    })?;
    file.write_all(key.to_pem().as_bytes()).and_then(|()| file.sync_all())?;
    if common.json {
        print::json(&json!({"kid": key.kid(), "alg": key.alg(), "file": path.display().to_string()}));
    } else {
        print::out(&format!("Key {} ({}) is in {}.", key.kid(), key.alg(), path.display()));
        print::out("Use it with signing_key_file or SIGNING_KEY_FILE.");
    }
    Ok(())
}
