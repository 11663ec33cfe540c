//! What to start, and why it could not be started.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::fs::Access;

use crate::child::{Child, SignalScope};
use crate::guard;

/// A program to start, with its arguments and environment.
#[derive(Clone, Default)]
pub struct Command {
    /// Absolute; [`which`] finds one by name.
    pub program: PathBuf,
    /// Without the program's name.
    pub args: Vec<String>,
    /// All of it: nothing is inherited.
    pub env: Vec<(String, String)>,
    /// Must exist.
    pub current_dir: PathBuf,
    /// Written to the child, and closed; without it the child reads from `/dev/null`.
    pub stdin: Option<Vec<u8>>,
}

/// The environment shows by name only: values may be secrets.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.env.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Command")
            .field("program", &self.program)
            .field("args", &self.args)
            .field("env", &names)
            .field("current_dir", &self.current_dir)
            .field("stdin", &self.stdin.as_ref().map(Vec::len))
            .finish()
    }
}

impl Command {
    /// Starts it in a process group of its own, with both output streams captured.
    ///
    /// Must be called within a tokio runtime that has I/O and time enabled. Blocks until the program is
    /// loaded, about a millisecond.
    pub fn spawn(mut self) -> Result<Child, SpawnError> {
        let input = self.stdin.take();
        let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
        self.spawn_with(stdin, input)
    }

    /// The same for a program that accepts the connections of a listening socket, which is its standard input.
    pub(crate) fn spawn_listening(self, listener: &OwnedFd) -> Result<Child, SpawnError> {
        let listener = listener.try_clone().map_err(|error| self.explain(error))?;
        self.spawn_with(Stdio::from(listener), None)
    }

    /// The same with a file as its standard input, from the file's position on. [`Command::stdin`] is not looked at.
    pub fn spawn_reading(self, input: File) -> Result<Child, SpawnError> {
        self.spawn_with(input.into(), None)
    }

    fn spawn_with(self, stdin: Stdio, input: Option<Vec<u8>>) -> Result<Child, SpawnError> {
        let mut native = self.native()?;
        native.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        guard::prepare().map_err(|error| self.explain(error))?;
        let process = native.spawn().map_err(|error| self.explain(error))?;
        Child::adopt(process, input, SignalScope::Group).map_err(|error| self.explain(error))
    }

    /// The same for [`std::process`], with standard streams and process group still to be chosen.
    pub(crate) fn native(&self) -> Result<std::process::Command, SpawnError> {
        if !self.program.is_absolute() {
            return Err(SpawnError::NotAbsolute { program: self.program.clone() });
        }
        let mut native = std::process::Command::new(&self.program);
        native
            .args(&self.args)
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.current_dir);
        Ok(native)
    }

    /// Finds out why the program could not be started: the kernel returns ENOENT for a missing program, a missing
    /// interpreter and a missing folder alike.
    pub(crate) fn explain(&self, source: io::Error) -> SpawnError {
        let program = self.program.clone();
        if !self.current_dir.is_dir() {
            return SpawnError::NoDirectory { program, directory: self.current_dir.clone() };
        }
        if !self.program.exists() {
            return SpawnError::NotFound { program };
        }
        if let Some(error) = self.unfit() {
            return error;
        }
        match source.kind() {
            io::ErrorKind::NotFound => SpawnError::NoInterpreter { program },
            io::ErrorKind::PermissionDenied => SpawnError::NotExecutable { program },
            _ => SpawnError::System { program, source },
        }
    }

    /// What is wrong with the program's file, or with what it is to be given, wherever it is started.
    pub(crate) fn unfit(&self) -> Option<SpawnError> {
        let program = self.program.clone();
        let variables =
            self.env.iter().map(|(name, value)| (format!("the variable {name}"), name.len() + value.len() + 1));
        let args = self.args.iter().zip(1..).map(|(arg, number)| (format!("argument {number}"), arg.len()));
        if let Some((what, bytes)) = args.chain(variables).find(|(_, bytes)| *bytes > LONGEST) {
            return Some(SpawnError::TooLong { program, what, bytes });
        }
        let found = self.program.metadata().ok().filter(std::fs::Metadata::is_file)?;
        if found.permissions().mode() & 0o111 == 0 {
            return Some(SpawnError::NotExecutable { program });
        }
        let mut start = [0; 256];
        let read = stagewright_files::open(&program).and_then(|mut file| file.read(&mut start)).ok()?;
        let line = start[..read].strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
        line.ends_with(b"\r").then_some(SpawnError::CarriageReturn { program })
    }
}

