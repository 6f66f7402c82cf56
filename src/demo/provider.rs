//! A small OpenID provider on loopback with four people and no passwords, for the demo and the tests.
//! It refuses to listen on anything but loopback.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, TcpListener},
    sync::{Mutex, PoisonError},
};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    http::header::{AUTHORIZATION, CACHE_CONTROL, LOCATION},
    web::{self, Data, Form, Query},
};
use askama::Template;
use aws_lc_rs::digest;
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use crate::{
    domain::{entropy::Entropy, time::Clock},
    keys::sign::SigningKey,
};

/// The one client that it knows.
pub const CLIENT_ID: &str = "lokid-demo";

/// Somebody to sign in as.
struct Person {
    sub: &'static str,
    name: &'static str,
    email: &'static str,
    group: &'static str,
    may: &'static str,
}

const PEOPLE: [Person; 4] = [
    Person { sub: "ada", name: "Ada Admin", email: "ada@demo.example", group: "admins", may: "admin: everything" },
    Person {
        sub: "olu",
        name: "Olu Operator",
        email: "olu@demo.example",
        group: "operators",
        may: "operator: start and steer work",
    },
    Person { sub: "vera", name: "Vera Viewer", email: "vera@demo.example", group: "staff", may: "viewer: look on" },
    Person {
        sub: "aki",
        name: "Aki Auditor",
        email: "aki@demo.example",
        group: "auditors",
        may: "auditor: look on and read the audit log",
    },
];

impl Person {
    fn claims(&self) -> Value {
        json!({"sub": self.sub, "name": self.name, "email": self.email, "email_verified": true, "groups": [self.group]})
    }
}

/// Codes and access tokens that were handed out: whose they are and what they are bound to.
struct Grant {
    person: usize,
    nonce: Option<String>,
    challenge: String,
    redirect_uri: String,
    ends_at: i64,
}

struct Provider {
    issuer: String,
    /// The address of the lokid that it serves: the only place it sends anybody to.
    client: String,
    key: SigningKey,
    clock: Clock,
    codes: Mutex<HashMap<String, Grant>>,
    access: Mutex<HashMap<String, (usize, i64)>>,
}

/// The most codes or tokens at once; then the oldest sign-ins have to begin again.
const MOST: usize = 1000;

/// Starts it on a free port of 127.0.0.1 for a lokid at `client`. Answers its issuer.
///
/// # Errors
/// When the port cannot be had.
pub fn start(client: &str) -> std::io::Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let issuer = format!("http://127.0.0.1:{}", listener.local_addr()?.port());
    let provider = Data::new(Provider {
        issuer: issuer.clone(),
        client: client.to_owned(),
        key: SigningKey::generate(),
        clock: Clock::system(),
        codes: Mutex::default(),
        access: Mutex::default(),
    });
    let server = HttpServer::new(move || {
        App::new()
            .app_data(provider.clone())
            .route("/.well-known/openid-configuration", web::get().to(discovery))
            .route("/jwks", web::get().to(jwks))
            .route("/authorize", web::get().to(authorize))
            .route("/pick", web::post().to(pick))
            .route("/token", web::post().to(token))
            .route("/userinfo", web::get().to(userinfo))
            .route("/end", web::get().to(end))
            .route("/app.css", web::get().to(css))
    });
    actix_web::rt::spawn(server.workers(1).disable_signals().listen(listener)?.run());
    Ok(issuer)
}

async fn discovery(p: Data<Provider>) -> HttpResponse {
    let at = |path: &str| format!("{}{path}", p.issuer);
    HttpResponse::Ok().json(json!({
        "issuer": p.issuer,
        "authorization_endpoint": at("/authorize"),
        "token_endpoint": at("/token"),
        "userinfo_endpoint": at("/userinfo"),
        "jwks_uri": at("/jwks"),
        "end_session_endpoint": at("/end"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "authorization_response_iss_parameter_supported": true,
    }))
}

async fn jwks(p: Data<Provider>) -> HttpResponse {
    HttpResponse::Ok().json(json!({"keys": [p.key.jwk()]}))
}

#[derive(serde::Deserialize, serde::Serialize)]
struct Asked {
    client_id: String,
    redirect_uri: String,
    state: String,
    nonce: Option<String>,
    code_challenge: String,
    code_challenge_method: String,
}

#[derive(Template)]
#[template(path = "pages/demo_people.html")]
struct PeoplePage<'a> {
    people: &'a [Person],
    asked: &'a Asked,
}

