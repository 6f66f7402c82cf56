//! Signing in: begun at a provider, finished with what it vouches for.

use url::Url;

use super::{ActError, App};
use crate::{
    domain::{
        claim::{self, Claims},
        event::{Actor, ActorKind, EventName, NewEvent, Origin, Outcome},
        person::{Person, PersonId},
        screen,
        session::{Session, SessionId, SessionSecret},
        time::Moment,
    },
    keys::seal::Purpose,
    oidc::{
        OidcError, Provider, ProviderTokens, Vouched,
        callback::Answer,
        state::{LONGEST_RETURN, SignIn},
    },
    store::sessions::Open,
};

/// Where the browser goes next, and the cookie that binds the sign-in to it.
#[derive(Debug)]
pub struct Begun {
    /// The provider's authorization endpoint with the request.
    pub url: Url,
    /// What tells this sign-in's cookie from those of other tabs.
    pub label: String,
}

/// A finished sign-in.
#[derive(Debug)]
pub struct SignedIn {
    /// What the cookie holds from now on.
    pub secret: SessionSecret,
    /// The path of ours to go to.
    pub return_to: String,
}

/// The path of ours that `asked` names, or `None`. Resolved as a browser would (WHATWG URL), against the
/// public URL: it must begin with exactly one `/` and stay on our origin.
pub fn own_path(public_url: &Url, asked: &str) -> Option<String> {
    let bytes = asked.as_bytes();
    let single = bytes.first() == Some(&b'/') && !matches!(bytes.get(1), Some(b'/' | b'\\'));
    let plain = bytes.iter().all(|b| (0x21..0x7f).contains(b) && *b != b'\\');
    if !single || !plain || asked.len() > LONGEST_RETURN {
        return None;
    }
    let url = public_url.join(asked).ok().filter(|url| url.origin() == public_url.origin())?;
    let path = url.path();
    // A path that a second parser could take for a host never leaves.
    if path.starts_with("//")
        || path.to_ascii_lowercase().starts_with("/%2f")
        || path.to_ascii_lowercase().starts_with("/%5c")
    {
        return None;
    }
    Some(url.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}")))
}

/// Begins a sign-in at a provider, for the browser that holds `cookie`.
///
/// # Errors
/// When the provider cannot be asked.
pub async fn begin(
    app: &App,
    provider: &Provider,
    return_to: &str,
    fresh: bool,
    cookie: &str,
) -> Result<Begun, ActError> {
    provider.probe().await?;
    let sign_in = SignIn::new(provider.id(), return_to, fresh, cookie, app.now(), app.entropy);
    let state = sign_in.seal(&app.sealer, app.entropy);
    Ok(Begun { url: provider.authorization_url(&sign_in, &state).await?, label: sign_in.label().to_owned() })
}

/// Finishes a sign-in. Every failure is recorded with its reason.
///
/// # Errors
/// [`ActError`] says what the person can do about it.
pub async fn finish(
    app: &App,
    query: &str,
    cookie: impl FnOnce(&SignIn) -> Option<String>,
    replaces: Option<SessionId>,
    from: &Origin,
) -> Result<SignedIn, ActError> {
    let finished = try_finish(app, query, cookie, replaces, from).await;
    if let Err(e) = &finished {
        let (reason, detail) = match e {
            ActError::Oidc(e) => (e.reason(), e.to_string()),
            ActError::NotAdmitted(why) => ("not_admitted", why.clone()),
            _ => ("unavailable", String::new()),
        };
        let event = NewEvent::new(app.now(), EventName::SignInFailed, Actor::anonymous());
        app.note(event.because(Outcome::Denied, reason).with("detail", detail), from);
    }
    finished
}

const FINISHED: OidcError = OidcError::State("this sign-in was finished before; begin again");

