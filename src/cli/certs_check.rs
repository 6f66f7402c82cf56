//! `lokid certs verify`: each certificate, and what to do about a bad one.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Common, Done, Failure, print};
use crate::{
    domain::time::{Clock, Moment},
    pki::{
        PkiError,
        ca::Authority,
        client::{Gate, Trust},
        files,
        read::{Facts, chain},
        refused::again,
        tls::Shown,
    },
};

/// What was found of one file.
struct Found {
    file: PathBuf,
    /// What it says, and what is good about it or wrong.
    says: Result<String, String>,
}

/// Looks at these files, or at the directory's own.
pub(super) fn run(common: &Common, dir: &Path, asked: Vec<PathBuf>, now: Moment) -> Done {
    let ca = dir.join(files::CA_CERT);
    let own = [files::CA_CERT, files::SERVER_CERT, files::CLIENT_CERT].map(|name| dir.join(name));
    let looked: Vec<PathBuf> =
        if asked.is_empty() { own.into_iter().filter(|file| file.exists()).collect() } else { asked };
    if looked.is_empty() {
        return Err(Failure::new(format!("there is no certificate in {}", dir.display()))
            .hint("make them: lokid certs ca, then server and client"));
    }
    let found: Vec<Found> = looked
        .into_iter()
        .map(|file| {
            let says = if file == ca { authority(dir, now) } else { leaf(&ca, &file, now) };
            Found { file, says }
        })
        .collect();
    show(common, &found)
}

fn show(common: &Common, found: &[Found]) -> Done {
    if common.json {
        let value = |f: &Found| {
            let (good, says) = f.says.as_ref().map_or_else(|e| (false, e), |says| (true, says));
            json!({"file": f.file.display().to_string(), "good": good, "says": says})
        };
        print::json(&found.iter().map(value).collect());
    } else {
        let row = |f: &Found| {
            let (mark, says) = f.says.as_ref().map_or_else(|e| ("BAD", e), |says| ("ok", says));
            vec![mark.to_owned(), f.file.display().to_string(), print::plain(says, false)]
        };
        print::table(&["", "FILE", ""], &found.iter().map(row).collect::<Vec<_>>());
    }
    let bad = found.iter().filter(|f| f.says.is_err()).count();
    if bad == 0 { Ok(()) } else { Err(Failure::new(format!("{bad} of {} certificates are not good", found.len()))) }
}

fn authority(dir: &Path, now: Moment) -> Result<String, String> {
    let cert = dir.join(files::CA_CERT);
    let facts = read(&cert)?;
    if !facts.is_authority {
        return Err(PkiError::NotAnAuthority(facts.subject).to_string());
    }
    facts.check_time(now)?;
    // The key may well be kept somewhere else.
    let key = if dir.join(files::CA_KEY).exists() {
        Authority::load(dir).map_err(|e| e.to_string())?;
        "with its key"
    } else {
        "its key is not here"
    };
    Ok(format!("authority {}, until {}, {key}", facts.subject, facts.not_after.date()))
}

fn leaf(ca: &Path, file: &Path, now: Moment) -> Result<String, String> {
    let facts = read(file)?;
    if facts.version != 3 {
        let again = if is_server(&facts) { "lokid certs server --force".to_owned() } else { again(&facts) };
        return Err(format!(
            "X.509 version {}, as openssl x509 -req makes one without -extfile: it has no extensions, and TLS takes version 3 \
             only. Re-issue it: {again}",
            facts.version
        ));
    }
    facts.check_time(now)?;
    check_chain(ca, file, &facts)?;
    let key = file.with_extension("key");
    if key.exists() {
        Shown::load(file, &key).map_err(|e| e.to_string())?;
    }
    let kind = if facts.usages.is_some_and(|u| u.client) { "client" } else { "server" };
    let names = if facts.names.listing().is_empty() { facts.subject.clone() } else { facts.names.listing() };
    Ok(format!("{kind} {names}, until {}", facts.not_after.date()))
}

/// Whether it looks as if it was meant for a server.
fn is_server(facts: &Facts) -> bool {
    !facts.names.dns.is_empty() || !facts.ips.is_empty() || facts.names.common_name.as_deref() == Some("loki-backend")
}

/// Verifies it as the listener would, or as a program that calls the listener would.
fn check_chain(ca: &Path, file: &Path, facts: &Facts) -> Result<(), String> {
    let authorities = chain(ca).map_err(|e| e.to_string())?;
    let own = chain(file).map_err(|e| e.to_string())?;
    match facts.usages {
        Some(usages) if usages.server && !usages.client => {
            crate::pki::tls::verify_server(&authorities, &own, facts, &Clock::system())
        }
        Some(usages) if usages.client => {
            let trust = Trust { authorities, ..Trust::default() };
            let gate = Gate::new(&trust, true, Clock::system(), Box::new(|_, _| ())).map_err(|e| e.to_string())?;
            gate.admitted(&own).map(drop).map_err(|e| e.to_string())
        }
        _ => Err(format!(
            "it does not say what it is for (extended key usage), so that a server's passes as a client's with many \
             programs, and lokid takes it from no client. Re-issue it: {}",
            if is_server(facts) { "lokid certs server --force".to_owned() } else { again(facts) }
        )),
    }
}

fn read(file: &Path) -> Result<Facts, String> {
    let chain = chain(file).map_err(|e| e.to_string())?;
    Facts::read(&chain[0]).map_err(|e| e.to_string())
}
