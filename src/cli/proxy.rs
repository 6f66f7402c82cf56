//! `lokid proxy-config`: what a reverse proxy must be told so that it asks lokid about every request, and
//! so that nothing that a client writes under an identity header's name reaches an app.

use clap::ValueEnum;

use super::{Common, Done, Failure, print, sources};
use crate::{
    config::Settings,
    domain::protected::{Dialect, ProtectedApp},
    web::apps::header_names,
};

/// The proxies that a configuration can be printed for.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Proxy {
    Nginx,
    Traefik,
    Caddy,
    Envoy,
}

mod templates;

const ASSERTION: &str = "x-loki-jwt-assertion";
const ASSERTION_ALIAS: &str = "x-pomerium-jwt-assertion";

/// By these some programs find the path, the method or the person themselves. Whoever may pass to one path
/// could name another one, so they do not reach an app.
const ELSEWHERE: [&str; 14] = [
    "forwarded",
    "x-forwarded-uri",
    "x-forwarded-prefix",
    "x-forwarded-method",
    "x-forwarded-user",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-preferred-username",
    "x-original-url",
    "x-original-uri",
    "x-original-method",
    "x-rewrite-url",
    "x-http-method-override",
    "x-webauth-user",
];

/// The cookies that are good for lokid.
const COOKIES: &str =
    "(?:__Host-loki_session|__Secure-loki_door|loki_session|loki_door|(?:__Host-)?loki_signin_[A-Za-z0-9_-]+)";

/// Prints a configuration for every app, or for the one at `host`.
pub(super) fn run(common: &Common, proxy: Proxy, host: Option<&str>) -> Done {
    let settings = sources(common).load()?;
    let apps: Vec<&ProtectedApp> =
        settings.apps.apps.iter().filter(|app| host.is_none_or(|host| app.is_at(host))).collect();
    if apps.is_empty() {
        return Err(Failure::new(
            host.map_or_else(|| "no app is configured".to_owned(), |host| format!("no app is configured for {host:?}")),
        )
        .hint("list it under forward_auth.apps, with its host and rules"));
    }
    print::out(&format!("# Printed by lokid {} from its configuration.", env!("CARGO_PKG_VERSION")));
    print::out("# Replace APP_ADDRESS by where the app listens; nobody but the proxy may reach it there.");
    for app in apps {
        print::out("");
        print::out(snippet(&settings, proxy, app).trim_end());
    }
    Ok(())
}

fn snippet(settings: &Settings, proxy: Proxy, app: &ProtectedApp) -> String {
    let template = match proxy {
        Proxy::Nginx => templates::NGINX,
        Proxy::Traefik => templates::TRAEFIK,
        Proxy::Caddy => templates::CADDY,
        Proxy::Envoy => templates::ENVOY,
    };
    let lines = |line: &dyn Fn(&str) -> String| known_headers(app).iter().map(|name| line(name)).collect::<String>();
    let others = |line: &dyn Fn(&str) -> String| other_headers(app).iter().map(|name| line(name)).collect::<String>();
    let variable = |name: &str| name.replace('-', "_");
    template
        .replace("{HOST}", &app.host)
        .replace("{HOST_NAME}", name_and_port(&app.host).0)
        .replace("{HOST_PATTERN}", &pattern(&app.host))
        .replace("{NAME}", &app.host.replace(['.', ':'], "-"))
        .replace("{VAR}", &app.host.replace(['.', ':', '-'], "_"))
        .replace("{LOKID}", &listener(settings))
        .replace("{COOKIES}", COOKIES)
        .replace(
            "{NGINX_TAKE}",
            &lines(&|n| format!("        auth_request_set $loki_{0} $upstream_http_{0};\n", variable(n))),
        )
        .replace("{NGINX_SET}", &lines(&|n| format!("        proxy_set_header {n} $loki_{};\n", variable(n))))
        .replace("{NGINX_DROP}", &others(&|n| format!("        proxy_set_header {n} \"\";\n")))
        .replace("{CADDY_COPY_INNER}", &lines(&|n| format!("                {n}\n")))
        .replace("{CADDY_DROP}", &lines(&|n| format!("        request_header -{n}\n")))
        .replace("{CADDY_DROP_OTHERS}", &others(&|n| format!("        request_header -{n}\n")))
        .replace("{YAML_COPY}", &lines(&|n| format!("          - {n}\n")))
        .replace("{YAML_BLANK}", &dropped(app, &|n| format!("          {n}: \"\"\n")))
        .replace("{ENVOY_COPY}", &lines(&|n| format!("            - {{ exact: {n} }}\n")))
        .replace("{ENVOY_REMOVE}", &dropped(app, &|n| format!("        - remove: {n}\n")))
}

/// Where the proxy reaches lokid.
fn listener(settings: &Settings) -> String {
    let server = &settings.server;
    let host = match server.host.as_str() {
        "0.0.0.0" => "127.0.0.1",
        "::" | "[::]" => "[::1]",
        host => host,
    };
    let scheme = if server.tls.is_some() { "https" } else { "http" };
    format!("{scheme}://{host}:{}", server.port)
}

/// What the app learns from.
fn known_headers(app: &ProtectedApp) -> Vec<&'static str> {
    header_names(app.dialect).into_iter().chain([ASSERTION, ASSERTION_ALIAS]).collect()
}

/// What an app learns nothing from: the other dialect's names, which it might believe too, and [`ELSEWHERE`].
fn other_headers(app: &ProtectedApp) -> Vec<&'static str> {
    let other = if app.dialect == Dialect::Remote { Dialect::AuthRequest } else { Dialect::Remote };
    header_names(other).into_iter().chain(ELSEWHERE).collect()
}

/// Every name that a client could send, in every spelling that some program reads as that name.
fn dropped(app: &ProtectedApp, line: &dyn Fn(&str) -> String) -> String {
    let names = other_headers(app).into_iter().chain(known_headers(app));
    names.flat_map(spellings).map(|name| line(&name)).collect()
}

/// A name with `_` for none, some and all of its `-`: CGI and what follows it take one for the other.
pub(super) fn spellings(name: &str) -> Vec<String> {
    let mut parts = name.split('-');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(vec![first], |begun, part| {
        begun.iter().flat_map(|begun| ['-', '_'].map(|between| format!("{begun}{between}{part}"))).collect()
    })
}

/// `app.example:8443` → `app.example` and `8443`.
fn name_and_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !host.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    }
}

/// What `Host` must be for a request to this app: with any port, unless the app was configured with one.
fn pattern(host: &str) -> String {
    let escaped = |text: &str| text.replace('.', "\\.").replace('[', "\\[").replace(']', "\\]");
    match name_and_port(host) {
        (name, Some(port)) => format!("^{}:{port}$", escaped(name)),
        (name, None) => format!("^{}(?::[0-9]+)?$", escaped(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_as_many_spellings_as_its_separators_allow() {
        assert_eq!(spellings("forwarded"), ["forwarded"]);
        assert_eq!(spellings("a-b-c"), ["a-b-c", "a-b_c", "a_b-c", "a_b_c"]);
    }

    #[test]
    fn a_host_is_taken_by_its_letters_and_with_its_port_only_where_it_has_one() {
        assert_eq!(pattern("a.example"), "^a\\.example(?::[0-9]+)?$");
        assert_eq!(pattern("a.example:8443"), "^a\\.example:8443$");
        assert_eq!(pattern("[::1]"), "^\\[::1\\](?::[0-9]+)?$");
        assert_eq!(name_and_port("[::1]:8443"), ("[::1]", Some("8443")));
    }
}