async fn try_finish(
    app: &App,
    query: &str,
    cookie: impl FnOnce(&SignIn) -> Option<String>,
    replaces: Option<SessionId>,
    from: &Origin,
) -> Result<SignedIn, ActError> {
    let answer = Answer::read(query)?;
    let state = answer.state.as_deref().ok_or(OidcError::State("the answer carries no state; begin again"))?;
    let sign_in = SignIn::open(&app.sealer, state, cookie, app.now())?;
    // Asked here so that a replay does not even reach the provider; the insert in `Open` is what decides.
    if app.store.is_finished(&sign_in.id).await? {
        return Err(FINISHED.into());
    }
    let provider = app
        .providers
        .find(&sign_in.provider)
        .ok_or(OidcError::State("the provider of this sign-in is no longer configured"))?;
    let vouched = provider.finish(&answer, &sign_in).await?;
    let secret = open(app, provider, &vouched, &sign_in, replaces, from).await?;
    Ok(SignedIn { secret, return_to: sign_in.return_to })
}

async fn open(
    app: &App,
    provider: &Provider,
    vouched: &Vouched,
    sign_in: &SignIn,
    replaces: Option<SessionId>,
    from: &Origin,
) -> Result<SessionSecret, ActError> {
    let now = app.now();
    let admitted = admit(app, provider.id(), &vouched.claims)?;
    let person = person_of(app, provider.issuer(), &vouched.subject, &vouched.claims);
    let name = person.display_name().to_owned();
    let secret = SessionSecret::from_random(app.entropy.bytes());
    let session = Session {
        provider_sid: vouched.sid.clone(),
        proven_at: vouched.auth_time.map_or(now, |at| Moment::from_seconds(at).min(now)),
        ..session_of(app, &person, provider.id(), &admitted, from)
    };
    let event = NewEvent::new(now, EventName::SignInSucceeded, Actor::new(ActorKind::Person, "", &name))
        .on("session", session.id.as_str())
        .from(from)
        .with("provider", provider.id())
        .with("role", admitted.role)
        .with("rule", admitted.why);
    let opened = app.store.act(Open {
        person,
        session,
        digest: secret.digest(),
        door_digest: secret.door_digest(),
        sealed: Some(seal(app, &vouched.tokens)),
        replaces,
        once: (sign_in.id.clone(), sign_in.expires_at()),
        event,
    });
    match opened.await? {
        Some(_) => {
            app.metrics.signed_in();
            Ok(secret)
        }
        None => Err(FINISHED.into()),
    }
}

/// A session that begins now, of somebody who proves now who they are.
pub(super) fn session_of(app: &App, person: &Person, provider: &str, admitted: &Admitted, from: &Origin) -> Session {
    let now = app.now();
    Session {
        id: SessionId::from_random(app.entropy.bytes()),
        person: person.id.clone(),
        provider: provider.to_owned(),
        provider_sid: None,
        role: admitted.role.clone(),
        scopes: admitted.scopes,
        rule: admitted.why.clone(),
        groups: admitted.groups.clone(),
        signed_in_at: now,
        proven_at: now,
        last_seen_at: now,
        ended_at: None,
        claims_at: now,
        ip: from.ip.clone(),
        user_agent: from.user_agent.clone(),
    }
}

/// The role that somebody gets, and what it grants.
pub(super) struct Admitted {
    pub(super) role: String,
    pub(super) scopes: crate::domain::scope::ScopeSet,
    pub(super) why: String,
    pub(super) groups: Vec<String>,
}

/// How long a group's name may be, and how many bytes of names are kept of a person: they travel in headers,
/// and many programs take no more than 8 KiB of those.
const LONGEST_GROUP: usize = 200;
const MOST_OF_GROUPS: usize = 3072;

