//! `lokid enterprise audit verify`, `export` and `retain`.

use std::{
    fs::{File, OpenOptions},
    io::{BufReader, BufWriter, IsTerminal as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::{Value, json};

use super::{
    Common, Done, Failure,
    backend::{Backend, Target, existing_database, local_app, permit},
    not_made, print, sources,
};
use crate::{
    actions::{audit::Verdict, evidence},
    audit::{
        anchor,
        export::{Format, Wanted},
        offline,
    },
    domain::event::{EventName, Origin},
    keys::verify::PublicKeys,
    store::ledger::Filter,
    web::api::audit::check_filter,
};

/// The exit code for what was done to a log.
fn code(kind: &str) -> u8 {
    match kind {
        "edited" | "inserted" | "reordered" | "deleted" | "forged" | "changed" => 3,
        "truncated" | "cut_tail" => 4,
        "mixed" | "unlinked" => 5,
        "wrong_keys" => 6,
        "replaced" => 7,
        "old_backup" => 8,
        "rebuilt" => 9,
        _ => 1,
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 whole, 1 could not be read, 2 wrong usage, 3 changed, 4 truncated, 5 mixed from two logs, \
    6 signed with keys that are not trusted, 7 replaced, 8 an old backup was restored, 9 the tables were rebuilt."
)]
pub(super) struct Verify {
    /// Examine this export; no database is opened
    #[arg(long, value_name = "FILE", conflicts_with = "server")]
    export: Option<PathBuf>,
    /// Trust the keys of this JWK Set, as lokid enterprise audit keys printed it; without it nothing says who wrote the export
    #[arg(long, value_name = "FILE", requires = "export")]
    jwks: Option<PathBuf>,
    /// Compare the export with the checkpoints in this file, a copy of enterprise.audit.anchor_file; --jwks says whose they are
    #[arg(long, value_name = "FILE", requires = "jwks")]
    anchor: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
}

impl Verify {
    /// Where to look, unless at a file.
    pub(super) const fn target(&self) -> Option<&Target> {
        if self.export.is_some() { None } else { Some(&self.target) }
    }

    pub(super) async fn online(&self, common: &Common, backend: &Backend) -> Done {
        show(common, &backend.verify().await?)
    }

    /// Examines the export.
    pub(super) fn offline(&self, common: &Common) -> Done {
        let path = self.export.as_deref().unwrap_or(Path::new("-"));
        let trusted = match &self.jwks {
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|e| unreadable(path, &e))?;
                PublicKeys::read(&text).map_err(|e| Failure::new(format!("{}: {e}", path.display())))?
            }
            None => PublicKeys::default(),
        };
        let anchors = match &self.anchor {
            Some(path) => anchors_in(path)?,
            None => Vec::new(),
        };
        show(common, &serde_json::to_value(examine(path, &trusted, &anchors)?)?)
    }
}

/// The anchors of a file that was named: there are some, or it is not that file.
fn anchors_in(path: &Path) -> Result<Vec<String>, Failure> {
    File::open(path).map_err(|e| unreadable(path, &e))?;
    let anchors = anchor::read(path).map_err(|e| unreadable(path, &e))?;
    if anchors.is_empty() {
        let hint = "it has to be a copy of enterprise.audit.anchor_file, which a server writes at each checkpoint";
        return Err(Failure::new(format!("{} holds no anchor", path.display())).hint(hint));
    }
    Ok(anchors)
}

fn unreadable(path: &Path, e: &std::io::Error) -> Failure {
    Failure::new(format!("cannot read {}: {e}", path.display()))
}

fn examine(path: &Path, trusted: &PublicKeys, anchors: &[String]) -> Result<Verdict, Failure> {
    let file = File::open(path).map_err(|e| unreadable(path, &e))?;
    let reader = BufReader::with_capacity(1 << 18, file);
    Ok(Verdict::of(offline::export(reader, trusted, anchors).map_err(|e| unreadable(path, &e))?))
}

/// Says what was checked, what could not be, and what is wrong.
fn show(common: &Common, verdict: &Value) -> Done {
    if common.json {
        print::json(verdict);
    }
    if verdict["valid"].as_bool() == Some(true) {
        if !common.json {
            say(verdict);
        }
        return Ok(());
    }
    let fault = print::cell(&verdict["fault"]);
    let place = verdict["first_bad_seq"].as_i64().map(|seq| format!(" from entry {seq} on")).unwrap_or_default();
    let kind = verdict["kind"].as_str().unwrap_or_default();
    Err(Failure::new(format!("the log is not whole{place}: {fault}")).hint(hint(kind, verdict)).code(code(kind)))
}

