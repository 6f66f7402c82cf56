//! Credentials and addresses as attackers write them: cookie tricks, schemes, hosts, proxies.

use crate::{
    door::{Anonymous, Client as _, Door, answer},
    raw::raw,
};

/// What `/api/me` says to this `Cookie` header, byte by byte.
async fn with_cookie(door: &Door, line: &[u8]) -> u16 {
    let mut request = b"GET /api/me HTTP/1.1\r\nHost: localhost:PORT\r\nConnection: close\r\nCookie: ".to_vec();
    request.extend_from_slice(line);
    request.extend_from_slice(b"\r\n\r\n");
    raw(door, &request).await.status
}

#[actix_web::test]
async fn only_the_one_exact_cookie_signs_anybody_in() {
    let door = Door::open(&[("LOKI_LIMITS_BAD_CREDENTIALS", "off")]).await;
    let ann = door.person("ann", "admins").await;
    let (name, value) = ann.cookie.split_once('=').unwrap();
    let good = ann.cookie.as_bytes().to_vec();
    let planted = |text: String| text.into_bytes();
    for line in [
        planted(format!("loki%5Fsession={value}")),
        planted(format!("Loki_session={value}")),
        planted(format!("\u{2000}{name}={value}")),
        planted(format!("\u{a0}{name}={value}")),
        planted(format!("{name}={value}; {name}={value}")),
        planted(format!("{name}={value}; {name}=x")),
        planted(format!("{name}={}", &value[1..])),
        planted(format!("{name}={}", &value[44..])),
        planted(format!("{name}=")),
        planted(format!("__Host-{name}={value}")),
        [b"\xff=".as_slice(), value.as_bytes()].concat(),
        [good.as_slice(), b"\xff"].concat(),
    ] {
        assert_eq!(with_cookie(&door, &line).await, 401, "{}", String::from_utf8_lossy(&line));
    }
    for line in [good.clone(), [b"x=\xff; ", good.as_slice()].concat(), [b"a%3d=1;", good.as_slice(), b" "].concat()] {
        assert_eq!(with_cookie(&door, &line).await, 200, "{}", String::from_utf8_lossy(&line));
    }
}

#[actix_web::test]
async fn a_session_cookie_is_guarded_from_scripts_and_other_sites() {
    let door = Door::open(&[]).await;
    door.provider.behave();
    let come = door.sign_in(&[]).await;
    let line = come
        .headers
        .get_all("set-cookie")
        .iter()
        .map(|v| v.to_str().unwrap())
        .find(|l| l.starts_with("loki_session="))
        .unwrap();
    for part in ["HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(line.contains(part), "{line}");
    }
    let https = Door::open(&[("LOKI_PUBLIC_URL", "https://door.example")]).await;
    let begun = answer(Anonymous(&https).ask("GET", "/auth/oidc/login").header("host", "door.example")).await;
    let line = begun.header("set-cookie");
    assert!(line.starts_with("__Host-loki_signin_") && line.contains("Secure") && !line.contains("Domain"), "{line}");
    assert!(begun.header("strict-transport-security").starts_with("max-age="));
}

#[actix_web::test]
async fn the_scheme_may_be_written_in_any_case_and_the_token_in_one() {
    let door = Door::open(&[("LOKI_LIMITS_BAD_CREDENTIALS", "off")]).await;
    let token = door.token("read").await;
    let me = async |value: String| {
        answer(Anonymous(&door).ask("GET", "/api/me").header("authorization", value)).await.status
    };
    for good in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        assert_eq!(me(format!("{good} {}", token.secret)).await, 200, "{good}");
    }
    for bad in [
        format!("Bearer{}", token.secret),
        format!("Bearer \"{}\"", token.secret),
        format!("Bearer {} x", token.secret),
        format!("Basic {}", token.secret),
        format!("Token {}", token.secret),
        token.secret.clone(),
        format!("Bearer {}", token.secret.to_uppercase()),
        format!("Bearer {}x", token.secret),
        format!("Bearer {}", &token.secret[..54]),
    ] {
        assert_eq!(me(bad.clone()).await, 401, "{bad}");
    }
}

#[actix_web::test]
async fn a_token_in_the_address_or_body_is_never_read() {
    let door = Door::open(&[]).await;
    let token = door.token("*").await;
    for query in ["access_token", "token", "api_key", "authorization"] {
        Anonymous(&door).get(&format!("/api/me?{query}={}", token.secret)).await.problem(401);
    }
    let form =
        answer(Anonymous(&door).ask("POST", "/api/enterprise/tokens").form(&[("access_token", &token.secret)])).await;
    form.problem(401);
    let header = answer(Anonymous(&door).ask("GET", "/api/me").header("x-api-key", &token.secret)).await;
    header.problem(401);
    assert!(door.audit("auth.token.use").await.is_empty());
    assert_eq!(token.get("/api/me?token=ignored").await.status, 200);
}

