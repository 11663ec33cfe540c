use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::registry::{CredentialSource, RegistryConfig};
use crate::testing::Backends;

fn resolver(folder: &Path) -> PluginResolver {
    let folders = vec![folder.join("none"), folder.join("builtin")];
    PluginResolver::new(BuiltinPlugins { folders, ..BuiltinPlugins::default() }, folder.join("pulled"))
}

/// Resolves `uses` for the workspace in `folder`.
async fn component(resolver: &PluginResolver, folder: &Path, uses: PluginRef) -> Result<ComponentOrigin, PluginError> {
    let (workspace, registry) = (folder.join("workspace"), Backends::new(folder).registry);
    let source = PluginSource { workspace: &workspace, registry: &registry, pulls: Pulls::default() };
    resolver.component(&uses, source).await
}

fn put(folder: &Path, path: &str) -> PathBuf {
    let file = folder.join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, path).unwrap();
    file
}

#[tokio::test]
async fn each_kind_of_reference_is_found_in_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let resolver = resolver(folder);
    let builtin = put(folder, "builtin/noop.wasm");
    let own = put(folder, "workspace/plugins/mine/plugin.wasm");
    let file = put(folder, "workspace/other.wasm");
    let found = |file| Ok(ComponentOrigin::File(file));
    assert_eq!(component(&resolver, folder, PluginRef::Builtin("noop".into())).await, found(builtin));
    assert_eq!(component(&resolver, folder, PluginRef::Path("plugins/mine".into())).await, found(own));
    assert_eq!(component(&resolver, folder, PluginRef::Path("other.wasm".into())).await, found(file));
}

#[tokio::test]
async fn the_error_for_a_missing_plugin_says_what_exists() {
    let folder = tempfile::tempdir().unwrap();
    let resolver = resolver(folder.path());
    put(folder.path(), "builtin/noop.wasm");
    let error = component(&resolver, folder.path(), PluginRef::Builtin("nop".into())).await.unwrap_err();
    assert!(error.help.unwrap().contains("built-in plugins: noop"));
    let error = component(&resolver, folder.path(), PluginRef::Path("mine".into())).await.unwrap_err();
    assert!(error.help.unwrap().contains("stagewright plugin build mine"));
    let error = component(&resolver, folder.path(), PluginRef::Oci("local/plugin:1".into())).await.unwrap_err();
    assert!(error.message.contains("not pinned"), "{error}");
}

#[test]
fn a_changed_file_is_hashed_again() {
    let folder = tempfile::tempdir().unwrap();
    let resolver = resolver(folder.path());
    let file = put(folder.path(), "a");
    let component = ComponentOrigin::File(file.clone());
    assert_eq!(resolver.digest(&component).unwrap(), sha256(b"a"));
    fs::write(&file, "longer").unwrap();
    assert_eq!(resolver.digest(&component).unwrap(), sha256(b"longer"));
}

#[test]
fn a_plugin_image_has_one_layer_of_wasm() {
    let layout = tempfile::tempdir().unwrap();
    let manifest = |text: &str| {
        put(layout.path(), "blobs/sha256/m");
        fs::write(layout.path().join("blobs/sha256/m"), text).unwrap();
        image::component(layout.path(), "sha256:m")
    };
    let good = r#"{"layers":[{"mediaType":"application/wasm","digest":"sha256:c"}]}"#;
    assert_eq!(manifest(good), Ok(layout.path().join("blobs/sha256/c")));
    assert!(manifest(r#"{"layers":[{"mediaType":"application/gzip","digest":"sha256:c"}]}"#).is_err());
    assert!(manifest(r#"{"layers":[]}"#).is_err() && manifest("x").is_err());
}

/// A file's name isn't trusted: anyone who can write to the folder can give it to another file.
#[test]
fn a_stored_component_is_recognised_by_its_content_alone() {
    let folder = tempfile::tempdir().unwrap();
    let blob = |bytes: &[u8]| {
        let digest = sha256(bytes);
        let file = folder.path().join("layout/blobs").join(digest.replacen(':', "/", 1));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, bytes).unwrap();
        digest
    };
    let layer = blob(b"component");
    let text = format!(r#"{{"layers":[{{"mediaType":"application/wasm","digest":"{layer}"}}]}}"#);
    let manifest = blob(text.as_bytes());
    let kept = folder.path().join("sha256-m");
    image::keep(&folder.path().join("layout"), &manifest, &kept).unwrap();
    let file = folder.path().join("sha256-m.wasm");
    assert_eq!(image::kept(&kept, &manifest), Some(file.clone()));
    assert_eq!(image::kept(&kept, &sha256(b"another image")), None);
    fs::write(&file, "exchanged").unwrap();
    assert_eq!(image::kept(&kept, &manifest), None);
    let changed = text.replace(&layer, &sha256(b"exchanged"));
    fs::write(folder.path().join("sha256-m.json"), changed).unwrap();
    assert_eq!(image::kept(&kept, &manifest), None, "the manifest's digest is checked too");
}

/// Has credentials for every registry, and counts the requests for them.
#[derive(Default)]
struct Counting(AtomicUsize);

impl CredentialSource for Counting {
    fn credentials(&self, _: &str) -> Option<(String, String)> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Some(("ada".to_owned(), "hunter2".to_owned()))
    }

    fn origin(&self) -> String {
        "the test".to_owned()
    }
}

#[tokio::test]
async fn a_rehearsal_pulls_without_credentials_and_offline_nothing_is_pulled() {
    let folder = tempfile::tempdir().unwrap();
    // No registry listens at this port.
    let uses = PluginRef::Oci(format!("127.0.0.1:1/plugin@sha256:{}", "0".repeat(64)));
    for (pulls, requests) in [(Pulls::WithCredentials, 1), (Pulls::Anonymous, 0), (Pulls::Never, 0)] {
        let credentials = Arc::new(Counting::default());
        let [embedded_root, rehearsal_root] = ["registry", "rehearsal"].map(|name| folder.path().join(name));
        let registry =
            Registry::new(RegistryConfig { embedded_root, rehearsal_root, credentials: credentials.clone() });
        let source = PluginSource { workspace: folder.path(), registry: &registry, pulls };
        let error = resolver(folder.path()).component(&uses, source).await.unwrap_err();
        assert_eq!(credentials.0.load(Ordering::Relaxed), requests, "{pulls:?}");
        assert_eq!(error.message.contains("`--offline` prevents pulling"), pulls == Pulls::Never, "{error}");
    }
}
