//! Hosts with real servers of SSH, each of which has folders `/srv` and `/run` of its own.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::environment::{Ended, TestEnvironment, eventually};
use crate::targets::machine::Machine;

/// The port of the first host.
const FIRST_PORT: usize = 2201;

/// Stands in for systemd, which can't run here: starting the unit notes the version, and a version that is broken on the host
/// leaves it failed. FOLDER and NAME are replaced.
const SYSTEMCTL: &str = r#"#!/bin/sh
echo "$*" >> FOLDER/systemctl.log
ps -eo args >> FOLDER/processes
case $1 in
    restart | reload-or-restart)
        [ ! -e FOLDER/refuses ] || { echo "the unit is masked" >&2; exit 1; }
        cat /srv/shop/current/version > FOLDER/runs
        grep -qx NAME /srv/shop/current/broken && echo failed > FOLDER/unit || echo active > FOLDER/unit ;;
    stop)
        rm -f FOLDER/runs
        echo inactive > FOLDER/unit ;;
    is-active) cat FOLDER/unit ;;
esac
"#;

const JOURNALCTL: &str = "#!/bin/sh\necho 'the last line of the unit'\n";

const SSHD: &str = "
ListenAddress 127.0.0.1:PORT
HostKey FOLDER/host_key
AuthorizedKeysFile FOLDER/authorized_keys
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
SetEnv PATH=FOLDER/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
";

/// Hosts, and the machine in whose network they are.
pub(super) struct Fleet {
    pub(super) machine: Machine,
    names: Vec<String>,
    servers: Vec<Option<Child>>,
}

impl Fleet {
    /// As many hosts, `web1` and so on, that accept the key of `deploy_key`.
    pub(super) fn start(hosts: usize) -> Fleet {
        let machine = Machine::start();
        keygen(&machine, "deploy_key");
        let names = (1..=hosts).map(|number| format!("web{number}")).collect();
        let mut fleet = Fleet { machine, names, servers: Vec::new() };
        for at in 0..hosts {
            fleet.prepare(at);
            fleet.servers.push(None);
            fleet.boot(at, "");
        }
        fleet
    }

    fn prepare(&self, at: usize) {
        let name = &self.names[at];
        let folder = self.folder(at);
        for inner in ["bin", "srv", "run/sshd"] {
            std::fs::create_dir_all(folder.join(inner)).expect("a folder");
        }
        keygen(&self.machine, &format!("{name}/host_key"));
        std::fs::copy(self.machine.path("deploy_key.pub"), folder.join("authorized_keys")).expect("a copy");
        for (program, text) in [("systemctl", SYSTEMCTL), ("journalctl", JOURNALCTL)] {
            let text = text.replace("FOLDER", &folder.display().to_string()).replace("NAME", name);
            let path = self.machine.write(&format!("{name}/bin/{program}"), &text);
            self.machine.run("chmod", &["755", &path.display().to_string()]);
        }
    }

    /// Starts a host's server, with more lines of configuration before the usual ones.
    pub(super) fn boot(&mut self, at: usize, more: &str) {
        self.shut_down(at);
        let (name, folder, port) = (self.names[at].clone(), self.folder(at), FIRST_PORT + at);
        let shown = folder.display().to_string();
        let text = format!("{more}\n{SSHD}").replace("PORT", &port.to_string()).replace("FOLDER", &shown);
        self.machine.write(&format!("{name}/sshd_config"), &text);
        let log = std::fs::File::create(folder.join("sshd.log")).expect("a file");
        let script = "mount --bind \"$0/srv\" /srv && mount --bind \"$0/run\" /run && exec /usr/sbin/sshd -D -e -f \"$0/sshd_config\"";
        let server = self
            .machine
            .command("unshare")
            .args(["--mount", "sh", "-c", script, &shown])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("sshd starts");
        self.servers[at] = Some(server);
        eventually(&format!("{name} listens"), || self.log(at).contains("Server listening").then_some(()));
    }

