//! A workload's signed token for a `loki_` token that lives a few minutes (RFC 8693): for tools that cannot ask their
//! platform for a new one, and so that the log says which job did what.

use std::time::Duration;

use super::{ActError, App, tokens::Minted};
use crate::{
    domain::{
        event::{EventName, NewEvent, Origin},
        identity::{Caller, Credential, Known},
        scope::ScopeSet,
        time::Moment,
        token::{Token, TokenId, TokenName, TokenSecret},
    },
    store::exchange::Exchange,
};

/// What was exchanged is remembered this much longer than it would be accepted.
const MARGIN: Duration = Duration::from_mins(5);

/// Makes a token with the scopes that the caller's rule gives, or with fewer. Each workload token is good for one.
///
/// # Errors
/// [`ActError::NotAdmitted`] for a caller who did not come with a workload token, [`ActError::TooWide`] for scopes
/// that its rule does not give, [`ActError::Conflict`] when it was exchanged before.
pub async fn exchange(
    app: &App,
    caller: &Caller<Known>,
    scopes: Option<ScopeSet>,
    from: &Origin,
) -> Result<Minted, ActError> {
    let who = caller.identity();
    let (Credential::Workload(workload), Some(ends)) = (&who.credential, who.expires_at) else {
        return Err(ActError::NotAdmitted("only a signed token of a configured issuer can be exchanged".into()));
    };
    let granted = scopes.unwrap_or(who.scopes);
    if !who.scopes.covers(granted) {
        return Err(ActError::TooWide { held: who.scopes });
    }
    let now = app.now();
    let secret = TokenSecret::from_random(app.entropy.bytes());
    let id = TokenId::from_random(app.entropy.bytes());
    let token = Token {
        name: name(&who.actor.name, &id),
        id,
        owner: who.actor.id.clone(),
        owner_name: who.actor.name.clone(),
        scopes: granted,
        role: who.role.clone().filter(|_| granted == who.scopes),
        created_at: now,
        expires_at: Some(now.plus(workload.exchange_life)),
        revoked_at: None,
        replaced_by: None,
        last_used_at: None,
        last_used_from: None,
        used_scopes: ScopeSet::EMPTY,
        watched_since: now,
    };
    let mut event = NewEvent::new(now, EventName::TokenCreated, who.actor.clone())
        .on("token", token.id.as_str())
        .from(from)
        .with("name", token.name.as_str())
        .with("scopes", granted.to_string())
        .with("expires_at", token.expires_at.map(Moment::rfc3339))
        .with("exchanged_for", workload.id.as_str())
        .with("issuer", workload.issuer.as_str())
        .with("rule", workload.rule.as_str());
    for (what, value) in &workload.provenance {
        event = event.with(what, value.as_str());
    }
    let once = (workload.once.clone(), ends.plus(MARGIN));
    let act = Exchange { token: token.clone(), digest: secret.digest(), once, event };
    if app.store.act(act).await? {
        Ok(Minted { token, secret })
    } else {
        Err(ActError::Conflict("this token was exchanged before; ask its issuer for a new one".into()))
    }
}

/// What the bearer is called, and the token's own letters: two jobs of one repository never meet.
fn name(bearer: &str, id: &TokenId) -> TokenName {
    const MOST: usize = 48;
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ':' | '@' | '+' | '#');
    let sound: String = bearer.chars().map(|c| if fits(c) { c } else { '-' }).take(MOST).collect();
    let sound = sound.trim_start_matches(|c: char| !c.is_alphanumeric());
    let letters = id.as_str().trim_start_matches("tok-");
    let named = format!("{sound} {letters}").parse();
    named.or_else(|_| format!("workload {letters}").parse()).expect("plain letters are a name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bearer_gives_a_name_of_its_own() {
        let id = TokenId::from_random([1; 12]);
        let letters = &id.as_str()[4..];
        assert_eq!(name("acme/app", &id).as_str(), format!("acme/app {letters}"));
        assert_eq!(name("<b>x y", &id).as_str(), format!("b-x-y {letters}"));
        assert_eq!(name("---", &id).as_str(), format!("workload {letters}"));
        assert_eq!(name("tok-abc", &id).as_str(), format!("workload {letters}"));
        assert!(name(&"é".repeat(200), &id).as_str().chars().count() <= 64);
    }
}
