//! A minimal native plugin: logs a greeting and sets it as an output.
//!
//! It shows how to implement `stagewright_native.h` in Rust, without any dependency. A native plugin runs with all the
//! rights of the engine and outside of the sandbox: write a component if you can.

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
    "outputs": [{ "name": "greeting", "description": "The logged greeting." }]
}"#;
const INFO: u32 = 2;
const SUCCEEDED: i32 = 0;
const FAILED: i32 = 1;

static PLUGIN: Plugin = Plugin { size: size_of::<Plugin>() as u32, describe, run };

/// The only export.
#[unsafe(no_mangle)]
pub extern "C" fn stagewright_native_v1() -> *const Plugin {
    &raw const PLUGIN
}

extern "C" fn describe() -> Text {
    Text::of(MANIFEST)
}

extern "C" fn run(host: *const Host, request: Text) -> i32 {
    // SAFETY: the host passes pointers to its table and to `request.length` bytes of text. Both are valid until this
    // function returns.
    let (host, request) = unsafe { (&*host, std::slice::from_raw_parts(request.data, request.length)) };
    // A plugin with more configuration would parse the request with a JSON library.
    if String::from_utf8_lossy(request).contains(r#""refuse":true"#) {
        (host.explain)(host.context, Text::of("the configuration asks to refuse"), Text::of("remove `refuse`"));
        return FAILED;
    }
    let greeting = "hello from native code";
    (host.log)(host.context, INFO, Text::of(greeting));
    (host.set_output)(host.context, Text::of("greeting"), Text::borrowed(&format!("{greeting:?}")));
    SUCCEEDED
}
