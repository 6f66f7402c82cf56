//! The release or debug binary as a process of its own, on a free port and a directory of its own.

use std::{
    ffi::OsString,
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::http::Http;

/// The name of the token with every scope that [`Site::token`] makes.
pub(crate) const ROOT: &str = "root";

/// Where a server runs: it may run there several times, one after the other.
pub(crate) struct Site {
    pub(crate) dir: PathBuf,
    pub(crate) port: u16,
    /// Variables beside the usual ones.
    pub(crate) env: Vec<(&'static str, String)>,
    /// What stands before the program's name, such as `taskset`.
    pub(crate) before: Vec<&'static str>,
}

/// A running server; killed when dropped.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Server {
    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn http(&self) -> Http {
        Http::to(self.port)
    }
}

/// No limit that a load could reach, but every limiter at work.
const LIMITS: [&str; 7] = ["PEER", "SIGN_IN", "CALLBACK", "BAD_CREDENTIALS", "TOKEN_CREATION", "API", "FORWARD_AUTH"];

impl Site {
    pub(crate) fn new(dir: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        Self { dir: dir.to_owned(), port, env: Vec::new(), before: Vec::new() }
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.dir.join("loki.db")
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut words: Vec<OsString> = self.before.iter().map(OsString::from).collect();
        words.push(env!("CARGO_BIN_EXE_lokid").into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(arguments).env_clear().current_dir(&self.dir).stdin(Stdio::null());
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("LOKI_DATABASE_URL", format!("sqlite://{}", self.database().display()));
        command.env("LOKI_SERVER_PORT", self.port.to_string()).env("LOKI_LOG_LEVEL", "error");
        for limit in LIMITS {
            command.env(format!("LOKI_LIMITS_{limit}"), "10000000/s");
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// A verb of the command line on this site's database; its output.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("the program starts");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// A token with every scope, made on the command line.
    pub(crate) fn token(&self, name: &str) -> String {
        let text = self.run(&["--json", "enterprise", "token", "generate", name, "--scopes", "*"]);
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        value["token"].as_str().expect("a secret").to_owned()
    }

    /// Where the server's output goes.
    pub(crate) fn output(&self) -> PathBuf {
        self.dir.join("output")
    }

    /// Starts the server without waiting for it.
    pub(crate) fn spawn(&self) -> Server {
        let out = File::create(self.output()).expect("a file for the output");
        let err = out.try_clone().expect("a second handle");
        let child = self.command(&["start"]).stdout(out).stderr(err).spawn().expect("the program starts");
        Server { child, port: self.port }
    }

    /// Starts the server and waits until it is ready.
    pub(crate) fn start(&self) -> Server {
        let mut server = self.spawn();
        let mut http = server.http();
        let ready = until(Duration::from_secs(30), || {
            let gone = server.child.try_wait().ok().flatten();
            assert!(gone.is_none(), "ended: {gone:?} {}", fs::read_to_string(self.output()).unwrap_or_default());
            http.get("/readyz", &[]).is_ok_and(|a| a.status == 200)
        });
        assert!(ready, "not ready: {}", fs::read_to_string(self.output()).unwrap_or_default());
        server
    }
}

/// Asks again and again until it is so or the time is over.
pub(crate) fn until(within: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + within;
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_micros(500));
    }
    true
}
