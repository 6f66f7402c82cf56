//! `/keys`: where each signing key is, what is safe next, and the buttons for it.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header::LOCATION},
    web::{Data, Path, Payload},
};
use askama::Template;

use super::{
    Shell, When, form_token, html,
    nodes::{self, NodeView},
};
use crate::{
    actions::{
        ActError,
        keys::{Asked, Ring, Source, list, rotate},
    },
    domain::{
        identity::{Caller, ManageKeys},
        rotation::{ASSERTION_LIVES, KEY_SET_LIVES, KeyRecord, KeyState, SKEW},
        time::Moment,
    },
    web::{Web, body, client::origin, problem::Problem},
};

struct KeyView {
    kid: String,
    short: String,
    alg: String,
    state: &'static str,
    since: When,
    outlook: String,
    can_promote: bool,
    can_remove: bool,
}

impl KeyView {
    fn of(key: &KeyRecord, now: Moment) -> Self {
        Self {
            short: key.kid.chars().take(16).collect(),
            kid: key.kid.clone(),
            alg: key.alg.clone(),
            state: key.state().as_str(),
            since: key.since().into(),
            outlook: key.outlook(now),
            can_promote: key.state() == KeyState::Next && key.check_promote(now).is_ok(),
            can_remove: matches!(key.state(), KeyState::Next | KeyState::Retiring) && key.check_remove(now).is_ok(),
        }
    }
}

#[derive(Template)]
#[template(path = "pages/keys.html")]
struct KeysPage {
    shell: Shell,
    error: Option<String>,
    /// Where the keys come from, when they are not rotated here.
    note: Option<String>,
    rotates: bool,
    can_add: bool,
    keys: Vec<KeyView>,
    gone: Vec<KeyView>,
    nodes: Vec<NodeView>,
    publish: String,
    keep: String,
}

/// `GET /keys`
pub(in crate::web) async fn show(
    web: Data<Web>,
    caller: Caller<ManageKeys>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    page(&web, &req, &caller, None).await
}

async fn page(
    web: &Web,
    req: &HttpRequest,
    caller: &Caller<ManageKeys>,
    error: Option<ActError>,
) -> Result<HttpResponse, Problem> {
    let Ring { source, keys } = list(&web.app, caller).await?;
    let now = web.app.now();
    let (gone, published): (Vec<_>, Vec<_>) = keys.iter().partition(|k| k.state() == KeyState::Gone);
    let minutes = |d: std::time::Duration| format!("{} minutes", d.as_secs() / 60);
    let rotates = matches!(source, Source::Kept | Source::Shared) && form_token(web, req).is_ok();
    let page = KeysPage {
        shell: Shell::of(web, req, caller.identity(), "Signing keys", "/keys"),
        note: note(&source),
        can_add: rotates && !published.iter().any(|k| k.state() == KeyState::Next),
        rotates,
        keys: published.iter().map(|k| KeyView::of(k, now)).collect(),
        nodes: nodes::views(web, caller).await?,
        gone: gone.iter().rev().take(10).map(|k| KeyView::of(k, now)).collect(),
        publish: minutes(KEY_SET_LIVES + SKEW),
        keep: minutes(ASSERTION_LIVES + SKEW),
        error: error.as_ref().map(ToString::to_string),
    };
    let status = if error.is_some() { StatusCode::CONFLICT } else { StatusCode::OK };
    html(web, status, &page)
}

fn note(source: &Source) -> Option<String> {
    Some(match source {
        Source::Kept | Source::Shared => return None,
        Source::File(_) => "The keys come from a file (signing_key_file). Rotate them on that machine: \
             lokid keys rotate add, promote, remove."
            .into(),
        Source::Given => {
            "The keys come from signing_key. Their order in that value is what rotates them; change it there.".into()
        }
        Source::Ephemeral => "This process made its key for itself: it is not published and ends with the process. \
             Set server.secret to have lokid keep its keys, or a signing_key_file."
            .into(),
    })
}

/// `POST /keys/add`
pub(in crate::web) async fn add(
    web: Data<Web>,
    caller: Caller<ManageKeys>,
    req: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    step(&web, &caller, &req, payload, Asked::Add).await
}

/// `POST /keys/{kid}/{step}`
pub(in crate::web) async fn take(
    web: Data<Web>,
    caller: Caller<ManageKeys>,
    req: HttpRequest,
    path: Path<(String, String)>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (kid, step_name) = path.into_inner();
    let asked = match step_name.as_str() {
        "promote" => Asked::Promote(Some(kid)),
        "remove" => Asked::Remove(Some(kid)),
        "revoke" => Asked::Revoke(kid),
        _ => return Err(Problem::not_found()),
    };
    step(&web, &caller, &req, payload, asked).await
}

async fn step(
    web: &Web,
    caller: &Caller<ManageKeys>,
    req: &HttpRequest,
    payload: Payload,
    asked: Asked,
) -> Result<HttpResponse, Problem> {
    body::form(web, req, payload, &form_token(web, req)?).await?;
    match rotate(&web.app, caller, asked, false, &origin(req)).await {
        Ok(()) => Ok(HttpResponse::SeeOther().insert_header((LOCATION, "/keys")).finish()),
        Err(e @ (ActError::Step(_) | ActError::Conflict(_))) => page(web, req, caller, Some(e)).await,
        Err(e) => Err(e.into()),
    }
}
