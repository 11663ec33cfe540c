//! Encryption to public keys, by the program `age`.

use serde::Deserialize;
use stagewright_sdk::process::Command;
use stagewright_sdk::secrets;
use stagewright_sdk::{Error, JsonSchema, Problem, Requirement, Result, schemars, workspace};

const PROGRAM: &str = "age";

/// The public keys of age that backups are encrypted to, as in `age1…`. Who makes backups can't read them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Recipients(pub Vec<String>);

impl Recipients {
    fn args(&self, from: &str, to: &str) -> Vec<String> {
        let recipients = self.0.iter().flat_map(|recipient| ["--recipient", recipient]).map(str::to_owned);
        ["--encrypt".to_owned()]
            .into_iter()
            .chain(recipients)
            .chain(["--output", to, from].map(str::to_owned))
            .collect()
    }

    /// Mistakes of a key.
    pub fn problems(&self, key: &str) -> Vec<Problem> {
        let is_key = |recipient: &str| {
            let digits = recipient.strip_prefix("age1").unwrap_or_default();
            !digits.is_empty() && digits.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        };
        let problem = |recipient: &String| {
            let help = "write the public key that `age-keygen` shows, as in `age1…`";
            Problem::at(key, format!("`{recipient}` isn't a public key of age")).help(help)
        };
        self.0.iter().filter(|recipient| !is_key(recipient)).map(problem).collect()
    }

    /// What a stage is granted to encrypt one file to another.
    pub fn requirement(&self, from: &str, to: &str) -> Option<Requirement> {
        let needed = || Requirement::command(PROGRAM, self.args(from, to)).because("encrypts the backup");
        (!self.0.is_empty()).then(needed)
    }
}

/// Encrypts a file, and removes it.
///
/// # Errors
/// If it can't be encrypted.
pub fn encrypt(recipients: &Recipients, from: &str, to: &str) -> Result<()> {
    run(Command::new(PROGRAM).args(recipients.args(from, to)), "encrypt")?;
    workspace::remove(from)
}

/// What a stage is granted to decrypt one file to another with a secret.
pub fn identity_requirements(secret: &str, from: &str, to: &str) -> [Requirement; 2] {
    [
        Requirement::command(PROGRAM, decryption(from, to)).because("decrypts the backup"),
        Requirement::secret_env(secret).because("is the private key of age"),
    ]
}

/// Decrypts a file with the private key that a secret is, and removes it.
///
/// # Errors
/// If it isn't the private key, or the file is damaged.
pub fn decrypt(secret: &str, from: &str, to: &str) -> Result<()> {
    let identity = secrets::get(secret)?;
    let mut command = Command::new(PROGRAM);
    command.args(decryption(from, to)).append_stdin_secret(&identity).append_stdin(b"\n");
    run(&mut command, "decrypt")?;
    workspace::remove(from)
}

/// The private key is read from the standard input.
fn decryption<'a>(from: &'a str, to: &'a str) -> [&'a str; 6] {
    ["--decrypt", "--identity", "-", "--output", to, from]
}

fn run(command: &mut Command, doing: &str) -> Result<()> {
    let output = command.quiet().output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let error = Error::failed(format!("can't {doing} the backup: {PROGRAM} ended with {}", output.status))
        .causes(said.lines().map(str::trim).filter(|line| !line.is_empty()).take(4))
        .never_retry();
    Err(match said.contains("no identity matched") {
        true => {
            error.help("set `identity` to the secret with the private key of one of the public keys it is encrypted to")
        }
        false => error,
    })
}
