//! `lokid demo`: the whole product on an embedded default.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;

use super::{Done, Failure, start};
use crate::{
    actions::tokens::{self, Grant, TokenRequest},
    config::Sources,
    demo::provider,
    domain::{entropy::Entropy, event::Origin, id::letters, identity::Identity, time::Clock},
    pki::{
        ca::Authority,
        files::{self, File},
        leaf::KeyKind,
    },
    telemetry,
};

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Keep the data in this directory [default: a temporary one that is removed at the end]
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
    /// Port to listen on; 0 picks a free one
    #[arg(long, default_value_t = 57374)]
    port: u16,
    /// Open the page in a browser
    #[arg(long)]
    open: bool,
}

/// A directory that is removed when this is dropped, unless the person named it.
struct Data {
    path: PathBuf,
    temporary: bool,
}

/// What a run of the demo is, and what it works from.
const RUNNER: &str = include_str!("../../deploy/sample-runner.sh");
const PRD: &str =
    "# A door\n\n- Hang the door\n- Oil the hinges\n- Paint it green\n- Put up a bell\n- Invite the neighbours\n";

/// The demo's own secret, beside its database.
const SECRET: &str = "demo.secret";
/// The demo's own authority.
const CERTS: &str = "certs";

impl Drop for Data {
    fn drop(&mut self) {
        if self.temporary {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

impl Demo {
    pub(super) async fn run(self) -> Done {
        let data = self.data()?;
        // The port must be known before the addresses that the provider may send people back to.
        let port = if self.port == 0 { free_port()? } else { self.port };
        let issuer = provider::start(&format!("http://localhost:{port}"))?;
        let settings = sources(&data.path, port, &issuer).load()?;
        telemetry::start(&settings.log.level, settings.log.json);
        let mut served = start::serve(settings).await?;
        // The data goes with the demo.
        served.ends_runs = data.temporary;
        let (viewer, operator) = (token(&served.app, "viewer").await?, token(&served.app, "operator").await?);
        let address = format!("http://localhost:{port}/");
        served.announce(&[
            String::new(),
            format!("  Open {address} and pick one of four people: admin, operator, viewer, auditor."),
            String::new(),
            "  As a script, with a viewer's token:".into(),
            format!("    curl -H \"Authorization: Bearer {viewer}\" {address}api/status"),
            "  Start a run, with an operator's (or press Start on the page Runs), and watch it there:".into(),
            format!("    curl -H \"Authorization: Bearer {operator}\" -X POST -d '{{\"prd\": \"./prd.md\"}}' {address}api/control/start"),
            String::new(),
            format!("  Data: {}{}", data.path.display(), if data.temporary { " (removed at the end)" } else { "" }),
            "  Stop with Ctrl-C.".into(),
        ]);
        if self.open {
            open_browser(&address);
        }
        served.until_told_to_stop().await
    }

    fn data(&self) -> Result<Data, Failure> {
        let (path, temporary) = match &self.dir {
            Some(dir) => (dir.clone(), false),
            None => (std::env::temp_dir().join(format!("lokid-demo-{}", letters(Entropy.bytes()))), true),
        };
        fs::create_dir_all(&path).map_err(|e| Failure::new(format!("cannot make {}: {e}", path.display())))?;
        fs::create_dir_all(path.join("work"))?;
        fs::write(path.join("runner.sh"), RUNNER)?;
        if !path.join("work/prd.md").exists() {
            fs::write(path.join("work/prd.md"), PRD)?;
        }
        let secret = path.join(SECRET);
        if !secret.exists() {
            let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&secret);
            let text = data_encoding::BASE64URL_NOPAD.encode(&Entropy.bytes::<32>());
            made.and_then(|mut file| file.write_all(text.as_bytes()))?;
        }
        let certs = path.join(CERTS);
        if !certs.exists() {
            let made =
                Authority::create("Demo CA", KeyKind::P256, Duration::from_hours(24 * 365), Clock::system().now())?;
            let set = [
                File { name: files::CA_CERT, text: &made.cert, secret: false },
                File { name: files::CA_KEY, text: &made.key, secret: true },
            ];
            files::write(&certs, &set, false)?;
        }
        Ok(Data { path, temporary })
    }
}

fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The demo's settings. They come from here alone: a developer's environment must not change the demo.
fn sources(dir: &Path, port: u16, issuer: &str) -> Sources {
    let database = format!("sqlite://{}", dir.join("loki.db").display());
    let command = serde_json::json!(["/bin/sh", dir.join("runner.sh"), "{prd}"]).to_string();
    let mapping = "{admins: admin, operators: operator, auditors: auditor}";
    let env = [
        ("LOKI_SERVER_PORT", port.to_string()),
        // Configured, so that the demo has signing keys to look at.
        ("LOKI_SERVER_SECRET_FILE", dir.join(SECRET).display().to_string()),
        ("LOKI_CERTS_DIR", dir.join(CERTS).display().to_string()),
        ("LOKI_CERTIFICATES_ALLOW", "[{roles: [admin, operator], domains: ['*.demo.example']}]".to_owned()),
        ("LOKI_DATABASE_URL", database),
        ("LOKI_OIDC_ISSUER", issuer.to_owned()),
        ("LOKI_OIDC_CLIENT_ID", provider::CLIENT_ID.to_owned()),
        ("LOKI_OIDC_PROVIDERS", "[{name: the demo company}]".to_owned()),
        ("LOKI_RBAC_OIDC_ROLE_MAPPING", mapping.to_owned()),
        ("LOKI_LOG_LEVEL", "warn".to_owned()),
        ("LOKI_RUNS_COMMAND", command),
        ("LOKI_RUNS_WORKSPACE", dir.join("work").display().to_string()),
        ("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned()),
    ];
    let env: BTreeMap<String, String> = env.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    Sources { file: None, flags: Vec::new(), env }
}

/// A token of this role for the printed lines; the one of an earlier demo on the same directory gives way.
async fn token(app: &Arc<crate::actions::App>, role: &str) -> Result<String, Failure> {
    let terminal = Arc::new(Identity::at_the_terminal("demo"));
    let caller = Arc::clone(&terminal).acting_as().map_err(|_| Failure::new("not permitted"))?;
    let name = format!("demo-{role}");
    if let Ok(old) = tokens::find(app, &caller, &name).await {
        tokens::revoke(app, &terminal, &old, &Origin::default()).await?;
    }
    let request = TokenRequest { name: name.parse()?, grant: Grant::Role(role.into()), days: Some(1) };
    let minted = tokens::mint(app, &caller, request, &Origin::default()).await?;
    Ok(minted.secret.reveal().to_owned())
}

/// As well as this desktop can; the address was printed anyway.
fn open_browser(address: &str) {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    if std::process::Command::new(opener).arg(address).spawn().is_err() {
        tracing::warn!("cannot start {opener}");
    }
}
