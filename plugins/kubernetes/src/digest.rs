//! Digests as text.

use sha2::{Digest as _, Sha256};

/// The SHA-256 of data, in 64 hexadecimal digits.
pub fn sha256(data: &[u8]) -> String {
    Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect()
}
