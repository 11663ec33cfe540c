//! Brings objects into the cluster, each in a step that fails if someone else changes it at the same time.

use kubernetes::{Apply, Cluster, Identity, MARK, Object, SERVICE_LABEL};
use serde_json::{Value as Json, json};
use stagewright_sdk::{Error, ErrorCode, Result, context, environment};

use crate::configuration;

/// Annotations of each object: the release that it belongs to, and the token and run that applied it.
const RELEASE: &str = "stagewright/release";
const FENCE: &str = "stagewright/fence";
const RUN: &str = "stagewright/run";
/// How often an object is applied whose status changes all the time.
const ATTEMPTS: usize = 20;
/// The owner of `replicas` between a release that sets it and an autoscaler that takes it over.
const HANDOVER: &str = "stagewright-handover";

/// Applies the objects of one service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Applier<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) service: &'a str,
    /// Who owns the fields.
    pub(crate) manager: &'a str,
    /// Whether fields are taken over that others have set.
    pub(crate) force: bool,
}

impl Applier<'_> {
    /// Applies an object of a release as it is marked.
    ///
    /// # Errors
    /// [`ErrorCode::Superseded`] if a deploy with a newer token has applied it.
    pub(crate) fn apply(&self, object: &Json, release: &str) -> Result<()> {
        let marked = marked(object, self.service, release);
        let identity = identity_of(&marked);
        for _ in 0..ATTEMPTS {
            let live = self.cluster.get(&identity)?;
            if let Some(live) = &live {
                self.refuse_stale(&identity, live)?;
                self.hand_over_replicas(&identity, &marked, live)?;
            }
            let mut conditional = marked.clone();
            if let Some(live) = live {
                conditional["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
            }
            match self.cluster.apply(&identity, &conditional, self.how(false)) {
                // Its status has changed in between, or something else that matters.
                Err(error) if error.code == ErrorCode::Aborted => {}
                Err(error) => return Err(error.context(format!("{identity} can't be applied"))),
                Ok(_) => return Ok(()),
            }
        }
        Err(Error::new(ErrorCode::Aborted, format!("{identity} is changed by others all the time")).retryable())
    }

    /// Lets the server check an object as if it were applied, so that what it refuses is refused before anything is changed.
    pub(crate) fn check(&self, object: &Object, release: &str) -> Result<()> {
        let marked = marked(&object.json, self.service, release);
        self.cluster.apply(&identity_of(&marked), &marked, self.how(true)).map(drop).map_err(|refused| {
            let is_immutable = refused.message.contains("immutable") || refused.message.contains("are forbidden");
            let error = object.error(&pointer_in(&refused.message), &refused.message).causes(refused.causes);
            let error = Error { code: refused.code, ..error };
            match (refused.help, is_immutable) {
                (Some(help), _) => error.help(help),
                (None, true) => error.help("give the object another name, so that it replaces the earlier one"),
                (None, false) => error,
            }
        })
    }

    fn how(&self, dry_run: bool) -> Apply<'_> {
        Apply { manager: self.manager, force: self.force, dry_run }
    }

    fn refuse_stale(&self, identity: &Identity, live: &Json) -> Result<()> {
        if let Some(other) = service_of(live).filter(|other| *other != self.service) {
            let message = format!("{identity} belongs to the service `{other}`");
            return Err(Error::invalid(message).help("rename one of the two objects"));
        }
        let fence = live["metadata"]["annotations"][FENCE].as_str().and_then(|fence| fence.parse::<u64>().ok());
        match (fence, environment::fence()) {
            (Some(newer), Some(own)) if newer > own => {
                let message = format!("{identity} was applied with the token {newer}, which is newer than {own}");
                Err(Error::new(ErrorCode::Superseded, message).help("start a new run"))
            }
            _ => Ok(()),
        }
    }

    /// Keeps the number of replicas of a workload whose manifest doesn't set it any more, usually because an autoscaler does.
    /// The server would reset a field that no one owns to its default of 1 before the autoscaler takes it over.
    fn hand_over_replicas(&self, identity: &Identity, marked: &Json, live: &Json) -> Result<()> {
        let is_dropped = marked["spec"]["replicas"].is_null() && owns_replicas(live, self.manager);
        let replicas = &live["spec"]["replicas"];
        if !is_dropped || replicas.is_null() {
            return Ok(());
        }
        let kept = json!({
            "apiVersion": identity.api_version,
            "kind": identity.kind,
            "metadata": { "name": identity.name, "resourceVersion": live["metadata"]["resourceVersion"] },
            "spec": { "replicas": replicas },
        });
        let how = Apply { manager: HANDOVER, force: true, dry_run: false };
        match self.cluster.apply(identity, &kept, how) {
            // The next attempt reads it again.
            Err(error) if error.code == ErrorCode::Aborted => Ok(()),
            result => {
                result.map(drop).map_err(|error| error.context(format!("the replicas of {identity} can't be kept")))
            }
        }
    }
}

