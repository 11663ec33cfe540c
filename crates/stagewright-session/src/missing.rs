//! The grants that stages will use, as their plugins say, and that they lack.

use std::collections::BTreeMap;
use std::sync::Arc;

use stagewright_model::{
    CredentialDeclaration, Grant, MissingGrant, Mistake, MistakePlace, NetRule, Permission, Permissions, Plan,
    ProcessRule, StageIndex, granting_lines,
};
use stagewright_plugin_host::{PackageHosts, Requirement};

/// What a stage lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageLacks {
    /// The stage, or the first of its matrix cells.
    pub stage: StageIndex,
    /// At least one grant, in display order.
    pub grants: Vec<LackedGrant>,
}

/// A grant that a stage lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LackedGrant {
    /// The entry to add.
    pub grant: MissingGrant,
    /// What the stage uses it for, as a verb phrase about the entry: `goes into the image`. Empty if the plugin doesn't say.
    pub reason: String,
    /// Whether the stage also works without it.
    pub is_optional: bool,
}

/// Compares the stages' grants with what their plugins require, by plan index. Requirements whose entries contain `${{ }}`
/// are left out: their values aren't known before the stage runs.
pub(crate) fn grants(plan: &Plan, packages: &PackageHosts, required: &[Arc<[Requirement]>]) -> Vec<StageLacks> {
    // The cells of a matrix share a table of permissions.
    let mut by_name: BTreeMap<&str, StageLacks> = BTreeMap::new();
    let mut compared: Option<(&str, &Arc<[Requirement]>)> = None;
    for (index, required) in plan.indices().zip(required) {
        let stage = plan.stage(index);
        // They follow each other, and most have the same `with` table as well.
        let is_same = |(name, other): (&str, &Arc<[Requirement]>)| name == stage.name && Arc::ptr_eq(other, required);
        if compared.replace((&stage.name, required)).is_some_and(is_same) {
            continue;
        }
        let table = format!("{}.permissions", stage.table());
        let granted = with_included_origins(&stage.permissions, packages, plan);
        for lacked in required.iter().filter_map(|required| lacked(&table, &granted, required)) {
            let lacks = by_name.entry(&stage.name).or_insert(StageLacks { stage: index, grants: Vec::new() });
            if !lacks.grants.iter().any(|known| known.grant == lacked.grant) {
                lacks.grants.push(lacked);
            }
        }
    }
    let mut all: Vec<StageLacks> = by_name.into_values().collect();
    all.sort_by_key(|lacks| lacks.stage);
    all.iter_mut().for_each(|lacks| lacks.grants.sort_by(|one, other| one.grant.cmp(&other.grant)));
    all
}

/// The grants, and the origins that they include: those that the keywords of `net` stand for, and those of credentials.
fn with_included_origins(granted: &Permissions, packages: &PackageHosts, plan: &Plan) -> Permissions {
    let mut all = granted.clone();
    let of_packages = granted.net.iter().filter_map(NetRule::packages).flat_map(|manager| packages.origins(manager));
    let credentials = granted.credentials.iter().filter_map(|name| plan.credentials.get(name.as_str()));
    for origin in of_packages.chain(credentials.flat_map(CredentialDeclaration::hosts).cloned()) {
        // An origin is a valid entry.
        let _ = all.insert(Permission::Net, &origin.to_string());
    }
    all
}

fn lacked(table: &str, granted: &Permissions, required: &Requirement) -> Option<LackedGrant> {
    let Requirement { permission, entry, reason, optional } = required;
    // A plugin of a later contract may know permissions that this engine doesn't.
    let permission = Permission::ALL.into_iter().find(|kind| kind.key() == permission)?;
    if entry.contains("${{") {
        return None;
    }
    let mut wanted = Permissions::default();
    wanted.insert(permission, entry).ok()?;
    if wanted.is_within(granted) {
        return None;
    }
    let entry = proposed(&wanted, granted).unwrap_or_else(|| entry.clone());
    let grant = MissingGrant { table: table.to_owned(), permission, entry };
    Some(LackedGrant { grant, reason: reason.clone().unwrap_or_default(), is_optional: *optional })
}

/// The entry to propose for a command line: its program with any arguments, as people grant it, unless the stage already
/// restricts the arguments of that program.
fn proposed(wanted: &Permissions, granted: &Permissions) -> Option<String> {
    let program = wanted.process.first()?.program()?;
    let is_restricted = granted.process.iter().any(|rule| rule.names(program));
    (!is_restricted).then(|| ProcessRule::exactly(program, &[]))
}

impl StageLacks {
    /// What the stage can't work without.
    pub fn required(&self) -> impl Iterator<Item = &LackedGrant> {
        self.grants.iter().filter(|lacked| !lacked.is_optional)
    }

