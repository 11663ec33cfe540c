//! The part of the API of ECS that a deploy uses, for one service.

use aws::{Failure, Service as Api};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};
use stagewright_sdk::{Error, ErrorCode, Result};

use crate::definition::Definition;

const API: &str = "AmazonEC2ContainerServiceV20141113";

/// How many of the newest task definitions of a family are looked at for one that was deployed before.
const NEWEST: u32 = 50;

/// How many of the tasks that have stopped are asked for the reason.
const STOPPED: usize = 10;

/// A service of a cluster.
pub(crate) struct Ecs {
    api: Api,
    cluster: String,
    service: String,
}

/// A service as `DescribeServices` shows it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Described {
    pub(crate) status: String,
    pub(crate) task_definition: String,
    #[serde(default)]
    pub(crate) deployments: Vec<Deployment>,
    #[serde(default)]
    pub(crate) deployment_controller: Option<Controller>,
}

/// What replaces tasks.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Controller {
    /// `ECS`, `CODE_DEPLOY` or `EXTERNAL`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
}

/// The tasks of one task definition in a service.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Deployment {
    /// `PRIMARY` for the newest, `ACTIVE` for one that is being replaced.
    pub(crate) status: String,
    pub(crate) task_definition: String,
    #[serde(default)]
    pub(crate) desired_count: u32,
    #[serde(default)]
    pub(crate) running_count: u32,
    #[serde(default)]
    pub(crate) failed_tasks: u32,
    #[serde(default)]
    pub(crate) rollout_state: Option<RolloutState>,
    #[serde(default)]
    pub(crate) rollout_state_reason: String,
}

/// How far the replacement of tasks is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum RolloutState {
    InProgress,
    Completed,
    Failed,
}

impl Deployment {
    pub(crate) fn is_primary(&self) -> bool {
        self.status == "PRIMARY"
    }

    pub(crate) fn is(&self, state: RolloutState) -> bool {
        self.rollout_state == Some(state)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Services {
    services: Vec<Described>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    #[serde(default, alias = "taskArns")]
    task_definition_arns: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tasks {
    tasks: Vec<Task>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Task {
    task_definition_arn: String,
    #[serde(default)]
    stopped_reason: String,
    #[serde(default)]
    containers: Vec<Container>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    name: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    exit_code: Option<i64>,
}

impl Ecs {
    pub(crate) fn new(api: Api, cluster: &str, service: &str) -> Ecs {
        Ecs { api, cluster: cluster.to_owned(), service: service.to_owned() }
    }

    /// The service.
    ///
    /// # Errors
    /// If it doesn't exist, or ECS doesn't replace its tasks.
    pub(crate) fn describe(&self) -> Result<Described> {
        let Ecs { cluster, service, .. } = self;
        let found: Services = self.call("DescribeServices", &json!({ "cluster": cluster, "services": [service] }))?;
        let Some(described) = found.services.into_iter().find(|found| found.status != "INACTIVE") else {
            let message = format!("the cluster `{cluster}` has no service `{service}`");
            return Err(Error::new(ErrorCode::NotFound, message)
                .help("create the service first, with any task definition of the container"));
        };
        match described.deployment_controller.as_ref().map(|controller| controller.kind.as_str()) {
            None | Some("ECS") => Ok(described),
            Some(other) => {
                Err(Error::failed(format!("the deployments of `{service}` are controlled by {other}, not by ECS"))
                    .help("create the service with the deployment controller ECS"))
            }
        }
    }

    /// Updates the service to a task definition. Does nothing if it has it.
    pub(crate) fn update(&self, arn: &str) -> Result<()> {
        let input = json!({ "cluster": self.cluster, "service": self.service, "taskDefinition": arn });
        self.call::<Json>("UpdateService", &input).map(drop)
    }

    /// A task definition with its tags.
    pub(crate) fn definition(&self, name: &str) -> Result<Definition> {
        self.call("DescribeTaskDefinition", &json!({ "taskDefinition": name, "include": ["TAGS"] }))
    }

    /// The ARNs of the newest task definitions of a family, the newest first.
    pub(crate) fn family(&self, family: &str) -> Result<Vec<String>> {
        let input = json!({ "familyPrefix": family, "sort": "DESC", "status": "ACTIVE", "maxResults": NEWEST });
        self.call("ListTaskDefinitions", &input).map(|listed: Listed| listed.task_definition_arns)
    }

    pub(crate) fn register(&self, input: &Json) -> Result<Definition> {
        self.call("RegisterTaskDefinition", input)
    }

    pub(crate) fn deregister(&self, arn: &str) -> Result<()> {
        self.call::<Json>("DeregisterTaskDefinition", &json!({ "taskDefinition": arn })).map(drop)
    }

    pub(crate) fn tag(&self, arn: &str, tags: &Json) -> Result<()> {
        self.call::<Json>("TagResource", &json!({ "resourceArn": arn, "tags": tags })).map(drop)
    }

    /// Why the last tasks of a task definition have stopped, without repetitions.
    pub(crate) fn stopped(&self, arn: &str) -> Result<Vec<String>> {
        let Ecs { cluster, service, .. } = self;
        let input = json!({ "cluster": cluster, "serviceName": service, "desiredStatus": "STOPPED" });
        let listed: Listed = self.call("ListTasks", &input)?;
        let newest = &listed.task_definition_arns[..listed.task_definition_arns.len().min(STOPPED)];
        if newest.is_empty() {
            return Ok(Vec::new());
        }
        let described: Tasks = self.call("DescribeTasks", &json!({ "cluster": cluster, "tasks": newest }))?;
        let own = described.tasks.iter().filter(|task| task.task_definition_arn == arn);
        let mut reasons: Vec<String> = own.map(Task::reason).collect();
        reasons.sort_unstable();
        reasons.dedup();
        Ok(reasons)
    }

    fn call<T: DeserializeOwned>(&self, operation: &str, input: &Json) -> Result<T> {
        self.api.call(API, operation, input).map_err(|failure: Failure| match failure.is("ClusterNotFoundException") {
            true => Error::from(failure).help("check `cluster`, and the region in the credential's origin"),
            false => failure.into(),
        })
    }
}

impl Task {
    fn reason(&self) -> String {
        let of_container = self.containers.iter().filter_map(|container| {
            let Container { name, reason, exit_code } = container;
            match (exit_code, reason.as_str()) {
                (Some(code), "") => Some(format!("{name} exited with code {code}")),
                (_, "") => None,
                (_, reason) => Some(format!("{name}: {reason}")),
            }
        });
        let reasons =
            std::iter::once(self.stopped_reason.clone()).filter(|reason| !reason.is_empty()).chain(of_container);
        reasons.collect::<Vec<_>>().join("; ")
    }
}
