//! What expressions and stages name: whether it is there, and known by the time it is asked for.

use std::collections::{BTreeSet, HashSet};

use super::fields::{At, Fields};
use super::head::Head;
use super::order::{Names, Naming, Order};
use super::stage::Draft;
use super::uses::{Use, View};
use super::{PluginNames, list, place};
use crate::diagnostic::{Problem, Report};
use crate::expression::{MATRIX_STAGE_FIELDS, Member, ROOTS, Reference, STAGE_FIELDS, fields_of};
use crate::grants::{SecretName, SecretRule};
use crate::nearest::nearest;
use crate::plan::{PluginRef, StageKind};
use crate::span::SourceSpan;

/// Everything that a name can be looked up in.
pub(super) struct Known<'k, 't> {
    pub(super) file: &'k str,
    pub(super) head: &'k Head<'t>,
    pub(super) drafts: &'k [Draft<'t>],
    pub(super) names: &'k Names<'t>,
    pub(super) plugins: &'k PluginNames,
}

/// Checks the pipeline's own expressions, then each stage, then that every stage which is named has ended by then.
pub(super) fn check(known: &Known<'_, '_>, pipeline_uses: &[Use], order: &Order, report: &mut Report) {
    for used in pipeline_uses {
        for reference in used.expression.references() {
            known.check_reference(used, reference, None, report);
        }
    }
    let mut referrers = Naming::new();
    let mut used_names = HashSet::new();
    for (position, draft) in known.drafts.iter().enumerate() {
        known.check_plugin(draft, report);
        known.check_grants(draft, &mut used_names, report);
        for used in &draft.uses {
            for reference in used.expression.references() {
                known.check_reference(used, reference, Some(position), report);
                if let Some(target) = known.waits_for(reference, position) {
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
            _ => ("environment", "remove it, or name it in the `environment` of the stage that deploys to it"),
        };
        let message = format!("no stage uses the {what} `{}`", name.value);
        report.warning(Problem::new("stagewright::unused", name.span, message).help(help));
    }
}

impl<'t> Known<'_, 't> {
    fn check_plugin(&self, draft: &Draft<'t>, report: &mut Report) {
        let (PluginRef::Builtin(name), Some(place)) = (&draft.stage.uses, draft.fields.text("uses")) else { return };
        // Whatever else is wrong with it was reported with its form.
        if name.is_empty() || name.contains([':', '$']) || self.plugins.contains(name) {
            return;
        }
        report.error(|| {
            let help = match nearest(name, self.plugins.iter()) {
                Some(name) => format!("did you mean `{name}`?"),
                None if self.plugins.iter().next().is_none() => "write `path:` and the plugin's folder".to_owned(),
                None => format!("built in are {}; a plugin of your own is `path:FOLDER`", list(self.plugins.iter())),
            };
            Problem::new("stagewright::unknown-plugin", place.span, format!("there is no built-in plugin `{name}`"))
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
        let (own, rehearsal) = (draft.fields.table("permissions"), draft.fields.table("rehearse").table("permissions"));
        for permissions in [own, rehearsal] {
            self.check_secrets(permissions, used_names, report);
        }
        self.check_trust(draft, report);
    }

    fn check_secrets(
        &self,
        permissions: Fields<'t>,
        used_names: &mut HashSet<(&'static str, &'t str)>,
        report: &mut Report,
    ) {
        let secrets = permissions.texts("secrets");
        for secret in &secrets {
            // One that can't be read was reported with its form.
            let Ok(grant) = SecretRule::parse(secret.value) else { continue };
            let name = &secret.value[..grant.name().len()];
            used_names.insert(("secrets", name));
            // Also those whose declaration couldn't be read.
            let declared = self.head.declared.iter().filter(|(table, _)| *table == "secrets");
            let declared = declared.map(|(_, name)| name.value);
            if !declared.clone().any(|known| known == name) {
                report.error(|| undeclared("secret", "secrets", At { value: name, ..*secret }, declared));
            }
        }
        for reveal in permissions.texts("reveal") {
            let Ok(name) = SecretName::parse(reveal.value) else { continue };
            let is_granted = |entry: &str| SecretRule::parse(entry).is_ok_and(|rule| rule.name() == name.as_str());
            if !secrets.iter().any(|secret| is_granted(secret.value)) {
                report.error(|| {
                    let message = format!("`reveal` names `{}`, which `secrets` doesn't grant", reveal.value);
                    Problem::new("stagewright::reveal-without-secret", reveal.span, message)
                        .help(format!("add `{}` to `permissions.secrets`, or remove it here", reveal.value))
                });
            }
        }
    }

    /// What a gate says that it approves: another plugin may mean something else by the key.
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
                let message = format!("`{}` loads native code that no digest pins", draft.name.value);
                Problem::new("stagewright::missing-digest", trust.span, message)
                    .help("add `digest = \"sha256:…\"`, which `sha256sum FILE` prints")
            }),
            (None, Some(digest)) => report.error(|| {
                let message = format!("`{}` has a digest, and loads a component", draft.name.value);
                Problem::new("stagewright::stray-digest", digest.span().into(), message)
                    .help("components are pinned by the lock file: remove `digest`, or set `trust = \"native\"`")
            }),
            _ => {}
        }
    }

    /// `position` is that of the stage that the expression belongs to; none for the pipeline's own.
    fn check_reference(&self, used: &Use, reference: &Reference, position: Option<usize>, report: &mut Report) {
        let root = reference.root.as_str();
        let is_visible = match used.view {
            View::Pipeline => !matches!(root, "stages" | "matrix" | "env"),
            View::StageEnv => root != "env",
            View::Stage => true,
        };
        if !ROOTS.contains(&root) {
            report.error(|| unknown_variable(self.span(used, reference), root));
        } else if !is_visible {
            report.error(|| invisible(self.span(used, reference), root, used.view));
        } else if let Some(member) = reference.member() {
            let draft = position.map(|position| &self.drafts[position]);
            self.check_member(used, reference, member, draft, report);
            self.check_field(used, reference, report);
        }
    }

    fn check_member(
        &self,
        used: &Use,
        reference: &Reference,
        member: &str,
        draft: Option<&Draft<'t>>,
        report: &mut Report,
    ) {
        let span = || self.span(used, reference);
        match (reference.root.as_str(), draft) {
            ("stages", Some(draft)) => match self.names.get(member).map(|&position| &self.drafts[position]) {
                None => report.error(|| unknown_member(span(), "stage", member, self.names.keys().copied())),
                Some(named) if named.name.value == draft.name.value => report.error(|| {
                    Problem::new("stagewright::not-upstream", span(), format!("`{member}` names its own result"))
                        .help("a stage can only read what ended before it")
                }),
                Some(named) if named.kind == StageKind::Finally && draft.kind == StageKind::Main => {
                    report.error(|| {
                        let message = format!("`{member}` is a finally stage, and runs after `{}`", draft.name.value);
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
            _ => {}
        }
    }

    /// Of variables whose fields are known.
    fn check_field(&self, used: &Use, reference: &Reference, report: &mut Report) {
        let root = reference.root.as_str();
        let (of, field, fields, depth) = match (root, &*reference.path) {
            ("stages", [stage, field, ..]) => {
                let Some(&position) = self.names.get(stage.name.as_str()) else { return };
                let has_matrix = self.drafts[position].matrix.is_some();
                let fields: &[&str] = if has_matrix { &MATRIX_STAGE_FIELDS } else { &STAGE_FIELDS };
                (format!("stages.{}", stage.name), field, fields, 2)
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

    /// The stage that a reference is to, when it isn't sure to have ended by the time that it is asked.
    fn waits_for(&self, reference: &Reference, position: usize) -> Option<usize> {
        let member = reference.member().filter(|_| reference.root == "stages")?;
        let target = *self.names.get(member)?;
        let is_sure = self.drafts[target].kind != self.drafts[position].kind || target == position;
        (!is_sure).then_some(target)
    }

    /// The reference up to its first member, as far as that is written in one piece.
    fn span(&self, used: &Use, reference: &Reference) -> SourceSpan {
        self.span_to(used, reference, 1)
    }

    /// The same, up to one of its other members, which are counted from 1.
    fn span_to(&self, used: &Use, reference: &Reference, members: usize) -> SourceSpan {
        let rest = &used.expression.source()[reference.offset..];
        let mut length = reference.root.len();
        for Member { name, .. } in reference.path.iter().take(members) {
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
    Problem::new("stagewright::not-upstream", span, format!("`{name}` reads `{target}`, and doesn't need it"))
        .label("may not have ended by then")
        .help(format!("add `{target}` to the `needs` of `{name}`"))
}

fn undeclared<'a>(what: &str, table: &str, name: At<&str>, declared: impl Iterator<Item = &'a str>) -> Problem {
    let help = match nearest(name.value, declared) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("declare it: `[{table}.{}]`", name.value),
    };
    let code = if what == "secret" { "stagewright::unknown-secret" } else { "stagewright::unknown-environment" };
    Problem::new(code, name.span, format!("the {what} `{}` isn't declared", name.value))
        .label(format!("unknown {what}"))
        .help(help)
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
            "`-` belongs to the name here; to subtract, put spaces around it".to_owned()
        }
        Some(name) => format!("did you mean `{name}`?"),
        None if known.clone().next().is_none() => match what {
            "input" => format!("declare it: `[inputs.{member}]`"),
            "matrix axis" => "the stage has no `matrix`".to_owned(),
            _ => format!("there is no {what} at all"),
        },
        None => format!("there are {}", list(known)),
    };
    Problem::new("stagewright::unknown-reference", span, format!("there is no {what} `{member}`")).help(help)
}

fn unknown_field(span: SourceSpan, of: &str, field: &str, fields: &[&'static str]) -> Problem {
    let help = match nearest(field, fields.iter().copied()) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("it has {}", list(fields.iter().copied())),
    };
    Problem::new("stagewright::unknown-reference", span, format!("`{of}` has no field `{field}`")).help(help)
}

fn unknown_variable(span: SourceSpan, root: &str) -> Problem {
    let help = match nearest(root, ROOTS) {
        _ if root == "secrets" => {
            "secrets never become values: grant one with `permissions.secrets`, and the plugin attaches it".to_owned()
        }
        _ if root == "needs" => "the results of needs are under `stages`".to_owned(),
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("there are {}; text stands in quotes", list(ROOTS.into_iter())),
    };
    Problem::new("stagewright::unknown-reference", span, format!("expressions know no `{root}`")).help(help)
}

fn invisible(span: SourceSpan, root: &str, view: View) -> Problem {
    let (message, help) = match view {
        View::Pipeline => (
            format!("`{root}` belongs to a stage, and this to the whole pipeline"),
            "here there are `inputs`, `event`, `git`, `run` and `pipeline`",
        ),
        View::StageEnv | View::Stage => {
            ("variables don't see each other".to_owned(), "repeat the other variable's value, or make it an input")
        }
    };
    Problem::new("stagewright::unknown-reference", span, message).help(help)
}
