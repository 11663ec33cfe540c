//! Stages for a package of Node.

use serde_json::Value as Json;

use super::draft::{ProjectDraft, StageDraft};
use super::project::Project;

/// The scripts that become stages, in this order. Of a group, the first that exists.
const SCRIPTS: [(&str, &[&str]); 5] = [
    ("lint", &["lint"]),
    ("format", &["format:check", "check:format", "prettier:check"]),
    ("types", &["typecheck", "type-check", "check-types", "tsc"]),
    ("build", &["build"]),
    ("test", &["test"]),
];
/// Folders that builds create, by their usual names.
const BUILT: [&str; 10] = ["build", "cjs", "dist", "es", "esm", "lib", "out", ".next", ".nuxt", ".svelte-kit"];
/// Tools that measure coverage, with the folders that they create.
const COVERAGE: [(&str, &[&str]); 3] =
    [("nyc", &["coverage", ".nyc_output"]), ("c8", &["coverage"]), ("coverage", &["coverage"])];

pub(super) fn draft(project: &Project<'_>) -> Option<ProjectDraft> {
    let package: Json = serde_json::from_str(&project.text("package.json")?).ok()?;
    let manager = NodePackageManager::of(project, &package);
    let mut draft = ProjectDraft::new(project, "node", format!("Node ({})", project.path("package.json")));
    let depends = |key: &str| package[key].as_object().is_some_and(|packages| !packages.is_empty());
    let installs = ["dependencies", "devDependencies", "workspaces"].iter().any(|key| depends(key))
        || package["workspaces"].is_array();
    if installs {
        draft.stages.push(manager.install_stage(project));
    }
    for (name, scripts) in SCRIPTS {
        let script = scripts.iter().find_map(|script| Some((script, package["scripts"][script].as_str()?)));
        // What `npm init` writes.
        let Some((script, line)) = script.filter(|(_, line)| !line.contains("no test specified")) else { continue };
        let mut stage = StageDraft::program(name, &manager.script(script));
        let before: &[&str] = if name == "test" { &["install", "build"] } else { &["install"] };
        let before = before.iter().filter(|before| draft.stages.iter().any(|stage| stage.name == **before));
        stage.needs = before.map(|before| draft.stage_name(before)).collect();
        stage.write = written(project, name, line);
        draft.stages.push(stage);
    }
    if draft.stages.iter().all(|stage| stage.name == "install") {
        draft
            .left_out
            .push(format!("{} has no script that init knows: lint, build, test", project.path("package.json")));
    }
    Some(draft)
}

/// The folders that a script creates.
fn written(project: &Project<'_>, stage: &str, script: &str) -> Vec<String> {
    let measured = COVERAGE.iter().find(|(tool, _)| script.contains(tool)).map_or(&[][..], |(_, folders)| folders);
    let folders: &[&str] = match stage {
        "build" => &BUILT,
        "test" => measured,
        _ => &[],
    };
    folders.iter().filter(|folder| project.ignores(folder)).map(|folder| (*folder).to_owned()).collect()
}

/// The program that installs packages, and its way to do so.
enum NodePackageManager {
    Npm,
    Pnpm,
    /// Yarn 1.
    ClassicYarn,
    /// Yarn 2 and later.
    Yarn,
}

impl NodePackageManager {
    fn of(project: &Project<'_>, package: &Json) -> NodePackageManager {
        let named = package["packageManager"].as_str().unwrap_or_default();
        let is_classic = || !project.has_file(".yarnrc.yml");
        match named.split('@').next() {
            Some("pnpm") => NodePackageManager::Pnpm,
            Some("yarn") if named.starts_with("yarn@1.") => NodePackageManager::ClassicYarn,
            Some("yarn") => NodePackageManager::Yarn,
            Some("npm") => NodePackageManager::Npm,
            _ if project.has_file("pnpm-lock.yaml") => NodePackageManager::Pnpm,
            _ if project.has_file("yarn.lock") && is_classic() => NodePackageManager::ClassicYarn,
            _ if project.has_file("yarn.lock") => NodePackageManager::Yarn,
            _ => NodePackageManager::Npm,
        }
    }

    fn install_stage(&self, project: &Project<'_>) -> StageDraft {
        let mut stage = StageDraft::program("install", &self.install(project));
        let is_yarn = matches!(self, NodePackageManager::Yarn);
        if is_yarn && project.text(".yarnrc.yml").is_some_and(|settings| settings.contains("nodeLinker: node-modules"))
        {
            stage.write.push(".yarn".to_owned());
        } else if is_yarn {
            stage.comment = Some(
                "Yarn removes `node_modules`, and keeps packages for the other stages in `.yarn/cache`.".to_owned(),
            );
            stage.write.push(".".to_owned());
            stage.env.push(("YARN_ENABLE_GLOBAL_CACHE", "false"));
        }
        stage
    }

    fn install(&self, project: &Project<'_>) -> Vec<&'static str> {
        let is_locked = ["package-lock.json", "npm-shrinkwrap.json"].iter().any(|file| project.has_file(file));
        match self {
            NodePackageManager::Npm if is_locked => vec!["npm", "ci"],
            NodePackageManager::Npm => vec!["npm", "install"],
            NodePackageManager::Pnpm => vec!["pnpm", "install", "--frozen-lockfile"],
            NodePackageManager::ClassicYarn => vec!["yarn", "install", "--frozen-lockfile"],
            NodePackageManager::Yarn => vec!["yarn", "install", "--immutable"],
        }
    }

    fn script<'a>(&self, script: &'a str) -> Vec<&'a str> {
        let program = match self {
            NodePackageManager::Npm => "npm",
            NodePackageManager::Pnpm => "pnpm",
            NodePackageManager::ClassicYarn | NodePackageManager::Yarn => "yarn",
        };
        if script == "test" { vec![program, script] } else { vec![program, "run", script] }
    }
}
