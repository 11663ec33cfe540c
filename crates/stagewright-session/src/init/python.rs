//! Stages for a Python project: a virtual environment with what its tests need, and the tests.

use toml::{Table, Value};

use super::draft::{ProjectDraft, StageDraft, StageWork};
use super::project::Project;

/// Names of dependency groups and extras that contain what the tests need, best first.
const TEST_GROUPS: [&str; 5] = ["tests", "test", "testing", "dev", "develop"];
/// Files with requirements that contain what the tests need, best first.
const TEST_REQUIREMENTS: [&str; 8] = [
    "requirements-test.txt",
    "requirements-tests.txt",
    "test-requirements.txt",
    "requirements/test.txt",
    "requirements/tests.txt",
    "requirements-dev.txt",
    "dev-requirements.txt",
    "requirements/dev.txt",
];
/// Folders of tests.
const TESTS: [&str; 2] = ["tests", "test"];

pub(super) fn draft(project: &Project<'_>) -> Option<ProjectDraft> {
    let markers = ["pyproject.toml", "setup.py", "setup.cfg", "requirements.txt"];
    let marker = markers.into_iter().find(|file| project.has_file(file))?;
    let python = PythonProject { project, pyproject: project.toml("pyproject.toml").unwrap_or_default() };
    let mut draft = ProjectDraft::new(project, "python", format!("Python ({})", project.path(marker)));
    let install = python.install();
    if let Some(lines) = &install {
        let mut stage = StageDraft::new("install", StageWork::Script(lines.clone()));
        stage.write.extend(python.egg_info());
        draft.stages.push(stage);
    }
    match python.tests(install.is_some()) {
        Some(line) => {
            let mut stage = StageDraft::new("test", StageWork::Script(vec![line]));
            stage.needs = install.iter().map(|_| draft.stage_name("install")).collect();
            draft.stages.push(stage);
        }
        None => draft.left_out.push(format!("{} has no tests that init knows: a folder `tests`", project.path("."))),
    }
    Some(draft)
}

struct PythonProject<'p> {
    project: &'p Project<'p>,
    /// `pyproject.toml`; empty if there is none.
    pyproject: Table,
}

