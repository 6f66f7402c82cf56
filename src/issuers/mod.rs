//! Other people's keys: a minimal discovery (only `issuer` and `jwks_uri` are needed, which is all that many workload
//! issuers publish), key sets that are filtered, bounded and kept, and the HTTP with which all of it is read.
//!
//! What one issuer does wrong is its own tokens' loss: a set that cannot be read never takes the place of a good one,
//! and whatever tokens arrive, an issuer is asked at most twice in a cool-down.

pub mod http;
pub mod jwk;
mod source;

pub use source::{COOL_DOWN, Known, LEAST_KEPT, MOST_KEPT, Source, Unavailable, is_same_issuer};
