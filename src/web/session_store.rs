//! `actix-session` over our own store. The action that signs somebody in has already written the session
//! (in one transaction with its event), so `save` only learns the secret that the cookie is to hold; the
//! database keeps its SHA-256.

use std::{collections::HashMap, sync::Arc};

use actix_session::{
    SessionMiddleware,
    config::CookieContentSecurity,
    storage::{LoadError, SaveError, SessionKey, SessionStore, UpdateError},
};
use actix_web::cookie::{SameSite, time::Duration};

use super::Web;
use crate::{actions::App, domain::session::digest_of};

type State = HashMap<String, String>;

/// Under this key a handler hands over the secret of a session that an action has opened.
pub(super) const SECRET: &str = "secret";

/// Sessions of the store, as `actix-session` wants them.
pub(super) struct Sessions(Arc<App>);

fn other(e: impl std::error::Error + Send + Sync + 'static) -> anyhow::Error {
    anyhow::Error::new(e)
}

impl SessionStore for Sessions {
    async fn load(&self, key: &SessionKey) -> Result<Option<State>, LoadError> {
        // When the database does not answer, the handler's own act says so better than a failure here.
        let known = self.0.authn.by_session(digest_of(key.as_ref())).await.ok();
        Ok(known.map(|known| State::from([("id".to_owned(), known.session.id.to_string())])))
    }

    async fn save(&self, state: State, _: &Duration) -> Result<SessionKey, SaveError> {
        // A value is stored as JSON, hence the quotes.
        let secret = state.get(SECRET).map(|s| s.trim_matches('"').to_owned()).unwrap_or_default();
        secret.try_into().map_err(|e| SaveError::Other(other(e)))
    }

    async fn update(&self, key: SessionKey, _: State, _: &Duration) -> Result<SessionKey, UpdateError> {
        Ok(key)
    }

    async fn update_ttl(&self, _: &SessionKey, _: &Duration) -> Result<(), anyhow::Error> {
        // Every look-up notes that the session was seen.
        Ok(())
    }

    async fn delete(&self, _: &SessionKey) -> Result<(), anyhow::Error> {
        // The action that signs out has ended it, together with its event.
        Ok(())
    }
}

/// The middleware for the routes on which sessions begin and end; everywhere else the cookie is only read.
pub(super) fn middleware(web: &Web) -> SessionMiddleware<Sessions> {
    SessionMiddleware::builder(Sessions(Arc::clone(&web.app)), web.cookie_key.clone())
        .cookie_name(web.session_cookie().to_owned())
        .cookie_path("/".to_owned())
        .cookie_http_only(true)
        .cookie_secure(web.secure)
        .cookie_same_site(SameSite::Lax)
        .cookie_content_security(CookieContentSecurity::Signed)
        .build()
}
