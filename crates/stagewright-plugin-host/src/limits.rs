//! Limits on memory, log, files and time, and how they are enforced.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use stagewright_engine::{AttemptRequest, Failure, FailureKind};
use stagewright_model::{Bounds, Limits};
use wasmtime::{Engine, ResourceLimiter};

/// Bytes of guest memory, unless the stage sets `memory`.
pub(crate) const DEFAULT_MEMORY: u64 = 256 * 1024 * 1024;
/// Bytes of an attempt's log, unless the stage sets `log-limit`.
pub(crate) const DEFAULT_LOG: u64 = 64 * 1024 * 1024;
/// The limits of a stage that sets none; `None` means unlimited.
pub const DEFAULT_BOUNDS: Bounds = Bounds {
    timeout: None,
    memory: Some(DEFAULT_MEMORY),
    log_limit: Some(DEFAULT_LOG),
    limits: Limits {
        cpu: None,
        process_memory: None,
        processes: Some(DEFAULT_PROCESSES),
        log_lines: Some(2_000_000),
        artifacts: Some(16 << 30),
        workspace: Some(16 << 30),
        requests: Some(DEFAULT_REQUESTS),
    },
};

/// The limits of one attempt that capabilities enforce: the stage's own, or else the defaults.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttemptBounds {
    /// Bytes of guest memory, and of what the host holds for the guest.
    pub(crate) memory: u64,
    /// Bytes of log.
    pub(crate) log: u64,
    /// Lines of log.
    pub(crate) log_lines: u64,
    /// Bytes that the plugin writes into the workspace.
    pub(crate) workspace: u64,
    /// Bytes that the plugin publishes as artifacts.
    pub(crate) artifacts: u64,
    /// Responses that the plugin may have open at a time, and connections that its programs may have.
    pub(crate) requests: usize,
}

impl AttemptBounds {
    pub(crate) fn of(request: &AttemptRequest) -> AttemptBounds {
        let AttemptRequest { limits, memory, log_limit, .. } = request;
        let usual = &DEFAULT_BOUNDS.limits;
        let bound = |own: Option<u64>, usual: Option<u64>| own.or(usual).unwrap_or(u64::MAX);
        AttemptBounds {
            memory: memory.unwrap_or(DEFAULT_MEMORY),
            log: log_limit.unwrap_or(DEFAULT_LOG),
            log_lines: bound(limits.log_lines, usual.log_lines),
            workspace: bound(limits.workspace, usual.workspace),
            artifacts: bound(limits.artifacts, usual.artifacts),
            requests: limits.requests.unwrap_or(DEFAULT_REQUESTS) as usize,
        }
    }
}

/// Processes that an attempt may run at a time, unless the stage sets `processes`.
pub(crate) const DEFAULT_PROCESSES: u32 = 2048;
/// Responses that a plugin may have open at a time, and connections that its programs may have, unless the stage sets
/// `requests`.
pub(crate) const DEFAULT_REQUESTS: u32 = 256;
/// How often a running guest yields, so that it can be stopped. Measured: an endless loop ended 4 ms after its limit.
const TICK: Duration = Duration::from_millis(10);
/// The most elements in all tables of a guest together: function references of 8 bytes each.
pub(crate) const TABLE_ELEMENTS: usize = 1_000_000;

/// The most linear memories of a guest. Each reserves gigabytes of address space, however few of its pages are used.
/// Components made by `wit-component` have at most two.
pub(crate) const MEMORIES: u32 = 64;

/// Formats a number of bytes in the form that TOML accepts, as in `256MiB`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByteSize(pub(crate) u64);

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match UNITS.into_iter().find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// How many more bytes an attempt may write; clones share the count.
#[derive(Clone, Debug)]
pub(crate) struct ByteBudget {
    /// The limit's key in `[stages.NAME.limits]`.
    key: &'static str,
    limit: u64,
    used: Arc<AtomicU64>,
}

impl ByteBudget {
    pub(crate) fn new(key: &'static str, limit: u64) -> ByteBudget {
        ByteBudget { key, limit, used: Arc::default() }
    }

    /// Fails when fewer than `bytes` are left. They are counted even then: after the first failure nothing more fits, so
    /// that a plugin which ignores it can't go on writing in smaller portions.
    pub(crate) fn take(&self, bytes: u64) -> io::Result<()> {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if used <= self.limit {
            return Ok(());
        }
        let (key, limit) = (self.key, ByteSize(self.limit));
        let message = format!("the stage wrote more than its limit of {limit}: raise `{key}` in its limits");
        Err(io::Error::new(io::ErrorKind::QuotaExceeded, message))
    }
}

/// A writer that fails when its budget is exhausted.
pub(crate) struct Metered<'a, W> {
    pub(crate) to: W,
    pub(crate) budget: &'a ByteBudget,
}

impl<W: io::Write> io::Write for Metered<'_, W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.budget.take(data.len() as u64)?;
        // Written completely: the caller would repeat the rest of a short write, and it would be counted twice.
        self.to.write_all(data)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// The guest requested more memory than its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("requested {asked} bytes of memory, more than its limit of {}", ByteSize(*limit))]
pub(crate) struct OutOfMemory {
    asked: u64,
    limit: u64,
}

impl From<OutOfMemory> for Failure {
    fn from(error: OutOfMemory) -> Failure {
        let needed = error.asked.max(error.limit.saturating_mul(2)).next_multiple_of(1 << 20);
        Failure {
            help: Some(format!("raise the limit with `memory = \"{}\"`", ByteSize(needed))),
            ..Failure::new(FailureKind::OutOfMemory, format!("the plugin {error}"), false)
        }
    }
}

