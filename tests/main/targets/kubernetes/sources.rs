//! Where the objects of a release come from, and its secrets.

use super::{CONFIGURATION, DEPLOYMENT, MANIFESTS, Namespace, SERVICE, variable};
use crate::targets::aws::program;

#[test]
#[ignore = "needs a cluster"]
fn images_of_a_workload_change_that_others_have_created() {
    let shop = Namespace::with("workload = \"deployment/shop\"\nreadiness = { deadline = \"40s\" }");
    let missing = shop.deploy("1", &[], 1).stdout;
    assert!(missing.contains("there is no deployment/shop in the namespace"), "{missing}");
    shop.manifests(&[CONFIGURATION, &DEPLOYMENT.replace("image: web", "image: missing"), SERVICE]);
    let manifests = shop.repository.root().join("k8s").display().to_string();
    shop.kubectl(&["apply", "--filename", &manifests]);

    // The first release fails, and the image of before is back.
    let failed = shop.deploy("1", &["exit=1"], 1).stdout;
    assert!(failed.contains("release shop-2 was removed, and no release serves"), "{failed}");
    assert_eq!(shop.field("deployment/shop", ".spec.template.spec.containers[0].image"), "missing");
    shop.deploy("2", &[], 0);
    assert_eq!(shop.serves(), "version 2");
    assert_eq!(shop.field("deployment/shop", ".spec.replicas"), "2");
    shop.deploy("3", &[], 0);
    shop.repository.run(&["rollback", "production"]).exits(0);
    assert_eq!(shop.serves(), "version 2");
}

/// A release that only changes images deletes nothing that an earlier one has created.
#[test]
#[ignore = "needs a cluster"]
fn a_change_of_images_leaves_the_objects_of_an_earlier_release() {
    let shop = Namespace::with_shop("");
    shop.deploy("1", &[], 0);
    let text = shop.repository.read("stagewright.toml");
    shop.repository.write("stagewright.toml", &text.replace(MANIFESTS, "workload = \"deployment/shop\""));
    shop.deploy("2", &[], 0);
    assert_eq!(shop.serves(), "version 2");
    assert_eq!(shop.objects("service"), ["service/shop"]);
}

/// The value is in the cluster, and neither in the repository nor in anything that is shown.
#[test]
#[ignore = "needs a cluster"]
fn secrets_belong_to_the_release_and_are_written_by_the_host() {
    let mut shop = Namespace::with_shop("");
    let server = variable("KUBE_API").replace("https://", "");
    let text = shop.repository.read("stagewright.toml");
    let secret = format!("[secrets.token]\nfrom = \"env:SHOP_TOKEN\"\nhosts = [\"{server}\"]\n[credentials.cluster]");
    let with_secret = format!("{MANIFESTS}\nsecrets = {{ shop = {{ TOKEN = \"token\" }} }}");
    let text = text.replace("[credentials.cluster]", &secret).replace(MANIFESTS, &with_secret);
    shop.repository.write("stagewright.toml", &text);
    let reading = DEPLOYMENT.replace("envFrom: [", "envFrom: [{ secretRef: { name: shop } }, ");
    shop.manifests(&[CONFIGURATION, &reading, SERVICE]);
    shop.repository.run(&["grant", "--yes"]).exits(0);
    shop.repository.set("SHOP_TOKEN", "correct \"horse\" battery");
    let ended = shop.deploy("1", &[], 0);
    assert!(!ended.stdout.contains("battery"), "{}", ended.stdout);
    let name = shop.field("deployment/shop", ".spec.template.spec.containers[0].envFrom[0].secretRef.name");
    assert_eq!(name, "shop-1");
    // "correct \"horse\" battery"
    assert_eq!(shop.field("secret/shop-1", ".data.TOKEN"), "Y29ycmVjdCAiaG9yc2UiIGJhdHRlcnk=");
    assert!(!shop.kubectl(&["get", "configmap", "--output", "json"]).contains("battery"));

    shop.repository.set("SHOP_TOKEN", "another battery");
    shop.deploy("2", &[], 0);
    assert_eq!(shop.field("secret/shop-2", ".data.TOKEN"), "YW5vdGhlciBiYXR0ZXJ5");
    assert!(!shop.objects("secret").contains(&"secret/shop-1".to_owned()), "{:?}", shop.objects("secret"));
}

