//! Reads from an image's configuration how to run its program.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{ServiceError, ServiceErrorKind};

/// The `PATH` of an image that doesn't set it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The part of an image's configuration that the process target uses. It ignores the user and the ports, because the
/// program runs as the user of the engine and listens on the port of the deploy.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RunConfig {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: String,
}

#[derive(Deserialize)]
struct ImageConfig {
    #[serde(default)]
    config: RunConfig,
}

/// A program to start, with its paths on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invocation {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) current_dir: PathBuf,
}

impl RunConfig {
    pub(crate) fn parse(bytes: &[u8]) -> Result<RunConfig, ServiceError> {
        let parsed: ImageConfig = serde_json::from_slice(bytes).map_err(|error| {
            ServiceError::new(ServiceErrorKind::UnusableImage, "the image's configuration is invalid").caused_by(error)
        })?;
        Ok(parsed.config)
    }

    /// The variables of the image, in their order.
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        let entries = self.env.iter().flatten().filter_map(|entry| entry.split_once('='));
        entries.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// The working folder, relative to the image's root; empty if it is the root.
    pub(crate) fn working_dir(&self) -> &Path {
        Path::new(self.working_dir.trim_start_matches('/'))
    }

    /// The entrypoint with the arguments `args`, or if these are empty, with the image's own. The image is unpacked in
    /// `root`.
    ///
    /// # Errors
    /// [`ServiceErrorKind::UnusableImage`] if the image has neither an entrypoint nor a command, or if the program
    /// isn't in it.
    pub(crate) fn invocation(&self, root: &Path, args: &[String]) -> Result<Invocation, ServiceError> {
        let default_args = self.cmd.as_deref().unwrap_or_default();
        let args = if args.is_empty() { default_args } else { args };
        let mut words = self.entrypoint.iter().flatten().chain(args).cloned();
        let Some(name) = words.next() else {
            return Err(ServiceError::new(
                ServiceErrorKind::UnusableImage,
                "the image has neither an entrypoint nor a command",
            )
            .with_help("set `entrypoint` when building the image, or `args` when deploying it"));
        };
        let current_dir = root.join(self.working_dir());
        let program = self.find_program(root, &name).ok_or_else(|| {
            ServiceError::new(ServiceErrorKind::UnusableImage, format!("the image contains no program `{name}`"))
                .with_help("change the entrypoint to a file in the image")
        })?;
        Ok(Invocation { program, args: words.collect(), current_dir })
    }

    fn find_program(&self, root: &Path, name: &str) -> Option<PathBuf> {
        // An entrypoint may contain `..`, and an image may contain links to any path. A path is therefore compared with
        // the root after all links in it have been resolved. Without that, an entrypoint that is a link to `/bin/sh`
        // would run a program of this machine, and the digest of the image would no longer determine what runs.
        let inside = |path: &str| {
            let found = root.join(path.trim_start_matches('/')).canonicalize().ok()?;
            (found.starts_with(root.canonicalize().ok()?) && found.is_file()).then_some(found)
        };
        if name.starts_with('/') {
            return inside(name);
        }
        if name.contains('/') {
            return inside(&format!("{}/{name}", self.working_dir));
        }
        let env = self.env();
        let path = env.iter().find(|(key, _)| key == "PATH").map_or(DEFAULT_PATH, |(_, value)| value.as_str());
        path.split(':').find_map(|folder| inside(&format!("{folder}/{name}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(text: &str, files: &[&str]) -> (tempfile::TempDir, RunConfig) {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            std::fs::create_dir_all(root.path().join(file).parent().unwrap()).unwrap();
            std::fs::write(root.path().join(file), "").unwrap();
        }
        (root, RunConfig::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn arguments_of_the_deploy_replace_those_of_the_image() {
        let text = r#"{"config":{"Entrypoint":["/app"],"Cmd":["--a"],"WorkingDir":"/srv","Env":["A=1=2"]}}"#;
        let (root, config) = image(text, &["app"]);
        let default = config.invocation(root.path(), &[]).unwrap();
        assert_eq!((default.args, default.current_dir), (vec!["--a".to_owned()], root.path().join("srv")));
        let replaced = config.invocation(root.path(), &["--b".to_owned()]).unwrap();
        assert_eq!(replaced.args, ["--b"]);
        assert_eq!(config.env(), [("A".to_owned(), "1=2".to_owned())]);
    }

    #[test]
    fn programs_outside_of_the_image_are_refused() {
        let (root, config) = image(r#"{"config":{"Entrypoint":["app"],"Env":["PATH=/opt"]}}"#, &["opt/app"]);
        assert!(config.invocation(root.path(), &[]).unwrap().program.ends_with("opt/app"));
        for entrypoint in ["/bin/sh", "sh", "../../../../../../../../bin/sh"] {
            let (root, config) = image(&format!(r#"{{"config":{{"Entrypoint":["{entrypoint}"]}}}}"#), &["app"]);
            assert!(config.invocation(root.path(), &[]).is_err(), "{entrypoint}");
        }
        let (root, config) = image(r#"{"config":{"Entrypoint":["/link"]}}"#, &["app"]);
        std::os::unix::fs::symlink("/bin/sh", root.path().join("link")).unwrap();
        assert!(config.invocation(root.path(), &[]).is_err());
    }
}
