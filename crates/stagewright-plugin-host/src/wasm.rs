//! wasmtime: the engine, the linker for each version of the contract, and loaded plugins.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use stagewright_engine::{Call, Problem};
use stagewright_model::Interface;
use tokio::sync::{OnceCell, Semaphore};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store, UpdateDeadline};

use crate::aot::AotCache;
use crate::attempt::Attempt;
use crate::builtin::ComponentOrigin;
use crate::contract::{ContractUse, Generation, missing_functions, trap_imports};
use crate::digest::sha256;
use crate::guest::GuestResult;
use crate::inspection::Inspection;
use crate::limits::{MEMORIES, TABLE_ELEMENTS, Ticker};
use crate::observer::{Compilation, CompileObserver};
use crate::plugin::{PluginError, PluginManifest, Requirement};
use crate::{since_0_1, since_0_2};

/// The timeout of `describe` and `validate`, which only compute a result.
const INSPECTION: Duration = Duration::from_secs(10);

/// The most instances at a time for inspections (`describe`, `validate`) of all runs together.
const INSPECTIONS: u32 = 16;

/// Instances in the pool beside those of attempts: for inspections, and for instances whose store is being dropped.
const SPARE: u32 = INSPECTIONS + 8;

/// The most core instances, memories and tables in the pool. Each memory reserves some gigabytes of address space, which
/// costs nothing until it is used.
const PLACES: u32 = 4096;

/// The most tables of a component. Each reserves address space in the pool, and no plugin needs more.
const TABLES: u32 = 64;

/// The most bytes of wasmtime's data for one instance, such as its globals and imports, without its memories.
const INSTANCE_BYTES: usize = 16 << 20;

/// A component, ready to be instantiated.
pub(crate) struct Plugin {
    component: Component,
    guest: ReadyGuest,
    /// `sha256:…` of the component.
    pub(crate) digest: String,
    pub(crate) contract: ContractUse,
}

/// A guest of one version of the contract, ready to be instantiated for attempts.
enum ReadyGuest {
    Since01(since_0_1::GuestSince01),
    Since02(since_0_2::GuestSince02),
}

/// The instance of a guest that is asked about itself.
enum InspectedGuest {
    Since01(since_0_1::InspectedSince01),
    Since02(since_0_2::InspectedSince02),
}

impl Plugin {
    /// Instantiates the component and calls the requested function, which it must export.
    pub(crate) async fn call(&self, call: Call, store: &mut Store<Attempt>) -> GuestResult {
        match &self.guest {
            ReadyGuest::Since01(guest) => guest.call(call, store).await,
            ReadyGuest::Since02(guest) => guest.call(call, store).await,
        }
    }
}

/// Loads each component once.
pub(crate) struct Wasm {
    engine: Engine,
    /// The interfaces of all versions of the contract.
    linker: Linker<Attempt>,
    cache: AotCache,
    observer: Arc<dyn CompileObserver>,
    ticker: Ticker,
    loaded: Mutex<HashMap<String, Arc<OnceCell<Arc<Plugin>>>>>,
    /// One permit for each inspection that the pool has room for.
    inspections: Semaphore,
}

/// The only engine configuration. Components compiled under another one can't be loaded; the number of `attempts` at a
/// time is not part of that.
pub(crate) fn engine(attempts: usize) -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config.epoch_interruption(true);
    // The same result on every machine.
    config.relaxed_simd_deterministic(true);
    // A pool reuses the memory of instances: mapping and unmapping it for each costs more than running a small stage.
    let mut pooled = config.clone();
    pooled.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(attempts)));
    // Where the pool's address space can't be reserved, as under a low `ulimit -v`, each instance maps its own.
    Engine::new(&pooled).or_else(|_| Engine::new(&config))
}

/// The sizes of the pool. They only say what fits into a slot; [`MemoryLimiter`](crate::limits::MemoryLimiter) enforces the limits of an instance.
fn pool(attempts: usize) -> PoolingAllocationConfig {
    // No more stacks than needed: each costs a system call when the engine is created, and another when it is dropped.
    let stacks = u32::try_from(attempts).unwrap_or(u32::MAX).saturating_add(SPARE);
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(stacks)
        .total_core_instances(PLACES)
        .total_memories(PLACES.min(stacks.saturating_mul(MEMORIES)))
        .total_tables(PLACES.min(stacks.saturating_mul(TABLES)))
        .total_stacks(stacks)
        .max_memories_per_component(MEMORIES)
        .max_memories_per_module(MEMORIES)
        .max_tables_per_component(TABLES)
        .max_tables_per_module(TABLES)
        .max_core_instance_size(INSTANCE_BYTES)
        .max_component_instance_size(INSTANCE_BYTES)
        .max_memory_size(1 << 32)
        .table_elements(TABLE_ELEMENTS)
        // Clearing this much memory is cheaper than returning it to the kernel and faulting it in again.
        .linear_memory_keep_resident(1 << 20)
        .table_keep_resident(1 << 16);
    pool
}

