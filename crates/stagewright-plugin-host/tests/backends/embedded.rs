//! The embedded registry, and image layouts in the workspace.

use std::path::Path;

use stagewright_plugin_host::ErrorCode;
use stagewright_plugin_host::registry::ImageReference;
use tokio::task::JoinSet;

use crate::image::{INDEX, MANIFEST, blob_path, blobs, corrupt};
use crate::place::{Place, real, rehearsal};
use crate::refused;

const UNKNOWN: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

pub(crate) fn name(text: &str) -> ImageReference {
    text.parse().unwrap()
}

#[tokio::test]
async fn an_image_is_pushed_resolved_and_pulled_unchanged() {
    let place = Place::new();
    let (registry, workspace) = (place.registry(), place.path("workspace"));
    let layout = place.layout("image");
    let digest = layout.image("built", "one");

    let pushed = registry.push(&layout.root, &name("local/team/app:1.0"), real(&workspace)).await.unwrap();
    assert_eq!((pushed.digest.as_str(), pushed.media_type.as_str()), (digest.as_str(), MANIFEST));
    for reference in ["local/team/app:1.0".to_owned(), format!("local/team/app@{digest}")] {
        assert_eq!(registry.resolve(&name(&reference), real(&workspace)).await.unwrap(), pushed, "{reference}");
    }
    let pulled = place.path("pulled");
    registry.pull(&name("local/team/app:1.0"), &pulled, real(&workspace)).await.unwrap();
    assert_eq!(blobs(&pulled), blobs(&layout.root));
}

#[tokio::test]
async fn images_are_copied_between_the_registry_and_layouts_of_the_workspace() {
    let place = Place::new();
    let (registry, workspace) = (place.registry(), place.path("workspace"));
    let layout = place.layout("image");
    let digest = layout.image("built", "one");

    for (from, to) in
        [("oci:image", "local/app:1"), ("local/app:1", "local/other:2"), ("local/other:2", "oci:out/copy:3")]
    {
        let copied = registry.copy(&name(from), real(&workspace), &name(to), real(&workspace)).await.unwrap();
        assert_eq!(copied.digest, digest, "{from} to {to}");
        assert_eq!(registry.resolve(&name(to), real(&workspace)).await.unwrap(), copied, "{to}");
    }
    assert_eq!(blobs(&workspace.join("out/copy")), blobs(&layout.root));
}

#[tokio::test]
async fn layouts_are_not_followed_out_of_the_workspace() {
    let place = Place::new();
    let (registry, workspace) = (place.registry(), place.path("workspace"));
    place.layout("image").image("built", "one");
    std::os::unix::fs::symlink(place.path(""), workspace.join("way")).unwrap();
    let out = ["outside of the workspace", "relative"];
    for (outside, said) in [
        ("oci:../elsewhere", out),
        ("oci:/tmp/elsewhere", out),
        ("oci:way/elsewhere", ["goes through the link", "the folder that it leads to"]),
    ] {
        let copied = registry.copy(&name("oci:image"), real(&workspace), &name(outside), real(&workspace)).await;
        refused(copied, &ErrorCode::PermissionDenied, &said);
    }
    assert!(!place.path("elsewhere").exists());
}

#[tokio::test]
async fn an_index_is_copied_with_every_platform() {
    let place = Place::new();
    let (registry, workspace) = (place.registry(), place.path("workspace"));
    let layout = place.layout("image");
    let digest = layout.index("built", &["amd64", "arm64"]);

    let pushed = registry.push(&layout.root, &name("local/app:1"), real(&workspace)).await.unwrap();
    assert_eq!((pushed.digest.as_str(), pushed.media_type.as_str()), (digest.as_str(), INDEX));
    assert_eq!(blobs(&place.path("embedded/app")), blobs(&layout.root));
}

#[tokio::test]
async fn moving_a_tag_keeps_the_earlier_image_by_digest() {
    let place = Place::new();
    let (registry, workspace) = (place.registry(), place.path("workspace"));
    let (one, two) = (place.layout("one"), place.layout("two"));
    let (first, second) = (one.image("built", "one"), two.image("built", "two"));
    registry.push(&one.root, &name("local/app:1"), real(&workspace)).await.unwrap();
    registry.push(&two.root, &name("local/app:1"), real(&workspace)).await.unwrap();
    assert_eq!(registry.resolve(&name("local/app:1"), real(&workspace)).await.unwrap().digest, second);
    let earlier = name(&format!("local/app@{first}"));
    assert_eq!(registry.resolve(&earlier, real(&workspace)).await.unwrap().digest, first);
}

