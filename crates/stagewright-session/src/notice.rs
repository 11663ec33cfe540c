//! Notices of a session, which the front end shows.

use std::fmt;

use stagewright_model::{Diagnostic, count, list};
use stagewright_plugin_host::SHORTEST_MASKED;

use crate::repository::LOCK_FILE;

/// Receives the notices of a session. Can be called from any thread, and must not block for long.
pub trait Notices: Send + Sync {
    /// Errors and warnings in a pipeline, a policy or a lock file, ordered by position. If they stop the operation, a
    /// [`SessionError`](crate::SessionError) follows.
    fn diagnostics(&self, diagnostics: &[&Diagnostic]);

    /// Information for people that doesn't stop the operation.
    fn notice(&self, notice: &Notice);
}

/// Information for people that doesn't stop the operation. `Display` formats it as one sentence; untrusted text in it
/// isn't escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A plugin is being compiled for this machine. This happens once per plugin and can take seconds.
    CompilingPlugin {
        /// Its reference, as in the pipeline.
        plugin: String,
    },
    /// A secret is too short to be masked in logs.
    ShortSecret {
        /// Its name in the pipeline.
        name: String,
    },
    /// A file with the value of a secret could be committed.
    UnignoredSecret {
        /// The file, relative to the repository.
        file: String,
    },
    /// Other users can read a file with the value of a secret.
    ReadableSecret {
        /// The absolute path of the file.
        file: String,
    },
    /// Programs run without a sandbox, which the pipeline accepts.
    Unsandboxed {
        /// What the machine lacks.
        why: String,
    },
    /// A keyword of `net` doesn't cover everything that is configured on this machine; the complete sentence.
    PackageHosts(String),
    /// The pipeline may do more than the lock file permits; `--locked` would refuse it.
    WiderThanLock {
        /// The pipeline file.
        file: String,
        /// The number of changes.
        changes: usize,
    },
    /// The pipeline file has changed since the resumed run was started. The run uses its recorded text.
    PipelineChanged {
        /// The pipeline file.
        file: String,
    },
    /// A stage runs all of its tests, although only those that failed should run.
    AllTests {
        /// The stage's id.
        stage: String,
        /// Why they aren't selected.
        why: String,
    },
    /// Expressions in the name of the concurrency group are empty, so the run shares the group with unrelated runs.
    SharedGroup {
        /// The name with the empty expressions.
        group: String,
        /// The expressions that are empty.
        empty: Vec<String>,
    },
    /// The workspace is being copied for a run that learns.
    CopyingWorkspace,
    /// The workspace was copied.
    CopiedWorkspace {
        /// The number of files.
        files: usize,
        /// Their size.
        bytes: u64,
        /// Whether the copy takes no space, because it shares the files' blocks.
        shares_blocks: bool,
    },
    /// Results are still being sent to the shared cache; the run itself has ended.
    SendingResults,
    /// Results could not be put into the shared cache.
    ResultsNotSent {
        /// The number of results.
        results: u64,
        /// The first error.
        why: String,
    },
}

impl Notice {
    /// How to fix it; none if that is obvious.
    pub fn help(&self) -> Option<String> {
        match self {
            Notice::SharedGroup { empty, .. } if empty.iter().any(|expression| expression == "git.branch") => Some(
                "HEAD is detached; use `${{ git.branch == null ? git.commit : git.branch }}` to separate its commits"
                    .to_owned(),
            ),
            Notice::UnignoredSecret { file } => {
                Some(format!("add `/{file}` to .gitignore; if it has been committed, replace its secrets"))
            }
            Notice::ReadableSecret { file } => Some(format!("remove their access: chmod 600 {file}")),
            _ => None,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::CompilingPlugin { plugin } => write!(f, "compiling plugin {plugin} for this machine, once"),
            Notice::ShortSecret { name } => write!(
                f,
                "warning: the secret `{name}` is shorter than {SHORTEST_MASKED} bytes and is not masked in logs"
            ),
            Notice::UnignoredSecret { file } => {
                write!(f, "warning: git doesn't ignore `{file}`, which has the values of secrets")
            }
            Notice::ReadableSecret { file } => {
                write!(f, "warning: other users can read `{file}`, which has the values of secrets")
            }
            Notice::Unsandboxed { why } => write!(f, "warning: programs run without a sandbox: {why}"),
            Notice::PackageHosts(note) => write!(f, "note: {note}"),
            Notice::WiderThanLock { file, changes } => {
                let lock = LOCK_FILE;
                let things = if *changes == 1 { "one thing".to_owned() } else { format!("{changes} things") };
                write!(f, "note: {file} may do {things} that {lock} doesn't say: `stagewright plan {file}` shows them")
            }
            Notice::PipelineChanged { file } => {
                write!(
                    f,
                    "note: {file} has changed since the run was started; the run uses the original file. \
                     `--accept-changes` takes the changes of stages that haven't succeeded"
                )
            }
            Notice::AllTests { stage, why } => write!(f, "note: `{stage}` runs all of its tests: {why}"),
            Notice::SharedGroup { group, empty } => {
                let (is, them) = if empty.len() == 1 { ("is", "it") } else { ("are", "them") };
                let empty = list(empty.iter().map(|expression| format!("`{expression}`")));
                write!(
                    f,
                    "warning: the concurrency group is `{group}`, because {empty} {is} empty: all runs without {them} \
                     share the group"
                )
            }
            Notice::CopyingWorkspace => write!(f, "copying the workspace, so that the stages can't change it"),
            Notice::CopiedWorkspace { files, bytes, shares_blocks } => {
                let size =
                    if *shares_blocks { "which takes no space".to_owned() } else { format!("{} MiB", bytes >> 20) };
                write!(f, "copied {}, {size}", count(*files, "file"))
            }
            Notice::SendingResults => write!(f, "sending results to the shared cache"),
            Notice::ResultsNotSent { results, why } => {
                let what = if *results == 1 { "a result was".to_owned() } else { format!("{results} results were") };
                write!(f, "warning: {what} not put into the shared cache: {why}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn singular_and_plural_agree() {
        let wider = |changes| Notice::WiderThanLock { file: "a.toml".to_owned(), changes }.to_string();
        assert!(wider(1).starts_with("note: a.toml may do one thing that stagewright.lock doesn't say"));
        assert!(wider(2).starts_with("note: a.toml may do 2 things that stagewright.lock doesn't say"));
        let unsent = |results| Notice::ResultsNotSent { results, why: "no route".to_owned() }.to_string();
        assert_eq!(unsent(1), "warning: a result was not put into the shared cache: no route");
        assert_eq!(unsent(3), "warning: 3 results were not put into the shared cache: no route");
    }

    #[test]
    fn empty_expressions_in_a_group_name_are_explained() {
        let shared = |empty: &[&str]| Notice::SharedGroup {
            group: "deploy-".to_owned(),
            empty: empty.iter().map(|&expression| expression.to_owned()).collect(),
        };
        let branch = shared(&["git.branch"]);
        let sentence = "warning: the concurrency group is `deploy-`, because `git.branch` is empty: all runs without it \
                        share the group";
        assert_eq!(branch.to_string(), sentence);
        assert!(branch.help().is_some_and(|help| help.starts_with("HEAD is detached; use `${{ git.branch == null")));
        let two = shared(&["git.tag", "inputs.x"]);
        assert!(two.to_string().contains("because `git.tag`, `inputs.x` are empty: all runs without them"));
        assert_eq!(two.help(), None);
    }
}