impl Wasm {
    /// `cache`: the folder of compiled components. `observer`, `attempts`: see [`crate::RuntimeConfig`].
    pub(crate) fn new(cache: &Path, observer: Arc<dyn CompileObserver>, attempts: usize) -> wasmtime::Result<Wasm> {
        let engine = engine(attempts)?;
        Ok(Wasm {
            linker: linker(&engine)?,
            cache: AotCache::new(cache),
            observer,
            ticker: Ticker::default(),
            loaded: Mutex::default(),
            inspections: Semaphore::new(INSPECTIONS as usize),
            engine,
        })
    }

    /// Loads a component, whose content must have the digest. `name` is for messages.
    pub(crate) async fn load(
        self: &Arc<Self>,
        name: &str,
        origin: &ComponentOrigin,
        digest: String,
    ) -> Result<Arc<Plugin>, PluginError> {
        let cell = {
            let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
            loaded.entry(digest.clone()).or_default().clone()
        };
        // When several runs need the component at the same time, one loads it and the others wait for that. After a
        // failure the cell stays empty, so that the next one tries again.
        let plugin = cell.get_or_try_init(|| async {
            let (wasm, origin, name) = (self.clone(), origin.clone(), name.to_owned());
            let loading = tokio::task::spawn_blocking(move || wasm.load_now(&name, &origin, digest));
            loading.await.unwrap_or_else(|error| Err(PluginError::new("could not load a plugin").caused_by([error])))
        });
        plugin.await.cloned()
    }

    fn load_now(&self, name: &str, origin: &ComponentOrigin, digest: String) -> Result<Arc<Plugin>, PluginError> {
        let bad = |error: &wasmtime::Error| {
            PluginError::new(format!("plugin `{name}`: {} is not a stage component", origin.describe()))
                .caused_by(error.chain())
                .with_help("build it with `stagewright plugin build`, and check it with `stagewright plugin check`")
        };
        let component = match self.cache.known(&self.engine, &digest) {
            // The compiled component is found by its digest, so it isn't read, and a file may have changed since.
            Some(component) => component,
            None => {
                let bytes = read(name, origin, &digest)?;
                self.compile(name, &digest, &bytes, bad)?
            }
        };
        let contract = ContractUse::of(name, &component)?;
        let ready = self
            .linker
            .instantiate_pre(&component)
            .map_err(|error| missing_functions(name, &component, &self.linker).unwrap_or_else(|| bad(&error)))?;
        let guest = match contract.generation {
            Generation::Since01 => since_0_1::GuestSince01::new(ready, contract.reconciles()).map(ReadyGuest::Since01),
            Generation::Since02 => since_0_2::GuestSince02::new(ready, &contract).map(ReadyGuest::Since02),
        };
        let guest = guest.map_err(|error| bad(&error))?;
        Ok(Arc::new(Plugin { component, guest, digest, contract }))
    }

    /// Compiles a component, and notifies the observer of the start and the end.
    fn compile(
        &self,
        name: &str,
        digest: &str,
        bytes: &[u8],
        failed: impl FnOnce(&wasmtime::Error) -> PluginError,
    ) -> Result<Component, PluginError> {
        let compilation = Compilation { plugin: name, digest };
        self.observer.compile_started(compilation);
        let started = Instant::now();
        let compiled = self.cache.compile(&self.engine, digest, bytes).map_err(|error| failed(&error));
        self.observer.compile_finished(compilation, compiled.as_ref().map(|_| started.elapsed()));
        compiled
    }

