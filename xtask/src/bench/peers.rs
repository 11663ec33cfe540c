//! The contenders of each subject.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Subject;
use super::contest::{Contender, Time, contest};
use super::graph::{StageGraph, Work, write};
use crate::cargo::{Result, is_installed, run};
use crate::pipeline;

/// The number of timed runs of each contender.
pub(super) const RUNS: u32 = 7;

/// The number of stages in most subjects.
const STAGES: usize = 1000;

/// The value of the secret that is masked in the log.
pub(super) const SECRET: &str = "s3cr3t-token/with+signs";

/// A subject's figures.
pub(super) struct Measured {
    pub(super) title: &'static str,
    pub(super) times: Vec<Time>,
    /// Further figures, a line each.
    pub(super) notes: Vec<String>,
}

/// The folder and environment in which everything is measured.
pub(super) struct Bench {
    pub(super) engine: PathBuf,
    pub(super) folder: PathBuf,
    pub(super) environment: BTreeMap<String, OsString>,
}

impl Bench {
    /// Builds the plugins, and starts with an empty folder.
    pub(super) fn new(engine: PathBuf) -> Result<Bench> {
        // The folder is outside of this repository: tools that search for an enclosing repository would find this one.
        let folder = std::env::temp_dir().join("stagewright-bench");
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(|error| format!("can't remove {}: {error}", folder.display()))?;
        }
        let mut environment = BTreeMap::new();
        let (_, plugins) = pipeline::build(pipeline::FULL, Stdio::null())?;
        environment.insert("STAGEWRIGHT_PLUGINS".to_owned(), plugins.into_os_string());
        environment.insert("BENCH_TOKEN".to_owned(), SECRET.into());
        // Turns off telemetry and update checks, so that no times depend on the network.
        for quiet in ["TURBO_TELEMETRY_DISABLED", "DO_NOT_TRACK", "TURBO_NO_UPDATE_NOTIFIER", "MOON_OFFLINE"] {
            environment.insert(quiet.to_owned(), "1".into());
        }
        Ok(Bench { engine, folder, environment })
    }

    pub(super) fn measure(&self, subject: Subject) -> Result<Measured> {
        match subject {
            Subject::Graph => self.graph(),
            Subject::Processes => self.processes(),
            Subject::Cached => self.cached(),
            Subject::Start => self.start(),
            Subject::Scale => self.scale(),
            Subject::Files => self.files(),
            Subject::Log => self.log(),
            Subject::Image => self.image(),
            Subject::Sandbox | Subject::All => Err("this is measured elsewhere".to_owned()),
        }
    }

    fn graph(&self) -> Result<Measured> {
        let folder = self.folder.join("graph");
        let graph = StageGraph { stages: STAGES };
        write(&folder, "stagewright.toml", &graph.pipeline(Work::Nothing))?;
        let mut contenders = vec![self.ours("stagewright, WASM stages", &["run"])];
        contenders.extend(process_peers(&folder, &graph)?);
        let times = contest(&folder, &self.environment, RUNS, &contenders)?;
        Ok(Measured { title: "1,000 stages that do nothing", times, notes: Vec::new() })
    }

    fn processes(&self) -> Result<Measured> {
        let folder = self.folder.join("processes");
        let graph = StageGraph { stages: STAGES };
        write(&folder, "stagewright.toml", &graph.pipeline(Work::Process))?;
        let engine = self.engine.display().to_string();
        // The sandbox needs a user namespace. In one that permits no nested namespaces, programs run unconfined.
        let plain = format!("echo 0 > /proc/sys/user/max_user_namespaces && exec {engine} run 2> /dev/null");
        let mut contenders = vec![
            self.ours("stagewright, confined", &["run"]),
            Contender::new("stagewright, not confined", &["unshare", "--user", "--map-root-user", "sh", "-c", &plain]),
        ];
        contenders.extend(process_peers(&folder, &graph)?);
        let times = contest(&folder, &self.environment, RUNS, &contenders)?;
        Ok(Measured { title: "1,000 stages that start `/bin/true`", times, notes: Vec::new() })
    }

    fn cached(&self) -> Result<Measured> {
        let folder = self.folder.join("cached");
        let graph = StageGraph { stages: STAGES };
        write(&folder, "stagewright.toml", &graph.pipeline(Work::Cached))?;
        let mut contenders = vec![self.ours("stagewright", &["run"])];
        if is_installed("turbo") {
            graph.turbo(&folder.join("turbo"))?;
            contenders
                .push(Contender::new("turbo", &["turbo", "run", "build", "--cwd", "turbo", "--output-logs", "none"]));
        }
        if is_installed("moon") {
            graph.moon(&folder.join("moon"))?;
            commit(&folder.join("moon"))?;
            contenders.push(Contender::new("moon", &["env", "--chdir", "moon", "moon", "run", ":build"]));
        }
        let times = contest(&folder, &self.environment, RUNS, &contenders)?;
        Ok(Measured { title: "1,000 stages, all of them cached", times, notes: Vec::new() })
    }

    fn start(&self) -> Result<Measured> {
        let folder = self.folder.join("start");
        let graph = StageGraph { stages: 1 };
        write(&folder, "stagewright.toml", &graph.pipeline(Work::Nothing))?;
        let mut contenders = vec![
            self.ours("stagewright run", &["run"]),
            self.ours("stagewright validate", &["validate"]),
            self.ours("stagewright --help", &["--help"]),
        ];
        if is_installed("turbo") {
            graph.turbo(&folder.join("turbo"))?;
            let words = ["turbo", "run", "build", "--cwd", "turbo", "--output-logs", "none", "--force"];
            contenders.push(Contender::new("turbo run", &words));
        }
        if is_installed("moon") {
            graph.moon(&folder.join("moon"))?;
            commit(&folder.join("moon"))?;
            contenders
                .push(Contender::new("moon run", &["env", "--chdir", "moon", "moon", "run", ":build", "--force"]));
        }
        if is_installed("gitlab-ci-local") {
            write(&folder, "gitlab/.gitlab-ci.yml", "s0:\n  script:\n    - /bin/true\n")?;
            commit(&folder.join("gitlab"))?;
            let words = ["gitlab-ci-local", "--cwd", "gitlab", "--shell-executor-no-image", "--quiet"];
            contenders.push(Contender::new("gitlab-ci-local", &words));
        }
        let times = contest(&folder, &self.environment, RUNS, &contenders)?;
        Ok(Measured { title: "One stage, the whole process", times, notes: Vec::new() })
    }

    fn scale(&self) -> Result<Measured> {
        let (mut contenders, mut notes) = (Vec::new(), Vec::new());
        let folder = self.folder.join("scale");
        for stages in [STAGES, 10 * STAGES, 100 * STAGES] {
            let name = format!("{stages}.toml");
            write(&folder, &name, &StageGraph { stages }.pipeline(Work::Nothing))?;
            contenders.push(
                self.ours(&format!("stagewright, {stages} stages"), &["run", &name]).after("rm -rf .stagewright"),
            );
        }
        let times = contest(&folder, &self.environment, 3, &contenders)?;
        for (stages, time) in [STAGES, 10 * STAGES, 100 * STAGES].into_iter().zip(&times) {
            let peak = self.peak(&folder, &format!("{stages}.toml"))?;
            notes.push(format!(
                "{stages} stages: {:.0} µs each, at most {} KiB resident",
                time.median * 1e6 / stages as f64,
                peak
            ));
        }
        Ok(Measured { title: "More stages", times, notes })
    }

    /// The peak resident memory of a run, in KiB.
    pub(super) fn peak(&self, folder: &Path, pipeline: &str) -> Result<u64> {
        let mut command = Command::new(&self.engine);
        command.current_dir(folder).envs(&self.environment).args(["run", pipeline]).stdout(Stdio::null());
        let mut child = command.spawn().map_err(|error| format!("can't start the engine: {error}"))?;
        let (status, mut peak) = (format!("/proc/{}/status", child.id()), 0);
        let begun = Instant::now();
        loop {
            let text = fs::read_to_string(&status).unwrap_or_default();
            let high = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).map(str::trim);
            let high = high.and_then(|high| high.trim_end_matches(" kB").parse::<u64>().ok());
            peak = peak.max(high.unwrap_or_default());
            match child.try_wait() {
                Ok(Some(_)) => return Ok(peak),
                Ok(None) if begun.elapsed() < Duration::from_secs(600) => std::thread::sleep(Duration::from_millis(5)),
                _ => return Err("the engine didn't end within 10 minutes".to_owned()),
            }
        }
    }

    pub(super) fn ours(&self, name: &str, args: &[&str]) -> Contender {
        let engine = self.engine.display().to_string();
        Contender::new(name, &[&[engine.as_str()], args].concat())
    }
}