    /// As a mistake in the pipeline file; none if the stage works without all of it.
    pub(crate) fn mistake(&self, plan: &Plan) -> Option<Mistake> {
        let stage = plan.stage(self.stage);
        let missing: Vec<MissingGrant> = self.required().map(|lacked| lacked.grant.clone()).collect();
        let table = &missing.first()?.table;
        let uses: Vec<String> = self.required().filter_map(LackedGrant::phrase).collect();
        let lines = granting_lines(&stage.permissions, &missing).join("; ");
        Some(Mistake {
            stage: self.stage,
            place: MistakePlace::Key("permissions"),
            message: format!("the plugin `{}` will {}, which isn't granted", stage.uses, uses.join(", ")),
            help: Some(format!("write into [{table}]: {lines}; or let `stagewright grant {}` do it", stage.name)),
        })
    }
}

impl LackedGrant {
    /// What the grant allows, with the reason: `read `src` (is built)`. None for an entry that doesn't parse.
    pub fn phrase(&self) -> Option<String> {
        let mut one = Permissions::default();
        one.insert(self.grant.permission, &self.grant.entry).ok()?;
        let phrase = one.entries().next().map(Grant::phrase)?;
        Some(if self.reason.is_empty() { phrase } else { format!("{phrase} ({})", self.reason) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the stages of a pipeline lack if their plugin requires all of this.
    fn lacking(stages: &str, required: &[(&str, &str, bool)]) -> Vec<StageLacks> {
        let text = format!("schema = 1\npipeline.name = 'x'\n{stages}");
        let (plan, _) = Plan::parse("x.toml", &text, &["p"].into_iter().collect()).expect("a plan");
        let required = required.iter().map(|&(permission, entry, optional)| Requirement {
            permission: permission.to_owned(),
            entry: entry.to_owned(),
            reason: Some("is used".to_owned()),
            optional,
        });
        let required: Arc<[Requirement]> = required.collect();
        grants(&plan, &PackageHosts::default(), &vec![required; plan.stages.len()])
    }

    fn entries(lacking: &[StageLacks]) -> Vec<(&str, &str)> {
        let grants = lacking.iter().flat_map(|lacks| &lacks.grants);
        grants.map(|lacked| (lacked.grant.permission.key(), lacked.grant.entry.as_str())).collect()
    }

    #[test]
    fn a_wider_grant_includes_what_is_required() {
        let stage = "[stages.a]\nuses = 'p'\npermissions = { write = ['out'], process = ['cargo'] }\n";
        let required = [("read", "out/app", false), ("process", "cargo test", false), ("exec", "out/app", false)];
        assert_eq!(lacking(stage, &required), []);
        assert_eq!(entries(&lacking(stage, &[("write", "target", false)])), [("write", "target")]);
    }

    #[test]
    fn a_program_is_proposed_with_any_arguments_unless_the_stage_restricts_them() {
        let proposed = |granted: &str, required| {
            let stage = format!("[stages.a]\nuses = 'p'\npermissions.process = [{granted}]\n");
            let lacking = lacking(&stage, &[("process", required, false)]);
            entries(&lacking).into_iter().map(|(_, entry)| entry.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(proposed("'sh'", "git fetch origin"), ["git"]);
        assert_eq!(proposed("'git status'", "git fetch origin"), ["git fetch origin"]);
        assert_eq!(proposed("", "'a b' c"), ["'a b'"]);
    }

    #[test]
    fn what_only_the_run_will_know_and_what_is_unknown_here_are_left_out() {
        let required = [
            ("registry", "${{ stages.push.outputs.image }}", false),
            ("telepathy", "anyone", false),
            ("net", "not an origin", false),
        ];
        assert_eq!(lacking("[stages.a]\nuses = 'p'\n", &required), []);
    }

    #[test]
    fn the_word_of_a_package_manager_includes_its_hosts() {
        let stage = "[stages.a]\nuses = 'p'\npermissions.net = ['cargo']\n";
        let required = [("net", "https://index.crates.io", false), ("net", "https://example.org", false)];
        assert_eq!(entries(&lacking(stage, &required)), [("net", "https://example.org")]);
    }

    #[test]
    fn a_credential_includes_its_origins() {
        let stage = "[secrets.t]\nfrom = 'env:T'\nhosts = ['a.test']\n\
                     [credentials.api]\ntype = 'bearer'\ntoken = 't'\norigins = ['https://a.test']\n\
                     [stages.a]\nuses = 'p'\npermissions.credentials = ['api']\n";
        let required =
            [("net", "https://a.test", false), ("net", "https://b.test", false), ("credentials", "x", false)];
        assert_eq!(entries(&lacking(stage, &required)), [("net", "https://b.test"), ("credentials", "x")]);
    }

    #[test]
    fn cells_of_a_matrix_lack_a_grant_once() {
        let stage = "[stages.a]\nuses = 'p'\nmatrix.os = ['x', 'y']\n";
        let lacking = lacking(stage, &[("read", "src", false), ("write", "out", true)]);
        assert_eq!(entries(&lacking), [("read", "src"), ("write", "out")]);
        assert_eq!(lacking[0].required().count(), 1);
    }
}
