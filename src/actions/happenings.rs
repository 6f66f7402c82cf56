//! What happens, for those who follow it live: entries of the audit log and lines of runs' logs, in the order
//! of their commits. Read once from the database for all followers, and only while there are some.
//!
//! Followers are woken in small groups, one after the other: hundreds of them written to at once would keep a worker's
//! requests waiting. What happens while a round goes on is told in the next one, all of it in one piece.
//!
//! A [`Cursor`] names a place in both logs. Whoever comes back with one gets what came behind it, from the database;
//! so nothing is missed between two connections, after a restart, or on another node.

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::sync::{
    Mutex,
    broadcast::{self, error::TryRecvError},
    watch,
};

use super::App;
use crate::{
    domain::ledger::Entry,
    store::{Engine, StoreError, ledger::Filter, runs::lines::Line},
};

/// A follower that is so many happenings behind is let go; it comes back with its cursor.
const HELD: usize = 4096;
/// Rows of one read.
const AT_ONCE: i64 = 1000;
/// Rows of one read for one who comes back.
const TOLD_AGAIN_AT_ONCE: i64 = 256;
/// Between two looks at how far followers are.
const BREATH: Duration = Duration::from_millis(5);
/// Followers have this long for a stretch of a burst.
const PATIENCE: Duration = Duration::from_millis(50);
/// Groups of followers. A round through all of them takes about twice as many milliseconds.
const GROUPS: usize = 25;
/// As many are woken together before another group is begun.
const TOGETHER: usize = 8;
/// Between two groups: the time of those who ask for something.
const STEP: Duration = Duration::from_millis(1);
/// How often commits of other nodes are looked for, where nothing tells of them.
const LOOK_FOR_OTHERS: Duration = Duration::from_millis(500);

/// How much of both logs somebody has seen: the last entry's `seq` and the last line's `pos`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    seq: i64,
    pos: i64,
}

/// `SEQ-POS`
impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.seq, self.pos)
    }
}

impl FromStr for Cursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected the id of an event, such as 120-4031";
        let (seq, pos) = text.split_once('-').ok_or(EXPECTED)?;
        let number = |text: &str| text.parse::<i64>().ok().filter(|n| *n >= 0).ok_or(EXPECTED);
        Ok(Self { seq: number(seq)?, pos: number(pos)? })
    }
}

/// What happened.
#[derive(Debug)]
pub enum What {
    /// An entry of the audit log.
    Entry(Box<Entry>),
    /// A line of a run's log.
    Line(Line),
}

/// One thing that happened.
#[derive(Debug)]
pub struct Happening {
    /// Where somebody is who has seen it.
    pub cursor: Cursor,
    /// What it is.
    pub what: What,
    /// As it is shown, once somebody has made that: followers share it.
    pub shown: OnceLock<String>,
}

/// The one reader, and its followers.
pub struct Happenings {
    followers: broadcast::Sender<Arc<Happening>>,
    /// What wakes each group: waiting at `followers` itself would wake all at once.
    bells: [watch::Sender<()>; GROUPS],
    /// How far was read; `None` while nobody follows.
    read: Mutex<Option<Cursor>>,
    ended: watch::Sender<bool>,
}

impl Default for Happenings {
    fn default() -> Self {
        Self {
            followers: broadcast::Sender::new(HELD),
            bells: std::array::from_fn(|_| watch::Sender::new(())),
            read: Mutex::new(None),
            ended: watch::Sender::new(false),
        }
    }
}

impl Happenings {
    /// The bell of the first group with room, or else of the smallest.
    fn bell(&self) -> watch::Receiver<()> {
        let size = |bell: &&watch::Sender<()>| bell.receiver_count();
        let with_room = self.bells.iter().find(|bell| size(bell) < TOGETHER);
        with_room.or_else(|| self.bells.iter().min_by_key(size)).unwrap_or(&self.bells[0]).subscribe()
    }

    /// Wakes followers, group by group.
    async fn ring(&self) {
        for bell in self.bells.iter().filter(|bell| bell.receiver_count() > 0) {
            bell.send_replace(());
            tokio::time::sleep(STEP).await;
        }
    }
}

/// What comes to a follower.
pub struct Following {
    /// From where on it shall be told again what it missed ([`behind`]), up to `from`.
    pub since: Option<Cursor>,
    /// Where it is after that.
    pub from: Cursor,
    /// What comes from now on. Holds what is not behind `from` too.
    pub coming: Coming,
    /// Becomes true when the server ends.
    pub ended: watch::Receiver<bool>,
}

/// What comes to a follower from now on, when its group's turn is.
pub struct Coming {
    receiver: broadcast::Receiver<Arc<Happening>>,
    bell: watch::Receiver<()>,
}

/// The follower is too far behind to be told all.
#[derive(Debug, Clone, Copy)]
pub struct TooSlow;

impl Coming {
    /// What comes next. Nothing is lost when nobody waits for the answer any more.
    ///
    /// # Errors
    /// [`TooSlow`].
    pub async fn next(&mut self) -> Result<Arc<Happening>, TooSlow> {
        loop {
            if let Some(happening) = self.try_next()? {
                return Ok(happening);
            }
            self.bell.changed().await.map_err(|_| TooSlow)?;
        }
    }

