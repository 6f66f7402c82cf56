//! wrk on core 1, and what a server's process spent meanwhile.

use std::{fs, path::Path, process::Command};

/// What one run showed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// Answers in all.
    pub(crate) answers: f64,
    /// Answers in a second.
    pub(crate) rate: f64,
    /// The server's processor time for each answer, in microseconds.
    pub(crate) cpu: f64,
}

/// What a proxy says of the request that it asks about.
const FORWARDED: &str = "x-forwarded-method: GET\nx-forwarded-proto: https\nx-forwarded-host: app.example\n\
     x-forwarded-uri: /dashboard?page=2\nx-forwarded-for: 127.0.0.1\n";

/// Reads the credentials' lines from a file and sends them in turn, or makes a token with a new name each time.
const SCRIPT: &str = r#"
local requests, next, made = {}, 0, 0
function init(arguments)
  local kind, file = arguments[1], arguments[2]
  local path = kind == "verify" and "/auth/verify" or "/api/me"
  for line in io.lines(file) do
    local name, value = line:match("^([^:]+): (.*)$")
    wrk.headers[name] = value
    if kind == "mint" then wrk.headers["content-type"] = "application/json" else
      if kind == "verify" then requests = {} end
      requests[#requests + 1] = wrk.format("GET", path)
    end
  end
end
function request()
  if #requests == 0 then
    made = made + 1
    return wrk.format("POST", "/api/enterprise/tokens", nil, '{"name":"load ' .. made .. '","scopes":["read"]}')
  end
  next = next % #requests + 1
  return requests[next]
end
"#;

/// `GET /api/me` with every header of the file in turn.
pub(crate) fn read(dir: &Path, (port, pid): (u16, u32), seconds: u32, headers: &Path) -> Run {
    run(dir, (port, pid), seconds, 32, ["read", &headers.display().to_string()])
}

/// `GET /auth/verify` as a proxy asks it, with the credential of the file.
pub(crate) fn verify(dir: &Path, (port, pid): (u16, u32), seconds: u32, headers: &Path) -> Run {
    let credential = fs::read_to_string(headers).expect("the credential was written");
    let first = credential.lines().next().unwrap_or_default();
    let file = dir.join("forwarded");
    // The credential comes last: a request is made for every line, and only then all headers are there.
    fs::write(&file, format!("{FORWARDED}{first}\n")).expect("the headers can be written");
    run(dir, (port, pid), seconds, 32, ["verify", &file.display().to_string()])
}

/// `POST /api/enterprise/tokens` by 64 clients with the file's first header.
pub(crate) fn mint(dir: &Path, (port, pid): (u16, u32), seconds: u32, headers: &Path) -> Run {
    run(dir, (port, pid), seconds, 64, ["mint", &headers.display().to_string()])
}

fn run(dir: &Path, (port, pid): (u16, u32), seconds: u32, clients: u32, words: [&str; 2]) -> Run {
    let script = dir.join("load.lua");
    fs::write(&script, SCRIPT).expect("the script can be written");
    let before = cpu_microseconds(pid);
    let mut command = Command::new("taskset");
    command.args(["-c", "1", "wrk", "-t1", &format!("-c{clients}"), &format!("-d{seconds}s"), "-s"]).arg(&script);
    command.arg(format!("http://localhost:{port}")).arg("--").args(words);
    let output = command.output().expect("taskset starts");
    let spent = cpu_microseconds(pid) - before;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "{words:?}: {text}");
    let number = |after: &str| {
        let rest = text.split_once(after).map(|(_, rest)| rest.trim_start()).unwrap_or_default();
        rest.split(char::is_whitespace).next().and_then(|n| n.parse::<f64>().ok())
    };
    let rate = number("Requests/sec:").unwrap_or_else(|| panic!("{text}"));
    let answers = text.lines().find_map(|line| line.trim().split_once(" requests in ")?.0.parse::<f64>().ok());
    let answers = answers.unwrap_or_else(|| panic!("{text}"));
    Run { answers, rate, cpu: spent / answers }
}

/// User and system time of a process so far (`proc_pid_stat(5)`, fields 14 and 15, in hundredths of a second).
pub(crate) fn cpu_microseconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the server runs");
    let after_name = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<f64>().ok());
    ticks.sum::<f64>() * 10_000.0
}
