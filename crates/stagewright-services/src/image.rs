//! Reads from an image how to run its program.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use stagewright_files::{Links, RECORD, read_beneath};
use stagewright_process::sandbox::ProgramUser;

use crate::error::{ServiceError, ServiceErrorKind};

/// The `PATH` of an image that doesn't set it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The part of an image's configuration that the process target uses. It ignores the ports, because the program listens on
/// the port of the deploy.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RunConfig {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: String,
    user: String,
}

#[derive(Deserialize)]
struct ImageConfig {
    #[serde(default)]
    config: RunConfig,
}

/// A program to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invocation {
    /// Its path on this machine, without links.
    pub(crate) program: PathBuf,
    /// Its path in the image, by which it may find out what it is to do.
    pub(crate) inside: PathBuf,
    pub(crate) args: Vec<String>,
}

/// A path of an image on this machine; none if nothing is there, or if links lead out of the image.
pub(crate) fn within(root: &Path, path: &Path) -> Option<PathBuf> {
    let found = root.join(path.strip_prefix("/").unwrap_or(path)).canonicalize().ok()?;
    found.starts_with(root.canonicalize().ok()?).then_some(found)
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
        let (inside, program) = self.find_program(root, &name).ok_or_else(|| {
            ServiceError::new(ServiceErrorKind::UnusableImage, format!("the image contains no program `{name}`"))
                .with_help("change the entrypoint to a file in the image")
        })?;
        Ok(Invocation { program, inside, args: words.collect() })
    }

    /// The path of a program in the image, and on this machine.
    fn find_program(&self, root: &Path, name: &str) -> Option<(PathBuf, PathBuf)> {
        // An entrypoint may contain `..`, and an image may contain links to any path. A path is therefore compared with
        // the root after all links in it have been resolved. Without that, an entrypoint that is a link to `/bin/sh`
        // would run a program of this machine, and the digest of the image would no longer determine what runs.
        let inside = |path: PathBuf| {
            let found = within(root, &path).filter(|found| found.is_file())?;
            Some((path, found))
        };
        if name.contains('/') {
            return inside(self.current_dir().join(name));
        }
        let env = self.env();
        let path = env.iter().find(|(key, _)| key == "PATH").map_or(DEFAULT_PATH, |(_, value)| value.as_str());
        path.split(':').find_map(|folder| inside(Path::new("/").join(folder).join(name)))
    }

    /// The working folder in the image.
    pub(crate) fn current_dir(&self) -> PathBuf {
        Path::new("/").join(self.working_dir())
    }

    /// Variables that a program in the image's root has unless the image or the deploy sets them.
    pub(crate) fn default_env(root: &Path, user: Option<&ProgramUser>) -> Vec<(String, String)> {
        let uid = user.map_or_else(|| rustix::process::geteuid().as_raw(), |user| user.uid);
        let home = Users::read(root).by_number(uid).map_or_else(|| "/".to_owned(), |user| user.home);
        [("PATH", DEFAULT_PATH.to_owned()), ("HOME", home)].map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// The user of the program, by `/etc/passwd` and `/etc/group` of the image; none for root, and if the image names none:
    /// the program then runs as the user of the engine.
    ///
    /// # Errors
    /// [`ServiceErrorKind::UnusableImage`] if the image doesn't know its user or its group.
    pub(crate) fn user(&self, root: &Path) -> Result<Option<ProgramUser>, ServiceError> {
        if self.user.is_empty() {
            return Ok(None);
        }
        let users = Users::read(root);
        let unknown = |what: &str, name: &str| {
            ServiceError::new(ServiceErrorKind::UnusableImage, format!("the image has no {what} `{name}`")).with_help(
                format!(
                    "add it to /etc/{} of the image, or set `User` to a number",
                    match what {
                        "user" => "passwd",
                        _ => "group",
                    }
                ),
            )
        };
        let (name, group) =
            self.user.split_once(':').map_or((self.user.as_str(), None), |(user, group)| (user, Some(group)));
        let user = match name.parse() {
            Ok(number) => users.by_number(number).unwrap_or(User { uid: number, ..User::default() }),
            Err(_) => users.by_name(name).ok_or_else(|| unknown("user", name))?,
        };
        let (gid, groups) = match group.filter(|group| !group.is_empty()) {
            None => (user.gid, users.groups_of(&user.name)),
            Some(group) => {
                let number = group.parse().ok().or_else(|| users.group(group));
                (number.ok_or_else(|| unknown("group", group))?, Vec::new())
            }
        };
        Ok((user.uid != 0 || gid != 0).then_some(ProgramUser { uid: user.uid, gid, groups }))
    }
}

