//! The part of Lambda's API that a deploy uses, for one function.

use std::collections::BTreeMap;

use aws::{Answered, Service, encoded};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value as Json, json};
use stagewright_sdk::Result;
use stagewright_sdk::secrets::Secret;

use crate::mark::Mark;

const FUNCTIONS: &str = "/2015-03-31/functions";

/// A function, by its name.
pub(crate) struct Function {
    service: Service,
    name: String,
}

/// A version of a function, or its `$LATEST`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Code {
    /// A number, or `$LATEST`.
    pub(crate) version: String,
    /// Of a zip archive, in Base64.
    #[serde(default)]
    pub(crate) code_sha256: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    pub(crate) revision_id: String,
    /// `Pending`, `Active`, `Inactive` or `Failed`.
    #[serde(default)]
    pub(crate) state: Option<String>,
    #[serde(default)]
    pub(crate) state_reason: Option<String>,
    /// `Successful`, `Failed` or `InProgress`.
    #[serde(default)]
    pub(crate) last_update_status: Option<String>,
    #[serde(default)]
    pub(crate) last_update_status_reason: Option<String>,
}

impl Code {
    pub(crate) fn mark(&self) -> Option<Mark> {
        Mark::parse(&self.description)
    }
}

/// `$LATEST` as `GetFunction` shows it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Latest {
    pub(crate) configuration: Code,
    #[serde(default)]
    pub(crate) code: CodeLocation,
}

/// The variables of `$LATEST`, and the revision that a change of them is based on.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Configured {
    pub(crate) revision_id: String,
    #[serde(default)]
    pub(crate) environment: Environment,
}

/// The variables of a function.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Environment {
    pub(crate) variables: BTreeMap<String, String>,
    /// Why they can't be shown.
    pub(crate) error: Option<Json>,
}

/// Where the code came from.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct CodeLocation {
    #[serde(default)]
    pub(crate) image_uri: Option<String>,
}

/// An alias.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Alias {
    /// The version that gets what the weights leave.
    pub(crate) function_version: String,
    #[serde(default)]
    description: String,
    pub(crate) revision_id: String,
}

