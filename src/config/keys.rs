//! The one table of keys. Parsing, environment, defaults, `config reference` and `docs/configuration.md`
//! all come from it; a key that does not stand here is an error.

use super::raw::Value;

/// What a key's value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A text that is never shown; its variable also exists as `…_FILE`.
    Secret,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number within these bounds.
    Number(i64, i64),
    /// `true` or `false`.
    Flag,
    /// A number with a unit: `30s`, `15m`, `12h`, `90d`.
    Duration,
    /// So many in a while, `30/m` or `5/s`; `off` for no limit.
    Rate,
    /// An absolute `https://` URL; `http://` on loopback only.
    Url,
    /// A list of texts.
    List,
    /// A list of mappings whose keys stand below `name[]`.
    Entries,
    /// A mapping from names of the operator's own to texts.
    Mapping,
    /// A mapping from names of the operator's own to mappings whose keys stand below `name.*`.
    Named,
    /// A mapping from claims to what they must be: a value, a list of values, `{not: …}`, `{prefix: …}`, `{glob: …}`.
    Claims,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its place, dotted; `[]` is any entry of a list, `*` any name.
    pub path: &'static str,
    /// The variable that sets it; empty for none.
    pub env: &'static str,
    /// What its value looks like.
    pub kind: Kind,
    /// What holds when it is not set, as it would be written; empty for nothing.
    pub default: &'static str,
    /// What it does, for the operator.
    pub about: &'static str,
}

macro_rules! keys {
    ($($path:literal $env:literal $kind:expr, $default:literal, $about:literal;)+) => {
        /// Every key, in the order in which the reference shows them.
        pub const KEYS: &[Key] = &[$(Key { path: $path, env: $env, kind: $kind, default: $default, about: $about }),+];
    };
}

