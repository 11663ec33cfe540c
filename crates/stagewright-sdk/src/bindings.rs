//! Bindings generated from the WIT contract. A guest imports only the interfaces that it calls.
#![allow(missing_docs, unreachable_pub, clippy::semicolon_if_nothing_returned, reason = "generated code")]

/// Every import, and the `plugin` export.
pub mod stage {
    wit_bindgen::generate!({
        path: "wit",
        world: "stage",
        pub_export_macro: true,
        default_bindings_module: "stagewright_sdk::bindings::stage",
        additional_derives: [PartialEq],
    });
}

/// The `reconcile` export, which an effectful stage has in addition to `plugin`.
pub mod reconcile {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package stagewright:reconciling;
            world reconciling { export stagewright:stage/reconcile@0.1.0; }
        ",
        world: "stagewright:reconciling/reconciling",
        with: { "stagewright:stage/types@0.1.0": crate::bindings::stage::stagewright::stage::types },
        pub_export_macro: true,
        default_bindings_module: "stagewright_sdk::bindings::reconcile",
    });
}
