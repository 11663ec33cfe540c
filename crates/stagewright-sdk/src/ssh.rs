//! Commands on the hosts of granted credentials of the type `ssh`. The host of the plugin connects, and has the keys.
//!
//! Since version 0.2.3 of the contract: a plugin that uses this needs an engine that has it.
//!
//! ```
//! use stagewright_sdk::fake::{FakeHost, SshScript};
//! use stagewright_sdk::ssh::Command;
//!
//! let host = FakeHost::new().ssh(SshScript::new("web1", "uname").stdout("Linux\n"));
//! let (output, report) = host.with(|| Command::new("web", "web1", "uname").read_only().run());
//! assert_eq!(output.expect("scripted").text(), "Linux");
//! assert_eq!(report.remote_commands[0].credential, "web");
//! ```

use std::time::Duration;

use crate::duration::millis;
use crate::secrets::Secret;
use crate::{Result, host::ssh as host};

/// A command that hasn't been run yet.
#[derive(Debug)]
pub struct Command(host::Command);

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its exit code.
    pub exit_code: i32,
    /// Its standard output, at most 1 MiB.
    pub stdout: Vec<u8>,
    /// Its standard error, at most 1 MiB.
    pub stderr: Vec<u8>,
}

impl Command {
    /// A program on `host`, which is one of the hosts of the credential.
    pub fn new(credential: &str, host: &str, program: &str) -> Command {
        Command(host::Command::new(credential, host, program))
    }

    /// Adds arguments. Each arrives as it is: none of them is code for the user's shell.
    pub fn args<A: Into<String>>(&mut self, args: impl IntoIterator<Item = A>) -> &mut Command {
        let args: Vec<String> = args.into_iter().map(Into::into).collect();
        self.0.args(&args);
        self
    }

    /// Appends to the standard input.
    pub fn input(&mut self, data: &[u8]) -> &mut Command {
        self.0.input(data);
        self
    }

    /// Appends a secret's value to the standard input. The secret's `hosts` must name the host's address.
    pub fn input_secret(&mut self, value: &Secret) -> &mut Command {
        self.0.input_secret(&value.0, "plain");
        self
    }

    /// Appends a secret's value as double quotes have it between them, in a POSIX shell and in systemd's environment files.
    pub fn input_quoted_secret(&mut self, value: &Secret) -> &mut Command {
        self.0.input_secret(&value.0, "quoted");
        self
    }

    /// Sets the standard input to a file of the workspace.
    pub fn input_file(&mut self, path: &str) -> &mut Command {
        self.0.input_file(path);
        self
    }

    /// Sets the standard input to the content of a published artifact; of a folder, to the tar archive of its files.
    pub fn input_artifact(&mut self, name: &str) -> &mut Command {
        self.0.input_artifact(name);
        self
    }

    /// Sets how long its end is waited for. The command may go on afterwards.
    pub fn timeout(&mut self, timeout: Duration) -> &mut Command {
        self.0.timeout_ms(millis(timeout));
        self
    }

    /// Promises that the command only reads. [`crate::Reconcile::observe`] may run such commands alone.
    pub fn read_only(&mut self) -> &mut Command {
        self.0.read_only();
        self
    }

    /// Runs it until it ends.
    ///
    /// # Errors
    /// When the credential isn't granted, the host can't be reached or isn't the right one, or the connection is lost, for
    /// which exit code 255 stands. A command that fails otherwise isn't an error: see [`Output::success`].
    pub fn run(&mut self) -> Result<Output> {
        let output = self.0.run()?;
        Ok(Output { exit_code: output.exit_code(), stdout: output.stdout(), stderr: output.stderr() })
    }
}

impl Output {
    /// Whether it ended with code 0.
    pub fn success(&self) -> bool {
        self.exit_code == 0
    }

    /// The standard output as text, without white space at its ends. Invalid UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }

    /// The standard error as text, without white space at its ends. Invalid UTF-8 is replaced.
    pub fn error_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim().to_owned()
    }
}
