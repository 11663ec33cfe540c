//! A remote registry with the distribution API.

use stagewright_plugin_host::ErrorCode;
use stagewright_plugin_host::registry::{ImageReference, RegistryAccess};

use crate::distribution::{ACCOUNT, Distribution};
use crate::embedded::name;
use crate::image::{blobs, corrupt};
use crate::place::{Place, real, rehearsal};
use crate::refused;

fn at(distribution: &Distribution, image: &str) -> ImageReference {
    name(&format!("{}/{image}", distribution.host))
}

#[tokio::test]
async fn an_image_is_pushed_and_pulled_unchanged() {
    let (place, distribution) = (Place::new(), Distribution::open().await);
    let (registry, workspace) = (place.registry(), place.path("workspace"));
    let layout = place.layout("image");
    let digest = layout.image("built", "one");

    // The second push finds everything in place.
    for _ in 0..2 {
        let pushed = registry.push(&layout.root, &at(&distribution, "team/app:1.0"), real(&workspace)).await.unwrap();
        assert_eq!(pushed.digest, digest);
    }
    assert_eq!(distribution.digest("team/app", "1.0").await.as_deref(), Some(digest.as_str()));
    for image in ["team/app:1.0".to_owned(), format!("team/app@{digest}")] {
        let resolved = registry.resolve(&at(&distribution, &image), real(&workspace)).await.unwrap();
        assert_eq!(resolved.digest, digest, "{image}");
    }
    registry.pull(&at(&distribution, "team/app:1.0"), &place.path("pulled"), real(&workspace)).await.unwrap();
    assert_eq!(blobs(&place.path("pulled")), blobs(&layout.root));
}

#[tokio::test]
async fn images_are_copied_within_and_between_registries() {
    let (place, distribution) = (Place::new(), Distribution::open().await);
    let (registry, workspace) = (place.registry(), place.path("workspace"));
    let layout = place.layout("image");
    let digest = layout.image("built", "one");
    let (app, other) = (at(&distribution, "app:1"), at(&distribution, "other:2"));
    registry.push(&layout.root, &name("local/app:1"), real(&workspace)).await.unwrap();
    for (from, to) in [(&name("local/app:1"), &app), (&app, &other), (&other, &name("local/back:3"))] {
        assert_eq!(
            registry.copy(from, real(&workspace), to, real(&workspace)).await.unwrap().digest,
            digest,
            "{from} to {to}"
        );
    }
    assert_eq!(distribution.digest("other", "2").await.as_deref(), Some(digest.as_str()));
    assert_eq!(blobs(&place.path("embedded/back")), blobs(&layout.root));
}

#[tokio::test]
async fn an_index_is_pushed_with_every_platform() {
    let (place, distribution) = (Place::new(), Distribution::open().await);
    let (registry, workspace) = (place.registry(), place.path("workspace"));
    let layout = place.layout("image");
    let digest = layout.index("built", &["amd64", "arm64"]);
    registry.push(&layout.root, &at(&distribution, "app:1"), real(&workspace)).await.unwrap();
    assert_eq!(distribution.digest("app", "1").await.as_deref(), Some(digest.as_str()));
    registry.pull(&at(&distribution, "app:1"), &place.path("pulled"), real(&workspace)).await.unwrap();
    assert_eq!(blobs(&place.path("pulled")), blobs(&layout.root));
}

#[tokio::test]
async fn the_error_for_a_missing_image_says_what_exists() {
    let (place, distribution) = (Place::new(), Distribution::open().await);
    let (registry, workspace) = (place.registry(), place.path("workspace"));
    let layout = place.layout("image");
    layout.image("built", "one");
    for tag in ["1.0", "1.1"] {
        let reference = at(&distribution, &format!("app:{tag}"));
        registry.push(&layout.root, &reference, real(&workspace)).await.unwrap();
    }
    let unknown_tag = registry.resolve(&at(&distribution, "app:2.0"), real(&workspace)).await;
    refused(unknown_tag, &ErrorCode::NotFound, &[&distribution.host, "`2.0`", "1.0, 1.1"]);
    let unknown_repository = registry.resolve(&at(&distribution, "nothing:1.0"), real(&workspace)).await;
    refused(
        unknown_repository,
        &ErrorCode::NotFound,
        &[&distribution.host, "nothing", "the repository does not exist"],
    );
}

