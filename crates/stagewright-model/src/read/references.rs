//! Checks that what expressions and stages refer to exists, and that stages only read results that are final by then.

mod grants;

use std::collections::{BTreeSet, HashSet};

use super::fields::{At, Fields};
use super::head::Head;
use super::order::{Names, Order, Referrers};
use super::permissions::PermissionSets;
use super::stage::Draft;
use super::uses::{Use, Visibility};
use super::{PluginNames, list, place, regions, undeclared};
use crate::diagnostic::{Problem, Report};
use crate::expression::{
    ENVIRONMENT_FIELDS, MATRIX_STAGE_FIELDS, ROOTS, ReferenceStep, STAGE_FIELDS, VariableReference, fields_of,
};
use crate::nearest::nearest;
use crate::plan::{DEPLOY, OutputRead, PluginRef, Region, StageKind};
use crate::span::SourceSpan;

/// Everything that names are looked up in.
pub(super) struct KnownNames<'k, 't> {
    pub(super) file: &'k str,
    pub(super) head: &'k Head<'t>,
    pub(super) sets: &'k PermissionSets<'t>,
    /// `[defaults.permissions]`.
    pub(super) defaults: Fields<'t>,
    pub(super) drafts: &'k [Draft<'t>],
    pub(super) names: &'k Names<'t>,
    pub(super) plugins: &'k PluginNames,
}

/// Checks the pipeline's own expressions, then each stage, then that stages need those whose results they read. Warns
/// of secrets and environments that aren't used. Returns the outputs that expressions read.
pub(super) fn check(
    known: &KnownNames<'_, '_>,
    pipeline_uses: &[Use],
    order: &Order,
    report: &mut Report,
) -> Vec<OutputRead> {
    for used in pipeline_uses {
        for reference in used.expression.references() {
            known.check_reference(used, reference, None, report);
        }
    }
    let mut referrers = Referrers::new();
    let mut used_names = HashSet::new();
    let mut output_reads = Vec::new();
    known.check_credentials(&mut used_names, report);
    known.check_region_credentials(report);
    for permissions in known.sets.declared().chain([known.defaults]) {
        known.check_secrets(permissions, &mut used_names, report);
        known.check_credential_names(permissions, &mut used_names, report);
    }
    for (position, draft) in known.drafts.iter().enumerate() {
        known.check_plugin(draft, report);
        known.check_grants(draft, &mut used_names, report);
        for used in &draft.uses {
            for reference in used.expression.references() {
                known.check_reference(used, reference, Some(position), report);
                used_names.extend(known.environment_read(reference));
                output_reads.extend(known.output_read(used, reference));
                if let Some(target) = known.required_stage(reference, position) {
                    let span = known.span(used, reference);
                    referrers.entry(target).or_default().push((position, span));
                }
            }
        }
    }
    for (position, target, span) in order.not_after(&referrers) {
        report.error(|| not_upstream(known.drafts[position].name.value, known.drafts[target].name.value, span));
    }
    for (table, name) in known.head.declared.iter().filter(|(table, name)| !used_names.contains(&(*table, name.value)))
    {
        let (what, help) = match *table {
            "secrets" => ("secret", "remove it, or name it in the `permissions.secrets` of a stage"),
            "credentials" => ("credential", "remove it, or name it in the `permissions.credentials` of a stage"),
            _ => ("environment", "remove it, or name it in the `environment` of the stage that deploys to it"),
        };
        let message = format!("no stage uses the {what} `{}`", name.value);
        report.warning(Problem::new("stagewright::unused", name.span, message).help(help));
    }
    output_reads
}

