//! The tree after all overlays, checked against the table, and typed reading from it.
//! Every fault is kept, so that all of them are reported at once (law 6).

use std::{cell::RefCell, fmt, time::Duration};

use super::{
    keys::{self, Key, Kind},
    raw::{Node, Origin, Value},
};

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key, with the number of the entry where there are several.
    pub key: String,
    /// Where the value comes from.
    pub origin: Origin,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.key, self.origin, self.message)
    }
}

/// Everything that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0.len();
        write!(f, "the configuration has {n} fault{}:", if n == 1 { "" } else { "s" })?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for Faults {}

/// A place in the tree from which keys are read.
#[derive(Clone, Copy)]
pub(super) struct Place<'t> {
    node: Option<&'t Node>,
    /// The path in the table: `enterprise.auth.oidc[]`.
    row: &'t str,
    /// The numbers of the entries that it lies in, for people: `enterprise.auth.oidc[1]`.
    numbers: [Option<usize>; 2],
    faults: &'t RefCell<Vec<Fault>>,
}

impl<'t> Place<'t> {
    pub(super) fn root(node: &'t Node, faults: &'t RefCell<Vec<Fault>>) -> Self {
        Self { node: Some(node), row: "", numbers: [None; 2], faults }
    }

    fn row_of(&self, key: &str) -> String {
        if self.row.is_empty() { key.to_owned() } else { format!("{}.{key}", self.row) }
    }

    fn name_of(&self, key: &str) -> String {
        let numbered = |name: String, n: usize| name.replacen("[]", &format!("[{n}]"), 1);
        self.numbers.into_iter().flatten().fold(self.row_of(key), numbered)
    }

    fn find(&self, key: &str) -> Option<&'t Node> {
        key.split('.').try_fold(self.node?, |node, step| node.child(step))
    }

    /// Says that the value of `key` is not right.
    pub(super) fn fault(&self, key: &str, message: impl Into<String>) {
        let origin = self.find(key).map_or(Origin::Default, |node| node.origin.clone());
        let fault = Fault { key: self.name_of(key), origin, message: message.into() };
        self.faults.borrow_mut().push(fault);
    }

    /// The text of a key, or its default; `None` when it has neither.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        let default = || Key::find(&self.row_of(key)).map(|row| row.default.to_owned());
        let text = match self.find(key).map(|node| &node.value) {
            Some(Value::Scalar { text, .. }) => Some(text.clone()),
            _ => default(),
        };
        text.filter(|t| !t.is_empty())
    }

    /// The text of a key that must be there.
    pub(super) fn required(&self, key: &str) -> String {
        self.text(key).unwrap_or_else(|| {
            self.fault(key, "must be set");
            String::new()
        })
    }

    /// A number that [`Kind::Number`] has checked.
    pub(super) fn number<T: TryFrom<i64>>(&self, key: &str) -> Option<T> {
        self.text(key).and_then(|t| t.parse::<i64>().ok()).and_then(|n| T::try_from(n).ok())
    }

    pub(super) fn flag(&self, key: &str) -> bool {
        self.text(key).and_then(|t| keys::flag(&t)).unwrap_or_default()
    }

    pub(super) fn duration(&self, key: &str) -> Option<Duration> {
        crate::domain::time::parse_duration(&self.text(key)?).ok()
    }

    /// A list, written as YAML or, in a variable, with commas or spaces.
    pub(super) fn list(&self, key: &str) -> Vec<String> {
        let split = |text: &str| text.split([',', ' ']).filter(|t| !t.is_empty()).map(str::to_owned).collect();
        match self.find(key).map(|node| &node.value) {
            Some(Value::List(items)) => items.iter().filter_map(|i| scalar(&i.value)).collect(),
            Some(Value::Scalar { text, .. }) => split(text),
            _ => self.text(key).map(|t| split(&t)).unwrap_or_default(),
        }
    }

    /// The pairs of a [`Kind::Mapping`].
    pub(super) fn pairs(&self, key: &str) -> Vec<(String, String)> {
        self.named(key).into_iter().filter_map(|(name, node)| Some((name, scalar(&node.value)?))).collect()
    }

    /// The names and values of a mapping.
    pub(super) fn named(&self, key: &str) -> Vec<(String, &'t Node)> {
        match self.find(key).map(|node| &node.value) {
            Some(Value::Map(entries)) => entries.iter().map(|(name, node)| (name.clone(), node)).collect(),
            _ => Vec::new(),
        }
    }

    /// The place of a value that [`Self::named`] gave.
    pub(super) fn below(&self, node: &'t Node) -> Self {
        Place { node: Some(node), ..*self }
    }

    /// The entries of a [`Kind::Entries`]; `row` is its path in the table with `[]`.
    pub(super) fn entries(&self, key: &str, row: &'t str) -> Vec<Self> {
        let numbers = |number| match self.numbers[0] {
            Some(outer) => [Some(outer), Some(number)],
            None => [Some(number), None],
        };
        let at = |(number, node)| Place { node: Some(node), row, numbers: numbers(number), faults: self.faults };
        match self.find(key) {
            Some(Node { value: Value::List(items), .. }) => items.iter().enumerate().map(at).collect(),
            Some(node @ Node { value: Value::Map(_), .. }) => vec![at((0, node))],
            _ => Vec::new(),
        }
    }

    /// A scalar with the type that it was written in: `true`, `7` and `"7"` differ.
    pub(super) fn typed(&self, key: &str) -> Option<serde_json::Value> {
        match &self.find(key)?.value {
            Value::Scalar { text, plain: true } => Some(match (text.as_str(), text.parse::<i64>()) {
                ("true", _) => true.into(),
                ("false", _) => false.into(),
                (_, Ok(number)) => number.into(),
                _ => text.clone().into(),
            }),
            Value::Scalar { text, .. } => Some(text.clone().into()),
            _ => None,
        }
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Scalar { text, .. } => Some(text.clone()),
        _ => None,
    }
}