    /// What is there already; `None` when that is nothing.
    ///
    /// # Errors
    /// [`TooSlow`].
    pub fn try_next(&mut self) -> Result<Option<Arc<Happening>>, TooSlow> {
        match self.receiver.try_recv() {
            Ok(happening) => Ok(Some(happening)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(_) => Err(TooSlow),
        }
    }
}

impl Happening {
    /// Whether somebody at `cursor` has not seen it.
    pub const fn is_behind(&self, cursor: Cursor) -> bool {
        match &self.what {
            What::Entry(entry) => entry.seq > cursor.seq,
            What::Line(line) => line.pos > cursor.pos,
        }
    }
}

/// Follows what happens from now on, or from the place after `since`.
///
/// # Errors
/// When the database cannot say.
pub async fn follow(app: &App, since: Option<Cursor>) -> Result<Following, StoreError> {
    let happenings = &app.happenings;
    let mut read = happenings.read.lock().await;
    let coming = Coming { receiver: happenings.followers.subscribe(), bell: happenings.bell() };
    let from = match *read {
        Some(from) => from,
        None => *read.insert(end(app).await?),
    };
    drop(read);
    Ok(Following { since, from, coming, ended: happenings.ended.subscribe() })
}

/// The end of both logs: whoever reads what there is afterwards, and follows from here, misses nothing.
///
/// # Errors
/// When the database cannot say.
pub async fn end(app: &App) -> Result<Cursor, StoreError> {
    Ok(Cursor { seq: app.store.audit_head().await?.seq, pos: app.store.last_line().await? })
}

/// A stretch of what happened behind the cursor, which moves on, and not behind `until`; empty at the end.
///
/// # Errors
/// When the database cannot say.
pub async fn behind(app: &App, cursor: &mut Cursor, until: Cursor) -> Result<Vec<Arc<Happening>>, StoreError> {
    if cursor.seq >= until.seq && cursor.pos >= until.pos {
        return Ok(Vec::new());
    }
    let mut found = read_behind(app, cursor, TOLD_AGAIN_AT_ONCE).await?;
    found.retain(|happening| !happening.is_behind(until));
    Ok(found)
}

/// A stretch of both logs behind the cursor, which moves on. Entries are read first and told last, so that the end of
/// a run never comes before the lines that it printed.
async fn read_behind(app: &App, cursor: &mut Cursor, rows: i64) -> Result<Vec<Arc<Happening>>, StoreError> {
    let filter = Filter { after: Some(cursor.seq), ..Filter::default() };
    let mut entries = app.store.audit_page(&filter, rows).await?;
    let lines = app.store.lines_behind(cursor.pos, rows).await?;
    if is_full(lines.len(), rows) {
        entries.clear();
    }
    let mut found = Vec::with_capacity(lines.len() + entries.len());
    for line in lines {
        cursor.pos = line.pos;
        found.push(Happening { cursor: *cursor, what: What::Line(line), shown: OnceLock::new() });
    }
    for entry in entries {
        cursor.seq = entry.seq;
        found.push(Happening { cursor: *cursor, what: What::Entry(Box::new(entry)), shown: OnceLock::new() });
    }
    Ok(found.into_iter().map(Arc::new).collect())
}

/// Whether a read may have left something.
fn is_full(found: usize, asked: i64) -> bool {
    i64::try_from(found).is_ok_and(|found| found >= asked)
}

/// Tells followers what was committed, until the runtime ends.
pub async fn run(app: Arc<App>) {
    let mut committed = app.store.committed();
    let tells_of_others = app.store.engine() == Engine::Sqlite;
    loop {
        if tells_of_others {
            if committed.changed().await.is_err() {
                return;
            }
        } else if let Ok(Err(_closed)) = tokio::time::timeout(LOOK_FOR_OTHERS, committed.changed()).await {
            return;
        }
        committed.mark_unchanged();
        while let Err(e) = tell(&app).await {
            tracing::warn!(error = %e, "events wait for the database");
            tokio::time::sleep(LOOK_FOR_OTHERS).await;
        }
    }
}

async fn tell(app: &App) -> Result<(), StoreError> {
    while tell_some(app).await? {
        app.happenings.ring().await;
        // A burst is told no faster than followers take it; but one who takes nothing holds up nobody for long.
        let patience = tokio::time::Instant::now() + PATIENCE;
        while app.happenings.followers.len() > HELD / 2 && tokio::time::Instant::now() < patience {
            tokio::time::sleep(BREATH).await;
        }
    }
    Ok(())
}

/// Tells one stretch; answers whether there is more.
async fn tell_some(app: &App) -> Result<bool, StoreError> {
    let happenings = &app.happenings;
    let mut read = happenings.read.lock().await;
    if happenings.followers.receiver_count() == 0 {
        *read = None;
    }
    let Some(cursor) = read.as_mut() else { return Ok(false) };
    let found = read_behind(app, cursor, AT_ONCE).await?;
    let any = !found.is_empty();
    for happening in found {
        let _ = happenings.followers.send(happening);
    }
    Ok(any)
}

/// Ends every stream, so that the server can end.
pub fn end_all(app: &App) {
    app.happenings.ended.send_replace(true);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_what_it_prints_and_nonsense_is_refused() {
        let cursor = Cursor { seq: 12, pos: 400 };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for wrong in ["", "12", "a-b", "-1-2", "1-2-3", "1-", "99999999999999999999-1"] {
            assert!(wrong.parse::<Cursor>().is_err(), "{wrong}");
        }
    }
}
