//! `lokid config`

use clap::Subcommand;

use super::{Common, Done, Failure, print, sources};
use crate::config::reference;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Report every fault of the configuration at once
    Check,
    /// Show every value in force and where it comes from; secrets are hidden
    Show,
    /// Print every key with its variable, default and meaning, as Markdown
    Reference,
}

impl Verb {
    pub(super) fn run(self, common: &Common) -> Done {
        if let Self::Reference = self {
            print::out(reference::reference().trim_end());
            return Ok(());
        }
        let sources = sources(common);
        let file = sources.chosen_file();
        let settings = sources.load().map_err(|faults| {
            if common.json {
                let fault = |f: &crate::config::Fault| serde_json::json!({"key": f.key, "origin": f.origin.to_string(), "message": f.message});
                print::json(&serde_json::json!({"valid": false, "faults": faults.0.iter().map(fault).collect::<Vec<_>>()}));
            }
            Failure::new(&faults).hint("lokid config reference lists every key")
        })?;
        for warning in &settings.warnings {
            eprintln!("warning: {warning}");
        }
        match (self, common.json) {
            (Self::Show, false) => print::out(reference::show(&settings).trim_end()),
            (Self::Show, true) => {
                let value = |e: &reference::Effective| serde_json::json!({"key": e.path, "value": e.value, "origin": e.origin.to_string()});
                print::json(&settings.effective.iter().map(value).collect());
            }
            (_, true) => print::json(&serde_json::json!({"valid": true, "faults": []})),
            (_, false) => {
                let from = file.map_or("no file; environment and defaults".to_owned(), |f| f.display().to_string());
                print::out(&format!("The configuration is valid ({from})."));
            }
        }
        Ok(())
    }
}
