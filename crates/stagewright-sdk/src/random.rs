//! Random bytes.

use crate::host::random as host;

/// Bytes from the operating system's generator, fit for keys. At most 64 KiB.
pub fn bytes(length: u32) -> Vec<u8> {
    host::bytes(length)
}
