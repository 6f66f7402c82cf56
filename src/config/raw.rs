//! Text of a file, the environment or a flag → a tree of plain values that know where they came from.
//! Nothing is interpreted here but the shape.

use std::fmt;

use saphyr_parser::{Event, Parser, ScalarStyle};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A command-line flag.
    Flag(String),
    /// An environment variable.
    Env(String),
    /// A line of the configuration file.
    File {
        /// The file as it was named.
        path: String,
        /// The line, from 1.
        line: usize,
    },
    /// The table of keys.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Env(name) => f.write_str(name),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One value and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it comes from.
    pub origin: Origin,
}

/// The shapes that YAML has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// One text; `plain` when it was written without quotes (so `true` may be a truth value).
    Scalar {
        /// The text, unquoted.
        text: String,
        /// Whether it stood without quotes.
        plain: bool,
    },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<(String, Node)>),
}

/// The text is not the YAML that a configuration may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// Deeper than any configuration; keeps a hostile file from exhausting the stack.
const MAX_DEPTH: usize = 16;

impl Node {
    /// A single text.
    pub fn scalar(text: impl Into<String>, origin: Origin) -> Self {
        Self { value: Value::Scalar { text: text.into(), plain: true }, origin }
    }

    /// An empty mapping.
    pub fn map(origin: Origin) -> Self {
        Self { value: Value::Map(Vec::new()), origin }
    }

    /// The value of a mapping's key.
    pub fn child(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(k, _)| k == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// Puts `node` at a dotted path, making mappings on the way. `name[]` is the first entry of a list;
    /// a mapping that stands where a list belongs is a list of that one entry.
    pub fn put(&mut self, path: &str, node: Self) {
        let (step, rest) = path.split_once('.').map_or((path, None), |(step, rest)| (step, Some(rest)));
        let (name, in_list) = step.strip_suffix("[]").map_or((step, false), |name| (name, true));
        if !matches!(self.value, Value::Map(_)) {
            self.value = Value::Map(Vec::new());
        }
        let Value::Map(entries) = &mut self.value else { return };
        let at = entries.iter().position(|(key, _)| key == name).unwrap_or_else(|| {
            entries.push((name.to_owned(), Self::map(node.origin.clone())));
            entries.len() - 1
        });
        let slot = &mut entries[at].1;
        let slot = match &mut slot.value {
            Value::List(items) if in_list => {
                if items.is_empty() {
                    items.push(Self::map(node.origin.clone()));
                }
                &mut items[0]
            }
            _ => slot,
        };
        match rest {
            Some(rest) => slot.put(rest, node),
            None => *slot = node,
        }
    }
}

/// Reads one YAML document. Aliases, tags and repeated keys are refused: none has a place here.
///
/// # Errors
/// [`Malformed`] names the line.
pub fn parse(text: &str, origin_at: &dyn Fn(usize) -> Origin) -> Result<Option<Node>, Malformed> {
    let mut reader = Reader { events: Parser::new_from_str(text), origin_at };
    loop {
        match reader.next()? {
            (Event::StreamStart | Event::DocumentStart(_), _) => {}
            (Event::StreamEnd | Event::DocumentEnd, _) => return Ok(None),
            (event, line) => {
                let node = reader.node(event, line, 0)?;
                return reader.nothing_follows().map(|()| Some(node));
            }
        }
    }
}

struct Reader<'t, 'o> {
    events: Parser<'t, saphyr_parser::StrInput<'t>>,
    origin_at: &'o dyn Fn(usize) -> Origin,
}

impl<'t> Reader<'t, '_> {
    fn next(&mut self) -> Result<(Event<'t>, usize), Malformed> {
        match self.events.next() {
            Some(Ok((event, span))) => Ok((event, span.start.line())),
            Some(Err(e)) => Err(Malformed { line: e.marker().line(), message: e.info().to_owned() }),
            None => Ok((Event::StreamEnd, 0)),
        }
    }

    fn nothing_follows(&mut self) -> Result<(), Malformed> {
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(()),
                (Event::DocumentEnd, _) => {}
                (_, line) => return Err(Malformed { line, message: "only one document is expected".into() }),
            }
        }
    }

    fn node(&mut self, event: Event<'t>, line: usize, depth: usize) -> Result<Node, Malformed> {
        let refuse = |message: &str| Err(Malformed { line, message: message.to_owned() });
        if depth > MAX_DEPTH {
            return refuse("nested too deeply");
        }
        let value = match event {
            Event::Scalar(text, style, _, None) => {
                Value::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain }
            }
            Event::SequenceStart(_, None) => self.list(depth)?,
            Event::MappingStart(_, None) => self.map(depth)?,
            Event::Alias(_) => return refuse("aliases (*name) are not used in this file"),
            _ => return refuse("tags (!name) are not used in this file"),
        };
        Ok(Node { value, origin: (self.origin_at)(line) })
    }

    fn list(&mut self, depth: usize) -> Result<Value, Malformed> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, line) => items.push(self.node(event, line, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, Malformed> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        let mut seen: Vec<String> = Vec::new();
        loop {
            let (key, line) = match self.next()? {
                (Event::MappingEnd, _) => return Ok(Value::Map(entries)),
                (Event::Scalar(key, ..), line) => (key.into_owned(), line),
                (_, line) => return Err(Malformed { line, message: "a key must be a plain text".into() }),
            };
            if seen.contains(&key) {
                return Err(Malformed { line, message: format!("the key {key:?} stands here twice") });
            }
            let (event, line) = self.next()?;
            let node = self.node(event, line, depth + 1)?;
            // `key:`, `key: ~` and `key: null` set nothing; the name still may not stand here twice.
            seen.push(key.clone());
            if !matches!(&node.value, Value::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null"))
            {
                entries.push((key, node));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Option<Node>, Malformed> {
        parse(text, &|line| Origin::File { path: "c".into(), line })
    }

    #[test]
    fn values_know_their_line() {
        let root = read("server:\n  host: a\n  port: 1\n").unwrap().unwrap();
        let port = root.child("server").unwrap().child("port").unwrap();
        assert_eq!(port.origin.to_string(), "c:3");
    }

    #[test]
    fn repeated_keys_aliases_tags_and_depth_are_refused_by_line() {
        assert_eq!(read("a: 1\na: 2\n").unwrap_err().line, 2);
        assert!(read("a: &x 1\nb: *x\n").unwrap_err().message.contains("aliases"));
        assert!(read("a: !!int 1\n").unwrap_err().message.contains("tags"));
        assert!(read(&"[".repeat(40)).is_err());
        assert_eq!(read("").unwrap(), None);
        let Value::Map(entries) = read("a: null\nb:\nc: ~\nd: 'null'\n").unwrap().unwrap().value else { panic!() };
        assert_eq!(entries.len(), 1, "nothing is set by null");
    }

    #[test]
    fn an_overlay_reaches_the_first_entry_of_a_list() {
        let mut root = read("oidc: [{issuer: a}, {issuer: b}]").unwrap().unwrap();
        root.put("oidc[].issuer", Node::scalar("c", Origin::Default));
        let Value::List(items) = &root.child("oidc").unwrap().value else { panic!() };
        assert_eq!(items[0].child("issuer").unwrap().value, Value::Scalar { text: "c".into(), plain: true });
        assert_eq!(items.len(), 2);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "[\\PC\n\t]{0,200}") {
            let _ = read(&text);
        }
    }
}
