//! Certificates of clients: verified in the handshake by rustls and webpki (chain, validity, revocation), and by what
//! those leave open: the extended key usage must be there, and the path length of `client_ca` itself counts. Every
//! refusal is told with its reason.
//!
//! A connection outlives a change of authorities and lists, so [`Gate::still_good`] verifies again what was
//! verified before the change.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error as TlsError, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime},
    server::{
        VerifierBuilderError, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use super::{
    read::{Facts, NotACertificate, chain_of},
    refused::Refused,
    tls::{provider, unix_time},
};
use crate::domain::time::{Clock, Moment};

/// Whose certificates are taken.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// The authorities.
    pub authorities: Vec<CertificateDer<'static>>,
    /// Lists of revoked certificates. Where there is one, every certificate must be on its issuer's list as good, and
    /// the list must not be out of date.
    pub lists: Vec<CertificateRevocationListDer<'static>>,
}

/// The authorities or lists cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustRefused {
    /// One of the authorities.
    #[error("an authority cannot be used: {0}")]
    Authority(TlsError),
    /// One of the authorities, as it is read.
    #[error("{0}")]
    Unreadable(#[from] NotACertificate),
    /// A list, or no authority at all.
    #[error("{0}")]
    List(#[from] VerifierBuilderError),
}

/// Judges certificates of clients. Its authorities and lists can be swapped.
pub struct Gate {
    trusted: ArcSwap<Prepared>,
    /// What was signed of certificates of our own that were revoked ([`Facts::signed`]), by their fingerprints.
    revoked: ArcSwap<HashMap<[u8; 32], [u8; 32]>>,
    /// Counts the swaps of both.
    generation: AtomicU64,
    /// In which generation a certificate was good, so that what the handshake verified is not verified again at once.
    judged: moka::sync::Cache<[u8; 32], u64>,
    /// The authorities' names, which tell a browser which of its certificates may be of use.
    hints: Vec<DistinguishedName>,
    required: bool,
    clock: Clock,
    tell: Tell,
}

/// A certificate of an open connection is judged again after so many seconds: what stands above it ends too, and so do
/// lists.
const JUDGED_AGAIN: i64 = 60;
/// Certificates of which it is remembered when they were good.
const MOST_JUDGED: u64 = 10_000;

/// Whoever wants to hear of refusals in the handshake.
pub type Tell = Box<dyn Fn(&Refused, Option<&Facts>) + Send + Sync>;

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("required", &self.required).finish_non_exhaustive()
    }
}

impl Gate {
    /// For a listener that asks for a certificate, or `required` one.
    ///
    /// # Errors
    /// [`TrustRefused`].
    pub fn new(trust: &Trust, required: bool, clock: Clock, tell: Tell) -> Result<Self, TrustRefused> {
        let trusted = Prepared::of(trust)?;
        Ok(Self {
            hints: trusted.verifier.root_hint_subjects().to_vec(),
            trusted: ArcSwap::from_pointee(trusted),
            revoked: ArcSwap::default(),
            generation: AtomicU64::new(0),
            judged: moka::sync::Cache::new(MOST_JUDGED),
            required,
            clock,
            tell,
        })
    }