    /// A store whose guest yields at each tick of the epoch, so that the future that polls it can be dropped.
    pub(crate) fn store<T: Send>(
        &self,
        data: T,
        limiter: impl (FnMut(&mut T) -> &mut dyn wasmtime::ResourceLimiter) + Send + Sync + 'static,
    ) -> Store<T> {
        self.ticker.start(&self.engine);
        let mut store = Store::new(&self.engine, data);
        store.limiter(limiter);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|_| Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))));
        store
    }

    /// Calls `describe`, during which every import but [`Inspection::FOR_DESCRIPTION`] traps.
    pub(crate) async fn describe(&self, name: &str, plugin: &Plugin) -> Result<PluginManifest, PluginError> {
        let text = self
            .inspect(plugin, Inspection::FOR_DESCRIPTION, Json::Null, async |guest, store| match guest {
                InspectedGuest::Since01(guest) => guest.describe(store).await,
                InspectedGuest::Since02(guest) => guest.describe(store).await,
            })
            .await
            .map_err(|error| inspection_failed(name, "describe", &error))?;
        serde_json::from_str(&text).map_err(|error| {
            PluginError::new(format!("plugin `{name}`: `describe` returned an invalid manifest")).caused_by([error])
        })
    }

    /// Calls `validate` on a `with` table, during which every import but [`Inspection::FOR_CONFIG`] traps.
    pub(crate) async fn validate(
        &self,
        name: &str,
        plugin: &Plugin,
        config: Json,
    ) -> Result<Vec<Problem>, PluginError> {
        self.inspect(plugin, Inspection::FOR_CONFIG, config, async |guest, store| match guest {
            InspectedGuest::Since01(guest) => guest.validate(store).await,
            InspectedGuest::Since02(guest) => guest.validate(store).await,
        })
        .await
        .map_err(|error| inspection_failed(name, "validate", &error))
    }

    /// Calls `requirements` on a `with` table, like [`Wasm::validate`]; nothing if the plugin doesn't export it.
    pub(crate) async fn requirements(
        &self,
        name: &str,
        plugin: &Plugin,
        config: Json,
    ) -> Result<Vec<Requirement>, PluginError> {
        if !plugin.contract.has_requirements() {
            return Ok(Vec::new());
        }
        self.inspect(plugin, Inspection::FOR_CONFIG, config, async |guest, store| match guest {
            InspectedGuest::Since01(_) => Ok(Vec::new()),
            InspectedGuest::Since02(guest) => guest.requirements(store).await,
        })
        .await
        .map_err(|error| inspection_failed(name, "requirements", &error))
    }

    /// Calls a function that only computes a result. Calls of other interfaces than the `provided` ones trap.
    async fn inspect<R>(
        &self,
        plugin: &Plugin,
        provided: &[Interface],
        config: Json,
        call: impl AsyncFnOnce(&InspectedGuest, &mut Store<Inspection>) -> wasmtime::Result<R>,
    ) -> wasmtime::Result<R> {
        let _room = self.inspections.acquire().await?;
        let generation = plugin.contract.generation;
        let mut linker = Linker::new(&self.engine);
        for interface in provided {
            match generation {
                Generation::Since01 => since_0_1::link_inspection(*interface, &mut linker)?,
                Generation::Since02 => since_0_2::link_inspection(*interface, &mut linker)?,
            }
        }
        trap_imports(&plugin.component, &mut linker, provided)?;
        let ready = linker.instantiate_pre(&plugin.component)?;
        let mut store = self.store(Inspection::new(config), |inspection| &mut inspection.limiter);
        let work = async {
            let guest = match generation {
                Generation::Since01 => {
                    InspectedGuest::Since01(since_0_1::InspectedSince01::new(ready, &mut store).await?)
                }
                Generation::Since02 => {
                    let requires = plugin.contract.has_requirements();
                    InspectedGuest::Since02(since_0_2::InspectedSince02::new(ready, requires, &mut store).await?)
                }
            };
            call(&guest, &mut store).await
        };
        match tokio::time::timeout(INSPECTION, work).await {
            Ok(result) => result,
            Err(_) => Err(wasmtime::format_err!("the call took longer than {INSPECTION:?}")),
        }
    }
}

/// A linker with all interfaces of all versions of the contract.
fn linker(engine: &Engine) -> wasmtime::Result<Linker<Attempt>> {
    let mut linker = Linker::new(engine);
    for interface in Interface::ALL {
        since_0_1::link(interface, &mut linker)?;
        since_0_2::link(interface, &mut linker)?;
    }
    Ok(linker)
}

/// Reads a component whose content must have this digest.
fn read(name: &str, origin: &ComponentOrigin, digest: &str) -> Result<Vec<u8>, PluginError> {
    let bytes = origin
        .read()
        .map_err(|error| PluginError::new(format!("plugin `{name}`: {} can't be read: {error}", origin.describe())))?;
    if sha256(&bytes) == digest {
        return Ok(bytes);
    }
    Err(match origin {
        ComponentOrigin::File(file) => {
            PluginError::new(format!("plugin `{name}`: `{}` changed while it was being loaded", file.display()))
                .with_help("run again")
        }
        ComponentOrigin::Embedded(_) => {
            PluginError::new(format!("plugin `{name}`: the component in this program is damaged"))
                .with_help("install the program again")
        }
    })
}

fn inspection_failed(name: &str, call: &str, error: &wasmtime::Error) -> PluginError {
    PluginError::new(format!("plugin `{name}`: `{call}` failed")).caused_by(error.chain())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::EmbeddedPlugin;

    #[tokio::test]
    async fn a_file_that_changed_after_it_was_hashed_is_not_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mine.wasm");
        std::fs::write(&file, "another").unwrap();
        let wasm = Arc::new(Wasm::new(&folder.path().join("cache"), Arc::new(()), 1).unwrap());
        let error = wasm.load("mine", &ComponentOrigin::File(file), sha256(b"the first")).await.err().unwrap();
        assert!(error.message.contains("changed while it was being loaded"), "{error:?}");
    }

    #[tokio::test]
    async fn an_embedded_component_that_does_not_have_its_digest_is_not_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let wasm = Arc::new(Wasm::new(&folder.path().join("cache"), Arc::new(()), 1).unwrap());
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut encoder, b"another").unwrap();
        let digest = sha256(b"the first");
        let embedded =
            EmbeddedPlugin { name: "noop", digest: digest.clone().leak(), gzip: encoder.finish().unwrap().leak() };
        let error = wasm.load("noop", &ComponentOrigin::Embedded(embedded), digest).await.err().unwrap();
        assert!(error.message.ends_with("the component in this program is damaged"), "{error:?}");
    }
}
