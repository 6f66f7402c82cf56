//! Issued certificates: one for a domain, replaced, revoked, and private keys forgotten when they are of no use.

use std::time::Duration;

use lokid::{
    domain::{
        certificate::{CertificateId, IssuedCertificate, Purpose, Reuse},
        dns::DomainName,
        entropy::Entropy,
        event::EventName,
    },
    store::{
        Store,
        certificates::{ForgetKeys, Issue, Issued, Revoke, RevokeGiven, StoredCertificate},
        ledger::Filter,
    },
};

use crate::support::values::{at, event_at};

const HOUR: i64 = 3600;
const ISSUER: [u8; 32] = [7; 32];
const LEFT: Reuse = Reuse::WhileLeft(Duration::from_hours(10));

fn domain() -> DomainName {
    "a.example".parse().unwrap()
}

/// A certificate of 100 hours that is issued after so many.
fn issue(hours: i64, reuse: Reuse) -> Issue {
    let issued_at = at(hours * HOUR);
    let record = IssuedCertificate {
        id: CertificateId::from_random(Entropy.bytes()),
        serial: data_encoding::HEXLOWER.encode(&Entropy.bytes::<16>()),
        fingerprint: Entropy.bytes(),
        issuer: ISSUER,
        purpose: Purpose::Server,
        subject: domain().as_str().to_owned(),
        pem: "PEM".into(),
        not_before: issued_at,
        not_after: at((hours + 100) * HOUR),
        issued_at,
        issued_to: "tok-1".into(),
        issued_to_name: "host".into(),
        revoked_at: None,
    };
    let event = event_at(EventName::CertificateIssued, issued_at).on("certificate", record.id.as_str());
    Issue { new: StoredCertificate { record, sealed: Some(vec![1, 2, 3]) }, reuse, distrusts: None, event }
}

async fn events(store: &Store, name: &str) -> usize {
    store.audit_page(&Filter { event: Some(name.into()), ..Filter::default() }, 1000).await.unwrap().len()
}

async fn last(store: &Store) -> StoredCertificate {
    store.last_certificate(&domain(), &ISSUER).await.unwrap().unwrap()
}

each_engine! {
    async fn of_many_at_once_one_is_kept_and_the_others_get_it(home) {
        let acts = (0..20).map(|_| home.store.act(issue(0, LEFT)));
        let done = futures_util::future::join_all(acts).await;
        let kept = last(&home.store).await.record;
        let mut new = 0;
        for issued in done {
            match issued.unwrap() {
                Issued::New => new += 1,
                Issued::Kept(found) => assert_eq!(found.record, kept),
                Issued::TooSoon(_) => panic!("nobody renews"),
            }
        }
        assert_eq!((new, events(&home.store, "certificate.issue").await), (1, 1));
        assert_eq!(home.store.certificates(None, 10).await.unwrap(), [kept]);
    }

    async fn another_takes_its_place_when_it_is_time_lost_or_revoked(home) {
        let store = &home.store;
        let first = issue(0, LEFT);
        let first_id = first.new.record.id.clone();
        assert!(matches!(store.act(first).await.unwrap(), Issued::New));
        assert!(matches!(store.act(issue(89, LEFT)).await.unwrap(), Issued::Kept(_)));
        assert!(matches!(store.act(issue(90, LEFT)).await.unwrap(), Issued::New));
        let second = last(store).await;
        let renew = Reuse::NotWithin(Duration::from_hours(1));
        assert!(matches!(store.act(issue(90, renew)).await.unwrap(), Issued::TooSoon(until) if until == at(91 * HOUR)));
        assert!(matches!(store.act(issue(91, renew)).await.unwrap(), Issued::New));
        let third = last(store).await;
        assert_ne!(second.record.id, third.record.id);

        let mut distrusting = issue(92, LEFT);
        distrusting.distrusts = Some(third.record.id.clone());
        assert!(matches!(store.act(distrusting).await.unwrap(), Issued::New), "its key does not open");
        let fourth = last(store).await.record;
        let event = event_at(EventName::CertificateRevoked, at(93 * HOUR)).on("certificate", fourth.id.as_str());
        let revoke = || Revoke { id: fourth.id.clone(), event: event.clone() };
        assert_eq!((store.act(revoke()).await.unwrap(), store.act(revoke()).await.unwrap()), (Some(true), Some(false)));
        assert_eq!(events(store, "certificate.revoke").await, 1);
        let revoked = store.revoked_pems(at(93 * HOUR)).await.unwrap();
        assert_eq!(revoked, [(fourth.fingerprint, fourth.pem.clone())]);
        assert!(store.revoked_pems(at(300 * HOUR)).await.unwrap().is_empty(), "its time is over anyway");
        assert!(matches!(store.act(issue(94, LEFT)).await.unwrap(), Issued::New));
        let nobody = Revoke { id: CertificateId::from_random([0; 12]), event };
        assert_eq!(store.act(nobody).await.unwrap(), None);

        let page = store.certificates(None, 2).await.unwrap();
        let rest = store.certificates(Some((page[1].issued_at, page[1].id.clone())), 10).await.unwrap();
        assert_eq!((page.len(), rest.len(), rest.last().unwrap().id.clone()), (2, 3, first_id));
    }

    async fn private_keys_are_forgotten_when_they_are_of_no_use(home) {
        let sealed = "SELECT COUNT(*) FROM certificates WHERE sealed IS NOT NULL";
        let mut raw = home.behind_its_back().await;
        home.store.act(issue(0, LEFT)).await.unwrap();
        home.store.act(issue(95, LEFT)).await.unwrap();
        assert_eq!(raw.number(sealed).await, 1, "the older one's");
        home.store.act(ForgetKeys { now: at(150 * HOUR) }).await.unwrap();
        assert_eq!(raw.number(sealed).await, 1, "it is still good");
        home.store.act(ForgetKeys { now: at(200 * HOUR) }).await.unwrap();
        assert_eq!(raw.number(sealed).await, 0);
        home.store.act(issue(200, LEFT)).await.unwrap();
        let id = last(&home.store).await.record.id;
        home.store.act(Revoke { id, event: event_at(EventName::CertificateRevoked, at(201 * HOUR)) }).await.unwrap();
        assert_eq!(raw.number(sealed).await, 0, "a revoked one's");
    }

    async fn a_certificate_from_elsewhere_is_revoked_once_and_wakes_every_cache(home) {
        let before = home.epoch().await;
        let mut record = issue(0, LEFT).new.record;
        record.purpose = Purpose::Client;
        let event = event_at(EventName::CertificateRevoked, at(HOUR));
        let given = || RevokeGiven { record: record.clone(), event: event.clone() };
        assert!(home.store.act(given()).await.unwrap() && !home.store.act(given()).await.unwrap());
        assert!(home.epoch().await > before);
        assert_eq!(home.store.revoked_certificates(&ISSUER, at(HOUR)).await.unwrap().len(), 1);
        assert!(home.store.revoked_certificates(&[8; 32], at(HOUR)).await.unwrap().is_empty());
        assert!(home.store.last_certificate(&domain(), &ISSUER).await.unwrap().is_none(), "it is no server's");
    }
}
