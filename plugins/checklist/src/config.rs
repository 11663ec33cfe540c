//! The stage's `with` table.

use std::collections::{BTreeMap, BTreeSet};

use database::{Store, name_problems};
use serde::Deserialize;
use stagewright_sdk::{DurationText, JsonSchema, Problem, Requirement, Statuses, schemars};

use crate::machine;

/// The list.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({
    "items": [
        { "name": "backup", "text": "The data can be restored",
          "backup": { "store": { "folder": "backups" }, "database": "shop", "age": "1d", "verified": true } },
        { "name": "certificate", "text": "The certificate is good for a month",
          "certificate": { "host": "shop.example.org", "days": 30 } },
        { "name": "support", "text": "The support team knows of the deploy" },
    ],
    "environments": ["production"],
}))]
pub struct Config {
    /// What has to be so. Items without evidence are asked for.
    pub(crate) items: Vec<Item>,
    /// Who may answer: `team:NAME` or a user. Default: the approvers of the environments, or everyone if these have none.
    #[serde(default)]
    pub(crate) approvers: Vec<String>,
    /// The environments that the answers are an approval for.
    #[serde(default)]
    pub(crate) environments: Vec<String>,
    /// How long the form stays open, as in `2h`. Default: it doesn't expire.
    pub(crate) expires: Option<DurationText>,
}

/// An item, with at most one kind of evidence.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Item {
    /// Its key in the form and in the output, in letters, digits and `-`.
    pub(crate) name: String,
    /// What has to be so, as a sentence.
    pub(crate) text: String,
    /// A program that exits with 0 if it is so. It has to be one that only reads.
    #[schemars(extend("x-stagewright-code" = "argv"))]
    pub(crate) command: Option<Vec<String>>,
    /// A GET whose response says so.
    pub(crate) http: Option<HttpEvidence>,
    /// How long a server's certificate is good for.
    pub(crate) certificate: Option<CertificateEvidence>,
    /// How old the newest backup of a database is.
    pub(crate) backup: Option<BackupEvidence>,
    /// What the machine has on which the pipeline runs.
    pub(crate) machine: Option<machine::Evidence>,
    /// What an environment has had as its good release.
    pub(crate) release: Option<ReleaseEvidence>,
}

/// A response that is expected.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct HttpEvidence {
    /// The URL.
    pub(crate) url: String,
    /// The expected status. Default: 2xx.
    #[serde(default)]
    pub(crate) expect: Statuses,
    /// A text that the body has to contain.
    pub(crate) contains: Option<String>,
}

/// A certificate that is looked at by the program `openssl`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct CertificateEvidence {
    /// The server's name, which the certificate has to be for.
    pub(crate) host: String,
    /// Its port.
    #[serde(default = "default_port")]
    pub(crate) port: u16,
    /// For how many more days it has to be good.
    pub(crate) days: u32,
}

fn default_port() -> u16 {
    443
}

/// A backup made by `db-backup`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct BackupEvidence {
    /// The place of the backups.
    pub(crate) store: Store,
    /// The database.
    pub(crate) database: String,
    /// The most that its data may be old.
    pub(crate) age: DurationText,
    /// Whether `db-verify` has to have restored it.
    #[serde(default)]
    pub(crate) verified: bool,
}

/// The good release of an environment.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct ReleaseEvidence {
    /// The environment, as in `staging`.
    pub(crate) environment: String,
    /// The artifact that has to be its good release, by digest.
    pub(crate) artifact: String,
}

