//! Certificates that our authority issued: found by domain, issued, revoked, listed.

use super::{Act, Batch, Store, StoreError, dialect::Conn, statements::statements};
use crate::domain::{
    certificate::{CertificateId, IssuedCertificate, Purpose, Reuse, Verdict},
    dns::DomainName,
    event::NewEvent,
    ledger::storable,
    time::Moment,
};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, serial, fingerprint, issuer, purpose, subject, pem, sealed, not_before, not_after, issued_at, issued_to, ",
            "issued_to_name, revoked_at FROM certificates ",
            $rest
        )
    };
}

statements! {
    /// The newest of a domain and an authority that is not revoked; of one moment, that whose key is kept.
    LAST = select!("WHERE subject = $1 AND issuer = $2 AND purpose = 'server' AND revoked_at IS NULL ORDER BY issued_at DESC, sealed IS NULL, id DESC LIMIT 1");
    /// One.
    BY_ID = select!("WHERE id = $1");
    /// A page, the newest first.
    PAGE = select!("WHERE (issued_at < $1 OR (issued_at = $1 AND id < $2)) ORDER BY issued_at DESC, id DESC LIMIT $3");
    /// Those of an authority that are revoked and whose time is not over.
    REVOKED = select!("WHERE issuer = $1 AND revoked_at IS NOT NULL AND not_after >= $2 ORDER BY revoked_at, id");
    /// All that are revoked and whose time is not over.
    REVOKED_PEMS = "SELECT fingerprint, pem FROM certificates WHERE revoked_at IS NOT NULL AND not_after >= $1";
    /// A new one.
    ADD = "INSERT INTO certificates (id, serial, fingerprint, issuer, purpose, subject, pem, sealed, not_before, not_after, issued_at, \
         issued_to, issued_to_name) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
    /// The private keys of older ones of the same domain are of no use any more.
    FORGET_OLDER = "UPDATE certificates SET sealed = NULL WHERE subject = $1 AND id <> $2 AND sealed IS NOT NULL";
    /// Private keys of certificates whose time is over.
    FORGET_EXPIRED = "UPDATE certificates SET sealed = NULL WHERE not_after < $1 AND sealed IS NOT NULL";
    /// By its serial number.
    BY_SERIAL = select!("WHERE issuer = $1 AND serial = $2");
    /// Revoked once; its private key is forgotten.
    REVOKE = "UPDATE certificates SET revoked_at = $1, sealed = NULL WHERE id = $2 AND revoked_at IS NULL";
}

row! {
    Row {
        id: String, serial: String, fingerprint: Vec<u8>, issuer: Vec<u8>, purpose: String, subject: String, pem: String, sealed: Option<Vec<u8>>,
        not_before: i64, not_after: i64, issued_at: i64, issued_to: String, issued_to_name: String, revoked_at: Option<i64>,
    }
}

/// A certificate as the database keeps it.
#[derive(Debug, Clone)]
pub struct StoredCertificate {
    /// Everything but its private key.
    pub record: IssuedCertificate,
    /// Its private key, sealed, while it may be handed out again.
    pub sealed: Option<Vec<u8>>,
}

impl Row {
    fn read(self) -> Result<StoredCertificate, StoreError> {
        let damaged = |_| StoreError::Damaged("a certificate's digest");
        let record = IssuedCertificate {
            id: self.id.parse().map_err(|_| StoreError::Damaged("a certificate's id"))?,
            serial: self.serial,
            fingerprint: self.fingerprint.try_into().map_err(damaged)?,
            issuer: self.issuer.try_into().map_err(damaged)?,
            purpose: Purpose::find(&self.purpose).ok_or(StoreError::Damaged("a certificate's purpose"))?,
            subject: self.subject,
            pem: self.pem,
            not_before: Moment::from_millis(self.not_before),
            not_after: Moment::from_millis(self.not_after),
            issued_at: Moment::from_millis(self.issued_at),
            issued_to: self.issued_to,
            issued_to_name: self.issued_to_name,
            revoked_at: self.revoked_at.map(Moment::from_millis),
        };
        Ok(StoredCertificate { record, sealed: self.sealed })
    }
}

