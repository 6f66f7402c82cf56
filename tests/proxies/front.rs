//! A reverse proxy as a process of its own, on a free port of loopback, with everything that it writes in a
//! directory of its own.

use std::{
    fs::{self, File},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::site::HOST;

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proxy {
    Nginx,
    Caddy,
}

/// A running proxy; killed when dropped.
pub(crate) struct Front {
    pub(crate) port: u16,
    child: Child,
    dir: TempDir,
}

impl Drop for Front {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Somebody else may take a port between looking for it and listening there.
const ATTEMPTS: usize = 3;

impl Front {
    /// With the configuration that lokid printed, in front of the app at this port.
    pub(crate) async fn start(proxy: Proxy, printed: &str, app: u16) -> Self {
        let printed = printed.replace("APP_ADDRESS", &format!("127.0.0.1:{app}"));
        for _ in 1..ATTEMPTS {
            if let Ok(front) = Self::attempt(proxy, &printed).await {
                return front;
            }
        }
        Self::attempt(proxy, &printed).await.unwrap_or_else(|why| panic!("{proxy:?}: {why}\n{printed}"))
    }

    async fn attempt(proxy: Proxy, printed: &str) -> Result<Self, String> {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).unwrap().port();
        let config = dir.path().join("config");
        let whole = match proxy {
            Proxy::Nginx => nginx(printed, port),
            Proxy::Caddy => caddy(printed, port),
        };
        fs::write(&config, whole).unwrap();
        let child = command(proxy, dir.path(), &config)
            .spawn()
            .unwrap_or_else(|e| panic!("{proxy:?} does not start ({e}); `make setup` installs what the tests need"));
        let mut front = Self { port, child, dir };
        front.until_ready().await.map_err(|status| format!("{status}: {}", front.output()))?;
        Ok(front)
    }

    /// Waits until it listens, or has ended.
    async fn until_ready(&mut self) -> Result<(), ExitStatus> {
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Err(status);
            }
            assert!(Instant::now() < deadline, "does not listen: {}", self.output());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The port may be somebody else's, and this one about to end because of that.
        self.child.try_wait().unwrap().map_or(Ok(()), Err)
    }

    /// What it said.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(output(self.dir.path())).unwrap_or_default()
    }
}

fn output(dir: &Path) -> PathBuf {
    dir.join("output")
}

fn command(proxy: Proxy, dir: &Path, config: &Path) -> Command {
    let mut command = match proxy {
        Proxy::Nginx => Command::new("nginx"),
        Proxy::Caddy => Command::new("caddy"),
    };
    match proxy {
        Proxy::Nginx => command.arg("-e").arg("stderr").arg("-p").arg(dir).arg("-c").arg(config),
        Proxy::Caddy => command.args(["run", "--adapter", "caddyfile", "--config"]).arg(config),
    };
    let log = File::create(output(dir)).unwrap();
    // Debian keeps nginx where only root's PATH leads. Caddy keeps its state below HOME.
    command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", dir);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command
}

/// One process, so that killing it leaves none behind.
fn nginx(printed: &str, port: u16) -> String {
    let listening = replaced(printed, "# listen 443 ssl; with its certificate", &format!("listen 127.0.0.1:{port};"));
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path temp_{kind};\n"))
        .concat();
    format!(
        "daemon off;\nmaster_process off;\npid pid;\nerror_log stderr;\nevents {{}}\n\
         http {{\naccess_log off;\n{temp}{listening}\n}}\n"
    )
}

fn caddy(printed: &str, port: u16) -> String {
    let site = replaced(printed, &format!("\n{HOST} {{"), &format!("\nhttp://{HOST}:{port} {{"));
    format!("{{\nadmin off\nauto_https off\ndefault_bind 127.0.0.1\n}}\n{site}")
}

#[track_caller]
fn replaced(text: &str, what: &str, by: &str) -> String {
    assert!(text.contains(what), "no {what:?} in what was printed:\n{text}");
    text.replace(what, by)
}