impl Item {
    /// The kinds of evidence that it names.
    fn kinds(&self) -> Vec<&'static str> {
        [
            ("command", self.command.is_some()),
            ("http", self.http.is_some()),
            ("certificate", self.certificate.is_some()),
            ("backup", self.backup.is_some()),
            ("machine", self.machine.is_some()),
            ("release", self.release.is_some()),
        ]
        .into_iter()
        .filter_map(|(kind, is_set)| is_set.then_some(kind))
        .collect()
    }

    /// Whether a person has to say so.
    pub(crate) fn is_asked(&self) -> bool {
        self.kinds().is_empty()
    }

    fn problems(&self, key: &str) -> Vec<Problem> {
        let at = |name: &str| format!("{key}.{name}");
        let mut found = Vec::new();
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if self.name.is_empty() || !self.name.chars().all(fits) {
            let help = "write it in letters, digits and `-`";
            found.push(Problem::at(at("name"), format!("`{}` isn't the name of an item", self.name)).help(help));
        }
        if self.text.trim().is_empty() {
            found.push(Problem::at(at("text"), "must not be empty"));
        }
        if let [first, others @ ..] = &self.kinds()[..]
            && !others.is_empty()
        {
            let message = format!("has both `{first}` and `{}`", others.join("` and `"));
            found.push(Problem::at(key, message).help("make an item of each"));
        }
        if self.command.as_ref().is_some_and(Vec::is_empty) {
            found.push(Problem::at(at("command"), "names no program"));
        }
        if let Some(http) = self.http.as_ref().filter(|http| Requirement::url(&http.url).is_none()) {
            found.push(Problem::at(at("http.url"), format!("`{}` isn't an http or https URL", http.url)));
        }
        if let Some(backup) = &self.backup {
            found.extend(backup.store.problems(&at("backup.store")));
            found.extend(name_problems(&at("backup.database"), &backup.database));
        }
        found
    }

    fn requirements(&self) -> Vec<Requirement> {
        let because = |needed: Requirement| needed.because(format!("is evidence for `{}`", self.name));
        let mut needed = Vec::new();
        if let Some([program, args @ ..]) = self.command.as_deref() {
            needed.push(Requirement::command(program, args));
        }
        needed.extend(self.http.as_ref().and_then(|http| Requirement::url(&http.url)));
        if let Some(certificate) = &self.certificate {
            needed.push(Requirement::net(format!("tcp://{}:{}", certificate.host, certificate.port)));
            needed.extend(certificate.commands().map(|args| Requirement::command("openssl", args)));
        }
        needed.extend(self.backup.as_ref().and_then(|backup| backup.store.requirement_to_read()));
        needed.extend(self.machine.iter().flat_map(machine::Evidence::requirements));
        needed.into_iter().map(because).collect()
    }
}

impl CertificateEvidence {
    /// The command that shows the certificate and checks it, and the one that says how long it is good for.
    pub(crate) fn commands(&self) -> [Vec<String>; 2] {
        let place = format!("{}:{}", self.host, self.port);
        let show = [
            "s_client",
            "-connect",
            &place,
            "-servername",
            &self.host,
            "-verify_hostname",
            &self.host,
            "-verify_return_error",
        ];
        let seconds = (u64::from(self.days) * 86_400).to_string();
        let check = ["x509", "-noout", "-enddate", "-checkend", &seconds];
        [show.map(str::to_owned).to_vec(), check.map(str::to_owned).to_vec()]
    }
}

impl Config {
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        if self.items.is_empty() {
            found.push(Problem::at("items", "the list is empty"));
        }
        let mut names: BTreeSet<&str> = BTreeSet::new();
        for (index, item) in self.items.iter().enumerate() {
            let key = format!("items[{index}]");
            found.extend(item.problems(&key));
            if !names.insert(&item.name) {
                found.push(Problem::at(format!("{key}.name"), format!("`{}` is the name of another item", item.name)));
            }
        }
        let is_asked = self.items.iter().any(Item::is_asked);
        let of_form: BTreeMap<&str, bool> = BTreeMap::from([
            ("approvers", !self.approvers.is_empty()),
            ("environments", !self.environments.is_empty()),
            ("expires", self.expires.is_some()),
        ]);
        for (key, _) in of_form.into_iter().filter(|(_, is_set)| *is_set && !is_asked) {
            found.push(Problem::at(key, "has no effect, because no item is asked for").help("remove it"));
        }
        found
    }

    pub(crate) fn requirements(&self) -> Vec<Requirement> {
        self.items.iter().flat_map(Item::requirements).collect()
    }
}
