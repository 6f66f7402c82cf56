//! Signed tokens of the issuers that people have: who comes in as what, and that each is refused when one thing
//! about it is wrong.

use lokid::domain::time::Clock;
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::{
    door::{Anonymous, Answer, Client, Door, answer},
    issuer::{COOL_DOWN, Issuer, Key, Says, claims, header, signed, token},
    pki::Certs,
};

pub(crate) const AUDIENCE: &str = "https://loki.example";
const TENANT: &str = "7c4f1f3a-1111-2222-3333-444455556666";

/// Somebody who sends this header `Authorization`.
pub(crate) struct Sends<'d>(pub(crate) &'d Door, pub(crate) String);

impl Client for Sends<'_> {
    fn door(&self) -> &Door {
        self.0
    }

    fn dress(&self, request: RequestBuilder) -> RequestBuilder {
        request.header("authorization", &self.1)
    }
}

/// The bearer of a token.
pub(crate) fn bearer<'d>(door: &'d Door, token: &str) -> Sends<'d> {
    Sends(door, format!("Bearer {token}"))
}

/// A door that takes tokens of these entries of `enterprise.auth.jwt`.
pub(crate) async fn door_for(entries: &Value, env: &[(&str, &str)]) -> Door {
    let text = entries.to_string();
    let mut all = vec![("LOKI_JWT_ISSUERS", text.as_str()), ("LOKI_LIMITS_BAD_CREDENTIALS", "off")];
    all.extend(env);
    Door::open(&all).await
}

/// A door for tokens of any bearer, whom it makes an operator.
pub(crate) async fn plain_door() -> (Issuer, Door) {
    let issuer = Issuer::start();
    let entry = json!({"id": "plain", "issuer": issuer.origin, "audience": AUDIENCE, "role": "operator"});
    let door = door_for(&entry, &[]).await;
    (issuer, door)
}

/// What a platform writes into its tokens, and how it is configured here.
struct Platform {
    name: &'static str,
    /// What its issuer is called below the origin.
    path: &'static str,
    entry: fn(&str) -> Value,
    claims: fn(&str, &Clock) -> Value,
    /// Makes the token one of somebody else, or one with less.
    narrow: fn(&mut Value),
    /// How the answer then begins.
    refused: u16,
    /// The id by which the bearer is known.
    id: &'static str,
}

fn with(mut base: Value, more: Value) -> Value {
    base.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    base
}

fn github(sub: &str, iss: &str, clock: &Clock) -> Value {
    let more = json!({
        "repository": "acme/app", "repository_id": "42", "repository_owner": "acme", "repository_owner_id": "7",
        "ref": "refs/heads/main", "environment": "prod", "event_name": "push", "run_id": "1001", "sha": "abc123",
        "jti": format!("jti-{sub}-{}", clock.now().millis()), "workflow_ref": "acme/app/.github/workflows/ci.yml@refs/heads/main",
    });
    with(claims(iss, AUDIENCE, sub, clock), more)
}

fn auth0(iss: &str, clock: &Clock) -> Value {
    let more = json!({"azp": "app", "gty": "client-credentials", "scope": "read:x request:certificates"});
    with(claims(iss, AUDIENCE, "app@clients", clock), more)
}

