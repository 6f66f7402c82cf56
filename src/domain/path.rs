//! One reading of a request's path, for rules that stand in front of other programs (forward-auth).
//!
//! A rule is worth nothing if the program behind the proxy reads the path in another way. So a path is
//! decoded once, and refused whenever two parsers could disagree: encoded separators and dots, double
//! encoding, empty or dot segments, parameters after `;`, backslashes, fragments, control characters.
//! The query never takes part.

/// A path that every parser reads alike: decoded, begins with `/`, no empty, `.` or `..` segment inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainPath(String);

/// Two parsers could read the path differently; says what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the path holds {0}, which programs read in different ways")]
pub struct Ambiguous(pub &'static str);

impl PlainPath {
    /// Reads a request target in origin form (RFC 9112 §3.2.1): path and query, as they were sent.
    ///
    /// # Errors
    /// [`Ambiguous`] names what is in it.
    pub fn read(target: &str) -> Result<Self, Ambiguous> {
        let raw = target.split_once('?').map_or(target, |(path, _)| path);
        if !raw.starts_with('/') {
            return Err(Ambiguous("no leading /"));
        }
        let decoded = decode(raw)?;
        let path = String::from_utf8(decoded).map_err(|_| Ambiguous("bytes that are not UTF-8"))?;
        check_segments(&path)?;
        Ok(Self(path))
    }

    /// The decoded path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn decode(raw: &str) -> Result<Vec<u8>, Ambiguous> {
    let mut bytes = raw.bytes();
    let mut out = Vec::with_capacity(raw.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
                let (Some(high), Some(low)) = (digit(), digit()) else { return Err(Ambiguous("a broken % escape")) };
                let byte = u8::try_from(high * 16 + low).unwrap_or_default();
                match byte {
                    b'/' | b'\\' => return Err(Ambiguous("an encoded separator")),
                    b'.' | b'%' | b'?' | b'#' | b';' => return Err(Ambiguous("an encoded character with a meaning")),
                    0..0x20 | 0x7f => return Err(Ambiguous("a control character")),
                    other => other,
                }
            }
            b'\\' => return Err(Ambiguous("a backslash")),
            b'#' => return Err(Ambiguous("a #")),
            b';' => return Err(Ambiguous("a ;")),
            0x21..0x7f => byte,
            _ => return Err(Ambiguous("a character that must be encoded")),
        });
    }
    Ok(out)
}

fn check_segments(path: &str) -> Result<(), Ambiguous> {
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "" if is_last => {}
            "" => return Err(Ambiguous("an empty segment")),
            "." | ".." => return Err(Ambiguous("a dot segment")),
            // Some file systems drop these from the end of a name.
            s if s.ends_with(['.', ' ']) => return Err(Ambiguous("a segment that ends in a dot or a space")),
            _ => {}
        }
    }
    // U+FF0F and its like become separators where somebody normalises.
    let is_odd =
        |c| matches!(c, '\u{2024}'..='\u{2026}' | '\u{2044}' | '\u{2215}' | '\u{ff0e}' | '\u{ff0f}' | '\u{ff3c}');
    if !path.is_ascii() && path.chars().any(is_odd) {
        return Err(Ambiguous("a character that becomes a separator when it is normalised"));
    }
    Ok(())
}

/// A path and everything below it, by whole segments: `/admin` is not `/administrator`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subtree(String);

impl Subtree {
    /// Reads a pattern of the configuration: a plain path; a `/` at its end says nothing.
    ///
    /// # Errors
    /// What would be right.
    pub fn read(text: &str) -> Result<Self, String> {
        let path = PlainPath::read(text).map_err(|e| format!("{e}; expected a path such as /admin"))?;
        if text.contains(['%', '?', '*']) {
            return Err("expected a plain path such as /admin, which stands for everything below it too".into());
        }
        Ok(Self(path.0.trim_end_matches('/').to_owned()))
    }

    /// As written in the configuration.
    pub fn as_str(&self) -> &str {
        if self.0.is_empty() { "/" } else { &self.0 }
    }

    /// How many segments it names.
    pub fn depth(&self) -> usize {
        self.0.matches('/').count()
    }

