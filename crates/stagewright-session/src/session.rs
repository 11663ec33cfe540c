//! One use of the engine on a repository.

use std::sync::{Arc, Mutex, PoisonError};

use stagewright_engine::GitState;
use stagewright_plugin_host::PluginRuntime;
use stagewright_store::Store;

use crate::blocking::blocking;
use crate::config::SessionConfig;
use crate::error::SessionError;
use crate::git;
use crate::locate;
use crate::notice::Notices;
use crate::plugin_runtime::SharedRuntime;
use crate::repository::{PipelineFile, Repository};
use crate::store::SharedStore;

/// One use of the engine on a repository. A front end opens it, and starts, resumes and answers runs with it. Cheap to
/// clone; clones share the same session.
///
/// Its async methods need a tokio runtime with I/O, time and blocking threads.
#[derive(Clone)]
pub struct Session {
    pub(crate) repository: Arc<Repository>,
    pub(crate) notices: Arc<dyn Notices>,
    pub(crate) runtime: SharedRuntime,
    /// Opened when it is first needed, so that a request that is refused before creates no state folder.
    store: Arc<Mutex<Option<SharedStore>>>,
}

impl Session {
    /// Opens a session on the repository that contains [`SessionConfig::directory`], or on that folder if it isn't in a
    /// repository. Nothing is written.
    ///
    /// # Errors
    /// If the folder can't be read, or if git would hang on something in its configuration or directory.
    pub fn open(config: SessionConfig, notices: Arc<dyn Notices>) -> Result<Session, SessionError> {
        let repository = Arc::new(locate::repository(config)?);
        Ok(Session { repository, notices, runtime: SharedRuntime::default(), store: Arc::default() })
    }

    /// Like [`open`](Session::open), for a front end with sessions on several repositories that share one `runtime`.
    /// The plugin cache and the built-in plugins of the runtime replace those of the session, including
    /// [`SessionConfig::plugins`], and its observer replaces [`Notice::CompilingPlugin`](crate::Notice). Attempts wait
    /// if the runtime allows fewer than a run has jobs.
    ///
    /// # Errors
    /// As for [`open`](Session::open), and if the runtime's plugin cache is in the repository, where stages could forge
    /// compiled plugins.
    pub fn open_with_runtime(
        config: SessionConfig,
        notices: Arc<dyn Notices>,
        runtime: PluginRuntime,
    ) -> Result<Session, SessionError> {
        let mut repository = locate::repository(config)?;
        let cache = &runtime.config().plugin_cache;
        if locate::is_below(cache, &repository.root) {
            let cache = cache.display();
            return Err(SessionError::invalid_request(format!("the plugin cache {cache} is in the repository")).hint(
                "choose a folder outside of every repository, because compiled plugins have the powers of the engine",
            ));
        }
        // Reserve it, so that no grant includes it.
        repository.cache.clone_from(&runtime.config().plugin_cache);
        repository.plugins.clone_from(&runtime.config().builtin);
        let runtime = SharedRuntime::given(runtime);
        Ok(Session { repository: Arc::new(repository), notices, runtime, store: Arc::default() })
    }

    /// The paths and variables of the session.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// See [`Repository::pipeline`].
    ///
    /// # Errors
    /// As for [`Repository::pipeline`].
    pub fn pipeline(&self, name: Option<&str>) -> Result<PipelineFile, SessionError> {
        self.repository.pipeline(name)
    }

    /// The session's handle on the state folder, which is created if it doesn't exist.
    ///
    /// # Errors
    /// See [`Store::open`].
    pub fn store(&self) -> Result<SharedStore, SessionError> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = &*store {
            return Ok(store.clone());
        }
        Ok(store.insert(SharedStore::open(&self.repository.state)?).clone())
    }

    /// Opens the state folder for reading only. Nothing is created or written.
    ///
    /// # Errors
    /// See [`Store::open_read_only`].
    pub fn read_only_store(&self) -> Result<Store, SessionError> {
        Ok(Store::open_read_only(&self.repository.state)?)
    }

    /// The name of the user who starts runs and answers gates by default: git's `user.name`, or `USER`.
    pub fn user_name(&self) -> String {
        git::user_name(&self.repository.root)
            .or_else(|| self.repository.environment.get("USER").cloned())
            .unwrap_or_else(|| "unknown".to_owned())
    }

    /// The state of the checkout.
    pub(crate) async fn checked_out(&self) -> Result<GitState, SessionError> {
        let repository = Arc::clone(&self.repository);
        blocking(move || git::read(&repository)).await
    }

    /// See [`git::base`].
    pub(crate) async fn base(&self) -> Result<Option<String>, SessionError> {
        let repository = Arc::clone(&self.repository);
        blocking(move || git::base(&repository)).await
    }
}