/// Compares the whole tree with the table: unknown keys and values of the wrong shape.
pub(super) fn check(node: &Node, row: &str, name: &str, faults: &mut Vec<Fault>) {
    let mut wrong = |key: &str, origin: &Origin, message: String| {
        faults.push(Fault { key: key.to_owned(), origin: origin.clone(), message });
    };
    let key = Key::find(row);
    if let Some(expected) = key.and_then(|key| key.refuses(&node.value)) {
        let given = match (&node.value, key) {
            (Value::Scalar { text, .. }, Some(key)) if !key.is_secret() && key.kind != Kind::Entries => {
                format!("{:?} is not right; ", text.chars().take(60).collect::<String>())
            }
            _ => String::new(),
        };
        return wrong(name, &node.origin, format!("{given}expected {}", expected.trim_start_matches("expected ")));
    }
    let joined = |base: &str, step: &str| if base.is_empty() { step.to_owned() } else { format!("{base}.{step}") };
    match (&node.value, key.map(|k| k.kind)) {
        (Value::Map(_), Some(Kind::Mapping | Kind::Claims)) => {}
        (Value::Map(entries), Some(Kind::Named)) => {
            for (own, child) in entries {
                check(child, &joined(row, "*"), &joined(name, own), faults);
            }
        }
        (Value::Map(_), Some(Kind::Entries)) => check(node, &format!("{row}[]"), &format!("{name}[0]"), faults),
        (Value::List(items), Some(Kind::Entries)) => {
            for (at, item) in items.iter().enumerate() {
                check(item, &format!("{row}[]"), &format!("{name}[{at}]"), faults);
            }
        }
        (Value::Map(entries), None) if row.is_empty() || Key::is_section(row) => {
            let is_path = |step: &str| step.contains(['.', '[', ']', '*']);
            for (step, child) in entries.iter().filter(|(step, _)| is_path(step)) {
                let message = "there is no such key; write its parts below one another".to_owned();
                wrong(&joined(name, step), &child.origin, message);
            }
            for (step, child) in entries.iter().filter(|(step, _)| !is_path(step)) {
                check(child, &joined(row, step), &joined(name, step), faults);
            }
        }
        (_, None) if Key::is_section(row) => wrong(name, &node.origin, "expected a section with keys below it".into()),
        (_, None) => {
            let meant = Key::nearest(row).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            wrong(name, &node.origin, format!("there is no such key{meant}"));
        }
        _ => {}
    }
}
