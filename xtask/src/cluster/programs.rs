//! The cluster's programs: built once from Debian's source package of Kubernetes, and kept in a cache.
//!
//! Everything comes from the Debian mirror that this machine uses, with apt's verification of signatures, but through apt's
//! configuration in a private folder: neither the machine's sources nor its lists change. A build happens in a folder beside
//! that of its result and is renamed at its end, so that an interrupted one leaves nothing that looks complete.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::cargo::{self, Result, capture};
use crate::packages;

/// The version of Kubernetes in Debian 12.
pub(super) const VERSION: &str = "v1.20.2";

/// The folder of the programs in the cache. It changes with how they are built.
const BUILD: &str = "v1.20.2-2";

/// The folder into which the source package unpacks.
const SOURCE: &str = "kubernetes-1.20.5+really1.20.2";

/// The release of Debian with that package.
const RELEASE: &str = "bookworm";

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The programs that are built. The client is among them because its version has to fit, and Debian's package would replace
/// another that a developer has.
const COMPONENTS: [&str; 6] =
    ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", CLIENT];

const CLIENT: &str = "kubectl";

/// A library in the source of Kubernetes that crashes the API server when it is built with Go 1.18 or later and reads custom
/// resources (modern-go/reflect2#24), and Debian's package of a release of it that doesn't.
const REFLECT2: [&str; 2] = ["github.com/modern-go/reflect2", "golang-github-modern-go-reflect2-dev"];

/// The folder of the Go that this version of Kubernetes can be built with.
const GO: &str = "/usr/lib/go-1.19";

/// What a build needs, and the packages that contain it.
const FOR_BUILD: [(&str, &str); 6] = [
    ("/usr/lib/go-1.19/bin/go", "golang-1.19-go"),
    ("/usr/lib/go-1.19/src/fmt/print.go", "golang-1.19-src"),
    ("dpkg-source", "dpkg-dev"),
    ("gcc", "gcc"),
    ("make", "make"),
    ("rsync", "rsync"),
];

/// The folder of the programs.
#[derive(Debug)]
pub(super) struct Programs(PathBuf);

impl Programs {
    /// `cache` is the folder of all versions.
    pub(super) fn new(cache: &Path) -> Programs {
        Programs(cache.join(BUILD))
    }

    /// Whether they have been built.
    pub(super) fn are_built(&self) -> bool {
        self.0.is_dir()
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(super) fn kubectl(&self) -> PathBuf {
        self.path(CLIENT)
    }

    /// The file system of the image of each pod's first container.
    pub(super) fn pause_archive(&self) -> PathBuf {
        self.path("pause.tar")
    }

    /// Builds them if necessary. Only one process may do this at a time.
    pub(super) fn build(&self) -> Result<()> {
        if self.are_built() {
            return Ok(());
        }
        packages::require("building Kubernetes needs", &FOR_BUILD)?;
        let begun = Instant::now();
        let folder = BuildFolder(self.0.with_added_extension("building"));
        folder.create()?;
        eprintln!("==> downloading the source of Kubernetes {VERSION}");
        folder.download()?;
        eprintln!("==> building Kubernetes {VERSION}: takes 7 minutes or more, and 3 GB in {}", folder.0.display());
        folder.make()?;
        folder.collect()?;
        let result = folder.result();
        std::fs::rename(&result, &self.0)
            .map_err(|error| format!("can't rename {} to {}: {error}", result.display(), self.0.display()))?;
        folder.remove()?;
        eprintln!("==> built in {} s: {}", begun.elapsed().as_secs(), self.0.display());
        Ok(())
    }
}

/// The folder of a build in progress. A later build removes what an interrupted one has left.
struct BuildFolder(PathBuf);

impl BuildFolder {
    fn create(&self) -> Result<()> {
        self.remove()?;
        for name in ["apt/lists/partial", "apt/cache", "home", "result"] {
            let folder = self.0.join(name);
            std::fs::create_dir_all(&folder).map_err(|error| format!("can't create {}: {error}", folder.display()))?;
        }
        Ok(())
    }

