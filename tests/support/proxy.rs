//! A bad network between a store and PostgreSQL: passes, stalls, cuts, or loses the answer to one commit.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::Duration,
};

use lokid::store::Database;
use tempfile::TempDir;

use super::{home::Home, postgres};

/// What PostgreSQL calls its socket.
const SOCKET: &str = ".s.PGSQL.5432";
/// How the server says that a commit is done: the tag of a `CommandComplete`.
const COMMITTED: &[u8] = b"COMMIT\0";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Network {
    /// Everything goes through.
    Passes,
    /// Connections stay open, but nothing goes through any more.
    Stalls,
    /// Connections are closed, new ones too.
    Cuts,
    /// Connections are closed, and new ones hear nothing.
    CutsThenStalls,
    /// The next commit happens, but its answer and its connection are lost.
    LosesOneCommit,
    /// The proxy ends.
    Ends,
}

pub(crate) struct Proxy {
    directory: TempDir,
    network: Arc<AtomicU8>,
    database: String,
}

impl Proxy {
    /// A way to the database of `home` that can be made bad.
    pub(crate) fn before(home: &Home) -> Self {
        let url = home.url();
        let server = postgres::sockets_of(&url).join(SOCKET);
        let directory = tempfile::tempdir().unwrap();
        let network = Arc::new(AtomicU8::new(Network::Passes as u8));
        let door = UnixListener::bind(directory.path().join(SOCKET)).unwrap();
        door.set_nonblocking(true).unwrap();
        let seen = Arc::clone(&network);
        thread::spawn(move || answer_the_door(&door, &server, &seen));
        let database = url.split_once("?host=").unwrap().0.to_owned();
        Self { directory, network, database }
    }

    /// The same database, reached through this.
    pub(crate) fn database(&self) -> Database {
        Database::Postgres(format!("{}?host={}", self.database, self.directory.path().display()))
    }

    pub(crate) fn becomes(&self, network: Network) {
        self.network.store(network as u8, Ordering::SeqCst);
    }

    pub(crate) fn is(&self, network: Network) -> bool {
        self.network.load(Ordering::SeqCst) == network as u8
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.becomes(Network::Ends);
    }
}

const SHORT: Duration = Duration::from_millis(5);

fn answer_the_door(door: &UnixListener, server: &PathBuf, network: &Arc<AtomicU8>) {
    let mut unheard = Vec::new();
    while !is(network, Network::Ends) {
        let Ok((client, _)) = door.accept() else {
            thread::park_timeout(SHORT);
            continue;
        };
        if is(network, Network::Cuts) {
            continue; // the client is dropped and reads its end
        }
        if is(network, Network::CutsThenStalls) {
            unheard.push(client);
            continue;
        }
        client.set_nonblocking(false).unwrap();
        let server = UnixStream::connect(server).unwrap();
        for (from, to, is_answer) in [(&client, &server, false), (&server, &client, true)] {
            let (from, to, network) = (from.try_clone().unwrap(), to.try_clone().unwrap(), Arc::clone(network));
            thread::spawn(move || pass_on(from, to, is_answer, &network));
        }
    }
}

fn pass_on(mut from: UnixStream, mut to: UnixStream, is_answer: bool, network: &AtomicU8) {
    from.set_read_timeout(Some(SHORT)).unwrap();
    let mut buffer = [0; 16_384];
    while ![Network::Cuts, Network::CutsThenStalls, Network::Ends].iter().any(|bad| is(network, *bad)) {
        if is(network, Network::Stalls) {
            thread::park_timeout(SHORT);
            continue;
        }
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => {
                let bytes = &buffer[..length];
                if is_answer && is_committed(bytes) && lose_it(network) {
                    break;
                }
                if to.write_all(bytes).is_err() {
                    break;
                }
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

fn is_committed(bytes: &[u8]) -> bool {
    bytes.windows(COMMITTED.len()).any(|window| window == COMMITTED)
}

/// Whether this is the one commit to lose.
fn lose_it(network: &AtomicU8) -> bool {
    let (lose, pass) = (Network::LosesOneCommit as u8, Network::Passes as u8);
    network.compare_exchange(lose, pass, Ordering::SeqCst, Ordering::SeqCst).is_ok()
}

fn is(network: &AtomicU8, what: Network) -> bool {
    network.load(Ordering::SeqCst) == what as u8
}
