//! Bindings of `stagewright:stage@0.1`: generated, and private to the host.
#![allow(missing_docs, unreachable_pub, reason = "generated from the WIT, where everything is explained")]

wasmtime::component::bindgen!({
    world: "stage",
    path: "../../plugins/wit",
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
        path: "../../plugins/wit",
        world: "stagewright:reconciling/reconciling",
        exports: { default: async },
        with: { "stagewright:stage/types@0.1.0": crate::since_0_1::stagewright::stage::types },
    });
}
