//! Who has signed in.

use super::{ActError, App};
use crate::domain::{
    identity::{Caller, ManagePeople},
    person::{Person, PersonId},
    time::Moment,
};

/// A page of people, latest sign-in first.
///
/// # Errors
/// [`ActError`].
pub async fn list(
    app: &App,
    _: &Caller<ManagePeople>,
    before: Option<&(Moment, PersonId)>,
    limit: i64,
) -> Result<Vec<Person>, ActError> {
    Ok(app.store.people(before, limit).await?)
}

/// One person.
///
/// # Errors
/// [`ActError::NotFound`].
pub async fn find(app: &App, _: &Caller<ManagePeople>, id: &str) -> Result<Person, ActError> {
    let not_found = || ActError::NotFound { what: "person", which: id.chars().take(80).collect() };
    let id: PersonId = id.parse().map_err(|_| not_found())?;
    app.store.person(&id).await?.ok_or_else(not_found)
}