keys! {
    "server.host" "LOKI_SERVER_HOST" Kind::Text, "127.0.0.1", "Address to listen on.";
    "server.port" "LOKI_SERVER_PORT" Kind::Number(0, 65535), "57374", "Port to listen on; 0 picks a free one.";
    "server.public_url" "LOKI_PUBLIC_URL" Kind::Url, "", "The address by which people reach this server. Default: http://localhost:PORT, https:// with server.tls.enabled.";
    "server.allowed_hosts" "LOKI_SERVER_ALLOWED_HOSTS" Kind::List, "", "More names (host or host:port) that a request may carry in Host, beside that of public_url.";
    "server.trusted_proxies" "LOKI_SERVER_TRUSTED_PROXIES" Kind::List, "", "Addresses or networks (10.0.0.0/8) of reverse proxies whose X-Forwarded-For is believed.";
    "server.workers" "LOKI_SERVER_WORKERS" Kind::Number(1, 512), "", "Worker threads. Default: one for each core.";
    "server.max_connections" "LOKI_SERVER_MAX_CONNECTIONS" Kind::Number(1, 1_000_000), "10000", "Connections at once, for each worker.";
    "server.secret" "LOKI_SERVER_SECRET" Kind::Secret, "", "Seals cookies, unfinished sign-ins and refresh tokens; at least 32 characters. Default: made at the first start and kept beside the SQLite file.";
    "server.tls.enabled" "LOKI_TLS_ENABLED" Kind::Flag, "false", "Serve HTTPS.";
    "server.tls.cert" "LOKI_TLS_CERT" Kind::Text, "", "File with the certificate chain, PEM; it is watched. Default: server.pem in certs_dir.";
    "server.tls.key" "LOKI_TLS_KEY" Kind::Text, "", "File with its private key, PEM; it is watched. Default: server.key in certs_dir.";
    "server.tls.client_ca" "LOKI_TLS_CLIENT_CA" Kind::Text, "", "File with the authorities whose client certificates are taken, PEM; it is watched. Not set: none is asked for.";
    "server.tls.client_auth" "LOKI_TLS_CLIENT_AUTH" Kind::Word(&["optional", "required"]), "optional", "Whether a client may connect without a certificate.";
    "server.tls.client_crl" "LOKI_TLS_CLIENT_CRL" Kind::Text, "", "File with lists of revoked certificates, PEM; it is watched. When set, there must be one of every authority, and none out of date.";
    "database.url" "LOKI_DATABASE_URL" Kind::Secret, "sqlite://.loki/loki.db", "sqlite://PATH or postgres://USER:PASSWORD@HOST/NAME.";
    "log.level" "LOKI_LOG_LEVEL" Kind::Word(&["error", "warn", "info", "debug", "trace"]), "info", "The least important lines that are still written.";
    "log.format" "LOKI_LOG_FORMAT" Kind::Word(&["text", "json"]), "text", "One line of text or one JSON object for each event.";
    "metrics.listen" "LOKI_METRICS_LISTEN" Kind::Text, "", "Address and port, such as 127.0.0.1:9464, at which /metrics is served without a credential; on loopback or a private network only. Default: only at the server's own /metrics, for the scope read.";
    "database.wait" "LOKI_DATABASE_WAIT" Kind::Duration, "", "How long to wait for PostgreSQL at the start; not set: not at all.";
    "enterprise.auth.enabled" "LOKI_ENTERPRISE_AUTH" Kind::Flag, "true", "Ask for credentials. false is accepted on loopback only and makes everybody an administrator.";
    "enterprise.auth.oidc" "LOKI_OIDC_PROVIDERS" Kind::Entries, "", "Identity providers; a single mapping is a list of one. The variable takes YAML or JSON.";
    "enterprise.auth.oidc[].id" "" Kind::Text, "main", "Short name in addresses and rules.";
    "enterprise.auth.oidc[].name" "" Kind::Text, "", "What the sign-in button says. Default: the issuer's host.";
    "enterprise.auth.oidc[].issuer" "LOKI_OIDC_ISSUER" Kind::Url, "", "The issuer's URL, exactly as the provider writes it.";
    "enterprise.auth.oidc[].client_id" "LOKI_OIDC_CLIENT_ID" Kind::Text, "", "Client ID that the provider gave.";
    "enterprise.auth.oidc[].client_secret" "LOKI_OIDC_CLIENT_SECRET" Kind::Secret, "", "Client secret that the provider gave.";
    "enterprise.auth.oidc[].client_auth" "LOKI_OIDC_CLIENT_AUTH" Kind::Word(&["client_secret_basic", "client_secret_post", "private_key_jwt", "none"]), "", "How this client proves itself. Default: client_secret_basic with a secret, private_key_jwt with a key, else none.";
    "enterprise.auth.oidc[].private_key_file" "LOKI_OIDC_PRIVATE_KEY_FILE" Kind::Text, "", "PEM key for private_key_jwt (PKCS#8; RSA, P-256, P-384 or Ed25519).";
    "enterprise.auth.oidc[].private_key_id" "LOKI_OIDC_PRIVATE_KEY_ID" Kind::Text, "", "The kid by which the provider knows that key.";
    "enterprise.auth.oidc[].audience" "LOKI_OIDC_AUDIENCE" Kind::Text, "", "The audience an ID token must name. Default: client_id.";
    "enterprise.auth.oidc[].scopes" "LOKI_OIDC_SCOPES" Kind::List, "openid, email, profile", "Scopes to ask for; offline_access lets a session follow changes at the provider.";
    "enterprise.auth.oidc[].groups_claim" "LOKI_OIDC_GROUPS_CLAIM" Kind::Text, "groups", "The claim that oidc_role_mapping looks into; /a/b walks into objects.";
    "enterprise.auth.oidc[].userinfo" "LOKI_OIDC_USERINFO" Kind::Word(&["always", "when_needed", "never"]), "when_needed", "Ask the UserInfo endpoint: when_needed means when e-mail or the groups claim is missing.";
    "enterprise.auth.oidc[].refresh_interval" "LOKI_OIDC_REFRESH_INTERVAL" Kind::Duration, "15m", "How often a session re-reads its claims (needs a refresh token).";
    "enterprise.auth.oidc[].max_age" "LOKI_OIDC_MAX_AGE" Kind::Duration, "", "Ask the provider for a sign-in no older than this, and check auth_time.";
    "enterprise.auth.oidc[].ca_file" "LOKI_OIDC_CA_FILE" Kind::Text, "", "More certificate authorities (PEM) for the provider's TLS.";
    "enterprise.auth.mtls" "LOKI_AUTH_MTLS" Kind::Entries, "", "What holders of client certificates may do: rules, first match wins. A certificate that fits none is no credential.";
    "enterprise.auth.mtls[].uri" "" Kind::Text, "", "A URI among its subject alternative names, exactly, or all below one: spiffe://example.org/ci/*";
    "enterprise.auth.mtls[].dns" "" Kind::Text, "", "A host name among them, exactly, or *.example.org for any depth below.";
    "enterprise.auth.mtls[].cn" "" Kind::Text, "", "Its common name, exactly; only of certificates without URI and host names.";
    "enterprise.auth.mtls[].name" "" Kind::Text, "", "What to call the holder. Default: the name that fits.";
    "enterprise.auth.mtls[].role" "" Kind::Text, "", "The role that it gives.";
    "enterprise.auth.mtls[].scopes" "" Kind::List, "", "Or the scopes that it gives.";
    "enterprise.auth.mtls[].domains" "" Kind::List, "", "Domains for which the holder may have certificates: app.example.com, *.example.com for any depth below, or *.";
    "enterprise.auth.jwt" "LOKI_JWT_ISSUERS" Kind::Entries, "", "Issuers whose signed tokens (JWT) are credentials; a single mapping is a list of one. The variable takes YAML or JSON.";
    "enterprise.auth.jwt[].id" "" Kind::Text, "", "Short name in the audit log and in the ids of its bearers. Default: the preset, or the issuer's host.";
    "enterprise.auth.jwt[].preset" "LOKI_JWT_PRESET" Kind::Word(&["github-actions", "gitlab", "google", "entra", "auth0", "aws-irsa", "kubernetes", "tsiam"]), "", "What is known of such issuers: where they write scopes, which claims name somebody for ever. entra goes without saying for login.microsoftonline.com.";
    "enterprise.auth.jwt[].issuer" "LOKI_JWT_ISSUER" Kind::Url, "", "The issuer (also written issuerUrl). A slash at its end may be there or not. Default: that of the preset, where there is one for everybody.";
    "enterprise.auth.jwt[].jwks_url" "LOKI_JWT_JWKS_URL" Kind::Url, "", "Where its key set is. Default: discovery says it.";
    "enterprise.auth.jwt[].audience" "LOKI_JWT_AUDIENCE" Kind::List, "", "Audiences of which a token must name one.";
    "enterprise.auth.jwt[].required_scopes" "LOKI_JWT_REQUIRED_SCOPES" Kind::List, "", "Scopes of the issuer's own that every token must hold (also written requiredScopes).";
    "enterprise.auth.jwt[].scopes_claim" "LOKI_JWT_SCOPES_CLAIM" Kind::Text, "", "The claim that holds them, as words or as an array. Default: scope; with preset entra: roles.";
    "enterprise.auth.jwt[].at_most" "" Kind::List, "control", "The most that a rule of this issuer may give; more is a fault.";
    "enterprise.auth.jwt[].role" "LOKI_JWT_ROLE" Kind::Text, "", "The role of whoever a rule lets in that names none. Default: viewer.";
    "enterprise.auth.jwt[].scopes" "LOKI_JWT_SCOPES" Kind::List, "", "Scopes instead of a role.";
    "enterprise.auth.jwt[].exchange_lifetime" "" Kind::Duration, "15m", "Life of a loki_ token for which such a token is exchanged; 1m to 24h.";
    "enterprise.auth.jwt[].allow_pull_request_target" "" Kind::Flag, "false", "github-actions: let in jobs of pull_request_target, which anybody's pull request sets off.";
    "enterprise.auth.jwt[].ca_file" "" Kind::Text, "", "More certificate authorities (PEM) for the issuer's TLS.";
    "enterprise.auth.jwt[].rules" "" Kind::Entries, "", "Ways in, first match wins; a token that fits none is refused. Without any, every token of the issuer for the audience is let in.";
    "enterprise.auth.jwt[].rules[].name" "" Kind::Text, "", "What the audit log calls it. Default: its number.";
    "enterprise.auth.jwt[].rules[].claims" "" Kind::Claims, "", "Claims (by name, or by JSON Pointer when it begins with /) and what each must be: a value, a list of which one, {not: …}, {prefix: …} or {glob: …}. All must hold.";
    "enterprise.auth.jwt[].rules[].required_scopes" "" Kind::List, "", "Scopes of the issuer's own that the token must hold.";
    "enterprise.auth.jwt[].rules[].role" "" Kind::Text, "", "The role that it gives. Default: the issuer's.";
    "enterprise.auth.jwt[].rules[].scopes" "" Kind::List, "", "Scopes instead of a role.";
    "enterprise.auth.jwt[].rules[].exchange_lifetime" "" Kind::Duration, "", "Life of an exchanged token. Default: the issuer's.";
    "enterprise.auth.jwt[].rules[].domains" "" Kind::List, "", "Domains for which the bearer may have certificates: app.example.com, *.example.com for any depth below, or *. With domains_claim: the most that the claim may name.";
    "enterprise.auth.jwt[].rules[].domains_claim" "" Kind::Text, "", "The claim that names those domains, as a text or an array; * in it counts for nothing.";
    "enterprise.auth.psk" "LOKI_PSKS" Kind::Entries, "", "Pre-shared keys (Authorization: APIKey …); a single mapping is a list of one.";
    "enterprise.auth.psk[].name" "LOKI_PSK_NAME" Kind::Text, "main", "What the audit log calls its holder.";
    "enterprise.auth.psk[].key" "LOKI_PSK_KEY" Kind::Secret, "", "The key: base64 or hexadecimal digits of at least 32 random bytes (lokid psk generate).";
    "enterprise.auth.psk[].next_key" "LOKI_PSK_NEXT_KEY" Kind::Secret, "", "A second key that is good as well, while holders change from one to the other.";
    "enterprise.auth.psk[].scopes" "LOKI_PSK_SCOPES" Kind::List, "", "What its holder may do. Default: read.";
    "enterprise.auth.psk[].role" "LOKI_PSK_ROLE" Kind::Text, "", "A role instead of scopes.";
    "enterprise.sessions.idle" "LOKI_SESSIONS_IDLE" Kind::Duration, "2h", "A session ends after this long without a request.";
    "enterprise.sessions.absolute" "LOKI_SESSIONS_ABSOLUTE" Kind::Duration, "12h", "A session ends after this long whatever happens.";
    "enterprise.sessions.fresh" "LOKI_SESSIONS_FRESH" Kind::Duration, "10m", "How old a sign-in may be for making a * token.";
    "enterprise.tokens.default_expiration_days" "LOKI_TOKENS_DEFAULT_EXPIRATION_DAYS" Kind::Number(0, 36_500), "90", "Life of a token for which no other is asked; 0: as long as the maximum.";
    "enterprise.tokens.max_expiration_days" "LOKI_TOKENS_MAX_EXPIRATION_DAYS" Kind::Number(0, 36_500), "366", "The longest life that may be asked for; 0: no limit.";
    "enterprise.tokens.max_active_per_user" "LOKI_TOKENS_MAX_ACTIVE_PER_USER" Kind::Number(1, 100_000), "10", "Usable tokens that one person may hold.";
    "enterprise.rbac.default_role" "LOKI_RBAC_DEFAULT_ROLE" Kind::Text, "viewer", "Role of a person whom no rule matches; none refuses them.";
    "enterprise.rbac.oidc_role_mapping" "LOKI_RBAC_OIDC_ROLE_MAPPING" Kind::Mapping, "", "GROUP_OR_EMAIL: ROLE. A key with @ is a verified e-mail address, any other a value of the groups claim.";
    "enterprise.rbac.rules" "LOKI_RBAC_RULES" Kind::Entries, "", "Rules that are tried before oidc_role_mapping, first match wins.";
    "enterprise.rbac.rules[].claim" "" Kind::Text, "", "Claim by name, or by JSON Pointer when it begins with /.";
    "enterprise.rbac.rules[].value" "" Kind::Text, "", "The value that it must have or hold; unquoted true, false and whole numbers keep their type.";
    "enterprise.rbac.rules[].email" "" Kind::Text, "", "A verified e-mail address.";
    "enterprise.rbac.rules[].email_domain" "" Kind::Text, "", "The domain of a verified e-mail address.";
    "enterprise.rbac.rules[].provider" "" Kind::Text, "", "Only for people of this provider.";
    "enterprise.rbac.rules[].role" "" Kind::Text, "", "The role that it gives.";
    "enterprise.rbac.allowed_email_domains" "LOKI_RBAC_ALLOWED_EMAIL_DOMAINS" Kind::List, "", "When set, only people with a verified address in one of these domains may sign in.";
    "enterprise.rbac.roles" "" Kind::Named, "", "Roles of your own.";
    "enterprise.rbac.roles.*.scopes" "" Kind::List, "", "The scopes that the role grants.";
    "enterprise.audit.queue" "LOKI_AUDIT_QUEUE" Kind::Number(16, 1_000_000), "8192", "Refusals and uses that may wait to be written; more are counted in a gap.";
    "enterprise.audit.checkpoint_every" "LOKI_AUDIT_CHECKPOINT_EVERY" Kind::Duration, "5m", "Sign the head of the log at the latest so long after an entry.";
    "enterprise.audit.checkpoint_entries" "LOKI_AUDIT_CHECKPOINT_ENTRIES" Kind::Number(1, 10_000_000), "1000", "Sign the head of the log at the latest after so many entries.";
    "enterprise.audit.anchor_file" "LOKI_AUDIT_ANCHOR_FILE" Kind::Text, "", "File outside the database to which every checkpoint is added; best on another disk or machine. Default: beside the SQLite file.";
    "enterprise.audit.anchor_bucket" "LOKI_AUDIT_ANCHOR_BUCKET" Kind::Text, "loki-audit-anchors", "NATS KV bucket in which every checkpoint is kept too, where cluster.nats_url is set; none: in no bucket. Installations that share a NATS need a bucket each.";
    "enterprise.audit.retention_days" "LOKI_AUDIT_RETENTION_DAYS" Kind::Number(0, 36_500), "365", "Acts are taken out of the log after so many days, leaving a signed tombstone; 0: never.";
    "enterprise.audit.refusals_days" "LOKI_AUDIT_REFUSALS_DAYS" Kind::Number(0, 36_500), "90", "The same for refusals and uses; 0: never.";
    "enterprise.audit.syslog" "LOKI_AUDIT_SYSLOG" Kind::Text, "", "Send every entry to a syslog server (RFC 5424): udp://HOST:PORT, tcp://HOST:PORT or tls://HOST:PORT.";
    "enterprise.audit.syslog_ca_file" "LOKI_AUDIT_SYSLOG_CA_FILE" Kind::Text, "", "Certificate authorities (PEM) for tls://. Default: those of the system.";
    "enterprise.audit.webhook" "LOKI_AUDIT_WEBHOOK" Kind::Url, "", "Post every entry to this address, signed with the signing key.";
    "signing_key" "SIGNING_KEY" Kind::Secret, "", "Private keys that sign assertions: PEM, or base64 of PEM, several blocks one after another. The first signs, all are published. Default: with server.secret set, keys that lokid makes and keeps sealed in the database; without, one that lasts as long as the process and is not published.";
    "signing_key_file" "SIGNING_KEY_FILE" Kind::Text, "", "File with such keys; it is watched, and wins over signing_key.";
    "certs_dir" "LOKI_CERTS_DIR" Kind::Text, "", "Directory with the files of lokid certs; its jwt/private.key signs when no signing key is configured, its ca.pem and ca.key issue certificates.";
    "certificates.allow" "LOKI_CERTIFICATES_ALLOW" Kind::Entries, "", "Who may have certificates for which domains at POST /api/certificate. What is not listed is refused.";
    "certificates.allow[].roles" "" Kind::List, "", "People, certificates and workloads of these roles.";
    "certificates.allow[].tokens" "" Kind::List, "", "Holders of these tokens, by their public ids (tok-…).";
    "certificates.allow[].domains" "" Kind::List, "", "app.example.com, *.example.com for any depth below, or *.";
    "certificates.lifetime" "LOKI_CERTIFICATES_LIFETIME" Kind::Duration, "90d", "How long an issued certificate is valid; the authority's own end comes first.";
    "certificates.renew_before" "LOKI_CERTIFICATES_RENEW_BEFORE" Kind::Duration, "30d", "While more than this is left, the same certificate is handed out again.";
    "certificates.renew_interval" "LOKI_CERTIFICATES_RENEW_INTERVAL" Kind::Duration, "1h", "POST /api/certificate/renew makes at most one for a domain in this while.";
    "keys.rotate_every" "LOKI_KEYS_ROTATE_EVERY" Kind::Duration, "", "Rotate keys that lokid keeps (in the database, or in NATS) after this long; not set: by hand.";
    "cluster.node" "LOKI_CLUSTER_NODE" Kind::Text, "", "What this node is called in the audit log and as the owner of its runs; each node of one database needs a name of its own that outlives restarts. Default: the machine's name.";
    "cluster.lease" "LOKI_CLUSTER_LEASE" Kind::Duration, "30s", "A node that was not heard of for so long is taken for dead, and its runs for lost.";
    "cluster.nats_url" "LOKI_CLUSTER_NATS_URL" Kind::List, "", "NATS servers through which nodes hand each other the signing keys: tls://HOST:PORT; nats://HOST:PORT on loopback only.";
    "cluster.nats_ca_file" "LOKI_CLUSTER_NATS_CA_FILE" Kind::Text, "", "Certificate authorities (PEM) for tls://. Default: those of the system.";
    "cluster.nats_credentials_file" "LOKI_CLUSTER_NATS_CREDENTIALS_FILE" Kind::Text, "", "A file of credentials for NATS, as nsc makes them.";
    "cluster.nats_user" "LOKI_CLUSTER_NATS_USER" Kind::Text, "", "A user name for NATS, where it has users with passwords.";
    "cluster.nats_password" "LOKI_CLUSTER_NATS_PASSWORD" Kind::Secret, "", "That user's password.";
    "cluster.nats_replicas" "LOKI_CLUSTER_NATS_REPLICAS" Kind::Number(1, 5), "1", "Copies of the bucket, where this node makes it.";
    "cluster.bucket" "LOKI_CLUSTER_BUCKET" Kind::Text, "loki-jwt-key", "The JetStream KV bucket with the sealed keys.";
    "cluster.key" "LOKI_CLUSTER_KEY" Kind::Text, "signing-key", "The key in that bucket.";
    "cluster.bootstrap_token_file" "LOKI_CLUSTER_BOOTSTRAP_TOKEN_FILE" Kind::Text, "", "File with the bootstrap token that seals the keys, the same on every node: lokid cluster token generate. Two lines during a rotation: the first seals, both open.";
    "cluster.leader" "LOKI_CLUSTER_LEADER" Kind::Flag, "false", "Make the first signing key where the bucket holds none. Several nodes may be leaders: the first wins.";
    "cluster.wait" "LOKI_CLUSTER_WAIT" Kind::Duration, "30s", "How long a node without a copy of the keys waits for NATS and for a leader at its start.";
    "cluster.key_file" "LOKI_CLUSTER_KEY_FILE" Kind::Text, "", "This node's own sealed copy. Default: cluster/ring beside the SQLite file, else .loki/cluster/ring.";
    "forward_auth.cookie_domain" "LOKI_FORWARD_AUTH_COOKIE_DOMAIN" Kind::Text, "", "Parent domain of lokid and the apps, such as example.com. People signed in here are then known to apps on its other hosts.";
    "forward_auth.apps" "LOKI_FORWARD_AUTH_APPS" Kind::Entries, "", "Apps that reverse proxies ask about at /auth/verify. What is not listed is refused.";
    "forward_auth.apps[].host" "" Kind::Text, "", "The app's host as people write it, such as grafana.example.com; with a port only where one host name has several apps.";
    "forward_auth.apps[].headers" "" Kind::Word(&["x-auth-request", "remote"]), "x-auth-request", "Names of the identity headers: X-Auth-Request-User, … or Remote-User, …";
    "forward_auth.apps[].public" "" Kind::List, "", "Paths that are open to everybody, each with all below it; written exactly.";
    "forward_auth.apps[].methods" "" Kind::List, "", "Methods that pass at all. Default: every one.";
    "forward_auth.apps[].deny_static_tokens" "" Kind::Flag, "false", "Refuse loki_ tokens and pre-shared keys, which live long.";
    "forward_auth.apps[].rules" "" Kind::Entries, "", "Who may go where: the first rule whose path and method fit decides.";
    "forward_auth.apps[].rules[].path" "" Kind::Text, "/", "A path and all below it, in any case.";
    "forward_auth.apps[].rules[].methods" "" Kind::List, "", "Methods for which the rule is. Default: every one.";
    "forward_auth.apps[].rules[].scope" "" Kind::Word(&["read", "write", "control", "audit", "*"]), "", "A scope that is needed.";
    "forward_auth.apps[].rules[].roles" "" Kind::List, "", "One of these roles is needed.";
    "forward_auth.apps[].rules[].groups" "" Kind::List, "", "One of these groups is needed.";
    "forward_auth.apps[].rules[].people" "" Kind::List, "", "One of these people is needed: verified e-mail addresses or public ids.";
    "runs.command" "LOKI_RUNS_COMMAND" Kind::List, "", "The program that a run is, with its arguments; {prd}, {run_id} and {workspace} are filled in. Never a shell.";
    "runs.workspace" "LOKI_RUNS_WORKSPACE" Kind::Text, ".", "Directory that PRD files come from and in which the command works.";
    "runs.environment" "LOKI_RUNS_ENVIRONMENT" Kind::Mapping, "", "Variables for the command, beside PATH, HOME, USER, LANG, LC_ALL, TZ and TMPDIR of the server and those that tell of the run.";
    "runs.max_parallel" "LOKI_RUNS_MAX_PARALLEL" Kind::Number(1, 1000), "1", "Runs that may work at once on this node.";
    "runs.max_queued" "LOKI_RUNS_MAX_QUEUED" Kind::Number(0, 10_000), "16", "Runs that may wait for their turn; with 0 a start beyond max_parallel is refused.";
    "runs.stop_grace" "LOKI_RUNS_STOP_GRACE" Kind::Duration, "10s", "How long a run that was asked to stop (TERM) may take before it is killed.";
    "runs.log_bytes" "LOKI_RUNS_LOG_BYTES" Kind::Number(4096, 1_073_741_824), "16777216", "How much of a run's output is kept; what comes beyond is counted.";
    "runs.keep" "LOKI_RUNS_KEEP" Kind::Duration, "90d", "How long runs that are over are kept, with their logs.";
    "runs.url" "LOKI_RUNS_URL" Kind::Url, "", "The address at which the command reaches this server (LOKI_URL). Default: server.public_url.";
    "runs.directory" "LOKI_RUNS_DIRECTORY" Kind::Text, "", "Where input and output lie while a run works. Default: runs beside the SQLite file, else .loki/runs.";
    "limits.event_streams" "LOKI_LIMITS_EVENT_STREAMS" Kind::Number(1, 100_000), "1000", "Streams of /api/events that may be open at once.";
    "limits.unread_timeout" "LOKI_LIMITS_UNREAD_TIMEOUT" Kind::Duration, "30s", "A client that does not take what it is sent for so long is cut off.";
    "limits.peer" "LOKI_LIMITS_PEER" Kind::Rate, "3000/m", "Requests of one address without a valid credential.";
    "limits.sign_in" "LOKI_LIMITS_SIGN_IN" Kind::Rate, "60/m", "Sign-ins that one address may begin.";
    "limits.callback" "LOKI_LIMITS_CALLBACK" Kind::Rate, "60/m", "Sign-ins that one address may finish, and logout tokens it may send.";
    "limits.bad_credentials" "LOKI_LIMITS_BAD_CREDENTIALS" Kind::Rate, "30/m", "Refused credentials of one address.";
    "limits.token_creation" "LOKI_LIMITS_TOKEN_CREATION" Kind::Rate, "60/m", "Tokens that one caller may make.";
    "limits.certificates" "LOKI_LIMITS_CERTIFICATES" Kind::Rate, "60/m", "Certificates that one caller may ask for.";
    "limits.api" "LOKI_LIMITS_API" Kind::Rate, "6000/m", "Requests of one caller.";
    "limits.forward_auth" "LOKI_LIMITS_FORWARD_AUTH" Kind::Rate, "60000/m", "Requests of one caller to other apps behind /auth/verify.";
    "limits.shared" "LOKI_LIMITS_SHARED" Kind::Flag, "false", "Count what all nodes of one PostgreSQL let in, instead of each node for itself. They tell each other five times a second.";
    "limits.body_bytes" "LOKI_LIMITS_BODY_BYTES" Kind::Number(1024, 16_777_216), "65536", "The longest request body.";
    "limits.body_timeout" "LOKI_LIMITS_BODY_TIMEOUT" Kind::Duration, "10s", "How long a request body may take to arrive.";
}

