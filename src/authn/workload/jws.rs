//! A compact JWS (RFC 7515 §7.1) as it was sent: three parts of base64url, header and payload JSON objects, read so
//! strictly that no two readers could see two things in it. Nothing in here is checked yet.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::WorkloadRefused;
use crate::domain::claim::Claims;

/// The longest token that is read. Those of Entra with hundreds of groups have about 8 KiB.
pub const LONGEST: usize = 16 * 1024;
/// How deep header and claims may be nested. Kubernetes has 3 levels, GitHub 1.
const DEEPEST: u8 = 12;

/// A token that was taken apart. Nothing in it is verified.
pub struct UnverifiedJws<'t> {
    /// Its header.
    pub header: Claims,
    /// Its claims.
    pub claims: Claims,
    /// What the signature is about.
    pub signed: &'t [u8],
    /// The signature.
    pub signature: Vec<u8>,
}

impl<'t> UnverifiedJws<'t> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// [`WorkloadRefused::Malformed`] says what it is not.
    pub fn read(text: &'t str) -> Result<Self, WorkloadRefused> {
        let malformed = WorkloadRefused::Malformed;
        if text.len() > LONGEST {
            return Err(malformed("it is longer than 16 KiB"));
        }
        let mut parts = text.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed("it has not three parts, separated by dots"));
        };
        let decoded = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).ok();
        let not_base64 = malformed("a part is not base64url without padding");
        let signed = &text.as_bytes()[..header.len() + 1 + claims.len()];
        Ok(Self {
            header: object(&decoded(header).ok_or_else(|| not_base64.clone())?)
                .ok_or(malformed("its header is not one JSON object with each member once"))?,
            claims: object(&decoded(claims).ok_or_else(|| not_base64.clone())?)
                .ok_or(malformed("its payload is not one JSON object with each member once"))?,
            signed,
            signature: decoded(signature).ok_or(not_base64)?,
        })
    }
}

/// One JSON object, without repeated members, not too deep.
fn object(bytes: &[u8]) -> Option<Claims> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { left: DEEPEST }.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    match value {
        Value::Object(members) => Some(members),
        _ => None,
    }
}

/// Reads a value with this many levels below it.
#[derive(Clone, Copy)]
struct Strict {
    left: u8,
}

impl Strict {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        let left = self.left.checked_sub(1).ok_or_else(|| E::custom("nested too deeply"))?;
        Ok(Self { left })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let below = self.deeper()?;
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element_seed(below)? {
            list.push(entry);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let below = self.deeper()?;
        let mut members = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(below)?;
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a member is there twice"));
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_is_read_as_serde_would_unless_it_could_be_read_in_two_ways() {
        let text = r#"{"a":[1,-2,1.5,true,null,{"b":"c"}],"d":{"e":{}},"f":18446744073709551615}"#;
        assert_eq!(Value::Object(object(text.as_bytes()).unwrap()), serde_json::from_str::<Value>(text).unwrap());
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":{"b":1,"b":2}}"#,
            r#"{"a":[{"b":1,"b":2}]}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"a":1} {}"#,
            "[]",
            "null",
            "",
            "{",
            r#"{"a":NaN}"#,
        ] {
            assert_eq!(object(bad.as_bytes()), None, "{bad}");
        }
        let nested = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
        assert!(object(nested(12).as_bytes()).is_some());
        assert!(object(nested(13).as_bytes()).is_none() && object(nested(100_000).as_bytes()).is_none());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "[A-Za-z0-9_.\\-]{0,200}") {
            let _ = UnverifiedJws::read(&text);
        }

        #[test]
        fn what_was_written_is_what_is_read(header in "[a-z]{1,8}", claim in "\\PC{0,20}", signature: Vec<u8>) {
            let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
            let (header, claims) = (json!({ "alg": header }), json!({ "c": claim }));
            let text = format!("{}.{}.{}", part(&header), part(&claims), BASE64URL_NOPAD.encode(&signature));
            let read = UnverifiedJws::read(&text).unwrap();
            prop_assert_eq!((Value::Object(read.header), Value::Object(read.claims)), (header, claims));
            prop_assert_eq!(read.signature, signature);
        }
    }
}