const PLATFORMS: [Platform; 12] = [
    Platform {
        name: "Auth0, whose issuer ends in a slash",
        path: "/",
        entry: |iss| json!({"issuerUrl": iss.trim_end_matches('/'), "audience": AUDIENCE, "requiredScopes": ["request:certificates"], "id": "auth0"}),
        claims: auth0,
        narrow: |c| c["scope"] = json!("read:x no-request:certificates"),
        refused: 403,
        id: "auth0:app@clients",
    },
    Platform {
        name: "Auth0, by its preset",
        path: "/",
        entry: |iss| json!({"preset": "auth0", "issuer": iss, "audience": AUDIENCE, "required_scopes": ["request:certificates"], "rules": [{"claims": {"azp": "app"}}]}),
        claims: auth0,
        narrow: |c| c["azp"] = json!("another-app"),
        refused: 403,
        id: "auth0:app@clients",
    },
    Platform {
        name: "a job of GitLab on a protected branch",
        path: "",
        entry: |iss| {
            let rule = json!({"claims": {"project_id": 42, "ref_protected": true}});
            json!({"preset": "gitlab", "issuer": iss, "audience": AUDIENCE, "rules": [rule]})
        },
        claims: |iss, clock| {
            let more = json!({
                "project_id": "42", "project_path": "acme/app", "namespace_id": "7", "namespace_path": "acme",
                "pipeline_id": "1001", "job_id": "2002", "ref": "main", "ref_type": "branch", "ref_protected": "true",
                "sha": "abc123", "jti": "gitlab-1",
            });
            with(claims(iss, AUDIENCE, "project_path:acme/app:ref_type:branch:ref:main", clock), more)
        },
        narrow: |c| c["ref_protected"] = json!("false"),
        refused: 403,
        id: "gitlab:project_path:acme/app:ref_type:branch:ref:main",
    },
    Platform {
        name: "a service account of a cluster of one's own",
        path: "",
        entry: |iss| {
            let rule = json!({"claims": {"sub": "system:serviceaccount:ci:runner"}});
            json!({"preset": "kubernetes", "issuer": iss, "audience": AUDIENCE, "rules": [rule]})
        },
        claims: |iss, clock| {
            let place = json!({"namespace": "ci", "serviceaccount": {"name": "runner", "uid": "uid-1"}});
            with(claims(iss, AUDIENCE, "system:serviceaccount:ci:runner", clock), json!({"kubernetes.io": place}))
        },
        narrow: |c| c["sub"] = json!("system:serviceaccount:ci:runner-2"),
        refused: 403,
        id: "kubernetes:system:serviceaccount:ci:runner",
    },
    Platform {
        name: "Entra, version 2.0",
        path: "/7c4f1f3a-1111-2222-3333-444455556666/v2.0",
        entry: |iss| json!({"preset": "entra", "issuer": iss, "audience": AUDIENCE, "required_scopes": ["Certificates.Request"]}),
        claims: |iss, clock| {
            let more =
                json!({"tid": TENANT, "oid": "oid-1", "azp": "app-1", "ver": "2.0", "roles": ["Certificates.Request"]});
            with(claims(iss, AUDIENCE, "oid-1", clock), more)
        },
        narrow: |c| c["roles"] = json!(["Certificates.RequestNothing"]),
        refused: 403,
        id: "entra:oid-1",
    },
    Platform {
        name: "Entra, version 1.0, as a managed identity gets it",
        path: "/7c4f1f3a-1111-2222-3333-444455556666/v2.0",
        entry: |iss| json!({"preset": "entra", "issuer": iss, "audience": AUDIENCE, "required_scopes": ["Certificates.Request"]}),
        claims: |_, clock| {
            let more = json!({"tid": TENANT, "oid": "oid-1", "appid": "app-1", "ver": "1.0", "roles": ["Certificates.Request"]});
            with(claims(&format!("https://sts.windows.net/{TENANT}/"), AUDIENCE, "oid-1", clock), more)
        },
        narrow: |c| c["iss"] = json!("https://sts.windows.net/another-tenant/"),
        refused: 401,
        id: "entra:oid-1",
    },
    Platform {
        name: "a service account of Google, without scopes",
        path: "",
        entry: |iss| {
            let rule = json!({"claims": {"sub": "108500000000000000001", "email": "ci@acme.iam.gserviceaccount.com"}});
            json!({"preset": "google", "issuer": iss, "audience": AUDIENCE, "rules": [rule]})
        },
        claims: |iss, clock| {
            let more = json!({"email": "ci@acme.iam.gserviceaccount.com", "email_verified": true, "azp": "108500000000000000001"});
            with(claims(iss, AUDIENCE, "108500000000000000001", clock), more)
        },
        narrow: |c| c["email_verified"] = json!(false),
        refused: 403,
        id: "google:108500000000000000001",
    },
    Platform {
        name: "GitHub Actions, by ids",
        path: "",
        entry: |iss| {
            let rule = json!({"name": "deploy", "claims": {"repository_id": 42, "environment": "prod"}});
            json!({"preset": "github-actions", "issuer": iss, "audience": AUDIENCE, "rules": [rule]})
        },
        claims: |iss, clock| github("repo:acme/app:environment:prod", iss, clock),
        narrow: |c| c["repository_id"] = json!("43"),
        refused: 403,
        id: "github-actions:repo:acme/app:environment:prod",
    },
    Platform {
        name: "GitHub Actions, whose subject names the ids",
        path: "",
        entry: |iss| {
            let rule = json!({"claims": {"sub": "repo:acme/app:environment:prod", "repository_owner_id": "7"}});
            json!({"preset": "github-actions", "issuer": iss, "audience": AUDIENCE, "rules": [rule]})
        },
        claims: |iss, clock| github("repo:acme@7/app@42:environment:prod", iss, clock),
        narrow: |c| c["sub"] = json!("repo:acme@7/app@42:environment:production"),
        refused: 403,
        id: "github-actions:repo:acme@7/app@42:environment:prod",
    },
    Platform {
        name: "GitHub Actions for a pull request of anybody",
        path: "",
        entry: |iss| {
            let rule = json!({"claims": {"repository_id": 42}});
            json!({"preset": "github-actions", "issuer": iss, "audience": AUDIENCE, "rules": [rule]})
        },
        claims: |iss, clock| github("repo:acme/app:pull_request", iss, clock),
        narrow: |c| c["event_name"] = json!("pull_request_target"),
        refused: 403,
        id: "github-actions:repo:acme/app:pull_request",
    },
    Platform {
        name: "a projected token of an EKS cluster",
        path: "/id/EXAMPLED539D4633E53DE1B716D3041E",
        entry: |iss| {
            let rule = json!({"claims": {"sub": "system:serviceaccount:ci:runner", "/kubernetes.io/namespace": "ci"}});
            json!({"preset": "aws-irsa", "issuer": iss, "audience": "sts.amazonaws.com", "rules": [rule]})
        },
        claims: |iss, clock| {
            let place = json!({"namespace": "ci", "serviceaccount": {"name": "runner", "uid": "uid-1"}, "pod": {"name": "p", "uid": "u"}});
            let more = json!({"aud": ["sts.amazonaws.com"], "kubernetes.io": place, "jti": "j-1"});
            with(claims(iss, "", "system:serviceaccount:ci:runner", clock), more)
        },
        narrow: |c| c["kubernetes.io"]["namespace"] = json!("ci-2"),
        refused: 403,
        id: "aws-irsa:system:serviceaccount:ci:runner",
    },
    Platform {
        name: "tsiam, without an authorization endpoint and without scopes",
        path: "",
        entry: |iss| json!({"preset": "tsiam", "issuerUrl": iss, "audience": "https://le-cert-server", "rules": [{"claims": {"sub": {"glob": "node-*"}}}]}),
        claims: |iss, clock| claims(iss, "https://le-cert-server", "node-17", clock),
        narrow: |c| c["sub"] = json!("user-17"),
        refused: 403,
        id: "tsiam:node-17",
    },
];

