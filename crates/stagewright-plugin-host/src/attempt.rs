//! The state of an attempt while its guest runs: the data of the guest's store.

use std::sync::Arc;

use tokio::time::Instant;
use wasmtime::component::{Resource, ResourceTable};

use crate::capability::artifacts::Artifacts;
use crate::capability::context::Context;
use crate::capability::effects::Effects;
use crate::capability::environment::StageEnvironment;
use crate::capability::gate::OpenedGates;
use crate::capability::http::Http;
use crate::capability::outputs::Outputs;
use crate::capability::process::Processes;
use crate::capability::registry::Images;
use crate::capability::secrets::StageSecrets;
use crate::capability::service::Services;
use crate::capability::workspace::WorkspaceFiles;
use crate::denial::Denials;
use crate::error::CapabilityError;
use crate::limits::{HandleMemory, MemoryLimiter};
use crate::log::AttemptLog;
use crate::mask::Masker;
use crate::stop::Cancel;

mod context;

pub(crate) use context::{AttemptContext, AttemptHost};

/// The most handles that a guest may hold at a time.
const HANDLES: usize = 16 * 1024;

/// The state of one attempt that host functions work on.
pub(crate) struct Attempt {
    pub(crate) table: ResourceTable,
    pub(crate) limiter: MemoryLimiter,
    pub(crate) handle_memory: HandleMemory,
    pub(crate) started: Instant,
    pub(crate) cancel: Cancel,
    pub(crate) log: AttemptLog,
    /// Whether debug and trace messages go into the log.
    pub(crate) verbose: bool,
    pub(crate) context: Context,
    pub(crate) outputs: Outputs,
    pub(crate) secrets: StageSecrets,
    pub(crate) processes: Processes,
    pub(crate) http: Http,
    pub(crate) workspace: WorkspaceFiles,
    pub(crate) artifacts: Arc<Artifacts>,
    pub(crate) images: Images,
    pub(crate) services: Services,
    pub(crate) environment: StageEnvironment,
    pub(crate) gates: OpenedGates,
    pub(crate) effects: Effects,
    /// The requests that were denied so far.
    pub(crate) denials: Denials,
}

impl Attempt {
    /// Builds every capability from the context.
    pub(crate) fn new(context: &AttemptContext<'_>) -> Attempt {
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        Attempt {
            table,
            limiter: MemoryLimiter::new(context.bounds.memory),
            handle_memory: HandleMemory::new(context.bounds.memory),
            started: Instant::now(),
            cancel: context.cancel.clone(),
            log: context.log.clone(),
            verbose: context.config().verbose,
            context: Context::for_attempt(context),
            outputs: Outputs::default(),
            secrets: StageSecrets::for_attempt(context),
            processes: Processes::for_attempt(context),
            http: Http::for_attempt(context),
            workspace: context.workspace.clone(),
            artifacts: Arc::new(Artifacts::for_attempt(context)),
            images: Images::for_attempt(context),
            services: Services::for_attempt(context),
            environment: StageEnvironment::for_attempt(context),
            gates: OpenedGates::default(),
            effects: context.effects.clone(),
            denials: context.denials.clone(),
        }
    }

    /// Counts `bytes` that the host keeps for a handle against the guest's memory limit. Fails when that is exceeded.
    pub(crate) fn keep<T: 'static>(&mut self, handle: &Resource<T>, bytes: usize) -> wasmtime::Result<()> {
        Ok(self.handle_memory.take(handle.rep(), bytes)?)
    }
}

/// `error` with every secret masked.
pub(crate) fn masked(error: CapabilityError, masker: &Masker) -> CapabilityError {
    let CapabilityError { code, message, retryable, causes, help } = error;
    CapabilityError {
        code,
        message: masker.text(&message),
        retryable,
        causes: causes.iter().map(|cause| masker.text(cause)).collect(),
        help: help.map(|help| masker.text(&help)),
    }
}