impl Alias {
    pub(crate) fn mark(&self) -> Option<Mark> {
        Mark::parse(&self.description)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VersionPage {
    versions: Vec<Code>,
    #[serde(default)]
    next_marker: Option<String>,
}

/// What a version answered to a call.
pub(crate) struct Answer {
    /// Whether the function itself failed.
    pub(crate) is_error: bool,
    pub(crate) body: String,
    /// The last 4 KB of the log.
    pub(crate) log: String,
}

impl Function {
    pub(crate) fn new(service: Service, name: &str) -> Function {
        Function { service, name: name.to_owned() }
    }

    /// None if it doesn't exist.
    pub(crate) fn latest(&self) -> Result<Option<Latest>> {
        existing(self.service.json("GetFunction", "GET", &self.path(""), None::<&Json>))
    }

    /// `$LATEST`, or a version.
    pub(crate) fn configuration(&self, version: &str) -> Answered<Code> {
        let path = self.path(&format!("/configuration?Qualifier={}", encoded(version)));
        self.service.json("GetFunctionConfiguration", "GET", &path, None::<&Json>)
    }

    /// All published versions, the newest last.
    pub(crate) fn versions(&self) -> Result<Vec<Code>> {
        let (mut found, mut marker) = (Vec::new(), None);
        loop {
            let from = marker.map(|marker: String| format!("&Marker={}", encoded(&marker))).unwrap_or_default();
            let path = self.path(&format!("/versions?MaxItems=50{from}"));
            let page: VersionPage = self.service.json("ListVersionsByFunction", "GET", &path, None::<&Json>)?;
            found.extend(page.versions.into_iter().filter(|code| code.version != "$LATEST"));
            marker = page.next_marker.filter(|next| !next.is_empty());
            if marker.is_none() {
                return Ok(found);
            }
        }
    }

    /// Creates the function. `body_file`: a file of the workspace with the JSON of the request.
    pub(crate) fn create(&self, body_file: &str) -> Answered<()> {
        self.send_file("CreateFunction", "POST", FUNCTIONS, body_file)
    }

    /// Replaces the code of `$LATEST`. `body_file`: as for [`Function::create`].
    pub(crate) fn update_code(&self, body_file: &str) -> Answered<()> {
        self.send_file("UpdateFunctionCode", "PUT", &self.path("/code"), body_file)
    }

    /// The variables of `$LATEST`.
    pub(crate) fn configured(&self) -> Answered<Configured> {
        self.service.json("GetFunctionConfiguration", "GET", &self.path("/configuration"), None::<&Json>)
    }

    /// Replaces the variables of `$LATEST`, if it is still at this revision. The host writes the values of `secrets`.
    pub(crate) fn update_variables(
        &self,
        revision: &str,
        variables: &Map<String, Json>,
        secrets: &[Secret],
    ) -> Answered<()> {
        let body = json!({ "RevisionId": revision, "Environment": { "Variables": variables } });
        let (action, path) = ("UpdateFunctionConfiguration", self.path("/configuration"));
        self.service.json_with_secrets::<IgnoredAny>(action, "PUT", &path, &body, secrets).map(drop)
    }

    /// Publishes `$LATEST`, if it is still this code. Lambda returns the newest version instead if nothing has changed since.
    pub(crate) fn publish(&self, latest: &Code, mark: &Mark) -> Answered<Code> {
        let Code { code_sha256, revision_id, .. } = latest;
        let body = json!({ "CodeSha256": code_sha256, "RevisionId": revision_id, "Description": mark.to_string() });
        self.service.json("PublishVersion", "POST", &self.path("/versions"), Some(&body))
    }

    pub(crate) fn delete_version(&self, version: &str) -> Answered<()> {
        let path = self.path(&format!("?Qualifier={}", encoded(version)));
        self.service.send("DeleteFunction", self.service.request("DELETE", &path)).map(drop)
    }

    /// None if it doesn't exist.
    pub(crate) fn alias(&self, alias: &str) -> Result<Option<Alias>> {
        existing(self.service.json("GetAlias", "GET", &self.path(&format!("/aliases/{alias}")), None::<&Json>))
    }

    pub(crate) fn create_alias(&self, alias: &str, version: &str, mark: &Mark) -> Answered<Alias> {
        let body = json!({ "Name": alias, "FunctionVersion": version, "Description": mark.to_string() });
        self.service.json("CreateAlias", "POST", &self.path("/aliases"), Some(&body))
    }

    /// Moves an alias that is as `known` to `version`, and gives `share` of the requests, a version and a fraction, to
    /// another one. Refused with 412 if the alias has changed meanwhile.
    pub(crate) fn update_alias(
        &self,
        alias: &str,
        known: &Alias,
        version: &str,
        share: Option<(&str, f64)>,
        mark: &Mark,
    ) -> Answered<()> {
        let weights: Map<String, Json> =
            share.into_iter().map(|(version, weight)| (version.to_owned(), weight.into())).collect();
        let body = json!({
            "FunctionVersion": version,
            "RoutingConfig": { "AdditionalVersionWeights": weights },
            "Description": mark.to_string(),
            "RevisionId": known.revision_id,
        });
        let updated: Answered<Json> =
            self.service.json("UpdateAlias", "PUT", &self.path(&format!("/aliases/{alias}")), Some(&body));
        updated.map(drop)
    }

    pub(crate) fn delete_alias(&self, alias: &str) -> Answered<()> {
        let request = self.service.request("DELETE", &self.path(&format!("/aliases/{alias}")));
        self.service.send("DeleteAlias", request).map(drop)
    }

    /// Calls a version.
    pub(crate) fn invoke(&self, version: &str, payload: &Json) -> Answered<Answer> {
        let path = self.path(&format!("/invocations?Qualifier={}", encoded(version)));
        let mut request = self.service.request("POST", &path);
        request.json(payload)?.header("x-amz-invocation-type", "RequestResponse").header("x-amz-log-type", "Tail");
        let mut response = self.service.send("Invoke", request)?;
        let log = response.header("x-amz-log-result").and_then(|log| STANDARD.decode(log).ok()).unwrap_or_default();
        Ok(Answer {
            is_error: response.header("x-amz-function-error").is_some(),
            log: String::from_utf8_lossy(&log).into_owned(),
            body: String::from_utf8_lossy(&response.bytes(ANSWER)?).into_owned(),
        })
    }

    fn send_file(&self, action: &str, method: &str, path: &str, body_file: &str) -> Answered<()> {
        let mut request = self.service.request(method, path);
        request.header("content-type", "application/json").body_file(body_file);
        self.service.send(action, request).map(drop)
    }

    fn path(&self, rest: &str) -> String {
        format!("{FUNCTIONS}/{}{rest}", encoded(&self.name))
    }
}

/// The most bytes that a function can answer with: 6 MB.
const ANSWER: usize = 8 << 20;

fn existing<T>(result: Answered<T>) -> Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.is("ResourceNotFoundException") => Ok(None),
        Err(failure) => Err(failure.into()),
    }
}
