//! What a client writes under an identity header's name does not reach the app.

use crate::{
    front::Proxy,
    site::{Site, door_cookie},
};

const NAMES: [&str; 10] = [
    "X-Auth-Request-User",
    "X-Auth-Request-Email",
    "X-Auth-Request-Groups",
    "X-Auth-Request-Preferred-Username",
    "Remote-User",
    "Remote-Email",
    "Remote-Groups",
    "Remote-Name",
    "X-Loki-Jwt-Assertion",
    "X-Pomerium-Jwt-Assertion",
];

const LIE: &str = "forged";

/// Every way to write `_` for some of the `-` in a name, each in three cases.
fn spellings(name: &str) -> Vec<String> {
    let parts: Vec<&str> = name.split('-').collect();
    let join = |mask: usize| {
        let with_separator = |(at, part): (usize, &&str)| match at {
            0 => (*part).to_owned(),
            _ => format!("{}{part}", if mask >> (at - 1) & 1 == 1 { '_' } else { '-' }),
        };
        parts.iter().enumerate().map(with_separator).collect::<String>()
    };
    let all = (0..1 << (parts.len() - 1)).map(join);
    all.flat_map(|name| [name.to_lowercase(), name.to_uppercase(), name]).collect()
}

/// Everything that a client could send for one name: each spelling alone, twice, and with a list.
fn attempts() -> Vec<Vec<(String, String)>> {
    let mut all = Vec::new();
    for spelling in NAMES.iter().flat_map(|name| spellings(name)) {
        let line = |value: &str| (spelling.clone(), value.to_owned());
        all.push(vec![line(LIE)]);
        all.push(vec![line(LIE), line(LIE)]);
        all.push(vec![line(&format!("{LIE}, {LIE}"))]);
        all.push(vec![line(""), line(LIE)]);
    }
    // All at once, in every case.
    all.push(NAMES.iter().flat_map(|name| spellings(name)).map(|name| (name, LIE.to_owned())).take(90).collect());
    all
}

fn with<'h>(first: Option<(&'h str, &'h str)>, lines: &'h [(String, String)]) -> Vec<(&'h str, &'h str)> {
    first.into_iter().chain(lines.iter().map(|(name, value)| (name.as_str(), value.as_str()))).collect()
}

#[test]
fn there_are_as_many_spellings_as_a_lenient_program_could_read() {
    assert_eq!(spellings("Remote-User").len(), 6);
    assert_eq!(attempts().len(), 769);
}

through_each_proxy! {
    async fn forged_identity_does_not_arrive_on_a_protected_path(proxy) {
        let site = Site::open(proxy).await;
        let ann = site.ann(serde_json::json!({})).await;
        let cookie = door_cookie(&ann).await;
        for lines in attempts() {
            let arrived = site.get("/x", &with(Some(("Cookie", &cookie)), &lines)).await.passed();
            assert!(!arrived.text().contains(LIE), "{lines:?}: {arrived:?}");
            assert_eq!(arrived.value("x-auth-request-email"), "ann@example.org", "{lines:?}");
        }
    }

    async fn forged_identity_does_not_arrive_on_a_public_path(proxy) {
        let site = Site::open(proxy).await;
        for lines in attempts() {
            let arrived = site.get("/public/x", &with(None, &lines)).await.passed();
            assert!(!arrived.text().contains(LIE), "{lines:?}: {arrived:?}");
            for name in NAMES {
                assert_eq!(arrived.values(name).concat(), "", "{lines:?}: {arrived:?}");
            }
        }
        let own = site.get("/public/x", &[("X-Own", LIE)]).await.passed();
        assert_eq!(own.value("x-own"), LIE, "what is not about identity arrives");
    }

    /// An app that goes by `Remote-User` and its relatives.
    async fn forged_identity_does_not_arrive_in_the_other_dialect_either(proxy) {
        let site = Site::open_with(proxy, "[{host: app.localhost, headers: remote, rules: [{scope: read}]}]").await;
        let ann = site.ann(serde_json::json!({})).await;
        for lines in attempts() {
            let arrived = site.get("/x", &with(Some(("Cookie", &ann.cookie)), &lines)).await.passed();
            assert!(!arrived.text().contains(LIE), "{lines:?}: {arrived:?}");
            assert_eq!((arrived.value("remote-name"), arrived.value("remote-groups")), ("Ann", "admins"), "{lines:?}");
        }
    }

    /// Names that only a careless parser takes for the plain one.
    async fn forged_identity_does_not_arrive_in_lines_that_are_not_sound(proxy) {
        let site = Site::open(proxy).await;
        for name in NAMES {
            let folded = format!("a\r\n {name}: {LIE}");
            let bare = format!("a\n{name}: {LIE}");
            let carriage = format!("a\r{name}: {LIE}");
            for (name, value) in [
                (format!("{name} "), LIE),
                (format!("{name}\t"), LIE),
                (format!("{name}\u{0}"), LIE),
                (format!(" {name}"), LIE),
                ("X-Own".to_owned(), folded.as_str()),
                ("X-Own".to_owned(), bare.as_str()),
                ("X-Own".to_owned(), carriage.as_str()),
            ] {
                let reply = site.get("/public/x", &[(name.as_str(), value)]).await;
                let of_a_name = |found: &str| {
                    let plain = found.trim_matches(|c: char| !c.is_ascii_alphanumeric()).replace('_', "-");
                    NAMES.iter().any(|name| plain.eq_ignore_ascii_case(name))
                };
                for arrived in &reply.arrived {
                    let forged = arrived.headers.iter().find(|(found, value)| of_a_name(found) && !value.is_empty());
                    assert!(forged.is_none(), "{name:?}: {value:?}: {arrived:?}");
                }
            }
        }
    }

    /// `Connection` names headers that a proxy takes off on the way: not those that lokid gave.
    async fn a_client_cannot_have_the_identity_taken_off(proxy) {
        let site = Site::open(proxy).await;
        let ann = site.ann(serde_json::json!({})).await;
        let names = NAMES.join(", ");
        let headers = [("Cookie", ann.cookie.as_str()), ("Connection", &format!("close, {names}, X-Forwarded-Uri"))];
        let arrived = site.get("/x", &headers).await.passed();
        assert_eq!(arrived.value("x-auth-request-email"), "ann@example.org");
    }
}

/// Taking `Connection` apart must not take web sockets away.
#[actix_web::test]
async fn caddy_still_passes_an_upgrade_on() {
    let site = Site::open(Proxy::Caddy).await;
    let headers = [("Connection", "keep-alive, Upgrade, X-Auth-Request-User"), ("Upgrade", "websocket")];
    let arrived = site.get("/public/x", &headers).await.passed();
    assert_eq!(arrived.value("upgrade"), "websocket");
    assert!(arrived.value("connection").eq_ignore_ascii_case("upgrade"), "{arrived:?}");
    let plain = site.get("/public/x", &[("Upgrade", "websocket")]).await.passed();
    assert_eq!(plain.value("upgrade"), "", "only who says so in Connection has an upgrade");
}
