//! Bindings of version 0.2 of the contract, whose interfaces are packages of their own: what wasmtime generates, and for
//! each interface a module that implements it on the capabilities of an attempt.
#![allow(missing_docs, unreachable_pub, reason = "generated from the WIT, where everything is explained")]

mod artifacts;
mod calls;
mod clock;
mod context;
mod environment;
mod findings;
mod gate;
mod http;
mod logging;
mod metrics;
mod outputs;
mod poll;
mod process;
mod random;
mod registry;
mod secrets;
mod service;
mod source;
mod ssh;
mod test_reports;
mod types;
mod workspace;

use stagewright_engine::{Observation, Problem};
use stagewright_model::Interface;
use wasmtime::component::{HasSelf, Linker, ResourceType};

use crate::attempt::Attempt;
use crate::error::CapabilityError;
use crate::guest::{GuestReturn, Suspension};
use crate::handles::Handles;
use crate::inspection::Inspection;
use crate::plugin::Requirement;
pub(crate) use calls::{GuestSince02, InspectedSince02};
use context::{ContextView, HasContext};
use stagewright as wit;
use types::Answer;

/// The version of the packages that this engine provides, except for those that have got something since.
pub(crate) const VERSION: &str = "0.2.0";

/// The packages that have got something since [`VERSION`], with their own versions.
const RAISED: &[(&str, &str)] = &[
    ("environment", "0.2.1"),
    ("http", "0.2.2"),
    ("process", "0.2.1"),
    ("service", "0.2.1"),
    ("source", "0.2.1"),
    ("stage", "0.2.3"),
    ("test-reports", "0.2.1"),
];

/// The version of a package that this engine provides.
pub(crate) fn version_of(package: &str) -> &'static str {
    RAISED.iter().find(|(raised, _)| *raised == package).map_or(VERSION, |(_, version)| version)
}

wasmtime::component::bindgen!({
    world: "stagewright:stage/stage",
    path: "../../plugins/wit/0.2",
    imports: { default: async | trappable },
    exports: { default: async },
    with: {
        "stagewright:types/types.error": crate::error::CapabilityError,
        "stagewright:types/types.problem": stagewright_engine::Problem,
        "stagewright:types/types.requirement": crate::plugin::Requirement,
        "stagewright:types/types.suspension": crate::guest::Suspension,
        "stagewright:types/types.outcome": crate::guest::GuestReturn,
        "stagewright:types/types.observation": stagewright_engine::Observation,
        "stagewright:context/context.need": stagewright_engine::Need,
        "stagewright:poll/poll.pollable": crate::capability::poll::Pollable,
        "stagewright:findings/findings.finding": stagewright_engine::Problem,
        "stagewright:test-reports/test-reports.test-case": stagewright_engine::TestCase,
        "stagewright:test-reports/test-reports.failed-test": stagewright_engine::FailedTest,
        "stagewright:secrets/secrets.secret": crate::capability::secrets::SecretHandle,
        "stagewright:process/process.command": crate::capability::process::CommandBuilder,
        "stagewright:process/process.child": crate::capability::process::ChildHandle,
        "stagewright:http/http.request": crate::capability::http::RequestBuilder,
        "stagewright:http/http.pending-response": crate::capability::http::PendingResponse,
        "stagewright:http/http.response": crate::capability::http::ResponseHandle,
        "stagewright:metrics/metrics.metric": crate::capability::metrics::MetricBuilder,
        "stagewright:registry/registry.descriptor": crate::registry::Descriptor,
        "stagewright:environment/environment.deployment": stagewright_engine::ReleaseNote,
        "stagewright:artifacts/artifacts.artifact": crate::capability::artifacts::NamedArtifact,
        "stagewright:artifacts/artifacts.publication": crate::capability::artifacts::Publication,
        "stagewright:service/service.release": crate::capability::service::ReleaseBuilder,
        "stagewright:service/service.header-matches": crate::capability::service::HeaderMatches,
        "stagewright:service/service.instance": crate::capability::service::InstanceHandle,
        "stagewright:gate/gate.field": crate::capability::gate::FieldBuilder,
        "stagewright:gate/gate.approval": crate::capability::gate::ApprovalBuilder,
        "stagewright:ssh/ssh.command": crate::capability::ssh::RemoteCommand,
        "stagewright:ssh/ssh.output": crate::capability::ssh::RemoteOutput,
    },
});

/// The exports that a plugin may have beside `plugin`.
mod optional {
    pub(super) mod reconciling {
        wasmtime::component::bindgen!({
            inline: "
                package stagewright:reconciling;
                world reconciling { export stagewright:stage/reconcile@0.2.3; }
            ",
            path: "../../plugins/wit/0.2",
            world: "stagewright:reconciling/reconciling",
            exports: { default: async },
            with: { "stagewright:types/types@0.2.0": crate::since_0_2::stagewright::types::types },
        });
    }

