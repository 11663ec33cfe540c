//! The plugin runtime that all operations of a session share.

use std::sync::{Arc, Mutex, PoisonError};

use stagewright_plugin_host::{Compilation, CompileObserver, HostError, PluginRuntime, RuntimeConfig};

use crate::error::SessionError;
use crate::notice::{Notice, Notices};
use crate::repository::Repository;

/// The least number of concurrent attempts in a runtime that a session creates. Concurrent runs of the session share
/// it, each with its own number of jobs.
const ATTEMPTS: usize = 64;

/// A session's runtime; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct SharedRuntime {
    current: Arc<Mutex<Option<PluginRuntime>>>,
    /// Whether the front end provided it, and so decided how many attempts can run at the same time.
    is_given: bool,
}

impl SharedRuntime {
    pub(crate) fn given(runtime: PluginRuntime) -> SharedRuntime {
        SharedRuntime { current: Arc::new(Mutex::new(Some(runtime))), is_given: true }
    }

    /// The runtime for a run with the given number of concurrent attempts.
    ///
    /// It is created when it is first needed. If it is too small for the run, a larger one replaces it, so that no run
    /// gets fewer jobs than it was started with. Runs that use the smaller one keep it until they end.
    pub(crate) fn get(
        &self,
        attempts: usize,
        repository: &Repository,
        notices: &Arc<dyn Notices>,
    ) -> Result<PluginRuntime, SessionError> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some(runtime) if self.is_given || runtime.config().attempts >= attempts => Ok(runtime.clone()),
            _ => Ok(current.insert(create(attempts.max(ATTEMPTS), repository, notices)?).clone()),
        }
    }
}

fn create(attempts: usize, repository: &Repository, notices: &Arc<dyn Notices>) -> Result<PluginRuntime, SessionError> {
    let config = RuntimeConfig {
        plugin_cache: repository.cache.clone(),
        builtin: repository.plugins.clone(),
        environment: repository.environment.clone(),
        attempts,
        compile_observer: Arc::new(CompileNotices(Arc::clone(notices))),
    };
    PluginRuntime::new(config).map_err(host_error)
}

/// Converts the error of a host or a runtime that can't be created.
pub(crate) fn host_error(error: HostError) -> SessionError {
    let help = error.help.clone();
    let mut failed = SessionError::internal(error.message.clone()).caused_by(error);
    failed.hints.extend(help);
    failed
}

/// Notifies the front end of compilations.
struct CompileNotices(Arc<dyn Notices>);

impl CompileObserver for CompileNotices {
    fn compile_started(&self, compilation: Compilation<'_>) {
        self.0.notice(&Notice::CompilingPlugin { plugin: compilation.plugin.to_owned() });
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use stagewright_model::Diagnostic;

    use super::*;

    struct Silent;

    impl Notices for Silent {
        fn diagnostics(&self, _: &[&Diagnostic]) {}

        fn notice(&self, _: &Notice) {}
    }

    fn repository(cache: PathBuf) -> Repository {
        Repository {
            current: PathBuf::new(),
            root: PathBuf::new(),
            state: PathBuf::new(),
            plugins: Default::default(),
            cache,
            policy: None,
            program: PathBuf::new(),
            temporary: PathBuf::new(),
            environment: Default::default(),
            cache_environment: Default::default(),
        }
    }

    #[test]
    fn a_runtime_serves_every_run_that_fits_and_a_larger_one_replaces_it() {
        let cache = tempfile::tempdir().unwrap();
        let (repository, notices) = (repository(cache.path().join("plugins")), Arc::new(Silent) as Arc<dyn Notices>);
        let attempts = |shared: &SharedRuntime, requested| {
            let runtime = shared.get(requested, &repository, &notices).unwrap();
            (std::ptr::from_ref(runtime.config()), runtime.config().attempts)
        };
        let own = SharedRuntime::default();
        let first = attempts(&own, 2);
        assert_eq!(first.1, ATTEMPTS);
        assert_eq!(attempts(&own, ATTEMPTS), first);
        let larger = attempts(&own, 2 * ATTEMPTS);
        assert_eq!(larger.1, 2 * ATTEMPTS);
        assert_eq!(attempts(&own, 1), larger);

        let given = SharedRuntime::given(create(1, &repository, &notices).unwrap());
        assert_eq!(attempts(&given, 8).1, 1, "the front end's limit applies");
    }
}