/// What to do about it, or how much can be believed all the same.
fn hint(kind: &str, verdict: &Value) -> String {
    match kind {
        "wrong_keys" => "use the key set of the installation that wrote the log: lokid enterprise audit keys".to_owned(),
        "old_backup" => {
            "if you restored it on purpose, keep the anchor file elsewhere as evidence and let a new one begin".to_owned()
        }
        "replaced" | "mixed" => "compare it with an earlier export, with anchors or with what a sink has received".to_owned(),
        "rebuilt" => {
            "an entry may have been kept out or hidden; ask who changed the tables, and compare with what a sink has received"
                .to_owned()
        }
        _ => {
            let number = |name: &str| verdict[name].as_i64().unwrap_or(0);
            let good = number("entries");
            let good = verdict["first_bad_seq"].as_i64().map_or(good, |seq| good.min(seq.saturating_sub(1).max(0)));
            match number("covered_to").min(good) {
                0 => format!("the {good} entries before it follow each other, but no signature vouches for them"),
                signed if signed < good => format!(
                    "the {good} entries before it follow each other; signatures vouch for those up to {signed}"
                ),
                _ => format!("the {good} entries before it are good"),
            }
        }
    }
}

/// `1 entry`, `2 entries`.
fn some(count: i64, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

fn say(verdict: &Value) {
    let number = |name: &str| verdict[name].as_i64().unwrap_or(0);
    let entries = some(number("entries"), "entry", "entries");
    let head = print::cell(&verdict["head"]);
    print::out(&match (number("head_seq"), number("entries")) {
        (0, 0) => "There is no entry.".to_owned(),
        (0, _) => format!("The export holds the {entries} that were sealed in it."),
        _ => format!("The chain is whole: {entries}, head {head}."),
    });
    if let Some(kid) = verdict["sealed_by"].as_str() {
        print::out(&format!("The export's seal holds. Signed by {kid}."));
    }
    if number("taken_out") > 0 {
        let taken = some(number("taken_out"), "entry", "entries");
        print::out(&format!("Retention took out {taken}; the tombstones are signed and fit."));
    }
    if number("covered_to") > 0 {
        let (count, to) =
            (some(number("checkpoints"), "signed checkpoint covers", "signed checkpoints cover"), number("covered_to"));
        let by = print::cell(&verdict["signed_by"]);
        print::out(&format!("{count} entries up to {to}. Signed by {by}."));
    }
    if number("anchors") > 0 {
        let anchors = some(number("anchors"), "anchor", "anchors");
        print::out(&format!("Compared with {anchors} outside the database."));
    }
    for sentence in verdict["not_checked"].as_array().into_iter().flatten() {
        print::out(&format!("Not checked: {}.", print::cell(sentence)));
    }
}

/// What an export shall hold.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Asked {
    /// jsonl can be verified again; csv is for spreadsheets
    #[arg(long, default_value = "jsonl", value_parser = ["jsonl", "csv"])]
    format: String,
    /// Only this event, or the beginning of one and *
    #[arg(long)]
    event: Option<String>,
    /// Only this actor, by id or name
    #[arg(long)]
    actor: Option<String>,
    /// Only this outcome
    #[arg(long, value_parser = ["success", "failure", "denied"])]
    outcome: Option<String>,
    /// Not earlier than this date, or date and time with zone
    #[arg(long)]
    start: Option<String>,
    /// Earlier than this
    #[arg(long)]
    end: Option<String>,
}

impl Asked {
    fn pairs(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let fields = [
            ("event", &self.event),
            ("actor", &self.actor),
            ("outcome", &self.outcome),
            ("start", &self.start),
            ("end", &self.end),
        ];
        fields.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }

    /// As the API reads it.
    pub(super) fn query(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("format", &self.format).extend_pairs(self.pairs()).finish()
    }

    /// As the action takes it.
    pub(super) fn wanted(&self) -> Result<Wanted, Failure> {
        let moment = |name: &str, text: &Option<String>| {
            let wrong = |e| Failure::new(format!("--{name}: {e}"));
            text.as_deref().map(str::parse).transpose().map_err(wrong)
        };
        self.event.as_deref().map_or(Ok(()), known_event)?;
        let filter = Filter {
            event: self.event.clone(),
            actor: self.actor.clone(),
            outcome: self.outcome.clone(),
            start: moment("start", &self.start)?,
            end: moment("end", &self.end)?,
            ..Filter::default()
        };
        if filter.start.zip(filter.end).is_some_and(|(start, end)| start >= end) {
            return Err(Failure::new("--start has to be earlier than --end"));
        }
        let mut asked = url::form_urlencoded::Serializer::new(String::new());
        let asked = asked.extend_pairs(self.pairs()).finish();
        Ok(Wanted { filter, asked, format: self.format.parse().unwrap_or(Format::Jsonl) })
    }
}