/// The JSON pointer of the field that a refusal names, as in ``the cluster refuses `spec.containers[0].image` ``.
fn pointer_in(message: &str) -> String {
    let path = message.split('`').nth(1).unwrap_or_default();
    let segments = path.split(['.', '[']).map(|segment| segment.trim_end_matches(']'));
    segments.filter(|segment| !segment.is_empty()).map(|segment| format!("/{segment}")).collect()
}

/// An object as a deploy applies it: with the release's name where [`MARK`] stands for it, and annotated with where it comes
/// from.
pub(crate) fn marked(object: &Json, service: &str, release: &str) -> Json {
    let mut marked = object.clone();
    if let Some(status) = marked.as_object_mut() {
        status.remove("status");
    }
    let metadata = &mut marked["metadata"];
    metadata["labels"][SERVICE_LABEL] = service.into();
    let annotations = &mut metadata["annotations"];
    annotations[RELEASE] = release.into();
    annotations[RUN] = context::run_id().into();
    if let Some(fence) = environment::fence() {
        annotations[FENCE] = fence.to_string().into();
    }
    let label = |labels: &str| format!("{labels}/stagewright~1release");
    // A name only needs what distinguishes the release from others of its service.
    let short = release.strip_prefix(service).map_or(release, |mark| mark.trim_start_matches('-'));
    let spots = [
        ("/metadata/name".to_owned(), short),
        ("/spec/scaleTargetRef/name".to_owned(), short),
        (label("/spec/selector"), release),
        (label("/spec/selector/matchLabels"), release),
        (label("/spec/template/metadata/labels"), release),
    ];
    for (pointer, name) in spots {
        if let Some(named) = marked.pointer_mut(&pointer) {
            complete(named, name);
        }
    }
    configuration::secret_references(&mut marked).into_iter().for_each(|named| complete(named, short));
    marked
}

/// Puts a release's name where [`MARK`] stands for it.
fn complete(text: &mut Json, name: &str) {
    if let Some(before) = text.as_str().and_then(|text| text.strip_suffix(MARK)) {
        *text = format!("{before}{name}").into();
    }
}

/// What identifies an object as a release applies it.
pub(crate) fn identity(object: &Json, service: &str, release: &str) -> Identity {
    identity_of(&marked(object, service, release))
}

fn identity_of(object: &Json) -> Identity {
    Object { json: object.clone(), origin: Default::default() }.identity()
}

/// The service that an object of the cluster belongs to.
pub(crate) fn service_of(live: &Json) -> Option<&str> {
    live["metadata"]["labels"][SERVICE_LABEL].as_str()
}

/// Whether the fields of `manager` include the number of replicas.
fn owns_replicas(live: &Json, manager: &str) -> bool {
    let managed = live["metadata"]["managedFields"].as_array().into_iter().flatten();
    managed
        .filter(|fields| fields["manager"] == manager && fields["operation"] == "Apply")
        .any(|fields| fields["fieldsV1"]["f:spec"]["f:replicas"].is_object())
}

#[cfg(test)]
mod tests {
    use stagewright_sdk::fake::FakeHost;

    use super::*;

    #[test]
    fn an_object_is_marked_with_its_release() {
        let object = json!({ "kind": "Job", "metadata": { "name": "migrate-{release}", "labels": { "a": "b" } }, "status": {},
            "spec": { "selector": { "stagewright/release": MARK, "a": MARK } } });
        let (marked, _) = FakeHost::new().environment("production").fence(7).with(|| marked(&object, "shop", "shop-7"));
        assert_eq!(marked["metadata"]["name"], "migrate-7");
        assert_eq!(marked["metadata"]["labels"], json!({ "a": "b", SERVICE_LABEL: "shop" }));
        assert_eq!(marked["metadata"]["annotations"][FENCE], "7");
        assert_eq!(marked["metadata"]["annotations"][RELEASE], "shop-7");
        assert!(marked.get("status").is_none());
        assert_eq!(marked["spec"]["selector"], json!({ "stagewright/release": "shop-7", "a": MARK }));
    }

    #[test]
    fn a_refusal_names_a_place() {
        assert_eq!(pointer_in("the cluster refuses `spec.containers[0].image`: no"), "/spec/containers/0/image");
        assert_eq!(pointer_in("the cluster refuses everything"), "");
    }

    #[test]
    fn replicas_are_owned_by_who_applied_them() {
        let fields = |manager: &str, spec: Json| json!({ "manager": manager, "operation": "Apply", "fieldsV1": { "f:spec": spec } });
        let live = |managed: Json| json!({ "metadata": { "managedFields": managed } });
        let owned = live(json!([fields("stagewright", json!({ "f:replicas": {} }))]));
        assert!(owns_replicas(&owned, "stagewright") && !owns_replicas(&owned, "other"));
        assert!(!owns_replicas(&live(json!([fields("stagewright", json!({ "f:template": {} }))])), "stagewright"));
        assert!(!owns_replicas(&json!({}), "stagewright"));
    }
}
