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

/// One use of the engine on a repository: a front end opens it, and starts, resumes and answers runs with it. Cheap to
/// clone; clones are the same session.
///
/// Its async methods need a tokio runtime with I/O, time and blocking threads.
#[derive(Clone)]
pub struct Session {
    pub(crate) repository: Arc<Repository>,
    pub(crate) notices: Arc<dyn Notices>,
    pub(crate) runtime: SharedRuntime,
    /// Opened when it is first needed: what is refused before leaves no state folder.
    store: Arc<Mutex<Option<SharedStore>>>,
}

impl Session {
    /// Finds the repository around [`SessionConfig::directory`]; a folder outside of a repository stands for itself.
    /// Nothing is written.
    ///
    /// # Errors
    /// When the folder can't be entered, or when git would hang on something in its configuration or directory.
    pub fn open(config: SessionConfig, notices: Arc<dyn Notices>) -> Result<Session, SessionError> {
        let repository = Arc::new(locate::repository(config)?);
        Ok(Session { repository, notices, runtime: SharedRuntime::default(), store: Arc::default() })
    }

    /// As [`open`](Session::open), for a front end with sessions on several repositories, which share one `runtime`. Its
    /// plugin cache and its built-in plugins take the place of the session's own, [`SessionConfig::plugins`] included, and
    /// its observer that of [`Notice::CompilingPlugin`](crate::Notice). Runs wait where the runtime allows fewer attempts at
    /// a time than their jobs.
    ///
    /// # Errors
    /// As for [`open`](Session::open); and when the runtime's plugin cache lies in the repository, whose files could then be
    /// taken for compiled plugins.
    pub fn open_with_runtime(
        config: SessionConfig,
        notices: Arc<dyn Notices>,
        runtime: PluginRuntime,
    ) -> Result<Session, SessionError> {
        let mut repository = locate::repository(config)?;
        let cache = &runtime.config().plugin_cache;
        if locate::is_below(cache, &repository.root) {
            let cache = cache.display();
            return Err(SessionError::invalid_request(format!("the plugin cache {cache} lies in the repository"))
                .hint("choose a folder outside of every repository: compiled plugins have the powers of the engine"));
        }
        // Reserved, so that no grant opens it.
        repository.cache.clone_from(&runtime.config().plugin_cache);
        repository.plugins.clone_from(&runtime.config().builtin);
        let runtime = SharedRuntime::given(runtime);
        Ok(Session { repository: Arc::new(repository), notices, runtime, store: Arc::default() })
    }

    /// Where the session works.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// See [`Repository::pipeline`].
    ///
    /// # Errors
    /// As there.
    pub fn pipeline(&self, name: Option<&str>) -> Result<PipelineFile, SessionError> {
        self.repository.pipeline(name)
    }

    /// The session's handle on the state folder, which is made if it doesn't exist.
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

    /// A handle to read the state folder, also where nothing can be written; it makes nothing.
    ///
    /// # Errors
    /// See [`Store::open_read_only`].
    pub fn read_only_store(&self) -> Result<Store, SessionError> {
        Ok(Store::open_read_only(&self.repository.state)?)
    }

    /// Who starts runs and answers gates unless the front end says otherwise: git's `user.name`, else `USER`.
    pub fn user_name(&self) -> String {
        git::user_name(&self.repository.root)
            .or_else(|| self.repository.environment.get("USER").cloned())
            .unwrap_or_else(|| "somebody".to_owned())
    }

    /// What is checked out.
    pub(crate) async fn checked_out(&self) -> Result<GitState, SessionError> {
        let repository = Arc::clone(&self.repository);
        blocking(move || git::read(&repository)).await
    }
}