/// The users and groups of an image: passwd(5), group(5).
struct Users {
    passwd: String,
    group: String,
}

/// A user of an image.
#[derive(Default)]
struct User {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

impl Users {
    /// None if the image has no such files.
    fn read(root: &Path) -> Users {
        let read = |path: &str| {
            let text = read_beneath(root, Path::new(path), Links::Within, RECORD).unwrap_or_default();
            String::from_utf8_lossy(&text).into_owned()
        };
        Users { passwd: read("etc/passwd"), group: read("etc/group") }
    }

    fn all(&self) -> impl Iterator<Item = User> {
        self.passwd.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, uid, gid, _, home, ..] = fields.as_slice() else { return None };
            let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
            Some(User { name: (*name).to_owned(), uid, gid, home: (*home).to_owned() })
        })
    }

    fn by_name(&self, name: &str) -> Option<User> {
        self.all().find(|user| user.name == name)
    }

    fn by_number(&self, uid: u32) -> Option<User> {
        self.all().find(|user| user.uid == uid)
    }

    /// The number of a group.
    fn group(&self, name: &str) -> Option<u32> {
        self.groups().find(|(found, ..)| *found == name).map(|(_, number, _)| number)
    }

    /// The numbers of the groups that list a user.
    fn groups_of(&self, user: &str) -> Vec<u32> {
        let lists = |members: &str| members.split(',').any(|member| !member.is_empty() && member == user);
        self.groups().filter(|(_, _, members)| lists(members)).map(|(_, number, _)| number).collect()
    }

    fn groups(&self) -> impl Iterator<Item = (&str, u32, &str)> {
        self.group.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, number, members, ..] = fields.as_slice() else { return None };
            Some((*name, number.parse().ok()?, *members))
        })
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
        assert_eq!((default.args, config.current_dir()), (vec!["--a".to_owned()], PathBuf::from("/srv")));
        assert_eq!(default.inside, Path::new("/app"));
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

    #[test]
    fn a_program_keeps_the_name_that_the_image_calls_it_by() {
        let (root, config) = image(r#"{"config":{"Entrypoint":["sh"],"WorkingDir":"/srv"}}"#, &["bin/busybox"]);
        std::os::unix::fs::symlink("busybox", root.path().join("bin/sh")).unwrap();
        let found = config.invocation(root.path(), &[]).unwrap();
        assert_eq!(found.inside, Path::new("/bin/sh"));
        assert!(found.program.ends_with("bin/busybox"), "{found:?}");
        let (root, config) = image(r#"{"config":{"Entrypoint":["./app"],"WorkingDir":"/srv"}}"#, &["srv/app"]);
        assert_eq!(config.invocation(root.path(), &[]).unwrap().inside, Path::new("/srv/./app"));
    }

    #[test]
    fn users_are_those_of_the_image() {
        let user = |text: &str| {
            let (root, config) = image(&format!(r#"{{"config":{{"User":"{text}"}}}}"#), &["etc/passwd", "etc/group"]);
            let write = |name: &str, text: &str| std::fs::write(root.path().join("etc").join(name), text).unwrap();
            write("passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:70:71::/home/app:\nbroken\n");
            write("group", "root:x:0:\nweb:x:80:other,app\nfiles:x:90:application\n");
            config.user(root.path()).map(|user| user.map(|user| (user.uid, user.gid, user.groups)))
        };
        for (text, expected) in [
            ("app", (70, 71, vec![80])),
            ("70", (70, 71, vec![80])),
            ("app:files", (70, 90, vec![])),
            ("app:5", (70, 5, vec![])),
            ("1000", (1000, 0, vec![])),
            ("1000:1001", (1000, 1001, vec![])),
        ] {
            assert_eq!(user(text).unwrap(), Some(expected), "{text}");
        }
        for root in ["", "root", "0", "0:0"] {
            assert_eq!(user(root).unwrap(), None, "{root}");
        }
        for (text, said) in [("ghost", "no user `ghost`"), ("app:ghost", "no group `ghost`"), ("-1", "no user")] {
            let error = user(text).unwrap_err();
            assert!(error.message.contains(said), "{error:?}");
        }
        let (root, _) = image("{}", &["etc/passwd"]);
        std::fs::write(root.path().join("etc/passwd"), "app:x:70:71::/home/app:\n").unwrap();
        let home = |uid: u32| {
            let user = ProgramUser { uid, gid: 0, groups: Vec::new() };
            RunConfig::default_env(root.path(), Some(&user)).pop().unwrap().1
        };
        assert_eq!((home(70).as_str(), home(5).as_str()), ("/home/app", "/"));
    }
}
