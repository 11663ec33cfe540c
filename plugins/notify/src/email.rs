//! E-mails, which the program `curl` submits by SMTP.
//!
//! A plugin can't open a TCP connection. `curl` is on most machines, verifies certificates, and reads all that it is to do from
//! its standard input: the command line has neither the message nor the password, and so needs only one exact grant.

pub(crate) mod address;
mod mime;

use stagewright_sdk::process::Command;
use stagewright_sdk::{Error, ErrorCode, Requirement, Result, clock, context, log, secrets};

use crate::config::{Config, Email, Security};

/// `curl` without the user's own configuration, and with that of its standard input.
const PROGRAM: &str = "curl";
const ARGS: [&str; 3] = ["--disable", "--config", "-"];

/// Its exit codes; see curl(1).
const UNKNOWN_CERTIFICATE: i32 = 60;
const LOGIN_DENIED: i32 = 67;

/// The most bytes of its output.
const OUTPUT: u64 = 64 << 10;

impl Email {
    /// The server and its port.
    pub(crate) fn host_and_port(&self) -> std::result::Result<(&str, u16), String> {
        let usual = match self.security {
            Security::Starttls => 587,
            Security::Tls => 465,
            Security::None => 25,
        };
        let (host, port) = match self.server.split_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| format!("`{}` has an invalid port", self.server))?),
            None => (self.server.as_str(), usual),
        };
        let is_host = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'));
        if is_host { Ok((host, port)) } else { Err(format!("`{}` isn't the name of a server", self.server)) }
    }

    pub(crate) fn requirements(&self) -> Vec<Requirement> {
        let mut needed = vec![Requirement::command(PROGRAM, ARGS).because("submits the e-mail")];
        if let Ok((host, port)) = self.host_and_port() {
            needed.push(Requirement::net(format!("tcp://{host}:{port}")).because("takes the e-mail"));
        }
        needed.extend(self.secret.as_deref().map(|secret| Requirement::secret_env(secret).because("is the password")));
        needed.extend(self.ca.as_ref().map(|ca| Requirement::read(ca.as_str()).because("vouches for the server")));
        needed
    }
}

/// Sends the e-mail.
pub(crate) fn send(config: &Config, email: &Email) -> Result<()> {
    let (host, port) = email.host_and_port().map_err(Error::invalid)?;
    let mut command = Command::new(PROGRAM);
    command.args(ARGS).capture_limit(OUTPUT).quiet();
    command.append_stdin(settings(config, email, host, port).as_bytes());
    if let (Some(user), Some(secret)) = (&email.user, &email.secret) {
        command.append_stdin(format!("user = \"{}:", quoted(user)).as_bytes());
        command.append_stdin_quoted_secret(&secrets::get(secret)?);
        command.append_stdin(b"\"\n");
    }
    let output = command.output()?;
    let reply = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() {
        log::info(format!("{host}:{port} took the e-mail for {}", email.to.join(", ")));
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let message = format!("{host}:{port} did not take the e-mail");
    let error = Error::new(ErrorCode::Unavailable, message).causes((!said.is_empty()).then_some(said));
    // By RFC 5321, a reply that begins with 4 is about the moment, and one with 5 isn't. Another login doesn't help, and may lock
    // the account. Without a reply, the server wasn't reached.
    Err(match (output.status.code, reply.chars().next()) {
        (Some(UNKNOWN_CERTIFICATE), _) => {
            error.help("set `email.ca` to the file with the certificate of its authority").never_retry()
        }
        (Some(LOGIN_DENIED), _) | (_, Some('5')) => error.never_retry(),
        (_, Some('4') | Some('0')) => error.retryable(),
        _ => error,
    })
}

/// What `curl` is to do, as it reads it from a file.
fn settings(config: &Config, email: &Email, host: &str, port: u16) -> String {
    let scheme = if email.security == Security::Tls { "smtps" } else { "smtp" };
    let mut lines = vec![
        "silent".to_owned(),
        "show-error".to_owned(),
        "write-out = \"%{response_code}\"".to_owned(),
        format!("max-time = {}", config.timeout.0.as_secs().max(1)),
        setting("url", &format!("{scheme}://{host}:{port}/{}", address::domain(&email.from))),
        setting("mail-from", &format!("<{}>", email.from)),
    ];
    if email.security == Security::Starttls {
        lines.push("ssl-reqd".to_owned());
    }
    lines.extend(email.ca.as_ref().map(|ca| setting("cacert", ca.as_str())));
    lines.extend(email.to.iter().map(|to| setting("mail-rcpt", &format!("<{to}>"))));
    let (title, message) = (config.title(), config.message());
    let headers = [
        format!("From: <{}>", email.from),
        format!("To: {}", email.to.iter().map(|to| format!("<{to}>")).collect::<Vec<_>>().join(",\r\n ")),
        format!("Subject: {}", mime::encoded_words(&title)),
        format!("Date: {}", mime::date(clock::now())),
        format!(
            "Message-ID: <{}@{}>",
            mime::message_id(&context::run_id(), &context::stage_id(), message),
            address::domain(&email.from)
        ),
        "Auto-Submitted: auto-generated".to_owned(),
    ];
    lines.extend(headers.iter().map(|header| setting("header", header)));
    // The text of a part ends at a `;` unless it is quoted.
    let text = quoted(&message.replace("\r\n", "\n").replace('\n', "\r\n"));
    let part = format!("=\"{text}\";type=text/plain;charset=utf-8;encoder=quoted-printable");
    lines.push(setting("form", &part));
    lines.join("\n") + "\n"
}

fn setting(name: &str, value: &str) -> String {
    let value = quoted(value).replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t");
    format!("{name} = \"{value}\"")
}

/// As double quotes have it between them, in settings of `curl` and in its forms.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
