//! Static files inside the binary, addressed with a version so that a browser keeps them for long.

use std::sync::LazyLock;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH},
    web::Path,
};
use rust_embed::RustEmbed;

use super::problem::Problem;

#[derive(RustEmbed)]
#[folder = "$CARGO_MANIFEST_DIR/static"]
struct Files;

/// Changes with any file's content: the `?v=` of every link to one.
pub(super) static VERSION: LazyLock<String> = LazyLock::new(|| {
    let hashes: Vec<u8> =
        Files::iter().filter_map(|name| Files::get(&name)).flat_map(|f| f.metadata.sha256_hash()).collect();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &hashes);
    data_encoding::HEXLOWER.encode(&digest.as_ref()[..6])
});

pub(super) async fn serve(req: HttpRequest, name: Path<String>) -> Result<HttpResponse, Problem> {
    file(&req, &name)
}

pub(super) async fn favicon(req: HttpRequest) -> Result<HttpResponse, Problem> {
    file(&req, "icon.svg")
}

fn file(req: &HttpRequest, name: &str) -> Result<HttpResponse, Problem> {
    let file = Files::get(name).ok_or_else(Problem::not_found)?;
    let kind = match name.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    };
    let tag = format!("\"{}\"", data_encoding::HEXLOWER.encode(&file.metadata.sha256_hash()[..12]));
    let same = req.headers().get(IF_NONE_MATCH).is_some_and(|given| given.as_bytes() == tag.as_bytes());
    let mut answer = if same { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    let life =
        if req.query_string().is_empty() { "public, max-age=300" } else { "public, max-age=31536000, immutable" };
    answer.insert_header((ETAG, tag)).insert_header((CACHE_CONTROL, life)).insert_header((CONTENT_TYPE, kind));
    Ok(if same { answer.finish() } else { answer.body(file.data.into_owned()) })
}
