//! `uses = "deploy"`: the plugin that deploys to the target of the stage's environment.

use super::fields::{At, Fields};
use super::stage::Draft;
use super::{PluginNames, list};
use crate::diagnostic::{Problem, Report};
use crate::nearest::nearest;
use crate::plan::{DEPLOY, DEPLOY_PREFIX, PluginRef};

/// The plugin that deploys to a target.
pub(super) fn plugin(target: &str) -> PluginRef {
    match PluginRef::parse(target) {
        PluginRef::Builtin(name) => PluginRef::Builtin(format!("{DEPLOY_PREFIX}{name}")),
        own => own,
    }
}

/// Reports environments whose target no built-in plugin deploys to.
pub(super) fn check(file: Fields<'_>, plugins: &PluginNames, report: &mut Report) {
    for (_, environment) in file.table("environments").entries() {
        let Some(target) = Fields::of(environment).text("target") else { continue };
        let PluginRef::Builtin(name) = plugin(target.value) else { continue };
        // An empty name was reported by the check of the shape.
        if target.value.is_empty() || target.value.contains(':') || plugins.contains(&name) {
            continue;
        }
        report.error(|| {
            let known = || plugins.iter().filter_map(|name| name.strip_prefix(DEPLOY_PREFIX));
            let help = match nearest(target.value, known()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!(
                    "the targets of this version are: {}; for another one, write `path:FOLDER` for a plugin of your own, or \
                     leave `target` out and deploy with `uses = \"command\"`",
                    list(known())
                ),
            };
            let message = format!("no plugin deploys to the target `{}`", target.value);
            Problem::new("stagewright::unknown-target", target.span, message).label("unknown target").help(help)
        });
    }
}

/// Replaces `deploy` by the plugin of the stage's environment.
pub(super) fn resolve(drafts: &mut [Draft<'_>], file: Fields<'_>, report: &mut Report) {
    for draft in drafts {
        let Some(place) = draft.fields.text("uses").filter(|uses| uses.value == DEPLOY) else { continue };
        let environment = draft.stage.environment.as_ref().map(|environment| environment.name.as_str());
        let declared = file.table("environments").entries();
        let declared =
            |name: &str| declared.iter().find(|(declared, _)| declared.value == name).map(|(_, value)| *value);
        let target = match environment.map(|name| (name, declared(name))) {
            None => None,
            // The undeclared environment is reported where its name is.
            Some((_, None)) => continue,
            Some((name, Some(environment))) => Some((name, Fields::of(environment).text("target"))),
        };
        match target {
            Some((_, Some(target))) => draft.stage.uses = plugin(target.value),
            Some((name, None)) => report.error(|| without_target(place, name)),
            None => report.error(|| without_environment(place)),
        }
    }
}

fn without_environment(place: At<&str>) -> Problem {
    Problem::new("stagewright::no-target", place.span, "`deploy` has no target, since the stage has no environment")
        .help(
            "add `environment = \"NAME\"`, whose `target` says where to deploy, or name a plugin, as in `uses = \
             \"deploy-process\"`",
        )
}

fn without_target(place: At<&str>, environment: &str) -> Problem {
    let message = format!("`deploy` has no target, since the environment `{environment}` has none");
    Problem::new("stagewright::no-target", place.span, message)
        .help(format!("add `target = \"process\"`, or another one, to [environments.{environment}]"))
}
