//! The spellings of seeds/002 as the keys that lokid has: `auth.psk`, `auth.jwt`, or issuer and audience under `auth`
//! itself, with `issuerUrl` and `requiredScopes`.

use super::{
    raw::{Node, Value},
    values::Fault,
};

const SPELLINGS: [(&str, &str); 4] = [
    ("issuerUrl", "issuer"),
    ("requiredScopes", "required_scopes"),
    ("jwksUrl", "jwks_url"),
    ("scopesClaim", "scopes_claim"),
];
const JWT: &str = "enterprise.auth.jwt";
const PSK: &str = "enterprise.auth.psk";

/// Moves what is written as in seeds/002 to where it belongs. What was said twice is a fault.
pub(super) fn translate(root: &mut Node, faults: &mut Vec<Fault>) {
    if let Some(auth) = take(root, "auth") {
        move_auth(root, auth, faults);
    }
    if let Some(jwt) = find(root, JWT) {
        match &mut jwt.value {
            Value::List(entries) => entries.iter_mut().for_each(|entry| rename(entry, faults)),
            _ => rename(jwt, faults),
        }
    }
}

fn move_auth(root: &mut Node, mut auth: Node, faults: &mut Vec<Fault>) {
    let mut put = |path: &str, node: Node, faults: &mut Vec<Fault>| {
        if find(root, path).is_some() {
            return faults.push(fault("auth", &node, format!("{path} is set as well; keep one of them")));
        }
        root.put(path, node);
    };
    for (name, path) in [("psk", PSK), ("jwt", JWT)] {
        if let Some(node) = take(&mut auth, name) {
            put(path, node, faults);
        }
    }
    if let Some(method) = take(&mut auth, "method")
        && !matches!(&method.value, Value::Scalar { text, .. } if matches!(text.as_str(), "jwt" | "psk"))
    {
        faults.push(fault("auth.method", &method, "expected jwt or psk".to_owned()));
    }
    // What is left describes an issuer (or is no key at all, which the table will say).
    if !matches!(&auth.value, Value::Map(entries) if entries.is_empty()) {
        put(JWT, auth, faults);
    }
}

fn rename(entry: &mut Node, faults: &mut Vec<Fault>) {
    let Value::Map(entries) = &mut entry.value else { return };
    for (theirs, ours) in SPELLINGS {
        let both = entries.iter().any(|(name, _)| name == ours);
        for (name, node) in entries.iter_mut().filter(|(name, _)| name == theirs) {
            if both {
                faults.push(fault(
                    &format!("{JWT}[].{theirs}"),
                    node,
                    format!("{ours} is set as well; keep one of them"),
                ));
            }
            ours.clone_into(name);
        }
    }
}

fn fault(key: &str, node: &Node, message: String) -> Fault {
    Fault { key: key.to_owned(), origin: node.origin.clone(), message }
}

fn take(node: &mut Node, name: &str) -> Option<Node> {
    let Value::Map(entries) = &mut node.value else { return None };
    let at = entries.iter().position(|(key, _)| key == name)?;
    Some(entries.remove(at).1)
}

fn find<'n>(root: &'n mut Node, path: &str) -> Option<&'n mut Node> {
    path.split('.').try_fold(root, |node, step| match &mut node.value {
        Value::Map(entries) => entries.iter_mut().find(|(key, _)| key == step).map(|(_, child)| child),
        _ => None,
    })
}
