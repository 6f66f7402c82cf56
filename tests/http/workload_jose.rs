//! A table of tokens with one thing wrong in form, header, signature or claims, against the real verification. None is
//! accepted, none costs a millisecond, and each one's twin, with that one thing mended, is accepted.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use aws_lc_rs::hmac;
use serde_json::{Value, json};

use crate::{
    door::Door,
    issuer::{Issuer, Key, claims, header, signed, signed_texts, token},
    jose::text,
    workload::{AUDIENCE, plain_door},
};

const HERE: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

struct Row {
    what: String,
    bad: String,
    twin: String,
}

/// Rows of one sort; the twin is the good token of the same key unless said otherwise.
struct Table<'d> {
    issuer: &'d Issuer,
    door: &'d Door,
    rows: Vec<Row>,
}

impl Table<'_> {
    fn claims(&self) -> Value {
        claims(&self.issuer.origin, AUDIENCE, "somebody", &self.door.clock)
    }

    fn add(&mut self, what: impl Into<String>, bad: String, key: Key) {
        let twin = token(&self.claims(), key);
        self.rows.push(Row { what: what.into(), bad, twin });
    }

    /// A header with one member changed (or, with `None`, taken out), signed as ever.
    fn header(&mut self, name: &str, value: Option<Value>, key: Key) {
        let mut changed = header(key);
        match &value {
            Some(value) => changed[name] = value.clone(),
            None => drop(changed.as_object_mut().unwrap().remove(name)),
        }
        let what = format!("header: {name} = {value:?} with {key:?}");
        self.add(what, signed(&changed, &self.claims(), key), key);
    }

    fn claim(&mut self, name: &str, value: Option<Value>) {
        let mut changed = self.claims();
        match &value {
            Some(value) => changed[name] = value.clone(),
            None => drop(changed.as_object_mut().unwrap().remove(name)),
        }
        let shown: String = format!("{value:?}").chars().take(60).collect();
        self.add(format!("claim: {name} = {shown}"), token(&changed, Key::P256), Key::P256);
    }

    fn good_parts(&self, key: Key) -> [String; 3] {
        let token = token(&self.claims(), key);
        let parts: Vec<String> = token.split('.').map(str::to_owned).collect();
        parts.try_into().unwrap()
    }
}

fn algorithms(table: &mut Table<'_>) {
    for none in ["none", "None", "NONE", "nOnE", "none ", ""] {
        let mut unsigned = header(Key::Rsa);
        unsigned["alg"] = json!(none);
        let parts = [text(unsigned.to_string().as_bytes()), text(table.claims().to_string().as_bytes())].join(".");
        table.add(format!("alg {none:?} and no signature"), format!("{parts}."), Key::Rsa);
        table.header("alg", Some(json!(none)), Key::Rsa);
    }
    let n = Key::Rsa.jwk()["n"].as_str().unwrap().to_owned();
    let secrets = [
        n.clone().into_bytes(),
        data_encoding::BASE64URL_NOPAD.decode(n.as_bytes()).unwrap(),
        Key::Rsa.jwk().to_string().into_bytes(),
        Vec::new(),
    ];
    for secret in secrets {
        for (alg, algorithm) in
            [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)]
        {
            let mut symmetric = header(Key::Rsa);
            symmetric["alg"] = json!(alg);
            let parts = [text(symmetric.to_string().as_bytes()), text(table.claims().to_string().as_bytes())].join(".");
            let tag = hmac::sign(&hmac::Key::new(algorithm, &secret), parts.as_bytes());
            let what = format!("{alg} with {} bytes of the public key", secret.len());
            table.add(what, format!("{parts}.{}", text(tag.as_ref())), Key::Rsa);
        }
    }
    for alg in [
        json!("rs256"),
        json!("RS256 "),
        json!(" RS256"),
        json!("RS1"),
        json!("ES512"),
        json!("ES256K"),
        json!("dir"),
        json!("RSA-OAEP"),
        json!("RS256\u{0}"),
        json!("RS\u{200b}256"),
        json!(7),
        json!(null),
        json!(["RS256"]),
        json!({"alg": "RS256"}),
        json!(true),
    ] {
        table.header("alg", Some(alg), Key::Rsa);
    }
    table.header("alg", None, Key::Rsa);
    for (key, alg) in [
        (Key::Rsa, "ES256"),
        (Key::Rsa, "EdDSA"),
        (Key::P256, "RS256"),
        (Key::P256, "ES384"),
        (Key::P256, "EdDSA"),
        (Key::P384, "ES256"),
        (Key::Ed25519, "ES256"),
        (Key::Ed25519, "PS256"),
    ] {
        table.header("alg", Some(json!(alg)), key);
    }
    for (said, done) in [("PS256", "RS256"), ("RS256", "PS256"), ("RS512", "RS256"), ("RS256", "RS384")] {
        let mut other = header(Key::Rsa);
        other["alg"] = json!(said);
        let bad = signed_texts(&other.to_string(), &table.claims().to_string(), done, Key::Rsa);
        let mended = signed_texts(&other.to_string(), &table.claims().to_string(), said, Key::Rsa);
        table.rows.push(Row { what: format!("{said} that is {done}"), bad, twin: mended });
    }
}

