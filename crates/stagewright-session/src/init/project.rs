//! What `init` looks at: the files of a folder of the repository, and the programs of this machine.

use std::path::Path;

use stagewright_files::Links;
use stagewright_process::which;

use crate::repository::Repository;

/// Files in which repositories name the commands of their checks.
const OF_CHECKS: [&str; 6] = [
    ".gitlab-ci.yml",
    ".circleci/config.yml",
    "azure-pipelines.yml",
    ".pre-commit-config.yaml",
    "Makefile",
    "justfile",
];

/// A folder that may hold a project.
pub(super) struct Project<'a> {
    repository: &'a Repository,
    /// Its path below the root; none for the root.
    folder: Option<String>,
}

impl<'a> Project<'a> {
    pub(super) fn at_root(repository: &'a Repository) -> Project<'a> {
        Project { repository, folder: None }
    }

    pub(super) fn below(&self, folder: &str) -> Project<'a> {
        Project { repository: self.repository, folder: Some(folder.to_owned()) }
    }

    /// The folder's path below the root; none for the root.
    pub(super) fn folder(&self) -> Option<&str> {
        self.folder.as_deref()
    }

    /// The path of a file of the project, relative to the root.
    pub(super) fn path(&self, name: &str) -> String {
        match &self.folder {
            Some(folder) => format!("{folder}/{name}"),
            None => name.to_owned(),
        }
    }

    /// Names of the folders in the project that git would list, sorted.
    pub(super) fn folders(&self) -> Vec<String> {
        let entries = self.repository.root.join(self.path(".")).read_dir().into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut names: Vec<String> = folders
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| !name.starts_with('.') && name != "node_modules")
            .collect();
        names.sort();
        names
    }

    pub(super) fn has_file(&self, name: &str) -> bool {
        self.repository.root.join(self.path(name)).is_file()
    }

    pub(super) fn has_folder(&self, name: &str) -> bool {
        self.repository.root.join(self.path(name)).is_dir()
    }

    /// The text of a file of the project; none if it doesn't exist or isn't one that people write.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.repository_text(&self.path(name))
    }

    fn repository_text(&self, path: &str) -> Option<String> {
        let root = &self.repository.root;
        let bytes =
            stagewright_files::read_beneath(root, Path::new(path), Links::Within, stagewright_files::CONFIGURATION);
        String::from_utf8(bytes.ok()?).ok()
    }

    pub(super) fn toml(&self, name: &str) -> Option<toml::Table> {
        self.text(name)?.parse().ok()
    }

    /// Whether the machine has the program.
    pub(super) fn has_program(&self, name: &str) -> bool {
        which(name, self.repository.environment.get("PATH").map_or("", String::as_str)).is_some()
    }

    /// Whether `.gitignore` lists the name, which it does for what tools create.
    pub(super) fn ignores(&self, name: &str) -> bool {
        let files = [self.text(".gitignore"), self.repository_text(".gitignore")];
        let lines = files.iter().flatten().flat_map(|text| text.lines());
        let mut named = lines.map(|line| line.trim().trim_start_matches("**/").trim_matches('/'));
        named.any(|ignored| ignored == name)
    }

    /// Whether the repository's CI, or another list of its checks, contains the text.
    pub(super) fn checks_mention(&self, text: &str) -> bool {
        let workflows = self.repository.root.join(".github/workflows").read_dir().into_iter().flatten().flatten();
        let workflows = workflows.filter_map(|entry| entry.file_name().into_string().ok());
        let workflows = workflows.map(|name| format!(".github/workflows/{name}"));
        let mut files = OF_CHECKS.into_iter().map(str::to_owned).chain(workflows);
        files.any(|file| self.repository_text(&file).is_some_and(|content| content.contains(text)))
    }
}
