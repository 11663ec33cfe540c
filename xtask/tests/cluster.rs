//! The whole of `cargo xtask cluster`, on this machine. It runs by name only: it needs root, and some minutes for the first
//! build of Kubernetes. docs/cluster.md has the command.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "it is a test, and shows how long its steps take")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

const MANIFEST: &str = include_str!("cluster/server.yaml");

/// Seconds that a rollout may take on a busy machine.
const ROLLOUT_LIMIT: &str = "--timeout=120s";

#[test]
#[ignore = "needs root, and some minutes for the first build"]
fn a_cluster_updates_by_digest_without_failed_requests_and_leaves_nothing_after_a_crash() {
    let parent = tempfile::tempdir().unwrap();
    let cluster = Cluster::up(&parent.path().join("cluster"));
    assert_eq!(xtask(&["up", "--json"]), cluster.details.to_string(), "a second `up` prints the same");
    let other = parent.path().join("other");
    let refusal = xtask_failure(&["up", "--folder", other.to_str().unwrap()]);
    assert!(refusal.contains("this machine has a cluster") && refusal.contains("can't have two"), "{refusal}");

    let (first, second) = (cluster.push_image("one"), cluster.push_image("two"));
    cluster.roll_out(&first);
    let address = cluster.service_address();
    assert_eq!(request(address).as_deref(), Ok("one"));
    let is_done = AtomicBool::new(false);
    let requests = std::thread::scope(|scope| {
        let requests = scope.spawn(|| request_until(&is_done, address));
        cluster.roll_out(&second);
        await_version(address, "two");
        is_done.store(true, Ordering::Relaxed);
        requests.join().unwrap()
    });
    eprintln!("{} requests during the update", requests.len());
    let failed: Vec<_> = requests.iter().filter(|answer| answer.is_err()).collect();
    assert!(requests.len() > 50 && failed.is_empty(), "{} of {}: {failed:?}", failed.len(), requests.len());
    assert!(succeed(&mut cluster.kubectl(&["logs", "--selector=app=server"])).contains("started two"));
    cluster.expect_narrow_permissions();

    cluster.kill("dockerd");
    let failure = xtask_failure(&["status"]);
    assert!(failure.contains("can't be used: dockerd doesn't run"), "{failure}");
    for _ in 0..2 {
        xtask(&["down"]);
        cluster.expect_no_trace();
    }
}

/// A running cluster, which is ended when this value is dropped.
struct Cluster {
    folder: PathBuf,
    details: Details,
}

/// The output of `up --json`.
struct Details(Json);

impl std::fmt::Display for Details {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(formatter, "{:#}", self.0)
    }
}

impl Details {
    fn text(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap_or_else(|| panic!("{key} in {self}"))
    }
}

impl Cluster {
    fn up(folder: &Path) -> Cluster {
        let begun = Instant::now();
        let details = xtask(&["up", "--json", "--folder", folder.to_str().unwrap()]);
        eprintln!("up after {:.1} s", begun.elapsed().as_secs_f64());
        let details = Details(serde_json::from_str(&details).unwrap());
        assert_eq!(details.text("folder"), folder.to_str().unwrap());
        Cluster { folder: folder.to_owned(), details }
    }

    /// Builds an image that answers with `version`, and returns its name with the digest. Only the registry keeps it.
    fn push_image(&self, version: &str) -> String {
        let context = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/server.c");
        let define = format!("-DVERSION=\"{version}\"");
        let program = context.path().join("server");
        succeed(Command::new("gcc").args(["-static", "-s", &define, "-o"]).arg(program).arg(source));
        let dockerfile = "FROM scratch\nCOPY server /server\nENTRYPOINT [\"/server\"]\n";
        std::fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
        let name = format!("{}/server:{version}", self.details.text("registry"));
        succeed(self.docker(&["build", "--tag", &name]).arg(context.path()));
        succeed(&mut self.docker(&["push", &name]));
        let digest = succeed(&mut self.docker(&["inspect", "--format", "{{index .RepoDigests 0}}", &name]));
        succeed(&mut self.docker(&["rmi", "--force", &name, digest.trim()]));
        digest.trim().to_owned()
    }

    /// Deploys an image as the user with narrow permissions, by server-side apply.
    fn roll_out(&self, image: &str) {
        let begun = Instant::now();
        let manifest = self.folder.join("server.yaml");
        std::fs::write(&manifest, MANIFEST.replace("IMAGE", image)).unwrap();
        let manager = "--field-manager=stagewright";
        succeed(self.kubectl(&["apply", "--server-side", manager, "--filename"]).arg(manifest));
        succeed(&mut self.kubectl(&["rollout", "status", "deployment/server", ROLLOUT_LIMIT]));
        eprintln!("rolled out after {:.1} s", begun.elapsed().as_secs_f64());
        let managers = ["get", "deployment/server", "-o", "jsonpath={.metadata.managedFields[*].manager}"];
        assert!(succeed(&mut self.kubectl(&managers)).contains("stagewright"));
    }