impl<'t> KnownNames<'_, 't> {
    fn check_plugin(&self, draft: &Draft<'t>, report: &mut Report) {
        let (PluginRef::Builtin(name), Some(place)) = (&draft.stage.uses, draft.fields.text("uses")) else { return };
        // Names that can't be plugins were reported by the check of the shape.
        if name.is_empty() || name.contains([':', '$']) || self.plugins.contains(name) {
            return;
        }
        // Names that a target stands for were reported there.
        if place.value == DEPLOY {
            return;
        }
        report.error(|| {
            let help = match nearest(name, self.plugins.iter()) {
                Some(name) => format!("did you mean `{name}`?"),
                None if self.plugins.iter().next().is_none() => "write `path:` and the plugin's folder".to_owned(),
                None => format!(
                    "write `path:FOLDER` for a plugin of your own, or one of the built-in plugins: {}",
                    list(self.plugins.iter())
                ),
            };
            Problem::new("stagewright::unknown-plugin", place.span, format!("unknown built-in plugin `{name}`"))
                .label("unknown plugin")
                .help(help)
        });
    }

    fn check_grants(&self, draft: &Draft<'t>, used_names: &mut HashSet<(&'static str, &'t str)>, report: &mut Report) {
        let environment = draft.fields.text("environment").or_else(|| draft.fields.table("environment").text("name"));
        if let Some(environment) = environment {
            used_names.insert(("environments", environment.value));
            let declared = self.head.environments.keys().map(String::as_str);
            if !self.head.environments.contains_key(environment.value) {
                report.error(|| undeclared("environment", "environments", environment, declared));
            }
        }
        self.check_approved(draft, used_names, report);
        for permissions in draft.permissions() {
            self.check_secrets(permissions, used_names, report);
            self.check_credential_names(permissions, used_names, report);
            Self::check_proxied_credentials(draft, permissions, report);
            self.check_downloads(draft, permissions, report);
        }
        if !draft.fields.has("permissions") {
            self.check_downloads(draft, self.defaults, report);
        }
        self.check_credential_conflicts(draft, report);
        self.check_trust(draft, report);
    }

    /// The declared names of a table, including those whose declaration is invalid.
    fn declared(&self, table: &'static str) -> Vec<At<&'t str>> {
        self.head.declared.iter().filter(|(of, _)| *of == table).map(|(_, name)| *name).collect()
    }

    /// Checks `with.environments` of gates. Another plugin may use this key for something else, so unknown names in it
    /// aren't reported.
    fn check_approved(
        &self,
        draft: &Draft<'t>,
        used_names: &mut HashSet<(&'static str, &'t str)>,
        report: &mut Report,
    ) {
        let is_gate = draft.stage.uses == PluginRef::Builtin("approve".to_owned());
        for environment in draft.fields.table("with").texts("environments") {
            if self.head.environments.contains_key(environment.value) {
                used_names.insert(("environments", environment.value));
            } else if is_gate {
                let declared = self.head.environments.keys().map(String::as_str);
                report.error(|| undeclared("environment", "environments", environment, declared));
            }
        }
    }

    fn check_trust(&self, draft: &Draft<'t>, report: &mut Report) {
        let is_native = draft.fields.text("trust").filter(|trust| trust.value == "native");
        match (is_native, draft.fields.get("digest")) {
            (Some(trust), None) => report.error(|| {
                let message = format!("`{}` loads native code without a digest", draft.name.value);
                Problem::new("stagewright::missing-digest", trust.span, message)
                    .help("add `digest = \"sha256:…\"`, which `sha256sum FILE` prints")
            }),
            (None, Some(digest)) => report.error(|| {
                let message = format!("`{}` has a digest, but loads a component", draft.name.value);
                Problem::new("stagewright::stray-digest", digest.span().into(), message)
                    .help("remove `digest`, since the lock file pins components, or set `trust = \"native\"`")
            }),
            _ => {}
        }
    }

    /// `position` is that of the stage that contains the expression, or none for an expression of the pipeline itself.
    fn check_reference(&self, used: &Use, reference: &VariableReference, position: Option<usize>, report: &mut Report) {
        let root = reference.root.as_str();
        let is_visible = match used.visibility {
            Visibility::Pipeline => !matches!(root, "stages" | "matrix" | "region" | "env"),
            Visibility::StageEnv => root != "env",
            Visibility::Stage => true,
        };
        if !ROOTS.contains(&root) {
            report.error(|| unknown_variable(self.span(used, reference), root));
        } else if !is_visible {
            report.error(|| invisible(self.span(used, reference), root, used.visibility));
        } else if let Some(member) = reference.member() {
            let draft = position.map(|position| &self.drafts[position]);
            self.check_member(used, reference, member, draft, report);
            self.check_field(used, reference, draft, report);
        }
    }

    fn check_member(
        &self,
        used: &Use,
        reference: &VariableReference,
        member: &str,
        draft: Option<&Draft<'t>>,
        report: &mut Report,
    ) {
        let span = || self.span(used, reference);
        match (reference.root.as_str(), draft) {
            ("stages", Some(draft)) => match self.names.get(member).map(|&position| &self.drafts[position]) {
                None => report.error(|| unknown_member(span(), "stage", member, self.names.keys().copied())),
                Some(named) if named.name.value == draft.name.value => report.error(|| {
                    Problem::new("stagewright::not-upstream", span(), format!("`{member}` reads its own result"))
                        .help("read only results of stages that end before this one starts")
                }),
                Some(named) if named.kind == StageKind::Finally && draft.kind == StageKind::Main => {
                    report.error(|| {
                        let message = format!("`{member}` is a finally stage and runs after `{}`", draft.name.value);
                        Problem::new("stagewright::not-upstream", span(), message)
                            .help(format!("move `{member}` to `[stages]`, or `{}` to `[finally]`", draft.name.value))
                    });
                }
                Some(_) => {}
            },
            _ if reference.path.first().is_some_and(|member| member.is_optional) => {}
            ("inputs", _) if !self.head.inputs.contains_key(member) => {
                report.error(|| unknown_member(span(), "input", member, self.head.inputs.keys().map(String::as_str)));
            }
            ("environments", _) if !self.head.environments.contains_key(member) => {
                let environments = self.head.environments.keys().map(String::as_str);
                report.error(|| unknown_member(span(), "environment", member, environments));
            }
            ("env", Some(draft)) if !draft.stage.env.contains_key(member) => {
                let variables = draft.stage.env.keys().map(String::as_str);
                report.error(|| unknown_member(span(), "variable", member, variables));
            }
            ("matrix", Some(draft)) => {
                let empty = BTreeSet::new();
                let axes = draft.matrix.as_ref().map_or(&empty, |matrix| &matrix.names);
                if !axes.contains(member) {
                    report.error(|| unknown_member(span(), "matrix axis", member, axes.iter().map(String::as_str)));
                }
            }
            ("region", Some(draft)) => self.check_region_value(span(), member, draft, report),
            _ => {}
        }
    }

    /// Checks that every region in which a stage runs has the value that it reads.
    fn check_region_value(&self, span: SourceSpan, member: &str, draft: &Draft<'t>, report: &mut Report) {
        let regions = regions::of(&draft.stage, &self.head.environments);
        if regions.is_empty() {
            report.error(|| {
                Problem::new("stagewright::unknown-reference", span, "the stage acts on no environment with regions")
                    .help("add `[environments.NAME.regions.REGION]`, and `environment = \"NAME\"` to the stage")
            });
        }
        let lacks = |region: &&Region| member != regions::NAME && !region.values.contains_key(member);
        if let Some(region) = regions.into_iter().find(lacks) {
            report.error(|| {
                let message = format!("the region `{}` has no value `{member}`", region.name);
                let help =
                    format!("add `{member}` to the `values` of each region, or write `region.?{member}.orValue(…)`");
                Problem::new("stagewright::unknown-reference", span, message).help(help)
            });
        }
    }

    /// Whether a stage sees several results of another one: those of the cells of its matrix, or of other regions.
    fn sees_several(&self, draft: Option<&Draft<'t>>, other: &Draft<'t>) -> bool {
        let environment = |draft: &Draft<'t>| {
            let is_spread = !regions::of(&draft.stage, &self.head.environments).is_empty();
            draft.stage.environment.as_ref().filter(|_| is_spread).map(|environment| environment.name.clone())
        };
        let other_environment = environment(other);
        other.matrix.is_some() || (other_environment.is_some() && draft.and_then(environment) != other_environment)
    }

    /// Checks the field that is selected, if the variable's fields are known.
    fn check_field(&self, used: &Use, reference: &VariableReference, draft: Option<&Draft<'t>>, report: &mut Report) {
        let root = reference.root.as_str();
        let (of, field, fields, depth) = match (root, &*reference.path) {
            ("stages", [stage, field, ..]) => {
                let Some(&position) = self.names.get(stage.name.as_str()) else { return };
                let has_several = self.sees_several(draft, &self.drafts[position]);
                let fields: &[&str] = if has_several { &MATRIX_STAGE_FIELDS } else { &STAGE_FIELDS };
                (format!("stages.{}", stage.name), field, fields, 2)
            }
            ("environments", [environment, field, ..]) => {
                (format!("environments.{}", environment.name), field, &ENVIRONMENT_FIELDS[..], 2)
            }
            (_, [field, ..]) => match fields_of(root) {
                Some(fields) => (root.to_owned(), field, fields, 1),
                None => return,
            },
            (_, []) => return,
        };
        if !field.is_optional && !fields.contains(&field.name.as_str()) {
            report.error(|| unknown_field(self.span_to(used, reference, depth), &of, &field.name, fields));
        }
    }

    /// The stage that a reference reads, if the stage at `position` has to need it. A finally stage runs after all main
    /// stages anyway, and a reference from a main stage to a finally stage or to itself is another mistake.
    fn required_stage(&self, reference: &VariableReference, position: usize) -> Option<usize> {
        let member = reference.member().filter(|_| reference.root == "stages")?;
        let target = *self.names.get(member)?;
        let needs_order = self.drafts[target].kind == self.drafts[position].kind && target != position;
        needs_order.then_some(target)
    }

    /// The environment that a reference reads, as a declared name.
    fn environment_read(&self, reference: &VariableReference) -> Option<(&'static str, &'t str)> {
        let member = reference.member().filter(|_| reference.root == "environments")?;
        self.declared("environments")
            .into_iter()
            .find(|name| name.value == member)
            .map(|name| ("environments", name.value))
    }

    /// The output that a reference reads. None if it reads something else, or an output that may be missing.
    fn output_read(&self, used: &Use, reference: &VariableReference) -> Option<OutputRead> {
        let [stage, outputs, name, ..] = &*reference.path else { return None };
        let is_output = reference.root == "stages" && outputs.name == "outputs";
        let is_required = [stage, outputs, name].iter().all(|step| !step.is_optional);
        (is_output && is_required).then(|| OutputRead {
            stage: stage.name.clone(),
            output: name.name.clone(),
            place: self.span_to(used, reference, 3),
        })
    }

    /// The place of a reference up to its first member, if that is written with a dot.
    fn span(&self, used: &Use, reference: &VariableReference) -> SourceSpan {
        self.span_to(used, reference, 1)
    }

    /// The place of a reference and its first `members` members, up to the first that isn't written with a dot.
    fn span_to(&self, used: &Use, reference: &VariableReference, members: usize) -> SourceSpan {
        let rest = &used.expression.source()[reference.offset..];
        let mut length = reference.root.len();
        for ReferenceStep { name, .. } in reference.path.iter().take(members) {
            match rest[length..].strip_prefix('.').is_some_and(|rest| rest.starts_with(name)) {
                true => length += 1 + name.len(),
                false => break,
            }
        }
        let offset = used.offset + reference.offset;
        SourceSpan {
            start: place::locate(self.file, used.string, offset),
            end: place::locate(self.file, used.string, offset + length),
        }
    }
}

