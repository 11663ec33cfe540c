//! What an image says of how it is to be run.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{ServiceError, ServiceErrorKind};

/// What `PATH` means in an image that doesn't set it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The part of an image's configuration that the process target uses. User and ports are for containers.
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

/// A program to start, with all of its paths on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invocation {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) current_dir: PathBuf,
}

impl RunConfig {
    pub(crate) fn parse(bytes: &[u8]) -> Result<RunConfig, ServiceError> {
        let parsed: ImageConfig = serde_json::from_slice(bytes).map_err(|error| {
            ServiceError::new(ServiceErrorKind::UnusableImage, "the image's configuration is not readable")
                .caused_by(error)
        })?;
        Ok(parsed.config)
    }

    /// `NAME=VALUE` entries, in order.
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        let entries = self.env.iter().flatten().filter_map(|entry| entry.split_once('='));
        entries.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Below the image's root.
    pub(crate) fn working_dir(&self) -> &Path {
        Path::new(self.working_dir.trim_start_matches('/'))
    }

    /// The entrypoint with `args`, or with the image's own when there are none, below the folder `root`.
    pub(crate) fn invocation(&self, root: &Path, args: &[String]) -> Result<Invocation, ServiceError> {
        let own = self.cmd.as_deref().unwrap_or_default();
        let args = if args.is_empty() { own } else { args };
        let mut words = self.entrypoint.iter().flatten().chain(args).cloned();
        let Some(name) = words.next() else {
            return Err(ServiceError::new(
                ServiceErrorKind::UnusableImage,
                "the image has neither entrypoint nor command",
            )
            .with_help("set `entrypoint` where the image is built, or `args` where it is deployed"));
        };
        let current_dir = root.join(self.working_dir());
        let program = self.find(root, &name).ok_or_else(|| {
            ServiceError::new(ServiceErrorKind::UnusableImage, format!("the image has no program `{name}`"))
                .with_help("its entrypoint must name a file of the image")
        })?;
        Ok(Invocation { program, args: words.collect(), current_dir })
    }

    fn find(&self, root: &Path, name: &str) -> Option<PathBuf> {
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
    fn arguments_of_the_deploy_win_over_those_of_the_image() {
        let text = r#"{"config":{"Entrypoint":["/app"],"Cmd":["--a"],"WorkingDir":"/srv","Env":["A=1=2"]}}"#;
        let (root, config) = image(text, &["app"]);
        let own = config.invocation(root.path(), &[]).unwrap();
        assert_eq!((own.args, own.current_dir), (vec!["--a".to_owned()], root.path().join("srv")));
        let given = config.invocation(root.path(), &["--b".to_owned()]).unwrap();
        assert_eq!(given.args, ["--b"]);
        assert_eq!(config.env(), [("A".to_owned(), "1=2".to_owned())]);
    }

    #[test]
    fn programs_are_those_of_the_image() {
        let (root, config) = image(r#"{"config":{"Entrypoint":["app"],"Env":["PATH=/opt"]}}"#, &["opt/app"]);
        assert!(config.invocation(root.path(), &[]).unwrap().program.ends_with("opt/app"));
        for entrypoint in ["/bin/sh", "sh", "../../../../../../../../bin/sh"] {
            let (root, config) = image(&format!(r#"{{"config":{{"Entrypoint":["{entrypoint}"]}}}}"#), &["app"]);
            assert!(config.invocation(root.path(), &[]).is_err(), "{entrypoint}");
        }
        let (root, config) = image(r#"{"config":{"Entrypoint":["/way"]}}"#, &["app"]);
        std::os::unix::fs::symlink("/bin/sh", root.path().join("way")).unwrap();
        assert!(config.invocation(root.path(), &[]).is_err());
    }
}