impl Store {
    /// The newest certificate of a domain from this authority that is not revoked.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn last_certificate(
        &self,
        domain: &DomainName,
        issuer: &[u8; 32],
    ) -> Result<Option<StoredCertificate>, StoreError> {
        let row: Option<Row> = on_db!(&self.db, pool =>
            sqlx::query_as(LAST).bind(domain.as_str()).bind(&issuer[..]).fetch_optional(pool).await?);
        row.map(Row::read).transpose()
    }

    /// A page of certificates, those issued before this one.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn certificates(
        &self,
        before: Option<(Moment, CertificateId)>,
        limit: i64,
    ) -> Result<Vec<IssuedCertificate>, StoreError> {
        let (at, id) = before.map_or((i64::MAX, String::new()), |(at, id)| (at.millis(), id.to_string()));
        let rows: Vec<Row> =
            on_db!(&self.db, pool => sqlx::query_as(PAGE).bind(at).bind(id).bind(limit).fetch_all(pool).await?);
        rows.into_iter().map(|row| row.read().map(|stored| stored.record)).collect()
    }

    /// Certificates of an authority that are revoked and whose time is not over.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn revoked_certificates(
        &self,
        issuer: &[u8; 32],
        now: Moment,
    ) -> Result<Vec<IssuedCertificate>, StoreError> {
        let rows: Vec<Row> = on_db!(&self.db, pool =>
            sqlx::query_as(REVOKED).bind(&issuer[..]).bind(now.millis()).fetch_all(pool).await?);
        rows.into_iter().map(|row| row.read().map(|stored| stored.record)).collect()
    }

    /// Fingerprint and PEM text of every certificate that is revoked and whose time is not over.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn revoked_pems(&self, now: Moment) -> Result<Vec<([u8; 32], String)>, StoreError> {
        let found: Vec<(Vec<u8>, String)> = on_db!(&self.db, pool =>
            sqlx::query_as(REVOKED_PEMS).bind(now.millis()).fetch_all(pool).await?);
        let read = |(bytes, pem): (Vec<u8>, String)| match bytes.try_into() {
            Ok(fingerprint) => Ok((fingerprint, pem)),
            Err(_) => Err(StoreError::Damaged("a certificate's digest")),
        };
        found.into_iter().map(read).collect()
    }
}

async fn find(conn: &mut Conn, id: &CertificateId) -> Result<Option<StoredCertificate>, StoreError> {
    let row: Option<Row> = on_conn!(conn, conn => sqlx::query_as(BY_ID).bind(id.as_str()).fetch_optional(conn).await?);
    row.map(Row::read).transpose()
}

/// Keeps a new certificate, unless meanwhile there is one that is to be handed out instead.
#[derive(Debug)]
pub struct Issue {
    /// The new one, with its sealed key.
    pub new: StoredCertificate,
    /// When one that is there serves as well.
    pub reuse: Reuse,
    /// Whether the sealed key of the one that is there can be opened.
    pub distrusts: Option<CertificateId>,
    /// What to record.
    pub event: NewEvent,
}

/// Which certificate is to be handed out.
#[derive(Debug)]
pub enum Issued {
    /// The new one.
    New,
    /// One that was there.
    Kept(Box<StoredCertificate>),
    /// None before this moment.
    TooSoon(Moment),
}