#[tokio::test]
async fn the_tag_selects_one_of_several_images_in_a_layout() {
    let place = Place::new();
    let (registry, workspace) = (place.registry(), place.path("workspace"));
    let layout = place.layout("image");
    let (first, second) = (layout.image("1.0", "one"), layout.image("2.0", "two"));
    for (tag, digest) in [("1.0", first), ("2.0", second)] {
        let pushed = registry.push(&layout.root, &name(&format!("local/app:{tag}")), real(&workspace)).await;
        assert_eq!(pushed.unwrap().digest, digest);
    }
    let unknown = registry.push(&layout.root, &name("local/app:3.0"), real(&workspace)).await;
    refused(unknown, &ErrorCode::NotFound, &["3.0", "1.0, 2.0"]);
}

#[tokio::test]
async fn a_damaged_image_is_not_pushed_and_gets_no_tag() {
    let place = Place::new();
    let (registry, workspace) = (place.registry(), place.path("workspace"));
    type Damage = fn(&Path);
    let damages: [(&str, Damage, ErrorCode, &str); 3] = [
        ("changed", corrupt, ErrorCode::FailedPrecondition, "has the digest"),
        ("short", |file| std::fs::write(file, "").unwrap(), ErrorCode::FailedPrecondition, "fewer"),
        ("missing", |file| std::fs::remove_file(file).unwrap(), ErrorCode::NotFound, "lacks blob"),
    ];
    for (damage, spoil, code, message) in damages {
        let layout = place.layout(damage);
        let layer = layout.layer_of(&layout.image("built", damage));
        spoil(&blob_path(&layout.root, &layer));
        let reference = name(&format!("local/{damage}:1"));
        let pushed = registry.push(&layout.root, &reference, real(&workspace)).await;
        refused(pushed, &code, &[message, &layer, "build it"]);
        let resolved = registry.resolve(&reference, real(&workspace)).await;
        refused(resolved, &ErrorCode::NotFound, &[]);
    }
}

/// The targets of the links have the right digests, but nothing outside of the layout may be opened.
#[tokio::test]
async fn blobs_and_manifests_that_are_links_are_not_read() {
    let place = Place::new();
    let (registry, workspace) = (place.registry(), place.path("workspace"));
    for (part, code, message) in
        [("layer", ErrorCode::NotFound, "lacks blob"), ("manifest", ErrorCode::Internal, "can't be read")]
    {
        let layout = place.layout(part);
        let image = layout.image("built", part);
        let digest = if part == "layer" { layout.layer_of(&image) } else { image };
        let (blob, outside) = (blob_path(&layout.root, &digest), place.path(&format!("moved-{part}")));
        std::fs::rename(&blob, &outside).unwrap();
        std::os::unix::fs::symlink(&outside, &blob).unwrap();
        let pushed = registry.push(&layout.root, &name("local/app:1"), real(&workspace)).await;
        refused(pushed, &code, &[message]);
    }
}

#[tokio::test]
async fn a_manifest_that_is_too_large_is_not_read() {
    let place = Place::new();
    let (registry, workspace) = (place.registry(), place.path("workspace"));
    let layout = place.layout("image");
    let image = layout.image("built", "one");
    std::fs::File::create(blob_path(&layout.root, &image)).unwrap().set_len((4 << 20) + 1).unwrap();
    let pushed = registry.push(&layout.root, &name("local/app:1"), real(&workspace)).await;
    refused(pushed, &ErrorCode::Internal, &["can't be read"]);
}

#[tokio::test]
async fn damaged_content_of_the_registry_is_not_returned() {
    let place = Place::new();
    let (registry, workspace) = (place.registry(), place.path("workspace"));
    let layout = place.layout("image");
    let image = layout.image("built", "one");
    let (reference, embedded) = (name("local/app:1"), place.path("embedded/app"));
    registry.push(&layout.root, &reference, real(&workspace)).await.unwrap();

    corrupt(&blob_path(&embedded, &layout.layer_of(&image)));
    let pulled = registry.pull(&reference, &place.path("pulled"), real(&workspace)).await;
    refused(pulled, &ErrorCode::FailedPrecondition, &["has the digest", "push it again"]);
    corrupt(&blob_path(&embedded, &image));
    let resolved = registry.resolve(&reference, real(&workspace)).await;
    refused(resolved, &ErrorCode::FailedPrecondition, &[&image, "has the digest"]);
}

