//! `Authorization: APIKey …` and a pre-shared key.

use std::{net::IpAddr, sync::Arc, time::Duration};

use aws_lc_rs::digest;
use subtle::ConstantTimeEq as _;

use super::{Authn, CredentialRefused};
use crate::{
    config::psk::PresharedKey,
    domain::{
        event::{Actor, ActorKind},
        identity::{Credential, Identity},
    },
};

/// A holder's use is an audit event once in this while.
const EVENT_EVERY: Duration = Duration::from_hours(1);

struct Holder {
    /// SHA-256 of the present key, and during a rotation of the next.
    digests: Vec<[u8; 32]>,
    identity: Arc<Identity>,
}

/// All callers who come with a pre-shared key.
pub(super) struct Holders {
    all: Vec<Holder>,
    told: moka::sync::Cache<String, ()>,
}

fn digest(text: &str) -> [u8; 32] {
    digest::digest(&digest::SHA256, text.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

impl Holders {
    pub(super) fn new(configured: &[PresharedKey]) -> Self {
        let holder = |key: &PresharedKey| {
            let actor = Actor::new(ActorKind::PresharedKey, &format!("psk:{}", key.name), &key.name);
            let credential = Credential::PresharedKey(key.name.as_str().into());
            Holder {
                digests: key.keys.iter().map(|key| digest(key.reveal())).collect(),
                identity: Arc::new(Identity::of_automation(actor, credential, key.role.clone(), key.scopes)),
            }
        };
        let told = moka::sync::Cache::builder().max_capacity(1000).time_to_live(EVENT_EVERY).build();
        Self { all: configured.iter().map(holder).collect(), told }
    }

    /// Compares with every key, in the same time whichever it is.
    fn find(&self, presented: &str) -> Option<&Holder> {
        let given = digest(presented);
        let mut found = None;
        for holder in &self.all {
            for known in &holder.digests {
                if bool::from(known.ct_eq(&given)) {
                    found = Some(holder);
                }
            }
        }
        found
    }
}

impl Authn {
    /// Who holds this pre-shared key.
    ///
    /// # Errors
    /// [`CredentialRefused::UnknownKey`].
    pub fn by_preshared_key(&self, presented: &str, from: IpAddr) -> Result<Arc<Identity>, CredentialRefused> {
        let holder = self.preshared_keys.find(presented).ok_or(CredentialRefused::UnknownKey)?;
        self.tell(&self.preshared_keys.told, &holder.identity, from);
        Ok(Arc::clone(&holder.identity))
    }

    /// Whether this is a pre-shared key of ours.
    pub fn is_preshared_key(&self, presented: &str) -> bool {
        self.preshared_keys.find(presented).is_some()
    }
}