    /// Whether everything in `other` lies in it too.
    pub fn covers(&self, other: &Self) -> bool {
        self.holds(&PlainPath(other.as_str().to_owned()))
    }

    /// Whether the path lies in it, letter for letter: for what is let through.
    pub fn holds_exactly(&self, path: &PlainPath) -> bool {
        path.0.strip_prefix(&self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether the path lies in it for a program that does not regard case: for what is protected.
    pub fn holds(&self, path: &PlainPath) -> bool {
        if self.0.is_ascii() && path.0.is_ascii() {
            let (wanted, given) = (self.0.as_bytes(), path.0.as_bytes());
            let begins = given.get(..wanted.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(wanted));
            return begins && matches!(given.get(wanted.len()), None | Some(b'/'));
        }
        let (wanted, given) = (self.0.to_lowercase(), path.0.to_lowercase());
        given.strip_prefix(&wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_paths_are_decoded_once() {
        let read = |target: &str| PlainPath::read(target).unwrap().0;
        assert_eq!(read("/"), "/");
        assert_eq!(read("/a/b/?x=/../%2f"), "/a/b/");
        assert_eq!(read("/caf%C3%A9/a%20b"), "/café/a b");
        assert_eq!(read("/.well-known/x.json"), "/.well-known/x.json");
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        for target in [
            "",
            "admin",
            "http://x/admin",
            "*",
            "//admin",
            "/public//admin",
            "/public/../admin",
            "/public/./admin",
            "/public/..",
            "/public/%2e%2e/admin",
            "/public/.%2E/admin",
            "/public/%252e%252e/admin",
            "/public%2fadmin",
            "/public%2F..%2Fadmin",
            "/public/..;/admin",
            "/public;/../admin",
            "/public/..%3b/admin",
            "/admin;x=1",
            "/public\\..\\admin",
            "/public%5c..%5cadmin",
            "/public/x#/../admin",
            "/public/%23/../admin",
            "/public%3f/x",
            "/admin%00",
            "/admin%0d%0ax",
            "/admin%",
            "/admin%2",
            "/admin%zz",
            "/public/%c0%ae%c0%ae/admin",
            "/public/%e0%80%af",
            "/public/%ff",
            "/admin.",
            "/admin%20",
            "/admin /x",
            "/\u{e9}",
            "/a\tb",
            "/public/%ef%bc%8e%ef%bc%8e/admin",
            "/public%ef%bc%8fadmin",
        ] {
            assert!(PlainPath::read(target).is_err(), "{target:?}");
        }
    }

    #[test]
    fn a_subtree_goes_by_segments_and_protects_without_regard_to_case() {
        let admin = Subtree::read("/admin/").unwrap();
        let path = |p: &str| PlainPath::read(p).unwrap();
        for inside in ["/admin", "/admin/", "/admin/x", "/Admin/x", "/ADMIN"] {
            assert!(admin.holds(&path(inside)), "{inside}");
        }
        assert!(!admin.holds(&path("/administrator")) && !admin.holds(&path("/x/admin")));
        assert!(admin.holds_exactly(&path("/admin/x")) && !admin.holds_exactly(&path("/Admin")));
        // U+212A is a k in lower case.
        let keep = Subtree::read("/keep").unwrap();
        assert!(
            keep.holds(&path("/%e2%84%aaEEP/x")) && keep.holds(&path("/KEEP/%c3%a9")) && !keep.holds(&path("/k%c3%a9"))
        );
        let all = Subtree::read("/").unwrap();
        assert!(all.holds(&path("/")) && all.holds(&path("/x")) && all.as_str() == "/");
        assert!(Subtree::read("admin").is_err() && Subtree::read("/a/*").is_err() && Subtree::read("/a%20b").is_err());
    }

    proptest! {
        #[test]
        fn an_accepted_path_is_its_own_reading_by_a_browser(target in "/[a-c%./;\\\\?#0-9efEF]{0,20}") {
            if let Ok(path) = PlainPath::read(&target) {
                let url = url::Url::parse("http://h").unwrap().join(&target).unwrap();
                let raw = target.split('?').next().unwrap_or_default();
                prop_assert_eq!(url.path(), raw);
                prop_assert!(!path.0.contains("//") && !path.0.contains("/../"));
            }
        }
    }
}
