//! The client certificate of a connection, taken over from the handshake.

use std::{any::Any, sync::Arc};

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::{HttpRequest, dev::Extensions, rt::net::TcpStream};

use super::Web;
use crate::{
    domain::{
        client_certificate::{CertificateRule, first_match},
        identity::Identity,
    },
    pki::{
        client::{Admitted, Gate},
        refused::Refused,
    },
};

/// A certificate that the handshake let in, and who it says is calling.
pub(super) struct Peer {
    pub(super) certificate: Admitted,
    /// `None` when no rule knows it: then it is no credential.
    pub(super) identity: Option<Arc<Identity>>,
    gate: Arc<Gate>,
}

impl Peer {
    /// Of a request's connection.
    pub(super) fn of(req: &HttpRequest) -> Option<&Self> {
        req.conn_data::<Self>()
    }

    /// Of a request whose connection's certificate is a credential.
    pub(super) fn known(req: &HttpRequest) -> Option<(&Self, &Arc<Identity>)> {
        let peer = Self::of(req)?;
        Some((peer, peer.identity.as_ref()?))
    }

    /// Whether the certificate would still be let in.
    ///
    /// # Errors
    /// [`Refused`] when it expired or was revoked since the connection began.
    pub(super) fn still_good(&self) -> Result<(), Refused> {
        self.gate.still_good(&self.certificate)
    }
}

/// Who holds a certificate, by the first rule that it fits.
fn identify(rules: &[CertificateRule], certificate: &Admitted) -> Option<Arc<Identity>> {
    let facts = &certificate.facts;
    let (rule, name) = first_match(rules, &facts.names)?;
    let fingerprint = data_encoding::HEXLOWER.encode(&facts.fingerprint);
    Some(Arc::new(Identity::of_certificate(rule, &name, &fingerprint, facts.not_after)))
}

/// Called for each new connection: keeps its certificate with it.
pub(super) fn on_connect(web: &Web, gate: &Arc<Gate>, connection: &dyn Any, kept: &mut Extensions) {
    // actix-web's own type: the stream of tokio-rustls lies inside it.
    let Some(stream) = connection.downcast_ref::<TlsStream<TcpStream>>() else { return };
    let Some(chain) = stream.get_ref().1.peer_certificates() else { return };
    match gate.admitted(chain) {
        Ok(certificate) => {
            let identity = identify(&web.app.settings.certificates.rules, &certificate);
            kept.insert(Peer { certificate, identity, gate: Arc::clone(gate) });
        }
        // Between the handshake and this moment it was revoked. Then it is no credential.
        Err(refused) => tracing::warn!("a client certificate was refused after its handshake: {refused}"),
    }
}