fn headers(table: &mut Table<'_>) {
    for (name, value) in [
        ("jwk", Key::Rsa.jwk()),
        ("jwk", Key::Stranger.jwk()),
        ("jku", json!("https://evil.example/keys")),
        ("x5u", json!("https://evil.example/cert")),
        ("x5c", json!(["AAAA"])),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("crit", json!("b64")),
        ("crit", json!(null)),
        ("typ", json!("logout+jwt")),
        ("typ", json!("loki-assertion+jwt")),
        ("typ", json!("dpop+jwt")),
        ("typ", json!("secevent+jwt")),
        ("typ", json!("JWE")),
        ("typ", json!("")),
        ("typ", json!(7)),
        ("typ", json!(["JWT"])),
        ("typ", json!(null)),
        ("kid", json!("unknown")),
        ("kid", json!("")),
        ("kid", json!("RSA")),
        ("kid", json!("../../rsa")),
        ("kid", json!("rsa\u{0}")),
        ("kid", json!("' OR 1=1 --")),
        ("kid", json!("k".repeat(300))),
        ("kid", json!(7)),
        ("kid", json!(null)),
        ("kid", json!(["rsa"])),
        ("kid", json!("p256")),
    ] {
        table.header(name, Some(value), Key::Rsa);
    }
    let mut with_own_key = header(Key::Rsa);
    with_own_key["jwk"] = Key::Stranger.jwk();
    table.add(
        "a stranger's key in the header, and signed by it",
        signed(&with_own_key, &table.claims(), Key::Stranger),
        Key::Rsa,
    );
    let mut unencoded = header(Key::Rsa);
    unencoded["b64"] = json!(false);
    unencoded["crit"] = json!(["b64"]);
    table.add("an unencoded payload", signed(&unencoded, &table.claims(), Key::Rsa), Key::Rsa);
}

fn signatures(table: &mut Table<'_>) {
    for key in Key::PUBLISHED {
        let [head, body, signature] = table.good_parts(key);
        let bytes = data_encoding::BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
        let mut turned = bytes.clone();
        turned[9] ^= 1;
        for (what, signature) in [
            ("one bit turned", turned),
            ("cut", bytes[..bytes.len() - 1].to_vec()),
            ("longer", [&bytes[..], &[0]].concat()),
            ("with a zero in front", [&[0], &bytes[..]].concat()),
            ("empty", vec![]),
            ("zeros", vec![0; bytes.len()]),
            ("twice", [&bytes[..], &bytes[..]].concat()),
        ] {
            table.add(format!("signature of {key:?} {what}"), format!("{head}.{body}.{}", text(&signature)), key);
        }
    }
    for key in [Key::P256, Key::P384] {
        let [head, body, signature] = table.good_parts(key);
        let bytes = data_encoding::BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
        table.add(format!("signature of {key:?} as DER"), format!("{head}.{body}.{}", text(&der(&bytes))), key);
    }
    let [head, body, _] = table.good_parts(Key::P256);
    let [.., of_another] = table.good_parts(Key::Ed25519);
    table.add("the signature of another token", format!("{head}.{body}.{of_another}"), Key::P256);
    table.add("a stranger's signature", token(&table.claims(), Key::Stranger), Key::Rsa);
    let mut nameless = header(Key::Rsa);
    nameless.as_object_mut().unwrap().remove("kid");
    let mended = signed(&nameless, &table.claims(), Key::Rsa);
    let bad = signed(&nameless, &table.claims(), Key::Stranger);
    table.rows.push(Row { what: "a stranger's signature without kid".into(), bad, twin: mended });
}