    fn service_address(&self) -> SocketAddr {
        let address = succeed(&mut self.kubectl(&["get", "service/server", "-o", "jsonpath={.spec.clusterIP}"]));
        SocketAddr::new(address.parse().unwrap(), 80)
    }

    fn expect_narrow_permissions(&self) {
        let may = |arguments: &str| {
            let arguments: Vec<_> = ["auth", "can-i"].into_iter().chain(arguments.split(' ')).collect();
            // It fails if the answer is no.
            let output = self.kubectl(&arguments).output().unwrap();
            String::from_utf8_lossy(&output.stdout).trim() == "yes"
        };
        let allowed = "patch deployments,patch statefulsets,patch daemonsets,delete jobs,list replicasets,get pods,get pods/log,\
                       list events,create services,create configmaps,create secrets,create ingresses,\
                       create horizontalpodautoscalers,get persistentvolumeclaims";
        for action in allowed.split(',') {
            assert!(may(action), "{action} is allowed");
        }
        let denied = "create pods,create pods/exec,delete replicasets,create persistentvolumeclaims,get nodes,create roles,\
                      list secrets --namespace=kube-system,get deployments --all-namespaces";
        for action in denied.split(',') {
            assert!(!may(action), "{action} is denied");
        }
    }

    /// Kills a daemon like a crash, by its pid file.
    fn kill(&self, daemon: &str) {
        let text = std::fs::read_to_string(self.folder.join("pids").join(daemon)).unwrap();
        let pid = text.lines().nth(1).and_then(|stat| stat.split(' ').next()).unwrap();
        succeed(Command::new("kill").args(["-KILL", pid]));
        let begun = Instant::now();
        while Path::new("/proc").join(pid).join("exe").read_link().is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(10), "{daemon} survives SIGKILL");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn expect_no_trace(&self) {
        assert!(!self.folder.exists());
        let cgroups = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
        let left: Vec<_> =
            cgroups.map(|entry| entry.path().join("stagewright-cluster")).filter(|path| path.exists()).collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(!Path::new("/sys/class/net/sw-cluster0").exists());
        let rules = succeed(&mut Command::new("iptables-save"));
        assert!(!rules.contains("KUBE-") && !rules.contains("sw-cluster0"), "{rules}");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.folder.to_str().unwrap()), "{mounts}");
        for folder in ["/var/lib/dockershim", "/var/lib/kubelet", "/var/log/pods", "/usr/libexec/kubernetes"] {
            assert!(!Path::new(folder).exists(), "{folder}");
        }
    }

    fn docker(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(arguments).env("DOCKER_HOST", self.details.text("docker-host"));
        command
    }

    fn kubectl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.details.text("kubectl"));
        command.args(arguments).env("KUBECONFIG", self.details.text("deployer-kubeconfig"));
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = Command::new(env!("CARGO_BIN_EXE_xtask")).args(["cluster", "down"]).status();
    }
}

/// The body of a service's answer.
fn request(address: SocketAddr) -> Result<String, String> {
    let limit = Duration::from_secs(2);
    let answer = TcpStream::connect_timeout(&address, limit).and_then(|mut stream| {
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    });
    let answer = answer.map_err(|error| error.to_string())?;
    let body = answer.split_once("\r\n\r\n").filter(|(head, _)| head.starts_with("HTTP/1.0 200 "));
    body.map(|(_, body)| body.trim().to_owned()).ok_or(answer)
}

/// Waits until only pods of this version answer. The rules for services follow a rollout after a moment.
fn await_version(address: SocketAddr, version: &str) {
    let begun = Instant::now();
    let mut in_succession = 0;
    while in_succession < 20 {
        assert!(begun.elapsed() < Duration::from_secs(30), "other pods than those of {version} still answer");
        in_succession = if request(address).as_deref() == Ok(version) { in_succession + 1 } else { 0 };
    }
}

/// Sends requests until the update is done, or has failed: then nothing ever says that it is done.
fn request_until(is_done: &AtomicBool, address: SocketAddr) -> Vec<Result<String, String>> {
    let (begun, mut answers) = (Instant::now(), Vec::new());
    while !is_done.load(Ordering::Relaxed) && begun.elapsed() < Duration::from_secs(180) {
        answers.push(request(address));
    }
    answers
}

fn xtask(arguments: &[&str]) -> String {
    succeed(Command::new(env!("CARGO_BIN_EXE_xtask")).arg("cluster").args(arguments))
}

fn xtask_failure(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask")).arg("cluster").args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    errors
}

fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}\n{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}