    pub(super) mod comparing {
        wasmtime::component::bindgen!({
            inline: "
                package stagewright:comparing;
                world comparing { export stagewright:stage/drift@0.2.3; }
            ",
            path: "../../plugins/wit/0.2",
            world: "stagewright:comparing/comparing",
            exports: { default: async },
            with: { "stagewright:types/types@0.2.0": crate::since_0_2::stagewright::types::types },
        });
    }

    pub(super) mod requiring {
        wasmtime::component::bindgen!({
            inline: "
                package stagewright:requiring;
                world requiring { export stagewright:stage/requirements@0.2.3; }
            ",
            path: "../../plugins/wit/0.2",
            world: "stagewright:requiring/requiring",
            exports: { default: async },
            with: { "stagewright:types/types@0.2.0": crate::since_0_2::stagewright::types::types },
        });
    }
}

/// Links one interface. The match over the model's table keeps the two in step: an interface that the model doesn't know,
/// with the permissions and effects that belong to it, can't be linked, so no plugin can import it.
pub(crate) fn link(interface: Interface, linker: &mut Linker<Attempt>) -> wasmtime::Result<()> {
    type Own = HasSelf<Attempt>;
    match interface {
        Interface::Types => {
            wit::types::types::add_to_linker::<_, HasSelf<Handles>>(linker, |attempt| &mut attempt.handles)
        }
        Interface::Context => wit::context::context::add_to_linker::<_, HasContext>(linker, |attempt| ContextView {
            context: &attempt.context,
            handles: &mut attempt.handles,
        }),
        Interface::Source => wit::source::source::add_to_linker::<_, Own>(linker, |attempt| attempt),
        Interface::Clock => wit::clock::clock::add_to_linker::<_, Own>(linker, |attempt| attempt),
        Interface::Random => wit::random::random::add_to_linker::<_, Own>(linker, |attempt| attempt),
        Interface::Poll => wit::poll::poll::add_to_linker::<_, Own>(linker, |attempt| attempt),
        Interface::Logging => wit::logging::logging::add_to_linker::<_, Own>(linker, |attempt| attempt),
        Interface::Outputs => wit::outputs::outputs::add_to_linker::<_, Own>(linker, |attempt| attempt),
        Interface::Findings => wit::findings::findings::add_to_linker::<_, Own>(linker, |attempt| attempt),
        Interface::TestReports => wit::test_reports::test_reports::add_to_linker::<_, Own>(linker, |attempt| attempt),
        Interface::Metrics => wit::metrics::metrics::add_to_linker::<_, Own>(linker, |attempt| attempt),
        Interface::Artifacts => wit::artifacts::artifacts::add_to_linker::<_, Own>(linker, |attempt| attempt),
        Interface::Environment => wit::environment::environment::add_to_linker::<_, Own>(linker, |attempt| attempt),
        Interface::Gate => wit::gate::gate::add_to_linker::<_, Own>(linker, |attempt| attempt),
        Interface::Process => wit::process::process::add_to_linker::<_, Own>(linker, |attempt| attempt),
        Interface::Workspace => wit::workspace::workspace::add_to_linker::<_, Own>(linker, |attempt| attempt),
        Interface::Http => wit::http::http::add_to_linker::<_, Own>(linker, |attempt| attempt),
        Interface::Secrets => wit::secrets::secrets::add_to_linker::<_, Own>(linker, |attempt| attempt),
        Interface::Reveal => wit::secrets::reveal::add_to_linker::<_, Own>(linker, |attempt| attempt),
        Interface::Registry => wit::registry::registry::add_to_linker::<_, Own>(linker, |attempt| attempt),
        Interface::Service => wit::service::service::add_to_linker::<_, Own>(linker, |attempt| attempt),
        Interface::Ssh => wit::ssh::ssh::add_to_linker::<_, Own>(linker, |attempt| attempt),
    }
}

/// The host's type for a resource of `types`, whose names no other interface has.
pub(crate) fn shared_resource(name: &str) -> Option<ResourceType> {
    match name {
        "error" => Some(ResourceType::host::<CapabilityError>()),
        "problem" => Some(ResourceType::host::<Problem>()),
        "requirement" => Some(ResourceType::host::<Requirement>()),
        "suspension" => Some(ResourceType::host::<Suspension>()),
        "outcome" => Some(ResourceType::host::<GuestReturn>()),
        "observation" => Some(ResourceType::host::<Observation>()),
        _ => None,
    }
}

/// Links an interface that a guest may call while it is inspected.
pub(crate) fn link_inspection(interface: Interface, linker: &mut Linker<Inspection>) -> wasmtime::Result<()> {
    match interface {
        Interface::Types => {
            wit::types::types::add_to_linker::<_, HasSelf<Handles>>(linker, |inspection| &mut inspection.handles)
        }
        Interface::Context => wit::context::context::add_to_linker::<_, HasContext>(linker, |inspection| ContextView {
            context: &inspection.context,
            handles: &mut inspection.handles,
        }),
        other => wasmtime::bail!("an inspected guest may not call `{}`", other.name()),
    }
}

/// The memory of a list of texts in bytes, including the list itself.
fn size_of(texts: &[String]) -> usize {
    texts.iter().map(|text| text.len() + std::mem::size_of::<String>()).sum()
}
