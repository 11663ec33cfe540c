//! The commands that a deploy runs on one host.

use std::time::Duration;

use stagewright_sdk::ssh::{Command, Output};
use stagewright_sdk::text::count;
use stagewright_sdk::{Error, ErrorCode, Result, context, environment, log, secrets};

use crate::config::Config;
use crate::release;
use crate::state::HostState;

/// What every script begins with.
const COMMON: &str = include_str!("scripts/common.sh");

/// A script, and the name by which logs of the host know it.
#[derive(Clone, Copy)]
struct Script(&'static str, &'static str);

const STATE: Script = Script("state", include_str!("scripts/state.sh"));
const CLAIM: Script = Script("claim", include_str!("scripts/claim.sh"));
const RECEIVE: Script = Script("receive", include_str!("scripts/receive.sh"));
const SECRETS: Script = Script("secrets", include_str!("scripts/secrets.sh"));
const SWITCH: Script = Script("switch", include_str!("scripts/switch.sh"));
const CHECK: Script = Script("check", include_str!("scripts/check.sh"));
const FINISH: Script = Script("finish", include_str!("scripts/finish.sh"));
const BACK: Script = Script("back", include_str!("scripts/back.sh"));

/// How long a command without files may take: longer than one waits for another one that holds the lock.
const LIMIT: Duration = Duration::from_secs(10 * 60);
/// How long a check on the host may take.
const CHECK_LIMIT: Duration = Duration::from_secs(30);

/// Whether a host that goes back is given up, and loses the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retreat {
    Leave,
    Remove,
}

/// A host, and the release that it is to have.
pub(crate) struct Host<'a> {
    pub(crate) name: &'a str,
    pub(crate) config: &'a Config,
    pub(crate) release: &'a str,
}

