use std::collections::BTreeSet;
use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use stagewright_model::{EffectClass, PackageManager, Permissions, Reaches};

use super::*;
use crate::attempt::AttemptContext;
use crate::capability::credentials::StageCredentials;
use crate::capability::http::{Http, Quota, RequestBuilder};
use crate::capability::process::{CommandBuilder, Processes};
use crate::capability::registry::Images;
use crate::capability::service::{ReleaseBuilder, Services, StartedReleases};
use crate::capability::workspace::WorkspaceFiles;
use crate::net::OwnOrigins;
use crate::net::client::client;
use crate::net::{SystemLookup, Upstream};
use crate::packages::PackageHosts;
use crate::plugin::{Description, PluginManifest};
use crate::policy::Policy;
use crate::rehearsal::Rehearsal;
use crate::testing::{Backends, TestAttempt, TestLog};

#[tokio::test]
async fn an_announcement_is_masked_and_truncated() {
    let log = TestLog::new();
    log.log.masker().add("hunter22", false);
    let (effects, announced) = log.effects_with_verdict(Call::Run, Ok(()));
    effects.announce("POST https://hunter22@x").await.unwrap();
    effects.announce(&"é".repeat(SHOWN)).await.unwrap();
    assert_eq!(announced.lock().unwrap()[0], "POST https://***@x");
    assert!(announced.lock().unwrap()[1].len() <= SHOWN + "…".len());
    assert_eq!(effects.superseded_failure(), None);
}

#[tokio::test]
async fn observe_may_not_have_effects() {
    let (effects, announced) = TestLog::new().effects_with_verdict(Call::Observe, Ok(()));
    assert_eq!(effects.announce("push local/app").await.unwrap_err().code, ErrorCode::FailedPrecondition);
    assert!(announced.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_effect_that_comes_too_late_decides_how_the_attempt_ends() {
    let superseded = EffectRefused::Superseded("production".into());
    let (effects, _) = TestLog::new().effects_with_verdict(Call::Run, Err(superseded));
    effects.announce("push local/app").await.unwrap_err();
    let failure = effects.superseded_failure().unwrap();
    assert_eq!((failure.kind, failure.retryable), (FailureKind::Superseded, false));
    assert!(failure.message.contains("`production`") && failure.help.unwrap().contains("env status production"));

    let (effects, _) = TestLog::new().effects_with_verdict(Call::Run, Err(EffectRefused::Unrecorded));
    assert_eq!(effects.announce("push local/app").await.unwrap_err().code, ErrorCode::Internal);
    assert_eq!(effects.superseded_failure(), None);
}

/// The grants that decide about effects; `combination` has a bit for each.
fn grants(combination: u32) -> Permissions {
    fn granted<T: std::str::FromStr<Err: std::fmt::Debug>>(combination: u32, bit: u32, entry: &str) -> Vec<T> {
        (combination & (1 << bit) != 0).then(|| entry.parse().unwrap()).into_iter().collect()
    }
    Permissions {
        process: granted(combination, 0, "sh"),
        net: [granted(combination, 1, "cargo"), granted(combination, 2, "http://127.0.0.1:9")].concat(),
        secrets: granted(combination, 3, "token"),
        registry: granted(combination, 4, "local/app"),
        service: granted(combination, 5, "app"),
        write: granted(combination, 6, "."),
        ..Permissions::default()
    }
}

/// Tries every kind of effect, all of which the engine refuses. Returns the interfaces that announced one.
async fn announced(folder: &Path, permissions: &Permissions) -> BTreeSet<&'static str> {
    let log = TestLog::new();
    let hosts = PackageHosts::with(PackageManager::Cargo, "http://packages.example:10");
    let policy = Arc::new(Policy::new("stages.test", permissions, &hosts, Arc::default()));
    let root = Arc::new(Dir::open_ambient_dir(folder, ambient_authority()).unwrap());
    let workspace = WorkspaceFiles::new(root, policy.clone(), 1000);
    let backends = Backends::new(folder);
    let effects = || log.effects_with_verdict(Call::Run, Err(EffectRefused::Unrecorded));
    let mut announced = BTreeSet::new();
    let mut note = |interface, announcements: Arc<std::sync::Mutex<Vec<String>>>| {
        announced.extend((!announcements.lock().unwrap().is_empty()).then_some(interface));
    };

    let (of_processes, announcements) = effects();
    let attempt = TestAttempt::new(folder, permissions.clone(), |config, _| {
        config.environment = [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into();
        config.package_hosts = Arc::new(hosts);
    });
    let mut processes = Processes::for_attempt(&AttemptContext { effects: of_processes, ..attempt.context() });
    if let Ok(mut child) = processes.spawn(CommandBuilder::new("sh".into())).await {
        child.wait().await.unwrap();
    }
    note("process", announcements);

    for url in ["http://127.0.0.1:9", "http://packages.example:10"] {
        let (effects, announcements) = effects();
        let client = client(&Upstream::default(), Arc::new(SystemLookup)).unwrap();
        let (quota, log, own) = (Quota::new(1, 1000, policy.clone()), log.log.clone(), OwnOrigins::default());
        let (policy, workspace) = (policy.clone(), workspace.clone());
        let credentials = StageCredentials::for_attempt(&attempt.context());
        let rehearsal = Rehearsal::none();
        let http = Http { client, policy, workspace, log, own, rehearsal, effects, quota, credentials };
        assert!(http.send(&RequestBuilder::new("POST".into(), url.into())).await.is_err());
        note("http", announcements);
    }

    let (effects, announcements) = effects();
    let (registry, root) = (backends.registry.clone(), folder.to_owned());
    let images = Images { registry, policy: policy.clone(), workspace, root, rehearsal: Rehearsal::none(), effects };
    assert!(images.push("image", "local/app:1").await.is_err());
    assert!(images.copy("local/app:1", "local/app:2").await.is_err());
    note("registry", announcements);

    let (effects, announcements) = log.effects_with_verdict(Call::Run, Err(EffectRefused::Unrecorded));
    let mut services = Services {
        files: None,
        manager: backends.services,
        policy,
        own: OwnOrigins::default(),
        log: log.log.clone(),
        environment: Some("staging".into()),
        fence: Some(1),
        run: "r1".to_owned(),
        rehearsal: Rehearsal::none(),
        effects,
        started: StartedReleases::default(),
    };
    let image = format!("local/app@sha256:{}", "0".repeat(64));
    assert!(services.start(ReleaseBuilder::new("app".into(), image)).await.is_err());
    note("service", announcements);
    announced
}

/// Recovery observes only stages whose class is external, so no other stage may announce an effect.
#[tokio::test]
async fn only_external_stages_can_announce_effects() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("image")).unwrap();
    let mut all = BTreeSet::new();
    for combination in 0..1 << 7 {
        let permissions = grants(combination);
        let announced = announced(folder.path(), &permissions).await;
        for interface in &announced {
            let mut imports = stagewright_model::ImportedFunctions::default();
            imports.insert(interface, ["any".to_owned()]);
            let plugin = Description {
                manifest: PluginManifest::default(),
                digest: String::new(),
                imports,
                contract: None,
                native: false,
                reconciles: false,
            };
            let class = Reaches::of(None, &permissions, plugin.code()).effect_class();
            assert_eq!(class, EffectClass::External, "{interface} with {permissions:?}");
        }
        all.extend(announced);
    }
    assert_eq!(all, BTreeSet::from(["http", "process", "registry", "service"]));
}
