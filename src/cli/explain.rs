//! `lokid explain-token`: every check of a workload token, as the configuration of this machine would make it.

use std::io::Read as _;

use clap::Args;
use serde_json::json;

use super::{Common, Done, Failure, print, sources};
use crate::{
    authn::workload::{LONGEST, Workloads, explain::Explanation},
    domain::time::Clock,
    web::api::explain::ExplanationView,
};

#[derive(Debug, Args)]
pub(super) struct ExplainToken {
    /// The token; - reads it from standard input, where no list of processes shows it
    jwt: String,
}

impl ExplainToken {
    pub(super) async fn run(self, common: &Common) -> Done {
        let jwt = if self.jwt == "-" { from_input()? } else { self.jwt };
        let settings = sources(common).load()?;
        let clock = Clock::system();
        let workloads = Workloads::new(&settings, &clock)
            .map_err(|(id, e)| Failure::new(format!("enterprise.auth.jwt ({id}): ca_file: {e}")))?;
        let explanation = workloads.explain(&jwt).await;
        let (accepted, verdict) = (explanation.accepted, explanation.verdict.clone());
        if common.json {
            print::json(&json!(ExplanationView::from(explanation)));
        } else {
            show(&explanation);
        }
        if accepted { Ok(()) } else { Err(Failure::new(format!("the token is refused: {verdict}"))) }
    }
}

fn from_input() -> Result<String, Failure> {
    let mut text = String::new();
    let most = u64::try_from(LONGEST).unwrap_or(u64::MAX) + 1024;
    std::io::stdin().take(most).read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

fn show(explanation: &Explanation) {
    let mut rows = Vec::new();
    for line in &explanation.lines {
        let cell = |text: &str| print::plain(text, false);
        rows.push(vec![line.outcome.as_str().to_owned(), cell(&line.check), cell(&line.expected), cell(&line.actual)]);
    }
    print::table(&["", "CHECK", "EXPECTED", "IN THE TOKEN"], &rows);
    for line in &explanation.lines {
        if let Some(hint) = &line.hint {
            print::out(&format!("{}: {}", line.check, print::plain(hint, false)));
        }
    }
    if let Some(clock) = &explanation.clock {
        print::out(clock);
    }
    if explanation.accepted {
        print::out(&format!("accepted: {}", print::plain(&explanation.verdict, false)));
    }
    if let Some(rule) = &explanation.suggestion {
        print::out("\nA rule that would let this bearer in, for its issuer under enterprise.auth.jwt:");
        print::out(print::plain(rule, true).trim_end());
    }
}