/// SEQUENCE of two INTEGER, as X9.62 writes a signature.
fn der(fixed: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let stripped: Vec<u8> = number.iter().copied().skip_while(|b| *b == 0).collect();
        let sign = if stripped.first().is_some_and(|b| *b >= 0x80) { vec![0] } else { vec![] };
        let body = [sign, stripped].concat();
        [vec![2, u8::try_from(body.len()).unwrap()], body].concat()
    };
    let (r, s) = fixed.split_at(fixed.len() / 2);
    let body = [integer(r), integer(s)].concat();
    [vec![0x30, u8::try_from(body.len()).unwrap()], body].concat()
}

fn forms(table: &mut Table<'_>) {
    let key = Key::P256;
    let [head, body, signature] = table.good_parts(key);
    for (what, bad) in [
        ("two parts", format!("{head}.{body}")),
        ("four parts", format!("{head}.{body}.{signature}.")),
        ("five parts", format!("{head}.{body}.{signature}.{head}.{body}")),
        ("no header", format!(".{body}.{signature}")),
        ("no payload", format!("{head}..{signature}")),
        ("only dots", "..".to_owned()),
        ("padding at the signature", format!("{head}.{body}.{signature}==")),
        ("padding at the header", format!("{head}=.{body}.{signature}")),
        ("a line feed in the payload", format!("{head}.{}\n{}.{signature}", &body[..8], &body[8..])),
        ("a space in the header", format!("{} {}.{body}.{signature}", &head[..4], &head[4..])),
        ("a tab before the signature", format!("{head}.{body}.\t{signature}")),
        ("percent-encoding", format!("{head}%2E{body}%2E{signature}")),
        ("a letter outside of the alphabet", format!("{head}.{body}.é{signature}")),
        ("parts in another order", format!("{body}.{head}.{signature}")),
    ] {
        table.add(what, bad, key);
    }
    let good = table.claims().to_string();
    let head = header(key).to_string();
    for (what, header, claims) in [
        ("alg twice", format!(r#"{{"alg":"none",{}"#, &head[1..]), good.clone()),
        ("alg twice, once escaped", format!(r#"{{"\u0061lg":"none",{}"#, &head[1..]), good.clone()),
        ("kid twice", format!(r#"{{"kid":"x",{}"#, &head[1..]), good.clone()),
        ("aud twice", head.clone(), format!(r#"{{"aud":"x",{}"#, &good[1..])),
        ("sub twice", head.clone(), format!(r#"{{"sub":"root",{}"#, &good[1..])),
        ("a member twice, deep inside", head.clone(), format!(r#"{{"x":{{"y":1,"y":2}},{}"#, &good[1..])),
        ("a payload in a list", head.clone(), format!("[{good}]")),
        ("a payload of null", head.clone(), "null".into()),
        ("a payload of a number", head.clone(), "7".into()),
        ("a payload of a text", head.clone(), format!("{good:?}")),
        ("something after the payload", head.clone(), format!("{good} {good}")),
        ("a byte order mark", head.clone(), format!("\u{feff}{good}")),
        ("a payload that is cut", head.clone(), good[..good.len() - 1].to_owned()),
        ("a header in a list", format!("[{head}]"), good.clone()),
        ("a header of a text", "\"RS256\"".into(), good.clone()),
        ("13 levels", head.clone(), format!(r#"{{"x":{}{},{}"#, "[".repeat(13), "]".repeat(13), &good[1..])),
        ("2,000 levels", head.clone(), format!(r#"{{"x":{}{},{}"#, "[".repeat(2000), "]".repeat(2000), &good[1..])),
        ("a number that is none", head.clone(), format!(r#"{{"x":NaN,{}"#, &good[1..])),
        ("64 KB", head.clone(), format!(r#"{{"x":"{}",{}"#, "x".repeat(65_536), &good[1..])),
    ] {
        table.add(what, signed_texts(&header, &claims, key.alg(), key), key);
    }
}

fn contents(table: &mut Table<'_>) {
    let (now, iss) = (table.door.clock.now().seconds(), table.issuer.origin.clone());
    let elsewhere = [
        json!("https://evil.example"),
        json!(format!("{iss}//")),
        json!(format!("{iss}/x")),
        json!(format!("{iss} ")),
        json!(iss.to_uppercase()),
        json!([iss]),
        json!({"iss": iss}),
        json!(null),
        json!(7),
        json!(""),
    ];
    elsewhere.into_iter().for_each(|value| table.claim("iss", Some(value)));
    let others = [
        json!("https://another.example"),
        json!(format!("{AUDIENCE}/")),
        json!(format!("{AUDIENCE}.evil")),
        json!(&AUDIENCE[..12]),
        json!(AUDIENCE.to_uppercase()),
        json!([]),
        json!(["x"]),
        json!([7, AUDIENCE]),
        json!([[AUDIENCE]]),
        json!({"aud": AUDIENCE}),
        json!(null),
        json!(true),
        json!(""),
        json!("*"),
        json!(vec![AUDIENCE; 65]),
    ];
    others.into_iter().for_each(|value| table.claim("aud", Some(value)));
    let over = [
        json!(now - 60),
        json!(0),
        json!(-1),
        json!((now + 300).to_string()),
        json!(null),
        json!(true),
        json!([now + 300]),
        json!((now + 300) * 1000),
        json!(1e300),
        json!(u64::MAX),
        fraction(now - 61),
        json!(f64::from(u32::MAX) * 1e9),
    ];
    over.into_iter().for_each(|value| table.claim("exp", Some(value)));
    for name in ["nbf", "iat"] {
        let ahead =
            [json!(now + 61), json!((now - 5).to_string()), json!(null), json!([now]), json!(now * 1000), json!(-5)];
        ahead.into_iter().for_each(|value| table.claim(name, Some(value)));
    }
    let nobody =
        [json!(""), json!(7), json!(null), json!(["a"]), json!("x".repeat(256)), json!("a\nb"), json!("a\u{0}")];
    nobody.into_iter().for_each(|value| table.claim("sub", Some(value)));
    ["iss", "aud", "exp", "sub"].into_iter().for_each(|name| table.claim(name, None));
    table.claim("cnf", Some(json!({"x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"})));
    table.claim("cnf", Some(json!({"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"})));
    table.claim("events", Some(json!({"x": {}})));
}

/// Half a second after this one.
fn fraction(second: i64) -> Value {
    serde_json::from_str(&format!("{second}.5")).unwrap()
}

#[actix_web::test]
async fn nothing_that_is_wrong_is_accepted_and_its_twin_is() {
    let (issuer, door) = plain_door().await;
    let mut table = Table { issuer: &issuer, door: &door, rows: Vec::new() };
    algorithms(&mut table);
    headers(&mut table);
    signatures(&mut table);
    forms(&mut table);
    contents(&mut table);
    let rows = table.rows;
    let different: BTreeSet<&String> = rows.iter().map(|row| &row.what).collect();
    assert!(different.len() >= 200, "{} rows", different.len());
    // The keys are read, and a name that is not among them was asked for: from here on nobody is asked.
    let _ = door.app.authn.by_jwt(&rows[0].twin, HERE).await.unwrap();
    let mut slow = Vec::new();
    for Row { what, bad, twin } in &rows {
        let mut best = Duration::MAX;
        for _ in 0..6 {
            let began = Instant::now();
            let refused = door.app.authn.by_jwt(bad, HERE).await;
            best = best.min(began.elapsed());
            assert!(refused.is_err(), "accepted: {what}");
        }
        if best > Duration::from_millis(1) {
            slow.push(format!("{what}: {best:?}"));
        }
        assert!(door.app.authn.by_jwt(twin, HERE).await.is_ok(), "the twin of {what} is refused");
    }
    assert!(slow.is_empty(), "refused too slowly: {}", slow.join("; "));
    assert!(issuer.fetches() <= 2, "{} fetches", issuer.fetches());
}

#[actix_web::test]
async fn what_may_differ_is_accepted() {
    let (issuer, door) = plain_door().await;
    let now = door.clock.now().seconds();
    let base = claims(&issuer.origin, AUDIENCE, "somebody", &door.clock);
    let changed = |name: &str, value: Value| {
        let mut claims = base.clone();
        claims[name] = value;
        token(&claims, Key::P256)
    };
    let mut good = vec![
        changed("aud", json!(["x", AUDIENCE])),
        changed("iss", json!(format!("{}/", issuer.origin))),
        changed("exp", json!(now - 59)),
        changed("exp", fraction(now + 60)),
        changed("nbf", json!(now + 60)),
        changed("iat", json!(now - 1_000_000)),
        changed("sub", json!("x".repeat(255))),
        changed("sub", json!("é|<b>")),
        changed("x", json!([[[[[[[[[[1]]]]]]]]]])),
    ];
    for (name, value) in [
        ("typ", json!("at+jwt")),
        ("typ", json!("AT+JWT")),
        ("typ", json!("application/at+jwt")),
        ("typ", json!("jwt")),
        ("x5t", json!("abc")),
        ("zzz", json!({"a": 1})),
    ] {
        let mut header = header(Key::P256);
        header[name] = value;
        good.push(signed(&header, &base, Key::P256));
    }
    for alg in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
        let mut header = header(Key::Rsa);
        header["alg"] = json!(alg);
        good.push(signed(&header, &base, Key::Rsa));
    }
    for key in Key::PUBLISHED {
        for name in ["kid", "typ"] {
            let mut header = header(key);
            header.as_object_mut().unwrap().remove(name);
            good.push(signed(&header, &base, key));
        }
    }
    let mut bare = base.clone();
    ["iat", "nbf"].iter().for_each(|name| drop(bare.as_object_mut().unwrap().remove(*name)));
    good.push(token(&bare, Key::Ed25519));
    for jwt in good {
        let accepted = door.app.authn.by_jwt(&jwt, HERE).await;
        assert!(accepted.is_ok(), "{:?}: {jwt}", accepted.err());
    }
}

#[actix_web::test]
async fn keys_that_are_weak_or_not_for_signatures_are_no_keys() {
    let (issuer, door) = plain_door().await;
    let key = |change: &dyn Fn(&mut Value)| {
        let mut jwk = Key::Rsa.jwk();
        change(&mut jwk);
        jwk
    };
    let rsa = Key::Rsa.jwk();
    let n = rsa["n"].as_str().unwrap();
    let bad = [
        key(&|k| k["n"] = json!(&n[..171])),
        key(&|k| k["n"] = json!(text(&[vec![0; 128], vec![0xff; 128]].concat()))),
        key(&|k| k["use"] = json!("enc")),
        key(&|k| k["use"] = json!(["sig"])),
        key(&|k| k["key_ops"] = json!(["encrypt"])),
        key(&|k| k["key_ops"] = json!("verify")),
        key(&|k| k["alg"] = json!("RS512")),
        key(&|k| k["alg"] = json!("none")),
        key(&|k| k["alg"] = json!(7)),
        key(&|k| k["d"] = json!("AQAB")),
        key(&|k| k["e"] = json!("AQ")),
        key(&|k| k["kid"] = json!(7)),
        key(&|k| k["kid"] = json!("another")),
        key(&|k| k["kty"] = json!("EC")),
        key(&|k| k["n"] = json!(format!("{n}="))),
        json!({"kty": "oct", "kid": "rsa", "k": n}),
        json!(7),
        Key::Stranger.jwk(),
    ];
    for bad in bad {
        // With another key in it, so that the set as a whole can be used.
        for (published, status) in [(json!([bad, Key::P256.jwk()]), false), (json!([rsa, bad, Key::P256.jwk()]), true)]
        {
            issuer.publish(published);
            door.clock.advance(Duration::from_hours(2));
            let of = |key: Key| token(&claims(&issuer.origin, AUDIENCE, "s", &door.clock), key);
            assert!(door.app.authn.by_jwt(&of(Key::P256), HERE).await.is_ok(), "{bad}");
            assert_eq!(door.app.authn.by_jwt(&of(Key::Rsa), HERE).await.is_ok(), status, "{bad}");
        }
    }
    let curves = [
        |k: &mut Value| k["x"] = json!("AAAA"),
        |k: &mut Value| k["y"] = k["x"].clone(),
        |k: &mut Value| k["crv"] = json!("P-384"),
        |k: &mut Value| drop(k.as_object_mut().unwrap().remove("y")),
    ];
    for change in curves {
        let mut jwk = Key::P256.jwk();
        change(&mut jwk);
        issuer.publish(json!([jwk, rsa]));
        door.clock.advance(Duration::from_hours(2));
        let of = |key: Key| token(&claims(&issuer.origin, AUDIENCE, "s", &door.clock), key);
        assert!(door.app.authn.by_jwt(&of(Key::Rsa), HERE).await.is_ok());
        assert!(door.app.authn.by_jwt(&of(Key::P256), HERE).await.is_err(), "{jwk}");
    }
    issuer.publish(json!([Key::P256.jwk(), rsa]));
    door.clock.advance(Duration::from_hours(2));
    assert!(
        door.app
            .authn
            .by_jwt(&token(&claims(&issuer.origin, AUDIENCE, "s", &door.clock), Key::P256), HERE)
            .await
            .is_ok()
    );
}