/// Bytes of an argument, or of a variable with its name: `MAX_ARG_STRLEN` of Linux, without the byte that ends it.
const LONGEST: usize = 32 * 4096 - 1;

/// Why a process could not be started.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum SpawnError {
    #[error("program `{}` is not an absolute path", program.display())]
    NotAbsolute { program: PathBuf },
    #[error("program `{}` does not exist", program.display())]
    NotFound { program: PathBuf },
    #[error("program `{}` names an interpreter that does not exist", program.display())]
    NoInterpreter { program: PathBuf },
    #[error("program `{}` is a script whose `#!` line ends in a carriage return", program.display())]
    CarriageReturn { program: PathBuf },
    #[error("program `{}` can't be started: {what} has {bytes} bytes, and Linux takes {LONGEST}", program.display())]
    TooLong { program: PathBuf, what: String, bytes: usize },
    #[error("program `{}` may not be executed", program.display())]
    NotExecutable { program: PathBuf },
    #[error("program `{}` can't start in `{}`: no such folder", program.display(), directory.display())]
    NoDirectory { program: PathBuf, directory: PathBuf },
    #[error("program `{}` is there, but not within the sandbox", program.display())]
    OutOfReach { program: PathBuf },
    #[error("program `{}` could not be started: the stage runs {limit} processes already", program.display())]
    TooMany { program: PathBuf, limit: u32 },
    #[error("program `{}` could not be started: {source}", program.display())]
    System { program: PathBuf, source: io::Error },
}

impl SpawnError {
    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            SpawnError::NotAbsolute { .. } => "look the program up in PATH first",
            SpawnError::NotFound { .. } => "install the program, or correct its path",
            SpawnError::NoInterpreter { .. } => {
                "correct the script's `#!` line, or install the dynamic loader that the binary was linked for"
            }
            SpawnError::CarriageReturn { .. } => {
                "write the file with LF line ends: `sed -i 's/\\r$//' FILE`, and in .gitattributes `*.sh text eol=lf`"
            }
            SpawnError::TooLong { .. } => "put the text into a file of the repository, and hand over its path",
            SpawnError::NotExecutable { .. } => "set its executable bit (`chmod +x`), and check the mount's options",
            SpawnError::NoDirectory { .. } => "create the folder, or start the program in another one",
            SpawnError::OutOfReach { .. } => {
                "a stage sees the system's programs, those that it is granted by name, and what it may write; grant the \
                 program by its path, or its folder with `write`"
            }
            SpawnError::TooMany { .. } => "start fewer at a time, or raise `processes` in the stage's limits",
            SpawnError::System { .. } => "check the limits on processes, memory and open files (`ulimit -a`)",
        }
    }

    /// Whether the program's file is what is missing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, SpawnError::NotFound { .. } | SpawnError::NoInterpreter { .. })
    }

    /// Whether the program's file may not be executed.
    pub fn is_not_executable(&self) -> bool {
        matches!(self, SpawnError::NotExecutable { .. })
    }
}

/// Process lists show of a program the name of the file that it was started by, which is `exe` for one that was started
/// as the running program again.
pub fn name_this_process() {
    if rustix::thread::name().is_ok_and(|name| name.as_c_str() == c"exe") {
        // An error is ignored: the name is only displayed.
        let _ = rustix::thread::set_name(c"stagewright");
    }
}

/// The executable file that a shell would start for `name`, looked up in the folders of `path_var` (the value of
/// `PATH`). Relative folders of it are passed over: the result would depend on the working directory. A name with
/// a slash in it is taken as a path.
pub fn which(name: impl AsRef<Path>, path_var: impl AsRef<OsStr>) -> Option<PathBuf> {
    let name = name.as_ref();
    if name.as_os_str().is_empty() {
        return None;
    }
    if name.components().count() > 1 || name.is_absolute() {
        return executable(name).then(|| name.to_owned());
    }
    std::env::split_paths(path_var.as_ref())
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|candidate| executable(candidate))
}