/// Creates a repository with a commit, which some tools require.
pub(super) fn commit(folder: &Path) -> Result<()> {
    let identity = ["-c", "user.name=bench", "-c", "user.email=bench@example.org"];
    for args in [&["init", "--quiet"][..], &["add", "--all"], &["commit", "--quiet", "--message", "bench"]] {
        run(Command::new("git").args(identity).args(args).current_dir(folder))?;
    }
    Ok(())
}

/// The tools that start a process for every stage.
fn process_peers(folder: &Path, graph: &StageGraph) -> Result<Vec<Contender>> {
    let mut contenders = Vec::new();
    for (tool, file, text, jobs) in [
        ("make", "Makefile", graph.makefile(), &[&["-j1"][..], &["-j2"]][..]),
        ("ninja", "build.ninja", graph.ninja(), &[&["--quiet", "-j1"], &["--quiet", "-j2"]]),
        ("just", "justfile", graph.justfile(), &[&[]]),
    ] {
        if !is_installed(tool) {
            continue;
        }
        write(folder, file, &text)?;
        for args in jobs {
            let name = [&[tool][..], &args[args.len().saturating_sub(1)..]].concat().join(" ");
            contenders.push(Contender::new(&name, &[&[tool][..], args].concat()));
        }
    }
    Ok(contenders)
}