impl Act for Issue {
    type Output = Issued;

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<Issued, StoreError> {
        let (new, conn) = (&self.new.record, batch.conn().await?);
        let last: Option<Row> = on_conn!(conn, conn => sqlx::query_as(LAST)
            .bind(&new.subject).bind(&new.issuer[..]).fetch_optional(conn).await?);
        if let Some(last) = last.map(Row::read).transpose()? {
            let is_lost = last.sealed.is_none() || self.distrusts.as_ref() == Some(&last.record.id);
            match self.reuse.judge(&last.record, new.issued_at) {
                Verdict::Keep if !is_lost => return Ok(Issued::Kept(Box::new(last))),
                Verdict::TooSoon(until) if !is_lost => return Ok(Issued::TooSoon(until)),
                Verdict::Keep | Verdict::Replace | Verdict::TooSoon(_) => {}
            }
        }
        add(conn, &self.new).await?;
        on_conn!(conn, conn => {
            sqlx::query(FORGET_OLDER).bind(&new.subject).bind(new.id.as_str()).execute(conn).await?;
        });
        batch.record(self.event.clone());
        Ok(Issued::New)
    }
}

async fn add(conn: &mut Conn, new: &StoredCertificate) -> Result<(), StoreError> {
    let c = &new.record;
    on_conn!(conn, conn => {
        sqlx::query(ADD)
            .bind(c.id.as_str())
            .bind(&c.serial)
            .bind(&c.fingerprint[..])
            .bind(&c.issuer[..])
            .bind(c.purpose.as_str())
            .bind(storable(c.subject.clone()))
            .bind(&c.pem)
            .bind(new.sealed.as_deref())
            .bind(c.not_before.millis())
            .bind(c.not_after.millis())
            .bind(c.issued_at.millis())
            .bind(storable(c.issued_to.clone()))
            .bind(storable(c.issued_to_name.clone()))
            .execute(conn)
            .await?;
    });
    Ok(())
}

/// Revokes a certificate.
#[derive(Debug)]
pub struct Revoke {
    /// Which.
    pub id: CertificateId,
    /// What to record; subject and serial are filled in.
    pub event: NewEvent,
}

impl Act for Revoke {
    /// `None` when there is none; else whether it was this call that did it.
    type Output = Option<bool>;

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<Option<bool>, StoreError> {
        let conn = batch.conn().await?;
        let Some(found) = find(conn, &self.id).await? else { return Ok(None) };
        let at = self.event.time.millis();
        let done = on_conn!(conn, conn =>
            sqlx::query(REVOKE).bind(at).bind(self.id.as_str()).execute(conn).await?.rows_affected());
        if done == 1 {
            let event = self.event.clone().with("subject", found.record.subject);
            batch.record(event.with("serial", found.record.serial));
            batch.right_lost();
        }
        Ok(Some(done == 1))
    }
}

/// Revokes a certificate that lokid's server did not issue itself, such as a client's.
#[derive(Debug)]
pub struct RevokeGiven {
    /// What it says.
    pub record: IssuedCertificate,
    /// What to record; it is about the certificate's id.
    pub event: NewEvent,
}

impl Act for RevokeGiven {
    /// Whether it was this call that did it.
    type Output = bool;

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<bool, StoreError> {
        let (given, conn) = (&self.record, batch.conn().await?);
        let known: Option<Row> = on_conn!(conn, conn => sqlx::query_as(BY_SERIAL)
            .bind(&given.issuer[..]).bind(&given.serial).fetch_optional(conn).await?);
        let known = known.map(Row::read).transpose()?;
        if known.as_ref().is_none() {
            add(conn, &StoredCertificate { record: given.clone(), sealed: None }).await?;
        }
        let id = known.map_or_else(|| given.id.clone(), |known| known.record.id);
        let at = self.event.time.millis();
        let done =
            on_conn!(conn, conn => sqlx::query(REVOKE).bind(at).bind(id.as_str()).execute(conn).await?.rows_affected());
        if done == 1 {
            batch.record(self.event.clone().on("certificate", id.as_str()));
            batch.right_lost();
        }
        Ok(done == 1)
    }
}

/// Forgets private keys of certificates whose time is over.
#[derive(Debug)]
pub struct ForgetKeys {
    /// The present moment.
    pub now: Moment,
}

impl Act for ForgetKeys {
    type Output = ();

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        on_conn!(batch.conn().await?, conn => {
            sqlx::query(FORGET_EXPIRED).bind(self.now.millis()).execute(conn).await?;
        });
        Ok(())
    }
}
