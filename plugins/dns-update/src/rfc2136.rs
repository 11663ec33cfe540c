//! Dynamic updates by `nsupdate`, and questions by `dig`, both over TCP.
//!
//! An update has its conditions with it (RFC 2136, section 2.4), and the server checks and changes in one step: the records and
//! the notes beside them are as they were read, or nothing changes.

use serde::Deserialize;
use stagewright_sdk::process::{Command, Output};
use stagewright_sdk::{Error, ErrorCode, JsonSchema, Problem, Requirement, Result, schemars, secrets};

use crate::change::{Change, Known};
use crate::note::{Note, Values, name_of};
use crate::record::{Kind, Record, is_name};

/// A server that takes dynamic updates of a zone.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Server {
    /// The name or address of the primary server.
    host: String,
    /// Its port.
    #[serde(default = "default_port")]
    port: u16,
    /// The zone, as in `example.org`.
    zone: String,
    /// The key that signs updates.
    key: Key,
}

fn default_port() -> u16 {
    53
}

/// A key of TSIG (RFC 8945).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Key {
    /// Its name on the server.
    name: String,
    /// How it signs.
    #[serde(default = "default_algorithm")]
    algorithm: Algorithm,
    /// The secret with the key itself, in Base64.
    secret: String,
}

fn default_algorithm() -> Algorithm {
    Algorithm::HmacSha256
}

/// How a key signs.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Algorithm {
    HmacSha256,
    HmacSha384,
    HmacSha512,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Algorithm::HmacSha256 => "hmac-sha256",
            Algorithm::HmacSha384 => "hmac-sha384",
            Algorithm::HmacSha512 => "hmac-sha512",
        }
    }
}

/// `nsupdate` over TCP, which reads what it is to do from its standard input.
const UPDATE: [&str; 3] = ["-v", "-t", "30"];

impl Server {
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let is_address = self.host.parse::<std::net::IpAddr>().is_ok();
        let names = [("host", &self.host), ("zone", &self.zone), ("key.name", &self.key.name)];
        let names = names.into_iter().filter(|(key, _)| *key != "host" || !is_address);
        let wrong = names.filter(|(_, name)| !is_name(name));
        wrong
            .map(|(key, name)| Problem::at(format!("server.rfc2136.{key}"), format!("`{name}` isn't a name")))
            .collect()
    }

    pub(crate) fn requirements(&self, records: &[Record]) -> Vec<Requirement> {
        let net = Requirement::net(format!("tcp://{}:{}", self.host, self.port)).because("is the name server");
        let key = Requirement::secret_env(&self.key.secret).because("signs the update");
        let update = Requirement::command("nsupdate", UPDATE).because("changes the records");
        let names = records.iter().flat_map(|record| {
            let name = record.full_name();
            [(name.clone(), record.kind.name()), (name_of(&name, record.kind.name()), "TXT")]
        });
        let asked = names
            .map(|(name, kind)| Requirement::command("dig", self.question(&name, kind)).because("reads the records"));
        [net, key, update].into_iter().chain(asked).collect()
    }

    fn question(&self, name: &str, kind: &str) -> Vec<String> {
        let server = [format!("@{}", self.host), "-p".to_owned(), self.port.to_string()];
        let how = ["+tcp", "+norecurse", "+noall", "+comments", "+answer", "+time=10", "+tries=2"].map(str::to_owned);
        server.into_iter().chain(how).chain([name.to_owned(), kind.to_owned()]).collect()
    }

    /// What the server has of a name.
    pub(crate) fn known(&self, name: &str, kind: Kind) -> Result<Known> {
        let values = self.ask(name, kind.name())?;
        let texts = self.ask(&name_of(name, kind.name()), "TXT")?;
        let note = texts.data.iter().find_map(|text| Note::parse(&unquoted(text)));
        Ok(Known { values, note, texts: texts.data })
    }

    fn ask(&self, name: &str, kind: &str) -> Result<Values> {
        let output = Command::new("dig").args(self.question(name, kind)).read_only().quiet().output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let status = text.split("status: ").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or("none");
        if !output.status.success() || !matches!(status, "NOERROR" | "NXDOMAIN") {
            let message = format!("{}:{} doesn't answer for {name}", self.host, self.port);
            let cause = match output.status.success() {
                true => format!("the answer has the status {status}"),
                false => last_line(&output),
            };
            return Err(Error::new(ErrorCode::Unavailable, message)
                .cause(cause)
                .help("check `host` and `port`, and that the server has the zone")
                .retryable());
        }
        Ok(read(&text, name, kind))
    }

    /// Changes the records and their notes, if they are still what was read.
    pub(crate) fn update(&self, changes: &[Change]) -> Result<()> {
        let Server { host, port, zone, key } = self;
        let mut command = Command::new("nsupdate");
        command.args(UPDATE).quiet();
        command.append_stdin(
            format!("server {host} {port}\nzone {zone}\nkey {}:{} ", key.algorithm.name(), key.name).as_bytes(),
        );
        command.append_stdin_secret(&secrets::get(&key.secret)?);
        command.append_stdin(format!("\n{}send\n", script(changes)).as_bytes());
        let output = command.output()?;
        if output.status.success() {
            return Ok(());
        }
        let said = last_line(&output);
        let error = Error::failed(format!("{host}:{port} did not change the zone {zone}")).cause(&said);
        Err(if said.contains("NXRRSET") || said.contains("YXRRSET") {
            error.help("someone else has changed the records meanwhile; run the stage again").retryable()
        } else if said.contains("NOTAUTH") || said.contains("BADKEY") || said.contains("BADSIG") {
            error.help("check `key.name`, `key.algorithm` and the value of `key.secret`").never_retry()
        } else if said.contains("REFUSED") {
            error.help("allow the key to update the zone on the server").never_retry()
        } else if said.contains("BADTIME") {
            error.help("set the clocks: the server's and this machine's differ").never_retry()
        } else {
            Error { code: ErrorCode::Unavailable, ..error }.retryable()
        })
    }
}