/// Where the requirements of the tests are.
enum TestRequirements {
    File(&'static str),
    /// A dependency group of `pyproject.toml`.
    Group(&'static str),
    /// An extra of the package.
    Extra(&'static str),
    Nowhere,
}

impl PythonProject<'_> {
    /// The lines that make the virtual environment; none if the project needs nothing but Python.
    fn install(&self) -> Option<Vec<String>> {
        if self.project.has_file("uv.lock") && self.project.has_program("uv") {
            return Some(self.install_with_uv());
        }
        let editable = if self.is_package() { " --editable ." } else { "" };
        let mut lines = vec!["python3 -m venv .venv".to_owned()];
        let chosen = self.test_requirements();
        let pytest = if self.uses_pytest() && !self.includes_pytest(&chosen) { " pytest" } else { "" };
        let requirements = match chosen {
            // Files with `-e .` install the package themselves.
            TestRequirements::File(file) if self.installs_itself(file) => format!(" --requirement {file}"),
            TestRequirements::File(file) => format!("{editable} --requirement {file}"),
            TestRequirements::Group(group) => {
                // Groups need pip 25.1.
                lines.push(".venv/bin/pip install --upgrade pip".to_owned());
                format!("{editable} --group {group}")
            }
            TestRequirements::Extra(extra) => format!(" --editable '.[{extra}]'"),
            TestRequirements::Nowhere if self.project.has_file("requirements.txt") => {
                format!("{editable} --requirement requirements.txt")
            }
            TestRequirements::Nowhere => editable.to_owned(),
        };
        if requirements.is_empty() && pytest.is_empty() {
            return None;
        }
        lines.push(format!(".venv/bin/pip install{requirements}{pytest}"));
        Some(lines)
    }

    /// The same from the lock file. uv leaves out all groups but `dev`, and all extras.
    fn install_with_uv(&self) -> Vec<String> {
        let chosen = self.test_requirements();
        let more = match chosen {
            TestRequirements::Group("dev") | TestRequirements::File(_) | TestRequirements::Nowhere => String::new(),
            TestRequirements::Group(group) => format!(" --group {group}"),
            TestRequirements::Extra(extra) => format!(" --extra {extra}"),
        };
        let mut lines = vec![format!("uv sync --locked{more}")];
        if self.uses_pytest() && !self.includes_pytest(&chosen) {
            lines.push("uv pip install pytest".to_owned());
        }
        lines
    }

    fn is_package(&self) -> bool {
        ["build-system", "project"].iter().any(|key| self.pyproject.contains_key(*key))
            || self.project.has_file("setup.py")
    }

    /// `[dependency-groups]`.
    fn groups(&self) -> Option<&Table> {
        self.pyproject.get("dependency-groups")?.as_table()
    }

    /// `[project.optional-dependencies]`.
    fn extras(&self) -> Option<&Table> {
        self.pyproject.get("project")?.get("optional-dependencies")?.as_table()
    }

    fn test_requirements(&self) -> TestRequirements {
        let of_tests = |table: Option<&Table>| {
            TEST_GROUPS.into_iter().find(|group| table.is_some_and(|table| table.contains_key(*group)))
        };
        if let Some(group) = of_tests(self.groups()) {
            TestRequirements::Group(group)
        } else if let Some(extra) = of_tests(self.extras()) {
            TestRequirements::Extra(extra)
        } else if let Some(file) = TEST_REQUIREMENTS.into_iter().find(|file| self.project.has_file(file)) {
            TestRequirements::File(file)
        } else {
            TestRequirements::Nowhere
        }
    }

    /// Whether the requirements name pytest or one of its plugins, which depend on it.
    fn includes_pytest(&self, requirements: &TestRequirements) -> bool {
        let listed = |table: Option<&Table>, name: &str| Some(table?.get(name)?.to_string());
        let text = match requirements {
            TestRequirements::File(file) => self.project.text(file),
            TestRequirements::Group(group) => listed(self.groups(), group),
            TestRequirements::Extra(extra) => listed(self.extras(), extra),
            TestRequirements::Nowhere => self.project.text("requirements.txt"),
        };
        text.is_some_and(|text| text.contains("pytest"))
    }

    fn installs_itself(&self, file: &str) -> bool {
        let text = self.project.text(file).unwrap_or_default();
        text.lines()
            .any(|line| ["-e .", "--editable .", "-e.", "--editable=."].iter().any(|own| line.trim().starts_with(own)))
    }

    /// The command line of the tests.
    fn tests(&self, has_environment: bool) -> Option<String> {
        let python = if has_environment { ".venv/bin/python" } else { "python3" };
        if self.uses_pytest() {
            return Some(format!("{python} -m pytest"));
        }
        if self.project.has_file("manage.py") {
            return Some(format!("{python} manage.py test"));
        }
        let folder = TESTS.into_iter().find(|folder| self.project.has_folder(folder))?;
        Some(format!("{python} -m unittest discover --start-directory {folder} --top-level-directory ."))
    }

    fn uses_pytest(&self) -> bool {
        let files = ["pyproject.toml", "setup.cfg", "setup.py", "tox.ini", "noxfile.py", "requirements.txt"];
        let mut files = files.into_iter().chain(TEST_REQUIREMENTS);
        let names_it = files.any(|file| self.project.text(file).is_some_and(|text| text.contains("pytest")));
        names_it || self.project.has_file("pytest.ini") || self.project.checks_mention("pytest")
    }

    /// The folder that setuptools creates beside the sources of a package, which is always installed as an editable one.
    fn egg_info(&self) -> Option<String> {
        let backend = self.pyproject.get("build-system").and_then(|system| system.get("build-backend"));
        let is_setuptools = backend.and_then(Value::as_str).is_none_or(|backend| backend.starts_with("setuptools"));
        let name = self.name().filter(|_| is_setuptools && self.is_package())?.replace('-', "_");
        let sources = if self.project.has_folder("src") { "src/" } else { "" };
        Some(format!("{sources}{name}.egg-info"))
    }

    /// The name of the package.
    fn name(&self) -> Option<String> {
        let named = self.pyproject.get("project").and_then(|project| project.get("name")).and_then(Value::as_str);
        let declared = || {
            let files = ["setup.cfg", "setup.py"].into_iter().filter_map(|file| self.project.text(file));
            files.flat_map(|text| text.lines().filter_map(assigned_name).collect::<Vec<_>>()).next()
        };
        named.filter(|name| is_name(name)).map(str::to_owned).or_else(declared)
    }
}

/// The value of a line such as `name = requests` or `name="requests",`.
fn assigned_name(line: &str) -> Option<String> {
    let value = line.trim().strip_prefix("name")?.trim_start().strip_prefix('=')?;
    let value = value.trim().trim_end_matches(',').trim_matches(['"', '\'']);
    is_name(value).then(|| value.to_owned())
}

/// Whether a package can have this name, which then is part of a path.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
}