/// Whether there is such an event, or such a beginning of some.
pub(super) fn known_event(event: &str) -> Done {
    check_filter(event).map_err(|_| {
        let family = format!("{}.*", event.trim_end_matches(['.', '*']));
        let names = || EventName::EVERY.iter().map(|e| e.as_str()).collect::<Vec<_>>().join(", ");
        let hint = match check_filter(&family) {
            Ok(()) => format!("did you mean '{family}'?"),
            Err(_) => format!("one of these, or the beginning of one and *: {}", names()),
        };
        Failure::new(format!("there is no event {event:?}")).hint(hint)
    })
}

#[derive(Debug, Args)]
pub(super) struct Export {
    #[command(flatten)]
    asked: Asked,
    /// Write to this file, which must not exist yet [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
}

impl Export {
    pub(super) const fn target(&self) -> &Target {
        &self.target
    }

    pub(super) async fn run(&self, backend: &Backend) -> Done {
        self.asked.wanted()?;
        match &self.out {
            Some(path) => {
                to_file(backend, &self.asked, path).await?;
                if std::io::stdout().is_terminal() {
                    print::out(&format!("The export is in {}.", path.display()));
                }
                Ok(())
            }
            None => backend.export(&self.asked, &mut BufWriter::new(std::io::stdout().lock())).await,
        }
    }
}

/// A new file that only its owner can read, on the disk when this returns.
async fn to_file(backend: &Backend, asked: &Asked, path: &Path) -> Done {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = made.map_err(|e| not_made(path, &e))?;
    let mut out = BufWriter::with_capacity(1 << 18, file);
    let written = async {
        backend.export(asked, &mut out).await?;
        out.flush()?;
        Ok(out.get_ref().sync_all()?)
    };
    let written = written.await;
    if written.is_err() {
        // Half an export would pass for one that somebody cut, and be in the way of the next.
        let _ = std::fs::remove_file(path);
    }
    written
}

#[derive(Debug, Args)]
pub(super) struct Retain {
    /// Only show what would go
    #[arg(long)]
    dry_run: bool,
    /// Export the whole log to this file first, and examine that; take nothing out unless it is whole
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    export_first: Option<PathBuf>,
}

impl Retain {
    pub(super) async fn run(&self, common: &Common) -> Done {
        let sources = sources(common);
        existing_database(&sources)?;
        let (app, who) = local_app(&sources).await?;
        let permitted = permit(&who)?;
        let outlook = evidence::outlook(&app, &permitted).await?;
        if self.dry_run {
            outlook_table(common, &outlook);
            app.close().await;
            return Ok(());
        }
        if let Some(path) = &self.export_first {
            let backend = Backend::Local(app.clone(), who.clone());
            let asked = Asked { format: "jsonl".into(), ..Asked::default() };
            to_file(&backend, &asked, path).await?;
            show(
                &Common { json: false, ..common.clone() },
                &serde_json::to_value(examine(path, &evidence::trusted(&app), &[])?)?,
            )?;
        }
        let taken = evidence::retain(&app, &permitted, &Origin::default()).await?;
        evidence::sign(&app, true).await?;
        app.close().await;
        if common.json {
            print::json(&json!({"taken_out": taken}));
        } else if taken == 0 {
            print::out("Nothing is old enough to go.");
        } else {
            let taken = some(taken, "entry was", "entries were");
            print::out(&format!("{taken} taken out. Signed tombstones stand for what is gone."));
        }
        Ok(())
    }
}

fn outlook_table(common: &Common, outlook: &[crate::store::retention::Outlook]) {
    if common.json {
        return print::json(&json!(outlook));
    }
    if outlook.is_empty() {
        return print::out("Nothing is old enough to go.");
    }
    let row = |o: &crate::store::retention::Outlook| {
        vec![o.event.clone(), o.entries.to_string(), o.first_seq.to_string(), o.last_seq.to_string()]
    };
    print::table(&["EVENT", "WOULD GO", "FIRST", "LAST"], &outlook.iter().map(row).collect::<Vec<_>>());
}
