//! Apps behind the door, through nginx and Caddy as they are installed, with the configuration that
//! `lokid proxy-config` prints: what reaches the app, and what never does.

#[path = "support/clients.rs"]
#[expect(dead_code, reason = "shared with tests/http, which calls the door itself")]
mod clients;
#[path = "support/door.rs"]
#[expect(dead_code, reason = "shared with tests/http, which calls the door itself")]
mod door;
#[path = "support/jose.rs"]
#[expect(dead_code, reason = "shared with tests/http, where signatures are bad")]
mod jose;
#[path = "support/provider.rs"]
#[expect(dead_code, reason = "shared with tests/http, where the provider misbehaves")]
mod provider;

#[path = "proxies/echo.rs"]
mod echo;
#[path = "proxies/front.rs"]
mod front;
#[macro_use]
#[path = "proxies/site.rs"]
mod site;

#[path = "proxies/forged.rs"]
mod forged;
#[path = "proxies/forwarded.rs"]
mod forwarded;
#[path = "proxies/paths.rs"]
mod paths;
#[path = "proxies/people.rs"]
mod people;
#[path = "proxies/refused.rs"]
mod refused;
#[path = "proxies/secrets.rs"]
mod secrets;
