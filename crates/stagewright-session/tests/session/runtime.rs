//! Sessions that share a plugin runtime.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use stagewright_engine::Outcome;
use stagewright_session::{
    BuiltinPlugins, Compilation, CompileObserver, ErrorKind, GateHandling, Notice, PluginRuntime, RunRequest,
    RuntimeConfig,
};

use crate::TWO_STAGES;
use crate::front_end::{FrontEnd, drive, plugins};

/// The plugins that were compiled.
#[derive(Default)]
struct Compiled(Mutex<Vec<String>>);

impl CompileObserver for Compiled {
    fn compile_started(&self, compilation: Compilation<'_>) {
        self.0.lock().unwrap().push(compilation.plugin.to_owned());
    }
}

fn runtime(plugin_cache: &Path, observer: Arc<dyn CompileObserver>) -> PluginRuntime {
    let config = RuntimeConfig {
        plugin_cache: plugin_cache.to_owned(),
        builtin: BuiltinPlugins { folders: vec![plugins()], ..BuiltinPlugins::default() },
        environment: BTreeMap::new(),
        attempts: 2,
        compile_observer: observer,
    };
    PluginRuntime::new(config).unwrap()
}

#[tokio::test]
async fn sessions_on_two_repositories_share_compiled_plugins() {
    let cache = tempfile::tempdir().unwrap();
    let observer = Arc::new(Compiled::default());
    let runtime = runtime(&cache.path().join("plugins"), observer.clone());
    for _ in 0..2 {
        let front_end = FrontEnd::with_pipeline(TWO_STAGES);
        let session = front_end.session_on(&runtime).unwrap();
        let run = front_end.start(&session, &RunRequest::default()).await;
        assert_eq!(drive(run, GateHandling::Suspend).await.0.conclusion, Some(Outcome::Succeeded));
        let compiling = |notice: &Notice| matches!(notice, Notice::CompilingPlugin { .. });
        assert!(!front_end.notices().iter().any(compiling), "the runtime's observer is notified");
    }
    assert_eq!(*observer.0.lock().unwrap(), ["noop"]);
}

/// A stage could otherwise put a file there that is loaded as a compiled plugin.
#[test]
fn a_plugin_cache_in_the_repository_is_refused() {
    let front_end = FrontEnd::with_pipeline(TWO_STAGES);
    let runtime = runtime(&front_end.root().join("cache"), Arc::new(()));
    let error = front_end.session_on(&runtime).map(drop).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidRequest);
    assert!(error.to_string().contains("is in the repository"), "{error}");
}