fn not_upstream(name: &str, target: &str, span: SourceSpan) -> Problem {
    Problem::new("stagewright::not-upstream", span, format!("`{name}` reads `{target}`, which isn't among its needs"))
        .label("may not have ended by then")
        .help(format!("add `{target}` to the `needs` of `{name}`"))
}

fn unknown_member<'a>(
    span: SourceSpan,
    what: &str,
    member: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> Problem {
    let is_difference = |name| member.strip_prefix(name).is_some_and(|rest: &str| rest.starts_with('-'));
    let help = match nearest(member, known.clone()) {
        _ if what != "stage" && known.clone().any(is_difference) => {
            "to subtract, put spaces around `-`: without them, it is part of the name".to_owned()
        }
        Some(name) => format!("did you mean `{name}`?"),
        None if known.clone().next().is_none() => match what {
            "input" => format!("declare it: `[inputs.{member}]`"),
            "matrix axis" => "the stage has no `matrix`".to_owned(),
            _ => format!("declare it: the stage has no {what}s"),
        },
        None => format!("use one of {}", list(known)),
    };
    Problem::new("stagewright::unknown-reference", span, format!("unknown {what} `{member}`")).help(help)
}

fn unknown_field(span: SourceSpan, of: &str, field: &str, fields: &[&'static str]) -> Problem {
    let help = match nearest(field, fields.iter().copied()) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("use one of {}", list(fields.iter().copied())),
    };
    Problem::new("stagewright::unknown-reference", span, format!("`{of}` has no field `{field}`")).help(help)
}

fn unknown_variable(span: SourceSpan, root: &str) -> Problem {
    let help = match nearest(root, ROOTS) {
        _ if root == "secrets" => {
            "grant the secret with `permissions.secrets`: expressions can't read secrets, but plugins can attach them"
                .to_owned()
        }
        _ if root == "needs" => "read the results of needs from `stages`".to_owned(),
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("use one of {}, or put text in quotes", list(ROOTS.into_iter())),
    };
    Problem::new("stagewright::unknown-reference", span, format!("unknown variable `{root}`")).help(help)
}

fn invisible(span: SourceSpan, root: &str, visibility: Visibility) -> Problem {
    let (message, help) = match visibility {
        Visibility::Pipeline => {
            (format!("`{root}` isn't available outside of stages"), "use `inputs`, `event`, `git`, `run` or `pipeline`")
        }
        Visibility::StageEnv | Visibility::Stage => {
            ("variables can't refer to each other".to_owned(), "repeat the other variable's value, or make it an input")
        }
    };
    Problem::new("stagewright::unknown-reference", span, message).help(help)
}
