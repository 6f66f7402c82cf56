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

const ASSERTION: &str = "x-loki-jwt-assertion";
const ASSERTION_ALIAS: &str = "x-pomerium-jwt-assertion";

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
        Proxy::Nginx => NGINX,
        Proxy::Traefik => TRAEFIK,
        Proxy::Caddy => CADDY,
        Proxy::Envoy => ENVOY,
    };
    let lines = |line: &dyn Fn(&str) -> String| known_headers(app).iter().map(|name| line(name)).collect::<String>();
    let others = |line: &dyn Fn(&str) -> String| other_headers(app).iter().map(|name| line(name)).collect::<String>();
    let variable = |name: &str| name.replace('-', "_");
    template
        .replace("{HOST}", &app.host)
        .replace("{HOST_NAME}", app.host.split(':').next().unwrap_or_default())
        .replace("{NAME}", &app.host.replace(['.', ':'], "-"))
        .replace("{VAR}", &app.host.replace(['.', ':', '-'], "_"))
        .replace("{LOKID}", &listener(settings))
        .replace("{COOKIES}", "(?:__Host-loki_session|__Secure-loki_door|loki_session|loki_door)")
        .replace(
            "{NGINX_TAKE}",
            &lines(&|n| format!("        auth_request_set $loki_{0} $upstream_http_{0};\n", variable(n))),
        )
        .replace("{NGINX_SET}", &lines(&|n| format!("        proxy_set_header {n} $loki_{};\n", variable(n))))
        .replace("{NGINX_DROP}", &others(&|n| format!("        proxy_set_header {n} \"\";\n")))
        .replace("{CADDY_COPY_INNER}", &lines(&|n| format!("                {n}\n")))
        .replace("{CADDY_DROP}", &dropped(app, &|n| format!("        request_header -{n}\n")))
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

/// The other dialect's names, which an app might believe too.
fn other_headers(app: &ProtectedApp) -> Vec<&'static str> {
    let other = if app.dialect == Dialect::Remote { Dialect::AuthRequest } else { Dialect::Remote };
    header_names(other).to_vec()
}

/// Every name that a client could send, also as some programs read it, with underscores.
fn dropped(app: &ProtectedApp, line: &dyn Fn(&str) -> String) -> String {
    let names: Vec<_> = other_headers(app).into_iter().chain(known_headers(app)).collect();
    let plain = names.iter().map(|name| line(name));
    plain.chain(names.iter().map(|name| line(&name.replace('-', "_")))).collect()
}

const NGINX: &str = r#"# -- {HOST}: in http { } -------------------------------------------------------------
# nginx drops headers with underscores by itself; leave `underscores_in_headers off`.
map $http_cookie $app_cookie_{VAR} {    # the app need not see lokid's cookies
    default $http_cookie;
    "~^(?<before>(?:.*; *)?){COOKIES}=[^;]*(?:; *)?(?<after>.*)$" "$before$after";
}
map $http_authorization $app_authorization_{VAR} {    # nor tokens that are good for lokid
    default $http_authorization;
    "~*^bearer +loki_" "";
}
server {
    server_name {HOST_NAME};
    # listen 443 ssl; with its certificate

    location = /.loki-verify {
        internal;
        proxy_pass {LOKID}/auth/verify?redirect=no;
        proxy_pass_request_body off;
        proxy_set_header Content-Length "";
        proxy_set_header X-Forwarded-Method $request_method;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-Host $http_host;
        proxy_set_header X-Forwarded-Uri $request_uri;
        proxy_set_header X-Forwarded-For $remote_addr;
    }
    location @loki_sign_in {
        if ($loki_sign_in = "") {
            add_header WWW-Authenticate 'Bearer realm="loki"' always;
            return 401;
        }
        return 303 $loki_sign_in;
    }
    location / {
        auth_request /.loki-verify;
        auth_request_set $loki_sign_in $upstream_http_x_loki_sign_in;
        error_page 401 = @loki_sign_in;
{NGINX_TAKE}{NGINX_SET}{NGINX_DROP}        proxy_set_header Cookie $app_cookie_{VAR};
        proxy_set_header Authorization $app_authorization_{VAR};
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-Host $http_host;
        proxy_pass http://APP_ADDRESS;
    }
}
"#;

const CADDY: &str = r#"# -- {HOST} ---------------------------------------------------------------------------
{HOST} {
    route {
        # What clients send under these names is nobody's word.
{CADDY_DROP}        forward_auth {LOKID} {
            uri /auth/verify
            copy_headers {
{CADDY_COPY_INNER}            }
        }
        # The app need not see lokid's cookies, nor tokens that are good for lokid.
        request_header Cookie "{COOKIES}=[^;]*(; *)?" ""
        request_header Authorization "(?i)^bearer +loki_.*" ""
        reverse_proxy APP_ADDRESS
    }
}
"#;

const TRAEFIK: &str = r#"# -- {HOST}: dynamic configuration -----------------------------------------------------
# entryPoints.NAME.forwardedHeaders.trustedIPs must list only proxies in front of Traefik.
http:
  middlewares:
    {NAME}-clean:
      headers:
        customRequestHeaders:
{YAML_BLANK}    {NAME}-door:
      forwardAuth:
        address: "{LOKID}/auth/verify"
        trustForwardHeader: false
        authResponseHeaders:
{YAML_COPY}  routers:
    {NAME}:
      rule: "Host(`{HOST}`)"
      middlewares: [{NAME}-clean, {NAME}-door]
      service: {NAME}
      tls: {}
  services:
    {NAME}:
      loadBalancer:
        servers:
          - url: "http://APP_ADDRESS"
"#;

const ENVOY: &str = r#"# -- {HOST}: http_filters of the connection manager, before envoy.filters.http.router -----
- name: envoy.filters.http.header_mutation
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation
    mutations:
      request_mutations:    # what clients send under these names is nobody's word
{ENVOY_REMOVE}- name: envoy.filters.http.ext_authz
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
    failure_mode_allow: false
    http_service:
      server_uri: { uri: "{LOKID}", cluster: lokid, timeout: 5s }
      path_prefix: /auth/verify/envoy
      authorization_request:
        allowed_headers:
          patterns:
            - { exact: authorization }
            - { exact: cookie }
            - { exact: accept }
            - { exact: sec-fetch-mode }
            - { exact: x-forwarded-for }
            - { exact: x-forwarded-proto }
      authorization_response:
        allowed_upstream_headers:
          patterns:
{ENVOY_COPY}        allowed_client_headers:
          patterns:
            - { exact: location }
            - { exact: www-authenticate }
            - { exact: content-type }
"#;
