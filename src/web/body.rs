//! Request bodies: bounded in length and time, JSON or a form, each read strictly.

use std::time::Duration;

use actix_web::{
    HttpRequest,
    http::{
        StatusCode,
        header::{CONTENT_ENCODING, CONTENT_TYPE},
    },
    web::{BytesMut, Payload},
};
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;

use super::{Web, csrf, problem::Problem};
use crate::domain::run::LONGEST_PRD;

/// Reads a JSON object. Unknown fields and repeated keys are refused by `T` (`deny_unknown_fields`).
pub(super) async fn json<T: DeserializeOwned>(web: &Web, req: &HttpRequest, payload: Payload) -> Result<T, Problem> {
    json_up_to(web, req, payload, web.app.settings.limits.body_bytes).await
}

/// The most bytes of a body that carries a PRD: its text with room for JSON's escapes.
pub(super) const PRD: usize = 3 * LONGEST_PRD;

/// Reads a JSON object of at most this many bytes.
pub(super) async fn json_up_to<T: DeserializeOwned>(
    web: &Web,
    req: &HttpRequest,
    payload: Payload,
    most: usize,
) -> Result<T, Problem> {
    must_be(is_json(req))?;
    parse(&read_up_to(web, req, payload, most).await?)
}

/// Reads a JSON object that may carry a PRD and says nothing, or that it is a form, of its type: so curl sends what is
/// given with `-d`. A browser's session is asked for its token whatever the type ([`csrf::check`]).
pub(super) async fn json_of_any_type<T: DeserializeOwned>(
    web: &Web,
    req: &HttpRequest,
    payload: Payload,
) -> Result<T, Problem> {
    must_be(matches!(&*media_type(req), "" | "application/json" | "application/x-www-form-urlencoded"))?;
    parse(&read_up_to(web, req, payload, PRD).await?)
}

/// Reads a JSON object, or takes the default where there is no body.
pub(super) async fn json_or_nothing<T: DeserializeOwned + Default>(
    web: &Web,
    req: &HttpRequest,
    payload: Payload,
) -> Result<T, Problem> {
    let bytes = read(web, req, payload).await?;
    if bytes.is_empty() {
        return Ok(T::default());
    }
    must_be(is_json(req))?;
    parse(&bytes)
}

fn is_json(req: &HttpRequest) -> bool {
    media_type(req) == "application/json"
}

/// 415 for a body that is not of a type that its door takes as JSON.
fn must_be(acceptable: bool) -> Result<(), Problem> {
    if acceptable {
        return Ok(());
    }
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send JSON with Content-Type: application/json"))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let malformed = |e: &dyn std::fmt::Display| Problem::bad_request(format!("the body is not valid JSON: {e}"));
    // serde would also take the fields of a struct from an array, in their order.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "expected a JSON object"));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = serde_path_to_error::deserialize(&mut reader).map_err(|e| match e.inner().classify() {
        serde_json::error::Category::Data if e.path().iter().len() == 0 => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, e.inner().to_string())
        }
        serde_json::error::Category::Data => Problem::invalid(&e.path().to_string(), e.inner()),
        _ => malformed(e.inner()),
    })?;
    reader.end().map_err(|e| malformed(&e))?;
    Ok(read)
}

/// The pairs of a form, in order.
pub(super) struct Form(Vec<(String, String)>);

/// A form has at most this many fields.
const MOST_FIELDS: usize = 64;

impl Form {
    /// The one value of a field; empty when it is missing.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    /// All values of a field that may come several times.
    pub(super) fn all<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'f str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// Reads a form that must carry this CSRF token.
pub(super) async fn form(web: &Web, req: &HttpRequest, payload: Payload, csrf: &str) -> Result<Form, Problem> {
    form_up_to(web, req, payload, csrf, web.app.settings.limits.body_bytes).await
}

/// The same with at most this many bytes.
pub(super) async fn form_up_to(
    web: &Web,
    req: &HttpRequest,
    payload: Payload,
    csrf: &str,
    most: usize,
) -> Result<Form, Problem> {
    let form = pairs(web, req, payload, most).await?;
    csrf::matches(csrf, form.text("csrf"))?;
    Ok(form)
}

/// Reads a form that another server sends (back-channel logout): no CSRF token.
pub(super) async fn unbound_form(web: &Web, req: &HttpRequest, payload: Payload) -> Result<Form, Problem> {
    pairs(web, req, payload, web.app.settings.limits.body_bytes).await
}

async fn pairs(web: &Web, req: &HttpRequest, payload: Payload, most: usize) -> Result<Form, Problem> {
    if media_type(req) != "application/x-www-form-urlencoded" {
        let detail = "send a form with Content-Type: application/x-www-form-urlencoded";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let bytes = read_up_to(web, req, payload, most).await?;
    let pairs: Vec<_> = url::form_urlencoded::parse(&bytes).into_owned().take(MOST_FIELDS + 1).collect();
    if pairs.len() > MOST_FIELDS {
        return Err(Problem::bad_request("a form has at most 64 fields"));
    }
    Ok(Form(pairs))
}

/// `application/json; charset=utf-8` → `application/json`.
fn media_type(req: &HttpRequest) -> String {
    let value = req.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

async fn read(web: &Web, req: &HttpRequest, payload: Payload) -> Result<BytesMut, Problem> {
    read_up_to(web, req, payload, web.app.settings.limits.body_bytes).await
}

async fn read_up_to(web: &Web, req: &HttpRequest, payload: Payload, most: usize) -> Result<BytesMut, Problem> {
    let limits = &web.app.settings.limits;
    if req.headers().contains_key(CONTENT_ENCODING) {
        let detail = "compressed bodies are not read; send it without Content-Encoding";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let announced =
        req.headers().get("content-length").and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    if announced.is_some_and(|length| length > most as u64) {
        return Err(too_large(most));
    }
    collect(payload, most, limits.body_timeout).await
}

fn too_large(most: usize) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("a body has at most {most} bytes"))
}

async fn collect(mut payload: Payload, most: usize, within: Duration) -> Result<BytesMut, Problem> {
    let reading = async {
        let mut body = BytesMut::new();
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|_| Problem::bad_request("the body broke off"))?;
            if body.len() + chunk.len() > most {
                return Err(too_large(most));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    };
    let late =
        |_| Problem::new(StatusCode::REQUEST_TIMEOUT, format!("the body did not arrive within {} s", within.as_secs()));
    tokio::time::timeout(within, reading).await.map_err(late)?
}
