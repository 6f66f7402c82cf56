//! A browser's way through a sign-in, without a browser: the provider of the demo runs in this process.

use std::{sync::mpsc, thread};

use super::{http::Http, server::Site};

/// The port of a provider that serves the site as long as this process lives.
pub(crate) fn provider(site: &mut Site) -> u16 {
    let (say, hear) = mpsc::channel();
    let client = format!("http://localhost:{}", site.port);
    thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            say.send(lokid::demo::provider::start(&client).unwrap()).unwrap();
            std::future::pending::<()>().await;
        });
    });
    let issuer = hear.recv().unwrap();
    let port = issuer.rsplit_once(':').unwrap().1.parse().unwrap();
    site.env.push(("LOKI_OIDC_ISSUER", issuer));
    site.env.push(("LOKI_OIDC_CLIENT_ID", lokid::demo::provider::CLIENT_ID.to_owned()));
    site.env.push(("LOKI_OIDC_PROVIDERS", "[{name: the test company}]".to_owned()));
    port
}

/// Signs in. `name=value` of the session's cookie, or `None` when the server did not answer to the end.
pub(crate) fn sign_in(http: &mut Http, provider: u16) -> Option<String> {
    let begun = http.get("/auth/oidc/login", &[]).ok()?;
    let cookie = begun.cookie("loki_signin_").unwrap_or_else(|| panic!("no sign-in was begun: {begun:?}"));
    let asked = begun.header("location")?.split_once('?')?.1.to_owned();
    let picked = Http::to(provider)
        .send("POST", "/pick", &[("content-type", "application/x-www-form-urlencoded")], &format!("person=0&{asked}"))
        .expect("the provider answers");
    let back = picked.header("location").unwrap_or_else(|| panic!("the provider refuses: {picked:?}"));
    let path = back.split_once("/auth/").map(|(_, rest)| format!("/auth/{rest}")).expect("the callback");
    let done = http.get(&path, &[("cookie", &cookie)]).ok()?;
    let session = done.cookie("loki_session");
    assert!(done.status == 303 && session.is_some(), "the sign-in failed: {done:?}");
    session
}

/// Signs out as a person does who follows the page's link. Whether the server said so.
pub(crate) fn sign_out(http: &mut Http, cookie: &str) -> bool {
    let headers = [("cookie", cookie), ("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "navigate")];
    match http.get("/auth/logout", &headers) {
        Ok(answer) => {
            assert_eq!(answer.status, 303, "{answer:?}");
            true
        }
        Err(_) => false,
    }
}
