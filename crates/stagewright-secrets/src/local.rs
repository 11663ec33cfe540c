//! `env:` and `file:`: reads a variable or a file.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use stagewright_files::{Links, without_dots};
use zeroize::Zeroizing;

use crate::error::Fault;
use crate::text::{into_text, without_last_newline};
use crate::{LARGEST, SourceContext};

/// The value of the variable `name` of the engine's environment.
pub(crate) fn read_variable(name: &str, context: &SourceContext) -> Result<Zeroizing<String>, Fault> {
    match context.variables.get(name) {
        Some(value) if !value.is_empty() => Ok(Zeroizing::new(value.clone())),
        Some(_) => Err(Fault::new(format!("is empty: the environment variable {name} has no value"))
            .help(format!("set {name} to the secret's value"))),
        None => Err(Fault::new(format!("is not set: the environment variable {name} does not exist"))
            .help(format!("export {name}, or change `from` in [secrets.*]"))),
    }
}

/// The text of the file at `path`, without the newline at the end.
pub(crate) fn read_file(path: &str, context: &SourceContext) -> Result<Zeroizing<String>, Fault> {
    let shown = context.root.join(path).display().to_string();
    let bytes = read_bytes(path, LARGEST + 1, context)?;
    let value = without_last_newline(into_text(bytes, &shown)?);
    if value.is_empty() {
        return Err(
            Fault::new(format!("is empty: {shown} has no content")).help("write the secret's value into the file")
        );
    }
    Ok(value)
}

/// Reads a whole file of at most `most` bytes, including a newline at the end. Relative paths begin at the repository's
/// root.
///
/// A stage can replace a file of the repository with a link to any file of the machine, so links in the repository are
/// not followed. In other folders, a link may lead to a file within the same folder, as the links that Kubernetes
/// creates for mounted secrets do, but not out of it.
pub(crate) fn read_bytes(path: &str, most: usize, context: &SourceContext) -> Result<Vec<u8>, Fault> {
    let whole = without_dots(&context.root.join(path));
    let read = match (path_in_repository(&context.root, &whole), whole.parent(), whole.file_name()) {
        (Some(inside), ..) => stagewright_files::read_beneath(&context.root, inside, Links::None, most as u64),
        (None, Some(folder), Some(name)) => {
            stagewright_files::read_beneath(folder, Path::new(name), Links::Within, most as u64)
        }
        (None, ..) => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a folder")),
    };
    read.map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => {
            // The extra byte is for a newline at the end, which isn't part of the value.
            let most = if most == LARGEST + 1 { LARGEST } else { most };
            Fault::new(format!("has more than {most} bytes, in {}", whole.display()))
                .help("store only the confidential part as a secret, and keep the rest in a file")
        }
        io::ErrorKind::InvalidInput => Fault::new(format!("can't be read from {}: {error}", whole.display())).help(
            "name the target itself in `from` in [secrets.*]: a link is followed only outside of the repository, and \
                 within its folder",
        ),
        _ => Fault::new(format!("can't be read from {}: {error}", whole.display()))
            .help("create the file, or change `from` in [secrets.*]"),
    })
}

/// The part of a path that is relative to the repository; none if the path leads elsewhere.
fn path_in_repository<'p>(root: &Path, path: &'p Path) -> Option<&'p Path> {
    let identity = |path: &Path| path.metadata().ok().map(|found| (found.dev(), found.ino()));
    // Folders are compared by device and inode, too. If the path names the repository through a link or a second mount,
    // a comparison of names alone would treat its files as files of the machine, whose links are followed within their
    // folder, and a stage could choose the file of the repository that is read.
    let root_identity = identity(root);
    let folder = path
        .ancestors()
        .skip(1)
        .find(|folder| *folder == root || (root_identity.is_some() && identity(folder) == root_identity))?;
    path.strip_prefix(folder).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn repository_and_machine() -> (tempfile::TempDir, SourceContext) {
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

    fn value(path: &str, context: &SourceContext) -> Option<String> {
        read_file(path, context).ok().map(|value| value.to_string())
    }

    #[test]
    fn links_in_the_repository_are_not_followed() {
        let (folder, context) = repository_and_machine();
        let absolute = |path: &str| folder.path().join(path).display().to_string();
        assert_eq!(value("secrets/token", &context).as_deref(), Some("value"));
        assert_eq!(value("./secrets/../secrets/token", &context).as_deref(), Some("value"));
        assert_eq!(value(&absolute("alias/secrets/token"), &context).as_deref(), Some("value"));
        // First the changes of a stage that may write `secrets`, then those of one that may write the whole workspace.
        let secrets = context.root.join("secrets");
        fs::remove_file(secrets.join("token")).unwrap();
        for target in ["../other", "../../key"] {
            symlink(target, secrets.join("token")).unwrap();
            for path in
                ["secrets/token".to_owned(), absolute("repository/secrets/token"), absolute("alias/secrets/token")]
            {
                assert_eq!(value(&path, &context), None, "{path} -> {target}");
            }
            fs::remove_file(secrets.join("token")).unwrap();
        }
        fs::remove_dir(&secrets).unwrap();
        symlink("../machine", &secrets).unwrap();
        assert_eq!(value("secrets/token", &context), None);
        assert_eq!(value(&absolute("alias/secrets/token"), &context), None);
    }

    #[test]
    fn links_of_a_mounted_secret_are_followed_within_its_folder_only() {
        let (folder, context) = repository_and_machine();
        let absolute = |path: &str| folder.path().join(path).display().to_string();
        assert_eq!(value(&absolute("machine/token"), &context).as_deref(), Some("mounted"));
        assert_eq!(value("../machine/token", &context).as_deref(), Some("mounted"));
        assert_eq!(value(&absolute("machine/out"), &context), None);
        assert_eq!(value("../machine/out", &context), None);
    }

    #[test]
    fn pipes_and_devices_are_refused_without_blocking() {
        let (_folder, context) = repository_and_machine();
        let pipe = context.root.join("secrets/pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert_eq!(value("secrets/pipe", &context), None);
        assert_eq!(value("/dev/zero", &context), None);
    }
}