async fn me(door: &Door, token: &str) -> Answer {
    bearer(door, token).get("/api/me").await
}

#[actix_web::test]
async fn every_platform_comes_in_and_is_refused_when_one_thing_is_wrong() {
    for Platform { name, path, entry, claims, narrow, refused, id } in PLATFORMS {
        let issuer = Issuer::start();
        let iss = issuer.named(path);
        let door = door_for(&entry(&iss), &[]).await;
        let good = claims(&iss, &door.clock);
        let let_in = me(&door, &token(&good, Key::Rsa)).await;
        assert_eq!(let_in.status, 200, "{name}: {}", let_in.text);
        let shown = let_in.json();
        assert_eq!(
            (&shown["id"], &shown["kind"], &shown["authenticated_by"]),
            (&json!(id), &json!("workload"), &json!("workload")),
            "{name}"
        );
        assert_eq!((&shown["role"], &shown["scopes"]), (&json!("viewer"), &json!(["read"])), "{name}");

        let changed = |change: &dyn Fn(&mut Value)| {
            let mut claims = good.clone();
            change(&mut claims);
            claims
        };
        let now = door.clock.now().seconds();
        for (what, claims, key) in [
            ("issuer", changed(&|c| c["iss"] = json!("https://evil.example")), Key::Rsa),
            ("audience", changed(&|c| c["aud"] = json!("https://another.example")), Key::Rsa),
            ("key", good.clone(), Key::Stranger),
            ("time", changed(&|c| c["exp"] = json!(now - 61)), Key::Rsa),
            ("time ahead", changed(&|c| c["nbf"] = json!(now + 61)), Key::Rsa),
        ] {
            let answer = me(&door, &token(&claims, key)).await;
            answer.problem(401);
            assert!(answer.header("www-authenticate").contains(r#"error="invalid_token""#), "{name}, {what}");
            assert!(!answer.text.contains(AUDIENCE) && !answer.text.contains(&iss), "{name}, {what}: {}", answer.text);
        }
        let narrowed = me(&door, &token(&changed(&narrow), Key::Rsa)).await;
        narrowed.problem(refused);
        assert_eq!(door.audit("auth.fail").await.len(), 6, "{name}");
        assert_eq!(me(&door, &token(&good, Key::P256)).await.status, 200, "{name}: the twin");
    }
}

#[actix_web::test]
async fn what_a_token_lacks_is_said_as_rfc_6750_says_it_and_the_log_keeps_the_reason() {
    let issuer = Issuer::start();
    let entry = json!({"issuer": issuer.origin, "audience": AUDIENCE, "required_scopes": ["write:x", "read:x"]});
    let door = door_for(&entry, &[]).await;
    let mut own = claims(&issuer.origin, AUDIENCE, "s", &door.clock);
    own["scope"] = json!("read:x");
    let refused = me(&door, &token(&own, Key::P256)).await;
    refused.problem(403);
    let challenge = r#"Bearer realm="loki", error="insufficient_scope", scope="write:x""#;
    assert_eq!(refused.header("www-authenticate"), challenge);
    own["scope"] = json!("read:x write:x");
    let door_says = bearer(&door, &token(&own, Key::P256)).get("/api/enterprise/tokens").await;
    let challenge = r#"Bearer realm="loki", error="insufficient_scope", scope="*""#;
    assert_eq!((door_says.status, door_says.header("www-authenticate")), (403, challenge));
    own["exp"] = json!(door.clock.now().seconds() - 100);
    me(&door, &token(&own, Key::P256)).await.problem(401);
    let reasons: Vec<String> = door.audit("auth.fail").await.into_iter().map(|e| e.reason).collect();
    assert_eq!(reasons, ["expired", "missing_scopes"]);
}

#[actix_web::test]
async fn a_rule_gives_what_it_says_and_the_first_that_holds_decides() {
    let issuer = Issuer::start();
    let rules = json!([
        {"name": "main", "claims": {"ref": "refs/heads/main"}, "role": "operator"},
        {"name": "branches", "claims": {"ref": {"prefix": "refs/heads/"}, "actor": {"not": "dependabot"}}, "scopes": ["write"]},
    ]);
    let entry = json!({"issuer": issuer.origin, "audience": AUDIENCE, "rules": rules});
    let door = door_for(&entry, &[]).await;
    let of = |branch: &str, actor: &str| {
        let more = json!({"ref": branch, "actor": actor});
        token(&with(claims(&issuer.origin, AUDIENCE, "s", &door.clock), more), Key::Ed25519)
    };
    let main = me(&door, &of("refs/heads/main", "dependabot")).await.json();
    assert_eq!((&main["role"], &main["scopes"]), (&json!("operator"), &json!(["read", "write", "control"])));
    let branch = bearer(&door, &of("refs/heads/x", "ann"));
    assert_eq!(branch.get("/api/me").await.json()["scopes"], json!(["write"]));
    assert_eq!(branch.post("/api/tasks", &json!({"title": "from a branch"})).await.status, 201);
    assert_eq!(door.audit("task.create").await[0].actor_id, "127.0.0.1:s");
    me(&door, &of("refs/heads/x", "dependabot")).await.problem(403);
    me(&door, &of("refs/tags/v1", "ann")).await.problem(403);
    let reasons: Vec<String> = door.audit("auth.fail").await.into_iter().map(|e| e.reason).collect();
    assert_eq!(reasons, ["no_rule", "no_rule"]);
}

#[actix_web::test]
async fn tokens_of_our_own_sign_in_and_our_own_assertions_are_no_credentials() {
    // The provider of the sign-in is an issuer too, for another audience.
    let provider = Door::open(&[]).await;
    let iss = provider.provider.issuer().to_owned();
    let entry = json!({"issuer": iss, "audience": AUDIENCE});
    let door = door_for(
        &entry,
        &[("LOKI_OIDC_ISSUER", &iss), ("LOKI_SERVER_SECRET", "a secret of the test, long enough for it")],
    )
    .await;
    let sign = |aud: Value| {
        let mut claims = claims(&iss, "", "ann", &door.clock);
        claims["aud"] = aud;
        crate::jose::jws(&json!({"alg": "RS256", "kid": "main"}), &claims, crate::jose::Sign::Main)
    };
    assert_eq!(me(&door, &sign(json!([AUDIENCE]))).await.status, 200);
    me(&door, &sign(json!("lokid-test"))).await.problem(401);
    me(&door, &sign(json!([AUDIENCE, "lokid-test"]))).await.problem(401);
    let mut message = claims(&iss, AUDIENCE, "ann", &door.clock);
    message["events"] = json!({"http://schemas.openid.net/event/backchannel-logout": {}});
    let logout = crate::jose::jws(&json!({"alg": "RS256", "kid": "main"}), &message, crate::jose::Sign::Main);
    me(&door, &logout).await.problem(401);

    let own = door.app.settings.server.public_url.as_str().trim_end_matches('/').to_owned();
    let ring = door.app.keys.load();
    for (typ, says) in [("loki-assertion+jwt", "own_assertion"), ("JWT", "own_assertion")] {
        me(&door, &ring.signing().sign(typ, &claims(&own, AUDIENCE, "ann", &door.clock))).await.problem(401);
        assert_eq!(door.audit("auth.fail").await[0].reason, says);
    }
    let reasons: Vec<String> = door.audit("auth.fail").await.into_iter().map(|e| e.reason).collect();
    assert_eq!(reasons[2..], ["security_event", "own_id_token", "audience"]);
}

#[actix_web::test]
async fn two_credentials_are_refused_whatever_they_are() {
    let (issuer, door) = plain_door().await;
    let jwt = token(&claims(&issuer.origin, AUDIENCE, "s", &door.clock), Key::P256);
    let person = door.person("ann", "admins").await;
    let loki = door.token("read").await;
    let both = person.ask("GET", "/api/me").header("authorization", format!("Bearer {jwt}"));
    answer(both).await.problem(400);
    let twice = bearer(&door, &jwt).ask("GET", "/api/me").header("authorization", format!("Bearer {}", loki.secret));
    answer(twice).await.problem(400);
    let reasons: Vec<String> = door.audit("auth.fail").await.into_iter().map(|e| e.reason).collect();
    assert_eq!(reasons, ["two_credentials", "two_credentials"]);
    assert_eq!(me(&door, &jwt).await.status, 200);
    for query in ["access_token", "token", "jwt"] {
        Anonymous(&door).get(&format!("/api/me?{query}={jwt}")).await.problem(401);
    }
}

#[actix_web::test]
async fn an_issuer_that_is_down_costs_its_own_tokens_only() {
    for says in [
        Says::Status(500),
        Says::Text("<html>".into()),
        Says::Text(r#"{"keys":[]}"#.into()),
        Says::Text(r#"{"keys":{}}"#.into()),
        Says::Redirect,
        Says::Huge,
    ] {
        let (down, up) = (Issuer::start(), Issuer::start());
        let entry = |id: &str, issuer: &Issuer| json!({"id": id, "issuer": issuer.origin, "audience": AUDIENCE});
        let door = door_for(&json!([entry("down", &down), entry("up", &up)]), &[]).await;
        down.keys_say(says.clone());
        let of = |issuer: &Issuer| token(&claims(&issuer.origin, AUDIENCE, "s", &door.clock), Key::P256);
        let refused = me(&door, &of(&down)).await;
        refused.problem(503);
        assert_eq!(refused.header("retry-after"), "10", "{says:?}");
        assert_eq!(me(&door, &of(&up)).await.status, 200, "{says:?}");
        assert_eq!(door.token("read").await.get("/api/me").await.status, 200);
        me(&door, &of(&down)).await.problem(503);
        assert_eq!(down.fetches(), 1, "{says:?}: once in a cool-down");
        down.keys_say(Says::Keys);
        door.clock.advance(COOL_DOWN);
        assert_eq!(me(&door, &of(&down)).await.status, 200, "{says:?}");
    }
}

#[actix_web::test]
async fn a_discovery_document_that_names_another_issuer_or_an_odd_place_is_not_followed() {
    for (what, document) in [
        ("another issuer", json!({"issuer": "https://evil.example", "jwks_uri": "ORIGIN/keys"})),
        ("two slashes", json!({"issuer": "ORIGIN//", "jwks_uri": "ORIGIN/keys"})),
        ("an issuer in a list", json!({"issuer": ["ORIGIN"], "jwks_uri": "ORIGIN/keys"})),
        ("no issuer", json!({"jwks_uri": "ORIGIN/keys"})),
        ("no key set", json!({"issuer": "ORIGIN"})),
        ("a key set over http elsewhere", json!({"issuer": "ORIGIN", "jwks_uri": "http://keys.example/"})),
        ("a key set in a file", json!({"issuer": "ORIGIN", "jwks_uri": "file:///etc/passwd"})),
        ("a list", json!([])),
    ] {
        let (issuer, door) = plain_door().await;
        let good = json!({"issuer": issuer.origin, "jwks_uri": format!("{}/keys", issuer.origin)});
        issuer.discovery(serde_json::from_str(&document.to_string().replace("ORIGIN", &issuer.origin)).unwrap());
        let jwt = || token(&claims(&issuer.origin, AUDIENCE, "s", &door.clock), Key::P256);
        me(&door, &jwt()).await.problem(503);
        assert_eq!(issuer.fetches(), 0, "{what}");
        issuer.discovery(good);
        door.clock.advance(COOL_DOWN);
        assert_eq!(me(&door, &jwt()).await.status, 200, "{what}");
    }
    let (issuer, door) = plain_door().await;
    issuer.discovery_says(Says::Redirect);
    me(&door, &token(&claims(&issuer.origin, AUDIENCE, "s", &door.clock), Key::P256)).await.problem(503);
}

#[actix_web::test]
async fn a_key_set_can_be_named_without_discovery() {
    let issuer = Issuer::start();
    let entry = json!({"issuer": "https://issuer.example", "jwks_url": format!("{}/keys", issuer.origin), "audience": [AUDIENCE, "b"]});
    let door = door_for(&entry, &[]).await;
    for (iss, aud, status) in [
        ("https://issuer.example", AUDIENCE, 200),
        ("https://issuer.example/", "b", 200),
        ("https://issuer.example//", "b", 401),
        ("https://issuer.example", "c", 401),
        (issuer.origin.as_str(), "b", 401),
    ] {
        assert_eq!(
            me(&door, &token(&claims(iss, aud, "s", &door.clock), Key::P384)).await.status,
            status,
            "{iss} {aud}"
        );
    }
    assert_eq!(issuer.calls("openid-configuration"), 0);
}

#[actix_web::test]
async fn the_first_use_of_a_bearer_in_an_hour_is_an_event_and_the_rest_are_not() {
    let (issuer, door) = plain_door().await;
    for n in 0..5 {
        let mut claims = claims(&issuer.origin, AUDIENCE, if n == 4 { "other" } else { "s" }, &door.clock);
        claims["jti"] = json!(n);
        let jwt = token(&claims, Key::P256);
        assert_eq!(me(&door, &jwt).await.status, 200);
        assert_eq!(me(&door, &jwt).await.status, 200);
    }
    lokid::actions::background::write_uses(&door.app).await.unwrap();
    let used = door.audit("auth.token.use").await;
    let ids: Vec<&str> = used.iter().map(|e| e.actor_id.as_str()).collect();
    assert_eq!(ids, ["plain:other", "plain:s"]);
    assert_eq!((used[0].actor_kind.as_str(), used[0].ip.as_deref()), ("workload", Some("127.0.0.1")));
    assert!(used[0].details.contains("any token"), "{}", used[0].details);
}

#[actix_web::test]
async fn a_proxy_may_ask_about_a_bearer_and_an_apps_own_token_beside_a_cookie_is_left_to_the_app() {
    let issuer = Issuer::start();
    let entry = json!({"id": "ci", "issuer": issuer.origin, "audience": AUDIENCE});
    let apps = ("LOKI_FORWARD_AUTH_APPS", "[{host: app.example, rules: [{path: /, scope: read}]}]");
    let door = door_for(&entry, &[apps, ("LOKI_SERVER_TRUSTED_PROXIES", "127.0.0.1")]).await;
    let forwarded = |request: RequestBuilder| {
        let request = request.header("x-forwarded-method", "GET").header("x-forwarded-proto", "https");
        request.header("x-forwarded-host", "app.example").header("x-forwarded-uri", "/x")
    };
    let sign = |aud: &str| token(&claims(&issuer.origin, aud, "job", &door.clock), Key::P256);
    let (ours, theirs) = (sign(AUDIENCE), sign("https://app.example"));
    let passed = answer(forwarded(bearer(&door, &ours).ask("GET", "/auth/verify"))).await;
    assert_eq!((passed.status, passed.header("x-auth-request-user")), (200, "ci:job"));
    assert!(!passed.header("x-loki-jwt-assertion").is_empty());
    assert_eq!(answer(forwarded(bearer(&door, &theirs).ask("GET", "/auth/verify"))).await.status, 401);
    let person = door.person("ann", "admins").await;
    let beside =
        |jwt: &str| forwarded(person.ask("GET", "/auth/verify").header("authorization", format!("Bearer {jwt}")));
    let passed = answer(beside(&theirs)).await;
    assert_eq!(passed.status, 200);
    assert!(passed.header("x-auth-request-user").starts_with("usr-"));
    assert_eq!(answer(beside(&ours)).await.status, 400);
}

#[actix_web::test]
async fn whose_tokens_are_taken_is_published() {
    let (issuer, door) = plain_door().await;
    let metadata = Anonymous(&door).get("/.well-known/oauth-protected-resource").await;
    assert_eq!((metadata.status, metadata.header("content-type")), (200, "application/json"));
    let document = metadata.json();
    assert_eq!(document["resource"], format!("http://localhost:{}", door.port));
    assert_eq!(document["authorization_servers"], json!([issuer.origin]));
    assert_eq!(document["bearer_methods_supported"], json!(["header"]));
    let bare = Door::open(&[]).await;
    let document = Anonymous(&bare).get("/.well-known/oauth-protected-resource").await.json();
    assert!(document.get("authorization_servers").is_none());
    let jwt = signed(&header(Key::P256), &claims(&issuer.origin, AUDIENCE, "s", &bare.clock), Key::P256);
    me(&bare, &jwt).await.problem(401);
}

/// The curl line of seeds/002, with a token of a platform; status and answer.
async fn asks_for(door: &Door, token: &str, domain: &str) -> (String, Value) {
    let script = format!(
        "ACCESS_TOKEN={token}\ncurl -s -w '\\n%{{http_code}}' -X POST http://localhost:{}/api/certificate \\\n \
         -H \"Authorization: Bearer $ACCESS_TOKEN\" \\\n -H \"Content-Type: application/json\" \\\n -d '{{\"domain\": \"{domain}\"}}'",
        door.port
    );
    let bash = move || std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
    let said = String::from_utf8(tokio::task::spawn_blocking(bash).await.unwrap().stdout).unwrap();
    let (body, status) = said.rsplit_once('\n').unwrap();
    (status.to_owned(), serde_json::from_str(body).unwrap_or_else(|_| panic!("{said}")))
}

#[actix_web::test]
async fn every_platforms_token_gets_the_certificate_of_the_documents_for_its_domain_and_no_other() {
    for Platform { name, path, entry, claims, .. } in PLATFORMS {
        let (issuer, certs) = (Issuer::start(), Certs::new());
        let iss = issuer.named(path);
        let entry = with(entry(&iss), json!({"role": "operator"}));
        let dir = certs.dir.path().display().to_string();
        let allow = [
            ("LOKI_CERTS_DIR", dir.as_str()),
            ("LOKI_CERTIFICATES_ALLOW", "[{roles: [operator], domains: [example.com]}]"),
        ];
        let door = door_for(&entry, &allow).await;
        let token = token(&claims(&iss, &door.clock), Key::Rsa);
        let (status, refused) = asks_for(&door, &token, "another.example").await;
        assert_eq!((status.as_str(), &refused["code"]), ("403", &json!("domain_not_allowed")), "{name}: {refused}");
        let (status, issued) = asks_for(&door, &token, "example.com").await;
        assert_eq!(status, "200", "{name}: {issued}");
        assert!(issued["certificate"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----"), "{name}");
        let issue = door.audit("certificate.issue").await;
        assert_eq!((issue.len(), issue[0].actor_kind.as_str()), (1, "workload"), "{name}");
    }
}

#[actix_web::test]
async fn a_rule_gives_its_domains_or_those_that_the_token_names_within_them() {
    let (issuer, certs) = (Issuer::start(), Certs::new());
    let rules = json!([
        {"claims": {"sub": "fixed"}, "domains": ["*.fixed.example"]},
        {"claims": {"sub": "named"}, "domains": ["*.team.example"], "domains_claim": "domains"},
        {"claims": {"sub": "none"}},
    ]);
    let entry = json!({"id": "i", "issuer": issuer.origin, "audience": AUDIENCE, "role": "operator", "rules": rules});
    let dir = certs.dir.path().display().to_string();
    let door = door_for(&entry, &[("LOKI_CERTS_DIR", dir.as_str())]).await;
    let bearer_of = |sub: &str, domains: Value| {
        let claims = with(claims(&issuer.origin, AUDIENCE, sub, &door.clock), json!({"domains": domains}));
        token(&claims, Key::P256)
    };
    let status = async |token: &str, domain: &str| {
        bearer(&door, token).post("/api/certificate", &json!({"domain": domain})).await.status
    };
    let fixed = bearer_of("fixed", json!(["other.example"]));
    assert_eq!((status(&fixed, "a.fixed.example").await, status(&fixed, "other.example").await), (200, 403));
    let named = bearer_of("named", json!(["a.team.example", "b.other.example", "*"]));
    assert_eq!((status(&named, "a.team.example").await, status(&named, "c.team.example").await), (200, 403));
    assert_eq!(status(&named, "b.other.example").await, 403, "beyond the rule's domains");
    let none = bearer_of("none", json!(["a.team.example"]));
    assert_eq!(status(&none, "a.team.example").await, 403);
    assert_eq!(door.audit("permission.denied").await.len(), 4);
}
