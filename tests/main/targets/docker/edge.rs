//! Proxies that run in a container of the same engine: images from this machine's programs.

use std::collections::BTreeSet;
use std::path::Path;

use super::Docker;

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
