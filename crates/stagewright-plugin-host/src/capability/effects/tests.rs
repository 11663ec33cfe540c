use std::collections::BTreeSet;
use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use stagewright_model::{EffectClass, PackageManager, Permissions, Reaches};

use super::*;
use crate::attempt::AttemptContext;
use crate::capability::http::{Http, Quota, RequestBuilder};
use crate::capability::process::{CommandBuilder, Processes};
use crate::capability::registry::Images;
use crate::capability::service::{ReleaseBuilder, Services, Started};
use crate::capability::workspace::Workspace;
use crate::net::OwnOrigins;
use crate::net::client::client;
use crate::net::{SystemLookup, Upstream};
use crate::packages::PackageHosts;
use crate::plugin::{Description, Manifest};
use crate::policy::Policy;
use crate::rehearsal::Rehearsal;
use crate::testing::{Backends, TestAttempt, TestLog};

#[tokio::test]
async fn an_effect_is_told_without_secrets_and_in_a_few_words() {
    let log = TestLog::new();
    log.log.masker().add("hunter22", false);
    let (effects, told) = log.judged_effects(Call::Run, Ok(()));
    effects.announce("POST https://hunter22@x").await.unwrap();
    effects.announce(&"é".repeat(SHOWN)).await.unwrap();
    assert_eq!(told.lock().unwrap()[0], "POST https://***@x");
    assert!(told.lock().unwrap()[1].len() <= SHOWN + "…".len());
    assert_eq!(effects.too_late(), None);
}

#[tokio::test]
async fn looking_changes_nothing() {
    let (effects, told) = TestLog::new().judged_effects(Call::Observe, Ok(()));
    assert_eq!(effects.announce("push local/app").await.unwrap_err().code, ErrorCode::FailedPrecondition);
    assert!(told.lock().unwrap().is_empty());
}

#[tokio::test]
async fn one_that_comes_too_late_ends_the_attempt_whatever_the_plugin_makes_of_it() {
    let superseded = EffectRefused::Superseded("production".into());
    let (effects, _) = TestLog::new().judged_effects(Call::Run, Err(superseded));
    effects.announce("push local/app").await.unwrap_err();
    let failure = effects.too_late().unwrap();
    assert_eq!((failure.kind, failure.retryable), (FailureKind::Superseded, false));
    assert!(failure.message.contains("`production`") && failure.help.unwrap().contains("env status production"));

    let (effects, _) = TestLog::new().judged_effects(Call::Run, Err(EffectRefused::Unrecorded));
    assert_eq!(effects.announce("push local/app").await.unwrap_err().code, ErrorCode::Internal);
    assert_eq!(effects.too_late(), None);
}

/// The grants that decide about effects, in every combination.
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

/// Asks for every effect that there is, of an engine that refuses them all. Gives the interfaces that announced one.
async fn announced(folder: &Path, permissions: &Permissions) -> BTreeSet<&'static str> {
    let log = TestLog::new();
    let hosts = PackageHosts::with(PackageManager::Cargo, "http://packages.example:10");
    let policy = Arc::new(Policy::new("stages.test", permissions, &hosts, Arc::default()));
    let root = Arc::new(Dir::open_ambient_dir(folder, ambient_authority()).unwrap());
    let workspace = Workspace::new(root, policy.clone(), 1000);
    let backends = Backends::new(folder);
    let effects = || log.judged_effects(Call::Run, Err(EffectRefused::Unrecorded));
    let mut announced = BTreeSet::new();
    let mut note = |interface, told: Arc<std::sync::Mutex<Vec<String>>>| {
        announced.extend((!told.lock().unwrap().is_empty()).then_some(interface));
    };

    let (asked, told) = effects();
    let attempt = TestAttempt::new(folder, permissions.clone(), |config, _| {
        config.environment = [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into();
        config.package_hosts = Arc::new(hosts);
    });
    let mut processes = Processes::for_attempt(&AttemptContext { effects: asked, ..attempt.context() });
    if let Ok(mut child) = processes.spawn(CommandBuilder::new("sh".into())).await {
        child.wait().await.unwrap();
    }
    note("process", told);

    for url in ["http://127.0.0.1:9", "http://packages.example:10"] {
        let (effects, told) = effects();
        let client = client(&Upstream::default(), Arc::new(SystemLookup)).unwrap();
        let (quota, log, own) = (Quota::new(1, 1000, policy.clone()), log.log.clone(), OwnOrigins::default());
        let (policy, workspace) = (policy.clone(), workspace.clone());
        let http = Http { client, policy, workspace, log, own, rehearsal: Rehearsal::none(), effects, quota };
        assert!(http.send(&RequestBuilder::new("POST".into(), url.into())).await.is_err());
        note("http", told);
    }

    let (effects, told) = effects();
    let (registry, root) = (backends.registry.clone(), folder.to_owned());
    let images = Images { registry, policy: policy.clone(), workspace, root, rehearsal: Rehearsal::none(), effects };
    assert!(images.push("image", "local/app:1").await.is_err());
    assert!(images.copy("local/app:1", "local/app:2").await.is_err());
    note("registry", told);

    let (effects, told) = log.judged_effects(Call::Run, Err(EffectRefused::Unrecorded));
    let mut services = Services {
        files: None,
        manager: backends.services,
        policy,
        own: OwnOrigins::default(),
        log: log.log.clone(),
        environment: Some("staging".into()),
        fence: Some(1),
        rehearsal: Rehearsal::none(),
        effects,
        started: Started::default(),
    };
    let image = format!("local/app@sha256:{}", "0".repeat(64));
    assert!(services.start(ReleaseBuilder::new("app".into(), image)).await.is_err());
    note("service", told);
    announced
}

/// Recovery asks only about stages that are external, so that no other may have an effect that is announced.
#[tokio::test]
async fn the_effect_class_bounds_whatever_is_announced() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("image")).unwrap();
    let mut all = BTreeSet::new();
    for combination in 0..1 << 7 {
        let permissions = grants(combination);
        let announced = announced(folder.path(), &permissions).await;
        for interface in &announced {
            let plugin = Description {
                manifest: Manifest::default(),
                digest: String::new(),
                interfaces: BTreeSet::from([(*interface).to_owned()]),
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
