//! The built binary in a directory of its own: what it prints, how it ends, and what it leaves behind.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::Value;

mod access;
mod certs;
mod config;
mod evidence;
mod help;
mod keys;
mod runs;
mod server;
#[path = "../support/values.rs"]
#[expect(dead_code, reason = "most of it is for the tests of the store")]
mod values;
mod verbs;
mod workloads;

/// How a verb ended.
struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Ended {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}{}", self.out, self.err))
    }

    fn shown(&self) -> String {
        format!("exit {}\n{}{}", self.code, self.out, self.err)
    }
}

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lokid"));
        command.args(words.split_whitespace()).current_dir(self.path()).env_clear().env("USER", "tester");
        command
    }

    fn run(&self, words: &str) -> Ended {
        self.run_with(words, &[])
    }

    fn run_with(&self, words: &str, env: &[(&str, &str)]) -> Ended {
        let done = self.command(words).envs(env.iter().copied()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ended { code: done.status.code().unwrap(), out: text(done.stdout), err: text(done.stderr) }
    }

    #[track_caller]
    fn ok(&self, words: &str) -> Ended {
        let ended = self.run(words);
        assert_eq!(ended.code, 0, "{words}: {}", ended.shown());
        ended
    }

    /// A server on a free port, ready when this returns.
    fn serve(&self) -> Serving {
        let mut child = self.command("start --listen 127.0.0.1:0").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let url = line.split_whitespace().find(|word| word.starts_with("http://")).expect(&line).to_owned();
        Serving { child, url, _out: out }
    }
}

struct Serving {
    child: Child,
    url: String,
    /// A server whose reader goes away ends.
    _out: BufReader<ChildStdout>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The value behind `Label: ` in a block.
fn value<'t>(text: &'t str, label: &str) -> &'t str {
    let found = text.lines().find_map(|line| line.strip_prefix(label)?.strip_prefix(": "));
    found.unwrap_or_else(|| panic!("no {label} in {text}"))
}
