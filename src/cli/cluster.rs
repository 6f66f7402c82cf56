//! `lokid cluster`

use std::path::PathBuf;

use clap::Subcommand;
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use super::{
    Common, Done, Failure,
    backend::{local_app, permit},
    print, sources, write_secret,
};
use crate::{
    actions::{
        keys::{
            ring::ShareRefused,
            shared::{Published, Seen, fetch, overview, publish},
        },
        nodes,
    },
    cluster::envelope::Token,
    domain::{entropy::Entropy, node::Node, time::Moment},
    store::nodes::Heard,
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// The bootstrap token, under which nodes hand each other the signing keys
    #[command(subcommand)]
    Token(TokenVerb),
    /// The signing keys in NATS
    #[command(subcommand)]
    Key(KeyVerb),
    /// List the nodes of this database, with version, signing key and when each was heard of
    Nodes,
}

#[derive(Debug, Subcommand)]
pub(super) enum TokenVerb {
    /// Make one of 256 random bits
    Generate {
        /// Write it to this file, readable by its owner only, instead of printing it
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum KeyVerb {
    /// Put the keys into NATS: this node's copy, or new ones; what is there is sealed anew under the first bootstrap token
    Publish {
        /// The private keys of this PEM file, where NATS holds none yet
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
    /// Take the keys from NATS into this node's copy
    Fetch,
    /// Show what NATS holds and what this node's copy, and whether the bootstrap token opens them
    Show,
}

impl Verb {
    pub(super) async fn run(self, common: &Common) -> Done {
        let verb = match self {
            Self::Token(TokenVerb::Generate { out }) => return generate(common, out),
            Self::Nodes => return list(common).await,
            Self::Key(verb) => verb,
        };
        let (app, who) = local_app(&sources(common)).await?;
        let caller = permit(&who)?;
        let done = match verb {
            KeyVerb::Publish { key } => publish(&app, &caller, key.as_deref()).await.map(Some),
            KeyVerb::Fetch => fetch(&app, &caller).await.map(|seen| Some(Published { seen, before: None })),
            KeyVerb::Show => Ok(None),
        };
        let shown = match done {
            Ok(Some(seen)) => {
                say(common, &seen);
                Ok(())
            }
            Ok(None) => show(common, &overview(&app, &caller).await?),
            Err(e) => Err(e.into()),
        };
        app.close().await;
        shown
    }
}

fn generate(common: &Common, out: Option<PathBuf>) -> Done {
    let bytes = Entropy.bytes::<32>();
    let (token, print) = (BASE64URL_NOPAD.encode(&bytes), Token::new(&bytes).fingerprint().to_owned());
    let Some(path) = out else {
        if common.json {
            print::json(&json!({"token": token, "fingerprint": print}));
        } else {
            print::out(&token);
            eprintln!(
                "Its fingerprint is {print}. Every node gets it in a file of mode 600, named by cluster.bootstrap_token_file."
            );
        }
        return Ok(());
    };
    write_secret(&path, &format!("{token}\n"))?;
    if common.json {
        print::json(&json!({"file": path.display().to_string(), "fingerprint": print}));
    } else {
        print::out(&format!("Bootstrap token {print} is in {}.", path.display()));
        print::out(
            "Copy it to every node, and set cluster.bootstrap_token_file (LOKI_CLUSTER_BOOTSTRAP_TOKEN_FILE) there.",
        );
    }
    Ok(())
}

fn value(seen: &Seen) -> Value {
    json!({
        "revision": seen.revision, "kid": seen.keys.first(), "keys": seen.keys, "sealed_under": seen.sealed_under,
    })
}

fn say(common: &Common, Published { seen, before }: &Published) {
    if common.json {
        return print::json(&value(seen));
    }
    let kid = seen.keys.first().map_or("–", String::as_str);
    let keys = if seen.keys.len() == 1 { "1 key".to_owned() } else { format!("{} keys", seen.keys.len()) };
    print::out(&format!("Revision {} with {keys}; {kid} signs.", seen.revision));
    let under = &seen.sealed_under;
    match before {
        Some(before) if before != under => {
            print::out(&format!("Sealed under bootstrap token {under}; before it was {before}."));
        }
        _ => print::out(&format!("Sealed under bootstrap token {under}.")),
    }
}

fn show(common: &Common, overview: &crate::actions::keys::shared::Overview) -> Done {
    let places = [("nats", &overview.nats), ("copy", &overview.copy)];
    let good = |place: &Result<Option<Seen>, ShareRefused>| place.is_ok();
    if common.json {
        let one = |place: &Result<Option<Seen>, ShareRefused>| match place {
            Ok(seen) => seen.as_ref().map_or(Value::Null, value),
            Err(e) => json!({"error": e.to_string()}),
        };
        print::json(
            &json!({"nats": one(&overview.nats), "copy": one(&overview.copy), "bootstrap_tokens": overview.tokens}),
        );
    } else {
        let row = |(name, place): &(&str, &Result<Option<Seen>, ShareRefused>)| match place {
            Ok(Some(seen)) => {
                let kid = seen.keys.first().cloned().unwrap_or_default();
                vec![(*name).to_owned(), seen.revision.to_string(), seen.sealed_under.clone(), kid]
            }
            Ok(None) => vec![(*name).to_owned(), "–".into(), "–".into(), "none".into()],
            Err(_) => vec![(*name).to_owned(), "BAD".into(), "–".into(), "see below".into()],
        };
        print::table(&["WHERE", "REVISION", "SEALED UNDER", "SIGNS"], &places.iter().map(row).collect::<Vec<_>>());
        for (name, place) in &places {
            if let Err(e) = place {
                print::out(&format!("{name}: {}", print::plain(&e.to_string(), false)));
            }
        }
        print::out(&format!("This node's bootstrap token: {}", overview.tokens.join(", then ")));
    }
    if places.iter().all(|(_, place)| good(place)) { Ok(()) } else { Err(Failure::new("not everything can be used")) }
}

async fn list(common: &Common) -> Done {
    let (app, who) = local_app(&sources(common)).await?;
    let Heard { nodes, now } = nodes::list(&app, &permit(&who)?).await?;
    let lease = app.settings.cluster.lease;
    let state = |node: &Node| node.state(lease, now).as_str();
    if common.json {
        let view = |n: &Node| {
            json!({
                "node": n.name, "state": state(n), "version": n.version, "kid": n.keys.first(), "keys": n.keys,
                "started_at": n.started_at.rfc3339(), "last_seen": n.seen_at.rfc3339(),
            })
        };
        print::json(&nodes.iter().map(view).collect());
    } else {
        let row = |n: &Node| {
            let kid: String = n.keys.first().map(|kid| kid.chars().take(16).collect()).unwrap_or_default();
            vec![n.name.clone(), state(n).into(), n.version.clone(), kid, Moment::for_people(n.seen_at)]
        };
        if nodes.is_empty() {
            print::out(
                "No node was heard of within a week. Nodes say that they live where several can: on PostgreSQL.",
            );
        } else {
            print::table(
                &["NODE", "STATE", "VERSION", "SIGNS WITH", "LAST SEEN (UTC)"],
                &nodes.iter().map(row).collect::<Vec<_>>(),
            );
        }
    }
    app.close().await;
    Ok(())
}
