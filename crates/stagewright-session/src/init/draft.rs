//! Stages before they are written, and the text of a pipeline with them.

use std::fmt::Write as _;

use stagewright_model::{Permission, PermissionSet, Permissions};
use toml::Value;

use super::project::Project;

/// The stages of a project.
pub(super) struct ProjectDraft {
    /// Its technology, after its folder: what its stages' names begin with if another project has stages of these names.
    name: String,
    /// As in "Rust (Cargo.toml)".
    pub(super) found: String,
    /// The built-in set of permissions that the stages use.
    pub(super) set: &'static str,
    /// The folder below the root; none for the root.
    folder: Option<String>,
    pub(super) stages: Vec<StageDraft>,
    /// What has no stage, and why.
    pub(super) left_out: Vec<String>,
}

pub(super) struct StageDraft {
    pub(super) name: String,
    pub(super) needs: Vec<StageName>,
    pub(super) work: StageWork,
    /// Paths below the project's folder that the stage writes, beside those of the set.
    pub(super) write: Vec<String>,
    /// Variables of its programs.
    pub(super) env: Vec<(&'static str, &'static str)>,
    /// What a reader of the file may wonder about.
    pub(super) comment: Option<String>,
}

/// A stage of a project. Its name in the pipeline depends on the other projects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StageName {
    project: String,
    stage: String,
}

pub(super) enum StageWork {
    /// `command` with the words of a command line.
    Program(Vec<String>),
    /// `command` with lines for a shell.
    Script(Vec<String>),
    /// `cargo-test` with arguments for Cargo.
    CargoTest(Vec<String>),
}

impl ProjectDraft {
    /// `technology` is also the name of its set of permissions.
    pub(super) fn new(project: &Project<'_>, technology: &'static str, found: String) -> ProjectDraft {
        let name = project.folder().map_or_else(|| technology.to_owned(), |folder| format!("{folder}-{technology}"));
        ProjectDraft {
            name: name.to_ascii_lowercase().replace(|letter: char| !letter.is_ascii_alphanumeric(), "-"),
            found,
            set: technology,
            folder: project.folder().map(str::to_owned),
            stages: Vec::new(),
            left_out: Vec::new(),
        }
    }

    pub(super) fn stage_name(&self, stage: &str) -> StageName {
        StageName { project: self.name.clone(), stage: stage.to_owned() }
    }

    pub(super) fn stage_names(&self) -> impl Iterator<Item = StageName> {
        self.stages.iter().map(|stage| self.stage_name(&stage.name))
    }
}

impl StageDraft {
    pub(super) fn new(name: &str, work: StageWork) -> StageDraft {
        StageDraft { name: name.to_owned(), needs: Vec::new(), work, write: Vec::new(), env: Vec::new(), comment: None }
    }

    /// A stage that runs a command line.
    pub(super) fn program(name: &str, words: &[&str]) -> StageDraft {
        StageDraft::new(name, StageWork::Program(words.iter().map(|word| (*word).to_owned()).collect()))
    }
}

/// The text of a pipeline file.
pub(super) fn pipeline(name: &str, projects: &[ProjectDraft]) -> String {
    let projects: Vec<&ProjectDraft> = projects.iter().filter(|project| !project.stages.is_empty()).collect();
    let names = Names(projects.iter().flat_map(|project| project.stage_names()).collect());
    let mut text =
        "# `stagewright plan` shows what each stage may do, `stagewright run` runs them.\nschema = 1\n\n".to_owned();
    let _ = writeln!(text, "[pipeline]\nname = {}\n", Value::from(name));
    let _ = writeln!(text, "[defaults]\ntimeout = \"30m\"");
    for project in &projects {
        for stage in &project.stages {
            write_stage(&mut text, project, stage, &names);
        }
    }
    text
}

/// The stages of all projects.
struct Names(Vec<StageName>);