async fn authorize(p: Data<Provider>, asked: Query<Asked>) -> HttpResponse {
    let known = asked.client_id == CLIENT_ID
        && asked.redirect_uri == format!("{}/auth/oidc/callback", p.client)
        && asked.code_challenge_method == "S256";
    if !known {
        return HttpResponse::BadRequest().body("this provider serves the demo only");
    }
    let page = PeoplePage { people: &PEOPLE, asked: &asked };
    match page.render() {
        Ok(text) => HttpResponse::Ok().content_type("text/html; charset=utf-8").body(text),
        Err(_) => HttpResponse::InternalServerError().finish(),
    }
}

#[derive(serde::Deserialize)]
struct Picked {
    person: usize,
    #[serde(flatten)]
    asked: Asked,
}

async fn pick(p: Data<Provider>, picked: Form<Picked>) -> HttpResponse {
    let Picked { person, asked } = picked.into_inner();
    if person >= PEOPLE.len() || asked.redirect_uri != format!("{}/auth/oidc/callback", p.client) {
        return HttpResponse::BadRequest().finish();
    }
    let code = BASE64URL_NOPAD.encode(&Entropy.bytes::<24>());
    let ends_at = p.clock.now().seconds() + 60;
    let grant = Grant {
        person,
        nonce: asked.nonce,
        challenge: asked.code_challenge,
        redirect_uri: asked.redirect_uri.clone(),
        ends_at,
    };
    let mut codes = p.codes.lock().unwrap_or_else(PoisonError::into_inner);
    if codes.len() >= MOST {
        codes.clear();
    }
    codes.insert(code.clone(), grant);
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("code", &code)
        .append_pair("state", &asked.state)
        .append_pair("iss", &p.issuer)
        .finish();
    HttpResponse::SeeOther().insert_header((LOCATION, format!("{}?{query}", asked.redirect_uri))).finish()
}

#[derive(serde::Deserialize)]
struct TokenRequest {
    grant_type: String,
    code: String,
    code_verifier: String,
    redirect_uri: String,
}

async fn token(p: Data<Provider>, asked: Form<TokenRequest>) -> HttpResponse {
    let refuse = |error: &str| HttpResponse::BadRequest().json(json!({"error": error}));
    if asked.grant_type != "authorization_code" {
        return refuse("unsupported_grant_type");
    }
    let grant = p.codes.lock().unwrap_or_else(PoisonError::into_inner).remove(&asked.code);
    let now = p.clock.now().seconds();
    let challenge = BASE64URL_NOPAD.encode(digest::digest(&digest::SHA256, asked.code_verifier.as_bytes()).as_ref());
    let Some(grant) =
        grant.filter(|g| g.ends_at > now && g.challenge == challenge && g.redirect_uri == asked.redirect_uri)
    else {
        return refuse("invalid_grant");
    };
    let mut claims = PEOPLE[grant.person].claims();
    let own = json!({"iss": p.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "auth_time": now, "sid": asked.code, "nonce": grant.nonce});
    if let (Some(claims), Some(own)) = (claims.as_object_mut(), own.as_object()) {
        claims.extend(own.clone());
    }
    let id_token = p.key.sign("JWT", &claims);
    let access_token = BASE64URL_NOPAD.encode(&Entropy.bytes::<24>());
    let mut access = p.access.lock().unwrap_or_else(PoisonError::into_inner);
    if access.len() >= MOST {
        access.clear();
    }
    access.insert(access_token.clone(), (grant.person, now + 300));
    HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-store"))
        .json(json!({"access_token": access_token, "token_type": "Bearer", "expires_in": 300, "id_token": id_token}))
}

async fn userinfo(p: Data<Provider>, req: HttpRequest) -> HttpResponse {
    let given = req.headers().get(AUTHORIZATION).and_then(|v| v.to_str().ok()).and_then(|v| v.strip_prefix("Bearer "));
    let access = p.access.lock().unwrap_or_else(PoisonError::into_inner);
    match given.and_then(|token| access.get(token)) {
        Some((person, ends_at)) if *ends_at > p.clock.now().seconds() => {
            HttpResponse::Ok().json(PEOPLE[*person].claims())
        }
        _ => HttpResponse::Unauthorized().finish(),
    }
}

/// There is no session here to end: everybody is asked to pick every time.
async fn end(p: Data<Provider>) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, format!("{}/login?signed_out=1", p.client))).finish()
}

async fn css() -> HttpResponse {
    HttpResponse::Ok().content_type("text/css; charset=utf-8").body(include_str!("../../static/app.css"))
}
