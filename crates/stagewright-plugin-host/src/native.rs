//! Native plugins: shared libraries that a pipeline trusts with all the powers of the engine, and pins by digest.
//!
//! `include/stagewright_native.h` is the contract. A private copy of the hashed bytes is loaded, so that the file can't be
//! exchanged between hashing and loading. A native stage can't be stopped by force: when it must end and doesn't return,
//! its attempt ends while its thread goes on.

use std::collections::HashMap;
use std::ffi::c_void;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use libloading::Library;
use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::json;
use stagewright_engine::{AttemptEnd, AttemptReport, AttemptRequest, Failure, FailureKind, Outcome};
use stagewright_model::PluginRef;
use tokio::runtime::Handle;

use crate::capability::context::outputs_by_stage;
use crate::capability::logging::LogLevel;
use crate::capability::logging::render;
use crate::capability::outputs::Outputs;
use crate::digest::sha256;
use crate::log::AttemptLog;
use crate::outcome::{outcome_from_bad_plugin, outcome_from_interruption, outcome_from_stop};
use crate::plugin::{PLUGIN_BYTES, PluginError, PluginManifest};
use crate::stop::{AttemptTimer, Cancel};

/// `stagewright_text`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Text {
    data: *const u8,
    length: usize,
}

/// `stagewright_host_v1`.
#[repr(C)]
struct HostTable {
    size: u32,
    context: *mut c_void,
    log: extern "C" fn(*mut c_void, u32, Text),
    set_output: extern "C" fn(*mut c_void, Text, Text) -> i32,
    cancelled: extern "C" fn(*mut c_void) -> i32,
    explain: extern "C" fn(*mut c_void, Text, Text),
}

/// `stagewright_plugin_v1`.
#[repr(C)]
struct PluginTable {
    size: u32,
    describe: Option<extern "C" fn() -> Text>,
    run: Option<extern "C" fn(*const HostTable, Text) -> i32>,
}

impl Text {
    fn of(text: &str) -> Text {
        Text { data: text.as_ptr(), length: text.len() }
    }

    /// # Safety
    /// `data` must point to `length` bytes, or `length` be 0.
    unsafe fn read(self) -> String {
        if self.length == 0 || self.data.is_null() {
            return String::new();
        }
        // SAFETY: the caller's.
        let bytes = unsafe { std::slice::from_raw_parts(self.data, self.length) };
        String::from_utf8_lossy(bytes).into_owned()
    }
}

/// A loaded library.
struct NativeLibrary {
    describe: extern "C" fn() -> Text,
    run: extern "C" fn(*const HostTable, Text) -> i32,
    /// Keeps the code loaded that the functions point to.
    _library: Library,
}

/// The loaded libraries, by digest.
#[derive(Default)]
pub(crate) struct NativeLibraries {
    loaded: Mutex<HashMap<String, Arc<NativeLibrary>>>,
}

impl NativeLibraries {
    /// The manifest, after the library's digest was checked.
    pub(crate) async fn describe(
        self: &Arc<Self>,
        name: &str,
        file: PathBuf,
        digest: &str,
    ) -> Result<PluginManifest, PluginError> {
        let native = self.get(name, file, digest).await?;
        // SAFETY: by the contract, the text lives as long as the library, which `native` keeps loaded.
        let text = unsafe { (native.describe)().read() };
        serde_json::from_str(&text).map_err(|error| {
            PluginError::new(format!("plugin `{name}`: `describe` returned an invalid manifest")).caused_by([error])
        })
    }

    /// Runs one attempt.
    pub(crate) async fn run(
        self: &Arc<Self>,
        request: AttemptRequest,
        file: PathBuf,
        digest: &str,
        timer: &mut AttemptTimer,
        log: AttemptLog,
    ) -> AttemptReport {
        let native = match self.get(&request.uses.to_string(), file, digest).await {
            Ok(native) => native,
            Err(error) => {
                let end = outcome_from_bad_plugin(error);
                return AttemptReport {
                    end,
                    outputs: Default::default(),
                    artifacts: Vec::new(),
                    release: None,
                    made: None,
                    read_history: false,
                };
            }
        };
        // Shared with the thread that runs the library: when the attempt is stopped, the thread goes on, and the library may
        // still call back into this state.
        let run = Arc::new(NativeAttempt {
            log,
            cancel: timer.cancel.clone(),
            handle: Handle::current(),
            outputs: Mutex::default(),
            explained: Mutex::default(),
        });
        let thread = {
            let run = run.clone();
            tokio::task::spawn_blocking(move || run.call(&native, &request))
        };
        let end = match timer.run(thread, || {}).await {
            Ok(Ok(code)) => run.end(code),
            Ok(Err(error)) => outcome_from_interruption(&error),
            Err(stopped) => outcome_from_stop(&stopped),
        };
        let outputs = run.outputs.lock().unwrap_or_else(PoisonError::into_inner).take();
        AttemptReport { end, outputs, artifacts: Vec::new(), release: None, made: None, read_history: false }
    }

