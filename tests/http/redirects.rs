//! Where a browser can be led by a link to this server: here, or to an app that is configured.

use url::{Url, form_urlencoded::Serializer};

use crate::door::{Anonymous, Answer, Client, Door};

/// What stands before a foreign host.
const LEADS: [&str; 60] = [
    "",
    "/",
    "//",
    "///",
    "////",
    "/\\",
    "\\\\",
    "\\/",
    "/\\/",
    "/\t/",
    "/\n/",
    "/\r\n/",
    "\t//",
    " //",
    "/ /",
    "/\u{0}/",
    "/%2f",
    "/%2F/",
    "/%5c",
    "/%5C/",
    "//%5c",
    "%2f%2f",
    "/%252f",
    "/%09/",
    "/..//",
    "/.//",
    "/x/..//",
    "/./\\",
    "/%2e%2e//",
    "/%2e//",
    "/;//",
    "/?//",
    "/#//",
    "/\u{2044}",
    "/\u{ff0f}",
    "\u{ff0f}\u{ff0f}",
    "/\u{feff}/",
    "/@",
    "//user@",
    "http:",
    "http:/",
    "http://",
    "http:///",
    "https://",
    "HtTp://",
    "http:\\\\",
    "h\tttp://",
    " http://",
    "javascript://",
    "javascript:alert(1)//",
    "data:text/html,",
    "file://",
    "ftp://",
    "ws://",
    "blob:http://",
    "http://app.localhost@",
    "http://app.localhost:80@",
    "http://app.localhost\\@",
    "http://app.localhost%2f@",
    "http://localhost#@",
];

/// Hosts that are not ours, some of which look like it.
const HOSTS: [&str; 12] = [
    "evil.example",
    "evil.example/app.localhost",
    "evil.example:57374/",
    "evil.example?app.localhost",
    "evil.example#.app.localhost",
    "evil.example%23.app.localhost",
    "evil.example\\.app.localhost",
    "app.localhost.evil.example",
    "evilapp.localhost",
    "evil\u{3002}example",
    "2130706434",
    "[::ffff:7f00:2]:1/",
];

const DOMAINS: [(&str, &str); 3] = [
    ("LOKI_SERVER_TRUSTED_PROXIES", "127.0.0.1"),
    ("LOKI_FORWARD_AUTH_COOKIE_DOMAIN", "localhost"),
    ("LOKI_FORWARD_AUTH_APPS", "[{host: app.localhost, rules: [{scope: read}]}]"),
];

const LIMITS: [(&str, &str); 3] =
    [("LOKI_LIMITS_SIGN_IN", "10000/s"), ("LOKI_LIMITS_CALLBACK", "10000/s"), ("LOKI_LIMITS_PEER", "10000/s")];

async fn open() -> Door {
    Door::open(&[&DOMAINS[..], &LIMITS[..]].concat()).await
}

fn spellings() -> Vec<String> {
    LEADS.iter().flat_map(|lead| HOSTS.iter().map(move |host| format!("{lead}{host}"))).collect()
}

/// A query of this one parameter, encoded as a form does it and once more than that.
fn queries(name: &str, value: &str) -> [String; 2] {
    let once = |value: &str| Serializer::new(String::new()).append_pair(name, value).finish();
    let encoded: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
    [once(value), once(&encoded)]
}

/// Where a browser ends that follows this address from a page of ours.
fn followed(door: &Door, location: &str) -> Url {
    door.app.settings.server.public_url.join(location).unwrap_or_else(|e| panic!("{location:?}: {e}"))
}

#[track_caller]
fn assert_own(door: &Door, location: &str, asked: &str) {
    let url = followed(door, location);
    assert_eq!(url.origin(), door.app.settings.server.public_url.origin(), "{asked:?} led to {location:?}");
}

#[track_caller]
fn is_refused(answer: &Answer, asked: &str) -> bool {
    assert!(matches!(answer.status, 200 | 303 | 400 | 409 | 422), "{asked:?}: {} {}", answer.status, answer.text);
    answer.status >= 400
}

/// Where a sign-in ends that began with this query.
async fn signed_in(door: &Door, query: &str) -> String {
    door.provider.behave();
    let (url, cookie) = door.begin(&format!("?{query}")).await;
    let done = door.come_back(&door.consent(&url), &cookie, &[]).await;
    assert_eq!(done.status, 303, "{query}: {}", done.text);
    done.header("location").to_owned()
}

#[test]
fn there_are_many_spellings() {
    let mut all = spellings();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 720);
}

#[actix_web::test]
async fn a_sign_in_ends_on_this_server_whatever_its_link_says() {
    let door = open().await;
    let (mut tried, mut refused) = (0, 0);
    for asked in spellings() {
        for query in queries("return_to", &asked) {
            tried += 1;
            let begun = Anonymous(&door).get(&format!("/auth/oidc/login?{query}")).await;
            if is_refused(&begun, &asked) {
                refused += 1;
                continue;
            }
            let provider = Url::parse(begun.header("location")).unwrap();
            assert!(provider.as_str().starts_with(door.provider.issuer()), "{provider}");
            assert_own(&door, &signed_in(&door, &query).await, &asked);
        }
    }
    assert!(tried >= 1440 && refused >= 720, "{refused} of {tried}");
    assert_eq!(signed_in(&door, "return_to=%2Faudit%3Fevent%3Da").await, "/audit?event=a");
}

/// Addresses that the page's links and forms lead to.
fn links(page: &str) -> Vec<String> {
    let parts = ["href=\"", "action=\"", "src=\""].into_iter().flat_map(|mark| page.split(mark).skip(1));
    let plain = |text: &str| text.replace("&#38;", "&").replace("&amp;", "&");
    parts.filter_map(|rest| rest.split('"').next()).map(plain).collect()
}

#[actix_web::test]
async fn the_sign_in_page_leads_only_to_this_server_whatever_its_link_says() {
    let door = open().await;
    for asked in spellings() {
        let query = &queries("return_to", &asked)[0];
        let page = Anonymous(&door).get(&format!("/login?{query}")).await;
        if is_refused(&page, &asked) {
            continue;
        }
        let links = links(&page.text);
        assert!(links.iter().any(|link| link.starts_with("/auth/oidc/login?")), "{asked:?}: {}", page.text);
        for link in links {
            assert_own(&door, &link, &asked);
        }
    }
}

#[actix_web::test]
async fn the_way_back_to_an_app_leads_only_to_apps_that_are_configured() {
    let door = open().await;
    let ann = door.person("ann", "admins").await;
    let (mut tried, mut refused) = (0, 0);
    for asked in spellings() {
        for query in queries("to", &asked) {
            tried += 1;
            let path = format!("/auth/continue?{query}");
            let (known, unknown) = (ann.get(&path).await, Anonymous(&door).get(&path).await);
            assert_eq!(is_refused(&known, &asked), is_refused(&unknown, &asked), "{asked:?}");
            if is_refused(&known, &asked) {
                refused += 1;
                assert_eq!((known.header("location"), known.cookie("loki_door")), ("", None), "{asked:?}");
                continue;
            }
            assert_own(&door, unknown.header("location"), &asked);
            let url = followed(&door, known.header("location"));
            assert_eq!((url.scheme(), url.host_str()), ("http", Some("app.localhost")), "{asked:?}");
        }
    }
    assert!(tried >= 1440 && refused >= 1400, "{refused} of {tried}");
    let good = ann.get("/auth/continue?to=http%3A%2F%2Fapp.localhost%2Fx%3Fy").await;
    assert_eq!((good.status, good.header("location")), (303, "http://app.localhost/x?y"));
}
