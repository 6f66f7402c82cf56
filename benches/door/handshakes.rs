//! TLS 1.3 handshakes: each on a connection of its own, with one request, so that the server has seen the end of it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use lokid::{
    domain::time::Clock,
    pki::{
        ca::Authority,
        files,
        leaf::{KeyKind, Leaf, Usage},
        read::chain,
    },
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{PrivateKeyDer, pem::PemObject as _},
};

use crate::load::{Run, cpu_microseconds};

const WHILE: Duration = Duration::from_secs(3);

/// Makes an authority, a server's and a client's certificate in the directory.
pub(crate) fn certificates(dir: &Path) {
    let (now, day) = (Clock::system().now(), Duration::from_hours(24));
    let ca = Authority::create("Bench CA", KeyKind::P256, 9 * day, now).expect("an authority");
    let write = |name: &str, text: &str| fs::write(dir.join(name), text).expect("written");
    write(files::CA_CERT, &ca.cert);
    write(files::CA_KEY, &ca.key);
    let authority = Authority::read(&ca.cert, &ca.key, "bench").expect("just made");
    for (usage, cert, key) in
        [(Usage::Server, files::SERVER_CERT, files::SERVER_KEY), (Usage::Client, files::CLIENT_CERT, files::CLIENT_KEY)]
    {
        let dns = if usage == Usage::Server { vec!["localhost".parse().expect("a name")] } else { vec![] };
        let leaf = Leaf { common_name: "bench".into(), dns, ips: vec![], uris: vec![], usage, revoked_at: None };
        let pair = authority.issue(&leaf, KeyKind::P256, day, now).expect("issued");
        write(cert, &pair.cert);
        write(key, &pair.key);
    }
}

/// Runs [`shake`] on core 1 against a server with this port and process id.
pub(crate) fn run(dir: &Path, (port, pid): (u16, u32), kind: &str) -> Run {
    let own = std::env::current_exe().expect("this program has a path");
    let before = cpu_microseconds(pid);
    let mut command = Command::new("taskset");
    command.args(["-c", "1"]).arg(own).args(["handshakes", kind, &port.to_string()]).arg(dir);
    let output = command.output().expect("taskset starts");
    let spent = cpu_microseconds(pid) - before;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let answers: f64 =
        text.trim().parse().unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    Run { answers, rate: answers / WHILE.as_secs_f64(), cpu: spent / answers }
}

/// Shakes hands for a while and prints how often.
pub(crate) fn shake(kind: &str, port: u16, dir: &Path) {
    let config = Arc::new(config(kind, dir));
    let (end, mut times) = (Instant::now() + WHILE, 0_u32);
    while Instant::now() < end {
        once(&config, port);
        times += 1;
    }
    println!("{times}");
}

fn config(kind: &str, dir: &Path) -> ClientConfig {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut roots = RootCertStore::empty();
    for authority in chain(&dir.join(files::CA_CERT)).expect("the authority") {
        roots.add(authority).expect("an authority");
    }
    let builder = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13]);
    let builder = builder.with_root_certificates(roots);
    let mut config = if kind == "certificate" {
        let own = chain(&dir.join(files::CLIENT_CERT)).expect("the client's certificate");
        let key = PrivateKeyDer::from_pem_file(dir.join(files::CLIENT_KEY)).expect("the client's key");
        builder.with_client_auth_cert(own, key).expect("a pair")
    } else {
        builder.with_no_client_auth()
    };
    // Each handshake is a whole one.
    config.resumption = rustls::client::Resumption::disabled();
    config
}

fn once(config: &Arc<ClientConfig>, port: u16) {
    let name = "localhost".try_into().expect("a name");
    let connection = ClientConnection::new(Arc::clone(config), name).expect("a connection");
    let socket = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
    socket.set_nodelay(true).expect("a socket");
    let mut stream = StreamOwned::new(connection, socket);
    let request = format!("GET /healthz HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("the handshake succeeds");
    let mut start = [0; 12];
    stream.read_exact(&mut start).expect("an answer");
    assert_eq!(&start, b"HTTP/1.1 200");
}