/// The names in the provider's groups claim: texts only, what is longer than any name is not one.
fn groups_of(app: &App, provider: &str, claims: &Claims) -> Vec<String> {
    let path = app.providers.find(provider).map(|p| &p.settings().groups_claim);
    let values = match path.and_then(|path| path.find(claims)) {
        Some(serde_json::Value::Array(values)) => values.as_slice(),
        Some(value) => std::slice::from_ref(value),
        None => &[],
    };
    let sound = |name: &&str| (1..=LONGEST_GROUP).contains(&name.len()) && !name.contains(screen::acts);
    let mut names: Vec<&str> =
        values.iter().filter_map(serde_json::Value::as_str).map(str::trim).filter(sound).collect();
    // Those that a rule names come first, so that none of them is cut off.
    let rules = || app.settings.apps.apps.iter().flat_map(|app| &app.rules);
    names.sort_by_key(|name| !rules().any(|rule| rule.groups.iter().any(|group| group == name)));
    let mut room = MOST_OF_GROUPS;
    let fits = |name: &&str| {
        room = room.saturating_sub(name.len() + 1);
        room > 0
    };
    names.into_iter().take_while(fits).map(str::to_owned).collect()
}

/// Whether the claims let somebody in, and as what.
pub(super) fn admit(app: &App, provider: &str, claims: &Claims) -> Result<Admitted, ActError> {
    let auth = &app.settings.auth;
    let domains = &auth.allowed_email_domains;
    let domain = claim::verified_email(claims).and_then(|e| e.rsplit_once('@')).map(|(_, domain)| domain);
    if !domains.is_empty() && !domain.is_some_and(|d| domains.iter().any(|a| a.eq_ignore_ascii_case(d))) {
        return Err(ActError::NotAdmitted("your account has no verified e-mail address in an allowed domain".into()));
    }
    let default = auth.default_role.as_deref().unwrap_or_default();
    let granted = claim::grant(&auth.rules, default, provider, claims);
    match auth.roles.scopes_of(&granted.role) {
        Some(scopes) => {
            Ok(Admitted { role: granted.role, scopes, why: granted.why, groups: groups_of(app, provider, claims) })
        }
        None => Err(ActError::NotAdmitted("your account has no role here; ask an administrator".into())),
    }
}

/// The person that claims speak of. Attributes are cut to what a page can show.
pub(super) fn person_of(app: &App, issuer: &str, subject: &str, claims: &Claims) -> Person {
    let clean = |text: &str| screen::harmless(text, 200);
    let text = |name: &str| claims.get(name).and_then(serde_json::Value::as_str).map(clean).filter(|t| !t.is_empty());
    let now = app.now();
    Person {
        id: PersonId::from_random(app.entropy.bytes()),
        issuer: issuer.to_owned(),
        subject: subject.to_owned(),
        email: text("email"),
        email_verified: claim::verified_email(claims).is_some(),
        name: text("name").or_else(|| text("preferred_username")),
        username: text("preferred_username"),
        first_seen_at: now,
        last_seen_at: now,
    }
}

pub(super) fn seal(app: &App, tokens: &ProviderTokens) -> Vec<u8> {
    let plain = serde_json::to_vec(tokens).expect("two texts are JSON");
    app.sealer.seal(Purpose::ProviderTokens, &plain, app.entropy)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ours() -> Url {
        Url::parse("https://door.example/").unwrap()
    }

    #[test]
    fn only_paths_of_our_own_origin_are_returned_to() {
        assert_eq!(own_path(&ours(), "/audit?event=auth.fail").as_deref(), Some("/audit?event=auth.fail"));
        assert_eq!(own_path(&ours(), "/a/../b").as_deref(), Some("/b"));
        for evil in [
            "//evil.example",
            "/\\evil.example",
            "\\/evil.example",
            "/\t/evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "/%2f/evil.example",
            "/%5cevil.example",
            "",
            "audit",
            " /a",
            "/a b",
            "/\u{a0}",
            "///x",
            "/..//evil.example",
            "/.//evil.example",
            "/a/..//evil.example",
            "@evil.example",
            "/%2F%2Fevil.example",
        ] {
            assert_eq!(own_path(&ours(), evil), None, "{evil:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_asked_a_browser_stays_here(asked in "[/\\\\a-z.:@%2fF5cC#?\t ]{0,24}") {
            if let Some(path) = own_path(&ours(), &asked) {
                let gone_to = ours().join(&path).unwrap();
                prop_assert_eq!(gone_to.origin(), ours().origin());
                prop_assert!(path.starts_with('/') && !path.starts_with("//"));
            }
        }
    }
}
