//! The part of the Kubernetes API that a deploy uses. The host signs the requests.

use std::cell::RefCell;
use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use stagewright_sdk::http::{Request, Response, endpoint};
use stagewright_sdk::{Error, ErrorCode, Result, secrets};

use crate::object::Identity;
use crate::schema::Schema;

/// The most bytes of an answer.
const ANSWER: usize = 64 << 20;
/// What is encoded in a query.
const IN_QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'&').add(b'+').add(b'<').add(b'>');

/// A cluster, as a credential reaches it.
#[derive(Debug)]
pub struct Cluster {
    /// Its key in `[credentials]`.
    credential: String,
    /// As in `https://10.0.0.1:6443`.
    server: String,
    /// The kinds of objects by version of the API.
    kinds: RefCell<BTreeMap<String, Vec<Kind>>>,
}

/// A kind of objects.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    /// As in `deployments`; with a `/` for parts of objects, as in `deployments/status`.
    name: String,
    kind: String,
    namespaced: bool,
}

/// How an object is applied.
#[derive(Clone, Copy, Debug)]
pub struct Apply<'a> {
    /// Who owns the fields that it sets.
    pub manager: &'a str,
    /// Whether it takes over fields that others own.
    pub force: bool,
    /// Whether the server only says what it would do.
    pub dry_run: bool,
}

/// What the server answers when it refuses a request.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    message: String,
    reason: String,
    details: Details,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    causes: Vec<Cause>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cause {
    reason: String,
    message: String,
    field: String,
}

impl Cluster {
    /// The cluster that a credential is for.
    pub fn of(credential: &str) -> Result<Cluster> {
        let server = endpoint(credential)
            .map_err(|error| error.context(format!("the server of the credential `{credential}` isn't known")))?;
        Ok(Cluster { credential: credential.to_owned(), server, kinds: RefCell::default() })
    }

    /// The URL of its API, as in `https://10.0.0.1:6443`.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Whether the server has the kind, and its objects are in namespaces.
    ///
    /// # Errors
    /// If it doesn't have it.
    pub fn is_namespaced(&self, api_version: &str, kind: &str) -> Result<bool> {
        self.kind(api_version, kind).map(|kind| kind.namespaced)
    }

    /// What the cluster says of the objects that it accepts.
    ///
    /// # Errors
    /// If it can't be asked, or the user of the credential may not.
    pub fn schema(&self) -> Result<Schema> {
        let text = self.send("GET", "/openapi/v2", None)?.bytes(ANSWER)?;
        Schema::parse("the cluster", &text)
            .map_err(|error| Error::failed(format!("the cluster's description of its API can't be read: {error}")))
    }

