//! Where metrics are served to whoever comes.

use std::net::{IpAddr, SocketAddr};

use super::values::Place;

/// The address of the listener that asks for no credential, if there is one.
pub(super) fn read(place: Place<'_>) -> Option<SocketAddr> {
    const KEY: &str = "metrics.listen";
    let text = place.text(KEY)?;
    let Ok(address) = text.parse::<SocketAddr>() else {
        place.fault(KEY, format!("{text:?} is not an address with a port, such as 127.0.0.1:9464"));
        return None;
    };
    if !is_near(address.ip()) {
        let message =
            format!("{text:?} can be reached from elsewhere; without a credential: loopback or a private network only");
        place.fault(KEY, message);
    }
    Some(address)
}

/// Loopback, private (RFC 1918, RFC 4193) or link-local.
fn is_near(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_private_networks_are_near() {
        for near in ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.1.1", "::1", "fd00::1", "fe80::1"] {
            assert!(is_near(near.parse().unwrap()), "{near}");
        }
        for far in ["0.0.0.0", "8.8.8.8", "172.32.0.1", "::", "2001:db8::1", "::ffff:8.8.8.8"] {
            assert!(!is_near(far.parse().unwrap()), "{far}");
        }
    }
}
