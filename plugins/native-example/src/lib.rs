//! The smallest native plugin: logs a greeting and puts it out.
//!
//! It shows the interface of `stagewright_native.h` from Rust, without any dependency. A native plugin runs with all
//! the powers of the engine and none of its safeguards: write a component unless there is no other way.

use std::ffi::c_void;

/// `stagewright_text`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Text {
    data: *const u8,
    length: usize,
}

impl Text {
    const fn of(text: &'static str) -> Text {
        Text { data: text.as_ptr(), length: text.len() }
    }

    fn borrowed(text: &str) -> Text {
        Text { data: text.as_ptr(), length: text.len() }
    }
}

/// `stagewright_host_v1`.
#[repr(C)]
#[derive(Debug)]
pub struct Host {
    size: u32,
    context: *mut c_void,
    log: extern "C" fn(*mut c_void, u32, Text),
    set_output: extern "C" fn(*mut c_void, Text, Text) -> i32,
    cancelled: extern "C" fn(*mut c_void) -> i32,
    explain: extern "C" fn(*mut c_void, Text, Text),
}

/// `stagewright_plugin_v1`.
#[repr(C)]
#[derive(Debug)]
pub struct Plugin {
    size: u32,
    describe: extern "C" fn() -> Text,
    run: extern "C" fn(*const Host, Text) -> i32,
}

const MANIFEST: &str = r#"{
    "name": "native-example",
    "version": "0.1.0",
    "description": "Greets.",
    "config": { "type": "object" },
    "outputs": [{ "name": "greeting", "description": "What was logged." }]
}"#;
const INFO: u32 = 2;
const SUCCEEDED: i32 = 0;
const FAILED: i32 = 1;

static PLUGIN: Plugin = Plugin { size: size_of::<Plugin>() as u32, describe, run };

/// The one export.
#[unsafe(no_mangle)]
pub extern "C" fn stagewright_native_v1() -> *const Plugin {
    &raw const PLUGIN
}

extern "C" fn describe() -> Text {
    Text::of(MANIFEST)
}

extern "C" fn run(host: *const Host, request: Text) -> i32 {
    // SAFETY: the host passes a table, and a text of so many bytes, that are valid until this function returns.
    let (host, request) = unsafe { (&*host, std::slice::from_raw_parts(request.data, request.length)) };
    // A plugin with more to configure would parse the request with a JSON library.
    if String::from_utf8_lossy(request).contains(r#""refuse":true"#) {
        (host.explain)(host.context, Text::of("was told to refuse"), Text::of("leave out `refuse`"));
        return FAILED;
    }
    let greeting = "hello from native code";
    (host.log)(host.context, INFO, Text::of(greeting));
    (host.set_output)(host.context, Text::of("greeting"), Text::borrowed(&format!("{greeting:?}")));
    SUCCEEDED
}