#[tokio::test]
async fn a_damaged_image_is_not_pushed_and_gets_no_tag() {
    let (place, distribution) = (Place::new(), Distribution::open().await);
    let (registry, workspace) = (place.registry(), place.path("workspace"));
    let layout = place.layout("image");
    let layer = layout.corrupt(&layout.image("built", "one"));
    let pushed = registry.push(&layout.root, &at(&distribution, "app:1"), real(&workspace)).await;
    refused(pushed, &ErrorCode::FailedPrecondition, &[&layer, "has the digest"]);
    assert_eq!(distribution.digest("app", "1").await, None);
}

#[tokio::test]
async fn content_that_does_not_match_its_digest_is_refused() {
    let (place, distribution) = (Place::new(), Distribution::open().await);
    let (registry, workspace) = (place.registry(), place.path("workspace"));
    let layout = place.layout("image");
    let image = layout.image("built", "one");
    let reference = at(&distribution, "app:1");
    registry.push(&layout.root, &reference, real(&workspace)).await.unwrap();

    let layer = layout.layer_of(&image);
    corrupt(&distribution.blob_path(&layer));
    let pulled = registry.pull(&reference, &place.path("pulled"), real(&workspace)).await;
    assert!(pulled.as_ref().is_err_and(|error| !error.kind.is_retryable()), "{pulled:?}");
    refused(pulled, &ErrorCode::FailedPrecondition, &["another digest than requested"]);
    assert!(!blobs(&place.path("pulled")).contains_key(layer.trim_start_matches("sha256:")));
}

#[tokio::test]
async fn missing_and_wrong_credentials_are_reported() {
    let (place, distribution) = (Place::new(), Distribution::closed().await);
    let workspace = place.path("workspace");
    let layout = place.layout("image");
    let digest = layout.image("built", "one");
    let reference = at(&distribution, "app:1");
    let host = distribution.host.as_str();

    for (login, why) in [(None, "it has none"), (Some((ACCOUNT.0, "shibboleth")), "were not accepted")] {
        let registry = place.registry_as(login);
        let pushed = registry.push(&layout.root, &reference, real(&workspace)).await;
        refused(pushed, &ErrorCode::Unauthenticated, &[host, "the test's own table", why]);
        let resolved = registry.resolve(&reference, real(&workspace)).await;
        refused(resolved, &ErrorCode::Unauthenticated, &[host, "the test's own table", why]);
    }
    let registry = place.registry_as(Some(ACCOUNT));
    assert_eq!(registry.push(&layout.root, &reference, real(&workspace)).await.unwrap().digest, digest);
    assert_eq!(registry.resolve(&reference, real(&workspace)).await.unwrap().digest, digest);
    registry.pull(&reference, &place.path("pulled"), real(&workspace)).await.unwrap();
    assert_eq!(blobs(&place.path("pulled")), blobs(&layout.root));
}

#[tokio::test]
async fn a_rehearsal_reads_no_remote_registry_and_an_anonymous_pull_sends_no_credentials() {
    let (place, distribution) = (Place::new(), Distribution::closed().await);
    let (registry, workspace) = (place.registry_as(Some(ACCOUNT)), place.path("workspace"));
    let layout = place.layout("image");
    layout.image("built", "one");
    let reference = at(&distribution, "app:1");
    registry.push(&layout.root, &reference, real(&workspace)).await.unwrap();
    let withheld = ErrorCode::Withheld;
    for result in [
        registry.resolve(&reference, rehearsal(&workspace)).await,
        registry.pull(&reference, &place.path("pulled"), rehearsal(&workspace)).await,
    ] {
        refused(result, &withheld, &["would read the image", distribution.host.as_str()]);
    }
    assert!(!place.path("pulled").exists());
    let anonymous = RegistryAccess { anonymous: true, ..real(&workspace) };
    let resolved = registry.resolve(&reference, anonymous).await;
    refused(resolved, &ErrorCode::Unauthenticated, &[&distribution.host, "a rehearsal, which uses none"]);
}

#[tokio::test]
async fn the_error_for_an_unreachable_registry_is_retryable() {
    let place = Place::new();
    let (registry, workspace) = (place.registry(), place.path("workspace"));
    let layout = place.layout("image");
    layout.image("built", "one");
    // Bound but not listening: connections are refused, and no other program can take the port.
    let taken = tokio::net::TcpSocket::new_v4().unwrap();
    taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let host = taken.local_addr().unwrap().to_string();
    let reference = name(&format!("{host}/app:1"));
    for result in [
        registry.push(&layout.root, &reference, real(&workspace)).await,
        registry.resolve(&reference, real(&workspace)).await,
    ] {
        assert!(result.as_ref().is_err_and(|error| error.kind.is_retryable()), "{result:?}");
        refused(result, &ErrorCode::Unavailable, &[&host, "refused", "check that the registry is running"]);
    }
}