#[tokio::test]
async fn the_error_for_a_missing_image_says_what_exists() {
    let place = Place::new();
    let (registry, workspace) = (place.registry(), place.path("workspace"));
    let layout = place.layout("image");
    layout.image("built", "one");
    for tag in ["1.0", "1.1"] {
        registry.push(&layout.root, &name(&format!("local/app:{tag}")), real(&workspace)).await.unwrap();
    }
    let cases = [
        ("local/app:2.0", ["local/app", "`2.0`", "1.0, 1.1"]),
        ("local/nothing:1.0", ["local/nothing", "does not exist", "correct the name"]),
        ("oci:nowhere", ["nowhere", "does not exist", "build"]),
        (&format!("local/app@{UNKNOWN}"), ["local/app", UNKNOWN, "correct the digest"]),
    ];
    for (reference, mentions) in cases {
        refused(registry.resolve(&name(reference), real(&workspace)).await, &ErrorCode::NotFound, &mentions);
    }
}

#[tokio::test]
async fn a_push_under_another_digest_is_refused() {
    let place = Place::new();
    let (registry, workspace) = (place.registry(), place.path("workspace"));
    let layout = place.layout("image");
    let digest = layout.image("built", "one");
    let pushed = registry.push(&layout.root, &name(&format!("local/app:1@{UNKNOWN}")), real(&workspace)).await;
    refused(pushed, &ErrorCode::InvalidArgument, &[UNKNOWN, &digest, "omit the digest"]);
    assert!(!place.path("embedded").exists());
    let pinned = name(&format!("local/app:1@{digest}"));
    assert_eq!(registry.push(&layout.root, &pinned, real(&workspace)).await.unwrap().digest, digest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_pushes_all_succeed() {
    let place = Place::new();
    let mut pushes = JoinSet::new();
    for number in 0..12 {
        // Each push has a registry object of its own, like separate engines.
        let (registry, workspace) = (place.registry(), place.path("workspace"));
        let layout = place.layout(&format!("image-{number}"));
        layout.image("built", &format!("content {number}"));
        pushes.spawn(async move {
            let reference = name(&format!("local/app:{number}"));
            let pushed = registry.push(&layout.root, &reference, real(&workspace)).await.unwrap();
            (reference, pushed)
        });
    }
    let (registry, workspace) = (place.registry(), place.path("workspace"));
    let all = pushes.join_all().await;
    for (reference, pushed) in all {
        assert_eq!(registry.resolve(&reference, real(&workspace)).await.unwrap(), pushed, "{reference}");
    }
}

#[tokio::test]
async fn a_rehearsal_only_writes_to_its_own_root() {
    let place = Place::new();
    let (registry, workspace) = (place.registry(), place.path("workspace"));
    let layout = place.layout("image");
    let digest = layout.image("built", "one");
    // No registry listens at this port; a rehearsal doesn't connect to any.
    for reference in ["local/app:1", "127.0.0.1:1/acme/app:1"] {
        let reference = name(reference);
        let pushed = registry.push(&layout.root, &reference, rehearsal(&workspace)).await.unwrap();
        assert_eq!(registry.resolve(&reference, rehearsal(&workspace)).await.unwrap(), pushed);
        assert_eq!(pushed.digest, digest);
        assert!(registry.resolve(&reference, real(&workspace)).await.is_err(), "{reference} is real");
    }
    assert!(!place.path("embedded").exists());
}

#[tokio::test]
async fn a_rehearsal_reads_real_images_until_it_has_pushed_its_own() {
    let place = Place::new();
    let (registry, workspace) = (place.registry(), place.path("workspace"));
    let (one, two) = (place.layout("one"), place.layout("two"));
    let (first, second) = (one.image("built", "one"), two.image("built", "two"));
    let reference = name("local/app:1");
    registry.push(&one.root, &reference, real(&workspace)).await.unwrap();
    assert_eq!(registry.resolve(&reference, rehearsal(&workspace)).await.unwrap().digest, first);
    registry.push(&two.root, &reference, rehearsal(&workspace)).await.unwrap();
    assert_eq!(registry.resolve(&reference, rehearsal(&workspace)).await.unwrap().digest, second);
    assert_eq!(registry.resolve(&reference, real(&workspace)).await.unwrap().digest, first);
}