    fn remove(&self) -> Result<()> {
        match std::fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("can't remove {}: {error}", self.0.display()))
            }
            _ => Ok(()),
        }
    }

    fn result(&self) -> PathBuf {
        self.0.join("result")
    }

    fn source(&self) -> PathBuf {
        self.0.join(SOURCE)
    }

    /// Downloads and unpacks the source of Kubernetes, and Debian's package of etcd. Installing the latter would start a
    /// service of the machine.
    fn download(&self) -> Result<()> {
        let path = self.0.join("apt/sources.list");
        std::fs::write(&path, sources(&mirror()?))
            .map_err(|error| format!("can't write {}: {error}", path.display()))?;
        run(self.apt_get().arg("update"))?;
        run(self.apt_get().args(["--only-source", "source", "kubernetes"]))?;
        if !self.source().is_dir() {
            return Err(format!("Debian's source package of kubernetes didn't unpack into {SOURCE}"));
        }
        run(self.apt_get().args(["download", "etcd-server", REFLECT2[1]]))?;
        self.replace_reflect2()
    }

    fn replace_reflect2(&self) -> Result<()> {
        let [import, package] = REFLECT2;
        let (unpacked, vendored) = (self.0.join("reflect2"), self.source().join("vendor").join(import));
        run(Command::new("dpkg-deb").arg("--extract").arg(self.downloaded(&format!("{package}_"))?).arg(&unpacked))?;
        let replaced = std::fs::remove_dir_all(&vendored)
            .and_then(|()| std::fs::rename(unpacked.join("usr/share/gocode/src").join(import), &vendored));
        replaced.map_err(|error| format!("can't replace {}: {error}", vendored.display()))
    }

    fn apt_get(&self) -> Command {
        let mut command = Command::new("apt-get");
        command.current_dir(&self.0).args(["--quiet", "--quiet", "-o", "Dir::Etc::SourceParts=/dev/null"]);
        // apt's own user may not have access to the cache of the user who builds.
        command.args(["-o", "APT::Sandbox::User=root"]);
        for (key, name) in
            [("Etc::SourceList", "apt/sources.list"), ("State::Lists", "apt/lists"), ("Cache", "apt/cache")]
        {
            command.arg("-o").arg(format!("Dir::{key}={}", self.0.join(name).display()));
        }
        command
    }

    /// Builds as `debian/rules` of the package does, but other programs.
    fn make(&self) -> Result<()> {
        let workspace = self.source().join(".go/src/k8s.io");
        let linked = std::fs::create_dir_all(&workspace)
            .and_then(|()| std::os::unix::fs::symlink("../../..", workspace.join("kubernetes")));
        linked.map_err(|error| format!("can't prepare {}: {error}", workspace.display()))?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let go = PathBuf::from(GO).join("bin");
        let path = std::env::join_paths(std::iter::once(go).chain(std::env::split_paths(&path)))
            .map_err(|error| format!("invalid PATH: {error}"))?;
        let home = self.0.join("home");
        let what = COMPONENTS.map(|name| format!("cmd/{name}")).join(" ");
        let mut make = Command::new("make");
        make.current_dir(self.source()).arg(format!("WHAT={what}"));
        make.env("PATH", path).env("HOME", &home).env("GOCACHE", home.join("go-build"));
        make.env("GOPATH", self.source().join(".go")).env("CGO_ENABLED", "0");
        make.env_remove("GOROOT").env_remove("GOFLAGS");
        run(&mut make)?;
        let pause = self.source().join("build/pause/linux/pause.c");
        run(Command::new("gcc").args(["-Os", "-static", "-s", "-o"]).arg(self.0.join("pause")).arg(pause))
    }

    /// Moves what was built to the folder of the result.
    fn collect(&self) -> Result<()> {
        let built = self.source().join("_output/bin");
        for name in COMPONENTS {
            std::fs::rename(built.join(name), self.result().join(name))
                .map_err(|error| format!("`make` didn't build {name}: {error}"))?;
        }
        let archive = self.result().join("pause.tar");
        run(Command::new("tar").arg("--create").arg("--file").arg(archive).arg("-C").arg(&self.0).arg("pause"))?;
        let unpacked = self.0.join("etcd");
        run(Command::new("dpkg-deb").arg("--extract").arg(self.downloaded("etcd-server_")?).arg(&unpacked))?;
        std::fs::rename(unpacked.join("usr/bin/etcd"), self.result().join("etcd"))
            .map_err(|error| format!("Debian's package etcd-server has no program: {error}"))
    }

    fn downloaded(&self, prefix: &str) -> Result<PathBuf> {
        let entries =
            std::fs::read_dir(&self.0).map_err(|error| format!("can't read {}: {error}", self.0.display()))?;
        let mut files = entries.flatten().map(|entry| entry.path());
        let is_named = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
        files.find(|path| is_named(path)).ok_or_else(|| format!("`apt-get download` left no {prefix}*.deb"))
    }
}

/// Runs a command with its output on standard error: standard output has the variables for a shell.
fn run(command: &mut Command) -> Result<()> {
    cargo::run(command.stdout(std::io::stderr()))
}

/// The mirror of Debian's main archive that this machine uses.
fn mirror() -> Result<String> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(REPO_URI)", "Identifier: Packages", "Component: main"]);
    let text = capture(command.arg(format!("Codename: {RELEASE}")))?;
    let first = String::from_utf8_lossy(&text).lines().next().map(str::to_owned);
    first.ok_or_else(|| {
        format!(
            "apt has no source for Debian 12 ({RELEASE})\n  help: the cluster is built from its package of Kubernetes"
        )
    })
}

/// apt's list of the sources to build from, and of the package of etcd.
fn sources(mirror: &str) -> String {
    let kinds = ["deb", "deb-src"];
    kinds.map(|kind| format!("{kind} [signed-by={KEYRING}] {mirror} {RELEASE} main\n")).concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_those_of_one_version_and_absent_until_the_folder_has_its_final_name() {
        let cache = tempfile::tempdir().unwrap();
        let programs = Programs::new(cache.path());
        let folder = BuildFolder(programs.0.with_added_extension("building"));
        folder.create().unwrap();
        assert_eq!(folder.0.file_name().unwrap(), format!("{BUILD}.building").as_str());
        assert!(!programs.are_built());
        std::fs::rename(folder.result(), &programs.0).unwrap();
        assert!(programs.are_built());
        assert_eq!(programs.kubectl(), cache.path().join(BUILD).join("kubectl"));
    }

    #[test]
    fn what_an_interrupted_build_left_is_removed() {
        let cache = tempfile::tempdir().unwrap();
        let folder = BuildFolder(cache.path().join("building"));
        folder.create().unwrap();
        std::fs::write(folder.result().join("kubelet"), "half of it").unwrap();
        folder.create().unwrap();
        assert!(!folder.result().join("kubelet").exists() && folder.result().is_dir());
    }

    #[test]
    fn the_source_and_the_package_of_etcd_come_from_the_mirror_and_are_verified() {
        let text = sources("http://mirror.example/debian/");
        let lines = text.lines().collect::<Vec<_>>();
        assert_eq!(lines.len(), 2);
        for (line, kind) in lines.iter().zip(["deb", "deb-src"]) {
            assert_eq!(*line, format!("{kind} [signed-by={KEYRING}] http://mirror.example/debian/ bookworm main"));
        }
    }
}