impl Key {
    /// The row of this table path.
    pub fn find(path: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.path == path)
    }

    /// Whether `path` is a section or list that rows stand below.
    pub fn is_section(path: &str) -> bool {
        KEYS.iter().any(|key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
    }

    /// The rows that stand right at or below a section, for "did you mean".
    pub fn nearest(path: &str) -> Option<&'static str> {
        let distance = |key: &&Self| edits(key.path, path);
        let best = KEYS.iter().min_by_key(distance)?;
        (edits(best.path, path) <= 3).then_some(best.path)
    }

    /// The variable that names a file with the value; `None` for keys that are no secret, and for the one
    /// whose file is a key of its own.
    pub(super) fn file_variable(&self) -> Option<String> {
        let name = format!("{}_FILE", self.env);
        (self.is_secret() && !self.env.is_empty() && !KEYS.iter().any(|k| k.env == name)).then_some(name)
    }

    /// Whether the value may be shown.
    pub const fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Secret)
    }

    /// Whether a value has the shape that the key asks for; if not, what would be right.
    pub fn refuses(&self, value: &Value) -> Option<String> {
        match (self.kind, value) {
            (Kind::List, Value::List(items)) if items.iter().all(|i| matches!(i.value, Value::Scalar { .. })) => None,
            (Kind::List | Kind::Entries, Value::Scalar { text, plain: true }) if text.is_empty() => None,
            (Kind::List, Value::Scalar { .. }) => None,
            (Kind::List, _) => Some("a list of texts".into()),
            (Kind::Entries, Value::List(_) | Value::Map(_)) | (Kind::Named, Value::Map(_)) => None,
            (Kind::Entries, _) => Some("a list of mappings".into()),
            (Kind::Named, _) => Some("a mapping from names to mappings".into()),
            (Kind::Mapping, Value::Map(entries))
                if entries.iter().all(|(_, n)| matches!(n.value, Value::Scalar { .. })) =>
            {
                None
            }
            (Kind::Mapping, _) => Some("a mapping from names to texts".into()),
            (Kind::Claims, Value::Map(_)) => None,
            (Kind::Claims, _) => Some("a mapping from claims to what they must be".into()),
            (_, Value::Scalar { text, .. }) => self.refuses_text(text),
            (_, _) => Some("a single value".into()),
        }
    }

    fn refuses_text(&self, text: &str) -> Option<String> {
        let wrong = |fits: bool, expected: String| (!fits).then_some(expected);
        match self.kind {
            Kind::Number(least, most) => {
                let fits = text.parse::<i64>().is_ok_and(|n| (least..=most).contains(&n));
                wrong(fits, format!("a whole number from {least} to {most}"))
            }
            Kind::Flag => wrong(flag(text).is_some(), "true or false".into()),
            Kind::Word(words) => wrong(words.contains(&text), format!("one of {}", words.join(", "))),
            Kind::Duration => crate::domain::time::parse_duration(text).err().map(str::to_owned),
            Kind::Rate => {
                wrong(super::limits::Rate::parse(text).is_some(), "a rate such as 30/m or 5/s, or off".into())
            }
            Kind::Url => super::server::check_url(text).err(),
            _ => wrong(text.len() <= 8192 && !text.contains('\0'), "at most 8192 characters".into()),
        }
    }
}

/// `true`/`false` and what people write in variables for it.
pub(super) fn flag(text: &str) -> Option<bool> {
    match text {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Levenshtein's distance, for short texts.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(100).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = corner + usize::from(ca != *cb);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn paths_and_variables_are_unique_and_defaults_are_valid() {
        let paths: BTreeSet<_> = KEYS.iter().map(|k| k.path).collect();
        assert_eq!(paths.len(), KEYS.len());
        let variables: Vec<_> = KEYS.iter().map(|k| k.env).filter(|v| !v.is_empty()).collect();
        assert_eq!(variables.iter().collect::<BTreeSet<_>>().len(), variables.len());
        for key in KEYS.iter().filter(|k| !k.default.is_empty()) {
            let value = Value::Scalar { text: key.default.into(), plain: true };
            assert_eq!(key.refuses(&value), None, "{}", key.path);
        }
    }

    #[test]
    fn a_typo_is_answered_with_the_key_that_was_meant() {
        assert_eq!(Key::nearest("server.prot"), Some("server.port"));
        assert_eq!(Key::nearest("colour.of.the.sky"), None);
    }
}
