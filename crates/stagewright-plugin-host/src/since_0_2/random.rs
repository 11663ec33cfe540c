//! `random`.

use super::stagewright::random::random::Host;
use crate::attempt::Attempt;

/// The most bytes of one call.
const LENGTH: u32 = 64 * 1024;

impl Host for Attempt {
    async fn bytes(&mut self, length: u32) -> wasmtime::Result<Vec<u8>> {
        if length > LENGTH {
            wasmtime::bail!("`random.bytes` returns at most {LENGTH} bytes, not {length}");
        }
        let mut bytes = vec![0; length as usize];
        getrandom::fill(&mut bytes).map_err(|error| wasmtime::format_err!("no random bytes: {error}"))?;
        Ok(bytes)
    }
}
