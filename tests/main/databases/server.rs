//! Servers of PostgreSQL.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::targets::machine::Machine;

/// The superuser's password.
pub(super) const PASSWORD: &str = "hunter2hunter2";

/// Where the server answers: not on the loopback, so that programs in a sandbox need it forwarded.
pub(super) const ADDRESS: &str = "10.77.0.1";

/// A server, and the machine in whose network it is.
pub(super) struct Server {
    pub(super) machine: Machine,
    /// The server's files, which belong to a user that isn't root.
    _folder: TempDir,
}

/// The newest installed version's programs.
fn programs() -> PathBuf {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .expect("these tests need PostgreSQL: install Debian's `postgresql`")
        .map(|entry| entry.expect("an entry").path().join("bin"))
        .filter(|programs| programs.join("postgres").is_file())
        .collect();
    versions.sort();
    versions.pop().expect("a version of PostgreSQL")
}

/// As a user that may be a server's: root may not.
fn as_postgres(folder: &Path, args: &[&str]) {
    let output = Command::new("runuser")
        .args(["-u", "postgres", "--"])
        .args(args)
        .current_dir(folder)
        .output()
        .expect("these tests need runuser");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Server {
    pub(super) fn start() -> Server {
        let machine = Machine::start();
        machine.run("ip", &["address", "add", &format!("{ADDRESS}/32"), "dev", "lo"]);
        let folder = tempfile::Builder::new().prefix("sw-pg").tempdir().expect("a folder");
        let path = folder.path();
        std::fs::write(path.join("password"), PASSWORD).expect("a file");
        let owned = Command::new("chown").arg("-R").arg("postgres:").arg(path).status().expect("chown starts");
        assert!(owned.success(), "these tests need to be root, and the user `postgres`");
        let programs = programs();
        let program = |name: &str| programs.join(name).display().to_string();
        let files = path.join("data").display().to_string();
        let password = format!("--pwfile={}", path.join("password").display());
        let initdb = program("initdb");
        let cluster = [
            &initdb,
            "-D",
            &files,
            "-U",
            "postgres",
            "-A",
            "scram-sha-256",
            &password,
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        ];
        as_postgres(path, &cluster);
        std::fs::write(
            path.join("data/pg_hba.conf"),
            format!("local all all trust\nhost all all {ADDRESS}/32 scram-sha-256\n"),
        )
        .expect("a file");
        let (socket, listens) = (path.display().to_string(), format!("listen_addresses={ADDRESS}"));
        let (postgres, socket) = (program("postgres"), format!("unix_socket_directories={socket}"));
        let server = Server { machine, _folder: folder };
        // A fast shutdown doesn't wait for sessions.
        let args = [
            "--reuid=postgres",
            "--regid=postgres",
            "--clear-groups",
            &postgres,
            "-D",
            &files,
            "-c",
            &listens,
            "-c",
            &socket,
        ];
        let fast = ["-c", "fsync=off", "-c", "max_connections=20"];
        server.machine.serve("setpriv", &[&args[..], &fast].concat(), |machine| {
            let asked =
                machine.command("psql").args(["-h", &socket[24..], "-U", "postgres", "-c", "SELECT 1"]).output();
            asked.is_ok_and(|output| output.status.success())
        });
        server
    }

    fn socket(&self) -> String {
        self._folder.path().display().to_string()
    }

    /// Runs statements as the superuser, and returns the rows without decoration.
    #[track_caller]
    pub(super) fn sql(&self, database: &str, statements: &str) -> String {
        let socket = self.socket();
        let args = [
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            &socket,
            "-U",
            "postgres",
            "-d",
            database,
            "-c",
            statements,
        ];
        self.machine.run("psql", &args).trim().to_owned()
    }

    /// The names of the databases, without the server's own.
    pub(super) fn databases(&self) -> Vec<String> {
        let names = self.sql(
            "postgres",
            "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres' ORDER BY 1",
        );
        names.lines().map(str::to_owned).collect()
    }

    /// Ends the server.
    pub(super) fn stop(&self) {
        self.machine.stop("setpriv");
    }
}