impl Names {
    /// The name of a stage in the pipeline.
    fn in_pipeline(&self, name: &StageName) -> String {
        let is_unique = self.0.iter().filter(|other| other.stage == name.stage).count() == 1;
        if is_unique { name.stage.clone() } else { format!("{}-{}", name.project, name.stage) }
    }
}

fn write_stage(text: &mut String, project: &ProjectDraft, stage: &StageDraft, names: &Names) {
    text.push('\n');
    stage.comment.iter().flat_map(|comment| comment.lines()).for_each(|line| {
        let _ = writeln!(text, "# {line}");
    });
    let _ = writeln!(text, "[stages.{}]", names.in_pipeline(&project.stage_name(&stage.name)));
    let (plugin, mut with) = match &stage.work {
        StageWork::Program(words) => ("command", vec![("argv", list(words))]),
        StageWork::Script(lines) => ("command", vec![("run", script(lines))]),
        StageWork::CargoTest(arguments) if arguments.is_empty() => ("cargo-test", Vec::new()),
        StageWork::CargoTest(arguments) => ("cargo-test", vec![("args", list(arguments))]),
    };
    with.extend(project.folder.iter().map(|folder| ("cwd", Value::from(folder.as_str()).to_string())));
    let _ = writeln!(text, "uses = \"{plugin}\"");
    if !stage.needs.is_empty() {
        let needs: Vec<String> = stage.needs.iter().map(|need| names.in_pipeline(need)).collect();
        let _ = writeln!(text, "needs = {}", list(&needs));
    }
    if !stage.env.is_empty() {
        let entries: Vec<String> =
            stage.env.iter().map(|(name, value)| format!("{name} = {}", Value::from(*value))).collect();
        let _ = writeln!(text, "env = {{ {} }}", entries.join(", "));
    }
    if with.iter().any(|(_, value)| value.contains('\n')) {
        for (key, value) in &with {
            let _ = writeln!(text, "with.{key} = {value}");
        }
    } else if !with.is_empty() {
        let entries: Vec<String> = with.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        let _ = writeln!(text, "with = {{ {} }}", entries.join(", "));
    }
    let _ = writeln!(text, "permissions = {{ {} }}", permissions(project, stage));
}

/// The entries of a stage's permissions. Each stage has its own, although they are much the same: what a denial says to add
/// to them would otherwise replace the default ones.
fn permissions(project: &ProjectDraft, stage: &StageDraft) -> String {
    let Some(folder) = &project.folder else {
        let mut entries = vec![format!("use = [\"{}\"]", project.set)];
        entries.extend((!stage.write.is_empty()).then(|| format!("write = {}", list(&stage.write))));
        return entries.join(", ");
    };
    // A set writes at the root, so a project elsewhere gets its entries.
    let set = PermissionSet::named(project.set).map(PermissionSet::permissions).unwrap_or_default();
    let entries = Permission::ALL.into_iter().filter_map(|kind| in_folder(kind, &set, stage, folder));
    entries.collect::<Vec<_>>().join(", ")
}

/// A set's entries of one kind, with what it writes moved to a folder.
fn in_folder(kind: Permission, set: &Permissions, stage: &StageDraft, folder: &str) -> Option<String> {
    let entries = set.of(kind).into_iter().map(|entry| entry.as_str().to_owned());
    let entries: Vec<String> = match kind {
        Permission::Write => {
            let paths = entries.chain(stage.write.iter().cloned());
            paths.map(|path| if path == "." { folder.to_owned() } else { format!("{folder}/{path}") }).collect()
        }
        _ => entries.collect(),
    };
    (!entries.is_empty()).then(|| format!("{} = {}", kind.key(), list(&entries)))
}

fn list(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| Value::from(text.as_str()).to_string()).collect();
    format!("[{}]", texts.join(", "))
}

/// One line as a string, several as a string of several lines.
fn script(lines: &[String]) -> String {
    match lines {
        [line] => Value::from(line.as_str()).to_string(),
        lines => format!("'''\n{}\n'''", lines.join("\n")),
    }
}
