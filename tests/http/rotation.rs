//! Three whole rotations under load, with verifiers that keep the key set for as long as they may and never
//! ask earlier: no assertion fails, neither when it is fresh nor in its last second.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use lokid::{
    actions::{
        ActError,
        keys::{Asked, rotate},
    },
    domain::{
        event::Origin,
        identity::{Caller, Identity, ManageKeys},
        rotation::KeyState,
        time::Moment,
    },
};

use crate::{
    door::{Client as _, Door, WithToken},
    verifier::Verifier,
};

const APPS: usize = 40;
const TOKENS: usize = 5;
const ROTATIONS: usize = 3;
const TICK: Duration = Duration::from_secs(20);
/// Verifiers that read the key set at different moments of the same minute, in seconds.
const PHASES: usize = 3;
/// Life of an assertion and what verifiers allow clocks to differ by.
const SHOWN_FOR: Duration = Duration::from_secs(300 + 59);

fn app(number: usize) -> String {
    format!("app-{number}.example.com")
}

async fn busy_door() -> Door {
    let apps: Vec<_> = (0..APPS).map(|n| format!("{{host: {}, rules: [{{scope: read}}]}}", app(n))).collect();
    Door::open(&[
        ("LOKI_SERVER_SECRET", "0123456789abcdef0123456789abcdef"),
        ("LOKI_FORWARD_AUTH_APPS", &format!("[{}]", apps.join(", "))),
        ("LOKI_SERVER_TRUSTED_PROXIES", "127.0.0.1"),
        ("LOKI_LIMITS_API", "off"),
    ])
    .await
}

async fn take(door: &Door, asked: Asked, force: bool) -> Result<(), ActError> {
    let caller: Caller<ManageKeys> = Arc::new(Identity::at_the_terminal("tester")).acting_as().unwrap();
    rotate(&door.app, &caller, asked, force, &Origin::default()).await
}

async fn count(door: &Door, state: KeyState) -> usize {
    let keys = door.app.store.signing_keys().await.unwrap();
    keys.iter().filter(|k| k.record.state() == state).count()
}

/// Somebody in a hurry: asks for the next step at every moment, and takes it as soon as it is allowed.
async fn rotate_when_allowed(door: &Door) {
    let asked = match (count(door, KeyState::Next).await, count(door, KeyState::Retiring).await) {
        (1, _) => Asked::Promote(None),
        (_, 1) => Asked::Remove(None),
        _ => Asked::Add,
    };
    match take(door, asked, false).await {
        Ok(()) | Err(ActError::Step(_)) => {}
        Err(e) => panic!("{e}"),
    }
}

struct Load<'d> {
    door: &'d Door,
    tokens: Vec<WithToken<'d>>,
    verifiers: Vec<Verifier<'d>>,
    /// What was handed out, with its app and its last moment.
    shown: VecDeque<(String, String, Moment)>,
    fetched: usize,
    failures: Vec<String>,
}

impl<'d> Load<'d> {
    async fn on(door: &'d Door) -> Self {
        let mut tokens = Vec::new();
        for _ in 0..TOKENS {
            tokens.push(door.token("read").await);
        }
        let mut verifiers: Vec<_> = (0..PHASES).map(|_| Verifier::of(door)).collect();
        for verifier in &mut verifiers {
            verifier.refresh().await;
            door.clock.advance(TICK);
        }
        Self { door, tokens, verifiers, shown: VecDeque::new(), fetched: 0, failures: Vec::new() }
    }

    /// Before anything else happens at this moment: the last who still get the old key set.
    async fn refresh(&mut self) {
        for verifier in &mut self.verifiers {
            verifier.refresh().await;
        }
    }

    async fn check(&mut self, jws: &str, app: &str) {
        for verifier in &mut self.verifiers {
            if let Err(why) = verifier.check(jws, app).await {
                self.failures.push(why);
            }
        }
    }

    /// Every third pair of token and app, so that each is asked for once a minute and gets a new one.
    async fn fetch(&mut self, turn: usize) {
        for pair in (turn % 3..TOKENS * APPS).step_by(3) {
            let app = app(pair / TOKENS);
            let fetched = self.tokens[pair % TOKENS].get(&format!("/auth/assertion?app={app}")).await.json();
            let jws = fetched["assertion"].as_str().unwrap().to_owned();
            self.check(&jws, &app).await;
            self.shown.push_back((jws, app, self.door.clock.now().plus(SHOWN_FOR)));
            self.fetched += 1;
        }
    }

    /// Checks once more what would be too old at the next tick.
    async fn show_the_oldest(&mut self) {
        let next = self.door.clock.now().plus(TICK);
        while self.shown.front().is_some_and(|(_, _, until)| *until < next) {
            let (jws, app, _) = self.shown.pop_front().unwrap();
            self.check(&jws, &app).await;
        }
    }
}

#[actix_web::test]
async fn no_assertion_fails_while_the_keys_are_rotated_three_times() {
    let door = busy_door().await;
    let mut load = Load::on(&door).await;
    let mut turn = 0;
    while count(&door, KeyState::Gone).await < ROTATIONS {
        load.refresh().await;
        rotate_when_allowed(&door).await;
        load.fetch(turn).await;
        load.show_the_oldest().await;
        door.clock.advance(TICK);
        turn += 1;
    }
    for _ in 0..=SHOWN_FOR.as_secs() / TICK.as_secs() {
        load.show_the_oldest().await;
        door.clock.advance(TICK);
    }
    assert_eq!(load.failures, [""; 0]);
    assert!(
        load.fetched >= 3_000 && load.shown.is_empty(),
        "{} assertions, {} not shown",
        load.fetched,
        load.shown.len()
    );
    assert_eq!(door.audit("key.remove").await.len(), ROTATIONS);
}

#[actix_web::test]
async fn a_key_that_signs_before_verifiers_know_it_makes_assertions_fail() {
    let door = busy_door().await;
    let mut load = Load::on(&door).await;
    take(&door, Asked::Add, false).await.unwrap();
    assert!(take(&door, Asked::Promote(None), false).await.is_err());
    load.fetch(0).await;
    assert_eq!(load.failures.len(), 0);
    take(&door, Asked::Promote(None), true).await.unwrap();
    load.fetch(1).await;
    assert!(load.failures.iter().any(|why| why.contains("is not in the set")), "{:?}", load.failures);
}

#[actix_web::test]
async fn a_key_that_goes_before_its_time_makes_assertions_fail() {
    let door = busy_door().await;
    let mut load = Load::on(&door).await;
    load.fetch(0).await;
    take(&door, Asked::Add, false).await.unwrap();
    door.clock.advance(Duration::from_mins(2));
    take(&door, Asked::Promote(None), false).await.unwrap();
    assert!(take(&door, Asked::Remove(None), false).await.is_err());
    take(&door, Asked::Remove(None), true).await.unwrap();
    door.clock.advance(Duration::from_mins(1));
    let (jws, app, until) = load.shown[0].clone();
    assert!(door.clock.now() < until);
    load.check(&jws, &app).await;
    assert_eq!(load.failures.len(), PHASES, "{:?}", load.failures);
}