#[test]
#[ignore = "needs a cluster"]
fn kustomizations_are_rendered_by_kubectl() {
    let mut shop = Namespace::with("kustomize = \"k8s/production\"");
    shop.repository.write("k8s/base/shop.yaml", &[CONFIGURATION, DEPLOYMENT, SERVICE].join("---"));
    shop.repository.write("k8s/base/kustomization.yaml", "resources: [shop.yaml]\n");
    let overlay = "bases: [../base]\npatchesStrategicMerge: [replicas.yaml]\n";
    let replicas = "apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: shop }\nspec: { replicas: 1 }\n";
    shop.repository.write("k8s/production/replicas.yaml", replicas);
    shop.repository.write("k8s/production/kustomization.yaml", overlay);
    let folder = std::path::PathBuf::from(variable("KUBECTL")).parent().expect("a folder").display().to_string();
    shop.repository.set("PATH", &format!("{folder}:{}", std::env::var("PATH").expect("PATH")));
    let denied = shop.deploy("1", &[], 1).stdout;
    assert!(denied.contains("k8s/base"), "the base isn't granted: {denied}");
    let text = shop.repository.read("stagewright.toml");
    shop.repository.write("stagewright.toml", &text.replace("k8s/production/**", "k8s/**"));
    shop.deploy("1", &[], 0);
    assert_eq!(
        (shop.serves(), shop.field("deployment/shop", ".spec.replicas")),
        ("version 1".to_owned(), "1".to_owned())
    );
}

#[test]
#[ignore = "needs a cluster"]
fn charts_are_rendered_by_helm() {
    let helm = "helm = { chart = \"chart\", values = [\"production.yaml\"], set = { \"colour\" = \"red\" } }";
    let mut shop = Namespace::with(helm);
    let programs = std::path::PathBuf::from(program("helm")).parent().expect("a folder").display().to_string();
    shop.repository.set("PATH", &format!("{programs}:{}", std::env::var("PATH").expect("PATH")));
    shop.repository.write("chart/Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.0.0\n");
    shop.repository.write("chart/values.yaml", "replicas: 2\ncolour: green\n");
    let template = |text: &str| {
        text.replace("replicas: 2", "replicas: {{ .Values.replicas }}").replace("green", "{{ .Values.colour }}")
    };
    shop.repository.write("chart/templates/shop.yaml", &template(&[CONFIGURATION, DEPLOYMENT, SERVICE].join("---")));
    shop.repository.write("production.yaml", "replicas: 1\n");
    shop.deploy("1", &[], 0);
    assert_eq!(
        (shop.serves(), shop.field("deployment/shop", ".spec.replicas")),
        ("version 1".to_owned(), "1".to_owned())
    );
    let map = shop.field("deployment/shop", ".spec.template.spec.containers[0].envFrom[0].configMapRef.name");
    assert_eq!(shop.field(&format!("configmap/{map}"), ".data.COLOUR"), "red");

    let hook = "apiVersion: v1\nkind: Pod\nmetadata: { name: check, annotations: { \"helm.sh/hook\": test } }\n\
                spec: { containers: [{ name: web, image: web }] }\n";
    shop.repository.write("chart/templates/tests/check.yaml", hook);
    let refused = shop.deploy("2", &[], 1).stdout;
    assert!(refused.contains("pod/check: it is a hook, which only an installation by Helm runs"), "{refused}");
    let lookup = "{{- $map := lookup \"v1\" \"ConfigMap\" \"default\" \"x\" }}\n";
    shop.repository.write("chart/templates/tests/check.yaml", lookup);
    let refused = shop.deploy("2", &[], 1).stdout;
    assert!(refused.contains("the chart reads the cluster with `lookup`"), "{refused}");
    assert!(refused.contains("at chart/templates/tests/check.yaml:1"), "{refused}");
}