/// The conditions, and the changes.
fn script(changes: &[Change]) -> String {
    let (mut conditions, mut updates) = (String::new(), String::new());
    for Change { name, kind, known, values, note } in changes {
        let kind = kind.name();
        let beside = name_of(name, kind);
        for (name, kind, data) in [(name, kind, &known.values.data), (&beside, "TXT", &known.texts)] {
            match data.is_empty() {
                true => conditions.push_str(&format!("prereq nxrrset {name} {kind}\n")),
                false => data
                    .iter()
                    .for_each(|value| conditions.push_str(&format!("prereq yxrrset {name} {kind} {value}\n"))),
            }
        }
        updates.push_str(&format!("update delete {name} {kind}\n"));
        for value in &values.data {
            updates.push_str(&format!("update add {name} {} {kind} {value}\n", values.ttl));
        }
        updates.push_str(&format!(
            "update delete {beside} TXT\nupdate add {beside} {} TXT {}\n",
            values.ttl.max(1),
            note.data()
        ));
    }
    conditions + &updates
}

/// The lines of an answer, as in `www.example.org. 60 IN A 192.0.2.1`.
fn read(answer: &str, name: &str, kind: &str) -> Values {
    let mut values = Values::default();
    for line in answer.lines().filter(|line| !line.starts_with(';')) {
        let words: Vec<&str> = line.splitn(5, char::is_whitespace).collect();
        let [owner, ttl, _, of, data] = words[..] else { continue };
        // A CNAME is part of answers of other types.
        if owner.eq_ignore_ascii_case(name) && of == kind {
            values.ttl = ttl.parse().unwrap_or_default();
            values.data.push(data.trim().to_owned());
        }
    }
    values.data.sort();
    values
}

fn unquoted(text: &str) -> String {
    text.split('"').skip(1).step_by(2).collect()
}

fn last_line(output: &Output) -> String {
    let text = [&output.stderr[..], &output.stdout[..]].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().map(|line| line.trim_start_matches([';', ' '])).rfind(|line| !line.is_empty());
    line.unwrap_or("no answer").to_owned()
}
