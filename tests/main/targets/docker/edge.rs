//! Proxies that run in a container of the same engine: images from this machine's programs.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::Docker;
use crate::targets::load::Load;

impl Docker {
    /// Starts the container `edge` with the machine's network, from programs by their absolute paths with their libraries, and
    /// from files.
    pub(super) fn run_edge(&self, entrypoint: &[&str], programs: &[&str], files: &[(&str, &str)]) {
        let machine = &self.engine.machine;
        for (name, text) in files {
            let folder = machine.path("edge").join(Path::new(name).parent().expect("a folder"));
            std::fs::create_dir_all(folder).expect("a folder");
            machine.write(&format!("edge/{name}"), text);
        }
        let libraries = machine.run("ldd", programs);
        let libraries = libraries.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':'));
        // Twice, one would be a link to itself.
        let libraries: BTreeSet<&str> = libraries.collect();
        let image = machine.path("edge.tar").display().to_string();
        let folder = machine.path("edge").display().to_string();
        let create = ["--create", "--dereference", "--absolute-names", "--file", &image, "--directory", &folder, "."];
        let args = create.into_iter().chain(programs.iter().copied()).chain(libraries);
        machine.run("tar", &args.collect::<Vec<_>>());
        let entrypoint = format!("ENTRYPOINT {}", serde_json::json!(entrypoint));
        self.docker(&["import", "--change", &entrypoint, &image, "edge"]);
        self.docker(&["run", "--detach", "--name", "edge", "--network", "host", "edge"]);
    }

    /// Promotes a canary, aborts one, promotes another and rolls back, under load: no request fails, and no canary gets more
    /// than its 20 percent.
    pub(super) fn roll_canaries_out_behind_edge(&self) {
        self.deploy("1", &[], 5);
        self.repository.run(&["rollout", "promote", "production", "--full"]).exits(0);
        assert_eq!(self.behind().as_deref(), Some("version 1"));

        let mut load = Load::on(&self.engine.machine, 8000, "/");
        self.deploy("2", &[], 5);
        load.check_share(Duration::from_secs(3), 20);
        self.repository.run(&["rollout", "abort", "production", "--by", "ada"]).exits(1);
        let aborted = load.answers();

        self.deploy("3", &[], 5);
        self.repository.run(&["rollout", "promote", "production"]).exits(0);
        assert_eq!(self.behind().as_deref(), Some("version 3"));
        self.repository.run(&["rollback", "production"]).exits(0);
        assert_eq!((self.behind().as_deref(), self.serves().as_str()), (Some("version 1"), "version 1"));
        let answers = load.answers();
        assert_eq!(answers.keys().collect::<Vec<_>>(), ["version 1", "version 2", "version 3"], "{answers:?}");
        assert_eq!(answers.get("version 2"), aborted.get("version 2"), "nothing went to the aborted version");
    }

    /// What the proxy answers.
    pub(super) fn behind(&self) -> Option<String> {
        self.engine.machine.get("http://127.0.0.1:8000/")
    }

    /// Whether the proxy accepts connections.
    pub(super) fn is_up(&self) -> bool {
        let tried = self.engine.machine.command("curl").args(["-s", "http://127.0.0.1:8000/"]).output();
        tried.is_ok_and(|output| output.status.success())
    }
}
