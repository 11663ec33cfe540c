//! Guests made of a few lines of WebAssembly text, wrapped into components.
//!
//! Guests lay out addresses below 64 KiB themselves; what the host passes in is allocated above. A result of `run` has its
//! discriminant at the address that is returned, and the outcome's or the error's first field 4 bytes after it. Results of
//! host functions of the type `result<_, error>` have the same layout, so that `run` can return them unchanged. Zeroes
//! mean success.

use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The parts of a guest, each as WebAssembly text.
#[derive(Default)]
pub(crate) struct Guest<'a> {
    /// Imported functions.
    pub(crate) imports: &'a str,
    /// Other fields of the module, such as data segments.
    pub(crate) fields: &'a str,
    /// The body of `run`, which returns the address of a result.
    pub(crate) run: &'a str,
    /// The body of `describe`, which returns the address of a string; none for a manifest of the plugin `test`.
    pub(crate) describe: Option<&'a str>,
    /// The body of `validate`, which returns the address of a list; none for no findings.
    pub(crate) validate: Option<&'a str>,
    /// Code at the beginning of the allocator.
    pub(crate) allocate: &'a str,
    /// The bodies of `observe` and `undo`, which return the address of a result; none for a guest without `reconcile`.
    pub(crate) reconcile: Option<[&'a str; 2]>,
    /// The contract that it is built for; none for 0.1.0.
    pub(crate) contract: Option<OtherContract>,
}

/// A later version of 0.1.
#[derive(Clone, Copy)]
pub(crate) struct OtherContract {
    /// As in `0.1.7`.
    pub(crate) version: &'static str,
    /// Functions that it has in `context` beside those of 0.1.0, in WIT.
    pub(crate) added: &'static str,
}

/// The version of the contract that guests are built for unless they say otherwise.
const VERSION: &str = "@0.1.0";

impl Guest<'_> {
    /// The component's bytes.
    pub(crate) fn build(&self) -> Vec<u8> {
        let Guest { imports, fields, run, describe, validate, allocate, reconcile, contract } = self;
        let describe = describe.unwrap_or("i32.const 16");
        let validate = validate.unwrap_or("i32.const 8");
        let length = MANIFEST.len();
        let reconciling = reconcile.map_or_else(String::new, |[observe, undo]| {
            format!(
                r#"(func (export "stagewright:stage/reconcile@0.1.0#observe") (result i32) {observe})
                   (func (export "stagewright:stage/reconcile@0.1.0#undo") (result i32) {undo})"#
            )
        });
        let text = format!(
            r#"(module
                {imports}
                (memory (export "memory") 1)
                (data (i32.const 16) "\18\00\00\00\{length:02x}\00\00\00") (data (i32.const 24) {MANIFEST:?})
                {fields}
                (global $heap (mut i32) (i32.const 65536))
                (func $allocate (export "cabi_realloc")
                    (param $old i32) (param $size i32) (param $align i32) (param $new i32) (result i32)
                    (local $at i32)
                    {allocate}
                    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
                    (global.set $heap (i32.add (local.get $at) (local.get $new)))
                    (block $fits
                        (br_if $fits (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
                        (drop (memory.grow (i32.add (i32.div_u (local.get $new) (i32.const 65536)) (i32.const 1)))))
                    (memory.copy (local.get $at) (local.get $old) (local.get $size))
                    (local.get $at))
                (func (export "stagewright:stage/plugin@0.1.0#describe") (result i32) {describe})
                (func (export "stagewright:stage/plugin@0.1.0#validate") (result i32) {validate})
                (func (export "stagewright:stage/plugin@0.1.0#run") (result i32) {run})
                {reconciling})"#
        );
        let wit =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/wit/0.1/stage.wit"));
        let (mut text, mut wit) = (text, wit.unwrap());
        if let Some(OtherContract { version, added }) = contract {
            let version = format!("@{version}");
            text = text.replace(VERSION, &version);
            wit = wit.replace(VERSION, &version);
            wit = wit.replace("interface context {", &format!("interface context {{ {added}"));
        }
        component(&text, &wit, if reconcile.is_some() { "effectful-stage" } else { "stage" })
    }
}

const MANIFEST: &str = r#"{"name":"test","version":"1.2.3"}"#;

fn component(text: &str, wit: &str, world: &str) -> Vec<u8> {
    let mut module = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"));
    let mut resolve = Resolve::default();
    let package = resolve.push_str("stage.wit", wit).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
}

/// A guest that succeeds at once.
pub(crate) fn succeeding() -> Vec<u8> {
    Guest { run: "i32.const 512", ..Guest::default() }.build()
}

/// A guest that loops forever without calling the host.
pub(crate) fn looping() -> Vec<u8> {
    Guest { run: "(loop $again (br $again)) unreachable", ..Guest::default() }.build()
}

/// A guest that runs a shell script and waits for its end.
pub(crate) fn shell(script: &str) -> Vec<u8> {
    shell_with(script, |guest| guest)
}

/// A guest that runs a shell script in `run`, `observe` and `undo`.
pub(crate) fn reconciling_shell(script: &str) -> Vec<u8> {
    shell_with(script, |guest| Guest { reconcile: Some([guest.run; 2]), ..guest })
}

fn shell_with(script: &str, change: impl for<'a> FnOnce(Guest<'a>) -> Guest<'a>) -> Vec<u8> {
    let fields = format!(
        r#"(data (i32.const 600) "sh") (data (i32.const 610) "-c") (data (i32.const 1024) "{script}")
           (data (i32.const 640) "\62\02\00\00\02\00\00\00\00\04\00\00\{:02x}\{:02x}\00\00")"#,
        script.len() % 256,
        script.len() / 256
    );
    let guest = Guest {
        imports: r#"
            (import "stagewright:stage/process@0.1.0" "[constructor]command" (func $command (param i32 i32) (result i32)))
            (import "stagewright:stage/process@0.1.0" "[method]command.args" (func $args (param i32 i32 i32)))
            (import "stagewright:stage/process@0.1.0" "[method]command.spawn" (func $spawn (param i32 i32)))
            (import "stagewright:stage/process@0.1.0" "[method]child.wait" (func $wait (param i32 i32)))"#,
        fields: &fields,
        run: r#"
            (local $command i32)
            (local.set $command (call $command (i32.const 600) (i32.const 2)))
            (call $args (local.get $command) (i32.const 640) (i32.const 2))
            (call $spawn (local.get $command) (i32.const 512))
            (if (i32.load8_u (i32.const 512)) (then (return (i32.const 512))))
            (call $wait (i32.load (i32.const 516)) (i32.const 700))
            (if (i32.load8_u (i32.const 700)) (then (return (i32.const 700))))
            (i32.const 800)"#,
        ..Guest::default()
    };
    change(guest).build()
}