/// The same for a program that the engine runs for itself, outside of any sandbox: no file of `workspace` is one, for a
/// stage could have put it there. Nor is a link that leads there, or a path to there.
pub fn which_outside(name: impl AsRef<Path>, path_var: impl AsRef<OsStr>, workspace: &Path) -> Option<PathBuf> {
    let name = name.as_ref();
    if name.components().count() > 1 || name.is_absolute() {
        return which(name, path_var).filter(|found| !lies_in(found, workspace));
    }
    // The search continues after a program of the workspace, so that a stage can't hide the program that is meant.
    std::env::split_paths(path_var.as_ref())
        .filter_map(|folder| which(name, folder))
        .find(|found| !lies_in(found, workspace))
}

/// A `PATH` without the folders that [`which_outside`] passes over: programs look others up in it.
pub fn path_outside(path_var: impl AsRef<OsStr>, workspace: &Path) -> OsString {
    let folders = std::env::split_paths(path_var.as_ref());
    let folders = folders.filter(|folder| folder.is_absolute() && !lies_in(folder, workspace));
    // What was split at its separators has none in it.
    std::env::join_paths(folders).unwrap_or_default()
}

/// Whether a path leads into a folder, wherever links lead. What isn't there lies where its nearest folder does.
fn lies_in(path: &Path, folder: &Path) -> bool {
    let real = path.ancestors().find_map(|path| path.canonicalize().ok());
    folder.canonicalize().is_ok_and(|folder| real.is_none_or(|real| real.starts_with(folder)))
}

fn executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn which_takes_the_first_executable_file() {
        let dir = tempfile::tempdir().unwrap();
        let [plain, folder, good] = ["plain", "folder", "good"].map(|name| dir.path().join(name));
        fs::create_dir_all(folder.join("tool")).unwrap();
        for place in [&plain, &good] {
            fs::create_dir(place).unwrap();
            fs::write(place.join("tool"), "#!/bin/sh\n").unwrap();
        }
        fs::set_permissions(good.join("tool"), fs::Permissions::from_mode(0o755)).unwrap();
        // Root may "execute" a file only when some executable bit is set, so this holds for root as well.
        let path = std::env::join_paths([&plain, &folder, &good]).unwrap();

        assert_eq!(which("tool", &path), Some(good.join("tool")));
        assert_eq!(which("other", &path), None);
        assert_eq!(which(good.join("tool"), ""), Some(good.join("tool")));
        assert_eq!(which("", &path), None);
    }

    #[test]
    fn which_ignores_relative_folders() {
        assert_eq!(which("sh", "bin:."), None);
        assert!(which("sh", ".:/bin").is_some());
    }

    #[test]
    fn debug_shows_no_values() {
        let command = Command { env: vec![("TOKEN".into(), "hunter2".into())], ..Command::default() };
        let text = format!("{command:?}");
        assert!(text.contains("TOKEN") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_program_of_the_workspace_is_not_the_engines_by_any_path() {
        let dir = tempfile::tempdir().unwrap();
        let [workspace, machine, links] = ["w", "bin", "links"].map(|name| dir.path().join(name));
        for place in [&workspace.join("bin"), &machine, &links] {
            fs::create_dir_all(place).unwrap();
        }
        for place in [&workspace.join("bin"), &machine] {
            fs::copy("/bin/true", place.join("tool")).unwrap();
        }
        std::os::unix::fs::symlink(workspace.join("bin/tool"), links.join("tool")).unwrap();
        std::os::unix::fs::symlink(&workspace, dir.path().join("again")).unwrap();
        let path = |folders: &[PathBuf]| std::env::join_paths(folders).unwrap();
        let ahead = [workspace.join("bin"), dir.path().join("again/bin"), links.clone(), PathBuf::from("bin")];
        let all = path(&[&ahead[..], std::slice::from_ref(&machine)].concat());
        assert_eq!(which_outside("tool", &all, &workspace), Some(machine.join("tool")));
        assert_eq!(which_outside("tool", path(&ahead), &workspace), None);
        assert_eq!(which_outside(workspace.join("bin/tool"), "", &workspace), None);
        assert_eq!(path_outside(&all, &workspace), path(&[links, machine]));
        assert_eq!(path_outside(format!(".::{}", workspace.display()), &workspace), "");
    }
}
