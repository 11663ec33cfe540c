//! `cache`: whether a stage's result may be reused instead of running it again.

use super::fields::{Fields, text};
use crate::diagnostic::{Problem, Report};
use crate::grants::PackageManager;
use crate::imports::AnyImports;
use crate::plan::{CacheUse, Stage, Trust};
use crate::reach::{PluginCode, Reach};
use crate::way_out::WayOut;

/// Reads `cache`. By default, a stage that names its inputs is cached unless it has external effects. `stage` must be
/// complete except for its `cache`.
pub(super) fn read(name: &str, fields: Fields<'_>, stage: &Stage, report: &mut Report) -> CacheUse {
    let Some(given) = fields.get("cache") else {
        let is_cached = !stage.inputs.is_empty() && effect(stage).is_none();
        return if is_cached { CacheUse::ReadWrite } else { CacheUse::Never };
    };
    let requested = match (fields.flag("cache"), text(given)) {
        (Some(true), _) => CacheUse::ReadWrite,
        (_, Some(_)) => CacheUse::Read,
        _ => return CacheUse::Never,
    };
    if let Some(effect) = effect(stage) {
        report.error(|| {
            let message = format!("`{name}` can't be cached: {effect}");
            Problem::new("stagewright::not-cacheable", given.span().into(), message)
                .label("restoring a result would not repeat this effect")
                .help("remove `cache`; to cache the work on this machine, move it to a separate stage before this one")
        });
        return CacheUse::Never;
    }
    requested
}

/// Describes an effect that restoring a result would omit, or a secret that a cache key can't include. The plugin's
/// imports aren't known yet, so it is assumed to import every interface.
fn effect(stage: &Stage) -> Option<String> {
    let code = match stage.trust {
        Trust::Native { .. } => PluginCode::Native,
        Trust::Component => PluginCode::Component(&AnyImports),
    };
    let reaches = stage.reaches(code);
    // Downloading packages isn't an effect, and neither is authenticating to do so.
    let mut beyond =
        reaches.all.iter().filter(|reach| !(reach.way == WayOut::Request && PackageManager::of(reach.entry).is_some()));
    match (beyond.next(), stage.permissions.secrets.iter().find(|secret| secret.opens_handle())) {
        (Some(Reach { way: WayOut::Environment, entry }), _) => Some(format!("it acts on the environment `{entry}`")),
        (Some(Reach { way: WayOut::NativeCode, .. }), _) => {
            Some("its plugin is a native library, which can do anything".to_owned())
        }
        (Some(Reach { way: WayOut::UnsandboxedProgram, .. }), _) => {
            Some("its programs run without a sandbox and can do anything".to_owned())
        }
        (Some(reach), _) => Some(format!("it may {reach}")),
        (None, Some(secret)) => Some(format!("it may use the secret `{secret}`")),
        (None, None) => None,
    }
}
