//! `env:` and `file:`.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use stagewright_files::Links;
use zeroize::Zeroizing;

use crate::error::Fault;
use crate::text::{text, without_last_newline};
use crate::{LARGEST, SourceContext};

pub(crate) fn variable(name: &str, around: &SourceContext) -> Result<Zeroizing<String>, Fault> {
    match around.variables.get(name) {
        Some(value) if !value.is_empty() => Ok(Zeroizing::new(value.clone())),
        Some(_) => Err(Fault::new(format!("is empty: so is the environment variable {name}"))
            .help(format!("set {name} to the secret's value"))),
        None => Err(Fault::new(format!("is not set: there is no environment variable {name}"))
            .help(format!("export {name}, or change `from` in [secrets.*]"))),
    }
}

pub(crate) fn file(path: &str, around: &SourceContext) -> Result<Zeroizing<String>, Fault> {
    let shown = around.root.join(path).display().to_string();
    let bytes = bytes(path, LARGEST + 1, around)?;
    let value = without_last_newline(text(bytes, &shown)?);
    if value.is_empty() {
        return Err(Fault::new(format!("is empty: so is {shown}")).help("write the secret's value into the file"));
    }
    Ok(value)
}

/// All of a file of at most `most` bytes, the last newline included.
///
/// Stages write in the repository, so that a link there could lead to any file of the machine: none is followed. Other
/// folders are the machine's own. Links may lead to what is within the same one, as Kubernetes makes them for mounted
/// secrets, and no farther.
pub(crate) fn bytes(path: &str, most: usize, around: &SourceContext) -> Result<Vec<u8>, Fault> {
    let whole = plain(&around.root.join(path));
    let read = match (below(&around.root, &whole), whole.parent(), whole.file_name()) {
        (Some(below), ..) => stagewright_files::read_beneath(&around.root, below, Links::None, most as u64),
        (None, Some(folder), Some(name)) => {
            stagewright_files::read_beneath(folder, Path::new(name), Links::Within, most as u64)
        }
        (None, ..) => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a folder")),
    };
    read.map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => {
            // A newline at the end isn't counted.
            let most = if most == LARGEST + 1 { LARGEST } else { most };
            Fault::new(format!("has more than {most} bytes, in {}", whole.display()))
                .help("keep the document as a file, and make its one confidential part the secret")
        }
        io::ErrorKind::InvalidInput => Fault::new(format!("can't be read from {}: {error}", whole.display()))
            .help("name the file itself in `from` in [secrets.*]: links are followed only within a folder outside of the repository"),
        _ => Fault::new(format!("can't be read from {}: {error}", whole.display()))
            .help("write the file, or change `from` in [secrets.*]"),
    })
}

/// What of a path lies in the repository, also when the path leads there under another name.
fn below<'p>(root: &Path, path: &'p Path) -> Option<&'p Path> {
    let identity = |path: &Path| path.metadata().ok().map(|found| (found.dev(), found.ino()));
    let of_root = identity(root);
    let folder = path
        .ancestors()
        .skip(1)
        .find(|folder| *folder == root || (of_root.is_some() && identity(folder) == of_root))?;
    path.strip_prefix(folder).ok()
}

/// The path without `.` and `..`, resolved by its text alone: `secrets/../x` means the `x` beside `secrets`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for step in path.components() {
        match step {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            step => plain.push(step),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn around() -> (tempfile::TempDir, SourceContext) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("repository");
        fs::create_dir_all(root.join("secrets")).unwrap();
        fs::create_dir_all(folder.path().join("machine/..data")).unwrap();
        fs::write(folder.path().join("machine/..data/token"), "mounted\n").unwrap();
        symlink("..data/token", folder.path().join("machine/token")).unwrap();
        fs::write(folder.path().join("key"), "PRIVATE").unwrap();
        symlink("../key", folder.path().join("machine/out")).unwrap();
        symlink(&root, folder.path().join("alias")).unwrap();
        fs::write(root.join("other"), "another stage's").unwrap();
        fs::write(root.join("secrets/token"), "value\n").unwrap();
        (folder, SourceContext { root, ..SourceContext::default() })
    }

    fn value(path: &str, around: &SourceContext) -> Option<String> {
        file(path, around).ok().map(|value| value.to_string())
    }

    #[test]
    fn a_link_in_the_repository_is_not_followed() {
        let (folder, around) = around();
        let given = |below: &str| folder.path().join(below).display().to_string();
        assert_eq!(value("secrets/token", &around).as_deref(), Some("value"));
        assert_eq!(value("./secrets/../secrets/token", &around).as_deref(), Some("value"));
        assert_eq!(value(&given("alias/secrets/token"), &around).as_deref(), Some("value"));
        // What a stage could do that may write `secrets`, and one that may write `.`.
        let secrets = around.root.join("secrets");
        fs::remove_file(secrets.join("token")).unwrap();
        for target in ["../other", "../../key"] {
            symlink(target, secrets.join("token")).unwrap();
            for path in ["secrets/token".to_owned(), given("repository/secrets/token"), given("alias/secrets/token")] {
                assert_eq!(value(&path, &around), None, "{path} -> {target}");
            }
            fs::remove_file(secrets.join("token")).unwrap();
        }
        fs::remove_dir(&secrets).unwrap();
        symlink("../machine", &secrets).unwrap();
        assert_eq!(value("secrets/token", &around), None);
        assert_eq!(value(&given("alias/secrets/token"), &around), None);
    }

    #[test]
    fn a_mounted_secret_is_found_by_its_links_and_nothing_beside_it() {
        let (folder, around) = around();
        let given = |below: &str| folder.path().join(below).display().to_string();
        assert_eq!(value(&given("machine/token"), &around).as_deref(), Some("mounted"));
        assert_eq!(value("../machine/token", &around).as_deref(), Some("mounted"));
        assert_eq!(value(&given("machine/out"), &around), None);
        assert_eq!(value("../machine/out", &around), None);
    }

    #[test]
    fn a_pipe_or_a_device_is_refused_and_not_waited_for() {
        let (_folder, around) = around();
        let pipe = around.root.join("secrets/pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert_eq!(value("secrets/pipe", &around), None);
        assert_eq!(value("/dev/zero", &around), None);
    }
}
