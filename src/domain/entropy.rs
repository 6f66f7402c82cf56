//! The one source of randomness, handed down from the top like the clock.

use aws_lc_rs::rand;

/// Fills arrays with bytes nobody can guess.
#[derive(Debug, Clone, Copy, Default)]
pub struct Entropy;

impl Entropy {
    /// `N` random bytes from the crypto provider.
    ///
    /// # Panics
    /// When the operating system gives no randomness: no secret may be made then.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        rand::fill(&mut bytes).expect("the operating system gives randomness");
        bytes
    }
}
