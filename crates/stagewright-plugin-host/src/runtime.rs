//! The state that all runs on a machine share: wasmtime's engine with its pool of instances, loaded components and native
//! libraries, descriptions of plugins and their findings, and the connections to other hosts.
//!
//! A run passes in references to plugins and where to look for them ([`PluginSource`]), and gets loaded plugins and
//! descriptions. Everything that is kept here is keyed by a digest of its content, so that it is the same for every run.
//!
//! Architecture invariant: workspaces, grants and values of secrets are never kept here; they belong to a run
//! ([`PluginHost`](crate::PluginHost)).

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use serde_json::Value as Json;
use stagewright_engine::Problem;
use stagewright_model::{PluginRef, Trust};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::builtin::ComponentOrigin;
use crate::contract::ContractUse;
use crate::host::HostError;
use crate::inspected::InspectionCache;
use crate::native::NativeLibraries;
use crate::net::outbound::Outbound;
use crate::plugin::{Description, PluginError, Requirement};
use crate::resolve::{PluginResolver, PluginSource};
use crate::wasm::{Plugin, Wasm};

mod config;

pub use config::RuntimeConfig;

/// The state that all runs of a process share; clones are the same runtime. A process needs only one.
#[derive(Clone)]
pub struct PluginRuntime(Arc<RuntimeState>);

struct RuntimeState {
    config: RuntimeConfig,
    /// Created when the first component is loaded, since a run whose results are all cached never loads one.
    wasm: OnceLock<Result<Arc<Wasm>, PluginError>>,
    /// One permit for each attempt that wasmtime's pool has room for.
    room: Arc<Semaphore>,
    inspected: InspectionCache,
    natives: Arc<NativeLibraries>,
    resolver: PluginResolver,
    outbound: Outbound,
}

impl PluginRuntime {
    /// Creates the plugin cache. What takes longer, such as wasmtime's engine, is created on first use.
    ///
    /// # Errors
    /// When a proxy variable of the environment is invalid.
    pub fn new(config: RuntimeConfig) -> Result<PluginRuntime, HostError> {
        let outbound = Outbound::new(&config.environment).map_err(|error| HostError {
            message: "the proxy variables of the environment are invalid".to_owned(),
            help: Some("check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY".to_owned()),
            source: error.into(),
        })?;
        let config = RuntimeConfig { attempts: config.attempts.clamp(1, Semaphore::MAX_PERMITS), ..config };
        Ok(PluginRuntime(Arc::new(RuntimeState {
            wasm: OnceLock::new(),
            room: Arc::new(Semaphore::new(config.attempts)),
            inspected: InspectionCache::new(&config.plugin_cache.join("inspected")),
            natives: Arc::default(),
            resolver: PluginResolver::new(config.builtin.clone(), config.plugin_cache.join("pulled")),
            outbound,
            config,
        })))
    }

    /// The configuration that the runtime was created with.
    pub fn config(&self) -> &RuntimeConfig {
        &self.0.config
    }

    /// Saves the descriptions and findings of components, so that a later process with the same plugin cache doesn't have
    /// to call them again.
    pub fn save_answers(&self) {
        self.0.inspected.save();
    }

    /// Waits for room for one more attempt on a component. The room is released when the permit is dropped.
    pub(crate) async fn room(&self) -> OwnedSemaphorePermit {
        match Arc::clone(&self.0.room).acquire_owned().await {
            Ok(permit) => permit,
            // The semaphore is never closed.
            Err(_) => std::future::pending().await,
        }
    }

    pub(crate) fn outbound(&self) -> &Outbound {
        &self.0.outbound
    }

    pub(crate) fn natives(&self) -> &Arc<NativeLibraries> {
        &self.0.natives
    }

    pub(crate) fn wasm(&self) -> Result<&Arc<Wasm>, PluginError> {
        let RuntimeConfig { plugin_cache, compile_observer, attempts, .. } = &self.0.config;
        let created = self.0.wasm.get_or_init(|| {
            Wasm::new(&plugin_cache.join("compiled"), Arc::clone(compile_observer), *attempts)
                .map(Arc::new)
                .map_err(|error| PluginError::new("wasmtime can't be set up on this machine").caused_by(error.chain()))
        });
        created.as_ref().map_err(Clone::clone)
    }

