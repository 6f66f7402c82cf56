//! `lokid enterprise token`

use clap::{Args, Subcommand};
use serde_json::Value;

use super::{
    Common, Done,
    backend::{Backend, NewToken, Target},
    print,
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Make a token; its secret is shown once
    Generate(Generate),
    /// List tokens, newest first
    List {
        /// Also those that are revoked or expired
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Revoke a token by its name or id
    Revoke {
        /// Name or id
        token: String,
        #[command(flatten)]
        target: Target,
    },
    /// Put a new token in the place of an old one
    Rotate {
        /// Name or id
        token: String,
        /// How long the old one still works
        #[arg(long, value_name = "HOURS", default_value_t = 24, allow_negative_numbers = true)]
        grace: u32,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Args)]
pub(super) struct Generate {
    /// What to call it
    name: String,
    /// Scopes, separated by commas: *, control, write, read, audit
    #[arg(long, alias = "scope", value_name = "SCOPES", conflicts_with = "role")]
    scopes: Option<String>,
    /// A role: admin, operator, viewer, auditor or one of your own
    #[arg(long)]
    role: Option<String>,
    /// Days until it expires [default: enterprise.tokens.default_expiration_days]
    #[arg(long, value_name = "DAYS", allow_negative_numbers = true)]
    expires: Option<u32>,
    #[command(flatten)]
    target: Target,
}

impl Verb {
    pub(super) async fn run(self, common: &Common) -> Done {
        let (Self::Generate(Generate { target, .. })
        | Self::List { target, .. }
        | Self::Revoke { target, .. }
        | Self::Rotate { target, .. }) = &self;
        // The first token may come before the server; whoever looks for one in the wrong directory is told.
        let backend = match self {
            Self::Generate(_) => Backend::open(common, target).await?,
            _ => Backend::existing(common, target).await?,
        };
        let done = self.act(common, &backend).await;
        backend.close().await;
        done
    }

    async fn act(self, common: &Common, backend: &Backend) -> Done {
        match self {
            Self::Generate(g) => {
                // seeds/003 makes a token without saying what it grants: the least that is useful.
                let role = g.role.or_else(|| g.scopes.is_none().then(|| "viewer".to_owned()));
                let new = NewToken { name: g.name, scopes: g.scopes, role, days: g.expires };
                show_new(common, &backend.create_token(new).await?, "generated");
            }
            Self::Rotate { token, grace, .. } => {
                show_new(common, &backend.rotate(&token, grace).await?, "rotated");
                if !common.json {
                    print::out(&format!("The old token works for another {grace} hours at most."));
                }
            }
            Self::Revoke { token, .. } => {
                let done = backend.revoke(&token).await?;
                if common.json {
                    print::json(&done);
                } else {
                    print::out(&format!("Token {} is revoked.", print::plain(&token, false)));
                }
            }
            Self::List { all, .. } => list(common, &backend.tokens(all).await?),
        }
        Ok(())
    }
}

/// The block of seeds/003.
fn show_new(common: &Common, token: &Value, what: &str) {
    if common.json {
        return print::json(token);
    }
    let date = token["expires_at"].as_str().map_or("never", |text| text.get(..10).unwrap_or(text));
    print::out(&format!("Token {what} successfully!"));
    print::out(&format!("Name: {}", print::cell(&token["name"])));
    print::out(&format!("ID: {}", print::cell(&token["id"])));
    print::out(&format!("Token: {}", print::cell(&token["token"])));
    print::out(&format!("Scopes: {}", print::cell(&token["scopes"])));
    print::out(&format!("Expires: {date}"));
    print::out("IMPORTANT: Save this token - it won't be shown again!");
}

fn list(common: &Common, tokens: &Value) {
    if common.json {
        return print::json(tokens);
    }
    let rows: Vec<Vec<String>> = tokens
        .as_array()
        .into_iter()
        .flatten()
        .map(|t| {
            vec![
                print::cell(&t["name"]),
                print::cell(&t["id"]),
                print::cell(&t["scopes"]),
                print::cell(&t["state"]),
                print::when(&t["expires_at"]),
                print::when(&t["last_used"]),
                print::cell(&t["owner"]),
            ]
        })
        .collect();
    if rows.is_empty() {
        return print::out("No tokens. Make one with: lokid enterprise token generate NAME --role viewer");
    }
    print::table(&["NAME", "ID", "SCOPES", "STATE", "EXPIRES (UTC)", "LAST USED (UTC)", "OWNER"], &rows);
}
