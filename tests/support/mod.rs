//! What tests of the store share: both engines with a database of each test's own, values to put in,
//! and waiting for a condition instead of sleeping.
//!
//! `each_engine!` turns one story into two tests, `…::on_sqlite` and `…::on_postgres`.

pub(crate) mod home;
pub(crate) mod postgres;
pub(crate) mod proxy;
pub(crate) mod values;

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Runs each story on both engines, each time in a fresh [`home::Home`].
macro_rules! each_engine {
    ($($(#[$doc:meta])* async fn $story:ident($home:ident) $body:block)+) => {$(
        $(#[$doc])*
        async fn $story($home: $crate::support::home::Home) { $body }

        mod $story {
            #[test]
            fn on_sqlite() {
                $crate::support::run(async { super::$story($crate::support::home::Home::on_sqlite().await).await });
            }

            #[test]
            fn on_postgres() {
                $crate::support::run(async {
                    if let Some(home) = $crate::support::home::Home::on_postgres().await {
                        super::$story(home).await;
                    }
                });
            }
        }
    )+};
}

/// Runs a future on a runtime of this thread, as every worker of the server has one.
pub(crate) fn run<F: Future>(story: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(story)
}

/// Looks until there is something to see.
pub(crate) async fn until<T>(what: &str, within: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < deadline, "{what}: not within {within:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Runs `work(0)`, `work(1)`, … at the same time, each on a thread and a runtime of its own.
pub(crate) async fn on_threads<F: Future<Output: Send + 'static>>(
    threads: usize,
    work: impl Fn(usize) -> F + Clone + Send + 'static,
) -> Vec<F::Output> {
    let start = |thread| {
        let work = work.clone();
        tokio::task::spawn_blocking(move || run(work(thread)))
    };
    let started: Vec<_> = (0..threads).map(start).collect();
    futures_util::future::try_join_all(started).await.unwrap()
}