impl Host<'_> {
    /// What the host has.
    pub(crate) fn state(&self) -> Result<HostState> {
        let mut command = self.script(STATE, self.config.status());
        let output = command.read_only().run().map_err(|error| self.at("could not look at", error))?;
        Ok(HostState::parse(&self.succeeded("look at", &output)?.text()))
    }

    /// Takes the host for this run. From then on it refuses an older deploy.
    pub(crate) fn claim(&self) -> Result<()> {
        self.change("take", self.script(CLAIM, [self.config.artifact.as_str()]))
    }

    /// Sends the release. `kind` as of [`release::kind_of`].
    pub(crate) fn receive(&self, kind: &str) -> Result<()> {
        let artifact = &self.config.artifact;
        log::info(format!("sending release {} to `{}`", self.release, self.name));
        let secrets = self.config.secrets_file(self.release).unwrap_or_default();
        let args = [artifact.digest().to_owned(), kind.to_owned(), release::variables(self.config), secrets];
        let mut command = self.script(RECEIVE, args.into_iter().chain(self.config.shared.iter().cloned()));
        command.input_artifact(artifact.name());
        self.change("send the release to", command)
    }

    /// Writes the file with the secrets' values of now.
    pub(crate) fn write_secrets(&self) -> Result<()> {
        let Some(file) = self.config.secrets_file(self.release) else { return Ok(()) };
        let mut command = self.script(SECRETS, [file]);
        for (variable, secret) in &self.config.secrets {
            let value = secrets::get(secret)?;
            command.input(format!("{variable}=\"").as_bytes()).input_quoted_secret(&value).input(b"\"\n");
        }
        command.input(b"# end\n");
        self.change("write the secrets on", command)
    }

    /// Leads the link to the release, and starts the service with it.
    pub(crate) fn switch(&self) -> Result<()> {
        self.change("switch", self.script(SWITCH, self.config.start()))
    }

    /// Why the check on the host doesn't pass; none if it does, or if there is none.
    pub(crate) fn failed_check(&self) -> Result<Option<String>> {
        let check = &self.config.check.command;
        let Some(program) = check.first() else { return Ok(None) };
        let mut command = self.script(CHECK, check.clone());
        let output = command.timeout(CHECK_LIMIT).run().map_err(|error| self.at("could not check", error))?;
        if output.success() {
            return Ok(None);
        }
        let text = [output.error_text(), output.text()].into_iter().find(|text| !text.is_empty());
        let last = text.and_then(|text| text.lines().next_back().map(|line| format!(": {line}"))).unwrap_or_default();
        Ok(Some(format!("`{program}` on `{}` ended with exit code {}{last}", self.name, output.exit_code)))
    }

    /// Makes the release the serving one.
    pub(crate) fn finish(&self) -> Result<()> {
        self.change("finish on", self.script(FINISH, [self.config.keep.to_string()]))
    }

    /// Gives the host its serving release back, if this run has switched it.
    pub(crate) fn back(&self, retreat: Retreat) -> Result<()> {
        let action = match self.state()?.serving {
            Some(_) => self.config.start(),
            None => self.config.stop(),
        };
        let what = if retreat == Retreat::Remove { "remove" } else { "leave" };
        self.change("go back on", self.script(BACK, std::iter::once(what.to_owned()).chain(action)))
    }

    /// The last lines that the unit logged.
    pub(crate) fn log_tail(&self, unit: &str, lines: u32) -> Result<String> {
        let scope = if self.config.systemctl.iter().any(|word| word == "--user") { "--user-unit" } else { "--unit" };
        let lines = lines.to_string();
        let mut command = Command::new(&self.config.credential, self.name, "journalctl");
        command.args([scope, unit, "--lines", &lines, "--no-pager", "--quiet", "--output", "cat"]);
        let output = command.read_only().timeout(CHECK_LIMIT).run()?;
        match output.success() {
            true => Ok(output.text()),
            false => Err(Error::new(ErrorCode::Unimplemented, output.error_text())),
        }
    }

    fn script<A: Into<String>>(&self, Script(name, text): Script, args: impl IntoIterator<Item = A>) -> Command {
        let fence = environment::fence().map_or("-".to_owned(), |fence| fence.to_string());
        let own = ["-c".to_owned(), format!("{COMMON}\n{text}"), name.to_owned(), self.config.root(), fence];
        let mut command = Command::new(&self.config.credential, self.name, "sh");
        command.args(own.into_iter().chain([context::run_id(), self.release.to_owned()])).args(args).timeout(LIMIT);
        command
    }

    fn change(&self, doing: &str, mut command: Command) -> Result<()> {
        let output = command.run().map_err(|error| self.at(&format!("could not {doing}"), error))?;
        self.succeeded(doing, &output).map(drop)
    }

    /// The output of a script that has succeeded.
    fn succeeded<'o>(&self, doing: &str, output: &'o Output) -> Result<&'o Output> {
        let host = self.name;
        let refused = match output.exit_code {
            0 => return Ok(output),
            10 => {
                let own = environment::fence().unwrap_or_default();
                let message =
                    format!("a deploy to `{host}` has the token {}, which is newer than {own}", output.text());
                Error::new(ErrorCode::Superseded, message).help("start a new run")
            }
            11 => Error::new(ErrorCode::Aborted, format!("another deploy has taken `{host}` since"))
                .help("check who else deploys the service, then deploy again"),
            12 => Error::new(ErrorCode::Unavailable, format!("what was sent to `{host}` didn't arrive whole"))
                .help("deploy again")
                .retryable(),
            13 => {
                let action = self.config.start().join(" ");
                Error::failed(format!("the service could not be started on `{host}`: `{action}` failed"))
                    .help(format!("find out why on the host; {}", self.advice()))
            }
            code => {
                let message = format!("could not {doing} `{host}`: the script ended with exit code {code}");
                Error::failed(message)
                    .help(format!("check that the user of the credential may write to {} there", self.config.root()))
            }
        };
        let text = output.error_text();
        Err(if text.is_empty() { refused } else { refused.cause(text) })
    }

    /// What a release has to do to start.
    pub(crate) fn advice(&self) -> String {
        match &self.config.unit {
            Some(unit) => format!("the unit `{unit}` has to run what {}/current has", self.config.root()),
            None => format!("the service has to run what {}/current has", self.config.root()),
        }
    }

    fn at(&self, doing: &str, error: Error) -> Error {
        error.context(format!("{doing} `{}`", self.name))
    }
}

/// As in `3 hosts`.
pub(crate) fn hosts(number: usize) -> String {
    count(number as u64, "host")
}
