//! Bindings of `stagewright:stage@0.1`: what wasmtime generates, and for each interface a module that implements it on the
//! capabilities of an attempt.
//!
//! This is a layer above the capabilities, which know neither the WIT nor wasmtime. Each version of the contract is a module
//! like this one, on the same capabilities. This version gets nothing new.
#![allow(missing_docs, unreachable_pub, reason = "generated from the WIT, where everything is explained")]

mod artifacts;
mod calls;
mod clock;
mod context;
mod environment;
mod gate;
mod http;
mod logging;
mod outputs;
mod process;
mod registry;
mod secrets;
mod service;
mod types;
mod workspace;

use stagewright_model::Interface;
use wasmtime::component::{HasSelf, Linker};

use crate::attempt::Attempt;
use crate::capability::context::Context;
use crate::inspection::Inspection;
pub(crate) use calls::{GuestSince01, InspectedSince01};
use stagewright::stage;

/// The version of the contract that these are bindings of.
pub(crate) const VERSION: &str = "0.1.0";

wasmtime::component::bindgen!({
    world: "stage",
    path: "../../plugins/wit/0.1",
    imports: { default: async | trappable },
    exports: { default: async },
    trappable_error_type: { "stagewright:stage/types.error" => crate::call::CallError },
    with: {
        "stagewright:stage/secrets.secret": crate::capability::secrets::SecretHandle,
        "stagewright:stage/process.command": crate::capability::process::CommandBuilder,
        "stagewright:stage/process.child": crate::capability::process::ChildHandle,
        "stagewright:stage/http.request": crate::capability::http::RequestBuilder,
        "stagewright:stage/http.response": crate::capability::http::ResponseHandle,
        "stagewright:stage/service.release": crate::capability::service::ReleaseBuilder,
        "stagewright:stage/service.instance": crate::capability::service::InstanceHandle,
        "stagewright:stage/gate.approval": crate::capability::gate::ApprovalBuilder,
    },
});

/// The `reconcile` export, which a plugin may have beside `plugin`.
pub(crate) mod reconciling {
    wasmtime::component::bindgen!({
        inline: "
            package stagewright:reconciling;
            world reconciling { export stagewright:stage/reconcile@0.1.0; }
        ",
        path: "../../plugins/wit/0.1",
        world: "stagewright:reconciling/reconciling",
        exports: { default: async },
        with: { "stagewright:stage/types@0.1.0": crate::since_0_1::stagewright::stage::types },
    });
}

/// Links one interface. The match over the model's table keeps the two in step: an interface that the model doesn't know,
/// with the permissions and effects that belong to it, can't be linked, so no plugin can import it.
pub(crate) fn link(interface: Interface, linker: &mut Linker<Attempt>) -> wasmtime::Result<()> {
    match interface {
        Interface::Types => stage::types::add_to_linker::<_, HasSelf<Attempt>>(linker, |attempt| attempt),
        Interface::Context => {
            stage::context::add_to_linker::<_, HasSelf<Context>>(linker, |attempt: &mut Attempt| &mut attempt.context)
        }
        Interface::Clock => stage::clock::add_to_linker::<_, HasSelf<Attempt>>(linker, |attempt| attempt),
        Interface::Logging => stage::logging::add_to_linker::<_, HasSelf<Attempt>>(linker, |attempt| attempt),
        Interface::Outputs => stage::outputs::add_to_linker::<_, HasSelf<Attempt>>(linker, |attempt| attempt),
        Interface::Artifacts => stage::artifacts::add_to_linker::<_, HasSelf<Attempt>>(linker, |attempt| attempt),
        Interface::Environment => stage::environment::add_to_linker::<_, HasSelf<Attempt>>(linker, |attempt| attempt),
        Interface::Gate => stage::gate::add_to_linker::<_, HasSelf<Attempt>>(linker, |attempt| attempt),
        Interface::Process => stage::process::add_to_linker::<_, HasSelf<Attempt>>(linker, |attempt| attempt),
        Interface::Workspace => stage::workspace::add_to_linker::<_, HasSelf<Attempt>>(linker, |attempt| attempt),
        Interface::Http => stage::http::add_to_linker::<_, HasSelf<Attempt>>(linker, |attempt| attempt),
        Interface::Secrets => stage::secrets::add_to_linker::<_, HasSelf<Attempt>>(linker, |attempt| attempt),
        Interface::Registry => stage::registry::add_to_linker::<_, HasSelf<Attempt>>(linker, |attempt| attempt),
        Interface::Service => stage::service::add_to_linker::<_, HasSelf<Attempt>>(linker, |attempt| attempt),
        // Later versions have them.
        Interface::Source
        | Interface::Random
        | Interface::Poll
        | Interface::Findings
        | Interface::TestReports
        | Interface::Metrics
        | Interface::Reveal
        | Interface::Ssh => Ok(()),
    }
}

/// Links an interface that a guest may call while it is inspected.
pub(crate) fn link_inspection(interface: Interface, linker: &mut Linker<Inspection>) -> wasmtime::Result<()> {
    match interface {
        Interface::Context => {
            stage::context::add_to_linker::<_, HasSelf<Context>>(linker, |inspection| &mut inspection.context)
        }
        // It has no functions in this version.
        _ => Ok(()),
    }
}

/// The memory of a list of texts in bytes, including the list itself.
fn size_of(texts: &[String]) -> usize {
    texts.iter().map(|text| text.len() + std::mem::size_of::<String>()).sum()
}
