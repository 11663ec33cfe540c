//! Builds an image from a binary and pushes it.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::contest::{Contender, contest};
use super::graph::write;
use super::peers::{Bench, Measured, RUNS};
use crate::cargo::{Result, is_installed};

/// Size of the binary in bytes.
const SIZE: usize = 20_000_000;

const PIPELINE: &str = r#"schema = 1
[pipeline]
name = "image"
[stages.build]
uses = "build-image"
with = { files = [{ from = "context/app", to = "/app", executable = true }], entrypoint = ["/app"], layout = "image" }
permissions = { read = ["context/app"], write = ["image"] }
[stages.push]
uses = "push-image"
needs = ["build"]
with = { layout = "image", image = "REGISTRY/ours", tags = ["latest"] }
permissions = { read = ["image"], registry = ["REGISTRY/ours"] }
"#;

/// Changes the binary before each run, so that the image has to be built and pushed completely.
const CHANGE: &str = "head -c 64 /dev/urandom | dd of=context/app bs=64 seek=10000 conv=notrunc status=none";

impl Bench {
    pub(super) fn image(&self) -> Result<Measured> {
        let folder = self.folder.join("image");
        let title = "An image from 20 MB, built and pushed";
        if !is_installed("docker-registry") {
            return Ok(Measured {
                title,
                times: Vec::new(),
                notes: vec!["skipped: `docker-registry` isn't installed".to_owned()],
            });
        }
        let registry = format!("127.0.0.1:{}", free_port()?);
        write(&folder, "stagewright.toml", &PIPELINE.replace("REGISTRY", &registry))?;
        write(&folder, "context/Dockerfile", "FROM scratch\nCOPY app /app\nENTRYPOINT [\"/app\"]\n")?;
        let content = fs::read(&self.engine).map_err(|error| format!("can't read the engine: {error}"))?;
        let content: Vec<u8> = content.into_iter().cycle().take(SIZE).collect();
        fs::write(folder.join("context/app"), content).map_err(|error| format!("can't write the binary: {error}"))?;
        let config = format!(
            "version: 0.1\nlog: {{ level: error }}\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\n\
             http: {{ addr: \"{registry}\" }}\n",
            folder.join("registry").display()
        );
        write(&folder, "registry.yml", &config)?;
        let mut daemons = vec![Daemon::start(&folder, &["docker-registry", "serve", "registry.yml"])?];
        await_true("the registry", || TcpStream::connect(&registry).is_ok())?;
        let shell = |name, script: String| Contender::new(name, &["sh", "-c", &script]).after(CHANGE);
        let mut contenders = vec![self.ours("stagewright", &["run"]).after(CHANGE)];
        if is_installed("docker") && is_installed("dockerd") {
            let own = folder.join("docker").display().to_string();
            let words = format!(
                "dockerd --data-root {own}/data --exec-root {own}/run --pidfile {own}/pid -H unix://docker.sock \
                 --iptables=false --bridge=none"
            );
            daemons.push(Daemon::start(&folder, &words.split_whitespace().collect::<Vec<_>>())?);
            let docker = "docker -H unix://docker.sock";
            await_true("dockerd", || folder.join("docker.sock").exists())?;
            let image = format!("{registry}/docker");
            contenders
                .push(shell("docker", format!("{docker} build -q -t {image} context && {docker} push -q {image}")));
        }
        if is_installed("buildah") {
            let (buildah, image) =
                ("buildah --root $PWD/buildah/root --runroot $PWD/buildah/run", format!("{registry}/buildah"));
            let script = format!(
                "{buildah} build -q -t {image} context && {buildah} push -q --tls-verify=false {image} docker://{image}"
            );
            contenders.push(shell("buildah", script));
        }
        let times = contest(&folder, &self.environment, RUNS, &contenders)?;
        let mut notes = Vec::new();
        for (name, repository) in [("stagewright", "ours"), ("docker", "docker"), ("buildah", "buildah")] {
            if let Some(size) = pushed(&folder.join("registry/docker/registry/v2"), repository) {
                notes.push(format!("{name}: the layer has {:.1} MB", size as f64 / 1e6));
            }
        }
        Ok(Measured { title, times, notes })
    }
}

/// The size in bytes of the largest layer that was pushed to a repository.
fn pushed(registry: &Path, repository: &str) -> Option<u64> {
    let layers = registry.join("repositories").join(repository).join("_layers/sha256").read_dir().ok()?;
    let digests = layers.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let blob = |digest: String| registry.join("blobs/sha256").join(&digest[..2]).join(&digest).join("data");
    digests.filter_map(|digest| Some(blob(digest).metadata().ok()?.len())).max()
}

/// A background process, which is stopped when this value is dropped.
struct Daemon(Child);

impl Daemon {
    fn start(folder: &Path, words: &[&str]) -> Result<Daemon> {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map(Daemon).map_err(|error| format!("can't start {}: {error}", words[0]))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // SIGTERM instead of SIGKILL: the daemons then stop their own children. `kill` fails only if the process has
        // already ended.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

fn free_port() -> Result<u16> {
    let bound = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    bound.map(|address| address.port()).map_err(|error| format!("can't find a free port: {error}"))
}

fn await_true(what: &str, ready: impl Fn() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !ready() {
        if begun.elapsed() > Duration::from_secs(60) {
            return Err(format!("{what} doesn't answer"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
