//! Pre-shared keys: a text that whoever is to come in holds, for where nothing better can be had.

use std::collections::BTreeSet;

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};

use super::{server::Secret, values::Place};
use crate::domain::{
    role::Roles,
    scope::{Scope, ScopeSet},
};

/// One caller who comes with a pre-shared key.
#[derive(Debug, Clone)]
pub struct PresharedKey {
    /// What the audit log calls it.
    pub name: String,
    /// Its key, and during a rotation the next one.
    pub keys: Vec<Secret>,
    /// The role, if it was named by one.
    pub role: Option<String>,
    /// What it may do.
    pub scopes: ScopeSet,
}

const KEY: &str = "enterprise.auth.psk";
/// Fewer bytes than this can be guessed.
const LEAST_BYTES: usize = 32;

pub(super) fn read(place: Place<'_>, roles: &Roles) -> Vec<PresharedKey> {
    let mut all: Vec<PresharedKey> = Vec::new();
    for entry in place.entries(KEY, "enterprise.auth.psk[]") {
        let one = read_one(entry, roles);
        if all.iter().any(|known| known.name == one.name) {
            entry.fault("name", format!("{:?} is used by another key; give each its own name", one.name));
        }
        let is_taken = |key: &&Secret| all.iter().flat_map(|k| &k.keys).any(|known| known.reveal() == key.reveal());
        if one.keys.iter().any(|key| is_taken(&key)) {
            entry.fault("key", "is the key of another entry; one key is one caller");
        }
        all.push(one);
    }
    all
}

fn read_one(entry: Place<'_>, roles: &Roles) -> PresharedKey {
    let name = entry.required("name");
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.len() > 64 || !name.chars().all(fits) {
        entry.fault("name", "expected up to 64 letters, digits, -, _ and .");
    }
    if entry.text("key").is_none() {
        entry.fault("key", "must be set; make one with: lokid psk generate");
    }
    let mut keys = Vec::new();
    for key in ["key", "next_key"] {
        let Some(text) = entry.text(key) else { continue };
        if let Err(message) = check(&text) {
            entry.fault(key, message);
        }
        if keys.iter().any(|other: &Secret| other.reveal() == text) {
            entry.fault(key, "is the same as key; a rotation needs another one: lokid psk generate");
        }
        keys.push(Secret::new(text));
    }
    let listed = entry.list("scopes");
    let scopes = listed.iter().map(|s| s.parse::<Scope>()).collect::<Result<ScopeSet, _>>();
    let scopes = scopes.map_err(|e| entry.fault("scopes", e.to_string())).unwrap_or_default();
    let role = entry.text("role");
    let of_role = role.as_ref().map(|role| roles.scopes_of(role));
    match (&of_role, listed.is_empty()) {
        (Some(_), false) => entry.fault("role", "give either role or scopes"),
        (Some(None), true) => entry.fault("role", format!("is not a role; roles are {}", roles.listing())),
        _ => {}
    }
    let granted = of_role.flatten().unwrap_or(if listed.is_empty() { ScopeSet::of(&[Scope::Read]) } else { scopes });
    PresharedKey { name, keys, role, scopes: granted }
}

/// A key is base64 or hexadecimal digits of at least 32 random bytes.
fn check(text: &str) -> Result<(), String> {
    random_bytes(text, LEAST_BYTES).map(drop).map_err(|why| format!("{why}; make one with: lokid psk generate"))
}

/// The bytes of a secret, if it is base64 or hexadecimal digits of at least so many random ones.
///
/// # Errors
/// What it must be.
pub fn random_bytes(text: &str, least: usize) -> Result<Vec<u8>, String> {
    let text = text.as_bytes();
    let ways = [&HEXLOWER_PERMISSIVE, &BASE64, &BASE64_NOPAD, &BASE64URL, &BASE64URL_NOPAD];
    // Hexadecimal digits of too few bytes are base64 of more, which nobody meant.
    let ways = if text.iter().all(u8::is_ascii_hexdigit) { &ways[..1] } else { &ways[1..] };
    let bytes = ways.iter().filter_map(|way| way.decode(text).ok()).find(|bytes| bytes.len() >= least);
    let bytes =
        bytes.ok_or_else(|| format!("must be base64 or hexadecimal digits of at least {least} random bytes"))?;
    let different = bytes.iter().collect::<BTreeSet<_>>().len();
    // Of random bytes fewer than half as many differ once in a very long time.
    if different < least / 2 { Err("is not random".into()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::entropy::Entropy;

    #[test]
    fn a_key_is_32_random_bytes_in_a_usual_form() {
        for _ in 0..100 {
            let random = Entropy.bytes::<32>();
            for way in [&HEXLOWER_PERMISSIVE, &BASE64, &BASE64_NOPAD, &BASE64URL, &BASE64URL_NOPAD] {
                assert_eq!(check(&way.encode(&random)), Ok(()));
            }
            assert!(check(&BASE64.encode(&random[..31])).is_err());
            assert!(check(&HEXLOWER_PERMISSIVE.encode(&random[..24])).is_err());
        }
        for weak in
            ["your-secure-random-key-here", "", "a", &"a".repeat(64), &"abcd".repeat(16), &"0123456789abcdef".repeat(4)]
        {
            assert!(check(weak).is_err(), "{weak}");
        }
        assert!(check("correct horse battery staple correct horse battery staple").is_err());
    }
}
