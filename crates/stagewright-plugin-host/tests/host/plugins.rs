//! Describing, validating and loading plugins.

use serde_json::json;
use stagewright_engine::EffectClass;
use stagewright_engine::{AttemptEnd, FailureKind};
use stagewright_model::{JsonTemplate, Permissions, PluginRef, Reaches, Trust};

use crate::guest::{Guest, OtherContract, shell, succeeding};
use crate::harness::{Harness, request, start};

fn test_plugin() -> PluginRef {
    PluginRef::Builtin("test".into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_description_has_the_manifest_and_the_imports() {
    let harness = Harness::new();
    harness.install(&shell("true"));
    let description = harness.host.describe(&test_plugin(), &Trust::Component).await.unwrap();
    assert_eq!((description.manifest.name.as_str(), description.manifest.version.as_str()), ("test", "1.2.3"));
    assert!(description.digest.starts_with("sha256:") && !description.native);
    let imports = description.imports.interfaces().collect::<Vec<_>>();
    assert!(imports.contains(&"process") && !imports.contains(&"http") && !imports.contains(&"types"), "{imports:?}");
    let grants = Permissions {
        process: vec!["sh".parse().unwrap()],
        net: vec!["a.b".parse().unwrap()],
        ..Permissions::default()
    };
    assert_eq!(Reaches::of(None, &grants, description.code()).effect_class(), EffectClass::External);
}

#[tokio::test(flavor = "multi_thread")]
async fn imports_trap_while_a_plugin_is_described() {
    let guest = Guest {
        imports: r#"(import "stagewright:stage/context@0.1.0" "config" (func $config (param i32)))"#,
        describe: Some("(call $config (i32.const 512)) (i32.const 512)"),
        run: "i32.const 512",
        ..Guest::default()
    };
    let harness = Harness::new();
    harness.install(&guest.build());
    let error = harness.host.describe(&test_plugin(), &Trust::Component).await.unwrap_err();
    assert!(error.causes.iter().any(|cause| cause.contains("context")), "{error:?}");
}

/// A list of one diagnostic: an error with the code `config`, the message `wrong` and the path `url`.
fn complaining() -> Vec<u8> {
    let text = |address: u32, length: u32| -> String {
        let bytes = address.to_le_bytes().into_iter().chain(length.to_le_bytes());
        bytes.map(|byte| format!("\\{byte:02x}")).collect()
    };
    let fields = format!(
        r#"(data (i32.const 1024) "configwrongurl")
           (data (i32.const 1100) "{list}")
           (data (i32.const 1200) "\00\00\00\00{code}{message}\01\00\00\00{path}\00\00\00\00")"#,
        list = text(1200, 1),
        code = text(1024, 6),
        message = text(1030, 5),
        path = text(1035, 3),
    );
    Guest { fields: &fields, validate: Some("i32.const 1100"), run: "i32.const 512", ..Guest::default() }.build()
}

#[tokio::test(flavor = "multi_thread")]
async fn findings_on_templates_are_left_out() {
    let harness = Harness::new();
    harness.install(&complaining());
    let validate = async |config| {
        let config = JsonTemplate::parse(config).unwrap();
        harness.host.validate(&test_plugin(), &Trust::Component, &config).await.unwrap()
    };
    let found = validate(json!({ "url": 3 })).await;
    assert_eq!((found.len(), found[0].message.as_str(), found[0].path.as_deref()), (1, "wrong", Some("url")));
    assert_eq!(validate(json!({ "url": "${{ inputs.url }}" })).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn validate_may_only_call_context() {
    let with = |import: &str| {
        let imports = format!("(import {import} (func $f (param i32)))");
        let validate = Some("(call $f (i32.const 512)) (i32.const 8)");
        Guest { imports: &imports, validate, run: "i32.const 512", ..Guest::default() }.build()
    };
    let harness = Harness::new();
    harness.install(&with(r#""stagewright:stage/context@0.1.0" "config""#));
    assert_eq!(
        harness.host.validate(&test_plugin(), &Trust::Component, &JsonTemplate::default()).await,
        Ok(Vec::new())
    );
    // Any function with the same signature.
    harness.install(&with(r#""stagewright:stage/secrets@0.1.0" "[resource-drop]secret""#));
    assert!(harness.host.validate(&test_plugin(), &Trust::Component, &JsonTemplate::default()).await.is_err());
}

/// A guest that calls `context.config` in `validate` and `run`, built for another contract.
fn built_for(version: &'static str) -> Guest<'static> {
    Guest {
        imports: r#"(import "stagewright:stage/context@0.1.0" "config" (func $config (param i32)))"#,
        validate: Some("(call $config (i32.const 512)) (i32.const 8)"),
        run: "(call $config (i32.const 600)) (i32.const 512)",
        contract: Some(OtherContract { version, added: "commit: func() -> string; branch: func() -> string;" }),
        ..Guest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_for_another_patch_version_is_described_validated_and_run() {
    let harness = Harness::new();
    let bytes = built_for("0.1.7").build();
    harness.install(&bytes);
    let description = harness.host.describe(&test_plugin(), &Trust::Component).await.unwrap();
    assert_eq!(description.contract.as_deref(), Some("0.1.7"));
    assert_eq!(description.imports.interfaces().collect::<Vec<_>>(), ["context"]);
    let found = harness.host.validate(&test_plugin(), &Trust::Component, &JsonTemplate::default()).await;
    assert_eq!(found, Ok(Vec::new()));
    assert_eq!(harness.run(&bytes, |_| {}).await.report().end, AttemptEnd::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_needs_a_newer_function_is_refused_with_the_function_and_its_version() {
    let harness = Harness::new();
    let newer = Guest {
        imports: r#"(import "stagewright:stage/context@0.1.0" "config" (func $config (param i32)))
            (import "stagewright:stage/context@0.1.0" "commit" (func $commit (param i32)))
            (import "stagewright:stage/context@0.1.0" "branch" (func $branch (param i32)))"#,
        run: "(call $commit (i32.const 600)) (call $branch (i32.const 600)) (i32.const 512)",
        ..built_for("0.1.7")
    };
    harness.install(&newer.build());
    let error = harness.host.describe(&test_plugin(), &Trust::Component).await.unwrap_err();
    assert_eq!(
        error.message,
        "plugin `test` needs `context.commit` from 0.1.7, `context.branch` from 0.1.7; this engine has 0.1.0"
    );
    assert_eq!(error.help.as_deref(), Some("update Stagewright, or build the plugin with an SDK for 0.1.0"));
    let ended = harness.run(&newer.build(), |_| {}).await;
    assert_eq!((ended.failure().1.kind, &ended.failure().1.message), (FailureKind::BadPlugin, &error.message));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_for_another_minor_version_is_refused_with_both_versions() {
    let harness = Harness::new();
    harness.install(&built_for("0.9.2").build());
    let error = harness.host.describe(&test_plugin(), &Trust::Component).await.unwrap_err();
    assert_eq!(error.message, "plugin `test` was built for version 0.9.2 of the contract; this engine has 0.2.3");
    // A guest that imports nothing shows its version only by what it exports.
    harness.install(&Guest { imports: "", validate: None, run: "i32.const 512", ..built_for("0.9.2") }.build());
    let error = harness.host.describe(&test_plugin(), &Trust::Component).await.unwrap_err();
    assert_eq!(error.message, "plugin `test` was built for version 0.9.2 of the contract; this engine has 0.2.3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_a_stage_component_is_refused() {
    let harness = Harness::new();
    let mut kinds = Vec::new();
    let wasi = wat::parse_str(r#"(component (import "wasi:cli/environment@0.2.0" (instance)))"#).unwrap();
    let empty = wat::parse_str("(component)").unwrap();
    let module = wat::parse_str("(module)").unwrap();
    for bytes in [wasi.as_slice(), &empty, &module, b"text"] {
        let ended = harness.run(bytes, |_| {}).await;
        kinds.push(ended.failure().1.clone());
    }
    assert!(kinds.iter().all(|failure| failure.kind == FailureKind::BadPlugin), "{kinds:#?}");
    assert!(kinds[0].message.contains("`wasi:cli/environment@0.2.0`"), "{kinds:#?}");
    let missing = harness.run(&empty, |request| request.uses = PluginRef::Builtin("other".into())).await;
    assert!(missing.failure().1.help.as_deref().unwrap().contains("built-in plugins: test"), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_is_compiled_once_and_loaded_after_a_restart() {
    let harness = Harness::new();
    harness.install(&succeeding());
    let attempts: Vec<_> = (0..8).map(|_| harness.start(request())).collect();
    for attempt in attempts {
        assert_eq!(attempt.end().await.report().end, AttemptEnd::Succeeded);
    }
    let compiled = || {
        let mut files: Vec<_> = std::fs::read_dir(harness.path("cache/compiled"))
            .unwrap()
            .map(|entry| (entry.as_ref().unwrap().path(), entry.unwrap().metadata().unwrap().modified().unwrap()))
            .collect();
        files.sort();
        files
    };
    let before = compiled();
    assert_eq!(before.len(), 1);
    let ended = start(&harness.restarted(), request()).end().await;
    assert_eq!(ended.report().end, AttemptEnd::Succeeded);
    assert_eq!(compiled(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuilt_plugin_is_loaded_again() {
    let harness = Harness::new();
    assert_eq!(harness.run(&succeeding(), |_| {}).await.report().end, AttemptEnd::Succeeded);
    let broken = Guest { run: "unreachable", ..Guest::default() }.build();
    assert_eq!(harness.run(&broken, |_| {}).await.failure().1.kind, FailureKind::Trapped);
}