    async fn get(self: &Arc<Self>, name: &str, file: PathBuf, digest: &str) -> Result<Arc<NativeLibrary>, PluginError> {
        let (natives, name, digest) = (self.clone(), name.to_owned(), digest.to_owned());
        let loading = tokio::task::spawn_blocking(move || {
            // The lock is held while loading, so that a library is loaded once.
            let mut loaded = natives.loaded.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(native) = loaded.get(&digest) {
                return Ok(native.clone());
            }
            let native = Arc::new(load(&name, &file, &digest)?);
            loaded.insert(digest, native.clone());
            Ok(native)
        });
        loading.await.unwrap_or_else(|error| Err(PluginError::new("could not load a plugin").caused_by([error])))
    }
}

/// Refuses native plugins in a program that can't load them: a static one has no dynamic loader, and a library would bring
/// a second libc into the process.
///
/// # Errors
/// If this program is such a one.
pub fn require_native_support(uses: &PluginRef) -> Result<(), PluginError> {
    support_native(uses, cfg!(target_feature = "crt-static"))
}

fn support_native(uses: &PluginRef, is_static: bool) -> Result<(), PluginError> {
    if !is_static {
        return Ok(());
    }
    Err(PluginError::new(format!(
        "plugin `{uses}` is native, and this program is linked statically: it can't load libraries"
    ))
    .with_help("use the `stagewright` that is linked for glibc, or build the plugin as a component"))
}

