//! Our own keys: what seals a value so that only this installation can read it again, and what signs.

pub mod keyring;
pub mod seal;
pub mod sign;
pub mod verify;
