//! The images of a release's containers, by digest.

use std::collections::{BTreeMap, BTreeSet};

use kubernetes::{Object, containers, moving_images};
use rollout::Image;
use stagewright_sdk::Error;

/// Gives the containers with these names their images. Returns what is wrong then: names that no container has, and images
/// that aren't by digest.
pub(crate) fn pin(objects: &mut [Object], images: &BTreeMap<String, Image>) -> Vec<Error> {
    let mut names = BTreeSet::new();
    let mut problems = Vec::new();
    for object in objects {
        let found = containers(&object.json)
            .into_iter()
            .map(|(pointer, container)| (pointer, container["name"].as_str().unwrap_or_default().to_owned()));
        for (pointer, name) in found.collect::<Vec<_>>() {
            if let (Some(image), Some(container)) = (images.get(&name), object.json.pointer_mut(&pointer)) {
                container["image"] = image.as_str().into();
            }
            names.insert(name);
        }
        problems.extend(moving_images(object, |name| {
            format!("name it by digest, or add to the stage: with.images.{name} = \"…@sha256:…\"")
        }));
    }
    for name in images.keys().filter(|name| !names.contains(*name)) {
        let all = names.iter().cloned().collect::<Vec<_>>().join(", ");
        let message = format!("`images.{name}` is for a container that the release doesn't have");
        problems.push(Error::invalid(message).help(format!("its containers are: {all}")));
    }
    problems
}

#[cfg(test)]
mod tests {
    use kubernetes::Origin;
    use serde_json::json;

    use super::*;

    const IMAGE: &str = "local/app@sha256:1111111111111111111111111111111111111111111111111111111111111111";

    #[test]
    fn every_container_gets_an_image_by_digest() {
        let pod = json!({ "initContainers": [{ "name": "migrate", "image": "app:1" }], "containers": [
            { "name": "web", "image": "app:1" }, { "name": "proxy", "image": "envoy:v1.30" },
        ] });
        let json =
            json!({ "kind": "Deployment", "metadata": { "name": "shop" }, "spec": { "template": { "spec": pod } } });
        let mut objects = [Object { json, origin: Origin::default() }];
        let image: Image = serde_json::from_value(json!(IMAGE)).unwrap();
        let images = ["web", "migrate", "wep"].map(|name| (name.to_owned(), image.clone())).into();
        let problems = pin(&mut objects, &images);
        let containers: Vec<_> =
            containers(&objects[0].json).into_iter().map(|(_, container)| &container["image"]).collect();
        assert_eq!(containers, [IMAGE, IMAGE, "envoy:v1.30"]);
        let messages: Vec<_> = problems.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "deployment/shop: the container `proxy` has the image `envoy:v1.30`, which can change after the test",
                "`images.wep` is for a container that the release doesn't have",
            ]
        );
        assert_eq!(problems[1].help.as_deref(), Some("its containers are: migrate, proxy, web"));
    }
}