/// Counts the memory that the host keeps for a guest's handles. It has the same limit as the guest's own memory:
/// otherwise a guest could fill the host's memory through its builders.
#[derive(Debug)]
pub(crate) struct HandleMemory {
    limit: u64,
    /// Bytes by handle.
    held: HashMap<u32, u64>,
    /// Bytes of all handles.
    all: u64,
}

impl HandleMemory {
    /// The least that is counted for one call: even an empty text takes memory.
    const LEAST: u64 = 64;

    /// At most `limit` bytes.
    pub(crate) fn new(limit: u64) -> HandleMemory {
        HandleMemory { limit, held: HashMap::new(), all: 0 }
    }

    /// Counts `bytes` more for a handle.
    pub(crate) fn take(&mut self, handle: u32, bytes: usize) -> Result<(), OutOfMemory> {
        let bytes = (bytes as u64).max(Self::LEAST);
        let asked = self.all.saturating_add(bytes);
        if asked > self.limit {
            return Err(OutOfMemory { asked, limit: self.limit });
        }
        self.all = asked;
        *self.held.entry(handle).or_default() += bytes;
        Ok(())
    }

    /// Releases everything that was counted for a handle.
    pub(crate) fn drop(&mut self, handle: u32) {
        self.all -= self.held.remove(&handle).unwrap_or_default();
    }
}

/// Limits the sum of a guest's linear memories, and the sum of its tables.
#[derive(Debug)]
pub(crate) struct MemoryLimiter {
    limit: u64,
    used: u64,
    elements: usize,
}

impl MemoryLimiter {
    /// At most `limit` bytes.
    pub(crate) fn new(limit: u64) -> MemoryLimiter {
        MemoryLimiter { limit, used: 0, elements: 0 }
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let asked = self.used.saturating_add(desired.saturating_sub(current) as u64);
        if asked > self.limit {
            // An error, which traps, rather than `false`: then `memory.grow` would merely return -1, and what the guest's
            // allocator makes of that is anything from an abort to a wrong message.
            return Err(OutOfMemory { asked, limit: self.limit }.into());
        }
        self.used = asked;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let asked = self.elements.saturating_add(desired.saturating_sub(current));
        if maximum.is_some_and(|maximum| desired > maximum) || asked > TABLE_ELEMENTS {
            return Ok(false);
        }
        self.elements = asked;
        Ok(true)
    }

    fn memories(&self) -> usize {
        MEMORIES as usize
    }
}

/// Advances an engine's epoch for as long as the engine lives.
#[derive(Debug, Default)]
pub(crate) struct Ticker(OnceLock<()>);

impl Ticker {
    /// Starts the thread, unless it was started before.
    pub(crate) fn start(&self, engine: &Engine) {
        self.0.get_or_init(|| {
            // A weak reference, so that the thread doesn't keep the engine alive: it ends with the first tick after the last
            // user of the engine is gone.
            let engine = engine.weak();
            std::thread::spawn(move || {
                while let Some(engine) = engine.upgrade() {
                    engine.increment_epoch();
                    drop(engine);
                    std::thread::sleep(TICK);
                }
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_for_the_sum_of_memories() {
        let mut limiter = MemoryLimiter::new(300);
        assert!(limiter.memory_growing(0, 200, None).unwrap());
        assert!(limiter.memory_growing(0, 100, None).unwrap());
        let error = limiter.memory_growing(100, 101, None).unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&OutOfMemory { asked: 301, limit: 300 }));
        assert!(
            !limiter.memory_growing(100, 101, Some(100)).unwrap(),
            "over its own maximum: refused without an error"
        );
    }

    #[test]
    fn memory_of_a_handle_counts_until_the_handle_is_dropped() {
        let mut handle_memory = HandleMemory::new(1000);
        handle_memory.take(1, 600).unwrap();
        handle_memory.take(2, 300).unwrap();
        assert_eq!(handle_memory.take(2, 300), Err(OutOfMemory { asked: 1200, limit: 1000 }));
        handle_memory.drop(1);
        handle_memory.take(2, 300).unwrap();
        handle_memory.drop(2);
        handle_memory.drop(2);
        // Even an empty text counts.
        assert!((0..15).all(|_| handle_memory.take(3, 0).is_ok()) && handle_memory.take(3, 0).is_err());
    }

    #[test]
    fn a_budget_holds_for_all_its_writers_together() {
        let budget = ByteBudget::new("workspace", 10);
        let mut first = Metered { to: Vec::new(), budget: &budget };
        io::Write::write_all(&mut first, b"12345678").unwrap();
        let mut second = Metered { to: Vec::new(), budget: &budget };
        let error = io::Write::write_all(&mut second, b"123").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
        assert!(error.to_string().contains("raise `workspace`"), "{error}");
        assert!(second.to.is_empty());
    }

    #[test]
    fn the_limit_holds_for_the_sum_of_tables() {
        let mut limiter = MemoryLimiter::new(300);
        assert!(limiter.table_growing(0, TABLE_ELEMENTS / 2, None).unwrap());
        assert!(limiter.table_growing(0, TABLE_ELEMENTS / 2, None).unwrap());
        assert!(!limiter.table_growing(0, 1, None).unwrap());
        assert!(!MemoryLimiter::new(300).table_growing(0, 2, Some(1)).unwrap(), "over its own maximum");
    }

    #[test]
    fn sizes_are_formatted_as_in_toml() {
        assert_eq!(ByteSize(256 << 20).to_string(), "256MiB");
        assert_eq!(ByteSize(1 << 30).to_string(), "1GiB");
        assert_eq!(ByteSize(1000).to_string(), "1000B");
        let failure = Failure::from(OutOfMemory { asked: (256 << 20) + 1, limit: 256 << 20 });
        assert_eq!(failure.help.as_deref(), Some("raise the limit with `memory = \"512MiB\"`"));
    }
}
