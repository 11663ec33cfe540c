//! A machine for a test: a network of its own, and what runs in it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

use crate::environment::{TestEnvironment, eventually};

/// A network namespace in which only the loopback interface is up. Services of tests that run at a time can use the same
/// ports, and none of them is reached from outside.
pub(crate) struct Machine {
    folder: TempDir,
    /// Keeps the namespace.
    holder: Child,
    /// What runs in it by the program's name, ended in the reverse order.
    services: Mutex<Vec<(String, Child)>>,
}

impl Machine {
    pub(crate) fn start() -> Machine {
        let folder = tempfile::Builder::new().prefix("sw").tempdir().expect("a folder");
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && echo up && exec sleep infinity"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare starts");
        let mut up = String::new();
        let output = holder.stdout.take().expect("a pipe");
        BufReader::new(output).read_line(&mut up).expect("a line");
        assert_eq!(up, "up\n", "these tests need to be root, or in a container that may create networks");
        Machine { folder, holder, services: Mutex::default() }
    }

    /// The command that starts a program in the network.
    pub(crate) fn entry(&self) -> Vec<String> {
        ["nsenter", "--target", &self.holder.id().to_string(), "--net", "--"].map(str::to_owned).to_vec()
    }

    /// A file or folder of the machine's services.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).expect("a file");
        self.path(name)
    }

    pub(crate) fn command(&self, program: &str) -> Command {
        let entry = self.entry();
        let mut command = Command::new(&entry[0]);
        command.args(&entry[1..]).arg(program).stdin(Stdio::null()).env("HOME", self.folder.path());
        command
    }

    /// Runs a program to its end, which must succeed. Returns its standard output.
    #[track_caller]
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.command(program).args(args).output().expect("the program starts");
        assert!(status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).expect("UTF-8")
    }

    /// Starts a service, whose output goes to a file, and waits until `is_ready`.
    #[track_caller]
    pub(crate) fn serve(&self, program: &str, args: &[&str], is_ready: impl Fn(&Machine) -> bool) {
        let name = Path::new(program).file_name().expect("a name").display().to_string();
        let log = std::fs::File::create(self.path(&format!("{name}.log"))).expect("a file");
        let service = self
            .command(program)
            .args(args)
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("these tests need {program}: {error}"));
        self.services().push((name, service));
        eventually(&format!("{program} {args:?} is ready"), || is_ready(self).then_some(()));
    }

    /// Also after a failed assertion, so that they are ended.
    fn services(&self) -> MutexGuard<'_, Vec<(String, Child)>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a service that runs.
    #[track_caller]
    pub(crate) fn stop(&self, program: &str) {
        let mut services = self.services();
        let at = services.iter().position(|(name, _)| name == program).expect("a service");
        end(&mut services.remove(at).1);
    }

    /// The body of a GET, if the status is 200.
    pub(crate) fn get(&self, url: &str) -> Option<String> {
        let output = self.command("curl").args(["-sf", "--max-time", "2", url]).output().expect("curl starts");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A repository whose programs run on this machine.
    pub(crate) fn repository(&self, pipeline: &str) -> TestEnvironment {
        let mut environment = TestEnvironment::with_pipeline(pipeline);
        environment.enter_network(&self.entry());
        environment
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.services().iter_mut().rev().for_each(|(_, service)| end(service));
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Services such as dockerd end what they started, and unmount what they mounted.
fn end(service: &mut Child) {
    let _ = Command::new("kill").arg(service.id().to_string()).status();
    let _ = service.wait();
}
