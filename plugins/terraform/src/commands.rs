//! The command lines. They depend on the configuration alone, so that a stage can be granted exactly them.

use stagewright_sdk::Requirement;

use crate::config::{Action, Config};

/// A folder beside the configuration for the plan on its way, below the folder that Terraform itself uses.
const SCRATCH: &str = ".stagewright-plan";
/// The plan, in the folder that is published.
pub(crate) const PLAN: &str = "tfplan";

/// The commands of a stage.
pub(crate) struct Commands<'c> {
    config: &'c Config,
}

impl Commands<'_> {
    pub(crate) fn new(config: &Config) -> Commands<'_> {
        Commands { config }
    }

    pub(crate) fn dir(&self) -> String {
        self.config.dir.trim_end_matches('/').to_owned()
    }

    /// The folder with the plan.
    pub(crate) fn scratch(&self) -> String {
        format!("{}/{SCRATCH}", self.dir())
    }

    fn args(&self, command: &str, more: &[&str]) -> Vec<String> {
        let words = [format!("-chdir={}", self.dir()), command.to_owned()];
        words.into_iter().chain(more.iter().map(|arg| (*arg).to_owned())).collect()
    }

    /// A path of the workspace, as seen from the folder of the configuration.
    fn seen_from_dir(&self, path: &str) -> String {
        let up = self.config.dir.split('/').filter(|name| !matches!(*name, "" | ".")).map(|_| "../");
        format!("{}{}", up.collect::<String>(), path.trim_end_matches('/'))
    }

    /// Gets the providers that the lock file names, and no others.
    pub(crate) fn init(&self) -> Vec<String> {
        let mut args = self.args("init", &["-input=false", "-no-color", "-lockfile=readonly"]);
        args.extend(
            self.config.plugin_dir.as_ref().map(|folder| format!("-plugin-dir={}", self.seen_from_dir(folder))),
        );
        args
    }

    pub(crate) fn plan(&self) -> Vec<String> {
        let lock = format!("-lock-timeout={}s", self.config.lock_timeout.0.as_secs());
        let out = format!("-out={SCRATCH}/{PLAN}");
        let mut args = self.args("plan", &["-input=false", "-no-color", "-detailed-exitcode", &lock, &out]);
        args.extend(self.config.destroy.then(|| "-destroy".to_owned()));
        args.extend(self.config.vars.iter().map(|(name, value)| format!("-var={name}={value}")));
        args.extend(self.config.var_files.iter().map(|file| format!("-var-file={}", self.seen_from_dir(file))));
        args
    }

    pub(crate) fn show(&self) -> Vec<String> {
        self.args("show", &["-json", &format!("{SCRATCH}/{PLAN}")])
    }

    /// Prints the state, whose number grows with each change.
    pub(crate) fn state(&self) -> Vec<String> {
        self.args("state", &["pull"])
    }

    pub(crate) fn apply(&self) -> Vec<String> {
        let lock = format!("-lock-timeout={}s", self.config.lock_timeout.0.as_secs());
        self.args("apply", &["-input=false", "-no-color", &lock, &format!("{SCRATCH}/{PLAN}")])
    }

    pub(crate) fn output(&self) -> Vec<String> {
        self.args("output", &["-json"])
    }

    /// All that the stage runs.
    pub(crate) fn all(&self) -> Vec<Vec<String>> {
        match self.config.action {
            Action::Plan => vec![self.init(), self.plan(), self.show(), self.state()],
            Action::Apply => vec![self.init(), self.state(), self.apply(), self.output()],
        }
    }

    /// What a stage is granted to run them.
    pub(crate) fn requirements(&self) -> Vec<Requirement> {
        let config = self.config;
        let commands = self.all().into_iter().map(|args| Requirement::command(&config.program, args));
        let mut needed: Vec<Requirement> = commands.map(|command| command.because("plans and applies")).collect();
        needed.push(Requirement::read(format!("{}/", self.dir())).because("has the configuration"));
        needed.push(Requirement::write(format!("{}/.terraform/", self.dir())).because("gets the providers"));
        needed.push(Requirement::write(format!("{}/", self.scratch())).because("gets the plan"));
        let providers =
            config.plugin_dir.iter().map(|folder| Requirement::read(folder.as_str()).because("has the providers"));
        needed.extend(providers);
        let files =
            config.var_files.iter().map(|file| Requirement::read(file.as_str()).because("has values of variables"));
        needed.extend(files);
        let secrets = config
            .secrets
            .values()
            .map(|secret| Requirement::secret_env(secret).because("is a provider's or a variable's"));
        needed.extend(secrets);
        needed
    }
}