    /// Loads the component that `uses` names.
    pub(crate) async fn component(
        &self,
        uses: &PluginRef,
        source: PluginSource<'_>,
    ) -> Result<Arc<Plugin>, PluginError> {
        let (component, digest) = self.locate(uses, source).await?;
        self.load(uses, &component, digest).await
    }

    /// A native library's file.
    pub(crate) fn library(&self, uses: &PluginRef, source: PluginSource<'_>) -> Result<PathBuf, PluginError> {
        self.0.resolver.library(uses, source)
    }

    /// See [`PluginHost::describe`](crate::PluginHost::describe).
    pub(crate) async fn describe(
        &self,
        uses: &PluginRef,
        trust: &Trust,
        source: PluginSource<'_>,
    ) -> Result<Description, PluginError> {
        match trust {
            Trust::Component => {
                let (component, digest) = self.locate(uses, source).await?;
                if let Some(known) = self.0.inspected.description(&digest) {
                    return Ok(known);
                }
                let plugin = self.load(uses, &component, digest).await?;
                let manifest = self.wasm()?.describe(&uses.to_string(), &plugin).await?;
                let reconciles = plugin.contract.reconciles();
                let ContractUse { imports, version: contract, .. } = plugin.contract.clone();
                let digest = plugin.digest.clone();
                let described = Description { manifest, digest, imports, contract, native: false, reconciles };
                self.0.inspected.keep_description(&described);
                Ok(described)
            }
            Trust::Native { digest } => {
                let library = self.library(uses, source)?;
                let manifest = self.0.natives.describe(&uses.to_string(), library, digest).await?;
                let (digest, imports) = (digest.clone(), Default::default());
                Ok(Description { manifest, digest, imports, contract: None, native: true, reconciles: false })
            }
        }
    }

    /// The problems that a component finds in a `with` table, whose templates it sees as they are written.
    pub(crate) async fn validate(
        &self,
        uses: &PluginRef,
        config: &Json,
        source: PluginSource<'_>,
    ) -> Result<Vec<Problem>, PluginError> {
        let (component, digest) = self.locate(uses, source).await?;
        if let Some(known) = self.0.inspected.findings(&digest, config) {
            return Ok(known);
        }
        // Stored under the digest of the plugin that was loaded, and not of the file, which may have changed by now.
        let plugin = self.load(uses, &component, digest).await?;
        let found = self.wasm()?.validate(&uses.to_string(), &plugin, config.clone()).await?;
        self.0.inspected.keep_findings(&plugin.digest, config, &found);
        Ok(found)
    }

    /// The grants that a component says a `with` table needs, whose templates it sees as they are written. Empty
    /// if it doesn't say.
    pub(crate) async fn requirements(
        &self,
        uses: &PluginRef,
        config: &Json,
        source: PluginSource<'_>,
    ) -> Result<Vec<Requirement>, PluginError> {
        let (component, digest) = self.locate(uses, source).await?;
        if let Some(known) = self.0.inspected.requirements(&digest, config) {
            return Ok(known);
        }
        let plugin = self.load(uses, &component, digest).await?;
        let required = self.wasm()?.requirements(&uses.to_string(), &plugin, config.clone()).await?;
        self.0.inspected.keep_requirements(&plugin.digest, config, &required);
        Ok(required)
    }

    /// Finds a component and the digest of its content.
    async fn locate(
        &self,
        uses: &PluginRef,
        source: PluginSource<'_>,
    ) -> Result<(ComponentOrigin, String), PluginError> {
        let resolver = &self.0.resolver;
        let component = resolver.component(uses, source).await?;
        let digest = resolver.digest(&component).map_err(|error| {
            PluginError::new(format!("plugin `{uses}`: {} can't be read: {error}", component.describe()))
        })?;
        Ok((component, digest))
    }

    async fn load(
        &self,
        uses: &PluginRef,
        component: &ComponentOrigin,
        digest: String,
    ) -> Result<Arc<Plugin>, PluginError> {
        self.wasm()?.load(&uses.to_string(), component, digest).await
    }
}
