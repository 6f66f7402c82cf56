//! Clients of a lokid. A client's type says who calls.

use lokid::domain::token::TokenId;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::door::Door;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {} {}", self.status, self.text))
    }

    /// `name=value` of a cookie that is set.
    pub(crate) fn cookie(&self, name: &str) -> Option<String> {
        let lines = self.headers.get_all("set-cookie").iter().filter_map(|v| v.to_str().ok());
        let mut pairs = lines.filter_map(|line| line.split(';').next());
        let is_it = |found: &str| found == name || (name.ends_with('_') && found.starts_with(name));
        pairs.find(|pair| pair.split('=').next().is_some_and(is_it)).map(str::to_owned)
    }

    /// The detail of a problem, after a look at its form.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json");
        let body = self.json();
        assert_eq!(body["status"], status);
        assert!(body["instance"].as_str().unwrap().ends_with(self.header("x-request-id")), "{body}");
        body["detail"].as_str().unwrap().to_owned()
    }

    /// The body with the request's id taken out.
    pub(crate) fn shape(&self) -> String {
        let id = self.header("x-request-id");
        format!("{} {}\n{}", self.status, self.header("content-type"), self.text.replace(id, "ID"))
    }
}

pub(crate) async fn answer(request: RequestBuilder) -> Answer {
    let answer = request.send().await.unwrap();
    Answer { status: answer.status().as_u16(), headers: answer.headers().clone(), text: answer.text().await.unwrap() }
}

/// Somebody who calls.
pub(crate) trait Client {
    fn door(&self) -> &Door;

    /// Puts this caller's credential on a request.
    fn dress(&self, request: RequestBuilder) -> RequestBuilder;

    fn ask(&self, method: &str, path: &str) -> RequestBuilder {
        let method: Method = method.parse().unwrap();
        self.dress(self.door().http.request(method, self.door().at(path)))
    }

    async fn get(&self, path: &str) -> Answer {
        answer(self.ask("GET", path)).await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        answer(self.ask("POST", path).json(body)).await
    }
}

/// Nobody known.
pub(crate) struct Anonymous<'d>(pub(crate) &'d Door);

/// The holder of a token.
pub(crate) struct WithToken<'d> {
    pub(crate) door: &'d Door,
    pub(crate) secret: String,
    pub(crate) id: TokenId,
}

/// A signed-in browser.
pub(crate) struct WithSession<'d> {
    pub(crate) door: &'d Door,
    /// `name=value`.
    pub(crate) cookie: String,
}

impl Client for Anonymous<'_> {
    fn door(&self) -> &Door {
        self.0
    }

    fn dress(&self, request: RequestBuilder) -> RequestBuilder {
        request
    }
}

impl Client for WithToken<'_> {
    fn door(&self) -> &Door {
        self.door
    }

    fn dress(&self, request: RequestBuilder) -> RequestBuilder {
        request.bearer_auth(&self.secret)
    }
}

impl Client for WithSession<'_> {
    fn door(&self) -> &Door {
        self.door
    }

    fn dress(&self, request: RequestBuilder) -> RequestBuilder {
        request.header("cookie", &self.cookie)
    }
}

impl WithSession<'_> {
    /// The token of this session's forms, as its pages hold it.
    pub(crate) async fn csrf(&self) -> String {
        let page = self.get("/account").await;
        assert_eq!(page.status, 200, "{}", page.text);
        field(&page.text, "csrf")
    }

    /// Sends a form as this session's own pages do.
    pub(crate) async fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let csrf = self.csrf().await;
        let all: Vec<(&str, &str)> = fields.iter().copied().chain([("csrf", csrf.as_str())]).collect();
        answer(self.ask("POST", path).header("sec-fetch-site", "same-origin").form(&all)).await
    }
}

/// The value of a hidden field in a page.
pub(crate) fn field(page: &str, name: &str) -> String {
    let rest = page.split(&format!("name=\"{name}\" value=\"")).nth(1);
    rest.and_then(|r| r.split('"').next()).unwrap_or_else(|| panic!("no field {name} in {page}")).to_owned()
}

impl WithSession<'_> {
    /// The status of `/api/me`, after a look at who it says.
    pub(crate) async fn door_says_ann(&self) -> u16 {
        let me = self.get("/api/me").await;
        assert_eq!(me.json()["name"], "Ann");
        me.status
    }
}