#[actix_web::test]
async fn a_server_answers_to_its_own_names_only() {
    let door = Door::open(&[("LOKI_SERVER_ALLOWED_HOSTS", "door.internal")]).await;
    let request = |line: &str, hosts: &[&str]| {
        let hosts: String = hosts.iter().flat_map(|h| ["Host: ", h, "\r\n"]).collect();
        format!("{line}\r\n{hosts}Connection: close\r\n\r\n").into_bytes()
    };
    let get = "GET /openapi.json HTTP/1.1";
    for (line, hosts) in [
        (get, &["evil.example"][..]),
        (get, &["localhost:PORT", "evil.example"]),
        (get, &["localhost:PORT", "localhost:PORT"]),
        (get, &["localhost:PORT.evil.example"]),
        (get, &["localhost:1"]),
        (get, &["localhost:PORT@evil.example"]),
        (get, &[""]),
        ("GET http://evil.example/openapi.json HTTP/1.1", &["localhost:PORT"]),
        ("GET http://localhost:PORT/openapi.json HTTP/1.1", &["evil.example"]),
    ] {
        let refused = raw(&door, &request(line, hosts)).await;
        assert!(matches!(refused.status, 400 | 421), "{line} {hosts:?}: {}", refused.status);
        assert!(!refused.text.contains("\"openapi\""));
    }
    for (line, hosts) in [
        (get, &["localhost:PORT"][..]),
        (get, &["LOCALHOST:PORT"]),
        (get, &["127.0.0.1:PORT"]),
        (get, &["door.internal"]),
        ("GET http://localhost:PORT/openapi.json HTTP/1.1", &["localhost:PORT"]),
    ] {
        assert_eq!(raw(&door, &request(line, hosts)).await.status, 200, "{line} {hosts:?}");
    }
}

/// The address in the audit entry of a refused token that came with these forwarding headers.
async fn recorded(door: &Door, lines: &[&[u8]]) -> String {
    let before = door.audit("auth.fail").await.len();
    let mut request =
        b"GET /api/me HTTP/1.1\r\nHost: localhost:PORT\r\nConnection: close\r\nAuthorization: Bearer x\r\n".to_vec();
    for line in lines {
        request.extend_from_slice(line);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    assert_eq!(raw(door, &request).await.status, 401);
    let log = door.audit("auth.fail").await;
    assert_eq!(log.len(), before + 1);
    log[0].ip.clone().unwrap()
}

#[actix_web::test]
async fn only_a_listed_proxy_says_who_the_client_is() {
    let open = Door::open(&[]).await;
    for line in [
        &b"X-Forwarded-For: 6.6.6.6"[..],
        b"Forwarded: for=6.6.6.6",
        b"X-Real-IP: 6.6.6.6",
        b"CF-Connecting-IP: 6.6.6.6",
    ] {
        assert_eq!(recorded(&open, &[line]).await, "127.0.0.1");
    }
    let door =
        Door::open(&[("LOKI_SERVER_TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8"), ("LOKI_LIMITS_BAD_CREDENTIALS", "off")])
            .await;
    for (lines, ip) in [
        (&[&b"X-Forwarded-For: 1.1.1.1"[..]][..], "1.1.1.1"),
        (&[b"X-Forwarded-For: 6.6.6.6, 1.1.1.1, 10.0.0.2"], "1.1.1.1"),
        (&[b"X-Forwarded-For: 6.6.6.6", b"X-Forwarded-For: 1.1.1.1"], "1.1.1.1"),
        (&[b"Forwarded: for=6.6.6.6", b"X-Real-IP: 6.6.6.6"], "127.0.0.1"),
        (&[b"X-Forwarded-For: \xff, 1.1.1.1"], "1.1.1.1"),
        (&[b"X-Forwarded-For: 6.6.6.6", b"X-Forwarded-For: \xff, 1.1.1.1"], "1.1.1.1"),
        (&[b"X-Forwarded-For: 6.6.6.6, nonsense"], "127.0.0.1"),
    ] {
        assert_eq!(recorded(&door, lines).await, ip, "{}", String::from_utf8_lossy(&lines.concat()));
    }
}
