//! Decompression bombs: unpacking stops at a limit, and nothing is started.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use serde_json::json;
use tar::{Builder, EntryType, Header};

use super::server::{Server, ok};
use super::{Ended, attack, digest, pipeline, repository, run};
use crate::environment::{TestEnvironment, failure, text};

fn header(kind: EntryType, path: &str, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_path(path).expect("a short path");
    header.set_mode(0o755);
    header.set_size(size);
    header.set_cksum();
    header
}

/// A sparse file of a terabyte, in two blocks of tar.
fn hole() -> Vec<u8> {
    let mut header = header(EntryType::GNUSparse, "hole", 0);
    let gnu = header.as_gnu_mut().expect("a GNU header");
    gnu.sparse[0].set_offset(1 << 40);
    gnu.sparse[0].set_length(0);
    gnu.set_real_size(1 << 40);
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// A compressed tar with a file name of this length; it has about a thousandth of the size.
fn long_name(length: u64) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(header(EntryType::GNULongName, "././@LongLink", length).as_bytes()).expect("memory");
    let zeros = vec![0; 1 << 20];
    (0..length >> 20).for_each(|_| packed.write_all(&zeros).expect("memory"));
    packed.write_all(header(EntryType::Regular, "file", 0).as_bytes()).expect("memory");
    packed.finish().expect("memory")
}

/// A layer with a program that starts and stays up.
fn harmless() -> Vec<u8> {
    let program = std::fs::read(env!("CARGO_BIN_EXE_versioned")).expect("a program");
    let mut archive = Builder::new(Vec::new());
    archive.append(&header(EntryType::Regular, "app", program.len() as u64), &*program).expect("memory");
    archive.into_inner().expect("memory")
}

/// Writes an image with one layer as a layout in `open/image`. Returns its digest.
fn image(environment: &TestEnvironment, layer: &[u8]) -> String {
    let config = json!({ "config": { "Entrypoint": ["/app"] } }).to_string().into_bytes();
    let described = |media_type: &str, content: &[u8]| {
        let media_type = format!("application/vnd.oci.image.{media_type}");
        json!({ "mediaType": media_type, "digest": digest(content), "size": content.len() })
    };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described("config.v1+json", &config),
        "layers": [described("layer.v1.tar", layer)],
    });
    let manifest = manifest.to_string().into_bytes();
    let index = json!({ "schemaVersion": 2, "manifests": [described("manifest.v1+json", &manifest)] });
    environment.write("open/image/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    environment.write("open/image/index.json", &index.to_string());
    for blob in [&config[..], &manifest, layer] {
        let path = format!("open/image/blobs/{}", digest(blob).replace(':', "/"));
        environment.write(&path, "");
        std::fs::write(environment.root().join(path), blob).expect("a file");
    }
    digest(&manifest)
}

/// Pushes an image with this layer, and starts it as a service.
fn serve(environment: &TestEnvironment, layer: &[u8]) -> Ended {
    let digest = image(environment, layer);
    let actions = [
        r#"do = "push", layout = "open/image", reference = "local/app:1""#,
        &format!(r#"do = "serve", service = "app", image = "local/app@{digest}""#),
    ];
    let grants = "read = [\"open\"]\nregistry = [\"local/app\"]\nservice = [\"app\"]";
    let settings = "environment = \"test\"";
    let text = pipeline(&actions, settings, grants) + "[environments.test]\ntarget = \"process\"\n";
    environment.write("stagewright.toml", &text);
    run(environment)
}

#[test]
fn an_image_that_is_a_bomb_is_not_unpacked() {
    for (what, layer) in [("a hole", hole()), ("a name", long_name(64 << 20))] {
        assert!(layer.len() < 1 << 20, "{what} has {} bytes", layer.len());
        let environment = repository();
        let answers = serve(&environment, &layer).answers();
        assert_eq!(answers[1], "ErrorCode::FailedPrecondition", "{what}: {answers:?}");
        let size = super::state_size(&environment);
        assert!(size < 8 << 20, "{what} left {size} bytes");
    }
    let environment = repository();
    assert_eq!(serve(&environment, &harmless()).answers()[1], "done");
}

/// A layout may have been written by programs of the stage, so its documents can have any length.
#[test]
fn an_image_index_beyond_the_limit_is_not_read() {
    let environment = repository();
    image(&environment, &harmless());
    let index = std::fs::File::options().write(true).open(environment.root().join("open/image/index.json"));
    index.expect("a file").set_len(1 << 40).expect("a hole");
    let push = r#"do = "push", layout = "open/image", reference = "local/app:1""#;
    let answers = attack(&environment, &[push], "read = [\"open\"]\nregistry = [\"local/app\"]").answers();
    assert_eq!(answers, ["ErrorCode::Internal"]);
}

#[test]
fn an_advisory_database_that_is_a_bomb_fails_its_stage() {
    for (what, bomb) in [("a name", long_name(512 << 20)), ("zeros", zeros(512 << 20))] {
        let server = Server::start(move |_| ok("", &bomb));
        let environment = repository();
        environment.write("Cargo.lock", "version = 4\n");
        environment.write(
            "stagewright.toml",
            &format!(
                "schema = 1\n[pipeline]\nname = \"p\"\n[stages.audit]\nuses = \"audit\"\n\
                 with = {{ database = \"{0}/db.tar.gz\", yanked = \"off\" }}\n[stages.audit.permissions]\nread = [\"Cargo.lock\"]\n\
                 net = [\"{0}\"]\n",
                server.origin()
            ),
        );
        let ended = run(&environment);
        assert_eq!(ended.code, 1);
        let kind = text(&failure(&ended.events, "audit")["kind"]);
        assert!(["reported", "out-of-memory"].contains(&kind.as_str()), "{what}: {kind}");
    }
}

fn zeros(length: u64) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(header(EntryType::Regular, "zeros", length).as_bytes()).expect("memory");
    let zeros = vec![0; 1 << 20];
    (0..length >> 20).for_each(|_| packed.write_all(&zeros).expect("memory"));
    packed.finish().expect("memory")
}
