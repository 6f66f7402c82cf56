//! What is printed for each proxy, with places in braces for what the configuration says.

pub(super) const NGINX: &str = r#"# -- {HOST}: in http { } -------------------------------------------------------------
# nginx drops headers with underscores by itself; leave `underscores_in_headers off`.
map $http_cookie $app_cookie_{VAR} {    # the app need not see lokid's cookies
    # loki_o is one of ours, loki_k one that is kept. Where there are too many turns between them, none arrives.
    default "";
    "~(?(DEFINE)(?<loki_o>{COOKIES}=(?:[^;]*;\s*+|[^;]*$))(?<loki_k>(?!(?&loki_o))(?:[^;]*;\s*+|[^;]+$)))^(?<loki_a>(?&loki_k)*+)(?&loki_o)*+(?<loki_b>(?&loki_k)*+)(?&loki_o)*+(?<loki_c>(?&loki_k)*+)(?&loki_o)*+(?<loki_d>(?&loki_k)*+)(?&loki_o)*+$" "$loki_a$loki_b$loki_c$loki_d";
}
map $http_authorization $app_authorization_{VAR} {    # nor tokens that are good for lokid
    default $http_authorization;
    "~*^bearer +loki_" "";
}
server {
    server_name {HOST_NAME};
    # listen 443 ssl; with its certificate

    # nginx also takes requests that name another host; those must not come here with its rules.
    if ($http_host !~* "{HOST_PATTERN}") {
        return 421;
    }

    location = /.loki-verify {
        internal;
        proxy_pass {LOKID}/auth/verify?redirect=no;
        proxy_pass_request_body off;
        # What lokid says of a person with many groups is longer than nginx expects of headers.
        proxy_buffer_size 64k;
        proxy_buffers 4 64k;
        proxy_busy_buffers_size 128k;
        proxy_set_header Content-Length "";
        proxy_set_header X-Forwarded-Method $request_method;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-Host $http_host;
        proxy_set_header X-Forwarded-Uri $request_uri;
        proxy_set_header X-Forwarded-For $remote_addr;
    }
    location @loki_sign_in {
        default_type application/problem+json;
        if ($loki_sign_in = "") {
            return 401 '{"title":"Unauthorized","status":401,"detail":"sign in, or send a token"}';
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

pub(super) const CADDY: &str = r#"# -- {HOST} ---------------------------------------------------------------------------
{HOST} {
    route {
        # What clients send under these names is nobody's word, also as some programs read them, with underscores;
        # nor may clients name them in Connection, which would take them off on the way to the app.
        request_header -*_*
{CADDY_DROP}{CADDY_DROP_OTHERS}        request_header Connection "(?i)^.*\b(upgrade)\b.*$|^.*$" "$1"
        forward_auth {LOKID} {
            uri /auth/verify
            copy_headers {
{CADDY_COPY_INNER}            }
        }
        # The app need not see lokid's cookies, nor tokens that are good for lokid.
        # ("$2" is a group that there is not. Caddy 2.6 takes "" for no replacement, and sets the expression.)
        request_header Cookie "(^|;\s*){COOKIES}=[^;]*" "$2"
        request_header Cookie "^;\s*()" "$1"
        @loki_token header_regexp Authorization (?i)^bearer\s+loki_
        request_header @loki_token -Authorization
        reverse_proxy APP_ADDRESS
    }
}
"#;

pub(super) const TRAEFIK: &str = r#"# -- {HOST}: dynamic configuration -----------------------------------------------------
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

pub(super) const ENVOY: &str = r#"# -- {HOST}: http_filters of the connection manager, before envoy.filters.http.router -----
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
