//! The floors of `src/`, lowest first. A module may use its own code and the floors below it,
//! never a floor above and never a neighbour on its own floor.
//!
//! Rust lets the modules of one crate use each other in circles. This test does not. Beside it stand
//! the laws that a text search can keep: SQL, the clock and the environment each have one room.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const FLOORS: &[&[&str]] = &[
    &["domain"],
    &["config", "telemetry"],
    &["store", "keys", "pki", "issuers", "cluster"],
    &["authn", "oidc", "audit", "runner"],
    &["actions"],
    &["web", "demo"],
    &["cli"],
];

/// Ways to reach a database. (Naming `sqlx::Error` is not one.)
const SQL: &[&str] = &["sqlx::query", "sqlx::raw_sql", "use sqlx"];

#[test]
fn modules_look_only_downwards() {
    let mut wrong = Vec::new();
    for (path, source) in sources() {
        let home = room_of(&path);
        let Some(floor) = floor_of(&home) else { continue }; // lib.rs and main.rs see everything
        for used in modules_used(&source) {
            if used != home && floor_of(&used).is_some_and(|other| other >= floor) {
                wrong.push(format!("{path}: {home} must not use {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_has_a_floor() {
    let lib = read("src/lib.rs");
    let declared = |line: &str| {
        let line = line.trim();
        let rest = line.strip_prefix("pub(crate) ").or(line.strip_prefix("pub ")).unwrap_or(line);
        rest.strip_prefix("mod ")?.strip_suffix(';').map(str::to_owned)
    };
    let modules: Vec<_> = lib.lines().filter_map(declared).collect();
    assert!(modules.contains(&"domain".to_owned()), "no module was found in lib.rs: {modules:?}");
    for module in modules {
        assert!(floor_of(&module).is_some(), "give `{module}` a floor in FLOORS");
    }
}

#[test]
fn only_the_store_contains_sql() {
    let found = outside(|path| room_of(path) == "store", SQL);
    assert!(found.is_empty(), "SQL belongs into src/store: {}", found.join("\n"));
}

#[test]
fn only_one_file_reads_the_clock_and_only_config_the_environment() {
    let clock = outside(|path| path == "domain/time.rs", &["SystemTime::now", "Utc::now", "Timestamp::now"]);
    assert!(clock.is_empty(), "ask the Clock of domain::time: {}", clock.join("\n"));
    let environment = outside(|path| room_of(path) == "config", &["env::var"]);
    assert!(environment.is_empty(), "settings come from config: {}", environment.join("\n"));
}

#[test]
fn every_migration_has_the_same_name_for_both_engines_and_is_compiled_in() {
    let names = |engine: &str| -> BTreeSet<String> {
        let folder = root().join("migrations").join(engine);
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert_eq!(names("sqlite"), names("postgres"));
    let list = read("src/store/open.rs");
    for name in names("sqlite") {
        let stem = name.strip_suffix(".sql").unwrap_or_else(|| panic!("{name} is no .sql file"));
        assert!(list.contains(&format!("\"{stem}\"")), "{name} is not among `migrations!` in src/store/open.rs");
    }
}

/// The checks above would also pass if they looked at nothing.
#[test]
fn the_checks_notice_what_they_are_for() {
    let source = "use crate::{store::{Act, Store}, web};\nlet x = crate::cli::Args; // crate::oidc\n";
    assert_eq!(modules_used(source), ["store", "web", "cli"]);
    assert_eq!(modules_used("use crate::domain::{event, time::Moment};"), ["domain"]);
    assert_eq!((floor_of("domain"), floor_of("cli"), floor_of("main")), (Some(0), Some(6), None));
    assert!(outside(|_| false, SQL).iter().any(|found| found.starts_with("store/tokens.rs:")));
    assert!(outside(|_| false, &["SystemTime::now"]).iter().any(|found| found.starts_with("domain/time.rs:")));
    assert!(outside(|_| false, &["env::var"]).iter().any(|found| found.starts_with("config/")));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Every file of `src/` by its path below it, with its text.
fn sources() -> Vec<(String, String)> {
    let src = root().join("src");
    let source = |file: PathBuf| {
        let path = file.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
        (path, fs::read_to_string(file).unwrap())
    };
    rust_files(&src).into_iter().map(source).collect()
}

/// `file:line` of each line of code that contains one of these texts, except in files that may.
fn outside(may: impl Fn(&str) -> bool, texts: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, source) in sources().into_iter().filter(|(path, _)| !may(path)) {
        for (at, line) in source.lines().enumerate() {
            let code = without_comment(line);
            if texts.iter().any(|text| code.contains(text)) {
                found.push(format!("{path}:{}: {}", at + 1, line.trim()));
            }
        }
    }
    found
}

fn room_of(path: &str) -> String {
    path.split('/').next().unwrap().trim_end_matches(".rs").to_owned()
}

fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

fn without_comment(line: &str) -> &str {
    line.split("//").next().unwrap_or("")
}

/// The top-level modules named as `crate::x` or at the first level of `crate::{x, y::{..}}`.
fn modules_used(source: &str) -> Vec<String> {
    let code: String = source.lines().map(without_comment).collect();
    let mut used = Vec::new();
    for tail in code.split("crate::").skip(1) {
        let (mut depth, mut at_name, grouped) = (0, true, tail.starts_with('{'));
        for (at, c) in tail.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => at_name = true,
                c if at_name && c.is_alphabetic() => {
                    let is_end = |c: char| !c.is_alphanumeric() && c != '_';
                    used.push(tail[at..].split(is_end).next().unwrap().to_owned());
                    at_name = false;
                }
                _ => {}
            }
            if depth == 0 && (grouped || !at_name) {
                break;
            }
        }
    }
    used
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let file_or_below = |path: PathBuf| match path.extension() {
        _ if path.is_dir() => rust_files(&path),
        Some(extension) if extension == "rs" => vec![path],
        _ => vec![],
    };
    paths.flat_map(file_or_below).collect()
}
