//! The signing keys on their way between nodes (seeds/004): sealed under the bootstrap token ([`envelope`]), handed
//! over through a NATS JetStream KV bucket ([`bucket`]), and kept on each node's disk ([`disk`]).
//!
//! Beside them, what was signed about the audit log ([`anchors`]).
//!
//! This room does not know what it carries: a [`envelope::Ring`] is a body of bytes with a revision and a name.

pub mod anchors;
pub mod bucket;
pub mod disk;
pub mod envelope;
