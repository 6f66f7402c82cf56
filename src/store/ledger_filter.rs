//! Which entries of the audit log to read, and the statement that finds them.

use crate::domain::{event::EventName, ledger::View, time::Moment};

/// Which entries to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// This event, or with a trailing `*` all that begin so.
    pub event: Option<String>,
    /// The actor's id or name.
    pub actor: Option<String>,
    /// How it went.
    pub outcome: Option<String>,
    /// Not earlier than this.
    pub start: Option<Moment>,
    /// Earlier than this.
    pub end: Option<Moment>,
    /// Only places below this one.
    pub before: Option<i64>,
    /// Only places above this one; then the oldest come first.
    pub after: Option<i64>,
    /// From the beginning of the log on.
    pub oldest_first: bool,
    /// Through no index but that of the places: whoever can write to the database can make the others lie.
    pub in_order: bool,
    /// Only these places, both included, which hold all that is between `start` and `end` (`store::ledger_times`).
    pub places: Option<(i64, i64)>,
}

/// Binds the parts that are set, in the order of their places.
macro_rules! bind_filter {
    ($query:expr, $filter:expr) => {{
        let mut query = $query;
        let places = [$filter.places.map(|(first, _)| first), $filter.places.map(|(_, last)| last)];
        for number in [$filter.before, $filter.after].into_iter().chain(places).flatten() {
            query = query.bind(number);
        }
        let texts = [$filter.one_event(), $filter.actor.as_ref(), $filter.outcome.as_ref()];
        for text in texts.into_iter().flatten() {
            query = query.bind(text);
        }
        for moment in [$filter.start, $filter.end].into_iter().flatten() {
            query = query.bind(moment.millis());
        }
        query
    }};
}
pub(super) use bind_filter;

impl Filter {
    /// Everything behind a place, or from the very beginning on: somebody can have put an entry below the first place.
    pub fn behind(last: Option<i64>) -> Self {
        Self { after: last, oldest_first: true, ..Self::default() }
    }

    /// The same up to a place, itself included.
    #[must_use]
    pub fn up_to(self, last: i64) -> Self {
        // Nothing stands behind the last place of all.
        Self { before: last.checked_add(1).or(self.before), ..self }
    }

    /// The statement for the parts that are set; placeholders count in the order of `ledger::FULL_FILTER`.
    ///
    /// What is rare has to be found without reading everything, and what is frequent without sorting everything. So
    /// each way in which an entry may fit is a branch of its own that goes through one index in the order of `seq` and
    /// ends after a page; the branches' pages together make the page.
    pub(super) fn sql(&self, select: &str) -> String {
        let mut place = 0;
        let mut next = || {
            place += 1;
            place
        };
        let mut all = Vec::new();
        let within = self.places.is_some();
        let bounds = [(self.before.is_some(), "seq <"), (self.after.is_some(), "seq >")];
        for (is_set, clause) in bounds.into_iter().chain([(within, "seq >="), (within, "seq <=")]) {
            is_set.then(|| all.push(format!("{clause} ${}", next())));
        }
        let event = self.one_event().map(|_| next());
        let actor = self.actor.as_ref().map(|_| next());
        let outcome = self.outcome.as_ref().map(|_| next());
        // An expression is no column, so no index of it is taken: places tell more than times.
        let time = if within || self.in_order { "time + 0" } else { "time" };
        for (is_set, clause) in [(self.start.is_some(), ">="), (self.end.is_some(), "<")] {
            is_set.then(|| all.push(format!("{time} {clause} ${}", next())));
        }
        let limit = next();
        // In the same way the index of whatever tells most is taken, the actor's before the others'.
        let plain = |column: &str, by_index: bool| {
            if by_index && !self.in_order { column.to_owned() } else { format!("{column} || ''") }
        };
        if let Some(place) = event {
            all.push(format!("{} = ${place}", plain("event", actor.is_none())));
        }
        if let Some(place) = outcome {
            let by_index = actor.is_none() && self.event.is_none();
            all.push(format!("{} = ${place}", plain("outcome", by_index)));
            // As the index of all that did not succeed says it.
            (by_index && self.outcome.as_deref() != Some("success")).then(|| all.push("outcome <> 'success'".into()));
        }
        let mut branches = vec![all];
        if let Some(place) = actor {
            let (id, name) = (plain("actor_id", true), plain("actor_name", true));
            let ways = [format!("{id} = ${place}"), format!("{name} = ${place} AND actor_id <> ${place}")];
            branches = each(&branches, &ways);
        }
        if let Some(names) = self.events() {
            let column = plain("event", actor.is_none());
            let mut ways: Vec<_> = names.iter().map(|name| format!("{column} = '{name}'")).collect();
            if ways.is_empty() {
                ways.push("1 = 0".into());
            }
            branches = each(&branches, &ways);
        }
        let order = if self.after.is_some() || self.oldest_first { "ASC" } else { "DESC" };
        let page = |select: &str, clauses: &[String]| {
            let clauses = if clauses.is_empty() { String::new() } else { format!(" WHERE {}", clauses.join(" AND ")) };
            format!("{select}{clauses} ORDER BY seq {order} LIMIT ${limit}")
        };
        if let [only] = &branches[..] {
            return page(select, only);
        }
        let branch = |(n, clauses): (usize, &Vec<String>)| {
            format!("SELECT seq FROM ({}) b{n}", page("SELECT seq FROM audit", clauses))
        };
        let union = branches.iter().enumerate().map(branch).collect::<Vec<_>>().join(" UNION ALL ");
        let chosen = page(&format!("SELECT seq FROM ({union}) chosen"), &[]);
        page(select, &[format!("seq IN ({chosen})")])
    }

    /// Whether an entry fits, its place aside.
    pub fn fits(&self, entry: &View<'_>) -> bool {
        let event = self.event.as_ref().is_none_or(|event| match event.strip_suffix('*') {
            Some(prefix) => entry.event.starts_with(prefix),
            None => entry.event == event,
        });
        event
            && self.actor.as_ref().is_none_or(|actor| entry.actor_id == actor || entry.actor_name == actor)
            && self.outcome.as_ref().is_none_or(|outcome| entry.outcome == outcome)
            && self.start.is_none_or(|start| entry.time >= start)
            && self.end.is_none_or(|end| entry.time < end)
    }

    /// Whether every entry fits.
    pub const fn is_open(&self) -> bool {
        let Self { event, actor, outcome, start, end, .. } = self;
        event.is_none() && actor.is_none() && outcome.is_none() && start.is_none() && end.is_none()
    }

    /// The event's name, where one is asked for.
    pub(super) fn one_event(&self) -> Option<&String> {
        self.event.as_ref().filter(|event| !event.ends_with('*'))
    }

    /// The names that begin as is asked for; `None` where nothing is asked, or everything fits.
    fn events(&self) -> Option<Vec<&'static str>> {
        let prefix = self.event.as_ref()?.strip_suffix('*').filter(|prefix| !prefix.is_empty())?;
        Some(EventName::EVERY.iter().map(|name| name.as_str()).filter(|name| name.starts_with(prefix)).collect())
    }
}

/// Each branch with each way added.
fn each(branches: &[Vec<String>], ways: &[String]) -> Vec<Vec<String>> {
    let with = |branch: &Vec<String>, way: &String| branch.iter().chain([way]).cloned().collect();
    branches.iter().flat_map(|branch| ways.iter().map(move |way| with(branch, way))).collect()
}