    /// Takes other authorities and lists. The names that clients are told stay as they were at the start.
    pub fn swap(&self, trusted: Prepared) {
        self.trusted.store(Arc::new(trusted));
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Says which certificates of our own are revoked: their fingerprints and PEM texts.
    pub fn revoke(&self, revoked: &[([u8; 32], String)]) {
        let known = self.revoked.load();
        let signed = |pem: &str| Some(Facts::read(chain_of(pem.as_bytes(), "it").ok()?.first()?).ok()?.signed);
        let of = |(fingerprint, pem): &([u8; 32], String)| {
            let signed = known.get(fingerprint).copied().or_else(|| signed(pem));
            // One that cannot be read was not let in either.
            (*fingerprint, signed.unwrap_or(*fingerprint))
        };
        let revoked: HashMap<_, _> = revoked.iter().map(of).collect();
        if **known != revoked {
            self.revoked.store(Arc::new(revoked));
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn is_revoked(&self, facts: &Facts) -> bool {
        self.revoked.load().values().any(|signed| *signed == facts.signed)
    }

    /// Judges a chain, the client's own certificate first.
    ///
    /// # Errors
    /// [`Refused`], with what the certificate says where it can be read.
    fn judge(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<Facts, Box<(Refused, Option<Facts>)>> {
        let (own, above) =
            chain.split_first().ok_or_else(|| Box::new((Refused::Malformed("there is none".into()), None)))?;
        let facts = Facts::read(own).map_err(|e| Box::new((Refused::Malformed(e.to_string()), None)))?;
        let trusted = self.trusted.load();
        let verified = trusted.verifier.verify_client_cert(own, above, now);
        let refused = match verified {
            Err(e) => Some(Refused::of(&e, &facts)),
            // webpki takes a certificate that does not say what it is for.
            Ok(_) if !facts.usages.is_some_and(|usages| usages.client) => Some(Refused::NotForClients),
            Ok(_) if self.is_revoked(&facts) => Some(Refused::Revoked),
            Ok(_) => trusted.check_above(&facts, above, Moment::from_seconds(now.as_secs().cast_signed())).err(),
        };
        match refused {
            Some(refused) => Err(Box::new((refused, Some(facts)))),
            None => Ok(facts),
        }
    }

    /// What a chain says that the handshake let in.
    ///
    /// # Errors
    /// [`Refused`] when it would not be let in now.
    pub fn admitted(&self, chain: &[CertificateDer<'static>]) -> Result<Admitted, Refused> {
        let own = chain.first().ok_or_else(|| Refused::Malformed("there is none".into()))?;
        let facts = Facts::read(own).map_err(|e| Refused::Malformed(e.to_string()))?;
        // Of the handshake a moment ago; without it, one that no generation has.
        let seen = self.judged.get(&facts.fingerprint).unwrap_or(u64::MAX);
        let judged_at = AtomicI64::new(self.clock.now().seconds());
        let admitted = Admitted { chain: chain.to_vec(), facts, seen: AtomicU64::new(seen), judged_at };
        self.still_good(&admitted).map(|()| admitted)
    }

    /// Whether a certificate of a connection that is open would still be let in.
    ///
    /// # Errors
    /// [`Refused`] when not.
    pub fn still_good(&self, client: &Admitted) -> Result<(), Refused> {
        if client.facts.not_after < self.clock.now() {
            return Err(Refused::Expired);
        }
        // Read before the judgement, so that a swap during it is noticed at the next request.
        let generation = self.generation.load(Ordering::Acquire);
        let now = self.clock.now().seconds();
        let is_old = now - client.judged_at.load(Ordering::Acquire) >= JUDGED_AGAIN;
        if client.seen.load(Ordering::Acquire) != generation || is_old {
            self.judge(&client.chain, unix_time(&self.clock)).map_err(|refused| refused.0)?;
            client.seen.store(generation, Ordering::Release);
            client.judged_at.store(now, Ordering::Release);
        }
        Ok(())
    }
}

impl Gate {
    /// Tells of a certificate that is good, but shown by somebody who has not its key.
    fn proven<T>(&self, cert: &CertificateDer<'_>, verified: Result<T, TlsError>) -> Result<T, TlsError> {
        verified.inspect_err(|_| (self.tell)(&Refused::NotProven, Facts::read(cert).ok().as_ref()))
    }
}

/// A certificate that was let in.
#[derive(Debug)]
pub struct Admitted {
    chain: Vec<CertificateDer<'static>>,
    /// What it says.
    pub facts: Facts,
    /// The generation in which it was last judged.
    seen: AtomicU64,
    /// When, in Unix seconds.
    judged_at: AtomicI64,
}

/// Authorities and lists that were read and can be used.
#[derive(Debug)]
pub struct Prepared {
    verifier: Arc<dyn ClientCertVerifier>,
    authorities: Vec<Facts>,
}

impl Prepared {
    /// Of these.
    ///
    /// # Errors
    /// [`TrustRefused`].
    pub fn of(trust: &Trust) -> Result<Self, TrustRefused> {
        let mut roots = RootCertStore::empty();
        for authority in &trust.authorities {
            roots.add(authority.clone()).map_err(TrustRefused::Authority)?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let verifier = if trust.lists.is_empty() {
            builder.build()?
        } else {
            builder.with_crls(trust.lists.iter().cloned()).enforce_revocation_expiration().build()?
        };
        let authorities = trust.authorities.iter().map(|der| Facts::read(der)).collect::<Result<_, _>>()?;
        Ok(Self { verifier, authorities })
    }

    /// What webpki leaves open of a chain that it verified: it takes of an authority its name and key alone, not its path
    /// length and its time (RFC 5280 §6.1.1), and lets a certificate sign whose key usage does not say so (§4.2.1.3).
    ///
    /// Which of the certificates that a client sends are in the path is not known here, and a client may send one that
    /// nobody signed to make it look shorter. So each of them counts, and each authority that any of them names.
    fn check_above(&self, own: &Facts, above: &[CertificateDer<'_>], now: Moment) -> Result<(), Refused> {
        let mut issuers = vec![&own.encoded.1];
        let above: Vec<Facts> = above.iter().filter_map(|der| Facts::read(der).ok()).collect();
        let below: Vec<&Facts> = above.iter().filter(|facts| !self.is_ours(facts)).collect();
        if below.iter().any(|facts| !facts.is_authority) {
            return Err(Refused::NoAuthority);
        }
        issuers.extend(below.iter().map(|facts| &facts.encoded.1));
        let enough = |most: u32| usize::try_from(most).is_ok_and(|most| below.len() <= most);
        let mut is_rooted = false;
        for issuer in issuers {
            let named: Vec<_> = self.authorities.iter().filter(|authority| authority.encoded.0 == *issuer).collect();
            is_rooted |= !named.is_empty();
            if !named.iter().all(|authority| authority.path_length.is_none_or(enough)) {
                return Err(Refused::TooDeep);
            }
            // Of two of one name one may be the next.
            if !named.is_empty() && !named.iter().any(|authority| authority.check_time(now).is_ok()) {
                return Err(Refused::AuthorityExpired);
            }
        }
        if is_rooted { Ok(()) } else { Err(Refused::UnknownIssuer) }
    }

    fn is_ours(&self, facts: &Facts) -> bool {
        self.authorities.iter().any(|authority| authority.fingerprint == facts.fingerprint)
    }
}

impl ClientCertVerifier for Gate {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        let chain: Vec<_> = std::iter::once(own).chain(above).cloned().collect();
        let generation = self.generation.load(Ordering::Acquire);
        match self.judge(&chain, now) {
            Ok(facts) => {
                self.judged.insert(facts.fingerprint, generation);
                Ok(ClientCertVerified::assertion())
            }
            Err(refused) => {
                let (refused, facts) = *refused;
                (self.tell)(&refused, facts.as_ref());
                Err(refused.alert().into())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.proven(cert, self.trusted.load().verifier.verify_tls12_signature(message, cert, dss))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.proven(cert, self.trusted.load().verifier.verify_tls13_signature(message, cert, dss))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trusted.load().verifier.supported_verify_schemes()
    }
}