fn load(name: &str, file: &Path, digest: &str) -> Result<NativeLibrary, PluginError> {
    let bad = |why: String| PluginError::new(format!("plugin `{name}`: `{}` {why}", file.display()));
    let bytes = stagewright_files::read(file, PLUGIN_BYTES).map_err(|error| bad(format!("can't be read: {error}")))?;
    let actual = sha256(&bytes);
    if actual != digest {
        return Err(bad(format!("has the digest {actual}, and the pipeline trusts {digest}"))
            .with_help(format!("if the change is intended, pin it: digest = \"{actual}\"")));
    }
    let failed = |error: std::io::Error| bad(format!("can't be copied for loading: {error}"));
    // The dynamic loader takes a path and opens the file itself, so a path to the library would load whatever is there by
    // then, not the bytes that were hashed. An anonymous file in memory can't be exchanged: it has no name in a folder that
    // a stage could write to, as a temporary file might have.
    let copy = memfd_create("stagewright-native", MemfdFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
    let mut copy = std::fs::File::from(copy);
    copy.write_all(&bytes).map_err(failed)?;
    let place = format!("/proc/self/fd/{}", copy.as_raw_fd());
    // SAFETY: loading runs the library's initialisers. The pipeline trusts exactly these bytes, by their digest.
    let library =
        unsafe { Library::new(place) }.map_err(|error| bad("can't be loaded".to_owned()).caused_by([error]))?;
    let help = "export `stagewright_native_v1` as described in include/stagewright_native.h";
    // SAFETY: the contract defines the signature of this name; another signature has another version in its name.
    let table = unsafe {
        let entry: libloading::Symbol<'_, extern "C" fn() -> *const PluginTable> = library
            .get(b"stagewright_native_v1")
            .map_err(|error| bad("is not a native plugin".to_owned()).caused_by([error]).with_help(help))?;
        entry().as_ref()
    };
    let table = table.filter(|table| table.size as usize >= size_of::<PluginTable>());
    match table.and_then(|table| Some((table.describe?, table.run?))) {
        Some((describe, run)) => Ok(NativeLibrary { describe, run, _library: library }),
        None => Err(bad("returns an incomplete table from `stagewright_native_v1`".to_owned()).with_help(help)),
    }
}

/// The state of an attempt that the library's callbacks use.
struct NativeAttempt {
    log: AttemptLog,
    cancel: Cancel,
    handle: Handle,
    outputs: Mutex<Outputs>,
    explained: Mutex<Option<(String, String)>>,
}

impl NativeAttempt {
    fn call(&self, native: &NativeLibrary, request: &AttemptRequest) -> i32 {
        let request = json!({
            "pipeline": request.pipeline, "stage": request.stage_id, "run": request.run, "attempt": request.attempt,
            "rehearsal": request.rehearsal.is_some(), "config": request.config,
            "environment": request.environment.as_ref().map(|environment| &environment.name),
            "needs": outputs_by_stage(&request.needs), "env": request.env,
        });
        let request = request.to_string();
        let table = HostTable {
            size: u32::try_from(size_of::<HostTable>()).unwrap_or(u32::MAX),
            context: std::ptr::from_ref(self).cast_mut().cast(),
            log,
            set_output,
            cancelled,
            explain,
        };
        (native.run)(&raw const table, Text::of(&request))
    }

    fn end(&self, code: i32) -> AttemptEnd {
        let explained = self.explained.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (message, help) = explained.unwrap_or_else(|| ("the plugin gave no reason".to_owned(), String::new()));
        let masker = self.log.masker();
        let (outcome, kind, message) = match code {
            0 => return AttemptEnd::Succeeded,
            3 => return AttemptEnd::Skipped(masker.text(&message)),
            _ if self.cancel.is_set() => (Outcome::Cancelled, FailureKind::Cancelled, message),
            1 => (Outcome::Failed, FailureKind::Reported, message),
            2 => (Outcome::Errored, FailureKind::Reported, message),
            other => {
                (Outcome::Errored, FailureKind::BadPlugin, format!("the plugin returned the unknown code {other}"))
            }
        };
        let help = Some(help).filter(|help| !help.is_empty()).map(|help| masker.text(&help));
        let retryable = kind == FailureKind::Reported;
        let failure = Failure { help, ..Failure::new(kind, masker.text(&message), retryable) };
        AttemptEnd::Unsuccessful(outcome, failure)
    }
}

/// # Safety
/// `context` must be the pointer that [`NativeAttempt::call`] passed in, and that call must not have returned.
unsafe fn run_of<'a>(context: *mut c_void) -> &'a NativeAttempt {
    // SAFETY: the caller's.
    unsafe { &*context.cast::<NativeAttempt>() }
}

extern "C" fn log(context: *mut c_void, level: u32, message: Text) {
    // SAFETY: both by the contract, which the library keeps.
    let (run, message) = unsafe { (run_of(context), message.read()) };
    let level = match level {
        0 | 1 => return,
        3 => LogLevel::Warn,
        4 => LogLevel::Error,
        _ => LogLevel::Info,
    };
    run.handle.block_on(run.log.text(stagewright_engine::Stream::Plugin, &render(level, &message, &[])));
}

extern "C" fn set_output(context: *mut c_void, name: Text, json: Text) -> i32 {
    // SAFETY: all by the contract, which the library keeps.
    let (run, name, json) = unsafe { (run_of(context), name.read(), json.read()) };
    let set = run.outputs.lock().unwrap_or_else(PoisonError::into_inner).set(&name, &json, run.log.masker());
    match set {
        Ok(()) => 0,
        Err(error) => {
            run.handle.block_on(run.log.engine(&error.to_string()));
            1
        }
    }
}

extern "C" fn cancelled(context: *mut c_void) -> i32 {
    // SAFETY: by the contract, which the library keeps.
    i32::from(unsafe { run_of(context) }.cancel.is_set())
}

extern "C" fn explain(context: *mut c_void, message: Text, help: Text) {
    // SAFETY: all by the contract, which the library keeps.
    let (run, message, help) = unsafe { (run_of(context), message.read(), help.read()) };
    *run.explained.lock().unwrap_or_else(PoisonError::into_inner) = Some((message, help));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_static_program_refuses_native_plugins_and_another_one_does_not() {
        let uses = PluginRef::Path("plugins/mine.so".into());
        let error = support_native(&uses, true).unwrap_err().to_string();
        assert!(error.contains("`path:plugins/mine.so` is native") && error.contains("linked statically"), "{error}");
        assert!(support_native(&uses, false).is_ok());
    }
}