    /// An object as it is now; none if it doesn't exist.
    pub fn get(&self, identity: &Identity) -> Result<Option<Json>> {
        match self.send("GET", &self.path(identity)?, None) {
            Ok(mut response) => response.json().map(Some),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Applies an object on the server's side, and returns it as it is then.
    pub fn apply(&self, identity: &Identity, object: &Json, how: Apply<'_>) -> Result<Json> {
        let Apply { manager, force, dry_run } = how;
        let dry_run = if dry_run { "&dryRun=All" } else { "" };
        let path = format!("{}?fieldManager={manager}&force={force}{dry_run}", self.path(identity)?);
        let secrets = secrets_in(object).map(secrets::get).collect::<Result<Vec<_>>>()?;
        let mut request = self.request("PATCH", &path);
        request.header("content-type", "application/apply-patch+yaml");
        request.append_with_secrets(&serde_json::to_string(object)?, &secrets);
        self.answered("PATCH", &path, request.send()?)?.json()
    }

    /// Creates an object.
    ///
    /// # Errors
    /// [`ErrorCode::Aborted`] if it exists.
    pub fn create(&self, identity: &Identity, object: &Json) -> Result<()> {
        let path = self.folder(identity)?;
        self.send("POST", &path, Some(("application/json", &serde_json::to_vec(object)?))).map(drop)
    }

    /// Replaces an object, if it still has the `resourceVersion` that `object` has.
    ///
    /// # Errors
    /// [`ErrorCode::Aborted`] if it has changed.
    pub fn replace(&self, identity: &Identity, object: &Json) -> Result<()> {
        let path = self.path(identity)?;
        self.send("PUT", &path, Some(("application/json", &serde_json::to_vec(object)?))).map(drop)
    }

    /// Deletes an object and what belongs to it, if it is still the one with this `uid`. One that doesn't exist is deleted
    /// already.
    pub fn delete(&self, identity: &Identity, uid: &str) -> Result<()> {
        let body = json!({ "propagationPolicy": "Background", "preconditions": { "uid": uid } });
        match self.send("DELETE", &self.path(identity)?, Some(("application/json", &serde_json::to_vec(&body)?))) {
            Err(error) if error.is_not_found() => Ok(()),
            result => result.map(drop),
        }
    }

    /// The objects of a namespace with these labels, as in `app=web,tier=front`.
    pub fn list(&self, api_version: &str, plural: &str, namespace: &str, labels: &str) -> Result<Vec<Json>> {
        let folder = format!("{}/namespaces/{namespace}/{plural}", root(api_version));
        let mut list: Json = self.send("GET", &format!("{folder}?labelSelector={}", encoded(labels)), None)?.json()?;
        match list["items"].take() {
            Json::Array(items) => Ok(items),
            _ => Ok(Vec::new()),
        }
    }

    /// Whether an autoscaler decides about a workload's replicas.
    ///
    /// # Errors
    /// If the cluster can't be asked.
    pub fn is_autoscaled(&self, workload: &Identity) -> Result<bool> {
        let namespace = workload.namespace.as_deref().unwrap_or("default");
        let all = self.list("autoscaling/v1", "horizontalpodautoscalers", namespace, "")?;
        let mut targets = all.iter().map(|autoscaler| &autoscaler["spec"]["scaleTargetRef"]);
        Ok(targets.any(|of| of["kind"] == workload.kind.as_str() && of["name"] == workload.name.as_str()))
    }

    /// The events about an object, oldest first.
    pub fn events(&self, namespace: &str, kind: &str, name: &str) -> Result<Vec<Json>> {
        let about = encoded(&format!("involvedObject.kind={kind},involvedObject.name={name}")).to_string();
        let path = format!("/api/v1/namespaces/{namespace}/events?fieldSelector={about}");
        let mut list: Json = self.send("GET", &path, None)?.json()?;
        match list["items"].take() {
            Json::Array(items) => Ok(items),
            _ => Ok(Vec::new()),
        }
    }

    /// The last lines that a container of a pod has written; with `previous`, before it was restarted.
    pub fn log_tail(
        &self,
        (namespace, pod, container): (&str, &str, &str),
        lines: u32,
        previous: bool,
    ) -> Result<String> {
        let path = format!(
            "/api/v1/namespaces/{namespace}/pods/{pod}/log?container={container}&tailLines={lines}&previous={previous}"
        );
        let mut response = self.send("GET", &path, None)?;
        Ok(String::from_utf8_lossy(&response.bytes(ANSWER)?).into_owned())
    }

    fn path(&self, identity: &Identity) -> Result<String> {
        Ok(format!("{}/{}", self.folder(identity)?, identity.name))
    }

    /// Where objects of its kind are.
    fn folder(&self, Identity { api_version, kind, namespace, .. }: &Identity) -> Result<String> {
        let kind = self.kind(api_version, kind)?;
        let place = match namespace {
            Some(namespace) if kind.namespaced => format!("/namespaces/{namespace}"),
            _ => String::new(),
        };
        Ok(format!("{}{place}/{}", root(api_version), kind.name))
    }

    fn kind(&self, api_version: &str, kind: &str) -> Result<Kind> {
        if !self.kinds.borrow().contains_key(api_version) {
            let kinds = self.kinds_of(api_version)?;
            self.kinds.borrow_mut().insert(api_version.to_owned(), kinds);
        }
        let kinds = self.kinds.borrow();
        let found = kinds[api_version].iter().find(|found| found.kind == kind && !found.name.contains('/'));
        found.cloned().ok_or_else(|| {
            Error::invalid(format!("the cluster's API {api_version} has no objects of the kind `{kind}`"))
                .help("correct `apiVersion` and `kind`, or apply their CustomResourceDefinition in an earlier stage")
        })
    }

    fn kinds_of(&self, api_version: &str) -> Result<Vec<Kind>> {
        #[derive(Deserialize)]
        struct Resources {
            resources: Vec<Kind>,
        }
        match self.send("GET", &root(api_version), None) {
            Ok(mut response) => response.json().map(|found: Resources| found.resources),
            Err(error) if error.is_not_found() => Err(self.no_version(api_version)),
            Err(error) => Err(error),
        }
    }

    /// The error for a version of the API that the server doesn't have, with those that it has instead.
    fn no_version(&self, api_version: &str) -> Error {
        let error = Error::invalid(format!("the cluster has no API {api_version}"));
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let groups = self.send("GET", "/apis", None).and_then(|mut response| response.json::<Json>());
        let groups = groups.unwrap_or_default();
        let of_group = groups["groups"].as_array().into_iter().flatten().find(|found| found["name"] == group);
        let versions = of_group.map(|found| found["versions"].as_array().into_iter().flatten());
        let names: Vec<&str> =
            versions.into_iter().flatten().filter_map(|version| version["groupVersion"].as_str()).collect();
        match names.is_empty() {
            true => error.help("correct `apiVersion`, or apply its CustomResourceDefinition in an earlier stage"),
            false => error.help(format!("use {}", names.join(" or "))),
        }
    }

    fn send(&self, method: &str, path: &str, body: Option<(&str, &[u8])>) -> Result<Response> {
        let mut request = self.request(method, path);
        if let Some((kind, data)) = body {
            request.header("content-type", kind).body(data);
        }
        self.answered(method, path, request.send()?)
    }

    /// The response, if it isn't a refusal.
    fn answered(&self, method: &str, path: &str, mut response: Response) -> Result<Response> {
        if response.is_success() {
            return Ok(response);
        }
        let code = response.status();
        let text = response.bytes(ANSWER)?;
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        let error = refused(method, path, code, &text);
        Err(match code {
            401 => error.help(format!(
                "the token or certificate of [credentials.{}] has expired, or isn't valid: renew its secret",
                self.credential
            )),
            _ => error,
        })
    }

    fn request(&self, method: &str, path: &str) -> Request {
        let mut request = Request::new(method, &format!("{}{path}", self.server));
        request.header("accept", "application/json");
        request
    }
}

/// The names of the secrets of the pipeline that belong into an object.
fn secrets_in(object: &Json) -> impl Iterator<Item = &str> {
    let values = object["stringData"].as_object().into_iter().flat_map(|data| data.values());
    values.filter_map(|value| secrets::named_by(value.as_str()?))
}

/// The error for a refusal of the server.
fn refused(method: &str, path: &str, status: u16, body: &[u8]) -> Error {
    let Status { message, reason, details } = serde_json::from_slice(body)
        .unwrap_or_else(|_| Status { message: String::from_utf8_lossy(body).trim().to_owned(), ..Status::default() });
    let taken: Vec<String> = details
        .causes
        .iter()
        .filter(|cause| cause.reason == "FieldManagerConflict")
        .map(|cause| format!("{} belongs to {}", cause.field, cause.message.trim_start_matches("conflict with ")))
        .collect();
    if !taken.is_empty() {
        return Error::new(ErrorCode::FailedPrecondition, "others have set some of its fields").causes(taken).help(
            "let the owner give them up, remove them from the files, or add to the stage: with.force-conflicts = true",
        );
    }
    if status == 422
        && let Some(first) = details.causes.first()
    {
        let also: Vec<String> =
            details.causes[1..].iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        return Error::invalid(format!("the cluster refuses `{}`: {}", first.field, first.message)).causes(also);
    }
    let code = match status {
        400 | 422 => ErrorCode::InvalidArgument,
        401 => ErrorCode::Unauthenticated,
        403 => ErrorCode::PermissionDenied,
        404 => ErrorCode::NotFound,
        409 => ErrorCode::Aborted,
        429 | 500.. => ErrorCode::Unavailable,
        _ => ErrorCode::FailedPrecondition,
    };
    let error = Error::new(code, format!("the cluster refused {method} {path} with {status} {reason}: {message}"));
    match status {
        403 => error.help("give the credential's user a role that permits it"),
        429 | 500.. => error.retryable(),
        _ => error,
    }
}

/// The path of a version of the API.
fn root(api_version: &str) -> String {
    match api_version.contains('/') {
        true => format!("/apis/{api_version}"),
        false => format!("/api/{api_version}"),
    }
}

fn encoded(value: &str) -> percent_encoding::PercentEncode<'_> {
    utf8_percent_encode(value, IN_QUERY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_others_are_named_with_their_owners() {
        let cause = |field: &str| json!({ "reason": "FieldManagerConflict", "message": "conflict with \"kubectl\" using apps/v1", "field": field });
        let body = json!({ "reason": "Conflict", "message": "Apply failed", "details": { "causes": [cause(".spec.replicas")] } });
        let error = refused("PATCH", "/x", 409, body.to_string().as_bytes());
        assert_eq!(error.code, ErrorCode::FailedPrecondition);
        assert_eq!(error.causes, [".spec.replicas belongs to \"kubectl\" using apps/v1"]);
    }

    #[test]
    fn refusals_have_the_reason() {
        let causes = json!([{ "field": "spec.selector", "message": "field is immutable" }, { "field": "spec.a", "message": "no" }]);
        let body = json!({ "reason": "Invalid", "message": "long", "details": { "causes": causes } });
        let error = refused("PATCH", "/x", 422, body.to_string().as_bytes());
        assert_eq!(error.message, "the cluster refuses `spec.selector`: field is immutable");
        assert_eq!(error.causes, ["spec.a: no"]);
        let body = json!({ "reason": "Forbidden", "message": "user \"x\" cannot list pods" });
        let error = refused("GET", "/api/v1/pods", 403, body.to_string().as_bytes());
        assert_eq!(
            error.message,
            "the cluster refused GET /api/v1/pods with 403 Forbidden: user \"x\" cannot list pods"
        );
        assert_eq!(error.code, ErrorCode::PermissionDenied);
        assert_eq!(
            refused("GET", "/", 502, b"bad gateway\n").message,
            "the cluster refused GET / with 502 : bad gateway"
        );
    }
}
