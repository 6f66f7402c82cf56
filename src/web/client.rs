//! Who is at the other end, as far as that can be known: the peer, or what a listed proxy says of it.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

use actix_web::{
    HttpMessage as _, HttpRequest,
    dev::RequestHead,
    http::header::{HeaderMap, HeaderName, USER_AGENT},
};

use super::cookies::Shown;
use crate::{
    config::server::Network,
    domain::{event::Origin, screen},
};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What is known of a request before anybody is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client {
    /// The request's id, also in the answer's `X-Request-Id`.
    pub(super) request_id: RequestId,
    /// The true client's address.
    pub(super) ip: IpAddr,
    /// Its cookies of ours.
    pub(super) cookies: Shown,
    /// When its head was here.
    pub(super) began: Instant,
    /// The kind of the credential that was accepted.
    pub(super) credential: &'static str,
}

/// The kind of no credential.
pub(super) const NOBODY: &str = "none";

/// Sixteen hexadecimal digits.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestId([u8; 16]);

impl RequestId {
    /// The digits of a number.
    pub(super) fn of(number: u64) -> Self {
        let mut digits = [0; 16];
        for (digit, byte) in digits.chunks_exact_mut(2).zip(number.to_be_bytes()) {
            digit[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
            digit[1] = b"0123456789abcdef"[usize::from(byte & 15)];
        }
        Self(digits)
    }
}

impl std::ops::Deref for RequestId {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Client {
    /// Of a request that passed the front.
    pub(super) fn of(req: &HttpRequest) -> Self {
        req.extensions().get::<Self>().copied().unwrap_or_else(|| Self {
            request_id: RequestId::of(0),
            ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            cookies: Shown::default(),
            began: Instant::now(),
            credential: NOBODY,
        })
    }

    /// Notes by what kind of credential the caller of a request is known.
    pub(super) fn is_known_by(req: &HttpRequest, credential: &'static str) {
        if let Some(client) = req.extensions_mut().get_mut::<Self>() {
            client.credential = credential;
        }
    }
}

/// From where a request came, for the audit log.
pub(super) fn origin(req: &HttpRequest) -> Origin {
    let client = Client::of(req);
    Origin {
        request_id: Some((*client.request_id).to_owned()),
        ip: Some(client.ip.to_string()),
        user_agent: user_agent(req.headers()),
    }
}

/// The caller's program: printable, at most 256 characters.
fn user_agent(headers: &HeaderMap) -> Option<String> {
    let bytes = headers.get(USER_AGENT)?.as_bytes();
    let text = String::from_utf8_lossy(bytes);
    Some(text.chars().map(|c| if screen::acts(c) { '\u{fffd}' } else { c }).take(256).collect())
}

/// The address of the true client. `X-Forwarded-For` is read from its right end, and only as long as the
/// one who wrote it is a listed proxy.
pub(super) fn true_ip(head: &RequestHead, trusted: &[Network]) -> IpAddr {
    let peer = head.peer_addr.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |a| a.ip().to_canonical());
    let is_trusted = |ip: IpAddr| trusted.iter().any(|network| network.contains(ip));
    if trusted.is_empty() || !is_trusted(peer) {
        return peer;
    }
    // A line with other bytes is not passed over: what the proxy wrote stands at its right end.
    let mut nearest = peer;
    for line in head.headers.get_all(FORWARDED_FOR).rev() {
        for hop in String::from_utf8_lossy(line.as_bytes()).rsplit(',') {
            let Ok(ip) = hop.trim().parse::<IpAddr>() else { return nearest };
            nearest = ip.to_canonical();
            if !is_trusted(nearest) {
                return nearest;
            }
        }
    }
    nearest
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn ip(peer: &str, forwarded: &[&str], trusted: &str) -> String {
        let mut req = TestRequest::default().peer_addr(format!("{peer}:1").parse().unwrap());
        for line in forwarded {
            req = req.append_header(("x-forwarded-for", *line));
        }
        let trusted: Vec<Network> = trusted.split_whitespace().map(|t| t.parse().unwrap()).collect();
        true_ip(req.to_srv_request().head(), &trusted).to_string()
    }

    #[test]
    fn forwarding_headers_count_from_listed_proxies_only() {
        assert_eq!(ip("9.9.9.9", &["1.1.1.1"], ""), "9.9.9.9");
        assert_eq!(ip("9.9.9.9", &["1.1.1.1"], "10.0.0.0/8"), "9.9.9.9");
        assert_eq!(ip("10.0.0.1", &["1.1.1.1"], "10.0.0.0/8"), "1.1.1.1");
    }

    #[test]
    fn what_the_client_itself_wrote_is_never_believed() {
        assert_eq!(ip("10.0.0.1", &["6.6.6.6, 1.1.1.1, 10.0.0.2"], "10.0.0.0/8"), "1.1.1.1");
        assert_eq!(ip("10.0.0.1", &["6.6.6.6", "1.1.1.1"], "10.0.0.0/8"), "1.1.1.1");
        assert_eq!(ip("10.0.0.1", &["nonsense, 10.0.0.2"], "10.0.0.0/8"), "10.0.0.2");
        assert_eq!(ip("10.0.0.1", &[], "10.0.0.0/8"), "10.0.0.1");
    }
}