    pub(super) fn shut_down(&mut self, at: usize) {
        if let Some(mut server) = self.servers[at].take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// What the host's server has logged.
    pub(super) fn log(&self, at: usize) -> String {
        std::fs::read_to_string(self.folder(at).join("sshd.log")).unwrap_or_default()
    }

    pub(super) fn folder(&self, at: usize) -> PathBuf {
        self.machine.path(&self.names[at])
    }

    /// A file of the host; empty if it doesn't exist.
    pub(super) fn read(&self, at: usize, path: &str) -> String {
        std::fs::read_to_string(self.folder(at).join(path)).unwrap_or_default().trim().to_owned()
    }

    pub(super) fn write(&self, at: usize, path: &str, text: &str) {
        std::fs::write(self.folder(at).join(path), text).expect("a file");
    }

    /// The version with which each host's unit was last started.
    pub(super) fn versions(&self) -> Vec<String> {
        (0..self.names.len()).map(|at| self.read(at, "runs")).collect()
    }

    /// The names of the releases on a host.
    pub(super) fn releases(&self, at: usize) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder(at).join("srv/shop/releases")).into_iter().flatten();
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    /// What the state file of a host says about a key.
    pub(super) fn state(&self, at: usize, key: &str) -> String {
        let state = self.read(at, "srv/shop/.stagewright/state");
        state.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim().to_owned()
    }

    /// The public key of a host as `known_hosts` has it.
    pub(super) fn host_key(&self, at: usize) -> String {
        let text = self.read(at, "host_key.pub");
        text.split(' ').take(2).collect::<Vec<_>>().join(" ")
    }

    /// The tables of the credential's hosts.
    pub(super) fn host_tables(&self) -> String {
        let table = |at: usize| {
            let (name, port, key) = (&self.names[at], FIRST_PORT + at, self.host_key(at));
            format!("[credentials.web.hosts.{name}]\naddress = \"root@127.0.0.1:{port}\"\nhost-keys = [\"{key}\"]\n")
        };
        (0..self.names.len()).map(table).collect()
    }

    /// A repository with a pipeline in which HOSTS and NAMES are replaced, without grants.
    pub(super) fn ungranted(&self, pipeline: &str) -> TestEnvironment {
        let names = format!("{:?}", self.names);
        let text = pipeline.replace("HOSTS", &self.host_tables()).replace("NAMES", &names);
        let mut repository = self.machine.repository(&text);
        let key = std::fs::read_to_string(self.machine.path("deploy_key")).expect("a key");
        repository.set("DEPLOY_KEY", &key);
        repository.set("DATABASE_URL", super::SECRET);
        repository
    }

    /// The same, whose stages are granted what they use.
    pub(super) fn repository(&self, pipeline: &str) -> TestEnvironment {
        let repository = self.ungranted(pipeline);
        repository.run(&["grant", "--yes"]).exits(0);
        repository
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        (0..self.servers.len()).for_each(|at| self.shut_down(at));
    }
}

fn keygen(machine: &Machine, name: &str) {
    let path = machine.path(name).display().to_string();
    let _ = std::fs::remove_file(&path);
    machine.run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", &path]);
}

/// An agent that has the key of the fleet.
pub(super) struct Agent {
    process: Child,
    pub(super) socket: String,
}

impl Agent {
    pub(super) fn start(fleet: &Fleet) -> Agent {
        let socket = fleet.machine.path("agent.sock").display().to_string();
        let mut process = Command::new("ssh-agent");
        let process = process.args(["-D", "-a", &socket]).stdout(Stdio::null()).spawn().expect("ssh-agent starts");
        eventually("the agent listens", || std::path::Path::new(&socket).exists().then_some(()));
        let key = fleet.machine.path("deploy_key");
        let added = Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &socket).status().expect("ssh-add");
        assert!(added.success());
        Agent { process, socket }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Deploys a version, which is broken on some hosts.
#[track_caller]
pub(super) fn deploy(repository: &TestEnvironment, version: &str, broken: &str, code: i32) -> Ended {
    let (version, broken) = (format!("version={version}"), format!("broken={broken}"));
    repository.run(&["run", "--input", &version, "--input", &broken]).exits(code)
}
